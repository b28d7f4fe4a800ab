"""``flambeau.nn.parallel``: wrappers that spread a module over devices."""

from __future__ import annotations

from typing import Any

from .modules.module import Module
from .modules.parallel import DataParallel


def data_parallel(
    module: Module, inputs: Any, device_ids: Any = None, output_device: Any = None, dim: int = 0, module_kwargs: dict[str, Any] | None = None
) -> Any:
    """Call ``module``; with one device there is nothing to split."""
    return module(*(inputs if isinstance(inputs, tuple) else (inputs,)), **(module_kwargs or {}))


__all__ = ["DataParallel", "data_parallel"]
