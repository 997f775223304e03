"""A sample of the campaign: each victim of a sweep is killed once."""

import json
import os

import pytest
import sweep_kills

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    file = folder / "sweep.toml"
    file.write_text(sweep_kills.SWEEP)
    sweep_kills.whole(file, folder / "alone")
    return file, sweep_kills.results_of(folder / "alone")


@pytest.mark.parametrize("victim", ["driver", "worker of a pool"])
def test_a_killed_sweep_is_made_good_by_the_next(alone, tmp_path, victim):
    file, files = alone
    assert sweep_kills.kill(victim, file, files, tmp_path, 7).faults == ()


def test_the_campaign_has_no_fault():
    result = json.loads(sweep_kills.RESULT.read_text(encoding="utf-8"))
    assert result["faults"] == []
    assert all(row["kills"] > 0 == row["faulty"] for row in result["victims"].values())
