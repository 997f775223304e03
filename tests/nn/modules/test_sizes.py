"""Sizes that make a network, and those that do not: judged in one place, without torch."""

import subprocess
import sys

import pytest

from ctrlattn.errors import InputError
from ctrlattn.nn.modules.sizes import require_heads, require_norm, require_patches


def test_heads_divide_the_features_and_those_of_keys_divide_the_heads():
    for dim in range(1, 25):
        for heads in range(1, 9):
            for kv_heads in range(1, 9):
                fits = dim % heads == 0 and heads % kv_heads == 0
                if fits:
                    require_heads(dim, heads, kv_heads)
                else:
                    with pytest.raises(InputError, match="must be a multiple of"):
                        require_heads(dim, heads, kv_heads)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (4, 0, 1), (4, 2, 0), (4.0, 2, 1), (4, True, 1)])
def test_sizes_are_whole_numbers_of_at_least_one(sizes):
    with pytest.raises(InputError, match="whole number of at least 1"):
        require_heads(*sizes)


def test_patches_divide_the_image():
    assert [patch for patch in range(1, 9) if _fits(8, patch)] == [1, 2, 4, 8]


def _fits(image, patch):
    try:
        require_patches(image, patch)
    except InputError:
        return False
    return True


def test_only_the_three_norms_are_known():
    for norm in ("layer", "rms", "none"):
        require_norm(norm)
    for norm in ("", "Layer", "batch"):
        with pytest.raises(InputError, match="norm must be one of layer, rms, none"):
            require_norm(norm)


def test_nothing_of_it_needs_torch():
    code = "import sys, ctrlattn.nn.experiment.settings, ctrlattn.nn.modules.sizes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
