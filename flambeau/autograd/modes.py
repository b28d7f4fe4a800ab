"""Switches of gradient recording: ``no_grad`` and its relatives, as context managers and decorators."""

from __future__ import annotations

import functools
from typing import Any

from ..ops import definition
from ..ops.definition import SAVED_HOOKS
from ..stream import record
from ..stream.record import Buffer, acquire, other_threads, release
from .graph import MODE

_GENERATOR = 0x20     # the flag of a generator function's code


class _Switch:
    """Sets the gradient mode in a block or a function; may be used bare as a decorator."""

    value = False

    outside: Any = None         # the modes around the blocks that this switch is open in: (around the innermost, around the others)

    def __new__(cls, orig_func: Any = None) -> Any:
        made = object.__new__(cls)
        return made if orig_func is None else made(orig_func)

    def __enter__(self) -> None:
        self.outside = MODE.grad, self.outside
        MODE.grad = self.value and not MODE.inference       # in inference mode nothing is recorded, whatever is asked

    def __exit__(self, *exc: object) -> None:
        MODE.grad, self.outside = self.outside

    def clone(self) -> _Switch:
        """A new switch of the same setting."""
        return type(self)()

    def __call__(self, fn: Any) -> Any:
        if isinstance(fn, type):
            fn.__init__ = self(fn.__init__)  # type: ignore[misc]  # a class given to the decorator
            return fn
        if getattr(getattr(fn, "__code__", None), "co_flags", 0) & _GENERATOR:
            @functools.wraps(fn)
            def generator(*args: Any, **kwargs: Any) -> Any:
                g = fn(*args, **kwargs)
                try:
                    with self.clone():
                        value = next(g)
                    while True:
                        try:
                            sent = yield value
                        except GeneratorExit:
                            g.close()
                            raise
                        except BaseException as error:
                            with self.clone():
                                value = g.throw(error)
                        else:
                            with self.clone():
                                value = g.send(sent)
                except StopIteration as stop:
                    return stop.value

            return generator

        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.clone():
                return fn(*args, **kwargs)

        return wrapped


class no_grad(_Switch):
    """Operations are not recorded for differentiation."""


class enable_grad(_Switch):
    """Operations are recorded, also inside :class:`no_grad`."""

    value = True


class set_grad_enabled(_Switch):
    """Recording on or off; takes effect at once, and until the end of the block when used as a context manager."""

    before: bool

    def __new__(cls, mode: bool) -> Any:
        made = object.__new__(cls)
        made.value = bool(mode)
        made.before = MODE.grad
        MODE.grad = made.value and not MODE.inference
        return made

    def __enter__(self) -> None:
        super().__enter__()
        self.outside = self.before, self.outside[1]

    def clone(self) -> _Switch:
        """A new switch of the same setting."""
        return set_grad_enabled(self.value)

    def __call__(self, fn: Any) -> Any:
        MODE.grad = self.before
        return super().__call__(fn)


def _marked() -> Any:
    """A new buffer while some thread is in inference mode: takes the place of the class ``Buffer`` for so long."""
    b = Buffer()
    mark = MODE.inference
    if mark:
        b.inference = mark
    return b


_uses = [0]     # of inference mode that have not ended, in all threads


class inference_mode(_Switch):
    """``no_grad`` whose results can never take part in differentiation: they have no version, and outside of it they cannot be changed in place."""

    mode = True

    def __new__(cls, mode: Any = True) -> Any:
        made = object.__new__(cls)
        if callable(mode) and not isinstance(mode, bool):
            return made(mode)
        made.mode = mode
        return made

    def __enter__(self) -> None:
        mode = self.mode
        self.outside = (MODE.grad, MODE.inference), self.outside
        MODE.grad = not mode
        MODE.inference = definition.MARK if mode else False
        if mode:
            self._count(1)
            if None not in SAVED_HOOKS:
                SAVED_HOOKS.insert(0, None)

    def __exit__(self, *exc: object) -> None:
        (MODE.grad, MODE.inference), self.outside = self.outside
        if self.mode:
            self._count(-1)
            definition.stop_looking()

    def _count(self, change: int) -> None:
        shared = other_threads()
        if shared:
            acquire()
        _uses[0] += change
        record.Buffer = definition.Buffer = _marked if _uses[0] else Buffer  # type: ignore[assignment,misc]
        if shared:
            release()

    def clone(self) -> _Switch:
        """A new switch of the same setting."""
        return inference_mode(self.mode)


def is_grad_enabled() -> bool:
    """Whether operations are recorded now, in this thread."""
    return MODE.grad


def is_inference_mode_enabled() -> bool:
    """Whether inference mode is on, in this thread."""
    return bool(MODE.inference)
