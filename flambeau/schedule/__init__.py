"""From a program (loop nests in program order) to a plan (launches of fused kernels)."""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any

from ..ir.loops import Host, Program
from .contract import Converted, in_pairs, lower_product, overwritten, products, rounded
from .fuse import Group, Grouper, Item, Kernels, Phases, Shifts, Taken, Taps, Tiles, canonical, elements, needed
from .phases import in_phases, lower_phases
from .plan import KernelLaunch, Later, Piece, Placed, Plan, assemble
from .prepare import Preparer, shortened, without_copies
from .residues import Residues
from .shifted import lower_shifted, shifted_pairs, shifted_sums
from .stencil import lower_stencil, window_sum
from .tile import Launchable, lower_group
from .winograd import convolution, lower_filter, lower_kernels, lower_winograd, transposed

__all__ = ["Piece", "Placed", "Plan", "assemble", "build", "piece_of", "shortened"]

LOWER = {NoneType: lower_product, Taps: lower_stencil, Phases: lower_phases, Shifts: lower_shifted, Tiles: lower_winograd, Taken: lower_filter,
         Kernels: lower_kernels}


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
    whole = Placed(piece_of(program, vector_bytes, pairs), range(len(program.buffers)), range(len(program.scalars)))
    return assemble([whole], program.buffers)


def piece_of(program: Program, vector_bytes: int, pairs: str) -> Piece:
    """Schedule a program (parameters as of :func:`build`)."""
    sites: dict[tuple[str, Any], int] = {}
    buffers = list(program.buffers)
    steps_as_items: list[tuple[int, Host] | list[Item]] = []
    readers: dict[int, int] = {}
    preparer = Preparer(buffers, readers)
    temporary = preparer.temporary
    converted = Converted(buffers)
    for number, step in without_copies(program.steps, buffers):
        if isinstance(step, Host):
            steps_as_items.append((number, step))
            for x, _ in step.inputs:
                readers[x.slot] = readers.get(x.slot, 0) + 1
            for x, _ in step.outputs:
                converted.written(x.slot)
        else:
            items = []
            for whole in canonical(step, number, sites):
                narrow = converted.narrowed(whole) if pairs == "matrix" else None
                paired = narrow and (shifted_pairs(whole, narrow, temporary, vector_bytes) or in_pairs(narrow, temporary))
                items += paired or formed(whole, temporary, vector_bytes, pairs)
            steps_as_items.append(items)
            for item in items:
                converted.note(item)
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
    outlives = [b.external or b.live for b in buffers]
    last_use: dict[int, int] = {}
    spans: dict[int, tuple[int, int]] = {}
    inside: list[set[int]] = []         # slots that a group loads from memory although it writes them too
    for k, g in enumerate(groups):
        touched, loaded = _memory(g, program)
        inside.append(loaded)
        for slot in touched:
            first = spans[slot][0] if slot in spans else k
            if slot in loaded:
                last_use[slot] = k
            spans[slot] = first, k if outlives[slot] else last_use.get(slot, -1)
    spans = {s: span for s, span in spans.items() if span[1] >= 0}
    # a product that only its epilogue reads is made where a result of the epilogue goes
    shared: dict[int, int] = {}
    for k, g in enumerate(groups):
        if g.product and not outlives[g.items[0].store.slot] and spans.get(g.items[0].store.slot) == (k, k):
            other = rounded(g)
            if other is not None:
                del spans[g.items[0].store.slot]
                groups[k] = other
                continue
            home = overwritten(g, lambda s, k=k: outlives[s] or last_use.get(s, -1) > k)  # type: ignore[misc]
            if home is not None:
                shared[g.items[0].store.slot] = home
                del spans[g.items[0].store.slot]

    def locate(slot: int) -> int:
        return shared.get(slot, slot)
    launches: list[KernelLaunch | Host] = []
    launched: list[tuple[Group, Launchable | None]] = []
    for k, g in enumerate(groups):
        if g.host is not None:
            step = program.steps[g.host]
            assert isinstance(step, Host)
            launches.append(step)
            launched.append((g, None))
            continue

        def wanted(slot: int, k: int = k) -> bool:
            return outlives[slot] or last_use.get(slot, -1) > k or slot in inside[k]
        if g.product:
            made_of = LOWER[type(g.items[0].form)](g, wanted, locate, vector_bytes)
        else:
            launch = lower_group(g, wanted, locate, vector_bytes)
            made_of = [] if launch is None else [launch]
        for launch in made_of:
            later = tuple([(i, w) for i, w in enumerate(launch.words) if w.__class__ is Later])
            words = tuple([0 if w.__class__ is Later else w for w in launch.words])
            launches.append(KernelLaunch(launch.kernel, words, later, launch.units, max(elements(item.sizes) for item in g.items)))
            launched.append((g, launch))
    checks: list[tuple[str, Any]] = [("", None)] * len(sites)
    for (message, number), site in sites.items():
        checks[site] = (message, program.steps[number].origin)

    def explain() -> list[dict[str, Any]]:
        from .report import report
        return report(program, launched)
    return Piece(buffers, launches, spans, len(groups), checks, explain)


def _memory(g: Group, program: Program) -> tuple[dict[int, None], set[int]]:
    """The slots that a group touches, and those that it reads from memory."""
    touched: dict[int, None] = {}
    if g.host is not None:
        step = program.steps[g.host]
        assert isinstance(step, Host)
        touched = dict.fromkeys([x.slot for x, _ in step.inputs] + [x.slot for x, _ in step.outputs])
        return touched, set(touched)        # what is written and never read: the routine still needs somewhere to write
    written: set[Any] = set()
    loaded: set[int] = set()
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
        written.add((s.slot, s.offset, s.strides + (0,) * (n - len(s.strides)), s.dtype))
    return touched, loaded


def formed(item: Item, temporary: Callable[[int], int], vector_bytes: int, pairs: str) -> list[Item]:
    """The item in the form in which it is computed: itself, or copies of operands, sums of products for an engine, and maps that store their results."""
    if item.kind != "reduce" or item.combine != "sum":
        return [item]
    residues = Residues.of(item)
    if residues is not None:
        return transposed(residues, temporary, vector_bytes) or in_phases(residues, temporary) \
            or [x for part in residues.items() for x in formed(part, temporary, vector_bytes, pairs)]
    return convolution(item, temporary, vector_bytes) or window_sum(item, temporary) or shifted_sums(item, temporary, vector_bytes) \
        or products(item, temporary, pairs)
