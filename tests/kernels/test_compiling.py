"""Who waits for the compiler is told so by one line; who has the kernels on disk is not, nor who waits for others."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from ctrlattn.kernels import compiling
from ctrlattn.kernels.pencil import balance_pencil

PROGRAM = """
import numba, numpy as np
from ctrlattn.progress import noticed_by
from ctrlattn.kernels.pencil import balance_pencil

with noticed_by(print):
    numba.njit(lambda x: x + 1)(1)
    print("another's")
    for dtype in (float, np.float32):  # two compilations
        balance_pencil(np.eye(2, dtype=dtype), np.eye(2, dtype=dtype))
"""


@pytest.mark.slow
def test_the_first_process_is_told_once_and_the_second_finds_the_code_on_disk(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        for _ in range(2)
    ]
    assert said == [["another's", compiling.WORDS], ["another's"]]


def test_what_is_no_kernel_of_this_package_is_not_told():
    assert compiling.is_of_this_room({"dispatcher": balance_pencil})
    for function in (len, test_what_is_no_kernel_of_this_package_is_not_told, None):
        assert not compiling.is_of_this_room({"dispatcher": SimpleNamespace(py_func=function)})
    assert not compiling.is_of_this_room(None)
