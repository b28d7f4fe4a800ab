"""The reference interpreter: a program executed nest by nest with NumPy.

Takes a :class:`~flambeau.ir.loops.Program` and the addresses of its buffers, leaves the results in their memory and returns
the checks that failed.  It knows nothing of fusion or machine code, which makes it the oracle for both, and what runs where
llvmlite is missing: right first, fast second.

A nest is evaluated over its whole iteration space at once (in blocks when that is large): every expression becomes an array
with one dimension per axis, of size 1 along the axes that it does not depend on.  Values of the 16-bit floats are held as
float32 arrays that are already rounded; they have their own form in memory only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from ..core.dtype import bfloat16, bool_, compute_dtype, dtype, float16, float64, int64, uint8
from ..ir.expression import Access, Expr, walk
from ..ir.loops import Host, Nest, Program

BLOCK = 1 << 24         # points of an iteration space that are evaluated at once

Array = Any             # np.ndarray of the dtype in question
FailedCheck = tuple[str, int, int, Any]     # message, index, size, origin of the nest


# ------------------------------------------------------------------ memory


class _Interface:
    """Tells NumPy about memory that somebody else owns."""

    def __init__(self, address: int, code: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.__array_interface__ = {"version": 3, "data": (address, False), "typestr": code, "shape": shape, "strides": strides}


_IN_MEMORY: dict[dtype, np.dtype[Any]] = {}
_IN_REGISTERS: dict[dtype, np.dtype[Any]] = {}


def storage(d: dtype) -> np.dtype[Any]:
    """The NumPy type of an element in memory; bfloat16 is its bits, as uint16."""
    found = _IN_MEMORY.get(d)
    if found is None:
        found = _IN_MEMORY[d] = np.dtype(np.uint16 if d is bfloat16 else d.name)
    return found


def register(d: dtype) -> np.dtype[Any]:
    """The NumPy type that values of ``d`` are computed in: float32 for the 16-bit floats."""
    found = _IN_REGISTERS.get(d)
    if found is None:
        found = _IN_REGISTERS[d] = np.dtype(np.float32) if d is bfloat16 or d is float16 else storage(d)
    return found


def array_at(address: int, access: Access, shape: Sequence[int]) -> Array:
    """The memory that ``access`` describes as a writable NumPy view.

    Parameters
    ----------
    address
        Where the access's buffer starts.
    access
        Offset and strides in elements, the strides belonging to ``shape`` (missing ones are 0).
    shape
        Size of each dimension.

    Returns
    -------
    numpy.ndarray
        Of type ``storage(access.dtype)``.  It does not keep the memory alive.
    """
    n = access.dtype.itemsize
    strides = tuple([s * n for s in access.strides[:len(shape)]])
    strides += (0,) * (len(shape) - len(strides))
    return np.asarray(_Interface(address + access.offset * n, storage(access.dtype).str, tuple(shape), strides))


def decode(stored: Array, d: dtype) -> Array:
    """Elements as they lie in memory to values."""
    if d is bfloat16:
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32) if d is float16 else stored


def encode(values: Array, d: dtype) -> Array:
    """Values of ``d`` (float32 arrays for the 16-bit floats) to elements as they lie in memory, rounded to nearest even."""
    if d is bfloat16:
        values = np.asarray(values)
        bits = values.view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        return np.where(np.isnan(values), np.uint32(0x7FC0), rounded).astype(np.uint16)
    return values.astype(np.float16) if d is float16 else values


def convert(values: Array, from_: dtype, to: dtype) -> Array:
    """A cast, by C's rules where C has one and as x86 does it where not (NaN and what does not fit, to an integer)."""
    if from_ is to:
        return values
    if to is bool_:
        return values != 0
    if to is bfloat16 or to is float16:
        return decode(encode(values.astype(np.float32), to), to)
    if from_.is_floating_point and to.category == 1 and to.itemsize < 4:
        values = values.astype(np.int64 if to is uint8 else np.int32)     # PyTorch goes through int64 for uint8
    return values.astype(register(to))


class _Memory:
    """The buffers of a run: given ones, and temporaries that live from their first use to their last."""

    def __init__(self, program: Program, addresses: Sequence[int]) -> None:
        self.buffers, self.addresses = program.buffers, addresses
        self.temporaries: dict[int, Array] = {}

    def address(self, slot: int) -> int:
        if self.addresses[slot]:
            return self.addresses[slot]
        block = self.temporaries.get(slot)
        if block is None:
            block = self.temporaries[slot] = np.empty(max(1, self.buffers[slot].nbytes), np.uint8)
        return int(block.ctypes.data)

    def view(self, access: Access, shape: Sequence[int]) -> Array:
        """:func:`array_at`, but an access that leaves its buffer is an error instead of a crash."""
        if all(shape):
            reach = [s * (n - 1) for s, n in zip(access.strides, shape, strict=False)]
            low = access.offset + sum([r for r in reach if r < 0])
            high = access.offset + sum([r for r in reach if r > 0])
            if low < 0 or (high + 1) * access.dtype.itemsize > self.buffers[access.slot].nbytes:
                raise RuntimeError(f"internal error: elements {low} to {high} of {access} lie outside its buffer of "
                                   f"{self.buffers[access.slot].nbytes} bytes")
        return array_at(self.address(access.slot), access, shape)

    def flat(self, access: Access) -> Array:
        """The whole buffer as one row of elements."""
        n = self.buffers[access.slot].nbytes // access.dtype.itemsize
        return array_at(self.address(access.slot), Access(access.slot, 0, (1,), access.dtype), (n,))


# ------------------------------------------------------------------ operations on arrays


def _through_double(f: Callable[..., Array]) -> Callable[..., Array]:
    """``f`` computed in float64 and rounded once, so that float32 results are as good as they can be."""
    def run(*xs: Array) -> Array:
        return f(*[x.astype(np.float64) for x in xs]).astype(xs[0].dtype)
    return run


def _by_element(f: Callable[[float], float]) -> Callable[[Array], Array]:
    """A function of one Python float applied to every element."""
    def run(x: Array) -> Array:
        return np.fromiter(map(f, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)
    return run


def _sigmoid(x: Array) -> Array:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def _lgamma(x: float) -> float:
    if x <= 0 and (math.isinf(x) or x == math.floor(x)):
        return math.inf
    try:
        return math.lgamma(x)
    except OverflowError:
        return math.inf


def _digamma(x: float) -> float:
    """ψ(x): reflection for negative arguments, then recurrence up to the asymptotic series (Abramowitz & Stegun 6.3.18)."""
    if x == 0:
        return -math.copysign(math.inf, x)
    if x < 0:
        if math.isinf(x) or x == math.floor(x):
            return math.nan
        # the tangent has period 1: reduced first, its argument is exact
        return _digamma(1 - x) - math.pi / math.tan(math.pi * math.remainder(x, 1.0))
    terms = []
    while x < 12:
        terms.append(-1 / x)
        x += 1
    z = 1 / (x * x)
    series = z * (1 / 12 - z * (1 / 120 - z * (1 / 252 - z * (1 / 240 - z * (1 / 132 - z * (691 / 32760 - z / 12))))))
    return math.fsum([*terms, math.log(x), -0.5 / x, -series])


def _erfinv(x: float) -> float:
    """The inverse of erf: Winitzki's approximation, polished by Halley's iteration on erf, or on erfc near ±1."""
    if abs(x) >= 1:
        return math.copysign(math.inf, x) if abs(x) == 1 else math.nan
    if x == 0 or x != x:
        return x
    a, rest = abs(x), 1 - abs(x)
    log = math.log1p(-a * a)
    half = 2 / (math.pi * 0.147) + log / 2
    # the difference of nearly equal numbers for small a, written as a quotient
    y = math.sqrt(-log / 0.147 / (math.sqrt(half * half - log / 0.147) + half))
    for _ in range(4):
        error = math.erf(y) - a if a < 0.5 else rest - math.erfc(y)
        step = error / (2 / math.sqrt(math.pi) * math.exp(-y * y))
        y -= step / (1 + y * step)
    return math.copysign(y, x)


def _two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """``a + b`` and the rounding error of it (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _odd_sum(a: Array, b: Array) -> Array:
    """``a + b`` rounded to odd: rounding it again to fewer bits is rounding once."""
    s, error = _two_sum(a, b)
    even = (s.view(np.int64) & 1) == 0
    return np.where((error != 0) & even & np.isfinite(s), np.nextafter(s, np.copysign(np.inf, error)), s)


def _split(a: Array) -> tuple[Array, Array]:
    """``a`` as a sum of two halves of 26 bits (Veltkamp)."""
    t = a * 134217729.0
    high = t - (t - a)
    return high, a - high


def _fma(a: Array, b: Array, c: Array) -> Array:
    """``a * b + c`` rounded once (float64 after Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008)."""
    a, b, c = np.broadcast_arrays(a, b, c)
    if a.dtype == np.float32:       # the product is exact in float64
        return _odd_sum(a.astype(np.float64) * b.astype(np.float64), c.astype(np.float64)).astype(np.float32)
    product = a * b
    plain = product + c
    (ah, al), (bh, bl) = _split(a), _split(b)
    low = al * bl - (((product - ah * bh) - al * bh) - ah * bl)
    th, tl = _two_sum(c, low)
    vh, vl = _two_sum(product, th)
    once = np.array(vh + _odd_sum(tl, vl))
    sizes = [np.abs(x) for x in (a, b, product, c)]
    # where a part could overflow or lose bits to underflow: exact fractions, one by one
    safe = (sizes[2] > 1e-260) & ((sizes[3] > 1e-260) | (c == 0)) & (np.maximum.reduce(sizes) < 1e290)
    for i in zip(*np.nonzero(np.atleast_1d(~safe)), strict=True):
        x, y, z = (float(np.atleast_1d(v)[i]) for v in (a, b, c))
        value = float(np.atleast_1d(plain)[i])
        if math.isfinite(x) and math.isfinite(y) and math.isfinite(z):
            exact = Fraction(x) * Fraction(y) + Fraction(z)
            if exact:
                try:
                    value = float(exact)
                except OverflowError:
                    value = math.inf if exact > 0 else -math.inf
        np.atleast_1d(once)[i] = value
    return once


def _truncated_quotient(a: Array, b: Array) -> Array:
    return np.floor_divide(a - np.fmod(a, b), b)


def _logical_shift(a: Array, b: Array) -> Array:
    unsigned = np.dtype(f"u{a.dtype.itemsize}")
    return np.right_shift(a.view(unsigned), b.astype(unsigned)).view(a.dtype)


# Operations whose result has the type of its arguments (comparisons: bool).  Division of integers by zero yields 0.
_OPERATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.absolute,
    "minimum": np.minimum, "maximum": np.maximum,
    "div": np.true_divide, "fma": _fma, "sqrt": np.sqrt, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint,
    "copysign": np.copysign, "fmod": np.fmod, "nextafter": np.nextafter,
    "floordiv": np.floor_divide, "mod": np.remainder, "truncdiv": _truncated_quotient, "truncmod": np.fmod,
    "shl": np.left_shift, "shr": np.right_shift, "ushr": _logical_shift,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal,
    "where": np.where,
}
_FUNCTIONS: dict[str, Callable[..., Array]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10, "log1p": np.log1p,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "erf": _by_element(math.erf), "erfc": _by_element(math.erfc), "erfinv": _by_element(_erfinv),
    "lgamma": _by_element(_lgamma), "digamma": _by_element(_digamma),
    "rsqrt": lambda x: 1.0 / np.sqrt(x), "sigmoid": _sigmoid, "pow": np.power, "atan2": np.arctan2, "hypot": np.hypot,
}
_OPERATIONS |= {name: _through_double(f) for name, f in _FUNCTIONS.items()}

COMBINE: dict[str, np.ufunc] = {
    "sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or, "all": np.logical_and,
}


def identity(combine: str, d: dtype) -> float | int | bool:
    """What an empty combination of values of ``d`` yields."""
    if combine in ("max", "min"):
        if d is bool_:
            return combine == "min"
        if d.is_floating_point:
            return -math.inf if combine == "max" else math.inf
        limits = np.iinfo(storage(d))
        return int(limits.min if combine == "max" else limits.max)
    return {"sum": 0, "prod": 1, "any": False, "all": True}[combine]


# ------------------------------------------------------------------ expressions over a block of the iteration space


class _Run:
    """What lasts from the first step to the last."""

    def __init__(self, program: Program, addresses: Sequence[int], scalars: Sequence[float]) -> None:
        self.memory = _Memory(program, addresses)
        self.scalars = scalars
        self.failed: list[FailedCheck] = []


class _Block:
    """Part of a nest's iteration space, and the values of expressions there."""

    def __init__(self, run: _Run, origin: Any, start: Sequence[int], sizes: Sequence[int], accumulator: Array | None = None) -> None:
        self.run, self.origin, self.start, self.sizes = run, origin, start, tuple(sizes)
        self.values: dict[Expr, Array] = {}
        self.accumulator = accumulator

    def __call__(self, e: Expr) -> Array:
        """The value of ``e``: an array that broadcasts to the block's sizes."""
        value = self.values.get(e)
        if value is None:
            value = self.values[e] = self._evaluate(e)
        return value

    def _evaluate(self, e: Expr) -> Array:
        f = _OPERATIONS.get(e.op)
        if f is not None:
            return f(*[self(a) for a in e.args])
        return getattr(self, "_" + e.op)(e)

    def _constant(self, value: float, d: dtype) -> Array:
        if d.is_floating_point:
            made = convert(np.array(value, np.float64), float64, d)
        else:
            made = convert(np.array(value, np.int64), int64, d)
        return np.reshape(made, (1,) * len(self.sizes))

    def _const(self, e: Expr) -> Array:
        return self._constant(e.attr, e.dtype)

    _value = _const

    def _scalar(self, e: Expr) -> Array:
        return self._constant(self.run.scalars[e.attr], e.dtype)

    def _axis(self, e: Expr) -> Array:
        shape = [1] * len(self.sizes)
        shape[e.attr] = self.sizes[e.attr]
        first = self.start[e.attr]
        return np.arange(first, first + shape[e.attr], dtype=np.int64).reshape(shape)

    def _acc(self, e: Expr) -> Array:
        assert self.accumulator is not None, "acc outside of finish"
        return self.accumulator

    def _cast(self, e: Expr) -> Array:
        return convert(self(e.args[0]), e.args[0].dtype, e.dtype)

    def _bitcast(self, e: Expr) -> Array:
        return self(e.args[0]).view(register(e.dtype))

    def _checked(self, e: Expr) -> Array:
        index, size = self(e.args[0]), int(e.args[1].attr)
        bad = (index < 0) | (index >= size)
        if bad.any():
            # one report for each check of a nest, the first in the order of the axes
            if not any(f[0] == e.attr and f[2] == size and f[3] == self.origin for f in self.run.failed):
                self.run.failed.append((e.attr, int(index[bad][0]), size, self.origin))
            index = np.where(bad, 0, index)
        return index

    def _load(self, e: Expr) -> Array:
        access: Access = e.attr
        if not e.args:
            offset = access.offset + sum([s * i for s, i in zip(access.strides, self.start, strict=False)])
            strides = access.strides + (0,) * (len(self.sizes) - len(access.strides))
            shape = [n if s else 1 for s, n in zip(strides, self.sizes, strict=True)]
            return decode(self.run.memory.view(access._replace(offset=offset, strides=strides), shape), access.dtype)
        guard = self(e.args[1]) if len(e.args) > 1 else np.ones((1,) * len(self.sizes), bool)
        where = self.positions(access, e.args[0])
        where, guard = np.broadcast_arrays(where, guard)
        buffer = self.run.memory.flat(access)
        read = guard & self.inside(where, guard, buffer)
        values = np.empty(where.shape, register(access.dtype))
        values[...] = self._constant(0 if access.fill is None else access.fill, access.dtype)
        values[read] = decode(buffer[where[read]], access.dtype)
        return values

    def positions(self, access: Access, extra: Expr | None) -> Array:
        """The element of its buffer that ``access`` finds at every point."""
        where = np.full((1,) * len(self.sizes), access.offset, np.int64)
        for a, s in enumerate(access.strides[:len(self.sizes)]):
            if s:
                shape = [1] * len(self.sizes)
                shape[a] = self.sizes[a]
                where = where + (s * np.arange(self.start[a], self.start[a] + self.sizes[a], dtype=np.int64)).reshape(shape)
        return where if extra is None else where + self(extra)

    def inside(self, where: Array, guard: Array, buffer: Array) -> Array:
        """Which elements exist.  All that are wanted do, unless a check has failed: then positions may be nonsense."""
        exists = (where >= 0) & (where < buffer.size)
        if not self.run.failed and not (exists | ~guard).all():
            raise RuntimeError(f"internal error: element {int(where[guard & ~exists][0])} of a buffer of {buffer.size} elements is wanted")
        return exists


# ------------------------------------------------------------------ nests


def _blocks(sizes: Sequence[int], cost: Callable[[Sequence[int]], int], axes: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """(start, sizes) of the parts that an iteration space is evaluated in, in ascending order of its axes.

    The first ``axes`` axes may be divided, outer ones first and where that lowers the cost, until ``cost(sizes)`` fits.
    An empty space has no parts.
    """
    if 0 in sizes:
        return
    block = list(sizes)
    for a in range(axes):
        while block[a] > 1 and (now := cost(block)) > BLOCK:
            whole, block[a] = block[a], -(-block[a] // 2)
            if cost(block) == now:
                block[a] = whole
                break
    for start in itertools.product(*[range(0, n, b) for n, b in zip(sizes, block, strict=True)]):
        yield start, tuple([min(b, n - s) for s, b, n in zip(start, block, sizes, strict=True)])


def _region(start: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    return tuple([slice(s, s + n) for s, n in zip(start, sizes, strict=True)])


def _map(run: _Run, nest: Nest) -> None:
    result = np.empty(nest.sizes, register(nest.value.dtype))
    for start, sizes in _blocks(nest.sizes, math.prod, len(nest.sizes)):
        result[_region(start, sizes)] = _Block(run, nest.origin, start, sizes)(nest.value)
    _store(run, nest, result, nest.value.dtype)


def _reduce(run: _Run, nest: Nest) -> None:
    d, kept = nest.value.dtype, nest.sizes[:nest.kept]
    combine = COMBINE[nest.combine]
    result = np.full(kept, identity(nest.combine, d), register(d))
    product = _Contraction.of(nest)
    cost = product.cost if product is not None else math.prod
    for start, sizes in _blocks(nest.sizes, cost, len(nest.sizes)):
        block = _Block(run, nest.origin, start, sizes)
        if product is not None:
            part = product(block)
        else:
            # one contiguous row for each result, which NumPy adds up pairwise
            rows = np.broadcast_to(block(nest.value), sizes).reshape(*sizes[:nest.kept], -1)
            part = combine.reduce(np.ascontiguousarray(rows), axis=-1, **_typed(combine, rows))
        place = _region(start[:nest.kept], sizes[:nest.kept])
        first = not any(start[nest.kept:])
        result[place] = part if first else combine(result[place], part)
    _finish(run, nest, result, kept + (1,) * (len(nest.sizes) - nest.kept))


def _scan(run: _Run, nest: Nest) -> None:
    combine = COMBINE[nest.combine]
    result = np.empty(nest.sizes, register(nest.value.dtype))
    for start, sizes in _blocks(nest.sizes, math.prod, len(nest.sizes) - 1):
        values = np.broadcast_to(_Block(run, nest.origin, start, sizes)(nest.value), sizes)
        result[_region(start, sizes)] = combine.accumulate(values, axis=-1, **_typed(combine, values))
    _finish(run, nest, result, nest.sizes)


def _typed(combine: np.ufunc, values: Array) -> dict[str, Any]:
    """Sums and products stay in the type of the values, which NumPy would widen."""
    return {} if combine in (np.logical_or, np.logical_and) else {"dtype": values.dtype}


def _finish(run: _Run, nest: Nest, result: Array, sizes: tuple[int, ...]) -> None:
    d = nest.value.dtype
    if nest.finish is not None and result.size:
        finished = _Block(run, nest.origin, (0,) * len(sizes), sizes, result.reshape(sizes))(nest.finish)
        result, d = np.broadcast_to(finished, sizes).reshape(result.shape), nest.finish.dtype
    _store(run, nest, result, d)


def _store(run: _Run, nest: Nest, result: Array, d: dtype) -> None:
    """Write a finished result; only now, so that a nest may read the buffer it writes."""
    if result.size:
        run.memory.view(nest.store, result.shape)[...] = encode(convert(result, d, nest.store.dtype), nest.store.dtype)


def _scatter(run: _Run, nest: Nest) -> None:
    d = nest.store.dtype
    buffer = run.memory.flat(nest.store)
    # a combination is rounded once, after it
    arriving = compute_dtype(d) if nest.combine else d
    parts = []
    for start, sizes in _blocks(nest.sizes, math.prod, len(nest.sizes)):
        block = _Block(run, nest.origin, start, sizes)
        guard = np.ones((1,) * len(sizes), bool) if nest.guard is None else block(nest.guard)
        where, guard, values = [np.broadcast_to(x, sizes) for x in (block.positions(nest.store, nest.target), guard, block(nest.value))]
        chosen = guard & block.inside(where, guard, buffer)
        parts.append((where[chosen], convert(values[chosen], nest.value.dtype, arriving)))
    for where, values in parts:
        if not nest.combine:
            buffer[where] = encode(values, d)       # in order: of duplicates the last stays
        elif register(d) == storage(d):
            COMBINE[nest.combine].at(buffer, where, values)
        else:
            _combine_rounded(buffer, where, values, d, COMBINE[nest.combine])


def _combine_rounded(buffer: Array, where: Array, values: Array, d: dtype, combine: np.ufunc) -> None:
    """16-bit floats are rounded after every addition: all first values of a position, then all second ones, ..."""
    order = np.argsort(where, kind="stable")
    placed = where[order]
    first = np.searchsorted(placed, placed)
    turn = np.arange(placed.size) - first
    for t in range(int(turn.max()) + 1 if turn.size else 0):
        now = order[turn == t]
        buffer[where[now]] = encode(combine(decode(buffer[where[now]], d), values[now]), d)


class _Contraction:
    """A sum of products whose factors each lack an axis: a batched matrix product, without the space of all products."""

    def __init__(self, nest: Nest, left: frozenset[int], right: frozenset[int]) -> None:
        self.nest, self.left, self.right = nest, left, right
        kept, axes = range(nest.kept), range(len(nest.sizes))
        self.batch = [a for a in kept if a in left and a in right]
        self.rows = [a for a in kept if a in left and a not in right]
        self.columns = [a for a in kept if a in right and a not in left]
        self.neither = [a for a in kept if a not in left and a not in right]
        self.inner = [a for a in axes if a >= nest.kept]

    @classmethod
    def of(cls, nest: Nest) -> _Contraction | None:
        """The contraction that ``nest`` is, if it is one."""
        v = nest.value
        if nest.combine != "sum" or v.op != "mul" or v.dtype is bool_:
            return None
        left, right = [_axes_of(a, nest.sizes) for a in v.args]
        wide = {a for a, n in enumerate(nest.sizes) if n != 1}
        inner = {a for a in wide if a >= nest.kept}
        if not inner or not inner <= left & right or not wide - left or not wide - right:
            return None
        return cls(nest, left, right)

    def cost(self, sizes: Sequence[int]) -> int:
        """Elements of the largest of the two factors and the product in a block."""
        return max(math.prod([sizes[a] for a in axes]) for axes in (self.left, self.right, range(self.nest.kept)))

    def __call__(self, block: _Block) -> Array:
        def total(axes: list[int]) -> int:
            return math.prod([block.sizes[a] for a in axes])

        a, b = [block(x) for x in self.nest.value.args]
        a = a.transpose(self.batch + self.rows + self.inner + self.columns + self.neither)
        b = b.transpose(self.batch + self.inner + self.columns + self.rows + self.neither)
        product = np.matmul(a.reshape(total(self.batch), total(self.rows), total(self.inner)),
                            b.reshape(total(self.batch), total(self.inner), total(self.columns)))
        order = self.batch + self.rows + self.columns
        product = product.reshape([block.sizes[x] for x in order] + [1] * len(self.neither))
        return product.transpose(np.argsort(order + self.neither).tolist())


def _axes_of(e: Expr, sizes: Sequence[int]) -> frozenset[int]:
    """The axes with more than one position that ``e`` depends on."""
    found = set()
    for x in walk(e):
        if x.op == "axis":
            found.add(x.attr)
        elif x.op == "load":
            found.update(a for a, s in enumerate(x.attr.strides) if s)
    return frozenset(a for a in found if sizes[a] != 1)


# ------------------------------------------------------------------ programs


_KINDS: dict[str, Callable[[_Run, Nest], None]] = {"map": _map, "reduce": _reduce, "scan": _scan, "scatter": _scatter}


def _slots(step: Nest | Host) -> set[int]:
    """The buffers that a step touches."""
    if isinstance(step, Host):
        return {a.slot for a, _ in (*step.inputs, *step.outputs)}
    roots = tuple([e for e in (step.value, step.finish, step.target, step.guard) if e is not None])
    return {e.attr.slot for e in walk(roots) if e.op == "load"} | {step.store.slot}


def run(program: Program, addresses: Sequence[int], scalars: Sequence[float] = ()) -> list[Any]:
    """Execute ``program`` step by step.

    Parameters
    ----------
    program
        What to do.
    addresses
        Where each slot's memory starts; 0: a temporary, which exists during this call only.
    scalars
        The program's run-time scalars.

    Returns
    -------
    list
        (message, index, size, origin) for each check that failed, in order of execution.
    """
    state = _Run(program, addresses, scalars)
    last_use: dict[int, int] = {}
    for i, step in enumerate(program.steps):
        last_use.update(dict.fromkeys(_slots(step), i))
    ending: dict[int, list[int]] = {}
    for slot, i in last_use.items():
        ending.setdefault(i, []).append(slot)
    with np.errstate(all="ignore"):
        for i, step in enumerate(program.steps):
            if isinstance(step, Nest):
                _KINDS[step.kind](state, step)
            else:
                inputs, outputs = [[state.memory.view(a, shape) for a, shape in group] for group in (step.inputs, step.outputs)]
                step.run(inputs, outputs, [scalars[s] for s in step.scalars], **(step.attr or {}))
            for slot in ending.get(i, ()):
                state.memory.temporaries.pop(slot, None)
    return state.failed
