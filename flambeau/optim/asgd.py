"""Averaged stochastic gradient descent (Polyak and Juditsky 1992; schedule of Bottou's *sgd*)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_lr, check_positive


@composite(runtime=("eta", "shrink", "mu", "weight_decay"))
def asgd_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    averages: Sequence[torch.Tensor],
    eta: float,
    shrink: float,
    mu: float,
    weight_decay: float,
    averaging: bool,
    decays: bool,
    maximize: bool,
) -> None:
    """One step; before ``averaging`` starts the average is the parameter itself."""
    for param, grad, average in zip(params, grads, averages):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        moved = param * shrink - grad * eta
        param.copy_(moved)
        average.copy_(average + (moved - average) * mu if averaging else moved)


class ASGD(RuleOptimizer):
    """Gradient descent with a falling rate, and the running average of its path in ``state[p]["ax"]``.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate of the first step.
    lambd, alpha
        The rate of step ``t`` is ``lr / (1 + lambd * lr * t) ** alpha``; ``lambd`` also shrinks the parameters.
    t0
        The step from which on the path is averaged.
    weight_decay
        L2 penalty, added to the gradient.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(asgd_step)
    columns = ("ax",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_lr(lr)
        check_positive(weight_decay=weight_decay)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"ax": torch.zeros_like(param)}

    def _new_counts(self, group: dict[str, Any]) -> dict[str, float]:
        return {"step": 0.0, "eta": float(group["lr"]), "mu": 1.0}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        counts, lambd, lr, weight_decay = batch.counts, float(group["lambd"]), float(group["lr"]), float(group["weight_decay"])
        eta, mu, step = counts["eta"], counts["mu"], counts["step"]
        counts["eta"] = lr / (1.0 + lambd * lr * step) ** group["alpha"]
        counts["mu"] = 1.0 / max(1.0, step - group["t0"])
        return (eta, 1.0 - lambd * eta, mu, weight_decay), (mu != 1.0, weight_decay != 0.0, group["maximize"])
