"""Numbers that a network makes of its configuration, on a network without memory: buffers that no file holds.

transformers builds every network without memory, and lets `_init_weights` fill such buffers afterwards. Here the same
rule fills them twice: from zeros, and from ones. A number that it leaves as it was differs between the two, and is
refused.
"""

from typing import Any

import torch

from ctrlattn.errors import InputError


def stored_buffers(model: Any) -> dict[str, torch.Size]:
    """Map name -> shape of the buffers that belong into the file of a network, as its weights do.

    >>> stored_buffers(torch.nn.BatchNorm1d(2, affine=False))["running_mean"]
    torch.Size([2])
    """
    stored = model.state_dict()
    return {name: buffer.shape for name, buffer in model.named_buffers() if name in stored}


def fill_buffers(model: Any) -> None:
    """Give the buffers that no file holds their numbers, in place; they are those on torch's device "meta".

    One in memory was made with its numbers, and stays as it is; one that a file holds is read there, whatever its type.

    Raises
    ------
    InputError
        The rule of transformers does not fill one.
    """
    buffers = [
        (path, name, buffer)
        for path, module in model.named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None and buffer.is_meta and name in module._non_persistent_buffers_set
    ]
    from_zeros, from_ones = (_buffers_from(model, buffers, start) for start in (0, 1))
    pairs = zip(buffers, from_zeros, from_ones, strict=True)
    wrong = [f"{path}.{name}" for (path, name, _), a, b in pairs if not torch.equal(a, b)]
    if wrong:
        raise InputError(f"the numbers {wrong[0]} are neither a weight nor made of the configuration")


def _buffers_from(model: Any, buffers: list[tuple[str, str, torch.Tensor]], start: int) -> list[torch.Tensor]:
    """Return these buffers after the rule, where each number was `start` before it.

    The rule of a module may be that of the module around it, which is therefore asked after it.
    """
    module_paths: dict[str, None] = {}
    for path, name, buffer in buffers:
        model.get_submodule(path)._buffers[name] = torch.full_like(buffer, start, device="cpu")
        parts = path.split(".")
        module_paths |= dict.fromkeys(".".join(parts[:end]) for end in range(len(parts), -1, -1))
    with torch.random.fork_rng(devices=[]), torch.no_grad():  # some rules draw numbers for weights, which are not used
        for path in sorted(module_paths, key=lambda path: -path.count(".") - bool(path)):
            _owner(model, path)._init_weights(model.get_submodule(path))
    return [model.get_submodule(path)._buffers[name] for path, name, _ in buffers]


def _owner(model: Any, path: str) -> Any:
    """Return the network whose rule a module follows: the innermost around it, where one stands inside another."""
    parts = path.split(".") if path else []
    around = (model.get_submodule(".".join(parts[:end])) for end in range(len(parts), -1, -1))
    return next(module for module in around if hasattr(module, "_init_weights"))
