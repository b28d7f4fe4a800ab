"""DataParallel, on one device."""

from __future__ import annotations

from typing import Any

from .module import Module


class DataParallel(Module):
    """Calls ``module``; with one device there is nothing to split.

    The wrapped module is the attribute ``module``, so that the keys of its state begin with ``module.``, as in PyTorch.
    """

    def __init__(self, module: Module, device_ids: Any = None, output_device: Any = None, dim: int = 0) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[Any] = []
        self.output_device = output_device
        self.dim = dim

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        return self.module(*inputs, **kwargs)
