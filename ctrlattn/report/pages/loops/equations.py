"""x+ = N(skip x + feedback y + u): the equation of one loop with its own numbers, in one line."""

from typing import Any

from ctrlattn.arrays import is_vector
from ctrlattn.controllers import PID
from ctrlattn.loop import Loop

_TERMS = {"printed": ("e", "Σe", "Δe"), "ema": ("e", "e̅", "Δe₋")}


def equation(loop: Loop) -> str:
    """Write what one layer computes; a term with gain 0 is left out.

    >>> from ctrlattn import presets
    >>> equation(presets.get("neutreno")), equation(presets.get("comparator"))
    ('x⁺ = y + 0.6 e', 'x⁺ = x − y')
    """
    terms = [(loop.skip, "x"), (loop.feedback, "y"), *_control(loop.controller)]
    words = [_term(gain, letter) for gain, letter in terms if is_vector(gain) or gain != 0]
    total = _join(words) or "0"
    if loop.normalizer is not None and not loop.normalize_input:
        total = f"N({total})"
    input_words = ", y from N(x)" if loop.normalizer is not None and loop.normalize_input else ""
    return f"x⁺ = {total}{input_words}"


def _control(controller: Any) -> list[tuple[Any, str]]:
    if controller is None:
        return []
    if not isinstance(controller, PID):
        return [(1.0, "C(z) e")]
    return list(zip((controller.kp, controller.ki, controller.kd), _TERMS[controller.form], strict=True))


def _term(gain: Any, letter: str) -> str:
    if is_vector(gain):
        return f"g∘{letter}"  # each feature has its own number
    size = abs(float(gain))
    return ("−" if gain < 0 else "") + (letter if size == 1 else f"{size:g} {letter}")


def _join(words: list[str]) -> str:
    return " ".join(
        word if i == 0 else f"− {word[1:]}" if word.startswith("−") else f"+ {word}" for i, word in enumerate(words)
    )
