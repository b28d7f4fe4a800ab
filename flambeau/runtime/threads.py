"""How many threads kernels run on: the public functions over ``pool``."""

from __future__ import annotations

from typing import Any

from . import pool

_interop = 0


def get_num_threads() -> int:
    """The number of threads that large kernels run on.

    At first it is ``OMP_NUM_THREADS`` if that is set, else the number of processors this process may use.  Results have the
    same bits for any number.
    """
    return pool.threads()


def set_num_threads(n: int) -> None:
    """Run large kernels on ``n`` threads, the caller's included.

    Raises
    ------
    TypeError
        ``n`` is no int.
    RuntimeError
        ``n`` is not positive.
    """
    pool.resize(_positive("set_num_threads", n))


def get_num_interop_threads() -> int:
    """The number that :func:`set_num_interop_threads` set, else that of the processors; no call runs beside another."""
    return _interop or pool.processors()


def set_num_interop_threads(n: int) -> None:
    """Accepted for compatibility: calls are recorded in order, and one runs at a time.

    Raises
    ------
    RuntimeError
        ``n`` is not positive, or the number was set before.
    """
    global _interop
    n = _positive("set_num_interop_threads", n)
    if _interop:
        raise RuntimeError("cannot set number of interop threads after parallel work has started or set_num_interop_threads called")
    _interop = n


def _positive(name: str, n: Any) -> int:
    if isinstance(n, bool) or not (isinstance(n, int) or type(n).__module__ == "numpy" and hasattr(n, "__index__")):
        raise TypeError(f"{name} expects an int, but got {type(n).__name__}")
    n = int(n)
    if n <= 0:
        raise RuntimeError(f"{name} expects a positive integer")
    return n
