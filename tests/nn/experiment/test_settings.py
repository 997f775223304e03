"""Settings of a run: what is refused before torch is imported is what the network itself would refuse."""

import pytest

torch = pytest.importorskip("torch")

from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.nn.experiment.data import Data, Examples  # noqa: E402
from ctrlattn.nn.experiment.settings import SHAPES, require_data, require_fit, settings_of  # noqa: E402
from ctrlattn.nn.experiment.training import build  # noqa: E402


def refused(judge):
    try:
        judge()
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", ["digits", "mnist5k", "text"])
def test_what_is_refused_is_what_the_network_refuses(name):
    channels, side = SHAPES.get(name, (0, 0))
    seen = set()
    for change in (
        *({"dim": dim} for dim in (3, 4, 6, 7, 32, 48)),
        *({"patch": patch} for patch in (1, 2, 3, 4, 5, 7, 28)),
        *({"norm": norm} for norm in ("layer", "rms", "none", "leyer")),
        *({"heads": heads} for heads in (1, 2, 5)),
        *({"dtype": dtype} for dtype in ("float64", "float16", "bfloat16")),
        {"depth": 1},
    ):
        settings = settings_of(name, {"depth": 1, **change}, "softmax")
        with torch.device("meta"):
            shape = (1, 2) if name == "text" else (1, channels, side, side)
            kind = torch.long if name == "text" else torch.float32
            part = Examples(torch.zeros(*shape, dtype=kind), torch.zeros(1, dtype=torch.long))
            told = refused(lambda settings=settings, part=part: build(settings, Data(name, 2, part, part, part)))
        assert refused(lambda settings=settings: require_fit(name, settings)) == told, change
        seen.add(told is None)
    assert seen == {True, False}


def test_a_directory_of_images_has_the_side_that_its_settings_say(tmp_path):
    require_fit(str(tmp_path), settings_of(str(tmp_path), {}))
    with pytest.raises(InputError, match="image must be a multiple of patch: 30 and 16 pixels"):
        require_fit(str(tmp_path), settings_of(str(tmp_path), {"image": 30}))


@pytest.mark.parametrize("change", [{"dim": 3_000_000}, {"depth": 10**9}])
def test_what_does_not_fit_into_memory_is_refused(change):
    with pytest.raises(InputError, match="does not fit into memory"):
        require_fit("digits", settings_of("digits", change))


def test_float64_takes_twice_the_memory(monkeypatch):
    asked = []
    monkeypatch.setattr("ctrlattn.nn.experiment.settings.require_memory", lambda size, what: asked.append(size))
    for dtype in ("float32", "float64"):
        require_fit("digits", settings_of("digits", {"dtype": dtype}))
    assert asked == [16 * 8 * 8 * 48**2, 32 * 8 * 8 * 48**2]


def test_data_have_a_name_or_a_directory(tmp_path):
    for data in ("digits", "mnist5k", "text", str(tmp_path)):
        require_data(data)
    with pytest.raises(InputError, match="unknown data 'zebra': known are digits, mnist5k, text, and a directory"):
        require_data("zebra")
