"""x[rows] = cut(scale(decode(file))): images of a directory with one folder a class, read when they are asked for.

    DIR/<class>/*.jpg                               of ten images of a class eight train, one checks, one is tested
    DIR/train/<class>/*.jpg, DIR/val/<class>/...    val is tested; of the training images one in fifty checks

The order of the classes is that of torchvision's ImageFolder (their names, sorted). Decoding is PIL's, in threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.nn.experiment.data import Data, Part

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Mean and deviation of the pixels of ImageNet, as in timm's DeiT.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_THREADS = 8
Box = tuple[float, float, float, float]


class Images(Sequence[torch.Tensor]):
    """(N, 3, side, side) in [0, 1], read file by file: indexed like the array, by rows, and never whole in memory.

    `images[rows]` scales the shorter side to 8/7 of `side` and cuts the middle, as DeiT is tested; `drawn` cuts a
    random part and may mirror it, as DeiT is trained.

    Raises
    ------
    InputError
        When read: a file that is no image.
    """

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self.files, self.side = list(files), side

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, side, side)."""
        return len(self.files), 3, self.side, self.side

    def is_floating_point(self) -> bool:
        """As a tensor of pixels says."""
        return True

    def __getitem__(self, rows: Any) -> Any:
        return self._read(rows, None)

    def drawn(self, rows: Any, draws: np.ndarray) -> torch.Tensor:
        """Random parts of .08 to 1 of the area, sides 3:4 to 4:3 where they fit, every second one mirrored.

        draws : (rows, 5), numbers in [0, 1); see random_part. The last one mirrors.
        """
        return self._read(rows, draws)

    def _read(self, rows: Any, draws: np.ndarray | None) -> torch.Tensor:
        chosen = np.arange(len(self.files))[rows.numpy() if isinstance(rows, torch.Tensor) else rows]
        with ThreadPoolExecutor(_THREADS) as pool:
            images = list(pool.map(self._image, chosen, [None] * len(chosen) if draws is None else draws))
        pixels = np.stack(images) if images else np.zeros((0, self.side, self.side, 3), np.uint8)
        return torch.as_tensor(pixels).permute(0, 3, 1, 2).contiguous().float() / 255

    def _image(self, row: int, draw: np.ndarray | None) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        file = self.files[row]
        try:
            with Image.open(file) as opened:
                image = opened.convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{file} cannot be read as an image: {error}") from error
        box = middle(*image.size) if draw is None else random_part(*image.size, draw)
        size = (self.side, self.side)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))
        return pixels if draw is None or draw[4] < 0.5 else pixels[:, ::-1]


def middle(width: int, height: int) -> Box:
    """(left, top, right, bottom) of a square in the middle, 7/8 of the shorter side.

    >>> middle(160, 80)
    (45.0, 5.0, 115.0, 75.0)
    """
    side = min(width, height) * 7 / 8
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_part(width: int, height: int, draw: np.ndarray) -> Box:
    """(left, top, right, bottom) from numbers in [0, 1): area, ratio of the sides, place.

    Sides that do not fit are cut, where torchvision's RandomResizedCrop draws again.

    >>> random_part(100, 100, np.array([1.0, 0.5, 0.3, 0.3]))
    (0.0, 0.0, 100.0, 100.0)
    """
    area = (0.08 + 0.92 * draw[0]) * width * height
    ratio = (3 / 4) ** (1 - 2 * draw[1])  # 3:4 to 4:3, evenly in its logarithm
    across, down = min(float(np.sqrt(area * ratio)), width), min(float(np.sqrt(area / ratio)), height)
    left, top = float(draw[2]) * (width - across), float(draw[3]) * (height - down)
    return left, top, left + across, top + down


def folder(path: Path, side: int) -> Data:
    """The three parts of a directory of images.

    Parameters
    ----------
    path : Path
    side : int
        Pixels of the squares that the network reads.

    Raises
    ------
    InputError
        No directory, no image, fewer than ten images of a class that has to be split, classes of val that differ from
        those of train.

    References
    ----------
    Layout: torchvision.datasets.ImageFolder and ImageNet as DeiT reads it (train/, val/).

    Examples
    --------
    >>> folder(Path("no such place"), 224)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no such place: no such directory
    """
    if not path.is_dir():
        raise InputError(f"{path}: no such directory")
    if (path / "train").is_dir() and (path / "val").is_dir():
        names, train = _classes(path / "train")
        tested, test = _classes(path / "val")
        if names != tested:
            lonely = sorted(set(names) ^ set(tested))[0]
            raise InputError(f"{path}: train and val must have the same classes; only one of them has {lonely!r}")
        checks = [k % 50 == 49 for k in range(len(train))]
        parts = [[f for f, c in zip(train, checks, strict=True) if c is held] for held in (False, True)]
        return _data(path, names, side, [parts[0], parts[1] or train[-1:], test])
    names, files = _classes(path)
    split: list[list[tuple[Path, int]]] = [[], [], []]
    for label, members in groupby(files, key=lambda row: row[1]):
        rows = list(members)
        if len(rows) < 10:
            raise InputError(f"{path}: class {names[label]!r} has {len(rows)} images; ten are needed to split it")
        for k, row in enumerate(rows):
            split[max(k % 10 - 7, 0)].append(row)
    return _data(path, names, side, split)


def _classes(path: Path) -> tuple[list[str], list[tuple[Path, int]]]:
    """(names, [(file, label)]), sorted."""
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    rows = [
        (file, label)
        for label, name in enumerate(names)
        for file in sorted((path / name).rglob("*"))
        if file.suffix.lower() in SUFFIXES
    ]
    if not rows:
        raise InputError(
            f"{path}: no images; expected one folder a class, {path.name}/<class>/*.jpg, or train/ and val/ with such "
            f"folders; read are {' '.join(SUFFIXES)}"
        )
    labels = {label for _, label in rows}
    empty = [name for label, name in enumerate(names) if label not in labels]
    if empty:
        raise InputError(f"{path}: the class folder {empty[0]!r} has no images")
    return names, rows


def _data(path: Path, names: list[str], side: int, parts: list[list[tuple[Path, int]]]) -> Data:
    made = [Part(Images([f for f, _ in rows], side), torch.tensor([label for _, label in rows])) for rows in parts]
    return Data(path.resolve().name, len(names), made[0], made[1], made[2], MEAN, DEVIATION)
