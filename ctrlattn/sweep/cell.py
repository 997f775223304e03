"""tables + one value of each axis -> a cell: its loop, simulation, recorded modes and network, made when asked for."""

import json
import os
from collections.abc import Mapping
from copy import deepcopy
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ctrlattn import config, signals
from ctrlattn.config import Configuration
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, did_you_mean, require_known, require_whole, shown
from ctrlattn.files import utf8
from ctrlattn.loop import Loop

# The keys of the tables that a configuration of a loop does not have, with what holds where they are left out.
KEYS: dict[str, dict[str, Any]] = {
    "recording": {"source": "smollm2-135m", "layer": None, "head": None},
    "checkpoint": {"source": None, "text": None, "tokens": 2048, "window": 256, "device": "cpu", "dtype": "float32"},
    "span": {"first": None, "layers": 1, "passes": 1, "gain": None, "recall": 0.0},
}
TABLES = ("loop", "simulation", *KEYS)


class Cell:
    """One cell. Whatever an analysis asks of it is made once.

    Parameters
    ----------
    tables : table -> key -> value
        The tables of a sweep with the values of this cell in their places.

    Examples
    --------
    >>> Cell(tables_of({"loop": {"preset": "neutreno"}}, {"loop.controller.kp": 0.5})).loop.controller.kp
    0.5
    """

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self.tables = tables

    @cached_property
    def configuration(self) -> Configuration:
        """Loop and simulation, as a configuration file says them."""
        if "loop" not in self.tables:
            raise InputError("loop: this analysis needs a table [loop], such as one with a preset")
        return config.from_table({name: self.tables[name] for name in ("loop", "simulation") if name in self.tables})

    @property
    def loop(self) -> Loop:
        """Loop of the cell."""
        return self.configuration.loop

    @property
    def modes(self) -> np.ndarray:
        """Eigenvalues of the recorded attention, (m,)."""
        options = self.options("recording")
        return recorded_modes(str(options["source"]), options["layer"], options["head"])

    def loss(self) -> float:
        """Return the mean next-token loss of the cell's network on its text, in nats per token."""
        from ctrlattn import checkpoints

        options = self.options("checkpoint")
        network = _network(options["source"], options["device"], options["dtype"])
        windows = _windows(options["source"], options["text"], options["tokens"], options["window"])
        if "span" in self.tables:
            network = checkpoints.repeat(network, **self.repetition())
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the order of sums, and with it the last bit, depends on the number of threads
        try:
            return checkpoints.evaluate(network, windows).loss
        finally:
            torch.set_num_threads(threads)

    def repetition(self) -> dict[str, Any]:
        """Return what `checkpoints.repeat` takes."""
        span = self.options("span")
        first = require_whole("span.first", span["first"], least=0)
        last = first + require_whole("span.layers", span["layers"])
        law = None if span["gain"] is None else PID(span["gain"])
        return {"layers": (first, last), "passes": span["passes"], "controller": law, "recall": span["recall"]}

    def options(self, table: str) -> dict[str, Any]:
        """Return a table with the default where a key is left out; raise InputError where a missing key has none."""
        if table not in self.tables:
            raise InputError(f"{table}: this analysis needs a table [{table}]")
        options = {**KEYS[table], **self.tables[table]}
        required = {"checkpoint": ("source", "text"), "span": ("first",)}.get(table, ())
        for key in required:
            if options[key] is None:
                raise InputError(f"{table}.{key}: has to be given")
        return options


def tables_of(tables: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Put each value at its path in the tables. A preset is written out first, so that a value can replace a part.

    Raises
    ------
    InputError
        A path leads through something that is no table.
    """
    result = deepcopy(dict(tables))
    for path in sorted(values, key=lambda path: path != "loop.preset"):
        table = result.setdefault(path.split(".")[0], {})
        if path.startswith("loop.") and path.count(".") > 1 and "preset" in table:
            result["loop"] = deepcopy(_written_out(json.dumps(table, sort_keys=True)))
        _put(result, path, values[path])
    return result


@lru_cache(maxsize=64)
def _written_out(table: str) -> dict[str, Any]:
    return config.loop_to_dict(config.from_table({"loop": json.loads(table)}).loop)


def _put(tables: dict[str, Any], path: str, value: Any) -> None:
    *parents, key = path.split(".")
    table = tables
    for i, name in enumerate(parents):
        inner = table.setdefault(name, {})
        if isinstance(inner, str) and inner != "none":
            inner = table[name] = {"kind": inner}  # a bare name stands for a table
        if not isinstance(inner, dict):
            raise InputError(f"{path}: {'.'.join(parents[: i + 1])} is {shown(inner)}, which has no {key}")
        table = inner
    table[key] = value


def require_tables(tables: Mapping[str, Any]) -> None:
    """Raise InputError for a key that a table beside [loop] and [simulation] has not, or a value of another type."""
    for name, keys in KEYS.items():
        for key, value in tables.get(name, {}).items():
            if key not in keys:
                raise InputError(f"{name}.{key}: unknown key: {did_you_mean(key, keys)}")
            _require_value(f"{name}.{key}", key, value)


def _require_value(path: str, key: str, value: Any) -> None:
    if key == "dtype":
        require_known(path, value, ("float32", "float64"))
    elif key in ("source", "text", "device"):
        if not isinstance(value, str) or not value:
            raise InputError(f"{path}: must be a text, got {shown(value)}")
    elif key in ("gain", "recall"):
        if isinstance(value, bool | str):
            raise InputError(f"{path}: must be a number, got {shown(value)}")
    else:
        require_whole(path, value, least=0 if key in ("layer", "head", "first") else 1)


@lru_cache(maxsize=256)
def recorded_modes(source: str, layer: int | None, head: int | None) -> np.ndarray:
    """Return the eigenvalues of attention of a shipped recording or a file, of all layers and heads or of some.

    Raises
    ------
    InputError
        The recording is unknown, or does not have the layer or head.

    Examples
    --------
    >>> recorded_modes("minilm-l6", 0, 3).shape
    (37,)
    """
    from ctrlattn.stability import attention_spectrum

    spectra = []
    for text in recording(source):
        attention = text["attention"].to_numpy()
        for name, size, index in zip(("layer", "head"), attention.shape, (layer, head), strict=False):
            if index is not None:
                require_whole(f"recording.{name}", index, least=0, most=size - 1)
        selection = attention[slice(None) if layer is None else [layer]][:, slice(None) if head is None else [head]]
        matrices = selection.reshape(-1, *selection.shape[-2:])
        spectra.append(attention_spectrum(matrices[np.all(np.isfinite(matrices), axis=(-2, -1))]).ravel())
    modes = np.concatenate(spectra)
    if not len(modes):
        raise InputError(f"recording: layer {layer} of {source} has no attention matrix")
    modes.flags.writeable = False
    return modes


@lru_cache(maxsize=4)
def recording(source: str) -> Any:
    """Read the texts of a recording: a file, or a name that is shipped."""
    if os.path.isfile(source):
        return signals.load(source)
    return signals.load_shipped(require_known("recording", source, signals.shipped()))


@lru_cache(maxsize=8)
def description(source: str) -> Any:
    """Read what a checkpoint says of itself in its headers."""
    from ctrlattn.checkpoints.network.describe import describe

    return describe(source)


@lru_cache(maxsize=1)
def _network(source: str, device: str, dtype: str) -> Any:
    from ctrlattn import checkpoints

    return checkpoints.load(source, attention="sdpa", device=device, dtype=dtype)


@lru_cache(maxsize=4)
def _windows(source: str, text: str, tokens: int, window: int) -> list[list[int]]:
    from ctrlattn.checkpoints.network.text import token_ids

    ids = token_ids(description(source), words_of(text), most=tokens)
    count = len(ids) // window
    if not count:
        raise InputError(f"checkpoint.text: has {len(ids)} tokens, fewer than one window of {window}")
    return [ids[i * window : (i + 1) * window] for i in range(count)]


def words_of(text: str) -> str:
    """Return the content of a file of that name, or the text itself."""
    if not os.path.isfile(text):
        return text
    with utf8(text):
        return Path(text).read_text(encoding="utf-8").strip()
