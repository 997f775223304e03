"""x_{l+1} = N(s x_l + sum_k c_k F_k): the stream behind each layer from its recorded parts."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

Norm = Callable[[np.ndarray], np.ndarray]


def recompose(signals: "xr.Dataset", checkpoint: Checkpoint | None = None) -> "xr.DataArray":
    """Sum up the stream behind each layer from what `tap` has recorded of the layer.

    Parameters
    ----------
    signals : xarray.Dataset
        What `tap` returns.
    checkpoint : Checkpoint, optional
        The network, where norms stand behind the sums (attribute norm = "post").

    Returns
    -------
    xarray.DataArray
        (depth, token, feature) as signals.state[1:], in float64; one subtraction gives the error of the decomposition.

    Raises
    ------
    InputError
        Signals without the stream and its contributions; a post-norm network without its checkpoint.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> recorded = checkpoints.tap(checkpoints.load(transformers.GPT2Model(config)), [1, 2, 3])
    >>> bool(abs(recompose(recorded) - recorded.state[1:]).max() < 1e-6)
    True
    """
    names = ["state", *(["contribution", "stream"] if "contribution" in signals else ["attention_out", "mlp_out"])]
    missing = [name for name in names if name not in signals]
    if missing:
        raise InputError(f"a stream is summed up from {', '.join(names)}: {missing[0]} is missing")
    if signals.attrs.get("norm") == "post" and checkpoint is None:
        raise InputError("a norm stands behind the sums of this network: give recompose(signals, checkpoint)")
    steps = _steps(signals)
    norms = [None] * len(steps) if checkpoint is None else _norms(signals, checkpoint, len(steps))
    state = _array(signals, "state")
    after = np.empty_like(state[1:])
    carry = _array(signals, "carried") if "carried" in signals else None
    x, before = state[0], -1
    for i, ((call, contribution), norm) in enumerate(zip(steps, norms, strict=True)):
        x = state[call] if call != before else x
        total = (x if carry is None else carry[i]) + contribution
        x = after[call] = total if norm is None else norm(total)
        before = call
    return signals["state"][1:].copy(data=after)


def _array(signals: "xr.Dataset", name: str) -> np.ndarray:
    return np.asarray(signals[name].to_numpy(), dtype=np.float64)


def _steps(signals: "xr.Dataset") -> list[tuple[int, np.ndarray]]:
    """Return (call, sum of what is added) of every step."""
    if "contribution" in signals:
        contributions, owner = _array(signals, "contribution"), signals["step_of"].to_numpy()
        calls = signals["call"].to_numpy().tolist()
        return [(call, contributions[owner == i].sum(0)) for i, call in enumerate(calls)]
    attention, mlp = _array(signals, "attention_out"), _array(signals, "mlp_out")
    if signals.attrs.get("parallel"):
        return list(enumerate(attention + mlp))
    return [(i, part) for i, pair in enumerate(zip(attention, mlp, strict=True)) for part in pair]


def _norms(signals: "xr.Dataset", checkpoint: Checkpoint, count: int) -> list[Norm | None]:
    if isinstance(checkpoint.family, Traced):
        structure = checkpoint.family.structure
        layers = [structure.layer_of(checkpoint.model, call) for call in structure.calls]
        behind = [(layers[i], step.norm) for i, call in enumerate(structure.calls) for step in call.steps]
        modules = [layer.get_submodule(name) if name else None for layer, name in behind]
    else:
        modules = [s.after for s in checkpoint.sublayers() if not s.parallel or s.kind == "mlp"]
    if len(modules) != count:
        raise InputError(
            f"the signals have {count} steps, the checkpoint has {len(modules)}: they are not of one network"
        )
    return [None if module is None else _norm_of(module) for module in modules]


def _norm_of(module: torch.nn.Module) -> Norm:
    def norm(total: np.ndarray) -> np.ndarray:
        like = next(module.parameters(), torch.zeros(()))
        with torch.no_grad():
            normed = module(torch.as_tensor(total)[None].to(like))
        return np.asarray((normed[0] if isinstance(normed, tuple) else normed)[0].double().numpy(force=True))

    return norm
