"""Runs one scalar expression over arrays as machine code, for tests of the expression rewrites alone.

The expressions' inputs are made by :func:`inputs`; only the arithmetic vocabulary is known here, so whatever
``vector_math.lower`` leaves unlowered is an error.
"""

from __future__ import annotations

import ctypes
import struct

import numpy as np

from flambeau.core.dtype import dtype
from flambeau.ir.expression import Access, Expr, make, walk
from flambeau.runtime import cpu, pool

NUMPY = {"float32": np.float32, "float64": np.float64, "int32": np.int32, "int64": np.int64, "bool": np.bool_}
FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INT_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor", "shl": "shl", "shr": "ashr", "ushr": "lshr"}
INTRINSIC = {"sqrt": "sqrt", "floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "roundeven", "abs": "fabs",
             "copysign": "copysign", "minimum": "minimum", "maximum": "maximum", "fma": "fma"}
FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole"}
INT_COMPARE = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle"}


def inputs(*types: dtype) -> list[Expr]:
    """One leaf for each array that :func:`evaluate` is given."""
    return [make("load", d, (), Access(i, 0, (1,), d)) for i, d in enumerate(types)]


def text(root: Expr, types: list[dtype], width: int = 8) -> str:
    """The LLVM IR of ``out[i] = root(in0[i], ...)`` over a multiple of ``width`` elements."""
    lines: list[str] = []
    declared: dict[str, None] = {}
    names: dict[Expr, str] = {}

    def of(d: dtype) -> str:
        return f"<{width} x {d.llvm}>"

    def call(name: str, d: dtype, arguments: list[str]) -> str:
        suffix = f"v{width}f{8 * d.itemsize}"
        declared[f"declare {of(d)} @llvm.{name}.{suffix}({', '.join([of(d)] * len(arguments))})"] = None
        return f"call {of(d)} @llvm.{name}.{suffix}({', '.join(f'{of(d)} {a}' for a in arguments)})"

    for e in walk(root):
        op, d, args = e.op, e.dtype, [names[a] for a in e.args]
        source = e.args[0].dtype if e.args else d
        floating = source.category == 2
        if op == "const":
            if d.category == 2:
                value = np.float32(e.attr) if d.itemsize == 4 else e.attr
                literal = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
            else:
                literal = str(e.attr).lower()
            names[e] = f"splat ({d.llvm} {literal})"
            continue
        if op == "load":
            line = f"load {of(d)}, ptr %at{e.attr.slot}, align {d.itemsize}"
        elif op in ("add", "sub", "mul", "div") and floating:
            line = f"{FLOAT_BINARY[op]} {of(d)} {args[0]}, {args[1]}"
        elif op in INT_BINARY and not floating:
            line = f"{INT_BINARY[op]} {of(d)} {args[0]}, {args[1]}"
        elif op == "neg":
            line = f"fneg {of(d)} {args[0]}" if floating else f"sub {of(d)} zeroinitializer, {args[0]}"
        elif op == "not":
            line = f"xor {of(d)} {args[0]}, splat ({d.llvm} {'true' if d.name == 'bool' else '-1'})"
        elif op in INTRINSIC and floating:
            line = call(INTRINSIC[op], d, args)
        elif op in FLOAT_COMPARE:
            line = f"{'fcmp ' + FLOAT_COMPARE[op] if floating else 'icmp ' + INT_COMPARE[op]} {of(source)} {args[0]}, {args[1]}"
        elif op == "where":
            line = f"select {of(e.args[0].dtype)} {args[0]}, {of(d)} {args[1]}, {of(d)} {args[2]}"
        elif op == "bitcast":
            line = f"bitcast {of(source)} {args[0]} to {of(d)}"
        elif op == "cast":
            line = f"{_cast(source, d)} {of(source)} {args[0]} to {of(d)}"
        else:
            raise AssertionError(f"{op} of {source} is not arithmetic")
        names[e] = f"%v{len(lines)}"
        lines.append(f"  {names[e]} = {line}")
    pointers = [(d, i) for i, d in enumerate(types)] + [(root.dtype, len(types))]
    head = [f"  %q{i} = getelementptr ptr, ptr %args, i64 {i}\n  %p{i} = load ptr, ptr %q{i}" for _, i in pointers]
    step = [f"  %at{i} = getelementptr {d.llvm}, ptr %p{i}, i64 %i" for d, i in pointers]
    return "\n".join([
        *declared, "define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {", "entry:", *head, "  br label %loop", "loop:",
        f"  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]\n  %next = add i64 %i, {width}", *step, *lines,
        f"  store {of(root.dtype)} {names[root]}, ptr %at{len(types)}, align {root.dtype.itemsize}",
        "  %more = icmp slt i64 %next, %end\n  br i1 %more, label %loop, label %done", "done:\n  ret void\n}\n",
    ])


def _cast(source: dtype, to: dtype) -> str:
    if source.category == 2:
        return ("fptrunc" if to.itemsize < source.itemsize else "fpext") if to.category == 2 else "fptosi"
    if to.category == 2:
        return "uitofp" if source.name == "bool" else "sitofp"
    if to.itemsize < source.itemsize:
        return "trunc"
    return "zext" if source.name == "bool" else "sext"


def evaluate(root: Expr, *arrays: np.ndarray, width: int = 8) -> np.ndarray:
    """``root`` at every element of ``arrays`` (of one length)."""
    n = arrays[0].size
    padded = [np.concatenate([a, np.repeat(a[-1:], -n % width)]) for a in arrays]
    out = np.empty(padded[0].size, NUMPY[root.dtype.name])
    types = [next(d for d in _types() if NUMPY[d.name] == a.dtype) for a in arrays]
    launch(cpu.load([text(root, types, width)])[0], padded, out)
    return out[:n]


def launch(address: int, arrays: list[np.ndarray], out: np.ndarray) -> None:
    """Run a kernel made from :func:`text` over whole vectors, in one piece: a ticket that ends within a vector would be exceeded."""
    args = (ctypes.c_int64 * (len(arrays) + 1))(*(a.ctypes.data for a in [*arrays, out]))
    records = pool.launch_list([(address, ctypes.addressof(args), out.size, out.size)])
    pool.walker()[0](pool.head(records))


def _types() -> list[dtype]:
    from flambeau.core.dtype import DTYPES

    return [DTYPES[name] for name in NUMPY]
