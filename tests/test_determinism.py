"""The same bits run after run, for any number of threads, with a cold, warm or no cache, at sizes at which work is shared out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import flambeau as torch

ROOT = Path(__file__).resolve().parent.parent

PROGRAM = """
import hashlib, sys
import flambeau as torch
nn, F = torch.nn, torch.nn.functional
torch.manual_seed(0)

def show(name, *tensors):
    print(name, *[hashlib.sha256(t.detach().contiguous().numpy().tobytes()).hexdigest()[:16] for t in tensors])

x = torch.randn(700, 1100)
show("sums", x.sum(), x.sum(0), x.sum(1), x.double().sum(), x.mean(), x.var(1), x.std(0), x.prod(1), x.norm(), x.logsumexp(1))
show("totals", x.cumsum(0), x.cumsum(1), x.exp().sum(), (x.exp() * x.sin()).sum(0))
show("rows", x.softmax(1), x.log_softmax(0), F.layer_norm(x, (1100,)))
show("products", x @ x.t(), x[:64] @ x.t(), x.t() @ x[:, :3], torch.einsum("ij,kj->ik", x[:33], x[:65]))

a = torch.randn(300, 500, requires_grad=True)
w = torch.randn(500, 130, requires_grad=True)
loss = F.cross_entropy(torch.relu(a @ w), torch.arange(300) % 130)
loss.backward()
show("gradients", loss, a.grad, w.grad)

table = torch.randn(50, 40, requires_grad=True)
(F.embedding(torch.arange(20000) * 7 % 50, table) * torch.randn(20000, 40)).sum().backward()
show("scatter", table.grad, torch.zeros(50).index_add(0, torch.arange(20000) * 3 % 50, torch.randn(20000)))

images = torch.randn(8, 3, 32, 32, requires_grad=True)
conv = nn.Conv2d(3, 16, 3, padding=1)
F.max_pool2d(F.batch_norm(conv(images), None, None, training=True), 2).square().mean().backward()
show("convolution", images.grad, conv.weight.grad, conv.bias.grad)

model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Dropout(0.1), nn.Linear(256, 10))
optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
for _ in range(4):
    optimizer.zero_grad()
    loss = F.cross_entropy(model(torch.randn(256, 64)), torch.randint(10, (256,)))
    loss.backward()
    optimizer.step()
show("training", loss, *model.parameters())
"""


def run(cache, **environment):
    everything = {**os.environ, "PYTHONPATH": str(ROOT), "FLAMBEAU_CACHE": str(cache), **environment}
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PROGRAM], capture_output=True, text=True, env=everything, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_same_bits_for_any_number_of_threads_and_any_cache(tmp_path):
    (tmp_path / "file").write_text("no directory")
    first = run(tmp_path / "cache")
    assert len(first) == 8
    for threads in ("1", "2", "3", "8"):
        assert run(tmp_path / "cache", OMP_NUM_THREADS=threads) == first, f"{threads} threads, warm"
    assert run(tmp_path / "file", OMP_NUM_THREADS="2") == first, "no cache"


def test_the_number_of_threads_changes_no_bit_in_one_process():
    before = torch.get_num_threads()
    x = torch.randn(900, 1300)
    w = torch.randn(1300, 70)

    def values():
        a = (x.exp() * x).sum(0)
        return [t.tolist() for t in (a, x.sum(), x.softmax(1).sum(0), x @ w, x.t() @ (x @ w), x.var())]
    try:
        torch.set_num_threads(1)
        first = values()
        for threads in (2, 3, 5):
            torch.set_num_threads(threads)
            assert values() == first
    finally:
        torch.set_num_threads(before)
