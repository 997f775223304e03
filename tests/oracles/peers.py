"""peers.json: what python-control, with slycot where it is installed, answers to the systems of table.json.

`python tests/oracles/peers.py` writes the file with the versions. Octave's answers stand in octave.json, which the
script octave.m writes. An exception is kept by its words: that a peer refuses is an answer too.
"""

import importlib.util
import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import control
import numpy as np
import table

FILE = Path(__file__).with_name("peers.json")
HAS_SLYCOT = importlib.util.find_spec("slycot") is not None
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "gain_margin": lambda g: control.stability_margins(g)[0],
    "phase_margin": lambda g: control.stability_margins(g)[1],
    "modulus_margin": lambda g: control.stability_margins(g)[2],
    "hinf": lambda g: control.system_norm(control.ss(g), "inf", tol=1e-9, print_warning=False),
    "h2": lambda g: control.system_norm(control.ss(g), 2, print_warning=False),
    "hankel": lambda g: control.hankel_singular_values(control.ss(g)),
    "slycot_hankel": lambda g: _slycot_hankel(control.ss(g)),
}


def _slycot_hankel(g: Any) -> Any:
    """SLICOT's AB09AD asked directly, since python-control has no Gramians in discrete time."""
    import slycot

    time = "C" if g.dt == 0 else "D"
    return slycot.ab09ad(time, "B", "N", g.nstates, 1, 1, g.A, g.B, g.C, nr=min(1, g.nstates))[4]


def answer(name: str, system: Any) -> Any:
    """A number, a list, or {"error": words}."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = QUESTIONS[name](system)
            return [number(x) for x in np.ravel(value)] if "hankel" in name else number(np.squeeze(value))
    except Exception as error:  # whatever a peer raises is what is recorded
        return {"error": f"{type(error).__name__}: {error}"[:160]}


def number(x: Any) -> Any:
    """A float, or the word that JSON has no number for."""
    return float(x) if math.isfinite(x) else str(float(x))


def main() -> None:
    """Ask, and write."""
    rows = {}
    for name, row in table.load().items():
        system = table.system(row["system"])
        rows[name] = {key: answer(key, system) for key in QUESTIONS if key.removeprefix("slycot_") in row["truth"]}
    versions = {"control": control.__version__, "slycot": None}
    if HAS_SLYCOT:
        versions["slycot"] = importlib.import_module("slycot").__version__
    FILE.write_text(json.dumps({"versions": versions, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
