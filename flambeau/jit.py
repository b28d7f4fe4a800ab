"""``torch.jit`` for scripts that use it to be faster: functions and modules stay what they are, as all that is recorded is fused and compiled anyway."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any

__all__ = ["Final", "annotate", "export", "freeze", "ignore", "is_scripting", "is_tracing", "isinstance", "load", "optimize_for_inference", "save",
           "script", "script_if_tracing", "script_method", "trace", "trace_module", "unused"]

Final = typing.Final


def script(obj: Any, optimize: Any = None, _frames_up: int = 0, _rcb: Any = None, example_inputs: Any = None) -> Any:
    """The function, class or module itself."""
    return obj


def trace(func: Any, example_inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The function or module itself: branches are taken by what it is called with, not by the example."""
    if not callable(func):
        raise TypeError(f"torch.jit.trace: expected a function or module, got {type(func).__name__}")
    return func


def trace_module(mod: Any, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
    """The module itself."""
    return mod


def freeze(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module itself; it must not be in training mode."""
    if mod.training:
        raise RuntimeError("Freezing is currently only implemented for modules in eval mode. Please call .eval() on your module before freezing.")
    return mod


def optimize_for_inference(mod: Any, *args: Any, **kwargs: Any) -> Any:
    """The module itself."""
    return mod


def ignore(drop: Any = False, **kwargs: Any) -> Any:
    """A decorator that changes nothing; with or without arguments."""
    return drop if callable(drop) else lambda fn: fn


def unused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that changes nothing."""
    return fn


export = script_method = script_if_tracing = unused


def annotate(the_type: Any, the_value: Any) -> Any:
    """The value."""
    return the_value


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether an object is of a type; of a container's type parameters nothing is asked."""
    kinds: Any = target_type if type(target_type) is tuple else (target_type,)
    return any(issubclass(type(obj), typing.get_origin(k) or k) for k in kinds)


def is_scripting() -> bool:
    """Whether the caller is being compiled: never, it is run."""
    return False


def is_tracing() -> bool:
    """Whether the caller is being traced: never, it is run."""
    return False


def save(m: Any, f: Any, _extra_files: Any = None) -> None:
    """Not supported: TorchScript archives hold compiled programs."""
    raise NotImplementedError("torch.jit.save: Flambeau writes no TorchScript archives. Save the parameters: torch.save(model.state_dict(), path).")


def load(f: Any, map_location: Any = None, _extra_files: Any = None, _restore_shapes: bool = False) -> Any:
    """Not supported: TorchScript archives hold compiled programs."""
    raise NotImplementedError("torch.jit.load: Flambeau reads no TorchScript archives. Save the model's state_dict() where PyTorch runs, and load that.")
