"""Numbers as words of a sentence: percentages, shares with their interval, counts with their noun, lists of layers."""

import math
from collections.abc import Iterable


def percent(share: float) -> str:
    r"""Write a share in percent; the space does not break.

    >>> percent(0.4567), percent(0.0004), percent(0.0)
    ('46\xa0%', '0.04\xa0%', '0\xa0%')
    """
    if math.isnan(share):
        return "undefined"
    value = 100 * share
    return f"{value:.0f}\xa0%" if value >= 1 or value == 0 else f"{value:.2g}\xa0%"


def share_with_interval(hits: int, trials: int) -> str:
    r"""Write the share of hits in percent, with its 95 % Wilson score interval.

    >>> share_with_interval(200, 200)
    '100\xa0% (95\xa0% interval 98 to 100\xa0%)'
    """
    z = 1.959963984540054
    share = hits / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    low, high = max(centre - half, 0.0), min(centre + half, 1.0)
    return f"{percent(share)} (95\xa0% interval {100 * low:.0f} to {100 * high:.0f}\xa0%)"


def count(number: int, noun: str) -> str:
    """Write a number with its noun in the singular or plural.

    >>> count(1, "layer"), count(3, "layer")
    ('1 layer', '3 layers')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def listed(words: list[str]) -> str:
    """Join words by commas, with "and" before the last.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def number(value: float, digits: int = 2) -> str:
    """Write a number rounded for reading; infinity and nan have a symbol or word.

    >>> number(3.14159), number(math.inf), number(math.nan), number(12345.6), number(-0.001)
    ('3.14', '∞', 'undefined', '1.23e+04', '0.00')
    """
    if math.isnan(value):
        return "undefined"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    text = f"{value:.{digits}f}" if abs(value) < 1000 else f"{value:.2e}"
    if not text.startswith("-"):
        return text
    return text[1:] if float(text) == 0 else text.replace("-", "−")  # what rounds to 0 has no sign


def change(value: float, digits: int = 2) -> str:
    """Write the verb of a change with its amount, as words that follow the quantity; a small one has no sign to show.

    >>> change(0.25), change(-0.25), change(-0.0004, 3)
    ('rises by 0.25', 'falls by 0.25', 'changes by less than 0.001')
    """
    if abs(value) < 0.5 * 10.0**-digits:
        return f"changes by less than {10.0**-digits:.{digits}f}"
    return f"{'falls' if value < 0 else 'rises'} by {number(abs(value), digits)}"


def layers_until(settling: float, horizon: int) -> str:
    """Write a settling time in layers; an infinite one lies beyond the simulated horizon.

    >>> layers_until(12.0, 36), layers_until(float("inf"), 36)
    ('12', 'not within 36')
    """
    return f"not within {horizon}" if math.isinf(settling) else number(settling, 0)


def settles(settling: float, horizon: int) -> str:
    """Write the settling time as words that follow the verb "settles".

    >>> settles(12.0, 36), settles(float("inf"), 36)
    ('after 12 layers', 'not within 36 layers')
    """
    until = layers_until(settling, horizon)
    return f"{until} layers" if math.isinf(settling) else f"after {until} layers"


def layer_list(numbers: Iterable[int], noun: str = "layer") -> str:
    """Write indices with their noun; neighbours form ranges.

    >>> layer_list([3]), layer_list([0, 1, 2, 5]), layer_list([], "depth")
    ('layer 3', 'layers 0–2 and 5', 'no depth')
    """
    indices = sorted(numbers)
    if not indices:
        return f"no {noun}"
    starts = [n for n in indices if n - 1 not in indices]
    ends = [n for n in indices if n + 1 not in indices]
    words = [f"{a}–{b}" if a < b else f"{a}" for a, b in zip(starts, ends, strict=True)]
    return f"{noun}{'' if len(indices) == 1 else 's'} {listed(words)}"
