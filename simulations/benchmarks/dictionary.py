"""What a training step of a dictionary costs, beside the same step by automatic differentiation of everything.

    python simulations/benchmarks/dictionary.py            # width and features as of SmolLM2-135M
    python simulations/benchmarks/dictionary.py --once     # small, one run each, for CI

Both steps are called in turn in one process, on the same made-up examples and from the same start. The other is the
step as it is written down: the loss, its gradient by torch, Adam. The difference is that of the explained shares.
"""

import os
import time

from paired import alternate, command, median_ms


def written_down(training):
    """A step of the same training in which torch differentiates the dense response."""
    import torch
    from torch.nn.functional import normalize

    dictionary = training.dictionary

    def step(x):
        for parameter in dictionary.parameters():
            parameter.grad = None
        codes = dictionary.codes(dictionary.response(x))
        residual = x - dictionary.combine(codes) - dictionary.bias
        loss = residual.square().mean()
        loss.backward()
        rows = dictionary.decoder.detach()
        dictionary.decoder.grad -= (dictionary.decoder.grad * rows).sum(-1, keepdim=True) * rows
        training.optimizer.step()
        with torch.no_grad():
            dictionary.decoder.copy_(normalize(dictionary.decoder))
            training._count(codes, len(x))
            return float(loss / (x - x.mean(0)).square().mean())

    return step


def worker(small: bool) -> list[dict[str, object]]:
    import torch

    from ctrlattn.observers import Settings, Training

    width, features, k, examples, times = (32, 64, 4, 64, 1) if small else (576, 4608, 32, 512, 25)
    generator = torch.Generator().manual_seed(0)
    causes = torch.rand(examples, 200, generator=generator).pow(8) @ torch.randn(200, width, generator=generator)
    ours, reference = (Training(width, Settings(features=features, k=k, blocks=1)) for _ in range(2))
    for training in (ours, reference):
        training.dictionary.measure(causes)
    x, step = ours.dictionary.scaled(causes), written_down(reference)
    explained: tuple[list[float], list[float]] = ([], [])
    new, old = alternate(
        lambda: explained[0].append(ours._step(x)[0]),
        lambda: explained[1].append(step(x)),
        times,
        clock=time.thread_time,
    )
    a, b = median_ms(new), median_ms(old)
    apart = max(abs(p - q) for p, q in zip(*explained, strict=True))
    label = f"{examples} examples of width {width}, {features} features, k = {k}"
    row = {"what": label, "step (ms)": a, "differentiated (ms)": b, "ratio": float(f"{b / a:.3g}")}
    return [{"threads": int(os.environ["OMP_NUM_THREADS"]), **row, "asked": 1.8, "difference": f"{apart:.0e}"}]


if __name__ == "__main__":
    # The processor time of one thread, whatever else the machine does.
    command(__file__, __doc__, worker)
