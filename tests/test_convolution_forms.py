"""Convolutions and their gradients in every form that the product engine has, against the loops of their formulas, over random shapes."""

import random

import numpy as np
import pytest

import flambeau as torch
from flambeau.schedule import contract
from flambeau.stream import flush

FORMS = {       # what has to be set for a form to be taken wherever it can be
    "loops": {"WORTH": 1 << 60},
    "packed": {"WORTH": 0, "PACKING": -1},
    "direct": {"WORTH": 0, "PACKING": 1 << 40, "FEW": 1},
}


@pytest.fixture
def form(monkeypatch):
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    kept = flush.exchange(flush.Plans())

    def use(name):
        flush.flush()
        monkeypatch.undo()
        monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
        for word, value in FORMS[name].items():
            monkeypatch.setattr(contract, word, value)
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
    for name in ("packed", "direct"):
        for what, got, want in zip(("result", "input's gradient", "weight's gradient", "bias's gradient"), results[name], results["loops"], strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10, err_msg=f"{name}: {what} of {tuple(x.shape)}, {tuple(w.shape)}, {how}, {transposed}")


def test_the_forms_are_taken(form):
    x, w = torch.randn(2, 4, 20, 20), torch.randn(8, 4, 5, 5)
    for name, words in (("packed", "windows packed"), ("direct", "the image copied")):
        form(name)
        assert words in str(torch.explain(lambda: torch.conv2d(x, w, padding=1)))
