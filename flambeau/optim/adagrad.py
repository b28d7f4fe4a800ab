"""Adagrad (Duchi, Hazan and Singer 2011)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, ParameterState, RuleOptimizer, check_lr, check_positive


@composite(runtime=("lr", "eps", "weight_decay"))
def adagrad_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    sums: Sequence[torch.Tensor],
    lr: float,
    eps: float,
    weight_decay: float,
    decays: bool,
    maximize: bool,
) -> None:
    """One step, with the decayed learning rate of this step."""
    for param, grad, total in zip(params, grads, sums):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        power = total + grad * grad
        total.copy_(power)
        param.sub_(grad / (power.sqrt() + eps) * lr)


class Adagrad(RuleOptimizer):
    """Divide the gradient by the root of the sum of all its squares so far.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate.
    lr_decay
        The rate of step ``t`` is ``lr / (1 + (t - 1) * lr_decay)``.
    weight_decay
        L2 penalty, added to the gradient.
    initial_accumulator_value
        Where the sums of squares start.
    eps
        Added to the denominator.
    maximize
        Climb instead of descending.
    foreach, fused
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(adagrad_step)
    columns = ("sum",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_lr(lr)
        check_positive(lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, epsilon=eps)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        })  # fmt: skip
        for group in self.param_groups:      # Adagrad alone shows its state before the first step
            for param in group["params"]:
                self.state[param] = ParameterState(step=torch.tensor(0.0), **self._new_state(group, param))

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"sum": torch.full_like(param, group["initial_accumulator_value"]).detach()}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        weight_decay = float(group["weight_decay"])
        lr = float(group["lr"]) / (1.0 + (batch.counts["step"] - 1.0) * group["lr_decay"])
        return (lr, float(group["eps"]), weight_decay), (weight_decay != 0.0, group["maximize"])
