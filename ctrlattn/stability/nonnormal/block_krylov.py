"""rho(D_i) of n blocks D_1 ... D_n, known by products (D_1 v_1, ..., D_n v_n): Arnoldi steps on all blocks at once.

A block-triangular matrix has the eigenvalues of its diagonal blocks. Each block has a Krylov space of its own, of
dimension m, so that m products of the whole give what would take n m products block after block. A small block is
found exactly by d steps, and a large one as soon as its outermost Ritz pair has settled.

A small residual alone does not settle it: far from a normal matrix, vectors of no eigenvalue have one. The residual is
multiplied by the condition of the Ritz value, which the same steps know. Nor does one pair: an isolated eigenvalue is
found before the end of a dense interval that is larger, so that all Ritz values have a say: each by its residual, and
those that are ill-conditioned together by what couples them with the rest of the space.

No number of steps below d proves the answer: an eigenvector of which the random start holds next to nothing shows in no
residual. `block_radius` says how often that was seen.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ctrlattn.errors import require_whole
from ctrlattn.linear.lapack import spectral_radii
from ctrlattn.stability.nonnormal.eigenvalue_condition import BACKWARD, REACH, eigenvalue_condition, ritz_rounding
from ctrlattn.stability.nonnormal.powers_of_two import exponent_of, scaled, scaled_error

_LOST = 1e-12  # a new direction below this share of its product is rounding
_ROOM = 80  # steps that memory is taken for at first: by then most blocks have been left behind
_EVERY = 5  # steps between two looks at whether all has settled, which take eigenvalues
_POWER = 64  # of the matrix whose norm bounds a radius: a norm is then at most m^(1/128) times too large in its root
_MARGIN = 4.0  # first-order errors within which an eigenvalue may lie, for a block to be left behind
_WELL_CONDITIONED = 10.0  # condition up to which the first-order error of a Ritz value says how far it may move
_BEYOND_FIRST_ORDER = 10.0  # first-order errors that an ill-conditioned Ritz value may move
_COUPLED = 0.9  # coupling from which on Ritz values that have not settled may hide an eigenvalue further out
_ANGLES = 16  # on half the circle, beside the angles of Ritz values
_UP = 1 + 1e-12  # covers the rounding of logarithm and exponential


Product = Callable[[np.ndarray], np.ndarray]  # (n, d) -> (n, d): row i is D_i times row i of the argument


class BlockRadius(NamedTuple):
    """The block whose spectral radius is largest, with the eigenpair that attains it."""

    block: int
    value: complex  # eigenvalue of largest modulus
    vector: np.ndarray  # (d,) complex, of length 1
    residual: float  # |D v - value v| by the recurrence, with the rounding of the eigenvalue
    condition: float  # of the eigenvalue, 1 / |y* v| with the left Ritz vector y
    steps: int  # number of products
    settled: bool  # whether no block can have a larger one, by the errors of their Ritz values

    @property
    def error(self) -> float:
        """First-order error of the eigenvalue: its condition times the residual."""
        return self.condition * self.residual


def block_radius(
    product: Product,
    shape: tuple[int, int],
    *,
    steps: int = 240,
    tolerance: float = 1e-6,
    seed: int = 0,
    narrowed: Callable[[np.ndarray], Product] | None = None,
    starts: int = 1,
) -> BlockRadius:
    """Return the largest spectral radius among diagonal blocks, all blocks at once.

    The error of a Ritz value is its residual times its condition. As soon as half of the blocks are left behind, they
    take no further steps: another block is ahead by four times the errors of both.

    What has settled before d steps is likely and not proved: an eigenvalue is missed where the start holds next to
    nothing of its vector. Of 1,000 normal blocks of 60 to 200 states, made hard by an isolated eigenvalue or a pair
    just inside of the end of a dense interval, 3 settled on a radius that was .01, .04 and .4 % too small, and of as
    many that were mildly non-normal as well 1, by .02 %. With `starts` of 2, a second start has to agree, which takes
    as many steps again.

    Parameters
    ----------
    product : callable (n, d) -> (n, d)
        Row i of the result is D_i times row i of the argument.
    shape : (n, d)
    steps : int
        Largest number of products; d of them are exact.
    tolerance : float
        The steps end where the error of the outermost Ritz value is below this share of it, and so are those of all
        blocks whose Ritz value with its error reaches as far. No other Ritz value, with two residuals, reaches further
        than twice this share beyond it, and what has not settled is coupled by less than .9 to what may be outside.
    seed : int
        Seed of the random vectors from which the steps start.
    narrowed : callable (numbers of blocks) -> callable (their number, d) -> (their number, d), optional
        Gives the product with these blocks alone, where it costs less than that with all of them.
    starts : int
        Number of independent starts. The largest radius is returned, and it has settled where that of every start has,
        with the same radius but for the tolerance and both errors.

    Returns
    -------
    BlockRadius

    Raises
    ------
    InputError
        There is less than one step or start.
    ArithmeticError
        A product is not finite, or the radius overflows.

    References
    ----------
    Arnoldi, Quart. Appl. Math. 9 (1951) 17; Golub and Van Loan, Matrix Computations, section 7.1.2 (the spectrum of a
    block-triangular matrix) and 7.2.2 (the condition of an eigenvalue); Trefethen and Embree, Spectra and
    Pseudospectra, 2005, section 26.

    Examples
    --------
    >>> blocks = np.array([[[0.5, 3.0], [0.0, 0.25]], [[0.0, -2.0], [2.0, 0.0]]])
    >>> outermost = block_radius(lambda v: np.einsum("nij,nj->ni", blocks, v), (2, 2))
    >>> outermost.block, round(abs(outermost.value), 12)
    (1, 2.0)
    """
    steps, starts = require_whole("steps", steps), require_whole("starts", starts)
    seeds = [seed, *np.random.SeedSequence(seed).generate_state(starts - 1).tolist()]
    spaces = (_KrylovSpaces(product, shape, min(steps, shape[1], _ROOM), narrowed, each) for each in seeds)
    answers = [_radius_from(blocks, min(steps, shape[1]), tolerance) for blocks in spaces]
    largest = max(answers, key=lambda answer: abs(answer.value))
    radius = abs(largest.value)
    agree = all(
        answer.settled and radius - abs(answer.value) <= tolerance * radius + answer.error + largest.error
        for answer in answers
    )
    return largest._replace(steps=sum(answer.steps for answer in answers), settled=agree)


def _radius_from(blocks: "_KrylovSpaces", most: int, tolerance: float) -> BlockRadius:
    while True:
        m = blocks.step(most)
        if m == most:
            return blocks.outermost(tolerance)
        if m % _EVERY == 0:
            if blocks.may_be_settled(tolerance):
                outermost = blocks.outermost(tolerance)
                if outermost.settled:
                    return outermost
            blocks.leave_behind()


class _KrylovSpaces:
    """V, H and what the last step leaves, of all blocks that are in play; everything is 2^-exponent of the blocks."""

    def __init__(
        self,
        product: Product,
        shape: tuple[int, int],
        room: int,
        narrowed: Callable[[np.ndarray], Product] | None,
        seed: int,
    ) -> None:
        n, self.d = shape
        self._n, self._whole, self._narrowed, self._of_left = n, product, narrowed, product
        self._rng = np.random.default_rng(seed)
        self.left, self.m, self.exponent = np.arange(n), 0, 0
        v = self._rng.standard_normal((n, self.d))
        self.following = v / np.linalg.norm(v, axis=1, keepdims=True)
        # Block by block, so that one product of matrices projects on all directions of one.
        self.basis, self.projected = np.empty((n, room, self.d)), np.zeros((n, room + 1, room))

    def step(self, most: int) -> int:
        """Take a step, and return the number of steps."""
        m = self.m
        if m == self.basis.shape[1]:
            self.basis, self.projected = _with_room(self.basis, self.projected, min(most, 2 * m))
        self.basis[:, m] = self.following
        w = np.asarray(self._of_left(self.basis[:, m]), np.float64)
        exponent = exponent_of(w)
        self.exponent = self.exponent if m else exponent
        w = np.ldexp(w, -self.exponent)
        self.m = m + 1
        self.following, self.projected[:, : m + 2, m] = _orthogonal(w, self.basis[:, : m + 1])
        return self.m

    def may_be_settled(self, tolerance: float) -> bool:
        return _may_be_settled(self.projected, self.m, self.d, tolerance)

    def outermost(self, tolerance: float) -> BlockRadius:
        """Return the outermost Ritz pair, at the scale of the blocks.

        Raises
        ------
        ArithmeticError
            It overflows.
        """
        outermost = _outermost(self.projected, self.basis[:, : self.m], tolerance)
        value = scaled(outermost.value.real, self.exponent) + 1j * scaled(outermost.value.imag, self.exponent)
        residual = scaled_error(outermost.residual, self.exponent)
        block = int(self.left[outermost.block])
        return outermost._replace(block=block, value=value, residual=residual)

    def leave_behind(self) -> None:
        """Go on without the blocks that cannot be outermost, where at most half of them are left."""
        able = _in_play(self.projected, self.m, self.d)
        if 2 * len(able) <= len(self.left):
            self.left, self.projected, self.following = self.left[able], self.projected[able], self.following[able]
            self.basis = _choose(self.basis, able, self.m)
            whole = self._whole
            self._of_left = self._narrowed(self.left) if self._narrowed else among(whole, self.left, self._n)


def among(product: Product, blocks: np.ndarray, n: int) -> Product:
    """Return the product with some of n blocks, by that with all of them: the others take zeros.

    Examples
    --------
    >>> among(lambda v: np.diag([1.0, 2.0, 3.0]) @ v, np.array([2, 0]), 3)(np.ones((2, 1))).tolist()
    [[3.0], [1.0]]
    """

    def of_blocks(v: np.ndarray) -> np.ndarray:
        whole = np.zeros((n, v.shape[1]))
        whole[blocks] = v
        return product(whole)[blocks]

    return of_blocks


def _in_play(projected: np.ndarray, m: int, d: int) -> np.ndarray:
    """Return numbers of blocks whose Ritz value with four errors reaches one that is left without four of its own.

    The outermost Ritz value itself may be far from settled, and fall below one that has settled.
    """
    bounds = _radius_bounds(projected[:, :m, :m])
    able = _at_least(
        bounds + _MARGIN * _last_lengths(projected, m, d), _span(projected[[bounds.argmax()]], m, d)[0].max()
    )
    low, high = _span(projected[able], m, d)
    return able[_at_least(high, low.max())]


def _span(projected: np.ndarray, m: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the modulus of the outermost Ritz value of each block, less and more by four errors.

    An ill-conditioned one leaves no block behind, and is left behind only where it cannot reach another by ten times
    as much: what comes after the first order may be larger than that.
    """
    values, _, residuals, conditions, reaches = _ritz(projected, m, d)
    well, error = conditions <= _WELL_CONDITIONED, _MARGIN * residuals * conditions
    radii = np.abs(values)
    high = np.maximum(radii + np.where(well, error, _BEYOND_FIRST_ORDER * error), reaches)
    return np.where(well, radii - error, 0.0), high


def _choose(basis: np.ndarray, blocks: np.ndarray, m: int) -> np.ndarray:
    """Return the m directions of these blocks, with room for as many as before."""
    directions = np.empty((len(blocks), *basis.shape[1:]))
    directions[:, :m] = basis[blocks, :m]
    return directions


def _with_room(basis: np.ndarray, projected: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return both with room for so many steps."""
    n, m, d = basis.shape
    larger, matrices = np.empty((n, room, d)), np.zeros((n, room + 1, room))
    larger[:, :m], matrices[:, : m + 1, :m] = basis, projected
    return larger, matrices


def _orthogonal(w: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (unit vectors along what of w is orthogonal to the basis, or 0 where that is rounding; coefficients)."""
    size, coefficients = np.linalg.norm(w, axis=1), np.zeros((len(w), basis.shape[1] + 1))
    for _ in range(2):  # the second projection removes what rounding left
        part = (basis @ w[:, :, None])[:, :, 0]
        coefficients[:, :-1] += part
        w = w - (part[:, None, :] @ basis)[:, 0]
    left = np.linalg.norm(w, axis=1)
    left = np.where(left > _LOST * size, left, 0.0)
    coefficients[:, -1] = left
    return np.where(left[:, None] > 0, w, 0.0) / np.where(left > 0, left, 1.0)[:, None], coefficients


def _may_be_settled(projected: np.ndarray, m: int, d: int, tolerance: float) -> bool:
    """Return False where the outermost block alone says no, by eigenvalues of those that can be it and its vectors."""
    matrices = projected[:, :m, :m]
    bounds = _radius_bounds(matrices)
    able = _at_least(bounds, spectral_radii(matrices[[bounds.argmax()]])[0])
    radii = spectral_radii(matrices[able])
    i = int(able[radii.argmax()])
    _, _, residuals, conditions, reaches = _ritz(projected[i : i + 1], m, d)
    most = tolerance * radii.max()
    return bool(residuals[0] * conditions[0] <= most and reaches[0] <= radii.max() + REACH * most)


def _at_least(bounds: np.ndarray, radius: float) -> np.ndarray:
    """Return the numbers of the blocks whose bound reaches this far; all where nothing can be compared."""
    return np.flatnonzero(~(bounds < radius))


def _radius_bounds(matrices: np.ndarray) -> np.ndarray:
    """Bound rho(H) <= |H^k|_F^(1/k), k = 64, of each matrix (n, m, m), from above, of a computed eigenvalue as well.

    A computed eigenvalue is one of H + E with |E|_F of a few m rounding units of |H|_F. The bound holds for all such
    E: `astray` is how far H^k may be from (H + E)^k, and each squaring adds the rounding of its product. Both are
    scaled to a sum of 1, so that no power overflows.
    """
    unit = matrices.shape[-1] * np.finfo(np.float64).eps
    power, k, logarithm = matrices, 1, np.zeros(len(matrices))
    size = np.linalg.norm(power, axis=(1, 2))
    astray = BACKWARD * unit * size
    while True:
        whole = size + astray
        with np.errstate(divide="ignore"):  # a matrix of zeros has the bound 0
            logarithm = logarithm + np.log(whole) / k
        if k == _POWER:
            return _UP * np.exp(logarithm)
        whole = np.where(whole > 0, whole, 1.0)
        power, size, astray = power / whole[:, None, None], size / whole, astray / whole
        power, astray, k = power @ power, (2.0 * size + astray) * astray + unit * size * size, 2 * k
        size = np.linalg.norm(power, axis=(1, 2))


def _ritz(projected: np.ndarray, m: int, d: int) -> tuple[np.ndarray, ...]:
    """Return the outermost Ritz pair of each block, (n,) and (n, m), its residual, its condition and the reach, (n,).

    A computed eigenvalue is that of a matrix beside the projected one: the residual holds its distance as well. The
    reach is the largest modulus, with two residuals, of all Ritz values: the outermost may have settled at -0.9 while
    another is still on its way to 1.
    """
    every = np.arange(len(projected))
    matrices = projected[:, :m, :m]
    values, vectors = np.linalg.eig(matrices)
    top = np.abs(values).argmax(axis=1)
    residuals = _last_lengths(projected, m, d)[:, None] * np.abs(vectors[:, -1]) + ritz_rounding(matrices)[:, None]
    conditions = np.array([eigenvalue_condition(*block) for block in zip(vectors, top, strict=True)])
    reaches = (np.abs(values) + REACH * residuals).max(axis=1)
    return values[every, top], vectors[every, :, top], residuals[every, top], conditions, reaches


def _coupling(projected: np.ndarray, last: float, radius: float, tolerance: float) -> float:
    """Return max |last e_m' (z - H)^-1| over |z| = radius of one block, without the Ritz values that have settled.

    With D V = V H + last v e_m', the path out of the span of V that an eigenvalue z of D needs, if H does not have it,
    is last e_m' (z - H)^-1. One Ritz value makes |residual| kappa/|z - theta| of it, and values that are
    ill-conditioned together make less than the sum of their shares. No z outside of the circle has more of it, and it
    is looked at where the angles of the Ritz values are. It is infinite where H has too few eigenvectors.
    """
    values, vectors = np.linalg.eig(projected)
    try:
        left = np.linalg.inv(vectors)
    except np.linalg.LinAlgError:
        return np.inf
    on_their_way = last * np.abs(vectors[-1]) * np.linalg.norm(left, axis=1) > tolerance * radius
    angles = np.append(np.angle(values[on_their_way]), np.linspace(0, np.pi, _ANGLES))
    distances = radius * np.exp(1j * angles)[:, None] - values[on_their_way]
    with np.errstate(divide="ignore", invalid="ignore"):
        paths = (last * vectors[-1, on_their_way] / distances) @ left[on_their_way]
    return float(np.nan_to_num(np.linalg.norm(paths, axis=1), nan=np.inf).max())


def _last_lengths(projected: np.ndarray, m: int, d: int) -> np.ndarray:
    """Return the lengths of what m steps leave, (n,); after d steps they are rounding."""
    return projected[:, m, m - 1] if m < d else np.zeros(len(projected))


def _outermost(projected: np.ndarray, basis: np.ndarray, tolerance: float) -> BlockRadius:
    """Return the outermost Ritz pair of all blocks; one that cannot reach it, even with its error, is left out."""
    m, d = basis.shape[1:]
    bounds = _radius_bounds(projected[:, :m, :m])
    least = spectral_radii(projected[[bounds.argmax()], :m, :m])[0]
    able = _at_least(bounds + _MARGIN * _last_lengths(projected, m, d), least)
    values, vectors, residuals, conditions, reaches = _ritz(projected[able], m, d)
    radii, errors = np.abs(values), residuals * conditions
    i = int(radii.argmax())
    most = tolerance * radii[i]
    rivals = radii + errors >= radii[i]
    vector = vectors[i] @ basis[able[i]]
    settled = bool(np.all(errors[rivals] <= most) and np.all(reaches <= radii[i] + REACH * most))
    if settled and m < d:
        lengths = _last_lengths(projected, m, d)
        settled = all(_coupling(projected[j, :m, :m], lengths[j], radii[i], tolerance) <= _COUPLED for j in able)
    return BlockRadius(
        block=int(able[i]),
        value=complex(values[i]),
        vector=vector / np.linalg.norm(vector),
        residual=float(residuals[i]),
        condition=float(conditions[i]),
        steps=m,
        settled=settled,
    )
