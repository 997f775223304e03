"""Material of the page of `ctrlattn report`: loops, recorded networks, and the loops driven by recorded attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ctrlattn import presets
from ctrlattn.arrays import is_vector
from ctrlattn.errors import InputError
from ctrlattn.linear import mode
from ctrlattn.loop import Loop, simulate
from ctrlattn.normalizers import rms_norm
from ctrlattn.predictors import FixedAttention
from ctrlattn.stability import attention_spectrum

_DIGITS = 150  # half the decimal exponents of float64, so that sums of squares do not overflow
RECORDED = "the recorded embeddings"
SEED = 0  # of the embeddings that stand for those that were not recorded
DEFAULT_PRESETS = ("softmax", "neutreno", "pidformer-printed", "pidformer-ema")


@dataclass(frozen=True, eq=False)
class Material:
    """Loops by name, and recorded texts by the name of their network; the first network is the main one."""

    loops: Mapping[str, Loop]
    networks: Mapping[str, Sequence[Any]]

    @property
    def network(self) -> str:
        """Name of the main network."""
        return next(iter(self.networks))

    @property
    def texts(self) -> Sequence[Any]:
        """Recorded texts of the main network, one Dataset each."""
        return self.networks[self.network]

    @property
    def layers(self) -> int:
        """Number of layers of the main network."""
        return int(self.texts[0].sizes["layer"])

    @cached_property
    def linear(self) -> dict[str, Loop]:
        """The loops to which linear time-invariant analysis applies."""
        return {name: loop for name, loop in self.loops.items() if why_not_linear(loop) is None}

    @cached_property
    def controlled(self) -> dict[str, Loop]:
        """The linear loops that have a controller."""
        return {name: loop for name, loop in self.linear.items() if loop.controller is not None}

    @cached_property
    def spectra(self) -> dict[str, np.ndarray]:
        """Eigenvalues of all recorded attention matrices of each network, (modes,)."""
        return {
            name: np.concatenate([attention_spectrum(text["attention"].to_numpy()).ravel() for text in texts])
            for name, texts in self.networks.items()
        }

    @cached_property
    def average_mode(self) -> float:
        """Mean eigenvalue of the main network's attention, which is real since complex ones come in pairs."""
        return float(self.spectra[self.network].mean().real)

    @cached_property
    def drivable(self) -> dict[str, Loop]:
        """The loops that the main network's attention can drive; sequential ones need causal matrices."""
        causal = all(is_causal(text) for text in self.texts)
        return {name: loop for name, loop in self.loops.items() if causal or loop.order == "parallel"}

    @cached_property
    def trajectories(self) -> dict[str, list[np.ndarray]]:
        """States (depth, token, feature) of each drivable loop on each text; layer l attends as recorded there."""
        return {
            name: [simulate(self.driven(loop, text), start(text), self.layers).state for text in self.texts]
            for name, loop in self.drivable.items()
        }

    @property
    def start_words(self) -> str:
        """Where the simulated loops start, as a part of a sentence."""
        without = sum("state" not in text for text in self.texts)
        if without == 0:
            return RECORDED
        which = "" if without == len(self.texts) else "recorded or, where there is no recording, "
        return (
            f"embeddings {which}of Gaussian noise (seed {SEED}; {without} of {len(self.texts)} texts hold attention "
            "alone, without states)"
        )

    def driven(self, loop: Loop, text: Any) -> list[Loop]:
        """Return the loop as a time-varying network: layer l attends as recorded in layer l."""
        matrices = text["attention"].to_numpy().astype(np.float64)
        return [replace(loop, predictor=FixedAttention(matrix)) for matrix in matrices]


def start(text: Any) -> np.ndarray:
    """Return the state at layer 0: the recorded embeddings with each token at RMS 1, or a Gaussian without them."""
    if "state" in text:
        return rms_norm(text["state"].to_numpy()[0].astype(np.float64))
    heads, tokens = text.sizes["head"], text.sizes["query"]
    return np.random.default_rng(SEED).standard_normal((tokens, 16 * heads))


def is_causal(text: Any) -> bool:
    """Tell whether no recorded attention matrix reads a later token."""
    return bool(np.all(np.triu(text["attention"].to_numpy(), 1) == 0))


def named_loops(names: Sequence[str] | None, configured: Mapping[str, Loop]) -> dict[str, Loop]:
    """Return presets and configured loops by name; by default softmax, NeuTRENO and both PIDformer laws."""
    preset_names = list(names or ()) or ([] if configured else list(DEFAULT_PRESETS))
    loops = {name: presets.get(name) for name in preset_names}
    clash = loops.keys() & configured.keys()
    if clash:
        raise InputError(f"a configuration has the name of a preset: {', '.join(sorted(clash))}; rename the file")
    return {**loops, **configured}


def require_in_range(material: Material) -> None:
    """Raise InputError if a linear loop overflows: by |A|^layers, where A is the state matrix of the mode a = 1.

    Raises
    ------
    InputError
        The gains of a loop are too large.
    """
    for name, loop in material.linear.items():
        largest = float(np.abs(mode(loop, 1.0).A).max())
        if not material.layers * np.log10(max(largest, 1.0)) < _DIGITS:
            raise InputError(
                f"{name}: a gain of {largest:.3g} leaves the range of floats within {material.layers} layers; give "
                "gains nearer to one"
            )


def why_not_linear(loop: Loop) -> str | None:
    """Say why linear time-invariant analysis does not apply to the loop, or return None where it does."""
    if loop.normalizer is not None:
        return "it is normalised"
    if loop.order == "sequential":
        return "it updates the tokens one after another"
    if loop.hold_first:
        return "token 0 is held"
    if is_vector(loop.skip) or is_vector(loop.feedback):
        return "each feature has gains of its own"
    return None
