"""The safetensors format: a JSON header with names, dtypes, shapes and places, then the tensors' bytes.

Nothing in such a file can run code.  The functions have the names and signatures of the ``safetensors.torch`` package.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import flambeau as torch

from . import memory

_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32", "I16": "int16",
    "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_CODES = {name: code for code, name in _NAMES.items()}
_MAX_HEADER = 100_000_000      # as the reference implementation, against absurd allocations


def save(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """The file's contents for named tensors.

    Parameters
    ----------
    tensors
        Each is written on its own, in row-major order.
    metadata
        Text to keep in the header.

    Raises
    ------
    ValueError
        ``tensors`` is not a dictionary of tensors, or a dtype has no place in the format.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    chunks: list[bytes] = []
    offset = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-_itemsize(*item), item[0])):     # wide types first keeps all aligned
        data = memory.to_bytes(tensor)
        code = _CODES[str(tensor.dtype).rpartition(".")[2]]
        header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [offset, offset + len(data)]}
        chunks.append(data)
        offset += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *chunks])


def save_file(tensors: Mapping[str, torch.Tensor], filename: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors to a file; see ``save``."""
    with open(filename, "wb") as file:
        file.write(save(tensors, metadata))


def load(data: bytes) -> dict[str, torch.Tensor]:
    """Named tensors from a file's contents.

    Raises
    ------
    ValueError
        ``data`` is not such a file, or is damaged.
    """
    view = memoryview(data)
    size = int.from_bytes(view[:8], "little")
    if len(view) < 8 or size > min(len(view) - 8, _MAX_HEADER):
        raise ValueError("safetensors: the header is longer than the file: it is cut off, or of another format.")
    try:
        header = json.loads(bytes(view[8 : 8 + size]))
        if not isinstance(header, dict):
            raise TypeError("no dictionary")
    except (ValueError, TypeError) as error:
        raise ValueError(f"safetensors: the header is no JSON dictionary ({error}): the file is damaged, or of another format.") from None
    body = view[8 + size :]
    return {name: _read(name, entry, body) for name, entry in header.items() if name != "__metadata__"}


def load_file(filename: str | os.PathLike[str], device: Any = "cpu") -> dict[str, torch.Tensor]:
    """Named tensors from a file; see ``load``."""
    with open(filename, "rb") as file:
        tensors = load(file.read())
    return tensors if str(device) == "cpu" else {name: tensor.to(device) for name, tensor in tensors.items()}


def _itemsize(name: str, tensor: Any) -> int:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"safetensors: {name!r} is a {type(tensor).__name__}, only tensors can be saved.")
    if str(tensor.dtype).rpartition(".")[2] not in _CODES:
        raise ValueError(f"safetensors: {name!r} has dtype {tensor.dtype}, which the format does not have.")
    return int(tensor.element_size())


def _read(name: str, entry: Any, body: memoryview) -> torch.Tensor:
    try:
        code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"safetensors: the header's entry for {name!r} is damaged.") from None
    if code not in _NAMES:
        raise ValueError(f"safetensors: {name!r} has dtype {code}, which is not available here.")
    dtype = getattr(torch, _NAMES[code])
    count = 1
    for extent in shape:
        count *= extent
    if not 0 <= begin <= end <= len(body) or end - begin != count * dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"safetensors: {name!r} with shape {list(shape)} does not fit its bytes: the file is cut off or damaged.")
    return memory.from_bytes(body[begin:end], dtype, count).reshape(shape)
