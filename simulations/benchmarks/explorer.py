"""Frames a second of the explorer while a slider moves, 10,080 modes drawn, in headless Chromium at its own pace.

    python simulations/benchmarks/explorer.py            # 300 frames, written beside this file
    python simulations/benchmarks/explorer.py --once     # 30 frames, for CI

The page moves its own slider once a frame, as a person's hand would, and tells a server on this machine when each frame
began. A browser without a screen still draws at most 60 frames a second. Where none is installed, this is said.
"""

import json
import shutil
import subprocess
import tempfile
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
from machine import describe
from paired import parser_of, write

from ctrlattn import signals
from ctrlattn.report.explorer.page import explore

LAYERS, HEADS, TOKENS = 30, 21, 16
LONGEST = 120  # seconds until the browser is given up
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DRAG = """<script>(async () => {
  const slider = document.getElementById("explorer-kp-range"), begun = [], frames = FRAMES;
  const low = Number(slider.min), high = Number(slider.max);
  const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
  for (let k = 0; k < 20 + frames; k += 1) {
    slider.value = low + (high - low) * (0.5 + 0.4 * Math.sin(k / 15));
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    begun.push(await frame());
  }
  await fetch("/", { method: "POST", body: JSON.stringify(begun.slice(20)) });
})();</script></body>"""


class Told(BaseHTTPRequestHandler):
    """The page is given, and what it tells is kept on the server."""

    def do_GET(self) -> None:
        """Give the page, whatever is asked for."""
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.server.page)

    def do_POST(self) -> None:
        """Take the times and answer with nothing."""
        self.server.told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """A benchmark prints its own lines alone."""


def recording() -> object:
    """Causal attention of random scores, as many modes as tokens in each of LAYERS x HEADS matrices."""
    rng = np.random.default_rng(0)
    scores = np.tril(rng.random((LAYERS, HEADS, TOKENS, TOKENS)) + 0.05)
    width = HEADS
    arrays = {
        "attention": scores / scores.sum(-1, keepdims=True),
        "embedding": rng.standard_normal((TOKENS, width)),
        "attention_out": rng.standard_normal((LAYERS, TOKENS, width)),
        "mlp_out": rng.standard_normal((LAYERS, TOKENS, width)),
    }
    facts = {"model": "random", "norm": "pre", "causal": 1}
    return signals.dataset(arrays, tokens=[f"t{i}" for i in range(TOKENS)], attrs=facts)


def frame_times(browser: str, frames: int) -> list[float]:
    """Milliseconds at which each frame began."""
    with tempfile.TemporaryDirectory() as folder, HTTPServer(("127.0.0.1", 0), Told) as server:
        page = explore(Path(folder) / "explorer.html", recorded=[recording()])
        drag = DRAG.replace("FRAMES", str(frames))
        text = page.read_text(encoding="utf-8").replace("</body>", drag)
        # The page may ask nobody for anything; this copy may tell its own server how fast it was.
        server.page = text.replace("default-src 'none'", "default-src 'none'; connect-src 'self'", 1).encode()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,1500"]
        options += ["--remote-debugging-port=0", f"--user-data-dir={folder}/profile"]
        options += [f"http://127.0.0.1:{server.server_port}/"]
        process = subprocess.Popen([browser, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.timeout, server.told, last = 1.0, None, time.monotonic() + LONGEST
        try:
            while server.told is None and time.monotonic() < last:
                server.handle_request()
        finally:
            process.terminate()
            process.wait()
        if server.told is None:
            raise SystemExit(f"the page told nothing within {LONGEST} s")
        return server.told


def rows_of(times: list[float]) -> list[dict[str, object]]:
    """Frames a second and how long a frame lasts."""
    lasts = np.diff(times)
    return [
        {
            "what": f"a slider drags {LAYERS * HEADS * TOKENS:,} modes",
            "frames": len(lasts),
            "frames a second": round(1e3 * len(lasts) / float(np.sum(lasts)), 1),
            "asked": 60,
            "median frame (ms)": round(float(np.median(lasts)), 2),
            "95th percentile (ms)": round(float(np.percentile(lasts, 95)), 2),
            "frames above 25 ms": int(np.sum(lasts > 25)),
        }
    ]


def main() -> None:
    arguments = parser_of(__doc__).parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"no browser among {', '.join(BROWSERS)} is installed: nothing was measured")
        return
    version = subprocess.run([browser, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    rows = rows_of(frame_times(browser, 30 if arguments.once else 300))
    write(arguments.out, "explorer", {**describe(), "browser": version}, rows)


if __name__ == "__main__":
    main()
