"""The feedback profile of a network on a text: sign, gain, spectra, sinks and exponents of its layers in one Dataset.

Cost in forward passes with Effort()'s defaults. J v and J'w count as one pass each: of SmolLM2-135M on 64 tokens each
took .97 of its CPU time, and .8 where four were made at once.

    part           passes             J v    J'w    forward passes
    feedback       1 recorded, shared by the next five
    heads          0
    value_output   0 (weights alone)
    attention      0
    diversity      0
    sinks          0
    gain           1 + 1              27     25     54
    nonnormality   1 (2 alone)        38     5      44
    exponents      0 (7 alone)        16     12     28

These are upper bounds: an estimate that has settled stops earlier. `cost` in the attributes counts what was done; what
parts share (the recorded pass, the layers as functions) is counted in the first that needs it. The recordings of layers
that one part has made serve the next, as far as they have room (512 MiB). So do its singular vectors, and its products
with the random directions from which both start: 1 J v of gain and 4 of nonnormality are not made again. Alone,
nonnormality takes 24 J v and J'w more for the singular vectors. Its radii take 15 to 70 J v a layer, here 25.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn import __version__, results
from ctrlattn.checkpoints.measure.part_names import require_parts
from ctrlattn.checkpoints.measure.parts import PARTS
from ctrlattn.checkpoints.measure.parts.measurement import Effort, Measurement
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.errors import InputError
from ctrlattn.identity import digest, of_network, work_folder
from ctrlattn.progress import Progress, silent

if TYPE_CHECKING:
    import xarray as xr

SCHEMA_VERSION = 1
_MEASURED = 2  # counts changes of what a part computes: parts of another count, left by a stopped run, are made anew
_MATRICES = {"heads", "value_output", "attention", "sinks"}  # parts that ask for attention matrices
_WEIGHT = {"forward": 1.0, "jvp": 1.0, "vjp": 1.0}


def feedback_profile(
    checkpoint: Checkpoint,
    ids: Any,
    *,
    parts: Sequence[str] | None = None,
    progress: Progress | None = None,
    store: Any = None,
    effort: Effort | None = None,
    seed: int = 0,
    identity: str | None = None,
) -> "xr.Dataset":
    """Measure a network on one text, part by part.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) token ids, str, or image
        As in `tap`.
    parts : names, optional
        {parts}; all by default. Some parts of a traced network are left out: `heads` and `value_output` where heads
        cannot be told apart, `attention` and `sinks` where nothing has an attention matrix, and `feedback` where the
        factor of a contribution depends on the text.
    progress : callable (part, done, total), optional
    store : directory, optional
        Each part is written there when it is done, whole or not at all; what is there for the same weights, text and
        effort is not measured again. Parts of others are left alone: this run's go to a directory beside it.
    effort : Effort, optional
        How many products the estimates of gain, non-normality and exponents may take.
    seed : int
        Seed of the random directions.
    identity : str, optional
        What `profile_identity` has just said of the same arguments: every weight is then hashed once, not twice.

    Returns
    -------
    xarray.Dataset
        Dims layer, depth (layer + 1), sublayer, head, token and those of single variables; every variable says its
        `long_name` and `units`. The sublayers are attention and mlp, or of a traced network those that its layers have
        (mixer, "mlp 2"), with nan in a layer without one. Jacobians are those of a whole layer with respect to the
        stream of all tokens, n d numbers, with isotropic directions. Attributes: the network, `cost`, a JSON text
        (parts -> passes, J v, J'w and their sum in forward passes).

    Raises
    ------
    InputError
        An unknown part, bad ids, weights that give NaN; `heads` or `value_output` of a network without any attention.

    References
    ----------
    The functions of the quantities name theirs; for the feedback of a sublayer see docs/origin.md, "Prediction error".

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2Model(config))
    >>> profile = feedback_profile(network, [1, 2, 3], parts=["feedback", "sinks"])
    >>> profile["feedback_gain"].dims, profile["sink_share"].shape
    (('layer', 'sublayer', 'token'), (2, 2))
    """
    names = wanted_parts(parts, checkpoint)
    effort = effort or Effort()
    inputs = inputs_of(checkpoint, ids)  # bad input is told before the work
    measurement = Measurement(checkpoint, ids, effort, seed, progress or silent, not _MATRICES.isdisjoint(names))
    mark = "" if store is None else identity or _identity(checkpoint, inputs, effort, seed)
    folder = None if store is None else work_folder(Path(store), mark, progress or silent)
    parts_by_name = {name: _part(measurement, name, folder, mark) for name in names}
    return _merge(measurement, parts_by_name)


def wanted_parts(parts: Sequence[str] | None, checkpoint: Checkpoint | None = None) -> list[str]:
    """Return the names of parts in the order of the table; for None all of them, or all that this checkpoint has.

    Raises
    ------
    InputError
        A part does not exist, or none is asked for.

    Examples
    --------
    >>> wanted_parts(["sinks", "feedback"])
    ['feedback', 'sinks']
    """
    if parts is None:
        missing = () if checkpoint is None else _missing(checkpoint)
        return [name for name in PARTS if name not in missing]
    require_parts(parts)
    return [name for name in PARTS if name in parts]


def _missing(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return the parts that a traced network does not have.

    They are those of heads whose maps are not known, of attention without a matrix, and of single contributions where
    a factor of theirs depends on the text.
    """
    family = checkpoint.family
    if not isinstance(family, Traced):
        return ()
    heads = () if family.value and family.output else ("heads", "value_output")
    if family.structure.by_text:
        has_matrix = any(term.matrix for call in family.structure.calls for term in call.terms)
        return ("feedback", *heads) if has_matrix else ("feedback", *heads, "attention", "sinks")
    has_matrix = bool(family.matrix) or any(s.matrix for s in checkpoint.sublayers("attention"))
    return heads if has_matrix else (*heads, "attention", "sinks")


def _part(measurement: Measurement, name: str, folder: Path | None, mark: str) -> "xr.Dataset":
    """Read a part from the store, or measure and store it; its attributes have its cost and its question's mark."""
    path = None if folder is None else folder / f"{name}.nc"
    if path is not None and path.exists():
        stored = results.load(path)
        if stored.attrs.get("fingerprint") == mark:
            measurement.report(name, 1, 1)
            return stored
    measurement.report(name, 0, 1)
    before = measurement.passes
    try:
        part, passes = PARTS[name](measurement)
    except InputError as error:
        raise InputError(f"part {name!r} of the profile cannot be measured: {error}") from error
    # Passes that parts share are counted in the first part that needs them.
    passes = passes._replace(forward=passes.forward + measurement.passes - before)
    part = part.assign_attrs(passes._asdict(), fingerprint=mark)
    measurement.report(name, 1, 1)
    if path is not None:
        results.save(path, part)
    return part


def _merge(measurement: Measurement, parts: dict[str, "xr.Dataset"]) -> "xr.Dataset":
    import xarray as xr

    checkpoint = measurement.checkpoint
    costs = {name: {kind: float(part.attrs[kind]) for kind in _WEIGHT} for name, part in parts.items()}
    for cost in costs.values():
        cost["forward_passes"] = sum(weight * cost[kind] for kind, weight in _WEIGHT.items())
    merged = xr.merge([part.drop_attrs(deep=False) for part in parts.values()], join="exact", compat="no_conflicts")
    coords: dict[str, Any] = {
        name: np.arange(merged.sizes[name]) for name in ("layer", "depth", "head") if name in merged.sizes
    }
    if "sublayer" in merged.sizes:
        coords["sublayer"] = list(measurement.slots)
    return results.complete(merged.assign_coords(coords)).assign_attrs(
        schema_version=SCHEMA_VERSION,
        ctrlattn=__version__,
        model=checkpoint.name,
        family=checkpoint.family.name,
        norm=checkpoint.family.norm,
        causal=int(checkpoint.causal),
        seed=measurement.seed,
        effort=json.dumps(vars(measurement.effort)),
        cost=json.dumps(costs),
    )


def profile_identity(
    checkpoint: Checkpoint, ids: Any, *, effort: Effort | None = None, seed: int = 0, content: str | None = None
) -> str:
    """Return the digest of what decides a profile: every weight, the text, effort, seed and the parts' version.

    `content` is what `load_with_content` has said of the weights; without it those in memory are hashed.
    """
    return _identity(checkpoint, inputs_of(checkpoint, ids), effort or Effort(), seed, content)


def _identity(
    checkpoint: Checkpoint, inputs: dict[str, Any], effort: Effort, seed: int, content: str | None = None
) -> str:
    return digest(content or of_network(checkpoint.model), inputs, vars(effort), seed, SCHEMA_VERSION, _MEASURED)


if feedback_profile.__doc__:  # absent under python -OO
    feedback_profile.__doc__ = feedback_profile.__doc__.replace("{parts}", ", ".join(PARTS))
