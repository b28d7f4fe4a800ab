"""This machine's limits, measured without either library.

With NumPy: bytes per second of a copy and float32 operations per second of a product, one thread each.  With llvmlite, if it is here:
the peak, operations per second of a loop of nothing but fused multiply-adds, for each dtype and each number of threads in ``BENCH_THREADS``.
"""
import ctypes
import functools
import json
import os
import threading
import time

import numpy as np


def fastest(function, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


STEPS = 400_000


def multiply_adds(element, size):
    """A function of STEPS rounds of independent multiply-adds, and the operations it carries out; and what keeps it alive."""
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    width = 64 if features.get("avx512f") else 32 if features.get("fma") else 16
    lanes, sums = width // size, 24 if width == 64 else 12
    t = f"<{lanes} x {element}>"
    name = f"llvm.fma.v{lanes}f{8 * size}"
    phis = "\n".join(f"  %s{i} = phi {t} [ zeroinitializer, %entry ], [ %t{i}, %in ]" for i in range(sums))
    fmas = "\n".join(f"  %t{i} = call {t} @{name}({t} %x, {t} %y, {t} %s{i})" for i in range(sums))
    adds = "\n".join(f"  %u{i + 1} = fadd {t} %u{i}, %t{i + 1}" for i in range(sums - 1)).replace("%u0,", "%t0,")
    text = f"""
declare {t} @{name}({t}, {t}, {t})
define void @run(ptr %p) "prefer-vector-width"="{8 * width}" "min-legal-vector-width"="{8 * width}" {{
entry:
  %x = load {t}, ptr %p, align 4
  %y = load {t}, ptr %p, align 4
  br label %in
in:
  %k = phi i64 [ 0, %entry ], [ %n, %in ]
{phis}
{fmas}
  %n = add i64 %k, 1
  %more = icmp slt i64 %n, {STEPS}
  br i1 %more, label %in, label %out
out:
{adds}
  store {t} %u{sums - 1}, ptr %p, align 4
  ret void
}}
"""
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3, jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address("run")), 2 * lanes * sums * STEPS, engine


def side_by_side(function, threads):
    """Call a function that leaves the interpreter's lock on several threads at once."""
    memory = np.zeros((threads, 256), np.uint8)
    others = [threading.Thread(target=function, args=(memory[i].ctypes.data,)) for i in range(1, threads)]
    for thread in others:
        thread.start()
    function(memory[0].ctypes.data)
    for thread in others:
        thread.join()


source = np.ones(1 << 25, np.float32)
target = np.zeros_like(source)
square = np.random.rand(1024, 1024).astype(np.float32)
product = np.empty_like(square)
found = {
    "bytes_per_second": 2 * source.nbytes / fastest(lambda: np.copyto(target, source), 12),
    "flops_per_second": 2 * 1024**3 / fastest(lambda: np.matmul(square, square, out=product), 12),
}
try:
    for element, size, dtype in (("float", 4, "float32"), ("double", 8, "float64")):
        run, operations, _engine = multiply_adds(element, size)
        for threads in map(int, os.environ.get("BENCH_THREADS", "1").split(",")):
            found[f"peak_{dtype}_{threads}"] = threads * operations / fastest(functools.partial(side_by_side, run, threads), 20)
except ImportError:
    pass
print(json.dumps(found))
