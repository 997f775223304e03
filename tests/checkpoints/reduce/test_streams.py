"""Parts of a stream come back bit by bit, wherever they lie, and no more than asked of them are in memory."""

import errno
import io

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ctrlattn import checkpoints
from ctrlattn.checkpoints.reduce import streams as module
from ctrlattn.checkpoints.reduce.streams import Streams

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def in_file(parts):
    return [isinstance(part, module._FilePlace) for part in parts._parts]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.sampled_from(TYPES), st.integers(0, 300), st.randoms())
def test_parts_come_back_bit_by_bit_and_in_their_places(lengths, dtype, largest, draw):
    torch.manual_seed(len(lengths))
    given_parts = [torch.randn(2, n, 3).to(dtype).transpose(0, 1) for n in lengths]  # not contiguous
    parts = Streams(given_parts, largest=largest)
    for i in draw.sample(range(len(lengths)), len(lengths) // 2):
        given_parts[i] = torch.randn(lengths[i], 2, 3).to(dtype)
        parts.replace(i, given_parts[i])
    assert len(parts) == len(lengths)
    for wanted in (list(parts), parts[:], [parts[i] for i in range(len(parts))]):
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(wanted, given_parts, strict=True))
    held = [part for part in parts._parts if isinstance(part, torch.Tensor)]
    assert sum(part.numel() * part.element_size() for part in held) <= largest


def test_a_part_of_another_size_is_no_replacement():
    with pytest.raises(ValueError, match=r"\(2, 3\) is replaced by one of \(3, 3\)"):
        Streams([torch.zeros(2, 3)], largest=0).replace(0, torch.zeros(3, 3))


def test_a_file_that_is_full_is_an_error_of_the_system(monkeypatch):
    class Full(io.BytesIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left") as told:
        Streams([torch.zeros(2, 3)], largest=0)
    assert told.value.errno == errno.ENOSPC


@pytest.mark.parametrize("memory", [False, True])
def test_gains_that_are_fitted_through_a_file_are_those_fitted_in_memory(network, text, memory, monkeypatch):
    """The stream of a text of a million tokens was held five times: as it is, as it was, and as three signals."""
    monkeypatch.setattr("ctrlattn.checkpoints.network.inputs.TOKENS", 16)
    calibration, networks, seen = checkpoints.Calibration(text(6), memory=memory), [], []
    append = Streams.append

    def noted(self, part):
        append(self, part)
        seen.append(in_file(self))

    monkeypatch.setattr(Streams, "append", noted)
    for largest in (module.LARGEST, 0):
        monkeypatch.setattr(module, "LARGEST", largest)
        networks.append(checkpoints.drop(network("llama"), attention=[1, 2], compensate=calibration))
        assert any(map(any, seen)) == (largest == 0)
    for a, b in zip(*(each.model.parameters() for each in networks), strict=True):
        assert torch.equal(a, b)
