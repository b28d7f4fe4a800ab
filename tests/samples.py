"""Sample arguments of every operation: one entry per name, collected from the files ``samples_<operations file>.py``.

An :class:`Entry` says for which dtypes an operation is defined, whether it is differentiable, and on which arguments it is
tried.  A tensor argument is described by a :class:`T`, so that any library can make it; :meth:`T.array` gives its values,
which depend on the description alone.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

FLOATS = ("float32", "float64")
INTEGERS = ("int64", "int32", "uint8")
NUMERIC = FLOATS + INTEGERS
EVERYTHING = (*NUMERIC, "bool")


@dataclass(frozen=True)
class T:
    """A tensor argument.

    ``low`` and ``high`` bound its values, ``dtype`` is None for the one that is being tried, ``layout`` is how its elements
    lie in memory, ``distinct`` makes all values different (for extremes, whose gradient jumps at ties), and ``special`` puts
    NaN, infinities and signed zeros in front.
    """

    shape: tuple[int, ...] = (3, 4)
    low: float = -2.0
    high: float = 2.0
    dtype: str | None = None
    layout: str = "plain"               # or "transposed", "strided", "expanded"
    distinct: bool = False
    special: bool = False
    gradient: bool = True

    def array(self, dtype: str, number: int = 0) -> np.ndarray:
        """The values as argument ``number`` of a call, row-major."""
        d = np.dtype(self.dtype or dtype)
        rng = np.random.default_rng(zlib.crc32(repr((self.shape, self.low, self.high, d.name, number)).encode()))
        n = int(np.prod(self.shape))
        if self.distinct and d.kind == "f":
            values = np.linspace(self.low, self.high, n + 2)[1:-1][rng.permutation(n)].reshape(self.shape)
        elif d.kind == "f":
            values = rng.uniform(self.low, self.high, self.shape)
        elif d.kind == "b":
            values = rng.random(self.shape) < 0.5
        else:
            low, high = int(np.ceil(self.low)), int(np.floor(self.high))
            values = rng.integers(max(low, 0) if d.kind == "u" else low, max(high, 1) + 1, self.shape)
        values = np.asarray(values).astype(d)
        if self.layout == "expanded" and self.shape:
            values = np.broadcast_to(values[:1], self.shape)
        if self.special and d.kind == "f" and n:
            flat = np.array(values).reshape(-1)
            marks = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], d)[:n]
            flat[:len(marks)] = marks
            values = flat.reshape(self.shape)
        return np.array(values)

    def make(self, library: Any, dtype: str, number: int = 0) -> Any:
        """The tensor in ``library`` (Flambeau, or PyTorch), laid out as asked."""
        values = self.array(dtype, number)
        n = values.ndim
        if self.layout == "plain" or n == 0:
            return library.from_numpy(values).clone()
        if self.layout == "transposed":
            return library.from_numpy(np.ascontiguousarray(values.T)).clone().permute(tuple(range(n))[::-1])
        if self.layout == "expanded":
            return library.from_numpy(np.ascontiguousarray(values[:1])).clone().expand(self.shape)
        wide = np.repeat(values, 2, axis=-1)
        return library.from_numpy(wide).clone()[..., ::2]


@dataclass(frozen=True)
class Call:
    """Arguments of one call; ``grad``: whether gradients are checked on it."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    grad: bool = True

    def make(self, library: Any, dtype: str) -> tuple[list[Any], dict[str, Any]]:
        """The arguments in ``library``, tensors numbered in order."""
        count = iter(range(100))

        def one(v: Any) -> Any:
            if isinstance(v, T):
                return v.make(library, dtype, next(count))
            if isinstance(v, (list, tuple)) and any(isinstance(x, T) for x in v):
                return type(v)(one(x) for x in v)
            if isinstance(v, str) and v.startswith("torch."):
                return getattr(library, v[6:])
            return v

        return [one(a) for a in self.args], {k: one(v) for k, v in self.kwargs.items()}

    def __repr__(self) -> str:
        return ", ".join([*map(repr, self.args), *[f"{k}={v!r}" for k, v in self.kwargs.items()]])


def call(*args: Any, grad: bool = True, **kwargs: Any) -> Call:
    """A :class:`Call` written as the call itself."""
    return Call(args, kwargs, grad)


@dataclass(frozen=True)
class Entry:
    """How one operation is tried."""

    calls: Sequence[Call]
    dtypes: Sequence[str] = FLOATS
    grad: bool = True                   # differentiable
    second: bool = True                 # twice
    inplace: bool = False               # has an in-place form
    out: bool = True                    # has an out= form
    method: bool = False                # is called as a method only
    refuses: Sequence[Call] = ()        # calls that must raise what PyTorch raises
    tolerance: float = 1.0              # factor on the default one
    result: Callable[[Any], Any] | None = None      # what of a result to compare


def layouts(low: float = -2.0, high: float = 2.0, **how: Any) -> list[T]:
    """One operand in every shape and layout of interest: 0-d, empty, plain, transposed, strided, expanded."""
    return [T((), low, high, **how), T((0, 3), low, high, **how), T((7,), low, high, **how), T((3, 4), low, high, layout="transposed", **how),
            T((2, 3, 4), low, high, layout="strided", **how), T((3, 4), low, high, layout="expanded", **how)]


def pairs(low: float = -2.0, high: float = 2.0, **how: Any) -> list[tuple[T, T]]:
    """Two operands: equal shapes, broadcast ones, 0-d, empty, and layouts that differ."""
    def t(*shape: int, layout: str = "plain") -> T:
        return T(shape, low, high, layout=layout, **how)

    return [(t(), t()), (t(3, 4), t(3, 4)), (t(3, 1), t(4)), (t(2, 3, 4), t(3, 4, layout="transposed")), (t(0, 2), t(2)), (t(4, 6, layout="strided"), t()),
            (t(3, 4, layout="expanded"), t(3, 4, layout="strided"))]


def collect() -> dict[str, Entry]:
    """All entries, by the operation's public name."""
    found: dict[str, Entry] = {}
    for path in sorted(Path(__file__).parent.glob("samples_*.py")):
        module = importlib.import_module(path.stem)
        twice = set(found) & set(module.ENTRIES)
        assert not twice, f"{path.name}: entries that another file has too: {sorted(twice)}"
        found.update(module.ENTRIES)
    return found
