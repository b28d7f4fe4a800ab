"""Numerical limits of the dtypes: ``finfo`` and ``iinfo``."""

from __future__ import annotations

from typing import Any

from .dtype import dtype, get_default_dtype

_FLOAT = {  # (mantissa bits, smallest normal exponent, largest value)
    "float64": (52, -1022, 1.7976931348623157e308, 15), "float32": (23, -126, 3.4028234663852886e38, 6),
    "float16": (10, -14, 65504.0, 3), "bfloat16": (7, -126, 3.3895313892515355e38, 2),
}


class finfo:
    """Limits of a floating-point dtype: ``bits eps max min tiny smallest_normal resolution dtype``."""

    def __init__(self, type: dtype | None = None) -> None:
        d = get_default_dtype() if type is None else type
        if not isinstance(d, dtype) or not d.is_floating_point:
            raise TypeError(f"torch.finfo() requires a floating point input type. Use torch.iinfo to handle '{d}'")
        bits, low, high, digits = _FLOAT[d.name]
        self.bits = 8 * d.itemsize
        self.eps = 2.0 ** -bits
        self.max, self.min = high, -high
        self.tiny = self.smallest_normal = 2.0 ** low
        self.resolution = 10.0 ** -digits
        self.dtype = d.name

    def __repr__(self) -> str:
        return (f"finfo(resolution={self.resolution:g}, min={self.min:g}, max={self.max:g}, eps={self.eps:g}, "
                f"smallest_normal={self.smallest_normal:g}, tiny={self.tiny:g}, dtype={self.dtype})")


class iinfo:
    """Limits of an integer dtype: ``bits max min dtype``."""

    def __init__(self, type: Any) -> None:
        if not isinstance(type, dtype) or type.category != 1:
            raise TypeError(f"torch.iinfo() requires an integer input type. Use torch.finfo to handle '{type}'")
        self.bits = 8 * type.itemsize
        self.max = 2 ** (self.bits - type.is_signed) - 1
        self.min = -(2 ** (self.bits - 1)) if type.is_signed else 0
        self.dtype = type.name

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"
