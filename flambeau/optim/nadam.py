"""NAdam: Adam with Nesterov momentum (Dozat 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_betas, check_lr, check_positive


@composite(runtime=("grad_size", "mean_size", "weight1", "beta2", "weight2", "scale2", "eps", "weight_decay"))
def nadam_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    firsts: Sequence[torch.Tensor],
    seconds: Sequence[torch.Tensor],
    grad_size: float,
    mean_size: float,
    weight1: float,
    beta2: float,
    weight2: float,
    scale2: float,
    eps: float,
    weight_decay: float,
    decays: bool,
    decoupled: bool,
    maximize: bool,
) -> None:
    """One step by ``grad_size`` of the gradient and ``mean_size`` of its running mean.

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
        param.copy_(start - (grad * grad_size + mean * mean_size) / ((square * scale2).sqrt() + eps))


class NAdam(RuleOptimizer):
    """Adam that looks ahead along its momentum.

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
    momentum_decay
        How fast the momentum approaches ``betas[0]``.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(nadam_step)
    columns = ("exp_avg", "exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
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
        check_positive(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"exp_avg": torch.zeros_like(param), "exp_avg_sq": torch.zeros_like(param)}

    def _new_counts(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "mu_product": 1.0}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        (beta1, beta2), lr, weight_decay = map(float, group["betas"]), float(group["lr"]), float(group["weight_decay"])
        decoupled, step = group["decoupled_weight_decay"], batch.counts["step"]
        mu, mu_next = (beta1 * (1.0 - 0.5 * 0.96 ** (t * group["momentum_decay"])) for t in (step, step + 1.0))
        batch.counts["mu_product"] = product = batch.counts["mu_product"] * mu
        return (
            (
                lr * (1.0 - mu) / (1.0 - product), lr * mu_next / (1.0 - product * mu_next), 1.0 - beta1, beta2, 1.0 - beta2,
                1.0 / (1.0 - beta2**step), float(group["eps"]), 1.0 - lr * weight_decay if decoupled else weight_decay,
            ),
            (weight_decay != 0.0, decoupled, group["maximize"]),
        )  # fmt: skip
