"""x + F(norm(x)) -> x, or x + G norm(x) + b: attention, MLPs or blocks dropped from a network, bare or compensated."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import KINDS, Kind
from ctrlattn.checkpoints.network.inputs import windows_of
from ctrlattn.checkpoints.network.structure import Structure, put, record, shared, structure_of
from ctrlattn.checkpoints.reduce.compensate import Calibration, fit_gains, settings_of
from ctrlattn.checkpoints.reduce.request import require_gains
from ctrlattn.errors import InputError


def drop(
    checkpoint: Checkpoint,
    *,
    attention: Iterable[int] = (),
    mlp: Iterable[int] = (),
    blocks: Iterable[int] = (),
    compensate: Any = None,
) -> Checkpoint:
    """A checkpoint without these sublayers. The source is untouched; both share the weights that are left.

    A dropped attention layer has no part in the KV cache. A further drop from the result adds to the dropped layers.

    Parameters
    ----------
    checkpoint : Checkpoint
    attention, mlp, blocks : layers 0 ... layers - 1
        Layers whose attention, MLP, or both (a block) are dropped.
    compensate : Calibration or (windows, length) token ids, optional
        Text to which a static gain is fitted for each dropped sublayer, see `Calibration`. None drops them bare.

    Returns
    -------
    Checkpoint
        `model` is a transformers model of the same class, and `model.config.ctrlattn` lists the dropped sublayers.

    Raises
    ------
    InputError
        A layer does not exist or is dropped already, no layer is named, or no attention would be left. With gains: the
        network is an encoder or post-norm, a memory is asked for where a norm follows the attention, or the text gives
        a gain that is not finite.

    References
    ----------
    He, Sun, Shen and Li, What Matters in Transformers?, arXiv 2406.15786, section 3: dropping without compensation.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=3, n_embd=8, n_head=2, vocab_size=9)
    >>> model = transformers.GPT2LMHeadModel(config)
    >>> smaller = drop(checkpoints.load(model), attention=[1], mlp=[2])
    >>> smaller.model.config.ctrlattn
    {'attention': {'1': None}, 'mlp': {'2': None}}
    """
    gone = _wanted(checkpoint, attention=attention, mlp=mlp, blocks=blocks)
    calibration = None if compensate is None else Calibration.of(compensate)
    windows = None if calibration is None else _windows(checkpoint, calibration)
    before = structure_of(checkpoint.model)
    stands = {kind: settings_of(checkpoint, kind, calibration) for kind in KINDS if gone[kind]}
    structure: Structure = {kind: {**before[kind], **dict.fromkeys(gone[kind], stands.get(kind))} for kind in KINDS}
    if len(structure["attention"]) == len(checkpoint.layers):
        raise InputError(
            f"all {len(checkpoint.layers)} attention layers would be gone: no token would read another, and no cache "
            "would count them; keep at least one"
        )
    smaller = replace(checkpoint, model=shared(checkpoint.model))
    if calibration is None or windows is None:
        for sublayer in smaller.sublayers():
            if sublayer.layer in gone[sublayer.kind]:
                put(smaller.family, smaller.model, sublayer, None)
    else:
        fit_gains(smaller, gone, windows, calibration)
    record(smaller.family, smaller.model, structure)
    return smaller


def _wanted(checkpoint: Checkpoint, **named: Iterable[int]) -> dict[Kind, tuple[int, ...]]:
    """{kind: layers to drop}, checked against the network."""
    layers = {name: {checkpoint.layer_index(layer) for layer in some} for name, some in named.items()}
    before = structure_of(checkpoint.model)
    gone: dict[Kind, tuple[int, ...]] = {}
    for kind in KINDS:
        gone[kind] = tuple(sorted(layers[kind] | layers["blocks"]))
        twice = [layer for layer in gone[kind] if layer in before[kind]]
        if twice:
            raise InputError(f"the {kind} of layer {twice[0]} is gone already")
    if not any(gone.values()):
        raise InputError("nothing to drop: name layers in attention, mlp or blocks")
    return gone


def _windows(checkpoint: Checkpoint, calibration: Calibration) -> Any:
    require_gains(checkpoint.family)
    return windows_of(checkpoint, calibration.ids)
