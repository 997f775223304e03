"""J v = lambda v, J = F'(h): the eigenvalues of one pass that decide what a loop of it does.

A small Jacobian is formed and gives its whole spectrum. Of a large one the eigenvalues that matter are found without
forming it: the largest in modulus, the largest in their real part, or those that a controller leaves least stable.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from ctrlattn.arrays import Array, is_torch, machine_epsilon, require_positive
from ctrlattn.errors import InputError, require_whole
from ctrlattn.linear.jacobian import jacobian_products
from ctrlattn.looped.krylov import Products, leading, leading_pairs
from ctrlattn.looped.pass_map import PassMap, as_pass_map, require_state
from ctrlattn.looped.uncertainty import compressed, eigenvalue_errors, known_to
from ctrlattn.passes import Passes
from ctrlattn.stability import pass_poles
from ctrlattn.stability.motion.tangent import Tangent, length

Which = Literal["LM", "LR", "critical"]
WHOLE = 2000  # numbers in a state whose Jacobian is still formed
_SMALL = 160  # below it forming the Jacobian is cheaper than looking for a part of its spectrum


class PassSpectrum(NamedTuple):
    """Eigenvalues of J, each with the residual of a product of its own."""

    eigenvalues: np.ndarray  # (m,) complex, best first; a real one has no imaginary part, pairs are complete
    vectors: np.ndarray  # (N, m) complex, of length 1
    residuals: np.ndarray  # (m,) |J v - lambda v|
    norm: float  # a lower bound of |J|_2, which the residuals are measured against; |J|_2 of a whole spectrum
    whole: bool  # whether these are all eigenvalues of J
    products: int  # products with J that they took
    errors: np.ndarray  # (m,) how far each may be from an eigenvalue of J, since J is known to some digits


def spectrum(
    f: Any,
    h: Array,
    k: int | None = None,
    *,
    which: Which = "LM",
    controller: Any = None,
    recall: float = 0.0,
    tol: float | None = None,
    block: int = 2,
    seed: int = 0,
) -> PassSpectrum:
    """Return the eigenvalues of the Jacobian of one pass at h.

    Parameters
    ----------
    f : as for `iterate`
    h : any shape, numpy or torch
        Where the pass is differentiated: a fixed point of the loop, if it has one. A torch map is differentiated by
        autodiff, a numpy map by central differences.
    k : int, optional
        How many; None is the whole spectrum, of at most 2000 numbers.
    which : "LM", "LR" or "critical"
        Largest modulus (the plain loop), largest real part (what damping cannot heal), or largest closed-loop pole
        under `controller` and `recall`: nearest the boundary of its region, or farthest beyond it.
    controller, recall : as for `iterate`, for "critical" alone
    tol : float, optional
        Bound on each residual as a share of |J|: 1e-10 in float64, 1e-8 by differences, 1e-5 in float32.
    block : int
        Directions of a product; an eigenvalue that occurs more often than this may be found that often only.
    seed : int

    Returns
    -------
    PassSpectrum

    Raises
    ------
    InputError
        As for `iterate`; k or which out of range; the whole spectrum of a state that is too large.
    ArithmeticError
        A residual is above the bound, or differences do not find the derivative of a numpy map.

    Notes
    -----
    A residual r says that lambda is an eigenvalue of a matrix r away from J. On a Jacobian that is far from normal
    an eigenvalue may move by much more than r, by about r^(1/k) where k of them are one with a single eigenvector.
    `errors` say how far: of a whole spectrum from the pseudospectrum of J, of a part from what the measured
    eigenvectors show of it.

    Examples
    --------
    >>> turn = np.array([[0.0, -0.9], [0.9, 0.0]])
    >>> spectrum(lambda h: h @ turn, np.zeros((1, 2))).eigenvalues.round(6).tolist()
    [0.9j, -0.9j]
    """
    step, h, loop = as_pass_map(f), require_state(h), Passes(controller, recall=recall)
    if which not in get_args(Which):
        raise InputError(f'which must be "LM", "LR" or "critical", got {which!r}')
    size = length(h)
    k = None if k is None else require_whole("k", k, most=size)
    block = require_whole("block", block)
    if k is None and size > WHOLE:
        raise InputError(f"a state of {size} numbers: the whole spectrum is computed up to {WHOLE}; say how many, k")
    seed, bound = require_whole("seed", seed, least=0), _usual_tol(h) if tol is None else require_positive("tol", tol)
    score, products = _score(which, loop), pass_products(step, h)
    if k is None or size <= min(max(_SMALL, 4 * (3 * k + 8 * block)), WHOLE):
        return _whole_spectrum(step, h, products, k, score, bound)
    pairs = leading_pairs(products, size, k, score, tol=bound, block=block, seed=seed)
    return some(pairs.values, pairs.vectors, pairs.residuals, pairs.norm, False, pairs.products)


def some(
    values: np.ndarray, vectors: np.ndarray, residuals: np.ndarray, norm: float, whole: bool, products: int
) -> PassSpectrum:
    """Return a part of a spectrum with the errors that its residuals leave."""
    s, delta = compressed(values, vectors, residuals)
    errors = eigenvalue_errors(s, values, delta) if np.isfinite(delta) else np.full(len(values), np.inf)
    return PassSpectrum(values, vectors, residuals, norm, whole, products, errors)


def pass_products(f: PassMap, h: Array) -> Products:
    """Return V -> J V at h, (N, b) float64: by autodiff of a torch map, by central differences of a numpy map."""
    if is_torch(h):
        return jacobian_products(f, h)
    tangent = Tangent(h, None)
    return lambda v: tangent.advance(f, h, v)[1]


def formed(products: Products, size: int) -> np.ndarray:
    """Return J itself, (N, N).

    Raises
    ------
    ArithmeticError
        It is not finite.

    Examples
    --------
    >>> formed(lambda v: 2.0 * v, 2).tolist()
    [[2.0, 0.0], [0.0, 2.0]]
    """
    jacobian = products(np.eye(size))
    if not np.all(np.isfinite(jacobian)):
        raise ArithmeticError("the Jacobian is not finite: the map has no derivative at this point")
    return jacobian


def _usual_tol(h: Array) -> float:
    if machine_epsilon(h) > 1e-10:
        return 1e-5
    return 1e-10 if is_torch(h) else 1e-8


def _score(which: Which, loop: Passes) -> Callable[[np.ndarray], np.ndarray]:
    if which == "LM":
        return np.abs
    if which == "LR":
        return np.real
    return lambda values: np.abs(pass_poles(loop.law, values, loop.recall)).max(axis=-1)


def _whole_spectrum(
    step: PassMap, h: Array, products: Products, k: int | None, score: Callable[[np.ndarray], np.ndarray], tol: float
) -> PassSpectrum:
    size = length(h)
    jacobian = formed(products, size)
    values, vectors = pairs = np.linalg.eig(jacobian)
    values = values.astype(complex)
    order = leading(values, score(values), size if k is None else k)
    values, vectors = values[order], vectors[:, order].astype(complex)
    residuals = np.linalg.norm(jacobian @ vectors - vectors * values, axis=0)
    norm = float(np.linalg.norm(jacobian, 2))
    if not np.all(residuals <= tol * norm):
        raise ArithmeticError(
            f"an eigenvalue of the Jacobian has the residual {residuals.max():.2g}, {tol:.2g} of its norm {norm:.2g} "
            "was asked for"
        )
    errors = eigenvalue_errors(jacobian, values, known_to(step, h, jacobian), pairs)
    return PassSpectrum(values, vectors, residuals, norm, len(order) == size, size, errors)
