"""Products whose B is the windows of an image: the image is copied once, with the zeros around it, and read in place for every k.

Input: a :class:`~flambeau.ir.product.Product` with a :class:`~flambeau.ir.product.Direct` window; output as of :mod:`.product`.  A
unit is a batch entry and a range of the first column axis.  Its part of the image is copied to scratch memory, channel by channel,
every row followed by the next (the zeros between two rows serve both): a row of B for some k and all columns is then that memory from
an offset on, the same for every tile.  Between the rows lie columns that belong to nobody; a tile is computed whole, into scratch
memory, and its runs are stored from there.
"""

from __future__ import annotations

from ..ir.product import Direct, Words
from .llvm import render_window
from .product import ProductWriter, digits, following, heights
from .writer import Writer


class DirectWriter(ProductWriter):
    """Writes the functions of one product over a direct window."""

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
        w = Writer("define internal void @NAME.row(ptr %from, i64 %first, i64 %step, i64 %limit, i64 %count, ptr %to) #ATTR", self.declared)
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

            def apart() -> list[str]:
                pointers = w.op(f"getelementptr {v.element}, ptr {start}, {wide} {steps}")
                return [w.call(v.t, f"llvm.masked.gather.{v.mangled}.v{v.lanes}p0", (f"<{v.lanes} x ptr>", pointers), ("i32", str(self.size)),
                               (v.bit, masked()), (v.t, "zeroinitializer"))]
            value, = w.when(w.compare("eq", "%step", 1), neighbours, apart, [v.t])
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
        sizes, steps, origins, limits, strides, extents, spans = ([of(2 + 7 * a + i) for a in range(axes)] for i in range(7))
        plane, phase, lead = (of(2 + 7 * axes + i) for i in range(3))
        taps = w.plus(own, 8 * (5 + 7 * axes))
        units = w.div(w.sub(w.add(sizes[0], lead), 1), lead)
        # scratch: a tile, the panel of A, the copy
        tile = "%scratch"
        panel = w.plus("%scratch", p.rows * self.pitch_b)
        k_room = w.op(f"and i64 {w.add(k, v.lanes - 1)}, {-v.lanes}")
        image = w.plus(panel, w.mul(k_room, self.pitch_a))
        # a step along each axis in the copy, and in the result, in elements
        in_copy, in_result = ["1"], ["1"]
        for a in reversed(range(1, axes)):
            in_copy.insert(0, w.mul(in_copy[0], spans[a]))
            in_result.insert(0, w.mul(in_result[0], sizes[a]))

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

            def panels(i: str, _: list[str]) -> None:
                rows = w.min(w.sub(m_size, i), p.rows)
                self.pack_panel(w, w.plus(a, w.mul(i, a_row)), a_row, a_k, rows, k, panel)
                ci = w.plus(c, w.mul(i, c_row))

                def tiles(j: str, _: list[str]) -> None:
                    left = w.sub(columns, j)
                    at = w.plus(image, w.mul(j, self.size))

                    def run(m: int) -> None:
                        def call(n: int) -> None:
                            w.do(f"call void @NAME.tile{m}x{n}t(i64 {k}, ptr {panel}, ptr {at}, i64 0, ptr {tile}, i64 {self.pitch_b}, i64 {m}, "
                                 f"i64 {self.width}, i64 0, ptr {taps})")
                        self.narrowest(w, left, call)
                    self.shortest(w, rows, run)
                    self.store_runs(w, tile, j, w.min(w.add(j, self.width), columns), rows, ci, c_row, first, sizes, spans, in_result)
                w.loop(0, columns, self.width, [], tiles)
                if p.epilogue is not None:
                    n0 = w.mul(first, in_result[0])
                    self.finish(w, entries, i, w.add(i, rows), n0, w.add(n0, w.mul(count, in_result[0])))
            w.loop(0, m_size, p.rows, [], panels)
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return w.text()

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
            source, to = w.plus(b, w.mul(c, channel_step)), w.plus(image, w.mul(c, plane))

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
                    w.do(f"call void @NAME.row(ptr {start}, i64 {first}, i64 {steps[-1]}, i64 {limit}, i64 {extents[-1]}, ptr {row_to})")
                    return following(w, quotient, extents[:-1]) if axes > 1 else []
                w.loop(0, rows, 1, [("i64", "0")] * (axes - 1), row)
            w.loop(0, phases, 1, [], phase)
        w.loop(0, channels, 1, [], channel)

    def store_runs(self, w: Writer, tile: str, j0: str, j1: str, rows: str, c: str, c_row: str, first: str, sizes: list[str],
                   spans: list[str], in_result: list[str]) -> None:
        """Store the columns of a tile that belong to somebody, one row of the image after the other."""
        v, p = self.v, self.product
        pitch = spans[-1] if len(sizes) > 1 else str(1 << 40)

        def segment(t: str, _: list[str]) -> None:
            index = digits(w, t, spans[:-1]) if len(sizes) > 1 else []
            start = w.mul(t, pitch)
            lo, hi = w.max(j0, start), w.min(j1, w.add(start, sizes[-1]))
            count = w.sub(hi, lo)
            column = w.sub(lo, start)
            if index:
                column = w.add(column, w.mul(w.add(index[0], first), in_result[0]))
            else:
                column = w.add(column, first)
            for i, s in zip(index[1:], in_result[1:], strict=False):
                column = w.add(column, w.mul(i, s))
            for i, n in zip(index[1:], sizes[1:-1], strict=False):     # rows between those of two outer positions
                count = w.select(w.compare("slt", i, n), "i64", count, 0)

            def store() -> None:
                masks = [v.mask(w, w.sub(count, g * p.lanes)) for g in range(p.vectors)]

                def row(_: str, at: list[str]) -> list[str]:
                    for g, mask in enumerate(masks):
                        v.store(w, v.load(w, w.plus(at[0], g * v.bytes), mask), w.plus(at[1], g * v.bytes), mask)
                    return [w.plus(at[0], self.pitch_b), w.plus(at[1], c_row)]
                w.loop(0, rows, 1, [("ptr", w.plus(tile, w.mul(w.sub(lo, j0), self.size))), ("ptr", w.plus(c, w.mul(column, self.size)))], row)
            w.when(w.compare("sgt", count, 0), store)
        w.loop(w.div(j0, pitch), w.add(w.div(w.sub(j1, 1), pitch), 1), 1, [], segment)
