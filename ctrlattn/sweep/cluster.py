"""Batches on a cluster of dask: the scheduler is given a few at a time, and bytes come back."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any

from ctrlattn.errors import InputError, require_installed
from ctrlattn.sweep.batch import compute, lost
from ctrlattn.sweep.plan import SweepPlan

_AHEAD = 3  # batches for each thread of the cluster that the scheduler knows of: no worker waits for the driver
_PATIENCE = 10.0  # seconds in which a scheduler answers
_LOOK = 1.0  # seconds between two looks at whether the scheduler lives


def on_cluster(plan: SweepPlan, missing: Iterable[int], address: str) -> Iterator[tuple[int, bytes]]:
    """Yield (number, bytes) of each missing batch, as they are done.

    The scheduler gives the batch of a worker that ends to another one. A batch that ended several workers is lost.

    Parameters
    ----------
    address : str
        Address of the scheduler, such as "tcp://127.0.0.1:8786".

    Raises
    ------
    InputError
        No scheduler answers there, it is gone, or the sweep as a whole is refused.

    Notes
    -----
    dask sends pickled objects between its processes: a scheduler is to be one of your own.
    """
    require_installed("a sweep on a cluster", "distributed")
    with _quiet():
        yield from _run_on(plan, iter(missing), address)


def _run_on(plan: SweepPlan, missing: Iterator[int], address: str) -> Iterator[tuple[int, bytes]]:
    from distributed import Client

    client, done = _client(Client, address), SimpleQueue[Any]()
    running: dict[Any, int] = {}
    try:
        while True:
            ahead = max(_AHEAD * sum(client.nthreads().values()), _AHEAD) - len(running)
            for index in islice(missing, max(ahead, 0)):
                future = client.submit(compute, plan.job, index, pure=False)
                running[future] = index
                future.add_done_callback(done.put)
            if not running:
                return
            with suppress(Empty):
                future = done.get(timeout=_LOOK)
                yield (index := running.pop(future)), _content(plan, index, future, address)
            if client.status != "running":
                raise _lost_scheduler(address)
    except (
        OSError,
        TimeoutError,
    ) as error:  # what a client tells of a scheduler that is gone; nothing here opens files
        raise _lost_scheduler(address) from error
    finally:
        with suppress(OSError, TimeoutError, RuntimeError):
            client.close(timeout=2)


def _content(plan: SweepPlan, index: int, future: Any, address: str) -> bytes:
    """Return the bytes of a batch that has ended, however it did."""
    from distributed import KilledWorker

    if future.status in ("cancelled", "lost"):
        raise _lost_scheduler(address)
    error = future.exception()
    if isinstance(error, KilledWorker):
        return lost(plan, index, "several workers ended while they computed it: out of memory?")
    if isinstance(error, InputError):
        raise error
    if error is not None:
        raise RuntimeError(f"in a worker of the cluster: {type(error).__name__}: {error}") from error
    return bytes(future.result())


def _client(Client: Any, address: str) -> Any:
    import dask

    try:
        with dask.config.set({"distributed.comm.timeouts.connect": f"{_PATIENCE}s"}):
            return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        raise InputError(f"--scheduler {address}: no scheduler of dask answers there: {error}") from error


def _lost_scheduler(address: str) -> InputError:
    return InputError(
        f"the scheduler {address} is gone: what was done is written; start a scheduler and run the same command again"
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what dask logs of workers that come and go: the sweep tells it by what it does about it."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
