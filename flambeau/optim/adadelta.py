"""Adadelta (Zeiler 2012)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_lr, check_positive


@composite(runtime=("lr", "rho", "weight", "eps", "weight_decay"))
def adadelta_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    squares: Sequence[torch.Tensor],
    changes: Sequence[torch.Tensor],
    lr: float,
    rho: float,
    weight: float,
    eps: float,
    weight_decay: float,
    decays: bool,
    maximize: bool,
) -> None:
    """One step; ``weight`` is ``1 - rho``."""
    for param, grad, square, change in zip(params, grads, squares, changes):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        power = square * rho + grad * grad * weight
        delta = (change + eps).sqrt() / (power + eps).sqrt() * grad
        square.copy_(power)
        change.copy_(change * rho + delta * delta * weight)
        param.sub_(delta * lr)


class Adadelta(RuleOptimizer):
    """Steps as large as the running root mean square of the previous steps.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Factor of every step.
    rho
        Decay of the running means of the squared gradients and steps.
    eps
        Added under both roots.
    weight_decay
        L2 penalty, added to the gradient.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(adadelta_step)
    columns = ("square_avg", "acc_delta")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_positive(epsilon=eps, weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "capturable": capturable,
            "foreach": foreach, "differentiable": differentiable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"square_avg": torch.zeros_like(param), "acc_delta": torch.zeros_like(param)}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        rho, weight_decay = float(group["rho"]), float(group["weight_decay"])
        return (float(group["lr"]), rho, 1.0 - rho, float(group["eps"]), weight_decay), (weight_decay != 0.0, group["maximize"])
