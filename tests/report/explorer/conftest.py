"""A browser and node, where they are installed: the page's own scripts run in them."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ctrlattn.report.explorer import page

HERE = Path(__file__).parent
SCRIPTS = Path(page.__file__).parent
LONGEST = 280  # seconds, on a machine that others use too


# A browser without a screen draws no frame in virtual time. No window is as narrow as a phone: a frame in a page is.
FRAMES = "<head><script>window.requestAnimationFrame = (draw) => setTimeout(draw, 16);</script>"
OUTER = """<!doctype html><html style="color-scheme: light dark"><body>
<iframe src="page.html{address}" style="border: 0; width: {width}px; height: 1400px"></iframe>
<script>window.onmessage = (event) => document.body.append(
  Object.assign(document.createElement("pre"), {{ id: "told", textContent: event.data }}));</script></body></html>"""


def asked(script):
    """The end of a page that sends the text of a script, or its error, to the page around it."""
    body = "(async () => {" + script + "})()"
    return (
        f"<script>{body}.catch((e) => `failed: ${{e.stack}}`).then((t) => parent.postMessage(t, '*'));</script></body>"
    )


@pytest.fixture(scope="session")
def node(tmp_path_factory):
    """node(expression): the JSON of an expression over numerics, region, words and answers."""
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed: the numbers of the page are compared in a browser alone")

    def answer(expression, **values):
        file = tmp_path_factory.mktemp("node") / "run.js"
        names = ("numerics", "region", "words")
        given = [f"const {name} = require({json.dumps(str(SCRIPTS / name))});" for name in names]
        given += [f"const {name} = {json.dumps(value)};" for name, value in values.items()]
        ask = f"console.log({expression});"
        file.write_text("\n".join([*given, (HERE / "answers.js").read_text(encoding="utf-8"), ask]), encoding="utf-8")
        run = subprocess.run([program, file], capture_output=True, text=True, check=True, timeout=LONGEST)
        return json.loads(run.stdout)

    return answer


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """browser(page, script): the text that an async script on the page gives, in headless Chromium."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium is installed: the page is not opened")

    def answer(page, script, *, address="", width=1280, dark=False):
        folder = tmp_path_factory.mktemp("browser")
        (folder / "page.html").write_text(page.replace("<head>", FRAMES).replace("</body>", asked(script)), "utf-8")
        (folder / "outer.html").write_text(OUTER.format(address=address, width=width), encoding="utf-8")
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}"]
        options += ["--window-size=1400,1500", "--virtual-time-budget=20000", "--dump-dom"]
        options += ["--blink-settings=preferredColorScheme=0"] if dark else []
        run = subprocess.run(
            [program, *options, (folder / "outer.html").as_uri()],
            capture_output=True, text=True, check=True, timeout=LONGEST,
        )  # fmt: skip
        text = re.search(r'<pre id="told">(.*?)</pre>', run.stdout, re.DOTALL)
        assert text is not None, run.stdout[-500:] + run.stderr[-500:]
        assert not text[1].startswith("failed"), text[1]
        return html.unescape(text[1])

    return answer


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The page of the shipped recordings."""
    return page.explore(tmp_path_factory.mktemp("page") / "explorer.html").read_text(encoding="utf-8")
