"""Texts whose recording would not fit are refused before much of them is read."""

from types import SimpleNamespace

import pytest

from ctrlattn import InputError
from ctrlattn.cli import terminal


@pytest.mark.parametrize(
    ("positions", "memory", "most", "reason"),
    [
        (16, None, 16, "the network has positions for 16"),
        (16, 4 * 2 * 9**2, 9, "the memory has room for the matrices of attention of 9"),
        (None, 4 * 2 * 30**2, 30, "the memory has room for the matrices of attention of 30"),
    ],
)
def test_a_file_that_is_too_long_to_be_recorded_at_once_is_refused(
    monkeypatch, tmp_path, positions, memory, most, reason
):
    """All layers hold a matrix of 4 n^2 bytes; no more tokens are asked for than could be recorded, and one."""
    asked = []

    def token_ids(description, text, *, special=True, most=None):
        count = len(text.read_text().split())
        asked.append(most)
        return list(range(count if most is None else min(count, most)))

    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: memory)
    monkeypatch.setattr("ctrlattn.checkpoints.network.text.token_ids", token_ids)
    description = SimpleNamespace(layers=2, positions=positions, require_positions=lambda n: asked.append(("n", n)))
    text = tmp_path / "a.txt"
    text.write_text("w " * (most + 1))
    with pytest.raises(InputError, match=f"a.txt: more than {most} tokens, which are recorded at once: {reason}"):
        terminal._require_at_once(description, text)
    assert asked == [most + 1]
    text.write_text("w " * most)
    terminal._require_at_once(description, text)
    assert asked[1:] == [most + 1, None, ("n", most)]


def test_an_argument_is_a_text_or_the_file_that_it_names(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text(" some words \n")
    assert terminal.long_text_of(str(text)) == text
    assert terminal.long_text_of("some words") == "some words"
    assert terminal.long_text_of("/ divides some words") == "/ divides some words"
    for absent in ("/nope", "./nope", "~nope", "nope.txt"):
        with pytest.raises(InputError, match="no such file"):
            terminal.long_text_of(absent)
    text.write_text(" \n")
    with pytest.raises(InputError, match=r"a\.txt"):
        terminal.long_text_of(str(text))
