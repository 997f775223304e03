"""Batches in several processes of this machine: each is told one number at a time, and answers with the bytes.

A pool of the standard library is broken as a whole when one of its processes is killed. Here the driver knows which
batch each process holds, so that only that batch is computed again.
"""

import signal
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing import connection, get_context
from typing import Any

from ctrlattn.errors import InputError
from ctrlattn.processes import end_with_parent, no_interrupts
from ctrlattn.sweep.batch import compute, lost
from ctrlattn.sweep.plan import Job, SweepPlan

DEATHS = 3  # of the processes that held a batch: whatever kills them is in the batch


def in_processes(plan: SweepPlan, missing: Iterable[int], workers: int) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) of each missing batch, as they are done.

    A process that ends gives its batch to the next; the cells of a batch that ended three of them are lost. Whatever
    ends this iterator ends all processes.

    Raises
    ------
    InputError
        Something ends the whole sweep, such as a file that is gone.
    RuntimeError
        A bug showed; the message has the traceback of the process.
    """
    waiting, deaths = list(reversed(list(missing))), Counter[int]()
    team = [_Worker(plan.job) for _ in range(min(workers, len(waiting)))]
    try:
        for worker in team:
            worker.give(waiting.pop())
        while busy := [worker for worker in team if worker.index is not None]:
            ready = connection.wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                index, content = worker.index, worker.answer()
                assert index is not None
                if content is None:
                    deaths[index] += 1
                    team[team.index(worker)] = worker = _Worker(plan.job)
                    if deaths[index] < DEATHS:
                        worker.give(index)
                        continue
                    content = lost(plan, index, f"{DEATHS} processes ended while they computed it: out of memory?")
                if waiting:
                    worker.give(waiting.pop())
                yield index, content
    finally:
        for worker in team:
            worker.end()


class _Worker:
    """One process, and the number of the batch that it holds."""

    def __init__(self, job: Job) -> None:
        self.index: int | None = None
        context = get_context("spawn")  # a fork would copy the threads' locks of torch and BLAS
        self.pipe, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, job), daemon=True)
        with no_interrupts():
            self.process.start()
        far_end.close()

    def give(self, index: int) -> None:
        self.index = index
        with suppress(OSError):  # it has ended: `answer` says so
            self.pipe.send(index)

    def answer(self) -> bytes | None:
        """Return the bytes of the worker's batch, or None where the process has ended."""
        self.index = None
        try:
            kind, content = self.pipe.recv()
        except (EOFError, OSError):
            self.end()
            return None
        if kind == "refused":
            raise InputError(content)
        if kind == "bug":
            raise RuntimeError(f"in a process of the sweep:\n{content}")
        assert isinstance(content, bytes)
        return content

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def _serve(pipe: Any, job: Job) -> None:
    """Live as a worker: take a number in, send bytes out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    while True:
        try:
            index = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(("done", compute(job, index)))
        except InputError as error:
            pipe.send(("refused", str(error)))
        except Exception:
            pipe.send(("bug", traceback.format_exc()))  # raised again by the driver
