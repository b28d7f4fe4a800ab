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


def weight_gradient(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
                    d: dtype, n: int, c: int, o: int) -> tuple:
    """A program: the gradient of a convolution with respect to its weight; its result, and the values this should have."""
    rank = len(size)
    kind = np.float32 if d is float32 else np.float64
    out = [(z + 2 * p - e * (k - 1) - 1) // s + 1 for z, k, s, p, e in zip(size, kernel, stride, padding, dilation, strict=True)]
    g = np.random.default_rng(3)
    x, y = g.standard_normal((n, c, *size)).astype(kind), g.standard_normal((n, o, *out)).astype(kind)
    m = Maker()
    image, rows = m.external(x, d), m.external(y, d)
    taps, places = range(2, 2 + rank), range(3 + rank, 3 + 2 * rank)
    xs, ys = image.strides, rows.strides
    strides, guard = [0, xs[1], *[0] * rank, xs[0], *[0] * rank], None
    for i in range(rank):
        strides[taps[i]], strides[places[i]] = dilation[i] * xs[2 + i], stride[i] * xs[2 + i]
        place = ir.axis(places[i]) * stride[i] + ir.axis(taps[i]) * dilation[i] - padding[i]
        for inside in (ir.const(0, ir.int64) <= place, place < size[i]):
            guard = inside if guard is None else guard & inside
    first = -sum(s * p for s, p in zip(xs[2:], padding, strict=True))
    load = ir.make("load", d, (ir.const(0, ir.int64), guard), ir.Access(0, first, tuple(strides), d, 0))
    factor = ir.make("load", d, (), ir.Access(1, 0, (ys[1], 0, *[0] * rank, ys[0], *ys[2:]), d))
    z = m.fresh((o, c, *kernel), d)
    m.steps.append(Nest("reduce", (o, c, *kernel, n, *out), 2 + rank, load * factor, z.access(3 + 2 * rank), "sum", ir.acc(d)))
    m.buffers[z.slot].live = True
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), *[(p, p) for p in padding]))
    expected = np.zeros((o, c, *kernel))
    for tap in np.ndindex(*kernel):
        seen = padded[(..., *[slice(t * e, t * e + (a - 1) * s + 1, s) for t, e, a, s in zip(tap, dilation, out, stride, strict=True)])]
        expected[(..., *tap)] = np.einsum("noz,ncz->oc", y.reshape(n, o, -1).astype(np.float64), seen.reshape(n, c, -1))
    return m, z, expected
