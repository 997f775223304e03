"""(z I - T) x = b and (z I - H) x = b for many shifts z at once, T upper triangular, H upper Hessenberg.

The part of T or H above a block of rows is the same for every shift, so that the bulk of the work is one product of
real matrices for all shifts and right-hand sides together; what depends on the shift, one diagonal block at a time, is
compiled. Hessenberg: rotations of columns, from the last to the first, make zI - H triangular (RQ), and are applied
above the block by their accumulated coefficients. Real and imaginary parts are arrays of their own.

References: Henry, The shifted Hessenberg system solve computation, 1994; Bosner, Bujanovic and Drmac, Parallel solver
for shifted systems in a hybrid CPU-GPU framework, SIAM J. Sci. Comput. 40 (2018) C605.
Reference in plain numpy: np.linalg.solve(z * np.eye(n) - T, b).
"""

from collections.abc import Callable
from typing import NamedTuple

import numba
import numpy as np

# Loops inside kernels, not slices: an assignment of slices takes the compiler seconds, for the message of its shapes.
_FAST = {"reassoc", "contract", "nsz", "arcp"}
BLOCK = 32
SHIFTS = 16  # at once: enough for the vector units, few enough for the cache


class SplitComplex(NamedTuple):
    """Real and imaginary part, each (rows, columns, shifts) and C-contiguous; a matrix (n, n)."""

    re: np.ndarray
    im: np.ndarray


def parts(matrix: np.ndarray) -> SplitComplex:
    """Return a matrix as two real ones; the imaginary part of a real matrix is empty."""
    if np.iscomplexobj(matrix):
        return SplitComplex(np.ascontiguousarray(matrix.real), np.ascontiguousarray(matrix.imag))
    return SplitComplex(np.ascontiguousarray(matrix), np.empty((0, 0)))


def repeated(right: SplitComplex, count: int) -> SplitComplex:
    """Return the same right-hand sides (n, columns) for each of `count` shifts."""
    re = np.repeat(right.re[:, :, None], count, axis=2)
    return SplitComplex(re, np.repeat(right.im[:, :, None], count, axis=2) if right.im.size else np.zeros_like(re))


def times(matrix: SplitComplex, rows: slice, columns: slice, x: SplitComplex) -> SplitComplex:
    """Return matrix[rows, columns] x for all columns and shifts of x at once."""
    re, im = (part.reshape(len(part), -1) for part in x)
    block = matrix.re[rows, columns]
    out_re, out_im = block @ re, block @ im
    if matrix.im.size:
        block = matrix.im[rows, columns]
        out_re, out_im = out_re - block @ im, out_im + block @ re
    shape = (-1, *x.re.shape[1:])
    return SplitComplex(out_re.reshape(shape), out_im.reshape(shape))


def solve_triangular(t: SplitComplex, shifts: np.ndarray, right: SplitComplex) -> None:
    """Solve (z_s I - T) x_s = right_s; `right`, (n, columns, shifts), is overwritten with x; inf or nan at a pole."""
    n = len(t.re)
    z_re, z_im = np.ascontiguousarray(shifts.real), np.ascontiguousarray(shifts.imag)
    for top in range((n - 1) // BLOCK * BLOCK, -1, -BLOCK):
        stop = min(top + BLOCK, n)
        block = SplitComplex(right.re[top:stop], right.im[top:stop])
        if stop < n:
            update = times(t, slice(top, stop), slice(stop, n), SplitComplex(right.re[stop:], right.im[stop:]))
            np.add(block.re, update.re, out=block.re)
            np.add(block.im, update.im, out=block.im)
        t_im = t.im[top:stop, top:stop] if t.im.size else None
        _triangular_block(t.re[top:stop, top:stop], t_im, z_re, z_im, *block)


def solve_hessenberg(h: SplitComplex, shifts: np.ndarray, right: SplitComplex) -> SplitComplex:
    """Solve (z_s I - H) x_s = right_s, (n, columns, shifts); `right` is lost. A singular shift gives inf or nan.

    Column 0 of the work arrays is the rotated column of zI - H that still waits, the others are right-hand sides.
    """
    n, columns, count = right.re.shape
    z_re, z_im = np.ascontiguousarray(shifts.real), np.ascontiguousarray(shifts.imag)
    work = SplitComplex(np.empty((n, 1 + columns, count)), np.empty((n, 1 + columns, count)))
    for target, source in zip(work, right, strict=True):
        target[:, 1:] = source
    work.re[:, 0], work.im[:, 0] = -h.re[:, -1:], -h.im[:, -1:] if h.im.size else 0.0
    work.re[-1, 0] += z_re
    work.im[-1, 0] += z_im
    a, d = (
        SplitComplex(np.empty((n, count)), np.empty((n, count))) for _ in range(2)
    )  # a/rho and d/rho of each rotation
    turns = a.re, a.im, d.re, d.im
    for top in range(max((n - 2) // BLOCK * BLOCK + 1, 1), 0, -BLOCK):
        stop = min(top + BLOCK, n)
        coefficients = SplitComplex(
            np.empty((stop - top, 1 + columns, count)), np.empty((stop - top, 1 + columns, count))
        )
        last = SplitComplex(np.empty((1 + columns, count)), np.empty((1 + columns, count)))
        if n > 1:
            h_im = h.im if h.im.size else None
            _hessenberg_block(h.re, h_im, top, stop, z_re, z_im, work.re, work.im, *turns)
            _accumulate(top, stop, work.re, work.im, *turns, coefficients.re, coefficients.im, last.re, last.im)
            above = times(h, slice(0, top), slice(top - 1, stop - 1), coefficients)
            first = coefficients.re[0], coefficients.im[0]
            _apply(top, z_re, z_im, work.re, work.im, above.re, above.im, *first, last.re, last.im)
    _rotate_back(*work, *turns, *right)
    return right


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _triangular_block(t_re, t_im, z_re, z_im, x_re, x_im):
    """Solve the rows of one diagonal block, from the last to the first; the row that is known is copied, so that no row
    that is written can overlap it."""
    n, columns, count = x_re.shape
    row_re, row_im = np.empty((columns, count)), np.empty((columns, count))
    for i in range(n - 1, -1, -1):
        for s in range(count):
            d_re = z_re[s] - t_re[i, i]
            d_im = z_im[s]
            if t_im is not None:
                d_im -= t_im[i, i]
            scale = 1.0 / (d_re * d_re + d_im * d_im)
            for c in range(columns):
                re, im = x_re[i, c, s], x_im[i, c, s]
                row_re[c, s] = (re * d_re + im * d_im) * scale
                row_im[c, s] = (im * d_re - re * d_im) * scale
        for c in range(columns):
            for s in range(count):
                x_re[i, c, s] = row_re[c, s]
                x_im[i, c, s] = row_im[c, s]
        for j in range(i):
            a = t_re[j, i]
            if t_im is None:
                for c in range(columns):
                    for s in range(count):
                        x_re[j, c, s] += a * row_re[c, s]
                        x_im[j, c, s] += a * row_im[c, s]
            else:
                b = t_im[j, i]
                for c in range(columns):
                    for s in range(count):
                        x_re[j, c, s] += a * row_re[c, s] - b * row_im[c, s]
                        x_im[j, c, s] += a * row_im[c, s] + b * row_re[c, s]


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _hessenberg_block(h_re, h_im, top, stop, z_re, z_im, w_re, w_im, a_re, a_im, d_re, d_im):
    """Apply rotations that clear (i, i-1), i = stop-1 .. top, to the rows of the block; row i keeps its y."""
    _, width, count = w_re.shape
    r_re, r_im = np.empty(count), np.empty(count)
    ar, ai, dr, di = np.empty(count), np.empty(count), np.empty(count), np.empty(count)
    y_re, y_im = np.empty((width, count)), np.empty((width, count))
    for i in range(stop - 1, top - 1, -1):
        below_re = -h_re[i, i - 1]
        below_im = 0.0 if h_im is None else -h_im[i, i - 1]
        for s in range(count):
            re, im = w_re[i, 0, s], w_im[i, 0, s]
            inverse = 1.0 / np.sqrt(re * re + im * im + below_re * below_re + below_im * below_im)
            ar[s], ai[s] = below_re * inverse, below_im * inverse
            dr[s], di[s] = re * inverse, im * inverse
            for c in range(1, width):
                y_re[c, s] = w_re[i, c, s] * inverse
                y_im[c, s] = w_im[i, c, s] * inverse
        for c in range(1, width):
            for s in range(count):
                w_re[i, c, s] = y_re[c, s]
                w_im[i, c, s] = y_im[c, s]
        for s in range(count):
            a_re[i, s], a_im[i, s], d_re[i, s], d_im[i, s] = ar[s], ai[s], dr[s], di[s]
        for j in range(top, i):
            m_re = -h_re[j, i - 1]
            m_im = 0.0 if h_im is None else -h_im[j, i - 1]
            corner = 1.0 if j == i - 1 else 0.0
            for s in range(count):
                c_re, c_im = m_re + corner * z_re[s], m_im + corner * z_im[s]
                v_re, v_im = w_re[j, 0, s], w_im[j, 0, s]
                r_re[s] = ar[s] * c_re + ai[s] * c_im + dr[s] * v_re + di[s] * v_im
                r_im[s] = ar[s] * c_im - ai[s] * c_re + dr[s] * v_im - di[s] * v_re
                w_re[j, 0, s] = dr[s] * c_re - di[s] * c_im - ar[s] * v_re + ai[s] * v_im
                w_im[j, 0, s] = dr[s] * c_im + di[s] * c_re - ar[s] * v_im - ai[s] * v_re
            for c in range(1, width):
                for s in range(count):
                    w_re[j, c, s] -= r_re[s] * y_re[c, s] - r_im[s] * y_im[c, s]
                    w_im[j, c, s] -= r_re[s] * y_im[c, s] + r_im[s] * y_re[c, s]


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _accumulate(top, stop, w_re, w_im, a_re, a_im, d_re, d_im, out_re, out_im, last_re, last_im):
    """Write a block's rotations above it as coefficients of columns top-1 .. stop-2 and of the waiting one."""
    _, width, count = w_re.shape
    for c in range(width):
        for s in range(count):
            # The waiting column goes on by itself (c = 0); a right-hand side takes y_i of each column it meets.
            k_re, k_im = (1.0, 0.0) if c == 0 else (0.0, 0.0)
            sign = 1.0 if c == 0 else -1.0
            for i in range(top, stop):
                y_re, y_im = (0.0, 0.0) if c == 0 else (w_re[i, c, s], w_im[i, c, s])
                ar, ai, dr, di = a_re[i, s], a_im[i, s], d_re[i, s], d_im[i, s]
                out_re[i - top, c, s] = sign * (dr * k_re - di * k_im + ar * y_re + ai * y_im)
                out_im[i - top, c, s] = sign * (dr * k_im + di * k_re + ar * y_im - ai * y_re)
                k_re, k_im = (
                    -ar * k_re + ai * k_im + dr * y_re + di * y_im,
                    -ar * k_im - ai * k_re + dr * y_im - di * y_re,
                )
            last_re[c, s] = sign * k_re
            last_im[c, s] = sign * k_im


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _apply(top, z_re, z_im, w_re, w_im, above_re, above_im, first_re, first_im, last_re, last_im):
    """Update the rows above the block: w_c + (coefficient of the waiting column) v - H coefficients; z on row top-1."""
    _, width, count = w_re.shape
    v_re, v_im = np.empty(count), np.empty(count)
    for j in range(top):
        for s in range(count):
            v_re[s], v_im[s] = w_re[j, 0, s], w_im[j, 0, s]
            w_re[j, 0, s] = 0.0
            w_im[j, 0, s] = 0.0
        for c in range(width):
            for s in range(count):
                w_re[j, c, s] += last_re[c, s] * v_re[s] - last_im[c, s] * v_im[s] - above_re[j, c, s]
                w_im[j, c, s] += last_re[c, s] * v_im[s] + last_im[c, s] * v_re[s] - above_im[j, c, s]
    for c in range(width):
        for s in range(count):
            w_re[top - 1, c, s] += z_re[s] * first_re[c, s] - z_im[s] * first_im[c, s]
            w_im[top - 1, c, s] += z_re[s] * first_im[c, s] + z_im[s] * first_re[c, s]


@numba.njit(cache=True, nogil=True, fastmath=_FAST, error_model="numpy")
def _rotate_back(w_re, w_im, a_re, a_im, d_re, d_im, x_re, x_im):
    """Go from y of the triangular system to x: the rotations in the other direction."""
    n, width, count = w_re.shape
    for c in range(1, width):
        for s in range(count):
            v_re, v_im = w_re[0, 0, s], w_im[0, 0, s]
            scale = 1.0 / (v_re * v_re + v_im * v_im)
            b_re, b_im = w_re[0, c, s], w_im[0, c, s]
            k_re, k_im = (b_re * v_re + b_im * v_im) * scale, (b_im * v_re - b_re * v_im) * scale
            for i in range(1, n):
                y_re, y_im = w_re[i, c, s], w_im[i, c, s]
                ar, ai, dr, di = a_re[i, s], a_im[i, s], d_re[i, s], d_im[i, s]
                x_re[i - 1, c - 1, s] = dr * k_re - di * k_im + ar * y_re + ai * y_im
                x_im[i - 1, c - 1, s] = dr * k_im + di * k_re + ar * y_im - ai * y_re
                k_re, k_im = (
                    -ar * k_re + ai * k_im + dr * y_re + di * y_im,
                    -ar * k_im - ai * k_re + dr * y_im - di * y_re,
                )
            x_re[n - 1, c - 1, s] = k_re
            x_im[n - 1, c - 1, s] = k_im


def largest_eigenvalue(
    apply: Callable[[SplitComplex, np.ndarray], SplitComplex], start: SplitComplex, rtol: float, steps: int
) -> np.ndarray:
    """Return the largest eigenvalue of a positive Hermitian operator, (shifts,), by Lanczos without a stored basis.

    apply(q, which) takes the vectors of the shifts `which`; start: (n, 1, shifts) of norm 1. A shift is done when its
    square root changes by less than `rtol` twice in a row, and leaves when a quarter of the others are done too.
    """
    count = start.re.shape[2]
    which, result = np.arange(count), np.zeros(count)
    alpha, beta = np.zeros((steps, count)), np.zeros((steps, count))
    q, before = start, SplitComplex(np.zeros_like(start.re), np.zeros_like(start.im))
    top, quiet = np.zeros(count), np.zeros(count, int)
    for k in range(steps):
        w = apply(q, which)
        last = beta[k - 1] if k else np.zeros(len(which))
        _orthogonalise(w.re, w.im, q.re, q.im, before.re, before.im, last, alpha[k], beta[k])
        eigenvalue = largest_of_tridiagonal(alpha[: k + 1], beta[:k])
        quiet = np.where(np.abs(eigenvalue - top) <= 2 * rtol * eigenvalue, quiet + 1, 0)
        top, result[which] = eigenvalue, eigenvalue
        q, before = w, q
        # A shift stops when its eigenvalue is quiet, when nothing is left of the vector, or when it overflows.
        going = (quiet < 2) & np.isfinite(eigenvalue) & (beta[k] > 1e-14 * eigenvalue)
        if not np.any(going):
            break
        if np.count_nonzero(going) <= 0.75 * len(which):
            which, top, quiet = which[going], top[going], quiet[going]
            alpha, beta = (np.compress(going, part, axis=1) for part in (alpha, beta))
            q, before = (SplitComplex(*(np.compress(going, plane, axis=2) for plane in part)) for part in (q, before))
    return result


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _orthogonalise(w_re, w_im, q_re, q_im, p_re, p_im, last, alpha, beta):
    """Set w <- (w - alpha q - last p)/beta with alpha = <q, w> and the norm beta, for each shift."""
    n, _, count = w_re.shape
    for s in range(count):
        alpha[s] = 0.0
        beta[s] = 0.0
    for i in range(n):
        for s in range(count):
            alpha[s] += q_re[i, 0, s] * w_re[i, 0, s] + q_im[i, 0, s] * w_im[i, 0, s]
    for i in range(n):
        for s in range(count):
            re = w_re[i, 0, s] - alpha[s] * q_re[i, 0, s] - last[s] * p_re[i, 0, s]
            im = w_im[i, 0, s] - alpha[s] * q_im[i, 0, s] - last[s] * p_im[i, 0, s]
            w_re[i, 0, s] = re
            w_im[i, 0, s] = im
            beta[s] += re * re + im * im
    inverse = np.empty(count)
    for s in range(count):
        beta[s] = np.sqrt(beta[s])
        inverse[s] = 1.0 / beta[s] if beta[s] > 0 else 0.0
    for i in range(n):
        for s in range(count):
            w_re[i, 0, s] *= inverse[s]
            w_im[i, 0, s] *= inverse[s]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def largest_of_tridiagonal(alpha, beta):
    """Return the largest eigenvalue of symmetric tridiagonal matrices (k, shifts), (k - 1, shifts), by bisection.

    Reference: np.linalg.eigvalsh of each.
    """
    k, count = alpha.shape
    largest = np.empty(count)
    for s in range(count):
        low = high = alpha[0, s]
        for i in range(k):
            reach = (beta[i - 1, s] if i > 0 else 0.0) + (beta[i, s] if i < k - 1 else 0.0)
            low = max(low, alpha[i, s])
            high = max(high, alpha[i, s] + reach)
        if not np.isfinite(high):
            largest[s] = high
            continue
        for _ in range(60):
            middle = 0.5 * (low + high)
            if high - low <= 1e-12 * abs(high):
                break
            above, pivot = True, middle - alpha[0, s]
            for i in range(1, k):
                if pivot <= 0:
                    above = False
                    break
                pivot = middle - alpha[i, s] - beta[i - 1, s] * beta[i - 1, s] / pivot
            if above and pivot > 0:
                high = middle
            else:
                low = middle
        largest[s] = 0.5 * (low + high)
    return largest
