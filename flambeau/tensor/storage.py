"""The memory behind tensors, as an object of its own: what ``Tensor.untyped_storage()`` returns."""

from __future__ import annotations

from typing import Any

from ..core.shape import meta


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
        self._like._ready()
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
