"""First calls: of a class of products, convolutions and norms, and the first training step of small networks.

Each case is a process of its own, started twice: with an empty kernel cache, and again with what that left there.  It makes its operands, takes
the time of the first call, repeats it, and takes the time of a first call with other sizes of the same class, for which nothing may be compiled.
Importing the library, modules that come with a function included, and making operands is not counted; operands come from lists, so no kernel was
needed before (networks have set up their parameters).
"""
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time

LIBRARY = os.environ.get("BENCH_LIBRARY", "")
SHAPES = re.compile(os.environ.get("BENCH_SHAPES", ""))
clock = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter


# ---------------------------------------------------------------------------------------------------- what is called
# A case makes a function of a size; called with one, that makes operands and returns the call.

def data(*shape, **how):
    values = [(i * 7919 % 1999 - 999) / 1000 for i in range(math.prod(shape))]
    return torch.tensor(values, **how).view(shape)


def look(tensor):
    """Something that has to be computed."""
    return tensor.view(-1)[-1].item()


def product(dtype):
    def make(n):
        a, b = (data(n, n, dtype=getattr(torch, dtype)) for _ in range(2))
        return lambda: look(a @ b)
    return make


def linear_relu(n):
    x, w, b, linear, relu = data(n, 784), data(256, 784), data(256), functional.linear, functional.relu
    return lambda: look(relu(linear(x, w, b)))


def convolution(channels, kernel, gradients=False, **how):
    def make(size):
        x = data(2, channels, size, size).requires_grad_(gradients)
        w = data(channels, channels // how.get("groups", 1), kernel, kernel).requires_grad_(gradients)
        conv2d = functional.conv2d

        def call():
            y = conv2d(x, w, padding=kernel // 2, **how)
            if not gradients:
                return look(y)
            (y * y).sum().backward()
            return look(x.grad), look(w.grad)
        return call
    return make


def layer_norm(rows):
    x, w, b = data(rows, 256).requires_grad_(), data(256).requires_grad_(), data(256).requires_grad_()
    layer_norm = functional.layer_norm

    def call():
        y = layer_norm(x, (256,), w, b)
        (y * y).sum().backward()
        return look(x.grad), look(w.grad)
    return call


def training(model, inputs, loss_of):
    """The first step of a network, then one on other inputs."""
    optimizer = torch.optim.Adam(model.parameters())
    for p in model.parameters():
        look(p.detach())

    def make(size):
        x = inputs(size)

        def call():
            optimizer.zero_grad()
            loss = loss_of(model(x))
            loss.backward()
            optimizer.step()
            return loss.item()
        return call
    return make


def cnn():
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 10))
    return training(model, lambda n: data(n, 1, 28, 28), lambda y: functional.cross_entropy(y, torch.zeros(len(y), dtype=torch.int64)))


def encoder():
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, dropout=0.0)
    return training(model, lambda n: data(8, n, 64), lambda y: (y * y).mean())


def lstm():
    model = nn.LSTM(32, 64, batch_first=True)
    return training(model, lambda n: data(8, n, 32), lambda y: (y[0] * y[0]).mean())


CASES = {       # how to make the function of a size, then two sizes
    "product": (lambda: product("float32"), 256, 300),
    "product, bfloat16": (lambda: product("bfloat16"), 256, 320),
    "linear, bias, ReLU": (lambda: linear_relu, 96, 128),
    "convolution 3x3": (lambda: convolution(64, 3), 28, 32),
    "convolution 3x3, gradients": (lambda: convolution(64, 3, True), 28, 32),
    "convolution 1x1": (lambda: convolution(64, 1), 28, 32),
    "convolution 3x3 depthwise": (lambda: convolution(64, 3, groups=64), 28, 32),
    "layer norm, gradients": (lambda: layer_norm, 64, 80),
    "small CNN, step": (cnn, 80, 96),
    "encoder layer, step": (encoder, 32, 40),
    "LSTM, step": (lstm, 20, 40),
}


# ---------------------------------------------------------------------------------------------------- one process

def seconds(call):
    start = clock()
    call()
    return clock() - start


def one(name):
    case, size, other = CASES[name]
    make = case()
    call = make(size)
    found = {"first": seconds(call)}
    call()          # an optimizer has a state now
    if LIBRARY == "flambeau":
        from flambeau.runtime.cpu import STATS
        found["kernels"] = STATS["compiled"]
    found["other"] = seconds(make(other))
    if LIBRARY == "flambeau":
        found["new_kernels"] = STATS["compiled"] - found["kernels"]
    print(json.dumps(found))


# ---------------------------------------------------------------------------------------------------- all of them

def run(name, cache):
    how = ["-m", "flambeau", "run"] if LIBRARY == "flambeau" else []
    output = subprocess.run([sys.executable, *how, __file__, name], env={**os.environ, "FLAMBEAU_CACHE": cache}, check=True, capture_output=True, text=True)
    return json.loads(output.stdout)


def main():
    found = []
    for name in CASES:
        if not SHAPES.search(name):
            continue
        with tempfile.TemporaryDirectory() as cache:
            cold = run(name, cache)
            warm = run(name, cache) if LIBRARY == "flambeau" else {}
        found.append({"name": name, **cold, **({"warm": warm["first"]} if warm else {})})
    print(json.dumps({"first_calls": found}))


if sys.argv[1:]:
    import torch
    from torch import nn
    from torch.nn import functional

    one(sys.argv[1])
else:
    main()
