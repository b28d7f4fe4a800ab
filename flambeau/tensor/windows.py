"""Window functions: weights that fall off towards the ends of a stretch of samples."""

from __future__ import annotations

import math
from typing import Any

from ..core import dtype as dtypes
from ..core.dtype import compute_dtype, float64
from ..ops.definition import OPS, title


def _window(name: str, length: int, periodic: bool, weights: Any, kwargs: dict[str, Any]) -> Any:
    """``weights(k, n)`` at the places k of a symmetric window of n + 1; a periodic one is a symmetric one longer by one without its end."""
    d = kwargs.pop("dtype", None) or dtypes.get_default_dtype()
    grad = kwargs.pop("requires_grad", False)
    if not d.is_floating_point:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {title(d)}\n{name}: dtype={d} holds no fractions")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length < 2:
        made = OPS["ones"](length, dtype=d, **kwargs)
    else:
        wide = float64 if d is float64 else compute_dtype(d)
        made = weights(OPS["arange"](length, dtype=wide, **kwargs), length if periodic else length - 1).to(d)
    return made.requires_grad_() if grad else made


def hann_window(window_length: int, periodic: bool = True, **kwargs: Any) -> Any:
    """The Hann window ``1/2 - 1/2 cos(2πk / n)``: a raised cosine.

    Parameters
    ----------
    window_length : int
        The number of weights.
    periodic : bool
        n is the length, as for a Fourier transform; else the length less one, and the window is symmetric.
    dtype, device, requires_grad
        As for :func:`zeros`.

    Raises
    ------
    RuntimeError
        If the length is negative, or the dtype not of floating point.
    """
    return _window("hann_window", window_length, periodic, lambda k, n: 0.5 - 0.5 * (k * (2 * math.pi / n)).cos(), kwargs)


def hamming_window(window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, **kwargs: Any) -> Any:
    """The Hamming window ``alpha - beta cos(2πk / n)``; arguments as in :func:`hann_window`."""
    return _window("hamming_window", window_length, periodic, lambda k, n: alpha - beta * (k * (2 * math.pi / n)).cos(), kwargs)


def blackman_window(window_length: int, periodic: bool = True, **kwargs: Any) -> Any:
    """The Blackman window ``0.42 - 0.5 cos(2πk / n) + 0.08 cos(4πk / n)``; arguments as in :func:`hann_window`."""
    return _window("blackman_window", window_length, periodic,
                   lambda k, n: 0.42 - 0.5 * (k * (2 * math.pi / n)).cos() + 0.08 * (k * (4 * math.pi / n)).cos(), kwargs)


def bartlett_window(window_length: int, periodic: bool = True, **kwargs: Any) -> Any:
    """The Bartlett window, a triangle: ``1 - |2k / n - 1|``; arguments as in :func:`hann_window`."""
    return _window("bartlett_window", window_length, periodic, lambda k, n: 1 - (k * (2 / n) - 1).abs(), kwargs)


def kaiser_window(window_length: int, periodic: bool = True, beta: float = 12.0, **kwargs: Any) -> Any:
    """The Kaiser window ``I0(beta sqrt(1 - (2k / n - 1)²)) / I0(beta)``; arguments as in :func:`hann_window`."""
    def weights(k: Any, n: int) -> Any:
        inside = (1 - (k * (2 / n) - 1) ** 2).clamp(min=0).sqrt() * beta
        return inside.i0() / OPS["full_like"](inside, beta).i0()

    return _window("kaiser_window", window_length, periodic, weights, kwargs)


__all__ = ["bartlett_window", "blackman_window", "hamming_window", "hann_window", "kaiser_window"]
