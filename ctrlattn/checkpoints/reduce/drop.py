"""x + F(norm(x)) -> x, or x + G norm(x) + b: attention, MLPs or blocks dropped from a network, bare or compensated."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, get_args

from ctrlattn.checkpoints.measure.value_paths import with_value_maps
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Kind, sublayers
from ctrlattn.checkpoints.network.inputs import windows_to_fit
from ctrlattn.checkpoints.network.repeat import require_no_loop
from ctrlattn.checkpoints.network.structure import DropStructure, put, record, shared, structure_of
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.reduce.compensate import Calibration, fit_gains, settings_of
from ctrlattn.checkpoints.reduce.proof import answers_of, missed
from ctrlattn.errors import InputError


def drop(
    checkpoint: Checkpoint,
    *,
    attention: Iterable[int] = (),
    mlp: Iterable[int] = (),
    blocks: Iterable[int] = (),
    mixer: Iterable[int] = (),
    compensate: Any = None,
) -> Checkpoint:
    """Return a checkpoint without these sublayers. The source is untouched; both share the weights that are left.

    A dropped attention layer has no part in the KV cache. A further drop from the result adds to the dropped layers.
    In a traced network each drop is proved: the network without the module gives the stream of the network without what
    the module adds. A module that gives more than that (keys that later layers share) stays and runs; only its
    contribution goes.

    Parameters
    ----------
    checkpoint : Checkpoint
    attention, mlp, blocks, mixer : layers 0 ... layers - 1
        Layers whose attention, MLP, or whole (a block) is dropped. A mixer mixes tokens without an attention matrix: a
        state-space layer, linear attention, a convolution.
    compensate : Calibration or (windows, length) token ids, optional
        Text (images for a vision network) to which a static gain is fitted for each dropped sublayer, see
        `Calibration`. None drops them bare. A sublayer that reads something else than d features is dropped bare in any
        case.

    Returns
    -------
    Checkpoint
        `model` is a transformers model of the same class, and `model.config.ctrlattn` lists the dropped sublayers.

    Raises
    ------
    InputError
        A layer does not exist, has no such sublayer or is dropped already, no layer is named, layers of the network are
        repeated, or no attention would be left. With gains: a memory is asked for where a norm follows the attention or
        its maps are not known, a row of the family replaces a module that does not read the stream, or the text gives a
        gain that is not finite.
    ArithmeticError
        A traced network in which something else reads a module that is to go.

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
    layers = _layers_to_drop(checkpoint, attention=attention, mlp=mlp, blocks=blocks, mixer=mixer)
    calibration = None if compensate is None else Calibration.of(compensate)
    windows = None if calibration is None else windows_to_fit(checkpoint, calibration.ids)
    if calibration is not None and calibration.memory and layers["attention"]:
        checkpoint = with_value_maps(checkpoint)
    before = structure_of(checkpoint.model)
    settings = {kind: settings_of(checkpoint, kind, calibration) for kind in layers if layers[kind]}
    stands: DropStructure = {kind: dict.fromkeys(layers[kind], settings[kind]) for kind in settings}
    structure: DropStructure = {
        k: {**before.get(k, {}), **stands.get(k, {})} for k in dict.fromkeys((*before, *stands))
    }
    _require_readers(checkpoint, structure)
    family = checkpoint.family
    if isinstance(family, Traced):
        family, stay = _prove(family, checkpoint, layers)
        for kind, layer in stay:
            structure[kind][layer] = {"kept": structure[kind][layer]}
    smaller = replace(checkpoint, model=shared(checkpoint.model), family=family)
    if calibration is None or windows is None:
        for sublayer in smaller.sublayers():
            if sublayer.layer in layers.get(sublayer.kind, ()):
                put(smaller.family, smaller.model, sublayer, structure[sublayer.kind][sublayer.layer])
    else:
        fit_gains(smaller, layers, windows, calibration, structure)
    record(smaller.family, smaller.model, structure)
    return smaller


def _layers_to_drop(
    checkpoint: Checkpoint, *, blocks: Iterable[int], **by_kind: Iterable[int]
) -> dict[Kind, tuple[int, ...]]:
    """Return {kind: layers to drop}, checked against the network."""
    require_no_loop(checkpoint)
    block_layers = {checkpoint.layer_index(layer) for layer in blocks}
    before, places = structure_of(checkpoint.model), {(s.kind, s.layer) for s in checkpoint.sublayers()}
    layers: dict[Kind, set[int]] = {
        kind: {i for k, i in places if k == kind and i in block_layers} for kind in get_args(Kind)
    }
    for kind in get_args(Kind):
        for layer in (checkpoint.layer_index(layer) for layer in by_kind.get(kind, ())):
            checkpoint.sublayer(kind, layer)  # says what the layer has where it has none of this kind
            layers[kind].add(layer)
        twice = sorted(layer for layer in layers[kind] if layer in before.get(kind, {}))
        if twice:
            raise InputError(f"the {kind} of layer {twice[0]} is gone already")
    if not any(layers.values()):
        raise InputError("nothing to drop: name layers in attention, mlp or blocks")
    return {kind: tuple(sorted(some)) for kind, some in layers.items()}


def _require_readers(checkpoint: Checkpoint, structure: DropStructure) -> None:
    """Raise InputError unless some attention is left, or some mixer where there was no attention."""
    sublayers = checkpoint.sublayers()
    kind: Kind = "attention" if any(s.kind == "attention" for s in sublayers) else "mixer"
    count = len({s.layer for s in sublayers if s.kind == kind})
    if count and len(structure.get(kind, {})) == count:
        raise InputError(
            f"all {count} {kind} layers would be gone: no token would read another, and no cache would count them; "
            "keep at least one"
        )


def _prove(
    family: Traced, checkpoint: Checkpoint, layers: dict[Kind, tuple[int, ...]]
) -> tuple[Traced, list[tuple[Kind, int]]]:
    """Return (the family with what the dropped modules return, sublayers that stay because others need them)."""
    model = checkpoint.model
    targets = [s for s in checkpoint.sublayers() if s.layer in layers[s.kind]]
    family = family.answering(answers_of(family, model, targets))
    targets = [s for s in sublayers(family, model) if s.layer in layers[s.kind]]
    misses = missed(family, model, targets)
    return family, [(s.kind, s.layer) for s in targets if (s.layer, s.path) in misses]
