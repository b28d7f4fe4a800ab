"""RMSprop (Hinton, lecture 6e of the course *Neural Networks for Machine Learning*), centred as in Graves 2013."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_lr, check_positive


@composite(runtime=("lr", "alpha", "weight", "eps", "momentum", "weight_decay"))
def rmsprop_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    squares: Sequence[torch.Tensor],
    means: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor],
    lr: float,
    alpha: float,
    weight: float,
    eps: float,
    momentum: float,
    weight_decay: float,
    decays: bool,
    maximize: bool,
) -> None:
    """One step; ``means`` is empty unless centred, ``buffers`` without momentum, ``weight`` is ``1 - alpha``."""
    for index, (param, grad, square) in enumerate(zip(params, grads, squares)):
        if maximize:
            grad = -grad
        if decays:
            grad = grad + param * weight_decay
        power = square * alpha + grad * grad * weight
        square.copy_(power)
        if means:
            mean = means[index] + (grad - means[index]) * weight
            means[index].copy_(mean)
            power = power - mean * mean
        change = grad / (power.sqrt() + eps)
        if buffers:
            change = buffers[index] * momentum + change
            buffers[index].copy_(change)
        param.sub_(change * lr)


class RMSprop(RuleOptimizer):
    """Divide the gradient by the root of its running mean square.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Learning rate.
    alpha
        Decay of the running means.
    eps
        Added to the denominator.
    weight_decay
        L2 penalty, added to the gradient.
    momentum
        How much of the previous change is kept.
    centered
        Divide by the running standard deviation instead.
    maximize
        Climb instead of descending.
    capturable, foreach
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(rmsprop_step)
    columns = ("square_avg", "grad_avg", "momentum_buffer")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        check_positive(epsilon=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered, "weight_decay": weight_decay,
            "capturable": capturable, "foreach": foreach, "maximize": maximize, "differentiable": differentiable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        names = ["square_avg"]
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        return {name: torch.zeros_like(param) for name in names}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        alpha, weight_decay = float(group["alpha"]), float(group["weight_decay"])
        return (
            (float(group["lr"]), alpha, 1.0 - alpha, float(group["eps"]), float(group["momentum"]), weight_decay),
            (weight_decay != 0.0, group["maximize"]),
        )
