"""Reads and writes at computed places: ``gather``, ``scatter``, ``index_*``, ``embedding`` and their relatives.

Each is a formula that reads an operand at an index taken from another one, or a scatter that stores there.  An index out of
range is found while the call executes and reported at the line that recorded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..autograd.graph import MODE
from ..core.arrays import array_over
from ..core.device import CPU
from ..core.dtype import bool_, compute_dtype, int32, int64
from ..core.limits import as_element, iinfo
from ..core.shape import Meta, broadcast_shapes, contiguous_strides, layout, wrap_dim
from ..ir import expression as ir
from ..ir.expression import Expr
from ..stream.record import STATE
from . import definition
from .composite import public
from .definition import NUMBERS, OPS, compute, inplace_call, pointwise, view
from .formula import Indices, Operand, Scattered, check, out

OUT_OF_BOUNDS = "IndexError|index {index} is out of bounds for dimension %d with size {size}"
OUT_OF_RANGE = "RuntimeError|index {index} is out of bounds for dimension %d with size {size}"
OUT_OF_COPY = "IndexError|index_copy_(): index {index} is out of bounds for dimension %d with size {size}"
OUT_OF_ELEMENTS = "IndexError|out of range: tried to access index {index} on a tensor of {size} elements."


def place_of(index: Expr, size: int, message: str, *, negative: bool = False, trusted: bool = False) -> Expr:
    """``index`` checked (and counted from the end where negative, if allowed); the message shows it as it was given."""
    i = index.cast(int64)
    if trusted:
        return i
    if negative:
        j = i + size
        i = ir.where((i < 0) & (j >= 0), j, i)
    return check(i, size, message)


@compute(name="_valid")
def _valid(index, size: int, message: str, negative: bool):
    return place_of(index[out(*index.shape)], size, message, negative=negative)


def valid(index: Any, size: int, message: str, negative: bool = False) -> Any:
    """``index`` as a checked int64 tensor of its own.

    An in-place write then fails before it starts, so it can store into the tensor itself and touch nothing but its elements.
    """
    return OPS["_valid"](index, size, message, negative) if index.dtype in (int64, int32) else index


def at_broadcast(index: Operand, place: Sequence[Expr]) -> Expr:
    """``index`` at the trailing part of ``place``, its axes of size 1 stretched."""
    tail = place[len(place) - index.ndim:]
    return index[tuple(0 if s == 1 else e for s, e in zip(index.shape, tail, strict=True))]


# ------------------------------------------------------------------ views by a list of positions per axis


@view(name="_positions")
def _positions(input: Meta, spec: tuple):
    shape: list[int] = []
    strides: list[int] = []
    offset = input.offset
    d = 0
    for e in spec:
        if e is None:
            shape.append(1)
            strides.append(input.shape[d] * input.strides[d] if d < input.ndim else 1)
            continue
        if e.__class__ is tuple:
            start, step, n = e
            shape.append(n)
            strides.append(input.strides[d] * step)
            offset += start * input.strides[d]
        else:
            offset += e * input.strides[d]
        d += 1
    return layout(input, shape, strides, offset)


@_positions.backward
def _(g, input_meta, spec):
    return OPS["_embed"](g, tuple(input_meta.shape), spec)


@compute(name="_embed")
def _embed(g, shape: tuple, spec: tuple):
    i = out(*shape)
    place: list[Any] = []
    here: Expr | None = None
    d = 0
    for e in spec:
        if e is None:
            place.append(0)
            continue
        if e.__class__ is tuple:
            start, step, _ = e
            offset = i[d] - start
            place.append(offset if step == 1 else offset // step)
            hit = None if step == 1 else (offset % step).eq(0)
        else:
            hit = i[d].eq(e)
        d += 1
        if hit is not None:
            here = hit if here is None else here & hit
    value = g.at(*place, outside=0)
    return value if here is None else ir.where(here, value, ir.lift(0, value))


@_embed.backward
def _(g, spec):
    return OPS["_positions"](g, spec)


def partial_view(m: Meta, spec: tuple[Any, ...], name: str) -> tuple[Meta, Any, Any]:
    """Metadata, gradient entry (under PyTorch's ``name``) and parameters of the view that takes ``spec`` of each axis.

    ``spec`` has per axis an int, or (start, step, length), and None for a new axis.
    """
    op = _positions.operation
    made = op.fn(m, spec)
    entry = op.grad_entry((m,), (spec,), made)
    if entry is not None:
        entry.name = name + "Backward0"
    return made, entry, ((spec,), ())


# ------------------------------------------------------------------ x[tensors]


def broadcast_indices(tensors: Sequence[Any]) -> tuple[int, ...]:
    """The common shape of index tensors."""
    try:
        return broadcast_shapes(*[x.shape for x in tensors])
    except RuntimeError:
        raise IndexError("shape mismatch: indexing tensors could not be broadcast together with shapes "
                         + ", ".join(str(list(x.shape)) for x in tensors)) from None


def _arrangement(shape: Sequence[int], dims: Sequence[int], common: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Shape of ``x[...]`` with tensors of shape ``common`` at ``dims``, and where their axes stand in it."""
    adjacent = all(b == a + 1 for a, b in pairwise(dims))
    at = dims[0] if adjacent else 0
    rest = [s for d, s in enumerate(shape) if d not in dims]
    return (*rest[:at], *common, *rest[at:]), at


def index_result(m: Meta, dims: Sequence[int], tensors: Sequence[Any]) -> tuple[int, ...]:
    """The shape of what indexing gives."""
    return _arrangement(m.shape, dims, broadcast_indices(tensors))[0]


def _places(i: Sequence[Expr], shape: Sequence[int], dims: Sequence[int], tensors: Sequence[Operand], at: int, ndim: int,
            trusted: bool = False) -> list[Expr]:
    """The index into an operand of ``shape`` for position ``i`` of the result."""
    inner = i[at:at + ndim]
    rest = iter([*i[:at], *i[at + ndim:]])
    given = dict(zip(dims, tensors, strict=True))
    return [place_of(at_broadcast(given[d], inner), n, OUT_OF_BOUNDS % d, negative=True, trusted=trusted) if d in given else next(rest)
            for d, n in enumerate(shape)]


def _index_formula(input, dims: tuple, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    shape, at = _arrangement(input.shape, dims, common)
    i = out(*shape)
    return input[tuple(_places(i, input.shape, dims, tensors, at, len(common)))]


_index = compute(_index_formula, name="_index", node="Index")
_masked_index = compute(_index_formula, name="_masked_index", node="MaskedSelect")


@_index.backward
@_masked_index.backward
def _(g, input_meta, i0, i1, i2, i3, i4, i5, i6, i7, dims):
    return OPS["_index_add"](g, dims, i0, i1, i2, i3, i4, i5, i6, i7, shape=tuple(input_meta.shape)), *(None,) * 8


@compute(name="_index_add")
def _index_add(g, dims: tuple, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None, *, shape: tuple):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    at = _arrangement(shape, dims, common)[1]
    i = out(*g.shape)
    return Scattered(ir.const(0, compute_dtype(g.dtype)), tuple(_places(i, shape, dims, tensors, at, len(common))), g[i], shape, "sum")


@_index_add.backward
def _(g, i0, i1, i2, i3, i4, i5, i6, i7, dims):
    return OPS["_index"](g, dims, i0, i1, i2, i3, i4, i5, i6, i7), *(None,) * 8


@compute(name="_index_put", node="IndexPut", numbers=("values",))
def _index_put(input, values, dims: tuple, accumulate: bool, trusted: bool, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    shape, at = _arrangement(input.shape, dims, common)
    i = out(*shape)
    combine = ("any" if input.dtype is bool_ else "sum") if accumulate else ""
    places = tuple(_places(i, input.shape, dims, tensors, at, len(common), trusted))
    return Scattered(input, places, at_broadcast(values, i), tuple(input.shape), combine)


@_index_put.backward
def _(g, values_meta, i0, i1, i2, i3, i4, i5, i6, i7, dims, accumulate):
    indices = (i0, i1, i2, i3, i4, i5, i6, i7)
    own = g
    if not accumulate:
        own = OPS["_index_put"](g, 0.0, dims, False, False, *indices)
    return own, OPS["_index"](g, dims, *indices) if values_meta.__class__ is Meta else None, *(None,) * 8


def read_at(input: Any, dims: tuple[int, ...], tensors: Sequence[Any]) -> Any:
    """``input`` read at integer tensors standing at ``dims``."""
    return OPS["_index"](input, dims, *tensors)


def put_at(input: Any, dims: tuple[int, ...], tensors: Sequence[Any], values: Any, accumulate: bool) -> Any:
    """Store ``values`` in ``input`` at integer tensors standing at ``dims``."""
    if isinstance(values, NUMBERS):
        values = as_element(values, input._meta.dtype)
    else:
        form = input._meta, values._meta, dims, *[x._meta for x in tensors]
        if form not in _FITTING:
            check_put(input._meta, dims, tensors, values)
            if len(_FITTING) > 20_000:
                _FITTING.clear()
            _FITTING.add(form)
        if values._buffer is input._buffer:
            values = values.clone()
    tensors = [valid(x, input._meta.shape[d], OUT_OF_BOUNDS % d, True) for d, x in zip(dims, tensors, strict=True)]
    return inplace_call(_index_put.operation, (input, values, dims, accumulate, True, *tensors), {})


_FITTING: set[Any] = set()      # metadata that were checked


def check_put(m: Meta, dims: tuple[int, ...], tensors: Sequence[Any], values: Any) -> None:
    """The rules for the dtype and the shape of stored values."""
    if values.dtype is not m.dtype:
        raise RuntimeError(f"Index put requires the source and destination dtypes match, got {definition.title(m.dtype)} for the "
                           "destination "
                           f"and {definition.title(values.dtype)} for the source.\nConvert the value: value.to({m.dtype}).")
    shape = index_result(m, dims, tensors)
    try:
        fits = tuple(broadcast_shapes(shape, values.shape)) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of shape "
                           f"{list(shape)}")


def _keeps_dtype(promoted: Any, kinds: Any, params: Any) -> Any:
    return kinds[0].dtype, kinds[0].dtype


@pointwise(name="_mask_put", node="IndexPut", raw=("mask",), dtype=_keeps_dtype)
def _mask_put(input, mask, value):
    return ir.where(mask, value, input)


@_mask_put.backward
def _(g, mask):
    return OPS["_mask_put"](g, mask, 0.0), None, OPS["_mask_put"](g, mask.logical_not(), 0.0)


# ------------------------------------------------------------------ gather and scatter


def _length(shape: Sequence[int], dim: int) -> int:
    """Size of an axis; a 0-d tensor counts as one of size 1."""
    return shape[dim] if shape else 1


def _check_index(name: str, index: Operand, input: Operand, dim: int, src: Operand | None = None) -> None:
    """The rules for the index of ``gather`` and ``scatter``."""
    if 0 in index.shape:
        return
    if index.dtype is not int64 and index.dtype is not int32:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index\nThe index is {index.dtype.name}: convert it with .long().")
    whose = "input" if name == "gather" else "self"
    if max(1, index.ndim) != max(1, input.ndim):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as {whose} tensor\n"
                           f"{name}: the index has shape {list(index.shape)}, the {whose} {list(input.shape)}.")
    if src is not None and src.ndim and src.ndim != max(1, index.ndim):
        raise RuntimeError(f"Index tensor must have the same number of dimensions as src tensor\n"
                           f"{name}: the index has shape {list(index.shape)}, the src {list(src.shape)}.")
    for d in range(index.ndim):
        if name == "gather":
            if d != dim and index.shape[d] > _length(input.shape, d):
                raise RuntimeError(f"Size does not match at dimension {d} expected index {list(index.shape)} to be no larger than self "
                                   f"{list(input.shape)} "
                                   f"apart from dimension {dim}")
        elif (d != dim and index.shape[d] > _length(input.shape, d)) or (src is not None and src.ndim and index.shape[d] > src.shape[d]):
            more = f" and to be no larger size than src {list(src.shape)}" if src is not None and src.ndim else ""
            raise RuntimeError(f"Expected index {list(index.shape)} to be no larger than self {list(input.shape)} apart from dimension "
                               f"{dim}{more}")


def _at_index(i: Indices, index: Operand, input: Operand, dim: int, trusted: bool = False) -> tuple[Expr, ...]:
    """Where position ``i`` of the index points to in ``input``."""
    if 0 in index.shape:         # nowhere; the shape need not fit
        return (ir.const(0, int64),) * input.ndim
    place = place_of(index[i], _length(input.shape, dim), OUT_OF_RANGE % dim, trusted=trusted)
    if input.ndim == 0:
        return ()
    return (place,) if index.ndim == 0 else tuple(i.replace(dim, place))


@compute
def gather(input, dim: int, index, *, sparse_grad: bool = False):
    """Elements of ``input`` along ``dim`` at the positions in ``index``, which has the result's shape.

    ``out[i][j] = input[index[i][j]][j]`` for ``dim=0``.  ``index`` is int64 or int32 and may be smaller than ``input`` in the other
    dimensions.  Raises ``RuntimeError`` for another dtype or number of dimensions and for a position out of range.
    """
    d = wrap_dim(dim, input.ndim)
    _check_index("gather", index, input, d)
    i = out(*index.shape)
    return input[_at_index(i, index, input, d)]


@gather.backward
def _(g, input_meta, dim, index):
    return OPS["scatter_add"](_zeros(input_meta.shape, g), dim, index, g), None


def _zeros(shape: Sequence[int], like: Any) -> Any:
    return OPS["zeros"](tuple(shape), dtype=like.dtype, device=like.device)


def _scattered(name: str, input: Operand, dim: int, index: Operand, src: Operand, combine: str, trusted: bool) -> Scattered:
    d = wrap_dim(dim, input.ndim)
    if src.dtype is not input.dtype:
        raise RuntimeError(f"scatter(): Expected self.dtype to be equal to src.dtype\n{name}: self is {input.dtype.name}, src "
                           f"{src.dtype.name}.")
    _check_index("scatter", index, input, d, src)
    i = out(*index.shape)
    value = src[()] if src.ndim == 0 else src[0] if index.ndim == 0 else src[i] if src.ndim == index.ndim else src[(0,) * src.ndim]
    if input.dtype is bool_:
        combine = {"sum": "any", "prod": "all", "max": "any", "min": "all"}.get(combine, combine)
    return Scattered(input, _at_index(i, index, input, d, trusted), value, tuple(input.shape), combine)


def _scatter_into(op: Any, input: Any, dim: int, index: Any, src: Any, *more: Any) -> Any:
    """The in-place form of a scatter."""
    d = wrap_dim(dim, input.ndim)
    index = valid(index, _length(input.shape, d), OUT_OF_RANGE % d)
    return inplace_call(op.operation, (input, dim, index, src, *more, True), {})


@compute(name="_scatter", node=lambda input, index, src, **_: f"ScatterBackward{int(src.__class__ is not Meta or src.ndim == 0)}", numbers=("src",))
def _scatter(input, dim: int, index, src, trusted: bool = False):
    return _scattered("scatter", input, dim, index, src, "", trusted)


@_scatter.backward
def _(g, dim, index, src_meta):
    return OPS["_scatter"](g, dim, index, 0.0), None, _from_places(g, dim, index, src_meta)


def _from_places(g: Any, dim: int, index: Any, src: Any) -> Any:
    """The gradient of a scattered ``src``: what arrived at the places it went to, zero where the index did not reach."""
    if src.__class__ is not Meta:       # a number
        return None
    part = OPS["gather"](g, dim, index)
    if src.ndim == 0 and part.ndim:
        return part.sum()
    if part.shape != src.shape and part.ndim == src.ndim:
        part = OPS["_embed"](part, tuple(src.shape), tuple([(0, 1, n) for n in part.shape]))
    return part


@compute(name="_scatter_add", node="ScatterAdd")
def _scatter_add(input, dim: int, index, src, trusted: bool = False):
    return _scattered("scatter_add", input, dim, index, src, "sum", trusted)


@_scatter_add.backward
def _(g, dim, index, src_meta):
    return g, None, _from_places(g, dim, index, src_meta)


@public
def scatter_add(input: Any, dim: int, index: Any, src: Any, *, out: Any = None) -> Any:
    """A copy of ``input`` with the elements of ``src`` added at the positions ``index`` along ``dim``.

    ``out[index[i][j]][j] += src[i][j]`` for ``dim=0``; duplicates are added in order.
    """
    return OPS["_scatter_add"](input, dim, index, src, out=out)


@public(name="scatter_add_", function=False)
def scatter_add_(input: Any, dim: int, index: Any, src: Any) -> Any:
    """The in-place form of :func:`scatter_add`."""
    return _scatter_into(_scatter_add, input, dim, index, src)


def _as_src(input: Any, src: Any) -> Any:
    return src if isinstance(src, definition.Tensor) else OPS["full"]((), src, dtype=input.dtype, device=input.device)


_REDUCE = {"add": "sum", "multiply": "prod"}


def _scatter_form(src: Any, value: Any, reduce: str | None) -> tuple[Any, Any]:
    if reduce is not None and reduce not in _REDUCE:
        raise RuntimeError("reduce argument must be either add or multiply.")
    return (src if value is None else value), reduce


@public
def scatter(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None, out: Any = None) -> Any:
    """A copy of ``input`` with ``src`` (a tensor or a number) stored at the positions ``index`` along ``dim``.

    ``out[index[i][j]][j] = src[i][j]`` for ``dim=0``.  ``reduce``: "add" or "multiply" instead of replacing.
    """
    src, reduce = _scatter_form(src, value, reduce)
    if reduce is None:
        if isinstance(src, NUMBERS):
            src = as_element(src, input.dtype)
        return OPS["_scatter"](input, dim, index, src, out=out)
    return OPS["_scatter_combine"](input, dim, index, _as_src(input, src), _REDUCE[reduce], out=out)


@public(name="scatter_", function=False)
def scatter_(input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Any:
    """The in-place form of :func:`scatter`."""
    src, reduce = _scatter_form(src, value, reduce)
    if reduce is None:
        if isinstance(src, NUMBERS):
            src = as_element(src, input.dtype)
        return _scatter_into(_scatter, input, dim, index, src)
    return _scatter_into(_scatter_combine, input, dim, index, _as_src(input, src), _REDUCE[reduce])


@compute(name="_scatter_combine", node="ScatterReduce")
def _scatter_combine(input, dim: int, index, src, combine: str, trusted: bool = False):
    return _scattered("scatter_reduce", input, dim, index, src, combine, trusted)


@_scatter_combine.backward
def _(g, y, input, dim, index, src, combine):
    add = OPS["scatter_add"]
    if combine == "sum":
        return g, None, _from_places(g, dim, index, src._meta)
    if combine == "prod":
        # what multiplies a factor: the product of the others; exact where one factor is zero
        src = _reached(src, index)
        ones = OPS["ones"]((), dtype=g.dtype, device=g.device)
        own = input.eq(0)
        others = OPS["_scatter_combine"](OPS["where"](own, ones, input), dim, index, src, "prod")
        to_input = g * others / OPS["where"](own, ones, input)
        zero = src.eq(0)
        zeros = add(own.to(int64), dim, index, zero.to(int64))
        alone = zero.logical_and(OPS["gather"](zeros, dim, index).eq(1))
        patched = OPS["_scatter_combine"](input, dim, index, OPS["where"](alone, ones, src), "prod")
        rest = OPS["gather"](g * y, dim, index) / OPS["where"](zero, ones, src)
        return to_input, None, OPS["where"](alone, OPS["gather"](g * patched, dim, index), rest)
    # ties share the gradient evenly
    part = _reached(src, index)
    hit_input = input.eq(y).to(g.dtype)
    hit_src = part.eq(OPS["gather"](y, dim, index)).to(g.dtype)
    share = g / add(hit_input, dim, index, hit_src)
    return hit_input * share, None, hit_src * OPS["gather"](share, dim, index)


def _reached(src: Any, index: Any) -> Any:
    """The part of ``src`` that the index covers."""
    for d in range(index.ndim):
        if src.shape[d] != index.shape[d]:
            src = src.narrow(d, 0, index.shape[d])
    return src


_COMBINE = {"sum": "sum", "prod": "prod", "mean": "sum", "amax": "max", "amin": "min"}


def _identity(combine: str, like: Any) -> Any:
    d = like.dtype
    if combine in ("sum", "prod"):
        value: Any = 0 if combine == "sum" else 1
    elif d.is_floating_point:
        value = float("-inf") if combine == "max" else float("inf")
    elif d is bool_:
        value = combine == "min"
    else:
        value = iinfo(d).min if combine == "max" else iinfo(d).max
    return OPS["full"]((), value, dtype=d, device=like.device)


def _reduced_into(input: Any, dim: int, index: Any, src: Any, reduce: str, include_self: bool) -> Any:
    if reduce not in _COMBINE:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    combine = _COMBINE[reduce]
    base = input
    if not include_self:
        nowhere, yes = (OPS["full"](shape, value, dtype=bool_, device=input.device) for shape, value in ((input.shape, False), ((), True)))
        touched = OPS["_scatter"](nowhere, dim, index, yes)
        base = OPS["where"](touched, _identity(combine, input), input)
    made = OPS["_scatter_combine"](base, dim, index, src, combine)
    if reduce == "mean":
        ones = OPS["ones"]((), dtype=input.dtype, device=input.device)
        start = OPS["full"](input.shape, int(include_self), dtype=input.dtype, device=input.device)
        count = OPS["scatter_add"](start, dim, index, ones).clamp(min=1)
        made = made / count if input.dtype.is_floating_point else OPS["floor_divide"](made, count)
    return made


@public
def scatter_reduce(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True, out: Any = None) -> Any:
    """``input`` combined with the elements of ``src`` at the positions ``index`` along ``dim``.

    ``reduce`` is "sum", "prod", "mean", "amax" or "amin"; ``include_self=False`` leaves out the values of ``input``
    where something arrives.
    """
    return _given(out, _reduced_into(input, dim, index, src, reduce, include_self))


@public(name="scatter_reduce_", function=False)
def scatter_reduce_(input: Any, dim: int, index: Any, src: Any, reduce: str, *, include_self: bool = True) -> Any:
    """The in-place form of :func:`scatter_reduce`."""
    return input.copy_(_reduced_into(input, dim, index, src, reduce, include_self))


def _given(target: Any, made: Any) -> Any:
    """``made``, or ``out=`` holding it."""
    if target is None:
        return made
    if MODE.grad and (target._node is not None or made._node is not None):
        raise RuntimeError("functions with out=... arguments don't support automatic differentiation, but one of the arguments "
                           "requires grad.")
    definition.prepare_out("out", target, made._meta)
    definition.copy_into(target, made)
    return target


# ------------------------------------------------------------------ whole slices by number


@compute
def index_select(input, dim: int, index):
    """The slices of ``input`` along ``dim`` with the numbers in ``index`` (1-d or 0-d, int64 or int32)."""
    d = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    if index.dtype is not int64 and index.dtype is not int32:
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if input.ndim == 0:
        if 0 in index.shape or (index.ndim and index.shape[0] != 1):
            raise RuntimeError("index_select(): Index to scalar can have only 1 value")
        out()
        return input[()]
    i = out(*input.shape[:d], index.shape[0] if index.ndim else 1, *input.shape[d + 1:])
    place = check(index[i[d]] if index.ndim else index[()], input.shape[d],
                  "IndexError|index out of range in self\nindex_select: index {index} is outside 0..{last}.")
    return input[i.replace(d, place)]


@index_select.backward
def _(g, input_meta, dim, index):
    if input_meta.ndim == 0:
        return g, None
    return OPS["index_add"](_zeros(input_meta.shape, g), dim, index, g), None


def _spaced(shape: Sequence[int]) -> str:
    return " ".join(map(str, shape))


def _slices(name: str, input: Operand, dim: int, index: Operand, source: Operand, kind: type[Exception]) -> tuple[int, Indices]:
    """The rules for storing slices; the axis and the index variables of the source."""
    d = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise IndexError(f"{name}_(): Index is supposed to be a vector, but got dim: {index.ndim} with type: "
                         f"{definition.title(index.dtype)} "
                         f"and size: {list(index.shape)}")
    if index.dtype is not int64 and index.dtype is not int32:
        raise RuntimeError(f"{name}_(): Expected dtype int32/int64 for index but got: {definition.title(index.dtype)}")
    if source.dtype is not input.dtype:
        if name == "index_copy":
            raise RuntimeError("index_copy_(): self and source expected to have the same dtype, but got (self) "
                               f"{definition.title(input.dtype)} "
                               f"and (source) {definition.title(source.dtype)}")
        raise RuntimeError(f"{name}_(): self ({definition.title(input.dtype)}) and source ({definition.title(source.dtype)}) must have the "
                           "same scalar type")
    n = index.shape[0] if index.ndim else 1
    if source.ndim and input.ndim:
        rest = [tuple(s for k, s in enumerate(x.shape) if k != d) for x in (input, source)]
        if source.ndim != input.ndim or rest[0] != rest[1]:
            if name == "index_copy":
                raise RuntimeError("index_copy_(): Source/destination tensor must have same slice shapes. "
                                   f"Destination slice shape: {_spaced(rest[0])} at dimension {d} and source slice shape: "
                                   f"{_spaced(rest[1])} at dimension 0.")
            raise RuntimeError("source tensor shape must match self tensor shape, excluding the specified dimension. "
                               f"Got self.shape = {list(input.shape)} source.shape = {list(source.shape)}")
    elif input.ndim > 1:
        raise RuntimeError(f"{name}_(): Source/destination tensor must have same slice shapes. "
                           f"Destination slice shape: {_spaced(input.shape[:d] + input.shape[d + 1:])} at dimension {d} and source slice "
                           "shape:  at dimension 0.")
    if n != _length(source.shape, d):
        length = _length(source.shape, d)
        comma = f": ({length}), for dim: {d}" if name == "index_add" else f" ({length})"
        raise kind(f"{name}_(): Number of indices ({n}) should be equal to source.size(dim){comma}")
    return d, out(*source.shape)


def _stored(input: Operand, d: int, i: Indices, index: Operand, value: Expr, combine: str, message: str, trusted: bool) -> Scattered:
    number = index[i[d] if i else 0] if index.ndim else index[()]
    place = place_of(number, _length(input.shape, d), message % d, trusted=trusted)
    places = () if input.ndim == 0 else (place,) if not i else tuple(i.replace(d, place))
    return Scattered(input, places, value, tuple(input.shape), combine)


@compute(name="_index_add_slices", node="IndexAdd")
def _index_add_slices(input, dim: int, index, source, alpha: float = 1, trusted: bool = False):
    d, i = _slices("index_add", input, dim, index, source, RuntimeError)
    value = source[i]
    factor: Any = alpha         # an expression: formulas see run-time numbers as such
    value = value & factor.cast(bool_) if value.dtype is bool_ else value * factor.cast(value.dtype)
    return _stored(input, d, i, index, value, "any" if input.dtype is bool_ else "sum", OUT_OF_RANGE, trusted)


@_index_add_slices.backward
def _(g, dim, index, source_meta, alpha):
    part = OPS["index_select"](g, dim, index)
    return g, None, (part if alpha == 1 else part * alpha).reshape(source_meta.shape)


@public
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1, out: Any = None) -> Any:
    """A copy of ``input`` with ``alpha`` times the slices of ``source`` added to its slices numbered ``index`` along ``dim``."""
    return OPS["_index_add_slices"](input, dim, index, source, alpha, out=out)


@public(name="index_add_", function=False)
def index_add_(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    """The in-place form of :func:`index_add`."""
    d = wrap_dim(dim, input.ndim)
    index = valid(index, _length(input.shape, d), OUT_OF_RANGE % d)
    return inplace_call(_index_add_slices.operation, (input, dim, index, source, alpha, True), {})


@compute(name="_index_copy", node="IndexCopy")
def _index_copy(input, dim: int, index, source, trusted: bool = False):
    d, i = _slices("index_copy", input, dim, index, source, IndexError)
    return _stored(input, d, i, index, source[i], "", OUT_OF_COPY, trusted)


@_index_copy.backward
def _(g, dim, index, source_meta):
    return OPS["_index_fill"](g, dim, index, _zeros((), g)), None, OPS["index_select"](g, dim, index).reshape(source_meta.shape)


@public
def index_copy(input: Any, dim: int, index: Any, source: Any, *, out: Any = None) -> Any:
    """A copy of ``input`` with its slices numbered ``index`` along ``dim`` replaced by those of ``source``."""
    return OPS["_index_copy"](input, dim, index, source, out=out)


@public(name="index_copy_", function=False)
def index_copy_(input: Any, dim: int, index: Any, source: Any) -> Any:
    """The in-place form of :func:`index_copy`."""
    d = wrap_dim(dim, input.ndim)
    index = valid(index, _length(input.shape, d), OUT_OF_COPY % d)
    return inplace_call(_index_copy.operation, (input, dim, index, source, True), {})


@compute(name="_index_fill", node="IndexFill")
def _index_fill(input, dim: int, index, value, trusted: bool = False):
    d = wrap_dim(dim, input.ndim)
    if index.ndim > 1:
        raise RuntimeError("Index has to be a vector/scalar")
    if index.dtype is not int64:
        raise IndexError("index_fill_(): Expected dtype int64 for index.")
    if value.ndim:
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")
    n = index.shape[0] if index.ndim else 1
    i = out(*input.shape[:d], n, *input.shape[d + 1:])
    place = place_of(index[i[d]] if index.ndim else index[()], _length(input.shape, d), OUT_OF_BOUNDS % d, negative=True, trusted=trusted)
    places = tuple(i.replace(d, place)) if input.ndim else ()
    return Scattered(input, places, value[()].cast(compute_dtype(input.dtype)), tuple(input.shape))


@_index_fill.backward
def _(g, dim, index):
    return OPS["_index_fill"](g, dim, index, _zeros((), g)), None, OPS["index_select"](g, dim, index).sum()


@public
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Any:
    """A copy of ``input`` with its slices numbered ``index`` along ``dim`` filled with ``value`` (a number or a 0-d tensor)."""
    return OPS["_index_fill"](input, dim, index, _as_src(input, value))


@public(name="index_fill_", function=False)
def index_fill_(input: Any, dim: int, index: Any, value: Any) -> Any:
    """The in-place form of :func:`index_fill`."""
    d = wrap_dim(dim, input.ndim)
    if index.dtype is int64:
        index = valid(index, _length(input.shape, d), OUT_OF_BOUNDS % d, True)
    return inplace_call(_index_fill.operation, (input, dim, index, _as_src(input, value), True), {})


def _index_reduced(input: Any, dim: int, index: Any, source: Any, reduce: str, include_self: bool) -> Any:
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"index_reduce_(): self ({definition.title(input.dtype)}) and source ({definition.title(source.dtype)}) must "
                           "have the same scalar type")
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return _reduced_into(input.reshape(1), 0, index.reshape(-1), source.reshape(-1), reduce, include_self).reshape(())
    if index.numel() != _length(source.shape, d):
        raise RuntimeError(f"index_reduce_(): Number of indices ({index.numel()}) should be equal to source.size(dim): "
                           f"({_length(source.shape, d)}), for dim: {d}")
    wide = index.reshape([-1 if k == d else 1 for k in range(max(1, source.ndim))]).expand(source.shape if source.ndim else (1,))
    return _reduced_into(input, d, wide, source, reduce, include_self)


@public
def index_reduce(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True, out: Any = None) -> Any:
    """``input`` combined with the slices of ``source`` at its slices numbered ``index``; ``reduce``: "prod", "mean", "amax", "amin"."""
    return _given(out, _index_reduced(input, dim, index, source, reduce, include_self))


@public(name="index_reduce_", function=False)
def index_reduce_(input: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
    """The in-place form of :func:`index_reduce`."""
    return input.copy_(_index_reduced(input, dim, index, source, reduce, include_self))


# ------------------------------------------------------------------ index_put, take, put


@public(name="index_put_", function=False)
def index_put_(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """Store ``values`` at ``input[indices]``, or add them there with ``accumulate`` (duplicates included)."""
    dims, tensors = as_integers(input._meta, numbered(input, indices))
    if not tensors:
        return input
    return put_at(input, dims, tensors, values, accumulate)


@public
def index_put(input: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    """A copy of ``input`` with ``values`` stored at ``input[indices]``, or added there with ``accumulate``."""
    dims, tensors = as_integers(input._meta, numbered(input, indices))
    if not tensors:
        return input.clone()
    check_put(input._meta, dims, tensors, values)
    return OPS["_index_put"](input, values, dims, accumulate, False, *tensors)


def numbered(input: Any, indices: Any) -> list[tuple[int, Any]]:
    """(axis, index tensor) of a list that has one entry, a tensor or None, per axis (a mask: per mask)."""
    places: list[tuple[int, Any]] = []
    d = 0
    for e in indices:
        if e is None:
            d += 1
            continue
        if not isinstance(e, definition.Tensor):
            raise TypeError(f"expected Tensor as element {len(places)} in argument 0, but got {type(e).__name__}")
        if e.dtype not in (int64, int32, bool_):
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
        places.append((d, e))
        d += max(1, e.ndim) if e.dtype is bool_ else 1
    if d > input.ndim:
        raise IndexError(f"too many indices for tensor of dimension {input.ndim} (got {d})")
    return places


def as_integers(m: Meta, places: Sequence[tuple[int, Any]]) -> tuple[tuple[int, ...], list[Any]]:
    """Masks replaced by the positions where they hold: (axes, integer tensors), one tensor per axis."""
    dims: list[int] = []
    tensors: list[Any] = []
    for d, e in places:
        if e.dtype is bool_:
            where = OPS["nonzero"](e, as_tuple=True)
            dims.extend(range(d, d + len(where)))
            tensors.extend(where)
        else:
            dims.append(d)
            tensors.append(e)
    broadcast_indices(tensors)
    return tuple(dims), tensors


@compute(name="_take", node="Take")
def _take(input, index):
    i = out(*index.shape)
    return input[place_of(index[i], input.shape[0], OUT_OF_ELEMENTS, negative=True)]


@_take.backward
def _(g, input_meta, index):
    return OPS["_put"](_zeros(input_meta.shape, g), index, g, True), None


@public
def take(input: Any, index: Any, *, out: Any = None) -> Any:
    """Elements of ``input``, seen as one dimension, at the positions in ``index``; the result has the index's shape."""
    if index.dtype is not int64:
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {definition.title(index.dtype)}")
    if input.numel() == 0 and index.numel():
        raise IndexError("take(): tried to take from an empty tensor")
    return OPS["_take"](input.reshape(-1), index, out=out)


@compute(name="_put", node="Put")
def _put(input, index, source, accumulate: bool, trusted: bool = False):
    i = out(*index.shape)
    number = place_of(index[i], input.meta.numel, OUT_OF_ELEMENTS, negative=True, trusted=trusted)
    # row-major strides end in 1: the element number as the last index
    places = (ir.const(0, int64),) * (input.ndim - 1) + (number,) if input.ndim else ()
    combine = ("any" if input.dtype is bool_ else "sum") if accumulate else ""
    return Scattered(input, places, source[i], tuple(input.shape), combine)


@_put.backward
def _(g, index, accumulate):
    own = g if accumulate else OPS["_put"](g, index, _zeros(index.shape, g), False)
    return own, None, OPS["take"](g, index)


def _put_form(input: Any, index: Any, source: Any, accumulate: bool) -> tuple[Any, ...]:
    if index.dtype is not int64:
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {definition.title(index.dtype)}")
    if source.dtype is not input.dtype:
        raise RuntimeError("put_(): self and source expected to have the same dtype, but got "
                           f"self.dtype = {definition.title(input.dtype)} and source.dtype = {definition.title(source.dtype)}")
    if source.numel() != index.numel():
        raise IndexError("put_(): Expected source and index to have the same number of elements, but got "
                         f"source.numel() = {source.numel()}, index.numel() = {index.numel()}")
    if input.numel() == 0 and index.numel():
        raise IndexError("put_(): Expected self to be non-empty")
    return input, index, source.reshape(index.shape), bool(accumulate)


@public(function=True)
def put(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """A copy of ``input`` with ``source`` stored (or added) at the element numbers in ``index``."""
    return OPS["_put"](*_put_form(input, index, source, accumulate))


@public(name="put_", function=False)
def put_(input: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    """The in-place form of :func:`put`."""
    input, index, source, accumulate = _put_form(input, index, source, accumulate)
    index = valid(index, input.numel(), OUT_OF_ELEMENTS, True)
    return inplace_call(_put.operation, (input, index, source, accumulate, True), {})


@public
def take_along_dim(input: Any, indices: Any, dim: int | None = None, *, out: Any = None) -> Any:
    """``gather`` with ``input`` and ``indices`` broadcast against each other; without ``dim`` both are seen as one dimension."""
    if indices.dtype is not int64:
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {definition.title(indices.dtype)}")
    if dim is None:
        return OPS["gather"](input.reshape(-1), 0, indices.reshape(-1), out=out)
    if input.ndim != indices.ndim:
        raise RuntimeError("torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                           f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices")
    d = wrap_dim(dim, input.ndim)
    if input.ndim:
        indices = OPS["where"](indices < 0, indices + input.shape[d], indices)
    common = broadcast_shapes(*[[1 if k == d else s for k, s in enumerate(x.shape)] for x in (input, indices)])
    wide = [tuple(x.shape[d] if k == d else s for k, s in enumerate(common)) for x in (input, indices)]
    return OPS["gather"](input.expand(wide[0]), d, indices.expand(wide[1]), out=out)


# ------------------------------------------------------------------ masks


def read_at_once(input: Any) -> bool:
    """Whether what is read under a mask has no gradient, and can be read now, as the mask must be."""
    return (input._node is None or not MODE.grad) and input._meta.device is CPU and STATE.tracing is None


def masked(input: Any, d: int, mask: Any) -> Any:
    """The elements of ``input`` where ``mask`` holds, which stands for as many of its dimensions from ``d`` on; without a gradient."""
    a, b = bits(input), bits(mask)
    return OPS["_from_array"](a[(slice(None),) * d + (b,)], input._meta.dtype)


def bits(t: Any) -> Any:
    """The elements as they are stored, as a NumPy array."""
    t._ready()
    m = t._meta
    return array_over(t._buffer.ptr + m.offset * m.dtype.itemsize, m.shape, None if m.contiguous else m.strides, m.dtype)


@public
def masked_select(input: Any, mask: Any, *, out: Any = None) -> Any:
    """The elements of ``input`` where ``mask`` holds, in order, as one dimension."""
    if mask.dtype is not bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    if out is None and input.shape == mask.shape and read_at_once(input):
        return masked(input, 0, mask)
    shape = broadcast_shapes(input.shape, mask.shape)
    where = OPS["nonzero"](mask.expand(shape).reshape(-1), as_tuple=True)
    return OPS["_masked_index"](input.expand(shape).reshape(-1), (0,), *where, out=out)


def _masked_source(input: Any, mask: Any, source: Any) -> tuple[Any, ...] | None:
    """Operands of the formula: mask, place of each element in the source, source; None when there is nothing to store."""
    if mask.dtype is not bool_:
        raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {definition.title(mask.dtype)}")
    if source.dtype is not input.dtype:
        raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got{definition.title(input.dtype)} and "
                           f"{definition.title(source.dtype)}")
    if source.numel() == 0:
        if mask.numel() and bool(mask.any()):
            raise RuntimeError("Number of elements of source < number of ones in mask")
        return None
    return mask, OPS["cumsum"](mask.reshape(-1), 0).reshape(mask.shape) - 1, source.reshape(-1)


@compute(name="_masked_scatter", node="MaskedScatter")
def _masked_scatter(input, mask, place, source):
    i = out(*input.shape)
    hit = mask[i]
    number = check(ir.where(hit, place[i], 0), source.shape[0], "RuntimeError|Number of elements of source < number of ones in mask")
    return ir.where(hit, source[number], input[i])


@_masked_scatter.backward
def _(g, mask, place, source_meta):
    return OPS["_mask_put"](g, mask, 0.0), None, None, OPS["_masked_collect"](g, mask, place, source_meta.shape[0])


@compute(name="_masked_collect")
def _masked_collect(g, mask, place, n: int):
    i = out(*g.shape)
    hit = mask[i]
    number = check(ir.where(hit, place[i], 0), n, "RuntimeError|Number of elements of source < number of ones in mask")
    return Scattered(ir.const(0, compute_dtype(g.dtype)), (number,), g[i], (n,), "", hit)


@_masked_collect.backward
def _(g, g_meta, mask, place):
    return OPS["_masked_scatter"](_zeros(mask.shape, g), mask, place, g), None, None


@public
def masked_scatter(input: Any, mask: Any, source: Any) -> Any:
    """A copy of ``input`` whose elements where ``mask`` holds are replaced, in order, by the elements of ``source``."""
    shape = broadcast_shapes(input.shape, mask.shape)
    operands = _masked_source(input, mask.expand(shape), source)
    return input.expand(shape).clone() if operands is None else OPS["_masked_scatter"](input.expand(shape), *operands)


@public(name="masked_scatter_", function=False)
def masked_scatter_(input: Any, mask: Any, source: Any) -> Any:
    """The in-place form of :func:`masked_scatter`."""
    operands = _masked_source(input, mask.expand(input.shape), source)
    return input if operands is None else inplace_call(_masked_scatter.operation, (input, *operands), {})


# ------------------------------------------------------------------ rows of a table


@compute
def embedding(weight, indices, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False):
    """Rows of ``weight`` (2-d) with the numbers in ``indices`` (int64 or int32, any shape): shape ``(*indices.shape, columns)``.

    The row ``padding_idx`` gets no gradient; ``scale_grad_by_freq`` divides a row's gradient by how often it was used.
    """
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    if indices.dtype is not int64 and indices.dtype is not int32:
        from ..core.shape import _type_name

        raise RuntimeError("Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
                           f"torch.{_type_name(indices.meta)} instead (while checking arguments for embedding)\n"
                           f"embedding: the indices are row numbers and must be int64, got {indices.dtype.name}. Use x.long().")
    *i, j = out(*indices.shape, weight.shape[1])
    return weight[_row(indices[tuple(i)], weight.shape[0]), j]


def _row(index: Expr, n: int) -> Expr:
    return check(index, n, "IndexError|index out of range in self\nembedding: index {index} is outside 0..{last} (num_embeddings={size}). "
                           "Set num_embeddings to the largest index + 1, padding and unknown tokens counted.")


@embedding.backward
def _(g, weight_meta, indices, padding_idx, scale_grad_by_freq):
    n = weight_meta.shape[0]
    if scale_grad_by_freq:
        counts = OPS["scatter_add"](_zeros((n,), g), 0, indices.reshape(-1), OPS["ones"]((), dtype=g.dtype, device=g.device))
        g = g / counts[indices].unsqueeze(-1)
    return OPS["_embedding_to_weight"](g, indices, n, -1 if padding_idx is None else padding_idx), None


@compute(name="_embedding_to_weight", node="EmbeddingDenseBackward")
def _embedding_to_weight(g, indices, num_weights: int, padding_idx: int):
    *i, j = out(*g.shape)
    row = _row(indices[tuple(i)], num_weights)
    return Scattered(ir.const(0, compute_dtype(g.dtype)), (row, j), g[(*i, j)], (num_weights, g.shape[-1]), "sum",
                     row.ne(padding_idx) if padding_idx >= 0 else None)


@_embedding_to_weight.backward
def _(g, indices, padding_idx):
    made = OPS["embedding"](g, indices, padding_idx)
    if padding_idx >= 0:
        made = OPS["_mask_put"](made, indices.eq(padding_idx).unsqueeze(-1), 0.0)
    return made, None


@public(name="embedding_renorm_", method=False)
def embedding_renorm_(weight: Any, input: Any, max_norm: float, norm_type: float) -> Any:
    """Scale the rows of ``weight`` that ``input`` names down, in place, to a norm of at most ``max_norm``."""
    rows = OPS["unique"](input.reshape(-1))
    chosen = weight.detach()[rows]
    norms = chosen.norm(norm_type, 1, keepdim=True)
    weight.detach()[rows] = OPS["where"](norms > max_norm, chosen * (max_norm / (norms + 1e-7)), chosen)
    return weight


# ------------------------------------------------------------------ filling


@pointwise(name="_fill", node="Fill", dtype=_keeps_dtype)
def _fill(input, value):
    return value                 # ``input`` gives shape and dtype


@_fill.backward
def _(g):
    return OPS["zeros_like"](g), g


@public
def fill(input: Any, value: Any) -> Any:
    """A tensor like ``input`` with ``value`` (a number or a 0-d tensor) everywhere."""
    return OPS["_fill"](input, _as_src(input, value))


@public(name="fill_diagonal_", function=False)
def fill_diagonal_(input: Any, fill_value: Any, wrap: bool = False) -> Any:
    """Store one value where all indices are equal; with ``wrap`` the diagonal of a tall matrix starts again below its end."""
    m = input._meta
    if m.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if m.ndim > 2 and len(set(m.shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    n = min(m.shape)
    if n:
        OPS["as_strided"](input, (n,), (sum(m.strides),), m.offset).fill_(fill_value)
        if wrap and m.ndim == 2:
            for start in range(m.shape[1] + 1, m.shape[0], m.shape[1] + 1):
                fill_diagonal_(input[start:], fill_value)
    return input


@public(method=False)
def unravel_index(indices: Any, shape: Any) -> Any:
    """The coordinates, one tensor per dimension, of element numbers of a tensor of ``shape``."""
    if not isinstance(indices, definition.Tensor):
        raise TypeError(f"expected 'indices' to be of type 'torch.Tensor', but got {type(indices)}")
    if indices.dtype.category != 1:
        raise TypeError(f"expected 'indices' to be integer dtype, but got {indices.dtype}")
    sizes = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    steps = contiguous_strides(sizes)
    return tuple((indices // step) % size for size, step in zip(sizes, steps, strict=True))


@public(method=False)
def segment_reduce(data: Any, reduce: str, *, lengths: Any = None, indices: Any = None, offsets: Any = None, axis: int = 0, unsafe: bool = False,
                   initial: float | None = None) -> Any:
    """Runs of ``data`` along ``axis``, of the given ``lengths`` (or between ``offsets``), combined: "sum", "mean", "max", "min", "prod"."""
    names = {"sum": "sum", "mean": "sum", "max": "amax", "min": "amin", "prod": "prod"}
    if reduce not in names:
        raise RuntimeError(f"unsupported reduction given! {reduce}")
    if lengths is None:
        if offsets is None:
            raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
        lengths = offsets.diff(dim=-1)
    d = wrap_dim(axis, data.ndim)
    batch = lengths.shape[:-1]
    count = lengths.shape[-1]
    start = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": float("-inf"), "min": float("inf")}[reduce] if initial is None else initial
    flat = data.reshape((lengths.numel() // max(1, count), *data.shape[d:]))
    rows = []
    for values, n in zip(flat.unbind(0), lengths.reshape(-1, count).unbind(0), strict=True):
        place = _repeated_positions(n)
        if not unsafe and place.numel() != values.shape[0]:
            raise RuntimeError("segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) when !unsafe.")
        base = OPS["full"]((count, *values.shape[1:]), start, dtype=data.dtype)
        wide = place.reshape([-1] + [1] * (values.ndim - 1)).expand(values.shape)
        made = _reduced_into(base, 0, wide, values, names[reduce], True)
        if reduce == "mean":
            made = made / n.reshape([-1] + [1] * (values.ndim - 1)).to(data.dtype)
        rows.append(made)
    return OPS["stack"](rows).reshape((*batch, count, *data.shape[d + 1:]))


# ------------------------------------------------------------------ repeats, membership


@public
def repeat_interleave(input: Any, repeats: Any = None, dim: int | None = None, *, output_size: int | None = None) -> Any:
    """Every element (slice along ``dim``) repeated ``repeats`` times in place; ``repeats`` is a number or one number per slice.

    With one argument: the position ``i`` repeated ``input[i]`` times.
    """
    if repeats is None:
        return _repeated_positions(input)
    if dim is None:
        input, dim = input.reshape(-1), 0
    d = wrap_dim(dim, input.ndim)
    if not isinstance(repeats, definition.Tensor):
        if isinstance(repeats, (list, tuple)):
            repeats = OPS["tensor"](list(repeats), dtype=int64)
        else:
            if repeats < 0:
                raise RuntimeError("Repeats must be non-negative")
            if input.ndim == 0:
                input = input.reshape(1)
            shape = input.shape
            wide = input.unsqueeze(d + 1).expand(*shape[:d + 1], repeats, *shape[d + 1:])
            return wide.clone().reshape((*shape[:d], shape[d] * repeats, *shape[d + 1:]))
    if input.ndim == 0:
        input = input.reshape(1)
    n = input.shape[d]
    if repeats.ndim == 0 or (repeats.ndim == 1 and repeats.shape[0] == 1 and n != 1):
        repeats = repeats.reshape(-1).expand(n)
    if repeats.ndim != 1:
        raise RuntimeError("repeats must be 0-dim or 1-dim tensor")
    if repeats.shape[0] != n:
        raise RuntimeError(f"repeats must have the same size as input along dim, but got repeats.size(0) = {repeats.shape[0]} and "
                           f"input.size({d}) = {n}")
    return OPS["index_select"](input, d, _repeated_positions(repeats))


def _repeated_positions(repeats: Any) -> Any:
    from .host import from_host, host_array

    if repeats.ndim != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    if repeats.dtype is not int64 and repeats.dtype is not int32:
        raise RuntimeError("repeats has to be Long or Int tensor")
    import numpy as np

    counts = host_array(repeats)
    if counts.size and counts.min() < 0:
        raise RuntimeError("repeats can not be negative")
    return from_host(np.repeat(np.arange(counts.size, dtype=counts.dtype), counts))


# ------------------------------------------------------------------ copies under the views' names


def _copy_of_view(name: str) -> None:
    view_name = name.removesuffix("_copy")

    def call(input: Any, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        made = getattr(definition.Tensor, view_name)(input, *args, **kwargs)
        if isinstance(made, (tuple, list)):
            copies = tuple(x.clone() for x in made)
            if out is not None:
                for target, x in zip(out, copies, strict=True):
                    _given(target, x)
                return None
            return copies
        return _given(out, made.clone())

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"A copy of what :func:`{view_name}` shows."
    public(call, method=False)


for _name in ("alias", "as_strided", "detach", "diagonal", "expand", "narrow", "permute", "select", "split", "split_with_sizes",
              "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"):
    _copy_of_view(_name + "_copy")
definition.OPS["narrow_copy"].is_method = True


@public(method=False)
def slice_copy(input: Any, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1, *, out: Any = None) -> Any:
    """A copy of ``start:end:step`` along ``dim``."""
    d = wrap_dim(dim, input.ndim)
    return _given(out, input[(slice(None),) * d + (slice(start, end, step),)].clone())


__all__ = ["as_integers", "broadcast_indices", "index_result", "numbered", "partial_view", "put_at", "read_at"]
