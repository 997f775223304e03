"""plan = arms x seeds, settings, and tests fixed beforehand: the plan of a trained comparison, also as a TOML file.

Nothing here needs torch: a plan is judged before it is imported.
"""

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from ctrlattn.errors import InputError, require_whole
from ctrlattn.files import utf8
from ctrlattn.nn.experiment.arm_names import require_arm
from ctrlattn.nn.experiment.settings import (
    SIZES,
    RunSettings,
    require_data,
    require_fit,
    require_keys,
    require_positive_setting,
    require_settings,
    settings_of,
)
from ctrlattn.parsing import parse_toml

LARGEST_SEED = 2**63 - 1  # of a whole number in TOML; torch's generators take a little more

ARMS = ("softmax", "softmax-again", "neutreno", "pidformer-printed", "pidformer-ema", "comparator")


@dataclass(frozen=True)
class Claim:
    """One test that is fixed before the runs: is arm - factor * against less, or greater, than 0?"""

    arm: str
    score: str
    direction: str
    factor: float = 1.0

    @property
    def name(self) -> str:
        """The claim in one line: arm, score, sign, factor."""
        sign = {"less": "<", "greater": ">"}.get(self.direction, "!=")
        return f"{self.arm}: {self.score} {sign}" + (f" {self.factor:g} x" if self.factor != 1 else "")


@dataclass(frozen=True)
class ComparisonPlan:
    """The arms, seeds, settings and tests of a trained comparison.

    `rates` holds the learning rate of each arm that has one of its own.

    >>> plan_of("digits").settings_of("neutreno", 3).patch
    2
    >>> plan_of("digits", rates={"neutreno": 0.001}).settings_of("neutreno", 3).rate
    0.001
    """

    data: str
    arms: tuple[str, ...] = ARMS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    against: str = "softmax"
    alpha: float = 0.05
    correction: str = "holm"
    settings: dict[str, Any] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    tests: tuple[Claim, ...] = ()

    def settings_of(self, arm: str, seed: int) -> RunSettings:
        """Return the settings of one run; those of the data set hold where the plan gives none."""
        rate = {"rate": self.rates[arm]} if arm in self.rates else {}
        return settings_of(self.data, {**self.settings, **rate}, arm, seed)


def plan_of(data: str, **changes: Any) -> ComparisonPlan:
    """Return a checked plan for one of the data sets, or for a directory of images.

    Raises
    ------
    InputError
        The data or an arm is unknown, seeds are missing or repeated, or a setting or test does not exist.

    Examples
    --------
    >>> plan_of("digits", arms=("softmax", "softmx"))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: unknown arm 'softmx': did you mean 'softmax'?
    """
    require_data(data)
    plan = ComparisonPlan(data, **changes)
    for name in ("arms", "seeds"):
        if not isinstance(getattr(plan, name), tuple | list):
            raise InputError(f"{name} must be a list, got {getattr(plan, name)!r}")
    if not all(isinstance(arm, str) for arm in plan.arms):
        raise InputError(f"arms must be names, got {list(plan.arms)}")
    for arm in plan.arms:
        require_arm(arm, text=data == "text")
    if not plan.seeds:
        raise InputError("seeds must be at least one")
    for seed in plan.seeds:
        require_whole("a seed", seed, least=0, most=LARGEST_SEED)
    if len(set(plan.arms)) != len(plan.arms) or len(set(plan.seeds)) != len(plan.seeds):
        raise InputError("an arm or a seed is given twice")
    if plan.against not in plan.arms:
        raise InputError(f"all arms are compared with {plan.against!r}, which is not among {', '.join(plan.arms)}")
    if plan.correction != "holm":
        raise InputError(f'correction must be "holm", got {plan.correction!r}')
    require_positive_setting("alpha", plan.alpha)
    require_settings(plan.settings)
    require_keys("rates", plan.rates, plan.arms)
    for arm, rate in plan.rates.items():
        require_positive_setting(f"rates: {arm}", rate)
    for test in plan.tests:
        if test.arm not in plan.arms or test.direction not in ("less", "greater", "two-sided"):
            raise InputError(
                f"test {test.name!r}: its arm must be among {', '.join(plan.arms)}, and its direction less, greater "
                "or two-sided"
            )
    return plan


def read_plan(path: Path, data: str | None = None) -> ComparisonPlan:
    """Read the plan in a TOML file; see simulations/configs/train_digits.toml.

    Parameters
    ----------
    path : Path
    data : str, optional
        Name of the data set; by default the one that the file names.

    Raises
    ------
    InputError
        The file is missing or not TOML, names other data or none, or has a key that a plan does not have.
    """
    try:
        with utf8(path):
            text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    try:
        return _plan_from(parse_toml(text), data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _plan_from(table: dict[str, Any], data: str | None) -> ComparisonPlan:
    """Return the plan of a parsed file."""
    require_keys("plan", table, {f.name for f in fields(ComparisonPlan)})
    data_name = table.pop("data", data)
    if data_name is None:
        raise InputError(f"data must say what to train on: {', '.join(SIZES)} or a directory of images")
    if data not in (None, data_name):
        raise InputError(f"this is not a plan for {data}")
    tests = table.pop("tests", [])
    for k, test in enumerate(tests):
        require_keys(f"tests[{k}]", test, {f.name for f in fields(Claim)})
        missing = [f.name for f in fields(Claim) if f.default is MISSING and f.name not in test]
        if missing:
            raise InputError(f"tests[{k}] lacks {' and '.join(missing)}")
        for name in {f.name for f in fields(Claim) if f.type in (str, "str")} & test.keys():
            if not isinstance(test[name], str):
                raise InputError(f"tests[{k}].{name} must be a word, got {test[name]!r}")
    lists = {name: table.pop(name) for name in ("arms", "seeds") if name in table}
    lists = {name: tuple(value) if isinstance(value, list) else value for name, value in lists.items()}
    return plan_of(data_name, tests=tuple(Claim(**test) for test in tests), **lists, **table)


def require_room(plan: ComparisonPlan) -> None:
    """Raise InputError where a network of the plan does not fit into memory, or its sizes do not fit each other.

    >>> require_room(plan_of("digits", settings={"dim": 32}))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: dim must be a multiple of heads: 32 features, 3 heads
    """
    for arm in plan.arms:
        require_fit(plan.data, plan.settings_of(arm, plan.seeds[0]))
