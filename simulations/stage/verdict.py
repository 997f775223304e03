"""A claim holds, or it does NOT hold: every scene says it in these words."""


def said(holds, claim):
    """The line of a verdict.

    >>> said(False, "x is 1")
    'does NOT hold: x is 1'
    """
    return f"{'holds' if holds else 'does NOT hold'}: {claim}"
