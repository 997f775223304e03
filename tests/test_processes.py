"""Workers see no interrupt of the terminal, and end with the process that they work for."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ctrlattn.processes import no_interrupts

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
            return stat.read().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
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
    end = time.monotonic() + 10
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

    with pytest.raises(KeyboardInterrupt):
        work()
    end.set()
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
