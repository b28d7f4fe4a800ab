"""Random numbers that are tried until they fit: gamma, Poisson and binomial values, drawn one by one.

How many draws a value takes shows only when it is made, so these run in plain Python, over units and normals that are taken from
the generator in blocks; what is left of the last block goes back.  The methods are those of the literature, and with them the values are PyTorch's: which
draw feeds what was found by observing it.
"""

from __future__ import annotations

import ctypes
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import length_hint

from ..core.dtype import dtype, float16, float32, float64
from ..random import Generator, _cast


def least(d: dtype) -> float:
    """The least value that a gamma or Dirichlet sample of type ``d`` takes: they are never 0."""
    return {float64: 2.0**-1022, float16: 2.0**-14}.get(d, 2.0**-126)


class _Draws:
    """Context manager: a function that gives the units in [0, 1) of a generator, one by one."""

    def __init__(self, generator: Generator, block: int) -> None:
        self.generator, self.block = generator, max(16, min(block, 1 << 16))

    def __enter__(self) -> Callable[[], float]:
        self.generator._lock.acquire()
        self.left: Iterator[int] = iter(())
        return self._units().__next__

    def __exit__(self, *exc: object) -> None:
        g, unused = self.generator, length_hint(self.left)
        if unused:
            ctypes.memmove(g._address, self.before, len(self.before))
            g.words(2 * (self.block - unused))
        g._lock.release()

    def _units(self) -> Iterator[float]:
        while True:
            self.before = bytes(self.generator._state)
            self.left = iter(array("Q", self.generator.words(2 * self.block)).tolist())
            for pair in self.left:      # of two draws, the first of which is the low half here and the high one of the unit
                yield ((pair & 0x1FFFFF) << 32 | pair >> 32) * 2.0**-53


_THIRD = 0.3333333432674408     # as a float32, also in float64


def gammas(generator: Generator, shapes: Sequence[float], d: dtype) -> list[float]:
    """A gamma value of rate 1 for every shape (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000)."""
    kind = d if d is float64 else float32
    # a shape below 1 is that of a value of the shape more by one, times a power of a unit
    powers = _cast([1.0 / a if 0 < a < 1 else 0.0 for a in shapes], kind)
    firsts = _cast([a - _THIRD for a in _cast([a + 1.0 if a < 1 else a for a in shapes], kind)], kind)
    sqrt, log, log1p, cos, sin, turn = math.sqrt, math.log, math.log1p, math.cos, math.sin, 2.0 * math.pi
    values = []
    with _Draws(generator, 3 * len(shapes)) as unit:
        kept = generator._normal        # the second of a pair of normals
        for shape, power, first in zip(shapes, powers, firsts):
            if not shape > 0:
                values.append(shape * 0.0)
                continue
            scale = (1.0 - unit()) ** power if shape < 1 else 1.0
            factor = 1.0 / sqrt(9.0 * first)
            while True:
                if kept is None:
                    angle, radius = turn * unit(), sqrt(-2.0 * log1p(-unit()))
                    x, kept = radius * cos(angle), radius * sin(angle)
                else:
                    x, kept = kept, None
                root = 1.0 + factor * x
                if root <= 0:
                    continue
                v, u, square = root * root * root, 1.0 - unit(), x * x
                if u < 1.0 - 0.0331 * square * square or log(u) < 0.5 * square + first * (1.0 - v + log(v)):
                    values.append(scale * first * v)
                    break
        generator._normal = kept
    return values


def poissons(generator: Generator, rates: Iterable[float]) -> list[float]:
    """A Poisson value for every rate: products of units below 10, else Hörmann's PTRS ("The transformed rejection method for
    generating Poisson random variables", 1993)."""
    def poisson(rate: float) -> float:
        if rate >= 10:
            return transformed(rate) if rate < math.inf else rate
        count, product, end = 0, 1.0, math.exp(-rate)
        while rate > 0:
            product *= unit()
            if product <= end:
                break
            count += 1
        return count

    def transformed(rate: float) -> float:
        log_rate = math.log(rate)
        b = 0.931 + 2.53 * math.sqrt(rate)
        a = -0.059 + 0.02483 * b
        inverse, limit = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
        while True:
            u, v = unit() - 0.5, unit()
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + rate + 0.43)
            if us >= 0.07 and v <= limit:
                return k
            if k < 0 or (us < 0.013 and v > us):
                continue
            if math.log(v) + math.log(inverse) - math.log(a / (us * us) + b) <= k * log_rate - rate - math.lgamma(k + 1):
                return k

    rates = list(rates)
    with _Draws(generator, 2 * len(rates)) as unit:
        return [poisson(r) for r in rates]


def binomials(generator: Generator, counts: Sequence[float], probabilities: Sequence[float]) -> list[float]:
    """A binomial value for every pair: sums of geometric waiting times where few successes are expected, else Hörmann's BTRS
    ("The generation of binomial random variates", 1993)."""
    def binomial(count: float, p: float) -> float:
        if not (count > 0 and p > 0):
            return 0
        if p >= 1 or count == math.inf:
            return count
        if p > 0.5:
            return count - (transformed if count * (1 - p) >= 10 else waiting)(count, 1 - p)
        return (transformed if count * p >= 10 else waiting)(count, p)

    def waiting(count: float, p: float) -> float:
        tried, successes, log_failure = 0.0, 0, math.log1p(-p)
        while True:
            u = unit()
            tried += math.ceil(math.log(u) / log_failure) if u else count + 1
            if tried > count:
                return successes
            successes += 1

    def transformed(count: float, p: float) -> float:
        deviation = math.sqrt(count * p * (1 - p))
        b = 1.15 + 2.53 * deviation
        a = -0.0873 + 0.0248 * b + 0.01 * p
        limit, odds, mode = 0.92 - 4.2 / b, p / (1 - p), math.floor((count + 1) * p)
        alpha = (2.83 + 5.1 / b) * deviation
        while True:
            u, v = unit() - 0.5, unit()
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + count * p + 0.5)
            if us >= 0.07 and v <= limit:
                return k
            if k < 0 or k > count:
                continue
            bound = ((mode + 0.5) * math.log((mode + 1) / (odds * (count - mode + 1))) + (count + 1) * math.log((count - mode + 1) / (count - k + 1))
                     + (k + 0.5) * math.log(odds * (count - k + 1) / (k + 1)) + _stirling(mode) + _stirling(count - mode) - _stirling(k) - _stirling(count - k))
            if math.log(v * alpha / (a / (us * us) + b)) <= bound:
                return k

    with _Draws(generator, 2 * len(counts)) as unit:
        return [binomial(n, p) for n, p in zip(counts, probabilities)]


def _stirling(k: float) -> float:
    """What Stirling's formula lacks: log k! - ((k + 1/2) log(k + 1) - (k + 1) + log(2π) / 2)."""
    if k < 10:
        return math.lgamma(k + 1) - ((k + 0.5) * math.log(k + 1) - (k + 1) + 0.5 * math.log(2 * math.pi))
    square = (k + 1) ** 2
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


__all__ = ["binomials", "gammas", "least", "poissons"]
