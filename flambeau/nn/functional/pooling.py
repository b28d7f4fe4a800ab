"""Pooling: maxima, means and norms over windows."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite, reader

from .common import into, shown, sizes


def _window(n: int, kernel_size: Any, stride: Any, padding: Any = 0, dilation: Any = 1) -> tuple[Any, ...]:
    """Kernel, stride (default: the kernel), padding and dilation as tuples of ``n``."""
    if stride is None or (isinstance(stride, (tuple, list)) and not stride):
        stride = kernel_size
    return tuple(sizes(v, n, "pooling", "argument") for v in (kernel_size, stride, padding, dilation))


def _batched(n: int, input: Any, name: str) -> Any:
    if input.ndim == n + 1:
        return input.unsqueeze(0)
    if input.ndim != n + 2:
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D input tensor, but got: {shown(input.shape)}")
    return input


def _like(y: Any, input: Any, n: int) -> Any:
    return y.squeeze(0) if input.ndim == n + 1 else y


def _max_pool(n: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool) -> Any:
    k, s, p, d = _window(n, kernel_size, stride, padding, dilation)
    for size, pad in zip(k, p, strict=True):
        if pad > size // 2 or pad < 0:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={pad}, kernel_size={size} and dilation={d[0]}")
    if return_indices:
        return _with_indices, (n, k, s, p, d, ceil_mode)
    return getattr(fl, f"max_pool{n}d"), (k, s, p, d, ceil_mode)


def _with_indices(input: Any, n: int, *how: Any) -> Any:
    y, i = getattr(fl, f"max_pool{n}d_with_indices")(_batched(n, input, f"max_pool{n}d"), *how)
    return _like(y, input, n), _like(i, input, n)


@reader
def max_pool1d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over windows of ``(N, C, L)`` or ``(C, L)``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or tuple
        The windows; the stride is the kernel's size unless given.
    ceil_mode : bool
        Let the last window reach over the edge.
    return_indices : bool
        Also return where the maxima are, as numbers in the flattened spatial dimensions.
    """
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@reader
def max_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over windows of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`max_pool1d`."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@reader
def max_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over windows of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; see :func:`max_pool1d`."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@reader
def max_pool1d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool1d` and where the maxima are."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


@reader
def max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool2d` and where the maxima are."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


@reader
def max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """:func:`max_pool3d` and where the maxima are."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool(n: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, count_include_pad: bool, divisor_override: int | None) -> Any:
    k, s, p, _ = _window(n, kernel_size, stride, padding)
    for size, pad in zip(k, p, strict=True):
        if pad > size // 2 or pad < 0:
            raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={pad}, kernel_size={size} and dilation=1")
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"avg_pool{n}d(): Expected {n + 1}D or {n + 2}D input tensor, but got: {shown(input.shape)}")
    return getattr(fl, f"avg_pool{n}d"), (k, s, p, ceil_mode, count_include_pad, *(() if n == 1 else (divisor_override,)))


@reader
def avg_pool1d(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True) -> Any:
    """Means over windows of ``(N, C, L)`` or ``(C, L)``; ``count_include_pad`` counts padding among the elements."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@reader
def avg_pool2d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    out: Any = None,
) -> Any:
    """Means over windows of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`avg_pool1d`."""
    pool, how = _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return (pool, how) if out is None else (lambda x: into(out, pool(x, *how)), ())


@reader
def avg_pool3d(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    *,
    out: Any = None,
) -> Any:
    """Means over windows of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; see :func:`avg_pool1d`."""
    pool, how = _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    return (pool, how) if out is None else (lambda x: into(out, pool(x, *how)), ())


# ------------------------------------------------------------------ adaptive


def _output(n: int, input: Any, output_size: Any, name: str) -> tuple[int, ...]:
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got {shown(input.shape)}")
    want = sizes(output_size, n, name, "output_size")
    return tuple(size if o is None else o for o, size in zip(want, input.shape[-n:], strict=True))


def _adaptive_avg_pool(n: int, input: Any, output_size: Any) -> Any:
    name = f"adaptive_avg_pool{n}d"
    return getattr(fl, name), (_output(n, input, output_size, name),)


@reader
def adaptive_avg_pool1d(input: Any, output_size: Any) -> Any:
    """Means over ``output_size`` windows that cover the last dimension of ``(N, C, L)`` or ``(C, L)``."""
    return _adaptive_avg_pool(1, input, output_size)


@reader
def adaptive_avg_pool2d(input: Any, output_size: Any) -> Any:
    """Means over windows that cover ``(N, C, H, W)`` or ``(C, H, W)``; None keeps a size."""
    return _adaptive_avg_pool(2, input, output_size)


@reader
def adaptive_avg_pool3d(input: Any, output_size: Any) -> Any:
    """Means over windows that cover ``(N, C, D, H, W)`` or ``(C, D, H, W)``; None keeps a size."""
    return _adaptive_avg_pool(3, input, output_size)


def _adaptive_max_pool(n: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    name = f"adaptive_max_pool{n}d"
    pair = getattr(fl, name)(input, _output(n, input, output_size, name))
    return pair if return_indices else pair[0]


def adaptive_max_pool1d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over ``output_size`` windows that cover the last dimension of ``(N, C, L)`` or ``(C, L)``."""
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over windows that cover ``(N, C, H, W)`` or ``(C, H, W)``; None keeps a size."""
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """Maxima over windows that cover ``(N, C, D, H, W)`` or ``(C, D, H, W)``; None keeps a size."""
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool1d` and where the maxima are."""
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool2d` and where the maxima are."""
    return _adaptive_max_pool(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(input: Any, output_size: Any, return_indices: bool = False) -> Any:
    """:func:`adaptive_max_pool3d` and where the maxima are."""
    return _adaptive_max_pool(3, input, output_size, True)


# ------------------------------------------------------------------ fractional


@composite(node="FractionalMaxPool2D")
def _max_bins(x: Any, places: Any, shape: tuple[int, ...]) -> Any:
    """Maxima over windows given as numbers of elements: ``places`` is (windows, elements), a short window repeats its first."""
    windows = x.index_select(-1, places.reshape(-1)).unflatten(-1, tuple(places.shape))
    value, at = windows.max(-1)
    index = places.expand(*windows.shape[:-2], *places.shape).gather(-1, at.unsqueeze(-1)).squeeze(-1)
    return value.unflatten(-1, shape), index.unflatten(-1, shape)


def _max_over(input: Any, bins: list[list[range]]) -> tuple[Any, Any]:
    """Maxima, and their numbers, over the products of the windows in ``bins``, one list per spatial dimension."""
    n = len(bins)
    spatial = input.shape[-n:]
    places: list[list[int]] = [[0]]
    for windows, size in zip(bins, spatial, strict=True):
        places = [[p * size + i for p in place for i in w] for place in places for w in windows]
    longest = max((len(p) for p in places), default=1)
    table = fl.tensor([p + p[:1] * (longest - len(p)) for p in places], dtype=fl.int64, device=input.device)
    return _max_bins(input.flatten(-n), table, tuple(len(b) for b in bins))  # type: ignore[no-any-return]


def _fractional_max_pool(n: int, input: Any, kernel_size: Any, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any) -> Any:
    if output_size is None and output_ratio is None:
        raise ValueError(f"fractional_max_pool{n}d requires specifying either an output_size or an output_ratio")
    kernel = sizes(kernel_size, n)
    spatial = input.shape[-n:]
    if output_size is None:
        ratio = sizes(output_ratio, n)
        output_size = tuple(int(s * r) for s, r in zip(spatial, ratio, strict=True))
    out = sizes(output_size, n)
    for o, k, s in zip(out, kernel, spatial, strict=True):
        if o + k - 1 > s:
            raise RuntimeError(f"fractional_max_pool{n}d(): pool size ({k}) too large relative to input size ({s})")
    x = input if input.ndim == n + 2 else input.unsqueeze(0)
    if x.numel() == 0:
        empty = (*input.shape[:-n], *out)
        y, i = input.reshape(empty), fl.empty(empty, dtype=fl.int64, device=input.device)
        return (y, i) if return_indices else y
    if samples is None:
        samples = fl.rand(x.shape[0], x.shape[1], n, dtype=input.dtype, device=input.device)
    values, indices = [], []
    # every plane has windows of its own; in two dimensions the first draw is for the width
    order = (1, 0) if n == 2 else (0, 1, 2)
    for plane, draws in zip(x.reshape(-1, *spatial), samples.reshape(-1, n).tolist(), strict=True):
        bins = [_fractional_bins(s, o, k, draws[order[i]]) for i, (s, o, k) in enumerate(zip(spatial, out, kernel, strict=True))]
        v, i = _max_over(plane, bins)
        values.append(v)
        indices.append(i)
    shape = (*x.shape[:2], *out)
    y, i = (_like(fl.stack(t).reshape(shape), input, n) for t in (values, indices))
    return (y, i) if return_indices else y


def _fractional_bins(size: int, out: int, kernel: int, draw: float) -> list[range]:
    """Windows at fractional steps from a random start (Graham, 2014)."""
    alpha = (size - kernel) / (out - 1) if out > 1 else 0.0
    starts = [int((i + draw) * alpha) - int(draw * alpha) for i in range(out - 1)] + [size - kernel]
    return [range(s, s + kernel) for s in starts]


def fractional_max_pool2d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """Maxima over windows of random, fractional steps (Graham, 2014); input ``(N, C, H, W)`` or ``(C, H, W)``."""
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool3d(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`fractional_max_pool2d` of ``(N, C, T, H, W)`` or ``(C, T, H, W)``."""
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, return_indices, _random_samples)


def fractional_max_pool2d_with_indices(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`fractional_max_pool2d` and where the maxima are."""
    return _fractional_max_pool(2, input, kernel_size, output_size, output_ratio, True, _random_samples)


def fractional_max_pool3d_with_indices(
    input: Any,
    kernel_size: Any,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Any:
    """:func:`fractional_max_pool3d` and where the maxima are."""
    return _fractional_max_pool(3, input, kernel_size, output_size, output_ratio, True, _random_samples)


# ------------------------------------------------------------------ inverses and norms


def _max_unpool(n: int, input: Any, indices: Any, kernel_size: Any, stride: Any, padding: Any, output_size: Any) -> Any:
    k, s, p, _ = _window(n, kernel_size, stride, padding)
    if indices.dtype is not fl.int64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {str(indices.dtype).rpartition('.')[2]}")
    if input.shape != indices.shape:
        raise RuntimeError(
            f"Expected shape of indices to be same as that of the input tensor ({shown(input.shape)}) but got indices tensor with shape: {shown(indices.shape)}"
        )
    default = [(size - 1) * b + a - 2 * c for size, a, b, c in zip(input.shape[-n:], k, s, p, strict=True)]
    if output_size is None:
        out = default
    else:
        out = list(output_size)[-n:] if len(output_size) == n + 2 else list(output_size)
        if len(out) != n:
            raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(output_size)}'")
        for d, o in enumerate(out):
            if not default[d] - s[d] < o < default[d] + s[d]:
                raise ValueError(f'invalid output_size "{out}" (dim {d} must be between {default[d] - s[d]} and {default[d] + s[d]})')
    flat = fl.zeros(*input.shape[:-n], math.prod(out), dtype=input.dtype, device=input.device)
    return flat.scatter(-1, indices.flatten(-n), input.flatten(-n)).unflatten(-1, tuple(out))


def max_unpool1d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """The partial inverse of :func:`max_pool1d`: maxima at their places, zero elsewhere."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """The partial inverse of :func:`max_pool2d`."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input: Any, indices: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, output_size: Any = None) -> Any:
    """The partial inverse of :func:`max_pool3d`."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _lp_pool(n: int, input: Any, norm_type: float, kernel_size: Any, stride: Any, ceil_mode: bool) -> Any:
    k, s, _, _ = _window(n, kernel_size, stride)
    mean = getattr(fl, f"avg_pool{n}d")(input.pow(norm_type), k, s, 0, ceil_mode)
    return (fl.sign(mean) * fl.relu(fl.abs(mean))).mul(math.prod(k)).pow(1.0 / norm_type)


def lp_pool1d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """``(sum of x ** norm_type) ** (1 / norm_type)`` over windows of ``(N, C, L)``."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """:func:`lp_pool1d` over ``(N, C, H, W)``."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input: Any, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Any:
    """:func:`lp_pool1d` over ``(N, C, D, H, W)``."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)
