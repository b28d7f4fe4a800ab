"""Sums over small windows among the nests: depthwise convolutions, their gradients, and whatever else has few taps and hardly any channels.

A nest ``C[...] = Σ X[...] · F[...]`` whose X moves by the taps of a window as it moves by the places of the result is told by its accesses
and its guard.  Taps may be what is summed over (a convolution, its gradient with respect to the input) or what is kept (the gradient with
respect to the weight); :mod:`..render.stencil` has code for both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from ..core.dataclass import replace
from ..core.dtype import float32, float64
from ..ir import expression as ir
from ..ir.expression import Expr
from ..ir.stencil import Stencil
from . import contract
from .contract import NO_LIMIT, address, factors, positions_of, stored
from .fuse import Group, Item, Taps, elements
from .tile import Launchable, followed

MOST_TAPS = 64              # of a sum over the taps,
MOST_SUMS = 25              # and of sums for the taps, each of which needs a register
JAM = 4                     # rows of places that are worked on together
STEP = 4                    # of the places, and
REACH = 16                  # of a tap, at most, from one position to the next, where no guard says which axes belong together
ROWS = 2                    # results per element of the image up to which a product does not pay
ROW_BYTES = 4 << 20         # of a row of zeros
UNITS = 8                   # that the work is cut for


def window_sum(item: Item, temporary: Callable[[int], int]) -> list[Item] | None:
    """What replaces a nest: the sum in the form of the kernel, maybe a map that stores its result; None when it is none over a small window."""
    found = factors(item)
    if found is None or elements(item.sizes) < contract.WORTH:
        return None
    for to_taps, (image, factor) in itertools.product((False, True), (found, found[::-1])):
        taps = understood(item, image, factor, to_taps)
        if taps is not None:
            made = replace(item, value=ir.make("mul", item.value.dtype, (image, factor)), product=True, form=taps)
            return stored(made, temporary)
    return None


def understood(item: Item, image: Expr, factor: Expr, to_taps: bool) -> Taps | None:
    """The nest's axes by what they are to the window, where the taps are what is kept or what is summed over, or None."""
    kept, sizes, xs, fs, d = item.kept, item.sizes, image.attr.strides, factor.attr.strides, item.value.dtype
    if d not in (float32, float64) or image.dtype is not d or factor.dtype is not d or factor.args or image.attr.fill not in (None, 0) or not kept:
        return None
    positions = positions_of(image.args[1], len(sizes)) if image.args else {}
    if positions is None:
        return None
    reduced = range(kept, len(sizes))
    places = sorted((a for a in (reduced if to_taps else range(kept)) if xs[a] and bool(fs[a]) is to_taps), key=lambda a: abs((fs if to_taps else xs)[a]))
    taps = [a for a in range(kept) if xs[a] and not fs[a]] if to_taps else list(reduced)
    if not places or not 0 < xs[places[0]] <= STEP or (to_taps and fs[places[0]] != 1) or elements([sizes[t] for t in taps]) > (
            MOST_SUMS if to_taps else MOST_TAPS):
        return None
    x, y = places[0], places[1] if len(places) > 1 else None
    if not to_taps:         # the result ends with a row of places, or with rows
        if x != kept - 1:
            return None
        y = y if y == kept - 2 else None
    across = moves_of(x, 1, xs, taps, sizes, positions)
    if across is None:
        return None
    across_axes, x_place = across
    down = None
    if y is not None:
        down = moves_of(y, None, xs, [t for t in taps if t not in across_axes], sizes, {p: v for p, v in positions.items() if not p[x]})
    if down is None:        # rows are an outer axis then
        y, down = None, ({}, (0, NO_LIMIT))
    down_axes, y_place = down
    if len(across_axes) < 2 and len(down_axes) < 2:        # no window
        return None
    outer = [a for a in range(len(sizes)) if a not in taps and a not in (x, y)]
    free = [(p, v) for p, v in positions.items() if not p[x] and (y is None or not p[y])]
    if any(p[t] for p, _ in free for t in taps if across_axes.get(t) or down_axes.get(t)):
        return None
    rows = elements([sizes[a] for a in outer if a < kept and fs[a] and not xs[a]])
    if rows > ROWS:
        return None
    moves_down = tuple(0 if a is None else down_axes.get(a, 0) for a in (y, *taps))
    found = Taps(to_taps, tuple(outer), y, x, tuple(taps), moves_down, tuple(across_axes.get(a, 0) for a in (x, *taps)),
                 y_place, x_place, tuple((*v, p) for p, v in free))
    return found if _zeros(found, sizes) * d.itemsize <= ROW_BYTES else None


def moves_of(axis: int, unit: int | None, strides: Sequence[int], taps: Sequence[int], sizes: Sequence[int],
           positions: dict[tuple[int, ...], tuple[int, int]]) -> tuple[dict[int, int], tuple[int, int]] | None:
    """How places along an axis, and which taps, move a position; that of the first place and tap, and how many there are."""
    here = [(p, v) for p, v in positions.items() if p[axis]]
    if len(here) > 1:
        return None
    if here:
        (steps, place), = here
        if steps[axis] <= 0 or strides[axis] % steps[axis] or strides[axis] // steps[axis] != (unit or strides[axis] // steps[axis]):
            return None
        unit = strides[axis] // steps[axis]
        if any(s and a != axis and (a not in taps or strides[a] != s * unit) for a, s in enumerate(steps)):
            return None
        return {a: s for a, s in enumerate(steps) if s}, place
    # nothing lies outside: a tap that moves a little, measured by the places' steps
    for t in sorted(taps, key=lambda t: abs(strides[t])):
        u = unit or math.gcd(strides[t], strides[axis])
        if strides[t] and strides[axis] > 0 and strides[axis] // u <= STEP and abs(strides[t]) // u <= REACH:
            return {axis: strides[axis] // u, t: strides[t] // u}, (max(0, -strides[t] // u * (sizes[t] - 1)), NO_LIMIT)
    return {axis: strides[axis] if unit else 1}, (0, NO_LIMIT)


def _zeros(found: Taps, sizes: Sequence[int]) -> int:
    """Elements of a row of zeros: as many as a row of places sees of the image, if any row may lie outside of it."""
    def ends(moves: Sequence[int], axis: int | None) -> tuple[int, int]:
        far = [s * (sizes[a] - 1) for s, a in zip(moves, (axis, *found.taps), strict=True) if a is not None]
        return sum(min(0, f) for f in far), sum(max(0, f) for f in far)
    origin, limit = found.y_place
    low, high = ends(found.down, found.y)
    if not found.free and origin + low >= 0 and origin + high < limit:
        return 0
    origin, limit = found.x_place
    return min(limit, origin + ends(found.across, found.x)[1] + 1)


def lower_stencil(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int], vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is such a sum: one, or a second one for what cannot be its epilogue."""
    item, found = g.items[0], g.items[0].form
    assert isinstance(found, Taps)
    kept, sizes, d = item.kept, item.sizes, item.value.dtype
    image, factor, c = item.value.args[0].attr, item.value.args[1].attr, item.store
    size = d.itemsize
    y, x, taps = found.y, found.x, found.taps
    outer = [a for a in found.outer if a < kept], [a for a in found.outer if a >= kept]
    height = 1 if y is None else sizes[y]
    entries = elements([sizes[a] for a in outer[0]])
    jam = min(JAM, 1 << (height - 1).bit_length())
    parts = 1 if found.to_taps else max(1, min(-(-max(UNITS, elements(sizes) // contract.UNIT) // entries), height // (4 * jam)))
    lead = -(-height // (parts * jam)) * jam
    parts = -(-height // lead)
    by_place, by_tap = (factor, c) if found.to_taps else (c, factor)

    words = [w for a in (image, factor, c) for w in address(a, locate)]
    words += [height, sizes[x], lead, 0 if y is None else image.strides[y] // found.down[0] * size, 0 if y is None else by_place.strides[y] * size]
    words += [*found.y_place, *found.x_place, _zeros(found, sizes)]
    for a in found.outer:
        words += [sizes[a], *(s.strides[a] * size if a < len(s.strides) else 0 for s in (image, factor, c))]
    for t in taps:
        words += [image.strides[t] * size, by_tap.strides[t] * size]
    for origin, limit, steps in found.free:
        words += [limit, origin, *(steps[a] for a in (*found.outer, *taps))]
    kernel = Stencil(d, vector_bytes // size, jam, len(outer[0]), len(outer[1]), tuple(sizes[t] for t in taps), found.down, found.across,
                     len(found.free), found.to_taps)
    assert len(words) == kernel.words
    # a kept axis that is neither outer nor a place has no role: sums for the taps have no epilogue
    roles = [outer[0].index(a) if a in outer[0] else len(outer[0]) for a in range(kept)]
    kernel, written, rest = followed(kernel, words, g, roles, wanted, locate, vector_bytes, not found.to_taps)
    window = " x ".join(str(sizes[t]) for t in taps)
    text = (f"{'sums for' if found.to_taps else 'sums over'} {window} taps, {entries} times {height} x {sizes[x]} places: "
            f"rows shared by the taps, {entries * parts} units of {lead} rows")
    return [Launchable(kernel, tuple(words), entries * parts, written, text), *rest]
