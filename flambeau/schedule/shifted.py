"""Sums over all places for every tap of a window, among the nests: the gradient of a convolution with respect to its weight.

A nest ``C[o, c, taps] = Σ_places G[o, places] · X[c, places + taps]`` is a product of its rows with an image for every tap.  Told by accesses and guard, it is
brought into the order that :mod:`..render.shifted` has code for: batch, rows, taps and channels are kept, images and places summed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ..core.dataclass import replace
from ..core.dtype import bfloat16, dtype, float32, float64
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.product import Product, Words
from ..ir.product import Shifted as Window
from ..ir.simplify import permutation
from . import contract
from .contract import address, factors, positions_of, register_tile, stored
from .fuse import Group, Item, Shifts, elements, row_major
from .stencil import moves_of
from .tile import Launchable, followed
from .winograd import kernels

FULL = 0.6                  # of a block of channels, at least
ROWS = 8                    # at least
WASTE = 16                  # rows whose products packing windows costs: joined channels may leave as much of their vectors empty
CHUNK = 512                 # places that are summed over at a time: a panel of A fills the first-level cache by two thirds
COPY_BYTES = 640 << 10      # of images: a third of the second-level cache
PLACES = 128                # of an image, with what lies between its rows, from which it is multiplied in pairs
PART_BYTES = 1 << 20        # of images and gradients in pairs that are multiplied for all taps
UNITS = 4                   # at least, if that leaves each
UNIT_TAPS = 3               # so many taps


def shifted_sums(item: Item, temporary: Callable[[int], int], vector_bytes: int) -> list[Item] | None:
    """What replaces a nest: the product, or Winograd's algorithm for it, and a map that stores its result.

    None when it is not of this kind, or has too few rows or channels.
    """
    found = factors(item)
    if found is None or elements(item.sizes) < contract.WORTH:
        return None
    for image, rows in (found, found[::-1]):
        understood = _understood(item, image, rows, vector_bytes)
        if understood is not None:
            order, form = understood
            made = item.moved(permutation(order, len(order)), tuple(item.sizes[a] for a in order), item.kept)
            taken = kernels(made, form, vector_bytes) or form
            loads = factors(made)
            assert loads is not None
            x, g = loads if image is found[0] else loads[::-1]
            product = replace(made, value=ir.make("mul", made.value.dtype, (g, x)), product=True, form=taken)
            return stored(product, temporary, range(form.batch + 1, item.kept - 1))
    return None


def shifted_pairs(item: Item, narrow: Item, temporary: Callable[[int], int], vector_bytes: int) -> list[Item] | None:
    """The same of bfloat16 for the matrix unit: a product for every tap over all places in a row, of copies with zeros between the rows.

    ``narrow``: the nest with its bfloat16 factors.  Sums over some images at a time, which stay in the second-level cache, are added up afterwards.
    """
    found, sources = factors(item), factors(narrow)
    if found is None or sources is None or elements(item.sizes) < contract.WORTH:
        return None
    for which in (0, 1):
        understood = _understood(item, found[which], found[1 - which], vector_bytes)
        if understood is None:
            continue
        order, form = understood
        sizes, kept = [item.sizes[a] for a in order], item.kept
        batch, taps = list(range(form.batch)), list(range(form.batch + 1, kept - 1))
        o, c = sizes[form.batch], sizes[kept - 1]
        places = sizes[kept + form.images:]
        if form.joined or o % contract.MATRIX_ROWS or c % contract.MATRIX_WORDS or any(p[0] != 1 for p in form.places) or any(m <= 0 for _, m in form.taps):
            return None
        reach = [sum(m * (sizes[t] - 1) for t, (a, m) in zip(taps, form.taps, strict=True) if a == i) for i in range(len(places))]
        spans = [n + r for n, r in zip(places, reach, strict=True)]     # of the image with its border along each axis
        spans[-1] += spans[-1] % 2
        pitch = [elements(spans[i + 1:]) for i in range(len(spans))]
        count = places[0] * pitch[0]
        if count < PLACES:
            return None         # results would come and go more often than places are multiplied
        outer, rank = len(batch) + form.images, len(places)
        xs, gs = ([s.attr.strides[a] for a in order] for s in (sources[which], sources[1 - which]))

        def padded(x: Expr, strides: Sequence[int], own: int, sizes: list[int], inside: list[tuple[int, int]], outer: int = outer, rank: int = rank,
                   batch: list[int] = batch, form: Shifts = form, kept: int = kept, whole: list[int] = sizes) -> tuple[Item, tuple[int, ...]]:
            """A map that copies one factor: batch, images, rows or channels, places; what is not ``inside`` is 0."""
            axes = [*batch, *([kept] if form.images else []), own]
            made = (*(whole[a] for a in axes), *sizes)
            guard: Expr | None = None
            steps = []
            for i, ((first, limit), stride) in enumerate(zip(inside, strides[-rank:], strict=True)):
                place = ir.axis(outer + 1 + i) + first
                for test in (ir.compare("le", ir.const(0, ir.int64), place), ir.compare("lt", place, ir.const(limit, ir.int64))):
                    guard = test if guard is None else guard & test
                steps.append(stride)
            assert guard is not None
            access = Access(x.attr.slot, x.attr.offset, (*(strides[a] for a in axes), *steps), x.dtype, 0)
            load = ir.make("load", x.dtype, (ir.const(0, ir.int64), guard), access)
            slot = temporary(elements(made) * x.dtype.itemsize)
            copy = Item("map", made, len(made), load, Access(slot, 0, row_major(made), x.dtype), "", None, None, None, item.step)
            copy.scan_loads()
            return copy, row_major(made)
        gradient, to_g = padded(sources[1 - which], gs, form.batch, [places[0], *spans[1:]], [(0, n) for n in places])
        # position of a place of the copy, 0 where no tap sees it; one more row of the first axis, as the last row of places goes on into it
        image, to_x = padded(sources[which], xs, kept - 1, [spans[0] + 1, *spans[1:]], [(p[1], p[2]) for p in form.places])
        new = (*(sizes[a] for a in batch), *(sizes[t] for t in taps), o, c, *([sizes[kept]] if form.images else []), count)
        none = (0,) * len(taps)
        a_strides = (*to_g[:len(batch)], *none, to_g[outer], 0, *to_g[len(batch):outer], 1)
        b_strides = (*to_x[:len(batch)], *(m * pitch[a] for a, m in form.taps), 0, to_x[outer], *to_x[len(batch):outer], 1)
        loads = [ir.make("load", bfloat16, (), Access(x.store.slot, 0, strides, bfloat16)).cast(float32)
                 for x, strides in ((gradient, a_strides), (image, b_strides))]
        cs = [item.store.strides[a] for a in order]
        store = item.store._replace(strides=(*(cs[a] for a in (*batch, *taps, form.batch, kept - 1)), *(0,) * (form.images + 1)))
        product = Item("reduce", new, kept, ir.make("mul", float32, tuple(loads)), store, "sum", item.finish, None, None, item.step)
        product.scan_loads()
        images = sizes[kept] if form.images else 1
        each = 2 * (o * count + c * to_x[outer])
        parts = -(-images // max(1, PART_BYTES // each))
        if parts == 1:
            return [gradient, image, *contract.products(product, temporary, "matrix", True)]
        *sums, total = contract.in_parts(product, kept, parts, temporary)
        return [gradient, image, *[x for some in sums for x in contract.products(some, temporary, "matrix", True)], total]
    return None


def _understood(item: Item, image: Expr, rows: Expr, vector_bytes: int) -> tuple[list[int], Shifts] | None:
    """The nest's axes in order, and what they are; or None."""
    kept, sizes, xs, gs, d = item.kept, item.sizes, image.attr.strides, rows.attr.strides, item.value.dtype
    if d not in (float32, float64) or image.dtype is not d or rows.dtype is not d or rows.args or image.attr.fill not in (None, 0):
        return None
    positions = positions_of(image.args[1], len(sizes)) if image.args else {}
    if positions is None or any(not xs[a] or not gs[a] for a in range(kept, len(sizes))):
        return None
    batch = [a for a in range(kept) if xs[a] and gs[a]]
    outputs = [a for a in range(kept) if gs[a] and not xs[a]]
    window = [a for a in range(kept) if xs[a] and not gs[a]]
    reduced = sorted(range(kept, len(sizes)), key=lambda a: abs(gs[a]))
    if len(outputs) != 1 or sizes[outputs[0]] < ROWS or not reduced or gs[reduced[0]] != 1 or len(batch) + 1 + len(window) != kept:
        return None
    # places, from the innermost outwards: one run of the rows, as long as taps go with them
    places: list[int] = []
    taps: list[tuple[int, int, int]] = []               # axis, number of the place, how a position moves
    about: list[tuple[int, int, int, int]] = []         # step, origin, limit, stride of a position
    left = dict(positions)
    for a in reduced:
        if places and gs[a] != gs[places[-1]] * sizes[places[-1]]:
            break
        moves = moves_of(a, None if places else 1, xs, [t for t in window if all(t != known for known, _, _ in taps)], sizes, left)
        if moves is None:
            return None
        steps, (origin, limit) = moves
        if len(steps) == 1 and not any(p[a] for p in left):
            break
        step = steps.pop(a)
        left = {p: v for p, v in left.items() if not p[a]}
        taps += [(t, len(places), s) for t, s in steps.items()]
        about.append((step, origin, limit, xs[a] // step))
        places.append(a)
    images = [a for a in reduced if a not in places]
    channels = [a for a in window if all(a != t for t, _, _ in taps)]
    if left or not taps or len(images) > 1 or len(channels) != 1 or len(places) > 3:
        return None
    lanes, _, vectors = register_tile(d, vector_bytes)
    taps.sort()
    # few channels are joined with the taps that see neighbouring places
    count, (last, along, move) = sizes[channels[0]], taps[-1]
    columns = count * sizes[last]
    joined = not _fills(count, lanes) and (along, move) == (0, 1) and columns <= vectors * lanes \
        and sizes[outputs[0]] * (-(-columns // lanes) * lanes - columns) <= WASTE * columns
    if not _fills(columns if joined else count, lanes):
        return None
    n = len(places)
    form = Shifts(len(batch), bool(images), tuple(reversed(about)), tuple((n - 1 - which, s) for _, which, s in taps), joined)
    order = [*batch, *outputs, *(t for t, _, _ in taps), *channels, *images, *reversed(places)]
    made = tuple(sizes[a] for a in order)
    if elements([sizes[t] for t, _, _ in taps]) > elements([sizes[p] for p in places]):
        return None         # a convolution of images by a weight, seen the other way
    return (order, form) if _cut(form, made, kept, d, vector_bytes) is not None else None


def _fills(columns: int, lanes: int) -> bool:
    """Whether so many columns are most of the vectors that they take."""
    return columns >= FULL * (-(-columns // lanes) * lanes)


def _cut(form: Shifts, sizes: Sequence[int], kept: int, d: dtype, vector_bytes: int) -> tuple[int, int, int, list[int], list[int]] | None:
    """Images copied together, places of the first axis in a part, places summed over at a time, extents of the copy, its first positions.

    None where it is too large.
    """
    lanes, _, vectors = register_tile(d, vector_bytes)
    places = sizes[kept + form.images:]
    taps = sizes[form.batch + 1:kept - 1]
    first, reach = [], []
    for i, (_, origin, _, _) in enumerate(form.places):
        far = [s * (t - 1) for (which, s), t in zip(form.taps, taps, strict=True) if which == i]
        first.append(origin + sum(min(0, f) for f in far))
        reach.append(sum(abs(f) for f in far))
    images, count = sizes[kept] if form.images else 1, elements(places)
    many = max(1, min(images, CHUNK // count))

    def extents(lead: int) -> list[int]:
        return [((lead if i == 0 else n) - 1) * p[0] + r + 1 for i, (n, p, r) in enumerate(zip(places, form.places, reach, strict=True))]

    def large(lead: int) -> bool:
        copied = many * elements(extents(lead)) * _place(form, sizes[kept - 1], lanes * vectors) * d.itemsize
        return copied > COPY_BYTES or many * lead * elements(places[1:]) > contract.MOST_TAPS
    while many > 1 and large(places[0]):
        many -= 1
    lead = places[0]
    parts = 1
    while large(lead):
        if lead == 1:
            return None
        parts += 1
        lead = -(-places[0] // parts)
    each = lead * elements(places[1:])
    chunks = 1 if many > 1 else -(-each // CHUNK)
    chunk = each if chunks == 1 else -(-each // (chunks * 16)) * 16
    return many, lead, chunk, extents(lead), first


def _place(form: Shifts, channels: int, width: int) -> int:
    """Elements of a place of the copy."""
    return channels if form.joined else width


def lower_shifted(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int], vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is such a product: one, or a second one for the maps that follow."""
    item, form = g.items[0], g.items[0].form
    assert isinstance(form, Shifts)
    kept, sizes, d, c = item.kept, item.sizes, item.value.dtype, item.store
    a, b = item.value.args[0].attr, item.value.args[1].attr
    size = d.itemsize
    lanes, tile_rows, vectors = register_tile(d, vector_bytes)
    found = _cut(form, sizes, kept, d, vector_bytes)
    assert found is not None
    many, lead, chunk, extents, first = found
    row, channel, places = form.batch, kept - 1, range(kept + form.images, len(sizes))
    taps = sizes[row + 1:channel - form.joined]
    columns = elements(sizes[channel - form.joined:kept])
    count = elements(taps)
    batch = elements(sizes[:row])
    blocks = -(-columns // (vectors * lanes))
    groups = max(1, min(count // UNIT_TAPS, -(-UNITS // (blocks * batch))))
    unit_taps = -(-count // groups)
    groups = -(-count // unit_taps)
    words = [w for x in (a, b, c) for w in address(x, locate)]
    words[Words.B_OFFSET] -= sum(p[1] * p[3] for p in form.places) * size
    words += [sizes[row], columns, elements([sizes[p] for p in places]), a.strides[row] * size, size, 0, 0, c.strides[row] * size]
    words += [0] * (Words.BATCH - len(words))
    for axis in range(row):
        words += [sizes[axis], *(x.strides[axis] * size for x in (a, b, c))]
    words[Words.DIRECT] = len(words)
    inner = elements([sizes[p] for p in places[1:]])
    image = (sizes[kept], a.strides[kept] * size, b.strides[kept] * size) if form.images else (1, 0, 0)
    pitch = _place(form, sizes[channel], vectors * lanes) * size
    words += [*image, many, b.strides[channel] * size, columns * size, count, unit_taps, lead, inner, chunk, sizes[channel], pitch]
    for p, (step, _, limit, stride), start, extent in zip(places, form.places, first, extents, strict=True):
        words += [sizes[p], step, start, limit, stride * size, extent]
    apart = [elements(extents[i + 1:]) * pitch for i in range(len(extents))]
    for index in itertools.product(*[range(t) for t in taps]):
        at = [p[1] - start for p, start in zip(form.places, first, strict=True)]
        for i, (which, s) in zip(index, form.taps, strict=False):
            at[which] += i * s
        words.append(sum(x * s for x, s in zip(at, apart, strict=True)))
    steps = [p[0] * s for p, s in zip(form.places, apart, strict=True)]
    for index in itertools.product(range(many), range(lead), *[range(sizes[p]) for p in places[1:]]):
        words.append(index[0] * extents[0] * apart[0] + sum(x * s for x, s in zip(index[1:], steps, strict=True)))
    product = Product(d, "k", "column", row, lanes, tile_rows, vectors, window=Window(len(places)))
    product, written, rest = followed(product, words, g, [], wanted, locate, vector_bytes, False)
    text = (f"{f'{batch} times ' if batch > 1 else ''}{sizes[row]} x {columns} for {count} taps, k {elements(sizes[kept:])}: "
            f"images copied and shifted, {chunk} places at a time, {batch * blocks * groups} units")
    return [Launchable(product, tuple(words), batch * blocks * groups, written, text), *rest]
