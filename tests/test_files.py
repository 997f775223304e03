"""Nothing half-written: what a failure leaves behind, which permissions a file gets, where nothing can be written."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from ctrlattn import InputError, files
from ctrlattn.files import atomic, claim, claims, output_directory, require_ours, together, visible

posix = pytest.mark.skipif(os.name != "posix", reason="links, devices and locks of POSIX")


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


@posix
def test_a_link_is_followed_and_stays(tmp_path):
    # It used to be replaced by the file.
    (tmp_path / "far").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "far" / "a.txt")
    with atomic(tmp_path / "link.txt") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text() == "x"


@posix
def test_what_is_no_regular_file_is_never_replaced(tmp_path):
    # A device used to be: `--out /dev/null` left a regular file there.
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="it exists and is no regular file"), atomic(tmp_path / "pipe"):
        pytest.fail("nothing can be written there")
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Can't close file (file write failed: errno = 28, error message = 'No space left on device')"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
    ids=["system", "HDF5", "Rust"],
)
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(tmp_path, error):
    with pytest.raises(OSError) as told:
        write_and_fail(tmp_path / "a.nc", error)
    assert (told.value.errno, told.value.filename) == (errno.ENOSPC, str(tmp_path / "a.nc"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error", [ValueError("no number 28"), BrokenPipeError(32, "x"), OSError("no number")], ids=repr
)
def test_any_other_error_is_handed_on(tmp_path, error):
    with pytest.raises(type(error)) as told:
        write_and_fail(tmp_path / "a.nc", error)
    assert told.value is error


HOLDER = (
    "import sys, time; from ctrlattn.files import atomic, claim, claims\n"
    "with claims():\n"
    "    claim(sys.argv[1], file=b'' if sys.argv[1].endswith('.nc') else None)\n"
    "    with atomic(sys.argv[2]) as path:\n"
    "        path.write_text('half'); print('held', flush=True); time.sleep(600)\n"
)


@posix
@pytest.mark.parametrize("name", ["out", "a.nc"])
def test_a_second_process_is_told_and_a_killed_one_holds_nothing(tmp_path, name):
    place = tmp_path / name
    final = place / "b.txt" if name == "out" else place
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(place), str(final)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with claims(), pytest.raises(InputError, match="another process writes there: wait for it, or give another"):
            claim(place, file=None if name == "out" else b"")
        with claims():
            claim(tmp_path / "other")  # its neighbour is free
        assert len(list(tmp_path.rglob(".*.part*"))) == 1  # the other's temporary file is left alone
        holder.send_signal(signal.SIGKILL)
    assert len(list(tmp_path.rglob(".*.part*"))) == 1
    with claims():
        claim(place, file=None if name == "out" else b"")  # a lock that outlives its process would refuse this
        assert list(tmp_path.rglob(".*.part*")) == []
    assert list(tmp_path.rglob(".*")) == []


@posix
def test_only_temporaries_of_ours_are_removed(tmp_path):
    others = [
        ".notes-abcdefgh.txt",
        ".a-abcdefg.part.nc",
        "a-abcdefgh.part.nc",
        ".part",
        "inner/deep/.a-abcdefgh.part.nc",
    ]
    ours = [".a-abcdefgh.part.nc", "figures/.b-____0000.part.png", ".stage-12345678.part/figures/c.svg"]
    for name in (*others, *ours):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    with claims():
        claim(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(others)


@posix
def test_a_file_removes_temporaries_of_its_own_name_alone(tmp_path):
    long = "a" * 45
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)  # as if it were killed
        for name in (f"{long}.nc", f"{long}b.nc", "b.nc"):
            with pytest.raises(KeyboardInterrupt):
                write_and_fail(tmp_path / name, KeyboardInterrupt)
    assert len(list(tmp_path.iterdir())) == 3
    with claims():
        claim(tmp_path / f"{long}.nc", file=b"")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_claimed_folder_goes_where_nothing_was_written_and_stays_with_what_was(tmp_path):
    with claims():
        claim(tmp_path / "a" / "b")
        claim(tmp_path / "a" / "b")  # twice is once
        claim(tmp_path / "c")
        (tmp_path / "c" / "x").write_text("x")
    assert [path.name for path in sorted(tmp_path.rglob("*"))] == ["c", "x"]
    claim(tmp_path / "d")  # outside a block it only checks
    assert not (tmp_path / "d").exists()


@posix
def test_a_file_system_without_locks_is_written_to_and_nothing_is_removed(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files._fcntl, "flock", flock)
    (tmp_path / ".a-abcdefgh.part.nc").write_text("perhaps somebody writes this now")
    with claims():
        claim(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".a-abcdefgh.part.nc"]


@posix
def test_a_lock_that_goes_while_it_is_looked_at_is_made_anew(tmp_path, monkeypatch):
    """By a process that ends at this moment; it used to be told as a file that is missing."""
    lock, look, looks = tmp_path / ".ctrlattn.lock", os.fstat, []

    def fstat(handle):
        looks.append(handle)
        if len(looks) == 1:
            lock.unlink()
        return look(handle)

    with claims():
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstat", fstat)
            claim(tmp_path)
        assert lock.exists()
    assert len(looks) == 2
    assert list(tmp_path.iterdir()) == []


def test_files_of_a_folder_take_their_places_together(tmp_path, monkeypatch):
    order, replace = [], os.replace
    monkeypatch.setattr(os, "replace", lambda a, b: (order.append(Path(b).name), replace(a, b)))
    with together(tmp_path, last="b") as stage:
        for name in ("a", "b", "c/d"):
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(name)
        assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []
    assert [name for name in order if name in "abd"] == ["a", "d", "b"]
    assert (tmp_path / "c" / "d").read_text() == "c/d"


@posix
def test_a_list_of_files_never_leads_out_of_the_folder(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "mine").write_text("x")
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    names = ["../mine", str(tmp_path / "mine"), "link/mine", 3, "gone"]
    for text in (json.dumps(names), '"mine"', "[" * 100_000, "{", ""):
        (tmp_path / "out" / ".ctrlattn.files").write_text(text)
        with together(tmp_path / "out") as stage:
            (stage / "a").write_text("a")
        assert (tmp_path / "mine").read_text() == "x"
        assert json.loads((tmp_path / "out" / ".ctrlattn.files").read_text()) == ["a"]
        (tmp_path / "out" / "a").unlink()


def test_what_a_parser_refuses_names_the_file_in_every_line(tmp_path, monkeypatch):
    path = tmp_path / "a.toml"
    path.write_text("two\nlines", encoding="utf-8")

    def refuse(text):
        raise InputError(text)

    assert files.parsed(path, len) == 9
    with pytest.raises(InputError) as refused:
        files.parsed(path, refuse)
    assert str(refused.value) == f"{path}: two\n{path}: lines"
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not a text in UTF-8"):
        files.parsed(path, len)
    with pytest.raises(InputError) as refused:
        files.parsed(tmp_path, len)
    assert str(refused.value) == f"{tmp_path} is a folder: give the file itself"
    monkeypatch.setattr(Path, "read_text", Mock(side_effect=PermissionError("not yours")))
    with pytest.raises(InputError, match="cannot be read: not yours"):
        files.parsed(path, len)


@posix
def test_links_in_a_circle_are_told_and_stay(tmp_path):
    # The first of them was replaced by the file.
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(InputError, match="links lead in a circle"), atomic(tmp_path / "a"):
        pytest.fail("there is no place to write to")
    with pytest.raises(InputError, match="links lead in a circle"):
        claim(tmp_path / "a", file=b"")
    for folder in (tmp_path / "a", tmp_path / "a" / "x"):
        with pytest.raises(InputError, match=r"the link .*a leads nowhere"):
            claim(folder)
    assert [(path.name, os.readlink(path)) for path in sorted(tmp_path.iterdir())] == [("a", "b"), ("b", "a")]


@posix
def test_a_link_to_what_is_not_there_is_written_through_as_a_file_and_told_as_a_directory(tmp_path):
    (tmp_path / "a").symlink_to("gone")
    (tmp_path / "b").symlink_to("gone/deep")
    with claims():
        claim(tmp_path / "a", file=b"")
        with pytest.raises(InputError, match=r"cannot write .*b: the directory .*gone does not exist"):
            claim(tmp_path / "b", file=b"")
        with pytest.raises(InputError, match=r"the link .*a leads nowhere"):
            claim(tmp_path / "a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", [".a-abcdefgh.part", ".a-abcdefgh.part.nc", ".a.nc.lock", ".ctrlattn.lock"])
def test_names_of_locks_and_temporaries_are_no_output(tmp_path, name):
    # The next run would have removed it as its own.
    for file in (b"", None):
        with claims(), pytest.raises(InputError, match="such names are those of locks and temporary files"):
            claim(tmp_path / name, file=file)
    assert list(tmp_path.iterdir()) == []


def make_lock(path, kind):
    if kind == "text":
        path.write_text("of somebody")
    elif kind == "link":
        (path.parent / "mine").write_text("of somebody")
        path.symlink_to("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)


@posix
@pytest.mark.parametrize("kind", ["text", "link", "folder", "pipe"])
@pytest.mark.parametrize("file", [b"", None])
def test_a_file_with_the_name_of_a_lock_is_told_and_stays(tmp_path, kind, file):
    # It used to be removed when the command ended.
    lock = tmp_path / (".ctrlattn.lock" if file is None else ".a.nc.lock")
    make_lock(lock, kind)
    before = lock.lstat()
    with pytest.raises(InputError, match=r"\.lock is there and no lock of ctrlattn"), claims():
        claim(tmp_path if file is None else tmp_path / "a.nc", file=file)
    assert os.path.samestat(lock.lstat(), before)
    assert kind != "text" or lock.read_text() == "of somebody"


@posix
def test_a_lock_of_a_dead_process_is_taken_whatever_its_time(tmp_path):
    lock = tmp_path / ".ctrlattn.lock"
    for seconds in (0, 2**32):  # 1970, and a clock that went back by a century
        lock.touch()
        os.utime(lock, (seconds, seconds))
        with claims():
            claim(tmp_path)
            assert lock.exists()
        assert not lock.exists()


@pytest.mark.parametrize(
    ("begins", "stays"), [(b"", False), (b"\x89HDF", False), (b"\x89hdf and more", False), (b"[loop]", True)]
)
def test_a_file_is_replaced_by_one_of_its_kind(tmp_path, begins, stays):
    path = tmp_path / "a"
    path.write_bytes(begins)
    with claims():
        if stays:
            with pytest.raises(InputError, match="is there and no file of this command"):
                claim(path, file=b"\x89HDF")
        else:
            claim(path, file=b"\x89HDF")
    assert path.read_bytes() == begins


def write_page(folder, names):
    with together(folder) as stage:
        for name in names:
            (stage / name).write_text(name)


def test_a_page_never_takes_the_place_of_a_file_of_somebody(tmp_path):
    (tmp_path / "b").write_text("of somebody")
    with pytest.raises(InputError, match="b is there and was written by no earlier page"):
        write_page(tmp_path, "ab")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"b": "of somebody"}
    (tmp_path / "results.nc").write_text("x")
    with pytest.raises(InputError, match=r"results\.nc"):
        require_ours(tmp_path, ["results.nc"])
    (tmp_path / "identity.json").write_text("{}")
    require_ours(tmp_path, ["results.nc"])  # `sweep` writes it before its page
    with pytest.raises(InputError, match="b is there"):
        require_ours(tmp_path, ["results.nc", "b"])


def test_what_a_killed_process_left_and_what_a_system_hides_is_no_file_of_the_user(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    for name in ("b.json", "a.json", "in/c.json", "a.txt"):
        (tmp_path / name).touch()
        (tmp_path / name).with_name(f"._{Path(name).name}").touch()  # as macOS does
    (tmp_path / ".ipynb_checkpoints" / "d.json").touch()
    with atomic(tmp_path / "e.json"):
        assert len(list(tmp_path.glob("*.json"))) == 5  # `glob` takes the file that is being written for a result
        assert visible(tmp_path, "*.json") == [tmp_path / "a.json", tmp_path / "b.json"]
        names = ["a.json", "b.json", "in/c.json"]
        assert visible(tmp_path, "*.json", deep=True) == [tmp_path / name for name in names]
        assert [path.name for path in visible(tmp_path)] == ["a.json", "a.txt", "b.json", "in"]
    assert visible(tmp_path / "in" / ".." / ".ipynb_checkpoints") != []  # a folder that is named is read
