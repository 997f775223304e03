"""Every published way against its equation written out by hand, on both array kinds."""

import numpy as np
import numpy.testing as npt
import pytest

from ctrlattn import InputError, looped
from ctrlattn.arrays import like, to_numpy
from ctrlattn.looped.ways import held_input

W = np.random.default_rng(3).standard_normal((3, 3)) / 2


def as_kind(xp, x):
    return like(x, xp.zeros(1, dtype=xp.float64))


def start(xp):
    return as_kind(xp, np.random.default_rng(4).standard_normal((2, 3)))


def bent(xp):
    w = as_kind(xp, W)
    return lambda h: xp.tanh(h @ w)


def f(h):
    return np.tanh(h @ W)


def walked(step, h, passes):
    """The states of h <- step(h, h_before, h_0)."""
    states, before, first = [h], h, h
    for _ in range(passes):
        h, before = step(h, before, first), h
        states.append(h)
    return np.stack(states)


BY_HAND = {
    "naive": ({}, lambda h, before, first: f(h)),
    "damped": ({"substeps": 3}, lambda h, before, first: h + (f(h) - h) / 3),
    "relaxed": ({"gain": 0.7}, lambda h, before, first: 0.3 * h + 0.7 * f(h)),
    "recall": ({"recall": 2.0}, lambda h, before, first: (f(h) + 2 * first) / 3),
    "momentum": ({"gain": 0.4, "momentum": 0.3}, lambda h, before, first: h + 0.4 * (f(h) - h) + 0.3 * (h - before)),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_way_is_its_equation(xp, name):
    options, step = BY_HAND[name]
    run = looped.way(name, bent(xp), **options).run(start(xp), 6)
    npt.assert_allclose(run.state, walked(step, to_numpy(start(xp)), 6), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("name", "write"), [("parcae", 0.4), ("parcae-exact", (1 - np.exp(-0.4 * 1.5)) / 1.5)])
def test_parcae_decays_and_writes_its_input(xp, name, write):
    b = np.array([0.5, -1.0, 2.0])
    way = looped.way(name, lambda h, e: xp.tanh(h - e), decay=np.log(1.5), step=0.4, into=b)
    run = way.run(start(xp), 5)
    expected = walked(
        lambda h, before, e: np.exp(-0.4 * 1.5) * h + write * b * e + np.tanh(h - e), to_numpy(start(xp)), 5
    )
    npt.assert_allclose(run.state, expected, rtol=1e-12, atol=1e-13)


def test_a_full_matrix_writes_the_input_into_every_feature(xp):
    b = np.random.default_rng(5).standard_normal((3, 3))
    run = looped.way("parcae", lambda h, e: 0 * h, step=0.5, into=b).run(start(xp), 1)
    h = to_numpy(start(xp))
    npt.assert_allclose(run.state[1], np.exp(-0.5) * h + 0.5 * h @ b, rtol=1e-13)


@pytest.mark.parametrize("a", [-800.0, -30.0, 0.0, 3.0, 800.0])
def test_the_exact_hold_solves_its_differential_equation(a):
    from mpmath import exp, expm1, mpf

    carried, hold = held_input(a, 0.3, 2.0)
    rate = exp(mpf(a))
    npt.assert_allclose(carried, float(exp(-rate * mpf(0.3))), rtol=1e-14)
    npt.assert_allclose(hold, float(-expm1(-rate * mpf(0.3)) / rate * 2), rtol=1e-14)
    assert 0 <= carried <= 1
    assert held_input(a, 0.3, 2.0, "euler")[1] == pytest.approx(0.6, rel=1e-15)


def test_the_exact_hold_keeps_the_static_gain_that_euler_loses():
    # At rest h = e b/exp(a) of the flow: (1 - A)^-1 B.
    carried, hold = held_input(0.5, 0.8, 1.0)
    npt.assert_allclose(hold / (1 - carried), np.exp(-0.5), rtol=1e-14)
    carried, euler = held_input(0.5, 0.8, 1.0, "euler")
    assert euler / (1 - carried) > 1.5 * np.exp(-0.5)


def test_hrm_runs_the_low_level_between_the_steps_of_the_high_level(xp):
    w = as_kind(xp, W)
    way = looped.way("hrm", lambda z: xp.tanh(z @ w), lambda z: 0.5 * z, low_steps=2)
    run = way.run(start(xp), 2)
    slow, fast = to_numpy(start(xp)), np.zeros((2, 3))
    for k in range(2):
        for _ in range(2):
            fast = np.tanh((fast + slow) @ W)
        slow = 0.5 * (slow + fast)
        npt.assert_allclose(run.state[k + 1], np.stack([slow, fast]), rtol=1e-13)


def test_anderson_is_the_reference_solver(xp):
    run = looped.way("anderson", bent(xp), memory=4).run(start(xp), 30)
    npt.assert_allclose(run.state[-1], f(to_numpy(run.state[-1])), atol=1e-10)
    assert looped.way("anderson", bent(xp)).passes is None


def test_every_way_has_a_source_that_can_be_looked_up():
    assert list(looped.ways()) == [*BY_HAND, "parcae", "parcae-exact", "hrm", "anderson"]
    for name, source in looped.ways().items():
        assert any(mark in source for mark in ("arXiv", "J. ACM", "1998")), name


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: looped.way("naiv", f), "did you mean 'naive'"),
        (lambda: looped.way("naive"), r"takes 1 maps \(f\), got 0"),
        (lambda: looped.way("hrm", f), r"takes 2 maps \(low, high\), got 1"),
        (lambda: looped.way("damped", f, gain=0.5), "has no option 'gain': it has substeps"),
        (lambda: looped.way("damped", f, substeps=0), "substeps"),
        (lambda: looped.way("relaxed", f, gain=-0.1), "gain must be positive"),
        (lambda: looped.way("recall", f, recall=-0.1), "at least 0"),
        (lambda: looped.way("momentum", f, momentum=1.0), r"momentum must lie in \(-1, 1\)"),
        (lambda: looped.way("parcae", 3.0), "residual"),
        (lambda: looped.way("parcae", f, step=0.0), "step positive"),
        (lambda: held_input(0.0, 1.0, 1.0, "zoh"), 'must be "exact" or "euler"'),
    ],
)
def test_bad_input_says_what_would_be_right(call, says):
    with pytest.raises(InputError, match=says):
        call()


@pytest.mark.parametrize("options", [{"decay": np.zeros(3)}, {"into": np.ones((3, 3))}, {"into": np.ones((2, 2, 2))}])
def test_features_of_parcae_have_to_fit(options):
    with pytest.raises(InputError, match="must be numbers or fit features"):
        looped.way("parcae", lambda h, e: 0 * h, **options).run(np.ones((1, 2)), 2)
