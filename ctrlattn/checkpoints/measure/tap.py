"""state_{l+1} = state_l + attention_out_l + mlp_out_l: record stream, contributions and attention of every layer.

Bare forward hooks read them and are removed again whatever happens; no tapping library is needed.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ctrlattn import signals
from ctrlattn.checkpoints.measure.columns import Column
from ctrlattn.checkpoints.measure.matrices import Matrices
from ctrlattn.checkpoints.measure.traced_tap import recorded_pass
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Sublayer, at, is_parallel
from ctrlattn.checkpoints.network.inputs import inputs_of
from ctrlattn.checkpoints.network.proved import Signal, Sums, recorder, require_sums
from ctrlattn.checkpoints.network.repeat import pass_ends
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.network.watch import Hook, attention, first, up_to_head, watch
from ctrlattn.checkpoints.trace.follow import matrix_of
from ctrlattn.checkpoints.trace.structure import Structure
from ctrlattn.errors import require_flag

if TYPE_CHECKING:
    import xarray as xr

_OUT = ("attention_out", "mlp_out")
_LEFT_OUT = {"no_matrix": "the attention matrices were not recorded"}
# In the place of a tensor that is copied. One for all: a small tensor that stays between large ones that go keeps the
# next large one out of the space of the last.
_GONE = torch.empty(0)


def tap(checkpoint: Checkpoint, ids: Any, *, matrices: bool = True) -> "xr.Dataset":
    """Record the residual stream, the contributions and the attention matrices of one text or image.

    Parameters
    ----------
    checkpoint : Checkpoint
    ids : (n,) or (1, n) token ids, a str, or an image (channels, height, width)
        The checkpoint's tokenizer makes ids of a str, special tokens included; pixel values come normalised as the
        network wants them.
    matrices : bool
        False leaves the attention matrices out, heads n^2 numbers a layer; the attribute no_matrix says so.

    Returns
    -------
    xarray.Dataset
        Schema of `ctrlattn.signals`. For pre-norm families mid = state + attention_out and the next state =
        mid + mlp_out, to rounding; for post-norm (BERT) each is the norm of that sum. Where attention and MLP read the
        same stream (attribute parallel = 1) mid is that sum too, though no module reads it. A traced network whose
        layers are not one attention and one MLP has `contribution` in their place (see `ctrlattn.signals`), and one
        whose stream has another factor than 1 has `carried`. A layer without an attention matrix has nan, and the
        attribute no_matrix names it. The sums are compared before anything is returned. Behind the layers in the
        attribute controlled_layers, which end a pass of `repeat`, the state has the control in it as well.

    Raises
    ------
    InputError
        No token, ids outside the vocabulary, several texts at once, a str without a tokenizer, signals that are not
        finite.
    ArithmeticError
        The recorded parts of a layer do not sum to the stream that it gave, with the layer and the largest error.

    Examples
    --------
    >>> import torch, transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
    ...                                  intermediate_size=8)
    >>> recorded = tap(checkpoints.load(transformers.BertModel(config)), [1, 2, 3])
    >>> dict(recorded["attention"].sizes)
    {'layer': 2, 'head': 2, 'query': 3, 'key': 3}
    """
    matrices = require_flag("matrices", matrices)
    inputs = inputs_of(checkpoint, ids)
    if isinstance(checkpoint.family, Traced):
        return _tap_traced(checkpoint, checkpoint.family.structure, inputs, matrices)
    collector = Matrices(len(checkpoint.layers), causal=checkpoint.causal)
    sublayers = checkpoint.sublayers()
    rows = _Rows(checkpoint, sublayers)
    more = [*(_matrix_hooks(checkpoint, collector) if matrices else ()), (checkpoint.layers[-1], rows.end, False)]
    watching = watch(sublayers, rows.record, more=more)
    passing = up_to_head(checkpoint.model, lambda: len(rows.errors) == len(checkpoint.layers))
    with attention(checkpoint.model, "eager"), watching, torch.no_grad(), passing:
        checkpoint.model(**inputs)
    require_sums(checkpoint, rows.errors)
    arrays = rows.arrays()
    recorded, notes = collector.whole() if matrices else (None, dict(_LEFT_OUT))
    n = arrays["state"].shape[-2]
    if matrices and recorded is None:
        recorded = np.full((len(checkpoint.layers), checkpoint.heads, n, n), np.nan, np.float32)
    if recorded is not None:
        arrays["attention"] = recorded
    attrs = {**attributes(checkpoint, inputs), **_controlled_layers(checkpoint), **notes}
    judged = rows.certain and collector.certain
    return signals.dataset(arrays, tokens=token_names(checkpoint, inputs), attrs=attrs, judged=judged)


class _Rows:
    """The signals of a network that is read by its row: each layer is summed up and copied once the next one begins."""

    def __init__(self, checkpoint: Checkpoint, sublayers: Sequence[Sublayer]) -> None:
        count = len(checkpoint.layers)
        self._parallel = sublayers[0].parallel
        self._columns = {name: Column(count + (name == "state")) for name in ("state", "mid", *_OUT)}
        self._signal: Signal = {name: [] for name in self._columns}
        self._watcher, self._sums = recorder(self._signal), Sums(checkpoint, sublayers)
        self.errors: list[float] = []
        self.certain = False

    def record(self, sublayer: Sublayer, x: torch.Tensor, u: torch.Tensor, F: torch.Tensor) -> None:
        """Add the signals of one sublayer, as `watch` reports them."""
        self._watcher(sublayer, x, u, F)
        if sublayer.kind == "attention":
            self.close()

    def end(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Take the stream behind the last layer, as its hook."""
        self._signal["state"].append(first(output))
        self.close()
        self._put("state", first(output))
        # A sum is finite where its parts are alone, and what is not finite stays so from layer to layer.
        self.certain = self._sums.complete and bool(torch.isfinite(first(output)).all())

    def close(self) -> None:
        """Sum up the layer whose next stream has just come in, and keep copies alone."""
        i = len(self._signal["state"]) - 2
        if i < 0:
            return
        error = self._sums.error(i, self._signal)
        self.errors.append(error)
        for name, column in self._signal.items():
            if error < math.inf:  # its parts have one shape
                self._put(name, column[i])
            column[i] = _GONE

    def _put(self, name: str, t: torch.Tensor) -> None:
        if name != "mid" or not self._parallel:
            self._columns[name].put(t.reshape(t.shape[-2:]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the signals of all layers; where both sublayers read one stream, no module reads mid."""
        arrays = {name: column.array() for name, column in self._columns.items()}
        if self._parallel:
            arrays["mid"] = arrays["state"][:-1] + arrays["attention_out"]
        return arrays


def _tap_traced(
    checkpoint: Checkpoint, structure: Structure, inputs: dict[str, Any], with_matrices: bool
) -> "xr.Dataset":
    with attention(checkpoint.model, "eager"), torch.no_grad():
        record = recorded_pass(checkpoint, structure, inputs)
    arrays = record.arrays()
    names = token_names(checkpoint, inputs, record.tokens)
    matrices, notes = record.matrices.whole() if with_matrices else (None, dict(_LEFT_OUT))
    attrs = {**attributes(checkpoint, inputs), **_controlled_layers(checkpoint), **notes}
    if matrices is not None:
        arrays["attention"] = matrices
    judged = record.certain and record.matrices.certain
    return signals.dataset(arrays, tokens=names, attrs=attrs, labels=record.labels(), judged=judged)


def _controlled_layers(checkpoint: Checkpoint) -> dict[str, Any]:
    controlled = ", ".join(map(str, pass_ends(checkpoint.model)))
    return {"controlled_layers": controlled} if controlled else {}


def _matrix_hooks(checkpoint: Checkpoint, collector: Matrices) -> Iterator[Hook]:
    """Yield hooks for what no sublayer reads or adds: the attention matrices."""

    def matrix_at(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            collector.put(i, matrix_of(output))  # None where attention was replaced by something that has no matrix

        return hook

    for i, layer in enumerate(checkpoint.layers):
        yield at(layer, checkpoint.family.matrix), matrix_at(i), False


def token_names(checkpoint: Checkpoint, inputs: dict[str, Any], count: int | None = None) -> list[str]:
    """Return token strings; class tokens and "row,column" of each patch of an image; numbers where `count` differs.

    A network may read fewer tokens than it is given, or more, and a traced one does not say what its patches are.
    """
    names = _token_names(checkpoint, inputs)
    return names if count in (None, len(names)) else [str(i) for i in range(count or 0)]


def _token_names(checkpoint: Checkpoint, inputs: dict[str, Any]) -> list[str]:
    if "pixel_values" in inputs and isinstance(checkpoint.family, Traced):
        return []
    if "pixel_values" in inputs:
        return _patches(checkpoint.model, inputs["pixel_values"].shape[-2:])
    if "input_ids" not in inputs:
        return []
    tokens = inputs["input_ids"][0].tolist()
    return [str(i) if checkpoint.tokenizer is None else checkpoint.tokenizer.decode([i]) for i in tokens]


def _patches(model: Any, size: Sequence[int]) -> list[str]:
    patch = model.config.patch_size
    height, width = (patch, patch) if isinstance(patch, int) else patch
    rows, columns = size[0] // height, size[1] // width
    extra = ["[CLS]", "[DIST]"] if hasattr(model.base_model.embeddings, "distillation_token") else ["[CLS]"]
    return extra + [f"{row},{column}" for row in range(rows) for column in range(columns)]


def attributes(checkpoint: Checkpoint, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return what a Dataset says of its network; "text" is empty where none is known."""
    family = checkpoint.family
    tokenizer = checkpoint.tokenizer if "input_ids" in inputs else None
    text = "" if tokenizer is None else tokenizer.decode(inputs["input_ids"][0].tolist())
    return {
        "model": checkpoint.name,
        "family": family.name,
        "norm": family.norm,
        "causal": int(checkpoint.causal),
        "parallel": int(_parallel(checkpoint)),
        "dtype": str(next(checkpoint.model.parameters()).dtype).removeprefix("torch."),
        "text": text,
    }


def _parallel(checkpoint: Checkpoint) -> bool:
    """Tell whether every layer adds its attention and its MLP at once."""
    if isinstance(checkpoint.family, Traced):
        calls = checkpoint.family.structure.calls
        return all(call.kinds == ("attention", "mlp") and len(call.steps) == 1 for call in calls)
    return is_parallel(checkpoint.family, checkpoint.model.config)
