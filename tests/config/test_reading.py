"""TOML -> Configuration, from text and from files."""

import pytest

from ctrlattn import InputError, config, presets, rms_norm


def test_preset_with_overrides_and_simulation():
    read = config.loads(
        '[loop]\npreset = "pidformer-ema"\nskip = 0.5\ncontroller = {kind = "pid", kp = 1}\nnormalizer = "rms_norm"\n'
        "[simulation]\nlayers = 3\nseed = 7"
    )
    assert (read.loop.skip, read.loop.controller.kp, read.loop.normalizer) == (0.5, 1.0, rms_norm)
    assert read.loop.reference_gain == 0.1
    assert vars(read.simulation) == {"layers": 3, "tokens": 12, "features": 16, "seed": 7}
    assert config.loads('[loop]\npreset = "neutreno"\ncontroller = "none"').loop.controller is None


def test_files(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(config.dumps(presets.get("softmax")))
    assert config.load(path).loop.skip == 0.0
    path.write_text("[loop]\nx = 1\ny = 2")
    with pytest.raises(InputError, match="unknown key") as caught:
        config.load(path)
    assert all(line.startswith(str(path)) for line in str(caught.value).splitlines())
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"a\.toml: not a text in UTF-8: invalid start byte at byte 0"):
        config.load(path)
    with pytest.raises(InputError, match="is a folder: give the file itself"):
        config.load(tmp_path)
