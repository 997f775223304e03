"""A x = lambda x, A x = b, A = Q H Q': LAPACK for compiled code, the one that scipy brings.

scipy publishes the addresses of its routines for Cython. They are given names here, by which compiled code that comes
from the disk finds them again. A call puts the addresses of arrays and numbers in a row and compiles in milliseconds,
where a call by way of `ctypes` takes a fifth of a second. The arguments are those of LAPACK without the last, `info`,
which is returned. Arrays are C-contiguous, and LAPACK reads them transposed.

Reference: `ctrlattn.linear.lapack`.
"""

from typing import Any

import llvmlite.binding
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

# Ways into a kernel cost a person time of the compiler: none has one for C, and inner functions none for Python.
KERNEL: dict[str, Any] = {"cache": True, "nogil": True, "no_cfunc_wrapper": True}
INNER: dict[str, Any] = {**KERNEL, "no_cpython_wrapper": True}
INLINED: dict[str, Any] = {"inline": "always"}  # pays for what one kernel alone calls, and costs where several do
BLOCK = 64  # columns that LAPACK takes at once, at most
NO, SCALE, TURNED, LEFT = (np.uint8(ord(letter)) for letter in "NSTL")
_ADDRESS, _INT = ir.IntType(8).as_pointer(), ir.IntType(32)
_SMALL = 1e-100  # LAPACK scales matrices of such entries, and does not scale their eigenvalues back


def called_by_address(name: str, address: int, *, informs: bool = True) -> Any:
    """Return what compiled code calls to reach machine code at an address; arguments are addresses, `info` the last.

    An array stands for its first entry, and (array, k) for its entry k in memory. BLAS has no `info`.
    """
    symbol = f"ctrlattn_{name}"
    llvmlite.binding.add_symbol(symbol, address)

    @intrinsic
    def call(typing_context, *arguments):
        kinds = arguments[0] if len(arguments) == 1 else arguments

        def generated(context, builder, signature, values):
            arguments = zip(signature.args[0].types, cgutils.unpack_tuple(builder, values[0]), strict=True)
            info = cgutils.alloca_once_value(builder, _INT(0))
            places = [_place(context, builder, kind, value) for kind, value in arguments] + [info] * informs
            kind = ir.FunctionType(ir.VoidType(), [_ADDRESS] * len(places))
            function = cgutils.get_or_insert_function(builder.module, kind, symbol)
            builder.call(function, [builder.bitcast(place, _ADDRESS) for place in places])
            return builder.sext(builder.load(info), ir.IntType(64))

        return types.int64(types.StarArgTuple(kinds)), generated

    return call


def _place(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """Return the place where the code finds an argument: entries of an array, a number, an int32, or a letter."""
    if isinstance(kind, types.Tuple):
        array, offset = cgutils.unpack_tuple(builder, value)
        return builder.gep(_place(context, builder, kind.types[0], array), [offset])
    if isinstance(kind, types.Array):
        return context.make_array(kind)(context, builder, value).data
    if isinstance(kind, types.Integer) and value.type.width > _INT.width:
        value = builder.trunc(value, _INT)
    return cgutils.alloca_once_value(builder, value)


def _routine(name: str, library: str = "lapack", *, informs: bool = True) -> Any:
    return called_by_address(name, get_cython_function_address(f"scipy.linalg.cython_{library}", name), informs=informs)


dgemm = _routine("dgemm", "blas", informs=False)
zgemm = _routine("zgemm", "blas", informs=False)
dgebal = _routine("dgebal")
dgeev = _routine("dgeev")
zgeev = _routine("zgeev")
dggev = _routine("dggev")
dgesv = _routine("dgesv")
zgesv = _routine("zgesv")
zgetrf = _routine("zgetrf")
zgetrs = _routine("zgetrs")
dgehrd = _routine("dgehrd")
dormhr = _routine("dormhr")
dgesvd = _routine("dgesvd")
zgesvd = _routine("zgesvd")


@numba.njit(**KERNEL)
def is_moderate(a):
    """Tell whether the largest entry of a real matrix lies in the middle of the floats, or the matrix is empty."""
    largest, finite = 0.0, True
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            finite = finite and abs(a[i, j]) < 1 / _SMALL
            largest = max(largest, abs(a[i, j]))
    return finite and (largest > _SMALL or a.size == 0)
