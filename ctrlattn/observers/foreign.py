"""W_enc = Eᵀ/size, W_dec = size D, b_dec = size b + mean: a dictionary in SAELens' layout, and others as one of ours.

SAELens 6 writes a folder with cfg.json and sae_weights.safetensors; dictionary_learning one with config.json and ae.pt;
Gemma Scope a single .npz. With activations φ their reconstruction is

    x̂ = φ((x - b_dec) W_enc + b_enc) W_dec + b_dec,

where b_dec is left out of the bracket unless `apply_b_dec_to_input` holds. φ is ReLU, TopK or JumpReLU. Where rows of
W_dec are no units, ReLU and JumpReLU let a row and its response be scaled against each other; TopK does not, since it
would choose others.
"""

import json
import os
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ctrlattn.errors import InputError, require_known, require_whole, shown
from ctrlattn.files import atomic, output_directory, utf8
from ctrlattn.observers.dictionary import Dictionary, load, read_tensors
from ctrlattn.parsing import parse_json

ARCHITECTURES = ("standard", "topk", "jumprelu")  # of SAELens; batchtopk is saved as jumprelu there
CLASSES = ("AutoEncoder", "AutoEncoderNew", "AutoEncoderTopK", "BatchTopKSAE", "JumpReluAutoEncoder")
_EQUAL = 1e-5  # relative difference of lengths that are one length in float32
# Places of TransformerLens' hooks as (signal of `observe`, layers to add).
_HOOKS = {
    "hook_resid_pre": ("state", 0), "hook_resid_post": ("state", 1), "hook_resid_mid": ("mid", 0),
    "hook_attn_out": ("prediction", 0), "hook_mlp_out": ("mlp", 0),
}  # fmt: skip
_WHERE = {"state": "hook_resid_pre", "mid": "hook_resid_mid", "prediction": "hook_attn_out", "mlp": "hook_mlp_out"}


def read(path: str | os.PathLike[str]) -> tuple[Dictionary, dict[str, Any]]:
    """Read a dictionary of this package, of SAELens, of dictionary_learning, or of Gemma Scope, as one of ours.

    Its reconstructions are those of the other package, to float32 rounding. Its features are in the same order. Codes
    of ReLU and JumpReLU are in units of directions of length 1.

    Parameters
    ----------
    path : path
        A file of `save` (.safetensors), a folder of SAELens or dictionary_learning, or a .npz of Gemma Scope.

    Returns
    -------
    Dictionary, facts
        The facts are those that are known: model, layer and signal, and the hook as the other package calls it.

    Raises
    ------
    InputError
        Nothing is there or the files are damaged; an architecture that has no equal here; weights that do not fit.

    References
    ----------
    Lieberum et al., Gemma Scope, arXiv 2408.05147, section 2 (JumpReLU). Bussmann et al., BatchTopK Sparse
    Autoencoders, arXiv 2412.06410.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> write_sae_lens(folder, Dictionary(3, 6, k=1), {"layer": 2, "signal": "mlp"})
    >>> dictionary, facts = read(folder)
    >>> dictionary.k, facts["layer"], facts["signal"]
    (1, 2, 'mlp')
    """
    place = Path(path)
    if place.is_dir():
        if (place / "cfg.json").is_file():
            return _of_sae_lens(place)
        if (place / "ae.pt").is_file():
            return _of_dictionary_learning(place)
        raise InputError(
            f"{path}: no dictionary: cfg.json of SAELens or ae.pt of dictionary_learning is expected there"
        )
    if place.suffix == ".npz":
        return _of_gemma_scope(place)
    return load(place)


def write_sae_lens(
    folder: str | os.PathLike[str], dictionary: Dictionary, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a dictionary in SAELens' layout, cfg.json and sae_weights.safetensors, for SAE.load_from_disk.

    The codes there equal those of `encode`. Mean and size go into the weights, so that it reads the signal itself.

    Parameters
    ----------
    folder : path
        It is made if absent.
    dictionary : Dictionary
    facts : dict, optional
        With layer and signal, metadata name TransformerLens' hook. An error has none there and is named as ours.

    Raises
    ------
    InputError
        The folder cannot be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> write_sae_lens(folder, Dictionary(3, 6))
    >>> sorted(path.name for path in folder.iterdir())
    ['cfg.json', 'sae_weights.safetensors']
    """
    from safetensors.torch import save_file

    place, tensors = output_directory(folder), {name: t.double() for name, t in dictionary.state_dict().items()}
    weights = {
        "W_enc": (tensors["encoder"] / tensors["size"]).T,
        "W_dec": tensors["decoder"] * tensors["size"],
        "b_enc": tensors["threshold"],
        "b_dec": tensors["bias"] * tensors["size"] + tensors["mean"],
    }
    kind = {"architecture": "standard"} if dictionary.k is None else {
        "architecture": "topk", "k": dictionary.k, "rescale_acts_by_decoder_norm": False,
    }  # fmt: skip
    if dictionary.jump is not None:
        kind, weights["threshold"] = {"architecture": "jumprelu"}, tensors["jump"]
    config = {
        **kind, "d_in": dictionary.width, "d_sae": dictionary.features, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": {**_metadata(facts or {}), "ctrlattn": dict(facts or {})},
    }  # fmt: skip
    with atomic(place / "sae_weights.safetensors") as temporary:
        save_file({name: value.float().contiguous() for name, value in weights.items()}, temporary)
    with atomic(place / "cfg.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def require_place(facts: Mapping[str, Any], *, width: int | None = None, **place: Any) -> None:
    """Raise InputError where a dictionary is known to be of another place than the one it is used at.

    Parameters
    ----------
    facts : dict
        Of `read` or `load`.
    width : int, optional
        Elements of the signal.
    place : model, layer, signal
        What is compared; a fact that is not known says nothing.

    Examples
    --------
    >>> require_place({"layer": 2, "signal": "mlp"}, layer=3, signal="mlp")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: the dictionary is of layer 2, and is used at layer 3
    """
    for name, value in {**place, "width": width}.items():
        fact = facts.get(name)
        if fact is not None and value is not None and fact != value:
            raise InputError(f"the dictionary is of {name} {fact}, and is used at {name} {value}")


def _metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    signal, layer = facts.get("signal"), facts.get("layer")
    hook = None if signal is None or layer is None else f"blocks.{layer}.{_WHERE.get(signal, f'ctrlattn_{signal}')}"
    return {"model_name": facts.get("model"), "hook_name": hook, "prepend_bos": False}


def _of_hook(hook: Any) -> dict[str, Any]:
    """Return the layer and the signal of a hook of TransformerLens; neither of another name."""
    match = re.fullmatch(r"blocks\.(\d+)\.(\w+)", hook if isinstance(hook, str) else "")
    facts: dict[str, Any] = {} if hook is None else {"hook": hook}
    if match and match[2] in _HOOKS:
        signal, later = _HOOKS[match[2]]
        return {**facts, "layer": int(match[1]) + later, "signal": signal}
    if match and match[2].startswith("ctrlattn_"):
        return {**facts, "layer": int(match[1]), "signal": match[2].removeprefix("ctrlattn_")}
    return facts


def _of_sae_lens(folder: Path) -> tuple[Dictionary, dict[str, Any]]:
    config = _json(folder / "cfg.json")
    old = config.get("activation_fn_str", config.get("activation_fn", "relu"))  # SAELens before 6 had TopK as standard
    where = f"({folder / 'cfg.json'})"
    kind = require_known(f"architecture of SAELens {where}", config.get("architecture", "standard"), ARCHITECTURES)
    if kind == "standard":
        require_known(f"activation of SAELens {where}", old, ("relu", "topk"))
    kind = "topk" if kind == "standard" and old == "topk" else kind
    tensors, _ = read_tensors(folder / "sae_weights.safetensors")
    for key, neutral in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if config.get(key, neutral) not in (neutral, None):
            raise InputError(
                f"{folder}: {key} = {shown(config[key])} changes each signal, which no dictionary here does"
            )
    k = None
    if kind == "topk":
        options = config.get("activation_fn_kwargs")
        k = _number_of_features(folder, config.get("k", options.get("k") if isinstance(options, dict) else None))
    training = config.get("metadata")
    metadata: dict[str, Any] = training if isinstance(training, dict) else config
    model = metadata.get("model_name")
    facts = {**({} if model is None else {"model": model}), **_of_hook(metadata.get("hook_name"))}
    subtract, rescale = bool(config.get("apply_b_dec_to_input", True)), bool(config.get("rescale_acts_by_decoder_norm"))
    return _dictionary_of(folder, tensors, k=k, subtract=subtract, rescale=rescale, width=config.get("d_in")), facts


def _of_dictionary_learning(folder: Path) -> tuple[Dictionary, dict[str, Any]]:
    trainer = _json(folder / "config.json").get("trainer")
    if not isinstance(trainer, dict):
        raise InputError(f"{folder / 'config.json'}: it has no trainer, which names the class of the dictionary")
    kind = require_known(f"class of dictionary_learning ({folder / 'config.json'})", trainer.get("dict_class"), CLASSES)
    try:
        tensors = torch.load(folder / "ae.pt", map_location="cpu", weights_only=True)
        tensors = {str(name): torch.as_tensor(value) for name, value in tensors.items()}
    except _DAMAGED as error:
        raise InputError(f"{folder / 'ae.pt'}: no weights that can be read: {shown(str(error))}") from error
    names = {
        "encoder.bias": "b_enc", "bias": "b_dec", "decoder.bias": "b_dec", "k": "k",
        "encoder.weight": "W_enc", "decoder.weight": "W_dec",
    }  # fmt: skip
    linear = ("encoder.weight", "decoder.weight")
    ours = {names.get(name, name): (value.T if name in linear else value) for name, value in tensors.items()}
    k = ours.pop("k", trainer.get("k"))
    if kind == "AutoEncoderTopK":
        ours.pop("threshold", None)  # it is used in training alone
    subtract = kind not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    facts = {key: trainer[old] for key, old in (("model", "lm_name"), ("hook", "submodule_name")) if trainer.get(old)}
    if isinstance(trainer.get("layer"), int):
        facts["trained_at_layer"] = trainer["layer"]  # whether before or behind it, the submodule's name alone says
    k = _number_of_features(folder, k) if kind == "AutoEncoderTopK" else None
    return _dictionary_of(folder, ours, k=k, subtract=subtract), facts


def _number_of_features(path: Path, k: Any) -> int:
    """Return the k of TopK; without it the dictionary would silently be one of ReLU."""
    try:
        return require_whole("k", k.item() if isinstance(k, torch.Tensor) else k)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _of_gemma_scope(path: Path) -> tuple[Dictionary, dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with np.load(path, allow_pickle=False) as file:
            tensors = {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    except _DAMAGED as error:
        raise InputError(f"{path}: not a .npz that can be read: {shown(str(error))}") from error
    return _dictionary_of(path, tensors, k=None, subtract=False), {}


_SERIALIZATION: Any = torch.serialization
# What numpy, zipfile and torch raise on damaged bytes.
_DAMAGED = (
    OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError, struct.error,
    zipfile.BadZipFile, _SERIALIZATION.pickle.UnpicklingError,
)  # fmt: skip
_NEEDED = ("W_enc", "W_dec", "b_enc", "b_dec")


def _dictionary_of(
    path: Path,
    tensors: Mapping[str, torch.Tensor],
    *,
    k: int | None,
    subtract: bool,
    rescale: bool = False,
    width: Any = None,
) -> Dictionary:
    """Return one of our dictionaries with these weights, computed in float64."""
    missing = [name for name in _NEEDED if name not in tensors]
    strange = sorted(set(tensors) - {*_NEEDED, "threshold"})
    if missing or strange:
        raise InputError(
            f"{path}: a dictionary has W_enc, W_dec, b_enc, b_dec and perhaps threshold; "
            + (f"{', '.join(missing)} is missing" if missing else f"{', '.join(strange)} has no equal here")
        )
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise InputError(f"{path}: {name} must be real floating-point numbers, got {tensor.dtype}")
    W_enc, W_dec, b_enc, b_dec = (tensors[name].double() for name in _NEEDED)
    if (
        W_dec.ndim != 2
        or W_enc.shape != W_dec.T.shape
        or b_enc.shape != W_dec.shape[:1]
        or b_dec.shape != W_dec.shape[1:]
    ):
        shapes = ", ".join(f"{name} {tuple(tensors[name].shape)}" for name in _NEEDED)
        raise InputError(f"{path}: (d, features), (features, d), (features,) and (d,) are expected, got {shapes}")
    if width is not None and width != W_dec.shape[1]:
        raise InputError(f"{path}: cfg.json says signals of {shown(width)} elements, the weights {W_dec.shape[1]}")
    if not all(bool(torch.isfinite(weight).all()) for weight in (W_enc, W_dec, b_enc, b_dec)):
        raise InputError(f"{path}: the weights must be finite")
    length = W_dec.norm(dim=1, keepdim=True)
    jump = tensors.get("threshold")
    E, c = W_enc.T, b_enc if subtract else b_enc + W_enc.T @ b_dec
    scale = torch.where(length > 0, length, 1.0)
    if k is None or rescale or bool(((length / length.max() - 1).abs() < _EQUAL).all()):
        # With rescale, SAELens itself multiplies responses by the lengths and divides codes by them.
        E, D, c = E * scale, W_dec / scale, c * scale[:, 0]
        jump = None if jump is None else jump.double() * scale[:, 0]
    else:
        D = W_dec
    dictionary = Dictionary(W_dec.shape[1], W_dec.shape[0], k=k)
    dictionary.knows_mean = False
    with torch.no_grad():
        for parameter, value in zip(
            (dictionary.encoder, dictionary.decoder, dictionary.threshold, dictionary.bias),
            (E, D, c, b_dec),
            strict=True,
        ):
            parameter.copy_(value)
    if jump is not None:
        dictionary.jump = jump.float().expand(dictionary.features).clone()
    return dictionary.eval().requires_grad_(False)


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    with utf8(path):
        content = parse_json(path.read_text(encoding="utf-8"), path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: it must be a table of settings")
    return content
