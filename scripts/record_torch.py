"""Asks PyTorch what it does, and writes the answers to ``tests/recorded`` for tests that run without PyTorch (``make record``).

Each case is a few lines of source that assign ``result``.  The file keeps the source beside PyTorch's answer, so that
``tests/test_recorded.py`` only has to run the same source with ``torch`` meaning Flambeau.  Run it again after adding a case or
for another release of PyTorch, and read the difference.
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import families
import misuse

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "recorded"

Case = tuple[str, str]      # name, source


def printing() -> Iterator[Case]:
    """``repr`` of tensors: every type, precision and width rules, summaries, flags, gradients."""
    for dtype in ("float64", "float32", "float16", "bfloat16"):
        yield f"{dtype} plain", f"torch.tensor([1.0, 2.5, -3.25], dtype=torch.{dtype})"
        yield f"{dtype} whole", f"torch.tensor([1.0, 20.0, -300.0], dtype=torch.{dtype})"
        yield f"{dtype} scientific", f"torch.tensor([1e-5, 2.0, 3e4], dtype=torch.{dtype})"
        yield f"{dtype} special", f"torch.tensor([float('nan'), float('inf'), -float('inf'), -0.0, 1.0], dtype=torch.{dtype})"
        yield f"{dtype} scalar", f"torch.tensor(0.1, dtype=torch.{dtype})"
        yield f"{dtype} empty", f"torch.zeros(0, 3, dtype=torch.{dtype})"
        yield f"{dtype} grid", f"((torch.arange(20) * 37 % 23) / 8 - 1).to(torch.{dtype}).view(4, 5)"
    for dtype in ("int64", "int32", "int16", "int8", "uint8", "bool"):
        yield f"{dtype} plain", f"torch.tensor([1, 0, 100], dtype=torch.{dtype})"
        yield f"{dtype} scalar", f"torch.tensor(7, dtype=torch.{dtype})"
        yield f"{dtype} empty", f"torch.tensor([], dtype=torch.{dtype})"
        yield f"{dtype} grid", f"(torch.arange(24) % 5).to(torch.{dtype}).view(2, 3, 4)"
    values = {
        "small": "[0.0001, 0.5]", "tiny": "[1e-10, 1e-12]", "large": "[1e8, 1.0]", "larger": "[123456789.0, 0.25]",
        "wide ratio": "[1.0, 1001.5]", "ratio limit": "[1.0, 1000.5]", "negative": "[-1.5, 2.25, -100.125]", "zeros": "[0.0, 0.0]",
        "nan only": "[float('nan')]", "inf and fraction": "[float('inf'), 0.5]", "inf and whole": "[float('inf'), 2.0]",
        "subnormal": "[1e-45, 1e-40]", "maximum": "[3.4028235e38, 1.0]", "thirds": "[1/3, 2/3, -1/7]", "whole big": "[1e5, 2e5, -3e7]",
        "whole limit": "[99999999.0, 1.0]", "deep": "[[[1.0]], [[2.0]]]", "single": "[[42.0]]",
    }
    for name, value in values.items():
        yield name, f"torch.tensor({value})"
    yield "negative integers", "torch.tensor([[-1, 10], [100, -1000]])"
    yield "long row", "torch.arange(40)"
    yield "long float row", "torch.arange(30) / 7"
    yield "long rows", "torch.arange(120).view(3, 40) * 1000"
    yield "summary 1d", "torch.arange(2000)"
    yield "summary 1d limit", "torch.arange(1000)"
    yield "summary 1d above", "torch.arange(1001)"
    yield "summary 2d", "torch.arange(10000).view(100, 100)"
    yield "summary 2d narrow", "torch.arange(2400.0).view(600, 4)"
    yield "summary 3d", "torch.arange(8000.0).view(20, 20, 20) / 3"
    yield "summary wide", "torch.arange(3000).view(2, 1500)"
    yield "transposed", "torch.arange(6).view(2, 3).t()"
    yield "expanded", "torch.tensor([1.0]).expand(2, 3)"
    yield "strided", "torch.arange(10.0)[::3]"
    yield "empty shapes", "torch.zeros(2, 0, 3)"
    yield "empty int", "torch.zeros(0, dtype=torch.int32)"
    yield "requires grad", "torch.tensor([1.0, 2.0], requires_grad=True)"
    yield "requires grad double", "torch.tensor([1.0], dtype=torch.float64, requires_grad=True)"
    yield "scalar grad", "torch.tensor(2.0, requires_grad=True)"
    yield "parameter", "torch.nn.Parameter(torch.tensor([[1.0, 2.0]]))"
    yield "size", "torch.Size([2, 3])"
    yield "dtypes", "[torch.float32, torch.int64, torch.bool, torch.bfloat16]"
    yield "device", "torch.device('cpu')"
    gradients = {
        "add": "x + 1", "mul": "x * 2", "div": "x / 3", "pow": "x ** 2", "neg": "-x", "exp": "x.exp()", "sum": "x.sum()", "mean": "x.mean()",
        "relu": "x.relu()", "sigmoid": "x.sigmoid()", "tanh": "x.tanh()", "view": "x.view(3, 2)", "t": "x.t()", "slice": "x[0]", "index": "x[:, 1]",
        "matmul": "x @ x.t()", "linear": "torch.nn.functional.linear(x, torch.ones(4, 3), torch.ones(4))", "cat": "torch.cat([x, x])",
        "softmax": "torch.softmax(x, 1)", "log_softmax": "torch.log_softmax(x, 1)", "mse": "torch.nn.functional.mse_loss(x, torch.zeros(2, 3))",
        "cross_entropy": "torch.nn.functional.cross_entropy(x, torch.tensor([0, 1]))", "clamp": "x.clamp(0, 1)", "where": "torch.where(x > 1, x, 0.0)",
        "stack": "torch.stack([x, x])", "max": "x.max()", "sqrt": "x.sqrt()", "log": "(x + 1).log()", "abs": "x.abs()", "unsqueeze": "x.unsqueeze(0)",
    }
    for name, expression in gradients.items():
        yield f"grad_fn {name}", f"x = torch.arange(6.0).view(2, 3).requires_grad_()\nresult = repr({expression})"
    settings = ("precision=2", "precision=8", "threshold=5", "edgeitems=1, threshold=5", "linewidth=40", "sci_mode=True", "sci_mode=False",
                "profile='short'", "profile='full'")
    for setting in settings:
        yield f"set_printoptions {setting}", (
            f"torch.set_printoptions({setting})\n"
            "result = repr((torch.arange(12.0) / 7).view(3, 4)) + repr(torch.arange(9))\n"
            "torch.set_printoptions(profile='default')")
    models = {
        "linear": "torch.nn.Linear(2, 3)",
        "sequential": "torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Tanh()))",
        "layers": "torch.nn.ModuleList([torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm1d(4), torch.nn.LayerNorm(5), torch.nn.Embedding(6, 7)])",
        "repeated": "torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(3)])",
        "recurrent": "torch.nn.ModuleDict({'a': torch.nn.LSTM(2, 3, num_layers=2), 'b': torch.nn.RNN(2, 3)})",
        "losses": "torch.nn.ModuleList([torch.nn.MSELoss(), torch.nn.CrossEntropyLoss(), torch.nn.BCEWithLogitsLoss()])",
    }
    for name, expression in models.items():
        yield f"model {name}", expression
    yield "optimizer", "torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=0.1, momentum=0.9)"


def tensors() -> Iterator[Case]:
    """``repr`` of what calls give: types of mixed operands, limits of types, 16-bit accuracy, copies, NumPy's arrays."""
    types = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
    for name in types:
        yield f"promotion {name}", f"""\
result = []
for other in {types}:
    a, b = torch.ones(2, dtype=torch.{name}), getattr(torch, other)
    result.append([(a + torch.ones(2, dtype=b)).dtype, (a + torch.ones((), dtype=b)).dtype, (a / torch.ones(2, dtype=b)).dtype,
                   (a > torch.ones(2, dtype=b)).dtype, torch.can_cast(torch.{name}, b)])
result = repr(result)"""
        yield f"promotion {name} numbers", f"a = torch.ones(2, dtype=torch.{name})\nresult = repr([a + 1, a + 1.5, a * True, 2 / a, 3 // a, 2 ** a, a ** 1, a ** True, a ** 0])"
    for kind in ("int64", "int32", "int8"):
        yield f"uint8 in place {kind}", f"torch.tensor([250, 1], dtype=torch.uint8).add_(torch.tensor([10, -2], dtype=torch.{kind}))"
    calls = {
        "linspace": "[torch.linspace(-1, 1, 7, dtype=torch.float64), torch.linspace(-5, 5, 200).tolist(), torch.linspace(0, 10, 4, dtype=torch.int64)]",
        "of NumPy scalars": "[torch.tensor([__import__('numpy').float64(1), 2.0]), torch.tensor([True, __import__('numpy').int16(2)])]",
        "uint8 wraps": "[torch.tensor([-1, -255], dtype=torch.uint8), torch.full((1,), -1, dtype=torch.uint8)]",
        "power 1 gradient": "torch.autograd.grad((x ** 1).sum() + (x ** 0).sum(), x)",
        "all and any over no dimension": "[torch.all(x, ()), torch.any(x, ()), torch.all(x)]",
        "nuclear norm": "[x.norm('nuc'), torch.norm(x, 'nuc', dim=(0, 1))]",
        "bfloat16 statistics": "[f(x.detach().bfloat16()) for f in (torch.var, torch.std, lambda t: t.softmax(1), lambda t: t.logsumexp(1))]",
        "float16 norms": "[(x * 100).half().norm(), (x * 30).half().norm(3), (x * 100).half().norm(dim=1)]",
        "NumPy operand": "[x.detach() + __import__('numpy').ones(3), x.detach() == __import__('numpy').arange(3.0), x.detach() @ __import__('numpy').ones(3, 'float32')]",
        "fill of an expanded tensor": "[torch.ones(1).expand(3).fill_(2), torch.ones(1).expand(3).zero_()]",
        "out of diag": "[torch.diag(x.detach(), out=torch.empty(0)), torch.slice_scatter(x.detach(), torch.ones(1, 3), 0, 0, 1, out=torch.empty(2, 3))]",
        "axis of concat": "torch.concat([x.detach(), x.detach()], axis=1)",
        "bilinear of integers": "torch.nn.functional.bilinear(*[torch.ones(2, 3, dtype=torch.int32)] * 2, torch.ones(1, 3, 3, dtype=torch.int32))",
        "pickled strides": "[(c := __import__('pickle').loads(__import__('pickle').dumps(t))).stride() + (c.tolist(),) for t in (x.detach().t(), torch.arange(24).view(2, 3, 4).permute(1, 2, 0))]",
        "median's node": "x.median()",
    }
    for name, call in calls.items():
        yield name, f"x = torch.arange(6.0).view(2, 3).requires_grad_()\nresult = repr({call})"


def random_streams() -> Iterator[Case]:
    """Values drawn after ``manual_seed``, one call after another, so that the state between calls counts as well."""
    for size in (1, 2, 5, 15, 16, 17, 31, 40):
        yield f"rand {size}", f"torch.manual_seed(1)\nresult = torch.rand({size})"
        yield f"randn {size}", f"torch.manual_seed(2)\nresult = torch.randn({size})"
        yield f"rand double {size}", f"torch.manual_seed(3)\nresult = torch.rand({size}, dtype=torch.float64)"
        yield f"randn double {size}", f"torch.manual_seed(4)\nresult = torch.randn({size}, dtype=torch.float64)"
        yield f"randint {size}", f"torch.manual_seed(5)\nresult = torch.randint(0, 1000, ({size},))"
        yield f"randperm {size}", f"torch.manual_seed(6)\nresult = torch.randperm({size})"
    yield "randn cached half", "torch.manual_seed(7)\nresult = [torch.randn(3), torch.rand(2), torch.randn(2), torch.randn(20), torch.randn(1)]"
    yield "seeds", "result = [(torch.manual_seed(s), torch.rand(2))[1] for s in (0, 42, 123456789, 2**31, 2**40, -1)]"
    yield "normal", "torch.manual_seed(8)\nresult = [torch.normal(2.0, 3.0, (5,)), torch.normal(torch.zeros(4), torch.ones(4)), torch.zeros(20).normal_(1, 2)]"
    yield "uniform_", "torch.manual_seed(9)\nresult = [torch.zeros(5).uniform_(-1, 1), torch.zeros(20).uniform_(2, 7)]"
    yield "bernoulli", "torch.manual_seed(10)\nresult = [torch.bernoulli(torch.full((20,), 0.3)), torch.zeros(20).bernoulli_(0.3)]"
    yield "dropout", "torch.manual_seed(11)\nresult = torch.nn.functional.dropout(torch.ones(40), 0.25)"
    yield "dropout module", "torch.manual_seed(12)\nresult = torch.nn.Dropout(0.5)(torch.ones(5, 5))"
    yield "multinomial", "torch.manual_seed(13)\nresult = [torch.multinomial(torch.tensor([0.1, 0.2, 0.3, 0.4]), 10, replacement=True), torch.multinomial(torch.ones(6), 4)]"
    yield "generator", "g = torch.Generator().manual_seed(14)\nresult = [torch.rand(3, generator=g), torch.randn(3, generator=g), torch.randperm(5, generator=g)]"
    yield "generator apart", "torch.manual_seed(15)\ng = torch.Generator().manual_seed(16)\nresult = [torch.rand(2), torch.rand(2, generator=g), torch.rand(2)]"
    yield "state", "torch.manual_seed(17)\ns = torch.get_rng_state()\na = torch.rand(3)\ntorch.set_rng_state(s)\nresult = [a, torch.rand(3)]"
    yield "randint negative", "torch.manual_seed(18)\nresult = torch.randint(-5, 6, (10,))"
    yield "randint wide", "torch.manual_seed(19)\nresult = torch.randint(0, 2**40, (4,))"
    yield "rand_like", "torch.manual_seed(20)\nresult = [torch.rand_like(torch.zeros(2, 3)), torch.randn_like(torch.zeros(2, 3))]"
    yield "exponential", "torch.manual_seed(21)\nresult = torch.zeros(5).exponential_()"
    yield "half types", "torch.manual_seed(22)\nresult = [torch.rand(5, dtype=torch.float16).float(), torch.rand(5, dtype=torch.bfloat16).float()]"
    yield "half normal", "torch.manual_seed(23)\nresult = [torch.randn(20, dtype=torch.float16).float(), torch.randn(20, dtype=torch.bfloat16).float()]"


def initial_weights() -> Iterator[Case]:
    """Layers made after ``manual_seed``: the first values and the sum of every parameter."""
    layers = ("Linear(3, 4)", "Linear(3, 4, bias=False)", "Bilinear(2, 3, 4)", "Embedding(5, 3)", "Embedding(5, 3, padding_idx=0)", "LayerNorm(4)",
              "BatchNorm1d(4)", "Conv2d(2, 3, 3)", "RNN(3, 4)", "LSTM(3, 4, num_layers=2)", "GRU(3, 4, bidirectional=True)", "GRUCell(3, 4)",
              "LSTMCell(3, 4)", "PReLU()", "Conv1d(2, 4, 3, groups=2)", "MultiheadAttention(8, 2)")
    tail = "\nresult = [[n, p.flatten()[:6], p.double().sum()] for n, p in m.named_parameters()]"
    for layer in layers:
        yield layer, f"torch.manual_seed(0)\nm = torch.nn.{layer}{tail}"
    yield "tutorial network", f"torch.manual_seed(42)\nm = torch.nn.Sequential(torch.nn.Linear(20, 10), torch.nn.ReLU(), torch.nn.Linear(10, 1)){tail}"
    inits = ("uniform_(w)", "uniform_(w, -2, 3)", "normal_(w)", "normal_(w, 1, 0.1)", "constant_(w, 0.3)", "ones_(w)", "zeros_(w)", "eye_(w)",
             "xavier_uniform_(w)", "xavier_normal_(w, gain=2)", "kaiming_uniform_(w)", "kaiming_uniform_(w, a=5 ** 0.5)", "kaiming_normal_(w)",
             "kaiming_normal_(w, mode='fan_out', nonlinearity='relu')", "trunc_normal_(w)", "orthogonal_(w)", "sparse_(w, 0.5)")
    for call in inits:
        yield f"init {call}", f"torch.manual_seed(1)\nw = torch.empty(4, 6)\nresult = torch.nn.init.{call}"


def training() -> Iterator[Case]:
    """Losses of short trainings, and the tutorial's own."""
    yield "tutorial section 5", """\
import numpy as np
nn = torch.nn
np.random.seed(42)
x = np.random.rand(100, 1)
y = 2 * x + 3 + 0.5 * np.random.randn(100, 1)
x_tensor, y_tensor = torch.FloatTensor(x), torch.FloatTensor(y)
torch.manual_seed(42)
model, criterion = nn.Linear(1, 1), nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
result = []
for epoch in range(1000):
    loss = criterion(model(x_tensor), y_tensor)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if (epoch + 1) % 100 == 0:
        result.append(loss.item())
result += [model.weight.item(), model.bias.item()]"""
    optimizers = ("SGD(p, lr=0.1)", "SGD(p, lr=0.1, momentum=0.9)", "SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
                  "SGD(p, lr=0.1, momentum=0.9, dampening=0.5)", "SGD(p, lr=0.1, maximize=True)", "Adam(p, lr=0.01)",
                  "Adam(p, lr=0.01, weight_decay=0.1, amsgrad=True)", "AdamW(p, lr=0.01)", "RMSprop(p, lr=0.01)",
                  "RMSprop(p, lr=0.01, momentum=0.9, centered=True)", "Adagrad(p, lr=0.1)")
    for optimizer in optimizers:
        yield optimizer, f"""\
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
x, y = torch.randn(8, 3), torch.randn(8, 1)
p = model.parameters()
optimizer = torch.optim.{optimizer}
result = []
for _ in range(12):
    loss = torch.nn.functional.mse_loss(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    result.append(loss.item())"""
    for scheduler in ("StepLR(o, 3, gamma=0.5)", "CosineAnnealingLR(o, T_max=8)"):
        yield scheduler, f"""\
o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
s = torch.optim.lr_scheduler.{scheduler}
result = []
for _ in range(10):
    o.step()
    s.step()
    result.append(s.get_last_lr()[0])"""
    yield "classifier", """\
torch.manual_seed(1)
model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Dropout(0.3), torch.nn.Linear(8, 3))
x, y = torch.randn(12, 4), torch.randint(0, 3, (12,))
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
result = []
for _ in range(3):
    for a, b in loader:
        loss = torch.nn.functional.cross_entropy(model(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        result.append(loss.item())"""


def data_order() -> Iterator[Case]:
    """The order in which ``DataLoader`` and its friends visit a data set."""
    head = "D = torch.utils.data\ntorch.manual_seed(3)\nd = D.TensorDataset(torch.arange(10))\n"
    yield "shuffle", head + "result = [[b[0] for b in D.DataLoader(d, batch_size=3, shuffle=True)] for _ in range(2)]"
    yield "drop last", head + "result = [b[0] for b in D.DataLoader(d, batch_size=4, shuffle=True, drop_last=True)]"
    yield "in order", head + "result = [[b[0] for b in D.DataLoader(d, batch_size=4)], torch.rand(2)]"
    yield "generator", head + "result = [[b[0] for b in D.DataLoader(d, 4, shuffle=True, generator=torch.Generator().manual_seed(5))], torch.rand(2)]"
    yield "after shuffle", head + "result = [[b[0] for b in D.DataLoader(d, 5, shuffle=True)], torch.rand(2)]"
    yield "random_split", head + "result = [list(s.indices) for s in D.random_split(d, [6, 4])]"
    yield "random_split fractions", head + "result = [list(s.indices) for s in D.random_split(d, [0.5, 0.3, 0.2])]"
    yield "random sampler", head + "result = [list(D.RandomSampler(d)), list(D.RandomSampler(d, replacement=True, num_samples=12))]"
    yield "weighted sampler", head + "result = list(D.WeightedRandomSampler([0.1, 0.9, 0.4], 10))"
    yield "subset sampler", head + "result = list(D.SubsetRandomSampler([1, 5, 7]))"
    yield "batch sampler", head + "result = list(D.BatchSampler(D.SequentialSampler(d), 4, False))"


def errors() -> Iterator[Case]:
    """Calls that must fail: recorded are the type, the first line of the message, and the part of it that matters.

    What only execution can know (an index out of range) is asked for by ``.item()`` or ``.tolist()``: Flambeau raises there.
    """
    head = "x = torch.ones(2, 3)\n"
    nn = "torch.nn."
    calls = {
        "add shapes": "x + torch.ones(2, 4)", "matmul shapes": "x @ x", "mm shapes": "torch.mm(x, x)", "view size": "x.view(5)",
        "view stride": "x.t().view(6)", "reshape size": "x.reshape(4, -1)", "cat sizes": "torch.cat([x, torch.ones(3, 4)])",
        "stack sizes": "torch.stack([x, torch.ones(3)])", "index range": "x[5]", "index dims": "x[0, 0, 0]", "dim range": "x.sum(4)",
        "squeeze range": "x.squeeze(3)", "item many": "x.item()", "bool many": "bool(x)", "float many": "float(x)", "len scalar": "len(torch.tensor(1))",
        "iterate scalar": "list(torch.tensor(1))", "backward no grad": "x.sum().backward()",
        "backward vector": "x.requires_grad_().exp().backward()", "grad of int": "torch.ones(2, dtype=torch.int64, requires_grad=True)",
        "backward twice": "y = x.requires_grad_().exp().sum(); y.backward(); y.backward()", "inplace leaf": "x.requires_grad_().add_(1)",
        "stale": "x.requires_grad_(); y = x.exp(); z = y.exp(); y.add_(1); z.sum().backward()",
        "numpy of grad": "x.requires_grad_().numpy()", "mean of int": "torch.ones(2, dtype=torch.int64).mean()",
        "cast result": "torch.ones(2, dtype=torch.int64).add_(0.5)", "expand size": "x.expand(3, 3)", "permute dims": "x.permute(0)",
        "unknown device": "x.to('gpu')", "negative size": "torch.ones(-1)", "ragged": "torch.tensor([[1, 2], [3]])", "string": "torch.tensor('a')",
        "mixed": "torch.tensor([1, 'a'])", "embedding range": nn + "Embedding(3, 2)(torch.tensor([5])).tolist()",
        "linear input": nn + "Linear(4, 2)(x)", "linear dtype": nn + "Linear(3, 2)(x.double())",
        "label range": nn + "functional.cross_entropy(x, torch.tensor([0, 7])).item()", "label dtype": nn + "functional.cross_entropy(x, torch.tensor([0.5, 1.0]))",
        "label batch": nn + "functional.cross_entropy(x, torch.tensor([0, 1, 2]))", "bce range": nn + "functional.binary_cross_entropy(x + 1, x).item()",
        "dropout p": nn + "Dropout(1.5)", "state dict": nn + "Linear(2, 2).load_state_dict({'weight': torch.zeros(2, 2), 'oops': x})",
        "state dict shape": nn + "Linear(2, 2).load_state_dict({'weight': torch.zeros(3, 2), 'bias': torch.zeros(2)})",
        "module attribute": nn + "Linear(2, 2).weights", "module call": nn + "Module()(x)", "optimizer empty": "torch.optim.SGD([], lr=0.1)",
        "optimizer lr": "torch.optim.SGD([x.requires_grad_()], lr=-1)", "optimizer tensor": "torch.optim.SGD(x, lr=0.1)",
        "no bool": "torch.zeros(0).max()", "topk k": "x.topk(9)", "gather index": "torch.gather(x, 1, torch.tensor([[7]])).tolist()",
        "arange step": "torch.arange(0, 5, -1)", "chunk": "x.chunk(0)", "split sizes": "x.split([1, 2], 1).__len__() and x.split([1, 1], 1)",
        "einsum": "torch.einsum('ij,jk->ik', x, x)", "norm shape": nn + "LayerNorm(4)(x)",
        "conv input": nn + "Conv2d(3, 4, 3)(torch.ones(1, 2, 8, 8))", "batch norm one": nn + "BatchNorm1d(3)(torch.ones(1, 3))",
        "load keys": nn + "Linear(2, 2).load_state_dict({})", "index type": "x['a']", "set shape": "x[0] = torch.ones(4)",
        "masked": "x[torch.tensor([True, False, True])]",
        "division by 0 after another": "y = torch.tensor([4, 6]); y // 2; y // 0", "delete item": "del x[0]", "invert float": "~x", "cat of nothing": "torch.cat([])",
        "unbind scalar": "torch.tensor(1.0).unbind()", "select range": "x.select(0, 5)", "like of list": "torch.zeros_like([1])", "full size": "torch.full(2, 3)",
        "uint8 of negative": "torch.tensor([-1.5], dtype=torch.uint8)", "int8 overflow": "torch.full((2,), 300, dtype=torch.int8)",
        "float overflow": "torch.zeros(2).fill_(1e39)", "write to expanded": "x.expand(2, 2, 3)[:, 0].copy_(x)", "linear of list": nn + "functional.linear([1.0], x)", "multinomial": "torch.multinomial(torch.tensor([-1.0, 2.0]), 1).tolist()",
    }
    for name, call in calls.items():
        yield name, head + call


FILES = {"printing": printing, "tensors": tensors, "random": random_streams, "weights": initial_weights, "training": training, "data": data_order, "errors": errors,
         "distributions": families.cases}


# Where PyTorch's first line says more than the point: the part that Flambeau's message has to have.
KEY_PHRASES = {
    "stale": "one of the variables needed for gradient computation has been modified by an inplace operation",
    "backward twice": "Trying to backward through the graph a second time",
    "unknown device": "device type at start of device string: gpu",
    "permute dims": "does not match the length of the desired ordering of dimensions",
    "optimizer tensor": "params argument given to the optimizer should be an iterable of Tensors or dicts",
}


def exception_of(source: str, torch: Any) -> str:
    """The type of the exception that the last line of ``source`` (the lines before prepare it) raises; "" for none."""
    *before, call = source.split("\n")
    names: dict[str, Any] = {"torch": torch}
    exec("\n".join(before), names)
    try:
        result = eval(call, names)
        if isinstance(result, torch.Tensor) and result.device.type != "meta":
            result.sum().item()     # what is found late is found now
    except Exception as error:
        return type(error).__name__
    return ""


def misused(torch: Any) -> dict[str, list[str]]:
    """For every group of ``misuse.py``, the exceptions of its cases in order."""
    found: dict[str, list[str]] = {}
    for group, source in misuse.cases():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.setdefault(group, []).append(exception_of(source, torch))
    return found


def digest() -> str:
    """What the cases of ``misuse.py`` are, in short."""
    return hashlib.sha256(repr(list(misuse.cases())).encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """A result as JSON has it: tensors as nested lists, tuples as lists."""
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value if isinstance(value, (bool, int, str)) else (float(value) if not math.isnan(value) else "nan")


def carry_out(kind: str, source: str, torch: Any) -> Any:
    """Run one case with ``torch`` meaning the given package; what is returned can be written as JSON.

    Printing and tensors: the text.  Errors: the exception's type and the first line of its message, or None when nothing was raised.
    Everything else: numbers.
    """
    if kind == "distributions":
        return families.Asking(torch).answer(source)
    names: dict[str, Any] = {"torch": torch}
    if kind in ("printing", "tensors") and "result" not in source:
        source = f"result = repr({source})"
    if kind == "errors":
        try:
            exec(source, names)
        except Exception as error:
            text = str(error.args[0]) if error.args else ""
            return {"type": type(error).__name__, "first": (text.strip().splitlines() or [""])[0]}
        return None
    exec(source, names)
    return plain(names["result"])


# Runs a script whose text is wanted and not its pictures: Matplotlib need not be there.
WITHOUT_PICTURES = """
import runpy, sys
from unittest.mock import MagicMock
sys.modules.update({name: MagicMock() for name in ("matplotlib", "matplotlib.pyplot")})
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def main() -> None:
    import torch

    torch.set_num_threads(1)
    RECORDED.mkdir(parents=True, exist_ok=True)
    for kind, cases in FILES.items():
        answers = []
        for name, source in cases():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    answers.append({"name": name, "source": source, "expected": carry_out(kind, source, torch)})
                except Exception as error:
                    raise SystemExit(f"PyTorch cannot do {kind} {name!r}: {type(error).__name__}: {error}") from error
        if kind == "errors":
            quiet = [answer["name"] for answer in answers if answer["expected"] is None]
            assert not quiet, f"PyTorch raises nothing for {quiet}"
            for answer in answers:
                answer["expected"]["phrase"] = KEY_PHRASES.get(answer["name"], answer["expected"]["first"])
                assert answer["expected"]["phrase"] in answer["expected"]["first"]
        lines = ",\n".join(json.dumps(answer, ensure_ascii=False) for answer in answers)
        (RECORDED / f"{kind}.json").write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
        print(f"{kind}: {len(answers)} cases")
    groups = misused(torch)
    (RECORDED / "misuse.json").write_text(json.dumps({"torch": torch.__version__, "cases": digest(), **groups}, indent=None) + "\n")
    print(f"misuse: {sum(map(len, groups.values()))} cases")
    tutorial = subprocess.run([sys.executable, "-c", WITHOUT_PICTURES, str(ROOT / "examples" / "tutorial.py")], cwd=ROOT, capture_output=True, text=True, check=True)
    (RECORDED / "tutorial.txt").write_text(tutorial.stdout)


if __name__ == "__main__":
    main()
