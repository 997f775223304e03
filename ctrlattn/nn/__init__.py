"""Torch modules for training: the transformer made of `read` alone."""

from ctrlattn.nn.memory import ReadLayer, ReadTransformer

__all__ = ["ReadLayer", "ReadTransformer"]
