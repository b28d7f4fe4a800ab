"""Whole backward passes recorded as one call give what the passes node by node give, and step aside where somebody looks."""

import itertools

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.autograd import engine, passes
from flambeau.nn import functional as F
from flambeau.stream import flush, record


@pytest.fixture(autouse=True, params=["by loops", "written out"])
def way(request, monkeypatch):
    flush.flush()
    monkeypatch.setattr(passes, "OFTEN", 1 << 60 if request.param == "by loops" else 1)
    yield
    flush.flush()


def leaf(*shape, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=dtype).requires_grad_()


def gate(x, w, b):
    i, f, g = (x @ w + b).chunk(3, 1)
    return (torch.sigmoid(i) * torch.tanh(f) + g).pow(2).mean()


def embedded(table, w):
    return F.cross_entropy(F.embedding(torch.tensor([[0, 2], [2, 1]]), table).reshape(4, -1) @ w, torch.tensor([0, 1, 1, 0]))


# name -> loss of leaves, shapes of the leaves
GRAPHS = {
    "chain": (lambda a, b: ((a * b).tanh() + a.sigmoid()).sum(), [(3, 4), (4,)]),
    "linear": (lambda x, w, b: F.mse_loss(F.linear(x, w, b), torch.ones(5, 2, dtype=torch.float64)), [(5, 3), (2, 3), (2,)]),
    "shared weights": (lambda x, w: F.linear(F.linear(x, w).relu(), w).pow(2).sum(), [(5, 3), (3, 3)]),
    "shared node": (lambda a: (lambda y: (y * y.sin() + y).sum())(a.exp()), [(4,)]),
    "one leaf twice": (lambda a: (a * a).sum(), [(4,)]),
    "one gradient for two": (lambda a, b: (a + b).sum(), [(4,), (4,)]),
    "broadcast": (lambda a, b: (a + b).mean(), [(4, 1), (3,)]),
    "numbers": (lambda a: ((a * 3.0 - 1) / 7 + a ** 3).sum(), [(4,)]),
    "powers of zero": (lambda a: (a ** 2.0 * 0.5).sum() + (a ** 0).sum(), [(4,)]),
    "views": (lambda a: (a.t()[1:].reshape(-1) * a.unsqueeze(0)[0, :, 0].sum()).sum(), [(3, 4)]),
    "transposed gradient": (lambda a, b: (a.t() @ b).sum(), [(3, 4), (3, 2)]),
    "several results": (gate, [(4, 5), (5, 9), (9,)]),
    "concatenated": (lambda a, b: torch.cat([a, b * 2, a.exp()], 1).pow(2).sum(), [(2, 3), (2, 1)]),
    "stacked": (lambda a, b: torch.stack([a, b]).norm(), [(3,), (3,)]),
    "indexed": (lambda a: a[torch.tensor([0, 2, 2])].exp().sum(), [(4, 2)]),
    "gathered": (lambda a: a.gather(1, torch.tensor([[0, 2], [1, 1]])).exp().sum(), [(2, 3)]),
    "embedding": (embedded, [(3, 2), (2, 2)]),
    "norms": (lambda x, w, b: F.layer_norm(x, (4,), w, b).pow(3).sum(), [(3, 4), (4,), (4,)]),
    "softmax": (lambda x: F.log_softmax(x, 1)[:, 0].sum(), [(3, 4)]),
    "convolution": (lambda x, w, b: F.max_pool2d(F.conv2d(x, w, b, padding=1).relu(), 2).mean(), [(2, 1, 6, 6), (3, 1, 3, 3), (3,)]),
    "where": (lambda a, b: torch.where(a > 0, a, b).prod(), [(5,), (5,)]),
    "sorted": (lambda a: (a.sort()[0] * torch.arange(5.0, dtype=torch.float64)).sum() + a.max(), [(5,)]),
    "slope": (lambda a: F.leaky_relu(a, 0.3).sum() + F.elu(a, 1.5).sum(), [(6,)]),
    "unused branch": (lambda a, b: (a * 2).sum() + b.detach().sum(), [(3,), (3,)]),
    "written in place": (lambda a: (lambda y: y.mul_(2).add_(a).sum())(a * 3), [(4,)]),
    "part written": (lambda a: (lambda y: (y.__setitem__(0, 7.0), (y * y).sum())[1])(a * 1), [(4,)]),
    "already a leaf's": (lambda a: a.sum(), [(4,)]),
}


def gradients(name, seed, one_by_one=False, times=1):
    f, shapes = GRAPHS[name]
    leaves = [leaf(*s, seed=seed + i) for i, s in enumerate(shapes)]
    known = engine.whole
    try:
        if one_by_one:
            engine.whole = lambda t, keep: False
        for _ in range(times):
            f(*leaves).backward()
    finally:
        engine.whole = known
    return [x.grad if x.grad is None else x.grad.tolist() for x in leaves]


def same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert torch.allclose(torch.tensor(a), torch.tensor(b), rtol=1e-6, atol=1e-7), (a, b)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_whole_pass_gives_what_single_nodes_give(name):
    for seed in (0, 10, 20):        # the first one is traced, the others repeat it with other values
        same(gradients(name, seed), gradients(name, seed, one_by_one=True))
    same(gradients(name, 5, times=3), gradients(name, 5, one_by_one=True, times=3))


def calls_of_backward(loss):
    before = len(record.CALLS)
    loss.backward()
    return len(record.CALLS) - before


@pytest.mark.parametrize("name", ["chain", "linear", "shared weights", "numbers", "views", "several results", "concatenated", "norms", "softmax", "slope",
                                  "gathered", "embedding"])
def test_a_pass_is_one_call(name):
    f, shapes = GRAPHS[name]
    leaves = [leaf(*s, seed=i) for i, s in enumerate(shapes)]
    for _ in range(2):
        for x in leaves:
            x.grad = None
        loss = f(*leaves)
        loss._node.entry.passes.credit = passes.CREDIT        # other tests use the same last calls
        assert calls_of_backward(loss) == 1


def test_graphs_that_look_alike_are_told_apart():
    a, b, c = (leaf(3, seed=i) for i in range(3))

    def grads(loss, *leaves):
        for x in (a, b, c):
            x.grad = None
        loss.backward()
        return [x.grad.tolist() for x in leaves]
    for _ in range(2):
        assert grads((a * b).sum(), a, b) == [b.tolist(), a.tolist()]
        assert grads((a * a).sum(), a) == [(2 * a).tolist()]                        # one leaf in both places
        assert grads((a * b.detach()).sum(), a) == [b.tolist()]                     # no edge
        assert grads((a * (b * 1)).sum(), a, b) == [b.tolist(), a.tolist()]         # a node in place of a leaf
        y = b * 2
        assert grads((y * y).sum(), b) == [(8 * b).tolist()]                        # one node in both places
        assert grads(((b * 2) * (c * 2)).sum(), b, c) == [(4 * c).tolist(), (4 * b).tolist()]
        for k in (2.0, 3.0, -1.0, 0.0, -0.0):
            assert grads((a * k).sum(), a) == [[k] * 3]
            assert [str(v) for v in a.grad.tolist()] == [str(k)] * 3


def test_hooks_see_every_gradient():
    a = leaf(3)
    for watched in (False, True, False, True):
        a.grad, seen = None, []
        y = a * 2
        if watched:
            y.register_hook(lambda g, seen=seen: seen.append(g.tolist()))
        y.sum().backward()
        assert seen == ([[1.0] * 3] if watched else [])
        assert a.grad.tolist() == [2.0] * 3
    handle = a.register_hook(lambda g: g * 10)
    a.grad = None
    (a * 2).sum().backward()
    assert a.grad.tolist() == [20.0] * 3
    handle.remove()
    seen = []
    a.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.tolist()))
    a.grad = None
    (a * 2).sum().backward()
    assert seen == [[2.0] * 3]


def test_retained_gradients_and_graphs():
    a = leaf(3)
    for _ in range(2):
        a.grad = None
        y = a.exp()
        y.retain_grad()
        y.sum().backward()
        assert y.grad.tolist() == [1.0] * 3
        loss = (a.exp() * 2).sum()
        loss.backward(retain_graph=True)
        loss.backward()
        assert torch.allclose(a.grad, 5 * a.exp().detach())
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()


def test_an_overwritten_operand_is_refused():
    a = leaf(3)
    for overwritten in (False, True, False):
        y = a * 2
        loss = (y * y).sum()
        if overwritten:
            y.add_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
        else:
            loss.backward()


def test_saved_tensors_go_through_the_users_hooks():
    a = leaf(3)
    for hooked in (False, True, False):
        seen, a.grad = [], None
        if hooked:
            with torch.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t.shape) or t, lambda t: t):
                loss = a.exp().sin().sum()
        else:
            loss = a.exp().sin().sum()
        loss.backward()
        assert bool(seen) == hooked
        assert torch.allclose(a.grad, (a.exp().cos() * a.exp()).detach())


def test_custom_functions_run_every_time():
    runs = []

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, g):
            runs.append(1)
            return g * 2
    a = leaf(3)
    for _ in range(3):
        Double.apply(a).sum().backward()
    assert len(runs) == 3 and a.grad.tolist() == [6.0] * 3


def test_gradients_do_not_share_memory():
    a, b = leaf(3, seed=0), leaf(3, seed=1)
    for _ in range(2):
        a.grad = b.grad = None
        (a + b).sum().backward()
        a.grad.mul_(5)
        assert b.grad.tolist() == [1.0] * 3
        x = torch.ones(3, dtype=torch.float64)
        a.grad = None
        (a * x).sum().backward()
        a.grad.mul_(5)
        assert x.tolist() == [1.0] * 3


def test_an_accumulated_gradient_keeps_its_tensor():
    a = leaf(3)
    (a * 2).sum().backward()
    held = a.grad
    for _ in range(2):
        (a * 2).sum().backward()
    assert a.grad is held and held.tolist() == [6.0] * 3


SIZES = itertools.count(50)     # of which no other test has a graph


def test_losses_over_ever_new_graphs_are_not_all_remembered():
    n = next(SIZES)
    a = leaf(n)
    slope, value = torch.ones(n, dtype=torch.float64), a.detach()
    x = a
    known = x.cos().sin().sum()._node.entry.passes
    known.credit, before = 3, len(known)
    for _ in range(8):
        x, slope, value = x.sin(), slope * value.cos(), value.sin()
        a.grad = None
        loss = x.sum()
        loss.backward(retain_graph=True)
        assert torch.allclose(a.grad, slope)
    assert loss._node.entry.passes is known and known.credit <= 3 and len(known) <= before + 3
    known.credit = passes.CREDIT


def test_a_model_trains_the_same_both_ways(monkeypatch):
    def losses():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 3))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        x, y = torch.randn(8, 1, 6, 6), torch.randint(0, 3, (8,))
        out = []
        for _ in range(5):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            out.append(loss.item())
        return out
    whole = losses()
    monkeypatch.setattr(engine, "whole", lambda t, keep: False)
    assert whole == pytest.approx(losses(), rel=1e-5)
