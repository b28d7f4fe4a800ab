"""``flambeau.nn.utils``: clipping of gradients, parameters as vectors, sequences of several lengths."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_WHERE = {
    "clip_grad_norm": "clip_grad",
    "clip_grad_norm_": "clip_grad",
    "clip_grad_value_": "clip_grad",
    "clip_grads_with_norm_": "clip_grad",
    "get_total_norm": "clip_grad",
    "parameters_to_vector": "convert_parameters",
    "vector_to_parameters": "convert_parameters",
}
_SUBMODULES = frozenset({"clip_grad", "convert_parameters", "rnn"})

__all__ = sorted({*_WHERE, "rnn"})


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
