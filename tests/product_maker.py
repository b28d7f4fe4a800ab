"""Random products for ``test_product.py``: programs whose operands lie anywhere, exact references, and memory that ends at a guard page.

Run as a script it computes products of many seeds with every operand between pages that may not be touched, so that a stray read or write
ends the process: ``python product_maker.py FIRST LAST [seconds]``.
"""

from __future__ import annotations

import ctypes
import mmap
import random
import sys
import time
from dataclasses import dataclass, field
from itertools import product as combinations

import numpy as np
from kernel_runner import Machine
from program_maker import Maker, View, contiguous

from flambeau.core.dtype import bfloat16, dtype, float16, float32, float64, int16, int32, int64, uint8
from flambeau.ir import expression as ir
from flambeau.ir.expression import Access
from flambeau.ir.loops import Nest
from flambeau.runtime import cpu, pool, reference

EDGES = [1, 2, 3, 4, 5, 7, 8, 9, 13, 14, 15, 16, 17, 28, 29, 31, 32, 33, 47, 48, 63, 64, 65, 96, 127, 128, 129, 255, 256, 257, 300]
DTYPES = [float32] * 6 + [float64] * 3 + [int32, int64, bfloat16, bfloat16, float16, int16, uint8]
UNIT = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8, "float16": 2.0**-11}     # half a unit in the last place
FILL = 0xA5                     # what lies in the gaps of a result's memory


# ---------------------------------------------------------------------------------------------------- guarded memory

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform != "win32" else None
PAGE = mmap.PAGESIZE


def guarded(nbytes: int, at_end: bool) -> np.ndarray:
    """Memory whose last byte (or first one) is next to a page that must not be touched; the page on its other side is closed too."""
    room = -(-max(nbytes, 1) // PAGE) * PAGE
    mapping = mmap.mmap(-1, room + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    whole = np.frombuffer(mapping, np.uint8)
    _libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for page in (whole.ctypes.data, whole.ctypes.data + PAGE + room):
        if _libc.mprotect(page, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    start = PAGE + (room - nbytes if at_end else 0)
    inside = whole[start:start + nbytes]
    inside[:] = FILL
    return inside


# ---------------------------------------------------------------------------------------------------- a random case

def layout(R: random.Random, shape: tuple[int, ...], stretch: int, plain: float) -> tuple[tuple[int, ...], int, int]:
    """Strides, offset and extent of a view that no two indices share, but for some of the first ``stretch`` axes, which may have stride 0."""
    axes = list(range(len(shape)))
    if R.random() > plain:
        R.shuffle(axes)
    simple = R.random() < plain
    strides = [0] * len(shape)
    run = 1
    for axis in reversed(axes):
        if axis < stretch and R.random() < 0.3:
            continue
        strides[axis] = run * (1 if simple else R.choice([1, 1, 1, 1, 2, 3]))
        run = strides[axis] * max(1, shape[axis]) + (0 if simple else R.choice([0, 0, 0, 1, 2, 5]))
    offset = R.choice([0, 0, 1, 2, 3, 5, 7])
    return tuple(strides), offset, offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True) if n) + 1


@dataclass
class Case:
    """A program with one product, and what it must give."""

    maker: Maker
    text: str
    kind: dtype                             # of the factors
    a: np.ndarray
    b: np.ndarray
    exact: bool
    result: View
    finish: list[View] = field(default_factory=list)    # what maps after the product gave


def values(rng: np.random.Generator, shape: tuple[int, ...], d: dtype, exact: bool, special: bool) -> np.ndarray:
    """Random numbers as float64 (or int64) that ``d`` can hold."""
    if not d.is_floating_point:
        limits = np.iinfo(reference.storage(d))
        wide = rng.random() < 0.5
        return rng.integers(limits.min if wide else max(limits.min, -9), limits.max if wide else 9, shape, np.int64, endpoint=True)
    x = rng.integers(-8, 9, shape).astype(np.float64) if exact else rng.standard_normal(shape) * 2.0 ** rng.integers(-3, 4, shape)
    if special and x.size:
        for value in (np.nan, np.inf, -np.inf):
            for _ in range(rng.integers(0, 3)):
                x[tuple(rng.integers(0, n) for n in shape)] = value
    return reference.decode(reference.encode(x.astype(np.float32 if d is not float64 else np.float64), d), d).astype(np.float64)


def placed(m: Maker, rng: np.random.Generator, content: np.ndarray, d: dtype, strides: tuple[int, ...], offset: int, extent: int) -> View:
    """A view of new memory with this content, every byte around its elements 0xFF (NaN)."""
    store = reference.storage(d)
    memory = np.full(extent * d.itemsize, 0xFF, np.uint8).view(store)
    encoded = reference.encode(content.astype(np.float32), d) if d in (bfloat16, float16) else content.astype(store)
    np.lib.stride_tricks.as_strided(memory[offset:], content.shape, [s * d.itemsize for s in strides])[...] = encoded
    view = m.external(memory, d)
    return View(view.slot, content.shape, strides, offset, d)


def picked(x: np.ndarray, view: View) -> np.ndarray:
    """The elements of a view in a buffer."""
    d = view.dtype
    typed = x[:len(x) // d.itemsize * d.itemsize].view(reference.storage(d))
    return np.lib.stride_tricks.as_strided(typed[view.offset:], view.shape, [s * d.itemsize for s in view.strides])


def random_size(R: random.Random, most: int) -> int:
    return min(most, R.choice(EDGES) if R.random() < 0.5 else R.randint(0, 300))


def random_case(seed: int, maps: bool = False, kinds: list[dtype] | None = None) -> Case:
    """A product ``(*batch, m, k) @ (*batch, k, n)`` of any sizes, types and layouts; with ``maps``, what follows it at the same element."""
    R = random.Random(seed)
    rng = np.random.default_rng(seed)
    d = R.choice(kinds or DTYPES)
    batch = R.choice([(), (), (), (), (2,), (3,), (2, 3), (5,), (0,) if R.random() < 0.1 else (7,), (2, 1, 3)])
    most = 300 if not batch else 130
    m, n, k = (random_size(R, most) for _ in range(3))
    if R.random() < 0.08:                   # more than one block of k, of columns, of both, or a long side
        long, short = R.choice([600, 1100, 2050, 5003]), R.choice([2, 5, 17, 40])
        both = R.randint(3, 4), R.randint(353, 480), R.randint(1000, 1024)
        m, n, k = R.choice([(short, short, long), (long, short, 33), (short, long, 33), (short, 40, long), both])
        batch = ()
    if not maps:
        plain = R.choice([0.0, 0.5, 1.0])
    else:
        m, n, k, plain = max(m, 1), max(n, 1), max(k, 1), R.choice([0.5, 1.0])
        batch = tuple(max(1, x) for x in batch)
    exact, special = R.random() < 0.6 or maps, R.random() < 0.2 and not maps
    make = Maker()
    views, contents = [], []
    for shape in ((*batch, m, k), (*batch, k, n)):
        strides, offset, extent = layout(R, shape, len(batch), plain)
        content = values(rng, tuple(1 if s == 0 and i < len(batch) else x for i, (x, s) in enumerate(zip(shape, strides, strict=True))), d, exact, special)
        content = np.broadcast_to(content, shape)
        views.append(placed(make, rng, content, d, strides, offset, extent))
        contents.append(content)
    a, b = views
    acc = float32 if d in (bfloat16, float16) else int64 if d in (int16, uint8) else d
    x = ir.make("load", d, (), Access(a.slot, a.offset, (*a.strides[:-1], 0, a.strides[-1]), d))
    y = ir.make("load", d, (), Access(b.slot, b.offset, (*b.strides[:-2], 0, b.strides[-1], b.strides[-2]), d))
    if acc is not d:
        x, y = x.cast(acc), y.cast(acc)
    shape = (*batch, m, n)
    total = ir.acc(acc)
    if R.random() < 0.6 or maps:
        result = make.fresh(shape, d)
        make.buffers[result.slot].live = not maps or R.random() < 0.4
    else:                                   # into memory that is there already
        strides, offset, extent = layout(R, shape, 0, plain)
        memory = np.full(extent * d.itemsize, FILL, np.uint8).view(reference.storage(d))
        result = View(make.external(memory, d).slot, shape, strides, offset, d)
    store = Access(result.slot, result.offset, (*result.strides, 0), d)
    factors = x * y if R.random() < 0.7 else y * x
    make.steps.append(Nest("reduce", (*shape, k), len(shape), factors, store, "sum", total if acc is d else total.cast(d)))
    text = f"seed {seed}: {d.name} {a.shape} {a.strides}+{a.offset} @ {b.shape} {b.strides}+{b.offset} -> {result.strides}+{result.offset}"
    case = Case(make, text, d, contents[0], contents[1], exact, result)
    if maps:
        follow(case, R, rng, shape)
    return case


def follow(case: Case, R: random.Random, rng: np.random.Generator, shape: tuple[int, ...]) -> None:
    """Maps after the product: bias, residual, scale, activation, casts, choices by a mask, into fresh or existing memory."""
    make, E = case.maker, ir.E
    d = case.kind if case.kind.is_floating_point else float32

    def other(kind: dtype) -> View:
        stretched = R.random() < 0.5
        keep = len(shape) if not stretched else R.randint(0, len(shape))
        sizes = tuple(x if R.random() < 0.8 else 1 for x in shape[len(shape) - keep:]) if stretched else shape
        strides, offset, extent = layout(R, sizes, 0, 0.6)
        content = values(rng, sizes, kind, True, False) if kind.is_floating_point else rng.integers(0, 2, sizes)
        return placed(make, rng, content, kind, strides, offset, extent)
    view = case.result
    for _ in range(R.randint(1, 5)):
        x = view.element(shape)
        if not x.dtype.is_floating_point or (x.dtype is not float64 and x.dtype is not float32):
            x = x.cast(float64 if x.dtype is float64 else float32)
        wide = x.dtype
        what = R.randrange(10)
        if what <= 1:
            x = x + other(R.choice([wide, d])).element(shape).cast(wide)
        elif what == 2:
            x = x * other(wide).element(shape) * 0.125
        elif what == 3:
            x = E.maximum(x, ir.const(0.0, wide))
        elif what == 4:
            x = E.tanh(x * 0.01)
        elif what == 5:
            x = ir.where(ir.compare("eq", other(uint8).element(shape), ir.const(1, uint8)), x, x * 0.5)
        elif what == 6:
            x = x * 0.5 + 1.0
        elif what == 7:
            x = x.cast(float64 if wide is float32 else float32)
        elif what == 8:
            x = x * 0.5 * (E.erf(x * 0.70710678) + 1.0)
        into = None
        if R.random() < 0.3:
            strides, offset, extent = layout(R, shape, 0, 0.6)
            kind = R.choice([x.dtype, float32, bfloat16])
            memory = np.full(extent * kind.itemsize, FILL, np.uint8).view(reference.storage(kind))
            into = View(make.external(memory, kind).slot, shape, strides, offset, kind)
            if kind is not x.dtype:
                x = x.cast(kind)
        elif R.random() < 0.15:              # a residual that is added to in place
            there = other(x.dtype)
            if there.shape == shape:
                x, into = there.element(shape) + x, there
        view = make.map(x, shape, into)
        if R.random() < 0.3:
            make.buffers[view.slot].live = True
        if make.buffers[view.slot].live or make.buffers[view.slot].external:
            case.finish.append(view)
    make.buffers[view.slot].live = True
    case.finish.append(view)


# ---------------------------------------------------------------------------------------------------- references

def expected(case: Case) -> tuple[np.ndarray, np.ndarray | None]:
    """The product (of floats: in a wider type, before it is rounded to the factors' type), and how far off a result may be."""
    a, b, d = case.a, case.b, case.kind
    if not d.is_floating_point:
        with np.errstate(over="ignore"):
            return np.matmul(a.astype(np.uint64), b.astype(np.uint64)).astype(reference.storage(d)), None
    finite = np.isfinite(a).all() and np.isfinite(b).all()
    wide = np.longdouble if d is float64 and not case.exact else np.float64
    clean_a, clean_b = (np.where(np.isfinite(x), x, 0).astype(wide) for x in (a, b))
    exact = np.matmul(clean_a, clean_b)
    u = UNIT["float64" if d is float64 else "float32"]
    k = a.shape[-1]
    bound = k * u / (1 - k * u) * np.matmul(np.abs(clean_a).astype(np.float64), np.abs(clean_b).astype(np.float64))
    if case.exact:
        bound[...] = 0
    if d in (bfloat16, float16):
        bound = bound + UNIT[d.name] * (np.abs(exact) + bound) + (2.0**-25 if d is float16 else 0)
    bound = np.asarray(bound, np.float64) * (1 + 1e-6)
    if not finite:
        with np.errstate(invalid="ignore"):
            for index in combinations(*map(range, exact.shape[:-2])):
                x, y = a[index], b[index]
                i, j = ~np.isfinite(x).all(1), ~np.isfinite(y).all(0)
                exact[index][i] = np.einsum("ik,kj->ij", x[i], y)
                exact[index][:, j] = np.einsum("ik,kj->ij", x, y[:, j])
    return exact, bound


def compare(case: Case, got: np.ndarray, what: str) -> None:
    """Assert that the product is right."""
    want, bound = expected(case)
    d = case.kind
    where = f"{what}, {case.text}"
    if bound is None:
        assert np.array_equal(got, want), f"{where}: {(got != want).sum()} of {got.size} differ, first at {np.argwhere(got != want)[:1]}"
        return
    x = reference.decode(got, d) if d in (bfloat16, float16) else got
    x = x.astype(want.dtype)
    if d is float16:
        want = np.where(np.abs(want) > 65519, np.copysign(np.inf, want), want)
    fine = np.isfinite(want)
    assert np.array_equal(np.isnan(x), np.isnan(want)), f"{where}: NaN where none belongs or the reverse, {np.argwhere(np.isnan(x) != np.isnan(want))[:3]}"
    assert np.array_equal(x[np.isinf(want)], want[np.isinf(want)]), f"{where}: infinities differ"
    off = np.abs(x[fine] - want[fine])
    if off.size and not (off <= bound[fine]).all():
        worst = np.argmax(off - bound[fine])
        raise AssertionError(f"{where}: {(off > bound[fine]).sum()} of {off.size} are off, one by {off[worst]} where {bound[fine][worst]} is allowed")


# ---------------------------------------------------------------------------------------------------- running

class Place:
    """Memory for a case's buffers; what does not belong to views is compared before and after."""

    def __init__(self, case: Case, new: object) -> None:
        self.case = case
        self.buffers = []
        for info, content in zip(case.maker.buffers, case.maker.contents, strict=True):
            x = new(info.nbytes)
            x[:] = FILL
            if content is not None:
                x[:content.nbytes] = content.reshape(-1).view(np.uint8)
            self.buffers.append(x)

    def gaps_untouched(self) -> None:
        """Between elements of views that are written, and in operands, nothing has changed."""
        written: dict[int, list[View]] = {}
        for view in [self.case.result, *self.case.finish]:
            written.setdefault(view.slot, []).append(view)
        for slot, (x, content) in enumerate(zip(self.buffers, self.case.maker.contents, strict=True)):
            if content is None:
                continue
            before = np.array(content.reshape(-1).view(np.uint8))
            after = x[:before.nbytes].copy()
            for view in written.get(slot, []):
                picked(before, view)[...] = 0
                picked(after, view)[...] = 0
            assert np.array_equal(before, after), f"{self.case.text}: slot {slot} was changed where nothing should be written"


def run_case(case: Case, machine: Machine, pieces: int = 1, new: object = None) -> Place:
    place = Place(case, new or (lambda nbytes: np.empty(max(nbytes, 1), np.uint8)[:nbytes]))
    machine.arena[:] = 0xFF
    assert not machine.run(place.buffers, pieces=pieces)
    place.gaps_untouched()
    return place


def run_guarded(seed: int, maps: bool, vector_bytes: int, kinds: list[dtype] | None = None) -> None:
    """A case twice, once at the end of each memory's last page and once at the start of its first one."""
    case = random_case(seed, maps, kinds)
    machine = Machine(case.maker.program(), vector_bytes, cpu.bfloat16_pairs() if vector_bytes == 64 else "")
    words = machine.words
    for at_end in (True, False):
        machine.arena = guarded(machine.plan.arena, at_end)
        machine.words = []
        for w in words:
            if w is not None:
                copy = guarded(w.nbytes, at_end).view(np.int64)
                copy[:] = w
                machine.words.append(copy)
            else:
                machine.words.append(None)
        room = guarded(64 + pool.SCRATCH, True)      # 64-byte aligned, as the pool's
        machine.errors, machine.scratch = room[:32].view(np.int64), room[64:]
        place = run_case(case, machine, 1, lambda nbytes, at_end=at_end: guarded(nbytes, at_end))
        if not maps:
            compare(case, picked(place.buffers[case.result.slot], case.result), "between guard pages")


def main(first: int, last: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    done = 0
    for seed in range(first, last):
        if time.monotonic() > end:
            break
        for vector_bytes in (64, 32, 16):
            if seed % 3 and (64, 32, 16).index(vector_bytes) != seed % 3:
                continue
            maps = seed % 4 == 3
            print(f"seed {seed} maps {maps} vector_bytes {vector_bytes}", flush=True)
            run_guarded(seed, maps, vector_bytes)
            if vector_bytes == 64 and cpu.bfloat16_pairs():
                print(f"seed {seed} maps {maps} bfloat16", flush=True)
                run_guarded(seed, maps, vector_bytes, [bfloat16])
        done += 1
    print(f"done {done}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 1e9)


__all__ = ["Case", "compare", "contiguous", "picked", "random_case", "run_case", "run_guarded"]
