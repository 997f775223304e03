"""source -> Checkpoint: a directory, a GGUF file, a hub id or a model in memory; offline unless allowed otherwise."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ctrlattn import devices
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description, describe, where
from ctrlattn.checkpoints.network.families import FAMILIES, KEY, Family
from ctrlattn.checkpoints.network.foreign import foreign
from ctrlattn.checkpoints.network.gguf import network as read_gguf
from ctrlattn.checkpoints.network.headers import gguf_header, misfit, require_alike
from ctrlattn.checkpoints.network.proved import proved, require_row
from ctrlattn.checkpoints.network.save import is_changed, open_changed
from ctrlattn.checkpoints.network.structure import traced_in
from ctrlattn.checkpoints.network.traced_family import Traced
from ctrlattn.checkpoints.trace.eager import supported
from ctrlattn.checkpoints.trace.wrapped import Inside, network_in, require_same
from ctrlattn.errors import InputError, require_flag
from ctrlattn.progress import Progress, silent

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
    inputs: dict[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Checkpoint:
    """Load a transformers checkpoint for analysis.

    A network whose `model_type` has a row in ctrlattn.checkpoints.FAMILIES is read by that row. Every other one is
    traced: it runs twice on eight tokens, and it is refused unless the parts of each layer sum to what the layer gives.

    Nothing in a checkpoint is executed: `trust_remote_code` is always False, and pickled weights are read by torch with
    weights_only=True. A GGUF file is dequantised on reading.

    Parameters
    ----------
    source : path, hub id or model
        A directory with config.json (also what `save` wrote), a .gguf file or a directory with one, a name on the hub,
        or a model object: of transformers, inside nnsight (LanguageModel, NNsight), TransformerLens (TransformerBridge)
        or peft, merged or not, or a network of timm. A row of the table is then proved on its weights.
    gguf_file : str, optional
        Name of the GGUF file inside the directory.
    tokenizer : optional
        For a model object, or in place of the one beside the weights. A directory may have none: give token ids then.
    family : Family, optional
        Where the signals are, instead of the row of its `model_type` or of what is traced. The network runs on eight
        tokens, and a row is refused where what it names does not sum to the stream.
    allow_download : bool
        Whether a hub id may be fetched; otherwise only what is in the local cache.
    dtype : "float32" or "float64"
        For sources on disk; a model object is switched to `attention` and evaluation mode and otherwise left alone.
    attention : "eager" or "sdpa"
        Eager attention has its matrices at hand; sdpa is faster, and `tap` switches for the time it needs.
        A network that has no sdpa stays eager.
    inputs : dict, optional
        Arguments of the model for tracing, or for the proof of a row, where eight tokens of its vocabulary or an image
        of its size will not do.
    device : str
        Where a source on disk runs, such as "cuda:1"; it is read, and traced where it has no row, on the cpu. A model
        object stays where it is.
    progress : callable (step, done, total), optional
        It is told of each weight of a GGUF file that is dequantised. Where transformers reads the file, it is told
        when that begins and when it ends.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        A missing directory or file; missing, truncated, foreign or non-finite weights; a family that does not fit; a
        network that cannot be traced (see `trace`); layers that are not the sum of their parts, traced or by the row of
        `family`, with the layer and the largest error; an unknown dtype or attention; no such device; transformers is
        not installed.

    Examples
    --------
    >>> load("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    allow_download = require_flag("allow_download", allow_download)
    _require_attention(attention)
    inside = network_in(source)
    if inside is not None:
        return _from_model(inside, tokenizer, family, attention, inputs, wrapped=inside.model is not source)
    options: dict[str, Any] = {"dtype": dtype, "attention": attention, "inputs": inputs, "device": device}
    _require_options(**options)
    description = describe(source, gguf_file=gguf_file, family=family, allow_download=allow_download)
    return loaded(description, tokenizer=tokenizer, family=family, progress=progress, **options)


def _require_attention(attention: str) -> None:
    if attention not in _ATTENTION:
        raise InputError(f"attention must be {' or '.join(_ATTENTION)}, got {attention!r}")


def _require_options(dtype: str, attention: str, device: str, **_: Any) -> torch.device:
    """Return the device, or raise InputError for what can be judged before a file is opened."""
    _require_attention(attention)
    if dtype not in _DTYPES:
        raise InputError(f"dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")
    return devices.device(device)


def loaded(
    description: Description,
    *,
    tokenizer: Any | None = None,
    family: Family | None = None,
    dtype: str = "float32",
    attention: str = "eager",
    inputs: dict[str, Any] | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Checkpoint:
    """Apply `load` to what was described: what the headers say, and the configuration, are not made a second time."""
    source, place = description.source, _require_options(dtype, attention, device)
    if description.gguf is None and is_changed(description.folder):
        options: dict[str, Any] = {"dtype": _DTYPES[dtype], "attention": attention}
        with foreign(source):
            changed = open_changed(description.folder, tokenizer=tokenizer, family=family, **options)
        return _move(_with_a_proved_row(changed, family, inputs), place)
    model = _from_pretrained(description, _DTYPES[dtype], attention, progress or silent)
    name = description.name if description.gguf is None else f"{description.name}/{description.gguf}"
    network = _checkpoint_of(model, tokenizer or description.loaded_tokenizer, family, name, inputs)
    return _move(replace(network, stored=getattr(description.config, "dtype", None)), place)


def _move(checkpoint: Checkpoint, place: torch.device) -> Checkpoint:
    checkpoint.model.to(place)
    return checkpoint


def _from_model(
    inside: Inside,
    tokenizer: Any | None,
    family: Family | None,
    attention: str,
    inputs: dict[str, Any] | None,
    *,
    wrapped: bool,
) -> Checkpoint:
    model = inside.model
    _require_plain(model)
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise InputError(f"{type(model).__name__} is no transformers model: it has no config.model_type")
    model.set_attn_implementation(supported(model, attention))
    name = str(config.name_or_path or type(model).__name__)
    network = _checkpoint_of(model, tokenizer or inside.tokenizer, family, name, inputs)
    require_same(inside, inputs)
    # A wrapper may have put modules of its own into the network, which the tests of the table do not know.
    return require_row(network, inputs) if wrapped else network


def _checkpoint_of(
    model: Any, tokenizer: Any | None, family: Family | None, source: str, inputs: dict[str, Any] | None
) -> Checkpoint:
    """Return the checkpoint, read by a row of the table or traced."""
    name = model.config.model_type
    row = family or FAMILIES.get(name) or traced_in(getattr(model.config, KEY, None) or {})
    if row is not None:
        return _with_a_proved_row(Checkpoint(model.eval(), tokenizer, row, source), family, inputs)
    in_one_piece(model)
    _require_finite(model)
    return Checkpoint(model.eval(), tokenizer, Traced(name, proved(model, inputs)), source)


def _require_plain(model: Any) -> None:
    """Raise InputError where a module only holds the network, or its weights are elsewhere; it says what to do."""
    name = type(model).__name__
    if name in ("DataParallel", "DistributedDataParallel", "FullyShardedDataParallel"):
        raise InputError(f"{name}: a network wrapped for several devices: give the network inside, model.module")
    absent = next((weight for weight, value in model.named_parameters() if value.device.type == "meta"), None)
    if absent is not None:
        raise InputError(
            f"{name}: the weight {absent} is not in memory (device meta: offloaded by accelerate, or never loaded): "
            "load the network without device_map and offloading, a LanguageModel of nnsight with dispatch=True"
        )


def _with_a_proved_row(checkpoint: Checkpoint, family: Family | None, inputs: dict[str, Any] | None) -> Checkpoint:
    """Return the checkpoint, once it fits; a row that the user gives is proved, those of the table are by tests."""
    fitting = _fitting(checkpoint)
    return fitting if family is None else require_row(fitting, inputs)


def _fitting(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint, once its family fits and its weights are numbers."""
    if not checkpoint.sublayers():
        raise InputError("the network has no layer")
    in_one_piece(checkpoint.model)
    _require_finite(checkpoint.model)
    return checkpoint


def in_one_piece(model: Any) -> None:
    """Let an MLP read all tokens at once: in chunks it would show and replace its signals piece by piece.

    What the network computes stays the same; `chunk_size_feed_forward` only spares memory.
    """
    for module in model.modules():
        if getattr(module, "chunk_size_feed_forward", 0):
            module.chunk_size_feed_forward = 0


def _require_finite(model: Any) -> None:
    """Raise InputError for weights that are no numbers; it names the first."""
    for name, weight in model.named_parameters():
        if not _finite(weight):
            count = int((~torch.isfinite(weight)).sum())
            raise InputError(f"the weight {name} is not finite in {count} of {weight.numel()} values")


def _finite(weight: torch.Tensor) -> bool:
    """Tell whether all numbers are finite; torch.isfinite would take 1.75 times a float32 weight's memory meanwhile.

    >>> [_finite(torch.tensor(values)) for values in ([], [1.0, 2.0], [1.0, math.nan], [-math.inf, 1.0])]
    [True, True, False, False]
    """
    if not weight.is_floating_point() or weight.element_size() < 2 or not weight.numel():  # 8 bits have no extremes
        return bool(torch.isfinite(weight).all())
    extremes = torch.aminmax(weight.detach())  # one that is no number is handed on
    return all(bool(torch.isfinite(value)) for value in extremes)


def _from_pretrained(description: Description, dtype: torch.dtype, attention: str, progress: Progress) -> Any:
    name, gguf = description.name, description.gguf
    import transformers

    cls = loader(description)
    cls_of_source = getattr(transformers, description.architecture, cls)
    options: dict[str, Any] = {"dtype": dtype, "attn_implementation": supported(cls_of_source, attention)}
    with foreign(description.source):
        if description.shapes is not None:
            _require_sizes(description, _network_on_meta(cls, description.config))
        configuration = description.gguf_configuration
        path = Path(description.folder) / str(gguf)
        pair = None if configuration is None else read_gguf(path, cls, configuration, progress, **options)
        by_transformers = gguf is not None and pair is None
        if by_transformers:
            _require_amount(description, cls, str(gguf))
            progress("transformers dequantises the weights", 0, 1)
        if description.config is not None:
            options["config"] = description.config
        model, info = pair or cls.from_pretrained(
            name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **options,
            **where(gguf, allow_download=description.allow_download),
        )
        if by_transformers:
            progress("transformers dequantises the weights", 1, 1)
    _complete(description.source, info)
    return model.eval()


def loader(description: Description) -> Any:
    """Return the class that reads the weights: with its head where it predicts the next token."""
    import transformers

    family = description.family
    architecture = getattr(transformers, description.architecture, None)
    if family is None and getattr(architecture, "config_class", None) is type(description.config):
        return architecture
    if description.other_task:
        # A causal class would get a head of random numbers in the place of the one that is there.
        return architecture or transformers.AutoModel
    has_causal_class = (
        description.config is None or type(description.config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    )
    causal = has_causal_class if family is None else family.causal
    return transformers.AutoModelForCausalLM if causal and not description.headless else transformers.AutoModel


def _network_on_meta(cls: Any, config: Any) -> Any:
    """Make the network of a configuration, whose weights have shapes and no data."""
    build = cls.from_config if hasattr(cls, "from_config") else cls
    with torch.device("meta"):
        return build(config)


def _require_sizes(description: Description, empty: Any) -> None:
    """Raise InputError where config.json wants other weights than the files hold.

    transformers would read them all, and make what is missing of random numbers: a vocabulary of 10^10 words took all
    memory. A weight that is shared by two layers may be counted twice.
    """
    shapes = description.shapes or {}
    _require_enough(description.source, empty, list(shapes.values()))
    weights, base = empty.state_dict(), f"{empty.base_model_prefix}."
    for name, shape in shapes.items():  # a file may have been written from a network with another head, or without any
        same = next((weights[n] for n in (name, base + name, name.removeprefix(base)) if n in weights), None)
        if same is not None:
            require_alike(description.source, name, shape, tuple(same.shape))


def _require_enough(source: str, empty: Any, shapes: list[tuple[int, ...]]) -> None:
    """Raise InputError where a network has more than twice the numbers of a file."""
    weight_count = sum(weight.numel() for weight in empty.parameters())
    file_count = sum(math.prod(shape) for shape in shapes)
    if weight_count > 2 * file_count:
        raise InputError(
            f"{source}: its configuration wants {weight_count} numbers as weights, the files hold {file_count}"
        )


def _require_amount(description: Description, cls: Any, gguf: str) -> None:
    """Apply `_require_enough` to a GGUF file left to transformers, which has its own names for the weights."""
    import transformers

    header = gguf_header(Path(description.folder) / gguf)
    if len(header.paths) > 1:  # transformers would read one of them, and make the rest of random numbers
        raise InputError(f"{description.source}: this family is read from one GGUF file alone: merge its files first, "
                         "with llama-gguf-split --merge")  # fmt: skip
    places = header.places.values()
    config = transformers.AutoConfig.from_pretrained(description.name, **where(gguf))
    _require_enough(description.source, _network_on_meta(cls, config), [place.shape for place in places])


def _complete(source: str, info: dict[str, Any]) -> None:
    """Raise InputError for weights that a file lacks or has in another shape: transformers makes them random."""
    for name, shape, expected in sorted(info["mismatched_keys"]):
        raise misfit(source, name, tuple(shape), tuple(expected))
    # Only the pooler, which no layer reads, may be missing.
    missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
    if missing:
        raise InputError(f"{source}: {len(missing)} weights are missing in the file, the first is {missing[0]}")
