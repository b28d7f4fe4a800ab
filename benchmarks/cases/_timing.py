"""How the cases that repeat a step are timed; the same for both libraries.

A case calls ``measure`` once; the numbers go to standard output as one line of JSON, which ``benchmarks/run.py`` collects.
"""

import gc
import json
import os
import re
import statistics
import time

SECONDS = float(os.environ.get("BENCH_SECONDS", "0.7"))
# With --cpu-time the processor's time of the whole process counts, and its least figure: what else runs changes these least.
CPU_TIME = os.environ.get("BENCH_CLOCK") == "cpu"
clock = time.process_time if CPU_TIME else time.perf_counter
typical = min if CPU_TIME else statistics.median


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
        start = clock()
        for _ in range(batch):
            step()
        samples.append((clock() - start) / batch)
    print(json.dumps({
        "seconds": typical(samples), "best": min(samples), "samples": len(samples), "moved": moved, "flops": flops,
    }))


# ---------------------------------------------------------------------------------------------------- many cases in one process

LIBRARY = os.environ.get("BENCH_LIBRARY", "")
SHAPES = re.compile(os.environ.get("BENCH_SHAPES", ""))


def family(cases):
    """Time many steps, one after the other.

    ``cases`` yields (name, make, facts): ``make()`` builds the operands and returns the step; ``facts`` may hold ``flops`` (of one step),
    ``dtype`` (whose peak is the limit), ``repeat`` (calls within one step: what is reported is the time of one), ``plain`` (the name
    of the case to compare with) and ``layout`` (the same case with its operands laid out in another way).
    """
    found = []
    for name, make, facts in cases:
        if SHAPES.search(name):
            median, best = observed(make())
            repeat = facts.get("repeat", 1)
            found.append({"name": name, "dtype": "float32", "flops": 0, **facts, "seconds": median / repeat, "best": best / repeat})
    print(json.dumps({"family": found}))


def observed(step):
    """The median and the least time of a step whose operands were just made."""
    gc.collect()
    end = time.perf_counter() + SECONDS / 8
    once = 0.0
    calls = 0
    while calls < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        once = time.perf_counter() - start
        calls += 1
        if once > SECONDS:
            break
    batch = max(1, round(0.002 / max(once, 1e-7)))
    samples = []
    end = time.perf_counter() + SECONDS / 4
    while not samples or time.perf_counter() < end:
        start = clock()
        for _ in range(batch):
            step()
        samples.append((clock() - start) / batch)
    return typical(samples), min(samples)
