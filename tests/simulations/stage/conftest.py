"""A test file test_NAME.py gets the module simulations/stage/NAME.py as the fixture `stage`."""

import importlib
from pathlib import Path

import pytest

SIMULATIONS = Path(__file__).parents[3] / "simulations"


@pytest.fixture(scope="module")
def stage(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SIMULATIONS)
        yield importlib.import_module(f"stage.{request.path.stem.removeprefix('test_')}")
