"""A test file test_NN_name.py gets its scene simulations/NN_name.py as the fixture `scene`."""

import importlib
import importlib.util
import os
import sys
from pathlib import Path

import pytest

SIMULATIONS = Path(__file__).parents[2] / "simulations"


class Scene:
    """A scene and the modules of the stage behind it as one: a name is looked for, and replaced, in all of them."""

    def __init__(self, *modules):
        self.__dict__["modules"], self.__dict__["before"] = modules, {}

    def __getattr__(self, name):
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self.before.setdefault(name, getattr(self, name))
        for module in self.modules:
            if hasattr(module, name):
                setattr(module, name, value)

    def __delattr__(self, name):
        """How monkeypatch undoes what no instance had of its own."""
        if name in self.before:  # replaced twice, it is undone twice
            setattr(self, name, self.before[name])
            del self.before[name]


@pytest.fixture(scope="module", autouse=True)
def _undrawn(undrawn_file):
    """Scenes are drawn where they are run as programs: what is tested here are their numbers."""


@pytest.fixture(scope="module")
def scene(request):
    """The scene with its stage; its neighbours are importable as they are when it runs."""
    name = request.path.stem.removeprefix("test_")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SIMULATIONS)
        specification = importlib.util.spec_from_file_location(f"scene_{name}", SIMULATIONS / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        behind = [sys.modules.get(f"stage.{name[3:]}{part}") for part in ("", "_picture")]
        yield Scene(module, *(part for part in behind if part is not None))


@pytest.fixture
def census(request, monkeypatch):
    """The script of the test file's name, imported as it runs."""
    monkeypatch.syspath_prepend(SIMULATIONS)
    names = (request.path.stem.removeprefix("test_"), "families_census")
    yield importlib.import_module(names[0])
    for name in names:
        sys.modules.pop(name, None)


def pytest_collection_modifyitems(items):
    """A scene is run to be tested: the quick selection leaves all of them out."""
    room = str(SIMULATIONS.parent / "tests" / "simulations") + os.sep  # as text: a path of each item is dear
    for item in items:
        if str(item.path).startswith(room):
            item.add_marker(pytest.mark.slow)
