"""Parameter and Buffer: tensors that a module registers when they are assigned to it.

Both are ordinary tensors of the public API; a ``Parameter`` differs by its class, by requiring a gradient, and by how it prints.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import flambeau as fl


class Parameter(fl.Tensor):
    """A tensor that is trained: assigned to a :class:`Module` it appears among ``module.parameters()``.

    Parameters
    ----------
    data : Tensor, optional
        The values, any shape; shared with the parameter, not copied.  An empty tensor if left out.
    requires_grad : bool
        Whether autograd fills ``.grad``.

    Raises
    ------
    RuntimeError
        If a gradient is asked for a type that is not floating point.
    """

    __slots__ = ()

    def __new__(cls, data: Any = None, requires_grad: bool = True) -> Parameter:
        if data is None:
            data = fl.empty(0)
        if requires_grad and not data.is_floating_point() and not data.is_complex():
            raise RuntimeError(
                "Only Tensors of floating point and complex dtype can require gradients\nParameter: the data is "
                f"{str(data.dtype).rpartition('.')[2]}. Pass requires_grad=False, or convert it: data.float()."
            )
        return fl.Tensor._make_subclass(cls, data, requires_grad)  # type: ignore[no-any-return]

    def __init__(self, data: Any = None, requires_grad: bool = True) -> None:
        pass

    def __repr__(self) -> str:  # type: ignore[override]
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        copy = type(self)(self.data.clone(), self.requires_grad)
        memo[id(self)] = copy
        return copy

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return _rebuild_parameter, (self.data, self.requires_grad, OrderedDict())


def _rebuild_parameter(data: Any, requires_grad: bool, backward_hooks: Any) -> Parameter:
    return Parameter(data, requires_grad)


class _BufferClass(type):
    """Makes any tensor that was marked by :class:`Buffer` an instance of it."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, fl.Tensor) and getattr(instance, "_is_buffer", False)


class Buffer(metaclass=_BufferClass):
    """``Buffer(data)`` is a tensor that a module registers as a buffer when it is assigned.

    Parameters
    ----------
    data : Tensor, optional
        The values, any shape and dtype.
    persistent : bool
        Whether the buffer is part of the module's ``state_dict()``.
    """

    def __new__(cls, data: Any = None, *, persistent: bool = True) -> Any:
        if data is None:
            data = fl.empty(0)
        t = data.detach().requires_grad_(data.requires_grad)
        t.persistent = persistent
        t._is_buffer = True
        return t


_NO_SHAPE = (
    "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in `load_state_dict` when trying to "
    "load an uninitialized parameter into an initialized one. Call `forward` to initialize the parameters before accessing their attributes."
)


class UninitializedTensorMixin:
    """What a tensor without a shape yet can do: be moved, and be given a shape."""

    __slots__ = ()
    cls_to_become: type

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Give it a shape; its values are arbitrary, and its class becomes the ordinary one."""
        old: Any = self
        old.data = fl.empty(shape, device=old.device if device is None else device, dtype=old.dtype if dtype is None else dtype)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]

    @property
    def shape(self) -> Any:
        """There is none yet."""
        raise RuntimeError(_NO_SHAPE)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        old: Any = self
        return type(self), (old.requires_grad,)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        old: Any = self
        if id(self) not in memo:
            memo[id(self)] = type(self)(old.requires_grad, old.device, old.dtype)  # type: ignore[call-arg]
        return memo[id(self)]


class UninitializedParameter(UninitializedTensorMixin, Parameter):  # type: ignore[misc]
    """A parameter whose shape is not known yet; a lazy module gives it one when it is first called."""

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        return fl.Tensor._make_subclass(cls, fl.empty(0, device=device, dtype=dtype), requires_grad)  # type: ignore[no-any-return]

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> None:
        pass


class UninitializedBuffer(UninitializedTensorMixin, fl.Tensor):  # type: ignore[misc]
    """A buffer whose shape is not known yet; a lazy module gives it one when it is first called."""

    __slots__ = ()
    cls_to_become = fl.Tensor

    def __new__(cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> UninitializedBuffer:
        return fl.Tensor._make_subclass(cls, fl.empty(0, device=device, dtype=dtype), requires_grad)  # type: ignore[no-any-return]

    def __init__(self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True) -> None:
        pass


def is_lazy(param: Any) -> bool:
    """Whether ``param`` has no shape yet."""
    return isinstance(param, UninitializedTensorMixin)
