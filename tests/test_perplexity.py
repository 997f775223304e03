"""exp of a loss against its definition: n equally likely tokens have the perplexity n."""

import math

import pytest

from ctrlattn.perplexity import perplexity_of


def test_as_many_equally_likely_tokens():
    for n in (1, 2, 9, 50_257):
        assert perplexity_of(math.log(n)) == pytest.approx(n, rel=1e-14)


def test_a_loss_of_any_size_has_one():
    assert perplexity_of(699.9) == math.exp(699.9)
    assert perplexity_of(700.0) == perplexity_of(1e4) == perplexity_of(math.inf) == math.inf
    assert perplexity_of(math.nan) == math.inf
