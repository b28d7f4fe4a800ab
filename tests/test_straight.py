"""A flush written out after many uses does what the general one does: it recognises what it is for, and leaves everything else alone."""

import gc

import numpy as np
import pytest

import flambeau as torch
from flambeau.core import config
from flambeau.runtime import memory
from flambeau.stream import cache, flush, record, straight

pytestmark = pytest.mark.skipif(config.renderer == "reference", reason="nothing is compiled here")
USES = 5


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(straight, "STEADY", USES)
    flush.forget()
    yield
    flush.forget()


@pytest.fixture
def used(monkeypatch):
    """How often a written-out flush was tried, and how often it was the one."""
    tried = []
    original = straight.written_out

    def written_out(*args):
        run = original(*args)

        def told():
            tried.append(True)              # stays where it raises
            tried[-1] = run()
            return tried[-1]
        return run and told
    monkeypatch.setattr(straight, "written_out", written_out)
    return tried


def steady(step):
    flush.flush()
    for _ in range(USES + 1):
        step()


def test_comes_after_many_uses_and_gives_the_same(used):
    a, b = torch.randn(5, 7), torch.randn(7)
    wanted = (a * b + a).tolist()
    for i in range(2 * USES):
        assert (a * b + a).tolist() == wanted
        assert len(used) == max(0, i + 1 - USES)
    assert all(used)


def test_other_operands_at_the_same_places(used):
    a, b = torch.randn(4), torch.randn(4)
    steady(lambda: torch.maximum(a, b).tolist())
    assert used == [True]
    assert torch.maximum(b, b).tolist() == b.tolist()           # one buffer in two places
    assert used == [True, False]
    c, d = torch.randn(4), torch.randn(4)
    assert torch.maximum(c, d).tolist() == np.maximum(c.numpy().copy(), d.numpy().copy()).tolist()
    assert torch.maximum(a, b).tolist() == np.maximum(a.tolist(), b.tolist()).astype(np.float32).tolist()
    assert used[-1]


def test_a_result_in_the_place_of_an_operand(used):
    a, b, c = (torch.full((3,), v) for v in (2.0, 3.0, 5.0))

    def step(last):
        y = a * b
        return y, (last(y) * c)
    steady(lambda: step(lambda y: a)[1].tolist())
    assert used[-1]
    before = len(used)
    y, z = step(lambda y: y)                # the second product takes what the first one made
    assert z.tolist() == [30.0] * 3
    assert not any(used[before:])
    assert y.tolist() == [6.0] * 3


def test_who_is_held_decides(used):
    a = torch.rand(1000)

    def step():
        return (a.exp() + 1).sum().item()
    steady(step)
    assert used == [True]
    held = a.exp()                          # the same calls, but now somebody keeps what was a temporary
    total = (held + 1).sum().item()
    assert total == step()
    assert used == [True, False, True]
    assert np.allclose(held.numpy(), np.exp(a.numpy()))


def test_numbers_travel(used):
    a = torch.arange(3.0)
    for i in range(2 * USES):
        assert (a * float(i)).tolist() == [0.0, float(i), 2.0 * i]
    assert used and all(used)


def test_writes_in_place(used):
    a = torch.zeros(3)
    for i in range(2 * USES):
        a.add_(1.0)
        assert a.tolist() == [i + 1.0] * 3
    assert used and all(used)


def test_failed_checks_are_raised_and_what_follows_goes_on(used):
    table, good = torch.arange(10.0), torch.tensor([1, 2])

    def step(index):
        return table[index] * 2.0
    steady(lambda: step(good).tolist())
    assert used == [True]
    y = step(torch.tensor([1, 10]))
    with pytest.raises(IndexError, match="index 10 is out of bounds"):
        y.tolist()
    assert used == [True, True]
    assert not record.CALLS and not record.ORIGINS
    with pytest.raises(IndexError):
        y.sum().item()
    assert step(good).tolist() == [2.0, 4.0]
    assert used[-1]


def test_an_interrupt_leaves_results_without_contents(used, monkeypatch):
    grow, interrupted = cache.memory.grow, []

    def grown(size):
        if interrupted:
            raise KeyboardInterrupt
        return grow(size)
    monkeypatch.setattr(cache.memory, "grow", grown)
    a = torch.rand(3, 1 << 12)
    kept = []
    steady(lambda: (kept.append(a * 3.0), flush.flush()))
    interrupted.append(True)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(10_000):             # until no memory is free
            y = a * 3.0
            flush.flush()
            kept.append(y)
    assert all(used) and not record.CALLS
    with pytest.raises(KeyboardInterrupt):
        y.tolist()
    interrupted.clear()
    assert (a * 3.0).tolist() == kept[0].tolist()


def test_watchers_see_every_flush(used):
    a = torch.rand(4)
    steady(lambda: (a + 1.0).tolist())
    seen = []
    flush.OBSERVERS.append(seen.append)
    try:
        (a + 1.0).tolist()
    finally:
        flush.OBSERVERS.clear()
    assert len(seen) == 1 and used == [True, False]


def test_memory_shared_with_the_outside(used):
    outside = np.ones(4, np.float32)
    x = torch.from_numpy(outside)
    for i in range(2 * USES):
        y = x * 2.0                         # read at once, as the array may change
        outside += 1.0
        assert y.tolist() == [2.0 * (i + 1)] * 4
    assert any(used)
    z = [(x * 2.0).numpy() for _ in range(2 * USES)]
    assert all(v.tolist() == [2.0 * outside[0]] * 4 for v in z)


def test_memory_comes_back():
    a = torch.rand(1 << 16)
    steady(lambda: (a * 2.0).sum().item())
    gc.collect()
    before = memory.statistics()["allocated"]
    for _ in range(50):
        (a * 2.0).sum().item()
    assert memory.statistics()["allocated"] == before


def test_eager_mode_executes_every_call():
    a = torch.rand(4)
    with torch.eager():
        for _ in range(2 * USES):
            b = a * 2.0
            assert not record.CALLS
    steady(lambda: (a * 2.0).tolist())
    with torch.eager():
        for _ in range(3):
            b = a * 2.0
            assert not record.CALLS
    assert b.tolist() == (a * 2.0).tolist()


def test_training_gives_the_same_bits():
    def trained():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        x, y = torch.randn(16, 3), torch.randn(16, 1)
        losses = []
        for _ in range(4 * USES):
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses
    early = trained()
    straight.STEADY = 1 << 30
    flush.forget()
    assert trained() == early
