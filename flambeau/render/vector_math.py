"""Mathematical functions as arithmetic.

:func:`lower` rewrites every node of ``FLOAT_MATH`` (``exp``, ``sin``, ``erf`` ...) in an expression into additions, fused
multiplications, shifts and selections, which every renderer turns into vector code of any width: no vector library of
functions is assumed.  It stands between the schedule's expressions and the renderers.

Each function reduces its argument to a short interval and evaluates a polynomial there.  Polynomials are minimax fits (Remez's
exchange; for float32 the coefficients are rounded one by one and the rest refitted), written from the lowest power up.
The error bounds, in units in the last place, are in :data:`BOUNDS`; NaN, infinities, signed zeros and subnormal numbers are
right everywhere.  The functions of float32 that are not often hot are computed in float64 and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ..core.dtype import dtype
from ..ir.expression import FLOAT_MATH, E, Expr, binary, bitcast, const, float32, float64, fma, int32, int64, make, walk, where

# The largest error in units in the last place: (float32, float64).  ``lgamma`` and ``digamma``: in those of max(1, |result|).
BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (0.95, 1.1), "exp2": (0.9, 0.95), "expm1": (1.5, 1.9), "log": (0.95, 0.85), "log2": (1.1, 0.75), "log10": (0.95, 0.75),
    "log1p": (1.55, 0.85), "sin": (1.65, 1.0), "cos": (1.65, 1.0), "tan": (0.51, 2.4), "asin": (0.51, 1.2), "acos": (0.51, 0.85),
    "atan": (0.51, 1.9), "sinh": (0.51, 1.7), "cosh": (0.51, 1.6), "tanh": (2.4, 1.5), "asinh": (0.55, 1.8), "acosh": (0.55, 2.7),
    "atanh": (0.55, 1.6), "erf": (1.15, 1.1), "erfc": (0.6, 3.0), "erfinv": (0.6, 2.7), "lgamma": (0.55, 4.0), "digamma": (0.55, 14.0),
    "rsqrt": (1.5, 1.5), "sigmoid": (2.4, 2.4), "pow": (0.6, 1.5), "atan2": (0.51, 1.7), "hypot": (0.51, 1.2),
}

INF, NAN = math.inf, math.nan


# ---------------------------------------------------------------- the two formats

class Format(NamedTuple):
    """What the bit manipulation must know of a floating-point type."""

    kind: dtype
    word: dtype             # the integer of the same width
    mantissa: int           # stored bits
    bias: int
    ln2: tuple[float, float]        # high part (short enough that small multiples are exact) and the rest
    smallest: float         # smallest normal number

    @property
    def magic(self) -> float:
        """Added to a small number, it leaves the nearest integer in the low bits."""
        return 1.5 * 2.0**self.mantissa

    def integer(self, value: int) -> Expr:
        """``value`` wrapped to this width, as a constant."""
        width = 8 * self.word.itemsize
        return const((value + (1 << width - 1)) % (1 << width) - (1 << width - 1), self.word)


F32 = Format(float32, int32, 23, 127, (0.6931471824645996, -1.9046542121259336e-09), 2.0**-126)
F64 = Format(float64, int64, 52, 1023, (0.6931471805598903, 5.497923018708371e-14), 2.0**-1022)


def _format(x: Expr) -> Format:
    if x.dtype is float32:
        return F32
    if x.dtype is float64:
        return F64
    raise TypeError(f"mathematical functions are lowered for float32 and float64, got {x.dtype}")


def _polynomial(coefficients: Sequence[float], x: Expr) -> Expr:
    """Horner's rule."""
    result = const(coefficients[-1], x.dtype)
    for c in reversed(coefficients[:-1]):
        result = fma(result, x, const(c, x.dtype))
    return result


def _at_most(x: Expr, bound: float) -> Expr:
    """The smaller of both; NaN stays (one instruction on x86, where ``minimum`` takes several)."""
    return where(const(bound, x.dtype) < x, bound, x)


def _at_least(x: Expr, bound: float) -> Expr:
    return where(x < bound, bound, x)


def _nearest_integer(x: Expr, factor: float) -> tuple[Expr, Expr]:
    """``round(x * factor)`` as a number, and as integer bits of which the low half is meaningful."""
    f = _format(x)
    shifted = fma(x, factor, f.magic)
    return shifted - f.magic, bitcast(shifted, f.word)


def _signed(magnitude: Expr, like: Expr) -> Expr:
    return E.copysign(magnitude, like)


def _narrow(x: Expr) -> Expr:
    return x.cast(float32)


def _wide(x: Expr) -> Expr:
    return x.cast(float64)


# ---------------------------------------------------------------- exponentials

EXP = {     # (exp(r) - 1 - r) / r²  for |r| <= ln(2)/2
    F32: (0.5, 0.1666651964187622, 0.041666384786367416, 0.008368848823010921, 0.001394221093505621),
    F64: (
        0.5000000000000013, 0.166666666666667, 0.04166666666651433, 0.00833333333330703, 0.0013888888947330255, 0.0001984126991776899,
        2.4801489591320893e-05, 2.755721594949914e-06, 2.7631413581963676e-07, 2.5117974536908998e-08,
    ),
}
EXPM1 = {   # the same, with an error relative to r
    F32: (0.5, 0.1666666716337204, 0.04166648909449577, 0.008333208039402962, 0.0013932707952335477, 0.00019944258383475244),
    F64: (
        0.5, 0.16666666666666677, 0.0416666666666667, 0.008333333333321532, 0.001388888888886665, 0.0001984126988640079,
        2.480158736092484e-05, 2.755724391200038e-06, 2.755724244124321e-07, 2.510914726821686e-08, 2.0924542989263567e-09,
    ),
}
EXP2 = {    # (2^r - 1) / r  for |r| <= 1/2
    F32: (
        0.6931471824645996, 0.24022650718688965, 0.05550405755639076, 0.009618088603019714, 0.0013337023556232452,
        0.00015451398212462664, 1.4588148587790783e-05,
    ),
    F64: (
        0.6931471805599453, 0.24022650695910072, 0.05550410866482158, 0.009618129107628487, 0.0013333558146428458,
        0.00015403530393354168, 1.5252733804032872e-05, 1.3215486822937559e-06, 1.0178086034169244e-07, 7.05489184408746e-09,
        4.445525950508414e-10, 2.5737032292656215e-11, 1.3722529900000444e-12,
    ),
}
EXP2_SHORT = (      # 2^r  for |r| <= 1/2, to 2^-34
    0.9999999999179516, 0.6931472070232289, 0.2402265151317258, 0.05550326544360367, 0.009617993569520525, 0.001340070013957631,
    0.0001547829165665797,
)
EXP_RANGE = {F32: (-104.0, 88.8), F64: (-746.0, 709.9)}     # below: 0, above: infinity


def _power_of_two(bits: Expr, plus: int = 0) -> Expr:
    """``2 ** (n + plus)``, which must be a normal number, from the bits of :func:`_nearest_integer`."""
    f = F32 if bits.dtype is int32 else F64
    return bitcast((bits << f.mantissa) + f.integer((f.bias + plus) << f.mantissa), f.kind)


def _scaled(y: Expr, n: Expr, bits: Expr, plus: int = 0) -> Expr:
    """``y * 2 ** (n + plus)`` where that may overflow or be subnormal: in two steps, rounded once."""
    f = _format(y)
    up = 64 if f is F32 else 128
    negative = n < 0.0
    bias = where(negative, f.integer((f.bias + plus + up) << f.mantissa), f.integer((f.bias + plus - 1) << f.mantissa))
    return y * bitcast((bits << f.mantissa) + bias, f.kind) * where(negative, const(2.0**-up, f.kind), const(2.0, f.kind))


def _reduced_exp(x: Expr) -> tuple[Expr, Expr, Expr]:
    """n, its bits and r such that ``x = n ln(2) + r``."""
    f = _format(x)
    n, bits = _nearest_integer(x, 1 / math.log(2))
    return n, bits, fma(n, -f.ln2[1], fma(n, -f.ln2[0], x))


def _exp_near_zero(r: Expr, low: Expr | None = None) -> Expr:
    """``exp(r + low)`` for |r| <= ln(2)/2 and tiny ``low``."""
    f = _format(r)
    q = _polynomial(EXP[f], r)
    y = fma(fma(q, r, 1.0), r, 1.0) if f is F32 else fma(q, r * r, r) + 1.0
    if low is None:
        return y
    if f is F32:
        return fma(y, low, y)
    # what 1 + r is rounded by is added with the small terms, so that a result which is a float64 is that number
    high, rest = _fast_two_sum(const(1.0, f.kind), r)
    return high + (rest + fma(q, r * r, y * low))


def exp(x: Expr) -> Expr:
    f = _format(x)
    low, high = EXP_RANGE[f]
    gone = x < low
    n, bits, r = _reduced_exp(where(gone, 0.0, _at_most(x, high)))
    return where(gone, 0.0, _scaled(_exp_near_zero(r), n, bits))


def _exp_of_negative(x: Expr, low: Expr | None = None) -> Expr:
    """``exp(x + low)`` for x <= 0: with a range on one side only, the scale needs no case distinction."""
    f = _format(x)
    gone = x < EXP_RANGE[f][0]
    _, bits, r = _reduced_exp(where(gone, 0.0, x))
    up = 64 if f is F32 else 128
    return where(gone, 0.0, _exp_near_zero(r, low) * _power_of_two(bits, up) * 2.0**-up)


def exp2(x: Expr) -> Expr:
    f = _format(x)
    gone = x < -f.bias - f.mantissa - 2.0
    t = where(gone, 0.0, _at_most(x, f.bias + 2.0))
    n, bits = _nearest_integer(t, 1.0)
    r = t - n
    return where(gone, 0.0, _scaled(fma(_polynomial(EXP2[f], r), r, 1.0), n, bits))


def _exp2_short(x: Expr) -> Expr:
    """``2^x`` in float64, for a result in float32."""
    t = _at_least(_at_most(x, 200.0), -200.0)
    n, bits = _nearest_integer(t, 1.0)
    return _polynomial(EXP2_SHORT, t - n) * _power_of_two(bits)


def expm1(x: Expr) -> Expr:
    f = _format(x)
    n, bits, r = _reduced_exp(_at_least(_at_most(x, EXP_RANGE[f][1]), -20.0 if f is F32 else -40.0))
    p = fma(_polynomial(EXPM1[f], r), r * r, r)
    half = _power_of_two(bits, -1)      # 2^n itself may overflow where the result does not
    y = fma(p, half, half - 0.5)
    return _signed(where(n.eq(0.0), p, y + y), x)


def sigmoid(x: Expr) -> Expr:
    e = _exp_of_negative(-E.abs(x))
    return where(x < 0.0, e, 1.0) / (e + 1.0)


# ---------------------------------------------------------------- hyperbolic functions

TANH = (    # (tanh(x)/x - 1) / x²  for |x| <= 0.6
    -0.33333333333333326, 0.1333333333333182, -0.05396825396724464, 0.021869488502343784, -0.008863234865048539, 0.0035921196922519506,
    -0.0014557642836108115, 0.0005896231456156275, -0.00023751562515306779, 9.249527790261917e-05, -3.118538219628564e-05,
    6.506788512154153e-06,
)
SINH = (    # (sinh(x)/x - 1) / x²  for |x| <= 1
    0.16666666666666669, 0.008333333333333137, 0.00019841269841438516, 2.755731915506328e-06, 2.5052123443510155e-08,
    1.6057236734290392e-10, 7.759424661432615e-13,
)


def tanh(x: Expr) -> Expr:
    a = E.abs(x)
    if x.dtype is float32:
        # e / (e + 2) or 1 - 2 / (e + 2), e = expm1(2|x|), whichever loses less
        _, bits, r = _reduced_exp(_at_most(a + a, 20.0))
        p = fma(_polynomial(EXPM1[F32], r), r * r, r)
        scale = _power_of_two(bits)
        large = a > 0.7
        quotient = where(large, -2.0, fma(p, scale, scale - 1.0)) / fma(p, scale, scale + 1.0)
        return _signed(where(large, quotient + 1.0, quotient), x)
    s = a * a
    small = fma(_polynomial(TANH, s), s * a, a)
    t = _at_most(a, 20.0)
    _, bits, r = _reduced_exp(t + t)
    e = _exp_near_zero(r) * _power_of_two(bits)
    return _signed(where(a < 0.6, small, 1.0 - 2.0 / (e + 1.0)), x)


def _half_exp(a: Expr) -> Expr:
    """``exp(a) / 2`` for a >= 0, where exp(a) may overflow."""
    n, bits, r = _reduced_exp(_at_most(a, 711.0))
    return _scaled(_exp_near_zero(r), n, bits, -1)


def _sinh(x: Expr) -> Expr:
    a = E.abs(x)
    s = a * a
    h = _half_exp(a)
    return _signed(where(a < 1.0, fma(_polynomial(SINH, s), s * a, a), h - 0.25 / h), x)


def _cosh(x: Expr) -> Expr:
    h = _half_exp(E.abs(x))
    return h + 0.25 / h


# ---------------------------------------------------------------- logarithms

LOG_32 = (  # (log(1+f) - f + f²/2) / f³  for |f| <= 1/3
    0.33333224058151245, -0.24999688565731049, 0.20010033249855042, -0.16685473918914795, 0.14011076092720032, -0.12115012854337692,
    0.139617457985878, -0.131921648979187,
)
LOG_64 = (  # (2 atanh(s)/s - 2) / s²  for |s| <= 1/5
    0.666666666666666, 0.40000000000060076, 0.28571428555031353, 0.22222224384481812, 0.18181660707278582, 0.15391277886567462,
    0.13170850801498424, 0.13861402903267367,
)
TWO_THIRDS = {F32: 0x3F2AAAAB, F64: 0x3FE5555555555555}     # the bits of 2/3: mantissas are taken from [2/3, 4/3)
LN2 = 0.6931471805599453
LOG2_E = {float32: (1.4426950216293335, 1.925963033500011e-08), float64: (1.4426950408889634, 2.0355273740931033e-17)}
LOG10_E = {float32: (0.4342944920063019, -1.0103049952192578e-08), float64: (0.4342944819032518, 1.098319650216765e-17)}
# the first parts are short: multiples are exact
LOG10_2 = {float32: (0.301025390625, 4.605039066518657e-06), float64: (0.30102999566395283, 2.8363394551044964e-14)}

LOG2_SHORT = (      # log2(1+f)/f  for |f| <= 1/3, to 2^-40: enough for a result in float32
    1.4426950408963617, -0.7213475195698698, 0.4808983413497766, -0.36067397851929583, 0.2885397159117164, -0.24043366510165012,
    0.20606544657069917, -0.1808059693951097, 0.16107392686553038, -0.13746193932080225, 0.12210132694826197, -0.16610257381731308,
    0.16192596828737774,
)


def _split(x: Expr) -> tuple[Expr, Expr]:
    """m in [2/3, 4/3) and the integral e such that ``x = m 2^e``, for positive finite x."""
    f = _format(x)
    up = 2.0 ** (f.mantissa + 2)
    small = x < f.smallest
    bits = bitcast(where(small, x * up, x), f.word)
    e = (bits - f.integer(TWO_THIRDS[f])) >> f.mantissa
    m = bitcast(bits - (e << f.mantissa), f.kind)
    exponent = e.cast(f.kind)
    return m, where(small, exponent - float(f.mantissa + 2), exponent)


def _log_limits(x: Expr, y: Expr) -> Expr:
    """``y = log(x)``, corrected where x is not positive and finite."""
    y = where(x < INF, y, x)            # infinity and NaN
    y = where(x.eq(0.0), -INF, y)
    return where(x < 0.0, NAN, y)


def _log_near_one_32(f: Expr, e: Expr) -> Expr:
    """``log(1 + f) + e ln(2)``."""
    p = fma(_polynomial(LOG_32, f), f, -0.5)
    return fma(e, F32.ln2[0], fma(p, f * f, f))


def _log_near_one(f: Expr) -> tuple[Expr, Expr]:
    """``log(1 + f)`` for f in [-1/3, 1/3] as a sum of two, the second one smaller."""
    if f.dtype is float32:
        return f, fma(_polynomial(LOG_32, f), f, -0.5) * (f * f)
    s = f / (f + 2.0)
    z = s * s
    half_square = f * f * 0.5
    tail = s * fma(_polynomial(LOG_64, z), z, half_square)
    high = f - half_square
    return high, (f - high) - half_square + tail


def log(x: Expr) -> Expr:
    m, e = _split(x)
    if x.dtype is float32:
        y = _log_near_one_32(m - 1.0, e)
    else:
        f = m - 1.0
        s = f / (m + 1.0)
        z = s * s
        h = f * f * 0.5
        tail = fma(e, F64.ln2[1], s * fma(_polynomial(LOG_64, z), z, h))
        y = fma(e, F64.ln2[0], f - (h - tail))
    return _log_limits(x, y)


def _log_in_base(x: Expr, per_e: tuple[float, float], per_two: tuple[float, float]) -> Expr:
    """The logarithm whose value at e is ``per_e`` and at 2 is ``per_two`` (both as two-part constants)."""
    m, e = _split(x)
    high, low = _log_near_one(m - 1.0)
    scaled = high * per_e[0]
    rest = fma(low, per_e[0], fma(high, per_e[1], fma(high, per_e[0], -scaled)))
    whole = e * per_two[0]
    total = whole + scaled
    # what the sum lost: whole is zero or larger than the other
    rest = rest + fma(e, per_two[1], (whole - total) + scaled)
    return _log_limits(x, where(e.eq(0.0), scaled + rest, total + rest))


def log2(x: Expr) -> Expr:
    return _log_in_base(x, LOG2_E[x.dtype], (1.0, 0.0))


def log10(x: Expr) -> Expr:
    return _log_in_base(x, LOG10_E[x.dtype], LOG10_2[x.dtype])


def log1p(x: Expr) -> Expr:
    f = _format(x)
    u = x + 1.0
    e = (bitcast(u, f.word) - f.integer(TWO_THIRDS[f])) >> f.mantissa
    exponent = e.cast(f.kind)
    if f is F32:
        scale = bitcast(f.integer((f.bias + 2) << f.mantissa) - (e << f.mantissa), f.kind)      # 4 / 2^e: normal for every e
        y = _log_near_one_32(fma(x * scale, 0.25, fma(scale, 0.25, -1.0)), exponent)
    else:
        lost = where(u < 2.0, x - (u - 1.0), 1.0 - (u - x)) / u      # log(1+x) = log(u) + (1+x-u)/u
        m = bitcast(bitcast(u, f.word) - (e << f.mantissa), f.kind)
        g = m - 1.0
        s = g / (m + 1.0)
        z = s * s
        h = g * g * 0.5
        tail = fma(exponent, F64.ln2[1], lost) + s * fma(_polynomial(LOG_64, z), z, h)
        y = fma(exponent, F64.ln2[0], g - (h - tail))
    y = where(x < INF, y, x)
    y = where(x.eq(-1.0), -INF, y)
    return _signed(where(x < -1.0, NAN, y), x)


def _log2_short(m: Expr, e: Expr) -> Expr:
    """``log2(m) + e`` in float64, for a result in float32."""
    f = m - 1.0
    return fma(_polynomial(LOG2_SHORT, f), f, e)


def _log_short(x: Expr) -> Expr:
    """``log(x)`` of a positive normal float64, for a result in float32."""
    bits = bitcast(x, int64)
    e = (bits - F64.integer(TWO_THIRDS[F64])) >> 52
    return _log2_short(bitcast(bits - (e << 52), float64), e.cast(float64)) * LN2


def _asinh(x: Expr) -> Expr:
    a = E.abs(x)
    far = a > 2.0**28
    t = where(far, 1.0, a)
    s = t * t
    near = log1p(t + s / (E.sqrt(s + 1.0) + 1.0))
    return _signed(where(far, log(a) + LN2, near), x)


def _asinh_short(x: Expr) -> Expr:
    a = E.abs(x)
    s = a * a
    y = where(a < 2.0**-10, fma(s * a, -1 / 6, a), _log_short(a + E.sqrt(s + 1.0)))
    return _signed(where(a < INF, y, a), x)


def _acosh(x: Expr) -> Expr:
    far = x > 2.0**28
    t = where(far, 1.0, x - 1.0)
    near = log1p(t + E.sqrt(t * (t + 2.0)))
    return where(x < 1.0, NAN, where(far, log(x) + LN2, near))


def _acosh_short(x: Expr) -> Expr:
    y = _log_short(x + E.sqrt(fma(x, x, -1.0)))     # the square is exact
    return where(x < 1.0, NAN, where(x < INF, y, x))


def _atanh(x: Expr) -> Expr:
    a = E.abs(x)
    t = a + a
    return _signed(0.5 * log1p(where(a < 0.5, fma(t, a / (1.0 - a), t), t / (1.0 - a))), x)


def _atanh_short(x: Expr) -> Expr:
    a = E.abs(x)
    y = where(a < 2.0**-10, fma(a * a * a, 1 / 3, a), 0.5 * _log_short((1.0 + a) / (1.0 - a)))
    y = where(a < 1.0, y, where(a.eq(1.0), const(INF, float64), NAN))
    return _signed(where(a.ne(a), a, y), x)


# ---------------------------------------------------------------- powers

POW = (     # (2 atanh(s)/s - 2 - 2/3 s²) / s⁴  for |s| <= 1/5
    0.39999999999999725, 0.28571428571577057, 0.22222222191293017, 0.18181821522128724, 0.15384406834603767, 0.13341139599245325,
    0.11592425839958842, 0.12571050637552006,
)


def _two_product(a: Expr, b: Expr | float) -> tuple[Expr, Expr]:
    p = a * b
    return p, fma(a, b, -p)


def _fast_two_sum(a: Expr, b: Expr) -> tuple[Expr, Expr]:
    """``a + b`` exactly, as two numbers, for |a| >= |b|."""
    s = a + b
    return s, b - (s - a)


def _power_of_magnitude_32(a: Expr, y: Expr) -> Expr:
    m, e = _split(a)
    return _narrow(_exp2_short(_log2_short(_wide(m), _wide(e)) * _wide(y)))


def _power_of_magnitude_64(a: Expr, y: Expr) -> Expr:
    # log(a) as a sum of two numbers, good to about 66 bits: 2 s + 2/3 s³ + ..., s = f / (2 + f)
    m, e = _split(a)
    f = m - 1.0
    d = m + 1.0
    d_low = m - (d - 1.0)
    s = f / d
    s_low = fma(-s, d_low, fma(-s, d, f)) / d
    z, z_low = _two_product(s, s)
    z_low = fma(s + s, s_low, z_low)
    # q = z (2/3 + z P(z))
    p = z * _polynomial(POW, z)
    k, k_low = _fast_two_sum(const(2 / 3, float64), p)
    k_low = k_low + 3.700743415417188e-17
    q, q_low = _two_product(z, k)
    q_low = q_low + fma(z, k_low, z_low * k)
    # log(m) = s (2 + q)
    w, w_low = _fast_two_sum(const(2.0, float64), q)
    w_low = w_low + q_low
    h, low = _two_product(s, w)
    low = low + fma(s, w_low, s_low * w)
    # + e ln(2); the first part of ln(2) times e is exact, and not smaller than log(m) unless e is zero
    whole = e * F64.ln2[0]
    total = whole + h
    low = low + where(e.eq(0.0), 0.0, fma(e, F64.ln2[1], h - (total - whole)))
    high, low = _fast_two_sum(total, low)
    # exp(y log(a))
    t, t_low = _two_product(y, high)
    t_low = fma(y, low, t_low)
    bounded = _at_least(_at_most(t, 710.0), -746.0)
    n, bits, r = _reduced_exp(bounded)
    return _scaled(_exp_near_zero(r, where(bounded.eq(t), t_low, 0.0)), n, bits)


def pow(x: Expr, y: Expr) -> Expr:
    if y.op == "const":
        exact = {
            1.0: lambda: x, 2.0: lambda: x * x, 3.0: lambda: x * x * x, 0.5: lambda: E.sqrt(x), -0.5: lambda: rsqrt(x),
            -1.0: lambda: 1.0 / x, -2.0: lambda: 1.0 / (x * x),
        }.get(y.attr)
        if exact is not None:
            return exact()
    a = E.abs(x)
    z = _power_of_magnitude_32(a, y) if x.dtype is float32 else _power_of_magnitude_64(a, y)
    negative_power = y < 0.0
    zero, infinite = const(0.0, x.dtype), const(INF, x.dtype)
    z = where(a.eq(0.0), where(negative_power, infinite, zero), z)
    z = where(a.eq(INF), where(negative_power, zero, infinite), z)
    # y infinite: decided by whether |x| is below or above one
    z = where(E.abs(y).eq(INF), where((a < 1.0) ^ negative_power, zero, infinite), z)
    z = where(a.eq(1.0), 1.0, z)
    integral = E.trunc(y).eq(y)
    half = y * 0.5
    odd = integral & E.trunc(half).ne(half)
    z = where(odd, _signed(z, x), z)
    z = where((x < 0.0) & (a < INF) & ~integral, NAN, z)
    z = where(x.ne(x) | y.ne(y), NAN, z)
    return where(y.eq(0.0) | x.eq(1.0), 1.0, z)


def rsqrt(x: Expr) -> Expr:
    return 1.0 / E.sqrt(x)


def _hypot_32(x: Expr, y: Expr) -> Expr:
    a, b = _wide(x), _wide(y)
    h = _narrow(E.sqrt(fma(a, a, b * b)))
    return where(E.abs(x).eq(INF) | E.abs(y).eq(INF), INF, h)


def _hypot_64(x: Expr, y: Expr) -> Expr:
    a, b = E.abs(x), E.abs(y)
    large = where(a < b, b, a)
    scale = where(large > 2.0**500, const(2.0**-600, float64), where(large < 2.0**-450, const(2.0**600, float64), const(1.0, float64)))
    back = where(large > 2.0**500, const(2.0**600, float64), where(large < 2.0**-450, const(2.0**-600, float64), const(1.0, float64)))
    a, b = a * scale, b * scale
    h = E.sqrt(fma(a, a, b * b)) * back
    return where(E.abs(x).eq(INF) | E.abs(y).eq(INF), INF, h)


# ---------------------------------------------------------------- trigonometric functions

SIN = {     # (sin(r)/r - 1) / r²  for |r| <= pi/4
    F32: (-0.16666653752326965, 0.008332101628184319, -0.00019506842363625765),
    F64: (
        -0.16666666666666666, 0.008333333333333323, -0.0001984126984125499, 2.755731921414925e-06, -2.505210490062441e-08,
        1.6058365202253001e-10, -7.578625872708692e-13,
    ),
}
COS = {     # (cos(r) - 1 + r²/2) / r⁴
    F32: (0.04166664555668831, -0.0013887302484363317, 2.443088305881247e-05),
    F64: (
        0.0416666666666666, -0.0013888888888873997, 2.4801587289397796e-05, -2.755731432675855e-07, 2.087571964698195e-09,
        -1.1359452811201787e-11,
    ),
}
HALF_PI = {
    F32: (1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    F64: (1.5707963267948966, 6.123233995736766e-17, -1.497384905065873e-33),
}
PI = (3.141592653589793, 1.2246467991473532e-16)
# 1 / (2 pi), 1280 bits after the point
INVERSE_TURN = int(
    "28be60db9391054a7f09d5f47d4d377036d8a5664f10e4107f9458eaf7aef1586dc91b8e909374b801924bba827464873f877ac72c4a69cfba208d7d4baed121"
    "3a671c09ad17df904e64758e60d4ce7d272117e2ef7e4a0ec7fe25fff7816603fbcbc462d6829b47db4d9fb3c9f2c26dd3d18fd9a797fa8b5d49eeb1faf97c5e"
    "cf41ce7de294a4ba9afed7ec47e357421580cc11bf1edaeafc33ef0826bd0d87", 16,
)
TURN_WORDS = [0] + [INVERSE_TURN >> 1280 - 32 * (i + 1) & 0xFFFFFFFF for i in range(40)]
LOW_WORD = 0xFFFFFFFF


def _window(position: Expr, words: int, most: int) -> list[Expr]:
    """``words`` 32-bit words of 1/(2 pi) that start at bit ``position`` of TURN_WORDS (0 <= position < ``most``), in int64."""
    index = position >> 5
    level = 1
    while level <= (most - 1) >> 5:
        level *= 2
    selected: list[Expr] = []
    table = [const(w, int64) for w in TURN_WORDS] + [const(0, int64)] * 32
    needed = words + 1
    selected = table[: needed + level - 1]
    while level > 1:        # a shifter: one selection for each bit of the index
        level //= 2
        bit = (index & level).ne(0)
        selected = [where(bit, selected[i + level], selected[i]) for i in range(needed + level - 1)]
    by = 32 - (position & 31)
    return [binary("ushr", selected[i] << 32 | selected[i + 1], by) & LOW_WORD for i in range(words)]


def _turn_digits(start: int, count: int) -> float:
    """``count`` bits of 1/(2 pi) from bit ``start`` after the point, at their places."""
    return math.ldexp(INVERSE_TURN >> 1280 - (start + count - 1) & (1 << count) - 1, -(start + count - 1))


# For float32 numbers from 2^15, 2^43, 2^71 and 2^99 on: three pieces of 1/(2 pi), from the first bit whose product with such a
# number is not a whole turn.  The products with the first two are exact in float64.
TURN_PIECES = [
    tuple(_turn_digits(first, count) for first, count in ((a - 22, 29), (a + 7, 29), (a + 36, 53))) for a in (15, 43, 71, 99)
]


def _quarter_turns_huge_32(x: Expr) -> tuple[Expr, Expr]:
    """Quadrant (int64) and remainder (float64) of a finite float32 ``|x| >= 2^15``."""
    a = E.abs(x)
    piece = [const(p, float64) for p in TURN_PIECES[0]]
    for start, pieces in zip((2.0**43, 2.0**71, 2.0**99), TURN_PIECES[1:], strict=True):
        far = a >= start
        piece = [where(far, new, old) for new, old in zip(pieces, piece, strict=True)]
    y = _wide(x)
    first, second = y * piece[0], y * piece[1]
    first, second = first - E.round(first), second - E.round(second)
    n, quadrant = _nearest_integer(first + second, 4.0)
    return quadrant, fma(y, piece[2], fma(n, -0.25, first) + second) * (2 * math.pi)


def _quarter_turns_huge_64(x: Expr) -> tuple[Expr, Expr, Expr]:
    """Quadrant and remainder, the latter in two parts, of a finite float64 ``|x| >= 2^25``."""
    bits = bitcast(x, int64)
    exponent = binary("ushr", bits, 52) & 0x7FF
    mantissa = bits & (1 << 52) - 1 | 1 << 52
    window = _window(exponent - 1075 + 32, 6, 971 + 32)

    def times(limb: Expr) -> list[Expr]:
        """The window times ``limb``, modulo one turn; most significant word first."""
        carry: Expr | None = None
        out = []
        for word in reversed(window):
            t = word * limb if carry is None else word * limb + carry
            out.append(t & LOW_WORD)
            carry = binary("ushr", t, 32)
        return out[::-1]

    low, high = times(mantissa & (1 << 27) - 1), times(binary("ushr", mantissa, 27))
    words: list[Expr] = []
    carry = const(0, int64)
    for i in reversed(range(6)):
        moved = high[i] << 27 | (binary("ushr", high[i + 1], 5) if i < 5 else const(0, int64))
        t = low[i] + (moved & LOW_WORD) + carry
        words.insert(0, t & LOW_WORD)
        carry = binary("ushr", t, 32)
    top = words[0] << 32 | words[1]
    quadrant = binary("ushr", top + (1 << 61), 62)
    top = top - (quadrant << 62)
    # the fraction of a quadrant, to 190 bits: exact pieces, added from the largest down
    part = [(top >> 31).cast(float64) * 2.0**-31, (top & (1 << 31) - 1).cast(float64) * 2.0**-62]
    part += [words[2].cast(float64) * 2.0**-94, fma(words[4].cast(float64), 2.0**-158, words[3].cast(float64) * 2.0**-126)]
    s, s_low = _fast_two_sum(part[0], part[1])
    t, t_low = _fast_two_sum(part[2], part[3])
    # either s is zero, or s_low is, or both sums are needed; s_low and t never overlap
    s, rest = _fast_two_sum(s, s_low + t)
    rest = rest + t_low + ((s_low - (s_low + t)) + t)
    r, r_low = _two_product(s, HALF_PI[F64][0])
    r_low = r_low + fma(s, HALF_PI[F64][1], rest * HALF_PI[F64][0])
    negative = x < 0.0
    return where(negative, -quadrant, quadrant), where(negative, -r, r), where(negative, -r_low, r_low)


def _quarter_turns_32(x: Expr) -> tuple[Expr, Expr]:
    """Quadrant (int32) and remainder of float32 ``x``."""
    n, bits = _nearest_integer(x, 2 / math.pi)
    r = x
    for p in HALF_PI[F32]:
        r = fma(n, -p, r)
    huge = (E.abs(x) >= 48000.0) & (E.abs(x) < INF)
    quadrant, remainder = _quarter_turns_huge_32(x)
    return where(huge, quadrant.cast(int32), bits), where(huge, _narrow(remainder), r)


def _quarter_turns_64(x: Expr, narrow: Expr | None = None) -> tuple[Expr, Expr, Expr]:
    """Quadrant (int64) and remainder, in two parts, of float64 ``x`` (which was the float32 ``narrow``)."""
    n, quadrant = _nearest_integer(x, 2 / math.pi)
    p = HALF_PI[F64]
    r0 = fma(n, -p[0], x)
    w, w_low = _two_product(n, p[1])
    r = r0 - w
    low = fma(n, -p[2], ((r0 - r) - w) - w_low)
    huge = (E.abs(x) >= 2.0**25) & (E.abs(x) < INF)
    if narrow is None:
        far_quadrant, far, far_low = _quarter_turns_huge_64(x)
    else:
        far_quadrant, far = _quarter_turns_huge_32(narrow)
        far_low = const(0.0, float64)
    return where(huge, far_quadrant, quadrant), where(huge, far, r), where(huge, far_low, low)


def _sine_cosine_64(r: Expr, low: Expr) -> tuple[Expr, Expr]:
    """Both of ``r + low`` for |r| <= pi/4."""
    s = r * r
    sine = fma(_polynomial(SIN[F64], s), s * r, low) + r
    t = fma(s, -0.5, 1.0)
    lost = (1.0 - t) - s * 0.5
    return sine, t + fma(_polynomial(COS[F64], s), s * s, lost - r * low)


def _turned(x: Expr, offset: int) -> Expr:
    """``sin(x + offset quarter turns)``."""
    if x.dtype is float32:
        quadrant, r = _quarter_turns_32(x)
        s = r * r
        sine = fma(_polynomial(SIN[F32], s), s * r, r)
        cosine = fma(_polynomial(COS[F32], s), s * s, fma(s, -0.5, 1.0))
    else:
        quadrant, r, low = _quarter_turns_64(x)
        sine, cosine = _sine_cosine_64(r, low)
    f = _format(x)
    if offset:
        quadrant = quadrant + offset
    y = where((quadrant & 1).ne(0), cosine, sine)
    return bitcast(bitcast(y, f.word) ^ (quadrant & 2) << 8 * f.word.itemsize - 2, f.kind)


def sin(x: Expr) -> Expr:
    return where(x.eq(0.0), x, _turned(x, 0))       # the sign of zero


def cos(x: Expr) -> Expr:
    return _turned(x, 1)


def _tan(x: Expr, narrow: Expr | None = None) -> Expr:
    quadrant, r, low = _quarter_turns_64(x, narrow)
    sine, cosine = _sine_cosine_64(r, low)
    odd = (quadrant & 1).ne(0)
    y = where(odd, -cosine, sine) / where(odd, sine, cosine)
    return where(x.eq(0.0), x, y)


# ---------------------------------------------------------------- inverse trigonometric functions

ASIN = (    # (asin(x)/x - 1) / x²  for |x| <= 1/2
    0.16666666666666763, 0.07499999999970108, 0.04464285717527881, 0.030381942675580174, 0.022372215898387497, 0.01735159562243737,
    0.013981017185644432, 0.011397303331502831, 0.010789267051282797, 0.003672378089801982, 0.021790201313787755, -0.021116117562619358,
    0.03270180162288141,
)
ATAN = (    # (atan(x)/x - 1) / x²  for |x| <= tan(pi/8)
    -0.333333333333332, 0.19999999999953785, -0.14285714280216763, 0.11111110784468595, -0.09090897786372348, 0.07692060713267031,
    -0.06663109541119529, 0.05847927743451102, -0.05039470262875869, 0.03806856216014043, -0.01791136148617763,
)


def _asin_parts(a: Expr) -> tuple[Expr, Expr, Expr, Expr]:
    """For a = |x|: whether a > 1/2; then s = sqrt((1-a)/2), else s = a; ``asin(s) - s``; and what rounding s lost."""
    far = a > 0.5
    z = where(far, (1.0 - a) * 0.5, a * a)
    s = where(far, E.sqrt(z), a)
    lost = where(far & s.ne(0.0), fma(-s, s, z) / (s + s), 0.0)
    return far, s, _polynomial(ASIN, z) * z * s, lost


def _asin(x: Expr) -> Expr:
    far, s, rest, lost = _asin_parts(E.abs(x))
    folded = HALF_PI[F64][0] - (2.0 * s - (HALF_PI[F64][1] - 2.0 * (rest + lost)))
    return _signed(where(far, folded, s + rest), x)


def _acos(x: Expr) -> Expr:
    far, s, rest, lost = _asin_parts(E.abs(x))
    twice = 2.0 * (s + (rest + lost))
    near = HALF_PI[F64][0] - (_signed(s, x) - (HALF_PI[F64][1] - _signed(rest, x)))
    behind = PI[0] - (2.0 * s - (PI[1] - 2.0 * (rest + lost)))
    return where(far, where(x < 0.0, behind, twice), near)


def _atan_of_quotient(n: Expr, d: Expr) -> tuple[Expr, Expr]:
    """``atan(n / d)`` in two parts, for n, d >= 0 not both zero or infinite."""
    low_angle, high_angle = n < d * 0.41421356237309503, d < n * 0.41421356237309503
    top = where(low_angle, n, where(high_angle, -d, n - d))
    bottom = where(low_angle, d, where(high_angle, n, n + d))
    t = top / bottom
    z = t * t
    rest = _polynomial(ATAN, z) * z * t
    base = where(low_angle, 0.0, where(high_angle, const(HALF_PI[F64][0], float64), const(math.pi / 4, float64)))
    base_low = where(low_angle, 0.0, where(high_angle, const(HALF_PI[F64][1], float64), const(3.061616997868383e-17, float64)))
    rest = rest + base_low
    high = base + t
    return high, ((base - high) + t) + rest


def _atan(x: Expr) -> Expr:
    high, low = _atan_of_quotient(E.abs(x), const(1.0, float64))
    return _signed(high + low, x)


def _atan2(y: Expr, x: Expr) -> Expr:
    n, d = E.abs(y), E.abs(x)
    large = where(n < d, d, n)
    scale = where(large > 2.0**1000, const(2.0**-100, float64), where(large < 2.0**-900, const(2.0**120, float64), const(1.0, float64)))
    both = (n.eq(0.0) & d.eq(0.0)) | (n.eq(INF) & d.eq(INF))
    high, low = _atan_of_quotient(where(both, 1.0, n * scale), where(both, 1.0, d * scale))
    nothing = n.eq(0.0)
    high, low = where(nothing, 0.0, high), where(nothing, 0.0, low)
    high = where(nothing & d.ne(d), NAN, high)
    behind = bitcast(x, int64) < 0
    angle = where(behind, PI[0] - (high - (PI[1] - low)), high + low)
    return _signed(angle, y)


# ---------------------------------------------------------------- the error function and its relatives

ERF_SMALL_32 = (    # erf(x)/x - 1 in x²  for |x| <= 0.93
    0.12837915122509003, -0.3761249780654907, 0.11281827092170715, -0.026766233146190643, 0.0049917674623429775, -0.0005980253918096423,
)
ERF_LARGE_32 = (    # (log(erfc(x)) + x) / x  for 0.92 <= x <= 3.95
    -0.12867936491966248, -0.635016918182373, -0.10647552460432053, 0.023983091115951538, -0.003754969220608473, 0.0003526251530274749,
    -1.4444770386035088e-05,
)
ERF_64 = (          # erf(x)/x - 1 in x²  for |x| <= 0.86
    0.1283791670955126, -0.3761263890318374, 0.11283791670954504, -0.026866170644975953, 0.00522397762343457, -0.0008548326870206569,
    0.00012055325557208367, -1.4925413083615332e-05, 1.6457038689752238e-06, -1.629369030178918e-07, 1.4148652497099124e-08,
    -8.73114914166807e-10,
)
ERFCX = (           # (1 + 2x) exp(x²) erfc(x)  in t = (x-4)/(x+4) for 0.45 <= x <= 29  (Shepherd and Laframboise's variable)
    1.2329951186255526, -0.13962111684056247, 0.015379652102619696, 0.06809705425468776, -0.10103906603630022, 0.09373283499856096,
    -0.0663303658123447, 0.03716751553332733, -0.016197734055913442, 0.0050319700230598546, -0.0007577733043117444,
    -0.00019925699146414947, 0.0001506217568647697, -2.4397963789106476e-05, -1.1222301847006913e-05, 5.706281794368973e-06,
    2.944072901714854e-07, -8.192114657953578e-07, 7.381484685602371e-08, 1.030247112716481e-07, -1.7291074184448504e-08,
    -9.57454046547203e-09, 1.6350438826956483e-09,
)
ERFCX_SHORT = (     # exp(x²) erfc(x) / t  in t = 2/(2+x) for 0 <= x <= 10.3, to 2^-29
    0.2820863167619204, 0.2823082099622615, 0.24457496160782685, 0.1892815504790513, 0.040807775428328086, 0.07059977429808176,
    -0.08056977682363664, -0.2252203587363888, 0.3366554840901199, -0.17318282705055002, 0.03265889208645698,
)
ERFINV_CENTRE = (   # erfinv(x)/x  in w - 2.5, w = -log(1-x²) <= 5, to 2^-30
    1.5014093517089615, 0.24664027683412218, -0.004177324766147505, -0.0012527082499054736, 0.00021826372283753856,
    -4.995725868664394e-06, -3.4260859274912274e-06, 4.78586094310773e-07, 1.6470675936595377e-08, -1.08447705900848e-08,
    4.361727386677744e-10, 1.224580583992132e-10,
)
ERFINV_TAIL = (     # the same in sqrt(w) - 4.25 for 5 <= w <= 38, to 2^-24
    4.092223399997024, 1.0099781120407845, 0.0007133631724339119, -0.0006065156756845369, 0.0002095062312061943, -6.762327552820642e-05,
    2.6483007316156145e-05, -7.119732746052513e-06, 2.0606577269493505e-06, -4.523769206515741e-06, 3.154304045999439e-06,
    -3.4648706326128723e-07, -2.8536383587787156e-07, 6.941466824111312e-08,
)
ERFINV_TAIL_SHORT = (   # in sqrt(w) - 3.15 for 5 <= w <= 16.5, to 2^-27
    2.98341743609711, 1.0040613395788676, 0.006664499562534827, -0.00493605849371227, 0.0034870623378344305, -0.0023402559615294106,
    0.0012188880023215377, -0.00033276260330730473, -9.398452657985322e-05, 0.00011505168724306783, -2.779179371464516e-05,
)


def _erf_small(a: Expr) -> Expr:
    """``erf(a)`` for 0 <= a <= 0.86, in float64."""
    return fma(_polynomial(ERF_64, a * a), a, a)


def _erfc_large(a: Expr) -> Expr:
    """``erfc(a)`` for a >= 0.45, in float64."""
    t = _at_most(a, 28.0)
    square, square_low = _two_product(t, t)
    scaled = _polynomial(ERFCX, (t - 4.0) / (t + 4.0)) / fma(t, 2.0, 1.0)
    _, bits, r = _reduced_exp(-square)
    return _exp_near_zero(r, -square_low) * scaled * _power_of_two(bits, 128) * 2.0**-128


def erf(x: Expr) -> Expr:
    a = E.abs(x)
    if x.dtype is float32:
        small = fma(_polynomial(ERF_SMALL_32, x * x), x, x)
        t = _at_most(a, 3.95)
        large = 1.0 - _exp_of_negative(fma(_polynomial(ERF_LARGE_32, t), t, -t))
        return where(a < 0.927734375, small, _signed(large, x))
    return _signed(where(a < 0.85, _erf_small(a), 1.0 - _erfc_large(a)), x)


def _erfc(x: Expr) -> Expr:
    a = E.abs(x)
    large = _erfc_large(a)
    return where(a < 0.47, 1.0 - _signed(_erf_small(a), x), where(x < 0.0, 2.0 - large, large))


def _erfc_short(x: Expr) -> Expr:
    a = _at_most(E.abs(x), 10.3)
    t = 2.0 / (a + 2.0)
    y = _polynomial(ERFCX_SHORT, t) * t * _exp2_short(a * a * (-1 / LN2))
    return where(x < 0.0, 2.0 - y, y)


def _erfinv_short(x: Expr) -> Expr:
    a = E.abs(x)
    w = -_log_short((1.0 - a) * (1.0 + a))
    y = a * where(w < 5.0, _polynomial(ERFINV_CENTRE, w - 2.5), _polynomial(ERFINV_TAIL_SHORT, E.sqrt(w) - 3.15))
    y = where(a < 1.0, y, where(a.eq(1.0), const(INF, float64), NAN))
    return _signed(y, x)


def _erfinv(x: Expr) -> Expr:
    a = E.abs(x)
    rest = 1.0 - a                      # exact from 1/2 on
    w = -log(rest * (1.0 + a))
    centre = w < 5.0
    guess = a * where(centre, _polynomial(ERFINV_CENTRE, w - 2.5), _polynomial(ERFINV_TAIL, E.sqrt(w) - 4.25))
    # one step of Halley's method on erf below 3/4, on erfc above
    error = where(a < 0.75, _erf_small(_at_most(guess, 0.85)) - a, rest - _erfc_large(guess))
    step = error * (math.sqrt(math.pi) / 2) * exp(guess * guess)
    y = guess - step / fma(guess, step, 1.0)
    y = where(a < 1.0, y, where(a.eq(1.0), const(INF, float64), NAN))
    return _signed(y, x)


# ---------------------------------------------------------------- the gamma function

LGAMMA = (  # lgamma(x) / ((x-1)(x-2))  in x - 3/2, for 1 <= x <= 2
    0.4831289505409809, -0.14595989591430608, 0.06291140107456437, -0.03130848750100822, 0.016797098631275844, -0.009425622448736258,
    0.0054464578390394786, -0.0032120740653641686, 0.0019229163150484955, -0.0011644147668403958, 0.0007115190337088651,
    -0.0004379906880752798, 0.00027131404663847464, -0.00016893742468865412, 0.00010535338834923663, -6.603970648635439e-05,
    4.303359589609273e-05, -2.7524830517456073e-05, 1.3174868731100158e-05, -7.78016291881361e-06, 1.2148940820110846e-05,
    -8.19897152530637e-06,
)
STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400, 43867 / 244188)
DIGAMMA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12)


def _sine_cosine_of_half_turns(a: Expr) -> tuple[Expr, Expr]:
    """|sin(pi a)| and cos(pi a) / sign(sin(pi a)) for a >= 0."""
    f = a - E.round(a)
    folded = E.abs(f)
    outer = folded > 0.25
    r = where(outer, 0.5 - folded, folded)
    sine, cosine = _sine_cosine_64(*_two_product(r, PI[0]))
    return where(outer, cosine, sine), _signed(where(outer, sine, cosine), f)


def _lgamma(x: Expr, log: Callable[[Expr], Expr]) -> Expr:
    a = E.abs(x)
    # 1 <= w < 2 with a = w + k, and the product by which the gamma function differs between them
    w = a
    product = const(1.0, float64)
    for _ in range(6):
        down = w >= 2.0
        w = where(down, w - 1.0, w)
        product = where(down, product * w, product)
    below, far = a < 1.0, a >= 8.0
    w = where(below, a + 1.0, w)
    logarithm = log(where(below | far, a, product))
    middle = _polynomial(LGAMMA, w - 1.5) * ((w - 1.0) * (w - 2.0)) + where(below, -logarithm, logarithm)
    # for tiny a, w - 1 has lost its digits, but the logarithm decides
    inverse = 1.0 / a
    stirling = fma(a - 0.5, logarithm - 1.0, 0.4189385332046727) + _polynomial(STIRLING, inverse * inverse) * inverse
    positive = where(far, stirling, middle)
    # lgamma(-a) = log(pi / (a |sin(pi a)|)) - lgamma(a)
    sine, _ = _sine_cosine_of_half_turns(a)
    reflected = (math.log(math.pi) - log(sine)) - (positive + log(a))
    y = where((x < 0.0) & (a > 2.0**-60), reflected, positive)      # both are -log(a) when a is tiny
    y = where(a.eq(INF) | a.eq(0.0) | ((x < 0.0) & E.floor(a).eq(a)), INF, y)
    return where(x.ne(x), x, y)


def _digamma(x: Expr) -> Expr:
    negative = x < 0.0
    a = where(negative, 1.0 - x, x)
    # psi(a) = psi(a + 10) - sum 1/(a + k), the sum as one quotient
    top, bottom = const(0.0, float64), const(1.0, float64)
    near = a < 10.0
    for k in range(10):
        term = a + float(k)
        top, bottom = fma(top, term, bottom), bottom * term
    t = where(near, a + 10.0, a)
    inverse = 1.0 / t
    series = log(t) - (0.5 * inverse + _polynomial(DIGAMMA, inverse * inverse) * inverse * inverse)
    y = where(near, series - top / bottom, series)
    sine, cosine = _sine_cosine_of_half_turns(E.abs(x))
    y = where(negative, y + math.pi * cosine / sine, y)
    y = where(x.eq(0.0), -_signed(const(INF, float64), x), y)
    y = where(a.eq(INF), where(negative, const(NAN, float64), INF), y)
    return where(negative & E.floor(x).eq(x), NAN, y)


# ---------------------------------------------------------------- the table

def _either(double: Callable[..., Expr], short: Callable[..., Expr] | None = None) -> Callable[..., Expr]:
    """Both types from functions of float64: for float32 from ``short``, which need not be as accurate, rounded."""
    narrow = short or double

    def function(*args: Expr) -> Expr:
        if args[0].dtype is float64:
            return double(*args)
        return _narrow(narrow(*map(_wide, args)))

    return function


def tan(x: Expr) -> Expr:
    return _tan(x) if x.dtype is float64 else _narrow(_tan(_wide(x), x))


def lgamma(x: Expr) -> Expr:
    return _lgamma(x, log) if x.dtype is float64 else _narrow(_lgamma(_wide(x), _log_short))


def hypot(x: Expr, y: Expr) -> Expr:
    return _hypot_64(x, y) if x.dtype is float64 else _hypot_32(x, y)


LOWERINGS: dict[str, Callable[..., Expr]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log10": log10, "log1p": log1p,
    "sin": sin, "cos": cos, "tan": tan, "asin": _either(_asin), "acos": _either(_acos), "atan": _either(_atan),
    "sinh": _either(_sinh), "cosh": _either(_cosh), "tanh": tanh, "asinh": _either(_asinh, _asinh_short),
    "acosh": _either(_acosh, _acosh_short), "atanh": _either(_atanh, _atanh_short), "erf": erf, "erfc": _either(_erfc, _erfc_short),
    "erfinv": _either(_erfinv, _erfinv_short), "lgamma": lgamma, "digamma": _either(_digamma), "rsqrt": rsqrt, "sigmoid": sigmoid,
    "pow": pow, "atan2": _either(_atan2), "hypot": hypot,
}
assert LOWERINGS.keys() == FLOAT_MATH


def lower(root: Expr) -> Expr:
    """``root`` with every mathematical function replaced by arithmetic.

    Parameters
    ----------
    root : Expr
        Any expression; its ``FLOAT_MATH`` nodes must be float32 or float64.

    Returns
    -------
    Expr
        The same value, to the accuracy of :data:`BOUNDS`.
    """
    done: dict[Expr, Expr] = {}
    for e in walk(root):
        args = tuple([done[a] for a in e.args])
        if e.op in FLOAT_MATH:
            done[e] = LOWERINGS[e.op](*args)
        else:
            done[e] = e if args == e.args else make(e.op, e.dtype, args, e.attr)
    return done[root]
