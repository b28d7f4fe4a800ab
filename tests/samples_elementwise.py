"""Samples of ``flambeau/ops/elementwise.py``."""

from samples import EVERYTHING, FLOATS, INTEGERS, NUMERIC, Entry, T, call, layouts, pairs

SIGNED = (*FLOATS, "int64", "int32")


def unary(low=-2.0, high=2.0, dtypes=EVERYTHING, special=True, **how):
    """One operand; integers and bool become floats.  NaN and infinities are tried without gradients."""
    extra = [call(T((7,), low, high, special=True), grad=False)] if special else []
    how.setdefault("inplace", True)
    return Entry([call(t) for t in layouts(low, high)] + extra, dtypes, **how)


def binary(low=-2.0, high=2.0, dtypes=NUMERIC, number=None, **how):
    """Two tensors, and a tensor with a number."""
    how.setdefault("inplace", True)
    numbers = [] if number is None else [call(T((3, 4), low, high), number), call(T((), low, high), number)]
    return Entry([call(a, b) for a, b in pairs(low, high)] + numbers, dtypes, **how)


def flat(entry_low=-2.0, entry_high=2.0, **how):
    """One operand whose gradient is zero or that has none."""
    return unary(entry_low, entry_high, **how)


A, B, C = T((3, 4)), T((4,)), T((3, 1))
MASK = T((3, 4), dtype="bool")

ENTRIES = {
    # arithmetic
    "add": binary(dtypes=EVERYTHING, number=2, refuses=[call(T((3,)), T((4,))), call(T((3,), dtype="int64"), T((3,), dtype="int64"), alpha=1.5)]),
    "sub": binary(number=2, refuses=[call(T((3,), dtype="bool"), T((3,), dtype="bool"))]),
    "subtract": binary(number=2),
    "rsub": binary(number=2, inplace=False, out=False),
    "mul": binary(dtypes=EVERYTHING, number=3, refuses=[call(T((2, 3)), T((3, 2)))]),
    "multiply": binary(number=3),
    "div": Entry([call(a, b) for a, b in pairs(0.5, 3.0)] + [call(A, 2.5), call(T((3, 4), -5, 5), T((3, 4), 1, 3), rounding_mode="floor"),
                 call(T((3, 4), -5, 5), T((3, 4), 1, 3), rounding_mode="trunc"), call(T((3, 4), -5, 5), 2, rounding_mode="floor")], NUMERIC, inplace=True),
    "divide": binary(0.5, 3.0, number=2),
    "true_divide": binary(0.5, 3.0, number=2),
    "floor_divide": Entry([call(T((3, 4), -9, 9), T((4,), 1, 4)), call(T((3, 4), -9, 9), 2), call(T((6,), special=True), 2.0)], NUMERIC, grad=False,
                          inplace=True, refuses=[call(T((3,), dtype="int64"), 0)]),
    "remainder": Entry([call(T((3, 4), -9, 9), T((4,), 1, 4)), call(T((3, 4), -9, 9), 3), call(T((3, 4), -9, 9), -3, grad=False)], SIGNED, inplace=True,
                       refuses=[call(T((3,), dtype="int64"), 0)]),
    "fmod": Entry([call(T((3, 4), -9, 9), T((4,), 1, 4)), call(T((3, 4), -9, 9), 3)], SIGNED, inplace=True),
    "neg": unary(dtypes=SIGNED, refuses=[call(T((3,), dtype="bool"))]),
    "negative": unary(dtypes=SIGNED),
    "positive": unary(dtypes=NUMERIC, inplace=False, out=False, refuses=[call(T((3,), dtype="bool"))]),
    "abs": unary(dtypes=NUMERIC), "absolute": unary(dtypes=NUMERIC),
    "sign": unary(), "sgn": unary(), "signbit": unary(inplace=False, grad=False),
    "copysign": binary(0.5, 2.0, number=-1.0),
    # powers
    "pow": Entry([call(a, b) for a, b in pairs(0.5, 2.0)] + [call(T((3, 4), 0.5, 2), e) for e in (2, 3, 0.5, -1.0, 2.5, 0, 1, 1.0)] + [call(2.0, T((3, 4))),
                 call(T((3, 4), -2, 2), 2), call(T((7,), special=True), 2, grad=False), call(T((7,), special=True), 0.5, grad=False)], FLOATS, inplace=True,
                 refuses=[call(T((3,), dtype="int64"), -1)]),
    "square": unary(), "float_power": Entry([call(T((3, 4), 0.5, 2), 2.5), call(T((3, 4), 0.5, 2), T((4,)))], FLOATS, out=False),
    "sqrt": unary(0.1, 3.0), "rsqrt": unary(0.1, 3.0), "reciprocal": unary(0.5, 3.0), "hypot": binary(0.5, 2.0, dtypes=FLOATS),
    # exponentials and logarithms
    "exp": unary(), "exp2": unary(), "expm1": unary(), "log": unary(0.1, 3.0), "log2": unary(0.1, 3.0), "log10": unary(0.1, 3.0), "log1p": unary(-0.5, 3.0),
    "logaddexp": binary(dtypes=FLOATS, inplace=False), "logaddexp2": binary(dtypes=FLOATS, inplace=False),
    "xlogy": binary(0.5, 2.0, number=2.0),
    "sigmoid": unary(), "logit": Entry([call(t) for t in layouts(0.1, 0.9)] + [call(T((9,), -0.5, 1.5), 0.1), call(T((9,), -0.5, 1.5), eps=0.1)], FLOATS,
                                       inplace=True),
    # trigonometry
    "sin": unary(), "cos": unary(), "tan": unary(-1.0, 1.0), "asin": unary(-0.9, 0.9), "acos": unary(-0.9, 0.9), "atan": unary(),
    "arcsin": unary(-0.9, 0.9), "arccos": unary(-0.9, 0.9), "arctan": unary(),
    "sinh": unary(), "cosh": unary(), "tanh": unary(), "asinh": unary(), "acosh": unary(1.2, 3.0), "atanh": unary(-0.8, 0.8),
    "arcsinh": unary(), "arccosh": unary(1.2, 3.0), "arctanh": unary(-0.8, 0.8),
    "atan2": binary(0.5, 2.0), "arctan2": binary(0.5, 2.0), "deg2rad": unary(), "rad2deg": unary(), "sinc": unary(0.1, 2.0),
    # special functions
    "erf": unary(), "erfc": unary(), "erfinv": unary(-0.9, 0.9), "lgamma": unary(0.5, 4.0), "digamma": unary(0.5, 4.0, special=False),
    "polygamma": Entry([call(n, T((3, 4), 0.6, 4.0)) for n in (0, 1, 2, 3)] + [call(1, T((9,), -3.4, -0.2), grad=False), call(1, T((4,), -1.7, -1.3))], FLOATS, tolerance=10),
    # rounding
    "floor": flat(dtypes=NUMERIC), "ceil": flat(dtypes=NUMERIC), "trunc": flat(dtypes=NUMERIC), "fix": flat(dtypes=NUMERIC),
    "round": Entry([call(t) for t in layouts()] + [call(T((3, 4), -50, 50), decimals=1), call(T((3, 4), -500, 500), decimals=-2)], FLOATS, inplace=True),
    "frac": unary(dtypes=FLOATS, special=False),
    # the larger, the smaller, limits
    "maximum": binary(dtypes=EVERYTHING, inplace=False), "minimum": binary(dtypes=EVERYTHING, inplace=False),
    "fmax": Entry([call(a, b) for a, b in pairs()] + [call(T((7,), special=True), T((7,)), grad=False)], EVERYTHING),
    "fmin": Entry([call(a, b) for a, b in pairs()] + [call(T((7,), special=True), T((7,)), grad=False)], EVERYTHING),
    "clamp": Entry([call(A, -0.5, 0.5), call(A, min=-0.5), call(A, max=0.5), call(A, T((4,), -1, 0), T((3, 1), 0, 1)), call(A, None, T((4,), -1, 1)),
                    call(T((7,), special=True), -1, 1, grad=False)], NUMERIC, inplace=True, refuses=[call(A)]),
    "clip": Entry([call(A, -0.5, 0.5)], FLOATS, inplace=True),
    "clamp_min": Entry([call(A, -0.5), call(A, T((4,), -1, 1))], NUMERIC, inplace=True),
    "clamp_max": Entry([call(A, 0.5), call(A, T((4,), -1, 1))], NUMERIC, inplace=True),
    "relu": unary(dtypes=NUMERIC, out=False, refuses=[call(T((3,), dtype="bool"))]), "threshold": Entry([call(A, 0.5, -1.0)], FLOATS, inplace=True),
    # choosing
    "where": Entry([call(MASK, A, B), call(MASK, A, 0.5), call(MASK, 1.5, C), call(T((0, 4), dtype="bool"), T((0, 4)), B)], EVERYTHING,
                   refuses=[call(T((3, 4), dtype="int64"), A, B)]),
    "masked_fill": Entry([call(A, MASK, 0.5), call(A, T((4,), dtype="bool"), 2), call(A, MASK, T(()))], FLOATS, inplace=True, out=False,
                         refuses=[call(A, T((3, 4), dtype="int64"), 1.0)]),
    "lerp": Entry([call(A, T((3, 4), 3, 4), 0.3), call(A, T((3, 4), 3, 4), T((3, 4), 0, 1)), call(A, B, 0.8)], FLOATS, inplace=True,
                  refuses=[call(T((3,), dtype="float32"), T((3,), dtype="float64"), 0.5)]),
    "addcmul": Entry([call(A, A, B), call(A, C, B, value=0.5)], NUMERIC[:2], inplace=True),
    "addcdiv": Entry([call(A, A, T((4,), 0.5, 2)), call(A, C, T((4,), 0.5, 2), value=0.5)], FLOATS, inplace=True),
    # floating-point tools
    "nan_to_num": Entry([call(T((9,), special=True), grad=False), call(T((9,), special=True), 1.0, 2.0, -2.0, grad=False), call(A)], EVERYTHING, inplace=True),
    "ldexp": Entry([call(A, T((4,), -3, 3, dtype="int64"))], FLOATS, inplace=True),
    "frexp": Entry([call(A), call(T((9,), special=True), grad=False), call(T((5,), 1e-40, 2e-40), grad=False)], FLOATS, grad=False),
    "nextafter": binary(dtypes=FLOATS, grad=False), "heaviside": binary(dtypes=NUMERIC, grad=False),
    "gcd": binary(-20, 20, dtypes=INTEGERS, grad=False), "lcm": binary(-20, 20, dtypes=("int64", "int32"), grad=False),
    # comparisons
    **{n: binary(dtypes=EVERYTHING, number=1, grad=False) for n in ("eq", "ne", "lt", "le", "gt", "ge", "not_equal", "less", "less_equal", "greater",
                                                                    "greater_equal")},
    "isclose": Entry([call(A, A), call(A, T((3, 4), -2, 2.00001)), call(T((7,), special=True), T((7,), special=True)),
                      call(T((7,), special=True), T((7,), special=True), equal_nan=True), call(A, B, 0.5, 0.5)], EVERYTHING, grad=False, out=False,
                     refuses=[call(T((3,), dtype="float32"), T((3,), dtype="int64"))]),
    "allclose": Entry([call(A, A), call(A, C)], FLOATS, grad=False, out=False), "equal": Entry([call(A, A), call(A, B)], EVERYTHING, grad=False, out=False),
    **{n: Entry([call(T((7,), special=True)), call(T(())), call(T((0, 2)))], EVERYTHING, grad=False, out=n in ("isposinf", "isneginf"))
       for n in ("isnan", "isinf", "isfinite", "isposinf", "isneginf", "isreal")},
    # logic and bits
    **{n: binary(dtypes=EVERYTHING, grad=False) for n in ("logical_and", "logical_or", "logical_xor")}, "logical_not": unary(grad=False),
    **{n: binary(-9, 9, dtypes=(*INTEGERS, "bool"), number=True, grad=False) for n in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    "bitwise_not": unary(dtypes=(*INTEGERS, "bool"), grad=False, refuses=[call(T((3,), dtype="float32"))]),
    **{n: Entry([call(T((3, 4), -9, 9), T((4,), 0, 5)), call(T((3, 4), -9, 9), 2), call(T((3, 4), -9, 9), 70)], ("int64", "int32"), grad=False, inplace=True,
                refuses=[call(T((3,), dtype="float32"), 1)]) for n in ("bitwise_left_shift", "bitwise_right_shift")},
    "clone": unary(inplace=False, out=False),
}
