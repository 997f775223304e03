"""max |logits(load(save(network))) - logits(network)|: what was written computes what was measured, and its size."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Family
from ctrlattn.checkpoints.network.inputs import in_batches, windows_of
from ctrlattn.checkpoints.network.load import load
from ctrlattn.checkpoints.network.watch import attention
from ctrlattn.files import visible

SHARE = 1e-5  # of the largest logit: the weights are the same, and only the order of sums may differ
_WEIGHTS = (".safetensors", ".bin", ".pt")


class Saved(NamedTuple):
    """What was written of a network.

    Attributes
    ----------
    difference, tolerance : float
        The largest difference of a logit between the network and what loads again, and the largest that is accepted.
    bytes_before, bytes_after : int
        Size of the weights of the source and of what was written.
    """

    difference: float
    tolerance: float
    bytes_before: int
    bytes_after: int


def reloaded(checkpoint: Checkpoint, directory: Any, ids: Any, *, before: Checkpoint | None = None) -> Saved:
    """Load a saved network again and compare its logits on one window with those of the network.

    Parameters
    ----------
    checkpoint : Checkpoint
        What was saved there: a causal network with its head.
    directory : path
    ids : (n,) token ids
    before : Checkpoint, optional
        The network that it was made of, for `bytes_before`; itself by default.

    Returns
    -------
    Saved

    Raises
    ------
    ArithmeticError
        The logits differ by more than the tolerance. config.json is then taken away, so that the directory does not
        load.

    Examples
    --------
    >>> import tempfile
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> network = checkpoints.load(transformers.GPT2LMHeadModel(config))
    >>> reloaded(network, checkpoints.save(network, tempfile.mkdtemp()), [1, 2, 3]).difference
    0.0
    """
    window = in_batches(windows_of(checkpoint, ids))[0][:1]
    logits = _logits(checkpoint, window)
    tolerance = SHARE * float(logits.abs().max())
    family = checkpoint.family if isinstance(checkpoint.family, Family) else None
    wide = "float64" if checkpoint.model.dtype == torch.float64 else "float32"
    copy = load(str(directory), dtype=wide, attention="sdpa", family=family)
    copy = replace(copy, model=copy.model.to(window.device, checkpoint.model.dtype))
    difference = float((_logits(copy, window) - logits).abs().max())
    if not difference <= tolerance:
        (Path(directory) / "config.json").unlink()
        raise ArithmeticError(
            f"{directory}: the network that was written gives other logits when it is loaded again: they differ by "
            f"{difference:.3g}, and {tolerance:.3g} is accepted; it was made unreadable (no config.json)"
        )
    return Saved(difference, tolerance, bytes_of(before or checkpoint), _bytes_in(Path(directory)))


def bytes_of(checkpoint: Checkpoint) -> int:
    """Return a network's weights in bytes: those of its files if they are here, otherwise in the source's dtype.

    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=4, n_head=1, n_inner=4, n_positions=1, vocab_size=1)
    >>> bytes_of(checkpoints.load(transformers.GPT2Model(config)))  # 152 numbers of 4 bytes
    608
    """
    source = Path(checkpoint.source)
    file_bytes = source.stat().st_size if source.is_file() else _bytes_in(source)
    if file_bytes:
        return file_bytes
    sizes = [(p.numel(), p.element_size()) for p in checkpoint.model.parameters()]
    each = None if checkpoint.stored is None else torch.empty(0, dtype=checkpoint.stored).element_size()
    return sum(count * (each or size) for count, size in sizes)


def _bytes_in(folder: Path) -> int:
    files = visible(folder) if folder.is_dir() else []
    return sum(path.stat().st_size for path in files if path.suffix in _WEIGHTS)


def _logits(checkpoint: Checkpoint, window: torch.Tensor) -> torch.Tensor:
    with attention(checkpoint.model, "sdpa"), torch.inference_mode():
        logits: torch.Tensor = checkpoint.model(input_ids=window, use_cache=False).logits.double()
    return logits
