"""kill -9 at a random moment, then the same command again: its files are those of a run that nobody disturbed.

Half of the moments are uniform in time, half are a random event of the file system under the output: a file that is
opened, made, renamed, or removed. What two undisturbed runs write alike (bytes of a file, leaves of a JSON text) must
be the same after the second run; times that a command measures differ, and are not compared.
"""

import io
import json
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from small_commands import commands, finish, start

PATIENCE = 300.0  # seconds for an undisturbed run
SHARES = {"simulate": 12, "report": 8, "analyze": 20, "drop": 24, "observe": 24, "train": 12}  # of 100 kills
Commands = Callable[[Path, Path], dict[str, list[str]]]
_EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "tempfile.mkstemp"}


class Undisturbed(NamedTuple):
    """Two runs of a command that were left alone: their files, the time of one, and its number of file events."""

    files: dict[str, bytes]
    other: dict[str, bytes]
    seconds: float
    events: int


class Kill(NamedTuple):
    """One kill: when, whether it struck before the end, and what is wrong after the second run."""

    command: str
    moment: str
    struck: bool
    faults: tuple[str, ...]


def files_of(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


def undisturbed(name: str, stage: Path, work: Path, made: Commands = commands) -> Undisturbed:
    """The files of two runs, each in a folder of its own, and the time and events of the second."""
    files, seconds = [], 0.0
    for i in range(2):
        out = work / f"{name}-undisturbed-{i}" / "out"
        out.mkdir(parents=True)
        counter = out.parent / "events"
        ended = _run(made(stage, out)[name], out.parent / "said", before=lambda c=counter, o=out: _count(o, c))
        if ended.code:
            raise RuntimeError(f"{name}: {ended.code}: {ended.stderr}")
        files.append(files_of(out))
        seconds = ended.seconds
    return Undisturbed(*files, seconds, len(counter.read_bytes()))


def kill(name: str, stage: Path, work: Path, alone: Undisturbed, seed: int, made: Commands = commands) -> Kill:
    """Kill one run, look at what it left, run it again, and compare."""
    draw = random.Random(f"{name} {seed}")
    out = work / f"{name}-{seed}" / "out"
    out.mkdir(parents=True)
    said, arguments = out.parent / "said", made(stage, out)[name]
    if seed % 2:
        event = draw.randrange(1, alone.events + 1)
        moment = f"file event {event} of {alone.events}"
        ended = _run(arguments, said, before=lambda: _die_at(out, event))
    else:
        seconds = draw.uniform(0, alone.seconds)
        moment = f"{seconds:.3f} s of {alone.seconds:.3f}"
        number = start(arguments, said)
        time.sleep(seconds)
        os.kill(number, signal.SIGKILL)
        ended = finish(number, said, PATIENCE)
    struck = ended.code == -signal.SIGKILL
    faults = [f"left damaged: {path}" for path in damaged(out)]
    again = _run(arguments, said)
    if again.code:
        faults.append(f"the second run ends with {again.code}: {again.stderr.strip().splitlines()[-1:]}")
    else:
        faults += differences(files_of(out), alone)
    faults += [f"left over: {path.name}" for path in out.rglob(".*") if ".part" in path.name or "lock" in path.name]
    return Kill(name, moment, struck, tuple(faults))


def differences(files: dict[str, bytes], alone: Undisturbed) -> list[str]:
    """Files that are missing, too many, or other than those that both undisturbed runs wrote alike."""
    faults = [f"missing: {path}" for path in alone.files.keys() - files.keys()]
    faults += [f"too many: {path}" for path in files.keys() - alone.files.keys()]
    for path in alone.files.keys() & alone.other.keys() & files.keys():
        a, b, now = (_without_cost(path, text) for text in (alone.files[path], alone.other[path], files[path]))
        if a == b and now != a:
            faults.append(f"other content: {path}")
        elif a != b and path.endswith(".json"):
            first, second, third = (dict(_leaves(json.loads(text))) for text in (a, b, now))
            same = {key for key in first.keys() & second.keys() if first[key] == second[key]}
            faults += [f"other content: {path}: {key}" for key in sorted(same) if third.get(key) != first[key]]
    return faults


def damaged(out: Path) -> list[str]:
    """Files under a final name that are not whole; what is hidden or a temporary is no such file."""
    names = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return [path.relative_to(out).as_posix() for path in names if not is_whole(path)]


def is_whole(path: Path) -> bool:
    """Whether a file can be read to its end by the library of its format."""
    from safetensors import SafetensorError, safe_open

    from ctrlattn import InputError, results

    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".nc":
            results.load(path)
        elif path.suffix == ".safetensors":
            with safe_open(path, "pt") as opened:
                opened.keys()
        elif path.suffix == ".png":
            return path.read_bytes().endswith(b"IEND\xaeB`\x82")
        elif path.suffix in (".html", ".svg"):
            return path.read_text(encoding="utf-8").rstrip().endswith(f"</{path.suffix[1:]}>")
    except (ValueError, InputError, SafetensorError):
        return False
    return True


def _run(arguments: list[str], said: Path, before: Callable[[], None] = lambda: None) -> Any:
    return finish(start(arguments, said, before), said, PATIENCE)


def _watch(out: Path, act: Callable[[], None]) -> None:
    """Call `act` at each event of the file system under `out`."""
    place = str(out.parent / "out")

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _EVENTS and arguments and str(arguments[0]).startswith(place):
            act()

    sys.addaudithook(hook)


def _count(out: Path, counter: Path) -> None:
    handle = os.open(counter, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _watch(out, lambda: os.write(handle, b"."))


def _die_at(out: Path, event: int) -> None:
    left = [event]

    def act() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    _watch(out, act)


def _without_cost(path: str, content: bytes) -> bytes:
    """The content without the second in which a run was made, and without what `analyze` says of its cost.

    Two undisturbed runs may lie in one second, and a pass that parts share is done, and counted, once more. Of a netCDF
    file these are the variables and no attributes.
    """
    import xarray as xr

    if path.endswith(".nc"):
        with xr.load_dataset(io.BytesIO(content), engine="h5netcdf") as whole:
            return repr([(name, each.dims, _bytes_of(each.values)) for name, each in whole.variables.items()]).encode()
    if path.endswith(".json"):
        tree = json.loads(content)
        if isinstance(tree, dict):
            tree.pop("cost", None)
            if isinstance(tree.get("run"), dict):
                tree["run"].pop("time", None)
        return json.dumps(tree).encode()
    return re.sub(rb"<strong>Cost in forward passes.*", b"", content) if path.endswith(".html") else content


def _bytes_of(values: Any) -> bytes:
    """The content of an array; of texts the array itself holds addresses alone."""
    return repr(values.tolist()).encode() if values.dtype.kind == "O" else values.tobytes()


def _leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in _leaves(each, f"{path}.{key}")]
    if isinstance(value, list):
        return [leaf for i, each in enumerate(value) for leaf in _leaves(each, f"{path}[{i}]")]
    return [(path, repr(value))]
