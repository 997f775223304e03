"""tokenizer_config.json -> the tokenizer that AutoTokenizer would make of it, before torch is imported.

AutoTokenizer imports every class of a configuration, and these import torch: 2 of 3 s of processor time. Which class of
tokenizers it takes in the end depends on two words for the families of the table, and the classes need no torch. A text
that is refused for its number of tokens does not wait for it.
"""

import re
from pathlib import Path
from typing import Any

from ctrlattn.checkpoints.network.families import FAMILIES
from ctrlattn.errors import InputError
from ctrlattn.parsing import read_json

# Classes that read tokenizer.json, and are taken where tokenizer_config.json names them, whatever the family.
_CLASSES = (
    "TokenizersBackend", "PreTrainedTokenizer", "GPT2Tokenizer", "BertTokenizer", "Qwen2Tokenizer", "GemmaTokenizer",
    "GPTNeoXTokenizer", "RobertaTokenizer",
)  # fmt: skip
_OTHERWISE = ("mistral", "qwen2")  # families of which transformers does not take the class that is named
# Names of a directory that transformers might take for one of the hub's whose class it knows to be named wrongly.
_HUB = re.compile(r"(deepseek-ai|allenai|google|naver-clova-ix|salesforce|stepfun-ai)/", re.IGNORECASE)


def tokenizer_class(name: str, folder: Path) -> str | None:
    """Return the class of tokenizers of this directory; None where AutoTokenizer has to be asked.

    Parameters
    ----------
    name : str
        The directory as the user gave it.
    folder : Path

    Examples
    --------
    >>> tokenizer_class("no/such/directory", Path("no/such/directory")) is None
    True
    """
    if _HUB.match(name) or not (folder / "tokenizer.json").is_file():
        return None
    config, entries = (_table(folder / f"{file}.json") for file in ("config", "tokenizer_config"))
    kind, class_name = config.get("model_type"), entries.get("tokenizer_class")
    if not isinstance(kind, str) or not isinstance(class_name, str) or "auto_map" in entries or "model_name" in config:
        return None
    bare = class_name.removesuffix("Fast")
    if kind not in FAMILIES or kind in _OTHERWISE or bare not in _CLASSES or class_name == "PreTrainedTokenizer":
        return None
    return "TokenizersBackend" if bare == "PreTrainedTokenizer" else bare


def plain_tokenizer(name: str, folder: Path, **options: Any) -> Any | None:
    """Make the tokenizer of this directory; None where AutoTokenizer has to be asked, or it cannot be read.

    A file that cannot be read is read once more by AutoTokenizer, which looks at the configuration first.
    """
    kind = tokenizer_class(name, folder)
    if kind is None:
        return None
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(name, **options)
    except Exception:
        return None


def _table(path: Path) -> dict[str, Any]:
    """Read a JSON file of names and values; return an empty dict where it is none."""
    try:
        content = read_json(path)
    except (InputError, OSError):
        return {}
    return content if isinstance(content, dict) else {}
