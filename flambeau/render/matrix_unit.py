"""Products of bfloat16 on a processor's matrix unit (AMX): the loops of :mod:`.product` around another micro-kernel.

The unit has eight tile registers of 16 rows of 64 bytes.  Four hold 32 x 32 results as float32, two hold 32 rows of A (16 words of k), two
hold 16 words of k of 32 columns of B; a word is two neighbouring bfloat16 of k.  One instruction adds 16 x 16 x 32 products.  B's packed
tiles serve as they are; A's panel is ``[16 words of k][row][word]``.  k is filled up with zeros.
"""

from __future__ import annotations

from ..ir.product import Product
from .llvm import render_window
from .product import ProductWriter
from .writer import Writer

ROW = 64                    # bytes of a row of a tile register
TILE = 16 * ROW


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

    def tile_heights(self) -> list[int]:
        return [self.product.rows]

    # ------------------------------------------------------------ functions

    def pack_chunks(self) -> str:
        """Rows of A, 16 words at a time; what is beyond their ends, and rows that are not there, is 0."""
        v, p = self.v, self.product
        w = Writer("define internal void @NAME.chunks(ptr %from, i64 %row, i64 %valid, i64 %k, ptr %to) #ATTR", self.declared)

        def chunk(k: str, to: list[str]) -> list[str]:
            mask = v.mask(w, w.sub("%k", k))
            start = w.plus("%from", w.mul(k, 4))
            w.loop(0, "%valid", 1, [], lambda r, _: v.store(w, v.load(w, w.plus(start, w.mul(r, "%row")), mask), w.plus(to[0], w.mul(r, ROW)), align=ROW))
            w.loop("%valid", p.rows, 1, [], lambda r, _: v.store(w, "zeroinitializer", w.plus(to[0], w.mul(r, ROW)), align=ROW))
            return [w.plus(to[0], p.rows * ROW)]
        w.loop(0, "%k", 16, [("ptr", "%to")], chunk)
        w.do("ret void")
        return w.text()

    def tiles(self, n: int) -> str:
        """``C[32 x n vectors] (+)= A panel · B``, in place where all of the tile exists, or else on a copy of what does."""
        p, sum_ = self.product, self.sum
        w = Writer(f"define internal void @NAME.tile{p.rows}x{n}(i64 %k, ptr %a, ptr %b, i64 %bk, ptr %c, i64 %crow, i64 %rows, i64 %columns, "
                   "i64 %more, ptr %keep) #ATTR", self.declared)
        results = [(i, j, i * n + j) for i in range(2) for j in range(n)]
        stage = w.op(f"alloca [{32 * n * ROW} x i8], align 64")
        masks = [None] * (n - 1) + [sum_.mask(w, w.sub("%columns", sum_.lanes * (n - 1)))]
        more = w.compare("ne", "%more", 0)

        def tile(name: str, *arguments: tuple[str, str]) -> None:
            w.call("void", f"llvm.x86.{name}", *arguments)

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

        def every(name: str) -> None:
            for i, j, t in results:
                tile(name, ("i8", str(t)), ("ptr", w.plus(w.plus(at, w.mul(step, 16 * i)), j * ROW)), ("i64", step))

        def zero() -> None:
            for *_, t in results:
                tile("tilezero", ("i8", str(t)))
        w.when(more, lambda: every("tileloadd64"), zero)

        def chunk(_: str, at: list[str]) -> list[str]:
            a, b = at
            for i in range(2):
                tile("tileloadd64", ("i8", str(4 + i)), ("ptr", w.plus(a, i * TILE)), ("i64", str(ROW)))
                for j in range(n):
                    if i == 0:
                        tile("tileloadd64", ("i8", str(6 + j)), ("ptr", w.plus(b, j * ROW)), ("i64", str(self.pitch_b)))
                    tile("tdpbf16ps", ("i8", str(i * n + j)), ("i8", str(4 + i)), ("i8", str(6 + j)))
            return [w.plus(a, p.rows * ROW), w.plus(b, 16 * self.pitch_b)]
        w.loop(0, "%k", 16, [("ptr", "%a"), ("ptr", "%b")], chunk)
        every("tilestored64")
        w.when(partly, lambda: copy((stage, n * ROW), ("%c", "%crow")))
        w.do("ret void")
        return w.text()
