"""Padding, rearranging and resampling of images and other grids."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite, reader

from .common import shown, warn

# ------------------------------------------------------------------ padding


def _pad_places(mode: str, size: int, before: int, after: int) -> list[int]:
    """For each place of the padded dimension, where its value comes from."""
    if mode == "circular":
        # what negative padding cuts off does not come round again
        kept = range(max(-before, 0), size - max(-after, 0))
        return [kept[i % len(kept)] for i in range(-max(before, 0), len(kept) + max(after, 0))]
    places = range(-before, size + after)
    if mode == "reflect":
        return [abs(i) if i < size else 2 * (size - 1) - i for i in places]
    return [min(max(i, 0), size - 1) for i in places]


@composite(node="ReflectionPad2D")
def _pad_reflect(x: Any, tables: Any) -> Any:
    return _take(x, tables)


@composite(node="ReplicationPad2D")
def _pad_replicate(x: Any, tables: Any) -> Any:
    return _take(x, tables)


def _take(x: Any, tables: Any) -> Any:
    """Elements at the places of ``tables``, one table for each of the last dimensions (None: all)."""
    for i, table in enumerate(reversed(tables)):
        if table is not None:
            x = x.index_select(x.ndim - 1 - i, table)
    return x


def pad(input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Any:
    """Enlarge (or, with negative numbers, cut) the last dimensions.

    Parameters
    ----------
    pad : sequence of int
        ``(before, after)`` of the last dimension, then of the one before it, ...
    mode : str
        ``constant``; ``reflect`` (mirrored without the edge), ``replicate`` (the edge repeated), ``circular``: these pad the last 1 to 3
        dimensions of a batched or unbatched grid.
    value : float
        What ``constant`` fills with, 0 if left out.
    """
    amounts = [int(p) for p in pad]
    if len(amounts) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(amounts) > 2 * input.ndim:
        raise RuntimeError(
            f"Padding length should be less than or equal to two times the input dimension but got padding length {len(amounts)} and "
            "input of dimension "
            f"{input.ndim}"
        )
    if mode == "constant":
        return fl.constant_pad_nd(input, amounts, 0 if value is None else value)
    if value is not None and value != 0:
        raise ValueError(f'Padding mode "{mode}" doesn\'t take in value argument')
    n = len(amounts) // 2
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    if not 1 <= n <= 3 or input.ndim not in (n + 1, n + 2):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    tables: list[Any] = []
    for i in reversed(range(n)):
        before, after = amounts[2 * i], amounts[2 * i + 1]
        size = input.shape[-1 - i]
        if mode == "reflect" and (before >= size or after >= size):
            raise RuntimeError(
                f"Argument #4: Padding size should be less than the corresponding input dimension, but got: padding ({before}, {after}) "
                "at dimension "
                f"{input.ndim - 1 - i} of input {shown(input.shape)}"
            )
        if mode == "circular" and (before > size or after > size):
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if size + before + after < (0 if mode == "circular" else 1):
            raise RuntimeError(f"The input size {size}, plus negative padding {before} and {after} resulted in a negative output size, which is invalid.")
        places = _pad_places(mode, size, before, after)
        tables.append(None if before == after == 0 else fl.tensor(places, dtype=fl.int64, device=input.device))
    if all(t is None for t in tables):
        return input.clone()
    return (_pad_reflect if mode == "reflect" else _pad_replicate)(input, tables)


# ------------------------------------------------------------------ rearranging


@composite(node="PixelShuffle")
def _pixel_shuffle(x: Any, r: int) -> Any:
    *lead, c, h, w = x.shape
    n = len(lead)
    x = x.reshape(*lead, c // (r * r), r, r, h, w)
    return x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)


def pixel_shuffle(input: Any, upscale_factor: int) -> Any:
    """Move channels into space: ``(*, C*r*r, H, W)`` to ``(*, C, H*r, W*r)``."""
    r = upscale_factor
    if input.ndim < 3:
        raise RuntimeError(f"pixel_shuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    if input.shape[-3] % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
            f"input.size(-3)={input.shape[-3]} is not "
            f"divisible by {r * r}"
        )
    return _pixel_shuffle(input, r)


@composite(node="PixelUnshuffle")
def _pixel_unshuffle(x: Any, r: int) -> Any:
    *lead, c, h, w = x.shape
    n = len(lead)
    x = x.reshape(*lead, c, h // r, r, w // r, r)
    return x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)


def pixel_unshuffle(input: Any, downscale_factor: int) -> Any:
    """Move space into channels: ``(*, C, H*r, W*r)`` to ``(*, C*r*r, H, W)``."""
    r = downscale_factor
    if input.ndim < 3:
        raise RuntimeError(f"pixel_unshuffle expects input to have at least 3 dimensions, but got input with {input.ndim} dimension(s)")
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    for what, d in (("height", -2), ("width", -1)):
        if input.shape[d] % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {what} to be divisible by downscale_factor, but input.size({d})={input.shape[d]} is not divisible by {r}"
            )
    return _pixel_unshuffle(input, r)


@composite(node="Permute")
def _channel_shuffle(x: Any, groups: int) -> Any:
    n, c, *rest = x.shape
    return x.reshape(n, groups, c // groups, *rest).transpose(1, 2).reshape(x.shape)


def channel_shuffle(input: Any, groups: int) -> Any:
    """Interleave the groups of channels of ``(N, C, *)``."""
    if input.ndim < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {shown(input.shape)}")
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if input.shape[1] % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {input.shape[1]} channels and {groups} groups.")
    return input.clone() if input.numel() == 0 else _channel_shuffle(input, groups)


native_channel_shuffle = channel_shuffle

# ------------------------------------------------------------------ resampling along axes

_NEEDS = {
    "nearest": (3, 4, 5),
    "nearest-exact": (3, 4, 5),
    "area": (3, 4, 5),
    "linear": (3,),
    "bilinear": (4,),
    "trilinear": (5,),
    "bicubic": (4,),
    "lanczos": (4,),
}


def _source(o: int, scale: float, align_corners: bool) -> float:
    """Where output place ``o`` lies in the input."""
    return o * scale if align_corners else (o + 0.5) * scale - 0.5


def _cubic(t: float, a: float = -0.75) -> list[float]:
    """Keys' cubic convolution weights of the four neighbours at distance ``1 + t, t, 1 - t, 2 - t``."""

    def near(x: float) -> float:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: float) -> float:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _taps(mode: str, size: int, out: int, scale: float | None, align_corners: bool, antialias: bool) -> list[list[tuple[int, float]]]:
    """For each output place the input places that it mixes, with their weights."""
    if mode in ("nearest", "nearest-exact"):
        step = 1 / scale if scale else size / out
        shift = 0.5 if mode == "nearest-exact" else 0.0
        return [[(min(int((o + shift) * step), size - 1), 1.0)] for o in range(out)]
    if align_corners:
        step = (size - 1) / (out - 1) if out > 1 else 0.0
    else:
        step = 1 / scale if scale else size / out
    taps: list[list[tuple[int, float]]] = []
    cubic = mode == "bicubic"
    if antialias:
        support = (2.0 if cubic else 1.0) * max(step, 1.0)
        shrink = 1 / max(step, 1.0)
        for o in range(out):
            centre = step * (o + 0.5)
            first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), size)
            weights = []
            for i in range(first, last):
                x = abs((i - centre + 0.5) * shrink)
                if cubic:
                    a = -0.5
                    w = ((a + 2) * x - (a + 3)) * x * x + 1 if x < 1 else (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0.0
                else:
                    w = max(1 - x, 0.0)
                weights.append(w)
            total = sum(weights) or 1.0
            taps.append([(first + i, w / total) for i, w in enumerate(weights)])
        return taps
    for o in range(out):
        x = _source(o, step, align_corners)
        if cubic:
            i = math.floor(x)
            taps.append([(min(max(i - 1 + k, 0), size - 1), w) for k, w in enumerate(_cubic(x - i))])
        else:
            x = max(x, 0.0)
            i = min(int(x), size - 1)
            t = min(max(x - i, 0.0), 1.0)
            taps.append([(i, 1 - t), (min(i + 1, size - 1), t)])
    return taps


@composite(node="UpsampleBilinear2D")
def _mix(x: Any, places: Any, weights: Any) -> Any:
    """Σ of ``x`` at ``places`` times ``weights``, along each of the last dimensions; tables are (taps, out)."""
    like = x.dtype
    for i, (table, w) in enumerate(zip(reversed(places), reversed(weights), strict=True)):
        dim = x.ndim - 1 - i
        y = None
        for k in range(w.shape[0]):
            term = x.index_select(dim, table[k]) * w[k].reshape(-1, *[1] * i)
            y = term if y is None else y + term
        x = y
    return x.to(like)


@composite(node="UpsampleNearest2D")
def _nearest(x: Any, tables: Any) -> Any:
    for i, table in enumerate(reversed(tables)):
        x = x.index_select(x.ndim - 1 - i, table)
    return x


@reader
def interpolate(
    input: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Any:
    """Resample ``(N, C, *)`` to another size.

    Parameters
    ----------
    size : int or tuple
        The new spatial size; or
    scale_factor : float or tuple
        what the spatial size is multiplied by.
    mode : str
        ``nearest``, ``nearest-exact``, ``linear`` (3-D input), ``bilinear``, ``bicubic`` (4-D), ``trilinear`` (5-D), ``area``.
    align_corners : bool
        Whether the corner elements, rather than the outer edges, stay in place.
    antialias : bool
        Widen the filter when shrinking (``bilinear``, ``bicubic``).
    """
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError("align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | trilinear")
    elif align_corners is None:
        align_corners = False
    n = input.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    spatial = list(input.shape[2:])
    scales: list[float | None] = [None] * n
    if size is not None:
        if isinstance(size, (list, tuple)) and len(size) != n:
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input with spatial dimensions of "
                f"{spatial} and output size of {size}. Please provide input tensor in (N, C, d1, d2, ...,dK) format and output size in "
                "(o1, o2, ...,oK) format."
            )
        out = [int(s) for s in size] if isinstance(size, (list, tuple)) else [int(size)] * n
        if recompute_scale_factor:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    else:
        if isinstance(scale_factor, (list, tuple)) and len(scale_factor) != n:
            raise ValueError(
                "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial dimensions of "
                f"{spatial} and scale_factor of shape {scale_factor}. Please provide input tensor in (N, C, d1, d2, ...,dK) format and "
                "scale_factor in "
                "(s1, s2, ...,sK) format."
            )
        factors = [float(s) for s in scale_factor] if isinstance(scale_factor, (list, tuple)) else [float(scale_factor)] * n
        out = [math.floor(s * f) for s, f in zip(spatial, factors, strict=True)]
        if not recompute_scale_factor:
            scales = list(factors)
    if antialias and not (mode in ("bilinear", "bicubic") and input.ndim == 4):
        raise ValueError("Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D tensor as input")
    if mode not in _NEEDS or input.ndim not in _NEEDS[mode]:
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: nearest | linear | bilinear | "
            "bicubic | trilinear "
            f"| area | nearest-exact (got {mode})"
        )
    if min(out) <= 0 or min(spatial) <= 0:
        raise RuntimeError(f"Input and output sizes should be greater than 0, but got input {spatial} and output {out}")
    if mode == "area":
        from . import pooling

        return getattr(pooling, f"adaptive_avg_pool{n}d"), (tuple(out),)
    taps = [_taps(mode, s, o, f, bool(align_corners), antialias) for s, o, f in zip(spatial, out, scales, strict=True)]
    with fl.inference_mode(False):      # the tables are kept for other calls
        if mode in ("nearest", "nearest-exact"):
            return _nearest, ([fl.tensor([t[0][0] for t in dim], dtype=fl.int64, device=input.device) for dim in taps],)
        d = input.dtype if input.dtype is fl.float64 else fl.float32
        places, weights = [], []
        for dim in taps:
            longest = max(len(t) for t in dim)
            full = [t + [(t[0][0], 0.0)] * (longest - len(t)) for t in dim]
            places.append(fl.tensor([[t[k][0] for t in full] for k in range(longest)], dtype=fl.int64, device=input.device))
            weights.append(fl.tensor([[t[k][1] for t in full] for k in range(longest)], dtype=d, device=input.device))
    return _mix, (places, weights)


def upsample(input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None) -> Any:
    """The older name of :func:`interpolate`."""
    warn("`nn.functional.upsample` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """:func:`interpolate` with ``mode="nearest"``."""
    warn("`nn.functional.upsample_nearest` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Any, size: Any = None, scale_factor: Any = None) -> Any:
    """:func:`interpolate` with ``mode="bilinear", align_corners=True``."""
    warn("`nn.functional.upsample_bilinear` is deprecated. Use `nn.functional.interpolate` instead.")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


# ------------------------------------------------------------------ sampling at given places


def affine_grid(theta: Any, size: Any, align_corners: bool | None = None) -> Any:
    """The sampling places of affine maps, for :func:`grid_sample`.

    Parameters
    ----------
    theta : Tensor
        Shape ``(N, 2, 3)`` or ``(N, 3, 4)``.
    size : sequence of int
        The output's ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
    """
    if align_corners is None:
        warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
            "align_corners=True if the old behavior is desired. See "
            "the documentation of grid_sample for details."
        )
        align_corners = False
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(f"affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. Got size {list(size)}")
    if theta.ndim != 3 or theta.shape[-2] != n or theta.shape[-1] != n + 1:
        raise ValueError(f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size {list(size)}. Got {theta.shape}.")
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {list(size)}")
    spatial = list(size[2:])
    axes = []
    for s in spatial:
        half = (s - 1) / s if not align_corners else 1.0
        axes.append(fl.linspace(-half, half, s, dtype=theta.dtype, device=theta.device) if s > 1 else fl.zeros(1, dtype=theta.dtype, device=theta.device))
    places = []
    for i in reversed(range(n)):  # x, y, z
        places.append(axes[i].reshape(*[1] * i, -1, *[1] * (n - 1 - i)).expand(spatial))
    places.append(fl.ones(spatial, dtype=theta.dtype, device=theta.device))
    base = fl.stack(places, -1).reshape(1, -1, n + 1)
    return fl.matmul(base, theta.transpose(1, 2)).reshape(theta.shape[0], *spatial, n)


def _unnormalise(x: Any, size: int, align_corners: bool) -> Any:
    """From -1 .. 1 to element numbers."""
    return (x + 1) * ((size - 1) / 2) if align_corners else ((x + 1) * size - 1) / 2


def _bounce(x: Any, low: float, high: float) -> Any:
    """Reflect at ``low`` and ``high`` until within."""
    if low == high:
        return x * 0
    span = high - low
    away = (x - low).abs()
    extra = away - fl.floor(away / span) * span
    flips = fl.floor(away / span)
    even = (flips - fl.floor(flips / 2) * 2) == 0
    return fl.where(even, extra + low, span - extra + low)


def _wrapped(x: Any, size: int, padding_mode: str, align_corners: bool) -> Any:
    if padding_mode == "border":
        return x.clamp(0, size - 1)
    if padding_mode == "reflection":
        return (_bounce(x, 0, size - 1) if align_corners else _bounce(x, -0.5, size - 0.5)).clamp(0, size - 1)
    return x


@composite(node="GridSampler2D")
def _grid_sample(x: Any, grid: Any, mode: str, padding_mode: str, align_corners: bool) -> Any:
    n = x.ndim - 2
    batch, channels, *spatial = x.shape
    flat = x.flatten(2)
    out = grid.shape[1:-1]
    # one coordinate per spatial dimension, first dimension first
    at = [_unnormalise(grid[..., n - 1 - i], s, align_corners) for i, s in enumerate(spatial)]
    if mode != "bicubic":
        at = [_wrapped(a, s, padding_mode, align_corners) for a, s in zip(at, spatial, strict=True)]

    def value(places: Any) -> Any:
        inside: Any = None
        number: Any = None
        for p, s in zip(places, spatial, strict=True):
            if mode == "bicubic":
                p = _wrapped(p, s, padding_mode, align_corners)
            ok = (p >= 0) & (p <= s - 1)
            inside = ok if inside is None else inside & ok
            i = p.clamp(0, s - 1).long()
            number = i if number is None else number * s + i
        picked = flat.gather(2, number.reshape(batch, 1, -1).expand(-1, channels, -1)).reshape(batch, channels, *out)
        return fl.where(inside.unsqueeze(1), picked, 0.0)

    if mode == "nearest":
        return value([fl.round(a).detach() for a in at])
    floor = [fl.floor(a).detach() for a in at]
    part = [a - f for a, f in zip(at, floor, strict=True)]
    if mode == "bicubic":
        weights = [[w.unsqueeze(1) for w in _cubic_tensor(p)] for p in part]
        offsets = range(-1, 3)
    else:
        weights = [[(1 - p).unsqueeze(1), p.unsqueeze(1)] for p in part]
        offsets = range(2)
    total = None
    corners: list[tuple[Any, ...]] = [()]
    for _ in spatial:
        corners = [(*c, k) for c in corners for k in range(len(offsets))]
    for c in corners:
        term = value([f + offsets[k] for f, k in zip(floor, c, strict=True)])
        for w, k in zip(weights, c, strict=True):
            term = term * w[k]
        total = term if total is None else total + term
    return total


def _cubic_tensor(t: Any, a: float = -0.75) -> list[Any]:
    def near(x: Any) -> Any:
        return ((x * (a + 2) - (a + 3)) * x) * x + 1

    def far(x: Any) -> Any:
        return ((x * a - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def grid_sample(input: Any, grid: Any, mode: str = "bilinear", padding_mode: str = "zeros", align_corners: bool | None = None) -> Any:
    """Values of ``input`` at the places of ``grid``.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C, H, W)`` or ``(N, C, D, H, W)``.
    grid : Tensor
        Places ``(x, y)`` or ``(x, y, z)`` in -1 .. 1, shape ``(N, *out, 2 or 3)``.
    mode : str
        ``bilinear`` (trilinear in 3-D), ``nearest``, ``bicubic`` (2-D).
    padding_mode : str
        What lies outside: ``zeros``, ``border``, ``reflection``.
    """
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'")
    if padding_mode not in ("zeros", "border", "reflection"):
        raise ValueError(f"nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: '{padding_mode}'")
    if align_corners is None:
        warn(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please specify "
            "align_corners=True if the old behavior is desired. See "
            "the documentation of grid_sample for details."
        )
        align_corners = False
    if input.ndim not in (4, 5) or input.ndim != grid.ndim:
        raise RuntimeError(
            "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with sizes "
            f"{shown(input.shape)} and grid with sizes "
            f"{shown(grid.shape)}"
        )
    if input.shape[0] != grid.shape[0]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes {shown(input.shape)} and grid "
            f"with sizes {shown(grid.shape)}"
        )
    if grid.shape[-1] != input.ndim - 2:
        raise RuntimeError(f"grid_sampler(): expected grid to have size {input.ndim - 2} in last dimension, but got grid with sizes {shown(grid.shape)}")
    if mode == "bicubic" and input.ndim == 5:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    return _grid_sample(input, grid, mode, padding_mode, align_corners)
