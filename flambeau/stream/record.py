"""The pending stream: recorded calls in program order, over numbered buffers.

A call is a :class:`Signature` (interned: operation, parameters, metadata) followed by the slot numbers of its operands; its
results take the next slot numbers.  Together they are the structural key under which ``flush`` finds a plan.  Python
numbers travel in ``SCALARS`` and are not part of the key.  Everything here is guarded by ``LOCK`` as soon as
a second thread runs.
"""

from __future__ import annotations

import _thread
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..core import config
from ..core.errors import TraceError
from ..core.shape import Meta

KEY: list[Any] = []             # signature, slot, slot, signature, ...
BUFFERS: list[Buffer] = []      # slot -> buffer
SCALARS: list[Any] = []         # run-time scalars in program order
ORIGINS: list[tuple[int, Any]] = []   # (position in KEY, user frame) of the calls that may fail while they execute
LOCK = _thread.RLock()
acquire, release = LOCK.acquire, LOCK.release
# Taking the lock costs a fifth of a recorded call, so it is taken only when other threads run: none can start while this
# one, the only one, is recording.
other_threads = _thread._count
LIMIT = [0 if config.eager else config.instruction_limit]    # length of KEY from which a call looks whether to flush
tick = itertools.count(1).__next__    # one clock for graph nodes and in-place writes
_new = object.__new__


class _BufferDefaults:
    """What few buffers have: kept off the instances, so that making one stays cheap."""

    __slots__ = ()
    unusual: bool = False                     # one of the next two was set: what binding asks of every buffer
    error: BaseException | None = None        # why its contents do not exist
    exposed: int = 0                          # outside references to its memory
    owner: Any = None                         # keeps foreign memory alive
    views: list[Any] | None = None            # weak references to differentiable views
    inference: Any = False                    # the use of inference mode in which it was made
    device_error: str | None = None


class Buffer(_BufferDefaults):
    """Storage.  ``slot``: its number in the pending stream, or None; ``ptr``: its address, 0 while it has no memory.

    Made by ``Buffer()``, which is cheaper than ``object.__new__``; whoever makes one sets ``slot``, ``ptr``, ``wrote`` and ``versions``.
    """

    __slots__ = ("__dict__", "nbytes", "pool", "ptr", "slot", "versions", "wrote")

    slot: int | None
    ptr: int
    wrote: int               # tick of the last in-place write
    versions: int            # in-place writes so far, for ``_version``
    nbytes: int
    pool: list[int]


class Owned(Buffer):
    """A buffer with memory of the caching allocator, which gets it back."""

    __slots__ = ()

    def __del__(self) -> None:
        self.pool.append(self.ptr)


class Signature:
    """A call without its buffers; identity is equality."""

    __slots__ = ("__weakref__", "checks", "grad", "ins", "kinds", "large", "lower", "name", "out", "outs", "params", "scalars", "stable", "writes")

    name: str
    ins: tuple[Any, ...]                # metadata of the operands that take a slot
    outs: tuple[Meta, ...]              # metadata of the fresh results
    out: Any                            # the first of them; None if there are none
    scalars: str                        # one letter per run-time scalar: d (double) or q (int64)
    writes: tuple[int, ...]             # operands that are written
    lower: Callable[..., list[Any]]     # (signature, slots in, slots out, first scalar, new slot) -> program steps
    grad: Any                           # how to differentiate it, or None
    large: int                          # bytes of the results when that is worth counting, else 0
    checks: bool                        # may fail while it executes
    params: Any
    kinds: Any
    stable: Any                         # a value-based description: the key of plans on disk; None: not to be stored


LARGE = 1 << 20


def signature(name: str, ins: Sequence[Any], outs: Sequence[Meta], lower: Callable[..., list[Any]], scalars: str = "",
              writes: tuple[int, ...] = (), checks: bool = False, grad: Any = None, params: Any = None, stable: Any = None) -> Signature:
    """A new signature; the caller keeps it in the cache that makes it unique."""
    s = _new(Signature)
    s.name, s.ins, s.outs, s.lower, s.scalars, s.writes, s.checks, s.grad = name, tuple(ins), tuple(outs), lower, scalars, writes, checks, grad
    s.params = params
    s.out = s.outs[0] if s.outs else None
    s.kinds = None
    s.stable = stable
    total = sum(m.numel * m.dtype.itemsize for m in outs)
    s.large = total if total >= LARGE else 0
    return s


class _State:
    __slots__ = ("barrier", "bytes", "tracing")

    def __init__(self) -> None:
        self.barrier = False        # an exposed buffer is in the stream: flush when the call is complete
        self.bytes = 0              # of large pending results
        self.tracing: Any = None    # the composite being traced


STATE = _State()


def traced() -> Any:
    """The composite that this thread is tracing, or None: another thread's tracing is none of its business."""
    return STATE.tracing if STATE.tracing is not None and LOCK._is_owned() else None  # type: ignore[attr-defined]


after_record: Callable[[], None] = lambda: None      # set by flush.py


def new_buffer() -> Buffer:
    """A buffer without memory or slot."""
    b = Buffer()
    b.slot = None
    b.ptr = b.wrote = b.versions = 0
    return b


def bind(b: Buffer) -> int:
    """Give a buffer that is not in the stream its slot."""
    if b.unusual or STATE.tracing is not None:
        if b.error is not None:
            _release_unused()
            raise failed(b.error)
        if STATE.tracing is not None and not STATE.tracing.accepts(b):
            raise TraceError("a composite may only use its arguments: it was traced over a tensor from outside")
        if b.exposed and is_exposed(b):
            STATE.barrier = True
            LIMIT[0] = 0
    s = b.slot = len(BUFFERS)
    BUFFERS.append(b)
    return s


def holders(x: Any) -> int:
    """How many references there are to ``x``, not counting the caller's own variable."""
    return sys.getrefcount(x) - _UNCOUNTED


def _measure() -> int:
    x = object()
    return holders(x)


_UNCOUNTED = 0
_UNCOUNTED = _measure()       # what the calls themselves add differs between versions of Python


def _measure_own() -> int:
    x = object()
    return sys.getrefcount(x)


OWN = _measure_own()          # what getrefcount(x) says of an object that nothing but the variable ``x`` holds


def is_exposed(b: Buffer) -> bool:
    """Whether anybody outside can still reach the buffer's memory.

    A NumPy array that was shared with us is out of reach once nothing but the buffer holds it; an owner of another kind
    counts as reachable for as long as the buffer lives.
    """
    if b.exposed > 1 or b.owner is None:
        return True
    owner = b.owner
    while type(owner).__module__ == "numpy":
        if holders(owner) > 1:
            return True
        owner = owner.base
        if owner is None:
            b.exposed = 0
            return False
    return True


def _release_unused() -> None:
    """Undo the binding of operands of a call that is not going to be recorded: every slot is in the key or was made by it."""
    used = i = 0
    while i < len(KEY):
        sig = KEY[i]
        n = len(sig.ins)
        used = max([used, *[s + 1 for s in KEY[i + 1: i + 1 + n]]]) + len(sig.outs)
        i += 1 + n
    for b in BUFFERS[used:]:
        b.slot = None
    del BUFFERS[used:]


def failed(error: BaseException) -> BaseException:
    """The error of a buffer whose contents could not be computed, to be raised again: a copy, so that it holds on to no frame."""
    if error in THREAD.errors:
        THREAD.errors.remove(error)
        ELSEWHERE.pop()
    try:
        return type(error)(*error.args)
    except Exception:       # a class with arguments of its own
        return error.with_traceback(None)


def append(sig: Signature, operands: Sequence[Buffer], scalars: Sequence[Any] = ()) -> list[Buffer]:
    """Record one call of any arity; returns the fresh buffers."""
    shared = other_threads()
    if shared:
        acquire()
    try:
        words: list[Any] = [sig]
        tracing = STATE.tracing
        for b in operands:
            s = b.slot
            if s is None:
                if tracing is not None or b.unusual:
                    s = bind(b)
                else:       # what bind() does with the usual ones
                    s = b.slot = len(BUFFERS)
                    BUFFERS.append(b)
            words.append(s)
        if sig.checks:
            ORIGINS.append((len(KEY), user_frame()))
        KEY.extend(words)
        if scalars:
            SCALARS.extend(scalars)
        fresh = []
        for _ in sig.outs:
            b = Buffer()
            b.slot = len(BUFFERS)
            b.ptr = b.wrote = b.versions = 0
            BUFFERS.append(b)
            fresh.append(b)
        if sig.writes:
            t = tick()
            for i in sig.writes:
                b = operands[i]
                b.wrote = t
                b.versions += 1
        if sig.large:
            STATE.bytes += sig.large
            if STATE.bytes > config.pending_bytes:
                LIMIT[0] = 0
        if len(KEY) >= LIMIT[0]:
            after_record()
        return fresh
    finally:
        if shared:
            release()


if hasattr(os, "register_at_fork"):
    # the child gets the stream as it stands between two calls, and a lock that nobody holds
    os.register_at_fork(before=acquire, after_in_parent=release, after_in_child=release)

_PACKAGE = __name__.partition(".")[0]


class _Thread(_thread._local):
    """What belongs to one thread."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []       # of its calls, found by a flush of another thread


THREAD = _Thread()
ELSEWHERE: list[None] = []          # one for every error that waits for its thread


def user_frame() -> tuple[str, int, str, list[BaseException]]:
    """File, line and function of the nearest caller outside the package, and where this thread's errors go."""
    f = sys._getframe(1)
    while f is not None:
        name = f.f_globals.get("__name__", "")
        if not (name == _PACKAGE or name.startswith(_PACKAGE + ".")) or f.f_globals.get("__flambeau_user__"):
            return f.f_code.co_filename, f.f_lineno, f.f_code.co_name, THREAD.errors
        f = f.f_back  # type: ignore[assignment]
    return "?", 0, "?", THREAD.errors
