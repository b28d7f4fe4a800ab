"""Plans of streams that repeat themselves: the steps of a loop over time, and those of the pass back through it, are scheduled once.

Input: the calls of a flush; output: their plan.  Where products of one kind come again and again, the stream is cut before them and every
piece is scheduled by itself.  Pieces that are alike, whatever their slots and wherever in these their views begin, are one piece
that stands in several places.  Those of earlier plans are remembered, so that little of a longer sequence is new, its kernels included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..ir.expression import Access
from ..ir.loops import BufferInfo, Host, Nest, Program
from ..ir.simplify import nodes
from ..ops.composite import Body, number
from ..ops.definition import Symbol
from ..schedule import Piece, Placed, Plan, assemble, piece_of
from .cache import PIECES
from .lowering import has_product, lowered, rebound
from .record import Signature

OFTEN = 4               # times that a call's like must come for a cut before it
LONG = 8                # operations of a piece, at least
HUGE = 32               # of a call that is a piece of its own where the stream is cut anyway: the step of an optimizer
KEPT = 256              # pieces that are remembered,
DESCRIBED = 4096        # and descriptions of calls

STATS = {"placed": 0, "made": 0}


class Step(NamedTuple):
    """A call of the stream, or a call of such a call's body: slots of the stream and further ones; its numbers."""

    sig: Signature
    ins: Sequence[int]
    outs: Sequence[int]
    numbers: tuple[Any, ...]        # fixed ones, or ``Symbol`` over the run-time numbers of the stream
    origin: Any


def plan_of(calls: Sequence[Any], buffers: Sequence[BufferInfo], vector_bytes: int, pairs: str) -> Plan | None:
    """The plan of calls among which some come again and again; None where none do."""
    infos = list(buffers)
    pieces = cut(opened(calls, infos))
    if len(pieces) == 1:
        return None
    needed = {s for s, b in enumerate(infos) if b.external or b.live}       # after the piece
    placed: list[Placed] = []
    for steps in reversed(pieces):
        p = _placed(steps, infos, needed, vector_bytes, pairs)
        needed.update(p.slots[s] for s in p.piece.spans if s < len(p.slots))
        placed.insert(0, p)
    return assemble(placed, infos)


def opened(calls: Sequence[Any], infos: list[BufferInfo]) -> list[Step]:
    """The calls, with the body of one that consists of composites in its place: a backward pass consists of the gradients of many."""
    steps = []
    for c in calls:
        body = c.sig.params
        if body.__class__ is not Body or not any(inner.params.__class__ is Body for inner, *_ in body.calls):
            steps.append(Step(c.sig, c.ins, c.outs, tuple([Symbol(("argument", c.first_scalar + i)) for i in range(len(c.sig.scalars))]), c.index))
            continue
        where = dict(enumerate(c.ins))
        where.update(zip(body.results, c.outs, strict=True))
        own = [_renumbered(s, lambda i, first=c.first_scalar: first + i) for s in body.scalars]  # type: ignore[misc]
        for inner, ins, outs, first in body.calls:
            for o in outs:
                if o not in where:
                    where[o] = len(infos)
                    infos.append(BufferInfo(body.metas[o].nbytes, False, False))
            numbers = tuple(own[first:first + len(inner.scalars)])
            steps.append(Step(inner, [where[i] for i in ins], [where[o] for o in outs], numbers, c.index))
    return steps


def _renumbered(s: Any, number_of: Any) -> Any:
    """A number of a body over other run-time numbers."""
    def go(e: Any) -> Any:
        if e.__class__ is not tuple:
            return e
        return ("argument", number_of(e[1])) if e[0] == "argument" else (e[0], go(e[1]), go(e[2]))
    return Symbol(go(s.expr)) if s.__class__ is Symbol else s


def cut(steps: list[Step]) -> list[list[Step]]:
    """The steps in pieces, most of which begin with a product whose like comes often: what it reads is in memory anyway."""
    kinds = [(step.sig.name, step.sig.outs) for step in steps]
    often = {kind for kind, n in Counter(kinds).items() if n >= OFTEN}
    starts = [kind in often and has_product(step.sig) for step, kind in zip(steps, kinds, strict=True)]
    left = Counter(kind for kind, start in zip(kinds, starts, strict=True) if start)
    if not left:
        return [steps]
    pieces: list[list[Step]] = [[]]
    beat: Any = None            # the kind that pieces begin with here
    length = 0
    for step, kind, start in zip(steps, kinds, starts, strict=True):
        operations = _operations(step.sig)
        if pieces[-1] and (operations >= HUGE or (start and length >= LONG and (kind == beat or not left[beat]))):
            pieces.append([])
            beat, length = kind if start else beat, 0
        pieces[-1].append(step)
        length += operations
        left[kind] -= start
    return pieces


def _operations(sig: Signature) -> int:
    return len(sig.params.calls) if sig.params.__class__ is Body else 1


def _placed(steps: list[Step], infos: Sequence[BufferInfo], needed: set[int], vector_bytes: int, pairs: str) -> Placed:
    """The piece of these steps, known or new, and where it stands."""
    local: dict[int, int] = {}
    for step in steps:
        for s in (*step.ins, *step.outs):
            local.setdefault(s, len(local))
    made = {s for step in steps for s in step.outs}
    written = {step.ins[w] for step in steps for w in step.sig.writes}
    described = [_described(step.sig) for step in steps]
    begins: dict[int, int] = {}             # the first byte of it that a slot's views begin at
    sizes: dict[int, int] = {}              # of their elements
    for step, (_, starts) in zip(steps, described, strict=True):
        for s, start, m in zip(step.ins, starts, step.sig.ins, strict=True):
            alike = sizes.setdefault(s, m.dtype.itemsize) == m.dtype.itemsize       # else it is no whole number of some of these
            begins[s] = min(start, begins.get(s, start)) if alike and s not in made else 0
    scalars: dict[int, int] = {}
    origins: dict[Any, int] = {}
    key: list[Any] = [vector_bytes, pairs]
    numbers = []
    for step, (call, starts) in zip(steps, described, strict=True):
        own = [_renumbered(s, lambda i: scalars.setdefault(i, len(scalars))) for s in step.numbers]
        numbers.append(own)
        apart = [start - begins[s] for s, start in zip(step.ins, starts, strict=True)]
        values = [s.expr if s.__class__ is Symbol else s for s in own]
        key.append((call, *[local[s] for s in (*step.ins, *step.outs)], *apart, repr(values), origins.setdefault(step.origin, len(origins))))
    buffers = []
    for s in local:
        if s in made:
            buffers.append(BufferInfo(infos[s].nbytes, False, s in needed))
        else:       # its size matters only where all of it may be overwritten
            buffers.append(BufferInfo((-1 if begins[s] else infos[s].nbytes) if s in written else 0, True, True))
    key += [(b.nbytes, b.external, b.live) for b in buffers]
    name = tuple(key)
    piece: Piece | None = PIECES.get(name)
    STATS["placed"] += 1
    if piece is None:
        STATS["made"] += 1
        if len(PIECES) >= KEPT:
            PIECES.clear()
        program = Program([], list(buffers), [])
        for step, own in zip(steps, numbers, strict=True):
            program.steps += _lowered(step, own, local, begins, program.buffers, origins[step.origin])
        piece = PIECES[name] = piece_of(program, vector_bytes, pairs)
    return Placed(piece, list(local), list(scalars), list(origins), [begins.get(s, 0) for s in local])


def _lowered(step: Step, numbers: list[Any], local: dict[int, int], begins: dict[int, int], buffers: list[BufferInfo], origin: int) -> list[Any]:
    """The nests of a step over the slots of its piece, views of these counted from where they begin."""
    def new_slot(m: Any) -> int:
        buffers.append(BufferInfo(m.nbytes, False, False))
        return len(buffers) - 1
    made = lowered(step.sig, [local[s] for s in step.ins], [local[s] for s in step.outs], 0, new_slot, origin)
    shifts = {local[s]: begins[s] for s in step.ins if begins[s]}
    if any(x.__class__ is Host for x in made):      # which reads views as they are
        places = [s.expr[1] if s.__class__ is Symbol else None for s in numbers]
        return [Host(x.run, x.inputs, x.outputs, tuple([places[i] for i in x.scalars]), x.name, x.attr, x.origin) for x in made]
    if not shifts and not numbers:
        return made
    return rebound(made, lambda x: _moved(x, shifts), lambda e: number(numbers[e.attr], e.dtype, 0), origin)


def _moved(x: Access, shifts: dict[int, int]) -> Access:
    """An access in contents that begin so many bytes later."""
    shift = shifts.get(x.slot)
    return x._replace(offset=x.offset - shift // x.dtype.itemsize) if shift else x


def _reinterprets(nest: Nest, sig: Signature) -> bool:
    """Whether a nest takes an operand for elements of another size."""
    roots = [e for e in (nest.value, nest.finish, nest.target, nest.guard) if e is not None]
    accesses = [nest.store, *[x.attr for e in roots for x in nodes(e) if x.op == "load"]]
    return any(x.slot < len(sig.ins) and x.dtype.itemsize != sig.ins[x.slot].dtype.itemsize for x in accesses)


_descriptions: dict[Signature, tuple[Any, tuple[int, ...]]] = {}
_calls: dict[Any, object] = {}


def _described(sig: Signature) -> tuple[Any, tuple[int, ...]]:
    """What a call does, the same object for calls that differ only in where their operands begin, and where these begin, in bytes."""
    known = _descriptions.get(sig)
    if known is not None:
        return known
    if len(_descriptions) >= DESCRIBED:
        _descriptions.clear()
        _calls.clear()
    count = len(sig.ins)
    sizes: list[int] = []

    def new_slot(m: Any) -> int:
        sizes.append(m.nbytes)
        return count + len(sig.outs) + len(sizes) - 1
    found: tuple[Any, tuple[int, ...]]
    nests = sig.lower(sig, range(count), range(count, count + len(sig.outs)), 0, new_slot, None)
    starts = tuple([m.offset * m.dtype.itemsize for m in sig.ins])
    if any(x.__class__ is Host or _reinterprets(x, sig) for x in nests):
        found = sig, (0,) * count           # these need views as they are
    else:
        shifts = {i: start for i, start in enumerate(starts) if start}
        bound = rebound(nests, lambda x: _moved(x, shifts), lambda e: None, None) if shifts else nests
        parts = tuple([(x.kind, x.sizes, x.kept, x.value, x.store, x.combine, x.finish, x.target, x.guard) for x in bound])
        found = _calls.setdefault((parts, tuple(sizes), count, sig.writes), object()), starts
    _descriptions[sig] = found
    return found
