"""h_K -> loss, from the streams of one pass: spans of a network as controlled loops, without running what lies before.

This module measures for the scene of the search over spans. The network runs once over its windows; a span then starts
from the stream that entered it, and only the layers behind it are run again.
"""

import copy
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from ctrlattn import PID
from ctrlattn.checkpoints.network.watch import first, watch_calls
from ctrlattn.passes import Passes

ROWS = 64  # whose logits are made at a time: all of them at once are fetched from memory again and again
RUNAWAY = 99.0  # nats: the loss of a stream that is not finite


class Law(NamedTuple):
    """Layers a ... b - 1, run K times by a PID controller with a recall."""

    a: int
    b: int
    passes: int
    kp: float
    ki: float = 0.0
    kd: float = 0.0
    recall: float = 0.0

    @property
    def way(self):
        """u_0 + ... + u_{K-1} for an error that stays 1: the factor by which the span's update is scaled.

        >>> Law(0, 1, 2, 0.5, ki=0.1).way
        1.3
        """
        return self.passes * self.kp + self.ki * self.passes * (self.passes + 1) / 2

    @property
    def options(self):
        """Arguments of `checkpoints.repeat`."""
        controller = PID(self.kp, self.ki, self.kd)
        return {
            "layers": (self.a, self.b), "passes": self.passes, "controller": controller, "recall": self.recall
        }  # fmt: skip

    @property
    def once(self):
        """The same span in one pass whose update is scaled by the same way."""
        return Law(self.a, self.b, 1, self.way)

    def at(self, a):
        """The same law for as many layers from layer a on."""
        return self._replace(a=a, b=a + self.b - self.a)


def spans_of(lengths, count):
    """All (a, b) of these lengths in a network of `count` layers.

    >>> spans_of([1, 2], 3)
    [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)]
    """
    return [(a, a + n) for a in range(count) for n in sorted(lengths) if a + n <= count]


def halved(checkpoint):
    """The network with linear maps in bfloat16 and everything between them in float32: 1.7 times as fast."""
    model = copy.deepcopy(checkpoint.model)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.to(torch.bfloat16)
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(),))
            module.register_forward_hook(lambda _module, _inputs, output: output.float())
    return replace(checkpoint, model=model)


class Streams:
    """What enters each layer of a network for windows of one length, and the losses of laws from there on."""

    def __init__(self, checkpoint, windows):
        self.model, self.layers = checkpoint.model, checkpoint.layers
        self.ids = torch.as_tensor(np.asarray(windows))
        with watch_calls(self.layers, range(len(self.layers))) as calls, torch.inference_mode():
            self.model(input_ids=self.ids, use_cache=False)
        self.names = [next(iter(calls[i])) for i in range(len(self.layers))]
        self.inputs = [calls[i].pop(name) for i, name in enumerate(self.names)]
        self.others = [calls[i] for i in range(len(self.layers))]

    def run(self, h, a, b):
        """The layers a ... b - 1 on the stream h."""
        for i in range(a, b):
            h = first(self.layers[i](**{self.names[i]: h}, **self.others[i]))
        return h

    def readout(self, h, b):
        """Loss of each window, (windows,), where h enters layer b."""
        if not torch.isfinite(h).all():
            return np.full(len(self.ids), RUNAWAY)
        normed = self.model.base_model.norm(self.run(h, b, len(self.layers)))[:, :-1].flatten(0, 1)
        parts = zip(normed.split(ROWS), self.ids[:, 1:].flatten().split(ROWS), strict=True)
        head = self.model.get_output_embeddings()
        each = torch.cat([cross_entropy(head(rows).float(), ids, reduction="none") for rows, ids in parts])
        losses = each.view(len(self.ids), -1).mean(1).double().numpy()
        return np.minimum(np.nan_to_num(losses, nan=RUNAWAY), RUNAWAY)

    def source(self):
        """Losses of the network itself."""
        with torch.inference_mode():
            return self.readout(self.inputs[-1], len(self.layers) - 1)

    def losses(self, laws):
        """{law: (windows,)} of laws for one span: the first pass is run once for all of them."""
        ((a, b),) = {(law.a, law.b) for law in laws}
        start, losses = self.inputs[a], {}
        with torch.inference_mode():
            update = self.inputs[b] if b < len(self.inputs) else self.run(start, a, b)
            for _, alike in groupby(sorted(laws), key=lambda law: law._replace(passes=0)):
                law_at = {law.passes: law for law in alike}
                loop = Passes(PID(*next(iter(law_at.values()))[3:6]), recall=next(iter(law_at.values())).recall)
                h, state = start, loop.init(start)
                for k in range(1, max(law_at) + 1):
                    h, _, _, state = loop.step(h, update if k == 1 else self.run(h, a, b), state)
                    if k in law_at:
                        losses[law_at[k]] = self.readout(h, b)
        return losses
