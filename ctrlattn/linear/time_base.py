"""dt = 0 or None: s = iw; dt = True or a number: z = e^{iw}. The time of a system, decided here and nowhere else.

python-control leaves dt = None to a static gain and to whoever gives it. Version 0.10.2 reads such a system as
continuous in frequency_response, margin, dcgain and the 2-norm, and as discrete in norm(..., "inf"), which asks
`isdtime` there. Every function here reads it as continuous: a static gain that is not 0 thus has an infinite h2_norm,
since white noise of continuous time has infinite power. What exists in discrete time alone (a controller over depth,
nu_gap) takes a static gain without time base, since a gain is the same in both times, and refuses any other system
without one.

Frequencies are in rad per sample in discrete time, whatever dt is, unless a function says otherwise.
"""

from typing import Any

from ctrlattn.errors import InputError


def is_continuous(system: Any, quantity: str, flag: bool | None = None) -> bool:
    """Tell whether the system lives in continuous time.

    Parameters
    ----------
    system : python-control system
    quantity : str
        Name of the quantity, for messages.
    flag : bool, optional
        What the caller's flag says; it decides where the system has no time base.

    Returns
    -------
    bool

    Raises
    ------
    InputError
        The flag contradicts the system.

    Examples
    --------
    >>> import control
    >>> [is_continuous(control.tf([1], [1, 0.5], dt), "poles") for dt in (0, None, True, 1, 0.1)]
    [True, True, False, False, False]
    """
    if system.dt is None:
        return flag is None or flag
    continuous = system.dt == 0
    if flag is not None and flag != continuous:
        word = "continuous (dt = 0)" if continuous else f"discrete (dt = {system.dt})"
        raise InputError(f"{quantity}: continuous={flag} contradicts the system, which is {word}")
    return continuous
