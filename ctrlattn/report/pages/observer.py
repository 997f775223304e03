"""study -> the page of `ctrlattn observe`: explained variance, recovered loss, and features.html with shaded tokens.

As for every page, figures/, results.nc and summary.json are written as well. Every text is escaped.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from ctrlattn import __version__
from ctrlattn.plots import figure_of
from ctrlattn.plots.observers import explained_variance, feature_frequency
from ctrlattn.report import folder
from ctrlattn.report.folder import Report
from ctrlattn.report.page import Heading, Page
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


def write(out: str | Path, study: "Study", *, formats: Sequence[str] = ()) -> Report:
    """Write the pages of a study into a directory, with results.nc in further formats of `tables.export` as well.

    Raises
    ------
    InputError
        The directory cannot be written.
    """
    return folder.write(out, PAGE, study, formats=formats)


def features_page(study: "Study") -> str:
    """Return features.html as text: for each feature the texts on which it is most active, shaded by its activation."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ctrlattn.report.pages", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("features.html.j2").render(
        title=f"Features of {_place(study)}", facts=study.facts, features=_rows(study), version=__version__
    )


def _rows(study: "Study") -> list[dict[str, Any]]:
    """Return features as the template needs them; the shade 0 ... 9 is relative to the feature's largest activation."""
    rows = []
    for feature in study.texts:
        largest = max((max(example.activations) for example in feature.examples), default=1.0)
        examples = [
            [
                (token, round(9 * max(value, 0.0) / largest), value)
                for token, value in zip(example.tokens, example.activations, strict=True)
            ]
            for example in feature.examples
        ]
        rows.append({"feature": feature.feature, "frequency": percent(feature.frequency), "examples": examples})
    return rows


def _facts(study: "Study") -> dict[str, Any]:
    return {"dictionary": study.facts}


def _place(study: "Study") -> str:
    facts = study.facts
    return f"the {facts['signal']} of layer {facts['layer']}, {facts['model']}"


def _heading(study: "Study") -> Heading:
    facts = study.facts
    kind = f"TopK, {facts['k']} per example" if facts["k"] else f"ReLU with penalty {facts['penalty']:g}"
    summary = (
        f"layer {facts['layer']}, {facts['signal']}: {MEANING[facts['signal']]}. A sparse autoencoder of "
        f"{facts['features']} features ({kind}) learned from {facts['blocks'] * facts['block']} tokens of "
        f"{facts['text']}, {facts['passes']} passes."
    )
    return Heading(
        title=f"A sparse observer of {_place(study)}",
        lead=f"The few causes behind a signal of the loop, measured on {study.examples} tokens held out.",
        networks=[{"name": str(facts["model"]), "summary": summary, "texts": []}],
        provenance={"dictionary": {name: str(value) for name, value in facts.items()}},
    )


def _explained_section(study: "Study") -> list[Section]:
    l0 = [point.l0 for point in study.curve]
    explained = [point.explained for point in study.curve]
    picture = explained_variance(
        {"sparse features": (l0, explained), "principal components": (study.counts, study.principal)}
    )
    return [
        Section(
            key="explained",
            title=f"{number(study.quality.l0, 1)} features per token explain {percent(study.quality.explained)} of the "
            f"{study.facts['signal']}",
            sentences=(
                f"{number(study.quality.l0, 1)} features per example explain {percent(study.quality.explained)} of the "
                f"variance; as many principal components as the largest count here, {study.counts[-1]}, explain "
                f"{percent(float(study.principal[-1]))}.",
                "The dictionary was trained for one sparsity; smaller counts keep only its strongest features.",
            ),
            caveat="A sparse code also chooses its features example by example; the components are the same for all "
            "examples. Equal counts are therefore not equal information.",
            pictures=(Picture("explained", "Explained variance against the number of features", figure_of(picture)),),
            numbers={
                "explained": study.quality.explained,
                "l0": study.quality.l0,
                "counts": study.counts,
                "curve_l0": l0,
                "curve_explained": explained,
                "principal": study.principal,
            },
            variables={
                "curve_explained": (("count",), np.array(explained), {"units": "1", "long_name": "by features"}),
                "principal_explained": (("count",), study.principal, {"units": "1", "long_name": "by components"}),
                "count": (("count",), np.array(study.counts), {"units": "1", "long_name": "features or components"}),
            },
        )
    ]


def _cost(study: "Study") -> list[Section]:
    losses = study.recovered
    if losses is None:
        return [
            Section(
                "cost",
                "What the reconstruction costs cannot be measured",
                ("This network predicts no next token: there is no loss to compare.",),
            )
        ]
    rows = (
        ("the signal itself", number(losses.clean, 3)),
        ("its reconstruction", number(losses.reconstructed, 3)),
        ("its mean", number(losses.mean, 3)),
        ("nothing", number(losses.zero, 3)),
    )
    words = (
        f"{percent(losses.share)} of what the mean in its place would cost is recovered"
        if np.isfinite(losses.share)
        else "The mean in its place costs nothing, so that there is no share"
    )
    more = f"; the reconstruction costs {number(losses.reconstructed - losses.clean, 3)} nats per token"
    spread = f" (standard error {number(losses.standard_error, 3)})" if np.isfinite(losses.standard_error) else ""
    return [
        Section(
            key="cost",
            title=f"Its reconstruction costs {number(losses.reconstructed - losses.clean, 3)} nats per token",
            sentences=(f"{words}{more}{spread}.",),
            tables=(
                Table(("in the signal's place", "loss, nats per token"), rows, "Next-token loss on held-out text"),
            ),
            numbers=losses._asdict(),
        )
    ]


def _features(study: "Study") -> list[Section]:
    frequency, purity, random = study.quality.frequency, study.purity, study.purity_of_random
    finite = np.isfinite(purity)
    dead = int(np.sum(frequency == 0))
    verb = "occurs" if dead == 1 else "occur"
    sentences = [
        f"{count(dead, 'feature')} of {len(frequency)} ({percent(study.quality.dead)}) {verb} in none of the "
        f"{study.examples} held-out tokens.",
        f"features.html beside this page shows {count(len(study.texts), 'feature')}, drawn at random among those that "
        "occur, with the texts on which each is most active.",
    ]
    if finite.any():
        sentences.insert(
            1,
            f"Of the median feature, {percent(float(np.median(purity[finite])))} of the activation falls on one token; "
            f"with the tokens in random order, {percent(float(np.median(random[finite])))} (features that at least ten "
            "tokens have). This measures how easily features can be named, and does not judge their meaning.",
        )
    return [
        Section(
            key="features",
            title=f"{len(frequency) - dead} of {count(len(frequency), 'feature')} occur in the held-out text",
            sentences=tuple(sentences),
            pictures=(Picture("frequency", "How often features occur", figure_of(feature_frequency(frequency))),),
            numbers={
                "dead": study.quality.dead,
                "purity_median": float(np.median(purity[finite])) if finite.any() else None,
                "purity_of_random_median": float(np.median(random[finite])) if finite.any() else None,
                "shown": [text.feature for text in study.texts],
            },
            variables={
                "frequency": (("feature",), frequency, {"units": "1", "long_name": "share of the examples"}),
                "purity": (("feature",), purity, {"units": "1", "long_name": "activation on the most frequent token"}),
            },
        )
    ]


PAGE: Page["Study"] = Page(
    heading=_heading,
    facts=_facts,
    sections={"explained": _explained_section, "cost": _cost, "features": _features},
    beside={"features.html": features_page},
)
