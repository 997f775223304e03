"""Mutants are exactly those that one would write by hand, and what is no equation has none."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("mutation", Path(__file__).with_name("mutation.py"))
mutation = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(mutation)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("x + 2", ["x - 2", "x + 3"]),
        ("x * y", ["x / y"]),
        ("x ** y", ["x * y"]),
        ("-x", ["x"]),
        ("x < y", ["x >= y"]),
        ("x == y", ["x != y"]),
        ("not x", ["x"]),
        ("x and y", ["x or y"]),
        ("0.5 * x", ["0.5 / x", "1.0 * x"]),
        ("np.max(x)", ["np.min(x)"]),
        ("x.conj()", ["x"]),
        ("np.conj(x)", ["x"]),
        ("x.T", []),
        ("'a' + b", []),
        ("f'{x + y}'", []),
        ("1e-12", []),
        ("x.reshape(-1)", ["x.reshape(1)"]),
    ],
)
def test_the_mutants_of_a_line(line, changed):
    assert sorted(m.text for m in mutation.mutants(f"y = {line}")) == sorted(f"y = {text}" for text in changed)


def test_guards_are_removed_and_what_is_no_equation_stays():
    source = "def f(x: 'a' = 2):\n    '''1 + 1'''\n    if x:\n        raise E(1 + 1)\n    return g(x)"
    (only,) = mutation.mutants(source)
    assert only.line == 3
    assert "if False:" in only.text


def test_every_file_of_equations_has_tests_to_run():
    root = Path(__file__).parent.parent
    for file in mutation.files(root):
        *tests, module = mutation.paths_of_tests(root, file)
        assert tests, file
        assert module == str(file)
        assert all((root / path).exists() for path in tests)


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        ("_ROUNDS = 60", 1),
        ("BAND = 0.02", 0),
        ("x = solve(f, tol=2 * h)", 2),
        ("x = solve(f, start=2 * h)", 0),
        ("x = np.linspace(0.5, 1.5, 20)", 1),
        ("for _ in range(6):\n    x = x + 1", 1),
        ("for i in range(6):\n    x = x + 1", 0),
        ("y = 10 * n * EPS * scale", 4),
        ("y = near(x, 10 * tol * max(x))", 4),
        ("y = x * (1 + tol)", 1),
        ("y = x * (1 + gain)", 0),
    ],
)
def test_how_exactly_a_search_looks_is_a_setting(source, settings):
    assert sum(mutant.setting for mutant in mutation.mutants(source)) == settings


def test_each_equivalent_mutant_has_a_reason_and_those_whose_line_changed_are_named():
    root = Path(__file__).parent.parent
    absent = [
        (file, line) for file, line, _ in mutation.EQUIVALENT if line not in (root / "ctrlattn" / file).read_text()
    ]
    assert absent == []
    assert all(reason.endswith(".") for reason in mutation.EQUIVALENT.values())
    every = [
        (Path("ctrlattn") / file, mutation.Mutant(1, change, False, code, "", 0))
        for file, code, change in mutation.EQUIVALENT
    ]
    assert mutation.stale(every) == []
    assert mutation.stale(every[1:]) == [next(iter(mutation.EQUIVALENT))]


def test_a_file_is_judged_by_its_mirror_or_by_the_nearest_room(tmp_path):
    for name in ("tests/a/b/test_x.py", "tests/a/c/test_y.py", "tests/a/test_z.py", "tests/test_top.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def judges(file):
        return mutation.paths_of_tests(tmp_path, Path("ctrlattn") / file)[:-1]

    assert judges("a/b/x.py") == ["tests/a/b/test_x.py"]
    assert judges("a/b/y.py") == ["tests/a/b"]  # test_y is of another module
    assert judges("a/d/x.py") == ["tests/a"]
    assert judges("top.py") == ["tests/test_top.py"]
    assert judges("none.py") == []
