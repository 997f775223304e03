"""The walls of docs/architecture.md: who may import whom, what no file may do, and what every test must do."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ctrlattn

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "ctrlattn"

# A room imports from its own step or from steps above it, never from below.
FLOW = (
    (
        "errors",
        "lazy",
        "progress",
        "processes",
        "arrays",
        "values",
        "diagram",
        "showing",
        "files",
        "identity",
        "provenance",
        "parsing",
        "capacity",
        "perplexity",
        "devices",
        "kernels",
    ),
    ("predictors", "controllers", "normalizers", "tracking", "passes"),
    ("sequential", "recording"),
    ("loop",),
    ("streaming", "presets", "memory", "config", "netcdf", "tables", "results", "signals"),
    ("linear",),
    ("stability",),
    ("frequency",),
    ("design",),
    ("looped", "exchange"),
    ("checkpoints", "nn"),
    ("observers",),
    ("sweep",),
    ("plots",),
    ("report", "cli"),
)
STEP = {room: step for step, rooms in enumerate(FLOW) for room in rooms}

# The same inside a room: a sub-room imports from its own step or from steps above it, and from the room's own files.
SUB_FLOW = {
    "stability": (("modes", "nonnormal", "motion"), ("robustness",)),
    "checkpoints": (("trace",), ("network",), ("measure",), ("reduce",)),
    "nn": (("modules",), ("experiment",)),
    "report": (("explorer",), ("pages",)),
}
SUB_STEP = {(room, sub): step for room, steps in SUB_FLOW.items() for step, subs in enumerate(steps) for sub in subs}
OWN_FILES = -1  # of a room with sub-rooms: what they share

# Loaded with the module: elsewhere the import stands inside the function that needs it.
WALLS_AT_MODULE_LEVEL = {
    "torch": {"nn", "checkpoints", "observers"},
    "control": {"linear", "stability", "frequency", "design"},
    "transformers": {"checkpoints"},
}
# Nowhere else, not even inside a function.
WALLS = {
    "matplotlib": {"plots"},
    "numba": {"kernels"},
    "typer": {"cli"},
    "transformers": {"checkpoints"},
    "jinja2": {"report"},
    "plotly": {"report"},
    "pydantic": {"config", "cli"},
    "distributed": {"sweep"},
    "dask": {"sweep"},
}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
SIGNAL_ROOMS = ("predictors", "controllers", "normalizers", "tracking", "passes", "sequential", "loop")
RECORDS = {"Trajectory", "Margins"}  # made by simulate and margins, whose examples show them


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def scripts() -> list[Path]:
    return sorted((ROOT / "simulations").rglob("*.py"))


def suite() -> list[Path]:
    return sorted((ROOT / "tests").rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache  # each file is read by six rules
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), name_of(path))


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(parse(path)))


@cache
def imports_of(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    return list(imports(parse(path)))


def breaches(paths: Iterable[Path], rule: Callable[[Path], Iterable[object]]) -> dict[str, list[object]]:
    """What a rule finds in each file, by the file's name; files without a breach are left out.

    One test judges all files: a test of each would take more time to start than to run.
    """
    judged = {name_of(path): list(rule(path)) for path in paths}
    return {name: breach for name, breach in judged.items() if breach}


def room_of(path: Path) -> str:
    """ctrlattn/loop.py -> loop, ctrlattn/plots/style.py -> plots, ctrlattn/__init__.py -> ""."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first in ("__init__", "__main__") else first


def called(node: ast.Call) -> str:
    """The last name of what is called: f(), a.f() -> f."""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(node: ast.AST, *, top: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import that runs, and whether it runs when the module is loaded."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, top
        elif _is_type_checking(child):
            continue
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports(child, top=top and not inside)


def libraries(node: ast.Import | ast.ImportFrom) -> set[str]:
    names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return {name.split(".")[0] for name in names}


def rooms_imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Rooms of ctrlattn behind an import; a public name counts as its room, __version__ as none."""
    if isinstance(node, ast.Import):
        dotted = [alias.name.split(".") for alias in node.names]
        return {parts[1] for parts in dotted if parts[0] == "ctrlattn" and len(parts) > 1}
    parts = (node.module or "").split(".")
    if parts[0] != "ctrlattn":
        return set()
    if len(parts) > 1:
        return {parts[1]}
    names = {alias.name for alias in node.names} - {"__version__"}
    return {ctrlattn._HOME.get(name, name).split(".")[0] for name in names}


def without_place_or_words(path: Path) -> Iterator[str]:
    if room_of(path) not in {*STEP, ""}:
        yield "give it a place in FLOW and in docs/architecture.md"
    if not (ast.get_docstring(parse(path)) or "").strip():
        yield "the first line of a module is its equation, or what it is"


def test_every_module_has_a_room_and_says_what_it_is():
    assert breaches(modules(), without_place_or_words) == {}


def imports_backwards(path: Path) -> Iterator[str]:
    room = room_of(path)
    for node, _ in imports_of(path):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"line {node.lineno}: relative import"
        for other in rooms_imported(node):
            if room != "" and STEP[other] > STEP[room]:
                yield f"line {node.lineno}: {room} imports {other}"


def test_imports_never_run_backwards():
    assert breaches(modules(), imports_backwards) == {}


def test_the_page_shows_the_same_flow():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"```text\n(errors .*?)```", page, re.DOTALL)[1]
    drawn = [set(re.split(r"\s{3,}", line)[0].split()) for line in drawing.splitlines()]
    assert drawn == [set(rooms) for rooms in FLOW]


def test_the_page_shows_the_same_sub_rooms():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawing = re.search(r"```text\n(stability/ .*?)```", page, re.DOTALL)[1]
    drawn: dict[str, list[set[str]]] = {}
    for line in drawing.splitlines():
        room, subs = re.fullmatch(r"(\w+)/\s+(.*)", line).groups()
        drawn[room] = [set(step.split()) for step in subs.split(" -> ")]
    assert drawn == {room: [set(subs) for subs in steps] for room, steps in SUB_FLOW.items()}


def dotted(path: Path) -> str:
    """ctrlattn/loop.py -> ctrlattn.loop, ctrlattn/plots/__init__.py -> ctrlattn.plots."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path): path for path in modules()}


def modules_imported(node: ast.Import | ast.ImportFrom) -> set[str]:
    """Modules of ctrlattn behind an import; a name counts as the module that it is imported from."""
    if isinstance(node, ast.Import):
        wanted = [alias.name for alias in node.names]
    else:
        wanted = [f"{node.module}.{alias.name}" for alias in node.names]
    return {_module(name) for name in wanted if name.split(".")[0] == "ctrlattn"}


def _module(name: str) -> str:
    while name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def sub_room(module: str) -> str | None:
    """ctrlattn.stability.modes.regions -> modes; None for a module without a room that has sub-rooms."""
    parts = module.split(".")
    return parts[2] if len(parts) > 3 and parts[1] in SUB_FLOW else None


def imports_upwards(path: Path) -> Iterator[str]:
    module = dotted(path)
    room = room_of(path)
    if room not in SUB_FLOW or path.name == "__init__.py":  # an __init__ hands on public names
        return
    step = SUB_STEP.get((room, sub_room(module) or ""), OWN_FILES)
    if sub_room(module) is not None and step == OWN_FILES:
        yield "give it a place in SUB_FLOW"
    for node, _ in imports_of(path):
        for other in modules_imported(node):
            if other.split(".")[1:2] != [room] or MODULES[other].name == "__init__.py":
                continue
            above = SUB_STEP.get((room, sub_room(other) or ""), OWN_FILES)
            if above > step:
                yield f"line {node.lineno}: {module} imports {other}"


def test_sub_rooms_import_downwards():
    assert breaches(modules(), imports_upwards) == {}


def test_modules_do_not_import_in_circles():
    """Nor inside functions; an __init__ that hands on public names is no part of a circle."""
    plain = {name: path for name, path in MODULES.items() if path.name != "__init__.py"}
    graph = {
        name: {other for node, _ in imports_of(path) for other in modules_imported(node)} & set(plain) - {name}
        for name, path in plain.items()
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(plain)  # raises CycleError


def loaded_with(name: str) -> set[str]:
    """The modules of ctrlattn that an import of one runs, with the packages that they are in."""
    loaded: set[str] = set()
    waiting = [name]
    while waiting:
        parts = waiting.pop().split(".")
        for module in (".".join(parts[: i + 1]) for i in range(len(parts))):
            if module not in loaded:
                loaded.add(module)
                runs = (node for node, top in imports_of(MODULES[module]) if top)
                waiting += [other for node in runs for other in modules_imported(node)]
    return loaded


@pytest.mark.parametrize("room", ["checkpoints", "observers"])
def test_a_network_is_described_without_the_rooms_of_control(room):
    """python-control brings matplotlib and scipy.stats: half of the time that a refusal took."""
    public = ast.walk(parse(MODULES[f"ctrlattn.{room}"]))  # its names load on first use, and stand there for types
    files = [node.module for node in public if isinstance(node, ast.ImportFrom) and node.module in MODULES]
    rooms = {room_of(MODULES[module]) for file in files for module in loaded_with(file)}
    assert "checkpoints" in rooms
    assert not rooms & {"linear", "stability", "frequency", "design", "plots", "report"}


def beyond_walls(path: Path) -> Iterator[str]:
    room = room_of(path)
    for node, at_module_level in imports_of(path):
        for library in libraries(node):
            allowed = WALLS.get(library, {room})
            if at_module_level:
                allowed = allowed & WALLS_AT_MODULE_LEVEL.get(library, {room})
            if room not in allowed:
                yield f"line {node.lineno}: {library} belongs to {sorted(allowed)}"


def test_libraries_stay_behind_their_walls():
    assert breaches(modules(), beyond_walls) == {}


def printing(path: Path) -> Iterator[int]:
    return (node.lineno for node in nodes(path) if isinstance(node, ast.Call) and called(node) == "print")


def test_only_the_command_line_prints():
    assert breaches([path for path in modules() if room_of(path) != "cli"], printing) == {}


def unsafe(node: ast.AST) -> str | None:
    """Why a node is not allowed anywhere, or None."""
    if isinstance(node, ast.Import | ast.ImportFrom) and libraries(node) & UNSAFE_MODULES:
        return "unpickling runs code"
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec", "compile", "__import__"}:
        return f"{node.func.id} runs text as code"
    dotted = ast.unparse(node.func)
    if dotted in {"os.system", "os.popen", "subprocess.getoutput"}:
        return f"{dotted} runs a shell"
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if dotted == "torch.load" and given.get("weights_only") != "True":
        return "torch.load needs weights_only=True"
    for name in ("shell", "trust_remote_code", "allow_pickle"):
        if given.get(name, "False") != "False":
            return f"{name}={given[name]}"
    return None


def unsafe_lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((node.lineno, why) for node in nodes(path) if (why := unsafe(node)))


def test_nothing_runs_foreign_code():
    assert breaches([*modules(), *scripts()], unsafe_lines) == {}


# Modules that look at every name in a folder, and why; all others ask ctrlattn.files.visible.
EVERY_NAME = {
    "ctrlattn/devices.py": "looks for the drivers of a system",
    "ctrlattn/files.py": "removes what a killed process has left",
    "ctrlattn/identity.py": "looks for results",
    "ctrlattn/checkpoints/network/save.py": "removes what it has written",
}


def folders_listed(path: Path) -> Iterator[tuple[int, str]]:
    for node in nodes(path):
        if isinstance(node, ast.Attribute) and node.attr in {"glob", "rglob", "iterdir", "listdir", "scandir"}:
            yield node.lineno, "hidden files are listed as well: take ctrlattn.files.visible"


def test_no_hidden_file_is_taken_for_one_of_the_user():
    assert set(breaches(modules(), folders_listed)) == set(EVERY_NAME)


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "eval('1')",
        "run(c, shell=True)",
        "load(m, trust_remote_code=x)",
        "torch.load(f)",
        "os.system(c)",
    ],
)
def test_the_unsafe_is_recognised(line):
    assert any(unsafe(node) for node in ast.walk(ast.parse(line)))


def in_place(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Operations that would overwrite a signal and break its gradient."""
    for child in ast.iter_child_nodes(node):
        # Coefficients of a small numpy matrix, which no gradient passes through.
        if isinstance(child, ast.FunctionDef) and child.name == "realization":
            continue
        if isinstance(child, ast.AugAssign):
            yield child.lineno, ast.unparse(child)
        if isinstance(child, ast.Assign) and any(isinstance(target, ast.Subscript) for target in child.targets):
            yield child.lineno, ast.unparse(child)
        if isinstance(child, ast.Call) and (
            re.fullmatch(r"[a-z]\w*[a-z0-9]_", called(child)) or "out" in {keyword.arg for keyword in child.keywords}
        ):
            yield child.lineno, ast.unparse(child)
        yield from in_place(child)


def test_every_signal_room_exists():
    assert {room_of(path) for path in modules()} >= set(SIGNAL_ROOMS)


def test_signals_are_never_overwritten():
    signals = [path for path in modules() if room_of(path) in SIGNAL_ROOMS]
    assert breaches(signals, lambda path: in_place(parse(path))) == {}


@pytest.mark.parametrize("line", ["x += 1", "x[0] = y", "x.add_(y)", "np.add(x, y, out=x)"])
def test_overwriting_is_recognised(line):
    assert list(in_place(ast.parse(line)))


@pytest.mark.parametrize("name", ctrlattn.__all__)
def test_public_names_resolve_and_are_documented(name):
    public = getattr(ctrlattn, name)
    text = public.__doc__ or ""
    assert text.strip(), f"{name} has no docstring"
    is_module = name in ctrlattn._MODULES
    assert is_module or name in RECORDS or ">>>" in text, f"{name} has no example"


def asserting(path: Path) -> set[str]:
    """Functions of a file that assert, raise, or call one that does."""
    calls: dict[str, set[str]] = {}
    found: set[str] = set()
    for function in (node for node in nodes(path) if isinstance(node, ast.FunctionDef)):
        names = calls[function.name] = set()
        for node in ast.walk(function):
            if isinstance(node, ast.Call):
                names.add(called(node))
            elif isinstance(node, ast.Assert):
                found.add(function.name)
    found |= {name for name, names in calls.items() if any(_asserts(called_name) for called_name in names)}
    while more := {name for name, names in calls.items() if names & found} - found:
        found |= more
    return found


def _asserts(name: str) -> bool:
    return name.startswith(("assert_", "check_")) or name in {"raises", "warns", "fail"}


def without_assertion(path: Path) -> list[str]:
    written = {n.name for n in nodes(path) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")}
    return sorted(written - asserting(path))


def test_every_test_asserts_something():
    assert breaches([path for path in suite() if path.name.startswith("test_")], without_assertion) == {}


def dropped_comparisons(path: Path) -> list[int]:
    silent = {"allclose", "isclose", "array_equal", "equal", "gradcheck", "gradgradcheck"}
    calls = [node.value for node in nodes(path) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    return [call.lineno for call in calls if called(call) in silent]


def test_no_comparison_is_dropped():
    dropped = breaches(suite(), dropped_comparisons)
    assert dropped == {}, "its answer is thrown away: write assert, or numpy.testing.assert_allclose"


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (without_place_or_words, "import numpy"),
        (imports_backwards, "from ctrlattn.report import page"),
        (imports_backwards, "from . import loop"),
        (imports_upwards, "from ctrlattn.stability.robustness import norms"),
        (beyond_walls, "import torch"),
        (beyond_walls, "def f():\n    import numba"),
        (printing, "print(1)"),
        (unsafe_lines, "import pickle"),
        (without_assertion, "def test_a():\n    f()"),
        (dropped_comparisons, "np.allclose(a, b)"),
    ],
)
def test_a_breach_is_named_with_its_file(rule, text, monkeypatch):
    path = PACKAGE / "stability" / "modes" / "regions.py"
    monkeypatch.setitem(globals(), "parse", lambda path: ast.parse(text))
    monkeypatch.setitem(globals(), "nodes", lambda path: list(ast.walk(ast.parse(text))))
    monkeypatch.setitem(globals(), "imports_of", lambda path: list(imports(ast.parse(text))))
    assert [*breaches([path], rule)] == ["ctrlattn/stability/modes/regions.py"]


def test_ruff_is_pinned_once():
    pinned = re.search(r"ruff==([\d.]+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    hook = re.search(
        r"ruff-pre-commit\n\s+rev: v([\d.]+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    )
    assert pinned[1] == hook[1]


ADDRESSES = {
    r"math\.exp\(loss\)": "ctrlattn/perplexity.py",
    r"max\(.*abs\(.*\beigvals\(|abs\(.*\beigvals\(.*\.max\(": "ctrlattn/linear/lapack.py",
}


def test_equations_that_stood_in_several_files_have_one_address():
    code = {name_of(path): path.read_text(encoding="utf-8").splitlines() for path in modules()}
    for equation, address in ADDRESSES.items():
        there = {
            name for name, lines in code.items() for line in lines if re.search(equation, line) and ">>>" not in line
        }
        assert there == {address}, equation
