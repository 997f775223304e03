"""Do the tests die when a formula changes? `python tests/mutation.py --sample 120 --seed 0 --json mutants.json`

Draws mutants of the files that hold the equations, applies one at a time to a copy of the tree, and runs the tests of
that file (its mirror in tests/, or its whole room where there is none) and its doctests. A mutant that no test notices
has survived. One whose tests reach the time limit counts as killed; those are told apart, since a busy machine is slow
as well. It takes 5 to 20 seconds a mutant and is no part of CI.

What is drawn: + and -, * and /, ** and *; a comparison and its negation; and / or; a lost minus, not or conj; the
largest for the smallest; a number plus one (a fraction doubled); a guard that raises, removed. What is not: strings,
annotations, default arguments, and numbers below 1e-4, which are tolerances and no equations.

Three kinds are told apart. Mutants of a *setting* change how long or how finely a search looks, not what it looks for;
`settings` is the rule, and they are reported beside the others. Mutants in `EQUIVALENT` change no value at all, for the
reason given there. All others are mutants of an *equation*.
"""

import argparse
import ast
import copy
import itertools
import json
import math
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EQUATIONS = (
    "linear", "stability", "frequency", "predictors", "loop.py", "tracking.py", "controllers.py", "normalizers.py",
)  # fmt: skip
TOLERANCE = 1e-4  # a number below is how exact something is asked to be
LIBRARIES = ["pytest", "scipy.linalg", "scipy.optimize", "scipy.signal", "control", "torch", "mpmath"]
# Not the project's own options: with one process, xdist would be loaded for nothing.
OPTIONS = ["-x", "-q", "--tb=no", "--doctest-modules", "--import-mode=importlib", "-o", "addopts="]
UNUSED = ["-p", "no:cacheprovider", "-p", "no:xdist"]
NO_EQUATION = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
SURVIVES, KILLED, TIMED_OUT = "SURVIVES", "killed", "timed out"
KINDS = ("equation", "setting", "equivalent")

# Constants in capitals are settings of a search, but for these, which a definition fixes.
DEFINITIONS = ("BAND", "_BANDWIDTH", "_MARGINAL", "_OMEGA", "PID")
ACCURACIES = ("tol", "rtol", "atol", "tolerance", "xatol", "fatol", "xtol", "ftol", "gtol", "rcond", "noise", "lost")
LIMITS = (*ACCURACIES, "maxiter", "max_iterations", "num")
GRIDS = ("linspace", "geomspace", "logspace")

# (file, line of code, change): why no input tells the mutant from the original.
KREISS = "stability/nonnormal/kreiss.py"
BALANCING = "linear/balancing.py"
COMMON = "common = (math.frexp(b_size)[1] - math.frexp(c_size)[1]) // 2 if b_size > 0 and c_size > 0 else 0"
BALANCED = "Balancing comes to the same scales from here, but for the factor of 2 that it leaves open."
BLOCKS = "stability/nonnormal/block_krylov.py"
LEVELS = "stability/robustness/level_sets.py"
EQUIVALENT = {
    ("stability/nonnormal/block_krylov.py", "least = spectral_radii(projected[[bounds.argmax()], :m, :m])[0]",
     "bounds.argmax()  ->  bounds.argmin()"):
        "A block with a smaller radius leaves more blocks for the eigenvalues, the outermost one among them.",
    ("predictors/attention.py", "if i >= self.matrix.shape[-1]:", "-1  ->  1"):
        "A matrix (n, n) and one of heads (heads, n, n) have n there as well.",
    ("stability/robustness/disk.py",
     "return _margin_of(math.inf, math.inf, skew, attack.frequency, np.full(channels, np.nan + 0j), math.nan)",
     "np.nan + 0j  ->  np.nan - 0j"): "No sign of a zero beside nan is looked at.",
    ("stability/motion/exponent_intervals.py", "others = -np.sort(-averaged[:, 1:].mean(axis=0), axis=-1)",
     "-1  ->  1"):
        "The means (disturbances, k) have two axes.",
    ("stability/robustness/margins.py", "return Margins(False, *[math.nan] * 8)", "8  ->  9"):
        "The ninth number is nan where it is left out.",
    ("stability/motion/tangent.py", "longest = float(np.max(np.abs(v), initial=0.0)) or 1.0", "1.0  ->  2.0"):
        "The image of a direction of zeros is zero at any step.",
    ("linear/jacobian.py",
     "off = _block(adjoint, w, point, np.hstack([probe, -probe])) - expected * [1, -1]",
     "expected * [1, -1]  ->  expected / [1, -1]"): "To divide by a sign is to multiply with it.",
    (KREISS, "return _LOWEST, max(high, 2 * here)  # here >= 0.01: no norm is below the numerical radius", "2  ->  3"):
        "Any bracket that holds the supremum leads to it; this one is wider.",
    (KREISS, "return min(max(k * border, 1e-12), here / 2), max(high, 2 * here)", "2  ->  3"):
        "Any bracket that holds the supremum leads to it; this one is wider.",
    (KREISS, "return min(max(k * border, 1e-12), here / 2), max(high, 2 * here)", "here / 2  ->  here * 2"):
        "k * border <= here, since the resolvent falls with the distance from the border: this end is proved anyway.",
    (KREISS, "return _search(a / scale, spectrum / scale, reach, bool(np.any(on)), continuous)",
     "spectrum / scale  ->  spectrum * scale"): "They start a search along each line that finds every crossing.",
    (KREISS, "best = max(best, *ends, key=lambda item: item.log_k)",
     "max(best, *ends, key=lambda item: item.log_k)  ->  min(best, *ends, key=lambda item: item.log_k)"):
        "A lower best value ends the search later: the bounds have to meet all the same.",
    ("stability/motion/exponent_intervals.py", "ratio = (_DISTURBED[2] / _DISTURBED[1]) ** (1 / block)",
     "_DISTURBED[2] / _DISTURBED[1]  ->  _DISTURBED[2] * _DISTURBED[1]"): "The first disturbance is one delta.",
    ("stability/robustness/margins.py", "a, b, c = (m * (1 + eps * rng.uniform(-1, 1, m.shape)) for m in g[:3])",
     "m * (1 + eps * rng.uniform(-1, 1, m.shape))  ->  m / (1 + eps * rng.uniform(-1, 1, m.shape))"):
        "The random share is as often below zero as above it.",
    ("stability/modes/gain_polynomials.py",
     "derivatives = np.array([-values_at(term, poles) / np.where(repeated, 1.0, falls) for term in terms])",
     "1.0  ->  2.0"):
        "A repeated pole has no derivative: inf takes the place of what is computed there.",
    ("stability/modes/pid_gains.py", "stable, unsure = _stability_of(gains, g, cuts[:, :-1] + width / 2)", "2  ->  3"):
        "Any point between two cuts tells whether all of them are stable.",
    ("frequency/tokens.py", "n = a.shape[-1]", "1  ->  2"): "The matrices are square.",
    ("stability/modes/pass_modes.py", "if max(sizes) >= 1 or min(beyond, default=2.0) < 1:", "2.0  ->  4.0"):
        "Any number that is not below 1 stands for no pole to look at.",
    ("stability/modes/pid_gains.py",
     "folded = modes.real if np.all(modes.imag == 0) else modes.real + 1j * np.abs(modes.imag)",
     "modes.real + 1j * np.abs(modes.imag)  ->  modes.real - 1j * np.abs(modes.imag)"):
        "Real gains are stable at a mode where they are at its conjugate.",
    ("stability/modes/spectra.py", "flat = a.reshape(-1, *a.shape[-2:])", "2  ->  3"):
        "One more leading axis is taken out of the shape again at the end.",
    ("stability/modes/spectra.py", 'order = np.argsort(-np.abs(general), axis=-1, kind="stable")', "-1  ->  1"):
        "The eigenvalues (k, n) have two axes.",
    ("stability/modes/spectra.py", "spectra[~causal] = np.take_along_axis(general, order, -1)", "-1  ->  1"):
        "The eigenvalues (k, n) have two axes.",
    ("stability/modes/steps.py", "complex_modes = np.unique(np.concatenate([upper, lower.conj()]))",
     "lower.conj()  ->  lower"): "Real gains are stable at a mode where they are at its conjugate.",
    ("linear/polynomial_roots.py", "value = (value[0] + (c << bits), value[1])",
     "value[0] + (c << bits)  ->  value[0] - (c << bits)"): "The sign of q cancels in q/q'.",
    ("stability/nonnormal/pseudospectrum.py",
     "flat = points.ravel() if np.iscomplexobj(a) else points.real.ravel() + 1j * np.abs(points.imag.ravel())",
     "points.real.ravel() + 1j * np.abs(points.imag.ravel())  ->  "
     "points.real.ravel() - 1j * np.abs(points.imag.ravel())"):
        "A real matrix has the same value at z and at its conjugate.",
    ("stability/robustness/attack.py", "channels = m.shape[-1]", "1  ->  2"): "The matrices are square.",
    ("stability/motion/depth_exponents.py", "product = np.eye(triangles.shape[-1])", "-1  ->  1"):
        "The triangles (L, k, k) are square.",
    ("stability/modes/decomposition.py",
     "sigma = np.linalg.svd(matrices - z[:, None, None] * np.eye(matrices.shape[-1]), compute_uv=False)",
     "-1  ->  1"): "The matrices are square.",
    ("stability/modes/decomposition.py",
     "sigma = np.linalg.svd(matrices - z[:, None, None] * np.eye(matrices.shape[-1]), compute_uv=False)",
     "1  ->  2"): "The matrices are square.",
    ("stability/modes/decomposition.py",
     "gains = np.array([c1 * c0, c2 * c0]) + np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])",
     "1.0  ->  2.0"): "Any three points of the line will do for the check.",
    ("stability/modes/decomposition.py",
     "gains = np.array([c1 * c0, c2 * c0]) + np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])",
     "np.array([c1 * c0, c2 * c0]) + np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])  ->  "
     "np.array([c1 * c0, c2 * c0]) - np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])"):
        "The same three points in the other order.",
    ("stability/modes/decomposition.py",
     "gains = np.array([c1 * c0, c2 * c0]) + np.array([[-1.0], [0.0], [1.0]]) * np.array([-c2, c1])", "-1.0  ->  1.0"):
        "Two points of the line are left, and determine it.",
    ("stability/modes/decomposition.py", "safe = np.where(dependent, 1.0, cross)", "1.0  ->  2.0"):
        "nan takes the place of what is computed where the terms are dependent.",
    (LEVELS, "if min(values.shape[1:]) == 1:", "1  ->  2"):
        "A single output goes by singular values then: the same number.",
    ("stability/robustness/scaled_peak.py", "top = -1.0", "1.0  ->  2.0"):
        "No norm is negative: the first round gains more than ends a zoom.",
    ("stability/robustness/scaled_peak.py", "inner = np.pad(values, 1, constant_values=-1.0)", "1.0  ->  2.0"):
        "No norm is negative.",
    ("stability/robustness/sectors.py",
     "n = 2 * np.mean(np.asarray(phi(size[..., None] * np.cos(t))) * np.exp(-1j * t), axis=-1) / size",
     "-1j  ->  1j"): "phi(A cos t) is even in t: the sine has no part in it.",
    ("stability/robustness/sectors.py",
     "n = 2 * np.mean(np.asarray(phi(size[..., None] * np.cos(t))) * np.exp(-1j * t), axis=-1) / size",
     "np.asarray(phi(size[..., None] * np.cos(t))) * np.exp(-1j * t)  ->  "
     "np.asarray(phi(size[..., None] * np.cos(t))) / np.exp(-1j * t)"):
        "phi(A cos t) is even in t: the sine has no part in it.",
    ("stability/robustness/structured.py",
     "step = -np.linalg.solve(curvature + size + 1e-14 * size * np.eye(channels), slope[..., None])[..., 0]",
     "curvature + size  ->  curvature - size"):
        "The slope has no part along the direction whose curvature this is.",
    ("controllers.py", "a = np.zeros((3, 3))", "3  ->  4"): "Only the first three rows and columns are read.",
    ("controllers.py", "derivative = (self.kd * np.array([1.0, -1.0]), z)",
     "self.kd * np.array([1.0, -1.0])  ->  self.kd / np.array([1.0, -1.0])"): "1/1 and 1/-1 are 1 and -1.",
    ("controllers.py", "derivative = (self.kd * np.array([1.0, -1.0]), np.array([1.0, 0.0, 0.0]))",
     "self.kd * np.array([1.0, -1.0])  ->  self.kd / np.array([1.0, -1.0])"): "1/1 and 1/-1 are 1 and -1.",
    (BALANCING, "sizes = np.zeros((n + 1, n + 1))", "1  ->  2"): "A further row of zeros is not read.",
    (BALANCING, "b_size, c_size = (float(np.abs(m).max()) if m.size else 0.0 for m in (b, c))",
     "np.abs(m).max()  ->  np.abs(m).min()"): BALANCED,
    (BALANCING, COMMON, "b_size > 0 and c_size > 0  ->  b_size > 0 or c_size > 0"): BALANCED,
    (BALANCING, COMMON, "b_size > 0  ->  b_size <= 0"): BALANCED,
    (BALANCING, COMMON, "c_size > 0  ->  c_size <= 0"): BALANCED,
    (BALANCING, COMMON, "2  ->  3"): BALANCED,
    (BALANCING, "b, c = b * math.ldexp(1.0, -common), c * math.ldexp(1.0, common)", "1.0  ->  2.0"): BALANCED,
    (BALANCING, "return dgebal(sizes, scale=1, permute=0)[3] if len(sizes) else np.ones(0)", "1  ->  2"):
        "LAPACK's flag is on where it is not 0.",
    (BLOCKS, "self.basis, self.projected = np.empty((n, room, self.d)), np.zeros((n, room + 1, room))", "1  ->  2"):
        "The further row is not read.",
    (BLOCKS, "return np.where(left[:, None] > 0, w, 0.0) / np.where(left > 0, left, 1.0)[:, None], coefficients",
     "1.0  ->  2.0"): "0/2 is 0.",
    (BLOCKS, "whole = np.where(whole > 0, whole, 1.0)", "1.0  ->  2.0"): "0/2 is 0.",
    ("stability/motion/fixed_points.py", "low, high = 0.0, 1.0", "1.0  ->  2.0"):
        "The first half of it is the whole chord, at whose end the sign has changed.",
    ("stability/modes/intervals.py",
     "beyond = cuts[cuts < end][-1:] if away < 0 else cuts[cuts > end][:1]", "1  ->  2"):
        "The nearest is the least of them.",
    ("linear/realization.py",
     "if type(value) is np.ndarray and value.dtype == np.float64 and value.ndim == 2:  # what a StateSpace holds",
     "2  ->  3"): "What follows makes the same copy.",
    (LEVELS, "numerator = top * np.where(size > 0, bottom.conj() / np.where(size > 0, size, 1.0), 1j)", "1.0  ->  2.0"):
        "1j takes the place of what is computed there.",
    (LEVELS, "numerator = top * np.where(size > 0, bottom.conj() / np.where(size > 0, size, 1.0), 1j)", "1j  ->  2j"):
        "An infinite eigenvalue is z = -1, of whatever length it is.",
}  # fmt: skip

SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
OPPOSITE = {
    "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin", "amin": "amax", "amax": "amin",
    "minimum": "maximum", "maximum": "minimum", "fmin": "fmax", "fmax": "fmin",
}  # fmt: skip


class Mutant(NamedTuple):
    """One change of one file."""

    line: int
    change: str
    setting: bool  # of a search, and no equation
    code: str  # the line as it stands
    source: str  # the file without the change
    index: int  # of the place among those of the file

    @property
    def text(self) -> str:
        """The whole file with the change."""
        tree = ast.parse(self.source)
        node, change = next(itertools.islice(_places(tree), self.index, None))
        replacement = change(node)
        if replacement is not node:
            _replace(tree, node, replacement)
        return ast.unparse(ast.fix_missing_locations(tree))


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(source)
    searched, lines = settings(tree), source.splitlines()
    every = []
    for index, (node, change) in enumerate(_places(tree)):
        before = ast.unparse(node)
        after = ast.unparse(change(copy.deepcopy(node)))
        if before != after:
            words = f"{before.splitlines()[0]}  ->  {after.splitlines()[0]}"
            code = lines[node.lineno - 1].strip()
            every.append(Mutant(node.lineno, words, id(node) in searched, code, source, index))
    return sorted(every, key=lambda mutant: mutant.line)


Change = Callable[[ast.AST], ast.AST]


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, Change]]:
    open_ends = {id(constant) for call in ast.walk(tree) for constant in _open_ends(call)}
    for node in _equations(tree):
        if id(node) in open_ends:
            continue
        if isinstance(node, ast.BinOp | ast.BoolOp | ast.AugAssign) and type(node.op) in SWAPS and not _is_text(node):
            yield node, _swap_operator
        if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
            yield node, _swap_comparison
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
            yield node, lambda node: node.operand
        if isinstance(node, ast.Constant) and _is_coefficient(node.value):
            yield node, _other_number
        if isinstance(node, ast.Call):
            yield from _calls(node)
        if isinstance(node, ast.If) and any(isinstance(inner, ast.Raise) for inner in node.body):
            yield node, _without_guard


def _open_ends(node: ast.AST) -> Iterator[ast.AST]:
    """The 1 of reshape(-1, ...): any negative number stands for the dimension that numpy finds."""
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "reshape":
        yield from (argument.operand for argument in node.args if isinstance(argument, ast.UnaryOp))


def _equations(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that may be mutated, parents first."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "defaults", "kw_defaults"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, NO_EQUATION):
                continue
            yield child
            yield from _equations(child)


def settings(tree: ast.AST) -> set[int]:
    """Places (their ids) that say how exactly or how long a search looks: five kinds.

    1. What a constant in capitals is, but for `DEFINITIONS`.
    2. Keyword arguments of `LIMITS`, and the number of points of a grid.
    3. The number of rounds: what stands in `for _ in range(...)`.
    4. A product with a factor that is an accuracy, such as 10 * n * EPS * scale: all of it.
    5. The sign of an accuracy in a sum, such as that of 1 + tol.
    """
    places: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and all(_is_setting(t.id) for t in node.targets for t in _names(t)):
            places += ast.walk(node.value)
        if isinstance(node, ast.keyword) and node.arg in LIMITS:
            places += ast.walk(node.value)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in GRIDS:
            places += [place for number in node.args[2:3] for place in ast.walk(number)]
        if isinstance(node, ast.For) and getattr(node.target, "id", "") == "_" and isinstance(node.iter, ast.Call):
            places += ast.walk(node.iter)
        if isinstance(node, ast.BinOp) and _is_accuracy(node):
            places += ast.walk(node)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            places += [node] if _is_accuracy(node.left) or _is_accuracy(node.right) else []
    return {id(place) for place in places}


def _names(target: ast.AST) -> list[ast.Name]:
    return [name for name in ast.walk(target) if isinstance(name, ast.Name)]


def _is_setting(name: str) -> bool:
    return len(name) > 2 and name.isupper() and name not in DEFINITIONS


def _is_accuracy(node: ast.AST) -> bool:
    """A number below 1e-4, a setting or the name of an accuracy, or a product with one of these."""
    match node:
        case ast.Constant(value):
            return type(value) is float and 0 < abs(value) < TOLERANCE
        case ast.Name(name):
            return _is_setting(name) or name in ACCURACIES
        case ast.Attribute(value, name):
            return name in ACCURACIES or (name == "eps" and isinstance(value, ast.Call))  # np.finfo(...).eps
        case ast.BinOp(left, ast.Pow(), _):
            return _is_accuracy(left)
        case ast.BinOp(left, ast.Mult() | ast.Div(), right):
            return _is_accuracy(left) or _is_accuracy(right)
    return False


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(n, ast.Constant) and isinstance(n.value, str) for n in ast.walk(node))


def _is_coefficient(value: object) -> bool:
    return type(value) in (int, float, complex) and abs(value) >= TOLERANCE


def _calls(node: ast.Call) -> Iterator[tuple[ast.AST, Change]]:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    if name in OPPOSITE:
        yield node, _opposite
    if name in ("conj", "conjugate") and isinstance(node.func, ast.Attribute):
        yield node, lambda node: node.args[0] if node.args else node.func.value


def _swap_operator(node: ast.AST) -> ast.AST:
    node.op = SWAPS[type(node.op)]()
    return node


def _swap_comparison(node: ast.AST) -> ast.AST:
    node.ops[0] = SWAPS[type(node.ops[0])]()
    return node


def _other_number(node: ast.AST) -> ast.AST:
    return ast.Constant(node.value + 1 if isinstance(node.value, int) else 2 * node.value)


def _opposite(node: ast.AST) -> ast.AST:
    if isinstance(node.func, ast.Name):
        node.func.id = OPPOSITE[node.func.id]
    else:
        node.func.attr = OPPOSITE[node.func.attr]
    return node


def _without_guard(node: ast.AST) -> ast.AST:
    node.test = ast.Constant(False)
    return node


def _replace(tree: ast.AST, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, name, [new if item is old else item for item in value])


def files(root: Path, names: tuple[str, ...] = EQUATIONS) -> list[Path]:
    """The modules that hold equations, relative to the root."""
    package = root / "ctrlattn"
    modules: list[Path] = []
    for name in names:
        modules += [package / name] if name.endswith(".py") else (package / name).rglob("*.py")
    return sorted(p.relative_to(root) for p in modules if p.exists() and p.name != "__init__.py")


def paths_of_tests(root: Path, file: Path) -> list[str]:
    """What is run for a mutant of the file: its mirror, else the tests of the nearest room; and its doctests.

    A test of the same name in another room is one of another module.
    """
    inner = file.relative_to("ctrlattn")
    rooms = [root / "tests" / room for room in inner.parents if room.parts]
    places = [root / "tests" / inner.parent / f"test_{file.name}", *rooms, root / "tests" / f"test_{file.name}"]
    nearest = next((p for p in places if p.exists() and (p.is_file() or any(p.glob("test_*.py")))), None)
    return [*([] if nearest is None else [str(nearest.relative_to(root))]), str(file)]


class Copies:
    """Copies of the tree, one for each job, in which one file at a time holds a mutant."""

    def __init__(self, root: Path, folder: Path, jobs: int) -> None:
        self.root, self.second = root, itertools.count(10**9)
        self.free: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            shutil.copytree(root, folder / f"{job}", ignore=shutil.ignore_patterns(".git", "results", "images"))
            self.free.put(folder / f"{job}")
        # Processes are forked from one that has loaded the libraries and nothing of the package: that saves seconds.
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(LIBRARIES)

    def fate(self, file: Path, text: str, limit: float) -> str:
        """What the tests of the file say where the file holds the text."""
        tree = self.free.get()
        (tree / file).write_text(text, encoding="utf-8")
        os.utime(tree / file, times=(next(self.second),) * 2)  # compiled files know their source by its time and size
        process = self.context.Process(target=_run_tests, args=(tree, paths_of_tests(self.root, file)))
        process.start()
        process.join(limit)
        in_time = process.exitcode is not None
        if not in_time:
            process.kill()
            process.join()
        shutil.copy(self.root / file, tree / file)
        self.free.put(tree)
        return (KILLED if process.exitcode else SURVIVES) if in_time else TIMED_OUT


class QuickFirst:
    """A plugin: what is marked slow runs last, so that most mutants die before it."""

    def pytest_collection_modifyitems(self, items: list) -> None:
        """The order of pytest but for slow tests."""
        items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


def _run_tests(tree: Path, paths: list[str]) -> None:
    """pytest on the tree, up to the first failure and in silence; the exit code is pytest's."""
    import pytest

    os.chdir(tree)
    os.environ["PYTHONPATH"] = str(tree)
    sys.path.insert(0, str(tree))
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    code = pytest.main([*OPTIONS, *UNUSED, *paths], plugins=[QuickFirst()])
    os._exit(int(code))  # nothing of the libraries needs a farewell


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a share.

    >>> tuple(round(end, 3) for end in wilson(9, 10))
    (0.596, 0.982)
    """
    p, scale = hits / trials, 1 + z * z / trials
    middle, half = p + z * z / (2 * trials), z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2))
    return (middle - half) / scale, (middle + half) / scale


def main() -> None:
    """Draw, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="the tree that is mutated")
    parser.add_argument("--files", nargs="*", default=EQUATIONS, help="rooms and files of the package")
    parser.add_argument("--sample", type=int, default=120, help="mutants drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--limit", type=float, default=150, help="seconds for the tests of one mutant")
    # A test that fails anyway would kill every mutant.
    parser.add_argument("--trusted", action="store_true", help="the tests are known to pass and not run without mutant")
    parser.add_argument("--json", type=Path, help="where the counts and the survivors are written")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before the libraries are loaded
    root = options.root.resolve()
    modules = files(root, tuple(options.files))
    every = [(file, mutant) for file in modules for mutant in mutants((root / file).read_text(encoding="utf-8"))]
    sample = random.Random(options.seed).sample(every, min(options.sample or len(every), len(every)))
    results = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        copies = Copies(root, Path(folder), options.jobs)
        for file in sorted({file for file, _ in sample if not options.trusted}):
            if copies.fate(file, (root / file).read_text(encoding="utf-8"), options.limit) != SURVIVES:
                sys.exit(f"{file}: its tests fail or take over {options.limit} s without any mutant")
        fates = pool.map(lambda pair: copies.fate(pair[0], pair[1].text, options.limit), sample)
        for (file, mutant), end in zip(sample, fates, strict=True):
            kind = _kind(file, mutant)
            print(f"{end:9} {kind:10} {file}:{mutant.line}  {mutant.change}", file=sys.stderr, flush=True)
            place = {"file": str(file), "line": mutant.line, "change": mutant.change}
            results.append({**place, "kind": kind, "fate": end})
    for entry in stale(every):
        print("not among the mutants of these files, though listed as equivalent:", *entry)
    _report(results, len(every), options.seed, options.json)


def _kind(file: Path, mutant: Mutant) -> str:
    if (file.relative_to("ctrlattn").as_posix(), mutant.code, mutant.change) in EQUIVALENT:
        return "equivalent"
    return "setting" if mutant.setting else "equation"


def stale(every: list[tuple[Path, Mutant]]) -> list[tuple[str, str, str]]:
    """Entries of `EQUIVALENT` whose line is no longer there: their reason is to be read anew."""
    present = {(file.relative_to("ctrlattn").as_posix(), mutant.code, mutant.change) for file, mutant in every}
    read = {file for file, _, _ in present}
    return [entry for entry in EQUIVALENT if entry[0] in read and entry not in present]


def _report(results: list[dict], total: int, seed: int, path: Path | None) -> None:
    for file in sorted({r["file"] for r in results}):
        ends = [r["fate"] for r in results if r["file"] == file]
        print(f"{len(ends) - ends.count(SURVIVES):3} of {len(ends):3} killed  {file}")
    shares = {kind: _share([r for r in results if r["kind"] == kind]) for kind in KINDS}
    shares["all"] = _share(results)
    for kind, share in shares.items():
        print(f"{kind:10} {share}")
    print(f"drawn from {total} with seed {seed}")
    if path:
        survivors = [r for r in results if r["fate"] == SURVIVES]
        facts = {"mutants": total, "drawn": len(results), "seed": seed, "killed": shares, "survivors": survivors}
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _share(results: list[dict]) -> str:
    if not results:
        return "none drawn"
    ends = [r["fate"] for r in results]
    killed = len(ends) - ends.count(SURVIVES)
    low, high = wilson(killed, len(ends))
    late = f"{ends.count(TIMED_OUT)} by the time limit"
    return f"{killed} of {len(ends)} killed ({late}): {killed / len(ends):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
