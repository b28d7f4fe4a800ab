"""NumPy arrays over memory: how the values of tensors are seen from outside, and by library routines.

An array made from a description of foreign memory (``__array_interface__``) costs four times as much as one over an object with a buffer, so the
memory is given as that: as one block from an address on, without an end.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from .dtype import DTYPES, bfloat16, dtype

_block = (ctypes.c_char * (1 << 46)).from_address       # as much as there can be
_kinds: dict[Any, Any] = {}     # NumPy's types by ours
_dtypes: dict[Any, dtype] = {}  # ours by NumPy's
_ndarray: Any = None


def kind_of(d: dtype) -> Any:
    """The NumPy type of an element in memory; bfloat16 is its bits, as uint16."""
    global _ndarray
    kind = _kinds.get(d)
    if kind is None:
        import numpy as np

        _ndarray = np.ndarray
        kind = _kinds[d] = np.dtype(np.uint16 if d is bfloat16 else d.name)
        if d is not bfloat16:
            _dtypes[kind] = d
    return kind


def dtype_of(kind: Any) -> dtype | None:
    """Our type for one of NumPy's that is stored alike."""
    found = _dtypes.get(kind)
    if found is None:
        for d in DTYPES.values():
            kind_of(d)
        found = _dtypes.get(kind)
    return found


def array_over(address: int, shape: Sequence[int], strides: Sequence[int] | None, d: dtype, owner: Any = None) -> Any:
    """The memory from ``address`` on as a writable array of this shape, which keeps ``owner`` alive.

    ``strides`` are counted in elements; None means row-major.
    """
    kind = kind_of(d)
    if 0 in shape:
        return _ndarray(shape, kind)
    block = _block(address)
    if owner is not None:
        block.owner = owner  # type: ignore[attr-defined]
    return _ndarray(shape, kind, block, 0, None if strides is None else tuple([s * d.itemsize for s in strides]))


__all__ = ["array_over", "dtype_of", "kind_of"]
