"""Full runs of the scenes -> docs/gallery.md with their pictures: what each shows, what it does not, and its verdict.

    for scene in simulations/[0-9][0-9]_*.py; do python "$scene" --full --out out/full; done
    python simulations/gallery.py out/full            # rewrite the page and copy the pictures
    python simulations/gallery.py --check             # exit 1 if a scene's own words have changed since

A scene that was not run keeps its picture and verdict from the page.
"""

import argparse
import ast
import json
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "gallery.md"
PICTURES = HERE.parent / "docs" / "images" / "gallery"
HEAD = """# Gallery

Every scene of `simulations/` at full size: its own words, its picture, and the verdict that it printed. The page is
written by `simulations/gallery.py` from the results of `python simulations/NN_name.py --full --out DIR`; the numbers
behind a picture are in the JSON file that the scene writes beside it.
"""
LINES = 80  # of a verdict; a scene begins with its claims
VERDICT = re.compile(r"<!-- verdict: (\w+) -->\n(.*?)<!-- end -->", re.DOTALL)


class Scene(NamedTuple):
    """A script NN_name.py, and the first line and the paragraphs of its docstring."""

    number: str
    name: str
    equation: str
    paragraphs: list[str]


def scenes() -> list[Scene]:
    """All scenes in their order."""
    return [_scene(path) for path in sorted(HERE.glob("[0-9][0-9]_*.py"))]


def _scene(path: Path) -> Scene:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    equation, *paragraphs = re.split(r"\n\s*\n", text)
    # The indented paragraph is the command line, which the page gives in its own form.
    kept = [paragraph for paragraph in paragraphs if not paragraph.startswith("    ")]
    return Scene(path.stem[:2], path.stem[3:], equation, kept)


def told(page: str) -> dict[str, str]:
    """Verdicts that a page holds, by scene."""
    return dict(VERDICT.findall(page))


def verdict(folder: Path, name: str) -> str | None:
    """The lines that a scene left in `folder`, and its table if it left one; None where it was not run."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    numbers = json.loads(path.read_text(encoding="utf-8"))
    lines = numbers["verdict"]
    rest = [f"... and {len(lines) - LINES} lines more in {name}.json"] if len(lines) > LINES else []
    told = "```text\n" + "".join(f"{line}\n" for line in (*lines[:LINES], *rest)) + "```\n"
    return told + _table(*numbers.get("table", ((), ())))


def _table(head, rows) -> str:
    """A Markdown table; nothing where there are no rows."""
    if not rows:
        return ""
    lines = (head, ["---"] * len(head), *rows)
    return "\n" + "".join("| " + " | ".join(_shown(str(cell)) for cell in line) + " |\n" for line in lines)


def _shown(text: str) -> str:
    """Markdown takes `<` for the beginning of a tag."""
    return text.replace("&", "&amp;").replace("<", "&lt;")


def page(verdicts: dict[str, str]) -> str:
    """The whole page; a scene without verdict says so."""
    return HEAD + "".join(_entry(scene, verdicts.get(scene.name, "Not yet run at full size.\n")) for scene in scenes())


def _entry(scene: Scene, lines: str) -> str:
    title = f"{scene.number} {scene.name.replace('_', ' ').capitalize()}"
    words = "\n\n".join(_shown(paragraph) for paragraph in scene.paragraphs)
    picture = f"![{title}](images/gallery/{scene.name}.png)"
    command = f"`python simulations/{scene.number}_{scene.name}.py --full --out DIR`"
    equation = f"```text\n{scene.equation}\n```"
    marked = f"<!-- verdict: {scene.name} -->\n{lines}<!-- end -->"
    return f"\n## {title}\n\n{equation}\n\n{words}\n\n{picture}\n\n{command} says:\n\n{marked}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where the scenes left their results")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    arguments = parser.parse_args()
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if arguments.check:
        if page(told(old)) != old:
            sys.exit("docs/gallery.md is out of date: run python simulations/gallery.py DIR")
        return
    if arguments.folder is None or not arguments.folder.is_dir():
        sys.exit("give the folder in which the scenes left their results")
    found = {scene.name: lines for scene in scenes() if (lines := verdict(arguments.folder, scene.name)) is not None}
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in found:
        shutil.copyfile(arguments.folder / f"{name}.png", PICTURES / f"{name}.png")
    PAGE.write_text(page(told(old) | found), encoding="utf-8")
    print(f"docs/gallery.md: {', '.join(found) or 'no results found'}")


if __name__ == "__main__":
    main()
