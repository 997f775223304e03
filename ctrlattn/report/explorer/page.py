"""recorded attention -> eigenvalues, laws and scripts in one HTML file that asks no network for anything.

The equations of the page stand in numerics.js and region.js, and tests hold them to the functions of this package.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from ctrlattn import __version__, presets
from ctrlattn.arrays import is_vector
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.files import atomic, require_file
from ctrlattn.loop import Loop
from ctrlattn.progress import Progress, silent
from ctrlattn.report.recordings import recorded_networks
from ctrlattn.stability import attention_spectrum

MOST_MODES = 200_000  # of one network; beyond it no browser redraws them while a slider moves
SCRIPTS = ("numerics.js", "region.js", "words.js", "panes.js", "script.js")
_TITLE = "Attention under feedback: explore which modes are stable"
_START = "pidformer-printed"
_FACTS = (
    ("word", "verdict"),
    ("where", "where"),
    ("text", "text"),
    ("a", "eigenvalue a"),
    ("alpha", "α = skip + feedback·a"),
    ("pole", "largest pole"),
    ("settling", "settling"),
    ("final", "T(1), reached"),
    ("overshoot", "overshoot"),
    ("peak", "max |S|"),
)


def explore(
    out: str | Path = "explorer.html",
    *,
    signals_file: str | Path | None = None,
    recorded: Sequence[Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write the explorer of recorded attention: one HTML file, whole or not at all.

    Parameters
    ----------
    out : path
    signals_file : path, optional
        Recorded signals (see ctrlattn.signals), by default those that ship with the package.
    recorded : Datasets of checkpoints.tap, optional
        Signals of a checkpoint, one Dataset per text; excludes `signals_file`.
    progress : callable, optional
        It is called with the name of a step, the number of finished steps and their total.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        The recording is missing or faulty, has no attention matrix or more than 200 000 modes, or the file cannot be
        written.

    Examples
    --------
    >>> import tempfile
    >>> page = explore(Path(tempfile.mkdtemp()) / "explorer.html")
    >>> "SmolLM2-135M-Instruct" in page.read_text(encoding="utf-8")
    True
    """
    path, tell = Path(out), progress or silent
    require_file(path)
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: the directory {path.parent} does not exist")
    networks = recorded_networks(signals_file, recorded)
    tell("eigenvalues of attention", 0, 2)
    explorer = markup(networks, level=1)
    tell("page", 1, 2)
    page = _environment().get_template("page.html.j2").render(title=_TITLE, explorer=explorer, version=__version__)
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    tell("done", 2, 2)
    return path


def markup(networks: Mapping[str, Sequence[Any]], *, level: int = 2) -> Markup:
    """Return the explorer as a part of a page, which holds one. It is dark where the reader's system is.

    Parameters
    ----------
    networks : name -> sequence of Dataset
        Recorded texts (see ctrlattn.signals).
    level : int
        Level of the heading of the part, 1 to 5.

    Raises
    ------
    InputError
        As `explore`.

    Examples
    --------
    >>> from ctrlattn import signals
    >>> str(markup({"MiniLM": signals.load_shipped("minilm-l6")}))[:20]
    '<div class="explorer'
    """
    laws = _laws()
    data = {
        "networks": [_network(name, texts) for name, texts in networks.items()],
        "laws": laws,
        "start": _START,
    }
    html = (
        _environment()
        .get_template("explorer.html.j2")
        .render(
            title=_TITLE,
            level=level,
            laws=laws,
            facts=_FACTS,
            style=Markup(_file("style.css")),
            data=Markup(script_json(data)),
            scripts=[Markup(_file(name)) for name in SCRIPTS],
        )
    )
    return Markup(html.strip())


def script_json(data: Any) -> str:
    r"""Return JSON that may stand inside a <script>: no text in it can end the element or begin a comment.

    >>> script_json({"token": "</script><!--"})
    '{"token":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace").decode()  # a lone surrogate is no UTF-8


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ctrlattn.report", "explorer"), autoescape=True, undefined=jinja2.StrictUndefined
    )


def _file(name: str) -> str:
    return (resources.files("ctrlattn") / "report" / "explorer" / name).read_text(encoding="utf-8")


def _laws() -> list[dict[str, Any]]:
    """Return the named loops that the page's equations describe: linear, in parallel order, with a PID or nothing."""
    entries = {name: presets.describe(name) for name in presets.names()}
    return [{"name": name, "summary": p.summary, **_gains(p.loop)} for name, p in entries.items() if _linear(p.loop)]


def _linear(loop: Loop) -> bool:
    scalar = not (is_vector(loop.skip) or is_vector(loop.feedback))
    has_modes = loop.normalizer is None and loop.order == "parallel" and not loop.hold_first
    return scalar and has_modes and (loop.controller is None or isinstance(loop.controller, PID))


def _gains(loop: Loop) -> dict[str, Any]:
    pid = loop.controller or PID()
    controller = {name: getattr(pid, name) for name in ("kp", "ki", "kd", "form", "ema")}
    return {**controller, **{name: getattr(loop, name) for name in ("skip", "feedback", "reference_gain")}}


def _network(name: str, texts: Sequence[Any]) -> dict[str, Any]:
    """Return a network's eigenvalues, text by text, layer by layer and head by head, as the bits of doubles."""
    for text in texts:
        if "attention" not in text or not _layers(text["attention"].to_numpy()):
            raise InputError(
                f"{name}: a recorded text has no attention matrix, and the explorer shows their eigenvalues"
            )
    shapes = {(int(text.sizes["layer"]), int(text.sizes["head"])) for text in texts}
    if len(shapes) > 1:
        raise InputError(f"{name}: the texts of one network have one number of layers and heads, got {sorted(shapes)}")
    count = sum(int(np.prod(text["attention"].shape[:3])) for text in texts)
    if count > MOST_MODES:
        raise InputError(
            f"{name}: {count} modes are more than the {MOST_MODES} that a page redraws: record fewer tokens"
        )
    spectra = [_spectrum(text["attention"].to_numpy()) for text in texts]
    modes = np.concatenate([spectrum.ravel() for spectrum in spectra])
    layers, heads = shapes.pop()
    return {
        "name": name,
        "layers": layers,
        "heads": heads,
        "texts": [_text(i, text) for i, text in enumerate(texts)],
        "re": _doubles(modes.real),
        "im": None if np.all(modes.imag == 0) else _doubles(modes.imag),
    }


def _layers(attention: np.ndarray) -> list[int]:
    """Return the layers that have a matrix: that of the others is nan."""
    return [k for k, matrices in enumerate(attention) if not np.isnan(matrices).all()]


def _spectrum(attention: np.ndarray) -> np.ndarray:
    return attention_spectrum(attention[_layers(attention)])


def _text(number: int, text: Any) -> dict[str, Any]:
    attention = text["attention"].to_numpy()
    layers = _layers(attention)
    tokens = [str(token) for token in text["text"].to_numpy()] if "text" in text.coords else None
    words = _sentence(tokens or [])
    return {
        "title": f"text {number + 1}" + (f": {words[:40]}{'…' if len(words) > 40 else ''}" if words else ""),
        "tokens": tokens,
        "count": int(attention.shape[-1]),
        "layers": layers,
        "causal": bool(np.all(np.triu(attention[layers], 1) == 0)),
    }


def _sentence(tokens: list[str]) -> str:
    """Join the tokens to a text; where no token holds a space, one is put before every token that begins a word.

    >>> _sentence(["[CLS]", "the", "##rm"]), _sentence(["The", " fro", "ze"])
    ('[CLS] therm', 'The froze')
    """
    spaced = any(token[:1].isspace() for token in tokens)
    return ("".join(tokens) if spaced else " ".join(tokens).replace(" ##", "")).strip()


def _doubles(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode("ascii")
