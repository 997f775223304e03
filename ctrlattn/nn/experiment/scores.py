"""accuracy = right answers / all answers, clean and under noise, FGSM and PGD; loss and perplexity of text: scores."""

import torch
from torch.nn.functional import cross_entropy

from ctrlattn.nn.experiment.attacks import fgsm, noisy, pgd
from ctrlattn.nn.experiment.data import Data, Examples
from ctrlattn.nn.modules.network import Network
from ctrlattn.perplexity import perplexity_of

NOISES, STRENGTHS = (0.1, 0.2, 0.3, 0.4), (1, 4, 8, 16, 32)  # deviation in pixels of [0, 1]; eps in 1/255
PGD_STRENGTHS, PGD_STEPS = (4, 8, 16), 10
AT_ONCE = 512  # inputs per evaluation


def placed(inputs: torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """Put inputs on the device of the network; images also in the dtype of its weights, characters as they are.

    >>> network = torch.nn.Linear(1, 1).double()
    >>> placed(torch.zeros(1), network).dtype, placed(torch.tensor([1]), network).dtype
    (torch.float64, torch.int64)
    """
    weight = next(model.parameters())
    return inputs.to(weight.device, weight.dtype if inputs.is_floating_point() else inputs.dtype)


def loss_of(model: torch.nn.Module, data: Data, part: Examples) -> torch.Tensor:
    """Return the mean cross-entropy of a part in nats, on the device of the network and in its dtype."""
    inputs = placed(part.inputs, model)
    targets = part.targets.to(inputs.device)
    return cross_entropy(model(data.prepare(inputs)).flatten(0, -2), targets.flatten())


@torch.no_grad()
def mean_loss(model: Network, data: Data, part: Examples) -> float:
    """Return the mean cross-entropy of a part in nats, in evaluation mode and AT_ONCE inputs at a time."""
    was_training = model.training
    model.eval()
    parts = [(loss_of(model, data, some).item(), len(some.targets)) for some in part.batches(AT_ONCE)]
    model.train(was_training)
    return parts[0][0] if len(parts) == 1 else sum(loss * n for loss, n in parts) / sum(n for _, n in parts)


def score(model: Network, data: Data, seed: int = 0) -> dict[str, float]:
    """Return every score on the test part: accuracies on clean and perturbed images, or loss and perplexity of text.

    The names are clean, noise_<deviation>, fgsm_<eps in 1/255>, pgd_<eps in 1/255>, loss and perplexity. The noise is
    the same for every network of a seed and a dtype.
    """
    model.eval()
    loss = mean_loss(model, data, data.test)
    if data.is_text:
        return {"loss": loss, "perplexity": perplexity_of(loss)}
    generator = torch.Generator().manual_seed(seed)
    hits_by_name: dict[str, int] = {}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for some in data.test.batches(AT_ONCE):
        for name, hits in _count_right(model, data, some, generator).items():
            hits_by_name[name] = hits_by_name.get(name, 0) + hits
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    return {"loss": loss, **{name: hits / len(data.test.targets) for name, hits in hits_by_name.items()}}


def _count_right(model: Network, data: Data, part: Examples, generator: torch.Generator) -> dict[str, int]:
    """Count the correctly classified images of a part, clean and under each perturbation."""
    x = placed(part.inputs, model)
    y = part.targets.to(x.device)

    def classify(images: torch.Tensor) -> torch.Tensor:
        return model(data.prepare(images))

    def hits(images: torch.Tensor) -> int:
        with torch.no_grad():
            return int((classify(images).argmax(-1) == y).sum())

    counts = {"clean": hits(x)}
    counts |= {f"noise_{s:g}": hits(noisy(x, s, generator)) for s in NOISES}
    counts |= {f"fgsm_{s:g}": hits(fgsm(classify, x, y, s / 255)) for s in STRENGTHS}
    for strength in PGD_STRENGTHS:
        attacked = pgd(classify, x, y, strength / 255, steps=PGD_STEPS, generator=generator)
        counts[f"pgd_{strength:g}"] = hits(attacked)
    return counts
