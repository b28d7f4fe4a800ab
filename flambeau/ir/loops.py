"""Loop nests and programs: what the stream hands to the scheduler.

A :class:`Nest` is one primitive instruction after its formula was bound to concrete metadata: an iteration space, a
value for every point of it, and where the value goes.  A :class:`Program` is what one flush has to do, in program
order.  The scheduler fuses nests into kernels; the reference interpreter executes them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..core.dtype import dtype
from .expression import Access, Expr

KINDS = ("map", "reduce", "scan", "scatter")
COMBINERS = ("sum", "prod", "max", "min", "any", "all")


@dataclass(slots=True)
class Nest:
    """One loop nest.

    ``sizes`` are the axis sizes: the first ``kept`` are written, the rest combined (a *reduce*), or run through in order
    and written as well (a *scan*, over exactly one axis, the last).

    map      store[kept] = value
    reduce   store[kept] = finish(combine over the reduced axes of value); ``value``'s dtype is the accumulator's
    scan     store[all axes] = finish(combine of value up to and including this position of the last axis)
    scatter  store at ``store`` + ``target`` elements (a data-dependent int64 expression) combined with what is there by
             ``combine`` ("" = overwrite); in ascending order of the axes, so duplicates have a defined result

    An empty reduction yields the combiner's identity.  max and min propagate NaN.  A sum may use any fixed tree that
    depends on the sizes alone.
    """

    kind: str
    sizes: tuple[int, ...]
    kept: int
    value: Expr
    store: Access
    combine: str = ""
    finish: Expr | None = None
    target: Expr | None = None          # scatter only
    guard: Expr | None = None           # scatter only: elements for which it is false are not stored
    origin: Any = None                  # the recorded instruction, for explain and for errors


@dataclass(slots=True)
class Host:
    """A library routine on host arrays: ``run(arrays_in, arrays_out, scalars)`` with NumPy views of the operands' memory.

    ``arrays_in``/``arrays_out`` follow ``inputs``/``outputs`` (accesses whose strides belong to ``shapes``).
    """

    run: Callable[[list[Any], list[Any], list[Any]], None]
    inputs: tuple[tuple[Access, tuple[int, ...]], ...]      # (access, shape)
    outputs: tuple[tuple[Access, tuple[int, ...]], ...]
    scalars: tuple[int, ...] = ()
    name: str = ""                      # module-level name of ``run``: plans on disk refer to it
    attr: Any = None                    # static parameters, passed as ``run(..., **attr)`` when not None
    origin: Any = None


@dataclass(slots=True)
class BufferInfo:
    """What the scheduler must know of a slot."""

    nbytes: int
    external: bool          # has memory before the program starts
    live: bool              # is read by somebody after the program (external buffers always are)


@dataclass(slots=True)
class Program:
    """Everything one flush does, in program order."""

    steps: list[Nest | Host]
    buffers: list[BufferInfo]           # by slot; the stream's slots first, temporaries of expanded calls after them
    scalars: list[dtype] = field(default_factory=list)   # kind of each run-time scalar: int64 or float64
