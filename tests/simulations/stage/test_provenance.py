"""What made a results file: the commit by git's own files, in each of the three forms that git has."""

import pytest


@pytest.mark.parametrize("form", ["loose", "packed", "detached"])
def test_the_commit_is_read_from_gits_files(stage, tmp_path, form):
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("abc123\n" if form == "detached" else "ref: refs/heads/main\n")
    if form == "loose":
        (git / "refs" / "heads" / "main").write_text("abc123\n")
    if form == "packed":
        (git / "packed-refs").write_text("# pack-refs\nfff refs/heads/other\nabc123 refs/heads/main\n")
    assert stage.commit(tmp_path) == "abc123"


def test_outside_a_checkout_the_commit_is_unknown(stage, tmp_path):
    assert stage.commit(tmp_path) == "unknown"


def test_versions_and_plan_are_told(stage):
    run = stage.provenance("f" * 64)
    assert run["plan_sha256"] == "f" * 64
    assert run["time"].endswith("+00:00")
    assert {"python", "numpy", "torch"} <= set(run["versions"])
    assert stage.provenance()["plan_sha256"] is None
