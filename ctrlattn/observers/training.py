"""min |x - zD - b|² (+ penalty |z|₁): training of a dictionary, block by block, with dead features revived.

A block is as many examples as fit in memory. It is shuffled, passed through several times, and released. Its content
depends on its number alone, so that an interrupted training continues after its last whole block, bit for bit.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import linear, normalize

from ctrlattn.errors import InputError
from ctrlattn.files import atomic
from ctrlattn.observers.dictionary import Codes, Dictionary, read_tensors
from ctrlattn.observers.settings import Settings
from ctrlattn.observers.sparse_step import set_gradients
from ctrlattn.parsing import parse_json
from ctrlattn.progress import Progress

Blocks = Callable[[int], torch.Tensor]
_AUXILIARY = 1 / 32  # weight of the auxiliary loss of dead features, as published
_BETAS = (0.9, 0.999)
_SAMPLE = 2048  # examples that the length of the first rows is fitted to


class Progressed(NamedTuple):
    """Progress of the training in one block."""

    explained: float  # explained share of the variance, mean over the steps of the block
    dead: float  # share of dead features
    active: float  # mean number of features per example


class Training:
    """A dictionary in training: `learn` takes one block after the other, `save` and `resume` go between blocks.

    Parameters
    ----------
    width : int
        Number of elements of a signal.
    settings : Settings

    References
    ----------
    Gao et al., arXiv 2406.04093, appendix A: tied initialisation, a unit-norm decoder whose gradient along each row is
    removed, and AuxK (dead features reconstruct the remaining error, with weight 1/32). Bricken et al., Towards
    Monosemanticity, Transformer Circuits 2023, appendix "Neuron Resampling": dead ReLU features are set to badly
    reconstructed examples.

    Examples
    --------
    >>> training = Training(4, Settings(features=8, k=2, blocks=1, batch=8))
    >>> shown = training.learn(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))
    >>> training.done, shown.active <= 2
    (1, True)
    """

    def __init__(self, width: int, settings: Settings) -> None:
        self.settings = settings
        self.dictionary = Dictionary(width, settings.features, k=settings.k, seed=settings.seed)
        self.optimizer = torch.optim.Adam(self.dictionary.parameters(), lr=settings.rate, betas=_BETAS, fused=True)
        self.idle = torch.zeros(settings.features, dtype=torch.long)  # examples since a feature was last present
        self.done = 0  # number of finished blocks

    def learn(self, signal: torch.Tensor) -> Progressed:
        """Learn from the next block, (m, width).

        Raises
        ------
        InputError
            The block has another width, is empty or not finite, or the training is over.
        """
        if self.done >= self.settings.blocks:
            raise InputError(f"this training is over: its settings have {self.settings.blocks} blocks")
        if signal.ndim != 2 or len(signal) < 2 or not torch.isfinite(signal).all():
            raise InputError(f"a block is (examples, width), finite, at least 2 examples; got {tuple(signal.shape)}")
        if self.done == 0:
            self.begin(signal)
        generator = torch.Generator().manual_seed(1_000_003 * (self.settings.seed + 1) + self.done)
        total, present, steps = 0.0, 0.0, 0
        for _ in range(self.settings.passes):
            for rows in torch.randperm(len(signal), generator=generator).split(self.settings.batch):
                unexplained, active = self._step(self.dictionary.scaled(signal[rows]))
                total, present, steps = total + unexplained, present + active, steps + 1
        dead = float((self.idle > self.settings.dead_after).float().mean())
        if self.settings.k is None:
            self._resample(signal[torch.randperm(len(signal), generator=generator)[:8192]])
        self.done += 1
        return Progressed(1 - total / steps, dead, present / steps)

    def begin(self, signal: torch.Tensor) -> None:
        """Take mean, size and, for TopK, the length of the encoder's rows from a sample (m, width).

        min over c of |x - c zD|²: z is linear in the length, so that the best one is known at once. Rows of length 1
        give codes that rebuild too much, since the k features chosen overlap.
        """
        dictionary = self.dictionary
        dictionary.measure(signal)
        if self.settings.k is None or self.settings.start == "unit":
            return
        with torch.no_grad():
            x = dictionary.scaled(signal[:_SAMPLE])
            rebuilt = dictionary.combine(dictionary.codes(dictionary.response(x)))
            size = rebuilt.square().sum()
            if size > 0:
                dictionary.encoder.mul_((x * rebuilt).sum() / size)

    def _step(self, x: torch.Tensor) -> tuple[float, float]:
        self._set_rate()
        for parameter in self.dictionary.parameters():
            parameter.grad = None
        codes, error = self._topk(x) if self.settings.k is not None else self._relu(x)
        self._keep_unit_gradient()
        self.optimizer.step()
        with torch.no_grad():
            self.dictionary.decoder.div_(self.dictionary.decoder.norm(dim=-1, keepdim=True).clamp_min(1e-12))
            present = self._count(codes, len(x))
            variance = (x - x.mean(0)).square().mean()
            return float(error.square().mean() / variance), present

    def _topk(self, x: torch.Tensor) -> tuple[Codes, torch.Tensor]:
        """Set the gradients, and return (codes, error)."""
        with torch.no_grad():
            response = self.dictionary.response(x)
        codes, error = set_gradients(self.dictionary, x, response)
        dead = (self.idle > self.settings.dead_after).nonzero().ravel()
        if len(dead):
            self._auxiliary(x, error, dead).backward()
        return codes, error

    def _auxiliary(self, x: torch.Tensor, error: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
        """Return the AuxK loss: the dead features reconstruct the error that the others leave."""
        dictionary = self.dictionary
        response = linear(x - dictionary.bias, dictionary.encoder[dead], dictionary.threshold[dead])
        among = dictionary.codes(response, min(dictionary.width // 2 or 1, len(dead)))
        explained = dictionary.combine(Codes(among.values, dead[among.features]))
        return _AUXILIARY * (error - explained).square().mean() / error.square().mean().clamp_min(1e-12)

    def _relu(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Set the gradients, and return (codes, error)."""
        z = self.dictionary.response(x).relu()
        error = x - z @ self.dictionary.decoder - self.dictionary.bias
        # Both terms are per element, so that a penalty means the same at any width.
        loss = error.square().mean() + self.settings.penalty * z.sum(-1).mean() / self.dictionary.width
        loss.backward()
        return z.detach(), error.detach()

    def _keep_unit_gradient(self) -> None:
        """Remove the gradient along each row of the decoder, since rows keep length 1."""
        rows, gradient = self.dictionary.decoder.detach(), self.dictionary.decoder.grad
        assert gradient is not None
        gradient.addcmul_(rows, torch.linalg.vecdot(gradient, rows)[:, None], value=-1)

    def _count(self, codes: Any, examples: int) -> float:
        """Return the mean number of features per example; the idle counters are updated."""
        self.idle += examples
        if isinstance(codes, Codes):
            on = codes.values > 0
            self.idle[codes.features[on]] = 0
            return float(on.sum() / examples)
        self.idle[(codes > 0).any(0)] = 0
        return float((codes > 0).sum() / examples)

    def _resample(self, signal: torch.Tensor) -> None:
        """Set dead ReLU features to badly reconstructed examples, with a fifth of the others' encoder length."""
        dead = (self.idle > self.settings.dead_after).nonzero().ravel()
        # Near the end of the training they could not learn any more.
        if not len(dead) or self.done + 1 >= 0.8 * self.settings.blocks:
            return
        with torch.no_grad():
            dictionary = self.dictionary
            x = dictionary.scaled(signal)
            error = x - dictionary.response(x).relu() @ dictionary.decoder - dictionary.bias
            generator = torch.Generator().manual_seed(1_000_003 * (self.settings.seed + 1) - self.done - 1)
            examples = torch.multinomial(error.square().sum(-1).square() + 1e-12, len(dead), True, generator=generator)
            directions = normalize(error[examples])
            living = (self.idle <= self.settings.dead_after).nonzero().ravel()
            length = dictionary.encoder[living].norm(dim=-1).mean() if len(living) else torch.ones(())
            dictionary.decoder[dead] = directions
            dictionary.encoder[dead] = 0.2 * length * directions
            dictionary.threshold[dead] = 0.0
            for parameter in (dictionary.decoder, dictionary.encoder, dictionary.threshold):
                for name in ("exp_avg", "exp_avg_sq"):
                    self.optimizer.state[parameter][name][dead] = 0.0
        self.idle[dead] = 0

    def _set_rate(self) -> None:
        """Set the learning rate: constant at first, and linear to 0 over the last fifth of the blocks."""
        remainder = 1 - self.done / self.settings.blocks
        self.optimizer.param_groups[0]["lr"] = self.settings.rate * min(1.0, 5 * remainder)

    def save(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write everything that `resume` needs, as safetensors; `facts` say what the dictionary is trained on."""
        from safetensors.torch import save_file

        tensors = {f"dictionary.{name}": value for name, value in self.dictionary.state_dict().items()}
        for name, parameter in self.dictionary.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"adam.{name}.{key}"] = value
        header = {"settings": asdict(self.settings), "width": self.dictionary.width, "done": self.done}
        header["facts"] = dict(facts or {})
        with atomic(path) as temporary:
            save_file({**tensors, "idle": self.idle}, temporary, metadata={"training": json.dumps(header)})

    @classmethod
    def resume(cls, path: Path, settings: Settings, facts: Mapping[str, Any] | None = None) -> "Training":
        """Read the training that `save` wrote, to continue it.

        Raises
        ------
        InputError
            The file does not exist or is damaged, or the training has other settings or other data.
        """
        tensors, metadata = read_tensors(path)
        if "training" not in metadata:
            raise InputError(f"{path}: no training of observers in this file")
        header = parse_json(metadata["training"], "training")
        expected = {**asdict(settings), **(facts or {})}
        stored_settings = {**header["settings"], **header["facts"]}
        differing = sorted(
            name for name in {*expected, *stored_settings} if expected.get(name) != stored_settings.get(name)
        )
        if differing:
            raise InputError(
                f"{path}: a training that differs in {', '.join(differing)}: give another place or the same"
            )
        training = cls(header["width"], settings)
        training.done, training.idle = header["done"], tensors["idle"]
        weights = {name.removeprefix("dictionary."): value for name, value in tensors.items() if "dictionary." in name}
        training.dictionary.load_state_dict(weights)
        for name, parameter in training.dictionary.named_parameters():
            start = f"adam.{name}."
            training.optimizer.state[parameter] = {
                key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)
            }
        return training


def train(
    blocks: Blocks,
    settings: Settings,
    *,
    state: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> tuple[Dictionary, list[Progressed]]:
    """Train a dictionary on blocks 0, 1, ... of a source of signals.

    Parameters
    ----------
    blocks : callable
        Function from the number of a block to its examples (m, width).
    settings : Settings
    state : path, optional
        File that is written after every block. If it exists, the training continues from it.
    facts : mapping, optional
        Facts (JSON) that say what is learned from. A training with other facts is not continued.
    progress : callable, optional
        It is called with a line, the number of finished blocks, and the number of all blocks.

    Returns
    -------
    (dictionary, [Progressed of each block of this call])

    Raises
    ------
    InputError
        `Training` refuses a block, or `state` holds another training.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> dictionary, shown = train(lambda block: torch.randn(64, 4, generator=generator), Settings(8, 2, blocks=2))
    >>> len(shown)
    2
    """
    training: Training | None = None
    reports: list[Progressed] = []
    if state is not None and state.exists():
        training = Training.resume(state, settings, facts)
    while training is None or training.done < settings.blocks:
        signal = blocks(0 if training is None else training.done)
        training = training or Training(signal.shape[-1], settings)
        reports.append(training.learn(signal))
        if state is not None:
            training.save(state, facts)
        if progress is not None:
            text = f"explained {reports[-1].explained:.3f}, L0 {reports[-1].active:.1f}, dead {reports[-1].dead:.1%}"
            progress(text, training.done, settings.blocks)
    return training.dictionary.eval().requires_grad_(False), reports
