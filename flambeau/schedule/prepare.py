"""Rewrites of single nests before grouping: values that are cheaper to compute again than to fetch.

Takes the canonical items of a program in order and returns what to schedule in their place.  A map with one reader becomes part
of it.  A load of a constant becomes the
constant; an element picked out of a computed array is computed where it is needed, so that the array need not exist; a scatter
of one element per row into a constant becomes a comparison with the column; a large cheap value read in another order than it
was made in is made again there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.dataclass import dataclass, replace
from ..core.dtype import int64
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import BufferInfo, Host, Nest
from ..ir.simplify import EVERYTHING, Region, cost, disjoint, has_checks, nodes, region, remake
from .fuse import Item, canonical, covers, elements, is_zero, key, needed

CHEAP = 8                   # operations that are worth repeating to save a trip through memory
INLINED = 48                # nodes of an expression that still is put into its reader
BIG = 1 << 16               # elements from which a trip through memory matters


@dataclass()
class _Known:
    """A map whose results are what its slot holds."""

    item: Item
    at: int                 # position in program order
    whole: bool             # it wrote every byte


class Preparer:
    """Keeps what is known of every slot while the items of a program pass by."""

    def __init__(self, buffers: list[BufferInfo], readers: dict[int, int]) -> None:
        self.buffers = buffers
        self.readers = readers              # slot -> how many accesses of items and routines read it
        self.known: dict[int, _Known] = {}
        self.written: dict[int, list[tuple[int, Region]]] = {}      # slot -> (position, region) of every write
        self.products: set[int] = set()     # slots that a product was made in
        self.clock = 0

    def temporary(self, nbytes: int) -> int:
        """A new slot."""
        self.buffers.append(BufferInfo(nbytes, False, False))
        return len(self.buffers) - 1

    def host_writes(self, slot: int) -> None:
        """A library routine wrote to a slot."""
        self.clock += 1
        self.known.pop(slot, None)
        self.written.setdefault(slot, []).append((self.clock, EVERYTHING))

    def __call__(self, item: Item) -> list[Item]:
        """The items to schedule for one item."""
        item.at = self.clock + 1
        if item.product:
            self.products.add(item.store.slot)
            self.note(item)
            return [item]
        item = self.fetch(item)
        if item.kind == "scatter":
            item = self.as_comparison(item) or item
        elif item.kind == "map":
            item = self.as_whole(item) or item
        out = [item]
        copy = self.transposed(item)
        if copy is not None:
            out = list(copy)
        for x in out:
            self.note(x)
        return out

    def note(self, item: Item) -> None:
        self.clock += 1
        item.at = self.clock
        slot = item.store.slot
        area = EVERYTHING if item.kind == "scatter" else region(item.store, item.sizes)
        self.written.setdefault(slot, []).append((self.clock, area))
        self.known.pop(slot, None)
        if item.kind == "map" and not any(x.slot == slot for x, _ in item.loads) and dense(item):
            self.known[slot] = _Known(item, self.clock, covers(item, self.buffers[slot].nbytes))

    # ------------------------------------------------------------ loads

    def fetch(self, item: Item) -> Item:
        """The item with loads replaced by what they would fetch, where that is cheaper."""
        for _ in range(8):
            replaced: dict[Expr, Expr] = {}
            for root in (item.value, item.finish, item.target, item.guard):
                if root is None:
                    continue
                for x in nodes(root):
                    if x.op == "load" and x not in replaced:
                        new = self.value_of(x, item)
                        if new is not None:
                            replaced[x] = new
            if not replaced:
                return item

            def go(e: Expr | None, replaced: dict[Expr, Expr] = replaced) -> Expr | None:
                return None if e is None else ir.rewrite(e, replaced.get)
            value = go(item.value)
            assert value is not None
            item = Item(item.kind, item.sizes, item.kept, value, item.store, item.combine, go(item.finish), go(item.target), go(item.guard), item.step,
                        [], item.row, item.at, item.ragged)
            item.scan_loads()
        return item

    def value_of(self, x: Expr, item: Item) -> Expr | None:
        """What a load of the item would fetch, as an expression over the item's axes, if that is better than fetching it."""
        known = self.known.get(x.attr.slot)
        if known is None:
            return None
        maker = known.item
        if len(x.args) > 1 or x.attr.dtype is not maker.store.dtype:
            return None
        if maker.value.op == "const":
            # an index that must be checked is computed even where every element is the same
            return maker.value if known.whole and not any(has_checks(a) for a in x.args) else None
        opaque = bool(x.args) and not is_zero(x.args[0])
        made = elements(maker.sizes)
        if not opaque and self.readers.get(x.attr.slot) == 1 and elements(item.sizes) == made and not self.outlives(x.attr.slot) \
                and len(nodes(maker.value)) <= INLINED and len(item.loads) + len(maker.loads) <= 24 and not any(o for _, o in maker.loads):
            return self.again(known, x, item)       # its only reader may as well compute it
        few = cost(maker.value) <= CHEAP and sum(touched(a, maker.sizes) for a, _ in maker.loads) * 8 <= made * maker.store.dtype.itemsize
        if not (few if not opaque else elements(item.sizes) * 4 <= made):
            return None
        return self.again(known, x, item)

    def outlives(self, slot: int) -> bool:
        """Whether the slot is read after the program."""
        return self.buffers[slot].live or self.buffers[slot].external

    def again(self, known: _Known, x: Expr, item: Item) -> Expr | None:
        """The maker's value at the element that ``x`` loads, or None when the place or its sources are not what they were."""
        maker = known.item
        if known.at >= item.at:
            return None
        for access, opaque in maker.loads:
            area = EVERYTHING if opaque else region(access, maker.sizes)
            if any(known.at < at < item.at and not disjoint(area, other) for at, other in self.written.get(access.slot, ())):
                return None
        own = item.store
        if not x.args and x.attr.offset == maker.store.offset and x.attr.strides == maker.store.strides and item.sizes == maker.sizes:
            new = maker.value       # element by element, as in most chains
        else:
            index = element_of(maker, x, len(item.sizes), item.sizes)
            if index is None:
                return None
            new = substitute(maker.value, index, len(item.sizes))
        for e in nodes(new):        # computed by the item itself, it must not see what the item writes elsewhere
            if e.op == "load" and e.attr.slot == own.slot and not (item.kind == "map" and not e.args and key(e.attr) == key(own)) \
                    and (item.kind == "scatter" or e.args or not disjoint(region(e.attr, item.sizes), region(own, item.sizes))):
                return None
        return new

    def cheaper(self, item: Item) -> Item | None:
        """The item reading the sources of large cheap temporaries instead of the temporaries, or None when there is none."""
        size = elements(item.sizes)
        if size < BIG or item.kind not in ("map", "reduce"):
            return None
        replaced: dict[Expr, Expr] = {}
        present = {x.slot for x, _ in item.loads}
        for x in nodes(item.value):
            if x.op != "load" or (x.args and not is_zero(x.args[0])) or len(x.args) > 1:
                continue
            known = self.known.get(x.attr.slot)
            if known is None or self.outlives(x.attr.slot) or x.attr.dtype is not known.item.store.dtype:
                continue
            maker = known.item
            made = elements(maker.sizes)
            if made < BIG or made * 2 <= size or cost(maker.value) > CHEAP or any(opaque for _, opaque in maker.loads):
                continue
            if any(a.slot in self.products for a, _ in maker.loads):
                continue                    # made in passing, when the product is, which then need not be kept
            more = sum(touched(a, maker.sizes) for a, _ in maker.loads if a.slot not in present)
            if more > 2 * made * maker.store.dtype.itemsize:
                continue
            new = self.again(known, x, item)
            if new is not None:
                replaced[x] = new
        if not replaced:
            return None
        item = replace(item, value=ir.rewrite(item.value, replaced.get))
        item.scan_loads()
        return self.cheaper(item) or item

    # ------------------------------------------------------------ scatter of one element per row

    def as_comparison(self, item: Item) -> Item | None:
        """A scatter into a constant that touches each row once, as a map over the whole array."""
        slot = item.store.slot
        known = self.known.get(slot)
        if known is None or not known.whole or known.item.value.op != "const" or item.combine not in ("", "sum") or item.target is None:
            return None
        d = item.store.dtype
        if d is not item.value.dtype or any(x.slot == slot for x, _ in item.loads):
            return None
        picked = pick(item.target)
        if picked is None or item.store.offset:
            return None
        index, size, step = picked
        digits = sorted([*zip(item.store.strides, item.sizes, range(len(item.sizes)), strict=True), (step, size, -1)], reverse=True)
        run = 1
        for stride, n, _ in reversed(digits):
            if stride != run and n != 1:
                return None
            run *= n
        if run * d.itemsize != self.buffers[slot].nbytes:
            return None
        sizes = tuple(n for _, n, _ in digits)
        strides = tuple(s for s, _, _ in digits)
        rank = len(sizes)
        place = {a: k for k, (_, _, a) in enumerate(digits)}
        axes: list[Index] = [(0, ((place[a], 1, None),)) for a in range(len(item.sizes))]
        hit = ir.compare("eq", ir.axis(place[-1]), substitute(index, axes, rank))
        if item.guard is not None:
            hit = ir.binary("and", hit, substitute(item.guard, axes, rank))
        fill = known.item.value
        value = substitute(item.value, axes, rank)
        if item.combine and fill.attr != 0:
            value = fill + value
        new = Item("map", sizes, rank, ir.where(hit, value, fill), Access(slot, 0, strides, d), "", None, None, None, item.step)
        new.scan_loads()
        return new

    # ------------------------------------------------------------ writes to a part

    def as_whole(self, item: Item) -> Item | None:
        """A write to a block of a constant array as a write to all of it, so that its readers can be fused with it."""
        slot = item.store.slot
        known = self.known.get(slot)
        if known is None or not known.whole or known.item.value.op != "const" or self.buffers[slot].external:
            return None
        maker = known.item
        size = elements(maker.sizes)
        if size == elements(item.sizes) or size > 8 * elements(item.sizes) or any(x.slot == slot for x, _ in item.loads):
            return None
        index = element_of(maker, ir.make("load", item.store.dtype, (), item.store), len(item.sizes), item.sizes)
        if index is None or item.store.dtype is not maker.store.dtype:
            return None
        rank = len(maker.sizes)
        place: list[Index | None] = [None] * len(item.sizes)
        inside: Expr | None = None
        for k, (c, terms) in enumerate(index):
            if len(terms) > 1 or (terms and terms[0][1] != 1):
                return None
            n = item.sizes[terms[0][0]] if terms else 1
            if terms:
                place[terms[0][0]] = (-c, ((k, 1, None),))
            if c > 0:
                low = ir.compare("le", ir.const(c, int64), ir.axis(k))
                inside = low if inside is None else inside & low
            if c + n < maker.sizes[k]:
                high = ir.compare("lt", ir.axis(k), ir.const(c + n, int64))
                inside = high if inside is None else inside & high
        if inside is None or None in place:
            return None
        value = substitute(item.value, place, rank, inside)  # type: ignore[arg-type]
        new = Item("map", maker.sizes, rank, ir.where(inside, value, maker.value), maker.store, "", None, None, None, item.step)
        new.scan_loads()
        return new

    # ------------------------------------------------------------ products

    def transposed(self, item: Item) -> tuple[Item, Item] | None:
        """A small product whose second factor has no unit stride along the result's columns, with a transposed copy of it."""
        if item.kind != "reduce" or item.combine != "sum" or item.value.op != "mul" or item.kept != 2 or len(item.sizes) != 3:
            return None
        rows, columns, inner = item.sizes
        if rows < 8 or columns < 2 or columns * inner > BIG or item.store.strides[1] != 1:
            return None
        for x, other in (item.value.args, item.value.args[::-1]):
            if x.op == "load" and not x.args and other.op == "load" and not other.args and other.attr.strides[1] == 0 \
                    and x.attr.strides[0] == 0 and x.attr.strides[1] not in (0, 1):
                d = x.dtype
                slot = self.temporary(columns * inner * d.itemsize)
                _, s, t = x.attr.strides
                load = ir.make("load", d, (), Access(x.attr.slot, x.attr.offset, (t, s), d))
                copy = Item("map", (inner, columns), 2, load, Access(slot, 0, (columns, 1), d), "", None, None, None, item.step)
                fast = ir.make("load", d, (), Access(slot, 0, (0, 1, columns), d))
                product = replace(item, value=ir.rewrite(item.value, lambda e, x=x, fast=fast: fast if e is x else None))  # type: ignore[misc]
                copy.scan_loads()
                product.scan_loads()
                return copy, product
        return None


def shortened(nests: Sequence[Nest], buffers: list[BufferInfo]) -> list[Nest]:
    """Nests that do the same in fewer steps; temporaries are added to ``buffers``.  No nest may have checks or belong to a product engine."""
    items = [item for k, nest in enumerate(nests) for item in canonical(nest, k, {})]
    readers = Counter(x.slot for item in items for x, _ in item.loads)
    preparer = Preparer(buffers, readers)
    entries: list[Item | tuple[int, Host]] = [x for item in items for x in preparer(item)]
    return [Nest(x.kind, x.sizes, x.kept, x.value, x.store, x.combine, x.finish, x.target, x.guard)
            for x in needed(entries, buffers) if isinstance(x, Item)]


# ---------------------------------------------------------------- copies

def without_copies(steps: Sequence[Nest | Host], buffers: Sequence[BufferInfo]) -> list[tuple[int, Nest | Host]]:
    """The steps with their numbers, sums of products, that only a copy in another order reads, made where the copy would
    put them.

    A weight's gradient is such a copy: what follows it, an optimizer's step, then meets it in the order of the weight.
    """
    def reads(step: Nest | Host) -> list[int]:
        if isinstance(step, Host):
            return [x.slot for x, _ in step.inputs]
        roots = [e for e in (step.value, step.finish, step.target, step.guard) if e is not None]
        return list({x.attr.slot for root in roots for x in nodes(root) if x.op == "load"})
    copies = {x.value.attr.slot: k for k, x in enumerate(steps) if isinstance(x, Nest) and x.kind == "map" and x.value.op == "load" and not x.value.args}
    copies = {s: k for s, k in copies.items() if not (buffers[s].external or buffers[s].live)}
    if not copies:
        return list(enumerate(steps))
    writers: dict[int, list[int]] = {}
    readers: dict[int, list[int]] = {}
    for k, step in enumerate(steps):
        for s in [step.store.slot] if isinstance(step, Nest) else [x.slot for x, _ in step.outputs]:
            writers.setdefault(s, []).append(k)
        for s in reads(step):
            readers.setdefault(s, []).append(k)
    out: list[Nest | Host | None] = list(steps)
    for s, k in copies.items():
        copy, made = steps[k], steps[writers.get(s, [k])[0]]
        assert isinstance(copy, Nest)
        to = copy.store.slot
        if len(writers.get(s, ())) != 1 or len(readers[s]) != 1 or buffers[to].external or min(*writers[to], *readers.get(to, (k,))) < k \
                or not isinstance(made, Nest) or made.kind != "reduce" or made.combine != "sum" or made.value.op != "mul":
            continue
        store = _passed_on(made, copy)
        if store is not None:
            out[writers[s][0]] = Nest(made.kind, made.sizes, made.kept, made.value, store, made.combine, made.finish, made.target, made.guard, made.origin)
            out[k] = None
    return [(k, x) for k, x in enumerate(out) if x is not None]


def _passed_on(made: Nest, copy: Nest) -> Access | None:
    """Where a nest stores what a copy reads, element by element, and puts elsewhere; None where their axes are not the same ones."""
    load, sizes = copy.value.attr, made.sizes[:made.kept]
    if load.offset != made.store.offset or load.dtype is not made.store.dtype or copy.store.dtype is not load.dtype:
        return None
    axes = {(t, n): u for t, n, u in zip(load.strides, copy.sizes, copy.store.strides, strict=True) if n != 1}
    own = [(t, n) for t, n in zip(made.store.strides, sizes, strict=False) if n != 1]
    if len(set(own)) != len(own) or len(own) != sum(n != 1 for n in copy.sizes) or axes.keys() != set(own):
        return None
    strides = [0 if n == 1 else axes[t, n] for t, n in zip(made.store.strides, sizes, strict=False)]
    return Access(copy.store.slot, copy.store.offset, (*strides, *[0] * (len(made.sizes) - made.kept)), copy.store.dtype)


# ---------------------------------------------------------------- helpers

Index = tuple[int, tuple[tuple[int, int, Expr | None], ...]]      # constant + Σ coefficient · (axis number, or expression)


def dense(item: Item) -> bool:
    """Whether the store writes one contiguous block."""
    run = 1
    for s, n in sorted(zip(item.store.strides, item.sizes, strict=True)):
        if s != run:
            return False
        run *= n
    return True


def touched(x: Access, sizes: tuple[int, ...]) -> int:
    """Bytes of the distinct elements of an access."""
    n: int = x.dtype.itemsize
    for s, size in zip(x.strides, sizes, strict=False):
        if s:
            n *= size
    return n


def pick(e: Expr) -> tuple[Expr, int, int] | None:
    """``e`` as a checked index times a constant: (index, its bound, the constant)."""
    step = 1
    while e.op == "mul" and e.dtype is int64 and e.args[1].op == "const":
        step *= e.args[1].attr
        e = e.args[0]
    if e.op == "checked" and step > 0:
        return e, e.args[1].attr, step
    return None


def element_of(maker: Item, x: Expr, rank: int, sizes: tuple[int, ...]) -> list[Index] | None:
    """The maker's axes at the element that the load ``x`` reads, or None when that is not plain."""
    order = sorted(range(len(maker.sizes)), key=lambda a: -maker.store.strides[a])
    left = x.attr.offset - maker.store.offset
    if left < 0:
        return None
    terms: dict[int, list[tuple[int, int, Expr | None]]] = {a: [] for a in order}
    reach: dict[int, int] = {}
    for a in order:
        reach[a], left = divmod(left, maker.store.strides[a])
    constant = dict(reach)
    if left:
        return None

    def put(stride: int, size: int, axis: int, e: Expr | None) -> bool:
        if stride <= 0:
            return False
        for a in order:
            s = maker.store.strides[a]
            if stride % s == 0:
                reach[a] += (size - 1) * (stride // s)
                terms[a].append((axis, stride // s, e))
                return reach[a] < maker.sizes[a]
        return False
    for k, (s, n) in enumerate(zip(x.attr.strides, sizes, strict=False)):
        if s and not put(s, n, k, None):
            return None
    if x.args and not is_zero(x.args[0]):
        picked = pick(x.args[0])
        if picked is None or not put(picked[2], picked[1], -1, picked[0]):
            return None
    if any(reach[a] >= maker.sizes[a] for a in order):
        return None
    return [(constant[a], tuple(terms[a])) for a in range(len(maker.sizes))]


def substitute(root: Expr, index: list[Index], rank: int, inside: Expr | None = None) -> Expr:
    """An expression over a maker's axes as one over ``rank`` other axes, given each maker axis in terms of those.

    With ``inside``, elements are read only where it holds.
    """
    memo: dict[Expr, Expr] = {}
    for x in nodes(root):
        args = tuple([memo[a] for a in x.args])
        if x.op == "axis":
            c, terms = index[x.attr]
            e: Expr = ir.const(c, int64)
            for axis, k, picked in terms:
                e = e + (ir.axis(axis) if picked is None else picked) * k
            memo[x] = e
        elif x.op == "load":
            access = x.attr
            offset, strides = access.offset, [0] * rank
            extra: Expr = args[0] if args else ir.const(0, int64)
            for s, (c, terms) in zip(access.strides, index, strict=False):
                offset += s * c
                for axis, k, picked in terms:
                    if s == 0:
                        continue
                    if picked is None:
                        strides[axis] += s * k
                    else:
                        extra = extra + picked * (s * k)
            fill = access.fill
            if inside is not None:
                args = (extra, inside & args[1] if len(args) == 2 else inside)
                fill = 0 if fill is None else fill
            elif len(args) == 2:
                args = (extra, args[1])
            else:
                args = () if is_zero(extra) else (extra,)
            memo[x] = ir.make("load", x.dtype, args, Access(access.slot, offset, tuple(strides), access.dtype, fill))
        elif x.args:
            memo[x] = x if all(a is b for a, b in zip(args, x.args, strict=True)) else remake(x, args)
        else:
            memo[x] = x
    return memo[root]
