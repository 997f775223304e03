"""`python tests/exchange/compatibility.py` writes docs/compatibility.md from ROWS and tried.json; `--check` compares.

A row names the tests that try it, and tests/exchange/test_compatibility.py holds it to them: each is there, and asks
for the program or package of its row. `--record [TOOL ...]` runs the tests of the rows whose tools are installed, and
keeps in tried.json the versions of those that passed without a skip.
"""

import datetime
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
TRIED = Path(__file__).with_name("tried.json")
# A program says its version, and those of its packages, as "name version" lines.
PROGRAMS = {
    "ncdump": ["ncdump"],
    "octave": ["octave", "-qf", "--eval",
               "printf('octave %s\\n', version); "
               "for p = pkg('list'), printf('%s %s\\n', p{1}.name, p{1}.version); end"],
    "Rscript": ["Rscript", "-e", "cat('Rscript', as.character(getRversion()), '\\nncdf4', "
                "as.character(packageVersion('ncdf4')), '\\n')"],
}  # fmt: skip


class Row(NamedTuple):
    """A tool and what was tried with it.

    Attributes
    ----------
    tool : str
    versions : tuple of str
        Whose versions are kept: distributions of PyPI, programs, and packages of a program as "octave control".
    needs : str
        The program or package that its tests ask for, and skip without; "" for what every installation has.
    read, written : str
        What is read here, and what this package writes and the tool reads; "" for no such direction.
    tests : tuple of str
        "file::test"
    """

    tool: str
    versions: tuple[str, ...]
    needs: str
    read: str
    written: str
    tests: tuple[str, ...]


_NETCDF, _TABLES = "tests/test_netcdf.py::", "tests/test_tables.py::"
_FILES, _SYSTEM = "tests/exchange/test_files.py::", "tests/exchange/test_system.py::"
_FOREIGN, _TRACE = "tests/observers/test_foreign.py::", "tests/checkpoints/trace/"
ROWS = (
    Row("ncdump", ("ncdump",), "ncdump", "", "results.nc", (f"{_NETCDF}test_ncdump_reads_it",)),
    Row("netCDF4-python", ("netCDF4",), "netCDF4", "", "results.nc", (f"{_NETCDF}test_netcdf4_python_reads_it",)),
    Row(
        "xarray, h5netcdf and netcdf4", ("xarray", "h5netcdf"), "", "files of earlier versions", "results.nc",
        (f"{_NETCDF}test_xarray_reads_it", f"{_NETCDF}test_files_of_earlier_versions_are_read"),
    ),
    Row("h5py, as h5read of MATLAB", ("h5py",), "", "", "results.nc",
        (f"{_NETCDF}test_h5py_reads_it_as_h5read_of_matlab_does",)),
    Row("GNU Octave, netCDF", ("octave", "octave netcdf"), "octave", "", "results.nc",
        (f"{_NETCDF}test_octave_reads_it",)),
    Row("R", ("Rscript", "Rscript ncdf4"), "Rscript", "", "results.nc", (f"{_NETCDF}test_r_reads_it",)),
    Row("scipy, .mat", ("scipy",), "", "", "numbers of a result",
        (f"{_TABLES}test_mat_holds_every_variable_with_its_dims",)),
    Row("GNU Octave, .mat", ("octave",), "octave", "", "numbers of a result", (f"{_TABLES}test_octave_reads_the_mat",)),
    Row("pandas, csv", ("pandas",), "", "", "tables of a result",
        (f"{_TABLES}test_a_row_of_a_table_is_a_place", "tests/cli/test_formats.py::test_commands_of_checkpoints")),
    Row("pyarrow, parquet", ("pyarrow",), "pyarrow", "", "tables of a result",
        (f"{_TABLES}test_parquet_has_the_same_tables",)),
    Row("GNU Octave, systems", ("octave", "octave control"), "octave", "", "systems as .m and .mat",
        (f"{_FILES}test_octave_has_the_same_poles_and_response", f"{_FILES}test_octave_keeps_the_complex_matrices")),
    Row(
        "scipy, systems in .mat", ("scipy",), "", "A, B, C, D; num, den; z, p, k; with dt; continuous ones are refused",
        "the same", (f"{_FILES}test_what_other_tools_put_into_a_mat", f"{_FILES}test_a_mat_without_a_discrete_system"),
    ),
    Row("python-control", ("control",), "", "ss, tf with dt", "ss",
        (f"{_SYSTEM}test_every_form_is_the_same_transfer_function", f"{_SYSTEM}test_parts_of_a_loop")),
    Row("scipy.signal", ("scipy",), "", "dlti; lti is refused", "",
        (f"{_SYSTEM}test_every_form_is_the_same_transfer_function", f"{_SYSTEM}test_what_is_no_discrete_system")),
    Row("SAELens", ("sae-lens",), "sae_lens", "standard, topk, jumprelu", "standard, topk, jumprelu",
        (f"{_FOREIGN}test_ours_in_the_layout_of_sae_lens",)),
    Row("dictionary_learning", ("dictionary-learning",), "dictionary_learning", "five classes", "",
        (f"{_FOREIGN}test_dictionary_learning_is_read",)),
    Row("Gemma Scope (arXiv 2408.05147), .npz", ("numpy",), "", "JumpReLU", "",
        (f"{_FOREIGN}test_gemma_scope_is_read",)),
    Row("nnsight", ("nnsight",), "nnsight", "LanguageModel and NNsight; edits are refused", "",
        (f"{_TRACE}test_wrapped.py::test_a_model_of_nnsight_has_the_signals_of_its_network",)),
    Row(
        "TransformerLens", ("transformer-lens",), "transformer_lens",
        "TransformerBridge, also folded; HookedTransformer is refused", "",
        (f"{_TRACE}test_wrapped.py::test_a_bridge_of_transformer_lens_has_the_signals_of_its_network",),
    ),
    Row("peft", ("peft",), "peft", "adapters, merged or not; learned prompts are refused", "",
        (f"{_TRACE}test_wrapped.py::test_an_adapter_of_peft_is_read_as_it_is_and_merged",)),
    Row("timm", ("timm",), "timm",
        "vision transformers, with LayerScale; streams (features, rows, columns) are refused", "",
        (f"{_TRACE}test_images.py::test_real_vision_transformers",)),
)  # fmt: skip


def installed(name: str) -> str | None:
    """The version of a distribution, a program or a package of a program that is here; None without it."""
    program, _, package = name.partition(" ")
    if program not in PROGRAMS:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return None
    if shutil.which(program) is None:
        return None
    run = subprocess.run(PROGRAMS[program], capture_output=True, text=True, check=False)
    label = "netcdf library version" if program == "ncdump" else package or program
    match = re.search(rf"^{label} (\d\S*)", run.stdout + run.stderr, re.MULTILINE)
    return match and match[1]


def record(tools: list[str]) -> None:
    """Run the tests of these rows (all without a name), and keep the versions of those that passed without a skip."""
    unknown = set(tools) - {row.tool for row in ROWS}
    if unknown:
        sys.exit(f"no row {', '.join(sorted(unknown))}; there are {', '.join(row.tool for row in ROWS)}")
    tried = json.loads(TRIED.read_text(encoding="utf-8"))
    for row in ROWS:
        if tools and row.tool not in tools:
            continue
        versions = {name: installed(name) for name in row.versions}
        if None in versions.values():
            sys.stdout.write(f"{row.tool}: not recorded: not installed\n")
            continue
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *row.tests]
        run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        summary = (run.stdout.strip().splitlines() or [""])[-1]
        passed = re.match(r"=*\s*(\d+) passed", summary)
        if run.returncode or passed is None or "skipped" in summary:
            sys.stdout.write(f"{row.tool}: not recorded: {summary}\n")
            continue
        today = datetime.date.today().isoformat()
        tried[row.tool] = {"date": today, "passed": int(passed[1]), "versions": versions}
        TRIED.write_text(json.dumps(tried, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        sys.stdout.write(f"{row.tool}: {versions}, {passed[1]} passed\n")


def in_words(trial: dict[str, Any]) -> str:
    """Versions and date of a trial; without a count of passed tests, somebody typed it.

    >>> in_words({"date": "2026-11-28", "passed": 2, "versions": {"octave": "7.3.0", "octave control": "3.4.0"}})
    'octave 7.3.0, control 3.4.0 (2026-11-28)'
    """
    versions = ", ".join(f"{name.rpartition(' ')[2]} {version}" for name, version in trial["versions"].items())
    return f"{versions} ({'' if 'passed' in trial else 'by hand, '}{trial['date']})"


def page() -> str:
    """The page, as it stands in docs/."""
    tried = json.loads(TRIED.read_text(encoding="utf-8"))
    head = (
        "# Compatibility\n\nWhat other tools write is read, and what is written is read elsewhere. "
        "`python tests/exchange/compatibility.py`\nwrites this page. An empty cell: no such direction. A test skips, "
        "with the reason, where the program or package of\nthe second last column is not installed. The versions are "
        "those with which all tests of the row passed when\n`--record` ran them last (`tests/exchange/tried.json`); "
        '"by hand" marks those that a person typed.\n\n'
        "| tool | tried | read here | written here | needs | tests |\n|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.tool} | {in_words(tried[row.tool])} | {row.read} | {row.written} | {row.needs} | "
        + ", ".join(f"`{test}`" for test in row.tests)
        + " |\n"
        for row in ROWS
    )


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(None if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is not what {__file__} writes")
    if "--record" in sys.argv[1:]:
        record([tool for tool in sys.argv[1:] if tool != "--record"])
    PAGE.write_text(page(), encoding="utf-8")
