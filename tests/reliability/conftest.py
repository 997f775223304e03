"""A disk of one megabyte, and the small network and texts that the commands of these tests read."""

import subprocess

import pytest
import small_commands


@pytest.fixture
def disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount here")
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def stage(tmp_path_factory):
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    from matplotlib.figure import Figure

    drawing = Figure.savefig
    small_commands.prepare()
    folder = tmp_path_factory.mktemp("reliability") / "stage"
    small_commands.make_stage(folder)
    yield folder
    Figure.savefig = drawing
