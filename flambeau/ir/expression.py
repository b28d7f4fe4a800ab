"""Scalar expressions: what a formula says about one element.

An :class:`Expr` is an immutable, interned node: two equal expressions are the same object, so ``is`` compares
and ``id`` memoises.  Operations build them in their formulas, the scheduler substitutes one into another
(that is what fusion is), the renderers turn them into machine code or evaluate them with NumPy.

Leaves
    ``const``    attr = Python bool, int or float.
    ``axis``     attr = axis number of the enclosing loop nest; int64.
    ``scalar``   attr = index of a run-time scalar of the instruction (later: of the program).
    ``value``    attr = a number known when the plan is made but not part of the code: kernels take it as an argument.
    ``load``     attr = an :class:`Access`; args = (), (offset,), or (offset, guard): an extra element offset that is
                 data-dependent or not affine (or None, then absent), and a bool expression under which the element is read
                 (otherwise the value is ``attr.fill``).
    ``operand``  formulas only: attr = operand number; args = one int64 index per dimension (+ a guard when ``attr`` has a fill).
    ``acc``      in a nest's ``finish``: the finished accumulator.

Both arguments of a binary operation have one dtype, which is the result's dtype (comparisons: bool); ``cast`` is explicit.
16-bit floats exist only in loads, stores and casts: arithmetic is in float32, and a value of a 16-bit type is
``cast`` to it (rounded) and cast back.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..core.dtype import bool_, compute_dtype, dtype, float32, float64, int32, int64, promote_types, scalar_dtype
from ..core.dtype import dtype as DType


class Access(NamedTuple):
    """Where one element lies: buffer ``slot``, element ``offset`` plus ``strides[a] * axis a`` of the nest (elements)."""

    slot: int
    offset: int
    strides: tuple[int, ...]
    dtype: dtype
    fill: float | int | bool | None = None


class Expr:
    """One node: ``op`` applied to ``args``; ``attr`` is whatever the operation needs besides."""

    __slots__ = ("__weakref__", "args", "attr", "dtype", "op")

    op: str
    dtype: dtype
    args: tuple[Expr, ...]
    attr: Any

    def __repr__(self) -> str:
        if self.op == "const":
            return f"{self.attr}"
        if self.op in ("axis", "scalar"):
            return f"{self.op[0]}{self.attr}"
        inner = ", ".join(map(repr, self.args))
        attr = "" if self.attr is None else f"[{self.attr}]"
        tail = f":{self.dtype.name}" if self.op == "cast" else ""
        return f"{self.op}{attr}({inner}){tail}"

    # arithmetic; a Python number takes the other operand's dtype
    def __add__(self, o: Expr | float) -> Expr:
        return binary("add", self, o)

    def __radd__(self, o: Expr | float) -> Expr:
        return binary("add", lift(o, self), self)

    def __sub__(self, o: Expr | float) -> Expr:
        return binary("sub", self, o)

    def __rsub__(self, o: Expr | float) -> Expr:
        return binary("sub", lift(o, self), self)

    def __mul__(self, o: Expr | float) -> Expr:
        return binary("mul", self, o)

    def __rmul__(self, o: Expr | float) -> Expr:
        return binary("mul", lift(o, self), self)

    def __truediv__(self, o: Expr | float) -> Expr:
        return binary("div", self, o)

    def __rtruediv__(self, o: Expr | float) -> Expr:
        return binary("div", lift(o, self), self)

    def __floordiv__(self, o: Expr | float) -> Expr:
        return binary("floordiv", self, o)

    def __mod__(self, o: Expr | float) -> Expr:
        return binary("mod", self, o)

    def __and__(self, o: Expr | int) -> Expr:
        return binary("and", self, o)

    def __or__(self, o: Expr | int) -> Expr:
        return binary("or", self, o)

    def __xor__(self, o: Expr | int) -> Expr:
        return binary("xor", self, o)

    def __lshift__(self, o: Expr | int) -> Expr:
        return binary("shl", self, o)

    def __rshift__(self, o: Expr | int) -> Expr:
        return binary("shr", self, o)

    def __neg__(self) -> Expr:
        return unary("neg", self)

    def __invert__(self) -> Expr:
        return unary("not", self)

    def __abs__(self) -> Expr:
        return unary("abs", self)

    def __lt__(self, o: Expr | float) -> Expr:
        return compare("lt", self, o)

    def __le__(self, o: Expr | float) -> Expr:
        return compare("le", self, o)

    def __gt__(self, o: Expr | float) -> Expr:
        return compare("lt", lift(o, self), self)

    def __ge__(self, o: Expr | float) -> Expr:
        return compare("le", lift(o, self), self)

    def eq(self, o: Expr | float) -> Expr:
        """Element equality (``==`` stays identity, so that expressions can be dictionary keys)."""
        return compare("eq", self, o)

    def ne(self, o: Expr | float) -> Expr:
        """Element inequality; true for NaN."""
        return compare("ne", self, o)

    def cast(self, to: DType) -> Expr:
        """This value converted to ``to`` (C rules; to bool: ``!= 0``)."""
        return cast(self, to)


_interned: dict[tuple[Any, ...], Expr] = {}
_new = object.__new__
LIMIT = 200_000     # nodes kept; then all are forgotten but the leaves, which renderers make anew and must find in what was made before


def _forget() -> None:
    """Make room; nodes that somebody holds live on, but equal ones made from now on are other objects."""
    global _interned
    _interned = {key: e for key, e in list(_interned.items()) if not e.args and e.op not in ("const", "load", "value")}


def make(op: str, dtype_: dtype, args: tuple[Expr, ...] = (), attr: Any = None) -> Expr:
    """The interned node; every other constructor ends here."""
    # 1, 1.0 and True are equal keys, and so are 0.0 and -0.0: the sign and the class must count
    if attr.__class__ is float:
        k: Any = attr.hex()
    else:
        k = attr
    key = (op, dtype_, args, k, attr.__class__)
    e = _interned.get(key)
    if e is None:
        if len(_interned) > LIMIT:
            _forget()
        e = _new(Expr)
        e.op, e.dtype, e.args, e.attr = op, dtype_, args, attr
        _interned[key] = e
    return e


def const(value: float | int | bool, d: dtype) -> Expr:
    """A compile-time constant of dtype ``d``."""
    if d.category == 2:
        value = float(value)
    elif d is bool_:
        value = bool(value)
    else:
        value = int(value)
    return make("const", d, (), value)


def axis(number: int) -> Expr:
    """The int64 index variable of loop axis ``number``."""
    return make("axis", int64, (), number)


def scalar(number: int, d: dtype) -> Expr:
    """Run-time scalar ``number`` as a value of ``d`` (float32/float64 from a double, integers and bool from an int64)."""
    return make("scalar", d, (), number)


def value(number: float | int | bool, d: dtype) -> Expr:
    """A number that differs between uses of one kernel (a scale 1/n, a learning rate fixed by a model): not part of its code."""
    return make("value", d, (), float(number) if d.category == 2 else int(number))


def acc(d: dtype) -> Expr:
    """The finished accumulator, in a nest's ``finish``."""
    return make("acc", d)


def lift(x: Expr | float | int | bool, like: Expr) -> Expr:
    """``x`` as an expression of ``like``'s dtype."""
    return x if x.__class__ is Expr else const(x, like.dtype)  # type: ignore[return-value,arg-type]


def cast(x: Expr, to: dtype) -> Expr:
    """Convert ``x`` to ``to``; constants are folded."""
    if x.dtype is to:
        return x
    if x.op == "const" and to.itemsize >= 4 and (to.category == 2 or not isinstance(x.attr, float) or math.isfinite(x.attr)):
        return const(x.attr, to)
    return make("cast", to, (x,))


COMMUTATIVE = frozenset({"add", "mul", "and", "or", "xor", "eq", "ne", "minimum", "maximum"})


def binary(op: str, a: Expr, b: Expr | float) -> Expr:
    """``a op b`` for two expressions of one dtype (a Python number is lifted); trivial index arithmetic is folded."""
    b = lift(b, a)
    if a.dtype is not b.dtype:
        raise TypeError(f"{op}: operands of one dtype expected, got {a.dtype} and {b.dtype}")
    if a.dtype is int64:
        ca, cb = a.op == "const", b.op == "const"
        if ca and cb and op in _FOLD and not (op in ("floordiv", "mod") and b.attr == 0):
            v = _FOLD[op](a.attr, b.attr)
            if -(1 << 63) <= v < 1 << 63:
                return const(v, int64)
        if op == "add":
            if ca and a.attr == 0:
                return b
            if cb and b.attr == 0:
                return a
        elif op == "mul":
            if ca and a.attr == 1:
                return b
            if cb and b.attr == 1:
                return a
            if (ca and a.attr == 0) or (cb and b.attr == 0):
                return const(0, int64)
        elif op == "sub" and cb and b.attr == 0:
            return a
        elif op == "floordiv" and cb and b.attr == 1:
            return a
        elif op == "mod" and cb and b.attr == 1:
            return const(0, int64)
    return make(op, a.dtype, (a, b))


_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b, "sub": lambda a, b: a - b, "mul": lambda a, b: a * b,
    "floordiv": lambda a, b: a // b, "mod": lambda a, b: a % b,
}


def compare(op: str, a: Expr, b: Expr | float) -> Expr:
    """``eq ne lt le`` of two expressions of one dtype, as bool."""
    b = lift(b, a)
    if a.dtype is not b.dtype:
        raise TypeError(f"{op}: operands of one dtype expected, got {a.dtype} and {b.dtype}")
    return make(op, bool_, (a, b))


def unary(op: str, x: Expr) -> Expr:
    """``op(x)`` of ``x``'s dtype."""
    return make(op, x.dtype, (x,))


def where(condition: Expr, a: Expr | float, b: Expr | float) -> Expr:
    """``a`` where ``condition`` holds, else ``b``."""
    if a.__class__ is not Expr:
        a = lift(a, b)  # type: ignore[arg-type]
    b = lift(b, a)  # type: ignore[arg-type]
    if condition.dtype is not bool_ or a.dtype is not b.dtype:  # type: ignore[union-attr]
        raise TypeError(f"where: bool and two of one dtype expected, got {condition.dtype}, {a.dtype}, {b.dtype}")  # type: ignore[union-attr]
    if condition.op == "const":
        return a if condition.attr else b  # type: ignore[return-value]
    return make("where", a.dtype, (condition, a, b))  # type: ignore[union-attr,arg-type]


def minimum(a: Expr, b: Expr | float) -> Expr:
    """The smaller; NaN if either is NaN."""
    return binary("minimum", a, b)


def maximum(a: Expr, b: Expr | float) -> Expr:
    """The larger; NaN if either is NaN."""
    return binary("maximum", a, b)


def fma(a: Expr, b: Expr | float, c: Expr | float) -> Expr:
    """``a * b + c`` rounded once."""
    return make("fma", a.dtype, (a, lift(b, a), lift(c, a)))


def bitcast(x: Expr, to: dtype) -> Expr:
    """The same bits read as ``to`` (equal width: float32/int32, float64/int64)."""
    return make("bitcast", to, (x,))


def checked(index: Expr, size: int, what: str) -> Expr:
    """``index`` if ``0 <= index < size``, else an execution error is noted and 0 used.

    ``what`` is the message; it may contain ``{index}`` and ``{size}``.
    """
    return make("checked", int64, (index, const(size, int64)), what)


# Every operation of the vocabulary, by what it accepts.  The renderers implement exactly these;
# render/vector_math.py reduces the FLOAT_MATH ones to the arithmetic ones.
ARITHMETIC = frozenset({"add", "sub", "mul", "neg", "abs", "minimum", "maximum"})     # all numeric; integers wrap
FLOAT = frozenset({"div", "fma", "sqrt", "floor", "ceil", "trunc", "round", "copysign", "fmod", "nextafter"})   # round: half to even
INTEGER = frozenset({"floordiv", "mod", "truncdiv", "truncmod", "shl", "shr", "ushr"})  # Python's // and %, C's / and %; ushr: logical
BITS = frozenset({"and", "or", "xor", "not"})                                          # integers and bool
COMPARISON = frozenset({"eq", "ne", "lt", "le"})
FLOAT_MATH = frozenset({
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "lgamma", "digamma", "rsqrt", "sigmoid", "pow", "atan2", "hypot",
})
OTHER = frozenset({"where", "cast", "bitcast", "checked", "const", "axis", "scalar", "value", "load", "acc"})
VOCABULARY = ARITHMETIC | FLOAT | INTEGER | BITS | COMPARISON | FLOAT_MATH | OTHER


class _Math:
    """``E.exp(x)``: a constructor for every one-argument operation, by name; two-argument ones take two."""

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        op = name.rstrip("_")
        if op not in VOCABULARY:
            raise AttributeError(f"no scalar operation {name!r}")

        def build(x: Expr, *more: Expr | float) -> Expr:
            if len(more) == 1:
                return binary(op, x, more[0])
            return make(op, x.dtype, (x, *(lift(m, x) for m in more)))

        build.__name__ = name
        setattr(self, name, build)
        return build


E: Any = _Math()


def walk(roots: Expr | tuple[Expr, ...]) -> list[Expr]:
    """Every node below ``roots``, each once, arguments before users."""
    seen: set[Expr] = set()
    order: list[Expr] = []
    stack = [(r, False) for r in (roots if isinstance(roots, tuple) else (roots,))]
    while stack:
        e, done = stack.pop()
        if done:
            order.append(e)
        elif e not in seen:
            seen.add(e)
            stack.append((e, True))
            stack.extend((a, False) for a in e.args)
    return order


def rewrite(root: Expr, leaf: Callable[[Expr], Expr | None], memo: dict[Expr, Expr] | None = None) -> Expr:
    """``root`` with every node for which ``leaf`` returns an expression replaced by it (asked from the top down)."""
    if memo is None:
        memo = {}
    done = memo.get(root)
    if done is not None:
        return done
    new = leaf(root)
    if new is None:
        if root.args:
            args = tuple([rewrite(a, leaf, memo) for a in root.args])
            new = root if all(a is b for a, b in zip(args, root.args, strict=True)) else make(root.op, root.dtype, args, root.attr)
        else:
            new = root
    memo[root] = new
    return new


__all__ = [
    "Access", "E", "Expr", "acc", "axis", "binary", "bitcast", "bool_", "cast", "checked", "compare", "compute_dtype", "const",
    "float32", "float64", "fma", "int32", "int64", "lift", "make", "maximum", "minimum", "promote_types", "rewrite", "scalar",
    "scalar_dtype", "unary", "value", "walk", "where",
]
