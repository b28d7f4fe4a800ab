"""Stochastic gradient descent, with momentum (Polyak 1964) and Nesterov's variant."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_lr, check_positive

_hyperparameters = itemgetter("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")


@composite(runtime=("lr", "momentum", "share", "weight_decay"))
def sgd_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor],
    lr: float,
    momentum: float,
    share: float,
    weight_decay: float,
    decays: bool,
    nesterov: bool,
    maximize: bool,
) -> None:
    """One step; ``buffers`` is empty without momentum, ``share`` is the part of the gradient that enters them."""
    for index, (param, grad) in enumerate(zip(params, grads)):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        if buffers:
            velocity = buffers[index] * momentum + grad * share
            buffers[index].copy_(velocity)
            grad = grad + velocity * momentum if nesterov else velocity
        param.sub_(grad * lr)


class SGD(RuleOptimizer):
    """Gradient descent: ``p -= lr * v`` with ``v = momentum * v + (1 - dampening) * grad``.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate.
    momentum
        How much of the previous velocity is kept; 0 keeps no velocity at all.
    dampening
        How much of the gradient does not enter the velocity (from the second step on).
    weight_decay
        L2 penalty, added to the gradient.
    nesterov
        Look ahead by one velocity; needs ``momentum > 0`` and ``dampening == 0``.
    maximize
        Climb instead of descending.
    foreach, fused
        Accepted for compatibility: every step is one fused instruction.

    Examples
    --------
    >>> import flambeau as torch
    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> opt = torch.optim.SGD([w], lr=0.25)
    >>> (w * w).sum().backward()
    >>> opt.step()
    >>> w.item()
    0.5
    """

    rule = staticmethod(sgd_step)
    columns = ("momentum_buffer",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | torch.Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_positive(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"momentum_buffer": torch.zeros_like(param)} if group["momentum"] else {}

    def _new_counts(self, group: dict[str, Any]) -> dict[str, float]:
        return {}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        lr, momentum, dampening, weight_decay, nesterov, maximize = _hyperparameters(group)
        if lr.__class__ is not float or weight_decay.__class__ is not float:
            lr, weight_decay = float(lr), float(weight_decay)
        return (lr, float(momentum), 1.0 if batch.fresh else 1.0 - dampening, weight_decay), (weight_decay != 0.0, nesterov, maximize)
