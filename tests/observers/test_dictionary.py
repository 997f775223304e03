"""A dictionary: codes, units and files do what they say."""

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from torch.nn.functional import normalize  # noqa: E402  (after the skip)

from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.observers import Dictionary, Settings, Training, load, save, train  # noqa: E402
from ctrlattn.observers.dictionary import FORMAT  # noqa: E402

WIDTH, TRUE, PRESENT = 32, 64, 3


def directions(count=TRUE, width=WIDTH, seed=0):
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)))


def examples(block, size=4096, true=None):
    """Sums of three known directions with coefficients in [0.5, 1.5)."""
    true = directions() if true is None else true
    generator = torch.Generator().manual_seed(1000 + block)
    chosen = torch.rand(size, len(true), generator=generator).topk(PRESENT, -1).indices
    coefficients = 0.5 + torch.rand(size, PRESENT, generator=generator)
    return torch.zeros(size, len(true)).scatter(1, chosen, coefficients) @ true


def test_topk_keeps_the_k_largest_and_nothing_negative():
    dictionary = Dictionary(WIDTH, 40, k=4, seed=1)
    x = examples(0, 50)
    z, response = dictionary.encode(x), dictionary.response(x)
    largest = response.topk(4).values
    assert torch.equal(z.topk(4).values, largest.relu())
    assert z.count_nonzero(-1).max() <= 4
    assert (z >= 0).all()
    assert torch.allclose(dictionary(x), dictionary.decode(z), atol=1e-5)  # sparse and dense sums


def test_a_signal_is_measured_in_its_own_units():
    training = Training(WIDTH, Settings(8, 2, blocks=1, batch=512))
    x = examples(0) * 37 + 5
    training.learn(x)
    scaled = training.dictionary.scaled(x)
    assert abs(float(scaled.square().mean()) - 1) < 1e-4
    assert scaled.mean(0).abs().max() < 1e-4
    assert torch.allclose(training.dictionary.unscaled(scaled), x, atol=1e-3)


def test_the_encoder_starts_as_the_decoder_of_unit_rows():
    dictionary = Dictionary(5, 7, seed=3)
    assert torch.equal(dictionary.encoder, dictionary.decoder)
    assert torch.allclose(dictionary.decoder.norm(dim=-1), torch.ones(7))


def test_files_hold_the_whole_dictionary(tmp_path):
    path = tmp_path / "d.safetensors"
    dictionary, _ = train(examples, Settings(16, 2, blocks=1, passes=1))
    save(path, dictionary, {"layer": 3, "signal": "error"})
    back, facts = load(path)
    assert facts == {"layer": 3, "signal": "error"}
    assert torch.equal(back(examples(1)), dictionary(examples(1)))
    assert [p.name for p in tmp_path.iterdir()] == ["d.safetensors"]


def test_foreign_and_damaged_files_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "d.safetensors"
    with pytest.raises(ValueError, match="no such file"):
        load(path)
    path.write_bytes(b"\x00" * 20)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load(path)
    save_file({"decoder": torch.ones(2, 2)}, path, metadata={"observer": json.dumps({"format": "other"})})
    with pytest.raises(ValueError, match="no dictionary of observers"):
        load(path)
    with pytest.raises(ValueError, match="no training of observers"):
        Training.resume(path, Settings(2, 1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dictionary(0, 4), "width must be a whole number of at least 1, got 0"),
        (lambda: Dictionary(4, 4, k=5), "k must be at most the number of features, 4, got 5"),
        (lambda: Dictionary(4, 4).codes(torch.ones(1, 4)), "has no k"),
        (lambda: Dictionary(4, 4)(torch.ones(2, 3)), "signals of 4 elements, got 3"),
        (lambda: Dictionary(4, 4).measure(torch.ones(5, 4)), "must vary"),
        (lambda: Settings(4, 2, blocks=0), "blocks must be at least 1"),
        (lambda: Settings(4, 2, rate=float("nan")), "rate must be positive and finite"),
        (lambda: Settings(4, 2, penalty=1.0), "penalty is for ReLU"),
        (lambda: Training(4, Settings(4, 2)).learn(torch.full((9, 4), torch.nan)), "finite"),
        (lambda: Training(4, Settings(4, 2)).learn(torch.ones(4)), "a block is"),
    ],
)
def test_bad_input_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "change", [{"facts": None}, {"facts": [1]}, {"format": "x"}, {"k": "3"}, {"k": -1}, {"format": None}, None]
)
def test_a_file_whose_description_is_damaged(change, tmp_path):
    """A value of None stands for a name that is not there."""
    from safetensors.torch import save_file

    about = {"format": FORMAT, "k": 2, "facts": {"layer": 1}}
    text = [1] if change is None else {key: value for key, value in {**about, **change}.items() if value is not None}
    weights, path = dict(Dictionary(3, 6, k=2).state_dict()), tmp_path / "a.safetensors"
    save_file(weights, path, {"observer": json.dumps(about)})
    assert load(path)[1] == {"layer": 1}
    save_file(weights, path, {"observer": json.dumps(text)})
    with pytest.raises(InputError, match=r"^.*a\.safetensors: no dictionary of observers\.save in this file$"):
        load(path)


def test_codes_of_another_number_of_features():
    with pytest.raises(InputError, match="the dictionary has 6 features, got codes of 5"):
        Dictionary(3, 6).decode(torch.ones(2, 5))
