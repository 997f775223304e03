"""text -> signal of a layer -> dictionary -> explained variance, loss, top texts: a study of an observer."""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ctrlattn.checkpoints import Checkpoint
from ctrlattn.errors import InputError
from ctrlattn.identity import digest, of_files, of_network, work_folder
from ctrlattn.observers.dictionary import Dictionary, load, save
from ctrlattn.observers.foreign import write_sae_lens
from ctrlattn.observers.measures import (
    FeatureTexts,
    Quality,
    coded,
    curve,
    principal_curve,
    quality,
    token_purity,
    top_texts,
)
from ctrlattn.observers.replacement import Recovered, recover
from ctrlattn.observers.settings import Settings
from ctrlattn.observers.source import SignalSource, observe
from ctrlattn.observers.training import train
from ctrlattn.progress import Progress, silent

_BLOCK = 16_384  # examples per block
_CONTEXT = 128  # tokens per window
_RECOVERED = 16  # windows on which the recovered loss is measured; each costs four passes of the whole network


class Study(NamedTuple):
    """A dictionary of one signal of one layer, and its measures on text that it was not trained on."""

    dictionary: Dictionary
    facts: dict[str, Any]
    quality: Quality
    counts: tuple[int, ...]  # numbers of features or components
    curve: tuple[Quality, ...]  # quality for each of `counts`
    principal: np.ndarray  # variance explained by principal components, for each of `counts`
    recovered: Recovered | None  # on at most 16 windows; None where the network predicts no next token
    purity: np.ndarray  # (features,)
    purity_of_random: np.ndarray  # (features,): purity with the tokens in random order
    texts: tuple[FeatureTexts, ...]
    examples: int  # number of held-out examples
    folder: Path  # where the dictionary is: the given one, or that of this study beside it


def study(
    checkpoint: Checkpoint,
    path: str | os.PathLike[str],
    layer: int,
    signal: str,
    folder: Path,
    *,
    features: int = 4096,
    k: int | None = 32,
    penalty: float = 0.0,
    tokens: int = 400_000,
    seed: int = 0,
    context: int = _CONTEXT,
    held_out: int = 64,
    shown: int = 24,
    progress: Progress | None = None,
) -> Study:
    """Train a dictionary and measure it. An interrupted study continues; a finished one is not trained again.

    Parameters
    ----------
    checkpoint : Checkpoint
    path : UTF-8 text
    layer : int
    signal : one of `SIGNALS`
    folder : directory
        Directory for dictionary.safetensors, and for training.safetensors during the training. Where it holds a study
        of another network, text or setting, this one goes to a directory beside it.
    features, k, penalty, seed : as in `Settings`
    tokens : int
        Approximate number of training examples.
    context : int
        Tokens per window.
    held_out : int
        Number of held-out windows to measure on.
    shown : int
        Number of features whose texts are shown. They are sampled (seeded) among the features that occur, so that
        nobody selects them.
    progress : callable, optional

    Returns
    -------
    Study

    Raises
    ------
    InputError
        `SignalSource` or `Settings` refuses its arguments, or the directory cannot be written.
    """
    source = SignalSource(checkpoint, path, layer, (signal,), size=min(_BLOCK, max(1, tokens // 8)), context=context)
    blocks = max(1, round(tokens / (source.count * source.each)))
    dead_after = max(1, min(20_000, tokens // 8))
    settings = Settings(features, k, blocks=blocks, penalty=penalty, seed=seed, dead_after=dead_after)
    windows = source.held_out(held_out)
    facts = _facts(source, signal)
    folder = work_folder(folder, digest(facts, asdict(settings)), progress or silent)
    dictionary = _trained_dictionary(source, signal, settings, folder, facts, progress)
    examples = observed(source, windows, signal)
    counts = tuple(2**i for i in range(20) if 2**i <= min(settings.k or 2**8, source.checkpoint.width))
    worth = quality(dictionary, examples.flatten(0, 1))
    purity, random = _purity(dictionary, examples, source.tokens(windows), seed)
    return Study(
        dictionary=dictionary,
        facts={**facts, **asdict(settings)},
        quality=worth,
        counts=counts,
        curve=tuple(curve(dictionary, examples.flatten(0, 1), counts)),
        principal=principal_curve(source.block(0)[signal], examples.flatten(0, 1), counts),
        recovered=recover(checkpoint, dictionary, windows[:_RECOVERED], layer, signal)
        if predicts(checkpoint)
        else None,
        purity=purity,
        purity_of_random=random,
        texts=_texts(
            dictionary, examples, source.tokens(windows), checkpoint.tokenizer, _sample_of_features(worth, shown, seed)
        ),
        examples=examples.shape[0] * examples.shape[1],
        folder=folder,
    )


def _facts(source: SignalSource, signal: str) -> dict[str, Any]:
    """Return the facts that say where a dictionary comes from, without a path of this machine."""
    return {
        "model": source.checkpoint.name,
        "layer": source.layer,
        "signal": signal,
        "weights": of_network(source.checkpoint.model),
        "text": source.path.name,
        "text_digest": of_files([source.path]),
        "context": source.context,
        "block": source.count * source.each,
    }


def _trained_dictionary(
    source: SignalSource,
    signal: str,
    settings: Settings,
    folder: Path,
    facts: Mapping[str, Any],
    progress: Progress | None,
) -> Dictionary:
    final, state = folder / "dictionary.safetensors", folder / "training.safetensors"
    identity = {**facts, **asdict(settings)}
    if final.exists():
        dictionary, stored_identity = load(final)
        if stored_identity != identity:
            differing = sorted(
                name for name in {*identity, *stored_identity} if identity.get(name) != stored_identity.get(name)
            )
            raise InputError(f"{final}: a dictionary that differs in {', '.join(differing)}: give another --out")
        state.unlink(missing_ok=True)  # of a run that was killed once the dictionary was whole
        return dictionary
    dictionary, _ = train(
        lambda block: source.block(block)[signal], settings, state=state, facts=facts, progress=progress
    )
    write_sae_lens(folder / "sae_lens", dictionary, identity)
    save(final, dictionary, identity)
    state.unlink(missing_ok=True)
    return dictionary


def observed(source: SignalSource, ids: np.ndarray, signal: str) -> torch.Tensor:
    """Return a signal on windows, (windows, examples, d)."""
    step = source.together
    parts = [
        observe(source.checkpoint, ids[i : i + step], source.layer, (signal,))[signal] for i in range(0, len(ids), step)
    ]
    return torch.cat(parts)


def predicts(checkpoint: Checkpoint) -> bool:
    """Tell whether the network predicts the next token."""
    return checkpoint.causal and checkpoint.model.get_output_embeddings() is not None


def _purity(
    dictionary: Dictionary, examples: torch.Tensor, tokens: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        z = coded(dictionary, examples.flatten(0, 1))
    flat = tokens.ravel()
    return token_purity(z, flat), token_purity(z, np.random.default_rng(seed).permutation(flat))


def _sample_of_features(quality: Quality, count: int, seed: int) -> np.ndarray:
    """Draw a random sample of the features that occur."""
    return np.sort(np.random.default_rng(seed).permutation(np.flatnonzero(quality.frequency > 0))[:count])


def _texts(
    dictionary: Dictionary, examples: torch.Tensor, tokens: np.ndarray, tokenizer: Any, features: np.ndarray
) -> tuple[FeatureTexts, ...]:
    with torch.no_grad():
        z = torch.stack([coded(dictionary, window)[:, features] for window in examples])
    texts = top_texts(z, tokens, tokenizer, range(len(features)))
    return tuple(text._replace(feature=int(features[text.feature])) for text in texts)
