"""A x = lambda x, A x = lambda B x, A x = b, A = Q H Q': LAPACK for compiled code, the one that scipy brings.

scipy publishes the addresses of its routines for Cython. They are given names here, by which compiled code that comes
from the disk finds them again. Matrices are C-contiguous, and LAPACK reads them transposed: eigenvalues do not mind.

Reference: `ctrlattn.linear.lapack`.
"""

import llvmlite.binding
import numba
import numpy as np
from numba import types
from numba.extending import get_cython_function_address

_SMALL = 1e-100  # LAPACK scales matrices of such entries, and does not scale their eigenvalues back
_BLOCK = 64  # columns that LAPACK takes at once, at most


def _routine(name, arguments):
    symbol = f"ctrlattn_{name}"
    llvmlite.binding.add_symbol(symbol, get_cython_function_address("scipy.linalg.cython_lapack", name))
    return types.ExternalFunction(symbol, types.void(*[types.voidptr] * arguments))


_dgebal = _routine("dgebal", 8)
_dgeev = _routine("dgeev", 14)
_zgeev = _routine("zgeev", 14)
_dggev = _routine("dggev", 17)
_dgesv = _routine("dgesv", 8)
_zgesv = _routine("zgesv", 8)
_zgetrf = _routine("zgetrf", 6)
_zgetrs = _routine("zgetrs", 9)
_dgehrd = _routine("dgehrd", 9)
_dormhr = _routine("dormhr", 14)


@numba.njit(cache=True, nogil=True)
def _letters(word):
    letters = np.empty(len(word), np.uint8)
    for i in range(len(word)):
        letters[i] = ord(word[i])
    return letters


@numba.njit(cache=True, nogil=True)
def eigenvalues(a):
    """(real parts, imaginary parts, info) of a real matrix (n, n); info 0 says that all is well."""
    n = len(a)
    re, im, info = np.empty(n), np.empty(n), np.zeros(1, np.int32)
    if n == 0:
        return re, im, 0
    largest = np.abs(a).max()
    if not _SMALL < largest < 1 / _SMALL:
        return re, im, -1
    matrix, room = a.copy(), (2 + _BLOCK) * n
    work, none, job = np.empty(room), np.empty(1), _letters("N")
    sizes = np.array([n, 1, room], np.int32)
    _dgeev(
        job.ctypes, job.ctypes, sizes.ctypes, matrix.ctypes, sizes.ctypes, re.ctypes, im.ctypes, none.ctypes,
        sizes[1:].ctypes, none.ctypes, sizes[1:].ctypes, work.ctypes, sizes[2:].ctypes, info.ctypes,
    )  # fmt: skip
    return re, im, info[0]


@numba.njit(cache=True, nogil=True)
def complex_eigenvalues(a):
    """(eigenvalues, info) of a complex matrix (n, n)."""
    n = len(a)
    values, info = np.empty(n, np.complex128), np.zeros(1, np.int32)
    if n == 0:
        return values, 0
    largest = np.abs(a).max()
    if not _SMALL < largest < 1 / _SMALL:
        return values, -1
    matrix, room = a.copy(), (1 + _BLOCK) * n
    work, none, real, job = np.empty(room, np.complex128), np.empty(1, np.complex128), np.empty(2 * n), _letters("N")
    sizes = np.array([n, 1, room], np.int32)
    _zgeev(
        job.ctypes, job.ctypes, sizes.ctypes, matrix.ctypes, sizes.ctypes, values.ctypes, none.ctypes,
        sizes[1:].ctypes, none.ctypes, sizes[1:].ctypes, work.ctypes, sizes[2:].ctypes, real.ctypes, info.ctypes,
    )  # fmt: skip
    return values, info[0]


@numba.njit(cache=True, nogil=True)
def pencil_eigenvalues(left, right):
    """(real parts, imaginary parts, bottom, info): eigenvalues top/bottom of left - (top/bottom) right, destroyed."""
    n = len(left)
    re, im, bottom, info = np.empty(n), np.empty(n), np.empty(n), np.zeros(1, np.int32)
    room = (8 + _BLOCK) * n + 16
    work, none, job = np.empty(room), np.empty(1), _letters("N")
    sizes = np.array([n, 1, room], np.int32)
    _dggev(
        job.ctypes, job.ctypes, sizes.ctypes, left.ctypes, sizes.ctypes, right.ctypes, sizes.ctypes, re.ctypes,
        im.ctypes, bottom.ctypes, none.ctypes, sizes[1:].ctypes, none.ctypes, sizes[1:].ctypes, work.ctypes,
        sizes[2:].ctypes, info.ctypes,
    )  # fmt: skip
    return re, im, bottom, info[0]


@numba.njit(cache=True, nogil=True)
def solved(a, b):
    """(x of A x = b, info) of a real A (n, n) and b (n, k), both C-contiguous."""
    n, k = b.shape
    x, info = b.T.copy(), np.zeros(1, np.int32)
    if b.size:
        factors, pivots = a.T.copy(), np.empty(n, np.int32)
        sizes = np.array([n, k], np.int32)
        _dgesv(
            sizes.ctypes, sizes[1:].ctypes, factors.ctypes, sizes.ctypes, pivots.ctypes, x.ctypes, sizes.ctypes,
            info.ctypes,
        )  # fmt: skip
    return x.T.copy(), info[0]


@numba.njit(cache=True, nogil=True)
def complex_solved(a, b):
    """(x of A x = b, info) of a complex A (n, n) and b (n, k), both C-contiguous."""
    n, k = b.shape
    x, info = b.T.copy(), np.zeros(1, np.int32)
    if b.size:
        factors, pivots = a.T.copy(), np.empty(n, np.int32)
        sizes = np.array([n, k], np.int32)
        _zgesv(
            sizes.ctypes, sizes[1:].ctypes, factors.ctypes, sizes.ctypes, pivots.ctypes, x.ctypes, sizes.ctypes,
            info.ctypes,
        )  # fmt: skip
    return x.T.copy(), info[0]


@numba.njit(cache=True, nogil=True)
def solved_on_both_sides(a, b, c):
    """(A^-1 b transposed, c A^-1, info) of complex A (n, n), b (n, m) and c (p, n), all C-contiguous."""
    n, into, out = len(a), b.T.copy(), c.copy()
    info = np.zeros(1, np.int32)
    if n == 0:
        return into, out, 0
    factors, pivots, plain, transposed = a.copy(), np.empty(n, np.int32), _letters("N"), _letters("T")
    sizes = np.array([n, b.shape[1], c.shape[0]], np.int32)
    _zgetrf(sizes.ctypes, sizes.ctypes, factors.ctypes, sizes.ctypes, pivots.ctypes, info.ctypes)
    if info[0] != 0:
        return into, out, info[0]
    # LAPACK has factored A transposed.
    for job, count, x in ((transposed, sizes[1:], into), (plain, sizes[2:], out)):
        if x.size:
            _zgetrs(
                job.ctypes, sizes.ctypes, count.ctypes, factors.ctypes, sizes.ctypes, pivots.ctypes, x.ctypes,
                sizes.ctypes, info.ctypes,
            )  # fmt: skip
    return into, out, info[0]


@numba.njit(cache=True, nogil=True)
def scales(sizes):
    """The diagonal of D, powers of two, that makes rows and columns of D^-1 S D of equal size; S is destroyed.

    LAPACK sees S transposed, whose scales are the inverse ones.
    """
    n = len(sizes)
    scale, none, info = np.ones(n), np.zeros(2, np.int32), np.zeros(1, np.int32)
    if n:
        matrix, size, job = sizes.T.copy(), np.array([n], np.int32), _letters("S")
        _dgebal(
            job.ctypes, size.ctypes, matrix.ctypes, size.ctypes, none.ctypes, none[1:].ctypes, scale.ctypes,
            info.ctypes,
        )  # fmt: skip
    return scale


@numba.njit(cache=True, nogil=True)
def hessenberg(a):
    """(LAPACK's own H with the reflections below, transposed, tau) of A (n, n), C-contiguous: A = Q H Q'."""
    n = len(a)
    matrix, tau, info = a.T.copy(), np.empty(max(n - 1, 1)), np.zeros(1, np.int32)
    room = _BLOCK * n + (_BLOCK + 1) * _BLOCK
    work, sizes = np.empty(room), np.array([n, 1, room], np.int32)
    _dgehrd(
        sizes.ctypes, sizes[1:].ctypes, sizes.ctypes, matrix.ctypes, sizes.ctypes, tau.ctypes, work.ctypes,
        sizes[2:].ctypes, info.ctypes,
    )  # fmt: skip
    return matrix, tau


@numba.njit(cache=True, nogil=True)
def turned(reduced, tau, columns):
    """Q' x for each x among the rows of `columns` (k, n), in place."""
    k, n = columns.shape
    if columns.size == 0:
        return
    info, room = np.zeros(1, np.int32), _BLOCK * (k + n) + (_BLOCK + 1) * _BLOCK
    work, sizes = np.empty(room), np.array([n, k, 1, room], np.int32)
    left, transposed = _letters("L"), _letters("T")
    _dormhr(
        left.ctypes, transposed.ctypes, sizes.ctypes, sizes[1:].ctypes, sizes[2:].ctypes, sizes.ctypes,
        reduced.ctypes, sizes.ctypes, tau.ctypes, columns.ctypes, sizes.ctypes, work.ctypes, sizes[3:].ctypes,
        info.ctypes,
    )  # fmt: skip
