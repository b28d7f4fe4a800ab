"""Convolutions, their transposes, and sliding windows as columns."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .affine import check_dtypes
from .common import shown, sizes

_C_NAMES = {
    "float32": "float",
    "float64": "double",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "int64": "long int",
    "int32": "int",
    "int16": "short int",
    "int8": "signed char",
    "uint8": "unsigned char",
    "bool": "bool",
}


def _c_name(t: Any) -> str:
    name = str(t.dtype).rpartition(".")[2]
    return _C_NAMES.get(name, name)


def _explain(name: str, n: int, input: Any, weight: Any, bias: Any, padding: Any, dilation: Any, groups: int, transposed: bool) -> None:
    """Raise what is wrong with a convolution's operands, in PyTorch's words and better ones, if it can be seen."""
    for i, (what, x) in enumerate((("input", input), ("weight", weight), ("bias", bias)), 1):
        if not isinstance(x, fl.Tensor) and not (what == "bias" and x is None):
            raise TypeError(f"{name}(): argument '{what}' (position {i}) must be Tensor, not {type(x).__name__}")
    layer = "ConvTranspose" if transposed else "Conv"
    shape, kernel = list(input.shape), list(weight.shape)
    if input.device != weight.device:
        raise RuntimeError(
            f"Tensor on device {weight.device} is not on the expected device {input.device}!\n{name}: input is on {input.device} but "
            "weight is on "
            f"{weight.device}. Move both to one device: model.to(device) and x = x.to(device) (to() on a tensor returns a new one)."
        )
    if input.ndim not in (n + 1, n + 2):
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got input of size: {shape}\n{name}: the input must "
            "be "
            f"[batch, channels, {', '.join(('depth', 'height', 'width')[3 - n :])}], got the {input.ndim}-D {shape}."
        )
    if weight.ndim != n + 2:
        raise RuntimeError(
            f"Expected {weight.ndim}-dimensional input for {weight.ndim}-dimensional weight {kernel}, but got {input.ndim}-dimensional input of "
            f"size {shape} instead\n{name}: the weight must be {n + 2}-D: {'(in, out / groups' if transposed else '(out, in / groups'}, *kernel)."
        )
    other, role = (bias, "bias") if bias is not None else (weight, "weight")
    check_dtypes(name, input, other, f"Input type ({_c_name(input)}) and {role} type ({_c_name(other)}) should be the same")
    batched = shape if input.ndim == n + 2 else [1, *shape]
    wanted = kernel[0] if transposed else kernel[1] * groups
    if batched[1] != wanted and groups > 0:
        what = "transposed=1, weight" if transposed else f"groups={groups}, weight"
        head = f"Given {what} of size {kernel}, expected input{batched} to have {wanted} channels, but got {batched[1]} channels instead"
        places = ", ".join(["batch", "channels", *("depth", "height", "width")[3 - n :]])
        if input.ndim == n + 1 and wanted == 1:
            raise RuntimeError(
                f"{head}\n{name}: {layer}{n}d read the {input.ndim}-D input {shape} as one unbatched image of {shape[0]} channels, but "
                f"in_channels is {wanted}. For "
                f"{shape[0]} gray images add the channel dimension: x.unsqueeze(1)."
            )
        if shape[-1] == wanted and input.ndim == n + 2:
            order = ", ".join(map(str, (0, n + 1, *range(1, n + 1))))
            raise RuntimeError(
                f"{head}\n{name}: {layer}{n}d expects [{places}] with {wanted} channels; input {shape} has {shape[1]} in the channel "
                f"place and {wanted} last. It "
                f"looks channels-last: use x.permute({order})."
            )
        raise RuntimeError(f"{head}\n{name}: expects [{places}] with {wanted} channels (in_channels), got input {shape}.")
    if not transposed:
        pads, steps = sizes(padding, n, name, "padding"), sizes(dilation, n, name, "dilation")
        padded = [s + 2 * p for s, p in zip(batched[2:], pads, strict=True)]
        reach = [d * (k - 1) + 1 for d, k in zip(steps, kernel[2:], strict=True)]
        if any(a < b for a, b in zip(padded, reach, strict=True)):
            a, b = (" x ".join(map(str, v)) for v in (padded, reach))
            raise RuntimeError(
                f"Calculated padded input size per channel: ({a}). Kernel size: ({b}). Kernel size can't be greater than actual input "
                f"size\n{name}: input {shape} is "
                "smaller than the kernel: use a smaller kernel, more padding, or fewer pooling layers before it."
            )


def _with_operands(error: Exception, name: str, input: Any, weight: Any, bias: Any, **how: Any) -> Exception:
    """An error of one line with another one: what the call got."""
    if "\n" in str(error) or len(error.args) != 1:
        return error
    shapes = f"input {shown(input.shape)}, weight {shown(weight.shape)}, bias {None if bias is None else shown(bias.shape)}"
    return type(error)(f"{error}\n{name}: got {shapes}, {', '.join(f'{k}={v!r}' for k, v in how.items())}.")


def _conv(n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    name = f"conv{n}d"
    if isinstance(padding, str):
        input, padding = _named_padding(n, input, weight, stride, padding, dilation)
    try:
        return getattr(fl, name)(input, weight, bias, stride, padding, dilation, groups)
    except (RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        if not isinstance(error, TypeError):
            _explain(name, n, input, weight, bias, padding, dilation, groups, transposed=False)
        raise _with_operands(error, name, input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups) from None


def _named_padding(n: int, input: Any, weight: Any, stride: Any, padding: str, dilation: Any) -> tuple[Any, Any]:
    """``input`` and the padding that ``"valid"`` or ``"same"`` stands for."""
    if padding == "valid":
        return input, 0
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in sizes(stride, n)):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    totals = [d * (k - 1) for d, k in zip(sizes(dilation, n), weight.shape[2:], strict=True)]
    if all(t % 2 == 0 for t in totals):
        return input, tuple(t // 2 for t in totals)
    # an odd total is padded once more at the end
    extra = [v for t in reversed(totals) for v in (0, t % 2)]
    return fl.constant_pad_nd(input, extra), tuple(t // 2 for t in totals)


def conv1d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """1-D convolution (cross-correlation).

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C_in, L)`` or ``(C_in, L)``.
    weight : Tensor
        Shape ``(C_out, C_in / groups, K)``.
    bias : Tensor, optional
        Shape ``(C_out,)``.
    stride, dilation : int or tuple
        Steps between outputs, and between the elements of the kernel.
    padding : int, tuple or str
        Zeros added at both ends; ``"same"`` keeps the size, ``"valid"`` adds none.
    groups : int
        Groups of channels that do not see each other.
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """2-D convolution of ``(N, C_in, H, W)`` with ``(C_out, C_in / groups, KH, KW)``; see :func:`conv1d`."""
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1) -> Any:
    """3-D convolution of ``(N, C_in, D, H, W)`` with ``(C_out, C_in / groups, KD, KH, KW)``; see :func:`conv1d`."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(n: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any, groups: int, dilation: Any) -> Any:
    name = f"conv_transpose{n}d"
    try:
        return getattr(fl, name)(input, weight, bias, stride, padding, output_padding, groups, dilation)
    except (RuntimeError, ValueError, IndexError, AttributeError, TypeError) as error:
        if not isinstance(error, TypeError):
            _explain(name, n, input, weight, bias, padding, dilation, groups, transposed=True)
        raise _with_operands(error, name, input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, groups=groups,
                             dilation=dilation) from None


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of :func:`conv1d`: ``(N, C_in, L)`` by a weight of ``(C_in, C_out / groups, K)``.

    ``output_padding`` enlarges the output at its end, where several sizes would be possible.
    """
    return _conv_transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of :func:`conv2d`; see :func:`conv_transpose1d`."""
    return _conv_transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
) -> Any:
    """The transpose of :func:`conv3d`; see :func:`conv_transpose1d`."""
    return _conv_transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)


# ------------------------------------------------------------------ windows as columns


def _blocks(size: int, kernel: int, dilation: int, padding: int, stride: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


@composite(node="Im2Col")
def _unfold(x: Any, kernel: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int], stride: tuple[int, int]) -> Any:
    n, c, h, w = x.shape
    rows, cols = (_blocks(s, k, d, p, t) for s, k, d, p, t in zip((h, w), kernel, dilation, padding, stride, strict=True))
    x = fl.constant_pad_nd(x, (padding[1], padding[1], padding[0], padding[0]))
    columns = [
        x[
            :,
            :,
            i * dilation[0] : i * dilation[0] + (rows - 1) * stride[0] + 1 : stride[0],
            j * dilation[1] : j * dilation[1] + (cols - 1) * stride[1] + 1 : stride[1],
        ]
        for i in range(kernel[0])
        for j in range(kernel[1])
    ]
    return fl.stack(columns, 2).reshape(n, c * kernel[0] * kernel[1], rows * cols)


def unfold(input: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """The sliding windows of an image as columns.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C, H, W)`` or ``(C, H, W)``.

    Returns
    -------
    Tensor
        Shape ``(N, C * KH * KW, L)`` for ``L`` windows.
    """
    k, d, p, s = (sizes(v, 2) for v in (kernel_size, dilation, padding, stride))
    if input.ndim not in (3, 4):
        raise RuntimeError(
            f"Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but got: {shown(input.shape)}"
        )
    x = input.unsqueeze(0) if input.ndim == 3 else input
    counts = [_blocks(a, b, c, e, f) for a, b, c, e, f in zip(x.shape[2:], k, d, p, s, strict=True)]
    if min(counts) < 1:
        raise RuntimeError(
            f"Given input with spatial size {tuple(x.shape[2:])}, kernel_size={k}, dilation={d}, padding={p}, stride={s}, calculated "
            "shape of the array of sliding "
            f"blocks as {tuple(counts)}, but its components must be at least one."
        )
    y = _unfold(x, k, d, p, s)
    return y.squeeze(0) if input.ndim == 3 else y


@composite(node="Col2Im")
def _fold(x: Any, output: tuple[int, int], kernel: tuple[int, int], dilation: tuple[int, int], padding: tuple[int, int], stride: tuple[int, int]) -> Any:
    n = x.shape[0]
    rows, cols = (_blocks(s, k, d, p, t) for s, k, d, p, t in zip(output, kernel, dilation, padding, stride, strict=True))
    c = x.shape[1] // (kernel[0] * kernel[1])
    x = x.reshape(n, c, kernel[0], kernel[1], rows, cols)
    y = fl.zeros(n, c, output[0] + 2 * padding[0], output[1] + 2 * padding[1], dtype=x.dtype, device=x.device)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            y[:, :, top : top + (rows - 1) * stride[0] + 1 : stride[0], left : left + (cols - 1) * stride[1] + 1 : stride[1]] += x[:, :, i, j]
    return y[:, :, padding[0] : padding[0] + output[0], padding[1] : padding[1] + output[1]].clone()


def fold(input: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """Sum columns as :func:`unfold` makes them back into an image of ``output_size``."""
    out, k, d, p, s = (sizes(v, 2) for v in (output_size, kernel_size, dilation, padding, stride))
    if input.ndim not in (2, 3):
        raise RuntimeError(
            f"Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for input, but got: {shown(input.shape)}"
        )
    x = input.unsqueeze(0) if input.ndim == 2 else input
    if x.shape[1] % (k[0] * k[1]):
        raise RuntimeError(
            f"Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got input.size(1)={x.shape[1]} and kernel_size={k}."
        )
    counts = [_blocks(a, b, c, e, f) for a, b, c, e, f in zip(out, k, d, p, s, strict=True)]
    if x.shape[2] != counts[0] * counts[1]:
        raise RuntimeError(
            f"Given output_size={out}, kernel_size={k}, dilation={d}, padding={p}, stride={s}, expected size of input's dimension 2 to "
            "match the calculated number "
            f"of sliding blocks {counts[0]} * {counts[1]} = {counts[0] * counts[1]}, but got input.size(2)={x.shape[2]}."
        )
    y = _fold(x, out, k, d, p, s)
    return y.squeeze(0) if input.ndim == 2 else y
