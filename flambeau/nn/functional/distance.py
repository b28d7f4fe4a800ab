"""Distances and similarities between vectors."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite


@composite(node="Sum")
def _cosine_similarity(x1: Any, x2: Any, dim: int, eps: float) -> Any:
    # each norm is limited on its own, as a ratio of unit vectors
    n1 = x1.norm(2, dim, keepdim=True).clamp_min(eps)
    n2 = x2.norm(2, dim, keepdim=True).clamp_min(eps)
    return (x1 / n1 * (x2 / n2)).sum(dim)


def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The cosine of the angle between ``x1`` and ``x2`` along ``dim``; the two are broadcast together."""
    d = fl.promote_types(x1.dtype, x2.dtype)
    if not d.is_floating_point:
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {str(d)[6:].capitalize()}")
    x1, x2 = fl.broadcast_tensors(x1.to(d), x2.to(d))
    return _cosine_similarity(x1, x2, dim, eps)


@composite(node="Norm")
def _pairwise_distance(x1: Any, x2: Any, p: float, eps: float, keepdim: bool) -> Any:
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)


def pairwise_distance(x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Any:
    """The ``p``-norm of ``x1 - x2 + eps`` along the last dimension."""
    return _pairwise_distance(x1, x2, p, eps, keepdim)


def pdist(input: Any, p: float = 2) -> Any:
    """The ``p``-norm distances of all pairs of rows ``i < j`` of an ``(N, M)`` tensor, shape ``(N*(N-1)/2,)``."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    n = input.shape[0]
    if n < 2:
        return input.new_empty(0)
    i, j = fl.triu_indices(n, n, 1)
    return (input[i] - input[j]).norm(p, 1)
