"""grad = sum over processes of n_p/n grad_p: data-parallel training by processes that torchrun started.

Each of P processes takes every P-th row of a batch, and DistributedDataParallel adds the gradients. The run is then
that of one process. Without torchrun there is one process, and these functions change nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from ctrlattn import devices
from ctrlattn.errors import InputError

# The time limit is long, since one process scores while the others wait for it.
_PATIENCE = timedelta(days=2)


def count() -> int:
    """Return the number of processes that share a batch.

    >>> count()
    1
    """
    return distributed.get_world_size() if _is_distributed() else 1


def rank() -> int:
    """Return the index of this process; process 0 writes and prints."""
    return distributed.get_rank() if _is_distributed() else 0


@contextmanager
def group() -> Iterator[None]:
    """Join the processes that torchrun started, over nccl where there are GPUs, over gloo otherwise."""
    if _is_distributed() or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        yield
        return
    if not distributed.is_available():
        raise InputError("this torch was built without torch.distributed: start one process")
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def device(name: str | None = None) -> torch.device:
    """Return the device of that name, or the GPU of this process, or the CPU.

    Raises
    ------
    InputError
        Torch does not have the device on this machine.

    Examples
    --------
    >>> device("cpu")
    device(type='cpu')
    """
    if name is None:
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    return devices.device(name)


def shared(model: torch.nn.Module) -> torch.nn.Module:
    """Return the model in DistributedDataParallel where several processes train it, otherwise the model itself."""
    if count() == 1:
        return model
    place = next(model.parameters()).device
    return torch.nn.parallel.DistributedDataParallel(model, device_ids=[place] if place.type == "cuda" else None)


def share_of(rows: Any) -> Any:
    """Return the rows of a batch that this process takes; a process without a row of its own takes the first one."""
    return rows[rank() :: count()] if len(rows) > rank() else rows[:1]


def weight_of(rows: Any) -> float:
    """Return the factor of this process's mean loss that makes the mean over processes the mean loss of the batch."""
    return count() * len(rows[rank() :: count()]) / len(rows)


def mean(value: torch.Tensor) -> float:
    """Return the mean of a scalar over the processes."""
    if count() == 1:
        return float(value.item())
    total = value.detach().clone()
    distributed.all_reduce(total)
    return float(total.item()) / count()


def agreed(flag: bool, place: torch.device) -> bool:
    """Return the flag of process 0, in every process."""
    if count() == 1:
        return flag
    value = torch.tensor(float(flag), device=place)
    distributed.broadcast(value, 0)
    return bool(value.item())


def _is_distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()
