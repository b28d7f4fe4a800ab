"""Views and rearrangements: new metadata on the same buffer, and the copies that join or repeat.

A view is a function from metadata to metadata; no instruction is recorded.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from ..autograd import graph
from ..autograd.graph import MODE
from ..core.dtype import dtype as DType
from ..core.shape import (
    Meta,
    as_shape,
    contiguous_strides,
    expand_meta,
    infer_size,
    layout,
    meta,
    permute_meta,
    select_meta,
    slice_meta,
    span,
    squeeze_meta,
    unsqueeze_meta,
    view_strides,
    wrap_dim,
    wrap_dims,
)
from ..ir import expression as ir
from ..ir.loops import Nest
from ..stream.record import signature
from . import definition
from .composite import public
from .definition import OPS, PartsEntry, ViewOf, by_metadata, compute, title, view
from .formula import Operand, out

# ------------------------------------------------------------------ views


@view(name="_view", node="View")
def view_(input: Meta, shape: tuple):
    """The same elements in row-major order with another shape, without a copy."""
    size = infer_size(shape, input.numel)
    strides = view_strides(input, size)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two contiguous subspaces). "
            "Use .reshape(...) instead.\n"
            f"view needs memory laid out in order, but this {list(input.shape)} tensor is not contiguous (made by transpose, permute, expand or a slice). "
            f"Use .reshape({', '.join(map(str, size))}), or .contiguous() first.")
    return layout(input, size, strides)


@view_.backward
def _(g, input_meta):
    return g.reshape(input_meta.shape)


@view(name="_as_strided", node="AsStrided")
def _as_strided(input: Meta, size: tuple, stride: tuple, storage_offset: int | None = None):
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}. Use flip().")
    return layout(input, size, stride, input.offset if storage_offset is None else storage_offset)


@public
def as_strided(input: Any, size: Any, stride: Any, storage_offset: int | None = None) -> Any:
    """A view with the given sizes, strides and offset (elements) of the same memory."""
    view = OPS["_as_strided"](input, tuple(size), tuple(stride), storage_offset)
    m, whole = view._meta, input._meta
    if m.numel:
        last = span(m)[1]
        # what lies inside the operand's own elements needs no look at the memory, which may not exist yet
        if last > span(whole)[1] and input.device.type != "meta" and (last + 1) * m.dtype.itemsize > (have := input.untyped_storage().nbytes()):
            raise RuntimeError(f"setStorage: sizes {list(m.shape)}, strides {list(m.strides)}, storage offset {m.offset}, and itemsize {m.dtype.itemsize} "
                               f"requiring a storage size of {(last + 1) * m.dtype.itemsize} are out of bounds for storage of size {have}")
    return view


@_as_strided.backward
def _(g, input_meta, size, stride, storage_offset):
    from ..autograd.inplace import _AsStrided

    v = layout(input_meta, size, stride, input_meta.offset if storage_offset is None else storage_offset)
    return _AsStrided(input_meta, v).run(None, g)[0]  # type: ignore[arg-type]


@view(name="expand", node="Expand")
def _expand(input: Meta, shape: tuple):
    return expand_meta(input, shape)


@_expand.backward
def _(g, input_meta):
    return g.sum_to_size(input_meta.shape)


@view(name="permute", node="Permute")
def _permute(input: Meta, dims: tuple):
    if len(dims) != input.ndim:
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions "
                           f"i.e. input.dim() = {input.ndim} is not equal to len(dims) = {len(dims)}")
    order = [wrap_dim(d, input.ndim) for d in dims]
    if len(set(order)) != len(order):
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return permute_meta(input, order)


@_permute.backward
def _(g, dims):
    n = len(dims)
    inverse = [0] * n
    for i, d in enumerate(dims):
        inverse[d % n] = i
    return OPS["permute"](g, tuple(inverse))


@view
def transpose(input: Meta, dim0: int, dim1: int):
    """Two dimensions exchanged; a view."""
    a, b = wrap_dim(dim0, input.ndim, "transpose", input.shape), wrap_dim(dim1, input.ndim, "transpose", input.shape)
    if input.ndim == 0:
        return input
    order = list(range(input.ndim))
    order[a], order[b] = b, a
    return permute_meta(input, order)


@transpose.backward
def _(g, dim0, dim1):
    return g.transpose(dim0, dim1)


@view
def t(input: Meta):
    """The transpose of a matrix; 0-d and 1-d tensors are returned as they are."""
    if input.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.ndim}D\nUse x.mT for the last two dimensions, or x.transpose(a, b).")
    return permute_meta(input, range(input.ndim)[::-1])


@t.backward
def _(g):
    return g.t()


@view
def select(input: Meta, dim: int, index: int):
    """One position of a dimension, which goes away; a view."""
    if input.ndim == 0:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, input.ndim, "select", input.shape)
    n = input.shape[d]
    if not -n <= index < n:
        raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}")
    return select_meta(input, d, index % n if n else 0)


@select.backward
def _(g, input_meta, dim, index):
    full = OPS["zeros"](input_meta.shape, dtype=g.dtype, device=g.device)
    return OPS["select_scatter"](full, g, dim, index)


@view(name="_slice", node="Slice")
def _slice(input: Meta, dim: int, start: int, stop: int, step: int):
    return slice_meta(input, dim, start, stop, step)


@_slice.backward
def _(g, input_meta, dim, start, stop, step):
    full = OPS["zeros"](input_meta.shape, dtype=g.dtype, device=g.device)
    return OPS["slice_scatter"](full, g, dim, start, stop, step)


@view
def unsqueeze(input: Meta, dim: int):
    """A dimension of size 1 inserted before ``dim``; a view."""
    return unsqueeze_meta(input, wrap_dim(dim, input.ndim + 1))


@unsqueeze.backward
def _(g, input_meta, dim):
    return g.squeeze(dim)


@view(name="_squeeze", node=lambda meta, dims: "SqueezeBackward0" if len(dims) == meta.ndim != 1 else "SqueezeBackward1")
def _squeeze(input: Meta, dims: tuple):
    return squeeze_meta(input, dims)


@_squeeze.backward
def _(g, input_meta):
    return g.reshape(input_meta.shape)


@view
def diagonal(input: Meta, offset: int = 0, dim1: int = 0, dim2: int = 1):
    """The diagonal of two dimensions as a last dimension; a view."""
    a, b = wrap_dim(dim1, input.ndim), wrap_dim(dim2, input.ndim)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    rows, columns = input.shape[a], input.shape[b]
    n = max(0, min(rows, columns - offset) if offset >= 0 else min(rows + offset, columns))
    start = input.offset
    if n:
        start += offset * input.strides[b] if offset >= 0 else -offset * input.strides[a]
    rest = [i for i in range(input.ndim) if i not in (a, b)]
    return layout(input, [*(input.shape[i] for i in rest), n], [*(input.strides[i] for i in rest), input.strides[a] + input.strides[b]], start)


@diagonal.backward
def _(g, input_meta, offset, dim1, dim2):
    full = OPS["zeros"](input_meta.shape, dtype=g.dtype, device=g.device)
    return OPS["diagonal_scatter"](full, g, offset, dim1, dim2)


@view
def unfold(input: Meta, dimension: int, size: int, step: int):
    """Windows of ``size`` every ``step`` along a dimension, as a new last dimension; a view."""
    d = wrap_dim(dimension, input.ndim)
    n = input.shape[d] if input.ndim else 1
    stride = input.strides[d] if input.ndim else 1
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {d} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if input.ndim == 0:
        return layout(input, (size,), (1,))
    shape = [*input.shape, size]
    strides = [*input.strides, stride]
    shape[d] = (n - size) // step + 1
    strides[d] = stride * step
    return layout(input, shape, strides)


@unfold.backward
def _(g, input_meta, dimension, size, step):
    return OPS["unfold_backward"](g, tuple(input_meta.shape), dimension, size, step)


@compute(name="unfold_backward")
def _unfold_backward(g, shape: tuple, dimension: int, size: int, step: int):
    d = dimension % len(shape) if shape else 0
    if not shape:
        i = out()
        return g.at(0)
    i = out(*shape)
    from .formula import Sum, over

    k = over(size)
    # element j of the input is at window w, place k where w*step + k == j
    offset = i[d] - k
    w = offset // step
    windows = g.shape[d]
    inside = (offset % step).eq(0) & (ir.const(0, ir.int64) <= w) & (w < windows)
    place = ir.minimum(ir.maximum(w, 0), windows - 1)
    value = g.at(*i[:d], place, *i[d + 1:], k)
    return Sum(ir.where(inside, value, ir.lift(0, value)), k)


@_unfold_backward.backward
def _(g, dimension, size, step):
    return g.unfold(dimension, size, step)


@view(name="detach_alias")
def _alias(input: Meta):
    return input


@view(name="alias", node="Alias")
def alias_(input: Meta):
    """The same tensor as a new object that shares memory."""
    return input


@alias_.backward
def _(g):
    return g


@view(name="view_as_dtype")
def _view_dtype(input: Meta, dtype: DType):
    if dtype.itemsize == input.dtype.itemsize:
        return meta(input.shape, input.strides, input.offset, dtype, input.device)
    old, new = input.dtype.itemsize, dtype.itemsize
    if input.ndim == 0:
        raise RuntimeError(f"self.dim() cannot be 0 to view {title(input.dtype)} as {title(dtype)} (different element sizes)")
    if input.strides[-1] != 1:
        raise RuntimeError(f"self.stride(-1) must be 1 to view {input.dtype} as {dtype} (different element sizes), but got {input.strides[-1]}")
    if old > new:
        r = old // new
        return meta((*input.shape[:-1], input.shape[-1] * r), (*(s * r for s in input.strides[:-1]), 1), input.offset * r, dtype, input.device)
    r = new // old
    if input.shape[-1] % r or any(s % r for s in input.strides[:-1]) or input.offset % r:
        raise RuntimeError(f"self.size(-1) must be divisible by {r} to view {input.dtype} as {dtype} (different element sizes), but got {input.shape[-1]}")
    return meta((*input.shape[:-1], input.shape[-1] // r), (*(s // r for s in input.strides[:-1]), 1), input.offset // r, dtype, input.device)


# ------------------------------------------------------------------ public forms of the views


@public(name="view", function=False)
@by_metadata
def _public_view(input: Any, *shape: Any, dtype: Any = None) -> Any:
    """The same elements with another shape, without a copy; raises ``RuntimeError`` where that is impossible. ``view(dtype)`` reads the bits anew."""
    if dtype is not None or (len(shape) == 1 and isinstance(shape[0], DType)):
        return ViewOf(OPS["view_as_dtype"], (dtype or shape[0],))
    return ViewOf(OPS["_view"], (as_shape(shape, "view"),))


@public
@by_metadata
def reshape(input: Any, *shape: Any) -> Any:
    """The same elements with another shape: a view where possible, else a copy."""
    return _reshaped(input, infer_size(as_shape(shape, "reshape"), input._meta.numel))


def _reshaped(input: Any, size: tuple[int, ...]) -> Any:
    if view_strides(input._meta, size) is None:
        return OPS["_view"](input.clone(), size)
    return ViewOf(OPS["_view"], (size,))


@public
def view_as(input: Any, other: Any) -> Any:
    """``input.view(other.shape)``."""
    return input.view(other.shape)


@public
def reshape_as(input: Any, other: Any) -> Any:
    """``input.reshape(other.shape)``."""
    return input.reshape(other.shape)


_expand_view = OPS["expand"]
_permute_view = OPS["permute"]


def _shape_form(view_op: Any, name: str) -> Any:
    def call(input: Any, *sizes: Any, **kwargs: Any) -> Any:
        for k in ("size", "dims"):
            if k in kwargs:
                sizes = (kwargs.pop(k),)
        kwargs.pop("implicit", None)
        if kwargs:
            raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(kwargs))}'")
        return ViewOf(view_op, (as_shape(sizes, name),))

    call.__name__ = call.__qualname__ = name
    call.__doc__ = {"expand": "Axes of size 1 stretched to the given sizes (-1 keeps a size); a view.",
                    "permute": "Dimensions reordered; a view."}[name]
    return public(by_metadata(call))


expand = _shape_form(_expand_view, "expand")
permute = _shape_form(_permute_view, "permute")


@public
def expand_as(input: Any, other: Any) -> Any:
    """``input.expand(other.shape)``."""
    return input.expand(other.shape)


@public
def broadcast_to(input: Any, size: Any) -> Any:
    """``input.expand(size)``."""
    return input.expand(tuple(size))


@public
@by_metadata
def squeeze(input: Any, dim: Any = None) -> Any:
    """Dimensions of size 1 removed: all, or those named; a view."""
    n = input._meta.ndim
    dims: tuple[int, ...]
    if dim is None:
        dims = tuple(range(n))
    elif isinstance(dim, (tuple, list)):
        dims = tuple(wrap_dim(d, n) for d in dim)
    else:
        dims = (wrap_dim(dim, n, "squeeze", input.shape),)
    return ViewOf(OPS["_squeeze"], (dims,))


@public
@by_metadata
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """Dimensions from ``start_dim`` to ``end_dim`` joined into one."""
    m = input._meta
    a, b = wrap_dim(start_dim, m.ndim, "flatten"), wrap_dim(end_dim, m.ndim, "flatten")
    if m.ndim == 0:
        return _reshaped(input, (1,))
    if a > b:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if a == b:
        return input
    n = 1
    for s in m.shape[a:b + 1]:
        n *= s
    return _reshaped(input, (*m.shape[:a], n, *m.shape[b + 1:]))


@public
def ravel(input: Any) -> Any:
    """``input`` as one dimension."""
    return input.reshape(-1)


@public
@by_metadata
def unflatten(input: Any, dim: int, sizes: Any) -> Any:
    """A dimension split into ``sizes`` (one may be -1)."""
    m = input._meta
    d = wrap_dim(dim, m.ndim)
    sizes = tuple(sizes)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    known = 1
    for s in sizes:
        known *= s if s != -1 else 1
    if (-1 not in sizes and known != m.shape[d]) or (-1 in sizes and (known == 0 or m.shape[d] % known)):
        raise RuntimeError(f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {d} ({m.shape[d]}) in the input tensor")
    full = infer_size(sizes, m.shape[d])
    return _reshaped(input, (*m.shape[:d], *full, *m.shape[d + 1:]))


@public(name="swapaxes")
def swapaxes(input: Any, axis0: int, axis1: int) -> Any:
    """``transpose`` under NumPy's name."""
    return input.transpose(axis0, axis1)


@public(name="swapdims")
def swapdims(input: Any, dim0: int, dim1: int) -> Any:
    """``transpose`` under another name."""
    return input.transpose(dim0, dim1)


@public
def adjoint(input: Any) -> Any:
    """The conjugate transpose of the last two dimensions."""
    return input.transpose(-2, -1)


@public
@by_metadata
def movedim(input: Any, source: Any, destination: Any) -> Any:
    """Dimensions moved to other places, the rest in order; a view."""
    n = input._meta.ndim
    src = wrap_dims(source if isinstance(source, (tuple, list)) else (source,), n)
    dst = wrap_dims(destination if isinstance(destination, (tuple, list)) else (destination,), n)
    if len(src) != len(dst):
        raise RuntimeError(f"movedim: Invalid source or destination dims: source ({list(src)} dims) "
                           f"should contain the same number of dims as destination ({list(dst)} dims)")
    order = [-1] * n
    for s, d in zip(src, dst, strict=True):
        order[d] = s
    rest = iter([i for i in range(n) if i not in src])
    return ViewOf(_permute_view, (tuple([o if o >= 0 else next(rest) for o in order]),)) if n else input.alias()


@public
def moveaxis(input: Any, source: Any, destination: Any) -> Any:
    """``movedim`` under NumPy's name."""
    return movedim(input, source, destination)


@public
@by_metadata
def narrow(input: Any, dim: int, start: Any, length: int) -> Any:
    """``length`` positions of a dimension from ``start``; a view."""
    m = input._meta
    if m.ndim == 0:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d = wrap_dim(dim, m.ndim, "narrow", m.shape)
    start = int(start.item()) if hasattr(start, "item") else start
    n = m.shape[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= start <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if start < 0:
        start += n
    if start + length > n:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    return ViewOf(OPS["_slice"], (d, start, start + length, 1))


@public
@by_metadata
def chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    """At most ``chunks`` views of equal size along a dimension; the last may be smaller."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    if input._meta.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, input._meta.ndim)
    n = input._meta.shape[d]
    size = (n + chunks - 1) // chunks
    if size == 0:
        return tuple(narrow(input, d, 0, 0) for _ in range(chunks))
    return _cut("Split", input._meta, d, [min(size, n - i) for i in range(0, n, size)])


@public
@by_metadata
def split(input: Any, split_size_or_sections: Any, dim: int = 0) -> Any:
    """Views along a dimension: of one size (the last may be smaller), or of the sizes in a list."""
    m = input._meta
    if m.ndim == 0:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, m.ndim)
    n = m.shape[d]
    if isinstance(split_size_or_sections, int):
        size = split_size_or_sections
        if size < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={size}")
        if size == 0:
            if n:
                raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
            return (narrow(input, d, 0, 0),)
        sizes = [min(size, n - i) for i in range(0, n, size)] or [0]
    else:
        sizes = list(split_size_or_sections)
        if sum(sizes) != n or any(s < 0 for s in sizes):
            raise RuntimeError(f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {d}), "
                               f"but got split_sizes={sizes}")
    return _cut("Split" if isinstance(split_size_or_sections, int) else "SplitWithSizes", m, d, sizes)


def _cut(name: str, m: Meta, d: int, sizes: list[int]) -> PartsEntry:
    """The views of these sizes along a dimension, one after another."""
    metas = []
    at = 0
    for s in sizes:
        metas.append(slice_meta(m, d, at, at + s, 1))
        at += s
    return PartsEntry(name, metas, lambda grads: OPS["cat"](grads, d))


@public
def split_with_sizes(input: Any, split_sizes: Any, dim: int = 0) -> Any:
    """``split`` with a list of sizes."""
    return split(input, list(split_sizes), dim)


@public
def unsafe_split(input: Any, split_size: Any, dim: int = 0) -> Any:
    """``split`` whose parts PyTorch does not track as views of each other."""
    return split(input, split_size, dim)


@public
def unsafe_chunk(input: Any, chunks: int, dim: int = 0) -> Any:
    """``chunk`` whose parts PyTorch does not track as views of each other."""
    return chunk(input, chunks, dim)


@public
def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> Any:
    """Views along a dimension: so many of nearly equal size, or cut at the given indices."""
    if input._meta.ndim == 0:
        raise RuntimeError("tensor_split expected at least a 1-dimensional tensor, but got a tensor with 0 dims")
    d = wrap_dim(dim, input._meta.ndim)
    n = input._meta.shape[d]
    if isinstance(indices_or_sections, definition.Tensor):
        indices_or_sections = indices_or_sections.tolist()
    if isinstance(indices_or_sections, int):
        k = indices_or_sections
        if k <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {k}")
        sizes = [n // k + (i < n % k) for i in range(k)]
        cuts = [sum(sizes[:i]) for i in range(1, k)]
    else:
        cuts = list(indices_or_sections)
    edges = [0, *cuts, n]
    parts = []
    for a, b in zip(edges[:-1], edges[1:], strict=True):
        s, e, _ = slice(a, b).indices(n)
        parts.append(OPS["_slice"](input, d, s, max(s, e), 1))
    return tuple(parts)


def _split_along(name: str, dim_of: Any, least: int) -> None:
    def call(input: Any, indices_or_sections: Any) -> Any:
        if input._meta.ndim < least:
            raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension{'s' if least > 1 else ''}, "
                               f"but got a tensor with {input._meta.ndim} dimensions!")
        d = dim_of(input._meta.ndim)
        if isinstance(indices_or_sections, int) and input._meta.shape[d] % max(1, indices_or_sections):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {input._meta.shape[d]} is not "
                               f"divisible by the split_size {indices_or_sections}!")
        return tensor_split(input, indices_or_sections, d)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"``tensor_split`` as NumPy's ``{name}``."
    public(call)


_split_along("hsplit", lambda n: 0 if n == 1 else 1, 1)
_split_along("vsplit", lambda n: 0, 2)
_split_along("dsplit", lambda n: 2, 3)


@public
@by_metadata
def unbind(input: Any, dim: int = 0) -> Any:
    """The positions of a dimension as a tuple of views."""
    if input._meta.ndim == 0:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, input._meta.ndim)
    m = input._meta
    return PartsEntry("Unbind", [select_meta(m, d, i) for i in range(m.shape[d])], lambda grads: OPS["stack"](grads, d))


@public
def atleast_1d(*tensors: Any) -> Any:
    """0-d tensors as 1-d."""
    return _at_least(tensors, lambda x: x if x.ndim >= 1 else x.reshape(1))


@public
def atleast_2d(*tensors: Any) -> Any:
    """Tensors with at least two dimensions; new ones come first."""
    return _at_least(tensors, lambda x: x if x.ndim >= 2 else x.reshape(1, 1) if x.ndim == 0 else x.unsqueeze(0))


@public
def atleast_3d(*tensors: Any) -> Any:
    """Tensors with at least three dimensions, placed as NumPy places them."""

    def widened(x: Any) -> Any:
        if x.ndim >= 3:
            return x
        if x.ndim == 0:
            return x.reshape(1, 1, 1)
        return (x.unsqueeze(0) if x.ndim == 1 else x).unsqueeze(-1)

    return _at_least(tensors, widened)


def _at_least(tensors: Sequence[Any], f: Any) -> Any:
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        return tuple(f(x) for x in tensors[0])
    made = tuple(f(x) for x in tensors)
    return made[0] if len(made) == 1 else made


@public
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """Matrices with the last dimension of ``input`` on a diagonal."""
    n = input.ndim + 1
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    side = input.shape[-1] + abs(offset)
    rest = list(input.shape[:-1])
    shape = rest[:]
    for d in sorted((a, b)):
        shape.insert(d, side)
    full = OPS["zeros"](shape, dtype=input.dtype, device=input.device)
    return OPS["diagonal_scatter"](full, input, offset, a, b)


@public
def diag(input: Any, diagonal: int = 0, *, out: Any = None) -> Any:
    """The diagonal of a matrix, or a matrix with this diagonal."""
    if input.ndim == 1:
        return definition.store("diag", diag_embed(input, diagonal), out)
    if input.ndim == 2:
        return definition.store("diag", OPS["diagonal"](input, diagonal, 0, 1).clone(), out)
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")


@public
def diagflat(input: Any, offset: int = 0) -> Any:
    """A matrix with the elements of ``input`` on a diagonal."""
    return diag_embed(input.reshape(-1), offset)


# ------------------------------------------------------------------ writes into a copy


def _scatter_form(name: str, region: Any) -> None:
    """``<name>_scatter``: a copy of ``input`` in which a view of it is overwritten by ``src``."""

    def call(input: Any, src: Any, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        copy = OPS["clone"](input)
        where = region(copy, *args, **kwargs)
        if where.shape != src.shape:
            raise RuntimeError(f"expected src to have a size equal to the slice of self. src size = {list(src.shape)}, slice size = {list(where.shape)}")
        where.copy_(src)
        return definition.store(name, copy, out)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"A copy of ``input`` with ``src`` stored in its ``{name.removesuffix('_scatter')}``."
    public(call)


def _slice_of(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    d = wrap_dim(dim, x._meta.ndim)
    s, e, st = slice(start, end, step).indices(x._meta.shape[d])
    return OPS["_slice"](x, d, s, max(s, e), st)


_scatter_form("select_scatter", lambda x, dim, index: OPS["select"](x, dim, index))
_scatter_form("slice_scatter", _slice_of)
_scatter_form("diagonal_scatter", lambda x, offset=0, dim1=0, dim2=1: OPS["diagonal"](x, offset, dim1, dim2))
_scatter_form("as_strided_scatter", lambda x, size, stride, storage_offset=None: OPS["as_strided"](x, tuple(size), tuple(stride), storage_offset))


# ------------------------------------------------------------------ copies that rearrange


@compute
def flip(input, dims: tuple):
    """The order of the elements reversed along ``dims``."""
    dims = wrap_dims(dims if isinstance(dims, tuple) else (dims,), input.ndim) if dims != () else ()
    i = out(*input.shape)
    return input[tuple(input.shape[d] - 1 - e if d in dims else e for d, e in enumerate(i))]


@flip.backward
def _(g, dims):
    return OPS["flip"](g, dims)


@public
def fliplr(input: Any) -> Any:
    """``flip`` of dimension 1."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return input.flip((1,))


@public
def flipud(input: Any) -> Any:
    """``flip`` of dimension 0."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return input.flip((0,))


_flip_formula = OPS["flip"]


@public(name="flip")
def _flip_form(input: Any, *dims: Any) -> Any:
    """The order of the elements reversed along ``dims``."""
    return _flip_formula(input, as_shape(dims, "flip"))


@compute(name="_roll", node="Roll")
def _roll(input, shifts: tuple, dims: tuple):
    i = out(*input.shape)
    place = list(i)
    for s, d in zip(shifts, dims, strict=True):
        n = max(1, input.shape[d])
        s %= n
        # a comparison instead of a modulo: vector units have no integer division
        e = place[d] - s
        place[d] = ir.where(e < 0, e + n, e) if s else e
    return input[tuple(place)]


@_roll.backward
def _(g, shifts, dims):
    return OPS["_roll"](g, tuple(-s for s in shifts), dims)


@public
def roll(input: Any, shifts: Any, dims: Any = None) -> Any:
    """Elements moved along dimensions, those pushed out come in at the other end."""
    shifts = tuple(shifts) if isinstance(shifts, (tuple, list)) else (shifts,)
    if dims is None:
        if len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
        return OPS["_roll"](input.reshape(-1), shifts, (0,)).reshape(input.shape)
    dims = tuple(dims) if isinstance(dims, (tuple, list)) else (dims,)
    if len(dims) != len(shifts):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    for s, d in zip(shifts, dims, strict=True):
        input = OPS["_roll"](input, (s,), (wrap_dim(d, input.ndim),))
    return input


@public
def rot90(input: Any, k: int = 1, dims: Any = (0, 1)) -> Any:
    """Rotated by 90 degrees ``k`` times in the plane of two dimensions."""
    if input.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}\nrot90: dims={list(dims)} must name the plane, for example (0, 1).")
    a, b = (wrap_dim(d, input.ndim) for d in dims)
    if a == b:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 1:
        return input.flip((b,)).transpose(a, b)
    if k == 2:
        return input.flip((a, b))
    if k == 3:
        return input.flip((a,)).transpose(a, b)
    return input.clone()


@compute(name="_repeat", node="Repeat")
def _repeat(input, sizes: tuple):
    shape = (1,) * (len(sizes) - input.ndim) + tuple(input.shape)
    i = out(*(s * r for s, r in zip(shape, sizes, strict=True)))
    pad = len(sizes) - input.ndim
    return input[tuple(e % max(1, s) if r != 1 else e for e, s, r in zip(i[pad:], shape[pad:], sizes[pad:], strict=True))]


@_repeat.backward
def _(g, input_meta, sizes):
    shape = (1,) * (len(sizes) - input_meta.ndim) + tuple(input_meta.shape)
    parts: list[int] = []
    for s, r in zip(shape, sizes, strict=True):
        parts += [r, s]
    return g.reshape(parts).sum(tuple(range(0, 2 * len(sizes), 2))).reshape(input_meta.shape)


@public(function=False)
def repeat(input: Any, *repeats: Any) -> Any:
    """The tensor laid out ``repeats`` times along each dimension; a copy."""
    sizes = as_shape(repeats, "repeat")
    if len(sizes) < input.ndim:
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if min(sizes, default=0) < 0:
        shape = [s * r for s, r in zip((1,) * (len(sizes) - input.ndim) + tuple(input.shape), sizes)]
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {shape}")
    return OPS["_repeat"](input, sizes)


@public
def tile(input: Any, *dims: Any) -> Any:
    """``repeat`` with missing leading counts taken as 1."""
    sizes = as_shape(dims, "tile")
    return OPS["_repeat"](input, (1,) * (input.ndim - len(sizes)) + tuple(sizes))


# ------------------------------------------------------------------ joining


@public
def cat(tensors: Any, dim: int = 0, *, out: Any = None) -> Any:
    """Tensors joined along an existing dimension; all other sizes must agree."""
    if out is not None:
        tensors = list(tensors)
    return _into(out, _cat(tensors, dim), tensors)


def _cat(tensors: Any, dim: int) -> Any:
    if isinstance(tensors, definition.Tensor):
        raise TypeError("cat(): argument 'tensors' (position 1) must be tuple of Tensors, not Tensor")
    tensors = list(tensors)
    try:
        sig = _joined.get(("cat", dim, *[x._meta for x in tensors]))
    except (AttributeError, TypeError):
        sig = None
    if sig is not None:
        return _join(sig, tensors)
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    for i, x in enumerate(tensors):
        if not isinstance(x, definition.Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
        if x.ndim == 0:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    # an empty 1-d tensor goes with anything
    used = [x for x in tensors if x.shape != (0,)] or tensors[:1]
    first = used[0]
    d = wrap_dim(dim, first.ndim, "cat", first.shape)
    for i, x in enumerate(used):
        if x.ndim != first.ndim:
            raise RuntimeError(f"Tensors must have same number of dimensions: got {first.ndim} and {x.ndim}")
        for k in range(first.ndim):
            if k != d and x.shape[k] != first.shape[k]:
                raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Expected size {first.shape[k]} but got size {x.shape[k]} "
                                   f"for tensor number {i} in the list.\ncat(dim={d}): shapes are {', '.join(str(list(x.shape)) for x in used)}.")
    definition.common_device("cat", [x._meta for x in tensors])
    return _joined_anew("cat", used, dim, d, sum(x.shape[d] for x in used), definition.promote_kinds([x._meta for x in tensors]))


_joined: dict[Any, Any] = {}                # by the arguments
_joined_places: dict[Any, list[int]] = {}   # see ``definition.wandering``


def _joined_anew(name: str, used: list[Any], dim: Any, d: int, length: int, common: DType) -> Any:
    """Record a call that was checked and stores each part in its slice of the result, or, for ``stack``, at its position."""
    metas = tuple([x._meta for x in used])
    key = (name, d, common, metas)
    if key not in _joined and definition.wandering(_joined_places, (name, d, common, *metas)):
        used = [definition.fetched(x) for x in used]
        metas = tuple([x._meta for x in used])
        key = (name, d, common, metas)
    sig = _joined.get(key)
    if sig is None:
        if len(_joined) > 20_000:
            _joined.clear()
        shape = list(metas[0].shape)
        shape[d:d + (name == "cat")] = [length]
        result = meta(shape, None, 0, common, metas[0].device)
        ends = list(itertools.accumulate([m.shape[d] for m in metas])) if name == "cat" else []
        places = [slice_meta(result, d, e - m.shape[d], e, 1) for e, m in zip(ends, metas, strict=True)] if ends else [
            select_meta(result, d, i) for i in range(length)]
        sig = _joined[key] = signature(name, metas, (result,), _lower_cat, params=places, stable=key,
                                       grad=_JoinEntry(name, d, metas) if common.is_floating_point else None)
    if dim.__class__ is int:
        _joined[name, dim, *metas] = sig
    return _join(sig, used)


def _join(sig: Any, parts: list[Any]) -> Any:
    made = definition.record_fresh(sig, parts, ())
    if sig.grad is not None and MODE.grad:
        edges = [x._node for x in parts]
        if edges.count(None) < len(edges):
            made._node = graph.node(sig.grad, tuple(edges), ())
    return made


def _lower_cat(sig: Any, slots: Any, results: Any, scalar: int, new_slot: Any, origin: Any) -> list[Any]:
    steps = []
    for slot, m, into in zip(slots, sig.ins, sig.params, strict=True):
        value = ir.make("load", m.dtype, (), ir.Access(slot, m.offset, m.strides, m.dtype)).cast(into.dtype)
        steps.append(Nest("map", tuple(m.shape), m.ndim, value, ir.Access(results[0], into.offset, into.strides, into.dtype), origin=origin))
    return steps


class _JoinEntry:
    """The gradient of ``cat`` and ``stack``: slices."""

    def __init__(self, name: str, dim: int, metas: Sequence[Meta]) -> None:
        self.name, self.dim, self.metas = name.capitalize() + "Backward0", dim, metas
        self.stacked = name == "stack"
        self.passes = definition.Passes()

    def run(self, node: Any, g: Any) -> list[Any]:
        out = []
        at = 0
        for i, (m, e) in enumerate(zip(self.metas, node.edges, strict=True)):
            n = 1 if self.stacked else m.shape[self.dim]
            out.append(None if e is None else definition.fit(OPS["select"](g, self.dim, i) if self.stacked else narrow(g, self.dim, at, n), m))
            at += n
        return out


def _into(target: Any, made: Any, parts: Any) -> Any:
    if target is None:
        return made
    definition.prepare_out("cat", target, made._meta, parts)
    definition.copy_into(target, made)
    return target


@public(method=False)
def concat(tensors: Any, dim: int = 0, *, axis: int | None = None, out: Any = None) -> Any:
    """``cat`` under another name."""
    return cat(tensors, dim if axis is None else axis, out=out)


@public(method=False)
def concatenate(tensors: Any, dim: int = 0, *, axis: int | None = None, out: Any = None) -> Any:
    """``cat`` under NumPy's name."""
    return cat(tensors, dim if axis is None else axis, out=out)


@public(method=False)
def stack(tensors: Any, dim: int = 0, *, out: Any = None) -> Any:
    """Tensors of one shape joined along a new dimension."""
    tensors = list(tensors)
    try:
        sig = _joined.get(("stack", dim, *[x._meta for x in tensors]))
    except (AttributeError, TypeError):
        sig = None
    if sig is None:
        if not tensors:
            raise RuntimeError("stack expects a non-empty TensorList")
        shape = tensors[0].shape
        for i, x in enumerate(tensors):
            if x.shape != shape:
                raise RuntimeError(f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x.shape)} at entry {i}")
        metas = [x._meta for x in tensors]
        definition.common_device("cat", metas)
        made = _joined_anew("stack", tensors, dim, wrap_dim(dim, len(shape) + 1), len(tensors), definition.promote_kinds(metas))
    else:
        made = _join(sig, tensors)
    return _into(out, made, tensors)


@public(method=False)
def hstack(tensors: Any, *, out: Any = None) -> Any:
    """Joined along dimension 1 (0 for 1-d tensors)."""
    parts = atleast_1d(list(tensors))
    return cat(parts, 0 if parts[0].ndim == 1 else 1, out=out)


@public(method=False)
def vstack(tensors: Any, *, out: Any = None) -> Any:
    """Joined along dimension 0, 1-d tensors as rows."""
    return cat(atleast_2d(list(tensors)), 0, out=out)


@public(method=False)
def row_stack(tensors: Any, *, out: Any = None) -> Any:
    """``vstack`` under another name."""
    return vstack(tensors, out=out)


@public(method=False)
def dstack(tensors: Any, *, out: Any = None) -> Any:
    """Joined along dimension 2."""
    return cat(atleast_3d(list(tensors)), 2, out=out)


@public(method=False)
def column_stack(tensors: Any, *, out: Any = None) -> Any:
    """1-d tensors as columns, joined along dimension 1."""
    return hstack([x.reshape(x.numel(), 1) if x.ndim <= 1 else x for x in tensors], out=out)


@public(method=False)
def block_diag(*tensors: Any) -> Any:
    """A matrix with the given matrices along its diagonal."""
    parts = [x.reshape(1, x.numel()) if x.ndim < 2 else x for x in tensors]
    columns = sum(x.shape[1] for x in parts)
    rows = []
    at = 0
    for x in parts:
        left = OPS["zeros"](x.shape[0], at, dtype=x.dtype, device=x.device)
        right = OPS["zeros"](x.shape[0], columns - at - x.shape[1], dtype=x.dtype, device=x.device)
        rows.append(cat([left, x, right], 1))
        at += x.shape[1]
    return cat(rows, 0) if rows else OPS["zeros"](1, 0)


@public(method=False)
def broadcast_tensors(*tensors: Any) -> Any:
    """The tensors expanded to their common shape."""
    from ..core.shape import broadcast_shapes

    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    shape = broadcast_shapes(*[x.shape for x in tensors])
    return tuple(x.expand(shape) for x in tensors)


@public(method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> Any:
    """Grids of coordinates from 1-d tensors; ``indexing`` is "ij" or "xy"."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for x in tensors:
        if x.ndim > 1:
            raise RuntimeError(f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x} of shape {list(x.shape)}")
    parts = [x if x.ndim else x.reshape(1) for x in tensors]
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(parts) >= 2
    if swap:
        parts[0], parts[1] = parts[1], parts[0]
    shape = tuple([x._meta.numel for x in parts])
    last = len(parts) - 1
    grids = [x.reshape((1,) * i + (-1,) + (1,) * (last - i)).expand(shape) for i, x in enumerate(parts)]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


@public(method=False)
def cartesian_prod(*tensors: Any) -> Any:
    """All combinations of the elements of 1-d tensors, one per row."""
    for x in tensors:
        if x.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {list(x.shape)}")
    if len(tensors) == 1:
        return tensors[0]
    return stack([x.reshape(-1) for x in meshgrid(*tensors, indexing="ij")], 1)


@public
def combinations(input: Any, r: int = 2, with_replacement: bool = False) -> Any:
    """Combinations of ``r`` elements of a 1-d tensor, one per row."""
    import itertools

    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(input.shape)}")
    pick = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = list(pick(range(input.numel()), r))
    if not rows:
        return OPS["empty"](0, r, dtype=input.dtype) if r else OPS["empty"](0, dtype=input.dtype)
    return input[OPS["tensor"](rows)]


def _triangle(name: str, keep_lower: bool) -> Any:
    def formula(input: Operand, diagonal: int = 0):
        if input.ndim < 2:
            raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
        i = out(*input.shape)
        difference = i[-1] - i[-2]
        keep = difference <= diagonal if keep_lower else difference >= diagonal
        value = input[i]
        return ir.where(keep, value, ir.lift(0, value))

    formula.__name__ = name
    formula.__annotations__ = {"diagonal": "int"}
    formula.__doc__ = f"The {'lower' if keep_lower else 'upper'} triangle of the last two dimensions, zeros elsewhere."
    op = compute(formula, inplace=True)

    @op.backward
    def _(g, diagonal):
        return OPS[name](g, diagonal)

    return op


tril = _triangle("tril", True)
triu = _triangle("triu", False)


@public(method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None) -> Any:
    """Row and column numbers of the lower triangle, as a ``(2, n)`` tensor."""
    _not_negative(row, col)
    pairs = [(r, c) for r in range(row) for c in range(max(0, min(col, r + offset + 1)))]
    return _pairs(pairs, dtype)


@public(method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, layout: Any = None) -> Any:
    """Row and column numbers of the upper triangle, as a ``(2, n)`` tensor."""
    _not_negative(row, col)
    pairs = [(r, c) for r in range(row) for c in range(max(0, r + offset), col)]
    return _pairs(pairs, dtype)


def _not_negative(row: int, col: int) -> None:
    for name, n in (("row", row), ("col", col)):
        if n < 0:
            raise RuntimeError(f"{name} must be non-negative, got{n}")


def _pairs(pairs: list[tuple[int, int]], dtype: Any) -> Any:
    from ..core.dtype import int64

    d = dtype or int64
    return OPS["tensor"]([[r for r, _ in pairs], [c for _, c in pairs]], dtype=d) if pairs else OPS["empty"](2, 0, dtype=d)


@public(method=False)
def vander(x: Any, N: int | None = None, increasing: bool = False) -> Any:
    """The Vandermonde matrix of a 1-d tensor."""
    n = x.numel() if N is None else N
    powers = OPS["arange"](n) if increasing else OPS["arange"](n - 1, -1, -1) if n else OPS["arange"](0)
    return x.unsqueeze(1) ** powers


__all__ = ["contiguous_strides"]
