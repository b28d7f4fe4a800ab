"""The named tuples that calls with several results return, as ``torch.return_types.sort`` and so on."""

from __future__ import annotations

from typing import Any

from .ops.results import TYPES
from .tensor import api  # noqa: F401  (loading the operations defines the types that are made at import)


def __getattr__(name: str) -> Any:
    if name in TYPES:
        return TYPES[name]
    raise AttributeError(f"module 'torch.return_types' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(TYPES)
