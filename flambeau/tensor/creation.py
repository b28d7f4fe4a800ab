"""Making tensors: from Python data, from NumPy, filled with a value, a range.

Filled tensors are recorded calls without operands, so they fuse into whatever uses them; ``tensor`` and ``from_numpy`` have
memory at once.
"""

from __future__ import annotations

import array
import ctypes
import math
import struct
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from ..autograd import graph
from ..autograd.graph import MODE
from ..core import dtype as dtypes
from ..core.arrays import array_over, dtype_of
from ..core.device import CPU, META, device
from ..core.dtype import DTYPES, bfloat16, bool_, dtype, float32, float64, int64, scalar_dtype
from ..core.limits import as_element, fits
from ..core.shape import COUNTABLE, Meta, Size, as_shape, contiguous_strides, count, meta, too_wide
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import Nest
from ..ops import definition
from ..ops.composite import public
from ..ops.definition import make_tensor
from ..runtime import memory
from ..stream import record as stream
from ..stream.record import Buffer, Owned, Signature, new_buffer, signature, watch

_new = object.__new__
_default_device: device = CPU


def set_default_device(d: Any) -> None:
    """The device of tensors made without ``device=``."""
    global _default_device
    _default_device = CPU if d is None else device(d)
    for known in _KNOWN:
        known.clear()


def get_default_device() -> device:
    """The device of tensors made without ``device=``."""
    return _default_device


def resolve_device(d: Any) -> device:
    """``device=`` as given by a user; a CUDA device that is not there is an error that says so."""
    if d is None:
        return _default_device
    d = device(d)
    if d.type == "cuda":
        from ..cuda import require

        require(d)
    return CPU if d.type == "cpu" else d


def check_dtype(d: Any, default: dtype) -> dtype:
    """``dtype=`` as given by a user."""
    if d is None:
        return default
    if isinstance(d, dtype):
        return d
    if d is float:
        return float64
    if d is int:
        return int64
    if d is bool:
        return bool_
    raise TypeError(f"argument 'dtype' must be torch.dtype, not {type(d).__name__}")


def allocated(m: Meta) -> Any:
    """A tensor with memory of its own and arbitrary contents."""
    if stream.traced() is not None:
        return constant(m, 0)       # a composite has no memory while it is traced; what is overwritten costs nothing
    nbytes = max(1, m.nbytes)
    return make_tensor(m, with_memory(nbytes, *memory.free_list(nbytes)))


def with_memory(nbytes: int, free: list[int], size: int) -> Buffer:
    """A buffer with memory of its own; ``free`` and ``size`` are what the allocator's ``free_list`` says of ``nbytes``."""
    b = new_buffer()
    try:
        b.ptr = free.pop()          # another thread may take the last one: looking first would not do
    except IndexError:
        b.ptr = memory.grow(size)
    b.pool = free
    b.nbytes = nbytes
    b.__class__ = Owned
    return b


def finish(t: Any, requires_grad: bool) -> Any:
    """Apply ``requires_grad=``."""
    if requires_grad:
        t.requires_grad_(True)
    return t


# ------------------------------------------------------------------ recorded fills

_fills: dict[Any, Signature] = {}


def _fill(key: Any, m: Meta, make: Callable[[], Expr], scalars: str = "") -> Signature:
    sig = _fills.get((key, m))
    if sig is None:
        if len(_fills) > 20_000:
            _fills.clear()
        value = make()
        n = m.ndim
        nest = Nest("map", tuple(m.shape), n, value, Access(-1, 0, contiguous_strides(m.shape), m.dtype))
        sig = _fills[key, m] = signature("fill", (), (m,), _lower_fill, scalars, params=nest, stable=("fill", key, m))
    return sig


def _lower_fill(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Any, origin: Any) -> list[Any]:
    nest = sig.params
    value = ir.rewrite(nest.value, lambda x: ir.scalar(x.attr + scalar, x.dtype) if x.op == "scalar" else None) if scalar else nest.value
    return [Nest("map", nest.sizes, nest.kept, value, nest.store._replace(slot=(*slots, *results)[0]), origin=origin)]


Maker: TypeAlias = Callable[[Any], Any]     # makes a tensor, out of numbers of the generator that it is given


def filling(m: Meta, key: Any, make: Callable[[], Expr], scalars: Sequence[Any] = (), letters: str = "") -> Maker:
    """Recording of a call without operands: every element is ``make()``."""
    if m.device is META:
        return lambda g: make_tensor(m, new_buffer())
    sig = _fill(key, m, make, letters)

    def fill(g: Any) -> Any:
        t = _new(definition.Tensor)
        t._meta = m
        t._buffer, = stream.append(sig, (), scalars)
        t._node = t._base = None
        return t

    return fill


def constant(m: Meta, value: float | int | bool) -> Any:
    """A tensor of one value that is part of the code (0 and 1, so that they fold)."""
    key, make = _constant(m.dtype, value)
    return filling(m, key, make)(None)


def _constant(d: dtype, value: float | int | bool) -> tuple[Any, Callable[[], Expr]]:
    return ("constant", float(value)), lambda: ir.const(value, dtypes.compute_dtype(d)).cast(d)


def filled(m: Meta, value: Any) -> Any:
    """A tensor of one value."""
    return filling(m, *element(m.dtype, value))(None)


def element(d: dtype, value: Any) -> tuple[Any, Callable[[], Expr], tuple[Any, ...], str]:
    """What tells fills with a value from others, the expression of an element, the run-time numbers in it and their letters."""
    if (value == 0 or value == 1) and not (value == 0 and isinstance(value, float) and math.copysign(1.0, value) < 0):
        return *_constant(d, value), (), ""
    c = dtypes.compute_dtype(d)
    return "scalar", lambda: ir.scalar(0, c).cast(d), (as_element(value, d),), "d" if c.is_floating_point else "q"


def fill_into(m: Meta, key: Any, make: Callable[[], Expr], letters: str) -> Signature:
    """The signature of a call that stores such an element everywhere in a layout of a buffer."""
    nest = Nest("map", tuple(m.shape), m.ndim, make(), Access(-1, m.offset, m.strides, m.dtype))
    sig = signature("fill", (m,), (), _lower_fill, letters, (0,), params=nest, stable=("fill_into", key, m))
    sig.kinds = ()      # the destination is not an operand
    return sig


def _sizes(size: Sequence[Any], kwargs: dict[str, Any], name: str = "") -> tuple[int, ...]:
    if "size" in kwargs:
        size = (kwargs.pop("size"),)
    elif not size:
        raise TypeError(f"{name or 'creation'}() missing 1 required positional argument: \"size\"\nUse () for a 0-d tensor.")
    shape = as_shape(size)
    for s in shape:
        if s < 0:
            if name == "zeros":
                raise RuntimeError(f"zeros: Dimension size must be non-negative.\nzeros: got {list(shape)}.")
            raise RuntimeError(f"Trying to create tensor with negative dimension {s}: {list(shape)}")
        if s > COUNTABLE:
            raise too_wide(shape)
    return shape


def _options(shape: tuple[int, ...], default: dtype, kwargs: dict[str, Any]) -> tuple[Meta, bool, Any]:
    """Metadata, requires_grad and out from the keyword arguments every constructor takes."""
    d = check_dtype(kwargs.pop("dtype", None), default)
    dev = resolve_device(kwargs.pop("device", None))
    grad = kwargs.pop("requires_grad", False)
    out = kwargs.pop("out", None)
    for k in ("layout", "pin_memory", "memory_format", "names", "generator"):
        kwargs.pop(k, None)
    if kwargs:
        raise TypeError(f"got an unexpected keyword argument '{next(iter(kwargs))}'")
    if out is not None and default is not None and d is default:
        d = getattr(out, "dtype", d)
    return meta(shape, None, 0, d, dev), grad, out


def _give(t: Any, grad: bool, out: Any) -> Any:
    if out is not None:
        definition.prepare_out("fill", out, t._meta)
        definition.copy_into(out, t)
        return out
    return finish(t, grad)


_KNOWN: list[dict[Any, Any]] = []       # what constructors remember
Reading: TypeAlias = tuple[Maker, bool, Any]    # what a constructor makes of its arguments: how to make the tensor, requires_grad=, out=


def constructor(read: Callable[..., Reading]) -> Callable[..., Any]:
    """Publish a constructor, written as a function that reads its arguments; what it made of plain values is remembered.

    The tensor that a function ``*_like`` takes first stands for its metadata.
    """
    known: dict[Any, tuple[Maker, bool]] = {}
    _KNOWN.append(known)
    dtypes.DEPENDENT.append(known)
    like = read.__name__.endswith("_like")

    def call(*args: Any, **kwargs: Any) -> Any:
        g = kwargs.pop("generator", None) if kwargs else None
        key: Any = None
        try:
            # 1, 1.0 and True are one in a dictionary
            key = (args[0]._meta, *args[1:]) if like else args, tuple(map(type, args)), tuple(kwargs.items())
            make, grad = known[key]
        except (KeyError, TypeError, AttributeError, IndexError):
            given = (*args[like:], *kwargs.values())
            make, grad, out = read(*args, **kwargs)
            if out is not None:
                return _give(make(g), grad, out)
            # as are 0.0 and -0.0
            if key is not None and all(definition.by_value(v) and (v.__class__ is not float or v) for v in given):
                if len(known) > 20_000:
                    known.clear()
                known[key] = make, grad
        t = make(g)
        return finish(t, grad) if grad else t

    call.__name__, call.__qualname__, call.__doc__, call.__module__ = read.__name__, read.__qualname__, read.__doc__, read.__module__
    call.__wrapped__ = read  # type: ignore[attr-defined]
    return public(call, method=False)  # type: ignore[no-any-return]


@constructor
def zeros(*size: Any, **kwargs: Any) -> Reading:
    """A tensor of zeros: ``zeros(2, 3)`` or ``zeros((2, 3))``, with ``dtype=``, ``device=``, ``requires_grad=``, ``out=``."""
    m, grad, out = _options(_sizes(size, kwargs, "zeros"), dtypes.get_default_dtype(), kwargs)
    return filling(m, *_constant(m.dtype, 0)), grad, out


@constructor
def ones(*size: Any, **kwargs: Any) -> Reading:
    """A tensor of ones; arguments as :func:`zeros`."""
    m, grad, out = _options(_sizes(size, kwargs), dtypes.get_default_dtype(), kwargs)
    return filling(m, *_constant(m.dtype, 1)), grad, out


@public(method=False)
def empty(*size: Any, **kwargs: Any) -> Any:
    """A tensor of arbitrary contents; arguments as :func:`zeros`."""
    m, grad, out = _options(_sizes(size, kwargs), dtypes.get_default_dtype(), kwargs)
    if m.device is META:
        return finish(make_tensor(m, new_buffer()), grad)
    if out is not None:
        definition.prepare_out("empty", out, m)
        return out
    return finish(allocated(m), grad)


@public(method=False)
def full(size: Any, fill_value: Any, **kwargs: Any) -> Any:
    """A tensor of ``fill_value``; its dtype follows the value unless ``dtype=`` is given."""
    if not isinstance(size, Sequence):
        raise TypeError(f"full(): argument 'size' (position 1) must be tuple of ints, not {type(size).__name__}")
    if isinstance(fill_value, definition.Tensor):
        fill_value = fill_value.item()
    m, grad, out = _options(_sizes((size,), {}), scalar_dtype(fill_value), kwargs)
    return _give(filled(m, fill_value), grad, out)


@public(method=False, name="ones_constant", function=False)
def ones_constant(m: Meta) -> Any:
    """Ones with this metadata: where a backward pass starts."""
    sig = _ones.get(m)
    if sig is None:
        if m.device is META:
            return constant(m, 1)
        if len(_ones) > 20_000:
            _ones.clear()
        key, make = _constant(m.dtype, 1)
        sig = _ones[m] = _fill(key, m, make)
    t = _new(definition.Tensor)
    t._meta = m
    t._buffer, = stream.append(sig, ())
    t._node = t._base = None
    return t


_ones: dict[Meta, Signature] = {}


def _like(name: str, input: Any, kwargs: dict[str, Any]) -> tuple[Meta, bool]:
    if not isinstance(input, definition.Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {definition.type_name(input)}")
    m = input._meta
    kwargs.setdefault("device", m.device)
    made, grad, _ = _options(tuple(m.shape), m.dtype, kwargs)
    return made, grad


@constructor
def zeros_like(input: Any, **kwargs: Any) -> Reading:
    """Zeros of the shape, dtype and device of ``input``."""
    m, grad = _like("zeros_like", input, kwargs)
    return filling(m, *_constant(m.dtype, 0)), grad, None


@constructor
def ones_like(input: Any, **kwargs: Any) -> Reading:
    """Ones of the shape, dtype and device of ``input``."""
    m, grad = _like("ones_like", input, kwargs)
    return filling(m, *_constant(m.dtype, 1)), grad, None


@constructor
def empty_like(input: Any, **kwargs: Any) -> Reading:
    """Arbitrary contents, of the shape, dtype and device of ``input``."""
    m, grad = _like("empty_like", input, kwargs)
    return lambda g: make_tensor(m, new_buffer()) if m.device is META else allocated(m), grad, None


@public(method=False)
def full_like(input: Any, fill_value: Any, **kwargs: Any) -> Any:
    """``fill_value`` everywhere, of the shape, dtype and device of ``input``."""
    if isinstance(fill_value, definition.Tensor):
        fill_value = fill_value.item()
    m, grad = _like("full_like", input, kwargs)
    return finish(filled(m, fill_value), grad)


@public(method=False)
def empty_strided(size: Any, stride: Any, **kwargs: Any) -> Any:
    """Arbitrary contents with given strides (elements)."""
    m, grad, _ = _options(tuple(size), dtypes.get_default_dtype(), kwargs)
    if min(stride, default=0) < 0:
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)} and strides={list(stride)}\n"
                           "empty_strided: strides must not be negative.")
    strided = meta(size, tuple(stride), 0, m.dtype, m.device)
    from ..core.shape import span

    whole = allocated(meta((span(strided)[1] + 1,), None, 0, m.dtype, m.device))
    whole._meta = strided
    return finish(whole, grad)


@constructor
def arange(*args: Any, **kwargs: Any) -> Reading:
    """``arange(end)``, ``arange(start, end)`` or ``arange(start, end, step)``: the numbers from start up to, not including, end."""
    names = ("end",) if len(args) == 1 and "end" not in kwargs else ("start", "end", "step")
    given = dict(zip(names, args, strict=False))
    for k in ("start", "end", "step"):
        if k in kwargs:
            given[k] = kwargs.pop(k)
    start, end, step = (_number(given.get(k, v)) for k, v in (("start", 0), ("end", None), ("step", 1)))
    if end is None:
        raise TypeError("arange() missing required argument: 'end'")
    integers = all(isinstance(v, int) for v in (start, end, step))
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if any(isinstance(v, float) and not math.isfinite(v) for v in (start, end)):
        raise RuntimeError(f"unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError("upper bound and lower bound inconsistent with step sign\n"
                           f"arange: from {start} to {end} the step must be {'negative' if end < start else 'positive'}, got {step}.")
    n = max(0, -((start - end) // step)) if integers else max(0, math.ceil((end - start) / step))
    m, grad, out = _options((int(n),), int64 if integers else dtypes.get_default_dtype(), kwargs)
    d = m.dtype
    if d.is_floating_point:
        # PyTorch computes in the accumulation type, which is double on the CPU
        def element() -> ir.Expr:
            value = ir.scalar(0, float64) + ir.axis(0).cast(float64) * ir.scalar(1, float64)
            return value.cast(dtypes.compute_dtype(d)).cast(d)

        return filling(m, "arange", element, (float(start), float(step)), "dd"), grad, out
    return filling(m, "arange", lambda: (ir.scalar(0, int64) + ir.axis(0) * ir.scalar(1, int64)).cast(d), (int(start), int(step)), "qq"), grad, out


def _number(v: Any) -> Any:
    return v.item() if hasattr(v, "item") else v


@public(name="range", method=False)
def _range(start: Any = 0, end: Any = None, step: Any = 1, **kwargs: Any) -> Any:
    """The numbers from ``start`` to ``end``, which is included where a step ends there; ``arange`` is to be preferred."""
    if end is None:
        raise TypeError('range() missing 1 required positional arguments: "end"')
    warnings.warn("torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's range builtin. "
                  "Instead, use torch.arange, which produces values in [start, end).", UserWarning, stacklevel=2)
    if step == 0 or (end - start) * step < 0:
        return arange(start, end, step)         # refused there
    kwargs.setdefault("dtype", dtypes.get_default_dtype())
    n = math.floor((end - start) / step)
    return arange(start, start + (n + 0.5) * step, step, **kwargs)


@constructor
def linspace(start: Any, end: Any, steps: int, **kwargs: Any) -> Reading:
    """``steps`` numbers from ``start`` to ``end``, both included, at equal distances."""
    start, end, steps = _number(start), _number(end), int(_number(steps))
    if steps < 0:
        raise RuntimeError("number of steps must be non-negative")
    m, grad, out = _options((steps,), dtypes.get_default_dtype(), kwargs)
    d = m.dtype
    c = dtypes.compute_dtype(d) if d.is_floating_point else float64

    def make() -> Expr:
        # from both ends towards the middle, so that the last element is exactly ``end``; fused as PyTorch's kernel has it
        i, low, high, last = ir.axis(0), ir.scalar(0, c), ir.scalar(1, c), ir.scalar(2, int64)
        step = (high - low) / ir.maximum(last, 1).cast(c)
        up = ir.fma(i.cast(c), step, low)
        down = ir.fma((i - last).cast(c), step, high)
        return ir.where(i < ir.scalar(3, int64), up, down).cast(d)

    return filling(m, "linspace", make, (float(start), float(end), steps - 1, steps // 2 if steps > 1 else 1), "ddqq"), grad, out


@public(method=False)
def logspace(start: Any, end: Any, steps: int, base: float = 10.0, **kwargs: Any) -> Any:
    """``base`` to the power of ``linspace(start, end, steps)``."""
    out = kwargs.pop("out", None)
    d = check_dtype(kwargs.get("dtype"), dtypes.get_default_dtype())
    exact = linspace(start, end, steps, dtype=float64)
    made = (base ** exact).to(d)
    return _give(made, kwargs.get("requires_grad", False), out)


@constructor
def eye(n: int, m: int | None = None, **kwargs: Any) -> Reading:
    """The ``n`` by ``m`` matrix with ones on the diagonal."""
    columns = n if m is None else m
    if n < 0 or columns < 0:
        raise RuntimeError(f"{'n' if n < 0 else 'm'} must be greater or equal to 0, got {n if n < 0 else columns}")
    made, grad, out = _options((n, columns), dtypes.get_default_dtype(), kwargs)
    d = made.dtype
    c = dtypes.compute_dtype(d)
    return filling(made, "eye", lambda: ir.where(ir.axis(0).eq(ir.axis(1)), ir.const(1, c), ir.const(0, c)).cast(d)), grad, out


# ------------------------------------------------------------------ from Python data


def _shape_of(data: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Shape of nested sequences and their elements in order."""
    shape: list[int] = []
    level = [data]
    while level and isinstance(level[0], (list, tuple, range)) or (level and _is_sequence(level[0])):
        n = len(level[0])
        below: list[Any] = []
        for k, item in enumerate(level):
            if not _is_sequence(item):
                raise TypeError(f"not a sequence: expected a sequence of length {n} at dim {len(shape)}, got {type(item).__name__}")
            if len(item) != n:
                raise ValueError(f"expected sequence of length {n} at dim {len(shape)} (got {len(item)})\n"
                                 f"tensor: rows differ in length: item 0 has length {n}, item {k} has length {len(item)}. "
                                 "Pad them, e.g. with nn.utils.rnn.pad_sequence, or keep a list of tensors.")
            below.extend(item)
        shape.append(n)
        level = below
    return tuple(shape), level


def _is_sequence(x: Any) -> bool:
    return isinstance(x, (list, tuple, range)) or (
        hasattr(x, "__len__") and hasattr(x, "__getitem__") and not isinstance(x, (str, bytes, dict, definition.Tensor))
        and not hasattr(x, "__array_interface__")
    )


_NUMBERS = {float, int, bool}


def _infer(values: list[Any]) -> dtype:
    """The dtype of Python numbers, NumPy's and 0-d tensors: the one they promote to."""
    kinds = set(map(type, values))
    best = dtypes.get_default_dtype() if float in kinds else int64 if int in kinds else bool_
    if kinds <= _NUMBERS:
        return best
    for v in values:
        if v.__class__ in _NUMBERS:
            continue
        if isinstance(v, definition.Tensor):
            d = v.dtype
        elif hasattr(v, "dtype") and hasattr(v, "item") and str(v.dtype) in DTYPES:
            d = DTYPES[str(v.dtype)]
        elif isinstance(v, complex):
            raise TypeError("complex numbers are not available yet")
        elif isinstance(v, float):
            d = dtypes.get_default_dtype()
        elif isinstance(v, int) or hasattr(v, "__index__"):
            d = int64
        elif v is None or isinstance(v, str):
            raise TypeError(f"new(): invalid data type '{type(v).__name__}'" if isinstance(v, str) else "must be real number, not NoneType")
        else:
            raise RuntimeError(f"Could not infer dtype of {type(v).__name__}")
        best = dtypes.promote_types(best, d)
    return best


def write_values(t: Any, values: list[Any]) -> None:
    """Fill the memory of a row-major tensor from Python numbers."""
    d = t._meta.dtype
    try:
        if d is bool_:
            data = bytes(map(bool, values))
        elif d is bfloat16:
            data = struct.pack(f"={len(values)}H", *map(_bfloat16_bits, values))
        elif d.is_floating_point:
            data = struct.pack(f"={len(values)}{d.code}", *values) if d is not float32 else array.array("f", values).tobytes()
        else:
            bad = next((v for v in values if isinstance(v, float) and not fits(v, d)), None)
            ints = [] if bad is not None else [int(v) for v in values]
            try:
                data = struct.pack(f"={len(values)}{d.code}", *ints)
            except struct.error:
                bits = 8 * d.itemsize
                if bad is None:
                    bad = next((v for v in ints if not fits(v, d)), None)
                if bad is not None:
                    raise RuntimeError(f"value cannot be converted to type {d.name} without overflow\ntensor: {bad} does not fit into {d.name}.") from None
                data = b"".join((v & ((1 << bits) - 1)).to_bytes(d.itemsize, "little") for v in ints)
    except OverflowError:
        if d.is_floating_point:
            data = struct.pack(f"={len(values)}{d.code}", *[_clip(float(v), d) for v in values])
        else:
            raise RuntimeError(f"value cannot be converted to type {d.name} without overflow") from None
    ctypes.memmove(t._buffer.ptr, data, len(data))


_LARGEST = {"float16": 65504.0, "float32": 3.4028234663852886e38}


def _clip(v: float, d: dtype) -> float:
    limit = _LARGEST.get(d.name, math.inf)
    return v if abs(v) <= limit or v != v else math.copysign(math.inf, v)


def _bfloat16_bits(v: Any) -> int:
    bits, = struct.unpack("<I", struct.pack("<f", _clip(float(v), float32)))
    if v != v:
        return 0x7FC0
    return int((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF


@public(method=False)
def tensor(data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False) -> Any:
    """A tensor with a copy of ``data``: a number, nested sequences of numbers, a NumPy array or another tensor.

    The dtype follows the data: Python floats give the default dtype, ints int64, bools bool.
    """
    shape: tuple[int, ...]
    numbers = data.__class__ is list and set(map(type, data)) <= _NUMBERS
    if numbers:
        shape, values = (len(data),), data
    else:
        if isinstance(data, definition.Tensor):
            warnings.warn("To copy construct from a tensor, it is recommended to use sourceTensor.detach().clone() or "
                          "sourceTensor.detach().clone().requires_grad_(True), rather than torch.tensor(sourceTensor).", UserWarning, stacklevel=2)
            made = data.detach().clone()
            return _placed(made, dtype, device, requires_grad)
        if hasattr(data, "__array_interface__") or hasattr(data, "__array__"):
            return _placed(from_array(_numpy_copy(data)), dtype, device, requires_grad)
        shape, values = _shape_of(data)
        if values and hasattr(values[0], "__array_interface__") and getattr(values[0], "ndim", 0) > 0:
            import numpy as np

            if isinstance(data, list) and len(data) > 1:
                warnings.warn("Creating a tensor from a list of numpy.ndarrays is extremely slow. Please consider converting the list to a single "
                              "numpy.ndarray with numpy.array() before converting to a tensor.", UserWarning, stacklevel=2)
            return _placed(from_array(_numpy_copy(np.array(data))), dtype, device, requires_grad)
    d = check_dtype(dtype, _infer(values) if values else dtypes.get_default_dtype()) if dtype is None or values is None else check_dtype(dtype, float32)
    if not numbers and any(isinstance(v, definition.Tensor) for v in values):
        if any(v.numel() != 1 for v in values if isinstance(v, definition.Tensor)):
            raise ValueError("only one element tensors can be converted to Python scalars\ntensor: to join tensors of equal shape use torch.stack(list).")
        values = [v.item() if isinstance(v, definition.Tensor) else v for v in values]
    dev = resolve_device(device)
    m = meta(shape, None, 0, d, dev)
    if dev is META:
        return finish(make_tensor(m, new_buffer()), requires_grad)
    t = allocated(m)
    try:
        write_values(t, values)
    except (TypeError, ValueError, struct.error) as error:
        if isinstance(error, struct.error) or "must be" in str(error) or "int()" in str(error):
            bad = next((v for v in values if not isinstance(v, (int, float)) and not hasattr(v, "__index__") and not hasattr(v, "__float__")), None)
            if isinstance(bad, str):
                raise TypeError("new(): invalid data type 'str'") from None
            raise TypeError(f"must be real number, not {type(bad).__name__}") from None
        raise
    if requires_grad and not d.is_floating_point:
        raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients\n"
                           f"requires_grad=True needs a floating-point (or complex) tensor, got {d.name} made from Python "
                           f"{'bools' if d is bool_ else 'ints'}. Write 1.0 for 1, or dtype=torch.float32.")
    return finish(t, requires_grad)


def _placed(t: Any, d: Any, dev: Any, requires_grad: bool) -> Any:
    if d is not None or dev is not None:
        t = t.to(dtype=check_dtype(d, t.dtype), device=t.device if dev is None else resolve_device(dev))
    if t._node is not None:
        t = t.detach()
    return finish(t, requires_grad)


def _numpy_copy(a: Any) -> Any:
    import numpy as np

    a = np.array(a)
    if a.dtype == object:
        raise object_error()
    return np.ascontiguousarray(a).reshape(a.shape)


def object_error() -> TypeError:
    """The error for an array of Python objects."""
    return TypeError("can't convert np.ndarray of type numpy.object_. The only supported types are: float64, float32, float16, complex64, complex128, "
                     "int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool.\n"
                     "The array holds Python objects, often because its rows have different lengths or it mixes numbers and strings. "
                     "Make it numeric first: array.astype(np.float32).")


@public(method=False, name="_from_array", function=False)
def from_array(a: Any, d: dtype | None = None) -> Any:
    """A tensor of a NumPy array that nobody else writes; ``d``: of this type, as which its elements are stored.

    Small ones are copied: memory of others has to be looked at by the calls that take it.
    """
    d = d or dtype_of(a.dtype)
    if d is None or a.nbytes > _COPIED or stream.traced() is not None:
        if not a.flags.c_contiguous:
            a = a.copy()
        t = over_array(a.view("int16") if d is bfloat16 else a)
        t._buffer.exposed = 0
        return t if d is None or t._meta.dtype is d else make_tensor(meta(a.shape, None, 0, d, CPU), t._buffer)
    m = meta(a.shape, None, 0, d, CPU)
    t = allocated(m)
    array_over(t._buffer.ptr, m.shape, None, d)[...] = a
    return t


_COPIED = 1 << 16       # bytes


def over_array(a: Any) -> Any:
    """A tensor that shares memory with a NumPy array."""
    name = a.dtype.name
    if name == "object":
        raise object_error()
    if name not in DTYPES:
        if name in ("uint16", "uint32", "uint64"):
            a = a.astype({"uint16": "int32", "uint32": "int64", "uint64": "int64"}[name])
            name = a.dtype.name
        else:
            raise TypeError(f"can't convert np.ndarray of type numpy.{name}. The only supported types are: float64, float32, float16, "
                            "complex64, complex128, int64, int32, int16, int8, uint64, uint32, uint16, uint8, and bool.")
    if not a.dtype.isnative:
        raise ValueError("given numpy array has byte order different from the native byte order. Conversion between byte orders is currently not supported.")
    d = DTYPES[name]
    strides = []
    for s in a.strides:
        if s < 0:
            raise ValueError("At least one stride in the given numpy array is negative, and tensors with negative strides are not currently supported. "
                             "(You can probably work around this by making a copy of your array  with array.copy().) ")
        if s % d.itemsize:
            raise ValueError("given numpy array strides not a multiple of the element byte size. Copy the numpy array to reallocate the memory.")
        strides.append(s // d.itemsize)
    b = new_buffer()
    b.ptr = a.__array_interface__["data"][0] or memory.allocate(64)
    b.nbytes = a.nbytes
    b.owner = a
    b.exposed = 1
    watch(b)
    shape = a.shape
    if a.size and contiguous_strides(shape) == tuple(strides):
        strides = list(contiguous_strides(shape))
    return make_tensor(meta(shape, strides, 0, d, CPU), b)


@public(method=False)
def from_numpy(ndarray: Any) -> Any:
    """A tensor that shares the memory of ``ndarray``: a write to one is seen in the other.

    Raises ``TypeError`` for arrays of objects or strings.  A read-only array gives a warning, and must not be written through the tensor.
    """
    if not hasattr(ndarray, "__array_interface__"):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    if not ndarray.flags.writeable:
        warnings.warn("The given NumPy array is not writable, and PyTorch does not support non-writable tensors. This means writing to this tensor will "
                      "result in undefined behavior. You may want to copy the array to protect its data or make it writable before converting it to a "
                      "tensor. This type of warning will be suppressed for the rest of this program.", UserWarning, stacklevel=2)
    return over_array(ndarray)


@public(method=False)
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Any:
    """``data`` as a tensor, sharing memory with a tensor or NumPy array where dtype and device allow."""
    if isinstance(data, definition.Tensor):
        if dtype is None and device is None:
            return data
        return data.to(dtype=dtype or data.dtype, device=data.device if device is None else resolve_device(device))
    if hasattr(data, "__array_interface__") and getattr(data, "flags", None) is not None:
        t = over_array(data) if data.flags.writeable else from_array(_numpy_copy(data))
        return t if dtype is None and device is None else t.to(dtype=dtype or t.dtype, device=t.device if device is None else resolve_device(device))
    return tensor(data, dtype=dtype, device=device)


@public(method=False)
def asarray(obj: Any, *, dtype: Any = None, device: Any = None, copy: bool | None = None, requires_grad: bool = False) -> Any:
    """``obj`` as a tensor; ``copy=True`` always copies."""
    t = as_tensor(obj, dtype=dtype, device=device)
    if copy:
        t = t.clone()
    return finish(t.detach() if t._node is not None else t, requires_grad)


class _Capsule:
    """A DLPack capsule as an object that hands itself out."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


@public(method=False)
def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Any:
    """A tensor over the memory of another library's array (anything with ``__dlpack__``, or a capsule)."""
    import numpy as np

    t = over_array(np.from_dlpack(ext_tensor if hasattr(ext_tensor, "__dlpack__") else _Capsule(ext_tensor)))
    if device is not None:
        t = t.to(device=resolve_device(device))
    return t.clone() if copy else t


@public(method=False)
def scalar_tensor(s: Any, **kwargs: Any) -> Any:
    """A 0-d tensor of the default dtype."""
    m, grad, _ = _options((), dtypes.get_default_dtype(), kwargs)
    return finish(filled(m, _number(s)), grad)


@public(method=False)
def frombuffer(buffer: Any, *, dtype: Any, count: int = -1, offset: int = 0, requires_grad: bool = False) -> Any:
    """A 1-d tensor over the memory of an object with the buffer protocol."""
    import numpy as np

    a = np.frombuffer(buffer, dtype=dtype.name, count=count, offset=offset)
    return finish(over_array(a), requires_grad)


def legacy_class(d: dtype, name: str) -> Any:
    """The old style ``FloatTensor(...)``: sizes make an uninitialised tensor, a sequence is copied."""

    class _Meta(type):
        def __instancecheck__(cls, x: object) -> bool:
            return isinstance(x, definition.Tensor) and x.dtype is d and x.device.type == "cpu"  # type: ignore[attr-defined]

        def __repr__(cls) -> str:
            return f"<class 'torch.{name}'>"

    class _Legacy(metaclass=_Meta):
        dtype = d

        def __new__(cls, *args: Any) -> Any:
            if not args:
                return empty(0, dtype=d)
            if len(args) == 1 and not isinstance(args[0], int):
                data = args[0]
                if isinstance(data, Size):
                    return empty(*data, dtype=d)
                if hasattr(data, "__array_interface__"):
                    return from_array(_numpy_copy(data.astype(d.name) if d is not bfloat16 else data.astype("float32"))).to(d)
                if isinstance(data, definition.Tensor):
                    if data.dtype is not d:
                        raise TypeError(f"expected {d} (got {data.dtype})")
                    return data.detach()
                return tensor(data, dtype=d)
            return empty(*args, dtype=d)

    _Legacy.__name__ = _Legacy.__qualname__ = name
    _Legacy.__module__ = "torch"
    return _Legacy


LEGACY = {
    "FloatTensor": "float32", "DoubleTensor": "float64", "HalfTensor": "float16", "BFloat16Tensor": "bfloat16", "LongTensor": "int64",
    "IntTensor": "int32", "ShortTensor": "int16", "CharTensor": "int8", "ByteTensor": "uint8", "BoolTensor": "bool",
}


def leaf_tensor(t: Any) -> Any:
    """Mark ``t`` as a leaf that requires a gradient."""
    t._node = graph.leaf(t)
    return t


__all__ = ["MODE", "Buffer", "constructor", "count", "filling", "from_array", "legacy_class"]
