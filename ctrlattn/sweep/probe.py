"""hit rate = share of draws in which the earlier token most similar to E is a D, after A B C D A B C D A B C E.

The prediction-error automaton subtracts from every token the mean of those before it. The probe asks whether the
missing token of a repeated sequence then is the nearest to the one in its place.
"""

from collections.abc import Sequence

import numpy as np

from ctrlattn.errors import require_whole
from ctrlattn.loop import Loop, simulate

TOKENS = ("A", "B", "C", "D", "A", "B", "C", "D", "A", "B", "C", "E")
WANTED = "D"


def embeddings(tokens: Sequence[str], draws: int, features: int, generator: np.random.Generator) -> np.ndarray:
    """Draw Gaussian embeddings, (draws, tokens, features); equal tokens have the same one.

    >>> x = embeddings("ABA", 2, 3, np.random.default_rng(0))
    >>> x.shape, bool(np.all(x[:, 0] == x[:, 2]))
    ((2, 3, 3), True)
    """
    vocabulary = sorted(set(tokens))
    table = generator.standard_normal((draws, len(vocabulary), features))
    return table[:, [vocabulary.index(token) for token in tokens]]


def cosines(x: np.ndarray) -> np.ndarray:
    """Return the cosine of every pair of tokens, (..., n, d) -> (..., n, n); a zero token has 0 with every token.

    >>> cosines(np.eye(2)).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    size = np.linalg.norm(x, axis=-1, keepdims=True)
    unit = x / np.where(size == 0, 1.0, size)
    return np.asarray(unit @ unit.swapaxes(-1, -2))


def hits(x: np.ndarray) -> np.ndarray:
    """Tell of each draw (draws, n, d) whether the earlier token most similar to the last one is a D, (draws,)."""
    nearest = np.argmax(cosines(x)[:, -1, :-1], axis=-1)
    return np.asarray(np.array(TOKENS[:-1])[nearest] == WANTED)


def hit_rate(loop: Loop, passes: int, *, features: int = 64, draws: int = 200, seed: int = 0) -> float:
    """Return the share of draws in which the loop finds the missing token after some passes; before any, it is 1/4.

    Parameters
    ----------
    loop : Loop
    passes : int
    features, draws, seed : int
        Sizes of the Gaussian embeddings, and the seed that draws them.

    Returns
    -------
    float

    Raises
    ------
    InputError
        A number is no whole number of at least 1, or the seed is below 0.
    ArithmeticError
        The state leaves all floats.

    References
    ----------
    docs/origin.md, "Prediction error".

    Examples
    --------
    >>> from ctrlattn import presets
    >>> hit_rate(presets.get("prediction-error"), 15, draws=50)
    1.0
    """
    features, draws = require_whole("features", features), require_whole("draws", draws)
    generator = np.random.default_rng(require_whole("seed", seed, least=0))
    x = embeddings(TOKENS, draws, features, generator)
    with np.errstate(all="ignore"):
        state = simulate(loop, x, passes, record="last").state
    if not np.all(np.isfinite(state)):
        raise ArithmeticError(f"the state is not finite after {passes} passes")
    # A power of two for each token changes no digit of a cosine, and no square then leaves the floats.
    _, exponent = np.frexp(np.max(np.abs(state), axis=-1, keepdims=True))
    return float(np.mean(hits(np.ldexp(state, -exponent))))
