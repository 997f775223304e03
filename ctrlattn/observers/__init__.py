"""Sparse observers: dictionaries that explain a signal of a real network by few features, and steering along one."""

from ctrlattn.observers.dictionary import Dictionary, load, save
from ctrlattn.observers.foreign import read, require_place, write_sae_lens
from ctrlattn.observers.replacement import Recovered, recover, replaced
from ctrlattn.observers.source import SIGNALS, SignalSource, observe, windows
from ctrlattn.observers.study import Study, study
from ctrlattn.observers.training import Settings, Training, train

Stream = SignalSource  # this is its earlier name; elsewhere "stream" means the residual stream

__all__ = [
    "SIGNALS",
    "Dictionary",
    "Recovered",
    "Settings",
    "SignalSource",
    "Stream",
    "Study",
    "Training",
    "load",
    "observe",
    "read",
    "recover",
    "replaced",
    "require_place",
    "save",
    "study",
    "train",
    "windows",
    "write_sae_lens",
]
