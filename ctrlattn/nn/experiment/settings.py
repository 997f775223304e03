"""settings = those of the data, changed: what decides one run, and which of it makes no network.

Nothing here needs torch: what cannot be trained is refused before it is imported.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, did_you_mean, require_known, require_whole
from ctrlattn.nn.modules.sizes import require_heads, require_norm, require_patches

SIZES: dict[str, dict[str, Any]] = {
    "digits": {},
    "mnist5k": {"patch": 4, "epochs": 8},
    "text": {"epochs": 4, "batch": 32},
}

SHAPES = {"digits": (1, 8), "mnist5k": (1, 28)}  # channels and side of an image

# Sizes for a directory of images are those of DeiT-tiny on ImageNet. The rate is 5e-4 for 512 images, as in DeiT.
DIRECTORY: dict[str, Any] = {
    "depth": 12, "dim": 192, "heads": 3, "ratio": 4, "patch": 16, "epochs": 300, "batch": 1024, "rate": 1e-3,
    "initial": "deit", "drop_path": 0.1,
}  # fmt: skip


# Numbers that a network has, and their bytes. In bfloat16 small steps of AdamW round to nothing.
DTYPES = {"float32": 4, "float64": 8}


@dataclass(frozen=True)
class RunSettings:
    """Everything but the data that decides one run.

    >>> RunSettings("softmax", 0).depth
    8
    """

    arm: str
    seed: int
    epochs: int = 20
    depth: int = 8
    dim: int = 48
    heads: int = 3
    ratio: int = 2  # width of the MLP divided by dim
    patch: int = 2
    norm: str = "layer"
    depth_scaled: bool = False
    initial: str = "fan-in"  # deviation of the initial weights: "fan-in" is 1/sqrt(dim), "deit" is 0.02
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.05
    drop_path: float = 0.0  # stochastic depth of the last layer
    limit: float = 1.0  # largest |u| of an arm that saturates; before training, values have deviation 1
    image: int = 224  # side in pixels to which images of a directory are scaled; other images keep their size
    dtype: str = "float32"  # of weights, and of the images as the network sees them


def settings_of(data: str, changes: Mapping[str, Any], arm: str = "", seed: int = 0) -> RunSettings:
    """Return the settings of one run: those of the data set hold where nothing is changed.

    >>> settings_of("digits", {"dim": 24}).dim, settings_of("mnist5k", {}).patch
    (24, 4)
    """
    return RunSettings(arm=arm, seed=seed, **{**SIZES.get(data, DIRECTORY), **changes})


def identity_of(settings: Any) -> dict[str, Any]:
    """Return the settings by name, as they tell one run from another; float32 has no name, as before there was another.

    >>> [identity_of(RunSettings("softmax", 0, dtype=dtype)).get("dtype") for dtype in DTYPES]
    [None, 'float64']
    """
    return without_default(asdict(settings))


def without_default(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out a dtype of float32: settings of runs and plans from before there was another say none.

    >>> without_default({"dim": 24, "dtype": "float32"})
    {'dim': 24}
    """
    return {name: value for name, value in settings.items() if (name, value) != ("dtype", "float32")}


def require_data(data: str) -> None:
    """Raise InputError unless it is the name of a data set, or a directory.

    >>> require_data("digit")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown data 'digit': did you mean 'digits'?
    """
    if data not in SIZES and not Path(data).is_dir():
        near = did_you_mean(data, SIZES)
        more = "" if near.endswith("?") else ", and a directory of images"
        raise InputError(f"unknown data {data!r}: {near}{more}")


def require_fit(data: str, settings: RunSettings) -> None:
    """Raise InputError where the network does not fit into memory, or its sizes do not fit each other.

    >>> require_fit("digits", settings_of("digits", {"patch": 3}))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: image must be a multiple of patch: 8 and 3 pixels
    """
    weights = settings.depth * (4 + 2 * settings.ratio) * settings.dim**2
    size = DTYPES[require_known("dtype", settings.dtype, DTYPES)]
    # Weights, gradients and the two moments of AdamW.
    require_memory(4 * size * weights, f"{settings.depth} layers of {settings.dim} features")
    if data != "text":
        require_patches(SHAPES[data][1] if data in SHAPES else settings.image, settings.patch)
    require_norm(settings.norm)
    require_heads(settings.dim, settings.heads)


def require_settings(settings: Any) -> None:
    """Raise InputError unless each is a setting of a run, has the right type, and is positive where it is a number."""
    defaults = {f.name: f.default for f in fields(RunSettings) if f.name not in ("arm", "seed")}
    require_keys("settings", settings, defaults)
    for name, value in settings.items():
        kind = type(defaults[name])
        if kind is float:
            require_positive_setting(f"settings: {name}", value, least=0.0 if name == "drop_path" else None)
        elif kind is int:
            require_whole(f"settings: {name}", value)
        elif type(value) is not kind:
            words = {bool: "true or false", str: "a word"}
            raise InputError(f"settings: {name} must be {words[kind]}, got {value!r}")
    if "dtype" in settings:
        require_known("settings: dtype", settings["dtype"], DTYPES)


def require_positive_setting(name: str, value: Any, *, least: float | None = None) -> None:
    """Raise InputError unless the value is a positive finite number, or `least`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (0 < value < math.inf or value == least):
        raise InputError(f"{name} must be positive and finite, got {value!r}")


def require_keys(where: str, table: Any, keys: Collection[str]) -> None:
    """Raise InputError unless it is a table, and each of its names is known."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where} must be a table of names and values, got {table!r}")
    for name in table:
        if name not in keys:
            raise InputError(f"{where} has no {name!r}: {did_you_mean(name, sorted(keys))}")
