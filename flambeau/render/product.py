"""Products as LLVM IR: packing, the loops over blocks, and micro-kernels whose tile of the result stays in registers.

Input: a :class:`~flambeau.ir.product.Product`; output: one text with the kernel ``@NAME`` in the ABI of all kernels and the
internal functions it calls.  The loops, outermost first:

    units (a batch entry, a range of columns, a range of rows; neighbouring ones are taken together)
      rows by M_BLOCK                         panels of A are packed once and stay in the second-level cache
        k by K_BLOCK                          partial sums are kept in C between blocks
          columns by the width of a tile      B is packed, or read in place where that costs nothing; it stays in the first-level cache
            rows by the height of a tile      micro-kernel: one load per vector of B, one broadcast per row of A, rows x vectors fmas

While a tile is multiplied, the micro-kernel asks for its place in C, for the next panel of A or the next columns of B: packing them finds them in the
second-level cache.  Packing only ever writes scratch memory.  A tile at the lower edge computes rows that nobody asked for and does not store them, one at
the right edge is masked.  Every element adds its products in the order of k, whatever the tiles, so the result does not depend on how units are shared out.
"""

from __future__ import annotations

from collections.abc import Callable

from ..ir.product import PANEL_PITCH, Direct, Product, Shifted, Window, Words
from .llvm import render_window
from .writer import Vectors, Writer

SPAN = 640 << 10            # bytes from the first to the last row of a block of B up to which it is not packed
FEW = 5                     # and panels of A, if its rows do not all lie in the same sets of the first-level cache
WAY = 4096                  # rows of A at that distance are copied: all of them would lie in the same sets
NEAR = 128 << 10            # bytes from the first to the last row of a block of A, which has its rows side by side, up to which it is not packed,
SHARED = 4                  # if no more tiles side by side would share that
SETS = 256                  # bytes from one line to the next one of the same set there
Rows = tuple[str, str | int, str | int, str | int]     # of memory: where they begin, how long and how far apart they are, how many
UNROLL = 4                  # steps of k in a round of the micro-kernel


def heights(rows: int) -> list[int]:
    """The heights that micro-kernels exist in, tallest first."""
    return [rows, 8 if rows > 8 else 4]


def render_product(product: Product) -> str:
    """The LLVM IR of one product; equal products give equal texts."""
    if isinstance(product.window, Direct):
        from .direct import DirectWriter
        from .matrix_unit import MatrixDirectWriter

        return (MatrixDirectWriter if product.pairs else DirectWriter)(product).text()
    if isinstance(product.window, Shifted):
        from .shifted import ShiftedWriter

        return ShiftedWriter(product).text()
    if product.pairs == "matrix":
        from .matrix_unit import MatrixWriter

        return MatrixWriter(product).text()
    return ProductWriter(product).text()


class ProductWriter:
    """Writes the functions of one product."""

    def __init__(self, product: Product) -> None:
        self.product = product
        d = product.dtype
        element = {"float32": "float", "float64": "double"}.get(d.name, f"i{8 * d.itemsize}")
        self.sum = Vectors(element, product.lanes, d.itemsize)                   # of the result
        self.v = Vectors("i32", product.lanes, 4, 2) if product.pairs else self.sum     # of the factors
        self.size = d.itemsize
        self.result_size = 2 if product.rounds else d.itemsize
        self.declared: dict[str, None] = {}
        self.groups = -(-product.rows // product.lanes)         # vectors that hold a column of A's panel
        self.pitch_a = self.groups * self.v.bytes
        self.pitch_b = product.vectors * self.v.bytes
        self.width = product.vectors * product.lanes            # columns of a tile
        self.plain = product.window is None and product.b_unit == "column" and not product.pairs    # B could be read in place
        self.rowwise = product.a_unit == "k" and product.pairs != "matrix" and not isinstance(product.window, Direct | Shifted)   # A's panel is [row][k]

    def text(self) -> str:
        p = self.product
        if p.dot:
            finish = [] if p.epilogue is None else [render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared)]
            return "\n".join([self.inner_products(), *finish, self.dot_kernel(), *self.declared, ""])
        functions = [self.copy_rows() if self.rowwise else self.pack_rows()]
        if p.window is None:
            functions.append(self.pack_b())
        if isinstance(p.window, Window):
            functions += [self.window_rows(p.window), self.pack_window(p.window)]
        for m in heights(p.rows):
            functions += [self.micro(m, n, ahead=True) for n in range(1, p.vectors + 1)]
        if p.epilogue is not None:
            functions.append(render_window(p.epilogue, "@NAME.finish", p.batch + 2, p.roles, self.declared))
        functions.append(self.kernel())
        return "\n".join([*functions, *self.declared, ""])

    # ------------------------------------------------------------ packing

    def pack_transposed(self, aligned: bool = True) -> str:
        """``[row][k]`` to ``[k][row]``: one vector's worth of rows (the last valid one repeated), by squares transposed in registers."""
        v = self.v
        w = Writer("define internal void @NAME.transpose(ptr %from, i64 %row, i64 %valid, i64 %k, ptr %to, i64 %pitch) #ATTR", self.declared)
        last = w.sub("%valid", 1)
        starts = [w.plus("%from", w.mul(w.min(r, last), "%row")) for r in range(v.lanes)]

        def square(k: str, _: list[str]) -> None:
            mask = v.mask(w, w.sub("%k", k))
            at = w.mul(k, self.size)
            to = w.plus("%to", w.mul(k, "%pitch"))
            for row in v.transpose(w, [v.load(w, w.plus(s, at), mask) for s in starts]):
                v.store(w, row, to, align=v.bytes if aligned else 0)
                to = w.plus(to, "%pitch")
        w.loop(0, "%k", v.lanes, [], square)
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

    def copy_rows(self) -> str:
        """``height`` rows of A, the last valid one repeated, at a distance of :data:`PANEL_PITCH`."""
        v = self.v
        w = Writer("define internal void @NAME.copy(ptr %from, i64 %row, i64 %valid, i64 %height, i64 %k, ptr %to) #ATTR", self.declared)
        last = w.sub("%valid", 1)
        many = w.op(f"and i64 %k, {-4 * v.lanes}")

        def row(r: str, _: list[str]) -> None:
            start, to = w.plus("%from", w.mul(w.min(r, last), "%row")), w.plus("%to", w.mul(r, PANEL_PITCH))

            def some(k: str, count: int, mask: str | None) -> None:
                at = w.mul(k, self.size)
                values = [v.load(w, w.plus(w.plus(start, at), i * v.bytes), mask) for i in range(count)]
                for i, x in enumerate(values):
                    v.store(w, x, w.plus(w.plus(to, at), i * v.bytes), align=v.bytes)
            w.loop(0, many, 4 * v.lanes, [], lambda k, _: some(k, 4, None))
            w.loop(many, "%k", v.lanes, [], lambda k, _: some(k, 1, v.mask(w, w.sub("%k", k))))
        w.loop(0, "%height", 1, [], row)
        w.do("ret void")
        return w.text()

    def pack_b(self) -> str:
        """The function that packs a tile of B."""
        if self.product.b_unit == "k":
            return self.pack_transposed()
        return self.pack_pairs() if self.product.pairs else self.pack_columns()

    def pack_pairs(self) -> str:
        """The columns of a tile of B from pairs of rows, as words; then zeros up to a whole vector's worth of words, as the matrix unit reads them."""
        p, v = self.product, self.v
        half = Vectors("i16", p.vectors * p.lanes, 2)
        w = Writer("define internal void @NAME.columns(ptr %from, i64 %step, i64 %columns, i64 %k, ptr %to) #ATTR", self.declared)
        mask = half.mask(w, "%columns")
        other = w.op("ashr i64 %step, 1")

        def pair(_: str, at: list[str]) -> list[str]:
            start, to = at
            for i, words in enumerate(half.interleave(w, [half.load(w, x, mask) for x in (start, w.plus(start, other))])):
                half.store(w, words, w.plus(to, i * half.bytes), align=half.bytes)
            return [w.plus(start, "%step"), w.plus(to, self.pitch_b)]
        _, end = w.loop(0, "%k", 1, [("ptr", "%from"), ("ptr", "%to")], pair)

        def zeros(_: str, at: list[str]) -> list[str]:
            for g in range(p.vectors):
                v.store(w, "zeroinitializer", w.plus(at[0], g * v.bytes), align=v.bytes)
            return [w.plus(at[0], self.pitch_b)]
        w.loop("%k", w.op(f"and i64 {w.add('%k', v.lanes - 1)}, {-v.lanes}"), 1, [("ptr", end)], zeros)
        w.do("ret void")
        return w.text()

    def pack_columns(self) -> str:
        """The columns of a tile of B; what lies beyond the last one as zero."""
        p, v = self.product, self.v
        w = Writer("define internal void @NAME.columns(ptr %from, i64 %step, i64 %columns, i64 %k, ptr %to) #ATTR", self.declared)
        masks = [v.mask(w, w.sub("%columns", g * v.lanes)) for g in range(p.vectors)]

        def row(_: str, at: list[str]) -> list[str]:
            start, to = at
            for g, mask in enumerate(masks):
                v.store(w, v.load(w, w.plus(start, g * v.bytes), mask), w.plus(to, g * v.bytes), align=v.bytes)
            return [w.plus(start, "%step"), w.plus(to, self.pitch_b)]
        w.loop(0, "%k", 1, [("ptr", "%from"), ("ptr", "%to")], row)
        w.do("ret void")
        return w.text()

    def pack_tile(self, w: Writer, b: str, b_k: str, b_column: str, columns: str, k: str, to: str) -> None:
        """Pack the columns of a tile of B."""
        p, v = self.product, self.v
        if p.b_unit == "column":
            w.do(f"call void @NAME.columns(ptr {b}, i64 {b_k}, i64 {columns}, i64 {k}, ptr {to})")
            return
        for g in range(p.vectors):
            valid, start = w.sub(columns, g * p.lanes), w.plus(b, w.mul(b_column, g * p.lanes))
            w.when(w.compare("sgt", valid, 0), lambda valid=valid, start=start, g=g: w.do(  # type: ignore[misc]
                f"call void @NAME.transpose(ptr {start}, i64 {b_column}, i64 {valid}, i64 {k}, ptr {w.plus(to, g * v.bytes)}, i64 {self.pitch_b})"))

    def pack_panel(self, w: Writer, a: str, a_row: str, a_k: str, rows: str, k: str, panel: str) -> None:
        """Pack up to a tile's rows of A as ``[row][k]`` or ``[k][row]``."""
        p = self.product
        if self.rowwise:
            full, low = heights(p.rows)
            height = w.select(w.compare("sgt", rows, low), "i64", full, low)
            w.do(f"call void @NAME.copy(ptr {a}, i64 {a_row}, i64 {rows}, i64 {height}, i64 {k}, ptr {panel})")
            return
        name, step = ("transpose", a_row) if p.a_unit == "k" else ("copy", a_k)
        for g in range(self.groups):
            valid = w.sub(rows, g * p.lanes)
            start, to = w.plus(a, w.mul(a_row, g * p.lanes)), w.plus(panel, g * self.v.bytes)

            def pack(valid: str = valid, start: str = start, to: str = to) -> None:
                w.do(f"call void @NAME.{name}(ptr {start}, i64 {step}, i64 {valid}, i64 {k}, ptr {to}, i64 {self.pitch_a})")
            if g:
                w.when(w.compare("sgt", valid, 0), pack)
            else:
                pack()

    def describe(self, w: Writer, window: Window) -> tuple[list[tuple[str, str]], list[str], list[str], list[list[str]]]:
        """A window's words: size and stride of every axis; of every position limit (i32), origin, and steps along the axes."""
        def word(i: int) -> str:
            return w.load("i64", w.plus("%words", 8 * i), 8)
        axes = [(word(2 * a), word(2 * a + 1)) for a in range(window.inner + window.columns)]
        limits, origins, steps = [], [], []
        for i in range(window.positions):
            at = 2 * len(axes) + i * (2 + len(axes))
            limits.append(w.op(f"trunc i64 {word(at)} to i32"))
            origins.append(word(at + 1))
            steps.append([word(at + 2 + a) for a in range(len(axes))])
        return axes, limits, origins, steps

    def window_rows(self, window: Window) -> str:
        """What the windows add for each of a range of k, as a table: the offset (i64), then how each position moves (i32)."""
        w = Writer("define internal void @NAME.taps(ptr %words, i64 %first, i64 %k, ptr %to) #ATTR", self.declared)
        axes, _, _, steps = self.describe(w, window)
        inner = axes[:window.inner]

        def row(_: str, carried: list[str]) -> list[str]:
            to, *index = carried
            w.store("i64", dot(w, index, [step for _, step in inner]), to, 8)
            for d in range(window.positions):
                move = w.op(f"trunc i64 {dot(w, index, steps[d][:window.inner])} to i32")
                w.store("i32", move, w.plus(to, 8 + 4 * d), 4)
            return [w.plus(to, row_bytes(window)), *following(w, index, [size for size, _ in inner])]
        w.loop(0, "%k", 1, [("ptr", "%to"), *(("i64", d) for d in digits(w, "%first", [s for s, _ in inner]))], row)
        w.do("ret void")
        return w.text()

    def pack_window(self, window: Window) -> str:
        """One vector's worth of columns of B's windows for the k of a table, as ``[k][column]``.

        What the lanes' addresses have in common is found out first: runs of neighbours, each a masked load, or else a gather.
        """
        p, v = self.product, self.v
        n, lanes, rank = window.positions, v.lanes, window.inner
        w = Writer("define internal void @NAME.window(ptr %base, ptr %words, i64 %column, i64 %valid, ptr %taps, i64 %k, ptr %to) #ATTR",
                   self.declared)
        wide, bits, mask_bytes = f"<{lanes} x i32>", f"i{lanes}", max(1, lanes // 8)
        axes, limits, origins, steps = self.describe(w, window)
        columns = axes[rank:]
        offsets, runs, masks = (w.op(f"alloca [{lanes + 1} x {t}], align 64") for t in ("i32", "i64", bits))
        places = [w.op(f"alloca [{lanes} x i32], align 64") for _ in range(n)]

        def lane(i: str, carried: list[str]) -> list[str]:
            count, expected, *index = carried
            offset = dot(w, index, [step for _, step in columns])
            w.store("i32", w.op(f"trunc i64 {offset} to i32"), w.plus(offsets, w.mul(i, 4)), 4)
            for d in range(n):
                place = dot(w, index, steps[d][rank:], origins[d])
                w.store("i32", w.op(f"trunc i64 {place} to i32"), w.plus(places[d], w.mul(i, 4)), 4)
            opens = w.compare("ne", offset, expected)
            count = w.add(count, w.op(f"zext i1 {opens} to i64"))
            w.store("i64", w.sub(offset, w.mul(i, self.size)), w.plus(runs, w.mul(count, 8)), 8)
            # the lanes from this one on, until the next run takes its own away
            from_here = w.op(f"shl {bits} -1, {w.op(f'trunc i64 {i} to {bits}')}")
            at = w.plus(masks, w.mul(count, mask_bytes))
            w.store(bits, w.op(f"select i1 {opens}, {bits} {from_here}, {bits} {w.load(bits, at, 1)}"), at, 1)
            return [count, w.add(offset, self.size), *following(w, index, [size for size, _ in columns])]
        start = [("i64", "-1"), ("i64", str(-1 << 62)), *(("i64", d) for d in digits(w, "%column", [s for s, _ in columns]))]
        last, *_ = w.loop(0, "%valid", 1, start, lane)
        runs_end = w.add(last, 1)
        w.store(bits, "0", w.plus(masks, w.mul(runs_end, mask_bytes)), 1)

        def alone(r: str, _: list[str]) -> None:
            at = w.plus(masks, w.mul(r, mask_bytes))
            later = w.op(f"xor {bits} {w.load(bits, w.plus(at, mask_bytes), 1)}, -1")
            w.store(bits, w.op(f"and {bits} {w.load(bits, at, 1)}, {later}"), at, 1)
        w.loop(0, runs_end, 1, [], alone)
        inside = w.op(f"bitcast {v.bit} {v.mask(w, '%valid')} to {bits}")
        position = [w.load(wide, x, 64) for x in places]
        offset = w.load(wide, offsets, 64)

        def splat(x: str) -> str:
            one = w.op(f"insertelement {wide} poison, i32 {x}, i64 0")
            return w.op(f"shufflevector {wide} {one}, {wide} poison, <{lanes} x i32> zeroinitializer")
        bounds = [splat(x) for x in limits]

        def row(_: str, carried: list[str]) -> list[str]:
            to, tap = carried
            base = w.plus("%base", w.load("i64", tap, 8))
            allowed = inside
            for d in range(n):
                move = splat(w.load("i32", w.plus(tap, 8 + 4 * d), 4))
                fits = w.op(f"icmp ult {wide} {w.op(f'add {wide} {position[d]}, {move}')}, {bounds[d]}")
                allowed = w.op(f"and {bits} {allowed}, {w.op(f'bitcast {v.bit} {fits} to {bits}')}")
            if p.b_unit == "column":
                def run(r: str, values: list[str]) -> list[str]:
                    at = w.plus(base, w.load("i64", w.plus(runs, w.mul(r, 8)), 8))
                    here = w.load(bits, w.plus(masks, w.mul(r, mask_bytes)), 1)
                    mask = w.op(f"bitcast {bits} {w.op(f'and {bits} {allowed}, {here}')} to {v.bit}")
                    return [w.call(v.t, f"llvm.masked.load.{v.mangled}.p0", ("ptr", at), ("i32", str(self.size)), (v.bit, mask), (v.t, values[0]))]
                value, = w.loop(0, runs_end, 1, [(v.t, "zeroinitializer")], run)
            else:
                pointers = w.op(f"getelementptr i8, ptr {base}, {wide} {offset}")
                mask = w.op(f"bitcast {bits} {allowed} to {v.bit}")
                value = w.call(v.t, f"llvm.masked.gather.{v.mangled}.v{lanes}p0", (f"<{lanes} x ptr>", pointers), ("i32", str(self.size)),
                               (v.bit, mask), (v.t, "zeroinitializer"))
            v.store(w, value, to, align=v.bytes)
            return [w.plus(to, self.pitch_b), w.plus(tap, row_bytes(window))]
        w.loop(0, "%k", 1, [("ptr", "%to"), ("ptr", "%taps")], row)
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ the micro-kernel

    def micro(self, m: int, n: int, table: bool = False, taps: bool = False, ahead: bool = False) -> str:
        """``C[m x n vectors] (+)= A panel · B``.

        With ``ahead`` it asks, in passing, for memory that :meth:`ask` described at ``%keep``, and A may have any distance from row to row, or from
        k to k.  With ``table`` the row of B for each k lies
        where a table at ``%keep`` says; with ``taps`` also the tile is stored whole and afresh.
        """
        v, sum_ = self.v, self.sum
        table |= taps
        kind = "t" if taps else "s" if table else ""
        w = Writer(f"define internal void @NAME.tile{m}x{n}{kind}(i64 %k, ptr %a, {'i64 %apart, ' if ahead else ''}ptr %b, i64 %bk, ptr %c, i64 %crow, "
                   f"i64 %rows, i64 %columns, i64 %more, ptr %keep) #ATTR", self.declared)
        mask = None if taps else v.mask(w, w.sub("%columns", v.lanes * (n - 1)))
        asked = self.asked(w, "%keep") if ahead else []
        # an address can express what is one or two rows away
        thirds = [w.plus("%a", w.mul(r, "%apart")) if r else "%a" for r in range(0, m, 3)] if self.rowwise else ["%a"]
        moving = [*thirds, "%b", *([] if taps else ["%c"]), *(["%keep"] if table else asked[:2])]
        end = "" if taps else w.plus("%c", w.mul("%rows", "%crow"))

        def step(values: list[str], rounds: int) -> list[str]:
            sums, a, (b, *rest) = list(values[:m * n]), values[m * n:m * n + len(thirds)], values[m * n + len(thirds):]
            into, far = ([], rest) if taps else (rest[:1], rest[1:])
            if rounds > 1 and not taps:         # in passing: a row of the result, and what comes next
                c, = into
                for at in range(0, v.bytes * n, 64):
                    w.prefetch(w.plus(c, at), write=True)
                w.prefetch(w.plus(c, v.bytes * n - v.itemsize), write=True)
                into = [w.select(w.op(f"icmp ult ptr {c}, {end}"), "ptr", w.plus(c, "%crow"), c)]
                if ahead:
                    far = self.ask_for_some(w, far, *asked[2:])
            for u in range(rounds):
                here = w.plus(b, w.load("i64", w.plus(far[0], 8 * u), 8)) if table else b
                row = [v.load(w, w.plus(here, v.bytes * j), mask if j == n - 1 and not table else None) for j in range(n)]
                for r in range(m):
                    if self.rowwise:
                        place = w.plus(w.plus(a[r // 3], w.mul(r % 3, "%apart")) if r % 3 else a[r // 3], u * self.size)
                    else:
                        place = w.plus(a[0], r * self.size + (0 if ahead else u * self.pitch_a))
                    x = v.splat(w, w.load(v.element, place, self.size))
                    for j in range(n):
                        sums[r * n + j] = self.multiply_add(w, x, row[j], sums[r * n + j])
                if not table:
                    b = w.plus(b, "%bk")
                if ahead and not self.rowwise:
                    a = [w.plus(a[0], "%apart")]
            if self.rowwise:
                a = [w.plus(x, rounds * self.size) for x in a]
            elif not ahead:
                a = [w.plus(a[0], rounds * self.pitch_a)]
            return [*sums, *a, b, *into, *([w.plus(far[0], 8 * rounds)] if table else far)]
        whole = w.op(f"and i64 %k, {-UNROLL}")
        types = [sum_.t] * (m * n) + ["ptr"] * len(moving)
        values = ["zeroinitializer"] * (m * n) + moving
        values = w.loop(0, whole, UNROLL, list(zip(types, values, strict=True)), lambda _, values: step(values, UNROLL))
        sums = w.loop(whole, "%k", 1, list(zip(types, values, strict=True)), lambda _, values: step(values, 1))
        for i, x in enumerate(sums[m * n + len(thirds) + 2:] if ahead else []):
            w.store("ptr", x, w.plus("%keep", 8 * i), 8)
        more = "false" if taps else w.compare("ne", "%more", 0)
        at = "%c"
        for r in range(m):
            places = [(w.plus(at, v.bytes * j), mask if j == n - 1 else None) for j in range(n)]
            new = sums[r * n:r * n + n]
            if not taps:
                def added(new: list[str] = new, places: list[tuple[str, str | None]] = places) -> list[str]:
                    return [sum_.add(w, x, sum_.load(w, *p)) for x, p in zip(new, places, strict=True)]
                new = w.when(more, added, lambda new=new: new, [sum_.t] * n)  # type: ignore[misc]
            for x, place in zip(new, places, strict=True):
                sum_.store(w, x, *place)
            if r + 1 < m:
                if not taps:
                    w.count += 1
                    w.do(f"br i1 {w.compare('sgt', '%rows', r + 1)}, label %row{w.count}, label %done")
                    w.at(f"row{w.count}")
                at = w.plus(at, "%crow")
        if not taps:
            w.do("br label %done")
            w.at("done")
        w.do("ret void")
        return w.text()

    # What micro-kernels ask for in passing: at a place in scratch memory are the address where they go on, the end of the row there, the distance
    # from where they leave a row to the next one, the distance of rows, the end of the last row, and how many pairs of lines at a time:
    # no more than it takes, as what is under way from memory keeps the few places that the multiplied factors come through.

    def ask(self, w: Writer, place: str, some: Rows, pairs: str = "2") -> None:
        """Have some rows of memory asked for from now on."""
        start, row_bytes, step, rows = some
        whole = w.op(f"and i64 {w.add(row_bytes, 127)}, -128")
        for i, (t, x) in enumerate((("ptr", start), ("ptr", w.plus(start, row_bytes)), ("i64", w.sub(step, whole)), ("i64", step),
                                    ("ptr", w.plus(start, w.mul(step, rows))), ("i64", pairs))):
            w.store(t, str(x), w.plus(place, 8 * i), 8)

    def rows_of_a(self, w: Writer, a_row: str, a_k: str, rows: str, k: str) -> tuple[str, str, str]:
        """Some rows of A as they lie in memory: how long, how far apart, and how many."""
        return (w.mul(k, self.size), a_row, rows) if self.product.a_unit == "k" else (w.mul(rows, self.size), a_k, k)

    def rows_of_b(self, w: Writer, start: str, b_k: str, b_column: str, k: str) -> Rows:
        """A tile's columns of B as they lie in memory."""
        if self.product.b_unit == "k":
            return start, w.mul(k, self.size), b_column, self.width
        if self.product.pairs:
            return start, self.width * 2, w.op(f"ashr i64 {b_k}, 1"), w.mul(k, 2)
        return start, self.width * self.size, b_k, k

    def chosen(self, w: Writer, condition: str, one: Rows, other: Rows) -> Rows:
        """The one or the other."""
        start, length, step, rows = (w.select(condition, t, x, y) for t, x, y in zip(("ptr", "i64", "i64", "i64"), one, other, strict=True))
        return start, length, step, rows

    def asked(self, w: Writer, place: str) -> list[str]:
        """Address, end of the row, both distances, and pairs of lines; when all has been asked for, some place in the panel."""
        at, end, gap, step, stop, pairs = (w.load(t, w.plus(place, 8 * i), 8) for i, t in enumerate(("ptr", "ptr", "i64", "i64", "ptr", "i64")))
        done = w.op(f"icmp uge ptr {at}, {stop}")
        return [w.select(done, "ptr", "%a", at), w.select(done, "ptr", w.plus("%a", 1 << 20), end), gap, step, pairs]

    def ask_for_some(self, w: Writer, place: list[str], gap: str, step: str, pairs: str) -> list[str]:
        """One, two or four pairs of lines; the next address and end of its row."""
        def some(place: list[str], count: int) -> list[str]:
            for _ in range(count):
                at, end = place
                w.prefetch(w.plus(at, 63), near=False)          # where rows are not aligned, what comes before has asked for their first line
                w.prefetch(w.plus(at, 127), near=False)
                at = w.plus(at, 128)
                over = w.op(f"icmp uge ptr {at}, {end}")
                place = [w.select(over, "ptr", w.plus(at, gap), at), w.select(over, "ptr", w.plus(end, step), end)]
            return place

        def more(place: list[str], count: int) -> list[str]:
            """Another ``count`` pairs where there are more than these, and so on."""
            if count == 4:
                return place
            return w.when(w.compare("sgt", pairs, count), lambda: more(some(place, count), 2 * count), lambda: place, ["ptr", "ptr"])
        return more(some(place, 1), 1)

    def multiply_add(self, w: Writer, a: str, b: str, c: str) -> str:
        """``a · b + c``: a product, or the products of both halves of every word, added to the sums."""
        if not self.product.pairs:
            return self.v.multiply_add(w, a, b, c)
        halves = f"<{2 * self.v.lanes} x bfloat>"
        x, y = (w.op(f"bitcast {self.v.t} {f} to {halves}") for f in (a, b))
        return w.call(self.sum.t, f"llvm.x86.avx512bf16.dpbf16ps.{8 * self.sum.bytes}", (self.sum.t, c), (halves, x), (halves, y))

    # ------------------------------------------------------------ few rows, k side by side

    def inner_products(self) -> str:
        """A tile of inner products of up to ``rows`` rows of A and up to ``vectors`` columns of B; the last valid one is repeated."""
        p, v = self.product, self.v
        w = Writer("define internal void @NAME.dot(i64 %k, ptr %a, i64 %arow, i64 %rows, ptr %b, i64 %bcolumn, i64 %columns, ptr %c, i64 %crow) #ATTR",
                   self.declared)
        last_row, last_column = w.sub("%rows", 1), w.sub("%columns", 1)
        rows, columns = [w.min(r, last_row) for r in range(p.rows)], [w.min(c, last_column) for c in range(p.vectors)]
        at_a, at_b = [w.plus("%a", w.mul(r, "%arow")) for r in rows], [w.plus("%b", w.mul(c, "%bcolumn")) for c in columns]

        def step(k: str, sums: list[str], mask: str | None = None) -> list[str]:
            at = w.mul(k, self.size)
            b = [v.load(w, w.plus(x, at), mask) for x in at_b]
            new = []
            for r in range(p.rows):
                a = v.load(w, w.plus(at_a[r], at), mask)
                new += [v.multiply_add(w, a, b[c], sums[r * p.vectors + c]) for c in range(p.vectors)]
            return new
        whole = w.op(f"and i64 %k, {-v.lanes}")
        sums = w.loop(0, whole, v.lanes, [(v.t, "zeroinitializer")] * (p.rows * p.vectors), step)
        rest = w.sub("%k", whole)
        sums = w.when(w.compare("sgt", rest, 0), lambda: step(whole, sums, v.mask(w, rest)), lambda: sums, [v.t] * len(sums))
        for i, x in enumerate(v.sums(w, sums)):
            r, c = divmod(i, p.vectors)
            w.store(v.element, x, w.plus(w.plus("%c", w.mul(rows[r], "%crow")), w.mul(columns[c], self.size)), self.size)
        w.do("ret void")
        return w.text()

    def dot_kernel(self) -> str:
        p = self.product
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)
        word, memory = self.words(w)
        bases = [memory(x) for x in (Words.A_TABLE, Words.B_TABLE, Words.C_TABLE)]
        m, n, k = word(Words.M), word(Words.N), word(Words.K)
        a_row, b_column, c_row = word(Words.A_ROW), word(Words.B_COLUMN), word(Words.C_ROW)
        n_unit, n_units = word(Words.N_UNIT), word(Words.N_UNITS)

        def unit(u: str, _: list[str]) -> None:
            n0 = w.mul(w.rem(u, n_units), n_unit)
            n1 = w.min(w.add(n0, n_unit), n)
            entries, (a, b, c) = self.batch_entry(w, word, w.div(u, n_units), bases)

            def columns(j: str, _: list[str]) -> None:
                count = w.min(w.sub(n1, j), p.vectors)
                bj, cj = w.plus(b, w.mul(j, b_column)), w.plus(c, w.mul(j, self.size))

                def rows(i: str, _: list[str]) -> None:
                    w.do(f"call void @NAME.dot(i64 {k}, ptr {w.plus(a, w.mul(i, a_row))}, i64 {a_row}, i64 {w.min(w.sub(m, i), p.rows)}, ptr {bj}, "
                         f"i64 {b_column}, i64 {count}, ptr {w.plus(cj, w.mul(i, c_row))}, i64 {c_row})")
                w.loop(0, m, p.rows, [], rows)
            w.loop(n0, n1, p.vectors, [], columns)
            if p.epilogue is not None:
                self.finish(w, entries, "0", m, n0, n1)
        w.loop("%begin", "%end", 1, [], unit)
        w.do("ret void")
        return w.text()

    # ------------------------------------------------------------ what both kinds of kernel share

    def words(self, w: Writer) -> tuple[Callable[[int], str], Callable[[int], str]]:
        """Functions that give an argument word, and the address that the words at a position and after it describe."""
        def word(n: int) -> str:
            return w.load("i64", w.plus("%args", 8 * n), 8)

        def memory(which: int) -> str:
            base = w.load("ptr", w.plus("%table", w.mul(word(which), 8)), 8)
            return w.plus(base, word(which + 1))
        return word, memory

    def batch_entry(self, w: Writer, word: Callable[[int], str], number: str, bases: list[str]) -> tuple[list[str], list[str]]:
        """The indices of an entry of the batch, and the operands' addresses there."""
        entries: list[str] = []
        for axis in reversed(range(self.product.batch)):
            at = Words.BATCH + 4 * axis
            size = word(at)
            entry = w.rem(number, size)
            number = w.div(number, size)
            entries.insert(0, entry)
            bases = [w.plus(x, w.mul(entry, word(at + 1 + i))) for i, x in enumerate(bases)]
        return entries, bases

    def opening(self, w: Writer) -> None:
        """What has to be done before the first unit."""

    def closing(self, w: Writer) -> None:
        """What has to be done after the last one."""

    def narrowest(self, w: Writer, columns: str, call: Callable[[int], None], n: int = 1) -> None:
        """Branch to ``call(n)`` with the smallest number of vectors that hold the columns, or all."""
        if n == self.product.vectors:
            call(n)
        else:
            w.when(w.compare("sle", columns, n * self.product.lanes), lambda: call(n), lambda: self.narrowest(w, columns, call, n + 1))

    def shortest(self, w: Writer, rows: str, call: Callable[[int], None], fits: list[int] | None = None) -> None:
        """Branch to ``call(m)`` with the smallest height that holds the rows."""
        fits = heights(self.product.rows) if fits is None else fits
        if len(fits) == 1:
            call(fits[0])
        else:
            w.when(w.compare("sgt", rows, fits[1]), lambda: call(fits[0]), lambda: self.shortest(w, rows, call, fits[1:]))

    def in_place(self, w: Writer, rows: str, k: str, b_k: str) -> str:
        """Whether B is read in place: it lies close together, or few panels would share what packing it costs."""
        few = w.select(w.compare("eq", w.op(f"and i64 {b_k}, {SETS - 1}"), 0), "i64", self.product.rows, FEW * self.product.rows)
        return w.op(f"or i1 {w.compare('sle', rows, few)}, {w.compare('sle', w.mul(k, b_k), SPAN)}")

    def a_lies_well(self, w: Writer, a_row: str, a_k: str, k: str, columns: str) -> str:
        """Whether tiles that compute no row in vain read A in place: its rows are not all in the same sets of the cache, or few columns would share a copy."""
        if self.rowwise:
            return w.compare("ne", w.op(f"and i64 {a_row}, {WAY - 1}"), 0)
        few = w.compare("sle", columns, SHARED * self.width)
        return w.op(f"and i1 {few}, {w.compare('sle', w.mul(k, a_k), NEAR)}")

    def a_steps(self, a_row: str, a_k: str) -> list[tuple[str, int]]:
        """What micro-kernels are told of how A lies: in place, and packed."""
        return [(a_row, PANEL_PITCH)] if self.rowwise else [(a_k, self.pitch_a)]

    def whole_tile(self, w: Writer, rows: str) -> str:
        """Whether a tile has all the rows that are computed."""
        full, *low = self.tile_heights()
        all_ = w.compare("eq", rows, full)
        return w.op(f"or i1 {all_}, {w.compare('eq', rows, low[0])}") if low else all_

    def tile_heights(self) -> list[int]:
        """As :func:`heights`, for this micro-kernel."""
        return heights(self.product.rows)

    def low_tiles(self, w: Writer, rows: str) -> str:
        """How many tiles of the lower height a range of rows begins with, so that one row at most is computed in vain, if that can be."""
        full, *low = self.tile_heights()
        count: str | int = 0
        for n in reversed(range(5 if low else 0)):
            rest = w.sub(w.add(rows, 1), n * low[0])
            fits = w.op(f"and i1 {w.compare('sge', rest, 0)}, {w.compare('slt', w.rem(rest, full), 2)}")
            count = w.select(fits, "i64", n, count)
        return str(count)

    def tile_rows(self, w: Writer, left: str, low_tiles: str) -> str:
        """The rows of the next tiles."""
        full, *low = self.tile_heights()
        return w.min(left, w.select(w.compare("sgt", low_tiles, 0), "i64", low[0], full) if low else full)

    def tile_function(self, w: Writer, rows: str, columns: str) -> str:
        """The micro-kernel with the smallest tile that holds the rows and columns, or all."""
        p = self.product
        full, *low = self.tile_heights()

        def of(n: int) -> str:
            tall = f"@NAME.tile{full}x{n}"
            return w.select(w.compare("sle", rows, low[0]), "ptr", f"@NAME.tile{low[0]}x{n}", tall) if low else tall
        function = of(p.vectors)
        for n in reversed(range(1, p.vectors)):
            function = w.select(w.compare("sle", columns, n * p.lanes), "ptr", of(n), function)
        return function

    def finish(self, w: Writer, entries: list[str], m0: str, m1: str, n0: str, n1: str) -> None:
        """Run the epilogue over a finished part of the result."""
        ends = [x for e in entries for x in (e, w.add(e, 1))] + [m0, m1, n0, n1]
        words = w.plus("%args", 8 * self.product.words)
        w.do(f"call void @NAME.finish(ptr %table, ptr {words}, {', '.join(f'i64 {x}' for x in ends)})")

    # ------------------------------------------------------------ the loops

    def kernel(self) -> str:
        p, v = self.product, self.v
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)
        word, memory = self.words(w)
        bases = [memory(x) for x in (Words.A_TABLE, Words.B_TABLE, Words.C_TABLE)]
        m_size, n_size, k_size = word(Words.M), word(Words.N), word(Words.K)
        a_row, a_k, b_k, b_column, c_row = (word(x) for x in (Words.A_ROW, Words.A_K, Words.B_K, Words.B_COLUMN, Words.C_ROW))
        k_block, n_block, m_block = word(Words.K_BLOCK), word(Words.N_BLOCK), word(Words.M_BLOCK)
        m_unit, n_unit, m_units, n_units = (word(x) for x in (Words.M_UNIT, Words.N_UNIT, Words.M_UNITS, Words.N_UNITS))
        a_outer, b_outer = word(Words.A_OUTER), word(Words.B_OUTER)
        k_blocks_each = w.div(w.sub(w.add(k_size, k_block), 1), k_block)
        k_blocks_all = w.mul(k_blocks_each, word(Words.OUTER))
        window_words = w.plus("%args", 8 * (Words.BATCH + 4 * p.batch))
        k_room = w.op(f"and i64 {w.add(k_block, v.lanes - 1)}, {-v.lanes}")      # squares are stored whole
        # scratch memory: what to ask for, a tile of B, the table of k, panels of A
        ahead = "%scratch"
        tile = w.plus(ahead, 64)
        tile_bytes = w.mul(k_room, self.pitch_b)
        # the matrix unit outruns packing: all tiles of a unit's columns stay packed for many blocks of rows, if there is one block of k
        keeps = ""
        if p.pairs == "matrix":
            keeps = w.op(f"and i1 {w.compare('eq', k_blocks_all, 1)}, {w.compare('sgt', m_size, w.mul(m_block, 2))}")
        tiles_kept = w.select(keeps, "i64", w.div(w.add(n_unit, self.width - 1), self.width), 1) if keeps else "1"
        taps = w.plus(tile, w.mul(tile_bytes, tiles_kept))
        panels_of_a = w.plus(taps, w.mul(k_room, 64)) if p.window is not None else taps
        panel_bytes = str(p.rows * PANEL_PITCH) if self.rowwise else w.mul(k_room, self.pitch_a)
        taken: dict[str, str] = {}          # the steps of loops that depend on what their bodies find

        def unit(u: str, _: list[str]) -> None:
            """The units from ``u`` on that make up a rectangle: some of a range of columns, or all of several."""
            across = w.div(u, m_units)
            first, rest = w.sub(u, w.mul(across, m_units)), w.sub("%end", u)
            batch, column = w.div(across, n_units), w.rem(across, n_units)
            whole = w.op(f"and i1 {w.compare('eq', first, 0)}, {w.compare('sge', rest, m_units)}")
            strips = "1" if keeps else w.select(whole, "i64", w.min(w.div(rest, m_units), w.sub(n_units, column)), 1)
            stop = w.min(w.add(first, rest), m_units)
            taken["units"] = w.mul(strips, w.sub(stop, first))
            m0, m1 = w.mul(first, m_unit), w.min(w.mul(stop, m_unit), m_size)
            n0 = w.mul(column, n_unit)
            n1 = w.min(w.add(n0, w.mul(strips, n_unit)), n_size)
            entries, (a, b, c) = self.batch_entry(w, word, batch, bases)

            def m_blocks(i0: str, _: list[str]) -> None:
                i1 = w.min(w.add(i0, m_block), m1)
                first = w.compare("eq", i0, m0)
                w.loop(0, k_blocks_all, 1, [], lambda number, _: k_blocks(i0, i1, number, first))

            def k_blocks(i0: str, i1: str, number: str, first: str) -> None:
                outer = w.div(number, k_blocks_each)
                k0 = w.mul(w.sub(number, w.mul(outer, k_blocks_each)), k_block)
                k = w.min(k_block, w.sub(k_size, k0))
                more = w.select(w.compare("eq", number, 0), "i64", 0, 1)
                complete = w.compare("eq", w.add(number, 1), k_blocks_all)
                ak, bk = w.plus(w.plus(a, w.mul(outer, a_outer)), w.mul(k0, a_k)), w.plus(b, w.mul(outer, b_outer))
                if p.window is None:
                    bk = w.plus(bk, w.mul(k0, b_k))
                else:
                    w.do(f"call void @NAME.taps(ptr {window_words}, i64 {k0}, i64 {k}, ptr {taps})")
                in_place = self.in_place(w, w.sub(i1, i0), k, b_k) if self.plain else ""
                a_lies_well = self.a_lies_well(w, a_row, a_k, k, w.sub(n1, n0))
                low_tiles = self.low_tiles(w, w.sub(i1, i0))
                # pairs of lines that the next columns are asked for by: as fewer tiles are multiplied before these, more at a time
                few, one = (w.compare("sle", w.sub(i1, i0), n * p.rows) for n in (3, 1))
                few_pairs = w.select(one, "i64", 4, w.select(few, "i64", 2, 1) if p.b_unit == "column" else 2)

                def strips(j0: str, _: list[str]) -> None:
                    j1 = w.min(w.add(j0, n_block), n1)
                    w.loop(j0, j1, self.width, [], lambda j, _: tiles(j))
                    if p.epilogue is not None:
                        w.when(complete, lambda: self.finish(w, entries, i0, i1, j0, j1))

                def tiles(j: str) -> None:
                    columns = w.sub(n1, j)
                    own = w.plus(tile, w.select(keeps, "i64", w.mul(w.div(w.sub(j, n0), self.width), tile_bytes), 0)) if keeps else tile
                    source, source_step = own, str(self.pitch_b)
                    bj = w.plus(bk, w.mul(j, b_column))
                    if isinstance(p.window, Window):
                        for g in range(p.vectors):
                            valid, column = w.min(w.sub(columns, g * p.lanes), p.lanes), w.add(j, g * p.lanes)
                            w.when(w.compare("sgt", valid, 0), lambda valid=valid, column=column, g=g: w.do(  # type: ignore[misc]
                                f"call void @NAME.window(ptr {bk}, ptr {window_words}, i64 {column}, i64 {valid}, ptr {taps}, i64 {k}, "
                                f"ptr {w.plus(tile, g * v.bytes)})"))
                    else:
                        def pack() -> None:
                            self.pack_tile(w, bj, b_k, b_column, columns, k, own)
                        if self.plain:
                            w.when(in_place, lambda: None, pack)
                            source, source_step = w.select(in_place, "ptr", bj, own), w.select(in_place, "i64", b_k, self.pitch_b)
                        elif keeps:
                            w.when(w.op(f"or i1 {first}, {w.op(f'xor i1 {keeps}, true')}"), pack)
                        else:
                            pack()
                    next_a: Rows = (w.plus(ak, w.mul(k, a_k)), *self.rows_of_a(w, a_row, a_k, w.sub(i1, i0), k))
                    after: Rows = next_a       # when the last panel is multiplied: the next columns of B, or the next k
                    pairs = "2"
                    if not isinstance(p.window, Window):
                        beyond = w.plus(bj, w.mul(b_column, self.width))
                        next_b = self.rows_of_b(w, beyond, b_k, b_column, k)
                        more_columns = w.compare("sgt", columns, self.width)
                        after = self.chosen(w, more_columns, next_b, next_a)
                        pairs = w.select(more_columns, "i64", few_pairs, 2)
                    self.ask(w, ahead, after, pairs)
                    opening = w.compare("eq", j, n0)

                    def panels(i: str, carried: list[str]) -> list[str]:
                        low, panel, cij = carried
                        rows = self.tile_rows(w, w.sub(i1, i), low)
                        taken["rows"] = rows
                        ai = w.plus(ak, w.mul(i, a_row))
                        here = w.op(f"and i1 {a_lies_well}, {self.whole_tile(w, rows)}")

                        def prepare() -> None:
                            w.when(here, lambda: None, lambda: self.pack_panel(w, ai, a_row, a_k, rows, k, panel))
                            further = (w.plus(ai, w.mul(a_row, rows)), *self.rows_of_a(w, a_row, a_k, rows, k))
                            goes_on = w.compare("sgt", w.sub(i1, i), rows)
                            self.ask(w, ahead, self.chosen(w, goes_on, further, after), w.select(goes_on, "i64", 2, 4))
                        w.when(opening, prepare)
                        factor = f"ptr {w.select(here, 'ptr', ai, panel)}"
                        for in_memory, packed in self.a_steps(a_row, a_k):
                            factor += f", i64 {w.select(here, 'i64', in_memory, packed)}"
                        w.do(f"call void {self.tile_function(w, rows, columns)}(i64 {k}, {factor}, ptr {source}, i64 {source_step}, "
                             f"ptr {cij}, i64 {c_row}, i64 {rows}, i64 {columns}, i64 {more}, ptr {ahead})")
                        return [w.sub(low, 1), w.plus(panel, panel_bytes), w.plus(cij, w.mul(c_row, rows))]
                    ci = w.plus(w.plus(c, w.mul(i0, c_row)), w.mul(j, self.result_size))
                    w.loop(i0, i1, lambda _: taken["rows"], [("i64", low_tiles), ("ptr", panels_of_a), ("ptr", ci)], panels)
                w.loop(n0, n1, n_block, [], strips)
            w.loop(m0, m1, m_block, [], m_blocks)

        self.opening(w)
        w.loop("%begin", "%end", lambda _: taken["units"], [], unit)
        self.closing(w)
        w.do("ret void")
        return w.text()


# ---------------------------------------------------------------- indices over several axes

def row_bytes(window: Window) -> int:
    """The size of a row of the table of k."""
    return 8 + (4 * window.positions + 7 & -8)


def digits(w: Writer, number: str, sizes: list[str]) -> list[str]:
    """A number as indices, the last one fastest."""
    out: list[str] = []
    for size in reversed(sizes[1:]):
        out.insert(0, w.rem(number, size))
        number = w.div(number, size)
    return [number, *out]


def following(w: Writer, index: list[str], sizes: list[str]) -> list[str]:
    """The next indices, as an odometer turns."""
    out: list[str] = []
    carry = "1"
    for i, size in zip(reversed(index[1:]), reversed(sizes[1:]), strict=True):
        up = w.add(i, carry)
        full = w.compare("eq", up, size)
        out.insert(0, w.select(full, "i64", 0, up))
        carry = w.op(f"zext i1 {full} to i64")
    return [w.add(index[0], carry), *out]


def dot(w: Writer, index: list[str], factors: list[str], total: str | int = 0) -> str:
    """``total + Σ index · factor``."""
    for i, f in zip(index, factors, strict=True):
        total = w.add(total, w.mul(i, f))
    return str(total)
