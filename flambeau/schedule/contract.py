"""Products among the nests: which sums of products are worth the product engine, and how one is blocked.

A nest ``C[...] = Σ A[...] · B[...]`` is told by its axes: a kept axis moves through A (rows), through B (columns) or through both (the
batch); reduced axes move through both.  :func:`products` brings such a nest into the form that :mod:`..render.product` has code for:
operands of another type, or without a unit stride where one is needed, are copied first, results of another layout or type are
written by a map that follows (and that becomes part of the product's epilogue).  :func:`blocked` chooses units and blocks from
the sizes alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from ..core.dataclass import dataclass, replace
from ..core.dtype import bfloat16, dtype, float32
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import BufferInfo
from ..ir.product import K_BYTES, MATRIX_K_BYTES, Direct, Product, Window, Words
from ..ir.simplify import nodes
from .fuse import Group, Item, covers, elements, is_zero, row_major
from .plan import Later
from .tile import Launchable, followed

WORTH = 1 << 15             # multiply-adds from which packing pays
NARROW = 2                  # rows or columns up to which memory decides: the loops stream better
DOT = 8                     # rows up to which vectors run along k where both factors do
DOT_STEPS = 10              # or up to k by this, where the sums at the end of k weigh less than packing,
DOT_BYTES = 4096            # if k has no more than this, so that a tile's rows stay in the first-level cache,
DOT_NEAR = 4 << 20          # and the columns no more than this: what is packed is asked for ahead, so it comes sooner from afar
KEPT = 18                   # panels of A that are kept packed: an eighth of the second-level cache
MATRIX_KEPT_BYTES = 1 << 20 # of them for the matrix unit: half of it
MATRIX_PACKED_BYTES = 4 << 20   # of columns for it, in scratch memory
FINISHED_BYTES = 64 << 10   # of the result that are made before its epilogue is run over them
UNIT = 1 << 20              # multiply-adds of a parallel unit, at least
MOST_UNITS = 256
UNIT_ROWS = 32              # of a unit, or a multiple of it: tiles of both heights fill any number of these
STRIP = 16                  # tiles side by side in a unit, about: what packing A is shared by
LONG = 64                   # of k inside an outer axis, from which the blocks may follow it
NO_LIMIT = (1 << 30) - 1
IMAGE_BYTES = 256 << 10     # of an image's copy in scratch memory: an eighth of the second-level cache
MATRIX_ROWS, MATRIX_WORDS = 32, 16      # of a tile of the matrix unit, and words of k that it takes at a time
MATRIX_IMAGE_BYTES = 512 << 10          # of an image's copy for it
MANY = 8                    # units that an image is cut for
FEW = 100                   # columns below which packing A weighs more than packing B
MOST_TAPS = 8192
PACKING = 36                # packing a window costs as much as this many rows of the result
GATHERING = 128             # and copying an image whose neighbours lie further apart than two as this many for each time that an element is used
PANELS = 16                 # of rows below which units are ranges of columns: packing B would be shared by too few
PARTS = 16                  # of a long k, where rows and columns make up fewer than
SHARED = 8                  # units, if each part has at least
PART = 512                  # of k and
PART_WORK = 1 << 18         # multiply-adds


@dataclass()
class Roles:
    """The axes of a product: numbers into the nest's axes, outermost first.

    Rows are one run of A and of the result, columns one run of the result, inner axes one run of A; ``outer`` is a reduced axis that
    is not, or there is none.  ``window``: columns or inner axes are no run of B, or some of it lies outside.
    """

    batch: list[int]
    rows: list[int]
    columns: list[int]
    outer: list[int]
    inner: list[int]
    a: Expr
    b: Expr
    window: bool


def factors(item: Item) -> tuple[Expr, Expr] | None:
    """The two loads whose product the item sums, or None."""
    if item.kind != "reduce" or item.combine != "sum" or item.value.op != "mul" or item.value.dtype.itemsize < 4 or item.value.dtype is ir.bool_:
        return None
    found = []
    for x in item.value.args:
        load = x.args[0] if x.op == "cast" else x
        if load.op != "load" or (load.args and not is_zero(load.args[0])):
            return None
        if x.op == "cast" and not (x.dtype.is_floating_point and load.dtype.is_floating_point):
            return None
        found.append(load)
    return found[0], found[1]


def products(item: Item, temporary: Callable[[int], int], pairs: str = "", part: bool = False) -> list[Item]:
    """The item itself, or copies of operands, the product in the engine's form, and a map that stores its result.

    ``pairs``: how products of bfloat16 are formed, see :class:`~.product.Product`; "": as float32.  ``part``: of a longer k.
    """
    found = factors(item)
    if found is None or elements(item.sizes) < WORTH:
        return [item]
    roles = _roles(item, *found)
    if roles is None:
        return [item]
    sizes, d = item.sizes, item.value.dtype
    rows, columns = (elements([sizes[a] for a in axes]) for axes in (roles.rows, roles.columns))
    # few rows are copied, if need be, to have k side by side where the large factor has
    dot = _few(roles, sizes, d) and not roles.a.args and _dot_factor(roles.b, roles, sizes, d)
    if not part:
        parts = _parts(roles, sizes)
        if not dot and (columns <= NARROW or (rows <= NARROW and parts == 1)):
            return [item]
        if parts > 1:
            *sums, total = in_parts(item, (roles.outer or roles.inner)[0], parts, temporary)
            return [*[x for some in sums for x in products(some, temporary, pairs, True)], total]
    out: list[Item] = []

    def copied(x: Access, order: list[int], d: dtype = d) -> Access:
        copy, made = _copied(x, order, sizes, d, temporary, item.step)
        out.append(copy)
        return made
    a, b = roles.a, roles.b
    batch_of = {x: [axis for axis in roles.batch if x.attr.strides[axis]] for x in (a, b)}
    unit = a.attr.strides[roles.inner[-1]] == 1 or (roles.rows and a.attr.strides[roles.rows[-1]] == 1)
    if a.args:
        return [item]
    if pairs and a.dtype is b.dtype is bfloat16 and not b.args and not roles.window and elements([sizes[k] for k in roles.inner]) % 2 == 0:
        inner = [*roles.outer, *roles.inner]
        loads = []
        for x, own, units in ((a, roles.rows, ("k",)), (b, roles.columns, ("k", "column"))):
            if _pairs_unit(x.attr, own, roles.inner, sizes) not in units:
                x = ir.make("load", bfloat16, (), copied(x.attr, [*batch_of[x], *own, *inner], bfloat16))
            loads.append(x.cast(d))
        return [*out, *stored(replace(item, value=ir.make("mul", d, tuple(loads)), product=True, pairs=pairs), temporary)]
    if a.dtype is not d or not unit or not _run(a.attr, roles.inner, sizes) or (dot and not _dot_factor(a, roles, sizes, d)):
        a = ir.make("load", d, (), copied(a.attr, [*batch_of[a], *roles.rows, *roles.outer, *roles.inner]))
    if b.dtype is not d or (not roles.window and 1 not in (b.attr.strides[roles.columns[-1]], b.attr.strides[roles.inner[-1]])):
        if b.args:
            return [item]
        b = ir.make("load", d, (), copied(b.attr, [*batch_of[b], *roles.outer, *roles.inner, *roles.columns]))
    if roles.window and _window(b, roles, sizes) is None:
        return [item]
    product = replace(item, value=ir.make("mul", d, (a, b)), product=True)
    return [*out, *stored(product, temporary)]


def _copied(x: Access, order: list[int], sizes: Sequence[int], d: dtype, temporary: Callable[[int], int], step: int) -> tuple[Item, Access]:
    """A map that copies what an access reads, with some axes in that order, and the copy in its place."""
    made = tuple(sizes[a] for a in order)
    slot = temporary(elements(made) * d.itemsize)
    load = ir.make("load", x.dtype, (), Access(x.slot, x.offset, tuple(x.strides[a] for a in order), x.dtype))
    copy = Item("map", made, len(made), load if x.dtype is d else load.cast(d), Access(slot, 0, row_major(made), d), "", None, None, None, step)
    copy.scan_loads()
    steps = dict(zip(order, row_major(made), strict=True))
    return copy, Access(slot, 0, tuple(steps.get(a, 0) for a in range(len(sizes))), d)


class Converted:
    """The float32 slots that hold bfloat16 values: what was converted is multiplied in pairs where it lies, so that often nobody needs the slot."""

    def __init__(self, buffers: Sequence[BufferInfo]) -> None:
        self.buffers = buffers
        self.sources: dict[int, tuple[Access, Access]] = {}     # slot -> where it was written, and from what

    def written(self, slot: int) -> None:
        """What is known of a slot, and by it, is no longer true."""
        self.sources = {s: x for s, x in self.sources.items() if slot not in (s, x[1].slot)}

    def note(self, item: Item) -> None:
        """What an item does to what is known."""
        to, value = item.store, item.value
        self.written(to.slot)
        if item.kind == "map" and value.op == "cast" and value.dtype is to.dtype is float32 and value.args[0].op == "load" and not value.args[0].args:
            x = value.args[0].attr
            if x.dtype is bfloat16 and x.strides == to.strides and covers(item, self.buffers[to.slot].nbytes):
                self.sources[to.slot] = to, x

    def narrowed(self, item: Item) -> Item | None:
        """The sum of products of the bfloat16 values, if both factors are such."""
        found = factors(item)
        if found is None or not self.sources:
            return None
        new = {}
        for x in found:
            source = self.sources.get(x.attr.slot)
            if source is None or x.dtype is not float32:
                return None
            to, read = source
            place = x.attr._replace(slot=read.slot, offset=x.attr.offset - to.offset + read.offset, dtype=bfloat16)
            new[x] = ir.make("load", bfloat16, x.args, place).cast(float32)
        made = replace(item, value=ir.make("mul", float32, tuple(new[x] for x in found)))
        made.scan_loads()
        return made


def in_pairs(item: Item, temporary: Callable[[int], int]) -> list[Item] | None:
    """A sum of products of bfloat16 as the matrix unit forms it, or None where it does not, or hardly pays."""
    found = factors(item)
    roles = None if found is None or elements(item.sizes) < WORTH else _roles(item, *found)
    if roles is None or roles.a.args:
        return None
    sizes = item.sizes
    rows, columns, k, batch = (elements([sizes[a] for a in axes]) for axes in (roles.rows, roles.columns, roles.inner, roles.batch))
    if not roles.window:
        return products(item, temporary, "matrix") if min(rows, columns) >= MATRIX_WORDS and k % 2 == 0 and k >= 2 * MATRIX_WORDS else None
    image = _image(roles, sizes)
    if image is None or image[0] is None or _direct(roles, sizes, rows, batch, float32, True) is None:
        return None
    if columns < FEW and rows * k * 2 > MATRIX_KEPT_BYTES:
        return None             # the filter would be fetched from afar for every small image
    a = roles.a.attr
    taps = [x for x in roles.inner if x != image[0]]
    order = [*(x for x in roles.batch if a.strides[x]), *roles.rows, *taps, image[0]]
    copy, place = _copied(a, order, sizes, bfloat16, temporary, item.step)
    value = ir.make("mul", float32, (ir.make("load", bfloat16, (), place).cast(float32), roles.b.cast(float32)))
    return [copy, *stored(replace(item, value=value, product=True, pairs="matrix"), temporary)]


def _parts(roles: Roles, sizes: Sequence[int]) -> int:
    """In how many parts k is summed, so that threads have something to share where there are few rows and columns."""
    batch, rows, columns, k = (elements([sizes[a] for a in axes]) for axes in (roles.batch, roles.rows, roles.columns, [*roles.outer, *roles.inner]))
    units = batch * max(1, columns // 64, rows // UNIT_ROWS if rows >= 224 else 1)
    axis = (roles.outer or roles.inner)[0]
    if units >= SHARED or any(x.op == "axis" and x.attr == axis for guard in roles.b.args for x in nodes(guard)):
        return 1
    size = sizes[axis]
    most = min(PARTS // units, k // PART, rows * columns * k // PART_WORK, size)
    return next((n for n in range(most, most // 2, -1) if size % n == 0), most)


def in_parts(item: Item, axis: int, parts: int, temporary: Callable[[int], int]) -> list[Item]:
    """A sum along an axis as so many sums of its parts, one of what is left over, and the sum of these in order."""
    sizes, kept, d = item.sizes, item.kept, item.value.dtype
    whole, rank = sizes[axis] // parts, len(sizes)
    rest = sizes[axis] - whole * parts
    count = elements(sizes[:kept])
    slot = temporary((parts + (rest > 0)) * count * d.itemsize)
    strides = row_major(sizes[:kept])

    def some(first: int, each: int, number: int) -> Item:
        """``number`` parts of ``each`` from ``first`` on."""
        terms = [(first if a == axis else 0, (whole if a == axis else 0, *(int(a == x) for x in range(rank)))) for a in range(rank)]
        part = item.moved(terms, (number, *sizes[:axis], each, *sizes[axis + 1:]), kept + 1)
        part = replace(part, store=Access(slot, first // whole * count, (count, *strides, *(0,) * (rank - kept)), d), finish=None)
        part.scan_loads()
        return part
    sums = [some(0, whole, parts)]
    if rest:
        sums.append(some(whole * parts, rest, 1))
    load = ir.make("load", d, (), Access(slot, 0, (*strides, count), d))
    total = Item("reduce", (*sizes[:kept], parts + (rest > 0)), kept, load, item.store._replace(strides=(*item.store.strides[:kept], 0)), "sum",
                 item.finish, None, None, item.step)
    total.scan_loads()
    return [*sums, total]


def stored(product: Item, temporary: Callable[[int], int], packed: Sequence[int] = ()) -> list[Item]:
    """The product itself, if it can store its result where and as that is wanted, or else a product to a temporary and a map.

    ``packed``: axes along which it can step only over what the following axes take.
    """
    d, sizes, kept, store, finish = product.value.dtype, product.sizes, product.kept, product.store, product.finish
    product.scan_loads()
    plain = finish is None or finish.op == "acc"
    product.finish = None
    in_place = store.strides[kept - 1] == 1 and all(store.strides[a] == store.strides[a + 1] * sizes[a + 1] for a in packed)
    if plain and store.dtype is d and in_place and all(store.slot != x.slot for x, _ in product.loads):
        product.scan_loads()
        return [product]
    made = sizes[:kept]
    place = Access(temporary(elements(made) * d.itemsize), 0, row_major(made), d)
    product.store = place._replace(strides=place.strides + (0,) * (len(sizes) - kept))
    product.scan_loads()
    result = ir.make("load", d, (), place)
    value = result if finish is None else ir.rewrite(finish, lambda x: result if x.op == "acc" else None)
    last = Item("map", made, kept, value, store._replace(strides=store.strides[:kept]), "", None, None, None, product.step)
    last.scan_loads()
    return [product, last]


def _pairs_unit(x: Access, own: Sequence[int], inner: Sequence[int], sizes: Sequence[int]) -> str:
    """How a factor of bfloat16 has pairs along k: side by side ("k"), or in rows side by side ("column"), or not as they can be read ("")."""
    if not _run(x, own, sizes) or not _run(x, inner, sizes):
        return ""
    if x.strides[inner[-1]] == 1:
        return "k"
    return "column" if x.strides[own[-1]] == 1 else ""


def _roles(item: Item, x: Expr, y: Expr) -> Roles | None:
    """The axes by role, with the factor that moves along the last kept axis as B; None when this is no product."""
    kept, sizes = item.kept, item.sizes
    if kept == 0:
        return None
    last = kept - 1
    if bool(x.attr.strides[last]) == bool(y.attr.strides[last]):
        return None
    first, second = (x, y) if y.attr.strides[last] else (y, x)
    a, b, c = first.attr, second.attr, item.store
    inner = list(range(kept, len(sizes)))
    if not inner or any(not a.strides[k] or not b.strides[k] for k in inner):
        return None
    # reduced axes may be taken in any order: in the one in which a factor has them as one run, if there is one
    orders = [sorted(inner, key=lambda k: -abs(f.strides[k])) for f in (a, b)]
    inner = next((o for o, f in zip(orders, (a, b), strict=True) if _run(f, o, sizes)), orders[0])
    outer: list[int] = []
    if not _run(a, inner, sizes) and _run(a, inner[1:], sizes) and elements([sizes[k] for k in inner[1:]]) >= LONG:
        outer, inner = inner[:1], inner[1:]
    rows: list[int] = []
    columns: list[int] = []
    batch: list[int] = []
    # from the last axis outwards: columns as long as they are one run, then rows likewise; the rest is batch
    for axis in reversed(range(kept)):
        of_a, of_b = a.strides[axis], b.strides[axis]
        if of_b and not of_a and not rows and not batch and _joins(axis, columns, (c,), sizes):
            columns.insert(0, axis)
        elif of_a and not of_b and not batch and _joins(axis, rows, (a, c), sizes):
            rows.insert(0, axis)
        else:
            batch.insert(0, axis)
    if not rows:                # the rows may lie outside of batch axes
        of_rows = [axis for axis in batch if a.strides[axis] and not b.strides[axis]]
        if of_rows:
            rows = [max(of_rows, key=lambda axis: sizes[axis])]
            batch.remove(rows[0])
    window = bool(second.args) or not (_run(b, columns, sizes) and _run(b, inner, sizes))
    return Roles(batch, rows, columns, outer, inner, first, second, window)


def _dot(roles: Roles, sizes: Sequence[int], d: dtype) -> bool:
    """Whether the elements are inner products of few long rows."""
    return _few(roles, sizes, d) and all(_dot_factor(x, roles, sizes, d) for x in (roles.a, roles.b))


def _few(roles: Roles, sizes: Sequence[int], d: dtype) -> bool:
    """Whether there are so few rows that arranging the columns side by side would cost more than adding up vectors."""
    rows, columns, k = (elements([sizes[x] for x in axes]) for axes in (roles.rows, roles.columns, roles.inner))
    return rows <= DOT or (rows * DOT_STEPS <= k and k * d.itemsize <= DOT_BYTES and columns * k * d.itemsize <= DOT_NEAR)


def _dot_factor(x: Expr, roles: Roles, sizes: Sequence[int], d: dtype) -> bool:
    """Whether a factor has its long rows side by side."""
    return not roles.outer and not roles.window and d.itemsize >= 4 and x.dtype is d and not x.args \
        and x.attr.strides[roles.inner[-1]] == 1 and _run(x.attr, roles.inner, sizes) and elements([sizes[k] for k in roles.inner]) >= LONG


def _joins(axis: int, axes: Sequence[int], accesses: Sequence[Access], sizes: Sequence[int]) -> bool:
    """Whether an axis and those right inside it are one run of every access."""
    return not axes or (axes[0] == axis + 1 and all(x.strides[axis] == x.strides[axes[0]] * sizes[axes[0]] for x in accesses))


def _run(x: Access, axes: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether an access goes evenly through some axes."""
    return all(x.strides[i] == x.strides[j] * sizes[j] for i, j in zip(axes, axes[1:], strict=False))


# ---------------------------------------------------------------- windows

def _window(b: Expr, roles: Roles, sizes: Sequence[int]) -> tuple[Window, list[int]] | None:
    """How B's windows are described, and the words for it; None when the guard is not understood or offsets are too large."""
    axes = [*roles.inner, *roles.columns]
    x = b.attr
    if sum(abs(x.strides[k]) * sizes[k] for k in roles.columns) * x.dtype.itemsize >= 1 << 31 or x.fill not in (None, 0):
        return None
    words = [w for k in axes for w in (sizes[k], x.strides[k] * x.dtype.itemsize)]
    positions = positions_of(b.args[1], len(sizes)) if b.args else {}
    if positions is None:
        return None
    for steps, (origin, limit) in positions.items():
        if any(steps[k] for k in range(len(sizes)) if k not in axes):
            return None
        words += [limit, origin, *(steps[k] for k in axes)]
    return Window(len(roles.inner), len(roles.columns), len(positions)), words


Directions = list[tuple[int, int, int, int, int, int, int]]     # per column axis size, step, origin, limit, stride of a position, reach of k, its axis


def _image(found: Roles, sizes: Sequence[int]) -> tuple[int | None, Directions, int] | None:
    """B's windows as an image: the axis of its channels, its directions, where position 0 lies; None where the windows are no plain ones."""
    x = found.b.attr
    if not found.window or found.outer or len(found.columns) > 3:
        return None
    positions = positions_of(found.b.args[1], len(sizes)) if found.b.args else {}
    if positions is None:
        return None
    free = [k for k in found.inner if not any(steps[k] for steps in positions)]
    unbounded = [c for c in found.columns if not any(steps[c] for steps in positions)]
    if unbounded and len(free) - len(unbounded) in (0, 1):      # every place is inside: which axes go together, their order tells
        pairs = dict(zip(unbounded, sorted(free, key=lambda k: -abs(x.strides[k]))[len(free) - len(unbounded):], strict=True))
        free = [k for k in free if k not in pairs.values()]
    else:
        pairs = {}
    if len(free) > 1:
        return None
    axes: Directions = []
    start = 0
    for c in found.columns:
        here = [(steps, *place) for steps, place in positions.items() if steps[c]]
        if len(here) == 1:
            steps, origin, limit = here[0]
            others = [k for k in range(len(sizes)) if steps[k] and k != c]
            if len(others) > 1 or (others and others[0] not in found.inner):
                return None
            k = others[0] if others else -1
            step, move = steps[c], steps[k] if others else 0
            if step <= 0 or x.strides[c] % step:
                return None
            stride = x.strides[c] // step
        elif c in pairs and not here:
            k, origin = pairs[c], 0
            stride = math.gcd(x.strides[c], x.strides[k])
            step, move = x.strides[c] // stride, x.strides[k] // stride
            limit = (sizes[c] - 1) * step + (sizes[k] - 1) * move + 1
            if step <= 0 or move <= 0:
                return None
        else:
            return None
        if k >= 0 and x.strides[k] != move * stride:
            return None
        start -= origin * stride
        reach = move * (sizes[k] - 1) if k >= 0 else 0
        axes.append((sizes[c], step, origin + min(0, reach), limit, stride, abs(reach), k))
    if axes[-1][4] != 1 or len(positions) > len(axes) or any(not any(steps[c] for c in found.columns) for steps in positions):
        return None
    return free[0] if free else None, axes, start


def _direct(found: Roles, sizes: Sequence[int], m: int, batch: int, d: dtype, matrix: bool = False) -> tuple[Direct, list[int], int, int] | None:
    """B's windows read in place from a copy of the image: what it is, its words, units per batch entry, and where position 0 lies.

    None where the windows are no plain ones, or where packing them costs less than the columns between the copy's rows.  For the ``matrix``
    unit channels are words of two, and only taps count, for each of which it takes 16 words at a time.
    """
    image = _image(found, sizes)
    if image is None:
        return None
    free, axes, start = image
    x = found.b.attr
    channels = 1 if free is None else sizes[free]
    if matrix and (channels % (2 * MATRIX_WORDS) or m % MATRIX_ROWS or any(step > 2 for _, step, *_ in axes)):
        return None
    planes, most = (channels // 2, MATRIX_IMAGE_BYTES) if matrix else (channels, IMAGE_BYTES)
    copy = copied_image([(size, step, origin, limit, reach) for size, step, origin, limit, _, reach, _ in axes], planes, batch, d, most)
    if copy is None:
        return None
    inner = [k for k in found.inner if not (matrix and k == free)]
    counts = [sizes[k] for k in inner]
    copying = GATHERING * copy.phases / (m * elements(counts) / channels) if axes[-1][1] > 2 else 0
    if elements(counts) > MOST_TAPS or (copy.waste > 0.5 if matrix else copy.waste + copying > PACKING / m):
        return None
    taps = []
    for index in itertools.product(*[range(n) for n in counts]):
        at = dict(zip(inner, index, strict=True))
        places = []
        for _, _, _, _, stride, reach, k in axes:
            move = 0 if k < 0 else x.strides[k] // stride
            places.append(0 if k < 0 else at[k] * move + (reach if move < 0 else 0))
        taps.append(copy.offset(at.get(free, 0), places) if free is not None else copy.offset(0, places))
    size = x.dtype.itemsize
    words = copy.words(planes, 0 if free is None else x.strides[free] * size, [a[4] * size for a in axes], [1] * len(axes),
                       [a[0] for a in axes])
    words += [1, *[0] * (len(axes) - 1), 0, elements(counts), 8 * (len(words) + len(axes) + 3), *taps]
    return Direct(len(axes)), words, copy.parts, start * size


@dataclass()
class Copy:
    """How an image is copied to scratch memory: per axis number of places, step, first position, limit, reach of the taps; then what follows from that."""

    axes: list[tuple[int, int, int, int, int]]
    itemsize: int
    lead: int               # places of the first axis in a unit, and units
    parts: int
    extents: list[int]      # of the copy along each axis, and the distance from one extent to the next
    spans: list[int]
    phases: int             # remainders of the positions
    phase: int              # bytes of one of them, and of a channel
    plane: int

    @property
    def pitch(self) -> list[int]:
        """Elements of the copy from one place to the next along each axis."""
        return [elements(self.spans[i + 1:]) for i in range(len(self.spans))]

    @property
    def columns(self) -> int:
        """Columns that are computed, those that belong to nobody included."""
        return sum(((self.lead if i == 0 else a[0]) - 1) * s for i, (a, s) in enumerate(zip(self.axes, self.pitch, strict=True))) + 1

    @property
    def waste(self) -> float:
        return self.columns / (self.lead * elements([a[0] for a in self.axes[1:]])) - 1

    def offset(self, channel: int, places: Sequence[int]) -> int:
        """Bytes from the first column to what some positions after the first one are seen as."""
        number = offset = 0
        for (_, step, *_), place, pitch in zip(self.axes, places, self.pitch, strict=True):
            number = number * step + place % step
            offset += place // step * pitch * self.itemsize
        return channel * self.plane + number * self.phase + offset

    def words(self, channels: int, channel_stride: int, strides: Sequence[int], apart: Sequence[int], sizes: Sequence[int]) -> list[int]:
        """The words of a direct window up to its phases; ``apart``, ``sizes``: how far columns lie apart in the result, whose sizes these are.

        Strides are in bytes.
        """
        words = [channels, channel_stride]
        for (size, step, origin, limit, _), stride, extent, span, far, whole in zip(self.axes, strides, self.extents, self.spans, apart, sizes, strict=True):
            words += [size, step, origin, limit, stride, extent, span, far, whole]
        return [*words, self.plane, self.phase, self.lead]


def copied_image(axes: list[tuple[int, int, int, int, int]], channels: int, batch: int, d: dtype, most: int = IMAGE_BYTES) -> Copy | None:
    """The copy of an image, in as many parts as fit into scratch memory; None when there are hardly any columns."""
    # what neighbouring rows of the copy have in common: zeros before the first position and after the last, but no column of both
    common = [0 if step > 1 else max(0, min(-origin, origin + size + reach - limit, reach)) for size, step, origin, limit, reach in axes]
    phases = math.prod(a[1] for a in axes)

    def cut(parts: int) -> Copy:
        lead = -(-axes[0][0] // parts)
        extents = [(lead if i == 0 else a[0]) + a[4] // a[1] for i, a in enumerate(axes)]
        spans = [e - z for e, z in zip(extents, common, strict=True)]
        phase = (extents[0] * elements(spans[1:]) + sum(common[i] * elements(spans[i + 1:]) for i in range(1, len(axes)))) * d.itemsize
        plane = phases * phase + 63 & -64
        return Copy(axes, d.itemsize, lead, -(-axes[0][0] // lead), extents, spans, phases, phase, plane + 192 if plane % 2048 == 0 else plane)
    least = -(-2 * FEW // elements([a[0] for a in axes[1:]]))      # of the first positions in a unit
    parts = min(-(-MANY // batch), max(1, axes[0][0] // least))
    while channels * (made := cut(parts)).plane > most:
        parts += 1
        if parts > axes[0][0]:
            return None
    return made if made.columns >= FEW else None


def positions_of(guard: Expr, rank: int) -> dict[tuple[int, ...], tuple[int, int]] | None:
    """A guard as positions, by their steps along the axes: (value at the origin, limit) where ``0 <= position < limit`` is asked for."""
    found: dict[tuple[int, ...], list[int]] = {}        # steps -> origin, limit
    waiting = [guard]
    while waiting:
        e = waiting.pop()
        if e.op == "and":
            waiting += e.args
            continue
        if e.op not in ("le", "lt"):
            return None
        low, high = e.args
        if e.op == "le" and is_zero(low):
            line, limit = affine(high, rank), NO_LIMIT
        elif e.op == "lt" and high.op == "const":
            line, limit = affine(low, rank), high.attr
        else:
            return None
        if line is None:
            return None
        origin, steps = line
        known = found.setdefault(steps, [origin, NO_LIMIT])
        if known[0] != origin:
            return None
        known[1] = min(known[1], limit)
    return {steps: (origin, limit) for steps, (origin, limit) in found.items()}


def affine(e: Expr, rank: int) -> tuple[int, tuple[int, ...]] | None:
    """An index as a constant and a step along every axis, or None."""
    if e.op == "const":
        return e.attr, (0,) * rank
    if e.op == "axis":
        return 0, tuple(int(k == e.attr) for k in range(rank))
    if e.op == "neg":
        inner = affine(e.args[0], rank)
        return None if inner is None else (-inner[0], tuple(-s for s in inner[1]))
    if e.op not in ("add", "sub", "mul"):
        return None
    x, y = (affine(a, rank) for a in e.args)
    if x is None or y is None:
        return None
    if e.op == "mul":
        if any(x[1]):
            x, y = y, x
        return None if any(x[1]) else (x[0] * y[0], tuple(x[0] * s for s in y[1]))
    sign = 1 if e.op == "add" else -1
    return x[0] + sign * y[0], tuple(s + sign * t for s, t in zip(x[1], y[1], strict=True))


# ---------------------------------------------------------------- blocking

@dataclass()
class Blocked:
    """How a product is cut; all of it follows from the shape and the type."""

    k_block: int
    n_block: int
    m_block: int
    m_unit: int
    n_unit: int
    m_units: int
    n_units: int
    units: int


def blocked(m: int, n: int, k: int, outer: int, batch: int, d: dtype, tile_rows: int, tile_columns: int, window: bool, matrix: bool = False) -> Blocked:
    """Units and blocks of a product.  Windows are packed slowly: then no two units share columns, and their panels are all kept."""
    k_blocks = -(-k // ((MATRIX_K_BYTES if matrix else K_BYTES) // d.itemsize))
    k_block = -(-k // k_blocks)
    if k_blocks > 1:
        k_block = -(-k_block // 16) * 16
    wanted = max(1, min(8 if window else MOST_UNITS, batch * m * n * k * outer // UNIT))
    wanted = -(-wanted // batch)
    if window or m < PANELS * tile_rows:
        m_units, n_units = 1, min(wanted, n // (2 * tile_columns))
    else:
        n_units = min(wanted, round(n / (STRIP * tile_columns)))
        m_units = -(-wanted // max(1, n_units))
    if matrix:                  # a unit keeps its columns packed
        n_units = max(n_units, -(-n * k_block * d.itemsize // MATRIX_PACKED_BYTES))
    m_unit = _even(m, m_units, UNIT_ROWS)
    n_unit = _even(n, max(1, n_units), tile_columns)
    kept = MATRIX_KEPT_BYTES // (k_block * d.itemsize) if matrix else (4 if window else 1) * KEPT * tile_rows
    m_block = _even(m, -(-m // kept), tile_rows)
    n_block = max(1, FINISHED_BYTES // (m_block * d.itemsize * tile_columns)) * tile_columns
    m_units, n_units = -(-m // m_unit), -(-n // n_unit)
    return Blocked(k_block, n_block, m_block, m_unit, n_unit, m_units, n_units, batch * m_units * n_units)


def _even(size: int, parts: int, step: int) -> int:
    """The size of a part, a multiple of ``step``."""
    return -(-size // (parts * step)) * step


def register_tile(d: dtype, vector_bytes: int) -> tuple[int, int, int]:
    """Lanes, rows and vectors of the register tile: as many accumulators as leave room for a row of B and a broadcast."""
    return vector_bytes // d.itemsize, 6 if vector_bytes == 32 else 14 if vector_bytes == 64 else 12, 2


# rows and columns of inner products that are formed together; AVX2 has registers for half of them, and spills a few
DOT_TILES = ((1, 8), (2, 8), (4, 6), (8, 3))


def dot_tile(rows: int) -> tuple[int, int]:
    """The smallest tile that holds the rows, or the one that computes the fewest in vain."""
    whole = [t for t in DOT_TILES if rows <= t[0]]
    return whole[0] if whole else min(DOT_TILES[-2:], key=lambda t: -(-rows // t[0]) * t[0])


# ---------------------------------------------------------------- launches

def lower_product(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int],
                  vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is a product: one, or a second one for what cannot be its epilogue."""
    item = g.items[0]
    sizes, d = item.sizes, item.value.dtype
    loads = factors(item)
    assert loads is not None
    found = _roles(item, *loads)
    assert found is not None
    a, b, c = found.a.attr, found.b.attr, item.store
    pairs = item.pairs              # bfloat16, two of k at a time as one word
    lanes, tile_rows, vectors = register_tile(d, vector_bytes)
    m, n, k, outer, batch = (elements([sizes[x] for x in axes]) for axes in (found.rows, found.columns, found.inner, found.outer, found.batch))
    if pairs:
        k //= 2
    if pairs == "matrix":
        tile_rows = MATRIX_ROWS
    dot = _dot(found, sizes, d)
    if dot:
        tile_rows, vectors = dot_tile(m)
    cut = blocked(m, n, k, outer, batch, d, m if dot else tile_rows, vectors if dot else vectors * lanes, found.window, pairs == "matrix")

    def step(x: Access, axes: Sequence[int]) -> int:
        return x.strides[axes[-1]] * x.dtype.itemsize * (2 if pairs and axes is found.inner else 1) if axes else 0
    where = [w for x in (a, b, c) for w in address(x, locate)]
    words = [*where, m, n, k, step(a, found.rows), step(a, found.inner), step(b, found.inner), step(b, found.columns), step(c, found.rows),
             cut.k_block, cut.n_block, cut.m_unit, cut.n_unit, cut.m_units, cut.n_units, outer, step(a, found.outer), step(b, found.outer), 0, cut.m_block]
    assert len(words) == Words.BATCH
    for axis in found.batch:
        words += [sizes[axis], *(x.strides[axis] * x.dtype.itemsize for x in (a, b, c))]
    window: Window | Direct | None = None
    units = cut.units
    direct = _direct(found, sizes, m, batch, d, bool(pairs)) if not pairs or found.window else None
    own: list[int] = []
    if direct is not None:
        window, own, parts, origin = direct
        words[Words.B_OFFSET] += origin
        units = batch * parts
    elif found.window and not pairs:
        described = _window(found.b, found, sizes)
        assert described is not None
        window, more = described
        words += more
    a_unit = "k" if a.strides[found.inner[-1]] == 1 else "row"
    if pairs:
        b_unit = "column" if found.window else _pairs_unit(b, found.columns, found.inner, sizes)
    else:
        b_unit = "k" if dot else "column" if b.strides[found.columns[-1]] == 1 else "" if found.window else "k"
    product = Product(d, a_unit, b_unit, len(found.batch), lanes, tile_rows, vectors, dot, pairs, c.dtype is not d, window)
    ranges = {x: i for i, x in enumerate(found.batch)} | dict.fromkeys(found.rows, len(found.batch)) | dict.fromkeys(found.columns, len(found.batch) + 1)
    product, written, rest = followed(product, words, g, [ranges[x] for x in range(item.kept)], wanted, locate, vector_bytes)
    words[Words.DIRECT] = len(words)
    if dot:
        how = f"inner products, {units} units of {cut.n_unit} columns"
    elif direct is not None:
        how = f"the image copied once a unit and read in place, {units} units"
    else:
        how = (f"{'windows packed' if found.window else 'packed'} in blocks of {min(m, cut.m_block)} rows by {cut.k_block} of k, "
               f"{units} units of {min(m, cut.m_unit)} rows by {min(n, cut.n_unit)} columns")
    if pairs:
        k, how = 2 * k, f"pairs of bfloat16, {how}"
    text = f"{f'{batch} times ' if batch > 1 else ''}{m} x {n}, k {k * outer}: {how}"
    return [Launchable(product, (*words, *own), units, written, text), *rest]


def rounded(g: Group) -> Group | None:
    """The group of a product that the matrix unit stores rounded, if a map that rounds it is all that follows; nobody else may want it."""
    if len(g.items) != 2 or g.items[0].pairs != "matrix":
        return None
    product, last = g.items
    c, s, n, value = product.store, last.store, product.kept, last.value
    loads = factors(product)
    found = _roles(product, *loads) if loads is not None else None
    if found is None or not found.columns:
        return None
    if not found.window and (found.outer or elements([product.sizes[k] for k in found.inner]) * 2 > MATRIX_K_BYTES):
        return None             # not all of k at once
    alone = value.op == "cast" and value.args[0].op == "load" and not value.args[0].args and value.args[0].attr == c._replace(strides=c.strides[:n])
    if not alone or last.sizes != product.sizes[:n] or s.dtype is not bfloat16 or any(s.slot == x.slot for x, _ in product.loads) \
            or not (_run(s, found.rows, last.sizes) and _run(s, found.columns, last.sizes) and s.strides[found.columns[-1]] == 1):
        return None
    whole = replace(product, store=s._replace(strides=(*s.strides[:n], *c.strides[n:])))
    return replace(g, items=[whole])


def overwritten(g: Group, wanted: Callable[[int], bool]) -> int | None:
    """A slot that the epilogue gives new contents, element by element in the place of the product's, so that both can share memory."""
    product, *maps = g.items
    c, n = product.store, product.kept
    read = {x.slot for item in g.items for x, _ in item.loads}
    for item in maps:
        s = item.store
        if (s.offset, s.strides[:n], s.dtype) == (c.offset, c.strides[:n], c.dtype) and s.slot not in read and wanted(s.slot):
            return s.slot
    return None


def address(x: Access, locate: Callable[[int], int]) -> tuple[Any, int]:
    return Later("slot", locate(x.slot)), x.offset * x.dtype.itemsize
