"""Sums over small windows (depthwise convolutions and their gradients): values against float64, margins, the same bits for any pieces."""

import random as pick
from dataclasses import dataclass

import numpy as np
import pytest
from kernel_runner import Machine, results_in_pieces
from program_maker import Maker

import flambeau as torch
from flambeau.core.dtype import float32, float64
from flambeau.ir import expression as ir
from flambeau.ir.loops import Nest
from flambeau.ir.stencil import Stencil
from flambeau.runtime import cpu
from flambeau.schedule import contract
from flambeau.stream import flush

F = torch.nn.functional
WIDTHS = [n for n in (64, 32, 16) if n <= cpu.vector_bytes()]


@pytest.fixture
def every_size(monkeypatch):
    """Lets the kernels run at sizes at which they do not pay."""
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    monkeypatch.setattr("flambeau.runtime.images.put", lambda *key: None)
    monkeypatch.setattr(contract, "WORTH", 0)
    flush.forget()
    yield
    flush.forget()


@dataclass
class Case:
    """A depthwise convolution; sizes are those of its result."""

    images: int
    channels: int
    size: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    backwards: bool             # taps are read the other way, as by a gradient with respect to the input

    @property
    def source(self):
        return tuple(max(1, (n - 1) * s + (k - 1) * d + 1 - 2 * p)
                     for n, k, s, p, d in zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True))


def cases(count, seed):
    r = pick.Random(seed)
    for _ in range(count):
        n = r.choice([1, 2, 2, 2, 3])
        most = {1: 300, 2: 40, 3: 12}[n]
        taps = [1, 2, 3, 3] if n == 3 else [1, 2, 3, 3, 5]
        def some(choices, n=n):
            return tuple(r.choice(choices) for _ in range(n))
        yield Case(r.choice([1, 2, 3]), r.choice([2, 5]), some(range(2, most)), some(taps), some([1, 1, 2, 3]), some([0, 1, 2, 3]), some([1, 1, 2]),
                   r.random() < 0.5)


def padded(case, x):
    """The image with its zeros, wide enough for every tap of every place."""
    reach = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in zip(case.size, case.kernel, case.stride, case.dilation, strict=True)]
    out = np.zeros((*x.shape[:2], *[max(a, b + p) for a, b, p in zip(reach, x.shape[2:], case.padding, strict=True)]))
    out[(..., *[slice(p, p + b) for p, b in zip(case.padding, x.shape[2:], strict=True)])] = x
    return out


def windows(case, x):
    """The image as every tap sees it."""
    x = padded(case, x)
    for tap in np.ndindex(*case.kernel):
        at = [t * d for t, d in zip(tap, case.dilation, strict=True)]
        view = x[(..., *[slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(at, case.size, case.stride, strict=True)])]
        yield tuple(k - 1 - t if case.backwards else t for k, t in zip(case.kernel, tap, strict=True)), view


def program(case, to_taps, d):
    """The nest of a convolution with a map after it, or that of its gradient with respect to the weight; operands; what is expected."""
    g = np.random.default_rng(7)
    kind = np.float32 if d is float32 else np.float64
    n, c, rank = case.images, case.channels, len(case.size)
    x = g.standard_normal((n, c, *case.source)).astype(kind)
    f = g.standard_normal((n, c, *case.size) if to_taps else (c, *case.kernel)).astype(kind)
    m = Maker()
    image, factor = m.external(x), m.external(f)
    # axes: images, channels, places, taps; or channels, taps, images, places
    places = list(range(2, 2 + rank)) if not to_taps else list(range(2 + rank, 2 + 2 * rank))
    taps = list(range(2 + rank, 2 + 2 * rank)) if not to_taps else list(range(1, 1 + rank))
    batch, channel = (0, 1) if not to_taps else (1 + rank, 0)
    total = 2 + 2 * rank
    strides, others, offset, guard = [0] * total, [0] * total, 0, None
    strides[batch], strides[channel] = image.strides[:2]
    for i in range(rank):
        k, s, p, dl = case.kernel[i], case.stride[i], case.padding[i], case.dilation[i]
        step = image.strides[2 + i]
        start = ((k - 1) * dl if case.backwards else 0) - p
        move = -dl if case.backwards else dl
        strides[places[i]], strides[taps[i]] = s * step, move * step
        offset += start * step
        position = ir.axis(places[i]) * s + ir.axis(taps[i]) * move + start
        for condition in (ir.const(0, ir.int64) <= position, position < case.source[i]):
            guard = condition if guard is None else guard & condition
    if to_taps:
        others[batch], others[channel] = factor.strides[:2]
        sizes, kept = (c, *case.kernel, n, *case.size), 1 + rank
    else:
        others[channel] = factor.strides[0]
        sizes, kept = (n, c, *case.size, *case.kernel), 2 + rank
    for i in range(rank):
        others[(places if to_taps else taps)[i]] = factor.strides[(2 if to_taps else 1) + i]
    load = ir.make("load", d, (ir.const(0, ir.int64), guard), ir.Access(0, offset, tuple(strides), d, 0))
    y = m.fresh(sizes[:kept], d)
    m.steps.append(Nest("reduce", sizes, kept, load * ir.make("load", d, (), ir.Access(1, 0, tuple(others), d)), y.access(total), "sum", ir.acc(d)))
    z = m.map(ir.maximum(y.element(y.shape), ir.const(0.0, d)), y.shape)
    m.buffers[z.slot].live = True
    expected = np.zeros(sizes[:kept])
    for tap, view in windows(case, x.astype(np.float64)):
        if to_taps:
            expected[(slice(None), *tap)] = (view * f).sum((0, *range(2, 2 + rank)))
        else:
            expected += view * f.astype(np.float64)[(slice(None), *tap)].reshape(c, *(1,) * rank)
    return m, z.slot, np.maximum(expected, 0)


@pytest.mark.parametrize("to_taps", [False, True])
@pytest.mark.parametrize("vector_bytes", WIDTHS)
def test_values_margins_and_pieces(vector_bytes, to_taps, every_size):
    found = 0
    for number, case in enumerate(cases(24, vector_bytes)):
        d = (float32, float64)[number % 2]
        m, slot, expected = program(case, to_taps, d)
        machine = Machine(m.program(), vector_bytes)
        found += any(isinstance(k, Stencil) for k in machine.plan.kernels)
        results = results_in_pieces(machine, m.buffers, m.contents, slot, expected.size * d.itemsize, np.float32 if d is float32 else np.float64)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(results[0].reshape(expected.shape), expected, rtol=0, atol=(1e-5 if d is float32 else 1e-12) * scale, err_msg=str(case))
        assert np.array_equal(*results), case
    assert found > 12           # the others have strides that vectors do not load, or kernels of one element


def kernels(f):
    return str(torch.explain(f, ir="loops")).count("of taps") + str(torch.explain(f)).count("rows shared by the taps")


def test_a_depthwise_convolution_and_both_gradients_are_recognised():
    x, w = torch.randn(2, 6, 40, 40, requires_grad=True), torch.randn(6, 1, 3, 3, requires_grad=True)
    assert kernels(lambda: F.conv2d(x.detach(), w.detach(), padding=1, groups=6)) == 1

    def both():
        y = F.conv2d(x, w, padding=1, groups=6)
        return torch.autograd.grad(y, (x, w), torch.ones_like(y))
    assert kernels(both) == 2
    assert kernels(lambda: F.conv2d(x.detach(), torch.ones(12, 1, 3, 3), torch.ones(12), padding=1, groups=6).relu()) == 1
    assert kernels(lambda: F.conv2d(x.detach(), torch.ones(12, 6, 3, 3), padding=1)) == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_special_values_stay_within_their_windows(value, every_size):
    x, w = torch.ones(1, 3, 9, 21), torch.ones(3, 1, 3, 3)
    x[0, 1, 4, 20] = value
    x.requires_grad_()
    w.requires_grad_()
    y = F.conv2d(x, w, padding=1, groups=3)
    bad = ~np.isfinite(y.detach().numpy())
    assert bad[0, 1, 3:6, 19:].all() and bad.sum() == 6
    g = torch.zeros(1, 3, 9, 21)
    g[..., :18] = 1
    y.backward(g)
    assert np.isfinite(x.grad.numpy()).all()
    good = np.isfinite(w.grad.numpy()[:, 0])
    assert good[[0, 2]].all() and good[1, :, 0].all()       # no place sees it through these taps,
    assert not good[1, :, 1:].any()                         # and through those it is multiplied by zero


def test_operands_need_not_be_contiguous(every_size):
    x, w = torch.randn(2, 9, 14, 15), torch.randn(9, 1, 3, 3)
    want = F.conv2d(x, w, padding=1, groups=9).numpy().copy()
    for view in (x.mT.contiguous().mT, F.pad(x, (1, 2, 3, 1))[:, :, 3:-1, 1:-2], x.permute(1, 0, 2, 3).contiguous().permute(1, 0, 2, 3)):
        np.testing.assert_allclose(F.conv2d(view, w.mT.contiguous().mT, padding=1, groups=9).numpy(), want, atol=1e-5)
    out = torch.zeros(2, 18, 14, 15)
    out[:, ::2] = F.conv2d(x, w, padding=1, groups=9)
    np.testing.assert_allclose(out[:, ::2].numpy(), want, atol=1e-5)
    assert float(out[:, 1::2].abs().max()) == 0
