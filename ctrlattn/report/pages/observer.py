"""A study of a dictionary -> report.html (what it explains, what it costs) and features.html (tokens shaded).

Beside them, as for every page: figures/, results.nc and summary.json. Every text is escaped, and nothing is requested.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from ctrlattn import __version__
from ctrlattn.files import atomic, output_directory
from ctrlattn.plots import figure_of
from ctrlattn.plots.observers import explained_variance, feature_frequency
from ctrlattn.report.folder import Report, save
from ctrlattn.report.page import Heading
from ctrlattn.report.section import Picture, Section, Table
from ctrlattn.report.words import count, number, percent

if TYPE_CHECKING:
    from ctrlattn.observers import Study

MEANING = {
    "state": "the state that the layer reads",
    "prediction": "what its attention adds",
    "error": "the state minus its prediction from context, the mean of the tokens before it",
    "mid": "the state with what attention adds",
    "mlp": "what its MLP adds",
}


def write(out: str | Path, found: "Study") -> Report:
    """Write the pages of a study into a directory.

    Raises
    ------
    InputError
        A directory that cannot be written.
    """
    folder = output_directory(out)
    with atomic(folder / "features.html") as temporary:
        temporary.write_text(features_page(found), encoding="utf-8")
    sections = [_explained(found), _cost(found), _features(found)]
    return save(folder, _heading(found), sections, {"dictionary": found.facts})


def features_page(found: "Study") -> str:
    """The page of features as text: per feature the texts that excite it most, each token as dark as its activation."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrlattn.report.pages", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("features.html.j2").render(
        title=f"Features of {_place(found)}", facts=found.facts, features=_rows(found), version=__version__
    )


def _rows(found: "Study") -> list[dict[str, Any]]:
    """Features as the template wants them; shade 0 ... 9 relative to the feature's largest activation."""
    rows = []
    for one in found.texts:
        largest = max((max(example.activations) for example in one.examples), default=1.0)
        examples = [
            [
                (token, round(9 * max(value, 0.0) / largest), value)
                for token, value in zip(example.tokens, example.activations, strict=True)
            ]
            for example in one.examples
        ]
        rows.append({"feature": one.feature, "frequency": percent(one.frequency), "examples": examples})
    return rows


def _place(found: "Study") -> str:
    facts = found.facts
    return f"the {facts['signal']} of layer {facts['layer']}, {facts['model']}"


def _heading(found: "Study") -> Heading:
    facts = found.facts
    kind = f"TopK, {facts['k']} an example" if facts["k"] else f"ReLU with penalty {facts['penalty']:g}"
    summary = (
        f"layer {facts['layer']}, {facts['signal']}: {MEANING[facts['signal']]}. A sparse autoencoder of "
        f"{facts['features']} features ({kind}) learned from {facts['blocks'] * facts['block']} tokens of "
        f"{facts['text']}, {facts['passes']} passes."
    )
    return Heading(
        title=f"A sparse observer of {_place(found)}",
        lead=f"The few causes behind a signal of the loop, measured on {found.examples} tokens held out.",
        networks=[{"name": str(facts["model"]), "summary": summary, "texts": []}],
        provenance={"dictionary": {name: str(value) for name, value in facts.items()}},
    )


def _explained(found: "Study") -> Section:
    l0 = [point.l0 for point in found.curve]
    explained = [point.explained for point in found.curve]
    picture = explained_variance(
        {"sparse features": (l0, explained), "principal components": (found.counts, found.principal)}
    )
    return Section(
        key="explained",
        title="How much of the signal do few features explain?",
        sentences=(
            f"{number(found.quality.l0, 1)} features an example explain {percent(found.quality.explained)} of the "
            f"variance; as many principal components as the largest count here, {found.counts[-1]}, explain "
            f"{percent(float(found.principal[-1]))}.",
            "The dictionary was trained for one sparsity; to the left of it only its strongest features are kept.",
        ),
        caveat="A sparse code also chooses which features it uses, example by example; components are the same for "
        "all. Equal counts are not equal information.",
        pictures=(Picture("explained", "Explained variance against the number of features", figure_of(picture)),),
        numbers={
            "explained": found.quality.explained,
            "l0": found.quality.l0,
            "counts": found.counts,
            "curve_l0": l0,
            "curve_explained": explained,
            "principal": found.principal,
        },
        variables={
            "curve_explained": (("count",), np.array(explained), {"units": "1", "long_name": "by features"}),
            "principal_explained": (("count",), found.principal, {"units": "1", "long_name": "by components"}),
            "count": (("count",), np.array(found.counts), {"units": "1", "long_name": "features or components"}),
        },
    )


def _cost(found: "Study") -> Section:
    title = "What does the network lose when it sees only the reconstruction?"
    lost = found.recovered
    if lost is None:
        return Section("cost", title, ("This network predicts no next token: there is no loss to compare.",))
    rows = (
        ("the signal itself", number(lost.clean, 3)),
        ("its reconstruction", number(lost.reconstructed, 3)),
        ("its mean", number(lost.mean, 3)),
        ("nothing", number(lost.zero, 3)),
    )
    told = (
        f"{percent(lost.share)} of what the mean in its place would cost is recovered"
        if np.isfinite(lost.share)
        else "The mean in its place costs nothing, so that no share can be told"
    )
    more = f"; the reconstruction costs {number(lost.reconstructed - lost.clean, 3)} nats a token"
    spread = f" (standard error {number(lost.standard_error, 3)})" if np.isfinite(lost.standard_error) else ""
    return Section(
        key="cost",
        title=title,
        sentences=(f"{told}{more}{spread}.",),
        tables=(Table(("in the signal's place", "loss, nats a token"), rows, "Next-token loss on held-out text"),),
        numbers=lost._asdict(),
    )


def _features(found: "Study") -> Section:
    frequency, purity, random = found.quality.frequency, found.purity, found.purity_of_random
    known = np.isfinite(purity)
    dead = int(np.sum(frequency == 0))
    sentences = [
        f"{count(dead, 'feature')} of {len(frequency)} ({percent(found.quality.dead)}) occur in none of the "
        f"{found.examples} held-out tokens.",
        f"features.html beside this page shows {count(len(found.texts), 'feature')}, drawn at random among those that "
        "occur, with the texts that excite each most.",
    ]
    if known.any():
        sentences.insert(
            1,
            f"Of the median feature, {percent(float(np.median(purity[known])))} of the activation falls on one token; "
            f"with the tokens in random order, {percent(float(np.median(random[known])))} (features that at least ten "
            "tokens have). A proxy of how easily features are named, not a judgement of their meaning.",
        )
    return Section(
        key="features",
        title="Which features are there?",
        sentences=tuple(sentences),
        pictures=(Picture("frequency", "How often features occur", figure_of(feature_frequency(frequency))),),
        numbers={
            "dead": found.quality.dead,
            "purity_median": float(np.median(purity[known])) if known.any() else None,
            "purity_of_random_median": float(np.median(random[known])) if known.any() else None,
            "shown": [one.feature for one in found.texts],
        },
        variables={
            "frequency": (("feature",), frequency, {"units": "1", "long_name": "share of the examples"}),
            "purity": (("feature",), purity, {"units": "1", "long_name": "activation on the most frequent token"}),
        },
    )
