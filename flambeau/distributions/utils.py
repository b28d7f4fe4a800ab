"""What distributions share: broadcasting of parameters, attributes computed on demand, probabilities and their logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Number
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

euler_constant = 0.57721566490153286060
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)

_LIMITS: dict[Any, Any] = {}


def limits(x: Any) -> Any:
    """``torch.finfo`` of the tensor's dtype."""
    found = _LIMITS.get(x.dtype)
    if found is None:
        found = _LIMITS[x.dtype] = fl.finfo(x.dtype)
    return found


def broadcast_all(*values: Any) -> tuple[Any, ...]:
    """The values as tensors of one shape.

    Numbers take the dtype of the first tensor, or the default one where there is no tensor.

    Raises
    ------
    ValueError
        If a value is neither a tensor nor a number.
    """
    tensors = [v for v in values if isinstance(v, fl.Tensor)]
    if len(tensors) < len(values):
        for v in values:
            if not isinstance(v, (fl.Tensor, Number)):
                raise ValueError("Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__.\n"
                                 f"A parameter is {type(v).__name__}: make a tensor of it with torch.tensor(...)")
        dtype = tensors[0].dtype if tensors else fl.get_default_dtype()
        values = tuple(v if isinstance(v, fl.Tensor) else fl.tensor(v, dtype=dtype) for v in values)
    shape = values[0].shape
    if all(v.shape == shape for v in values):
        return values
    return tuple(fl.broadcast_tensors(*values))


class lazy_property:
    """An attribute that is computed when it is first asked for, with gradients, and kept."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self.compute = compute
        self.__doc__ = compute.__doc__
        self.__name__ = compute.__name__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        with fl.enable_grad():
            value = self.compute(instance)
        instance.__dict__[self.__name__] = value
        return value


@composite
def softplus(x: Any) -> Any:
    """log(1 + exp(x)), exact on both sides."""
    return fl.maximum(x, fl.zeros_like(x)) + (-x.abs()).exp().log1p()


@composite
def _softmax(logits: Any) -> Any:
    return logits.softmax(-1)


@composite
def _clamped(probs: Any, eps: float) -> Any:
    return probs.clamp(eps, 1 - eps)


@composite
def _log_clamped(probs: Any, eps: float) -> Any:
    return probs.clamp(eps, 1 - eps).log()


@composite
def _binary_logits(probs: Any, eps: float) -> Any:
    p = probs.clamp(eps, 1 - eps)
    return p.log() - (-p).log1p()


def logits_to_probs(logits: Any, is_binary: bool = False) -> Any:
    """Probabilities of unnormalised log probabilities (along the last dimension), or of log odds."""
    return logits.sigmoid() if is_binary else _softmax(logits)


def clamp_probs(probs: Any) -> Any:
    """Probabilities kept away from 0 and 1 by the dtype's epsilon."""
    return _clamped(probs, limits(probs).eps)


def probs_to_logits(probs: Any, is_binary: bool = False) -> Any:
    """Log probabilities, or log odds; 0 and 1 are first moved by the dtype's epsilon."""
    return (_binary_logits if is_binary else _log_clamped)(probs, limits(probs).eps)


def tril_matrix_to_vec(mat: Any, diag: int = 0) -> Any:
    """The entries of matrices on and below the diagonal number ``diag``, row by row: ``(..., n, n)`` to ``(..., m)``."""
    n = mat.shape[-1]
    if not -n < diag < n:
        raise ValueError(f"diag ({diag}) provided is outside [{-n}, {n - 1}].")
    rows, columns = fl.tril_indices(n, n, diag)
    return mat[..., rows, columns]


def vec_to_tril_matrix(vec: Any, diag: int = 0) -> Any:
    """The inverse of :func:`tril_matrix_to_vec`; all other entries are 0."""
    m = vec.shape[-1]
    n = (-(1 + 2 * diag) + math.sqrt((1 + 2 * diag) ** 2 + 8 * m + 4 * abs(diag) * (diag + 1))) / 2
    if abs(n - round(n)) > fl.finfo(vec.dtype).eps * 8:
        raise ValueError(f"The size of last dimension is {m} which cannot be expressed as the lower triangular part of a square D x D matrix.")
    n = round(n)
    rows, columns = fl.tril_indices(n, n, diag)
    result = vec.new_zeros((*vec.shape[:-1], n, n))
    result[..., rows, columns] = vec
    return result


def event_sum(x: Any, ndims: int) -> Any:
    """The sum over the last ``ndims`` dimensions."""
    return x.sum(tuple(range(-ndims, 0))) if ndims else x


__all__ = ["broadcast_all", "clamp_probs", "euler_constant", "lazy_property", "logits_to_probs", "probs_to_logits", "tril_matrix_to_vec", "vec_to_tril_matrix"]
