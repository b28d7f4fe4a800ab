"""Random tensors: the generator's words become values in a recorded formula, or in Python when they are few.

The streams are PyTorch's; ``flambeau/random.py`` states them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from .. import random as streams
from ..core import dtype as dtypes
from ..core.device import META
from ..core.dtype import compute_dtype, dtype, float64, int32, int64
from ..core.shape import Meta, contiguous_strides, meta
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import Nest
from ..ops import definition
from ..ops.composite import composite, public
from ..ops.definition import OPS, make_tensor
from ..ops.formula import RESULT, instantiate
from ..runtime import memory
from ..stream import record as stream
from ..stream.record import Buffer, Signature, new_buffer, signature
from . import creation, rejection
from .creation import Maker, Reading, constructor
from .tensor import Tensor

FEW = 64            # up to so many values whose formula has a logarithm are computed in Python, with the platform's own


# ------------------------------------------------------------------ recorded draws


class Distribution(NamedTuple):
    """How words become values, in the type that is computed in: see ``formulas`` in ``flambeau/random.py``."""

    name: str
    words: Callable[[dtype], int]           # draws for an element
    computed: Callable[[dtype], dtype]
    formula: Callable[..., Expr]            # of the word, the numbers, the result's type
    numbers: int                            # that are given at run time


def _double(name: str, formula: Callable[..., Expr], numbers: int) -> Distribution:
    """Computed in float64, of two draws, whatever the result's type."""
    return Distribution(name, lambda d: 2, lambda d: float64, lambda *x: formula(*x[:-1]), numbers)


UNIFORM = Distribution("uniform", streams.words_each, compute_dtype, streams.uniform_formula, 2)
INTEGERS = Distribution("integers", lambda d: 1, lambda d: int64, lambda *x: streams.integer_formula(*x[:-1]), 2)
NORMAL = Distribution("normal", streams.words_each, compute_dtype, lambda *x: streams.normal_formula(*x[:-1]), 2)
BERNOULLI = _double("bernoulli", streams.bernoulli_formula, 1)
TRIALS = Distribution("trials", streams.words_each, compute_dtype, lambda *x: streams.bernoulli_formula(*x[:-1]), 0)  # of a tensor of probabilities
EXPONENTIAL = _double("exponential", streams.exponential_formula, 1)
GEOMETRIC = _double("geometric", streams.geometric_formula, 1)
CAUCHY = _double("cauchy", streams.cauchy_formula, 2)


class Sampler:
    """Draws from a distribution into tensors of some metadata; ``operands``: metadata of tensors that the formula reads as well."""

    __slots__ = ("memory", "nbytes", "out", "signature", "words")

    def __init__(self, distribution: Distribution, m: Meta, operands: tuple[Meta, ...]) -> None:
        d = operands[0].dtype if operands else m.dtype
        each, c = distribution.words(d), distribution.computed(d)
        w = int32 if each == 1 else int64
        numbers = [ir.scalar(i, c) for i in range(distribution.numbers)]
        nests, count = _blocks(m, w, numbers) if distribution is NORMAL else _elements(distribution, m, w, c, numbers, operands)
        self.out, self.words = m, count * each
        self.nbytes = max(1, 4 * self.words)
        self.memory = memory.free_list(self.nbytes)
        ins = meta((count,), None, 0, w), *operands
        letter = "d" if c.is_floating_point else "q"
        self.signature = signature(distribution.name, ins, (m,), _lower, letter * len(numbers), params=nests,
                                   stable=("sample", distribution.name, *ins, m))

    def draw(self, g: Any, numbers: Sequence[float] = (), operands: Sequence[Buffer] = ()) -> Any:
        """Take the words from generator ``g`` (None: the default one), and record what makes values of them."""
        b = creation.with_memory(self.nbytes, *self.memory)
        (streams.default_generator if g is None else g).fill(b.ptr, self.words)
        t = _new(Tensor)
        t._meta = self.out
        t._buffer, = stream.append(self.signature, (b, *operands), numbers)
        t._node = t._base = None
        return t


_new = object.__new__
_samplers: dict[Any, Sampler] = {}


def _sampler(distribution: Distribution, m: Meta, operands: tuple[Meta, ...] = ()) -> Sampler:
    key = distribution.name, m, operands
    s = _samplers.get(key)
    if s is None:
        if len(_samplers) > 20_000:
            _samplers.clear()
        s = _samplers[key] = Sampler(distribution, m, operands)
    return s


def _elements(distribution: Distribution, m: Meta, w: dtype, c: dtype, numbers: list[Expr], operands: tuple[Meta, ...]) -> tuple[list[Nest], int]:
    """A word for every element."""
    strides = contiguous_strides(m.shape)
    read = [ir.make("load", x.dtype, (), Access(i, x.offset, x.strides, x.dtype)).cast(c) for i, x in enumerate(operands, 1)]
    value = distribution.formula(ir.make("load", w, (), Access(0, 0, strides, w)), *read, *numbers, m.dtype)
    return [Nest("map", tuple(m.shape), m.ndim, value.cast(m.dtype), Access(RESULT, 0, strides, m.dtype))], m.numel


def _blocks(m: Meta, w: dtype, numbers: list[Expr]) -> tuple[list[Nest], int]:
    """Blocks of 16 normals; where their number is no multiple of 16, the last 16 come from words of their own."""
    def block(count: int, source: int, place: int) -> Nest:
        first, second = (ir.make("load", w, (), Access(0, source + i, (16, 0, 1), w)) for i in (0, 8))
        value = NORMAL.formula(first, second, ir.axis(1).eq(1), *numbers, m.dtype)
        return Nest("map", (count, 2, 8), 3, value.cast(m.dtype), Access(RESULT, place, (16, 8, 1), m.dtype))

    whole, rest = divmod(m.numel, 16)
    nests = [block(whole, 0, 0)]
    if not rest:
        return nests, m.numel
    source = 16 * whole + streams.skipped(rest, m.dtype)
    return [*nests, block(1, source, m.numel - 16)], source + 16


def _lower(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Any, origin: Any) -> list[Any]:
    return list(instantiate(sig.params, slots, (results[0], None), scalar, origin))


# ------------------------------------------------------------------ values for metadata


def generator_of(g: Any) -> streams.Generator:
    """``generator=`` as given, or the default one."""
    return streams.default_generator if g is None else g  # type: ignore[no-any-return]


def from_values(values: Any, shape: Sequence[int], d: dtype) -> Any:
    """A tensor of values computed in Python."""
    t = creation.allocated(meta(shape, None, 0, d))
    creation.write_values(t, list(values))
    return t


def _unknown(m: Meta) -> Maker:
    return lambda g: make_tensor(m, new_buffer())


def _drawing(distribution: Distribution, m: Meta, *numbers: float) -> Maker:
    if m.device is META:
        return _unknown(m)
    draw = _sampler(distribution, m).draw
    return lambda g: draw(g, numbers)


def uniform(m: Meta, low: float, high: float) -> Maker:
    """Uniform in [low, high)."""
    streams.check_uniform(m.dtype, low, high)
    return _drawing(UNIFORM, m, low, high)


def normals(m: Meta, mean: float, std: float, contiguous: bool = True) -> Maker:
    """Normal with mean and standard deviation."""
    d, n = m.dtype, m.numel
    streams.check_normal(d, std)
    if streams.is_scalar_normal(n, contiguous) and m.device is not META:
        return lambda g: from_values(streams.normal(generator_of(g), n, d, mean, std), m.shape, d)
    return _drawing(NORMAL, m, mean, std)


def integers(m: Meta, low: int, high: int) -> Maker:
    """Integers in [low, high)."""
    d, n = m.dtype, m.numel
    streams.check_integers(d, low, high)
    if high - low >= streams.WIDE and m.device is not META:
        return lambda g: from_values(streams.integers(generator_of(g), n, low, high), m.shape, d)
    return _drawing(INTEGERS, m, low, high - low)


def bernoulli_trials(m: Meta, p: float) -> Maker:
    """1 with probability ``p``, else 0."""
    streams.check_bernoulli(p)
    return _drawing(BERNOULLI, m, p)


def transformed(distribution: Distribution, few: Callable[..., Any], m: Meta, *numbers: float) -> Maker:
    """Values that are computed in float64 with a logarithm or a tangent."""
    d, n = m.dtype, m.numel
    if n <= FEW and m.device is not META:
        return lambda g: from_values(few(generator_of(g), n, d, *numbers), m.shape, d)
    return _drawing(distribution, m, *numbers)


# ------------------------------------------------------------------ functions


@constructor
def rand(*size: Any, **kwargs: Any) -> Reading:
    """Uniform in [0, 1); arguments as ``zeros``, and ``generator=``."""
    m, grad, out = creation._options(creation._sizes(size, kwargs), dtypes.get_default_dtype(), kwargs)
    return uniform(m, 0.0, 1.0), grad, out


@constructor
def randn(*size: Any, **kwargs: Any) -> Reading:
    """Normal with mean 0 and standard deviation 1; arguments as ``zeros``, and ``generator=``."""
    m, grad, out = creation._options(creation._sizes(size, kwargs), dtypes.get_default_dtype(), kwargs)
    return normals(m, 0.0, 1.0), grad, out


@constructor
def randint(*args: Any, **kwargs: Any) -> Reading:
    """``randint(high, size)`` or ``randint(low, high, size)``: integers from low (0) up to, not including, high."""
    names = ("low", "high", "size") if len(args) >= 3 or ("low" in kwargs) or ("size" in kwargs and len(args) == 2) else ("high", "size")
    given = dict(zip(names, args, strict=False))
    for k in ("low", "high", "size"):
        if k in kwargs:
            given[k] = kwargs.pop(k)
    if "high" not in given or "size" not in given:
        raise TypeError("randint() received an invalid combination of arguments: "
                        "expected (int high, tuple of ints size) or (int low, int high, tuple of ints size)")
    m, grad, out = creation._options(creation._sizes((given["size"],), {}), int64, kwargs)
    return integers(m, int(given.get("low", 0)), int(given["high"])), grad, out


@constructor
def randperm(n: int, **kwargs: Any) -> Reading:
    """A random permutation of 0 .. n-1."""
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    m, grad, out = creation._options(creation._sizes((n,), {}), int64, kwargs)
    if m.device is META:
        return _unknown(m), grad, out
    whole = meta((n,), None, 0, int64)

    def permuted(g: Any) -> Any:
        t = creation.allocated(whole)
        streams.permutation(generator_of(g), n, t._buffer.ptr)
        return t if m is whole else t.to(m.dtype)

    return permuted, grad, out


@constructor
def rand_like(input: Any, **kwargs: Any) -> Reading:
    """``rand`` of the shape and dtype of ``input``."""
    m, grad = creation._like("rand_like", input, kwargs)
    return uniform(m, 0.0, 1.0), grad, None


@constructor
def randn_like(input: Any, **kwargs: Any) -> Reading:
    """``randn`` of the shape and dtype of ``input``."""
    m, grad = creation._like("randn_like", input, kwargs)
    return normals(m, 0.0, 1.0), grad, None


@constructor
def randint_like(input: Any, *args: Any, **kwargs: Any) -> Reading:
    """``randint`` of the shape and dtype of ``input``: ``randint_like(x, high)`` or ``randint_like(x, low, high)``."""
    low = kwargs.pop("low", 0 if len(args) < 2 else args[0])
    high = kwargs.pop("high", args[-1] if args else None)
    m, grad = creation._like("randint_like", input, kwargs)
    return integers(m, int(low), int(high)), grad, None


@public(method=False)
def normal(mean: Any, std: Any = 1.0, size: Any = None, *, generator: Any = None, out: Any = None, **kwargs: Any) -> Any:
    """Normal values; ``mean`` and ``std`` are tensors, or numbers with ``size``."""
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        if isinstance(std, Tensor) and bool((std < 0).any()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
        shape = definition.broadcast_shapes(*[x.shape for x in (mean, std) if isinstance(x, Tensor)])
        d = mean.dtype if isinstance(mean, Tensor) else std.dtype
        z = normals(meta(shape, None, 0, d), 0.0, 1.0)(generator)
        made = z * std + mean
    else:
        if size is None:
            raise TypeError("normal() with numbers needs size=")
        m, grad, _ = creation._options(creation._sizes((size,), {}), dtypes.get_default_dtype(), kwargs)
        made = creation.finish(normals(m, float(mean), float(std))(generator), grad)
    return creation._give(made, False, out) if out is not None else made


@public
def bernoulli(input: Any, p: float | None = None, *, generator: Any = None, out: Any = None) -> Any:
    """1 with the probability that ``input`` holds (or with ``p``), else 0; of the shape and dtype of ``input``."""
    m = _shape_meta(input)
    made = _trials(input, m, generator) if p is None else bernoulli_trials(m, float(p))(generator)
    return creation._give(made, False, out) if out is not None else made


def _trials(p: Any, m: Meta, g: Any) -> Any:
    if not p.dtype.is_floating_point:
        raise RuntimeError(f'"bernoulli_tensor_cpu_self_" not implemented for \'{definition.title(p.dtype)}\'')
    if m.device is META:
        return make_tensor(m, new_buffer())
    p = p.detach()
    if not _all_probabilities(p).item():
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true, but got false.  (Could this error message be improved?  "
                           "If so, please report an enhancement request to PyTorch.)\n"
                           "bernoulli: every probability must lie in [0, 1]; apply sigmoid or clamp(0, 1) first.")
    return _sampler(TRIALS, m, (p._meta,)).draw(g, (), (p._buffer,))


@composite
def _all_probabilities(p: Any) -> Any:
    return ((p >= 0) & (p <= 1)).all()


@composite
def _are_weights(weights: Any) -> Any:
    return ((weights >= 0) & (weights < float("inf"))).all() & (weights > 0).any(-1).all()


@composite
def _first_to_ring(weights: Any, clocks: Any) -> Any:
    return (weights / clocks).argmax(-1, keepdim=True)


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
    weights = input.detach()
    one_by_one = replacement and num_samples > 1
    sound = _are_weights(weights).item()
    if one_by_one or not sound:
        rows = weights.tolist() if input.ndim == 2 else [weights.tolist()]
        streams.check_weights(rows, one_by_one)
        drawn = streams.with_replacement(generator_of(generator), rows, num_samples, input.dtype)
        made = from_values(drawn, (*input.shape[:-1], num_samples), int64)
    else:
        # an exponential race: the index whose clock, running at its weight, rings first
        clocks = transformed(EXPONENTIAL, streams.exponential, _shape_meta(input), 1.0)(generator)
        made = _first_to_ring(weights, clocks) if num_samples == 1 else OPS["topk"](weights / clocks, num_samples)[1]
    return creation._give(made, False, out) if out is not None else made


# ------------------------------------------------------------------ one by one


def _one_by_one(draw: Callable[..., Any], operands: Sequence[Any], g: Any, least: float | None = None) -> Any:
    """A value of ``draw(generator, *columns)`` for every element of operands of one shape."""
    first = operands[0].detach()
    if first.device.type == "meta":
        return make_tensor(_shape_meta(first), new_buffer())
    values = draw(generator_of(g), *[x.detach().flatten().tolist() for x in operands])
    if least is not None:
        values = [v if v > least else least for v in values]
    return from_values(values, first.shape, first.dtype)


@public(method=False)
def poisson(input: Any, generator: Any = None) -> Any:
    """Poisson values with the rates that ``input`` holds, of its shape and dtype.

    Raises
    ------
    RuntimeError
        If a rate is negative or NaN.
    NotImplementedError
        For integers.
    """
    if not input.dtype.is_floating_point:
        raise NotImplementedError(f'"poisson_cpu" not implemented for \'{definition.title(input.dtype)}\'\n'
                                  f"poisson: rates are floating-point numbers, got {input.dtype}; convert them first, for example with .float()")

    def draw(g: Any, rates: list[float]) -> list[float]:
        if not all(r >= 0 for r in rates):
            raise RuntimeError("invalid Poisson rate, expected rate to be non-negative\npoisson: apply exp or softplus to what may be negative.")
        return rejection.poissons(g, rates)

    return _one_by_one(draw, [input], generator)


@public(method=False)
def binomial(count: Any, prob: Any, generator: Any = None) -> Any:
    """Numbers of successes in ``count`` trials of probability ``prob``: two tensors of one floating-point dtype that are broadcast together.

    Raises
    ------
    ValueError
        If a tensor does not hold floating-point numbers.
    RuntimeError
        If their dtypes differ.
    """
    for name, x in (("count", count), ("prob", prob)):
        if not x.dtype.is_floating_point:
            raise ValueError(f"binomial only supports floating-point dtypes for {name}, got: {definition.title(x.dtype)}\n"
                             f"binomial: convert {name} first, for example with .float()")
    if count.dtype is not prob.dtype:
        raise RuntimeError(f"Found dtype {definition.title(prob.dtype)} but expected {definition.title(count.dtype)}\n"
                           f"binomial: count is {count.dtype} and prob {prob.dtype}; convert one of them")
    shape = definition.broadcast_shapes(count.shape, prob.shape)
    return _one_by_one(rejection.binomials, [count.expand(shape), prob.expand(shape)], generator)


def _standard_gamma(self: Any, generator: Any = None) -> Any:
    """Gamma values of rate 1 with the concentrations that ``self`` holds; differentiable (see ``ops/pathwise.py``)."""
    d = self.dtype
    if not d.is_floating_point:
        raise NotImplementedError(f'"gamma_cpu" not implemented for \'{definition.title(d)}\'\n'
                                  f"concentrations are floating-point numbers, got {d}; convert them first, for example with .float()")
    made = _one_by_one(lambda g, shapes: rejection.gammas(g, shapes, d), [self], generator, rejection.least(d))
    if not self.requires_grad:
        return made
    from ..ops import pathwise

    return pathwise.attached_gamma(made, self)


def _sample_dirichlet(self: Any, generator: Any = None) -> Any:
    """Dirichlet values with concentrations along the last dimension of ``self``; differentiable (see ``ops/pathwise.py``)."""
    d, n = self.dtype, self.shape[-1] or 1 if self.ndim else 1

    def draw(g: Any, concentrations: list[float]) -> list[float]:
        values = rejection.gammas(g, concentrations, float64)
        sums = [sum(values[i:i + n]) for i in range(0, len(values), n)]
        return [v / sums[i // n] if sums[i // n] else v for i, v in enumerate(values)]

    made = _one_by_one(draw, [self], generator, rejection.least(d))
    if not self.requires_grad:
        return made
    from ..ops import pathwise

    return pathwise.attached_dirichlet(made, self)


# ------------------------------------------------------------------ in-place methods


def _fill_with(t: Any, values: Any) -> Any:
    from .tensor import write

    return write(t, values)


def _shape_meta(t: Any) -> Meta:
    m = t._meta
    return meta(m.shape, None, 0, m.dtype, m.device)


def _uniform_(self: Any, from_: float = 0.0, to: float = 1.0, *, generator: Any = None, **kw: Any) -> Any:
    """Fill with uniform values in [from, to)."""
    return _fill_with(self, uniform(_shape_meta(self), float(kw.pop("from", from_)), float(to))(generator))


def _normal_(self: Any, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with normal values."""
    return _fill_with(self, normals(_shape_meta(self), float(mean), float(std), self.is_contiguous())(generator))


def _bernoulli_(self: Any, p: Any = 0.5, *, generator: Any = None) -> Any:
    """Fill with 0 and 1."""
    if isinstance(p, Tensor):
        return _fill_with(self, _trials(p.expand(self.shape), _shape_meta(self), generator))
    return _fill_with(self, bernoulli_trials(_shape_meta(self), float(p))(generator))


def _random_(self: Any, from_: int | None = None, to: int | None = None, *, generator: Any = None, **kw: Any) -> Any:
    """Fill with integers: of the dtype's whole range, below ``to``, or in [from, to)."""
    low = kw.pop("from", from_)
    m = _shape_meta(self)
    if low is None and to is None:
        g = generator_of(generator)
        return _fill_with(self, from_values(streams.integers_of(g, m.numel, m.dtype), m.shape, m.dtype))
    if to is None:
        low, to = 0, low
    return _fill_with(self, integers(m, int(low or 0), int(to))(generator))  # type: ignore[arg-type]


def _exponential_(self: Any, lambd: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with exponentially distributed values."""
    streams.check_exponential(self.dtype, lambd)
    return _fill_with(self, transformed(EXPONENTIAL, streams.exponential, _shape_meta(self), float(lambd))(generator))


def _geometric_(self: Any, p: float, *, generator: Any = None) -> Any:
    """Fill with numbers of trials up to the first success."""
    streams.check_geometric(p)
    return _fill_with(self, transformed(GEOMETRIC, streams.geometric, _shape_meta(self), float(p))(generator))


def _cauchy_(self: Any, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> Any:
    """Fill with Cauchy-distributed values."""
    streams.check_cauchy(self.dtype, sigma)
    return _fill_with(self, transformed(CAUCHY, streams.cauchy, _shape_meta(self), float(median), float(sigma))(generator))


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
__all__ = ["Distribution", "Sampler"]
