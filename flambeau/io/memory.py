"""Tensors from bytes and bytes from tensors: what every file format here needs."""

from __future__ import annotations

from typing import Any

import flambeau as torch


def flat_storage(tensor: torch.Tensor) -> torch.Tensor:
    """The whole memory that ``tensor`` is a view of, as a one-dimensional tensor of its dtype."""
    data = tensor.detach()
    size = data.untyped_storage().nbytes() // data.element_size()
    return data.as_strided((size,), (1,), 0)


def to_bytes(flat: torch.Tensor) -> memoryview:
    """The elements of a contiguous tensor as bytes, little-endian."""
    flat = flat.detach().reshape(-1)
    if flat.numel() == 0:
        return memoryview(b"")
    if flat.dtype == torch.bfloat16:      # NumPy has no such type
        flat = flat.view(torch.int16)
    return memoryview(flat.numpy()).cast("B")


def from_bytes(data: Any, dtype: torch.dtype, count: int) -> torch.Tensor:
    """A new one-dimensional tensor with ``count`` elements read from ``data``."""
    if count == 0:
        return torch.empty(0, dtype=dtype)
    # cloned, since memory that the outside can see would have to be kept up to date with every later operation
    shared = torch.frombuffer(bytearray(data), dtype=torch.int16 if dtype == torch.bfloat16 else dtype, count=count)
    owned = shared.clone()
    return owned.view(dtype) if dtype == torch.bfloat16 else owned


def strided(flat: torch.Tensor, size: Any, stride: Any, offset: int) -> torch.Tensor:
    """A tensor of the given layout over ``flat``; tensors over one ``flat`` share memory."""
    return flat.as_strided(tuple(size), tuple(stride), offset).detach()
