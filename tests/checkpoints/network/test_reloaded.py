"""What was written is loaded again and compared; a difference is refused, and the directory does not load."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from ctrlattn.checkpoints import Calibration, drop, load, save
from ctrlattn.checkpoints.network.reloaded import SHARE, bytes_of, reloaded


@pytest.mark.slow
@pytest.mark.parametrize(
    ("causal", "gains", "double"),
    [
        ("llama", None, True),
        ("llama", "memory", True),
        ("gpt2", "static", False),
        ("neox", "memory", True),
        ("gemma3", None, True),
        ("gemma3", "static", False),
    ],
)
def test_what_was_written_gives_the_same_logits(network, text, causal, gains, double, tmp_path):
    whole = network(causal, double=double)
    fit = None if gains is None else Calibration(text(), memory=gains == "memory")
    smaller = drop(whole, attention=[0, 2], compensate=fit)
    save(smaller, tmp_path / "m")
    saved = reloaded(smaller, tmp_path / "m", text(1)[0], before=whole)
    # Gemma computes the scale of its embeddings, a buffer, in the dtype that it is made in: here in float32.
    assert saved.difference <= (0.1 * saved.tolerance if double and causal == "gemma3" else 0)
    assert saved.bytes_before == sum(p.numel() * p.element_size() for p in whole.model.parameters())
    (weights,) = (tmp_path / "m").glob("*.safetensors")
    assert saved.bytes_after == weights.stat().st_size
    with torch.no_grad():
        largest = smaller.model(torch.as_tensor(text(1))).logits.abs().max()
    assert saved.tolerance == pytest.approx(SHARE * float(largest), rel=1e-3)


def test_a_network_that_is_not_what_was_measured_is_refused_and_does_not_load(network, text, tmp_path):
    smaller = drop(network(double=False), attention=[1], compensate=text())
    save(smaller, tmp_path / "m")
    path = tmp_path / "m" / "ctrlattn.safetensors"
    weights = load_file(path)
    weights["model.layers.1.self_attn.out.bias"] += 0.01
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ArithmeticError, match="gives other logits when it is loaded again: they differ by"):
        reloaded(smaller, tmp_path / "m", text(1)[0])
    assert not (tmp_path / "m" / "config.json").exists()
    with pytest.raises(ValueError):
        load(tmp_path / "m")


def test_the_size_of_a_source_is_that_of_its_files(network, tmp_path):
    save(network(double=False), tmp_path / "m")
    assert bytes_of(load(tmp_path / "m")) == (tmp_path / "m" / "model.safetensors").stat().st_size
