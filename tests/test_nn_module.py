"""Module, containers, hooks, state: the same small programs under both libraries, and the words that are our own."""

from __future__ import annotations

import re
import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import flambeau as fl  # noqa: E402

nn = fl.nn


def outcome(code: str, library: Any) -> tuple[str, str]:
    """What the last line of ``code`` gives: its ``repr``, or the exception's type and first line."""
    *body, last = code.strip().split("\n")
    names = {"torch": library, "nn": library.nn, "F": library.nn.functional}
    library.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec("\n".join(body), names)
            # a sum over a dimension of size one may keep the sign of a zero
            return "value", re.sub(r" *-?\b(0\.0*)(?!\d)", r" \1", repr(eval(last, names)))
        except Exception as error:
            return type(error).__name__, str(error).split("\n")[0].replace("flambeau.", "torch.")


NET = """
class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 3)
        self.register_buffer('seen', torch.zeros(2))
        self.register_buffer('scratch', torch.ones(1), persistent=False)
        self.scale = nn.Parameter(torch.ones(3))
    def forward(self, x, *, shift=0.0):
        return self.fc(x) * self.scale + shift
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = Block()
        self.rest = nn.ModuleList([nn.ReLU(), nn.Linear(3, 3)])
        self.tied = self.rest[1]
    def forward(self, x):
        x = self.first(x)
        for m in self.rest:
            x = m(x)
        return x
net = Net()
"""

ON_LINEAR = [
    "setattr(m, 'weight', 3)",
    "setattr(m, 'weight', None)",
    "m.foo",
    "m.register_buffer('weight', torch.ones(1))",
    "m.register_buffer('a.b', None)",
    "m.register_buffer('', None)",
    "m.register_buffer('x', 3)",
    "m.register_parameter('x', torch.ones(2))",
    "m.add_module('weight', m)",
    "m.add_module('x', 3)",
    "m.add_module(3, m)",
    "m.add_module('a.b', m)",
    "m.add_module('', m)",
    "m.get_submodule('a.b')",
    "m.get_parameter('training')",
    "m.get_parameter('nope')",
    "m.get_buffer('weight')",
    "m.get_buffer('nope')",
    "m.set_submodule('', m)",
    "m.to(torch.int32)",
    "m.train(3)",
    "m.load_state_dict(3)",
    "m.load_state_dict({'weight': 3, 'c': 4})",
    "m.load_state_dict({'weight': torch.ones(3, 3), 'bias': torch.ones(3)})",
    "nn.Module()(3)",
    "nn.Module(3)",
    "nn.Module(a=3)",
    "nn.Linear(2, 3, foo=1)",
    "setattr(nn.Sequential(m), '0', 3)",
    "m.get_submodule('weight')",
    "m.register_buffer(3, None)",
    "m.register_parameter(3, None)",
    "nn.Sequential(3)",
    "nn.ModuleList([3])",
    "nn.ModuleList([m])[2]",
    "nn.Sequential(m)[3]",
    "nn.Sequential(m)['a']",
    "nn.ModuleDict([1])",
    "nn.ModuleDict(3)",
    "nn.Sequential(m) + 3",
    "nn.Sequential(m) * 0",
    "nn.Sequential(m) * 'a'",
    "nn.Sequential(m).insert(5, m)",
    "nn.ModuleList().extend(3)",
    "nn.ParameterList()[0]",
    "nn.ParameterList().extend(3)",
    "nn.ParameterDict({'a': m.weight})['b']",
    "nn.ParameterList([torch.ones(2), 3, 'a'])",
    "nn.ParameterDict({'a': torch.ones(2), 'b': 3})",
    "nn.Parameter(torch.ones(2))",
    "nn.ModuleList([nn.Linear(1, 1) for _ in range(4)] + [nn.ReLU()])",
    "nn.ModuleList()",
    "nn.Sequential()",
    "nn.Sequential(m, nn.ReLU()) * 2",
    "nn.Sequential(m, nn.ReLU())[1:]",
    "list(m.parameters())",
    "m.bias.requires_grad",
    "m.requires_grad_(False).weight.requires_grad",
    "m.double().weight.dtype",
    "m.half().bias.dtype",
    "m.to(torch.float64).weight",
    "m.training, m.eval().training",
    "m.extra_repr()",
    "m._get_name()",
    "dict(m.named_parameters())",
    "nn.Parameter(torch.tensor([1, 2]))",
    "nn.Parameter(torch.tensor([1, 2]), requires_grad=False)",
    "type(m.weight * 2).__name__",
    "m.weight.is_leaf",
    "nn.Parameter()",
    "[n for n, _ in nn.Sequential(m, m).named_modules()]",
    "[n for n, _ in nn.Sequential(m, m).named_modules(remove_duplicate=False)]",
    "m.type(torch.float64).weight.dtype",
    "isinstance(nn.Buffer(torch.ones(1)), nn.Buffer)",
    "isinstance(torch.ones(1), nn.Buffer)",
    "m.zero_grad() or m.weight.grad",
    "nn.Sequential(m, nn.ReLU()).append(m)",
    "nn.Sequential(m).extend([m, nn.ReLU()])",
]

PROGRAMS = [
    "list(net.state_dict())",
    "[n for n, _ in net.named_parameters()]",
    "[n for n, _ in net.named_buffers()]",
    "[n for n, _ in net.named_modules()]",
    "[n for n, _ in net.named_children()]",
    "net",
    "[tuple(p.shape) for p in net.parameters()]",
    "net(torch.ones(1, 2))",
    "net.load_state_dict(net.state_dict())",
    "sd = net.state_dict(); del sd['first.fc.bias']\nnet.load_state_dict(sd)",
    "sd = net.state_dict(); del sd['first.fc.bias']; sd['x'] = torch.ones(1)\nnet.load_state_dict(sd, strict=False)",
    "sd = net.state_dict(); sd['first.fc.bias'] = torch.ones(2); sd['first.more'] = torch.ones(2); del sd['first.scale']\nnet.load_state_dict(sd)",
    "sd = {k: torch.full_like(v, 3.) for k, v in net.state_dict().items()}; net.load_state_dict(sd)\nnet.first.fc.bias",
    "sd = {k: torch.full_like(v, 3.) for k, v in net.state_dict().items()}; net.load_state_dict(sd, assign=True)\nnet.first.fc.bias, net.first.fc.bias is sd['first.fc.bias']",
    "net.state_dict()._metadata",
    "net.first.get_buffer('seen')",
    "net.get_submodule('rest.1')",
    "net.get_parameter('first.scale')",
    "del net.first.scale\n[n for n, _ in net.named_parameters()]",
    "net.first.scale = None\n[n for n, _ in net.named_parameters()]",
    "net.first.fc.weight = nn.Parameter(torch.zeros(3, 2))\nnet(torch.ones(1, 2))",
    "net.first._parameters['scale'] = nn.Parameter(torch.zeros(3))\nnet.first(torch.ones(1, 2))",
    "net.first.seen = torch.ones(4)\nnet.state_dict()['first.seen']",
    "setattr(net.first, 'seen', 3)",
    "net.first.fc = nn.Identity()\nnet",
    "del net.rest[0]\nnet",
    "net.rest.insert(0, nn.Tanh())\nnet.rest",
    "net.rest += [nn.Tanh()]\nnet.rest",
    "net.rest.pop(0), net.rest",
    "order = []; net.apply(lambda m: order.append(type(m).__name__))\norder",
    "net.first.register_forward_pre_hook(lambda m, a: (a[0] * 2,))\nnet.first(torch.ones(1, 2))",
    "net.first.register_forward_pre_hook(lambda m, a, k: (a, {'shift': 5.0}), with_kwargs=True)\nnet.first(torch.ones(1, 2), shift=1.0)",
    "net.first.register_forward_hook(lambda m, a, o: o * 0)\nnet.first(torch.ones(1, 2))",
    "h = net.first.register_forward_hook(lambda m, a, o: o * 0); h.remove()\nnet.first(torch.ones(1, 2))",
    "seen = []; net.first.register_forward_hook(lambda m, a, k, o: seen.append(sorted(k)), with_kwargs=True); net.first(torch.ones(1, 2), shift=1.0)\nseen",
    "seen = []; a = net.first.register_forward_hook(lambda *a: seen.append(1)); b = net.first.register_forward_hook(lambda *a: seen.append(2), prepend=True)\n"
    "net.first(torch.ones(1, 2)), seen",
    "seen = []\nnet.first.register_forward_hook(lambda m, a, o: seen.append(o), always_call=True)\ntry: net.first(torch.ones(1, 5))\nexcept RuntimeError: pass\nseen",
    "seen = []; net.first.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))\nx = torch.ones(1, 2, requires_grad=True)\nnet(x).sum().backward()\nseen",
    "net.first.register_full_backward_hook(lambda m, gi, go: (gi[0] * 0,))\nx = torch.ones(1, 2, requires_grad=True)\nnet(x).sum().backward()\nx.grad",
    "net.first.register_full_backward_pre_hook(lambda m, go: (go[0] * 0,))\nx = torch.ones(1, 2, requires_grad=True)\nnet(x).sum().backward()\nx.grad, net.first.scale.grad",
    "seen = []; net.first.register_full_backward_hook(lambda m, gi, go: seen.append((gi, go)))\nnet(torch.ones(1, 2)).sum().backward()\nseen",
    "net.register_state_dict_post_hook(lambda m, sd, p, meta: sd.clear())\nlen(net.state_dict())",
    "net.first.register_load_state_dict_pre_hook(lambda m, sd, p, *a: sd.update({p + 'fc.bias': torch.full((3,), 9.)}))\nnet.load_state_dict(net.state_dict()); net.first.fc.bias.sum()".replace(
        "; net.first.fc.bias.sum()", "\nnet.first.fc.bias"
    ),
    "net.register_load_state_dict_post_hook(lambda m, keys: keys.missing_keys.clear())\nnet.load_state_dict({}, strict=False)",
    "net(torch.ones(1, 2)).sum().backward(); net.zero_grad(set_to_none=False)\nnet.first.scale.grad",
    "net(torch.ones(1, 2)).sum().backward(); net.zero_grad()\nnet.first.scale.grad",
    "from copy import deepcopy\nb = deepcopy(net)\nb.tied is b.rest[1], b.first.fc.weight is net.first.fc.weight, b",
    "import pickle\nnn.Linear(2, 2).__getstate__().keys() >= {'training', '_parameters', '_buffers', '_modules'}",
    "sorted(n for n in dir(net.first) if n in ('fc', 'scale', 'seen', 'training', 'forward'))",
    "net.set_submodule('first.fc', nn.Identity())\nnet.first",
    "p = nn.ParameterList([torch.ones(1), torch.zeros(2)])\nlen(p), p[-1], p[:1], [n for n, _ in p.named_parameters()]",
    "p = nn.ParameterDict({'b': torch.ones(1), 'a': torch.zeros(2)}); p.update([('c', torch.ones(3))])\nlist(p), p.pop('b'), 'b' in p, [n for n, _ in p.named_parameters()]",
    "d = nn.ModuleDict([('a', nn.ReLU()), ('b', nn.Linear(1, 2))]); d['c'] = nn.Tanh()\nlist(d), d, d.pop('a'), len(d)",
    "v = nn.utils.parameters_to_vector(net.parameters()); nn.utils.vector_to_parameters(v * 0, net.parameters())\nnet.first.fc.bias",
    "net(torch.ones(1, 2)).sum().backward()\nround(float(nn.utils.clip_grad_norm_(net.parameters(), 0.5)), 4), net.first.scale.grad",
    "net(torch.ones(1, 2)).sum().backward()\nnn.utils.clip_grad_value_(net.parameters(), 0.1), net.first.scale.grad",
]


@pytest.mark.parametrize("expression", ON_LINEAR)
def test_on_linear(expression: str) -> None:
    code = "m = nn.Linear(2, 3)\n" + expression
    assert outcome(code, fl) == outcome(code, torch)


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str) -> None:
    assert outcome(NET + program, fl) == outcome(NET + program, torch)


RNN = [
    "rnn.pack_padded_sequence(x, [3, 4, 1])",
    "rnn.pack_padded_sequence(x, [3, 4, 1], enforce_sorted=False)",
    "rnn.pack_padded_sequence(x, torch.tensor([4, 2, 2]))",
    "rnn.pack_sequence([x[:, 0], x[:2, 1]])",
    "rnn.pad_sequence([x[:, 0], x[:2, 1]])",
    "rnn.pad_sequence([x[:, 0], x[:2, 1]], True, -1.0, 'left')",
    "rnn.pad_packed_sequence(rnn.pack_padded_sequence(x, [3, 4, 1], enforce_sorted=False), total_length=5)",
    "rnn.unpad_sequence(x, torch.tensor([1, 2, 3]))",
    "rnn.unpack_sequence(rnn.pack_sequence([x[:, 0], x[:2, 1]]))",
    "rnn.pad_packed_sequence(nn.LSTM(2, 2, 2, bidirectional=True)(rnn.pack_padded_sequence(x, [3, 4, 1], enforce_sorted=False))[0])[0].sum().round(decimals=4)",
    "nn.LSTM(2, 2, 2, bidirectional=True)(rnn.pack_padded_sequence(x, [3, 4, 1], enforce_sorted=False))[1][1].sum().round(decimals=4)",
    "nn.GRU(2, 2)(x, torch.zeros(2, 3, 2))",
    "nn.LSTM(2, 2)(x, (torch.zeros(1, 2), torch.zeros(1, 2)))",
    "nn.RNN(3, 2)(x)",
    "nn.GRU(2, 2)(x[0, 0])",
    "nn.LSTM(2, 2, proj_size=2)",
    "nn.LSTM(2, 2, dropout=2)",
    "nn.RNN(2, 2, nonlinearity='no')",
    "nn.GRUCell(3, 2)(x[0])",
]


@pytest.mark.parametrize("expression", RNN)
def test_sequences(expression: str) -> None:
    code = "rnn = __import__(torch.__name__ + '.nn.utils.rnn', fromlist=['x'])\nx = torch.arange(24.).reshape(4, 3, 2) / 9\n" + expression
    assert outcome(code, fl) == outcome(code, torch)


INIT = [
    "init.uniform_(t)",
    "init.normal_(t, 1, 2)",
    "init.trunc_normal_(t)",
    "init.trunc_normal_(t, 1, 2, -0.5, 0.5)",
    "init.trunc_normal_(t, 0, 0.02)",
    "init.constant_(t, 3)",
    "init.ones_(t)",
    "init.zeros_(t)",
    "init.eye_(t)",
    "init.dirac_(torch.empty(4, 2, 3), 2)",
    "init.xavier_uniform_(t)",
    "init.xavier_normal_(t, 2)",
    "init.kaiming_uniform_(t)",
    "init.kaiming_normal_(t, mode='fan_out', nonlinearity='relu')",
    "init.calculate_gain('leaky_relu', 0.2)",
    "init.calculate_gain('no')",
    "init.xavier_uniform_(t[0])",
    "init.sparse_(t, 0.5).count_nonzero()",
    "init.kaiming_uniform_(t, mode='x')",
    "init.calculate_gain('tanh')",
    "init.uniform(t)",
    "(lambda q: torch.allclose(q @ q.t(), torch.eye(4), atol=1e-5))(init.orthogonal_(t))",
]


@pytest.mark.parametrize("expression", INIT)
def test_init(expression: str) -> None:
    code = "init = nn.init; t = torch.empty(4, 6)\n" + expression
    assert outcome(code, fl) == outcome(code, torch)


LAZY = [
    "nn.LazyLinear(3)",
    "m = nn.LazyLinear(3)\nm(torch.ones(2, 5)), m, m.weight",
    "m = nn.LazyConv2d(4, 3, groups=3)\nm(torch.ones(2, 3, 4, 4)).shape, m",
    "m = nn.LazyConvTranspose1d(4, 3, bias=False)\nm(torch.ones(3, 4)).detach(), m",
    "m = nn.LazyBatchNorm1d()\nm(torch.ones(2, 3)), m, list(m.state_dict())",
    "nn.LazyLinear(3).state_dict()",
    "m = nn.LazyLinear(3); m.load_state_dict(nn.Linear(2, 3).state_dict())\nm.weight, m(torch.ones(1, 2)), m",
    "import copy; m = nn.LazyLinear(3); c = copy.deepcopy(m); c(torch.ones(1, 2))\nm, c, m(torch.ones(1, 4)).shape",
    "nn.LazyLinear(3).weight.shape",
    "nn.LazyConv1d(4, 3)(torch.ones(4))",
    "nn.LazyInstanceNorm2d(affine=True)(torch.ones(2, 3, 2, 2)).shape",
    "m = nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 6])\n[v.detach() for v in m(torch.ones(2, 8), torch.tensor([0, 7]))], m.predict(torch.ones(2, 8)), m",
    "nn.AdaptiveLogSoftmaxWithLoss(8, 10, [3, 3])",
]


@pytest.mark.parametrize("program", LAZY)
def test_lazy_and_adaptive(program: str) -> None:
    assert outcome(program, fl) == outcome(program, torch)


def test_dropout_draws_pytorchs_mask() -> None:
    for code in (
        "nn.Dropout(0.5)(torch.ones(40))",
        "nn.Dropout(0.2)(torch.ones(40))",
        "nn.Dropout2d(0.5)(torch.ones(3, 4, 2, 2))",
        "nn.AlphaDropout(0.3)(torch.ones(9))",
    ):
        assert outcome(code, fl) == outcome(code, torch)


def test_tutorial_net_prints_as_in_pytorch() -> None:
    code = NET + "nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Sequential(nn.Linear(10, 5), nn.Sigmoid()), nn.Linear(5, 1))"
    assert outcome(code, fl) == outcome(code, torch)


UTILS = [
    "m = P.weight_norm(nn.Linear(3, 2))\nm, m(torch.ones(1, 3)).detach(), list(m.state_dict()), m.weight.detach()",
    "m = P.weight_norm(nn.Linear(3, 2)); m.weight = torch.ones(2, 3)\nm.weight.detach(), m.parametrizations.weight.original0.detach()",
    "m = P.weight_norm(nn.Linear(3, 2)); Q.remove_parametrizations(m, 'weight')\nm, type(m).__name__, m.weight, Q.is_parametrized(m)",
    "m = P.spectral_norm(nn.Linear(3, 2))\nm(torch.ones(1, 3)).detach(), list(m.state_dict()), Q.is_parametrized(m, 'weight'), type(m).__name__",
    "class Sym(nn.Module):\n    def forward(self, x): return x.triu() + x.triu(1).t()\n    def right_inverse(self, x): return x.triu()\n"
    "m = nn.Linear(3, 3); Q.register_parametrization(m, 'weight', Sym())\nm, m.weight.detach(), m.parametrizations.weight.original",
    "class Sym(nn.Module):\n    def forward(self, x): return x.triu()[:1]\nQ.register_parametrization(nn.Linear(3, 3), 'weight', Sym())",
    "Q.register_parametrization(nn.Linear(3, 3), 'no', nn.Identity())",
    "import copy; m = P.weight_norm(nn.Linear(3, 2)); c = copy.deepcopy(m)\nc, torch.equal(c.weight, m.weight), c.parametrizations.weight.original1 is m.parametrizations.weight.original1",
    "m = nn.utils.weight_norm(nn.Linear(3, 2))\nm(torch.ones(1, 3)).detach(), list(m.state_dict()), nn.utils.remove_weight_norm(m), m.weight",
    "m = nn.utils.spectral_norm(nn.Linear(3, 2))\nm(torch.ones(1, 3)).detach(), list(m.state_dict()), nn.utils.remove_spectral_norm(m), [n for n, _ in m.named_parameters()]",
    "c, b = nn.Conv2d(2, 3, 1).eval(), nn.BatchNorm2d(3).eval(); b.running_mean.fill_(0.3); b.running_var.fill_(2.0)\n"
    "nn.utils.fuse_conv_bn_eval(c, b)(torch.ones(1, 2, 1, 1)).detach()",
    "S.functional_call(nn.Linear(2, 1), {'weight': torch.ones(1, 2), 'bias': torch.zeros(1)}, (torch.ones(1, 2),))",
    "m = nn.Linear(2, 1); S.functional_call(m, {'weight': torch.ones(1, 2)}, torch.ones(1, 2))\nm.weight",
    "nn.utils.skip_init(nn.Linear, 2, 3).weight.shape",
    "m = R.l1_unstructured(nn.Linear(3, 2), 'weight', 2)\nm(torch.ones(1, 3)).detach(), m.weight_mask, [n for n, _ in m.named_parameters()], R.is_pruned(m)",
    "m = R.l1_unstructured(nn.Linear(3, 4), 'weight', 0.3); R.ln_structured(m, 'weight', 1, 2, 0)\nm.weight.detach(), R.remove(m, 'weight').weight, R.is_pruned(m)",
    "a, b = nn.Linear(2, 3), nn.Linear(3, 1); R.global_unstructured([(a, 'weight'), (b, 'weight')], R.L1Unstructured, amount=3)\na.weight_mask, b.weight_mask",
    "R.l1_unstructured(nn.Linear(3, 2), 'weight', 20)",
    "m = R.random_unstructured(nn.Linear(3, 2), 'weight', 2); R.random_structured(m, 'weight', 1, 0)\nm.weight.detach()",
    "nn.DataParallel(nn.Linear(2, 1)), list(nn.DataParallel(nn.Linear(2, 1)).state_dict())",
    "w = torch.ones(2, requires_grad=True); m = nn.Linear(2, 1); S.functional_call(m, {'weight': w.reshape(1, 2) * 2}, torch.ones(1, 2)).sum().backward()\nw.grad, m.weight.grad",
]


@pytest.mark.parametrize("program", UTILS)
def test_utils(program: str) -> None:
    code = (
        "".join(
            f"{n} = __import__(torch.__name__ + '.nn.utils.{m}', fromlist=['x'])\n"
            for n, m in (("P", "parametrizations"), ("Q", "parametrize"), ("R", "prune"), ("S", "stateless"))
        )
        + program
    )
    assert outcome(code, fl) == outcome(code, torch)
