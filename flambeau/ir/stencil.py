"""Sums over a window of few elements: what is left of a convolution when its channels have nothing in common.

Either every element of the result is ``Σ_t image[place + t] · weight[t]`` over a few taps t, whose weights stay in registers while rows of
the image pass by, or, the other way around, every tap has a sum over all places, ``Σ_place image[place + t] · other[place]``.  Number and
distances of the taps are part of the code; all other sizes, strides and bounds are argument words: first those of :class:`Words`, then

- for every outer axis its size and its strides in image, factor and result; kept axes before summed ones,
- for every axis of the taps its stride in the image and in what is indexed by the taps (the factor, or the result),
- for every position that neither rows nor columns move: limit, value at the origin, step along every outer axis and every axis of the taps,

and last those of the epilogue.
"""

from __future__ import annotations

from enum import IntEnum

from ..core.dataclass import dataclass
from ..core.dtype import dtype
from .kernel import Kernel


class Words(IntEnum):
    """Positions in the argument list; offsets and strides in bytes."""

    X_TABLE = 0             # of image, factor and result: position in the table, offset
    X_OFFSET = 1
    F_TABLE = 2
    F_OFFSET = 3
    C_TABLE = 4
    C_OFFSET = 5
    HEIGHT = 6              # places
    WIDTH = 7
    LEAD = 8                # rows of places in a parallel unit
    X_ROW = 9               # from one position to the next one below
    PLACE_ROW = 10          # from one row of places to the next, in the factor or the result
    Y_ORIGIN = 11           # the position of place 0 and tap 0, and how many positions exist: elsewhere the image is 0
    Y_LIMIT = 12
    X_ORIGIN = 13
    X_LIMIT = 14
    ZEROS = 15              # elements of a row of zeros
    OUTER = 16


@dataclass(frozen=True)
class Stencil:
    """One function of machine code.

    Parameters
    ----------
    dtype
        Of image, factor and result.
    lanes
        Elements of a vector.
    jam
        Rows of places that are worked on together.
    kept, summed
        Number of outer axes, kept and summed.
    taps
        Sizes of the axes of the taps.
    down, across
        How a position moves down and across: with a step of the place, then along every axis of the taps.
    free
        Number of positions that neither rows nor columns move.
    to_taps
        The result is indexed by the taps, not by the places.
    epilogue
        Its axes are the kept outer axes and the places, each there or not as ``roles`` says.
    """

    dtype: dtype
    lanes: int
    jam: int
    kept: int
    summed: int
    taps: tuple[int, ...]
    down: tuple[int, ...]
    across: tuple[int, ...]
    free: int
    to_taps: bool
    epilogue: Kernel | None = None
    roles: tuple[int, ...] = ()

    @property
    def words(self) -> int:
        """How many argument words come before those of the epilogue."""
        outer = self.kept + self.summed
        return Words.OUTER + 4 * outer + 2 * len(self.taps) + self.free * (2 + outer + len(self.taps))

    def __str__(self) -> str:
        window = " x ".join(map(str, self.taps))
        lines = [f"{'sums over all places for' if self.to_taps else 'sums over'} a window of {window} taps of {self.dtype.name}, "
                 f"{self.jam} rows of {self.lanes} at a time"]
        if self.epilogue is not None:
            lines += ["then on each finished part:", *("  " + line for line in str(self.epilogue).splitlines())]
        return "\n".join(lines)
