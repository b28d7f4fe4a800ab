"""The reference interpreter against NumPy, PyTorch's facts written out, exact fractions and mpmath."""

import math
from fractions import Fraction

import numpy as np
import pytest

from flambeau.core import dtype as D
from flambeau.ir import expression as ir
from flambeau.ir.expression import Access, E
from flambeau.ir.loops import BufferInfo, Host, Nest, Program
from flambeau.runtime import reference

FLOATS = [D.float32, D.float64]
NAN, INF = math.nan, math.inf


def strides_of(shape):
    out, n = [], 1
    for size in reversed(shape):
        out.append(n)
        n *= size
    return tuple(reversed(out))


def load(slot, d, *strides, offset=0, args=(), fill=None):
    return ir.make("load", d, args, Access(slot, offset, strides, d, fill))


def stored(array, d):
    """A NumPy array as it lies in memory."""
    return reference.encode(reference.convert(array, D.float64, d), d) if d is D.bfloat16 else array.astype(reference.storage(d))


def execute(steps, arrays, temporaries=(), scalars=()):
    """Run over the memory of ``arrays`` (slots in order, then temporaries by their bytes); returns the failed checks."""
    buffers = [BufferInfo(a.nbytes, True, True) for a in arrays] + [BufferInfo(n, False, False) for n in temporaries]
    addresses = [a.ctypes.data for a in arrays] + [0] * len(temporaries)
    return reference.run(Program(steps, buffers, [D.float64] * len(scalars)), addresses, scalars)


def mapped(value, sizes, arrays, scalars=()):
    """``value`` at every point, as values."""
    out = np.zeros(sizes, reference.storage(value.dtype))
    nest = Nest("map", sizes, len(sizes), value, Access(len(arrays), 0, strides_of(sizes), value.dtype))
    assert execute([nest], [*arrays, out], scalars=scalars) == []
    return reference.decode(out, value.dtype)


def apply(op, d, *lists):
    """One operation on columns of numbers."""
    arrays = [np.array(x).astype(reference.storage(d)) for x in lists]
    loads = tuple(load(i, d, 1) for i in range(len(arrays)))
    result = D.bool_ if op in ir.COMPARISON else d
    return mapped(ir.make(op, result, loads), (len(lists[0]),), arrays)


def reduced(value, sizes, kept, combine, arrays, finish=None):
    d = value.dtype if finish is None else finish.dtype
    out = np.zeros(sizes[:kept], reference.storage(d))
    access = Access(len(arrays), 0, strides_of(sizes[:kept]) + (0,) * (len(sizes) - kept), d)
    assert execute([Nest("reduce", sizes, kept, value, access, combine, finish)], [*arrays, out]) == []
    return out


def test_every_operation_has_an_implementation():
    for op in ir.VOCABULARY:
        assert op in reference._OPERATIONS or hasattr(reference._Block, "_" + op), op


# ------------------------------------------------------------------ arithmetic


@pytest.mark.parametrize(("d", "a", "b", "total", "product"), [
    (D.int8, 127, 2, -127, -2), (D.uint8, 255, 2, 1, 254), (D.int16, 32767, 2, -32767, -2),
    (D.int32, 2**31 - 1, 2, -(2**31) + 1, -2), (D.int64, 2**63 - 1, 2, -(2**63) + 1, -2),
])
def test_integers_wrap(d, a, b, total, product):
    assert apply("add", d, [a], [b]).tolist() == [total]
    assert apply("mul", d, [a], [b]).tolist() == [product]
    assert apply("neg", d, [a]).tolist() == [1 if d is D.uint8 else -a]


def test_integer_divisions():
    a, b = [7, -7, 7, -7, 6, -6, 5, -128], [2, 2, -2, -2, 3, 3, 0, -1]
    assert apply("floordiv", D.int8, a, b).tolist() == [3, -4, -4, 3, 2, -2, 0, -128]
    assert apply("mod", D.int8, a, b).tolist() == [1, 1, -1, -1, 0, 0, 0, 0]
    assert apply("truncdiv", D.int8, a, b).tolist() == [3, -3, -3, 3, 2, -2, 0, -128]
    assert apply("truncmod", D.int8, a, b).tolist() == [1, -1, 1, -1, 0, 0, 0, 0]


def test_shifts_and_bits():
    assert apply("shl", D.int8, [1, 1, -1], [3, 7, 1]).tolist() == [8, -128, -2]
    assert apply("shr", D.int8, [-8, 8], [1, 1]).tolist() == [-4, 4]
    assert apply("ushr", D.int8, [-8, 8], [1, 1]).tolist() == [124, 4]
    assert apply("ushr", D.int64, [-1], [60]).tolist() == [15]
    assert apply("not", D.int32, [5]).tolist() == [-6]
    assert apply("not", D.bool_, [True, False]).tolist() == [False, True]
    assert apply("xor", D.bool_, [True, True], [False, True]).tolist() == [True, False]


@pytest.mark.parametrize("d", FLOATS)
def test_float_operations(d):
    assert apply("round", d, [0.5, 1.5, -2.5, 2.6]).tolist() == [0, 2, -2, 3]
    assert apply("trunc", d, [-1.7, 1.7]).tolist() == [-1, 1]
    assert apply("fmod", d, [-7.5, 7.5], [2, -2]).tolist() == [-1.5, 1.5]
    assert apply("copysign", d, [1, 1], [-0.0, 0.0]).tolist() == [-1, 1]
    assert apply("div", d, [1, -1, 0], [0, 0, 1]).tolist() == [INF, -INF, 0]
    for op in ("minimum", "maximum"):
        assert np.isnan(apply(op, d, [NAN, 1, NAN], [1, NAN, NAN])).all()
    assert apply("ne", d, [NAN, 1], [NAN, 1]).tolist() == [True, False]
    assert apply("le", d, [NAN, 1], [1, 1]).tolist() == [False, True]
    assert apply("nextafter", d, [1], [2])[0] == np.nextafter(*np.array([1, 2], reference.storage(d)))


def nearest(exact, d):
    """The nearest number of type ``d`` to a fraction (exact, by comparing neighbours)."""
    near = reference.storage(d).type(float(exact))
    candidates = [near, np.nextafter(near, near.dtype.type(INF)), np.nextafter(near, near.dtype.type(-INF))]
    best = min(abs(Fraction(float(c)) - exact) for c in candidates)
    ties = [c for c in candidates if abs(Fraction(float(c)) - exact) == best]
    bits = f"i{near.dtype.itemsize}"
    return min(ties, key=lambda c: int(c.view(bits)) & 1)


@pytest.mark.parametrize("d", FLOATS)
def test_fma_rounds_once(d):
    rng = np.random.default_rng(0)
    t = reference.storage(d)
    a = rng.standard_normal(3000).astype(t)
    b = rng.standard_normal(3000).astype(t)
    c = (-a * b * rng.choice([1, 1 + 1e-6, 1e-9, 1e12], 3000)).astype(t)     # cancellation, nearly none, far apart
    got = apply("fma", d, a, b, c)
    wrong = [i for i in range(3000) if got[i] != nearest(Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i])), d)]
    assert wrong == []


def test_fma_at_the_edges_of_float64():
    tiny, huge = 5e-324, 1.7e308
    a, b, c = [tiny, huge, 1e300, INF, 1e-200, 0.0, 1.0], [0.5, 2, 1e300, 0, 1e-200, -1.0, 2.0], [tiny, -huge, 0, 1, 1, 0.0, NAN]
    got = apply("fma", D.float64, a, b, c)
    assert got[:3].tolist() == [2 * tiny, huge, INF]     # 1.5 of the smallest number, a tie, goes to the even one
    assert math.isnan(got[3]) and got[4] == 1 and math.copysign(1, got[5]) == 1 and math.isnan(got[6])


MPMATH = {
    "exp": "exp", "exp2": lambda m, x: m.mpf(2) ** x, "expm1": "expm1", "log": "log", "log2": lambda m, x: m.log(x, 2),
    "log10": "log10", "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh", "erf": "erf", "erfc": "erfc",
    "erfinv": "erfinv", "lgamma": lambda m, x: m.log(abs(m.gamma(x))), "digamma": "digamma", "rsqrt": lambda m, x: 1 / m.sqrt(x),
    "sigmoid": lambda m, x: 1 / (1 + m.exp(-x)),
}


@pytest.mark.parametrize("name", sorted(MPMATH))
def test_functions(name):
    mpmath = pytest.importorskip("mpmath")
    points = np.concatenate([np.linspace(-0.99, 0.99, 23), [1e-8, 0.1, 1.3, 2.75, 7.3, 30.1, -3.3, -9.6]])
    if name in ("log", "log2", "log10", "rsqrt"):
        points = np.abs(points[points != 0])
    elif name in ("log1p", "asin", "acos", "atanh", "erfinv"):
        points = np.append(points[np.abs(points) < 1], 0.999999999)
    elif name == "erfc":
        points = points[points < 20]
    elif name == "acosh":
        points = 1 + np.abs(points)
    elif name in ("lgamma", "digamma"):
        points = points[(points != 0) & (points != 1.4616321449683622)]
    with mpmath.workdps(40):
        f = MPMATH[name]
        wanted = [f(mpmath, mpmath.mpf(x)) if callable(f) else getattr(mpmath, f)(mpmath.mpf(x)) for x in points.tolist()]
        got = apply(name, D.float64, points)
        bound = 8 if name in ("digamma", "lgamma") else 4
        for x, y, w in zip(points, got, wanted, strict=True):
            assert abs(mpmath.mpf(float(y)) - w) <= bound * 2.3e-16 * max(abs(w), 1 if name in ("digamma", "lgamma") else abs(w)), x


def test_special_values_of_functions():
    assert apply("erfinv", D.float32, [1, -1, 0]).tolist() == [INF, -INF, 0]
    assert np.isnan(apply("erfinv", D.float32, [1.5, NAN])).all()
    assert apply("lgamma", D.float64, [0, -1, -INF, INF, 1e306]).tolist() == [INF] * 5
    assert apply("digamma", D.float32, [0.0, -0.0, INF]).tolist() == [-INF, INF, INF]
    assert np.isnan(apply("digamma", D.float32, [-1, -INF, NAN])).all()
    assert apply("sigmoid", D.float64, [-745, 800, -INF])[:].tolist() == [5e-324, 1, 0]
    assert apply("pow", D.float32, [2, -2, 0, 2], [3, 3, 0, -1]).tolist() == [8, -8, 1, 0.5]
    assert math.isnan(apply("pow", D.float32, [-2], [0.5])[0])


# ------------------------------------------------------------------ types


def test_casts_of_what_does_not_fit():
    v = [NAN, INF, -INF, 300.0, -1.0, 3e9, -3e9, 1e19, 70000.0, -70000.5]      # results: PyTorch 2.13 on x86-64
    source = np.array(v, np.float32)
    wanted = {
        D.uint8: [0, 0, 0, 44, 255, 0, 0, 0, 112, 144],
        D.int8: [0, 0, 0, 44, -1, 0, 0, 0, 112, -112],
        D.int16: [0, 0, 0, 300, -1, 0, 0, 0, 4464, -4464],
        D.bool_: [True] * 10,
    }
    for d, numbers in wanted.items():
        assert mapped(load(0, D.float32, 1).cast(d), (10,), [source]).tolist() == numbers, d
    for d in (D.int32, D.int64):
        fitting = mapped(load(0, D.float32, 1).cast(d), (2,), [np.array([-1.9, 1.9], np.float32)])
        assert fitting.tolist() == [-1, 1]
    assert mapped(load(0, D.int64, 1).cast(D.int8), (3,), [np.array([300, -129, 2**40])]).tolist() == [44, 127, 0]


@pytest.mark.parametrize("d", [D.bfloat16, D.float16])
def test_16_bit_floats_round_to_nearest_even(d):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, 4000, dtype=np.uint32)
    special = [0.0, -0.0, INF, -INF, NAN, 65519, 65520, 3.3961776e38, 1e-41, 1 + 2**-8, 1 + 3 * 2**-8]
    x = np.concatenate([bits.view(np.float32), np.array(special, np.float32)])
    other = torch.bfloat16 if d is D.bfloat16 else torch.float16
    wanted = torch.from_numpy(x).to(other)
    got = mapped(load(0, D.float32, 1).cast(d), x.shape, [x])
    np.testing.assert_array_equal(got, wanted.float().numpy())
    # rounded by the cast already, so that going back changes nothing
    again = mapped(load(0, D.float32, 1).cast(d).cast(D.float32), x.shape, [x])
    np.testing.assert_array_equal(again, wanted.float().numpy())
    raw = wanted.view(torch.int16).numpy().view(reference.storage(d))
    np.testing.assert_array_equal(mapped(load(0, d, 1).cast(D.float32), x.shape, [raw]), wanted.float().numpy())


def test_constants_scalars_axes_and_bits():
    assert mapped(ir.const(-1, D.int64).cast(D.uint8), (2,), []).tolist() == [255, 255]
    assert mapped(ir.value(0.1, D.float32), (1,), [])[0] == np.float32(0.1)
    assert mapped(ir.scalar(0, D.float32) * 2, (1,), [], (0.1,))[0] == np.float32(0.1) * np.float32(2)
    assert mapped(ir.scalar(1, D.int32), (1,), [], (0.5, 7)).tolist() == [7]
    assert mapped(ir.axis(0) * 10 + ir.axis(1), (2, 3), []).tolist() == [[0, 1, 2], [10, 11, 12]]
    assert mapped(ir.bitcast(load(0, D.float32, 1), D.int32), (2,), [np.array([1, -0.0], np.float32)]).tolist() == [0x3F800000, -(2**31)]
    assert mapped(ir.const(2.5, D.float64), (), []).tolist() == 2.5


# ------------------------------------------------------------------ loads and stores


def test_strided_views_and_negative_strides():
    x = np.arange(24.0).reshape(4, 6)
    np.testing.assert_array_equal(mapped(load(0, D.float64, 1, 6), (6, 4), [x]), x.T)
    np.testing.assert_array_equal(mapped(load(0, D.float64, -6, 2, offset=19), (4, 3), [x]), x[::-1, 1::2])
    np.testing.assert_array_equal(mapped(load(0, D.float64, 0, 1), (3, 6), [x]), np.broadcast_to(x[0], (3, 6)))
    # a store through a transposed view
    out = np.zeros((6, 4))
    execute([Nest("map", (4, 6), 2, load(0, D.float64, 6, 1), Access(1, 0, (1, 4), D.float64))], [x, out])
    np.testing.assert_array_equal(out, x.T)


def test_a_nest_reads_before_it_writes():
    x = np.arange(6.0)
    execute([Nest("map", (5,), 1, load(0, D.float64, 1), Access(0, 1, (1,), D.float64))], [x])
    assert x.tolist() == [0, 0, 1, 2, 3, 4]


def test_guards_fill_what_lies_outside():
    x = np.arange(4, dtype=np.float32)
    i = ir.axis(0) - 2
    guard = (ir.const(0, D.int64) <= i) & (i < 4)
    padded = load(0, D.float32, 1, offset=-2, args=(ir.const(0, D.int64), guard), fill=-5.0)
    assert mapped(padded, (8,), [x]).tolist() == [-5, -5, 0, 1, 2, 3, -5, -5]
    nothing = np.zeros(0, np.float32)
    never = ir.axis(0) < 0
    assert mapped(load(0, D.float32, 1, args=(ir.const(0, D.int64), never), fill=2.0), (2,), [nothing]).tolist() == [2, 2]
    half = stored(np.arange(4.0), D.bfloat16)
    assert mapped(load(0, D.bfloat16, 1, offset=-2, args=(ir.const(0, D.int64), guard), fill=0.1), (3,), [half]).tolist() == [
        float(np.float32(0.10009765625)), float(np.float32(0.10009765625)), 0]


def test_indirect_loads():
    table = np.arange(12.0).reshape(4, 3)
    index = np.array([3, 0, 3])
    row = ir.checked(load(1, D.int64, 1, 0), 4, "m")
    np.testing.assert_array_equal(mapped(load(0, D.float64, 0, 1, args=(row * 3,)), (3, 3), [table, index]), table[index])


def test_failed_checks_are_collected_and_nothing_crashes():
    table, index, out = np.arange(4.0), np.array([1, 9, -1]), np.zeros(3)
    at = ir.checked(load(1, D.int64, 1), 4, "IndexError|index {index} of {size}")
    gather = Nest("map", (3,), 1, load(0, D.float64, 0, args=(at,)), Access(2, 0, (1,), D.float64), origin=5)
    assert execute([gather], [table, index, out]) == [("IndexError|index {index} of {size}", 9, 4, 5)]
    assert out.tolist() == [1, 0, 0]
    # index 0 does not exist either
    at = ir.checked(load(1, D.int64, 1), 0, "empty")
    nest = Nest("map", (3,), 1, load(0, D.float64, 0, args=(at,)), Access(2, 0, (1,), D.float64), origin=6)
    assert execute([nest], [np.zeros(0), index, out]) == [("empty", 1, 0, 6)]


def test_leaving_a_buffer_is_an_error():
    for nest in (
        Nest("map", (5,), 1, load(0, D.float64, 1), Access(1, 0, (1,), D.float64)),
        Nest("map", (4,), 1, load(0, D.float64, 1, offset=-1), Access(1, 0, (1,), D.float64)),
        Nest("map", (1,), 1, load(0, D.float64, 0, args=(ir.axis(0) + 4,)), Access(1, 0, (1,), D.float64)),
        Nest("map", (4,), 1, load(0, D.float64, 1), Access(1, 3, (1,), D.float64)),
    ):
        with pytest.raises(RuntimeError, match="internal error"):
            execute([nest], [np.zeros(4), np.zeros(6)])


# ------------------------------------------------------------------ reductions, scans, scatters


@pytest.mark.parametrize(("combine", "f"), [("sum", np.sum), ("prod", np.prod), ("max", np.max), ("min", np.min)])
@pytest.mark.parametrize("block", [1 << 24, 7])
def test_reductions(combine, f, block, monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", block)
    x = np.random.default_rng(2).integers(-9, 9, (3, 5, 4)).astype(np.float32)
    np.testing.assert_array_equal(reduced(load(0, D.float32, 20, 4, 1), (3, 5, 4), 1, combine, [x]), f(x, (1, 2)))
    np.testing.assert_array_equal(reduced(load(0, D.float32, 4, 20, 1), (5, 3, 4), 1, combine, [x]), f(x, (0, 2)))
    np.testing.assert_array_equal(reduced(load(0, D.float32, 4, 1, 20), (5, 4, 3), 0, combine, [x]), f(x))
    # a value that does not depend on a reduced axis counts once for each position
    np.testing.assert_array_equal(reduced(load(0, D.float32, 1, 0), (4, 3), 1, "sum", [x]), x[0, 0] * 3)


def test_reductions_propagate_nan_and_wrap():
    x = np.array([[1, NAN, 2], [3, 4, 5]])
    assert math.isnan(reduced(load(0, D.float64, 3, 1), (2, 3), 1, "max", [x])[0])
    assert reduced(load(0, D.int8, 1), (3,), 0, "sum", [np.array([100, 100, 100], np.int8)]) == 44
    b = np.array([[True, False], [False, False], [True, True]])
    assert reduced(load(0, D.bool_, 2, 1), (3, 2), 1, "any", [b]).tolist() == [True, False, True]
    assert reduced(load(0, D.bool_, 2, 1), (3, 2), 1, "all", [b]).tolist() == [False, False, True]


def test_empty_reductions_give_identities():
    nothing = {d: np.zeros(0, reference.storage(d)) for d in (D.float32, D.int32, D.bool_)}

    def empty(combine, d):
        return reduced(load(0, d, 0, 1), (2, 0), 1, combine, [nothing[d]]).tolist()

    assert empty("sum", D.float32) == [0, 0] and empty("prod", D.int32) == [1, 1]
    assert empty("max", D.float32) == [-INF, -INF] and empty("min", D.int32) == [2**31 - 1] * 2
    assert empty("any", D.bool_) == [False, False] and empty("all", D.bool_) == [True, True]
    assert reduced(load(0, D.float32, 0, 1), (0, 3), 1, "sum", [nothing[D.float32]]).shape == (0,)


def test_finish_and_summation_accuracy():
    n = 1 << 20
    x = np.full(n, 0.1, np.float32)
    mean = reduced(load(0, D.float32, 0, 1), (1, n), 1, "sum", [x], ir.acc(D.float32) / float(n))
    assert abs(mean[0] - 0.1) < 3e-8            # added one after the other it would be wrong in the third digit
    bias = np.array([10.0, 20.0], np.float32)
    v = np.arange(6, dtype=np.float32)
    finish = (ir.acc(D.float32) + load(1, D.float32, 1, 0)).cast(D.float64)
    assert reduced(load(0, D.float32, 3, 1), (2, 3), 1, "sum", [v, bias], finish).tolist() == [13, 32]


@pytest.mark.parametrize("block", [1 << 24, 50])
@pytest.mark.parametrize(("formula", "value", "sizes", "kept"), [
    ("ik,kj->ij", (load(0, D.float64, 6, 0, 1) * load(1, D.float64, 0, 1, 5)), (4, 5, 6), 2),
    ("bik,bkj->bij", (load(0, D.float64, 24, 6, 0, 1) * load(1, D.float64, 30, 0, 1, 5)), (3, 4, 5, 6), 3),
    ("bik,kj->jbi", (load(0, D.float64, 0, 24, 6, 1) * load(1, D.float64, 1, 0, 0, 5)), (5, 3, 4, 6), 3),
    ("ikl,jlk->ij", (load(0, D.float64, 12, 0, 4, 1) * load(1, D.float64, 0, 12, 1, 3)), (4, 5, 3, 4), 2),
    ("ik,k->i", (load(0, D.float64, 6, 1) * load(1, D.float64, 0, 1)), (4, 6), 1),
])
def test_contractions(formula, value, sizes, kept, block, monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", block)
    shapes = [{"ik": (4, 6), "kj": (6, 5), "bik": (3, 4, 6), "bkj": (3, 6, 5), "ikl": (4, 3, 4), "jlk": (5, 4, 3), "k": (6,)}[s]
              for s in formula.split("->")[0].split(",")]
    a, b = [np.random.default_rng(3).standard_normal(s) for s in shapes]
    np.testing.assert_allclose(reduced(value, sizes, kept, "sum", [a, b]), np.einsum(formula, a, b), rtol=1e-12)


def test_a_large_product_does_not_need_its_space():
    a, b = np.random.default_rng(4).standard_normal((2, 700, 700)).astype(np.float32)
    value = load(0, D.float32, 700, 0, 1) * load(1, D.float32, 0, 1, 700)
    got = reduced(value, (700, 700, 700), 2, "sum", [a, b])
    np.testing.assert_allclose(got, a.astype(np.float64) @ b, atol=1e-3)


def test_convolution_is_a_contraction():
    x, w = np.random.default_rng(5).standard_normal((2, 3, 6)), np.random.default_rng(6).standard_normal((4, 3, 3))
    place = ir.axis(2) + ir.axis(4) - 1         # n, o, i | c, k with a padding of 1
    guard = (ir.const(0, D.int64) <= place) & (place < 6)
    value = load(0, D.float64, 18, 0, 1, 6, 1, offset=-1, args=(ir.const(0, D.int64), guard), fill=0.0) * load(1, D.float64, 0, 9, 0, 3, 1)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    wanted = sum(np.einsum("nci,oc->noi", padded[:, :, k:k + 6], w[:, :, k]) for k in range(3))
    np.testing.assert_allclose(reduced(value, (2, 4, 6, 3, 3), 3, "sum", [x, w]), wanted, rtol=1e-12)


@pytest.mark.parametrize("block", [1 << 24, 4])
def test_scans(block, monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", block)
    x = np.random.default_rng(7).integers(-5, 5, (3, 4)).astype(np.int32)
    for combine, f in (("sum", np.cumsum), ("prod", np.cumprod), ("max", np.maximum.accumulate)):
        out = np.zeros((3, 4), np.int64)
        nest = Nest("scan", (3, 4), 1, load(0, D.int32, 4, 1), Access(1, 0, (4, 1), D.int64), combine, ir.acc(D.int32).cast(D.int64))
        execute([nest], [x, out])
        np.testing.assert_array_equal(out, f(x, axis=1))


@pytest.mark.parametrize("block", [1 << 24, 3])
def test_scatters_are_in_order(block, monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", block)
    index, v = np.array([2, 0, 2, 2, 1]), np.array([1.0, 2, 3, 4, 5])
    target = ir.checked(load(0, D.int64, 1), 3, "m")

    def scatter(combine, start, guard=None):
        out = np.array(start, np.float64)
        nest = Nest("scatter", (5,), 1, load(1, D.float64, 1), Access(2, 0, (0,), D.float64), combine, target=target, guard=guard)
        assert execute([nest], [index, v, out]) == []
        return out.tolist()

    assert scatter("", [9, 9, 9]) == [2, 5, 4]
    assert scatter("sum", [1, 1, 1]) == [3, 6, 9]
    assert scatter("prod", [1, 1, 2]) == [2, 5, 24]
    assert scatter("max", [3, 3, NAN])[:2] == [3, 5]
    assert scatter("", [9, 9, 9], load(1, D.float64, 1) < 3.5) == [2, 9, 3]


def test_scatter_rounds_16_bit_floats_after_each_addition():
    # 256 + 1 is 256 in bfloat16, however often; on a fresh position ones add up
    out = stored(np.array([256.0, 0.0]), D.bfloat16)
    index = np.array([0, 1, 0, 1, 0])
    nest = Nest("scatter", (5,), 1, ir.const(1.0, D.float32), Access(1, 0, (0,), D.bfloat16), "sum", target=load(0, D.int64, 1))
    execute([nest], [index, out])
    assert reference.decode(out, D.bfloat16).tolist() == [256, 2]


# ------------------------------------------------------------------ programs


def test_steps_share_temporaries():
    x, out = np.arange(5.0), np.zeros(5)
    steps = [
        Nest("map", (5,), 1, load(0, D.float64, 1) + 1.0, Access(2, 0, (1,), D.float64)),
        Nest("reduce", (5,), 0, load(2, D.float64, 1), Access(3, 0, (0,), D.float64), "sum"),
        Nest("map", (5,), 1, load(2, D.float64, 1) / load(3, D.float64, 0), Access(1, 0, (1,), D.float64)),
    ]
    assert execute(steps, [x, out], temporaries=(40, 8)) == []
    np.testing.assert_allclose(out, (x + 1) / (x + 1).sum())


def test_host_steps_see_views():
    x, out = np.arange(6.0).reshape(2, 3), np.zeros((3, 2))

    def run(inputs, outputs, scalars, *, sign):
        outputs[0][...] = sign * np.sort(inputs[0], axis=0)[::-1] * scalars[0]

    step = Host(run, ((Access(0, 0, (1, 3), D.float64), (3, 2)),), ((Access(1, 0, (2, 1), D.float64), (3, 2)),), (1,), "sort", {"sign": -1})
    assert execute([step], [x, out], scalars=(0, 2.0)) == []
    np.testing.assert_array_equal(out, -2 * x.T[::-1])


def test_blocks_cover_a_space_once_and_in_order(monkeypatch):
    monkeypatch.setattr(reference, "BLOCK", 10)
    seen = np.zeros((3, 5, 7), int)
    last = -1
    for start, sizes in reference._blocks((3, 5, 7), math.prod, 3):
        assert math.prod(sizes) <= 10
        part = np.arange(105).reshape(3, 5, 7)[reference._region(start, sizes)]
        assert part.min() > last
        last = part.max()
        seen[reference._region(start, sizes)] += 1
    assert (seen == 1).all()
    x = np.arange(63.0).reshape(9, 7)
    np.testing.assert_array_equal(mapped(E.sqrt(load(0, D.float64, 7, 1)), (9, 7), [x]), np.sqrt(x))
