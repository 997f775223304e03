"""How scenes say what they saw: a claim holds, or it does NOT hold; a difference with its interval."""


def said(holds, claim):
    """The line of a verdict.

    >>> said(False, "x is 1")
    'does NOT hold: x is 1'
    """
    return f"{'holds' if holds else 'does NOT hold'}: {claim}"


def signed(result):
    """Mean and interval of a difference in words.

    >>> signed({"mean": 0.5, "low": -0.25, "high": 1.25})
    '+0.500 [-0.250, +1.250]'
    """
    return f"{result['mean']:+.3f} [{result['low']:+.3f}, {result['high']:+.3f}]"
