"""Full runs of the scenes -> docs/gallery.md: what each asks, how it is judged, what it shows, and what it does not.

    for scene in simulations/[0-9][0-9]_*.py; do python "$scene" --full --out out/full; done
    python simulations/gallery.py out/full            # keep the results, copy the pictures, rewrite the page
    python simulations/gallery.py --check             # exit 1 if the page is not what scenes and results say

Everything that a scene printed is kept in simulations/results/gallery/NAME.json; the page shows twelve rows of it.
"""

import argparse
import ast
import json
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from stage.gallery_table import table
from stage.page_file import marked, plain
from stage.statistics import recomputed, stored_intervals

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "gallery.md"
PICTURES = HERE.parent / "docs" / "images" / "gallery"
RESULTS = HERE / "results" / "gallery"
SHARED = {"drop": "../dropping.png"}  # pictures that another page shows too, relative to PICTURES
HEAD = """# Gallery

Every scene of `simulations/` at full size: its question, its plan, its control and its power, what it shows, what it
does not show, a picture and a table. *Plan* says what was fixed before the runs, and where. *Control* says what could
have refuted a claim, and what shows that the test finds what it looks for. *Power* says how small an effect the
intervals would have shown; "known to ±x" is half of a 95 % interval. The page is written by `simulations/gallery.py`
from the results of `python simulations/NN_name.py --full --out DIR`. A table has at most twelve rows; everything that a
scene printed is in the file named below it.
"""
KEPT = ("run", "options", "verdict", "table", "layers")
WHOLE = {"feedback_sign"}  # kept whole in results/NAME.json, where intervals and values stand alone
MARK = "do not edit: written by simulations/gallery.py from a full run of the scene"


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
    # What is indented are commands, which the page tells in another form.
    prose = [paragraph for paragraph in paragraphs if not paragraph.startswith("    ")]
    return Scene(path.stem[:2], path.stem[3:], equation, prose)


def page() -> str:
    """The whole page, from the scenes' own words and their kept results."""
    return HEAD + "".join(_entry(scene) for scene in scenes())


def _entry(scene: Scene) -> str:
    title = f"{scene.number} {scene.name.replace('_', ' ').capitalize()}"
    words = "\n\n".join(marked(plain(paragraph)) for paragraph in scene.paragraphs)
    picture = f"![{title}](images/{SHARED.get(scene.name, f'../gallery/{scene.name}.png').removeprefix('../')})"
    numbers = json.loads((RESULTS / f"{scene.name}.json").read_text(encoding="utf-8"))
    command = f"`python simulations/{scene.number}_{scene.name}.py {numbers.get('options', '--full')} --out DIR`"
    rows = table(scene.name, numbers)
    below = f"From {command}; all of it is in [{scene.name}.json](../simulations/results/gallery/{scene.name}.json)."
    return f"\n## {title}\n\n```text\n{scene.equation}\n```\n\n{words}\n\n{picture}\n\n{rows}\n{below}\n"


def keep(folder: Path, name: str) -> bool:
    """Take the verdict, the table and the picture of a scene that was run into `folder`; False where it was not."""
    source = folder / f"{name}.json"
    if not source.exists():
        return False
    numbers = json.loads(source.read_text(encoding="utf-8"))
    facts = {"generated": MARK, **{key: numbers[key] for key in KEPT if key in numbers}}
    rows_by_place = {} if name in WHOLE else intervals(numbers)  # an interval a line, since its values may be many
    rows = [f"  {json.dumps(at, ensure_ascii=False)}: {json.dumps(row)}" for at, row in rows_by_place.items()]
    facts_text = json.dumps(facts, ensure_ascii=False, indent=1).removesuffix("\n}")
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = facts_text + ',\n "intervals": {\n' + ",\n".join(rows) + "\n }\n}\n"
    (RESULTS / f"{name}.json").write_text(text, encoding="utf-8")
    if name in WHOLE:
        shutil.copyfile(source, RESULTS.parent / source.name)
    shutil.copyfile(folder / f"{name}.png", PICTURES / SHARED.get(name, f"{name}.png"))
    return True


def intervals(numbers: dict) -> dict:
    """{place: interval} of every interval of a scene that carries what it was computed from."""
    return {place: row for place, row in stored_intervals(numbers) if recomputed(row) is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="where the scenes left their results")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page is out of date")
    arguments = parser.parse_args()
    if arguments.check:
        late = page() != PAGE.read_text(encoding="utf-8")
        sys.exit("docs/gallery.md is out of date: run python simulations/gallery.py DIR" if late else 0)
    if arguments.folder is None or not arguments.folder.is_dir():
        sys.exit("give the folder in which the scenes left their results")
    PICTURES.mkdir(parents=True, exist_ok=True)
    new = [scene.name for scene in scenes() if keep(arguments.folder, scene.name)]
    PAGE.write_text(page(), encoding="utf-8")
    print(f"docs/gallery.md: {', '.join(new) or 'no new results'}")


if __name__ == "__main__":
    main()
