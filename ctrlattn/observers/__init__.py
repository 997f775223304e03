"""Sparse observers: dictionaries that explain a signal of a real network by few features, and steering along one.

The names load on first use, as those of `ctrlattn.checkpoints`.
"""

from typing import TYPE_CHECKING

from ctrlattn.lazy import hide_sub_modules, on_first_use

if TYPE_CHECKING:
    from ctrlattn.observers.dictionary import Dictionary as Dictionary
    from ctrlattn.observers.dictionary import load as load
    from ctrlattn.observers.dictionary import save as save
    from ctrlattn.observers.examples import SIGNALS as SIGNALS
    from ctrlattn.observers.examples import windows as windows
    from ctrlattn.observers.foreign import read as read
    from ctrlattn.observers.foreign import require_place as require_place
    from ctrlattn.observers.foreign import write_sae_lens as write_sae_lens
    from ctrlattn.observers.replacement import Recovered as Recovered
    from ctrlattn.observers.replacement import recover as recover
    from ctrlattn.observers.replacement import replaced as replaced
    from ctrlattn.observers.settings import Settings as Settings
    from ctrlattn.observers.source import SignalSource as SignalSource
    from ctrlattn.observers.source import Stream as Stream
    from ctrlattn.observers.source import observe as observe
    from ctrlattn.observers.study import Study as Study
    from ctrlattn.observers.study import study as study
    from ctrlattn.observers.training import Training as Training
    from ctrlattn.observers.training import train as train
else:
    __all__, __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "dictionary": "Dictionary load save",
            "foreign": "read require_place write_sae_lens",
            "replacement": "Recovered recover replaced",
            "examples": "SIGNALS windows",
            "source": "SignalSource Stream observe",
            "study": "Study study",
            "settings": "Settings",
            "training": "Training train",
        },
    )
    hide_sub_modules(__name__)
