"""Loop nests and programs: what the stream hands to the scheduler.

A :class:`Nest` is one primitive instruction after its formula was bound to concrete metadata: an iteration space, a
value for every point of it, and where the value goes.  A :class:`Program` is what one flush has to do, in program
order.  The scheduler fuses nests into kernels; the reference interpreter executes them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.dtype import dtype
from .expression import Access, Expr

KINDS = ("map", "reduce", "scan", "scatter")
COMBINERS = ("sum", "prod", "max", "min", "any", "all")


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

    __slots__ = ("combine", "finish", "guard", "kept", "kind", "origin", "sizes", "store", "target", "value")

    def __init__(self, kind: str, sizes: tuple[int, ...], kept: int, value: Expr, store: Access, combine: str = "", finish: Expr | None = None,
                 target: Expr | None = None, guard: Expr | None = None, origin: Any = None) -> None:
        self.kind, self.sizes, self.kept, self.value, self.store, self.combine, self.finish = kind, sizes, kept, value, store, combine, finish
        self.target = target        # scatter only
        self.guard = guard          # scatter only: elements for which it is false are not stored
        self.origin = origin        # the recorded instruction, for explain and for errors


class Host:
    """A library routine on host arrays: ``run(arrays_in, arrays_out, scalars)`` with NumPy views of the operands' memory.

    ``arrays_in``/``arrays_out`` follow ``inputs``/``outputs`` (accesses whose strides belong to ``shapes``).
    """

    __slots__ = ("attr", "inputs", "name", "origin", "outputs", "run", "scalars")

    def __init__(self, run: Callable[..., None], inputs: tuple[tuple[Access, tuple[int, ...]], ...], outputs: tuple[tuple[Access, tuple[int, ...]], ...],
                 scalars: tuple[int, ...] = (), name: str = "", attr: Any = None, origin: Any = None) -> None:
        self.run, self.inputs, self.outputs, self.scalars, self.name, self.origin = run, inputs, outputs, scalars, name, origin
        self.attr = attr            # static parameters, passed as ``run(..., **attr)`` when not None


class BufferInfo:
    """What the scheduler must know of a slot."""

    __slots__ = ("external", "live", "nbytes")

    def __init__(self, nbytes: int, external: bool, live: bool) -> None:
        self.nbytes = nbytes
        self.external = external    # has memory before the program starts
        self.live = live            # is read by somebody after the program (external buffers always are)


class Program:
    """Everything one flush does, in program order.

    ``buffers`` by slot: the stream's slots first, temporaries of expanded calls after them; ``scalars``: the kind of each
    run-time scalar, int64 or float64.
    """

    __slots__ = ("buffers", "scalars", "steps")

    def __init__(self, steps: list[Nest | Host], buffers: list[BufferInfo], scalars: list[dtype] | None = None) -> None:
        self.steps, self.buffers, self.scalars = steps, buffers, scalars or []
