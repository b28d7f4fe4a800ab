"""Averages of a model's weights over training: stochastic weight averaging (Izmailov et al. 2018) and moving averages."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import flambeau as torch

from .lr_scheduler import LRScheduler
from .optimizer import Optimizer


def get_ema_avg_fn(decay: float = 0.999) -> Callable[..., torch.Tensor]:
    """For ``AveragedModel(avg_fn=...)``: an exponential moving average."""
    _check_decay(decay)

    def average(averaged: torch.Tensor, current: torch.Tensor, count: Any) -> torch.Tensor:
        return averaged * decay + current * (1.0 - decay)

    return average


def get_swa_avg_fn() -> Callable[..., torch.Tensor]:
    """For ``AveragedModel(avg_fn=...)``: the mean of all models so far."""
    return _running_mean


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable[..., None]:
    """For ``AveragedModel(multi_avg_fn=...)``: an exponential moving average."""
    return _over_lists(get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable[..., None]:
    """For ``AveragedModel(multi_avg_fn=...)``: the mean of all models so far."""
    return _over_lists(_running_mean)


def _check_decay(decay: float) -> None:
    if not 0.0 <= decay <= 1.0:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def _running_mean(averaged: torch.Tensor, current: torch.Tensor, count: Any) -> torch.Tensor:
    return averaged + (current - averaged) / (count + 1)


def _over_lists(average: Callable[..., torch.Tensor]) -> Callable[..., None]:
    def several(averaged: list[torch.Tensor], current: list[torch.Tensor], count: Any) -> None:
        for old, new in zip(averaged, current):
            old.copy_(average(old, new, count) if old.is_floating_point() else new)

    return several


class AveragedModel(torch.nn.Module):
    """A copy of a model whose parameters are averages over the times that ``update_parameters`` was called.

    Parameters
    ----------
    model
        Copied; the copy is ``self.module``.
    device
        Where the averages are kept.
    avg_fn
        ``(averaged, current, count) -> new average`` of one parameter; the mean of all for None.
    multi_avg_fn
        As ``avg_fn``, in place over lists of parameters.
    use_buffers
        Average the buffers as well, rather than copying the last ones.
    """

    n_averaged: torch.Tensor

    def __init__(
        self,
        model: torch.nn.Module,
        device: Any = None,
        avg_fn: Callable[..., torch.Tensor] | None = None,
        multi_avg_fn: Callable[..., None] | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", torch.tensor(0, dtype=torch.long, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the averaged model returns."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model: torch.nn.Module) -> None:
        """Take the model's current parameters into the average."""
        averaged, current = (
            list(itertools.chain(m.parameters(), m.buffers()) if self.use_buffers else m.parameters()) for m in (self.module, model)
        )
        with torch.no_grad():
            if self.n_averaged.item() == 0:
                for old, new in zip(averaged, current):
                    old.copy_(new)
            else:
                update = self.multi_avg_fn or _over_lists(self.avg_fn or _running_mean)
                update(averaged, [new.to(old.device) for old, new in zip(averaged, current)], self.n_averaged)
            if not self.use_buffers:
                for old, new in zip(self.module.buffers(), model.buffers()):
                    old.copy_(new)
            self.n_averaged += 1


def update_bn(loader: Iterable[Any], model: torch.nn.Module, device: Any = None) -> None:
    """Compute the statistics of a model's batch normalisation layers anew, in one pass over ``loader``.

    Parameters
    ----------
    loader
        Gives inputs, or lists and tuples that begin with the input.
    """
    momenta = {}
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
            momenta[module] = module.momentum
    if not momenta:
        return
    training = model.training
    model.train()
    for module in momenta:
        module.momentum = None      # a plain mean over all batches
    with torch.no_grad():
        for batch in loader:
            inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(inputs if device is None else inputs.to(device))
    for module, momentum in momenta.items():
        module.momentum = momentum
    model.train(training)


class SWALR(LRScheduler):
    """Anneal the rates to a constant ``swa_lr`` over ``anneal_epochs``.

    Parameters
    ----------
    swa_lr
        The final rate, for all groups or one for each.
    anneal_strategy
        ``"cos"`` or ``"linear"``.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: Literal["cos", "linear"] = "cos",
        last_epoch: int = -1,
    ) -> None:
        rates = swa_lr if isinstance(swa_lr, (list, tuple)) else [swa_lr] * len(optimizer.param_groups)
        if len(rates) != len(optimizer.param_groups):
            raise ValueError(f"swa_lr must have the same length as optimizer.param_groups: {len(rates)} and {len(optimizer.param_groups)}")
        for group, rate in zip(optimizer.param_groups, rates):
            group["swa_lr"] = rate
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must by one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, epoch: int) -> float:
        """How much of the way to ``swa_lr`` is done at an epoch."""
        t = max(0.0, min(1.0, epoch / max(1, self.anneal_epochs)))
        return (1 - math.cos(math.pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self) -> list[Any]:
        self._warn_if_outside_step()
        if self.anneal_epochs == 0:
            return [group["swa_lr"] for group in self.optimizer.param_groups]
        before, now = self._share(self.last_epoch - 1), self._share(self.last_epoch)
        if before == 1.0:
            return [group["swa_lr"] for group in self.optimizer.param_groups]
        # the rate that the annealing began with, from the current one: another schedule may have set it
        starts = [(group["lr"] - before * group["swa_lr"]) / (1 - before) for group in self.optimizer.param_groups]
        return [group["swa_lr"] * now + start * (1 - now) for group, start in zip(self.optimizer.param_groups, starts)]
