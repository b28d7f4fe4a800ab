"""The mathematical functions as machine code: their stated bounds on dense samples, and every special value.

The reference for float32 is NumPy's float64 (correct far below one unit in the last place of float32), for float64 mpmath.
"""

from __future__ import annotations

import math
import zlib

import mpmath
import numpy as np
import pytest
from expression_kernel import evaluate, inputs, launch, text

from flambeau.core.dtype import dtype, float32, float64
from flambeau.ir.expression import FLOAT_MATH, E, const, walk
from flambeau.render.vector_math import BOUNDS, lower
from flambeau.runtime import cpu, pool

NUMPY = {float32: np.float32, float64: np.float64}
INF, NAN = math.inf, math.nan


def _gamma_log(x):
    return mpmath.log(abs(mpmath.gamma(x))) if abs(x) < 1e5 else mpmath.loggamma(x)


EXACT = {
    "exp": mpmath.exp, "exp2": lambda x: mpmath.power(2, x), "expm1": mpmath.expm1, "log": mpmath.log, "log2": lambda x: mpmath.log(x, 2),
    "log10": mpmath.log10, "log1p": mpmath.log1p, "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "asin": mpmath.asin,
    "acos": mpmath.acos, "atan": mpmath.atan, "sinh": mpmath.sinh, "cosh": mpmath.cosh, "tanh": mpmath.tanh, "asinh": mpmath.asinh,
    "acosh": mpmath.acosh, "atanh": mpmath.atanh, "erf": mpmath.erf, "erfc": mpmath.erfc, "erfinv": mpmath.erfinv, "lgamma": _gamma_log,
    "digamma": mpmath.digamma, "rsqrt": lambda x: 1 / mpmath.sqrt(x), "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "pow": mpmath.power, "atan2": mpmath.atan2, "hypot": mpmath.hypot,
}
NUMPY_NAMES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh",
               "pow": "power", "atan2": "arctan2"}
BINARY = ("pow", "atan2", "hypot")
UNARY = sorted(FLOAT_MATH - set(BINARY))
# where each function is defined and finite
DOMAIN = {
    "exp": (-745, 709), "exp2": (-1074, 1023), "expm1": (-60, 709), "log": (0, INF), "log2": (0, INF), "log10": (0, INF),
    "log1p": (-1, INF), "asin": (-1, 1), "acos": (-1, 1), "sinh": (-710, 710), "cosh": (-710, 710), "acosh": (1, INF), "atanh": (-1, 1),
    "erfc": (-6, 27), "erfinv": (-1, 1), "lgamma": (-30, 1e30), "digamma": (-30, 1e30), "rsqrt": (0, INF), "sigmoid": (-740, 60),
    "erf": (-7, 7), "tanh": (-25, 25),
}


def samples(name: str, kind: type, n: int) -> np.ndarray:
    """Numbers all over a function's domain, of which many lie where errors are largest."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    low, high = DOMAIN.get(name, (-INF, INF))
    tiny = np.log(np.finfo(kind).smallest_subnormal)
    top = np.log(np.finfo(kind).max)
    spread = np.exp(rng.uniform(tiny, top * 0.999, n))
    x = np.concatenate([
        spread, -spread, rng.uniform(-1, 1, n), rng.uniform(-8, 8, n), rng.uniform(-100, 100, n), 1 + rng.normal(size=n) * 1e-3,
        rng.uniform(max(low, -750), min(high, 750), n), 1 - np.exp(rng.uniform(-16 if kind is np.float32 else -36, 0, n)),
    ]).astype(kind)
    return x[(x > low) & (x < high) & (x != 0)]


def units(got: np.ndarray, exact: np.ndarray, kind: type, floor: float = 0.0) -> np.ndarray:
    """Distance in units in the last place of ``kind``."""
    size = np.maximum(np.abs(exact).astype(kind), kind(floor))
    return np.abs(got.astype(np.float64) - exact) / np.spacing(np.minimum(size, np.finfo(kind).max)).astype(np.float64)


def exactly(name: str, *arguments: np.ndarray) -> list[mpmath.mpf]:
    with mpmath.workdps(45):
        found = []
        for values in zip(*arguments, strict=True):
            y = EXACT[name](*(mpmath.mpf(float(v)) for v in values))
            found.append(mpmath.re(y))
        return found


def distance(got: np.ndarray, exact: list[mpmath.mpf], kind: type, floor: float) -> list[float]:
    with mpmath.workdps(45):
        result = []
        for g, t in zip(got, exact, strict=True):
            with np.errstate(over="ignore"):
                nearest = kind(float(t))
            if not np.isfinite(nearest):
                result.append(0.0 if np.isinf(g) else INF)
                continue
            unit = np.spacing(max(abs(nearest), kind(floor)))
            result.append(float(abs(mpmath.mpf(float(g)) - t) / mpmath.mpf(float(unit))))
        return result


@pytest.mark.parametrize("d", [float32, float64], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_unary_bounds(name, d):
    kind = NUMPY[d]
    x = np.unique(samples(name, kind, 60))
    got = evaluate(lower(getattr(E, name)(*inputs(d))), x)
    error = distance(got, exactly(name, x), kind, 1.0 if name in ("lgamma", "digamma") else 0.0)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name][d is float64], (name, x[worst], got[worst])


@pytest.mark.parametrize("name", [n for n in UNARY if hasattr(np, NUMPY_NAMES.get(n, n))])
def test_float32_bounds_on_dense_samples(name):
    x = samples(name, np.float32, 60_000)
    got = evaluate(lower(getattr(E, name)(*inputs(float32))), x, width=16)
    with np.errstate(all="ignore"):
        exact = getattr(np, NUMPY_NAMES.get(name, name))(x.astype(np.float64))
        inside = np.abs(exact) < float(np.finfo(np.float32).max)
        error = np.where(inside, units(got, exact, np.float32), np.where(np.isinf(got), 0, INF))
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name][0] + 1e-3, (x[worst], got[worst], exact[worst])


@pytest.mark.parametrize("d", [float32, float64], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_binary_bounds(name, d):
    kind, n = NUMPY[d], 300
    rng = np.random.default_rng(7)
    x = (rng.normal(size=n) * np.exp(rng.uniform(-30, 30, n))).astype(kind)
    y = (x * rng.uniform(-4, 4, n)).astype(kind)
    if name == "pow":
        x = np.concatenate([np.abs(x), (1 + rng.normal(size=n) * 1e-3).astype(kind), rng.uniform(0.01, 3, n).astype(kind)])
        limit = 80 if kind is np.float32 else 700
        y = np.clip(np.concatenate([rng.uniform(-10, 10, n), rng.normal(size=n) * 1e4, rng.normal(size=n) * 100]),
                    -limit / np.abs(np.log(x)), limit / np.abs(np.log(x))).astype(kind)
    got = evaluate(lower(getattr(E, name)(*inputs(d, d))), x, y)
    error = distance(got, exactly(name, x, y), kind, 0.0)
    worst = int(np.argmax(error))
    assert error[worst] <= BOUNDS[name][d is float64], (x[worst], y[worst], got[worst])


SPECIAL = {     # (argument, result); both zeros are told apart
    "exp": [(-INF, 0.0), (INF, INF), (0.0, 1.0), (-0.0, 1.0), (1e4, INF), (-1e4, 0.0)],
    "exp2": [(-INF, 0.0), (INF, INF), (0.0, 1.0), (3.0, 8.0), (-2.0, 0.25), (1e5, INF), (-1e5, 0.0)],
    "expm1": [(-INF, -1.0), (INF, INF), (0.0, 0.0), (-0.0, -0.0), (-1e4, -1.0), (1e4, INF), (1e-40, 1e-40)],
    "log": [(0.0, -INF), (-0.0, -INF), (INF, INF), (-1.0, NAN), (-INF, NAN), (1.0, 0.0)],
    "log2": [(0.0, -INF), (INF, INF), (-1.0, NAN), (1.0, 0.0), (8.0, 3.0), (0.25, -2.0), (2.0**-126, -126.0)],
    "log10": [(0.0, -INF), (INF, INF), (-1.0, NAN), (1.0, 0.0), (1000.0, 3.0), (10.0, 1.0)],
    "log1p": [(-1.0, -INF), (INF, INF), (-1.5, NAN), (-INF, NAN), (0.0, 0.0), (-0.0, -0.0), (1e-40, 1e-40)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-40, 1e-40)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (1e-40, 1e-40)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (1.5, NAN), (-1.5, NAN), (INF, NAN), (1.0, math.pi / 2), (-1.0, -math.pi / 2)],
    "acos": [(1.0, 0.0), (-1.0, math.pi), (0.0, math.pi / 2), (-0.0, math.pi / 2), (1.5, NAN), (-INF, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2), (1e-40, 1e-40)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e4, INF), (1e-40, 1e-40)],
    "cosh": [(0.0, 1.0), (INF, INF), (-INF, INF), (-1e4, INF)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (1e4, 1.0), (1e-40, 1e-40)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF), (1e-40, 1e-40)],
    "acosh": [(1.0, 0.0), (INF, INF), (0.5, NAN), (-INF, NAN), (-1e30, NAN)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-INF, NAN), (1e-40, 1e-40)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (10.0, 1.0)],
    "erfc": [(0.0, 1.0), (INF, 0.0), (-INF, 2.0), (50.0, 0.0), (-50.0, 2.0)],
    "erfinv": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-INF, NAN)],
    "lgamma": [(0.0, INF), (-0.0, INF), (-1.0, INF), (-7.0, INF), (INF, INF), (-INF, INF), (1.0, 0.0), (2.0, 0.0), (3.0, math.log(2.0))],
    "digamma": [(0.0, -INF), (-0.0, INF), (-1.0, NAN), (-7.0, NAN), (INF, INF), (-INF, NAN)],
    "rsqrt": [(0.0, INF), (-0.0, -INF), (INF, 0.0), (-1.0, NAN), (4.0, 0.5)],
    "sigmoid": [(0.0, 0.5), (INF, 1.0), (-INF, 0.0), (1e4, 1.0), (-1e4, 0.0)],
}


@pytest.mark.parametrize("d", [float32, float64], ids=str)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name, d):
    kind = NUMPY[d]
    x, expected = np.array([*SPECIAL[name], (NAN, NAN)], kind).T.copy()
    got = evaluate(lower(getattr(E, name)(*inputs(d))), x)
    np.testing.assert_allclose(got, expected, rtol=4e-7 if kind is np.float32 else 1e-15, atol=0)
    signs = ~np.isnan(expected)
    assert (np.signbit(got) == np.signbit(expected))[signs].all(), list(zip(x, got, strict=True))


@pytest.mark.parametrize("d", [float32, float64], ids=str)
@pytest.mark.parametrize("name", BINARY)
def test_special_pairs(name, d):
    kind = NUMPY[d]
    values = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 2.5, -2.5, INF, -INF, NAN, 1e30, -1e30, 1e-30, 1e-44, 7.0, -7.0]
    if d is float64:
        values += [1e300, -1e300, 1e-300, 1e-310]
    x, y = (a.ravel().astype(kind) for a in np.meshgrid(values, values))
    got = evaluate(lower(getattr(E, name)(*inputs(d, d))), x, y)
    with np.errstate(all="ignore"):
        expected = getattr(np, NUMPY_NAMES.get(name, name))(x, y)
    np.testing.assert_allclose(got, expected, rtol=3e-7 if kind is np.float32 else 1e-15, atol=float(np.finfo(kind).smallest_subnormal))
    real = ~np.isnan(expected)
    assert (np.signbit(got) == np.signbit(expected))[real].all()


@pytest.mark.parametrize("power, same", [(2.0, lambda x: x * x), (3.0, lambda x: x * x * x), (0.5, np.sqrt), (-1.0, lambda x: 1 / x)])
def test_common_powers_are_products(power, same):
    x = np.random.default_rng(0).uniform(0.1, 9, 1000).astype(np.float32)
    leaf, = inputs(float32)
    e = lower(E.pow(leaf, const(power, float32)))
    assert len(walk(e)) <= 4
    assert (evaluate(e, x) == same(x)).all()


@pytest.mark.parametrize("d", [float32, float64], ids=str)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_huge_angles(name, d):
    """Every exponent, and numbers that lie extremely close to a multiple of pi/2."""
    kind = NUMPY[d]
    top = 128 if d is float32 else 1024
    rng = np.random.default_rng(3)
    x = np.ldexp(rng.uniform(0.5, 1, 2 * (top - 14)), np.repeat(np.arange(15, top + 1), 2))
    worst = [16367173.0 * 2.0**72, 13208225.0 * 2.0**60] if d is float32 else [6381956970095103.0 * 2.0**797, 5419351.0, 2.0**1000]
    x = np.concatenate([x, -x[::3], worst]).astype(kind)
    got = evaluate(lower(getattr(E, name)(*inputs(d))), x)
    with mpmath.workdps(400):
        exact = [EXACT[name](mpmath.mpf(float(v))) for v in x]
    error = distance(got, exact, kind, 0.0)
    i = int(np.argmax(error))
    assert error[i] <= BOUNDS[name][d is float64], (x[i], got[i])


def test_a_kernel_writes_its_result_only_whoever_runs_it():
    """The kernels of these tests write whole vectors; where workers ran, the last one once began within the result and ended past it."""
    before = pool.threads()
    pool.resize(2)
    pool.start()
    try:
        x, = inputs(float32)
        address, = cpu.load([text(x + x, [float32])])
        for _ in range(20):
            given, memory = np.arange(80, dtype=np.float32), np.full(80, 7, np.float32)
            launch(address, [given], memory[:64])
            assert (memory[:64] == 2 * given[:64]).all() and (memory[64:] == 7).all()
    finally:
        pool.resize(before)


def test_results_stay_in_range_and_monotone():
    x = np.sort(np.random.default_rng(0).normal(size=200_000).astype(np.float32) * 6)
    for name, low, high in (("tanh", -1, 1), ("sigmoid", 0, 1), ("erf", -1, 1)):
        y = evaluate(lower(getattr(E, name)(*inputs(float32))), x, width=16)
        assert y.min() >= low and y.max() <= high, name
        assert (np.diff(y.astype(np.float64)) >= -3 * np.spacing(np.abs(y[1:]))).all(), name


def test_lowering_reaches_below_other_nodes_and_only_those_types():
    x, y = inputs(float32, float64)
    e = lower(E.exp(E.sin(x) + 1.0).cast(float64) * E.log(y))
    assert not {n.op for n in walk(e)} & FLOAT_MATH
    assert lower(x * x + 1.0) is x * x + 1.0
    assert lower(e) is e
    integer: dtype = walk(E.floor(x).cast(inputs(float64)[0].dtype))[0].dtype
    assert integer is float32
    with pytest.raises(TypeError, match="float32 and float64"):
        lower(E.exp(const(1, dtype_of_int())))


def dtype_of_int() -> dtype:
    from flambeau.core.dtype import int64

    return int64


def test_powers_that_are_numbers_are_exact():
    """An integer to the power of an integer, where float64 holds the result."""
    pairs = [(float(x), float(y)) for x in range(1, 40) for y in range(12) if float(x) ** y < 2**53]
    x, y = (np.array(column) for column in zip(*pairs, strict=True))
    got = evaluate(lower(E.pow(*inputs(float64, float64))), x, y)
    assert [p for p, z in zip(pairs, got.tolist(), strict=True) if z != p[0] ** p[1]] == []
