"""file -> run: a run with the same settings and data is read from its file, any other is trained and written."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.identity import digest
from ctrlattn.nn.experiment import data_parallel
from ctrlattn.nn.experiment.data import Data, Examples
from ctrlattn.nn.experiment.image_folders import Images
from ctrlattn.nn.experiment.settings import RunSettings, identity_of
from ctrlattn.nn.experiment.training import train
from ctrlattn.parsing import read_json
from ctrlattn.progress import Progress, silent
from ctrlattn.provenance import provenance
from ctrlattn.results import json_ready

_RECORD = "run"  # what made the file
_DIGEST = "sha256"  # of everything else in the file of a run: the same work has the same


def resumed(
    runs: Path,
    weights: Path,
    settings: RunSettings,
    data: Data,
    progress: Progress = silent,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Read the run from its file if that has the same settings; otherwise train it and write it there."""
    identity = _identity(settings, data)
    name = f"{data.name}_{Path(settings.arm).stem}_{settings.seed}"
    earlier = _read(runs / f"{name}.json", progress)
    if earlier and not _same(earlier, identity):
        name_of_other, name = name, f"{name}_{digest(identity)[:8]}"
        progress(f"{name_of_other}.json is a run of other data or settings: this one is {name}.json", 0, 1)
        earlier = _read(runs / f"{name}.json", progress)
    file = runs / f"{name}.json"
    same = _same(earlier, identity)
    if data_parallel.agreed(same, torch.device("cpu") if device is None else device):
        return earlier
    trained = train(settings, data, weights=weights / f"{name}.safetensors", progress=progress, device=device)
    if data_parallel.rank() > 0:
        return {}
    return _write(file, identity, trained)


def stored(
    runs: Path, name: str, identity: dict[str, Any], make: Callable[[], dict[str, Any]], progress: Progress = silent
) -> dict[str, Any]:
    """Read the work `make()` of this name and identity from its file under `runs`, or do it and write it there.

    The file of a name that has another identity stays as it is; this one is then named by its digest as well.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> [stored(folder, "a", {"size": size}, lambda s=size: {"twice": 2 * s})["twice"] for size in (1, 2, 1)]
    [2, 4, 2]
    >>> len(list(folder.iterdir()))
    2
    """
    identity = json_ready(identity)
    earlier = _read(runs / f"{name}.json", progress)
    if earlier and earlier.get("settings") != identity:
        name = f"{name}_{digest(identity)[:8]}"
        earlier = _read(runs / f"{name}.json", progress)
    if earlier and earlier.get("settings") == identity:
        return earlier
    return _write(runs / f"{name}.json", identity, make())


def _write(file: Path, identity: dict[str, Any], work: dict[str, Any]) -> dict[str, Any]:
    run = json_ready({"settings": identity, **work})
    run |= {_DIGEST: digest(run), _RECORD: provenance()}
    with atomic(file) as path:
        path.write_text(json.dumps(run, allow_nan=False), encoding="utf-8")
    return run


def _read(file: Path, progress: Progress) -> dict[str, Any]:
    """Read the run as it was written; it is empty where there is none, or where a byte of it has changed since."""
    if not file.exists():
        return {}
    try:
        run = read_json(file)
        content = {key: run[key] for key in run if key not in (_DIGEST, _RECORD)} if isinstance(run, dict) else None
        if content is not None and run.get(_DIGEST) in (None, digest(content)):  # earlier versions wrote no digest
            return run
    except InputError:
        pass
    progress(f"{file.name} is damaged: it is trained again", 0, 1)
    return {}


def _same(earlier: dict[str, Any], identity: dict[str, Any]) -> bool:
    """Tell whether the settings are the same; one that an earlier version did not have had the default of now."""
    defaults = asdict(RunSettings("", 0))
    return {**defaults, **earlier.get("settings", {})} == {**defaults, **identity}


def _content(part: Examples) -> str:
    """Return the digest of the bytes of every image, and of the labels."""
    return digest(part.inputs.content, part.targets)


def _identity(settings: RunSettings, data: Data) -> dict[str, Any]:
    """Return all that decides the numbers of a run: its settings, the data, and the file of an arm that has one."""
    identity = {**identity_of(settings), "data": data.name, "torch": str(torch.__version__)}
    if settings.arm.endswith(".toml"):
        identity["loop"] = Path(settings.arm).read_text(encoding="utf-8")
    if isinstance(data.train.inputs, Images):
        identity["images"] = [_content(part) for part in (data.train, data.valid, data.test)]
    return identity
