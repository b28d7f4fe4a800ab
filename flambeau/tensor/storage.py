"""The memory behind tensors: as an object of its own (``Tensor.untyped_storage()``), and tensors made of bytes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from ..core.device import CPU
from ..core.shape import meta
from .creation import allocated


def from_bytes(data: Any, shape: Sequence[int], dtype: Any) -> Any:
    """A tensor with memory of its own that holds a copy of ``data``: the elements in row-major order."""
    m = meta(tuple(shape), None, 0, dtype, CPU)
    view = memoryview(data).cast("B")
    if len(view) < m.nbytes:
        raise ValueError(f"{m.nbytes} bytes are needed for shape {list(m.shape)} of {dtype}, got {len(view)}")
    t = allocated(m)
    target = (ctypes.c_char * m.nbytes).from_address(t._buffer.ptr)
    memoryview(target).cast("B")[:] = view[: m.nbytes]
    return t


def stack_copies(tensors: Sequence[Any]) -> Any:
    """``stack`` along a new first dimension by copying at once, or None where that needs an operation.

    Samples of a batch lie at ever different places, so a recorded ``stack`` of them would be a new program for each batch.
    """
    m = tensors[0]._meta
    if m.device is not CPU:
        return None
    for t in tensors:
        n = t._meta
        if t._node is not None or n.dtype is not m.dtype or n.shape != m.shape or not n.contiguous:
            return None
    result = allocated(meta((len(tensors), *m.shape), None, 0, m.dtype, CPU))
    place, size, width = result._buffer.ptr, m.nbytes, m.dtype.itemsize
    for t in tensors:
        t._ready()
        ctypes.memmove(place, t._buffer.ptr + t._meta.offset * width, size)
        place += size
    return result


class UntypedStorage:
    """The bytes that a tensor, and the views of it, lie in.

    Two storages are equal when they are the same memory.
    """

    def __init__(self, buffer: Any, tensor: Any) -> None:
        self._buffer = buffer
        self._like = tensor.detach()

    @property
    def _tensor(self) -> Any:
        """All of the memory as a one-dimensional tensor of the dtype that it was reached through."""
        from ..ops.definition import make_tensor

        d = self._like.dtype
        return make_tensor(meta((self.nbytes() // d.itemsize,), (1,), 0, d, self._like.device), self._buffer)

    @property
    def device(self) -> Any:
        """Where the memory is."""
        return self._like.device

    def data_ptr(self) -> int:
        """The address of the first byte; pending work is executed first."""
        self._like._ready(True)
        return int(self._buffer.ptr)

    def nbytes(self) -> int:
        """Size in bytes."""
        if self._like.device.type != "meta":
            self._like._ready()
            return int(self._buffer.nbytes)
        return int(self._like._span()) * int(self._like.dtype.itemsize)

    size = __len__ = nbytes

    def tolist(self) -> list[int]:
        """The bytes as numbers."""
        return list(bytes(self))

    def __bytes__(self) -> bytes:
        return bytes(self._tensor._bytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._buffer is self._buffer

    def __hash__(self) -> int:
        return id(self._buffer)

    def __repr__(self) -> str:
        return f"[torch.storage.UntypedStorage(device={self.device}) of size {self.nbytes()}]"
