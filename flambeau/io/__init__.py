"""Reading and writing tensors: PyTorch's checkpoint files and safetensors."""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "add_safe_globals": "checkpoint",
    "clear_safe_globals": "checkpoint",
    "get_safe_globals": "checkpoint",
    "load": "checkpoint",
    "safe_globals": "checkpoint",
    "save": "checkpoint",
}

__all__ = [*_HOME, "safetensors"]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name in ("checkpoint", "safetensors", "memory"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
