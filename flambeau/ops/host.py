"""Sorting, searching, finding: library routines on host arrays, and formulas for sorting few elements.

A routine whose result has a shape known beforehand is recorded like any call and runs in stream order; one whose shape depends
on the values executes what is pending and makes its result at once.  Sorting routines only find positions: the values are then
read at them by an ordinary recorded call, which is where the gradient comes from.
"""

from __future__ import annotations

from typing import Any

from ..core import blas
from ..core.dtype import bfloat16, bool_, float32, int32, int64
from ..core.shape import Meta, meta, wrap_dim
from ..ir import expression as ir
from . import definition
from .composite import composite, public
from .definition import OPS, compute, host
from .formula import Scattered, Sum, over
from .formula import out as axes
from .indexing import _given, bits
from .results import named


def host_array(t: Any) -> Any:
    """The values as a NumPy array (bfloat16 widened to float32)."""
    blas.prepare()      # what is done with them may be a product
    return _plain(t.detach())._array()


def from_host(a: Any) -> Any:
    """A tensor of a NumPy array made here."""
    return OPS["_from_array"](a)


def _plain(t: Any) -> Any:
    """``t`` in a dtype that NumPy has."""
    return t.to(float32) if t.dtype is bfloat16 else t


def _fresh(m: Meta, shape: Any, d: Any = int64) -> Meta:
    return meta(tuple(shape), None, 0, d, m.device)


# ------------------------------------------------------------------ positions of non-zero elements


@public
def nonzero(input: Any, *, out: Any = None, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero: an int64 tensor ``(count, ndim)``, or with ``as_tuple`` one 1-d tensor per axis."""
    import numpy as np

    a = bits(_plain(input))
    found = a.nonzero() if a.ndim else a.reshape(1).nonzero()
    if as_tuple:
        return tuple([from_host(x) for x in found])
    where = found[0].base       # usually the very matrix: what is found are its columns
    if where is None or where.shape != (found[0].size, a.ndim):
        where = np.stack(found, 1)[:, :a.ndim]
    return _given(out, from_host(where))


@public
def argwhere(input: Any) -> Any:
    """Positions of the elements that are not zero: an int64 tensor ``(count, ndim)``."""
    return nonzero(input)


def _static_outs(input: Meta, size: int, fill_value: int) -> Meta:
    return _fresh(input, (size, input.ndim))


def _nonzero_static(input, size: int, fill_value: int):
    """The first ``size`` positions of elements that are not zero."""


@host(_static_outs, like=_nonzero_static, name="_nonzero_static")
def _run_nonzero_static(ins: list[Any], outs: list[Any], scalars: list[Any], size: int, fill_value: int) -> None:
    import numpy as np

    where = np.argwhere(ins[0])[:size] if ins[0].ndim else np.empty((0, 0), np.int64)
    outs[0][:len(where)] = where
    outs[0][len(where):] = fill_value


@public
def nonzero_static(input: Any, *, size: int, fill_value: int = -1, out: Any = None) -> Any:
    """Exactly ``size`` positions of elements that are not zero: the first ones, or filled up with ``fill_value``."""
    if size < 0:
        raise RuntimeError("nonzero_static: 'size' must be an non-negative integer")
    return _given(out, OPS["_nonzero_static"](_plain(input.detach()), int(size), int(fill_value)))


# ------------------------------------------------------------------ sorting


def _order_outs(input: Meta, dim: int, descending: bool) -> Meta:
    return _fresh(input, input.shape)


def _order(input, dim: int, descending: bool):
    """Positions that sort ``input`` along ``dim``, equal elements in order, NaN counting as the largest."""


@host(_order_outs, like=_order, name="_order")
def _run_order(ins: list[Any], outs: list[Any], scalars: list[Any], dim: int, descending: bool) -> None:
    outs[0][...] = _stable(ins[0], dim, descending) if ins[0].ndim else 0


def _stable(a: Any, axis: int, descending: bool) -> Any:
    import numpy as np

    if not descending:
        return np.argsort(a, axis=axis, kind="stable")
    # from behind, so that equal elements keep their order when the result is turned around
    return a.shape[axis] - 1 - np.flip(np.argsort(np.flip(a, axis), axis=axis, kind="stable"), axis)


RANKED = 1024, 256      # elements that are sorted, or a few of which are chosen, by counting how many come before each one


@compute(name="_ranks")
def _ranks(input, dim: int, descending: bool):
    i = axes(*input.shape)
    k = over(input.shape[dim])
    a, b = input[i], input[i.replace(dim, k)]
    if input.dtype is bool_:
        a, b = a.cast(int32), b.cast(int32)
    if descending:
        before, after = _less(a, b), _less(b, a)
    else:
        before, after = _less(b, a), _less(a, b)
    return Sum(ir.where(before | (~after & (k < i[dim])), ir.const(1, int32), ir.const(0, int32)), k)


def _less(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    """Whether ``a < b``, NaN counting as the largest."""
    return (a < b) | (b.ne(b) & a.eq(a)) if a.dtype.is_floating_point else a < b


@compute(name="_by_ranks")
def _by_ranks(ranks, dim: int, k: int):
    i = axes(*ranks.shape)
    rank = ranks[i].cast(int64)
    return Scattered(ir.const(0, int64), tuple(i.replace(dim, rank)), i[dim], tuple([k if d == dim else s for d, s in enumerate(ranks.shape)]), guard=rank < k)


@composite
def _few_in_order(input: Any, dim: int, descending: bool, k: int) -> Any:
    return OPS["_by_ranks"](OPS["_ranks"](input, dim, descending), dim, k)


def in_order(input: Any, d: int, descending: bool) -> Any:
    """The positions that sort ``input`` along ``d``."""
    x = input.detach()
    if x._meta.numel and x._meta.ndim and (n := x._meta.shape[d]) <= RANKED[0]:
        return _few_in_order(x, d, descending, n)
    return OPS["_order"](_plain(x), d, descending)


def _best_outs(input: Meta, k: int, dim: int, largest: bool, ordered: bool) -> Meta:
    return _fresh(input, [k if d == dim else s for d, s in enumerate(input.shape)])


def _best(input, k: int, dim: int, largest: bool, ordered: bool):
    """Positions of the ``k`` largest or smallest elements along ``dim``."""


@host(_best_outs, like=_best, name="_best")
def _run_best(ins: list[Any], outs: list[Any], scalars: list[Any], k: int, dim: int, largest: bool, ordered: bool) -> None:
    import numpy as np

    a, y = ins[0], outs[0]
    if y.size == 0 or a.ndim == 0:
        y[...] = 0
        return
    a, y = np.moveaxis(a, dim, -1), np.moveaxis(y, dim, -1)
    n = a.shape[-1]
    if n <= 128 or k > n // 4:
        y[...] = _stable(a, -1, largest)[..., :k]
        return
    part = np.sort(np.argpartition(a, n - k if largest else k - 1, -1)[..., n - k if largest else 0:n if largest else k], -1)
    chosen = np.take_along_axis(a, part, -1)
    y[...] = np.take_along_axis(part, _stable(chosen, -1, largest), -1)


def _reads_along(name: str) -> Any:
    """The values at positions found by a routine, under PyTorch's name for the graph node."""

    def formula(input, dim: int, index):
        i = axes(*index.shape)
        if input.ndim == 0:
            return input[()]
        place = ir.minimum(ir.maximum(index[i], 0), input.shape[dim] - 1)
        return input[i.replace(dim, place)]

    op = compute(formula, name="_along_" + name, node=name)

    @op.backward
    def _(g, input_meta, dim, index):
        return OPS["scatter_add"](OPS["zeros"](input_meta.shape, dtype=g.dtype, device=g.device), dim, index, g), None

    return op


HISTOGRAM = named("histogram", "hist", "bin_edges")
HISTOGRAMDD = named("histogramdd", "hist", "bin_edges")
SORTED, TOP, KTH = (named(n, "values", "indices") for n in ("sort", "topk", "kthvalue"))
along_sort, along_topk, along_kth, along_median, along_mode = map(_reads_along, ("Sort", "Topk", "Kthvalue", "Median", "Mode"))


def _give_pair(target: Any, result: Any) -> Any:
    if target is None:
        return result
    return result.__class__(*[_given(t, x) for t, x in zip(target, result, strict=True)])


@public
def sort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False, *, out: Any = None) -> Any:
    """``(values, indices)``: the elements in order along ``dim``, and where each stood.

    Equal elements keep their order.  NaN counts as larger than every number.
    """
    d = wrap_dim(dim, input.ndim, "sort", input.shape)
    order = in_order(input, d, bool(descending))
    return _give_pair(out, SORTED(along_sort(input, d, order), order))


@public
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The positions that put ``input`` in order along ``dim``."""
    return in_order(input, wrap_dim(dim, input.ndim, "argsort", input.shape), bool(descending))


@public
def msort(input: Any, *, out: Any = None) -> Any:
    """``input`` in order along its first dimension."""
    return _given(out, sort(input, 0)[0])


@public
def topk(input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None) -> Any:
    """``(values, indices)`` of the ``k`` largest (or smallest) elements along ``dim``, in order.

    Raises ``RuntimeError`` when ``k`` exceeds the size of the dimension.
    """
    d = wrap_dim(dim, input.ndim, "topk", input.shape)
    k = int(k)
    n = input.shape[d] if input.ndim else 1
    if not 0 <= k <= n:
        raise RuntimeError(f"selected index k out of range\ntopk: k={k}, but dimension {d} has size {n} (shape {list(input.shape)}).")
    x = input.detach()
    if x._meta.numel and k and input.ndim and n <= RANKED[1]:
        places = _few_in_order(x, d, bool(largest), k)
    else:
        places = OPS["_best"](_plain(x), k, d, bool(largest), bool(sorted))
    return _give_pair(out, TOP(along_topk(input, d, places), places))


def _pick_outs(input: Meta, k: int, dim: int) -> Meta:
    return _fresh(input, [1 if d == dim else s for d, s in enumerate(input.shape)])


def _kth(input, k: int, dim: int):
    """The position of the ``k``-th smallest element along ``dim`` (of equal ones the first in order)."""


@host(_pick_outs, like=_kth, name="_kth")
def _run_kth(ins: list[Any], outs: list[Any], scalars: list[Any], k: int, dim: int) -> None:
    import numpy as np

    if outs[0].size:
        outs[0][...] = np.take(_stable(ins[0], dim, False), [k - 1], dim) if ins[0].ndim else 0


@public
def kthvalue(input: Any, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> Any:
    """``(values, indices)``: the ``k``-th smallest element along ``dim`` (counting from 1), and where it stands."""
    d = wrap_dim(dim, input.ndim, "kthvalue", input.shape)
    n = input.shape[d] if input.ndim else 1
    if n == 0:
        raise IndexError(f"kthvalue(): Expected reduction dim {d} to have non-zero size.")
    if not 1 <= k <= n:
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {d}\nkthvalue: k={k}, but the dimension "
                           f"has size {n}.")
    return _give_pair(out, _picked(KTH, along_kth, input, d, OPS["_kth"](_plain(input.detach()), int(k), d), keepdim))


def _picked(made: Any, read: Any, input: Any, d: int, places: Any, keepdim: bool) -> Any:
    values = read(input, d, places)
    if not keepdim and input.ndim:
        values, places = values.squeeze(d), places.squeeze(d)
    return made(values, places)


# ------------------------------------------------------------------ distinct elements


@public
def unique(input: Any, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """The distinct elements in order (or distinct slices along ``dim``); with flags also each element's place among them, and counts."""
    import numpy as np

    a = host_array(input)
    if dim is None and not (return_inverse or return_counts):
        a = np.sort(a, None)
        return _distinct(input, a[np.concatenate([np.ones(min(1, a.size), bool), a[1:] != a[:-1]])], None, None, False, False)
    if dim is None:
        values, inverse, counts = np.unique(a.reshape(-1), return_inverse=True, return_counts=True, equal_nan=False)
        inverse = inverse.reshape(a.shape)
    else:
        d = wrap_dim(dim, input.ndim, "unique", input.shape)
        if a.size == 0 and a.shape[d] and 0 in a.shape:
            raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
        values, inverse, counts = np.unique(a, return_inverse=True, return_counts=True, axis=d, equal_nan=False)
    return _distinct(input, values, inverse, counts, return_inverse, return_counts)


@public
def unique_consecutive(input: Any, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None) -> Any:
    """Every run of equal elements (or equal slices along ``dim``) reduced to one; with flags also each element's run, and the lengths."""
    import numpy as np

    a = host_array(input)
    if dim is not None:
        dim = wrap_dim(dim, input.ndim, "unique_consecutive", input.shape)
    n = a.size if dim is None or not a.ndim else a.shape[dim]
    rows = a.reshape(n, 1) if dim is None or not a.ndim else np.moveaxis(a, dim, 0).reshape(n, a.size // n if n else 0)
    starts = np.ones(n, bool)
    starts[1:] = (rows[1:] != rows[:-1]).any(1)
    at = np.flatnonzero(starts)
    inverse = np.cumsum(starts) - 1
    counts = np.diff(np.append(at, n))
    if dim is None:
        values, inverse = a.reshape(-1)[at], inverse.reshape(a.shape)
    else:
        values = np.take(a, at, dim) if a.ndim else a
    return _distinct(input, values, inverse, counts, return_inverse, return_counts)


def _distinct(input: Any, values: Any, inverse: Any, counts: Any, return_inverse: bool, return_counts: bool) -> Any:
    first = from_host(values)
    made = [first if first.dtype is input.dtype else first.to(input.dtype)]
    if return_inverse:
        made.append(from_host(inverse.astype("int64")))
    if return_counts:
        made.append(from_host(counts.astype("int64")))
    return tuple(made) if len(made) > 1 else made[0]


# ------------------------------------------------------------------ searching


def _found_outs(sequence: Meta, values: Meta, right: bool, narrow: bool) -> Meta:
    return _fresh(sequence, values.shape, int32 if narrow else int64)


def _found(sequence, values, right: bool, narrow: bool):
    """Where each of ``values`` would be inserted into the sorted ``sequence``."""


@host(_found_outs, like=_found, name="_found")
def _run_found(ins: list[Any], outs: list[Any], scalars: list[Any], right: bool, narrow: bool) -> None:
    import numpy as np

    sequence, values = ins
    side: Any = "right" if right else "left"
    if sequence.ndim <= 1:
        outs[0][...] = np.searchsorted(sequence.reshape(-1), values, side)
        return
    for row in np.ndindex(*sequence.shape[:-1]):
        outs[0][row] = np.searchsorted(sequence[row], values[row], side)


@public
def searchsorted(sorted_sequence: Any, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: Any = None, out: Any = None) -> Any:
    """Where each element of ``input`` would be inserted into ``sorted_sequence`` (sorted along its last dimension).

    ``side="right"`` (or ``right=True``) puts it after equal elements.  ``sorter``: positions that sort the sequence.
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError("torch.searchsorted(): side and right can't be set to opposites, got side of left while right was True")
    if not isinstance(input, definition.Tensor):
        if sorted_sequence.ndim != 1:
            raise RuntimeError("torch.searchsorted(): input value can be a scalar only when boundaries tensor dimension is 1, but we got "
                               "boundaries tensor "
                               f"dim({sorted_sequence.ndim}) and input value's dim(0) numel(1)")
        input = OPS["tensor"](input)
    if sorted_sequence.ndim == 0:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should have positive dimension, but got 0 dimension")
    if sorted_sequence.ndim > 1 and sorted_sequence.shape[:-1] != input.shape[:-1]:
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor "
                           "and input value "
                           f"tensor must match, but we got boundaries tensor {list(sorted_sequence.shape)} and input value tensor "
                           f"{list(input.shape)}")
    if sorter is not None:
        if sorter.shape != sorted_sequence.shape:
            raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                               f"{list(sorted_sequence.shape)}and got sorter tensor {list(sorter.shape)}")
        if sorter.dtype is not int64:
            raise RuntimeError("torch.searchsorted(): sorter must be a tensor of long dtype but got dtype "
                               f"{definition.title(sorter.dtype)}")
        sorted_sequence = OPS["gather"](sorted_sequence.detach(), -1, sorter)
    right = bool(right) or side == "right"
    return _given(out, OPS["_found"](_plain(sorted_sequence.detach()), _plain(input.detach()), right, bool(out_int32)))


@public
def bucketize(input: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False, out: Any = None) -> Any:
    """The number of the interval between sorted ``boundaries`` (1-d) that each element falls into."""
    if boundaries.ndim != 1:
        raise RuntimeError(f"bucketize(): boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})")
    if not isinstance(input, definition.Tensor):
        input = OPS["tensor"](input)
    return _given(out, OPS["_found"](_plain(boundaries.detach()), _plain(input.detach()), bool(right), bool(out_int32)))


@public
def histogram(input: Any, bins: Any, *, range: Any = None, weight: Any = None, density: bool = False, out: Any = None) -> Any:
    """``(hist, bin_edges)``: how many elements (or how much ``weight``) fall between edges, given as a number of bins or as a tensor."""
    import numpy as np

    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"histogramdd" not implemented for \'{definition.title(input.dtype)}\'')
    a = host_array(input).reshape(-1)
    if isinstance(bins, definition.Tensor):
        edges: Any = host_array(bins)
    else:
        low, high = range if range is not None else (a.min(initial=np.inf), a.max(initial=-np.inf)) if a.size else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, bins + 1).astype(a.dtype)
    counts, edges = np.histogram(a, edges, weights=None if weight is None else host_array(weight).reshape(-1), density=density)
    return _give_pair(out, HISTOGRAM(from_host(counts.astype(a.dtype)), from_host(np.array(edges, a.dtype))))


def histogramdd(input: Any, bins: Any, range: Any = None, weight: Any = None, density: bool = False) -> Any:
    """``(hist, bin_edges)`` of points, one for every vector along the last dimension of ``input``, in boxes of a grid.

    Parameters
    ----------
    bins : int, list of ints, or list of Tensor
        How many bins, for all dimensions or each; or their edges.
    range : list of numbers, optional
        The lowest and the highest edge of every dimension; default: those of the data.
    """
    import numpy as np

    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"histogramdd" not implemented for \'{definition.title(input.dtype)}\'')
    points = host_array(input).reshape(-1, input.shape[-1])
    n = points.shape[1]
    counts = [bins] * n if isinstance(bins, int) else list(bins)
    if len(counts) != n:
        raise RuntimeError(f"torch.histogramdd(): expected {n} sequences of bin edges for a {n}-dimensional histogram but got {len(counts)}")
    edges = [host_array(b) if isinstance(b, definition.Tensor) else b for b in counts]
    ends = None if range is None else list(zip(range[::2], range[1::2]))
    made, found = np.histogramdd(points, edges, ends, density, None if weight is None else host_array(weight).reshape(-1))
    return HISTOGRAMDD(from_host(made.astype(points.dtype)), tuple(from_host(np.array(e, points.dtype)) for e in found))


def _member_outs(elements: Meta, test_elements: Meta, invert: bool) -> Meta:
    return _fresh(elements, elements.shape, bool_)


def _member(elements, test_elements, invert: bool):
    """Whether each element occurs in the other tensor."""


@host(_member_outs, like=_member, name="_member")
def _run_member(ins: list[Any], outs: list[Any], scalars: list[Any], invert: bool) -> None:
    import numpy as np

    outs[0][...] = np.isin(ins[0], ins[1], invert=invert)


@public(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False, out: Any = None) -> Any:
    """Whether each of ``elements`` occurs in ``test_elements`` (either may be a number); with ``invert``, whether it does not."""
    pair = [x if isinstance(x, definition.Tensor) else OPS["tensor"](x) for x in (elements, test_elements)]
    return _given(out, OPS["_member"](*[_plain(x.detach()) for x in pair], bool(invert)))


__all__ = ["along_median", "along_mode", "from_host", "host_array"]
