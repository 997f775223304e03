"""frequency_response against python-control, closed forms, and at poles."""

import warnings

import control
import numpy as np
import pytest
from cases import every_case
from numpy.testing import assert_allclose

from ctrlattn import CausalMean, Loop, frequency_response, mode

W = np.linspace(0.05, 3.1, 37)


def system(n, structure="general", dt=1, inputs=2, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    a = 0.9 * rng.standard_normal((n, n)) / np.sqrt(n)
    a = {"general": a, "upper": np.triu(a), "lower": np.tril(a)}[structure]
    return control.ss(
        a if dt else a - 2 * np.eye(n), rng.standard_normal((n, inputs)), rng.standard_normal((outputs, n)),
        rng.standard_normal((outputs, inputs)), dt, remove_useless_states=False,
    )  # fmt: skip


@every_case("n", [1, 2, 7, 60, 130])
@every_case("structure", ["general", "upper", "lower"])
@every_case("dt, shape", [(1, (2, 3)), (0, (1, 1)), (0.1, (3, 2)), (True, (1, 3))])
def test_equal_to_python_control(n, structure, dt, shape):
    given = system(n, structure, dt, *shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "evaluation above Nyquist frequency"
        expected = given.frequency_response(W)
    response = frequency_response(given, W)
    assert_allclose(response.complex, expected.complex, rtol=0, atol=1e-10 * np.abs(expected.complex).max())
    assert response.complex.shape == expected.complex.shape
    for name in ("dt", "input_labels", "output_labels", "omega", "sysname"):
        assert np.array_equal(getattr(response, name), getattr(expected, name))


def test_a_defective_matrix():
    """c (z - a)^-1, ..., (z - a)^-n: eigenvectors would not help."""
    n, a = 80, 0.5
    block = control.ss(a * np.eye(n) + np.eye(n, k=1), np.eye(n)[:, -1:], np.eye(n), 0, 1)
    response = frequency_response(block, W).complex[:, 0]
    # Column n - 1 of the inverse of zI - J: (z - a)^-(n - i) in row i.
    expected = (np.exp(1j * W) - a) ** -np.arange(n, 0, -1)[:, None]
    assert_allclose(response / expected, 1.0, rtol=1e-10)
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    turned = control.ss(q @ block.A @ q.T, q @ block.B, block.C @ q.T, 0, 1)
    right = np.abs(np.exp(1j * W) - a) > 0.9  # where rounding of the rotated matrix is not magnified
    with pytest.warns(RuntimeWarning, match="rounding of A alone"):
        response = frequency_response(turned, W).complex[:, 0]
    assert_allclose(response[:, right], expected[:, right], atol=1e-8)


@every_case("n", [1, 3, 64])
def test_a_pole_on_the_grid_is_infinite(n):
    """An integrator at 0, as python-control says it: (inf, nan)."""
    chain = control.ss(np.eye(n) + np.eye(n, k=1), np.ones((n, 1)), np.ones((1, n)), 0, 1, remove_useless_states=False)
    response = frequency_response(chain, [0.0, 1.0]).complex
    assert np.isinf(response[0].real)
    assert np.isnan(response[0].imag)
    assert np.isfinite(response[1])
    alternating = frequency_response(control.ss([[-1.0]], [[1.0]], [[1.0]], 0, 1), [np.pi]).complex
    assert np.isinf(alternating[0])  # z = -1 exactly


def test_delays_gains_and_nothing():
    n = 60
    delays = control.ss(np.eye(n, k=1), np.eye(n)[:, -1:], np.eye(n)[:1], 0, 1, remove_useless_states=False)
    assert_allclose(frequency_response(delays, W).complex, np.exp(-1j * n * W), atol=1e-12)
    assert_allclose(frequency_response(control.ss([], [], [], [[3.0]], 1), W).complex, 3.0)
    zero = control.ss(np.zeros((50, 50)), np.ones((50, 1)), np.ones((1, 50)), 0, 1, remove_useless_states=False)
    assert_allclose(frequency_response(zero, W).complex, 50 * np.exp(-1j * W), atol=1e-12)
    assert frequency_response(system(60), []).complex.shape == (3, 2, 0)


def test_other_representations_and_order_of_frequencies():
    loop = Loop(CausalMean(), skip=1.0, feedback=-1.0)
    assert_allclose(
        frequency_response(control.tf([1.0], [1.0, -0.5], 1), W).complex, 1 / (np.exp(1j * W) - 0.5), rtol=1e-12
    )
    response = frequency_response(mode(loop, 0.25), W[::-1])
    assert_allclose(response.omega, W)
    assert_allclose(response.complex, mode(loop, 0.25)(np.exp(1j * W)))


@every_case(
    "given, omega, error, word",
    [
        (Loop(CausalMean()), W, TypeError, "mode"),
        ([Loop(CausalMean())] * 3, W, ValueError, "sequence of 3"),
        (system(3), [np.nan], ValueError, "finite"),
        (system(3), np.ones((2, 2)), ValueError, r"\(m,\)"),
        (control.ss([[np.nan]], [[1]], [[1]], 0, 1), W, ValueError, "A of the system"),
    ],
    ids=["loop", "loops", "nan", "shape", "nan in A"],
)
def test_refused(given, omega, error, word):
    with pytest.raises(error, match=word):
        frequency_response(given, omega)


@pytest.mark.parametrize("direct", [1e3, -1e12])
def test_a_large_direct_term_is_no_large_resolvent(direct):
    """The warning is of ||G - D||, and filterwarnings turns it into an error."""
    a = system(5).A
    given = control.ss(a, np.ones((5, 1)), np.ones((1, 5)), direct, 1)
    expected = [np.sum(np.linalg.inv(np.exp(1j * w) * np.eye(5) - a)) + direct for w in W]
    assert_allclose(frequency_response(given, W).complex, expected, rtol=1e-12)


def test_a_warning_of_lost_digits_names_the_worst_frequency_and_the_line_that_asked():
    """A turned Jordan block at -0.5: its resolvent is largest next to z = -1, the last of the frequencies."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))[0]
    a = q @ (-0.5 * np.eye(40) + np.eye(40, k=1)) @ q.T
    given = control.ss(a, q[:, -2:], q.T[:2], np.zeros((2, 2)), 1)
    with pytest.warns(RuntimeWarning, match=r"at 3\.1 rad rounding of A alone") as caught:
        frequency_response(given, W)
    assert caught[0].filename == __file__
