"""What `ctrlattn analyze` takes with all its parts: measuring, drawing, and the whole command.

    python simulations/benchmarks/analysis.py                    # one thread, made-up networks
    python simulations/benchmarks/analysis.py --against FOLDER   # beside another checkout of this repository, in turn
    python simulations/benchmarks/analysis.py --against FOLDER --lanczos 24   # which makes as many steps for its gains
    python simulations/benchmarks/analysis.py --network FILE --text FILE   # one of your own, as the command takes it
    python simulations/benchmarks/analysis.py --once             # small, one run each, for CI

Every sample is a process of its own, as a user starts it, in processor time, which other work lengthens little. The
weights are random, and the text is made of random words. With --against each row also has the time of the other
checkout and the largest difference between what the two have measured, as a share of the largest number of a variable.
Each part of the measurement has a row; what parts share is in that of the first which needs it.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from hashing import random_text, source
from machine import describe
from paired import in_threads, median_ms, parser_of, write

ASKED = "< 0.5"
PARTS = "measuring", "drawing", "command"


def worker(folder: str, lanczos: int, arguments: list[str]) -> dict[str, float]:
    """Processor seconds of one command in this process, by the package in that folder ("" for the installed one).

    `lanczos` is the number of steps for gains that takes the place of the package's own, where it is not 0.
    """
    if folder:
        sys.path.insert(0, folder)
    from ctrlattn import checkpoints
    from ctrlattn.checkpoints.measure import parts, profile
    from ctrlattn.cli import app
    from ctrlattn.report.pages.checkpoint import page

    if lanczos:
        profile.Effort = partial(profile.Effort, lanczos=lanczos)
    seconds = {}

    def timed(call, key):
        def measured(*args, **kwargs):
            start = time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                seconds[key] = time.process_time() - start

        return measured

    parts.PARTS |= {name: timed(part, f"part {name}") for name, part in parts.PARTS.items()}
    checkpoints.feedback_profile = timed(checkpoints.feedback_profile, "measuring")
    page.write_analysis = timed(page.write_analysis, "drawing")
    app(arguments, standalone_mode=False)
    return {**seconds, "command": time.process_time()}


def difference(ours: Path, theirs: Path) -> float:
    """The largest difference between the numbers of two files of results, as a share of a variable's largest.

    Errors are left out: a residual that is smaller by far is no other number.
    """
    import numpy as np

    from ctrlattn import results

    a, b = results.load(ours), results.load(theirs)
    shares = [0.0]
    for name in set(a.data_vars) & set(b.data_vars):
        x, y = a[name].to_numpy(), b[name].to_numpy()
        if x.dtype.kind in "fc" and not name.endswith("_error"):
            size = np.nanmax(np.abs(x), initial=0.0)
            shares.append(float(np.nanmax(np.abs(x - y), initial=0.0) / (size or 1.0)))
    return float(f"{max(shares):.2g}")


def rows_of(
    label: str, network: Path, text: Path, tokens: int, stage: Path, against: str, lanczos: int, samples: int
) -> list[dict[str, object]]:
    """Medians of the command on a network and of its parts; a folder of its own each time: nothing is resumed."""
    arms = (
        {"own": ("", 0)}
        | ({"other": (against, 0)} if against else {})
        | ({"even": (against, lanczos)} if lanczos else {})
    )
    samples_of: dict[str, list[dict[str, float]]] = {arm: [] for arm in arms}
    for index in range(samples):
        for arm, (folder, steps) in arms.items():
            out = stage / f"{network.name}-{index}-{arm}"
            command = ["analyze", str(network), "--text", str(text), "--tokens", str(tokens)]
            samples_of[arm].append(in_threads(__file__, 1, folder, str(steps), *command, "--out", str(out)))
    medians = {f"{key} (ms)": median_ms([sample[key] for sample in samples_of["own"]]) for key in PARTS}
    parts = [key for key in samples_of["own"][0] if key.startswith("part ")]
    part_times = {key: median_ms([sample[key] for sample in samples_of["own"]]) for key in parts}
    if not against:
        return [{"what": label, **medians}, *({"what": key, "measuring (ms)": part_times[key]} for key in parts)]
    keys = (*parts, "command", "drawing")
    theirs = {key: median_ms([sample[key] for sample in samples_of["other"]]) for key in keys}
    ends = [next((stage / f"{network.name}-0-{which}").rglob("results.nc")) for which in ("own", "other")]
    total = {
        "what": label,
        **medians,
        **against_other(medians["command (ms)"], theirs["command"]),
        "largest difference": difference(*ends),
        "asked": ASKED,
    }
    page_ms = medians["drawing (ms)"]
    return [
        total,
        *(
            {"what": key, "measuring (ms)": part_times[key], **against_other(part_times[key], theirs[key])}
            for key in parts
        ),
        {"what": "the page", "drawing (ms)": page_ms, **against_other(page_ms, theirs["drawing"])},
        *(even_rows(medians["command (ms)"], part_times["part gain"], lanczos, samples_of["even"]) if lanczos else ()),
    ]


def even_rows(command: float, gain: float, lanczos: int, theirs: list[dict[str, float]]) -> list[dict[str, object]]:
    """The command and its gains beside the other checkout with this number of Lanczos steps."""
    medians = {key: median_ms([sample[key] for sample in theirs]) for key in ("command", "part gain")}
    beside = f"beside {lanczos} Lanczos steps"
    return [
        {"what": f"all, {beside}", "command (ms)": command, **against_other(command, medians["command"])},
        {"what": f"part gain, {beside}", "measuring (ms)": gain, **against_other(gain, medians["part gain"])},
    ]


def against_other(ours: float, theirs: float) -> dict[str, object]:
    """Milliseconds of the other checkout, and ours as a share of them."""
    return {"before (ms)": theirs, "ratio": float(f"{ours / theirs:.3g}") if theirs else None}


def main() -> None:
    if "--worker" in sys.argv:
        folder, lanczos, *arguments = sys.argv[sys.argv.index("--worker") + 1 :]
        sys.stdout.write(json.dumps(worker(folder, int(lanczos), arguments)) + "\n")
        return
    parser = parser_of(__doc__)
    parser.add_argument("--against", default="", help="the root of another checkout, timed in turn with this one")
    parser.add_argument("--lanczos", type=int, default=0, help="time that checkout with so many Lanczos steps as well")
    parser.add_argument("--layers", type=int, default=30, help="of the made-up network; SmolLM2-135M has 30")
    parser.add_argument("--samples", type=int, default=1, help="runs of each checkout, of which the median counts")
    parser.add_argument("--network", type=Path, help="a folder or file of a network in place of the made-up one")
    parser.add_argument("--text", type=Path, help="a file of text for it")
    arguments = parser.parse_args()
    if arguments.lanczos and not arguments.against:
        parser.error("--lanczos tells another checkout its steps: it needs --against")
    small, rows = arguments.once, []
    with TemporaryDirectory() as folder:
        stage = Path(folder)
        random_text(stage / "text.txt", 400)
        tokens, samples = (16, 1) if small else (64, arguments.samples)
        label = "2 layers of width 32" if small else f"{arguments.layers} layers as wide as SmolLM2-135M"
        if arguments.network:
            network, label = arguments.network, arguments.network.name
        else:
            network = source(stage / "network", small, "float32", None if small else arguments.layers)
        text = arguments.text or stage / "text.txt"
        counterpart = arguments.against, arguments.lanczos
        rows += rows_of(f"{label}, {tokens} tokens", network, text, tokens, stage, *counterpart, samples)
    write(arguments.out, "analysis", describe(), rows)


if __name__ == "__main__":
    main()
