"""d(x', s') = A d(x, s) + B d(r, w): the Jacobian of one layer of any loop, by autodiff in float64."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ctrlattn.arrays import Array, namespace, require_finite, require_real, to_numpy
from ctrlattn.errors import InputError, InputTypeError
from ctrlattn.loop import Loop, LoopState, require_single_loop

if TYPE_CHECKING:
    import control


def linearize(
    loop: Loop, x: Array, *, reference: Array | None = None, memory: tuple[Array, ...] | None = None
) -> "control.StateSpace":
    """Linearise one layer of the loop, its controller acting, at the state x.

    With s the controller's memory and w a disturbance added to the state:
    d(x', s') = A d(x, s) + B d(r, w),  y = x.

    Parameters
    ----------
    loop : Loop
        Any loop whose predictor and normalizer accept torch tensors (all named ones do), in either order.
    x : (n, d)
        Operating point, numpy or torch; no batch.
    reference : (n, d), optional
        r; None: x.
    memory : tuple of (n, d), optional
        Controller memory at the operating point; None: as after layer 0 at x. It matters only where a normalizer
        makes the layer depend on the control.

    Returns
    -------
    control.StateSpace
        dt = 1. States "x[i,j]", then "s0[i,j]", "s1[i,j]", ... (a memory that no gain reads is left
        out); inputs "r[i,j]", then "w[i,j]"; outputs "y[i,j]", with token i and feature j. The size is
        (1 + memories) n d: dense, for small signals.

    Raises
    ------
    InputError
        A batch of signals, NaN or infinity in x, a sequence of loops.
    InputTypeError
        A predictor that does not run on torch tensors.

    Notes
    -----
    Exact to rounding (reverse-mode differentiation), where python-control's `linearize` takes one-sided finite
    differences and drops the signal names.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import CausalMean, Loop
    >>> system = linearize(Loop(CausalMean()), np.ones((2, 1)))
    >>> system.A.tolist(), system.state_labels
    ([[1.0, 0.0], [-1.0, 1.0]], ['x[0,0]', 'x[1,0]'])
    """
    import torch

    require_single_loop(loop, "linearize")
    namespace(x)  # refuses what is no array
    if x.ndim != 2:
        raise InputError(f"linearize takes one signal (n, d), got shape {tuple(x.shape)}: linearise one at a time")
    require_finite("x", x)
    point, target = (_double(value) for value in (x, x if reference is None else reference))
    double = loop.to(point)
    start = double.init(point, target)
    state = _memory_at(double, point, start, memory)
    signals = (point, *state, target, torch.zeros_like(point))
    size = point.numel()
    blocks = np.array([[b.reshape(size, size) for b in row] for row in _jacobian(double, signals, len(state))])
    memory_indices = _read_memories(blocks, len(state))
    order = len(memory_indices)
    matrix = np.block([[blocks[i, j] for j in (*memory_indices, -2, -1)] for i in memory_indices])
    a, b = matrix[:, : order * size], matrix[:, order * size :]
    c = np.eye(size, order * size)
    import control

    return control.ss(
        a,
        b,
        c,
        np.zeros((size, 2 * size)),
        1,
        states=_labels(["x", *(f"s{i - 1}" for i in memory_indices[1:])], x),
        inputs=_labels(["r", "w"], x),
        outputs=_labels(["y"], x),
        remove_useless_states=False,
    )


def _read_memories(blocks: np.ndarray, memories: int) -> list[int]:
    """Return the state x, 0, and the memories that reach it: an integral that nobody reads would be a pole at 1."""
    indices, others = [0], list(range(1, memories + 1))
    while more := [j for j in others if np.any(blocks[indices, j])]:
        indices += more
        others = [j for j in others if j not in more]
    return sorted(indices)


def _double(x: Array) -> Any:
    """Return a float64 torch copy on the CPU: analysis has one precision."""
    import torch

    return torch.tensor(require_real("the signal", x), dtype=torch.float64)


def _memory_at(loop: Loop, x: Any, start: LoopState, memory: tuple[Array, ...] | None) -> tuple[Any, ...]:
    """Return the controller's memory at the operating point, () without a controller."""
    if loop.controller is None:
        return ()
    fresh = loop.controller.init(loop.tracking.error(x, start.reference))
    if memory is None:
        return fresh
    if len(memory) != len(fresh):
        raise InputError(f"the controller keeps {len(fresh)} memories, got {len(memory)}")
    return tuple(_double(m) for m in memory)


def _jacobian(loop: Loop, signals: tuple[Any, ...], memories: int) -> list[list[np.ndarray]]:
    """Return blocks d(x', s')_i / d(signal)_j."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    def layer(x: Any, *others: Any) -> tuple[Any, ...]:
        memory, (reference, disturbance) = others[:memories], others[memories:]
        state = LoopState(reference, tuple(memory) if loop.controller is not None else None, acting=True)
        new, after, _ = loop.step(x, state)
        return (new + disturbance, *(after.controller or ()))

    with sdpa_kernel(SDPBackend.MATH):
        try:  # the caller's function alone: what fails after it, or in a predictor of the package, is a fault of ours
            torch.func.vjp(loop.predictor, signals[0])
        except (TypeError, AttributeError, RuntimeError) as error:
            if isinstance(error, InputError) or type(loop.predictor).__module__.startswith("ctrlattn."):
                raise
            raise InputTypeError(
                f"linearize differentiates with torch: {loop.predictor!r} must accept torch tensors ({error})"
            ) from error
        rows = torch.func.jacrev(layer, argnums=tuple(range(len(signals))))(*signals)
    return [[to_numpy(block) for block in row] for row in rows]


def _labels(letters: list[str], x: Array) -> list[str]:
    n, d = x.shape
    return [f"{letter}[{i},{j}]" for letter in letters for i in range(n) for j in range(d)]
