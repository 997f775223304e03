"""d = heads D, side = patches patch: which sizes make a network, judged before torch is imported."""

from typing import Literal, get_args

from ctrlattn.errors import InputError, did_you_mean, require_whole

Norm = Literal["layer", "rms", "none"]
Injection = Literal["none", "add", "parcae"]  # how the input enters each pass of a looped network
NormPlace = Literal["none", "inner", "outer", "both"]
MOST_LAYERS, MOST_AXES = 3, 2  # of a pass


def require_sizes(**sizes: int) -> None:
    """Raise InputError for the first size that is not a whole number of at least 1.

    >>> require_sizes(dim=8, depth=0)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: depth must be a whole number of at least 1, got 0
    """
    for name, size in sizes.items():
        require_whole(name, size)


def require_heads(dim: int, heads: int, kv_heads: int | None = None) -> None:
    """Raise InputError unless the features divide into heads, and the heads into those of keys and values.

    >>> require_heads(32, 3)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: dim must be a multiple of heads: 32 features, 3 heads
    """
    kv_heads = heads if kv_heads is None else kv_heads
    require_sizes(dim=dim, heads=heads, kv_heads=kv_heads)
    if dim % heads:
        raise InputError(f"dim must be a multiple of heads: {dim} features, {heads} heads")
    if heads % kv_heads:
        raise InputError(f"heads must be a multiple of kv_heads: {heads} query heads, {kv_heads} of keys and values")


def require_patches(image: int, patch: int) -> None:
    """Raise InputError unless a side of `image` pixels divides into patches.

    >>> require_patches(8, 3)
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: image must be a multiple of patch: 8 and 3 pixels
    """
    if image % patch:
        raise InputError(f"image must be a multiple of patch: {image} and {patch} pixels")


def require_norm(norm: str) -> None:
    """Raise InputError unless it is the name of a norm.

    >>> require_norm("leyer")
    Traceback (most recent call last):
    ...
    ctrlattn.InputError: norm must be one of layer, rms, none, got 'leyer': did you mean 'layer'?
    """
    if norm not in get_args(Norm):
        raise InputError(
            f"norm must be one of {', '.join(get_args(Norm))}, got {norm!r}: {did_you_mean(norm, get_args(Norm))}"
        )
