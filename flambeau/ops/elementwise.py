"""Elementwise operations: arithmetic, mathematics, comparisons, logic, bits, and choosing between values.

Each is a scalar expression that is evaluated at every index of the broadcast shape, with its gradient right under it, written
in tensor operations.  The scheduler fuses chains of them, so a small definition costs nothing at run time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..core.dtype import bool_, float64, float_of, int32, int64
from ..core.dtype import dtype as DType
from ..core.limits import finfo
from ..core.shape import Meta, broadcast_shapes, fresh
from ..ir import expression as ir
from ..ir.expression import E, Expr
from . import definition
from .composite import public
from .definition import NUMBERS, OPS, host, pointwise, promote_kinds, title
from .results import named

LN2 = math.log(2)


# ------------------------------------------------------------------ helpers


def derived(fn: Callable[..., Any] | None = None, *, name: str | None = None, method: bool = True, function: bool = True,
            inplace: bool = False) -> Any:
    """Publish a composition of operations with an ``out=`` form and, when ``inplace``, the method ``name_``."""
    if fn is None:
        return lambda f: derived(f, name=name, method=method, function=function, inplace=inplace)
    label = name or fn.__name__.rstrip("_")

    def call(*args: Any, **kwargs: Any) -> Any:
        target = kwargs.pop("out", None) if kwargs else None
        result = fn(*args, **kwargs)
        return result if target is None else store(label, target, result)

    call.__name__, call.__qualname__, call.__doc__, call.__module__ = label, label, fn.__doc__, fn.__module__
    call.__wrapped__ = fn  # type: ignore[attr-defined]
    if inplace:
        def change(input: Any, *args: Any, **kwargs: Any) -> Any:
            return _change(input, fn(input, *args, **kwargs), label + "_")

        change.__name__ = change.__qualname__ = label + "_"
        change.__doc__ = f"The in-place form of :func:`{label}`."
        public(change, name=label + "_", function=False)
    return public(call, name=label, method=method, function=function)


def _change(input: Any, result: Any, name: str) -> Any:
    definition.check_inplace(name, input, result.shape, result.dtype)
    return input.copy_(result)


def store(name: str, target: Any, result: Any) -> Any:
    """Put the result of a composition into an ``out=`` tensor, or each of a tuple of results into its own."""
    if isinstance(result, tuple):
        for t, r in zip(target, result, strict=True):
            store(name, t, r)
        return target if not hasattr(result, "_fields") else type(result)(*target)
    if not isinstance(target, definition.Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(target).__name__}")
    if definition.MODE.grad and (target._node is not None or result._node is not None):
        raise RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, "
                           "but one of the arguments requires grad.")
    definition.prepare_out(name, target, result._meta)
    definition.copy_into(target, result)
    return target


def alias(name: str, of: str) -> None:
    """Another public name of an operation."""
    OPS[name] = OPS[of]
    if of + "_" in OPS:
        OPS[name + "_"] = OPS[of + "_"]


def unsupported(kernel: str, d: DType) -> NotImplementedError:
    """PyTorch's error for a dtype that an operation does not take."""
    to = "float32" if d.category < 2 else "int64"
    return NotImplementedError(f"\"{kernel}\" not implemented for '{title(d)}'\n"
                               f"{kernel.split('_')[0]}: got a tensor of dtype {d.name}; convert it first, for example with .to(torch.{to}).")


def number_or_tensor(name: str) -> Callable[..., str]:
    """The node's name where PyTorch counts a number as second operand as overload 0 and a tensor as overload 1."""
    return lambda *kinds, **_: f"{name}Backward{int(kinds[1].__class__ is Meta)}"


def _by_tensors(name: str, both: int, first: int, second: int) -> Callable[..., str]:
    """The node's name where PyTorch has an overload for two tensors, one for a tensor first, and one for a tensor second."""
    def node(a: Any, b: Any) -> str:
        return f"{name}Backward{second if a.__class__ is not Meta else both if b.__class__ is Meta else first}"
    return node


def _takes_no_bool(kernel: str) -> Callable[..., tuple[DType, DType]]:
    def rule(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
        if promoted is bool_:
            raise unsupported(kernel, promoted)
        return promoted, promoted
    return rule


def _floats_only(kernel: str) -> Callable[..., tuple[DType, DType]]:
    def rule(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
        if not promoted.is_floating_point:
            raise unsupported(kernel, promoted)
        return promoted, promoted
    return rule


def _no_floats(kernel: str) -> Callable[..., tuple[DType, DType]]:
    def rule(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
        if promoted.is_floating_point:
            raise unsupported(kernel, promoted)
        return promoted, promoted
    return rule


def isnan_(x: Expr) -> Expr:
    """Whether a scalar expression is NaN."""
    return x.ne(x)


def zeros_like(x: Any) -> Any:
    """Zeros of the shape of ``x``."""
    return OPS["zeros_like"](x)


# ------------------------------------------------------------------ copies and casts


@pointwise(name="_copy", inplace=False)
def _copy(input):
    return input


@_copy.backward
def _(g):
    return g


@pointwise(inplace=False)
def clone(input, *, memory_format: Any = None):
    """A copy with memory of its own; gradients flow through."""
    return input


@clone.backward
def _(g):
    return g


@pointwise(name="_to_copy", inplace=False, dtype=lambda promoted, kinds, params: (promoted, params["dtype"]))
def _to_copy(input, dtype: DType):
    return input


@_to_copy.backward
def _(g):
    return g


_to_copy.operation.node = "ToCopy"


# ------------------------------------------------------------------ sums and products


def _with_alpha(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    alpha = params["alpha"]
    if isinstance(alpha, bool):
        if promoted is not bool_:
            raise RuntimeError("Boolean alpha only supported for Boolean results.")
    elif isinstance(alpha, float) and not promoted.is_floating_point:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.\n"
                           f"add/sub: the result is {promoted.name}; give alpha as an int.")
    return promoted, promoted


def _difference(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    bools = [k is bool or (k.__class__ is Meta and k.dtype is bool_) for k in kinds]
    if all(bools):
        raise RuntimeError("Subtraction, the `-` operator, with two bool tensors is not supported. "
                           "Use the `^` or `logical_xor()` operator instead.")
    if any(bools):
        raise RuntimeError("Subtraction, the `-` operator, with a bool tensor is not supported. "
                           "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.")
    return _with_alpha(promoted, kinds, params)


def _times(x: Any, alpha: Any) -> Any:
    return x if alpha is None else x * alpha


@pointwise(dtype=_with_alpha, numbers=True)
def add(input, other, *, alpha: float | None = None):
    """``input + alpha * other``, broadcast together; ``alpha`` is 1 when not given.  For bool: or."""
    if input.dtype is bool_:
        return input | (other if alpha is None else other & alpha)
    return input + _times(other, alpha)


@add.backward
def _(g, alpha):
    return g, _times(g, alpha)


@pointwise(dtype=_difference, numbers=True)
def sub(input, other, *, alpha: float | None = None):
    """``input - alpha * other``, broadcast together; ``alpha`` is 1 when not given."""
    return input - _times(other, alpha)


@sub.backward
def _(g, needs, alpha):
    return g, -_times(g, alpha) if needs[1] else None


@pointwise(dtype=_difference, inplace=False, node=lambda *kinds, **_: f"RsubBackward{int(kinds[1].__class__ is not Meta)}")
def rsub(input, other, *, alpha: float | None = None):
    """``other - alpha * input``."""
    return other - _times(input, alpha)


@rsub.backward
def _(g, needs, alpha):
    return -_times(g, alpha) if needs[0] else None, g


@pointwise(numbers=True)
def mul(input, other):
    """``input * other``, broadcast together.  For bool: and."""
    return input & other if input.dtype is bool_ else input * other


@mul.backward
def _(g, input, other, needs):
    return g * other if needs[0] else None, g * input if needs[1] else None


alias("subtract", "sub")
alias("multiply", "mul")


# ------------------------------------------------------------------ division


def _divisor(x: Expr) -> Expr:
    """An integer divisor, checked where it comes from a tensor (numbers are checked when the call is made)."""
    if x.op == "scalar":
        return x
    zero = ir.where(x.eq(0), ir.const(-1, int64), ir.const(0, int64))
    message = ("ZeroDivisionError|ZeroDivisionError\n"
               "an integer tensor was divided by a tensor that contains 0; mask the zeros, or divide floats.")
    return x + ir.checked(zero, 1, message).cast(x.dtype)


def _floor_quotient(a: Expr, b: Expr) -> Expr:
    """⌊a / b⌋ of floats, exact also where the quotient is rounded up to the next whole number (Python's algorithm)."""
    mod = E.fmod(a, b)
    quotient = (a - mod) / b
    quotient = ir.where(mod.ne(0) & (b < 0).ne(mod < 0), quotient - 1.0, quotient)
    whole = E.floor(quotient)
    whole = ir.where(ir.lift(0.5, a) < quotient - whole, whole + 1.0, whole)
    whole = ir.where(quotient.ne(0), whole, E.copysign(ir.lift(0.0, a), a / b))
    return ir.where(b.eq(0), a / b, whole)


def _quotient(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    mode = params.get("rounding_mode", "floor")
    if mode is None:
        return float_of(promoted), float_of(promoted)
    if mode not in ("floor", "trunc"):
        raise RuntimeError(f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{mode}'")
    if promoted is bool_:
        raise unsupported(f"div_{mode}_cpu", promoted)
    return promoted, promoted


@pointwise(dtype=_quotient, nonzero=True, numbers=True,
           node=lambda *kinds, rounding_mode: f"DivBackward{0 if rounding_mode is None else 2}")
def div(input, other, *, rounding_mode: Any = None):
    """``input / other``; ``rounding_mode``: None (true division, integers give floats), ``"trunc"`` or ``"floor"``."""
    if rounding_mode is None:
        return input / other
    if input.dtype.is_floating_point:
        return E.trunc(input / other) if rounding_mode == "trunc" else _floor_quotient(input, other)
    other = _divisor(other)
    return E.truncdiv(input, other) if rounding_mode == "trunc" else E.floordiv(input, other)


@div.backward
def _(g, input, other, needs, rounding_mode):
    if rounding_mode is not None:
        return zeros_like(g) if needs[0] else None, zeros_like(g) if needs[1] else None
    return g / other if needs[0] else None, -g * ((input / other) / other) if needs[1] else None


alias("divide", "div")
alias("true_divide", "div")


@pointwise(dtype=_quotient, nonzero=True, numbers=True)
def floor_divide(input, other):
    """The quotient rounded towards minus infinity; not differentiable."""
    return _floor_quotient(input, other) if input.dtype.is_floating_point else E.floordiv(input, _divisor(other))


def _rdiv(input: Any, other: Any) -> Any:
    """``other / input`` as the operator computes it."""
    return input.reciprocal() * other


OPS["_rdiv"] = _rdiv


@pointwise(dtype=_takes_no_bool("remainder_cpu"), nonzero=True, node=number_or_tensor("Remainder"), numbers=True)
def remainder(input, other):
    """The remainder with the sign of ``other`` (Python's ``%``)."""
    if not input.dtype.is_floating_point:
        return E.mod(input, _divisor(other))
    mod = E.fmod(input, other)
    return ir.where(mod.ne(0) & (other < 0).ne(mod < 0), mod + other, mod)


@remainder.backward
def _(g, input, other, needs):
    return g, -g * div(input, other, rounding_mode="floor") if needs[1] else None


@pointwise(dtype=_takes_no_bool("fmod_cpu"), nonzero=True, node=number_or_tensor("Fmod"))
def fmod(input, other):
    """The remainder with the sign of ``input`` (C's ``fmod``)."""
    return E.fmod(input, other) if input.dtype.is_floating_point else E.truncmod(input, _divisor(other))


@fmod.backward
def _(g, input, other, needs):
    return g, -g * div(input, other, rounding_mode="trunc") if needs[1] else None


# ------------------------------------------------------------------ sign and size


@pointwise
def neg(input):
    """``-input``."""
    if input.dtype is bool_:
        raise RuntimeError("Negation, the `-` operator, on a bool tensor is not supported. "
                           "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead.")
    return -input


@neg.backward
def _(g):
    return -g


alias("negative", "neg")


@public
def positive(input: Any) -> Any:
    """The tensor itself; bool is refused."""
    if input.dtype is bool_:
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


@pointwise(dtype=_takes_no_bool("abs_cpu"))
def abs(input):
    """The absolute value."""
    return E.abs(input) if input.dtype.is_signed else input


@abs.backward
def _(g, input):
    return g * sgn(input)


alias("absolute", "abs")


def _sign(x: Expr) -> Expr:
    if not x.dtype.is_signed:
        return x.ne(0).cast(x.dtype)
    one, zero = ir.lift(1, x), ir.lift(0, x)
    return ir.where(x > 0, one, zero) - ir.where(x < 0, one, zero)


@pointwise
def sign(input):
    """-1, 0 or 1."""
    return _sign(input)


@pointwise
def sgn(input):
    """-1, 0 or 1 (for real numbers the same as ``sign``)."""
    return _sign(input)


@sign.backward
@sgn.backward
def _(g):
    return zeros_like(g)


@pointwise(dtype="bool", inplace=False)
def signbit(input):
    """Whether the sign bit is set; true for -0.0."""
    if input.dtype.is_floating_point:
        return E.copysign(ir.lift(1.0, input), input) < 0
    return input < 0 if input.dtype.is_signed else input.ne(input)


@pointwise(dtype="float", node=lambda *kinds, **_: f"CopysignBackward{int(kinds[1].__class__ is not Meta)}")
def copysign(input, other):
    """The size of ``input`` with the sign of ``other``."""
    return E.copysign(input, other)


@copysign.backward
def _(g, y, input, needs):
    return where(input == 0, 0.0, g * (y / input)) if needs[0] else None, zeros_like(g) if needs[1] else None


# ------------------------------------------------------------------ powers and roots


def _integer_power(base: Expr, exponent: Expr) -> Expr:
    """Square and multiply over the exponent's bits; a negative exponent gives the truncated reciprocal."""
    one, zero = ir.lift(1, base), ir.lift(0, base)
    result, square, left = one, base, exponent
    for _ in range(8 * base.dtype.itemsize - (1 if base.dtype.is_signed else 0)):
        result = ir.where((left & 1).ne(0), result * square, result)
        square = square * square
        left = E.ushr(left, one)
    if not base.dtype.is_signed:
        return result
    alternating = ir.where((exponent & 1).ne(0), base, one)
    reciprocal = ir.where(base.eq(1) | base.eq(-1), alternating, zero)
    return ir.where(exponent < 0, reciprocal, result)


@pointwise(name="pow", dtype=_takes_no_bool("pow"), inplace=False,
           numbers=True, node=_by_tensors("Pow", both=1, first=0, second=2))
def _pow(input, exponent):
    """``input`` to the power ``exponent``; either may be a number."""
    return E.pow(input, exponent) if input.dtype.is_floating_point else _integer_power(input, exponent)


@_pow.backward
def _(g, y, input, exponent, needs):
    to_base = to_exponent = None
    if needs[0]:
        slope = exponent * _pow(input, exponent - 1)
        if not isinstance(exponent, NUMBERS):
            slope = where(exponent == 0, 0.0, slope)
        elif exponent == 0:
            slope = zeros_like(g)
        to_base = g * slope
    if needs[1]:
        if isinstance(input, NUMBERS):
            slope = y * math.log(input) if input > 0 else where(exponent >= 0, 0.0, -math.inf * y) if input == 0 else y * math.nan
            to_exponent = g * slope
        else:
            to_exponent = where((input == 0) & (exponent >= 0), 0.0, g * (y * log(input)))
    return to_base, to_exponent


@pointwise(name="_power_2", node="Pow", inplace=False)
def _power_2(input):
    return input * input


@pointwise(name="_double_product", inplace=False)
def _double_product(a, b):
    return a * b * 2.0


@_double_product.backward
def _(g, a, b, needs):
    return _double_product(g, b) if needs[0] else None, _double_product(g, a) if needs[1] else None


@_power_2.backward
def _(g, input):
    return _double_product(g, input)


@pointwise(name="_power_3", node="Pow", inplace=False)
def _power_3(input):
    return input * input * input


@_power_3.backward
def _(g, input):
    return g * (_power_2(input) * 3.0)


@pointwise(name="_power_half", node="Pow", inplace=False, dtype="float")
def _power_half(input):
    return E.sqrt(input)


@_power_half.backward
def _(g, y):
    return g * (0.5 / y)


@pointwise(name="_power_minus_1", node="Pow", inplace=False, dtype="float")
def _power_minus_1(input):
    return 1.0 / input


@_power_minus_1.backward
def _(g, y):
    return -g * _power_2(y)


@pointwise(name="_power_0", node="Pow", inplace=False)
def _power_0(input):
    return ir.lift(1, input)


@_power_0.backward
def _(g):
    return zeros_like(g)


@pointwise(name="_power_1", node="Pow", inplace=False)
def _power_1(input):
    return input


@_power_1.backward
def _(g):
    return g


# exponents for which a few multiplications do what the general power needs a logarithm and an exponential for
_CHEAP = {0: _power_0, 1: _power_1, 2: _power_2, 3: _power_3, 0.5: _power_half, -1: _power_minus_1}


def _cheap_power(input: Any, exponent: Any) -> Any:
    """The operation for this exponent when there is a cheap one; refuses what whole numbers cannot do."""
    c = exponent.__class__
    if c in definition.NUMBERS and isinstance(input, definition.Tensor):
        d = input._meta.dtype
        if exponent < 0 and c is int and not d.is_floating_point:
            raise RuntimeError("Integers to negative integer powers are not allowed.\n"
                               f"pow: {d.name} tensor to the power {exponent}; convert with .float() first, or write {float(exponent)}.")
        if d.is_floating_point or c is bool or (c is int and d is not bool_):
            return _CHEAP.get(exponent)
    return None


def pow(input: Any, exponent: Any, *, out: Any = None) -> Any:
    """``input`` to the power ``exponent``; either may be a number.

    Raises
    ------
    RuntimeError
        An integer tensor to a negative whole power.
    """
    cheap = _cheap_power(input, exponent)
    if out is not None:
        return _pow(input, exponent, out=out) if cheap is None else cheap(input, out=out)
    return _pow(input, exponent) if cheap is None else cheap(input)


@public(name="pow_", function=False)
def pow_(input: Any, exponent: Any) -> Any:
    """The in-place form of :func:`pow`."""
    cheap = _cheap_power(input, exponent)
    if cheap is None:
        return definition.inplace_call(_pow.operation, (input, exponent), {})
    return definition.inplace_call(cheap.operation, (input,), {})


pow.operation = _pow.operation  # type: ignore[attr-defined]
OPS["pow"] = pow


@derived(inplace=True)
def square(input: Any) -> Any:
    """``input ** 2``."""
    return pow(input, 2)


@derived(inplace=True)
def float_power(input: Any, exponent: Any) -> Any:
    """``input ** exponent`` computed in float64."""
    x, e = (v.to(float64) if isinstance(v, definition.Tensor) else float(v) for v in (input, exponent))
    return pow(x, e)


@pointwise(dtype="float")
def sqrt(input):
    """The square root."""
    return E.sqrt(input)


@sqrt.backward
def _(g, y):
    return g / (y * 2.0)


@pointwise(dtype="float")
def rsqrt(input):
    """``1 / sqrt(input)``."""
    return E.rsqrt(input)


@rsqrt.backward
def _(g, y):
    return g * (_power_3(y) * -0.5)


@pointwise(dtype="float")
def reciprocal(input):
    """``1 / input``."""
    return 1.0 / input


@reciprocal.backward
def _(g, y):
    return -g * _power_2(y)


@pointwise(dtype=_floats_only("hypot_cpu"), numbers=())
def hypot(input, other):
    """``sqrt(input² + other²)`` without overflow on the way."""
    return E.hypot(input, other)


@hypot.backward
def _(g, y, input, other, needs):
    return g * (input / y) if needs[0] else None, g * (other / y) if needs[1] else None


# ------------------------------------------------------------------ exponentials and logarithms


@pointwise(dtype="float")
def exp(input):
    """e to the power ``input``."""
    return E.exp(input)


@exp.backward
def _(g, y):
    return g * y


@pointwise(dtype="float")
def exp2(input):
    """2 to the power ``input``."""
    return E.exp2(input)


@exp2.backward
def _(g, y):
    return g * y * LN2


@pointwise(dtype="float")
def expm1(input):
    """``exp(input) - 1``, exact near 0."""
    return E.expm1(input)


@expm1.backward
def _(g, y):
    return g * (y + 1)


@pointwise(dtype="float")
def log(input):
    """The natural logarithm."""
    return E.log(input)


@log.backward
def _(g, input):
    return g / input


@pointwise(dtype="float")
def log2(input):
    """The logarithm to base 2."""
    return E.log2(input)


@log2.backward
def _(g, input):
    return g / (input * LN2)


@pointwise(dtype="float")
def log10(input):
    """The logarithm to base 10."""
    return E.log10(input)


@log10.backward
def _(g, input):
    return g / (input * math.log(10))


@pointwise(dtype="float")
def log1p(input):
    """``log(1 + input)``, exact near 0."""
    return E.log1p(input)


@log1p.backward
def _(g, input):
    return g / (input + 1)


@pointwise(dtype=_floats_only("logaddexp_cpu"), inplace=False, numbers=())
def logaddexp(input, other):
    """``log(exp(input) + exp(other))`` without overflow."""
    total = ir.maximum(input, other) + E.log1p(E.exp(-E.abs(input - other)))
    # equal infinities: their difference is NaN
    return ir.where(input.eq(other) & E.abs(input).eq(math.inf), input, total)


@logaddexp.backward
def _(g, input, other, needs):
    return g / (1 + exp(other - input)) if needs[0] else None, g / (1 + exp(input - other)) if needs[1] else None


@pointwise(dtype=_floats_only("logaddexp2_cpu"), inplace=False, numbers=())
def logaddexp2(input, other):
    """``log2(2**input + 2**other)`` without overflow."""
    total = ir.maximum(input, other) + E.log1p(E.exp2(-E.abs(input - other))) * (1 / LN2)
    return ir.where(input.eq(other) & E.abs(input).eq(math.inf), input, total)


@logaddexp2.backward
def _(g, input, other, needs):
    return g / (1 + exp2(other - input)) if needs[0] else None, g / (1 + exp2(input - other)) if needs[1] else None


@pointwise(dtype="float", numbers=True, node=_by_tensors("Xlogy", both=0, first=2, second=1))
def xlogy(input, other):
    """``input * log(other)``, 0 where ``input`` is 0 (unless ``other`` is NaN)."""
    return ir.where(isnan_(other), other, ir.where(input.eq(0), ir.lift(0.0, input), input * E.log(other)))


@xlogy.backward
def _(g, input, other, needs):
    to_input = to_other = None
    if needs[0]:
        if isinstance(other, NUMBERS):
            other = OPS["full"]((), other, dtype=g.dtype)
        to_input = where((input == 0) & (other <= 0), 0.0, g * log(other))
    if needs[1]:
        to_other = g * input / other
    return to_input, to_other


@pointwise(dtype="float")
def sigmoid(input):
    """``1 / (1 + exp(-input))``."""
    return E.sigmoid(input)


@sigmoid.backward
def _(g, y):
    return _sigmoid_backward(g, y)


@pointwise(name="_sigmoid_backward", inplace=False)
def _sigmoid_backward(grad, output):
    return grad * ((1.0 - output) * output)


@_sigmoid_backward.backward
def _(g, grad, output, needs):
    return _sigmoid_backward(g, output) if needs[0] else None, g * grad * (1 - 2 * output) if needs[1] else None


@pointwise(name="_check_unit_interval", node="Identity", inplace=False)
def _check_unit_interval(input):
    """``input`` itself; an execution error when an element is not in 0 .. 1."""
    inside = (ir.lift(0, input) <= input) & (input <= 1)
    wrong = ir.where(inside, ir.const(0, ir.int64), ir.const(1, ir.int64))
    found = ir.checked(wrong, 1, "RuntimeError|all elements of input should be between 0 and 1\nBCELoss needs probabilities in 0..1. "
                       "Apply sigmoid first, or better use BCEWithLogitsLoss on the raw outputs.")
    return input + found.cast(input.dtype)


@_check_unit_interval.backward
def _(g):
    return g


@pointwise(dtype="float")
def logit(input, eps: float | None = None):
    """``log(p / (1 - p))`` of ``p = input``, clamped to ``[eps, 1 - eps]`` when ``eps`` is given."""
    p = input if eps is None else ir.where(input < eps, eps, ir.where(1.0 - eps < input, 1.0 - eps, input))
    return E.log(p / (1.0 - p))


@logit.backward
def _(g, input, eps):
    inside = g / (input * (1 - input))
    if eps is None or eps < 0:
        return where((input < 0) | (input > 1), math.nan, inside)
    return where((input < eps) | (input > 1 - eps), 0.0, inside)


# ------------------------------------------------------------------ trigonometry


@pointwise(dtype="float")
def sin(input):
    """The sine of radians."""
    return E.sin(input)


@sin.backward
def _(g, input):
    return g * cos(input)


@pointwise(dtype="float")
def cos(input):
    """The cosine of radians."""
    return E.cos(input)


@cos.backward
def _(g, input):
    return g * -sin(input)


@pointwise(dtype="float")
def tan(input):
    """The tangent of radians."""
    return E.tan(input)


@tan.backward
def _(g, y):
    return g * (1 + _power_2(y))


@pointwise(dtype="float")
def asin(input):
    """The angle whose sine is ``input``."""
    return E.asin(input)


@asin.backward
def _(g, input):
    return g * rsqrt(1 - _power_2(input))


@pointwise(dtype="float")
def acos(input):
    """The angle whose cosine is ``input``."""
    return E.acos(input)


@acos.backward
def _(g, input):
    return g * -rsqrt(1 - _power_2(input))


@pointwise(dtype="float")
def atan(input):
    """The angle whose tangent is ``input``."""
    return E.atan(input)


@atan.backward
def _(g, input):
    return g / (1 + _power_2(input))


@pointwise(dtype="float", numbers=())
def atan2(input, other):
    """The angle of the point (``other``, ``input``), in all four quadrants."""
    return E.atan2(input, other)


@atan2.backward
def _(g, input, other, needs):
    scale = g / (_power_2(input) + _power_2(other))
    return scale * other if needs[0] else None, scale * -input if needs[1] else None


@pointwise(dtype="float")
def sinh(input):
    """The hyperbolic sine."""
    return E.sinh(input)


@sinh.backward
def _(g, input):
    return g * cosh(input)


@pointwise(dtype="float")
def cosh(input):
    """The hyperbolic cosine."""
    return E.cosh(input)


@cosh.backward
def _(g, input):
    return g * sinh(input)


@pointwise(dtype="float")
def tanh(input):
    """The hyperbolic tangent."""
    return E.tanh(input)


@tanh.backward
def _(g, y):
    return _tanh_backward(g, y)


@pointwise(name="_tanh_backward", inplace=False)
def _tanh_backward(grad, output):
    return grad * (1.0 - output * output)


@_tanh_backward.backward
def _(g, grad, output, needs):
    return _tanh_backward(g, output) if needs[0] else None, -g * _double_product(grad, output) if needs[1] else None


@pointwise(dtype="float")
def asinh(input):
    """The inverse of ``sinh``."""
    return E.asinh(input)


@asinh.backward
def _(g, input):
    return g * rsqrt(_power_2(input) + 1)


@pointwise(dtype="float")
def acosh(input):
    """The inverse of ``cosh``."""
    return E.acosh(input)


@acosh.backward
def _(g, input):
    return g * rsqrt(_power_2(input) - 1)


@pointwise(dtype="float")
def atanh(input):
    """The inverse of ``tanh``."""
    return E.atanh(input)


@atanh.backward
def _(g, input):
    return g / (1 - _power_2(input))


for _short in ("sin", "cos", "tan", "sinh", "cosh", "tanh"):
    alias("arc" + _short, "a" + _short)
alias("arctan2", "atan2")


@pointwise(dtype="float", node="Deg2RadBackward0")
def deg2rad(input):
    """Degrees to radians."""
    return input * (math.pi / 180)


@deg2rad.backward
def _(g):
    return g * (math.pi / 180)


@pointwise(dtype="float", node="Rad2DegBackward0")
def rad2deg(input):
    """Radians to degrees."""
    return input * (180 / math.pi)


@rad2deg.backward
def _(g):
    return g * (180 / math.pi)


@pointwise(dtype="float")
def sinc(input):
    """``sin(π·input) / (π·input)``, 1 at 0."""
    angle = input * math.pi
    return ir.where(input.eq(0), ir.lift(1.0, input), E.sin(angle) / angle)


@sinc.backward
def _(g, input):
    angle = input * math.pi
    return where(input == 0, 0.0, g * ((angle * cos(angle) - sin(angle)) / (angle * input)))


# ------------------------------------------------------------------ special functions


@pointwise(dtype="float")
def erf(input):
    """The error function."""
    return E.erf(input)


@erf.backward
def _(g, input):
    return g * (exp(-_power_2(input)) * (2 / math.sqrt(math.pi)))


@pointwise(dtype="float")
def erfc(input):
    """``1 - erf(input)``, exact in the tail."""
    return E.erfc(input)


@erfc.backward
def _(g, input):
    return g * (exp(-_power_2(input)) * (-2 / math.sqrt(math.pi)))


@pointwise(dtype="float")
def erfinv(input):
    """The inverse of ``erf``."""
    return E.erfinv(input)


@erfinv.backward
def _(g, y):
    return g * (exp(_power_2(y)) * (math.sqrt(math.pi) / 2))


@pointwise(dtype="float")
def lgamma(input):
    """The logarithm of the absolute value of the gamma function."""
    return E.lgamma(input)


@lgamma.backward
def _(g, input):
    return g * digamma(input)


@pointwise(dtype="float")
def digamma(input):
    """The derivative of ``lgamma``."""
    return E.digamma(input)


@digamma.backward
def _(g, input):
    return g * _polygamma(input, 1)


# ------------------------------------------------------------------ rounding


def _rounding(kernel: str) -> Callable[..., tuple[DType, DType]]:
    return _takes_no_bool(kernel)


@pointwise(dtype=_rounding("floor_vml_cpu"))
def floor(input):
    """The largest whole number that is not above; integers are returned as they are."""
    return E.floor(input) if input.dtype.is_floating_point else input


@pointwise(dtype=_rounding("ceil_vml_cpu"))
def ceil(input):
    """The smallest whole number that is not below; integers are returned as they are."""
    return E.ceil(input) if input.dtype.is_floating_point else input


@pointwise(dtype=_rounding("trunc_vml_cpu"))
def trunc(input):
    """Rounded towards zero; integers are returned as they are."""
    return E.trunc(input) if input.dtype.is_floating_point else input


def _round_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    if promoted is bool_ or (params["decimals"] and not promoted.is_floating_point):
        raise unsupported("round_cpu", promoted)
    return promoted, promoted


@pointwise(dtype=_round_dtype, node=lambda input, decimals: f"RoundBackward{int(decimals != 0)}")
def round(input, *, decimals: Any = 0):
    """Rounded to ``decimals`` places, halves to even."""
    if not input.dtype.is_floating_point:
        return input
    if decimals == 0:
        return E.round(input)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    return E.round(input * scale) / scale if decimals > 0 else E.round(input / scale) * scale


@floor.backward
@ceil.backward
@trunc.backward
@round.backward
def _(g):
    return zeros_like(g)


alias("fix", "trunc")


@pointwise(dtype=_floats_only("frac_cpu"))
def frac(input):
    """The part after the point, with the sign of ``input``."""
    return input - E.trunc(input)


@frac.backward
def _(g):
    return g


# ------------------------------------------------------------------ the larger and the smaller


def _larger(a: Expr, b: Expr) -> Expr:
    return a | b if a.dtype is bool_ else ir.maximum(a, b)


def _smaller(a: Expr, b: Expr) -> Expr:
    return a & b if a.dtype is bool_ else ir.minimum(a, b)


@pointwise(inplace=False, numbers=())
def maximum(input, other):
    """The larger of two; NaN if either is NaN."""
    return _larger(input, other)


@maximum.backward
def _(g, input, other, needs):
    return _share(g, input, other) if needs[0] else None, _share(g, other, input) if needs[1] else None


@pointwise(inplace=False, numbers=())
def minimum(input, other):
    """The smaller of two; NaN if either is NaN."""
    return _smaller(input, other)


@minimum.backward
def _(g, input, other, needs):
    return _share(g, other, input) if needs[0] else None, _share(g, input, other) if needs[1] else None


@pointwise(name="_share", inplace=False)
def _share(grad, winner, loser):
    """The part of ``grad`` for ``winner``: all of it where it is larger, half at ties, none where it is smaller."""
    return ir.where(winner < loser, ir.lift(0.0, grad), ir.where(winner.eq(loser), grad * 0.5, grad))


@_share.backward
def _(g, winner, loser):
    return _share(g, winner, loser), None, None


def _or_the_other(choose: Callable[[Expr, Expr], Expr], a: Expr, b: Expr) -> Expr:
    """``choose(a, b)``, but a NaN loses to a number."""
    if not a.dtype.is_floating_point:
        return choose(a, b)
    return ir.where(isnan_(b), a, ir.where(isnan_(a), b, choose(a, b)))


@pointwise(inplace=False, numbers=())
def fmax(input, other):
    """The larger of two; a NaN loses to a number."""
    return _or_the_other(_larger, input, other)


@fmax.backward
def _(g, input, other):
    mask = (input >= other) | isnan(other)
    return where(mask, g, 0.0), where(mask, 0.0, g)


@pointwise(inplace=False, numbers=())
def fmin(input, other):
    """The smaller of two; a NaN loses to a number."""
    return _or_the_other(_smaller, input, other)


@fmin.backward
def _(g, input, other):
    mask = (input <= other) | isnan(other)
    return where(mask, g, 0.0), where(mask, 0.0, g)


def _clamp_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    if all(k is None for k in kinds[1:]):
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if promoted is bool_ and (len(kinds) == 3 or kinds[1].__class__ is not Meta):
        raise unsupported("clamp_scalar_cpu", promoted)
    return promoted, promoted


def _overload(name: str, number: int, tensor: int) -> Callable[..., str]:
    return lambda *kinds, **_: f"{name}Backward{tensor if any(k.__class__ is Meta for k in kinds[1:]) else number}"


@pointwise(dtype=_clamp_dtype, node=_overload("Clamp", 1, 0))
def clamp(input, min=None, max=None):
    """``input`` limited to the range from ``min`` to ``max`` (numbers or tensors; ``max`` where they cross)."""
    x = input if min is None else ir.maximum(input, min)
    return x if max is None else ir.minimum(x, max)


@clamp.backward
def _(g, input, min, max, needs):
    to_min = to_max = None
    if needs[1]:
        below = input < min
        to_min = where(below if max is None else below & (min < max), g, 0.0)
    if needs[2]:
        above = input > max
        to_max = where(above if min is None else above | (max < min), g, 0.0)
    return _clamp_backward(g, input, min, max) if needs[0] else None, to_min, to_max


@pointwise(name="_clamp_backward", inplace=False)
def _clamp_backward(grad, x, low=None, high=None):
    inside: Any = None if low is None else low <= x
    if high is not None:
        inside = x <= high if inside is None else inside & (x <= high)
    return ir.where(inside, grad, ir.lift(0.0, grad))


@_clamp_backward.backward
def _(g, x, low, high):
    return _clamp_backward(g, x, low, high), None, None, None


@pointwise(dtype=_clamp_dtype, node=_overload("ClampMin", 0, 1))
def clamp_min(input, min):
    """``input``, but at least ``min``."""
    return _larger(input, min)


@clamp_min.backward
def _(g, input, min, needs):
    return _clamp_backward(g, input, min) if needs[0] else None, where(input < min, g, 0.0) if needs[1] else None


@pointwise(dtype=_clamp_dtype, node=_overload("ClampMax", 0, 1))
def clamp_max(input, max):
    """``input``, but at most ``max``."""
    return _smaller(input, max)


@clamp_max.backward
def _(g, input, max, needs):
    return _clamp_backward(g, input, None, max) if needs[0] else None, where(input > max, g, 0.0) if needs[1] else None


alias("clip", "clamp")


@pointwise
def relu(input):
    """``input`` where it is positive, else 0."""
    if input.dtype is bool_:
        raise RuntimeError("Boolean inputs not supported for relu")
    return ir.maximum(input, 0)


@relu.backward
def _(g, y):
    return _threshold_backward(g, y, 0)


def _threshold_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    return kinds[0].dtype, kinds[0].dtype


@pointwise(dtype=_threshold_dtype)
def threshold(input, threshold, value):
    """``input`` where it is above ``threshold``, else ``value``."""
    return ir.where(input <= threshold, value, input)


@threshold.backward
def _(g, input, threshold):
    return _threshold_backward(g, input, threshold), None, None


@pointwise(name="_threshold_backward", inplace=False)
def _threshold_backward(grad, x, threshold):
    return ir.where(x <= threshold, ir.lift(0.0, grad), grad)


@_threshold_backward.backward
def _(g, x, threshold):
    return _threshold_backward(g, x, threshold), None, None


# ------------------------------------------------------------------ choosing


def _where_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    condition = kinds[0].dtype
    if condition is not bool_ and condition.name != "uint8":
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got a tensor with dtype {title(condition)}\n"
                           "where: make it one with a comparison (x != 0) or .bool().")
    return promoted, promoted


@pointwise(name="where", dtype=_where_dtype, raw=("condition",), inplace=False, node="Where")
def _where(condition, input, other):
    return ir.where(condition.cast(bool_), input, other)


@_where.backward
def _(g, condition, needs):
    return None, where(condition, g, 0.0) if needs[1] else None, where(condition, 0.0, g) if needs[2] else None


def where(condition: Any, input: Any = None, other: Any = None, *, out: Any = None) -> Any:
    """``input`` where ``condition`` is true, else ``other``; with the condition alone, the indices where it is true."""
    if input is None and other is None:
        return OPS["nonzero"](condition, as_tuple=True)
    return _where(condition, input, other) if out is None else _where(condition, input, other, out=out)


def _where_method(self: Any, condition: Any, other: Any) -> Any:
    """The tensor where ``condition`` is true, else ``other``."""
    return _where(condition, self, other)


where.as_method = _where_method  # type: ignore[attr-defined]
public(where)


def _masked_fill_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    mask, value = kinds[1], kinds[2]
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_fill_ only supports boolean masks, but got mask with dtype {mask.dtype.name}\n"
                           "masked_fill: make the mask with a comparison, or .bool().")
    if value.__class__ is Meta and value.ndim:
        raise RuntimeError(f"masked_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")
    return kinds[0].dtype, kinds[0].dtype


@pointwise(dtype=_masked_fill_dtype, numbers=("value",), raw=("mask",), truncate=True,
           node=lambda *kinds: f"MaskedFillBackward{int(kinds[2].__class__ is Meta)}")
def masked_fill(input, mask, value):
    """``input`` with ``value`` (a number or 0-d tensor) where ``mask`` is true."""
    return ir.where(mask, value, input)


@masked_fill.backward
def _(g, mask, needs):
    return masked_fill(g, mask, 0.0) if needs[0] else None, None, where(mask, g, 0.0).sum() if needs[2] else None


def _lerp_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    d = kinds[0].dtype
    for k, name in zip(kinds[1:], ("end", "weight"), strict=True):
        if k.__class__ is Meta and k.dtype is not d:
            raise RuntimeError(f"expected dtype {_c_name(d)} for `{name}` but got dtype {_c_name(k.dtype)}")
    if not d.is_floating_point:
        raise unsupported("lerp_kernel_scalar", d)
    return d, d


def _c_name(d: DType) -> str:
    names = {"float32": "float", "float64": "double", "int64": "long int", "int32": "int", "float16": "c10::Half", "bfloat16": "c10::BFloat16"}
    return names.get(d.name, d.name)


@pointwise(dtype=_lerp_dtype, numbers=("weight",), node=lambda *kinds, **_: f"LerpBackward{int(kinds[2].__class__ is Meta)}")
def lerp(input, end, weight):
    """``input + weight * (end - input)``, exact at both ends."""
    difference = end - input
    return ir.where(E.abs(weight) < 0.5, input + weight * difference, end - difference * (1.0 - weight))


@lerp.backward
def _(g, input, end, weight, needs):
    return g * (1 - weight) if needs[0] else None, g * weight if needs[1] else None, g * (end - input) if needs[2] else None


# ------------------------------------------------------------------ three operands


@pointwise(dtype=_takes_no_bool("addcmul_cpu_out"), numbers=())
def addcmul(input, tensor1, tensor2, *, value: float | None = None):
    """``input + value * tensor1 * tensor2``."""
    return input + _times(tensor1, value) * tensor2


@addcmul.backward
def _(g, tensor1, tensor2, needs, value):
    return g, _times(g * tensor2, value) if needs[1] else None, _times(g * tensor1, value) if needs[2] else None


def _addcdiv_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    if not any(k.dtype.is_floating_point for k in kinds[1:]):
        raise RuntimeError("Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a true division of "
                           "tensor1 and tensor2.\naddcdiv: tensor1 and tensor2 are integers; use input + value * torch.trunc(tensor1 / tensor2), "
                           "or floats.")
    return promoted, promoted


@pointwise(dtype=_addcdiv_dtype, numbers=())
def addcdiv(input, tensor1, tensor2, *, value: float | None = None):
    """``input + value * tensor1 / tensor2``."""
    return input + _times(tensor1, value) / tensor2


@addcdiv.backward
def _(g, tensor1, tensor2, needs, value):
    return g, _times(g / tensor2, value) if needs[1] else None, -_times(g, value) * (tensor1 / tensor2 / tensor2) if needs[2] else None


# ------------------------------------------------------------------ floating-point tools


@derived(inplace=True)
def nan_to_num(input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None) -> Any:
    """NaN and infinities replaced: by 0, and by the largest and smallest number of the dtype, unless given."""
    d = input.dtype
    if not d.is_floating_point:
        return clone(input)
    limits = finfo(d)
    return _nan_to_num(input, 0.0 if nan is None else float(nan), float(limits.max if posinf is None else posinf),
                       float(limits.min if neginf is None else neginf))


@pointwise(name="_nan_to_num", node="NanToNum", inplace=False)
def _nan_to_num(input, nan: float, posinf: float, neginf: float):
    return ir.where(isnan_(input), nan, ir.where(input.eq(math.inf), posinf, ir.where(input.eq(-math.inf), neginf, input)))


@_nan_to_num.backward
def _(g, input):
    return where(isfinite(input), g, 0.0)


@derived(inplace=True)
def ldexp(input: Any, other: Any) -> Any:
    """``input * 2**other``."""
    return input * pow(2.0, other)


def _float_bits(x: Expr) -> tuple[Expr, DType, int, int]:
    """(bits, integer type, width of the mantissa, exponent bias) of a float value."""
    if x.dtype is float64:
        return ir.bitcast(x, int64), int64, 52, 1023
    return ir.bitcast(x, int32), int32, 23, 127


def _split_float(x: Expr) -> tuple[Expr, Expr]:
    """Mantissa in [0.5, 1) and exponent, as C's ``frexp``."""
    scaled = E.abs(x) < (2.0 ** -1022 if x.dtype is float64 else 2.0 ** -126)
    normal = ir.where(scaled, x * 2.0 ** 64, x)
    bits, d, width, bias = _float_bits(normal)
    field = E.shr(bits, ir.const(width, d)) & ir.const(2 * bias + 1, d)
    exponent = field - (bias - 1) - ir.where(scaled, ir.const(64, d), ir.const(0, d))
    cleared = bits & ir.const(~((2 * bias + 1) << width), d)
    mantissa = ir.bitcast(cleared | ir.const((bias - 1) << width, d), x.dtype)
    special = x.eq(0) | isnan_(x) | E.abs(x).eq(math.inf)
    return ir.where(special, x, mantissa), ir.where(special, ir.const(0, d), exponent)


def _frexp_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    if not promoted.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return promoted, promoted


@pointwise(name="_frexp_mantissa", node="Frexp", dtype=_frexp_dtype, inplace=False)
def _frexp_mantissa(input, exponent):
    return _split_float(input)[0]


@_frexp_mantissa.backward
def _(g, exponent):
    return g / pow(2.0, exponent), None


@pointwise(name="_frexp_exponent", dtype=lambda p, k, a: (_frexp_dtype(p, k, a)[0], int32), inplace=False)
def _frexp_exponent(input):
    return _split_float(input)[1]


Frexp = named("frexp", "mantissa", "exponent")


@derived
def frexp(input: Any) -> Any:
    """Mantissa in [0.5, 1) and integer exponent with ``input = mantissa * 2**exponent``, as a named tuple."""
    exponent = _frexp_exponent(input)
    return Frexp(_frexp_mantissa(input, exponent), exponent)


@pointwise(dtype=_floats_only("nextafter_cpu"), numbers=())
def nextafter(input, other):
    """The next representable number after ``input`` towards ``other``."""
    return E.nextafter(input, other)


def _no_derivative(op: Any) -> None:
    """The result takes part in a graph, but its gradient is an error, as in PyTorch."""
    def rule(g):
        raise RuntimeError(f"derivative for aten::{op.operation.name} is not implemented")
    op.backward(rule)


@nextafter.backward
def _(g, needs):
    return g, zeros_like(g) if needs[1] else None


_no_derivative(floor_divide)


def _heaviside_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    if len({k.dtype for k in kinds if k.__class__ is Meta}) > 1:
        raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    return promoted, promoted


@pointwise(dtype=_heaviside_dtype, numbers=())
def heaviside(input, values):
    """0 where ``input`` is negative, 1 where it is positive, ``values`` where it is 0."""
    return ir.where(input.eq(0), values, (ir.lift(0, input) < input).cast(input.dtype))


# ------------------------------------------------------------------ comparisons


@pointwise(dtype="bool")
def eq(input, other):
    """Whether the elements are equal."""
    return input.eq(other)


@pointwise(dtype="bool")
def ne(input, other):
    """Whether the elements differ."""
    return input.ne(other)


@pointwise(dtype="bool")
def lt(input, other):
    """Whether ``input < other``."""
    return input < other


@pointwise(dtype="bool")
def le(input, other):
    """Whether ``input <= other``."""
    return input <= other


@pointwise(dtype="bool")
def gt(input, other):
    """Whether ``input > other``."""
    return input > other


@pointwise(dtype="bool")
def ge(input, other):
    """Whether ``input >= other``."""
    return input >= other


for _long, _short in (("not_equal", "ne"), ("less", "lt"), ("less_equal", "le"), ("greater", "gt"), ("greater_equal", "ge")):
    alias(_long, _short)


def _isclose_dtype(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
    a, b = kinds
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{title(a.dtype)} did not match {title(b.dtype)}\n"
                           "isclose: both tensors must have one dtype; convert one of them.")
    for name in ("rtol", "atol"):
        if params[name] < 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {params[name]}")
    return promoted, bool_


@pointwise(dtype=_isclose_dtype, numbers=(), inplace=False)
def isclose(input, other, rtol: Any = 1e-05, atol: Any = 1e-08, equal_nan: Any = False):
    """Whether ``|input - other| <= atol + rtol * |other|``; infinities only to themselves, NaN to NaN if ``equal_nan``."""
    close = input.eq(other)
    if not input.dtype.is_floating_point:
        if rtol == 0 and atol == 0:
            return close
        input, other = input.cast(float64), other.cast(float64)
    elif equal_nan:
        close = close | (isnan_(input) & isnan_(other))
    difference = E.abs(input - other)
    return close | ((difference < math.inf) & (difference <= E.abs(other * float(rtol)) + float(atol)))


@public
def allclose(input: Any, other: Any, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether every pair of elements is close in the sense of :func:`isclose`; looks at the values."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@public
def equal(input: Any, other: Any) -> bool:
    """Whether two tensors have one shape and equal elements; looks at the values."""
    definition.common_device("equal", (input._meta, other._meta))
    return input.shape == other.shape and bool(eq(input, other).all())


@pointwise(dtype="bool", inplace=False)
def isnan(input):
    """Whether the elements are NaN."""
    return isnan_(input)


@pointwise(dtype="bool", inplace=False)
def isinf(input):
    """Whether the elements are infinite."""
    return E.abs(input).eq(math.inf) if input.dtype.is_floating_point else input.ne(input)


@pointwise(dtype="bool", inplace=False)
def isfinite(input):
    """Whether the elements are neither infinite nor NaN."""
    return E.abs(input) < math.inf if input.dtype.is_floating_point else input.eq(input)


@pointwise(dtype="bool", inplace=False)
def isposinf(input):
    """Whether the elements are +inf."""
    return input.eq(math.inf) if input.dtype.is_floating_point else input.ne(input)


@pointwise(dtype="bool", inplace=False)
def isneginf(input):
    """Whether the elements are -inf."""
    return input.eq(-math.inf) if input.dtype.is_floating_point else input.ne(input)


@pointwise(dtype="bool", inplace=False)
def isreal(input):
    """Whether the elements are real numbers: always, while there are no complex tensors."""
    return input.eq(input) | input.ne(input)


# ------------------------------------------------------------------ logic and bits


@pointwise(dtype="bool", numbers=())
def logical_and(input, other):
    """Whether both elements are nonzero."""
    return input.cast(bool_) & other.cast(bool_)


@pointwise(dtype="bool", numbers=())
def logical_or(input, other):
    """Whether an element is nonzero."""
    return input.cast(bool_) | other.cast(bool_)


@pointwise(dtype="bool", numbers=())
def logical_xor(input, other):
    """Whether exactly one element is nonzero."""
    return input.cast(bool_) ^ other.cast(bool_)


@pointwise(dtype="bool")
def logical_not(input):
    """Whether the element is zero."""
    return ~input.cast(bool_)


@pointwise(dtype=_no_floats("bitwise_and_cpu"), numbers=True)
def bitwise_and(input, other):
    """Bits set in both; for bool: and."""
    return input & other


@pointwise(dtype=_no_floats("bitwise_or_cpu"), numbers=True)
def bitwise_or(input, other):
    """Bits set in either; for bool: or."""
    return input | other


@pointwise(dtype=_no_floats("bitwise_xor_cpu"), numbers=True)
def bitwise_xor(input, other):
    """Bits set in exactly one; for bool: exclusive or."""
    return input ^ other


@pointwise(dtype=_no_floats("bitwise_not_cpu"))
def bitwise_not(input):
    """Every bit inverted; for bool: not."""
    return ~input


def _shift_dtype(kernel: str) -> Callable[..., tuple[DType, DType]]:
    def rule(promoted: DType, kinds: Sequence[Any], params: dict[str, Any]) -> tuple[DType, DType]:
        if promoted.is_floating_point or promoted is bool_:
            raise unsupported(kernel, promoted)
        return promoted, promoted
    return rule


def _in_range(amount: Expr) -> Expr:
    """Whether a shift is by fewer bits than there are (a negative one counts as too many)."""
    inside = amount < 8 * amount.dtype.itemsize
    return inside & (ir.lift(0, amount) <= amount) if amount.dtype.is_signed else inside


@pointwise(dtype=_shift_dtype("lshift_cpu"), numbers=True)
def bitwise_left_shift(input, other):
    """``input`` with its bits moved up by ``other`` places; 0 when that is all of them."""
    inside = _in_range(other)
    zero = ir.lift(0, input)
    return ir.where(inside, input << ir.where(inside, other, zero), zero)


@pointwise(dtype=_shift_dtype("rshift_cpu"), numbers=True)
def bitwise_right_shift(input, other):
    """``input`` with its bits moved down by ``other`` places, the sign kept."""
    last = ir.lift(8 * input.dtype.itemsize - 1, input)
    amount = ir.where(_in_range(other), other, last)
    if not input.dtype.is_signed:
        return ir.where(_in_range(other), E.ushr(input, amount), ir.lift(0, input))
    return input >> amount


OPS["__lshift__"] = bitwise_left_shift
OPS["__rshift__"] = bitwise_right_shift


def _whole(a: Meta, b: Meta) -> Meta:
    d = promote_kinds([a, b])
    if d.is_floating_point or d is bool_:
        raise unsupported("gcd_cpu", d)
    return fresh(a, broadcast_shapes(a.shape, b.shape), d)


def _common(f: str) -> Callable[..., None]:
    def run(ins: list[Any], outs: list[Any], scalars: list[Any]) -> None:
        import numpy as np

        d = outs[0].dtype
        getattr(np, f)(ins[0].astype(d), ins[1].astype(d), out=outs[0])
    return run


def _two(input, other):
    """Both operands."""


gcd = host(outs=_whole, like=_two, name="gcd", inplace=True)(_common("gcd"))
gcd.__doc__ = "The greatest common divisor."
lcm = host(outs=_whole, like=_two, name="lcm", inplace=True)(_common("lcm"))
lcm.__doc__ = "The least common multiple."


# ------------------------------------------------------------------ polygamma and Bessel functions

# B(2k) / (2k)! of the Euler-Maclaurin formula
_BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600, -3617 / 10670622842880000)
_TERMS = 9


def _hurwitz(s: int, q: Expr) -> Expr:
    """ζ(s, q) for whole ``s > 1`` and ``q > 0``: the first terms, then the Euler-Maclaurin formula for the rest."""
    def to_minus(x: Expr, n: int) -> Expr:
        power = x
        for _ in range(n - 1):
            power = power * x
        return 1.0 / power

    total = to_minus(q, s)
    for k in range(1, _TERMS):
        total = total + to_minus(q + float(k), s)
    a = q + float(_TERMS)
    last = to_minus(a, s)
    total = total + last * a * (1.0 / (s - 1)) + last * 0.5
    rising = float(s)
    term = last / a
    for k, b in enumerate(_BERNOULLI):
        total = total + term * (rising * b)
        rising *= (s + 2 * k + 1) * (s + 2 * k + 2)
        term = term / (a * a)
    return total


@pointwise(name="_polygamma", node="Polygamma", dtype="float", inplace=False)
def _polygamma(input, n: int):
    """ψ⁽ⁿ⁾; below 1/2 by the reflection formula, with the derivatives of the cotangent as polynomials in it."""
    if n == 0:
        return E.digamma(input)
    sign_ = -1.0 if n % 2 == 0 else 1.0
    right = _hurwitz(n + 1, ir.where(input < 0.5, 1.0 - input, input)) * (sign_ * math.factorial(n))
    cotangent = [0.0, 1.0]          # d/dz of a polynomial in c = cot(πz) is -π (1 + c²) times its derivative by c
    for _ in range(n):
        slope = [k * v for k, v in enumerate(cotangent)][1:]
        cotangent = [-math.pi * (a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    # the fraction first: π times a large number is inexact; and the cosine as a sine, so that it is 0 halfway between two poles
    part = input - E.round(input)
    c = E.sin((0.5 - E.abs(part)) * math.pi) / E.sin(part * math.pi)
    reflected = ir.lift(0.0, input)
    for v in reversed(cotangent):
        reflected = reflected * c + v
    left = right * (1.0 if n % 2 == 0 else -1.0) - reflected * math.pi
    pole = (input <= 0.0) & input.eq(E.floor(input))
    return ir.where(pole, ir.lift(math.inf if n % 2 else math.nan, input), ir.where(input < 0.5, left, right))


@_polygamma.backward
def _(g, input, n):
    return g * _polygamma(input, n + 1)


def _polygamma_public(n: int, input: Any) -> Any:
    """The derivative of order ``n`` of ``digamma``."""
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return _polygamma(input, n)


def _polygamma_method(self: Any, n: int) -> Any:
    """The derivative of order ``n`` of ``digamma``."""
    return _polygamma_public(n, self)


derived(_polygamma_public, name="polygamma").as_method = _polygamma_method


@public(name="polygamma_", function=False)
def polygamma_(input: Any, n: int) -> Any:
    """The in-place form of :func:`polygamma`."""
    return _change(input, _polygamma_public(n, input), "polygamma_")


__all__ = ["alias", "derived", "number_or_tensor", "store", "unsupported"]
