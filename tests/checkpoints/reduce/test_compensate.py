"""A gain is the ridge solution; it is exact where the sublayer was a linear map of the token all along."""

import numpy as np
import pytest
import torch

from ctrlattn.checkpoints import Calibration, drop, evaluate, importance
from ctrlattn.checkpoints.network.stand_ins import Gain
from ctrlattn.checkpoints.reduce.compensate import SecondMoments, assign
from ctrlattn.checkpoints.reduce.layerwise import Flow


def signals(n=40, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return (torch.as_tensor(rng.standard_normal((n, d))) for _ in range(3))


def test_gain_is_the_weighted_ridge_solution():
    u, y, x = signals()
    gain, bias = SecondMoments.of(u, y, x).solve(0.1)
    w = (1 / x.square().mean(-1)).numpy()
    w /= w.sum()
    centred_u, centred_y = u.numpy() - w @ u.numpy(), y.numpy() - w @ y.numpy()
    penalty = 0.1 * np.mean(w @ centred_u**2)
    # The same as plain least squares with rows sqrt(penalty) I beneath the data.
    rows = np.vstack([np.sqrt(w)[:, None] * centred_u, np.sqrt(penalty) * np.eye(5)])
    right = np.vstack([np.sqrt(w)[:, None] * centred_y, np.zeros((5, 5))])
    wanted = np.linalg.lstsq(rows, right, rcond=None)[0].T
    np.testing.assert_allclose(gain, wanted, atol=1e-10)
    np.testing.assert_allclose(bias, w @ y.numpy() - wanted @ (w @ u.numpy()), atol=1e-10)


def test_moments_of_parts_add_up():
    u, y, x = signals()
    parts = SecondMoments.of(u[:15], y[:15], x[:15]) + SecondMoments.of(u[15:], y[15:], x[15:])
    for mine, whole in zip(parts.solve(0.1), SecondMoments.of(u, y, x).solve(0.1), strict=True):
        torch.testing.assert_close(mine, whole)


def test_reduced_rank_is_the_best_of_that_rank_in_the_ridge_loss():
    u, y, x = signals(d=4)
    moments = SecondMoments.of(u, y, x)
    full, _ = moments.solve(0.1)
    best, _ = moments.solve(0.1, rank=2)
    assert torch.linalg.matrix_rank(best) == 2
    mean = moments.u / moments.weight
    metric = moments.uu / moments.weight - mean[:, None] * mean
    metric = metric + 0.1 * metric.diagonal().mean() * torch.eye(4)
    excess = lambda g: float(torch.trace((g - full) @ metric @ (g - full).T))  # noqa: E731
    sizes = torch.linalg.svdvals(full @ torch.linalg.cholesky(metric))
    assert excess(best) == pytest.approx(float((sizes[2:] ** 2).sum()))  # Eckart and Young


@pytest.mark.parametrize("rank", [2, 4, 5])
def test_factors_of_a_gain_multiply_to_it(rank):
    u, y, x = signals()
    matrix, bias = SecondMoments.of(u, y, x).solve(0.1, rank)
    gain = Gain(5, rank, pair=False).double()
    assign(gain, matrix, bias)
    token = torch.ones(1, 5, dtype=torch.float64)
    torch.testing.assert_close(gain(token)[0], matrix @ token[0] + bias)


@pytest.mark.parametrize("name", ["llama", "neox"])
def test_what_was_a_linear_map_of_the_token_is_recovered(network, name):
    """In windows of one token repeated each attention is a linear map of that token: W_O W_V norm(x)."""
    whole = network(name)
    ids = np.repeat(np.arange(1, 50)[:, None], 4, axis=1)
    bare, gained = drop(whole, attention=[1, 3]), drop(whole, attention=[1, 3], compensate=Calibration(ids, 1e-9))
    loss = evaluate(whole, ids).window_losses
    assert np.abs(evaluate(bare, ids).window_losses - loss).max() > 0.1
    assert np.abs(evaluate(gained, ids).window_losses - loss).max() < 1e-4


def test_gains_win_back_part_of_the_loss(network, text):
    whole = network()
    loss = evaluate(whole, text(8)).window_losses
    for named in ({"attention": [1, 2]}, {"blocks": [2]}):
        dropped = [drop(whole, **named, compensate=how) for how in (None, Calibration(text(200), 0.01))]
        away = [np.abs(evaluate(one, text(8)).window_losses - loss).mean() for one in dropped]
        assert away[1] < 0.9 * away[0]


def test_progress_is_told_layer_by_layer(network, text):
    seen = []
    drop(network(), attention=[1, 3], compensate=Calibration(text(), progress=lambda *step: seen.append(step)))
    assert seen == [("fit", 1, 3), ("fit", 2, 3), ("fit", 3, 3)]


def test_rank_decides_the_number_of_weights(network, text):
    whole = network()
    before = sum(p.numel() for p in whole.model.model.layers[1].self_attn.parameters())
    smaller = drop(whole, attention=[1], compensate=Calibration(text(), rank=3))
    gain = smaller.model.model.layers[1].self_attn
    assert sum(p.numel() for p in gain.parameters()) == 2 * 3 * 24 + 24 < before
    assert abs(float(importance(smaller, text())["attention"][1])) > 0


def test_bad_settings_are_one_clear_line(text):
    with pytest.raises(ValueError, match="penalty must be positive, got 0"):
        Calibration(text(), penalty=0)
    assert [Calibration(text(), memory=how).ridge for how in (False, True)] == [0.1, 1.0]
    with pytest.raises(ValueError, match="rank of a gain must be at least 1, got 0"):
        Calibration(text(), rank=0)


@pytest.mark.parametrize("memory", [False, True])
def test_every_part_of_the_text_is_run_in_the_precision_of_the_caller(network, monkeypatch, memory):
    run, parts = Flow._signals, []

    def watched(flow, sublayer, part):
        parts.append((part, torch.is_autocast_enabled("cpu")))
        return run(flow, sublayer, part)

    monkeypatch.setattr(Flow, "_signals", watched)
    ids = [np.arange(n) % 30 for n in (9, 12, 15, 18)]  # windows of four lengths: four parts
    for lower in (True, False):
        parts.clear()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=lower):
            drop(network(), attention=[1], compensate=Calibration(ids, memory=memory))
        assert set(parts) == {(part, lower) for part in range(4)}
