"""Gains from a specification, certified for every mode of a measured spectrum; what published gains achieve there."""

from ctrlattn.design.judgement import Judgement, judge, judge_published
from ctrlattn.design.performance import Performance, performance
from ctrlattn.design.quadratic import lqr, lqr_margin
from ctrlattn.design.shaping import Shaped, loop_shaping
from ctrlattn.design.specification import Design, InfeasibleError, Spec, TradeOff
from ctrlattn.design.tuning import tune

__all__ = [
    "Design",
    "InfeasibleError",
    "Judgement",
    "Performance",
    "Shaped",
    "Spec",
    "TradeOff",
    "judge",
    "judge_published",
    "loop_shaping",
    "lqr",
    "lqr_margin",
    "performance",
    "tune",
]
