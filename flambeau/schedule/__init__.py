"""From a program (loop nests in program order) to a plan (launches of fused kernels)."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from ..ir.expression import Access
from ..ir.kernel import Kernel
from ..ir.loops import Host, Program
from ..ir.product import Product
from ..ir.stencil import Stencil
from ..ir.winograd import Winograd
from .contract import lower_product, overwritten, products
from .fuse import Grouper, Item, Phases, Shifts, Taps, Tiles, canonical, elements, needed
from .memory_plan import layout
from .phases import in_phases, lower_phases
from .plan import Plan
from .prepare import Preparer
from .residues import Residues
from .shifted import lower_shifted, shifted_sums
from .stencil import lower_stencil, window_sum
from .tile import Launchable, lower_group
from .winograd import convolution, lower_winograd

__all__ = ["Plan", "build"]

LOWER = {NoneType: lower_product, Taps: lower_stencil, Phases: lower_phases, Shifts: lower_shifted, Tiles: lower_winograd}


def build(program: Program, vector_bytes: int = 64, pairs: str = "") -> Plan:
    """Plan the launches of a program.

    Parameters
    ----------
    program : Program
        What one flush has to do.
    vector_bytes : int
        Width of the vectors that kernels use: 64 for AVX-512, 32 for AVX2, 16 for NEON.
    pairs : str
        How products of bfloat16 are formed: ``"matrix"``, ``"words"`` (see ``ir.product``) or, as float32, ``""``.

    Returns
    -------
    Plan
        Launches in an order that respects program order.
    """
    sites: dict[tuple[str, Any], int] = {}
    buffers = list(program.buffers)
    steps_as_items: list[tuple[int, Host] | list[Item]] = []
    readers: dict[int, int] = {}
    preparer = Preparer(buffers, readers)
    temporary = preparer.temporary
    for number, step in enumerate(program.steps):
        if isinstance(step, Host):
            steps_as_items.append((number, step))
            for x, _ in step.inputs:
                readers[x.slot] = readers.get(x.slot, 0) + 1
        else:
            items = [x for item in canonical(step, number, sites) for x in formed(item, temporary, vector_bytes, pairs)]
            steps_as_items.append(items)
            for item in items:
                for x, _ in item.loads:
                    readers[x.slot] = readers.get(x.slot, 0) + 1
    entries: list[Item | tuple[int, Host]] = []
    for made in steps_as_items:
        if isinstance(made, tuple):
            entries.append(made)
            for x, _ in made[1].outputs:
                preparer.host_writes(x.slot)
        else:
            for item in made:
                entries += preparer(item)
    grouper = Grouper(preparer.cheaper)
    for entry in needed(entries, buffers):
        if isinstance(entry, Item):
            grouper.add(entry, temporary)
        else:
            grouper.add_host(*entry)
    groups = grouper.groups

    # a slot needs memory if it outlives the program or a later launch reads it
    last_use: dict[int, int] = {}
    first_use: dict[int, int] = {}
    inside: list[set[int]] = []         # slots that a group loads from memory although it writes them too
    for k, g in enumerate(groups):
        touched: dict[int, None] = {}
        if g.host is not None:
            step = program.steps[g.host]
            assert isinstance(step, Host)
            touched = dict.fromkeys([x.slot for x, _ in step.inputs] + [x.slot for x, _ in step.outputs])
            loaded = set(touched)
        else:
            written: dict[Access, None] = {}
            loaded = set()
            n = len(g.sizes)
            for item in g.items:
                for x, opaque in item.loads:
                    touched[x.slot] = None
                    if opaque or item.product or (x.slot, x.offset, x.strides + (0,) * (n - len(x.strides)), x.dtype) not in written:
                        loaded.add(x.slot)
                s = item.store
                touched[s.slot] = None
                if item.kind == "scatter" or item.product:
                    loaded.add(s.slot)
                written[s.slot, s.offset, s.strides + (0,) * (n - len(s.strides)), s.dtype] = None  # type: ignore[index]
        inside.append(loaded)
        for slot in touched:
            first_use.setdefault(slot, k)
            if slot in loaded:
                last_use[slot] = k
    outlives = [b.external or b.live for b in buffers]
    table = tuple(s for s in sorted(first_use) if outlives[s])
    position = {s: i + 2 for i, s in enumerate(table)}
    lifetimes = {s: (buffers[s].nbytes, first_use[s], last_use[s]) for s in first_use if not outlives[s] and s in last_use}
    # a product that only its epilogue reads is made where a result of the epilogue goes
    shared: dict[int, int] = {}
    for k, g in enumerate(groups):
        if g.product and lifetimes.get(g.items[0].store.slot, ())[1:] == (k, k):
            home = overwritten(g, lambda s, k=k: outlives[s] or last_use.get(s, -1) > k)  # type: ignore[misc]
            if home is not None:
                shared[g.items[0].store.slot] = home
                del lifetimes[g.items[0].store.slot]
    offsets, arena = layout(lifetimes)

    def locate(slot: int) -> tuple[int, int]:
        slot = shared.get(slot, slot)
        at = position.get(slot)
        return (0, offsets[slot]) if at is None else (at, 0)

    kernels: dict[Kernel | Product | Stencil | Winograd, int] = {}
    steps: list[tuple[Any, ...]] = []
    launched: list[tuple[Any, Launchable | None]] = []
    points: list[int] = []
    for k, g in enumerate(groups):
        if g.host is not None:
            step = program.steps[g.host]
            assert isinstance(step, Host)

            def operand(x: Access, shape: tuple[int, ...]) -> tuple[Any, ...]:
                at, byte = locate(x.slot)
                return at > 0, at - 2 if at > 0 else byte, x.offset, shape, x.strides, x.dtype.name
            for x, _ in step.outputs:       # written but never read: the routine still needs somewhere to write
                if not outlives[x.slot] and x.slot not in offsets:
                    offsets[x.slot] = arena
                    arena += (buffers[x.slot].nbytes + 63) & -64
            steps.append(("host", g.host, tuple(operand(x, s) for x, s in (*step.inputs, *step.outputs))))
            points.append(1 << 30)
            launched.append((g, None))
            continue

        def wanted(slot: int, k: int = k) -> bool:
            return outlives[slot] or last_use.get(slot, -1) > k or slot in inside[k]
        if g.product:
            form = g.items[0].form
            lower = LOWER[type(form)]
            launches = lower(g, wanted, locate, 2 + len(table), vector_bytes)
        else:
            launch = lower_group(g, wanted, locate, 2 + len(table), vector_bytes)
            launches = [] if launch is None else [launch]
        for launch in launches:
            steps.append(("kernel", kernels.setdefault(launch.kernel, len(kernels)), launch.words, launch.units))
            points.append(max(elements(item.sizes) for item in g.items))
            launched.append((g, launch))
    checks = [("", None)] * len(sites)
    for (message, number), site in sites.items():
        checks[site] = (message, program.steps[number].origin)
    plan = Plan(table, arena, tuple(kernels), tuple(steps), tuple(checks), tuple(points))

    def explain() -> list[dict[str, Any]]:
        from .report import report
        return report(program, launched)
    plan.explain = explain
    return plan


def formed(item: Item, temporary: Callable[[int], int], vector_bytes: int, pairs: str) -> list[Item]:
    """The item in the form in which it is computed: itself, or copies of operands, sums of products for an engine, and maps that store their results."""
    residues = Residues.of(item)
    if residues is not None:
        return in_phases(residues, temporary) or [x for part in residues.items() for x in formed(part, temporary, vector_bytes, pairs)]
    return convolution(item, temporary, vector_bytes) or window_sum(item, temporary) or shifted_sums(item, temporary, vector_bytes) \
        or products(item, temporary, pairs)
