"""Adamax: Adam with the infinity norm (Kingma and Ba 2015, section 7.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_betas, check_lr, check_positive


@composite(runtime=("step_size", "weight1", "beta2", "eps", "weight_decay"))
def adamax_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    firsts: Sequence[torch.Tensor],
    norms: Sequence[torch.Tensor],
    step_size: float,
    weight1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decays: bool,
    maximize: bool,
) -> None:
    """One step; ``step_size`` holds the bias correction, ``weight1`` is ``1 - beta1``."""
    for param, grad, first, norm in zip(params, grads, firsts, norms):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        mean = first + (grad - first) * weight1
        bound = torch.maximum(norm * beta2, grad.abs() + eps)
        first.copy_(mean)
        norm.copy_(bound)
        param.sub_(mean / bound * step_size)


class Adamax(RuleOptimizer):
    """Adam that divides by a running maximum of the gradient's magnitude.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate.
    betas
        Decay of the running mean and of the running maximum.
    eps
        Added to the magnitude of the gradient.
    weight_decay
        L2 penalty, added to the gradient.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(adamax_step)
    columns = ("exp_avg", "exp_inf")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_positive(epsilon=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"exp_avg": torch.zeros_like(param), "exp_inf": torch.zeros_like(param)}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        (beta1, beta2), weight_decay = map(float, group["betas"]), float(group["weight_decay"])
        step_size = float(group["lr"]) / (1.0 - beta1 ** batch.counts["step"])
        return (step_size, 1.0 - beta1, beta2, float(group["eps"]), weight_decay), (weight_decay != 0.0, group["maximize"])
