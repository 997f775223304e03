"""files of a source -> digest of every byte that decides the network, taken while these files are loaded.

What is on disk is often half of what is in memory (bfloat16), or a fifth (4 bits), and the second processor has nothing
to do while transformers reads. A network whose files are not known for certain is hashed in memory.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ctrlattn import __version__
from ctrlattn.checkpoints.network.checkpoint import Checkpoint
from ctrlattn.checkpoints.network.describe import Description
from ctrlattn.checkpoints.network.headers import WEIGHTS, shards
from ctrlattn.checkpoints.network.load import loaded
from ctrlattn.checkpoints.network.on_disk import files_read, opened
from ctrlattn.files import visible
from ctrlattn.identity import FilesDigest, digest, of_files, of_network
from ctrlattn.progress import Progress

_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack"}


def load_with_content(
    description: Description, progress: Progress | None = None, **options: Any
) -> tuple[Checkpoint, str]:
    """Call `load` on what was described, and return its checkpoint with the digest of what was loaded.

    The digest is of every byte of the weights and of config.json, of the options, and of the versions of ctrlattn,
    transformers and gguf, which decide what becomes of these bytes.

    Raises
    ------
    InputError
        As `load`; a file was changed while it was loaded.
    """
    arguments = {"tokenizer": description.loaded_tokenizer, "progress": progress, **options}
    files = files_of(description)
    if files is None:
        checkpoint = loaded(description, **arguments)
        return checkpoint, of_network(checkpoint.model)
    with FilesDigest(files) as hashing:
        checkpoint = loaded(description, **arguments)
        kind = type(checkpoint.model).__name__
        return checkpoint, digest(hashing.digest(), [file.name for file in files], kind, options, _versions())


def on_disk_with_content(description: Description) -> tuple[Checkpoint, str]:
    """Call `on_disk` on what was described, and return its checkpoint with the digest of the files, each read whole.

    It is another digest than that of the network in memory: the two agree to rounding, and no result mixes them.

    Raises
    ------
    InputError
        As `on_disk`.
    """
    checkpoint = opened(description)
    files = files_read(description)
    kind = type(checkpoint.model).__name__
    return checkpoint, digest(of_files(files), [file.name for file in files], kind, "on disk", _versions())


def files_of(description: Description) -> tuple[Path, ...] | None:
    """Return the files that decide the network; None beside others that transformers might read as well."""
    folder = Path(description.folder)
    if description.header is not None:
        return description.header.paths
    if not (folder / "config.json").is_file() or (folder / "adapter_config.json").exists():
        return None
    if getattr(description.config, "transformers_weights", None) is not None:
        return None
    first = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        return None
    weights = set(shards(folder / first).values()) if first.endswith(".json") else {first}
    beside = {path.name for path in visible(folder) if path.suffix in _WEIGHTS}
    names = sorted({"config.json", first, *weights})
    return tuple(folder / name for name in names) if weights == beside else None


def _versions() -> list[str]:
    import transformers

    return [__version__, transformers.__version__, *([version("gguf")] if find_spec("gguf") else [])]
