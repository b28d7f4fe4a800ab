"""Special functions beyond the common ones: normal distribution, Bessel functions, orthogonal polynomials, gamma relatives.

The short formulas are scalar expressions, evaluated in float64 inside the kernel; the long ones are library routines on arrays.  Most
are the trapezoidal rule on an integral whose integrand is analytic, which converges faster than any power (Trefethen and Weideman,
"The exponentially convergent trapezoidal rule", 2014).
``flambeau/special.py`` gives them their public names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..core.dtype import float64, float_of
from ..core.shape import Meta, broadcast_shapes, fresh
from ..ir import expression as ir
from ..ir.expression import E, Expr
from . import definition
from .definition import OPS, host, pointwise, promote_kinds
from .elementwise import derived, store, where

EULER = 0.5772156649015329      # γ


def in_double(f: Callable[[Expr], Expr]) -> Callable[[Expr], Expr]:
    """A formula of one operand evaluated in float64 and rounded once."""
    def formula(input):
        return f(input.cast(float64)).cast(input.dtype)
    formula.__name__, formula.__doc__ = f.__name__, f.__doc__
    return formula


def special(f: Callable[[Expr], Expr] | None = None, *, node: str | None = None) -> Any:
    """Define the operation ``_special_<name>`` (not public under that name) by a formula in float64."""
    if f is None:
        return lambda g: special(g, node=node)
    name = f.__name__.strip("_")
    camel = "".join(p[:1].upper() + p[1:] for p in name.split("_"))
    return pointwise(in_double(f), name="_special_" + name, dtype="float", inplace=False, node=node or "Special" + camel)


# ------------------------------------------------------------------ normal distribution


def _scaled_erfc(x: Expr) -> Expr:
    """exp(x²) erfc(x); for x >= 1 by the trapezoidal rule with the pole's residue (Chiarella and Reichel, 1968)."""
    step = 0.5
    far = ir.maximum(x, 1.0)
    square = far * far
    total = 1.0 / square
    for n in range(1, 14):
        total = total + (2.0 * math.exp(-((n * step) ** 2))) / (square + (n * step) ** 2)
    decay = far * (2 * math.pi / step)
    residue = E.exp(square - decay) * 2.0 / (1.0 - E.exp(-decay))
    by_rule = total * far * (step / math.pi) - ir.where(far < math.pi / step, residue, ir.lift(0.0, far))
    near = ir.minimum(x, 1.0)
    return ir.where(x < 1.0, E.exp(near * near) * E.erfc(near), ir.where(x < 1e150, by_rule, 1.0 / (x * math.sqrt(math.pi))))


@special
def erfcx(x):
    """``exp(input²) * erfc(input)``."""
    return _scaled_erfc(x)


@erfcx.backward
def _(g, y, input):
    return g * (input * y * 2.0 - 2 / math.sqrt(math.pi))


@special
def ndtr(x):
    """The area under the standard normal density below ``input``."""
    return E.erfc(x * -math.sqrt(0.5)) * 0.5


@ndtr.backward
def _(g, input):
    return g * (OPS["exp"](input * input * -0.5) * (1 / math.sqrt(2 * math.pi)))


@special
def log_ndtr(x):
    """``log(ndtr(input))``, exact in the lower tail."""
    z = x * math.sqrt(0.5)
    return ir.where(x < -1.0, E.log(_scaled_erfc(-z) * 0.5) - z * z, E.log1p(E.erfc(z) * -0.5))


@log_ndtr.backward
def _(g, input):
    return g * (math.sqrt(2 / math.pi) / erfcx(input * -math.sqrt(0.5)))


@special
def ndtri(p):
    """The inverse of ``ndtr``: a rational start (Abramowitz and Stegun 26.2.22), polished by Halley's iteration."""
    small = ir.minimum(p, 1.0 - p)
    t = E.sqrt(E.log(small) * -2.0)
    x = (2.30753 + t * 0.27061) / (1.0 + t * 0.99229 + t * t * 0.04481) - t
    for _ in range(3):
        z = x * -math.sqrt(0.5)
        error = _scaled_erfc(z) * math.sqrt(math.pi / 2) - small * E.exp(x * x * 0.5) * math.sqrt(2 * math.pi)
        x = x - error / (1.0 + x * error * 0.5)
    x = ir.where(small.eq(0.0), ir.lift(-math.inf, x), x)
    x = ir.where(p > 0.5, -x, x)
    return ir.where((p < 0.0) | (p > 1.0), ir.lift(math.nan, x), x)


@ndtri.backward
def _(g, y):
    return g * (OPS["exp"](y * y * 0.5) * math.sqrt(2 * math.pi))


# ------------------------------------------------------------------ entropy and logarithms


@special
def entr(x):
    """``-input * log(input)``: 0 at 0, -inf below."""
    return ir.where(x.eq(0.0), x, ir.where(x < 0.0, ir.lift(-math.inf, x), -x * E.log(x)))


@entr.backward
def _(g, input):
    return g * where(input < 0, math.nan, -1 - OPS["log"](input))


@pointwise(name="_special_xlog1py", node="SpecialXlog1Py", dtype="float", numbers=True, inplace=False)
def xlog1py(input, other):
    """``input * log1p(other)``, 0 where ``input`` is 0 (unless ``other`` is NaN)."""
    return ir.where(other.ne(other), other, ir.where(input.eq(0), ir.lift(0.0, input), input * E.log1p(other)))


@xlog1py.backward
def _(g, input, other, needs):
    to_input = to_other = None
    if needs[0]:
        other_ = OPS["full"]((), other, dtype=g.dtype) if isinstance(other, definition.NUMBERS) else other
        to_input = where((input == 0) & (other_ <= -1), 0.0, g * OPS["log1p"](other_))
    if needs[1]:
        to_other = g * input / (other + 1)
    return to_input, to_other


# ------------------------------------------------------------------ routines on arrays


def _floating(*metas: Meta) -> Meta:
    return fresh(metas[0], broadcast_shapes(*[m.shape for m in metas]), float_of(promote_kinds(metas)))


def _one(input):
    """The operand."""


def _two(input, other):
    """Both operands."""


def on_arrays(name: str, values: Callable[..., Any], operands: int = 1, node: str | None = None) -> Any:
    """The operation ``_special_<name>``: ``values`` of float64 arrays of one shape.  Of two operands one may be a number."""
    def run(ins: list[Any], outs: list[Any], scalars: list[Any]) -> None:
        import numpy as np

        arrays = np.broadcast_arrays(*[x.astype(np.float64) for x in ins])
        with np.errstate(all="ignore"):
            outs[0][...] = values(*[np.array(a) for a in arrays])

    camel = "".join(p[:1].upper() + p[1:] for p in name.split("_"))
    recorded = host(outs=_floating, like=_one if operands == 1 else _two, name="_special_" + name, node=node or "Special" + camel)(run)

    def call(input: Any, *other: Any, out: Any = None) -> Any:
        args = (input, *other)
        tensors = [v for v in args if isinstance(v, definition.Tensor)]
        if tensors and len(args) == operands:
            d = float_of(promote_kinds([v._meta if isinstance(v, definition.Tensor) else v.__class__ for v in args]))
            args = tuple([v if isinstance(v, definition.Tensor) else OPS["full"]((), v, dtype=d) for v in args])
            if d.itemsize == 2:
                result = recorded(*[v.float() for v in args]).to(d)
                return result if out is None else store("special_" + name, out, result)
        return recorded(*args) if out is None else recorded(*args, out=out)

    call.__name__, call.__doc__ = name, values.__doc__
    call.operation, call.backward = recorded.operation, recorded.backward  # type: ignore[attr-defined]
    OPS["_special_" + name] = call
    return call


def series(x: Any, coefficients: Sequence[float]) -> Any:
    """Σ c[k] x**k by Horner's rule."""
    value = coefficients[-1] + 0 * x
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


# ------------------------------------------------------------------ modified Bessel functions

NODES = 40


def _hankel(order: int, terms: int) -> list[float]:
    """Coefficients a(k) of the asymptotic series in 1/x (Abramowitz and Stegun 9.2, 9.7)."""
    made = [1.0]
    for k in range(1, terms):
        made.append(made[-1] * (4 * order * order - (2 * k - 1) ** 2) / (8 * k))
    return made


def _scaled_i(order: int, x: Any) -> Any:
    """exp(-|x|) I(x): the mean over 0..π of exp(x (cos t - 1)), times x sin² t for order 1; from 30 on the asymptotic series."""
    import numpy as np

    size = np.abs(x)
    near = np.minimum(size, 30.0)
    total = np.zeros_like(x)
    for k in range(NODES + 1):
        angle, weight = math.pi * k / NODES, (0.5 if k in (0, NODES) else 1.0) / NODES
        total += np.exp(near * (math.cos(angle) - 1)) * (weight * math.sin(angle) ** (2 * order))
    if order:
        total *= near
    far = 1.0 / np.maximum(size, 30.0)
    asymptotic = series(far, [a * (-1) ** k for k, a in enumerate(_hankel(order, 20))]) * np.sqrt(far / (2 * math.pi))
    value = np.where(size < 30.0, total, asymptotic)
    return np.copysign(value, x) if order else value


def _grown(x: Any) -> Any:
    import numpy as np

    return np.exp(np.abs(x))


i0e = on_arrays("i0e", lambda x: _scaled_i(0, x), node="SpecialI0E")
i0e.__doc__ = "``exp(-|input|) * i0(input)``."
i1e = on_arrays("i1e", lambda x: _scaled_i(1, x), node="SpecialI1E")
i1e.__doc__ = "``exp(-|input|) * i1(input)``."
_i0 = on_arrays("i0", lambda x: _scaled_i(0, x) * _grown(x), node="I0")
i1 = on_arrays("i1", lambda x: _scaled_i(1, x) * _grown(x))
i1.__doc__ = "The modified Bessel function of the first kind of order 1."


@derived(inplace=True)
def i0(input: Any) -> Any:
    """The modified Bessel function of the first kind of order 0."""
    return _i0(input)


def _over(y: Any, x: Any) -> Any:
    """``y / x``, and the limit 1/2 at 0."""
    return where(x == 0, 0.5, y / x)


@_i0.backward
def _(g, input):
    return g * i1(input)


@i1.backward
def _(g, y, input):
    return g * (_i0(input) - _over(y, input))


@i0e.backward
def _(g, y, input):
    return g * (i1e(input) - OPS["sgn"](input) * y)


@i1e.backward
def _(g, y, input):
    return g * (i0e(input) - OPS["sgn"](input) * y - _over(y, input))


def _scaled_k(order: int, x: Any) -> Any:
    """exp(x) K(x): the power series up to 2, the trapezoidal rule on ∫ exp(-x (cosh t - 1)) cosh(n t) dt up to 30, then asymptotic."""
    import numpy as np

    low = np.minimum(x, 2.0)
    quarter = low * low / 4
    log = np.log(low / 2)
    harmonic = [0.0]
    for k in range(1, 18):
        harmonic.append(harmonic[-1] + 1 / k)
    factorials = [math.factorial(k) for k in range(18)]
    if order == 0:
        power = series(quarter, [(h - EULER) / f ** 2 for h, f in zip(harmonic, factorials, strict=True)])
        power = power - log * series(quarter, [1 / f ** 2 for f in factorials])
    else:
        first = series(quarter, [1 / (f * f * (k + 1)) for k, f in enumerate(factorials)]) * low / 2
        psi = [(2 * (h - EULER) + 1 / (k + 1)) / (f * f * (k + 1)) for k, (h, f) in enumerate(zip(harmonic, factorials, strict=True))]
        power = 1.0 / low + log * first - series(quarter, psi) * low / 4
    middle = np.clip(x, 2.0, 30.0)
    step = 0.125
    total = np.full_like(x, 0.5)
    for k in range(1, 32):
        c = math.cosh(k * step)
        total += np.exp(middle * (1 - c)) * (c if order else 1.0)
    far = 1.0 / np.maximum(x, 30.0)
    asymptotic = series(far, _hankel(order, 20)) * np.sqrt(far * (math.pi / 2))
    value = np.where(x <= 2.0, power * np.exp(low), np.where(x < 30.0, total * step, asymptotic))
    return np.where(x == 0.0, np.inf, np.where(x >= 0.0, value, np.nan))


def _shrunk(x: Any) -> Any:
    import numpy as np

    return np.exp(-x)


for _order in (0, 1):
    on_arrays(f"modified_bessel_k{_order}", lambda x, n=_order: _scaled_k(n, x) * _shrunk(x)).__doc__ = (
        f"The modified Bessel function of the second kind of order {_order}.")
    on_arrays(f"scaled_modified_bessel_k{_order}", lambda x, n=_order: _scaled_k(n, x)).__doc__ = (
        f"``exp(input) * modified_bessel_k{_order}(input)``.")


# ------------------------------------------------------------------ Bessel functions


def _bessel_far(order: int, x: Any, second: bool) -> Any:
    """J or Y for large x by Hankel's expansion (Abramowitz and Stegun 9.2.5, 9.2.6)."""
    import numpy as np

    a = _hankel(order, 20)
    p = series(1 / (x * x), [a[k] * (-1) ** (k // 2) for k in range(0, 20, 2)])
    q = series(1 / (x * x), [a[k] * (-1) ** (k // 2) for k in range(1, 20, 2)]) / x
    # sin and cos of x - (2n + 1)π/4 from those of x, which are reduced exactly
    s, c = np.sin(x), np.cos(x)
    sine, cosine = (s - c, s + c) if order == 0 else (-(s + c), s - c)
    wave = p * sine + q * cosine if second else p * cosine - q * sine
    return wave * np.sqrt(1 / (math.pi * x))


def _half_angles(n: int) -> list[tuple[float, float, float]]:
    """(angle, sine, weight) of the trapezoidal rule for the mean over 0..π of a function of sin t."""
    return [(math.pi * k / n, math.sin(math.pi * k / n), (1.0 if k == 0 or 2 * k == n else 2.0) / n) for k in range(n // 2 + 1)]


def _bessel_j(order: int, x: Any) -> Any:
    """J(x): the mean of cos(x sin t), or of sin(x sin t) sin t; from 25 on Hankel's expansion."""
    import numpy as np

    size = np.abs(x)
    near = np.minimum(size, 25.0)
    total = np.zeros_like(x)
    for _, s, weight in _half_angles(NODES):
        total += np.sin(near * s) * (weight * s) if order else np.cos(near * s) * weight
    value = np.where(size < 25.0, total, _bessel_far(order, np.maximum(size, 25.0), False))
    value = np.where(np.isinf(x), 0.0, value)
    return np.where(x < 0.0, -value, value) if order else value


def _bessel_y(order: int, x: Any) -> Any:
    """Y by Neumann's series Y0 = 2/π (log(x/2) + γ) J0 - 4/π Σ (-1)^k J(2k)/k, summed under the integral; Y1 is -Y0'."""
    import numpy as np

    near = np.clip(x, 1e-300, 25.0)
    j0, j1, rest = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x)
    for angle, s, weight in _half_angles(128):
        c = math.fsum((-1) ** m * math.cos(2 * m * angle) / m for m in range(1, 33))
        cosine, sine = np.cos(near * s), np.sin(near * s)
        j0 += cosine * weight
        j1 += sine * (weight * s)
        rest += sine * (weight * c * s) if order else cosine * (weight * c)
    log = np.log(near / 2) + EULER
    value = (log * j0 if order == 0 else log * j1 - j0 / near) - rest * 2.0
    value = np.where(x < 25.0, value * (2 / math.pi), _bessel_far(order, np.maximum(x, 25.0), True))
    value = np.where(x == 0.0, -np.inf, np.where(x >= 0.0, value, np.nan))
    return np.where(x == np.inf, 0.0, value)


for _order in (0, 1):
    on_arrays(f"bessel_j{_order}", lambda x, n=_order: _bessel_j(n, x)).__doc__ = f"The Bessel function of the first kind of order {_order}."
    on_arrays(f"bessel_y{_order}", lambda x, n=_order: _bessel_y(n, x)).__doc__ = f"The Bessel function of the second kind of order {_order}."


@special
def spherical_bessel_j0(x):
    """``sin(input) / input``, 1 at 0."""
    return ir.where(x.eq(0.0), ir.lift(1.0, x), ir.where(E.abs(x).eq(math.inf), ir.lift(0.0, x), E.sin(x) / x))


# ------------------------------------------------------------------ orthogonal polynomials, zeta, incomplete gamma


Step = Callable[[int, Any, Any, Any], Any]


def _orthogonal(name: str, first: Callable[[Any], Any], step: Step, at: Callable[[Any], Any] = lambda x: x) -> None:
    """A family of polynomials by its recurrence: ``step(k, x, p[k], p[k-1])`` is ``p[k+1]``."""
    def values(x: Any, n: Any) -> Any:
        import numpy as np

        x, n = at(x), np.trunc(np.nan_to_num(n)).astype(np.int64)
        before, now = np.ones_like(x), first(x)
        result = np.where(n == 0, before, np.where(n == 1, now, 0.0))
        for k in range(1, int(n.max(initial=0))):
            before, now = now, step(k, x, now, before)
            result = np.where(n == k + 1, now, result)
        return result

    on_arrays(name, values, 2).__doc__ = f"The {name.replace('_', ' ')} of degree ``n`` (a number or tensor) at ``input``; 0 for negative degrees."


def _chebyshev(k: int, x: Any, now: Any, before: Any) -> Any:
    return 2 * x * now - before


for _kind, _first in (("t", lambda x: x), ("u", lambda x: 2 * x), ("v", lambda x: 2 * x - 1), ("w", lambda x: 2 * x + 1)):
    _orthogonal("chebyshev_polynomial_" + _kind, _first, _chebyshev)
    _orthogonal("shifted_chebyshev_polynomial_" + _kind, _first, _chebyshev, lambda x: 2 * x - 1)
_orthogonal("hermite_polynomial_h", lambda x: 2 * x, lambda k, x, p, q: 2 * (x * p - k * q))
_orthogonal("hermite_polynomial_he", lambda x: x, lambda k, x, p, q: x * p - k * q)
_orthogonal("laguerre_polynomial_l", lambda x: 1 - x, lambda k, x, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1))
_orthogonal("legendre_polynomial_p", lambda x: x, lambda k, x, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1))


def _zeta(x: Any, q: Any) -> Any:
    """ζ(x, q): terms until q exceeds 9, then the Euler-Maclaurin formula."""
    import numpy as np

    from .elementwise import _BERNOULLI

    pole = (q <= 0) & (q == np.floor(q))
    a, total = np.where(pole, 1.0, q), np.zeros_like(q)
    while (left := a <= 9).any():
        total = np.where(left, total + a ** -x, total)
        a = np.where(left, a + 1, a)
    last = a ** -x
    total = total + last * a / (x - 1) + last / 2
    rising, term = x, last / a
    for k, b in enumerate(_BERNOULLI):
        total = total + b * rising * term
        rising, term = rising * (x + 2 * k + 1) * (x + 2 * k + 2), term / (a * a)
    total = np.where((q <= 0) & (x != np.floor(x)), np.nan, total)
    return np.where(x == 1, np.inf, np.where(x < 1, np.nan, np.where(pole, np.inf, total)))


zeta = on_arrays("zeta", _zeta, 2)
zeta.__doc__ = "The Hurwitz zeta function Σ (k + other)**-input over k from 0."


@zeta.backward
def _(g, input, other, needs):
    if needs[0]:
        raise RuntimeError("derivative for aten::special_zeta with respect to its first argument is not implemented")
    return None, g * -input * zeta(input + 1, other)


def _incomplete_gamma(a: Any, x: Any) -> tuple[Any, Any]:
    """P(a, x) and Q(a, x): the power series below a + 1, Lentz's continued fraction above (Abramowitz and Stegun 6.5.29, 6.5.31)."""
    import numpy as np

    lgamma = np.vectorize(lambda v: math.lgamma(v) if v > 0 and v < math.inf else math.inf, otypes=[np.float64])
    factor = np.exp(a * np.log(x) - x - (lgamma(a) if a.size else a))
    low = x < a + 1
    s, b = np.where(low, x, 0.5), np.where(low, a, 1.0)
    term = total = 1 / b
    for _ in range(10_000):
        b = b + 1
        term = term * s / b
        total = total + term
        if not (np.abs(term) > 1e-17 * np.abs(total)).any():
            break
    below = factor * total
    z, b = np.where(low, 10.0, x), np.where(low, 1.0, a)
    tiny = 1e-300
    d_ = z + 1 - b
    c, d = np.full_like(z, 1 / tiny), 1 / d_
    fraction = d
    for k in range(1, 10_000):
        d_ = d_ + 2
        e = -k * (k - b)
        d = e * d + d_
        c = d_ + e / c
        d = 1 / np.where(np.abs(d) < tiny, tiny, d)
        c = np.where(np.abs(c) < tiny, tiny, c)
        fraction = fraction * (c * d)
        if not (np.abs(c * d - 1) > 1e-16).any():
            break
    upper = np.where(low, 1 - below, factor * fraction)
    p = np.where(low, below, 1 - upper)
    invalid = (a < 0) | (x < 0) | ((a == 0) & (x == 0))
    p = np.where(a == 0, 1.0, np.where((x == 0) | np.isinf(a), 0.0, np.where(np.isinf(x), 1.0, p)))
    q = np.where(a == 0, 0.0, np.where((x == 0) | np.isinf(a), 1.0, np.where(np.isinf(x), 0.0, upper)))
    both = np.isinf(a) & np.isinf(x)
    return np.where(invalid | both, np.nan, p), np.where(invalid | both, np.nan, q)


gammainc = on_arrays("gammainc", lambda a, x: _incomplete_gamma(a, x)[0], 2)
gammainc.__doc__ = "The regularised lower incomplete gamma function P(input, other)."
gammaincc = on_arrays("gammaincc", lambda a, x: _incomplete_gamma(a, x)[1], 2)
gammaincc.__doc__ = "The regularised upper incomplete gamma function Q(input, other)."


@derived(inplace=True)
def igamma(input: Any, other: Any) -> Any:
    """The regularised lower incomplete gamma function P(input, other)."""
    return gammainc(input, other)


@derived(inplace=True)
def igammac(input: Any, other: Any) -> Any:
    """The regularised upper incomplete gamma function Q(input, other)."""
    return gammaincc(input, other)


def _density(name: str, g: Any, a: Any, x: Any, needs: tuple[bool, ...]) -> Any:
    if needs[0]:
        raise RuntimeError(f"derivative for aten::special_{name} with respect to its first argument is not implemented")
    return g * OPS["exp"]((a - 1) * OPS["log"](x) - x - OPS["lgamma"](a))


@gammainc.backward
def _(g, input, other, needs):
    return None, _density("gammainc", g, input, other, needs)


@gammaincc.backward
def _(g, input, other, needs):
    return None, -_density("gammaincc", g, input, other, needs)


# ------------------------------------------------------------------ multivariate gamma


@derived(inplace=True)
def mvlgamma(input: Any, p: int) -> Any:
    """The logarithm of the multivariate gamma function of dimension ``p``: Σ lgamma(input - j/2) + p(p-1)/4 · log π."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    total = OPS["lgamma"](input)
    for j in range(1, p):
        total = total + OPS["lgamma"](input - j / 2)
    return total + p * (p - 1) / 4 * math.log(math.pi)


__all__ = ["special"]
