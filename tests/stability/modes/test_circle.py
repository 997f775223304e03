"""Polynomials on the unit circle as Chebyshev series, against direct evaluation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.polynomial import chebyshev
from numpy.testing import assert_allclose

from ctrlattn.stability.modes.circle import cosines_of_roots, imaginary_part, point, squared_modulus

polynomials = st.lists(st.floats(-3, 3), min_size=1, max_size=6).map(np.array)
angles = st.floats(0.01, 3.13)


@given(p=polynomials, w=angles)
def test_squared_modulus(p, w):
    assert_allclose(
        chebyshev.chebval(np.cos(w), squared_modulus(p)), np.abs(np.polyval(p, np.exp(1j * w))) ** 2, atol=1e-9
    )


@given(n=polynomials, d=polynomials, w=angles)
def test_imaginary_part(n, d, w):
    z = np.exp(1j * w)
    expected = (np.polyval(n, z) * np.conj(np.polyval(d, z))).imag / np.sin(w)
    assert_allclose(chebyshev.chebval(np.cos(w), imaginary_part(n, d)), expected, atol=1e-7)


def test_roots():
    assert_allclose(cosines_of_roots(chebyshev.poly2cheb([-0.25, 0.0, 1.0])), [-0.5, 0.5], atol=1e-12)
    for none in ([0.0], [0.0, 0.0], [2.0], chebyshev.poly2cheb([1.0, 0.0, 1.0])):
        assert len(cosines_of_roots(np.array(none))) == 0


def test_point():
    assert_allclose(point(np.array([1.0, -1.0, 0.0])), [1, -1, 1j])
