"""Products whose columns take turns: the gradient of a convolution with a stride, a transposed convolution.

The places of one remainder by the stride see the same taps (:mod:`.residues`), so every remainder is a product of its own, with windows of the same image.
:func:`in_phases` makes one nest of them all, for a kernel that copies the image once and stores what lies side by side in the result together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from ..core.dataclass import dataclass, replace
from ..ir import expression as ir
from ..ir.expression import Access
from ..ir.product import Direct, Product
from . import contract
from .contract import NARROW, NO_LIMIT, Copy, address, copied_image, factors, positions_of, register_tile, stored
from .fuse import Group, Item, Phase, Phases, elements, row_major
from .residues import Residues, canonical
from .tile import Launchable, followed

MOST_TURNS = 4              # along the last axis


@dataclass()
class _Phase:
    """What a :class:`Phase` is made of; without a weight, no tap reaches its columns."""

    places: tuple[int, ...]
    origins: tuple[int, ...] = ()
    sizes: tuple[int, ...] = ()
    channels: Sequence[int] = ()            # axes
    taps: Sequence[int] = ()
    moves: Sequence[tuple[int, ...]] = ()   # of each of the taps' axes
    weight: Access | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        return (elements([self.sizes[a] for a in self.channels]), *(self.sizes[a] for a in self.taps)) if self.weight else (0,)

    @property
    def depth(self) -> int:
        return elements(self.counts)


def in_phases(found: Residues, temporary: Callable[[int], int]) -> list[Item] | None:
    """What replaces a nest: copies of the weight and the product, maybe a map that stores its result; None when the parts do better on their own."""
    item, periods = found.item, found.periods
    kept, sizes, d = item.kept, item.sizes, item.value.dtype
    if elements(sizes) // math.prod(periods[kept:]) < contract.WORTH or periods[kept - 1] > MOST_TURNS:
        return None
    parts = [None if taps is None else found.part((*places, *taps), known=False) for places, taps in found.chosen]
    loads = [None if part is None else factors(part) for part in parts]
    known = [x for x in loads if x is not None]
    if not known or len(known) != sum(part is not None for part in parts):
        return None
    # the factor that moves along the columns is the image
    which = 0 if known[0][0].attr.strides[kept - 1] else 1
    image, weight = known[0][which].attr, known[0][1 - which].attr
    if any(x.dtype is not d for pair in known for x in pair) or any(pair[1 - which].args for pair in known):
        return None
    columns = [a for a in range(kept) if image.strides[a] and not weight.strides[a]]
    while columns and columns != list(range(columns[0], kept)):     # images lie outside of rows
        columns.pop(0)
    row = columns[0] - 1 if columns else -1
    if row < 0 or not weight.strides[row] or image.strides[row] or not 1 <= len(columns) <= 3 or sizes[row] <= NARROW or image.strides[kept - 1] != 1 \
            or any(p > 1 for a, p in enumerate(periods[:kept]) if a not in columns):
        return None
    store = item.store
    if any(store.strides[a] != store.strides[b] * sizes[b] for a, b in itertools.pairwise(columns)):
        return None
    described: list[_Phase] = []
    base: int | None = None
    limits = [NO_LIMIT] * len(columns)
    channel: int | None = None
    for (places, _), part, pair in zip(found.chosen, parts, loads, strict=True):
        if part is None or pair is None:
            described.append(_Phase(tuple(places[c] for c in columns)))
            continue
        x, w = pair[which], pair[1 - which].attr
        positions = positions_of(x.args[1], len(sizes)) if x.args else {}
        if positions is None or x.attr.fill not in (None, 0) or x.attr.strides != image.strides:
            return None
        origins = [0] * len(columns)
        moves: dict[int, list[int]] = {}
        for steps, (origin, limit) in positions.items():
            here = [i for i, c in enumerate(columns) if steps[c]]
            if len(here) != 1 or steps[columns[here[0]]] != 1 or any(steps[a] for a in range(kept) if a != columns[here[0]]):
                return None
            i = here[0]
            origins[i], limits[i] = origin, min(limits[i], limit)
            for a in range(kept, len(sizes)):
                if steps[a]:
                    moves.setdefault(a, [0] * len(columns))[i] = steps[a]
        strides = [x.attr.strides[c] for c in columns]
        if any(x.attr.strides[a] != sum(m * s for m, s in zip(move, strides, strict=True)) for a, move in moves.items()):
            return None
        channels = [a for a in range(kept, len(sizes)) if a not in moves and part.sizes[a] > 1]
        if len(channels) > 1 or (channels and channel not in (None, x.attr.strides[channels[0]])):
            return None
        channel = x.attr.strides[channels[0]] if channels else channel
        first = x.attr.offset - sum(o * s for o, s in zip(origins, strides, strict=True))
        if base not in (None, first):
            return None
        base = first
        taps = sorted(moves)
        described.append(_Phase(tuple(places[c] for c in columns), tuple(origins), part.sizes, channels, taps, [tuple(moves[a]) for a in taps], w))
    assert base is not None
    # the weight of every phase as [k][row], behind one another for every entry of the batch that the weight moves along
    batch = [a for a in range(row) if weight.strides[a]]
    entry = sum(p.depth for p in described) * sizes[row]
    outer = tuple(sizes[a] for a in batch)
    slot = temporary(elements(outer) * entry * d.itemsize)
    entries = [s * entry for s in row_major(outer)]
    copies, made, at = [], [], 0
    for p in described:
        if p.weight is not None:
            axes = [*batch, *p.channels, *p.taps, row]
            shape = tuple(p.sizes[a] for a in axes)
            load = ir.make("load", d, (), Access(p.weight.slot, p.weight.offset, tuple(p.weight.strides[a] for a in axes), d))
            target = Access(slot, at, (*entries, *row_major(shape[len(batch):])), d)
            copies.append(canonical(Item("map", shape, len(shape), load, target, "", None, None, None, item.step)))
        made.append(Phase(p.places, p.origins or (0,) * len(columns), p.counts, tuple(p.moves), at))
        at += p.depth * sizes[row]
    of_weight = [0] * kept
    for a, s in zip(batch, entries, strict=True):
        of_weight[a] = s
    of_weight[row] = 1
    form = Phases(tuple(made), tuple(periods[c] for c in columns), tuple(limits), tuple(image.strides[c] for c in columns),
                  max(phase.taps[0] for phase in made), channel or 0,
                  Access(image.slot, base, image.strides[:kept], d), Access(slot, 0, tuple(of_weight), d), sizes[row])
    if _copy(form, sizes, row, kept) is None:
        return None
    # what is read where the nest does not say: anywhere
    somewhere = ir.axis(0)
    value = [ir.make("load", d, (somewhere,), Access(x.slot, x.offset, x.strides + (0,) * (len(sizes) - kept), d)) for x in (form.image, form.weight)]
    for c in copies:
        c.scan_loads()
    product = replace(item, value=ir.make("mul", d, tuple(value)), product=True, form=form)
    return [*copies, *stored(product, temporary)]


def _copy(form: Phases, sizes: tuple[int, ...], row: int, kept: int) -> tuple[Copy, list[int]] | None:
    """The copy of the image that all phases read, and the first position along every column axis; None when it does not pay."""
    axes, least = [], []
    for i, c in enumerate(range(row + 1, kept)):
        ends = []
        for phase in form.phases:
            if phase.taps[0]:
                far = [m[i] * (n - 1) for m, n in zip(phase.moves, phase.taps[1:], strict=True)]
                ends += [phase.origins[i] + sum(min(0, f) for f in far), phase.origins[i] + sum(max(0, f) for f in far)]
        least.append(min(ends))
        axes.append((-(-sizes[c] // form.apart[i]), 1, min(ends), form.limits[i], max(ends) - min(ends)))
    copy = copied_image(axes, form.channels, elements(sizes[:row]), form.image.dtype)
    most = max(elements(phase.taps) for phase in form.phases)
    if copy is None or most > contract.MOST_TAPS or copy.waste > contract.PACKING / sizes[row]:
        return None
    return copy, least


def lower_phases(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int], vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is such a product: one, or a second one for what cannot be its epilogue."""
    item, form = g.items[0], g.items[0].form
    assert isinstance(form, Phases)
    kept, sizes, d, c = item.kept, item.sizes, item.value.dtype, item.store
    size = d.itemsize
    row = kept - len(form.apart) - 1
    found = _copy(form, sizes, row, kept)
    assert found is not None
    copy, least = found
    lanes, tile_rows, vectors = register_tile(d, vector_bytes)
    turns = form.apart[-1]
    m, images = sizes[row], elements(sizes[:row])
    n, k = elements(sizes[row + 1:kept]), max(elements(phase.taps) for phase in form.phases)
    words = [w for a in (form.weight, form.image, c) for w in address(a, locate)]
    words += [m, n, k, size, form.k_step * size, 0, 0, c.strides[row] * size]
    words += [0] * (contract.Words.BATCH - len(words))
    for a in range(row):
        words += [sizes[a], *(x.strides[a] * size for x in (form.weight, form.image, c))]
    own = copy.words(form.channels, form.channel * size, [s * size for s in form.strides], form.apart, sizes[row + 1:kept])
    groups = [form.phases[i:i + turns] for i in range(0, len(form.phases), turns)]
    own.append(len(groups))
    tables: list[int] = []
    start = len(own) + len(groups) * (len(form.apart) - 1 + 3 * turns)
    for group in groups:
        own += group[0].places[:-1]
        for phase in group:
            own += [phase.a_offset * size, elements(phase.taps), 8 * (start + len(tables))]
            for channel, *index in itertools.product(*[range(t) for t in phase.taps]):
                places = [o - first + sum(i * move[a] for i, move in zip(index, phase.moves, strict=True))
                          for a, (o, first) in enumerate(zip(phase.origins, least, strict=True))]
                tables.append(copy.offset(channel, places))
    product = Product(d, "row", "column", row, lanes, tile_rows, vectors, window=Direct(len(form.apart), turns))
    roles = [a if a < row else row if a == row else row + 1 for a in range(kept)]
    product, written, rest = followed(product, words, g, roles, wanted, locate, vector_bytes)
    words[contract.Words.DIRECT] = len(words)
    units = images * copy.parts
    text = f"{images} times {m} x {n}, k up to {k}, in {len(form.phases)} phases: the image copied once a unit and read in place, {units} units"
    return [Launchable(product, (*words, *own, *tables), units, written, text), *rest]
