"""x + F(x): where in a network its sublayers F are, what stream x each reads, and which module's output it adds.

Each family is one row of a table. Another family takes one such row, `load(source, family=Family(...))`. A path is a
chain of attributes; "a|b" is the first of them that exists, where versions of transformers differ.
"""

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from ctrlattn.checkpoints.trace.structure import Coefficient
from ctrlattn.errors import InputError, did_you_mean

Kind = Literal["attention", "mixer", "cross", "mlp"]
KINDS: tuple[Kind, ...] = ("attention", "mlp")  # of the families of the table
ONE = Coefficient("number", 1.0)
KEY = "ctrlattn"  # model type and key, in config.json, of a network that was changed here


@dataclass(frozen=True)
class Place:
    """Paths inside a layer to one of its sublayers.

    Attributes
    ----------
    norm : str
        Pre-norm: the norm that the stream goes through first. Post-norm: the norm of stream + contribution.
    module : str
        What is replaced when the sublayer is dropped: the module that reads the (normed) stream.
    out : str
        The module whose output is added to the stream; "" where that is `module` itself.
    stream : str
        A module whose input is the stream; "" where that is `norm` (pre-norm).
    """

    norm: str
    module: str
    out: str = ""
    stream: str = ""


@dataclass(frozen=True)
class Family:
    """Where the signals of one architecture are.

    Attributes
    ----------
    name : str
    norm : "pre" or "post"
        Whether a sublayer reads the normed stream, x + F(norm(x)), or the sum is normed, norm(x + F(x)).
    causal : bool
        Whether a token sees only those before it.
    layers : str
        Path from the base model to its list of layers.
    attention, mlp : Place
    matrix : str
        Path inside a layer to the module whose second output is the attention matrix.
    value, output : str
        Paths inside a layer to the linear maps W_V (or the fused W_QKV) and W_O.
    fused : "", "blocks", "interleaved" or "grouped"
        W_V alone; q, k, v as three blocks (GPT-2); q, k, v of a head beside each other (GPT-NeoX); the queries, the key
        and the value of each group of heads beside each other (Falcon).
    parallel : str
        Name of the configuration's flag that says attention and MLP read the same stream; "" for never.

    Examples
    --------
    >>> FAMILIES["gemma3_text"].attention.out
    'post_attention_layernorm'
    """

    name: str
    norm: Literal["pre", "post"]
    causal: bool
    layers: str
    attention: Place
    mlp: Place
    matrix: str
    value: str
    output: str
    fused: Literal["", "blocks", "interleaved", "grouped"] = ""
    parallel: str = ""

    def layers_of(self, model: Any) -> list[Any]:
        """Return the layers of a model of this family, with or without a head on it."""
        return list(at(model.base_model, self.layers))


class Answer(NamedTuple):
    """What the module of a sublayer returns, so that what replaces it can answer alike.

    Attributes
    ----------
    more : int
        How many outputs follow the first.
    width : int
        Features of the first output.
    direct : bool
        Whether the first output is F, or is read by `out` as it is.
    """

    more: int
    width: int
    direct: bool


@dataclass(frozen=True, eq=False)
class Sublayer:
    """One F of the stream x -> N(s x + c F(x)), as modules of a live network; in most s = c = 1 and N is nothing.

    Attributes
    ----------
    layer : int
    kind : "attention", "mixer" (tokens mix without an attention matrix), "cross" or "mlp"
    norm, module, out, stream : modules
        As in `Place`: `stream` is a module whose first input is x, `out` the module whose (first) output is F(x). In a
        traced network `norm` may be None, and so may `stream`, where no module reads x itself.
    path, out_path : str
        Paths from the layer to `module` and to `out`.
    parallel : bool
        Whether another sublayer of the layer reads the same x, so that both are added at once.
    skip, coefficient : Coefficient
        s and c.
    after : module or None
        N in a post-norm network.
    step : int
        How many sums of the layer come before this one.
    width : int or None
        d in a traced network; None: it is that of the norm.
    answer : Answer or None
        What `module` returns; None: a tensor like the stream, and of an attention module a matrix beside it.
    matrix : str
        Path in a traced network, from the layer to the module that returns the attention matrix; "" for none.
    """

    layer: int
    kind: Kind
    norm: Any
    module: Any
    out: Any
    stream: Any
    path: str
    out_path: str
    parallel: bool
    skip: Coefficient = ONE
    coefficient: Coefficient = ONE
    after: Any = None
    step: int = 0
    width: int | None = None
    answer: Answer | None = None
    matrix: str = ""

    def added(self, F: Any) -> Any:
        """Return c F: what a sublayer whose `out` gave F adds to the stream.

        Raises
        ------
        InputError
            The factor c depends on the text.
        """
        if self.coefficient.value is None:
            raise InputError(
                f"what the {self.kind} of layer {self.layer} adds has a factor that depends on the text: it can be "
                "recorded (tap) and dropped, and not measured alone"
            )
        return self.coefficient * F

    def onto(self, x: Any, F: Any) -> Any:
        """Return N(s x + c F): the stream behind the sublayer, if nothing else is added at once."""
        if self.skip.value is None:
            raise InputError(f"layer {self.layer} multiplies its stream by a factor that depends on the text")
        total = self.skip * x + self.added(F)
        return total if self.after is None else self.after(total)


_LLAMA = Family(
    name="llama",
    norm="pre",
    causal=True,
    layers="layers",
    attention=Place(norm="input_layernorm", module="self_attn"),
    mlp=Place(norm="post_attention_layernorm", module="mlp"),
    matrix="self_attn",
    value="self_attn.v_proj",
    output="self_attn.o_proj",
)
_GEMMA2 = replace(
    _LLAMA,
    name="gemma2",
    attention=Place(norm="input_layernorm", module="self_attn", out="post_attention_layernorm"),
    mlp=Place(norm="pre_feedforward_layernorm", module="mlp", out="post_feedforward_layernorm"),
)
_GPT2 = Family(
    name="gpt2",
    norm="pre",
    causal=True,
    layers="h",
    attention=Place(norm="ln_1", module="attn"),
    mlp=Place(norm="ln_2", module="mlp"),
    matrix="attn",
    value="attn.c_attn",
    output="attn.c_proj",
    fused="blocks",
)
_NEOX = Family(
    name="gpt_neox",
    norm="pre",
    causal=True,
    layers="layers",
    attention=Place(norm="input_layernorm", module="attention"),
    mlp=Place(norm="post_attention_layernorm", module="mlp"),
    matrix="attention",
    value="attention.query_key_value",
    output="attention.dense",
    fused="interleaved",
    parallel="use_parallel_residual",
)
_BERT = Family(
    name="bert",
    norm="post",
    causal=False,
    layers="encoder.layer",
    attention=Place(
        norm="attention.output.LayerNorm", module="attention.self", out="attention.output.dense", stream="attention"
    ),
    mlp=Place(norm="output.LayerNorm", module="intermediate", out="output.dense", stream="intermediate"),
    matrix="attention.self",
    value="attention.self.value",
    output="attention.output.dense",
)
_VIT = Family(
    name="vit",
    norm="pre",
    causal=False,
    layers="layers|encoder.layer",
    attention=Place(norm="layernorm_before", module="attention"),
    mlp=Place(norm="layernorm_after", module="mlp|output.dense"),
    matrix="attention.attention|attention",
    value="attention.v_proj|attention.attention.value",
    output="attention.o_proj|attention.output.dense",
)


def _families_by_name(family: Family, *names: str) -> dict[str, Family]:
    return {name: replace(family, name=name) for name in names}


FAMILIES = {
    **_families_by_name(_LLAMA, "llama", "mistral", "qwen2", "qwen3", "gemma", "smollm3"),
    **_families_by_name(_GEMMA2, "gemma2", "gemma3_text"),
    **_families_by_name(_GPT2, "gpt2"),
    **_families_by_name(_NEOX, "gpt_neox"),
    **_families_by_name(_BERT, "bert", "roberta", "xlm-roberta"),
    **_families_by_name(_VIT, "vit", "deit"),
}


def at(module: Any, path: str) -> Any:
    """Return what a path leads to; the first of "a|b" that exists.

    Raises
    ------
    InputError
        None of them exists.

    Examples
    --------
    >>> at(1j, "size|real")
    0.0
    """
    return attrgetter(_existing_path(module, path))(module)


def leads(module: Any, path: str) -> bool:
    """Tell whether a path leads to something other than None.

    >>> leads(1j, "size|real"), leads(1j, "size")
    (True, False)
    """
    try:
        return at(module, path) is not None
    except InputError:
        return False


def _existing_path(module: Any, path: str) -> str:
    """Return the first alternative of a path that exists."""
    for alternative in path.split("|"):
        try:
            attrgetter(alternative)(module)
        except AttributeError:
            continue
        return alternative
    name = type(module).__name__
    if not path:
        raise InputError(
            f"the network was traced, and no map of {name} is known by name: give load(source, family=Family(...))"
        )
    raise InputError(f"{name} has no {' nor '.join(path.split('|'))}")


def sublayers(family: Any, model: Any) -> tuple[Sublayer, ...]:
    """Return both sublayers of every layer, in order of depth; for a `Traced` family those of its structure.

    Raises
    ------
    InputError
        A family that does not fit the model; the message names the layer and what is not there.

    Examples
    --------
    >>> import transformers
    >>> config = transformers.GPT2Config(n_layer=2, n_embd=8, n_head=2, vocab_size=9)
    >>> [(s.layer, s.kind, s.path) for s in sublayers(FAMILIES["gpt2"], transformers.GPT2Model(config))]
    [(0, 'attention', 'attn'), (0, 'mlp', 'mlp'), (1, 'attention', 'attn'), (1, 'mlp', 'mlp')]
    """
    if hasattr(family, "sublayers_of"):
        return tuple(family.sublayers_of(model))
    parallel = is_parallel(family, model.config)
    try:
        layers = family.layers_of(model)
        return tuple(
            _sublayer(layer, i, kind, getattr(family, kind), parallel=parallel, post=family.norm == "post")
            for i, layer in enumerate(layers)
            for kind in KINDS
        )
    except InputError as error:
        raise InputError(f"family {family.name!r} does not fit {type(model).__name__}: {error}") from None


def is_parallel(family: Family, config: Any) -> bool:
    """Tell whether attention and MLP of a layer read the same stream, by the configuration.

    >>> is_parallel(FAMILIES["llama"], None)
    False
    """
    return bool(family.parallel and getattr(config, family.parallel, False))


def layer_index(layer: int, count: int) -> int:
    """Return `layer` as an int, checked to be one of 0 ... count - 1.

    >>> layer_index(2, 3)
    2
    """
    if not 0 <= layer < count:
        raise InputError(f"layer must be one of 0 ... {count - 1}, got {layer}")
    return int(layer)


def sees_both_ways(config: Any, causal: bool) -> bool:
    """Tell whether a token also sees those behind it, by the configuration and whether the family is causal."""
    text = config.get_text_config()
    both_ways = getattr(text, "use_bidirectional_attention", False)
    return not ((causal and not both_ways) or bool(getattr(text, "is_decoder", False)))


def _sublayer(layer: Any, i: int, kind: Kind, place: Place, *, parallel: bool, post: bool) -> Sublayer:
    path = _existing_path(layer, place.module)
    out_path = _existing_path(layer, place.out) if place.out else path
    norm = at(layer, place.norm)
    return Sublayer(
        layer=i,
        kind=kind,
        norm=norm,
        module=at(layer, path),
        out=at(layer, out_path),
        stream=at(layer, place.stream) if place.stream else norm,
        path=path,
        out_path=out_path,
        parallel=parallel,
        after=norm if post else None,
        step=0 if parallel or kind == "attention" else 1,
    )


def family_of(model_type: str) -> Family:
    """Return the family of a `model_type`; an InputError says what exists and what to register.

    >>> family_of("llama").norm
    'pre'
    """
    if model_type in FAMILIES:
        return FAMILIES[model_type]
    raise InputError(
        f"unknown model family {model_type!r}: {did_you_mean(model_type, FAMILIES)}; for another one give "
        "load(source, family=ctrlattn.checkpoints.Family(...)): where its layers, norms and contributions are; where "
        "only the name differs, dataclasses.replace(FAMILIES['llama'], name=...)"
    )
