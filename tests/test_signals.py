"""Recorded signals: what is stored comes back, what is not sound is refused by name, and the shipped files are real."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn import signals
from ctrlattn.errors import InputError

RNG = np.random.default_rng(0)


def weights(layers=3, heads=2, n=4, causal=True):
    scores = RNG.random((layers, heads, n, n)) + 0.1
    scores = np.tril(scores) if causal else scores
    return scores / scores.sum(-1, keepdims=True)


def recorded(**attrs):
    arrays = {
        "attention": weights(),
        "embedding": RNG.standard_normal((4, 6)),
        "attention_out": RNG.standard_normal((3, 4, 6)),
        "mlp_out": RNG.standard_normal((3, 4, 6)),
    }
    return signals.dataset(
        arrays, tokens=["a", " b", "<i>", "д"], attrs={"model": "toy", "norm": "pre", "causal": 1, **attrs}
    )


def test_stream_is_the_running_sum():
    text = recorded()
    state, mid = text["state"].to_numpy(), text["mid"].to_numpy()
    assert_allclose(mid, state[:-1] + text["attention_out"].to_numpy(), atol=1e-14)
    assert_allclose(state[1:], mid + text["mlp_out"].to_numpy(), atol=1e-14)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_round_trip_to_float16(tmp_path, norm):
    texts = [recorded(norm=norm), recorded(norm=norm)]
    signals.save(tmp_path / "two.npz", texts)
    back = signals.load(tmp_path / "two.npz")
    assert len(back) == 2
    for before, after in zip(texts, back, strict=True):
        assert after["text"].to_numpy().tolist() == ["a", " b", "<i>", "д"]
        assert after.attrs["model"] == "toy"
        assert_allclose(after["attention"].sum("key"), 1.0, atol=1e-15)
        for name in before.data_vars:
            assert before[name].dims == after[name].dims
            assert_allclose(after[name], before[name], atol=8e-3)
    assert [p.name for p in tmp_path.iterdir()] == ["two.npz"]


def test_massive_activation_does_not_leave_its_rounding_in_the_stream(tmp_path):
    text = recorded()
    push = np.zeros((3, 4, 6))
    push[0, 0, 0], push[2, 0, 0] = 22_345.678, -22_345.678
    arrays = {name: text[name].to_numpy() for name in ("attention", "attention_out")}
    massive = signals.dataset(
        {**arrays, "embedding": text["state"].to_numpy()[0], "mlp_out": push}, attrs=dict(text.attrs)
    )
    signals.save(tmp_path / "m.npz", [massive])
    assert_allclose(signals.load(tmp_path / "m.npz")[0]["state"][-1], massive["state"][-1], atol=8e-3)


def test_a_file_written_by_hand_with_attention_alone(tmp_path):
    meta = json.dumps({"model": "by hand", "norm": "pre", "causal": 0})
    np.savez(tmp_path / "hand.npz", **{"meta": np.array(meta), "0/attention": weights(causal=False)})
    (text,) = signals.load(tmp_path / "hand.npz")
    assert list(text.data_vars) == ["attention"]


BROKEN = {
    "negative": ({"0/attention": -weights()}, "must not be negative"),
    "rows": ({"0/attention": 0.5 * weights()}, "rows of attention must sum to 1"),
    "nan": ({"0/attention": np.full((1, 1, 2, 2), np.nan)}, "finite"),
    "integers": ({"0/attention": np.ones((1, 1, 1, 1), int)}, "floating-point"),
    "shape": ({"0/attention": weights()[0]}, r"attention must be \(layer, head, query, key\)"),
    "not square": ({"0/attention": weights()[..., :3, :]}, "dim"),
    "tokens": ({"0/attention": weights(), "0/state": np.ones((4, 5, 6))}, "state has 5 of dim 'token'"),
    "layers": ({"0/attention": weights(), "0/state": np.ones((3, 4, 6))}, "state has 2 of dim 'layer'"),
    "names": ({"0/attention": weights(), "0/text": np.array(["a"])}, "text names 1 tokens"),
    "unknown": ({"0/attention": weights(), "0/atention": weights()}, "unknown array 'atention'"),
    "missing": ({"0/state": np.ones((4, 4, 6))}, "'attention' .* is missing"),
    "half": ({"0/attention": weights(), "0/embedding": np.ones((4, 6))}, "needs attention_out and mlp_out"),
    "numbering": ({"1/attention": weights()}, "numbered"),
    "letters": ({"first/attention": weights()}, "numbered"),
    "empty": ({}, "numbered"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_unsound_files_are_refused_by_name(tmp_path, fault):
    arrays, message = BROKEN[fault]
    np.savez(tmp_path / "broken.npz", meta=np.array('{"model": "x", "norm": "pre", "causal": 1}'), **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        signals.load(tmp_path / "broken.npz")
    assert "broken.npz" in str(caught.value)


def test_pickled_corrupt_and_foreign_files(tmp_path):
    np.savez(tmp_path / "pickled.npz", meta=np.array([{"model": "x"}], dtype=object))
    (tmp_path / "corrupt.npz").write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.ones(3))
    np.savez(tmp_path / "nometa.npz", **{"0/attention": weights()})
    np.savez(tmp_path / "badmeta.npz", **{"meta": np.array("not json"), "0/attention": weights()})
    for name, word in {
        "pickled.npz": "pickled",
        "corrupt.npz": "corrupt.npz",
        "text.npz": "text.npz",
        "empty.npz": "empty.npz",
        "single.npy": "single array",
        "nometa.npz": "'meta'",
        "badmeta.npz": "badmeta.npz",
        "absent.npz": "no such file",
    }.items():
        with pytest.raises(ValueError, match=word):
            signals.load(tmp_path / name)


def test_nothing_to_save(tmp_path):
    with pytest.raises(ValueError, match="no text"):
        signals.save(tmp_path / "a.npz", [])


def test_shipped_recordings_are_sound():
    for name in signals.shipped():
        texts = signals.load_shipped(name)
        assert len(texts) == 2
        for text in texts:
            assert {"attention", "state", "mid", "attention_out", "mlp_out"} <= set(text.data_vars)
            assert_allclose(text["attention"].sum("key"), 1.0, atol=1e-12)
            assert {"model", "licence", "package", "norm", "causal"} <= set(text.attrs)
            if text.attrs["causal"]:
                assert np.all(np.triu(text["attention"].to_numpy(), 1) == 0)
    with pytest.raises(ValueError, match=r"unknown recording .*: known are"):
        signals.load_shipped("gpt-9")


def test_first_attention_layer_of_the_shipped_decoder_is_negative_feedback():
    """CHECKPOINTS: strongly negative on nearly every token, then near zero, the last layers positive."""
    texts = signals.load_shipped("smollm2-135m")
    gain = np.concatenate(
        [signals.feedback_gain(t["state"].to_numpy()[:-1], t["attention_out"].to_numpy().astype(float)) for t in texts],
        axis=-1,
    )
    median = np.median(gain, axis=1)
    assert median[0] < -0.1
    assert np.mean(gain[0] < 0) > 0.9
    assert np.all(np.abs(median[4:19]) < 0.03)
    assert np.all(median[-4:] > 0)


@given(scale=st.floats(-3, 3), seed=st.integers(0, 99))
def test_feedback_gain_of_a_multiple_of_the_state(scale, seed):
    x = np.random.default_rng(seed).standard_normal((2, 3, 4))
    assert_allclose(signals.feedback_gain(x, scale * x), scale, atol=1e-12)


def test_feedback_gain_kinds_and_degenerate_cases(xp):
    x = xp.asarray(np.array([[0.0, 0.0], [1.0, 0.0]]))
    f = xp.asarray(np.array([[5.0, 5.0], [0.0, 2.0]]))
    gain = signals.feedback_gain(x, f)
    assert type(gain) is type(x)
    assert np.asarray(gain).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="differ in shape"):
        signals.feedback_gain(x, f[:1])


def test_a_file_of_something_else_is_not_called_pickled(tmp_path):
    path = tmp_path / "notes.npz"
    path.write_text("garbage")
    with pytest.raises(ValueError, match=r"notes.npz: not a file of recorded signals: no .npz archive"):
        signals.load(path)


def test_a_list_is_no_array():
    with pytest.raises(TypeError, match="attention must be a numpy array, got list"):
        signals.dataset({"attention": [[[[1.0]]]]}, attrs={"model": "toy", "norm": "pre", "causal": 1})


def test_the_rows_of_a_sink_keep_what_is_missing(tmp_path):
    matrix = np.array([[0.25, 0.0], [0.25, 0.5]])
    text = signals.dataset(
        {"attention": np.stack([matrix, np.full((2, 2), np.nan)])[:, None]},
        attrs={"model": "toy", "norm": "pre", "causal": 1, "sinks": 1, "no_matrix": "layer 1 has none"},
    )
    signals.save(tmp_path / "sink.npz", [text])
    again = signals.load(tmp_path / "sink.npz")[0]["attention"].to_numpy()
    assert again[0, 0].tolist() == matrix.tolist()
    assert np.isnan(again[1]).all()
    assert signals.sink_mass(again[0, 0]).tolist() == [0.75, 0.25]


def test_the_parts_and_labels_of_steps_come_back(tmp_path):
    """A stream that goes on scaled is no running sum of contributions: it is stored itself."""
    x = np.arange(12.0).reshape(3, 2, 2)
    parts = {"state": x, "mid": x[:2], "attention_out": x[:2] + 1, "mlp_out": x[:2] - 1, "carried": x[:2] / 2}
    steps = {"stream": x[:2], "contribution": x[:2] / 4}
    labels = {
        "call": ("step", [0, 1]), "step_of": ("sublayer", [0, 1]), "kind": ("sublayer", ["mixer", "mlp"]),
        "path": ("sublayer", ["a.0", "b"]), "norm_behind": ("step", ["", "n"]),
    }  # fmt: skip
    attrs = {"model": "toy", "norm": "pre", "causal": 1}
    text = signals.dataset({"attention": np.ones((2, 1, 2, 2)) / 2, **parts, **steps}, attrs=attrs, labels=labels)
    signals.save(tmp_path / "steps.npz", [text])
    again = signals.load(tmp_path / "steps.npz")[0]
    for name in (*parts, *steps):
        assert again[name].to_numpy().tolist() == text[name].to_numpy().tolist()
    assert {name: again[name].to_numpy().tolist() for name in labels} == {n: v for n, (_, v) in labels.items()}


def test_a_layer_is_without_a_matrix_where_all_of_it_is_nan():
    """nan in one place is a fault, also in the first one; the rows of the other layers are still held to 1."""
    whole = np.full((3, 1, 2, 2), 0.5)
    whole[1] = np.nan
    attrs = {"model": "toy", "norm": "pre", "causal": 0, "no_matrix": "layer 1"}
    assert signals.dataset({"attention": whole}, attrs=attrs).sizes["layer"] == 3
    for place, word in ((np.nan, "finite"), (0.6, r"off by 0\.1")):
        faulty = whole.copy()
        faulty[2, 0, 0, 0] = place
        with pytest.raises(InputError, match=word):
            signals.dataset({"attention": faulty}, attrs=attrs)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_numbers_are_finite_and_infinity_is_not(dtype):
    state = np.full((2, 1, 3), np.finfo(dtype).max, dtype)
    given = {"attention": np.ones((1, 1, 1, 1), dtype), "state": state}
    attrs = {"model": "toy", "norm": "pre", "causal": 1}
    assert signals.dataset(given, attrs=attrs)["state"].dtype == dtype
    state[1, 0, 2] = -np.inf
    with pytest.raises(InputError, match="state must hold finite"):
        signals.dataset(given, attrs=attrs)
    assert signals.dataset(given, attrs=attrs, judged=True)["state"].dtype == dtype


@given(st.integers(1, 9), st.floats(1e-3, 1e3), st.integers(0, 2**32))
def test_a_cosine_stays_in_its_range(d, size, seed):
    x = np.random.default_rng(seed).standard_normal((20, d))
    assert np.all(np.abs(signals.cosine(x, size * x) - 1) < 1e-12)
    assert np.all(signals.cosine(x, size * x) <= 1)
    assert np.all(signals.cosine(x, -size * x) >= -1)


@pytest.mark.parametrize("epsilon", [2.0**-7, 2.0**-10, 2.0**-23])
def test_what_varies_by_rounding_alone_does_not_vary(epsilon):
    # Equal tokens differed by rounding, and the share of that which a sublayer predicts was told as a result.
    rng = np.random.default_rng(0)
    still = rng.standard_normal(6) * (1 + epsilon * rng.uniform(-1, 1, (12, 6)))
    moving = rng.standard_normal((12, 6))
    for x, f in ((still, moving), (moving, still), (still, still)):
        assert np.isnan(signals.predictor_fit(x, f, epsilon=epsilon)).all()
    assert signals.predictor_fit(moving, 2 * moving, epsilon=epsilon) == pytest.approx((0.5, 1.0))
    assert not signals.varied(still, epsilon).any()
    one = still.copy()
    one[3, 2] += 20 * epsilon * np.abs(still).max()
    assert_allclose(signals.varied(one, epsilon), one - one.mean(0))


def test_what_differs_as_sums_of_many_terms_in_another_order_does_not_vary():
    """On a processor with other sums equal tokens differed by 4.4 roundings at 16 features, and had a rank of 3."""
    rng, epsilon, d = np.random.default_rng(0), 2.0**-23, 400
    x, noise = rng.standard_normal(d), rng.uniform(-1, 1, (12, d))
    assert not signals.varied(x * (1 + 2 * d**0.5 * epsilon * noise), epsilon).any()
    # Numbers of 16 bits are added in 32: there their own rounding is the larger one.
    assert signals.varied(x * (1 + 2 * d**0.5 * 2.0**-7 * noise), 2.0**-7).any()


def test_a_massive_feature_hides_no_others():
    x = 0.01 * np.random.default_rng(0).standard_normal((12, 6))
    x[:, 2] = 1e6
    assert_allclose(signals.varied(x, 2.0**-23), x - x.mean(0))


def test_no_token_varies_by_nothing():
    assert signals.varied(np.ones((0, 3)), 1e-7).shape == (0, 3)
