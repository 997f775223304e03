"""What a pass map is made of: tests/looped/test_iterate.py runs every kind; here stand the checks of the map itself."""

import numpy as np
import pytest

from ctrlattn import CausalMean, InputError, Loop, looped
from ctrlattn.arrays import like, to_numpy
from ctrlattn.errors import InputTypeError
from ctrlattn.looped.pass_map import as_pass_map, require_state


def test_a_layer_is_the_step_of_its_loop(xp):
    h = like(np.array([[1.0], [3.0], [2.0]]), xp.zeros(1, dtype=xp.float64))
    assert to_numpy(as_pass_map(Loop(CausalMean()))(h)).ravel().tolist() == [1.0, 2.0, 0.0]
    assert to_numpy(as_pass_map([Loop(CausalMean()), Loop(CausalMean(), skip=2.0)])(h)).ravel().tolist() == [2, 3, -1.5]


def test_the_dtype_of_a_pass_stays():
    with pytest.raises(InputError, match="dtypes are mixed"):
        as_pass_map(lambda h: h.astype(np.float32))(np.ones(2))


def test_a_state_is_checked_before_any_pass():
    assert require_state(np.ones(3)).shape == (3,)
    with pytest.raises(InputError, match="expected a numpy array"):
        require_state([1.0, 2.0])
    for several in ((np.ones(3), np.ones(2)), {"low": np.ones(3), "high": np.ones(3)}):
        with pytest.raises(InputError, match="is one stream, and this one has 2"):
            require_state(several)


def test_a_map_that_writes_into_the_state_is_refused(xp):
    def halved(h):
        h *= 0.5
        return h

    h = xp.ones((1, 2))
    with pytest.raises(InputError, match="writes into its argument"):
        looped.iterate(halved, h, 3)
    looped.iterate(lambda h: halved(0 + h), h, 3)


def test_a_word_is_no_sequence_of_loops():
    with pytest.raises(InputTypeError, match="a pass map is a function"):
        looped.as_pass_map("abc")
