"""Parameters as one vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import flambeau as fl


def parameters_to_vector(parameters: Iterable[Any]) -> Any:
    """All parameters flattened and joined."""
    return fl.cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec: Any, parameters: Iterable[Any]) -> None:
    """Make slices of ``vec`` the data of the parameters."""
    if not isinstance(vec, fl.Tensor):
        raise TypeError(f"expected torch.Tensor, but got: {type(vec).__name__}")
    start = 0
    for p in parameters:
        n = p.numel()
        p.data = vec[start : start + n].view_as(p).data
        start += n
