"""text -> before + body + behind, before + body + behind, ...: token ids of a text of any length, window by window.

`before` and `behind` are the special tokens that the tokenizer puts around a text. A network that was trained with BOS
in front of every text reads a window without it badly, so that every window gets them and not the first alone.
"""

import re
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ctrlattn.errors import InputError
from ctrlattn.files import utf8

if TYPE_CHECKING:
    from ctrlattn.checkpoints.network.checkpoint import Checkpoint
    from ctrlattn.checkpoints.network.describe import Description

_CHUNK = 1 << 16  # characters that are in memory at once
_CONTEXT = 256  # characters around a cut on which its tokens may depend
_CANDIDATES = 24  # places of each kind that are tried for a cut


class Frame(NamedTuple):
    """Special tokens that stand before and behind the text of a window."""

    before: tuple[int, ...]
    behind: tuple[int, ...]

    def around(self, body: Iterable[int]) -> np.ndarray:
        """Return a window of this body.

        >>> Frame((1,), ()).around([7, 8]).tolist()
        [1, 7, 8]
        """
        return np.concatenate([np.asarray(part, dtype=np.int64) for part in (self.before, body, self.behind)])

    def without(self, text: Any) -> Any:
        """Return the token ids of a text, without those of its special tokens that stand in front of it.

        >>> Frame((1,), ()).without([1, 7, 8]), Frame((1,), ()).without([7, 8])
        ([7, 8], [7, 8])
        """
        length = len(self.before)
        return text[length:] if tuple(text[:length]) == self.before else text

    def body(self, window: Any) -> Any:
        """Return a window, or several (windows, length), without these tokens.

        >>> Frame((1,), (2,)).body(np.array([[1, 7, 8, 2]])).tolist()
        [[7, 8]]
        """
        return window[..., len(self.before) : window.shape[-1] - len(self.behind)]

    def room(self, length: int) -> int:
        """Return the number of tokens of text in a window of this length.

        Raises
        ------
        InputError
            There is no room for one.
        """
        room = length - len(self.before) - len(self.behind)
        if room < 1:
            count = len(self.before) + len(self.behind)
            raise InputError(
                f"a window of {length} tokens has no room for text beside the special tokens, which are {count}: "
                f"{count + 1} tokens are the least"
            )
        return room


def frame_of(checkpoint: "Checkpoint | Description") -> Frame:
    """Return the special tokens that the tokenizer puts around each window of a text; none without a tokenizer.

    In a causal network the tokens behind a text (EOS) are left out, since a window ends in the middle of a text.

    Raises
    ------
    InputError
        The tokenizer changes a text when it adds special tokens.
    """
    if checkpoint.tokenizer is None:
        return Frame((), ())
    frame = _whole_frame(checkpoint)
    return frame._replace(behind=()) if checkpoint.causal else frame


def _whole_frame(checkpoint: "Checkpoint | Description") -> Frame:
    """Return all special tokens that the tokenizer puts around a text, EOS of a causal network included."""
    bare, full = token_ids(checkpoint, "a", special=False), token_ids(checkpoint, "a")
    start = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), None)
    if start is None:
        raise InputError(
            f"{checkpoint.source}: the tokenizer changes a text when it adds special tokens; windows of a text need a "
            "tokenizer that only adds tokens before and behind a text"
        )
    return Frame(tuple(full[:start]), tuple(full[start + len(bare) :]))


def token_ids(
    checkpoint: "Checkpoint | Description", text: str | Path, *, special: bool = True, most: int | None = None
) -> list[int]:
    """Return the token ids of a text: the one place where the checkpoint's tokenizer is called.

    Parameters
    ----------
    checkpoint : Checkpoint, or the Description of one whose weights are not read yet
    text : str or Path
        A UTF-8 file is read piece by piece, without the white space at its ends.
    special : bool
        Whether the tokenizer adds the special tokens of the network.
    most : int, optional
        A longer text is cut to this number of tokens, special tokens included, and is not read much further.

    Raises
    ------
    InputError
        The checkpoint has no tokenizer; `most` leaves no room for a token of the text.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> token_ids(checkpoints.load(transformers.GPT2Model(config)), "a text")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: a text needs the checkpoint's tokenizer: load(model, tokenizer=...) or give token ids
    """
    if checkpoint.tokenizer is None:
        raise InputError("a text needs the checkpoint's tokenizer: load(model, tokenizer=...) or give token ids")
    if most is not None:
        frame = _whole_frame(checkpoint) if special else Frame((), ())
        return frame.around(_first_ids(checkpoint, _inner_pieces(text), frame.room(most))).tolist()
    if isinstance(text, Path):
        text = "".join(_inner_pieces(text))
    # verbose=False: the tokenizer warns of texts beyond the network's positions, which are windowed or refused later.
    return list(checkpoint.tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def windows(
    checkpoint: "Checkpoint | Description", text: Any, length: int, *, rest: bool = False
) -> Iterator[np.ndarray]:
    """Yield consecutive windows of `length` token ids, with special tokens in each: the one way to cut a text.

    Parameters
    ----------
    checkpoint : Checkpoint
    text : str, Path of a UTF-8 file, or (n,) token ids
        A file is read piece by piece, so that a text of any length, and of lines of any length, takes the same memory.
        Special tokens in front of given ids are those of the first window.
    length : int
    rest : bool
        Whether what is left at the end makes a shorter window; it is left out otherwise.

    Raises
    ------
    InputError
        A file that does not exist or is not UTF-8, a window without room for text, a text without a tokenizer.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> [w.tolist() for w in windows(checkpoints.load(transformers.GPT2Model(config)), [1, 2, 3, 4, 5], 2, rest=True)]
    [[1, 2], [3, 4], [5]]
    """
    frame = frame_of(checkpoint)
    room = frame.room(length)
    waiting = np.empty(0, dtype=np.int64)
    for ids in _bodies(checkpoint, frame, text):
        waiting = np.concatenate([waiting, ids])
        for start in range(0, len(waiting) - room + 1, room):
            yield frame.around(waiting[start : start + room])
        waiting = waiting[len(waiting) // room * room :]
    if rest and len(waiting):
        yield frame.around(waiting)


def text_ids(checkpoint: "Checkpoint | Description", text: str | Path, most: int) -> np.ndarray:
    """Return the first token ids of a text without white space at its ends, at most `most`, no special tokens.

    They are an array (n,) of 4 bytes a token; a Python list takes nine times as much.

    Raises
    ------
    InputError
        As for `windows`.
    """
    return _first_ids(checkpoint, _strip(text), most)


def _first_ids(checkpoint: "Checkpoint | Description", pieces: Iterable[str], most: int) -> np.ndarray:
    """Return the first token ids of a text; no piece is read behind that in which the last of them lies."""
    ids = array("i")  # it grows in place
    for more in ids_of_pieces(checkpoint, pieces):
        ids.extend(more)
        if len(ids) >= most:
            break
    return np.frombuffer(ids, dtype=np.int32)[:most] if ids else np.empty(0, dtype=np.int32)


def require_text(path: Path) -> None:
    """Raise InputError where a file does not exist, is not UTF-8 or holds nothing but white space; read in pieces.

    >>> require_text(Path("no-such-file"))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file: no such file
    """
    if sum(len(piece.strip()) for piece in _pieces(path)) == 0:
        raise InputError(f"the text {str(path)!r} is empty")


def ids_of_pieces(checkpoint: "Checkpoint | Description", pieces: Iterable[str]) -> Iterator[list[int]]:
    """Yield the token ids of a text that comes piece by piece: together they are those of the whole text.

    The tokenizer reads some characters before each piece again, whose tokens are left out. The text is cut where the
    tokens before the cut stay the same whatever side of it is read, preferably in front of white space. Where there is
    no such place, more of the text is read first.

    Raises
    ------
    ArithmeticError
        The tokens at a cut are not those that were seen when it was chosen.
    """

    def tokens(text: str) -> list[int]:
        return token_ids(checkpoint, text, special=False)

    past, remainder, past_ids, enough = "", "", list[int](), 2 * _CONTEXT
    for piece in pieces:
        remainder += piece
        if len(remainder) < enough:
            continue
        enough = 2 * len(remainder)  # where no cut is found, what was read is not read again for every piece
        for start, cut in _cuts(past + remainder):
            if cut <= len(past):
                continue
            text = past + remainder
            context = tokens(text[start:cut])
            if tokens(text[start : cut + _CONTEXT])[: len(context)] != context:
                continue  # before all of the text is read, which may have grown long
            ids = tokens(text[:cut])
            tail = len(context) - len(context) // 2  # the first tokens may differ, since the context begins anywhere
            if ids[len(ids) - tail :] == context[len(context) - tail :]:
                yield _new_ids(ids, past_ids)
                past, remainder, past_ids, enough = text[start:cut], text[cut:], context, 2 * _CONTEXT
                break
    if remainder:
        yield _new_ids(tokens(past + remainder), past_ids)


def _new_ids(ids: list[int], past_ids: list[int]) -> list[int]:
    if ids[: len(past_ids)] != past_ids:
        raise ArithmeticError("the tokens of this text change with what follows it: it cannot be read piece by piece")
    return ids[len(past_ids) :]


def _cuts(text: str) -> Iterator[tuple[int, int]]:
    """Yield (start of the context, cut): places to try, the best first."""
    last = len(text) - _CONTEXT  # what follows a cut is looked at as well
    near = max(0, last - 16 * _CONTEXT)
    spaces = [near + match.end() for match in re.finditer(r"\S(?=\s)", text[near : last + 1])]
    for cut in spaces[: -_CANDIDATES - 1 : -1]:
        space = text.rfind(" ", max(0, cut - 2 * _CONTEXT), max(0, cut - _CONTEXT))
        yield (max(0, cut - _CONTEXT) if space < 0 else space), cut
    for i in range(_CANDIDATES):
        yield max(0, last - i - _CONTEXT - 5 * i % 16), last - i


def _bodies(checkpoint: "Checkpoint | Description", frame: Frame, text: Any) -> Iterator[Any]:
    if isinstance(text, str | Path):
        return ids_of_pieces(checkpoint, _pieces(text))
    return iter([frame.without(np.asarray(text))])


def _pieces(text: str | Path) -> Iterator[str]:
    """Yield a text, or that of a file, in pieces of some characters."""
    if isinstance(text, str):
        yield from (text[start : start + _CHUNK] for start in range(0, len(text), _CHUNK))
        return
    if not text.is_file():
        raise InputError(f"{text}: no such file")
    with utf8(text), text.open(encoding="utf-8") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _inner_pieces(text: str | Path) -> Iterator[str]:
    """Return the pieces of a text as it is, or of a file without the white space at its ends."""
    return _pieces(text) if isinstance(text, str) else _strip(text)


def _strip(text: str | Path) -> Iterator[str]:
    """Yield pieces of a text without the white space at its two ends.

    White space is kept until more of the text follows. A run of it that is longer than a piece is not kept: what the
    text ends with is looked for in all of it instead, so that a run of any length takes the same memory and time.
    """
    space, begun, count, end = "", False, 0, None
    for piece in _pieces(text):
        if begun and end is None and len(space) > _CHUNK:
            end = _end(text)
        whole = space + piece if begun else piece.lstrip()
        count += len(piece)
        body = whole.rstrip() if end is None else whole[: max(0, len(whole) - max(0, count - end))]
        space, begun = whole[len(body) :] if end is None else "", begun or bool(body)
        if body:
            yield body


def _end(text: str | Path) -> int:
    """Return the number of characters of a text up to its last one that is no white space."""
    count = end = 0
    for piece in _pieces(text):
        body = piece.rstrip()
        end = count + len(body) if body else end
        count += len(piece)
    return end
