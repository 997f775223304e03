"""c_{l+1} = a_l c_l + w_l + u_l, u = C(z)(r - c): a feature's direction f as an output c = f·x, led to a set-point.

Layers are time steps. Each layer reads c, and what the law asks for is added to what the layer hands on, x <- x + u f,
on every token but those that a decoder's window begins with. A constant push is the open loop; P, PI and PID close it;
pushes made beforehand from the measured plant (`feedforward`) lead the mean along a path, the loop then has only what
each token has besides. As everywhere in this package a controller acts from the second layer on, its memories beginning
at the first.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import normalize

from ctrlattn.checkpoints import Checkpoint, evaluate, layer_functions
from ctrlattn.checkpoints.network.watch import Hook, first, hooked, stream_of
from ctrlattn.errors import InputError
from ctrlattn.linear.mode_polynomial import overshoot, settling
from ctrlattn.observers.source import window_of
from ctrlattn.tracking import Tracking

PATH_BAND = 0.05  # of the whole way: a path is followed more loosely than a step is reached


@dataclass(frozen=True, eq=False)
class Law:
    """What is done to the output.

    Parameters
    ----------
    controller : PID, LTIController or None
        Closes the loop.
    push : float or (layers,)
        Added whatever the output is, at every layer the same or at each its own: the open loop.

    Examples
    --------
    >>> from ctrlattn import PID
    >>> Law(PID(0.5, 0.1)).push
    0.0
    """

    controller: Any = None
    push: Any = 0.0


class Plant(NamedTuple):
    """What layers do to an output when nobody steers."""

    alpha: np.ndarray  # (layers,): how much of a small push on every token survives a layer
    output: np.ndarray  # (layers + 1,): mean output
    spread: np.ndarray  # (layers + 1,): standard deviation over tokens

    @property
    def disturbance(self) -> np.ndarray:
        """w, (layers,): what each layer adds by itself."""
        return self.output[1:] - self.alpha * self.output[:-1]


class Response(NamedTuple):
    """An output under a law, over depth, and what it costs."""

    output: np.ndarray  # (layers + 1,): mean over tokens, from the first steered layer to the end
    reached: float  # mean at the end
    error: float  # (set-point - reached)/(set-point - unsteered end): the share that is missing
    spread: float  # standard deviation over tokens at the end
    miss: float  # root mean square over tokens of set-point - output at the end, share of the way from the unsteered
    overshoot: float  # most beyond the set-point of a depth, share of the whole way
    settling: float  # layers until the mean stays within 5 % of the way of its set-point; inf: not within the network
    loss: float  # next-token loss above the unsteered, nats a token
    loss_error: float  # standard error over windows
    losses: np.ndarray  # (windows,): that loss of each, to compare laws window by window


@contextmanager
def steered(
    checkpoint: Checkpoint, direction: Any, law: Law, setpoint: Any, *, start: int = 0
) -> Iterator[dict[int, list[torch.Tensor]]]:
    """The network under a law, for the time of the block.

    Parameters
    ----------
    checkpoint : Checkpoint
    direction : (d,)
        f; its length does not count.
    law : Law
    setpoint : float or (layers - start + 1,)
        r, in units of the stream; one for every depth, such as one that grows with the stream.
    start : int
        First layer of the loop.

    Yields
    ------
    dict
        Depth -> outputs of the kept tokens, (windows, tokens) for every pass that the network has made.

    Raises
    ------
    InputError
        A direction of another width, zero or not finite; a layer that is not there; a set-point or a push of another
        length.

    References
    ----------
    Nguyen et al., Activation Steering with a Feedback Controller, arXiv 2510.04309: steering by a constant direction is
    proportional control and leaves a steady-state error; integral and derivative over layers. There the error is a
    difference of class means, here the output is measured on the very text.
    """
    f = _unit(checkpoint, direction)
    tracking = Tracking(law.controller)
    begin, layers = checkpoint.layer_index(start), checkpoint.layers
    wanted = _by_depth(setpoint, len(layers) - begin + 1, "a set-point")
    push = _by_depth(law.push, len(layers) - begin, "a push")
    window = window_of(checkpoint)
    held: dict[str, Any] = {}
    outputs: dict[int, list[torch.Tensor]] = {depth: [] for depth in range(begin, len(layers) + 1)}

    def before(depth: int) -> Any:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = stream_of(args, kwargs)
            c = (x[:, window.kept(x.shape[1])] @ f)[..., None]
            r = torch.full_like(c, wanted[depth - begin])
            state = tracking.init(c, r) if depth == begin else held["state"]._replace(reference=r)
            outputs[depth].append(c[..., 0])
            _, u, held["state"] = tracking.step(c, state)
            held["u"] = u + push[depth - begin]

        return hook

    def after(depth: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
            x = first(output)
            tokens = window.kept(x.shape[1])
            new = torch.cat([x[:, : tokens.start], x[:, tokens] + held["u"] * f, x[:, tokens.stop :]], 1)
            if depth == len(layers) - 1:
                outputs[depth + 1].append(new[:, tokens] @ f)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    places: list[Hook] = []
    for depth in range(begin, len(layers)):
        places += [(layers[depth], before(depth), True), (layers[depth], after(depth), False)]
    with torch.no_grad(), hooked(places):
        yield outputs


def _by_depth(given: Any, depths: int, name: str) -> np.ndarray:
    """One number for each depth."""
    values = np.asarray(given, dtype=float)
    if values.shape not in ((), (depths,)) or not np.all(np.isfinite(values)):
        raise InputError(f"{name} is one finite number, or one for each of {depths} depths; got {values.shape}")
    return np.broadcast_to(values, (depths,))


def _unit(checkpoint: Checkpoint, direction: Any) -> torch.Tensor:
    parameter = next(checkpoint.model.parameters())
    f = torch.as_tensor(np.asarray(direction), dtype=parameter.dtype, device=parameter.device)
    if f.shape != (checkpoint.width,) or not torch.isfinite(f).all() or not f.any():
        raise InputError(f"a direction is ({checkpoint.width},), finite and not zero; got {tuple(f.shape)}")
    return normalize(f, dim=0)


def identify(checkpoint: Checkpoint, direction: Any, ids: Any, *, start: int = 0, share: float = 0.05) -> Plant:
    """The plant: every layer is pushed along f, all kept tokens at once, and its output compared with that unpushed.

    Parameters
    ----------
    checkpoint : Checkpoint
    direction : (d,)
    ids : (windows, n)
    start : int
    share : float
        Size of the push, of the root mean square length of the stream.

    Raises
    ------
    InputError
        As for `steered`.

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
            survived, seen = [], []
            for layer, h in layer_functions(checkpoint, window_ids, layers=tuple(range(index, len(checkpoint.layers)))):
                size = share * float(h[tokens].square().sum(-1).mean().sqrt())
                pushed = h.clone()
                pushed[tokens] += size * f
                after = layer(h)
                survived.append(float(((layer(pushed) - after)[tokens] @ f).mean()) / size)
                seen.append((h[tokens] @ f).numpy())
            alphas.append(survived)
            outputs.append([*seen, (after[tokens] @ f).numpy()])
    c = np.stack(outputs).astype(float)  # (windows, depths, tokens)
    return Plant(np.mean(alphas, axis=0), c.mean((0, 2)), c.std((0, 2)))


def respond(
    checkpoint: Checkpoint, direction: Any, laws: Mapping[str, Law], setpoint: Any, ids: Any, *, start: int = 0
) -> dict[str, Response]:
    """An output under several laws on some windows: how near, how fast, at what cost.

    Parameters
    ----------
    checkpoint : Checkpoint
        A causal network with its head.
    direction, setpoint, start : as for `steered`
    laws : name -> Law
    ids : (windows, n)
        Text on which nothing was chosen.

    Raises
    ------
    InputError
        As for `steered` and `checkpoints.evaluate`.
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
    """(loss of each window, outputs of the tokens by depth)."""
    with steered(checkpoint, direction, law, setpoint, start=start) as outputs:
        losses = evaluate(checkpoint, ids).window_losses
    return losses, [torch.cat(outputs[depth]).double().cpu().numpy() for depth in sorted(outputs)]


def _response(output: list[np.ndarray], lost: np.ndarray, wanted: np.ndarray, unsteered: float) -> Response:
    mean = np.array([c.mean() for c in output])
    way, raised = wanted[-1] - mean[0], wanted[-1] - unsteered
    led = mean - wanted + way  # what a step response would be: from 0 to the whole way
    return Response(
        output=mean,
        reached=float(mean[-1]),
        error=float((wanted[-1] - mean[-1]) / raised),
        spread=float(output[-1].std()),
        miss=float(np.sqrt(np.mean((wanted[-1] - output[-1]) ** 2)) / abs(raised)),
        overshoot=float(overshoot(led, way, start=0.0)),
        settling=float(settling(led, way, start=0.0, band=PATH_BAND)),
        loss=float(lost.mean()),
        loss_error=float(lost.std(ddof=1) / np.sqrt(len(lost))) if len(lost) > 1 else float("nan"),
        losses=lost,
    )


def feedforward(plant: Plant, setpoint: Any) -> np.ndarray:
    """u_l = r_{l+1} - a_l r_l - w_l, (layers,): the pushes that lead the mean along r where the plant is what it was.

    r_0 does not matter: the output begins where it is. What no pushes made beforehand can know is how a token differs
    from the mean, how another text does, and what the layers make of the steered stream; that is left to the loop.

    Parameters
    ----------
    plant : Plant
    setpoint : float or (layers + 1,)

    Raises
    ------
    InputError
        A set-point of another length.

    Examples
    --------
    >>> plant = Plant(np.array([0.5, 1.0]), np.array([2.0, 2.0, 3.0]), np.ones(3))
    >>> feedforward(plant, [0.0, 4.0, 8.0])  # 0.5 * 2 + 1 + 2 = 4, 4 + 1 + 3 = 8
    array([2., 3.])
    """
    wanted = _by_depth(setpoint, len(plant.output), "a set-point")
    led = np.concatenate([plant.output[:1], wanted[1:]])
    return led[1:] - plant.alpha * led[:-1] - plant.disturbance


def calibrate(
    checkpoint: Checkpoint, direction: Any, setpoint: float, ids: Any, *, start: int = 0, shape: Any = 1.0
) -> Law:
    """The push, a number times `shape`, that brings the mean to the set-point on these windows: three secant steps.

    `shape` is a number or one for each layer: 1 pushes everywhere, (1, 0, 0, ...) at the first layer alone.
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
