"""theta <- AdamW(grad loss): one network trained on one data set from one seed, and scored once on the untouched part.

`fit` trains, `score` tests; what a comparison of several needs is in `comparison`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn import config, presets
from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.nn.experiment import processes
from ctrlattn.nn.experiment.attacks import fgsm, noisy, pgd
from ctrlattn.nn.experiment.data import Data, Part, perplexity
from ctrlattn.nn.experiment.measures import over_depth
from ctrlattn.nn.modules.blocks import Network, configuration
from ctrlattn.nn.modules.lm import ControlledLM
from ctrlattn.nn.modules.vit import ControlledViT

# An A/A arm: the same network from another draw. By the gauge fact "comparator" is one as well; see `flipped`.
AGAIN, FLIPPED = "softmax-again", "softmax-flipped"
NOISES, STRENGTHS = (0.1, 0.2, 0.3, 0.4), (1, 4, 8, 16, 32)  # deviation in pixels of [0, 1]; eps in 1/255
PGD_STRENGTHS, PGD_STEPS = (4, 8, 16), 10
WATCHED = 128  # inputs whose signals are measured over depth
AT_ONCE = 512  # inputs that are evaluated together

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """Everything that decides one run, besides the data.

    >>> Settings("softmax", 0).depth
    8
    """

    arm: str
    seed: int
    epochs: int = 20
    depth: int = 8
    dim: int = 48
    heads: int = 3
    ratio: int = 2  # width of the MLP over dim
    patch: int = 2
    norm: str = "layer"
    depth_scaled: bool = False
    initial: str = "fan-in"  # deviation of the first weights: 1/sqrt(dim), or "deit": 0.02
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.05
    drop_path: float = 0.0  # stochastic depth of the last layer
    image: int = 224  # pixels to which images of a directory are scaled; others come as they are


class Fit(NamedTuple):
    """What training did: mean loss of each epoch, loss on the part that checks, the verdict and where it stopped."""

    losses: list[float]
    valid: list[float]
    status: str
    where: str | None


def options_of(arm: str, *, text: bool = False) -> dict[str, Any]:
    """What an arm asks of a network: a preset's name, an A/A arm, or a TOML file with a loop.

    For text the variant of a preset that has one ("-text") is taken.

    Raises
    ------
    InputError
        An unknown name, a file that is no loop, a loop that is no network.

    Examples
    --------
    >>> options_of("neutreno")["controller"].kp, options_of("neutreno", text=True)["controller"].kp
    (0.6, 0.4)
    """
    if arm.endswith(".toml"):
        loop = config.load(arm).loop
        if loop.skip != 0 or loop.order == "sequential" or loop.normalizer is not None:
            raise InputError(f"{arm}: an arm is a loop of values: skip = 0, parallel, without normalizer")
        return {"controller": loop.controller, "reference_gain": loop.reference_gain, "feedback": 1.0}
    if arm in (AGAIN, FLIPPED):
        return configuration("softmax")
    return configuration(f"{arm}-text" if text and f"{arm}-text" in presets.names() else arm)


def build(settings: Settings, data: Data) -> Network:
    """The untrained network; arms of one seed begin with the same weights, the A/A arm with others.

    Examples
    --------
    >>> from ctrlattn.nn.experiment.data import images
    >>> data = images("black", np.zeros((3, 8, 8)), np.array([0, 1, 1]), train=1, valid=1)
    >>> sum(p.numel() for p in build(Settings("neutreno", 0, depth=1, dim=6), data).parameters())
    518
    """
    options: dict[str, Any] = {
        **options_of(settings.arm, text=data.is_text),
        **{name: getattr(settings, name) for name in ("depth", "dim", "heads", "norm", "depth_scaled", "drop_path")},
        "hidden": settings.ratio * settings.dim,
    }
    if settings.initial not in ("fan-in", "deit"):
        raise InputError(f'initial must be "fan-in" or "deit", got {settings.initial!r}')
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_seed(settings))
        model = _network(settings, data, options)
        # 0.02 is made for 192 features and more; at 48 the layers would begin by doing next to nothing.
        if settings.initial == "fan-in":
            model.initialize(settings.dim**-0.5, depth_scaled=settings.depth_scaled)
    return flipped(model) if settings.arm == FLIPPED else model


def _network(settings: Settings, data: Data, options: dict[str, Any]) -> Network:
    if data.is_text:
        return ControlledLM(data.classes, dropout=0.0, **options)
    channels, side = data.train.inputs.shape[1:3]
    return ControlledViT(image=side, patch=settings.patch, channels=channels, classes=data.classes, **options)


def flipped(model: Network) -> Network:
    """The same network with every W_O and its bias negated, in place: a sign on the stream, read as a gauge."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".attn.proj." in name:
                parameter.neg_()
    return model


def fit(model: Network, data: Data, settings: Settings, progress: Progress = lambda line: None) -> Fit:
    """Train in place: AdamW, linear warm-up over a tenth of the steps, cosine to zero, gradients clipped at norm 1.

    A loss that is not finite ends it; the network is then that of the last epoch whose losses all were. Of several
    processes (`processes.group`) each takes its share of every batch; the result is that of one, but for the samples
    that drop_path leaves out.

    Returns
    -------
    Fit
        status "learned", "no learning" (last epoch above 0.9 of the loss of knowing nothing), "exploded" (above 1.5)
        or "not finite".
    """
    place = next(model.parameters()).device
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(_seed(settings) + 7919 * processes.rank())  # of drop_path, the one draw that torch makes
        return _fit(model, data, settings, progress)


def _fit(model: Network, data: Data, settings: Settings, progress: Progress) -> Fit:
    order = np.random.default_rng(_seed(settings))
    cuts = np.random.default_rng((_seed(settings), 1))
    together = processes.shared(model)
    steps = -(-len(data.train.targets) // settings.batch)
    optimizer = torch.optim.AdamW(model.parameters(), settings.rate, weight_decay=settings.decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _rate_curve(settings.epochs * steps))
    losses: list[float] = []
    valid: list[float] = []
    good = _copy(model)
    for epoch in range(settings.epochs):
        seen = []
        for step, rows in enumerate(np.array_split(order.permutation(len(data.train.targets)), steps)):
            mine, draws = (processes.share_of(each) for each in (rows, cuts.random((len(rows), 5))))
            loss = loss_of(together, data, data.train.take(mine, draws))
            loss = loss * processes.weight_of(rows) if processes.count() > 1 else loss
            seen.append(processes.mean(loss))
            if not math.isfinite(seen[-1]):
                model.load_state_dict(good)
                where = f"epoch {epoch + 1}, step {step + 1} of {steps}: the loss is {seen[-1]}"
                return Fit(losses, valid, "not finite", where)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        losses.append(float(np.mean(seen)))
        valid.append(mean_loss(model, data, data.valid))
        good = _copy(model) if math.isfinite(valid[-1]) else good
        progress(f"epoch {epoch + 1}/{settings.epochs}, loss {losses[-1]:.3f}, held out {valid[-1]:.3f}")
    return Fit(losses, valid, status_of(losses, data.chance()), None)


def status_of(losses: list[float], chance: float) -> str:
    """The verdict on a curve of finite losses.

    >>> [status_of([3.0, last], chance=2.0) for last in (1.0, 1.9, 3.1)]
    ['learned', 'no learning', 'exploded']
    """
    last = losses[-1] if losses else chance
    return "exploded" if last > 1.5 * chance else "no learning" if last > 0.9 * chance else "learned"


def loss_of(model: torch.nn.Module, data: Data, part: Part) -> torch.Tensor:
    """Mean cross-entropy of a part, nats, where the network is."""
    place = next(model.parameters()).device
    inputs, targets = part.inputs.to(place), part.targets.to(place)
    return cross_entropy(model(data.prepare(inputs)).flatten(0, -2), targets.flatten())


@torch.no_grad()
def mean_loss(model: Network, data: Data, part: Part) -> float:
    """Mean cross-entropy of a part in evaluation, nats, AT_ONCE inputs at a time."""
    was_training = model.training
    model.eval()
    parts = [(loss_of(model, data, some).item(), len(some.targets)) for some in part.batches(AT_ONCE)]
    model.train(was_training)
    return parts[0][0] if len(parts) == 1 else sum(loss * n for loss, n in parts) / sum(n for _, n in parts)


def score(model: Network, data: Data, seed: int = 0) -> dict[str, float]:
    """Every score on the test part: accuracies, also of disturbed images; for text the loss and the perplexity.

    Names: clean, noise_<deviation>, fgsm_<eps in 1/255>, pgd_<eps in 1/255>; loss; perplexity. The noise is the same
    for every network of a seed.
    """
    model.eval()
    loss = mean_loss(model, data, data.test)
    if data.is_text:
        return {"loss": loss, "perplexity": perplexity(loss)}
    generator = torch.Generator().manual_seed(seed)
    right: dict[str, int] = {}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for some in data.test.batches(AT_ONCE):
        for name, hits in _right(model, data, some, generator).items():
            right[name] = right.get(name, 0) + hits
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return {"loss": loss, **{name: hits / len(data.test.targets) for name, hits in right.items()}}


def _right(model: Network, data: Data, part: Part, generator: torch.Generator) -> dict[str, int]:
    """How many images of a part are classified rightly, clean and under each disturbance."""
    place = next(model.parameters()).device
    x, y = part.inputs.to(place), part.targets.to(place)

    def classify(images: torch.Tensor) -> torch.Tensor:
        return model(data.prepare(images))

    def hits(images: torch.Tensor) -> int:
        with torch.no_grad():
            return int((classify(images).argmax(-1) == y).sum())

    found = {"clean": hits(x)}
    found |= {f"noise_{s:g}": hits(noisy(x, s, generator)) for s in NOISES}
    found |= {f"fgsm_{s:g}": hits(fgsm(classify, x, y, s / 255)) for s in STRENGTHS}
    for strength in PGD_STRENGTHS:
        attacked = pgd(classify, x, y, strength / 255, steps=PGD_STEPS, generator=generator)
        found[f"pgd_{strength:g}"] = hits(attacked)
    return found


def train(
    settings: Settings,
    data: Data,
    *,
    weights: Path | None = None,
    progress: Progress = lambda line: None,
    device: torch.device | None = None,
) -> dict[str, Any]:
    """One run: built, measured, trained, measured, scored; weights as safetensors where a path is given.

    Of several processes all train, and process 0 measures, scores and writes; the others return an empty dict.

    Returns
    -------
    dict
        losses, valid, status, where, scores, parameters, and `over_depth` before ("untrained") and after ("trained").

    Examples
    --------
    >>> from ctrlattn.nn.experiment.data import images
    >>> data = images("black", np.zeros((9, 4, 4)), np.arange(9) % 2, train=5, valid=2)
    >>> run = train(Settings("softmax", 0, epochs=1, depth=2, dim=6), data)
    >>> len(run["losses"]), run["status"]
    (1, 'no learning')
    """
    model = build(settings, data).to(device)
    watched = data.prepare(data.test.inputs[:WATCHED].to(device))
    before = over_depth(model, watched)
    found = fit(model, data, settings, progress)
    if processes.rank() > 0:
        return {}
    if weights is not None:
        from safetensors.torch import save_model

        with atomic(weights) as path:
            save_model(model, str(path))
    return {
        **found._asdict(),
        "parameters": sum(p.numel() for p in model.parameters()),
        "untrained": before,
        "trained": over_depth(model, watched),
        "scores": score(model, data, settings.seed),
    }


def _seed(settings: Settings) -> int:
    return settings.seed + (1_000_003 if settings.arm == AGAIN else 0)


def _rate_curve(steps: int) -> Callable[[int], float]:
    warm = max(steps // 10, 1)
    return lambda k: min((k + 1) / warm, 1.0) * (1 + math.cos(math.pi * k / steps)) / 2


def _copy(model: Network) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
