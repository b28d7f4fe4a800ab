"""Dropout and its relatives.  The mask is drawn first, from the default generator; a composite applies it."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .common import warn


def _check(p: float) -> None:
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _kept(input: Any, p: float, shape: Any) -> Any:
    """1 with probability ``1 - p``, else 0."""
    return fl.bernoulli(input if shape == input.shape else fl.empty(shape, dtype=input.dtype, device=input.device), 1 - p)


@composite(node="Mul")
def _apply_mask(x: Any, kept: Any, scale: float) -> Any:
    return x * (kept * scale)


def _drop(input: Any, p: float, shape: Any, training: bool, inplace: bool) -> Any:
    """Zero with probability ``p`` every part of ``input`` that shares an entry of a mask of ``shape``."""
    _check(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        # nothing is kept: PyTorch draws no numbers for it
        return input.mul_(0) if inplace else input * fl.zeros((), dtype=input.dtype)
    kept = _kept(input, p, shape)
    if inplace:
        return input.mul_(kept.div_(1 - p))
    return _apply_mask(input, kept, 1 / (1 - p))


def dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero each element with probability ``p`` and scale the others by ``1 / (1 - p)``, in training."""
    return _drop(input, p, input.shape, training, inplace)


def _channels(input: Any) -> tuple[int, ...]:
    return (*input.shape[:2], *[1] * (input.ndim - 2))


def dropout1d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of ``(N, C, L)`` or ``(C, L)``."""
    _check(p)
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"dropout1d: Expected 2D or 3D input, but received a {input.ndim}D input. Note that dropout1d exists to provide channel-wise "
            "dropout on "
            "inputs with 1 spatial dimension, a channel dimension, and an optional batch dimension (i.e. 2D or 3D inputs)."
        )
    return _unbatched(input, 2, p, training, inplace)


def _unbatched(input: Any, ndim: int, p: float, training: bool, inplace: bool) -> Any:
    x = input.unsqueeze(0) if input.ndim == ndim else input
    y = _drop(x, p, _channels(x), training, inplace)
    if y is x:
        return input
    return y.squeeze(0) if input.ndim == ndim else y


def dropout2d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of ``(N, C, H, W)``; a 3-D input is taken for ``(N, C, L)``."""
    _check(p)
    if input.ndim not in (3, 4):
        warn(
            f"dropout2d: Received a {input.ndim}-D input to dropout2d, which is deprecated and will result in an error in a future "
            "release. To retain the behavior and "
            "silence this warning, please use dropout instead. Note that dropout2d exists to provide channel-wise dropout on inputs with "
            "2 spatial dimensions, a "
            "channel dimension, and an optional batch dimension (i.e. 3D or 4D inputs)."
        )
    if input.ndim == 3:
        warn(
            "dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - input is "
            "interpreted as shape (N, C, L), "
            "where C is the channel dim. This behavior will change in a future release to interpret the input as one without a batch "
            "dimension, i.e. shape (C, H, "
            "W). To maintain the 1D channel-wise dropout behavior, please switch to using dropout1d instead."
        )
    return _drop(input, p, _channels(input), training, inplace)


def dropout3d(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    """Zero whole channels of ``(N, C, D, H, W)`` or ``(C, D, H, W)``."""
    _check(p)
    if input.ndim not in (4, 5):
        warn(
            f"dropout3d: Received a {input.ndim}-D input to dropout3d, which is deprecated and will result in an error in a future "
            "release. To retain the behavior and "
            "silence this warning, please use dropout instead. Note that dropout3d exists to provide channel-wise dropout on inputs with "
            "3 spatial dimensions, a "
            "channel dimension, and an optional batch dimension (i.e. 4D or 5D inputs)."
        )
        return _drop(input, p, _channels(input), training, inplace)
    return _unbatched(input, 4, p, training, inplace)


@composite(node="Add")
def _apply_alpha(x: Any, kept: Any, a: float, b: float) -> Any:
    # a dropped value becomes -alpha of SELU; then mean and variance are restored
    return x * (kept * a) + ((kept - 1) * (1.7580993408473766 * a) + b)


def _alpha(input: Any, p: float, shape: Any, training: bool, inplace: bool) -> Any:
    _check(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input.mul_(0) if inplace else input * fl.zeros((), dtype=input.dtype)
    kept = _kept(input, p, shape)
    alpha = 1.7580993408473766
    a = 1 / ((alpha * alpha * p + 1) * (1 - p)) ** 0.5
    b = alpha * a * p
    y = _apply_alpha(input, kept, a, b)
    return input.copy_(y) if inplace else y


def alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """Dropout that keeps the mean and variance of SELU networks."""
    return _alpha(input, p, input.shape, training, inplace)


def feature_alpha_dropout(input: Any, p: float = 0.5, training: bool = False, inplace: bool = False) -> Any:
    """:func:`alpha_dropout` of whole channels of ``(N, C, *)``."""
    return _alpha(input, p, _channels(input), training, inplace)
