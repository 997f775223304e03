"""x <- norm(x + g read(x, memory or context)): who is the pronoun? With either sign g.

This module measures for the scene `05_pronoun.py` in how many random draws the probe names the right candidate of both
sentences, on draws that did not choose the loop.
"""

from collections import namedtuple
from dataclasses import replace
from itertools import chain, product

import numpy as np

from ctrlattn import simulate, unit_norm
from ctrlattn.memory import parse_relations, read_layer, relation_memory
from stage.statistics import wilson

SMALL, FULL = (10, 3), (400, 50)  # draws of a share, and of one that has no interval

SELECTION, TEST = 0, 1  # second word of the random seed: draws that choose never test

# What the search chooses, everything else is as claimed; sign: of all reads, or of (association, context, MLP).
Configuration = namedtuple(
    "Configuration", "sign normalized mlp combine memory_temperature sink context_temperature readout"
)

SPACE = (("mean", "sum"), (0.03, 0.1, 0.3), (None, 0.3, 0.5), (0.1, 0.2, 0.4, 0.8, 1.6, 3.2))

READOUTS = ("state", "association", "context", "prediction")  # of the probe: after two layers, or inside the third

# Outcome of `python simulations/05_pronoun.py --search --out DIR`: for each sign and structure the best of SPACE x
# READOUTS by solved draws, then strict ones, then margin; seed 0, 60 selection draws at d = 128.
CHOSEN = (
    Configuration(-1.0, True, True, "mean", 0.03, 0.3, 0.2, "state"),
    Configuration(-1.0, True, False, "mean", 0.03, 0.3, 0.2, "state"),
    Configuration(-1.0, False, True, "mean", 0.1, 0.5, 1.6, "state"),
    Configuration(-1.0, False, False, "mean", 0.1, 0.5, 3.2, "context"),
    Configuration(1.0, True, True, "mean", 0.03, 0.3, 1.6, "prediction"),
    Configuration(1.0, True, False, "mean", 0.03, None, 1.6, "association"),
    Configuration(1.0, False, True, "mean", 0.1, 0.5, 3.2, "state"),
    Configuration(1.0, False, False, "mean", 0.03, 0.5, 0.4, "association"),
)

# The minus is shown with the norm and the MLP read of the claim, though not its best; the plus is its best.
MINUS, PLUS = CHOSEN[0], CHOSEN[4]

# Outcome of `--search` for each pattern of signs (association, context, MLP), with norm and MLP read as claimed. All
# have the same SPACE x READOUTS, the same selection draws and the same order of merit.
BY_SIGNS = (
    Configuration((-1.0, -1.0, -1.0), True, True, "mean", 0.03, 0.3, 0.2, "state"),
    Configuration((-1.0, -1.0, 1.0), True, True, "mean", 0.03, 0.5, 0.2, "state"),
    Configuration((-1.0, 1.0, -1.0), True, True, "mean", 0.03, 0.3, 0.1, "context"),
    Configuration((-1.0, 1.0, 1.0), True, True, "mean", 0.03, None, 0.8, "association"),
    Configuration((1.0, -1.0, -1.0), True, True, "sum", 0.3, 0.5, 3.2, "prediction"),
    Configuration((1.0, -1.0, 1.0), True, True, "mean", 0.03, 0.3, 3.2, "prediction"),
    Configuration((1.0, 1.0, -1.0), True, True, "sum", 0.03, 0.5, 0.1, "state"),
    Configuration((1.0, 1.0, 1.0), True, True, "mean", 0.03, 0.3, 1.6, "prediction"),
)

# Two sentences that differ in the word at "_", which decides between two candidates, each with the probe appended.
Pair = namedtuple("Pair", "name pronoun candidates sentences words relations")


def read_pair(line):
    """sentence | pronoun | word = candidate; word = candidate | further relations."""
    name, pronoun, decides, links = (part.strip() for part in line.split("|"))
    candidates = [candidate_words[0] for candidate_words in parse_relations(decides).values()]
    sentences = [[*name.replace("_", word).split(), pronoun] for word in parse_relations(decides)]
    relations = parse_relations(f"{pronoun} = {' + '.join(candidates)}; {decides}; {links}")
    words = dict.fromkeys([*sentences[0], *sentences[1], *relations, *chain(*relations.values())])
    return Pair(name, pronoun, candidates, sentences, list(words), relations)


# The claimed numbers, in the order of FIRST_PAIR.words, and their two attention rows for the second sentence.
CLAIMED_LOGITS = ((0.42, -0.1, 1.74, 0.1, 0.01, -0.03, 0.98, -0.13), (1.88, -0.1, 0.06, -0.07, 0.05, 0.75, 0.11, 0.17))

CLAIMED_ATTENTION = {"layer 2, word": (0.75, 0, 0, 0, 0, 0.25, 0, 0), "layer 3, probe": (0, 0, 0, 0, 0, 0.61, 0.39, 0)}

TASTY, EATS = "ВКУСНАЯ = КАШУ; ГОЛОДНАЯ = МАША", "МАША = ЕСТ; ЕСТ = КАШУ; ПОТОМУ = ЧТО"

FIRST = "МАША ЕСТ КАШУ"  # the group of the first pair
FIRST_PAIR = read_pair(f"МАША ЕСТ КАШУ ПОТОМУ ЧТО ОНА _ | ОНА | {TASTY} | {EATS}")

UNSEEN = """\
КОШКА ЛОВИТ МЫШЬ НО ОНА _ | ОНА | МАЛЕНЬКАЯ = МЫШЬ; СЫТАЯ = КОШКА | КОШКА = ЛОВИТ; ЛОВИТ = МЫШЬ
КНИГУ КУПИЛА ОЛЯ ПОТОМУ ЧТО ОНА _ | ОНА | ДЕШЁВАЯ = КНИГУ; БОГАТАЯ = ОЛЯ | ОЛЯ = КУПИЛА; КУПИЛА = КНИГУ; ПОТОМУ = ЧТО
ЧЕМОДАН НЕ ВМЕСТИЛ ТРОФЕЙ ИБО ОН СЛИШКОМ _ | ОН | МАЛ = ЧЕМОДАН; ВЕЛИК = ТРОФЕЙ | ЧЕМОДАН = ВМЕСТИЛ; ВМЕСТИЛ = ТРОФЕЙ
ВЧЕРА ДОКТОР ОСМОТРЕЛ СЫНА В БОЛЬНИЦЕ ИБО ОН _ | ОН | БОЛЕН = СЫНА; ОПЫТЕН = ДОКТОР | ДОКТОР = ОСМОТРЕЛ; ОСМОТРЕЛ = СЫНА
АННА ПОЁТ ПЕСНЮ И _ ОНА | ОНА | ДЛИННАЯ = ПЕСНЮ; УСТАЛА = АННА | АННА = ПОЁТ; ПОЁТ = ПЕСНЮ
DOG CHASED CAT BECAUSE IT WAS _ | IT | FAST = CAT; HUNGRY = DOG | DOG = CHASED; CHASED = CAT
TROPHY DOES NOT FIT IN SUITCASE BECAUSE IT IS TOO _ | IT | SMALL = SUITCASE; BIG = TROPHY | TROPHY = FIT; FIT = SUITCASE
COUNCIL DENIED MOB PERMIT BECAUSE THEY _ RIOTS | THEY | PLANNED = MOB; FEARED = COUNCIL | COUNCIL = DENIED; DENIED = MOB
JOAN THANKED SUSAN FOR HELP SHE HAD _ | SHE | GIVEN = SUSAN; RECEIVED = JOAN | JOAN = THANKED; THANKED = SUSAN
BALL BROKE TABLE BECAUSE IT WAS MADE OF _ | IT | GLASS = TABLE; STEEL = BALL | BALL = BROKE; BROKE = TABLE
YESTERDAY TRUCK PASSED BUS ON ROAD BECAUSE IT WENT SO _ | IT | SLOW = BUS; FAST = TRUCK | TRUCK = PASSED; PASSED = BUS
"""

ORDERS = """ОНА _; МАША ЕСТ КАШУ ПОТОМУ ЧТО _; МАША ЕСТ КАШУ ПОТОМУ ЧТО _ ОНА; ПОТОМУ ЧТО ОНА _ МАША ЕСТ КАШУ;
_ МАША ЕСТ КАШУ ПОТОМУ ЧТО ОНА; _ ПОТОМУ ЧТО МАША ЕСТ КАШУ; КАШУ _ ПОТОМУ ЧТО ОНА ЕСТ МАША;
_ ОНА ПОТОМУ ЧТО МАША ЕСТ КАШУ"""

GROUPS = {
    "unseen": [read_pair(line) for line in UNSEEN.splitlines()],
    "order": [read_pair(f"{line} | ОНА | {TASTY} | {EATS}") for line in ORDERS.split(";")],
    "no verb": [read_pair(f"{line} | ОНА | {TASTY} | ПОТОМУ = ЧТО") for line in ORDERS.split(";")],
    "no deciding relation": [FIRST_PAIR._replace(relations=parse_relations(f"ОНА = МАША + КАШУ; {EATS}"))],
}


def run(pair, configuration, d, rng):
    """One draw: the probe's logits (readouts, 2 sentences, words), the trajectory and the loops of one layer."""
    vectors = unit_norm(rng.standard_normal((len(pair.words), d)))
    words = dict(zip(pair.words, vectors, strict=True))
    options = {
        "temperature": configuration.memory_temperature,
        "sink": configuration.sink,
        "combine": configuration.combine,
    }
    memory = relation_memory(pair.relations, words, **options)
    normalizer = unit_norm if configuration.normalized else None
    reads = read_layer(memory, context_temperature=configuration.context_temperature, normalizer=normalizer)
    signs = configuration.sign if isinstance(configuration.sign, tuple) else (configuration.sign,) * 3
    layer = [replace(loop, feedback=g) for loop, g in zip(reads, signs, strict=True)][: 3 if configuration.mlp else 2]
    x = np.stack([[words[word] for word in sentence] for sentence in pair.sentences])
    loops = [*layer, *layer, *layer[:2]]
    trajectory = simulate(loops, x, len(loops))
    signals = [*trajectory.state[-3:], trajectory.prediction[-1]]
    return np.stack([signal[:, -1] @ vectors.T for signal in signals]), trajectory, layer


def sample(pair, configuration, draws, d, seed):
    """Logits of the probe, (readouts, draws, 2 sentences, words)."""
    rng = np.random.default_rng(seed)
    return np.stack([run(pair, configuration, d, rng)[0] for _ in range(draws)], 1)


def judge(pair, scores):
    """(..., 2, words) -> solved, strict, margin of each draw; the margin in standard deviations of the logits."""
    answers = [pair.words.index(candidate) for candidate in pair.candidates]
    margin = scores[..., [0, 1], answers] - scores[..., [0, 1], answers[::-1]]
    candidates_only = np.where(np.array(pair.words) == pair.pronoun, -np.inf, scores)
    strict = np.all(np.argmax(candidates_only, -1) == answers, -1)
    return np.all(margin > 0, -1), strict, np.min(margin / np.std(scores, -1), -1)


def success(pair, configuration, *, draws, seed, d=128):
    """Share of solved test draws with its Wilson interval (95 %), and the share of strictly solved ones."""
    scores = sample(pair, configuration, draws, d, (seed, TEST))[READOUTS.index(configuration.readout)]
    solved_share, strict, _ = (verdicts.mean() for verdicts in judge(pair, scores))
    shares = wilson(round(solved_share * draws), draws)
    return {"solved": shares.pop("share"), **shares, "strict": strict}


def search(sign, normalized, mlp, *, seed, draws=60, d=128):
    """The best of SPACE x READOUTS on the selection draws, after its shares solved and strict and its margin."""
    table = []
    for values in product(*SPACE):
        configuration = Configuration(sign, normalized, mlp, *values, READOUTS[0])
        score = np.mean(
            judge(FIRST_PAIR, sample(FIRST_PAIR, configuration, draws, d, (seed, SELECTION))), -1
        ).T.tolist()
        table += [(*row, configuration._replace(readout=readout)) for row, readout in zip(score, READOUTS, strict=True)]
    return max(table, key=lambda row: row[:3])


def by_readout(configuration, *, draws, seed, d=128):
    """readout -> shares of test draws that it solves, and that it solves with all its logits negated."""
    scores = sample(FIRST_PAIR, configuration, draws, d, (seed, TEST))
    shares = {}
    for name, logits in zip(READOUTS, scores, strict=True):
        negated = judge(FIRST_PAIR, -logits)[0].mean()
        shares[name] = {"solved": judge(FIRST_PAIR, logits)[0].mean(), "negated": negated}
    return shares


def by_signs(options, few, sizes):
    """Pattern of signs -> its best configuration on draws that did not choose it, and what each readout holds.

    The configurations were chosen at d = 128; "dimensions" says what they solve at each of the `sizes`.
    """
    table = {}
    for configuration in BY_SIGNS:
        unseen = [success(pair, configuration, **few) for pair in GROUPS["unseen"]]
        table[words_of(configuration.sign)] = {
            **success(FIRST_PAIR, configuration, **options),
            "readout": configuration.readout,
            "unseen": np.mean([r["solved"] for r in unseen]),
            "unseen strict": np.mean([r["strict"] for r in unseen]),
            "untuned": success(FIRST_PAIR, MINUS._replace(sign=configuration.sign), **options)["solved"],
            "readouts": by_readout(configuration, **options),
            "dimensions": {f"d = {d}": at_dimension(configuration, options, few, d) for d in sizes},
        }
    return table


def at_dimension(configuration, options, few, d):
    """What a configuration solves of the first pair, and of the unseen ones on average."""
    unseen = np.mean([success(pair, configuration, d=d, **few)["solved"] for pair in GROUPS["unseen"]])
    return {**success(FIRST_PAIR, configuration, d=d, **options), "unseen": unseen}


def words_of(signs):
    """(-1.0, -1.0, 1.0) -> "- - +"."""
    return " ".join("-" if sign < 0 else "+" for sign in signs)


def observe(configuration, *, draws, seed, d=128):
    """Means over test draws: logits, attention, and the probe's length before the norm of its first context read."""
    rng, runs = np.random.default_rng((seed, TEST)), []
    for _ in range(draws):
        logits, trajectory, layer = run(FIRST_PAIR, configuration, d, rng)
        weights = [layer[1].predictor.weights(trajectory.state[k * len(layer) + 1])[:, 0] for k in range(3)]
        memory_input = trajectory.state[1] + layer[1].feedback * trajectory.prediction[1]
        runs.append(
            (logits[READOUTS.index(configuration.readout)], weights, np.linalg.norm(memory_input[:, -1], axis=-1))
        )
    logits, weights, length = (np.mean(values, 0) for values in zip(*runs, strict=True))
    rows = {"layer 1, probe": weights[0][:, 7], "layer 2, word": weights[1][:, 6], "layer 3, probe": weights[2][:, 7]}
    return {"logits": logits.tolist(), "attention": {k: w.tolist() for k, w in rows.items()}, "length": length.mean()}


def measure(seed, full):
    """Every number of this scene."""
    options, few = ({"draws": draws, "seed": seed} for draws in (FULL if full else SMALL))
    both = {"-1": MINUS, "+1": PLUS}
    numbers = {**options, "chosen": [{**c._asdict(), **success(FIRST_PAIR, c, **options)} for c in CHOSEN]}
    for entry, configuration in zip(numbers["chosen"], CHOSEN, strict=True):
        entry["unseen"] = np.mean([success(pair, configuration, **few)["solved"] for pair in GROUPS["unseen"]])
    sizes = (32, 128, 512) if full else (32, 128)
    numbers["signs"] = by_signs(options, few, sizes)
    configurations = both | {"+1 (T of -1)": MINUS._replace(sign=1.0)}
    numbers["observed"] = {g: observe(configuration, **options) for g, configuration in configurations.items()}
    numbers[FIRST] = {g: {f"d = {d}": success(FIRST_PAIR, c, d=d, **options) for d in sizes} for g, c in both.items()}
    for group, pairs in GROUPS.items():
        numbers[group] = {g: {pair.name: success(pair, c, **options) for pair in pairs} for g, c in both.items()}
    return numbers
