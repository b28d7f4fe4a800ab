"""The language of ``@compute`` formulas: output axes, reduced axes, operands read at index expressions.

A formula is run once per signature with concrete shapes.  ``out(*sizes)`` makes the index variables of the result, ``over``
those of a reduction; ``x[i, j]`` is an element of operand ``x``.  :func:`build` turns what it returns into loop nests over
operand numbers; binding them to the slots of one call is :func:`instantiate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.dtype import compute_dtype, dtype, int64
from ..core.shape import Meta, contiguous_strides
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import Nest
from ..stream.record import LOCK

_FIRST_REDUCED = 1000        # axis numbers of reduced axes while a formula runs
RESULT = -1                  # the "operand number" of the result


class Indices(tuple[Expr, ...]):
    """Index variables, one per axis of the result."""

    __slots__ = ()

    def replace(self, dim: int, index: Expr | int) -> Indices:
        """The same with position ``dim`` read at ``index``."""
        e = ir.const(index, int64) if isinstance(index, int) else index
        return Indices((*self[:dim], e, *self[dim + 1:]))


class Reduced(NamedTuple):
    """A combination of ``value`` over ``axes``; ``then`` finishes it."""

    combine: str
    value: Expr
    finish: Expr | None = None

    def then(self, f: Callable[[Expr], Expr]) -> Reduced:
        """Apply ``f`` to the finished accumulator."""
        return self._replace(finish=f(ir.acc(self.value.dtype) if self.finish is None else self.finish))


class Scanned(NamedTuple):
    """The running combination of ``value`` along the last output axis."""

    combine: str
    value: Expr
    axis: Expr


class Scattered(NamedTuple):
    """``base`` with ``value`` combined into it at ``indices`` for every output index (duplicates in ascending order)."""

    base: Operand | Expr        # an operand to copy, or the expression of every element before the scatter
    indices: tuple[Expr, ...]
    value: Expr
    shape: tuple[int, ...]
    combine: str = ""
    guard: Expr | None = None


class _Build:
    """State of the formula that is running."""

    def __init__(self) -> None:
        self.kept: list[int] = []
        self.gone: list[int] = []
        self.checks = False


_build: _Build = _Build()


def out(*sizes: int) -> Indices:
    """The index variables of a result of this shape."""
    first = len(_build.kept)
    _build.kept.extend(sizes)
    return Indices(ir.axis(first + i) for i in range(len(sizes)))


def over(*sizes: int) -> Any:
    """Index variables to combine over: one, or a tuple when several sizes are given."""
    first = _FIRST_REDUCED + len(_build.gone)
    _build.gone.extend(sizes)
    made = tuple(ir.axis(first + i) for i in range(len(sizes)))
    return made[0] if len(made) == 1 else Indices(made)


def Sum(value: Expr, *axes: Any) -> Reduced:
    """Σ of ``value`` over the reduced axes (named for the reader; all axes made by ``over`` are combined)."""
    return Reduced("sum", value)


def Combine(op: str, value: Expr) -> Reduced:
    """``sum prod max min any all`` of ``value`` over the reduced axes."""
    return Reduced(op, value)


class Operand:
    """An operand of a formula: its metadata, and its elements by indexing."""

    __slots__ = ("dtype", "meta", "ndim", "number", "shape")

    def __init__(self, number: int, meta: Meta) -> None:
        self.number, self.meta = number, meta
        self.shape, self.dtype, self.ndim = meta.shape, meta.dtype, meta.ndim

    def size(self, dim: int) -> int:
        """The size of one axis."""
        return self.shape[dim]  # type: ignore[no-any-return]

    def __getitem__(self, indices: Any) -> Expr:
        return self.at(*(indices if isinstance(indices, tuple) else (indices,)))

    def at(self, *indices: Any, outside: float | int | bool | None = None, error: str | None = None) -> Expr:
        """The element at ``indices``; ``outside``: the value read beyond the edges (else data-dependent indices are checked).

        16-bit floats arrive as float32.
        """
        if len(indices) != self.ndim:
            raise TypeError(f"operand {self.number} has {self.ndim} dimensions, got {len(indices)} indices")
        guard: Expr | None = None
        places: list[Expr] = []
        for d, i in enumerate(indices):
            e = as_index(i)
            size = self.shape[d]
            low, high = bounds(e)
            if outside is not None:
                if low is None or low < 0:
                    g = ir.const(0, int64) <= e
                    guard = g if guard is None else guard & g
                if high is None or high >= size:
                    g = e < size
                    guard = g if guard is None else guard & g
            elif (low is None or high is None) and e.op != "checked":
                e = check(e, size, error or f"IndexError|index {{index}} is out of bounds for dimension {d} with size {{size}}")
            places.append(e)
        access = (self.number, None if guard is None else outside)
        args = tuple(places) if guard is None else (*places, guard)
        e = ir.make("operand", self.dtype, args, (access, self.ndim, self.meta))
        return e.cast(compute_dtype(self.dtype))


class Number:
    """A Python number in the place of a 0-d operand."""

    __slots__ = ("dtype", "value")
    shape: tuple[int, ...] = ()
    ndim = 0

    def __init__(self, value: Expr, d: dtype) -> None:
        self.value, self.dtype = value, d

    def __getitem__(self, indices: tuple[()]) -> Expr:
        return self.value


def check(index: Expr, size: int, message: str) -> Expr:
    """``index``, or an execution error with ``message`` when it is not in ``0 .. size-1``."""
    _build.checks = True
    return ir.checked(as_index(index), size, message)


def as_index(i: Any) -> Expr:
    """An index expression (int64) from an int or an integer expression."""
    if isinstance(i, int):
        return ir.const(i, int64)
    return i if i.dtype is int64 else i.cast(int64)  # type: ignore[no-any-return]


def _size_of_axis(number: int) -> int:
    return _build.gone[number - _FIRST_REDUCED] if number >= _FIRST_REDUCED else _build.kept[number]


def bounds(e: Expr) -> tuple[int | None, int | None]:
    """The smallest and largest value an index expression can take; None where that depends on data."""
    if e.op == "const":
        return e.attr, e.attr
    if e.op == "axis":
        return 0, _size_of_axis(e.attr) - 1
    if e.op == "checked":
        return 0, e.args[1].attr - 1
    if e.op in ("add", "sub", "mul", "floordiv", "mod", "minimum", "maximum"):
        (a, b), (c, d) = bounds(e.args[0]), bounds(e.args[1])
        if a is not None and b is not None and c is not None and d is not None:
            if e.op == "add":
                return a + c, b + d
            if e.op == "sub":
                return a - d, b - c
            if e.op == "mul":
                products = (a * c, a * d, b * c, b * d)
                return min(products), max(products)
            if e.op == "floordiv" and c == d and c > 0:
                return a // c, b // c
            if e.op == "mod" and c == d and c > 0:
                return (0, c - 1) if a < 0 or b >= c else (a, b)
        if e.op == "mod" and c is not None and c == d and c > 0:
            return 0, c - 1
        if e.op == "minimum":
            return None if a is None or c is None else min(a, c), min((x for x in (b, d) if x is not None), default=None)
        if e.op == "maximum":
            return max((x for x in (a, c) if x is not None), default=None), None if b is None or d is None else max(b, d)
    if e.op == "where":
        (a, b), (c, d) = bounds(e.args[1]), bounds(e.args[2])
        if a is not None and b is not None and c is not None and d is not None:
            return min(a, c), max(b, d)
    return None, None


def affine(e: Expr) -> tuple[int, dict[int, int], Expr | None]:
    """``e`` as constant + Σ coefficient·axis + rest; ``rest`` is None when ``e`` is affine."""
    if e.op == "const":
        return e.attr, {}, None
    if e.op == "axis":
        return 0, {e.attr: 1}, None
    if e.op in ("add", "sub"):
        (c0, a0, r0), (c1, a1, r1) = affine(e.args[0]), affine(e.args[1])
        sign = 1 if e.op == "add" else -1
        merged = dict(a0)
        for k, v in a1.items():
            merged[k] = merged.get(k, 0) + sign * v
        if r1 is None:
            rest = r0
        elif r0 is None:
            rest = r1 if sign == 1 else -r1
        else:
            rest = r0 + r1 if sign == 1 else r0 - r1
        return c0 + sign * c1, merged, rest
    if e.op == "mul":
        for x, factor in (e.args, e.args[::-1]):
            if factor.op == "const":
                c, a, r = affine(x)
                n = factor.attr
                return c * n, {i: v * n for i, v in a.items()}, None if r is None else r * n
    return 0, {}, e


class Template(NamedTuple):
    """The nests of one signature over operand numbers (``RESULT`` stands for the destination)."""

    nests: list[Nest]
    shape: tuple[int, ...]
    dtype: dtype
    checks: bool


def build(run: Callable[[], Any], result_dtype: Callable[[dtype], dtype]) -> Template:
    """Run a formula and bind it to its axes; one thread at a time, because the formula's axes are collected in one place."""
    with LOCK:
        return _built(run, result_dtype)


def _built(run: Callable[[], Any], result_dtype: Callable[[dtype], dtype]) -> Template:
    global _build
    saved, _build = _build, _Build()
    try:
        r = run()
        state = _build
        kept, gone = tuple(state.kept), tuple(state.gone)
        number = {i: i for i in range(len(kept))} | {_FIRST_REDUCED + i: len(kept) + i for i in range(len(gone))}
        memo: dict[Expr, Expr] = {}

        def place(e: Expr) -> Expr:
            return ir.rewrite(e, lambda x: _place(x, number, place), memo)

        def store(shape: Sequence[int], d: dtype, axes: int) -> Access:
            return Access(RESULT, 0, contiguous_strides(shape) + (0,) * (axes - len(shape)), d)

        n = len(kept) + len(gone)
        if isinstance(r, Expr):
            d = result_dtype(r.dtype)
            nests = [Nest("map", kept, len(kept), place(r).cast(d), store(kept, d, n))]
            shape = kept
        elif isinstance(r, Reduced):
            finish = ir.acc(r.value.dtype) if r.finish is None else r.finish
            d = result_dtype(finish.dtype)
            nests = [Nest("reduce", kept + gone, len(kept), place(r.value), store(kept, d, n), r.combine, place(finish.cast(d)))]
            shape = kept
        elif isinstance(r, Scanned):
            d = result_dtype(r.value.dtype)
            last = len(kept) - 1
            order = [i for i in range(len(kept)) if i != r.axis.attr] + [r.axis.attr]
            if order[-1] != last:          # the scanned axis is the last of the nest
                number = {old: new for new, old in enumerate(order)}
                memo = {}
            strides = contiguous_strides(kept)
            nests = [Nest("scan", tuple(kept[i] for i in order), last, place(r.value), Access(RESULT, 0, tuple(strides[i] for i in order), d),
                          r.combine, ir.acc(r.value.dtype).cast(d))]
            shape = kept
        elif isinstance(r, Scattered):
            shape = tuple(r.shape)
            if isinstance(r.base, Operand):
                i = tuple(ir.axis(k) for k in range(len(shape)))
                identity = {k: k for k in range(len(shape))}
                base_value = _place(ir.make("operand", r.base.dtype, i, ((r.base.number, None), len(shape), r.base.meta)), identity, place)
                d = r.base.dtype
            else:
                d = result_dtype(r.base.dtype)
                base_value = r.base.cast(d)
            assert base_value is not None
            c, a, rest = affine(sum_index(r.indices, contiguous_strides(shape)))
            strides = tuple(a.get(k, 0) for k in range(len(kept)))
            nests = [
                Nest("map", shape, len(shape), base_value, store(shape, d, len(shape))),
                Nest("scatter", kept, len(kept), place(r.value).cast(compute_dtype(d)) if r.combine else place(r.value).cast(d),
                     Access(RESULT, c, strides, d), r.combine,
                     target=ir.const(0, int64) if rest is None else place(rest), guard=None if r.guard is None else place(r.guard)),
            ]
        else:
            raise TypeError(f"a formula returns an expression or a reduction, got {type(r).__name__}")
        return Template(nests, tuple(shape), nests[-1].store.dtype, state.checks)
    finally:
        _build = saved


def sum_index(indices: Sequence[Expr], strides: Sequence[int]) -> Expr:
    """The element number Σ index·stride."""
    e: Expr = ir.const(0, int64)
    for i, s in zip(indices, strides, strict=True):
        e = e + i * s
    return e


def _place(x: Expr, number: dict[int, int], place: Callable[[Expr], Expr]) -> Expr | None:
    if x.op == "axis":
        return ir.axis(number[x.attr])
    if x.op != "operand":
        return None
    (operand, fill), ndim, m = x.attr
    c, a, rest = affine(sum_index(x.args[:ndim], m.strides))
    strides = [0] * len(number)
    for k, v in a.items():
        strides[number[k]] += v
    args: tuple[Expr, ...] = ()
    if fill is not None:
        args = (place(rest) if rest is not None else ir.const(0, int64), place(x.args[ndim]))
    elif rest is not None:
        args = (place(rest),)
    return ir.make("load", x.dtype, args, Access(operand, m.offset + c, tuple(strides), m.dtype, fill))


def instantiate(nests: Sequence[Nest], slots: Sequence[int], destination: tuple[int, Meta | None], first_scalar: int, origin: Any) -> list[Nest]:
    """The nests of one call: operand numbers replaced by ``slots``, the result stored to slot ``destination[0]``.

    ``destination[1]``: the layout to store through (a view written in place), None for a fresh row-major result.
    """
    result_slot, view = destination
    memo: dict[Expr, Expr] = {}

    def leaf(x: Expr) -> Expr | None:
        if x.op == "load":
            slot = result_slot if x.attr.slot == RESULT else slots[x.attr.slot]
            if slot == x.attr.slot and not x.args:
                return x
            args = tuple([ir.rewrite(a, leaf, memo) for a in x.args])
            return ir.make("load", x.dtype, args, x.attr._replace(slot=slot))
        if x.op == "scalar" and first_scalar:
            return ir.scalar(x.attr + first_scalar, x.dtype)
        return None

    out = []
    for nest in nests:
        s = nest.store
        value = ir.rewrite(nest.value, leaf, memo)
        finish = None if nest.finish is None else ir.rewrite(nest.finish, leaf, memo)
        if view is None:
            s = s._replace(slot=result_slot)
        else:
            s = Access(result_slot, view.offset, view.strides + (0,) * (len(nest.sizes) - len(view.strides)), view.dtype)
            if finish is not None:
                finish = finish.cast(view.dtype)
            else:
                value = value.cast(view.dtype)
        out.append(Nest(nest.kind, nest.sizes, nest.kept, value, s, nest.combine, finish,
                        None if nest.target is None else ir.rewrite(nest.target, leaf, memo),
                        None if nest.guard is None else ir.rewrite(nest.guard, leaf, memo), origin))
    return out
