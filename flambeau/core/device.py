"""Devices: where a tensor's memory lies.  Interned, so identity is equality."""

from __future__ import annotations

from typing import Any

TYPES = ("cpu", "cuda", "meta")


class device:
    """A device such as ``device("cpu")``, ``device("cuda", 0)`` or ``device("cuda:1")``."""

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __new__(cls, type: Any = None, index: int | None = None) -> device:
        if isinstance(type, device):
            return type
        if isinstance(type, int) and index is None:
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        name, _, number = type.partition(":")
        if number:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed explicitly: {type}")
            if not number.isdigit():
                raise RuntimeError(f"Invalid device string: '{type}'")
            index = int(number)
        if name not in TYPES:
            raise RuntimeError(
                f"Expected one of {', '.join(TYPES)} device type at start of device string: {name}\n"
                f"device({type!r}): known devices are 'cpu', 'cuda', 'cuda:0' and 'meta'."
            )
        if name == "cpu" and index is not None and index > 0:
            raise RuntimeError(f"CPU device index must be -1 or zero, got {index}")
        known = _devices.get((name, index))
        if known is None:
            known = _devices[name, index] = object.__new__(cls)
            known.type, known.index = name, index
        return known

    def __repr__(self) -> str:
        return f"device(type={self.type!r})" if self.index is None else f"device(type={self.type!r}, index={self.index})"

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __reduce__(self) -> tuple[Any, ...]:
        return (device, (self.type, self.index))

    def __copy__(self) -> device:
        return self

    def __deepcopy__(self, memo: object) -> device:
        return self


_devices: dict[tuple[str, int | None], device] = {}
CPU = device("cpu")
META = device("meta")
