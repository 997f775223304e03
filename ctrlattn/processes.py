"""Processes that work for this one: they see no interrupt of the terminal, and end when it ends, however it does."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from pathlib import Path
from threading import Lock, Thread, Timer, current_thread, main_thread
from typing import Any
from weakref import finalize

_SERVE = """
import json, signal, sys
from importlib import import_module
room, _, name = sys.argv[1].partition(":")
call = getattr(import_module(room), name)
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("ready", flush=True)
for line in sys.stdin:
    question, seconds = json.loads(line)
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)  # the system ends the process, whatever code holds it
    call(question)
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)
    print("done", flush=True)
"""


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Hide interrupts of the terminal from processes that begin inside the block; this one sees them at the end.

    >>> with no_interrupts():
    ...     pass
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    signals: list[int] = []
    # A process inherits the mask of the thread that begins it. The mask of this thread does not keep a signal from the
    # other ones, whose handler runs here: it is noted, and raised again at the end.
    may_handle = current_thread() is main_thread()
    handler = signal.signal(signal.SIGINT, lambda number, _: signals.append(number)) if may_handle else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if may_handle:
            signal.signal(signal.SIGINT, signal.SIG_DFL if handler is None else handler)
            if signals:
                signal.raise_signal(signal.SIGINT)


def end_with_parent() -> None:
    """End when the parent process ends: a signal that kills the parent does not reach its workers."""
    parent = parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    Thread(target=follow, daemon=True).start()


class Rehearsal:
    """A process that does first what may never come to an end in compiled code, where no signal is seen.

    It is started when it is first asked, and answers one question after the other. One that takes too long, or that
    ends the process, costs that process alone.

    Parameters
    ----------
    function : str
        "module:function", called with the question; what it returns does not count.
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._lock = Lock()

    def comes_back(self, question: Any, seconds: float) -> bool:
        """Tell whether the function comes back within some seconds, without an exception; it is asked in JSON."""
        with self._lock:
            process = self._waiting_process()
            assert process.stdin is not None
            assert process.stdout is not None
            timer = Timer(seconds, process.kill)
            timer.daemon = True
            timer.start()
            answer = ""
            try:
                process.stdin.write(json.dumps([question, seconds]) + "\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except BrokenPipeError:  # it ended
                pass
            finally:
                timer.cancel()
                if answer != "done\n":  # also where a signal asks this process to end, lest a late answer be taken
                    self._process = None
                    _end(process, self._owner)
            return answer == "done\n"

    def _waiting_process(self) -> "subprocess.Popen[str]":
        """Return the process that waits for a question; a fork has one of its own, and one that was killed another."""
        if self._process is not None and self._owner == os.getpid():
            if self._process.poll() is None:
                return self._process
            _end(self._process, self._owner)
        package = str(Path(__file__).parents[1])
        paths = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _SERVE, self._function],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        finalize(self, _end, process, os.getpid())
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            _end(process, os.getpid())
            raise RuntimeError(f"the process for {self._function} did not start")
        self._process, self._owner = process, os.getpid()
        return process


def _end(process: "subprocess.Popen[str]", owner: int) -> None:
    """End a process and close its pipes, unless this is a fork of the one that it works for."""
    if owner != os.getpid():
        return
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # a question that was never taken
                pipe.close()
