"""Data classes that are quick to define: the standard library's take 10 ms to import and half a millisecond each, which the first call would pay.

They have slots, ``__init__``, ``__repr__`` and, unless ``eq`` is false, equality by value; frozen ones can be hashed.  That nothing is
assigned to those is left to the type checker.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


class _Field:
    """A default that is made anew for every instance."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make


def field(*, default_factory: Callable[[], Any]) -> Any:
    """A field whose default is what ``default_factory()`` returns."""
    return _Field(default_factory)


@dataclass_transform(field_specifiers=(field,))
def dataclass(*, frozen: bool = False, eq: bool = True) -> Callable[[type[T]], type[T]]:
    """A class of the annotated names, those with a value being optional."""
    def make(cls: type[T]) -> type[T]:
        names = tuple(cls.__annotations__)
        space = {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}
        space["__slots__"] = names
        space["__init__"] = _init(names, {n: space.pop(n) for n in names if n in space})
        space["__repr__"] = _repr
        if eq:
            values = attrgetter(*names)

            def __eq__(self: T, other: object) -> bool:
                return values(self) == values(other) if self.__class__ is other.__class__ else NotImplemented

            def __hash__(self: T) -> int:
                return hash(values(self))
            space["__eq__"], space["__hash__"] = __eq__, __hash__ if frozen else None
        return type(cls.__name__, cls.__bases__, {**space, "__qualname__": cls.__qualname__})  # type: ignore[return-value]
    return make


def _init(names: tuple[str, ...], defaults: dict[str, Any]) -> Any:
    """A method that takes these names."""
    parameters = ", ".join([f"{n}=defaults[{n!r}]" if n in defaults else n for n in names])
    made = {n for n, value in defaults.items() if value.__class__ is _Field}
    lines = [f" self.{n} = {n}.make() if {n}.__class__ is Field else {n}\n" if n in made else f" self.{n} = {n}\n" for n in names]
    space = {"defaults": defaults, "Field": _Field}
    exec(f"def __init__(self, {parameters}):\n{''.join(lines)}", space)
    return space["__init__"]


def _repr(self: Any) -> str:
    return f"{self.__class__.__name__}({', '.join([f'{n}={getattr(self, n)!r}' for n in self.__slots__])})"


def replace(x: T, **changes: Any) -> T:
    """A copy with other values for some names."""
    return x.__class__(**{**{n: getattr(x, n) for n in x.__slots__}, **changes})  # type: ignore[attr-defined]
