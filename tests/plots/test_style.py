"""What all pictures share, by value."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from ctrlattn.plots.style import decibel


def test_ten_times_the_amplitude_is_twenty_decibels():
    assert_allclose(decibel([1.0, 10.0, 0.1, 1000.0]), [0.0, 20.0, -20.0, 60.0], atol=1e-13)
    assert_allclose(decibel(3 - 4j), 20 * np.log(5) / np.log(10), rtol=1e-14)
    # A power of 2 is 10 log10 4 in decibels of power.
    assert_allclose(decibel(2.0), 10 * np.log10(2.0**2), rtol=1e-14)


def test_zero_is_a_gap():
    assert_array_equal(np.isnan(decibel([0.0, -1.0, np.nan])), [True, False, True])
