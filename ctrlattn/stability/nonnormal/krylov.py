"""sigma_i(J), |lambda|_max(J), |J v|/|v|: singular values, spectral radius and random gain of a LinearOperator.

J is known by its products alone. Lanczos steps on J'J, with a basis that is kept orthogonal, give lower bounds of the
singular values. Arnoldi steps, J V_m = V_m H_m + h v e', give eigenvalues. Random probes estimate traces.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from ctrlattn.errors import InputError, require_whole
from ctrlattn.stability.nonnormal.eigenvalue_condition import REACH, eigenvalue_condition, ritz_rounding
from ctrlattn.stability.nonnormal.numerical_range import numerical_radius
from ctrlattn.stability.nonnormal.powers_of_two import exponent_of, scaled, scaled_error

_LOST = 1e-12  # a new direction below this share of the first column is rounding
_DEFINITE = 1e-7  # a square below this share of the largest is not taken from a product of the rows with themselves

_DEPENDENT = 1e-4  # a direction with less of the squares is left out of a span: errors of the products grow in it


class SingularTriplets(NamedTuple):
    """Leading singular values and vectors of an operator, from Lanczos steps on J'J."""

    values: np.ndarray  # (k,), descending; each is a lower bound of the true one
    right: np.ndarray  # (k, columns): right singular vectors v, which are amplified most
    left: np.ndarray  # (k, rows): left singular vectors u = J v / sigma
    errors: np.ndarray  # (k,): |J' u - sigma v|; but for rounding of products, a singular value is as near to each
    steps: int  # number of products with J, and of products with J'


class Eigenvalues(NamedTuple):
    """Spectral radius and numerical radius of a square operator, from Arnoldi steps."""

    radius: float  # largest modulus of a Ritz value
    error: float  # |J x - lambda x| of that Ritz pair times the condition of lambda, or how far another one may reach
    numerical_radius: float  # that of the projected matrix, a lower bound of the operator's
    steps: int


class Departure(NamedTuple):
    """||G'G - GG'||_F / (sqrt(2) ||G'G||_F) with G = J - I, by random probes: 0 for a normal operator, at most 1."""

    value: float
    standard_error: float
    probes: int


def random_gain(operator: LinearOperator, probes: int, *, seed: int = 0) -> np.ndarray:
    """Return |J v|/|v| for independent random directions v, which are uniform on the sphere.

    Parameters
    ----------
    operator : LinearOperator
    probes : int
    seed : int

    Returns
    -------
    (probes,)
        Its root mean square estimates ||J||_F / sqrt(columns).

    Raises
    ------
    InputError
        The operator is not real.
    ArithmeticError
        A product is not finite, or a gain overflows.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> random_gain(aslinearoperator(3 * np.eye(4)), 2).round(12).tolist()
    [3.0, 3.0]
    """
    directions = _random(operator, probes, seed).T
    products = np.asarray(operator @ directions, np.float64)
    exponent = exponent_of(products)
    after, before = (np.linalg.norm(x.astype(np.float64), axis=0) for x in (np.ldexp(products, -exponent), directions))
    return np.array([scaled(gain, exponent) for gain in (after / before).tolist()])


def singular_triplets(
    operator: LinearOperator, k: int = 1, *, steps: int = 12, tolerance: float = 1e-4, seed: int = 0
) -> SingularTriplets:
    """Return the k largest singular values, by Rayleigh-Ritz on the Krylov space of J'J.

    Parameters
    ----------
    operator : LinearOperator
        It must have products with its transpose.
    k : int
        Number of singular values, from 1 to the smaller dimension.
    steps : int
        Largest number of Lanczos steps, at least k.
    tolerance : float
        The steps end earlier where all k errors are below this share of sigma_max.
    seed : int
        Seed of the random direction that the steps start from.

    Returns
    -------
    SingularTriplets

    Raises
    ------
    InputError
        k or steps is out of range, or the operator is not real.
    ArithmeticError
        A product is not finite, or a singular value overflows.

    References
    ----------
    Golub and Kahan, SIAM J. Numer. Anal. 2 (1965) 205; Golub and Van Loan, Matrix Computations, section 10.4.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> triplets = singular_triplets(aslinearoperator(np.diag([3.0, 2.0, 1.0])), 2)
    >>> triplets.values.round(9).tolist(), triplets.steps
    ([3.0, 2.0], 3)
    """
    k = require_whole("k", k, most=min(operator.shape))
    steps = require_whole("steps", steps, least=k)
    rows, columns = operator.shape
    most, dtype = min(steps, columns), _float_type(operator)
    exponent = 0  # the steps are those of 2^-exponent J
    basis, back = np.empty((2, most, columns))  # v, and J'J v
    ahead = np.empty((most, rows))  # J v
    projected = np.zeros((most, most))  # <v_i, J'J v_j>
    following = _random(operator, 1, seed)[0].astype(np.float64)
    for m in range(1, most + 1):
        basis[m - 1] = following
        product = np.asarray(operator @ following.astype(dtype), np.float64)
        of_product = exponent_of(product)
        exponent = exponent if m > 1 else of_product
        ahead[m - 1] = np.ldexp(product, -exponent)
        back[m - 1] = np.ldexp(np.asarray(operator.T @ ahead[m - 1].astype(dtype), np.float64), -exponent)
        following, share, coefficients = _orthogonal(back[m - 1], basis[:m])
        projected[:m, m - 1] = projected[m - 1, :m] = coefficients
        last = share * float(np.linalg.norm(back[m - 1]))
        if m == most:
            break
        if m >= k and (share <= _LOST or _may_be_settled(projected[:m, :m], last, k, tolerance)):
            triplets = _triplets(basis[:m], ahead[:m], back[:m], k)
            if share <= _LOST or np.all(triplets.errors <= tolerance * triplets.values[0]):
                return _scale_back(triplets, exponent)
        if share <= _LOST:  # J'J maps the basis into itself: the steps go on from another direction
            following = _orthogonal(_random(operator, 1, seed + m)[0].astype(np.float64), basis[:m])[0]
    return _scale_back(_triplets(basis, ahead, back, k), exponent)


def _scale_back(triplets: SingularTriplets, exponent: int) -> SingularTriplets:
    """Return the triplets of 2^exponent times the operator."""
    values, errors = (
        np.array([of_scale(x, exponent) for x in numbers.tolist()])
        for of_scale, numbers in ((scaled, triplets.values), (scaled_error, triplets.errors))
    )
    return triplets._replace(values=values, errors=errors)


def _may_be_settled(projected: np.ndarray, last: float, k: int, tolerance: float) -> bool:
    """Tell whether the residuals can be small enough, by the small matrix of the steps alone.

    J'J V = V T + last q e' gives |J' u_i - sigma_i v_i| = last |y_i,m| / sigma_i for an eigenvector y_i of T. Rounding
    moves it by far less than the half that is allowed for here; what is returned is measured on the vectors.
    """
    squares, vectors = np.linalg.eigh(projected)
    sigma = np.sqrt(np.maximum(squares[-k:], 0.0))
    residuals = last * np.abs(vectors[-1, -k:])
    return bool(np.all(residuals <= 1.5 * tolerance * sigma[-1] * np.maximum(sigma, 1e-8 * sigma[-1])))


def _triplets(basis: np.ndarray, ahead: np.ndarray, back: np.ndarray, k: int) -> SingularTriplets:
    """Return the singular values of J on the span of the basis."""
    left, s, turn = _decompose(ahead, min(k, len(basis)))
    right = turn @ basis
    # J'u = J'J v / sigma
    images = turn @ back / np.where(s > 0, s, 1.0)[:, None]
    errors = np.linalg.norm(images - s[:, None] * right, axis=1)
    return SingularTriplets(s, right, left, errors, len(basis))


def _decompose(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (u, sigma, y) with sigma u = y' rows, the k largest, by the small product of the rows with themselves.

    That squares the condition. Where the least of them is too small for that, it is a decomposition of the rows.
    """
    squares, turn = np.linalg.eigh(rows @ rows.T)
    if squares[-k] > _DEFINITE * squares[-1]:
        sigma, turn = np.sqrt(squares[-k:][::-1]), turn[:, -k:][:, ::-1].T
        return turn @ rows / sigma[:, None], sigma, turn
    turn, sigma, left = np.linalg.svd(rows, full_matrices=False)
    return left[:k], sigma[:k], turn.T[:k]


def _orthogonal(w: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Return (unit vector along the part of w orthogonal to the basis, the share of |w| of that part, basis @ w)."""
    size = float(np.linalg.norm(w))
    coefficients = basis @ w
    w = w - coefficients @ basis
    w = w - (basis @ w) @ basis  # the second projection removes what rounding left
    length = float(np.linalg.norm(w))
    return (w / length if length > 0 else w), (length / size if size > 0 else 0.0), coefficients


def eigenvalues(operator: LinearOperator, *, steps: int = 16, seed: int = 0) -> Eigenvalues:
    """Return the spectral radius of a square operator by Arnoldi steps, and a lower bound of its numerical radius.

    Parameters
    ----------
    operator : (n, n) LinearOperator
        Products with its transpose are not needed.
    steps : int
        Number of Arnoldi steps, at least 1; it is reduced to n where it is larger.
    seed : int
        Seed of the random direction that the steps start from.

    Returns
    -------
    Eigenvalues
        The radius is the modulus of a Ritz value. It can be trusted where its error is small against it: its residual
        alone is small in a strongly non-normal operator where no eigenvalue is. Where another Ritz value, with two
        residuals, reaches further than that error beyond the radius, the error is how far. It is exact
        after n steps, but for rounding of the products and the eigenvalue, which its condition multiplies as well.

    Raises
    ------
    InputError
        The operator is not square or not real, or there is fewer than one step.
    ArithmeticError
        A product is not finite, or the radius overflows.

    References
    ----------
    Arnoldi, Quart. Appl. Math. 9 (1951) 17; Golub and Van Loan, Matrix Computations, section 7.2.2 (the condition of
    an eigenvalue); Trefethen and Embree, Spectra and Pseudospectra, 2005, section 26.

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> ritz = eigenvalues(aslinearoperator(np.array([[0.5, 3.0], [0.0, 0.25]])))
    >>> round(ritz.radius, 9), round(ritz.numerical_radius, 6)
    (0.5, 1.880199)
    """
    _require_square(operator, "eigenvalues")
    steps, n, dtype = require_whole("steps", steps), operator.shape[0], _float_type(operator)
    most = min(steps, n)
    basis = np.empty((most, n))
    projected = np.zeros((most, most))
    following = _random(operator, 1, seed)[0].astype(np.float64)
    exponent = 0  # the steps are those of 2^-exponent J
    for m in range(most):
        basis[m] = following
        w = np.asarray(operator @ following.astype(dtype), np.float64)
        of_w = exponent_of(w)
        exponent = exponent if m else of_w
        w = np.ldexp(w, -exponent)
        following, share, projected[: m + 1, m] = _orthogonal(w, basis[: m + 1])
        last = share * float(np.linalg.norm(w))
        if share <= _LOST or m + 1 == most:
            break
        projected[m + 1, m] = last
    size = m + 1
    last = 0.0 if size == n else last  # after n steps the remainder is rounding
    matrix = projected[:size, :size]
    values, vectors = np.linalg.eig(matrix)
    residuals = last * np.abs(vectors[-1]) + ritz_rounding(matrix, dtype)
    moduli = np.abs(values)
    radius, top = float(moduli.max()), int(moduli.argmax())
    further = float((moduli + REACH * residuals)[moduli < radius].max(initial=radius)) - radius
    error = max(float(eigenvalue_condition(vectors, top) * residuals[top]), further)
    return Eigenvalues(
        radius=scaled(radius, exponent),
        error=scaled_error(error, exponent),
        numerical_radius=scaled(numerical_radius(matrix), exponent),
        steps=size,
    )


def inner_radius(vectors: np.ndarray, products: np.ndarray) -> float:
    """Return max |x*J x| over unit vectors x of a span: a lower bound of the numerical radius w(J).

    On the span of the singular vectors u and v of sigma_max it is sigma_max/2 at least: the compression of J to it has
    the norm u'J v = sigma_max, and w >= |.|/2 for every matrix. No numerical radius is above sigma_max.

    Parameters
    ----------
    vectors : (m, n) array
        Any rows; what depends on the others is left out.
    products : (m, n) array
        J times each.

    Returns
    -------
    float

    References
    ----------
    Horn and Johnson, Topics in Matrix Analysis, 1991, section 1.5.

    Examples
    --------
    >>> nilpotent = np.array([[0.0, 2.0], [0.0, 0.0]])
    >>> round(inner_radius(np.eye(2), nilpotent.T), 12)
    1.0
    """
    rows, images = np.asarray(vectors, np.float64), np.asarray(products, np.float64)
    exponent = exponent_of(images)
    squares, turn = np.linalg.eigh(rows @ rows.T)
    able = squares > _DEPENDENT * squares[-1]
    turn = (turn[:, able] / np.sqrt(squares[able])).T  # its rows combine the vectors to orthonormal ones
    return scaled(numerical_radius(turn @ (rows @ np.ldexp(images, -exponent).T) @ turn.T), exponent)


def departure(operator: LinearOperator, probes: int = 4, *, seed: int = 0) -> Departure:
    """Return how far a square operator is from normal: ||G'G - GG'||_F / (sqrt(2) ||G'G||_F) with G = J - I.

    In the Frobenius norm ||G'G - GG'||^2 = 2 ||G'G||^2 - 2 ||G^2||^2. The departure is therefore
    sqrt(1 - ||G^2||^2 / ||G'G||^2), and random probes estimate both traces. The identity, which a residual connection
    adds, commutes with every matrix: J is normal if and only if G is. With J in place of G, the identity would
    dominate both norms.

    Parameters
    ----------
    operator : (n, n) LinearOperator
    probes : int
        Number of probes, at least 2. Each costs two products with J and one with J'.
    seed : int
        Seed of the probes.

    Returns
    -------
    Departure
        It is 0 for a normal operator and for J = I, 1 where G^2 = 0, and about sqrt(1/2) for a large matrix of
        independent random entries. The standard error is that of a jackknife over the probes.

    Raises
    ------
    InputError
        The operator is not square or not real, or there are fewer than 2 probes.
    ArithmeticError
        A product is not finite.

    References
    ----------
    Elsner and Paardekooper, Linear Algebra Appl. 92 (1987) 107 (measures of non-normality).

    Examples
    --------
    >>> from scipy.sparse.linalg import aslinearoperator
    >>> departure(aslinearoperator(np.array([[1.0, 5.0], [0.0, 1.0]]))).value
    1.0
    """
    _require_square(operator, "departure")
    probes = require_whole("probes", probes, least=2)
    v = _random(operator, probes, seed).T
    images = operator @ v - v
    images = np.ldexp(images, -exponent_of(images))
    twice, back = (np.asarray(second - images, np.float64) for second in (operator @ images, operator.T @ images))
    exponent = max(exponent_of(twice), exponent_of(back))
    squares, products = (np.sum(np.ldexp(second, -exponent) ** 2, axis=0) for second in (twice, back))
    if not products.any():
        return Departure(0.0, 0.0, probes)

    def value(subset: np.ndarray) -> float:
        total = float(products[subset].sum())
        return math.sqrt(max(0.0, 1.0 - float(squares[subset].sum()) / total)) if total else 0.0

    without = np.array([value(np.arange(probes) != i) for i in range(probes)])
    error = math.sqrt((probes - 1) * float(np.mean((without - without.mean()) ** 2)))
    return Departure(value(np.arange(probes) >= 0), error, probes)


def _require_square(operator: LinearOperator, quantity: str) -> None:
    if operator.shape[0] != operator.shape[1]:
        raise InputError(f"{quantity} takes a square operator, got shape {operator.shape}")


def _float_type(operator: LinearOperator) -> np.dtype:
    """Return the type of the vectors that the operator takes; for one of whole numbers it is float64."""
    dtype = np.dtype(operator.dtype)
    if np.issubdtype(dtype, np.complexfloating):
        raise InputError(f"the steps take a real operator, got one of {dtype}")
    return dtype if np.issubdtype(dtype, np.floating) else np.dtype(np.float64)


def _random(operator: LinearOperator, count: int, seed: int) -> np.ndarray:
    """Return unit vectors in the operator's type, (count, columns)."""
    v = np.random.default_rng(seed).standard_normal((count, operator.shape[1]))
    return (v / np.linalg.norm(v, axis=1, keepdims=True)).astype(_float_type(operator))
