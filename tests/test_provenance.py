"""What made a result: the commit by git's own files, in each of the three forms that git has, and the versions."""

import datetime
import re
from importlib.metadata import version

import pytest

from ctrlattn.provenance import commit, provenance, versions


@pytest.mark.parametrize("form", ["loose", "packed", "detached"])
def test_the_commit_is_read_from_gits_files(tmp_path, form):
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("abc123\n" if form == "detached" else "ref: refs/heads/main\n")
    if form == "loose":
        (git / "refs" / "heads" / "main").write_text("abc123\n")
    if form == "packed":
        (git / "packed-refs").write_text("# pack-refs\nfff refs/heads/other\nabc123 refs/heads/main\n")
    assert commit(tmp_path) == "abc123"


def test_outside_a_checkout_the_commit_is_unknown(tmp_path):
    assert commit(tmp_path) == "unknown"


def test_versions_time_and_plan_are_told():
    run = provenance("f" * 64)
    assert run["plan_sha256"] == "f" * 64
    assert provenance()["plan_sha256"] is None
    assert run["time"].endswith("+00:00")
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(run["time"])
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=1)
    assert run["commit"] == commit()
    assert commit() == "unknown" or re.fullmatch("[0-9a-f]{40}", commit())


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("ctrlattn.provenance.PACKAGES", ("numpy", "no-such-package"))
    named = versions()
    assert set(named) == {"python", "numpy", "no-such-package"}
    assert named["numpy"] == version("numpy")
    assert named["no-such-package"] == "not installed"
