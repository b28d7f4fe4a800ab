"""The runtime on its own: loading kernels, the disk cache, memory."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
import warnings

import pytest

from flambeau.core import dtype as dtypes
from flambeau.runtime import cpu, images, llvm, memory, pool

TRIPLE_PLUS = """declare float @llvm.fma.f32(float, float, float)
define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {{
  %p = load ptr, ptr %args
  %v = load float, ptr %p, align 4
  %z = call float @llvm.fma.f32(float %v, float 3.0, float {constant})
  store float %z, ptr %p, align 4
  ret void
}}
"""

# a vector constant (.rodata), and a call into the C library
REMAINDER = """define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {
  %p = load ptr, ptr %args
  %v = load <4 x float>, ptr %p, align 4
  %w = fadd <4 x float> %v, <float 1.0, float 2.0, float 3.0, float 4.0>
  %a = extractelement <4 x float> %w, i32 3
  %b = frem float %a, 2.5
  %z = insertelement <4 x float> %w, float %b, i32 0
  store <4 x float> %z, ptr %p, align 4
  ret void
}
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache directory and an empty table of loaded kernels."""
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FLAMBEAU_CACHE_LIMIT", raising=False)
    monkeypatch.setattr(cpu, "_addresses", {})
    images.reopen()
    yield tmp_path / "cache"
    monkeypatch.undo()
    images.reopen()


def run(addresses: list[int], values: list[float], keep_lock: bool = False) -> list[float]:
    data = (ctypes.c_float * len(values))(*values)
    args = (ctypes.c_int64 * 1)(ctypes.addressof(data))
    records = pool.launch_list([(a, ctypes.addressof(args), 1, 1) for a in addresses])
    pool.walker()[keep_lock](pool.head(records))
    return list(data)


# ---------------------------------------------------------------- kernels

@pytest.mark.parametrize("keep_lock", [False, True])
def test_kernels_run_in_order(cache, keep_lock):
    a, b = cpu.load([TRIPLE_PLUS.format(constant="1.0"), TRIPLE_PLUS.format(constant="2.0")])
    assert run([a, b], [5.0], keep_lock) == [50.0]
    assert run([b, a], [5.0], keep_lock) == [52.0]
    assert run([], [5.0], keep_lock) == [5.0]


def test_constants_and_calls_to_the_c_library(cache):
    assert run(cpu.load([REMAINDER]), [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]


def test_a_kernel_is_compiled_once(cache, monkeypatch):
    texts = [REMAINDER, TRIPLE_PLUS.format(constant="1.0"), REMAINDER]
    before = dict(cpu.STATS)
    first = cpu.load(texts)
    assert first[0] == first[2] != first[1]
    assert cpu.load(texts) == first
    assert cpu.STATS["compiled"] - before["compiled"] == 2
    # another process: the table is empty, the images are on disk and the compiler is not asked
    monkeypatch.setattr(cpu, "_addresses", {})
    monkeypatch.setattr(cpu, "_compile", lambda texts: pytest.fail("compiled again"))
    again = cpu.load(texts)
    assert cpu.STATS["disk_hits"] - before["disk_hits"] == 2
    assert run(again[:1], [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]


def sharing(constant: str, steps: int = 200) -> str:
    """A kernel that doubles and then adds ``steps`` times 1 in a long function of its own, called by its address; then ``constant`` is added."""
    adds = "\n".join(f"  %x{i + 1} = call float @llvm.fma.f32(float %x{i}, float 1.0, float 1.0)" for i in range(steps))
    return f"""declare float @llvm.fma.f32(float, float, float)
define internal float @NAME.long(float %v, i64 %n) #ATTR {{
  %x0 = fadd float %v, %v
{adds}
  ret float %x{steps}
}}
define internal float @NAME.longer(float %v) #ATTR {{
  ret float %v
}}
define void @NAME(ptr %table, ptr %args, i64 %begin, i64 %end, ptr %scratch) #ATTR {{
  %p = load ptr, ptr %args
  %v = load float, ptr %p, align 4
  %large = fcmp ogt float %v, 1000.0
  %which = select i1 %large, ptr @NAME.longer, ptr @NAME.long
  %y = call float %which(float %v, i64 %end)
  %z = fadd float %y, {constant}
  store float %z, ptr %p, align 4
  ret void
}}
"""


def test_kernels_share_long_functions(cache, monkeypatch):
    def kept():
        return sorted(cache.glob("k*.image"))
    first, second, third = (sharing(c) for c in ("1.0", "2.0", "4.0"))
    pool.walker()
    before = cpu.STATS["compiled"], len(kept())
    a, b = cpu.load([first, second])
    assert cpu.STATS["compiled"] == before[0] + 2
    assert len(kept()) == before[1] + 3                    # two kernels, and what they share
    assert run([a, b], [5.0]) == [(2 * 5 + 200 + 1) * 2 + 200 + 2]
    assert run([a], [2000.0]) == [2001.0]
    # by now the shared function exists, and a new kernel calls it where it is
    c, = cpu.load([third])
    assert len(kept()) == before[1] + 4
    assert run([c], [5.0]) == [2 * 5 + 200 + 4]
    # another process finds everything
    monkeypatch.setattr(cpu, "_addresses", {})
    with monkeypatch.context() as patch:
        patch.setattr(cpu, "_compile", lambda texts: pytest.fail("compiled again"))
        assert run(cpu.load([third]), [5.0]) == [2 * 5 + 200 + 4]
        assert cpu.known([cpu.key_of(first)]) is not None
    # and one that misses what was shared compiles it again
    monkeypatch.setattr(cpu, "_addresses", {})
    shared, = cpu._shared({b"": first})[1]
    os.unlink(images._path("k", shared))
    assert cpu.known([cpu.key_of(first)]) is None
    assert run(cpu.load([first]), [5.0]) == [2 * 5 + 200 + 1]
    assert os.path.exists(images._path("k", shared))


def test_kernels_compiled_side_by_side_are_the_same(cache, monkeypatch):
    def compiled(threads):
        monkeypatch.setattr(cpu, "_addresses", {})
        monkeypatch.setattr(pool, "threads", lambda: threads)
        monkeypatch.setattr(pool, "processors", lambda: threads)
        images.clear()
        addresses = cpu.load(texts)
        assert [run([a], [5.0]) for a in addresses] == [[2 * 5 + 300 + c + c] for c in range(8)]
        return {path.name: path.read_bytes() for path in cache.glob("k*.image")}
    texts = [sharing(f"{c}.0", 300 + c) for c in range(8)]      # and eight long functions
    pool.walker()
    monkeypatch.setattr(cpu, "PART", 1000)
    one = compiled(1)
    assert len(one) == 16 and compiled(2) == one and compiled(5) == one


def test_errors_of_compiling_are_raised_and_leave_nothing_behind(cache):
    texts = [TRIPLE_PLUS.format(constant=f"{c}.0") for c in range(20)]
    with pytest.raises(ValueError, match="LLVM cannot read"):
        cpu.load([*texts, "define void @NAME(ptr %table) { what }"])
    assert run(cpu.load(texts[:1]), [5.0]) == [15.0]


def test_compiling_after_a_fork(cache):
    pool.walker()
    cpu.load([REMAINDER])
    child = os.fork()
    if child == 0:
        try:
            os._exit(run(cpu.load([TRIPLE_PLUS.format(constant="7.0"), sharing("1.0")]), [5.0]) != [2 * 22 + 200 + 1])
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_functions_of_the_compiler_are_as_llvmlite_calls_them():
    assert llvm.disagreements() == []
    assert not llvm._later("0.45.1") and not llvm._later("0.50.0") and llvm._later("0.51.0") and llvm._later("1.0")


def test_objects_that_cannot_be_laid_out_are_linked_by_llvm(cache, monkeypatch):
    def refuse(code, name):
        raise cpu.UnknownRelocation("for the test")

    monkeypatch.setattr(cpu, "flatten", refuse)
    assert run(cpu.load([REMAINDER]), [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]
    assert run(cpu.load([sharing("1.0"), sharing("2.0")]), [5.0]) == [(2 * 5 + 200 + 1) * 2 + 200 + 2]
    monkeypatch.setattr(cpu, "_addresses", {})
    assert run(cpu.load([REMAINDER]), [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]


def test_a_warm_process_imports_neither_llvm_nor_numpy(cache):
    program = (
        "import sys; from flambeau.runtime import cpu, memory, pool; pool.walker(); cpu.vector_bytes();"
        "print(sorted({'flambeau.runtime.llvm', 'llvmlite', 'numpy'} & set(sys.modules)), int(cpu.STATS['disk_hits']))"
    )
    def start() -> str:
        return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()

    assert start() == "['flambeau.runtime.llvm'] 0"
    assert start() == "[] 2"           # the walker, and how Python calls it


def test_without_llvmlite_one_warning_and_a_clear_error(cache, monkeypatch):
    monkeypatch.setattr(images, "compiler_version", lambda: None)
    monkeypatch.setattr(cpu, "_missing", None)
    monkeypatch.setattr(cpu, "_compilers", None)
    with pytest.warns(UserWarning, match="llvmlite cannot be loaded"):
        assert not cpu.available()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cpu.available()
        with pytest.raises(cpu.Unavailable):
            cpu.load([REMAINDER])


def test_vector_width_is_one_of_the_known():
    assert cpu.vector_bytes() in (16, 32, 64)


# ---------------------------------------------------------------- the disk cache

def entry(cache) -> str:
    name, = (n for n in os.listdir(cache) if n.endswith(".image"))
    return str(cache / name)


def test_what_was_put_is_got(cache):
    assert images.get("k", b"a") is None
    images.put("k", b"a", b"data")
    assert images.get("k", b"a") == b"data"
    assert images.get("p", b"a") is None and images.get("k", b"b") is None
    images.put("k", b"a", b"")
    assert images.get("k", b"a") == b""
    assert stat.S_IMODE(os.stat(cache).st_mode) == 0o700


@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:-1] + bytes([d[-1] ^ 1]), lambda d: b"", lambda d: b"x" + d])
def test_damaged_entries_are_ignored_and_replaced(cache, damage):
    images.put("k", b"a", b"some data")
    path = entry(cache)
    with open(path, "rb") as file:
        data = file.read()
    with open(path, "wb") as file:
        file.write(damage(data))
    assert images.get("k", b"a") is None
    images.put("k", b"a", b"new")
    assert images.get("k", b"a") == b"new"


def test_a_damaged_kernel_is_compiled_again(cache, monkeypatch):
    cpu.load([REMAINDER])
    for name in os.listdir(cache):
        with open(cache / name, "r+b") as file:
            file.seek(40)
            file.write(b"\xcc\xcc\xcc")
    monkeypatch.setattr(cpu, "_addresses", {})
    assert run(cpu.load([REMAINDER]), [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]


def test_versions_and_processors_do_not_share_entries(cache, monkeypatch):
    images.put("k", b"a", b"data")
    for name, value in (("__version__", "0.0"), ("compiler_version", lambda: "1"), ("processor", lambda: "a 6502")):
        with monkeypatch.context() as patch:
            patch.setattr(images, name, value)
            images.reopen()
            assert images.get("k", b"a") is None
    images.reopen()
    assert images.get("k", b"a") == b"data"


def test_llvmlite_is_found_without_importing_it():
    program = "import sys; from flambeau.runtime import images; v = images.compiler_version(); print(v, 'llvmlite' in sys.modules)"
    import llvmlite

    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split() == [
        llvmlite.__version__, "False"
    ]


def test_a_directory_others_can_write_is_refused(cache):
    cache.mkdir()
    cache.chmod(0o777)
    images.reopen()
    with pytest.warns(UserWarning, match="written by other users"):
        images.put("k", b"a", b"data")
    assert os.listdir(cache) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images.put("k", b"b", b"data")      # one warning is enough
        assert images.get("k", b"a") is None


def test_a_directory_of_somebody_else_is_refused(cache, monkeypatch):
    cache.mkdir(0o700)
    owner = os.stat(cache).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    images.reopen()
    with pytest.warns(UserWarning, match="another user"):
        assert images.directory() is None


def test_a_directory_that_cannot_be_made(cache, monkeypatch):
    (cache.parent / "file").write_text("")
    monkeypatch.setenv("FLAMBEAU_CACHE", str(cache.parent / "file" / "inside"))
    images.reopen()
    with pytest.warns(UserWarning, match="memory only"):
        images.put("k", b"a", b"data")
    assert run(cpu.load([REMAINDER]), [0.0, 1.0, 2.0, 3.0]) == [2.0, 3.0, 5.0, 7.0]


def test_the_oldest_entries_are_evicted(cache):
    now = time.time()
    for i in range(8):
        images.put("k", bytes([i]), bytes(1000))
        os.utime(images._path("k", bytes([i])), (now - 1000 + i, now - 1000 + i))
    (cache / "dead.1-2.tmp").write_bytes(b"left by a killed process")
    os.utime(cache / "dead.1-2.tmp", (now - 7200, now - 7200))
    images.evict(4 * images.BLOCK)      # an entry takes whole blocks of the disk
    kept = [i for i in range(8) if images.get("k", bytes([i])) is not None]
    assert kept == [5, 6, 7]            # and a quarter of the limit is left free
    assert not (cache / "dead.1-2.tmp").exists()


def test_reading_makes_an_entry_recent(cache):
    images.put("k", b"a", b"data")
    path = entry(cache)
    os.utime(path, (1e9, 1e9))
    images.get("k", b"a")
    assert time.time() - os.stat(path).st_mtime < 60


def test_the_limit_is_applied_when_writing(cache, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE_LIMIT", "1")
    monkeypatch.setattr(images, "CHECK_EVERY", 1 << 18)
    for i in range(24):
        images.put("k", bytes([i]), bytes(1 << 17))
    assert sum(item.stat().st_size for item in cache.iterdir()) <= (1 << 20) + (3 << 17)


def test_clear(cache):
    images.put("k", b"a", b"data")
    images.clear()
    assert os.listdir(cache) == []


def test_the_size_is_looked_at_once_an_hour_at_a_first_write(cache, monkeypatch):
    looks = []
    monkeypatch.setattr(images, "evict", lambda keep: looks.append(keep))
    for age, expected in ((0, 1), (0, 1), (7200, 2), (0, 2)):
        if age:
            os.utime(cache / "looked", (time.time() - age,) * 2)
        images.reopen()                 # as a new process does
        for i in range(5):
            images.put("k", bytes([i]), b"data")
        assert looks == [256 << 20] * expected


def test_several_processes_and_kills_leave_whole_entries(cache):
    program = (
        "import os\nfrom flambeau.runtime import images\n"
        "for n in range(10**9):\n"
        "    key = bytes([n % 5]); data = key * (50000 + n % 7)\n"
        "    got = images.get('k', key); assert got is None or got == key * len(got)\n"
        "    images.put('k', key, data)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE) for _ in range(2)]
    time.sleep(1.0)
    for p in processes:
        assert p.poll() is None, p.stderr.read()
        p.send_signal(signal.SIGKILL)
        p.wait()
        p.stderr.close()
    for i in range(5):
        data = images.get("k", bytes([i]))
        assert data is not None and data == bytes([i]) * len(data)


# ---------------------------------------------------------------- memory

@pytest.fixture
def kept_limits():
    yield
    memory.set_limit(None)
    memory._keep = None


@pytest.mark.parametrize("nbytes", [0, 1, 64, 65, 4096, 4097, 100_000, 1 << 20, 3_000_001, (4 << 20) + 1])
def test_blocks_are_large_enough_aligned_and_reused(nbytes):
    free, c = memory.free_list(nbytes)
    assert c >= max(nbytes, 1) and c <= max(64, nbytes * 1.126 + 64)
    assert memory.free_list(c) == (free, c), "a class is its own class"
    a, b = memory.allocate(nbytes), memory.allocate(nbytes)
    assert a % 64 == b % 64 == 0 and abs(a - b) >= c
    ctypes.memset(a, 1, c)
    ctypes.memset(b, 2, c)
    assert ctypes.string_at(a, c) == b"\1" * c
    memory.release(a, nbytes)
    assert memory.free_list(nbytes)[0] is free
    assert memory.allocate(nbytes) == a
    memory.release(a, nbytes)
    memory.release(b, nbytes)


def test_large_blocks_lie_on_huge_pages():
    a = memory.allocate(5 << 20)
    assert a % (2 << 20) == 0
    memory.release(a, 5 << 20)


def test_unused_memory_goes_back_and_used_memory_stays():
    memory.release_cached()
    before = memory.statistics()
    blocks = [memory.allocate(n) for n in [100] * 3000 + [50_000] * 40 + [2 << 20] * 3]
    sizes = [100] * 3000 + [50_000] * 40 + [2 << 20] * 3
    held = memory.statistics()
    assert held["allocated"] - before["allocated"] == sum(map(memory.size_class, sizes))
    assert held["reserved"] >= held["allocated"] + held["cached"] and held["peak"] >= held["reserved"]
    survivor = blocks[1234]
    ctypes.memset(survivor, 7, 100)
    for i, (a, n) in enumerate(zip(blocks, sizes, strict=True)):
        if i != 1234:
            memory.release(a, n)
    assert memory.statistics()["cached"] - held["cached"] == sum(map(memory.size_class, sizes)) - 128
    memory.release_cached()
    after = memory.statistics()
    assert after["reserved"] <= before["reserved"] + 65536 and after["cached"] < held["allocated"] / 10
    assert ctypes.string_at(survivor, 100) == b"\7" * 100
    again = [memory.allocate(100) for _ in range(1000)]
    assert len({survivor, *again}) == 1001
    for a in (survivor, *again):
        memory.release(a, 100)


def test_memory_held_is_bounded(kept_limits):
    memory.release_cached()
    used = memory.statistics()["reserved"]
    memory.set_kept(used + (64 << 20))
    for k in range(40):                     # every size is a class of its own: nothing can be reused
        n = (8 << 20) + k * (1 << 20)
        memory.release(memory.allocate(n), n)
    assert memory.statistics()["reserved"] <= used + (64 << 20)


def test_out_of_memory_names_sizes_and_remedies(kept_limits):
    with pytest.raises(RuntimeError, match=r"can't allocate memory: you tried to allocate \d+ bytes\.\n.*smaller batches"):
        memory.allocate(1 << 62)
    memory.set_limit(memory.statistics()["reserved"] + (1 << 20))
    with pytest.raises(RuntimeError, match="limit"):
        memory.allocate(16 << 20)
    memory.set_limit(None)
    memory.release(memory.allocate(16 << 20), 16 << 20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_its_own_copy():
    a = memory.allocate(5 << 20)
    memory.write(a, dtypes.float32, 1.0)
    memory.release(memory.allocate(1000), 1000)
    child = os.fork()
    if child == 0:
        memory.write(a, dtypes.float32, 2.0)
        b, c = memory.allocate(1000), memory.allocate(6 << 20)
        memory.zero(b, 1000)
        memory.zero(c, 6 << 20)
        os._exit(0 if memory.read(a, dtypes.float32) == 2.0 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert memory.read(a, dtypes.float32) == 1.0
    memory.release(a, 5 << 20)


@pytest.mark.parametrize("name, value, expected", [
    ("bool", 3, True), ("bool", 0, False), ("uint8", -1, 255), ("int8", 200, -56), ("int16", 1 << 15, -(1 << 15)),
    ("int32", -5, -5), ("int64", (1 << 63) - 1, (1 << 63) - 1), ("float16", 1e9, float("inf")), ("float16", 0.1, 0.0999755859375),
    ("bfloat16", 1.00390625, 1.0), ("bfloat16", 1.01171875, 1.015625), ("bfloat16", -3.4e38, float("-inf")),
    ("bfloat16", 1e39, float("inf")), ("float32", 0.1, 0.10000000149011612), ("float32", -1e300, float("-inf")),
    ("float64", 0.1, 0.1), ("int32", 2.9, 2),
])
def test_scalars_are_stored_as_their_type(name, value, expected):
    d = dtypes.DTYPES[name]
    a = memory.allocate(64)
    memory.write(a, d, value)
    got = memory.read(a, d)
    assert got == expected and type(got) is type(expected)
    memory.write(a, d, 0)
    assert memory.read(a, d) == 0
    if d.is_floating_point:
        memory.write(a, d, float("nan"))
        assert memory.read(a, d) != memory.read(a, d)
    memory.release(a, 64)


def test_copy_and_view():
    a, b = memory.allocate(1000), memory.allocate(1000)
    memory.view(a, 1000)[:] = bytes(range(250)) * 4
    memory.copy(b, a, 1000)
    assert bytes(memory.view(b, 1000)) == bytes(range(250)) * 4
    memory.zero(b, 10)
    assert memory.view(b, 12).tolist() == [0] * 10 + [10, 11]
    memory.release(a, 1000)
    memory.release(b, 1000)
