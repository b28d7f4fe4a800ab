"""Shapes, strides and metadata: what a tensor is without its values.

A :class:`Meta` is interned: two tensors of one layout share one object, so that the caches of the recording layer are keyed
by identity.  The functions here compute the metadata of views; none touches memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .device import CPU, device
from .dtype import dtype, float32


class Size(tuple[int, ...]):
    """The shape of a tensor: a tuple that prints as ``torch.Size([2, 3])``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def numel(self) -> int:
        """The number of elements of a tensor of this shape."""
        return count(self)

    def __getitem__(self, i: Any) -> Any:
        r = tuple.__getitem__(self, i)
        return Size(r) if i.__class__ is slice else r

    def __add__(self, other: tuple[int, ...]) -> Size:  # type: ignore[override]
        return Size(tuple.__add__(self, tuple(other)))

    def __radd__(self, other: tuple[int, ...]) -> Size:
        return Size(tuple(other) + tuple(self))

    def __mul__(self, n: Any) -> Size:
        return Size(tuple.__mul__(self, n))

    __rmul__ = __mul__

    def __reduce__(self) -> tuple[Any, ...]:
        return (Size, (tuple(self),))


def count(shape: Sequence[int]) -> int:
    """The product of the sizes."""
    n = 1
    for s in shape:
        n *= s
    return n


def contiguous_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    out: list[int] = []
    n = 1
    for s in reversed(shape):
        out.append(n)
        n *= s if s > 1 else 1
    return tuple(reversed(out))


class Meta:
    """Layout of a tensor: shape, strides and offset (elements) in its buffer, dtype, device."""

    __slots__ = ("__weakref__", "contiguous", "device", "dtype", "ndim", "numel", "offset", "shape", "strides", "views")

    shape: Size
    strides: tuple[int, ...]
    offset: int
    dtype: dtype
    device: device
    numel: int
    ndim: int
    contiguous: bool                 # row-major, whatever the offset
    views: dict[Any, Any]            # metadata derived from this one, by the view operation and its arguments

    def __repr__(self) -> str:
        return f"Meta({list(self.shape)}, strides={self.strides}, offset={self.offset}, {self.dtype.name}, {self.device})"

    def __reduce__(self) -> tuple[Any, ...]:
        return (meta, (self.shape, self.strides, self.offset, self.dtype, self.device))

    @property
    def nbytes(self) -> int:
        """Bytes a contiguous tensor of this shape takes."""
        return self.numel * self.dtype.itemsize


_metas: dict[tuple[Any, ...], Meta] = {}
LIMIT = 100_000      # forgetting the table costs cache misses only
COUNTABLE = (1 << 63) - 1


def meta(shape: Sequence[int], strides: Sequence[int] | None = None, offset: int = 0, dtype: dtype = float32, device: device = CPU) -> Meta:
    """The interned metadata of this layout; row-major when ``strides`` is None."""
    given = None if strides is None else tuple(strides)
    key = (tuple(shape), given, offset, dtype, device)
    m = _metas.get(key)
    if m is None:
        row_major = contiguous_strides(shape)
        if given is None:
            m = meta(shape, row_major, offset, dtype, device)
            _metas[key] = m
            return m
        check_sizes(shape, given, offset, dtype.itemsize)
        if len(_metas) > LIMIT:
            _metas.clear()
        m = object.__new__(Meta)
        m.shape, m.strides, m.offset, m.dtype, m.device = Size(shape), given, offset, dtype, device
        m.numel, m.ndim, m.views = count(shape), len(m.shape), {}
        m.contiguous = m.numel == 0 or all(s == 1 or a == b for s, a, b in zip(shape, given, row_major, strict=True))
        m = _metas.setdefault(key, m)       # complete before another thread can see it, and the same for both
    return m


def check_sizes(shape: Sequence[int], strides: Sequence[int], offset: int, itemsize: int) -> None:
    """Refuse a layout that no tensor can have: negative sizes, or more elements or bytes than 64-bit numbers count."""
    if len(strides) != len(shape):
        raise RuntimeError(f"mismatch in length of strides and shape\nGot {len(shape)} sizes {list(shape)} and {len(strides)} strides {list(strides)}.")
    if min(shape, default=0) < 0:
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(shape)}: {list(shape)}")
    if offset < 0:
        raise RuntimeError(f"Tensor: invalid storage offset {offset}")
    n = 1
    for s, t in zip(shape, strides, strict=True):
        n *= s
        if n > COUNTABLE or t > COUNTABLE:
            raise RuntimeError(f"numel: integer multiplication overflow\nStorage size calculation overflowed with sizes={list(shape)}: "
                               "a tensor has fewer than 2**63 elements. Check the sizes, or the product they come from.")
    if n:
        last = offset + sum((s - 1) * abs(t) for s, t in zip(shape, strides, strict=True))
        if (last + 1) * itemsize > COUNTABLE:
            raise RuntimeError(f"Storage size calculation overflowed with sizes={list(shape)} and strides={list(strides)}\n"
                               f"Elements of {itemsize} bytes would take {(last + 1) * itemsize} bytes, and memory is counted with 64 bits.")


def too_wide(shape: Sequence[int]) -> TypeError:
    """The error for a size that is no 64-bit number."""
    return TypeError(f"argument 'size': {max(shape)} in {list(shape)} does not fit into 64 bits (Overflow when unpacking long long)")


def derived(m: Meta, key: Any, make: Callable[[Meta], Meta]) -> Meta:
    """``make(m)``, remembered on ``m`` under ``key``."""
    v: Meta | None = m.views.get(key)
    if v is None:
        v = m.views[key] = make(m)
    return v


def layout(m: Meta, shape: Sequence[int], strides: Sequence[int], offset: int | None = None) -> Meta:
    """Another view of the same buffer."""
    return meta(shape, strides, m.offset if offset is None else offset, m.dtype, m.device)


def fresh(m: Meta, shape: Sequence[int] | None = None, dtype: dtype | None = None) -> Meta:
    """A row-major layout in a buffer of its own on the device of ``m``."""
    return meta(m.shape if shape is None else shape, None, 0, m.dtype if dtype is None else dtype, m.device)


# ------------------------------------------------------------------ arguments


def plural_dims(ndim: int) -> str:
    """PyTorch's wording of the valid range of a dimension."""
    n = max(ndim, 1)
    return f"[{-n}, {n - 1}]"


def wrap_dim(dim: Any, ndim: int, name: str = "", shape: Sequence[int] | None = None) -> int:
    """``dim`` counted from the front; a 0-d tensor accepts -1 and 0."""
    if dim.__class__ is not int:
        if not hasattr(dim, "__index__"):
            raise TypeError(f"{name or 'operation'}(): argument 'dim' must be int, not {dim.__class__.__name__}")
        dim = dim.__index__()
    n = ndim if ndim else 1
    if not -n <= dim < n:
        head = f"Dimension out of range (expected to be in range of {plural_dims(ndim)}, but got {dim})"
        if name:
            have = f", shape {list(shape)}" if shape is not None else ""
            fix = f"Use dim=-1 (or dim={n - 1})" + (", or add the batch dimension with unsqueeze(0)." if ndim == 1 else ".")
            head += f"\n{name}: dim={dim} but the input is {ndim}-D{have}. {fix}"
        raise IndexError(head)
    return dim + n if dim < 0 else dim


def wrap_dims(dims: Any, ndim: int, name: str = "") -> tuple[int, ...]:
    """Distinct dimensions counted from the front; an int or a sequence; None or () mean all."""
    if dims is None:
        return tuple(range(ndim))
    if not isinstance(dims, (tuple, list)):
        return (wrap_dim(dims, ndim, name),) if ndim else (wrap_dim(dims, ndim, name),)[:0]
    if len(dims) == 0:
        return tuple(range(ndim))
    out = tuple(wrap_dim(d, ndim, name) for d in dims)
    if len(set(out)) != len(out):
        twice = next(d for d in out if out.count(d) > 1)
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return out if ndim else ()


def as_shape(args: Any, name: str = "size") -> tuple[int, ...]:
    """A shape from ``f(2, 3)`` or ``f((2, 3))``: the tuple of ints."""
    if len(args) == 1 and not isinstance(args[0], int) and hasattr(args[0], "__iter__"):
        args = args[0]
    out = []
    for s in args:
        if s.__class__ is not int:
            if not hasattr(s, "__index__"):
                raise TypeError(f"{name}: expected ints, got {s.__class__.__name__} in {tuple(args)!r}")
            s = s.__index__()
        out.append(s)
    return tuple(out)


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The common shape, matched from the right, size 1 stretching."""
    if len(shapes) == 2:
        a, b = shapes
        if a == b:
            return tuple(a)
    n = max((len(s) for s in shapes), default=0)
    out = [1] * n
    owner: list[Sequence[int]] = [()] * n
    for s in shapes:
        pad = n - len(s)
        for i, size in enumerate(s):
            have = out[pad + i]
            if size == have or size == 1:
                continue
            if have != 1:
                raise broadcast_error(owner[pad + i], s, pad + i, n)
            out[pad + i] = size
            owner[pad + i] = s
    return tuple(out)


def broadcast_error(a: Sequence[int], b: Sequence[int], position: int, n: int) -> RuntimeError:
    """PyTorch's sentence, then both full shapes and the way out."""
    sa, sb = a[position - n + len(a)], b[position - n + len(b)]
    hint = ""
    for x, y, which in ((a, b, "b"), (b, a, "a")):
        if len(y) == 1 and len(x) == 2 and x[0] == y[0]:
            hint = f" To line up the {y[0]}s use {which}.unsqueeze(1) (shape [{y[0]}, 1]), or keepdim=True in the reduction."
    return RuntimeError(
        f"The size of tensor a ({sa}) must match the size of tensor b ({sb}) at non-singleton dimension {position}\n"
        f"Cannot broadcast {list(a)} with {list(b)}: shapes are matched from the right, and {sa} != {sb}.{hint}"
    )


# ------------------------------------------------------------------ views


def infer_size(shape: tuple[int, ...], numel: int) -> tuple[int, ...]:
    """``shape`` with a -1 replaced by what ``numel`` leaves for it."""
    unknown = -1
    known = 1
    if max(shape, default=0) > COUNTABLE:
        raise too_wide(shape)
    for i, s in enumerate(shape):
        if s == -1:
            if unknown >= 0:
                raise RuntimeError("only one dimension can be inferred")
            unknown = i
        elif s < 0:
            raise RuntimeError(f"invalid shape dimension {s} at index {i} of shape {list(shape)}")
        else:
            known *= s
    if unknown < 0:
        if known != numel:
            raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
        return shape
    if known == 0:
        if numel == 0:
            raise RuntimeError(f"cannot reshape tensor of 0 elements into shape {list(shape)} "
                               "because the unspecified dimension size -1 can be any value and is ambiguous")
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    if numel % known:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {numel}")
    return (*shape[:unknown], numel // known, *shape[unknown + 1:])


def view_strides(m: Meta, shape: Sequence[int]) -> tuple[int, ...] | None:
    """Strides of ``m`` seen with ``shape`` (same number of elements), or None when that needs a copy."""
    if m.contiguous or m.numel == 0:
        return contiguous_strides(shape)
    # runs of old axes that lie in memory as one axis, then the new sizes cut out of each run
    runs: list[list[int]] = []
    for size, stride in zip(m.shape, m.strides, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][1] == size * stride:
            runs[-1][0] *= size
            runs[-1][1] = stride
        else:
            runs.append([size, stride])
    if not runs:
        return contiguous_strides(shape)
    out: list[int] = [0] * len(shape)
    i = len(shape) - 1
    for size, stride in reversed(runs):
        left = size
        while left > 1:
            while i >= 0 and shape[i] == 1:
                out[i] = stride * (size // left)
                i -= 1
            if i < 0 or left % shape[i]:
                return None
            out[i] = stride * (size // left)
            left //= shape[i]
            i -= 1
    step = 1
    for j in range(len(shape) - 1, -1, -1):      # axes of size 1: any stride; PyTorch continues the row-major pattern
        if shape[j] == 1 and j <= i:
            out[j] = out[j + 1] * shape[j + 1] if j + 1 < len(shape) else step
    return tuple(out)


def expand_meta(m: Meta, shape: tuple[int, ...]) -> Meta:
    """Axes of size 1 stretched (stride 0); -1 keeps a size."""
    pad = len(shape) - m.ndim
    if pad < 0:
        raise RuntimeError(
            f"expand(torch.{_type_name(m)}{{{list(m.shape)}}}, size={list(shape)}): the number of sizes provided ({len(shape)}) "
            f"must be greater or equal to the number of dimensions in the tensor ({m.ndim})"
        )
    sizes, strides = [], []
    for i, s in enumerate(shape):
        if i < pad:
            if s < 0:
                raise RuntimeError(f"The expanded size of the tensor ({s}) isn't allowed in a leading, non-existing dimension {i}")
            sizes.append(s)
            strides.append(0)
            continue
        old, stride = m.shape[i - pad], m.strides[i - pad]
        if s == -1 or s == old:
            sizes.append(old)
            strides.append(stride)
        elif old == 1 and s >= 0:
            sizes.append(s)
            strides.append(0)
        else:
            raise RuntimeError(
                f"The expanded size of the tensor ({s}) must match the existing size ({old}) at non-singleton dimension {i}.  "
                f"Target sizes: {list(shape)}.  Tensor sizes: {list(m.shape)}"
            )
    return layout(m, sizes, strides)


def _type_name(m: Meta) -> str:
    names = {"float32": "FloatTensor", "float64": "DoubleTensor", "int64": "LongTensor", "int32": "IntTensor", "bool": "BoolTensor",
             "uint8": "ByteTensor", "int8": "CharTensor", "int16": "ShortTensor", "float16": "HalfTensor", "bfloat16": "BFloat16Tensor"}
    return names[m.dtype.name]


def permute_meta(m: Meta, dims: Sequence[int]) -> Meta:
    """Axes reordered: new axis i is old axis ``dims[i]``."""
    return layout(m, [m.shape[d] for d in dims], [m.strides[d] for d in dims])


def select_meta(m: Meta, dim: int, index: int) -> Meta:
    """One position of an axis, the axis removed."""
    d = dim
    return layout(m, m.shape[:d] + m.shape[d + 1:], m.strides[:d] + m.strides[d + 1:], m.offset + index * m.strides[d])


def slice_meta(m: Meta, dim: int, start: int, stop: int, step: int) -> Meta:
    """``start:stop:step`` of an axis (already clamped, step > 0)."""
    n = max(0, (stop - start + step - 1) // step)
    shape, strides = list(m.shape), list(m.strides)
    shape[dim] = n
    strides[dim] *= step
    return layout(m, shape, strides, m.offset + (start * m.strides[dim] if n else 0))


def unsqueeze_meta(m: Meta, dim: int) -> Meta:
    """A new axis of size 1 before axis ``dim``."""
    stride = m.shape[dim] * m.strides[dim] if dim < m.ndim else 1
    return layout(m, (*m.shape[:dim], 1, *m.shape[dim:]), (*m.strides[:dim], stride, *m.strides[dim:]))


def squeeze_meta(m: Meta, dims: Sequence[int]) -> Meta:
    """The axes ``dims`` that have size 1 removed."""
    keep = [i for i in range(m.ndim) if not (i in dims and m.shape[i] == 1)]
    return layout(m, [m.shape[i] for i in keep], [m.strides[i] for i in keep])


def span(m: Meta) -> tuple[int, int]:
    """First and last element (inclusive) that ``m`` touches in its buffer; (0, -1) when empty."""
    if m.numel == 0:
        return 0, -1
    low = high = m.offset
    for s, t in zip(m.shape, m.strides, strict=True):
        if t > 0:
            high += (s - 1) * t
        else:
            low += (s - 1) * t
    return low, high


def overlaps_itself(m: Meta) -> bool:
    """Whether two indices of ``m`` may be one memory location (an expanded axis; other cases are reported when not provably disjoint)."""
    if m.numel == 0:
        return False
    if m.numel == 0:
        return False
    axes = sorted((t, s) for s, t in zip(m.shape, m.strides, strict=True) if s > 1)
    reach = 0
    for t, s in axes:
        if t <= reach:
            return True
        reach += (s - 1) * t
    return False
