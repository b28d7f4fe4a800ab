"""Containers: modules and parameters in a sequence or by name."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, TypeVar

import flambeau as fl

from ..parameter import Parameter
from .module import Module, _indent, _type_name

S = TypeVar("S", bound="_Numbered")


def _position(index: Any, n: int, error: str) -> int:
    """``index`` counted from the front."""
    i = operator.index(index)
    if not -n <= i < n:
        raise IndexError(error.format(i))
    return i % n


class _Numbered(Module):
    """Modules registered under "0", "1", ...: the list's part of Sequential and ModuleList."""

    def _all(self) -> list[Any]:
        return list(self._modules.values())

    def _refill(self, modules: Iterable[Any]) -> None:
        modules = list(modules)
        self._modules.clear()
        for i, m in enumerate(modules):
            self._modules[str(i)] = m

    def _name(self, index: Any) -> str:
        return list(self._modules)[_position(index, len(self), "index {} is out of range")]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __setitem__(self, index: Any, module: Any) -> None:
        setattr(self, self._name(index), module)

    def append(self: S, module: Any) -> S:
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def pop(self, key: Any) -> Any:
        """Remove a module and return it."""
        m = self[key]
        del self[key]
        return m

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError

    def __delitem__(self, index: Any) -> None:
        raise NotImplementedError

    def __dir__(self) -> list[str]:
        return [n for n in super().__dir__() if not n.isdigit()]


class Sequential(_Numbered):
    """Calls modules one after the other, each with the result of the one before.

    Parameters
    ----------
    *args : Module, or one ordered dictionary of Modules
        The modules in order; from a dictionary they keep their names.

    Examples
    --------
    >>> import flambeau as torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> net(torch.ones(2, 3)).shape
    torch.Size([2, 4])
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        if len(args) == 1 and isinstance(args[0], OrderedDict):
            for name, m in args[0].items():
                self.add_module(name, m)
        else:
            for i, m in enumerate(args):
                self.add_module(str(i), m)

    def forward(self, input: Any) -> Any:
        modules: Any = self._modules
        for m in modules.values():
            input = m(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.__class__(OrderedDict(list(self._modules.items())[index]))
        return self._modules[self._name(index)]

    def __delitem__(self, index: Any) -> None:
        names = list(self._modules)[index] if isinstance(index, slice) else [self._name(index)]
        for n in names:
            delattr(self, n)
        self._refill(self._all())

    def __add__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)!s} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other: Any) -> Sequential:
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)!s} is given.")
        return self.extend(other)

    def __mul__(self, other: Any) -> Sequential:
        return Sequential(*self._times(other))

    __rmul__ = __mul__

    def __imul__(self, other: Any) -> Sequential:
        self._refill(self._times(other))
        return self

    def _times(self, n: Any) -> list[Any]:
        if not isinstance(n, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(n)}")
        if n <= 0:
            raise ValueError(f"Non-positive multiplication factor {n} for {type(self)}")
        return self._all() * n

    def insert(self, index: int, module: Any) -> Sequential:
        """Put a module before position ``index``."""
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        n = len(self)
        if not -n <= index <= n:
            raise IndexError(f"Index out of range: {index}")
        modules = self._all()
        modules.insert(index, module)
        self._refill(modules)
        return self

    def extend(self, sequential: Iterable[Any]) -> Sequential:
        """Add the modules of an iterable at the end."""
        for m in list(sequential):
            self.append(m)
        return self


class ModuleList(_Numbered):
    """A list of modules that are registered, so that their parameters are trained, moved and saved.

    Parameters
    ----------
    modules : iterable of Module, optional
        The modules in order.
    """

    def __init__(self, modules: Iterable[Any] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.__class__(self._all()[index])
        return self._modules[self._name(index)]

    def __delitem__(self, index: Any) -> None:
        modules = self._all()
        if isinstance(index, slice):
            del modules[index]
        else:
            del modules[_position(index, len(self), "index {} is out of range")]
        self._refill(modules)

    def __add__(self, other: Iterable[Any]) -> ModuleList:
        return ModuleList(chain(self, other))

    def __iadd__(self, modules: Iterable[Any]) -> ModuleList:
        return self.extend(modules)

    def insert(self, index: int, module: Any) -> None:
        """Put a module before position ``index``."""
        modules = self._all()
        modules.insert(index, module)
        self._refill(modules)

    def extend(self, modules: Iterable[Any]) -> ModuleList:
        """Add the modules of an iterable at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"ModuleList.extend should be called with an iterable, but got {type(modules).__name__}")
        for m in list(modules):
            self.append(m)
        return self

    def __repr__(self) -> str:
        """Like every module's, with runs of equal lines folded into one."""
        if not len(self):
            return f"{self._get_name()}()"
        runs: list[list[Any]] = []
        for i, text in enumerate(repr(m) for m in self):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        lines = [f"({a}): {_indent(text)}" if a == b else f"({a}-{b}): {b - a + 1} x {_indent(text)}" for a, b, text in runs]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class _Named:
    """What ModuleDict and ParameterDict share: filling from a mapping or from pairs."""

    def _pairs(self, given: Any, what: str) -> Iterator[tuple[str, Any]]:
        if not isinstance(given, Iterable):
            raise TypeError(f"{what}.update should be called with an iterable of key/value pairs, but got {type(given).__name__}")
        if isinstance(given, (Mapping, ModuleDict, ParameterDict)):
            yield from (sorted(given.items()) if what == "ParameterDict" and not isinstance(given, (OrderedDict, ParameterDict)) else given.items())
            return
        for i, pair in enumerate(given):
            if not isinstance(pair, Iterable):
                raise TypeError(f"{what} update sequence element #{i} should be Iterable; is{type(pair).__name__}")
            pair = list(pair)
            if len(pair) != 2:
                raise ValueError(f"{what} update sequence element #{i} has length {len(pair)}; 2 is required")
            yield pair[0], pair[1]


class ModuleDict(Module, _Named):
    """A dictionary of modules that are registered.

    Parameters
    ----------
    modules : mapping of str to Module, or iterable of pairs, optional
        The modules in order.
    """

    def __init__(self, modules: Any = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Any) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: object) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Remove everything."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Remove a module and return it."""
        return self._modules.pop(key)

    def keys(self) -> Any:
        """The names."""
        return self._modules.keys()

    def items(self) -> Any:
        """Pairs of name and module."""
        return self._modules.items()

    def values(self) -> Any:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Any) -> None:
        """Add the modules of a mapping or of an iterable of pairs, replacing those of the same name."""
        for name, m in self._pairs(modules, "ModuleDict"):
            self[name] = m


def _as_parameter(value: Any) -> Any:
    return Parameter(value) if isinstance(value, fl.Tensor) and not isinstance(value, Parameter) else value


def _described(value: Any) -> str:
    if not isinstance(value, fl.Tensor):
        return "Object of type: " + type(value).__name__
    size = "x".join(map(str, value.shape))
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    device = "" if value.device.type == "cpu" else f" ({value.device})"
    return f"{kind} containing: [{{}} of size {size}{device}]"


class ParameterList(Module):
    """A list whose tensors become registered parameters; other values are kept as they are.

    Parameters
    ----------
    values : iterable, optional
        The values in order.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def _at(self, index: Any) -> str:
        return str(_position(index, self._size, "index {} is out of range"))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            made = self.__class__()
            for i in range(*index.indices(len(self))):
                made.append(self[i])
            return made
        return getattr(self, self._at(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        setattr(self, self._at(index), _as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter(self[i] for i in range(len(self)))

    def __iadd__(self, values: Iterable[Any]) -> ParameterList:
        return self.extend(values)

    def __dir__(self) -> list[str]:
        return [n for n in super().__dir__() if not n.isdigit()]

    def append(self, value: Any) -> ParameterList:
        """Add a value at the end; a tensor becomes a parameter."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> ParameterList:
        """Add the values of an iterable at the end."""
        if not isinstance(values, Iterable) or isinstance(values, fl.Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for v in values:
            self.append(v)
        return self

    def extra_repr(self) -> str:
        return "\n".join(f"  ({i}): {_described(v).format(v.dtype if isinstance(v, fl.Tensor) else '')}" for i, v in enumerate(self))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module, _Named):
    """A dictionary whose tensors become registered parameters; other values are kept as they are.

    Parameters
    ----------
    parameters : mapping or iterable of pairs, optional
        The values by name.
    """

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    @staticmethod
    def _attribute(key: Any) -> str:
        if not isinstance(key, str):
            raise TypeError(
                f"Index given to ParameterDict cannot be used as a key as it is not a string (type is '{type(key).__name__}'). Open an "
                "issue "
                "on github if you need non-string keys."
            )
        return key

    def __getitem__(self, key: str) -> Any:
        return getattr(self, self._attribute(key))

    def __setitem__(self, key: str, value: Any) -> None:
        key = self._attribute(key)
        self._keys[key] = None
        setattr(self, key, _as_parameter(value))

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, self._attribute(key))

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._keys))

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._keys.keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Pairs of name and value."""
        return ((k, self[k]) for k in self._keys)

    def values(self) -> Iterable[Any]:
        """The values."""
        return (self[k] for k in self._keys)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, or ``default``."""
        return self.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of ``key``, which is set to ``default`` first if it is missing."""
        if key not in self:
            self[key] = default
        return self[key]

    def pop(self, key: str) -> Any:
        """Remove a value and return it."""
        value = self[key]
        del self[key]
        return value

    def popitem(self) -> tuple[str, Any]:
        """Remove the last pair and return it."""
        key, _ = self._keys.popitem()
        value = self[key]
        self._keys[key] = None
        del self[key]
        return key, value

    def clear(self) -> None:
        """Remove everything."""
        for k in list(self._keys):
            del self[k]

    def copy(self) -> ParameterDict:
        """A new dictionary of the same values."""
        return ParameterDict(OrderedDict((k, self[k]) for k in self._keys))

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A new dictionary with ``default`` for each key."""
        return ParameterDict((k, default) for k in keys)

    def update(self, parameters: Any) -> None:
        """Add the values of a mapping or of an iterable of pairs, replacing those of the same name."""
        for k, v in self._pairs(parameters, "ParameterDict"):
            self[k] = v

    def extra_repr(self) -> str:
        return "\n".join(f"  ({k}): {_described(v).format(_type_name(v))}" for k, v in self.items())

    def __call__(self, input: Any) -> Any:  # type: ignore[override]
        raise RuntimeError("ParameterDict should not be called.")

    def __or__(self, other: Any) -> ParameterDict:
        made = self.copy()
        made.update(other)
        return made

    def __ror__(self, other: Any) -> ParameterDict:
        made = other.copy()
        made.update(self)
        return made

    def __ior__(self, other: Any) -> ParameterDict:
        self.update(other)
        return self
