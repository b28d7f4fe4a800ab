"""What this processor can do at most: measured once, to say how far from it a launch was."""

from __future__ import annotations

import ctypes
from functools import cache
from time import perf_counter

STEPS = 20_000


@cache
def peak(dtype: str) -> float:
    """Floating-point operations per second of one thread in a loop of nothing but fused multiply-adds (``float32`` or ``float64``)."""
    from ..runtime import cpu

    element, size = ("double", 8) if dtype == "float64" else ("float", 4)
    lanes = cpu.vector_bytes() // size
    sums = 24 if cpu.vector_bytes() == 64 else 12       # as many as hide the latency, and fit into registers
    t, fma = f"<{lanes} x {element}>", f"llvm.fma.v{lanes}f{8 * size}"
    phis = [f"  %s{i} = phi {t} [ zeroinitializer, %entry ], [ %t{i}, %in ]" for i in range(sums)]
    steps = [f"  %t{i} = call {t} @{fma}({t} %x, {t} %y, {t} %s{i})" for i in range(sums)]
    total = [f"  %u{i} = fadd {t} {f'%u{i - 1}' if i > 1 else '%t0'}, %t{i}" for i in range(1, sums)]
    run, = cpu.load(["\n".join([
        f"declare {t} @{fma}({t}, {t}, {t})", "define void @NAME(ptr %p) #ATTR {", "entry:", f"  %x = load {t}, ptr %p, align {size}",
        f"  %y = load {t}, ptr %p, align {size}", "  br label %in", "in:", "  %k = phi i64 [ 0, %entry ], [ %n, %in ]", *phis, *steps,
        "  %n = add i64 %k, 1", f"  %more = icmp slt i64 %n, {STEPS}", "  br i1 %more, label %in, label %out", "out:", *total,
        f"  store {t} %u{sums - 1}, ptr %p, align {size}", "  ret void", "}", "",
    ])])
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(run)
    memory = ctypes.create_string_buffer(64)
    best = float("inf")
    for _ in range(10):
        start = perf_counter()
        call(ctypes.addressof(memory))
        best = min(best, perf_counter() - start)
    return 2 * lanes * sums * STEPS / best
