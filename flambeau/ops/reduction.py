"""Reductions and scans: sums, extremes, statistics, norms, softmax, running totals.

The primitives combine the elements over some axes (or along one); everything else is composed from them, as one call where
speed matters: the scheduler fuses the composition into one pass over memory.
"""

from __future__ import annotations

import math
import warnings
from builtins import all as builtin_all
from builtins import max as builtin_max
from collections.abc import Callable, Sequence
from typing import Any

from ..core.dtype import bool_, float32, float64, float_of, int64
from ..core.dtype import dtype as DType
from ..core.shape import Meta, fresh, wrap_dim, wrap_dims
from ..ir import expression as ir
from ..ir.expression import E, Expr
from . import definition
from .composite import composite, public
from .definition import MODE, OPS, compute, host, pointwise, title
from .elementwise import derived, isnan_, unsupported, where, zeros_like
from .formula import Combine, Operand, Reduced, Scanned, out, over
from .results import named

# ------------------------------------------------------------------ helpers


def axes_of(shape: Sequence[int], dims: Sequence[int], keepdim: bool) -> tuple[list[Any], int]:
    """The index of every axis of an operand reduced over ``dims``, and how many elements each result combines."""
    gone = {}
    if dims:
        made = over(*[shape[d] for d in dims])
        gone = dict(zip(dims, made if len(dims) > 1 else (made,), strict=True))
    kept = iter(out(*[1 if d in gone else s for d, s in enumerate(shape) if keepdim or d not in gone]))
    index = []
    for d in range(len(shape)):
        if d in gone:
            if keepdim:
                next(kept)
            index.append(gone[d])
        else:
            index.append(next(kept))
    return index, math.prod(shape[d] for d in dims)


def combine(op: str, x: Operand, dim: Any, keepdim: bool, value: Callable[[Expr], Expr] = lambda e: e, name: str = "") -> Reduced:
    """``op`` of ``value(element)`` over ``dim`` (None or (): all)."""
    index, _ = axes_of(x.shape, wrap_dims(dim, x.ndim, name), keepdim)
    return Combine(op, value(x[tuple(index)]))


def spread(g: Any, m: Meta, dim: Any, keepdim: bool) -> Any:
    """``g``, the gradient of a reduction of a tensor like ``m``, seen in the shape of ``m``."""
    return reinsert(g, m, dim, keepdim).expand(m.shape)


def reinsert(g: Any, m: Meta, dim: Any, keepdim: bool) -> Any:
    """A result of a reduction with the reduced axes put back as size 1."""
    if keepdim or m.ndim == 0:
        return g
    dims = sorted(wrap_dims(dim, m.ndim))
    if len(dims) == m.ndim:
        return g.reshape((1,) * m.ndim) if m.ndim > 1 else g
    for d in dims:
        g = g.unsqueeze(d)
    return g


def counted(m: Meta, dim: Any) -> int:
    """How many elements a reduction over ``dim`` combines."""
    return math.prod(m.shape[d] for d in wrap_dims(dim, m.ndim))


def listed(dim: Any) -> Any:
    """A ``dim=`` argument in a form that a signature can hold."""
    if dim is None or isinstance(dim, int):
        return dim
    if isinstance(dim, (tuple, list)):
        return tuple([d.__index__() for d in dim])
    return dim.__index__()


def whole(kinds: Sequence[Any], name: str) -> DType:
    """The operand's dtype, refused unless it is floating point."""
    d: DType = kinds[0].dtype
    if not d.is_floating_point:
        raise unsupported(name, d)
    return d


def require_elements(m: Meta, dim: Any, name: str, error: type[Exception] = IndexError) -> None:
    """Refuse an extreme of no elements."""
    if m.numel:
        return
    if dim is None or dim == ():
        if m.ndim == 0:
            return
        raise error(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
                    "Specify the reduction dim with the 'dim' argument.")
    for d in wrap_dims(dim, m.ndim, name):
        if m.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _numbered(name: str, whole_is: int) -> Callable[..., str]:
    """PyTorch numbers the forms with and without ``dim``."""
    return lambda input, dim, **_: f"{name}Backward{whole_is if dim is None else 1 - whole_is}"


# ------------------------------------------------------------------ sums and products


def _total_dtype(d: DType, kinds: Sequence[Any], params: dict[str, Any]) -> DType:
    if params.get("dtype") is not None:
        return params["dtype"]  # type: ignore[no-any-return]
    return kinds[0].dtype if kinds[0].dtype.is_floating_point else int64  # type: ignore[no-any-return]


def _element(d: DType | None) -> Callable[[Expr], Expr]:
    """Elements as a sum of dtype ``d`` (None: the operand's, int64 for whole numbers) takes them."""
    def element(e: Expr) -> Expr:
        to = d if d is not None else e.dtype if e.dtype.is_floating_point else int64
        return e.cast(to).cast(ir.compute_dtype(to))
    return element


@compute(dtype=_total_dtype, node=_numbered("Sum", 0))
def sum(input, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    """The sum over ``dim`` (an int, several, or all when None); whole numbers and bool give int64."""
    return combine("sum", input, dim, keepdim, _element(dtype), "sum")


@sum.backward
def _(g, input_meta, dim, keepdim):
    return spread(g, input_meta, dim, keepdim)


def _mean_dtype(d: DType, kinds: Sequence[Any], params: dict[str, Any]) -> DType:
    return params["dtype"] or kinds[0].dtype  # type: ignore[no-any-return]


@compute(dtype=_mean_dtype, node=_numbered("Mean", 0))
def mean(input, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    """The mean over ``dim`` (an int, several, or all when None).

    Raises
    ------
    RuntimeError
        The dtype is neither floating point nor given.
    """
    d = dtype or input.dtype
    if not d.is_floating_point:
        asked = "Input" if dtype is None else "Optional"
        raise RuntimeError(f"mean(): could not infer output dtype. {asked} dtype must be either a floating point or complex dtype. "
                           f"Got: {title(d)}\nmean: convert first with .float(), or pass dtype=torch.float32.")
    index, n = axes_of(input.shape, wrap_dims(dim, input.ndim, "mean"), keepdim)
    return Combine("sum", _element(d)(input[tuple(index)])).then(lambda a: a / ir.value(n, a.dtype))


@mean.backward
def _(g, input_meta, dim, keepdim):
    return spread(g / counted(input_meta, dim), input_meta, dim, keepdim) if input_meta.numel else zeros_like(g).expand(input_meta.shape)


@compute(dtype=_total_dtype, inplace=False)
def nansum(input, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    """The sum over ``dim`` with NaN counted as 0."""
    element = _element(dtype)
    return combine("sum", input, dim, keepdim, lambda e: element(ir.where(isnan_(e), ir.lift(0, e), e)), "nansum")


@nansum.backward
def _(g, input, dim, keepdim):
    return where(OPS["isnan"](input), 0.0, spread(g, input._meta, dim, keepdim))


@derived
def nanmean(input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The mean over ``dim`` of what is not NaN."""
    if not input.is_floating_point():
        raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {title(input.dtype)}")
    count = OPS["logical_not"](OPS["isnan"](input.detach())).sum(dim, keepdim)
    return nansum(input, dim, keepdim, dtype=dtype) / count


def _prod_dim(dim: Any) -> Any:
    if isinstance(dim, tuple):
        raise TypeError("prod(): argument 'dim' must be int, not tuple")
    return dim


@compute(dtype=_total_dtype, node=_numbered("Prod", 0))
def prod(input, dim: Any = None, keepdim: bool = False, *, dtype: Any = None):
    """The product over one ``dim``, or of everything; whole numbers and bool give int64."""
    return combine("prod", input, _prod_dim(dim), keepdim, _element(dtype), "prod")


@prod.backward
def _(g, y, input, dim, keepdim):
    m = input._meta
    if m.ndim == 0:
        return g
    if dim is None:
        return _prod_others(g, y, input.reshape(-1), 0, False).reshape(m.shape)
    return _prod_others(g, y, input, wrap_dim(dim, m.ndim), keepdim)


EXACT_PAIRS = 1 << 22      # products of all pairs that a higher derivative may take


def _prod_others(g: Any, y: Any, x: Any, dim: int, keepdim: bool) -> Any:
    """Times the product of all other elements, whatever zeros there are."""
    m = x._meta
    n = m.shape[dim]
    g = reinsert(g, m, dim, keepdim)
    if MODE.grad and m.numel * n <= EXACT_PAIRS:
        # written so that its own derivatives are right at zeros too
        x = x.movedim(dim, -1)
        others = x.unsqueeze(-2).expand((*x.shape, n)).masked_fill(OPS["eye"](n, dtype=bool_), 1.0)
        return g * prod(others, -1).movedim(-1, dim)
    y = reinsert(y, m, dim, keepdim)
    zero = x == 0
    zeros = sum(zero, dim, True)
    rest = prod(where(zero, 1.0, x), dim, True)
    return g * where(zeros == 0, y / x, where((zeros == 1) & zero, rest, 0.0))


@derived
def count_nonzero(input: Any, dim: Any = None) -> Any:
    """How many elements are not 0, over ``dim`` or all."""
    return sum(input != 0, dim)


# ------------------------------------------------------------------ all and any


def _truth_dtype(d: DType, kinds: Sequence[Any], params: dict[str, Any]) -> DType:
    return kinds[0].dtype if kinds[0].dtype.name == "uint8" else bool_  # type: ignore[no-any-return]


def _truth(name: str, x: Operand, dim: Any, keepdim: bool) -> Any:
    if dim == ():       # no dimension, unlike in the reductions that are older
        return x[out(*x.shape)].cast(bool_)
    return combine(name, x, dim, keepdim, lambda e: e.cast(bool_), name)


@compute(dtype=_truth_dtype)
def all(input, dim: Any = None, keepdim: bool = False):
    """Whether every element is nonzero, over ``dim`` or all."""
    return _truth("all", input, dim, keepdim)


@compute(dtype=_truth_dtype)
def any(input, dim: Any = None, keepdim: bool = False):
    """Whether some element is nonzero, over ``dim`` or all."""
    return _truth("any", input, dim, keepdim)


# ------------------------------------------------------------------ extremes


def _combiner(largest: bool, d: DType) -> str:
    """The combiner of an extreme; of bool the larger is *or*."""
    if d is bool_:
        return "any" if largest else "all"
    return "max" if largest else "min"


def _extreme(largest: bool, x: Operand, dim: Any, keepdim: bool, name: str) -> Any:
    return combine(_combiner(largest, x.dtype), x, dim, keepdim, name=name)


def _share_evenly(g: Any, y: Any, x: Any, dim: Any, keepdim: bool) -> Any:
    """The gradient of an extreme divided evenly between the elements that attain it."""
    m = x._meta
    mask = (x == reinsert(y, m, dim, keepdim)) | (OPS["isnan"](x) & OPS["isnan"](reinsert(y, m, dim, keepdim)))
    return where(mask, reinsert(g, m, dim, keepdim) / mask.sum(dim, True), 0.0)


@compute
def amax(input, dim: Any = (), keepdim: bool = False):
    """The largest element over ``dim``; ties share the gradient evenly."""
    require_elements(input.meta, dim, "amax", RuntimeError)
    return _extreme(True, input, dim, keepdim, "amax")


@compute
def amin(input, dim: Any = (), keepdim: bool = False):
    """The smallest element over ``dim``; ties share the gradient evenly."""
    require_elements(input.meta, dim, "amin", RuntimeError)
    return _extreme(False, input, dim, keepdim, "amin")


@compute(name="_max_all", node="MaxBackward1")
def _max_all(input):
    require_elements(input.meta, None, "max", RuntimeError)
    return _extreme(True, input, None, False, "max")


@compute(name="_min_all", node="MinBackward1")
def _min_all(input):
    require_elements(input.meta, None, "min", RuntimeError)
    return _extreme(False, input, None, False, "min")


@amax.backward
@amin.backward
def _(g, y, input, dim, keepdim):
    return _share_evenly(g, y, input, dim, keepdim)


@_max_all.backward
@_min_all.backward
def _(g, y, input):
    return _share_evenly(g, y, input, None, False)


def _index_dtype(d: DType, kinds: Sequence[Any], params: dict[str, Any]) -> DType:
    return int64


@compute(name="_first_equal", dtype=_index_dtype)
def _first_equal(input, value, dim: int):
    """The first position along ``dim`` (kept) where ``input`` is ``value``, or is NaN."""
    index, n = axes_of(input.shape, (dim,), True)
    e = input[tuple(index)]
    # read where the result is written: the reduced axis has size 1 there
    best = value[tuple(0 if d == dim else i for d, i in enumerate(index))]
    found = e.eq(best) | isnan_(e) if e.dtype.is_floating_point else e.eq(best)
    return Combine("min", ir.where(found, index[dim], ir.const(n, int64)))


@compute(name="_attained", dtype=lambda d, kinds, params: kinds[0].dtype)
def _attained(input, index, dim: int, largest: bool):
    """The extreme over ``dim`` (kept); its gradient goes to the position ``index``."""
    return _extreme(largest, input, dim, True, "")


@_attained.backward
def _(g, input_meta, index, dim):
    return _placed(g, index, dim, input_meta.shape[dim]), None


@compute(name="_placed", dtype=lambda d, kinds, params: kinds[0].dtype)
def _placed(grad, index, dim: int, size: int):
    """``grad`` at position ``index`` of a new axis ``dim`` of ``size`` (1 in the operands), zeros elsewhere."""
    i = out(*grad.shape[:dim], size, *grad.shape[dim + 1:])
    narrow = i.replace(dim, 0)
    value = grad[narrow]
    return ir.where(index[narrow].eq(i[dim]), value, ir.lift(0, value))


@_placed.backward
def _(g, index, dim):
    return g.gather(dim, index), None


def _extreme_and_place(x: Any, dim: int, largest: bool) -> tuple[Any, Any]:
    still = x.detach()
    index = _first_equal(still, (amax if largest else amin)(still, dim, True), dim)
    return _attained(x, index, dim, largest), index


@composite(node="Max")
def _max_along(input: Any, dim: int, keepdim: bool) -> Any:
    return _along(input, dim, keepdim, True)


@composite(node="Min")
def _min_along(input: Any, dim: int, keepdim: bool) -> Any:
    return _along(input, dim, keepdim, False)


def _along(x: Any, dim: int, keepdim: bool, largest: bool) -> tuple[Any, Any]:
    if x.ndim == 0:
        return x.clone(), OPS["zeros"]((), dtype=int64)
    values, index = _extreme_and_place(x, dim, largest)
    return (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))


def _choose(name: str, all_of: Any, along: Any, pairwise: str) -> Callable[..., Any]:
    result = named(name, "values", "indices")

    def call(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None, out: Any = None) -> Any:
        if not isinstance(input, definition.Tensor):
            raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {definition.type_name(input)}")
        if isinstance(dim, definition.Tensor):
            other = dim
        if other is not None:
            return OPS[pairwise](input, other) if out is None else OPS[pairwise](input, other, out=out)
        if dim is None:
            if keepdim:
                raise TypeError(f"{name}() received an invalid combination of arguments - got (keepdim=bool, ): keepdim needs dim")
            return all_of(input) if out is None else all_of(input, out=out)
        d = wrap_dim(dim, input.ndim, name, input.shape)
        require_elements(input._meta, d, name)
        made = result(*along(input, d, bool(keepdim)))
        if out is None:
            return made
        for target, r in zip(out, made, strict=True):
            definition.prepare_out(name, target, r._meta)
            definition.copy_into(target, r)
        return result(*out)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = (f"The {name}imum: of everything, along ``dim`` (a named tuple of values and indices; the first of ties), "
                    "or of each pair of elements with a second tensor.")
    return public(call)  # type: ignore[no-any-return]


max = _choose("max", _max_all, _max_along, "maximum")
min = _choose("min", _min_all, _min_along, "minimum")


@composite
def _argextreme(input: Any, dim: int, keepdim: bool, largest: bool) -> Any:
    index = _first_equal(input, (amax if largest else amin)(input, dim, True), dim)
    return index if keepdim else index.squeeze(dim)


def _arg(name: str, largest: bool) -> Callable[..., Any]:
    def call(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if input.dtype is bool_:
            raise RuntimeError(f"{name}(): does not support bool input")
        require_elements(input._meta, dim, name)
        x = input.detach()
        if dim is None:
            r = _argextreme(x.reshape(-1), 0, False, largest) if x.ndim else OPS["zeros"]((), dtype=int64)
            return r.reshape((1,) * x.ndim) if keepdim else r
        d = wrap_dim(dim, x.ndim, name, x.shape)
        return _argextreme(x, d, bool(keepdim), largest) if x.ndim else OPS["zeros"]((), dtype=int64)

    call.__name__ = name
    call.__doc__ = (f"The position of the {name[3:]}imum along ``dim``, or in the flattened tensor; the first of ties, "
                    f"NaN counts as {name[3:]}imum.")
    return derived(call)  # type: ignore[no-any-return]


argmax = _arg("argmax", True)
argmin = _arg("argmin", False)

Aminmax = named("aminmax", "min", "max")


@derived
def aminmax(input: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    """The smallest and the largest element, along ``dim`` or of all, as a named tuple."""
    if dim is None:
        require_elements(input._meta, None, "aminmax", RuntimeError)
        low, high = amin(input), amax(input)
        return Aminmax(low.reshape((1,) * input.ndim), high.reshape((1,) * input.ndim)) if keepdim else Aminmax(low, high)
    require_elements(input._meta, dim, "aminmax")
    return Aminmax(amin(input, dim, keepdim), amax(input, dim, keepdim))


# ------------------------------------------------------------------ variance


@pointwise(name="_square_deviation", inplace=False)
def _square_deviation(input, mean):
    difference = input - mean
    return difference * difference


@_square_deviation.backward
def _(g, input, mean):
    # deviations from the mean add up to 0, so a gradient that is constant over them does not reach the mean
    return OPS["_double_product"](g, input - mean), None


def _variance(x: Any, dims: tuple[int, ...], correction: Any, keepdim: bool) -> tuple[Any, Any]:
    m = mean(x, dims, True)
    n = counted(x._meta, dims)
    total = sum(_square_deviation(x, m), dims, keepdim)
    divisor = float(n - correction)
    return total / (divisor if divisor > 0 else 0.0), m


def _without(x: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    return x if keepdim else x.squeeze(dims)


@composite(node="Var", wide=True)
def _var(input: Any, dims: tuple[int, ...], correction: Any, keepdim: bool) -> Any:
    return _variance(input, dims, correction, keepdim)[0]


@composite(node="Std", wide=True)
def _std(input: Any, dims: tuple[int, ...], correction: Any, keepdim: bool) -> Any:
    return _root(_variance(input, dims, correction, keepdim)[0])


@composite(node="VarMean", wide=True)
def _var_mean(input: Any, dims: tuple[int, ...], correction: Any, keepdim: bool) -> Any:
    v, m = _variance(input, dims, correction, keepdim)
    return v, _without(m, dims, keepdim)


@composite(node="StdMean", wide=True)
def _std_mean(input: Any, dims: tuple[int, ...], correction: Any, keepdim: bool) -> Any:
    v, m = _variance(input, dims, correction, keepdim)
    return _root(v), _without(m, dims, keepdim)


@pointwise(name="_root", inplace=False)
def _root(input):
    return E.sqrt(input)


@_root.backward
def _(g, y):
    # a standard deviation of 0 has no slope; its gradient is 0 by convention
    return where(y == 0, 0.0, g / (y * 2.0))


_UNSET: Any = object()


def _spread_form(name: str, body: Any) -> Callable[..., Any]:
    def call(input: Any, dim: Any = None, unbiased: Any = _UNSET, keepdim: bool = False, *, correction: Any = None) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if unbiased is not _UNSET:
            correction = 1 if unbiased else 0
        elif correction is None:
            correction = 1
        if isinstance(dim, float):
            raise TypeError(f"{name}() received an invalid combination of arguments - got (float)")
        if not input.is_floating_point():
            raise RuntimeError(f"{'std and var' if '_' not in name else name} only support floating point and complex dtypes\n"
                               f"{name}: got {input.dtype.name}; convert first with .float().")
        dims = wrap_dims(listed(dim), input.ndim, name)
        n = counted(input._meta, dims)
        if n <= correction and input.numel() and n > 0:
            warnings.warn(f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
                          "(input numel divided by output numel).", UserWarning, stacklevel=3)
        return body(input, dims, correction, bool(keepdim))

    call.__name__ = name
    call.__doc__ = (f"``{name}`` over ``dim`` (an int, several, or all when None), dividing by the number of elements less ``correction`` "
                    "(1 unless given; ``unbiased=False`` is ``correction=0``).")
    return derived(call)  # type: ignore[no-any-return]


var = _spread_form("var", _var)
std = _spread_form("std", _std)
var_mean = _spread_form("var_mean", _var_mean)
std_mean = _spread_form("std_mean", _std_mean)
for _name in ("var_mean", "std_mean"):
    OPS[_name].is_method = False


# ------------------------------------------------------------------ softmax and relatives


@pointwise(name="_softmax_value", inplace=False)
def _softmax_value(input, peak, total, dim: int):
    return E.exp(input - peak) / total


@_softmax_value.backward
def _(g, y, dim):
    p = g * y
    return p - y * sum(p, dim, True), None, None


@pointwise(name="_log_softmax_value", inplace=False)
def _log_softmax_value(input, peak, total, dim: int):
    return input - peak - E.log(total)


@_log_softmax_value.backward
def _(g, y, dim):
    return g - OPS["exp"](y) * sum(g, dim, True), None, None


def _normalised(x: Any, dim: int, value: Any) -> Any:
    still = x.detach()
    if still.ndim == 0:
        still = still.reshape(1)
        peak, total = still, OPS["ones_like"](still)
        return value(x.reshape(1), peak, total, 0).reshape(())
    if still.numel() == 0:
        return x.clone()
    peak = amax(still, dim, True)
    return value(x, peak, sum(OPS["exp"](still - peak), dim, True), dim)


@composite(node="Softmax", wide=True)
def _softmax(input: Any, dim: int) -> Any:
    return _normalised(input, dim, _softmax_value)


@composite(node="LogSoftmax", wide=True)
def _log_softmax(input: Any, dim: int) -> Any:
    return _normalised(input, dim, _log_softmax_value)


def _softmax_form(name: str, body: Any, kernel: str) -> Callable[..., Any]:
    def call(input: Any, dim: Any, dtype: Any = None) -> Any:
        x = input if dtype is None or dtype is input._meta.dtype else input.to(dtype)
        m = x._meta
        if not m.dtype.is_floating_point:
            raise unsupported(kernel, m.dtype)
        return body(x, dim if dim.__class__ is int and 0 <= dim < m.ndim else wrap_dim(dim, m.ndim, name, m.shape))

    call.__name__ = name
    return call


softmax = _softmax_form("softmax", _softmax, "softmax_lastdim_kernel_impl")
softmax.__doc__ = "``exp(input)`` scaled so that it sums to 1 along ``dim``; converted to ``dtype`` first when that is given."
log_softmax = _softmax_form("log_softmax", _log_softmax, "log_softmax_lastdim_kernel_impl")
log_softmax.__doc__ = "The logarithm of ``softmax``, computed without overflow."
derived(softmax)
derived(log_softmax)


@composite(node="Logsumexp", wide=True)
def _logsumexp(input: Any, dims: tuple[int, ...], keepdim: bool) -> Any:
    if input.ndim == 0 or input.numel() == 0:
        return OPS["log"](sum(OPS["exp"](input), dims, keepdim))
    peak = amax(input.detach(), dims, True)
    peak = where(OPS["isinf"](peak), 0.0, peak)
    total = OPS["log"](sum(OPS["exp"](input - peak), dims, True)) + peak
    return _without(total, dims, keepdim)


@derived
def logsumexp(input: Any, dim: Any, keepdim: bool = False) -> Any:
    """``log(sum(exp(input)))`` over ``dim`` without overflow."""
    x = input if input.is_floating_point() else input.to(float_of(input.dtype))
    return _logsumexp(x, wrap_dims(listed(dim), x.ndim, "logsumexp"), bool(keepdim))


# ------------------------------------------------------------------ running totals


def _scan(op: str, x: Operand, dim: int, value: Callable[[Expr], Expr]) -> Any:
    if x.ndim == 0:
        wrap_dim(dim, 0)
        out()
        return value(x.at())
    i = out(*x.shape)
    return Scanned(op, value(x[i]), i[wrap_dim(dim, x.ndim)])


def _running_element(d: DType | None) -> Callable[[Expr], Expr]:
    """Elements as a running total of dtype ``d`` takes them: floats in float64, as PyTorch's CPU does."""
    element = _element(d)

    def wide(e: Expr) -> Expr:
        e = element(e)
        return e.cast(float64) if e.dtype.is_floating_point else e
    return wide


@compute(dtype=_total_dtype)
def cumsum(input, dim: int, *, dtype: Any = None):
    """The sum of the elements up to each position along ``dim``."""
    return _scan("sum", input, dim, _running_element(dtype))


@cumsum.backward
def _(g, dim):
    return _from_the_end(g, dim)


def _from_the_end(g: Any, dim: int) -> Any:
    """The sums of the elements from each position to the end."""
    return cumsum(g.flip((dim,)), dim).flip((dim,)) if g.ndim else g


@compute(dtype=_total_dtype)
def cumprod(input, dim: int, *, dtype: Any = None):
    """The product of the elements up to each position along ``dim``."""
    return _scan("prod", input, dim, _running_element(dtype))


def _keeps_its_dtype(op: Any) -> None:
    """The in-place form computes in the tensor's own dtype."""
    name = op.operation.name + "_"

    def change(input: Any, dim: int, *, dtype: Any = None) -> Any:
        return definition.inplace_call(op.operation, (input, dim), {"dtype": input.dtype if dtype is None else dtype})

    change.__name__ = change.__qualname__ = name
    change.__doc__ = f"The in-place form of :func:`{op.operation.name}`."
    public(change, name=name, function=False)


_keeps_its_dtype(cumsum)
_keeps_its_dtype(cumprod)


@cumprod.backward
def _(g, y, input, dim):
    if input.ndim == 0:
        return g
    d = wrap_dim(dim, input.ndim)
    n = input.shape[d]
    if MODE.grad and input.numel() * n * n <= EXACT_PAIRS:
        # every product without every factor, so that derivatives of this are right at zeros too
        x, h = input.movedim(d, -1), g.movedim(d, -1)
        place = OPS["arange"](n)
        later, left_out = place > place[:, None, None], place == place[:, None]
        rows = x[..., None, None, :].expand((*x.shape, n, n)).masked_fill(later | left_out, 1.0)
        products = prod(rows, -1).masked_fill(place > place[:, None], 0.0)
        return sum(h.unsqueeze(-1) * products, -2).movedim(-1, d)
    zero = input == 0
    zeros = cumsum(zero, d)
    first = zero & (zeros == 1)
    at_first = _from_the_end(g * cumprod(where(first, 1.0, input), d), d)
    before = _from_the_end(g * y, d) / input
    return where(zeros == 0, before, where(first, at_first, 0.0))


@compute(name="_running", inplace=False)
def _running(input, dim: int, largest: bool):
    return _scan(_combiner(largest, input.dtype), input, dim, lambda e: e)


@compute(name="_running_index", dtype=_index_dtype, inplace=False)
def _running_index(input, best, dim: int):
    """The last position so far where ``input`` is the running extreme ``best``."""
    if input.ndim == 0:
        out()
        return ir.const(0, int64)
    i = out(*input.shape)
    e = input[i]
    here = e.eq(best[i])
    if e.dtype.is_floating_point:
        here = here | isnan_(e)
    return Scanned("max", ir.where(here, i[dim], ir.const(0, int64)), i[dim])


@compute(name="_running_value", dtype=lambda d, kinds, params: kinds[0].dtype)
def _running_value(input, best, index, dim: int):
    """``best``, whose gradient goes to the positions ``index`` of ``input``."""
    return best[out(*best.shape)]


@_running_value.backward
def _(g, input_meta, index, dim):
    if not input_meta.ndim:
        return g, None, None
    return OPS["zeros"](input_meta.shape, dtype=g.dtype, device=g.device).scatter_add(dim, index, g), None, None


def _best_so_far(x: Any, dim: int, largest: bool) -> tuple[Any, Any]:
    still = x.detach()
    best = _running(still, dim, largest)
    index = _running_index(still, best, dim)
    return _running_value(x, best, index, dim), index


@composite(node="Cummax")
def _cummax(input: Any, dim: int) -> Any:
    return _best_so_far(input, dim, True)


@composite(node="Cummin")
def _cummin(input: Any, dim: int) -> Any:
    return _best_so_far(input, dim, False)


def _running_extreme(name: str, body: Any) -> Callable[..., Any]:
    result = named(name, "values", "indices")

    def call(input: Any, dim: int) -> Any:
        d = wrap_dim(dim, input.ndim, name, input.shape)
        return result(*body(input, d))

    call.__name__ = name
    call.__doc__ = f"The {name[3:]}imum so far at each position along ``dim``, and where it was (the last of ties), as a named tuple."
    return derived(call)  # type: ignore[no-any-return]


cummax = _running_extreme("cummax", _cummax)
cummin = _running_extreme("cummin", _cummin)


# ------------------------------------------------------------------ host: running logsumexp, median, mode


def _like_along(input, dim: int):
    """A routine along one axis."""


@host(outs=lambda input, dim: fresh(input), like=_like_along, name="_logcumsumexp", node="Logcumsumexp")
def _logcumsumexp(ins: list[Any], outs: list[Any], scalars: list[Any], dim: int) -> None:
    import numpy as np

    np.logaddexp.accumulate(ins[0], axis=dim, out=outs[0])


@_logcumsumexp.backward
def _(g, y, input, dim):
    def part(h: Any) -> Any:
        # Σ over later i of h[i]·exp(x - y[i]), with the sums in logarithms
        later = _logcumsumexp((OPS["log"](h) - y).flip((dim,)), dim).flip((dim,))
        return OPS["exp"](later + input)
    return part(OPS["clamp"](g, min=0.0)) - part(OPS["clamp"](-g, min=0.0))


@derived
def logcumsumexp(input: Any, dim: int) -> Any:
    """The logarithm of the sum of exponentials up to each position along ``dim``, without overflow."""
    d = wrap_dim(dim, input.ndim, "logcumsumexp", input.shape)
    whole((input._meta,), "logcumsumexp_out_cpu")
    if input.ndim == 0:
        return input.clone()
    if input.dtype.itemsize == 2:
        return _logcumsumexp(input.to(float32), d).to(input.dtype)
    return _logcumsumexp(input, d)


def _like_median(input, skip_nan: bool):
    """A routine along the last axis."""


@host(outs=lambda input, skip_nan: fresh(input, input.shape[:-1], int64), like=_like_median, name="_median_place")
def _median_place(ins: list[Any], outs: list[Any], scalars: list[Any], skip_nan: bool) -> None:
    """Where the lower of the two middle elements is; a NaN comes first unless ``skip_nan``."""
    import numpy as np

    a = ins[0]
    order = np.argsort(a, axis=-1, kind="stable")            # NaN last
    nans = np.isnan(a).sum(-1) if a.dtype.kind == "f" else np.zeros(a.shape[:-1], np.int64)
    count = a.shape[-1] - nans
    middle = (np.maximum(count, 1) - 1) // 2
    if not skip_nan:
        middle = np.where(nans > 0, count, (a.shape[-1] - 1) // 2)
    outs[0][...] = np.take_along_axis(order, middle[..., None], -1)[..., 0]


@host(outs=lambda input: fresh(input, input.shape[:-1], int64), name="_mode_place", like=lambda input: None)
def _mode_place(ins: list[Any], outs: list[Any], scalars: list[Any]) -> None:
    """The last place of the most frequent value (the smallest of them)."""
    import numpy as np

    a = ins[0]
    flat = outs[0].reshape(-1)
    for k, row in enumerate(a.reshape(-1, a.shape[-1])):
        _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
        flat[k] = np.flatnonzero(inverse == np.argmax(counts))[-1]
    outs[0][...] = flat.reshape(outs[0].shape)


def _comparable(x: Any) -> Any:
    """Values a host routine can compare: 16-bit floats widened."""
    x = x.detach()
    return x.to(float32) if x.dtype.itemsize == 2 and x.is_floating_point() else x


@compute(name="_evenly", node="Median", dtype=lambda d, kinds, params: kinds[0].dtype)
def _evenly(input, value):
    """``value``, an element of ``input``; elements equal to it share its gradient."""
    out()
    return value.at()


@_evenly.backward
def _(g, y, input):
    return _share_evenly(g, y, input, None, False), None


def _median_form(name: str, skip_nan: bool) -> Callable[..., Any]:
    result = named(name, "values", "indices")

    def call(input: Any, dim: Any = None, keepdim: bool = False) -> Any:
        if input.dtype is bool_:
            raise unsupported("median_cpu", bool_)
        if dim is None:
            if input.numel() == 0:
                return OPS["full"]((), math.nan if input.is_floating_point() else -1 << 63, dtype=input.dtype)
            flat = input.detach().reshape(-1)
            value = flat[_median_place(_comparable(flat), skip_nan)]
            return _evenly(input, value)
        d = wrap_dim(dim, input.ndim, name, input.shape)
        require_elements(input._meta, d, name)
        return result(*_taken(input, d, keepdim, lambda x: _median_place(x, skip_nan)))

    call.__name__ = name
    call.__doc__ = ("The middle element, the lower one of two: of all elements, or along ``dim`` as a named tuple of values and indices; "
                    + ("NaN is skipped." if skip_nan else "NaN if there is one."))
    return derived(call)  # type: ignore[no-any-return]


def _taken(x: Any, dim: int, keepdim: bool, place: Callable[[Any], Any]) -> tuple[Any, Any]:
    """The elements along ``dim`` at the place a routine finds on the last axis, and these places."""
    if x.ndim == 0:
        return x.clone(), OPS["zeros"]((), dtype=int64)
    index = place(_comparable(x).movedim(dim, -1)).unsqueeze(dim)
    values = x.gather(dim, index)
    return (values, index) if keepdim else (values.squeeze(dim), index.squeeze(dim))


median = _median_form("median", False)
nanmedian = _median_form("nanmedian", True)
Mode = named("mode", "values", "indices")


@derived
def mode(input: Any, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along ``dim`` (the smallest of several) and a place of it, as a named tuple."""
    d = wrap_dim(dim, input.ndim, "mode", input.shape)
    require_elements(input._meta, d, "mode")
    return Mode(*_taken(input, d, keepdim, _mode_place))


# ------------------------------------------------------------------ norms and distances


@pointwise(name="_abs_power", inplace=False)
def _abs_power(input, p: float):
    return E.pow(E.abs(input), p)


@_abs_power.backward
def _(g, input, p):
    return g * where(input == 0, 0.0, OPS["sgn"](input) * _abs_power(input, p - 1) * p)


@pointwise(name="_inverse_power", inplace=False)
def _inverse_power(input, p: float):
    return E.pow(input, 1.0 / p)


@_inverse_power.backward
def _(g, y, p):
    return where(y == 0, 0.0, g * y.pow(1 - p) / p)


@composite(node="LinalgVectorNorm", wide=True)
def _vector_norm(input: Any, p: float, dims: tuple[int, ...], keepdim: bool) -> Any:
    if p == 2:
        return _root(sum(input * input, dims, keepdim))
    if p == 0:
        return sum((input != 0).to(input.dtype), dims, keepdim) + sum(input * 0.0, dims, keepdim)
    size = OPS["abs"](input)
    if p == 1:
        return sum(size, dims, keepdim)
    if p in (math.inf, -math.inf):
        if not dims:
            return size
        return (amax if p > 0 else amin)(size, dims, keepdim)
    return _inverse_power(sum(_abs_power(input, p), dims, keepdim), p)


def vector_norm(x: Any, p: float, dim: Any, keepdim: bool, dtype: Any, name: str = "linalg.vector_norm") -> Any:
    """The p-norm of the elements over ``dim`` (None: all)."""
    if dtype is not None:
        x = x.to(dtype)
    if not x.is_floating_point():
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {title(x.dtype)}\n"
                           f"{name}: convert first with .float().")
    dims = wrap_dims(listed(dim), x.ndim, name)
    if p in (math.inf, -math.inf) and x.numel() == 0 and any_empty(x.shape, dims):
        raise RuntimeError(f"linalg.vector_norm cannot compute the {p} norm on an empty tensor "
                           "because the operation does not have an identity")
    return _vector_norm(x, float(p), dims, bool(keepdim))


def any_empty(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether one of the axes has size 0."""
    return 0 in [shape[d] for d in dims]


@derived
def norm(input: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    """The p-norm of the elements over ``dim`` (None: all); ``p``: a number, inf, ``"fro"`` (2) or ``"nuc"`` (matrices)."""
    if p == "nuc":
        return OPS["linalg_matrix_norm"](input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if p is None or p == "fro":
        p = 2.0
    return vector_norm(input, p, dim, keepdim, dtype, "norm")


@derived
def dist(input: Any, other: Any, p: float = 2) -> Any:
    """The p-norm of the difference."""
    return vector_norm(input - other, p, None, False, None, "dist")


@derived(inplace=True)
def renorm(input: Any, p: float, dim: int, maxnorm: float) -> Any:
    """Slices along ``dim`` whose p-norm exceeds ``maxnorm`` scaled down to it."""
    d = wrap_dim(dim, input.ndim, "renorm", input.shape)
    others = tuple(i for i in range(input.ndim) if i != d)
    size = vector_norm(input, p, others, True, None, "renorm")
    return input * where(size > maxnorm, maxnorm / (size + 1e-7), 1.0)


# ------------------------------------------------------------------ shapes of sums, differences, integrals


@compute(name="_sum_to", node="SumBackward1", dtype=_total_dtype)
def _sum_to(input, size: tuple):
    lead = input.ndim - len(size)
    dims = [d for d in range(input.ndim) if d < lead or (size[d - lead] == 1 and input.shape[d] != 1)]
    inner = iter(over(*[input.shape[d] for d in dims])) if len(dims) > 1 else iter([over(input.shape[dims[0]])] if dims else [])
    kept = out(*size)
    index = [next(inner) if d in dims else kept[d - lead] for d in range(input.ndim)]
    value = _element(None)(input[tuple(index)])
    return Combine("sum", value) if dims else value


@_sum_to.backward
def _(g, input_meta):
    return g.expand(input_meta.shape)


@public(function=False)
def sum_to_size(input: Any, *size: Any) -> Any:
    """The sum over the dimensions that broadcasting from ``size`` would have stretched."""
    shape = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else tuple(size)
    m = input._meta
    if not shape:
        return sum(input)
    lead = m.ndim - len(shape)
    if lead < 0 or not builtin_all(s in (1, n) for s, n in zip(shape, m.shape[lead:], strict=True)):
        raise RuntimeError(f"size {{{list(shape)}}} is not expandable to size {{{list(m.shape)}}}.")
    return input if m.shape == shape else _sum_to(input, shape)


@derived
def diff(input: Any, n: int = 1, dim: int = -1, prepend: Any = None, append: Any = None) -> Any:
    """The differences of neighbours along ``dim``, taken ``n`` times; bool: whether neighbours differ."""
    if n < 0:
        raise RuntimeError(f"order must be non-negative but got {n}")
    if input.ndim == 0:
        raise RuntimeError("diff expects input to be at least one-dimensional")
    d = wrap_dim(dim, input.ndim, "diff", input.shape)
    if n == 0:
        return input.clone()
    parts = [x for x in (prepend, input, append) if x is not None]
    x = OPS["cat"](parts, d) if len(parts) > 1 else input
    for _ in range(n):
        size = x.shape[d]
        if size <= 1:
            return x.narrow(d, 0, 0)
        left, right = x.narrow(d, 0, size - 1), x.narrow(d, 1, size - 1)
        x = OPS["logical_xor"](left, right) if x.dtype is bool_ else right - left
    return x


def _areas(y: Any, x: Any, dx: Any, dim: int, name: str) -> Any:
    d = wrap_dim(dim, y.ndim, name, y.shape)
    n = y.shape[d]
    pairs = y.narrow(d, 0, n - 1) + y.narrow(d, 1, n - 1) if n else y
    if x is None:
        return pairs * ((1.0 if dx is None else dx) / 2) if dx is not None or y.is_floating_point() else pairs / 2.0
    if x.ndim == 1 and y.ndim > 1:
        if x.shape[0] != n:
            raise RuntimeError("There must be one `x` value for each sample point")
        x = x.reshape([n if i == d else 1 for i in range(y.ndim)])
    e = wrap_dim(dim, x.ndim) if x.ndim == y.ndim else x.ndim + d - y.ndim
    return (x.narrow(e, 1, x.shape[e] - 1) - x.narrow(e, 0, x.shape[e] - 1)) * pairs / 2.0


@public(method=False)
def trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integral of samples ``y`` along ``dim`` by the trapezoidal rule, at places ``x`` or ``dx`` (1) apart."""
    if y.shape[dim] == 0:
        shape = [s for i, s in enumerate(y.shape) if i != wrap_dim(dim, y.ndim)]
        return OPS["zeros"](shape, dtype=float_of(y.dtype))
    return _areas(y, x, dx, dim, "trapezoid").sum(dim)


@public(method=False)
def cumulative_trapezoid(y: Any, x: Any = None, *, dx: Any = None, dim: int = -1) -> Any:
    """The integral of samples ``y`` from the first up to each later one along ``dim``."""
    return _areas(y, x, dx, dim, "cumulative_trapezoid").cumsum(dim)


OPS["trapz"] = trapezoid


# ------------------------------------------------------------------ statistics of samples


@public
def cov(input: Any, *, correction: int = 1, fweights: Any = None, aweights: Any = None) -> Any:
    """The covariance matrix of variables in rows, observations in columns; weights by frequency and importance.

    Raises
    ------
    RuntimeError
        More than two dimensions, or weights of the wrong shape or dtype.
    """
    if input.ndim > 2:
        raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    if input.dtype is bool_:
        raise RuntimeError("cov(): bool dtype is not supported for input")
    x = (input if input.ndim == 2 else input.reshape(1, -1)).to(float_of(input.dtype))
    n = x.shape[1]
    w = None
    if fweights is not None:
        if fweights.is_floating_point() or fweights.dtype is bool_:
            raise RuntimeError(f"cov(): expected fweights to have integral dtype but got fweights with {title(fweights.dtype)} dtype")
        w = fweights
    if aweights is not None:
        if not aweights.is_floating_point():
            raise RuntimeError(f"cov(): expected aweights to have floating point dtype but got aweights with {title(aweights.dtype)} dtype")
        w = aweights if w is None else w * aweights
    for v, what in ((fweights, "fweights"), (aweights, "aweights")):
        if v is not None and v.ndim > 1:
            raise RuntimeError(f"cov(): expected {what} to have one or fewer dimensions but got {what} with {v.ndim} dimensions")
        if v is not None and v.numel() != n:
            raise RuntimeError(f"cov(): expected {what} to have the same numel as there are observations in the input "
                               f"but got {v.numel()} != {n}")
        if v is not None and bool((v < 0).any()):
            raise RuntimeError(f"cov(): {what} cannot be negative")
    if w is None:
        centre: Any = x.mean(1, True) if n else 0.0
        divisor: Any = builtin_max(n - correction, 0)
    else:
        w = w if w.is_floating_point() else w.to(x.dtype)
        total = w.sum()
        centre = (x * w).sum(1, True) / total
        plain = aweights is None or correction == 0
        divisor = total - (correction if plain else correction * (w * aweights).sum() / total)
        divisor = OPS["clamp"](divisor, min=0.0)
    x = x - centre
    c = OPS["matmul"](x if w is None else x * w, x.t()) / divisor
    return c.squeeze() if c.numel() == 1 else c


@public
def corrcoef(input: Any) -> Any:
    """The matrix of correlation coefficients of variables in rows."""
    if input.ndim > 2:
        raise RuntimeError(f"corrcoef(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    c = cov(input)
    if c.ndim == 0:
        return c / c
    d = OPS["sqrt"](c.diagonal())
    return OPS["clamp"](c / d[:, None] / d, -1.0, 1.0)


_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


def _quantile(x: Any, q: Any, dim: Any, keepdim: bool, interpolation: str, skip_nan: bool, name: str) -> Any:
    if x.dtype not in (float32, float64):
        raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
    if isinstance(q, definition.Tensor):
        if q.ndim > 1:
            raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
        if q.dtype is not x.dtype:
            raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
    else:
        if not 0 <= q <= 1:
            raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
        q = OPS["full"]((), q, dtype=x.dtype)
    if x.numel() == 0:
        raise RuntimeError(f"{name}() input tensor must be non-empty")
    rank = x.ndim
    if dim is None:
        rows, d = x.reshape(-1), 0
    else:
        d = wrap_dim(dim, x.ndim, name, x.shape)
        rows = x.movedim(d, -1) if x.ndim else x.reshape(1)
    ordered = rows.sort(-1)[0]
    n = ordered.shape[-1]
    many = q.reshape(-1)
    if skip_nan:
        last = (OPS["isnan"](ordered).logical_not().sum(-1, True) - 1).clamp(min=0).to(x.dtype)
        place = many * last
    else:
        place = (many * (n - 1)).expand((*ordered.shape[:-1], many.shape[0]))
        place = where(OPS["isnan"](ordered).any(-1, True), float(n - 1), place)
    if interpolation == "lower":
        place = OPS["floor"](place)
    elif interpolation == "higher":
        place = OPS["ceil"](place)
    elif interpolation == "nearest":
        place = OPS["round"](place)
    below = place.to(int64)
    values = ordered.gather(-1, below)
    if interpolation in ("linear", "midpoint"):
        weight = 0.5 if interpolation == "midpoint" else place - below
        above = ordered.gather(-1, OPS["ceil"](place).to(int64))
        values = OPS["lerp"](values, above, weight)
    # shape (*rest, number of quantiles) -> (number of quantiles, *rest)
    values = values.movedim(-1, 0)
    if keepdim:
        values = values.reshape((values.shape[0], *(1,) * rank)) if dim is None else values.unsqueeze(d + 1) if rank else values
    elif rank == 0:
        values = values.reshape(-1)
    return values if q.ndim else values.squeeze(0)


@derived
def quantile(input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """The values below which fractions ``q`` of the elements lie, along ``dim`` or of all; NaN if there is a NaN."""
    return _quantile(input, q, dim, keepdim, interpolation, False, "quantile")


@derived
def nanquantile(input: Any, q: Any, dim: Any = None, keepdim: bool = False, *, interpolation: str = "linear") -> Any:
    """``quantile`` of what is not NaN."""
    return _quantile(input, q, dim, keepdim, interpolation, True, "nanquantile")


# ------------------------------------------------------------------ counting


@public
def bincount(input: Any, weights: Any = None, minlength: int = 0) -> Any:
    """How often each number 0, 1, 2, ... occurs, or the sum of the weights of its occurrences; looks at the values."""
    import numpy as np

    from .host import from_host, host_array

    if input.ndim != 1 or input.is_floating_point() or input.dtype is bool_:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    values = host_array(input)
    if values.size and values.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if weights is None:
        return from_host(np.bincount(values, minlength=minlength).astype(np.int64, copy=False))
    if weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    counted_ = np.bincount(values, host_array(weights), minlength)
    return from_host(counted_.astype(np.float32) if weights.dtype is float32 else counted_.astype(np.float64))


@derived
def histc(input: Any, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    """How many elements fall into each of ``bins`` equal parts of the range from ``min`` to ``max`` (both 0: the data's own)."""
    import numpy as np

    from .host import from_host, host_array

    if bins <= 0:
        raise RuntimeError("bins must be > 0")
    if not input.is_floating_point():
        raise unsupported("histogram_cpu", input.dtype)
    a = host_array(input).reshape(-1)
    low, high = float(min), float(max)
    if low == high and a.size:
        low, high = float(a.min()), float(a.max())
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError("torch.histc: max must be larger than min")
    a = a[(a >= low) & (a <= high)]
    place = np.minimum(((a - a.dtype.type(low)) * bins / a.dtype.type(high - low)).astype(np.int64), bins - 1)
    return from_host(np.bincount(place, minlength=bins).astype(a.dtype)).to(input.dtype)


__all__ = ["axes_of", "combine", "listed", "log_softmax", "reinsert", "softmax", "spread", "vector_norm"]
