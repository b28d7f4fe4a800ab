"""Runs programs through scheduler, renderer and machine code, and through the reference interpreter, on the same buffers."""

from __future__ import annotations

import ctypes
import struct
from itertools import pairwise

import numpy as np

from flambeau.core.dtype import DTYPES, dtype
from flambeau.ir.kernel import Kernel
from flambeau.ir.loops import Host, Program
from flambeau.ir.verify import verify
from flambeau.render import render
from flambeau.runtime import cpu, pool, reference
from flambeau.schedule import Plan, build

CALL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


MARGIN = 4096


def empty(nbytes: int) -> np.ndarray:
    """64-byte aligned memory between two margins."""
    raw = np.zeros(nbytes + 2 * MARGIN + 64, np.uint8)
    start = MARGIN + -raw.ctypes.data % 64
    raw[:start] = raw[start + nbytes:] = 0xA5
    return raw[start:start + max(nbytes, 1)]


def intact(memory: np.ndarray, nbytes: int) -> bool:
    """Whether nothing was written into the margins."""
    raw = memory.base
    start = memory.ctypes.data - raw.ctypes.data
    return bool((raw[:start] == 0xA5).all() and (raw[start + max(nbytes, 1):] == 0xA5).all())


def results_in_pieces(machine: Machine, buffers: list, contents: list, slot: int, nbytes: int, kind: type,
                      pieces: tuple[int, ...] = (1, 3)) -> list[np.ndarray]:
    """The first ``nbytes`` of a slot's memory after the plan was run over ``contents`` in so many pieces; no margin may be touched."""
    results = []
    for count in pieces:
        memory = [empty(b.nbytes) for b in buffers]
        for place, values in zip(memory, contents, strict=True):
            if values is not None:
                place[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        assert machine.run(memory, pieces=count) == []
        for number, (place, b) in enumerate(zip(memory, buffers, strict=True)):
            assert intact(place, b.nbytes), f"outside the memory of slot {number}"
        assert intact(machine.arena, machine.plan.arena), "outside the arena"
        end = machine.scratch.ctypes.data - machine.scratch.base.ctypes.data + pool.SCRATCH
        assert (machine.scratch.base[end:] == 0xA5).all(), "outside the scratch memory"
        results.append(memory[slot][:nbytes].view(kind).copy())
    return results


class Machine:
    """A plan made ready to run."""

    def __init__(self, program: Program, vector_bytes: int = 64, pairs: str = "") -> None:
        self.program = program
        self.plan: Plan = build(program, vector_bytes, pairs)
        for step in self.plan.steps:
            if step[0] == "kernel" and isinstance(self.plan.kernels[step[1]], Kernel):
                verify(self.plan.kernels[step[1]], len(step[2]))
        self.texts = [render(k) for k in self.plan.kernels]
        self.calls = [CALL(a) for a in cpu.load(self.texts)]
        self.arena = empty(self.plan.arena)
        self.arena[:] = 0xFF        # NaN: what is read before it is written shows
        self.words = [np.array(s[2] or (0,), np.int64) if s[0] == "kernel" else None for s in self.plan.steps]
        private = empty(64 + pool.SCRATCH)
        self.errors, self.scratch = private[:32].view(np.int64), private[64:]

    def run(self, memory: list[np.ndarray], scalars: list[float] = [], pieces: int = 1) -> list[tuple]:  # noqa: B006
        words = [self.arena.ctypes.data, self.errors.ctypes.data] + [memory[s].ctypes.data for s in self.plan.table]
        for value, kind in zip(scalars, self.program.scalars, strict=True):
            words.append(struct.unpack("<q", struct.pack("<d", value))[0] if kind.is_floating_point else int(value))
        table = np.array(words, np.int64)
        self.errors[:] = 0
        for step, args in zip(self.plan.steps, self.words, strict=True):
            if step[0] == "host":
                host = self.plan.hosts[step[1]]
                assert isinstance(host, Host)
                arrays = [self.operand(memory, o) for o in step[2]]
                n = len(host.inputs)
                host.run(arrays[:n], arrays[n:], [scalars[i] for i in host.scalars], **(host.attr or {}))
                continue
            _, number, _, units = step
            cuts = [units * k // pieces for k in range(pieces + 1)] if units >= pieces else [0, units]
            for a, b in list(pairwise(cuts))[::-1]:
                if a < b:
                    self.calls[number](table.ctypes.data, args.ctypes.data, a, b, self.scratch.ctypes.data)
        if self.errors[0]:
            message, origin = self.plan.checks[int(self.errors[0]) - 1]
            return [(message, int(self.errors[1]), int(self.errors[2]), origin)]
        return []

    def operand(self, memory: list[np.ndarray], o: tuple) -> np.ndarray:
        in_table, where, offset, shape, strides, name = o
        d = DTYPES[name]
        buffer = memory[self.plan.table[where]] if in_table else self.arena[where:]
        typed = buffer[:len(buffer) // d.itemsize * d.itemsize].view(reference.storage(d))
        return np.lib.stride_tricks.as_strided(typed[offset:], shape, [s * d.itemsize for s in strides])


def close(a: np.ndarray, b: np.ndarray, d: dtype, tolerance: float) -> bool:
    """Whether two buffers hold the same values, to a relative tolerance of their largest one."""
    if not d.is_floating_point:
        return bool(np.array_equal(a, b))
    x = reference.decode(a.view(reference.storage(d)), d).astype(np.float64)
    y = reference.decode(b.view(reference.storage(d)), d).astype(np.float64)
    if not np.array_equal(np.isnan(x), np.isnan(y)):
        return False
    infinite = np.isinf(x) | np.isinf(y)
    if not np.array_equal(x[infinite], y[infinite]):
        return False
    fine = np.isfinite(x) & np.isfinite(y)
    x, y = x[fine], y[fine]
    return bool(np.all(np.abs(x - y) <= tolerance * (1 + np.abs(y))))


def check(program: Program, contents: list[np.ndarray], dtypes: list[dtype], scalars: list[float] = [], tolerance: float = 2e-5,  # noqa: B006
            pieces: int = 1, vector_bytes: int = 64) -> Machine:
    """Run both ways; assert that everything that outlives the program is equal and that the same checks fail."""
    ours = [empty(b.nbytes) for b in program.buffers]
    theirs = [empty(b.nbytes) for b in program.buffers]
    for side in (ours, theirs):
        for buffer, c in zip(side, contents, strict=False):
            if c is not None:
                buffer[:c.nbytes] = np.ascontiguousarray(c).reshape(-1).view(np.uint8)
    machine = Machine(program, vector_bytes)
    failed = machine.run(ours, scalars, pieces)
    assert intact(machine.arena, machine.plan.arena), "outside the arena"
    for slot, (buffer, info) in enumerate(zip(ours, program.buffers, strict=True)):
        assert intact(buffer, info.nbytes), f"outside the memory of slot {slot}"
    expected = reference.run(program, [b.ctypes.data for b in theirs], scalars)
    assert bool(failed) == bool(expected), (failed, expected)
    if failed:
        assert failed[0][0] in [e[0] for e in expected], (failed, expected)
    for slot, info in enumerate(program.buffers):
        if info.external or info.live:
            d = dtypes[slot]
            n = info.nbytes // d.itemsize * d.itemsize
            assert close(ours[slot][:n], theirs[slot][:n], d, tolerance), (
                slot, ours[slot][:n].view(reference.storage(d))[:20], theirs[slot][:n].view(reference.storage(d))[:20])
    return machine
