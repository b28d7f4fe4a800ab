"""Products and convolutions of bfloat16 on a matrix unit: exact where all sums are whole numbers, the same bits for any pieces, nothing else written."""

import numpy as np
import pytest
from kernel_runner import Machine, results_in_pieces
from program_maker import Maker

import flambeau as torch
from flambeau.core.dtype import bfloat16, float32
from flambeau.ir import expression as ir
from flambeau.ir.loops import Nest
from flambeau.ir.product import Product
from flambeau.runtime import cpu, reference

pytest.importorskip("llvmlite")
pytestmark = pytest.mark.skipif(not cpu.has_matrix_unit(), reason="this processor has no such unit (2026-11)")
F = torch.nn.functional

@pytest.mark.parametrize(("m", "k", "n"), [(1700, 2048, 40), (33, 2050, 65), (1100, 4100, 33), (64, 32, 1030), (31, 66, 500), (3, 64, 64)])
@pytest.mark.parametrize("turned", range(4))
def test_products_are_exact_and_rounded_once(m, k, n, turned):
    """One block of rows and several, of k, and columns that stay packed; A in place and copied; what follows besides rounding."""
    x, y = whole(0, *((k, m) if turned & 1 else (m, k))), whole(1, *((n, k) if turned & 2 else (k, n)))
    a, b = x.t() if turned & 1 else x, y.t() if turned & 2 else y
    exact = torch.from_numpy(a.float().numpy() @ b.float().numpy())         # all of it whole numbers below 2 ** 24
    assert torch.equal(a @ b, exact.to(torch.bfloat16))
    assert torch.equal(torch.addmm(torch.ones(n, dtype=torch.bfloat16), a, b), (exact + 1).to(torch.bfloat16))


CASES = [       # batch, channels, outputs, size, kernel, how
    (2, 64, 64, (30, 31), (3, 3), {"padding": 1}),
    (3, 32, 96, (17, 40), (5, 3), {"padding": (0, 1)}),
    (2, 32, 64, (31, 33), (3, 3), {"padding": 1, "stride": 2}),
    (2, 64, 32, (31, 50), (2, 3), {"padding": 1, "stride": (1, 2)}),
    (2, 64, 32, (23, 19), (3, 3), {"padding": 2, "dilation": 2}),
    (2, 96, 32, (14, 14), (1, 1), {}),
    (3, 64, 64, (12, 12), (1, 1), {"padding": 1}),
    (2, 128, 64, (16, 15), (3, 3), {"padding": 1, "groups": 2}),
    (1, 32, 32, (200,), (9,), {"padding": 4}),
    (40, 32, 32, (40, 41), (3, 3), {"padding": 1}),
    (1, 32, 32, (7, 9, 10), (3, 3, 3), {"padding": 1}),
]


def whole(seed, *shape, most=3):
    return torch.from_numpy(np.random.default_rng(seed).integers(-most, most + 1, shape)).to(torch.bfloat16)


@pytest.mark.parametrize(("n", "c", "o", "size", "kernel", "how"), CASES, ids=str)
def test_convolutions_and_their_gradients_are_exact_and_rounded_once(n, c, o, size, kernel, how):
    convolve = getattr(F, f"conv{len(size)}d")
    x, w = whole(0, n, c, *size), whole(1, o, c // how.get("groups", 1), *kernel)
    assert "pairs of bfloat16" in str(torch.explain(lambda: convolve(x, w, **how)))
    g = whole(2, *convolve(x, w, **how).shape)
    results = []
    for d in (torch.bfloat16, torch.float64):
        a, b = (t.to(d).clone().requires_grad_() for t in (x, w))
        y = convolve(a, b, **how)
        y.backward(g.to(d))
        results.append([t.detach().to(torch.bfloat16) for t in (y, torch.relu(y), a.grad, b.grad)])
    for ours, exact in zip(*results, strict=True):
        assert torch.equal(ours, exact)


def test_what_follows_a_convolution_comes_before_it_is_rounded():
    x, w, b = whole(0, 2, 32, 20, 20), whole(1, 32, 32, 3, 3), whole(2, 32)
    ours = torch.relu(F.conv2d(x, w, b, padding=1))
    assert torch.equal(ours, torch.relu(F.conv2d(x.double(), w.double(), b.double(), padding=1)).to(torch.bfloat16))


def test_numbers_that_are_none_stay_in_their_windows():
    x, w = whole(0, 1, 32, 20, 20), torch.ones(32, 32, 3, 3, dtype=torch.bfloat16)
    x[0, 7, 10, 5], x[0, 31, 0, 19] = float("nan"), float("inf")
    y = F.conv2d(x, w, padding=1)
    assert y[:, :, 9:12, 4:7].isnan().all().item() and y.isnan().sum().item() == 32 * 9
    assert y[:, :, :2, 18:].isinf().all().item() and y.isinf().sum().item() == 32 * 4
    assert F.conv2d(x, w * 0, padding=1).isnan().sum().item() == 32 * 13


def test_numbers_that_are_none_stay_in_the_gradient_of_their_channel():
    """The zeros between the rows of one factor are multiplied by what lies there in the other: nothing of another channel or image."""
    x, w = whole(0, 2, 32, 20, 20), whole(1, 32, 32, 3, 3).requires_grad_()
    x[1, 7, 0, 0] = x[0, 8, 19, 19] = float("nan")
    y = F.conv2d(x, w, padding=1)
    y.backward(torch.ones(*y.shape, dtype=torch.bfloat16))
    assert w.grad[:, 7:9, 0, 0].isnan().any().item() and w.grad[:, 7:9, 1, 1].isnan().all().item()
    assert not w.grad[:, :7].isnan().any().item() and not w.grad[:, 9:].isnan().any().item()


@pytest.mark.parametrize(("size", "kernel", "stride", "padding"), [((20, 21), (3, 3), 1, 1), ((21, 20), (3, 2), 2, 0), ((40, 70), (5, 5), 1, 2)])
@pytest.mark.parametrize("rounds", [False, True])
def test_convolutions_write_nothing_else_and_pieces_change_no_bit(size, kernel, stride, padding, rounds):
    n, c, o = 2, 64, 32
    result = [(s + 2 * padding - k) // stride + 1 for s, k in zip(size, kernel, strict=True)]
    rng = np.random.default_rng(3)
    x, w = rng.integers(-3, 4, (n, c, *size)), rng.integers(-3, 4, (o, c, *kernel))
    m = Maker()
    image, weight = (m.external(reference.encode(t.astype(np.float32), bfloat16), bfloat16) for t in (x, w))
    wide = [m.map(v.element(v.shape).cast(float32), v.shape) for v in (image, weight)]
    guard = None
    for i in range(2):
        place = ir.axis(2 + i) * stride + ir.axis(5 + i) - padding
        for inside in (ir.const(0, ir.int64) <= place, place < size[i]):
            guard = inside if guard is None else guard & inside
    (xn, xc, xy, xx), (wo, wc, *wk) = wide[0].strides, wide[1].strides
    at = ir.Access(wide[0].slot, -padding * (xy + xx), (xn, 0, xy * stride, xx * stride, xc, xy, xx), float32, 0)
    factors = (ir.make("load", float32, (ir.const(0, ir.int64), guard), at),
               ir.make("load", float32, (), ir.Access(wide[1].slot, 0, (0, wo, 0, 0, wc, *wk), float32)))
    y = m.fresh((n, o, *result), float32)
    m.steps.append(Nest("reduce", (n, o, *result, c, *kernel), 4, factors[0] * factors[1], y.access(7), "sum", ir.acc(float32)))
    z = m.map(y.element(y.shape).cast(bfloat16) if rounds else y.element(y.shape) + 1.0, y.shape)
    m.buffers[z.slot].live = True
    machine = Machine(m.program(), 64, "matrix")
    assert [k.rounds for k in machine.plan.kernels if isinstance(k, Product)] == [rounds]
    got = results_in_pieces(machine, m.buffers, m.contents, z.slot, elements(y.shape) * z.dtype.itemsize, np.uint16 if rounds else np.float32, (1, 2, 3))
    assert all(np.array_equal(got[0], other) for other in got[1:])
    exact = F.conv2d(torch.from_numpy(x).double(), torch.from_numpy(w).double(), stride=stride, padding=padding)
    want = exact.to(torch.bfloat16) if rounds else exact + 1
    values = reference.decode(got[0], bfloat16) if rounds else got[0]
    assert np.array_equal(values.reshape(y.shape).astype(np.float64), want.to(torch.float64).numpy())


def elements(shape):
    count = 1
    for n in shape:
        count *= n
    return count


def test_a_source_that_changes_after_it_was_converted_is_not_read_again():
    x, w = whole(0, 1, 32, 20, 20), whole(1, 32, 32, 3, 3)
    a, b = x.float(), w.float()
    x.zero_()
    assert torch.equal(F.conv2d(a, b, padding=1), F.conv2d(whole(0, 1, 32, 20, 20).double(), w.double(), padding=1).float())
