"""config.json or a GGUF header -> what a source is: family, layers, vocabulary; no weight is read.

Whoever asks for layer 99 of a network of 30 is told so within a second or two, before gigabytes are read. The same
question finds out what a source is that cannot be loaded: an adapter, quantised weights, a file that is cut short, a
configuration that is not that of the weights beside it.
"""

import math
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctrlattn.checkpoints.network.families import FAMILIES, KEY, Family, is_parallel, layer_index, sees_both_ways
from ctrlattn.checkpoints.network.foreign import NO_NETWORK, foreign, foreign_tokenizer
from ctrlattn.checkpoints.network.headers import GGUF_PART, GGUFHeader, gguf_header, weight_shapes
from ctrlattn.checkpoints.network.plain_config import PlainConfig, plain_config
from ctrlattn.checkpoints.network.plain_tokenizer import plain_tokenizer
from ctrlattn.errors import InputError, require_installed
from ctrlattn.files import visible
from ctrlattn.parsing import read_json

if TYPE_CHECKING:
    from ctrlattn.checkpoints.network.gguf import GGUFConfiguration

_MANY = 1024  # layers: more than any network has whose family is unknown here
_GGUF_TYPES = {"gemma3": "gemma3_text"}  # model types of transformers, where GGUF has another name for one
_POSITIONS = re.compile(r"(^|\.)(wpe|position_embeddings)\.weight$")  # a table of learned positions
_TO_OBJECT = "load it with transformers, and give the object: checkpoints.load(model, tokenizer=tokenizer)"
_METHODS = {"gptq": "GPTQ", "awq": "AWQ", "bitsandbytes": "bitsandbytes"}


@dataclass(frozen=True, eq=False)
class Description:
    """What a source says of itself.

    Attributes
    ----------
    source : str
        The source as it was given.
    name : str
        What transformers is given: a directory or a hub id.
    folder : str
        The directory of the files; the hub id where they are not here yet.
    gguf : str or None
        Name of the GGUF file in the directory, the first where there are several of one network.
    said : what config.json says, a PlainConfig or the configuration of transformers; None for a GGUF file
    model_type : str
    family : Family or None
        None where the type is in no row of the table.
    layers : int
    architecture : str
        The class that the weights were saved from; "" where nothing says it.
    shapes : dict or None
        name -> shape of every weight; None where the files do not say it in a header.
    allow_download : bool
        Whether its tokenizer may be fetched.
    header : GGUFHeader or None
        What a GGUF file says of itself.
    """

    source: str
    name: str
    folder: str
    gguf: str | None
    said: Any | None
    model_type: str
    family: Family | None
    layers: int
    architecture: str
    shapes: dict[str, tuple[int, ...]] | None
    allow_download: bool = False
    header: GGUFHeader | None = None

    def layer_index(self, layer: int) -> int:
        """Return `layer` as an int, checked to be one of 0 ... layers - 1."""
        return layer_index(layer, self.layers)

    @property
    def causal(self) -> bool:
        """Whether a token sees only those before it; True for a family that is not known here."""
        return self.said is None or not sees_both_ways(self.said, self.family is None or self.family.causal)

    @property
    def parallel(self) -> bool:
        """Whether attention and MLP of a layer read the same stream."""
        return self.family is not None and is_parallel(self.family, self.said)

    @property
    def reads_images(self) -> bool:
        """Whether the input is an image and not a text."""
        return self.said is not None and getattr(self.said.get_text_config(), "vocab_size", None) is None

    @property
    def headless(self) -> bool:
        """Whether the weights were saved without a head: they would get a random one."""
        return self.architecture.endswith("Model") and "Head" not in self.architecture

    @property
    def other_task(self) -> bool:
        """Whether the head classifies or scores a text, as that of a reward model does."""
        return re.search(r"For(Sequence|Token)Classification$|ForQuestionAnswering$", self.architecture) is not None

    @property
    def numbers(self) -> int:
        """How many numbers its weights are, by the headers; 0 where no header says it."""
        places = () if self.header is None else self.header.places.values()
        shapes = [place.shape for place in places] or (self.shapes or {}).values()
        return sum(math.prod(shape) for shape in shapes)

    @property
    def predicts(self) -> bool:
        """Whether the network predicts the next token."""
        return self.causal and not (self.headless or self.other_task or self.reads_images)

    @property
    def positions(self) -> int | None:
        """Rows of the table of positions, where they are learned; RoBERTa counts from behind its padding."""
        rows = [shape[0] for name, shape in (self.shapes or {}).items() if _POSITIONS.search(name) and shape]
        padding = getattr(self.said, "pad_token_id", None) if "roberta" in self.model_type else None
        return min(rows) - (0 if padding is None else padding + 1) if rows else None

    def require_text(self) -> None:
        """Raise InputError where the network cannot be given a text."""
        if self.reads_images:
            raise InputError(f"{self.source}: this network reads images, and has no use for a text")
        if not self.has_tokenizer:
            raise InputError(f"{self.source}: a text needs a tokenizer; put its files beside the weights")

    def require_next_token(self) -> None:
        """Raise InputError where the network does not predict the next token."""
        if not self.predicts:
            raise InputError(
                f"{self.source}: {self.architecture or self.model_type} does not predict the next token: "
                "wanted is a causal network with its head (a ...ForCausalLM)"
            )

    def require_positions(self, count: int) -> None:
        """Raise InputError where so many tokens at once are more than the network has learned positions for."""
        if self.positions is not None and count > self.positions:
            raise InputError(f"{count} tokens at once, and the network has positions for {self.positions}: give fewer")

    @cached_property
    def config(self) -> Any | None:
        """The configuration of transformers; None for a GGUF file.

        Raises
        ------
        InputError
            transformers refuses it.
        """
        if not isinstance(self.said, PlainConfig):
            return self.said
        with foreign(self.source):
            return _config(self.name, _raw_config(Path(self.folder)), self.allow_download)

    @cached_property
    def gguf_configuration(self) -> "GGUFConfiguration | None":
        """What transformers makes of the header of a GGUF file; None for another source, or where it reads it all."""
        from ctrlattn.checkpoints.network.gguf import configuration

        return None if self.gguf is None else configuration(Path(self.folder) / self.gguf, self.header)

    @property
    def has_tokenizer(self) -> bool:
        """Whether it reads texts, and the files of a tokenizer lie beside the weights."""
        files = [path.name for path in visible(Path(self.folder))]
        beside = not files or self.gguf is not None or any("token" in file or "vocab" in file for file in files)
        return beside and not self.reads_images

    @cached_property
    def tokenizer(self) -> Any | None:
        """The tokenizer beside the weights, by which texts are judged; None for images, and where there is none.

        It is made without torch where that makes the same one, and is that of `loaded_tokenizer` elsewhere.
        """
        if not self.has_tokenizer:
            return None
        plain = None
        if self.gguf is None:
            plain = plain_tokenizer(self.name, Path(self.folder), **where(allow_download=self.allow_download))
        return self.loaded_tokenizer if plain is None else plain

    @cached_property
    def loaded_tokenizer(self) -> Any | None:
        """The tokenizer that goes with the loaded network, as AutoTokenizer makes it.

        Raises
        ------
        InputError
            It cannot be read; it is of another class than the one by which texts were judged.
        """
        if not self.has_tokenizer:
            return None
        tokenizer, judged = self._auto_tokenizer(), self.__dict__.get("tokenizer")
        if judged is not None and type(judged) is not type(tokenizer):
            raise InputError(
                f"{self.source}: its tokenizer_config.json names {type(judged).__name__}, and the installed "
                f"transformers takes {type(tokenizer).__name__}: name that one there"
            )
        return tokenizer

    def _auto_tokenizer(self) -> Any:
        _ = self.config  # what is wrong with it is told before what is wrong with the tokenizer
        import transformers

        from ctrlattn.checkpoints.network.gguf import tokenizer as gguf_tokenizer

        options = where(self.gguf, allow_download=self.allow_download)
        with foreign(self.source):
            config = self.gguf_configuration
            tokenizer = None if config is None else gguf_tokenizer(Path(self.folder) / str(self.gguf), config)
            if tokenizer or self.gguf is not None:
                return tokenizer or transformers.AutoTokenizer.from_pretrained(self.name, **options)
        with foreign_tokenizer(self.source, Path(self.folder)):
            return transformers.AutoTokenizer.from_pretrained(self.name, **options)


def describe(
    source: Any, *, gguf_file: str | None = None, family: Family | None = None, allow_download: bool = False
) -> Description:
    """Read what a directory, a GGUF file or a hub id holds, by its configuration and the headers of its weights.

    Parameters
    ----------
    source, gguf_file, family, allow_download
        As for `load`.

    Returns
    -------
    Description

    Raises
    ------
    InputError
        A missing directory or file; an adapter without its network; quantised weights; a configuration that is damaged
        or not that of the weights beside it; headers that declare other sizes than the files have; transformers is not
        installed.

    Examples
    --------
    >>> describe("no/such/directory")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: no/such/directory: no such directory...
    """
    name, gguf = locate(str(source), gguf_file)
    require_installed("a checkpoint", "transformers", "safetensors", "accelerate", *(["gguf"] if gguf else []))
    if gguf is not None:
        return _of_gguf(str(source), name, gguf, family)
    folder = _folder_of(name, allow_download)
    raw = _raw_config(Path(folder))
    config = plain_config(raw)
    if config is None:
        with foreign(source):
            config = _config(name, raw, allow_download)
            folder = _folder_of(name)
    shapes = None if allow_download and folder != name else weight_shapes(Path(folder))  # they may not be here yet
    description = Description(
        source=str(source),
        name=name,
        folder=folder,
        gguf=None,
        said=config,
        model_type=config.model_type,
        family=family or FAMILIES.get(config.model_type),
        layers=_layers(str(source), config),
        architecture=_architecture(config),
        shapes=shapes,
        allow_download=allow_download,
    )
    _require_fit(description)
    return description


def locate(source: str, gguf_file: str | None) -> tuple[str, str | None]:
    """Return (directory or hub id, name of the GGUF file in it or None).

    Raises
    ------
    InputError
        Nothing is there, or nothing that can be loaded.
    """
    path = Path(source)
    if "\0" in source:
        raise InputError(f"{source!r}: no name of a file has a null character")
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"{source}: a checkpoint is a directory, a .gguf file or a hub id")
        return str(path.parent), path.name
    if path.is_dir():
        return source, _gguf_in(path, gguf_file)
    if source.count("/") > 1 or path.is_absolute() or source.startswith(("." + os.sep, "~")) or not source:
        raise InputError(f"{source}: no such directory or file")
    return source, gguf_file


def _gguf_in(folder: Path, gguf_file: str | None) -> str | None:
    files = [path.name for path in visible(folder, "*.gguf")]
    if gguf_file is not None and gguf_file not in files:
        raise InputError(f"{folder}: no {gguf_file} there; GGUF files: {', '.join(files) or 'none'}")
    if (folder / "config.json").exists() or gguf_file is not None:
        return gguf_file
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: an adapter, which is a change of another network{_base_of(folder)}: merge it with peft, "
            "model.merge_and_unload().save_pretrained(directory), and load that directory"
        )
    parts = [GGUF_PART.fullmatch(name) for name in files]
    if len(files) == 1 or (files and all(parts) and len({part.group(1, 3) for part in parts if part}) == 1):
        return files[0]  # the first of several files names the others
    raise InputError(f"{folder}: neither config.json nor exactly one .gguf file there ({len(files)} found)")


def _base_of(folder: Path) -> str:
    """Return the network that an adapter was trained for, in brackets; nothing where its file does not say it."""
    content = read_json(folder / "adapter_config.json")
    name = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    return f" ({name})" if isinstance(name, str) and name else ""


def where(gguf: str | None = None, *, allow_download: bool = False) -> dict[str, Any]:
    """Return the arguments of every call of transformers: the file, and that nothing of a checkpoint is executed.

    False is given and not left out: without it transformers asks on the terminal whether to run code of a checkpoint.

    >>> where()
    {'local_files_only': True, 'trust_remote_code': False}
    """
    arguments: dict[str, Any] = {"local_files_only": not allow_download, "trust_remote_code": False}
    return arguments if gguf is None else {**arguments, "gguf_file": gguf}


def _raw_config(folder: Path) -> dict[str, Any]:
    """Read config.json as it stands; it is empty for a hub id."""
    if not folder.is_dir():
        return {}
    raw = read_json(folder / "config.json")
    if not isinstance(raw, dict):
        raise InputError(f"{folder / 'config.json'}: must be a table of names and values")
    quantised = raw.get("quantization_config")
    if quantised:
        raise InputError(f"{folder}: its weights are quantised{_method(quantised)}, and are not read from files here: "
                         f"{_TO_OBJECT}; model.dequantize() makes ordinary weights of most of them")  # fmt: skip
    return raw


def _method(quantised: Any) -> str:
    if not isinstance(quantised, dict):
        return ""
    name = str(quantised.get("quant_method", ""))[:40]
    bits = quantised.get("bits", 4 if quantised.get("load_in_4bit") else 8 if quantised.get("load_in_8bit") else None)
    return f" by {_METHODS.get(name, name)}" * bool(name) + (f" to {bits} bits" if isinstance(bits, int) else "")


def _config(folder: str, raw: dict[str, Any], allow_download: bool) -> Any:
    import transformers

    if raw.get("model_type") == KEY:  # a network with gains, which plain transformers does not know
        network = raw.get("network")
        if not isinstance(network, dict) or "model_type" not in network:
            raise ValueError("config.json of a changed network lacks the network")
        return type(transformers.AutoConfig.for_model(network["model_type"])).from_dict(network)
    return transformers.AutoConfig.from_pretrained(folder, **where(allow_download=allow_download))


def _folder_of(name: str, allow_download: bool = False) -> str:
    """Return the folder of a hub id's configuration in the local cache; the id where it may be fetched first.

    Raises
    ------
    InputError
        It is not there.
    """
    if Path(name).is_dir() or allow_download:
        return name
    from huggingface_hub import try_to_load_from_cache

    file = try_to_load_from_cache(name, "config.json")
    if not isinstance(file, str):
        raise InputError(f"{name}: cannot load this checkpoint: {NO_NETWORK}")
    return str(Path(file).parent)


def _architecture(config: Any) -> str:
    """Return the class that the weights were saved from; "" where the configuration does not name one."""
    names = getattr(config, "architectures", None)
    return names[0] if isinstance(names, list | tuple) and names and isinstance(names[0], str) else ""


def _layers(source: str, config: Any) -> int:
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if type(layers) is not int:
        raise InputError(f"{source}: its configuration does not say how many layers there are, got {layers!r}")
    if layers < 1:
        raise InputError(f"{source}: the network has no layer")
    words = getattr(config.get_text_config(), "vocab_size", None)
    if type(words) is int and words < 1:
        raise InputError(f"{source}: its configuration says that the vocabulary has {words} words")
    return layers


def _of_gguf(source: str, folder: str, gguf: str, family: Family | None) -> Description:
    header = gguf_header(Path(folder) / gguf)
    architecture = header.values.get("general.architecture")
    layers = header.values.get(f"{architecture}.block_count")
    if not isinstance(architecture, str) or type(layers) is not int:
        raise InputError(f"{source}: its header names no architecture, or no number of layers")
    if layers < 1:
        raise InputError(f"{source}: the network has no layer")
    model_type = _GGUF_TYPES.get(architecture, architecture)
    numbers = _layer_numbers(header.names, "blk")
    if not _are_all(numbers, layers):
        raise InputError(f"{source}: its header says {layers} layers, its weights are of {len(numbers)}")
    family = family or FAMILIES.get(model_type)
    fields: dict[str, Any] = {"architecture": "", "shapes": None, "header": header}
    return Description(source, folder, folder, gguf, None, model_type, family, layers, **fields)


def _require_fit(description: Description) -> None:
    """Raise InputError where the weights are not those of as many layers as the configuration says."""
    if description.shapes is None:
        return
    paths = () if description.family is None else tuple(description.family.layers.split("|"))
    numbers: set[int] = max((_layer_numbers(description.shapes, path) for path in paths), key=len, default=set())
    wrong = not _are_all(numbers, description.layers) if numbers else description.layers > _MANY
    if wrong:
        amount = f"{len(numbers)}" if numbers else "fewer"
        raise InputError(
            f"{description.source}: config.json says {description.layers} layers, the weights beside it are of {amount}"
        )


def _are_all(numbers: set[int], count: int) -> bool:
    """Tell whether the numbers are 0 ... count - 1, without a set of them, since a file may say any count.

    >>> _are_all({0, 1, 2}, 3), _are_all({0, 2}, 10**18)
    (True, False)
    """
    return len(numbers) == count and max(numbers) == count - 1


def _layer_numbers(names: Any, path: str) -> set[int]:
    """Return the numbers i of weights "... path.i. ...".

    >>> sorted(_layer_numbers(["model.layers.0.a", "model.layers.11.a", "layers_2.a"], "layers"))
    [0, 11]
    """
    number = re.compile(rf"(?:^|\.){re.escape(path)}\.(\d{{1,9}})\.")
    return {int(match.group(1)) for name in names if (match := number.search(name))}
