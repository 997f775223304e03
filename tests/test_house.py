"""The habits of the house: how long a file is, what its names are, where its test stands."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ctrlattn"
LONGEST_FILE = 300  # lines of code
LONGEST_SCENE = 150  # lines of any kind: a scene is read from top to bottom
# Nouns and letters of the field say what a value is; these say only that there is one.
SAYS_NOTHING = {"found", "one", "kept", "drawn"}

# Modules without a test file of their own name, by the reason.
NO_MIRROR = {
    "tests/test_cli.py runs every command": (
        "__main__.py", "cli/analyze.py", "cli/compare.py", "cli/drop.py", "cli/listing.py", "cli/loop.py", "cli/new.py",
        "cli/observe.py", "cli/report.py", "cli/simulate.py", "cli/sweep.py", "cli/terminal.py", "cli/train.py",
    ),
    "tests/plots/test_plots.py and test_nonlinear_plots.py draw every picture from one table": (
        "plots/depth.py", "plots/design.py", "plots/lyapunov.py", "plots/plane.py", "plots/tokens.py",
    ),
    "the page that shows the picture is tested with it": (
        "plots/dropping.py", "plots/observers.py", "plots/reduction.py", "plots/repeated.py", "plots/trained_loops.py",
        "plots/sweeps.py",
        "plots/training.py",
    ),
    "tests/report/pages/loops/test_page.py and test_sections.py make the material once for all sections": (
        "report/pages/loops/automaton.py", "report/pages/loops/average_mode.py",
        "report/pages/loops/comparison.py", "report/pages/loops/configurations.py",
        "report/pages/loops/design.py", "report/pages/loops/explore.py", "report/pages/loops/exponents.py",
        "report/pages/loops/feedback.py",
        "report/pages/loops/frequency.py", "report/pages/loops/interactive.py", "report/pages/loops/material.py",
        "report/pages/loops/spectra.py", "report/pages/loops/time_response.py", "report/pages/loops/tokens.py",
        "report/pages/loops/transients.py",
    ),
    "tests/report/pages/checkpoint/test_page.py measures one network for all sections": (
        "report/pages/checkpoint/attention.py", "report/pages/checkpoint/jacobians.py",
        "report/pages/checkpoint/feedback.py", "report/pages/checkpoint/lookup.py",
        "report/pages/checkpoint/value_maps.py",
    ),
    "tests/observers/test_study.py writes this page": ("report/pages/observer.py",),
    "tests/report/test_folder.py writes a page from sections": (
        "report/page.py", "report/section.py",
    ),
    "tests/checkpoints/trace/test_run.py traces whole networks": (
        "checkpoints/trace/eager.py", "checkpoints/trace/follow.py", "checkpoints/trace/inputs.py",
        "checkpoints/trace/kinds.py", "checkpoints/trace/layers.py", "checkpoints/trace/rules.py",
    ),
    "tests/checkpoints/measure/test_tap.py compares what is recorded": (
        "checkpoints/measure/recompose.py", "checkpoints/measure/traced_tap.py",
    ),
    "tests/checkpoints/measure/test_profile.py measures every part": (
        "checkpoints/measure/parts/exponents.py", "checkpoints/measure/parts/feedback.py",
        "checkpoints/measure/parts/gain.py", "checkpoints/measure/parts/heads.py",
        "checkpoints/measure/parts/measurement.py", "checkpoints/measure/parts/nonnormality.py",
        "checkpoints/measure/parts/sinks.py", "checkpoints/measure/parts/value_output.py",
    ),
    "tests/checkpoints/network/test_families.py has every family": (
        "checkpoints/measure/value_maps.py",
    ),
    "tests/checkpoints/network/test_stand_ins.py and test_save.py change, save and open networks": (
        "checkpoints/network/memory_cache.py", "checkpoints/network/structure.py", "checkpoints/reduce/fit_memory.py",
    ),
    "tests/checkpoints/reduce/test_reduction.py measures what is saved": ("checkpoints/reduce/cost.py",),
}  # fmt: skip
EXCUSED = {module for modules in NO_MIRROR.values() for module in modules}


def sources() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "simulations").rglob("*.py")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache  # by two rules
def parse(text: str) -> ast.Module:
    return ast.parse(text)


def docstrings(tree: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first


def code_lines(text: str) -> int:
    """Lines that hold code; blank lines, comments and docstrings do not count, or the limit would reward terse ones.

    >>> code_lines('# why\\nx = 1\\n\\n\\ndef f():\\n    "what"\\n    return x\\n')
    3
    """
    silent = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    code = {line for t in tokens if t.type not in silent for line in range(t.start[0], t.end[0] + 1)}
    prose = {line for node in docstrings(parse(text)) for line in range(node.lineno, node.end_lineno + 1)}
    return len(code - prose)


def test_code_lines_leave_out_prose():
    assert code_lines('"""What.\n\nMore."""\n# why\nx = 1\n\n\ndef f():\n    "what"\n    return """a\nb"""\n') == 4


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_grows_into_two(path):
    assert code_lines(path.read_text(encoding="utf-8")) <= LONGEST_FILE


@pytest.mark.parametrize("path", sorted((ROOT / "simulations").glob("*.py")), ids=name_of)
def test_a_scene_is_a_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_SCENE


def test_scenes_are_numbered_without_a_hole():
    numbers = [int(path.name[:2]) for path in sorted((ROOT / "simulations").glob("[0-9][0-9]_*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))


def local_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Names that a file binds: assignments, loops, comprehensions, arguments, with-blocks."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_names_say_what_a_value_is(path):
    tree = parse(path.read_text(encoding="utf-8"))
    assert [(line, name) for line, name in local_names(tree) if name in SAYS_NOTHING] == []


@pytest.mark.parametrize("path", [*sources(), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=name_of)
def test_every_citation_can_be_opened(path):
    """The nine claims the project began with are stated in docs/origin.md and cited by their headings."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\bN[1-9]\b|\b[Tt]he notes\b", text) == []


PROSE = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.rst"), *ROOT.glob("*.md"), *ROOT.glob("*.toml")]
SCRIPTS = [
    ROOT / ".ci/run",
    ROOT / ".ci/lowest",
    *(ROOT / "findings").glob("*.sh"),
    *(PACKAGE / "report").rglob("*.js"),
]


@pytest.mark.parametrize("path", [*sources(), *sorted(PROSE), *sorted(SCRIPTS)], ids=name_of)
def test_no_merge_leaves_its_marks(path):
    """A page with both sides of a conflict is still a page, and nothing else would tell."""
    lines = path.read_text(encoding="utf-8").splitlines()
    marks = [f"{7 * sign} " for sign in "<>|"]
    assert [line for line in lines if line.startswith(tuple(marks))] == []


def mirror(path: Path) -> Path:
    """ctrlattn/stability/modes/regions.py -> tests/stability/modes/test_regions.py."""
    inner = path.relative_to(PACKAGE)
    return ROOT / "tests" / inner.parent / f"test_{inner.name}"


@pytest.mark.parametrize("path", [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py"], ids=name_of)
def test_every_module_has_a_mirror(path):
    inner = str(path.relative_to(PACKAGE))
    assert mirror(path).exists() != (inner in EXCUSED), f"write {name_of(mirror(path))}, or say in NO_MIRROR why not"


def test_reasons_are_for_modules_that_exist():
    assert [name for name in sorted(EXCUSED) if not (PACKAGE / name).exists()] == []
    files = [word for reason in NO_MIRROR for word in reason.split() if word.startswith("tests/")]
    assert [name for name in files if not (ROOT / name).exists()] == []
