"""source -> Checkpoint: a directory, a GGUF file, a hub id or a model in memory; offline unless allowed otherwise."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.families import Family, family_of
from ctrlattn.checkpoints.network.save import is_changed, open_changed
from ctrlattn.errors import InputError

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_ATTENTION = ("eager", "sdpa")
_LONGEST = 400  # characters of a message


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
    name, gguf = _locate(str(source), gguf_file)
    if find_spec("transformers") is None:
        raise InputError('a checkpoint needs transformers: pip install "ctrlattn[hf]"')
    try:
        if gguf is None and is_changed(name):
            options: dict[str, Any] = {"dtype": _DTYPES[dtype], "attention": attention}
            return _fitting(open_changed(name, tokenizer=tokenizer, family=family, **options))
        return _from_pretrained(name, gguf, tokenizer, family, allow_download, _DTYPES[dtype], attention)
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file raises whatever its bytes lead to (struct.error, ZeroDivisionError ...): one line for all.
        raise InputError(f"{source}: cannot load this checkpoint: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if "custom code" in text:
        return "it needs code of its own, which is never executed"
    if "weights_only" in text:
        return "its pickled weights hold more than tensors, and are never unpickled"
    if "couldn't connect" in text:
        return (
            "there is no such directory, and no network of this name (or not all of it) in the local cache of the hub; "
            "allow_download=True, --allow-download on the command line, fetches it"
        )
    text = text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
    # A GGUF file that ends early gives numpy too few bytes for the shape of a tensor.
    if isinstance(error, OSError | ValueError) and "reshape" not in text:
        return text
    return f"a damaged or incomplete file ({type(error).__name__}: {text})"


def _from_model(model: Any, tokenizer: Any | None, family: Family | None, attention: str) -> Checkpoint:
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise InputError(f"{type(model).__name__} is no transformers model: it has no config.model_type")
    family = family or family_of(config.model_type)
    model.set_attn_implementation(attention)
    return _fitting(Checkpoint(model.eval(), tokenizer, family, str(config.name_or_path or type(model).__name__)))


def _fitting(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint, once its family fits and its weights are numbers."""
    if not checkpoint.sublayers():
        raise InputError("the network has no layer")
    for name, weight in checkpoint.model.named_parameters():
        if weight.device.type != "meta" and not torch.isfinite(weight).all():
            count = int((~torch.isfinite(weight)).sum())
            raise InputError(f"the weight {name} is not finite in {count} of {weight.numel()} values")
    return checkpoint


def _locate(source: str, gguf_file: str | None) -> tuple[str, str | None]:
    """(directory or hub id, name of the GGUF file in it or None)."""
    path = Path(source)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"{source}: a checkpoint is a directory, a .gguf file or a hub id")
        return str(path.parent), path.name
    if path.is_dir():
        files = sorted(p.name for p in path.glob("*.gguf"))
        if gguf_file is not None and gguf_file not in files:
            raise InputError(f"{source}: no {gguf_file} there; GGUF files: {', '.join(files) or 'none'}")
        if (path / "config.json").exists() or gguf_file is not None:
            return source, gguf_file
        if len(files) == 1:
            return source, files[0]
        raise InputError(f"{source}: neither config.json nor exactly one .gguf file there ({len(files)} found)")
    if source.count("/") > 1 or path.is_absolute() or source.startswith(("." + os.sep, "~")) or not source:
        raise InputError(f"{source}: no such directory or file")
    return source, gguf_file


def _from_pretrained(
    name: str,
    gguf: str | None,
    tokenizer: Any | None,
    family: Family | None,
    allow_download: bool,
    dtype: torch.dtype,
    attention: str,
) -> Checkpoint:
    import transformers

    # False, not left out: without it transformers asks on the terminal whether to run the code of a checkpoint.
    where: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    if gguf is not None:
        where["gguf_file"] = gguf
    config = transformers.AutoConfig.from_pretrained(name, **where)
    family = family or family_of(config.model_type)
    # A decoder saved without its head ("LlamaModel") would get a random one.
    headless = any(a.endswith("Model") and "Head" not in a for a in config.architectures or ())
    loader: Any = transformers.AutoModelForCausalLM if family.causal and not headless else transformers.AutoModel
    options = {"config": config, "dtype": dtype, "attn_implementation": attention}
    model, info = loader.from_pretrained(
        name, output_loading_info=True, ignore_mismatched_sizes=True, **options, **where
    )
    _complete(info)
    if tokenizer is None and _has_tokenizer(name, gguf, model):
        tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    return _fitting(Checkpoint(model.eval(), tokenizer, family, name if gguf is None else f"{name}/{gguf}"))


def _complete(info: dict[str, Any]) -> None:
    """transformers gives weights that a file lacks, or has in another shape, random values and a warning."""
    for name, given, wanted in sorted(info["mismatched_keys"]):
        raise InputError(f"the weight {name} is {tuple(given)} in the file, config.json wants {tuple(wanted)}")
    # Only the pooler, which no layer reads, may be missing.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise InputError(f"{len(missing)} weights are missing in the file, the first is {missing[0]}")


def _has_tokenizer(name: str, gguf: str | None, model: Any) -> bool:
    """Images have none, and a directory may come without one."""
    if model.main_input_name == "pixel_values":
        return False
    files = [path.name for path in Path(name).glob("*")]
    return not files or gguf is not None or any("token" in file or "vocab" in file for file in files)
