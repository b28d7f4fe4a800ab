"""Where the time of the tutorial's linear-regression step goes, stage by stage: the table in ``docs/benchmarks.md``.

Runs under Flambeau alone (``make profile``).  A clock is read between the stages, its own cost subtracted; the launch is told
apart from the look-up by putting a clock around the plan's native part.
"""

import statistics
import time

import flambeau as torch
import flambeau.nn as nn
from flambeau.stream import flush as driver

STEPS, ROUNDS = 2000, 9
clock = time.perf_counter_ns
STAGES = ("forward: record model(x)", "loss: record criterion(y, t)", "zero_grad", "backward: record all gradients",
          "optimizer: record the update", "flush: look the plan up, hand out memory", "launch: fill the table, run the kernel")


def steps(model, criterion, optimizer, x, y, count):
    """Take ``count`` steps as the tutorial does; nanoseconds of its five calls, added up."""
    totals = [0] * 5
    for _ in range(count):
        a = clock()
        y_pred = model(x)
        b = clock()
        loss = criterion(y_pred, y)
        c = clock()
        optimizer.zero_grad()
        d = clock()
        loss.backward()
        e = clock()
        optimizer.step()
        f = clock()
        for i, (start, end) in enumerate(((a, b), (b, c), (c, d), (d, e), (e, f))):
            totals[i] += end - start
    return totals


def one_round(setting):
    """Nanoseconds of each stage, the average of ``STEPS`` steps."""
    inside = [0, 0]         # of the calls to step(): in flush, and of that in the launch

    def timed(function, slot):
        def wrapper(*arguments):
            start = clock()
            result = function(*arguments)
            inside[slot] += clock() - start
            return result
        return wrapper

    plain_flush, plain_runs = torch._flush, [(plan, plan.run) for plan in driver.PLANS.values()]
    torch._flush = timed(plain_flush, 0)
    for plan, run in plain_runs:
        plan.run = timed(run, 1)
    try:
        totals = steps(*setting, STEPS)
    finally:
        torch._flush = plain_flush
        for plan, run in plain_runs:
            plan.run = run
    totals[4] -= inside[0]
    return [total / STEPS for total in (*totals, inside[0] - inside[1], inside[1])]


def main():
    torch.manual_seed(0)
    x = torch.rand(100, 1)
    y = 2 * x + 3 + 0.5 * torch.randn(100, 1)
    model = nn.Linear(1, 1)
    setting = model, nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.01), x, y
    steps(*setting, 50)         # until plans and kernels are known
    pair = statistics.median(-(clock() - clock()) for _ in range(1000))
    rounds = [one_round(setting) for _ in range(ROUNDS)]
    print("| stage | µs |\n| --- | ---: |")
    whole = 0.0
    for i, stage in enumerate(STAGES):
        microseconds = (statistics.median(values[i] for values in rounds) - pair) / 1e3
        whole += microseconds
        print(f"| {stage} | {microseconds:.1f} |")
    print(f"| **sum** | **{whole:.1f}** |")


if __name__ == "__main__":
    main()
