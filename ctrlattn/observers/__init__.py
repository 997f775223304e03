"""Sparse observers: from a signal of a real network, the few causes behind it."""

from ctrlattn.observers.dictionary import Dictionary, load, save
from ctrlattn.observers.replacement import Recovered, recover, replaced
from ctrlattn.observers.source import SIGNALS, SignalSource, observe, windows
from ctrlattn.observers.study import Study, study
from ctrlattn.observers.training import Settings, Training, train

Stream = SignalSource  # its earlier name; elsewhere a stream is what runs through the layers

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
    "recover",
    "replaced",
    "save",
    "study",
    "train",
    "windows",
]
