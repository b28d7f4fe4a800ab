"""Kernels: the loop IR between scheduler and renderer.

A :class:`Kernel` is one loop nest with stages inside.  Its axes are split into *rows* (the outer loops, run independently of
one another) and *columns* (the inner loops, run once per ``Loop`` stage).  Nothing in it depends on sizes: sizes, strides,
offsets and numeric constants are words of the launch's argument list, and the kernel only knows their positions.

Beside the vocabulary of :mod:`.expression`, kernel expressions have two leaves of their own and a changed one:

``arg``      attr = argument word that holds the value (bits of a double for floats, else an int64).
``row``      attr = number of a value that an earlier stage of this row defined.
``load``     attr = number of a :class:`Place`; args as in :mod:`.expression`.
``scalar``   attr = argument word that holds the position of the scalar in the table.
``checked``  attr = argument word that holds the number of the site.
"""

from __future__ import annotations

from ..core.dataclass import dataclass
from ..core.dtype import dtype
from .expression import Expr

INVARIANT, UNIT = 0, -1      # stride codes; a positive code is the argument word that holds the stride in bytes


@dataclass(frozen=True)
class Place:
    """How an access finds its element: base address from the table, plus an offset, plus a stride per axis.

    ``table`` and ``offset`` are argument words (position in the table, offset in bytes); ``strides`` has one code per axis:
    ``INVARIANT``, ``UNIT`` (one element; on the lane axis, or the tile axis of a tiled kernel), or the argument word of a stride in bytes.
    """

    dtype: dtype
    table: int
    offset: int
    strides: tuple[int, ...]
    fill: float | int | bool | None = None


@dataclass(frozen=True)
class Define:
    """Row stage: row value ``number`` is ``value``."""

    number: int
    value: Expr


@dataclass(frozen=True)
class Write:
    """Store ``value`` at ``place``: once a row as a stage, once an element inside a :class:`Loop`."""

    place: int
    value: Expr


@dataclass(frozen=True)
class Reduction:
    """Row value ``number`` is ``value`` combined over the columns."""

    number: int
    combine: str
    value: Expr


@dataclass(frozen=True)
class Loop:
    """A pass over the columns: several reductions and stores that share their loads."""

    reductions: tuple[Reduction, ...]
    writes: tuple[Write, ...]


@dataclass(frozen=True)
class Scan:
    """A pass over the one column axis in order; ``finish`` (of the leaf ``acc``) is stored at every position."""

    place: int
    combine: str
    value: Expr
    finish: Expr


@dataclass(frozen=True)
class Scatter:
    """A pass over all columns in order: ``value`` combined into ``place`` displaced by ``target`` elements."""

    place: int
    combine: str
    value: Expr
    target: Expr
    guard: Expr | None


Stage = Define | Write | Loop | Scan | Scatter


@dataclass(frozen=True)
class Kernel:
    """One function of machine code.

    Parameters
    ----------
    rank, split
        Axes ``0 .. split-1`` are rows, the rest columns.
    lane
        The axis that vector lanes run along (``split - 1`` or ``rank - 1``), or -1 for scalar code.
    lanes
        Elements of a vector.
    sizes
        Argument word of each axis's size.
    unit
        Argument word of the number of positions of axis 0 in a parallel unit, or -1: the kernel is one unit.
    ragged
        Argument word of a total, or -1.  With it the columns end early where axis 0 * columns reaches the total.
    large
        Worth longer code: unrolled loops with an unmasked main part.
    jam
        A row axis of which several positions are worked on together, because they share loads; or -1.
    cascade
        A column axis along which sums are taken block by block, the blocks' sums then added up; or -1.  The rounding error of a long
        sum grows with the number of additions in a row, which this makes the square root of what it was.
    tiled
        Some places have unit stride along axis ``rank - 2`` and another one along the lanes: they are read as square tiles that
        are transposed in registers.  Only in kernels whose one stage is a loop without reductions.
    """

    rank: int
    split: int
    lane: int
    lanes: int
    sizes: tuple[int, ...]
    unit: int
    ragged: int
    large: bool
    jam: int
    cascade: int
    tiled: bool
    places: tuple[Place, ...]
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """The loops as readable text."""
        lines = []
        for i, p in enumerate(self.places):
            strides = ", ".join("0" if s == INVARIANT else "1" if s == UNIT else f"#{s}" for s in p.strides)
            fill = "" if p.fill is None else f" outside {p.fill}"
            lines.append(f"p{i}: {p.dtype.name} at table[#{p.table}] + #{p.offset} strides ({strides}){fill}")
        ranges = [f"i{a} in 0..#{n}" + (f" by {self.lanes}" if a == self.lane else "") for a, n in enumerate(self.sizes)]
        lines += ["  " * a + f"for {ranges[a]}:" for a in range(self.split)]
        pad = "  " * self.split
        columns = ", ".join(ranges[self.split:])
        for s in self.stages:
            if isinstance(s, Define):
                lines.append(f"{pad}r{s.number} = {show(s.value)}")
            elif isinstance(s, Write):
                lines.append(f"{pad}p{s.place} <- {show(s.value)}")
            elif isinstance(s, Loop):
                lines.append(f"{pad}for {columns}:")
                lines += [f"{pad}  r{r.number} {r.combine}= {show(r.value)}" for r in s.reductions]
                lines += [f"{pad}  p{w.place} <- {show(w.value)}" for w in s.writes]
            elif isinstance(s, Scan):
                lines.append(f"{pad}for {columns}: p{s.place} <- running {s.combine} of {show(s.value)}, then {show(s.finish)}")
            else:
                guard = "" if s.guard is None else f" where {show(s.guard)}"
                lines.append(f"{pad}for {columns}: p{s.place}[{show(s.target)}] {s.combine}<- {show(s.value)}{guard}")
        return "\n".join(lines)


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "and": "&", "or": "|", "xor": "^"}


def show(e: Expr) -> str:
    """An expression of a kernel as text."""
    if e.op == "const":
        return f"{e.attr}"
    if e.op in ("arg", "row", "axis", "scalar"):
        return {"arg": "#", "row": "r", "axis": "i", "scalar": "s#"}[e.op] + str(e.attr)
    inner = [show(a) for a in e.args]
    if e.op == "load":
        return f"p{e.attr}" + (f"[{', '.join(inner)}]" if inner else "")
    if e.op in _INFIX:
        return f"({inner[0]} {_INFIX[e.op]} {inner[1]})"
    if e.op == "cast":
        return f"{e.dtype.name}({inner[0]})"
    return f"{e.op}({', '.join(inner)})"
