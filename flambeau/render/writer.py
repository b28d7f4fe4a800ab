"""A function of LLVM IR written instruction by instruction: values, loops and branches in final form.

What :mod:`.product` writes its kernels with.  ``@NAME`` stands for the kernel's name, so internal functions are ``@NAME.something``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Body = Callable[[str, list[str]], Sequence[str] | None]


class Writer:
    """One function.

    Parameters
    ----------
    head
        All of the definition up to the brace, as ``define internal void @NAME.tile(i64 %k) #ATTR``.
    declared
        Collects the ``declare`` lines of intrinsics; shared by the functions of a kernel.
    """

    def __init__(self, head: str, declared: dict[str, None]) -> None:
        self.head, self.declared = head, declared
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"

    def text(self) -> str:
        """The finished function."""
        return "\n".join([self.head + " {", "entry:", *self.lines, "}", ""])

    # ------------------------------------------------------------ instructions

    def name(self, kind: str = "v") -> str:
        self.count += 1
        return f"%{kind}{self.count}"

    def do(self, text: str) -> None:
        """An instruction without a result."""
        self.lines.append("  " + text)

    def op(self, text: str) -> str:
        """An instruction; its result."""
        result = self.name()
        self.lines.append(f"  {result} = {text}")
        return result

    def call(self, result: str, name: str, *arguments: tuple[str, str]) -> str:
        """An intrinsic's result."""
        self.declared[f"declare {result} @{name}({', '.join(t for t, _ in arguments)})"] = None
        text = f"call {result} @{name}({', '.join(f'{t} {v}' for t, v in arguments)})"
        if result == "void":
            self.do(text)
            return ""
        return self.op(text)

    def at(self, block: str) -> None:
        """Go on in a new block."""
        self.lines.append(f"{block}:")
        self.block = block

    # ------------------------------------------------------------ int64 arithmetic; operands are names or ints

    def add(self, a: str | int, b: str | int) -> str:
        return str(a) if b == 0 else str(b) if a == 0 else self.op(f"add i64 {a}, {b}")

    def sub(self, a: str | int, b: str | int) -> str:
        return str(a) if b == 0 else self.op(f"sub i64 {a}, {b}")

    def mul(self, a: str | int, b: str | int) -> str:
        return str(a) if b == 1 else str(b) if a == 1 else self.op(f"mul i64 {a}, {b}")

    def div(self, a: str | int, b: str | int) -> str:
        """A quotient of numbers that are not negative."""
        return str(a) if b == 1 else self.op(f"udiv i64 {a}, {b}")

    def rem(self, a: str | int, b: str | int) -> str:
        return self.op(f"urem i64 {a}, {b}")

    def min(self, a: str | int, b: str | int) -> str:
        return self.call("i64", "llvm.smin.i64", ("i64", str(a)), ("i64", str(b)))

    def max(self, a: str | int, b: str | int) -> str:
        return self.call("i64", "llvm.smax.i64", ("i64", str(a)), ("i64", str(b)))

    def compare(self, how: str, a: str | int, b: str | int) -> str:
        return self.op(f"icmp {how} i64 {a}, {b}")

    def select(self, condition: str, t: str, a: str | int, b: str | int) -> str:
        return self.op(f"select i1 {condition}, {t} {a}, {t} {b}")

    # ------------------------------------------------------------ memory

    def plus(self, pointer: str, nbytes: str | int) -> str:
        """An address moved by some bytes."""
        return pointer if nbytes == 0 else self.op(f"getelementptr i8, ptr {pointer}, i64 {nbytes}")

    def load(self, t: str, pointer: str, align: int) -> str:
        return self.op(f"load {t}, ptr {pointer}, align {align}")

    def store(self, t: str, value: str, pointer: str, align: int) -> None:
        self.do(f"store {t} {value}, ptr {pointer}, align {align}")

    def prefetch(self, pointer: str, write: bool = False, near: bool = True) -> None:
        """Ask for a line: into the first-level cache, or the second-level one."""
        self.call("void", "llvm.prefetch.p0", ("ptr", pointer), ("i32", str(int(write))), ("i32", "3" if near else "2"), ("i32", "1"))

    # ------------------------------------------------------------ control

    def loop(self, lo: str | int, hi: str | int, step: str | int | Callable[[str], str], carried: Sequence[tuple[str, str]],
             body: Body) -> list[str]:
        """``for i in lo .. hi by step`` carrying (type, value) pairs; ``body(i, values)`` gives the next values; the last ones.

        ``step`` may depend on ``i``.
        """
        before = self.block
        self.count += 1
        inside, after = f"in{self.count}", f"out{self.count}"
        self.do(f"br i1 {self.compare('slt', lo, hi)}, label %{inside}, label %{after}")
        self.at(inside)
        i, following = self.name("i"), self.name("n")
        names = [self.name("c") for _ in carried]
        phis = len(self.lines)
        new = list(body(i, names) or ())
        self.do(f"{following} = add i64 {i}, {step(i) if callable(step) else step}")
        again = self.compare("slt", following, hi)
        last = self.block
        self.do(f"br i1 {again}, label %{inside}, label %{after}")
        lines = [f"  {i} = phi i64 [ {lo}, %{before} ], [ {following}, %{last} ]"]
        lines += [f"  {n} = phi {t} [ {v}, %{before} ], [ {w}, %{last} ]" for n, (t, v), w in zip(names, carried, new, strict=True)]
        self.lines[phis:phis] = lines
        self.at(after)
        return [self.op(f"phi {t} [ {v}, %{before} ], [ {w}, %{last} ]") for (t, v), w in zip(carried, new, strict=True)]

    def when(self, condition: str, then: Callable[[], Sequence[str] | None], otherwise: Callable[[], Sequence[str] | None] | None = None,
             types: Sequence[str] = ()) -> list[str]:
        """A branch; the values of the side that was taken."""
        self.count += 1
        yes, no, after = f"yes{self.count}", f"no{self.count}", f"end{self.count}"
        self.do(f"br i1 {condition}, label %{yes}, label %{no}")
        self.at(yes)
        a = list(then() or ())
        end_a = self.block
        self.do(f"br label %{after}")
        self.at(no)
        b = list((otherwise() if otherwise is not None else None) or ())
        end_b = self.block
        self.do(f"br label %{after}")
        self.at(after)
        return [self.op(f"phi {t} [ {x}, %{end_a} ], [ {y}, %{end_b} ]") for t, x, y in zip(types, a, b, strict=True)]


def exchange(n: int, distance: int) -> tuple[str, str]:
    """Lanes of two shuffles of vectors a and b of ``n`` lanes that exchange blocks of ``distance`` lanes across the diagonal."""
    near = ", ".join(f"i32 {j if not j & distance else n + j - distance}" for j in range(n))
    far = ", ".join(f"i32 {j + distance if not j & distance else n + j}" for j in range(n))
    return near, far


class Vectors:
    """Vectors of one type: their instructions on a :class:`Writer`."""

    def __init__(self, element: str, lanes: int, itemsize: int, align: int = 0) -> None:
        self.element, self.lanes, self.itemsize, self.align = element, lanes, itemsize, align or itemsize
        self.t = f"<{lanes} x {element}>"
        self.bit = f"<{lanes} x i1>"
        self.bytes = lanes * itemsize
        self.mangled = f"v{lanes}" + {"float": "f32", "double": "f64"}.get(element, element)
        self.is_float = element in ("float", "double")

    def mask(self, w: Writer, n: str | int) -> str:
        """The first ``n`` lanes (none where it is negative, all where it is more)."""
        left = w.op(f"trunc i64 {w.max(w.min(n, self.lanes), 0)} to i32")
        iota = ", ".join(f"i32 {k}" for k in range(self.lanes))
        wide = f"<{self.lanes} x i32>"
        one = w.op(f"insertelement {wide} poison, i32 {left}, i64 0")
        all_ = w.op(f"shufflevector {wide} {one}, {wide} poison, {wide} zeroinitializer")
        return w.op(f"icmp ult {wide} <{iota}>, {all_}")

    def load(self, w: Writer, pointer: str, mask: str | None = None, align: int = 0) -> str:
        if mask is None:
            return w.load(self.t, pointer, align or self.align)
        return w.call(self.t, f"llvm.masked.load.{self.mangled}.p0", ("ptr", pointer), ("i32", str(align or self.align)), (self.bit, mask),
                      (self.t, "zeroinitializer"))

    def store(self, w: Writer, value: str, pointer: str, mask: str | None = None, align: int = 0) -> None:
        if mask is None:
            w.store(self.t, value, pointer, align or self.align)
        else:
            w.call("void", f"llvm.masked.store.{self.mangled}.p0", (self.t, value), ("ptr", pointer), ("i32", str(align or self.align)),
                   (self.bit, mask))

    def splat(self, w: Writer, scalar: str) -> str:
        one = w.op(f"insertelement {self.t} poison, {self.element} {scalar}, i64 0")
        return w.op(f"shufflevector {self.t} {one}, {self.t} poison, <{self.lanes} x i32> zeroinitializer")

    def add(self, w: Writer, a: str, b: str) -> str:
        return w.op(f"{'fadd' if self.is_float else 'add'} {self.t} {a}, {b}")

    def multiply_add(self, w: Writer, a: str, b: str, c: str) -> str:
        """``a * b + c``, rounded once where it is rounded."""
        if self.is_float:
            return w.call(self.t, f"llvm.fma.{self.mangled}", (self.t, a), (self.t, b), (self.t, c))
        return w.op(f"add {self.t} {w.op(f'mul {self.t} {a}, {b}')}, {c}")

    def shuffle(self, w: Writer, a: str, b: str, lanes: Sequence[int]) -> str:
        """The chosen lanes of two vectors, those of the second counted on."""
        return w.op(f"shufflevector {self.t} {a}, {self.t} {b}, <{self.lanes} x i32> <{', '.join(f'i32 {x}' for x in lanes)}>")

    def interleave(self, w: Writer, vectors: list[str]) -> list[str]:
        """The elements of several vectors, taking turns."""
        n, count = self.lanes, len(vectors)
        out = []
        for start in range(0, n * count, n):
            places = [divmod(start + k, count) for k in range(n)]       # lane and vector of every element
            value = vectors[0]
            if count > 1:
                value = self.shuffle(w, vectors[0], vectors[1], [lane + n * min(which, 1) for lane, which in places])
            for number in range(2, count):
                value = self.shuffle(w, value, vectors[number], [n + lane if which == number else k for k, (lane, which) in enumerate(places)])
            out.append(value)
        return out

    def transpose(self, w: Writer, rows: list[str]) -> list[str]:
        """A square of vectors, transposed by exchanging blocks of halving size across the diagonal."""
        n, rows = self.lanes, list(rows)
        distance = n // 2
        while distance:
            near, far = exchange(n, distance)
            for k in range(n):
                if not k & distance:
                    a, b = rows[k], rows[k + distance]
                    for place, lanes in ((k, near), (k + distance, far)):
                        rows[place] = w.op(f"shufflevector {self.t} {a}, {self.t} {b}, <{n} x i32> <{lanes}>")
            distance //= 2
        return rows

    def sums(self, w: Writer, vectors: list[str]) -> list[str]:
        """The sum of every vector's lanes, as scalars: a vector's worth of them share each step of the tree."""
        n, out = self.lanes, []
        for start in range(0, len(vectors), n):
            part = vectors[start:start + n]
            rows = part + ["zeroinitializer"] * (n - len(part))
            distance = n // 2
            while distance:
                near, far = exchange(n, distance)
                halves = []
                for a, b in zip(rows[:distance], rows[distance:], strict=True):
                    if a == b == "zeroinitializer":
                        halves.append(a)
                        continue
                    x, y = (w.op(f"shufflevector {self.t} {a}, {self.t} {b}, <{n} x i32> <{lanes}>") for lanes in (near, far))
                    halves.append(self.add(w, x, y))
                rows = halves
                distance //= 2
            out += [w.op(f"extractelement {self.t} {rows[0]}, i64 {k}") for k in range(len(part))]
        return out
