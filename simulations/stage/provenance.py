"""Every results file says what made it: the commit, the time, the versions and the hash of the plan."""

import datetime
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("ctrlattn", "numpy", "scipy", "torch", "transformers")


def commit(root=ROOT):
    """The commit that is checked out, read from git's own files; "unknown" outside a checkout."""
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


def versions():
    """{package: version} of Python and of what is installed of the packages that decide the numbers."""
    named = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            named[name] = version(name)
        except PackageNotFoundError:
            named[name] = "not installed"
    return named


def provenance(plan=None):
    """Commit, time, versions and the plan's SHA-256 (None where no plan was written)."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"commit": commit(), "time": now, "versions": versions(), "plan_sha256": plan}
