"""100,000 cells of a PIDformer grid, how two workers share them, and what a scheduler of dask takes for a batch.

    python simulations/benchmarks/sweep_grid.py           # in a process of its own each, one thread
    python simulations/benchmarks/sweep_grid.py --once    # 800 cells, for CI

CPU seconds of the grid are not lengthened by other work; wall seconds are. Efficiency is the wall time of some batches
in one process over twice that in two workers. Other work does change it, so that rows say how loaded the machine was.
The scheduler's rate is that of empty tasks.
"""

import json
import os
import resource
import tempfile
import time

from paired import command

MODES = [0.2, 0.4, 0.6, 0.8]
ASKED = {
    "interval": {},
    "unstable_share": {},
    "settling": {"modes": MODES},
    "peak_sensitivity": {"modes": MODES},
}


def spec_of(side: int, analyses):
    """side x side x (4 side/5) gains of the printed law, the modes of the shipped recording."""
    from ctrlattn.sweep import Range, Spec

    axes = {
        "loop.controller.kp": Range(0, 1, side),
        "loop.controller.ki": Range(0, 1, side),
        "loop.controller.kd": Range(-0.5, 0.5, 4 * side // 5),
    }
    return Spec(axes, analyses, loop={"preset": "pidformer-printed"}, recording={})


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    parent, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return parent.ru_utime + parent.ru_stime + children.ru_utime + children.ru_stime


def worker(small: bool) -> list[dict[str, object]]:
    """All rows."""
    side = 10 if small else 50
    rows = [grid(side, ASKED), shared(side)]
    return rows if small else [*rows, scheduler()]


def grid(side: int, analyses) -> dict[str, object]:
    from ctrlattn.sweep import run

    spec = spec_of(side, analyses)
    run(spec_of(5, analyses), tempfile.mkdtemp())  # compiles and loads
    start, wall = cpu(), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cells = run(spec, folder)["status"].isel(analysis=0).size
    seconds = cpu() - start
    label = f"{', '.join(name.replace('_', ' ') for name in analyses)}: {cells:,} cells"
    return {
        "what": label,
        "CPU s": round(seconds, 2),
        "wall s": round(time.perf_counter() - wall, 2),
        "asked": 60,
        **load(),
    }


def shared(side: int) -> dict[str, object]:
    """The wall time of the batches in one process over twice that in two workers, once both have started."""
    from ctrlattn.sweep.batch import compute
    from ctrlattn.sweep.plan import judged
    from ctrlattn.sweep.pool import in_processes

    plan = judged(spec_of(side, ASKED), tempfile.gettempdir())
    numbers = list(range(min(plan.batches, 8)))
    start = time.perf_counter()
    for index in numbers:
        compute(plan.job, index)
    alone = time.perf_counter() - start
    # Both have imported and compiled in the last half of a longer series: its rate is that of two workers.
    ends = [time.perf_counter() for _ in in_processes(plan, 6 * numbers, 2)]
    half = len(ends) // 2
    both = (ends[-1] - ends[half - 1]) / (len(ends) - half) * len(numbers)
    return {
        "what": f"efficiency of two workers, {len(numbers)} batches of {plan.batch} cells",
        "wall s": round(both, 2),
        "efficiency": round(alone / (2 * both), 3),
        "asked": 0.9,
        **load(),
    }


def scheduler(tasks: int = 1000) -> dict[str, object]:
    """Empty tasks a second through a scheduler with two workers, and the bytes of one batch there and back."""
    from distributed import Client, LocalCluster

    from ctrlattn.sweep.batch import compute
    from ctrlattn.sweep.plan import judged

    plan = judged(spec_of(50, ASKED), tempfile.gettempdir())
    options = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        client.gather(client.map(abs, range(100), pure=False))
        start = time.perf_counter()
        client.gather(client.map(abs, range(tasks), pure=False))
        rate = tasks / (time.perf_counter() - start)
    request, reply = len(json.dumps(plan.job)), len(compute(plan.job, 0))
    label = f"scheduler of dask: a batch of {plan.batch} cells is {request:,} bytes there and {reply:,} back"
    return {"what": label, "tasks a second": round(rate), **load()}


def load() -> dict[str, float]:
    """Processes that wanted a core during the last minute, on average."""
    return {"load": round(os.getloadavg()[0], 1)}


if __name__ == "__main__":
    command(__file__, __doc__, worker)
