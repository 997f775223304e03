"""System -> .m, .mat, .json and back: the doubles themselves, so that a round trip changes no digit."""

import io
import json
import os
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ctrlattn import __version__
from ctrlattn.errors import InputError, require_known, shown
from ctrlattn.exchange.mat import require_arrays
from ctrlattn.exchange.system import LoopPart, System, as_system, of_parts
from ctrlattn.files import atomic, utf8
from ctrlattn.parsing import parse_json

FORMAT = "ctrlattn system 1"
_WRITTEN, _READ = (".m", ".mat", ".json"), (".mat", ".json")
_NAMES = ("inputs", "outputs", "states")
# What scipy raises on damaged bytes; NotImplementedError is of the HDF5 files of MATLAB 7.3.
_DAMAGED = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error, zlib.error)


def save(
    path: str | os.PathLike[str], given: Any, *, a: complex | None = None, part: LoopPart = "closed", name: str = "G"
) -> System:
    """Write a system to a MATLAB and Octave script (.m), a .mat file or JSON, as the ending of the path says.

    The .mat and the script have A, B, C, D, dt, inputs, outputs and states. The script also makes G = ss(A, B, C, D,
    dt) with its names. Octave's ss takes no complex matrices; there the script leaves G out and keeps the matrices.

    Parameters
    ----------
    path : path
    given, a, part
        As for `as_system`: a system, a Loop with its eigenvalue, a Design, a controller.
    name : str
        Name of the system, and of its variable in the script.

    Returns
    -------
    System
        What was written.

    Raises
    ------
    InputError, InputTypeError
        As `as_system`; another ending; a name that MATLAB does not allow.
    OSError
        The directory does not exist or is not writable.

    Examples
    --------
    >>> import tempfile
    >>> from ctrlattn import presets
    >>> path = tempfile.mkdtemp() + "/mode.json"
    >>> written = save(path, presets.get("pidformer-ema"), a=0.5)
    >>> bool((load(path).A == written.A).all())
    True
    """
    kind = require_known("ending of a system file", Path(path).suffix, _WRITTEN)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,62}", name) or name in "ABCD":
        raise InputError(f"name {name!r} is no variable of MATLAB besides A, B, C and D")
    system = replace(as_system(given, a=a, part=part), name=name)
    content = {".m": _script, ".mat": _mat, ".json": _json}[kind](system)
    with atomic(path) as temporary:
        temporary.write_bytes(content)
    return system


def load(path: str | os.PathLike[str], *, name: str | None = None) -> System:
    """Read a system from JSON that `save` wrote, or from a .mat file of MATLAB, Octave or scipy.

    A .mat holds A, B, C, D, or num and den, or z, p and k, and dt (or Ts); as variables, or in a struct.

    Parameters
    ----------
    path : path
    name : str, optional
        The struct to read, where the file has several.

    Raises
    ------
    InputError
        The file is missing, damaged, of another kind, has no system, a continuous one, or an object of MATLAB, which
        MATLAB alone can read.

    Examples
    --------
    >>> load("no-such-file.mat")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no-such-file.mat: no such file
    """
    kind = require_known("ending of a system file", Path(path).suffix, _READ)
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        parts = _parts_of_mat(path, name) if kind == ".mat" else _parts_of_json(path)
        return of_parts(parts, str(parts.get("name", name or "G")))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _json(system: System) -> bytes:
    matrices = {key: _matrix_for_json(matrix) for key, matrix in zip("ABCD", system.matrices, strict=True)}
    names = {key: list(getattr(system, key)) for key in _NAMES}
    header = {"format": FORMAT, "ctrlattn": __version__, "name": system.name}
    return (json.dumps({**header, **matrices, "dt": system.dt, **names}, indent=1, ensure_ascii=False) + "\n").encode()


def _matrix_for_json(matrix: np.ndarray) -> Any:
    if not np.iscomplexobj(matrix):
        return {"shape": list(matrix.shape), "real": matrix.ravel().tolist()}
    return {"shape": list(matrix.shape), "real": matrix.real.ravel().tolist(), "imag": matrix.imag.ravel().tolist()}


def _parts_of_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    with utf8(path):
        parts = parse_json(Path(path).read_text(encoding="utf-8"), "a system")
    if not isinstance(parts, dict) or parts.get("format") != FORMAT:
        raise InputError(f"this is not a system that exchange.save wrote: format must be {FORMAT!r}")
    try:
        for key in "ABCD":
            entry = parts[key]
            values = np.array(entry["real"], dtype=float)
            if "imag" in entry:
                values = _complex(values, np.array(entry["imag"], dtype=float))
            parts[key] = values.reshape(entry["shape"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the matrix {key} is not a list of numbers with its shape: {error}") from error
    return parts


def _complex(real: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    z = np.empty(real.shape, dtype=complex)
    z.real, z.imag = real, imaginary
    return z


def _mat(system: System) -> bytes:
    from scipy.io import savemat

    matrices = dict(zip("ABCD", system.matrices, strict=True))
    names = {key: _cells(getattr(system, key)) for key in _NAMES}
    image = io.BytesIO()
    savemat(image, {**matrices, "dt": system.dt, **names, "name": system.name})
    return image.getvalue()


def _cells(texts: tuple[str, ...]) -> np.ndarray:
    cells = np.empty((1, len(texts)), dtype=object)
    cells[0, :] = texts
    return cells


def _parts_of_mat(path: str | os.PathLike[str], name: str | None) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatlabOpaque, MatReadError

    data = Path(path).read_bytes()
    require_arrays(data)
    try:
        variables = loadmat(io.BytesIO(data))
    except NotImplementedError as error:
        raise InputError("this is a MATLAB 7.3 file, which is HDF5: write it with save(..., '-v7')") from error
    except (*_DAMAGED, MatReadError) as error:
        raise InputError(f"this is not a .mat file that can be read: {shown(str(error))}") from error
    objects = [key for key, value in variables.items() if isinstance(value, MatlabOpaque)]
    values = {str(key): value for key, value in variables.items() if key and not str(key).startswith("__")}
    structs = {key: value for key, value in values.items() if getattr(value.dtype, "names", None) and value.size == 1}
    if name is not None and name in structs:
        values = _fields(structs[name])
    elif name is not None and name != "G":
        raise InputError(f"there is no struct {name!r}: it has {', '.join(values) or 'nothing'}")
    elif len(structs) == 1 and not any(key in values for key in ("A", "num", "z")):
        values = _fields(next(iter(structs.values())))
    if objects and not any(key in values for key in ("A", "num", "z")):
        raise InputError(
            "it holds an object of MATLAB, which MATLAB alone can read: write [A, B, C, D, Ts] = ssdata(G); "
            "save('G.mat', 'A', 'B', 'C', 'D', 'Ts', '-v7')"
        )
    return {key: _value(key, value) for key, value in values.items()}


def _fields(record: np.ndarray) -> dict[str, Any]:
    return {key: record[key].flat[0] for key in record.dtype.names or ()}


def _value(key: str, value: Any) -> Any:
    """Return a variable of the file as `of_parts` takes it: names are texts, polynomials lists, matrices stay."""
    if key in _NAMES:
        return ["".join(map(str, np.ravel(cell))) for cell in np.asarray(value).flat]
    if key == "name":
        return "".join(map(str, np.ravel(value)))
    if key in ("num", "den"):
        if value.dtype == object:
            return [[np.ravel(cell) for cell in row] for row in value]
        return value.ravel()
    return value


def _script(system: System) -> bytes:
    """Return assignments with 17 digits, which read back as the same doubles."""
    name = system.name
    lines = [
        f"% {name}: x' = A x + B u, y = C x + D u; written by ctrlattn {__version__} for MATLAB and GNU Octave.",
        *(f"{key} = {_literal(matrix)};" for key, matrix in zip("ABCD", system.matrices, strict=True)),
        f"dt = {system.dt!r};",
        *(f"{key} = {{{', '.join(_quote(text) for text in getattr(system, key))}}};" for key in _NAMES),
        "if exist('OCTAVE_VERSION', 'builtin'), pkg load control, end",
    ]
    make = f"{name} = ss(A, B, C, D, dt); set({name}, 'inname', inputs, 'outname', outputs);"
    matlab = f"{name} = ss(A, B, C, D, dt, 'InputName', inputs, 'OutputName', outputs);"
    octave = (
        "disp('ss of Octave takes real matrices alone: A, B, C, D stay as they are');" if system.is_complex else make
    )
    lines += ["if exist('OCTAVE_VERSION', 'builtin')", f"  {octave}", "else", f"  {matlab}", "end"]
    return ("\n".join(lines) + "\n").encode()


def _literal(matrix: np.ndarray) -> str:
    if not matrix.size:
        return f"zeros({matrix.shape[0]}, {matrix.shape[1]})"
    return "[" + ";\n     ".join(", ".join(_number(x) for x in row) for row in matrix) + "]"


def _number(x: Any) -> str:
    if isinstance(x, complex | np.complexfloating):
        return f"complex({float(x.real)!r}, {float(x.imag)!r})"
    return repr(float(x))


def _quote(text: str) -> str:
    return "'" + " ".join(text.split()).replace("'", "''") + "'"
