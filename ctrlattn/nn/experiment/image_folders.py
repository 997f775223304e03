"""x[rows] = cut(scale(decode(file))): a data set of image files with one folder per class, read lazily.

    DIR/<class>/*.jpg                               eight of ten images train, one validates, one is tested
    DIR/train/<class>/*.jpg, DIR/val/<class>/...    val is tested; one in fifty training images validates

Classes are sorted by name, as in torchvision's ImageFolder. Names that begin with a dot are neither classes nor
images. PIL decodes the files in threads.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlattn.errors import InputError
from ctrlattn.files import visible
from ctrlattn.identity import digest, of_files
from ctrlattn.nn.experiment.data import Data, Examples

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Mean and deviation of the pixels of ImageNet, as in timm's DeiT.
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ORIENTATION = 0x0112  # the tag of EXIF
_READING = 2  # changes with what is made of the bytes of a file: runs of another reading are of other images
_THREADS = 8
Box = tuple[float, float, float, float]


class Images(Sequence[torch.Tensor]):
    """Image files that are indexed by rows like an array (N, 3, side, side) in [0, 1], and never all in memory.

    `images[rows]` scales the shorter side to 8/7 of `side` and cuts the middle, as DeiT is tested. `drawn` cuts a
    random part and may mirror it, as DeiT is trained.

    Raises
    ------
    InputError
        A file that is read is not an image.
    """

    def __init__(self, files: Sequence[Path], side: int) -> None:
        self.files, self.side = list(files), side

    def __len__(self) -> int:
        return len(self.files)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, side, side)."""
        return len(self.files), 3, self.side, self.side

    @cached_property
    def content(self) -> str:
        """Digest of the bytes of all files, read once, and of the way in which they are read."""
        return digest(of_files(self.files), _READING)

    def is_floating_point(self) -> bool:
        """Return True, as for a tensor of pixels."""
        return True

    def __getitem__(self, rows: Any) -> Any:
        return self._read(rows, None)

    def drawn(self, rows: Any, draws: np.ndarray) -> torch.Tensor:
        """Cut random parts of .08 to 1 of the area, with sides 3:4 to 4:3 where they fit; about half are mirrored.

        draws (rows, 5) holds numbers in [0, 1): four for random_part, and one that decides whether to mirror.
        """
        return self._read(rows, draws)

    def _read(self, rows: Any, draws: np.ndarray | None) -> torch.Tensor:
        indices = np.arange(len(self.files))[rows.numpy() if isinstance(rows, torch.Tensor) else rows]
        with ThreadPoolExecutor(_THREADS) as pool:
            images = list(pool.map(self._image, indices, [None] * len(indices) if draws is None else draws))
        pixels = np.stack(images) if images else np.zeros((0, self.side, self.side, 3), np.uint8)
        return torch.as_tensor(pixels).permute(0, 3, 1, 2).contiguous().float() / 255

    def _image(self, row: int, draw: np.ndarray | None) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        file = self.files[row]
        try:
            with Image.open(file) as opened:
                image = _in_colour(opened)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{file} cannot be read as an image: {error}") from error
        width, height = image.size
        box = middle(width, height) if draw is None else random_part(width, height, draw)
        size = (self.side, self.side)
        pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box=box))
        return pixels if draw is None or draw[4] < 0.5 else pixels[:, ::-1]


def _in_colour(image: Any) -> Any:
    """Return eight bits of red, green and blue, as a viewer shows them: 16 bits are scaled, clear pixels lie on white.

    PIL's own conversion cuts 16 bits off at 255, so that a grey picture became white, and takes floats of [0, 1] for 0.
    A camera that was held upright says so in the file (EXIF), and a viewer turns the picture.
    """
    from PIL import Image, ImageOps

    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values, has_integers = np.asarray(image, dtype=float), image.mode.startswith("I")
        top = 65535.0 if has_integers else 1.0
        if not (values.min() >= 0 and values.max() <= top):
            raise OSError(
                f"its values run from {values.min():g} to {values.max():g}: wanted are 0 to 65535 of integers, or 0 to "
                "1 of floats"
            )
        clear = image.info.get("transparency")  # the value of 16 bits that is transparent
        image = Image.fromarray(np.round(values * (255 / top)).astype(np.uint8))
        if clear is not None:
            image.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def middle(width: int, height: int) -> Box:
    """Return (left, top, right, bottom) of the square in the middle whose side is 7/8 of the shorter side.

    >>> middle(160, 80)
    (45.0, 5.0, 115.0, 75.0)
    """
    side = min(width, height) * 7 / 8
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_part(width: int, height: int, draw: np.ndarray) -> Box:
    """Return (left, top, right, bottom) of a random crop; `draw`, in [0, 1), gives area, aspect ratio and place.

    Sides that do not fit are shortened. torchvision's RandomResizedCrop draws again instead.

    >>> random_part(100, 100, np.array([1.0, 0.5, 0.3, 0.3]))
    (0.0, 0.0, 100.0, 100.0)
    """
    area = (0.08 + 0.92 * draw[0]) * width * height
    ratio = (3 / 4) ** (1 - 2 * draw[1])  # from 3:4 to 4:3, uniform in its logarithm
    across, down = min(float(np.sqrt(area * ratio)), width), min(float(np.sqrt(area / ratio)), height)
    left, top = float(draw[2]) * (width - across), float(draw[3]) * (height - down)
    return left, top, left + across, top + down


def folder(path: Path, side: int) -> Data:
    """Read training, validation and test part of a directory of images.

    Parameters
    ----------
    path : Path
    side : int
        Side of the squares that the network reads, in pixels.

    Raises
    ------
    InputError
        There is no directory or no image, a class that has to be split has fewer than ten images, or the classes of
        val differ from those of train.

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
    """Return (names, [(file, label)]), sorted."""
    names = [entry.name for entry in visible(path) if entry.is_dir()]
    rows = [
        (file, label)
        for label, name in enumerate(names)
        for file in visible(path / name, deep=True)
        if file.suffix.lower() in SUFFIXES
    ]
    if not rows:
        raise InputError(
            f"{path}: no images; give one folder per class, {path.name}/<class>/*.jpg, or train/ and val/ with such "
            f"folders, and files that end in {' '.join(SUFFIXES)}"
        )
    labels = {label for _, label in rows}
    empty = [name for label, name in enumerate(names) if label not in labels]
    if empty:
        raise InputError(f"{path}: the class folder {empty[0]!r} has no images")
    return names, rows


def _data(path: Path, names: list[str], side: int, parts: list[list[tuple[Path, int]]]) -> Data:
    examples = [
        Examples(Images([f for f, _ in rows], side), torch.tensor([label for _, label in rows])) for rows in parts
    ]
    return Data(path.resolve().name, len(names), examples[0], examples[1], examples[2], MEAN, DEVIATION)
