"""The report: numbers against their definition, a page without any request, hostile text, no half-written file."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn import config, presets, results, signals, simulate
from ctrlattn.predictors import FixedAttention
from ctrlattn.report import write
from ctrlattn.report.explorer.page import SCRIPTS
from ctrlattn.report.pages.loops import (
    automaton,
    average_mode,
    comparison,
    configurations,
    feedback,
    frequency,
    page,
    spectra,
    time_response,
    tokens,
)
from ctrlattn.report.pages.loops.material import Material, named_loops, start, why_not_linear
from ctrlattn.stability.modes.regions import mode_intervals


def recording(causal=True, layers=3, heads=2, n=5, **attrs):
    rng = np.random.default_rng(4)
    scores = rng.random((layers, heads, n, n)) + 0.05
    scores = np.tril(scores) if causal else scores
    d = 4 * heads
    arrays = {
        "attention": scores / scores.sum(-1, keepdims=True),
        "embedding": rng.standard_normal((n, d)),
        "attention_out": rng.standard_normal((layers, n, d)),
        "mlp_out": rng.standard_normal((layers, n, d)),
    }
    words = ["<script>alert(1)</script>", "a&b", '"', "$x$", "д"][:n]
    return signals.dataset(
        arrays, tokens=words, attrs={"model": "toy <b>net</b>", "norm": "pre", "causal": int(causal), **attrs}
    )


@pytest.fixture(scope="module")
def material():
    return Material(named_loops(None, {}), {"toy": [recording()], "other": [recording(causal=False)]})


@pytest.fixture(scope="module")
def report(tmp_path_factory, coarse_search, laid_out_once, vectors_alone):
    """A page with its pictures, which take seconds to draw: the tests of it are slow ones."""
    folder = tmp_path_factory.mktemp("report")
    signals.save(folder / "toy.npz", [recording(), recording(n=4)])
    (folder / "mine.toml").write_text(config.dumps(presets.get("prediction-error-rms")))
    steps = []
    with vectors_alone():
        written = write(
            folder / "out",
            presets=["neutreno", "pidformer-printed"],
            configurations=[folder / "mine.toml"],
            signals_file=folder / "toy.npz",
            progress=lambda step, done, total: steps.append((done, total)),
        )
    return written, steps


class Resources(HTMLParser):
    """Everything in a page that a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.found, self.scripts = [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        for name, value in attrs:
            if name in ("src", "srcset", "data", "action") or (name == "href" and tag in ("link", "use", "image")):
                self.found.append(value)
            if name == "xlink:href":
                self.found.append(value)


@pytest.mark.slow
def test_files_and_progress(report):
    written, steps = report
    folder = written.path.parent
    files = {p.name for p in folder.iterdir()}
    assert files == {".ctrlattn.files", "figures", "report.html", "results.nc", "summary.json"}
    pictures = {p.stem for p in (folder / "figures").iterdir()}
    assert {
        "automaton",
        "feedback",
        "spectra",
        "time-real",
        "time-average",
        "bode-s",
        "nyquist",
        "root-locus",
    } <= pictures
    assert all((folder / "figures" / f"{p}{suffix}").exists() for p in pictures for suffix in (".png", ".svg"))
    assert steps[0][0] == 0
    assert steps[-1] == (steps[-1][1], steps[-1][1])


@pytest.mark.slow
def test_page_asks_for_nothing_from_outside(report):
    page = report[0].path.read_text(encoding="utf-8")
    assert len(page) > 100_000  # the pictures stand in it
    resources = Resources()
    resources.feed(page)
    assert all(value.startswith(("#", "data:")) for value in resources.found)
    assert resources.scripts == len(SCRIPTS) + 1  # those of the explorer, and its data
    assert not re.search(r"@import|url\((?!#)", page)


@pytest.mark.slow
def test_hostile_text_is_escaped(report):
    page = report[0].path.read_text(encoding="utf-8")
    assert page.count("<script>") == len(SCRIPTS)  # those of the explorer
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "toy &lt;b&gt;net&lt;/b&gt;" in page


@pytest.mark.slow
def test_every_section_answers_in_order_with_numbers(report):
    page = report[0].path.read_text(encoding="utf-8")
    order = [page.index(f'<section id="{key}"') for key in
             ("automaton", "feedback", "spectra", "transients", "exponents", "time", "frequency", "tokens",
              "configurations", "design")]  # fmt: skip
    assert order == sorted(order)
    assert page.count("Valid within limits") >= 4
    drawn = page.partition('<div class="explorer"')[0]  # the explorer draws its own
    assert 2 * drawn.count('class="picture" role="img"') == drawn.count("<svg") - 1  # wide and narrow; and the loop
    for symbol, word in (("✗", "unstable"), ("△", "no linear verdict")):
        assert re.search(f"{symbol} [^<]*{word}", page)


@pytest.mark.slow
def test_summary_is_plain_json_and_results_hold_the_same_numbers(report):
    written, _ = report
    summary = json.loads((written.path.parent / "summary.json").read_text(encoding="utf-8"))
    assert summary == written.summary
    dataset = results.load(written.path.parent / "results.nc")
    eigenvalues = dataset["attention_eigenvalues_0"].to_numpy()
    assert dataset["sensitivity_average_mode"].sel(controlled_loop="neutreno").dims == ("omega",)
    assert dataset["curve_mean_cosine"].to_numpy().tolist()[0] == "the network itself"
    assert set(dataset["loop_time_response_average"].to_numpy()) >= {"neutreno", "pidformer-printed"}
    assert dataset["automaton_variant"].to_numpy().tolist()[0] == "before"
    for name, variable in dataset.variables.items():
        assert "long_name" in variable.attrs, name
        assert set(variable.dims) <= set(dataset.coords), name
    share = np.mean((eigenvalues.real <= 0.15) | (eigenvalues.real >= 1.8 + 0.025 / 1.05))
    assert_allclose(summary["spectra"]["unstable_share"]["pidformer-printed"]["toy <b>net</b>"], share)
    assert config.loads(config.dumps(presets.get("neutreno"))).loop.controller.kp == 0.6
    assert set(summary["loops"]) == {"neutreno", "pidformer-printed", "mine"}


def without_drawings(path):
    return re.sub(r"<svg.*?</svg>\s*", "<svg/>", path.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.slow
def test_same_input_gives_the_same_page(report, tmp_path, undrawn):
    """That a picture is drawn the same twice has tests in tests/plots."""
    written, _ = report
    folder = written.path.parent.parent
    again = write(
        tmp_path / "again",
        presets=["neutreno", "pidformer-printed"],
        configurations=[folder / "mine.toml"],
        signals_file=folder / "toy.npz",
    )
    assert without_drawings(again.path) == without_drawings(written.path)
    assert again.summary == written.summary


def test_time_response_is_the_simulation_with_recorded_matrices(material):
    (text,) = material.texts
    loop = material.loops["pidformer-ema"]
    x = start(text)
    loops = [presets.get("pidformer-ema", predictor=FixedAttention(a)) for a in text["attention"].to_numpy()]
    run = simulate(loops, x, 3)
    expected = np.sum(run.state * x, -1) / np.sum(x * x, -1)
    section = time_response.sections(material)[0]
    assert_allclose(
        section.variables["time_response_real"][1][list(material.loops).index("pidformer-ema")],
        np.median(expected, axis=1),
        atol=1e-12,
    )
    assert section.numbers["average"]["pidformer-ema"]["final"] == pytest.approx(
        average_mode.reached(loop, material.average_mode)
    )


def test_static_gain_is_that_of_the_mode():
    from ctrlattn import mode

    for name in ("neutreno", "pidformer-printed", "pidformer-ema"):
        loop = presets.get(name)
        assert_allclose(average_mode.reached(loop, 0.4), float(np.real(mode(loop, 0.4).dcgain())), atol=1e-12)
    assert average_mode.reached(presets.get("softmax"), 0.4) == 0.0


def test_unstable_share_and_intervals(material):
    modes = np.array([0.1, 0.2, 1.0, 1.9, 0.5 + 0.1j])
    assert spectra.unstable_share(presets.get("pidformer-printed"), modes) == 0.4
    assert spectra.unstable_share(presets.get("softmax"), np.array([1.0, 0.5])) == 0.0  # consensus is marginal
    assert_allclose(mode_intervals(presets.get("comparator")), [(0.0, 2.0)])  # 0 < g < 2 with identity values
    assert_allclose(mode_intervals(presets.get("residual")), [(-2.0, 0.0)])
    frozen = config.loads('[loop]\npreset = "softmax"\nskip = 0.5\nfeedback = 0.0').loop
    assert mode_intervals(frozen) == [(-np.inf, np.inf)]


def test_worst_case_covers_every_stable_mode(material):
    loop, modes = presets.get("pidformer-ema"), material.spectra["other"]
    worst = frequency.worst_case(loop, modes)
    assert worst["ms"] >= worst["s"].max()
    none = frequency.worst_case(presets.get("pidformer-printed"), np.array([0.0]))
    assert (none["unstable"], np.isnan(none["ms"])) == (1.0, True)


def test_feedback_gains_of_each_sublayer(material):
    gains = feedback.network_gains(material.texts)
    x, f = (material.texts[0][name].to_numpy() for name in ("mid", "mlp_out"))
    assert_allclose(gains["MLP"], np.sum(x * f, -1) / np.sum(x * x, -1), atol=1e-12)
    assert gains["attention"].shape == (3, 5)


def test_automaton_section_states_what_it_counts():
    section = automaton.sections(None)[0]
    assert section.numbers["d_is_nearest"]["plain"] > 0.95
    assert section.numbers["control_all_distinct"]["RMS norm"] < 0.5


@pytest.mark.slow
def test_attention_alone_is_enough(tmp_path, coarse, monkeypatch):
    for name in ("automaton", "configurations"):  # which ask for nothing recorded, or for spectra alone
        monkeypatch.delitem(page.PAGE.sections, name)
    full = recording(causal=False)
    bare = signals.dataset(
        {"attention": full["attention"].to_numpy()}, attrs={"model": "bare", "norm": "pre", "causal": 0}
    )
    written = write(tmp_path, recorded=[bare], presets=["softmax", "prediction-error"])
    text = written.path.read_text(encoding="utf-8")
    assert "no gain can be measured" in text
    assert "None of the loops has a controller" in text


@pytest.mark.slow
def test_one_token_one_layer_and_interactive_panes(tmp_path, coarse):
    """With the panes of plotly, which need no network and are inlined once."""
    pytest.importorskip("plotly")
    loops, one = ["softmax", "neutreno", "pidformer-ema"], recording(layers=1, heads=1, n=1)
    written = write(tmp_path, recorded=[one], presets=loops, interactive=True)
    assert "nan" not in json.dumps(written.summary["time"]["real"]["softmax"]["final"])
    text = written.path.read_text(encoding="utf-8")
    assert 3e6 < len(text) < 9e6
    resources = Resources()
    resources.feed(text)
    assert all(value.startswith(("#", "data:")) for value in resources.found)
    assert text.count("plotly-graph-div") >= 3


def test_diversity_curves(material):
    section = tokens.sections(material)[0]
    assert set(section.numbers["mean_cosine_at_the_end"]) == {"the network itself", *material.loops}
    cosines = {name: row["mean_cosine_at_the_end"] for name, row in comparison.sections(material)[0].numbers.items()}
    ends = section.numbers["mean_cosine_at_the_end"]
    assert cosines == {name: pytest.approx(ends[name]) for name in material.loops}
    assert [row[0] for row in section.tables[0].rows] == list(ends)


def test_why_not_linear():
    reasons = {name: why_not_linear(presets.get(name)) for name in presets.names()}
    assert reasons["softmax"] is None
    assert "one after another" in reasons["prediction-error"]
    assert "normalised" in reasons["prediction-error-rms"]


@pytest.mark.slow
def test_interrupted_half_way_leaves_no_page(tmp_path, monkeypatch, coarse):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    for name in list(page.PAGE.sections)[3:]:  # as long as one of more sections, and sooner interrupted
        monkeypatch.delitem(page.PAGE.sections, name)
    monkeypatch.setattr(results, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path, recorded=[recording()], presets=["neutreno"])
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "results.nc").exists()
    assert not list(tmp_path.rglob(".*"))


def test_bad_input(tmp_path):
    (tmp_path / "neutreno.toml").write_text(config.dumps(presets.get("softmax")))
    (tmp_path / "file").write_text("")
    for arguments, word in (
        ({"presets": ["neutrino"]}, "did you mean 'neutreno'"),
        ({"presets": ["neutreno"], "configurations": [tmp_path / "neutreno.toml"]}, "rename the file"),
        ({"signals_file": tmp_path / "absent.npz"}, "no such file"),
        ({"signals_file": tmp_path / "a.npz", "recorded": [recording()]}, "not both"),
        ({"recorded": []}, "no text"),
    ):
        with pytest.raises(ValueError, match=word):
            write(tmp_path / "out", **arguments)
    with pytest.raises(ValueError, match="cannot write to the output directory"):
        write(tmp_path / "file" / "out")


@pytest.fixture(scope="module")
def published(material):
    """The section on published configurations."""
    return configurations.sections(material)[0]


def test_published_configurations_are_judged_on_the_recorded_modes(material, published):
    section = published
    table = section.tables[0]
    assert [row[0] for row in table.rows] == list(presets.PUBLISHED)
    printed, ema = section.numbers["pidformer-printed"], section.numbers["pidformer-ema"]
    assert_allclose(printed["interval"], (0.15, 1.8238), atol=1e-4)
    modes = material.spectra["toy"].real
    assert printed["outside"]["toy"] == np.mean((modes < 0.15) | (modes > 1.8239))
    worst = modes.min()
    b = 1 - worst + 0.8
    assert_allclose(printed["largest_step"]["toy"], (-b + np.sqrt(b * b + 4 * 0.5 * 0.95)) / 0.5, rtol=1e-6)
    assert np.isnan(ema["largest_step"]["toy"])
    assert printed["steady_state_error"] == pytest.approx(0, abs=1e-9)
    a = material.average_mode
    assert ema["steady_state_error"] == pytest.approx(1 - 1.3 / (1 - a + 1.3))
    assert "residual stream" in section.caveat


@pytest.mark.parametrize("name", ["neutreno", "pidformer-ema", "pidformer-printed-text", "pidformer-ema-text"])
def test_settling_error_and_ms_of_a_configuration_are_those_of_its_recursion(material, published, name):
    # A unit step of the reference through the published law, written out; 1/|1 + C/(z - a)| on the circle.
    numbers, a = published.numbers[name], material.average_mode
    pid = presets.get(name).controller
    v, integral, before, earlier, path = 0.0, 0.0, 0.0, 0.0, [0.0]
    for _ in range(1000):
        e = 1.0 - v
        if pid.form == "printed":
            integral += e
            u = pid.kp * e + pid.ki * integral + pid.kd * (e - before)
        else:
            u = pid.kp * e + pid.ki * integral + pid.kd * (before - earlier)
            integral = 0.3 * e + 0.7 * integral
        before, earlier = e, before
        v = a * v + u
        path.append(v)
    assert numbers["steady_state_error"] == pytest.approx(1 - path[-1], abs=1e-9)
    assert numbers["settling"] == 1 + np.flatnonzero(np.abs(np.array(path) - path[-1]) > 0.02 * abs(path[-1]))[-1]
    z = np.exp(1j * np.linspace(1e-4, np.pi, 100_001))
    if pid.form == "printed":
        law = pid.kp + pid.ki * z / (z - 1) + pid.kd * (z - 1) / z
    else:
        law = pid.kp + pid.ki * 0.3 / (z - 0.7) + pid.kd * (z - 1) / z**2
    assert numbers["Ms"] == pytest.approx(np.max(np.abs(1 / (1 + law / (z - a)))), rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ([True, True], None),
        ([False], r"embeddings of Gaussian noise \(seed 0; 1 of 1 texts hold attention alone, without states\)"),
        ([True, False], r"embeddings recorded or, where .* Gaussian noise \(seed 0; 1 of 2 texts hold attention alone"),
    ],
)
def test_a_recording_of_attention_alone_is_said_to_be_one(kinds, words, tmp_path, monkeypatch):
    texts = [recording() if whole else recording()[["attention"]] for whole in kinds]
    signals.save(tmp_path / "toy.npz", texts)
    told, materials = [], []
    monkeypatch.setattr(page.folder, "write", lambda out, page, material, **_: materials.append(material))
    tell = lambda *step: told.append(step[0])  # noqa: E731
    write(tmp_path / "out", presets=["neutreno"], signals_file=tmp_path / "toy.npz", progress=tell)
    (material,) = materials
    facts, (network,) = page.PAGE.facts(material), page.PAGE.heading(material).networks
    time, along = time_response.sections(material)[0], tokens.sections(material)[0]
    if words is None:
        assert (facts["loops_start_at"], told) == ("the recorded embeddings", [])
        assert "without states" not in network["summary"]
        words = "the recorded embeddings"
    else:
        assert re.fullmatch(rf".*the simulated loops start at {words}.*", told[0])
        assert len(told) == 1
        assert re.search(words, facts["loops_start_at"])
        assert f"{kinds.count(False)} of them attention alone, without states" in network["summary"]
    assert re.search(f"starts at {words}", time.sentences[0])
    assert re.search(f"act on {words}", along.caveat)
