import numpy as np
import pytest

from ctrlattn import FixedAttention, Loop


@pytest.fixture
def stepped():
    """y_0 ... y_layers of one mode under a PID law, by the recursion of the loop itself: no transfer function."""
    return _stepped


def _stepped(pid, a, layers):
    """The response of the loop itself to a unit reference, from rest, from layer 1 on: no transfer function."""
    if np.iscomplexobj(a) and complex(a).imag:
        matrix = np.array([[a.real, -a.imag], [a.imag, a.real]])
    else:
        matrix = np.array([[complex(a).real]])
    x = np.zeros((len(matrix), 1))
    loop = Loop(FixedAttention(matrix), skip=0.0, feedback=1.0, controller=pid)
    target = np.zeros_like(x)
    target[0] = 1.0
    state = loop.init(x, target)._replace(controller=tuple(np.zeros_like(x) for _ in pid.init(x)), acting=True)
    y = [0j]
    for _ in range(layers):
        x, state, _ = loop.step(x, state)
        y.append(x[0, 0] + 1j * (x[1, 0] if len(x) > 1 else 0.0))
    return np.array(y)
