"""The expansion against differences of the loss, and the choice where it is known."""

import numpy as np
import pytest
import torch

from ctrlattn.checkpoints import Calibration, choose, compensated_drop, drop, evaluate
from ctrlattn.checkpoints.network.structure import gain_of
from ctrlattn.checkpoints.reduce.choose import _greedy, _products


def nudged(checkpoint, gains, layer, ids, size):
    """Loss with the contribution of one layer moved by `size` of the way to what its gain gives."""
    one, seen = checkpoint.sublayers("attention")[layer], {}
    gain = gain_of(gains.family, gains.model, layer, "attention")

    def normed(module, args, output):
        seen["u"] = output

    def added(module, args, output):
        return (output[0] + size * (gain(seen["u"])[0] - output[0]), *output[1:])

    hooks = [one.norm.register_forward_hook(normed), one.module.register_forward_hook(added)]
    try:
        return evaluate(checkpoint, ids).loss
    finally:
        for hook in hooks:
            hook.remove()


def test_slope_is_the_derivative_of_the_loss_towards_the_gain(network, text):
    whole, ids = network(), text(5, seed=1)
    choice = choose(whole, 1, text(30), ids)
    for layer in range(4):
        gains = drop(whole, attention=[layer], compensate=text(30))
        loss = [nudged(whole, gains, layer, ids, size) for size in (1e-2, -1e-2)]
        # Llama takes its norms in float32 whatever the network is in.
        assert choice.slope[layer] == pytest.approx((loss[0] - loss[1]) / 2e-2, rel=0.02, abs=1e-4)


@pytest.mark.slow
def test_curvature_is_the_mean_over_drawn_tokens(network, text):
    """The mean over seeds meets the KL divergence between the network and the one that is moved a little."""
    whole, ids, layer, size = network(), text(4, seed=1), 2, 1e-2
    found = np.mean([choose(whole, 1, text(30), ids, seed=s).curvature[layer, layer] for s in range(20)])
    gains = drop(whole, attention=[layer], compensate=text(30))
    logs = []
    for moved in (0.0, size):
        hooked = []
        hook = whole.model.lm_head.register_forward_hook(lambda m, a, o, kept=hooked: kept.append(o.log_softmax(-1)))
        nudged(whole, gains, layer, ids, moved)
        hook.remove()
        logs.append(torch.cat(hooked)[:, :-1])
    divergence = float((logs[0].exp() * (logs[0] - logs[1])).sum(-1).mean()) / size**2
    # Only the effect of a token's own error on all that follows is in the estimate, not that of pairs of tokens.
    assert 0.2 * divergence < found < 5 * divergence


def test_what_adds_nothing_is_chosen_first_and_what_is_kept_never(network, text):
    whole = network()
    with torch.no_grad():
        whole.model.model.layers[2].self_attn.o_proj.weight.zero_()
    choice = choose(whole, 3, text(30), text(5, seed=1))
    assert choice.order[0] == 2
    assert choice.predicted[0] == pytest.approx(0, abs=1e-12)
    assert 2 not in choose(whole, 3, text(30), text(5, seed=1), keep=[2]).layers
    assert choose(whole, 2, text(30), text(5, seed=1)).order == choice.order[:2]


def test_pairs_count():
    """Two layers whose errors add up are not taken together, though each alone is the cheapest."""
    curvature = np.array([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.1]])
    order, predicted = _greedy(np.zeros(3), curvature, [0, 1, 2], 2)
    assert order == [0, 2]
    np.testing.assert_allclose(predicted, [1.0, 2.1])


def test_choice_and_drop_in_one(network, text):
    smaller, choice = compensated_drop(network(), 2, Calibration(text(30), rank=3), text(5, seed=1))
    assert smaller.model.config.ctrlattn["attention"] == {str(layer): 3 for layer in choice.layers}
    smaller, choice = compensated_drop(network(), 1, text(30), text(5, seed=1), kind="mlp")
    assert list(smaller.model.config.ctrlattn["mlp"]) == [str(choice.layers[0])]


def test_the_network_is_left_as_it_was(network, text):
    whole = network()
    before = evaluate(whole, text()).window_losses
    choose(whole, 1, text(30), text(5, seed=1))
    np.testing.assert_array_equal(evaluate(whole, text()).window_losses, before)
    assert all(p.grad is None for p in whole.model.parameters())


def test_bad_counts_are_one_clear_line(network, text):
    for count in (0, 4):
        with pytest.raises(ValueError, match=rf"must be one of 1 ... 3, got {count}"):
            choose(network(), count, text(), text())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize(("g", "e"), [(1e-5, 1e-4), (300.0, 400.0)])
def test_scores_are_summed_in_float64(dtype, g, e):
    # In float16 a product of 1e-5 and 1e-4 was 0, and one of 300 and 400 inf.
    torch.manual_seed(0)
    gradients, errors = (size * torch.randn(2, 3, 5, dtype=torch.float64).abs() for size in (g, e))
    gradients, errors = gradients.to(dtype), errors.to(dtype)
    expected = torch.einsum("lwtd,lwtd->lwt", gradients.double()[None], errors.double()[None])[0]
    got = _products(tuple(gradients[None]), list(errors[None]))[0]
    torch.testing.assert_close(got, expected, rtol=1e-13, atol=0)
