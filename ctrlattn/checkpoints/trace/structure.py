"""x' = N(s x + sum_k c_k F_k): what each layer of a residual network does to its stream, as `trace` has seen it.

A layer is called once or several times (where its weights are tied). Each call is a sequence of steps, each of which is
one such equation. Pre-norm: one step adds the attention, the next the MLP. Parallel: one step adds both. Post-norm:
each step ends with its norm N.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import torch

TermKind = Literal["attention", "mixer", "cross", "mlp", "constant"]
TERM_KINDS: tuple[TermKind, ...] = get_args(TermKind)


@dataclass(frozen=True, eq=False)
class Coefficient:
    """s or c: what multiplies the stream or a contribution.

    Attributes
    ----------
    form : "number", "vector" or "text"
        One number; one number per feature; or a factor that depends on the text, a matrix over several streams, or a
        change of layout: then only a traced pass knows c F.
    value : float, (d,) float64 tensor, or None
        None where it depends on the text.

    Examples
    --------
    >>> import torch
    >>> Coefficient("number", 0.22) * torch.ones(2)
    tensor([0.2200, 0.2200])
    """

    form: Literal["number", "vector", "text"]
    value: "float | torch.Tensor | None"

    def __mul__(self, part: "torch.Tensor") -> "torch.Tensor":
        if self.value is None:
            raise TypeError("a factor that depends on the text is known in a traced pass only")
        if isinstance(self.value, float):
            return part if self.value == 1.0 else part * self.value
        return part * self.value.to(part)

    @property
    def is_one(self) -> bool:
        """Whether it changes nothing."""
        return isinstance(self.value, float) and self.value == 1.0


@dataclass(frozen=True, eq=False)
class Term:
    """One c F of a step.

    Attributes
    ----------
    kind : "attention", "mixer", "cross", "mlp" or "constant"
        The kind is found by behaviour. attention: another token's output changes when token 0 of what it reads does,
        and a matrix (heads, n, n) is seen; mixer: the output changes so, and no matrix is seen; cross: it reads tokens
        of another network; mlp: each token is treated alone; constant: it does not read this call's stream. A constant
        without a path that is the same for every token is c alone, F = 1.
    path : str
        Path from the layer to the module whose first output is F; "" where no module returns it.
    module : str
        Path from the layer to what `drop` replaces: the outermost module between `norm` and `path` that reads nothing
        of the stream but through the norm. It is `path` itself unless a norm stands behind it. "": there is none.
    norm : str
        Path from the layer to the norm in front of it; "" for none (post-norm, or a norm without a module).
    reads : int or None
        The stream that it reads: 0 for the one that enters the layer, j for the one behind step j - 1 of this call;
        None for another combination, or nothing.
    coefficient : Coefficient
        c.
    matrix : str
        Path from the layer to the module that returns the attention matrix (heads, n, n) beside its output; "" for
        none.
    layout : "plain" or "other"
        Whether F has the shape of the stream; "other" with a known coefficient: its tokens are in one row.
    """

    kind: TermKind
    path: str
    module: str
    norm: str
    reads: int | None
    coefficient: Coefficient
    matrix: str = ""
    layout: Literal["plain", "other"] = "plain"


@dataclass(frozen=True, eq=False)
class Step:
    """x' = N(s x + sum_k c_k F_k).

    Attributes
    ----------
    skip : Coefficient
        s.
    terms : tuple of Term
    norm : str
        Path from the layer to the module N; "" for none.
    """

    skip: Coefficient
    terms: tuple[Term, ...]
    norm: str = ""


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a layer.

    Attributes
    ----------
    layer : int
        Index into `Structure.layers`.
    steps : tuple of Step
    error : float
        The largest difference of a token between the sum and the stream that the layer gave, relative to the largest
        part at this token.
    rounding : float
        Epsilon of the coarsest type that a part goes through on its way to the sum; 0 for the network's own alone.
    """

    layer: int
    steps: tuple[Step, ...]
    error: float
    rounding: float = 0.0

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms of all steps in order."""
        return tuple(term for step in self.steps for term in step.terms)

    @property
    def kinds(self) -> tuple[TermKind, ...]:
        """The kinds of its terms in order."""
        return tuple(term.kind for term in self.terms)

    @property
    def by_text(self) -> bool:
        """Whether a factor depends on the text, so that only a traced pass knows the contributions."""
        factors = [step.skip for step in self.steps] + [term.coefficient for term in self.terms]
        nameless = [term for term in self.terms if not term.path and term.kind != "constant"]
        return any(factor.form == "text" for factor in factors) or bool(nameless)


@dataclass(frozen=True, eq=False)
class Structure:
    """The layers of a network and what each call of them adds to the stream.

    Attributes
    ----------
    layers : tuple of str
        Paths from the model to its layers, in order of their first call.
    calls : tuple of Call
        In order of depth; as many as layers where no layer is called twice.
    width : int
        d, features of the stream.
    streams : int
        1; more where a layer hands on several streams, as the axis in front of (batch, n, d) or behind (batch, n).
    causal : bool
        Whether no token changes when one behind it does, by behaviour.
    """

    layers: tuple[str, ...]
    calls: tuple[Call, ...]
    width: int
    streams: int
    causal: bool

    def layer_of(self, model: Any, call: Call | int) -> Any:
        """Return the module that a call runs."""
        index = self.calls[call].layer if isinstance(call, int) else call.layer
        return model.get_submodule(self.layers[index])

    @property
    def by_text(self) -> bool:
        """Whether some factor depends on the text."""
        return any(call.by_text for call in self.calls)

    @property
    def plain(self) -> bool:
        """Whether every call adds one attention and then, or beside it, one MLP."""
        return all(call.kinds == ("attention", "mlp") for call in self.calls)
