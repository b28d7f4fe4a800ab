"""Large products by NumPy's BLAS: what a contraction's signature may choose instead of its formula's loops.

Each ``*_by_blas`` decides on metadata alone whether the routine is worth its fixed cost, and returns it or None; the routines
take NumPy views of the operands and fill the result's.  Integers always use the loops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product as combinations
from math import prod
from typing import Any

from ..core import blas
from ..core.shape import Meta, broadcast_shapes, count, meta

Routine = Callable[..., None]

# multiply-adds from which a library call is faster than the formula's loops (measured; the loops can be fused, and need no NumPy)
PRODUCT = 1 << 20
CONVOLUTION = 1 << 16
STRIDED_TO_INPUT = 1 << 13  # its loops divide by the stride to find what they read


def matmul_by_blas(a: Meta, b: Meta) -> Routine | None:
    """The routine for ``a @ b``, or None."""
    if not a.dtype.is_floating_point:
        return None
    inner = a.shape[-1]
    rows = a.shape[-2] if a.ndim > 1 else 1
    columns = b.shape[-1] if b.ndim > 1 else 1
    if min(rows, columns, inner) <= 2:  # as much memory as arithmetic
        return None
    return product if count(broadcast_shapes(a.shape[:-2], b.shape[:-2])) * rows * inner * columns > PRODUCT else None


def product(ins: list[Any], outs: list[Any], scalars: list[Any]) -> None:
    """``outs[0] = ins[0] @ ins[1]``."""
    import numpy as np

    blas.prepare()
    (a, b), (y,) = ins, outs
    if a.ndim > 2 and b.ndim <= 2 and a.strides[:-1] == _row_strides(a):
        # one matrix for the whole batch: one product of many rows
        a, y = a.reshape(-1, a.shape[-1]), y.reshape(-1, *y.shape[a.ndim - 1 :])
    np.matmul(a, b, out=y)


def _row_strides(a: Any) -> tuple[int, ...]:
    """The strides of all but the last axis of an array whose rows follow each other evenly."""
    step = a.strides[-2]
    strides = []
    for n in reversed(a.shape[:-1]):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


# ------------------------------------------------------------------ convolution: products with the windows of the input as columns


def _worthwhile(x: Meta, kernel: Sequence[int], size: Sequence[int], outputs: int, groups: int, limit: int) -> bool:
    """Whether a convolution of ``x`` is large, and its groups are products worth the name."""
    if not x.dtype.is_floating_point or 0 in (*x.shape, *kernel, *size, outputs):
        return False
    per_output = x.shape[1] // groups * prod(kernel)
    return x.shape[0] * outputs * prod(size) * per_output > limit and outputs // groups * (x.shape[1] // groups) >= 4


def convolution_by_blas(x: Meta, w: Meta, size: tuple[int, ...], groups: int, **how: Any) -> Routine | None:
    """The routine for a convolution, or None."""
    return convolve if _worthwhile(x, w.shape[2:], size, w.shape[0], groups, CONVOLUTION) else None


def convolution_to_input_by_blas(
    g: Meta, w: Meta, size: tuple[int, ...], stride: tuple[int, ...], groups: int, **how: Any
) -> Routine | None:
    """The routine for the gradient with respect to the input (a transposed convolution), or None."""
    x = meta((g.shape[0], w.shape[1] * groups, *size), None, 0, g.dtype)
    limit = STRIDED_TO_INPUT if max(stride) > 1 else CONVOLUTION
    return convolve_to_input if _worthwhile(x, w.shape[2:], g.shape[2:], w.shape[0], groups, limit) else None


def convolution_to_weight_by_blas(x: Meta, g: Meta, size: tuple[int, ...], groups: int, **how: Any) -> Routine | None:
    """The routine for the gradient with respect to the weight, or None."""
    return convolve_to_weight if _worthwhile(x, size, g.shape[2:], g.shape[1], groups, CONVOLUTION) else None


def convolve(
    ins: list[Any],
    outs: list[Any],
    scalars: list[Any],
    *,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    """``outs[0]`` = convolution of ``ins[0]`` by ``ins[1]``, one image after the other."""
    import numpy as np

    blas.prepare()
    (x, w), (y,) = ins, outs
    matrices = w.reshape(groups, w.shape[0] // groups, -1)
    y = y.reshape(len(x), groups, w.shape[0] // groups, -1)
    for windows, image in zip(_windows(x, w.shape[2:], size, stride, padding, dilation), y, strict=True):
        np.matmul(matrices, windows.reshape(groups, matrices.shape[2], -1), out=image)


def convolve_to_weight(
    ins: list[Any],
    outs: list[Any],
    scalars: list[Any],
    *,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    """``outs[0]`` = gradient of the weight for input ``ins[0]`` and output gradient ``ins[1]``, summed over the images in order."""
    import numpy as np

    blas.prepare()
    (x, g), (y,) = ins, outs
    rows = y.reshape(groups, y.shape[0] // groups, -1)
    rows[...] = 0
    for windows, image in zip(_windows(x, size, g.shape[2:], stride, padding, dilation), g, strict=True):
        rows += np.matmul(image.reshape(groups, rows.shape[1], -1), windows.reshape(groups, rows.shape[2], -1).swapaxes(1, 2))


def convolve_to_input(
    ins: list[Any],
    outs: list[Any],
    scalars: list[Any],
    *,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> None:
    """``outs[0]`` = gradient of the input for output gradient ``ins[0]`` and weight ``ins[1]``: columns are added where they came from."""
    import numpy as np

    blas.prepare()
    (g, w), (y,) = ins, outs
    kernel, counts = w.shape[2:], g.shape[2:]
    matrices = w.reshape(groups, w.shape[0] // groups, -1).swapaxes(1, 2)
    reach = [
        max((n - 1) * s + (k - 1) * d + 1, p + z) for n, s, k, d, p, z in zip(counts, stride, kernel, dilation, padding, size, strict=True)
    ]
    padded = np.empty((y.shape[1], *reach), y.dtype)
    inner = (slice(None), *(slice(p, p + z) for p, z in zip(padding, size, strict=True)))
    for image, result in zip(g, y, strict=True):
        columns = np.matmul(matrices, image.reshape(groups, matrices.shape[2], -1)).reshape(y.shape[1], *kernel, *counts)
        padded[...] = 0
        for k in combinations(*map(range, kernel)):
            places = [slice(j * d, j * d + (n - 1) * s + 1, s) for j, d, n, s in zip(k, dilation, counts, stride, strict=True)]
            padded[(slice(None), *places)] += columns[(slice(None), *k)]
        result[...] = padded[inner]


def _windows(
    x: Any, kernel: Sequence[int], counts: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> Any:
    """The zero-padded windows of a batch as a view: ``(N, C, *kernel, *counts)``."""
    import numpy as np

    reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(counts, stride, kernel, dilation, strict=True)]
    if any(padding) or any(r > z for r, z in zip(reach, x.shape[2:], strict=True)):
        padded = np.zeros((*x.shape[:2], *(max(r, p + z) for r, p, z in zip(reach, padding, x.shape[2:], strict=True))), x.dtype)
        inner: Any = (..., *(slice(p, p + z) for p, z in zip(padding, x.shape[2:], strict=True)))
        padded[inner] = x
        x = padded
    steps = x.strides[2:]
    strides = (*x.strides[:2], *(t * d for t, d in zip(steps, dilation, strict=True)), *(t * s for t, s in zip(steps, stride, strict=True)))
    return np.lib.stride_tricks.as_strided(x, (*x.shape[:2], *kernel, *counts), strides, writeable=False)
