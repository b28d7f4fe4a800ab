"""Adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), with AMSGrad (Reddi et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_betas, check_lr, check_positive


@composite(runtime=("step_size", "weight1", "beta2", "weight2", "scale2", "eps", "weight_decay"))
def adam_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    firsts: Sequence[torch.Tensor],
    seconds: Sequence[torch.Tensor],
    largest: Sequence[torch.Tensor],
    step_size: float,
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
    """One step; ``step_size`` and ``scale2`` hold the bias corrections, ``largest`` is empty without AMSGrad.

    A decoupled ``weight_decay`` is given as the factor that remains of the parameter.
    """
    for index, (param, grad, first, second) in enumerate(zip(params, grads, firsts, seconds)):
        if maximize:
            grad = -grad
        start = param
        if decays and decoupled:
            start = param * weight_decay
        elif decays:
            grad = grad + param * weight_decay
        mean = first + (grad - first) * weight1
        square = second * beta2 + grad * grad * weight2
        bound = square
        if largest:
            bound = torch.maximum(largest[index], square)
            largest[index].copy_(bound)
        first.copy_(mean)
        second.copy_(square)
        param.copy_(start - mean / (bound.sqrt() * scale2 + eps) * step_size)


class Adam(RuleOptimizer):
    """Adam: steps by the gradient's running mean over the root of its running mean square.

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
        ``lr * weight_decay`` (AdamW).
    amsgrad
        Divide by the largest mean square so far.
    maximize
        Climb instead of descending.
    foreach, capturable, fused
        Accepted for compatibility: every step is one fused instruction.
    """

    rule = staticmethod(adam_step)
    columns = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, torch.Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        check_positive(epsilon=eps)
        check_betas(betas)
        check_positive(weight_decay=weight_decay)
        tensors = [isinstance(beta, torch.Tensor) for beta in betas]
        if any(tensors) and not all(tensors):
            raise ValueError("betas must be either both floats or both Tensors")
        for index in (0, 1):
            if tensors[index] and foreach and not capturable:
                raise ValueError(f"betas[{index}] as a Tensor is not supported for capturable=False and foreach=True")
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "differentiable": differentiable, "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        names = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq") if group["amsgrad"] else ("exp_avg", "exp_avg_sq")
        return {name: torch.zeros_like(param) for name in names}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        beta1, beta2 = group["betas"]
        beta1, beta2, lr, weight_decay = float(beta1), float(beta2), float(group["lr"]), float(group["weight_decay"])
        step, decoupled = batch.counts["step"], group["decoupled_weight_decay"]
        return (
            (
                lr / (1.0 - beta1**step), 1.0 - beta1, beta2, 1.0 - beta2, (1.0 - beta2**step) ** -0.5, float(group["eps"]),
                1.0 - lr * weight_decay if decoupled else weight_decay,
            ),
            (weight_decay != 0.0, decoupled, group["maximize"]),
        )  # fmt: skip


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters directly instead of entering the gradient.

    See ``Adam`` for the parameters.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        betas: tuple[float | torch.Tensor, float | torch.Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
            differentiable=differentiable, fused=fused, decoupled_weight_decay=True,
        )  # fmt: skip
