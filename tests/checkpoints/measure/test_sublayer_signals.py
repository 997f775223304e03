"""Signals of every sublayer: their sum is the stream, their slots are those of the layers."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from ctrlattn.checkpoints.measure.sublayer_signals import in_order, slots_of, sublayer_signals


@pytest.mark.parametrize("name", ["olmo2", "gemma4_text", "jamba", "falcon"])
def test_signals_sum_to_the_stream(of_type, text, name):
    """x_{l+1} = x_l + sum of what the sublayers add (in these types nothing is scaled by default)."""
    signals = sublayer_signals(of_type(name), text(1)[0])
    assert_allclose(signals.state[:-1] + np.nansum(signals.F, axis=1), signals.state[1:], rtol=0, atol=1e-10)
    assert_allclose(signals.x[:, 0][np.isfinite(signals.x[:, 0])],
                    signals.state[:-1][np.isfinite(signals.x[:, 0])], rtol=0, atol=0)  # fmt: skip


def test_a_second_sublayer_of_a_kind_has_a_slot_of_its_own(of_type):
    there = of_type("gemma4_text").sublayers()
    assert [slots_of(there)[s] for s in there[:3]] == ["attention", "mlp", "mlp 2"]
    assert in_order(slots_of(there)) == ("attention", "mlp", "mlp 2")
