"""A sweep that explains itself: a TOML file with a comment for everything that it may hold."""

from ctrlattn import presets
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError
from ctrlattn.sweep.analyses import ANALYSES
from ctrlattn.sweep.cell import KEYS

_TEXT = """\
# A sweep: every analysis in every cell. `ctrlattn sweep FILE.toml --out DIR` computes it and writes a page.

# best = "interval_width"      # output by which a cell is best; the first of the first analysis where left out

[loop]                         # what all cells share, as in a configuration (`ctrlattn new` explains it)
preset = "{preset}"

[simulation]
layers = 12                    # read by the analyses tokens and hit_rate

[axes]                         # path = values: a list, or a range. A grid runs through all combinations
loop.controller.kp = {{from = 0.0, to = 2.0, steps = 41}}
loop.controller.ki = {{from = 0.01, to = 1.0, steps = 21, scale = "log"}}
loop.controller.form = ["printed", "ema"]
# simulation.seed = {{from = 0, to = 9, steps = 10, whole = true}}     # whole numbers
# recording.layer = {{from = 0, to = 29, steps = 30, whole = true}}    # of [recording]

# [sample]                     # random cells in the box of all axes in place of the grid; ranges need no steps
# method = "sobol"             # or "random"
# cells = 1024
# seed = 0

[analyses]                     # any of these, with their options
interval = {{}}
settling = {{modes = [0.2, 0.5, 0.8]}}
{others}

# Further tables, with what holds where a key is left out:
{tables}
"""


_GIVEN = ("interval", "settling")  # by the text


def explained_sweep(preset: str = "pidformer-printed") -> str:
    """Return the text of a sweep over the gains of a preset; `ctrlattn.sweep.loads` reads it.

    Raises
    ------
    InputError
        The preset is unknown or has no PID gains.

    Examples
    --------
    >>> print(explained_sweep().splitlines()[11])
    loop.controller.kp = {from = 0.0, to = 2.0, steps = 41}
    """
    if not isinstance(presets.get(preset).controller, PID):
        raise InputError(f"{preset} has no PID gains to vary: take one that has, such as pidformer-printed")
    analysis_lines = [
        f"# {a.words}:\n# {name} = {_options(name)}" for name, a in ANALYSES.items() if name not in _GIVEN
    ]
    tables = [f"# [{table}]  {', '.join(_key(*pair) for pair in keys.items())}" for table, keys in KEYS.items()]
    return _TEXT.format(preset=preset, others="\n".join(analysis_lines), tables="\n".join(tables))


def _options(name: str) -> str:
    inner = ", ".join(_key(*pair) for pair in ANALYSES[name].options.items())
    return f"{{{inner}}}"


def _key(name: str, value: object) -> str:
    text = "..." if value is None else f'"{value}"' if isinstance(value, str) else value
    return f"{name} = {text}"
