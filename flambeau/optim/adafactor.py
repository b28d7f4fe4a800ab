"""Adafactor (Shazeer and Stern 2018): the second moment of a matrix as an outer product of a row and a column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_at_least_zero, check_one_element


@composite(runtime=("weight", "step_size", "smallest_scale", "keep"))
def adafactor_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    rows: Sequence[torch.Tensor],
    columns: Sequence[torch.Tensor],
    variances: Sequence[torch.Tensor],
    weight: float,
    step_size: float,
    smallest_scale: float,
    keep: float,
    floor: float,
    clip: float,
    decays: bool,
    maximize: bool,
) -> None:
    """One step; matrices have ``rows`` and ``columns``, vectors ``variances``; ``keep`` is what weight decay leaves."""
    for index, (param, grad) in enumerate(zip(params, grads)):
        if maximize:
            grad = -grad
        scale = param.square().mean().sqrt().clamp_min(smallest_scale)
        start = param * keep if decays else param
        square = grad * grad
        if rows:
            row, column = rows[index], columns[index]
            row_mean = row + (square.mean(-1, keepdim=True) - row) * weight
            column_mean = column + (square.mean(-2, keepdim=True) - column) * weight
            row.copy_(row_mean)
            column.copy_(column_mean)
            variance = row_mean * column_mean / row_mean.mean(-2, keepdim=True).clamp_min(floor)
        else:
            variance = variances[index] + (square - variances[index]) * weight
            variances[index].copy_(variance)
        update = grad * variance.clamp_min(floor * floor).rsqrt()
        excess = (update.square().mean().sqrt() / clip).clamp_min(1.0)
        param.copy_(start - update * (scale * step_size / excess))


class Adafactor(RuleOptimizer):
    """Adam-like steps relative to the parameter's own scale, with little memory.

    Parameters
    ----------
    params
        Parameters or groups of them.
    lr
        Upper bound of the relative step.
    beta2_decay
        The running mean square of step ``t`` takes a share ``t ** beta2_decay`` of the new value.
    eps
        Floors of the mean square (the dtype's epsilon for None) and of the parameter's scale.
    d
        Root mean square to which an update is clipped.
    weight_decay
        The parameter shrinks by ``lr * weight_decay``.
    foreach
        Accepted for compatibility: every step is one fused instruction.
    maximize
        Climb instead of descending.
    """

    rule = staticmethod(adafactor_step)
    columns = ("row_var", "col_var", "variance")

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        check_one_element(lr)
        check_at_least_zero(**{"Learning rate": lr, "epsilon1": eps[0] or 0.0, "epsilon2": eps[1], "weight_decay": weight_decay})
        if beta2_decay > 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if d < 1.0:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize,
        })  # fmt: skip

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        if param.dim() > 1:
            row, column = list(param.shape), list(param.shape)
            row[-1] = column[-2] = 1
            return {"row_var": param.new_zeros(row), "col_var": param.new_zeros(column)}
        return {"variance": torch.zeros_like(param)}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        lr, (eps1, eps2), step, weight_decay = float(group["lr"]), group["eps"], batch.counts["step"], group["weight_decay"]
        floor = torch.finfo(batch.params[0].dtype).eps if eps1 is None else eps1
        return (
            (step ** group["beta2_decay"], min(lr, 1.0 / step**0.5), float(eps2), 1.0 - lr * weight_decay),
            (floor, group["d"], weight_decay != 0.0, group["maximize"]),
        )
