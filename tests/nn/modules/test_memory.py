"""The trained `read` layer is the loop of ctrlattn.memory, its gradient that of finite differences, and it learns."""

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn import simulate  # noqa: E402  (after the skip)
from ctrlattn.nn import ReadLayer, ReadTransformer  # noqa: E402


def model(sign=-1.0, **changes):
    options = {"vocabulary": 7, "dim": 8, "slots": 5, "layers": 3, "context": 6, "seed": 1}
    return ReadTransformer(**{**options, **changes}, sign=sign, temperature=0.3, context_temperature=0.2).double()


IDS = torch.tensor([[0, 6, 3, 3, 1, 2], [5, 5, 5, 0, 1, 4]])


@pytest.mark.parametrize("sign", [-1.0, 1.0, 0.3, (0.5, -1.0, 2.0)])
def test_the_module_is_the_sequence_of_loops(sign):
    trained = model(sign)
    with torch.no_grad():
        final = simulate(trained.loops(), trained.embed(IDS), 9, record="last").state
        npt.assert_allclose(trained.state(IDS), final, rtol=0, atol=1e-12)
        logits = final @ trained.tokens.T / torch.exp(trained.log_temperature)
        npt.assert_allclose(trained(IDS), logits, rtol=0, atol=1e-12)


def test_the_loops_follow_what_is_learned():
    layer = ReadLayer(4, 3).double()
    with torch.no_grad():
        layer.log_temperature.fill_(np.log(0.7))
        layer.log_context_temperature.fill_(np.log(0.05))
    association, context, mlp = layer.loops()
    npt.assert_allclose([association.predictor.temperature, mlp.predictor.temperature], 0.7, rtol=1e-15)
    npt.assert_allclose(context.predictor.temperature, 0.05, rtol=1e-15)
    npt.assert_array_equal(mlp.predictor.keys, layer.values.detach())


@pytest.mark.slow
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_gradients_are_those_of_finite_differences(sign):
    trained = model(sign, layers=1)
    names = [name for name, _ in trained.named_parameters()]
    assert sum("temperature" in name for name in names) == 3

    def logits(*parameters):
        return torch.func.functional_call(trained, dict(zip(names, parameters, strict=True)), (IDS,))

    assert torch.autograd.gradcheck(logits, tuple(trained.parameters()))


def test_each_read_has_its_own_gain_which_training_may_change():
    signs = [0.5, -1.0, 0.0]
    fixed, learned = model(signs, layers=2), model(signs, layers=2, learned_sign=True)
    assert torch.equal(fixed(IDS), learned(IDS))
    assert [loop.feedback for loop in learned.loops()] == 2 * signs
    assert fixed.state_dict().keys() < learned.state_dict().keys()  # a file of fixed signs stays what it was
    learned(IDS).square().sum().backward()
    for layer in learned.layers:
        for j, gradient in enumerate(layer.sign.grad.tolist()):
            losses = []
            for step in (1e-6, -2e-6):
                with torch.no_grad():
                    layer.sign[j] += step
                    losses.append(learned(IDS).square().sum().item())
            with torch.no_grad():
                layer.sign[j] += 1e-6
            npt.assert_allclose(gradient, (losses[0] - losses[1]) / 2e-6, rtol=1e-5)


def test_the_future_is_not_read():
    trained, changed = model(), IDS.clone()
    changed[:, 4:] = 6
    with torch.no_grad():
        before, after = trained(IDS), trained(changed)
    npt.assert_allclose(before[:, :4], after[:, :4], rtol=0, atol=1e-13)
    assert torch.max(torch.abs(before[:, 4] - after[:, 4])) > 1e-3


def test_the_sign_is_no_gauge():
    # With a learned output projection -W_O undoes the sign; here -V changes the keys of the third read as well.
    minus, plus = model(-1.0, layers=1), model(1.0, layers=1)
    with torch.no_grad():
        npt.assert_array_equal(minus.layers[0].values, plus.layers[0].values)
        plus.layers[0].values.neg_()
        assert torch.max(torch.abs(minus(IDS) - plus(IDS))) > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_it_learns_what_only_the_context_tells(sign):
    # The last token repeats the first one: chance is log 4 = 1.386, whatever is known of the tokens alone.
    trained = ReadTransformer(6, 16, 8, 2, context=3, sign=sign, seed=0)
    first = torch.arange(4).repeat_interleave(4)
    ids = torch.stack([first, torch.full((16,), 4), torch.arange(4).repeat(4) % 2 + 4], 1)
    optimizer = torch.optim.Adam(trained.parameters(), lr=0.02)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(trained(ids)[:, -1], first)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"slots": 0}, "slots must be a whole number of at least 1"),
        ({"layers": 1.5}, "layers must be a whole number"),
        ({"sign": float("nan")}, "sign must be finite"),
        ({"sign": (1.0, -1.0)}, "one number or three"),
        ({"temperature": 0.0}, "temperature must be positive"),
    ],
)
def test_a_model_that_cannot_be_built_says_why(changes, message):
    with pytest.raises(ValueError, match=message):
        ReadTransformer(**{"vocabulary": 7, "dim": 8, "slots": 5, "layers": 1, "context": 6, **changes})


def test_too_long_a_sequence_and_a_foreign_token_are_refused():
    with pytest.raises(ValueError, match="7 tokens, the model 6 positions"):
        model()(torch.zeros(1, 7, dtype=torch.long))
    with pytest.raises(ValueError, match=r"0 \.\.\. 6, got 0 \.\.\. 7"):
        model()(torch.tensor([[0, 7]]))
