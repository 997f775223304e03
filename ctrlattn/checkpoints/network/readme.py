"""README.md of a saved network: what it is, and the lines that load it and let it continue a text."""

from typing import Any

from ctrlattn import __version__
from ctrlattn.checkpoints.network.structure import structure_of

_NAMES = {"mlp": "the MLP"}
_TEXT = "Once upon a time"


def readme(name: str, model: Any, tokenizer: Any | None, *, custom: bool) -> str:
    """Write the text of README.md; its code runs in the directory that holds it.

    Parameters
    ----------
    name : str
        Name of what the network was made of.
    model : transformers model
        The model as it is saved.
    tokenizer : optional
    custom : bool
        Whether it has gains or repeated layers, which no class of transformers computes.

    Examples
    --------
    >>> import transformers
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> print(readme("tiny", transformers.GPT2Model(config), None, custom=False).partition("With")[0])
    # tiny, saved by ctrlattn ...
    <BLANKLINE>
    Nothing was taken out of the network.
    <BLANKLINE>
    """
    kind = type(model).__name__
    ours = _code("from ctrlattn import checkpoints", 'network = checkpoints.load(".")', "network.", model, tokenizer)
    load = f'model = transformers.{kind}.from_pretrained(".")'
    if tokenizer is not None:
        load += '; tokenizer = transformers.AutoTokenizer.from_pretrained(".")'
    with_transformers = _code("import transformers", load, "", model, tokenizer)
    if custom:
        with_transformers = (
            "Plain transformers refuses this directory, since none of its classes computes this network.\n"
        )
    else:
        with_transformers = f"With plain transformers:\n\n{with_transformers}"
    return (
        f"# {name}, saved by ctrlattn {__version__}\n\n{_changes_in_words(model)}\n\n"
        f'With ctrlattn (`pip install "ctrlattn[hf]"`), in this directory:\n\n{ours}\n{with_transformers}'
    )


def _changes_in_words(model: Any) -> str:
    structure = structure_of(model)
    parts = [
        f"{_NAMES.get(kind, kind)} of layer{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}"
        for kind, layers in structure.items()
        if layers
    ]
    if not parts:
        return "Nothing was taken out of the network."
    gains = any(stand is not None for layers in structure.values() for stand in layers.values())
    instead = "gains stand in their place" if gains else "the files hold zeros in their place"
    return f"Without {' and '.join(parts)}; {instead}."


def _code(first: str, load: str, prefix: str, model: Any, tokenizer: Any | None) -> str:
    """Write an import and two lines, which load the network and use it."""
    ids = f'{prefix}tokenizer("{_TEXT}", return_tensors="pt").input_ids'
    if tokenizer is None:
        ids = "torch.tensor([[1, 2, 3]])"
    if getattr(model, "main_input_name", "input_ids") != "input_ids":
        use = f"print(type({prefix}model))"
    elif not model.can_generate():
        use = f"print({prefix}model({ids})[0].shape)"
    else:
        ids = f"{prefix}model.generate({ids}, max_new_tokens=20)[0]"
        use = f"print({ids})" if tokenizer is None else f"print({prefix}tokenizer.decode({ids}))"
    imports = f"import torch\n{first}" if "torch." in use else first
    return f"```python\n{imports}\n{load}\n{use}\n```\n"
