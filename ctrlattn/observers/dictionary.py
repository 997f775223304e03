"""z = TopK(E(x - b) + c) or ReLU(E(x - b) + c), x̂ = zD + b, |D_i| = 1: a dictionary, which is a sparse autoencoder.

Dictionaries of other packages may have responses that count only above a threshold (JumpReLU); `foreign` reads them.

It is an observer: from a signal it estimates which of its features, the directions D_i, are present and how strongly.
x is the signal minus its mean, divided by its size. Both are measured once before training.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.nn.functional import embedding_bag, linear, normalize

from ctrlattn.errors import InputError, require_whole
from ctrlattn.files import atomic
from ctrlattn.parsing import parse_json

FORMAT = "ctrlattn observer 1"


class Codes(NamedTuple):
    """Sparse codes of m examples: the k features that are present, strongest first; all others are 0."""

    values: torch.Tensor  # (m, k) activations
    features: torch.Tensor  # (m, k) indices of features


class Dictionary(torch.nn.Module):
    """A sparse autoencoder with `features` directions for signals of `width` elements, float32.

    Parameters
    ----------
    width, features : int
    k : int or None
        With k, the k largest responses of an example are its features (TopK). With None, every positive response is
        one (ReLU), and the penalty of the training keeps their number small.
    seed : int
        Seed of the initial directions. The encoder is initially the transpose of the decoder.

    Attributes
    ----------
    encoder, decoder : (features, width)
        E and D, a row per feature; rows of the decoder have length 1.
    threshold : (features,)
        c, which is added to the response of the encoder.
    bias : (width,)
        b.
    mean, size : (width,), scalar
        Units of the signal: x = (signal - mean)/size. `measure` sets them.
    jump : (features,) or None
        JumpReLU: a response of at most this counts as 0. None: every positive response counts.

    Raises
    ------
    InputError
        A size is not positive, or k exceeds the number of features.

    References
    ----------
    Cunningham et al., Sparse Autoencoders Find Highly Interpretable Features in Language Models, ICLR 2024,
    arXiv 2309.08600, section 2 (ReLU, L1, rows of length 1). Gao et al., Scaling and evaluating sparse autoencoders,
    arXiv 2406.04093, section 2.3 (TopK) and appendix A (initialisation).

    Examples
    --------
    >>> dictionary = Dictionary(4, 8, k=2)
    >>> x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    >>> int(dictionary.encode(x).count_nonzero(dim=-1).max()), tuple(dictionary(x).shape)
    (2, (5, 4))
    """

    mean: torch.Tensor
    size: torch.Tensor
    jump: torch.Tensor | None
    knows_mean = True  # whether `mean` is that of its training; False of what other packages have trained

    def __init__(self, width: int, features: int, *, k: int | None = None, seed: int = 0) -> None:
        super().__init__()
        for name, value in (("width", width), ("features", features), ("k", 1 if k is None else k)):
            require_whole(name, value)
        if k is not None and k > features:
            raise InputError(f"k must be at most the number of features, {features}, got {k}")
        self.k = k
        directions = torch.randn(features, width, generator=torch.Generator().manual_seed(seed))
        self.decoder = torch.nn.Parameter(normalize(directions))
        self.encoder = torch.nn.Parameter(self.decoder.detach().clone())
        self.threshold = torch.nn.Parameter(torch.zeros(features))
        self.bias = torch.nn.Parameter(torch.zeros(width))
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("size", torch.ones(()))
        self.register_buffer("jump", None)

    @property
    def features(self) -> int:
        """Number of directions."""
        return int(self.decoder.shape[0])

    @property
    def width(self) -> int:
        """Elements of a signal."""
        return int(self.decoder.shape[1])

    def measure(self, signal: torch.Tensor) -> None:
        """Set mean and size from a sample (m, width), so that x has a mean square of 1 per element.

        Raises
        ------
        InputError
            The signal has another width, is not finite, or does not vary.
        """
        self._require_width(signal)
        signal = signal.to(self.mean)
        mean = signal.mean(0)
        size = (signal - mean).square().mean().sqrt()
        if not torch.isfinite(size) or size <= 0:
            raise InputError(f"the signal must be finite and must vary: its standard deviation is {float(size)}")
        self.mean.copy_(mean)
        self.size.copy_(size)

    def scaled(self, signal: torch.Tensor) -> torch.Tensor:
        """Return x, the signal in the units, dtype and device of the dictionary."""
        self._require_width(signal)
        return (signal.to(self.mean) - self.mean) / self.size

    def unscaled(self, x: torch.Tensor) -> torch.Tensor:
        """Return the signal of which x is the scaled form."""
        return x * self.size + self.mean

    def response(self, x: torch.Tensor) -> torch.Tensor:
        """Return E(x - b) + c, (..., features): the input of TopK or ReLU; 0 where it is at most `jump`."""
        response = linear(x - self.bias, self.encoder, self.threshold)
        return response if self.jump is None else torch.where(response > self.jump, response, 0.0)

    def codes(self, response: torch.Tensor, k: int | None = None) -> Codes:
        """Return the codes of the k largest responses, by default the dictionary's k; responses below 0 become 0."""
        k = k or self.k
        if k is None:
            raise InputError("a ReLU dictionary has no k of its own: give k")
        values, indices = response.topk(k, dim=-1)
        return Codes(values.relu(), indices)

    def combine(self, codes: Codes) -> torch.Tensor:
        """Return zD, (m, width), of sparse codes (m, k); only the rows of present features are read."""
        return embedding_bag(codes.features, self.decoder, per_sample_weights=codes.values, mode="sum")

    def encode(self, signal: torch.Tensor) -> torch.Tensor:
        """Return z of a signal, (..., features), in which most elements are 0."""
        response = self.response(self.scaled(signal))
        if self.k is None:
            return response.relu()
        codes = self.codes(response)
        return torch.zeros_like(response).scatter(-1, codes.features, codes.values)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Return the signal x̂ that the codes z (..., features) reconstruct."""
        if z.shape[-1] != self.features:
            raise InputError(f"the dictionary has {self.features} features, got codes of {z.shape[-1]}")
        return self.unscaled(z @ self.decoder + self.bias)

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Return the reconstruction of a signal (..., width), of the same shape."""
        if self.k is None:
            return self.decode(self.encode(signal))
        codes = self.codes(self.response(self.scaled(signal.reshape(-1, signal.shape[-1]))))
        return self.unscaled(self.combine(codes) + self.bias).reshape(signal.shape)

    def _require_width(self, signal: torch.Tensor) -> None:
        if signal.shape[-1] != self.width:
            raise InputError(f"the dictionary is for signals of {self.width} elements, got {signal.shape[-1]}")


def save(path: str | os.PathLike[str], dictionary: Dictionary, facts: Mapping[str, Any] | None = None) -> None:
    """Write a dictionary to a safetensors file, whole or not at all; `facts` (JSON) say where it comes from.

    >>> import tempfile
    >>> save(tempfile.mkdtemp() + "/d.safetensors", Dictionary(3, 6, k=1), {"layer": 2})
    """
    from safetensors.torch import save_file

    header = {"format": FORMAT, "k": dictionary.k, "facts": dict(facts or {})}
    with atomic(path) as temporary:
        save_file(
            {name: value.contiguous() for name, value in dictionary.state_dict().items()},
            temporary,
            metadata={"observer": json.dumps(header)},
        )


def load(path: str | os.PathLike[str]) -> tuple[Dictionary, dict[str, Any]]:
    """Read the dictionary and the facts that `save` wrote.

    Raises
    ------
    InputError
        The file does not exist, is damaged, or does not hold a dictionary.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/d.safetensors"
    >>> save(path, Dictionary(3, 6, k=1), {"layer": 2})
    >>> dictionary, facts = load(path)
    >>> dictionary.k, facts
    (1, {'layer': 2})
    """
    tensors, metadata = read_tensors(path)
    try:
        header = parse_json(metadata["observer"], "observer")
        if not isinstance(header, dict) or header["format"] != FORMAT or not isinstance(header["facts"], dict):
            raise InputError("what save writes beside the weights is not there")
        features, width = tensors["decoder"].shape
        dictionary = Dictionary(width, features, k=header["k"])
        if "jump" in tensors:
            dictionary.jump = torch.zeros(features)
        dictionary.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: no dictionary of observers.save in this file") from error
    return dictionary.eval().requires_grad_(False), header["facts"]


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read (tensors, metadata) of a safetensors file; a missing or damaged file is an InputError."""
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(f"{path}: not a whole safetensors file: {error}") from error
