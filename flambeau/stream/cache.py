"""From a key to a plan: recorded calls are lowered to a program, the scheduler makes kernels of it, and both are kept.

Plans are looked up by key and reference counts; behind that by key and liveness, so that an extra Python reference does
not make a new plan; behind that on disk.
"""

from __future__ import annotations

import ctypes
import importlib
import marshal
import os
import struct
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from time import perf_counter, time_ns
from typing import Any, NamedTuple

from ..core import config
from ..core.arrays import array_over
from ..core.dtype import DTYPES, float64, get_default_dtype, int64
from ..core.shape import span
from ..ir.loops import BufferInfo, Host, Program
from ..runtime import images, memory, pool
from ..version import __version__
from . import record
from .record import Buffer, Signature, picker

STATS = {"misses": 0, "plans": 0, "disk_plans": 0, "superset": 0}
PLAN_LIMIT = 4096
PIECES: dict[Any, Any] = {}     # of plans, by what they are pieces of (``pieces``)
PLAN_WORDS = 4 << 20        # of all their keys


class Call:
    """One recorded call: signature, slots of operands and results, first scalar, number."""

    __slots__ = ("first_scalar", "index", "ins", "outs", "sig")

    def __init__(self, sig: Signature, ins: tuple[int, ...], outs: tuple[int, ...], first_scalar: int, index: int) -> None:
        self.sig, self.ins, self.outs, self.first_scalar, self.index = sig, ins, outs, first_scalar, index


def calls_of(signatures: Sequence[Signature], slots: Sequence[int]) -> list[Call]:
    """Recorded calls; ``slots``: the numbers of what each takes, then of what it makes."""
    calls: list[Call] = []
    scalars = 0
    for sig, ins, outs in record.taken_apart(signatures, slots):
        calls.append(Call(sig, tuple(ins), tuple(outs), scalars, len(calls)))
        scalars += len(sig.scalars)
    return calls


def parts_of(calls: list[Call], external: Sequence[bool]) -> list[list[Call]]:
    """The calls cut before the first write to memory that existed before which follows a call that may fail.

    A part runs only if the one before it succeeded, so that a failure leaves such memory as it was.
    """
    parts: list[list[Call]] = [[]]
    checked = False
    for c in calls:
        if checked and any(external[c.ins[w]] for w in c.sig.writes):
            parts.append([])
            checked = False
        parts[-1].append(c)
        checked |= c.sig.checks
    return parts


def buffers_of(nbytes: list[int], external: Sequence[bool], live: Sequence[bool]) -> list[BufferInfo]:
    """What the scheduler must know of a stream's slots."""
    return [BufferInfo(n, e, e or v) for n, e, v in zip(nbytes, external, live, strict=True)]


def program_of(calls: list[Call], buffers: list[BufferInfo], scalars: str, lowered: Callable[..., list[Any]] | None = None) -> Program:
    """Lower every call, with ``lowered`` where it is given; ``scalars``: the letters of all run-time numbers of the stream."""
    steps: list[Any] = []

    def new_slot(m: Any) -> int:
        buffers.append(BufferInfo(m.nbytes, False, False))
        return len(buffers) - 1

    for c in calls:
        steps.extend((lowered or c.sig.lower)(c.sig, c.ins, c.outs, c.first_scalar, new_slot, c.index))
    return Program(steps, buffers, [float64 if s == "d" else int64 for s in scalars])


ERRORS = (ctypes.c_int64 * 4)()      # the error block: 1 + site, index, size of the first failure; one bit per site that failed
errors_address = ctypes.addressof(ERRORS)
_address = attrgetter("ptr")


class Arena:
    """The one block for temporaries; launches are serial, so plans share it."""

    address = 0
    size = 0


def reserve(nbytes: int) -> None:
    if nbytes > Arena.size:
        if Arena.size:
            memory.release(Arena.address, Arena.size)
        Arena.address = memory.allocate(nbytes)
        Arena.size = nbytes


def buffer_bytes(calls: list[Call], count: int) -> list[int]:
    """Bytes of every slot's memory, from the metadata it was made or used with."""
    out = [0] * count
    for c in calls:
        for s, m in zip(c.outs, c.sig.outs, strict=True):
            out[s] = m.nbytes
        for s, m in zip(c.ins, c.sig.ins, strict=True):
            out[s] = max(out[s], (span(m)[1] + 1) * m.dtype.itemsize)
    # of memory that existed before nothing more is known
    made = {s for c in calls for s in c.outs}
    for c in calls:
        for i in c.sig.anywhere:
            if c.ins[i] not in made:
                out[c.ins[i]] = ANY_SIZE
    return out


ANY_SIZE = 1 << 46
_LONG = 1 << 21         # points


class LaunchPlan:
    """A plan ready to run: the table of addresses is packed, native segments and host steps follow, then the next part.

    ``outs`` get memory: those of all parts, kept by the first.
    """

    __slots__ = (
        "arena", "calls", "checks", "external", "hold", "nbytes", "outs", "pack", "pick", "plan", "program", "run", "scalars",
        "segments", "shared", "then", "times", "uses",
    )

    calls: list[Call]               # what it runs, with the bytes of all slots, which had memory, and the letters of the run-time numbers:
    nbytes: list[int]               # enough to make another plan of some of the calls
    external: list[bool]
    scalars: str
    program: Any                    # the lowered calls, for the reference interpreter
    run: Callable[[LaunchPlan, Sequence[Buffer], list[Any]], Any]      # of this plan; returns the failed checks, if any
    # of machine code only
    plan: Any                       # what the scheduler made, or what is stored of it
    arena: int                      # bytes for temporaries
    shared: bool                    # whether worker threads take part
    segments: Any
    pack: Callable[..., bytes]      # the table of addresses and numbers
    pick: Callable[[Sequence[Buffer]], Any]     # the buffers in it
    times: list[float]              # when the segments of the last run ended, after when the first began

    def __init__(self) -> None:
        self.checks: Any = ()
        self.program = None
        self.hold: list[Any] = []
        self.outs: tuple[Any, ...] = ()
        self.then: LaunchPlan | None = None
        self.uses = 0               # so far


def build(signatures: Sequence[Signature], slots: Sequence[int], external: list[bool], live: list[bool]) -> LaunchPlan:
    """Make the plan of recorded calls: the slow path, once per structure."""
    calls = calls_of(signatures, slots)
    nbytes = buffer_bytes(calls, len(external))
    scalars = "".join([c.sig.scalars for c in calls])
    parts = parts_of(calls, external)
    there = list(external)          # has memory when the part starts
    kept = list(live)
    for part in parts[1:]:
        for c in part:
            for s in c.ins:
                kept[s] = True      # may come from an earlier part
    made: list[LaunchPlan] = []
    for part in parts:
        made.append(build_part(part, nbytes, there, kept, scalars))
        for c in part:
            for s in c.outs:
                there[s] = kept[s]
    for p, following in zip(made, made[1:], strict=False):
        p.then = following
    plan = made[0]
    outs = []
    for s in range(len(external)):
        if kept[s] and not external[s]:
            n = max(1, nbytes[s])
            free, size = memory.free_list(n)
            outs.append((s, free, size, n))
    plan.outs = tuple(outs)
    STATS["plans"] += 1
    return plan


def build_part(calls: list[Call], nbytes: list[int], external: list[bool], live: list[bool], scalars: str) -> LaunchPlan:
    """Make the plan of some calls of a stream; ``external``: slots that have memory, ``live``: that must have it afterwards."""
    plan = LaunchPlan()
    plan.calls, plan.nbytes, plan.external, plan.scalars = calls, nbytes, list(external), scalars
    if reference_only():
        plan.program = program_of(calls, buffers_of(nbytes, external, live), scalars)
        plan.run = _run_reference
    else:
        from ..runtime.cpu import Unavailable

        try:
            _build_native(plan, external, live)
        except Unavailable:         # llvmlite was not missed as long as everything came from the disk cache
            global _reference
            _reference = True
            return build_part(calls, nbytes, external, live, scalars)
    return plan


_reference: bool | None = None


def reference_only() -> bool:
    """Whether the NumPy interpreter runs everything: asked for, or llvmlite is missing."""
    global _reference
    if _reference is None:
        if config.renderer == "reference":
            _reference = True
        else:
            from ..runtime import cpu

            _reference = not cpu.available()
    return _reference


def _run_reference(plan: LaunchPlan, buffers: Sequence[Buffer], scalars: list[Any]) -> Any:
    from ..runtime import reference

    wanted = plan.program.buffers
    addresses = [b.ptr if wanted[s].live else 0 for s, b in enumerate(buffers)] + [0] * (len(wanted) - len(buffers))
    return reference.run(plan.program, addresses, scalars)


# ------------------------------------------------------------------ machine code


def _build_native(plan: LaunchPlan, external: list[bool], live: list[bool]) -> None:
    from ..runtime import cpu

    name, stamp = _disk_key(plan.calls, external, live), _stamp()
    if name is not None:
        data = images.get("p", name)
        if data is not None and not OBSERVED:
            stored, keys, hosts, checks = marshal.loads(data)
            addresses = cpu.known(keys)
            if addresses is not None:
                _link(plan, _StoredPlan(*stored), addresses, [_restored_host(h) for h in hosts], checks)
                STATS["disk_plans"] += 1
                return
    from ..render import render
    from ..schedule import build as plan_of_program
    from .lowering import lowered
    from .pieces import plan_of

    buffers = buffers_of(plan.nbytes, external, live)
    made = plan_of(plan.calls, buffers, cpu.vector_bytes(), cpu.bfloat16_pairs())
    if made is None:
        made = plan_of_program(program_of(plan.calls, buffers, plan.scalars, lowered), cpu.vector_bytes(), cpu.bfloat16_pairs())
    made.code = tuple([_text_of(k, render) for k in made.kernels])
    _link(plan, made, cpu.load([*made.code, *pool.missing()])[:len(made.code)], made.hosts, made.checks)
    if name is not None and _stamp() == stamp:      # nothing changed while the planner was loaded
        try:
            images.put("p", name, marshal.dumps((made.to_data(), [*map(cpu.key_of, made.code)], [*map(_stored_host, made.hosts)], made.checks)))
        except ValueError:
            pass        # a parameter that cannot be written down: the plan is made again next time


_texts: dict[Any, str] = {}     # of the last kernels: most of those of a new plan are known, and writing them out takes a fifth of the time


def _text_of(kernel: Any, render: Callable[[Any], str]) -> str:
    text = _texts.get(kernel)
    if text is None:
        if len(_texts) >= 512:
            _texts.clear()
        text = _texts[kernel] = render(kernel)
    return text


OBSERVED: list[Any] = []        # not empty: somebody wants to see programs, so plans are made anew


class _StoredPlan(NamedTuple):
    """A plan as it is kept on disk (``schedule.Plan.to_data``); reading it imports no scheduler."""

    table: tuple[int, ...]
    arena: int
    steps: tuple[Any, ...]
    points: tuple[int, ...]
    messages: tuple[str, ...]


class _HostName(NamedTuple):
    """A host step as it is kept on disk."""

    module: str
    function: str
    scalars: tuple[int, ...]
    attr: Any
    inputs: int


def _stored_host(h: Host) -> Any:
    run = h.run
    if "<" in run.__qualname__:
        raise ValueError("a local function has no name to be found by")
    return tuple(_HostName(run.__module__, run.__qualname__, tuple(h.scalars), h.attr, len(h.inputs)))


def _restored_host(data: Any) -> Any:
    h = _HostName(*data)
    run: Any = importlib.import_module(h.module)
    for part in h.function.split("."):
        run = getattr(run, part)
    operation = getattr(run, "operation", None)
    return Host(operation.how["run"] if operation is not None else run, (None,) * h.inputs, (), h.scalars, "", h.attr)  # type: ignore[arg-type]


def _disk_key(calls: list[Call], external: Sequence[bool], live: Sequence[bool]) -> bytes | None:
    """The name of a plan on disk: the structure of the stream by value; None when a call has no description."""
    from ..runtime import cpu

    if _stamp() is None:
        return None
    words: list[Any] = []
    for c in calls:
        if c.sig.stable is None:
            return None
        words.append((c.sig.stable, c.ins, c.outs, c.first_scalar, c.index))
    return images.digest(repr((_stamp(), config.winograd, cpu.bfloat16_pairs(), get_default_dtype().name, words, list(external), list(live))).encode())


def _stamp() -> Any:
    """What tells two versions of the planner apart: the package's version, and in a checkout the age of its sources.

    None when a source is younger than this process: what runs is then neither the old planner nor the new one for sure.  Looked
    at again when more modules were loaded.
    """
    global _source
    if _source[0] != len(sys.modules):
        package = os.path.dirname(os.path.dirname(__file__))
        stamp: Any = (__version__,)
        if os.path.exists(os.path.join(os.path.dirname(package), "pyproject.toml")):
            ages = _ages(package)
            stamp = None if max(age for _, age, _ in ages) > _IMPORTED else (__version__, tuple(sorted(ages)))
        _source = len(sys.modules), stamp
    return _source[1]


def _ages(folder: str) -> list[tuple[str, int, int]]:
    """Name, age and size of the sources in a folder and below; ``os.walk`` takes three times as long, a third of a warm start."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                info = entry.stat()
                found.append((entry.name, info.st_mtime_ns, info.st_size))
            elif entry.name != "__pycache__" and entry.is_dir():
                found += _ages(entry.path)
    return found


_source: Any = 0, None
_IMPORTED = time_ns() - 50_000_000      # the first modules were loaded a little earlier


def _link(plan: LaunchPlan, made: Any, addresses: Sequence[int], hosts: Sequence[Any], checks: Any) -> None:
    """Lay out the launch list; ``addresses``: of the kernels."""
    plan.plan = made
    plan.arena = made.arena
    plan.checks = checks
    releasing, holding = pool.walker()
    plan.shared = False
    segments: list[Any] = []
    records: list[tuple[int, int, int, int]] = []
    work = 0

    def close() -> None:
        nonlocal records, work
        if records:
            block = pool.launch_list(records)
            plan.hold.append(block)
            # a plan of some microseconds keeps the interpreter lock: handing it over costs more
            walk = releasing if work > _LONG else holding
            segments.append((walk, pool.head(block)))
            records, work = [], 0

    for i, step in enumerate(made.steps):
        if step[0] == "kernel":
            _, k, args, units = step
            block = (ctypes.c_int64 * max(1, len(args)))(*args)
            plan.hold.append(block)
            per_chunk = pool.share(made.points[i], units)
            plan.shared |= per_chunk < units
            records.append((addresses[k], ctypes.addressof(block), units, per_chunk))
            work += made.points[i]
            if OBSERVED:
                close()             # each launch is timed
        else:
            close()
            segments.append(_host_segment(step, hosts))
    close()
    plan.segments = segments
    n = len(made.table)
    plan.pack = struct.Struct(f"=qq{n}q{plan.scalars}").pack
    plan.pick = picker(made.table)
    if made.arena:
        reserve(made.arena)
    if len(segments) == 1 and segments[0].__class__ is tuple and not OBSERVED:
        plan.segments = segments[0]
        plan.run = run_single
    else:
        plan.run = _run_segments


def run_single(plan: LaunchPlan, buffers: Sequence[Buffer], scalars: list[Any]) -> Any:
    walk, head = plan.segments
    if plan.shared and not pool.started:
        pool.start()
    if plan.arena > Arena.size:
        reserve(plan.arena)
    walk(head + plan.pack(Arena.address, errors_address, *map(_address, plan.pick(buffers)), *scalars))
    if ERRORS[0]:
        return failures(plan)
    return None


def _run_segments(plan: LaunchPlan, buffers: Sequence[Buffer], scalars: list[Any]) -> Any:
    if plan.shared and not pool.started:
        pool.start()
    if plan.arena > Arena.size:
        reserve(plan.arena)
    picked = plan.pick(buffers)
    table = plan.pack(Arena.address, errors_address, *map(_address, picked), *scalars)
    plan.times = times = [perf_counter()]
    for segment in plan.segments:
        if segment.__class__ is tuple:
            walk, head = segment
            walk(head + table)
        else:
            segment(picked, scalars)
        times.append(perf_counter())
    if ERRORS[0]:
        return failures(plan)
    return None


def failures(plan: LaunchPlan) -> list[Any]:
    """The failed checks that the error block holds: [(message, index, size, call)], index and size of the first only; the block is cleared."""
    first, index, size, bits = ERRORS[0] - 1, ERRORS[1], ERRORS[2], ERRORS[3]
    for i in range(4):
        ERRORS[i] = 0
    found = [(*plan.checks[first][:1], index, size, plan.checks[first][1])]
    for site, (message, origin) in enumerate(plan.checks):
        if site != first and bits >> min(site, 63) & 1:      # the last bit stands for all sites beyond it
            found.append((message, None, None, origin))
    return found


def _host_segment(step: Any, hosts: Sequence[Any]) -> Callable[[Any, list[Any]], None]:
    """A library routine with its operands located: NumPy views are made at each run."""
    _, number, operands = step
    host = hosts[number]
    n = len(host.inputs)
    chosen = host.scalars
    attr = host.attr or {}
    where = [(in_table, at, offset * DTYPES[d].itemsize, shape, strides, DTYPES[d]) for in_table, at, offset, shape, strides, d in operands]

    def run(picked: Any, scalars: list[Any]) -> None:
        arrays = [array_over((picked[at].ptr if in_table else Arena.address + at) + offset, shape, strides, d)
                  for in_table, at, offset, shape, strides, d in where]
        host.run(arrays[:n], arrays[n:], [scalars[i] for i in chosen], **attr)

    return run


__all__ = ["STATS", "LaunchPlan", "build", "record"]
