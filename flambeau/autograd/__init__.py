"""Reverse-mode differentiation over recorded calls: ``backward``, ``grad``, custom functions, checks."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "backward": "engine", "grad": "engine", "Function": "function", "NestedIOFunction": "function", "gradcheck": "gradcheck", "gradgradcheck": "gradcheck",
    "no_grad": "modes", "enable_grad": "modes", "inference_mode": "modes", "set_grad_enabled": "modes", "is_grad_enabled": "modes",
    "detect_anomaly": "anomaly", "set_detect_anomaly": "anomaly", "is_anomaly_enabled": "anomaly", "Variable": "variable",
}


def __getattr__(name: str) -> Any:
    if name in ("functional", "graph", "function"):
        return importlib.import_module("." + name, __name__)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'torch.autograd' has no attribute {name!r}: Flambeau does not have torch.autograd.{name} (yet)")
    value = getattr(importlib.import_module("." + home, __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*_HOMES, "functional", "graph", "function"})
