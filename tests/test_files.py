"""Nothing half-written: what a failure leaves behind, which permissions a file gets, where nothing can be written."""

import os
import stat

import pytest

from ctrlattn.files import atomic, output_directory


@pytest.fixture
def umask():
    """Sets the mask for one test and puts the old one back."""
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


def test_the_file_appears_whole_and_nothing_else_does(tmp_path):
    with atomic(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        assert not (tmp_path / "a.json").exists()
        assert temporary.parent == tmp_path  # os.replace is atomic on one file system only
        assert temporary.suffix == ".json"
        temporary.write_text("whole")
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "whole"


def write_and_fail(final, error, *, remove=False):
    with atomic(final) as temporary:
        temporary.write_text("half")
        if remove:
            temporary.unlink()
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    final = tmp_path / "a.txt"
    final.write_text("old")
    with pytest.raises(error):
        write_and_fail(final, error)
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert final.read_text() == "old"


def test_a_failure_after_the_writer_removed_its_file_is_still_that_failure(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_and_fail(tmp_path / "a.txt", ZeroDivisionError, remove=True)
    assert list(tmp_path.iterdir()) == []


def test_replacing_a_directory_fails_and_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError), atomic(tmp_path / "taken") as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mask, mode):
    umask(mask)
    with atomic(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == mode
    assert os.umask(mask) == mask  # reading the mask has not changed it


def test_a_missing_directory_is_an_error_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "absent" / "a.txt"):
        pytest.fail("nothing can be written there")


def test_an_output_directory_is_made_with_its_parents_and_left_empty(tmp_path):
    folder = output_directory(tmp_path / "a" / "b")
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert output_directory(str(folder)) == folder  # once more, and from a string


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way_is_named(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match=r"cannot write to the output directory .*file.*: "):
        output_directory(tmp_path / place)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_directory_without_write_permission_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ValueError, match=r"cannot write to the output directory .*: Permission denied"):
            output_directory(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_the_reason_of_the_system_is_handed_on(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(ValueError, match=r"cannot write to the output directory .*: Permission denied"):
        output_directory(tmp_path)
