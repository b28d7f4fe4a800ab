"""How many threads kernels may use.  Kernels take a range of units to split; today one thread runs them."""

from __future__ import annotations

from ..core import blas


def get_num_threads() -> int:
    """The number of threads kernels run on."""
    return blas.threads


def set_num_threads(n: int) -> None:
    """Ask for a number of threads; it bounds what library routines use."""
    if not isinstance(n, int) or isinstance(n, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    blas.set_threads(n)


def get_num_interop_threads() -> int:
    """The number of threads for independent operations: calls are recorded in order, one runs at a time."""
    return 1


def set_num_interop_threads(n: int) -> None:
    """Accepted for compatibility."""
