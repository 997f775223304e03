"""Workers see no interrupt of the terminal, and end with the process that they work for."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ctrlattn.processes import Rehearsal, no_interrupts

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of the terminal are those of POSIX")

CHILD = """
import os, sys, time
from multiprocessing import get_context
from ctrlattn.processes import end_with_parent

def live():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(60)

if __name__ == "__main__":
    get_context("spawn").Process(target=live).start()
    time.sleep(60)
"""


def is_alive(number):
    try:
        with open(f"/proc/{number}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may end between the opening and the reading
        return False


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are looked up in /proc")
def test_a_worker_ends_with_its_parent(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(CHILD)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    end = time.monotonic() + 120
    while is_alive(worker):
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("threads", [0, 3])
def test_an_interrupt_waits_for_the_end_of_the_block(threads):
    # The system hands the signal of a process to any thread that does not block it.
    end, reached = threading.Event(), []
    others = [threading.Thread(target=end.wait, daemon=True) for _ in range(threads)]
    for other in others:
        other.start()

    def work():
        with no_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("the end")

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets a job in the background ignore it
    with pytest.raises(KeyboardInterrupt):
        work()
    end.set()
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_comes_back_comes_back_and_what_does_not_costs_its_process_alone():
    first = Rehearsal("time:sleep")
    assert first.comes_back(0, 120)
    worker = first._process
    assert first.comes_back(0, 120)
    assert first._process is worker  # one process for all questions
    start = time.monotonic()
    assert not first.comes_back(60, 0.3)
    assert time.monotonic() - start < 50
    assert worker.poll() is not None
    assert first.comes_back(0, 120)
    assert first._process is not worker


@pytest.mark.slow
def test_compiled_code_that_no_signal_reaches_is_ended_by_the_system():
    """A factorial holds the interpreter: a handler in Python would wait for it."""
    first = Rehearsal("math:factorial")
    start = time.monotonic()
    assert not first.comes_back(10**7, 0.5)
    assert time.monotonic() - start < 100


def test_a_process_that_was_killed_while_it_waited_is_no_answer_to_the_next_question():
    """By the system where memory is scarce, say: a sound file used to be told as one that ended its reader."""
    first = Rehearsal("time:sleep")
    assert first.comes_back(0, 120)
    worker = first._process
    worker.kill()
    worker.wait()
    assert first.comes_back(0, 120)
    assert first._process is not worker
    assert worker.stdin.closed


def test_a_question_that_ends_the_process_is_one_that_does_not_come_back():
    assert not Rehearsal("os:_exit").comes_back(3, 120)
    assert not Rehearsal("os:abort").comes_back("", 120)  # raises there: abort takes nothing


def test_a_process_that_cannot_start_is_no_answer():
    with pytest.raises(RuntimeError, match="the process for no_such_module:f did not start"):
        Rehearsal("no_such_module:f").comes_back("", 120)


FORK = """
import os
from ctrlattn.processes import Rehearsal
first = Rehearsal("time:sleep")
answers = [first.comes_back(0, 120)]
number = first._process.pid
reading, writing = os.pipe()
if os.fork() == 0:
    os.write(writing, b"1" if first.comes_back(0, 120) and first._process.pid != number else b"0")
    raise SystemExit
os.wait()
answers += [os.read(reading, 1) == b"1", first.comes_back(0, 120), first._process.pid == number]
print(answers)
"""


def test_a_fork_has_a_process_of_its_own():
    said = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, check=False)
    assert (said.stdout, said.returncode) == ("[True, True, True, True]\n", 0)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="processes are looked up in /proc")
def test_it_ends_with_the_process_that_asked_even_where_that_is_killed():
    code = (
        "import os, signal; from ctrlattn.processes import Rehearsal; r = Rehearsal('time:sleep')\n"
        "r.comes_back(0, 120)\n"
        "print(r._process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    number = int(said.stdout)
    end = time.monotonic() + 120
    while is_alive(number) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_alive(number)
