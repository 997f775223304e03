"""A file that is changed at random is read: a result, or one line with exit code 2, in bounded time and memory.

Bytes are flipped, cut, doubled and blanked. Texts get words of other kinds, numbers without measure and nesting without
end. Headers of safetensors and PNG are changed with lengths and checksums that fit. Seed and index decide everything.
"""

import json
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from small_commands import WORDS, Ended, finish, limit_space, start, train_on_images

SECONDS, MEGABYTES = 60.0, 2_000  # for one input beyond what the process is born with: generous, a machine may be busy
RESULT, REFUSED = "result", "refused"
BUG, WORDY, CRASH, SLOW, LARGE = "bug", "more than one line", "crash", "too slow", "too large"
BAD = (BUG, WORDY, CRASH, SLOW, LARGE)
VERDICTS = (RESULT, REFUSED, *BAD)
PROGRESS = re.compile(r"ctrlattn(: loading| \[)|^\s*$")


class Kind(NamedTuple):
    """A format: the file of the stage that is changed, how, and what reads the changed stage."""

    file: str
    change: Callable[[bytes, random.Random], tuple[bytes, str]]
    read: Callable[[Path], Any]


class Tried(NamedTuple):
    """One input and what came of it."""

    index: int
    kind: str
    change: str
    verdict: str
    said: str
    seconds: float
    megabytes: float


def tried(index: int, seed: int, stage: Path, work: Path) -> Tried:
    """Change a copy of the stage's file of a kind, and read it in a process of its own."""
    name = list(KINDS)[index % len(KINDS)]
    kind, draw = KINDS[name], random.Random(f"{seed} {index}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    for path in stage.iterdir():
        if path.name == Path(kind.file).parts[0]:
            (shutil.copytree if path.is_dir() else shutil.copy)(path, work / path.name)
        else:
            (work / path.name).symlink_to(path)
    content, change = kind.change((stage / kind.file).read_bytes(), draw)
    (work / kind.file).write_bytes(content)
    said = work / "said"
    ended = finish(start(kind.read(work), said, limit_space), said, SECONDS)
    return Tried(index, name, change, *judged(ended), round(ended.seconds, 2), ended.megabytes)


def judged(ended: Ended) -> tuple[str, str]:
    """The verdict, and the last words where it is bad."""
    lines = [line for line in ended.stderr.splitlines() if not PROGRESS.match(line)]
    last = lines[-1][:300] if lines else ""
    if ended.seconds >= SECONDS:
        return SLOW, last
    if ended.megabytes > MEGABYTES:
        return LARGE, last
    if ended.code < 0 or ended.code not in (0, 1, 2, 70):
        return CRASH, f"{ended.code} {last}"
    if ended.code == 70:
        return BUG, next((line for line in lines if "bug of" in line), last)[:300]
    if ended.code == 2 and (len(lines) != 1 or not last.startswith("ctrlattn: ") or not last.isprintable()):
        return WORDY, " / ".join(lines)[:300]
    return (REFUSED if ended.code == 2 else RESULT), ""


def bytes_changed(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """One to three changes of bytes anywhere, the first kilobyte as likely as the rest."""
    words = []
    for _ in range(draw.randint(1, 3)):
        end = min(len(content), 1024) if draw.random() < 0.5 else len(content)
        at, length = draw.randrange(max(end, 1)), draw.choice([1, 4, 64, 1024])
        part = content[at : at + length]
        how = draw.choice(["flip", "cut", "end", "double", "blank", "noise", "ones"])
        new = {
            "flip": bytes([part[0] ^ (1 << draw.randrange(8))]) + part[1:] if part else b"",
            "cut": b"",
            "double": part + part,
            "blank": bytes(len(part)),
            "noise": draw.randbytes(len(part)),
            "ones": b"\xff" * len(part),
        }.get(how, b"")
        content = content[:at] if how == "end" else content[:at] + new + content[at + length :]
        words.append(f"{how} {length} at {at}")
    return content, ", ".join(words)


_TOKENS = [
    b"null", b"true", b"-1", b"0", b"1e999", b"NaN", b"1" * 400, b"10000000000000000000000", b'""', b"[]", b"{}",
    b"[" * 5000, b'{"a":' * 3000, b'"\\ud800"', b'"\x1b[31m"', b'"../../etc"', b"1000000000", b"0.1", b"[1, 2]",
    b'"w1"', b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r\n", b"'", b'"""', b"\xf0\x9f\x98\x80", b"a" * 100_000,
]  # fmt: skip


def text_changed(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """A word, number, text or bracket becomes another token; or bytes change."""
    if draw.random() < 0.25:
        return bytes_changed(content, draw)
    words = []
    for _ in range(draw.randint(1, 2)):
        places = list(re.finditer(rb'"[^"\n]*"|-?\d[\d.e+-]*|\w+|[\[\]{}=,:\n]', content))
        place, token = draw.choice(places), draw.choice(_TOKENS)
        words.append(f"{place[0][:30]!r} at {place.start()} -> {token[:30]!r}")
        content = content[: place.start()] + token + content[place.end() :]
    return content, ", ".join(words)


def json_changed(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """A value of a JSON text becomes one of another kind or measure; or the text changes as any text."""
    if draw.random() < 0.3:
        return text_changed(content, draw)
    tree = json.loads(content)
    change = _value_changed(tree, draw)
    return json.dumps(tree).encode(), change


def _value_changed(tree: Any, draw: random.Random) -> str:
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            walk(node[key])

    walk(tree)
    node, key = draw.choice(places)
    old = node[key]
    numbers = [0, -1, 1, 2, 3, 10**6, 10**9, 2**63, 1e308, -0.5, float("nan"), float("inf")]
    others: list[Any] = [None, True, "", "x" * 300, [], {}, [old], {"a": old}, "../x", "\x1b[31m", *numbers]
    new = draw.choice(numbers if isinstance(old, int | float) and draw.random() < 0.6 else others)
    if draw.random() < 0.1 and isinstance(node, dict):
        del node[key]
        return f"{key!r} is gone"
    node[key] = new
    return f"{key!r}: {str(old)[:30]!r} -> {str(new)[:30]!r}"


def safetensors_changed(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """The header of a safetensors file changes and its length fits; or bytes change."""
    if draw.random() < 0.4:
        return bytes_changed(content, draw)
    length = struct.unpack("<Q", content[:8])[0]
    header, change = json_changed(content[8 : 8 + length], draw)
    size = len(header) if draw.random() < 0.9 else draw.choice([0, 2**40, 2**64 - 1, length + 8])
    return struct.pack("<Q", size) + header + content[8 + length :], f"header of {size}: {change}"


def png_changed(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Width, height, depth, colour or interlacing changes with a checksum that fits; or bytes change."""
    if draw.random() < 0.4:
        return bytes_changed(content, draw)
    header = bytearray(content[16:29])
    field = draw.choice(["width", "height", "both", "depth", "colour", "interlace"])
    size = draw.choice([0, 1, 7, 9, 4000, 60_000, 2**31 - 1])
    if field in ("width", "both"):
        header[0:4] = struct.pack(">I", size)
    if field in ("height", "both"):
        header[4:8] = struct.pack(">I", size)
    if field in ("depth", "colour", "interlace"):
        size = draw.randrange(256)
        header[{"depth": 8, "colour": 9, "interlace": 12}[field]] = size
    sum_ = struct.pack(">I", zlib.crc32(b"IHDR" + bytes(header)))
    return content[:16] + bytes(header) + sum_ + content[33:], f"{field} {size}"


def _npz(stage: Path) -> Any:
    def job() -> None:
        from ctrlattn import signals

        signals.load(stage / "signals.npz")

    return job


def _network(stage: Path) -> Any:
    def job() -> None:
        from ctrlattn import checkpoints

        checkpoint = checkpoints.load(str(stage / "model"))
        if checkpoint.tokenizer is not None:
            checkpoints.tap(checkpoint, " ".join(WORDS[:6]))

    return job


def _plan(stage: Path) -> Any:
    def job() -> None:
        from ctrlattn.nn.experiment.plan import read_plan

        read_plan(stage / "plan.toml")

    return job


def _dictionary(stage: Path) -> Any:
    def job() -> None:
        from ctrlattn import observers

        observers.load(stage / "observed" / "dictionary.safetensors")

    return job


def _images(stage: Path) -> Any:
    def job() -> None:
        import numpy as np

        from ctrlattn.nn.experiment.image_folders import folder

        data = folder(stage / "images", 4)
        for part in (data.train, data.valid, data.test):
            part.inputs[np.arange(len(part.targets))]

    return job


def _text(stage: Path) -> Any:
    def job() -> None:
        from ctrlattn import checkpoints
        from ctrlattn.cli.terminal import text_of
        from ctrlattn.observers import SignalSource

        checkpoint = checkpoints.load(str(stage / "model"))
        text_of(str(stage / "text.txt"))
        SignalSource(checkpoint, stage / "text.txt", 1, ("state",), size=64, context=10).block(0)

    return job


KINDS = {
    "npz": Kind("signals.npz", bytes_changed, _npz),
    "netCDF": Kind("a.nc", bytes_changed, lambda stage: ["compare", str(stage / "a.nc"), str(stage / "b.nc")]),
    "TOML, loop": Kind("loop.toml", text_changed, lambda stage: ["simulate", str(stage / "loop.toml")]),
    "TOML, plan": Kind("plan.toml", text_changed, _plan),
    "JSON, config": Kind("model/config.json", json_changed, _network),
    "JSON, tokenizer": Kind("model/tokenizer.json", json_changed, _network),
    "JSON, run": Kind("trained/runs/images_softmax_0.json", json_changed, train_on_images),
    "safetensors, network": Kind("model/model.safetensors", safetensors_changed, _network),
    "safetensors, dictionary": Kind("observed/dictionary.safetensors", safetensors_changed, _dictionary),
    "text": Kind("text.txt", text_changed, _text),
    "PNG": Kind("images/a/0.png", png_changed, _images),
}
