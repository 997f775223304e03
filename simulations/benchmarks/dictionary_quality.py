"""Processor time until a dictionary explains a share of held-out variance, beside sae-lens on the same examples.

    python simulations/benchmarks/dictionary_quality.py --gguf FILE   # layer 10 of SmolLM2, five seeds, one thread
    python simulations/benchmarks/dictionary_quality.py --once        # made-up signals, small, ours alone, for CI

Both see the same batches in the same order, scaled alike, from features drawn with the same seed number. Steps alone
are timed, a step of each side in turn; after each, what is explained is asked of examples that no step has seen.
sae-lens takes a step as its trainer does: its TopK class with its own auxiliary loss, Adam, and gradients clipped to
length 1. It runs as it comes, and with sparse activations, which it has without rescaling alone. Each side has three
rates; the fastest of them counts, seed by seed. Without sae-lens installed our side is timed alone.
"""

import importlib.util
import json
import math
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

from machine import describe
from paired import in_threads, parser_of, write

SHARE, ASKED, SEEDS = 0.709, 2.5, range(5)
RATES = (2e-3, 4e-3, 8e-3)  # the first is the one that `ctrlattn observe` takes
PAGES = Path(__file__).parent.parent.parent / "docs"


def signals(small: bool, gguf: str):
    """(examples to learn from, others): the stream before a layer on the project's own pages, or made-up causes."""
    import torch

    if small or not gguf:
        generator = torch.Generator().manual_seed(0)
        causes = torch.rand(600, 40, generator=generator).pow(8) @ torch.randn(40, 32, generator=generator)
        return causes[:500], causes[500:]
    from ctrlattn import checkpoints
    from ctrlattn.observers import observe

    network = checkpoints.load(Path(gguf).parent)
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(PAGES.glob("*.md")))
    ids = torch.tensor(network.tokenizer(text).input_ids)
    windows = ids[: len(ids) // 128 * 128].reshape(-1, 128)
    windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))[:97]]
    states = [observe(network, part, 10, ("state",))["state"].flatten(0, 1) for part in windows.split(16)]
    examples = torch.cat(states)
    return examples[:11_264], examples[11_264:12_264]


def race(arms, explained, batches, most: int) -> dict[str, tuple[float, int]]:
    """Processor time and steps of each arm until it explains the share, a step of each in turn; infinite if never."""
    seconds, ends = dict.fromkeys(arms, 0.0), {}
    for number in range(1, most + 1):
        batch = batches(number - 1)
        for name in arms.keys() - ends.keys():
            step, reconstruction = arms[name]
            start = time.process_time()
            step(batch)
            seconds[name] += time.process_time() - start
            if explained(reconstruction) >= SHARE:
                ends[name] = (seconds[name], number)
    return {name: ends.get(name, (float("inf"), most)) for name in arms}


def ours(examples, settings):
    """(step, reconstruction) of our training, which begins as it does with its first block."""
    from ctrlattn.observers import Training

    training = Training(examples.shape[1], settings)
    training.begin(examples)
    dictionary = training.dictionary

    def rebuilt(x):
        return dictionary.combine(dictionary.codes(dictionary.response(x))) + dictionary.bias

    return training._step, rebuilt


def theirs(width: int, settings, sparse: bool):
    """(step, reconstruction) of sae-lens, as its trainer takes a step."""
    import torch
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.saes.sae import TrainStepInput

    torch.manual_seed(settings.seed)
    sizes = {"d_in": width, "d_sae": settings.features, "k": settings.k}
    # Responses that are rescaled by the length of the decoder's rows have no backward pass where they are sparse.
    ways = {"use_sparse_activations": True, "rescale_acts_by_decoder_norm": False} if sparse else {}
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, **ways, normalize_activations="none"))
    optimizer = torch.optim.Adam(sae.parameters(), lr=settings.rate)
    idle = torch.zeros(settings.features)

    def step(x):
        sae.train()
        output = sae.training_forward_pass(TrainStepInput(x, {}, idle > 1000, 0, False))
        fired = output.feature_acts.detach().bool().float().sum(-2).bool()
        idle.add_(1)[fired.to_dense() if fired.is_sparse else fired] = 0
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step, lambda x: sae.decode(sae.encode(x))


def row(seed: int, costs: dict[tuple[str, float], tuple[float, int]]) -> dict[str, object]:
    """What a seed needed on each side, by the rate that was first."""
    facts: dict[str, object] = {"seed": seed}
    best = {}
    for side in dict.fromkeys(side for side, _ in costs):
        best[side], rate = min((costs[arm], arm[1]) for arm in costs if arm[0] == side)
        seconds, steps = best[side]
        facts |= {f"{side} (s)": _rounded(seconds), f"steps, {side}": steps, f"rate, {side}": rate}
    for side in list(best)[1:]:
        facts[f"ratio to {side}"] = _rounded(best[side][0] / best["ours"][0])
    facts |= {"asked": ASKED} if len(best) > 1 else {}
    return facts


def _rounded(number: float) -> float | str:
    return float(f"{number:.3g}") if math.isfinite(number) else "not reached"


def worker(small: bool, gguf: str) -> list[dict[str, object]]:
    """A row for each seed."""
    import torch

    from ctrlattn.observers import Dictionary, Settings

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    examples, held_out = signals(small, gguf)
    width = examples.shape[1]
    batch, features, k, most = (50, 64, 8, 100) if small else (512, 4608, 32, 400)
    standard = Dictionary(width, features, k=k)
    standard.measure(examples)
    examples, held_out = standard.scaled(examples), standard.scaled(held_out)
    variance = (held_out - held_out.mean(0)).square().sum()

    def explained(reconstruction) -> float:
        with torch.no_grad():
            return 1 - float((held_out - reconstruction(held_out)).square().sum() / variance)

    rows = []
    for seed in SEEDS[: 1 if small else None]:
        generator = torch.Generator().manual_seed(seed)
        passes = -(-most * batch // len(examples))
        order = torch.cat([torch.randperm(len(examples), generator=generator) for _ in range(passes)])
        arms = {}
        for rate in RATES:
            settings = Settings(features=features, k=k, blocks=1, batch=batch, seed=seed, rate=rate)
            arms["ours", rate] = ours(examples, settings)
            if not small and importlib.util.find_spec("sae_lens"):
                arms["sae-lens", rate] = theirs(width, settings, sparse=False)
                arms["sae-lens, sparse", rate] = theirs(width, settings, sparse=True)
        costs = race(arms, explained, lambda i, order=order: examples[order[i * batch : (i + 1) * batch]], most)
        rows.append(row(seed, costs))
        print(costs, file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """The rows from one process of one thread, and the version of sae-lens beside the machine's."""
    parser = parser_of(__doc__)
    parser.add_argument("--gguf", default="", help="SmolLM2-135M, whose signals are learned")
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.once, arguments.gguf)))
        return
    if not (arguments.once or arguments.gguf):
        parser.error("name the file of SmolLM2 with --gguf, or ask for --once")
    extra = [*(["--once"] if arguments.once else []), "--gguf", arguments.gguf]
    machine = describe()
    if importlib.util.find_spec("sae_lens"):
        machine["sae-lens"] = version("sae-lens")
    write(arguments.out, Path(__file__).stem, machine, in_threads(__file__, 1, *extra))


if __name__ == "__main__":
    main()
