"""theta <- AdamW(grad loss): one training run of one arm and seed, scored once on the test part."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.errors import InputError, require_known
from ctrlattn.files import atomic
from ctrlattn.nn.experiment import data_parallel
from ctrlattn.nn.experiment.arm_names import AGAIN, FLIPPED
from ctrlattn.nn.experiment.arms import controller_report, options_of
from ctrlattn.nn.experiment.data import Data
from ctrlattn.nn.experiment.measures import over_depth
from ctrlattn.nn.experiment.scores import loss_of, mean_loss, placed, score
from ctrlattn.nn.experiment.settings import DTYPES, RunSettings
from ctrlattn.nn.modules.lm import ControlledLM
from ctrlattn.nn.modules.network import Network
from ctrlattn.nn.modules.vit import ControlledViT
from ctrlattn.progress import Progress, silent

WATCHED = 128  # inputs on which signals are measured over depth


class Fit(NamedTuple):
    """Mean loss of each epoch, validation losses, the status of the run, and where it stopped if it did."""

    losses: list[float]
    valid: list[float]
    status: str
    where: str | None


def build(settings: RunSettings, data: Data) -> Network:
    """Build the untrained network. Arms of one seed have the same initial weights; the A/A arm has others.

    In float64 the initial weights are those of float32, so that two such runs differ by rounding alone.

    Examples
    --------
    >>> from ctrlattn.nn.experiment.data import images
    >>> data = images("black", np.zeros((3, 8, 8)), np.array([0, 1, 1]), train=1, valid=1)
    >>> sum(p.numel() for p in build(RunSettings("neutreno", 0, depth=1, dim=6), data).parameters())
    518
    """
    options: dict[str, Any] = {
        **options_of(settings.arm, text=data.is_text, depth=settings.depth, limit=settings.limit),
        **{name: getattr(settings, name) for name in ("depth", "dim", "heads", "norm", "depth_scaled", "drop_path")},
        "hidden": settings.ratio * settings.dim,
    }
    require_known("dtype", settings.dtype, DTYPES)
    if settings.initial not in ("fan-in", "deit"):
        raise InputError(f'initial must be "fan-in" or "deit", got {settings.initial!r}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(settings))
        model = _network(settings, data, options)
        # 0.02 suits 192 features and more; with 48 features the layers would initially do next to nothing.
        if settings.initial == "fan-in":
            model.initialize(settings.dim**-0.5, depth_scaled=settings.depth_scaled)
    model = model.double() if settings.dtype == "float64" else model
    return flipped(model) if settings.arm == FLIPPED else model


def _network(settings: RunSettings, data: Data, options: dict[str, Any]) -> Network:
    if data.is_text:
        return ControlledLM(data.classes, dropout=0.0, **options)
    channels, side = data.train.inputs.shape[1:3]
    return ControlledViT(image=side, patch=settings.patch, channels=channels, classes=data.classes, **options)


def flipped(model: Network) -> Network:
    """Negate every W_O and its bias in place: with feedback -1 the network computes what it did with +1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".attn.proj." in name:
                parameter.neg_()
    return model


def fit(model: Network, data: Data, settings: RunSettings, progress: Progress = silent) -> Fit:
    """Train in place by AdamW: linear warm-up over a tenth of the steps, cosine to zero, gradients clipped at norm 1.

    A loss that is not finite ends the training, and the network gets the weights of the last epoch whose losses were
    all finite. With several processes (`data_parallel.group`) each takes its share of every batch. The result is that
    of one process, except for the samples that drop_path leaves out.

    Returns
    -------
    Fit
        The status is "learned", "no learning" (the last epoch is above 0.9 of the loss of a constant prediction),
        "exploded" (above 1.5 of it) or "not finite".
    """
    place = next(model.parameters()).device
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(_seed(settings) + 7919 * data_parallel.rank())  # drop_path alone draws from torch's generator
        return _fit(model, data, settings, progress)


def _fit(model: Network, data: Data, settings: RunSettings, progress: Progress) -> Fit:
    order = np.random.default_rng(_seed(settings))
    cuts = np.random.default_rng((_seed(settings), 1))
    together = data_parallel.shared(model)
    steps = -(-len(data.train.targets) // settings.batch)
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate_curve(settings.epochs * steps))
    losses: list[float] = []
    valid: list[float] = []
    good = _copy(model)
    for epoch in range(settings.epochs):
        batch_losses = []
        for step, rows in enumerate(np.array_split(order.permutation(len(data.train.targets)), steps)):
            mine, draws = (data_parallel.share_of(each) for each in (rows, cuts.random((len(rows), 5))))
            loss = loss_of(together, data, data.train.take(mine, draws))
            loss = loss * data_parallel.weight_of(rows) if data_parallel.count() > 1 else loss
            batch_losses.append(data_parallel.mean(loss))
            if not math.isfinite(batch_losses[-1]):
                model.load_state_dict(good)
                where = f"epoch {epoch + 1}, step {step + 1} of {steps}: the loss is {batch_losses[-1]}"
                return Fit(losses, valid, "not finite", where)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        losses.append(float(np.mean(batch_losses)))
        valid.append(mean_loss(model, data, data.valid))
        good = _copy(model) if math.isfinite(valid[-1]) else good
        line = f"epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.3f}, held out {valid[-1]:.3f}"
        progress(line, epoch + 1, settings.epochs)
    return Fit(losses, valid, status_of(losses, data.chance()), None)


def status_of(losses: list[float], chance: float) -> str:
    """Return the status of a run by its losses, which are finite, and the loss `chance` of a constant prediction.

    >>> [status_of([3.0, last], chance=2.0) for last in (1.0, 1.9, 3.1)]
    ['learned', 'no learning', 'exploded']
    """
    last = losses[-1] if losses else chance
    return "exploded" if last > 1.5 * chance else "no learning" if last > 0.9 * chance else "learned"


def train(
    settings: RunSettings,
    data: Data,
    *,
    weights: Path | None = None,
    progress: Progress = silent,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """Build, measure, train, measure and score one network; write its weights as safetensors where a path is given.

    All processes train. Process 0 measures, scores and writes; the others return an empty dict.

    Returns
    -------
    dict
        losses, valid, status, where, scores, parameters, and `over_depth` before ("untrained") and after ("trained").
        An arm that learns or clips has "controller" as well, see `controller_report`.

    Examples
    --------
    >>> from ctrlattn.nn.experiment.data import images
    >>> data = images("black", np.zeros((9, 4, 4)), np.arange(9) % 2, train=5, valid=2)
    >>> run = train(RunSettings("softmax", 0, epochs=1, depth=2, dim=6), data)
    >>> len(run["losses"]), run["status"]
    (1, 'no learning')
    """
    model = build(settings, data).to(device)
    watched = data.prepare(placed(data.test.inputs[:WATCHED], model))
    before = over_depth(model, watched)
    curve = fit(model, data, settings, progress)
    if data_parallel.rank() > 0:
        return {}
    if weights is not None:
        from safetensors.torch import save_model

        with atomic(weights) as path:
            save_model(model, str(path))
    report = controller_report(model, watched)
    return {
        **curve._asdict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "untrained": before,
        "trained": over_depth(model, watched),
        "scores": score(model, data, settings.seed),
        **({"controller": report} if report else {}),
    }


def _seed(settings: RunSettings) -> int:
    return settings.seed + (1_000_003 if settings.arm == AGAIN else 0)


def _rate_curve(steps: int) -> Callable[[int], float]:
    warm = max(steps // 10, 1)
    return lambda k: min((k + 1) / warm, 1.0) * (1 + math.cos(math.pi * k / steps)) / 2


def _copy(model: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
