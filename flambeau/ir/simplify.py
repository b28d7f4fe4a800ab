"""Rewriting of nests: other axes, other axis orders, and whether two accesses can meet.

Input and output are expressions and accesses of :mod:`.expression`; the scheduler uses these to bring the nests that it fuses
into one iteration space.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from ..core.dtype import bool_, dtype
from . import expression as ir
from .expression import Access, Expr

_known: dict[Expr, list[Expr]] = {}
_LIMIT = 20_000


def nodes(e: Expr) -> list[Expr]:
    """Every node below ``e``, arguments before users: :func:`~.expression.walk`, remembered (do not change the list)."""
    found = _known.get(e)
    if found is None:
        if len(_known) > _LIMIT:
            _known.clear()
        found = _known[e] = ir.walk(e)
    return found


_checks: dict[Expr, bool] = {}


def has_checks(e: Expr) -> bool:
    """Whether a node below ``e`` may fail; remembered."""
    found = _checks.get(e)
    if found is None:
        if len(_checks) > _LIMIT:
            _checks.clear()
        found = _checks[e] = any(x.op == "checked" for x in nodes(e))
    return found


Term = tuple[int, tuple[int, ...]]      # an old axis as constant + coefficients of the new axes


def permutation(order: Sequence[int], rank: int) -> tuple[Term, ...]:
    """The terms that make old axis ``order[k]`` the new axis ``k``; old axes left out are 0."""
    place = {old: k for k, old in enumerate(order)}
    n = len(order)
    return tuple((0, tuple([int(place.get(a) == k) for k in range(n)])) for a in range(rank))


def move_access(x: Access, terms: Sequence[Term], rank: int) -> Access:
    """An access over the new axes."""
    offset, strides = x.offset, [0] * rank
    for s, (c, coefficients) in zip(x.strides, terms, strict=False):
        if s:
            offset += s * c
            for k, v in enumerate(coefficients):
                if v:
                    strides[k] += s * v
    return Access(x.slot, offset, tuple(strides), x.dtype, x.fill)


def move(e: Expr, terms: Sequence[Term], rank: int, memo: dict[Expr, Expr]) -> Expr:
    """An expression over the new axes."""
    for x in nodes(e):
        if x in memo:
            continue
        if x.op == "load":
            memo[x] = ir.make("load", x.dtype, tuple([memo[a] for a in x.args]), move_access(x.attr, terms, rank))
        elif x.op == "axis":
            c, coefficients = terms[x.attr]
            t: Expr = ir.const(c, ir.int64)
            for k, v in enumerate(coefficients):
                if v:
                    t = t + ir.axis(k) * v
            memo[x] = t
        elif x.args:
            args = tuple([memo[a] for a in x.args])
            memo[x] = x if all(a is b for a, b in zip(args, x.args, strict=True)) else remake(x, args)
        else:
            memo[x] = x
    return memo[e]


def remake(x: Expr, args: tuple[Expr, ...]) -> Expr:
    """``x`` with other arguments; index arithmetic is folded again."""
    if x.dtype is ir.int64 and len(args) == 2 and x.op in ("add", "sub", "mul", "floordiv", "mod"):
        return ir.binary(x.op, args[0], args[1])
    return ir.make(x.op, x.dtype, args, x.attr)


def split_terms(sizes: Sequence[int], parts: Sequence[Sequence[int]]) -> tuple[tuple[Term, ...], int]:
    """The terms that split old axis ``a`` into ``parts[a]`` (row-major), and the new rank."""
    rank = sum(len(p) for p in parts)
    terms = []
    at = 0
    for p in parts:
        coefficients = [0] * rank
        run = 1
        for k in range(len(p) - 1, -1, -1):
            coefficients[at + k] = run
            run *= p[k]
        at += len(p)
        terms.append((0, tuple(coefficients)))
    return tuple(terms), rank


def refine(a: Sequence[int], b: Sequence[int]) -> tuple[list[list[int]], list[list[int]]] | None:
    """Split two shapes of one size into the same list of factors: the parts of each axis of ``a`` and of ``b``, or None."""
    marks: set[int] = {1}
    for sizes in (a, b):
        run = 1
        for n in reversed(sizes):
            run *= n
            marks.add(run)
    chain = sorted(marks)
    for low, high in pairwise(chain):
        if high % low:
            return None

    def parts(sizes: Sequence[int]) -> list[list[int]]:
        out: list[list[int]] = []
        run = 1
        for n in reversed(sizes):
            inside = [m for m in chain if run <= m <= run * n]
            out.insert(0, [hi // lo for lo, hi in pairwise(inside)][::-1])
            run *= n
        return out
    return parts(a), parts(b)


class Region(NamedTuple):
    """The bytes that an access may touch: ``first .. end``, as runs of ``run`` bytes every ``period`` (0: one run)."""

    first: int
    end: int
    period: int
    run: int


EVERYTHING = Region(0, 1 << 62, 0, 1 << 62)


@lru_cache(4096)
def region(x: Access, sizes: tuple[int, ...]) -> Region:
    """Where an access with constant strides goes over an iteration space."""
    size = x.dtype.itemsize
    low = high = x.offset
    largest = count = 0
    for s, n in zip(x.strides, sizes, strict=False):
        if s > 0:
            high += s * (n - 1)
        elif s < 0:
            low += s * (n - 1)
        if abs(s) > largest and n > 1:
            largest, count = abs(s), n
    run = (high - low - largest * (count - 1) if largest else high - low) + 1
    return Region(low * size, (high + 1) * size, largest * size, run * size)


def disjoint(a: Region, b: Region) -> bool:
    """Whether two regions of one buffer certainly share no byte."""
    if a.end <= b.first or b.end <= a.first:
        return True
    if a.period and a.period == b.period:
        i, j = a.first % a.period, b.first % b.period
        return (i + a.run <= j or j + b.run <= i) and i + a.run <= a.period and j + b.run <= b.period
    return False


_COST = {"div": 4, "sqrt": 6, "floordiv": 10, "mod": 10, "truncdiv": 10, "truncmod": 10, "fmod": 60, "const": 0,
         "axis": 0, "scalar": 0, "value": 0}


@lru_cache(4096)
def cost(e: Expr) -> int:
    """Roughly how many simple vector instructions ``e`` takes."""
    return sum(_COST.get(x.op, 15 if x.op in ir.FLOAT_MATH else 1) for x in nodes(e))


def identity_value(combine: str, d: dtype) -> float | int | bool:
    """The neutral element of a combiner."""
    if combine in ("sum", "any"):
        return 0 if d is not bool_ else False
    if combine in ("prod", "all"):
        return 1 if d is not bool_ else True
    if d.is_floating_point:
        return float("-inf") if combine == "max" else float("inf")
    if d is bool_:
        return combine == "min"
    bits = 8 * d.itemsize - (1 if d.is_signed else 0)
    low, high = (-(1 << bits) if d.is_signed else 0), (1 << bits) - 1
    return low if combine == "max" else high
