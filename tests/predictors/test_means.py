"""The causal mean against its literal form, and on long float32 texts."""

import numpy as np
import numpy.testing as npt
from cases import every_case

from ctrlattn import CausalMean
from ctrlattn.arrays import like, to_numpy

N, D = 6, 4


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def test_causal_mean_is_the_mean_of_the_earlier_tokens(xp):
    x = draws(2, N, D)
    y = to_numpy(CausalMean()(as_kind(xp, x)))
    npt.assert_array_equal(y[:, 0], 0.0)
    for i in range(1, N):
        npt.assert_allclose(y[:, i], x[:, :i].mean(1), rtol=1e-13, atol=1e-15)


@every_case("constant", [True, False])
def test_causal_mean_of_a_long_float32_text_keeps_its_digits(xp, constant):
    # Summed in float32 one token after another, the constant .1 would be off by 1e-4 after 100,000 tokens.
    x = np.full((100_000, 2), 0.1) if constant else 1.0 + draws(100_000, 2)
    exact = CausalMean()(np.float64(np.float32(x)))
    y = CausalMean()(as_kind(xp, x, "float32"))
    npt.assert_allclose(to_numpy(y)[100:], exact[100:], rtol=5e-7)
    last = CausalMean().last(as_kind(xp, x, "float32"))
    npt.assert_allclose(to_numpy(last)[0], exact[-1], rtol=2e-6)
