"""GGUF -> configuration, tokenizer and network, each read once, equal to what transformers makes of them.

transformers 5.24 reads most families through `gguf.GGUFReader`, which makes an array of each word of the tokenizer,
three times for one network, and it builds the table of names once for every module. Here the configuration comes from
a copy of the header without the word lists, the tokenizer from the class that belongs to the configuration, and the
weights from the places that the header gives, through gguf's dequantisation and transformers' conversions. What cannot
be read in this way is None, and is left to transformers.
"""

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints.network.headers import GGUFHeader, ItemCount, WeightPlace, gguf_header, require_alike
from ctrlattn.progress import Progress, silent

_WORDS = {f"tokenizer.ggml.{name}" for name in ("tokens", "scores", "token_type", "merges")}
_GROUP = 1 << 16  # bytes of a weight that gguf is given at once: what it makes of them stays near the processor
# Of these families the configuration depends on more than the values of the header, or transformers has another reader.
_OTHERWISE = {"stablelm", "t5", "t5encoder", "lfm2", "gpt-oss", "gpt_oss", "falcon", "bloom", "qwen35", "qwen35moe"}


class GGUFConfiguration(NamedTuple):
    """What transformers makes of a GGUF file as configuration, the values that it is made of, and the header."""

    config: Any
    values: dict[str, Any]
    header: GGUFHeader


def configuration(path: Path, header: GGUFHeader | None = None) -> GGUFConfiguration | None:
    """Read the configuration of a GGUF file; `header` is what `gguf_header` gave, where it is known already.

    transformers' reader gets a small file with the same values and without the lists of words, which take seconds.
    """
    import transformers
    from gguf import GGUFValueType, GGUFWriter

    try:
        from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    except ImportError:  # it goes when transformers has moved every family to its new reader
        return None
    if not path.is_file():  # a file on the hub that is not here yet
        return None
    header = header or gguf_header(path)
    family, words = header.values.get("general.architecture"), header.values.get("tokenizer.ggml.tokens")
    values = {key: value for key, value in header.values.items() if not _is_word_list(key, value)}
    if not isinstance(family, str) or family in _OTHERWISE or words is None:
        return None
    kinds = {
        bool: GGUFValueType.BOOL,
        float: GGUFValueType.FLOAT64,
        int: GGUFValueType.INT64,
        str: GGUFValueType.STRING,
    }
    if any(type(value) not in kinds for value in values.values()):
        return None  # a list that is no list of words, whose items the header passes over
    values.setdefault(f"{family}.vocab_size", int(words))
    with tempfile.TemporaryDirectory() as folder:
        writer = GGUFWriter(Path(folder) / "short.gguf", family)
        for key, value in values.items():
            if key != "general.architecture":
                writer.add_key_value(key, value, kinds[type(value)])
        if "output.weight" in header.places:  # it tells that the head is not tied to the embedding
            writer.add_tensor("output.weight", np.zeros(1, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        fields = load_gguf_checkpoint(f"{folder}/short.gguf", return_tensors=False)["config"]
        config = transformers.AutoConfig.from_pretrained(folder, gguf_file="short.gguf", local_files_only=True)
    if "vocab_size" not in fields:  # transformers counts the words, which the short file has not
        return None
    config.name_or_path = str(path.parent)
    return GGUFConfiguration(config, fields, header)


def _is_word_list(key: str, value: Any) -> bool:
    """Tell whether a list has no influence on the configuration: words, or general ones such as languages and tags."""
    return isinstance(value, ItemCount) and (key in _WORDS or key.startswith("general."))


def tokenizer(path: Path, described: GGUFConfiguration | None = None) -> Any | None:
    """Make the tokenizer of a GGUF file, where transformers has no special class for the family."""
    import transformers

    described = described or configuration(path)
    if described is None:
        return None
    classes: Any = transformers.TOKENIZER_MAPPING.get(type(described.config), None)
    common = transformers.PreTrainedTokenizerFast
    if any(cls not in (None, common) for cls in (classes if isinstance(classes, tuple) else (classes,))):
        return None
    return common.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)


def network(
    path: Path, cls: Any, described: GGUFConfiguration | None = None, progress: Progress = silent, **options: Any
) -> tuple[Any, dict[str, Any]] | None:
    """Return (the network, what transformers says of its loading), as `cls.from_pretrained` gives them."""
    described = described or configuration(path)
    if described is None:
        return None
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    config, fields, header = described
    family = header.values["general.architecture"]
    with torch.device("meta"):
        empty = cls.from_config(config) if hasattr(cls, "from_config") else cls(config)
    processor = TENSOR_PROCESSORS.get(family, TensorProcessor)(config=fields)
    names = _names(empty, processor, family)
    if names is None:
        return None
    _require_shapes(path, empty, names, header)
    model, info = type(empty).from_pretrained(
        None,
        config=config,
        state_dict=_weights(header, processor, names, options["dtype"], progress),
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    model.name_or_path = model.config.name_or_path = str(path.parent)
    return model, info


def _names(model: Any, processor: Any, family: str) -> dict[str, str] | None:
    """Map name in the file -> name in the network, through one table of gguf for all modules."""
    import gguf

    architectures = {name: architecture for architecture, name in gguf.MODEL_ARCH_NAMES.items()}
    if family not in architectures:
        return None
    table = gguf.get_tensor_name_map(architectures[family], model.config.num_hidden_layers)

    def names_of(module: Any, prefix: str) -> dict[str, str]:
        names: dict[str, str] = {}
        for name in module.state_dict():
            inner = processor.preprocess_name(name)
            stem, dot, suffix = inner.rpartition(".")
            stem, ending = (stem, dot + suffix) if dot and suffix in ("weight", "bias") else (inner, "")
            in_file = table.get_name(stem)
            if in_file is None:
                processor.perform_fallback_tensor_mapping(names, ending, prefix, inner)
            else:
                names[in_file + ending] = prefix + inner
        for name, child in module.named_children():  # a file may have been written from a network without head
            names = names_of(child, f"{prefix}{name}.") | names
        return names

    return names_of(model, "")


def _require_shapes(path: Path, model: Any, names: dict[str, str], header: GGUFHeader) -> None:
    """Raise InputError, before a weight is read, where the header says other shapes than the configuration.

    Weights that several tensors of the file make together, such as experts, are left to transformers.
    """
    weights, makers = model.state_dict(), Counter(names.values())
    for name, place in header.places.items():
        target = weights.get(names.get(name, ""))
        if target is not None and makers[names[name]] == 1:
            require_alike(path, name, place.shape, tuple(target.shape))


class GGUFStore:
    """Weights of a GGUF file by their name in the network, dequantised when they are read."""

    def __init__(self, path: Path, empty: Any, dtype: torch.dtype, described: GGUFConfiguration) -> None:
        from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

        _, fields, self.header = described
        family = self.header.values["general.architecture"]
        self.processor = TENSOR_PROCESSORS.get(family, TensorProcessor)(config=fields)
        self.in_network = _names(empty, self.processor, family) or {}
        self.dtype = dtype
        _require_shapes(path, empty, self.in_network, self.header)

    def names(self) -> set[str]:
        """Return the names of all weights in the file, as the network has them."""
        return {self.in_network[name] for name in self.header.places if name in self.in_network}

    def read(self, names: set[str]) -> dict[str, torch.Tensor]:
        """Read the weights of these names."""
        places = {name: place for name, place in self.header.places.items() if self.in_network.get(name) in names}
        return _weights(self.header._replace(places=places), self.processor, self.in_network, self.dtype)

    def rows(self, name: str, rows: list[int]) -> torch.Tensor:
        """Read rows of a matrix, (len(rows), columns)."""
        stored, place = next((n, p) for n, p in self.header.places.items() if self.in_network.get(n) == name)
        step = (place.end - place.start) // place.shape[0]
        parts = []
        for i in rows:
            row = place._replace(shape=(1, *place.shape[1:]), start=place.start + i * step)
            parts.append(
                _weights(
                    self.header._replace(places={stored: row._replace(end=row.start + step)}),
                    self.processor,
                    self.in_network,
                    self.dtype,
                )[name]
            )
        return torch.cat(parts)


def _weights(
    header: GGUFHeader, processor: Any, names: dict[str, str], dtype: torch.dtype, progress: Progress = silent
) -> dict[str, torch.Tensor]:
    """Map name in the network -> weight, dequantised one after the other."""
    from gguf import dequantize

    # Slices of a memmap cost more than those of an array.
    data = {file: np.memmap(file, mode="r", dtype=np.uint8).view(np.ndarray) for file in _files(header)}
    parsed: dict[str, Any] = {"config": processor.config, "tensors": {}}  # experts are put together there
    for i, (name, place) in enumerate(header.places.items()):
        progress("dequantising weights", i, len(header.places))
        values = dequantize(_blocks(data[place.path], place), _kind(place)).reshape(place.shape)
        tensor = processor.process(weights=values, name=name, tensor_key_mapping=names, parsed_parameters=parsed)
        if tensor.name in names:
            parsed["tensors"][names[tensor.name]] = torch.from_numpy(np.copy(tensor.weights)).to(dtype)
    progress("dequantising weights", len(header.places), len(header.places))
    weights: dict[str, torch.Tensor] = parsed["tensors"]
    return weights


def _files(header: GGUFHeader) -> set[Path]:
    return {place.path for place in header.places.values()}


def _kind(place: WeightPlace) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType(place.kind)


def _blocks(data: np.ndarray, place: WeightPlace) -> np.ndarray:
    """Return the bytes of a weight as gguf's dequantisation takes them, 16 rows at a time.

    It does not matter where a row ends: rows are joined to long ones, since each step of the dequantisation costs the
    same.
    """
    from gguf import GGMLQuantizationType
    from gguf.quants import quant_shape_to_byte_shape

    part = data[place.start : place.end]
    dtypes = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}
    kind = _kind(place)
    if kind in dtypes:
        return part.view(dtypes[kind]).reshape(place.shape)
    row = quant_shape_to_byte_shape(place.shape, kind)[-1]
    rows = math.gcd(len(part) // row, 1 << max(_GROUP // (16 * row), 1).bit_length() - 1) if row else 1
    return part.reshape(-1, row * rows)
