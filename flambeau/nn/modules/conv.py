"""Convolution layers and their transposes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import flambeau as fl

from .. import functional as F
from .. import init
from ..parameter import Parameter
from .module import Module
from .utils import _ntuple


class _ConvNd(Module):
    """Weight, bias and geometry of a convolution over ``_spatial`` dimensions."""

    __constants__ = [
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
        "output_padding",
        "in_channels",
        "out_channels",
        "kernel_size",
    ]
    _spatial: int
    _transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        output_padding: Any = 0,
    ) -> None:
        super().__init__()
        many = _ntuple(self._spatial)
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'valid', 'same'}}")
            if padding == "same" and any(s != 1 for s in many(stride)):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            raise ValueError(f"padding_mode must be one of {{'zeros', 'reflect', 'replicate', 'circular'}}, but got padding_mode='{padding_mode}'")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = many(kernel_size)
        self.stride = many(stride)
        self.padding = padding if isinstance(padding, str) else many(padding)
        self.dilation = many(dilation)
        self.transposed = self._transposed
        self.output_padding = many(output_padding)
        self.groups = groups
        self.padding_mode = padding_mode
        # before and after, of the last dimension first, as ``pad`` takes them
        if isinstance(self.padding, str):
            totals = [d * (k - 1) if self.padding == "same" else 0 for d, k in zip(self.dilation, self.kernel_size, strict=True)]
            self._reversed_padding_repeated_twice = [v for t in reversed(totals) for v in (t // 2, t - t // 2)]
        else:
            self._reversed_padding_repeated_twice = [p for p in reversed(self.padding) for _ in range(2)]
        shape = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(fl.empty((*shape, *self.kernel_size), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(fl.empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            if fan_in != 0:
                bound = 1 / math.sqrt(fan_in)
                init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        s = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.kernel_size):
            s += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.kernel_size):
            s += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.kernel_size):
            s += f", output_padding={self.output_padding}"
        if self.groups != 1:
            s += f", groups={self.groups}"
        if self.bias is None:
            s += ", bias=False"
        if self.padding_mode != "zeros":
            s += f", padding_mode={self.padding_mode}"
        return s


class _Conv(_ConvNd):
    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype)

    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:
        conv = getattr(F, f"conv{self._spatial}d")
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            return conv(input, weight, bias, self.stride, 0, self.dilation, self.groups)
        return conv(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def forward(self, input: Any) -> Any:
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Conv):
    """1-D convolution of ``(N, C_in, L)`` or ``(C_in, L)``.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of input and output.
    kernel_size, stride, dilation : int or tuple
        Geometry of the windows.
    padding : int, tuple or str
        Added at both ends; ``"same"`` keeps the size, ``"valid"`` adds none.
    groups : int
        Groups of channels that do not see each other.
    bias : bool
        Whether there is a bias.
    padding_mode : str
        ``zeros``, ``reflect``, ``replicate`` or ``circular``.

    Attributes
    ----------
    weight : Parameter
        Shape ``(out_channels, in_channels / groups, *kernel_size)``.
    bias : Parameter or None
        Shape ``(out_channels,)``.
    """

    _spatial = 1


class Conv2d(_Conv):
    """2-D convolution of ``(N, C_in, H, W)`` or ``(C_in, H, W)``; see :class:`Conv1d`."""

    _spatial = 2


class Conv3d(_Conv):
    """3-D convolution of ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)``; see :class:`Conv1d`."""

    _spatial = 3


class _ConvTransposeNd(_ConvNd):
    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device, dtype, output_padding)

    def _output_padding(self, input: Any, output_size: Sequence[int] | None) -> tuple[int, ...]:
        """What must be added at the end to reach ``output_size``."""
        if output_size is None:
            return self.output_padding
        n = self._spatial
        spatial = input.dim() - n
        if len(output_size) == spatial + n:
            output_size = output_size[spatial:]
        if len(output_size) != n:
            raise ValueError(f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {spatial + n} elements (got {len(output_size)})")
        low = [(input.size(d + spatial) - 1) * self.stride[d] - 2 * self.padding[d] + self.dilation[d] * (self.kernel_size[d] - 1) + 1 for d in range(n)]
        high = [low[d] + self.stride[d] - 1 for d in range(n)]
        if any(not a <= s <= b for a, s, b in zip(low, output_size, high, strict=True)):
            raise ValueError(f"requested an output size of {output_size}, but valid sizes range from {low} to {high} (for an input of {input.size()[2:]})")
        return tuple(s - a for s, a in zip(output_size, low, strict=True))

    def forward(self, input: Any, output_size: Sequence[int] | None = None) -> Any:
        conv = getattr(F, f"conv_transpose{self._spatial}d")
        return conv(input, self.weight, self.bias, self.stride, self.padding, self._output_padding(input, output_size), self.groups, self.dilation)


class ConvTranspose1d(_ConvTransposeNd):
    """The transpose of :class:`Conv1d`, which enlarges by ``stride``.

    Parameters
    ----------
    output_padding : int or tuple
        Added at the output's end, where several sizes would be possible.

    Attributes
    ----------
    weight : Parameter
        Shape ``(in_channels, out_channels / groups, *kernel_size)``.
    """

    _spatial = 1


class ConvTranspose2d(_ConvTransposeNd):
    """The transpose of :class:`Conv2d`; see :class:`ConvTranspose1d`."""

    _spatial = 2


class ConvTranspose3d(_ConvTransposeNd):
    """The transpose of :class:`Conv3d`; see :class:`ConvTranspose1d`."""

    _spatial = 3
