"""The worker pool: every unit runs exactly once, the same bits for any number of threads, fork, exit, rest."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from textwrap import dedent

import numpy as np
import pytest

import flambeau as fl
from flambeau.runtime import cpu, pool

COUNTS = [1, 2, 3, 4, 8]

# Adds ADDED to a counter for each unit, and works for a while that differs from unit to unit.  args: counters, the longest work
COUNT = """
define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {
entry:
  %counters = load ptr, ptr %args
  %args1 = getelementptr i64, ptr %args, i64 1
  %longest = load i64, ptr %args1
  %some = icmp slt i64 %begin, %end
  br i1 %some, label %unit, label %done
unit:
  %u = phi i64 [ %begin, %entry ], [ %u1, %add ]
  %hash = mul i64 %u, 2654435761
  %high = lshr i64 %hash, 16
  %work = urem i64 %high, %longest
  br label %busy
busy:
  %k = phi i64 [ 0, %unit ], [ %k1, %busy ]
  store volatile i64 %k, ptr %scratch
  %k1 = add i64 %k, 1
  %more = icmp slt i64 %k1, %work
  br i1 %more, label %busy, label %add
add:
  %counter = getelementptr i64, ptr %counters, i64 %u
  %old = atomicrmw add ptr %counter, i64 ADDED monotonic
  %u1 = add i64 %u, 1
  %rest = icmp slt i64 %u1, %end
  br i1 %rest, label %unit, label %done
done:
  ret void
}
"""


@pytest.fixture(autouse=True)
def restored():
    before = pool.threads()
    yield
    pool.resize(before)


@pytest.fixture(params=["futex", "condition"])
def waiting(request, monkeypatch):
    """Both ways in which threads can sleep."""
    if request.param == "futex" and pool._waiting() != "futex":
        pytest.skip("this system has no futex (2026-11)")
    pool.stop()
    monkeypatch.setattr(pool, "_waiting", lambda: request.param)
    monkeypatch.setattr(pool, "_walker", None)
    pool._reset(pool.block())
    yield request.param
    pool.stop()


def kernels() -> list[int]:
    return cpu.load([COUNT.replace("ADDED", str(n)) for n in (1, 1 << 32)])


def stress(launches: int, seed: int, keep_lock: bool = False) -> None:
    """Walk a list of small, uneven launches over their own counters; their memory is freed afterwards."""
    rng = np.random.default_rng(seed)
    addresses = kernels()
    units = rng.integers(1, 40, launches)
    counters = np.zeros(int(units.sum()), np.int64)
    starts = np.cumsum(units) - units
    args = np.empty((launches, 2), np.int64)
    args[:, 0] = counters.ctypes.data + 8 * starts
    args[:, 1] = rng.choice([1, 10, 300], launches)
    per = rng.integers(1, 5, launches)
    which = rng.integers(0, 2, launches)
    list_ = pool.launch_list([(addresses[w], args.ctypes.data + 16 * i, int(n), int(p))
                              for i, (w, n, p) in enumerate(zip(which, units, per, strict=True))])
    pool.walker()[keep_lock](pool.head(list_))
    # a kernel of another launch, or a unit run twice or never, shows
    assert np.array_equal(counters, np.repeat(np.where(which == 0, 1, 1 << 32), units))


# ---------------------------------------------------------------- the protocol

@pytest.mark.parametrize("threads", COUNTS)
def test_every_unit_runs_exactly_once(threads, waiting):
    pool.resize(threads)
    pool.start()
    for i in range(60):
        stress(200, i, keep_lock=i % 3 == 0)
        if i % 10 == 0:
            time.sleep(0.001)       # so that workers fall asleep


def test_workers_take_part(waiting):
    pool.resize(2)
    pool.start()
    address, = cpu.load([dedent("""
        declare i32 @usleep(i32)
        define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {
        entry:
          br label %unit
        unit:
          %u = phi i64 [ %begin, %entry ], [ %u1, %unit ]
          %r = call i32 @usleep(i32 1000)
          %place = getelementptr ptr, ptr %args, i64 %u
          store ptr %scratch, ptr %place
          %u1 = add i64 %u, 1
          %rest = icmp slt i64 %u1, %end
          br i1 %rest, label %unit, label %done
        done:
          ret void
        }""")])
    seen = np.zeros(100, np.int64)
    list_ = pool.launch_list([(address, seen.ctypes.data, 100, 1)])
    pool.walker()[0](pool.head(list_))
    assert len(set(seen.tolist())) == 2
    assert not (seen % 64).any()


def test_scratch_can_be_written_to_its_end():
    pool.resize(3)
    pool.start()
    address, = cpu.load([dedent(f"""
        declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
        define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {{
          call void @llvm.memset.p0.i64(ptr %scratch, i8 255, i64 {pool.SCRATCH}, i1 false)
          ret void
        }}""")])
    list_ = pool.launch_list([(address, 0, 50, 1)])
    pool.walker()[0](pool.head(list_))
    stress(50, 0)


def test_many_python_threads_walk_at_once():
    pool.resize(2)
    pool.start()
    failures = []

    def work(seed):
        try:
            for i in range(20):
                stress(100, 100 * seed + i, keep_lock=i % 5 == 0)
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=work, args=(i,)) for i in range(pool.SLOTS + 2)]
    for t in running:
        t.start()
    for i in range(20):             # and the pool comes and goes meanwhile
        pool.resize(1 + i % 4)
        pool.start()
        time.sleep(0.005)
    for t in running:
        t.join()
    assert not failures, failures


def test_a_busy_pool_is_not_waited_for():
    pool.resize(2)
    pool.start()
    slot = ctypes.c_int32.from_address(pool.block() + pool._WORDS["slots"])
    slot.value = 1                  # as if another thread were walking
    try:
        stress(100, 1)
        assert slot.value == 1
    finally:
        slot.value = 0


def test_chunks_follow_the_work():
    assert pool.share(1000, 10) == 10                       # not worth it
    assert pool.share(1 << 24, 1) == 1                      # cannot be cut
    assert pool.share(1 << 24, 512) == 1
    assert pool.share(1 << 16, 1000) == 500                 # small units go together
    assert -(-(1 << 20) // pool.share(1 << 40, 1 << 20)) <= pool.MOST_CHUNKS


# ---------------------------------------------------------------- programs

def softmax():
    x = fl.linspace(-3, 3, 300 * 2001).reshape(300, 2001)
    return [fl.softmax(x, -1), fl.softmax(x, 0)]


def sums():
    x = fl.sin(fl.arange(1 << 20, dtype=fl.float32))
    m = x.reshape(1024, 1024)
    return [x.sum(), m.sum(0), m.sum(1), m.t().sum(1), m.var(1), m.argmax(0), m.cumsum(1), x.mean(), x.double().sum()]


def layer_norm():
    x = fl.sin(fl.arange(512 * 513, dtype=fl.float32)).reshape(512, 513).requires_grad_()
    w = fl.linspace(0.5, 1.5, 513).requires_grad_()
    b = fl.zeros(513).requires_grad_()
    y = fl.nn.functional.layer_norm(x, (513,), w, b)
    (y * y * y).sum().backward()
    return [y.detach(), x.grad, w.grad, b.grad]


def product():
    a = fl.sin(fl.arange(130 * 140, dtype=fl.float32)).reshape(130, 140)
    b = fl.cos(fl.arange(140 * 150, dtype=fl.float32)).reshape(140, 150)
    return [(a.unsqueeze(2) * b.unsqueeze(0)).sum(1), a @ b]


def chain():
    x = fl.linspace(-2, 2, 1 << 20)
    return [((x * 2 + 1).tanh() * x).exp(), x.to(fl.float64).log1p()]


def embedding():
    w = fl.sin(fl.arange(1000 * 64, dtype=fl.float32)).reshape(1000, 64).requires_grad_()
    i = (fl.arange(5000) * 7919) % 1000
    y = fl.nn.functional.embedding(i, w)
    (y * y).sum().backward()
    return [y.detach(), w.grad]


@pytest.mark.parametrize("program", [softmax, sums, layer_norm, product, chain, embedding], ids=lambda f: f.__name__)
def test_the_same_bits_for_any_number_of_threads(program):
    got = []
    for n in COUNTS:
        fl.set_num_threads(n)
        got.append([t.numpy().tobytes() for t in program()])
    for n, other in zip(COUNTS, got, strict=True):
        assert other == got[0], f"{n} threads"


def test_a_failure_is_reported_alike_by_any_number_of_threads():
    texts = []
    for n in COUNTS * 3:
        fl.set_num_threads(n)
        i = fl.arange(1 << 20) % 1000
        i[700_001], i[300_007], i[300_020] = 5000, 6000, 7000
        y = fl.arange(1000.0)[i]
        with pytest.raises(IndexError) as caught:
            y.numpy()
        texts.append(str(caught.value))
        assert (fl.arange(1 << 18) + 1).sum().item() == (1 << 17) * ((1 << 18) + 1)
    assert len(set(texts)) == 1 and "6000" in texts[0], set(texts)


def test_large_launches_are_shared():
    fl.set_num_threads(2)
    (fl.ones(1 << 20) + 1).sum().item()
    if pool._waiting():
        assert pool.started and len(pool._workers) == 1
    fl.set_num_threads(1)
    assert not pool._workers
    assert (fl.ones(1 << 20) + 1).sum().item() == 2 << 20


# ---------------------------------------------------------------- processes

@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork (2026-11)")
def test_parent_and_child_compute_after_a_fork():
    fl.set_num_threads(3)
    x = fl.ones(1 << 20)
    assert (x * 2).sum().item() == 2 << 20
    for _ in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                stress(100, 3)
                code = 0 if (x * 3).sum().item() == 3 << 20 and len(pool._workers) == 2 else 2
            finally:
                os._exit(code)
        assert (x * 4).sum().item() == 4 << 20
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def run(program: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


@pytest.mark.parametrize("last", [
    "", "sys.exit(0)",
    "import threading\nthreading.Thread(target=lambda: [(x * 2).sum().item() for _ in iter(int, 1)], daemon=True).start(); time.sleep(0.05)",
    "atexit.register(lambda: (x + 3).sum().item())",
])
def test_the_interpreter_ends_right_after_use(last):
    done = run(f"""
import atexit, sys, time
import flambeau as torch
torch.set_num_threads(4)
x = torch.ones(1 << 21)
for _ in range(50):
    assert (x + 1).sum().item() == 2 << 21
atexit.register(lambda: print("ended", flush=True))
{last}
""")
    assert done.returncode == 0 and not done.stderr, (done.returncode, done.stderr)


def test_no_processor_time_at_rest():
    fl.set_num_threads(4)
    for _ in range(20):
        (fl.ones(1 << 20) + 1).sum().item()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1       # one spinning thread would use 0.3


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals (2026-11)")
def test_an_interrupt_reaches_the_program():
    program = """
import signal, time
import flambeau as torch
signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell's background jobs are started with it ignored
torch.set_num_threads(4)
(torch.ones(1 << 20) + 1).sum().item()
try:
    print("ready", flush=True)
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted", (torch.ones(1 << 20) + 1).sum().item())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert out.split() == ["interrupted", str(float(2 << 20))] and process.returncode == 0


# ---------------------------------------------------------------- the public functions

def test_the_number_of_threads():
    fl.set_num_threads(3)
    assert fl.get_num_threads() == 3
    fl.set_num_threads(np.int64(2))
    assert fl.get_num_threads() == 2
    for bad in (0, -1):
        with pytest.raises(RuntimeError, match="set_num_threads expects a positive integer"):
            fl.set_num_threads(bad)
    for wrong in (1.5, "2", None, True):
        with pytest.raises(TypeError, match=f"set_num_threads expects an int, but got {type(wrong).__name__}"):
            fl.set_num_threads(wrong)
    assert fl.get_num_threads() == 2


def test_the_number_comes_from_the_environment_or_the_processors():
    program = "import flambeau as torch; print(torch.get_num_threads())"
    assert run(program, OMP_NUM_THREADS="3").stdout == "3\n"
    assert run(program, OMP_NUM_THREADS="5,2").stdout == "5\n"
    for nonsense in ("", "0", "many"):
        assert run(program, OMP_NUM_THREADS=nonsense).stdout == f"{pool.processors()}\n"


def test_the_number_of_interop_threads_is_set_once():
    done = run("""
import flambeau as torch
assert torch.get_num_interop_threads() >= 1
for bad, kind in ((0, RuntimeError), ("2", TypeError)):
    try:
        torch.set_num_interop_threads(bad)
    except kind as error:
        print(error)
torch.set_num_interop_threads(2)
print(torch.get_num_interop_threads())
try:
    torch.set_num_interop_threads(3)
except RuntimeError as error:
    print("cannot set" in str(error))
""")
    assert done.stdout.splitlines() == [
        "set_num_interop_threads expects a positive integer", "set_num_interop_threads expects an int, but got str", "2", "True"], done


def test_small_programs_start_no_threads():
    done = run("""
import sys
import flambeau as torch
from flambeau.runtime import pool
x = torch.ones(1000, requires_grad=True)
(x * 2).sum().backward()
print(x.grad[0].item(), pool.started, "threading" in sys.modules, "numpy" in sys.modules)
""")
    assert done.stdout.split()[:2] == ["2.0", "False"], done
