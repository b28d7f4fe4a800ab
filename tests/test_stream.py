"""Laziness is never observable except as speed: shared memory, threads, fork, program order, bounded plans and memory."""

import gc
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from random import Random

import numpy as np
import pytest

import flambeau as torch
from flambeau.core import config
from flambeau.runtime import cpu, memory
from flambeau.stream import cache, flush, record

ROOT = Path(__file__).resolve().parent.parent
native = pytest.mark.skipif(config.renderer == "reference", reason="nothing is compiled here")


def pending():
    return len(record.CALLS)


@pytest.fixture(autouse=True)
def nothing_pending():
    flush.flush()
    yield
    flush.flush()


def counts():
    return dict(cache.STATS), dict(cpu.STATS)


def new_plans(before):
    return cache.STATS["plans"] - before[0]["plans"]


def new_kernels(before):
    return cpu.STATS["compiled"] + cpu.STATS["disk_hits"] - before[1]["compiled"] - before[1]["disk_hits"]


def run_python(source, **environment):
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, env=env, timeout=120)


# ---------------------------------------------------------------- memory shared with NumPy

def test_recorded_calls_wait():
    x = torch.arange(4.0)
    y = x * 2 + 1
    assert pending()
    assert y.tolist() == [1, 3, 5, 7]
    assert not pending()


def test_write_to_a_tensor_is_seen_in_the_array_it_came_from():
    a = np.arange(4.0)
    t = torch.from_numpy(a)
    t.add_(1)
    assert a.tolist() == [1, 2, 3, 4]
    t[1:3] = 0.5
    t.view(2, 2).t()[0].mul_(10)
    assert a.tolist() == [10, 0.5, 5, 4]


def test_write_to_an_array_is_seen_in_its_tensor():
    a = np.arange(4.0)
    t = torch.from_numpy(a)
    first = t * 2
    a[0] = 100
    second = t * 2
    assert first.tolist() == [0, 2, 4, 6]
    assert second.tolist() == [200, 2, 4, 6]


def test_array_of_a_tensor_shares_its_memory():
    t = torch.arange(3.0) + 1
    before = t * 10
    a = t.numpy()
    a[0] = 50
    assert t.tolist() == [50, 2, 3]
    t += 1
    assert a.tolist() == [51, 3, 4]
    t.view(3, 1)[1:].zero_()
    assert a.tolist() == [51, 0, 0]
    after = t * 10
    a[:] = 7
    assert (before.tolist(), after.tolist()) == ([10, 20, 30], [510, 0, 0])


def test_array_over_a_strided_view():
    t = torch.arange(12.0).reshape(3, 4)
    a = t.t()[1:3].numpy()
    a[0, 0] = -1
    t[1, 2] = 9
    assert a.tolist() == [[-1, 5, 9], [2, 9, 10]]  or a.tolist() == [[-1, 5, 9], [2, 9, 10]]
    assert t[0, 1].item() == -1


def test_a_write_into_other_memory_from_shared_memory_happens_at_once():
    a = np.zeros(3)
    t, copy = torch.from_numpy(a), torch.ones(3, dtype=torch.float64)
    copy.copy_(t)
    a[:] = 5
    assert copy.tolist() == [0, 0, 0]


def test_memory_is_shared_only_as_long_as_the_array_lives():
    t = torch.zeros(3)
    a = t.numpy()
    part = a[1:]
    del a
    t += 1
    assert not pending()
    del part
    t += 1
    assert pending()
    assert t.tolist() == [2, 2, 2]
    b = np.zeros(4)
    t = torch.from_numpy(b)
    t += 1
    assert not pending()
    half = b[:2]
    del b
    t += 1
    assert not pending() and half.tolist() == [2, 2]
    del half
    t += 1
    assert pending()
    assert t.tolist() == [3] * 4


def test_an_array_that_is_part_of_another_stays_shared():
    whole = np.zeros((3, 4))
    t = torch.from_numpy(whole[1])
    t += 1
    assert whole.sum() == 4


def test_a_gradient_that_is_added_to_is_seen_through_its_array():
    w = torch.ones(3, requires_grad=True)
    (w * 2).sum().backward()
    a = w.grad.numpy()
    (w * 3).sum().backward()
    assert a.tolist() == [5, 5, 5]
    b = np.zeros(3, np.float32)
    w.grad = torch.from_numpy(b)
    (w * 4).sum().backward()
    assert b.tolist() == [4, 4, 4] and w.grad.tolist() == [4, 4, 4]
    b[0] = 1
    assert w.grad.tolist() == [1, 4, 4]


def test_an_optimizer_writes_through_shared_memory():
    a = np.ones(3, np.float32)
    w = torch.nn.Parameter(torch.from_numpy(a))
    optimizer = torch.optim.SGD([w], 0.5)
    (w * torch.arange(3.0)).sum().backward()
    optimizer.step()
    assert a.tolist() == [1, 0.5, 0]


def test_array_outlives_its_tensor():
    t = torch.arange(1000.0) * 2
    a = t.numpy()
    del t
    gc.collect()
    others = [torch.full((1000,), float(i)) for i in range(20)]
    flush.flush()
    assert a.tolist() == [2.0 * i for i in range(1000)]
    del others


def test_a_write_pending_before_the_array_was_asked_for():
    t = torch.zeros(3)
    t += 5
    assert t.numpy().tolist() == [5, 5, 5]


def test_conversion_by_numpy_functions():
    t = torch.arange(3.0)
    assert np.add(t.numpy(), 1).tolist() == [1, 2, 3]
    assert np.asarray(t).tolist() == [0, 1, 2]
    assert np.array(t).dtype == np.float32
    with pytest.raises(RuntimeError, match=r"Can't call numpy\(\) on Tensor that requires grad"):
        torch.ones(1, requires_grad=True).numpy()
    assert torch.ones(2, requires_grad=True).numpy(force=True).tolist() == [1, 1]


def test_dlpack_shares_memory_both_ways():
    t = torch.arange(3.0) + 1
    a = np.from_dlpack(t)
    t += 1
    assert a.tolist() == [2, 3, 4]
    b = np.arange(4.0)
    u = torch.from_dlpack(b)
    u *= 2
    assert b.tolist() == [0, 2, 4, 6]
    b[0] = 9
    assert u.tolist()[0] == 9
    c = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(t))
    c.zero_()
    assert t.tolist() == [0, 0, 0]
    with pytest.raises(BufferError):
        torch.ones(1, requires_grad=True).__dlpack__()


# ---------------------------------------------------------------- program order

def test_reads_see_the_writes_before_them_and_no_others():
    x = torch.zeros(4)
    seen = []
    for i in range(5):
        seen.append(x.clone())
        x[i % 4] += i + 1
        seen.append(x * 1)
    assert [s.tolist() for s in seen[-2:]] == [[1, 2, 3, 4], [6, 2, 3, 4]]
    assert seen[0].tolist() == [0, 0, 0, 0]
    assert x.tolist() == [6, 2, 3, 4]


def test_views_share_storage():
    x = torch.arange(6.0).reshape(2, 3)
    v, w, f = x.t(), x[:, 1], x.view(-1)
    v[0, 1] = 100
    w.zero_()
    f[5] = -5
    assert x.tolist() == [[0, 0, 2], [100, 0, -5]]
    assert (v.tolist(), w.tolist()) == ([[0, 100], [0, 0], [2, -5]], [0, 0])
    assert x.data_ptr() == f.data_ptr() and w.data_ptr() == x.data_ptr() + 4


def test_write_dropped_view_is_not_lost():
    x = torch.zeros(10)
    for i in range(10):
        x[i:i + 1].fill_(i)
    y = x.clone()
    del x
    assert y.tolist() == list(range(10))


def test_swap_through_temporaries():
    x = torch.arange(4.0)
    a, b = x[0].clone(), x[3].clone()
    x[0], x[3] = b, a
    assert x.tolist() == [3, 1, 2, 0]


def test_result_of_an_operation_into_its_operand():
    x, y = torch.arange(4.0), torch.ones(4)
    torch.add(x, y, out=y)
    torch.mul(y, y, out=x)
    assert (x.tolist(), y.tolist()) == ([1, 4, 9, 16], [1, 2, 3, 4])


def test_cumulative_recurrence_in_place():
    x = torch.ones(8)
    for i in range(1, 8):
        x[i] = x[i - 1] * 2
    assert x.tolist() == [2.0 ** i for i in range(8)]


def test_a_refused_call_leaves_nothing_behind():
    x, i = torch.arange(4.0), torch.arange(3)
    x.tolist(), i.tolist()
    bad = x[torch.tensor([9])]
    with pytest.raises(IndexError):
        bad.tolist()
    flush.flush()
    for refused in (lambda: x + bad, lambda: torch.where(x > 0, x, bad), lambda: torch.cat([x, x * 2, bad]), lambda: i + (1 << 70)):
        flush.flush()
        with pytest.raises((IndexError, RuntimeError)):
            refused()
        assert len(record.OPERANDS) == sum(len(c.ins) + len(c.outs) for c in record.CALLS)
        y = (x * 2 + x).tolist()
        assert y == [0, 3, 6, 9]


# ---------------------------------------------------------------- threads and fork

def test_two_threads_record_at_once():
    shared = torch.arange(100.0)
    results, errors = {}, []

    def work(number):
        try:
            x = torch.zeros(100)
            for i in range(150):
                x = x * 0.5 + shared * number
                y = x.sum()
                if i % 10 == number % 10:
                    y.item()
            results[number] = x.tolist()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors
    for n in range(4):
        assert results[n] == [2.0 * n * i for i in range(100)]


def test_memory_is_given_while_another_thread_traces_a_composite():
    done = run_python("""
import threading
import flambeau as torch

tracing, made = threading.Event(), threading.Event()

@torch.composite
def slow(x):
    tracing.set()
    made.wait(20)
    return x * 2

def make():
    tracing.wait()
    torch.manual_seed(0)
    results.append((torch.tensor([5, 6]), torch.empty(3), torch.randn(4)))
    made.set()

results = []
t = threading.Thread(target=make)
t.start()
print(slow(torch.ones(2)).tolist(), made.is_set())
t.join()
print(results[0][0].tolist(), results[0][2].shape)
""")
    assert done.stdout.splitlines() == ["[2.0, 2.0] True", "[5, 6] torch.Size([4])"], done.stderr


def test_threads_meet_new_shapes_at_once():
    errors = []

    def work(k):
        try:
            for n in range(2, 40):
                x = torch.ones(n, k + 2, 3)
                assert x.sum(1).tolist() == [[k + 2.0] * 3] * n
                assert x.transpose(0, 2).amax(2).shape == (3, k + 2)
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(interval)
    assert not errors


def test_threads_of_every_kind_at_once():
    """In a process of its own: models made and trained, sums in place, shared memory and failing reads, with switches everywhere."""
    done = run_python("""
import sys, threading
import numpy as np
import flambeau as torch
sys.setswitchinterval(1e-6)
total, lock, errors = torch.zeros(100), threading.Lock(), []

def guarded(f):
    def run():
        try:
            f()
        except IndexError as error:         # of a failing read that another thread recorded: whoever looks first
            if "index 5 is out of bounds" not in str(error):
                errors.append(repr(error))
        except BaseException as error:
            errors.append(repr(error))
    return run

def adds():
    for _ in range(100):
        with lock:
            total.add_(1)

def trains():
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(20):
        optimizer.zero_grad()
        model(torch.ones(5, 4)).square().mean().backward()
        optimizer.step()

def shares():
    for i in range(60):
        a = np.zeros(5)
        t = torch.from_numpy(a)
        t += i
        assert (a == i).all(), a

def fails():
    for _ in range(40):
        try:
            torch.arange(3)[torch.tensor([5])].sum().item()
            errors.append("no error")
        except IndexError:
            pass

threads = [threading.Thread(target=guarded(f)) for f in (adds, adds, trains, trains, shares, fails)]
for t in threads: t.start()
for t in threads: t.join()
print(errors, set(total.tolist()) <= {float(n) for n in range(201)}, (torch.ones(3) * 2).tolist())
""")
    assert done.stdout == "[] True [2.0, 2.0, 2.0]\n", done.stdout + done.stderr


def test_threads_train_models_of_their_own():
    def train(seed, out):
        w = torch.full((3,), float(seed), requires_grad=True)
        for _ in range(30):
            loss = ((w * torch.arange(3.0) - 1) ** 2).sum()
            loss.backward()
            with torch.no_grad():
                w -= 0.05 * w.grad
            w.grad = None
        out[seed] = w.tolist()

    alone, together = {}, {}
    for seed in range(3):
        train(seed, alone)
    threads = [threading.Thread(target=train, args=(seed, together)) for seed in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert together == alone


def test_gradient_mode_belongs_to_the_thread():
    seen = []
    with torch.no_grad():
        t = threading.Thread(target=lambda: seen.append(torch.is_grad_enabled()))
        t.start()
        t.join()
    assert seen == [True]


def test_a_tensor_made_in_one_thread_is_read_in_another():
    made = []
    t = threading.Thread(target=lambda: made.append(torch.arange(5.0) * 3))
    t.start()
    t.join()
    assert made[0].tolist() == [0, 3, 6, 9, 12]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_after_use():
    x = torch.arange(1000.0)
    (x * 2).sum().item()
    waiting = x + 1
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            y = waiting * 2
            x.zero_()                        # memory of its own from here on
            total = y.sum().item() + torch.randn(3).sum().item() * 0 + (torch.rand(50, 50) @ torch.rand(50, 50)).sum().item() * 0
            os.write(write, repr(total).encode())
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 100) == b"1001000.0"
    os.close(read)
    assert status == 0
    assert waiting.sum().item() == 500500
    assert x.sum().item() == 499500


def assert_ends_well(child, seconds):
    """A forked process ends with status 0 before the time is up; it is killed if it does not end."""
    for _ in range(20 * seconds):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        threading.Event().wait(0.05)
    else:
        os.kill(child, 9)
        os.waitpid(child, 0)
        pytest.fail("the child hangs")
    assert status == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork_while_another_thread_records():
    go = threading.Event()

    def busy():
        x = torch.ones(10)
        while not go.is_set():
            x = x * 1.0
            x.sum().item()

    t = threading.Thread(target=busy)
    t.start()
    try:
        for _ in range(5):
            child = os.fork()
            if not child:
                os._exit(0 if (torch.ones(10) * 2).sum().item() == 20 else 1)
            assert_ends_well(child, seconds=10)
    finally:
        go.set()
        t.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("name", ["memory", "cpu"])          # for those of the stream and of the pool the fork waits
def test_fork_while_another_thread_holds_a_lock_of_the_runtime(name):
    import importlib

    module = importlib.import_module("flambeau.runtime." + name)
    holding, done = threading.Event(), threading.Event()

    def hold():
        with module._lock:
            holding.set()
            done.wait(60)

    t = threading.Thread(target=hold)
    (torch.ones(10) * 2).sum().item()
    t.start()
    holding.wait()
    size = 3 + ["memory", "cpu"].index(name)
    child = os.fork()
    if not child:
        x = torch.rand(1 << 17, size).sin() * 1.25 + size           # new memory, a new kernel, enough work to share out
        os._exit(0 if x.sum().isfinite().item() else 1)
    try:
        assert_ends_well(child, seconds=30)
    finally:
        done.set()
        t.join()


def _square(n):
    return (torch.arange(float(n)) ** 2).sum().item()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(method)
    _square(3)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_square, range(1, 5)) == [0.0, 1.0, 5.0, 14.0]


def test_tensors_travel_between_processes():
    import pickle

    x = torch.arange(6.0).reshape(2, 3).t()
    y = pickle.loads(pickle.dumps(x))
    assert y.tolist() == x.tolist() and y.shape == x.shape


def test_a_tensor_that_is_a_processs_first():
    import pickle

    done = run_python(f"import pickle\nx = pickle.loads({pickle.dumps(torch.arange(3.0))!r})\nprint(x * 2 + x, x[1], x.sum())")
    assert done.stdout == "tensor([0., 3., 6.]) tensor(1.) tensor(3.)\n", done.stderr


# ---------------------------------------------------------------- bounded plans, kernels, memory

def step(w, x, t):
    loss = ((x @ w - t) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        w -= 0.01 * w.grad
    w.grad = None
    return loss


def test_a_repeated_step_makes_no_plan():
    w, x, t = torch.ones(3, 1, requires_grad=True), torch.rand(8, 3), torch.rand(8, 1)
    for _ in range(3):
        step(w, x, t).item()
    before = counts()
    for _ in range(20):
        step(w, x, t).item()
    assert new_plans(before) == 0 and new_kernels(before) == 0


@native
def test_another_batch_size_makes_no_kernel():
    w = torch.ones(3, 1, requires_grad=True)
    data = [(torch.rand(n, 3), torch.rand(n, 1)) for n in (8, 24, 40)]
    for _ in range(3):
        step(w, *data[0]).item()
    before = counts()
    for x, t in data[1:]:
        step(w, x, t).item()
    assert new_plans(before) > 0
    assert new_kernels(before) == 0


@pytest.mark.parametrize("length", [1, 3, 10, 100, 700, 1500, 3000])
def test_a_loop_that_never_observes_settles_to_three_plans(length, monkeypatch):
    x, c = torch.ones(4) + length, [torch.full((4,), 1.0 + i) for i in range(7)]
    x.tolist(), [v.tolist() for v in c]
    flush._rhythm.words = flush._rhythm.misses = 0       # as if nothing had run before
    before = counts()
    flushes = record.STATE.flushes
    rounds = 0
    while record.STATE.flushes < flushes + 14:
        for i in range(length):
            if i % 11 == 3 or length == 1:
                x = torch.maximum(x, x)
            x = torch.minimum(x, c[(i * i) % 7])
        rounds += 1
        assert rounds < 100_000
    words = (length + length // 11) * 3
    # a body that is longer than the limit has to be seen twice, and is cut into several
    allowed = 3 if words < config.instruction_limit // 2 else 3 + 3 * -(-words // config.instruction_limit)
    assert new_plans(before) <= allowed
    assert x.tolist() == [1.0] * 4


def test_pending_results_are_bounded_by_bytes(monkeypatch):
    monkeypatch.setattr(config, "pending_bytes", 64 << 20)
    kept = []
    for i in range(40):
        kept.append(torch.full((1 << 20,), float(i)))           # 4 MiB each
        assert record.STATE.bytes <= 64 << 20
    assert record.STATE.flushes
    assert [k[0].item() for k in kept[:3]] == [0, 1, 2]


def test_memory_of_a_long_loop_is_bounded():
    x = torch.ones(1 << 18)
    for _ in range(5):
        x = x * 0.5 + 1
        x.sum().item()
    before = memory.statistics()["reserved"] if hasattr(memory, "statistics") else None
    for _ in range(100):
        x = x * 0.5 + 1
        x.sum().item()
    if before is not None:
        assert memory.statistics()["reserved"] <= before + (4 << 20)


def test_memory_comes_back():
    free, _ = memory.free_list(12345 * 4)
    x = torch.ones(12345) * 3
    x.sum().item()
    n = len(free)
    del x
    assert len(free) == n + 1


def test_plans_made_while_sources_change_are_not_kept(tmp_path, monkeypatch):
    from flambeau.runtime import images
    from flambeau.stream import cache

    def made():
        return sorted(p.name[0] for p in tmp_path.iterdir()).count("p")

    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path))
    images.reopen()
    try:
        monkeypatch.setattr(cache, "_source", (0, None))
        assert cache._stamp() is not None
        (torch.ones(3, 5, 7, 2) * 3).sum().item()
        before = made()
        assert before
        monkeypatch.setattr(cache, "_IMPORTED", 0)                  # every source is younger than the process
        monkeypatch.setattr(cache, "_source", (0, None))
        assert cache._stamp() is None
        (torch.ones(3, 5, 7, 3) * 4).sum().item()
        assert made() == before
    finally:
        monkeypatch.undo()
        images.reopen()


def plans_held():
    """How many plans there are, and the words in their keys."""
    patterns = flush.PLANS[0].patterns
    keys = [(calls, p) for calls, known in patterns.items() for p in known]
    return sum(len(p.plans) for _, p in keys), sum(len(calls) + len(p.slots) + sum(map(len, p.plans)) for calls, p in keys)


def test_a_loop_of_mixed_shapes_that_nobody_observes_comes_to_repeat_itself():
    STATS, draw = cache.STATS, Random(0)
    parts, total, expected = [torch.ones(n, 7) for n in range(3, 9)], torch.zeros(()), 0

    def loop(steps):
        nonlocal total, expected
        for _ in range(steps):
            x = draw.choice(parts)
            total = total + (x * 2 + 1).sum()
            expected += 21 * len(x)

    flush.flush()
    loop(3500)          # longer pieces than that of a few steps are each seen once
    plans, flushes = STATS["plans"] + STATS["disk_plans"], record.STATE.flushes
    loop(400)
    assert record.STATE.flushes - flushes > 50
    assert STATS["plans"] + STATS["disk_plans"] - plans < 25
    assert total.item() == expected


def test_calls_of_one_structure_over_other_buffers():
    """The same calls over more, fewer and other buffers, in every order."""
    a, b, c = (torch.full((3,), v) for v in (2.0, 3.0, 5.0))
    torch._flush()

    def run(which):
        x = a * 2                                       # 4
        y = (b + c, x + c, b + x, x + x, x + a, b + b)[which]
        return x.tolist() + y.tolist()
    want = [8, 9, 7, 8, 6, 6]
    for order in itertools.permutations(range(6), 4):
        for which in order:
            assert run(which) == [4] * 3 + [want[which]] * 3
        flush.forget()


def test_plan_caches_evict(monkeypatch):
    monkeypatch.setattr(cache, "PLAN_LIMIT", 20)
    for n in range(1, 60):
        torch.ones(n).sum().item()
        assert plans_held()[0] <= 20
    monkeypatch.setattr(cache, "PLAN_WORDS", 2000)
    held = []
    x = torch.zeros(2)
    for _ in range(300):
        held.append(x[:1])                                      # one more reference each time: another key, the same plan
        x += 1
        x.tolist()
        assert plans_held()[1] <= 2000
    assert x.tolist() == [300, 300]


def test_an_extra_reference_is_not_another_plan():
    def run(keep):
        x = torch.arange(5.0)
        y = x * 2
        kept = [y] * keep
        z = y + 1
        z.tolist()
        return kept
    run(1)
    before = counts()
    run(2)
    run(3)
    assert new_plans(before) == 0


def test_dead_results_are_never_computed():
    import flambeau.visual.explain as explain

    def use():
        x = torch.arange(1000.0)
        x.exp().sin()                       # nobody can see these
        return (x + 1).sum()
    report = explain.explain(use)
    assert not any("sin" in str(launch) for f in report.flushes for launch in f.launches)


@native
def test_parts_of_a_stream_share_plans_on_disk(tmp_path):
    done = run_python("""
import flambeau as torch
from flambeau.stream import cache
table, w = torch.arange(12.0).reshape(4, 3), torch.zeros(3)
table.tolist(), w.tolist()
for n in (1, 2, 3):
    row = table[torch.tensor([2])]
    for k in range(n):
        w.add_(k + 0.5)             # comes after a call that may fail: a part of its own
    print(row.tolist(), w.tolist())
print(cache.STATS["disk_plans"] > 0)
""", FLAMBEAU_CACHE=str(tmp_path))
    assert done.returncode == 0, done.stderr
    row = "[[6.0, 7.0, 8.0]]"
    assert done.stdout.splitlines() == [f"{row} [0.5, 0.5, 0.5]", f"{row} [2.5, 2.5, 2.5]", f"{row} [7.0, 7.0, 7.0]", "True"]


# ---------------------------------------------------------------- eager

def test_eager_executes_each_call():
    with torch.eager():
        x = torch.arange(3.0) * 2
        assert not pending()
        x += 1
        assert not pending()
        with torch.eager(False):
            y = x * 2
            assert pending()
        y = y + 1
        assert not pending()
    z = x * 2
    assert pending()
    assert (x.tolist(), y.tolist(), z.tolist()) == ([1, 3, 5], [3, 7, 11], [2, 6, 10])


def test_eager_from_the_environment():
    code = "import flambeau as torch\nfrom flambeau.stream.record import CALLS\nx = torch.ones(3) * 2\nprint(len(CALLS), x.tolist())"
    done = run_python(code, FLAMBEAU_EAGER="1")
    assert done.stdout.split("\n")[0] == "0 [2.0, 2.0, 2.0]", done.stderr


PROGRAM = """
import flambeau as torch
torch.manual_seed(0)
x, w = torch.randn(33, 17), torch.randn(17, 5, requires_grad=True)
h = torch.softmax(x @ w, 1)
loss = (h * torch.arange(5.0)).sum(1).log().mean() + h.std() + (x.exp() * x.sin()).mean()
loss.backward()
print(h.sum(0).tolist(), loss.item().hex(), [v.hex() for row in w.grad.tolist() for v in row])
"""


def test_the_same_bits_run_after_run_and_cold_or_warm(tmp_path):
    runs = [run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path)) for _ in range(3)]
    assert runs[0].returncode == 0, runs[0].stderr
    assert runs[0].stdout == runs[1].stdout == runs[2].stdout
    threads = run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path), OMP_NUM_THREADS="4")
    assert threads.stdout == runs[0].stdout


def test_the_same_bits_as_the_first_time_in_one_process():
    def run():
        torch.manual_seed(1)
        x = torch.randn(50, 30)
        return ((x.softmax(1) * x.tanh()).sum() + x.var()).item().hex()
    assert len({run() for _ in range(4)}) == 1


# ---------------------------------------------------------------- without llvmlite, with a bad cache

WITHOUT = """
import sys, warnings
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'llvmlite':
            raise ImportError('no llvmlite here')
sys.meta_path.insert(0, Refuse())
import flambeau as torch
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter('always')
    x = torch.arange(6.0).reshape(2, 3)
    w = torch.ones(3, 1, requires_grad=True)
    ((x @ w) ** 2).sum().backward()
    print(w.grad.flatten().tolist(), torch.softmax(x, 1).sum().item())
    (x + 1).tolist()
print(len([w for w in seen if 'llvmlite' in str(w.message)]))
"""


def test_without_llvmlite(tmp_path):
    done = run_python(WITHOUT, FLAMBEAU_CACHE=str(tmp_path), FLAMBEAU_RENDERER="llvm")
    assert done.returncode == 0, done.stderr
    numbers, warned = done.stdout.splitlines()
    assert numbers == "[72.0, 102.0, 132.0] 2.0"
    assert warned == "1"


def test_reference_renderer_agrees(tmp_path):
    native_run, reference_run = (run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path), FLAMBEAU_RENDERER=r) for r in ("llvm", "reference"))
    assert reference_run.returncode == 0, reference_run.stderr
    a, b = (float.fromhex(r.stdout.split("] ")[1].split()[0]) for r in (native_run, reference_run))
    assert abs(a - b) < 1e-5


def test_a_damaged_cache_is_ignored(tmp_path):
    good = run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path))
    files = [f for f in tmp_path.rglob("*") if f.is_file()]
    for i, f in enumerate(files):
        data = f.read_bytes()
        f.write_bytes([data[: len(data) // 2], b"", bytes(len(data)), data[:-1] + bytes([data[-1] ^ 1]) if data else b"x"][i % 4])
    again = run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert again.stdout == good.stdout


@native
def test_an_unwritable_cache_gives_one_warning(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    done = run_python(PROGRAM, FLAMBEAU_CACHE=str(blocked / "cache"))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Warning") == 1, done.stderr


def test_a_process_killed_while_it_fills_the_cache(tmp_path):
    for delay in (0.15, 0.4, 0.8):
        env = {**os.environ, "PYTHONPATH": str(ROOT), "FLAMBEAU_CACHE": str(tmp_path)}
        child = subprocess.Popen([sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
    done = run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path))
    clean = run_python(PROGRAM, FLAMBEAU_CACHE=str(tmp_path / "other"))
    assert done.returncode == 0 and done.stdout == clean.stdout


def test_the_default_type_decides_anew(tmp_path):
    x = torch.arange(3)
    assert (x.exp().dtype, (x / 2).dtype, torch.sigmoid(x).dtype) == (torch.float32,) * 3
    torch.set_default_dtype(torch.float64)
    try:
        assert (x.exp().dtype, (x / 2).dtype, torch.sigmoid(x).dtype) == (torch.float64,) * 3
        assert x.exp().tolist() == pytest.approx([1, 2.718281828459045, 7.38905609893065], rel=1e-14)
    finally:
        torch.set_default_dtype(torch.float32)
    assert x.exp().dtype is torch.float32
    # nor is a plan from the disk taken for one under another default
    code = "import flambeau as torch\ntorch.set_default_dtype(torch.{})\nprint(torch.arange(3).exp().sum().item())"
    for name in ("float32", "float64", "float32"):
        done = run_python(code.format(name), FLAMBEAU_CACHE=str(tmp_path))
        assert float(done.stdout) == pytest.approx(11.107337927389695, rel=1e-6 if name == "float32" else 1e-14), done.stderr


# ---------------------------------------------------------------- loops over elements and slices

def plans_of(loop):
    """The result of a loop, and how many plans it made."""
    flush.flush()
    before = cache.STATS["plans"]
    result = loop()
    flush.flush()
    return result, cache.STATS["plans"] - before


def fibonacci():
    z = torch.zeros(300, dtype=torch.float64)
    z[0] = z[1] = 1.0
    for i in range(2, 300):
        z[i] = (z[i - 1] + z[i - 2]) * 0.5
    return z.tolist()


def running_sum():
    x, s, out = torch.arange(300.0, dtype=torch.float64), torch.zeros((), dtype=torch.float64), 0
    for i in range(300):
        s = s + x[i]
    out = s.item()
    return [out]


def rows():
    y = torch.arange(1200.0, dtype=torch.float64).reshape(300, 4)
    return [y[i].sum().item() for i in range(300)]


def columns_in_place():
    y = torch.arange(1200.0, dtype=torch.float64).reshape(4, 300)
    for j in range(300):
        y[:, j] *= 2
        y[:, j].add_(y[:, j - 1] if j else 1)
    return y.flatten().tolist()


def joined():
    y = torch.arange(600.0, dtype=torch.float64).reshape(300, 2)
    out = torch.zeros(300, 3, dtype=torch.float64)
    for i in range(300):
        out[i] = torch.cat([y[i], y[i, :1] * 2])
    return out.flatten().tolist()


def windows():
    """Batches of windows that begin anywhere."""
    x, out = torch.arange(400.0, dtype=torch.float64), []
    for i in range(60):
        starts = torch.tensor([(37 * i + 101 * k) % 390 for k in range(8)])
        batch = torch.stack([x[k:k + 5] for k in starts])
        out += torch.cat([batch, batch[i % 7:i % 7 + 1] * 2]).flatten().tolist()
    return out


def shifted():
    x = torch.arange(310.0, dtype=torch.float64)
    for i in range(300):
        x[i + 1:i + 5] = x[i:i + 4] + 1         # what it reads is also what it writes
    return x.tolist()


def plainly(name):
    """The same loops over lists."""
    if name == "fibonacci":
        z = [1.0, 1.0]
        for i in range(2, 300):
            z.append((z[i - 1] + z[i - 2]) * 0.5)
        return z
    if name == "running_sum":
        return [sum(range(300))]
    if name == "rows":
        return [sum(range(4 * i, 4 * i + 4)) for i in range(300)]
    if name == "columns_in_place":
        y = [[300.0 * r + c for c in range(300)] for r in range(4)]
        for j in range(300):
            for r in y:
                r[j] = r[j] * 2 + (r[j - 1] if j else 1)
        return [v for r in y for v in r]
    if name == "joined":
        return [v for i in range(300) for v in (2 * i, 2 * i + 1, 4 * i)]
    if name == "windows":
        begin = lambda i, k: (37 * i + 101 * k) % 390
        return [float(f * (begin(i, k) + j)) for i in range(60) for k, f in [*((k, 1) for k in range(8)), (i % 7, 2)] for j in range(5)]
    x = [float(i) for i in range(310)]
    for i in range(300):
        x[i + 1:i + 5] = [v + 1 for v in x[i:i + 4]]
    return x


@pytest.mark.parametrize("loop", [fibonacci, running_sum, rows, columns_in_place, joined, windows, shifted])
def test_a_loop_over_elements_settles_to_a_few_plans(loop):
    with torch.no_grad():
        result, plans = plans_of(loop)
    assert result == plainly(loop.__name__)
    # one for each of the first places, then a few for what repeats, be it observed each time or not
    assert plans <= 24, plans


def test_batches_cut_from_a_tensor_settle_to_a_few_plans():
    torch.manual_seed(0)
    data, labels = torch.randn(400, 6), torch.randint(0, 3, (400,))
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def epoch(take):
        out = []
        for i in range(0, 400, 10):
            x, y = take(i)
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out
    start = {k: v.clone() for k, v in model.state_dict().items()}
    sliced, plans = plans_of(lambda: epoch(lambda i: (data[i:i + 10], labels[i:i + 10])))
    assert plans <= 16, plans
    model.load_state_dict(start)
    assert sliced == pytest.approx(epoch(lambda i: (data[i:i + 10].clone(), labels[i:i + 10].clone())), rel=1e-5)


def test_gradients_reach_through_views_at_many_places():
    x = torch.arange(40.0, requires_grad=True)
    loss = sum((x[i] * x[i + 1]) for i in range(39))
    loss.backward()
    v = list(range(40))
    assert x.grad.tolist() == [(v[i - 1] if i else 0) + (v[i + 1] if i < 39 else 0) for i in range(40)]


def test_a_number_is_stored_at_once_and_in_order():
    x = torch.zeros(5)
    y = x + 1                           # recorded before the store
    x[2] = 7
    z = x + 1
    x[-1] = 2.5
    assert (y.tolist(), z.tolist(), x.tolist()) == ([1] * 5, [1, 1, 8, 1, 1], [0, 0, 7, 0, 2.5])
    view = x[1:4]
    view[1] = 9
    assert x.tolist() == [0, 0, 9, 0, 2.5] and x._version >= 3
    a = np.zeros(3, dtype=np.float32)
    t = torch.from_numpy(a)
    t[1] = 4
    assert a.tolist() == [0, 4, 0]
    n = torch.zeros(2, 2, dtype=torch.int64)
    n[1, 0] = -3
    assert n.tolist() == [[0, 0], [-3, 0]]
    b = torch.zeros(2, dtype=torch.bool)
    b[0] = True
    assert b.tolist() == [True, False]


def test_a_number_is_refused_where_it_was_before():
    x, w = torch.zeros(3), torch.zeros(3, requires_grad=True)
    with pytest.raises(IndexError):
        x[3] = 1
    with pytest.raises(RuntimeError, match="leaf"):
        w[0] = 1
    with pytest.raises(RuntimeError, match="overflow"):
        x[0] = 1e39
    y = w * 2
    y[0] = 5.0                          # has history: recorded
    y.sum().backward()
    assert w.grad.tolist() == [0, 2, 2]
    z = w * w                           # keeps what it read
    with torch.no_grad():
        w[1] = 3.0
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_a_tensor_of_a_traced_composite_has_no_value():
    from flambeau.core.errors import TraceError
    from flambeau.ops.composite import composite

    seen = []

    @composite
    def leaking(x, unused):
        y = x + 1
        seen.extend((x, unused, y, x.t()))
        return y * 2

    assert leaking(torch.ones(2), torch.ones(2)).tolist() == [4, 4]
    for leaked in seen:
        with pytest.raises(TraceError, match="never has a value"):
            leaked.tolist()
        with pytest.raises(TraceError, match="never has a value"):
            leaked + 1                      # refused where it is used
        with pytest.raises(TraceError, match="never has a value"):
            torch.ones(2).add_(leaked)
    assert leaking(torch.zeros(2), torch.ones(2)).tolist() == [2, 2]
    del seen[:], leaked
    assert not record.UNUSUAL
