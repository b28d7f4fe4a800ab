"""Random numbers: PyTorch's own CPU stream, so that the same seed gives the same values.

A :class:`Generator` yields 32-bit words (Mersenne Twister).  Each distribution is written once, as a formula from words to
values: the tensor layer hands words and formula to the engine, or, for few elements of some distributions, takes the values that
the functions here compute from the same formula in plain Python.  Which draw feeds which element, and how it is rounded, was
found by observing PyTorch; everything here is exact to the bit except where a docstring says otherwise.
"""

from __future__ import annotations

import ctypes
import math
import operator
import os
import struct
from _thread import RLock
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, repeat
from typing import Any, TypeAlias

from .core.device import CPU
from .core.device import device as Device
from .core.dtype import bfloat16, bool_, compute_dtype, dtype, float16, float32, float64, int32, int64, uint8
from .ir.expression import E, Expr, bitcast, const, fma, make, scalar, walk, where
from .runtime import twister

DEFAULT_SEED = 67280421310721       # of a generator that was never seeded
STATE_BYTES = 5056

# seed, left, seeded, next, the 624 state words as uint64, three doubles of which the second is the kept normal,
# its validity; a float normal and its validity, which the CPU does not use
_STATE = struct.Struct("<QiiQ624Qdddi4xfB3x")


class Generator:
    """A stream of random numbers with a state of its own.

    Parameters
    ----------
    device : device or str
        Only ``"cpu"``.

    Raises
    ------
    RuntimeError
        For another device.
    """

    __slots__ = ("__weakref__", "_address", "_lock", "_normal", "_seed", "_state")

    def __init__(self, device: Device | str = "cpu") -> None:
        given = Device(device)
        if given.type != "cpu":
            raise RuntimeError(f"Generator: only the CPU has a generator here, got device {str(given)!r}")
        self._lock = RLock()
        self._state = twister.State()
        self._address = ctypes.addressof(self._state)
        self._start(DEFAULT_SEED)

    def _start(self, seed: int) -> None:
        with self._lock:
            self._seed = seed
            self._normal: float | None = None       # the second value of the last pair of normals
            self._state[0], self._state[twister.NEXT] = seed & 0xFFFFFFFF, twister.SEEDED

    @property
    def device(self) -> Device:
        """The device whose random numbers these are."""
        return CPU

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream that belongs to ``seed`` (at least -2**63, less than 2**64) and return the generator."""
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise RuntimeError(f"manual_seed expected a long, but got {type(seed).__name__}")
        if not -(1 << 63) <= seed < 1 << 64:
            raise ValueError(f"Overflow when unpacking long long\nmanual_seed: a seed lies in [-2**63, 2**64), got {seed}")
        self._start(seed % (1 << 64))
        return self

    def seed(self) -> int:
        """Seed from the operating system's randomness; return the seed."""
        self._start(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self) -> int:
        """The seed that the stream was started with."""
        return self._seed

    def clone_state(self) -> Generator:
        """A new generator that continues as this one does."""
        return _restored(self.state_bytes())

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (self.state_bytes(),))

    def __deepcopy__(self, memo: object) -> Generator:
        return self.clone_state()

    def get_state(self) -> Any:
        """The state as a uint8 tensor of 5056 elements, in PyTorch's layout: either library can continue the other's stream."""
        from .tensor.creation import tensor

        return tensor(list(self.state_bytes()), dtype=uint8)

    def set_state(self, new_state: Any) -> None:
        """Continue from a state that :meth:`get_state` returned, here or in PyTorch.

        Raises
        ------
        TypeError
            If it is not a uint8 tensor.
        RuntimeError
            If its size or content is not that of a state; the generator is then unchanged.
        """
        kind = getattr(new_state, "dtype", None)
        if kind is None:
            raise TypeError(f"expected a torch.ByteTensor, but got {type(new_state).__name__}")
        if kind is not uint8:
            raise TypeError(f"RNG state must be a torch.ByteTensor, got a tensor of {kind}")
        self.load_state_bytes(bytes(new_state.flatten().tolist()))

    def state_bytes(self) -> bytes:
        """The state in PyTorch's layout, as bytes."""
        with self._lock:
            twister.draw(self._address, 0, 0)
            index = self._state[twister.NEXT]
            left, following = (1, 0) if index == twister.FRESH else (625 - index, index)
            kept = self._normal
            return _STATE.pack(self._seed, left, 1, following, *self._state[:624], 0.0, 0.0 if kept is None else kept, 0.0, kept is not None, 0.0, 0)

    def load_state_bytes(self, state: bytes) -> None:
        """Continue from a state in PyTorch's layout (see :meth:`set_state`)."""
        if len(state) != STATE_BYTES:
            raise RuntimeError(
                f"Expected a CPUGeneratorImplState of size {STATE_BYTES} but found the input RNG state size to be {len(state)}")
        seed, left, seeded, following, *rest = _STATE.unpack(state)
        words = rest[:624]
        kept, valid = rest[625], rest[627]
        if not (seeded == 1 and 1 <= left <= 624 and following in (625 - left, 0 if left == 1 else 625 - left)
                and max(words) < 1 << 32):
            raise RuntimeError("Invalid mt19937 state\nset_state: the tensor has the right size but does not hold a generator's state")
        with self._lock:
            self._seed, self._normal = seed, kept if valid else None
            self._state[:624], self._state[twister.NEXT] = words, following or twister.FRESH

    def fill(self, address: int, n: int) -> None:
        """Write the next ``n`` draws to memory, as uint32."""
        twister.draw(self._address, address, n)

    def words(self, n: int) -> bytearray:
        """The next ``n`` draws as uint32 (4 * n bytes)."""
        words = memory(4 * max(n, 0))
        if n > 0:
            self.fill(ctypes.addressof(ctypes.c_char.from_buffer(words)), n)
        return words

    def normals(self, n: int) -> list[float]:
        """The next ``n`` standard normals one by one in double precision, made in pairs; an odd one out is kept for the next call."""
        with self._lock:
            values = [] if self._normal is None or n <= 0 else [self._normal]
            missing = n - len(values)
            if missing > 0:
                units = _unit_doubles(self, missing + missing % 2)
                for angle, radius in zip(units[::2], units[1::2], strict=True):
                    r, a = math.sqrt(-2.0 * math.log1p(-radius)), 2.0 * math.pi * angle
                    values += (r * math.cos(a), r * math.sin(a))
            if n > 0:
                self._normal = values.pop() if len(values) > n else None
            return values


def memory(nbytes: int) -> bytearray:
    """``nbytes`` of memory, or PyTorch's error."""
    try:
        return bytearray(nbytes)
    except (MemoryError, OverflowError):
        raise RuntimeError(f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {nbytes} bytes.\n"
                           "Random numbers need that much while they are drawn. Ask for fewer at a time.") from None


def _restored(state: bytes) -> Generator:
    generator = Generator()
    generator.load_state_bytes(state)
    return generator


# The process's own generator ----------------------------------------------------------------------------------------------------

default_generator = Generator()
default_generator.seed()


def manual_seed(seed: Any) -> Generator:
    """Seed the default generator; numbers other than integers are truncated.

    Returns
    -------
    Generator
        The default generator.
    """
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seed the default generator from the operating system's randomness; return the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator's stream was started with."""
    return default_generator.initial_seed()


def get_rng_state() -> Any:
    """The default generator's state, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Any) -> None:
    """Make the default generator continue from ``new_state`` (see :meth:`Generator.set_state`)."""
    default_generator.set_state(new_state)


class fork_rng:
    """Context manager: what is drawn in the block does not advance the default generator outside.

    Parameters
    ----------
    devices : iterable, optional
        Other devices whose generators to restore as well; there are none yet.
    enabled : bool
        False makes the block have no effect.
    """

    def __init__(self, devices: Iterable[Any] | None = None, enabled: bool = True, device_type: str = "cuda") -> None:
        self._enabled = enabled

    def __enter__(self) -> None:
        if self._enabled:
            self._state = default_generator.state_bytes()

    def __exit__(self, *exc: object) -> None:
        if self._enabled:
            default_generator.load_state_bytes(self._state)


# Formulas: words to values ------------------------------------------------------------------------------------------------------
#
# A ``word`` is one draw as int32 (the same bits) for the types up to float32, and two draws read as one little-endian int64
# for float64 and for everything that PyTorch computes in double precision whatever the result's type.  Parameters are
# expressions of the type computed in.  Results are of that type too; where a formula takes ``d``, they are exactly
# representable in it, and otherwise are rounded by the caller's cast.

def unit_single(word: Expr) -> Expr:
    """A float32 in [0, 1) out of one draw: its low 24 bits."""
    return (word & 0xFFFFFF).cast(float32) * 2.0**-24


def unit_double(word: Expr) -> Expr:
    """A float64 in [0, 1) out of two draws, the first of which is the high half: the low 53 bits."""
    return (((word & 0x1FFFFF) << 32) | E.ushr(word, 32)).cast(float64) * 2.0**-53


def _unit(word: Expr) -> Expr:
    return unit_single(word) if word.dtype is int32 else unit_double(word)


def uniform_formula(word: Expr, low: Expr, high: Expr, d: dtype) -> Expr:
    """Uniform in [low, high), of floating type ``d``; a value that rounding brings to ``high`` becomes ``low``."""
    computed = low.dtype
    value = fma(_unit(word), high - low, low).cast(d).cast(computed)
    return where(value.eq(high.cast(d).cast(computed)), low.cast(d).cast(computed), value)


def normal_formula(first: Expr, second: Expr, sine: Expr, mean: Expr, std: Expr) -> Expr:
    """Box and Muller's transform of two draws; ``sine`` (bool) chooses which value of the pair.

    Of each block of 16 draws, number ``j < 8`` (``first``) and ``j + 8`` (``second``) make the values ``j`` (cosine) and
    ``j + 8`` (sine).  In float32 the logarithm and the sine and cosine are the classic polynomials of the Cephes library,
    with which PyTorch fills large tensors, evaluated with fused multiply-adds: the same bits.  In float64 they are the
    evaluator's own.
    """
    u1, u2 = 1.0 - _unit(first), _unit(second)
    if first.dtype is int64:
        angle = u2 * (2.0 * math.pi)
        radius, turned = E.sqrt(E.log(u1) * -2.0), where(sine, E.sin(angle), E.cos(angle))
    else:
        radius, turned = E.sqrt(_log_single(u1) * -2.0), _turn_single(u2 * const(2.0 * math.pi, float32), sine)
    return fma(radius * turned, std, mean)


def _polynomial(x: Expr, *coefficients: float) -> Expr:
    """Horner's scheme with fused multiply-adds, the highest power first."""
    value = const(coefficients[0], x.dtype)
    for c in coefficients[1:]:
        value = fma(value, x, c)
    return value


def _log_single(x: Expr) -> Expr:
    """Natural logarithm of a positive normal float32 (Cephes ``logf``)."""
    bits = bitcast(x, int32)
    mantissa = bitcast((bits & 0x7FFFFF) | 0x3F000000, float32)         # in [0.5, 1)
    low = mantissa < const(math.sqrt(0.5), float32)
    exponent = where(low, (bits >> 23) - 127, (bits >> 23) - 126).cast(float32)
    x = (mantissa - 1.0) + where(low, mantissa, const(0.0, float32))
    square = x * x
    value = x * _polynomial(
        x, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)
    # log 2 in two parts, the larger of which has few bits: its product with the exponent is exact
    value = fma(value, square, exponent * const(-2.12194440e-4, float32))
    return (x + fma(square, -0.5, value)) + exponent * const(0.693359375, float32)


def _turn_single(x: Expr, sine: Expr) -> Expr:
    """Sine or cosine of a float32 that is not negative (Cephes ``sinf``, ``cosf``)."""
    octant = ((x * const(4.0 / math.pi, float32)).cast(int32) + 1) & ~1
    whole = octant.cast(float32)
    for part in (-0.78515625, -2.4187564849853515625e-4, -3.77489497744594108e-8):       # pi / 4 in three parts
        x = fma(whole, part, x)
    square = x * x
    cosine_like = square * _polynomial(square, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
    cosine_like = fma(cosine_like, square, square * -0.5) + 1.0
    sine_like = square * _polynomial(square, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
    sine_like = fma(sine_like, x, x)
    quarter = (octant & 2).eq(0)
    value = where(quarter, where(sine, sine_like, cosine_like), where(sine, cosine_like, sine_like))
    negative = where(sine, (octant & 4).ne(0), ((octant + 2) & 4).ne(0))
    return where(negative, -value, value)


def bernoulli_formula(word: Expr, p: Expr) -> Expr:
    """True with probability ``p``.  ``p`` is a float64 and the word double, or, for tensors of p up to float32, both single."""
    return _unit(word) < p


def exponential_formula(word: Expr, rate: Expr) -> Expr:
    """Exponential with the given rate, in float64."""
    return E.log1p(-unit_double(word)) * (-1.0 / rate)


def geometric_formula(word: Expr, p: Expr) -> Expr:
    """Number of trials up to the first success, a whole float64."""
    return E.ceil(E.log(unit_double(word)) / E.log1p(-p))


def cauchy_formula(word: Expr, median: Expr, sigma: Expr) -> Expr:
    """Cauchy's distribution, in float64."""
    return fma(E.tan((unit_double(word) - 0.5) * math.pi), sigma, median)


def integer_formula(word: Expr, low: Expr, span: Expr) -> Expr:
    """An int64 in [low, low + span) out of one draw; ``span`` must be less than :data:`WIDE`."""
    return (word.cast(int64) & 0xFFFFFFFF) % span + low


WIDE = 1 << 28      # from this span on an integer takes two draws: see ``integers``


# Plain Python's evaluation of a formula -----------------------------------------------------------------------------------------
#
# A column holds one node's value for every element; a float32 column is an array of C floats, which is what rounds.

Column: TypeAlias = "list[Any] | array[Any]"


def _fma(a: Column, b: Column, c: Column) -> list[float]:
    """``a * b + c`` in float64, rounded once."""
    result = []
    for x, y, z in zip(a, b, c, strict=True):
        # the product and the sum as unevaluated pairs (Dekker, Knuth)
        p = x * y
        t = x * 134217729.0
        xh = t - (t - x)
        t = y * 134217729.0
        yh = t - (t - y)
        xl, yl = x - xh, y - yh
        p_error = ((xh * yh - p) + xh * yl + xl * yh) + xl * yl
        s = p + z
        t = s - p
        result.append(s + (((p - (s - t)) + (z - t)) + p_error))
    return result


def _fma_single(a: Column, b: Column, c: Column) -> array[float]:
    """``a * b + c`` in float32, rounded once."""
    exact = list(map(operator.add, map(operator.mul, a, b), c))        # the product of two float32 is exact in float64
    rounded = array("f", exact)
    # Rounding to float64 first matters only where it ended in the middle between two float32: the 29 extra bits are 100...0.
    extra = list(map(operator.and_, array("Q", array("d", exact).tobytes()), repeat(0x1FFFFFFF)))
    if 0x10000000 in extra:
        for i, bits in enumerate(extra):
            if bits == 0x10000000:
                p, z, s = a[i] * b[i], c[i], exact[i]
                t = s - p
                error = (p - (s - t)) + (z - t)
                if error:
                    rounded[i] = math.nextafter(s, math.copysign(math.inf, error))
    return rounded


def _round_half(v: float) -> float:
    """``v``, a float32, to float16 (half to even)."""
    try:
        return float(struct.unpack("<e", struct.pack("<e", v))[0])
    except OverflowError:
        return math.copysign(math.inf, v)


def _round_bfloat16(column: Column) -> array[float]:
    bits = array("I", array("f", column).tobytes())
    return array("f", array("I", [(b + 0x7FFF + (b >> 16 & 1)) & 0xFFFF0000 for b in bits]).tobytes())


def _cast(column: Column, to: dtype) -> Column:
    """Values of ``to``; 16-bit floats are kept as numbers that they can represent."""
    if to is float32:
        return array("f", column)
    if to is float64:
        return array("d", column)
    if to is float16:
        return [_round_half(v) for v in array("f", column)]       # by way of float32, as PyTorch does
    if to is bfloat16:
        return _round_bfloat16(column)
    if to is bool_:
        return [v != 0 for v in column]
    return [int(v) for v in column]


def _bitcast(column: Column, to: dtype) -> Column:
    codes = {int32: ("i", "f"), float32: ("f", "i"), int64: ("q", "d"), float64: ("d", "q")}
    new, old = codes[to]
    return array(new, array(old, column).tobytes())


def _log(v: float) -> float:
    return math.log(v) if v else -math.inf


_PLAIN: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "mod": operator.mod,
    "neg": operator.neg, "and": operator.and_, "or": operator.or_, "shl": operator.lshift, "shr": operator.rshift,
    "eq": operator.eq, "ne": operator.ne, "lt": operator.lt,
    "sqrt": math.sqrt, "log": _log, "log1p": math.log1p, "sin": math.sin, "cos": math.cos, "tan": math.tan, "ceil": math.ceil,
    "ushr": lambda x, k: (x & 0xFFFFFFFFFFFFFFFF) >> k,         # of int64
    "where": lambda c, a, b: a if c else b,
}

_orders: dict[tuple[Any, ...], list[Expr]] = {}


def evaluate(formula: Callable[..., Expr], words: Sequence[array[int]], parameters: Sequence[tuple[Column | float, dtype]],
             n: int, *more: Any) -> Column:
    """Values of a formula for ``n`` elements, in plain Python.

    Parameters
    ----------
    formula : callable
        One of the formulas above.
    words : arrays of type code ``"i"`` or ``"q"``
        A column of draws for each word that it takes.
    parameters : pairs of value and dtype
        Further arguments: one number for all elements, or a column.
    more : dtype
        Arguments passed to the formula as they are.
    """
    key = (formula, *[w.typecode for w in words], *[d for _, d in parameters], *more)
    order = _orders.get(key)
    if order is None:
        leaves = [make("operand", int32 if w.typecode == "i" else int64, (), i) for i, w in enumerate(words)]
        leaves += [scalar(i, d) for i, (_, d) in enumerate(parameters)]
        order = _orders[key] = walk(formula(*leaves, *more))
    values: dict[Expr, Column] = {}
    for e in order:
        op, args = e.op, [values[a] for a in e.args]
        if op == "operand":
            column: Column = words[e.attr]
        elif op == "scalar":
            given, d = parameters[e.attr]
            column = given if isinstance(given, (list, array)) else _cast([given], d) * n
        elif op == "const":
            column = _cast([e.attr], e.dtype) * n
        elif op == "cast":
            column = _cast(args[0], e.dtype)
        elif op == "bitcast":
            column = _bitcast(args[0], e.dtype)
        elif op == "fma":
            column = (_fma_single if e.dtype is float32 else _fma)(*args)
        else:
            mapped = map(_PLAIN[op], *args)
            column = array("f", mapped) if e.dtype is float32 else list(mapped)
        values[e] = column
    return values[order[-1]]


# Values in plain Python ---------------------------------------------------------------------------------------------------------

def words_each(d: dtype) -> int:
    """Draws that a uniform or normal value of type ``d`` takes."""
    return 2 if d is float64 else 1


def _drawn(generator: Generator, n: int, each: int) -> array[int]:
    """Column of ``n`` words of ``each`` draws."""
    return array("i" if each == 1 else "q", generator.words(n * each))


def _unit_doubles(generator: Generator, n: int) -> list[float]:
    draws = array("I", generator.words(2 * n))
    return [((high & 0x1FFFFF) << 32 | low) * 2.0**-53 for high, low in zip(draws[::2], draws[1::2], strict=True)]


def is_scalar_normal(n: int, contiguous: bool = True) -> bool:
    """Whether PyTorch draws ``n`` normals one by one (:meth:`Generator.normals`) instead of in blocks of 16."""
    return n < 16 or not contiguous


def skipped(rest: int, d: dtype) -> int:
    """How many words are drawn for an incomplete block of ``rest`` normals, and not used."""
    # the types up to float32 differ here: the narrow ones do not draw for it at all
    return rest if d is float32 or d is float64 else 0


def normal(generator: Generator, n: int, d: dtype, mean: float = 0.0, std: float = 1.0) -> Column:
    """``n`` normal values of ``d`` that are drawn one by one."""
    return _cast(_fma(generator.normals(n), [float(std)] * n, [float(mean)] * n), d)


def log_normal(generator: Generator, n: int, d: dtype, mean: float = 1.0, std: float = 2.0) -> Column:
    """``n`` values of ``d`` whose logarithm is normal (always drawn one by one)."""
    check_log_normal(d, std)
    return _cast([_exp(v) for v in _fma(generator.normals(n), [float(std)] * n, [float(mean)] * n)], d)


def _exp(v: float) -> float:
    try:
        return math.exp(v)
    except OverflowError:
        return math.inf


def exponential(generator: Generator, n: int, d: dtype, rate: float = 1.0) -> Column:
    """``n`` values of ``d``, exponential with the given rate."""
    check_exponential(d, rate)
    return _cast(evaluate(exponential_formula, [_drawn(generator, n, 2)], [(rate, float64)], n), d)


def geometric(generator: Generator, n: int, d: dtype, p: float) -> Column:
    """``n`` numbers of trials up to the first success, as values of ``d``."""
    check_geometric(p)
    return _cast(evaluate(geometric_formula, [_drawn(generator, n, 2)], [(p, float64)], n), d)


def cauchy(generator: Generator, n: int, d: dtype, median: float = 0.0, sigma: float = 1.0) -> Column:
    """``n`` values of ``d``, distributed as Cauchy's."""
    check_cauchy(d, sigma)
    return _cast(evaluate(cauchy_formula, [_drawn(generator, n, 2)], [(median, float64), (sigma, float64)], n), d)


def integers(generator: Generator, n: int, low: int, high: int) -> list[int]:
    """``n`` integers in [low, high): one draw each, or two from a span of 2**28 on (check the range with :func:`check_integers`)."""
    if high - low == 1 << 64:       # all of int64: the 64 bits as they are
        return [v - (v >> 63 << 64) for v in _remainders(generator, n, 0, 1 << 64, True)]
    return _remainders(generator, n, low, high - low, high - low >= WIDE)


def integers_of(generator: Generator, n: int, d: dtype) -> list[int]:
    """``n`` integers over the range that ``random_()`` gives type ``d``: what it can represent, without the negative ones."""
    if d.is_floating_point:
        span = {float64: 1 << 53, float32: 1 << 24, float16: 1 << 11, bfloat16: 1 << 8}[d] + 1
    else:
        span = 2 if d is bool_ else 1 << (8 * d.itemsize - d.is_signed)
    return _remainders(generator, n, 0, span, d.itemsize == 8)


def _remainders(generator: Generator, n: int, low: int, span: int, wide: bool) -> list[int]:
    draws = array("I", generator.words(2 * n if wide else n))
    if wide:
        return [(a << 32 | b) % span + low for a, b in zip(draws[::2], draws[1::2], strict=True)]
    return [v % span + low for v in draws]


def permutation(generator: Generator, n: int, out: int) -> None:
    """Write the numbers below ``n`` in random order to memory, as int64 (Fisher and Yates, from the front)."""
    words = generator.words(n - 1)
    twister.shuffle(ctypes.addressof(ctypes.c_char.from_buffer(words)) if words else 0, out, n)


def with_replacement(generator: Generator, rows: Sequence[Sequence[float]], count: int, d: dtype) -> list[int]:
    """``count`` indices for each row of weights of type ``d``, by bisection of the cumulative weights (summed in the type that ``d`` is computed in)."""
    computed = compute_dtype(d)

    def add(a: float, b: float) -> float:
        return float(_cast([a + b], computed)[0])

    drawn = []
    for row in rows:
        sums = list(accumulate(row, add))
        bounds = _cast([s / sums[-1] for s in sums], computed)
        bounds[-1] = 1.0
        drawn += [bisect_left(bounds, u) for u in _unit_doubles(generator, count)]
    return drawn


# Checks of parameters, for every way to draw -------------------------------------------------------------------------------------

_SCALAR_TYPES = {"bool": "Bool", "uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long",
                 "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double"}
_C_TYPES = {"bool": "bool", "uint8": "unsigned char", "int8": "signed char", "int16": "short int", "int32": "int", "int64": "long int",
            "float16": "c10::Half", "bfloat16": "c10::BFloat16", "float32": "float", "float64": "double"}
_LIMITS = {float16: 65504.0, bfloat16: 3.3895313892515355e38, float32: 3.4028234663852886e38, float64: 1.7976931348623157e308}


def _need_floating(d: dtype, kernel: str, function: str) -> None:
    if not d.is_floating_point:
        raise NotImplementedError(
            f'"{kernel}" not implemented for \'{_SCALAR_TYPES[d.name]}\'\n{function}: a floating-point tensor is needed, got {d}; '
            "convert it first, for example with .float()")


def check_uniform(d: dtype, low: float, high: float) -> None:
    """Raise PyTorch's errors for bounds that type ``d`` cannot serve."""
    _need_floating(d, "check_uniform_bounds", "uniform_")
    limit = _LIMITS[d]
    for name, bound in (("from", low), ("to", high)):
        if not -limit <= bound <= limit:
            raise RuntimeError(f"{name} is out of bounds for {_C_TYPES[d.name]}\nuniform_: {name}={bound} cannot be represented in {d}")
    if low > high:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={low:g} > to={high:g}")
    if high - low > limit:
        raise RuntimeError(
            f"uniform_ expects to-from <= std::numeric_limits<{_SCALAR_TYPES[d.name]}>::max(), but found to={high:g} and from={low:g} "
            "which result in to-from to exceed the limit")


def check_normal(d: dtype, std: float) -> None:
    """Raise PyTorch's errors for a deviation that is negative or NaN, or a type that is not floating point."""
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std:g}")
    _need_floating(d, "normal_kernel_cpu", "normal_")


def check_log_normal(d: dtype, std: float) -> None:
    """Likewise for :func:`log_normal`."""
    if not std > 0:
        raise RuntimeError(f"log_normal_ expects std > 0.0, but found std={std:g}")
    _need_floating(d, "log_normal_cpu", "log_normal_")


def check_bernoulli(p: float) -> None:
    """Raise PyTorch's error for a number that is no probability."""
    if not 0 <= p <= 1:
        raise RuntimeError(f"bernoulli_ expects p to be in [0, 1], but got p={p:g}")


def check_exponential(d: dtype, rate: float) -> None:
    """Likewise for :func:`exponential`."""
    if not d.is_floating_point:
        raise RuntimeError("Exponential distribution is a continuous probability distribution. "
                           f"dtype must be a floating point but you specified {_SCALAR_TYPES[d.name]}")
    if not rate > 0:
        raise RuntimeError(f"exponential_ expects lambda > 0.0, but found lambda={rate:g}")


def check_geometric(p: float) -> None:
    """Likewise for :func:`geometric`."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_ expects p to be in (0, 1), but got p={p:g}")


def check_cauchy(d: dtype, sigma: float) -> None:
    """Likewise for :func:`cauchy`."""
    if not d.is_floating_point:
        raise RuntimeError("Cauchy distribution is a continuous probability distribution. "
                           f"dtype must be a floating point but you specified {_C_TYPES[d.name]}")
    if not sigma > 0:
        raise RuntimeError(f"cauchy_ expects sigma > 0.0, but found sigma={sigma:g}")


def check_weights(rows: Iterable[Sequence[float]], one_by_one: bool) -> None:
    """Raise PyTorch's errors for weights that are negative or not finite or sum to zero; ``one_by_one``: several are drawn with replacement."""
    for row in rows:
        if not all(0 <= w < math.inf for w in row):
            if not one_by_one:
                raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
            wrong = "< 0" if any(w < 0 for w in row) else "= infinity or NaN"
            raise RuntimeError(f"invalid multinomial distribution (encountering probability entry {wrong})")
        if not any(row):
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")


def check_integers(d: dtype, low: int, high: int) -> None:
    """Raise PyTorch's errors for a range [low, high) that is empty or leaves type ``d``."""
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if d.is_floating_point:
        return
    least = -(1 << (8 * d.itemsize - 1)) if d.is_signed else 0
    greatest = 1 if d is bool_ else least + (1 << 8 * d.itemsize) - 1
    for name, value in (("from", low), ("to - 1", high - 1)):
        if not least <= value <= greatest:
            raise RuntimeError(
                f"{name} is out of bounds for {_C_TYPES[d.name]}\nrandint, random_: [{low}, {high}) does not lie in the range of {d}, "
                f"{least} to {greatest}")


__all__ = [
    "Generator", "default_generator", "fork_rng", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state",
]
