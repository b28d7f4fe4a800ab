"""Winograd convolutions as LLVM IR: two transforms around the micro-kernels of :mod:`.product`.

Input: a :class:`~flambeau.ir.winograd.Winograd` or a :class:`~flambeau.ir.winograd.Filter`; output: one text with the kernel ``@NAME`` in the ABI of all
kernels.  A unit of a filter is a panel of outputs: a lane is an output, what it reads is gathered, and what is made of a channel goes to as many places
as there are points, each of which goes on with the next channel.  A unit of the convolution is a
range of rows of tiles, which may span images.  Its work, all of it on scratch memory between reading the input and storing the result:

    images, blocks, channels    tiles of the input, transformed, to V[point][block of tiles][channel][tile]
    outputs by O_BLOCK
      points                    M[point] = U[point] · V[point]; U's panels and V's blocks are read as they lie
      outputs, images           M transformed back to pixels and stored; then the epilogue, on what was just stored

Vectors run along a row of tiles.  What lies outside of the input is a lane masked out of a load, outside of the result out of a store.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Sequence

from ..core.dtype import float32
from ..ir.product import Product
from ..ir.winograd import APART, SIZE, Filter, FilterWords, Matrix, WeightGradient, WeightWords, Winograd, Words, low, panel_pitch
from .llvm import render_window
from .product import ProductWriter, heights
from .writer import Vectors, Writer

TOGETHER = 4                # outputs that are finished before their epilogue runs


def render_winograd(kernel: Winograd | Filter | WeightGradient) -> str:
    """The LLVM IR of one kernel; equal kernels give equal texts."""
    if isinstance(kernel, Filter):
        return _Filter(kernel).text()
    return (_WeightGradient(kernel) if isinstance(kernel, WeightGradient) else _Winograd(kernel)).text()


class _Transforms:
    """Matrices of an algorithm, times values in registers."""

    def __init__(self, lanes: int) -> None:
        self.v = Vectors("float", lanes, SIZE)

    def combined(self, w: Writer, factors: Sequence[float], values: Sequence[str]) -> str:
        """A sum of multiples."""
        v = self.v
        terms = sorted([(f, x) for f, x in zip(factors, values, strict=True) if f], key=lambda t: abs(t[0]) != 1 or t[0] < 0)
        total = ""
        for f, x in terms:
            if not total:
                total = x if f == 1 else w.op(f"fneg {v.t} {x}") if f == -1 else w.op(f"fmul {v.t} {x}, {self.constant(f)}")
            elif abs(f) == 1:
                total = w.op(f"{'fadd' if f > 0 else 'fsub'} {v.t} {total}, {x}")
            else:
                total = v.multiply_add(w, x, self.constant(f), total)
        return total or "zeroinitializer"

    def constant(self, x: float) -> str:
        rounded, = struct.unpack("f", struct.pack("f", x))
        return f"<{', '.join([f'float {rounded!r}'] * self.v.lanes)}>"

    def transformed(self, w: Writer, matrix: Matrix, values: Sequence[str]) -> list[str]:
        """The matrix times the values; two rows that differ by signs alone are a sum and a difference."""
        out: list[str] = []
        while len(out) < len(matrix):
            a, *rest = matrix[len(out):]
            b = rest[0] if rest else ()
            both = [x if x == y else 0.0 for x, y in zip(a, b, strict=False)], [x if x == -y else 0.0 for x, y in zip(a, b, strict=False)]
            if b and all(any(part) for part in both) and all(abs(x) == abs(y) for x, y in zip(a, b, strict=True)):
                even, odd = (self.combined(w, part, values) for part in both)
                out += [w.op(f"{how} {self.v.t} {even}, {odd}") for how in ("fadd", "fsub")]
            else:
                out.append(self.combined(w, a, values))
        return out

    def between(self, w: Writer, first: str, end: str) -> str:
        """The lanes from ``first`` up to ``end``, which is not less."""
        n = self.v.lanes
        wide = f"<{n} x i32>"

        def splat(x: str) -> str:
            one = w.op(f"insertelement {wide} poison, i32 {w.op(f'trunc i64 {x} to i32')}, i64 0")
            return w.op(f"shufflevector {wide} {one}, {wide} poison, {wide} zeroinitializer")
        iota = ", ".join(f"i32 {k}" for k in range(n))
        return w.op(f"icmp ult {wide} {w.op(f'sub {wide} <{iota}>, {splat(first)}')}, {splat(w.sub(end, first))}")

    def input(self, declared: dict[str, None], down: Matrix, across: Matrix, step: tuple[int, int], width: int = 0) -> str:
        """The rows of tiles ``y0 .. y1`` of one channel of an image, the first of them tile ``first`` of the unit, transformed; the next channel's are
        asked for.

        ``down``, ``across``: elements to points; ``step``: elements from one tile to the next.  ``width``: tiles of a block, if they go into such, else
        the next channel's tiles are ``block`` bytes further on.
        """
        v, lanes = self.v, self.v.lanes
        w = Writer("define internal void @NAME.input(ptr %x, i64 %row, i64 %y0, i64 %y1, i64 %tiles, i64 %firstrow, i64 %endrow, i64 %firstcolumn, "
                   "i64 %endcolumn, i64 %first, ptr %v, i64 %point, i64 %block, i64 %next) #ATTR", declared)
        first_row, end_row, first_column, end_column = "%firstrow", "%endrow", "%firstcolumn", "%endcolumn"
        rows = w.sub(end_row, first_row)
        shared = max(0, len(down[0]) - step[0])              # rows of the input that a tile has in common with the next one
        below = w.mul("%point", len(across))
        beyond, following = (w.sub("%block", width * SIZE), str(width * SIZE)) if width else ("", "%block")

        def some_tiles(x: str, _: list[str]) -> None:
            valid = w.min(w.sub("%tiles", x), lanes)
            column = w.mul(x, step[1])
            loads: dict[int, tuple[str, str]] = {}

            def place(offset: int) -> tuple[str, str]:
                """The address of a vector in the first row, and which of its lanes exist."""
                if offset not in loads:
                    start = w.add(column, offset)
                    loads[offset] = w.plus("%x", w.mul(start, SIZE)), self.between(w, w.sub(first_column, start), w.sub(end_column, start))
                return loads[offset]

            def line(number: str) -> list[str]:
                """A row of the input, transformed along it."""
                at = w.mul(number, "%row")
                known: dict[tuple[int, int], str] = {}

                def every(offset: int, step: int) -> str:
                    """A vector of elements ``step`` apart."""
                    if (offset, step) not in known:
                        if step == 1:
                            start, mask = place(offset)
                            here = w.plus(start, at)
                            known[offset, step] = v.load(w, here, mask)
                            if offset % lanes == 0:
                                w.prefetch(w.plus(here, "%next"))
                        else:
                            half = step // 2
                            odd = offset % step >= half
                            near, far = (every(offset - odd * half + k * lanes * half, half) for k in (0, 1))
                            known[offset, step] = v.shuffle(w, near, far, range(odd, 2 * lanes, 2))
                    return known[offset, step]

                def there() -> list[str]:
                    return self.transformed(w, across, [every(e, step[1]) for e in range(len(across[0]))])
                exists = w.compare("ult", w.sub(number, first_row), rows)
                return w.when(exists, there, lambda: ["zeroinitializer"] * len(across), [v.t] * len(across))
            for e in range(len(across[0])):        # what all rows share is worked out before them
                for k in range(step[1]):
                    place(e // step[1] * step[1] + k * lanes)

            def some_rows(y: str, carried: list[str]) -> list[str]:
                tile, above = carried[0], carried[1:]
                top = w.mul(y, step[0])
                lines = [above[i:i + len(across)] for i in range(0, len(above), len(across))]
                lines += [line(w.add(top, i)) for i in range(shared, len(down[0]))]
                if width:       # what does not fit into the block goes into the next one
                    number = w.div(tile, width)
                    room = w.sub(width, w.sub(tile, w.mul(number, width)))      # of the block from this tile on
                    to = w.plus(w.plus("%v", w.mul(number, "%block")), w.mul(w.sub(width, room), SIZE))
                    masks = v.mask(w, w.min(valid, room)), self.between(w, w.min(valid, room), valid)
                    two = w.compare("sgt", valid, room)
                else:
                    to, masks = w.plus("%v", w.mul(tile, SIZE)), (v.mask(w, valid), "")
                for j in range(len(across)):
                    column = self.transformed(w, down, [r[j] for r in lines])

                    def store(to: str, mask: str, column: list[str] = column) -> None:
                        for value in column:
                            v.store(w, value, to, mask)
                            w.prefetch(w.plus(to, following), write=True)      # the next channel's place
                            to = w.plus(to, below)
                    store(to, masks[0])
                    if width:
                        w.when(two, lambda to=to: store(w.plus(to, beyond), masks[1]))  # type: ignore[misc]
                    to = w.plus(to, "%point")
                return [w.add(tile, "%tiles"), *[x for r in lines[step[0]:] for x in r]]
            top = w.mul("%y0", step[0])
            start = [x for i in range(shared) for x in line(w.add(top, i))]
            w.loop("%y0", "%y1", 1, [("i64", w.add("%first", x)), *((v.t, s) for s in start)], some_rows)
        w.loop(0, "%tiles", lanes, [], some_tiles)
        w.do("ret void")
        return w.text()


class _Filter(_Transforms):
    def __init__(self, kernel: Filter) -> None:
        super().__init__(kernel.lanes)
        self.kernel = kernel

    def text(self) -> str:
        k, v = self.kernel, self.v
        declared: dict[str, None] = {}
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", declared)

        def word(n: int) -> str:
            return w.load("i64", w.plus("%args", 8 * n), 8)
        words = FilterWords
        weight, points = (w.plus(w.load("ptr", w.plus("%table", w.mul(word(n), 8)), 8), word(n + 1)) for n in (words.W_TABLE, words.U_TABLE))
        outputs, channels, full, panels, point = (word(n) for n in (words.OUTPUTS, words.CHANNELS, words.FULL, words.PANELS, words.U_POINT))
        w_group, w_output, w_channel, w_slice, w_down, w_across = (word(n) for n in range(words.W_GROUP, words.W_ACROSS + 1))
        slices, blocks_down, blocks_across = (word(n) for n in (words.SLICES, words.BLOCKS_DOWN, words.BLOCKS_ACROSS))
        taps = word(words.TAPS_DOWN), word(words.TAPS_ACROSS)
        pitch = panel_pitch(k.rows, k.lanes) * SIZE
        panel_bytes = w.mul(w.mul(w.mul(slices, blocks_down), w.mul(blocks_across, channels)), pitch)
        wide = f"<{k.lanes} x i32>"
        one = w.op(f"insertelement {wide} poison, i32 {w.op(f'trunc i64 {w_output} to i32')}, i64 0")
        iota = ", ".join(f"i32 {i}" for i in range(k.lanes))
        apart = w.op(f"mul {wide} {w.op(f'shufflevector {wide} {one}, {wide} poison, {wide} zeroinitializer')}, <{iota}>")

        def gathered(source: str, mask: str) -> str:
            return w.call(v.t, f"llvm.masked.gather.{v.mangled}.v{k.lanes}p0", (f"<{k.lanes} x ptr>", w.op(f"getelementptr i8, ptr {source}, {wide} {apart}")),
                          ("i32", str(SIZE)), (v.bit, mask), (v.t, "zeroinitializer"))

        def unit(number: str, _: list[str]) -> None:
            group, panel = w.div(number, panels), w.rem(number, panels)
            beyond, doubled = w.max(w.sub(panel, full), 0), 2 * low(k.rows)
            first = w.add(w.mul(panel, k.rows), w.mul(beyond, doubled - k.rows))
            start = w.plus(w.plus(weight, w.mul(group, w_group)), w.mul(first, w_output))
            rows = w.min(w.sub(outputs, first), w.select(w.compare("slt", panel, full), "i64", k.rows, doubled))
            # a panel may be wider than a vector
            groups = [(w.plus(start, w.mul(w_output, g * k.lanes)), v.mask(w, w.sub(rows, g * k.lanes)), g * v.bytes) for g in range(pitch // v.bytes)]

            def block(z: str, y: str, x: str, to: str) -> str:
                shift = w.add(w.add(w.mul(z, w_slice), w.mul(w.mul(y, k.down.taps), w_down)), w.mul(w.mul(x, k.across.taps), w_across))
                there: dict[tuple[int, int], str] = {}
                for i, j in itertools.product(range(k.down.taps), range(k.across.taps)) if k.partial else ():
                    near = [w.compare("slt", w.add(w.mul(b, a.taps), t), n) for b, a, t, n in zip((y, x), (k.down, k.across), (i, j), taps, strict=True)]
                    there[i, j] = w.op(f"and i1 {near[0]}, {near[1]}")

                def channel(_: str, carried: list[str]) -> list[str]:
                    source, to = carried
                    for begin, mask, at in groups:
                        here = w.plus(begin, source)
                        lines = []
                        for i in range(k.down.taps):
                            values = []
                            for j in range(k.across.taps):
                                allowed = w.op(f"select i1 {there[i, j]}, {v.bit} {mask}, {v.bit} zeroinitializer") if k.partial else mask
                                values.append(gathered(w.plus(here, w.add(w.mul(w_down, i), w.mul(w_across, j))), allowed))
                            lines.append(self.transformed(w, k.across.weight, values))
                        columns = [self.transformed(w, k.down.weight, [line[j] for line in lines]) for j in range(k.across.points)]
                        place = w.plus(to, at)
                        for i in range(k.down.points):
                            for column in columns:
                                v.store(w, column[i], place, align=v.bytes)
                                place = w.plus(place, point)
                    return [w.add(source, w_channel), w.plus(to, pitch)]
                return w.loop(0, channels, 1, [("i64", shift), ("ptr", to)], channel)[1]
            to = w.plus(points, w.mul(number, panel_bytes))
            w.loop(0, slices, 1, [("ptr", to)], lambda z, to: w.loop(0, blocks_down, 1, [("ptr", to[0])], lambda y, to: w.loop(
                0, blocks_across, 1, [("ptr", to[0])], lambda x, to: [block(z, y, x, to[0])])))
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return "\n".join([w.text(), *declared, ""])


class _Winograd(_Transforms):
    def __init__(self, kernel: Winograd) -> None:
        super().__init__(kernel.lanes)
        self.kernel = kernel
        self.product = ProductWriter(Product(float32, "row", "column", 0, kernel.lanes, kernel.rows, kernel.vectors))
        self.declared = self.product.declared
        self.width = kernel.vectors * kernel.lanes              # tiles of a block
        self.pitch = self.width * SIZE
        self.panel_pitch = panel_pitch(kernel.rows, kernel.lanes) * SIZE

    def text(self) -> str:
        k = self.kernel
        functions = [self.product.micro(m, n) for m in heights(k.rows) for n in range(1, k.vectors + 1)]
        functions += [self.input(self.declared, k.down.into, k.across.into, (k.down.step, k.across.step), self.width), self.output(), self.multiply()]
        if k.epilogue is not None:
            functions.append(render_window(k.epilogue, "@NAME.finish", 5, k.roles, self.declared))
        functions.append(self.main())
        return "\n".join([*functions, *self.declared, ""])

    # ------------------------------------------------------------ transforms

    def output(self) -> str:
        """The same tiles of one output, from M to pixels; the next output's are asked for."""
        v, lanes, down, across = self.v, self.v.lanes, self.kernel.down, self.kernel.across
        w = Writer("define internal void @NAME.output(ptr %m, i64 %point, i64 %y0, i64 %y1, i64 %tiles, i64 %height, i64 %width, ptr %c, "
                   "i64 %row, i64 %next) #ATTR", self.declared)

        below = w.mul("%point", across.points)

        def some_rows(y: str, carried: list[str]) -> list[str]:
            top = w.mul(y, down.results)
            to = w.plus("%c", w.mul(top, "%row"))
            exist = [w.compare("slt", w.add(top, i), "%height") for i in range(1, down.results)]

            def some_tiles(x: str, _: list[str]) -> None:
                at = w.plus(carried[0], w.mul(x, SIZE))
                halves = []
                for _j in range(across.points):
                    column = list(itertools.accumulate([below] * (down.points - 1), w.plus, initial=at))
                    halves.append(self.transformed(w, down.out, [v.load(w, p) for p in column]))
                    at = w.plus(at, "%point")
                pixel = w.mul(x, across.results)
                rest = w.sub("%width", pixel)
                masks = [v.mask(w, w.sub(rest, lanes * k)) for k in range(across.results)]
                place = w.plus(to, w.mul(pixel, SIZE))

                def store(i: int, to: str) -> None:
                    values = v.interleave(w, self.transformed(w, across.out, [h[i] for h in halves]))
                    for part, (value, mask) in enumerate(zip(values, masks, strict=True)):
                        here = w.plus(to, part * v.bytes)
                        v.store(w, value, here, mask)
                        w.prefetch(w.plus(here, "%next"), write=True)
                store(0, place)
                for i, exists in enumerate(exist, 1):
                    w.when(exists, lambda i=i: store(i, w.plus(place, w.mul("%row", i))))  # type: ignore[misc]
            w.loop(0, "%tiles", lanes, [], some_tiles)
            return [w.plus(carried[0], w.mul("%tiles", SIZE))]
        w.loop("%y0", "%y1", 1, [("ptr", "%m")], some_rows)
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ the product at one point

    def multiply(self) -> str:
        """``M = U · V`` of some outputs: panels of U, of which the first hold ``full`` outputs, blocks of V."""
        k = self.kernel
        tall, short = heights(k.rows)
        w = Writer("define internal void @NAME.multiply(i64 %m, i64 %full, i64 %n, i64 %k, i64 %kblock, ptr %u, ptr %v, ptr %c, i64 %crow) #ATTR",
                   self.declared)
        panel_bytes, block_bytes = w.mul("%k", self.panel_pitch), w.mul("%k", self.pitch)

        def k_blocks(k0: str, _: list[str]) -> None:
            depth = w.min("%kblock", w.sub("%k", k0))
            more = w.select(w.compare("eq", k0, 0), "i64", 0, 1)
            uk, vk = w.plus("%u", w.mul(k0, self.panel_pitch)), w.plus("%v", w.mul(k0, self.pitch))

            def tiles(m: int, i: str, panel: str) -> None:
                """All tiles of some rows."""
                rows = w.min(w.sub("%m", i), m)

                def blocks(j: str, carried: list[str]) -> list[str]:
                    block, to = carried
                    columns = w.sub("%n", j)
                    self.product.narrowest(w, columns, lambda n: w.do(
                        f"call void @NAME.tile{m}x{n}(i64 {depth}, ptr {panel}, ptr {block}, i64 {self.pitch}, ptr {to}, i64 %crow, "
                        f"i64 {rows}, i64 {columns}, i64 {more}, ptr null)"))
                    return [w.plus(block, block_bytes), w.plus(to, self.pitch)]
                w.loop(0, "%n", self.width, [("ptr", vk), ("ptr", w.plus("%c", w.mul(i, "%crow")))], blocks)

            def full_panel(i: str, at: list[str]) -> list[str]:
                tiles(tall, i, at[0])
                return [w.plus(at[0], panel_bytes)]

            def half_panel(i: str, at: list[str]) -> list[str]:
                """The step to the other half, and from there to the next panel, take turns."""
                panel, step, other = at
                tiles(short, i, panel)
                return [w.plus(panel, step), other, step]
            panel, = w.loop(0, "%full", tall, [("ptr", uk)], full_panel)
            half = str(short * SIZE)
            w.loop("%full", "%m", short, [("ptr", panel), ("i64", half), ("i64", w.sub(panel_bytes, half))], half_panel)
        w.loop(0, "%k", "%kblock", [], k_blocks)
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ the loops

    def word(self, w: Writer, n: int) -> str:
        return w.load("i64", w.plus("%args", 8 * n), 8)

    def main(self) -> str:
        k, v = self.kernel, self.v
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)

        def word(n: int) -> str:
            return self.word(w, n)
        x, u, c = (w.plus(w.load("ptr", w.plus("%table", w.mul(word(n), 8)), 8), word(n + 1)) for n in (Words.X_TABLE, Words.U_TABLE, Words.C_TABLE))
        images, groups, outputs, channels, height, width = (word(n) for n in (
            Words.IMAGES, Words.GROUPS, Words.OUTPUTS, Words.CHANNELS, Words.HEIGHT, Words.WIDTH))
        x_steps = [word(n) for n in (Words.X_IMAGE, Words.X_GROUP, Words.X_CHANNEL, Words.X_ROW)]
        c_steps = [word(n) for n in (Words.C_IMAGE, Words.C_GROUP, Words.C_OUTPUT, Words.C_ROW)]
        unit_rows, units, k_block, o_block = (word(n) for n in (Words.UNIT, Words.UNITS, Words.K_BLOCK, Words.O_BLOCK))
        first_row, end_row, first_column, end_column, first_slice, end_slice = (word(n) for n in (
            Words.FIRST_ROW, Words.END_ROW, Words.FIRST_COLUMN, Words.END_COLUMN, Words.FIRST_SLICE, Words.END_SLICE))
        depth, x_depth, c_depth, blocks, piece = (word(n) for n in (Words.DEPTH, Words.X_DEPTH, Words.C_DEPTH, Words.BLOCKS, Words.PIECE))
        whole = w.compare("eq", piece, 0)
        piece_width = w.select(whole, "i64", width, piece)
        blocks_at = w.plus("%args", w.mul(word(Words.BLOCKS_AT), 8))
        block_channels, channels = channels, w.mul(channels, blocks)
        tile_rows, tiles = (w.div(w.add(n, a.results - 1), a.results) for n, a in ((height, k.down), (piece_width, k.across)))
        # as ir.winograd.scratch_bytes says
        points = k.down.points * k.across.points
        most = w.mul(w.div(w.add(w.mul(unit_rows, tiles), self.width - 1), self.width), self.width)     # tiles of a unit, in whole blocks
        v_block = w.mul(channels, self.pitch)
        v_point = w.add(w.mul(w.mul(channels, most), SIZE), APART)
        m_row = w.mul(w.add(most, v.lanes), SIZE)
        m_point = w.add(w.mul(o_block, m_row), APART)
        m = w.plus("%scratch", w.mul(v_point, points))
        panel = w.mul(channels, self.panel_pitch)
        u_group, full_outputs = w.mul(word(Words.PANELS), panel), w.mul(word(Words.FULL), k.rows)
        u_point = w.mul(groups, u_group)

        def unit(number: str, _: list[str]) -> None:
            group, part = w.div(number, units), w.rem(number, units)
            r0 = w.mul(part, unit_rows)
            r1 = w.min(w.add(r0, unit_rows), w.mul(images, tile_rows))
            xg, ug, cg = w.plus(x, w.mul(group, x_steps[1])), w.plus(u, w.mul(group, u_group)), w.plus(c, w.mul(group, c_steps[1]))

            def each_image(body: Callable[[str, str, str, str], None]) -> None:
                """``body`` with every image of the unit, its rows of tiles there, and the number of its first tile."""
                def image(n: str, _: list[str]) -> None:
                    before = w.mul(n, tile_rows)
                    y0 = w.max(w.sub(r0, before), 0)
                    body(n, y0, w.min(w.sub(r1, before), tile_rows), w.mul(w.sub(w.add(before, y0), r0), tiles))
                w.loop(w.div(r0, tile_rows), w.div(w.add(r1, w.sub(tile_rows, 1)), tile_rows), 1, [], image)

            def transform(n: str, y0: str, y1: str, first: str) -> None:
                number, z = w.div(n, depth), w.rem(n, depth)
                image = w.plus(w.plus(xg, w.mul(number, x_steps[0])), w.mul(z, x_depth))
                skipped = w.mul(z, w.mul(w.div(piece, k.across.results), k.across.step))

                def block(_: str, carried: list[str]) -> list[str]:
                    at, to = carried
                    offset, down, across, behind = (w.load("i64", w.plus(at, 8 * i), 8) for i in range(4))
                    exists = w.compare("ult", w.sub(w.add(z, behind), first_slice), w.sub(end_slice, first_slice))
                    start, across = w.sub(first_row, down), w.add(across, skipped)
                    there = [start, w.select(exists, "i64", w.sub(end_row, down), start), w.sub(first_column, across), w.sub(end_column, across)]

                    def channel(_: str, carried: list[str]) -> list[str]:
                        source, to = carried
                        w.do(f"call void @NAME.input(ptr {source}, i64 {x_steps[3]}, i64 {y0}, i64 {y1}, i64 {tiles}, "
                             f"{', '.join(f'i64 {t}' for t in there)}, i64 {first}, ptr {to}, i64 {v_point}, i64 {v_block}, i64 {x_steps[2]})")
                        return [w.plus(source, x_steps[2]), w.plus(to, self.pitch)]
                    _, to = w.loop(0, block_channels, 1, [("ptr", w.plus(image, offset)), ("ptr", to)], channel)
                    return [w.plus(at, 32), to]
                w.loop(0, blocks, 1, [("ptr", blocks_at), ("ptr", "%scratch")], block)
            each_image(transform)
            count = w.mul(w.sub(r1, r0), tiles)

            def some_outputs(o0: str, _: list[str]) -> None:
                o1 = w.min(w.add(o0, o_block), outputs)
                up = w.plus(ug, w.mul(w.div(o0, k.rows), panel))
                full = w.min(w.sub(o1, o0), w.sub(full_outputs, o0))

                def point(p: str, _: list[str]) -> None:
                    w.do(f"call void @NAME.multiply(i64 {w.sub(o1, o0)}, i64 {full}, i64 {count}, i64 {channels}, i64 {k_block}, "
                         f"ptr {w.plus(up, w.mul(p, u_point))}, ptr {w.plus('%scratch', w.mul(p, v_point))}, ptr {w.plus(m, w.mul(p, m_point))}, i64 {m_row})")
                w.loop(0, points, 1, [], point)

                def finish(s0: str, _: list[str]) -> None:
                    s1 = w.min(w.add(s0, TOGETHER), o1)

                    def restore(n: str, y0: str, y1: str, first: str) -> None:
                        number, z = w.div(n, depth), w.rem(n, depth)
                        cn = w.plus(w.plus(cg, w.mul(number, c_steps[0])), w.mul(z, c_depth))
                        skipped = w.mul(z, piece)
                        columns = w.min(w.sub(width, skipped), piece_width)

                        def output(o: str, _: list[str]) -> None:
                            source = w.plus(w.plus(m, w.mul(w.sub(o, o0), m_row)), w.mul(first, SIZE))
                            w.do(f"call void @NAME.output(ptr {source}, i64 {m_point}, i64 {y0}, i64 {y1}, i64 {tiles}, i64 {height}, i64 {columns}, "
                                 f"ptr {w.plus(cn, w.mul(o, c_steps[2]))}, i64 {c_steps[3]}, i64 {c_steps[2]})")
                        w.loop(s0, s1, 1, [], output)
                        if k.epilogue is not None:
                            pixels = [w.add(w.mul(w.mul(y0, k.down.results), width), skipped),
                                      w.add(w.mul(w.sub(w.min(w.mul(y1, k.down.results), height), 1), width), w.add(skipped, columns))]
                            ends = [number, w.add(number, 1), group, w.add(group, 1), s0, s1, *pixels, z, w.add(z, 1)]
                            words = w.plus("%args", 8 * Words.EPILOGUE)
                            w.do(f"call void @NAME.finish(ptr %table, ptr {words}, {', '.join(f'i64 {e}' for e in ends)})")
                    each_image(restore)
                w.loop(o0, o1, TOGETHER, [], finish)
            w.loop(0, outputs, o_block, [], some_outputs)
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return w.text()


class _WeightGradient(_Transforms):
    """Units are blocks of outputs by blocks of channels.

    Their work, some rows of tiles at a time: the gradient's tiles of every output, transformed, to A[point][output][tile]; then, for as many channels as a
    tile of the product has columns, the input, transposed, and its tiles, transformed with a lane for a channel, to B[point][tile][channel]; A · B added to
    the sums[point][output][channel].  In the end these are transformed to taps.
    """

    def __init__(self, kernel: WeightGradient) -> None:
        super().__init__(kernel.lanes)
        self.kernel = kernel
        self.product = ProductWriter(Product(float32, "k", "column", 0, kernel.lanes, kernel.rows, kernel.vectors))
        self.declared = self.product.declared
        self.width = kernel.vectors * kernel.lanes              # channels at a time
        self.pitch = self.width * SIZE
        self.points = kernel.down.points * kernel.across.points

    def text(self) -> str:
        k = self.kernel
        functions = [self.product.micro(m, n, ahead=True) for m in heights(k.rows) for n in range(1, k.vectors + 1)]
        functions += [self.input(self.declared, k.down.weight, k.across.weight, (k.down.taps, k.across.taps)),
                      self.product.pack_transposed(aligned=False), self.zeros(), self.copy(), self.tiles(), self.finish(), self.main()]
        return "\n".join([*functions, *self.declared, ""])

    def zeros(self) -> str:
        """No channel has anything at ``count`` places."""
        w = Writer("define internal void @NAME.zeros(i64 %count, ptr %to) #ATTR", self.declared)

        def place(_: str, at: list[str]) -> list[str]:
            for g in range(self.kernel.vectors):
                self.v.store(w, "zeroinitializer", w.plus(at[0], g * self.v.bytes), align=self.v.bytes)
            return [w.plus(at[0], self.pitch)]
        w.loop(0, "%count", 1, [("ptr", "%to")], place)
        w.do("ret void")
        return w.text()

    def copy(self) -> str:
        """Rows ``y0 .. y1`` of ``places`` of the input, the channels of a place side by side, what does not exist as zero."""
        w = Writer("define internal void @NAME.copy(ptr %x, i64 %row, i64 %channel, i64 %channels, i64 %y0, i64 %y1, i64 %places, i64 %firstrow, "
                   "i64 %endrow, i64 %firstcolumn, i64 %endcolumn, ptr %to) #ATTR", self.declared)
        before = w.min("%firstcolumn", "%places")
        there = w.max(w.sub(w.min("%endcolumn", "%places"), before), 0)
        after = w.sub(w.sub("%places", before), there)
        rows = w.sub("%endrow", "%firstrow")

        def row(y: str, carried: list[str]) -> list[str]:
            to, = carried

            def some() -> None:
                start = w.plus(to, w.mul(before, self.pitch))
                source = w.plus(w.plus("%x", w.mul(y, "%row")), w.mul(before, SIZE))
                w.do(f"call void @NAME.zeros(i64 {before}, ptr {to})")
                for g in range(self.kernel.vectors):
                    valid = w.sub("%channels", g * self.v.lanes)
                    w.when(w.compare("sgt", valid, 0), lambda valid=valid, g=g: w.do(  # type: ignore[misc]
                        f"call void @NAME.transpose(ptr {w.plus(source, w.mul('%channel', g * self.v.lanes))}, i64 %channel, i64 {valid}, "
                        f"i64 {there}, ptr {w.plus(start, g * self.v.bytes)}, i64 {self.pitch})"))
                # squares are stored whole
                w.do(f"call void @NAME.zeros(i64 {after}, ptr {w.plus(start, w.mul(there, self.pitch))})")
            w.when(w.compare("ult", w.sub(y, "%firstrow"), rows), some, lambda: w.do(f"call void @NAME.zeros(i64 %places, ptr {to})"))
            return [w.plus(to, w.mul("%places", self.pitch))]
        w.loop("%y0", "%y1", 1, [("ptr", "%to")], row)
        w.do("ret void")
        return w.text()

    def tiles(self) -> str:
        """Rows of tiles of the copy, transformed."""
        v, down, across = self.v, self.kernel.down, self.kernel.across
        w = Writer("define internal void @NAME.tiles(ptr %from, i64 %places, i64 %rows, i64 %tiles, ptr %to, i64 %point) #ATTR", self.declared)
        shared = across.elements - across.taps
        row_bytes = w.mul("%places", self.pitch)

        def some_rows(y: str, _: list[str]) -> None:
            top = w.plus("%from", w.mul(w.mul(y, down.taps), row_bytes))
            lines = list(itertools.accumulate([row_bytes] * (down.elements - 1), w.plus, initial=top))
            first = w.plus("%to", w.mul(w.mul(y, "%tiles"), self.pitch))

            def column(place: str, shift: int) -> list[str]:
                """A column of a tile, transformed."""
                return self.transformed(w, down.into, [v.load(w, w.plus(w.plus(at, place), shift), align=v.bytes) for at in lines])
            for g in range(0, self.pitch, v.bytes):
                def some_tiles(x: str, carried: list[str], g: int = g) -> list[str]:
                    to, known = carried[0], carried[1:]
                    place = w.mul(x, across.taps * self.pitch)
                    columns = [known[i:i + down.points] for i in range(0, len(known), down.points)]
                    columns += [column(place, g + i * self.pitch) for i in range(shared, across.elements)]
                    at = to
                    for i in range(down.points):
                        for value in self.transformed(w, across.into, [c[i] for c in columns]):
                            v.store(w, value, at, align=v.bytes)
                            at = w.plus(at, "%point")
                    return [w.plus(to, self.pitch), *[x for c in columns[across.taps:] for x in c]]
                start = [x for i in range(shared) for x in column("0", g + i * self.pitch)]
                w.loop(0, "%tiles", 1, [("ptr", w.plus(first, g)), *((v.t, x) for x in start)], some_tiles)
        w.loop(0, "%rows", 1, [], some_rows)
        w.do("ret void")
        return w.text()

    def finish(self) -> str:
        """The sums of an output, transformed to taps."""
        v, down, across = self.v, self.kernel.down, self.kernel.across
        w = Writer("define internal void @NAME.finish(ptr %from, i64 %point, i64 %channels, ptr %to, i64 %tap) #ATTR", self.declared)
        for g in range(self.kernel.vectors):
            mask = v.mask(w, w.sub("%channels", g * v.lanes))
            at = list(itertools.accumulate(["%point"] * (self.points - 1), w.plus, initial=w.plus("%from", g * v.bytes)))
            sums = [v.load(w, x, align=v.bytes) for x in at]
            columns = [self.transformed(w, down.out, sums[j::across.points]) for j in range(across.points)]
            to = w.plus("%to", g * v.bytes)
            for i in range(down.results):
                for value in self.transformed(w, across.out, [c[i] for c in columns]):
                    v.store(w, value, to, mask)
                    to = w.plus(to, "%tap")
        w.do("ret void")
        return w.text()

    def main(self) -> str:
        k = self.kernel
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)
        words = WeightWords

        def word(n: int) -> str:
            return w.load("i64", w.plus("%args", 8 * n), 8)
        g, x, c = (w.plus(w.load("ptr", w.plus("%table", w.mul(word(n), 8)), 8), word(n + 1)) for n in (words.G_TABLE, words.X_TABLE, words.C_TABLE))
        images, outputs, channels, height, width = (word(n) for n in range(words.IMAGES, words.WIDTH + 1))
        g_image, g_group, g_output, g_row, x_image, x_group, x_channel, x_row = (word(n) for n in range(words.G_IMAGE, words.X_ROW + 1))
        c_group, c_output, c_tap = (word(n) for n in range(words.C_GROUP, words.C_TAP + 1))
        exist = ", ".join(f"i64 {word(n)}" for n in range(words.FIRST_ROW, words.END_COLUMN + 1))
        unit_rows, o_block, o_blocks, c_block, c_blocks = (word(n) for n in range(words.UNIT_ROWS, words.C_BLOCKS + 1))
        tile_rows, tiles = (w.div(w.add(n, a.taps - 1), a.taps) for n, a in ((height, k.down), (width, k.across)))
        places = w.add(w.mul(tiles, k.across.taps), k.across.elements - k.across.taps)
        # as ir.winograd.weight_scratch says
        most = w.mul(unit_rows, tiles)
        a_row = w.add(w.op(f"and i64 {w.add(w.mul(most, SIZE), 63)}, -64"), APART)
        a_point, b_point = w.add(w.mul(o_block, a_row), APART), w.add(w.mul(most, self.pitch), APART)
        sum_point = w.add(w.mul(o_block, self.pitch), APART)
        sum_block = w.mul(sum_point, self.points)
        ahead = "%scratch"              # there is nothing to ask for
        for i in range(6):
            w.store("i64", "0", w.plus(ahead, 8 * i), 8)
        left = w.plus(ahead, 64)
        right = w.plus(left, w.mul(a_point, self.points))
        sums = w.plus(right, w.mul(b_point, self.points))
        image = w.plus(sums, w.mul(sum_block, w.div(c_block, self.width)))

        def unit(number: str, _: list[str]) -> None:
            o0 = w.mul(w.rem(number, o_blocks), o_block)
            number = w.div(number, o_blocks)
            c0, group = w.mul(w.rem(number, c_blocks), c_block), w.div(number, c_blocks)
            count, c1 = w.min(o_block, w.sub(outputs, o0)), w.min(channels, w.add(c0, c_block))
            go, xg = w.plus(w.plus(g, w.mul(group, g_group)), w.mul(o0, g_output)), w.plus(x, w.mul(group, x_group))

            def each_width(body: Callable[[str, str, str], None]) -> None:
                """``body`` with some channels, how many they are, and their sums."""
                def some(at: str, carried: list[str]) -> list[str]:
                    body(at, w.min(w.sub(c1, at), self.width), carried[0])
                    return [w.plus(carried[0], sum_block)]
                w.loop(c0, c1, self.width, [("ptr", sums)], some)

            def some_rows(r0: str, _: list[str]) -> None:
                r1 = w.min(w.add(r0, unit_rows), w.mul(images, tile_rows))

                def each_image(body: Callable[[str, str, str, str], None]) -> None:
                    """``body`` with every image, its rows of tiles, and the number of its first tile."""
                    def part(n: str, _: list[str]) -> None:
                        before = w.mul(n, tile_rows)
                        y0 = w.max(w.sub(r0, before), 0)
                        body(n, y0, w.min(w.sub(r1, before), tile_rows), w.mul(w.sub(w.add(before, y0), r0), tiles))
                    w.loop(w.div(r0, tile_rows), w.div(w.add(r1, w.sub(tile_rows, 1)), tile_rows), 1, [], part)

                def gradient(n: str, y0: str, y1: str, first: str) -> None:
                    def output(_: str, at: list[str]) -> list[str]:
                        w.do(f"call void @NAME.input(ptr {at[0]}, i64 {g_row}, i64 {y0}, i64 {y1}, i64 {tiles}, i64 0, i64 {height}, i64 0, i64 {width}, "
                             f"i64 {first}, ptr {at[1]}, i64 {a_point}, i64 {a_row}, i64 {g_output})")
                        return [w.plus(at[0], g_output), w.plus(at[1], a_row)]
                    w.loop(0, count, 1, [("ptr", w.plus(go, w.mul(n, g_image))), ("ptr", left)], output)
                each_image(gradient)
                depth = w.mul(w.sub(r1, r0), tiles)
                more = w.select(w.compare("eq", r0, 0), "i64", 0, 1)

                def some_channels(at: str, columns: str, to: str) -> None:
                    xc = w.plus(xg, w.mul(at, x_channel))

                    def input(n: str, y0: str, y1: str, first: str) -> None:
                        q0 = w.mul(y0, k.down.taps)
                        q1 = w.add(w.mul(y1, k.down.taps), k.down.elements - k.down.taps)
                        w.do(f"call void @NAME.copy(ptr {w.plus(xc, w.mul(n, x_image))}, i64 {x_row}, i64 {x_channel}, i64 {columns}, i64 {q0}, i64 {q1}, "
                             f"i64 {places}, {exist}, ptr {image})")
                        w.do(f"call void @NAME.tiles(ptr {image}, i64 {places}, i64 {w.sub(y1, y0)}, i64 {tiles}, "
                             f"ptr {w.plus(right, w.mul(first, self.pitch))}, i64 {b_point})")
                    each_image(input)

                    def point(_: str, at: list[str]) -> list[str]:
                        def panels(i: str, _: list[str]) -> None:
                            rows = w.min(k.rows, w.sub(count, i))

                            def run(m: int, n: int) -> None:
                                w.do(f"call void @NAME.tile{m}x{n}(i64 {depth}, ptr {w.plus(at[0], w.mul(i, a_row))}, i64 {a_row}, ptr {at[1]}, "
                                     f"i64 {self.pitch}, ptr {w.plus(at[2], w.mul(i, self.pitch))}, i64 {self.pitch}, i64 {rows}, i64 {columns}, "
                                     f"i64 {more}, ptr {ahead})")
                            self.product.shortest(w, rows, lambda m: self.product.narrowest(w, columns, lambda n: run(m, n)))
                        w.loop(0, count, k.rows, [], panels)
                        return [w.plus(at[0], a_point), w.plus(at[1], b_point), w.plus(at[2], sum_point)]
                    w.loop(0, self.points, 1, [("ptr", left), ("ptr", right), ("ptr", to)], point)
                each_width(some_channels)
            w.loop(0, w.mul(images, tile_rows), unit_rows, [], some_rows)
            start = w.plus(w.plus(c, w.mul(group, c_group)), w.mul(o0, c_output))

            def finished(at: str, columns: str, to: str) -> None:
                def output(_: str, carried: list[str]) -> list[str]:
                    w.do(f"call void @NAME.finish(ptr {carried[0]}, i64 {sum_point}, i64 {columns}, ptr {carried[1]}, i64 {c_tap})")
                    return [w.plus(carried[0], self.pitch), w.plus(carried[1], c_output)]
                w.loop(0, count, 1, [("ptr", to), ("ptr", w.plus(start, w.mul(at, SIZE)))], output)
            each_width(finished)
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return w.text()
