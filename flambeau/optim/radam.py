"""RAdam: Adam whose adaptive step waits until its variance is known (Liu et al. 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_betas, check_lr, check_positive


@composite(runtime=("step_size", "weight1", "beta2", "weight2", "eps", "weight_decay"))
def radam_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    firsts: Sequence[torch.Tensor],
    seconds: Sequence[torch.Tensor],
    step_size: float,
    weight1: float,
    beta2: float,
    weight2: float,
    eps: float,
    weight_decay: float,
    rectified: bool,
    decays: bool,
    decoupled: bool,
    maximize: bool,
) -> None:
    """One step; ``step_size`` holds the bias corrections and, once ``rectified``, the variance's.

    A decoupled ``weight_decay`` is given as the factor that remains of the parameter.
    """
    for param, grad, first, second in zip(params, grads, firsts, seconds):
        if maximize:
            grad = -grad
        start = param
        if decays and decoupled:
            start = param * weight_decay
        elif decays:
            grad = grad + param * weight_decay
        mean = first + (grad - first) * weight1
        square = second * beta2 + grad * grad * weight2
        first.copy_(mean)
        second.copy_(square)
        change = mean / (square.sqrt() + eps) if rectified else mean
        param.copy_(start - change * step_size)


class RAdam(RuleOptimizer):
    """Adam that starts as momentum and becomes adaptive when its variance has settled.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate.
    betas
        Decay of the running means of the gradient and of its square.
    eps
        Added to the denominator.
    weight_decay
        L2 penalty, added to the gradient; with ``decoupled_weight_decay`` the parameter itself shrinks by
        ``lr * weight_decay``.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(radam_step)
    columns = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_positive(epsilon=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay, "differentiable": differentiable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        (beta1, beta2), lr, weight_decay = map(float, group["betas"]), float(group["lr"]), float(group["weight_decay"])
        decoupled, step = group["decoupled_weight_decay"], batch.counts["step"]
        correction2 = 1.0 - beta2**step
        # length of the simple moving average that the running mean stands for: its limit, and at this step
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - 2.0 * step * beta2**step / correction2
        rectified = length > 5.0
        step_size = lr / (1.0 - beta1**step)
        if rectified:
            variance = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
            step_size *= (variance * correction2) ** 0.5
        kept = 1.0 - lr * weight_decay if decoupled else weight_decay
        return (
            (step_size, 1.0 - beta1, beta2, 1.0 - beta2, float(group["eps"]), kept),
            (rectified, weight_decay != 0.0, decoupled, group["maximize"]),
        )
