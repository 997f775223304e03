"""A comparison in one process, in several, killed, and through the command."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.testing as npt
import pytest
import small_commands
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from ctrlattn import PID, InputError, config  # noqa: E402
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.files import visible  # noqa: E402
from ctrlattn.identity import digest  # noqa: E402
from ctrlattn.nn.experiment import comparison  # noqa: E402
from ctrlattn.nn.experiment.comparison import compare  # noqa: E402
from ctrlattn.nn.experiment.image_folders import folder  # noqa: E402
from ctrlattn.nn.experiment.plan import plan_of  # noqa: E402
from ctrlattn.nn.experiment.training import train  # noqa: E402
from ctrlattn.provenance import versions  # noqa: E402

SMALL = {"epochs": 2, "depth": 2, "dim": 8, "heads": 2, "batch": 16}

PLAN = Path(__file__).parents[3] / "simulations" / "configs" / "train_digits.toml"


@pytest.fixture
def pictures(tmp_path):
    """A directory of 20 images of two kinds: processes read it in less time than the digits of scikit-learn."""
    image, rng = pytest.importorskip("PIL.Image"), np.random.default_rng(0)
    for kind in ("a", "b"):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for k in range(10):
            pixels = rng.integers(256, size=(8, 8, 3), dtype=np.uint8)
            image.fromarray(pixels).save(tmp_path / "images" / kind / f"{k}.png")
    return tmp_path / "images"


SIZES = {"epochs": 1, "depth": 1, "dim": 6, "batch": 16, "patch": 2, "image": 4}  # of the commands on `pictures`


def command_on(images, out, **options):
    """The arguments of `train` on a directory of images, with two workers."""
    sizes = {**SIZES, **options}
    sizes["width"] = sizes.pop("dim")
    given = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    run = ["--configs", "softmax", "--workers", "2", "--device", "cpu", "--out", str(out)]
    return ["train", "--data", str(images), *given, *run]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports")
def test_processes_find_what_one_process_finds(tmp_path, pictures, monkeypatch):
    """Processes that are spawned, as commands do, find it in the next test; each imports torch."""
    asked = []
    monkeypatch.setattr(comparison, "get_context", lambda kind: asked.append(kind) or get_context("fork"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    plan = plan_of(str(pictures), arms=("softmax", "neutreno"), seeds=(0,), settings={**SMALL, "epochs": 1, "patch": 2,
        "image": 4})  # fmt: skip
    seen = []
    try:
        alone = compare(plan, tmp_path / "alone")
    finally:
        torch.set_num_threads(threads)
    shared = compare(plan, tmp_path / "shared", lambda *step: seen.append(step), workers=2)
    made = [one.pop("run") for one in (alone, shared)]
    assert (shared, asked) == (alone, ["spawn"])
    assert [run["plan_sha256"] for run in made] == [digest(alone["plan"])] * 2
    runs = [json.loads(file.read_text(encoding="utf-8"))["run"] for file in tmp_path.glob("*/runs/*.json")]
    assert len(runs) == 4
    assert {str(run["versions"]) for run in (*made, *runs)} == {str(versions())}
    assert {step[0] for step in seen} >= {"softmax, seed 0", "neutreno, seed 0", "compared"}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are those of POSIX")
def test_workers_end_with_a_command_that_is_killed_and_a_rerun_finds_the_same(tmp_path, pictures, monkeypatch):
    # Workers used to go on with what was queued, and then to wait for ever.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out, said = tmp_path / "out", tmp_path / "said"
    started = small_commands.start(command_on(pictures, out, seeds=400), said)
    small_commands.wait_for(lambda: visible(out / "runs", "*.json"), pause=0.1)
    os.kill(started, signal.SIGKILL)
    assert small_commands.finish(started, said, 60.0).code == -signal.SIGKILL
    small_commands.wait_for(lambda: not small_commands.group_lives(started), pause=0.1)
    texts = {path.name: path.read_text(encoding="utf-8") for path in visible(out / "runs", "*.json")}
    assert 0 < len(texts) < 400
    plan = plan_of(str(pictures), arms=("softmax",), seeds=tuple(range(len(texts) + 1)), settings=SIZES)
    compare(plan, out)
    assert all((out / "runs" / name).read_text(encoding="utf-8") == text for name, text in texts.items())
    run = json.loads(min(texts.values()))
    fresh = train(plan.settings_of("softmax", run["settings"]["seed"]), folder(pictures, 4))
    npt.assert_allclose(run["losses"], fresh["losses"], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processor times are read from /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_command_and_its_workers_do_no_more_work(tmp_path, pictures, monkeypatch, number):
    """They ended after 6 to 11 seconds on a busy machine. Their work counts, which other processes do not change."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments, said = command_on(pictures, tmp_path / "out", epochs=100_000), tmp_path / "said"
    if number == signal.SIGTERM:  # one of the two is a command from its start to its end
        command = [sys.executable, "-c", "from ctrlattn.cli import main; main()", *arguments]
        with open(f"{said}.err", "wb") as told:
            popen = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=told)
        started, popen.returncode = popen.pid, 128 + number  # it is waited for here
    else:
        started = small_commands.start(arguments, said)
    with ended(started):
        # Two workers.
        small_commands.wait_for(
            lambda: sum(b"spawn_main" in words for words, _ in processes_of(started)) == 2, pause=0.1
        )
        before = sum(seconds for _, seconds in processes_of(started))
        os.kill(started, number)
        _, status, used = os.wait4(started, 0)
        assert os.waitstatus_to_exitcode(status) == 128 + number
        small_commands.wait_for(lambda: not small_commands.group_lives(started), pause=0.1)
    assert used.ru_utime + used.ru_stime - before < 3
    last = Path(f"{said}.err").read_text().splitlines()[-1]
    assert last == f"ctrlattn: {STOPS[number]}: nothing half-written is left under a final name"
    assert [path.name for path in tmp_path.rglob(".*")] == []


@contextmanager
def ended(group):
    """Leave no process of the group behind, whatever fails inside: it would train for hours."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


STOPS = {signal.SIGINT: "interrupted (SIGINT)", signal.SIGTERM: "terminated (SIGTERM)"}


def processes_of(group):
    """Command and seconds of processor time, its own and of those it has waited for, of each process."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                seconds = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
                found.append((place.with_name("cmdline").read_bytes(), seconds))
    return found


def test_several_workers_have_one_kind_of_device(tmp_path, small_data, monkeypatch):
    monkeypatch.setattr(comparison.data_parallel, "device", lambda name: torch.device("meta"))
    plan = plan_of("digits", arms=("softmax",), seeds=(0,), settings=SMALL)
    with pytest.raises(ValueError, match="2 workers train on the cpu, not on meta: take one worker"):
        compare(plan, tmp_path, workers=2, device="meta")


@pytest.mark.slow
def test_the_command_compares(tmp_path, small_data, undrawn):
    arguments = ["train", "digits", "--configs", "softmax", "--configs", "pidformer-ema", "--seeds", "2"]
    sizes = ["--epochs", "1", "--depth", "2", "--width", "6", "--workers", "1", "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, [*arguments, *sizes, "--json"])
    assert found.exit_code == 0, found.output
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert set(result["differences"]) == {"pidformer-ema"}
    assert result["plan"]["settings"] == {"epochs": 1, "depth": 2, "dim": 6}
    assert "4/4" in found.stderr
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"comparison.json", "comparison.png", "comparison.svg", "runs", "table.md", "weights"}


@pytest.mark.parametrize(("asked", "told"), [([], {}), (["float32"], {}), (["float64"], {"dtype": "float64"})])
def test_the_numbers_of_the_command_are_a_setting_unless_they_are_the_default(tmp_path, monkeypatch, asked, told):
    plans = []

    def compared(plan, *_, **__):
        plans.append(plan)

    def stopped(plan, *_, **__):
        plans.append(plan)
        raise InputError("stop")

    monkeypatch.setattr(comparison, "compare", compared)
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_comparison.compare_loops", stopped)
    for what in (["digits"], ["text"], ["loops", "--task", "maze"]):
        given = [word for each in asked for word in ("--dtype", each)]
        CliRunner().invoke(app, ["train", *what, *given, "--out", str(tmp_path / "out")])
    assert [plan.settings for plan in plans] == [told] * 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], ("cpu", 2)), (["--device", "cpu"], ("cpu", 2)), (["--device", "xpu:1"], ("xpu:1", 1)),
     (["--device", "xpu", "--workers", "3"], ("xpu", 3))],
)  # fmt: skip
def test_device_and_workers_of_the_command_reach_the_comparison(tmp_path, monkeypatch, options, expected):
    """Small networks are trained by two workers on the cpu, and by one elsewhere unless workers are given."""
    asked = []

    def stopped(plan, *_, workers, device):
        asked.append((device, workers))
        raise InputError("stop")

    monkeypatch.setattr("ctrlattn.devices.require_here", lambda name: None)
    monkeypatch.setattr(comparison, "compare", stopped)
    monkeypatch.setattr("ctrlattn.nn.experiment.loop_comparison.compare_loops", stopped)
    for what in (["digits"], ["loops", "--task", "maze"]):
        CliRunner().invoke(app, ["train", *what, *options, "--out", str(tmp_path / "out")])
    assert asked == [expected] * 2


@pytest.mark.slow
def test_gains_of_the_command_are_an_arm_with_a_file(tmp_path, small_data, undrawn):
    sizes = ["--seeds", "1", "--epochs", "1", "--depth", "2", "--width", "6", "--workers", "1"]
    gains = ["train", "digits", "--configs", "softmax", "--pid", "0.4", "0.1", "0", "--form", "ema", *sizes]
    assert CliRunner().invoke(app, [*gains, "--out", str(tmp_path / "out")]).exit_code == 0
    file = tmp_path / "out" / "pid-0.4-0.1-0.0-ema.toml"
    loop = config.load(file).loop
    assert loop.controller == PID(0.4, 0.1, 0.0, form="ema")
    assert (loop.skip, loop.feedback, loop.reference_gain) == (0.0, 1.0, 1.0)
    result = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
    assert result["plan"]["arms"] == ["softmax", str(file)]
    assert "| pid-0.4-0.1-0.0-ema |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    by_file = ["train", "digits", "--configs", "softmax", "--configs", str(file), *sizes, "--out", str(tmp_path / "b")]
    assert CliRunner().invoke(app, by_file).exit_code == 0
    assert json.loads((tmp_path / "b" / "comparison.json").read_text(encoding="utf-8"))["arms"] == result["arms"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["faces"], "unknown data 'faces'"),
        (["digits", "--form", "ema"], "give --pid KP KI KD with it"),
        (["digits", "--pid", "0.4", "0.1", "0", "--form", "Ema"], "did you mean 'ema'"),
        (["digits", "--pid", "0.4", "nan", "0"], "ki must be finite"),
        (["digits", "--pid", "0.4", "0", "0", "--configs", "softmx"], "did you mean 'softmax'"),
        (["digits", "--pid", "0.4", "0", "0", "--plan", str(PLAN)], "leave out the options for them"),
        (["loops", "--pid", "0.4", "0", "0"], "--pid is no option of `train loops`"),
        (["digits", "--norm", "Layer"], "did you mean 'layer'"),
        (["digits", "--device", "CUDA"], "this machine has cpu"),
        (["digits", "--configs", "softmx"], "did you mean 'softmax'"),
        (["digits", "--width", "7"], "7 features, 3 heads"),
        (["digits", "--norm", "batch"], "norm must be one of"),
        (["no-such-directory"], "unknown data 'no-such-directory'"),
        (["--data", "no-such-directory"], "known are digits, mnist5k, text, and a directory of images"),
        (["digits", "--data", "."], "name one thing to train on"),
        ([], "name one thing to train on"),
        (["digits", "--dtype", "float16"], "unknown --dtype 'float16'"),
        (["text", "--dtype", "bfloat16"], "unknown --dtype 'bfloat16'"),
        (["loops", "--task", "maze", "--dtype", "double"], "unknown --dtype 'double'"),
        (["digits", "--plan", str(PLAN), "--dtype", "float64"], "leave out the options for them"),
        (["digits", "--device", "abacus"], "there is no device 'abacus' here"),
        (["--plan", "nowhere.toml"], "nowhere.toml: no such file"),
        (["mnist5k", "--plan", str(PLAN)], "this is not a plan for mnist5k"),
        (["digits", "--plan", "nowhere.toml"], "nowhere.toml: no such file"),
        (["digits", "--plan", str(PLAN), "--epochs", "1"], "leave out the options for them"),
    ],
)
def test_the_command_refuses_in_one_line(tmp_path, small_data, arguments, message):
    result = CliRunner().invoke(app, ["train", *arguments, "--workers", "1", "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    told = result.stderr.strip().splitlines()[-1]
    assert told.startswith("ctrlattn: ")
    assert message in told
    if "--dtype" in arguments:
        assert (len(result.stderr.splitlines()), list(tmp_path.iterdir())) == (1, [])


def test_a_directory_without_images_is_refused_in_one_line(tmp_path):
    (tmp_path / "images").mkdir()
    result = CliRunner().invoke(app, ["train", "--data", str(tmp_path / "images"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "no images; give one folder per class" in result.stderr.strip().splitlines()[-1]
