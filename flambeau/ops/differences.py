"""Derivatives of sampled functions by differences."""

from __future__ import annotations

from typing import Any

from ..core.dtype import float_of
from ..core.shape import wrap_dim
from .definition import OPS


def _slope(f: Any, dim: int, spacing: Any, edge_order: int) -> Any:
    """Differences along ``dim``: central ones inside, of the given order at the ends."""
    def at(i: int, n: int = 1) -> Any:
        return f.narrow(dim, i, n)

    size = f.shape[dim]
    if not hasattr(spacing, "shape"):
        inside, first, last = (at(2, size - 2) - at(0, size - 2)) / (2 * spacing), spacing, spacing
        second, before = spacing, spacing
    else:
        gaps = spacing.diff().reshape(-1, *[1] * (f.ndim - 1 - dim))
        a, b = gaps[:-1], gaps[1:]
        inside = (a * a * at(2, size - 2) - b * b * at(0, size - 2) + (b * b - a * a) * at(1, size - 2)) / (a * b * (a + b))
        first, last = gaps[0], gaps[-1]
        second, before = (gaps[1], gaps[-2]) if size > 2 else (first, last)
    start, end = (at(1) - at(0)) / first, (at(size - 1) - at(size - 2)) / last
    if edge_order == 2:
        # the slope half a step inside, and on along the second difference
        start = start - ((at(2) - at(1)) / second - start) * (first / (first + second))
        end = end + (end - (at(size - 2) - at(size - 3)) / before) * (last / (last + before))
    return OPS["cat"]([start, inside, end], dim)


def gradient(input: Any, *, spacing: Any = 1, dim: Any = None, edge_order: int = 1) -> Any:
    """Estimates of the derivatives of a function whose values on a grid are ``input``, along each dimension.

    Parameters
    ----------
    spacing : number, or a list of a number or of a tensor of places for every dimension
        How far the values are from each other, or where they are.
    dim : int or tuple of ints, optional
        Along which dimensions; default: all.
    edge_order : int
        1 or 2: the order of the estimates at the ends.

    Returns
    -------
    tuple of Tensor
        One of the input's shape for each dimension.

    Raises
    ------
    RuntimeError
        If a dimension is shorter than ``edge_order + 1``, or ``spacing`` does not fit.
    """
    dims = list(range(input.ndim)) if dim is None else [wrap_dim(d, input.ndim) for d in ([dim] if isinstance(dim, int) else dim)]
    for d in dims:
        if dims.count(d) > 1:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
    spacings = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(spacings) != len(dims):
        given = f"since dim argument was not given, but got a list of length {len(spacings)}" if dim is None else f"got a list of length {len(spacings)}"
        raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'self.dim() = {len(dims)}', {given}")
    if edge_order not in (1, 2):
        raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    if any(input.shape[d] <= edge_order for d in dims):
        raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1\n"
                           f"gradient: got shape {tuple(input.shape)} along dimensions {dims}, and edge_order={edge_order}")
    f = input.to(float_of(input.dtype))
    return tuple(_slope(f, d, s, edge_order) for d, s in zip(dims, spacings))


__all__ = ["gradient"]
