"""Convolutions by Winograd's algorithm: values against float64, margins, the same bits for any pieces, the switch, and what compiles.

That every nest is understood is tried by sizes drawn at random; ``kernel_runner`` guards memory and runs units in pieces.
"""

import functools
import os
import random as pick
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from convolution_maker import activated_gradient, weight_gradient
from kernel_runner import Machine, results_in_pieces
from program_maker import Maker

import flambeau as torch
from flambeau.core import config
from flambeau.core.dtype import float32
from flambeau.ir import expression as ir
from flambeau.ir.loops import Nest
from flambeau.ir.winograd import WeightGradient, Winograd, full_panels, low, panels, scratch_bytes, strided, toom_cook
from flambeau.runtime import cpu, pool
from flambeau.schedule import winograd
from flambeau.schedule.contract import register_tile
from flambeau.stream import flush

F = torch.nn.functional
WIDTHS = [n for n in (64, 32, 16) if n <= cpu.vector_bytes()]
TOLERANCE = 1e-5            # of the root mean square of the result; the largest errors of random data with 512 channels are a third of it


def random(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape).astype(np.float32))


def direct(x, w, padding=0, groups=1):
    """The convolution as a sum over the taps, in float64."""
    x, w = (np.asarray(t.detach().numpy(), np.float64) for t in (x, w))
    n, c, h, width = x.shape
    p, q = (padding, padding) if isinstance(padding, int) else padding
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (q, q))).reshape(n, groups, c // groups, h + 2 * p, width + 2 * q)
    w = w.reshape(groups, -1, *w.shape[1:])
    rows, columns = h + 2 * p - 2, width + 2 * q - 2
    y = sum(np.einsum("ngcyx,goc->ngoyx", x[..., i:i + rows, j:j + columns], w[..., i, j], optimize=True) for i in range(3) for j in range(3))
    return y.reshape(n, -1, rows, columns)


def backwards(g, w, padding=0, groups=1):
    """The gradient with respect to the input of :func:`direct`: its transpose."""
    g, w = (np.asarray(t.detach().numpy(), np.float64) for t in (g, w))
    n, o, h, width = g.shape
    p, q = (padding, padding) if isinstance(padding, int) else padding
    g = g.reshape(n, groups, o // groups, h, width)
    w = w.reshape(groups, o // groups, *w.shape[1:])
    x = np.zeros((n, groups, w.shape[2], h + 2, width + 2))
    for i in range(3):
        for j in range(3):
            x[..., i:i + h, j:j + width] += np.einsum("ngoyx,goc->ngcyx", g, w[..., i, j], optimize=True)
    return x.reshape(n, -1, h + 2, width + 2)[:, :, p:h + 2 - p, q:width + 2 - q]


def close(found, expected, tolerance=TOLERANCE):
    """Compare with a tolerance relative to the size of the results."""
    found = found.detach().numpy() if isinstance(found, torch.Tensor) else found
    scale = max(1.0, float(np.sqrt((expected ** 2).mean())))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


def kernels(f):
    """How many launches of the algorithm a function's program has."""
    return str(torch.explain(f, ir="loops")).count("Winograd")


@pytest.fixture
def every_size(monkeypatch):
    """Lets the algorithm run at sizes at which it does not pay."""
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    monkeypatch.setattr("flambeau.runtime.images.put", lambda *key: None)
    for limit in ("CHANNELS", "BOTH_CHANNELS", "TILES", "TILES_ALONE", "VECTOR_BYTES"):
        monkeypatch.setattr(winograd, limit, 1)
    flush.forget()
    yield
    flush.forget()


@dataclass
class Case:
    images: int
    channels: int
    outputs: int
    height: int
    width: int
    padding: tuple[int, int]
    groups: int


def cases(count, seed):
    r = pick.Random(seed)
    for _ in range(count):
        groups = r.choice([1, 1, 1, 2, 3])
        padding = (r.randint(0, 2), r.randint(0, 2))
        height, width = (max(r.choice([2, 3, 4, 5, 7, 9, 14, 23, 33, 40]), 4 - 2 * p) for p in padding)
        yield Case(r.choice([1, 1, 2, 3, 5]), groups * r.choice([4, 15, 16, 17, 30]), groups * r.choice([3, 14, 16, 29, 33]), height, width, padding, groups)


@pytest.mark.parametrize("case", list(cases(24, 1)), ids=str)
def test_values_and_gradients_are_those_of_the_sum(case, every_size):
    x = random(case.images, case.channels, case.height, case.width).requires_grad_()
    w = random(case.outputs, case.channels // case.groups, 3, 3, seed=1).requires_grad_()
    how = {"padding": case.padding, "groups": case.groups}
    y = F.conv2d(x, w, **how)
    g = random(*y.shape, seed=2)
    y.backward(g)
    close(y, direct(x, w, **how))
    close(x.grad, backwards(g, w, **how))


def test_both_directions_are_recognised():
    x, w = random(2, 32, 20, 20).requires_grad_(), random(32, 32, 3, 3, seed=1)
    assert kernels(lambda: F.conv2d(x.detach(), w, padding=1)) == 1

    def gradient():
        y = F.conv2d(x, w, padding=1)
        return torch.autograd.grad(y, x, torch.ones_like(y))
    assert kernels(gradient) == 1


@pytest.mark.parametrize(("padding", "dilation"), [(2, 2), (0, 2), (3, 3), ((1, 2), (1, 2)), ((4, 0), (3, 1))])
def test_a_dilated_convolution_is_one_for_every_remainder_of_rows(padding, dilation, every_size):
    x, w = random(2, 20, 23, 30).requires_grad_(), random(17, 20, 3, 3, seed=1)
    down, across = (dilation, dilation) if isinstance(dilation, int) else dilation
    parts = down * (1 if across == 2 else across)       # there is an algorithm for both remainders along a row
    assert kernels(lambda: F.conv2d(x.detach(), w, padding=padding, dilation=dilation)) == parts
    y = F.relu(F.conv2d(x, w, padding=padding, dilation=dilation))
    g = random(*y.shape, seed=2)
    y.backward(g)
    exact = x.detach().double().requires_grad_()
    z = F.relu(F.conv2d(exact, w.double(), padding=padding, dilation=dilation))
    z.backward(g.double())
    close(y, z.detach().numpy())
    close(x.grad, exact.grad.numpy())


SHAPES = [     # size of the input, kernel, padding
    ((28, 28), (5, 5), (2, 2)), ((27, 31), (5, 5), (0, 0)), ((27, 31), (3, 5), (1, 2)), ((40, 20), (6, 6), (1, 3)), ((9, 20), (4, 3), (2, 0)),
    ((9, 20, 12), (3, 3, 3), (1, 1, 1)), ((9, 13, 12), (3, 3, 3), (0, 0, 2)), ((5, 20, 11), (2, 3, 3), (1, 0, 2)), ((3, 20, 12), (1, 3, 3), (0, 0, 2)),
    ((8, 18, 12), (3, 5, 5), (1, 2, 2)), ((4, 9, 9), (5, 3, 3), (2, 1, 1)),
    ((61,), (3,), (0,)), ((1500,), (9,), (4,)), ((700,), (10,), (12,)), ((600,), (4,), (3,)), ((9, 130), (1, 5), (0, 2)),
]


STRIDED = [     # the same, and the stride
    ((28, 28), (3, 3), (1, 1), (2, 2)), ((27, 31), (3, 3), (0, 2), (2, 2)), ((27, 31), (5, 5), (2, 2), (2, 2)), ((30, 41), (4, 3), (1, 0), (2, 2)),
    ((30, 41), (3, 5), (1, 0), (1, 2)), ((19, 70), (5, 3), (2, 1), (2, 1)), ((9, 20, 13), (3, 3, 3), (1, 1, 1), (1, 2, 2)),
]
CONVOLUTIONS = [*((*s, (1,) * len(s[0])) for s in SHAPES), *STRIDED]


@pytest.mark.parametrize(("size", "kernel", "padding", "stride"), CONVOLUTIONS)
def test_larger_kernels_slices_and_strides(size, kernel, padding, stride, every_size, monkeypatch):
    monkeypatch.setattr(winograd, "SAVED", 0)
    convolve = functools.partial(getattr(F, f"conv{len(size)}d"), padding=padding, stride=stride)
    x, w = random(2, 17, *size).requires_grad_(), random(15, 17, *kernel, seed=1)
    assert kernels(lambda: convolve(x.detach(), w)) == 1
    y = F.relu(convolve(x, w))
    g = random(*y.shape, seed=2)
    y.backward(g)
    exact = x.detach().double().requires_grad_()
    z = F.relu(convolve(exact, w.double()))
    z.backward(g.double())
    close(y, z.detach().numpy())
    close(x.grad, exact.grad.numpy())


@pytest.mark.parametrize(("size", "kernel", "padding", "stride"), CONVOLUTIONS)
def test_pieces_of_those_change_no_bit_and_margins_stay(size, kernel, padding, stride, every_size, monkeypatch):
    monkeypatch.setattr(winograd, "SAVED", 0)
    rank = len(size)
    n, c, o = 2, 17, 15
    out = [(a + 2 * p - k) // s + 1 for a, k, p, s in zip(size, kernel, padding, stride, strict=True)]
    m = Maker()
    x, w = random(n, c, *size).numpy(), random(o, c, *kernel, seed=1).numpy()
    image, weight = m.external(x), m.external(w)
    guard = None
    for i in range(rank):
        place = ir.axis(2 + i) * stride[i] + ir.axis(3 + rank + i) - padding[i]
        for condition in (ir.const(0, ir.int64) <= place, place < size[i]):
            guard = condition if guard is None else guard & condition
    xs, ws = image.strides, weight.strides
    first = -sum(s * p for s, p in zip(xs[2:], padding, strict=True))
    steps = [x * s for x, s in zip(xs[2:], stride, strict=True)]
    load = ir.make("load", float32, (ir.const(0, ir.int64), guard), ir.Access(0, first, (xs[0], 0, *steps, xs[1], *xs[2:]), float32, 0))
    factor = ir.make("load", float32, (), ir.Access(1, 0, (0, ws[0], *[0] * rank, ws[1], *ws[2:]), float32))
    y = m.fresh((n, o, *out))
    m.steps.append(Nest("reduce", (n, o, *out, c, *kernel), 2 + rank, load * factor, y.access(3 + 2 * rank), "sum", ir.acc(float32)))
    z = m.map(ir.maximum(y.element(y.shape), ir.const(0.0, float32)), y.shape)
    m.buffers[z.slot].live = True
    expected = F.relu(getattr(F, f"conv{rank}d")(torch.from_numpy(x).double(), torch.from_numpy(w).double(), padding=padding, stride=stride)).numpy()
    machine = Machine(m.program(), 64 if 64 in WIDTHS else 32)
    assert sum(isinstance(k, Winograd) for k in machine.plan.kernels) == 1
    results = results_in_pieces(machine, m.buffers, m.contents, z.slot, expected.size * 4, np.float32)
    close(results[0].reshape(expected.shape), expected)
    assert np.array_equal(*results)


LAYOUTS = {
    "channels last": lambda t: t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "every other column": lambda t: torch.stack([t, t * 0], -1).flatten(-2)[..., ::2],
    "transposed": lambda t: t.mT.contiguous().mT,
    "part of a larger one": lambda t: F.pad(t, (1, 2, 3, 1))[:, :, 3:-1, 1:-2],
    "expanded": lambda t: t[:1].expand(t.shape),
}


TURNED = [      # size of what is transposed, kernel, stride, padding, size of the result
    ((14, 15), (4, 4), (2, 2), (1, 1), (28, 30)), ((14, 15), (3, 3), (2, 2), (1, 1), (27, 29)), ((9, 23), (2, 2), (2, 2), (0, 0), (18, 46)),
    ((9, 40), (5, 3), (2, 2), (1, 2), (19, 77)), ((9, 16), (6, 10), (3, 2), (2, 3), (26, 34)), ((9, 16), (3, 3), (2, 3), (0, 0), (20, 48)),
    ((5, 9, 20), (3, 3, 4), (1, 2, 2), (1, 1, 1), (5, 18, 40)),
]


@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "result"), TURNED)
def test_gradients_of_strided_ones_take_turns(size, kernel, stride, padding, result, every_size, monkeypatch):
    monkeypatch.setattr(winograd, "SAVED", 0)
    m, z, expected = activated_gradient(size, kernel, stride, padding, (1,) * len(size), result, float32, c=15, o=17)
    for vector_bytes in [b for b in WIDTHS if b > 16]:
        machine = Machine(m.program(), vector_bytes)
        assert sum(isinstance(k, Winograd) for k in machine.plan.kernels) == 1
        results = results_in_pieces(machine, m.buffers, m.contents, z.slot, expected.size * 4, np.float32)
        close(results[0].reshape(expected.shape), expected)
        assert np.array_equal(*results)


@pytest.mark.parametrize("groups", [1, 2])
def test_transposed_convolutions(groups, every_size):
    x, w, b = random(3, 34, 13, 14), random(34, 15, 4, 4, seed=1), random(15 * groups, seed=2)
    how = {"stride": 2, "padding": 1, "output_padding": (1, 0), "groups": groups}

    def up():
        return F.relu(F.conv_transpose2d(x, w, b, **how))
    assert kernels(up) == 1
    close(up(), F.relu(F.conv_transpose2d(x.double(), w.double(), b.double(), **how)).numpy())
    last = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    close(F.relu(F.conv_transpose2d(last, w, b, **how)), up().numpy())


ALGORITHMS = [       # kernel, stride, how many roundings of the transforms add up
    (3, 1, 10), (5, 1, 30), (3, 2, 10), (4, 2, 10), (5, 2, 10),
]


@pytest.mark.parametrize(("taps", "stride", "roundings"), ALGORITHMS)
def test_the_error_is_within_its_bound(taps, stride, roundings, every_size):
    """For random data, and for elements that are all as large as they can be."""
    algorithm = strided(taps, stride) if stride > 1 else toom_cook(taps)
    matrices = [np.array(m) for m in (algorithm.weight, algorithm.into, algorithm.out)]
    exact = np.einsum("rp,pt,pe->rte", matrices[2], matrices[0], matrices[1])
    for r in range(2):
        for t in range(taps):
            np.testing.assert_allclose(exact[r, t], np.arange(algorithm.elements) == r * stride + t, atol=1e-13)
    channels, r = 40, np.random.default_rng(taps)
    for draw in (r.standard_normal, lambda shape: r.choice([-1.0, 1.0], shape) * (1 + r.random(shape) * 1e-3)):
        x, w = (torch.from_numpy(draw(shape).astype(np.float32)) for shape in ((1, channels, 23, 24), (16, channels, taps, taps)))
        assert kernels(lambda: F.conv2d(x, w, stride=stride)) == 1  # noqa: B023
        error = np.abs(F.conv2d(x, w, stride=stride).numpy() - F.conv2d(x.double(), w.double(), stride=stride).numpy()).max()
        bound = (channels + roundings) * 2.0 ** -24 * algorithm.growth ** 2 * channels * float(x.abs().max()) * float(w.abs().max())
        assert error <= bound
        assert error <= 2e-5 * np.sqrt(channels) * taps * float(x.abs().max() * w.abs().max())


def test_the_error_along_one_axis_is_within_its_bound(every_size):
    taps, results = 3, 4
    algorithm = toom_cook(taps, results)
    exact = np.einsum("rp,pt,pe->rte", *map(np.array, (algorithm.out, algorithm.weight, algorithm.into)))
    for r in range(results):
        for t in range(taps):
            np.testing.assert_allclose(exact[r, t], np.arange(algorithm.elements) == r + t, atol=1e-13)
    channels, r = 40, np.random.default_rng(taps)
    for draw in (r.standard_normal, lambda shape: r.choice([-1.0, 1.0], shape) * (1 + r.random(shape) * 1e-3)):
        x, w = (torch.from_numpy(draw(shape).astype(np.float32)) for shape in ((2, channels, 700), (16, channels, 2 * taps)))
        assert kernels(lambda: F.conv1d(x, w)) == 1  # noqa: B023
        error = np.abs(F.conv1d(x, w).numpy() - F.conv1d(x.double(), w.double()).numpy()).max()
        bound = (2 * channels + 16) * 2.0 ** -24 * algorithm.growth * 2 * channels * float(x.abs().max()) * float(w.abs().max())
        assert error <= bound
        assert error <= 2e-5 * np.sqrt(channels) * taps * float(x.abs().max() * w.abs().max())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_operands_need_not_be_contiguous(layout, every_size):
    change = LAYOUTS[layout]
    x, w = change(random(3, 20, 11, 12)), change(random(18, 20, 3, 3, seed=1))
    close(F.conv2d(x, w, padding=1), direct(x, w, 1))


def test_what_the_algorithm_is_not_for():
    x, w = random(2, 32, 20, 20), random(32, 32, 3, 3, seed=1)
    assert kernels(lambda: F.conv2d(x, w, padding=1)) == 1
    assert kernels(lambda: F.conv2d(x, w, stride=3)) == 0
    assert kernels(lambda: F.conv2d(x, w, dilation=5)) == 0
    assert kernels(lambda: F.conv2d(x, w[:, :, :2])) == 0
    assert kernels(lambda: F.conv2d(x.double(), w.double())) == 0
    assert kernels(lambda: F.conv2d(x, w[:, :1], groups=32)) == 0
    assert kernels(lambda: F.conv2d(x[:, :, :4, :4], w)) == 0
    line, taps = random(2, 32, 200), random(32, 32, 9, seed=1)
    assert kernels(lambda: F.conv1d(line, taps)) == 1
    assert kernels(lambda: F.conv1d(line, taps, stride=2)) == kernels(lambda: F.conv1d(line, taps, dilation=2)) == 0
    assert kernels(lambda: F.conv1d(line.mT.contiguous().mT, taps)) == kernels(lambda: F.conv2d(x, taps[..., None])) == 0


def test_bias_activation_and_residual_run_on_finished_tiles():
    x, w, b, r = random(3, 24, 13, 15), random(30, 24, 3, 3, seed=1), random(30, seed=2), random(3, 30, 13, 15, seed=3)

    def block():
        return F.relu(F.conv2d(x, w, b, padding=1) + r)
    close(block(), np.maximum(direct(x, w, 1) + b.numpy()[:, None, None] + r.numpy(), 0))
    text = str(torch.explain(block, ir="loops"))
    assert text.count("Winograd") == 1 and text.count("then on each strip") == 1


def test_a_result_that_is_stored_elsewhere():
    x, w = random(2, 24, 12, 12), random(24, 24, 3, 3, seed=1)
    out = torch.zeros(2, 48, 12, 12)
    out[:, ::2] = F.conv2d(x, w, padding=1)
    close(out[:, ::2], direct(x, w, 1))
    assert float(out[:, 1::2].abs().max()) == 0
    x[:] = F.conv2d(x, w, padding=1)                # over its own input
    close(x, direct(random(2, 24, 12, 12), w, 1))


def test_nan_stays_within_its_tiles():
    x, w = random(1, 32, 24, 24), random(16, 32, 3, 3, seed=1)
    x[0, 3, 10, 10] = float("nan")
    bad = np.isnan(F.conv2d(x, w, padding=1).numpy()[0, 0])
    assert bad[9:12, 9:12].all()                    # whose windows include it
    assert not np.delete(np.delete(bad, range(8, 12), 0), range(24), 1).any() and bad.sum() <= 16


# ------------------------------------------------------------------ the gradient with respect to the weight

def sums(f):
    """How many launches of the algorithm for a weight's gradient a function's program has."""
    return str(torch.explain(f, ir="loops")).count("the gradient of a weight by Winograd")


@pytest.fixture
def every_weight(monkeypatch):
    """The same for the gradient of a weight."""
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    monkeypatch.setattr("flambeau.runtime.images.put", lambda *key: None)
    for word, value in {"shifted.FULL": 0, "shifted.ROWS": 1, "contract.WORTH": 0, "winograd.KERNEL_CHANNELS": 1}.items():
        monkeypatch.setattr(f"flambeau.schedule.{word}", value)
    flush.forget()
    yield
    flush.forget()


@pytest.mark.parametrize("case", [case for case in cases(30, 2) if min(case.height, case.width) > 4], ids=str)
def test_weight_gradients_are_those_of_the_sum(case, every_weight):
    x, how = random(case.images, case.channels, case.height, case.width), {"padding": case.padding, "groups": case.groups}
    w = random(case.outputs, case.channels // case.groups, 3, 3, seed=1).requires_grad_()
    g = random(*F.conv2d(x, w, **how).shape, seed=2)

    def gradient():
        return torch.autograd.grad(F.conv2d(x, w, **how), w, g)[0]
    exact = w.detach().double().requires_grad_()
    F.conv2d(x.double(), exact, **how).backward(g.double())
    assert sums(gradient) == 1
    close(gradient(), exact.grad.numpy())


def test_what_weight_gradients_are_summed_up_otherwise():
    def gradient(o, c, *kernel, d=torch.float32, **how):
        x, w = random(2, c, 20, 20).to(d), random(o, c, *kernel, seed=1).to(d).requires_grad_()
        y = F.conv2d(x, w, **how)
        g = torch.ones_like(y)
        return sums(lambda: torch.autograd.grad(F.conv2d(x, w, **how), w, g))
    assert gradient(32, 32, 3, 3) == 1
    assert gradient(32, 32, 5, 5) == gradient(32, 32, 3, 3, stride=2) == gradient(32, 32, 3, 3, dilation=2) == gradient(32, 32, 3, 3, d=torch.float64) == 0
    assert gradient(8, 32, 3, 3) == gradient(32, 8, 3, 3) == 0


def test_the_error_of_weight_gradients_is_within_its_bound():
    algorithm = toom_cook(2, 3)
    exact = np.einsum("rp,pt,pe->rte", *map(np.array, (algorithm.out, algorithm.weight, algorithm.into)))
    for r in range(3):
        for t in range(2):
            assert np.array_equal(exact[r, t], np.arange(4) == r + t)
    draws = np.random.default_rng(0)
    for draw in (draws.standard_normal, lambda shape: draws.choice([-1.0, 1.0], shape) * (1 + draws.random(shape) * 1e-3)):
        x, g = (torch.from_numpy(draw((3, 20, *size)).astype(np.float32)) for size in ((23, 24), (21, 22)))
        w = torch.zeros(20, 20, 3, 3, requires_grad=True)
        found, = torch.autograd.grad(F.conv2d(x, w), w, g)
        true, = torch.autograd.grad(F.conv2d(x.double(), w.double()), w, g.double())
        tiles = 3 * 11 * 11
        error = np.abs(found.numpy() - true.numpy()).max()
        assert 0 < error <= (tiles + 10) * 2.0 ** -24 * algorithm.growth ** 2 * tiles * float(x.abs().max()) * float(g.abs().max())
        assert error <= 2e-5 * np.sqrt(tiles) * float(x.abs().max() * g.abs().max())


@pytest.mark.parametrize(("size", "padding", "n", "c", "o"), [
    ((20, 21), (1, 1), 2, 39, 17), ((7, 7), (1, 1), 9, 70, 130), ((4, 150), (1, 2), 1, 33, 29), ((9, 10), (3, 0), 3, 140, 20), ((7, 9), (1, 1), 40, 16, 16)])
def test_pieces_of_weight_gradients_change_no_bit_and_margins_stay(size, padding, n, c, o, every_weight):
    m, z, expected = weight_gradient(size, (3, 3), (1, 1), padding, (1, 1), float32, n, c, o)
    for vector_bytes in [b for b in WIDTHS if b > 16]:
        machine = Machine(m.program(), vector_bytes)
        assert sum(isinstance(k, WeightGradient) for k in machine.plan.kernels) == 1
        results = results_in_pieces(machine, m.buffers, m.contents, z.slot, expected.size * 4, np.float32)
        close(results[0].reshape(expected.shape), expected)
        assert np.array_equal(*results)


# ------------------------------------------------------------------ machine code

def activated(case, gradient):
    """A program: a convolution (or, by the same sizes, a gradient), the bias of its outputs, and an activation; and its operands."""
    p, q = case.padding
    n, groups, c, o = case.images, case.groups, case.channels // case.groups, case.outputs // case.groups
    height, width = case.height + 2 * p - 2, case.width + 2 * q - 2
    m = Maker()
    x, w, b = random(n, groups, c, case.height, case.width), random(groups, o, c, 3, 3, seed=1), random(groups, o, seed=2)
    views = [m.external(t.numpy()) for t in (x, w.transpose(1, 2).contiguous() if gradient else w, b)]
    y = m.fresh((n, groups, o, height, width))
    sizes = (n, groups, o, height, width, c, 3, 3)
    i, j, k, l = (ir.axis(a) for a in (3, 4, 6, 7))
    sign = -1 if gradient else 1            # a gradient reads both kernel and input the other way
    places = [a + s * sign - r if sign > 0 else a - s + 2 - r for a, s, r in ((i, k, p), (j, l, q))]
    guard = None
    for place, size in zip(places, (case.height, case.width), strict=True):
        for condition in (ir.const(0, ir.int64) <= place, place < size):
            guard = condition if guard is None else guard & condition
    xs, ws = views[0].strides, views[1].strides
    first = sum(s * ((2 if gradient else 0) - r) for s, r in ((xs[3], p), (xs[4], q)))
    taps = tuple(s * sign for s in xs[3:])
    load = ir.make("load", float32, (ir.const(0, ir.int64), guard), ir.Access(0, first, (xs[0], xs[1], 0, xs[3], xs[4], xs[2], *taps), float32, 0))
    outs = (ws[2], ws[1]) if gradient else (ws[1], ws[2])
    weight = ir.make("load", float32, (), ir.Access(1, 0, (0, ws[0], outs[0], 0, 0, outs[1], ws[3], ws[4]), float32))
    m.steps.append(Nest("reduce", sizes, 5, load * weight, y.access(8), "sum", ir.acc(float32)))
    bias = ir.make("load", float32, (), ir.Access(2, 0, (0, views[2].strides[0], views[2].strides[1], 0, 0), float32))
    z = m.map(ir.maximum(y.element(y.shape) + bias, ir.const(0.0, float32)), y.shape)
    m.buffers[z.slot].live = True
    kernel = w.flip(3, 4) if gradient else w
    expected = direct(x.flatten(1, 2), kernel.flatten(0, 1), case.padding, groups).reshape(y.shape)
    return m, z.slot, np.maximum(expected + b.numpy()[:, :, None, None], 0)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_pieces_change_no_bit_and_margins_stay(vector_bytes, gradient, every_size):
    extremes = [Case(1, 16, 33, 4, 1400, (1, 1), 1), Case(1, 700, 15, 9, 20, (1, 1), 1)]
    for case in [*cases(6, vector_bytes), *extremes]:
        m, slot, expected = activated(case, gradient)
        machine = Machine(m.program(), vector_bytes)
        assert sum(isinstance(k, Winograd) for k in machine.plan.kernels) == 1 and len(machine.plan.steps) == 2, case
        results = results_in_pieces(machine, m.buffers, m.contents, slot, expected.nbytes // 2, np.float32, pieces=(1, 2, 3))
        close(results[0].reshape(expected.shape), expected)
        assert all(np.array_equal(results[0], other) for other in results[1:]), case


def test_units_fit_into_scratch_memory():
    r = pick.Random(3)
    fits = 0
    for _ in range(3000):
        count, across, channels, outputs = (round(2 ** r.uniform(0, 13)) for _ in range(4))
        vector_bytes, points = r.choice([16, 32, 64]), r.choice([16, 25, 36])
        found = winograd.cut(points, count, across, channels, outputs, vector_bytes)
        if found is not None:
            lanes, rows, vectors = register_tile(float32, vector_bytes)
            unit, o_block = found
            assert 1 <= unit <= count and o_block % rows == 0 and min(outputs, 100) <= o_block
            assert scratch_bytes(points, unit * across, channels, o_block, lanes, vectors * lanes) <= winograd.BYTES < pool.SCRATCH
            fits += 1
    assert 1000 < fits < 2900


def test_panels_hold_all_outputs():
    for rows, lanes in ((6, 8), (12, 4), (14, 16)):
        for outputs in range(1, 700):
            o_block = winograd.outputs_at_once(outputs, rows)
            full = full_panels(outputs, rows, lanes, o_block)
            count, doubled = panels(outputs, rows, full), 2 * low(rows)
            assert full * rows + (count - full) * doubled >= outputs > full * rows + (count - full) * doubled - max(rows, doubled)
            assert (outputs - 1) // o_block * o_block <= full * rows and count <= -(-outputs // rows)
    assert [full_panels(n, 14, 16, 112) for n in (64, 128, 256, 512)] == [4, 8, 16, 36]         # no row is computed in vain


def test_threads_change_no_bit():
    x, w = random(6, 48, 30, 30), random(40, 48, 3, 3, seed=1)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(F.conv2d(x, w, padding=1).numpy().copy())
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_new_sizes_compile_nothing():
    def step(images, channels, outputs, size):
        return F.relu(F.conv2d(random(images, channels, size, size), random(outputs, channels, 3, 3), padding=1)).numpy()
    step(2, 28, 42, 20)
    before = cpu.STATS["compiled"]
    step(3, 42, 56, 23)
    step(4, 30, 28, 31)
    assert cpu.STATS["compiled"] == before


# ------------------------------------------------------------------ the switch

def test_the_switch():
    x, w = random(2, 32, 20, 20), random(32, 32, 3, 3, seed=1)

    def convolve():
        return F.conv2d(x, w, padding=1)
    with_it = convolve().numpy().copy()
    assert torch.backends.cpu.winograd and kernels(convolve) == 1
    pending = convolve()
    torch.backends.cpu.winograd = False
    try:
        assert kernels(convolve) == 0 and not config.winograd
        without = convolve().numpy().copy()
    finally:
        torch.backends.cpu.winograd = True
    assert np.array_equal(pending.numpy(), with_it) and not np.array_equal(without, with_it)
    close(without, direct(x, w, 1))
    assert np.array_equal(convolve().numpy(), with_it)


def test_the_environment_and_the_cache_on_disk(tmp_path):
    """Plans of both kinds lie side by side: neither is taken for the other."""
    program = """
import hashlib, flambeau as torch
torch.manual_seed(0)
x, w = torch.randn(2, 32, 20, 20), torch.randn(32, 32, 3, 3)
print(hashlib.sha256(torch.nn.functional.conv2d(x, w, padding=1).numpy().tobytes()).hexdigest())
"""
    found = []
    for value in ("1", "0", "1", "0"):
        environment = {**os.environ, "FLAMBEAU_WINOGRAD": value, "FLAMBEAU_CACHE": str(tmp_path)}
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout)
    assert found[0] == found[2] != found[1] == found[3]
