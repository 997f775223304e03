"""wrapper -> network: the torch module inside what nnsight, TransformerLens, peft, torch.compile or timm hand over.

None of these libraries is imported: an object says by its classes which library it is of. What a wrapper adds to the
pass of the module inside, and hooks on that module would not see, is compared or refused.
"""

from dataclasses import dataclass
from typing import Any

import torch

from ctrlattn.checkpoints.trace.images import ImageNetwork, is_timm
from ctrlattn.checkpoints.trace.inputs import short_inputs
from ctrlattn.errors import InputError

_CLOSE = 1e-3  # of the largest output: fused and plain attention differ by far less in float32
_MERGE = "merge it, model.merge_and_unload(), and give what that returns"


@dataclass(frozen=True, eq=False)
class Inside:
    """A network without its wrappers.

    Attributes
    ----------
    model : torch module
    tokenizer : optional
        The tokenizer of the wrapper.
    outermost : optional
        The wrapper, where it can be called with what the network inside reads.
    """

    model: Any
    tokenizer: Any | None = None
    outermost: Any | None = None


def network_in(source: Any) -> Inside | None:
    """Return the network inside a wrapper, or the module itself; None for what is no network, such as a path.

    Raises
    ------
    InputError
        A wrapper whose own part of the pass is not inside the network: edits of nnsight, learned prompts of peft, a
        network elsewhere; HookedTransformer, which has modules of its own.

    Examples
    --------
    >>> linear = torch.nn.Linear(1, 1)
    >>> network_in(linear).model is linear, network_in("gpt2")
    (True, None)
    """
    if _is_of(source, "nnsight"):
        return _in_nnsight(source)
    if _is_of(source, "transformer_lens"):
        return _in_bridge(source)
    if not isinstance(source, torch.nn.Module):
        return None
    return _in_module(source)


def _in_module(source: Any) -> Inside | None:
    name = type(source).__name__
    if hasattr(source, "_orig_mod"):  # torch.compile: compiled code would pass the hooks of an analysis by
        return network_in(source._orig_mod)
    if hasattr(source, "peft_config") and hasattr(source, "get_base_model"):
        if getattr(source.active_peft_config, "is_prompt_learning", False):
            raise InputError(
                f"{name}: the adapter learns a prompt, which is not inside the network: give it without one"
            )
        return Inside(source.get_base_model(), outermost=source)
    if hasattr(source, "merge_and_unload"):
        raise InputError(f"{name}: an adapter around a network: {_MERGE}")
    return Inside(ImageNetwork(source) if is_timm(source) else source)


def require_same(inside: Inside, inputs: dict[str, Any] | None = None) -> None:
    """Raise InputError where a wrapper computes something else than the network inside it, on eight tokens.

    Raises
    ------
    InputError
        The message has the difference, relative to the largest output.
    """
    if inside.outermost is None:
        return
    arguments = short_inputs(inside.model, inputs)[0]
    main = arguments.get(getattr(inside.model, "main_input_name", "input_ids"))
    with torch.no_grad():  # a wrapper may have another name for its first argument
        a, b = (_output(network(main)) for network in (inside.outermost, inside.model))
    error = float((a - b).abs().max() / b.abs().max()) if a.shape == b.shape else float("inf")
    if not error <= _CLOSE:
        raise InputError(
            f"{type(inside.outermost).__name__} computes something else than the {type(inside.model).__name__} inside "
            f"it, by {error:.1e} of the largest output: an analysis would be of another network"
        )


def _output(output: Any) -> torch.Tensor:
    """Return the first tensor that a model gives, as a tensor, a tuple or a ModelOutput."""
    first = output if isinstance(output, torch.Tensor) else output[0]
    return first.detach().float()


def _is_of(source: Any, library: str) -> bool:
    """Tell whether some class of an object is defined in a library."""
    return any(each.__module__.partition(".")[0] == library for each in type(source).__mro__)


def _in_nnsight(source: Any) -> Inside:
    name = type(source).__name__
    model = getattr(source, "_module", None) or getattr(source, "_model", None)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{name} of nnsight holds no network: give LanguageModel or NNsight")
    if getattr(source, "_edits", None) or getattr(source, "_default_mediators", None):
        raise InputError(
            f"{name} of nnsight has edits, which are not inside the network: call clear_edits(), or give the network "
            "without them"
        )
    deeper = network_in(model)
    return Inside(model if deeper is None else deeper.model, getattr(source, "tokenizer", None))


def _in_bridge(source: Any) -> Inside:
    name = type(source).__name__
    if name != "TransformerBridge":
        raise InputError(
            f"{name} of TransformerLens is not read: give the transformers network, or a TransformerBridge of it"
        )
    model = getattr(source, "original_model", None)
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"{name}: its network is not in this process, and none of its signals can be read")
    return Inside(model, getattr(source, "tokenizer", None), outermost=source)
