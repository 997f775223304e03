"""Settings of one run of a looped network, and which of them make none, judged before torch is imported."""

from dataclasses import dataclass

from ctrlattn.capacity import require_memory
from ctrlattn.errors import InputError, require_known, require_whole
from ctrlattn.nn.experiment.loop_arms import loop_arm
from ctrlattn.nn.experiment.loop_tasks import task_of
from ctrlattn.nn.experiment.settings import DTYPES, require_positive_setting
from ctrlattn.nn.modules.sizes import MOST_LAYERS

_AGAIN = 1_000_003  # what the A/A arm adds to its seed


@dataclass(frozen=True)
class LoopSettings:
    """Everything that decides one run.

    Parameters
    ----------
    task, arm : str
    seed : int
    steps, batch : int
        Steps of AdamW, and problems in each.
    rate, decay : float
        The learning rate falls linearly to a tenth.
    dim, hidden, layers : as for LoopedNetwork
    size, passes : int
        Size of the problems, and T; 0 takes that of the task.
    examples : int
        Problems that are made for training; batches are taken from them.
    marks : int
        How often weights are kept, the last time at the end.
    penalty : float
        Weight of the mean of max(0, rho - most_radius)^2 in the loss.
    penalty_form : "radius" or "norm"
        rho by two-sided iteration, or |J|_F per element by Hutchinson's estimate.
    penalty_rows, penalty_rounds : int
        Problems and products of the penalty.
    most_radius : float
    hold_every, hold_rows : int
        Steps between two choices of gain and recall, and problems at which the spectrum is measured for them.
    dtype : "float32" or "float64"
        Numbers of weights, problems and states.

    Examples
    --------
    >>> LoopSettings("prefix-sums", "plain", 0).trained_passes
    10
    """

    task: str
    arm: str
    seed: int
    steps: int = 450
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.01
    dim: int = 32
    hidden: int = 64
    layers: int = 1
    size: int = 0
    passes: int = 0
    examples: int = 4096
    marks: int = 3
    penalty: float = 0.3
    penalty_form: str = "radius"
    penalty_rows: int = 8
    penalty_rounds: int = 2
    most_radius: float = 0.9
    hold_every: int = 50
    hold_rows: int = 2
    dtype: str = "float32"

    @property
    def trained_passes(self) -> int:
        """T."""
        return self.passes or task_of(self.task).passes

    @property
    def trained_size(self) -> int:
        """Size of the problems of training."""
        return self.size or task_of(self.task).size

    @property
    def data_seed(self) -> int:
        """The seed of weights and batches: the A/A arm has one of its own."""
        return self.seed + (_AGAIN if loop_arm(self.arm).again else 0)


def require_loop_settings(settings: LoopSettings) -> None:
    """Raise InputError where the settings make no network or no run, or one that does not fit into memory.

    >>> require_loop_settings(LoopSettings("maze", "plain", 0, size=4))
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: the side of a maze is odd and at least 3, got 4
    """
    task = task_of(settings.task)
    loop_arm(settings.arm)
    for name in (
        "steps", "batch", "examples", "marks", "penalty_rows", "penalty_rounds", "hold_every", "hold_rows", "dim",
        "hidden",
    ):  # fmt: skip
        require_whole(name, getattr(settings, name))
    require_whole("layers", settings.layers, most=MOST_LAYERS)
    require_whole("passes", settings.trained_passes, least=2)
    task.require(require_whole("size", settings.trained_size))
    for name in ("rate", "most_radius"):
        require_positive_setting(name, getattr(settings, name))
    for name in ("decay", "penalty"):
        require_positive_setting(name, getattr(settings, name), least=0.0)
    size = DTYPES[require_known("dtype", settings.dtype, DTYPES)]
    if settings.penalty_form not in ("radius", "norm"):
        raise InputError(f'penalty_form must be "radius" or "norm", got {settings.penalty_form!r}')
    places = settings.trained_size**task.axes
    weights = settings.layers * (2 + 2 * task.axes) * settings.dim * settings.hidden
    # Weights, gradients and the two moments of AdamW, and the states of all passes that gradients are taken of.
    states = settings.batch * places * settings.dim * settings.trained_passes
    problems = settings.examples * places * task.features
    sizes = f"{settings.dim} features, batches of {settings.batch} problems of size {settings.trained_size}"
    require_memory(size * (4 * weights + states + problems), sizes)
