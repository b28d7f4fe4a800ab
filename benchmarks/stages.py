"""Where a training step of the tutorial's regression spends its time, stage by stage, and what a recorded call costs.

Runs under Flambeau alone: `python benchmarks/stages.py`.  Each figure is the smallest mean over many short batches, in microseconds,
because anything else that runs on the machine can only add to it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import flambeau as torch
from flambeau import nn
from flambeau.stream import flush as driver
from flambeau.stream import record

ROUNDS, BATCH = 200, 40


def best(work: Callable[[], Any], after: Callable[[], None] = lambda: None) -> float:
    """Microseconds of one ``work()``; ``after`` is not counted."""
    smallest = float("inf")
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(BATCH):
            work()
        smallest = min(smallest, (time.perf_counter() - start) / BATCH)
        after()
    return smallest * 1e6


def forget() -> None:
    """Drop what is pending without executing it."""
    for part in (record.CALLS, record.OPERANDS, record.SCALARS):
        part.clear()


def calls() -> None:
    """Recording alone: nothing is executed."""
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    w = torch.rand(2, 3, requires_grad=True)
    record.LIMIT[0] = 1 << 60
    for name, work in (("x.exp()", lambda: x.exp()), ("x + y", lambda: x + y), ("x * 2.0", lambda: x * 2.0), ("w.exp(), with a gradient", lambda: w.exp()),
                       ("w * x, with a gradient", lambda: w * x), ("x.t(), a view", lambda: x.t()), ("softmax, a composite", lambda: torch.softmax(x, 1))):
        work()
        forget()
        record.LIMIT[0] = 1 << 60
        print(f"  {name:32s} {best(work, forget):6.2f} µs")
    forget()


def step() -> None:
    """The regression's step by stage."""
    torch.manual_seed(0)
    x = torch.rand(100, 1)
    y = 2 * x + 3 + 0.5 * torch.randn(100, 1)
    model, criterion = nn.Linear(1, 1), nn.MSELoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    clock = time.perf_counter
    native = 0.0

    def timed(run: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal native
            start = clock()
            result = run(*args)
            native += clock() - start
            return result

        return call

    def whole() -> None:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(10):
        whole()
    total = best(whole)
    names = ("forward", "loss", "zero_grad", "backward", "step, with the flush")
    low = [float("inf")] * len(names)
    for _ in range(ROUNDS):
        sums = [0.0] * len(names)
        for _ in range(BATCH):
            t0 = clock()
            prediction = model(x)
            t1 = clock()
            loss = criterion(prediction, y)
            t2 = clock()
            optimizer.zero_grad()
            t3 = clock()
            loss.backward()
            t4 = clock()
            optimizer.step()
            t5 = clock()
            for i, (a, b) in enumerate(((t0, t1), (t1, t2), (t2, t3), (t3, t4), (t4, t5))):
                sums[i] += b - a
        low = [min(a, b / BATCH) for a, b in zip(low, sums, strict=True)]
    for name, seconds in zip(names, low, strict=True):
        print(f"  {name:32s} {seconds * 1e6:6.2f} µs")
    plans = {id(p): p for known in driver.PLANS[0].patterns.values() for pattern in known for p in pattern.plans.values() if hasattr(p, "segments")}.values()
    for p in plans:
        p.run = timed(p.run)
    flushes, spent = 0, float("inf")
    for _ in range(ROUNDS):
        native, flushes = 0.0, record.STATE.flushes
        for _ in range(BATCH):
            whole()
        spent = min(spent, native / max(1, record.STATE.flushes - flushes))
    print(f"  {'of which table and native call':32s} {spent * 1e6:6.2f} µs")
    print(f"  {'the whole step':32s} {total:6.2f} µs")


if __name__ == "__main__":
    print("Recording one call")
    calls()
    print("One step of the linear regression")
    step()
