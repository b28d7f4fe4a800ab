"""``x[index]`` and ``x[index] = value``: everything PyTorch accepts as an index.

Integers, slices, ``None`` and ``...`` make one view whose metadata are remembered on the operand's; what is left (tensors, masks,
lists, arrays) becomes one read or one write at data-dependent places (``ops/indexing.py``), done on that view.
"""

from __future__ import annotations

import ctypes
import warnings
from typing import Any, NamedTuple

from ..autograd.graph import MODE
from ..core import config
from ..core.device import CPU
from ..core.dtype import bool_, float32, float64, int32, int64, uint8
from ..core.errors import type_name
from ..ops import definition
from ..ops.definition import _TENSORS, OPS, alias, remember
from ..ops.indexing import as_integers, index_result, masked, partial_view, put_at, read_at, read_at_once
from ..stream.flush import flush
from ..stream.record import LOCK, ORIGINS, STATE, pending, tick

_MARK = object()             # first element of the keys under which views are remembered
_ZERO_DIM = ("invalid index of a 0-dim tensor. Use `tensor.item()` in Python or `tensor.item<T>()` in C++ to convert a 0-dim tensor "
             "to a number\n"
             "A 0-dim tensor cannot be indexed. loss.item() gives the Python number (older code wrote loss.data[0]).")


def getitem(t: Any, index: Any) -> Any:
    """``t[index]``: a view for integers, slices, ``None`` and ``...``; a copy when a tensor, list or mask takes part.

    Raises
    ------
    IndexError
        For an index out of range (of a tensor index: when the result is observed), too many indices, or an object that is no index.
    """
    known = _known(t, index)
    if known is None:
        return _general(t, index)
    if known.__class__ is tuple:
        return alias(t, *known)
    return read_at(known.of(t), known.dims, known.tensors(index))


class _Places(NamedTuple):
    """What an index with integer tensors was taken apart into."""

    view: Any                       # what :func:`alias` makes the view of that its basic parts make; None: the tensor itself
    dims: tuple[int, ...]           # axes of the view that the tensors stand at
    at: tuple[int, ...] | None      # where they stand in the index; None: it is the only one

    def of(self, t: Any) -> Any:
        """The view."""
        return t if self.view is None else alias(t, *self.view)

    def tensors(self, index: Any) -> list[Any]:
        """The tensors in an index of this form."""
        return [index] if self.at is None else [index[i] for i in self.at]


def _known(t: Any, index: Any) -> Any:
    """What :func:`alias` makes the view of, or the places of tensors, if an index of this form was seen before."""
    c = index.__class__
    key: Any
    if c is int:
        key = index
    elif c is tuple:
        parts: list[Any] = [_MARK]
        for e in index:
            c = e.__class__
            if c is int or e is None or e is Ellipsis:
                parts.append(e)
            elif c is slice:
                parts.append((e.start, e.stop, e.step))
            elif c in _TENSORS and e._meta.ndim:
                parts.append(e._meta.dtype)     # all there is to know of it here
            else:
                return None
        key = tuple(parts)
    elif c is slice:
        key = (_MARK, (index.start, index.stop, index.step))
    elif index is None or index is Ellipsis:
        key = (_MARK, index)
    elif c in _TENSORS and index._meta.ndim:
        key = index._meta.dtype
    else:
        return None
    try:
        return t._meta.views.get(key)
    except TypeError:            # a slice bound that cannot be hashed: left to the general path to refuse
        return None


def _general(t: Any, index: Any) -> Any:
    if index.__class__ in _TENSORS and index._meta.dtype is bool_ and index._meta.ndim > 0 and index._meta.shape == t._meta.shape[:index._meta.ndim]:
        view, places = t, [(0, index)]
    else:
        view, places = _split(t, index)
    if not places:
        return view
    if len(places) == 1 and places[0][1].dtype is bool_:
        d, mask = places[0]
        if read_at_once(view):
            return masked(view, d, mask)
        # the masked axes as one: a single list of positions
        shape = view._meta.shape
        view = view.reshape((*shape[:d], mask._meta.numel, *shape[d + mask._meta.ndim:]))
        places = [(d, mask.reshape(-1))]
    dims, tensors = as_integers(view._meta, places)
    return read_at(view, dims, tensors)


def setitem(t: Any, index: Any, value: Any) -> None:
    """``t[index] = value``: the value (a number or a tensor) is broadcast, and converted where PyTorch converts it.

    Raises
    ------
    IndexError
        As reading does.
    RuntimeError
        If the value cannot be broadcast, or its dtype differs where an index is a tensor.
    TypeError
        If the value is neither a number nor a tensor.
    """
    if _put_number(t, index, value):
        return
    is_tensor = isinstance(value, definition.Tensor)
    if not is_tensor and not isinstance(value, (bool, int, float)):
        from .creation import LEGACY

        name = next(n for n, d in LEGACY.items() if d == t.dtype.name)
        raise TypeError(f"can't assign a {'numpy.' * (type(value).__module__ == 'numpy')}{type_name(value)} to a torch.{name}\n"
                        "An assigned value is a number or a tensor: wrap it, x[i] = torch.tensor(value).")
    if value.__class__ is float and t.dtype.category == 1 and value % 1.0 and abs(value) < 1e18:
        warnings.warn(f"{value} stored in an {t.dtype.name} tensor is truncated to {int(value)}. A tensor made of ints is int64: make it with 0.0 "
                      "or dtype=torch.float32.", UserWarning, stacklevel=3)
    if index is False:
        return
    known = _known(t, index)
    if known.__class__ is tuple:
        _store(alias(t, *known), value, is_tensor)
        return
    if known is not None:
        _put(known.of(t), known.dims, known.tensors(index), value, is_tensor)
        return
    view, places = _split(t, index)
    if not places:
        _store(view, value, is_tensor)
        return
    m = view._meta
    if len(places) == 1 and places[0][1].dtype is bool_ and (not is_tensor or value.numel() == 1):
        # one value under a mask: where() in place, nothing needs to be counted
        dim, mask = places[0]
        mask = _reach(mask, m.ndim - dim)
        if not is_tensor and m.dtype.category < 2:
            value = int(value) if m.dtype is not bool_ else bool(value)
        elif is_tensor and value.ndim:
            value = value.reshape(())
        definition.inplace_call(OPS["_mask_put"].operation, (view, mask, value), {})
        return
    if is_tensor and value.numel() == 1 and value.ndim == 0 and value.dtype is not m.dtype and len(places) == 1 and places[0][1].dtype is bool_:
        value = value.to(m.dtype)
    _put(view, *as_integers(m, places), value, is_tensor)


def _put(view: Any, dims: tuple[int, ...], tensors: list[Any], value: Any, is_tensor: bool) -> None:
    if is_tensor and value._meta.ndim:
        value = _without_leading_ones(value, len(index_result(view._meta, dims, tensors)))
    put_at(view, dims, tensors, value, False)


def _put_number(t: Any, index: Any, value: Any) -> bool:
    """Write a number to one element of a tensor without history, at once: a loop over elements is no program to plan."""
    m, b, base = t._meta, t._buffer, t._base
    kind = _NUMBERS.get(m.dtype)
    places = index if index.__class__ is tuple else (index,)
    if kind is None or value.__class__ not in kind[1] or len(places) != m.ndim or b.inference or b.error is not None or m.device is not CPU:
        return False
    if t._own_version is not None or (base is not None and base._own_version is not None) or config.eager or STATE.tracing is not None:
        return False
    if MODE.grad and (t._node is not None or (base is not None and base._node is not None)):
        return False
    at = m.offset
    for i, n, s in zip(places, m.shape, m.strides):
        if i.__class__ is not int or not -n <= i < n or not (s or n == 1):
            return False
        at += (i if i >= 0 else i + n) * s
    if not -kind[2] <= value <= kind[2]:
        return False
    with LOCK:
        if pending(b):
            if ORIGINS:             # a pending call may fail: its error is not this line's
                return False
            flush()
        kind[0].from_address(b.ptr + at * m.dtype.itemsize).value = value
        b.wrote = STATE.written = tick()
        b.versions += 1
    return True


# what a number is written as, the classes of numbers that are, and how large they may be without another look
_NUMBERS: dict[Any, Any] = {
    float32: (ctypes.c_float, (float, int), 1e38), float64: (ctypes.c_double, (float, int), 1e308), int64: (ctypes.c_int64, (int,), (1 << 63) - 1),
    int32: (ctypes.c_int32, (int,), (1 << 31) - 1), bool_: (ctypes.c_bool, (bool,), 1),
}


def _store(view: Any, value: Any, is_tensor: bool) -> None:
    if not is_tensor:
        definition.check_inplace("copy_", view, view._meta.shape, view._meta.dtype)
        view.fill_(value)
        return
    shape = view._meta.shape
    value = _without_leading_ones(value, len(shape))
    if value._meta.ndim > len(shape):
        from ..core.shape import expand_meta

        expand_meta(value._meta, tuple(shape))       # raises PyTorch's error
    view.copy_(value)


def _without_leading_ones(value: Any, ndim: int) -> Any:
    """Leading axes of size 1 beyond the ``ndim`` of the destination dropped."""
    extra = value._meta.ndim - ndim
    shape = value._meta.shape
    if extra > 0 and all(s == 1 for s in shape[:extra]):
        return value.reshape(tuple(shape[extra:]))
    return value


def _reach(mask: Any, ndim: int) -> Any:
    """``mask`` with axes of size 1 appended, so that it starts where it did in a tensor with ``ndim`` axes left."""
    extra = ndim - mask._meta.ndim
    return mask.reshape((*mask._meta.shape, *(1,) * extra)) if extra else mask


# ------------------------------------------------------------------ taking an index apart


def _split(t: Any, index: Any) -> tuple[Any, list[tuple[int, Any]]]:
    """The view that the basic parts of ``index`` make, and the (axis of it, tensor) of the others."""
    m = t._meta
    parts = _parts(index)
    if m.ndim == 0 and len(parts) == 1 and not isinstance(index, tuple):
        e = parts[0]
        if isinstance(e, slice):
            raise IndexError("slice() cannot be applied to a 0-dim tensor.")
        if e.__class__ is int or (isinstance(e, definition.Tensor) and e.dtype.category == 1):
            raise IndexError(_ZERO_DIM)
    consumed = sum(1 if isinstance(e, (int, slice)) and not isinstance(e, bool) else _width(e) for e in parts)
    if consumed > m.ndim:
        raise IndexError(f"too many indices for tensor of dimension {m.ndim}\n"
                         f"The index uses {consumed} dimensions, the tensor has shape {list(m.shape)}.")
    spec: list[Any] = []         # per axis of t or new axis: None, int, or (start, step, length)
    places: list[tuple[int, Any]] = []
    d = 0                        # axis of t
    out = 0                      # axis of the view
    last = ""                    # the operation that PyTorch would have applied last
    for e in parts:
        if e is None:
            spec.append(None)
            out += 1
            last = "Unsqueeze"
        elif e is Ellipsis:
            for _ in range(m.ndim - consumed):
                spec.append((0, 1, m.shape[d]))
                d += 1
                out += 1
            consumed = m.ndim    # a second ellipsis stands for nothing
        elif isinstance(e, bool):
            spec.append(None)
            places.append((out, OPS["full"]((1,), e, dtype=bool_, device=m.device)))
            out += 1
            last = "Unsqueeze"
        elif isinstance(e, int):
            n = m.shape[d]
            if not -n <= e < n:
                raise IndexError(f"index {e} is out of bounds for dimension {d} with size {n}")
            spec.append(e + n if e < 0 else e)
            d += 1
            last = "Select"
        elif isinstance(e, slice):
            n = m.shape[d]
            if e.step is not None and e.step < 0:
                raise ValueError("step must be greater than zero\nA slice with a negative step is not a view PyTorch has: use x.flip(dim), "
                                 "or x.flip(dim)[::step].")
            start, stop, step = e.indices(n)
            spec.append((start, step, max(0, -((start - stop) // step))))
            if spec[-1] != (0, 1, n):
                last = "Slice"
            d += 1
            out += 1
        else:
            width = _width(e)
            if width == 0:       # a 0-d mask: a new axis of length 0 or 1
                spec.append(None)
                places.append((out, e.reshape(1)))
                out += 1
                last = "Unsqueeze"
                continue
            if e.dtype is bool_ and tuple(e.shape) != tuple(m.shape[d:d + width]):
                raise IndexError(f"The shape of the mask {list(e.shape)} at index "
                                 f"{next((i for i in range(width) if e.shape[i] != m.shape[d + i]), 0)} "
                                 f"does not match the shape of the indexed tensor {list(m.shape)} at index {d}")
            places.append((out, e))
            for _ in range(width):
                spec.append((0, 1, m.shape[d]))
                d += 1
                out += 1
    spec.extend([(0, 1, s) for s in m.shape[d:]])
    if not last:
        last = "Slice" if len(parts) == 1 and isinstance(parts[0], slice) else "" if places else "Alias"
    # only tensors and whole axes: no view to make
    view = partial_view(m, tuple(spec), last) if last else None
    key = _key(index)
    if key is not None:
        at = tuple([i for i, e in enumerate(index) if e.__class__ in _TENSORS]) if index.__class__ is tuple else None
        remember(m.views, key, _Places(view, tuple([d for d, _ in places]), at) if places else view)
    return t if view is None else alias(t, *view), places


def _key(index: Any) -> Any:
    """The key that :func:`_known` looks for, when the parts of the index are plain numbers and integer tensors."""
    if index.__class__ is int:
        return index
    if index.__class__ in _TENSORS:
        return index._meta.dtype if index._meta.ndim and (index._meta.dtype is int64 or index._meta.dtype is int32) else None
    parts = index if index.__class__ is tuple else (index,)
    key: list[Any] = [_MARK]
    for e in parts:
        if e.__class__ in _TENSORS and e._meta.ndim and (e._meta.dtype is int64 or e._meta.dtype is int32):
            key.append(e._meta.dtype)
        elif e.__class__ is int or e is None or e is Ellipsis:
            key.append(e)
        elif e.__class__ is slice and all(v is None or v.__class__ is int for v in (e.start, e.stop, e.step)):
            key.append((e.start, e.stop, e.step))
        else:
            return None
    return tuple(key)


def _parts(index: Any) -> list[Any]:
    """An index as a list of ints, bools, slices, None, Ellipsis and index tensors."""
    if isinstance(index, tuple):
        return [_part(e) for e in index]
    several = (slice, list, tuple, definition.Tensor, type(None), type(Ellipsis))
    if isinstance(index, list) and len(index) < 32 and any(isinstance(e, several) for e in index):
        warnings.warn("Using a non-tuple sequence for multidimensional indexing is deprecated and will be changed in pytorch 2.9; use "
                      "x[tuple(seq)] "
                      "instead of x[seq]. In pytorch 2.9 this will be interpreted as tensor index, x[torch.tensor(seq)], which will result "
                      "either in an "
                      "error or a different result", UserWarning, stacklevel=5)
        return [_part(e) for e in index]
    return [_part(index)]


def _part(e: Any) -> Any:
    c = e.__class__
    if c is int or c is bool or e is None or e is Ellipsis:
        return e
    if c is slice:
        return slice(_bound(e.start), _bound(e.stop), _bound(e.step))
    if isinstance(e, definition.Tensor):
        d = e.dtype
        if d is uint8:
            warnings.warn("indexing with dtype torch.uint8 is now deprecated, please use a dtype "
                          "torch.bool instead.", UserWarning, stacklevel=6)
            return e.ne(0)
        if d is not bool_ and d is not int64 and d is not int32:
            raise IndexError(f"tensors used as indices must be long, int, byte or bool tensors\nThe index tensor is {d.name}: convert it "
                             "with .long().")
        if e.ndim == 0 and d is not bool_:
            return int(e.item())
        return e
    if isinstance(e, str):
        raise TypeError("new(): invalid data type 'str'\nA tensor is indexed by integers, slices and tensors, not by names.")
    if isinstance(e, (list, tuple, range)):
        made = OPS["tensor"](list(e) if isinstance(e, range) else e)
        return _part(made if made.numel() and made.dtype.category < 2 else made.to(int64))
    if hasattr(e, "__array_interface__") and getattr(e, "ndim", 0) > 0:
        return _part(OPS["tensor"](e))
    if hasattr(e, "__index__") and not hasattr(e, "__array_interface__"):
        return e.__index__()
    if hasattr(e, "__array_interface__") and e.dtype.kind in "iu":
        return int(e)
    raise IndexError("only integers, slices (`:`), ellipsis (`...`), None and long or byte Variables are valid indices "
                     f"(got {'numpy.' * (type(e).__module__ == 'numpy')}{type_name(e)})")


def _bound(v: Any) -> Any:
    if v is None or v.__class__ is int:
        return v
    if not hasattr(v, "__index__"):
        raise TypeError("slice indices must be integers or None or have an __index__ method")
    return v.__index__()


def _width(e: Any) -> int:
    """How many axes an index part takes."""
    if isinstance(e, definition.Tensor):
        return e._meta.ndim if e.dtype is bool_ else 1
    return 1 if isinstance(e, slice) else 0


__all__ = ["getitem", "setitem"]
