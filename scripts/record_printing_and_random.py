"""Asks PyTorch for the text of random tensors and for its random streams; ``tests/test_printing.py`` and
``tests/test_random.py`` compare without it.

Unlike ``record_torch.py``, whose cases run through whole tensors, these files hold raw values, so that the two modules
are tested by themselves.  Run it with PyTorch installed; it writes ``tests/recorded/printed.json`` and ``streams.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

RECORDED = Path(__file__).resolve().parent.parent / "tests" / "recorded"
FLOATS = ("float32", "float64", "float16", "bfloat16")


def printed(count: int = 240) -> list[dict[str, Any]]:
    """Random tensors under random options: the options, the values and PyTorch's text."""
    rng = random.Random(0)
    torch.manual_seed(0)
    cases = []
    while len(cases) < count:
        options = {"precision": rng.choice([4, 4, 4, 0, 1, 2, 6]), "threshold": rng.choice([1000, 1000, 10, 50]),
                   "edgeitems": rng.choice([3, 3, 1, 2, 0]), "linewidth": rng.choice([80, 80, 40, 20, 120]),
                   "sci_mode": rng.choice([None, None, None, True, False])}
        if rng.random() < 0.4:
            options = {"profile": rng.choice(["default", "default", "short", "full"])}
        default = rng.choice(["float32"] * 5 + ["float64", "bfloat16"])
        shape = [rng.choice([0, 1, 2, 3, 5, 7, 8, 13]) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
        if math.prod(shape) > 120:
            continue
        name = rng.choice(["float32"] * 6 + [*FLOATS, "int64", "int64", "bool", "uint8", "int8", "int16", "int32"])
        dtype = getattr(torch, name)
        x = torch.randn(shape, dtype=torch.float64)
        if dtype.is_floating_point:
            kind = rng.randrange(7)
            if kind == 0:
                x = x * 10 ** rng.uniform(-8, 10)
            elif kind == 1:
                x = (x * 10 ** rng.uniform(0, 9)).round()
            elif kind == 2:
                x = x * 10 ** (torch.rand(shape, dtype=torch.float64) * rng.uniform(1, 12) - 4)
            elif kind == 3:
                x = x.round()
            elif kind == 4:
                x = (x * 3).round() / 4
            if rng.random() < 0.3:
                special = torch.tensor(rng.choice([math.inf, -math.inf, math.nan, -0.0]), dtype=torch.float64)
                x = torch.where(torch.rand(shape) < rng.choice([0.05, 0.3, 0.9]), special, x)
        else:
            x = x * (3 if dtype is torch.bool else 100) ** rng.uniform(0, 1)
        x = x.to(dtype)
        if dtype.is_floating_point:
            flag = rng.random()
            if flag < 0.2:
                x.requires_grad_()
            elif flag < 0.3:
                x = rng.choice([torch.clone, torch.relu])(x.requires_grad_())
        torch.set_printoptions(profile="default")
        torch.set_printoptions(**options)
        torch.set_default_dtype(getattr(torch, default))
        node = None if x.grad_fn is None else x.grad_fn.name()
        cases.append({"options": options, "default": default, "dtype": name, "shape": shape, "values": x.flatten().tolist(),
                      "requires_grad": x.requires_grad, "grad_fn": node, "text": repr(x)})
        torch.set_default_dtype(torch.float32)
    torch.set_printoptions(profile="default")
    return cases


def fingerprint(values: list[float]) -> str:
    """A short digest of the exact values."""
    return hashlib.sha256(struct.pack(f"<{len(values)}d", *values)).hexdigest()[:16]


def streams() -> dict[str, Any]:
    """Per distribution and type: sizes 0 to 40 drawn after one another from one seed, as digests, and one draw in full."""

    def draws(dtype: torch.dtype) -> dict[str, Callable[[int], torch.Tensor]]:
        def new(n: int) -> torch.Tensor:
            return torch.empty(n, dtype=dtype)

        return {
            "uniform": lambda n: torch.rand(n, dtype=dtype),
            "uniform bounds": lambda n: new(n).uniform_(-0.37, 0.81),
            "normal": lambda n: torch.randn(n, dtype=dtype),
            "normal moments": lambda n: new(n).normal_(0.3, 1.7),
            "normal strided": lambda n: torch.empty(2 * n + 2, dtype=dtype)[2::2].normal_(0.3, 1.7),
            "bernoulli": lambda n: new(n).bernoulli_(0.3),
            "bernoulli tensor": lambda n: torch.bernoulli((torch.arange(n) / 64).to(dtype)),
            "exponential": lambda n: new(n).exponential_(0.7),
            "geometric": lambda n: new(n).geometric_(0.2),
            "cauchy": lambda n: new(n).cauchy_(0.5, 1.5),
            "log normal": lambda n: new(n).log_normal_(0.5, 0.25),
            "range of type": lambda n: new(n).random_(),
            "multinomial": lambda n: torch.multinomial(((torch.arange(2 * (n + 2)) * 37 % 23 + 1) / 64).to(dtype).view(2, n + 2), 1),
            "multinomial replacement":
                lambda n: torch.multinomial(((torch.arange(2 * (n + 2)) * 37 % 23 + 1) / 64).to(dtype).view(2, n + 2), 7, True),
        }

    recorded: dict[str, Any] = {}
    for name in FLOATS:
        for what, draw in draws(getattr(torch, name)).items():
            torch.manual_seed(42)
            values = [draw(n).flatten().tolist() for n in range(41)]
            recorded[f"{what}, {name}"] = {
                "digests": [fingerprint(v) for v in values], "sample": values[21], "state": state_digest()}
    integers = {
        "range of int8": lambda n: torch.empty(n, dtype=torch.int8).random_(),
        "range of uint8": lambda n: torch.empty(n, dtype=torch.uint8).random_(),
        "range of int32": lambda n: torch.empty(n, dtype=torch.int32).random_(),
        "range of bool": lambda n: torch.empty(n, dtype=torch.bool).random_(),
        "integers": lambda n: torch.randint(-5, 7, (n,)),
        "integers below wide": lambda n: torch.randint(0, 2**28 - 1, (n,)),
        "integers wide": lambda n: torch.randint(-3, 2**28 - 3, (n,)),
        "integers 2**50": lambda n: torch.randint(0, 2**50, (n,)),
        "permutation": lambda n: torch.randperm(n),
    }
    for what, draw in integers.items():
        torch.manual_seed(42)
        values = [draw(n).tolist() for n in range(41)]
        recorded[what] = {"digests": [fingerprint(v) for v in values], "sample": values[21], "state": state_digest()}
    for seed in (0, 1, 12345, 2**32 + 5, 2**63, -1):
        torch.manual_seed(seed)
        recorded[f"seed {seed}"] = {"sample": torch.randint(0, 2**28 - 1, (5,)).tolist(), "state": state_digest()}
    torch.manual_seed(7)
    recorded["large normal"] = {"digests": [fingerprint(torch.randn(2003).tolist())], "state": state_digest()}
    torch.manual_seed(7)
    torch.randn(3)
    recorded["state"] = bytes(torch.get_rng_state().tolist()).hex()[:64] + "..." + bytes(torch.get_rng_state().tolist()).hex()[-80:]
    return recorded


def state_digest() -> str:
    """Digest of the default generator's whole state: what follows is then the same too."""
    return hashlib.sha256(bytes(torch.get_rng_state().tolist())).hexdigest()[:16]


if __name__ == "__main__":
    torch.set_num_threads(1)
    (RECORDED / "printed.json").write_text(json.dumps(printed(), indent=0) + "\n")
    (RECORDED / "streams.json").write_text(json.dumps(streams(), indent=0) + "\n")
