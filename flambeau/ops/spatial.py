"""Convolutions, pooling and padding over any number of spatial dimensions.

One formula serves every number of dimensions: it is taken from the shapes.  A convolution is linear in its input and in its
weight, so it and its two gradients are three primitives whose gradients are each other; a transposed convolution is the gradient
with respect to the input.  The scheduler gives large ones to the product engine (``schedule/contract.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..core.dtype import bool_, compute_dtype
from ..core.shape import fresh
from ..ir import expression as ir
from ..ir.expression import Expr
from .composite import composite, public, reader
from .definition import OPS, compute, title
from .formula import Combine, Reduced, Sum, bounds, out, over

Tensor = Any


# ------------------------------------------------------------------ convolution


# the three primitives take their channels by group: input (N, G, C, *L), weight (G, O, C, *K), output (N, G, O, *L')


@compute(node="Convolution")
def _conv(input, weight, size: tuple, stride: tuple, padding: tuple, dilation: tuple):
    """Each group's ``(N, C, *L)`` by ``(O, C, *K)`` to ``(N, O, *size)``; ``padding``: zeros before the first element."""
    n, g, o, *place = out(*input.shape[:2], weight.shape[1], *size)
    c, *k = over(*weight.shape[2:])
    source = [i * s + j * d - p for i, j, s, d, p in zip(place, k, stride, dilation, padding, strict=True)]
    return Sum(input.at(n, g, c, *source, outside=0) * weight[(g, o, c, *k)], c, *k)


@_conv.backward
def _(g, input, weight, needs, stride, padding, dilation):
    return (
        OPS["_conv_to_input"](g, weight, tuple(input.shape[3:]), stride, padding, dilation) if needs[0] else None,
        OPS["_conv_to_weight"](input, g, tuple(weight.shape[3:]), stride, padding, dilation) if needs[1] else None,
    )


@compute(node="ConvolutionBackwardBackward0")
def _conv_to_input(gradient, weight, size: tuple, stride: tuple, padding: tuple, dilation: tuple):
    """The gradient of a convolution with respect to its input, whose spatial size is ``size``."""
    n, g, c, *place = out(*gradient.shape[:2], weight.shape[2], *size)
    o, *k = over(weight.shape[1], *weight.shape[3:])
    # output i of the convolution reads place i*stride + k*dilation - padding
    reach = [i + p - j * d for i, j, d, p in zip(place, k, dilation, padding, strict=True)]
    source = [r if s == 1 else r // s for r, s in zip(reach, stride, strict=True)]
    return Sum(_where_divisible(reach, stride, gradient.at(n, g, o, *source, outside=0) * weight[(g, o, c, *k)]), o, *k)


@_conv_to_input.backward
def _(g, gradient, weight, needs, stride, padding, dilation):
    return (
        OPS["_conv"](g, weight, tuple(gradient.shape[3:]), stride, padding, dilation) if needs[0] else None,
        OPS["_conv_to_weight"](g, gradient, tuple(weight.shape[3:]), stride, padding, dilation) if needs[1] else None,
    )


@compute(node="ConvolutionBackwardBackward0")
def _conv_to_weight(input, gradient, size: tuple, stride: tuple, padding: tuple, dilation: tuple):
    """The gradient of a convolution with respect to its weight, whose kernel size is ``size``."""
    g, o, c, *k = out(input.shape[1], gradient.shape[2], input.shape[2], *size)
    n, *place = over(gradient.shape[0], *gradient.shape[3:])
    source = [i * s + j * d - p for i, j, s, d, p in zip(place, k, stride, dilation, padding, strict=True)]
    return Sum(input.at(n, g, c, *source, outside=0) * gradient[(n, g, o, *place)], n, *place)


@_conv_to_weight.backward
def _(g, input, gradient, needs, stride, padding, dilation):
    return (
        OPS["_conv_to_input"](gradient, g, tuple(input.shape[3:]), stride, padding, dilation) if needs[0] else None,
        OPS["_conv"](input, g, tuple(gradient.shape[3:]), stride, padding, dilation) if needs[1] else None,
    )


def _where_divisible(numbers: Sequence[Expr], by: Sequence[int], value: Expr) -> Expr:
    """``value`` where every number is a multiple of its divisor, else 0."""
    condition = None
    for r, s in zip(numbers, by, strict=True):
        if s > 1:
            even = (r % s).eq(0)
            condition = even if condition is None else condition & even
    return value if condition is None else ir.where(condition, value, 0)


def _ints(value: Any, n: int, name: str) -> tuple[int, ...]:
    """One int for each of ``n`` dimensions, from an int or a sequence."""
    many = isinstance(value, (tuple, list))
    if not all(hasattr(v, "__index__") for v in (value if many else (value,))):
        raise TypeError(f"argument '{name}' must be int or tuple of ints, got {value!r}")
    if many:
        made = tuple(v.__index__() for v in value)
        if len(made) == n:
            return made
        if len(made) == 1:
            return made * n
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {n} values to match the convolution dimensions, but got "
            f"{name}={list(made)}"
        )
    return (value.__index__(),) * n


def _check_convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool, groups: int
) -> None:
    """Refuse operands that do not go together, in PyTorch's words."""
    x, w = list(input.shape), list(weight.shape)
    n = len(w) - 2
    for what, values, least in (
        ("negative padding is not supported", padding, 0),
        ("non-positive stride is not supported", stride, 1),
        ("dilation should be greater than zero", dilation, 1),
    ):
        if min(values, default=least) < least:
            raise RuntimeError(f"{what}\nconvolution: got {list(values)}.")
    if not isinstance(groups, int):
        raise TypeError(f"convolution(): argument 'groups' must be int, not {type(groups).__name__}")
    if groups <= 0:
        raise RuntimeError("non-positive groups is not supported")
    if 0 in w[2:]:
        raise RuntimeError(f"kernel size should be greater than zero\nconvolution: got a weight of size {w}.")
    if len(x) != len(w):
        raise RuntimeError(
            f"Expected {n + 2}-dimensional input for {n + 2}-dimensional weight {w}, but got {len(x)}-dimensional input of size {x} instead"
        )
    if input.dtype is not weight.dtype:
        raise RuntimeError(
            f"Input type ({title(input.dtype)}) and weight type ({title(weight.dtype)}) should be the same\n"
            f"convolution: convert the input with x.to({weight.dtype!r})."
        )
    if bias is not None and bias.dtype is not input.dtype:
        raise RuntimeError(f"Input type ({title(input.dtype)}) and bias type ({title(bias.dtype)}) should be the same")
    if input.dtype is bool_:
        raise NotImplementedError("\"slow_conv2d_cpu\" not implemented for 'Bool'")
    if w[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at dimension 0, but got weight of size {w} instead"
        )
    if w[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, but got weight of size [{w}] instead"
        )
    wanted = w[0] if transposed else w[1] * groups
    if x[1] != wanted:
        raise RuntimeError(
            f"Given {'transposed=1' if transposed else f'groups={groups}'}, weight of size {w}, expected input{x} to have {wanted} "
            "channels, but got "
            f"{x[1]} channels instead"
        )
    features = w[1] * groups if transposed else w[0]
    if bias is not None and list(bias.shape) != [features]:
        raise RuntimeError(
            f"Given {'transposed=1, ' if transposed else ''}weight of size {w}, expected bias to be 1-dimensional with {features} "
            f"elements, but got bias of size {list(bias.shape)} instead"
        )
    if not transposed:
        padded = [s + 2 * p for s, p in zip(x[2:], padding, strict=True)]
        reach = [d * (k - 1) + 1 for d, k in zip(dilation, w[2:], strict=True)]
        if any(a < b for a, b in zip(padded, reach, strict=True)):
            a, b = (" x ".join(map(str, v)) for v in (padded, reach))
            raise RuntimeError(
                f"Calculated padded input size per channel: ({a}). Kernel size: ({b}). Kernel size can't be greater than actual "
                "input size\n"
                f"convolution: the input is {x}, the weight {w}. Use a smaller kernel or more padding."
            )


@composite(node="Convolution", name="convolution")
def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    transposed: bool,
    output_padding: tuple[int, ...],
    groups: int,
) -> Tensor:
    """A convolution, or a transposed one, of a batch."""
    _check_convolution(input, weight, bias, stride, padding, dilation, transposed, groups)
    spans = zip(input.shape[2:], weight.shape[2:], stride, padding, dilation, output_padding, strict=True)
    if transposed:
        if min(output_padding, default=0) < 0:
            raise RuntimeError(f"negative output_padding is not supported\nconvolution: got {list(output_padding)}.")
        if any(e >= max(s, d) for e, s, d in zip(output_padding, stride, dilation, strict=True)):
            raise RuntimeError(
                f"output padding must be smaller than either stride or dilation, but got output_padding: {list(output_padding)} "
                f"stride: {list(stride)} dilation: {list(dilation)}"
            )
        if 0 in input.shape[2:]:
            raise RuntimeError(f"Only zero batch or zero channel inputs are supported, but got input shape: {list(input.shape)}")
        size = tuple([(i - 1) * s - 2 * p + d * (k - 1) + e + 1 for i, k, s, p, d, e in spans])
        if min(size, default=1) <= 0:
            raise RuntimeError(
                f"Given input size per channel: ({' x '.join(map(str, input.shape[2:]))}). Calculated output size per channel: "
                f"({' x '.join(map(str, size))}). Output size is too small"
            )
    else:
        size = tuple([(i + 2 * p - d * (k - 1) - 1) // s + 1 for i, k, s, p, d, _ in spans])
    fresh(input._meta, (input.shape[0], weight.shape[1] * groups if transposed else weight.shape[0], *size))    # refuses what nobody can count
    kind = input.dtype
    if compute_dtype(kind) is not kind:     # 16-bit floats are rounded once, at the end
        input, weight, bias = input.to(compute_dtype(kind)), weight.to(compute_dtype(kind)), None if bias is None else bias.to(compute_dtype(kind))
    x = input.unflatten(1, (groups, input.shape[1] // groups))
    w = weight.unflatten(0, (groups, weight.shape[0] // groups))
    y = OPS["_conv_to_input" if transposed else "_conv"](x, w, size, stride, padding, dilation).flatten(1, 2)
    y = y if bias is None else y + bias.reshape(-1, *(1,) * len(size))
    return y.to(kind)


@public(method=False)
def convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Tensor:
    """Convolution (cross-correlation) over as many dimensions as ``weight`` has after its first two.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C, *)``.
    weight : Tensor
        Shape ``(O, C / groups, *K)``; transposed: ``(C, O / groups, *K)``.
    bias : Tensor, optional
        Shape ``(O,)``.
    transposed : bool
        Compute the gradient of the convolution with respect to its input instead.
    output_padding : int or tuple
        Transposed only: enlarges the output at its end, where several sizes would be possible.

    Raises
    ------
    RuntimeError
        If shapes, dtypes or parameters do not go together.
    """
    n = weight.ndim - 2
    how = [
        _ints(v, n, name)
        for v, name in ((stride, "stride"), (padding, "padding"), (dilation, "dilation"), (output_padding, "output_padding"))
    ]
    return _convolution(input, weight, bias, how[0], how[1], how[2], transposed, how[3], groups)


def _batched(n: int, name: str, input: Tensor) -> Tensor:
    """``input`` with a batch dimension."""
    if input.ndim == n + 1:
        return input.unsqueeze(0)
    if input.ndim != n + 2:
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {list(input.shape)}"
        )
    return input


def _conv_nd(n: int, input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Tensor:
    if weight.ndim != n + 2:
        raise RuntimeError(
            f"Expected {weight.ndim}-dimensional input for {weight.ndim}-dimensional weight {list(weight.shape)}, but got "
            f"{input.ndim}-dimensional input of "
            f"size {list(input.shape)} instead\nconv{n}d: the weight must be {n + 2}-D (out, in / groups, *kernel)."
        )
    x = _batched(n, f"conv{n}d", input)
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise RuntimeError(f"Invalid padding string: '{padding}'")
        pads = [0] * n
        if padding == "same":
            if any(s != 1 for s in _ints(stride, n, "stride")):
                raise RuntimeError("padding='same' is not supported for strided convolutions")
            totals = [d * (k - 1) for d, k in zip(_ints(dilation, n, "dilation"), weight.shape[2:], strict=True)]
            pads = [t // 2 for t in totals]
            if any(t % 2 for t in totals):  # an odd total is padded once more at the end
                x = OPS["constant_pad_nd"](x, [v for t in reversed(totals) for v in (0, t % 2)])
        padding = pads
    y = convolution(x, weight, bias, stride, padding, dilation, False, 0, groups)
    return y if x.ndim == input.ndim else y.squeeze(0)


@public(method=False)
def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Convolution of ``(N, C, L)`` or ``(C, L)``; ``padding`` may be ``"same"`` or ``"valid"``; see :func:`convolution`."""
    return _conv_nd(1, input, weight, bias, stride, padding, dilation, groups)


@public(method=False)
def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Convolution of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`conv1d`."""
    return _conv_nd(2, input, weight, bias, stride, padding, dilation, groups)


@public(method=False)
def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> Tensor:
    """Convolution of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; see :func:`conv1d`."""
    return _conv_nd(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose_nd(
    n: int, input: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any
) -> Tensor:
    x = _batched(n, f"conv_transpose{n}d", input)
    y = convolution(x, weight, bias, stride, padding, dilation, True, output_padding, groups)
    return y if x.ndim == input.ndim else y.squeeze(0)


@public(method=False)
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv1d`; see :func:`convolution`."""
    return _conv_transpose_nd(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@public(method=False)
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv2d`; see :func:`convolution`."""
    return _conv_transpose_nd(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@public(method=False)
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Tensor:
    """The transpose of :func:`conv3d`; see :func:`convolution`."""
    return _conv_transpose_nd(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


@public(method=False)
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """:func:`conv1d` of ``(L, N, C)`` by a weight of ``(K, C, O)``."""
    return conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


# ------------------------------------------------------------------ pooling


def _node(name: str) -> Any:
    """PyTorch's name of a pooling's graph node, by its number of dimensions (it squeezes 1-D ones out of 2-D ones)."""

    def choose(*kinds: Any, kernel: Any = None, size: Any = None, **_: Any) -> str:
        n = len(kernel or size)
        return "SqueezeBackward1" if n == 1 else name.format(n)

    return choose


def _window_counts(
    shape: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool
) -> list[int]:
    """How many windows fit in each spatial dimension; the last one of ``ceil_mode`` must start inside the input or its left padding."""
    counts = []
    for size, k, s, p, d in zip(shape, kernel, stride, padding, dilation, strict=True):
        n = (size + 2 * p - d * (k - 1) - 1 + (s - 1 if ceil_mode else 0)) // s + 1
        counts.append(n - 1 if ceil_mode and (n - 1) * s >= size + p else n)
    return counts


def _lowest(d: Any) -> float | int:
    return -math.inf if d.is_floating_point else -(1 << (8 * d.itemsize - 1)) if d.is_signed else 0


@compute(node=_node("MaxPool{}DWithIndices"))
def _max_pool(input, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple, ceil_mode: bool):
    """The largest element of each window of the last dimensions."""
    n = len(kernel)
    lead = out(*input.shape[:-n])
    place = out(*_window_counts(input.shape[-n:], kernel, stride, padding, dilation, ceil_mode))
    source = [i * s + j * d - p for i, j, s, d, p in zip(place, _axes(kernel), stride, dilation, padding, strict=True)]
    return Combine("max", input.at(*lead, *source, outside=_lowest(input.dtype)))


@_max_pool.backward
def _(g, input, y, kernel, stride, padding, dilation, ceil_mode):
    index = OPS["_max_pool_index"](input.detach(), y.detach(), kernel, stride, padding, dilation)
    return _spread(g, index, input.shape, len(kernel))


def _spread(g: Tensor, index: Tensor, shape: Sequence[int], n: int) -> Tensor:
    """``g`` added up at the places ``index`` of the flattened last ``n`` dimensions of a tensor of ``shape``."""
    flat = OPS["zeros"]((*shape[:-n], math.prod(shape[-n:])), dtype=g.dtype, device=g.device)
    return flat.scatter_add(-1, index.flatten(-n), g.flatten(-n)).reshape(shape)


@compute
def _max_pool_index(input, maxima, kernel: tuple, stride: tuple, padding: tuple, dilation: tuple):
    """Where in the flattened spatial dimensions the first element of each window lies that equals its maximum."""
    n = len(kernel)
    lead = out(*input.shape[:-n])
    place = out(*maxima.shape[-n:])
    source = [i * s + j * d - p for i, j, s, d, p in zip(place, _axes(kernel), stride, dilation, padding, strict=True)]
    value, largest = input.at(*lead, *source, outside=_lowest(input.dtype)), maxima[(*lead, *place)]
    return _first_equal(value, largest, source, input.shape[-n:], [(0, size) for size in input.shape[-n:]])


def _first_equal(
    value: Expr, largest: Expr, source: Sequence[Expr], sizes: Sequence[int], windows: Sequence[tuple[Expr | int, Expr | int]]
) -> Reduced:
    """The number in row-major order of the first place ``source`` inside its window (start, stop) where ``value`` is ``largest`` or NaN."""
    found = value.eq(largest) | value.ne(value)
    position = ir.const(0, ir.int64)
    for p, size, (start, stop) in zip(source, sizes, windows, strict=True):
        found = found & (start <= p) & (p < stop)
        position = position * size + p
    return Combine("min", ir.where(found, position, 1 << 62))


def _axes(sizes: Sequence[int]) -> Sequence[Any]:
    """Reduced axes, always as a sequence."""
    made = over(*sizes)
    return (made,) if len(sizes) == 1 else made  # type: ignore[no-any-return]


def _windows(n: int, name: str, input: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any) -> tuple[tuple[int, ...], ...]:
    """Kernel, stride (default: the kernel), padding and dilation, checked."""
    if stride is None or (isinstance(stride, (tuple, list)) and not stride):
        stride = kernel
    k, s, p, d = (
        _ints(v, n, what) for v, what in ((kernel, "kernel_size"), (stride, "stride"), (padding, "padding"), (dilation, "dilation"))
    )
    if input.ndim not in (n + 1, n + 2) or 0 in input.shape[-n - 1 :]:
        raise RuntimeError(
            f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor with optional 0 dim batch size for input, but "
            f"got:{list(input.shape)}\n"
            "Expected input's non-batch dimensions to have positive length."
        )
    if min(k) <= 0:
        raise RuntimeError(
            f"kernel size should be greater than zero, but got {list(k)}\n{name}: the windows need at least one element in each dimension."
        )
    if min(s) <= 0:
        raise RuntimeError(f"stride should be greater than zero, but got {list(s)}")
    if min(d) <= 0:
        raise RuntimeError(f"dilation should be greater than zero, but got {list(d)}")
    for size, pad, step in zip(k, p, d, strict=True):
        if pad < 0 or pad > ((size - 1) * step + 1) // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={pad}, kernel_size={size} and dilation={step}"
            )
    return k, s, p, d


def _check_counts(name: str, input: Tensor, counts: Sequence[int]) -> None:
    if min(counts) <= 0:
        image = input.shape[-len(counts) - 1 :]
        raise RuntimeError(
            f"Given input size: ({'x'.join(map(str, image))}). Calculated output size: ({'x'.join(map(str, (image[0], *counts)))}). "
            "Output size is too small\n"
            f"{name}: the window is larger than the padded input {list(input.shape)}. Use a smaller kernel, or fewer pooling layers "
            "before it."
        )


Read: TypeAlias = tuple[Callable[..., Tensor], tuple[Any, ...]]     # what to call, and the arguments after ``input``


def _max_pool_nd(n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Read:
    k, s, p, d = _windows(n, f"max_pool{n}d", input, kernel_size, stride, padding, dilation)
    _check_counts(f"max_pool{n}d", input, _window_counts(input.shape[-n:], k, s, p, d, ceil_mode))
    return OPS["_max_pool"], (k, s, p, d, ceil_mode)


def _max_pool_with_indices_nd(
    n: int, input: Tensor, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    pool, how = _max_pool_nd(n, input, kernel_size, stride, padding, dilation, ceil_mode)
    y = pool(input, *how)
    return y, OPS["_max_pool_index"](input.detach(), y.detach(), *how[:-1])


@public(method=False)
@reader
def max_pool1d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Read:
    """The largest element of each window of ``(N, C, L)`` or ``(C, L)``.

    Parameters
    ----------
    kernel_size, stride, padding, dilation : int or tuple
        The windows; the stride is the kernel's size unless given.
    ceil_mode : bool
        Let the last window reach over the edge.
    """
    return _max_pool_nd(1, input, kernel_size, stride, padding, dilation, ceil_mode)


@public(method=False)
@reader
def max_pool2d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Read:
    """The largest element of each window of ``(N, C, H, W)`` or ``(C, H, W)``; see :func:`max_pool1d`."""
    return _max_pool_nd(2, input, kernel_size, stride, padding, dilation, ceil_mode)


@public(method=False)
@reader
def max_pool3d(input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False) -> Read:
    """The largest element of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; see :func:`max_pool1d`."""
    return _max_pool_nd(3, input, kernel_size, stride, padding, dilation, ceil_mode)


@public(method=False)
def max_pool1d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool1d`, and where in the last dimension the maxima are (int64)."""
    return _max_pool_with_indices_nd(1, input, kernel_size, stride, padding, dilation, ceil_mode)


@public(method=False)
def max_pool2d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool2d`, and where in the flattened last 2 dimensions the maxima are (int64)."""
    return _max_pool_with_indices_nd(2, input, kernel_size, stride, padding, dilation, ceil_mode)


@public(method=False)
def max_pool3d_with_indices(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`max_pool3d`, and where in the flattened last 3 dimensions the maxima are (int64)."""
    return _max_pool_with_indices_nd(3, input, kernel_size, stride, padding, dilation, ceil_mode)


def _elements(
    place: Sequence[Expr],
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    count_include_pad: bool,
    divisor: int | None,
) -> Expr | int:
    """How many elements the window at ``place`` is averaged over: those inside the input, or also those in the padding."""
    if divisor is not None:
        return divisor
    total: Expr | int = 1
    for i, size, k, s, p in zip(place, sizes, kernel, stride, padding, strict=True):
        last = bounds(i)[1]
        start, edge = i * s - p, size + p if count_include_pad else size
        assert last is not None
        inside = last * s - p + k <= edge and (count_include_pad or p == 0)
        if inside:
            total = total * k
        else:
            stop = ir.minimum(start + k, edge)
            total = (stop - (start if count_include_pad else ir.maximum(start, 0))) * total
    return total


def _divided(value: Expr, by: Expr | int) -> Expr:
    by = ir.lift(by, value) if isinstance(by, int) else by.cast(value.dtype)
    return value / by if value.dtype.is_floating_point else ir.binary("truncdiv", value, by)


@compute(node=_node("AvgPool{}D"))
def _avg_pool(input, kernel: tuple, stride: tuple, padding: tuple, ceil_mode: bool, count_include_pad: bool, divisor: int | None):
    """The mean of each window of the last dimensions."""
    n = len(kernel)
    lead = out(*input.shape[:-n])
    place = out(*_window_counts(input.shape[-n:], kernel, stride, padding, (1,) * n, ceil_mode))
    source = [i * s + j - p for i, j, s, p in zip(place, _axes(kernel), stride, padding, strict=True)]
    count = _elements(place, input.shape[-n:], kernel, stride, padding, count_include_pad, divisor)
    return Sum(input.at(*lead, *source, outside=0)).then(lambda total: _divided(total, count))


@_avg_pool.backward
def _(g, input_meta, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    return OPS["_avg_pool_to_input"](
        g, tuple(input_meta.shape[-len(kernel) :]), kernel, stride, padding, ceil_mode, count_include_pad, divisor
    )


@compute(node=_node("AvgPool{}DBackwardBackward0"))
def _avg_pool_to_input(
    gradient, size: tuple, kernel: tuple, stride: tuple, padding: tuple, ceil_mode: bool, count_include_pad: bool, divisor: int | None
):
    """The gradient of :func:`_avg_pool`: every element collects from the windows that it lies in."""
    n = len(kernel)
    lead = out(*gradient.shape[:-n])
    place = out(*size)
    reach = [i + p - j for i, j, p in zip(place, _axes(kernel), padding, strict=True)]
    window = [r // s for r, s in zip(reach, stride, strict=True)]
    value = gradient.at(*lead, *window, outside=0)
    # outside the windows the value is 0, whatever it is divided by; the count must only not be 0
    inside = [ir.minimum(ir.maximum(w, 0), max(m - 1, 0)) for w, m in zip(window, gradient.shape[-n:], strict=True)]
    return Sum(
        _where_divisible(reach, stride, _divided(value, _elements(inside, size, kernel, stride, padding, count_include_pad, divisor)))
    )


@_avg_pool_to_input.backward
def _(g, kernel, stride, padding, ceil_mode, count_include_pad, divisor):
    return OPS["_avg_pool"](g, kernel, stride, padding, ceil_mode, count_include_pad, divisor)


def _avg_pool_nd(
    n: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Read:
    k, s, p, d = _windows(n, f"avg_pool{n}d", input, kernel_size, stride, padding, 1)
    if divisor_override == 0:
        raise RuntimeError("divisor must be not zero")
    _check_counts(f"avg_pool{n}d", input, _window_counts(input.shape[-n:], k, s, p, d, ceil_mode))
    return OPS["_avg_pool"], (k, s, p, ceil_mode, count_include_pad, divisor_override)


@public(method=False)
@reader
def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True
) -> Read:
    """The mean of each window of ``(N, C, L)`` or ``(C, L)``; ``count_include_pad``: padding counts among the elements."""
    return _avg_pool_nd(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


@public(method=False)
@reader
def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Read:
    """The mean of each window of ``(N, C, H, W)`` or ``(C, H, W)``, or its sum divided by ``divisor_override``; see :func:`avg_pool1d`."""
    return _avg_pool_nd(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


@public(method=False)
@reader
def avg_pool3d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Read:
    """The mean of each window of ``(N, C, D, H, W)`` or ``(C, D, H, W)``; see :func:`avg_pool2d`."""
    return _avg_pool_nd(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


# ------------------------------------------------------------------ adaptive pooling


def _bin(i: Any, size: int, count: int) -> tuple[Any, Any]:
    """Start and stop of window ``i`` (int or expression) of ``count`` nearly equal, possibly overlapping ones that cover ``size``."""
    if count and size % count == 0:
        return i * (size // count), i * (size // count) + size // count
    return i * size // count, ((i + 1) * size + (count - 1)) // count


def _covering(p: Any, size: int, count: int) -> tuple[Any, Any]:
    """The first and last of those windows that hold place ``p``."""
    if count and size % count == 0:
        return p // (size // count), p // (size // count)
    return p * count // size, ((p + 1) * count + (size - 1)) // size - 1


def _adaptive_window(place: Sequence[Expr], sizes: Sequence[int], counts: Sequence[int]) -> tuple[list[Expr], list[tuple[Expr, Expr]]]:
    """The places that the reduced axes run over, and start and stop of the windows, which may be shorter."""
    windows = [_bin(i, size, count) for i, size, count in zip(place, sizes, counts, strict=True)]
    widest = [
        max([stop - start for start, stop in (_bin(i, size, count) for i in range(count))], default=0)
        for size, count in zip(sizes, counts, strict=True)
    ]
    return [start + k for (start, _), k in zip(windows, _axes(widest), strict=True)], windows


def _where_inside(
    source: Sequence[Expr], windows: Sequence[tuple[Expr, Expr]], sizes: Sequence[int], counts: Sequence[int], value: Expr, otherwise: float
) -> Expr:
    """``value`` where every place lies before the end of its window, else ``otherwise``; windows of one size need no test."""
    for p, (_, stop), size, count in zip(source, windows, sizes, counts, strict=True):
        if count and size % count:
            value = ir.where(p < stop, value, otherwise)
    return value


@compute(node=_node("AdaptiveAvgPool{}D"))
def _adaptive_avg_pool(input, size: tuple):
    """The mean of each of ``size`` windows that cover the last dimensions."""
    n = len(size)
    lead, place = out(*input.shape[:-n]), out(*size)
    source, windows = _adaptive_window(place, input.shape[-n:], size)
    count: Any = 1
    value = input.at(*lead, *source, outside=0)
    for start, stop in windows:
        count = (stop - start) * count
    value = _where_inside(source, windows, input.shape[-n:], size, value, 0)
    return Sum(value).then(lambda total: _divided(total, count))


@_adaptive_avg_pool.backward
def _(g, input_meta, size):
    return OPS["_adaptive_avg_pool_to_input"](g, tuple(input_meta.shape[-len(size) :]))


@compute(node=_node("AdaptiveAvgPool{}DBackwardBackward0"))
def _adaptive_avg_pool_to_input(gradient, size: tuple):
    """The gradient of :func:`_adaptive_avg_pool`: every element collects from the windows that hold it."""
    n = len(size)
    lead, place = out(*gradient.shape[:-n]), out(*size)
    counts = gradient.shape[-n:]
    most = [
        max([last - first + 1 for first, last in (_covering(p, s, c) for p in range(s))], default=0)
        for s, c in zip(size, counts, strict=True)
    ]
    windows: list[Expr] = []
    elements: Any = 1
    inside = ir.const(True, bool_)
    for p, k, s, c, m in zip(place, _axes(most), size, counts, most, strict=True):
        first, last = _covering(p, s, c)
        window = first + k if m == 1 else ir.minimum(first + k, c - 1)
        start, stop = _bin(window, s, c)
        windows.append(window)
        elements = (stop - start) * elements
        if m > 1:
            inside = inside & (first + k <= last)
    return Sum(ir.where(inside, _divided(gradient.at(*lead, *windows, outside=0), elements), 0))


@_adaptive_avg_pool_to_input.backward
def _(g, gradient_meta, size):
    return OPS["_adaptive_avg_pool"](g, tuple(gradient_meta.shape[-len(size) :]))


@compute(node=_node("AdaptiveMaxPool{}D"))
def _adaptive_max_pool(input, size: tuple):
    """The largest element of each of ``size`` windows that cover the last dimensions."""
    n = len(size)
    lead, place = out(*input.shape[:-n]), out(*size)
    lowest = _lowest(input.dtype)
    source, windows = _adaptive_window(place, input.shape[-n:], size)
    value = input.at(*lead, *source, outside=lowest)
    return Combine("max", _where_inside(source, windows, input.shape[-n:], size, value, lowest))


@_adaptive_max_pool.backward
def _(g, input, y, size):
    return _spread(g, OPS["_adaptive_max_pool_index"](input.detach(), y.detach(), size), input.shape, len(size))


@compute
def _adaptive_max_pool_index(input, maxima, size: tuple):
    """Where in the flattened spatial dimensions the first element of each window lies that equals its maximum."""
    n = len(size)
    lead, place = out(*input.shape[:-n]), out(*size)
    source, windows = _adaptive_window(place, input.shape[-n:], size)
    return _first_equal(input.at(*lead, *source, outside=_lowest(input.dtype)), maxima[(*lead, *place)], source, input.shape[-n:], windows)


def _adaptive(n: int, name: str, input: Tensor, output_size: Any) -> tuple[int, ...]:
    """The number of windows in each dimension; None keeps a size."""
    if input.ndim not in (n + 1, n + 2) or 0 in input.shape[-n - 1 :]:
        raise RuntimeError(
            f"{name}(): Expected {n + 1}D or {n + 2}D tensor, but got {list(input.shape)}\n"
            "Expected input to have non-zero size for non-batch dimensions."
        )
    if not isinstance(output_size, (tuple, list)):
        output_size = (output_size,) * n
    if len(output_size) != n:
        raise RuntimeError(f"{name}: output_size must be {n}\n{name}: one number for each spatial dimension, got {list(output_size)}.")
    size = tuple([s if o is None else o.__index__() for o, s in zip(output_size, input.shape[-n:], strict=True)])
    if min(size) < 0:
        raise RuntimeError(f"{name}: elements of output_size must be greater than or equal to 0\n{name}: got {list(size)}.")
    return size


def _adaptive_max_pool_nd(n: int, input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    size = _adaptive(n, f"adaptive_max_pool{n}d", input, output_size)
    y = OPS["_adaptive_max_pool"](input, size)
    return y, OPS["_adaptive_max_pool_index"](input.detach(), y.detach(), size)


@public(method=False)
@reader
def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Read:
    """The means of ``output_size`` nearly equal windows that cover the last dimension of ``(N, C, L)`` or ``(C, L)``."""
    return OPS["_adaptive_avg_pool"], (_adaptive(1, "adaptive_avg_pool1d", input, output_size),)


@public(method=False)
@reader
def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Read:
    """The means of windows that cover ``(N, C, H, W)`` or ``(C, H, W)``; None keeps a size."""
    return OPS["_adaptive_avg_pool"], (_adaptive(2, "adaptive_avg_pool2d", input, output_size),)


@public(method=False)
@reader
def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Read:
    """The means of windows that cover ``(N, C, D, H, W)`` or ``(C, D, H, W)``; None keeps a size."""
    return OPS["_adaptive_avg_pool"], (_adaptive(3, "adaptive_avg_pool3d", input, output_size),)


@public(method=False)
def adaptive_max_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """The maxima of ``output_size`` nearly equal windows that cover the last dimension, and where they are (int64)."""
    return _adaptive_max_pool_nd(1, input, output_size)


@public(method=False)
def adaptive_max_pool2d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """The maxima of windows that cover the last 2 dimensions, and where in these, flattened, they are (int64)."""
    return _adaptive_max_pool_nd(2, input, output_size)


@public(method=False)
def adaptive_max_pool3d(input: Tensor, output_size: Any) -> tuple[Tensor, Tensor]:
    """The maxima of windows that cover the last 3 dimensions, and where in these, flattened, they are (int64)."""
    return _adaptive_max_pool_nd(3, input, output_size)


# ------------------------------------------------------------------ padding


@compute(node="ConstantPadNd", name="_pad")
def _pad(input, before: tuple, size: tuple, value: Any):
    i = out(*size)
    return input.at(*[x - b for x, b in zip(i, before, strict=True)], outside=value)


@_pad.backward
def _(g, input_meta, before):
    return OPS["_pad"](g, tuple([-b for b in before]), tuple(input_meta.shape), 0)


@public
def constant_pad_nd(input: Tensor, pad: Sequence[int], value: float = 0) -> Tensor:
    """Enlarge (or, with negative numbers, cut) the last dimensions, filling with ``value``.

    Parameters
    ----------
    pad : sequence of int
        ``(before, after)`` of the last dimension, then of the one before it, ...
    """
    if len(pad) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(pad)}")
    n, given = input.ndim, len(pad) // 2
    if given > n:
        raise RuntimeError(
            f"Length of pad should be no more than twice the number of dimensions of the input. Pad length is {len(pad)}while the "
            f"input has {n}dimensions."
        )
    before, size = [0] * n, list(input.shape)
    for i in range(given):
        d = n - 1 - i
        before[d] = pad[2 * i]
        size[d] += pad[2 * i] + pad[2 * i + 1]
        if size[d] < 0:
            raise RuntimeError(
                f"The input size {input.shape[d]}, plus negative padding {pad[2 * i]} and {pad[2 * i + 1]} resulted in a negative "
                "output size, which is "
                f"invalid. Check dimension {d} of your input."
            )
    if isinstance(value, type(input)):
        value = value.item()
    kind = input.dtype
    fill = float(value) if kind.is_floating_point else bool(value) if kind is bool_ else int(value)
    return OPS["_pad"](input, tuple(before), tuple(size), fill)
