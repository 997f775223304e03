"""sigma_max(G) = gamma at w if and only if i tan(w/2) (i w) is an eigenvalue of the pencil of gamma, in either time.

x' = A x + B u, y = C x + D u, and the adjoint driven by y, closed by gamma^2 u = adjoint output. In discrete time
(z - 1)/(z + 1) takes the place of s: the matrices A - I and A + I stand in the pencil, the first is almost exact near
z = 1 and the second near z = -1, and no matrix is inverted, so that poles at 0 (pure delays) do no harm.

The second way shares no step with the first: a Moebius map carries G to continuous time, u is eliminated, and a
Hamiltonian matrix has the crossings as its imaginary eigenvalues.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dggev, zggev

from ctrlattn.linear.lapack import eigenvalues, frobenius, singular_values, solved
from ctrlattn.linear.realization import Realization
from ctrlattn.linear.scaling import scaled
from ctrlattn.stability.boundary_search import distinct
from ctrlattn.stability.robustness.structured import largest_singular_values

# How far from the boundary an eigenvalue may lie and still be tried as a crossing: trying costs one response.
NEAR = 1e-3
_SHARES = np.arange(24) / 23  # of the logarithmic way of the grid that depends on no pole, in each direction
_DECADES = np.geomspace(1e-5, np.pi, 24)
CIRCLE = np.concatenate([[0.0, np.pi], _DECADES, np.pi - _DECADES])
OFFSETS = np.array([-2.0, -1.0, -0.4, 0.0, 0.4, 1.0, 2.0])  # about a pole, in units of its distance from the boundary
_LARGE = 50  # states beyond which the pencil costs twice the Hamiltonian matrix, and is left for ill-conditioned ones
SOUND = 1e6  # condition up to which a Moebius map is taken without a look at the others


def level_crossings(g: Realization, level: float) -> np.ndarray:
    """Return the ascending frequencies at which some singular value of G may equal `level`; no crossing is left out.

    >>> level_crossings(Realization(np.array([[-1.0]]), np.eye(1), np.eye(1), np.zeros((1, 1)), True), 0.5).round(9)
    array([1.73205081])
    """
    unit = scaled(g, level)
    system, inner = unit.system, float(np.ldexp(level, -unit.exponent))
    crossings = hamiltonian_crossings(system, inner, SOUND) if len(g.a) > _LARGE else None
    if crossings is not None:
        return unit.rate * crossings
    return unit.rate * pencil_crossings(system, inner)


def pencil_crossings(g: Realization, level: float) -> np.ndarray:
    """Return `level_crossings` of a system in good units, from the pencil."""
    n, m = g.b.shape
    root = np.sqrt(level)
    a, b, c, d = g.a, g.b / root, g.c / root, g.d / level
    ah, bh, ch, dh = (x.conj().T for x in (a, b, c, d))
    eye, x, p, u = np.eye(n), slice(0, n), slice(n, 2 * n), slice(2 * n, None)
    left, right = np.zeros((2, 2 * n + m, 2 * n + m), np.result_type(a, b, c, d))
    left[x, x], left[x, u] = a, b
    left[p, x], left[p, p], left[p, u] = -ch @ c, -ah, -ch @ d
    left[u, x], left[u, p], left[u, u] = dh @ c, bh, dh @ d - np.eye(m)
    if g.continuous:
        right[x, x] = right[p, p] = eye
    else:
        right[:] = left
        right[p] *= -1
        left[x, x] -= eye
        left[p, p] += eye
        right[x, x] += eye
        right[p, p] += eye
    from ctrlattn.kernels.pencil import balance_pencil

    balance_pencil(left, right)
    return _on_boundary(g, *pencil_eigenvalues(left, right))


def pencil_eigenvalues(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (top, bottom): eigenvalues top/bottom of left - (top/bottom) right, by LAPACK itself.

    It raises ArithmeticError where QZ does not converge.

    >>> top, bottom = pencil_eigenvalues(np.array([[3.0]]), np.array([[2.0]]))
    >>> float((top / bottom)[0].real)
    1.5
    """
    if np.iscomplexobj(left):
        top, bottom, *_, info = zggev(left, right, compute_vl=0, compute_vr=0)
    else:
        re, im, bottom, *_, info = dggev(left, right, compute_vl=0, compute_vr=0)
        top = re + 1j * im
    if info != 0:
        raise ArithmeticError("the QZ algorithm does not converge: rescale the system")
    return top, bottom


def is_well_conditioned(g: Realization, level: float) -> bool:
    """Tell whether `hamiltonian_crossings` loses less than half of the digits, so that it is a test by itself."""
    view = _in_continuous_time(g, level)
    return view is not None and view.condition <= SOUND


def hamiltonian_crossings(g: Realization, level: float, worst: float = 1e10) -> np.ndarray | None:
    """Return `pencil_crossings` the other way; None where each map to continuous time has a condition above `worst`."""
    view = _in_continuous_time(g, level)
    if view is None or view.condition > worst:
        return None
    a, b, c, d = view.a, view.b / np.sqrt(level), view.c / np.sqrt(level), view.d / level
    n, eye = len(a), np.eye(d.shape[1])
    closing = np.hstack([d.conj().T @ c, b.conj().T])
    if d.any():
        closing = solved(eye - d.conj().T @ d, closing)
    f = a + b @ closing[:, :n]
    matrix = np.empty((2 * n, 2 * n), f.dtype)
    matrix[:n, :n], matrix[:n, n:] = f, b @ closing[:, n:]
    matrix[n:, :n], matrix[n:, n:] = -c.conj().T @ (c + d @ closing[:, :n]), -f.conj().T
    values = eigenvalues(matrix)
    near = np.abs(values.real) <= NEAR * np.abs(values) + 1e-9 * frobenius(a)
    return _distinct_frequencies(g, view.frequency(values[near].imag))


def pole_grid(g: Realization, poles: np.ndarray | None = None) -> np.ndarray:
    """Return frequencies about each pole, as dense as it is close to the boundary, and all decades between."""
    if poles is None:
        poles = eigenvalues(g.a)
    if g.continuous:
        centres, widths, sizes = poles.imag, np.abs(poles.real), np.abs(poles[poles != 0])
        low, high = np.min(sizes, initial=1.0) / 10, np.max(sizes, initial=1.0) * 10
        base = np.concatenate([[0.0, np.inf], low * np.exp(math.log(high / low) * _SHARES)])
        centres = np.concatenate([centres, np.sqrt(np.abs(np.abs(poles) ** 2 - 2 * poles.real**2))])
        widths = np.concatenate([widths, widths])
    else:
        centres, widths = np.angle(poles), np.abs(1 - np.abs(poles))
        base = CIRCLE
    grid = np.concatenate([base, (centres + np.multiply.outer(OFFSETS, widths)).ravel()])
    if g.real():
        grid = np.abs(grid)
    else:
        grid = np.concatenate([grid, -base])
    return grid if g.continuous else np.remainder(grid + np.pi, 2 * np.pi) - np.pi


def largest_gains(responses: np.ndarray) -> np.ndarray:
    """Return sigma_max of each of the responses (outputs, inputs, k); inf where one is not finite.

    >>> largest_gains(np.array([[[3.0, np.inf]], [[4.0, 0.0]]])).tolist()
    [5.0, inf]
    """
    values = responses.transpose(2, 0, 1)
    if not (values.shape[1] and values.shape[2]):
        return np.zeros(len(values))
    if values.shape[1:] == (1, 1):
        gains = np.abs(values[:, 0, 0])
        return np.where(np.isnan(gains), np.inf, gains)
    if min(values.shape[1:]) == 1:
        with np.errstate(over="ignore", invalid="ignore"):
            gains = np.sqrt(np.sum(np.abs(values) ** 2, axis=(1, 2)))
        return np.where(np.isnan(gains), np.inf, gains)
    finite = np.isfinite(values).all(axis=(1, 2))
    if finite.all():
        return largest_singular_values(values)
    gains = np.full(len(values), np.inf)
    gains[finite] = largest_singular_values(values[finite])
    return gains


class _View(NamedTuple):
    """G along the boundary as a system in continuous time, and the frequency of G that belongs to one of it."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    frequency: Callable[[np.ndarray], np.ndarray]
    inverse: float  # norm of the inverse that made it
    condition: float = math.inf  # of the map, and of I - D*D/level^2


def _in_continuous_time(g: Realization, level: float) -> _View | None:
    """Return the first view in good condition, otherwise the best, if it has any digits."""
    best, condition = None, math.inf
    views = (_identity_view, _reciprocal) if g.continuous else (_cayley_at_1, _cayley_at_minus_1, _cayley_at_i)
    for view in views:
        try:
            with np.errstate(all="ignore"):  # what overflows has no finite condition, and is not taken
                candidate = view(g)
                direct = float(singular_values(candidate.d)[0]) if candidate.d.any() else 0.0
        except np.linalg.LinAlgError:  # the point opposite is a pole
            continue
        room = 1 - (direct / level) ** 2
        its = max(candidate.inverse, 1 / room) if room > 0 else math.inf
        if its < condition:
            best, condition = candidate._replace(condition=its), its
        if condition <= SOUND:
            break
    return best if condition < 1e10 else None


def _identity_view(g: Realization) -> _View:
    return _View(*g[:4], lambda w: w, 1.0)


def _reciprocal(g: Realization) -> _View:
    """Return G(1/s)."""
    inverse = solved(g.a, np.eye(len(g.a)))
    inputs, outputs = inverse @ g.b, g.c @ inverse
    return _View(inverse, inputs, -outputs, g.d - g.c @ inputs, _minus_reciprocal, frobenius(inverse))


def _minus_reciprocal(w: np.ndarray) -> np.ndarray:
    return -1 / np.where(w == 0, np.finfo(float).tiny, w)


def _cayley_at_1(g: Realization) -> _View:
    return _cayley(g, 1.0)


def _cayley_at_minus_1(g: Realization) -> _View:
    return _cayley(g, -1.0)


def _cayley_at_i(g: Realization) -> _View:
    return _cayley(g, 1j)


def _cayley(g: Realization, centre: complex) -> _View:
    """Return G(centre (1 + s)/(1 - s)): s = 0 is the centre."""
    a, b = g.a / centre, g.b / centre
    eye = np.eye(len(a))
    inverse = solved(eye + a, eye)
    root = math.sqrt(2)
    a, inputs, outputs = inverse @ (a - eye), inverse @ b, g.c @ inverse
    turn = float(np.angle(centre))

    def frequency(w: np.ndarray) -> np.ndarray:
        return np.remainder(turn + 2 * np.arctan(w) + np.pi, 2 * np.pi) - np.pi

    size = frobenius(inverse)
    return _View(a, root * inputs, root * outputs, g.d - g.c @ inputs, frequency if turn else _twice_arctan, size)


def _twice_arctan(w: np.ndarray) -> np.ndarray:
    return 2 * np.arctan(w)


def _on_boundary(g: Realization, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Return the frequencies of the eigenvalues top/bottom next to the imaginary axis; an infinite one is z = -1."""
    if g.continuous:
        finite = np.abs(bottom) > 1e-14 * np.hypot(np.abs(top), np.abs(bottom))
        roots = top[finite] / bottom[finite]
        near = np.abs(roots.real) <= NEAR * np.abs(roots) + 1e-9 * frobenius(g.a)
        frequencies = roots[near].imag
    else:
        size = np.abs(bottom)
        numerator = top * np.where(size > 0, bottom.conj() / np.where(size > 0, size, 1.0), 1j)
        on_circle = 1e-9 * (size + np.abs(numerator) ** 2 / np.maximum(size, 1e-300))
        near = np.abs(numerator.real) <= NEAR * np.abs(numerator) + on_circle
        frequencies = 2 * np.arctan2(numerator[near].imag, size[near])
    return _distinct_frequencies(g, frequencies)


def _distinct_frequencies(g: Realization, frequencies: np.ndarray) -> np.ndarray:
    """Return each frequency once, ascending; of a real system without signs."""
    return distinct(np.abs(frequencies) if g.real() else frequencies)
