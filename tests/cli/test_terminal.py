"""Texts that are too long, standard streams that are closed or full, names that are no UTF-8, signals that get lost."""

import io
import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import small_commands

from ctrlattn import InputError, cli
from ctrlattn.cli import terminal

posix = pytest.mark.skipif(os.name != "posix", reason="signals and descriptors of POSIX")


@pytest.mark.parametrize(
    ("positions", "memory", "most", "reason"),
    [
        (16, None, 16, "the network has positions for 16"),
        (16, 4 * 2 * 9**2, 9, "the memory has room for the matrices of attention of 9"),
        (None, 4 * 2 * 30**2, 30, "the memory has room for the matrices of attention of 30"),
    ],
)
def test_a_file_that_is_too_long_to_be_recorded_at_once_is_refused(
    monkeypatch, tmp_path, positions, memory, most, reason
):
    """All layers hold a matrix of 4 n^2 bytes; no more tokens are asked for than could be recorded, and one."""
    asked = []

    def token_ids(description, text, *, special=True, most=None):
        count = len(text.read_text().split())
        asked.append(most)
        return list(range(count if most is None else min(count, most)))

    monkeypatch.setattr("ctrlattn.capacity.available_memory", lambda: memory)
    monkeypatch.setattr("ctrlattn.checkpoints.network.text.token_ids", token_ids)
    description = SimpleNamespace(layers=2, positions=positions, require_positions=lambda n: asked.append(("n", n)))
    text = tmp_path / "a.txt"
    text.write_text("w " * (most + 1))
    with pytest.raises(InputError, match=f"a.txt: more than {most} tokens, which are recorded at once: {reason}"):
        terminal._require_at_once(description, text)
    assert asked == [most + 1]
    text.write_text("w " * most)
    terminal._require_at_once(description, text)
    assert asked[1:] == [most + 1, None, ("n", most)]


def test_an_argument_is_a_text_or_the_file_that_it_names(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text(" some words \n")
    assert terminal.long_text_of(str(text)) == text
    assert terminal.long_text_of("some words") == "some words"
    assert terminal.long_text_of("/ divides some words") == "/ divides some words"
    for absent in ("/nope", "./nope", "~nope", "nope.txt"):
        with pytest.raises(InputError, match="no such file"):
            terminal.long_text_of(absent)
    text.write_text(" \n")
    with pytest.raises(InputError, match=r"a\.txt"):
        terminal.long_text_of(str(text))


def run(program, *arguments, **options):
    """What a program of Python ends with, in the terms of a shell, and what it said."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options) as process:
        out, err = process.communicate(timeout=120)
    return process.returncode, out, err


COMMAND = "from ctrlattn.cli import main; main()"


SAVED = ["simulate", "neutreno", "--layers", "1", "--out"]


def is_hdf(path):
    with path.open("rb") as opened:
        return opened.read(4) == b"\x89HDF"


@posix
@pytest.mark.parametrize("closed", [(0,), (1,), (2,)])
def test_a_stream_that_is_closed_costs_what_it_would_have_shown(tmp_path, closed):
    # Without stdout it was a bug; without stderr a refusal ended with 1, and the first step of progress ended the work.
    def close():
        for number in closed:
            os.close(number)
            setattr(sys, ("stdin", "stdout", "stderr")[number], None)  # as Python does where it starts without one

    path, said = tmp_path / "a.nc", tmp_path / "said"
    for arguments, expected, lines in (([*SAVED, str(path)], 0, 0), (["simulate", "nosuch"], 2, 2 not in closed)):
        ended = small_commands.finish(small_commands.start(arguments, said, close), said, 120.0)
        assert (ended.code, len(ended.stderr.splitlines())) == (expected, lines)
    assert is_hdf(path)


@pytest.mark.slow
@posix
def test_a_process_that_begins_and_ends_without_streams_does_its_work(tmp_path):
    path = tmp_path / "a.nc"
    assert run(COMMAND, *SAVED, path, preexec_fn=lambda: os.closerange(0, 3)) == (0, "", "")
    assert is_hdf(path)
    for closed, lines in ((1, 1), (2, 0)):
        code, _, err = run(COMMAND, "simulate", "nosuch", preexec_fn=lambda number=closed: os.close(number))
        assert (code, len(err.splitlines())) == (2, lines)


@posix
def test_a_closed_stream_has_the_null_device_in_its_place():
    program = (
        "import os, sys; from ctrlattn.cli.terminal import open_closed_streams\n"
        "os.close(1); sys.stdout = None\n"
        "open_closed_streams()\n"
        "print('nowhere', flush=True); os.write(2, os.readlink('/proc/self/fd/1').encode())\n"
        "os.write(2, str(os.open(os.devnull, os.O_RDONLY)).encode())"
    )
    if not os.path.exists("/proc/self/fd"):
        pytest.skip("the system does not show what a descriptor is")
    code, out, err = run(program)
    assert (code, out) == (0, "")
    assert err.startswith("/dev/null")
    assert int(err.removeprefix("/dev/null")) > 2


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is full")
def test_a_full_stderr_takes_its_lines_and_not_the_work(tmp_path):
    program = (
        "from ctrlattn.cli.terminal import say, show_progress\n"
        "for step in range(3): say('x'); show_progress('step', step, 2)\n"
        "print('done')"
    )
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "done\n")


def test_a_closed_pipe_of_stderr_is_handed_on(monkeypatch):
    def broken(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(terminal.typer, "echo", broken)
    with pytest.raises(BrokenPipeError):
        terminal.tell("x")


@posix
def test_a_name_that_is_no_utf8_is_shown_byte_by_byte_and_written_out_in_json(monkeypatch):
    # It used to end the command as a bug, after its work.
    raw = b"a\xff\xc3\xa9.nc"
    bytes_out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(bytes_out, "utf-8", write_through=True))
    terminal.show_path(os.fsdecode(raw))
    assert bytes_out.getvalue() == raw + b"\n"
    bytes_out.seek(0)
    bytes_out.truncate()
    terminal.print_json({"out": os.fsdecode(raw)})
    assert os.fsencode(json.loads(bytes_out.getvalue())["out"]) == raw


STOPPING = (
    "import os, signal, sys, time, types\n"
    "from ctrlattn.cli.terminal import Stopped, stay_stopped, stop_on_signals\n"
    "for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(each, signal.SIG_DFL)\n"
    "stop_on_signals()\n"
    "def send(*numbers):\n"
    "    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
    "    for number in numbers: os.kill(os.getpid(), number)\n"
    "    signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)\n"
    "def work():\n"
    "    end = time.monotonic() + 20\n"
    "    while time.monotonic() < end: time.sleep(.01)\n"
    "def module(name, code): exec(compile(code, name, 'exec'), dict(globals(), __name__=name))\n"
    "try:\n{}"
    "except Stopped as stop: stay_stopped(); print('stopped', stop.code)\n"
    "time.sleep(.2); print('quiet')"
)


@posix
@pytest.mark.parametrize(
    ("body", "code"),
    [
        # Two at once: the second was told in a traceback, "ignored due to race condition".
        ("    send(signal.SIGHUP, signal.SIGINT, signal.SIGTERM); work()\n", 129),
        # A library that catches everything had swallowed it: the command went on.
        ("    try: send(signal.SIGINT); work()\n    except BaseException: pass\n    work()\n", 130),
        ("    try: send(signal.SIGINT); work()\n    except BaseException as e: err = ImportError()\n    work()\n", 130),
        # Cleaning up takes its time, and is not disturbed.
        ("    try: send(signal.SIGTERM); work()\n    finally: time.sleep(.4); print('clean', end=' ')\n", 143),
    ],
    ids=["together", "swallowed", "replaced", "cleaning"],
)
def test_a_signal_arrives_once(body, code):
    ended, out, err = run(STOPPING.format(body))
    cleaned = "clean " if "finally" in body else ""
    assert (ended, out, err) == (0, f"{cleaned}stopped {code}\nquiet\n", "")


@posix
@pytest.mark.parametrize("name", ["torch", "torch._C", "torch.distributed", "torch.nn", "torchvision"])
def test_a_signal_waits_until_compiled_code_of_torch_is_imported(name):
    # In the import of torch.distributed it aborted the process, with a trace of C++ and the lock left.
    code = 'os.kill(os.getpid(), signal.SIGINT)\nprint(1, end=" ")'
    ended, out, err = run(STOPPING.format(f"    module({name!r}, {code!r}); work()\n"))
    seen = "" if name == "torchvision" else "1 "
    assert (ended, out, err) == (0, f"{seen}stopped 130\nquiet\n", "")


@posix
def test_functions_below_the_import_of_torch_distributed_wait_too(monkeypatch):
    def frame(module, function, back=None):
        code = SimpleNamespace(co_name=function)
        return SimpleNamespace(f_code=code, f_globals={"__name__": module}, f_back=back)

    other = frame("importlib", "load", frame("torch.utils", "<module>"))
    assert not terminal._imports_torch(other)
    assert not terminal._imports_torch(frame("torch", "load"))
    assert terminal._imports_torch(frame("importlib", "load", frame("torch.distributed", "<module>", other)))


@posix
def test_a_signal_before_the_command_line_is_imported_ends_it_without_a_word(tmp_path):
    # Python's own handler raised within some import: a traceback of twenty lines.
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    program = (
        f"import signal, sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from ctrlattn.__main__ import main; main()"
    )
    assert run(program) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_signal_that_a_library_turned_into_its_own_error_is_no_bug(monkeypatch, capsys, link):
    """Compiled code of matplotlib raises ImportError in the place of what a signal raised while it was imported."""

    def imported(**options):
        error = RuntimeError("of another one")
        setattr(error, link, terminal.Stopped(signal.SIGHUP))
        raise ImportError("initialization failed") from error

    monkeypatch.setattr(cli, "app", imported)
    with pytest.raises(terminal.Stopped) as stop:
        cli._run(["list"])
    assert stop.value.code == 128 + signal.SIGHUP
    assert capsys.readouterr().err == ""
