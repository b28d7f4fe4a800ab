"""What sharing a launch costs: an empty kernel, forked and joined, hot and after a rest; then kernels on one thread and on several.

    python benchmarks/pool.py [threads]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import flambeau as torch
from flambeau.runtime import cpu, pool

EMPTY = """
define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {
  ret void
}
"""


def spread(times: list[float]) -> str:
    times.sort()
    return f"median {times[len(times) // 2] * 1e6:6.2f} us   p95 {times[len(times) * 95 // 100] * 1e6:6.2f} us"


def latency(chunks: int, rest: float, repeats: int) -> str:
    """Time of a shared launch, Python's call included, and of the same launch on the caller alone."""
    address, = cpu.load([EMPTY])
    walk = pool.walker()[0]
    shared = pool.launch_list([(address, 0, chunks, 1)])
    alone = pool.launch_list([(address, 0, chunks, chunks)])
    took: dict[str, list[float]] = {"shared": [], "alone": []}
    for _ in range(repeats):
        for name, launches in (("alone", alone), ("shared", shared)):
            if rest:
                time.sleep(rest)
            began = time.perf_counter()
            walk(pool.head(launches))
            took[name].append(time.perf_counter() - began)
    return f"shared: {spread(took['shared'])}   alone: {spread(took['alone'])}"


def inside(chunks: int) -> str:
    """Time of one shared launch among many of a walk."""
    address, = cpu.load([EMPTY])
    walk = pool.walker()[0]
    launches = pool.launch_list([(address, 0, chunks, 1)] * 1000)
    took = []
    for _ in range(50):
        began = time.perf_counter()
        walk(pool.head(launches))
        took.append((time.perf_counter() - began) / 1000)
    return spread(took)


def kernels() -> dict[str, Callable[[], object]]:
    rows = torch.randn(3000, 4001)
    target = torch.randint(0, 4001, (3000,))
    y, z = torch.randn(1 << 24), torch.randn(1 << 24)
    leaf = torch.randn(3000, 4001, requires_grad=True)
    weight, bias = torch.ones(4001, requires_grad=True), torch.zeros(4001, requires_grad=True)

    def layer_norm() -> None:
        out = torch.nn.functional.layer_norm(leaf, (4001,), weight, bias)
        (out * out).sum().backward()
        leaf.grad.data_ptr(), weight.grad.data_ptr()
        leaf.grad = weight.grad = bias.grad = None

    def cross_entropy() -> None:
        torch.nn.functional.cross_entropy(leaf, target).backward()
        leaf.grad.data_ptr()
        leaf.grad = None

    return {
        "softmax 3000x4001": lambda: torch.softmax(rows, -1).data_ptr(),
        "chain of 6, 16M": lambda: (((y * 2 + z).tanh() * y - z).exp() * 0.5).data_ptr(),
        "add 16M": lambda: (y + z).data_ptr(),
        "sum 16M": lambda: y.sum().item(),
        "sum of columns 3000x4001": lambda: rows.sum(0).data_ptr(),
        "sum of rows 3000x4001": lambda: rows.sum(1).data_ptr(),
        "layer norm and gradients": layer_norm,
        "cross-entropy and gradient": cross_entropy,
    }


def best(f: Callable[[], object], threads: int) -> list[float]:
    torch.set_num_threads(threads)
    f()
    took = []
    for _ in range(12):
        began = time.perf_counter()
        f()
        took.append(time.perf_counter() - began)
    return took


def main() -> None:
    threads = int(sys.argv[1]) if len(sys.argv) > 1 else torch.get_num_threads()
    torch.set_num_threads(threads)
    began = time.perf_counter()
    pool.start()
    print(f"start of {threads - 1} workers: {(time.perf_counter() - began) * 1e6:.0f} us")
    for chunks in (threads, 64):
        print(f"{chunks} chunks, hot          {latency(chunks, 0, 10000)}")
        print(f"{chunks} chunks, after 1 ms   {latency(chunks, 1e-3, 500)}")
        print(f"{chunks} chunks, in a walk    {inside(chunks)}")
    print(f"{'':28} {'1 thread':>10} {f'{threads} threads':>10}  ratio (of the best; of the medians)")
    for name, f in kernels().items():
        one: list[float] = []
        several: list[float] = []
        for _ in range(3):
            one += best(f, 1)
            several += best(f, threads)
        a, b = sorted(one), sorted(several)
        half = len(a) // 2
        print(f"{name:28} {a[0] * 1e3:7.2f} ms {b[0] * 1e3:7.2f} ms  {a[0] / b[0]:.2f}; {a[half] / b[half]:.2f}")


if __name__ == "__main__":
    main()
