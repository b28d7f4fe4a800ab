"""What is fused, and that fusing changes nothing: random programs against the reference interpreter."""

from __future__ import annotations

import marshal

import numpy as np
import pytest
from kernel_runner import Machine, check, empty
from program_maker import LARGE, Maker, View, contiguous, random_program

from flambeau.core.dtype import float32, int64
from flambeau.ir import expression as ir
from flambeau.ir.expression import Access
from flambeau.ir.loops import Nest
from flambeau.ir.simplify import disjoint, refine, region
from flambeau.ir.verify import Malformed, verify
from flambeau.schedule import Plan, build
from flambeau.schedule.memory_plan import layout

pytest.importorskip("llvmlite")
E = ir.E


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("f")


def keepdim(r: View, shape: tuple[int, ...], dim: int) -> View:
    """A reduced view, broadcast back along ``dim``."""
    strides = list(r.strides)
    strides.insert(dim, 0)
    return View(r.slot, shape, tuple(strides), 0, r.dtype)


def run(m: Maker, *live: View, tolerance: float = 1e-4, pieces: int = 1) -> Plan:
    for v in live:
        m.buffers[v.slot].live = True
    return check(m.program(), m.contents, m.dtypes, tolerance=tolerance, pieces=pieces).plan


# ---------------------------------------------------------------- random programs

@pytest.mark.parametrize("seed", range(60))
def test_random_programs(seed: int) -> None:
    m, _ = random_program(seed)
    check(m.program(), m.contents, m.dtypes, tolerance=2e-4, pieces=1 + seed % 3)


@pytest.mark.parametrize("seed", range(25))
def test_random_programs_over_larger_arrays(seed: int) -> None:
    m, _ = random_program(seed, LARGE)
    check(m.program(), m.contents, m.dtypes, tolerance=2e-4, pieces=1 + seed % 3)


# Three products one after the other, each followed by tanh: against float64 the reference interpreter is off by 2.9e-4, machine code by 1.5e-4.
AMPLIFIED = {1128: 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2000))
def test_many_random_programs(seed: int) -> None:
    m, _ = random_program(seed, LARGE if seed % 4 == 0 else None)
    check(m.program(), m.contents, m.dtypes, tolerance=AMPLIFIED.get(seed, 2e-4), pieces=1 + seed % 3)


@pytest.mark.parametrize("shape", [(300, 401), (7, 30000), (20000, 3), (100000,)], ids=str)
def test_results_do_not_depend_on_how_the_work_is_shared_out(shape: tuple[int, ...]) -> None:
    m = Maker()
    x = m.external(normal(*shape))
    outs = [m.reduce(x, (d,), "sum") for d in range(len(shape))]
    outs += [m.reduce(x, tuple(range(len(shape))), "sum"), m.map(E.tanh(x.element(shape)), shape)]
    for v in outs:
        m.buffers[v.slot].live = True
    machine = Machine(m.program())
    results = []
    for pieces in (1, 2, 5):
        memory = [empty(b.nbytes) for b in m.buffers]
        memory[x.slot][:] = m.contents[x.slot].reshape(-1).view(np.uint8)
        machine.run(memory, pieces=pieces)
        results.append([memory[v.slot].tobytes() for v in outs])
    assert results[0] == results[1] == results[2]


# ---------------------------------------------------------------- what is fused

def softmax(m: Maker, x: View) -> View:
    s = x.shape
    e = m.map(E.exp(x.element(s) - keepdim(m.reduce(x, (1,), "max"), s, 1).element(s)), s)
    return m.map(e.element(s) / keepdim(m.reduce(e, (1,), "sum"), s, 1).element(s), s)


SHAPES = [(5, 7), (100, 300), (300, 1001)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_softmax_with_its_gradient_is_one_kernel(shape: tuple[int, int]) -> None:
    m = Maker()
    x, g = m.external(normal(*shape)), m.external(normal(*shape, seed=1))
    y = softmax(m, x)
    p = m.map(g.element(shape) * y.element(shape), shape)
    dx = m.map(y.element(shape) * (g.element(shape) - keepdim(m.reduce(p, (1,), "sum"), shape, 1).element(shape)), shape)
    plan = run(m, y, dx, pieces=2)
    assert len(plan.steps) == 1
    assert plan.arena == 0


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_with_its_gradient_never_stores_the_logarithms(shape: tuple[int, int]) -> None:
    m = Maker()
    rows, classes = shape
    x = m.external(normal(*shape))
    t = m.external(np.random.default_rng(0).integers(0, classes, rows), int64)
    d = m.map(x.element(shape) - keepdim(m.reduce(x, (1,), "max"), shape, 1).element(shape), shape)
    total = m.reduce(m.map(E.exp(d.element(shape)), shape), (1,), "sum")
    y = m.map(d.element(shape) - keepdim(m.map(E.log(total.element((rows,))), (rows,)), shape, 1).element(shape), shape)
    i = ir.checked(ir.make("load", int64, (), Access(t.slot, 0, (1,), int64)), classes, "class {index} of {size}")
    picked = m.map(ir.make("load", float32, (i,), Access(y.slot, 0, (classes,), float32)), (rows,))
    loss = m.reduce(picked, (0,), "sum", lambda a: a * (-1 / rows))
    g = m.map(ir.const(0.0, float32), shape)
    m.steps.append(Nest("scatter", (rows,), 1, ir.const(-1 / rows, float32), Access(g.slot, 0, (classes,), float32), "sum", target=i))
    dx = m.map(g.element(shape) - E.exp(y.element(shape)) * keepdim(m.reduce(g, (1,), "sum"), shape, 1).element(shape), shape)
    plan = run(m, loss, dx, pieces=2)
    assert len(plan.steps) <= 2
    assert plan.arena <= 16 * rows + 256


def test_linear_regression_step_is_one_kernel() -> None:
    m, n = Maker(), 100
    x, y, w, b = m.external(normal(n, 1)), m.external(normal(n, 1, seed=1)), m.external(normal(1, 1)), m.external(normal(1))
    s = (n, 1)
    z = m.map(m.matmul(x, w).element(s) + b.element(s), s)
    d = m.map(z.element(s) - y.element(s), s)
    loss = m.reduce(m.map(d.element(s) * d.element(s), s), (0, 1), "sum", lambda a: a * (1 / n))
    g = m.map(d.element(s) * (2 / n), s)
    gw = m.matmul(View(g.slot, (1, n), (1, 1)), x)
    gb = m.reduce(g, (0,), "sum")
    m.map(w.element((1, 1)) - gw.element((1, 1)) * 0.01, (1, 1), w)
    m.map(b.element((1,)) - gb.element((1,)) * 0.01, (1,), b)
    assert len(run(m, loss).steps) == 1


def test_a_chain_through_reshape_permute_and_broadcast_is_one_kernel() -> None:
    m = Maker()
    x, v = m.external(normal(6, 20)), m.external(normal(5))
    a = m.map(E.tanh(x.element((6, 20))), (6, 20))
    b = View(a.slot, (6, 4, 5), contiguous((6, 4, 5)))
    c = m.map(b.element(b.shape) + v.element(b.shape), b.shape)
    d = View(c.slot, (5, 6, 4), (1, 20, 5))
    y = m.map(d.element(d.shape) * 2.0, d.shape)
    plan = run(m, y)
    assert len(plan.steps) == 1 and plan.arena == 0


def test_dead_results_are_dropped() -> None:
    m = Maker()
    x = m.external(normal(10))
    m.map(E.exp(x.element((10,))), (10,))
    y = m.map(x.element((10,)) + 1.0, (10,))
    plan = run(m, y)
    assert len(plan.steps) == 1
    assert "exp" not in str(plan.kernels[0])


def test_nothing_expensive_is_repeated_in_a_larger_space() -> None:
    m = Maker()
    x, w = m.external(normal(40, 30)), m.external(normal(30, 50))
    h = m.map(E.tanh(x.element((40, 30))), (40, 30))
    plan = run(m, m.matmul(h, w))
    assert sum(str(k).count("tanh") for k in plan.kernels) == 1
    assert len(plan.steps) == 2


def test_sums_over_long_rows_and_columns_share_no_pass_but_store_no_product() -> None:
    m, s = Maker(), (400, 1000)
    g, x = m.external(normal(*s)), m.external(normal(*s, seed=1))
    p = m.map(g.element(s) * x.element(s), s)
    plan = run(m, m.reduce(p, (0,), "sum"), m.reduce(p, (1,), "sum"), pieces=3)
    assert plan.arena < 4 * s[0] * s[1]


# ---------------------------------------------------------------- order

def test_a_value_read_before_and_after_a_write_in_a_kernel_with_phases() -> None:
    """Later passes compute values again; they must not see what the kernel itself wrote meanwhile."""
    for shape in ((4, 9), (200, 300)):
        m = Maker()
        x = m.external(normal(*shape))
        total = m.reduce(x, (1,), "sum")
        centred = m.map(x.element(shape) - keepdim(total, shape, 1).element(shape), shape)
        m.map(x.element(shape) * 0.5, shape, x)
        square = m.reduce(centred, (1,), "sum", value=lambda v: v * v)
        y = m.map(centred.element(shape) / keepdim(square, shape, 1).element(shape), shape)
        run(m, y, centred, tolerance=1e-3)


def test_overlapping_views_keep_program_order() -> None:
    m = Maker()
    x = m.external(normal(8, 10))
    left, right = View(x.slot, (8, 6), (10, 1), 0), View(x.slot, (8, 6), (10, 1), 4)
    a = m.map(E.tanh(left.element((8, 6))), (8, 6))
    m.map(a.element((8, 6)) + 1.0, (8, 6), right)
    b = m.map(left.element((8, 6)) * 2.0, (8, 6))
    m.map(b.element((8, 6)), (8, 6), left)
    run(m, a, b)


def test_a_scalar_updated_beside_a_large_map_is_updated_once() -> None:
    m = Maker()
    x, s = m.external(normal(300, 400)), m.external(normal())
    m.map(s.element(()) + s.element(()), (), s)
    y = m.map(x.element((300, 400)) * s.element((300, 400)), (300, 400))
    run(m, y, pieces=3)


# ---------------------------------------------------------------- parts

def test_disjoint_regions() -> None:
    left, right = Access(0, 0, (10, 1), float32), Access(0, 5, (10, 1), float32)
    assert disjoint(region(left, (8, 5)), region(right, (8, 5)))
    assert not disjoint(region(left, (8, 6)), region(right, (8, 5)))
    assert disjoint(region(Access(0, 0, (1,), float32), (5,)), region(Access(0, 5, (1,), float32), (5,)))
    assert not disjoint(region(Access(0, 9, (-1,), float32), (5,)), region(Access(0, 0, (1,), float32), (6,)))


def test_common_refinement_of_shapes() -> None:
    assert refine((12,), (3, 4)) == ([[3, 4]], [[3], [4]])
    assert refine((6, 4), (3, 8)) == ([[3, 2], [4]], [[3], [2, 4]])
    assert refine((4, 6), (6, 4)) is None


def test_arena_reuses_space() -> None:
    offsets, total = layout({1: (100, 0, 1), 2: (100, 1, 2), 3: (100, 2, 3), 4: (4, 0, 3)})
    assert total == 128 * 2 + 64
    assert offsets[1] != offsets[2] != offsets[3]
    assert len({offsets[s] // 64 for s in (1, 2, 4)}) == 3


def test_plans_survive_marshal() -> None:
    m = Maker()
    x = m.external(normal(10))
    y = m.host_double(m.map(x.element((10,)) * 3.0, (10,)))
    m.buffers[y.slot].live = True
    plan = build(m.program())
    again = Plan.from_data(marshal.loads(marshal.dumps(plan.to_data())))
    assert (again.table, again.arena, again.steps) == (plan.table, plan.arena, plan.steps)
    assert plan.work(plan.steps[0]) == 10


def test_report_says_what_was_fused_and_why_not() -> None:
    m = Maker()
    x = m.external(normal(10, 20))
    a = m.map(x.element((10, 20)) + 1.0, (10, 20))
    b = m.scan(a, 1)
    m.buffers[a.slot].live = m.buffers[b.slot].live = True
    first, second = build(m.program()).report
    assert first["steps"] == [0] and second["steps"] == [1]
    assert first["read"] == first["written"] == 800
    assert "on their own" in second["apart"]


def test_verify_finds_defects() -> None:
    from flambeau.core.dataclass import replace

    m = Maker()
    x = m.external(normal(10, 20))
    y = m.reduce(x, (1,), "sum", lambda a: a * 2.0)
    m.buffers[y.slot].live = True
    plan = build(m.program())
    kernel = plan.kernels[0]
    verify(kernel)
    for change in ({"stages": kernel.stages[1:]}, {"places": kernel.places[:1]}, {"lane": 5}, {"sizes": (0,)}):
        with pytest.raises(Malformed):
            verify(replace(kernel, **change))
    with pytest.raises(Malformed):
        verify(kernel, words=2)
