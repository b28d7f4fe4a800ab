"""Convolutions among the nests that Winograd's algorithm is for: which, how their filter is transformed, and how they are cut.

A nest ``C[n, g, o, y, x] = Σ X[n, g, c, y ± ky, x ± kx] · W[g, o, c, ky, kx]`` with three to six taps each way, maybe with a stride of 2, maybe with a third
dimension, or with taps along one axis alone, is told by its accesses alone, so a convolution and its gradient with respect to the input are one case.
:func:`convolution` replaces it by a nest that transforms W and one for the convolution, both for :mod:`..render.winograd`.

To first order the error is at most ``(C + R) · 2**-24 · G · C · max|X| · max|W|`` with C channels, those of all blocks of taps, R the roundings of
the transforms (10, or 30 for five taps, 16 along one axis), G the product of both algorithms' ``growth`` (64 for 3 x 3 taps, 25 with a stride of 2,
1132 for 5 x 5; 24 along one axis), and the maximum over the tile; added up tap by tap it is, for T taps, at
most ``T C · 2**-24 · T C · max|X| · max|W|``.  Of the gradient with respect to a weight (:func:`kernels`) the same holds with tiles in the place
of channels, and G = 36.  A NaN, an infinity, or the rounding of a large element reaches all results of its tiles, also those whose
windows do not include it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from ..core import config
from ..core.dataclass import dataclass, replace
from ..core.dtype import float32
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.simplify import permutation
from ..ir.winograd import (
    ALONE,
    SIZE,
    Algorithm,
    Filter,
    WeightGradient,
    WeightWords,
    Winograd,
    Words,
    dilated,
    full_panels,
    low,
    panel_pitch,
    panels,
    scratch_bytes,
    strided,
    toom_cook,
    turned,
    weight_scratch,
)
from .contract import NO_LIMIT, address, factors, positions_of, register_tile, stored
from .fuse import Group, Item, Kernels, Shifts, Taken, Tiles, elements, row_major
from .residues import Residues, canonical, part_of
from .tile import Launchable, followed, lower_group

CHANNELS = 16               # of input and of output, from which the transforms pay,
BOTH_CHANNELS = 48          # and of both together
TILES = 32                  # over all images, from which transforming the filter pays
VECTOR_BYTES = 32           # from which masked loads and stores are single instructions
UNIT_TILES = (64, 128)      # about as many in a unit: fewer where there are many channels, so that it stays in the second-level cache
UNIT_BYTES = 5 << 18        # of the transformed tiles of its input, between these
KERNEL_CHANNELS = 16        # of input and of output, from which it pays for the gradient of a weight,
C_BLOCK = 128               # channels of a unit of that,
KERNEL_UNITS = 4            # units, at least, if that leaves each two panels of outputs,
KERNEL_TILES = (32, 128)    # tiles that are summed over at a time,
KERNEL_BYTES = 1 << 20      # and bytes of those of the result's gradient
PIECE_STEP = 16             # tiles, the most lanes there are
BYTES = 7 << 20             # of scratch memory for a unit
K_BLOCK = 512               # channels of a panel of the filter, which fills two thirds of the first-level cache
O_BLOCK = 112               # outputs at a time
MOST_ALONE = 16             # taps of an axis alone,
TILES_ALONE = 8             # and tiles along it, from which vectors are full enough
MOST_DILATION = 4
MOST_TAPS = {(1, 1): 6, (2, 1): 5, (1, 2): 3}       # along an axis, by stride and dilation
SAVED = 1.4                 # multiplications by the taps for each that is left, from which the transforms pay


@dataclass()
class _Direction:
    """A spatial axis.

    The kept axis, the taps' and how many there are, how far they lie apart, whether they are read backwards; the input's elements from one position to
    the next, and from the nest's first element to the first that the first tile reads; counted from that one, first and end of the positions that exist.
    """

    algorithm: Algorithm
    axis: int | None
    tap: int | None
    taps: int
    dilation: int
    backwards: bool
    unit: int
    start: int
    first: int
    end: int

    @property
    def blocks(self) -> int:
        """Of the algorithm's taps."""
        return -(-self.taps // self.algorithm.taps)

    @property
    def saved(self) -> float:
        """Multiplications by the taps for each that is left."""
        return self.algorithm.saved * self.taps / (self.blocks * self.algorithm.taps)


@dataclass()
class _Depth:
    """A third dimension: the kept axis, if there is one, and the taps', if there are any; how many slices a tap moves; first and end of what exists."""

    axis: int | None
    tap: int | None
    move: int = 0
    first: int = 0
    end: int = NO_LIMIT


def convolution(item: Item, temporary: Callable[[int], int], vector_bytes: int) -> list[Item] | None:
    """What replaces a nest: what transforms the filter, the product, maybe a map that stores its result; None when it is not for this algorithm.

    With a dilation, every remainder of the places is a product of its own, or those along a row are one (:func:`~.ir.winograd.dilated`).
    """
    found = factors(item) if config.winograd and vector_bytes >= VECTOR_BYTES and len(item.sizes) - item.kept in (2, 3, 4) else None
    if found is None or item.value.dtype is not float32:
        return None
    for which in (0, 1):
        periods = _dilations(item, found[which], found[1 - which])
        parts = [canonical(part_of(item, first, periods)) for first in itertools.product(*[range(min(p, n)) for p, n in zip(periods, item.sizes, strict=True)])]
        nests = []
        for part in parts:
            loads = factors(part)
            nests.append(None if loads is None else _Convolution.of(part, loads[which], loads[1 - which]))
        understood = [nest for nest in nests if nest is not None and nest.pays(vector_bytes)]
        if len(understood) == len(nests):
            filters, out = understood[0].filters(temporary, vector_bytes)
            sources = [nest.source(temporary) for nest in understood]
            out += [copy for _, copies in sources for copy in copies]
            return out + [x for nest, (source, _) in zip(understood, sources, strict=True) for x in nest.product(source, filters, temporary)]
    return None


def transposed(found: Residues, temporary: Callable[[int], int], vector_bytes: int) -> list[Item] | None:
    """The same for a sum of which only every so many terms count: the gradient of a convolution with a stride, a transposed convolution."""
    item, periods = found.item, found.periods
    kept, rank = item.kept, len(item.sizes)
    if not config.winograd or vector_bytes < VECTOR_BYTES or len(found.conditions) != 2:
        return None
    places, taps = found.chosen[0]
    loads = None if taps is None else factors(found.part((*places, *taps), known=False))
    if loads is None or any(x.dtype is not float32 for x in loads):
        return None
    which = 0 if loads[0].attr.strides[kept - 1] else 1
    x, w = loads[which], item.value.args[1].args[1 - which]
    if w.op != "load" or w.args or len(x.args) != 2 or x.attr.fill != 0:
        return None
    positions = positions_of(x.args[1], rank)
    if positions is None:
        return None
    spatial = []
    for start, steps, by in found.conditions:
        moving = [a for a, s in enumerate(steps) if s]
        if len(moving) != 2 or steps[moving[0]] != 1 or not moving[0] < kept <= moving[1] or periods[moving[0]] != by:
            return None
        axis, tap = moving
        here = [p for p in positions if p[axis]]
        if len(here) != 1 or here[0][axis] != 1 or any(s for a, s in enumerate(here[0]) if a not in moving) or not w.attr.strides[tap]:
            return None
        origin, limit = positions.pop(here[0])
        reads = []          # of every tap, the remainder of the places in which it counts, and how far from the place it reads
        for k in range(item.sizes[tap]):
            at = start + steps[tap] * k
            reads.append((-at % by, (at + -at % by) // by))
        algorithm, unit = turned(tuple(reads)), x.attr.strides[axis]
        if algorithm is None or algorithm.turns != by or unit < 1:
            return None
        low = min(place for _, place in reads)
        spatial.append(_Direction(algorithm, axis, tap, len(reads), 1, False, unit, (low - origin) * unit, -low, limit - low))
    across, down = sorted(spatial, key=lambda d: d.unit)
    nest = _Convolution.along(item, x, w, (down, across), positions)
    if nest is None or not nest.pays(vector_bytes):
        return None
    filters, out = nest.filters(temporary, vector_bytes)
    source, copies = nest.source(temporary)
    return [*out, *copies, *nest.product(source, filters, temporary)]


def _dilations(item: Item, x: Expr, w: Expr) -> list[int]:
    """How many places along each axis, one after the other, share no element of the input."""
    kept, sizes, xs, ws = item.kept, item.sizes, x.attr.strides, w.attr.strides
    periods = [1] * len(sizes)
    spatial: list[int] = []
    for tap in sorted(range(kept, len(sizes)), key=lambda a: abs(xs[a])):
        near = [a for a in range(kept) if a not in spatial and xs[a] and not ws[a] and xs[tap] % xs[a] == 0 and abs(xs[tap] // xs[a]) <= MOST_DILATION]
        if near and 3 <= sizes[tap] <= MOST_TAPS[1, 1] and xs[tap] and len(spatial) < 2:
            axis = max(near, key=lambda a: abs(xs[a]))
            dilation = abs(xs[tap] // xs[axis])
            if spatial or sizes[tap] > MOST_TAPS.get((1, dilation), 0):     # along a row there is an algorithm for both remainders
                periods[axis] = dilation
            spatial.append(axis)
    return periods


@dataclass()
class _Convolution:
    """A nest that sums ``x · w``, understood; axes are numbers into the nest's."""

    item: Item
    x: Expr
    w: Expr
    image: list[int]            # one axis, or none
    group: list[int]
    output: int
    channel: int
    down: _Direction
    across: _Direction
    depth: _Depth

    @classmethod
    def of(cls, item: Item, x: Expr, w: Expr) -> _Convolution | None:
        """The nest's axes by what moves along them, or None."""
        if w.args or w.dtype is not float32 or x.dtype is not float32 or x.attr.fill not in (None, 0):
            return None
        inside = positions_of(x.args[1], len(item.sizes)) if x.args else {}
        spatial = None if inside is None else _directions(item, x, w, inside)
        return None if inside is None or spatial is None else cls.along(item, x, w, spatial, inside)

    @classmethod
    def along(cls, item: Item, x: Expr, w: Expr, spatial: tuple[_Direction, _Direction],
              inside: dict[tuple[int, ...], tuple[int, int]]) -> _Convolution | None:
        """The same where the spatial axes are known, and the positions that they do not account for."""
        kept, sizes, xs, ws = item.kept, item.sizes, x.attr.strides, w.attr.strides
        roles: dict[tuple[bool, bool], list[int]] = {}
        for axis in range(kept):
            if axis not in (spatial[0].axis, spatial[1].axis):
                roles.setdefault((bool(xs[axis]), bool(ws[axis])), []).append(axis)
        image, group, output = (roles.pop(moves, []) for moves in ((True, False), (True, True), (False, True)))
        others = [a for a in range(kept, len(sizes)) if a not in (spatial[0].tap, spatial[1].tap)]
        rest = [a for a in others if xs[a] and ws[a]]
        if roles or len(image) > 2 or len(group) > 1 or len(output) != 1 or rest != others:
            return None
        depth = _depth(image, rest, inside, kept, sizes)
        if depth is None or len(rest) != 1:
            return None
        return cls(item, x, w, image, group, output[0], rest[0], *spatial, depth)

    def size(self, *axes: int | None) -> int:
        return elements([self.item.sizes[a] for a in axes if a is not None])

    @property
    def blocks(self) -> int:
        return self.size(self.depth.tap) * self.down.blocks * self.across.blocks

    def pays(self, vector_bytes: int) -> bool:
        """Whether multiplications are saved, there are enough channels, and tiles, and a unit's scratch memory holds a row of these."""
        down, across = self.down.algorithm, self.across.algorithm
        tiles = -(-self.size(self.across.axis) // across.results)
        count = self.size(*self.image, self.depth.axis) * (-(-self.size(self.down.axis) // down.results))
        channels, outputs = self.size(self.channel), self.size(self.output)
        if self.down.axis is None and tiles < TILES_ALONE:
            return False
        if self.down.axis is None and self.depth.axis is None:
            each = piece_of_row(across.points, tiles, self.blocks * channels)
            tiles, count = each, count * -(-tiles // each)
        return self.down.saved * self.across.saved >= SAVED \
            and min(channels, outputs) >= CHANNELS and channels + outputs >= BOTH_CHANNELS and count * tiles >= TILES \
            and (self.across.unit == 1 or self.depth == _Depth(None, None)) \
            and cut(down.points * across.points, count, tiles, self.blocks * channels, outputs, vector_bytes) is not None

    def source(self, temporary: Callable[[int], int]) -> tuple[Access, list[Item]]:
        """The input from the first element of the first tile on, over the axes of :meth:`product`; a copy, if columns have no unit stride."""
        sizes, xs = self.item.sizes, self.x.attr.strides
        outer = [*self.image, *self.group, self.channel]
        slot, offset, copies = self.x.attr.slot, self.x.attr.offset + self.down.start + self.across.start, []
        strides = [*(xs[a] for a in outer), self.down.unit, self.across.unit]
        if strides[-1] != 1:        # the zeros around it are copied, too
            space = (*(sizes[a] for a in outer), *((-(-self.size(d.axis) // d.algorithm.results) - 1) * d.algorithm.step + d.algorithm.elements
                                                    + (d.blocks - 1) * d.algorithm.taps * d.dilation for d in (self.down, self.across)))
            offset, strides = 0, list(row_major(space))
            slot = temporary(elements(space) * SIZE)
            copies = [Item("map", space, len(space), self.element(outer, space), Access(slot, 0, tuple(strides), float32), "", None, None, None,
                           self.item.step)]
            copies[0].scan_loads()
            for d, size in ((self.down, space[-2]), (self.across, space[-1])):
                d.first, d.end = 0, size
        *steps, channel, row, column = strides
        slices = [] if self.depth.axis is None else [xs[self.depth.axis]]
        places = (d.algorithm.step // d.algorithm.results * s for d, s in ((self.down, row), (self.across, column)) if d.axis is not None)
        return Access(slot, offset, (*steps, 0, *slices, *places, channel, row, column), float32), copies

    def element(self, outer: Sequence[int], space: tuple[int, ...]) -> Expr:
        """An element of the input, by its place from the first that the first tile reads; what does not exist is 0."""
        x, rank = self.x.attr, len(space)
        guard = None
        for axis, d in ((rank - 2, self.down), (rank - 1, self.across)):
            for condition in (ir.const(d.first, ir.int64) <= ir.axis(axis), ir.axis(axis) < d.end):
                guard = condition if guard is None else guard & condition
        assert guard is not None
        place = Access(x.slot, x.offset + self.down.start + self.across.start, (*(x.strides[a] for a in outer), self.down.unit, self.across.unit), float32, 0)
        return ir.make("load", float32, (ir.const(0, ir.int64), guard), place)

    def filters(self, temporary: Callable[[int], int], vector_bytes: int) -> tuple[Access, list[Item]]:
        """The transformed filter over the axes of :meth:`product`, and what transforms it."""
        w, lanes, rows, _ = self.w.attr, *register_tile(float32, vector_bytes)
        down, across = self.down.algorithm, self.across.algorithm
        pitch = panel_pitch(rows, lanes)
        groups, outputs, depth = self.size(*self.group), self.size(self.output), self.blocks * self.size(self.channel)
        panel = depth * pitch
        full = full_panels(outputs, rows, lanes, outputs_at_once(outputs, rows))
        point = groups * panels(outputs, rows, full) * panel
        slot = temporary(down.points * across.points * point * SIZE)
        down_step, across_step = (0 if d.tap is None else w.strides[d.tap] for d in (self.down, self.across))
        tap_steps = [s * (-1 if d.backwards else 1) for s, d in ((down_step, self.down), (across_step, self.across))]
        offset = w.offset - sum(s * (d.taps - 1) for s, d in zip(tap_steps, (self.down, self.across), strict=True) if d.backwards)
        group = w.strides[self.group[0]] if self.group else 0
        slices, depth_step = (1, 0) if self.depth.tap is None else (self.size(self.depth.tap), w.strides[self.depth.tap])
        steps = group, w.strides[self.output], w.strides[self.channel], depth_step
        channels, taps = self.size(self.channel), (slices, self.down.taps, self.across.taps)
        form = Taken((*steps, tap_steps[0], tap_steps[1]), taps, groups, outputs, channels, point, down, across)
        sizes = (down.points * across.points, groups, outputs, channels, *taps)
        load = ir.make("load", float32, (), Access(w.slot, offset, (0, *form.steps), float32))
        # the outputs are no even run over the panels; these reach about as far, which is all that is asked of them
        store = Access(slot, 0, (point, point // groups, point // groups // outputs, self.blocks * pitch, 0, 0, 0), float32)
        out = Item("reduce", sizes, 4, load, store, "sum", None, None, None, self.item.step, product=True, form=form)
        out.scan_loads()
        outer = (*[0 for _ in self.image], *[point // groups for _ in self.group])
        kept = [] if self.depth.axis is None else [0]
        places = [0 for d in (self.down, self.across) if d.axis is not None]
        return Access(slot, 0, (*outer, point // groups // outputs, *kept, *places, pitch, across.points * point, point), float32), [out]

    def product(self, source: Access, filters: Access, temporary: Callable[[int], int]) -> list[Item]:
        """The nest for the kernel: images, groups, outputs, slices, rows, columns, summed over channels of all blocks and the points of a tile."""
        down, across = self.down.algorithm, self.across.algorithm
        slices = [] if self.depth.axis is None else [self.depth.axis]
        axes = [*self.image, *self.group, self.output, *slices, self.down.axis, self.across.axis, self.channel, self.down.tap, self.across.tap, self.depth.tap]
        order = [a for a in axes if a is not None]
        kept, xs = self.item.kept, self.x.attr.strides
        item = self.item.moved(permutation(order, len(order)), tuple(self.item.sizes[a] for a in order), kept)
        *_, row, column = source.strides
        blocks = []
        for z, y, x in itertools.product(range(self.size(self.depth.tap)), range(self.down.blocks), range(self.across.blocks)):
            y, x = (i * d.algorithm.taps * d.dilation for i, d in ((y, self.down), (x, self.across)))
            at = y * row + x * column + (0 if self.depth.tap is None else z * xs[self.depth.tap])
            blocks.append((at, y, x, z * self.depth.move))
        whole = (*item.sizes[:kept], len(blocks) * self.size(self.channel), down.points, across.points)
        store = item.store._replace(strides=(*item.store.strides[:kept], 0, 0, 0))
        # blocks read elsewhere than the nest says: anywhere
        somewhere = (ir.axis(0),) if len(blocks) > 1 else ()
        loads = ir.make("load", float32, somewhere, source), ir.make("load", float32, (), filters)
        rows = None if self.down.axis is None else (self.down.first, self.down.end)
        output = len(self.image) + len(self.group)
        tiles = Tiles(0 if self.image else None, len(self.image) if self.group else None, output + 1 if slices else None, rows,
                      (self.across.first, self.across.end), (self.depth.first, self.depth.end), tuple(blocks), down, across)
        product = replace(item, sizes=whole, store=store, value=ir.make("mul", float32, loads), product=True, form=tiles)
        return stored(product, temporary)


def _algorithm(taps: int, stride: int, dilation: int, alone: bool) -> Algorithm:
    """The one with the fewest points for all taps; ``alone``: there are none along another axis."""
    if alone:
        return toom_cook(3, 4)
    if stride > 1:
        return strided(taps, stride)
    best = min((toom_cook(3), toom_cook(5)), key=lambda a: -(-taps // a.taps) * a.points)
    return best if dilation == 1 else dilated(best, dilation)


def _directions(item: Item, x: Expr, w: Expr, inside: dict[tuple[int, ...], tuple[int, int]]) -> tuple[_Direction, _Direction] | None:
    """The two spatial axes, that with the smaller steps last; None when no taps and places move as those of a convolution of stride 1.

    Where there are taps along one axis alone, the other is none.  The positions that are understood are taken out of ``inside``.
    """
    xs, ws, rank = x.attr.strides, w.attr.strides, len(item.sizes)
    found: list[_Direction] = []
    alone = rank - item.kept == 2
    for tap in sorted(range(item.kept, rank), key=lambda a: abs(xs[a])):
        apart = [(stride * dilation, stride, a) for a in range(item.kept) for stride, dilation in MOST_TAPS
                 if xs[tap] and abs(xs[a]) * dilation == stride * abs(xs[tap]) and not ws[a] and all(a != d.axis for d in found)]
        if len(found) == 2 or not apart or not ws[tap]:
            continue
        far, stride, axis = min(apart)
        dilation, taps = far // stride, item.sizes[tap]
        if not 3 <= taps <= (MOST_ALONE if alone else MOST_TAPS[stride, dilation]) or (alone and (stride, dilation) != (1, 1)):
            continue
        backwards = (xs[axis] > 0) != (xs[tap] > 0)
        d = _Direction(_algorithm(taps, stride, dilation, alone), axis, tap, taps, dilation, backwards, abs(xs[tap]) // dilation,
                       (taps - 1) * xs[tap] if backwards else 0, 0, (item.sizes[axis] - 1) * stride + (taps - 1) * dilation + 1)
        moves = {axis: stride, tap: -dilation if backwards else dilation}
        for steps, (origin, limit) in list(inside.items()):
            far = steps[axis] // stride         # of one position to the next, where these are those of one remainder
            if far > 0 and steps == tuple(far * moves.get(a, 0) for a in range(rank)):
                origin -= (taps - 1) * dilation * far if backwards else 0       # the first tap read is then the last one
                d.first, d.end = max(d.first, -(origin // far)), min(d.end, -((origin - limit) // far))
                del inside[steps]
        d.end = max(d.first, d.end)
        found.append(d)
    if alone and len(found) == 1 and found[0].unit == 1:
        found.append(_Direction(ALONE, None, None, 1, 1, False, 0, 0, 0, 1))
    if len(found) != 2:
        return None
    across, down = found
    return down, across


def _depth(image: list[int], rest: list[int], inside: dict[tuple[int, ...], tuple[int, int]], kept: int, sizes: Sequence[int]) -> _Depth | None:
    """The third dimension, taken out of the axes of images and of what is left to sum over; None when a position is not understood."""
    if len(inside) > 1:
        return None
    axis = tap = None
    move, first, end = 0, 0, NO_LIMIT
    for steps, (origin, limit) in inside.items():
        moved = [a for a, s in enumerate(steps) if s]
        here = [a for a in moved if a < kept]
        if len(here) != 1 or here[0] not in image or steps[here[0]] != 1 or any(a not in rest for a in moved if a >= kept):
            return None
        axis, taps = here[0], [a for a in moved if a >= kept]
        if len(taps) != 1:
            return None
        tap = taps[0]
        move, first, end = steps[tap], -origin, limit - origin
    if tap is None and len(rest) == 2:          # every slice is inside
        tap = min(rest, key=lambda a: sizes[a])
    if axis is None and len(image) == 2:
        axis = image[1]
    if axis is not None:
        image.remove(axis)
    if tap is not None:
        rest.remove(tap)
    return _Depth(axis, tap, move, first, end)


def lower_filter(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int], vector_bytes: int) -> list[Launchable]:
    """The launch of a group that transforms a filter."""
    item = g.items[0]
    form = item.form
    assert isinstance(form, Taken)
    lanes, rows, _ = register_tile(float32, vector_bytes)
    slices, *taps = form.taps
    blocks = [-(-n // d.taps) for n, d in zip(taps, (form.down, form.across), strict=True)]
    full = full_panels(form.outputs, rows, lanes, outputs_at_once(form.outputs, rows))
    count = panels(form.outputs, rows, full)
    group, output, channel, depth, *tap_steps = (s * SIZE for s in form.steps)
    words = [w for a in (item.value.attr, item.store) for w in address(a, locate)]
    words += [form.outputs, form.channels, group, output, channel, depth, *tap_steps, slices, *blocks, *taps, full, count, form.point * SIZE]
    partial = any(n % d.taps for n, d in zip(taps, (form.down, form.across), strict=True))
    text = f"{form.groups * form.outputs} x {form.channels} filters of {' x '.join(map(str, form.taps))} taps, {form.groups * count} units"
    return [Launchable(Filter(lanes, rows, form.down, form.across, partial), tuple(words), form.groups * count, frozenset([item.store.slot]), text)]


def lower_winograd(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int],
                   vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is such a product: one, or a second one for what cannot be its epilogue."""
    item = g.items[0]
    tiles = item.form
    assert isinstance(tiles, Tiles)
    kept, sizes = item.kept, item.sizes
    x, u, c = item.value.args[0].attr, item.value.args[1].attr, item.store
    column, channel, x_row = kept - 1, kept, kept + 1
    row = None if tiles.rows is None else kept - 2
    pixels = column if row is None else row         # the first axis of these
    output = pixels - 1 if tiles.slices is None else pixels - 2

    def size(axis: int | None) -> int:
        return 1 if axis is None else sizes[axis]

    def step(a: Access, axis: int | None) -> int:
        return 0 if axis is None else a.strides[axis] * SIZE
    images, groups, outputs, channels = size(tiles.image) * size(tiles.slices), size(tiles.group), sizes[output], sizes[channel]
    lanes, rows, vectors = register_tile(float32, vector_bytes)
    down, across = tiles.down, tiles.across
    wide = -(-sizes[column] // across.results)
    depth, piece = (size(tiles.slices), step(x, tiles.slices), step(c, tiles.slices)), 0
    if row is None and tiles.slices is None:
        wide = piece_of_row(across.points, wide, channels)
        piece = wide * across.results
        depth = -(-sizes[column] // piece), wide * across.step * SIZE, piece * SIZE
        images *= depth[0]
    count = images * (-(-size(row) // down.results))
    found = cut(down.points * across.points, count, wide, channels, outputs, vector_bytes)
    assert found is not None
    unit, o_block = found
    units = -(-count // unit)
    words = [w for a in (x, u, c) for w in address(a, locate)]
    words += [images, groups, outputs, channels // len(tiles.blocks), size(row), sizes[column]]
    words += [step(x, a) for a in (tiles.image, tiles.group, channel, x_row)]
    words += [step(c, a) for a in (tiles.image, tiles.group, output, row)]
    words += [*(tiles.rows or (0, 1)), *tiles.columns, unit, units, K_BLOCK, o_block]
    full = full_panels(outputs, rows, lanes, o_block)
    words += [*depth, *tiles.depth, len(tiles.blocks), 0, full, panels(outputs, rows, full), piece]
    assert len(words) == Words.EPILOGUE
    roles = [3 if a >= pixels else 2 if a == output else 4 if a == tiles.slices else 1 if a == tiles.group else 0 for a in range(kept)]
    kernel, written, rest = followed(Winograd(lanes, rows, vectors, down, across), words, g, roles, wanted, locate, vector_bytes)
    words[Words.BLOCKS_AT] = len(words)
    words += [w for offset, *further in tiles.blocks for w in (offset * SIZE, *further)]
    names, form = (across.name, f"{sizes[column]}") if row is None else (f"{down.name} by {across.name}", f"{sizes[row]} x {sizes[column]}")
    text = (f"{images} {'pieces of ' if depth[0] > 1 and piece else ''}images, {groups * channels} to {groups * outputs} channels of {form}: {names}, "
            f"{units * groups} units of {unit} rows of tiles")
    return [Launchable(kernel, tuple(words), units * groups, written, text), *rest]


def outputs_at_once(outputs: int, rows: int) -> int:
    """In whole panels."""
    return min(-(-outputs // rows), max(1, O_BLOCK // rows)) * rows


def tiles_about(points: int, channels: int) -> int:
    """How many tiles a unit should have."""
    few, many = UNIT_TILES
    return max(few, min(many, UNIT_BYTES // (points * SIZE * channels)))


def piece_of_row(points: int, tiles: int, channels: int) -> int:
    """The tiles of a piece of a long row: as many as a unit should have, or fewer, in whole vectors."""
    pieces = -(-tiles // tiles_about(points, channels))
    return tiles if pieces == 1 else -(-tiles // (pieces * PIECE_STEP)) * PIECE_STEP


def cut(points: int, count: int, across: int, channels: int, outputs: int, vector_bytes: int) -> tuple[int, int] | None:
    """Rows of tiles in a unit, and outputs at a time: those that fill blocks of tiles best; None if no row fits into scratch memory."""
    lanes, rows, vectors = register_tile(float32, vector_bytes)
    width = vectors * lanes
    o_block = outputs_at_once(outputs, rows)
    about = tiles_about(points, channels)
    fitting = [r for r in range(1, max(1, about * 9 // 8 // across) + 1) if scratch_bytes(points, r * across, channels, o_block, lanes, width) <= BYTES]
    if not fitting:
        return None
    near = [r for r in fitting if 8 * r * across >= 7 * about] or fitting[-1:]
    return min(count, min(near, key=lambda r: (-(-r * across // lanes) / r, r))), o_block


# ---------------------------------------------------------------- the gradient with respect to the weight

def kernels(item: Item, shifts: Shifts, vector_bytes: int) -> Kernels | None:
    """Such sums by this algorithm, if it is for them and pays: tiles of the result's gradient take the part of taps, the taps that of results."""
    if not config.winograd or vector_bytes < VECTOR_BYTES or item.value.dtype is not float32 or shifts.joined or shifts.batch > 1:
        return None
    if shifts.taps != ((0, 1), (1, 1)) or any(step != 1 for step, *_ in shifts.places):
        return None
    *_, down, across, channels = item.sizes[:item.kept]
    if (down, across) != (3, 3) or min(channels, item.sizes[shifts.batch]) < KERNEL_CHANNELS:
        return None
    form = Kernels(shifts, toom_cook(2, down), toom_cook(2, across))
    return form if form.down.saved * form.across.saved >= SAVED and cut_kernels(item, form, vector_bytes) is not None else None


def cut_kernels(item: Item, form: Kernels, vector_bytes: int) -> tuple[int, int, int] | None:
    """Rows of tiles that are summed over at a time, outputs and channels of a unit; None if that does not fit into scratch memory."""
    lanes, rows, vectors = register_tile(float32, vector_bytes)
    width, sizes, batch = vectors * lanes, item.sizes, form.shifts.batch
    outputs, channels, groups = sizes[batch], sizes[item.kept - 1], elements(sizes[:batch])

    def computed(m: int) -> int:
        return m - m % rows + (0 if m % rows == 0 else low(rows) if m % rows <= low(rows) else rows)
    o_blocks = -(-outputs // O_BLOCK)
    c_blocks = max(-(-channels // C_BLOCK), min(-(-channels // width), -(-KERNEL_UNITS // (groups * o_blocks))))
    o_blocks = max(o_blocks, min(-(-KERNEL_UNITS // (groups * c_blocks)), outputs // (2 * rows)))
    c_block = -(-channels // (c_blocks * width)) * width
    each = -(-outputs // o_blocks)
    o_block = min(range(each, each + rows), key=lambda b: outputs // b * computed(b) + computed(outputs % b))
    height, wide = sizes[-2:]
    tile_rows, tiles = -(-height // form.down.taps), -(-wide // form.across.taps)
    points, images = form.down.points * form.across.points, elements(sizes[item.kept:-2])
    few, many = KERNEL_TILES
    count = min(images * tile_rows, max(1, max(few, min(many, KERNEL_BYTES // (points * SIZE * o_block))) // tiles))
    places = (min(count, tile_rows) * form.down.taps + form.down.elements) * (tiles * form.across.taps + form.across.elements)
    fits = weight_scratch(points, count * tiles, o_block, c_block, places, width) <= BYTES
    return (count, o_block, c_block) if fits else None


def lower_kernels(g: Group, wanted: Callable[[int], bool], locate: Callable[[int], int], vector_bytes: int) -> list[Launchable]:
    """The launches of a group that is such a sum: one, or a second one for the maps that follow."""
    item = g.items[0]
    form = item.form
    assert isinstance(form, Kernels)
    found = cut_kernels(item, form, vector_bytes)
    assert found is not None
    count, o_block, c_block = found
    kept, sizes, c, shifts = item.kept, item.sizes, item.store, form.shifts
    a, b = item.value.args[0].attr, item.value.args[1].attr
    lanes, rows, vectors = register_tile(float32, vector_bytes)
    row, channel, group = shifts.batch, kept - 1, 0 if shifts.batch else None
    images = sizes[kept] if shifts.images else 1

    def step(x: Access, axis: int | None) -> int:
        return 0 if axis is None else x.strides[axis] * SIZE
    image = kept if shifts.images else None
    words = [w for x in (a, b, c) for w in address(x, locate)]
    words += [images, sizes[row], sizes[channel], *sizes[-2:]]
    words += [step(a, axis) for axis in (image, group, row, len(sizes) - 2)]
    words += [step(b, axis) for axis in (image, group, channel, len(sizes) - 2)]
    words += [step(c, axis) for axis in (group, row, channel - 1)]
    for (_, origin, limit, _), places, taps in zip(shifts.places, sizes[-2:], sizes[channel - 2:channel], strict=True):
        words += [max(0, -origin), min(limit - origin, places + taps - 1)]      # what no tap reads may be anything
    o_blocks, c_blocks = -(-sizes[row] // o_block), -(-sizes[channel] // c_block)
    words += [count, o_block, o_blocks, c_block, c_blocks]
    assert len(words) == len(WeightWords)
    kernel = WeightGradient(lanes, rows, vectors, form.down, form.across)
    written, rest = frozenset([c.slot]), []
    if len(g.items) > 1:
        after = lower_group(Group(g.sizes, items=g.items[1:]), wanted, locate, vector_bytes)
        rest = [] if after is None else [after]
    units = elements(sizes[:row]) * o_blocks * c_blocks
    text = (f"{sizes[row]} x {sizes[channel]} for {form.down.results} x {form.across.results} taps, k {elements(sizes[kept:])}: "
            f"{form.down.name} by {form.across.name}, {count} rows of tiles at a time, {units} units")
    return [Launchable(kernel, tuple(words), units, written, text), *rest]
