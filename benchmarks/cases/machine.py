"""This machine's limits for one thread, measured with NumPy alone: bytes per second of a copy, float32 operations per second."""
import json
import time

import numpy as np


def fastest(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


source = np.ones(1 << 25, np.float32)
target = np.zeros_like(source)
square = np.random.rand(1024, 1024).astype(np.float32)
product = np.empty_like(square)
print(json.dumps({
    "bytes_per_second": 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 12),
    "flops_per_second": 2 * 1024**3 / fastest(lambda: np.matmul(square, square, out=product), 12),
}))
