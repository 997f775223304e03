"""The arrays of a .mat file are read as a whole: what scipy can read passes, what ends the process does not."""

import io

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy.io import loadmat, savemat
from scipy.sparse import csc_array

from ctrlattn import InputError
from ctrlattn.exchange import load
from ctrlattn.exchange.mat import require_arrays

SYSTEM = {"A": np.eye(2) / 2, "B": np.ones((2, 1)), "C": np.ones((1, 2)), "D": np.zeros((1, 1)), "dt": 1.0}
FLAGS, REAL = 144, 176  # places of the class of the first array and of the data type of its numbers


def image(content, **options):
    file = io.BytesIO()
    savemat(file, content, **options)
    return file.getvalue()


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        0.5, np.ones((2, 3)) * 1j, np.zeros((0, 4)), np.arange(5, dtype=np.int8), np.array([True, False]), "text",
        "Sättigung", "", ["a", "bc"], np.array([[1.0, "x"], [np.ones(3), 2j]], dtype=object),
        {"a": 1.0, "b": {"c": "d"}},
        np.zeros((0, 0), dtype=object), csc_array(np.eye(4)), csc_array(np.eye(3) * 1j),
        np.array([(1.0, 2.0), (3.0, 4.0)], dtype=[("x", float), ("y", float)]),
    ],
)  # fmt: skip
def test_what_scipy_writes_passes(value, compressed):
    assert require_arrays(image({"x": value, "y": 1.0}, do_compression=compressed)) is None


def test_files_of_level_4_pass():
    assert require_arrays(image({"x": np.ones((2, 2))}, format="4")) is None


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (FLAGS, 5, "another number of parts"),  # a sparse array without its places
        (FLAGS + 1, 8, "another number of parts"),  # a complex one without its imaginary part
        (REAL, 0, "of another type"),
        (REAL, 14, "of another type"),
        (REAL + 1, 1, "of another type"),
        (REAL, 1, "another number of elements"),
        (128, 9, "an array is expected"),
        (FLAGS - 8, 5, "no flags"),
        (160, 3, "another number of elements"),
        (163, 255, "no dimensions"),
        (FLAGS, 1, "another number of arrays"),
        (FLAGS, 2, "no fields"),
        (FLAGS, 0, "the unknown class 0"),
        (FLAGS, 18, "the unknown class 18"),
    ],
)
def test_an_array_that_is_not_what_it_says(at, value, words, tmp_path):
    data = bytearray(image(SYSTEM))
    data[at] = value
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.mat: this is not a \.mat file that can be read: .*{words}"):
        load(tmp_path / "a.mat")


def test_cells_in_cells_end():
    value = np.ones(1)
    for _ in range(40):
        cell = np.empty((1, 1), dtype=object)
        cell[0, 0], value = value, cell
    with pytest.raises(InputError, match="arrays lie deeper than 32"):
        require_arrays(image({"x": value}))


@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_bytes_are_refused_or_read(compressed, tmp_path):
    """Any change of bytes gives a system or one InputError; scipy alone ended the process in some of these."""
    whole, rng = image(SYSTEM, do_compression=compressed), np.random.default_rng(0)
    path = tmp_path / "a.mat"
    refused = []
    for trial in range(150):
        data = bytearray(whole)
        for at in rng.integers(128, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        path.write_bytes(data[: rng.integers(1, len(data))] if trial % 3 == 0 else data)
        try:
            load(path)
        except InputError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert not any("\n" in message for message in refused)
    path.write_bytes(whole)
    assert_array_equal(load(path).A, loadmat(path)["A"])
