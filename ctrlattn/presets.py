"""Named loops, each with its source: the prediction-error automaton, reads, residual transformer, PIDformer, relatives.

Relatives that are another attention matrix, not another loop, are mixings: `ctrlattn.nn.modules.relatives`.
"""

from dataclasses import replace
from typing import Any, NamedTuple

from ctrlattn.controllers import PID
from ctrlattn.errors import require_known
from ctrlattn.loop import Loop
from ctrlattn.normalizers import layer_norm, rms_norm, unit_norm
from ctrlattn.predictors import CausalMean, SoftmaxAttention


class Preset(NamedTuple):
    """A named loop with one line of description and where it comes from."""

    loop: Loop
    summary: str
    source: str


def _value_dynamics(*, causal: bool = False, **changes: Any) -> Loop:
    """Return a loop in PIDformer's setting: the state is the value, without residual stream; both ways, as in DeiT."""
    return Loop(SoftmaxAttention(causal=causal), skip=0.0, feedback=1.0, **changes)


_AUTOMATON = Loop(CausalMean(), skip=1.0, feedback=-1.0, order="sequential", hold_first=True)
_ORIGIN = "a claim this project began with: docs/origin.md"
_IMAGES = (0.8, 0.5, 0.05)  # the published gains: DeiT on ImageNet, Segmenter on ADE20K
_TEXT = (0.4, 0.5, 0.1)  # WikiText-103, as remembered by a reader of the paper: low confidence

_PRESETS = {
    "prediction-error": Preset(
        _AUTOMATON,
        "prediction-error automaton: each token minus the mean of the updated tokens before it",
        f'{_ORIGIN}, "Prediction error"',
    ),
    "prediction-error-rms": Preset(
        replace(_AUTOMATON, normalizer=rms_norm),
        "the same, each updated token RMS-normalised",
        f'{_ORIGIN}, "Normalised prediction error"',
    ),
    "residual": Preset(
        Loop(SoftmaxAttention(), skip=1.0, feedback=1.0),
        "residual transformer without norm: x + attention(x), positive feedback",
        "Vaswani et al., arXiv 1706.03762, section 3.1",
    ),
    "comparator": Preset(
        Loop(SoftmaxAttention(), skip=1.0, feedback=-1.0),
        "the residual add as comparator: x - attention(x), negative feedback",
        f'{_ORIGIN}, "Prediction error"',
    ),
    "softmax": Preset(
        _value_dynamics(),
        "value dynamics of softmax attention alone: v <- A v",
        "Nguyen et al., arXiv 2402.15989, section 2",
    ),
    "neutreno": Preset(
        _value_dynamics(controller=PID(0.6)),
        "proportional control towards the first value: v <- A v + 0.6 (v_0 - v)",
        "Nguyen, Nguyen, Baraniuk, NeuTRENO, arXiv 2312.00751; alpha = 0.6 as for DeiT",
    ),
    "pidformer-printed": Preset(
        _value_dynamics(controller=PID(*_IMAGES)),
        "PIDformer's law as printed: exact integral, gains .8/.5/.05, reference v_0",
        "Nguyen et al., arXiv 2402.15989, section 3",
    ),
    "pidformer-ema": Preset(
        _value_dynamics(controller=PID(*_IMAGES, form="ema", ema=0.3), reference_gain=0.1),
        "PIDformer's law as code in circulation computes it: leaky integral read one layer late, reference 0.1 v_0",
        "code that accompanies arXiv 2402.15989; gains .8/.5/.05, beta .1, g .3",
    ),
    "read": Preset(
        Loop(SoftmaxAttention(strict=True, temperature=0.2), normalizer=unit_norm),
        "one read of the transformer made of `read` alone, subtracted; with memories as predictors three make a layer",
        f'{_ORIGIN}, "Reads alone"; a whole layer: ctrlattn.memory.read_layer',
    ),
    "read-plus": Preset(
        Loop(SoftmaxAttention(strict=True, temperature=0.2), feedback=1.0, normalizer=unit_norm),
        "the same, added, as the claim has it",
        f'{_ORIGIN}, "Reads alone"; a whole layer: ctrlattn.memory.read_layer',
    ),
    "contranorm": Preset(
        Loop(SoftmaxAttention(causal=False), skip=1.0, feedback=-0.1, normalizer=layer_norm),
        "ContraNorm: LN(x - s softmax(x x^T / t) x), negative feedback that keeps tokens apart; s = .1, t = sqrt(d)",
        "Guo et al., ContraNorm, arXiv 2303.06562; s and t are this package's",
    ),
    "pid-steering": Preset(
        Loop(SoftmaxAttention(), skip=1.0, feedback=1.0, controller=PID(1.4, 0.1, 0.05)),
        "PID on the residual stream towards a reference: modes 1 + a, stable if gains are neither small nor large",
        "after PID steering, arXiv 2510.04309, which steers along one direction; the gains are this package's",
    ),
    "neutreno-text": Preset(
        _value_dynamics(causal=True, controller=PID(0.4)),
        "NeuTRENO as for language: v <- A v + 0.4 (v_0 - v), causal",
        "Nguyen, Nguyen, Baraniuk, NeuTRENO, arXiv 2312.00751; alpha = 0.4 as for WikiText-103",
    ),
    "pidformer-printed-text": Preset(
        _value_dynamics(causal=True, controller=PID(*_TEXT), reference_gain=0.3),
        "PIDformer's law as printed with the gains for language, .4/.5/.1, causal, reference 0.3 v_0",
        "arXiv 2402.15989, WikiText-103; gains and beta from memory, low confidence",
    ),
    "pidformer-ema-text": Preset(
        _value_dynamics(causal=True, controller=PID(*_TEXT, form="ema", ema=0.3), reference_gain=0.3),
        "PIDformer's law as code computes it with the gains for language, .4/.5/.1, causal, reference 0.3 v_0",
        "code that accompanies arXiv 2402.15989; gains and beta from memory, low confidence",
    ),
}

# The configurations of the papers, each law beside its relative.
PUBLISHED = (
    "neutreno", "pidformer-printed", "pidformer-ema", "neutreno-text", "pidformer-printed-text", "pidformer-ema-text",
)  # fmt: skip


def names() -> list[str]:
    """Return the names that `get` knows.

    >>> "pidformer-printed" in names()
    True
    """
    return list(_PRESETS)


def get(name: str, *, predictor: Any = None) -> Loop:
    """Return the loop of that name, with another predictor where one is given.

    Parameters
    ----------
    name : str
        One of `names()`.
    predictor : callable, optional
        It replaces the preset's own, for instance by FixedAttention of a recorded matrix.

    Raises
    ------
    InputError
        An unknown name; the message suggests the nearest.

    Examples
    --------
    >>> get("neutreno").controller.kp
    0.6
    """
    loop = describe(name).loop
    return loop if predictor is None else replace(loop, predictor=predictor)


def describe(name: str) -> Preset:
    """Return the loop with its summary and source.

    >>> describe("neutreno").loop.skip
    0.0
    """
    return _PRESETS[require_known("preset", name, _PRESETS)]
