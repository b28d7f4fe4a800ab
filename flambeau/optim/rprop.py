"""Resilient propagation (Riedmiller and Braun 1993): steps from the signs of the gradients alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_lr


@composite
def rprop_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    previous: Sequence[torch.Tensor],
    sizes: Sequence[torch.Tensor],
    eta_minus: float,
    eta_plus: float,
    smallest: float,
    largest: float,
    maximize: bool,
) -> None:
    """One step; where the gradient changed its sign the step shrinks and this gradient is ignored."""
    for param, grad, before, size in zip(params, grads, previous, sizes):
        if maximize:
            grad = -grad
        agreement = grad * before
        turned = agreement < 0
        step = torch.where(turned, size * eta_minus, torch.where(agreement > 0, size * eta_plus, size)).clamp(smallest, largest)
        kept = torch.where(turned, torch.zeros_like(grad), grad)
        before.copy_(kept)
        size.copy_(step)
        param.sub_(kept.sign() * step)


class Rprop(RuleOptimizer):
    """Each element has its own step size, which grows while the gradient keeps its sign; for full batches.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Step size at the start.
    etas
        Factors by which a step shrinks and grows.
    step_sizes
        Smallest and largest step.
    maximize
        Climb instead of descending.
    foreach, capturable
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(rprop_step)
    columns = ("prev", "step_size")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"prev": torch.zeros_like(param), "step_size": torch.full_like(param, float(group["lr"]))}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        return (), (*group["etas"], *group["step_sizes"], group["maximize"])
