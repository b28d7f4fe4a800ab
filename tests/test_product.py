"""The product engine: exact and bounded references, memory that ends at a guard page, the same bits however it is run, epilogues.

Cases are made by ``product_maker.py``: sizes 0 to 300, strides, offsets, types.  Two kinds of reference: numbers so small that every order of
summation is exact, compared for equality; and random ones, compared within the forward bound ``k u / (1 - k u) |A| |B|``.
``FLAMBEAU_FUZZ_SECONDS=3600`` lets the last tests look for an hour.
"""

import itertools
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Machine, intact
from kernel_runner import empty as margined
from product_maker import UNIT, compare, layout, picked, random_case, run_case

import flambeau as torch
from flambeau.core.dtype import DTYPES, float32
from flambeau.ir.product import Direct, Product, Window
from flambeau.render import render
from flambeau.runtime import cpu, reference

pytest.importorskip("llvmlite")
HERE = Path(__file__).resolve().parent
SECONDS = float(os.environ.get("FLAMBEAU_FUZZ_SECONDS", "4"))
WIDTHS = (64, 32, 16)
PIECES = (1, 2, 3, 4, 8)
FLOATS = ("float32", "float64", "bfloat16", "float16")


def machine_of(case, vector_bytes):
    return Machine(case.maker.program(), vector_bytes)


def is_product(machine):
    return any(isinstance(k, Product) for k in machine.plan.kernels)


# ------------------------------------------------------------------ kernels

def check_product(seed, vector_bytes, pieces=PIECES):
    """A case against its reference, the same bits for every number of pieces; whether the engine computed it."""
    case = random_case(seed)
    machine = machine_of(case, vector_bytes)
    first = None
    for n in pieces:
        got = picked(run_case(case, machine, n, margined).buffers[case.result.slot], case.result)
        if first is None:
            first = np.array(got)
            compare(case, first, f"vectors of {vector_bytes} bytes")
        else:
            assert first.tobytes() == np.array(got).tobytes(), f"{n} pieces give other bits: vectors of {vector_bytes} bytes, {case.text}"
    return is_product(machine)


def check_maps(seed, vector_bytes):
    """A product and maps after it, against the reference interpreter; the product itself against its own reference if it is kept."""
    case = random_case(seed, maps=True)
    program = case.maker.program()
    machine = machine_of(case, vector_bytes)
    theirs = run_case(case, Interpreter(program), 1, margined)
    first = None
    low = any(v.dtype.itemsize == 2 for v in [case.result, *case.finish])
    for n in PIECES:
        ours = run_case(case, machine, n, margined)
        for info, x in zip(program.buffers, ours.buffers, strict=True):
            assert intact(x, info.nbytes), f"{case.text}: written outside of a buffer"
        seen = [np.array(picked(ours.buffers[v.slot], v)) for v in case.finish]
        if first is not None:
            assert [x.tobytes() for x in seen] == [x.tobytes() for x in first], f"{n} pieces give other bits: {case.text}"
            continue
        first = seen
        for view, x in zip(case.finish, seen, strict=True):
            y = picked(theirs.buffers[view.slot], view)
            near(reference.decode(x, view.dtype), reference.decode(y, view.dtype), 2e-2 if low else 3e-5, f"vectors of {vector_bytes} bytes, {case.text}")
    product = machine.plan.kernels[0] if is_product(machine) and len(machine.plan.kernels) == 1 else None
    return isinstance(product, Product) and product.epilogue is not None


class Interpreter:
    """The reference interpreter in a machine's place."""

    def __init__(self, program):
        self.program, self.arena = program, np.empty(0, np.uint8)

    def run(self, memory, pieces):
        return reference.run(self.program, [x.ctypes.data for x in memory], [])


def near(x, y, tolerance, what):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y)), f"{what}: NaN in one of them"
    scale = tolerance * (1 + np.abs(np.nan_to_num(y)))
    off = np.abs(np.nan_to_num(x) - np.nan_to_num(y))
    assert (off <= scale).all(), f"{what}: {(off > scale).sum()} of {off.size} differ, one by {off.max()} ({x.flat[off.argmax()]}, {y.flat[off.argmax()]})"


@pytest.mark.parametrize("start", range(0, 96, 12))
def test_products_of_any_size_stride_and_type(start):
    engine = [check_product(seed, WIDTHS[seed % 3]) for seed in range(start, start + 12)]
    assert sum(engine) >= 3, "these cases were meant for the engine"


@pytest.mark.parametrize("vector_bytes", WIDTHS)
@pytest.mark.parametrize("kind", ["float32", "float64", "int32", "int64"])
def test_sizes_around_the_register_tile(kind, vector_bytes):
    """One more, one less and exactly the tile's rows and columns, in one, two and several tiles; every k around the squares that packing moves."""
    from flambeau.schedule.contract import register_tile

    lanes, rows, vectors = register_tile(DTYPES[kind], vector_bytes)
    columns = lanes * vectors
    numbers = random.Random(len(kind) + vector_bytes)
    choices = ([rows + x for x in (-1, 0, 1)] + [2 * rows + 1, 3 * rows - 1, 5 * rows, 8 * rows + 3],
               [columns + x for x in (-1, 0, 1)] + [lanes, lanes + 1, lanes - 1, 3 * columns + lanes, 4 * columns - 1],
               [16 * lanes + x for x in (-1, 0, 1)] + [lanes * 40 + 3])
    for m, n, k in numbers.sample(list(itertools.product(*choices)), 12):
        a, b = (np.random.default_rng(i).integers(-8, 9, s).astype(kind) for i, s in enumerate([(m, k), (k, n)]))
        for turned in range(4):
            got = product_on_machine(a, b, turned & 1, turned >> 1, vector_bytes)
            assert np.array_equal(got, a.astype(np.float64) @ b.astype(np.float64)), (m, n, k, turned)


def product_on_machine(a, b, a_turned, b_turned, vector_bytes):
    from program_maker import Maker, View

    maker = Maker()
    kind = DTYPES[a.dtype.name]
    views = []
    for x, turned in ((a, a_turned), (b, b_turned)):
        v = maker.external(np.ascontiguousarray(x.T if turned else x), kind)
        views.append(View(v.slot, v.shape[::-1], v.strides[::-1], 0, kind) if turned else v)
    out = maker.matmul(*views)
    maker.buffers[out.slot].live = True
    memory = [margined(info.nbytes) for info in maker.buffers]
    for x, content in zip(memory, maker.contents, strict=True):
        if content is not None:
            x[:content.nbytes] = content.reshape(-1).view(np.uint8)
    assert not Machine(maker.program(), vector_bytes).run(memory)
    return picked(memory[out.slot], out)


@pytest.mark.parametrize("start", range(1000, 1072, 12))
def test_what_follows_a_product(start):
    fused = [check_maps(seed, WIDTHS[seed % 3]) for seed in range(start, start + 12)]
    assert any(fused), "some of these were meant to run as the product's epilogue"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_several_blocks_of_k_and_of_columns_in_one_unit(kind, turned):
    """Many batch entries, so that a unit is a whole matrix, and its block of B is larger than what is packed at a time."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.integers(-3, 4, s).astype(kind) for s in ((66, 18, 1015), (66, 18, 401), (1020, 401)))
    x, z = torch.from_numpy(a).clone(), torch.from_numpy(b).clone()
    y = torch.from_numpy(c.T.copy()).t() if turned else torch.from_numpy(c).clone()
    z += torch.relu(x @ y[:1015])
    z[:, 2:] -= x[:, :16, :1010] @ y[3:1013] * 0.5
    want = b + np.maximum(a.astype("d") @ c[:1015].astype("d"), 0)
    want[:, 2:] -= a[:, :16, :1010].astype("d") @ c[3:1013].astype("d") * 0.5
    assert np.array_equal(z.numpy(), want)


@pytest.mark.parametrize(("m", "k", "n"), [(16, 5003, 16), (1, 9001, 32), (2, 4096, 40), (40, 12289, 24), (8, 20000, 8)])
@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int32"])
def test_a_long_k_is_summed_in_parts(kind, m, k, n):
    """With a part that is left over, what follows after the sum of the parts, and numbers that are none only where they belong."""
    rng = np.random.default_rng(k)
    x, y, z = (rng.integers(-3, 4, s) for s in ((m, k), (k, n), (n,)))
    d = getattr(torch, kind)
    want = np.maximum(x @ y + z, 0)
    for turned in range(4):
        a = torch.from_numpy(np.ascontiguousarray(x.T)).to(d).t() if turned & 1 else torch.from_numpy(x).to(d)
        b = torch.from_numpy(np.ascontiguousarray(y.T)).to(d).t() if turned & 2 else torch.from_numpy(y).to(d)
        got = (a @ b + torch.from_numpy(z).to(d)).clamp(min=0)
        exact = torch.from_numpy(want).to(d) if kind != "bfloat16" else (torch.from_numpy(x @ y).to(d) + torch.from_numpy(z).to(d)).clamp(min=0)
        assert torch.equal(got, exact), turned
    if kind == "float32":
        a = torch.from_numpy(x).to(d)
        a[0, k - 1] = float("nan")
        assert (a @ b).isnan().sum().item() == n
    assert torch.equal(torch.einsum("ik,kj->", torch.from_numpy(x).to(torch.int64), torch.from_numpy(y).to(torch.int64)), torch.tensor((x @ y).sum()))


def test_parts_of_a_long_k_are_units_of_one_launch():
    a, b = torch.randn(16, 20000), torch.randn(20000, 16)
    text = str(torch.explain(lambda: torch.relu(a @ b + 1)))
    assert "16 times 16 x 16, k 1250" in text and "2 launches" in text, text


def in_a_process(code, *arguments, **environment):
    """What a fresh interpreter prints."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run([sys.executable, *(["-c", code] if "\n" in code else [code]), *map(str, arguments)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": path, **environment}, cwd=HERE.parent, check=False)
    last = done.stdout.strip().splitlines()[-1:]
    assert done.returncode == 0, f"status {done.returncode} after {last}: {done.stderr.strip()[-2000:]}"
    return done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
def test_no_stray_reads_or_writes():
    """Every operand, the result, temporaries, arguments and scratch memory end, or start, at a page that may not be touched."""
    printed = in_a_process(str(HERE / "product_maker.py"), 0, 60)
    assert printed.endswith("done 60\n")


@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
def test_a_guard_page_ends_the_process():
    code = "from product_maker import guarded\nx = guarded(100, {})\nimport ctypes\nprint(ctypes.string_at(x.ctypes.data + {}, 1))"
    for at_end, at in ((True, 100), (False, -1)):
        with pytest.raises(AssertionError, match=r"status -(11|10) "):
            in_a_process(code.format(at_end, at))
        in_a_process(code.format(at_end, 99 if at_end else 0))


# ------------------------------------------------------------------ the functions that users call

def tensor(R, content, dtype, stretch=0, plain=0.5):
    """A tensor with this content somewhere in memory of its own: any strides and offset, NaN in between."""
    d = getattr(torch, dtype)
    strides, offset, extent = layout(R, content.shape, stretch, plain)
    memory = np.full(extent, np.nan if d.is_floating_point else 77, "float64" if d.is_floating_point else dtype)
    for axis, s in enumerate(strides):
        if s == 0 and axis < stretch and content.shape[axis]:
            content[...] = content.take([0], axis)
    np.lib.stride_tricks.as_strided(memory[offset:], content.shape, [s * memory.itemsize for s in strides])[...] = content
    return torch.from_numpy(memory).to(d).clone().as_strided(content.shape, strides, offset)


def numbers(rng, shape, dtype, exact):
    if not getattr(torch, dtype).is_floating_point:
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    if exact:
        return rng.integers(-4, 5, shape).astype(np.float64)
    return torch.from_numpy(rng.standard_normal(shape)).to(getattr(torch, dtype)).to(torch.float64).numpy().copy()


F = torch.nn.functional
# name: call, the same in NumPy, shapes of the operands in letters, how many of the first axes may be stretched, letters that are summed
FUNCTIONS = {
    "matmul": (torch.matmul, np.matmul, "pqik pqkj", 2, "k"),
    "matmul, broadcast": (torch.matmul, np.matmul, "p1ik qkj", 0, "k"),
    "matmul, one matrix": (torch.matmul, np.matmul, "pik kj", 0, "k"),
    "bmm": (torch.bmm, np.matmul, "pik pkj", 1, "k"),
    "mm": (torch.mm, np.matmul, "ik kj", 0, "k"),
    "mv": (torch.mv, np.matmul, "ik k", 0, "k"),
    "dot": (torch.dot, np.dot, "k k", 0, "k"),
    "inner": (torch.inner, np.inner, "ik jk", 0, "k"),
    "outer": (torch.outer, np.outer, "i j", 0, ""),
    "addmm": (lambda c, a, b: torch.addmm(c, a, b, beta=2, alpha=3), lambda c, a, b: 2 * c + 3 * np.matmul(a, b), "j ik kj", 0, "k"),
    "baddbmm": (torch.baddbmm, lambda c, a, b: c + np.matmul(a, b), "pij pik pkj", 1, "k"),
    "addbmm": (torch.addbmm, lambda c, a, b: c + np.matmul(a, b).sum(0), "ij pik pkj", 0, "pk"),
    "addmv": (torch.addmv, lambda c, a, b: c + np.matmul(a, b), "i ik k", 0, "k"),
    "einsum ikl,lkj->ji": (lambda a, b: torch.einsum("ikl,lkj->ji", a, b), lambda a, b: np.einsum("ikl,lkj->ji", a, b, optimize=True), "iqp pqj", 0, "pq"),
    "einsum pik,pjk->ipj": (lambda a, b: torch.einsum("pik,pjk->ipj", a, b), lambda a, b: np.matmul(a, b.swapaxes(1, 2)).swapaxes(0, 1), "pik pjk", 1, "k"),
    "einsum pik,kj->jpi": (lambda a, b: torch.einsum("pik,kj->jpi", a, b), lambda a, b: np.moveaxis(np.matmul(a, b), 2, 0), "pik kj", 1, "k"),
    "einsum iik,kj->ij": (lambda a, b: torch.einsum("iik,kj->ij", a, b), lambda a, b: np.matmul(np.einsum("iik->ik", a), b), "iik kj", 0, "k"),
    "tensordot": (lambda a, b: torch.tensordot(a, b, ([0, 2], [1, 0])), lambda a, b: np.tensordot(a, b, ([0, 2], [1, 0])), "pik kpj", 0, "pk"),
    "linear": (F.linear, lambda x, w, b: np.matmul(x, w.T) + b, "pik jk j", 0, "k"),
    "bilinear": (F.bilinear, lambda x, y, w, b: np.einsum("np,ipq,nq->ni", x, w, y, optimize=True) + b, "kp kq ipq i", 0, "pq"),
}
ONLY_FLOATS = {"linear", "bilinear"}
INTEGERS = ("int8", "int16", "int32", "int64", "uint8")


def check_function(name, seed):
    call, as_numpy, letters, stretch, summed = FUNCTIONS[name]
    R = random.Random(f"{name} {seed}")
    rng = np.random.default_rng(R.getrandbits(32))
    dtype = R.choice(FLOATS if name in ONLY_FLOATS else FLOATS + INTEGERS)
    whole = dtype in INTEGERS
    exact = not whole and R.random() < 0.5
    big = lambda most: R.choice([R.randint(0, most), R.randint(0, most), R.choice([1, 16, 17, 32, 33, 64, 65, 100])])
    sizes = {"p": R.randint(0 if R.random() < 0.1 else 1, 6), "q": R.randint(1, 5), "1": 1}
    sizes |= {"i": big(50 if "iik" in letters else 160), "j": big(160), "k": big(300)}
    if R.random() < 0.15:                   # few rows and columns and a long k: in parts
        sizes |= {"i": R.randint(1, 24), "j": R.randint(1, 40), "k": R.randint(1000, 6000) // (30 if "kp kq" in letters else 1)}
    if name == "bilinear":
        sizes["p"] = sizes["p"] or 1        # PyTorch refuses inputs without features
    contents = [numbers(rng, tuple(sizes[x] for x in word), dtype, exact) for word in letters.split()]
    plain = R.choice([0.0, 0.5, 1.0])
    if R.random() < 0.15:                   # rows, columns and the summed axis may be stretched as well
        stretch = 4
    operands = [tensor(R, x, dtype, stretch if len(w) > 2 or stretch > 2 else 0, plain) for x, w in zip(contents, letters.split())]
    got = call(*operands)
    what = f"{name}, seed {seed}: {dtype} {', '.join(f'{tuple(x.shape)} {x.stride()}' for x in operands)}"
    assert got.dtype is getattr(torch, dtype), what
    if whole:
        with np.errstate(over="ignore"):
            want = as_numpy(*[x.astype(np.int64) for x in contents]).astype(dtype)
        assert np.array_equal(got.numpy(), want), what
        return
    want = as_numpy(*[x.astype(np.longdouble) for x in contents] if dtype == "float64" and not exact and len(contents) < 4 else contents)
    size = np.asarray(as_numpy(*map(np.abs, contents)), np.float64)
    got = got.to(torch.float64).numpy()
    assert got.shape == want.shape, what
    k = 4
    for letter in summed:
        k *= sizes[letter] or 1
    u = UNIT["float64" if dtype == "float64" else "float32"]
    bound = 0 if exact and dtype in ("float32", "float64") else k * u / (1 - k * u) * size
    if dtype in ("bfloat16", "float16"):
        bound = 3 * UNIT[dtype] * size + bound + 2.0**-24
    off = np.abs(got - want)
    assert np.isfinite(got).all() and (off <= bound).all(), f"{what}: off by {np.nanmax(off) if off.size else None}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name):
    for seed in range(6):
        check_function(name, seed)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_wrap_around(dtype):
    rng = np.random.default_rng(0)
    a, b = numbers(rng, (70, 90), dtype, False), numbers(rng, (90, 65), dtype, False)
    with np.errstate(over="ignore"):
        want = (a.astype(np.int64) @ b.astype(np.int64)).astype(dtype)
    assert np.array_equal((torch.from_numpy(a) @ torch.from_numpy(b)).numpy(), want)


@pytest.mark.parametrize("turned", range(4))
@pytest.mark.parametrize("dtype", FLOATS)
def test_nan_and_inf_stay_in_their_row_and_column(dtype, turned):
    """Also in the last row and column, where tiles reach beyond the matrices, and with zeros in the other factor: 0 * inf is NaN."""
    m, k, n = 75, 61, 83
    rng = np.random.default_rng(0)
    for bad in (np.nan, np.inf, -np.inf):
        for row, column in ((0, 0), (m - 1, n - 1), (17, n - 1), (m - 1, 32)):
            a, b = rng.integers(-3, 4, (m, k)).astype(np.float64), rng.integers(-3, 4, (k, n)).astype(np.float64)
            a[row, rng.integers(k)] = bad
            b[rng.integers(k), column] = bad
            with np.errstate(invalid="ignore"):
                want = np.einsum("ik,kj->ij", a, b)
            d = getattr(torch, dtype)
            x = torch.from_numpy(a.T.copy()).to(d).mT if turned & 1 else torch.from_numpy(a).to(d)
            y = torch.from_numpy(b.T.copy()).to(d).mT if turned & 2 else torch.from_numpy(b).to(d)
            got = (x @ y).to(torch.float64).numpy()
            want = torch.from_numpy(want).to(d).to(torch.float64).numpy()
            np.testing.assert_array_equal(got, want)


def test_a_result_may_be_nothing_or_a_sum_of_nothing():
    for shape, other in (((0, 70), (70, 90)), ((70, 90), (90, 0)), ((3, 0, 70), (70, 90))):
        assert (torch.ones(*shape) @ torch.ones(*other)).numel() == 0
    empty = torch.full((70, 0), float("nan")) @ torch.full((0, 90), float("nan"))
    assert empty.shape == (70, 90) and not empty.any()
    assert torch.equal(torch.addmm(torch.ones(90), torch.ones(70, 0), torch.ones(0, 90)), torch.ones(70, 90))
    assert F.bilinear(torch.ones(3, 4), torch.ones(3, 5), torch.ones(0, 4, 5), torch.ones(0)).shape == (3, 0)


def test_windows_of_a_row_as_a_matrix():
    """Rows that overlap: unit stride along both axes of a factor."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-4, 5, 700).astype("f"), rng.integers(-4, 5, (300, 70)).astype("f")
    rows = torch.from_numpy(x).unfold(0, 300, 1)
    want = np.lib.stride_tricks.sliding_window_view(x, 300).astype("d")
    assert np.array_equal((rows @ torch.from_numpy(w)).numpy(), want @ w)
    assert np.array_equal((torch.from_numpy(w).t() @ rows.t()).numpy(), (want @ w).T)
    assert np.array_equal((rows @ rows.t()).numpy(), want @ want.T)
    assert np.array_equal((torch.from_numpy(w) @ torch.from_numpy(w).t()[:, ::3]).numpy(), w @ w.T[:, ::3])


def test_columns_times_rows():
    a, b = np.arange(-150, 171, dtype="f"), np.arange(300, dtype="f")
    x, y = torch.from_numpy(a), torch.from_numpy(b)
    for product in (torch.outer(x, y), x[:, None] @ y[None], torch.addmm(torch.zeros(300), x[:, None], y[None]), torch.einsum("i,j->ij", x, y)):
        assert np.array_equal(product.numpy(), np.outer(a, b))


def check_aliases(seed):
    """Products written into windows of the memory that other windows, operands among them, are read from."""
    R = random.Random(seed)
    rng = np.random.default_rng(seed)
    n = R.choice([20, 45, 64, 100, 130, 230])
    dtype = R.choice(["float32", "float64", "int64"])
    arrays = [rng.integers(-3, 4, (n + 3, n + 2)).astype(dtype) for _ in range(R.randint(1, 3))]
    tensors = [torch.from_numpy(x).clone() for x in arrays]
    said = []
    for _ in range(R.randint(2, 8)):
        def window():
            i, at, turned = R.randrange(len(arrays)), (R.randint(0, 3), R.randint(0, 2)), R.random() < 0.4
            x, y = (v[i][at[0]:at[0] + n, at[1]:at[1] + n] for v in (arrays, tensors))
            said.append((i, at, turned))
            return (x.T, y.t()) if turned else (x, y)
        (a, x), (b, y), (c, z), (into, target) = window(), window(), window(), window()
        what = R.choice(["plain", "add", "residual", "addmm_", "out", "kept", "out of addmm"])
        said.append(what)
        product = a.astype("d") @ b.astype("d")
        if what in ("plain", "out"):
            value = product
        elif what == "residual":
            value = np.clip(product, -5, 5) * 2 + c
        elif what == "out of addmm":
            value = product + c
        else:
            value = product + into
        into[...] = np.clip(value, -9, 9)
        if what == "plain":
            target.copy_((x @ y).clamp(-9, 9))
        elif what == "add":
            target.copy_((target + x @ y).clamp(-9, 9))
        elif what == "residual":
            target.copy_(((x @ y).clamp(-5, 5) * 2 + z).clamp(-9, 9))
        elif what == "addmm_":
            target.addmm_(x, y).clamp_(-9, 9)
        elif what == "out":
            torch.mm(x, y, out=target).clamp_(-9, 9)
        elif what == "out of addmm":
            torch.addmm(z, x, y, out=target).clamp_(-9, 9)
        else:
            kept = x @ y
            target += kept
            target.clamp_(-9, 9)
            assert R.random() < 0.8 or np.array_equal(kept.numpy(), product), (seed, n, dtype, said)
    for x, y in zip(arrays, tensors, strict=True):
        assert np.array_equal(x, y.numpy()), (seed, n, dtype, said)


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_results_in_memory_that_operands_lie_in(start):
    for seed in range(start, start + 20):
        check_aliases(seed)


# PyTorch 2.13 gives the same where it reads before it writes; elsewhere its own result is undefined
@pytest.mark.parametrize("n", [5, 60, 130, 260])
def test_out_may_overlap_an_operand(n):
    a, b = (torch.from_numpy(np.random.default_rng(i).integers(-3, 4, (n, n)).astype("f")).clone() for i in range(2))
    product = torch.from_numpy(a.numpy().astype("d") @ b.numpy().astype("d")).float()

    def same(into, want):
        assert torch.equal(into, want)
    for call in (torch.mm, torch.matmul):
        x = a.clone()
        same(call(x, b, out=x), product)
        y = b.clone()
        same(call(a, y, out=y), product)
        x = a.clone()
        same(call(x, b, out=x.t()), product)
        tall = torch.zeros(n + 1, n)
        tall[:n] = a
        call(tall[:n], b, out=tall[1:])
        same(tall[1:], product)
        same(tall[0], a[0])
    x = a.clone()
    same(x.addmm_(x, b), a + product)
    x = a.clone()
    same(torch.addmm(b, x, b, out=x), b + product)
    x = b.clone()
    same(torch.addmm(x, a, x, beta=2, out=x), 2 * b + product)
    x = a.clone()[None].repeat(2, 1, 1)
    same(torch.bmm(x, b.expand(2, n, n), out=x), product.expand(2, n, n))
    x = a.clone()
    torch.mv(x, b[0], out=x[3])
    same(x[3], a @ b[0])
    x = a.clone()
    x[1:] += x[1:] @ b                # a residual that is an operand too
    same(x[1:], a[1:] + product[1:])
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory location"):
        torch.mm(a, b, out=torch.zeros(n).expand(n, n))


# ------------------------------------------------------------------ gradients

GRADIENTS = {
    "mm": (lambda a, b: a @ b, [(42, 44), (44, 46)]),
    "transposed": (lambda a, b: a.t() @ b.t(), [(44, 42), (46, 44)]),
    "strided": (lambda a, b: a[::2, 1:] @ b[:, ::3], [(80, 45), (44, 130)]),
    "broadcast": (lambda a, b: a @ b, [(3, 1, 30, 32), (2, 32, 31)]),
    "expanded": (lambda a, b: a.expand(4, 30, 32) @ b, [(30, 32), (4, 32, 31)]),
    "with itself": (lambda a: a @ a.t(), [(42, 44)]),
    "linear, gelu": (lambda x, w, b: F.gelu(F.linear(x, w, b)), [(40, 42), (44, 42), (44,)]),
    "addmm, tanh": (lambda c, x, y: torch.addmm(c, x, y, beta=0.5, alpha=0.1).tanh(), [(44,), (40, 42), (42, 44)]),
    "einsum": (lambda a, b: torch.einsum("pik,pjk->ipj", a, b), [(3, 30, 32), (3, 31, 32)]),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients(name):
    """By central differences along random directions: all of a large Jacobian would take too long."""
    f, shapes = GRADIENTS[name]
    rng = np.random.default_rng(0)
    inputs = [torch.from_numpy(rng.standard_normal(s)).requires_grad_() for s in shapes]
    y = f(*inputs)
    assert y.numel() * y.shape[-1] > 1 << 14
    weight = torch.from_numpy(rng.standard_normal(tuple(y.shape)))
    gradients = torch.autograd.grad((y * weight).sum(), inputs)
    for _ in range(3):
        directions = [torch.from_numpy(rng.standard_normal(s)) for s in shapes]
        step = 1e-6
        with torch.no_grad():
            ends = [(f(*[x + s * step * d for x, d in zip(inputs, directions)]) * weight).sum().item() for s in (1, -1)]
        slope = sum((g * d).sum().item() for g, d in zip(gradients, directions))
        assert abs((ends[0] - ends[1]) / (2 * step) - slope) <= 1e-5 * (1 + abs(slope))


def test_gradcheck():
    """Whole Jacobians, between few inputs and few results, of products large enough for the engine."""
    rng = np.random.default_rng(0)

    def leaf(*shape):
        return torch.from_numpy(rng.standard_normal(shape)).requires_grad_()
    tall, wide, matrix = (torch.from_numpy(rng.standard_normal(shape)) for shape in ((1000, 10), (8, 2000), (40, 400)))
    assert torch.autograd.gradcheck(lambda x: tall[:, 3:8].t() @ (tall @ x).tanh(), (leaf(10, 7),))
    assert torch.autograd.gradcheck(lambda x: (x.expand(3, 5, 8) @ wide[:, ::2]).tanh() @ tall[:, ::7], (leaf(5, 8),))
    assert torch.autograd.gradcheck(lambda x: (matrix.t() @ (x.t() @ matrix[:5]) / 20).sin()[::60, ::70], (leaf(5, 40),))


# ------------------------------------------------------------------ the same bits, however it is run

SCRIPT = """
import hashlib, sys
import numpy as np
import flambeau as torch
rng = np.random.default_rng(0)
def t(*shape, dtype=torch.float32):
    return torch.from_numpy(rng.standard_normal(shape)).to(dtype)
seen = hashlib.sha256()
def look(x):
    seen.update(x.detach().to(torch.float64).numpy().tobytes())
for threads in map(int, sys.argv[1].split(",")):
    torch.set_num_threads(threads)
    for d in (torch.float32, torch.float64, torch.bfloat16):
        rng = np.random.default_rng(1)
        look(t(257, 600, dtype=d) @ t(600, 131, dtype=d))
        look(t(3, 130, 140, dtype=d) @ t(3, 150, 140, dtype=d).mT)
        look(t(17, 6007, dtype=d) @ t(6007, 33, dtype=d))
        x, w, b = (y.requires_grad_() for y in (t(200, 300, dtype=d), t(180, 300, dtype=d), t(180, dtype=d)))
        y = torch.nn.functional.gelu(torch.nn.functional.linear(x, w, b))
        y.sum().backward()
        for z in (y, x.grad, w.grad, b.grad):
            look(z)
    look(torch.from_numpy(rng.integers(-1 << 40, 1 << 40, (130, 140))) @ torch.from_numpy(rng.integers(-1 << 40, 1 << 40, (140, 150))))
    print(seen.hexdigest())
    seen = hashlib.sha256()
print(torch.runtime.cpu.STATS["compiled"])
"""


def test_the_same_bits_for_any_number_of_threads_and_any_cache(tmp_path):
    def run(threads):
        *hashes, compiled = in_a_process(SCRIPT, threads, FLAMBEAU_CACHE=str(tmp_path)).split()
        return set(hashes), int(compiled)
    cold, compiled = run("1,2")
    assert len(cold) == 1 and compiled > 0
    for threads in ("8,4,3,2,1", "1"):
        warm, compiled = run(threads)
        assert warm == cold and compiled == 0


def test_single_rows_and_parts_have_the_bits_of_the_whole():
    """Which tile an element is in does not show: a product of some rows or columns is those of the whole product."""
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.standard_normal(s).astype("f")).clone() for s in ((300, 700), (700, 260)))
    whole = (a @ b).numpy()
    for rows, columns in ((slice(7, 60), slice(None)), (slice(None), slice(33, 100)), (slice(100, 143), slice(5, 250))):
        assert (a[rows] @ b[:, columns]).numpy().tobytes() == whole[rows, columns].tobytes()


# ------------------------------------------------------------------ epilogues, from the recorded program

def chain(R, rng, m, n):
    """Random maps after a product, as a program over tensors; what they need besides it."""
    others = {}
    steps = []

    def other(*shape):
        name = f"o{len(others)}"
        others[name] = rng.standard_normal(shape)
        return name
    shapes = [(m, n), (n,), (m, 1), (1, n), (), (n, m)]
    for _ in range(R.randint(1, 6)):
        what = R.choice(["bias", "residual", "scale", "cast", "relu", "gelu", "tanh", "where", "in place", "keep", "into", "sigmoid", "read"])
        shape = R.choice(shapes)
        steps.append((what, other(*shape) if what in ("bias", "residual", "scale", "where", "in place", "into") else None, shape))
    return steps, others


def play(steps, others, x):
    """Run a chain; everything that is still referenced at its end."""
    kept = []
    for what, name, shape in steps:
        o = None
        if name is not None:
            o = others[name].to(x.dtype)
            if shape == (x.shape[1], x.shape[0]) and shape != tuple(x.shape):
                o = o.t()
        if what in ("bias", "residual"):
            x = x + o
        elif what == "scale":
            x = x * o * 0.5
        elif what == "cast":
            x = x.to(torch.float64 if x.dtype is torch.float32 else torch.float32)
        elif what in ("relu", "gelu"):
            x = getattr(F, what)(x)
        elif what in ("tanh", "sigmoid"):
            x = getattr(torch, what)(x * 0.1)
        elif what == "where":
            x = torch.where(o > 0, x, x * 0.1)
        elif what == "in place":
            x.add_(o)
        elif what == "keep":
            kept.append(x)
            x = x * 0.5
        elif what == "into":
            if o.shape == x.shape:
                o += x
                kept.append(o)
                x = o
        elif what == "read":
            kept.append(x.sum(1))
    return [*kept, x]


def check_chain(seed):
    R = random.Random(seed)
    rng = np.random.default_rng(seed)
    m, n, k = (R.choice([16, 17, 33, 60, 64, 100, 130, R.randint(3, 200)]) for _ in range(3))
    dtype = R.choice(["float32", "float32", "float64", "bfloat16"])
    a, b = rng.integers(-2, 3, (m, k)).astype("d"), rng.integers(-2, 3, (k, n)).astype("d")
    steps, others = chain(R, rng, m, n)

    def run():
        def make(x, turned=False):
            y = torch.from_numpy(x.T.copy() if turned else x.copy()).to(getattr(torch, dtype))
            return y.t() if turned else y
        x, y = make(a, seed & 1), make(b, seed & 2)
        rest = {name: make(o, False) for name, o in others.items()}
        if seed & 4:                        # factors that are not computed yet
            x, y = torch.relu(x + 1), y * 0.5
        results = play(steps, rest, x @ y)
        return [r.detach().to(torch.float64).numpy() for r in [*results, *rest.values()]]
    fused = run()
    with torch.eager():
        one_by_one = run()
    tolerance = {"float32": 1e-5, "float64": 1e-5 if any(s[0] == "cast" for s in steps) else 1e-12, "bfloat16": 3e-2}[dtype]
    for x, y in zip(fused, one_by_one, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * max(1, np.abs(y).max(initial=0)), err_msg=f"seed {seed}: {m}x{k}x{n} {dtype} {steps}")


@pytest.mark.parametrize("start", range(0, 40, 10))
def test_fused_epilogues_equal_one_call_at_a_time(start):
    for seed in range(start, start + 10):
        check_chain(seed)


def test_a_linear_layer_and_its_activation_are_one_kernel():
    x, w, b = torch.randn(65, 130), torch.randn(70, 130), torch.randn(70)
    for activation in (torch.relu, F.gelu, torch.tanh):
        text = str(torch.explain(lambda f=activation: f(F.linear(x, w, b))))
        assert ", 1 launch," in text, text


# ------------------------------------------------------------------ what is compiled

@pytest.fixture
def loaded(monkeypatch):
    """The texts of product kernels that were asked for."""
    seen = set()
    load = cpu.load

    def noting(texts):
        seen.update(text for text in texts if "@NAME.tile" in text or "@NAME.transpose" in text)
        return load(texts)
    monkeypatch.setattr(cpu, "load", noting)
    return seen


def test_new_sizes_compile_nothing(loaded):
    """Sizes, strides and offsets are arguments: within a class (types, which strides are 1, what follows) all share their code."""
    def step(m, k, n, pad=0):
        a, b, bias = torch.randn(m, k + pad)[:, pad:], torch.randn(k, n + pad)[:, pad:], torch.randn(n)
        c, d, e = torch.randn(n, k), torch.randn(k, m), torch.randn(3, m, k)
        torch._flush()
        for f in (lambda: torch.relu(a @ b + bias), lambda: a @ c.t(), lambda: d.t() @ b, lambda: e @ b):
            f().data_ptr()
    step(64, 65, 66)
    step(128, 64, 96)
    step(64, 65, 66, 3)
    step(400, 64, 100)          # what follows a product has longer code from 32768 results on
    kernels = len(loaded)
    assert 3 <= kernels <= 6
    for shape in ((65, 66, 67), (300, 200, 100), (148, 1000, 50), (255, 257, 31), (141, 600, 300), (130, 64, 96, 3), (1000, 70, 60, 1)):
        step(*shape)
        assert len(loaded) == kernels, f"a product of {shape} needs code of its own"


# ------------------------------------------------------------------ as long as one likes

@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
def test_fuzz():
    """New cases until the time is over: each kind of check in turn; a seed that fails is in the message."""
    start = int(os.environ.get("FLAMBEAU_FUZZ_SEED", time.time_ns() // 1000 % 10**9))
    end = time.monotonic() + SECONDS
    for seed in itertools.count(start):
        if time.monotonic() > end:
            break
        check_product(seed, WIDTHS[seed % 3], R_PIECES[seed % len(R_PIECES)])
        if seed % 2:
            check_maps(seed, WIDTHS[seed // 2 % 3])
            check_aliases(seed)
        if seed % 4 == 0:
            check_chain(seed)
        if seed % 4 == 2:
            check_function(list(FUNCTIONS)[seed // 4 % len(FUNCTIONS)], seed)


R_PIECES = ((1, 2), (1, 3), (1, 4, 8), (1,))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="mprotect")
def test_fuzz_between_guard_pages():
    start = int(os.environ.get("FLAMBEAU_FUZZ_SEED", time.time_ns() // 1000 % 10**9))
    assert "done" in in_a_process(str(HERE / "product_maker.py"), start, start + 10**9, SECONDS)


# ------------------------------------------------------------------ processors that are not here

NEON = [Product(float32, "k", "column", 1, 4, 12, 2), Product(float32, "k", "k", 0, 4, 8, 3, dot=True),
        Product(float32, "row", "column", 1, 4, 12, 2, window=Window(3, 2, 2)), Product(float32, "k", "column", 1, 4, 12, 2, window=Direct(2))]


@pytest.mark.parametrize("product", NEON, ids=["blocks", "inner products", "windows", "direct"])
def test_products_compile_for_neon(product):
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple("aarch64-unknown-linux-gnu").create_target_machine(cpu="neoverse-n1", features="+neon", opt=2)
    text = machine.emit_assembly(llvm.parse_assembly(render(product).replace("@NAME", "@kernel").replace("#ATTR", "")))
    assert text.count("fmla") >= 24
