"""Random numbers that are tried until they fit: gamma, Poisson and binomial values, drawn one by one.

How many draws a value takes shows only when it is made, so these run in plain Python, over units and normals that are taken from
the generator in blocks; what is left of the last block goes back.  The methods are those of the literature, and with them the values are PyTorch's: which
draw feeds what was found by observing it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Sequence
from operator import length_hint

from ..core.dtype import dtype, float16, float32, float64
from ..random import Generator, _cast, _unit_doubles


def least(d: dtype) -> float:
    """The least value that a gamma or Dirichlet sample of type ``d`` takes: they are never 0."""
    return {float64: 2.0**-1022, float16: 2.0**-14}.get(d, 2.0**-126)



class _Draws:
    """Context manager: units in [0, 1) and standard normals of a generator, one by one."""

    def __init__(self, generator: Generator, block: int) -> None:
        self.generator, self.block = generator, max(16, min(block, 1 << 16))

    def __enter__(self) -> _Draws:
        self.generator._lock.acquire()
        self.left: Iterator[float] = iter(())
        return self

    def __exit__(self, *exc: object) -> None:
        g, unused = self.generator, length_hint(self.left)
        if unused:
            ctypes.memmove(g._address, self.before, len(self.before))
            g.words(2 * (self.block - unused))
        g._lock.release()

    def unit(self) -> float:
        for u in self.left:
            return u
        self.before = bytes(self.generator._state)
        self.left = iter(_unit_doubles(self.generator, self.block))
        return next(self.left)

    def normal(self) -> float:
        kept, self.generator._normal = self.generator._normal, None
        if kept is not None:
            return kept
        angle, radius = 2.0 * math.pi * self.unit(), math.sqrt(-2.0 * math.log1p(-self.unit()))
        self.generator._normal = radius * math.sin(angle)
        return radius * math.cos(angle)


def gammas(generator: Generator, shapes: Sequence[float], d: dtype) -> list[float]:
    """A gamma value of rate 1 for every shape (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000)."""
    def rounded(v: float) -> float:
        return v if d is float64 else float(_cast([v], float32)[0])

    def gamma(shape: float) -> float:
        scale = 1.0
        if shape < 1:
            if shape <= 0:
                return 0.0
            scale, shape = (1.0 - draws.unit()) ** rounded(1.0 / shape), rounded(shape + 1.0)
        first = rounded(shape - 0.3333333432674408)     # a third, as a float32
        factor = 1.0 / math.sqrt(9.0 * first)
        while True:
            x = draws.normal()
            root = 1.0 + factor * x
            if root <= 0:
                continue
            v, u, square = root * root * root, 1.0 - draws.unit(), x * x
            if u < 1.0 - 0.0331 * square * square or math.log(u) < 0.5 * square + first * (1.0 - v + math.log(v)):
                return scale * first * v

    with _Draws(generator, 4 * len(shapes)) as draws:
        return [gamma(a) if a == a else a for a in shapes]


def poissons(generator: Generator, rates: Iterable[float]) -> list[float]:
    """A Poisson value for every rate: products of units below 10, else Hörmann's PTRS ("The transformed rejection method for
    generating Poisson random variables", 1993)."""
    def poisson(rate: float) -> float:
        if rate >= 10:
            return transformed(rate)
        count, product, end = 0, 1.0, math.exp(-rate)
        while rate > 0:
            product *= draws.unit()
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
            u, v = draws.unit() - 0.5, draws.unit()
            us = 0.5 - abs(u)
            k = math.floor((2 * a / us + b) * u + rate + 0.43)
            if us >= 0.07 and v <= limit:
                return k
            if k < 0 or (us < 0.013 and v > us):
                continue
            if math.log(v) + math.log(inverse) - math.log(a / (us * us) + b) <= k * log_rate - rate - math.lgamma(k + 1):
                return k

    rates = list(rates)
    with _Draws(generator, 2 * len(rates)) as draws:
        return [poisson(r) for r in rates]


def binomials(generator: Generator, counts: Sequence[float], probabilities: Sequence[float]) -> list[float]:
    """A binomial value for every pair: sums of geometric waiting times where few successes are expected, else Hörmann's BTRS
    ("The generation of binomial random variates", 1993)."""
    def binomial(count: float, p: float) -> float:
        if not (count > 0 and p > 0):
            return 0
        if p >= 1:
            return count
        if p > 0.5:
            return count - (transformed if count * (1 - p) >= 10 else waiting)(count, 1 - p)
        return (transformed if count * p >= 10 else waiting)(count, p)

    def waiting(count: float, p: float) -> float:
        tried, successes, log_failure = 0.0, 0, math.log1p(-p)
        while True:
            u = draws.unit()
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
            u, v = draws.unit() - 0.5, draws.unit()
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

    with _Draws(generator, 2 * len(counts)) as draws:
        return [binomial(n, p) for n, p in zip(counts, probabilities)]


def _stirling(k: float) -> float:
    """What Stirling's formula lacks: log k! - ((k + 1/2) log(k + 1) - (k + 1) + log(2π) / 2)."""
    if k < 10:
        return math.lgamma(k + 1) - ((k + 0.5) * math.log(k + 1) - (k + 1) + 0.5 * math.log(2 * math.pi))
    square = (k + 1) ** 2
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


__all__ = ["binomials", "gammas", "least", "poissons"]
