"""``Variable``: the old name of a tensor."""

from __future__ import annotations

from typing import Any

from ..ops import definition


class _VariableMeta(type):
    def __instancecheck__(cls, x: object) -> bool:
        return isinstance(x, definition.Tensor)


class Variable(metaclass=_VariableMeta):
    """``Variable(tensor)`` returns a tensor."""

    def __new__(cls, data: Any, requires_grad: bool = False) -> Any:
        t = data.detach()
        return t.requires_grad_() if requires_grad else t
