"""Sums of which only every so many terms count, taken apart by remainders.

The gradient of a convolution with a stride adds up those taps whose distance from the place can be divided by the stride.  All places
of one remainder see the same taps: with ``place = remainder + stride · q``, and with the taps taken apart likewise, what is left of the condition is
true or false, quotients are affine again, and each part is a sum like that of a convolution without a stride.
"""

from __future__ import annotations

import itertools
import math

from ..core.dataclass import replace
from ..ir import expression as ir
from ..ir.expression import Expr
from ..ir.simplify import Term, nodes, permutation
from .contract import affine
from .fuse import Item, is_zero

MOST_PARTS = 64             # of the places


class Residues:
    """A sum taken apart.

    Attributes
    ----------
    item
        The whole.
    periods
        Per axis, how many remainders its index has.
    conditions
        The numbers, by start and steps, that have to be multiples of something.
    chosen
        For all remainders of the kept axes, the last axis fastest: those of the summed axes with the terms that count, or None.
    """

    def __init__(self, item: Item, periods: list[int], conditions: list[tuple[int, tuple[int, ...], int]]) -> None:
        self.item, self.periods, self.conditions = item, periods, conditions
        self.chosen: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = []

    @classmethod
    def of(cls, item: Item) -> Residues | None:
        """The item taken apart, or None."""
        if item.kind != "reduce" or item.combine != "sum" or item.value.op != "where" or item.value.args[1].op != "mul" or not is_zero(item.value.args[2]):
            return None
        rank, kept = len(item.sizes), item.kept
        periods = [1] * rank
        for x in nodes(item.value):
            if x.op in ("mod", "floordiv"):
                line = affine(x.args[0], rank)
                if line is None or x.args[1].op != "const":
                    return None
                for a, step in enumerate(line[1]):
                    periods[a] = math.lcm(periods[a], x.args[1].attr // math.gcd(x.args[1].attr, step))
        conditions = _multiples(item.value.args[0], rank)
        if conditions is None or math.prod(periods[:kept]) > MOST_PARTS:
            return None
        found = cls(item, periods, conditions)
        starts = [range(min(p, n)) for p, n in zip(periods, item.sizes, strict=True)]
        for places in itertools.product(*starts[:kept]):
            counting = [taps for taps in itertools.product(*starts[kept:]) if all(
                (start + sum(s * f for s, f in zip(steps, (*places, *taps), strict=True))) % by == 0 for start, steps, by in conditions)]
            if len(counting) > 1:
                return None
            value = found.part((*places, *counting[0])).value if counting else None
            if value is not None and value.op != "mul" and not is_zero(value):
                return None
            found.chosen.append((places, None if value is None or is_zero(value) else counting[0]))
        return found

    def items(self) -> list[Item]:
        """Items that together store what the whole stores."""
        return [_nothing(self.item, places, self.periods) if taps is None else canonical(self.part((*places, *taps))) for places, taps in self.chosen]

    def part(self, first: tuple[int, ...], known: bool = True) -> Item:
        """Of the whole, what remainders leave."""
        return part_of(self.item, first, self.periods, known)


def part_of(item: Item, first: tuple[int, ...], periods: list[int], known: bool = True) -> Item:
    """The item where every axis starts at some index and takes steps; ``known``: conditions that always hold are left out."""
    rank = len(item.sizes)
    sizes = tuple([-(-(n - f) // p) for n, f, p in zip(item.sizes, first, periods, strict=True)])
    terms: list[Term] = [(f, tuple([p * (a == b) for b in range(rank)])) for a, (f, p) in enumerate(zip(first, periods, strict=True))]
    part = item.moved(terms, sizes, item.kept)
    part.value = _folded(part.value, sizes, known)
    part.scan_loads()
    return part


def canonical(item: Item) -> Item:
    """The item without axes of size 1."""
    axes = [a for a, n in enumerate(item.sizes) if n > 1]
    part = item.moved(permutation(axes, len(item.sizes)), tuple([item.sizes[a] for a in axes]), sum(a < item.kept for a in axes))
    if part.kind == "reduce" and part.kept == len(axes):       # a single term
        value = part.value
        part = replace(part, kind="map", combine="", finish=None,
                       value=value if part.finish is None else ir.rewrite(part.finish, lambda x: value if x.op == "acc" else None))
        part.scan_loads()
    return part


def _multiples(condition: Expr, rank: int) -> list[tuple[int, tuple[int, ...], int]] | None:
    """The affine numbers, by start and steps, that a condition wants to be multiples of something; None if it wants anything else."""
    if condition.op == "and":
        both = [_multiples(x, rank) for x in condition.args]
        return None if None in both else [m for part in both for m in part or ()]
    if condition.op != "eq" or condition.args[0].op != "mod" or not is_zero(condition.args[1]):
        return None
    number, by = condition.args[0].args
    line = affine(number, rank)
    return None if line is None or by.op != "const" else [(*line, by.attr)]


def _nothing(item: Item, places: tuple[int, ...], periods: list[int]) -> Item:
    """What is stored at places that no term reaches."""
    kept = item.kept
    zero = ir.const(0, item.value.dtype)
    value = zero if item.finish is None else ir.rewrite(item.finish, lambda x: zero if x.op == "acc" else None)
    made = Item("map", item.sizes[:kept], kept, value, item.store._replace(strides=item.store.strides[:kept]), "", None, None, None, item.step)
    return canonical(part_of(made, places, periods[:kept]))


def _folded(e: Expr, sizes: tuple[int, ...], known: bool) -> Expr:
    """The expression with quotients and remainders that are affine, and conditions that are known, worked out."""
    rank = len(sizes)
    memo: dict[Expr, Expr] = {}

    def line_of(x: Expr) -> tuple[int, tuple[int, ...]] | None:
        return affine(x, rank)

    def written(start: int, steps: tuple[int, ...]) -> Expr:
        out: Expr = ir.const(start, ir.int64)
        for a, s in enumerate(steps):
            if s:
                out = out + ir.axis(a) * s
        return out

    def worked_out(x: Expr, args: tuple[Expr, ...]) -> Expr:
        if x.op in ("mod", "floordiv"):
            line, by = line_of(args[0]), args[1].attr
            if line is not None and not any(s % by for s in line[1]):
                start, steps = line
                return ir.const(start % by, ir.int64) if x.op == "mod" else written(start // by, tuple([s // by for s in steps]))
        if args and args[0].dtype is ir.int64 and (x.op == "eq" or (x.op in ("le", "lt") and known)):
            line = line_of(args[1] - args[0])
            if line is not None:
                start, steps = line
                ends = [s * (n - 1) for s, n in zip(steps, sizes, strict=True)]
                low, high = start + sum(min(0, s) for s in ends), start + sum(max(0, s) for s in ends)
                least = {"le": 0, "lt": 1, "eq": 0}[x.op]
                if x.op == "eq" and low == high == 0 or x.op != "eq" and low >= least:
                    return ir.const(True, ir.bool_)
                if high < least or (x.op == "eq" and low > 0):
                    return ir.const(False, ir.bool_)
        if x.op == "and" and x.dtype is ir.bool_:
            for a, b in (args, args[::-1]):
                if a.op == "const":
                    return b if a.attr else a
        if x.op == "where":
            return ir.where(*args)
        if x.op == "load" and args:
            if len(args) == 2 and args[1].op == "const":
                if not args[1].attr:
                    return ir.const(x.attr.fill, x.dtype)
                args = args[:1]
            line = line_of(args[0])
            if line is not None:
                start, steps = line
                access = x.attr._replace(offset=x.attr.offset + start, strides=tuple([a + b for a, b in zip(x.attr.strides, steps, strict=True)]))
                if len(args) == 1:
                    return ir.make("load", x.dtype, (), access._replace(fill=None))
                return ir.make("load", x.dtype, (ir.const(0, ir.int64), args[1]), access)
        if x.op in ("mul", "cast") and any(is_zero(a) for a in args) and any(a.op == "const" for a in args):
            return ir.const(0, x.dtype)
        return x if args == x.args else ir.make(x.op, x.dtype, args, x.attr)
    for x in nodes(e):
        memo[x] = worked_out(x, tuple([memo[a] for a in x.args]))
    return memo[e]
