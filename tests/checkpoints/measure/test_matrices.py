"""What is an attention matrix, by its behaviour: a sink's rows sum to less than 1, a state and scores are none."""

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.checkpoints.measure.matrices import Matrices, fault_of, gathered  # noqa: E402  (after the skip)


def causal_softmax(n=70, heads=2, sink=None):
    """softmax of random scores over the tokens before, and over a null key of score `sink`."""
    scores = torch.randn(1, heads, n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
    if sink is None:
        return scores.softmax(-1)
    return torch.cat([scores, torch.full_like(scores[..., :1], sink)], -1).softmax(-1)[..., :-1]


@pytest.mark.parametrize("n", [1, 31, 32, 33, 70])
def test_a_softmax_is_one_with_and_without_a_sink(n):
    for sink in (None, -3.0, 2.0):
        assert fault_of(causal_softmax(n, sink=sink), causal=True) == ""


@pytest.mark.parametrize(("i", "j"), [(0, 1), (30, 31), (31, 32), (0, 69), (68, 69), (33, 60)])
def test_one_weight_ahead_is_seen_wherever_it_stands(i, j):
    a = causal_softmax()
    a[0, 1, i] *= 0.9
    a[0, 1, i, j] = 0.1
    assert fault_of(a, causal=True) == "a token has weight on those behind it in a causal network"
    assert fault_of(a, causal=False) == ""


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a - 0.01, "negative"),
        (lambda a: torch.full_like(a, torch.nan), "no numbers"),
        (lambda a: a * 1.01, "a row sums to 1.01"),
        (lambda a: a[..., :-1], r"its shape is \(1, 2, 70, 69\)"),
        (lambda a: a.long(), "its shape is"),
    ],
)
def test_what_is_none(change, word):
    assert re.search(word, fault_of(change(causal_softmax()), causal=True))


def test_a_mass_that_is_missing_is_a_sink_s():
    a = causal_softmax(sink=1.0)
    matrices, attrs = gathered([a, None], causal=True)
    np.testing.assert_allclose(attrs["sink_mass"], 1 - a.sum(-1).mean(), rtol=1e-12)
    assert attrs["sinks"] == 1
    assert np.isnan(matrices[1]).all()
    assert "sinks" not in gathered([causal_softmax()], causal=True)[1]


def test_several_shapes_or_none_are_said_and_not_guessed():
    small, large = causal_softmax(3), causal_softmax(4)
    matrices, attrs = gathered([small, large], causal=True)
    assert matrices is None
    assert attrs["no_matrix"].startswith("the attention matrices of the layers have 2 shapes")
    matrices, attrs = gathered([small - 1, None], causal=True)
    assert matrices is None
    assert attrs["no_matrix"] == (
        "no layer returns an attention matrix; what layer 0 returns as its matrix is none: its weights are negative, "
        "or no numbers"
    )


def test_half_precision_is_no_sink():
    assert "sinks" not in gathered([causal_softmax(400).to(torch.bfloat16)], causal=True)[1]


def test_matrices_of_several_types_keep_the_digits_of_the_finest():
    fine = causal_softmax(5)
    matrices, _ = gathered([fine.float(), fine], causal=True)
    np.testing.assert_array_equal(matrices[1], fine[0].numpy())


@pytest.mark.parametrize(
    ("change", "certain"),
    [
        (lambda a: a, True),
        (lambda a: a - 1e-4 * (a > 0), True),
        (lambda a: a - 1e-4, False),
        (lambda a: 1.005 * a, False),
    ],
)
def test_rows_are_certain_where_they_need_no_second_look(change, certain):
    """A weight below 0, or a sum above 1 by more than a thousandth, is left to the check of the whole recording."""
    matrices = Matrices(1, causal=False)
    matrices.put(0, change(causal_softmax(4)).to(torch.bfloat16 if certain is False else torch.float64))
    assert matrices.certain is certain
