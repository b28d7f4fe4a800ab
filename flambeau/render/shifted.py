"""Products of one factor with another that is shifted by every tap of a window: the gradient of a convolution's weight.

Input: a :class:`~flambeau.ir.product.Product` with a :class:`~flambeau.ir.product.Shifted` window; output as of :mod:`.product`.  The loops:

    units (a batch entry, a block of channels as wide as a tile, some taps)
      images, parts of them           the image is copied as [place][channel], with the zeros around it: it stays in the second-level cache
        places by a chunk
          rows by the height of a tile  the panel of A is packed as [place][row]
            taps                        micro-kernel: B's row for a place lies where a table says, from the tap's offset on

Sums over chunks are added up in the result.  Of few channels a place of the copy has just these, so that a row of B is the channels of neighbouring places,
which are those that the taps along a row see.  Vectors are stored whole, from the first place on: what is too much is overwritten by the next place.
"""

from __future__ import annotations

from ..ir.product import Shifted, Words
from .product import ProductWriter, following, heights
from .writer import Writer


class ShiftedWriter(ProductWriter):
    """Writes the functions of one product over shifted images."""

    def text(self) -> str:
        p = self.product
        functions = [self.pack_transposed(aligned=False), self.zeros()]
        functions += [self.micro(m, n, table=True) for m in heights(p.rows) for n in range(1, p.vectors + 1)]
        return "\n".join([*functions, self.shifted_kernel(), *self.declared, ""])

    def zeros(self) -> str:
        """No channel has anything at ``count`` places."""
        w = Writer("define internal void @NAME.zeros(i64 %count, i64 %pitch, ptr %to) #ATTR", self.declared)

        def place(_: str, at: list[str]) -> list[str]:
            for g in range(self.product.vectors):
                self.v.store(w, "zeroinitializer", w.plus(at[0], g * self.v.bytes))
            return [w.plus(at[0], "%pitch")]
        w.loop(0, "%count", 1, [("ptr", "%to")], place)
        w.do("ret void")
        return w.text()

    def shifted_kernel(self) -> str:
        p = self.product
        assert isinstance(p.window, Shifted)
        axes = p.window.axes
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)
        word, memory = self.words(w)
        bases = [memory(x) for x in (Words.A_TABLE, Words.B_TABLE, Words.C_TABLE)]
        m_size, channels, a_row, c_row = (word(x) for x in (Words.M, Words.N, Words.A_ROW, Words.C_ROW))
        own = w.plus("%args", w.mul(word(Words.DIRECT), 8))

        def of(i: int) -> str:
            return w.load("i64", w.plus(own, 8 * i), 8)
        images, a_image, b_image, many, channel_step, c_tap, taps, unit_taps, lead, inner, chunk, copied, pitch = (of(i) for i in range(13))
        sizes, steps, origins, limits, strides, extents = ([of(13 + 6 * a + i) for a in range(axes)] for i in range(6))
        shifts = w.plus(own, 8 * (13 + 6 * axes))
        places = w.plus(shifts, w.mul(taps, 8))
        blocks = w.div(w.add(channels, self.width - 1), self.width)
        groups = w.div(w.sub(w.add(taps, unit_taps), 1), unit_taps)
        parts = w.div(w.sub(w.add(sizes[0], lead), 1), lead)
        # scratch: the panel of A, then the copy
        panel = "%scratch"
        image = w.plus("%scratch", w.mul(w.add(w.mul(chunk, many), p.lanes), self.pitch_a))
        rows_each, plane = "1", extents[-1]
        for e in extents[:-1]:
            rows_each, plane = w.mul(rows_each, e), w.mul(plane, e)
        plane_bytes = w.mul(plane, pitch)

        def unit(number: str, _: list[str]) -> None:
            group = w.rem(number, groups)
            number = w.div(number, groups)
            block, batch = w.rem(number, blocks), w.div(number, blocks)
            _, (a, b, c) = self.batch_entry(w, word, batch, bases)
            c0 = w.mul(block, self.width)
            columns = w.min(w.sub(channels, c0), self.width)
            bc, cc = w.plus(b, w.mul(c0, channel_step)), w.plus(c, w.mul(c0, self.size))
            t0 = w.mul(group, unit_taps)
            t1 = w.min(w.add(t0, unit_taps), taps)

            def copy(source: str, to: str, first: str) -> None:
                """One image's rows of positions from ``first`` on of the first axis."""
                starts = [w.add(origins[0], w.mul(first, steps[0])), *origins[1:]]
                # of a row, the positions before the first one, and those that exist
                before = w.min(w.max(w.sub("0", starts[-1]), 0), extents[-1])
                there = w.max(w.sub(w.min(w.sub(limits[-1], starts[-1]), extents[-1]), before), 0)
                after = w.sub(w.sub(extents[-1], before), there)

                def row(_: str, carried: list[str]) -> list[str]:
                    to, *index = carried
                    at, inside = source, "true"
                    for i, q in enumerate(index):
                        position = w.add(q, starts[i])
                        inside = w.op(f"and i1 {inside}, {w.compare('ult', position, limits[i])}")
                        at = w.plus(at, w.mul(position, strides[i]))
                    at = w.plus(at, w.mul(w.add(starts[-1], before), self.size))

                    def some() -> None:
                        w.do(f"call void @NAME.zeros(i64 {before}, i64 {pitch}, ptr {to})")
                        start = w.plus(to, w.mul(before, pitch))
                        for g in range(p.vectors):
                            valid = w.sub(w.sub(copied, c0), g * p.lanes)
                            w.when(w.compare("sgt", valid, 0), lambda valid=valid, g=g: w.do(  # type: ignore[misc]
                                f"call void @NAME.transpose(ptr {w.plus(at, w.mul(channel_step, g * p.lanes))}, i64 {channel_step}, i64 {valid}, "
                                f"i64 {there}, ptr {w.plus(start, g * self.v.bytes)}, i64 {pitch})"))
                        # squares are stored whole
                        w.do(f"call void @NAME.zeros(i64 {after}, i64 {pitch}, ptr {w.plus(start, w.mul(there, pitch))})")
                    w.when(inside, some, lambda: w.do(f"call void @NAME.zeros(i64 {extents[-1]}, i64 {pitch}, ptr {to})"))
                    to = w.plus(to, w.mul(extents[-1], pitch))
                    return [to, *(following(w, index, extents[:-1]) if axes > 1 else [])]
                w.loop(0, rows_each, 1, [("ptr", to), *[("i64", "0")] * (axes - 1)], row)

            def piece(number: str, _: list[str]) -> None:
                n0, part = w.mul(w.div(number, parts), many), w.rem(number, parts)
                first = w.mul(part, lead)
                here = w.min(many, w.sub(images, n0))
                each = w.mul(w.min(lead, w.sub(sizes[0], first)), inner)

                def one(i: str, at: list[str]) -> list[str]:
                    copy(w.plus(bc, w.mul(w.add(n0, i), b_image)), at[0], first)
                    return [w.plus(at[0], plane_bytes)]
                w.loop(0, here, 1, [("ptr", image)], one)
                start = w.plus(w.plus(a, w.mul(n0, a_image)), w.mul(w.mul(first, inner), self.size))

                def some_places(k0: str, _: list[str]) -> None:
                    depth = w.min(chunk, w.sub(each, k0))       # of an image; where there are several, this is all of each
                    total = w.mul(depth, here)
                    opening = w.op(f"and i1 {w.compare('eq', number, 0)}, {w.compare('eq', k0, 0)}")
                    more = w.select(opening, "i64", 0, 1)

                    def rows(i: str, _: list[str]) -> None:
                        count = w.min(w.sub(m_size, i), p.rows)
                        ai = w.plus(w.plus(start, w.mul(i, a_row)), w.mul(k0, self.size))
                        ci = w.plus(cc, w.mul(i, c_row))

                        def pack(x: str, at: list[str]) -> list[str]:
                            self.pack_panel(w, w.plus(ai, w.mul(x, a_image)), a_row, str(self.size), count, depth, at[0])
                            return [w.plus(at[0], w.mul(depth, self.pitch_a))]
                        w.loop(0, here, 1, [("ptr", panel)], pack)

                        def tap(t: str, _: list[str]) -> None:
                            shifted = w.plus(image, w.load("i64", w.plus(shifts, w.mul(t, 8)), 8))
                            to = w.plus(ci, w.mul(t, c_tap))
                            self.shortest(w, count, lambda m: self.narrowest(w, columns, lambda n: w.do(
                                f"call void @NAME.tile{m}x{n}s(i64 {total}, ptr {panel}, ptr {shifted}, i64 0, ptr {to}, i64 {c_row}, i64 {count}, "
                                f"i64 {columns}, i64 {more}, ptr {w.plus(places, w.mul(k0, 8))})")))
                        w.loop(t0, t1, 1, [], tap)
                    w.loop(0, m_size, p.rows, [], rows)
                w.loop(0, each, chunk, [], some_places)
            pieces = w.mul(w.div(w.sub(w.add(images, many), 1), many), parts)
            w.loop(0, pieces, 1, [], piece)
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return w.text()


