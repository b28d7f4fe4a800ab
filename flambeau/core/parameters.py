"""The parameters of a function, read off its code object: the standard ``inspect`` takes longer to import than the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Parameter(NamedTuple):
    """One parameter: ``annotation`` and ``default`` are :data:`NOTHING` where there is none."""

    name: str
    annotation: Any
    default: Any
    keyword_only: bool


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


NOTHING: Any = _Nothing()


def parameters_of(fn: Callable[..., Any]) -> list[Parameter]:
    """The parameters of a plain Python function, in order; ``*args`` and ``**kwargs`` are left out."""
    code = fn.__code__
    positional = code.co_varnames[: code.co_argcount]
    only = code.co_varnames[code.co_argcount: code.co_argcount + code.co_kwonlyargcount]
    defaults = fn.__defaults__ or ()  # type: ignore[attr-defined]
    given = dict(zip(positional[len(positional) - len(defaults):], defaults, strict=True))
    given.update(fn.__kwdefaults__ or {})  # type: ignore[attr-defined]
    notes = fn.__annotations__
    return [Parameter(n, notes.get(n, NOTHING), given.get(n, NOTHING), i >= len(positional)) for i, n in enumerate(positional + only)]
