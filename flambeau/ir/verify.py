"""What a well-formed kernel is: checked after scheduling in tests and when debugging.

:func:`verify` takes a kernel and raises :class:`Malformed` with the first rule that it breaks; renderers rely on these rules.
"""

from __future__ import annotations

from ..core.dtype import bool_, int64
from . import expression as ir
from .expression import Expr
from .kernel import INVARIANT, UNIT, Define, Kernel, Loop, Scan, Scatter, Write, show

_VOCABULARY = ir.VOCABULARY | {"arg", "row"}
_SAME = (ir.ARITHMETIC | ir.FLOAT | ir.INTEGER | ir.BITS | ir.FLOAT_MATH) - {"checked"}


class Malformed(AssertionError):
    """A kernel breaks a rule; this is a defect of the scheduler."""


def verify(kernel: Kernel, words: int | None = None) -> None:
    """Check a kernel.

    Parameters
    ----------
    kernel : Kernel
        What the scheduler made.
    words : int, optional
        How many argument words a launch of it has.

    Raises
    ------
    Malformed
        Something refers to what does not exist, or types do not fit.
    """
    def need(condition: bool, message: str) -> None:
        if not condition:
            raise Malformed(f"{message}\n{kernel!r}")

    def word(n: int, what: str) -> None:
        need(n >= 0 and (words is None or n < words), f"{what}: there is no argument word {n}")

    rank, split, lane = kernel.rank, kernel.split, kernel.lane
    need(0 <= split <= rank == len(kernel.sizes), "rows and columns must add up to the axes")
    need(lane == -1 or (0 <= lane < rank and lane in (split - 1, rank - 1)), "lanes run along the last row axis or the last column axis")
    need(kernel.ragged < 0 or (split >= 1 and rank == split + 1), "a ragged end needs rows and one column axis")
    need(kernel.jam == -1 or (kernel.jam < split and kernel.jam != lane and not kernel.tiled), "rows worked on together are not the lanes")
    need(kernel.cascade == -1 or split <= kernel.cascade < rank, "blocks of sums lie along the columns")
    need(not kernel.tiled or (lane == rank - 1 == split > 0 and len(kernel.stages) == 1),
         "tiles need one loop, with lanes along its columns")
    for n in kernel.sizes:
        word(n, "size")
    for i, p in enumerate(kernel.places):
        word(p.table, f"p{i}")
        word(p.offset, f"p{i}")
        need(len(p.strides) == rank, f"p{i} must have one stride per axis")
        for a, code in enumerate(p.strides):
            need(code in (INVARIANT, UNIT) or code > 0, f"p{i}: {code} is no stride code")
            need(code != UNIT or a == lane or (kernel.tiled and a == rank - 2), f"p{i}: a unit stride away from the lanes")
    defined: dict[int, object] = {}

    def expression(e: Expr, axes: int, accumulator: bool = False) -> None:
        for x in ir.walk(e):
            need(x.op in _VOCABULARY, f"unknown operation {x.op}")
            if x.op == "row":
                need(defined.get(x.attr) is x.dtype, f"r{x.attr} is used before it is defined, or as another type")
            elif x.op == "axis":
                need(x.attr < axes, f"axis {x.attr} is not open at {show(e)}")
            elif x.op in ("arg", "scalar"):
                word(x.attr, x.op)
            elif x.op == "acc":
                need(accumulator, "an accumulator outside a scan")
            elif x.op == "load":
                need(0 <= x.attr < len(kernel.places), f"there is no place p{x.attr}")
                place = kernel.places[x.attr]
                need(place.dtype is x.dtype, f"p{x.attr} holds {place.dtype}, loaded as {x.dtype}")
                need(not any(place.strides[axes:]), f"p{x.attr} moves along an axis that is not open at {show(e)}")
                need(not x.args or x.args[0].dtype is int64, "an offset must be int64")
                need(len(x.args) < 2 or x.args[1].dtype is bool_, "a guard must be bool")
            elif x.op in ir.COMPARISON:
                need(x.dtype is bool_ and x.args[0].dtype is x.args[1].dtype, f"operands of one type: {show(x)}")
            elif x.op == "where":
                need(x.args[0].dtype is bool_ and x.args[1].dtype is x.args[2].dtype is x.dtype, f"types of {show(x)}")
            elif x.op in _SAME:
                need(all(a.dtype is x.dtype for a in x.args), f"operands of one type: {show(x)}")

    def store(place: int, e: Expr, axes: int) -> None:
        need(0 <= place < len(kernel.places), f"there is no place p{place}")
        p = kernel.places[place]
        need(p.dtype is e.dtype, f"p{place} holds {p.dtype}, but {e.dtype} is stored")
        need(not any(p.strides[axes:]), f"p{place} moves along an axis that is not open")

    for s in kernel.stages:
        if isinstance(s, Define):
            expression(s.value, split)
            defined[s.number] = s.value.dtype
        elif isinstance(s, Write):
            expression(s.value, split)
            store(s.place, s.value, split)
        elif isinstance(s, Loop):
            for r in s.reductions:
                expression(r.value, rank)
            for w in s.writes:
                expression(w.value, rank)
                store(w.place, w.value, rank)
            for r in s.reductions:
                defined[r.number] = r.value.dtype
        elif isinstance(s, Scan):
            need(rank == split + 1, "a scan has one column axis")
            expression(s.value, rank)
            expression(s.finish, rank, accumulator=True)
            store(s.place, s.finish, rank)
        elif isinstance(s, Scatter):
            expression(s.value, rank)
            expression(s.target, rank)
            need(s.target.dtype is int64, "a target must be int64")
            if s.guard is not None:
                expression(s.guard, rank)
                need(s.guard.dtype is bool_, "a guard must be bool")
