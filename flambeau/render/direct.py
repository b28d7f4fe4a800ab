"""Products whose B is the windows of an image: the image is copied once, with the zeros around it, and read in place for every k.

Input: a :class:`~flambeau.ir.product.Product` with a :class:`~flambeau.ir.product.Direct` window; output as of :mod:`.product`.  A
unit is a batch entry and a range of the first column axis.  Its part of the image is copied to scratch memory, channel by channel,
every row followed by the next (the zeros between two rows serve both): a row of B for some k and all columns is then that memory from
an offset on, the same for every tile.  Between the rows lie columns that belong to nobody; a tile is computed whole, into scratch
memory, and its runs are stored from there, the tiles of several phases interleaved.
"""

from __future__ import annotations

from ..ir.product import Direct, Words
from .llvm import render_window
from .product import ProductWriter, digits, following, heights
from .writer import Writer


class DirectWriter(ProductWriter):
    """Writes the functions of one product over a direct window."""

    planes = 1                  # channels of an element of the copy

    def text(self) -> str:
        p = self.product
        functions = [self.pack_transposed() if p.a_unit == "k" else self.pack_rows(), self.copy_row()]
        functions += [self.micro(m, n, taps=True) for m in heights(p.rows) for n in range(1, p.vectors + 1)]
        if p.epilogue is not None:
            functions.append(render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared))
        return "\n".join([*functions, self.direct_kernel(), *self.declared, ""])

    def copy_row(self) -> str:
        """``count`` positions of one row of the image, ``step`` apart from ``first`` on, as neighbours; 0 outside of ``0 .. limit-1``."""
        v = self.v
        w = Writer("define internal void @NAME.row(ptr %from, i64 %channel, i64 %first, i64 %step, i64 %limit, i64 %count, ptr %to) #ATTR", self.declared)
        wide = f"<{v.lanes} x i64>"
        last = w.sub("%limit", v.lanes)
        iota = "<" + ", ".join(f"i64 {k}" for k in range(v.lanes)) + ">"

        def splat(x: str) -> str:
            one = w.op(f"insertelement {wide} poison, i64 {x}, i64 0")
            return w.op(f"shufflevector {wide} {one}, {wide} poison, <{v.lanes} x i32> zeroinitializer")
        steps = w.op(f"mul {wide} {splat('%step')}, {iota}")
        limits = splat("%limit")

        def some(q: str, _: list[str]) -> None:
            at = w.add("%first", w.mul(q, "%step"))
            start = w.plus("%from", w.mul(at, self.size))

            def neighbours() -> list[str]:
                inside = w.op(f"and i1 {w.compare('sge', at, 0)}, {w.compare('sle', at, last)}")
                return w.when(inside, lambda: [v.load(w, start)], lambda: [v.load(w, start, masked())], [v.t])

            def masked() -> str:
                return w.op(f"icmp ult {wide} {w.op(f'add {wide} {splat(at)}, {steps}')}, {limits}")

            def every_other() -> list[str]:
                halves = []
                for h in (0, 1):
                    first = w.add(at, h * v.lanes)
                    inside = w.op(f"icmp ult {wide} {w.op(f'add {wide} {splat(first)}, {iota}')}, {limits}")
                    halves.append(v.load(w, w.plus(start, h * v.bytes), inside))
                return [v.shuffle(w, halves[0], halves[1], range(0, 2 * v.lanes, 2))]

            def apart() -> list[str]:
                pointers = w.op(f"getelementptr {v.element}, ptr {start}, {wide} {steps}")
                return [w.call(v.t, f"llvm.masked.gather.{v.mangled}.v{v.lanes}p0", (f"<{v.lanes} x ptr>", pointers), ("i32", str(self.size)),
                               (v.bit, masked()), (v.t, "zeroinitializer"))]
            value, = w.when(w.compare("eq", "%step", 1), neighbours, lambda: w.when(w.compare("eq", "%step", 2), every_other, apart, [v.t]), [v.t])
            v.store(w, value, w.plus("%to", w.mul(q, self.size)))       # past the end of the row: there the next one is written later
        w.loop(0, "%count", v.lanes, [], some)
        w.do("ret void")
        return w.text()

    def direct_kernel(self) -> str:
        p, v = self.product, self.v
        assert isinstance(p.window, Direct)
        axes = p.window.axes
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)
        word, memory = self.words(w)
        bases = [memory(x) for x in (Words.A_TABLE, Words.B_TABLE, Words.C_TABLE)]
        m_size, k = word(Words.M), word(Words.K)
        a_row, a_k, c_row = word(Words.A_ROW), word(Words.A_K), word(Words.C_ROW)
        own = w.plus("%args", w.mul(word(Words.DIRECT), 8))

        def of(i: int) -> str:
            return w.load("i64", w.plus(own, 8 * i), 8)
        channels, channel_step = of(0), of(1)
        sizes, steps, origins, limits, strides, extents, spans, apart, whole = ([of(2 + 9 * a + i) for a in range(axes)] for i in range(9))
        plane, phase, lead, groups = (of(2 + 9 * axes + i) for i in range(4))
        turns = p.window.turns
        phase_words = w.plus(own, 8 * (6 + 9 * axes))
        units = w.div(w.sub(w.add(sizes[0], lead), 1), lead)
        # scratch: tiles and panels of A of the phases that take turns, the copy
        tiles = [w.plus("%scratch", t * p.rows * self.pitch_b) for t in range(turns)]
        k_room = w.op(f"and i64 {w.add(k, v.lanes - 1)}, {-v.lanes}")
        panels = [w.plus("%scratch", turns * p.rows * self.pitch_b)]
        for _ in range(turns):
            panels.append(w.plus(panels[-1], w.mul(k_room, self.pitch_a)))
        image = panels.pop()
        # a step along each axis in the copy, and in the result, in elements
        in_copy, in_result = ["1"], ["1"]
        for a in reversed(range(1, axes)):
            in_copy.insert(0, w.mul(in_copy[0], spans[a]))
            in_result.insert(0, w.mul(in_result[0], whole[a]))

        def unit(u: str, _: list[str]) -> None:
            batch, part = w.div(u, units), w.rem(u, units)
            first = w.mul(part, lead)
            count = w.min(lead, w.sub(sizes[0], first))
            entries, (a, b, c) = self.batch_entry(w, word, batch, bases)
            # positions that the copy's first axis starts with, and how many it has: the extent is that of a whole unit
            start = w.mul(first, steps[0])
            self.copy_image(w, b, image, channels, channel_step, steps, [w.add(origins[0], start), *origins[1:]], limits, strides, extents,
                            in_copy, plane, phase)
            columns = w.add(w.mul(w.sub(count, 1), in_copy[0]), 1)
            for n, s in zip(sizes[1:], in_copy[1:], strict=True):
                columns = w.add(columns, w.mul(w.sub(n, 1), s))

            def panel(i: str, _: list[str]) -> None:
                rows = w.min(w.sub(m_size, i), p.rows)
                ai, ci = w.plus(a, w.mul(i, a_row)), w.plus(c, w.mul(i, c_row))

                def group(_: str, at: list[str]) -> list[str]:
                    starts = [w.load("i64", w.plus(at[0], 8 * x), 8) for x in range(axes - 1)]
                    phases = [[w.load("i64", w.plus(at[0], 8 * (axes - 1 + 3 * t + x)), 8) for x in range(3)] for t in range(turns)]
                    panels_of_a = [self.factor(w, w.plus(ai, offset), a_row, a_k, rows, depth, to)
                                   for to, (offset, depth, _) in zip(panels, phases, strict=True)]

                    def tile(j: str, _: list[str]) -> None:
                        left = w.sub(columns, j)
                        here = w.plus(image, w.mul(j, self.size))
                        for to, its_a, (_offset, depth, taps) in zip(tiles, panels_of_a, phases, strict=True):
                            self.multiply(w, rows, left, depth, its_a, here, to, w.plus(own, taps), plane, channels)
                        end = w.min(w.add(j, self.width), columns)
                        self.store_runs(w, tiles, j, end, rows, ci, c_row, first, starts, sizes, spans, apart, whole, in_result)
                    w.loop(0, columns, self.width, [], tile)
                    return [w.plus(at[0], 8 * (axes - 1 + 3 * turns))]
                w.loop(0, groups, 1, [("ptr", phase_words)], group)
                if p.epilogue is not None:
                    ends = [w.mul(w.min(w.mul(x, apart[0]), whole[0]), in_result[0]) for x in (first, w.add(first, count))]
                    self.finish(w, entries, i, w.add(i, rows), *ends)
            w.loop(0, m_size, p.rows, [], panel)
        self.opening(w)
        w.loop("%begin", "%end", 1, [], unit)
        self.closing(w)
        w.do("ret void")
        return w.text()

    def factor(self, w: Writer, a: str, a_row: str, a_k: str, rows: str, depth: str, panel: str) -> list[str]:
        """Rows of A as :meth:`multiply` takes them: here a packed panel."""
        self.pack_panel(w, a, a_row, a_k, rows, depth, panel)
        return [panel]

    def multiply(self, w: Writer, rows: str, columns: str, depth: str, a: list[str], b: str, to: str, taps: str, plane: str, channels: str) -> None:
        """A tile, into scratch memory."""
        def run(m: int) -> None:
            self.narrowest(w, columns, lambda n: w.do(
                f"call void @NAME.tile{m}x{n}t(i64 {depth}, ptr {a[0]}, ptr {b}, i64 0, ptr {to}, i64 {self.pitch_b}, i64 {m}, "
                f"i64 {self.width}, i64 0, ptr {taps})"))
        self.shortest(w, rows, run)

    def copy_image(self, w: Writer, b: str, image: str, channels: str, channel_step: str, steps: list[str], origins: list[str],
                   limits: list[str], strides: list[str], extents: list[str], in_copy: list[str], plane: str, phase_bytes: str) -> None:
        """Fill the copy: for every channel and every remainder of the positions, row after row.

        A row may begin before the one before it has ended: there both are 0.
        """
        axes = len(steps)
        phases = steps[0]
        for s in steps[1:]:
            phases = w.mul(phases, s)
        rows = "1"
        for e in extents[:-1]:
            rows = w.mul(rows, e)

        def channel(c: str, _: list[str]) -> None:
            source, to = w.plus(b, w.mul(c, w.mul(channel_step, self.planes))), w.plus(image, w.mul(c, plane))

            def phase(f: str, _: list[str]) -> None:
                remainder = digits(w, f, steps)
                plane_to = w.plus(to, w.mul(f, phase_bytes))

                def row(_: str, quotient: list[str]) -> list[str]:
                    start, inside, row_to = source, "true", plane_to
                    for i, q in enumerate(quotient):
                        row_to = w.plus(row_to, w.mul(w.mul(q, in_copy[i]), self.size))
                        position = w.add(w.add(w.mul(q, steps[i]), remainder[i]), origins[i])
                        inside = w.op(f"and i1 {inside}, {w.compare('ult', position, limits[i])}")
                        start = w.plus(start, w.mul(position, strides[i]))
                    limit = w.select(inside, "i64", limits[-1], 0)
                    first = w.add(remainder[-1], origins[-1])
                    w.do(f"call void @NAME.row(ptr {start}, i64 {channel_step}, i64 {first}, i64 {steps[-1]}, i64 {limit}, i64 {extents[-1]}, ptr {row_to})")
                    return following(w, quotient, extents[:-1]) if axes > 1 else []
                w.loop(0, rows, 1, [("i64", "0")] * (axes - 1), row)
            w.loop(0, phases, 1, [], phase)
        w.loop(0, channels, 1, [], channel)

    def store_runs(self, w: Writer, tiles: list[str], j0: str, j1: str, rows: str, c: str, c_row: str, first: str, starts: list[str], sizes: list[str],
                   spans: list[str], apart: list[str], whole: list[str], in_result: list[str]) -> None:
        """Store the columns of tiles that belong to somebody, one row of the image after the other; several tiles' columns take turns."""
        sums, p = self.sum, self.product
        turns = len(tiles)
        pitch = spans[-1] if len(sizes) > 1 else str(1 << 40)

        def segment(t: str, _: list[str]) -> None:
            index = digits(w, t, spans[:-1]) if len(sizes) > 1 else []
            start = w.mul(t, pitch)
            lo, hi = w.max(j0, start), w.min(j1, w.add(start, sizes[-1]))
            column = w.sub(lo, start)
            if index:
                index[0] = w.add(index[0], first)
            else:
                column = w.add(column, first)
            column = w.mul(column, turns)
            count = w.min(w.mul(w.sub(hi, lo), turns), w.sub(whole[-1], column))
            for i, s, far, n, step in zip(index, starts, apart, whole, in_result, strict=False):
                at = w.add(w.mul(i, far), s)
                column = w.add(column, w.mul(at, step))
                count = w.select(w.compare("slt", at, n), "i64", count, 0)      # rows between those of two outer positions, and after the last

            def store() -> None:
                masks = [sums.mask(w, w.sub(count, g * p.lanes)) for g in range(p.vectors * turns)]
                ahead = w.mul(w.sub(lo, j0), self.size)

                def row(_: str, at: list[str]) -> list[str]:
                    *sources, to = at
                    for g in range(p.vectors):
                        mask = masks[g] if turns == 1 else None
                        values = [sums.load(w, w.plus(x, g * sums.bytes), mask) for x in sources]
                        for t, value in enumerate(sums.interleave(w, values)):
                            self.store_result(w, value, w.plus(to, (g * turns + t) * p.lanes * self.result_size), masks[g * turns + t])
                    return [*[w.plus(x, self.pitch_b) for x in sources], w.plus(to, c_row)]
                w.loop(0, rows, 1, [*(("ptr", w.plus(x, ahead)) for x in tiles), ("ptr", w.plus(c, w.mul(column, self.result_size)))], row)
            w.when(w.compare("sgt", count, 0), store)
        w.loop(w.div(j0, pitch), w.add(w.div(w.sub(j1, 1), pitch), 1), 1, [], segment)

    def store_result(self, w: Writer, value: str, to: str, mask: str) -> None:
        """A vector of results."""
        self.sum.store(w, value, to, mask)
