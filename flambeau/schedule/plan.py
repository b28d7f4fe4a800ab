"""Plans: what the scheduler hands back, as plain data.

A plan lists launches (kernels with their argument words, host routines with where their operands lie) in an order that
respects program order, and says which slots need memory of their own and how large the arena for the rest is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..ir.kernel import Kernel
from ..ir.product import Product
from ..ir.stencil import Stencil
from ..ir.winograd import Winograd

Launch = tuple[Any, ...]


@dataclass(slots=True)
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
        Their machine-independent texts (LLVM IR), set by whoever renders them; what is kept on disk.
    steps
        ``("kernel", kernel, words, units)`` or ``("host", step, operands)``, inputs before outputs, each as
        ``(in_table, table index or arena byte offset, element offset, shape, strides, dtype name)``.
    checks
        For each site number: message, and the ``origin`` of the nest that it came from.
    """

    table: tuple[int, ...]
    arena: int
    kernels: tuple[Kernel | Product | Stencil | Winograd, ...]
    steps: tuple[Launch, ...]
    checks: tuple[tuple[str, Any], ...]
    points: tuple[int, ...] = ()
    code: tuple[str, ...] = ()
    explain: Callable[[], list[dict[str, Any]]] | None = field(default=None, repr=False)

    @property
    def report(self) -> list[dict[str, Any]]:
        """One entry per launch: what was fused, bytes read and written, operations, and why neighbours stayed apart."""
        return [] if self.explain is None else self.explain()

    def work(self, step: Launch) -> int:
        """How many points the step runs over: small ones are not worth giving up the interpreter lock."""
        return self.points[self.steps.index(step)]

    def to_data(self) -> tuple[Any, ...]:
        """What ``marshal`` can write; the origins of checks are left out."""
        return self.table, self.arena, self.code, self.steps, self.points, tuple(message for message, _ in self.checks)

    @staticmethod
    def from_data(data: tuple[Any, ...]) -> Plan:
        """The plan that :meth:`to_data` described."""
        table, arena, code, steps, points, messages = data
        return Plan(table, arena, (), steps, tuple((m, None) for m in messages), points, code)
