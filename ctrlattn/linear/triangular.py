"""A = P' (block triangular) P: poles are those of the diagonal blocks, never `eigvals` of the whole.

A causal network is block triangular over its tokens, and on clustered eigenvalues `eigvals` is off by (1e-16)^(1/n).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.arrays import require_finite, require_numbers
from ctrlattn.controllers import PID
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.lazy import loaded
from ctrlattn.linear.operators import pass_operator
from ctrlattn.loop import Loop, refuse_loop_sequence, require_scalar_gains

if TYPE_CHECKING:
    import control


def poles(system: Any) -> np.ndarray:
    """Return the poles of a state space, or eigenvalues of a matrix, from its irreducible diagonal blocks.

    States that feed each other in a circle make a block (a strongly connected part of the graph of A); between the
    blocks A is triangular in some order, whatever the order of the states. A zero has to be an exact zero.

    Parameters
    ----------
    system : control.StateSpace or (n, n) array

    Returns
    -------
    (n,) complex128
        They descend in modulus. A triangular matrix gives its diagonal, exactly.

    Raises
    ------
    InputTypeError
        A Loop, which has the poles of its modes.
    InputError
        Not square, or not finite; a sequence of loops.

    Examples
    --------
    >>> poles(np.array([[0.5, 0.0], [7.0, 0.5]])).tolist()
    [(0.5+0j), (0.5+0j)]
    """
    if isinstance(system, Loop):
        raise InputTypeError("poles takes a matrix or a StateSpace: pass mode(loop, a) or token_system(loop, n)")
    refuse_loop_sequence(system, "poles")
    a = require_numbers(
        "the matrix of poles", system.A if isinstance(system, loaded("control", "StateSpace")) else system
    )
    if a.ndim != 2 or a.shape[0] != a.shape[1]:
        raise InputError(f"poles are of a square matrix (n, n), got shape {a.shape}")
    if a.size == 0:
        return np.empty(0, complex)
    require_finite("the matrix of poles", a)
    values = np.concatenate([np.linalg.eigvals(a[np.ix_(i, i)]) if len(i) > 1 else a[i, i] for i in diagonal_blocks(a)])
    return values.astype(complex)[np.argsort(-np.abs(values), kind="stable")]


def is_triangular(a: np.ndarray) -> bool:
    """Tell whether a matrix is upper or lower triangular, exactly.

    >>> is_triangular(np.tril(np.ones((3, 3)))), is_triangular(np.ones((2, 2)))
    (True, False)
    """
    if a.size and a[-1, 0] != 0 and a[0, -1] != 0 and len(a) > 1:  # most matrices: both corners say no
        return False
    return not (np.any(np.tril(a, -1)) and np.any(np.triu(a, 1)))


def diagonal_blocks(a: np.ndarray) -> list[np.ndarray]:
    """Return the indices of the irreducible diagonal blocks: each a strongly connected part of the graph of a.

    >>> [block.tolist() for block in diagonal_blocks(np.array([[1.0, 2, 0], [3, 4, 0], [5, 6, 7]]))]
    [[0, 1], [2]]
    """
    if is_triangular(a):
        return list(np.arange(len(a))[:, None])
    if a.all():  # every state feeds every other: no graph is needed to see it
        return [np.arange(len(a))]
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(csr_array(a != 0), directed=True, connection="strong")
    order = np.argsort(label, kind="stable")
    parts = np.split(order, np.cumsum(np.bincount(label, minlength=count))[:-1])
    return sorted(parts, key=lambda part: int(part[0]))


def token_system(loop: Loop, n: int) -> "control.StateSpace":
    """Return one layer of a linear loop on n tokens of one feature: the whole loop is this system (x) identity(d).

    The same matrix acts on every feature, so that n tokens of d features need n (1 + memories) states and never
    (n d)^2 numbers. States go token by token, x and its controller's memories together: for a causal predictor A is
    block lower triangular, and its poles are those of the n small diagonal blocks, one attention mode each.

    Parameters
    ----------
    loop : Loop
        A linear predictor that acts alike on every feature, no normalizer, either order; a controller needs
        parallel order.
    n : int

    Returns
    -------
    control.StateSpace
        dt = 1, inputs "r[i]" (beta r), outputs "y[i]".

    Raises
    ------
    InputError
        A loop that is not linear and time-invariant, a controller in sequential order.

    Examples
    --------
    >>> from ctrlattn import PID, CausalMean, Loop
    >>> system = token_system(Loop(CausalMean(), skip=0.0, feedback=1.0, controller=PID(0.8, 0.5)), 100)
    >>> system.nstates, len(poles(system))
    (200, 200)
    """
    require_scalar_gains(loop, "token_system")
    if loop.controller is not None and (loop.order == "sequential" or loop.hold_first):
        raise InputError(
            "token_system: with a controller it takes parallel order and no held token; use linearize at a state"
        )
    plant = pass_operator(Loop(
        loop.predictor, skip=loop.skip, feedback=loop.feedback, normalizer=loop.normalizer, order=loop.order,
        hold_first=loop.hold_first,
    ), n)  # fmt: skip
    a_c, b_c, c_c, d_c = (loop.controller or PID()).realization()
    width, eye = 1 + len(a_c), np.eye(n)
    # kron(tokens, memories): state i * width + j is memory j - 1 of token i.
    corner = np.zeros((width, width))
    corner[0, 0] = 1.0
    memory = np.block([[-d_c, c_c], [-b_c, a_c]])
    matrix = np.kron(plant, corner) + np.kron(eye, memory)
    inputs = np.kron(eye, np.vstack([d_c, b_c]))
    outputs = np.kron(eye, np.eye(1, width))
    names = [f"{'x' if j == 0 else f's{j - 1}'}[{i}]" for i in range(n) for j in range(width)]
    import control

    return control.ss(
        matrix, inputs, outputs, np.zeros((n, n)), 1, states=names, inputs=[f"r[{i}]" for i in range(n)],
        outputs=[f"y[{i}]" for i in range(n)], remove_useless_states=False,
    )  # fmt: skip
