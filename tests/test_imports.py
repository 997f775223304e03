"""`import ctrlattn` is cheap: what is heavy loads with the first name that needs it."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "matplotlib", "transformers", "control", "xarray", "scipy", "numba", "jinja2", "plotly", "pydantic")


def loaded_by(statement: str) -> set[str]:
    """The heavy libraries in sys.modules of a fresh interpreter after the statement."""
    code = f"{statement}\nimport sys\nsys.stdout.write(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name for name in done.stdout.split() if name in HEAVY}


@pytest.mark.parametrize(
    "statement",
    [
        "import ctrlattn",
        "import ctrlattn; ctrlattn.__version__, dir(ctrlattn)",
        "from ctrlattn import Loop, CausalMean, PID, presets, simulate; presets.get('pidformer-ema')",
        "import numpy; from ctrlattn import Loop, CausalMean, simulate; simulate(Loop(CausalMean()), numpy.eye(3), 2)",
    ],
)
def test_simulation_with_numpy_loads_numpy_alone(statement):
    assert loaded_by(statement) == set()


def test_the_check_sees_what_is_loaded():
    assert "scipy" in loaded_by("import scipy")


def test_help_loads_no_numerical_library():
    loaded = loaded_by("import ctrlattn.cli")
    assert loaded & {"torch", "matplotlib", "transformers", "control", "xarray", "scipy", "numba"} == set()


@pytest.mark.slow
def test_the_page_of_a_checkpoint_the_matrices_of_a_loop_and_a_sweep_load_no_python_control():
    rooms = "import ctrlattn.report.pages.checkpoint.page, ctrlattn.stability, ctrlattn.linear, ctrlattn.frequency"
    asked = "ctrlattn.linear.poles([[0.5]]), ctrlattn.stability.numerical_radius([[0.5]])"
    # What a worker of a sweep does, once it has been told which.
    sweep = "from ctrlattn.sweep import ANALYSES, Spec, batch, plan"
    analyses = "{name: {} for name in ANALYSES if name not in ('unstable_share', 'loss')}"
    job = f"plan.plan_of(Spec({{'loop.controller.kp': [0.3]}}, {analyses}, loop={{'preset': 'neutreno'}})).job"
    assert "control" not in loaded_by(f"{rooms}; {asked}; {sweep}; batch.compute({job}, 0)")


def test_unknown_names_are_attribute_errors():
    import ctrlattn

    with pytest.raises(AttributeError, match="no attribute 'Lop'"):
        _ = ctrlattn.Lop
