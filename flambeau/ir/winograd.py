"""Convolutions with few multiplications, by Winograd's algorithm.

Along an axis, some neighbouring results of a convolution are ``out · ((weight · taps) * (into · elements))`` with three small matrices
(:class:`Algorithm`), and only the products of the *points* in between are multiplications: F(2, 3), two results of three taps, takes 4 where the
sums take 6.  Along both axes a tile of 2 x 2 results takes 16 where the sums over 3 x 3 taps take 36.  Over all tiles, each point is a product of matrices,
``M[p] = U[p] · V[p]`` (outputs x channels x tiles), with U the transformed weight, which a kernel of its own makes (:class:`Filter`), V the transformed input.
(Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.)

A convolution with a stride is one for each remainder of its taps, added up (:func:`strided`), the gradient of such a one is one for each remainder of its
places (:func:`turned`).

Where there are taps along one axis only, there is an algorithm for that one, and with a larger tile, as errors do not multiply: F(4, 3) takes 6 multiplications
instead of 12.  Long rows are cut into pieces.

Larger kernels are sums of *blocks* of taps, and a third dimension's taps are such blocks as well: a block reads the input elsewhere, and what
counts as channels of the product are the channels of every block.

As :class:`~.product.Product`, the kernels say nothing of sizes; :class:`Words` and :class:`FilterWords` name where the launch gives them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from enum import IntEnum

from ..core.dataclass import dataclass
from .kernel import Kernel

SIZE = 4                    # bytes of an element
APART = 320                 # bytes between points, so that the same place of all of them does not fall into one set of the cache

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Algorithm:
    """Some neighbouring results of a convolution along an axis.

    Parameters
    ----------
    name
        As it is usually written.
    weight, into, out
        Taps to points, elements of the input to points, points to results: as many rows as there are of what is made.
    step
        Elements from one tile to the next.
    turns
        Every so many results see the same taps, and the others see others.
    """

    name: str
    weight: Matrix
    into: Matrix
    out: Matrix
    step: int
    turns: int = 1

    @property
    def points(self) -> int:
        return len(self.into)

    @property
    def taps(self) -> int:
        return len(self.weight[0])

    @property
    def elements(self) -> int:
        return len(self.into[0])

    @property
    def results(self) -> int:
        return len(self.out)

    @property
    def saved(self) -> float:
        """Multiplications of the sums over the taps by those that are left."""
        return self.taps * self.results / self.turns / self.points

    @property
    def growth(self) -> float:
        """How large, at most, all that is added up to a result can be, for taps and elements of up to 1: it bounds the error (``schedule/winograd.py``)."""
        def total(row: Sequence[float]) -> float:
            return sum(abs(x) for x in row)
        return max(sum(abs(x) * total(w) * total(i) for x, w, i in zip(row, self.weight, self.into, strict=True)) for row in self.out)


# The points, beside infinity, at which polynomials are multiplied, by their number.  Five are those of small numbers
# that can be told from one another best: the largest error of F(2, 5) is then less than that of a sum over the taps.
AT = {1: (0.0,), 2: (0.0, 1.0), 3: (0.0, 1.0, -1.0), 5: (0.0, 0.625, -0.625, 1.5, -1.5)}

ALONE = Algorithm("one", ((1.0,),), ((1.0,),), ((1.0,),), 1)       # of an axis without taps: every element is a point and a result


@functools.cache
def toom_cook(taps: int, results: int = 2) -> Algorithm:
    """Some results of some taps: the transpose of multiplying polynomials by their values at some points."""
    at = AT[taps + results - 2]

    def polynomial(roots: Sequence[float]) -> tuple[float, ...]:
        out = [1.0]
        for r in roots:
            out = [a - r * b for a, b in zip([0.0, *out], [*out, 0.0])]
        return (*out, *[0.0] * (taps + results - 1 - len(out)))
    weight, into = [], []
    for p in at:
        others = [q for q in at if q != p]
        scale = math.prod(p - q for q in others)
        weight.append(tuple([p ** i / abs(scale) for i in range(taps)]))
        into.append(tuple([math.copysign(1, scale) * c for c in polynomial(others)]))
    last = (*[0.0] * (taps - 1), 1.0)
    out = tuple([(*[p ** r for p in at], float(r == results - 1)) for r in range(results)])
    return Algorithm(f"F({results}, {taps})", (*weight, last), (*into, polynomial(at)), out, results)


@functools.cache
def strided(taps: int, stride: int) -> Algorithm:
    """Two results of some taps, ``stride`` elements apart: every so many taps see every so many elements, and are a convolution of their own."""
    weight: list[tuple[float, ...]] = []
    into: list[tuple[float, ...]] = []
    out: list[tuple[float, ...]] = [(), ()]
    for first in range(stride):
        part = toom_cook(len(range(first, taps, stride)))
        weight += spread(part.weight, taps, range(first, taps, stride))
        into += spread(part.into, taps + stride, range(first, taps + stride, stride))
        out = [a + b for a, b in zip(out, part.out, strict=True)]
    return Algorithm(f"F(2, {taps}) stride {stride}", tuple(weight), tuple(into), tuple(out), 2 * stride)


@functools.cache
def dilated(algorithm: Algorithm, by: int) -> Algorithm:
    """The same where taps lie some elements apart: one for each remainder of the places, side by side."""
    elements, points = by * algorithm.elements, by * algorithm.points
    into = [row for r in range(by) for row in spread(algorithm.into, elements, range(r, elements, by))]
    out = [spread(algorithm.out, points, range(r * algorithm.points, (r + 1) * algorithm.points))[i] for i in range(algorithm.results) for r in range(by)]
    return Algorithm(f"{algorithm.name} dilated by {by}", algorithm.weight * by, tuple(into), tuple(out), by * algorithm.step)


@functools.cache
def turned(taps: tuple[tuple[int, int], ...]) -> Algorithm | None:
    """Results that take turns, as those of a convolution's gradient do where there is a stride: twice as many as there are turns, two of each.

    Of every tap it is told in whose turn it counts, and how many elements after the one of the turn's place it reads.  None where those of one turn are
    no neighbours.
    """
    turns, first = 1 + max(t for t, _ in taps), min(place for _, place in taps)
    elements = max(place for _, place in taps) - first + 2
    weight: list[tuple[float, ...]] = []
    into: list[tuple[float, ...]] = []
    parts = []
    for turn in range(turns):
        own = sorted((place, tap) for tap, (t, place) in enumerate(taps) if t == turn)
        start = own[0][0] if own else 0
        if len(own) not in AT or [place for place, _ in own] != list(range(start, start + len(own))):
            return None
        part = toom_cook(len(own))
        parts.append((len(weight), part))
        weight += spread(part.weight, len(taps), [tap for _, tap in own])
        into += spread(part.into, elements, range(start - first, start - first + part.elements))
    out = [spread(part.out, len(weight), range(at, at + part.points))[result] for result in range(2) for at, part in parts]
    return Algorithm(f"F({2 * turns}, {len(taps)}) in {turns} turns", tuple(weight), tuple(into), tuple(out), 2, turns)


def spread(rows: Matrix, size: int, places: Sequence[int]) -> Matrix:
    """The matrix with its columns at some places of more."""
    return tuple([tuple([row[places.index(i)] if i in places else 0.0 for i in range(size)]) for row in rows])


class Words(IntEnum):
    """Positions in the argument list; offsets and strides in bytes.

    Rows and columns of the input are counted from the first one that the first tile reads, inside the input or not.
    """

    X_TABLE = 0             # of input, transformed weight and result: position in the table, offset
    X_OFFSET = 1
    U_TABLE = 2
    U_OFFSET = 3
    C_TABLE = 4
    C_OFFSET = 5
    IMAGES = 6              # slices of all images
    GROUPS = 7
    OUTPUTS = 8             # of a group
    CHANNELS = 9            # of a block
    HEIGHT = 10             # of the result
    WIDTH = 11
    X_IMAGE = 12
    X_GROUP = 13
    X_CHANNEL = 14
    X_ROW = 15
    C_IMAGE = 16
    C_GROUP = 17
    C_OUTPUT = 18
    C_ROW = 19
    FIRST_ROW = 20          # of the input: first and end of the rows and of the columns that exist
    END_ROW = 21
    FIRST_COLUMN = 22
    END_COLUMN = 23
    UNIT = 24               # rows of tiles, across the images, of a parallel unit; how many units a group of channels has
    UNITS = 25
    K_BLOCK = 26            # channels at a time
    O_BLOCK = 27            # outputs at a time, a multiple of the height of the register tile
    DEPTH = 28              # slices that an image has; their strides in input and result, first and end of those that exist
    X_DEPTH = 29
    C_DEPTH = 30
    FIRST_SLICE = 31
    END_SLICE = 32
    BLOCKS = 33             # how many there are, and at which word: offset in the input, rows, columns and slices further on
    BLOCKS_AT = 34
    FULL = 35               # panels for tall tiles, those that follow are for two low ones; all panels
    PANELS = 36
    PIECE = 37              # of rows that are cut into pieces, which count as slices: results of a piece; else 0
    EPILOGUE = 38


@dataclass(frozen=True)
class Winograd:
    """One function of machine code, for float32.

    Points are numbered down, then across.  The transformed weight lies as ``[point][group][panel of rows][channel][row]``, a row of a panel padded to
    whole vectors.

    Parameters
    ----------
    lanes
        Elements of a vector.
    rows, vectors
        The register tile of the products: rows by vectors of columns.
    down, across
        What is done along the rows' axis and along a row.
    epilogue
        Its axes are images, groups, outputs, pixels, slices, each there or not as ``roles`` (0 to 4) says.
    """

    lanes: int
    rows: int
    vectors: int
    down: Algorithm
    across: Algorithm
    epilogue: Kernel | None = None
    roles: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = [f"convolution by Winograd's algorithm, {self.down.name} down and {self.across.name} across; "
                 f"register tile {self.rows} x {self.vectors * self.lanes}"]
        if self.epilogue is not None:
            lines += ["then on each strip of finished rows:", *("  " + line for line in str(self.epilogue).splitlines())]
        return "\n".join(lines)


class FilterWords(IntEnum):
    """Positions in the argument list of a :class:`Filter`; offsets and strides in bytes."""

    W_TABLE = 0             # of weight and transformed weight: position in the table, offset
    W_OFFSET = 1
    U_TABLE = 2
    U_OFFSET = 3
    OUTPUTS = 4             # of a group
    CHANNELS = 5            # of a block
    W_GROUP = 6
    W_OUTPUT = 7
    W_CHANNEL = 8
    W_SLICE = 9
    W_DOWN = 10             # of the taps
    W_ACROSS = 11
    SLICES = 12             # blocks of taps along every axis, and how many taps there are
    BLOCKS_DOWN = 13
    BLOCKS_ACROSS = 14
    TAPS_DOWN = 15
    TAPS_ACROSS = 16
    FULL = 17               # panels of a group for tall tiles, and all
    PANELS = 18
    U_POINT = 19


@dataclass(frozen=True)
class Filter:
    """The function that transforms the weight for a :class:`Winograd` with the same ``lanes``, ``rows``, ``down`` and ``across``.

    ``partial``: some block has fewer taps than the algorithm.
    """

    lanes: int
    rows: int
    down: Algorithm
    across: Algorithm
    partial: bool

    def __str__(self) -> str:
        return f"a filter transformed for {self.down.name} down and {self.across.name} across, in panels of {self.rows} outputs"


class WeightWords(IntEnum):
    """Positions in the argument list of a :class:`WeightGradient`; offsets and strides in bytes."""

    G_TABLE = 0             # of the result's gradient, the input and the weight's gradient: position in the table, offset
    G_OFFSET = 1
    X_TABLE = 2
    X_OFFSET = 3
    C_TABLE = 4
    C_OFFSET = 5
    IMAGES = 6
    OUTPUTS = 7             # of a group
    CHANNELS = 8
    HEIGHT = 9              # of the result's gradient
    WIDTH = 10
    G_IMAGE = 11
    G_GROUP = 12
    G_OUTPUT = 13
    G_ROW = 14
    X_IMAGE = 15
    X_GROUP = 16
    X_CHANNEL = 17
    X_ROW = 18
    C_GROUP = 19
    C_OUTPUT = 20
    C_TAP = 21
    FIRST_ROW = 22          # of the input, counted from the first that the first tile reads: first and end of the rows and columns that exist
    END_ROW = 23
    FIRST_COLUMN = 24
    END_COLUMN = 25
    UNIT_ROWS = 26          # of tiles, across the images, at a time
    O_BLOCK = 27            # outputs of a unit, and how many such blocks there are
    O_BLOCKS = 28
    C_BLOCK = 29            # the same for channels
    C_BLOCKS = 30


@dataclass(frozen=True)
class WeightGradient:
    """The function that sums, for every tap, the products of the result's gradient with the input: a tile of the former are the taps of algorithms
    ``down`` and ``across``, their results the weight's gradient.  Tiles are what the products of points are summed over."""

    lanes: int
    rows: int
    vectors: int
    down: Algorithm
    across: Algorithm

    def __str__(self) -> str:
        return (f"the gradient of a weight by Winograd's algorithm, {self.down.name} down and {self.across.name} across; "
                f"register tile {self.rows} x {self.vectors * self.lanes}")


def weight_scratch(points: int, tiles: int, outputs: int, channels: int, places: int, width: int) -> int:
    """What a unit needs for so many tiles at a time; the channels are those of whole tiles of the product, ``places`` are those of the copy of the input."""
    gradient = outputs * ((tiles * SIZE + 63 & -64) + APART) + APART
    return points * (channels // width * (outputs * width * SIZE + APART) + gradient + tiles * width * SIZE + APART) + (places + 16) * width * SIZE + 64


def low(rows: int) -> int:
    """The height of the lower of both register tiles."""
    return 8 if rows > 8 else 4


def panel_pitch(rows: int, lanes: int) -> int:
    """Elements of a panel's row: whole vectors."""
    return -(-rows // lanes) * lanes


def full_panels(outputs: int, rows: int, lanes: int, o_block: int) -> int:
    """How many panels hold the outputs of a tall tile, so that the fewest are computed in vain; those that follow are for two low ones each, if these fit."""
    def computed(full: int) -> int:
        return full * rows + max(0, -(-(outputs - full * rows) // low(rows))) * low(rows)
    least = -(-outputs // o_block) * o_block - o_block          # each block of outputs begins with a panel of these
    most = -(-outputs // rows)
    fewest = max(0, most - 4) if 2 * low(rows) <= panel_pitch(rows, lanes) else most - 1
    return min([n for n in range(most, fewest, -1) if n * rows >= least], key=computed)


def panels(outputs: int, rows: int, full: int) -> int:
    """How many panels there are."""
    return full + max(0, -(-(outputs - full * rows) // (2 * low(rows))))


def scratch_bytes(points: int, tiles: int, channels: int, outputs: int, lanes: int, width: int) -> int:
    """What a unit needs for so many tiles of all channels, and of so many outputs at a time; blocks of ``width`` tiles are whole."""
    most = -(-tiles // width) * width
    return points * (channels * most * SIZE + APART + outputs * (most + lanes) * SIZE + APART)
