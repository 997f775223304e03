"""A transformer is a feedback automaton over depth: predict, compare, control, normalise.

Every public name, and the room it lives in. Names load on first use (PEP 562), so that `import ctrlattn`
brings in neither torch nor matplotlib nor python-control nor transformers.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_ROOMS = {
    "predictors": (
        "read",
        "CausalMean",
        "FixedAttention",
        "SoftmaxAttention",
        "AssociativeMemory",
        "BilateralFilter",
    ),
    "controllers": ("PID", "LTIController"),
    "normalizers": ("rms_norm", "layer_norm", "unit_norm"),
    "errors": ("InputError", "InputTypeError"),
    "loop": ("Loop", "simulate", "Trajectory"),
    "streaming": ("stream",),
    "linear": ("pass_operator", "mode", "loop_transfer", "linearize", "jacobian_operator"),
    "stability": (
        "stability_interval",
        "stability_set",
        "gain_margin",
        "margins",
        "Margins",
        "kreiss_constant",
        "pseudospectral_radius",
        "pseudospectral_abscissa",
        "pseudospectrum",
        "numerical_radius",
        "distance_to_instability",
        "transient_growth",
        "crossings",
        "disk_margin",
        "loop_margins",
        "h2_norm",
        "hinf_norm",
        "hankel_singular_values",
        "balanced_truncation",
        "gain_intervals",
        "gain_region",
        "pole_sensitivity",
        "circle_criterion",
        "describing_function",
        "contraction_certificate",
        "lyapunov_exponents",
        "layer_map",
        "fixed_point",
        "continue_fixed_point",
        "bifurcation_diagram",
    ),
    "frequency": ("sensitivity", "complementary_sensitivity", "frequency_response"),
    "design": ("tune", "Spec", "judge"),
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names}
_MODULES = (
    "presets",
    "memory",
    "config",
    "results",
    "signals",
    "plots",
    "looped",
    "exchange",
    "checkpoints",
    "nn",
    "observers",
    "sweep",
)

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"ctrlattn.{_HOME[name]}"), name)
    if name in _MODULES:
        return import_module(f"ctrlattn.{name}")
    raise AttributeError(f"module 'ctrlattn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
