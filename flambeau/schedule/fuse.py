"""Which nests run in one kernel.

Input: the steps of a program; output: groups of :class:`Item` in an order that respects program order.  All items of a group
share one iteration space of rows and columns: *full* items run at every point of it, *row* items once per row, and a
reduction over the columns yields a row value.  An item reads what an earlier item of its group wrote only at the very same
element, so the value never has to travel through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..core.dataclass import dataclass, field, replace
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import BufferInfo, Host, Nest
from ..ir.simplify import (
    EVERYTHING,
    Region,
    Term,
    cost,
    disjoint,
    has_checks,
    identity_value,
    move,
    move_access,
    nodes,
    permutation,
    refine,
    region,
    split_terms,
)
from ..ir.winograd import Algorithm

MAX_ITEMS = 96              # of a group: bounds the size of a kernel
MAX_ACCESSES = 40           # different ones
MAX_PARTS = 8               # of an array that is put together: kernels for any number of parts would be as many kernels
MAX_COST = 1500             # simple vector instructions per element
CACHED = 1 << 18            # elements that stay in cache, so that the order of walking through them matters little
CHUNK = 1 << 14             # elements of a chunk when a large array is reduced to one value


@dataclass(frozen=True)
class Tiles:
    """A convolution for Winograd's algorithm (``winograd.py``) beside its nest: the axes of images, groups and slices, if there are such, which
    rows, columns and slices of the input exist (first, end), counted from the first that the first tile reads, and of every block of taps the offset in
    the input and how many rows, columns and slices further on it reads.  No rows: there is an axis of columns only."""

    image: int | None
    group: int | None
    slices: int | None
    rows: tuple[int, int] | None
    columns: tuple[int, int]
    depth: tuple[int, int]
    blocks: tuple[tuple[int, int, int, int], ...]
    down: Algorithm
    across: Algorithm


@dataclass(frozen=True)
class Taken:
    """The filter of such a convolution, beside the nest that transforms it: its elements from one group, output, channel, slice, tap down and across to
    the next; slices, taps down and across; outputs and groups, channels; elements of the result for a point."""

    steps: tuple[int, int, int, int, int, int]
    taps: tuple[int, int, int]
    groups: int
    outputs: int
    channels: int
    point: int
    down: Algorithm
    across: Algorithm


@dataclass(frozen=True)
class Taps:
    """A sum over a small window (``stencil.py``) beside its nest: axes of the nest, how each moves a position, and the positions that exist."""

    to_taps: bool                                   # the taps are kept, the places summed
    outer: tuple[int, ...]
    y: int | None
    x: int
    taps: tuple[int, ...]
    down: tuple[int, ...]                           # moves by y, then by every axis of the taps
    across: tuple[int, ...]
    y_place: tuple[int, int]                        # position of the first place and tap, number of positions
    x_place: tuple[int, int]
    free: tuple[tuple[int, int, tuple[int, ...]], ...]      # others: the same, and how every axis of the nest moves them


@dataclass(frozen=True)
class Phase:
    """One of a product's phases (``phases.py``): where it begins along the columns; per column axis the image's position of the first column and tap;
    the number of channels and the sizes of the taps, how these move the positions; where its part of A begins, in elements."""

    places: tuple[int, ...]
    origins: tuple[int, ...]
    taps: tuple[int, ...]
    moves: tuple[tuple[int, ...], ...]
    a_offset: int


@dataclass(frozen=True)
class Phases:
    """A product whose columns take turns through several phases, beside its nest; ``image`` and ``weight`` over its kept axes."""

    phases: tuple[Phase, ...]
    apart: tuple[int, ...]                  # along each column axis, from one column of a phase to the next
    limits: tuple[int, ...]                 # per column axis, positions of the image, and strides of these
    strides: tuple[int, ...]
    channels: int                           # of the image, and their stride
    channel: int
    image: Access
    weight: Access
    k_step: int                             # elements of A from one k to the next


@dataclass(frozen=True)
class Shifts:
    """A product for every tap of a window (``shifted.py``) beside its nest: kept are so many axes of a batch, rows, the taps and channels,
    summed images, if there are several, and places.  For every axis of places, step, position of the first place and tap, number of positions,
    stride of a position; for every axis of the taps, which of these it moves, and how far.  ``joined``: channels and the last taps are one axis of columns."""

    batch: int
    images: bool
    places: tuple[tuple[int, int, int, int], ...]
    taps: tuple[tuple[int, int], ...]
    joined: bool


@dataclass(frozen=True)
class Kernels:
    """Such sums by Winograd's algorithm (:class:`Shifts` as they are otherwise), beside their nest."""

    shifts: Shifts
    down: Algorithm
    across: Algorithm


@dataclass(eq=False)
class Item:
    """One nest in canonical form: no axes of size 1, kept axes by descending store stride."""

    kind: str                       # map, reduce, scan, scatter
    sizes: tuple[int, ...]
    kept: int
    value: Expr
    store: Access
    combine: str
    finish: Expr | None
    target: Expr | None
    guard: Expr | None
    step: int                       # number in the program
    loads: list[tuple[Access, bool]] = field(default_factory=list)      # every access read; True: at a place that depends on data
    row: bool = False               # runs once per row of its group
    at: int = 0                     # position in program order
    ragged: int = 0                 # first and last axis together cover only this many positions
    product: bool = False           # for the product engine
    pairs: str = ""                 # of bfloat16, how they are multiplied
    form: Tiles | Taken | Taps | Phases | Shifts | Kernels | None = None        # of a product: what it is, where the product engine is not for it

    def scan_loads(self) -> None:
        """List the accesses that the item reads."""
        seen: dict[tuple[Access, bool], None] = {}
        for root in (self.value, self.finish, self.target, self.guard):
            if root is not None:
                for x in nodes(root):
                    if x.op == "load":
                        seen[x.attr, bool(x.args) and not is_zero(x.args[0])] = None
        self.loads = list(seen)

    def moved(self, terms: Sequence[Term], sizes: tuple[int, ...], kept: int) -> Item:
        """The same nest over other axes."""
        memo: dict[Expr, Expr] = {}
        n = len(sizes)

        def go(e: Expr | None) -> Expr | None:
            return None if e is None else move(e, terms, n, memo)
        new = Item(self.kind, sizes, kept, move(self.value, terms, n, memo), move_access(self.store, terms, n), self.combine,
                   go(self.finish), go(self.target), go(self.guard), self.step, row=self.row, at=self.at, ragged=self.ragged, product=self.product)
        new.scan_loads()
        return new


@dataclass(eq=False)
class Group:
    """Items that become one kernel (or a host routine: ``host`` is its step number)."""

    sizes: tuple[int, ...] = ()
    split: int | None = None        # rows; None while there are only maps over all axes
    items: list[Item] = field(default_factory=list)
    host: int | None = None
    closed: bool = False            # scans and scatters run alone
    product: bool = False           # a product, over its kept axes, and the maps of its epilogue
    ragged: int = 0
    cost: int = 0
    reads: dict[int, list[tuple[Access | None, Region]]] = field(default_factory=dict)
    writes: dict[int, list[tuple[Access | None, Region]]] = field(default_factory=dict)
    accesses: set[tuple[Any, ...]] = field(default_factory=set)


def is_zero(e: Expr) -> bool:
    return e.op == "const" and e.attr == 0


# ---------------------------------------------------------------- canonical nests

def canonical(nest: Nest, step: int, sites: dict[tuple[str, Any], int]) -> list[Item]:
    """The items of one nest; none when it has nothing to do."""
    sizes, kept = nest.sizes, nest.kept
    if any(n == 0 for n in (sizes[:kept] if nest.kind == "reduce" else sizes)):
        return []
    value, finish = nest.value, nest.finish
    kind = nest.kind
    if any(root is not None and has_checks(root) for root in (value, finish, nest.target, nest.guard)):
        def site(x: Expr) -> Expr | None:
            if x.op != "checked":
                return None
            number = sites.setdefault((x.attr, step), len(sites))
            return ir.make("checked", ir.int64, tuple(ir.rewrite(a, site, memo) for a in x.args), number)
        memo: dict[Expr, Expr] = {}
        value = ir.rewrite(value, site, memo)
        finish = None if finish is None else ir.rewrite(finish, site, memo)
        nest = Nest(kind, sizes, kept, value, nest.store, nest.combine, finish,
                    None if nest.target is None else ir.rewrite(nest.target, site, memo),
                    None if nest.guard is None else ir.rewrite(nest.guard, site, memo), nest.origin)
    if kind == "reduce" and any(n == 0 for n in sizes):
        value = ir.const(identity_value(nest.combine, value.dtype), value.dtype)
        sizes = tuple(1 if a >= kept else n for a, n in enumerate(sizes))
    strides = nest.store.strides
    if kind == "scan":
        order = [a for a in range(kept) if sizes[a] != 1] + [len(sizes) - 1]
    elif kind == "scatter":
        order = [a for a in range(len(sizes)) if sizes[a] != 1]
    else:
        order = sorted((a for a in range(kept) if sizes[a] != 1), key=lambda a: -abs(strides[a]))
    rows = len(order) if kind != "scan" else len(order) - 1
    if kind == "reduce":
        columns = [a for a in range(kept, len(sizes)) if sizes[a] != 1]
        if len(columns) > 1:
            reach = dict.fromkeys(columns, 0)
            for x in nodes(value):
                if x.op == "load":
                    for a in columns:
                        reach[a] = max(reach[a], abs(x.attr.strides[a]))
            columns.sort(key=lambda a: -reach[a])
        if not columns:
            kind = "map"
            if finish is not None:
                accumulated = value
                value = ir.rewrite(finish, lambda x: accumulated if x.op == "acc" else None)
                finish = None
        order += columns
    new = tuple(sizes[a] for a in order)
    item = Item(kind, sizes, kept, value, nest.store, nest.combine, finish, nest.target, nest.guard, step)
    if order != list(range(len(sizes))):
        return [item.moved(permutation(order, len(sizes)), new, rows)]
    item.kept = rows
    item.scan_loads()
    return [item]


def needed(entries: Sequence[Item | tuple[int, Host]], buffers: Sequence[BufferInfo]) -> list[Item | tuple[int, Host]]:
    """The items and host steps whose results somebody reads, in program order."""
    wanted = {s for s, b in enumerate(buffers) if b.live or b.external}
    kept: list[Item | tuple[int, Host]] = []
    for entry in reversed(entries):
        if isinstance(entry, Item):
            slot = entry.store.slot
            if slot not in wanted:
                continue
            if covers(entry, buffers[slot].nbytes):
                wanted.discard(slot)        # what was there before is overwritten
            wanted.update(x.slot for x, _ in entry.loads)
        else:
            host = entry[1]
            if host.outputs and not any(a.slot in wanted for a, _ in host.outputs):
                continue
            wanted.update(a.slot for a, _ in (*host.inputs, *host.outputs))
        kept.append(entry)
    kept.reverse()
    return kept


def covers(item: Item, nbytes: int) -> bool:
    """Whether the item writes every byte of its buffer."""
    if item.store.offset or item.kind == "scatter":
        return False
    sizes = item.sizes[:item.kept] if item.kind == "reduce" else item.sizes
    run = 1
    for s, n in sorted(zip(item.store.strides, sizes, strict=False)):
        if s != run:
            return False
        run *= n
    return run * item.store.dtype.itemsize == nbytes


# ---------------------------------------------------------------- grouping

class Grouper:
    """Places items, one after the other, into the latest group that can take them."""

    def __init__(self, cheaper: Callable[[Item], Item | None]) -> None:
        self.cheaper = cheaper          # an item that cannot join those that made its inputs, reading their sources instead
        self.groups: list[Group] = []
        self.last_read: dict[int, list[tuple[int, Region]]] = {}
        self.last_write: dict[int, list[tuple[int, Region]]] = {}

    def barrier(self, accesses: Iterable[tuple[int, Region]], writes: Iterable[tuple[int, Region]]) -> int:
        """The first group that may hold something with these reads and writes."""
        low = 0
        for slot, r in accesses:
            for g, other in self.last_write.get(slot, ()):
                if g > low and not disjoint(r, other):
                    low = g
        for slot, r in writes:
            for table in (self.last_write, self.last_read):
                for g, other in table.get(slot, ()):
                    if g > low and not disjoint(r, other):
                        low = g
        return low

    def add_host(self, number: int, step: Host) -> None:
        """A host routine is a group of its own."""
        g = Group(host=number, closed=True)
        self.groups.append(g)
        at = len(self.groups) - 1
        for x, shape in step.inputs:
            self.last_read.setdefault(x.slot, []).append((at, region(x, shape)))
        for x, shape in step.outputs:
            self.last_write.setdefault(x.slot, []).append((at, region(x, shape)))

    def add(self, item: Item, new_slot: Callable[[int], int]) -> None:
        """Place one item; ``new_slot(nbytes)`` makes a temporary."""
        if item.kind == "reduce" and not item.product and not item.ragged and elements(item.sizes) >= 2 * CHUNK:
            parts = split_large_reduction((item.kept and self.cheaper(item)) or item, new_slot)
            if parts is not None:
                for part in parts:
                    self.add(part, new_slot)
                return
        at = self.place(item)
        if at < 0 and not item.product:
            other = self.cheaper(item)
            if other is not None:
                item = other
                at = self.place(item)
        if at < 0:
            # everything that must come before is in some group already, so a new one at the end is late enough
            if item.product:
                g = Group(item.sizes[:item.kept], product=True)
            else:
                g = Group(item.sizes, item.kept if item.kind != "map" else None, closed=item.kind in ("scan", "scatter"), ragged=item.ragged)
            self.groups.append(g)
            at = len(self.groups) - 1
            g.items.append(item)
            note(g, item)
        reads, writes = self.regions(item)
        for slot, r in reads:
            self.last_read.setdefault(slot, []).append((at, r))
        for slot, r in writes:
            self.last_write.setdefault(slot, []).append((at, r))

    def regions(self, item: Item) -> tuple[list[tuple[int, Region]], list[tuple[int, Region]]]:
        """What an item reads and writes."""
        reads = [(x.slot, EVERYTHING if opaque else region(x, item.sizes)) for x, opaque in item.loads]
        if item.kind == "scatter":
            return [*reads, (item.store.slot, EVERYTHING)], [(item.store.slot, EVERYTHING)]
        return reads, [(item.store.slot, region(item.store, item.sizes))]

    def place(self, item: Item) -> int:
        """The number of the latest group that took the item, or -1."""
        if item.kind not in ("map", "reduce") or item.product:
            return -1
        low = self.barrier(*self.regions(item))
        for k in range(len(self.groups) - 1, max(low, len(self.groups) - 24) - 1, -1):
            g = self.groups[k]
            if not g.closed and related(g, item) and join(g, item) is not None:
                return k
        return -1


def related(g: Group, item: Item) -> bool:
    """Whether fusing saves memory traffic or is small enough not to matter."""
    if g.product and not (item.kind == "map" and any(x.slot in g.writes for x, _ in item.loads)):
        return False
    if len(g.items) >= MAX_ITEMS or len(g.accesses) + len(item.loads) > MAX_ACCESSES or g.cost > MAX_COST:
        return False
    if item.store.slot in g.reads or any(x.slot in g.writes or x.slot in g.reads for x, _ in item.loads):
        return True
    if item.store.slot in g.writes:
        return len(g.writes[item.store.slot]) < MAX_PARTS
    # nothing shared yet: neighbours over one space are usually parts of one computation, such as an optimizer's moments
    return item.sizes == g.sizes and len(g.accesses) < 16


def elements(sizes: Sequence[int]) -> int:
    """How many points a space has."""
    n = 1
    for s in sizes:
        n *= s
    return n


def padded(x: Access, rank: int) -> Access:
    """The access over ``rank`` axes: it does not move along those it does not have."""
    strides = x.strides
    n = len(strides)
    return x if n == rank else Access(x.slot, x.offset, strides + (0,) * (rank - n) if n < rank else strides[:rank], x.dtype, x.fill)


def note(g: Group, item: Item) -> None:
    """Record what an item of the group reads and writes."""
    n = len(g.sizes)
    g.cost += cost(item.value)
    for x, opaque in item.loads:
        # what a product reads, it reads many times and not at the element that it writes
        element = None if opaque or item.product else key(padded(x, n))
        g.reads.setdefault(x.slot, []).append((element, EVERYTHING if opaque else region(x, item.sizes)))
        g.accesses.add((x.slot, x.offset, x.strides))
    s = item.store
    g.writes.setdefault(s.slot, []).append((key(padded(s, n)), region(s, item.sizes)))
    g.accesses.add((s.slot, s.offset, s.strides))


def key(x: Access) -> Access:
    """What identifies an element: an access without its fill value."""
    return x if x.fill is None else Access(x.slot, x.offset, x.strides, x.dtype)


def join(g: Group, item: Item) -> Item | None:
    """Try to put the item into the group, in one of the ways their spaces can match; the item as placed, or None."""
    for how in arrangements(g, item):
        split, group_terms, sizes, candidate, lift = how
        if g.product and (group_terms is not None or lift or split is not None or candidate.row):
            continue
        if group_terms is None and not lift:
            if safe(g, candidate, len(sizes)):
                g.split = split
                g.items.append(candidate)
                note(g, candidate)
                return candidate
            continue
        trial = Group(sizes, split, ragged=g.ragged)
        for old in g.items:
            if lift:
                new = old.moved(permutation(range(len(g.sizes)), len(old.sizes)), old.sizes, old.kept)
                new.row = True
            else:
                assert group_terms is not None
                rows = g.split if g.split is not None else len(g.sizes)
                rank = rows if old.row else len(g.sizes)
                new_rank = split if old.row and split is not None else len(sizes)
                terms = tuple((c, t[:new_rank]) for c, t in group_terms[:rank])
                kept = split if old.kind == "reduce" and split is not None else new_rank
                new = old.moved(terms, sizes[:new_rank], kept)
            trial.items.append(new)
            note(trial, new)
        if safe(trial, candidate, len(sizes)):
            g.sizes, g.split, g.items, g.reads, g.writes, g.accesses = sizes, split, trial.items, trial.reads, trial.writes, trial.accesses
            g.ragged, g.cost = g.ragged or candidate.ragged, trial.cost
            g.items.append(candidate)
            note(g, candidate)
            return candidate
    return None


Arrangement = tuple[int | None, tuple[Term, ...] | None, tuple[int, ...], Item, bool]


def arrangements(g: Group, item: Item) -> Iterable[Arrangement]:
    """Ways to see group and item over one space: (split, terms for the group's axes, sizes, the item, lift the group to rows)."""
    if item.ragged or g.ragged:
        if item.ragged == g.ragged and item.sizes == g.sizes:
            yield g.split, None, g.sizes, item, False
        elif g.ragged and len(g.sizes) == 2 and item.kind == "map" and item.sizes == (g.ragged,):
            yield g.split, None, g.sizes, chunked(item, g.sizes), False
        elif item.ragged and len(item.sizes) == 2 and g.split is None and g.sizes == (item.ragged,):
            terms = ((0, (item.sizes[1], 1)),)
            yield 1, terms, item.sizes, item, False
        return
    for candidate in orders(g, item):
        yield from _arrangements(g, candidate)


def orders(g: Group, item: Item) -> Iterable[Item]:
    """The item as it is, then with the axes in the order in which the group wrote what it reads."""
    yield item
    n = len(item.sizes)
    if n < 2:
        return
    seen = {tuple(range(n))}
    for x, opaque in item.loads:
        strides = x.strides[:n]
        if opaque or x.slot not in g.writes or 0 in strides:
            continue
        order = [*sorted(range(item.kept), key=lambda a: -abs(strides[a])), *sorted(range(item.kept, n), key=lambda a: -abs(strides[a]))]
        found = [tuple(order)]
        if item.kind == "map" and len(set(strides)) == n:
            for other, _ in g.writes[x.slot]:
                if other is not None:
                    along = [s for s in other.strides if s]
                    if sorted(along) == sorted(strides):
                        found.append(tuple(strides.index(s) for s in along))
        for o in found:
            if o not in seen:
                seen.add(o)
                yield item.moved(permutation(o, n), tuple(item.sizes[a] for a in o), item.kept)


def _arrangements(g: Group, item: Item) -> Iterable[Arrangement]:
    sizes, n = g.sizes, len(g.sizes)
    is_map = item.kind == "map"
    if item.sizes == sizes:
        if is_map:
            yield g.split, None, sizes, item, False
        elif g.split is None or g.split == item.kept:
            yield item.kept, None, sizes, item, False
    if is_map and g.split is not None and item.sizes == sizes[:g.split]:
        yield g.split, None, sizes, replace(item, row=True), False
    if g.split is None and len(item.sizes) > n and item.sizes[:n] == sizes and (is_map or item.kept == n) \
            and (n > 0 or elements(item.sizes) <= CHUNK):      # one row is one unit of work: not for large arrays
        yield n, None, item.sizes, item, True
    # a reduction whose kept axes are not the group's leading ones
    if not is_map and g.split is None and n > 1 and elements(sizes) <= CACHED and sorted(item.sizes) == sorted(sizes):
        for x, opaque in item.loads:
            if opaque or 0 in x.strides:
                continue
            for other, _ in (*g.writes.get(x.slot, ()), *g.reads.get(x.slot, ())):
                if other is None or sorted(other.strides) != sorted(x.strides) or len(set(x.strides)) != n:
                    continue
                order = [other.strides.index(s) for s in x.strides]
                if tuple(sizes[a] for a in order) == item.sizes:
                    yield item.kept, permutation(order, n), item.sizes, item, False
                    return
    # one space after splitting axes on either side
    rows = g.split if g.split is not None else (item.kept if not is_map else n)
    if g.split is None and not is_map:
        total = elements(item.sizes[:item.kept])
        rows, run = 0, 1
        while rows < n and run < total:
            run *= sizes[rows]
            rows += 1
        if run != total:
            return
    if elements(item.sizes) == elements(sizes) and item.sizes != sizes:
        kept = item.kept
        if is_map and g.split is not None:
            kept, run, total = 0, 1, elements(sizes[:rows])
            while kept < len(item.sizes) and run < total:
                run *= item.sizes[kept]
                kept += 1
            if run != total:
                return
        if elements(item.sizes[:kept]) != elements(sizes[:rows]):
            return
        upper, lower = refine(sizes[:rows], item.sizes[:kept]), refine(sizes[rows:], item.sizes[kept:])
        if upper is None or lower is None:
            return
        yield from _refined(g, item, upper, lower, rows if g.split is not None or not is_map else None, False)
    elif is_map and g.split is not None and elements(item.sizes) == elements(sizes[:g.split]) and item.sizes != sizes[:g.split]:
        upper = refine(sizes[:g.split], item.sizes)
        if upper is not None:
            same = [[s] for s in sizes[g.split:]]
            yield from _refined(g, item, upper, (same, []), g.split, True)


def _refined(g: Group, item: Item, upper: tuple[list[list[int]], list[list[int]]], lower: tuple[list[list[int]], list[list[int]]],
             rows: int | None, row: bool) -> Iterable[Arrangement]:
    group_parts, item_parts = upper[0] + lower[0], upper[1] + lower[1]
    new_rows = sum(len(p) for p in upper[0])
    sizes = tuple(s for p in group_parts for s in p)
    terms, _ = split_terms(g.sizes, group_parts)
    item_terms, item_rank = split_terms(item.sizes, item_parts)
    item_sizes = tuple(s for p in item_parts for s in p)
    new = item.moved(item_terms, item_sizes, new_rows if item.kind == "reduce" else item_rank)
    new.row = row
    yield (None if rows is None else new_rows), (None if sizes == g.sizes else terms), sizes, new, False


def chunked(item: Item, sizes: tuple[int, ...]) -> Item:
    """A nest over one axis as chunks of it."""
    return item.moved(((0, (sizes[1], 1)),), sizes, 2 if item.kind == "map" else 1)


def safe(g: Group, item: Item, rank: int) -> bool:
    """Whether every meeting of the item with the group is at the very same element of the space."""
    for x, opaque in item.loads:
        written = g.writes.get(x.slot)
        if written is None:
            continue
        if opaque:
            return False
        k, r = key(padded(x, rank)), region(x, item.sizes)
        if any(other != k and not disjoint(r, area) for other, area in written):
            return False
    s = item.store
    k, r = key(padded(s, rank)), region(s, item.sizes)
    for other, area in (*g.writes.get(s.slot, ()), *g.reads.get(s.slot, ())):
        if other != k and not disjoint(r, area):
            return False
    return not any(x.slot == s.slot and (opaque or (key(padded(x, rank)) != k and not disjoint(region(x, item.sizes), r)))
                   for x, opaque in item.loads)


def split_large_reduction(item: Item, new_slot: Callable[[int], int]) -> tuple[Item, Item] | None:
    """A reduction of much to little as partial results per chunk and their combination, or None when it is well as it is.

    The chunks depend on the shape alone, so the result has the same bits however the chunks are shared out.
    """
    sizes, kept, d = item.sizes, item.kept, item.value.dtype
    if kept:
        return _split_columns(item, new_slot)
    item = flat(item)
    sizes = item.sizes
    if len(sizes) > 1:
        while kept < len(sizes) - 1 and (elements(sizes[kept:]) > 4 * CHUNK or kept == 0):
            kept += 1
        count = elements(sizes[:kept])
        if count > elements(sizes) // 64:
            return None
        slot = new_slot(count * d.itemsize)
        strides = row_major(sizes[:kept]) + (0,) * (len(sizes) - kept)
        first = replace(item, kept=kept, store=Access(slot, 0, strides, d), finish=None)
    else:
        count = -(-sizes[0] // CHUNK)
        new = (count, CHUNK)
        slot = new_slot(count * d.itemsize)
        moved = item.moved(((0, (CHUNK, 1)),), new, 1)
        first = replace(moved, store=Access(slot, 0, (1, 0), d), finish=None, ragged=sizes[0])
    first.scan_loads()
    leaf = ir.make("load", d, (), Access(slot, 0, (1,), d))
    store = Access(item.store.slot, item.store.offset, (0,), item.store.dtype)
    second = Item("reduce", (count,), 0, leaf, store, item.combine, item.finish, None, None, item.step)
    second.scan_loads()
    return first, second


def flat(item: Item) -> Item:
    """A reduction to one value over one axis, where everything that it reads lies evenly; else the item as it is."""
    sizes, n = item.sizes, len(item.sizes)
    if n < 2 or any(x.op == "axis" for x in nodes(item.value)):
        return item
    if any(x.strides[a] != x.strides[a + 1] * sizes[a + 1] for x, _ in item.loads for a in range(n - 1)):
        return item
    return item.moved([(0, (int(a == n - 1),)) for a in range(n)], (elements(sizes),), 0)


STRIP_ROWS = 16, 64         # least and most rows of a strip: sums over few are many, and all are written and read again,
STRIPS = 32                 # sums over many are few, and there are to be so many for threads to share


def _split_columns(item: Item, new_slot: Callable[[int], int]) -> tuple[Item, Item] | None:
    """The sum of many long rows: strips of a few rows first, so that memory is read nearly in order."""
    sizes, d = item.sizes, item.value.dtype
    if item.kept != 1 or len(sizes) != 2 or sizes[0] < 256 or sizes[1] < 8 * STRIP_ROWS[0] or elements(sizes) < CACHED:
        return None
    loads = [x for x, opaque in item.loads if not opaque]
    if not all(x.strides[0] == 1 or not x.strides[0] for x in loads) or not any(x.strides[0] == 1 and x.strides[1] for x in loads):
        return None
    columns, rows = sizes
    least, most = STRIP_ROWS
    strip = min(most, max(least, rows // STRIPS))
    count = -(-rows // strip)
    slot = new_slot(count * columns * d.itemsize)
    moved = item.moved(((0, (0, 1, 0)), (0, (strip, 0, 1))), (count, columns, strip), 2)
    first = replace(moved, store=Access(slot, 0, (columns, 1, 0), d), finish=None, ragged=rows)
    first.scan_loads()
    leaf = ir.make("load", d, (), Access(slot, 0, (1, columns), d))
    store = item.store._replace(strides=(item.store.strides[0], 0))
    second = Item("reduce", (columns, count), 1, leaf, store, item.combine, item.finish, None, None, item.step)
    second.scan_loads()
    return first, second


def row_major(sizes: Sequence[int]) -> tuple[int, ...]:
    """Strides of a contiguous array."""
    out: list[int] = []
    run = 1
    for n in reversed(sizes):
        out.insert(0, run)
        run *= n
    return tuple(out)
