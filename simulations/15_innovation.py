"""x = p + v, F ~ g_p p + g_v v: does attention add what earlier tokens predict of the state, or take it away?

PLACEHOLDER

    python simulations/15_innovation.py [--full --text FILE [--smollm2 FILE] --gemma3 FILE] --out DIR
"""

from pathlib import Path

from stage.feedback_sign import documents, missing_packages, sources_of, spans
from stage.innovation import CONDITIONS, judged, measured, per_layer, planned, planting, records_of, summary
from stage.innovation_picture import draw
from stage.running import command, save

from ctrlattn.files import output_directory

NETWORKS = ("MiniLM-L6", "SmolLM2-135M", "Gemma-3-270M")
POWER = "SmolLM2-135M"  # the network whose attention the automaton replaces


def verdict(networks):
    """The scene in words, from its numbers."""
    lines = []
    for name, network in networks.items():
        j, entries = network["judgement"], network["intervals"]
        shares = network["share of the variance"]
        lines += [
            f"{name}: attention adds the predictable part in layers {spans(j['adds'])} of {j['layers']}, subtracts it "
            f"in {spans(j['subtracts'])}, undecided in {spans(j['undecided'])}",
            f"{name}: of those that subtract, more so on text than on permuted tokens: {spans(j['by order'])}; the map "
            f"of the token alone subtracts as well in {spans(j['token alone subtracts'])}",
            f"{name}: beyond the map of the token alone it adds in {spans(j['adds beyond the token'])} and subtracts "
            f"in {spans(j['subtracts beyond the token'])}",
            f"{name}: against permuted tokens the predictable part is added more in {spans(j['more on text'])}, less "
            f"in {spans(j['less on text'])}",
            f"{name}: earlier tokens predict {min(shares):.3f} to {max(shares):.3f} of a layer's variance",
        ]
        for state in ("raw", "centred"):
            row = entries[f"difference, text, {state}"]
            least, most = (pick(range(j["layers"]), key=row["mean"].__getitem__) for pick in (min, max))
            lines.append(
                f"{name}, {state}: g_p - g_v lowest in layer {least}, {cell(row, least)}, highest in layer {most}, "
                f"{cell(row, most)}"
            )
            powers = "; ".join(f"{s}: {len(at)}" for s, at in j["power"][state].items())
            if powers:
                lines.append(f"{name}, {state}: layers of {j['layers']} where a planted automaton is seen: {powers}")
    return lines


def cell(row, layer):
    return f"{row['mean'][layer]:+.3f} [{row['low'][layer]:+.3f}, {row['high'][layer]:+.3f}]"


def main(out, seed=0, full=False, text=None, smollm2=None, gemma3=None, planted=()):
    """Measure what is missing, draw, write innovation.json and .png under `out`; returns the numbers."""
    size, plan = planned(full)
    folder = output_directory(Path(out) / "innovation_runs")
    texts, networks = documents(text, size.documents), {}
    loads = {name: load for name, load in sources_of(full, smollm2, gemma3).items() if name in NETWORKS}
    for name, load in loads.items():
        values = {}
        for condition in CONDITIONS:
            files = records_of(folder, name, condition, load, texts, size)
            values[condition] = measured(folder, name, condition, files, size)
        networks[name] = summary(values)
    for strength in planted:
        condition = f"planted {strength:g}"
        files = records_of(folder, POWER, condition, loads[POWER], texts, size, planting(strength))
        networks[f"{POWER}, {condition} in attention's place"] = summary(
            {"text": measured(folder, POWER, condition, files, size)}
        )
    for network in networks.values():
        network["judgement"] = judged(network["intervals"])
    numbers = {
        "text": "King James Bible" if text is None else Path(text).name,
        "size": size._asdict(),
        "networks": networks,
        "layers": {name: per_layer(network) for name, network in networks.items()},
        "verdict": verdict(networks),
    }
    return save(out, "innovation", numbers, draw(networks), plan=plan)


def options(parser):
    parser.add_argument("--text", help="file with one document a line, in place of the Bible")
    parser.add_argument("--smollm2", help="directory or .gguf file of SmolLM2-135M")
    parser.add_argument("--gemma3", help="directory or .gguf file of Gemma-3-270M")
    parser.add_argument("--planted", type=float, action="append", default=[], help="automaton in attention's place")
    return parser


if __name__ == "__main__":
    full = "MiniLM, SmolLM2-135M and Gemma-3-270M, 64 documents of 128 tokens; about an hour on one busy core"
    command(main, __doc__, full=full, more=options, missing=missing_packages())
