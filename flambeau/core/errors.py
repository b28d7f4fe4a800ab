"""Exceptions of Flambeau's own, and small helpers that word messages.

Errors that PyTorch also raises keep PyTorch's type; these classes exist for what PyTorch has no name for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any


class TraceError(RuntimeError):
    """The body of a composite looked at values, which do not exist while it is traced."""


NO_VALUE = "the tensor belongs to a composite that was being traced: it never has a value"


class LinAlgError(RuntimeError):
    """A matrix does not admit the computation: it is singular, not positive-definite, or an iteration did not converge."""


class MissingName(AttributeError):
    """A name of PyTorch's that Flambeau does not have."""


def no_tensor(error: AttributeError, name: str, names: Sequence[str], values: Sequence[object]) -> Exception:
    """The error for a call of ``name`` whose ``error`` was that an argument is no tensor; other errors stay what they are."""
    for i, v in enumerate(values):
        if v is error.obj and not hasattr(v, "_meta"):
            word = names[min(i, len(names) - 1)]
            return TypeError(f"{name}(): argument '{word}' (position {i + 1}) must be Tensor, not {type_name(v)}\n"
                             f"{name}: convert it first, for example with torch.as_tensor(data).")
        if isinstance(v, (list, tuple)):
            for k, x in enumerate(v):
                if x is error.obj and not hasattr(x, "_meta"):
                    return TypeError(f"{name}(): expected Tensor as element {k} in argument {i}, but got {type_name(x)}")
    return error


def takes_tensors(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Make ``fn`` refuse what is no tensor with a TypeError that names the argument; a call that is right pays a frame."""
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount] or ("tensors",)

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        except AttributeError as error:
            raise no_tensor(error, fn.__name__, (*names[: len(args)], *kwargs), (*args, *kwargs.values())) from None

    return call


def type_name(x: object) -> str:
    """The name of ``x``'s class as users know it."""
    return "Tensor" if hasattr(x, "_meta") else type(x).__name__
