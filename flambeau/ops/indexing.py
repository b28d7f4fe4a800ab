"""Reads and writes at computed places: ``gather``, ``scatter``, ``index_*``, ``embedding`` and their relatives.

Each is a formula that reads an operand at an index taken from another one, or a scatter that stores there.  An index out of
range is found while the call executes and reported at the line that recorded it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd.graph import MODE
from ..core.dtype import bool_, compute_dtype, float32, int32, int64, promote_types
from ..core.shape import Meta, broadcast_shapes, layout, wrap_dim
from ..ir import expression as ir
from ..ir.expression import Expr
from . import definition
from .composite import public
from .definition import OPS, compute, inplace_call, pointwise, view
from .formula import Indices, Operand, Scattered, check, out

OUT_OF_BOUNDS = "IndexError|index {index} is out of bounds for dimension %d with size {size}"


def wrapped(index: Expr, size: int, dim: int) -> Expr:
    """``index`` counted from the end when negative, checked; the message shows it as it was given."""
    i = index.cast(int64)
    j = i + size
    return check(ir.where((i < 0) & (j >= 0), j, i), size, OUT_OF_BOUNDS % dim)


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
    adjacent = all(b == a + 1 for a, b in zip(dims[:-1], dims[1:], strict=True))
    at = dims[0] if adjacent else 0
    rest = [s for d, s in enumerate(shape) if d not in dims]
    return (*rest[:at], *common, *rest[at:]), at


def index_result(m: Meta, dims: Sequence[int], tensors: Sequence[Any]) -> tuple[int, ...]:
    """The shape of what indexing gives."""
    return _arrangement(m.shape, dims, broadcast_indices(tensors))[0]


def _places(i: Sequence[Expr], shape: Sequence[int], dims: Sequence[int], tensors: Sequence[Operand], at: int, ndim: int) -> list[Expr]:
    """The index into an operand of ``shape`` for position ``i`` of the result."""
    inner = i[at:at + ndim]
    rest = iter([*i[:at], *i[at + ndim:]])
    given = dict(zip(dims, tensors, strict=True))
    return [wrapped(at_broadcast(given[d], inner), n, d) if d in given else next(rest) for d, n in enumerate(shape)]


@compute(name="_index", node="Index")
def _index(input, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None, *, dims: tuple):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    shape, at = _arrangement(input.shape, dims, common)
    i = out(*shape)
    return input[tuple(_places(i, input.shape, dims, tensors, at, len(common)))]


@_index.backward
def _(g, input_meta, i0, i1, i2, i3, i4, i5, i6, i7, dims):
    return OPS["_index_add"](g, i0, i1, i2, i3, i4, i5, i6, i7, shape=tuple(input_meta.shape), dims=dims), *(None,) * 8


@compute(name="_index_add")
def _index_add(g, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None, *, shape: tuple, dims: tuple):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    at = _arrangement(shape, dims, common)[1]
    i = out(*g.shape)
    return Scattered(ir.const(0, compute_dtype(g.dtype)), tuple(_places(i, shape, dims, tensors, at, len(common))), g[i], shape, "sum")


@_index_add.backward
def _(g, i0, i1, i2, i3, i4, i5, i6, i7, dims):
    return OPS["_index"](g, i0, i1, i2, i3, i4, i5, i6, i7, dims=dims), *(None,) * 8


@compute(name="_index_put", node="IndexPut")
def _index_put(input, values, i0, i1=None, i2=None, i3=None, i4=None, i5=None, i6=None, i7=None, *, dims: tuple, accumulate: bool):
    tensors = [x for x in (i0, i1, i2, i3, i4, i5, i6, i7) if x is not None]
    common = broadcast_indices(tensors)
    shape, at = _arrangement(input.shape, dims, common)
    i = out(*shape)
    combine = ("any" if input.dtype is bool_ else "sum") if accumulate else ""
    return Scattered(input, tuple(_places(i, input.shape, dims, tensors, at, len(common))), at_broadcast(values, i), tuple(input.shape), combine)


@_index_put.backward
def _(g, values_meta, i0, i1, i2, i3, i4, i5, i6, i7, dims, accumulate):
    indices = (i0, i1, i2, i3, i4, i5, i6, i7)
    own = g
    if not accumulate:
        own = OPS["_index_put"](g, OPS["zeros"]((), dtype=g.dtype, device=g.device), *indices, dims=dims, accumulate=False)
    return own, OPS["_index"](g, *indices, dims=dims), *(None,) * 8


def read_at(input: Any, dims: tuple[int, ...], tensors: Sequence[Any]) -> Any:
    """``input`` read at integer tensors standing at ``dims``."""
    return OPS["_index"](input, *tensors, dims=dims)


def put_at(input: Any, dims: tuple[int, ...], tensors: Sequence[Any], values: Any, accumulate: bool) -> Any:
    """Store ``values`` in ``input`` at integer tensors standing at ``dims``."""
    m = input._meta
    if values.dtype is not m.dtype:
        raise RuntimeError(f"Index put requires the source and destination dtypes match, got {definition.title(m.dtype)} for the destination "
                           f"and {definition.title(values.dtype)} for the source.\nConvert the value: value.to({m.dtype}).")
    shape = index_result(m, dims, tensors)
    try:
        fits = tuple(broadcast_shapes(shape, values.shape)) == shape
    except RuntimeError:
        fits = False
    if not fits:
        raise RuntimeError(f"shape mismatch: value tensor of shape {list(values.shape)} cannot be broadcast to indexing result of shape {list(shape)}")
    if values._buffer is input._buffer:
        values = values.clone()
    return inplace_call(_index_put.operation, (input, values, *tensors), {"dims": dims, "accumulate": accumulate})


def _keeps_dtype(promoted: Any, kinds: Any, params: Any) -> Any:
    return kinds[0].dtype, kinds[0].dtype


@pointwise(name="_mask_put", node="IndexPut", raw=("mask",), dtype=_keeps_dtype)
def _mask_put(input, mask, value):
    return ir.where(mask, value, input)


@_mask_put.backward
def _(g, mask):
    return OPS["_mask_put"](g, mask, 0.0), None, OPS["_mask_put"](g, mask.logical_not(), 0.0)
