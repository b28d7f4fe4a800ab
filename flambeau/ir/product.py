"""Products: the other kind of kernel, ``C[m, n] = Σ_k A[m, k] · B[k, n]`` over a batch, blocked for registers and caches.

A :class:`Product` says nothing of sizes: these, strides and blocking are argument words of the launch, at the positions that
:class:`Words` names.  What follows the product at the very same element (bias, activation, residual, cast) is a kernel of its
own, the *epilogue*, which is run on each strip of rows as soon as it is finished, while it lies in the nearest cache.
"""

from __future__ import annotations

from enum import IntEnum

from ..core.dataclass import dataclass
from ..core.dtype import dtype
from .kernel import Kernel

K_BYTES = 1024              # of k in a block: a tile of B and a panel of A fill the first-level cache
MATRIX_K_BYTES = 4096       # for the matrix unit, which is supplied from the second-level cache as fast as with results that come and go
PANEL_PITCH = K_BYTES + 64  # from row to row of a panel of A: not to the same few sets of the cache


class Words(IntEnum):
    """Positions in a product's argument list; offsets and strides in bytes."""

    A_TABLE = 0             # of each factor and of the result: position in the table, offset
    A_OFFSET = 1
    B_TABLE = 2
    B_OFFSET = 3
    C_TABLE = 4
    C_OFFSET = 5
    M = 6
    N = 7
    K = 8
    A_ROW = 9
    A_K = 10
    B_K = 11
    B_COLUMN = 12
    C_ROW = 13
    K_BLOCK = 14            # k at a time: a tile of B and a panel of A stay in the first-level cache
    N_BLOCK = 15            # columns of a block of rows that are finished together
    M_UNIT = 16             # rows and columns of a parallel unit, and how many units lie along each
    N_UNIT = 17
    M_UNITS = 18
    N_UNITS = 19
    OUTER = 20              # k may have an axis outside of the blocks: its size, its strides in A and in B
    A_OUTER = 21
    B_OUTER = 22
    DIRECT = 23             # where the words of a direct window begin
    M_BLOCK = 24            # rows whose panels are kept packed
    BATCH = 25              # per batch axis: size, stride in A, in B, in C; then the window's words, then the epilogue's


@dataclass(frozen=True)
class Window:
    """How B is read where it does not go evenly through k or the columns, as the windows of a convolution do.

    k and the columns each stand for several axes, of which an element's address is a sum; positions, sums of the same indices,
    say whether the element lies inside (what lies outside is 0).  Words: size and stride of every axis of k, then of the columns; per
    position its limit, its value at the origin, its step per axis of k, per axis of the columns.
    """

    inner: int
    columns: int
    positions: int

    @property
    def words(self) -> int:
        axes = self.inner + self.columns
        return 2 * axes + self.positions * (2 + axes)


@dataclass(frozen=True)
class Direct:
    """A window whose input is copied once, with the zeros around it, and then read in place for every k.

    Each of ``axes`` column axes moves a position by a step, and so does one axis of k or none; one more axis of k, the channels,
    moves none.  The copy is split by the positions' remainders by their steps, so that neighbouring columns are neighbours in it.  Where the
    result takes several *phases* turn and turn about along its axes, as the gradient of a convolution with a stride does, each is a product with A and taps
    of its own over the same copy; ``turns`` of them along the last axis are stored together.  Words:
    channels and their stride; per column axis its size, step, origin, limit, stride of a position, extent in the copy, distance to
    the next extent, distance of columns in the result, and the result's size; the copy's bytes per channel and per remainder; the positions of the
    first axis in a unit; how many groups of ``turns`` phases there are; for each of these where it begins along all axes but the last, then per phase the
    offset of A, the size of k, and where its taps are, from the first of these words on; then the taps: for every k its offset in the copy.
    """

    axes: int
    turns: int = 1


@dataclass(frozen=True)
class Shifted:
    """A window that is kept, not summed over: every tap has a product of its own with the image, shifted (the gradient of a weight).

    k are the places of all images, along ``axes`` axes, the columns the image's channels.  A block of channels is copied with the zeros around
    it, the channels of a place side by side, so that a tap's row of B for some place is that memory from an offset on.  Few channels may be *joined* with
    the taps along a row: then those of neighbouring places are the columns.  Words: images, their
    strides in A and B, and how many are copied together; a channel's stride; a tap's in the result; taps, and how many belong to a unit; places
    of the first axis that are copied together, places for each of these, places that are summed over at a time; channels; bytes from a place of the copy
    to the next; per axis its size, step,
    origin, limit, stride of a position, extent in the copy; for every tap its offset in the copy; for every place its offset.
    """

    axes: int


@dataclass(frozen=True)
class Product:
    """One function of machine code.

    Parameters
    ----------
    dtype
        Of both factors, the accumulators and the result.
    a_unit, b_unit
        Along which index the elements of a factor lie side by side: ``"row"`` or ``"k"``; ``"column"``, ``"k"`` or (of windows) ``""``.
    batch
        Number of batch axes.
    lanes
        Elements of a vector.
    rows, vectors
        The register tile: rows by vectors of columns; of inner products, rows by columns.
    dot
        Few rows, and both factors have unit stride along k: every element is an inner product, vectors run along k, nothing is packed.
    pairs
        Not empty: the factors are bfloat16, side by side along k, and an element of them, for all that is said here, is a word of two.
        ``"words"``: an instruction adds both products to a float32.  ``"matrix"``: one adds those of 16 rows, columns and words.
    rounds
        Of pairs: the result is rounded to bfloat16 as it is stored; all of k is one block then.
    epilogue
        Its axes are the batch axes, rows, columns, each there or not as ``roles`` says.
    roles
        For each axis of the epilogue, which range it runs over: a batch axis's number, ``batch`` for rows, ``batch + 1`` for columns.
    """

    dtype: dtype
    a_unit: str
    b_unit: str
    batch: int
    lanes: int
    rows: int
    vectors: int
    dot: bool = False
    pairs: str = ""
    rounds: bool = False
    window: Window | Direct | Shifted | None = None
    epilogue: Kernel | None = None
    roles: tuple[int, ...] = ()

    @property
    def words(self) -> int:
        """How many argument words come before those of the epilogue; those of a direct window come after them."""
        return Words.BATCH + 4 * self.batch + (self.window.words if isinstance(self.window, Window) else 0)

    def __str__(self) -> str:
        b = f"has unit stride along {self.b_unit}"
        if self.window is not None:
            b = "reads windows" if isinstance(self.window, Window) else "is copied with its surroundings"
        tile = f"{self.rows} x {self.vectors} inner products" if self.dot else f"{self.rows} x {self.vectors * self.lanes}"
        kind = f"{'pairs of bfloat16' if self.pairs else self.dtype.name}{', rounded' if self.rounds else ''}"
        lines = [f"product of {kind}, {self.batch} batch axes: A has unit stride along {self.a_unit}, B {b}; "
                 f"register tile {tile}"]
        if self.epilogue is not None:
            lines += ["then on each strip of finished rows:", *("  " + line for line in str(self.epilogue).splitlines())]
        return "\n".join(lines)
