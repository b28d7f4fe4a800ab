"""Random tensors: the generator's words become values in a recorded formula, or in Python when they are few.

The streams are PyTorch's; ``flambeau/random.py`` states them.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

from .. import random as streams
from ..core import dtype as dtypes
from ..core.device import META
from ..core.dtype import bool_, compute_dtype, dtype, float32, float64, int32, int64
from ..core.shape import Meta, as_shape, meta
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import Nest
from ..ops import definition
from ..ops.composite import public
from ..ops.definition import OPS, make_tensor
from ..ops.formula import instantiate
from ..stream import record as stream
from ..stream.record import Signature, new_buffer, signature
from . import creation
from .tensor import Tensor

FEW = 64            # up to so many values plain Python is quicker than a kernel
_signatures: dict[Any, Signature] = {}


def generator_of(g: Any) -> streams.Generator:
    """``generator=`` as given, or the default one."""
    return streams.default_generator if g is None else g  # type: ignore[no-any-return]


def _lower(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Any, origin: Any) -> list[Any]:
    return list(instantiate([sig.params], slots, (results[0], None), scalar, origin))


def _raw(data: bytes | bytearray, each: int) -> Any:
    """The generator's words as an int32 or int64 tensor."""
    d = int32 if each == 1 else int64
    t = creation.allocated(meta((len(data) // d.itemsize,), None, 0, d))
    ctypes.memmove(t._buffer.ptr, data if isinstance(data, bytes) else (ctypes.c_char * len(data)).from_buffer(data), len(data))
    return t


def _record(key: str, raw: Any, sizes: tuple[int, ...], loads: Callable[[dtype], list[Expr]], make: Callable[..., Expr], c: dtype, d: dtype,
            numbers: Sequence[float]) -> Any:
    """Record ``make(*loads, *numbers)`` over ``sizes`` with the words in ``raw``; the result is flat."""
    out = meta((_count(sizes),), None, 0, d)
    k = (key, raw._meta, out, c, sizes)
    sig = _signatures.get(k)
    if sig is None:
        scalars = [ir.scalar(i, c) for i in range(len(numbers))]
        value = make(*loads(raw._meta.dtype), *scalars)
        strides = tuple(_count(sizes[i + 1:]) for i in range(len(sizes)))
        nest = Nest("map", sizes, len(sizes), value.cast(d), Access(-1, 0, strides, d))
        letter = "d" if c.is_floating_point else "q"
        sig = _signatures[k] = signature(key, (raw._meta,), (out,), _lower, letter * len(numbers), params=nest, stable=("sample", *k))
    b, = stream.append(sig, (raw._buffer,), numbers)
    return make_tensor(out, b)


def _count(sizes: Sequence[int]) -> int:
    n = 1
    for s in sizes:
        n *= s
    return n


def _flat(n: int) -> Callable[[dtype], list[Expr]]:
    return lambda w: [ir.make("load", w, (), Access(0, 0, (1,), w))]


def from_values(values: Any, shape: Sequence[int], d: dtype) -> Any:
    """A tensor of values computed in Python."""
    t = creation.allocated(meta(shape, None, 0, d))
    creation.write_values(t, list(values))
    return t


def _values(m: Meta, n: int, few: Callable[[], Any], many: Callable[[], Any]) -> Any:
    """Values for metadata ``m``: from Python when few, else recorded."""
    if m.device is META:
        return make_tensor(m, new_buffer())
    if n <= FEW or stream.traced() is not None:
        return from_values(few(), m.shape, m.dtype)
    return many().view(m.shape)


def uniform_values(m: Meta, g: Any, low: float, high: float) -> Any:
    """Uniform in [low, high)."""
    d, n = m.dtype, m.numel
    streams.check_uniform(d, low, high)
    g, c, each = generator_of(g), compute_dtype(d), streams.words_each(d)
    return _values(m, n, lambda: streams.uniform(g, n, d, low, high),
                   lambda: _record("uniform", _raw(g.words(n * each), each), (n,), _flat(n),
                                   lambda w, lo, hi: streams.uniform_formula(w, lo, hi, d), c, d, (low, high)))


def normal_values(m: Meta, g: Any, mean: float, std: float, contiguous: bool = True) -> Any:
    """Normal with mean and standard deviation."""
    d, n = m.dtype, m.numel
    streams.check_normal(d, std)
    g = generator_of(g)
    if m.device is META:
        return make_tensor(m, new_buffer())
    if streams.is_scalar_normal(n, contiguous):
        return from_values(streams.normal(g, n, d, mean, std, contiguous), m.shape, d)
    data = streams.normal_blocks(g, n, d)
    each, c = streams.words_each(d), compute_dtype(d)
    raw = _raw(data, each)
    blocks = raw.numel() // 16

    def loads(w: dtype) -> list[Expr]:
        block = (16, 0, 1)
        return [ir.make("load", w, (), Access(0, 0, block, w)), ir.make("load", w, (), Access(0, 8, block, w)), ir.axis(1).eq(1)]

    values = _record("normal", raw, (blocks, 2, 8), loads, streams.normal_formula, c, d, (mean, std))
    if n % 16:
        values = OPS["cat"]([values[: n - 16], values[-16:]])
    return values.view(m.shape)


def integer_values(m: Meta, g: Any, low: int, high: int) -> Any:
    """Integers in [low, high)."""
    d, n = m.dtype, m.numel
    streams.check_integers(d, low, high)
    g = generator_of(g)
    if high - low >= streams.WIDE:
        return _values(m, 0, lambda: streams.integers(g, n, low, high), lambda: None)
    return _values(m, n, lambda: streams.integers(g, n, low, high),
                   lambda: _record("integers", _raw(g.words(n), 1), (n,), _flat(n), streams.integer_formula, int64, d, (low, high - low)))


def bernoulli_values(m: Meta, g: Any, p: float) -> Any:
    """1 with probability ``p``, else 0."""
    streams.check_bernoulli(p)
    d, n = m.dtype, m.numel
    g = generator_of(g)
    return _values(m, n, lambda: streams.bernoulli(g, n, p),
                   lambda: _record("bernoulli", _raw(g.words(2 * n), 2), (n,), _flat(n), streams.bernoulli_formula, float64, d, (p,)))


def _double(name: str, few: Callable[..., Any], formula: Callable[..., Expr]) -> Callable[..., Any]:
    def values(m: Meta, g: Any, *numbers: float) -> Any:
        d, n = m.dtype, m.numel
        g = generator_of(g)
        return _values(m, n, lambda: few(g, n, d, *numbers),
                       lambda: _record(name, _raw(g.words(2 * n), 2), (n,), _flat(n), formula, float64, d, numbers))

    return values


exponential_values = _double("exponential", streams.exponential, streams.exponential_formula)
geometric_values = _double("geometric", streams.geometric, streams.geometric_formula)
cauchy_values = _double("cauchy", streams.cauchy, streams.cauchy_formula)

# ------------------------------------------------------------------ functions


def _make(size: Any, default: dtype, kwargs: dict[str, Any]) -> tuple[Meta, bool, Any, Any]:
    g = kwargs.pop("generator", None)
    m, grad, out = creation._options(creation._sizes(size, kwargs), default, kwargs)
    return m, grad, out, g


@public(method=False)
def rand(*size: Any, **kwargs: Any) -> Any:
    """Uniform in [0, 1); arguments as ``zeros``, and ``generator=``."""
    m, grad, out, g = _make(size, dtypes.get_default_dtype(), kwargs)
    return creation._give(uniform_values(m, g, 0.0, 1.0), grad, out)


@public(method=False)
def randn(*size: Any, **kwargs: Any) -> Any:
    """Normal with mean 0 and standard deviation 1; arguments as ``zeros``, and ``generator=``."""
    m, grad, out, g = _make(size, dtypes.get_default_dtype(), kwargs)
    return creation._give(normal_values(m, g, 0.0, 1.0), grad, out)


@public(method=False)
def randint(*args: Any, **kwargs: Any) -> Any:
    """``randint(high, size)`` or ``randint(low, high, size)``: integers from low (0) up to, not including, high."""
    names = ("low", "high", "size") if len(args) >= 3 or ("low" in kwargs) or ("size" in kwargs and len(args) == 2) else ("high", "size")
    given = dict(zip(names, args, strict=False))
    for k in ("low", "high", "size"):
        if k in kwargs:
            given[k] = kwargs.pop(k)
    if "high" not in given or "size" not in given:
        raise TypeError("randint() received an invalid combination of arguments: "
                        "expected (int high, tuple of ints size) or (int low, int high, tuple of ints size)")
    m, grad, out, g = _make((given["size"],), int64, kwargs)
    return creation._give(integer_values(m, g, int(given.get("low", 0)), int(given["high"])), grad, out)


@public(method=False)
def randperm(n: int, **kwargs: Any) -> Any:
    """A random permutation of 0 .. n-1."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    m, grad, out, g = _make((n,), int64, kwargs)
    return creation._give(from_values(streams.permutation(generator_of(g), n), (n,), m.dtype), grad, out)


def _like(name: str, input: Any, kwargs: dict[str, Any]) -> tuple[Meta, bool, Any]:
    g = kwargs.pop("generator", None)
    m, grad = creation._like(name, input, kwargs)
    return m, grad, g


@public(method=False)
def rand_like(input: Any, **kwargs: Any) -> Any:
    """``rand`` of the shape and dtype of ``input``."""
    m, grad, g = _like("rand_like", input, kwargs)
    return creation.finish(uniform_values(m, g, 0.0, 1.0), grad)


@public(method=False)
def randn_like(input: Any, **kwargs: Any) -> Any:
    """``randn`` of the shape and dtype of ``input``."""
    m, grad, g = _like("randn_like", input, kwargs)
    return creation.finish(normal_values(m, g, 0.0, 1.0), grad)


@public(method=False)
def randint_like(input: Any, *args: Any, **kwargs: Any) -> Any:
    """``randint`` of the shape and dtype of ``input``: ``randint_like(x, high)`` or ``randint_like(x, low, high)``."""
    low = kwargs.pop("low", 0 if len(args) < 2 else args[0])
    high = kwargs.pop("high", args[-1] if args else None)
    m, grad, g = _like("randint_like", input, kwargs)
    return creation.finish(integer_values(m, g, int(low), int(high)), grad)


@public(method=False)
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, out: Any = None, **kwargs: Any) -> Any:
    """Normal values; ``mean`` and ``std`` are tensors, or numbers with ``size``."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        if isinstance(std, Tensor) and bool((std < 0).any()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
        shape = definition.broadcast_shapes(*[x.shape for x in (mean, std) if isinstance(x, Tensor)])
        d = mean.dtype if isinstance(mean, Tensor) else std.dtype
        z = normal_values(meta(shape, None, 0, d), generator, 0.0, 1.0)
        made = z * std + mean
    else:
        if size is None:
            raise TypeError("normal() with numbers needs size=")
        m, grad, _, _ = _make((size,), dtypes.get_default_dtype(), kwargs)
        made = creation.finish(normal_values(m, generator, float(mean), float(std)), grad)
    return creation._give(made, False, out) if out is not None else made


@public
def bernoulli(input: Any, p: float | None = None, *, generator: Any = None, out: Any = None) -> Any:
    """1 with the probability that ``input`` holds (or with ``p``), else 0; of the shape and dtype of ``input``."""
    m = meta(input.shape, None, 0, input.dtype, input.device)
    if p is not None:
        made = bernoulli_values(m, generator, float(p))
    else:
        if not input.dtype.is_floating_point:
            raise RuntimeError(f'"bernoulli_tensor_cpu_self_" not implemented for \'{definition.title(input.dtype)}\'')
        made = _bernoulli_of(input, m, generator)
    return creation._give(made, False, out) if out is not None else made


def _bernoulli_of(p: Any, m: Meta, g: Any) -> Any:
    p = p.detach()
    c = float64 if p.dtype is float64 else float32
    column = p.to(c).reshape(-1)
    values = column._flat()
    if not all(0 <= v <= 1 for v in values):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be improved?  "
                           "If so, please report an enhancement request to PyTorch.)\n"
                           "bernoulli: every probability must lie in [0, 1]; apply sigmoid or clamp(0, 1) first.")
    return from_values([float(v) for v in streams.bernoulli(generator_of(g), m.numel, values, c)], m.shape, m.dtype)


@public
def multinomial(input: Any, num_samples: int, replacement: bool = False, *, generator: Any = None, out: Any = None) -> Any:
    """Indices drawn with the given weights, ``num_samples`` per row."""
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if not input.dtype.is_floating_point:
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {definition.title(input.dtype)}")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    rows = input.detach().tolist()
    rows = rows if input.ndim == 2 else [rows]
    for r in rows:
        if any(not v >= 0 or v == float("inf") for v in r):
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if sum(r) <= 0:
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    drawn = streams.multinomial(generator_of(generator), rows, num_samples, replacement, input.dtype)
    flat = [i for r in drawn for i in r]
    shape = (num_samples,) if input.ndim == 1 else (len(rows), num_samples)
    made = from_values(flat, shape, int64)
    return creation._give(made, False, out) if out is not None else made


# ------------------------------------------------------------------ in-place methods


def _fill_with(t: Any, values: Any) -> Any:
    from .tensor import write

    return write(t, values)


def _shape_meta(t: Any) -> Meta:
    return meta(t.shape, None, 0, t.dtype, t.device)


def _uniform_(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None, **kw: Any) -> Any:
    """Fill with uniform values in [from, to)."""
    return _fill_with(self, uniform_values(_shape_meta(self), generator, float(kw.pop("from", from_)), float(to)))


def _normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with normal values."""
    return _fill_with(self, normal_values(_shape_meta(self), generator, float(mean), float(std), self.is_contiguous()))


def _bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fill with 0 and 1."""
    if isinstance(p, Tensor):
        return _fill_with(self, _bernoulli_of(p.expand(self.shape), _shape_meta(self), generator))
    return _fill_with(self, bernoulli_values(_shape_meta(self), generator, float(p)))


def _random_(self: Any, from_: int | None = None, to: int | None = None, *, generator: Any = None, **kw: Any) -> Any:
    """Fill with integers: of the dtype's whole range, below ``to``, or in [from, to)."""
    low = kw.pop("from", from_)
    m = _shape_meta(self)
    if low is None and to is None:
        g = generator_of(generator)
        return _fill_with(self, from_values(streams.integers_of(g, m.numel, m.dtype), m.shape, m.dtype))
    if to is None:
        low, to = 0, low
    return _fill_with(self, integer_values(m, generator, int(low or 0), int(to)))  # type: ignore[arg-type]


def _exponential_(self: Any, lambd: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with exponentially distributed values."""
    streams.check_exponential(self.dtype, lambd)
    return _fill_with(self, exponential_values(_shape_meta(self), generator, float(lambd)))


def _geometric_(self: Any, p: float, *, generator: Any = None) -> Any:
    """Fill with numbers of trials up to the first success."""
    streams.check_geometric(p)
    return _fill_with(self, geometric_values(_shape_meta(self), generator, float(p)))


def _cauchy_(self: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with Cauchy-distributed values."""
    streams.check_cauchy(self.dtype, sigma)
    return _fill_with(self, cauchy_values(_shape_meta(self), generator, float(median), float(sigma)))


def _log_normal_(self: Any, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> Any:
    """Fill with log-normal values."""
    streams.check_log_normal(self.dtype, std)
    m = _shape_meta(self)
    return _fill_with(self, from_values(streams.log_normal(generator_of(generator), m.numel, m.dtype, float(mean), float(std)), m.shape, m.dtype))


for _f in (_uniform_, _normal_, _bernoulli_, _random_, _exponential_, _geometric_, _cauchy_, _log_normal_):
    _name = _f.__name__[1:]
    _f.__name__ = _f.__qualname__ = _name
    setattr(Tensor, _name, _f)

PUBLIC: frozenset[str] = frozenset()
__all__ = ["as_shape", "bool_"]
