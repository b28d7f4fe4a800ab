"""DLPack: sharing memory with other array libraries without a copy."""

from __future__ import annotations

from typing import Any

import flambeau as torch


def to_dlpack(tensor: torch.Tensor) -> Any:
    """A DLPack capsule over the tensor's memory; it can be consumed once."""
    return tensor.__dlpack__()


def from_dlpack(ext_tensor: Any) -> torch.Tensor:
    """A tensor over the memory of another library's array (anything with ``__dlpack__``)."""
    return torch.from_dlpack(ext_tensor)
