"""Gradient clipping."""

from __future__ import annotations

import warnings
from typing import Any

import flambeau as fl

from ..functional.common import warn


def _listed(parameters: Any) -> list[Any]:
    """The parameters as a list, whatever they come in."""
    if isinstance(parameters, fl.Tensor):
        return [parameters]
    made = list(parameters)
    if not made and not isinstance(parameters, (list, tuple)):
        warn("`parameters` is an empty generator, no gradient clipping will occur.")
    return made


def _gradients(parameters: Any) -> list[Any]:
    return [p.grad for p in _listed(parameters) if p.grad is not None]


def get_total_norm(tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The norm of all tensors together, as if they were joined into one vector; a 0-d tensor."""
    tensors = [tensors] if isinstance(tensors, fl.Tensor) else list(tensors)
    norm_type = float(norm_type)
    if not tensors:
        return fl.tensor(0.0)
    with fl.no_grad():
        total = fl.stack([t.norm(norm_type) for t in tensors]).norm(norm_type)
        if error_if_nonfinite and not bool(fl.isfinite(total)):
            raise RuntimeError(
                f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be clipped. To disable "
                "this error and scale the "
                "gradients by the non-finite norm anyway, set `error_if_nonfinite=False`"
            )
    return total


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Any, foreach: bool | None = None) -> None:
    """Scale the gradients of ``parameters`` in place by ``max_norm / total_norm``, if that is below one."""
    with fl.no_grad():
        factor = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
        for g in _gradients(parameters):
            g.mul_(factor)


def clip_grad_norm_(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """Scale gradients in place so that their joint norm is at most ``max_norm``; return the norm they had.

    Parameters
    ----------
    parameters : Tensor or iterable of Tensor
        Whose ``.grad`` are scaled.
    norm_type : float
        The order of the norm; ``inf`` for the largest absolute value.
    error_if_nonfinite : bool
        Raise if the norm is infinite or nan.
    """
    parameters = _listed(parameters)
    total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None) -> Any:
    """The older name of :func:`clip_grad_norm_`."""
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every element of the gradients to ``-clip_value .. clip_value``, in place."""
    with fl.no_grad():
        for g in _gradients(parameters):
            g.clamp_(min=-float(clip_value), max=float(clip_value))
