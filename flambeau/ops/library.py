"""Large products by NumPy's BLAS: what a contraction's signature may choose instead of its formula's loops.

Each ``*_by_blas`` decides on metadata alone whether the routine is worth its fixed cost, and returns it or None; the routines
take NumPy views of the operands and fill the result's.  Integers always use the loops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core import blas
from ..core.shape import Meta, count

Routine = Callable[..., None]

WORTHWHILE = 1 << 16        # multiply-adds from which a library call pays for itself


def matmul_by_blas(a: Meta, b: Meta) -> Routine | None:
    """The routine for ``a @ b``, or None."""
    if not a.dtype.is_floating_point:
        return None
    inner = a.shape[-1] or 1
    rows = a.shape[-2] if a.ndim > 1 else 1
    columns = b.shape[-1] if b.ndim > 1 else 1
    batch = max(count(a.shape[:-2]), count(b.shape[:-2]))
    if batch * rows * inner * columns <= WORTHWHILE or (min(rows, columns) == 1 and b.ndim <= 2 and a.ndim == 1):
        return None
    return product


def product(ins: list[Any], outs: list[Any], scalars: list[Any]) -> None:
    """``outs[0] = ins[0] @ ins[1]``."""
    import numpy as np

    blas.prepare()
    (a, b), (y,) = ins, outs
    if a.ndim > 2 and b.ndim <= 2 and a.strides[:-1] == _row_strides(a):
        # one matrix for the whole batch: one product of many rows
        a, y = a.reshape(-1, a.shape[-1]), y.reshape(-1, *y.shape[a.ndim - 1:])
    np.matmul(a, b, out=y)


def _row_strides(a: Any) -> tuple[int, ...]:
    """The strides of all but the last axis of an array whose rows follow each other evenly."""
    step = a.strides[-2]
    strides = []
    for n in reversed(a.shape[:-1]):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
