"""The explorer as a file: whole, offline, safe against what a recording says; and as a page that a person opens."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ctrlattn import InputError, presets, signals
from ctrlattn.report.explorer import page
from ctrlattn.report.explorer.page import SCRIPTS, explore, markup, script_json
from ctrlattn.stability import attention_spectrum
from ctrlattn.stability.modes.regions import unstable_share

ROOT = Path(__file__).parents[3]
HOSTILE = '</script><!--<script>alert(1)</script>\u2028"\\'


def recording(attention, *, tokens=None, model="toy", causal=1):
    attrs = {"model": model, "norm": "pre", "causal": causal}
    return signals.dataset({"attention": np.asarray(attention, float)}, tokens=tokens, attrs=attrs)


def data_of(html):
    """What the page holds, as its own script reads it."""
    return json.loads(re.search(r'id="explorer-data">(.*?)</script>', html, re.DOTALL)[1])


def doubles(text):
    return np.frombuffer(base64.b64decode(text), "<f8")


def test_the_page_holds_every_mode_to_the_last_bit(written):
    networks = data_of(written)["networks"]
    assert [network["name"] for network in networks] == ["SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"]
    for network, name in zip(networks, signals.shipped(), strict=True):
        texts = signals.load_shipped(name)
        modes = np.concatenate([attention_spectrum(text["attention"].to_numpy()).ravel() for text in texts])
        assert np.array_equal(doubles(network["re"]), modes.real)
        assert (network["im"] is None) == np.all(modes.imag == 0)
        assert network["im"] is None or np.array_equal(doubles(network["im"]), modes.imag)
    assert len(doubles(networks[0]["re"])) == 2 * 30 * 9 * 14
    assert [text["causal"] for text in networks[0]["texts"]] == [True, True]
    assert networks[1]["texts"][0]["title"].startswith("text 1: [CLS] a thermosta")


def test_laws_are_the_linear_presets(written):
    laws = {law["name"]: law for law in data_of(written)["laws"]}
    assert "read" not in laws
    assert "prediction-error" not in laws
    assert "contranorm" not in laws
    assert {"softmax", "neutreno", "pidformer-printed", "pidformer-ema", "comparator"} <= laws.keys()
    ema = presets.get("pidformer-ema")
    assert (laws["pidformer-ema"]["ki"], laws["pidformer-ema"]["reference_gain"]) == (ema.controller.ki, 0.1)


def test_no_text_of_a_recording_leaves_its_place():
    text = recording(np.ones((1, 1, 1, 1)), tokens=[HOSTILE], model=HOSTILE)
    html = str(markup({HOSTILE: [text]}))
    data = data_of(html)
    assert data["networks"][0]["name"] == HOSTILE
    assert data["networks"][0]["texts"][0]["tokens"] == [HOSTILE]
    assert html.count("</script") == 1 + len(SCRIPTS)
    assert "<!--" not in html


def test_a_lone_surrogate_is_written_out():
    assert json.loads(script_json("\ud800")) == "\ud800"


def test_the_file_asks_for_nothing(written):
    assert not re.search(r"(?:src|href)\s*=|@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|https?://", written)
    assert "default-src 'none'" in written


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ([signals.dataset({"state": np.zeros((2, 1, 1))}, attrs={"model": "m", "norm": "pre", "no_matrix": "all"})],
         "no attention matrix"),
        ([], "no text"),
        ([recording(np.ones((1, 1, 1, 1))), recording(np.ones((2, 1, 1, 1)))], "one number of layers and heads"),
    ],
)  # fmt: skip
def test_what_cannot_be_explored_is_refused(texts, words, tmp_path):
    with pytest.raises(InputError, match=words):
        explore(tmp_path / "a.html", recorded=texts)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_that_is_not_finite_is_refused(tmp_path):
    text = recording(np.tril(np.ones((2, 1, 3, 3))) / np.arange(1, 4)[:, None])
    text["attention"][1, 0, 2, 0] = np.inf
    with pytest.raises(InputError, match="finite"):
        explore(tmp_path / "a.html", recorded=[text])
    with pytest.raises(InputError, match="no such file"):
        explore(tmp_path / "a.html", signals_file=tmp_path / "none.npz")
    with pytest.raises(InputError, match="does not exist"):
        explore(tmp_path / "absent" / "a.html")
    with pytest.raises(InputError, match="no regular file"):
        explore(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_too_many_modes_are_refused_before_their_eigenvalues(monkeypatch, tmp_path):
    monkeypatch.setattr(page, "MOST_MODES", 3)
    monkeypatch.setattr(page, "attention_spectrum", lambda matrices: pytest.fail("computed"))
    with pytest.raises(InputError, match="4 modes are more than the 3"):
        explore(tmp_path / "a.html", recorded=[recording(np.eye(2)[None, None].repeat(2, 0))])


def test_a_layer_without_a_matrix_is_left_out():
    attention = np.eye(2)[None, None].repeat(3, 0)
    attention[1] = np.nan
    text = signals.dataset({"attention": attention}, attrs={"model": "m", "norm": "pre", "no_matrix": "1", "causal": 1})
    network = data_of(str(markup({"m": [text]})))["networks"][0]
    assert network["texts"][0]["layers"] == [0, 2]
    assert doubles(network["re"]).tolist() == [1.0] * 4


# ---- in a browser ----------------------------------------------------------------------------------------------------

READY = "const wait = (ms) => new Promise((done) => setTimeout(done, ms)); await wait(1500);"
GET = "const get = (name) => document.getElementById('explorer-' + name);"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pidformer-printed", "neutreno", "softmax", "residual"])
def test_the_answer_of_the_page_is_the_packages(browser, written, name):
    """The share in the first line, after a click on the law."""
    script = f"{READY}{GET} document.querySelector('[data-law=\"{name}\"]').click(); await wait(800);"
    share = browser(written, script + "return get('share').textContent;")
    modes = doubles(data_of(written)["networks"][0]["re"])
    exact = 100 * float(unstable_share(presets.get(name), modes))
    shown = float(share.split("\u00a0")[0])
    assert shown == pytest.approx(exact, abs=0.5)
    assert (shown == 0) == (exact == 0)
    assert (shown == 100) == (exact == 100)


@pytest.mark.slow
def test_an_address_opens_as_it_was_left(browser, written):
    address = "#kp=0.4&ki=0&kd=0&form=printed&skip=0&feedback=1&network=1&layer=2&head=3&laws=neutreno"
    told = json.loads(
        browser(
            written,
            f"{READY}{GET} get('kp').value = '0.6'; get('kp').dispatchEvent(new Event('input'));"
            "await wait(1500); return JSON.stringify([get('network').value, get('layer').value, get('head').value,"
            "document.querySelector('[data-compare=neutreno]').checked, location.hash, get('verdict').textContent]);",
            address=address,
        )
    )
    assert told[:4] == ["1", "2", "3", True]
    assert "kp=0.6&" in told[4]
    assert "laws=neutreno" in told[4]
    assert "of 37 modes of all-MiniLM-L6-v2" in told[5]


@pytest.mark.slow
def test_a_wrong_number_leaves_the_law_and_says_so(browser, written):
    script = (
        f"{READY}{GET} get('kp').value = ''; get('kp').dispatchEvent(new Event('input')); await wait(300);"
        "return JSON.stringify([get('kp').getAttribute('aria-invalid'), get('copied-text').textContent]);"
    )
    invalid, text = json.loads(browser(written, script))
    assert invalid == "true"
    assert "kp = 0.8" in text


@pytest.mark.slow
def test_the_keyboard_reaches_a_mode(browser, written):
    script = (
        f"{READY}{GET} const range = get('mode'), tip = get('tip'); range.focus(); range.value = 0;"
        "range.dispatchEvent(new Event('input')); await wait(500);"
        "return JSON.stringify([tip.hidden, tip.innerText, range.getAttribute('aria-valuetext')]);"
    )
    hidden, tip, value = json.loads(browser(written, script))
    assert not hidden
    assert all(word in tip for word in ("token", "layer", "head", "pole", "settling"))
    assert value.startswith("a = ")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_width_scrolls_sideways_and_every_pane_is_drawn(browser, written, width, dark):
    script = (
        f"{READY} const root = document.documentElement; const canvas = document.querySelector('canvas');"
        "const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data, seen = new Set();"
        "for (let i = 0; i < pixels.length; i += 4) seen.add(pixels[i] * 65536 + pixels[i + 1] * 256 + pixels[i + 2]);"
        "const drawings = document.querySelectorAll('.x-drawing svg').length;"
        "return JSON.stringify([root.scrollWidth, innerWidth, seen.size, drawings,"
        "getComputedStyle(document.querySelector('.explorer')).backgroundColor]);"
    )
    wide, inner, colours, drawings, paper = json.loads(browser(written, script, width=width, dark=dark))
    assert inner == width
    assert wide <= inner
    assert colours > 20
    assert drawings == 3
    assert paper == ("rgb(17, 22, 29)" if dark else "rgb(245, 247, 250)")


def axe():
    """axe-core, where it is installed: `npm install axe-core`, or AXE_CORE with the path of axe.min.js."""
    places = [os.environ.get("AXE_CORE"), ROOT / "node_modules" / "axe-core" / "axe.min.js"]
    if shutil.which("npm"):
        run = subprocess.run(["npm", "root", "-g"], capture_output=True, text=True, check=False, timeout=60)
        places.append(Path(run.stdout.strip()) / "axe-core" / "axe.min.js")
    return next((Path(place) for place in places if place and Path(place).is_file()), None)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(browser, written, width, dark):
    library = axe()
    if library is None:
        pytest.skip("axe-core is not installed (npm install axe-core): accessibility is not judged")
    page_with = written.replace("</body>", f"<script>{library.read_text(encoding='utf-8')}</script></body>")
    script = (
        f"{READY} const result = await axe.run(document, {{ resultTypes: ['violations'] }});"
        "return JSON.stringify(result.violations.map((v) => [v.id, v.nodes.map((n) => n.html.slice(0, 200))]));"
    )
    assert json.loads(browser(page_with, script, width=width, dark=dark)) == []
