"""results -> question, plan, control and power of docs/dropping.md and docs/training.md, as Markdown lines.

Half of a 95 % interval says how small an effect would have been seen. Each is computed from the stored interval.
"""

from textwrap import fill

from stage.page_file import read_json
from stage.training_other import OTHER
from stage.training_pid_arms import RESULTS as ARMS

TITLE = "## Question, plan, control and power"
SCORES = ("clean", "noise_0.3", "fgsm_16", "pgd_8")

DROPPING = """
**Question:** what does it cost to take attention, MLPs or whole blocks out of a trained network, and how much of that
does a gain in their place win back, in which layers and on which text?

- **Plan:** no plan was committed for curves, gains and ablations. Gains are fitted on calibration text, layers are
chosen on selection text, and each configuration is tested once. The penalty of gains with memory and their salience
were decided with ten windows of plays in sight that are not those of the tables. The random sets of layers and the
signals have a plan, simulations/configs/drop_control.json.

- **Control:** the same gains in layers that were not chosen, the chosen layers bare, text of another kind, and sets of
layers that are drawn at random. Positive control: gains that were fitted half to plays win most back on plays, so that
a gain can be seen there. For the signals it is the cost of a layer alone, which foretells that of a set.

- **Power:** the unit is a document; {news} windows of news have none in common, and {plays} windows of plays lie in
{works} plays. The cost of eight layers is known to {bare} bare and {gains} with gains on news, to {bare_plays} and
{gains_plays} on plays; that of 15 layers with gains to {many} and {many_plays}. The eight by cosine beside random ones
are known to {cosine} over {few} documents, and a correlation over {layers} layers to ±{widest:.2f} where it is known
least.
"""

TRAINING = """
**Question:** does PID over depth make a vision transformer more accurate and more robust than softmax attention alone,
and its tokens less alike, and is PID more than P?

- **Plan:** simulations/configs/train_digits.toml was committed before any of its seeds was run, and so were
train_mnist5k.toml and train_text.toml. The rates of train_pid_over_p.toml were searched on other seeds before any of
its own. No plan asked for the comparison with NeuTRENO, for that with the mean of the softmax runs, for the arm tuned,
or for the trials of learned control and of deep networks.

- **Control:** softmax-again and comparator differ from softmax by chance alone; each arm has a rate of its own in the
second comparison. Nothing was planted that is known to raise accuracy. That a difference of such a size can be seen is
shown by NeuTRENO, whose clean accuracy is {neutreno} above that of softmax.

- **Power:** the unit is a seed, paired with the baseline. Over {seeds} seeds the printed law less softmax is known to
{printed} in {scores}; over {more} seeds PID less P is known to {beside}. With {text} seeds of text the perplexity of
the two laws is known to {perplexity}, and with {images} of MNIST their clean accuracy to {mnist}. Where an effect is
published, the power for it stands beside the claim that is not shown.
"""


def half(row):
    """Half of an interval in words."""
    return f"±{(row['high'] - row['low']) / 2:.3f}"


def section(words):
    """Lines of the section: the question, and a list."""
    question, *items = (fill(" ".join(part.split()), 118, subsequent_indent="  ") for part in words.split("\n\n"))
    return [TITLE, "", question.replace("\n  ", "\n"), "", *items, ""]


def of_dropping(numbers, control):
    """That of the page on dropped sublayers."""
    curves, windows = numbers["curves"], numbers["documents"]["windows"]
    bare, gains, many = (curves[name][k] for name, k in (
        ("attention, by cosine", "8"), ("chosen + gain", "8"), ("chosen + gain", "15"),
    ))  # fmt: skip
    correlations = [row["alone"] for row in control["foretold"].values()]
    return section(
        DROPPING.format(
            news=len(windows["test"]), plays=len(windows["plays"]), works=len(set(windows["plays"])),
            bare=half(bare["test"]), gains=half(gains["test"]), many=half(many["test"]),
            bare_plays=half(bare["plays"]), gains_plays=half(gains["plays"]), many_plays=half(many["plays"]),
            cosine=half(control["sets"]["by cosine"]), few=control["settings"]["documents"],
            layers=len(control["alone"]), widest=max((row["high"] - row["low"]) / 2 for row in correlations),
        )
    )  # fmt: skip


def of_training(result):
    """That of the page on the trained comparison."""
    arms, text, mnist = read_json(ARMS), read_json(OTHER["text"]), read_json(OTHER["mnist5k"])

    def printed(tests, score):
        return next(half(test) for test in tests if (test["arm"], test["score"]) == ("pidformer-printed", score))

    row = result["differences"]["neutreno"]["clean"]
    return section(
        TRAINING.format(
            neutreno="{mean:.3f} [{low:.3f}, {high:.3f}]".format(**row), scores=", ".join(SCORES),
            seeds=len(result["plan"]["seeds"]), more=len(arms["plan"]["seeds"]),
            text=len(text["plan"]["seeds"]), images=len(mnist["plan"]["seeds"]),
            printed=", ".join(printed(result["tests"], score) for score in SCORES),
            beside=", ".join(printed(arms["tests"], score) for score in SCORES),
            perplexity=" and ".join(half(test) for test in text["tests"] if test["score"] == "perplexity"),
            mnist=" and ".join(half(mnist["differences"][f"pidformer-{law}"]["clean"]) for law in ("printed", "ema")),
        )
    )  # fmt: skip
