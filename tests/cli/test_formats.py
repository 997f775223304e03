"""--format of every command that writes numbers: the tables hold what results.nc holds."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io
import xarray as xr
from numpy.testing import assert_allclose
from typer.testing import CliRunner

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("tokenizers")

from ctrlattn import results, tables  # noqa: E402  (after the skip)
from ctrlattn.cli import app  # noqa: E402
from ctrlattn.nn.experiment import table  # noqa: E402

pytestmark = pytest.mark.usefixtures("undrawn_file", "short_search")
WORDS = ["a", "cat", "sat", "on", "the", "mat"]
TEXT = " ".join(WORDS[i * i % 6] for i in range(600))
RESULTS = Path(__file__).parents[2] / "simulations" / "results"
KINDS = [kind for kind in tables.FORMATS if kind != "parquet" or find_spec("pyarrow")]
FORMATS = [word for kind in KINDS for word in ("--format", kind)]


@pytest.fixture(scope="module")
def source(whole_words, tmp_path_factory):
    """A tiny network on disk, with a tokenizer of whole words."""
    folder = tmp_path_factory.mktemp("network") / "model"
    whole_words(WORDS).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=6, n_layer=3, n_embd=8, n_head=2, n_positions=64)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    (folder.parent / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


def run(*arguments):
    told = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert told.exit_code == 0, told.output
    return told


def read(file):
    return pd.read_csv(file) if file.suffix == ".csv" else pd.read_parquet(file)


def tables_hold_the_numbers(file):
    """Every number of the netCDF file stands in the .mat, and in one table of each kind."""
    dataset = results.load(file)
    stem = file.with_suffix("")
    matrices = scipy.io.loadmat(f"{stem}.mat")
    for name, variable in dataset.data_vars.items():
        if variable.dtype.kind in "OUSb":
            continue
        assert_allclose(np.squeeze(matrices[name]), np.squeeze(variable.to_numpy()), err_msg=name)
        parts = {"": variable} if variable.dtype.kind != "c" else {"_real": variable.real, "_imag": variable.imag}
        for kind in set(KINDS) - {"mat"}:
            frame = read(stem.with_name(f"{stem.name}.{'_'.join(variable.dims) or 'scalars'}.{kind}"))
            for end, part in parts.items():
                rtol = 1e-6 if part.dtype == np.float32 else 1e-12  # its shortest digits are not those of the double
                assert_allclose(frame[name + end], part.to_numpy().ravel(), rtol=rtol, err_msg=name)


COMMANDS = {
    "analyze": ("--text", "a cat sat on the mat", "--tokens", 6, "--parts", "feedback"),
    "drop": ("--attention", 1, "--text", TEXT, "--window", 16),
    "observe": (
        "--layer", 1, "--text", "text.txt", "--features", 8, "--k", 2, "--tokens", 100, "--context", 8, "--held-out", 2,
    ),
    "loop": ("--layers", "0:2", "--passes", 2, "--gain", 0.25, "--text", TEXT, "--tokens", 32, "--window", 16),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_checkpoints(command, source, tmp_path):
    options = [source.parent / word if word == "text.txt" else word for word in COMMANDS[command]]
    run(command, source, *options, "--out", tmp_path / "out", *FORMATS)
    (file,) = (tmp_path / "out").rglob("results.nc")
    tables_hold_the_numbers(file)


def test_compare_writes_its_differences(tmp_path):
    a, b, out = tmp_path / "a.nc", tmp_path / "b.nc", tmp_path / "differences.nc"
    results.save(a, xr.Dataset({"y": ("depth", [1.0, 2.0]), "z": 1.0}))
    results.save(b, xr.Dataset({"y": ("depth", [1.0, 2.5]), "w": 1.0}))
    run("compare", a, b, "--out", out, *FORMATS)
    tables_hold_the_numbers(out)
    frame = read(tmp_path / "differences.variable.csv").set_index("variable")
    assert frame.loc["y", ["absolute", "relative", "first"]].tolist() == [0.5, 0.25, 1]
    assert frame.loc["z", "note"] == "only in the first"
    assert frame.loc["w", "note"] == "only in the second"
    told = CliRunner().invoke(app, ["compare", str(a), str(b), "--format", "csv"])
    assert (told.exit_code, "give --out as well" in told.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sklearn") is None, reason="the digits are of scikit-learn, which is not installed")
def test_train_writes_the_scores_of_each_seed(tmp_path):
    sizes = ("--epochs", 1, "--depth", 1, "--width", 12, "--workers", 1)
    run("train", "digits", "--configs", "softmax", "--seeds", 2, *sizes, "--out", tmp_path, *FORMATS)
    result = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    frame = read(tmp_path / "comparison.arm_score_seed.csv")
    clean = frame[frame["score"] == "clean"]
    assert clean["seed"].tolist() == [0, 1]
    assert_allclose(clean["value"], result["arms"]["softmax"]["clean"]["values"])
    assert (tmp_path / "comparison.mat").exists()


def test_a_stored_comparison_as_a_table():
    result = json.loads((RESULTS / "train_digits.json").read_text(encoding="utf-8"))
    dataset = table.to_xarray(result)
    assert dataset.sizes["seed"] == 10
    for arm, rows in result["arms"].items():
        row = dataset.sel(arm=Path(arm).stem)
        for score in rows:
            assert_allclose(row["value"].sel(score=score).mean(), row["mean"].sel(score=score), rtol=1e-6)


@pytest.mark.parametrize("command", [*COMMANDS, "train", "compare", "report", "sweep", "simulate"])
def test_an_unknown_format_is_told_before_anything_is_read(command, tmp_path):
    needed = {
        "train": ["digits"],
        "compare": ["a.nc", "b.nc"],
        "report": [],
        "sweep": ["no.toml"],
        "simulate": ["neutreno"],
    }
    some = needed.get(command, ["no/such/source"])
    more = {"observe": ["--layer", "0", "--text", "t"], "drop": ["--text", "t"], "analyze": ["--text", "t"]}
    more["loop"] = ["--layers", "0:1", "--text", "t"]
    options = [*some, *more.get(command, []), "--format", "xlsx", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, [command, *options])
    assert told.exit_code == 2, told.output
    assert "unknown format 'xlsx': known are mat, csv, parquet" in told.stderr
    assert not (tmp_path / "out").exists()
