"""Numerical limits of the dtypes: ``finfo`` and ``iinfo``."""

from __future__ import annotations

import math
from typing import Any

from .dtype import bool_, dtype, float32, get_default_dtype

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


def fits(value: float, d: dtype) -> bool:
    """Whether a number can be written into a tensor of dtype ``d``; of whole numbers, a small negative one wraps into uint8."""
    if d.is_floating_point:
        return d is not float32 or not math.isfinite(value) or abs(value) <= _FLOAT["float32"][2]
    bits = 8 * d.itemsize
    if isinstance(value, float):
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if d.is_signed else (0, (1 << bits) - 1)
        return low <= value <= high
    return -(1 << (bits - 1)) <= value < (1 << (bits - 1)) if d.is_signed else -(1 << bits) < value < 1 << bits


_C_NAMES = {"int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t", "int32": "int", "int64": "int64_t", "float32": "float"}


def as_element(value: Any, d: dtype) -> Any:
    """A Python number as what an element of dtype ``d`` is computed from: a float, or an int.

    Raises ``RuntimeError`` where it does not fit.
    """
    if d is bool_:
        return int(bool(value))
    if not fits(value, d):
        raise RuntimeError(f"value cannot be converted to type {_C_NAMES.get(d.name, d.name)} without overflow\n"
                           f"full: {value} does not fit into {d.name}.")
    return float(value) if d.is_floating_point else int(value)
