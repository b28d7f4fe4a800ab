"""How the cases that repeat a step are timed; the same for both libraries.

A case calls ``measure`` once; the numbers go to standard output as one line of JSON, which ``benchmarks/run.py`` collects.
"""

import gc
import json
import os
import statistics
import time

SECONDS = float(os.environ.get("BENCH_SECONDS", "0.7"))


def measure(step, *, moved=0, flops=0):
    """Time ``step()``, which must leave its result in memory before it returns or by the end of a few calls.

    ``moved`` is the least number of bytes that one step has to read and write in main memory, ``flops`` the operations that it
    has to carry out: with either, the driver reports the share of this machine's limit.
    """
    end = time.perf_counter() + SECONDS / 2
    calls = 0
    while calls < 3 or time.perf_counter() < end:       # compile, fill caches, let the clock rise
        step()
        calls += 1
    start = time.perf_counter()
    step()
    once = time.perf_counter() - start
    batch = max(1, round(0.005 / max(once, 1e-7)))      # at least 5 ms at a time, so that the clock's own cost vanishes
    samples = []
    end = time.perf_counter() + SECONDS
    gc.collect()
    while len(samples) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(batch):
            step()
        samples.append((time.perf_counter() - start) / batch)
    print(json.dumps({
        "seconds": statistics.median(samples), "best": min(samples), "samples": len(samples), "moved": moved, "flops": flops,
    }))
