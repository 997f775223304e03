"""Loop -> TOML: writing a configuration; reading it again gives the same loop to the last bit."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import tomli_w

from ctrlattn.arrays import is_torch, is_vector
from ctrlattn.config.schema import AnyController, AnyNormalizer, AnyPredictor, Part, Simulation, members
from ctrlattn.controllers import LTIController
from ctrlattn.errors import InputError
from ctrlattn.loop import Loop


def dumps(loop: Loop, simulation: Simulation | None = None) -> str:
    """Return the TOML text of a loop; reading it gives the same loop to the last bit.

    Raises
    ------
    InputError
        A predictor, controller or normalizer of one's own, or torch arrays, which a file cannot hold.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> print(dumps(presets.get("neutreno")).splitlines()[1])
    skip = 0.0
    """
    tree: dict[str, Any] = {"loop": loop_to_dict(loop)}
    if simulation is not None:
        tree["simulation"] = dict(vars(simulation))
    return tomli_w.dumps(tree)


def loop_to_dict(loop: Loop) -> dict[str, Any]:
    """Return the loop as plain dicts, lists, numbers and strings.

    Raises
    ------
    InputError
        As `dumps`.

    Examples
    --------
    >>> from ctrlattn import presets
    >>> loop_to_dict(presets.get("neutreno"))["controller"]["kp"]
    0.6
    """
    return {
        "skip": _gain("skip", loop.skip),
        "feedback": _gain("feedback", loop.feedback),
        "reference_gain": float(loop.reference_gain),
        "order": loop.order,
        "normalize_input": loop.normalize_input,
        "hold_first": loop.hold_first,
        "predictor": _predictor(loop.predictor),
        "controller": "none" if loop.controller is None else _controller(loop.controller),
        "normalizer": "none" if loop.normalizer is None else _normalizer(loop.normalizer),
    }


def _gain(where: str, gain: Any) -> Any:
    return _plain_value(where, gain) if is_vector(gain) else float(gain)


def _predictor(predictor: Any) -> dict[str, Any]:
    model = _model_of("predictor", predictor, type(predictor), AnyPredictor)
    return _table("predictor", model, {name: getattr(predictor, name) for name in model.options()})


def _controller(controller: Any) -> dict[str, Any]:
    model = _model_of("controller", controller, type(controller), AnyController)
    if isinstance(controller, LTIController):  # its numbers, whatever system of python-control they came from
        return _table("controller", model, dict(zip("ABCD", controller.realization(), strict=True)))
    return _table("controller", model, {name: getattr(controller, name) for name in model.options()})


def _normalizer(normalizer: Any) -> dict[str, Any]:
    is_bound = isinstance(normalizer, partial) and not normalizer.args
    function, keywords = (normalizer.func, normalizer.keywords) if is_bound else (normalizer, {})
    model = _model_of("normalizer", normalizer, function, AnyNormalizer)
    return _table("normalizer", model, dict(sorted(keywords.items())))


def _model_of(where: str, part: Any, makes: Any, union: Any) -> type[Part]:
    """Return the model that makes a part of this kind."""
    models = [model for model in members(union) if hasattr(model, "makes")]
    for model in models:
        if model.makes is makes:
            return model
    classes = ", ".join(model.makes.__name__ for model in models)
    raise InputError(f"{where} {part!r} is not one of {classes}: a file cannot hold it")


def _table(where: str, model: type[Part], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the kind and every value that is not None, as a file holds them."""
    entries = {name: _plain_value(f"{where}.{name}", value) for name, value in values.items() if value is not None}
    return {"kind": model.kind_name(), **entries}


def _plain_value(where: str, value: Any) -> Any:
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return list(value)
    if is_torch(value):
        raise InputError(f"{where} is a torch tensor: a file holds numpy arrays, move the loop first with Loop.to")
    if getattr(value, "dtype", None) == np.float64:
        return value.tolist()
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return {"dtype": "float32", "data": value.tolist()}
    raise InputError(
        f"{where} is {type(value).__name__} {getattr(value, 'dtype', '')}: a file holds float32 or float64"
    )
