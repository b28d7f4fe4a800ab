"""Convolutions with few multiplications: Winograd's F(2 x 2, 3 x 3).

A tile of 2 x 2 results needs 4 x 4 elements of the input.  Seen through a linear transform of the 4 x 4 points, the
convolution of the tile is one multiplication a point and pair of channels: 16 where the sum over the taps takes 36.  Over all tiles, each point
is a product of matrices, ``M[p] = U[p] · V[p]`` (outputs x channels x tiles), with U the transformed weight, which the
scheduler makes by maps, V the transformed input.  (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016.)

Larger kernels are sums of *blocks* of 3 x 3 taps, and a third dimension's taps are such blocks as well: a block reads the input elsewhere, and what
counts as channels of the product are the channels of every block.

As :class:`~.product.Product`, a :class:`Winograd` says nothing of sizes; :class:`Words` names where the launch gives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .kernel import Kernel

POINTS = 16
SIZE = 4                    # bytes of an element
APART = 320                 # bytes between points, so that the same place of all sixteen does not fall into one set of the cache


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
    EPILOGUE = 35


@dataclass(frozen=True, slots=True)
class Winograd:
    """One function of machine code, for float32.

    The transformed weight lies as ``[point][group][panel of rows][channel][row]``, a row of a panel padded to whole vectors.

    Parameters
    ----------
    lanes
        Elements of a vector.
    rows, vectors
        The register tile of the products: rows by vectors of columns.
    epilogue
        Its axes are images, groups, outputs, pixels, slices, each there or not as ``roles`` (0 to 4) says.
    """

    lanes: int
    rows: int
    vectors: int
    epilogue: Kernel | None = None
    roles: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = [f"convolution with blocks of 3 x 3 taps by Winograd's F(2 x 2, 3 x 3); register tile {self.rows} x {self.vectors * self.lanes}"]
        if self.epilogue is not None:
            lines += ["then on each strip of finished rows:", *("  " + line for line in str(self.epilogue).splitlines())]
        return "\n".join(lines)


def panel_pitch(rows: int, lanes: int) -> int:
    """Elements of a panel's row: whole vectors."""
    return -(-rows // lanes) * lanes


def scratch_bytes(tiles: int, channels: int, outputs: int, lanes: int, width: int) -> int:
    """What a unit needs for so many tiles of all channels, and of so many outputs at a time; blocks of ``width`` tiles are whole."""
    most = -(-tiles // width) * width
    return POINTS * (channels * most * SIZE + APART + outputs * (most + lanes) * SIZE + APART)
