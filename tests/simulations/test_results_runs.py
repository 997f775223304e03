"""Every results file says what made it: commit, time, versions and the hash of its plan."""

import datetime
import json
import re
from pathlib import Path

import pytest

from ctrlattn.provenance import provenance

RESULTS = Path(__file__).parents[2] / "simulations" / "results"


def recorded(numbers):
    """Whether results say commit, time, versions and the hash of the plan (None where no plan was written).

    A run from before such records has "history" as well: who says so afterwards.
    """
    run = numbers.get("run") if isinstance(numbers, dict) else None
    if not isinstance(run, dict) or set(run) - {"history"} != {"commit", "time", "versions", "plan_sha256"}:
        return False
    plan = run["plan_sha256"]
    moment = datetime.datetime.fromisoformat(run["time"])
    packages = {"python", "ctrlattn", "numpy", "scipy", "torch", "transformers"}
    commit = re.fullmatch("[0-9a-f]{40}", run["commit"]) and moment.tzinfo is not None
    return bool(commit and packages <= set(run["versions"]) and (plan is None or re.fullmatch("[0-9a-f]{64}", plan)))


def test_every_results_file_says_what_made_it():
    without = {path.relative_to(RESULTS).as_posix() for path in RESULTS.rglob("*.json")
               if not recorded(json.loads(path.read_text(encoding="utf-8")))}  # fmt: skip
    assert without == set()


@pytest.mark.parametrize(
    "changes", [{"commit": "unknown"}, {"time": "2026-11-28T18:11:49"}, {"versions": {}}, {"plan_sha256": "abc"}]
)
def test_a_run_that_lacks_a_part_is_seen(changes):
    whole = {**provenance("f" * 64), "commit": "0" * 40}
    assert recorded({"run": whole})
    assert recorded({"run": {**whole, "plan_sha256": None}})
    assert not recorded({"run": {**whole, **changes}})
    assert not recorded({"run": "not recorded"})
