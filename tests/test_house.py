"""The habits of the house: how long a file is, what its names are, where its test stands."""

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator
from functools import cache, partial
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ctrlattn"
LONGEST_FILE = 300  # lines of code
LONGEST_SCENE = 150  # lines of any kind: a scene is read from top to bottom
# Nouns and letters of the field say what a value is; these say only that there is one.
SAYS_NOTHING = {"found", "one", "kept", "drawn"}
# No value is called by what happened to it either.
HAPPENED = {
    "ran", "met", "handed", "taken", "swept", "crossed", "needed", "written", "called", "told", "turned", "what",
    "about", "nothing", "stood", "made", "asked", "moved", "refused", "there", "tried", "solved", "spent", "named",
}  # fmt: skip
# In the scenes and benchmarks neither by these. In the package some of them are arguments that others pass by name.
HAPPENED_IN_A_SCENE = {
    "own", "held", "given", "said", "seen", "shown", "left", "right", "wanted", "measured", "plain", "whole", "others",
    "outer", "known", "stored", "chosen", "used", "lost", "gone", "rest",
}  # fmt: skip
# Nor is a private function called by these: its name is a verb phrase, a question, or the noun of what it returns.
NO_FUNCTION = {
    "above", "achieved", "acting", "acts", "added", "again", "ahead", "alone", "along", "applied", "around", "as", "at",
    "back", "balanced", "better", "between", "beyond", "both", "built", "changed", "checked", "chosen", "clipped",
    "closed", "combined", "compared", "compiled", "computed", "confirmed", "converted", "copied", "damaged", "damped",
    "decided", "decomposed", "designed", "earlier", "ended", "existing", "explained", "far", "filled", "fixed", "gone",
    "given", "grouped", "held", "hidden", "highest", "imported", "is", "itself", "joined", "judged", "kept", "known",
    "last", "learned", "least", "left", "less", "like", "listed", "located", "lost", "lowered", "made", "masked",
    "matched", "measured", "merged", "most", "moved", "named", "new", "nothing", "observed", "of", "off", "on", "once",
    "only", "own", "padded", "passed", "plain", "polished", "predicted", "probed", "proved", "published", "pulled",
    "pushed", "ran", "rebuilt", "recalled", "recorded", "reduced", "refined", "refused", "remembered", "repeated",
    "replaced", "required", "reversed", "right", "rounded", "said", "sampled", "scaled", "seen", "settled", "shaped",
    "short", "shown", "solved", "spared", "squared", "started", "stored", "stripped", "suggested", "summed", "tested",
    "through", "together", "towards", "traced", "trained", "tried", "trimmed", "tuned", "unknown", "unsettled", "usual",
    "wanted", "what", "whole", "within", "without", "worst", "would", "wrapped", "written",
}  # fmt: skip
# The first word of a function's docstring says what the function does. A verb that is missing here may be added.
VERBS = {
    "Add", "Apply", "Average", "Balance", "Begin", "Bisect", "Bound", "Bring", "Build", "Call", "Change", "Check",
    "Choose", "Collect", "Compare", "Compute", "Continue", "Copy", "Correct", "Count", "Cut", "Decide", "Differentiate",
    "Do", "Draw", "Drop", "End", "Estimate", "Evaluate", "Fill", "Find", "Fit", "Follow", "Forecast", "Forget",
    "Gather", "Give", "Go", "Group", "Halve", "Hand", "Hide", "Hold", "Import", "Iterate", "Join", "Judge", "Keep",
    "Label", "Learn", "Leave", "Let", "Limit", "Linearise", "Live", "Load", "Lock", "Make", "Map", "Mark", "Measure",
    "Move", "Name", "Negate", "Open", "Pair", "Pass", "Plot", "Prepare", "Print", "Push", "Put", "Raise", "Read",
    "Rearrange", "Record", "Reduce", "Remember", "Remove", "Repeat", "Replace", "Return", "Run", "Say", "Search",
    "Send", "Set", "Shape", "Share", "Show", "Silence", "Simulate", "Solve", "Split", "Stack", "Steer", "Store",
    "Substitute", "Sum", "Summarise", "Sweep", "Take", "Tell", "Train", "Tune", "Turn", "Undo", "Update", "Use", "Warm",
    "Warn", "Word", "Wrap", "Write", "Yield",
}  # fmt: skip

# Modules without a test file of their own name, by the reason.
NO_MIRROR = {
    "tests/test_cli.py runs every command": (
        "__main__.py", "cli/analyze.py", "cli/compare.py", "cli/drop.py", "cli/listing.py", "cli/loop.py", "cli/new.py",
        "cli/observe.py", "cli/report.py", "cli/simulate.py", "cli/sweep.py", "cli/train.py",
    ),
    "tests/plots/test_plots.py and test_nonlinear_plots.py draw every picture from one table": (
        "plots/depth.py", "plots/design.py", "plots/lyapunov.py", "plots/plane.py", "plots/tokens.py",
    ),
    "the page that shows the picture is tested with it": (
        "plots/dropping.py", "plots/observers.py", "plots/reduction.py", "plots/trained_loops.py",
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
    "tests/observers/test_source.py reads the windows, and tests/test_refusals.py what is refused of them": (
        "observers/examples.py",
    ),
    "tests/observers/test_training.py trains with these settings": ("observers/settings.py",),
    "tests/checkpoints/network/test_repeat.py gives it spans and laws": ("checkpoints/network/repeated_span.py",),
    "tests/checkpoints/measure/test_profile.py holds the names to the parts": ("checkpoints/measure/part_names.py",),
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
        "checkpoints/measure/parts/exponents.py",
        "checkpoints/measure/parts/heads.py",
        "checkpoints/measure/parts/measurement.py",
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


def breaches(paths: Iterable[Path], rule: Callable[[str], object]) -> dict[str, object]:
    """What a rule finds in the text of each file, by the file's name; files without a breach are left out.

    One test judges all files: a test of each would take more time to start than to run.
    """
    judged = {name_of(path): rule(path.read_text(encoding="utf-8")) for path in paths}
    return {name: breach for name, breach in judged.items() if breach}


@cache  # by two rules
def nodes(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def docstrings(text: str) -> Iterator[ast.Expr]:
    for node in nodes(text):
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
    prose = {line for node in docstrings(text) for line in range(node.lineno, node.end_lineno + 1)}
    return len(code - prose)


def test_code_lines_leave_out_prose():
    assert code_lines('"""What.\n\nMore."""\n# why\nx = 1\n\n\ndef f():\n    "what"\n    return """a\nb"""\n') == 4


def beyond(lines: int, limit: int) -> str:
    return f"{lines} lines, at most {limit}" if lines > limit else ""


def test_a_breach_is_named_with_its_file():
    assert breaches([PACKAGE / "loop.py"], lambda text: beyond(2, 1)) == {"ctrlattn/loop.py": "2 lines, at most 1"}
    assert breaches([PACKAGE / "loop.py"], lambda text: beyond(1, 1)) == {}


def test_no_file_grows_into_two():
    long = [path for path in sources() if len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE]
    assert breaches(long, lambda text: beyond(code_lines(text), LONGEST_FILE)) == {}


def test_a_scene_is_a_page():
    scenes = (ROOT / "simulations").glob("*.py")
    assert breaches(scenes, lambda text: beyond(len(text.splitlines()), LONGEST_SCENE)) == {}


def test_scenes_are_numbered_without_a_hole():
    numbers = [int(path.name[:2]) for path in sorted((ROOT / "simulations").glob("[0-9][0-9]_*.py"))]
    assert numbers == list(range(1, len(numbers) + 1))


def local_names(text: str) -> Iterator[tuple[int, str]]:
    """Names that a file binds: assignments, loops, comprehensions, arguments, with-blocks."""
    for node in nodes(text):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        if isinstance(node, ast.arg):
            yield node.lineno, node.arg


def names_among(words: set[str], text: str) -> list[tuple[int, str]]:
    return [(line, name) for line, name in local_names(text) if name in words]


def test_names_say_what_a_value_is():
    assert names_among(SAYS_NOTHING, "x = 1\nfor kept in x:\n    pass") == [(2, "kept")]
    assert breaches(sources(), partial(names_among, SAYS_NOTHING)) == {}


def test_no_value_is_called_by_what_happened_to_it():
    assert sorted(names_among(HAPPENED, "def f(written):\n    told = written")) == [(1, "written"), (2, "told")]
    assert breaches(sources(), partial(names_among, HAPPENED)) == {}
    assert breaches((ROOT / "simulations").rglob("*.py"), partial(names_among, HAPPENED_IN_A_SCENE)) == {}


# Names of classes that stand in two files, by the reason.
SAME_CLASS = {
    "Spec": "public in two rooms: ctrlattn.design asks it of a loop, ctrlattn.sweep of a grid",
    "Stream": "public in two rooms: a loop token by token, and the earlier name of observers.SignalSource",
    "Realization": "matrices of a controller as a tuple, those of a whole system as a class with a time base",
    "_AssociativeMemory _BilateralFilter _CausalMean _FixedAttention _PID _SoftmaxAttention": (
        "the table of a TOML file has the name of the class that it makes"
    ),
}


def defined_types(text: str) -> tuple[list[str], list[str]]:
    """(classes, aliases of types) of a file; an underscore in front makes no other name."""
    classes = [node.name for node in nodes(text) if isinstance(node, ast.ClassDef)]
    targets = [node.targets[0] for node in nodes(text)[0].body if isinstance(node, ast.Assign)]  # of the module
    aliases = [node.id for node in targets if isinstance(node, ast.Name) and not node.id.isupper()]
    return [name.lstrip("_") for name in classes], [name.lstrip("_") for name in aliases]


def same_classes(paths: Iterable[Path]) -> dict[str, list[str]]:
    """Names that one file gives to a class, and another to a class or to an alias of a type; with the files."""
    classes: set[str] = set()
    places: dict[str, list[str]] = {}
    for path in paths:
        defined, aliases = defined_types(path.read_text(encoding="utf-8"))
        classes.update(defined)
        for name in (*defined, *aliases):
            places.setdefault(name, []).append(name_of(path))
    return {name: files for name, files in sorted(places.items()) if name in classes and len(files) > 1}


def test_a_class_name_is_defined_once_in_the_package():
    assert defined_types("Part = int\n\n\nclass _Law:\n    pass") == (["Law"], ["Part"])
    excused = {name.lstrip("_") for names in SAME_CLASS for name in names.split()}
    doubled = same_classes(PACKAGE.rglob("*.py"))
    assert {name: files for name, files in doubled.items() if name not in excused} == {}
    assert excused == set(doubled), "an exception that is none any more"


def empty_names(text: str) -> list[tuple[int, str]]:
    functions = [node for node in nodes(text) if isinstance(node, ast.FunctionDef) and node.name.startswith("_")]
    return [(node.lineno, node.name) for node in functions if node.name.strip("_") in NO_FUNCTION]


def test_the_name_of_a_function_says_what_it_does_or_returns():
    assert empty_names("def _moved():\n    pass\n\n\ndef _moved_loops():\n    pass") == [(1, "_moved")]
    assert breaches(PACKAGE.rglob("*.py"), empty_names) == {}


def is_property(node: ast.FunctionDef) -> bool:
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def openings(text: str) -> list[tuple[int, str]]:
    """First lines of functions' docstrings that open neither with a verb nor with an equation; properties may."""
    functions = [node for node in nodes(text) if isinstance(node, ast.FunctionDef) and not is_property(node)]
    lines = [(node.lineno, (ast.get_docstring(node) or "Return").splitlines()[0]) for node in functions]
    return [(number, line) for number, line in lines if line.split()[0].rstrip(",") not in VERBS and " = " not in line]


def test_the_docstring_of_a_function_opens_with_a_verb():
    text = 'def f():\n    """The norm."""\n\n\ndef g():\n    """Return the norm."""\n\n\ndef h():\n    """h = 2"""'
    assert openings(text + '\n\n\n@property\ndef k():\n    """The norm."""') == [(1, "The norm.")]
    assert breaches(PACKAGE.rglob("*.py"), openings) == {}


def test_every_citation_can_be_opened():
    """The nine claims the project began with are stated in docs/origin.md and cited by their headings."""
    paths = [*sources(), *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
    assert breaches(paths, re.compile(r"\bN[1-9]\b|\b[Tt]he notes\b").findall) == {}


PROSE = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs").rglob("*.rst"), *ROOT.glob("*.md"), *ROOT.glob("*.toml")]
SCRIPTS = [
    ROOT / ".ci/run",
    ROOT / ".ci/lowest",
    *(ROOT / "findings").glob("*.sh"),
    *(PACKAGE / "report").rglob("*.js"),
]


def merge_marks(text: str) -> list[str]:
    marks = tuple(f"{7 * sign} " for sign in "<>|")
    return [line for line in text.splitlines() if line.startswith(marks)]


def test_no_merge_leaves_its_marks():
    """A page with both sides of a conflict is still a page, and nothing else would tell."""
    assert len(merge_marks(f"a\n{7 * '<'} ours\nb\n{7 * '>'} theirs\n")) == 2
    assert breaches([*sources(), *PROSE, *SCRIPTS], merge_marks) == {}


def mirror(path: Path) -> Path:
    """ctrlattn/stability/modes/regions.py -> tests/stability/modes/test_regions.py."""
    inner = path.relative_to(PACKAGE)
    return ROOT / "tests" / inner.parent / f"test_{inner.name}"


def test_every_module_has_a_mirror():
    """Its mirror is to be written, or its reason in NO_MIRROR is to be deleted."""
    paths = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]
    alone = [path for path in paths if mirror(path).exists() == (str(path.relative_to(PACKAGE)) in EXCUSED)]
    assert [name_of(mirror(path)) for path in alone] == [], "write it, or say in NO_MIRROR why not"


def test_reasons_are_for_modules_that_exist():
    assert [name for name in sorted(EXCUSED) if not (PACKAGE / name).exists()] == []
    files = [word for reason in NO_MIRROR for word in reason.split() if word.startswith("tests/")]
    assert [name for name in files if not (ROOT / name).exists()] == []
