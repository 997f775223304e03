"""Do the tests die when a formula changes? `python tests/mutation.py --sample 120 --seed 0 --json mutants.json`

Draws mutants of the files that hold the equations, applies one at a time to a copy of the tree, and runs the tests of
that file (its mirror in tests/, or its whole room where there is none) and its doctests. A mutant that no test notices
has survived. One whose tests reach the time limit counts as killed; those are told apart, since a busy machine is slow
as well. It takes 5 to 20 seconds a mutant and is no part of CI.

What is drawn: + and -, * and /, ** and *; a comparison and its negation; and / or; a lost minus, not or conj; the
largest for the smallest; a number plus one (a fraction doubled); a guard that raises, removed. What is not: strings,
annotations, default arguments, and numbers below 1e-4, which are tolerances and no equations.
"""

import argparse
import ast
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
EQUATIONS = ("linear", "stability", "frequency", "loop.py", "tracking.py", "controllers.py")
TOLERANCE = 1e-4  # a number below is how exact something is asked to be
NO_EQUATION = (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)
SURVIVES, KILLED, TIMED_OUT = "SURVIVES", "killed", "timed out"

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
    text: str  # the whole file with the change


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    count = len(list(_places(ast.parse(source))))
    return sorted(filter(None, (_mutant(source, i) for i in range(count))), key=lambda mutant: mutant.line)


def _mutant(source: str, index: int) -> Mutant | None:
    tree = ast.parse(source)  # anew, since a change is made in place
    node, change = list(_places(tree))[index]
    before = ast.unparse(node)
    line = node.lineno
    replacement = change(node)
    if replacement is not node:
        _replace(tree, node, replacement)
    after = ast.unparse(replacement)
    first = before.splitlines()[0]
    text = ast.unparse(ast.fix_missing_locations(tree))
    return None if before == after else Mutant(line, f"{first}  ->  {after.splitlines()[0]}", text)


Change = Callable[[ast.AST], ast.AST]


def _places(tree: ast.AST) -> Iterator[tuple[ast.AST, Change]]:
    for node in _equations(tree):
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
    """What is run for a mutant of the file: tests named after it, else its room; and its doctests."""
    named = sorted((root / "tests").rglob(f"test_{file.stem}.py"))
    inner = file.relative_to("ctrlattn")
    mirror = root / "tests" / inner.parent / f"test_{file.name}"
    chosen = [mirror] if mirror.exists() else named or [root / "tests" / inner.parts[0].removesuffix(".py")]
    return [*(str(p.relative_to(root)) for p in chosen if p.exists()), str(file)]


def fate(root: Path, file: Path, text: str, limit: float) -> str:
    """What the tests of the file say on a copy of the tree in which the file holds the text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".git", "results", "images"))
        (copy / file).write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *paths_of_tests(root, file)]
        environment = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return TIMED_OUT
        return KILLED if done.returncode else SURVIVES


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
    parser.add_argument("--json", type=Path, help="where the counts and the survivors are written")
    options = parser.parse_args()
    root = options.root.resolve()
    modules = files(root, tuple(options.files))
    every = [(file, mutant) for file in modules for mutant in mutants((root / file).read_text(encoding="utf-8"))]
    sample = random.Random(options.seed).sample(every, min(options.sample or len(every), len(every)))
    for file in sorted({file for file, _ in sample}):  # a test that fails anyway would kill every mutant
        if fate(root, file, (root / file).read_text(encoding="utf-8"), options.limit) != SURVIVES:
            sys.exit(f"{file}: its tests fail or take over {options.limit} s without any mutant")
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        fates = pool.map(lambda pair: fate(root, pair[0], pair[1].text, options.limit), sample)
        for (file, mutant), end in zip(sample, fates, strict=True):
            print(f"{end:9} {file}:{mutant.line}  {mutant.change}", file=sys.stderr, flush=True)
            results.append({"file": str(file), "line": mutant.line, "change": mutant.change, "fate": end})
    _report(results, len(every), options.seed, options.json)


def _report(results: list[dict], total: int, seed: int, path: Path | None) -> None:
    for file in sorted({r["file"] for r in results}):
        ends = [r["fate"] for r in results if r["file"] == file]
        print(f"{len(ends) - ends.count(SURVIVES):3} of {len(ends):3} killed  {file}")
    survivors = [r for r in results if r["fate"] == SURVIVES]
    killed, timed_out = len(results) - len(survivors), sum(r["fate"] == TIMED_OUT for r in results)
    low, high = wilson(killed, len(results))
    share = f"{killed / len(results):.3f} [{low:.3f}, {high:.3f}]"
    print(f"{killed} of {len(results)} killed ({timed_out} by the time limit): {share}; of {total}, seed {seed}")
    if path:
        facts = {"mutants": total, "drawn": len(results), "seed": seed, "timed_out": timed_out, "survivors": survivors}
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
