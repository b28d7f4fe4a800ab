"""Convolutions and their gradients in every form that the product engine has, against the loops of their formulas, over random shapes."""

import random

import numpy as np
import pytest
from convolution_maker import activated_gradient, weight_gradient
from kernel_runner import Machine, results_in_pieces

import flambeau as torch
from flambeau.core import config
from flambeau.core.dtype import float32, float64
from flambeau.ir.product import Direct, Product, Shifted
from flambeau.runtime import cpu
from flambeau.stream import flush

NEVER = {"shifted.ROWS": 1 << 40}
FORMS = {       # what has to be set for a form to be taken wherever it can be
    "loops": {"contract.WORTH": 1 << 60},
    "packed": {"contract.WORTH": 0, "contract.PACKING": -1, **NEVER},
    "direct": {"contract.WORTH": 0, "contract.PACKING": 1 << 40, "contract.FEW": 1, **NEVER},
    "shifted": {"contract.WORTH": 0, "shifted.ROWS": 3, "shifted.FULL": 0},
}


@pytest.fixture
def form(monkeypatch):
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    monkeypatch.setattr("flambeau.runtime.images.put", lambda *key: None)       # other tests are not to find these plans
    kept = flush.exchange(flush.Plans())

    def use(name):
        flush.flush()
        monkeypatch.undo()
        monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
        monkeypatch.setattr("flambeau.runtime.images.put", lambda *key: None)
        for word, value in FORMS[name].items():
            monkeypatch.setattr(f"flambeau.schedule.{word}", value)
        flush.forget()
    yield use
    use("loops")
    flush.exchange(kept)


def problem(seed):
    """A convolution of float64: number of dimensions, operands, how, whether it is transposed."""
    r = random.Random(seed)
    n = r.choice([1, 1, 2, 2, 2, 3])
    groups = r.choice([1, 1, 1, 2, 3])
    most = {1: 70, 2: 20, 3: 9}[n]
    while True:
        kernel = [r.choice([1, 2, 3, 3, 5]) for _ in range(n)]
        how = {"stride": [r.choice([1, 1, 2, 3]) for _ in range(n)], "padding": [r.choice([0, 1, 2, 4]) for _ in range(n)],
               "dilation": [r.choice([1, 1, 2, 3]) for _ in range(n)], "groups": groups}
        size = [r.randint(1, most) for _ in range(n)]
        transposed = r.random() < 0.3
        spans = list(zip(size, kernel, how["stride"], how["padding"], how["dilation"], strict=True))
        out = [(z - 1) * s - 2 * p + d * (k - 1) + 1 if transposed else (z + 2 * p - d * (k - 1) - 1) // s + 1 for z, k, s, p, d in spans]
        if min(out) > 0:
            break
    batch, c, o = r.choice([1, 2, 5]), groups * r.choice([1, 3, 4]), groups * r.choice([1, 2, 3, 5, 16])
    g = np.random.default_rng(seed)
    x = torch.from_numpy(g.standard_normal((batch, c, *[z * 2 for z in size])))[(..., *[slice(i % 2, i % 2 + z) for i, z in enumerate(size)])]
    w = torch.from_numpy(g.standard_normal((c, o // groups, *kernel) if transposed else (o, c // groups, *kernel)))
    return n, x if r.random() < 0.5 else x.contiguous(), w, torch.from_numpy(g.standard_normal(o)), how, transposed


@pytest.mark.parametrize("seed", range(40))
def test_every_form_computes_the_same(seed, form):
    n, x, w, b, how, transposed = problem(seed)
    convolve = getattr(torch, f"conv_transpose{n}d" if transposed else f"conv{n}d")
    results = {}
    for name in FORMS:
        form(name)
        a, c, d = (t.detach().clone().requires_grad_() if t is not x else x.detach().requires_grad_() for t in (x, w, b))
        y = torch.tanh(convolve(a, c, d, **how))
        (y * y).sum().backward()
        results[name] = [t.detach().numpy().copy() for t in (y, a.grad, c.grad, d.grad)]
    for name in ("packed", "direct", "shifted"):
        for what, got, want in zip(("result", "input's gradient", "weight's gradient", "bias's gradient"), results[name], results["loops"], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10, err_msg=f"{name}: {what} of {tuple(x.shape)}, {tuple(w.shape)}, {how}, {transposed}")


def test_the_forms_are_taken(form):
    form("shifted")
    v = torch.randn(8, 4, 5, 5, requires_grad=True)
    assert "copied and shifted" in str(torch.explain(lambda: torch.autograd.grad(torch.conv2d(torch.ones(2, 4, 20, 20), v).sum(), v)))
    x, w = torch.randn(2, 4, 20, 20), torch.randn(8, 4, 5, 5)
    for name, words in (("packed", "windows packed"), ("direct", "the image copied")):
        form(name)
        assert words in str(torch.explain(lambda: torch.conv2d(x, w, padding=1)))


PHASES = [      # size of the gradient, kernel, stride, padding, dilation, size of the result
    ((14, 15), (4, 4), (2, 2), (1, 1), (1, 1), (28, 30)),
    ((14, 15), (3, 3), (2, 2), (1, 1), (1, 1), (27, 29)),
    ((9, 16), (2, 2), (2, 2), (0, 0), (1, 1), (18, 32)),
    ((9, 16), (1, 1), (2, 2), (0, 0), (1, 1), (18, 31)),
    ((9, 16), (3, 3), (3, 4), (2, 0), (1, 1), (24, 63)),
    ((9, 16), (3, 3), (2, 1), (1, 1), (2, 2), (19, 18)),
    ((9, 16), (3, 5), (1, 3), (1, 2), (1, 1), (9, 46)),
    ((90,), (5,), (2,), (2,), (3,), (187,)),
    ((4, 5, 9), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1), (7, 10, 17)),
]


@pytest.mark.parametrize("d", [float32, float64])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation", "result"), PHASES)
def test_phases_write_nothing_else_and_pieces_change_no_bit(size, kernel, stride, padding, dilation, result, d, monkeypatch):
    for word, value in FORMS["direct"].items():
        monkeypatch.setattr(f"flambeau.schedule.{word}", value)
    m, z, expected = activated_gradient(size, kernel, stride, padding, dilation, result, d)
    kind = np.float32 if d is float32 else np.float64
    for vector_bytes in [b for b in (64, 32, 16) if b <= cpu.vector_bytes()]:
        machine = Machine(m.program(), vector_bytes)
        assert sum(isinstance(k, Product) and isinstance(k.window, Direct) and k.window.turns == stride[-1] for k in machine.plan.kernels) == 1
        results = results_in_pieces(machine, m.buffers, m.contents, z.slot, expected.size * d.itemsize, kind)
        np.testing.assert_allclose(results[0].reshape(expected.shape), expected, atol=1e-4 if d is float32 else 1e-12)
        assert np.array_equal(*results)


SHIFTED = [     # size of the image, kernel, stride, padding, dilation
    ((20, 21), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((7, 7), (3, 3), (1, 1), (1, 1), (1, 1)),
    ((20, 21), (3, 5), (2, 1), (0, 2), (1, 2)),
    ((20, 21), (4, 1), (3, 3), (5, 0), (1, 1)),
    ((700,), (9,), (1,), (4,), (1,)),
    ((6, 7, 9), (3, 2, 3), (1, 1, 2), (1, 0, 1), (1, 1, 1)),
    ((6, 30, 9), (1, 3, 3), (1, 1, 1), (0, 1, 1), (1, 1, 1)),
]


JOINED = [case for case in SHIFTED if case[1][-1] > 1 and case[4][-1] == 1]


@pytest.mark.parametrize("d", [float32, float64])
@pytest.mark.parametrize(("size", "kernel", "stride", "padding", "dilation", "c"), [*((*case, 39) for case in SHIFTED), *((*case, 4) for case in JOINED)])
def test_shifted_images_write_nothing_else_and_pieces_change_no_bit(size, kernel, stride, padding, dilation, c, d, monkeypatch):
    few = {"shifted.FULL": 0.51, "shifted.WASTE": 1 << 40} if c == 4 else {}        # few channels are joined with taps, where that is allowed
    for word, value in {**FORMS["shifted"], "shifted.COPY_BYTES": 60_000, "shifted.CHUNK": 128, **few}.items():
        monkeypatch.setattr(f"flambeau.schedule.{word}", value)
    monkeypatch.setattr(config, "winograd", False)
    n, o = 5, 17
    m, z, expected = weight_gradient(size, kernel, stride, padding, dilation, d, n, c, o)
    kind = np.float32 if d is float32 else np.float64
    for vector_bytes in [b for b in (64, 32, 16) if b <= cpu.vector_bytes()]:
        lanes = vector_bytes // d.itemsize
        if few and lanes > c and c * kernel[-1] > 2 * lanes:
            continue
        machine = Machine(m.program(), vector_bytes)
        assert sum(isinstance(k, Product) and isinstance(k.window, Shifted) for k in machine.plan.kernels) == 1
        results = results_in_pieces(machine, m.buffers, m.contents, z.slot, expected.size * d.itemsize, kind)
        np.testing.assert_allclose(results[0].reshape(expected.shape), expected, atol=1e-3 if d is float32 else 1e-11)
        assert np.array_equal(*results)
