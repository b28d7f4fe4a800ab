"""Products: the other kind of kernel, ``C[m, n] = Σ_k A[m, k] · B[k, n]`` over a batch, blocked for registers and caches.

A :class:`Product` says nothing of sizes: these, strides and blocking are argument words of the launch, at the positions that
:class:`Words` names.  What follows the product at the very same element (bias, activation, residual, cast) is a kernel of its
own, the *epilogue*, which is run on each strip of rows as soon as it is finished, while it lies in the nearest cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from ..core.dtype import dtype
from .kernel import Kernel


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
    K_BLOCK = 14            # k at a time: what of B is packed stays in the second-level cache
    N_BLOCK = 15
    M_UNIT = 16             # rows and columns of a parallel unit, and how many units lie along each
    N_UNIT = 17
    M_UNITS = 18
    N_UNITS = 19
    BATCH = 20              # per batch axis: size, stride in A, in B, in C; then the epilogue's words


@dataclass(frozen=True, slots=True)
class Product:
    """One function of machine code.

    Parameters
    ----------
    dtype
        Of both factors, the accumulators and the result.
    a_unit, b_unit
        Along which index the elements of a factor lie side by side: ``"row"`` or ``"k"``; ``"column"`` or ``"k"``.
    batch
        Number of batch axes.
    lanes
        Elements of a vector.
    rows, vectors
        The register tile: rows by vectors of columns.
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
    epilogue: Kernel | None = None
    roles: tuple[int, ...] = ()

    @property
    def words(self) -> int:
        """How many argument words come before those of the epilogue."""
        return Words.BATCH + 4 * self.batch

    def __str__(self) -> str:
        lines = [f"product of {self.dtype.name}, {self.batch} batch axes: A has unit stride along {self.a_unit}, B along {self.b_unit}; "
                 f"register tile {self.rows} x {self.vectors * self.lanes}"]
        if self.epilogue is not None:
            lines += ["then on each strip of finished rows:", *("  " + line for line in str(self.epilogue).splitlines())]
        return "\n".join(lines)
