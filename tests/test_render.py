"""Machine code of single nests against the reference interpreter: every operation, dtype, kind of access and kind of nest."""

from __future__ import annotations

import math

import numpy as np
import pytest
from kernel_runner import check
from program_maker import Maker, View, contiguous

from flambeau.core.dtype import DTYPES, bfloat16, bool_, compute_dtype, dtype, float16, float32, float64, int32, int64, uint8
from flambeau.ir import expression as ir
from flambeau.ir.expression import Access, Expr
from flambeau.ir.loops import Nest
from flambeau.runtime import reference

pytest.importorskip("llvmlite")

INTEGERS = [d for d in DTYPES.values() if d.category == 1]
FLOATS = [float32, float64]
SIZES = [1, 7, 37, 70000]


def values(d: dtype, n: int, seed: int = 0) -> np.ndarray:
    """Ordinary and special values of a dtype, as they lie in memory."""
    rng = np.random.default_rng(seed)
    if d is bool_:
        return rng.integers(0, 2, n).astype(np.bool_)
    if d.category == 1:
        info = np.iinfo(d.name)
        x = rng.integers(max(info.min, -40), min(info.max, 40), n).astype(d.name)
        special = np.array([info.min, info.max, 0, 1], d.name)
    else:
        x = (rng.standard_normal(n) * 3).astype(np.float32 if d is bfloat16 else d.name)
        special = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 0.5, 1.5, -2.5, 1e-40 if d is not float16 else 1e-7], x.dtype)
    at = rng.permutation(n)[: min(n // 2, len(special))]
    x[at] = special[: len(at)]
    if d is bfloat16:
        return reference.encode(x, d)
    return x


def operand(v: View) -> Expr:
    e = v.element(v.shape)
    return e.cast(compute_dtype(v.dtype))


def pointwise(op: str, d: dtype, count: int, n: int, tolerance: float = 0.0) -> None:
    m = Maker()
    xs = [operand(m.external(values(d, n, seed), d)) for seed in range(count)]
    build = getattr(ir.E, op)
    out = build(*xs) if op not in ir.COMPARISON else ir.compare(op, *xs)
    y = m.map(out.cast(d) if out.dtype is compute_dtype(d) else out, (n,))
    m.buffers[y.slot].live = True
    check(m.program(), m.contents, m.dtypes, tolerance=tolerance)


TWO = {"add", "sub", "mul", "minimum", "maximum", "div", "copysign", "fmod", "nextafter"}
ONE = {"neg", "abs", "sqrt", "floor", "ceil", "trunc", "round"}


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("d", [*FLOATS, float16, bfloat16], ids=str)
@pytest.mark.parametrize("op", sorted(TWO | ONE | {"eq", "ne", "lt", "le"}))
def test_float_operations(op: str, d: dtype, n: int) -> None:
    if n > 100 and op in ("fmod", "nextafter"):
        n = 200
    pointwise(op, d, 1 if op in ONE else 2, n)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "minimum", "maximum", "neg", "abs", "and", "or", "xor", "not", "eq", "lt", "le", "ne",
                                "floordiv", "mod", "truncdiv", "truncmod"])
@pytest.mark.parametrize("d", INTEGERS, ids=str)
def test_integer_operations(op: str, d: dtype) -> None:
    n = 150
    m = Maker()
    a = values(d, n)
    b = values(d, n, 1)
    if op in ("floordiv", "mod", "truncdiv", "truncmod"):
        b[b == 0] = 3       # division by zero is covered by its own test
    x, y = operand(m.external(a, d)), operand(m.external(b, d))
    if op in ("neg", "abs", "not"):
        out = ir.unary(op, x)
    else:
        out = ir.compare(op, x, y) if op in ir.COMPARISON else ir.binary(op, x, y)
    m.buffers[m.map(out, (n,)).slot].live = True
    check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("op", ["floordiv", "mod", "truncdiv", "truncmod"])
@pytest.mark.parametrize("d", INTEGERS, ids=str)
def test_division_by_zero_and_of_the_most_negative_does_not_trap(op: str, d: dtype) -> None:
    m = Maker()
    info = np.iinfo(d.name)
    a = np.array([5, 0, info.min, info.min, info.max], d.name)
    b = np.array([0, 0, -1 if d.is_signed else 1, 0, 7], d.name)
    out = m.map(ir.binary(op, operand(m.external(a, d)), operand(m.external(b, d))), (5,))
    m.buffers[out.slot].live = True
    from kernel_runner import Machine, empty
    machine = Machine(m.program())
    memory = [empty(64) for _ in m.buffers]
    for buffer, c in zip(memory, (a, b), strict=False):
        buffer[:c.nbytes] = c.view(np.uint8)
    machine.run(memory)
    result = memory[out.slot][:a.nbytes].view(d.name)
    assert result[0] == result[1] == result[3] == 0
    assert result[4] == (info.max // 7 if op.endswith("div") else info.max % 7)


@pytest.mark.parametrize("op", ["shl", "shr", "ushr"])
@pytest.mark.parametrize("d", INTEGERS, ids=str)
def test_shifts(op: str, d: dtype) -> None:
    m = Maker()
    b = np.arange(60).astype(d.name) % (8 * d.itemsize)
    x, y = operand(m.external(values(d, 60), d)), operand(m.external(b, d))
    for out in (ir.binary(op, x, y), ir.binary(op, x, ir.const(3, d))):
        m.buffers[m.map(out, (60,)).slot].live = True
    check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("n", [37, 70000])
@pytest.mark.parametrize("to", DTYPES.values(), ids=str)
@pytest.mark.parametrize("d", DTYPES.values(), ids=str)
def test_casts(d: dtype, to: dtype, n: int) -> None:
    m = Maker()
    a = values(d, n)
    if d.category == 2 and to.category == 1:     # what does not fit is the processor's choice
        x = np.random.default_rng(0).uniform(0, 100, n).astype(np.float32)
        a = reference.encode(x, d) if d is bfloat16 else x.astype(d.name)
    x = m.external(a, d).element((n,))
    m.buffers[m.map(x.cast(to), (n,)).slot].live = True
    check(m.program(), m.contents, m.dtypes, tolerance=0.0)


@pytest.mark.parametrize("op", sorted(ir.FLOAT_MATH))
@pytest.mark.parametrize("d", FLOATS, ids=str)
def test_mathematical_functions(op: str, d: dtype) -> None:
    n = 333
    m = Maker()
    rng = np.random.default_rng(0)
    count = 2 if op in ("pow", "atan2", "hypot") else 1
    xs = [operand(m.external(rng.uniform(0.05, 0.95, n).astype(d.name), d)) for _ in range(count)]
    y = m.map(getattr(ir.E, op)(*xs), (n,))
    m.buffers[y.slot].live = True
    check(m.program(), m.contents, m.dtypes, tolerance=2e-6 if d is float32 else 1e-13)


@pytest.mark.parametrize("vector_bytes", [16, 32, 64])
@pytest.mark.parametrize("d", [float32, float64, bfloat16, uint8, bool_], ids=str)
def test_other_vector_widths(d: dtype, vector_bytes: int) -> None:
    m = Maker()
    v = m.external(values(d, 1000), d)
    x = operand(v)
    y = m.map(ir.where(ir.compare("eq", x, x), x, ir.const(1, x.dtype)).cast(d), (1000,))
    m.buffers[y.slot].live = True
    check(m.program(), m.contents, m.dtypes, vector_bytes=vector_bytes)


SHAPES = [(1, 1), (5, 3), (3, 5), (17, 33), (1, 700), (700, 1), (300, 400), (100000,), (40, 3, 50)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("combine", ["sum", "prod", "max", "min"])
@pytest.mark.parametrize("d", [float32, float64, int32, int64, uint8], ids=str)
def test_reductions(d: dtype, combine: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    n = math.prod(shape)
    a = rng.uniform(0.99, 1.01, n) * rng.choice([-1, 1], n) if d.category == 2 else rng.integers(0, 3, n)
    a = a.astype(d.name).reshape(shape)
    for dims in [(0,), (len(shape) - 1,), tuple(range(len(shape)))]:
        m = Maker()
        r = m.reduce(m.external(a, d), dims, combine)
        m.buffers[r.slot].live = True
        check(m.program(), m.contents, m.dtypes, tolerance=1e-3 if d is float32 else 1e-9, pieces=3)


@pytest.mark.parametrize("combine", ["max", "min", "sum"])
def test_reductions_keep_nan(combine: str) -> None:
    for at in (0, 3, 36):
        a = np.arange(37, dtype="f")
        a[at] = math.nan
        m = Maker()
        m.buffers[m.reduce(m.external(a), (0,), combine).slot].live = True
        check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("combine", ["any", "all"])
@pytest.mark.parametrize("n", [1, 20, 100000])
def test_any_and_all(combine: str, n: int) -> None:
    for a in (np.zeros(n, bool), np.ones(n, bool), np.arange(n) == n // 2):
        m = Maker()
        m.buffers[m.reduce(m.external(a, bool_), (0,), combine).slot].live = True
        check(m.program(), m.contents, m.dtypes)


def test_empty_spaces() -> None:
    m = Maker()
    x = m.external(np.zeros((3, 0), "f"))
    for combine in ("sum", "max", "prod"):
        m.buffers[m.reduce(x, (1,), combine).slot].live = True
    m.buffers[m.map(x.element((3, 0)) + 1.0, (3, 0)).slot].live = True
    m.buffers[m.reduce(x, (0,), "sum").slot].live = True
    check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("d", [float32, float64, int64, bfloat16, bool_], ids=str)
@pytest.mark.parametrize("view", ["transposed", "reversed", "every third", "broadcast", "row"])
def test_views(d: dtype, view: str) -> None:
    m = Maker()
    base = m.external(values(d, 40 * 60).reshape(40, 60), d)
    s = {"transposed": View(base.slot, (60, 40), (1, 60), 0, d), "reversed": View(base.slot, (40, 60), (-60, -1), 2399, d),
         "every third": View(base.slot, (40, 20), (60, 3), 1, d), "broadcast": View(base.slot, (7, 60), (0, 1), 120, d),
         "row": View(base.slot, (60,), (1,), 60, d)}[view]
    y = m.map(s.element(s.shape), s.shape)
    m.buffers[y.slot].live = True
    if view != "broadcast":
        m.map(m.external(values(d, math.prod(s.shape), 3).reshape(s.shape), d).element(s.shape), s.shape, s)
    check(m.program(), m.contents, m.dtypes, pieces=3)


@pytest.mark.parametrize("shape", [(300, 401), (17, 5000), (5000, 17), (256, 256)], ids=str)
@pytest.mark.parametrize("d", [float32, float64, bool_, bfloat16, int64], ids=str)
def test_transposition_by_tiles(d: dtype, shape: tuple[int, int]) -> None:
    m = Maker()
    x = m.external(values(d, math.prod(shape)).reshape(shape), d)
    turned = shape[::-1]
    xt = View(x.slot, turned, (1, shape[1]), 0, d)
    outs = [m.map(xt.element(turned), turned)]
    if d.is_floating_point:
        row = View(m.external(values(d, turned[0], 3), d).slot, (turned[0], 1), (1, 1), 0, d)
        other = m.external(values(d, math.prod(shape), 4).reshape(turned), d)
        outs.append(m.map((operand(xt) + operand(other) * row.element(turned).cast(compute_dtype(d))).cast(d), turned))
    for v in outs:
        m.buffers[v.slot].live = True
    for pieces in (1, 3):
        machine = check(m.program(), m.contents, m.dtypes, pieces=pieces)
    assert all(k.tiled for k in machine.plan.kernels)


@pytest.mark.parametrize("combine", ["sum", "prod", "max"])
@pytest.mark.parametrize("shape", [(50,), (4, 9), (30, 40), (3, 5, 20)], ids=str)
@pytest.mark.parametrize("d", [float32, int64], ids=str)
def test_scans(d: dtype, shape: tuple[int, ...], combine: str) -> None:
    n = math.prod(shape)
    rng = np.random.default_rng(0)
    a = (rng.uniform(0.9, 1.1, n) if d is float32 else rng.integers(-2, 3, n)).astype(d.name).reshape(shape)
    for dim in range(len(shape)):
        m = Maker()
        y = m.scan(m.external(a, d), dim)
        m.steps[-1].combine = combine
        m.buffers[y.slot].live = True
        check(m.program(), m.contents, m.dtypes, tolerance=1e-4, pieces=2)


@pytest.mark.parametrize("combine", ["", "sum", "max"])
@pytest.mark.parametrize("d", [float32, float64, int64, bfloat16], ids=str)
@pytest.mark.parametrize("width", [0, 5, 40])
def test_scatters(d: dtype, combine: str, width: int) -> None:
    rng = np.random.default_rng(0)
    rows, count = 11, 30
    m = Maker()
    shape = (rows, width) if width else (rows,)
    into = m.external(values(d, math.prod(shape), 5).reshape(shape), d)
    index = m.external(rng.integers(0, rows, count), int64)
    source = m.external(values(d, count * max(1, width), 6), d)
    sizes = (count, width) if width else (count,)
    v = ir.make("load", d, (), Access(source.slot, 0, contiguous(sizes), d))
    v = v.cast(compute_dtype(d)) if combine else v
    i = ir.make("load", int64, (), Access(index.slot, 0, (1, 0)[:len(sizes)], int64))
    guard = ir.compare("ne", i, ir.const(4, int64))
    m.steps.append(Nest("scatter", sizes, len(sizes), v, Access(into.slot, 0, (0, 1)[:len(sizes)] if width else (0,), d), combine,
                        target=ir.checked(i, rows, "bad row {index}") * max(1, width), guard=guard))
    check(m.program(), m.contents, m.dtypes, tolerance=1e-5)


def test_gather_and_its_check() -> None:
    for bad in (False, True):
        m = Maker()
        table = m.external(np.random.default_rng(0).standard_normal((10, 20)).astype("f"))
        i = np.array([3, 9, 0, 5, 5])
        if bad:
            i[3] = 10
        index = m.external(i, int64)
        at = ir.checked(ir.make("load", int64, (), Access(index.slot, 0, (1, 0), int64)), 10, "index {index} of {size}")
        row = ir.make("load", float32, (at * 20,), Access(table.slot, 0, (0, 1), float32))
        m.buffers[m.map(row, (5, 20)).slot].live = True
        one = ir.checked(ir.make("load", int64, (), Access(index.slot, 0, (1,), int64)), 10, "index {index} of {size}")
        m.buffers[m.map(ir.make("load", float32, (one * 20,), Access(table.slot, 2, (0,), float32)), (5,)).slot].live = True
        check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("fill", [0.0, -math.inf, 7.0])
@pytest.mark.parametrize("n", [10, 40000])
def test_guarded_loads(fill: float, n: int) -> None:
    m = Maker()
    x = m.external(np.random.default_rng(0).standard_normal(n).astype("f"))
    i = ir.axis(0) - 3
    guard = (ir.const(0, int64) <= i) & (i < n)
    e = ir.make("load", float32, (ir.const(0, int64), guard), Access(x.slot, -3, (1,), float32, fill))
    m.buffers[m.map(e, (n + 6,)).slot].live = True
    j = ir.axis(0) // 2 - 3
    inside = (ir.const(0, int64) <= j) & (j < n)
    e = ir.make("load", float32, (j, inside), Access(x.slot, 0, (0,), float32, fill))
    m.buffers[m.map(e, (n + 6,)).slot].live = True
    check(m.program(), m.contents, m.dtypes)


@pytest.mark.parametrize("op", ["floordiv", "mod", "truncdiv", "truncmod"])
def test_division_of_index_variables(op: str) -> None:
    n = 5000
    m = Maker()
    for k in (1, 3, 7, 49, 1 << 40, -3):
        i = (ir.axis(0) - 700) * 7
        m.buffers[m.map(ir.binary(op, i, ir.const(k, int64)), (n,)).slot].live = True
        m.buffers[m.map(ir.binary(op, i * (1 << 30), ir.axis(0) + k if k > 0 else ir.axis(0) + 1), (n,)).slot].live = True
    check(m.program(), m.contents, m.dtypes)


def test_scalars_and_index_variables() -> None:
    m = Maker()
    x = m.external(np.arange(12, dtype="f").reshape(3, 4))
    e = x.element((3, 4)) * ir.scalar(0, float32) + ir.axis(1).cast(float32) * 10.0 + (ir.axis(0) * ir.scalar(1, int64)).cast(float32)
    m.buffers[m.map(e, (3, 4)).slot].live = True
    m.buffers[m.map(ir.scalar(0, float64), ()).slot].live = True
    program = m.program()
    program.scalars = [float64, int64]
    check(program, m.contents, [*m.dtypes[:-1], float64], [0.1, 7])


def test_equal_structure_gives_equal_text() -> None:
    from flambeau.render.llvm import render
    from flambeau.schedule import build

    def texts(n: int, k: int) -> list[str]:
        m = Maker()
        x = m.external(np.zeros((n, k), "f"))
        y = m.reduce(x, (1,), "sum", lambda a: a * (1 / k))
        m.buffers[m.map(x.element((n, k)) - View(y.slot, (n, k), (1, 0)).element((n, k)), (n, k)).slot].live = True
        return [render(kernel) for kernel in build(m.program()).kernels]
    assert texts(20, 30) == texts(31, 100)
