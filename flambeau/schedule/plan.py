"""Plans: what the scheduler hands back, as plain data.

A plan lists launches (kernels with their argument words, host routines with where their operands lie) in an order that
respects program order, and says which slots need memory of their own and how large the arena for the rest is.  It is put
together from pieces: a :class:`Piece` is what became of one program, before it is known where its slots lie, so that a piece
can stand in many places of many plans.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ..core.dataclass import dataclass
from ..ir.kernel import Kernel
from ..ir.loops import BufferInfo, Host
from ..ir.product import Product
from ..ir.stencil import Stencil
from ..ir.winograd import Filter, WeightGradient, Winograd
from .memory_plan import layout

Launch = tuple[Any, ...]


class Later(NamedTuple):
    """An argument word that is known when a plan is put together.

    ``slot``: the position of its memory in the table, the word after it being an offset in bytes; ``scalar``: the position of a
    run-time number in the table; ``site``: the number of a check.
    """

    kind: str
    number: int


class KernelLaunch(NamedTuple):
    """One launch of a piece; ``later``: which of its words are not known yet (and 0)."""

    kernel: Kernel | Product | Stencil | Winograd | Filter | WeightGradient
    words: tuple[int, ...]
    later: tuple[tuple[int, Later], ...]
    units: int
    points: int


@dataclass(eq=False)
class Piece:
    """A program, scheduled.

    Attributes
    ----------
    buffers
        Of all its slots, temporaries that the scheduler made included.
    launches
        Of kernels, and library routines, in order.
    spans
        For each slot that needs memory the first and the last time that it is used; ``length``: how many times there are.
    checks
        For each site number: message, and the ``origin`` of the nest that it came from.
    report
        What ``explain`` shows of it.
    """

    buffers: list[BufferInfo]
    launches: list[KernelLaunch | Host]
    spans: dict[int, tuple[int, int]]
    length: int
    checks: list[tuple[str, Any]]
    report: Callable[[], list[dict[str, Any]]]


class Placed(NamedTuple):
    """A piece in a plan: what its slots, run-time numbers and origins are there; where a slot begins in its memory, in bytes."""

    piece: Piece
    slots: Sequence[int]
    scalars: Sequence[int]
    origins: Sequence[Any] | None = None        # None: as they are
    starts: Sequence[int] = ()                  # none: 0


@dataclass()
class Plan:
    """The launches of one program.

    Attributes
    ----------
    table
        Slots that have their own memory, in the order of the pointer table (after its two leading words).
    arena
        Bytes of temporaries.
    kernels
        The distinct kernels (empty in a plan read back from disk).
    points
        For each step, the points of its iteration space.
    code
        Their machine-independent texts (LLVM IR), set by whoever renders them.
    steps
        ``("kernel", kernel, words, units)`` or ``("host", routine, operands)``, inputs before outputs, each as
        ``(in_table, table index or arena byte offset, element offset, shape, strides, dtype name)``.
    checks
        For each site number: message, and the ``origin`` of the nest that it came from.
    hosts
        The library routines (empty in a plan read back from disk).
    """

    table: tuple[int, ...]
    arena: int
    kernels: tuple[Kernel | Product | Stencil | Winograd | Filter | WeightGradient, ...]
    steps: tuple[Launch, ...]
    checks: tuple[tuple[str, Any], ...]
    points: tuple[int, ...] = ()
    code: tuple[str, ...] = ()
    hosts: tuple[Host, ...] = ()
    explain: Callable[[], list[dict[str, Any]]] | None = None

    @property
    def report(self) -> list[dict[str, Any]]:
        """One entry per launch: what was fused, bytes read and written, operations, and why neighbours stayed apart."""
        return [] if self.explain is None else self.explain()

    def work(self, step: Launch) -> int:
        """How many points the step runs over: small ones are not worth giving up the interpreter lock."""
        return self.points[self.steps.index(step)]

    def to_data(self) -> tuple[Any, ...]:
        """What ``marshal`` can write; code and the origins of checks are left out."""
        return self.table, self.arena, self.steps, self.points, tuple(message for message, _ in self.checks)

    @staticmethod
    def from_data(data: tuple[Any, ...]) -> Plan:
        """The plan that :meth:`to_data` described."""
        table, arena, steps, points, messages = data
        return Plan(table, arena, (), steps, tuple((m, None) for m in messages), points)


def assemble(pieces: Sequence[Placed], buffers: Sequence[BufferInfo]) -> Plan:
    """The plan that runs pieces one after the other; ``buffers``: of the plan's slots, to which those of the pieces' temporaries are added."""
    infos = list(buffers)
    everywhere: list[list[int]] = []            # for each piece the plan's slots
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    before = 0
    for placed in pieces:
        piece, slots = placed.piece, list(placed.slots)
        for info in piece.buffers[len(slots):]:
            slots.append(len(infos))
            infos.append(info)
        everywhere.append(slots)
        for s, (low, high) in piece.spans.items():
            slot = slots[s]
            first.setdefault(slot, before + low)
            last[slot] = max(last.get(slot, 0), before + high)
        before += piece.length
    table = tuple([s for s in sorted(first) if infos[s].external or infos[s].live])
    position = {s: i + 2 for i, s in enumerate(table)}
    offsets, arena = layout({s: (infos[s].nbytes, begin, last[s]) for s, begin in first.items() if s not in position})

    kernels: dict[Any, int] = {}
    numbers: dict[int, int] = {}                # the same by identity: comparing kernels takes long
    hosts: list[Host] = []
    steps: list[Launch] = []
    points: list[int] = []
    checks: list[tuple[str, Any]] = []
    for placed, slots in zip(pieces, everywhere, strict=True):
        starts = placed.starts
        for launch in placed.piece.launches:
            if isinstance(launch, Host):
                operands = [_operand(x, shape, slots[x.slot], position, offsets) for x, shape in (*launch.inputs, *launch.outputs)]
                steps.append(("host", len(hosts), tuple(operands)))
                numbers_of = tuple([placed.scalars[i] for i in launch.scalars])
                hosts.append(Host(launch.run, launch.inputs, launch.outputs, numbers_of, launch.name, launch.attr, launch.origin))
                points.append(1 << 30)
                continue
            words = list(launch.words)
            for i, (kind, n) in launch.later:
                if kind == "slot":
                    at = position.get(slots[n])
                    if at is None:
                        words[i + 1] += offsets[slots[n]]
                    else:
                        words[i] = at
                    if starts and n < len(starts):
                        words[i + 1] += starts[n]
                elif kind == "scalar":
                    words[i] = 2 + len(table) + placed.scalars[n]
                else:
                    words[i] = len(checks) + n
            number = numbers.get(id(launch.kernel))
            if number is None:
                number = numbers[id(launch.kernel)] = kernels.setdefault(launch.kernel, len(kernels))
            steps.append(("kernel", number, tuple(words), launch.units))
            points.append(launch.points)
        origins = placed.origins
        checks += placed.piece.checks if origins is None else [(message, origins[origin]) for message, origin in placed.piece.checks]

    def explain() -> list[dict[str, Any]]:
        out: list[dict[str, Any]] = []
        for p in pieces:
            entries = p.piece.report()
            if p.origins is not None:
                for entry in entries:
                    entry["origins"] = [p.origins[o] for o in entry["origins"]]
            out += entries
        return out
    return Plan(table, arena, tuple(kernels), tuple(steps), tuple(checks), tuple(points), hosts=tuple(hosts), explain=explain)


def _operand(x: Any, shape: tuple[int, ...], slot: int, position: dict[int, int], offsets: dict[int, int]) -> tuple[Any, ...]:
    """Where a routine's operand lies."""
    at = position.get(slot)
    return at is not None, offsets[slot] if at is None else at - 2, x.offset, shape, x.strides, x.dtype.name
