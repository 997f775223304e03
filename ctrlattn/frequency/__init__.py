"""Frequency response over depth (S, T, gang of four) and along the tokens (low-pass, high-pass, diversity).

The names load on first use: what is measured along the tokens needs no python-control, whose import takes a second.
"""

from typing import TYPE_CHECKING

from ctrlattn.lazy import on_first_use

if TYPE_CHECKING:
    from ctrlattn.frequency.response import frequency_response as frequency_response
    from ctrlattn.frequency.sensitivity_functions import Peaks as Peaks
    from ctrlattn.frequency.sensitivity_functions import complementary_sensitivity as complementary_sensitivity
    from ctrlattn.frequency.sensitivity_functions import gang_of_four as gang_of_four
    from ctrlattn.frequency.sensitivity_functions import sensitivity as sensitivity
    from ctrlattn.frequency.sensitivity_functions import sensitivity_peaks as sensitivity_peaks
    from ctrlattn.frequency.sensitivity_functions import sensitivity_response as sensitivity_response
    from ctrlattn.frequency.tokens import difference_gain as difference_gain
    from ctrlattn.frequency.tokens import mean_cosine as mean_cosine
    from ctrlattn.frequency.tokens import participation_rank as participation_rank
    from ctrlattn.frequency.tokens import token_frequency_response as token_frequency_response
else:
    __all__, __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "response": "frequency_response",
            "sensitivity_functions": "Peaks complementary_sensitivity gang_of_four sensitivity sensitivity_peaks "
            "sensitivity_response",
            "tokens": "difference_gain mean_cosine participation_rank token_frequency_response",
        },
    )
