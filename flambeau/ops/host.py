"""Library routines on host arrays: sorting, searching, counting.

A routine whose result has a shape known beforehand is recorded like any call and runs in stream order; one whose shape depends
on the values executes what is pending and makes its result at once.
"""

from __future__ import annotations

from typing import Any

from ..core.dtype import bfloat16, float32
from .composite import public
from .definition import OPS


def host_array(t: Any) -> Any:
    """The values as a NumPy array (bfloat16 widened to float32)."""
    t = t.detach()
    return (t.to(float32) if t.dtype is bfloat16 else t)._array()


def from_host(a: Any) -> Any:
    """A tensor over a NumPy array made here."""
    import numpy as np

    from ..tensor.creation import from_array

    return from_array(np.ascontiguousarray(a).reshape(a.shape))


@public
def nonzero(input: Any, *, out: Any = None, as_tuple: bool = False) -> Any:
    """Positions of the elements that are not zero: an int64 tensor ``(count, ndim)``, or with ``as_tuple`` one 1-d tensor per axis."""
    import numpy as np

    a = host_array(input)
    if as_tuple:
        return tuple([from_host(x) for x in np.nonzero(np.atleast_1d(a))])
    where = np.argwhere(a) if a.ndim else np.empty((int(bool(a)), 0), np.int64)
    made = from_host(where.astype(np.int64, copy=False))
    return made if out is None else _into(out, made)


def _into(target: Any, made: Any) -> Any:
    from . import definition

    definition.prepare_out("out", target, made._meta)
    definition.copy_into(target, made)
    return target


__all__ = ["OPS", "from_host", "host_array"]
