"""The tables of a cell, and what it makes of them."""

import numpy as np
import pytest

from ctrlattn import InputError, signals
from ctrlattn.stability import attention_spectrum
from ctrlattn.sweep.cell import Cell, recorded_modes, require_tables, tables_of


def test_a_value_replaces_a_part_of_a_preset_and_leaves_the_rest():
    cell = Cell(tables_of({"loop": {"preset": "pidformer-ema"}}, {"loop.controller.kp": 0.1, "loop.skip": 0.5}))
    law = cell.loop.controller
    assert (law.kp, law.ki, law.kd, law.form, law.ema, cell.loop.skip) == (0.1, 0.5, 0.05, "ema", 0.3, 0.5)


def test_a_preset_that_varies_is_written_out_before_its_parts():
    values = {"loop.controller.kp": 0.2, "loop.preset": "pidformer-ema"}
    cell = Cell(tables_of({"loop": {"preset": "neutreno"}}, values))
    assert (cell.loop.controller.form, cell.loop.controller.kp, cell.loop.reference_gain) == ("ema", 0.2, 0.1)


def test_a_bare_name_becomes_a_table():
    tables = tables_of({"loop": {"predictor": "causal_mean", "normalizer": "rms_norm"}}, {"loop.normalizer.eps": 0.1})
    assert tables["loop"]["normalizer"] == {"kind": "rms_norm", "eps": 0.1}
    assert Cell(tables).loop.normalizer(np.zeros((1, 2))).tolist() == [[0, 0]]


def test_tables_are_not_shared_between_cells():
    tables = {"loop": {"preset": "neutreno"}}
    a, b = (tables_of(tables, {"loop.controller.kp": kp}) for kp in (0.1, 0.2))
    assert (Cell(a).loop.controller.kp, Cell(b).loop.controller.kp) == (0.1, 0.2)
    assert tables == {"loop": {"preset": "neutreno"}}


def test_a_path_through_nothing_is_refused():
    with pytest.raises(InputError, match="'none', which has no kp"):
        tables_of({"loop": {"preset": "softmax"}}, {"loop.controller.kp": 1.0})


def test_recorded_modes_are_the_spectra_of_the_chosen_matrices():
    texts = signals.load_shipped("minilm-l6")
    expected = np.concatenate([attention_spectrum(t["attention"].to_numpy()[2, 5]) for t in texts])
    np.testing.assert_array_equal(recorded_modes("minilm-l6", 2, 5), expected)
    assert len(recorded_modes("minilm-l6", None, 5)) == 6 * len(expected)


def test_a_recording_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "own.npz"
    signals.save(path, signals.load_shipped("minilm-l6")[:1])
    first = signals.load(path)[0]["attention"].to_numpy()[0, 0]
    np.testing.assert_array_equal(recorded_modes(str(path), 0, 0), attention_spectrum(first))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("minilm", None, None), "did you mean 'minilm-l6'"),
        (("minilm-l6", 6, None), "layer"),
        (("minilm-l6", 0, 12), "head"),
    ],
)
def test_a_recording_that_is_not_there_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        recorded_modes(*arguments)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"recording": {"layr": 1}}, "recording.layr: unknown key: did you mean 'layer'"),
        ({"recording": {"layer": -1}}, "recording.layer"),
        ({"checkpoint": {"source": 3}}, "checkpoint.source: must be a text"),
        ({"span": {"passes": 0}}, "span.passes"),
        ({"span": {"gain": "a"}}, "span.gain: must be a number"),
    ],
)
def test_tables_that_are_none_are_refused(tables, words):
    with pytest.raises(InputError, match=words):
        require_tables(tables)


def test_what_an_analysis_needs_is_named():
    for make, words in (
        (lambda: Cell({}).loop, r"\[loop\]"), (lambda: Cell({}).modes, r"\[recording\]"),
        (lambda: Cell({"checkpoint": {"source": "x"}}).loss(), "checkpoint.text"),
        (lambda: Cell({"span": {}}).repetition(), "span.first"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            make()
