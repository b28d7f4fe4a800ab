"""Named tuples for calls with several results: unpackable, with PyTorch's field names and printing."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

TYPES: dict[str, type] = {}        # name -> class; ``torch.return_types`` publishes them


def named(name: str, *fields: str) -> Any:
    """The class of the results of ``torch.<name>``."""
    cls = TYPES.get(name)
    if cls is None:
        base = namedtuple(name, fields)  # type: ignore[misc]

        def show(self: Any) -> str:
            inner = ",\n".join(f"{f}={v!r}" for f, v in zip(fields, self, strict=True))
            return f"torch.return_types.{name}(\n{inner})"

        cls = TYPES[name] = type(name, (base,), {"__slots__": (), "__repr__": show, "__module__": "torch.return_types"})
    return cls


__all__ = ["TYPES", "named"]
