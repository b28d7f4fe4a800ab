"""What training promises: a repeated step makes nothing new, another batch size compiles nothing, every way to run gives the same losses."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_fuzz import renderer

import flambeau as torch
from flambeau.core import config
from flambeau.runtime import cpu
from flambeau.stream import cache, record
from flambeau.visual import explain

nn, F = torch.nn, torch.nn.functional
native = pytest.mark.skipif(config.renderer == "reference", reason="nothing is compiled here")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 1)

    def forward(self, x):
        out, _ = self.cell(x)
        return self.head(out[:, -1])


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(11, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.table(x).mean(1))


def labels(n, classes):
    return torch.arange(n) * 7 % classes


MODELS = {
    "linear regression": (lambda: nn.Linear(3, 1), torch.optim.SGD, lambda n: (torch.rand(n, 3), torch.rand(n, 1)), F.mse_loss),
    "momentum": (lambda: nn.Linear(3, 1), lambda p: torch.optim.SGD(p, 0.01, momentum=0.9, nesterov=True, weight_decay=0.01),
                 lambda n: (torch.rand(n, 3), torch.rand(n, 1)), F.l1_loss),
    "perceptron": (lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1)), torch.optim.Adam,
                   lambda n: (torch.rand(n, 3), torch.rand(n, 1)), F.mse_loss),
    "classifier": (lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.25), nn.Linear(8, 4)), torch.optim.AdamW,
                   lambda n: (torch.rand(n, 6), labels(n, 4)), F.cross_entropy),
    "batch norm": (lambda: nn.Sequential(nn.Linear(3, 8, bias=False), nn.BatchNorm1d(8), nn.Sigmoid(), nn.Linear(8, 1)), torch.optim.RMSprop,
                   lambda n: (torch.rand(n, 3), torch.rand(n, 1)), F.mse_loss),
    "words": (Words, torch.optim.Adagrad, lambda n: (torch.arange(n * 4).reshape(n, 4) % 11, labels(n, 3)), F.cross_entropy),
    "images": (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(18, 2)), torch.optim.SGD,
               lambda n: (torch.rand(n, 1, 8, 8), labels(n, 2)), F.cross_entropy),
    "recurrent": (Recurrent, torch.optim.Adam, lambda n: (torch.rand(n, 5, 4), torch.rand(n, 1)), F.mse_loss),
}


class Training:
    """A model, its optimizer and its data."""

    def __init__(self, name, rows=6):
        make, optimizer, data, self.loss = MODELS[name]
        torch.manual_seed(0)
        self.model = make()
        self.optimizer = optimizer(self.model.parameters(), 0.01) if isinstance(optimizer, type) else optimizer(self.model.parameters())
        self.data = data
        self.batch = data(rows)

    def step(self, batch=None):
        x, t = batch or self.batch
        self.optimizer.zero_grad()
        loss = self.loss(self.model(x), t)
        loss.backward()
        self.optimizer.step()
        return loss


def counts():
    return cache.STATS["plans"], cpu.STATS["compiled"] + cpu.STATS["disk_hits"], cache.STATS["misses"]


@pytest.mark.parametrize("name", MODELS)
def test_a_repeated_step_makes_nothing_new(name):
    t = Training(name)
    for _ in range(4):
        t.step().item()
    before = counts()
    for _ in range(6):
        t.step().item()
    assert counts() == before


@pytest.mark.parametrize("name", MODELS)
def test_a_repeated_step_that_nobody_observes(name):
    t = Training(name)
    for _ in range(4):
        t.step()
    before = counts()
    for _ in range(6):
        t.step()
    assert counts() == before


@native
@pytest.mark.parametrize("name", MODELS)
def test_another_batch_size_compiles_nothing(name):
    t = Training(name)
    for n in (40, 24):
        for _ in range(2):
            t.step(t.data(n)).item()
    before = counts()
    batch = t.data(33)
    t.step(batch).item()
    assert counts()[0] > before[0]
    assert counts()[1] == before[1]


@pytest.mark.parametrize("name", MODELS)
def test_every_way_to_run_gives_the_same_losses(name):
    def losses():
        t = Training(name)
        return [t.step().item() for _ in range(5)], [p.sum().item() for p in t.model.parameters()]

    answers = {}
    for way, manager in {"lazy": contextlib.nullcontext(), "again": contextlib.nullcontext(), "eager": torch.eager(), "reference": renderer(True)}.items():
        with manager:
            answers[way] = losses()
    assert answers["again"] == answers["lazy"]          # the very same bits
    for way in ("eager", "reference"):
        assert answers[way][0] == pytest.approx(answers["lazy"][0], rel=2e-4, abs=1e-5), way
        assert answers[way][1] == pytest.approx(answers["lazy"][1], rel=2e-3, abs=1e-3), way
    assert answers["lazy"][0][-1] < answers["lazy"][0][0] or "Dropout" in repr(Training(name).model)


@pytest.mark.parametrize("name", ["perceptron", "classifier"])
def test_a_step_is_executed_when_the_optimizer_ends_it(name):
    t = Training(name)
    for _ in range(3):
        t.step()
        assert not record.CALLS


@native
def test_the_tutorials_step_is_one_kernel():
    t = Training("linear regression")
    t.model, t.batch = nn.Linear(1, 1), (torch.rand(100, 1), torch.rand(100, 1))
    t.optimizer = torch.optim.SGD(t.model.parameters(), 0.01)
    for _ in range(3):
        t.step()
    report = explain.explain(t.step)
    assert report.kernels == 1, str(report)


def test_gradients_are_not_kept_alive_by_a_finished_step():
    import gc
    import weakref

    t = Training("perceptron")
    t.step().item()
    t.optimizer.zero_grad()
    gc.collect()
    gc.disable()
    try:
        x, target = t.batch
        out = t.model(x)
        loss = t.loss(out, target)
        node = weakref.ref(loss.grad_fn)
        loss.backward()
        t.optimizer.step()
        del loss, out
        assert node() is None           # reference counts alone free the graph
    finally:
        gc.enable()


@pytest.mark.parametrize("name", MODELS)
def test_a_step_leaves_no_cycles_for_the_collector(name):
    import gc

    t = Training(name)
    for _ in range(2):
        t.step().item()
    gc.collect()
    gc.disable()
    try:
        t.step().item()
        assert gc.collect() == 0        # what waits for the collector would be kept alive, and change the plan
    finally:
        gc.enable()


def test_accumulating_gradients_over_batches():
    t = Training("perceptron", 8)
    x, target = t.batch
    t.loss(t.model(x), target).backward()
    whole = [p.grad.clone() for p in t.model.parameters()]
    t.optimizer.zero_grad()
    for part in range(4):
        rows = slice(2 * part, 2 * part + 2)
        (t.loss(t.model(x[rows]), target[rows]) / 4).backward()
    for p, g in zip(t.model.parameters(), whole):
        assert p.grad.flatten().tolist() == pytest.approx(g.flatten().tolist(), rel=1e-4, abs=1e-6)


def test_zeroing_gradients_in_place():
    t = Training("perceptron")
    for _ in range(5):
        t.optimizer.zero_grad(set_to_none=False)
        first = [p.grad for p in t.model.parameters()]
        t.loss(t.model(t.batch[0]), t.batch[1]).backward()
        t.optimizer.step()
        if first[0] is not None:
            assert all(p.grad is g for p, g in zip(t.model.parameters(), first))
    before = counts()
    t.optimizer.zero_grad(set_to_none=False)
    t.loss(t.model(t.batch[0]), t.batch[1]).backward()
    t.optimizer.step()
    assert counts() == before


@pytest.mark.parametrize("shape,strip,dims", [((2, 3_000_000), None, 1), ((3_000_000, 2), None, 0), ((1_000_000, 4), 3, (0, 1)), ((30_000, 2), None, (0, 1)),
                                              ((3_000_000,), None, 0)], ids=str)
def test_long_sums_keep_their_precision(shape, strip, dims):
    """Millions of equal numbers: one accumulator after the other would be wrong in the fourth digit."""
    x = torch.full(shape, 0.1)
    x = x if strip is None else x[:, :strip]
    exact = x.double().sum(dims)
    assert float(((x.sum(dims).double() - exact) / exact).abs().max()) < 1e-5
    mean, variance = (x + 100).mean(dims).double(), (x + 100).var(dims).double()
    assert float((mean - 100.1).abs().max()) < 5e-3 and float(variance.abs().max()) < 1e-4


def test_what_a_call_reads_is_read_before_it_is_overwritten():
    """The sum is made where it is copied to, but from elements that the copy has not reached yet."""
    t = torch.arange(16).view(4, 4).clone()
    want = (t.t() + 1).tolist()
    t.copy_(t.t() + 1)
    assert t.tolist() == want
    t = torch.arange(12.0)
    want = [*t[1:].mul(2).tolist(), 11.0]
    t[:-1] = t[1:] * 2
    assert t.tolist() == want


FIRST_CALLS = Path(__file__).parents[1] / "benchmarks" / "cases" / "first_calls.py"


@native
@pytest.mark.parametrize("name", re.findall(r'^    "(.+)": \(', FIRST_CALLS.read_text(), re.MULTILINE))
def test_a_class_of_shapes_is_compiled_once(name, tmp_path):
    def first_call():
        environment = {**os.environ, "BENCH_LIBRARY": "flambeau", "FLAMBEAU_CACHE": str(tmp_path)}
        output = subprocess.run([sys.executable, "-m", "flambeau", "run", str(FIRST_CALLS), name], env=environment, check=True, capture_output=True, text=True)
        return json.loads(output.stdout)
    cold = first_call()
    assert cold["kernels"] > 0 and cold["new_kernels"] == 0         # for other sizes
    assert first_call()["kernels"] == 0                             # in another process
