"""Random programs over views: what the scheduler's fuzz tests run."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from flambeau.core.dtype import dtype, float32, float64, int64
from flambeau.ir import expression as ir
from flambeau.ir.expression import Access, Expr
from flambeau.ir.loops import BufferInfo, Host, Nest, Program


@dataclass
class View:
    """A tensor: a slot seen through shape, strides and offset."""

    slot: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0
    dtype: dtype = float32

    def access(self, axes: int, lead: int = 0) -> Access:
        """The access with this view's dimensions at axes ``lead ..`` of a nest of ``axes`` axes."""
        return Access(self.slot, self.offset, (0,) * lead + self.strides + (0,) * (axes - lead - len(self.strides)), self.dtype)

    def element(self, shape: tuple[int, ...]) -> Expr:
        """This view, broadcast to ``shape``, at the nest's axes."""
        pad = len(shape) - len(self.shape)
        strides = (0,) * pad + tuple(0 if n == 1 else s for n, s in zip(self.shape, self.strides, strict=True))
        return ir.make("load", self.dtype, (), Access(self.slot, self.offset, strides, self.dtype))


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    out, run = [], 1
    for n in reversed(shape):
        out.insert(0, run)
        run *= n
    return tuple(out)


class Maker:
    """Builds a program call by call, as recording would."""

    def __init__(self) -> None:
        self.steps: list = []
        self.buffers: list[BufferInfo] = []
        self.dtypes: list[dtype] = []
        self.contents: list = []

    def external(self, array: np.ndarray, d: dtype = float32) -> View:
        self.buffers.append(BufferInfo(max(1, array.nbytes), True, True))
        self.dtypes.append(d)
        self.contents.append(array)
        return View(len(self.buffers) - 1, array.shape, contiguous(array.shape), 0, d)

    def fresh(self, shape: tuple[int, ...], d: dtype = float32) -> View:
        size = d.itemsize
        for n in shape:
            size *= n
        self.buffers.append(BufferInfo(size, False, False))
        self.dtypes.append(d)
        self.contents.append(None)
        return View(len(self.buffers) - 1, shape, contiguous(shape), 0, d)

    def map(self, value: Expr, shape: tuple[int, ...], into: View | None = None) -> View:
        out = into or self.fresh(shape, value.dtype)
        self.steps.append(Nest("map", shape, len(shape), value, out.access(len(shape))))
        return out

    def reduce(self, x: View, dims: tuple[int, ...], combine: str, finish=None, value=None) -> View:
        kept = [a for a in range(len(x.shape)) if a not in dims]
        order = kept + list(dims)
        sizes = tuple(x.shape[a] for a in order)
        v = View(x.slot, sizes, tuple(x.strides[a] for a in order), x.offset, x.dtype).element(sizes)
        v = v if value is None else value(v)
        acc = ir.acc(v.dtype)
        out = self.fresh(tuple(x.shape[a] for a in kept), v.dtype)
        self.steps.append(Nest("reduce", sizes, len(kept), v, out.access(len(sizes)), combine, acc if finish is None else finish(acc)))
        return out

    def matmul(self, a: View, b: View) -> View:
        m, k = a.shape
        n = b.shape[1]
        x = ir.make("load", a.dtype, (), Access(a.slot, a.offset, (a.strides[0], 0, a.strides[1]), a.dtype))
        y = ir.make("load", b.dtype, (), Access(b.slot, b.offset, (0, b.strides[1], b.strides[0]), b.dtype))
        out = self.fresh((m, n), a.dtype)
        self.steps.append(Nest("reduce", (m, n, k), 2, x * y, Access(out.slot, 0, (n, 1, 0), out.dtype), "sum", ir.acc(a.dtype)))
        return out

    def scan(self, x: View, dim: int) -> View:
        order = [a for a in range(len(x.shape)) if a != dim] + [dim]
        sizes = tuple(x.shape[a] for a in order)
        out = self.fresh(x.shape, x.dtype)
        v = View(x.slot, sizes, tuple(x.strides[a] for a in order), x.offset, x.dtype).element(sizes)
        store = Access(out.slot, 0, tuple(out.strides[a] for a in order), x.dtype)
        self.steps.append(Nest("scan", sizes, len(sizes) - 1, v, store, "sum", ir.acc(x.dtype)))
        return out

    def host_double(self, x: View) -> View:
        out = self.fresh(x.shape, x.dtype)
        self.steps.append(Host(double, ((x.access(len(x.shape)), x.shape),), ((out.access(len(x.shape)), x.shape),), (), "double"))
        return out

    def program(self) -> Program:
        return Program(self.steps, self.buffers, [])


def double(ins, outs, scalars) -> None:
    """A host routine."""
    outs[0][...] = ins[0] * 2


SMALL = [(3, 5), (1, 7), (4, 1), (5, 18), (1, 1), (17, 33), (6, 4), (2, 40)]
LARGE = [(70, 600), (3, 20000), (1, 40000), (30000, 2), (256, 256)]      # enough for unrolled loops, chunks and several units


def random_program(seed: int, sizes: list[tuple[int, int]] | None = None) -> tuple[Maker, list[View]]:
    """A program of 3 to 36 calls over matrices of one of the sizes; the views that are still referenced at the end."""
    R = random.Random(seed)
    rng = np.random.default_rng(seed)
    m = Maker()
    views: list[View] = []
    n, k = R.choice(sizes or SMALL)
    for shape in ((n, k), (n, k), (k,), (n, 1), (k, n), (), (n, 2, k)):
        views.append(m.external(rng.standard_normal(shape).astype("f")))
    index = m.external(rng.integers(0, k, n), int64)
    E = ir.E
    for _ in range(R.randint(3, 36)):
        a = R.choice(views)
        s = a.shape
        fits = [b for b in views if len(b.shape) <= len(s) and all(x == y or x == 1 for x, y in zip(b.shape[::-1], s[::-1], strict=False))]
        b = R.choice(fits)
        what = R.random()
        if what < 0.22:
            x, y = a.element(s), b.element(s)
            views.append(m.map(R.choice([x + y, x - y, E.maximum(x, y), x * 0.5 + y]), s))
        elif what < 0.32:
            x = a.element(s)
            constant = ir.const(R.choice([0.0, 2.5]), float32)
            if s and R.random() < 0.3:      # values that depend on where they are, and other types in between
                i = ir.axis(R.randrange(len(s)))
                odd = ir.compare("eq", i % 2, ir.const(1, int64))
                views.append(m.map(R.choice([ir.where(odd, x, x * 0.5), x + i.cast(float32) * 0.01, (x.cast(float64) * 1.5).cast(float32)]), s))
                continue
            views.append(m.map(R.choice([E.tanh(x), -x, E.abs(x), ir.where(x > 0.0, x, x * 0.1), x * 0.0 + 1.5, constant]), s))
        elif what < 0.42 and len(s) >= 2:
            p = list(range(len(s)))
            R.shuffle(p)
            views.append(View(a.slot, tuple(s[i] for i in p), tuple(a.strides[i] for i in p), a.offset))
        elif what < 0.50 and s:
            d = R.randrange(len(s))
            lo = R.randrange(s[d])
            if R.random() < 0.5:
                views.append(View(a.slot, s[:d] + s[d + 1:], a.strides[:d] + a.strides[d + 1:], a.offset + lo * a.strides[d]))
            else:
                hi = R.randint(lo + 1, s[d])
                step = R.choice([1, 1, 2])
                strides = (*a.strides[:d], a.strides[d] * step, *a.strides[d + 1:])
                views.append(View(a.slot, (*s[:d], -(-(hi - lo) // step), *s[d + 1:]), strides, a.offset + lo * a.strides[d]))
        elif what < 0.56 and len(s) >= 2:
            if a.strides == contiguous(s):
                j = R.randrange(len(s) - 1)
                new = (*s[:j], s[j] * s[j + 1], *s[j + 2:])
                views.append(View(a.slot, new, contiguous(new), a.offset))
        elif what < 0.72:
            x = a.element(s)
            same = b.slot == a.slot
            if same and (b.offset, b.strides, b.shape) != (a.offset, a.strides, a.shape):
                continue
            y = b.element(s)
            m.map(R.choice([x + y, x - y * 0.25, y, E.tanh(y), ir.const(0.0, float32), x * 0.5]), s, a)
        elif what < 0.84 and s:
            dims = tuple(d for d in range(len(s)) if R.random() < 0.6) or (len(s) - 1,)
            combine = R.choice(["sum", "sum", "max", "min"])
            finish = R.choice([None, lambda acc: acc * 0.25, lambda acc: E.tanh(acc)])
            r = m.reduce(a, dims, combine, finish, R.choice([None, lambda v: v * v * 0.1, lambda v: v * 0.5 - 1.0]))
            if R.random() < 0.4:
                r = View(r.slot, tuple(1 if d in dims else s[d] for d in range(len(s))), tuple(
                    0 if d in dims else r.strides[[e for e in range(len(s)) if e not in dims].index(d)] for d in range(len(s))))
            views.append(r)
        elif what < 0.89 and len(s) == 2:
            others = [v for v in views if len(v.shape) == 2 and v.shape[0] == s[1] and s[0] * s[1] * v.shape[1] < 1 << 22]
            if others:
                y = m.matmul(a, R.choice(others))
                views.append(m.map(E.tanh(y.element(y.shape)), y.shape))
        elif what < 0.92 and s:
            y = m.scan(a, R.randrange(len(s)))
            views.append(m.map(E.tanh(y.element(y.shape)), y.shape))
        elif what < 0.94:
            views.append(m.map(m.host_double(a).element(s), s))
        elif what < 0.97 and s == (n, k):
            i = ir.make("load", int64, (), Access(index.slot, 0, (1,), int64))
            if R.random() < 0.5:
                at = ir.checked(i, k, "index {index} of {size}") * a.strides[1]
                views.append(m.map(ir.make("load", float32, (at,), Access(a.slot, a.offset, (a.strides[0],), float32)), (n,)))
            else:
                store = Access(a.slot, a.offset, (a.strides[0],), float32)
                m.steps.append(Nest("scatter", (n,), 1, ir.const(0.5, float32), store, R.choice(["", "sum"]),
                                    target=ir.checked(i, k, "bad") * a.strides[1]))
        elif len(views) > 4:
            views.pop(R.randrange(len(views)))
    for v in views:
        m.buffers[v.slot].live = True
    return m, views


__all__ = ["LARGE", "Maker", "View", "contiguous", "random_program"]
