"""Hooks: what a module calls around its ``forward`` and around its part of the backward pass.

A module that has hooks leaves the fast path of ``Module.__call__`` and is called through :func:`call_with_hooks`.  Hooks live
in ordered dictionaries keyed by a handle's number, as code written for PyTorch expects to find them.
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import flambeau as fl

# every dictionary of hooks that a module may own; the first group is looked at by calls
CALL_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
STATE_HOOKS = ("_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
HOOKS = frozenset(CALL_HOOKS + STATE_HOOKS)

# hooks that apply to every module
_global_forward_pre_hooks: dict[int, Callable[..., Any]] = OrderedDict()
_global_forward_hooks: dict[int, Callable[..., Any]] = OrderedDict()
_global_forward_hooks_always_called: dict[int, bool] = OrderedDict()
_global_forward_hooks_with_kwargs: dict[int, bool] = OrderedDict()
_global_backward_pre_hooks: dict[int, Callable[..., Any]] = OrderedDict()
_global_backward_hooks: dict[int, Callable[..., Any]] = OrderedDict()


class RemovableHandle:
    """Returned by the registering methods; ``remove()`` or the end of a ``with`` block takes the hook out."""

    _numbers = itertools.count()

    def __init__(self, hooks: Any, *, extra_dict: Any = None) -> None:
        self.id = next(RemovableHandle._numbers)
        # weak, so that a kept handle does not keep the module
        self._dictionaries = [weakref.ref(d) for d in (hooks, *(extra_dict if isinstance(extra_dict, (list, tuple)) else (extra_dict,))) if d is not None]

    def __getstate__(self) -> Any:
        # a copy of a module comes with handles of its own hooks
        return [ref() for ref in self._dictionaries], self.id

    def __setstate__(self, state: Any) -> None:
        dictionaries, self.id = state
        self._dictionaries = [weakref.ref(d) for d in dictionaries if d is not None]

    def remove(self) -> None:
        """Take the hook out; harmless when done twice."""
        for ref in self._dictionaries:
            d = ref()
            if d is not None:
                d.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def register(hooks: Any, hook: Callable[..., Any], *, prepend: bool = False, marks: Any = ()) -> RemovableHandle:
    """Put ``hook`` into ``hooks`` under a new handle's number, and that number into each dictionary of ``marks``."""
    handle = RemovableHandle(hooks, extra_dict=marks)
    hooks[handle.id] = hook
    for m in marks:
        m[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def call_with_hooks(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """``module.forward`` with all hooks around it, in PyTorch's order."""
    called: set[int] = set()
    try:
        return _call(module, args, kwargs, called)
    except Exception:
        _run_always(module, args, kwargs, called)
        raise


def _call(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], called: set[int]) -> Any:
    own = module.__dict__
    for key, hook in [*_global_forward_pre_hooks.items(), *own.get("_forward_pre_hooks", {}).items()]:
        if key in own.get("_forward_pre_hooks_with_kwargs", {}):
            result = hook(module, args, kwargs)
            if result is not None:
                if not (isinstance(result, tuple) and len(result) == 2):
                    raise RuntimeError(f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got {result}.")
                args, kwargs = result
        else:
            result = hook(module, args)
            if result is not None:
                args = result if isinstance(result, tuple) else (result,)

    backward = _BackwardHooks.of(module)
    if backward is not None:
        args = backward.watch_inputs(args)
    result = module.forward(*args, **kwargs)
    for key, hook in [*_global_forward_hooks.items(), *own.get("_forward_hooks", {}).items()]:
        if key in own.get("_forward_hooks_always_called", {}) or key in _global_forward_hooks_always_called:
            called.add(key)
        changed = _run(hook, key, module, args, kwargs, result)
        if changed is not None:
            result = changed
    if backward is not None:
        if not isinstance(result, (fl.Tensor, tuple)):
            warnings.warn(
                f"For backward hooks to be called, module output should be a Tensor or a tuple of Tensors but received {type(result)}",
                stacklevel=4,
            )
        result = backward.watch_outputs(result)
    return result


def _run(hook: Callable[..., Any], key: int, module: Any, args: Any, kwargs: Any, result: Any) -> Any:
    if key in module.__dict__.get("_forward_hooks_with_kwargs", {}) or key in _global_forward_hooks_with_kwargs:
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


def _run_always(module: Any, args: Any, kwargs: Any, called: set[int]) -> None:
    """After an exception: the hooks registered with ``always_call`` that have not run, with None for the result."""
    own = module.__dict__
    for key, hook in [*_global_forward_hooks.items(), *own.get("_forward_hooks", {}).items()]:
        always = key in own.get("_forward_hooks_always_called", {}) or key in _global_forward_hooks_always_called
        if not always or key in called:
            continue
        try:
            _run(hook, key, module, args, kwargs, None)
        except Exception as e:
            warnings.warn(
                f"global module forward hook with ``always_call=True`` raised an exception that was silenced as another error was raised in forward: {e!s}"
                if key in _global_forward_hooks
                else f"module forward hook with ``always_call=True`` raised an exception that was silenced as another error was raised in forward: {e!s}",
                stacklevel=4,
            )


def _watch(tensors: list[Any], on_gradients: Callable[[tuple[Any, ...]], Any]) -> list[Any]:
    """Pass ``tensors`` through one graph node whose backward hands all their gradients to ``on_gradients``."""
    global _Passage
    if _Passage is None:

        class Passage(fl.autograd.Function):
            """The identity on any number of tensors, with a function of the user's on the way back."""

            @staticmethod
            def forward(ctx: Any, on_gradients: Any, *inputs: Any) -> Any:
                ctx.on_gradients = on_gradients
                ctx.set_materialize_grads(False)
                return tuple(x.view_as(x) for x in inputs)

            @staticmethod
            def backward(ctx: Any, *grads: Any) -> Any:
                return (None, *ctx.on_gradients(grads))

        Passage.__name__ = Passage.__qualname__ = "BackwardHookFunction"
        _Passage = Passage
    out = _Passage.apply(on_gradients, *tensors)
    return list(out) if isinstance(out, tuple) else [out]


_Passage: Any = None


class _BackwardHooks:
    """The full backward hooks of one call: collects the gradients of its outputs, then of its inputs, and runs the hooks."""

    def __init__(self, module: Any, pre: list[Any], post: list[Any]) -> None:
        self.module, self.pre, self.post = module, pre, post
        self.grad_outputs: tuple[Any, ...] | None = None
        self.watched = False  # some input requires a gradient

    @classmethod
    def of(cls, module: Any) -> _BackwardHooks | None:
        own = module.__dict__
        pre = [*_global_backward_pre_hooks.values(), *own.get("_backward_pre_hooks", {}).values()]
        post = [*_global_backward_hooks.values(), *own.get("_backward_hooks", {}).values()]
        return cls(module, pre, post) if pre or post else None

    def _through(self, values: tuple[Any, ...], on_gradients: Any) -> tuple[tuple[Any, ...], bool]:
        places = [i for i, v in enumerate(values) if isinstance(v, fl.Tensor)]
        if not (fl.is_grad_enabled() and any(values[i].requires_grad for i in places)):
            return values, False
        out = list(values)
        n = len(values)

        def collect(grads: tuple[Any, ...]) -> Any:
            full: list[Any] = [None] * n
            for i, g in zip(places, grads, strict=True):
                full[i] = g
            r = on_gradients(tuple(full))
            return [r[i] for i in places]

        for i, t in zip(places, _watch([values[i] for i in places], collect), strict=True):
            out[i] = t
        return tuple(out), True

    def watch_inputs(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        self.inputs = len(args)
        args, self.watched = self._through(args, self._at_inputs)
        return args

    def watch_outputs(self, result: Any) -> Any:
        single = not isinstance(result, tuple)
        if single and not isinstance(result, fl.Tensor):
            return result
        out, _ = self._through((result,) if single else result, self._at_outputs)
        return out[0] if single else out

    def _at_outputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.pre:
            r = hook(self.module, grads)
            if r is not None:
                r = r if isinstance(r, tuple) else (r,)
                if len(r) != len(grads):
                    raise RuntimeError(f"Backward pre hook returned an invalid number of grad_output, got {len(r)}, but expected {len(grads)}")
                grads = r
        self.grad_outputs = grads
        if not self.watched:
            for hook in self.post:
                if hook(self.module, (None,) * self.inputs, grads) is not None:
                    raise RuntimeError("Backward hook for Modules where no input requires gradient should always return None or None for all gradients.")
        return grads

    def _at_inputs(self, grads: tuple[Any, ...]) -> tuple[Any, ...]:
        for hook in self.post:
            r = hook(self.module, grads, self.grad_outputs)
            if r is not None:
                r = r if isinstance(r, tuple) else (r,)
                if len(r) != len(grads):
                    raise RuntimeError(f"Backward hook returned an invalid number of grad_input, got {len(r)}, but expected {len(grads)}")
                grads = r
        return grads


def _register_global(hooks: Any, hook: Callable[..., Any], marks: Any = ()) -> RemovableHandle:
    from .module import Module

    Module._hooked = True
    return register(hooks, hook, marks=marks)


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, args)`` before every module's forward."""
    return _register_global(_global_forward_pre_hooks, hook)


def register_module_forward_hook(hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False) -> RemovableHandle:
    """Call ``hook(module, args, output)`` after every module's forward."""
    marks = [d for d, wanted in ((_global_forward_hooks_with_kwargs, with_kwargs), (_global_forward_hooks_always_called, always_call)) if wanted]
    return _register_global(_global_forward_hooks, hook, marks)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_output)`` before every module's backward."""
    return _register_global(_global_backward_pre_hooks, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(module, grad_input, grad_output)`` after every module's backward."""
    return _register_global(_global_backward_hooks, hook)
