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
    folder = tmp_path_factory.mktemp("reliability") / "stage"
    with pytest.MonkeyPatch.context() as patch:
        _empty(patch)
        small_commands.make_stage(folder)
    return folder


@pytest.fixture(autouse=True)
def _empty_figures(monkeypatch, short_search):
    """Commands that a test forks write empty figures and search for few gains; the next test draws and searches."""
    _empty(monkeypatch)


def _empty(patch):
    from matplotlib.figure import Figure

    from ctrlattn.plots import layout

    patch.setattr(Figure, "savefig", Figure.savefig)
    patch.setattr(layout, "_SOLUTIONS", layout._SOLUTIONS)
    small_commands.prepare()
