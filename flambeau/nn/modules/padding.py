"""Padding layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .module import Module
from .utils import _ntuple


class _PadNd(Module):
    """Padding as ``(before, after)`` of each of the last ``_spatial`` dimensions, the last one first."""

    __constants__ = ["padding"]
    _spatial: int
    _mode: str

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = _ntuple(2 * self._spatial)(padding)

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_PadNd):
    """Padding with one value."""

    __constants__ = ["padding", "value"]
    _mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def forward(self, input: Any) -> Any:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class _ZeroPadNd(_ConstantPadNd):
    """Padding with zeros."""

    def __init__(self, padding: Any) -> None:
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ReflectionPadNd(_PadNd):
    """Padding that mirrors the input without repeating its edge."""

    _mode = "reflect"


class _ReplicationPadNd(_PadNd):
    """Padding that repeats the edge."""

    _mode = "replicate"


class _CircularPadNd(_PadNd):
    """Padding from the opposite side."""

    _mode = "circular"

    def _check_input_dim(self, input: Any) -> None:
        n = self._spatial
        if input.dim() not in (n + 1, n + 2):
            raise ValueError(f"expected {n + 1}D or {n + 2}D input (got {input.dim()}D input)")

    def forward(self, input: Any) -> Any:
        self._check_input_dim(input)
        return super().forward(input)


class ConstantPad1d(_ConstantPadNd):
    """Pads with ``value``: the last dimension."""

    _spatial = 1


class ConstantPad2d(_ConstantPadNd):
    """Pads with ``value``: the last two dimensions."""

    _spatial = 2


class ConstantPad3d(_ConstantPadNd):
    """Pads with ``value``: the last three dimensions."""

    _spatial = 3


class ZeroPad1d(_ZeroPadNd):
    """Pads with zeros: the last dimension."""

    _spatial = 1


class ZeroPad2d(_ZeroPadNd):
    """Pads with zeros: the last two dimensions."""

    _spatial = 2


class ZeroPad3d(_ZeroPadNd):
    """Pads with zeros: the last three dimensions."""

    _spatial = 3


class ReflectionPad1d(_ReflectionPadNd):
    """Pads by mirroring: the last dimension."""

    _spatial = 1


class ReflectionPad2d(_ReflectionPadNd):
    """Pads by mirroring: the last two dimensions."""

    _spatial = 2


class ReflectionPad3d(_ReflectionPadNd):
    """Pads by mirroring: the last three dimensions."""

    _spatial = 3


class ReplicationPad1d(_ReplicationPadNd):
    """Pads by repeating the edge: the last dimension."""

    _spatial = 1


class ReplicationPad2d(_ReplicationPadNd):
    """Pads by repeating the edge: the last two dimensions."""

    _spatial = 2


class ReplicationPad3d(_ReplicationPadNd):
    """Pads by repeating the edge: the last three dimensions."""

    _spatial = 3


class CircularPad1d(_CircularPadNd):
    """Pads from the opposite side: the last dimension."""

    _spatial = 1


class CircularPad2d(_CircularPadNd):
    """Pads from the opposite side: the last two dimensions."""

    _spatial = 2


class CircularPad3d(_CircularPadNd):
    """Pads from the opposite side: the last three dimensions."""

    _spatial = 3
