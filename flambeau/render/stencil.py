"""Sums over small windows as LLVM IR: rows of the image are loaded shifted by every tap, and several rows of places share them.

Input: a :class:`~flambeau.ir.stencil.Stencil`; output: one text with the kernel ``@NAME`` in the ABI of all kernels.  Lanes outside of the
image are masked out of the loads; a row outside of it is a row of zeros in scratch memory.  Every element adds its taps in one order, and every
tap its places, whatever the parts that units are, so results do not depend on how units are shared out.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from ..ir.stencil import Stencil, Words
from .llvm import render_window
from .product import digits
from .writer import Vectors, Writer

Free = tuple[int, ...]
AHEAD = 2                   # times as many rows as are worked on together: so far ahead rows are asked for


def render_stencil(kernel: Stencil) -> str:
    """The LLVM IR of one kernel; equal kernels give equal texts."""
    return _Stencil(kernel).text()


class _Stencil:
    def __init__(self, kernel: Stencil) -> None:
        self.kernel = kernel
        self.size = kernel.dtype.itemsize
        self.v = Vectors("float" if self.size == 4 else "double", kernel.lanes, self.size)
        self.declared: dict[str, None] = {}
        self.indices = list(itertools.product(*[range(n) for n in kernel.taps]))
        # an axis of the taps that moves a position is told by it, the others are free
        self.free = [a for a in range(len(kernel.taps)) if not kernel.down[1 + a] and not kernel.across[1 + a]]

    def moves(self, steps: tuple[int, ...], index: tuple[int, ...]) -> int:
        return sum(s * i for s, i in zip(steps[1:], index, strict=True))

    def text(self) -> str:
        k = self.kernel
        functions = []
        if k.epilogue is not None:
            functions.append(render_window(k.epilogue, "@NAME.finish", k.kept + 1, k.roles, self.declared))
        functions.append(self.main())
        return "\n".join([*functions, *self.declared, ""])

    # ------------------------------------------------------------ one row of the image

    def window(self, w: Writer, x: str, width: str, origin: str, limit: str) -> tuple[str, Callable[[str, int], str]]:
        """The mask of the places from ``x`` on, and what loads them from a row, displaced by some positions."""
        v, step = self.v, self.kernel.across[0]
        wide = f"<{v.lanes} x i32>"
        left = w.sub(width, x)
        exist = v.mask(w, left)
        start = w.add(origin, w.mul(x, step))
        at = w.mul(x, step * self.size)
        known: dict[tuple[int, int, str], str] = {}

        def splat(value: str) -> str:
            one = w.op(f"insertelement {wide} poison, i32 {w.op(f'trunc i64 {value} to i32')}, i64 0")
            return w.op(f"shufflevector {wide} {one}, {wide} poison, {wide} zeroinitializer")
        bound, first = splat(limit), splat(start)

        def inside(shift: int, apart: int, among: str) -> str:
            """The lanes, ``apart`` positions from one to the next, whose elements exist."""
            key = shift, apart, among
            if key not in known:
                lanes = ", ".join(f"i32 {shift + k * apart}" for k in range(v.lanes))
                fits = w.op(f"icmp ult {wide} {w.op(f'add {wide} {first}, <{lanes}>')}, {bound}")
                known[key] = w.op(f"and {v.bit} {fits}, {among}")
            return known[key]
        halves = [v.mask(w, w.sub(w.sub(w.mul(left, 2), 1), h * v.lanes)) for h in (0, 1)] if step == 2 else []

        def load(row: str, shift: int) -> str:
            place = w.plus(w.plus(row, at), shift * self.size)
            if step == 1:
                return v.load(w, place, inside(shift, 1, exist))
            if step == 2:       # neighbours, of which every second is wanted
                a, b = (v.load(w, w.plus(place, h * v.bytes), inside(shift + h * v.lanes, 1, m)) for h, m in enumerate(halves))
                return w.op(f"shufflevector {v.t} {a}, {v.t} {b}, <{v.lanes} x i32> <{', '.join(f'i32 {2 * k}' for k in range(v.lanes))}>")
            steps = "<" + ", ".join(f"i64 {k * step}" for k in range(v.lanes)) + ">"
            pointers = w.op(f"getelementptr {v.element}, ptr {place}, <{v.lanes} x i64> {steps}")
            return w.call(v.t, f"llvm.masked.gather.{v.mangled}.v{v.lanes}p0", (f"<{v.lanes} x ptr>", pointers), ("i32", str(self.size)),
                          (v.bit, inside(shift, step, exist)), (v.t, "zeroinitializer"))
        return exist, load

    # ------------------------------------------------------------ the loops

    def main(self) -> str:
        k, v, size = self.kernel, self.v, self.size
        w = Writer("define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR", self.declared)

        def word(n: int) -> str:
            return w.load("i64", w.plus("%args", 8 * n), 8)
        image, factor, result = (w.plus(w.load("ptr", w.plus("%table", w.mul(word(n), 8)), 8), word(n + 1))
                                 for n in (Words.X_TABLE, Words.F_TABLE, Words.C_TABLE))
        height, width, lead, x_row, place_row, y_origin, y_limit, x_origin, x_limit, zero_count = (
            word(n) for n in range(Words.HEIGHT, Words.OUTER))
        outer = k.kept + k.summed
        sizes, x_steps, f_steps, c_steps = ([word(Words.OUTER + 4 * a + i) for a in range(outer)] for i in range(4))
        at = Words.OUTER + 4 * outer
        tap_x, tap_other = ([word(at + 2 * a + i) for a in range(len(k.taps))] for i in (0, 1))
        at += 2 * len(k.taps)
        positions = [[word(at + i * (2 + outer + len(k.taps)) + j) for j in range(2 + outer + len(k.taps))] for i in range(k.free)]
        # scratch: a row of zeros, then the sums of the taps
        sums_at = "%scratch"
        zeros = w.plus("%scratch", len(self.indices) * v.bytes if k.to_taps else 0)

        def clear(i: str, _: list[str]) -> None:
            v.store(w, "zeroinitializer", w.plus(zeros, w.mul(i, size)))
        w.loop(0, zero_count, v.lanes, [], clear)
        zero_row = w.plus(zeros, w.mul(x_origin, size))

        def place_of(index: list[str], steps: list[str], base: str) -> str:
            for i, s in zip(index, steps, strict=True):
                base = w.plus(base, w.mul(i, s))
            return base

        def taps_of(base: str) -> list[str]:
            """Where what is indexed by the taps lies."""
            return [place_of([str(i) for i in index], tap_other, base) for index in self.indices]

        def rows(base: str, index: list[str], y: str, jam: int, last: str = "") -> dict[tuple[Free, int], str]:
            """The rows of the image that ``jam`` rows of places see, by the free taps and the move down; none beyond what a last one sees."""
            found: dict[tuple[Free, int], str] = {}
            reach = max(self.moves(k.down, t) for t in self.indices)
            top = w.add(y_origin, w.mul(y, k.down[0]))
            start = w.plus(base, w.mul(w.mul(y, k.down[0]), x_row))
            most = w.add(w.mul(last, k.down[0]), reach) if last else ""
            moves = sorted({r * k.down[0] + self.moves(k.down, t) for r in range(jam) for t in self.indices})
            for free in dict.fromkeys(tuple([t[a] for a in self.free]) for t in self.indices):
                exists = "true"
                displaced = place_of([str(i) for i in free], [tap_x[a] for a in self.free], start)
                for limit, value, *steps in positions:
                    for i, s in zip([*index, *map(str, free)], [*steps[:outer], *[steps[outer + a] for a in self.free]], strict=True):
                        value = w.add(value, w.mul(i, s))
                    exists = w.op(f"and i1 {exists}, {w.compare('ult', value, limit)}")
                for move in moves:
                    q = w.min(move, most) if last and move > reach else str(move)
                    there = w.op(f"and i1 {exists}, {w.compare('ult', w.add(top, q), y_limit)}")
                    found[free, move] = w.select(there, "ptr", w.plus(displaced, w.mul(q, x_row)), zero_row)
            return found

        def taps_by_row(jam: int) -> dict[tuple[Free, int], dict[int, list[tuple[int, int]]]]:
            """For every such row: by the move across, which rows of places see it there through which tap."""
            found: dict[tuple[Free, int], dict[int, list[tuple[int, int]]]] = {}
            for r in range(jam):
                for number, t in enumerate(self.indices):
                    key = tuple([t[a] for a in self.free]), r * k.down[0] + self.moves(k.down, t)
                    found.setdefault(key, {}).setdefault(self.moves(k.across, t), []).append((r, number))
            return dict(sorted(found.items()))

        def ask(x: str, there: dict[tuple[Free, int], str], places: list[str]) -> None:
            """Ask for what will be needed of the image's rows, of which those seen before lie near, and of rows of places."""
            step, jam = k.across[0], len(places)
            seen = max(move for _, move in there) - jam * k.down[0]
            for (_, move), row in there.items():
                if move > seen:
                    start = w.plus(row, w.mul(x_row, AHEAD * jam * k.down[0]))
                    for part in range(step):
                        w.prefetch(w.plus(w.plus(start, w.mul(x, step * size)), part * v.bytes))
            for row in places:
                w.prefetch(w.plus(w.plus(row, w.mul(place_row, AHEAD * jam)), w.mul(x, size)), write=not k.to_taps)

        def to_places(number: str, _: list[str]) -> None:
            parts = w.div(w.sub(w.add(height, lead), 1), lead)
            entry, part = w.div(number, parts), w.rem(number, parts)
            index = digits(w, entry, sizes) if outer else []
            base, weights, to = (place_of(index, s, b) for s, b in ((x_steps, image), (f_steps, factor), (c_steps, result)))
            weight = [v.splat(w, w.load(v.element, p, size)) for p in taps_of(weights)]
            y0 = w.mul(part, lead)
            y1 = w.min(w.add(y0, lead), height)

            def some_rows(y: str, _: list[str]) -> None:
                last = w.min(w.sub(w.sub(y1, y), 1), k.jam - 1)
                there = rows(base, index, y, k.jam, last)
                start = w.plus(to, w.mul(y, place_row))
                # rows beyond the last one go where that one goes, before it
                stores = [start] + [w.plus(start, w.mul(w.min(r, last), place_row)) for r in range(1, k.jam)]

                def some_places(x: str, _: list[str]) -> None:
                    exist, load = self.window(w, x, width, x_origin, x_limit)
                    ask(x, there, stores)
                    sums = ["zeroinitializer"] * k.jam
                    for key, by_shift in taps_by_row(k.jam).items():
                        for shift, users in sorted(by_shift.items()):
                            element = load(there[key], shift)
                            for r, tap in users:
                                sums[r] = v.multiply_add(w, element, weight[tap], sums[r])
                    for r in reversed(range(k.jam)):
                        v.store(w, sums[r], w.plus(stores[r], w.mul(x, size)), exist)
                w.loop(0, width, v.lanes, [], some_places)
            w.loop(y0, y1, k.jam, [], some_rows)
            if k.epilogue is not None:
                ends = [e for i in index for e in (i, w.add(i, 1))] + [w.mul(y0, width), w.mul(y1, width)]
                w.do(f"call void @NAME.finish(ptr %table, ptr {w.plus('%args', 8 * k.words)}, {', '.join(f'i64 {e}' for e in ends)})")

        def to_taps(number: str, _: list[str]) -> None:
            kept = digits(w, number, sizes[:k.kept]) if k.kept else []
            count = len(self.indices)
            for tap in range(count):
                v.store(w, "zeroinitializer", w.plus(sums_at, tap * v.bytes))
            planes = "1"
            for n in sizes[k.kept:]:
                planes = w.mul(planes, n)

            def plane(p: str, _: list[str]) -> None:
                index = [*kept, *(digits(w, p, sizes[k.kept:]) if k.summed else [])]
                base, other = (place_of(index, s, b) for s, b in ((x_steps, image), (f_steps, factor)))

                def some_rows(y: str, sums: list[str], jam: int) -> list[str]:
                    there = rows(base, index, y, jam)
                    start = w.plus(other, w.mul(y, place_row))
                    of_places = [w.plus(start, w.mul(place_row, r)) for r in range(jam)]

                    def some_places(x: str, carried: list[str]) -> list[str]:
                        exist, load = self.window(w, x, width, x_origin, x_limit)
                        ask(x, there, of_places)
                        sums = list(carried)
                        here = [v.load(w, w.plus(row, w.mul(x, size)), exist) for row in of_places]
                        for key, by_shift in taps_by_row(jam).items():
                            for shift, users in sorted(by_shift.items()):
                                element = load(there[key], shift)
                                for r, tap in users:
                                    sums[tap] = v.multiply_add(w, element, here[r], sums[tap])
                        return sums
                    return w.loop(0, width, v.lanes, [(v.t, s) for s in sums], some_places)
                whole = w.mul(w.div(height, k.jam), k.jam)
                sums = w.loop(0, whole, k.jam, [(v.t, "zeroinitializer")] * count, lambda y, s: some_rows(y, s, k.jam))
                if k.jam > 1:
                    sums = w.loop(whole, height, 1, [(v.t, s) for s in sums], lambda y, s: some_rows(y, s, 1))
                for tap, s in enumerate(sums):
                    to = w.plus(sums_at, tap * v.bytes)
                    v.store(w, v.add(w, v.load(w, to), s), to)
            w.loop(0, planes, 1, [], plane)
            to = place_of(kept, c_steps[:k.kept], result)
            totals = v.sums(w, [v.load(w, w.plus(sums_at, tap * v.bytes)) for tap in range(count)])
            for total, p in zip(totals, taps_of(to), strict=True):
                w.store(v.element, total, p, size)
        w.loop("%begin", "%end", 1, [], to_taps if k.to_taps else to_places)
        w.do("ret void")
        return w.text()
