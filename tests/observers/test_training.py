"""A dictionary whose true features are known is found again; dead features revive; a killed training goes on."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from torch.nn.functional import normalize  # noqa: E402  (after the skip)

from ctrlattn.errors import InputError  # noqa: E402
from ctrlattn.observers import Dictionary, Settings, Training, train  # noqa: E402

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


def recovered(dictionary, true):
    """Share of the true directions that some feature has to a cosine of 0.95."""
    return float(((true @ dictionary.decoder.detach().T).amax(1) > 0.95).float().mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        Settings(TRUE, PRESENT, blocks=8, passes=4, batch=256, rate=3e-3, dead_after=2000),
        Settings(TRUE, None, blocks=8, passes=4, batch=256, rate=3e-3, dead_after=2000, penalty=0.5),
    ],
    ids=["TopK", "ReLU"],
)
def test_known_features_are_recovered(settings):
    dictionary, shown = train(examples, settings)
    assert recovered(dictionary, directions()) > 0.95
    assert recovered(Dictionary(WIDTH, TRUE, k=PRESENT, seed=5), directions()) < 0.05  # the control: untrained
    assert shown[-1].explained > 0.9
    assert shown[-1].dead < 0.05
    assert torch.allclose(dictionary.decoder.norm(dim=-1), torch.ones(TRUE), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fitted", "unit"])
def test_auxk_revives_features_that_nothing_excites(start, monkeypatch):
    def dead_at_the_end(dead_after):
        settings = Settings(TRUE, PRESENT, blocks=6, passes=2, batch=256, rate=3e-3, dead_after=dead_after, start=start)
        training = Training(WIDTH, settings)
        training.begin(examples(0))
        monkeypatch.setattr(training, "begin", lambda signal: None)  # it has begun
        with torch.no_grad():  # half of the features begin far below the others
            training.dictionary.threshold[: TRUE // 2] = -6.0 * training.dictionary.encoder.norm(dim=-1).mean()
        for block in range(settings.blocks):
            training.learn(examples(block))
        return float((training.idle > 3000).float().mean())

    assert dead_at_the_end(10**9) > 0.4  # the control: nothing counts as dead, nothing is revived
    assert dead_at_the_end(1000) < 0.1


def test_dead_relu_features_start_again():
    settings = Settings(TRUE, None, blocks=8, passes=2, batch=256, rate=3e-3, dead_after=2000, penalty=0.3)
    training = Training(WIDTH, settings)
    with torch.no_grad():
        training.dictionary.threshold[: TRUE // 2] = -50.0
    first = training.learn(examples(0))
    for block in range(1, 8):
        last = training.learn(examples(block))
    assert first.dead > 0.4
    assert last.dead < 0.05


def test_a_killed_training_goes_on_bit_for_bit(tmp_path):
    settings = Settings(TRUE, PRESENT, blocks=4, passes=1, batch=128, dead_after=500)
    whole, _ = train(examples, settings)
    path = tmp_path / "state.safetensors"

    def killed(block):
        if block == 2:
            raise KeyboardInterrupt
        return examples(block)

    with pytest.raises(KeyboardInterrupt):
        train(killed, settings, state=path)
    asked, told = [], []
    resumed, shown = train(
        lambda block: (asked.append(block), examples(block))[1],
        settings,
        state=path,
        progress=lambda line, done, total: told.append((done, total)),
    )
    assert asked == [2, 3]
    assert told == [(3, 4), (4, 4)]
    assert len(shown) == 2
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    with pytest.raises(ValueError, match="differs in rate:"):
        train(examples, Settings(TRUE, PRESENT, blocks=4, passes=1, batch=128, dead_after=500, rate=0.1), state=path)
    with pytest.raises(ValueError, match="differs in layer:"):
        train(examples, settings, state=path, facts={"layer": 2})


def test_a_training_ends():
    training = Training(WIDTH, Settings(8, 2, blocks=1))
    training.learn(examples(0, 64))
    with pytest.raises(ValueError, match=r"this training is over: .* 1 blocks"):
        training.learn(examples(1, 64))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_the_first_codes_of_topk_are_as_long_as_rebuilds_a_sample_best(scale):
    x = scale * torch.randn(200, 12, generator=torch.Generator().manual_seed(0))
    fitted, unit, relu = (
        Training(12, Settings(40, k, blocks=1, start=start))
        for k, start in ((5, "fitted"), (5, "unit"), (None, "fitted"))
    )
    for training in (fitted, unit, relu):
        training.begin(x)
    own = fitted.dictionary
    with torch.no_grad():
        scaled = own.scaled(x)
        rebuilt = own.combine(own.codes(own.response(scaled)))
        assert float((scaled * rebuilt).sum() / rebuilt.square().sum()) == pytest.approx(1, abs=1e-5)
    lengths = [training.dictionary.encoder.detach().norm(dim=-1) for training in (fitted, unit, relu)]
    assert float(lengths[0].std()) < 1e-6
    assert 0.3 < float(lengths[0].mean()) < 0.95  # rows of length 1 rebuild too much
    for own_length in lengths[1:]:
        torch.testing.assert_close(own_length, torch.ones(40))


def test_a_start_that_rebuilds_nothing_is_left_as_it_is(monkeypatch):
    training = Training(3, Settings(4, 2, blocks=1))
    monkeypatch.setattr(training.dictionary, "combine", lambda codes: torch.zeros(8, 3))
    training.begin(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(training.dictionary.encoder.detach().norm(dim=-1), torch.ones(4))


def test_a_start_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="start"):
        Settings(8, 2, start="short")
