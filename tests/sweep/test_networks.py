"""Losses of a network in the cells of a sweep: on the device, and in the numbers, that are asked for."""

import pytest

from ctrlattn import InputError, results
from ctrlattn.sweep import Spec, run
from ctrlattn.sweep.plan import judged, plan_from
from ctrlattn.sweep.spec import loads, running

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
WORDS = [f"w{i}" for i in range(40)]


@pytest.fixture(scope="module")
def source(tmp_path_factory, whole_words):
    """A directory with a tiny network and its tokenizer."""
    folder = tmp_path_factory.mktemp("network")
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(**sizes, num_attention_heads=2, initializer_range=0.3)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    whole_words(WORDS).save_pretrained(folder)
    return str(folder)


def losses(source, axes=None, **options):
    """A sweep of losses of one text of four windows."""
    checkpoint = {"source": source, "text": " ".join(WORDS[i * i % 37] for i in range(33)), "window": 8, **options}
    return Spec(
        {"span.passes": [1, 2]} if axes is None else axes, {"loss": {}}, checkpoint=checkpoint, span={"first": 0}
    )


@pytest.mark.slow
def test_a_cell_runs_its_network_in_the_numbers_that_are_asked_for(source, tmp_path):
    from ctrlattn import checkpoints
    from ctrlattn.sweep.cell import Cell

    spec = losses(source, {"checkpoint.dtype": ["float32", "float64"], "span.passes": [1, 2]})
    dataset = run(spec, tmp_path)
    ids = [[WORDS.index(word) for word in spec.checkpoint["text"].split()][i : i + 8] for i in range(0, 32, 8)]
    for dtype in ("float32", "float64"):
        network = checkpoints.load(source, attention="sdpa", dtype=dtype, device="cpu")
        alone = checkpoints.evaluate(network, ids).loss
        assert float(dataset["loss"].sel(dtype=dtype, passes=1)) == alone
        cell = Cell({"checkpoint": {**spec.checkpoint, "dtype": dtype}})
        assert cell.loss() == alone
    single, double = (dataset["loss"].sel(dtype=dtype).to_numpy() for dtype in ("float32", "float64"))
    assert 0 < abs(single - double).max() < 1e-5


def test_the_device_and_the_numbers_are_parts_of_a_sweep(source, tmp_path):
    plain = losses(source)
    asked = running(plain, {"device": "cpu", "dtype": "float64"})
    assert asked.checkpoint == {**plain.checkpoint, "device": "cpu", "dtype": "float64"}
    assert running(plain, {}) is plain
    assert judged(asked, tmp_path).mark != judged(plain, tmp_path).mark
    assert running(losses(source, dtype="float32"), {"dtype": "float64"}).checkpoint["dtype"] == "float64"
    run(asked, tmp_path / "run")
    assert loads(results.load(tmp_path / "run" / "results.nc").attrs["sweep"]).checkpoint == asked.checkpoint


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "float16"}, "checkpoint.dtype 'float16': did you mean 'float64'"),
        ({"dtype": 32}, "checkpoint.dtype"),
        ({"device": 0}, "checkpoint.device: must be a text, got 0"),
        ({"device": "abacus"}, "there is no device 'abacus' here"),
        ({"device": "meta"}, "shapes and no numbers"),
    ],
)
def test_they_are_judged_before_the_files(options, words, tmp_path):
    with pytest.raises(InputError, match=words):
        run(losses("no/such", **options), tmp_path / "out")
    assert not list((tmp_path / "out").glob("**/*.npz"))


def test_every_device_of_an_axis_is_judged(tmp_path):
    with pytest.raises(InputError, match="there is no device 'abacus' here"):
        judged(losses("no/such", {"checkpoint.device": ["cpu", "abacus"]}), tmp_path)


def test_a_device_of_a_cluster_is_judged_by_its_workers(source, tmp_path):
    plan = judged(losses(source, device="abacus"), tmp_path, here=False)
    with pytest.raises(InputError, match="a worker cannot run the network: there is no device 'abacus' here"):
        plan_from(plan.job)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            Spec({"loop.skip": [1]}, {"interval": {}}),
            r"--dtype: this sweep runs no network: it has no table \[checkpoint\]",
        ),
        (losses("a", {"checkpoint.dtype": ["float32"]}), "--dtype: it is an axis of this sweep, checkpoint.dtype"),
    ],
)
def test_an_option_that_says_nothing_is_refused(spec, words):
    with pytest.raises(InputError, match=words):
        running(spec, {"dtype": "float64"})


def test_the_command_has_the_options_of_the_others(source, tmp_path):
    from typer.testing import CliRunner

    from ctrlattn.cli import app
    from ctrlattn.sweep import dumps

    file, out = tmp_path / "sweep.toml", tmp_path / "out"
    file.write_text(dumps(losses(source)), encoding="utf-8")
    told = CliRunner().invoke(app, ["sweep", str(file), "--out", str(out), "--dtype", "float16"])
    assert (told.exit_code, "--dtype 'float16': did you mean 'float64'" in told.stderr) == (2, True), told.output
    told = CliRunner().invoke(app, ["sweep", str(file), "--out", str(out), "--device", "abacus"])
    assert (told.exit_code, "there is no device 'abacus' here" in told.stderr) == (2, True), told.output
    assert not out.exists()
