"""c_{l+1} = a_l c_l + w_l + u_l, u = C(z)(r - c): steering of a real network along a direction f to a set-point r.

Layers are time steps, and the output is c = f·x. Each layer reads c and adds u f to the stream that it hands on,
x <- x + u f, on every token but the first ones of a decoder's window. A constant push is the open loop; P, PI and PID
close it. Pushes that `feedforward` computes from the measured plant lead the mean along a path, and the loop then
corrects only the deviation of each token. As everywhere in this package, a controller acts from the second layer on,
and its memory starts at the first.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from ctrlattn.checkpoints import Checkpoint, evaluate, layer_functions
from ctrlattn.checkpoints.measure.evaluate import standard_error
from ctrlattn.checkpoints.network.watch import Hook, first, hooked, stream_of
from ctrlattn.errors import InputError
from ctrlattn.linear.mode_polynomial import overshoot, settling
from ctrlattn.observers.examples import window_of
from ctrlattn.tracking import Tracking

PATH_BAND = 0.05  # band for settling on a path, as a share of the whole way; it is wider than that of a step


@dataclass(frozen=True, eq=False)
class Law:
    """A steering law: a controller on the error, and a push that does not depend on the output.

    Parameters
    ----------
    controller : PID, LTIController or None
        Controller that closes the loop; None leaves it open.
    push : float or (layers,)
        Open-loop input, one number for all layers or one per layer.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> Law(PID(0.5, 0.1)).push
    0.0
    """

    controller: Any = None
    push: Any = 0.0


class Plant(NamedTuple):
    """The measured plant: how the layers transform an output without steering."""

    alpha: np.ndarray  # (layers,): gain of a layer from a small push on every token to the output behind it
    output: np.ndarray  # (layers + 1,): mean output
    spread: np.ndarray  # (layers + 1,): standard deviation over tokens

    @property
    def disturbance(self) -> np.ndarray:
        """w, (layers,): the change of the mean output by each layer itself, c_{l+1} - a_l c_l."""
        return self.output[1:] - self.alpha * self.output[:-1]


class Response(NamedTuple):
    """An output under a steering law over depth, and the loss that this costs."""

    output: np.ndarray  # (layers + 1,): mean over tokens, from the first steered layer to the end
    reached: float  # mean at the end
    error: float  # (set-point - reached)/(set-point - unsteered end), the share that is missing
    spread: float  # standard deviation over tokens at the end
    miss: float  # RMS over tokens of (set-point - output) at the end, relative to the way from the unsteered end
    overshoot: float  # largest excess over the set-point at any depth, relative to the whole way
    settling: float  # layers until the mean stays within 5 % of the way around its set-point; inf if it never does
    loss: float  # increase of the next-token loss over the unsteered network, nats per token
    loss_error: float  # standard error of that increase over windows
    losses: np.ndarray  # (windows,): increase in each window, to compare laws window by window


@contextmanager
def steered(
    checkpoint: Checkpoint, direction: Any, law: Law, setpoint: Any, *, start: int = 0
) -> Iterator[dict[int, list[torch.Tensor]]]:
    """Steer the network by a law within the `with` block.

    Parameters
    ----------
    checkpoint : Checkpoint
    direction : (d,)
        f; it is normalised to length 1.
    law : Law
    setpoint : float or (layers - start + 1,)
        r in units of the stream, one number or one per depth, such as a set-point that grows with the stream.
    start : int
        First layer of the loop.

    Yields
    ------
    dict
        Depth -> list of the outputs of the kept tokens, (windows, tokens) for each pass of the network.

    Raises
    ------
    InputError
        The direction has another width, is zero or not finite; the layer does not exist; or the set-point or the push
        has another length.

    References
    ----------
    Nguyen et al., Activation Steering with a Feedback Controller, arXiv 2510.04309. Steering by a constant direction is
    proportional control and leaves a steady-state error, which integral and derivative terms over layers reduce. In the
    paper the error is a difference of class means; here the output is measured on the text itself.
    """
    f = _unit(checkpoint, direction)
    tracking = Tracking(law.controller)
    begin, layers = checkpoint.layer_index(start), checkpoint.layers
    target = _by_depth(setpoint, len(layers) - begin + 1, "a set-point")
    push = _by_depth(law.push, len(layers) - begin, "a push")
    window = window_of(checkpoint)
    memory: dict[str, Any] = {}
    outputs: dict[int, list[torch.Tensor]] = {depth: [] for depth in range(begin, len(layers) + 1)}

    def before(depth: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = stream_of(args, kwargs)
            c = _component(x[:, window.kept(x.shape[1])], f)[..., None]
            r = torch.full_like(c, target[depth - begin])
            state = tracking.init(c, r) if depth == begin else memory["state"]._replace(reference=r)
            outputs[depth].append(c[..., 0])
            _, u, memory["state"] = tracking.step(c, state)
            memory["u"] = u + push[depth - begin]

        return hook

    def after(depth: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            x = first(output)
            tokens = window.kept(x.shape[1])
            new = torch.cat([x[:, : tokens.start], (x[:, tokens] + memory["u"] * f).to(x), x[:, tokens.stop :]], 1)
            if depth == len(layers) - 1:
                outputs[depth + 1].append(_component(new[:, tokens], f))
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    places: list[Hook] = []
    for depth in range(begin, len(layers)):
        places += [(layers[depth], before(depth), True), (layers[depth], after(depth), False)]
    with torch.no_grad(), hooked(places):
        yield outputs


def _component(x: torch.Tensor, f: torch.Tensor) -> torch.Tensor:
    """Return <x, f> of each token; f is in float32 at least, as are the error, the memory of the law, and its input.

    In bfloat16 an output had three digits, and an integral over layers lost what was smaller than its last one.
    """
    return x.to(f) @ f


def _by_depth(numbers: Any, depths: int, name: str) -> np.ndarray:
    """Return the given number or numbers as one number per depth."""
    values = np.asarray(numbers, dtype=float)
    if values.shape not in ((), (depths,)) or not np.all(np.isfinite(values)):
        raise InputError(f"{name} is one finite number, or one for each of {depths} depths; got {values.shape}")
    return np.broadcast_to(values, (depths,))


def _unit(checkpoint: Checkpoint, direction: Any) -> torch.Tensor:
    parameter = next(checkpoint.model.parameters())
    numbers = direction.detach() if isinstance(direction, torch.Tensor) else np.asarray(direction)
    wide = torch.promote_types(parameter.dtype, torch.float32)
    f = torch.as_tensor(numbers, dtype=wide, device=parameter.device)
    if f.shape != (checkpoint.width,) or not torch.isfinite(f).all() or not f.any():
        raise InputError(f"a direction is ({checkpoint.width},), finite and not zero; got {tuple(f.shape)}")
    return normalize(f, dim=0)


def identify(checkpoint: Checkpoint, direction: Any, ids: Any, *, start: int = 0, share: float = 0.05) -> Plant:
    """Measure the plant: push the input of every layer along f on all kept tokens, and compare the outputs.

    Parameters
    ----------
    checkpoint : Checkpoint
    direction : (d,)
    ids : (windows, n)
    start : int
    share : float
        Size of the push, relative to the root mean square length of the stream.

    Raises
    ------
    InputError
        `steered` refuses the direction or the layer.

    Examples
    --------
    >>> import transformers
    >>> from ctrlattn import checkpoints
    >>> identify(checkpoints.load(transformers.GPT2Model(transformers.GPT2Config(n_layer=1, n_embd=8, n_head=2))),
    ...          [1.0], [[1, 2]])
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: a direction is (8,), finite and not zero; got (1,)
    """
    f = _unit(checkpoint, direction)
    window, index = window_of(checkpoint), checkpoint.layer_index(start)
    tokens = window.kept(np.shape(ids)[1])
    alphas, outputs = [], []
    with torch.no_grad():
        for window_ids in ids:
            survived, components = [], []
            for layer, h in layer_functions(checkpoint, window_ids, layers=tuple(range(index, len(checkpoint.layers)))):
                size = share * float(h[tokens].to(f).square().sum(-1).mean().sqrt())
                pushed = h.clone()
                pushed[tokens] = (h[tokens] + size * f).to(h)
                after = layer(h)
                change = layer(pushed).to(f) - after.to(f)
                survived.append(float(_component(change[tokens], f).mean()) / size)
                components.append(_component(h[tokens], f).cpu().numpy())
            alphas.append(survived)
            outputs.append([*components, _component(after[tokens], f).cpu().numpy()])
    c = np.stack(outputs).astype(float)  # (windows, depths, tokens)
    return Plant(np.mean(alphas, axis=0), c.mean((0, 2)), c.std((0, 2)))


def respond(
    checkpoint: Checkpoint, direction: Any, laws: Mapping[str, Law], setpoint: Any, ids: Any, *, start: int = 0
) -> dict[str, Response]:
    """Return the responses of an output to several steering laws on some windows: error, settling, and cost in loss.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    direction, setpoint, start : as for `steered`
    laws : name -> Law
    ids : (windows, n)
        Text that was not used to choose the laws.

    Raises
    ------
    InputError
        `steered` or `checkpoints.evaluate` refuses its arguments.
    """
    clean, output = _run(checkpoint, direction, Law(), setpoint, ids, start)
    unsteered = float(output[-1].mean())
    responses = {}
    for name, law in laws.items():
        losses, output = _run(checkpoint, direction, law, setpoint, ids, start)
        responses[name] = _response(output, losses - clean, _by_depth(setpoint, len(output), "a set-point"), unsteered)
    return responses


def _run(
    checkpoint: Checkpoint, direction: Any, law: Law, setpoint: Any, ids: Any, start: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return (loss of each window, outputs of the tokens by depth) of one pass under a law."""
    with steered(checkpoint, direction, law, setpoint, start=start) as outputs:
        losses = evaluate(checkpoint, ids).window_losses
    return losses, [torch.cat(outputs[depth]).double().cpu().numpy() for depth in sorted(outputs)]


def _response(output: list[np.ndarray], cost: np.ndarray, target: np.ndarray, unsteered: float) -> Response:
    mean = np.array([c.mean() for c in output])
    way, raised = target[-1] - mean[0], target[-1] - unsteered
    led = mean - target + way  # the deviation from the path as a step response from 0 to the whole way
    return Response(
        output=mean,
        reached=float(mean[-1]),
        error=float((target[-1] - mean[-1]) / raised),
        spread=float(output[-1].std()),
        miss=float(np.sqrt(np.mean((target[-1] - output[-1]) ** 2)) / abs(raised)),
        overshoot=float(overshoot(led, way, start=0.0)),
        settling=float(settling(led, way, start=0.0, band=PATH_BAND)),
        loss=float(cost.mean()),
        loss_error=standard_error(cost),
        losses=cost,
    )


def feedforward(plant: Plant, setpoint: Any) -> np.ndarray:
    """Return u_l = r_{l+1} - a_l r_l - w_l, (layers,), which leads the mean along r if the plant stays as measured.

    r_0 is not used, since the first output is that of the plant. Pushes that are computed beforehand cannot correct
    how a token differs from the mean, how another text differs, and how the layers respond to the steered stream. The
    loop has to.

    Parameters
    ----------
    plant : Plant
    setpoint : float or (layers + 1,)

    Raises
    ------
    InputError
        The set-point has another length.

    Examples
    --------
    >>> plant = Plant(np.array([0.5, 1.0]), np.array([2.0, 2.0, 3.0]), np.ones(3))
    >>> feedforward(plant, [0.0, 4.0, 8.0])  # 0.5 * 2 + 1 + 2 = 4, 4 + 1 + 3 = 8
    array([2., 3.])
    """
    target = _by_depth(setpoint, len(plant.output), "a set-point")
    led = np.concatenate([plant.output[:1], target[1:]])
    return led[1:] - plant.alpha * led[:-1] - plant.disturbance


def calibrate(
    checkpoint: Checkpoint, direction: Any, setpoint: float, ids: Any, *, start: int = 0, shape: Any = 1.0
) -> Law:
    """Find the open-loop push, a number times `shape`, that brings the mean to the set-point, by three secant steps.

    `shape` is one number or one per layer: 1 pushes at every layer, (1, 0, 0, ...) at the first layer alone.
    """
    unit = _by_depth(shape, len(checkpoint.layers) - checkpoint.layer_index(start), "a shape")

    def end(size: float) -> float:
        return float(_run(checkpoint, direction, Law(push=size * unit), setpoint, ids, start)[1][-1].mean())

    before, value = 0.0, end(0.0)
    size = (setpoint - value) / float(unit.sum())
    for _ in range(3):
        reached = end(size)
        if reached == value:
            break
        before, size, value = size, size + (setpoint - reached) * (size - before) / (reached - value), reached
    return Law(push=size * unit)
