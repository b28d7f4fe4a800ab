"""What a plan does, for ``explain``: derived from the scheduler's groups only when somebody asks.

Input: the program and the launches made of it; output: one dictionary per launch with the steps fused into it, the bytes it
reads and writes, its operations, and why it was not joined with its neighbours.
"""

from __future__ import annotations

from typing import Any

from ..ir.expression import Access, walk
from ..ir.loops import Host, Program
from ..ir.simplify import cost
from .fuse import Group, elements
from .tile import Launchable


def report(program: Program, launched: list[tuple[Group, Launchable | None]]) -> list[dict[str, Any]]:
    """One entry per launch, in order.

    Returns
    -------
    list of dict
        ``steps`` (numbers in the program, those that became part of another's expression included), ``origins``, ``kernel``
        (loop IR as text), ``read`` and ``written`` (bytes), ``operations`` (scalar), ``blocking`` (of a product: its
        sizes and how it is cut), ``dtype``, ``apart`` (why the previous launches could
        not take its first step).
    """
    out: list[dict[str, Any]] = []
    everything = _folded(program, [{g.host} if g.host is not None else {i.step for i in g.items} for g, _ in launched])
    for k, (g, made) in enumerate(launched):
        if g.host is not None:
            step: Any = program.steps[g.host]
            out.append({"steps": [g.host], "origins": [step.origin], "kernel": f"host routine {step.name}", "read": 0, "written": 0,
                        "operations": 0, "blocking": "", "apart": "a library routine runs on its own"})
            continue
        assert made is not None
        written = {(i.store.slot, i.store.offset, i.store.strides): _bytes(i.store, i.sizes) for i in g.items}
        read = {}
        for i in g.items:
            for x, opaque in i.loads:
                if (x.slot, x.offset, x.strides) not in written:
                    read[x.slot, x.offset, x.strides] = elements(i.sizes) * x.dtype.itemsize if opaque else _bytes(x, i.sizes)
        steps = everything[k]
        out.append({
            "steps": steps, "origins": [program.steps[s].origin for s in steps], "kernel": str(made.kernel), "read": sum(read.values()),
            "written": sum(n for key, n in written.items() if key[0] in made.stored),
            "operations": sum((2 if i.product else cost(i.value)) * elements(i.sizes) for i in g.items), "blocking": made.blocking,
            "dtype": g.items[0].value.dtype,
            "apart": _why(launched[k - 1][0], g) if k else "",
        })
    return out


def _folded(program: Program, carried: list[set[int]]) -> list[list[int]]:
    """The steps of each launch, and with them those that no launch carries out because their values are computed where they are used."""
    writers: dict[int, list[int]] = {}
    reads: list[set[int]] = []
    for number, step in enumerate(program.steps):
        if isinstance(step, Host):
            stores, loads = [x for x, _ in step.outputs], {x.slot for x, _ in step.inputs}
        else:
            roots = tuple(e for e in (step.value, step.finish, step.target, step.guard) if e is not None)
            stores, loads = [step.store], {e.attr.slot for e in walk(roots) if isinstance(e.attr, Access)}
        for x in stores:
            writers.setdefault(x.slot, []).append(number)
        reads.append(loads)
    elsewhere = set().union(*carried)
    out = []
    for own in carried:
        found, waiting = set(own), list(own)
        while waiting:
            reader = waiting.pop()
            for slot in reads[reader]:
                for writer in reversed(writers.get(slot, ())):
                    if writer >= reader or writer in found:
                        continue
                    if writer in elsewhere:
                        break
                    found.add(writer)
                    waiting.append(writer)
        out.append(sorted(found))
    return out


def _bytes(x: Any, sizes: tuple[int, ...]) -> int:
    """Bytes of the distinct elements that an access touches."""
    n: int = x.dtype.itemsize
    for s, size in zip(x.strides, sizes, strict=False):
        if s:
            n *= size
    return n


def _why(before: Group, g: Group) -> str:
    """Why ``g`` does not continue the launch before it."""
    if before.host is not None:
        return "the launch before is a library routine"
    if before.closed or g.closed:
        return "scans and scatters run on their own"
    first = g.items[0]
    shared = {x.slot for x, _ in first.loads} & before.writes.keys()
    if not shared:
        return "it shares no data with the launch before"
    if any(opaque for x, opaque in first.loads if x.slot in shared):
        return "it reads results of the launch before at places that depend on data"
    if elements(first.sizes) != elements(before.sizes):
        return f"its loops {first.sizes} do not match {before.sizes}"
    return "it needs elements that the launch before computes elsewhere in its loops"
