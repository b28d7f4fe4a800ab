"""Products of bfloat16 on a processor's matrix unit (AMX): the loops of :mod:`.product` around another micro-kernel.

The unit has eight tile registers of 16 rows of 64 bytes.  Four hold 32 x 32 results as float32, two hold 32 rows of A (16 words of k), two
hold 16 words of k of 32 columns of B; a word is two neighbouring bfloat16 of k.  One instruction adds 16 x 16 x 32 products.  B's packed
tiles serve as they are; A's panel is ``[16 words of k][row][word]``.  k is filled up with zeros.
"""

from __future__ import annotations

from ..ir.product import Product
from .direct import DirectWriter
from .llvm import render_window
from .product import SHARED, ProductWriter
from .writer import Vectors, Writer

ROW = 64                    # bytes of a row of a tile register


class MatrixWriter(ProductWriter):
    """Writes the functions of one product for the matrix unit."""

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.pitch_a = 4 * product.rows

    def text(self) -> str:
        p = self.product
        functions = [self.pack_b(), self.pack_chunks(), *(self.tiles(n) for n in range(1, p.vectors + 1))]
        if p.epilogue is not None:
            functions.append(render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared))
        return "\n".join([*functions, self.kernel(), *self.declared, ""])

    # ------------------------------------------------------------ what differs in the loops

    def opening(self, w: Writer) -> None:
        """Give all tile registers 16 rows of 64 bytes."""
        state = w.op("alloca [64 x i8], align 64")
        w.store("<64 x i8>", "zeroinitializer", state, 64)
        w.store("i8", "1", state, 1)
        for tile in range(8):
            w.store("i16", str(ROW), w.plus(state, 16 + 2 * tile), 2)
            w.store("i8", "16", w.plus(state, 48 + tile), 1)
        w.call("void", "llvm.x86.ldtilecfg", ("ptr", state))

    def closing(self, w: Writer) -> None:
        w.call("void", "llvm.x86.tilerelease")

    def pack_panel(self, w: Writer, a: str, a_row: str, a_k: str, rows: str, k: str, panel: str) -> None:
        w.do(f"call void @NAME.chunks(ptr {a}, i64 {a_row}, i64 {rows}, i64 {k}, ptr {panel})")

    def a_lies_well(self, w: Writer, a_row: str, a_k: str, k: str, columns: str) -> str:
        """Where it has whole chunks of k, and its rows lie close together or there is little use for a copy."""
        near = w.op(f"or i1 {w.compare('sle', a_row, w.mul(k, 8))}, {w.compare('sle', columns, SHARED * self.width)}")
        return w.op(f"and i1 {w.compare('eq', w.op(f'and i64 {k}, 15'), 0)}, {near}")

    def a_steps(self, a_row: str, a_k: str) -> list[tuple[str, int]]:
        """From row to row, and from chunk to chunk."""
        return [(a_row, ROW), (str(ROW), self.product.rows * ROW)]

    def tile_heights(self) -> list[int]:
        return [self.product.rows]

    # ------------------------------------------------------------ functions

    def pack_chunks(self) -> str:
        """Rows of A, 16 words at a time; what is beyond their ends, and rows that are not there, is 0."""
        v, p = self.v, self.product
        w = Writer("define internal void @NAME.chunks(ptr %from, i64 %row, i64 %valid, i64 %k, ptr %to) #ATTR", self.declared)

        many = w.op(f"and i64 %k, {-v.lanes}")
        room = w.op(f"and i64 {w.add('%k', v.lanes - 1)}, {-v.lanes}")

        def row(r: str, valid: bool) -> None:
            start, to = w.plus("%from", w.mul(r, "%row")), w.plus("%to", w.mul(r, ROW))

            def some(k: str, mask: str | None) -> None:
                x = v.load(w, w.plus(start, w.mul(k, 4)), mask) if valid else "zeroinitializer"
                v.store(w, x, w.plus(to, w.mul(k, 4 * p.rows)), align=ROW)
            w.loop(0, many if valid else room, v.lanes, [], lambda k, _: some(k, None))
            if valid:
                w.loop(many, "%k", v.lanes, [], lambda k, _: some(k, v.mask(w, w.sub("%k", k))))
        w.loop(0, "%valid", 1, [], lambda r, _: row(r, True))
        w.loop("%valid", p.rows, 1, [], lambda r, _: row(r, False))
        w.do("ret void")
        return w.text()

    def chunk(self, w: Writer, n: int, a: str, a_row: str, lower: str, b: str, b_row: str | int) -> None:
        """Sums += 32 rows of A by n vectors of columns of B, for 16 words of k; ``lower``: where the second 16 rows lie."""
        for i in range(2):
            self.tile(w, "tileloadd64", 4 + i, w.plus(a, lower) if i else a, a_row)
            for j in range(n):
                if i == 0:
                    self.tile(w, "tileloadd64", 6 + j, w.plus(b, j * ROW), b_row)
                w.call("void", "llvm.x86.tdpbf16ps", *(("i8", str(t)) for t in (i * n + j, 4 + i, 6 + j)))

    def tile(self, w: Writer, name: str, number: int, at: str, step: str | int) -> None:
        """Load or store a tile register."""
        w.call("void", f"llvm.x86.{name}", ("i8", str(number)), ("ptr", at), ("i64", str(step)))

    def every(self, w: Writer, name: str, n: int, at: str, step: str | int) -> None:
        """Load or store all results."""
        for t in range(2 * n):
            i, j = divmod(t, n)
            self.tile(w, name, t, w.plus(w.plus(at, w.mul(step, 16 * i)), j * ROW), step)

    def zero(self, w: Writer, n: int) -> None:
        for t in range(2 * n):
            w.call("void", "llvm.x86.tilezero", ("i8", str(t)))

    def tiles(self, n: int) -> str:
        """``C[32 x n vectors] (+)= A panel · B``: in place where all of the tile exists, or else, and where it is rounded, on a copy of what does."""
        p, sum_ = self.product, self.sum
        w = Writer(f"define internal void @NAME.tile{p.rows}x{n}(i64 %k, ptr %a, i64 %arow, i64 %achunk, ptr %b, i64 %bk, ptr %c, i64 %crow, "
                   "i64 %rows, i64 %columns, i64 %more, ptr %keep) #ATTR", self.declared)
        stage = w.op(f"alloca [{32 * n * ROW} x i8], align 64")
        asked = self.asked(w, "%keep")
        lower = w.mul("%arow", 16)

        last_row = w.plus("%c", w.mul(w.sub("%rows", 1), "%crow"))

        def products() -> None:
            def chunk(_: str, at: list[str]) -> list[str]:
                a, b, c, *far = at
                far = self.ask_for_some(w, far, *asked[2:])
                for _row in range(2):           # and for two rows of the result
                    w.prefetch(c, write=True)
                    c = w.select(w.op(f"icmp ult ptr {c}, {last_row}"), "ptr", w.plus(c, "%crow"), c)
                self.chunk(w, n, a, "%arow", lower, b, self.pitch_b)
                return [w.plus(a, "%achunk"), w.plus(b, 16 * self.pitch_b), c, *far]
            *_, at, end = w.loop(0, "%k", 16, [("ptr", x) for x in ("%a", "%b", "%c", *asked[:2])], chunk)
            w.store("ptr", at, "%keep", 8)
            w.store("ptr", end, w.plus("%keep", 8), 8)
        if p.rounds:
            self.zero(w, n)
            products()
            self.every(w, "tilestored64", n, stage, n * ROW)
            self.store_rounded(w, stage, n * ROW, "%c", "%crow", "%rows", "%columns", n)
            w.do("ret void")
            return w.text()
        masks = [None] * (n - 1) + [sum_.mask(w, w.sub("%columns", sum_.lanes * (n - 1)))]
        more = w.compare("ne", "%more", 0)

        def copy(source: tuple[str, str | int], to: tuple[str, str | int]) -> None:
            def row(_: str, at: list[str]) -> list[str]:
                for j, mask in enumerate(masks):
                    sum_.store(w, sum_.load(w, w.plus(at[0], j * ROW), mask), w.plus(at[1], j * ROW), mask)
                return [w.plus(at[0], source[1]), w.plus(at[1], to[1])]
            w.loop(0, "%rows", 1, [("ptr", source[0]), ("ptr", to[0])], row)
        whole = w.op(f"and i1 {w.compare('eq', '%rows', 2 * 16)}, {w.compare('sge', '%columns', n * 16)}")
        partly = w.op(f"xor i1 {whole}, true")
        w.when(w.op(f"and i1 {partly}, {more}"), lambda: copy(("%c", "%crow"), (stage, n * ROW)))
        at, step = w.select(whole, "ptr", "%c", stage), w.select(whole, "i64", "%crow", n * ROW)
        w.when(more, lambda: self.every(w, "tileloadd64", n, at, step), lambda: self.zero(w, n))
        products()
        self.every(w, "tilestored64", n, at, step)
        w.when(partly, lambda: copy((stage, n * ROW), ("%c", "%crow")))
        w.do("ret void")
        return w.text()

    def store_rounded(self, w: Writer, source: str, source_step: int, to: str, step: str, rows: str, columns: str, n: int) -> None:
        """Rows of n vectors of float32, as bfloat16; the unit has made nothing that is subnormal, which the instruction would flush."""
        half = Vectors("i16", n * self.sum.lanes, 2)
        mask = half.mask(w, columns)
        name, made = ("cvtne2ps2bf16", "<32 x bfloat>") if n == 2 else ("cvtneps2bf16", "<16 x bfloat>")

        def row(_: str, at: list[str]) -> list[str]:
            sums = [(self.sum.t, self.sum.load(w, w.plus(at[0], j * ROW), align=ROW)) for j in reversed(range(n))]
            x = w.call(made, f"llvm.x86.avx512bf16.{name}.512", *sums)
            half.store(w, w.op(f"bitcast {made} {x} to {half.t}"), at[1], mask)
            return [w.plus(at[0], source_step), w.plus(at[1], step)]
        w.loop(0, rows, 1, [("ptr", source), ("ptr", to)], row)


class MatrixDirectWriter(DirectWriter, MatrixWriter):
    """Writes the functions of one product over a direct window, whose copy has words of two channels: a tile of B for some tap is 16 of its planes
    from the tap's offset on.  A has a row for every tap, of all channels, and is read in place.
    """

    planes = 2

    def text(self) -> str:
        p = self.product
        functions = [self.copy_row(), *(self.tap_tiles(n) for n in range(1, p.vectors + 1))]
        if p.epilogue is not None:
            functions.append(render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared))
        return "\n".join([*functions, self.direct_kernel(), *self.declared, ""])

    def copy_row(self) -> str:
        """As for single channels, of two; a step is 1 or 2."""
        half = Vectors("i16", 2 * self.v.lanes, 2)
        n = half.lanes
        w = Writer("define internal void @NAME.row(ptr %from, i64 %channel, i64 %first, i64 %step, i64 %limit, i64 %count, ptr %to) #ATTR", self.declared)
        both = f"<{n} x i1>"

        def inside(at: str) -> str:
            before = w.op(f"xor {both} {half.mask(w, w.sub('0', at))}, splat (i1 true)")
            return w.op(f"and {both} {before}, {half.mask(w, w.sub('%limit', at))}")

        def some(q: str, _: list[str]) -> None:
            at = w.add("%first", w.mul(q, "%step"))
            starts = [w.plus("%from", w.mul(at, 2))]
            starts.append(w.plus(starts[0], "%channel"))

            def neighbours() -> list[str]:
                mask = inside(at)
                return [half.load(w, x, mask) for x in starts]

            def every_other() -> list[str]:
                masks = [inside(w.add(at, h * n)) for h in (0, 1)]
                pieces = [[half.load(w, w.plus(x, h * half.bytes), masks[h]) for h in (0, 1)] for x in starts]
                return [half.shuffle(w, low, high, range(0, 2 * n, 2)) for low, high in pieces]
            rows = w.when(w.compare("eq", "%step", 1), neighbours, every_other, [half.t] * 2)
            for i, words in enumerate(half.interleave(w, rows)):
                half.store(w, words, w.plus("%to", w.add(w.mul(q, 4), i * half.bytes)))
        w.loop(0, "%count", n, [], some)
        w.do("ret void")
        return w.text()

    def factor(self, w: Writer, a: str, a_row: str, a_k: str, rows: str, depth: str, panel: str) -> list[str]:
        return [a, a_row]

    def multiply(self, w: Writer, rows: str, columns: str, depth: str, a: list[str], b: str, to: str, taps: str, plane: str, channels: str) -> None:
        self.narrowest(w, columns, lambda n: w.do(
            f"call void @NAME.tile{n}t(i64 {depth}, i64 {channels}, ptr {a[0]}, i64 {a[1]}, ptr {b}, i64 {plane}, ptr {to}, ptr {taps})"))

    def tap_tiles(self, n: int) -> str:
        """A tile of results, for all taps and planes, afresh."""
        w = Writer(f"define internal void @NAME.tile{n}t(i64 %count, i64 %planes, ptr %a, i64 %arow, ptr %b, i64 %plane, ptr %c, ptr %taps) #ATTR",
                   self.declared)
        lower, further = w.mul("%arow", 16), w.mul("%plane", 16)
        self.zero(w, n)

        def tap(t: str, at: list[str]) -> list[str]:
            here = w.plus("%b", w.load("i64", w.plus("%taps", w.mul(t, 8)), 8))

            def planes(_: str, at: list[str]) -> list[str]:
                self.chunk(w, n, at[0], "%arow", lower, at[1], "%plane")
                return [w.plus(at[0], ROW), w.plus(at[1], further)]
            return w.loop(0, "%planes", 16, [("ptr", at[0]), ("ptr", here)], planes)[:1]
        w.loop(0, "%count", 1, [("ptr", "%a")], tap)
        self.every(w, "tilestored64", n, "%c", self.pitch_b)
        w.do("ret void")
        return w.text()

    def store_result(self, w: Writer, value: str, to: str, mask: str) -> None:
        if not self.product.rounds:
            self.sum.store(w, value, to, mask)
            return
        half = Vectors("i16", self.sum.lanes, 2)
        x = w.call("<16 x bfloat>", "llvm.x86.avx512bf16.cvtneps2bf16.512", (self.sum.t, value))
        half.store(w, w.op(f"bitcast <16 x bfloat> {x} to {half.t}"), to, mask)
