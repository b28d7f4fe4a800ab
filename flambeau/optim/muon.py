"""Muon (Jordan et al. 2024): momentum whose matrix is made nearly orthogonal before it is applied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flambeau as torch
from flambeau.ops.composite import composite

from .optimizer import ParamsT
from .rule import Batch, RuleOptimizer, check_at_least_zero, check_one_element


def _orthogonalised(matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> torch.Tensor:
    """The matrix with all singular values moved close to 1, by Newton-Schulz iterations in bfloat16."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.bfloat16()
    if tall:
        x = x.T
    x = x / x.norm().clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.T
        x = x * a + (gram * b + (gram @ gram) * c) @ x
    return x.T if tall else x


@composite(runtime=("lr", "keep", "weight", "momentum"))
def muon_step(
    params: Sequence[torch.Tensor],
    grads: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor],
    lr: float,
    keep: float,
    weight: float,
    momentum: float,
    nesterov: bool,
    coefficients: tuple[float, float, float],
    steps: int,
    eps: float,
    match_rms: bool,
) -> None:
    """One step; ``keep`` is what weight decay leaves of a parameter, ``weight`` is ``1 - momentum``."""
    for param, grad, buffer in zip(params, grads, buffers):
        rows, columns = param.shape
        mean = buffer + (grad - buffer) * weight
        buffer.copy_(mean)
        update = _orthogonalised(grad + (mean - grad) * momentum if nesterov else mean, coefficients, steps, eps)
        scale = 0.2 * max(rows, columns) ** 0.5 if match_rms else max(1.0, rows / columns) ** 0.5
        param.copy_(param * keep - update.to(param.dtype) * scale * lr)


class Muon(RuleOptimizer):
    """Momentum with orthogonalised updates, for the matrices of hidden layers.

    Parameters
    ----------
    params
        Matrices; biases and embeddings belong in another optimizer, usually AdamW.
    lr
        Learning rate.
    weight_decay
        The parameter shrinks by ``lr * weight_decay``.
    momentum, nesterov
        Decay of the running mean of the gradient, and whether to look ahead along it.
    ns_coefficients, ns_steps, eps
        The polynomial of the Newton-Schulz iteration, how often it is applied, and the floor of the matrix's norm.
    adjust_lr_fn
        How the rate follows the matrix's shape: ``"original"`` (None), or ``"match_rms_adamw"`` to reuse the rates of AdamW.

    Raises
    ------
    ValueError
        A parameter is not a matrix.
    """

    rule = staticmethod(muon_step)
    columns = ("momentum_buffer",)

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        check_one_element(lr)
        check_at_least_zero(**{"Learning rate": lr, "momentum": momentum, "weight decay": weight_decay})
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov, "ns_coefficients": ns_coefficients,
            "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        })  # fmt: skip
        for group in self.param_groups:
            if ns_steps >= 100:
                raise ValueError("Number of steps must be less than 100 for computational efficiency")
            for param in group["params"]:
                if param.dim() != 2:
                    raise ValueError(
                        f"Muon only supports 2D parameters whereas we found a parameter with size: {param.size()}\n"
                        "Give vectors, convolution kernels and embeddings to another optimizer, e.g. AdamW."
                    )

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"momentum_buffer": torch.zeros_like(param)}

    def _new_counts(self, group: dict[str, Any]) -> dict[str, float]:
        return {}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        lr, momentum = float(group["lr"]), float(group["momentum"])
        return (
            (lr, 1.0 - lr * group["weight_decay"], 1.0 - momentum, momentum),
            (
                group["nesterov"], tuple(group["ns_coefficients"]), group["ns_steps"], group["eps"],
                group["adjust_lr_fn"] == "match_rms_adamw",
            ),
        )  # fmt: skip
