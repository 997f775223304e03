"""A disk of one megabyte, a read-only one, and what commands say of it: one line, the earlier files as they were."""

import os
import subprocess
import sys

import pytest
import small_commands

from ctrlattn.files import atomic

WORST = ["simulate", "neutreno", "--layers", "30", "--tokens", "200", "--features", "64"]  # 6 MB


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-c", "from ctrlattn.cli import main; main()", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports")
def test_a_full_disk_is_one_line_and_leaves_the_earlier_file(disk, tmp_path):
    # It used to end in a segmentation fault after the message: HDF5 failed once more at the end of the process.
    earlier = small_commands.start(
        ["simulate", "neutreno", "--layers", "1", "--out", str(disk / "a.nc")], tmp_path / "said"
    )
    assert small_commands.finish(earlier, tmp_path / "said", 60.0).code == 0
    before = (disk / "a.nc").read_bytes()
    told = run(*WORST, "--out", disk / "a.nc")
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == f"ctrlattn: [Errno 28] No space left on device: '{disk / 'a.nc'}'\n"
    assert (disk / "a.nc").read_bytes() == before
    assert [path.name for path in disk.iterdir()] == ["a.nc"]


def test_weights_on_a_full_disk_are_an_error_of_the_system(disk):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file

    with pytest.raises(OSError, match="No space left") as told, atomic(disk / "a.safetensors") as temporary:
        save_file({"x": torch.zeros(10**6)}, temporary)
    assert told.value.filename == str(disk / "a.safetensors")
    assert list(disk.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked after all imports")
def test_a_page_on_a_full_disk_leaves_no_folder(stage, tmp_path, disk, coarse_search):
    taken = disk / "taken"
    taken.write_bytes(bytes(1000 * 1024))
    arguments = small_commands.commands(stage, disk / "report")["report"]
    told = small_commands.finish(small_commands.start(arguments, tmp_path / "said"), tmp_path / "said", 120.0)
    assert told.code == 2
    # matplotlib tells so where its cache names fonts of an environment that is gone.
    others = ("ctrlattn [", "findfont:")
    lines = [line for line in told.stderr.splitlines() if not line.startswith(others)]
    assert len(lines) == 1
    assert "No space left on device" in lines[0]
    assert list(disk.iterdir()) == [taken]


@pytest.mark.slow
def test_a_read_only_disk_is_one_line(disk):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for arguments in (["simulate", "neutreno", "--out", disk / "a.nc"], ["report", "--out", disk / "report"]):
        told = run(*arguments)
        assert (told.returncode, told.stdout) == (2, "")
        assert len(told.stderr.splitlines()) == 1
        assert "Read-only file system" in told.stderr or "no permission to write in" in told.stderr
    assert os.listdir(disk) == []
