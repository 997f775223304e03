"""theta <- AdamW(grad loss): one training run of one looped network, with its weights at several marks on the way.

Nothing beyond the passes of training is run here: what the poles say of more passes is to be said before (`forecast`).
"""

import math
from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn.looped import iterate, spectrum
from ctrlattn.nn.experiment.loop_arms import loop_arm
from ctrlattn.nn.experiment.loop_settings import LoopSettings, require_loop_settings
from ctrlattn.nn.experiment.loop_tasks import Problems, Task, task_of
from ctrlattn.nn.experiment.training import status_of
from ctrlattn.nn.modules.looped import LoopedNetwork
from ctrlattn.nn.modules.pass_radius import pass_radius, squared_norm
from ctrlattn.progress import Progress, silent
from ctrlattn.stability import odd_number_limit, stable_gains

_LOSSES = 20  # points of the curve of losses
_INSIDE = 0.9  # share of the largest stable gain that is held
_BEYOND = 1.1  # times the least recall that is held


def build_loop(settings: LoopSettings) -> LoopedNetwork:
    """Build the untrained network of an arm.

    Raises
    ------
    InputError
        A task or arm is unknown, or a setting is out of range.

    Examples
    --------
    >>> build_loop(LoopSettings("maze", "parcae", 0)).injection
    'parcae'
    """
    require_loop_settings(settings)
    task, arm = task_of(settings.task), loop_arm(settings.arm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.data_seed)
        network = LoopedNetwork(
            task.features, task.classes, axes=task.axes, pooled=task.pooled, norm=arm.norm, injection=arm.injection,
            **{name: getattr(settings, name) for name in ("dim", "hidden", "layers")},
        )  # fmt: skip
    return network.double() if settings.dtype == "float64" else network


def examples_of(
    settings: LoopSettings, rng: np.random.Generator, count: int, size: int, *, test: bool = False
) -> Problems:
    """Make problems of the task and their answers; the problems are in the dtype of the network.

    >>> settings = LoopSettings("addition", "plain", 0, dtype="float64")
    >>> examples_of(settings, np.random.default_rng(0), 2, 8)[0].dtype
    torch.float64
    """
    inputs, answers = task_of(settings.task).examples(rng, count, size, test=test)
    return inputs.to(getattr(torch, settings.dtype)), answers


def on_device(network: LoopedNetwork, device: str | torch.device) -> LoopedNetwork:
    """Move the weights of a network to a device, in place, and return it.

    Gain and recall stay on the cpu: they are read as two numbers, in float64, which some devices do not have.

    >>> on_device(build_loop(LoopSettings("addition", "plain", 0)), "cpu").law
    Passes()
    """
    gains = network.get_buffer("gains")
    del network.gains
    network.to(device).register_buffer("gains", gains)
    return network


def fit_loop(
    settings: LoopSettings, progress: Progress = silent, device: str | torch.device = "cpu"
) -> tuple[dict[str, Any], list[dict[str, torch.Tensor]]]:
    """Train the network of an arm on a device; first weights and problems are drawn on the cpu, alike for all devices.

    Returns
    -------
    (run, weights)
        run: losses (mean of each of 20 parts), status as `status_of` has it, marks (steps), gains (of
        gain and recall, at each mark), unheld (steps at which no spectrum was measured to hold them by, and why) and
        parameters. weights: the state dict at each mark, on the cpu.
    """
    network = on_device(build_loop(settings), device)
    task, arm, passes = task_of(settings.task), loop_arm(settings.arm), settings.trained_passes
    batches, lengths = (np.random.default_rng((settings.data_seed, k)) for k in (0, 1))
    signs = torch.Generator().manual_seed(settings.data_seed)
    problems = examples_of(settings, batches, settings.examples, settings.trained_size)
    inputs, answers = (part.to(device) for part in problems)
    optimizer = torch.optim.AdamW(network.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: _rate_curve(k, settings.steps))
    marks = sorted({-(-settings.steps * (k + 1) // settings.marks) for k in range(settings.marks)})
    losses, weights, gains, unheld = [], [], [], []
    for step in range(1, settings.steps + 1):
        rows = torch.from_numpy(batches.integers(0, len(inputs), settings.batch))
        count = int(lengths.integers(passes - passes // 2, passes + passes // 2 + 1)) if arm.random else passes
        h = state_after(network, inputs[rows], count)
        loss = cross_entropy(network.answer(h).reshape(-1, task.classes), answers[rows].flatten())
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            break
        if arm.penalty:
            loss = loss + settings.penalty * _penalty(network, inputs[rows], h, settings, signs)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if arm.held and step % settings.hold_every == 0:
            try:
                hold_stable(network, inputs[: settings.hold_rows], passes)
            except ArithmeticError as error:  # gain and recall stay those of the last spectrum
                unheld.append(f"step {step}: {error}")
        if step in marks:
            weights.append({name: value.to("cpu", copy=True) for name, value in network.state_dict().items()})
            gains.append(network.get_buffer("gains").tolist())
            progress(f"step {step}/{settings.steps}, loss {losses[-1]:.3f}", step, settings.steps)
    finite = all(math.isfinite(loss) for loss in losses)
    curve = [float(np.mean(part)) for part in np.array_split(losses, min(_LOSSES, len(losses)))]
    run = {
        "losses": curve,
        "status": status_of(curve, _chance(answers, task)) if finite else "not finite",
        "marks": marks[: len(weights)],
        "gains": gains,
        "unheld": unheld,
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    return run, weights


def state_after(network: LoopedNetwork, inputs: torch.Tensor, passes: int) -> torch.Tensor:
    """Return h after that many passes."""
    return next(h for k, h in enumerate(network.states(inputs)) if k == passes)


def sample_map(network: LoopedNetwork, inputs: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Return (F, h_0) of one problem (*grid, features) in float64 on the cpu, as `looped` takes them, from a copy."""
    double = copied(network).cpu().double()
    with torch.no_grad():
        e = double.embed(inputs.cpu().double())
    return double.pass_map(e), e


def copied(network: LoopedNetwork, weights: Mapping[str, torch.Tensor] | None = None) -> LoopedNetwork:
    """Return a network of the same shape whose weights need no gradient, with other weights where they are given."""
    copy = deepcopy(network)
    copy.load_state_dict(network.state_dict() if weights is None else weights)
    return copy.requires_grad_(False)


def hold_stable(network: LoopedNetwork, inputs: torch.Tensor, passes: int) -> None:
    """Set gain and recall so that the spectra of J after `passes` are stable, with a tenth of room in both.

    The recall is 1.1 times the least with which any small gain is stable, max Re lambda - 1. The gain is 0.9 times the
    largest that the toolbox finds stable then, and at most 1.

    Raises
    ------
    ArithmeticError
        A spectrum cannot be measured; gain and recall are then left as they are.
    """
    values = []
    for problem in inputs:
        step, start = sample_map(network, problem)
        with torch.no_grad():
            h = iterate(step, start, passes, network.law.controller, network.law.recall, record="last").state
        values.append(spectrum(step, h).eigenvalues)
    eigenvalues = np.concatenate(values)
    recall = _BEYOND * odd_number_limit(eigenvalues).recall
    gains = stable_gains(None, eigenvalues, recall)
    if gains:
        network.hold_law(min(1.0, _INSIDE * gains[0][1]), recall)


def _penalty(
    network: LoopedNetwork, inputs: torch.Tensor, h: torch.Tensor, settings: LoopSettings, signs: torch.Generator
) -> torch.Tensor:
    rows = slice(settings.penalty_rows)
    step = network.pass_map(network.embed(inputs[rows]))
    if settings.penalty_form == "radius":
        size = pass_radius(step, h[rows], rounds=settings.penalty_rounds, generator=signs).radius
    else:
        size = (squared_norm(step, h[rows], generator=signs) / h[0].numel()).sqrt()
    return (size - settings.most_radius).clamp(min=0).square().mean()


def _rate_curve(k: int, steps: int) -> float:
    """Warm up over a twelfth of the steps, then fall linearly to a tenth."""
    return min((k + 1) / max(steps // 12, 1), 1.0) * (0.1 + 0.9 * (1 - k / steps))


def _chance(answers: torch.Tensor, task: Task) -> float:
    p = torch.bincount(answers.cpu().flatten(), minlength=task.classes) / answers.numel()
    return float(torch.special.entr(p.double()).sum())
