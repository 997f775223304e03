"""`python tests/exchange/compatibility.py` writes docs/compatibility.md from the rows of ROWS; `--check` compares it.

A row names the tests that try it, and tests/exchange/test_compatibility.py holds it to them: each is there, and asks
for the program or package of its row.
"""

import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"


class Row(NamedTuple):
    """A tool and what was tried with it.

    Attributes
    ----------
    tool, version : str
    needs : str
        The program or package that its tests ask for, and skip without; "" for what every installation has.
    read, written : str
        What is read here, and what this package writes and the tool reads; "" for no such direction.
    tests : tuple of str
        "file::test"
    """

    tool: str
    version: str
    needs: str
    read: str
    written: str
    tests: tuple[str, ...]


_NETCDF, _TABLES = "tests/test_netcdf.py::", "tests/test_tables.py::"
_FILES, _SYSTEM = "tests/exchange/test_files.py::", "tests/exchange/test_system.py::"
_FOREIGN, _TRACE = "tests/observers/test_foreign.py::", "tests/checkpoints/trace/"
ROWS = (
    Row("ncdump", "4.9.0", "ncdump", "", "results.nc", (f"{_NETCDF}test_ncdump_reads_it",)),
    Row("netCDF4-python", "1.7.5", "netCDF4", "", "results.nc", (f"{_NETCDF}test_netcdf4_python_reads_it",)),
    Row(
        "xarray, h5netcdf and netcdf4", "2026.9", "", "its netCDF 4 files", "results.nc",
        (f"{_NETCDF}test_xarray_reads_it", f"{_NETCDF}test_files_of_earlier_versions_are_read"),
    ),
    Row("h5py, as h5read of MATLAB", "3.16", "", "", "results.nc",
        (f"{_NETCDF}test_h5py_reads_it_as_h5read_of_matlab_does",)),
    Row("GNU Octave with netcdf 1.0.16", "7.3", "octave", "", "results.nc", (f"{_NETCDF}test_octave_reads_it",)),
    Row("R with ncdf4 1.21", "4.2.2", "Rscript", "", "results.nc", (f"{_NETCDF}test_r_reads_it",)),
    Row("scipy, .mat", "1.17", "", "", "numbers of a result",
        (f"{_TABLES}test_mat_holds_every_variable_with_its_dims",)),
    Row("GNU Octave, .mat", "7.3", "octave", "", "numbers of a result", (f"{_TABLES}test_octave_reads_the_mat",)),
    Row("pandas, csv", "3.1", "", "", "tables of a result",
        (f"{_TABLES}test_a_row_of_a_table_is_a_place", "tests/cli/test_formats.py::test_commands_of_checkpoints")),
    Row("pyarrow, parquet", "26.0.1", "pyarrow", "", "tables of a result",
        (f"{_TABLES}test_parquet_has_the_same_tables",)),
    Row("GNU Octave with control 3.4", "7.3", "octave", "", "systems as .m and .mat",
        (f"{_FILES}test_octave_has_the_same_poles_and_response", f"{_FILES}test_octave_keeps_the_complex_matrices")),
    Row(
        "scipy, systems in .mat", "1.17", "", "A, B, C, D; num, den; z, p, k; with dt; continuous ones are refused",
        "the same", (f"{_FILES}test_what_other_tools_put_into_a_mat", f"{_FILES}test_a_mat_without_a_discrete_system"),
    ),
    Row("python-control", "0.10.2", "", "ss, tf with dt", "ss",
        (f"{_SYSTEM}test_every_form_is_the_same_transfer_function", f"{_SYSTEM}test_parts_of_a_loop")),
    Row("scipy.signal", "1.17", "", "dlti; lti is refused", "",
        (f"{_SYSTEM}test_every_form_is_the_same_transfer_function", f"{_SYSTEM}test_what_is_no_discrete_system")),
    Row("SAELens", "6.54.12", "sae_lens", "standard, topk, jumprelu", "standard, topk, jumprelu",
        (f"{_FOREIGN}test_ours_in_the_layout_of_sae_lens",)),
    Row("dictionary_learning", "0.1.0", "dictionary_learning", "five classes", "",
        (f"{_FOREIGN}test_dictionary_learning_is_read",)),
    Row("Gemma Scope, .npz", "2408.05147", "", "JumpReLU", "", (f"{_FOREIGN}test_gemma_scope_is_read",)),
    Row("nnsight", "0.8.1", "nnsight", "LanguageModel and NNsight; edits are refused", "",
        (f"{_TRACE}test_wrapped.py::test_a_model_of_nnsight_has_the_signals_of_its_network",)),
    Row(
        "TransformerLens", "4.3.0", "transformer_lens", "TransformerBridge, also folded; HookedTransformer is refused",
        "", (f"{_TRACE}test_wrapped.py::test_a_bridge_of_transformer_lens_has_the_signals_of_its_network",),
    ),
    Row("peft", "0.21.2", "peft", "adapters, merged or not; learned prompts are refused", "",
        (f"{_TRACE}test_wrapped.py::test_an_adapter_of_peft_is_read_as_it_is_and_merged",)),
    Row("timm", "1.0.31", "timm", "vision transformers, with LayerScale; streams (features, rows, columns) are refused",
        "", (f"{_TRACE}test_images.py::test_real_vision_transformers",)),
)  # fmt: skip


def page() -> str:
    """The page, as it stands in docs/."""
    head = (
        "# Compatibility\n\nWhat other tools write is read, and what is written is read elsewhere. "
        "`python tests/exchange/compatibility.py`\nwrites this page. An empty cell: no such direction. A test skips, "
        "with the reason, where the program or package of\nthe second last column is not installed; the version is the "
        "one that was tried.\n\n"
        "| tool | tried | read here | written here | needs | tests |\n|---|---|---|---|---|---|\n"
    )
    return head + "".join(
        f"| {row.tool} | {row.version} | {row.read} | {row.written} | {row.needs} | "
        + ", ".join(f"`{test}`" for test in row.tests)
        + " |\n"
        for row in ROWS
    )


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        sys.exit(None if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is not what {__file__} writes")
    PAGE.write_text(page(), encoding="utf-8")
