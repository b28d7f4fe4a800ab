"""Kernels as LLVM IR text: one function with explicit vectors per kernel.

Input: a :class:`~flambeau.ir.kernel.Kernel`; output: the text of one function named ``@NAME`` with attributes ``#ATTR`` and the
declarations it needs, in the ABI ``void(ptr table, ptr args, i64 begin, i64 end, ptr scratch)``.  Every expression is emitted at the
outermost loop it does not depend on, as a scalar when it is the same for all lanes, else as a vector, and once.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..core.dtype import bfloat16, bool_, dtype, float16, float32, float64, int32, int64
from ..ir import expression as ir
from ..ir.expression import Expr
from ..ir.kernel import INVARIANT, UNIT, Define, Kernel, Loop, Reduction, Scan, Scatter, Write
from ..ir.simplify import cost, identity_value
from .vector_math import lower
from .writer import exchange

_REGISTER = {"bool": "i1", "uint8": "i8", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64",
             "float16": "half", "bfloat16": "i16", "float32": "float", "float64": "double"}
_SUFFIX = {"float": "f32", "double": "f64", "half": "f16"}
_INDEX = frozenset({"axis", "start", "const", "arg", "add", "sub", "mul", "neg", "minimum", "maximum", "floordiv", "mod", "truncdiv", "truncmod"})
_SCRATCH_BYTES = 64          # of the dummy cell that masked-out scalar accesses go to
JAM = 4                      # rows worked on together where they share loads
BLOCK = 512                  # iterations of a block of a long sum
LONG = 24                    # instructions from which one element is enough work to hide an addition's latency


def render(kernel: Kernel) -> str:
    """The LLVM IR of one kernel.

    Parameters
    ----------
    kernel : Kernel
        A kernel that ``ir.verify`` accepts.

    Returns
    -------
    str
        One function definition and its ``declare`` lines; equal kernels give equal texts.
    """
    return _Function(kernel).text()


def render_window(kernel: Kernel, name: str, ranges: int, roles: Sequence[int], declared: dict[str, None]) -> str:
    """An internal function that runs a kernel over a part of its space: ``void(table, args, lo0, hi0, lo1, hi1, ...)``.

    ``roles[a]`` is the number of the range, of ``ranges``, that axis ``a`` runs over; ``declared`` takes the ``declare`` lines.
    """
    f = _Function(kernel, roles)
    parameters = ", ".join(f"i64 %lo{r}, i64 %hi{r}" for r in range(ranges))
    text = f.text(f"define internal void {name}(ptr %table, ptr %args, {parameters}) #ATTR {{")
    declared.update(f.declared)
    return text


class _Scope:
    """One level of loops: what is known there and where code of that level goes."""

    __slots__ = ("memo", "out")

    def __init__(self, out: list[Any], memo: dict[Any, Any] | None = None) -> None:
        self.out = out
        self.memo = {} if memo is None else memo


class _Function:
    """State while one kernel is written out."""

    def __init__(self, kernel: Kernel, roles: Sequence[int] = ()) -> None:
        self.kernel = kernel
        self.roles = roles      # of a window: the parameters that bound each axis
        self.count = 0
        self.block = "entry"
        self.declared: dict[str, None] = {}
        self.root: list[Any] = []
        self.scopes = [_Scope(self.root)]
        self.index: list[str] = [""] * kernel.rank     # SSA name of each open loop's position
        self.block_of: tuple[str, str] | None = None    # where the open block of the cascaded axis starts and ends
        self.mask: str | None = None                    # <lanes x i1> of the lanes inside the iteration space
        self.blocks: list[str] = [""]                   # positions of the vectors that are worked on together
        self.copy = 0                                   # which of them is being written out
        self.flight = kernel.jam if kernel.jam >= 0 else kernel.rank - 2 if kernel.tiled else kernel.lane    # the axis on which they differ
        self.varying: dict[Expr, bool] = {}
        self.indices: dict[Expr, bool] = {}
        self.tile = ""                                  # where the open tile starts along axis rank - 2; "" when there is none
        self.past: tuple[str, str] | None = None        # beside the tiles: where the rows and the lanes end that tiles covered
        self.facts: dict[Expr, tuple[int, bool]] = {}
        self.orders: dict[Expr, list[Expr]] = {}
        self.uniform_rows: dict[int, bool] = {}
        self.lowered: dict[Expr, Expr] = {}
        self.uses_dummy = False

    # ------------------------------------------------------------ text

    def text(self, head: str = "define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {") -> str:
        self._rows(0)
        self.scopes[0].out.append("  ret void")
        lines: list[str] = []
        _flatten(self.root, lines)
        opening = [head, "entry:"]
        if self.uses_dummy:
            opening += [f"  %dummy = alloca [{_SCRATCH_BYTES} x i8], align 64",
                        f"  store <{_SCRATCH_BYTES} x i8> zeroinitializer, ptr %dummy, align 64"]
        return "\n".join([*([] if self.roles else self.declared), *opening, *lines, "}", ""])

    def op(self, depth: int, text: str) -> str:
        """Append an instruction at loop depth ``depth``; its SSA name."""
        self.count += 1
        name = f"%v{self.count}"
        self.scopes[depth].out.append(f"  {name} = {text}")
        return name

    def do(self, text: str) -> None:
        """Append an instruction without a result at the innermost depth."""
        self.scopes[-1].out.append("  " + text)

    def call(self, depth: int, result: str, name: str, *arguments: tuple[str, str]) -> str:
        """Call an intrinsic, declaring it."""
        self.declared[f"declare {result} @{name}({', '.join(t for t, _ in arguments)})"] = None
        return self.op(depth, f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in arguments)})")

    def vector(self, t: str) -> str:
        return f"<{self.kernel.lanes} x {t}>"

    # ------------------------------------------------------------ words

    def word(self, number: int, t: str = "i64") -> str:
        """An argument word."""
        memo = self.scopes[0].memo
        key = ("word", number, t)
        found = memo.get(key)
        if found is None:
            p = self.op(0, f"getelementptr i64, ptr %args, i64 {number}") if number else "%args"
            found = memo[key] = self.op(0, f"load {t}, ptr {p}, align 8")
        return found

    def table(self, number: int, t: str) -> str:
        """The word of the table at the position that argument word ``number`` gives."""
        memo = self.scopes[0].memo
        key = ("table", number, t)
        found = memo.get(key)
        if found is None:
            p = self.op(0, f"getelementptr i64, ptr %table, i64 {self.word(number)}")
            found = memo[key] = self.op(0, f"load {t}, ptr {p}, align 8")
        return found

    def cached(self, depth: int, key: Any, make: Callable[[], str]) -> str:
        """``make()`` once per scope of ``depth``."""
        memo = self.scopes[depth].memo
        found = memo.get(key)
        if found is None:
            found = memo[key] = make()
        return found

    # ------------------------------------------------------------ loops

    def new_block(self) -> str:
        self.count += 1
        return f"b{self.count}"

    def loop(self, lo: str, hi: str, step: int, carried: Sequence[tuple[str, str]], body: Callable[[str, list[str]], Sequence[str]],
             may_be_empty: bool) -> list[str]:
        """``for i in lo..hi by step`` carrying values; ``body(i, values)`` returns the next ones."""
        scope = self.scopes[-1]
        pre: list[Any] = []
        outer = scope.out
        outer.append(pre)
        scope.out = pre
        before, inside, after = self.block, self.new_block(), self.new_block()
        self.count += 1
        number = self.count
        if may_be_empty:
            outer += [f"  %e{number} = icmp slt i64 {lo}, {hi}", f"  br i1 %e{number}, label %{inside}, label %{after}"]
        else:
            outer.append(f"  br label %{inside}")
        outer.append(f"{inside}:")
        phis: list[str] = []
        outer.append(phis)
        code: list[Any] = []
        outer.append(code)
        self.scopes.append(_Scope(code))
        self.block = inside
        i = f"%i{number}"
        values = [f"%c{number}_{k}" for k in range(len(carried))]
        new = body(i, values)
        last = self.block
        self.scopes.pop()
        outer += [f"  %n{number} = add nsw i64 {i}, {step}", f"  %t{number} = icmp slt i64 %n{number}, {hi}",
                  f"  br i1 %t{number}, label %{inside}, label %{after}", f"{after}:"]
        phis.append(f"  {i} = phi i64 [ {lo}, %{before} ], [ %n{number}, %{last} ]")
        for (t, start), name, value in zip(carried, values, new, strict=True):
            phis.append(f"  {name} = phi {t} [ {start}, %{before} ], [ {value}, %{last} ]")
        results = list(new)
        if may_be_empty:
            results = [f"%r{number}_{k}" for k in range(len(carried))]
            for (t, start), name, value in zip(carried, results, new, strict=True):
                outer.append(f"  {name} = phi {t} [ {start}, %{before} ], [ {value}, %{last} ]")
        self.block = after
        scope.out = outer
        return results

    def when(self, condition: str, carried: Sequence[tuple[str, str]], body: Callable[[], Sequence[str]]) -> list[str]:
        """Run ``body`` where the scalar ``condition`` holds; its values, or the carried ones."""
        scope = self.scopes[-1]
        pre: list[Any] = []
        outer = scope.out
        outer.append(pre)
        scope.out = pre
        before, inside, after = self.block, self.new_block(), self.new_block()
        code: list[Any] = []
        outer += [f"  br i1 {condition}, label %{inside}, label %{after}", f"{inside}:", code]
        self.scopes.append(_Scope(code))
        self.block = inside
        new = body()
        last = self.block
        self.scopes.pop()
        outer += [f"  br label %{after}", f"{after}:"]
        results = []
        for (t, start), value in zip(carried, new, strict=True):
            self.count += 1
            results.append(f"%v{self.count}")
            outer.append(f"  {results[-1]} = phi {t} [ {start}, %{before} ], [ {value}, %{last} ]")
        self.block = after
        scope.out = outer
        return results

    def bounds(self, axis: int) -> tuple[str, str]:
        """First position and end of an axis."""
        kernel = self.kernel
        if axis == kernel.cascade and self.block_of is not None:
            return self.block_of
        if self.roles:
            return f"%lo{self.roles[axis]}", f"%hi{self.roles[axis]}"
        size = self.word(kernel.sizes[axis])
        if axis == 0 and kernel.unit >= 0:
            def make(end: str) -> Callable[[], str]:
                return lambda: self.op(0, f"mul i64 {end}, {self.word(kernel.unit)}")
            lo = self.cached(0, "lo", make("%begin"))
            hi = self.cached(0, "hi", lambda: self.call(0, "i64", "llvm.smin.i64", ("i64", make("%end")()), ("i64", size)))
            return lo, hi
        if kernel.ragged >= 0 and axis == kernel.rank - 1:
            def rest() -> str:
                start = self.op(1, f"mul i64 {self.index[0]}, {size}")
                left = self.op(1, f"sub i64 {self.word(kernel.ragged)}, {start}")
                return self.call(1, "i64", "llvm.smin.i64", ("i64", left), ("i64", size))
            return "0", self.cached(1, "ragged", rest)
        return "0", size

    def along(self, axis: int, carried: list[tuple[str, str]], copies: int, body: Callable[[list[str]], Sequence[str]]) -> list[str]:
        """Run over one axis.  ``carried`` holds one set of values per vector in flight (``copies``); ``body`` returns the next ones."""
        kernel = self.kernel
        lo, hi = self.bounds(axis)
        depth = len(self.scopes) - 1
        if kernel.tiled and axis == kernel.rank - 2:
            self._tiles(lo, hi, body)
            return []
        if axis == kernel.jam:
            self._jammed(lo, hi, body)
            return []
        if axis != kernel.lane:
            def single(i: str, values: list[str]) -> Sequence[str]:
                self.index[axis] = i
                return body(values)
            return self.loop(lo, hi, 1, carried, single, False)
        width = kernel.lanes
        outside = self.blocks
        if self.flight != axis:
            copies = 1

        def masked(i: str, values: list[str]) -> Sequence[str]:
            inner = len(self.scopes) - 1
            left = self.op(inner, f"sub i64 {hi}, {i}")
            left = self.call(inner, "i64", "llvm.smin.i64", ("i64", left), ("i64", str(width)))
            left = self.op(inner, f"trunc i64 {left} to i32")
            lanes = ", ".join(f"i32 {k}" for k in range(width))
            self.mask = self.op(inner, f"icmp ult {self.vector('i32')} <{lanes}>, {self.splat(inner, left, 'i32')}")
            if self.flight == axis:
                self.blocks = [i]
            self.index[axis] = i
            new = body(values)
            self.mask = None
            return new

        def several(i: str, values: list[str]) -> Sequence[str]:
            inner = len(self.scopes) - 1
            if self.flight == axis:
                self.blocks = [i] + [self.op(inner, f"add nsw i64 {i}, {k * width}") for k in range(1, copies)]
            self.index[axis] = i
            return body(values)

        if self.tile:
            def square(i: str, values: list[str]) -> Sequence[str]:
                self.index[axis] = i
                return body(values)
            whole = self.op(depth, f"and i64 {hi}, {-width}")
            return self.loop("0", whole, width, carried, square, True)
        if self.past is not None:
            covered, full = self.past
            inside = self.op(depth, f"icmp slt i64 {self.index[axis - 1]}, {covered}")
            start = self.op(depth, f"select i1 {inside}, i64 {full}, i64 0")
            result = self.loop(start, hi, width, carried, masked, True)
        elif not kernel.large:
            result = self.loop(lo, hi, width, carried, masked, False)
        else:
            # whole vectors, several at a time, then what is left under a mask
            per = len(carried) // copies
            span = self.op(depth, f"sub i64 {hi}, {lo}")
            whole = self.op(depth, f"and i64 {span}, {-width * copies}")
            end = self.op(depth, f"add i64 {lo}, {whole}")
            values = self.loop(lo, end, width * copies, carried, several, True)
            first = [(t, v) for (t, _), v in zip(carried[:per], values[:per], strict=True)]
            result = self.loop(end, hi, width, first, masked, True) + values[per:]
        self.blocks = outside
        return result

    def blockwise(self, axis: int, step: int, carried: list[tuple[str, str]], body: Callable[[list[str]], list[str]]) -> list[str]:
        """Run over blocks of ``step`` positions of an axis; ``body`` runs over the block that :meth:`bounds` then gives."""
        lo, hi = self.bounds(axis)

        def block(i: str, values: list[str]) -> Sequence[str]:
            # a block is no axis of its own: code that belongs before the axis's loop goes to the start of the block
            inside, outside = self.scopes.pop(), self.scopes.pop()
            self.scopes.append(_Scope(inside.out, dict(outside.memo)))
            depth = len(self.scopes) - 1
            end = self.call(depth, "i64", "llvm.smin.i64", ("i64", self.op(depth, f"add nsw i64 {i}, {step}")), ("i64", hi))
            self.block_of = i, end
            new = body(values)
            self.block_of = None
            self.scopes.pop()
            self.scopes += [outside, inside]
            return new
        return self.loop(lo, hi, step, carried, block, False)

    def _jammed(self, lo: str, hi: str, body: Callable[[list[str]], Sequence[str]]) -> None:
        """Run over a row axis, several positions at a time, so that they share what does not depend on it."""
        axis, depth = self.kernel.jam, len(self.scopes) - 1
        span = self.op(depth, f"sub i64 {hi}, {lo}")
        end = self.op(depth, f"add i64 {lo}, {self.op(depth, f'and i64 {span}, {-JAM}')}")

        def run(copies: int) -> Callable[[str, list[str]], Sequence[str]]:
            def go(i: str, values: list[str]) -> Sequence[str]:
                inner = len(self.scopes) - 1
                self.blocks = [i] + [self.op(inner, f"add nsw i64 {i}, {k}") for k in range(1, copies)]
                self.index[axis] = i
                return body([])
            return go
        self.loop(lo, end, JAM, [], run(JAM), True)
        self.loop(end, hi, 1, [], run(1), True)
        self.blocks = [""]

    def _tiles(self, lo: str, hi: str, body: Callable[[list[str]], Sequence[str]]) -> None:
        """Run over the axis beside the lanes: whole tiles first, then what they left at both edges."""
        kernel = self.kernel
        axis, width, depth = kernel.rank - 2, kernel.lanes, len(self.scopes) - 1
        span = self.op(depth, f"sub i64 {hi}, {lo}")
        covered = self.op(depth, f"add i64 {lo}, {self.op(depth, f'and i64 {span}, {-width}')}")
        full = self.op(depth, f"and i64 {self.word(kernel.sizes[axis + 1])}, {-width}")

        def tile(i: str, values: list[str]) -> Sequence[str]:
            inner = len(self.scopes) - 1
            self.tile = i
            self.blocks = [i] + [self.op(inner, f"add nsw i64 {i}, {k}") for k in range(1, width)]
            self.index[axis] = i
            body([])
            self.tile, self.blocks = "", [""]
            return []

        def row(i: str, values: list[str]) -> Sequence[str]:
            self.index[axis] = i
            self.past = covered, full
            body([])
            self.past = None
            return []
        self.loop(lo, covered, width, [], tile, True)
        self.loop(lo, hi, 1, [], row, True)

    def transposed(self, depth: int, number: int) -> list[str]:
        """The vectors along the lanes of the open tile of a place, one per row of the tile."""
        found = self.scopes[depth].memo.get(("tile", number))
        if found is not None:
            return list(found)
        kernel = self.kernel
        place = kernel.places[number]
        width, t = kernel.lanes, self.vector(_memory(place.dtype))
        copy, self.copy = self.copy, 0
        self.index[kernel.rank - 2] = self.tile
        p = self.pointer(number, None)
        step = self.word(place.strides[kernel.lane])
        rows = []
        for k in range(width):
            if k:
                p = self.op(depth, f"getelementptr i8, ptr {p}, i64 {step}")
            rows.append(self.op(depth, f"load {t}, ptr {p}, align {place.dtype.itemsize}"))
        distance = width // 2
        while distance:             # exchange blocks of halving size across the diagonal
            near, far = exchange(width, distance)
            for k in range(width):
                if not k & distance:
                    a, b = rows[k], rows[k + distance]
                    for at, lanes in ((k, near), (k + distance, far)):
                        rows[at] = self.op(depth, f"shufflevector {t} {a}, {t} {b}, {self.vector('i32')} <{lanes}>")
            distance //= 2
        if place.dtype is bool_:
            rows = [self.op(depth, f"icmp ne {t} {v}, zeroinitializer") for v in rows]
        self.copy = copy
        self.index[kernel.rank - 2] = self.blocks[copy]
        self.scopes[depth].memo["tile", number] = rows
        return rows

    def each(self) -> Iterator[int]:
        """The vectors in flight, one after the other, as the current one."""
        flight = self.flight if self.blocks[0] else -1
        for k, position in enumerate(self.blocks):
            self.copy = k
            if flight >= 0:
                self.index[flight] = position
            yield k
        self.copy = 0
        if flight >= 0:
            self.index[flight] = self.blocks[0]

    # ------------------------------------------------------------ stages

    def _rows(self, axis: int) -> None:
        kernel = self.kernel
        if axis == kernel.split:
            for stage in kernel.stages:
                self._stage(stage)
            return

        def body(values: list[str]) -> list[str]:
            self._rows(axis + 1)
            return []
        self.along(axis, [], self.copies() if axis == kernel.lane else 1, body)

    def copies(self, stage: Loop | None = None) -> int:
        """How many vectors are in flight: enough chains of additions to hide their latency, fewer when registers are scarce."""
        if not self.kernel.large or self.flight != self.kernel.lane:
            return 1
        stages = [stage] if stage is not None else [s for s in self.kernel.stages if isinstance(s, Loop)]
        reductions = max([len(s.reductions) for s in stages], default=0)
        work = max([cost(r.value) for s in stages for r in s.reductions], default=0)
        if work > LONG:
            return 1 if reductions > 2 else 2       # the values themselves keep the processor busy
        return 1 if reductions == 0 else 4 if reductions <= 2 else 2 if reductions <= 5 else 1

    def _stage(self, stage: Any) -> None:
        if isinstance(stage, Define):
            e = self.prepare(stage.value)
            for _ in self.each():
                name, uniform = self.value(e)
                self.define(stage.number, stage.value.dtype, name, uniform)
        elif isinstance(stage, Write):
            e = self.prepare(stage.value)
            for _ in self.each():
                self.evaluate(e)
            for _ in self.each():
                self.store(stage.place, e)
        elif isinstance(stage, Loop):
            self._loop(stage)
        elif isinstance(stage, Scan):
            self._scan(stage)
        else:
            self._scatter(stage)

    def define(self, number: int, d: dtype, name: str, uniform: bool) -> None:
        """Make an SSA value known as row value ``number``."""
        self.uniform_rows[number] = uniform
        leaf = ir.make("row", d, (), number)
        self.facts[leaf] = (self.kernel.split, uniform)
        self.scopes[self.kernel.split].memo[self.key(leaf)] = (name, uniform)

    def _loop(self, stage: Loop) -> None:
        kernel = self.kernel
        reductions = [(r, self.prepare(r.value)) for r in stage.reductions]
        writes = [(w, self.prepare(w.value)) for w in stage.writes]
        inside = kernel.lane >= kernel.split        # lanes run along the columns: their vectors are combined at the end
        copies = self.copies(stage) if inside and self.flight == kernel.lane else len(self.blocks)
        vectors = kernel.lane >= 0
        start = []
        for r, _ in reductions:
            t = _REGISTER[r.value.dtype.name]
            start.append((self.vector(t), f"splat ({t} {identity(r.combine, r.value.dtype)})") if vectors
                         else (t, identity(r.combine, r.value.dtype)))

        per = len(reductions)

        def element(values: list[str]) -> list[str]:
            new: list[str] = []
            for k in self.each():
                for (r, e), accumulator in zip(reductions, values[k * per:(k + 1) * per], strict=True):
                    new.append(self.combine_value(r, e, accumulator))
                for _, e in writes:
                    self.evaluate(e)
            for _ in self.each():
                for w, e in writes:
                    self.store(w.place, e)
            return new

        def columns(axis: int, carried: list[tuple[str, str]]) -> Sequence[str]:
            if axis == kernel.rank:      # also without columns: a reduction over nothing is its one value
                return element([v for _, v in carried])

            def body(values: list[str]) -> Sequence[str]:
                return columns(axis + 1, [(carried[i][0], v) for i, v in enumerate(values)])
            if axis != kernel.cascade:
                return self.along(axis, carried, copies, body)

            def block(totals: list[str]) -> list[str]:
                depth = len(self.scopes) - 1
                parts = self.along(axis, start * copies, copies, body)
                return [self.combine(depth, reductions[i % per][0].combine, reductions[i % per][1].dtype, total, part, vectors)
                        for i, (total, part) in enumerate(zip(totals, parts, strict=True))]
            return self.blockwise(axis, BLOCK * (kernel.lanes * copies if axis == kernel.lane else 1), carried, block)

        values = columns(kernel.split, start * copies)
        depth = kernel.split
        sets = [values[k * per:(k + 1) * per] for k in range(copies)]
        for k, (r, _) in enumerate(reductions):
            parts = [s[k] for s in sets]
            d = r.value.dtype
            if not vectors or not inside:
                for copy in self.each():
                    self.define(r.number, d, parts[copy], not vectors)
                continue
            if self.flight != kernel.lane:
                for copy in self.each():
                    self.define(r.number, d, self.across(depth, r.combine, d, parts[copy]), True)
                continue
            while len(parts) > 1:
                parts = [self.combine(depth, r.combine, d, a, b, True) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            self.define(r.number, d, self.across(depth, r.combine, d, parts[0]), True)

    def combine_value(self, r: Reduction, e: Expr, accumulator: str) -> str:
        """One element (or vector of them) added to an accumulator."""
        kernel = self.kernel
        vectors = kernel.lane >= 0
        d = e.dtype
        depth = len(self.scopes) - 1
        t = self.vector(_REGISTER[d.name]) if vectors else _REGISTER[d.name]
        if r.combine == "sum" and e.op == "mul" and d.is_floating_point:
            self.evaluate(e.args[0])
            self.evaluate(e.args[1])
            a, b = (self.wide(x) if vectors else self.value(x)[0] for x in e.args)
            new = self.intrinsic(depth, "fma", d, vectors, a, b, accumulator)
        else:
            self.evaluate(e)
            new = self.combine(depth, r.combine, d, accumulator, self.wide(e) if vectors else self.value(e)[0], vectors)
        if self.mask is not None and kernel.lane >= kernel.split:
            new = self.op(depth, f"select {self.vector('i1')} {self.mask}, {t} {new}, {t} {accumulator}")
        return new

    def combine(self, depth: int, op: str, d: dtype, a: str, b: str, vector: bool) -> str:
        """``a`` and ``b`` combined; max and min keep a NaN of either."""
        t = _REGISTER[d.name]
        t = self.vector(t) if vector else t
        return self._combine(depth, op, d, t, a, b)

    def _combine(self, depth: int, op: str, d: dtype, t: str, a: str, b: str) -> str:
        is_float = d.is_floating_point
        if op in ("sum", "prod"):
            return self.op(depth, f"{'f' if is_float else ''}{'add' if op == 'sum' else 'mul'} {t} {a}, {b}")
        if op in ("any", "all"):
            return self.op(depth, f"{'or' if op == 'any' else 'and'} {t} {a}, {b}")
        bits = t.replace("half", "i1").replace("float", "i1").replace("double", "i1")
        if is_float:
            better = self.op(depth, f"fcmp {'ogt' if op == 'max' else 'olt'} {t} {b}, {a}")
            best = self.op(depth, f"select {bits} {better}, {t} {b}, {t} {a}")
            nan = self.op(depth, f"fcmp uno {t} {b}, {b}")
            return self.op(depth, f"select {bits} {nan}, {t} {b}, {t} {best}")
        if d is bool_:
            return self.op(depth, f"{'or' if op == 'max' else 'and'} {t} {a}, {b}")
        name = ("s" if d.is_signed else "u") + op
        return self.call(depth, t, f"llvm.{name}.{_mangle(t)}", (t, a), (t, b))

    def across(self, depth: int, op: str, d: dtype, v: str) -> str:
        """All lanes combined by a fixed tree: halves, quarters, ..."""
        width, t = self.kernel.lanes, _REGISTER[d.name]
        while width > 1:
            half = width // 2
            low, high = (", ".join(f"i32 {k + j}" for k in range(half)) for j in (0, half))
            now = f"<{width} x {t}>"
            a = self.op(depth, f"shufflevector {now} {v}, {now} poison, <{half} x i32> <{low}>")
            b = self.op(depth, f"shufflevector {now} {v}, {now} poison, <{half} x i32> <{high}>")
            v = self._combine(depth, op, d, f"<{half} x {t}>", a, b)
            width = half
        return self.op(depth, f"extractelement <1 x {t}> {v}, i64 0")

    def _scan(self, stage: Scan) -> None:
        kernel = self.kernel
        value, finish = self.prepare(stage.value), self.prepare(stage.finish)
        d = value.dtype
        vectors = kernel.lane >= 0
        t = _REGISTER[d.name]
        start = identity(stage.combine, d)
        carried = [(self.vector(t), f"splat ({t} {start})")] if vectors else [(t, start)]
        leaf = ir.acc(d)
        self.facts[leaf] = (kernel.rank, not vectors)
        axis, copies = kernel.rank - 1, len(self.blocks)
        strides = sorted({p.strides[axis] for p in kernel.places} - {INVARIANT, UNIT})
        lo = self.bounds(axis)[0]       # addresses are counted on: a chain of additions has no time for multiplications
        starts = [("i64", lo if lo == "0" else self.op(axis, f"mul i64 {lo}, {self.word(s)}")) for s in strides]

        def body(values: list[str]) -> list[str]:
            inner = len(self.scopes) - 1
            moved = values[copies:]
            for s, at in zip(strides, moved, strict=True):
                self.scopes[inner].memo["moved", axis, s, self.index[axis]] = at
            new = []
            for k in self.each():
                self.evaluate(value)
                new.append(self.combine(inner, stage.combine, d, values[k], self.wide(value) if vectors else self.value(value)[0], vectors))
                self.scopes[inner].memo[self.key(leaf)] = (new[-1], not vectors)
                self.evaluate(finish)
                self.store(stage.place, finish)
            return new + [self.op(inner, f"add i64 {at}, {self.word(s)}") for s, at in zip(strides, moved, strict=True)]
        self.along(axis, carried * copies + starts, copies, body)

    def _scatter(self, stage: Scatter) -> None:
        kernel = self.kernel
        value, target = self.prepare(stage.value), self.prepare(stage.target)
        guard = None if stage.guard is None else self.prepare(stage.guard)

        def columns(axis: int) -> None:
            if axis == kernel.rank:
                for _ in self.each():
                    self.scatter(stage, value, target, guard)
                return

            def body(values: list[str]) -> list[str]:
                columns(axis + 1)
                return []
            self.along(axis, [], 1, body)
        columns(kernel.split)

    def scatter(self, stage: Scatter, value: Expr, target: Expr, guard: Expr | None) -> None:
        """One element (or vector) combined into where it belongs."""
        place = self.kernel.places[stage.place]
        depth = len(self.scopes) - 1
        for e in (value, target, guard):
            if e is not None:
                self.evaluate(e)
        pointer, lanes = self.address(depth, stage.place, target)
        allowed = None if guard is None else guard
        if stage.combine:
            old = self.read(depth, place.dtype, pointer, lanes, allowed, literal(0, place.dtype, memory=True))
            d = value.dtype
            wide = lanes != "uniform"
            if place.dtype is not d:
                old = self.convert(depth, old, place.dtype, d, wide)
            new = self.wide(value) if wide else self.value(value)[0]
            t = _REGISTER[d.name]
            new = self._combine(depth, stage.combine, d, self.vector(t) if wide else t, old, new)
            if place.dtype is not d:
                new = self.convert(depth, new, d, place.dtype, wide)
        else:
            new = self.wide(value) if lanes != "uniform" else self.value(value)[0]
        self.write(place.dtype, pointer, lanes, allowed, new)

    # ------------------------------------------------------------ memory

    def pointer(self, number: int, offset: Expr | None) -> str:
        """The address of a place at the current position, displaced by a scalar offset."""
        kernel = self.kernel
        place = kernel.places[number]
        flight = self.flight
        in_flight = flight >= 0 and place.strides[flight] != INVARIANT

        def base() -> str:
            b = self.table(place.table, "ptr")
            return self.op(0, f"getelementptr i8, ptr {b}, i64 {self.word(place.offset)}")
        pointer = self.cached(0, ("base", number), base)
        level = 0
        for a, code in enumerate(place.strides):
            if code == INVARIANT:
                continue
            level = a + 1

            def step(pointer: str = pointer, level: int = level, a: int = a, code: int = code) -> str:
                if code == UNIT:
                    return self.op(level, f"getelementptr {_memory(place.dtype)}, ptr {pointer}, i64 {self.index[a]}")
                bytes_ = self.cached(level, ("moved", a, code, self.index[a]), lambda: self.op(level, f"mul i64 {self.index[a]}, {self.word(code)}"))
                return self.op(level, f"getelementptr i8, ptr {pointer}, i64 {bytes_}")
            pointer = self.cached(level, ("address", number, a, self.copy if a >= flight and in_flight else 0), step)
        if offset is not None:
            at = self.value(offset)[0]
            level = max(level, self.fact(offset)[0])
            k = "displaced", number, self.copy if in_flight else 0, self.key(offset)
            pointer = self.cached(level, k, lambda: self.op(level, f"getelementptr {_memory(place.dtype)}, ptr {pointer}, i64 {at}"))
        return pointer

    def address(self, depth: int, number: int, offset: Expr | None) -> tuple[str, str]:
        """A pointer for a place in the current position, and how lanes find theirs: uniform, unit or apart (vector of pointers)."""
        kernel = self.kernel
        place = kernel.places[number]
        size = place.dtype.itemsize
        lane_code = place.strides[kernel.lane] if kernel.lane >= 0 else INVARIANT
        uniform_offset = offset is None or self.fact(offset)[1]
        pointer = self.pointer(number, offset if uniform_offset else None)
        if lane_code == INVARIANT and uniform_offset:
            return pointer, "uniform"
        if lane_code == UNIT and uniform_offset:
            return pointer, "unit"
        apart = None
        if lane_code == UNIT:
            apart = "<" + ", ".join(f"i64 {k * size}" for k in range(kernel.lanes)) + ">"
        elif lane_code != INVARIANT:
            def spread() -> str:
                iota = "<" + ", ".join(f"i64 {k}" for k in range(kernel.lanes)) + ">"
                return self.op(0, f"mul {self.vector('i64')} {self.splat(0, self.word(lane_code), 'i64')}, {iota}")
            apart = self.cached(0, ("spread", lane_code), spread)
        if not uniform_offset:
            assert offset is not None
            at = self.value(offset)[0]
            t = self.vector("i64")
            scaled = self.op(depth, f"mul {t} {at}, splat (i64 {size})")
            apart = scaled if apart is None else self.op(depth, f"add {t} {scaled}, {apart}")
        return self.op(depth, f"getelementptr i8, ptr {pointer}, {self.vector('i64')} {apart}"), "apart"

    def all_lanes(self) -> str:
        return self.mask or "splat (i1 true)"

    def read(self, depth: int, d: dtype, pointer: str, lanes: str, guard: Expr | None, fill: str) -> str:
        """Load a value (scalar when ``lanes`` is uniform) of dtype ``d``; ``fill`` where the guard does not hold."""
        memory, size = _memory(d), d.itemsize
        if lanes == "uniform":
            if guard is not None:
                allowed = self.value(guard)[0]
                self.uses_dummy = True
                pointer = self.op(depth, f"select i1 {allowed}, ptr {pointer}, ptr %dummy")
            v = self.op(depth, f"load {memory}, ptr {pointer}, align {size}")
            if guard is not None:
                v = self.op(depth, f"select i1 {allowed}, {memory} {v}, {memory} {fill}")
            return self.op(depth, f"icmp ne i8 {v}, 0") if d is bool_ else v
        t = self.vector(memory)
        if guard is None:
            mask, passthrough = self.all_lanes(), "zeroinitializer"
        else:
            mask, passthrough = self.wide(guard), f"splat ({memory} {fill})"
            if self.mask is not None:
                mask = self.op(depth, f"and {self.vector('i1')} {mask}, {self.mask}")
        if lanes == "unit":
            if self.mask is None and guard is None:
                v = self.op(depth, f"load {t}, ptr {pointer}, align {size}")
            else:
                v = self.call(depth, t, f"llvm.masked.load.{_mangle(t)}.p0", ("ptr", pointer), ("i32", str(size)),
                              (self.vector("i1"), mask), (t, passthrough))
        else:
            p = self.vector("ptr")
            v = self.call(depth, t, f"llvm.masked.gather.{_mangle(t)}.v{self.kernel.lanes}p0", (p, pointer), ("i32", str(size)),
                          (self.vector("i1"), mask), (t, passthrough))
        return self.op(depth, f"icmp ne {t} {v}, zeroinitializer") if d is bool_ else v

    def load(self, depth: int, e: Expr) -> tuple[str, bool]:
        """The value of a ``load`` node."""
        place = self.kernel.places[e.attr]
        if self.tile and not e.args and place.strides[self.kernel.rank - 2] == UNIT and place.strides[self.kernel.lane] > 0:
            return self.transposed(depth, e.attr)[self.copy], False
        offset = e.args[0] if e.args else None
        guard = e.args[1] if len(e.args) > 1 else None
        if guard is not None:
            self.value(guard)
        pointer, lanes = self.address(depth, e.attr, offset)
        if lanes == "uniform" and guard is not None and not self.fact(guard)[1]:
            lanes = "apart"          # one address under different guards
            pointer = self.splat(depth, pointer, "ptr")
        fill = "0"
        if guard is not None:
            fill = literal(0 if place.fill is None else place.fill, place.dtype, memory=True)
        return self.read(depth, place.dtype, pointer, lanes, guard, fill), lanes == "uniform"

    def store(self, number: int, value: Expr) -> None:
        """Store a value that was evaluated, at the current position."""
        pointer, lanes = self.address(len(self.scopes) - 1, number, None)
        d = self.kernel.places[number].dtype
        self.write(d, pointer, lanes, None, self.value(value)[0] if lanes == "uniform" else self.wide(value))

    def write(self, d: dtype, pointer: str, lanes: str, guard: Expr | None, value: str) -> None:
        depth = len(self.scopes) - 1
        memory, size = _memory(d), d.itemsize
        if lanes == "uniform":
            if d is bool_:
                value = self.op(depth, f"zext i1 {value} to i8")
            if guard is not None:
                self.uses_dummy = True
                pointer = self.op(depth, f"select i1 {self.value(guard)[0]}, ptr {pointer}, ptr %dummy")
            self.do(f"store {memory} {value}, ptr {pointer}, align {size}")
            return
        t = self.vector(memory)
        if d is bool_:
            value = self.op(depth, f"zext {self.vector('i1')} {value} to {t}")
        mask = self.all_lanes()
        if guard is not None:
            mask = self.wide(guard)
            if self.mask is not None:
                mask = self.op(depth, f"and {self.vector('i1')} {mask}, {self.mask}")
        if lanes == "unit" and mask == "splat (i1 true)":
            self.do(f"store {t} {value}, ptr {pointer}, align {size}")
            return
        what, p = ("masked.store", "ptr") if lanes == "unit" else ("masked.scatter", self.vector("ptr"))
        name = f"llvm.{what}.{_mangle(t)}." + ("p0" if lanes == "unit" else f"v{self.kernel.lanes}p0")
        m = self.vector("i1")
        self.declared[f"declare void @{name}({t}, {p}, i32, {m})"] = None
        self.do(f"call void @{name}({t} {value}, {p} {pointer}, i32 {size}, {m} {mask})")

    # ------------------------------------------------------------ values

    def prepare(self, e: Expr) -> Expr:
        """The expression in the arithmetic vocabulary, with the order of evaluation known."""
        done = self.lowered.get(e)
        if done is None:
            done = self.lowered[e] = lower(expand(e))
        return done

    def order(self, e: Expr) -> list[Expr]:
        found = self.orders.get(e)
        if found is None:
            found = self.orders[e] = ir.walk(e)
            for x in found:
                self.fact(x)
        return found

    def fact(self, e: Expr) -> tuple[int, bool]:
        """How many loops must be open for ``e``, and whether it is the same for all lanes."""
        known = self.facts.get(e)
        if known is not None:
            return known
        op, lane = e.op, self.kernel.lane
        depth, uniform = 0, True
        if op == "axis":
            depth, uniform = e.attr + 1, e.attr != lane
        elif op == "start":
            depth = e.attr + 1
        elif op == "load":
            strides = self.kernel.places[e.attr].strides
            for a, code in enumerate(strides):
                if code != INVARIANT:
                    depth = a + 1
            uniform = lane < 0 or strides[lane] == INVARIANT
        for x in e.args:
            d, u = self.fact(x)
            if d > depth:
                depth = d
            uniform = uniform and u
        self.facts[e] = (depth, uniform)
        return depth, uniform

    def varies(self, e: Expr) -> bool:
        """Whether the vectors in flight have different values of ``e``."""
        known = self.varying.get(e)
        if known is None:
            if self.flight == self.kernel.lane:
                known = not self.fact(e)[1] or e.op == "start" or any(self.varies(a) for a in e.args)
            elif e.op == "axis":
                known = e.attr == self.flight
            elif e.op == "row":
                known = True
            else:
                known = (e.op == "load" and self.kernel.places[e.attr].strides[self.flight] != INVARIANT) or any(self.varies(a) for a in e.args)
            self.varying[e] = known
        return known

    def key(self, e: Expr) -> Any:
        """Under which a value is remembered: what differs between the vectors in flight is kept for each."""
        return (self.copy, e) if self.copy and self.varies(e) else e

    def evaluate(self, e: Expr) -> None:
        """Emit ``e`` and everything below it that is not known yet."""
        scopes, facts, copy = self.scopes, self.facts, self.copy
        for x in self.order(e):
            if x.op == "const":
                continue
            memo = scopes[facts[x][0]].memo
            k: Any = self.key(x) if copy else x
            if k not in memo:
                memo[k] = self.emit(x)

    def value(self, e: Expr) -> tuple[str, bool]:
        """SSA name (or literal) of ``e`` and whether it is a scalar."""
        if e.op == "const":
            return literal(e.attr, e.dtype), True
        memo = self.scopes[self.fact(e)[0]].memo
        k = self.key(e)
        found = memo.get(k)
        if found is None:
            self.evaluate(e)
            found = memo[k]
        return found

    def wide(self, e: Expr) -> str:
        """``e`` as a vector."""
        t = _REGISTER[e.dtype.name]
        if e.op == "const":
            return f"splat ({t} {literal(e.attr, e.dtype)})"
        name, uniform = self.value(e)
        if not uniform:
            return name
        depth = self.fact(e)[0]
        return self.cached(depth, ("wide", self.key(e)), lambda: self.splat(depth, name, t))

    def splat(self, depth: int, scalar: str, t: str) -> str:
        v = self.vector(t)
        one = self.op(depth, f"insertelement {v} poison, {t} {scalar}, i64 0")
        return self.op(depth, f"shufflevector {v} {one}, {v} poison, {self.vector('i32')} zeroinitializer")

    def intrinsic(self, depth: int, name: str, d: dtype, vector: bool, *values: str) -> str:
        t = _REGISTER[d.name]
        t = self.vector(t) if vector else t
        return self.call(depth, t, f"llvm.{name}.{_mangle(t)}", *((t, v) for v in values))

    def emit(self, e: Expr) -> tuple[str, bool]:
        """Emit one node whose arguments are known."""
        depth, uniform = self.fact(e)
        op, d = e.op, e.dtype
        if op == "load":
            return self.load(depth, e)
        if op == "arg":
            return self.number(e, self.word(e.attr, "double" if d.is_floating_point else "i64")), True
        if op == "scalar":
            return self.number(e, self.table(e.attr, "double" if d.is_floating_point else "i64")), True
        if op == "axis":
            i = self.index[e.attr]
            if uniform:
                return i, True
            iota = "<" + ", ".join(f"i64 {k}" for k in range(self.kernel.lanes)) + ">"
            return self.op(depth, f"add {self.vector('i64')} {self.splat(depth, i, 'i64')}, {iota}"), False
        if op == "start":           # of an axis: where the vector's first lane is
            return self.index[e.attr], True
        vector = not uniform
        if vector and op in ir.COMPARISON and e.args[0].dtype is int64:
            compared = self.compare_lanes(depth, e)
            if compared is not None:
                return compared, False
        a = [self.wide(x) if vector else self.value(x)[0] for x in e.args]
        source = e.args[0].dtype
        t = _REGISTER[source.name]
        t = self.vector(t) if vector else t
        if op == "checked":
            return self.check(depth, e, a, vector), uniform
        if op == "cast":
            return self.convert(depth, a[0], source, d, vector), uniform
        if op == "bitcast":
            r = _REGISTER[d.name]
            return self.op(depth, f"bitcast {t} {a[0]} to {self.vector(r) if vector else r}"), uniform
        if op == "where":
            r = _REGISTER[d.name]
            r = self.vector(r) if vector else r
            return self.op(depth, f"select {t} {a[0]}, {r} {a[1]}, {r} {a[2]}"), uniform
        if op in ir.COMPARISON:
            if source.is_floating_point:
                code = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole"}[op]
                return self.op(depth, f"fcmp {code} {t} {a[0]}, {a[1]}"), uniform
            sign = "s" if source.is_signed else "u"
            code = {"eq": "eq", "ne": "ne", "lt": sign + "lt", "le": sign + "le"}[op]
            return self.op(depth, f"icmp {code} {t} {a[0]}, {a[1]}"), uniform
        if d.is_floating_point:
            return self.float_op(depth, op, d, t, vector, a), uniform
        if vector and d is int64 and op in ("floordiv", "mod", "truncdiv", "truncmod") and self.is_index(e):
            return self.index_division(depth, op, t, a), uniform
        return self.integer_op(depth, op, d, t, vector, a), uniform

    def number(self, e: Expr, word: str) -> str:
        """A word that holds a number, as a value of ``e``'s dtype."""
        d = e.dtype
        if d.is_floating_point:
            return self.convert(0, word, float64, d, False)
        return self.convert(0, word, int64, d, False)

    def float_op(self, depth: int, op: str, d: dtype, t: str, vector: bool, a: list[str]) -> str:
        if op in ("add", "sub", "mul", "div"):
            return self.op(depth, f"f{op} {t} {a[0]}, {a[1]}")
        if op == "neg":
            return self.op(depth, f"fneg {t} {a[0]}")
        name = {"abs": "fabs", "round": "roundeven"}.get(op, op)
        if name not in ("fabs", "roundeven", "fma", "sqrt", "floor", "ceil", "trunc", "copysign", "minimum", "maximum"):
            raise NotImplementedError(f"no machine code for {op} of {d}")
        return self.intrinsic(depth, name, d, vector, *a)

    def compare_lanes(self, depth: int, e: Expr) -> str | None:
        """A comparison of indices that move evenly with the lanes, as one of 32-bit lane numbers with a scalar; None for others."""
        left, right = (self.line(x) for x in e.args)
        if left is None or right is None:
            return None
        (c, base), (other, bound) = left, right
        c -= other
        if abs(c) > 1 << 20:
            return None
        # c·lane <op> bound - base, where a number beyond all lanes stands for any that is
        limit = ir.minimum(ir.maximum(ir.binary("sub", bound, base), -(1 << 30)), 1 << 30)
        self.order(limit)
        self.evaluate(limit)
        scalar = self.value(limit)[0]
        at = max(self.fact(limit)[0], 0)
        t, code = self.vector("i32"), {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle"}[e.op]

        def splat() -> str:
            return self.splat(at, self.op(at, f"trunc i64 {scalar} to i32"), "i32")
        wide = self.cached(at, ("limit", self.copy if self.varies(limit) else 0, limit), splat)
        lanes = ", ".join(f"i32 {k * c}" for k in range(self.kernel.lanes))
        return self.op(depth, f"icmp {code} {t} <{lanes}>, {wide}")

    def line(self, e: Expr) -> tuple[int, Expr] | None:
        """An index as a step per lane and its value in the first lane, or None when it does not move evenly with the lanes."""
        if self.fact(e)[1]:
            return (0, e) if self.is_index(e) else None
        if e.op == "axis":
            return 1, ir.make("start", int64, (), e.attr)
        if e.op in ("add", "sub"):
            x, y = self.line(e.args[0]), self.line(e.args[1])
            if x is None or y is None:
                return None
            return (x[0] + y[0] if e.op == "add" else x[0] - y[0]), ir.binary(e.op, x[1], y[1])
        if e.op == "mul":
            for inner, factor in (e.args, e.args[::-1]):
                if factor.op == "const":
                    found = self.line(inner)
                    return None if found is None else (found[0] * factor.attr, ir.binary("mul", found[1], factor))
        return None

    def is_index(self, e: Expr) -> bool:
        """Whether ``e`` is arithmetic on positions alone, so that it is far below 2^53."""
        known = self.indices.get(e)
        if known is None:
            known = self.indices[e] = e.dtype is int64 and e.op in _INDEX and all(self.is_index(x) for x in e.args)
        return known

    def index_division(self, depth: int, op: str, t: str, a: list[str]) -> str:
        """A division of indices through float64, which is exact for them: vectors have no integer division."""
        real = self.vector("double")
        zero = self.op(depth, f"icmp eq {t} {a[1]}, zeroinitializer")
        divisor = self.op(depth, f"select {self.vector('i1')} {zero}, {t} splat (i64 1), {t} {a[1]}")
        x, y = (self.op(depth, f"sitofp {t} {v} to {real}") for v in (a[0], divisor))
        q = self.op(depth, f"fdiv {real} {x}, {y}")
        q = self.intrinsic(depth, "floor" if op in ("floordiv", "mod") else "trunc", float64, True, q)
        q = self.op(depth, f"fptosi {real} {q} to {t}")
        if op in ("mod", "truncmod"):
            q = self.op(depth, f"sub {t} {a[0]}, {self.op(depth, f'mul {t} {q}, {divisor}')}")
        return self.op(depth, f"select {self.vector('i1')} {zero}, {t} zeroinitializer, {t} {q}")

    def integer_op(self, depth: int, op: str, d: dtype, t: str, vector: bool, a: list[str]) -> str:
        bits = 8 * d.itemsize

        def const(value: int) -> str:
            return f"splat ({_REGISTER[d.name]} {value})" if vector else str(value)

        def pick(condition: str, x: str, y: str) -> str:
            return self.op(depth, f"select {self.vector('i1') if vector else 'i1'} {condition}, {t} {x}, {t} {y}")

        if d is bool_:
            code = {"and": "and", "or": "or", "xor": "xor", "minimum": "and", "maximum": "or", "mul": "and", "add": "or"}.get(op)
            if op == "not":
                return self.op(depth, f"xor {t} {a[0]}, {'splat (i1 true)' if vector else 'true'}")
            if code is None:
                raise NotImplementedError(f"no machine code for {op} of bool")
            return self.op(depth, f"{code} {t} {a[0]}, {a[1]}")
        if op in ("add", "sub", "mul", "and", "or", "xor"):
            return self.op(depth, f"{op} {t} {a[0]}, {a[1]}")
        if op == "neg":
            return self.op(depth, f"sub {t} {const(0)}, {a[0]}")
        if op == "not":
            return self.op(depth, f"xor {t} {a[0]}, {const(-1)}")
        if op == "abs":
            if not d.is_signed:
                return a[0]
            return pick(self.op(depth, f"icmp slt {t} {a[0]}, {const(0)}"), self.op(depth, f"sub {t} {const(0)}, {a[0]}"), a[0])
        if op in ("minimum", "maximum"):
            return self.call(depth, t, f"llvm.{'s' if d.is_signed else 'u'}{op[:3]}.{_mangle(t)}", (t, a[0]), (t, a[1]))
        if op in ("shl", "shr", "ushr"):
            code = {"shl": "shl", "shr": "ashr" if d.is_signed else "lshr", "ushr": "lshr"}[op]
            if a[1].lstrip("-").isdigit() or a[1].startswith("splat"):
                return self.op(depth, f"{code} {t} {a[0]}, {a[1]}")
            fits = self.op(depth, f"icmp ult {t} {a[1]}, {const(bits)}")
            amount = pick(fits, a[1], const(bits - 1))
            shifted = self.op(depth, f"{code} {t} {a[0]}, {amount}")
            return shifted if code == "ashr" else pick(fits, shifted, const(0))
        if op in ("floordiv", "mod", "truncdiv", "truncmod"):
            zero = self.op(depth, f"icmp eq {t} {a[1]}, {const(0)}")
            divisor = pick(zero, const(1), a[1])
            if not d.is_signed:
                r = self.op(depth, f"{'udiv' if op.endswith('div') else 'urem'} {t} {a[0]}, {divisor}")
                return pick(zero, const(0), r)
            # the most negative number over -1 would trap, so -1 is kept from the divider
            minus = self.op(depth, f"icmp eq {t} {a[1]}, {const(-1)}")
            divisor = pick(minus, const(1), divisor)
            quotient = self.op(depth, f"sdiv {t} {a[0]}, {divisor}")
            remainder = self.op(depth, f"sub {t} {a[0]}, {self.op(depth, f'mul {t} {quotient}, {divisor}')}")
            if op in ("floordiv", "mod"):
                bit = self.vector("i1") if vector else "i1"
                signs = self.op(depth, f"icmp slt {t} {self.op(depth, f'xor {t} {remainder}, {divisor}')}, {const(0)}")
                inexact = self.op(depth, f"icmp ne {t} {remainder}, {const(0)}")
                adjust = self.op(depth, f"and {bit} {signs}, {inexact}")
                if op == "mod":
                    r = pick(adjust, self.op(depth, f"add {t} {remainder}, {divisor}"), remainder)
                else:
                    r = pick(adjust, self.op(depth, f"sub {t} {quotient}, {const(1)}"), quotient)
            else:
                r = quotient if op == "truncdiv" else remainder
            if op.endswith("div"):
                r = pick(minus, self.op(depth, f"sub {t} {const(0)}, {a[0]}"), r)
            return pick(zero, const(0), r)
        raise NotImplementedError(f"no machine code for {op} of {d}")

    def convert(self, depth: int, v: str, source: dtype, d: dtype, vector: bool) -> str:
        """A cast by C's rules; 16-bit floats go through float32."""
        def typed(x: dtype) -> str:
            r = _REGISTER[x.name]
            return self.vector(r) if vector else r

        def const(text: str, r: str) -> str:
            return f"splat ({r} {text})" if vector else text

        if source is d:
            return v
        if source is bfloat16:
            i32 = self.vector("i32") if vector else "i32"
            wide = self.op(depth, f"zext {typed(source)} {v} to {i32}")
            wide = self.op(depth, f"shl {i32} {wide}, {const('16', 'i32')}")
            v = self.op(depth, f"bitcast {i32} {wide} to {typed(float32)}")
            return self.convert(depth, v, float32, d, vector)
        if source is float16:
            v = self.op(depth, f"fpext {typed(source)} {v} to {typed(float32)}")
            return self.convert(depth, v, float32, d, vector)
        if d is bfloat16:
            v = self.convert(depth, v, source, float32, vector)
            i32, bit = (self.vector("i32"), self.vector("i1")) if vector else ("i32", "i1")
            bits = self.op(depth, f"bitcast {typed(float32)} {v} to {i32}")
            odd = self.op(depth, f"and {i32} {self.op(depth, f'lshr {i32} {bits}, ' + const('16', 'i32'))}, {const('1', 'i32')}")
            rounded = self.op(depth, f"add {i32} {self.op(depth, f'add {i32} {bits}, {odd}')}, {const('32767', 'i32')}")
            rounded = self.op(depth, f"lshr {i32} {rounded}, {const('16', 'i32')}")
            nan = self.op(depth, f"fcmp uno {typed(float32)} {v}, {v}")
            rounded = self.op(depth, f"select {bit} {nan}, {i32} {const('32704', 'i32')}, {i32} {rounded}")
            return self.op(depth, f"trunc {i32} {rounded} to {typed(d)}")
        if d is float16:
            v = self.convert(depth, v, source, float32, vector)
            return self.op(depth, f"fptrunc {typed(float32)} {v} to {typed(d)}")
        if d is bool_:
            if source.is_floating_point:
                return self.op(depth, f"fcmp une {typed(source)} {v}, {const(literal(0.0, source), _REGISTER[source.name])}")
            return self.op(depth, f"icmp ne {typed(source)} {v}, {const('0', _REGISTER[source.name])}")
        if source.is_floating_point:
            if d.is_floating_point:
                return self.op(depth, f"{'fpext' if d is float64 else 'fptrunc'} {typed(source)} {v} to {typed(d)}")
            if d.itemsize < 4:          # what does not fit wraps, as conversion through int does
                wide = self.op(depth, f"fptosi {typed(source)} {v} to {typed(int32)}")
                return self.op(depth, f"trunc {typed(int32)} {wide} to {typed(d)}")
            return self.op(depth, f"fptosi {typed(source)} {v} to {typed(d)}")
        if d.is_floating_point:
            return self.op(depth, f"{'sitofp' if source.is_signed else 'uitofp'} {typed(source)} {v} to {typed(d)}")
        if source.itemsize == d.itemsize and source is not bool_:
            return v
        if d.itemsize > source.itemsize or source is bool_:
            return self.op(depth, f"{'sext' if source.is_signed else 'zext'} {typed(source)} {v} to {typed(d)}")
        return self.op(depth, f"trunc {typed(source)} {v} to {typed(d)}")

    def check(self, depth: int, e: Expr, a: list[str], vector: bool) -> str:
        """``checked``: note the first bad index of a vector in the error block (without a branch), go on with 0."""
        self.uses_dummy = True
        i64, bit = (self.vector("i64"), self.vector("i1")) if vector else ("i64", "i1")
        good = self.op(depth, f"icmp ult {i64} {a[0]}, {a[1]}")
        index = self.op(depth, f"select {bit} {good}, {i64} {a[0]}, {i64} {'zeroinitializer' if vector else '0'}")
        bad = self.op(depth, f"xor {bit} {good}, {'splat (i1 true)' if vector else 'true'}")
        offending, size = a
        if vector:
            if self.mask is not None:
                bad = self.op(depth, f"and {bit} {bad}, {self.mask}")
            width = self.kernel.lanes
            word = self.op(depth, f"bitcast {bit} {bad} to i{width}")
            first = self.call(depth, f"i{width}", f"llvm.cttz.i{width}", (f"i{width}", word), ("i1", "false"))
            first = self.op(depth, f"and i{width} {first}, {width - 1}")
            offending = self.op(depth, f"extractelement {i64} {a[0]}, i{width} {first}")
            size = self.op(depth, f"extractelement {i64} {a[1]}, i{width} {first}")
            bad = self.op(depth, f"icmp ne i{width} {word}, 0")

        def block() -> str:
            return self.op(0, "getelementptr i8, ptr %scratch, i64 -64")      # this thread's
        errors = self.cached(0, "errors", block)
        earlier = self.op(depth, f"load i64, ptr {errors}, align 8")
        fresh = self.op(depth, f"icmp eq i64 {earlier}, 0")
        note = self.op(depth, f"and i1 {bad}, {fresh}")
        pointer = self.op(depth, f"select i1 {note}, ptr {errors}, ptr %dummy")
        # the dummy stands for memory that reads as zero, so its words are cleared again
        site = self.op(depth, f"add i64 {self.word(e.attr)}, 1")
        out = self.scopes[depth].out
        for k, v in enumerate((site, offending, size)):
            kept = self.op(depth, f"select i1 {note}, i64 {v}, i64 0")
            p = self.op(depth, f"getelementptr i64, ptr {pointer}, i64 {k}")
            out.append(f"  store i64 {kept}, ptr {p}, align 8")
        # every site that fails leaves its bit, the last bit standing for all beyond it
        place = self.call(depth, "i64", "llvm.umin.i64", ("i64", self.word(e.attr)), ("i64", "63"))
        bit = self.op(depth, f"select i1 {bad}, i64 {self.op(depth, f'shl i64 1, {place}')}, i64 0")
        p = self.op(depth, f"getelementptr i64, ptr {errors}, i64 3")
        seen = self.op(depth, f"load i64, ptr {p}, align 8")
        out.append(f"  store i64 {self.op(depth, f'or i64 {seen}, {bit}')}, ptr {p}, align 8")
        return index


# ---------------------------------------------------------------- helpers

def expand(e: Expr) -> Expr:
    """Operations without an instruction of their own, written with those that have one."""
    memo: dict[Expr, Expr] = {}
    for x in ir.walk(e):
        if x.op in ("fmod", "nextafter"):
            args = [memo.get(a, a) for a in x.args]
            memo[x] = (_fmod if x.op == "fmod" else _nextafter)(args[0], args[1])
        elif any(a in memo for a in x.args):
            memo[x] = ir.make(x.op, x.dtype, tuple([memo.get(a, a) for a in x.args]), x.attr)
    return memo.get(e, e)


def _fmod(x: Expr, y: Expr) -> Expr:
    """The exact remainder of a truncated division.

    A quotient cut to 25 bits times the divisor is subtracted exactly by one fma, so each round removes 24 bits of the
    quotient: 12 rounds in float64 for float32, 88 for float64.
    """
    if x.dtype is float32:
        return _fmod_rounds(x.cast(float64), y.cast(float64), 12).cast(float32)
    return _fmod_rounds(x, y, 88)


def _fmod_rounds(x: Expr, y: Expr, rounds: int) -> Expr:
    E = ir.E
    r, size = E.abs(x), E.abs(y)
    bad = (r.ne(r)) | (r.eq(math.inf)) | (size.ne(size)) | size.eq(0.0)
    for _ in range(rounds):
        q = E.trunc(r / size)
        q = ir.where(q.eq(math.inf), ir.const(2.0**1000, float64), q)
        q = ir.bitcast(ir.bitcast(q, int64) & -(1 << 28), float64)
        r = ir.fma(-q, size, r)
        r = ir.where(r < 0.0, r + size, r)
    r = ir.where(size.eq(math.inf), E.abs(x), r)
    return ir.where(bad, ir.const(math.nan, float64), E.copysign(r, x))


def _nextafter(x: Expr, y: Expr) -> Expr:
    """The neighbour of ``x`` towards ``y``: floats are ordered as their bits are."""
    i = int32 if x.dtype is float32 else int64
    bits = ir.bitcast(x, i)
    away = (y > x).eq(x > 0.0)
    step = ir.where(away, bits + 1, bits - 1)
    least = ir.E.copysign(ir.bitcast(ir.const(1, i), x.dtype), y)
    moved = ir.where(x.eq(0.0), least, ir.bitcast(step, x.dtype))
    return ir.where(x.eq(y), y, ir.where((x.ne(x)) | (y.ne(y)), x + y, moved))


def identity(combine: str, d: dtype) -> str:
    """The neutral element of a combiner as a literal."""
    return literal(identity_value(combine, d), d)


def literal(value: float | int | bool, d: dtype, memory: bool = False) -> str:
    """A constant in LLVM's notation."""
    if d is bool_:
        return ("1" if value else "0") if memory else ("true" if value else "false")
    if d is bfloat16:
        bits = struct.unpack("<I", struct.pack("<f", value))[0]
        return str((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 if value == value else 0x7FC0)
    if d is float16:
        try:
            bits = struct.unpack("<H", struct.pack("<e", value))[0]
        except OverflowError:
            bits = 0xFC00 if value < 0 else 0x7C00
        return f"0xH{bits:04X}"
    if d is float32:
        try:
            value = struct.unpack("<f", struct.pack("<f", value))[0]
        except OverflowError:
            value = math.copysign(math.inf, value)
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    if d is float64:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    bits = 8 * d.itemsize
    value = int(value) & ((1 << bits) - 1)
    return str(value - (1 << bits) if value >> (bits - 1) else value)


def _memory(d: dtype) -> str:
    return "i8" if d is bool_ else _REGISTER[d.name]


def _mangle(t: str) -> str:
    """A type as intrinsics' names spell it."""
    if t.startswith("<"):
        n, _, element = t[1:-1].split(" ", 2)
        return f"v{n}{_SUFFIX.get(element, element)}"
    return _SUFFIX.get(t, t)


def _flatten(tree: list[Any], out: list[str]) -> None:
    for x in tree:
        if isinstance(x, str):
            out.append(x)
        else:
            _flatten(x, out)
