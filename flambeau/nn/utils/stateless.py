"""Modules as functions of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..modules.module import Module


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Any],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """Call ``module`` with other tensors in place of its parameters and buffers.

    Parameters
    ----------
    parameters_and_buffers : mapping of str to Tensor
        By dotted name; what is missing is taken from the module.
    args, kwargs
        The arguments; a single one need not be in a tuple.
    tie_weights : bool
        Replace a tied tensor under all its names.
    strict : bool
        Require the names to be exactly the module's.
    """
    own = {**dict(module.named_parameters(remove_duplicate=False)), **dict(module.named_buffers(remove_duplicate=False))}
    if strict:
        missing, unexpected = sorted(set(own) - set(parameters_and_buffers)), sorted(set(parameters_and_buffers) - set(own))
        if missing or unexpected:
            raise RuntimeError(
                "Error(s) in loading state_dict:"
                + (f"\n\tUnexpected key(s): {', '.join(unexpected)}." if unexpected else "")
                + (f"\n\tMissing key(s): {', '.join(missing)}." if missing else "")
            )
    given = dict(parameters_and_buffers)
    if tie_weights:
        for name, tensor in parameters_and_buffers.items():
            for other, t in own.items():
                if name in own and t is own[name]:
                    given.setdefault(other, tensor)
    swapped: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for name, tensor in given.items():
            path, _, leaf = name.rpartition(".")
            attributes = module.get_submodule(path).__dict__
            if leaf not in attributes:
                raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
            swapped.append((attributes, leaf, attributes[leaf]))
            attributes[leaf] = tensor
        values = () if args is None else args if isinstance(args, tuple) else (args,)
        return module(*values, **(kwargs or {}))
    finally:
        for attributes, leaf, old in reversed(swapped):
            attributes[leaf] = old


__all__ = ["functional_call"]
