"""Autocast: while it is on, products compute in a narrow type and losses in float32, whatever floats they are given.

The operations are those of PyTorch on the CPU; float64 is left alone.  Calls are found by their operands' metadata, and a call like
an earlier one is recorded without another look, so what was found must not outlive the mode that it was found in: with the mode the contents
of the caches of all that casts, or is made of what does, are exchanged.  While it is off it costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.dtype import DEPENDENT, dtype, float32, float64

NARROW = frozenset("""
    matmul mm bmm addmm addbmm baddbmm linear convolution _sum_of_products tensordot inner linalg_vecdot _prelu
""".split())
WIDE = frozenset("""
    prod trace cdist _distances quantile nanquantile avg_pool3d max_pool3d max_pool3d_with_indices adaptive_avg_pool3d adaptive_max_pool3d _mse_loss
    _l1 _l1_mean _l1_sum _smooth_l1 _huber _bce _bce_with_logits _kl _kl_mean _kl_sum _poisson _soft_margin _hinge_embedding _cosine_embedding
    _margin_ranking _triplet _multi_margin _multilabel_margin _nll _nll_spatial _cross_entropy _cross_entropy_spatial _cross_entropy_smoothed
    _cross_entropy_probabilities _grid_sample _pad_reflect _pad_replicate _local_response_norm linalg_inv linalg_inv_ex linalg_cholesky
    linalg_cholesky_ex linalg_pinv linalg_svd linalg_svdvals linalg_solve linalg_solve_ex linalg_eigh linalg_eigvalsh linalg_qr linalg_lstsq
    linalg_lu_factor linalg_lu_factor_ex linalg_cond linalg_matrix_rank cholesky cholesky_inverse cholesky_solve inverse lu_solve ormqr orgqr pinverse
    geqrf
""".split())
KEPT = frozenset(("mv", "dot", "vdot"))         # made of products that are cast, and are not


class _Casting:
    __slots__ = ("narrow",)

    def __init__(self) -> None:
        self.narrow: dtype | None = None        # the narrow type; None: off


CASTING = _Casting()
_names = set(NARROW | WIDE)                     # of what casts, or is made of what does
_caches: dict[int, dict[Any, Any]] = {}         # of these, by id
_parked: dict[dtype | None, dict[int, dict[Any, Any]]] = {}     # their contents in the modes that are not in use
DEPENDENT.append(_parked)


def target(name: str) -> dtype | None:
    """The type that the operation's floats are cast to, or None."""
    if CASTING.narrow is None:
        return None
    return CASTING.narrow if name in NARROW else float32 if name in WIDE else None


def cast(v: Any, to: dtype) -> Any:
    """A tensor of floats, or those in a list, in another type."""
    if v.__class__ is list or v.__class__ is tuple:
        return v.__class__([cast(x, to) for x in v])
    m = getattr(v, "_meta", None)
    if m is None or not m.dtype.is_floating_point or m.dtype is float64 or m.dtype is to:
        return v
    return v.to(to)


def casts(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function over tensors that is published under this name, with its casts."""
    if name not in NARROW | WIDE | KEPT:
        return fn

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if CASTING.narrow is None or kwargs.get("out") is not None:
            return fn(*args, **kwargs)
        to = target(name)
        with during(None):
            return fn(*args, **kwargs) if to is None else fn(*[cast(v, to) for v in args], **{k: cast(v, to) for k, v in kwargs.items()})

    call.__dict__.pop("read", None)         # what a reader chooses would be called past this
    return call


def depends(name: str, parts: Sequence[str], caches: Sequence[dict[Any, Any]]) -> None:
    """What is called ``name`` and made of ``parts`` finds its calls in these caches."""
    if name in _names or not _names.isdisjoint(parts):
        _names.add(name)
        _caches.update((id(c), c) for c in caches)


def switch(narrow: dtype | None) -> None:
    """Change the mode."""
    before, CASTING.narrow = CASTING.narrow, narrow
    if before is narrow:
        return
    kept = _parked.setdefault(before, {})
    found = _parked.pop(narrow, {})
    for number, c in _caches.items():
        kept[number] = c.copy()
        c.clear()
        c.update(found.get(number, ()))


@contextmanager
def during(narrow: dtype | None) -> Iterator[None]:
    """Another mode for a while."""
    before = CASTING.narrow
    switch(narrow)
    try:
        yield
    finally:
        switch(before)
