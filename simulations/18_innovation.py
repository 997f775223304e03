"""x = p + v, F ~ g_p p + g_v v: does attention add what earlier tokens predict of the state, or take it away?

Question: does attention of a trained network add what earlier tokens predict of the state, or take it away? If it is
a negative-feedback predictor, it takes away from a token what the tokens before it predict. The state that a layer
reads (over its RMS) is predicted by ridge from the token before and from the mean of those before, fitted on other
documents: p. The rest is the innovation v. Gains of the contribution along both are least squares in each document. A
layer adds where the gain along p is above 0 and above that along v; it subtracts where it is below both.

How it is judged.
Plan: simulations/configs/innovation.json was committed before any network was run, and all of it was done. A layer is
called where raw states, centred states and g_p itself agree. The next layer's error is not in it: it was asked when the
runs were there.
Control: permuted tokens, states and contributions without their mean, and the best linear map of the token alone.
Positive control: automata, -s times the mean of earlier tokens, are laid over the contribution of an unrelated token,
and stand in the place of all attention of SmolLM2.
Power: on centred states of SmolLM2 one of gain .1 is seen in 26 layers of 30, one of .03 in 12, and one of 0 in none;
what a larger addition covers would be called an addition. The unit is a document of 128 tokens (Lee background
corpus), of which there are 64, in four folds. Intervals hold at 95 % for all layers together (max-t bootstrap over
documents); g_p - g_v is known to ±.018 in the layer where it is known least.

What it shows, --full. In SmolLM2 the predictable part is added in 24 of 30 layers and subtracted in layer 0 alone;
five are undecided. In MiniLM it is added in all 6. The claim, that it is subtracted, is refuted in those layers. In
Gemma-3 it is added in 3 layers of 18 and subtracted in layer 0; 14 are undecided, most of them since raw and centred
states disagree. There an automaton of gain .1 is seen in 7 layers on centred states, so that little can be called.

Whole networks of automata bound what the rule can say. With gain .1 or .3 in the place of all attention of SmolLM2 the
difference lies below 0 in all 30 layers on raw states, and above 0 in 25 and 26 of them on centred ones, where earlier
tokens predict next to nothing. The rule asks for both and calls 29 layers undecided and none added: no such network is
taken for one that adds, and most of its layers are missed. Raw states tell SmolLM2 from it (25 layers above 0). The
next layer's error tells it too: what earlier tokens leave of a state is less after 20 layers of SmolLM2 and more after
7 (permuted tokens: 16 and 4), with automata less after 3 and 4 and more after 9. A step holds the MLP as well.

Two controls limit the reading. The best linear map of the token alone, in the place of the contribution, subtracts in
layer 0 as much (what is left for other tokens is +.006 [-.002, .013]) and adds in the layers that add, about two thirds
as much on centred states and nearly all of it on raw ones (medians). Beyond that map attention adds in 26 layers and
subtracts in layer 1. On permuted tokens the predictable part is added too: on text it is less in 17 layers of 30 and
more in 8. That it is added owes little to the order of the text.

What it does not show. A linear prediction from two vectors is not the best one: what a nonlinear predictor would find
is part of v. "Added" is a sign along one direction and no purpose. On raw states the mean of all tokens is part of p,
and a planted gain of .01 is seen in 29 of 30 layers; centred states leave it out and need .1. MiniLM reads later
tokens too, and p knows earlier ones alone. Documents of one fold share a fit, which the bootstrap over documents does
not see. Gemma-3 and the whole networks of automata were run a day after the others, by the same plan; Gemma-3 is a
file of 4 bits a weight. On its raw states an automaton of gain 0 is called in one layer of 18.

    python simulations/18_innovation.py [--full --text FILE [--smollm2 FILE] --gemma3 FILE] --out DIR
"""

from pathlib import Path

from stage.feedback_sign import documents, missing_packages, sources_of, spans
from stage.innovation import CONDITIONS, Size, error_words, judged, measured, per_layer, planting, records_of, summary
from stage.innovation_picture import draw
from stage.plan_file import read_size
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
            *(error_words(name, entries, condition) for condition in CONDITIONS if f"error, {condition}" in entries),
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


def main(out, seed=0, full=False, text=None, smollm2=None, gemma3=None, planted=(), only=NETWORKS):
    """Measure what is missing, draw, write innovation.json and .png under `out`; returns the numbers."""
    size, plan = read_size("innovation", Size, full)
    folder = output_directory(Path(out) / "innovation_runs")
    texts, networks = documents(text, size.documents), {}
    loads = {name: load for name, load in sources_of(full, smollm2, gemma3).items() if name in (only or NETWORKS)}
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
    parser.add_argument("--only", action="append", choices=NETWORKS, help="a network (repeatable); default: all")
    return parser


if __name__ == "__main__":
    full = "MiniLM, SmolLM2-135M and Gemma-3-270M, 64 documents of 128 tokens; about an hour on one busy core"
    command(main, __doc__, full=full, more=options, missing=missing_packages())
