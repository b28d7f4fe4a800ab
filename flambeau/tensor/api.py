"""The public functions of the package: loads every operation and knows their names."""

from __future__ import annotations

import importlib
from typing import Any

from ..core import dtype as dtypes
from ..ops import composite, definition  # noqa: F401
from ..ops.definition import OPS
from . import creation, sampling
from .tensor import Tensor, install

_MODULES = ("elementwise", "reduction", "special", "shape", "indexing", "contraction", "spatial", "host", "factorization")
for _m in _MODULES:
    importlib.import_module("..ops." + _m, __package__)
install()

_legacy: dict[str, Any] = {}


class _Format:
    """A memory format or layout constant."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name


CONSTANTS = {n: _Format(n) for n in ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format", "strided", "sparse_coo", "sparse_csr")}


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    return type(obj).__name__ in ("UntypedStorage", "TypedStorage")


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is floating point."""
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.is_complex()


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype that an operation on both would have."""
    kinds = [x._meta if isinstance(x, Tensor) else type(x) for x in (tensor1, tensor2)]
    return definition.promote_kinds(kinds)


def lookup(name: str) -> Any:
    """The public object of this name, or None."""
    f = OPS.get(name)
    if f is not None and not name.startswith("_") and getattr(f, "is_function", True):
        return f
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name in creation.LEGACY:
        made = _legacy.get(name)
        if made is None:
            made = _legacy[name] = creation.constructor(dtypes.DTYPES[creation.LEGACY[name]], name)
        return made
    if name in dtypes.DTYPES:
        return dtypes.DTYPES[name]
    # the in-place functions that PyTorch also has at the top level: torch.relu_(x)
    if name.endswith("_") and not name.startswith("_") and hasattr(Tensor, name):
        return getattr(Tensor, name)
    here = globals().get(name)
    if callable(here) and getattr(here, "__module__", "") == __name__:
        return here
    return getattr(sampling, name, None) if name in sampling.PUBLIC else None


def names() -> list[str]:
    """Every public function's name."""
    return [n for n, f in OPS.items() if not n.startswith("_") and getattr(f, "is_function", True)] + list(CONSTANTS) + list(creation.LEGACY)
