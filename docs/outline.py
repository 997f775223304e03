"""Each file of the package with what it is about and what it defines: `python docs/outline.py [WORD]`

The site has it as a page. WORD keeps the files whose line holds it, in any case.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parent.parent / "ctrlattn"


class Outline(NamedTuple):
    """One file."""

    path: Path  # relative to the folder of the package
    about: str  # first line of its docstring
    names: tuple[str, ...]  # constants, functions, classes with their methods, each with what it is about

    def __str__(self) -> str:
        return f"{self.path.as_posix()}: {self.about}  [{'; '.join(self.names)}]"


def outlines(package: Path = PACKAGE) -> list[Outline]:
    """All files of a package that are not empty, in the order of their paths.

    >>> next(outline.about for outline in outlines() if outline.path == Path("errors.py"))
    'Bad input is an InputError that says what is wrong, where, and what would be right; everything else is a bug.'
    """
    return [_outline(path, package) for path in sorted(package.rglob("*.py")) if path.stat().st_size]


def _outline(path: Path, package: Path) -> Outline:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return Outline(path.relative_to(package), _about(tree), tuple(_names(tree)))


def _about(node: ast.Module | ast.ClassDef | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0]


def _named(node: ast.ClassDef | ast.FunctionDef) -> str:
    return f"{node.name}: {_about(node)}".removesuffix(": ")


def _names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        match node:
            case ast.FunctionDef():
                yield _named(node)
            case ast.ClassDef(body=body):
                own = [_named(item) for item in body if isinstance(item, ast.FunctionDef) and item.name[:2] != "__"]
                yield f"{_named(node)} ({'; '.join(own)})" if own else _named(node)
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                if not name.startswith("__"):
                    yield name


if __name__ == "__main__":
    word = " ".join(sys.argv[1:]).lower()
    print(*(outline for outline in outlines() if word in str(outline).lower()), sep="\n")
