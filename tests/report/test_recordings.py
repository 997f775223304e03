"""Where the texts of a page come from."""

import numpy as np
import pytest

from ctrlattn import InputError, signals
from ctrlattn.report.recordings import recorded_networks

TEXT = signals.dataset({"attention": np.ones((1, 1, 1, 1))}, attrs={"model": "toy", "norm": "pre", "causal": 1})


def test_texts_go_by_the_name_of_their_network(tmp_path):
    signals.save(tmp_path / "a.npz", [TEXT, TEXT])
    assert [*map(len, recorded_networks(tmp_path / "a.npz", None).values())] == [2]
    assert list(recorded_networks(None, [TEXT])) == ["toy"]
    assert list(recorded_networks(None, [TEXT.assign_attrs(model="other")])) == ["other"]
    assert len(recorded_networks(None, None)) == len(signals.shipped())


@pytest.mark.parametrize(("file", "recorded"), [("a.npz", [TEXT]), (None, [])])
def test_a_contradiction_and_nothing_at_all_are_refused(file, recorded):
    with pytest.raises(InputError, match=r"not both|no text"):
        recorded_networks(file, recorded)
