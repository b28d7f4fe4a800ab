"""Products as LLVM IR: packing, the loops over blocks, and micro-kernels whose tile of the result stays in registers.

Input: a :class:`~flambeau.ir.product.Product`; output: one text with the kernel ``@NAME`` in the ABI of all kernels and the
internal functions it calls.  The loops, outermost first:

    units (a batch entry, a range of columns, a range of rows)
      k by K_BLOCK                          partial sums are kept in C between blocks
        columns by N_BLOCK                  the block of B is packed into scratch memory, tile by tile; it stays in the second-level cache
          rows by the height of a tile      the panel of A is packed as [k][row]: it stays in the first-level cache
            columns by the width of a tile  micro-kernel: one load per vector of B, one broadcast per row of A, rows x vectors fmas

Packing only ever writes scratch memory.  A tile at the lower edge computes rows that nobody asked for and overwrites them, one at the right edge is masked.
Every element adds its products in the order of k, whatever the tiles, so the result does not depend on how units are shared out.
"""

from __future__ import annotations

from ..ir.product import Product, Words
from .llvm import render_window
from .writer import Vectors, Writer

PREFETCH = 128              # bytes ahead of the columns that are read and packed in passing


def heights(rows: int) -> list[int]:
    """The heights that micro-kernels exist in, tallest first: what is left of a range of rows goes to the next taller one."""
    return [rows] + [h for h in (8, 4, 2, 1) if h < rows]


def render_product(product: Product) -> str:
    """The LLVM IR of one product; equal products give equal texts."""
    return _Product(product).text()


class _Product:
    def __init__(self, product: Product) -> None:
        self.product = product
        d = product.dtype
        element = {"float32": "float", "float64": "double"}.get(d.name, f"i{8 * d.itemsize}")
        self.v = Vectors(element, product.lanes, d.itemsize)
        self.size = d.itemsize
        self.declared: dict[str, None] = {}
        self.groups = -(-product.rows // product.lanes)         # vectors that hold a column of A's panel
        self.pitch_a = self.groups * self.v.bytes
        self.pitch_b = product.vectors * self.v.bytes
        self.width = product.vectors * product.lanes            # columns of a tile

    def text(self) -> str:
        p = self.product
        functions = [self.pack_transposed()] if "k" in (p.a_unit, p.b_unit) else []
        if p.a_unit == "row" or p.b_unit == "column":
            functions.append(self.pack_rows())
        for m in heights(p.rows):
            functions += [self.micro(m, n, packing=False) for n in range(1, p.vectors + 1)]
        if p.b_unit == "column":
            functions += [self.micro(p.rows, n, packing=True) for n in range(1, p.vectors + 1)]
        if p.epilogue is not None:
            functions.append(render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared))
        functions.append(self.kernel())
        return "\n".join([*functions, *self.declared, ""])

    # ------------------------------------------------------------ packing

    def pack_transposed(self) -> str:
        """``[row][k]`` to ``[k][row]``: one vector's worth of rows (the last valid one repeated), by squares transposed in registers."""
        v = self.v
        w = Writer("define internal void @NAME.transpose(ptr %from, i64 %row, i64 %valid, i64 %k, ptr %to, i64 %pitch) #ATTR", self.declared)
        last = w.sub("%valid", 1)
        starts = [w.plus("%from", w.mul(w.min(r, last), "%row")) for r in range(v.lanes)]
        whole = w.op(f"and i64 %k, {-v.lanes}")

        def square(k: str, mask: str | None) -> None:
            at = w.mul(k, self.size)
            to = w.plus("%to", w.mul(k, "%pitch"))
            for row in v.transpose(w, [v.load(w, w.plus(s, at), mask) for s in starts]):
                v.store(w, row, to, align=v.bytes)
                to = w.plus(to, "%pitch")
        w.loop(0, whole, v.lanes, [], lambda k, _: square(k, None))
        rest = w.sub("%k", whole)
        w.when(w.compare("sgt", rest, 0), lambda: square(whole, v.mask(w, rest)))
        w.do("ret void")
        return w.text()

    def pack_rows(self) -> str:
        """``[k][row]`` to the same with another pitch: up to one vector of each row of memory, what is not valid as zero."""
        v = self.v
        w = Writer("define internal void @NAME.copy(ptr %from, i64 %step, i64 %valid, i64 %k, ptr %to, i64 %pitch) #ATTR", self.declared)
        mask = v.mask(w, "%valid")

        def row(_: str, at: list[str]) -> list[str]:
            v.store(w, v.load(w, at[0], mask), at[1], align=v.bytes)
            return [w.plus(at[0], "%step"), w.plus(at[1], "%pitch")]
        w.loop(0, "%k", 1, [("ptr", "%from"), ("ptr", "%to")], row)
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ the micro-kernel

    def micro(self, m: int, n: int, packing: bool) -> str:
        """``C[m x n vectors] (+)= A panel · B``; with ``packing`` also stores B's vectors, tile after tile, where ``%keep`` points."""
        v = self.v
        w = Writer(f"define internal void @NAME.tile{m}x{n}{'p' if packing else ''}(i64 %k, ptr %a, ptr %b, i64 %bk, ptr %c, i64 %crow, i64 %rows, "
                   "i64 %columns, i64 %more, ptr %keep) #ATTR", self.declared)
        mask = v.mask(w, w.sub("%columns", v.lanes * (n - 1)))
        last = w.sub("%rows", 1)
        at_row = [w.plus("%c", w.mul(w.min(r, last), "%crow")) if r else "%c" for r in range(m)]
        for p in at_row:
            w.prefetch(p, write=True)
            if n > 1:
                w.prefetch(w.plus(p, v.bytes * n - v.itemsize), write=True)
        carried = [(v.t, "zeroinitializer")] * (m * n) + [("ptr", "%a"), ("ptr", "%b")] + ([("ptr", "%keep")] if packing else [])

        def step(_: str, values: list[str]) -> list[str]:
            sums, (a, b, *keep) = list(values[:m * n]), values[m * n:]
            row = [v.load(w, w.plus(b, v.bytes * j), mask if j == n - 1 else None) for j in range(n)]
            if packing:
                for j in range(n):
                    v.store(w, row[j], w.plus(keep[0], v.bytes * j), align=v.bytes)
                    w.prefetch(w.plus(b, PREFETCH + v.bytes * j))
            for r in range(m):
                x = v.splat(w, w.load(v.element, w.plus(a, self.size * r), self.size))
                for j in range(n):
                    sums[r * n + j] = v.multiply_add(w, x, row[j], sums[r * n + j])
            return [*sums, w.plus(a, self.pitch_a), w.plus(b, "%bk"), *([w.plus(keep[0], self.pitch_b)] if packing else [])]
        sums = w.loop(0, "%k", 1, carried, step)[:m * n]

        def place(r: int, j: int) -> tuple[str, str | None]:
            return w.plus(at_row[r], v.bytes * j), mask if j == n - 1 else None
        sums = w.when(w.compare("ne", "%more", 0),
                      lambda: [v.add(w, sums[r * n + j], v.load(w, *place(r, j))) for r in range(m) for j in range(n)],
                      lambda: sums, [v.t] * (m * n))
        for r in reversed(range(m)):        # rows beyond the last one go where that one goes, before it
            for j in range(n):
                v.store(w, sums[r * n + j], *place(r, j))
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ the loops

    def kernel(self) -> str:
        p, v = self.product, self.v
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)

        def word(n: int) -> str:
            return w.load("i64", w.plus("%args", 8 * n), 8)

        def memory(which: int) -> str:
            base = w.load("ptr", w.plus("%table", w.mul(word(which), 8)), 8)
            return w.plus(base, word(which + 1))
        a_base, b_base, c_base = (memory(x) for x in (Words.A_TABLE, Words.B_TABLE, Words.C_TABLE))
        m_size, n_size, k_size = word(Words.M), word(Words.N), word(Words.K)
        a_row, a_k, b_k, b_column, c_row = (word(x) for x in (Words.A_ROW, Words.A_K, Words.B_K, Words.B_COLUMN, Words.C_ROW))
        k_block, n_block = word(Words.K_BLOCK), word(Words.N_BLOCK)
        m_unit, n_unit, m_units, n_units = (word(x) for x in (Words.M_UNIT, Words.N_UNIT, Words.M_UNITS, Words.N_UNITS))
        panel = "%scratch"
        k_room = w.op(f"and i64 {w.add(k_block, v.lanes - 1)}, {-v.lanes}")      # squares are stored whole
        block = w.plus("%scratch", w.mul(k_room, self.pitch_a))
        tile_bytes = w.mul(k_room, self.pitch_b)

        def unit(u: str, _: list[str]) -> None:
            """The units from ``u`` on that differ in their rows only, as one range of rows."""
            across = w.div(u, m_units)
            first = w.sub(u, w.mul(across, m_units))
            stop = w.min(w.add(first, w.sub("%end", u)), m_units)
            batch, column = w.div(across, n_units), w.rem(across, n_units)
            m0, m1 = w.mul(first, m_unit), w.min(w.mul(stop, m_unit), m_size)
            n0 = w.mul(column, n_unit)
            n1 = w.min(w.add(n0, n_unit), n_size)
            a, b, c = a_base, b_base, c_base
            entries: list[str] = []
            for axis in reversed(range(p.batch)):
                at = Words.BATCH + 4 * axis
                size = word(at)
                entry = w.rem(batch, size)
                batch = w.div(batch, size)
                entries.insert(0, entry)
                a, b, c = (w.plus(x, w.mul(entry, word(at + 1 + i))) for i, x in enumerate((a, b, c)))

            def k_blocks(k0: str, _: list[str]) -> None:
                k = w.min(k_block, w.sub(k_size, k0))
                more = w.select(w.compare("eq", k0, 0), "i64", 0, 1)
                complete = w.compare("sge", w.add(k0, k), k_size)
                ak, bk = w.plus(a, w.mul(k0, a_k)), w.plus(b, w.mul(k0, b_k))

                def n_blocks(j0: str, _: list[str]) -> None:
                    j1 = w.min(w.add(j0, n_block), n1)
                    bj = w.plus(bk, w.mul(j0, b_column))
                    # in passing: while the first panel is multiplied, if it is of full height and there is another one
                    passing = w.compare("sgt", w.sub(m1, m0), p.rows) if p.b_unit == "column" else "false"

                    def pack() -> None:
                        def tile(j: str, _: list[str]) -> None:
                            to = w.plus(block, w.mul(w.div(w.sub(j, j0), self.width), tile_bytes))
                            for g in range(p.vectors):
                                valid = w.sub(w.sub(j1, j), g * p.lanes)
                                start = w.plus(bk, w.mul(w.add(j, g * p.lanes), b_column))
                                w.when(w.compare("sgt", valid, 0), lambda start=start, valid=valid, to=w.plus(to, g * v.bytes): w.do(  # type: ignore[misc]
                                    f"call void @NAME.transpose(ptr {start}, i64 {b_column}, i64 {valid}, i64 {k}, ptr {to}, i64 {self.pitch_b})"))
                        w.loop(j0, j1, self.width, [], tile)
                    if p.b_unit == "k":
                        pack()

                    def panels(i: str, _: list[str]) -> list[str]:
                        rows = w.min(w.sub(m1, i), p.rows)
                        ai, ci = w.plus(ak, w.mul(i, a_row)), w.plus(c, w.mul(i, c_row))
                        for g in range(self.groups):
                            valid = w.sub(rows, g * p.lanes)
                            start, to = w.plus(ai, w.mul(a_row, g * p.lanes)), w.plus(panel, g * v.bytes)
                            name, step = ("transpose", a_row) if p.a_unit == "k" else ("copy", a_k)

                            def one(name: str = name, step: str = step, valid: str = valid, start: str = start, to: str = to) -> None:
                                w.do(f"call void @NAME.{name}(ptr {start}, i64 {step}, i64 {valid}, i64 {k}, ptr {to}, i64 {self.pitch_a})")
                            if g:
                                w.when(w.compare("sgt", valid, 0), one)
                            else:
                                one()
                        opening = w.compare("eq", i, m0)

                        def tiles(j: str, _: list[str]) -> None:
                            columns = w.sub(j1, j)
                            packed = w.plus(block, w.mul(w.div(w.sub(j, j0), self.width), tile_bytes))
                            cij = w.plus(ci, w.mul(j, self.size))

                            def run(m: int, packing: bool, source: str, step: str | int) -> None:
                                def of(n: int) -> None:
                                    w.do(f"call void @NAME.tile{m}x{n}{'p' if packing else ''}(i64 {k}, ptr {panel}, ptr {source}, i64 {step}, "
                                         f"ptr {cij}, i64 {c_row}, i64 {rows}, i64 {columns}, i64 {more}, ptr {packed})")

                                def narrowest(n: int) -> None:
                                    if n == p.vectors:
                                        of(n)
                                    else:
                                        w.when(w.compare("sle", columns, n * p.lanes), lambda: of(n), lambda: narrowest(n + 1))
                                narrowest(1)

                            def by_height(source: str, step: str | int) -> None:
                                def shortest(fits: list[int]) -> None:
                                    if len(fits) == 1:
                                        run(fits[0], False, source, step)
                                    else:
                                        w.when(w.compare("sgt", rows, fits[1]), lambda: run(fits[0], False, source, step), lambda: shortest(fits[1:]))
                                shortest(heights(p.rows))
                            if p.b_unit == "k":
                                by_height(packed, self.pitch_b)
                                return
                            in_place = w.plus(bj, w.mul(w.sub(j, j0), self.size))

                            def unpacked() -> None:
                                w.when(passing, lambda: run(p.rows, True, in_place, b_k), lambda: by_height(in_place, b_k))
                            w.when(opening, unpacked, lambda: by_height(packed, self.pitch_b))
                        w.loop(j0, j1, self.width, [], tiles)
                        if p.epilogue is not None:
                            def finish() -> None:
                                ends = [x for e in entries for x in (e, w.add(e, 1))] + [i, w.add(i, rows), j0, j1]
                                words = w.plus("%args", 8 * p.words)
                                w.do(f"call void @NAME.finish(ptr %table, ptr {words}, {', '.join(f'i64 {x}' for x in ends)})")
                            w.when(complete, finish)
                        return []
                    w.loop(m0, m1, p.rows, [], panels)
                w.loop(n0, n1, n_block, [], n_blocks)
            w.loop(0, k_size, k_block, [], k_blocks)

        # the step: as many units as lie along the rows from here on
        w.loop("%begin", "%end", lambda u: w.sub(m_units, w.rem(u, m_units)), [], unit)
        w.do("ret void")
        return w.text()
