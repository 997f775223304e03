"""Recorded signals of real networks: one xarray.Dataset for each text, many texts in one .npz, and the shipped ones.

Schema of a Dataset (version 1). Dims: layer (L), depth (L + 1), token (n), feature (d), head, query (n), key (n); of
networks that are not one attention and one MLP per layer also step and sublayer, and lane for several streams.

    attention      (layer, head, query, key)     attention matrices, rows sum to 1
    state          (depth, token, feature)       residual stream; depth l is what layer l reads
    mid            (layer, token, feature)       residual stream between the attention and the MLP sublayer
    attention_out  (layer, token, feature)       what the attention sublayer adds to the stream
    mlp_out        (layer, token, feature)       what the MLP sublayer adds to it
    stream         (step, token, feature)        residual stream in front of each step of a layer
    contribution   (sublayer, token, feature)    what each sublayer adds to the stream of its step, its factor included
    carried        (step, token, feature)        what of the stream goes on, where that is not the stream itself

Coordinates call and norm_behind (step), step_of, kind and path (sublayer) say where a step and a contribution belong.
A layer without an attention matrix has nan there, and the attribute no_matrix says which; with the attribute sinks a
null key takes a share of each row, so that rows sum to at most 1, and sink_mass is its mean. Coordinate text (token):
the token strings.
Attributes: model, norm ("pre" or "post"), causal (0 or 1), schema_version and provenance. Only attention is required;
whoever needs the rest checks for it. With norm = "pre"

    mid_l = state_l + attention_out_l,   state_{l+1} = mid_l + mlp_out_l

The .npz: `meta`, a JSON text {"model": ..., "norm": ..., "causal": ..., ...}, and for text i = 0, 1, ... the arrays
`i/attention`, `i/state`, `i/mid`, `i/attention_out`, `i/mlp_out` and `i/text` (strings), all but the first optional. A
pre-norm file may give `i/embedding` (n, d) in place of state and mid: they are rebuilt by the running sum above. The
other variables and the labels of steps and sublayers have their own names.
Nothing is ever pickled.
"""

import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.arrays import Array, namespace
from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, InputTypeError, did_you_mean, require_flag, require_known
from ctrlattn.files import atomic
from ctrlattn.parsing import parse_json

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
VARIABLES = {
    "attention": ("layer", "head", "query", "key"),
    "state": ("depth", "token", "feature"),
    "mid": ("layer", "token", "feature"),
    "attention_out": ("layer", "token", "feature"),
    "mlp_out": ("layer", "token", "feature"),
    "stream": ("step", "token", "feature"),
    "contribution": ("sublayer", "token", "feature"),
    "carried": ("step", "token", "feature"),
}
LABELS = {"call": "step", "norm_behind": "step", "step_of": "sublayer", "kind": "sublayer", "path": "sublayer"}
_ROW_SUM = 2e-2  # float16 rounds each of n weights
_MASSIVE = 256.0
_DEFLATE = 1032  # deflate makes no byte more than so many
_HEADERS: dict[tuple[int, int], Any] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# What zipfile, zlib and numpy raise on damaged bytes; numpy reads a header as a text of Python, by ast and tokenize.
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, OverflowError, NotImplementedError, RecursionError, SyntaxError,
    zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


_ROUNDINGS = 4  # of the largest number of a feature, by which equal tokens may differ
_SUMS = 2.0**-23  # epsilon of the sums of a network: numbers of 16 bits are added in 32


def feedback_gain(x: Array, contribution: Array) -> Array:
    """Return the gain of a sublayer F along its own state, <F(x), x> / <x, x>, per token.

    Where it is negative, the sublayer pushes against the state (negative feedback, a comparator); where it is positive,
    it pushes along the state; where it is 0, all that it adds is new. A zero token has gain 0.

    Parameters
    ----------
    x : (..., n, d)
        Residual stream that the sublayer adds to.
    contribution : (..., n, d)
        F(x), as added.

    Returns
    -------
    (..., n)

    Raises
    ------
    InputError
        Different shapes.

    Examples
    --------
    >>> import numpy as np
    >>> feedback_gain(np.array([[1.0, 2.0]]), np.array([[-0.5, -1.0]])).tolist()
    [-0.5]
    """
    xp = namespace(x, contribution)
    if tuple(x.shape) != tuple(contribution.shape):
        raise InputError(f"state {tuple(x.shape)} and contribution {tuple(contribution.shape)} differ in shape")
    size = xp.sum(x * x, -1)
    zero = size == 0
    return xp.sum(contribution * x, -1) / xp.where(zero, xp.ones_like(size), size)


def size_ratio(x: np.ndarray, contribution: np.ndarray) -> np.ndarray:
    """Return |F(x)| / |x| of each token, (..., n, d) -> (..., n); |F(x)| for a zero token.

    >>> size_ratio(np.array([[3.0, 4.0]]), np.array([[0.0, 1.0]])).tolist()
    [0.2]
    """
    size = np.linalg.norm(x, axis=-1)
    return np.asarray(np.linalg.norm(contribution, axis=-1) / np.where(size > 0, size, 1.0))


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return <x, y> / (|x| |y|) over the last axis; 0 where one of them is zero.

    >>> cosine(np.array([1.0, 0.0]), np.array([3.0, 4.0])).item()
    0.6
    """
    sizes = np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1)
    return np.asarray(np.clip(np.sum(x * y, -1) / np.where(sizes > 0, sizes, 1.0), -1.0, 1.0))


def predictor_fit(x: np.ndarray, f: np.ndarray, *, epsilon: float = 2.0**-52) -> tuple[float, float]:
    """Return (g, R^2) of x = g f + constant over tokens (n, d), all features together; nan where either does not vary.

    R^2 is the share of the variance of the state x that the contribution f predicts. What varies by no more than the
    rounding of numbers with this `epsilon` does not vary.

    >>> predictor_fit(np.array([[0.0], [2.0], [4.0]]), np.array([[1.0], [2.0], [3.0]]))
    (2.0, 1.0)
    """
    x, f = varied(x, epsilon), varied(f, epsilon)
    both, squares = float(np.sum(x * f)), (float(np.sum(x * x)), float(np.sum(f * f)))
    if len(x) < 2 or min(squares) == 0.0:
        return float("nan"), float("nan")
    return both / squares[1], min(both**2 / (squares[0] * squares[1]), 1.0)


def varied(x: np.ndarray, epsilon: float) -> np.ndarray:
    """Return x less its mean over tokens (..., n, d); 0 where that is the rounding of numbers with this epsilon.

    A network gives the same token at other places the same numbers but for rounding, whose shares and ranks would say
    nothing of it.

    >>> varied(np.array([[1.0], [1.0 + 1e-9]]), 2.0**-23).tolist()
    [[0.0], [0.0]]
    """
    if not x.shape[-2]:
        return x
    centred = x - x.mean(-2, keepdims=True)
    largest = np.abs(x).max(-2, keepdims=True)
    # A feature that nearly cancels is known to the digits of the others, and not to those of a massive one.
    # Rows of a product are added up in other orders: d terms err by sqrt(d) roundings, which grow as a random walk.
    share = _ROUNDINGS * (epsilon + np.sqrt(x.shape[-1]) * min(epsilon, _SUMS))
    rounding = share * np.maximum(largest, np.median(largest, axis=-1, keepdims=True))
    still = np.all(np.abs(centred) <= rounding, axis=(-2, -1), keepdims=True)
    return np.asarray(np.where(still, 0.0, centred))


def dataset(
    arrays: dict[str, np.ndarray],
    *,
    tokens: Sequence[str] | None = None,
    attrs: dict[str, Any],
    labels: dict[str, tuple[str, Sequence[Any]]] | None = None,
    judged: bool = False,
) -> "xr.Dataset":
    """Return a Dataset of the schema from plain arrays, checked; state and mid are rebuilt from a given `embedding`.

    Parameters
    ----------
    arrays : dict
        "attention" and any of the other variables, or "embedding" (n, d) in place of state and mid.
    tokens : strings, optional
    attrs : dict
        With "model", "norm" and "causal"; "no_matrix" allows layers whose attention is nan.
    labels : dict, optional
        Coordinates of steps and sublayers: name -> (dim, values).
    judged : bool
        The numbers are known to be finite and the rows of attention to sum to 1: they are not read once more.

    Raises
    ------
    InputError
        A missing, misshapen, or non-finite array, attention that is negative or whose rows do not sum to 1; the
        message names the array.

    Examples
    --------
    >>> import numpy as np
    >>> text = dataset({"attention": np.ones((2, 1, 1, 1))}, attrs={"model": "toy", "norm": "pre", "causal": 1})
    >>> dict(text.sizes)
    {'layer': 2, 'head': 1, 'query': 1, 'key': 1}
    """
    judged = require_flag("judged", judged)
    import xarray as xr

    arrays = _running_sums(dict(arrays))
    no_matrix = bool(attrs.get("no_matrix"))
    _check(arrays, tokens, no_matrix=no_matrix)
    if not judged:
        _check_numbers(arrays, no_matrix=no_matrix, sinks=bool(attrs.get("sinks")))
    variables: dict[str, Any] = {name: (_dims(name, value), value) for name, value in arrays.items()}
    coords: dict[str, Any] = {} if tokens is None else {"text": ("token", np.array(list(tokens), dtype=str))}
    dims = {dim for names, _ in variables.values() for dim in names}
    coords |= {name: (dim, np.array(values)) for name, (dim, values) in (labels or {}).items() if dim in dims}
    return xr.Dataset(variables, coords=coords, attrs={"schema_version": SCHEMA_VERSION, **attrs})


def sink_mass(attention: Array) -> np.ndarray:
    """Return 1 - sum_j A_ij: the mass of each row that goes to no token, because a null key without a value draws it.

    Parameters
    ----------
    attention : (..., n, n)
        Rows that sum to at most 1.

    Returns
    -------
    (..., n) float64
        0 where a row sums to 1, up to rounding, or more.

    References
    ----------
    Miller, Attention Is Off By One, 2023; Agarwal et al., gpt-oss-120b & gpt-oss-20b Model Card, arXiv 2508.10925,
    section 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> sink_mass(np.array([[0.5, 0.0], [0.5, 0.5]])).tolist()
    [0.5, 0.0]
    """
    return np.maximum(0.0, 1.0 - np.asarray(attention).sum(axis=-1, dtype=np.float64))


def save(path: str | os.PathLike[str], texts: Sequence["xr.Dataset"]) -> None:
    """Write texts of one network to a .npz, atomically; float16 where that is enough.

    Attention and contributions are stored in float16 (relative error 5e-4), massive activations in float32; the
    stream of a pre-norm network by its embeddings, from which it is rebuilt on loading.

    Parameters
    ----------
    path : path ending in .npz
    texts : sequence of Dataset
        All of one network.

    Raises
    ------
    InputError
        Nothing to save.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "toy.npz"
    >>> attrs = {"model": "toy", "norm": "pre", "causal": 1}
    >>> save(path, [dataset({"attention": np.ones((2, 1, 1, 1))}, attrs=attrs)])
    >>> load(path)[0].attrs["model"]
    'toy'
    """
    if not texts:
        raise InputError("there is no text to save")
    attrs = {key: value for key, value in texts[0].attrs.items() if key != "text"}
    stored: dict[str, np.ndarray] = {"meta": np.array(json.dumps(attrs, default=str))}
    for i, text in enumerate(texts):
        stored |= {f"{i}/{name}": value for name, value in _compact(text).items()}
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)  # type: ignore[arg-type]


def load(path: str | os.PathLike[str]) -> list["xr.Dataset"]:
    """Read the texts of a .npz (layout in the module's docstring); attention rows are renormalised in float64.

    Raises
    ------
    InputError
        A file that is missing, corrupt, pickled or of another layout; the message names file and array.

    Examples
    --------
    >>> load("no-such-file.npz")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.npz: no such file
    """
    try:
        return _texts(_stored_arrays(path))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def shipped() -> list[str]:
    """Return the names of the recordings inside the package, the main one first.

    >>> shipped()
    ['smollm2-135m', 'minilm-l6']
    """
    return ["smollm2-135m", "minilm-l6"]


def load_shipped(name: str) -> list["xr.Dataset"]:
    """Read the texts of a shipped recording; provenance and licence stand in ctrlattn/data/README.md.

    Raises
    ------
    InputError
        An unknown name.

    Examples
    --------
    >>> load_shipped("minilm-l6")[0].sizes["layer"]
    6
    """
    require_known("recording", name, shipped())
    with resources.as_file(resources.files("ctrlattn") / "data" / f"{name}.npz") as path:
        return load(path)


def _stored_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every array of an .npz, once its directory and headers declare no more than the file can hold."""
    try:
        with open(path, "rb") as file:
            # numpy takes whatever it does not know for a pickle.
            start = file.read(6)
            if start.startswith(b"\x93NUMPY"):
                raise InputError("a single array, not an .npz of recorded signals")
            if not start.startswith(b"PK"):
                raise InputError("not a file of recorded signals: no .npz archive")
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _require_plain(members, os.fstat(file.fileno()).st_size)
                return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except FileNotFoundError:
        raise InputError("no such file") from None
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"not a file of recorded signals: {' '.join(str(error).split())}") from error


def _require_plain(members: list[zipfile.ZipInfo], size: int) -> None:
    """Raise InputError for what `save` never writes, and for more bytes than the file or the memory can hold."""
    for member in members:
        if member.flag_bits & 1:
            raise InputError(f"{member.filename!r} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise InputError(f"{member.filename!r} is compressed by method {member.compress_type}: deflate is read")
        if member.compress_size > size or member.file_size > _DEFLATE * member.compress_size + 64:
            raise InputError(f"{member.filename!r} declares {member.file_size} bytes, more than the file can hold")
    require_memory(sum(member.file_size for member in members), "its arrays")


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Read one array, whose header declares as many bytes as are there."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise InputError(f"{member.filename!r} is an array of the unknown format {version}")
        shape, _, dtype = _HEADERS[version](file)
        start = file.tell()
    if dtype.hasobject:
        raise InputError(f"{member.filename!r} holds pickled objects, which are never loaded")
    if start + math.prod(shape) * dtype.itemsize != member.file_size:
        raise InputError(f"{member.filename!r} declares the shape {shape}, and its bytes are not those of it")
    with archive.open(member) as file:
        return np.asarray(np.lib.format.read_array(file, allow_pickle=False))


def _running_sums(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return state and mid by the running sum of the contributions, in float64, where only the embedding is given."""
    if "embedding" not in arrays:
        return arrays
    embedding = arrays.pop("embedding")
    missing = [name for name in ("attention_out", "mlp_out") if name not in arrays]
    if missing:
        raise InputError(f"embedding needs {' and '.join(missing)} to rebuild the residual stream")
    attention_out, mlp_out = (arrays[name].astype(np.float64) for name in ("attention_out", "mlp_out"))
    if embedding.shape != attention_out.shape[1:] or attention_out.shape != mlp_out.shape:
        raise InputError(
            f"embedding {embedding.shape}, attention_out {attention_out.shape} and mlp_out {mlp_out.shape} do not fit"
        )
    start = embedding.astype(np.float64)
    state = np.concatenate([start[None], start + np.cumsum(attention_out + mlp_out, axis=0)])
    return {**arrays, "state": state, "mid": state[:-1] + attention_out}


def _dims(name: str, value: np.ndarray) -> tuple[str, ...]:
    """Return the dims of a variable; a network with several streams has one more axis."""
    first, *dims = VARIABLES[name]
    several = value.ndim == len(VARIABLES[name]) + 1 and dims == ["token", "feature"]
    return (first, "lane", *dims) if several else (first, *dims)


def _check(arrays: dict[str, np.ndarray], tokens: Sequence[str] | None, *, no_matrix: bool) -> None:
    unknown = sorted(arrays.keys() - VARIABLES.keys())
    if unknown:
        raise InputError(f"unknown array {unknown[0]!r}: {did_you_mean(unknown[0], [*VARIABLES, 'embedding', 'text'])}")
    if "attention" not in arrays and not no_matrix:
        raise InputError("the array 'attention' (layer, head, query, key) is missing")
    for name, value in arrays.items():
        if not isinstance(value, np.ndarray):
            raise InputTypeError(f"{name} must be a numpy array, got {type(value).__name__}")
        if value.ndim != len(_dims(name, value)) or 0 in value.shape:
            raise InputError(f"{name} must be ({', '.join(VARIABLES[name])}), got shape {value.shape}")
        if not np.issubdtype(value.dtype, np.floating):
            raise InputError(f"{name} must hold finite floating-point numbers")
    count = _token_count(arrays)
    if tokens is not None and len(tokens) != count:
        raise InputError(f"text names {len(tokens)} tokens, the arrays have {count}")


def _check_numbers(arrays: dict[str, np.ndarray], *, no_matrix: bool, sinks: bool) -> None:
    for name, value in arrays.items():
        matrices = _matrices(value) if name == "attention" and no_matrix else value
        if not _finite(matrices):
            raise InputError(f"{name} must hold finite floating-point numbers")
        if name == "attention":
            _check_rows(matrices, sinks)


def _matrices(attention: np.ndarray) -> np.ndarray:
    """Return the layers that have a matrix; nan in one place does not say yet that all of a layer is."""
    absent = np.isnan(attention[:, 0, 0, 0])
    absent[absent] = np.isnan(attention[absent]).all(axis=(1, 2, 3))
    return attention[~absent] if absent.any() else attention


def _finite(value: np.ndarray) -> bool:
    """Tell whether all numbers are finite; the sum of squares says so without writing, unless it overflows."""
    if value.flags.c_contiguous and value.dtype in (np.float32, np.float64):
        flat = value.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if math.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(value).all())


def _check_rows(matrices: np.ndarray, sinks: bool) -> None:
    """Raise InputError where attention is negative, or a row sums to another number than 1, or above 1 with a sink."""
    if matrices.min(initial=0.0) < 0:
        raise InputError("attention must not be negative")
    # A product with ones is the fastest sum, and in float32 its rounding is far below what is accepted.
    wide = matrices if matrices.dtype in (np.float32, np.float64) else matrices.astype(np.float32)
    excess = wide @ np.ones(matrices.shape[-1], wide.dtype) - 1
    worst = float(np.max(excess if sinks else np.abs(excess), initial=0.0))
    if worst > _ROW_SUM:
        raise InputError(f"the rows of attention must sum to 1: one is off by {worst:.3g}")


def _token_count(arrays: dict[str, np.ndarray]) -> int:
    """Return the number of tokens, once all arrays agree on it, on the layers, the heads and the features."""
    sizes: dict[str, int] = {}
    for name, value in arrays.items():
        lengths = dict(zip(_dims(name, value), value.shape, strict=True))
        # One count of tokens and of layers, whatever the dim is called there.
        lengths["token"] = lengths.pop("query", lengths.get("token", 0))
        lengths["token (key)"] = lengths.pop("key", lengths["token"])
        if "depth" in lengths:
            lengths["layer"] = lengths.pop("depth") - 1
        for dim, size in lengths.items():
            expected = sizes.setdefault(dim.partition(" ")[0], size)
            if size != expected:
                raise InputError(f"{name} has {size} of dim {dim!r} where the arrays before it have {expected}")
    return sizes["token"]


def _texts(stored: dict[str, np.ndarray]) -> list["xr.Dataset"]:
    if "meta" not in stored:
        raise InputError("the array 'meta' (a JSON text) is missing")
    attrs = parse_json(str(stored["meta"]), "meta")
    if not isinstance(attrs, dict):
        raise InputError("meta must be a JSON object")
    prefixes = {name.partition("/")[0] for name in stored if name != "meta"}
    if not all(prefix.isdecimal() for prefix in prefixes):
        raise InputError("texts must be numbered 0/, 1/, ...")
    numbers = sorted(int(prefix) for prefix in prefixes)
    if not numbers or numbers != list(range(len(numbers))):
        raise InputError("texts must be numbered 0/, 1/, ...")
    return [_text(stored, f"{i}/", attrs) for i in numbers]


def _text(stored: dict[str, np.ndarray], prefix: str, attrs: dict[str, Any]) -> "xr.Dataset":
    arrays = {name.removeprefix(prefix): value for name, value in stored.items() if name.startswith(prefix)}
    tokens = [str(token) for token in arrays.pop("text")] if "text" in arrays else None
    labels: dict[str, tuple[str, Sequence[Any]]] = {
        name: (dim, arrays.pop(name).tolist()) for name, dim in LABELS.items() if name in arrays
    }
    try:
        text = dataset(arrays, tokens=tokens, attrs=attrs, labels=labels)
    except InputError as error:
        raise InputError(f"text {prefix[:-1]}: {error}") from error
    if "attention" not in text:
        return text
    weights = text["attention"].astype(np.float64)
    total = weights.sum("key", skipna=False)
    # Of a row that a sink has part in, only what it has too much is rounding.
    return text.assign(attention=weights / (np.maximum(total, 1.0) if attrs.get("sinks") else total))


def _compact(text: "xr.Dataset") -> dict[str, np.ndarray]:
    """Return the arrays of one text as they are stored."""
    arrays = {str(name): text[name].to_numpy() for name in text.data_vars}
    halved = ("attention", "attention_out", "mlp_out")
    stored: dict[str, np.ndarray] = {name: _half(arrays[name]) for name in halved if name in arrays}
    summed = {"state", "attention_out", "mlp_out"} <= arrays.keys() and "carried" not in arrays
    if text.attrs.get("norm") == "pre" and summed:
        stored["embedding"] = arrays["state"][0].astype(np.float32)
    else:
        stored |= {name: _half(value) for name, value in arrays.items() if name not in halved}
    stored |= {name: text[name].to_numpy() for name in LABELS if name in text.coords}
    if "text" in text.coords:
        stored["text"] = text["text"].to_numpy().astype(str)
    return stored


def _half(value: np.ndarray) -> np.ndarray:
    """Return x in float16, or in float32 where massive activations are, with all ordinary numbers rounded to float16.

    Rounding 2e4 to float16 errs by 8, which a later layer that takes the activation back would leave in the stream.
    The zeros that the rounding leaves in a float32 compress away.
    """
    small = np.abs(value) < _MASSIVE
    if small.all():
        return value.astype(np.float16)
    rounded = np.where(small, value, 0.0).astype(np.float16).astype(np.float32)
    return np.where(small, rounded, value.astype(np.float32))
