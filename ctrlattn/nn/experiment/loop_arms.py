"""arm -> (norm, injection, random passes, penalty, held gains): the arms of the trained comparison of loops."""

from dataclasses import dataclass

from ctrlattn.errors import require_known
from ctrlattn.nn.modules.sizes import Injection, NormPlace


@dataclass(frozen=True)
class LoopArm:
    """What one arm changes. All arms of a seed start from the same weights and see the same batches.

    Parameters
    ----------
    summary : str
    norm, injection : as for LoopedNetwork
    random : bool
        Whether the number of passes of a step is uniform from T/2 to 3T/2, or T always.
    penalty : bool
        Whether the spectral radius of a pass above the settings' `most_radius` is part of the loss.
    held : bool
        Whether gain and recall are set during training, so that the measured spectrum of J stays stable under them.
    again : bool
        Whether it has other initial weights and batches: the A/A arm.
    """

    summary: str
    norm: NormPlace = "inner"
    injection: Injection = "none"
    random: bool = False
    penalty: bool = False
    held: bool = False
    again: bool = False


LOOP_ARMS = {
    "plain": LoopArm("h' = F(h), inner norm, always T passes"),
    "plain-again": LoopArm("plain with other initial weights and batches", again=True),
    "outer": LoopArm("outer norm in the place of the inner", norm="outer"),
    "random": LoopArm("plain with random numbers of passes", random=True),
    "penalty": LoopArm("random with a penalty on the spectral radius of J", random=True, penalty=True),
    "recall": LoopArm("the input is added in each pass", injection="add"),
    "recall-outer": LoopArm("recall with outer norm", norm="outer", injection="add"),
    "recall-outer-random": LoopArm("recall, outer norm, random passes", norm="outer", injection="add", random=True),
    "parcae": LoopArm("A h + B e with 0 < A < 1, both learned", injection="parcae"),
    "held": LoopArm("plain with gain and recall held inside the stability region", held=True),
}


# Arms of a comparison unless others are named. The one that is left out changes three things at once.
DEFAULT = tuple(name for name in LOOP_ARMS if name != "recall-outer-random")


def loop_arm(name: str) -> LoopArm:
    """Return the arm of that name.

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> loop_arm("recall-outer").norm
    'outer'
    """
    return LOOP_ARMS[require_known("arm", name, LOOP_ARMS)]
