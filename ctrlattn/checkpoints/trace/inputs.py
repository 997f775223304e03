"""Two short inputs of a network's own: eight tokens of its vocabulary, or an image of its size."""

from typing import Any

import torch

from ctrlattn.errors import InputError

TOKENS = 8


def short_inputs(model: Any, inputs: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return keyword arguments for two passes with different inputs.

    Parameters
    ----------
    model : transformers model
    inputs : dict, optional
        Arguments of the model. The second ones are then these, with the order of tokens or pixels reversed.

    Examples
    --------
    >>> import transformers
    >>> config = transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=9)
    >>> [given["input_ids"].shape for given in short_inputs(transformers.GPT2Model(config))]
    [torch.Size([1, 8]), torch.Size([1, 8])]
    """
    if inputs is not None:
        return dict(inputs), _reverse(model, inputs)
    name = getattr(model, "main_input_name", "input_ids")
    if name == "pixel_values":
        return {name: _image(model, 0)}, {name: _image(model, 1)}
    if name != "input_ids":
        raise InputError(f"{type(model).__name__} reads {name}, no tokens: give trace(model, inputs)")
    first, second = (_tokens(model, seed) for seed in (0, 1))
    return {name: first, **_no_cache(model)}, {name: second, **_no_cache(model)}


def _no_cache(model: Any) -> dict[str, Any]:
    import inspect

    parameters = inspect.signature(model.forward).parameters
    takes = "use_cache" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return {"use_cache": False} if takes and hasattr(model.config.get_text_config(), "use_cache") else {}


def _tokens(model: Any, seed: int) -> torch.Tensor:
    embeddings = model.get_input_embeddings()
    count = getattr(embeddings, "num_embeddings", None) or getattr(model.config.get_text_config(), "vocab_size", None)
    if not isinstance(count, int):
        raise InputError(f"{type(model).__name__} does not say how many tokens it knows: give trace(model, inputs)")
    # The first tokens of a vocabulary are often special ones, padding among them.
    least = min(count // 4, 8)
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(least, count, (1, TOKENS), generator=generator).to(model.device)


def _image(model: Any, seed: int) -> torch.Tensor:
    config = getattr(model.config, "vision_config", model.config)
    size = getattr(config, "image_size", None)
    if size is None:
        raise InputError(f"{type(model).__name__} does not say the size of its images: give trace(model, inputs)")
    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    shape = (1, getattr(config, "num_channels", 3), height, width)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return image.to(model.device, model.dtype)


def _reverse(model: Any, inputs: dict[str, Any]) -> dict[str, Any]:
    name = getattr(model, "main_input_name", "input_ids")
    value = inputs.get(name)
    if not isinstance(value, torch.Tensor) or value.ndim < 2:
        return dict(inputs)
    return {**inputs, name: value.flip(1 if value.ndim < 4 else -1)}
