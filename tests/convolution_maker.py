"""Programs of convolutions for the tests of several forms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from program_maker import Maker

from flambeau.core.dtype import dtype, float32
from flambeau.ir import expression as ir
from flambeau.ir.loops import Nest


def activated_gradient(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                       result: Sequence[int], d: dtype, n: int = 2, c: int = 17, o: int = 9) -> tuple:
    """A program: the gradient of a convolution with a stride with respect to its input, then an activation; its result, and the values this should have."""
    rank = len(size)
    kind = np.float32 if d is float32 else np.float64
    g = np.random.default_rng(3)
    x, w = g.standard_normal((n, o, *size)).astype(kind), g.standard_normal((o, c, *kernel)).astype(kind)
    m = Maker()
    image, weight = m.external(x, d), m.external(w, d)
    zero = ir.const(0, ir.int64)
    guard = condition = None
    offset = zero
    for i in range(rank):
        reach = ir.axis(2 + i) + padding[i] - ir.axis(3 + rank + i) * dilation[i]
        place = reach // stride[i]
        offset = offset + place * image.strides[2 + i]
        for inside in (zero <= place, place < size[i]):
            guard = inside if guard is None else guard & inside
        if stride[i] > 1:
            even = (reach % stride[i]).eq(0)
            condition = even if condition is None else condition & even
    xs, ws = image.strides, weight.strides
    load = ir.make("load", d, (offset, guard), ir.Access(0, 0, (xs[0], 0, *[0] * rank, xs[1], *[0] * rank), d, 0))
    factor = ir.make("load", d, (), ir.Access(1, 0, (0, ws[1], *[0] * rank, ws[0], *ws[2:]), d))
    y = m.fresh((n, c, *result), d)
    m.steps.append(Nest("reduce", (n, c, *result, o, *kernel), 2 + rank, ir.where(condition, load * factor, 0), y.access(3 + 2 * rank), "sum", ir.acc(d)))
    z = m.map(ir.maximum(y.element(y.shape), ir.const(0.0, d)), y.shape)
    m.buffers[z.slot].live = True
    expected = np.zeros((n, c, *[max(r + 2 * p, (a - 1) * s + (k - 1) * e + 1)
                                 for r, p, a, s, k, e in zip(result, padding, size, stride, kernel, dilation, strict=True)]))
    for tap in np.ndindex(*kernel):
        places = tuple(slice(t * e, t * e + (a - 1) * s + 1, s) for t, e, a, s in zip(tap, dilation, size, stride, strict=True))
        expected[(..., *places)] += np.einsum("no...,oc->nc...", x.astype(np.float64), w[(..., *tap)].astype(np.float64))
    expected = np.maximum(expected[(..., *[slice(p, p + r) for p, r in zip(padding, result, strict=True)])], 0)
    return m, z, expected
