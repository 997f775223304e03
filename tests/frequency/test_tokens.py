"""Along the tokens: gains on waves and on differences, cosine and rank, against brute force and exact cases."""

import numpy as np
import pytest
from cases import every_case
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ctrlattn.errors import InputError
from ctrlattn.frequency import difference_gain, mean_cosine, participation_rank, token_frequency_response

RNG = np.random.default_rng(0)


def test_gain_on_waves():
    matrix = RNG.random((3, 6, 6))
    w = np.array([0.0, 0.7, np.pi])
    waves = np.exp(1j * np.outer(np.arange(6), w))
    expected = np.linalg.norm(matrix @ waves, axis=-2) / np.linalg.norm(waves, axis=-2)
    assert_allclose(token_frequency_response(matrix, w), expected, rtol=1e-12)
    rows = matrix / matrix.sum(-1, keepdims=True)
    assert_allclose(token_frequency_response(rows, w)[:, 0], 1.0)
    assert_allclose(token_frequency_response(np.eye(5), w), 1.0)


def test_difference_gain_is_the_rms_gain_on_random_differences(xp):
    matrix = RNG.random((7, 7))
    x = RNG.standard_normal((7, 200_000))
    x = x - x.mean(axis=0)
    y = matrix @ x
    y = y - y.mean(axis=0)
    measured = np.sqrt(np.sum(y**2) / np.sum(x**2))
    assert_allclose(difference_gain(xp.asarray(matrix)), measured, rtol=5e-3)


def test_difference_gain_exact_cases():
    assert difference_gain(np.full((4, 4), 0.25)) == 0.0
    assert_allclose(difference_gain(2.5 * np.eye(4)), 2.5)
    assert np.isnan(difference_gain(np.ones((1, 1))))
    assert np.isnan(difference_gain(np.ones((4, 2, 1, 1)))).tolist() == [[True, True]] * 4
    assert difference_gain(np.ones((3, 1, 1))).shape == (3,)
    assert difference_gain(np.stack([np.eye(3), np.zeros((3, 3))])).tolist() == [1.0, 0.0]


def test_mean_cosine_against_all_pairs(xp):
    x = RNG.standard_normal((2, 5, 4))
    unit = x / np.linalg.norm(x, axis=-1, keepdims=True)
    pairs = [[unit[b, i] @ unit[b, j] for i in range(5) for j in range(5) if i != j] for b in range(2)]
    assert_allclose(np.asarray(mean_cosine(xp.asarray(x))), np.mean(pairs, axis=1), atol=1e-14)


def test_mean_cosine_exact_cases(xp):
    assert_allclose(float(mean_cosine(xp.ones((4, 3), dtype=xp.float64))), 1.0)
    assert float(mean_cosine(xp.zeros((4, 3), dtype=xp.float64))) == 0.0
    assert np.isnan(float(mean_cosine(xp.ones((1, 3), dtype=xp.float64))))
    assert_allclose(float(mean_cosine(xp.asarray(np.array([[1.0, 2.0], [-1.0, -2.0]])))), -1.0)


@settings(max_examples=30)
@given(n=st.integers(1, 6), d=st.integers(1, 6), seed=st.integers(0, 999))
def test_participation_rank_by_singular_values(n, d, seed):
    x = np.random.default_rng(seed).standard_normal((n, d))
    s = np.linalg.svd(x, compute_uv=False)
    assert_allclose(participation_rank(x), np.sum(s**2) ** 2 / np.sum(s**4), rtol=1e-10)


def test_participation_rank_exact_cases(xp):
    assert_allclose(float(participation_rank(xp.eye(5, dtype=xp.float64))), 5.0)
    assert float(participation_rank(xp.zeros((4, 3), dtype=xp.float64))) == 0.0


def test_not_finite():
    for function in (difference_gain, lambda a: token_frequency_response(a, np.zeros(1))):
        with pytest.raises(ValueError, match="finite"):
            function(np.full((2, 2), np.nan))


@every_case("quantity", [mean_cosine, participation_rank])
@every_case("shape", [(2, 3, 4, 6), (2, 3, 6, 4)])
def test_leading_axes_are_many_signals(quantity, shape, xp):
    x = xp.asarray(RNG.normal(size=shape))
    each = [[float(quantity(x[i, j])) for j in range(3)] for i in range(2)]
    assert_allclose(np.asarray(quantity(x)), each, rtol=1e-12)


@every_case("shape", [(2, 3), (3, 2), (3,), (2, 0, 0), (3, 3, 2), (3, 2, 3)])
def test_attention_is_square(shape):
    with pytest.raises(InputError, match="n, n"):
        token_frequency_response(np.ones(shape), [0.0])
    assert token_frequency_response(np.ones((2, 4, 3, 3)), [0.0]).shape == (2, 4, 1)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 3e3])
def test_sums_are_in_float64_whatever_the_signal_is(name, size):
    # In float16 a square overflows at 256, and the rank was nan; in bfloat16 the cosine had two digits.
    torch = pytest.importorskip("torch")
    signal = torch.from_numpy(size * (RNG.standard_normal((3, 40, 8)) + 1)).to(getattr(torch, name))
    for function in (mean_cosine, participation_rank):
        assert_allclose(function(signal).numpy(), function(signal.double()).numpy(), rtol=1e-13)
        if name == "float32":
            assert_allclose(function(signal.numpy()), function(signal.double().numpy()), rtol=1e-13)


@every_case("n, d", [(2, 1), (2, 5), (3, 7), (5, 3), (9, 8)])
@every_case("seed", range(8))
def test_a_mean_cosine_stays_in_its_range(xp, n, d, seed):
    # Of equal tokens it was 1 + 2e-16.
    x = np.random.default_rng(seed).standard_normal(d) * np.ones((n, 1))
    for signs in (1.0, np.resize([1.0, -1.0], (n, 1))):
        value = float(mean_cosine(xp.asarray(x * signs)))
        assert -1 <= value <= 1
        expected = (np.sum(np.ones((n, 1)) * signs) ** 2 - n) / (n * (n - 1))
        assert_allclose(value, expected, atol=1e-12)


def test_frequencies_are_one_axis_of_finite_numbers():
    assert_allclose(token_frequency_response(np.eye(3), 0.5), [1.0])
    assert_allclose(token_frequency_response(2 * np.eye(3), [0.5, 1.0]), [2.0, 2.0])
    for omega in (np.nan, [0.0, np.inf]):
        with pytest.raises(InputError, match="omega must be finite"):
            token_frequency_response(np.eye(3), omega)


def test_the_gain_at_0_is_the_root_mean_square_of_the_row_sums():
    a = np.array([[1.0, 2.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, -4.0]])
    assert_allclose(token_frequency_response(a, [0.0]), [np.sqrt((9 + 1 + 16) / 3)])
    # A shift by one token turns a wave and loses one of n entries.
    for n in (2, 5, 9):
        assert_allclose(token_frequency_response(np.eye(n, k=-1), [0.3, 2.0]), np.sqrt((n - 1) / n))
        assert_allclose(difference_gain(np.roll(np.eye(n), 1, axis=0)), 1.0)


@every_case("n", [2, 3, 6])
def test_difference_gain_is_the_frobenius_norm_between_the_projections(n):
    a = RNG.normal(size=(2, 4, n, n))
    p = np.eye(n) - np.ones((n, n)) / n
    expected = np.linalg.norm(p @ a @ p, axis=(-2, -1)) / np.linalg.norm(p)
    assert_allclose(difference_gain(a), expected, rtol=1e-12)
    assert_allclose(difference_gain(a + RNG.normal(size=(n, 1))), expected, rtol=1e-12)  # what a constant signal gets
    assert_allclose(difference_gain(a + RNG.normal(size=(2, 4, 1, n))), expected, rtol=1e-12)


@pytest.mark.parametrize("quantity", [mean_cosine, participation_rank])
def test_length_and_order_of_tokens_and_a_turn_change_nothing(quantity):
    x = RNG.normal(size=(5, 3))
    q = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    for other in (x[::-1], x @ q, -7.0 * x, 1e-3 * x):
        assert_allclose(quantity(other), quantity(x), rtol=1e-12)
    scaled = x * np.array([[1.0], [2.0], [0.5], [10.0], [1e-3]])
    assert_allclose(mean_cosine(scaled), mean_cosine(x), rtol=1e-12)


def test_a_zero_token_has_cosine_0_with_every_other():
    x = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    assert_allclose(mean_cosine(x), 2 / 6)
    assert_allclose(mean_cosine(np.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, 0.0]])), -2 / 12)
    assert_allclose(mean_cosine(np.array([[1.0, 0.0], [np.cos(1.0), np.sin(1.0)]])), np.cos(1.0))


def test_the_rank_of_orthogonal_tokens_is_the_ratio_of_their_lengths():
    for s in ([3.0, 4.0], [1.0, 2.0, 5.0]):
        square = np.square(s)
        for x in (np.diag(s), np.pad(np.diag(s), ((0, 3), (0, 0))), np.pad(np.diag(s), ((0, 0), (0, 3)))):
            assert_allclose(participation_rank(x), square.sum() ** 2 / np.sum(square**2), rtol=1e-13)
    assert participation_rank(np.stack([np.eye(3), np.zeros((3, 3))])).tolist() == [3.0, 0.0]


@pytest.mark.parametrize("quantity", [mean_cosine, participation_rank])
def test_a_complex_signal_and_one_without_tokens_are_refused(quantity):
    with pytest.raises(InputError, match=rf"{quantity.__name__}: the signal must be real"):
        quantity(np.ones((3, 2), dtype=complex))
    with pytest.raises(InputError):
        quantity(np.ones(3))
    with pytest.raises(InputError):
        quantity(np.ones((0, 3)))


def test_attention_of_complex_numbers_is_refused():
    with pytest.raises(InputError, match="attention matrices"):
        difference_gain(1j * np.eye(3))
    with pytest.raises(InputError, match="n, n"):
        difference_gain(np.ones((2, 3)))
    with pytest.raises(InputError, match="n, n"):
        difference_gain(np.ones((2, 0, 0)))
