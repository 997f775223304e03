"""The documentation site: `python -m sphinx -W --keep-going docs site`. It needs no network."""

import importlib
import inspect
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import ctrlattn

sys.path.insert(0, str(Path(__file__).parent))
from outline import outlines

project, author = "ctrlattn", "the ctrlattn team"
copyright = "the ctrlattn team, Apache-2.0"
version = release = ctrlattn.__version__

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_templates", "site", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "ctrlattn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_show_sourcelink = False
html_sidebars = {"faq": []}  # a page without others beside it

# Pages with code cells are run in the build; an error in one stops it.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars of other libraries
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say types and shapes
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

# A room, its words, and where its public names are.
ROOMS = {
    "automaton": ("The automaton", ("predictors", "controllers", "normalizers", "loop", "streaming", "presets")),
    "linear": ("Linear systems of a loop", ("linear",)),
    "stability": ("Stability and robustness", ("stability",)),
    "frequency": ("Frequency over depth", ("frequency",)),
    "design": ("Design of controllers", ("design",)),
    "looped": ("Looped networks", ("looped",)),
    "exchange": ("Systems of other tools", ("exchange",)),
    "checkpoints": ("Real checkpoints", ("checkpoints",)),
    "nn": ("Modules with a controller, and training", ("nn",)),
    "observers": ("Dictionaries of features", ("observers",)),
    "sweep": ("Sweeps", ("sweep",)),
    "plots": ("Plots", ("plots",)),
    "files": (
        "Configuration, recordings and results",
        ("config", "signals", "results", "netcdf", "tables", "memory", "errors"),
    ),
}


LITERAL = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|$"})  # equations are no markup
OUTSIDE = ("changelog", "contributing")  # pages of the top folder that the site has too


def public_names(module_name: str) -> list[str]:
    """What a module offers: its `__all__`, or what it defines without a leading underscore; no modules."""
    module = importlib.import_module(f"ctrlattn.{module_name}")
    own = [
        name
        for name, item in vars(module).items()
        if not name.startswith("_")
        and getattr(item, "__module__", "") in {module.__name__, "ctrlattn" * (module_name == "errors")}
    ]
    listed = sorted(set(getattr(module, "__all__", own)))
    return [name for name in listed if inspect.isclass(getattr(module, name)) or callable(getattr(module, name))]


def every_file() -> str:
    """The page that says of each file what it is about and what it defines, under the folder that it stands in."""
    text = "# Every file\n\nWhat it is about, and the constants, functions and classes that it defines.\n"
    folder = None
    for path, about, names in outlines():
        if path.parent != folder:
            folder = path.parent
            text += f"\n## {'ctrlattn' / folder}\n\n"
        text += f"- `{path.name}`: {about.translate(LITERAL)}\n"
        text += "".join(f"  - {name.translate(LITERAL)}\n" for name in names)
    return text


def write_reference(folder: Path) -> None:
    """One page for each room, with a table of its public names."""
    shutil.rmtree(folder, ignore_errors=True)  # names that are gone leave no page
    folder.mkdir()
    pages = []
    for room, (title, modules) in ROOMS.items():
        lines = [title, "=" * len(title), ""]
        for module_name in modules:
            lines += [f".. currentmodule:: ctrlattn.{module_name}", ""]
            if len(modules) > 1:
                lines += [f"``ctrlattn.{module_name}``", "-" * (len(module_name) + 13), ""]
            lines += [".. autosummary::", "   :toctree: generated", "   :nosignatures:", ""]
            lines += [f"   {name}" for name in public_names(module_name)] + [""]
        (folder / f"{room}.rst").write_text("\n".join(lines), encoding="utf-8")
        pages.append(f"   {room}")
    for name in OUTSIDE:
        text = (folder.parent.parent / f"{name.upper()}.md").read_text(encoding="utf-8").replace("](docs/", "](../")
        for other in OUTSIDE:
            text = text.replace(f"]({other.upper()}.md", f"]({other}.md")
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / "every_file.md").write_text(every_file(), encoding="utf-8")
    pages.append("   every_file")
    head = ["API reference", "=============", "", "Every public name, room by room, and what stands in which file.", ""]
    head += [".. toctree::", "   :maxdepth: 1", ""]
    (folder / "index.rst").write_text("\n".join([*head, *pages, ""]), encoding="utf-8")


def plain_text(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are written for a terminal: |S| is no substitution, J* no emphasis, a drawn loop no paragraph."""
    text: list[str] = []
    drawing = False
    for line in lines:
        drawn = bool(set(line) & set("─│┐┘┌└►▼▲")) and "|" not in line
        if drawn and not drawing:
            text += ["", ".. code-block:: text", ""]
        if drawing and not drawn:
            text.append("")
        drawing = drawn
        text.append("   " + line if drawn else line if line.lstrip().startswith((">>>", "...")) else escaped(line))
    lines[:] = text


def escaped(line: str) -> str:
    """A line with | and * as they are, outside of `code`."""
    parts = line.split("`")
    parts[::2] = [re.sub(r"(?<!\*)(?<!^)\*(?!\*)|\|", lambda m: "\\" + m[0], part) for part in parts[::2]]
    return "`".join(parts)


def inside(app: Any, page: str, source: list[str]) -> None:
    """Links to the pages of the top folder lead to their copies in the site."""
    up = "" if page.startswith("reference/") else "../" * page.count("/") + "reference/"
    for name in OUTSIDE:
        source[0] = re.sub(rf"\((\.\./)+{name.upper()}\.md", f"({up}{name}.md", source[0])


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", inside)
    app.connect("autodoc-process-docstring", plain_text, priority=100)


write_reference(Path(__file__).parent / "reference")
