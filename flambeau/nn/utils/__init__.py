"""``flambeau.nn.utils``: clipping of gradients, parameters as vectors, sequences of several lengths, parametrizations."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_FAMILIES = {
    "clip_grad": "clip_grad_norm clip_grad_norm_ clip_grad_value_ clip_grads_with_norm_ get_total_norm",
    "convert_parameters": "parameters_to_vector vector_to_parameters",
    "fusion": "fuse_conv_bn_eval fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights",
    "init": "skip_init",
    "norms": "remove_spectral_norm remove_weight_norm spectral_norm weight_norm",
}
_WHERE = {name: family for family, names in _FAMILIES.items() for name in names.split()}
_SUBMODULES = frozenset({*_FAMILIES, "parametrizations", "parametrize", "prune", "rnn", "stateless"})

__all__ = sorted({*_WHERE, *_SUBMODULES})


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    return value


def __dir__() -> list[str]:
    return __all__
