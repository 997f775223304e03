"""A test file test_NN_name.py gets its scene simulations/NN_name.py as the fixture `scene`."""

import importlib.util
from pathlib import Path

import pytest

SIMULATIONS = Path(__file__).parents[2] / "simulations"


@pytest.fixture(scope="module")
def scene(request):
    """The scene as a module; its neighbours are importable as they are when it runs."""
    name = request.path.stem.removeprefix("test_")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SIMULATIONS)
        specification = importlib.util.spec_from_file_location(f"scene_{name}", SIMULATIONS / f"{name}.py")
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        yield module
