"""Words of --help, gains in place of a file, completion, and how much is said."""

import re
import signal
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from ctrlattn import PID, InputError, cli, presets, results
from ctrlattn.cli.options import pid_of, range_in_words
from ctrlattn.cli.options import presets as completed

COMMANDS = [*["report", "explore", "simulate", "new", "compare", "train", "observe", "analyze", "drop", "loop", "list"]]


def invoke(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_speaks_of_what_a_person_puts_there(name):
    help_of = " ".join(invoke(name, "--help").stdout.split())
    assert "Usage" in help_of
    assert not re.search(r"<(int|str|path|float|list|tuple)|<=x|x>=|INTEGER|TEXT RANGE|922337", help_of)


def test_every_command_is_read():
    listed = re.findall(r"^  (\w+) {2,}\S", invoke("--help").stdout.partition("Commands:")[2], re.MULTILINE)
    assert set(COMMANDS) <= set(listed)
    assert "..." not in invoke("--help").stdout.partition("Commands:")[2]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ("a [x>=1]", "a [at least 1]"),
        ("a [x<=5]", "a [at most 5]"),
        ("a [0<=x<=1]", "a [0 to 1]"),
        ("a [-1.5<=x<=2]", "a [-1.5 to 2]"),
        ("a [default: 4; 0<=x<=9223372036854775807]", "a [default: 4; at least 0]"),
        ("nothing to say", "nothing to say"),
    ],
)
def test_ranges_are_words(told, words):
    assert range_in_words(told) == words


def test_gains_are_a_pid_of_the_law_that_is_asked_for():
    assert pid_of(None, None) is None
    assert pid_of((0.5, 0.1, 0.0), None) == PID(0.5, 0.1, form="printed")
    assert pid_of((0.5, 0.1, 0.0), "ema") == PID(0.5, 0.1, form="ema")
    with pytest.raises(InputError, match="give --pid KP KI KD"):
        pid_of(None, "ema")
    with pytest.raises(InputError, match="did you mean 'ema'"):
        pid_of((0.5, 0.1, 0.0), "Ema")


def test_a_path_in_the_place_of_a_name_is_told_as_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "neutreno").mkdir()
    monkeypatch.chdir(tmp_path)
    name, place = "give the name of a preset, see `ctrlattn list`", ("--out", tmp_path / "out")
    for arguments, told in (
        (("simulate", tmp_path), f"{tmp_path} is a folder: {name}, or a configuration, FILE.toml"),
        (("simulate", "notes.txt"), f"notes.txt is a file: {name}, or a configuration, FILE.toml"),
        (("new", tmp_path), f"{tmp_path} is a folder: {name}"),
        (("new", "--sweep", tmp_path), f"{tmp_path} is a folder: {name}"),
        (("report", "-p", tmp_path, *place), f"{tmp_path} is a folder: {name}; a configuration goes to --config"),
        (
            ("train", "digits", "--configs", tmp_path, *place),
            f"{tmp_path} is a folder: give the name of an arm, such as softmax, or a file, FILE.toml",
        ),
        (("simulate", "none/at/all"), "unknown preset 'none/at/all': "),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 2, arguments
        assert result.stderr.startswith(f"ctrlattn: {told}"), result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert invoke("simulate", "neutreno", "--layers", 1).exit_code == 0  # a folder of that name is no matter


def test_simulate_takes_gains_in_place_of_the_presets(tmp_path):
    one, two = tmp_path / "one.nc", tmp_path / "two.nc"
    shape = ("--layers", 4, "--tokens", 3, "--features", 2)
    assert invoke("simulate", "neutreno", "--pid", 0.25, 0.1, 0, *shape, "--out", one).exit_code == 0
    (tmp_path / "loop.toml").write_text(invoke("new", "neutreno", "--pid", 0.25, 0.1, 0).stdout)
    assert invoke("simulate", tmp_path / "loop.toml", *shape, "--out", two).exit_code == 0
    assert results.compare(results.load(one), results.load(two)).largest == 0.0
    assert invoke("simulate", "neutreno", "--pid", 0.3, 0.1, 0, *shape, "--out", two).exit_code == 0
    assert results.compare(results.load(one), results.load(two)).largest > 1e-3


def test_a_law_that_is_said_twice_is_refused():
    said = invoke("loop", "nowhere", "--layers", "1:2", "--text", "a b", "--gain", 0.5, "--pid", 0.5, 0, 0)
    assert said.exit_code == 2
    assert "--gain and --pid say the law twice" in said.stderr


def test_gains_that_are_no_numbers_are_refused():
    assert invoke("simulate", "neutreno", "--pid", "a", 0, 0).exit_code == 2
    nan = invoke("simulate", "neutreno", "--pid", "nan", 0, 0)
    assert nan.exit_code == 2
    assert "kp must be finite" in nan.stderr


def test_a_shell_completes_presets():
    assert completed("pidformer") == [name for name in presets.names() if name.startswith("pidformer")]
    assert len(completed("pidformer")) >= 2
    assert completed("no such") == []


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize(("flag", "said"), [("-q", ""), ("--quiet", ""), ("-v", "took"), ("--verbose", "took")])
def test_how_much_is_said(flag, said, place, monkeypatch, capsys):
    arguments = ["simulate", "neutreno", "--layers", "2", "--tokens", "3", "--features", "2"]
    monkeypatch.setattr("sys.argv", ["ctrlattn", *([flag, *arguments] if place == "first" else [*arguments, flag])])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 4
    assert (said in told.err) if said else (told.err == "")


def test_quiet_leaves_out_steps_and_not_errors(monkeypatch, capsys):
    from ctrlattn.cli.terminal import say, show_progress, spoken

    with spoken("quiet"):
        say("one")
        show_progress("two", 1, 2)
    with spoken("verbose"):
        show_progress("three", 1, 2)
    say("four")
    told = capsys.readouterr().err
    assert "one" not in told
    assert "two" not in told
    assert re.search(r"ctrlattn +0\.\d s \[█{10} *\] 1/2 three", told)
    assert re.search(r"ctrlattn: took 0\.\d s, at most \d+ MiB of memory", told)
    assert told.endswith("ctrlattn: four\n")
    monkeypatch.setattr("sys.argv", ["ctrlattn", "-q", "simulate", "no-such"])
    with pytest.raises(SystemExit):
        cli.main()
    assert "unknown preset" in capsys.readouterr().err


def test_on_a_terminal_a_line_takes_the_place_of_a_bar_that_is_under_way(monkeypatch, capsys):
    from ctrlattn.cli.terminal import Stopped, report_bug, say, show_progress, told

    def stop(*_):
        show_progress("a step", 1, 2)
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for tell in (lambda: say("a line"), lambda: told(InputError("wrong")), lambda: report_bug(KeyError("k"), [])):
        show_progress("a step", 1, 2)
        tell()
        assert re.search(
            r"1/2 a step\r\x1b\[2Kctrlattn: (a line|wrong|this is a bug).*\n$", capsys.readouterr().err, re.DOTALL
        )
    monkeypatch.setattr("ctrlattn.presets.get", stop)
    monkeypatch.setattr("sys.argv", ["ctrlattn", "simulate", "neutreno"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 143
    assert "1/2 a step\r\x1b[2Kctrlattn: terminated (SIGTERM)" in capsys.readouterr().err


def test_the_report_compares_gains_that_are_given(tmp_path, monkeypatch):
    import ctrlattn.report

    seen = {}
    monkeypatch.setattr(ctrlattn.report, "write", lambda out, **options: seen.update(options) or _Written(out))
    assert invoke("report", "--pid", 0.5, 0.1, 0, "--form", "ema", "--out", tmp_path).exit_code == 0
    ((name, loop),) = seen["loops"].items()
    assert name == "PID(kp=0.5, ki=0.1, form='ema')"
    assert loop.controller == PID(0.5, 0.1, form="ema")
    assert np.isclose(loop.skip, presets.get("pidformer-printed").skip)


class _Written:
    def __init__(self, path):
        self.path, self.summary = path, {}


@pytest.mark.parametrize("inner", [".", "out", "a/deep/out"])
def test_training_never_writes_among_its_images(tmp_path, inner):
    # The next run took runs/ and weights/ for classes.
    told = invoke("train", "--data", tmp_path, "--out", tmp_path / inner)
    assert told.exit_code == 2
    assert "lies in the images of --data" in told.stderr
    assert list(tmp_path.iterdir()) == []
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
    assert "lies in" in invoke("train", "--data", tmp_path, "--out", tmp_path / "val" / "out").stderr
    assert "lies in" not in invoke("train", "--data", tmp_path, "--out", tmp_path / "out").stderr
