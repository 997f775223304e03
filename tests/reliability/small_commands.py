"""Every command at the smallest size that still writes all of its files, and a process forked after all imports for it.

A process that is forked costs a hundredth of one that is started: thousands of runs are affordable. It has an address
space of its own limit, so that what an input makes it allocate is bounded and measured.
"""

import io
import os
import resource
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

WORDS = [f"w{i}" for i in range(40)]
_SPACE = 3 << 30  # bytes that a process may have beyond those that it is born with


class Ended(NamedTuple):
    """How a command ended: exit code (negative: the signal), what it said, and what it took."""

    code: int
    stdout: str
    stderr: str
    seconds: float
    megabytes: float  # largest resident size


def make_stage(folder: Path) -> None:
    """model/ (a Llama of two layers with its tokenizer), text.txt, signals.npz, a.nc, loop.toml, plan.toml, images/."""
    import torch
    import transformers
    from PIL import Image
    from tokenizers import Tokenizer, models, pre_tokenizers

    from ctrlattn import checkpoints, config, presets, results, signals, simulate

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate([*WORDS, "?"])}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=41, **sizes, initializer_range=0.2, eos_token_id=None)
        )
    model.save_pretrained(folder / "model")
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="?").save_pretrained(folder / "model")
    rows = [" ".join(WORDS[(7 * row + 3 * k + int(rng.integers(2))) % 40] for k in range(20)) for row in range(60)]
    (folder / "text.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    checkpoint = checkpoints.load(str(folder / "model"))
    texts = [checkpoints.tap(checkpoint, " ".join(WORDS[i : i + 6])) for i in (0, 9)]
    signals.save(folder / "signals.npz", texts)
    results.save(folder / "a.nc", results.to_xarray(simulate(presets.get("neutreno"), rng.normal(size=(4, 3)), 3)))
    loop = config.dumps(presets.get("pidformer-ema"), config.Simulation(layers=2, tokens=3, features=4))
    (folder / "loop.toml").write_text(loop, encoding="utf-8")
    for kind in ("a", "b"):
        for i in range(10):
            path = folder / "images" / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8)).save(path)
    shutil.copy(folder / "a.nc", folder / "b.nc")
    shutil.copy(Path(__file__).parents[2] / "simulations" / "configs" / "train_digits.toml", folder / "plan.toml")
    for arguments in (commands(folder, folder / "observed")["observe"], train_on_images(folder)):
        said = folder / "said"
        ended = finish(start(arguments, said), said, 300.0)
        assert ended.code == 0, ended.stderr


def train_on_images(stage: Path) -> list[str]:
    """One run on images/ of a stage, under trained/."""
    sizes = ["--epochs", "1", "--depth", "1", "--width", "6", "--batch", "16", "--patch", "2", "--image", "4"]
    run = ["--seeds", "1", "--configs", "softmax", "--device", "cpu", "--out", str(stage / "trained")]
    return ["train", "--data", str(stage / "images"), *sizes, *run]


def commands(stage: Path, out: Path) -> dict[str, list[str]]:
    """The arguments of every command that writes, with `out` as its place."""
    model, text = str(stage / "model"), str(stage / "text.txt")
    runs = ["--epochs", "1", "--depth", "1", "--width", "6", "--batch", "256", "--seeds", "2", "--configs", "softmax"]
    return {
        "simulate": ["simulate", "neutreno", "--layers", "6", "--out", str(out / "run.nc")],
        "report": ["report", "--signals", str(stage / "signals.npz"), "-p", "neutreno", "--out", str(out)],
        "analyze": ["analyze", model, "--text", text, "--tokens", "12", "--out", str(out)],
        "drop": [
            "drop", model, "--text", text, "--attention", "1", "--tokens", "240", "--window", "12", "--out", str(out),
        ],
        "observe": [
            "observe", model, "--text", text, "--layer", "1", "--features", "8", "--k", "2", "--tokens", "800",
            "--context", "10", "--held-out", "2", "--out", str(out),
        ],
        "loop": [
            "loop", model, "--text", text, "--layers", "0:1", "--passes", "2", "--tokens", "240", "--window", "12",
            "--out", str(out),
        ],
        "train": ["train", "digits", *runs, "--workers", "1", "--out", str(out)],
    }  # fmt: skip


def sample(stage: Path, out: Path) -> dict[str, list[str]]:
    """The same on less, for tests: three parts of `analyze`, small spans of `loop`, and images in place of digits."""
    made = commands(stage, out)
    made["analyze"] += ["--parts", "feedback", "--parts", "heads", "--parts", "sinks"]
    made["loop"] += ["--window", "6", "--tokens", "120"]
    made["train"] = [*train_on_images(stage), "--seeds", "2", "--workers", "1", "--out", str(out)]
    return made


def start(work: list[str] | Callable[[], None], said: Path, before: Callable[[], None] = lambda: None) -> int:
    """Run `ctrlattn` with these arguments, or a function as if it were a command, in a process of its own; its number.

    What it says goes to two files.
    """
    for suffix in (".out", ".err"):  # a kill may come before the process has opened them
        Path(f"{said}{suffix}").write_bytes(b"")
    number = os.fork()
    if number:
        return number
    code = 70
    try:
        os.setsid()
        # Forks share the lock of progress bars: one that was killed with it left the tests waiting for ever.
        tqdm.set_lock(threading.RLock())
        for stream, suffix in ((1, ".out"), (2, ".err")):
            os.dup2(os.open(f"{said}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", line_buffering=True)
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8", line_buffering=True)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # `nohup` and a job in the background ignore some
            signal.signal(each, signal.SIG_DFL)
        _no_bars_of_transformers()
        _one_thread()
        before()
        code = _main(work) if isinstance(work, list) else _call(work)
    finally:
        os._exit(code)
    return 0


def _no_bars_of_transformers() -> None:
    """What the command line asks before it imports transformers, which another test may have imported long ago.

    A bar of it took the line of a message, and its lock, which forks share, left a command waiting for ever.
    """
    if "transformers" in sys.modules:
        sys.modules["transformers"].utils.logging.disable_progress_bar()


def _one_thread() -> None:
    """A fork has none of the threads of a pool and may wait for them for ever; 64 new ones reserve gigabytes."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with suppress(ImportError):
        import threadpoolctl

        threadpoolctl.threadpool_limits(1)


def _main(arguments: list[str]) -> int:
    from ctrlattn.cli import main

    sys.argv = ["ctrlattn", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def finish(number: int, said: Path, seconds: float) -> Ended:
    """Wait for a process of `start`; after so many seconds it is killed, and its code is that of SIGKILL."""
    begin = time.monotonic()
    while True:
        pid, status, use = os.wait4(number, os.WNOHANG)
        if pid:
            break
        if time.monotonic() - begin > seconds:
            os.kill(number, signal.SIGKILL)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    out, err = (Path(f"{said}{suffix}").read_text(encoding="utf-8", errors="replace") for suffix in (".out", ".err"))
    return Ended(code, out, err, time.monotonic() - begin, use.ru_maxrss / 1024)


def wait_for(fact: Callable[[], object], seconds: float = 120.0, pause: float = 0.005) -> None:
    """Return once something is true, which is looked at again after each pause."""
    end = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(pause)


def group_lives(number: int) -> bool:
    """Whether a process of a group is left. One that has ended counts no more: not every system waits for orphans."""
    if not Path("/proc/self/stat").exists():
        try:
            os.killpg(number, 0)
        except ProcessLookupError:
            return False
        return True
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it may end between the listing and the reading
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[2]) == number and fields[0] not in "ZX":
                return True
    return False


def limit_space() -> None:
    """Whatever the process allocates beyond 3 GiB raises MemoryError."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + _SPACE
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def prepare() -> None:
    """Import here, once, what commands import when they run, and let figures be empty: layout and drawing are dear.

    A picture is still written in the same way, whole or not at all.
    """
    from ctrlattn.cli.terminal import quiet_libraries

    quiet_libraries()
    import blake3  # noqa: F401
    import control  # noqa: F401
    import scipy.stats  # noqa: F401
    from matplotlib.figure import Figure

    import ctrlattn.checkpoints.measure.loop_study
    import ctrlattn.checkpoints.measure.profile
    import ctrlattn.checkpoints.reduce.reduction
    import ctrlattn.kernels.boundary
    import ctrlattn.kernels.shifted
    import ctrlattn.looped
    import ctrlattn.nn.experiment.comparison
    import ctrlattn.nn.experiment.table
    import ctrlattn.observers.study
    import ctrlattn.plots.training
    import ctrlattn.report.pages.checkpoint.page
    import ctrlattn.report.pages.loops.page
    import ctrlattn.report.pages.observer
    import ctrlattn.report.pages.reduction
    import ctrlattn.report.pages.repeated
    import ctrlattn.signals  # noqa: F401
    from ctrlattn.plots import layout

    layout._SOLUTIONS = 0
    Figure.savefig = _savefig  # type: ignore[method-assign]


def _savefig(figure: Any, path: Any, **options: Any) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"></svg>'
    if isinstance(path, io.TextIOBase):  # a page keeps its figures as text
        path.write(svg)
        return
    kind = options.get("format") or str(path)
    whole = b"\x89PNG\r\n\x1a\nIEND\xaeB`\x82" if kind.endswith("png") else svg.encode()
    if hasattr(path, "write"):
        path.write(whole)
    else:
        Path(path).write_bytes(whole)


def _call(work: Callable[[], None]) -> int:
    """A function ends as a command does."""
    import typer

    from ctrlattn.cli.terminal import one_line_errors, report_bug

    try:
        with one_line_errors():
            work()
    except typer.Exit as end:
        return end.exit_code
    except Exception as error:
        report_bug(error, ["--debug"])
        return 70
    return 0
