"""The habits of the house: how long a file is, what its names are, where its test stands."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ctrlattn"
LONGEST_FILE = 300  # lines of code
LONGEST_SCENE = 150  # lines of any kind: a scene is read from top to bottom
# Nouns and letters of the field say what a value is; these say only that there is one.
SAYS_NOTHING = {"found", "one", "kept", "drawn"}

# Modules without a test file of their own name, and the reason.
NO_MIRROR: dict[str, str] = {}


def sources() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(ROOT / "simulations").rglob("*.py")])


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


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
    prose = {line for node in docstrings(ast.parse(text)) for line in range(node.lineno, node.end_lineno + 1)}
    return len(code - prose)


def test_code_lines_leave_out_prose():
    assert code_lines('"""What.\n\nMore."""\n# why\nx = 1\n\n\ndef f():\n    "what"\n    return """a\nb"""\n') == 4


@pytest.mark.parametrize("path", sources(), ids=name_of)
def test_no_file_grows_into_two(path):
    assert code_lines(path.read_text(encoding="utf-8")) <= LONGEST_FILE


@pytest.mark.parametrize("path", sorted((ROOT / "simulations").glob("[0-9][0-9]_*.py")), ids=name_of)
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
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [(line, name) for line, name in local_names(tree) if name in SAYS_NOTHING] == []


@pytest.mark.parametrize("path", [*sources(), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md"], ids=name_of)
def test_every_citation_can_be_opened(path):
    """The nine claims the project began with are stated in docs/origin.md and cited by their headings."""
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"\bN[1-9]\b|\b[Tt]he notes\b", text) == []


def mirror(path: Path) -> Path:
    """ctrlattn/stability/modes/regions.py -> tests/stability/modes/test_regions.py."""
    inner = path.relative_to(PACKAGE)
    return ROOT / "tests" / inner.parent / f"test_{inner.name}"


@pytest.mark.parametrize("path", [p for p in sorted(PACKAGE.rglob("*.py")) if p.name != "__init__.py"], ids=name_of)
def test_every_module_has_a_mirror(path):
    inner = str(path.relative_to(PACKAGE))
    assert mirror(path).exists() != (inner in NO_MIRROR), f"write {name_of(mirror(path))}, or say in NO_MIRROR why not"


def test_reasons_are_for_modules_that_exist():
    assert [name for name in NO_MIRROR if not (PACKAGE / name).exists()] == []
