"""The pending stream: recorded calls in program order.

A call is a :class:`Signature` (interned: operation, parameters, metadata) in ``CALLS``, and in ``OPERANDS`` its operands followed by its
results.  Nothing else happens when a call is recorded: ``flush`` numbers the buffers in order of appearance, and the signatures with
these numbers are the structural key under which it finds a plan.  Python numbers travel in ``SCALARS`` and are not part of the key.
Everything here is guarded by ``LOCK`` as soon as a second thread runs.
"""

from __future__ import annotations

import _thread
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from operator import is_, itemgetter
from typing import Any

from ..core import config
from ..core.errors import TraceError
from ..core.shape import Meta

CALLS: list[Signature] = []
OPERANDS: list[Buffer] = []     # of every call what it takes, then what it makes
SCALARS: list[Any] = []         # run-time scalars in program order
ORIGINS: list[tuple[int, Any]] = []   # (place in CALLS, ``user_frame()``) of the calls that may fail while they execute
UNUSUAL: set[int] = set()       # the ids of buffers that a call must look at before it takes them (0: at all, a composite is traced)
LOCK = _thread.RLock()
acquire, release = LOCK.acquire, LOCK.release
# Taking the lock costs a fifth of a recorded call, so it is taken only when other threads run: none can start while this
# one, the only one, is recording.
other_threads = _thread._count
LIMIT = [0 if config.eager else config.instruction_limit]    # length of OPERANDS from which a call looks whether to flush
tick = itertools.count(1).__next__    # one clock for graph nodes and in-place writes
_new = object.__new__


class _BufferDefaults:
    """What few buffers have: kept off the instances, so that making one stays cheap."""

    __slots__ = ()
    wrote: int = 0                            # tick of the last in-place write
    versions: int = 0                         # in-place writes so far, for ``_version``
    unusual: bool = False                     # one of the next two was set, see ``watch``
    error: BaseException | None = None        # why its contents do not exist
    exposed: int = 0                          # outside references to its memory
    owner: Any = None                         # keeps foreign memory alive
    views: list[Any] | None = None            # weak references to differentiable views
    inference: Any = False                    # the use of inference mode in which it was made
    device_error: str | None = None


class Buffer(_BufferDefaults):
    """Storage.  ``ptr``: its address, 0 while it has no memory.

    Made by ``Buffer()``, which is cheaper than ``object.__new__``; whoever makes one sets ``ptr``.
    """

    __slots__ = ("__dict__", "nbytes", "pool", "ptr")

    ptr: int
    nbytes: int
    pool: list[int]


class Owned(Buffer):
    """A buffer with memory of the caching allocator, which gets it back."""

    __slots__ = ()

    def __del__(self) -> None:
        self.pool.append(self.ptr)


class Watched(Buffer):
    """A buffer that calls look at before they take it; its memory is foreign, or it has none."""

    __slots__ = ()
    unusual = True

    def __del__(self) -> None:
        UNUSUAL.discard(id(self))


class WatchedOwned(Owned):
    """The same with memory of the caching allocator."""

    __slots__ = ()
    unusual = True

    def __del__(self) -> None:
        UNUSUAL.discard(id(self))
        self.pool.append(self.ptr)


_Plain = Buffer     # the name is another's in inference mode


def watch(b: Buffer) -> None:
    """Have calls look at a buffer: its memory is shared with the outside, or its contents do not exist."""
    if not b.unusual:
        b.__class__ = WatchedOwned if b.__class__ is Owned else Watched
        UNUSUAL.add(id(b))


def unwatch(b: Buffer) -> None:
    """Take a buffer for a usual one again."""
    if b.unusual:
        b.__class__ = Owned if b.__class__ is WatchedOwned else _Plain
        UNUSUAL.discard(id(b))


class Signature:
    """A call without its buffers; identity is equality."""

    __slots__ = (
        "__weakref__", "anywhere", "checks", "grad", "ins", "kinds", "large", "lower", "name", "out", "outs", "params", "scalars", "stable", "writes",
    )

    name: str
    ins: tuple[Any, ...]                # metadata of the operands that take a slot
    outs: tuple[Meta, ...]              # metadata of the fresh results
    out: Any                            # the first of them; None if there are none
    scalars: str                        # one letter per run-time scalar: d (double) or q (int64)
    writes: tuple[int, ...]             # operands that are written
    anywhere: tuple[int, ...]           # operands that are reached at a place which is a run-time number
    lower: Callable[..., list[Any]]     # (signature, slots in, slots out, first scalar, new slot) -> program steps
    grad: Any                           # how to differentiate it, or None
    large: int                          # bytes of the results when that is worth counting, else 0
    checks: bool                        # may fail while it executes
    params: Any
    kinds: Any
    stable: Any                         # a value-based description: the key of plans on disk; None: not to be stored


LARGE = 1 << 20


def signature(name: str, ins: Sequence[Any], outs: Sequence[Meta], lower: Callable[..., list[Any]], scalars: str = "",
              writes: tuple[int, ...] = (), checks: bool = False, grad: Any = None, params: Any = None, stable: Any = None,
              anywhere: tuple[int, ...] = ()) -> Signature:
    """A new signature; the caller keeps it in the cache that makes it unique."""
    s = _new(Signature)
    s.name, s.ins, s.outs, s.lower, s.scalars, s.writes, s.checks, s.grad = name, tuple(ins), tuple(outs), lower, scalars, writes, checks, grad
    s.params, s.anywhere = params, anywhere
    s.out = s.outs[0] if s.outs else None
    s.kinds = None
    s.stable = stable
    total = sum(m.numel * m.dtype.itemsize for m in outs)
    s.large = total if total >= LARGE else 0
    return s


class _State:
    __slots__ = ("barrier", "bytes", "flushed", "flushes", "tracing", "written")

    def __init__(self) -> None:
        self.barrier = False        # an exposed buffer is in the stream: flush when the call is complete
        self.bytes = 0              # of large pending results
        self.tracing: Any = None    # the composite being traced
        self.flushes = 0            # so far
        self.flushed = 0            # when the last was
        self.written = 0            # when the last in-place write was recorded


STATE = _State()


def traced() -> Any:
    """The composite that this thread is tracing, or None: another thread's tracing is none of its business."""
    return STATE.tracing if STATE.tracing is not None and LOCK._is_owned() else None  # type: ignore[attr-defined]


after_record: Callable[[], None] = lambda: None      # set by flush.py


def new_buffer() -> Buffer:
    """A buffer without memory."""
    b = Buffer()
    b.ptr = 0
    return b


def look(operands: Sequence[Buffer]) -> None:
    """Before a call takes these buffers: raise where one has no contents, flush after the call where one is shared with the outside."""
    if STATE.tracing is not None:
        for b in operands:
            if id(b) not in STATE.tracing.symbols and not among(b):
                raise TraceError("a composite may only use its arguments: it was traced over a tensor from outside")
    if UNUSUAL.isdisjoint(map(id, operands)):
        return
    shared = False
    for b in operands:
        if b.unusual:
            if b.error is not None:
                raise failed(b.error)
            if b.exposed and is_exposed(b):
                shared = True
            elif not b.exposed:
                unwatch(b)
    if shared:
        STATE.barrier = True
        LIMIT[0] = 0


def among(b: Buffer) -> bool:
    """Whether a pending call takes or makes the buffer."""
    return any(map(is_, OPERANDS, repeat(b)))


def pending(b: Buffer) -> bool:
    """Whether a recorded call is still to make, to write or to read the buffer's contents."""
    return not b.ptr or (bool(CALLS) and among(b))


def unwritten(b: Buffer) -> bool:
    """Whether the buffer's contents are not what they will be, or may not be; calls that only read it do not count."""
    return not b.ptr or (STATE.written > STATE.flushed and bool(CALLS) and among(b))


def unshared(b: Buffer) -> bool:
    """Whether nothing but the stream, one tensor and the caller's variable hold the buffer."""
    others = sys.getrefcount(b) - HANDED - 1
    # a fresh result is in the stream once; more than one reference may be calls that read it
    return others <= (not b.ptr) or others == sum(map(is_, OPERANDS, repeat(b)))


def holders(x: Any) -> int:
    """How many references there are to ``x``, not counting the caller's own variable."""
    return sys.getrefcount(x) - HANDED


def _measure() -> int:
    x = object()
    return holders(x)


HANDED = 0
HANDED = _measure()     # what getrefcount(x) says of an argument that nothing but a variable of the caller holds: it differs between versions of Python


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


def failed(error: BaseException) -> BaseException:
    """The error of a buffer whose contents could not be computed, to be raised again: a copy, so that it holds on to no frame."""
    if error in THREAD.errors:
        THREAD.errors.remove(error)
        ELSEWHERE.pop()
    try:
        return type(error)(*error.args)
    except Exception:       # a class with arguments of its own
        return error.with_traceback(None)


def taken_apart(calls: Sequence[Signature], operands: Sequence[Any]) -> Iterator[tuple[Signature, Sequence[Any], Sequence[Any]]]:
    """Every call with what it takes and what it makes; ``operands``: ``OPERANDS``, or their numbers."""
    i = 0
    for sig in calls:
        results = i + len(sig.ins)
        end = results + len(sig.outs)
        yield sig, operands[i:results], operands[results:end]
        i = end


def picker(places: Sequence[int]) -> Callable[[Sequence[Any]], Any]:
    """A function that gives the elements at these places as a new tuple."""
    if len(places) > 1:
        return itemgetter(*places)
    # no slice: that of a whole tuple is the tuple itself, and holds no reference of its own
    return (lambda x: (x[places[0]],)) if places else (lambda x: ())


def append(sig: Signature, operands: Sequence[Buffer], scalars: Sequence[Any] = ()) -> list[Buffer]:
    """Record one call of any arity; returns the fresh buffers."""
    shared = other_threads()
    if shared:
        acquire()
    try:
        if UNUSUAL:
            look(operands)
        if sig.checks:
            ORIGINS.append((len(CALLS), user_frame()))
        CALLS.append(sig)
        OPERANDS.extend(operands)
        if scalars:
            SCALARS.extend(scalars)
        fresh = []
        if sig.outs:
            for _ in sig.outs:
                b = Buffer()
                b.ptr = 0
                fresh.append(b)
            OPERANDS.extend(fresh)
        if sig.writes:
            t = STATE.written = tick()
            for i in sig.writes:
                b = operands[i]
                b.wrote = t
                b.versions += 1
        if sig.large:
            STATE.bytes += sig.large
            if STATE.bytes > config.pending_bytes:
                LIMIT[0] = 0
        if len(OPERANDS) >= LIMIT[0]:
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
_OURS: set[int] = set()             # the ids of the dictionaries of the package's modules
ELSEWHERE: list[None] = []          # one for every error that waits for its thread


def package_globals(names: dict[str, Any]) -> None:
    """Functions with these globals, which are kept for good, are the package's own: they are nobody's line of code."""
    _OURS.add(id(names))


def user_frame() -> tuple[Any, int, list[BaseException]]:
    """Code and instruction of the nearest caller outside the package, and where this thread's errors go.

    Few calls fail, so the line is worked out where it is asked for: ``line_of``.
    """
    f = sys._getframe(2)        # the caller is the package's own
    while f is not None:
        while id(f.f_globals) in _OURS:
            f = f.f_back  # type: ignore[assignment]
            if f is None:
                return None, 0, THREAD.errors
        name = f.f_globals.get("__name__", "")
        if not (name == _PACKAGE or name.startswith(_PACKAGE + ".")) or f.f_globals.get("__flambeau_user__"):
            return f.f_code, f.f_lasti, THREAD.errors
        if getattr(sys.modules.get(name), "__dict__", None) is f.f_globals:
            _OURS.add(id(f.f_globals))      # stays where it is
        f = f.f_back  # type: ignore[assignment]
    return None, 0, THREAD.errors


def line_of(code: Any, instruction: int) -> int:
    """The line of an instruction (its offset in bytes)."""
    return next((line for start, end, line in code.co_lines() if start <= instruction < end and line), code.co_firstlineno)
