"""`python tests/exchange/compatibility.py` writes docs/compatibility.md from rows, each of which a test tries."""

from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "compatibility.md"
# tool and version that was tried, what is read, what is written, the test
ROWS = (
    ("ncdump 4.9.0", "", "results.nc", "tests/test_netcdf.py"),
    ("netCDF4-python 1.7.5", "", "results.nc", "tests/test_netcdf.py"),
    ("xarray 2026.9, h5netcdf and netcdf4", "its netCDF 4 files", "results.nc", "tests/test_netcdf.py"),
    ("h5py 3.16", "", "results.nc", "tests/test_netcdf.py"),
    ("GNU Octave 7.3 with netcdf 1.0.16", "", "results.nc", "tests/test_netcdf.py"),
    ("R 4.2.2 with ncdf4 1.21", "", "results.nc", "tests/test_netcdf.py"),
    ("scipy 1.17 and Octave 7.3, .mat", "", "numbers of a result", "tests/test_tables.py"),
    ("csv, parquet", "", "tables of a result", "tests/test_tables.py"),
    ("GNU Octave 7.3 with control 3.4", "", "systems as .m and .mat", "tests/exchange/test_files.py"),
    ("scipy .mat files", "A, B, C, D; num, den; z, p, k; with dt", "the same", "tests/exchange/test_files.py"),
    ("python-control 0.10.2", "ss, tf with dt", "ss", "tests/exchange/test_system.py"),
    ("scipy.signal 1.17", "dlti; lti is refused", "", "tests/exchange/test_system.py"),
    (
        "SAELens 6.54.12",
        "standard, topk, jumprelu",
        "standard, topk, jumprelu",
        "tests/observers/test_foreign.py",
    ),
    ("dictionary_learning 0.1.0", "five classes", "", "tests/observers/test_foreign.py"),
    ("Gemma Scope .npz", "JumpReLU", "", "tests/observers/test_foreign.py"),
)


def page() -> str:
    """The page, as it stands in docs/."""
    head = (
        "# Compatibility\n\nWhat other tools write is read, and what is written is read elsewhere. "
        "`python tests/exchange/compatibility.py`\nwrites this page. An empty cell: no such direction.\n\n"
        "| tool, as tried | read here | written here | test |\n|---|---|---|---|\n"
    )
    return head + "".join(f"| {tool} | {read} | {written} | `{test}` |\n" for tool, read, written, test in ROWS)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
