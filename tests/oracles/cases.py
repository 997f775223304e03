"""Many small cases in one test: `@every_case(names, values)` in place of `@pytest.mark.parametrize(names, values)`.

A test costs two to five thousandths of a second before it does anything, which is more than a case of a small matrix.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest


def every_case(names: str, values: Iterable[Any], ids: Iterable[Any] | None = None) -> Callable:
    """The test for all the values, in their order; what fails says with which.

    Decorators that stand above each other give all combinations. A fixture is one for all cases. A case that is skipped
    fails, since those behind it would be skipped with it.

    >>> @every_case("a, b", [(1, 1), (4, 2), (9, 0)])
    ... def test(a, b):
    ...     assert a == b * b
    >>> try:
    ...     test()
    ... except AssertionError as error:
    ...     print(*error.__notes__)
    with a, b = (9, 0)
    >>> try:
    ...     every_case("n", [1])(lambda n: pytest.skip("today"))()
    ... except AssertionError as error:
    ...     print(error)
    a case among others cannot be skipped: n = 1
    """
    arguments = [name.strip() for name in names.split(",")]
    cases = list(values)
    told = [repr(case) for case in cases] if ids is None else list(ids)

    def decorate(test: Callable) -> Callable:
        @functools.wraps(test)
        def every(**given: Any) -> None:
            for case, name in zip(cases, told, strict=True):
                try:
                    test(**given, **dict(zip(arguments, case if len(arguments) > 1 else [case], strict=True)))
                except pytest.skip.Exception as error:
                    raise AssertionError(f"a case among others cannot be skipped: {names} = {name}") from error
                except BaseException as error:
                    error.add_note(f"with {names} = {name}")
                    raise

        signature = inspect.signature(test)
        left = [parameter for name, parameter in signature.parameters.items() if name not in arguments]
        vars(every)["__signature__"] = signature.replace(parameters=left)
        return every

    return decorate
