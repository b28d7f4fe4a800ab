"""Inference mode marks what is made in it; the rules and exception types are PyTorch's."""

import copy
import gc
import threading

import pytest

import flambeau as torch
from flambeau.ops import definition
from flambeau.stream import record
from flambeau.stream.flush import flush

F = torch.nn.functional


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    yield
    flush()
    gc.collect()
    (torch.ones(2, requires_grad=True) * torch.ones(2)).sum().backward()
    assert not definition.SAVED_HOOKS
    assert definition.Buffer is record.Buffer is record.Owned.__base__


def made_inside():
    with torch.inference_mode():
        return torch.ones(2)


def test_what_is_marked():
    w, n = torch.ones(2, requires_grad=True), torch.ones(2)
    with torch.inference_mode():
        made = [torch.ones(2), w * 2, n.clone(), torch.tensor([1.0]), torch.rand(3), torch.cat([n, n]), F.softmax(n, 0), torch.arange(3), torch.empty(2),
                torch.ones(2, requires_grad=True), n + n, torch.sum(n), n.sort()[0], torch.nn.Linear(2, 2).weight]
        assert all(x.is_inference() and torch.is_inference(x) for x in made)
        assert not any(x.is_inference() for x in (w, n, w.view(2, 1), n[:1], n.add_(1)))
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
        with torch.inference_mode(False):
            assert not torch.ones(2).is_inference() and (w * 2).requires_grad
        with torch.enable_grad():
            assert not (w * 2).requires_grad
        torch.set_grad_enabled(True)
        assert not (w * 2).requires_grad
    a = made[0]
    assert a.detach().is_inference() and a.view(2, 1).is_inference() and a.data.is_inference() and a[:1].is_inference()
    assert not any(x.is_inference() for x in (a.clone(), a + 1, copy.deepcopy(a), torch.ones(1)))
    assert torch.is_grad_enabled() and torch.inference_mode()(lambda: torch.ones(1).is_inference())()
    assert n._version == 1


REPEATED = {
    "gather": lambda x, i: x.gather(1, i), "index_select": lambda x, i: x.index_select(0, i[:, 0]), "cumsum": lambda x, i: x.cumsum(1),
    "index": lambda x, i: x[i[:, 0]], "sort": lambda x, i: x.sort(1)[0], "flip": lambda x, i: x.flip(0), "roll": lambda x, i: x.roll(1, 0),
    "repeat": lambda x, i: x.repeat(2, 1), "pool": lambda x, i: F.max_pool2d(x[None], 2), "cat": lambda x, i: torch.cat([x, x]),
    "rand": lambda x, i: torch.rand(3), "zeros": lambda x, i: torch.zeros(3), "where": lambda x, i: torch.where(x > 0, x, 0.0),
    "layer_norm": lambda x, i: F.layer_norm(x, (4,)), "add": lambda x, i: torch.add(x, x, alpha=2), "exp": lambda x, i: x.exp(),
}


@pytest.mark.parametrize("name", REPEATED)
def test_calls_like_earlier_ones_are_marked_where_they_are_made(name):
    x, i = torch.rand(4, 4), torch.tensor([[0, 1], [1, 2], [0, 0], [3, 3]])
    for _ in range(3):                      # whichever mode a call was remembered in
        for _ in range(4):
            assert not REPEATED[name](x, i).is_inference()
        with torch.inference_mode():
            for _ in range(4):
                assert REPEATED[name](x, i).is_inference()


REFUSED = {
    "in place": lambda a, w: a.add_(1), "a view in place": lambda a, w: a[:1].add_(1), "an element": lambda a, w: a.__setitem__(0, 5.0),
    "without gradients": lambda a, w: torch.no_grad()(lambda: a.add_(1))(), "out": lambda a, w: torch.add(w.detach(), 1, out=a), "zero": lambda a, w: a.zero_(),
    "fill": lambda a, w: a.fill_(2), "copy": lambda a, w: a.copy_(w.detach()), "resize": lambda a, w: a.resize_(3), "operator": lambda a, w: a.__iadd__(1),
    "version": lambda a, w: a._version, "requires_grad_": lambda a, w: a.requires_grad_(), "requires_grad": lambda a, w: setattr(a, "requires_grad", True),
    "parameter": lambda a, w: torch.nn.Parameter(a), "saved": lambda a, w: w * a, "saved first": lambda a, w: a * w,
    "saved by linear": lambda a, w: F.linear(a[None], w[None]),
    "saved in place": lambda a, w: (w * 1).mul_(a), "saved by a function": lambda a, w: Keep.apply(w, a),
}
WORDS = {"version": "do not track version counter", "requires_grad_": "Setting requires_grad=True", "requires_grad": "Setting requires_grad=True",
         "parameter": "Setting requires_grad=True"}


class Keep(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w, a):
        ctx.save_for_backward(a)
        return w * 1

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0], None


@pytest.mark.parametrize("case", REFUSED)
def test_refused_outside(case):
    a, w = made_inside(), torch.ones(2, requires_grad=True)
    with pytest.raises(RuntimeError) as caught:
        REFUSED[case](a, w)
    word = WORDS.get(case, "cannot be saved for backward" if "saved" in case else "Inplace update to inference tensor outside InferenceMode")
    assert word in str(caught.value)
    assert case == "version" or "clone" in str(caught.value)
    assert a.tolist() == [1, 1]
    with torch.inference_mode():
        assert a.add_(1).tolist() == [2, 2]
    del caught


def test_what_needs_no_value_is_allowed():
    a, w = made_inside(), torch.ones(2, requires_grad=True)
    (w + a).sum().backward()
    assert w.grad.tolist() == [1, 1]
    (w * a.clone()).sum().backward()
    assert w.grad.tolist() == [2, 2]
    assert torch.zeros(2).copy_(a).tolist() == [1, 1] and F.relu(a).tolist() == [1, 1]


def test_hooks_of_saved_tensors_go_on():
    a, w, seen = made_inside(), torch.full((2,), 3.0, requires_grad=True), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: seen.append(1) or x, lambda x: x):
        (w * w).sum().backward()
        with pytest.raises(RuntimeError, match="cannot be saved"):
            w * a
    assert seen and w.grad.tolist() == [6, 6]


def test_another_thread_is_not_in_it():
    inside, outside, found = threading.Event(), threading.Event(), []

    def other():
        inside.wait()
        found.append(torch.ones(2).exp().is_inference())
        outside.set()

    thread = threading.Thread(target=other)
    thread.start()
    with torch.inference_mode():
        inside.set()
        outside.wait()
        assert torch.ones(2).exp().is_inference()
    thread.join()
    assert found == [False]


def test_nothing_is_looked_for_when_nothing_is_left():
    model = torch.nn.Linear(2, 2)
    with torch.inference_mode():
        model(torch.ones(1, 2)).sum().item()
    assert not definition.SAVED_HOOKS
    with torch.inference_mode():
        kept = model(torch.ones(1, 2))
    assert definition.SAVED_HOOKS == [None]
    kept.tolist()
    del kept


def test_an_error_inside_ends_it():
    with pytest.raises(KeyError), torch.inference_mode():
        raise KeyError
    assert not torch.ones(1).is_inference() and torch.is_grad_enabled()


# ---------------------------------------------------------------- .data


def test_data_has_a_version_of_its_own():
    x = torch.ones(3)
    d = x.data
    d.add_(1)
    d[0].mul_(2)
    d.detach().add_(1)
    assert (x._version, d._version, d[1:]._version, x.data._version) == (0, 3, 3, 0)
    x.add_(1)
    assert (x._version, d._version) == (1, 3)
    assert x.tolist() == [6, 4, 4]
    w = torch.ones(3, requires_grad=True)
    y = w * x
    x.data.zero_()
    y.sum().backward()      # as in PyTorch: not noticed
    assert w.grad.tolist() == [0, 0, 0]
