"""The machine and the versions behind a measurement; no host name, no path."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

LIBRARIES = ("ctrlattn", "numpy", "scipy", "control", "torch", "numba", "matplotlib", "xarray")


def describe() -> dict[str, str | int | float]:
    """System, processor, usable cores, memory in GiB, Python and library versions."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
