"""The scan over passes against powers of matrices and written-out loops, on both array kinds; degenerate maps first."""

import control
import numpy as np
import numpy.testing as npt
import pytest
import torch

from ctrlattn import PID, CausalMean, InputError, InputTypeError, Loop, looped
from ctrlattn.arrays import like, to_numpy
from ctrlattn.loop import Trajectory


def draws(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).standard_normal(shape)


def as_kind(xp, x, dtype="float64"):
    return like(x, xp.zeros(1, dtype=getattr(xp, dtype)))


def linear(xp, matrix):
    """h -> J h on the features of every token."""
    transposed = as_kind(xp, np.asarray(matrix, dtype=float).T)
    return lambda h: h @ transposed


# --- degenerate maps ----------------------------------------------------------------------------------------------


def test_a_constant_map_is_reached_at_once_and_by_a_gain_geometrically(xp):
    c, h = as_kind(xp, draws(2, 3)), as_kind(xp, draws(2, 3, seed=1))
    npt.assert_array_equal(looped.iterate(lambda h: c, h, 3).state[1:], np.stack([to_numpy(c)] * 3))
    run = looped.iterate(lambda h: c, h, 6, PID(0.25))
    expected = [to_numpy(c + 0.75**k * (h - c)) for k in range(7)]
    npt.assert_allclose(run.state, np.stack(expected), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("recall", [0.0, 0.4])
def test_the_identity_asks_for_nothing_and_recall_has_nothing_to_call_back(xp, recall):
    h = as_kind(xp, draws(2, 3))
    run = looped.iterate(lambda h: h, h, 4, PID(0.3, 0.2), recall)
    npt.assert_array_equal(run.state, np.stack([to_numpy(h)] * 5))
    npt.assert_array_equal(run.error, 0 * run.error)


@pytest.mark.parametrize(
    "matrix",
    [
        np.diag([0.5, -0.25]),
        [[0.3, -0.8], [0.8, 0.3]],  # a complex pair
        [[0.5, 1.0], [0.0, 0.5]],  # defective
        [[0.0, 1.0], [1.0, 0.0]],  # an orbit of period 2
    ],
    ids=["diagonal", "pair", "defective", "flip"],
)
@pytest.mark.parametrize("recall", [0.0, 0.6])
@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_a_linear_map_is_a_power_of_its_pass(xp, matrix, gain, recall):
    h, j = draws(3, 2), np.asarray(matrix, dtype=float)
    run = looped.iterate(linear(xp, j), as_kind(xp, h), 7, PID(gain), recall)
    # h' = M h + g k_r h_0 with M = I + g (J - (1 + k_r) I), on column vectors
    m = np.eye(2) + gain * (j - (1 + recall) * np.eye(2))
    expected = h.T
    for k in range(8):
        npt.assert_allclose(to_numpy(run.state[k]), expected.T, rtol=1e-11, atol=1e-12)
        expected = m @ expected + gain * recall * h.T


def test_the_recalled_fixed_point_is_the_implicit_euler_step(xp):
    # h = h_0 + (F(h) - h)/k_r: a backward step of size 1/k_r along F - 1
    j, k_r, h = np.array([[0.2, 0.9], [-0.5, 1.4]]), 1.5, draws(4, 2)
    run = looped.iterate(linear(xp, j), as_kind(xp, h), 400, PID(0.3), k_r, record="last")
    implicit = np.linalg.solve(np.eye(2) - (j - np.eye(2)) / k_r, h.T).T
    npt.assert_allclose(run.state, implicit, rtol=1e-9)
    assert run.prediction is None
    assert run.error is None
    assert run.control is None


def test_the_largest_real_eigenvalue_on_the_edge_of_recall_never_settles(xp):
    h = as_kind(xp, np.ones((1, 1)))
    run = looped.iterate(lambda h: 1.75 * h, h, 50, PID(0.4), 0.75)  # lambda = 1 + k_r: h' = h + g k_r h_0
    npt.assert_allclose(to_numpy(run.state).ravel(), 1 + 0.3 * np.arange(51), rtol=1e-12)


# --- what it takes and gives --------------------------------------------------------------------------------------


def test_the_trajectory_holds_the_equations(xp):
    f, h = linear(xp, draws(4, 4)), as_kind(xp, draws(2, 3, 4))
    run = looped.iterate(f, h, 5, PID(0.2, 0.1, 0.05), 0.3)
    assert isinstance(run, Trajectory)
    assert run.state.shape == (6, 2, 3, 4)
    npt.assert_allclose(run.prediction, np.stack([to_numpy(f(x)) for x in run.state[:-1]]), rtol=1e-14)
    npt.assert_allclose(run.error, to_numpy(run.prediction - run.state[:-1] + 0.3 * (h - run.state[:-1])), atol=1e-13)
    npt.assert_allclose(run.control, to_numpy(run.state[1:] - run.state[:-1]), rtol=1e-12, atol=1e-12)


def test_a_loop_is_one_of_its_layers_and_a_sequence_all_of_them(xp):
    loop, h = Loop(CausalMean(), order="sequential"), as_kind(xp, draws(4, 3))
    one_layer = looped.iterate(loop, h, 3).state[-1]
    npt.assert_allclose(one_layer, looped.iterate([loop] * 3, h, 1).state[-1], rtol=1e-14)


def test_a_torch_module_is_a_map_with_a_gradient():
    module = torch.nn.Linear(3, 3, dtype=torch.float64)
    h = torch.ones(2, 3, dtype=torch.float64)
    looped.iterate(module, h, 3, PID(0.5), 0.1).state[-1].sum().backward()
    assert torch.isfinite(module.weight.grad).all()
    assert module.weight.grad.abs().max() > 0


def test_the_first_array_of_a_tuple_counts(xp):
    h = as_kind(xp, draws(2, 2))
    assert to_numpy(looped.iterate(lambda h: (0.5 * h, None), h, 1).state[-1]).tolist() == to_numpy(0.5 * h).tolist()


def test_it_stops_where_it_rests(xp):
    h = as_kind(xp, np.ones((1, 1)))
    run = looped.iterate(lambda h: 0.5 * h, h, 100, until=0.01)  # |e_k| = .5^(k+1)
    assert len(run.state) == 8
    assert float(abs(run.error[-1]).max()) == 0.5**7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kind_dtype_and_shape_stay(xp, dtype):
    h = as_kind(xp, draws(5), dtype)
    run = looped.iterate(lambda h: 0.5 * h, h, 2, PID(0.5, 0.1), 0.2)
    assert type(run.state) is type(h)
    assert run.state.dtype == h.dtype
    assert run.state.shape == (3, 5)


# --- bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"passes": 0}, "passes must be a whole number of at least 1, got 0"),
        ({"passes": 2.5}, "passes must be a whole number"),
        ({"recall": -1.0}, "recall .* at least 0"),
        ({"controller": control.tf([1], [1, 1])}, "continuous-time"),
        ({"record": "some"}, 'record must be "all" or "last"'),
        ({"f": 3.0}, "a pass map is a function"),
        ({"f": CausalMean}, "is the class CausalMean"),
        ({"f": []}, "the sequence of loops is empty"),
        ({"f": Loop(CausalMean(), controller=PID(0.1))}, "controller over layers"),
        ({"f": lambda h: h[..., :1]}, "must end with the shape it begins with"),
        ({"f": lambda h: "state"}, "must return what it takes"),
        ({"h": np.ones((2, 2), dtype=int)}, "floating point"),
        ({"h": np.ones((2, 2), dtype=complex)}, "is real"),
        ({"h": np.full((2, 2), np.nan)}, "h_0 must be finite"),
        ({"h": np.ones((0, 2))}, "at least one number"),
        ({"until": "rest"}, "until must be a number"),
        ({"until": -0.01}, "until must be at least 0"),
    ],
)
def test_bad_input_says_what_would_be_right(change, says):
    given = {"f": lambda h: 0.5 * h, "h": np.ones((2, 2)), "passes": 2, **change}
    with pytest.raises(InputError, match=says):
        looped.iterate(given.pop("f"), given.pop("h"), given.pop("passes"), **given)


def test_a_map_that_turns_numpy_into_torch_is_refused():
    with pytest.raises(InputTypeError, match="must return what it takes"):
        looped.iterate(lambda h: torch.as_tensor(h), np.ones((2, 2)), 1)


def test_a_nan_on_the_way_is_told_with_its_pass(xp):
    h = as_kind(xp, np.full((1, 1), 0.5))

    def lost(h):
        return xp.log(h) + 1  # log 0.5 + 1 = .307, log .307 + 1 = -.18, log of that: nan

    with pytest.raises(InputError, match=r"pass 3 of 9: F\(h\) must be finite: found nan"):
        looped.iterate(lost, h, 9)


def test_a_state_that_runs_away_is_told_with_its_pass(xp):
    h = as_kind(xp, np.full((1, 1), 1e200))
    with pytest.raises(InputError, match="pass 2 of 9: the state must be finite: found inf"):
        looped.iterate(lambda h: 2.0 * h, h, 9, PID(1e100))
