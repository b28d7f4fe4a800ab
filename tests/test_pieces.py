"""Streams that repeat themselves are planned in pieces: the same results as planned whole, and little that is new in a longer one."""

import random

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.ops.composite import composite
from flambeau.runtime import cpu
from flambeau.stream import cache, flush, lowering, pieces

pytestmark = pytest.mark.skipif(cache.reference_only(), reason="2026-11-26: the reference interpreter runs nest by nest, without plans")


@pytest.fixture(autouse=True)
def plans_of_its_own(monkeypatch):
    """Plans are made, not found on the disk."""
    get, put = cache.images.get, cache.images.put
    monkeypatch.setattr(cache.images, "get", lambda kind, key: None if kind == "p" else get(kind, key))
    monkeypatch.setattr(cache.images, "put", lambda kind, key, data: None if kind == "p" else put(kind, key, data))
    flush.forget()
    yield
    flush.forget()


class Sequences:
    """A recurrent network that is trained on sequences of any length."""

    def __init__(self, kind):
        torch.manual_seed(0)
        self.kind = kind
        self.net = {
            "loop": lambda: nn.GRUCell(5, 24), "state": lambda: nn.LSTMCell(5, 24), "lstm": lambda: nn.LSTM(5, 24),
            "layers": lambda: nn.GRU(5, 24, num_layers=2, bidirectional=True), "plain calls": lambda: nn.Linear(29, 24),
        }[kind]()
        self.head = nn.Linear(48 if kind == "layers" else 24, 1)
        self.optimizer = torch.optim.Adam([*self.net.parameters(), *self.head.parameters()], lr=0.01)

    def step(self, length):
        x, t = torch.randn(length, 3, 5), torch.randn(3, 1)
        self.optimizer.zero_grad()
        if self.kind == "loop":
            h = torch.zeros(3, 24)
            for i in range(length):
                h = self.net(x[i], h)
        elif self.kind == "plain calls":
            h = torch.zeros(3, 24)
            for i in range(length):
                h = torch.tanh(self.net(torch.cat([x[i], h], 1)))
        elif self.kind == "state":
            h = c = torch.zeros(3, 24)
            for i in range(length):
                h, c = self.net(x[i], (h, c))
        else:
            h = self.net(x)[0][-1]
        loss = (self.head(h) - t).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.item()


KINDS = ["loop", "state", "lstm", "layers", "plain calls"]


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_and_the_whole_give_the_same_numbers(kind, monkeypatch):
    def run():
        flush.forget()
        s = Sequences(kind)
        return [*[s.step(n) for n in (6, 9, 6, 7)], *torch.cat([p.detach().flatten() for p in s.net.parameters()]).tolist()]
    before = pieces.STATS["placed"]
    parts = run()
    assert pieces.STATS["placed"] > before + 8
    monkeypatch.setattr(pieces, "OFTEN", 1 << 30)
    before = pieces.STATS["placed"]
    assert run() == pytest.approx(parts, rel=1e-4, abs=1e-6)      # sums over a batch may run in another order
    assert pieces.STATS["placed"] == before


@pytest.mark.parametrize("kind", ["loop", "state", "plain calls"])
def test_a_longer_sequence_is_made_of_known_pieces(kind):
    s = Sequences(kind)
    for n in (9, 12, 10, 8, 11):
        s.step(n)
    compiled, made, placed = cpu.STATS["compiled"] + cpu.STATS["disk_hits"], pieces.STATS["made"], pieces.STATS["placed"]
    s.step(15)
    assert cpu.STATS["compiled"] + cpu.STATS["disk_hits"] == compiled
    assert pieces.STATS["placed"] >= placed + 12
    assert pieces.STATS["made"] <= made + 1       # the random numbers at the beginning have another size


@pytest.mark.parametrize("kind", KINDS)
def test_plans_of_remembered_pieces_are_those_of_new_ones(kind, monkeypatch):
    plans = []
    make = cache.build_part

    def kept(*args):
        plan = make(*args)
        plans.append((plan.plan.table, plan.plan.arena, plan.plan.steps, plan.plan.points, plan.plan.kernels, [c.index for c in plan.calls]))
        return plan
    monkeypatch.setattr(cache, "build_part", kept)
    s = Sequences(kind)
    s.step(7)
    s.step(9)
    plans.clear()
    s.step(8)
    remembered = plans[:]
    flush.forget()
    plans.clear()
    s.step(8)
    assert plans[-1][:5] == remembered[-1][:5]


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.AdamW])
def test_short_forms_of_composites_change_no_plan(optimizer, monkeypatch):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 24), nn.LayerNorm(24), nn.GELU(), nn.Linear(24, 24), nn.LayerNorm(24), nn.Softmax(1), nn.Linear(24, 3))
    opt = optimizer(net.parameters())

    def step():
        opt.zero_grad()
        nn.functional.cross_entropy(net(torch.randn(7, 5)), torch.randint(0, 3, (7,))).backward()
        opt.step()
    plans, make = [], cache.build_part

    def kept(*args):
        plans.append(make(*args).plan)
        return make(*args)
    step()
    monkeypatch.setattr(cache, "build_part", kept)
    before = lowering.STATS["short"]
    for long in (lowering.LONG, 1 << 30):
        monkeypatch.setattr(lowering, "LONG", long)
        flush.forget()
        step()
        if long == 8:
            assert lowering.STATS["short"] >= before + 3
    half = len(plans) // 2
    for short, plain in zip(plans[:half], plans[half:], strict=True):
        assert (short.table, short.arena, short.steps, short.points, short.kernels) == (plain.table, plain.arena, plain.steps, plain.points, plain.kernels)


@composite(runtime=("rate",))
def _mixed(x, state, rate):
    """Operations, a product and a write among them, and a number of the run."""
    y = (x * rate + state @ x.t() @ x * 0.125).tanh()
    z = (y * y - state).abs().sqrt()
    state.mul_(0.5).add_(z)
    return y.exp() * z + x, (z - y).sum(0, keepdim=True)


@composite
def _plain(x, w):
    """Operations, a product among them, and a number that is fixed."""
    y = (x @ w).sigmoid() * 0.25
    return ((y + x).cos() * y - 1.5).sin() + x.abs().sqrt()


def _random_run(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    data = torch.randn(6, 4, 8)
    w, states = torch.randn(8, 8), [torch.rand(4, 8) for _ in range(2)]
    values, seen = [data[i] for i in range(3)], []
    for k in range(40):
        x = rng.choice([*values[-3:], data[rng.randrange(6)], states[0]])
        what = rng.randrange(5)
        if what < 2:
            y, row = _mixed(x, rng.choice([*states, data[k % 6]]) if k % 3 else states[0], rng.choice([0.5, 0.25, float(k)]))
            values.append(y)
            if rng.random() < 0.5:
                seen.append(row)
        elif what == 2:
            values.append(_plain(x, w))
        elif what == 3:
            values.append(_plain(x[:, ::1], w.t()) - x)
        else:
            values.append(x * 2.0)
            if rng.random() < 0.3:
                data[rng.randrange(6)] = values[-1]
        if rng.random() < 0.05:
            seen.append(values[-1].amax())
            values[-1].sum().item()
    return torch.cat([t.flatten() for t in (*values[-3:], *states, data, *seen)]).tolist()


@pytest.mark.parametrize("seed", range(12))
def test_random_streams_planned_in_pieces(seed, monkeypatch):
    parts = _random_run(seed)
    monkeypatch.setattr(pieces, "OFTEN", 1 << 30)
    flush.forget()
    assert _random_run(seed) == pytest.approx(parts, rel=1e-5, abs=1e-6, nan_ok=True)


def test_views_of_one_buffer_with_elements_of_several_sizes():
    @composite
    def mixed(h, x, w, table):
        h = (h @ w + x.exp() * 0.25).tanh() * 0.5 + x.sin()
        return h + (table[0] * table[1]).to(torch.float32).abs().sqrt() - h.cos() * 0.125
    torch.manual_seed(0)
    raw, w = torch.randn(64, dtype=torch.float64), torch.randn(4, 4) * 0.5
    small = raw.view(torch.float32)

    def run():
        h = torch.zeros(2, 4)
        for k in range(9):
            h = mixed(h, small[2 * k + 1:2 * k + 9].reshape(2, 4), w, raw[k + 1:k + 3])
        return h.tolist()
    before = pieces.STATS["placed"]
    parts = run()
    assert pieces.STATS["placed"] > before + 4
    with torch.eager():
        assert parts == [pytest.approx(row, rel=1e-5) for row in run()]


def test_a_failed_check_names_the_call_in_whose_piece_it_is():
    table = torch.randn(5, 4)

    @composite
    def picked(h, i, table):
        h = (h @ h.t() @ h + table[i]).tanh()
        return (h * h + h).abs().sqrt().exp() - h.sin() * h.cos()
    h = torch.zeros(2, 4)
    for k in range(6):
        h = picked(h, torch.tensor([k, 0]), table)
    with pytest.raises(IndexError, match="index 5 is out of bounds"):
        h.sum().item()
    assert torch.ones(2).sum().item() == 2.0
