"""netCDF files: what `load` gives back, and what the programs of other people read in them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from ctrlattn import InputError, netcdf, results
from ctrlattn.processes import Rehearsal

TEXTS = ["neutreno", "", "д λ", "a b"]
Z = np.array([[1 + 2j, -0.5j, 3.0], [complex(np.inf, -0.25), 1e-300j, -4.0]])
SHARE = np.arange(12.0).reshape(4, 3) / 8


def example():
    """Every kind of variable and attribute that pages write."""
    return xr.Dataset(
        {
            "pole": (("layer", "mode"), Z, {"units": "1", "long_name": "pole of a mode"}),
            "share": (("preset", "mode"), SHARE, {"units": "1", "long_name": "share of the modes"}),
            "is_stable": ("layer", np.array([True, False])),
            "count": ((), np.int64(7)),
            "half": ("layer", np.array([0.1, 2.0], dtype=np.float16)),
        },
        coords={
            "preset": ("preset", np.array(TEXTS), {"long_name": "loop of ctrlattn.presets"}),
            "layer": ("layer", np.arange(2)),
            "root": ("mode", np.array([1j, -1j, 0.5])),
            "text": ("layer", np.array(["д", "b"])),
        },
        attrs={
            "model": "möbius",
            "seed": 3,
            "curves": ["a", "b"],
            "empty": "",
            "configuration": "line\nline",
            "e": 0.1,
        },
    )


@pytest.fixture
def file(tmp_path):
    netcdf.save(tmp_path / "a.nc", example())
    return tmp_path / "a.nc"


def same(a, b):
    """Equal values, dims, coordinates, attributes and kinds of numbers."""
    assert a.identical(b)
    for name in a.variables:
        if a[name].dtype.kind in "fciub":
            assert a[name].dtype == b[name].dtype, name


def test_what_was_saved_comes_back(file):
    same(netcdf.load(file), example())
    netcdf.save(file, netcdf.load(file))
    same(netcdf.load(file), example())


names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6)
numbers = st.floats(width=64) | st.sampled_from([np.inf, -np.inf, np.nan, -0.0, 5e-324])


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(
    parts=st.lists(st.tuples(numbers, numbers), max_size=4),
    texts=st.lists(names, min_size=1, max_size=3),
    attribute=names | st.lists(names, min_size=1, max_size=3) | st.floats(allow_nan=False) | st.integers(0, 2**40),
)
def test_any_values_come_back(parts, texts, attribute, tmp_path_factory):
    z = np.empty(len(parts), dtype=complex)
    z.real, z.imag = ([p[i] for p in parts] for i in (0, 1))
    with np.errstate(over="ignore"):
        short = z.astype(np.complex64)
    given_ = xr.Dataset(
        {"z": ("mode", z), "w": ("mode", short), "text": ("token", np.array(texts))},
        attrs={"a": attribute},
    )
    path = tmp_path_factory.mktemp("any") / "a.nc"
    netcdf.save(path, given_)
    back = netcdf.load(path)
    same(back, given_)
    assert back["z"].to_numpy().tobytes() == z.tobytes() or np.isnan(z.real).any() or np.isnan(z.imag).any()


def test_the_file_has_no_records_and_no_texts_of_any_length(file):
    with h5py.File(file) as opened:
        assert opened.attrs["Conventions"] == b"CF-1.11"
        kinds, attributes = [], []
        opened.visititems(lambda _, item: kinds.append(item.dtype))
        opened.visititems(lambda _, item: attributes.extend(item.attrs.get_id(k).dtype for k in item.attrs))
        attributes += [opened.attrs.get_id(k).dtype for k in opened.attrs]
    assert {kind.kind for kind in kinds} <= set("fiS")
    assert all(kind.itemsize == 1 for kind in kinds if kind.kind == "S")
    assert not any(
        h5py.check_string_dtype(kind) and h5py.check_string_dtype(kind).length is None for kind in attributes
    )


def test_a_long_text_is_no_attribute(tmp_path):
    long = xr.Dataset(attrs={"configuration": "д" * 70_000, "short": "x"})
    netcdf.save(tmp_path / "a.nc", long)
    same(netcdf.load(tmp_path / "a.nc"), long)


def test_files_of_earlier_versions_are_read(tmp_path):
    old = xr.Dataset({"z": ("mode", [1 + 2j, 3j])}, coords={"name": ("mode", ["a", "д"])})
    with h5netcdf.File(tmp_path / "old.nc", "w") as opened:
        old.dump_to_store(xr.backends.H5NetCDFStore(opened))
    with h5py.File(tmp_path / "old.nc") as opened:
        assert opened["z"].dtype == complex  # a record in HDF5
    back = netcdf.load(tmp_path / "old.nc")
    assert back["z"].dtype == complex
    assert back["z"].to_numpy().tolist() == [1 + 2j, 3j]
    assert back["name"].to_numpy().tolist() == ["a", "д"]


def foreign(path, attrs, engine, data):
    """A file that a program of other people writes: another engine, an array or none, a group."""
    dataset = xr.Dataset({"temperature": ("time", data)} if data else {}, attrs=attrs)
    if engine == "netcdf3":
        dataset.to_netcdf(path, format="NETCDF3_64BIT", engine="scipy")
    elif engine == "h5py":
        with h5py.File(path, "w") as opened:
            opened.attrs.update(attrs)
            opened["group/temperature"] = np.array(data)
    else:
        dataset.to_netcdf(path, engine=engine)


statements = st.fixed_dictionaries(
    {},
    optional={
        "Conventions": st.sampled_from(["CF-1.6", "CF-1.11", "COARDS", "ctrlattn"]),
        "title": st.sampled_from(["ERA5 monthly means", "ctrlattn", "λ"]),
        "schema_version": st.sampled_from([2, 0, "1.0", "2", 3.5]),
        "history": st.just("made by ncks"),
        "version": st.integers(0, 3),
    },
)


@settings(max_examples=25, deadline=None)
@given(
    attrs=statements,
    engine=st.sampled_from(["h5netcdf", "netcdf4", "netcdf3", "h5py"]),
    data=st.lists(st.floats(-9, 9), max_size=3),
)
def test_a_file_of_another_schema_is_refused_whoever_wrote_it(attrs, engine, data, tmp_path_factory):
    if engine == "netcdf4":
        pytest.importorskip("netCDF4")
    path = tmp_path_factory.mktemp("foreign") / "a.nc"
    foreign(path, attrs, engine, data)
    with pytest.raises(InputError, match=r"xarray.load_dataset opens it, and results.save writes") as refusal:
        netcdf.load(path)
    assert str(path) in str(refusal.value)
    assert engine == "netcdf3" or attrs.get("title", "") in str(refusal.value)
    if engine != "h5py":  # the way that the message names
        netcdf.save(path, xr.load_dataset(path))
        assert netcdf.load(path).sizes.get("time", 0) == len(data)


@settings(max_examples=12, deadline=None)
@given(attrs=statements, complex_=st.booleans())
def test_what_save_wrote_is_read_whatever_it_states(attrs, complex_, tmp_path_factory):
    path = tmp_path_factory.mktemp("ours") / "a.nc"
    given_ = xr.Dataset({"x": ("time", [1.0, 1j] if complex_ else [1.0, 2.0])}, attrs=attrs)
    netcdf.save(path, given_)
    back = netcdf.load(path)
    assert back["x"].identical(given_["x"])
    assert back.attrs == {k: v for k, v in attrs.items() if (k, v) != ("Conventions", "CF-1.11")}
    with h5py.File(path, "r+") as opened:  # before files had that mark
        del opened.attrs["saved_by_ctrlattn"]
    assert netcdf.load(path).identical(back)


@pytest.mark.parametrize("attrs", [{"ctrlattn": "0.1.0"}, {"schema_version": 1, "model": "toy"}, {"fingerprint": "ab"}])
def test_pages_recordings_and_parts_of_before_conventions_are_read(attrs, tmp_path):
    xr.Dataset({"x": ("layer", [1.0])}, attrs=attrs).to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    assert netcdf.load(tmp_path / "a.nc").attrs == attrs


def test_a_later_schema_is_refused(tmp_path):
    later = xr.Dataset({"x": ("layer", [1.0])}, attrs={"schema_version": 2, "ctrlattn": "9.0"})
    with pytest.raises(InputError, match=r"schema_version 2 of ctrlattn 9\.0, where this version knows 1: leave out"):
        netcdf.save(tmp_path / "a.nc", later)
    several = later.assign_attrs(schema_version=np.array([1, 2]))
    with pytest.raises(InputError, match=r"schema_version \[1 2\] of ctrlattn 9\.0"):
        netcdf.save(tmp_path / "a.nc", several)
    netcdf.save(tmp_path / "b.nc", later.assign_attrs(schema_version=np.array([1])))
    later.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with pytest.raises(
        InputError, match=r"a\.nc: schema_version 2 of ctrlattn 9\.0, where this version knows 1: xarray"
    ):
        netcdf.load(tmp_path / "a.nc")


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (xr.Dataset({"z": ("m", [1j]), "z_real": ("m", [1.0])}), "'z' is written as 'z_real', which is there"),
        (xr.Dataset({"t": ("m", ["a\0b"])}), r"t: the text 'a\\x00b' has a zero byte"),
        (xr.Dataset({"t": ("m", ["\ud800"])}), "cannot be written as UTF-8"),
        (xr.Dataset({"t": ("m", np.array([{}], dtype=object))}), "t: a file has numbers and texts, got dict"),
        (xr.Dataset({"x": ("m", np.ones(1, dtype=np.longdouble))}), "x: netCDF has no numbers of"),
    ],
)
def test_what_no_file_can_hold(dataset, words, tmp_path):
    with pytest.raises(InputError, match=words):
        netcdf.save(tmp_path / "a.nc", dataset)
    assert not list(tmp_path.iterdir())


def test_half_of_a_complex_variable_is_refused(file):
    for damage, words in (
        (lambda f: f.__delitem__("pole_imag"), "'pole' is not there as one real and one imaginary part"),
        (lambda f: f["pole_imag"].attrs.__setitem__("complex_part", "real"), "'pole' is not there as one real"),
        (lambda f: f["pole_imag"].attrs.__setitem__("complex_of", "root"), "is not there|do not fit"),
    ):
        netcdf.save(file, example())
        with h5py.File(file, "r+") as opened:
            damage(opened)
        with pytest.raises(InputError, match=words):
            netcdf.load(file)


# Readers of other people. Each answers with the same facts, so that one comparison serves all.

READS = {"share", "pole_real", "pole_imag", "preset", "model", "units", "Conventions"}


def check(facts):
    """What a reader says, as nested lists and texts."""
    assert_array_equal(np.array(facts["share"], dtype=float), SHARE)
    assert_array_equal(np.array(facts["pole_real"], dtype=float), Z.real)
    assert_array_equal(np.array(facts["pole_imag"], dtype=float), Z.imag)
    assert [text.rstrip(" \0") for text in facts["preset"]] == TEXTS
    assert (facts["model"], facts["units"], facts["Conventions"]) == ("möbius", "1", "CF-1.11")


def said(*command):
    """What a program prints; an empty complaint of its own about our file fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout


def program(name):
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_it(file, engine):
    if engine == "netcdf4":
        pytest.importorskip("netCDF4")
    read = xr.load_dataset(file, engine=engine)
    check(
        {
            **{name: read[name].to_numpy().tolist() for name in ("share", "pole_real", "pole_imag", "preset")},
            **{name: read.attrs[name] for name in ("model", "Conventions")},
            "units": read["share"].attrs["units"],
        }
    )
    assert read["is_stable"].dtype == bool
    assert "text" in read.coords


def test_netcdf4_python_reads_it(file):
    with pytest.importorskip("netCDF4").Dataset(file) as read:
        check(
            {
                **{name: read[name][:].tolist() for name in ("share", "pole_real", "pole_imag", "preset")},
                **{name: read.getncattr(name) for name in ("model", "Conventions")},
                "units": read["share"].units,
            }
        )


def test_h5py_reads_it_as_h5read_of_matlab_does(file):
    with h5py.File(file) as read:
        check(
            {
                **{name: read[name][()].tolist() for name in ("share", "pole_real", "pole_imag")},
                "preset": [b"".join(row).decode() for row in read["preset"][()]],
                **{name: read.attrs[name].decode() for name in ("model", "Conventions")},
                "units": read["share"].attrs["units"].decode(),
            }
        )


def test_ncdump_reads_it(file):
    text = said(program("ncdump"), str(file))
    for line in (
        "double share(preset, mode)", "double pole_real(layer, mode)", "double pole_imag(layer, mode)",
        'share:units = "1"', ':Conventions = "CF-1.11"', ':model = "möbius"', '"neutreno"', "0, 0.125, 0.25",
        "pole_imag =\n  2, -0.5, 0,\n  -0.25, 1e-300, 0",
    ):  # fmt: skip
        assert line in text


OCTAVE = """
pkg load netcdf
file = '{file}';
function say(name, x), printf('"%s": %s,\\n', name, jsonencode(x)); end
printf('{{');
for name = {{'share', 'pole_real', 'pole_imag'}}
  printf('"%s": [', name{{1}}); x = {read};
  for row = x, printf('[%s], ', strjoin(arrayfun(@(v) sprintf('"%.17g"', v), row', 'UniformOutput', false), ', ')); end
  printf('[]],\\n');
end
say('preset', cellstr(ncread(file, 'preset')'));
say('model', ncreadatt(file, '/', 'model')); say('Conventions', ncreadatt(file, '/', 'Conventions'));
say('units', ncreadatt(file, 'share', 'units'));
printf('"end": 0}}\\n');
ncdisp(file);
"""


@pytest.mark.slow
@pytest.mark.parametrize("read", ["ncread(file, name{1})", "load('-hdf5', file, name{1}).(name{1})"])
def test_octave_reads_it(file, read, tmp_path):
    octave = program("octave")
    if "installed" not in said(octave, "-qf", "--eval", "if !isempty(pkg('list', 'netcdf')), disp('installed'), end"):
        pytest.skip("the netcdf package of Octave is not installed")
    (tmp_path / "read.m").write_text(OCTAVE.format(file=file, read=read), encoding="utf-8")
    text = said(octave, "-q", "--no-gui", str(tmp_path / "read.m"))
    facts = json.loads(text[: text.index('"end": 0}')] + '"end": 0}')
    check({k: v[:-1] if k in ("share", "pole_real", "pole_imag") else v for k, v in facts.items()})
    assert "pole_imag" in text[text.index('"end": 0}') :]  # of ncdisp, which no text stops


R = """
library(ncdf4)
n <- nc_open("{file}")
show <- function(name, x) cat(sprintf('"%s": [%s],\\n', name, paste(sprintf('"%s"', x), collapse = ", ")))
cat("{{")
for (name in c("share", "pole_real", "pole_imag")) show(name, sprintf("%.17g", ncvar_get(n, name)))
show("preset", ncvar_get(n, "preset"))
show("model", ncatt_get(n, 0, "model")$value)
show("Conventions", ncatt_get(n, 0, "Conventions")$value)
show("units", ncatt_get(n, "share", "units")$value)
cat('"end": 0}}\\n')
"""


@pytest.mark.slow
def test_r_reads_it(file, tmp_path):
    script = program("Rscript")
    if "TRUE" not in said(script, "-e", 'cat(requireNamespace("ncdf4", quietly = TRUE))'):
        pytest.skip("the package ncdf4 of R is not installed")
    (tmp_path / "read.R").write_text(R.format(file=file), encoding="utf-8")
    facts = json.loads(said(script, str(tmp_path / "read.R")))
    shapes = {"share": SHARE.shape, "pole_real": Z.shape, "pole_imag": Z.shape}
    check(
        {
            **{name: np.array(facts[name], dtype=float).reshape(shape) for name, shape in shapes.items()},
            "preset": facts["preset"],
            **{name: facts[name][0] for name in ("model", "Conventions", "units")},
        }
    )


def lines_of_the_page(mark):
    """The lines of docs/results.md that end with this comment, in order."""
    page = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")
    block = page[page.index("```text") :].split("```")[1]
    return [line.rpartition(mark)[0].rstrip() for line in block.splitlines() if line.endswith(mark)]


@pytest.fixture
def poles(tmp_path, monkeypatch):
    """results.nc in the working directory: its poles sum to 6 - 1.5i."""
    monkeypatch.chdir(tmp_path)
    values = {"pole": (("layer", "mode"), [[1 + 2j, -0.5j], [2 - 3j, 3]])}
    netcdf.save(tmp_path / "results.nc", xr.Dataset(values, coords={"preset": ("preset", [TEXTS[0], "a longer text"])}))


def test_the_snippets_of_the_page_for_the_shell_and_for_python(poles):
    (line,) = lines_of_the_page("# netCDF4-python")
    pytest.importorskip("netCDF4")
    assert said(sys.executable, "-c", f"import netCDF4; {line}; print(complex(z.sum()))").strip() == "(6-1.5j)"
    (line,) = lines_of_the_page("# shell")
    words = line.split()
    assert "pole_real =" in said(program(words[0]), *words[1:])


@pytest.mark.slow
def test_the_snippets_of_the_page_for_octave(poles):
    octave = program("octave")
    (plain,) = lines_of_the_page("% Octave without a package")
    assert said(octave, "-qf", "--eval", f"{plain} printf('%g', sum(s.pole_real(:)))") == "6"
    if "installed" not in said(octave, "-qf", "--eval", "if !isempty(pkg('list', 'netcdf')), disp('installed'), end"):
        pytest.skip("the netcdf package of Octave is not installed")
    (numbers,), (texts,) = lines_of_the_page("% Octave"), lines_of_the_page("% Octave: texts")
    told = said(octave, "-q", "--eval", f"{numbers} printf('%g %g\\n', real(sum(z(:))), imag(sum(z(:))));")
    assert told == "6 -1.5\n"
    # Rows of different lengths are filled with zeros, which are no part of a text.
    same = f"printf('%d', strcmp(c, {{'{TEXTS[0]}'; 'a longer text'}}));"
    assert said(octave, "-q", "--eval", f"{numbers} {texts}; {same}").endswith("11")


@pytest.mark.slow
def test_the_snippet_of_the_page_for_r(poles):
    script = program("Rscript")
    if "TRUE" not in said(script, "-e", 'cat(requireNamespace("ncdf4", quietly = TRUE))'):
        pytest.skip("the package ncdf4 of R is not installed")
    page = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")
    code = page[page.index("library(ncdf4)") : page.index("# R\n")]
    assert said(script, "-e", f"{code}\ncat(Re(sum(z)), Im(sum(z)))") == "6 -1.5"


def test_results_has_the_same_writer():
    assert (results.save, results.load) == (netcdf.save, netcdf.load)


@pytest.fixture
def held(tmp_path, monkeypatch):
    """A file, beside a process that never comes to its end: no file that holds HDF5 may be committed."""
    path = tmp_path / "a.nc"
    netcdf.save(path, xr.Dataset({"x": ("mode", [1.0])}))
    (tmp_path / "stand_in.py").write_text("import time\ndef walk(path):\n    time.sleep(60)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(netcdf, "_REHEARSAL", Rehearsal("stand_in:walk"))
    return path


def test_a_file_that_is_not_read_in_time_is_told(held):
    with pytest.raises(InputError, match=r"a\.nc: not a netCDF file that can be read: it was not read within 0\.2 s"):
        netcdf.require_readable(held, seconds=0.2)


@pytest.mark.parametrize("load", [results.load, netcdf.load])
def test_every_load_is_guarded(held, load, monkeypatch):
    guard = netcdf.require_readable
    monkeypatch.setattr(netcdf, "require_readable", lambda path: guard(path, seconds=0.2))
    with pytest.raises(InputError, match=r"a\.nc: not a netCDF file that can be read: it was not read within"):
        load(held)


def test_a_sound_file_and_a_broken_one_come_to_their_end(tmp_path):
    path, broken = tmp_path / "a.nc", tmp_path / "broken.nc"
    netcdf.save(path, xr.Dataset({"x": ("mode", [1.0])}))
    assert netcdf.require_readable(path) is None
    broken.write_bytes(b"no netCDF")
    assert netcdf.require_readable(broken) is None  # `load` says what is wrong with it


def test_a_walk_reads_every_number_text_and_scale(tmp_path, monkeypatch):
    import h5py

    path = tmp_path / "a.nc"
    numbers = xr.Dataset({"x": (("mode", "k"), np.ones((5, 3))), "s": ((), 2.0), "name": ("mode", list("abcde"))})
    netcdf.save(path, numbers.assign_coords(mode=range(5)).assign_attrs(note="a"))
    monkeypatch.setattr(netcdf, "_BLOCK", 6)
    read = []
    whole = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda item, key: read.append(item.name) or whole(item, key))
    assert netcdf.walk(str(path)) is None
    assert {name: read.count(name) for name in ("/x", "/s", "/name", "/mode")} == {
        "/x": 3, "/s": 1, "/name": 1, "/mode": 1,
    }  # fmt: skip


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are those of POSIX")
def test_a_pipe_and_a_folder_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.nc")
    for path in (tmp_path / "pipe.nc", tmp_path):
        with pytest.raises(InputError, match="it is no regular file"):
            netcdf.load(path)
