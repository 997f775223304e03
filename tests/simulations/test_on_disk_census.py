"""The census of networks on disk: a difference of one bit shows, and a type that is refused says why."""

import numpy as np
import pytest

pytest.importorskip("transformers")
KINDS = (
    "vit", "bert", "axk2", "gemma4", "flint", "bart", "granitemoe", "funnel", "dinov3_vit", "prophetnet", "musicgen",
)  # fmt: skip


def test_the_largest_difference_is_relative_and_of_every_signal(census):
    import xarray as xr

    expected = xr.Dataset({"state": ("n", [1.0, np.nan, -4.0]), "name": ("n", list("abc"))})
    assert census.largest_difference(expected, expected) == 0
    other = expected.assign(state=("n", [1.0, np.nan, np.nextafter(-4.0, 0.0)]))
    assert census.largest_difference(other, expected) == np.spacing(2.0) / 4.0
    assert census.largest_difference(expected.drop_vars("name"), expected) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_type_on_disk_has_the_bits_of_the_loaded_one(census, kind):
    from stage import tiny_networks

    rows = [census.entry(*case) for case in tiny_networks.cases() if case[1] == kind and case[0] != "composite"]
    outcomes = {row["outcome"] for row in rows} - {"does not run", "not loaded"}
    assert outcomes == {"equal"}
