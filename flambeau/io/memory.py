"""Tensors from bytes and bytes from tensors: what every file format here needs."""

from __future__ import annotations

from typing import Any

import flambeau as torch


def flat_storage(tensor: torch.Tensor) -> torch.Tensor:
    """The whole memory that ``tensor`` is a view of, as a one-dimensional tensor of its dtype."""
    data = tensor.detach()
    size = data.untyped_storage().nbytes() // data.element_size()
    return data.as_strided((size,), (1,), 0)


def to_bytes(flat: torch.Tensor) -> bytes:
    """The elements of a tensor in row-major order as bytes, little-endian."""
    return bytes(flat.detach()._bytes())


def from_bytes(data: Any, dtype: torch.dtype, count: int) -> torch.Tensor:
    """A new one-dimensional tensor with ``count`` elements read from ``data``."""
    return torch._from_bytes(data, (count,), dtype)


def strided(flat: torch.Tensor, size: Any, stride: Any, offset: int) -> torch.Tensor:
    """A tensor of the given layout over ``flat``; tensors over one ``flat`` share memory."""
    return flat.as_strided(tuple(size), tuple(stride), offset).detach()
