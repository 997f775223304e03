"""q <- norm(q + g read(q, K, V)), q <- norm(q + g read(q, X, X)), q <- norm(q + g read(q, V, K)): reads alone.

A relation graph between words becomes an associative memory (keys: words, values: what they are related to), and
one layer of the transformer made of `read` alone becomes three loops: association, context, MLP.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from ctrlattn.arrays import Array, is_array, namespace
from ctrlattn.errors import InputError, did_you_mean
from ctrlattn.loop import Loop
from ctrlattn.normalizers import unit_norm
from ctrlattn.predictors import AssociativeMemory, SoftmaxAttention

Combine = Literal["mean", "sum"]


def parse_relations(text: str) -> dict[str, tuple[str, ...]]:
    """Read the relation graph written as in "she = Mary + soup; tasty = soup": one word, its relations.

    Parameters
    ----------
    text : str
        Semicolons or line ends separate the relations; blank ones are skipped.

    Returns
    -------
    dict
        word -> related words, in the order written.

    Raises
    ------
    InputError
        A relation without "=" or without a word on either side, or a word related twice.

    Examples
    --------
    >>> parse_relations("she = Mary + soup; tasty = soup")
    {'she': ('Mary', 'soup'), 'tasty': ('soup',)}
    """
    relations: dict[str, tuple[str, ...]] = {}
    for line in text.replace(";", "\n").splitlines():
        if not line.strip():
            continue
        word, equals, related = line.partition("=")
        word, related_words = word.strip(), tuple(other.strip() for other in related.split("+"))
        if not equals or not word or not all(related_words) or "=" in related:
            raise InputError(f'a relation is written "word = other" or "word = other + another", got {line.strip()!r}')
        if word in relations:
            raise InputError(f"{word!r} is related twice: write one relation, {word} = ... + ...")
        relations[word] = related_words
    return relations


def relation_memory(
    relations: Mapping[str, Sequence[str]],
    embeddings: Mapping[str, Array],
    *,
    temperature: float,
    sink: float | None = None,
    combine: Combine = "mean",
) -> AssociativeMemory:
    """Return a graph as a memory: K_w = embedding of w, V_w = mean (or sum) of the embeddings of what w is related to.

    Parameters
    ----------
    relations : mapping of word to words
        Every word makes one slot; see `parse_relations`.
    embeddings : mapping of word to (d,)
        numpy or torch; they have unit norm if similarities are to be cosines.
    temperature, sink : float
        See `read`.
    combine : "mean" or "sum"
        How the embeddings of several related words make one value.

    Returns
    -------
    AssociativeMemory
        keys and values (words, d).

    Raises
    ------
    InputError
        No relation, a word without relations or without an embedding (the message suggests the nearest), an
        embedding that is not a vector, an unknown `combine`.

    References
    ----------
    docs/origin.md, "Pronoun"; the memory is that of Graves et al., arXiv 1410.5401, section 3.3.1.

    Examples
    --------
    >>> import numpy as np
    >>> words = dict(zip(("she", "Mary", "soup"), np.eye(3)))
    >>> relation_memory({"she": ("Mary", "soup")}, words, temperature=0.1).values.tolist()
    [[0.0, 0.5, 0.5]]
    """
    if combine not in get_args(Combine):
        raise InputError(f'combine must be "mean" or "sum", got {combine!r}')
    if not relations:
        raise InputError("a relation memory needs at least one relation")
    keys = _embed(tuple(relations), embeddings)
    xp = namespace(keys)
    values = xp.stack([_slot_value(word, related, embeddings, combine) for word, related in relations.items()])
    return AssociativeMemory(keys, values, temperature=temperature, sink=sink)


def exchange(memory: AssociativeMemory) -> AssociativeMemory:
    """Return the memory with keys and values exchanged, read(q, V, K), which answers what a word is related *from*.

    Examples
    --------
    >>> import numpy as np
    >>> memory = AssociativeMemory(np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), temperature=0.1)
    >>> exchange(memory).keys.tolist()
    [[0.0, 1.0], [1.0, 0.0]]
    """
    return replace(memory, keys=memory.values, values=memory.keys)


def read_layer(
    memory: AssociativeMemory,
    *,
    context_temperature: float,
    feedback: float = -1.0,
    normalizer: Callable[[Array], Array] | None = unit_norm,
) -> tuple[Loop, Loop, Loop]:
    """Return one layer of the transformer made of `read` alone, as three loops: association, context, MLP.

        q <- norm(q + g read(q, K, V))            association
        q <- norm(q + g read(q, X, X))            context: the tokens strictly before, in their present state
        q <- norm(q + g read(q, V, K))            MLP: keys and values exchanged

    `simulate([*layer, *layer], x, 6)` runs two layers. In the claim that this layer comes from the context is the
    layer's input and g = +1; here it is the state after the association, which makes each read a loop of its own.

    Parameters
    ----------
    memory : AssociativeMemory
        K, V with temperature and sink; the MLP reads the same memory the other way.
    context_temperature : float
        Temperature of the context read.
    feedback : float
        g: +1 adds what is read (the usual transformer), -1 subtracts it (a comparator).
    normalizer : callable, optional
        It follows every read. With unit_norm all similarities with unit embeddings are cosines; rms_norm is the same
        up to the factor sqrt(d), so temperatures would have to be scaled.

    References
    ----------
    docs/origin.md, "Reads alone": a transformer needs nothing but reads from two kinds of memory.

    Examples
    --------
    >>> import numpy as np
    >>> from ctrlattn import simulate
    >>> words = dict(zip(("she", "Mary", "soup"), np.eye(3)))
    >>> memory = relation_memory({"she": ("Mary",)}, words, temperature=0.03, sink=0.5)
    >>> layer = read_layer(memory, context_temperature=0.2)
    >>> simulate(layer, np.stack([words["Mary"], words["she"]]), 3).state.shape
    (4, 2, 3)
    """
    predictors = (memory, SoftmaxAttention(strict=True, temperature=context_temperature), exchange(memory))
    association, context, mlp = (Loop(p, feedback=feedback, normalizer=normalizer) for p in predictors)
    return association, context, mlp


def _embed(words: Sequence[str], embeddings: Mapping[str, Array]) -> Array:
    """Return the embeddings of the words, (words, d)."""
    vectors = [_vector(word, embeddings) for word in words]
    xp = namespace(*vectors)
    sizes = {tuple(vector.shape) for vector in vectors}
    if len(sizes) > 1:
        raise InputError(f"embeddings must share one size, got {sorted(sizes)}")
    return xp.stack(vectors)


def _vector(word: str, embeddings: Mapping[str, Array]) -> Array:
    if word not in embeddings:
        raise InputError(f"no embedding for the word {word!r}: {did_you_mean(word, embeddings)}")
    vector = embeddings[word]
    if not is_array(vector) or vector.ndim != 1:
        shape = tuple(getattr(vector, "shape", ()))
        raise InputError(f"the embedding of {word!r} must be a vector (d,), got {type(vector).__name__} {shape}")
    return vector


def _slot_value(word: str, related: Sequence[str], embeddings: Mapping[str, Array], combine: Combine) -> Array:
    """Return the value of one slot, (d,)."""
    if isinstance(related, str) or not related:
        raise InputError(f"the relations of {word!r} must be a sequence of at least one word, got {related!r}")
    vectors = _embed(related, embeddings)
    xp = namespace(vectors)
    return xp.mean(vectors, 0) if combine == "mean" else xp.sum(vectors, 0)
