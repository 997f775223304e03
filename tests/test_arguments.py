"""Bad arguments x public numeric functions: an InputError each time, never a raw error or a warning."""

import importlib
import inspect
import re
import warnings

import control
import numpy as np
import pytest

import ctrlattn
from ctrlattn import (
    PID,
    CausalMean,
    InputError,
    InputTypeError,
    Loop,
    LTIController,
    design,
    frequency,
    linear,
    stability,
)

LOOP = Loop(CausalMean(), skip=0.5, feedback=0.3, controller=PID(0.2, 0.1))
PLAIN = Loop(CausalMean(), skip=0.5, feedback=0.3)
LAG = control.tf([0.5], [1, -0.4], 1)
A = np.array([[0.5, 0.2], [0.0, 0.3]])
AXES = ("kp", "ki")

# What each value stands in for; a function of the bad argument alone.
NUMBERS = {
    "sector_limit low": lambda x: stability.sector_limit(LAG, x),
    "circle_criterion low": lambda x: stability.circle_criterion(LAG, x, 1.0),
    "circle_criterion high": lambda x: stability.circle_criterion(LAG, 0.0, x),
    "softmax_sector": stability.softmax_sector,
    "normalizer_sector": stability.normalizer_sector,
    "gain_intervals first": lambda x: stability.gain_intervals(LOOP, AXES, 0.5, x),
    "lqr error": lambda x: design.lqr(PLAIN, 0.5, error=x),
    "lqr control": lambda x: design.lqr(PLAIN, 0.5, control=x),
    "attention_lipschitz radius": lambda x: stability.attention_lipschitz(ctrlattn.SoftmaxAttention(), x, features=2),
    "stability_set of a number": stability.stability_set,
    "transient_growth interval": lambda x: stability.transient_growth(A - np.eye(2), 2, continuous=True, interval=x),
}
WHOLE = {
    "attention_lipschitz features": lambda n: stability.attention_lipschitz(
        ctrlattn.SoftmaxAttention(), 1.0, features=n
    ),
    "pass_operator": lambda n: linear.pass_operator(PLAIN, n),
    "transient_growth steps": lambda n: stability.transient_growth(A, n),
}
ARRAYS = {
    "is_stable": lambda x: stability.is_stable(PID(0.2), x),
    "closed_loop_poles": lambda x: stability.closed_loop_poles(PID(0.2), x),
    "spectral_radius": lambda x: stability.spectral_radius(PID(0.2), x),
    "region_boundary": lambda x: stability.region_boundary(PID(0.2), x),
    "root_locus at": lambda x: stability.root_locus(LOOP, "kp", 0.5, x),
    "gain_radius": lambda x: stability.gain_radius(LOOP, AXES, 0.5, x),
    "gain_region first": lambda x: stability.gain_region(LOOP, AXES, 0.5, x),
    "mode a": lambda x: linear.mode(LOOP, x),
    "sensitivity_peaks alpha": lambda x: frequency.sensitivity_peaks(PID(0.2), x),
    "token_frequency_response omega": lambda x: frequency.token_frequency_response(np.eye(2), x),
    "pole_sensitivity a": lambda x: stability.pole_sensitivity(LOOP, x, AXES),
    "gain_region spectrum": lambda x: stability.gain_region(LOOP, AXES, x, 0.5),
    "gain_radius spectrum": lambda x: stability.gain_radius(LOOP, AXES, x, [0.1, 0.2]),
    "tune spectrum": lambda x: design.tune(PLAIN, x, design.Spec(modulus_margin=0.5)),
    "pseudospectrum grid": lambda x: stability.pseudospectrum(A, x),
    "numerical_radius": stability.numerical_radius,
    "poles": linear.poles,
}
THINGS = {  # each needs a thing of its own kind
    "gain_region axes": lambda x: stability.gain_region(LOOP, x, 0.5, 0.5),
    "pole_sensitivity gains": lambda x: stability.pole_sensitivity(LOOP, 0.5, x),
    "continue_fixed_point gains": lambda x: stability.continue_fixed_point(lambda g: np.cos, np.zeros(1), x),
    "describing_function phi": lambda x: stability.describing_function(x, 1.0),
    "describing_function omega": lambda x: stability.describing_function(np.tanh, 1.0, omega=[x]),
    "balanced_truncation tol": lambda x: stability.balanced_truncation(LAG, tol=[x, x]),
    "linearize x": lambda x: linear.linearize(PLAIN, x),
    "tune spec": lambda x: design.tune(PLAIN, 0.5, x),
}
SIGNALS = {
    "mean_cosine": frequency.mean_cosine,
    "participation_rank": frequency.participation_rank,
    "difference_gain": frequency.difference_gain,
    "token_frequency_response": lambda x: frequency.token_frequency_response(x, [0.0, 1.0]),
    "attention_spectrum": stability.attention_spectrum,
}
CONTROLLERS = {
    "stability_set": stability.stability_set,
    "stability_interval": stability.stability_interval,
    "region_boundary": lambda c: stability.region_boundary(c, [0.1]),
}


def refused(function, bad):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError):
            function(bad)


@pytest.mark.parametrize("bad", ["x", None, np.nan, np.inf, [1.0, 2.0], {}, 1j], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number(name, bad):
    refused(NUMBERS[name], bad)


@pytest.mark.parametrize("bad", ["x", 2.5, -1, True, np.nan, [3]], ids=repr)
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_number(name, bad):
    refused(WHOLE[name], bad)


@pytest.mark.parametrize("bad", ["x", None, np.nan, [np.inf], {}, [[1.0], [1.0, 2.0]]], ids=repr)
@pytest.mark.parametrize("name", ARRAYS)
def test_numbers_of_an_array(name, bad):
    refused(ARRAYS[name], bad)


@pytest.mark.parametrize("bad", [np.ones(3), np.float64(1.0), np.ones((0, 0)), np.ones((2, 0))], ids=repr)
@pytest.mark.parametrize("name", SIGNALS)
def test_signals_and_matrices(name, bad):
    refused(SIGNALS[name], bad)


@pytest.mark.parametrize("bad", [None, 1.0, "pid", PID, control.tf([1], [1, 1])], ids=repr)
@pytest.mark.parametrize("name", CONTROLLERS)
def test_controllers(name, bad):
    refused(CONTROLLERS[name], bad)


@pytest.mark.parametrize("bad", [None, 1.5, object(), "x", {}], ids=lambda bad: type(bad).__name__)
@pytest.mark.parametrize("name", THINGS)
def test_things_of_another_kind(name, bad):
    refused(THINGS[name], bad)


def test_good_values_of_any_size_are_answered_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stability.transient_growth(np.diag([1e12, 1.0]), 1, continuous=True).norms.tolist() == [1.0, np.inf]
        assert np.allclose(ctrlattn.rms_norm(np.array([[3e160, -3e160], [3.0, -3.0]])), [[1, -1], [1, -1]])
        peaks = frequency.sensitivity_peaks(LTIController(control.tf([0.5], [1, -1], 1)), 0.5)
        assert (peaks.ms, peaks.mt) == (np.inf, np.inf)  # z^2 - 1.5 z + 1: both poles on the circle
    with pytest.raises(InputError):
        design.lqr(PLAIN, 0.5, error=True)


def public_names(room):
    """The public functions, classes and methods of a room: those of its `__all__`, or those that its file defines."""
    module = importlib.import_module(room)
    own = (name for name, thing in vars(module).items() if getattr(thing, "__module__", "") == room and name[0] != "_")
    for name in getattr(module, "__all__", None) or list(own):
        thing = getattr(module, name)
        ours = getattr(thing, "__module__", "").startswith("ctrlattn")
        if not (ours and callable(thing)) or (isinstance(thing, type) and issubclass(thing, Exception)):
            continue
        yield f"{room}.{name}", thing
        if isinstance(thing, type):
            methods = {k: v for k, v in vars(thing).items() if not k.startswith("_") and inspect.isfunction(v)}
            yield from ((f"{room}.{name}.{k}", method) for k, method in methods.items())


def flags_of(function):
    """Its boolean parameters; a class that only records what was found, each flag without a default, has none."""
    parameters = inspect.signature(function).parameters.values()
    flags = [p for p in parameters if isinstance(p.default, bool) or re.search(r"\bbool\b", str(p.annotation))]
    recorded = isinstance(function, type) and all(p.default is p.empty for p in flags)
    return [] if recorded else [p.name for p in flags]


def public_flags():
    """(name, function, flag) of every boolean parameter of the package that a user can reach."""
    rooms = ["ctrlattn", *(f"ctrlattn.{room}" for room in (*ctrlattn._ROOMS, *ctrlattn._MODULES, "report"))]
    flags = {}
    for name, function in (pair for room in rooms for pair in public_names(room)):
        flags |= {(id(function), flag): (name, function, flag) for flag in flags_of(function)}
    return list(flags.values())


def called_with(function, flag, value):
    """Call with one flag, and with things of no use in the place of whatever else is needed."""
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty and p.name != flag]
    by_place = [object() for p in needed if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return function(*by_place, **{p.name: object() for p in needed if p.kind is p.KEYWORD_ONLY}, **{flag: value})


def test_every_boolean_parameter_is_judged_before_all_else():
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    wrong = {}
    for name, function, flag in (cases := public_flags()):
        for bad in (np.array([True, False]), np.array([True]), [], "false", 1, 0.0, object):
            try:
                called_with(function, flag, bad)
                wrong[name, flag] = "no error"
            except InputTypeError as error:
                if not str(error).startswith(f"{flag} must be True or False, got "):
                    wrong[name, flag] = error
            except Exception as error:
                wrong[name, flag] = error
        for good in (True, np.True_, np.False_):
            try:
                called_with(function, flag, good)
            except Exception as error:  # of the things of no use
                if f"{flag} must be True" in str(error):
                    wrong[name, flag] = error
    assert wrong == {}
    assert len(cases) > 45, "the flags were not collected"


def test_a_flag_of_numpy_is_one_of_python_in_what_keeps_it():
    loop = Loop(CausalMean(), hold_first=np.True_, normalize_input=np.False_)
    assert loop.hold_first is True
    assert loop.normalize_input is False
    assert loop == Loop(CausalMean(), hold_first=True)
    assert stability.hinf_norm((A, A, A, A), continuous=np.False_) == stability.hinf_norm((A, A, A, A))
