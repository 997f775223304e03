"""f(A) = 2^e f(2^-e A): an answer in which A is of size 1, so that no square underflows or overflows.

A power of two rounds nothing: the digits of an answer are the same at every scale.
"""

import math

import numpy as np


def exponent_of(products: np.ndarray) -> int:
    """Return e, so that 2^-e times the products has entries of at most 1; 0 for zeros.

    Raises
    ------
    ArithmeticError
        A product is not finite: nothing can be said of its operator.

    Examples
    --------
    >>> exponent_of(np.array([3.0, -5.0])), exponent_of(np.array([2.0**-1000])), exponent_of(np.zeros(2))
    (3, -999, 0)
    """
    largest = float(np.abs(products).max(initial=0.0))
    if not math.isfinite(largest):
        raise ArithmeticError("a product with the operator is not finite")
    return math.frexp(largest)[1] if largest > 0 else 0


def scaled(x: float, exponent: int) -> float:
    """Return 2^exponent x.

    Raises
    ------
    ArithmeticError
        It overflows.

    Examples
    --------
    >>> scaled(0.75, 3)
    6.0
    """
    try:
        return math.ldexp(x, exponent)
    except OverflowError:
        raise ArithmeticError(f"the answer is {x:.3g} times 2^{exponent}, which overflows") from None


def scaled_error(x: float, exponent: int) -> float:
    """Return 2^exponent x, and the least positive number in place of 0 where x is positive.

    >>> scaled_error(1.0, -2000), scaled_error(0.0, -2000)
    (5e-324, 0.0)
    """
    return max(scaled(x, exponent), math.ulp(0.0) if x > 0 else 0.0)


def scaled_array(a: np.ndarray, exponent: int) -> np.ndarray:
    """Return 2^exponent times real or complex numbers, to the bit where nothing under- or overflows.

    >>> scaled_array(np.array([1 + 2j]), 1).tolist()
    [(2+4j)]
    """
    if not np.iscomplexobj(a):
        return np.asarray(np.ldexp(a, exponent))
    both = np.empty(a.shape, complex)
    both.real, both.imag = np.ldexp(a.real, exponent), np.ldexp(a.imag, exponent)
    return both
