"""``flambeau.nn``: modules, their parameters, and the functions they are made of.

Everything here is written over the public tensor API.  A family of layers is loaded when one of its names is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .modules import WHERE

_SUBMODULES = frozenset({"attention", "functional", "init", "modules", "parallel", "parameter", "utils"})
_PARAMETERS = frozenset({"Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter"})

__all__ = sorted({*WHERE, *_PARAMETERS, *_SUBMODULES})


def __getattr__(name: str) -> Any:
    if name in WHERE:
        value = getattr(import_module(f"{__name__}.modules.{WHERE[name]}"), name)
    elif name in _PARAMETERS:
        value = getattr(import_module(f"{__name__}.parameter"), name)
    elif name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
