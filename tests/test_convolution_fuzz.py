"""Random convolutions, transposed ones and all their gradients as the engine chooses to compute them, against the loops of their formulas.

Types, layouts, strides, dilations, groups, padding, what follows, and the number of threads vary.  ``FLAMBEAU_FUZZ_SECONDS=3600`` looks for an
hour; a seed that fails is in the message (``FLAMBEAU_FUZZ_SEED``).
"""

import itertools
import os
import random
import time
from contextlib import contextmanager

import numpy as np
import pytest

import flambeau as torch
from flambeau.runtime import images
from flambeau.stream import flush

pytest.importorskip("llvmlite")
F = torch.nn.functional
SECONDS = float(os.environ.get("FLAMBEAU_FUZZ_SECONDS", "4"))
KINDS = [torch.float32] * 5 + [torch.float64, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32]
UNIT = {torch.float64: 2.0**-53, torch.float32: 2.0**-24, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
FORMS = {
    "as chosen": {},
    "packed": {"contract.WORTH": 0, "contract.PACKING": -1},
    "direct": {"contract.WORTH": 0, "contract.PACKING": 1 << 40, "contract.FEW": 1},
    "Winograd": {f"winograd.{limit}": 0 for limit in ("CHANNELS", "BOTH_CHANNELS", "TILES", "SAVED")},
    "loops": {"contract.WORTH": 1 << 60, "config.winograd": False},
}


@contextmanager
def form(name):
    """Make plans in one form; they are neither found nor left anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        if FORMS[name]:
            patch.setattr(images, "get", lambda *key: None)
            patch.setattr(images, "put", lambda *key: None)
        for word, value in FORMS[name].items():
            patch.setattr(f"flambeau.{'core' if word.startswith('config') else 'schedule'}.{word}", value)
        flush.forget()
        yield
        flush.forget()


def problem(seed):
    """Operands as float64 arrays and how to lay them out, the call, what follows it."""
    r, g = random.Random(seed), np.random.default_rng(seed)
    kind = r.choice(KINDS)
    n = r.choice([1, 2, 2, 2, 3])
    most = {1: 200, 2: 30, 3: 9}[n]
    transposed = r.random() < 0.3
    usual = r.random() < 0.4            # what Winograd's algorithm and kernels of their own are for
    groups = r.choice([1, 1, 1, 1, 2, 3, 0])
    depthwise = groups == 0
    groups = r.choice([4, 8, 17, 32]) if depthwise else groups
    while True:
        kernel = [3] * n if usual else [r.choice([1, 2, 3, 3, 4, 5, 7]) for _ in range(n)]
        how = {"stride": [1 if usual else r.choice([1, 1, 2, 3]) for _ in range(n)], "padding": [r.choice([0, 1, 1, 2, 4]) for _ in range(n)],
               "dilation": [1 if usual else r.choice([1, 1, 1, 2, 3]) for _ in range(n)], "groups": groups}
        if transposed:
            how["output_padding"] = [r.randint(0, max(s, d) - 1) for s, d in zip(how["stride"], how["dilation"])]
        size = [r.randint(1, most) for _ in range(n)]
        spans = list(zip(size, kernel, how["stride"], how["padding"], how["dilation"]))
        out = [(z - 1) * s - 2 * p + d * (k - 1) + 1 if transposed else (z + 2 * p - d * (k - 1) - 1) // s + 1 for z, k, s, p, d in spans]
        if min(out) > 0:
            break
    each = (1, r.choice([1, 1, 2])) if depthwise else (r.choice([1, 2, 3, 5, 16, 33]), r.choice([1, 2, 5, 7, 16, 30]))
    c, o = groups * each[0], groups * each[1]
    if transposed:
        c, o = (o, c) if depthwise and each[1] == 1 else (c, o)
    shapes = [(r.choice([1, 1, 2, 5]), c, *size), (c, o // groups, *kernel) if transposed else (o, c // groups, *kernel), (o,)]
    integral = not kind.is_floating_point or r.random() < 0.5
    contents = [g.integers(-4, 5, s).astype(np.float64) if integral else g.standard_normal(s) for s in shapes]
    spread = [[r.choice([1, 1, 1, 2]) for _ in s] for s in shapes] if r.random() < 0.5 else None
    order = [r.sample(range(len(s)), len(s)) for s in shapes[:2]] if r.random() < 0.4 else None
    return kind, n, transposed, contents, spread, order, how, r.choice(["", "relu", "tanh", "add", "scale"]), integral, r.random() < 0.7


def placed(content, kind, spread, order):
    """A tensor of these contents with gaps between its elements, or its axes in another order in memory."""
    if order is not None:
        content = np.ascontiguousarray(content.transpose(order)).transpose(np.argsort(order))
    if spread is not None:
        wide = np.full([z * s + 1 for z, s in zip(content.shape, spread)], 99.0)
        picked = tuple(slice(1, 1 + z * s, s) for z, s in zip(content.shape, spread))
        wide[picked] = content
        return torch.from_numpy(wide).to(kind)[picked]
    return torch.from_numpy(content).to(kind)


def computed(seed, kind=None):
    own, n, transposed, contents, spread, order, how, after, _, gradients = problem(seed)
    kind = kind or own
    gradients = gradients and own.is_floating_point
    layouts = [(spread and spread[0], order and order[0]), (spread and spread[1], order and order[1]), (None, None)]
    x, w, b = (placed(t, own, *at).to(kind) for t, at in zip(contents, layouts))
    if gradients:
        x, w, b = (t.detach().requires_grad_() for t in (x, w, b))
    y = getattr(F, f"conv_transpose{n}d" if transposed else f"conv{n}d")(x, w, b if seed % 3 else None, **how)
    plain = y
    if after == "relu":
        y = y.relu()
    elif after == "tanh" and own.is_floating_point:
        y = (y * 0.01).tanh()
    elif after == "add":
        y = y + y.flip(-1).detach() if own.is_floating_point else y + 1
    elif after == "scale":
        y = y * 2
    results = [plain.detach(), y.detach()]
    if gradients:
        wanted = [x, w] + [b] * (seed % 3 > 0)
        seeds = torch.from_numpy(np.random.default_rng(seed + 1).integers(-3, 4, y.shape).astype(np.float64)).to(own).to(kind)
        results += torch.autograd.grad(y, wanted, seeds)
    return [t.to(torch.float64).numpy().copy() if kind.itemsize == 2 else t.numpy().copy() for t in results]


def check(seed):
    kind, n, transposed, contents, _, _, how, after, integral, _ = problem(seed)
    wide = torch.float64 if kind.is_floating_point else kind
    text = f"seed {seed}: {kind} {'transposed ' if transposed else ''}{[t.shape for t in contents]} {how} {after}"
    with form("loops"):
        want = computed(seed, wide)
    for name in ("as chosen", *random.Random(seed).sample(["packed", "direct", "Winograd"], 1)):
        with form(name):
            threads = torch.get_num_threads()
            one = None
            for count in (1, 2):
                torch.set_num_threads(count)
                try:
                    got = computed(seed)
                finally:
                    torch.set_num_threads(threads)
                if one is not None:
                    assert [t.tobytes() for t in got] == [t.tobytes() for t in one], f"two threads give other bits, {name}, {text}"
                one = got
        for k, (a, e) in enumerate(zip(one, want, strict=True)):
            assert a.shape == e.shape and a.dtype == (np.float64 if kind.itemsize == 2 else e.dtype if kind is wide else np.float32), text
            if not kind.is_floating_point:
                assert np.array_equal(a, e), f"{name}, result {k}, {text}"
                continue
            scale = np.sqrt(np.mean(e * e)) + np.abs(e) if e.size else e
            terms = max(1, contents[0].size, contents[1].size) ** 0.5
            off = np.abs(a - e) - (2 if kind.itemsize == 2 else 8 + terms) * 4 * UNIT[kind] * scale - 1e-300
            if kind.itemsize == 2:
                off = off - 2.0**-24
                if after == "relu" or after == "tanh":     # a gradient turns on the side of 0 that a rounded result lies on
                    off = off[:0] if k > 1 else off
            elif after == "relu" and k > 1 and not (integral and max(contents[1].shape[2:]) <= 3):      # likewise; five taps are not computed exactly
                off = off[:0]
            assert off.size == 0 or off.max() <= 0, f"{name}, result {k} is off by {np.abs(a - e).max()} of {np.abs(e).max()}, {text}"


@pytest.mark.parametrize("seed", range(12))
def test_some(seed):
    check(seed)


@pytest.mark.slow
def test_fuzz():
    start = int(os.environ.get("FLAMBEAU_FUZZ_SEED", time.time_ns() // 1000 % 10**9))
    end = time.monotonic() + SECONDS
    for seed in itertools.count(start):
        if time.monotonic() > end:
            print(f"{seed - start} cases")
            break
        check(seed)
