"""The drawing of a loop: its lines meet whatever stands in them."""

import numpy as np
import pytest

from ctrlattn import PID, CausalMean, FixedAttention, Loop, presets, rms_norm
from ctrlattn.diagram import DIAGRAM, DiagramLabels, drawn, picture

LOOPS = {name: presets.get(name) for name in presets.names() if isinstance(presets.get(name), Loop)} | {
    "no controller, no norm": Loop(CausalMean()),
    "a wide law": Loop(CausalMean(), controller=PID(0.123456789, 0.123456789, 0.123456789, form="ema", ema=0.25)),
    "a wide predictor": Loop(FixedAttention(np.ones((2, 3, 3))), normalizer=rms_norm, normalize_input=True),
    "vectors": Loop(CausalMean(), skip=np.ones(64), feedback=np.ones(64)),
}


def columns(lines):
    """The columns of the comparator and of the node, line by line."""
    left = lines[0].index("(+)") + 1
    node = lines[2].index("(+)◄──") + 1
    return left, node


@pytest.mark.parametrize("name", LOOPS)
def test_the_lines_meet(name):
    lines = drawn(LOOPS[name]).split("\n")[1:]
    left, node = columns(lines)
    assert lines[0][node] == "┐"
    assert (lines[1][left], lines[1][node]) == ("▲", "▼")
    assert lines[2][left] == "└"
    assert lines[3][node] == "▲"
    assert lines[4][node] == "┘"
    assert lines[3].index("│") == lines[4].index("└")


def test_letters_and_numbers_stand_in_the_same_places():
    letters = picture(DiagramLabels()).split("\n")
    assert "\n".join(letters) in DIAGRAM
    numbers = drawn(Loop(CausalMean(), skip=0.5, feedback=2.0, reference_gain=0.75, controller=PID(0.25))).split("\n")[
        1:
    ]
    assert numbers[0].startswith("    r = 0.75 * x_0 ──►(+)── e ──► PID(kp=0.25) ── u ─")
    assert numbers[2].endswith("(+)◄── 0.5 · x")
    assert numbers[4].endswith("┘ 2.0 · y")


def test_without_a_controller_u_is_0_and_without_a_norm_no_block_stands_there():
    lines = drawn(Loop(CausalMean())).split("\n")
    assert "e ──► 0 ── u" in lines[1]
    assert "z⁻¹ ◄───" in lines[3]
    assert lines[0] == "Loop, parallel order"
