"""source -> Checkpoint: a directory, a GGUF file, a hub id or a model in memory; offline unless allowed otherwise."""

from typing import Any

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description, describe, foreign, where
from ctrlattn.checkpoints.network.families import Family, family_of
from ctrlattn.checkpoints.network.save import is_changed, open_changed
from ctrlattn.errors import InputError

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_ATTENTION = ("eager", "sdpa")


def load(
    source: Any,
    *,
    gguf_file: str | None = None,
    tokenizer: Any | None = None,
    family: Family | None = None,
    allow_download: bool = False,
    dtype: str = "float32",
    attention: str = "eager",
) -> Checkpoint:
    """Load a transformers checkpoint for analysis.

    Nothing in a checkpoint is executed: `trust_remote_code` is always False, and pickled weights are read by torch with
    weights_only=True. A GGUF file is dequantised on reading, which takes many times longer than reading safetensors.

    Parameters
    ----------
    source : path, hub id or transformers model
        A directory with config.json (also what `save` wrote), a .gguf file or a directory with one, a name on the hub,
        or a model object.
    gguf_file : str, optional
        Name of the GGUF file inside the directory.
    tokenizer : optional
        For a model object, or in place of the one beside the weights. A directory may have none: give token ids then.
    family : Family, optional
        Where the signals are, for a network whose `model_type` is not in ctrlattn.checkpoints.FAMILIES.
    allow_download : bool
        Whether a hub id may be fetched; otherwise only what is in the local cache.
    dtype : "float32" or "float64"
        For sources on disk; a model object is switched to `attention` and evaluation mode and otherwise left alone.
    attention : "eager" or "sdpa"
        Eager attention has its matrices at hand; sdpa is faster, and `tap` switches for the time it needs.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        A missing directory or file; missing, truncated, foreign or non-finite weights; an unknown family or
        one that does not fit, an unknown dtype or attention; transformers is not installed.

    Examples
    --------
    >>> load("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    if attention not in _ATTENTION:
        raise InputError(f"attention must be {' or '.join(_ATTENTION)}, got {attention!r}")
    if isinstance(source, torch.nn.Module):
        return _from_model(source, tokenizer, family, attention)
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    description = describe(source, gguf_file=gguf_file, family=family, allow_download=allow_download)
    family = family or family_of(description.model_type)
    if description.gguf is None and is_changed(description.folder):
        options: dict[str, Any] = {"dtype": _DTYPES[dtype], "attention": attention}
        with foreign(source):
            changed = open_changed(description.folder, tokenizer=tokenizer, family=family, **options)
        return _fitting(changed)
    return _from_pretrained(description, tokenizer, family, allow_download, _DTYPES[dtype], attention)


def _from_model(model: Any, tokenizer: Any | None, family: Family | None, attention: str) -> Checkpoint:
    model = getattr(model, "_orig_mod", model)  # torch.compile: compiled code would pass the hooks of an analysis by
    _require_plain(model)
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise InputError(f"{type(model).__name__} is no transformers model: it has no config.model_type")
    family = family or family_of(config.model_type)
    model.set_attn_implementation(attention)
    return _fitting(Checkpoint(model.eval(), tokenizer, family, str(config.name_or_path or type(model).__name__)))


def _require_plain(model: Any) -> None:
    """Raise InputError where a module only holds the network, or its weights are elsewhere; it says what to do."""
    name = type(model).__name__
    if name in ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"):
        raise InputError(f"{name}: a network wrapped for several devices: give the network inside, model.module")
    if hasattr(model, "merge_and_unload"):
        raise InputError(
            f"{name}: an adapter around a network: merge it, model.merge_and_unload(), and give what that returns"
        )
    absent = next((weight for weight, value in model.named_parameters() if value.device.type == "meta"), None)
    if absent is not None:
        raise InputError(
            f"{name}: the weight {absent} is not in memory (device meta: offloaded by accelerate, or never loaded): "
            "load the network without device_map and offloading"
        )


def _fitting(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, once its family fits and its weights are numbers."""
    if not checkpoint.sublayers():
        raise InputError("the network has no layer")
    for name, weight in checkpoint.model.named_parameters():
        if not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise InputError(f"the weight {name} is not finite in {count} of {weight.numel()} values")
    return checkpoint


def _from_pretrained(
    description: Description,
    tokenizer: Any | None,
    family: Family,
    allow_download: bool,
    dtype: torch.dtype,
    attention: str,
) -> Checkpoint:
    import transformers

    name, gguf = description.name, description.gguf
    options = {"dtype": dtype, "attn_implementation": attention, **where(gguf, allow_download=allow_download)}
    if description.config is not None:
        options["config"] = description.config
    loader: Any = transformers.AutoModelForCausalLM
    if description.other_task:
        # A causal class would get a head of random numbers in the place of the one that is there.
        loader = getattr(transformers, description.architecture, transformers.AutoModel)
    elif not family.causal or description.headless:
        loader = transformers.AutoModel
    with foreign(description.source):
        model, info = loader.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    _complete(description.source, info)
    if tokenizer is None:
        tokenizer = description.tokenizer
    return _fitting(Checkpoint(model.eval(), tokenizer, family, name if gguf is None else f"{name}/{gguf}"))


def _complete(source: str, info: dict[str, Any]) -> None:
    """transformers gives weights that a file lacks, or has in another shape, random values and a warning."""
    for name, given, wanted in sorted(info["mismatched_keys"]):
        raise InputError(
            f"{source}: the weight {name} is {tuple(given)} in the file, config.json wants {tuple(wanted)}"
        )
    # Only the pooler, which no layer reads, may be missing.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise InputError(f"{source}: {len(missing)} weights are missing in the file, the first is {missing[0]}")
