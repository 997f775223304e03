"""What made a result: the commit of the code, the time, the versions of what decides the numbers, the plan's hash."""

import datetime
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("ctrlattn", "numpy", "scipy", "torch", "transformers")


def provenance(plan: str | None = None) -> dict[str, Any]:
    """Return the commit, time, versions, and the plan's SHA-256 (None where no plan was written).

    Parameters
    ----------
    plan : str, optional
        SHA-256 of the plan, in hexadecimal.

    Returns
    -------
    dict
        commit ("unknown" for an installed package), time (UTC, ISO 8601), versions (by package) and plan_sha256.

    Examples
    --------
    >>> sorted(provenance())
    ['commit', 'plan_sha256', 'time', 'versions']
    """
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"commit": commit(), "time": time, "versions": versions(), "plan_sha256": plan}


def commit(root: Path = ROOT) -> str:
    """Return the commit that is checked out, read from git's own files; "unknown" outside a checkout."""
    try:
        head = (root / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        name = head.removeprefix("ref: ")
        loose = root / ".git" / name
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        lines = (root / ".git" / "packed-refs").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    return next((line.split()[0] for line in lines if line.endswith(f" {name}")), "unknown")


def versions() -> dict[str, str]:
    """Return {package: version} of Python and of what is installed of the packages that decide the numbers."""
    return {"python": platform.python_version(), **{name: _installed(name) for name in PACKAGES}}


@cache
def _installed(name: str) -> str:
    """Return the version of a package, whose description is read once: a comparison asks for it with each run."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
