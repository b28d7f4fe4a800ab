"""``flambeau.explain``: what was recorded, which kernels it became, what they move and compute, what was cached, why kernels are apart."""

import re

import pytest
from test_fuzz import renderer

import flambeau as torch
from flambeau.core import config

nn, F = torch.nn, torch.nn.functional
native = pytest.mark.skipif(config.renderer == "reference", reason="nothing is compiled here")
N = 1000


def chain(x):
    return (x.exp() + 1).sqrt()


def at_hand(*shape):
    x = torch.rand(*shape)
    x.tolist()
    return x


def test_calls_kernels_bytes_and_operations():
    x = at_hand(N)
    report = torch.explain(lambda v: chain(v).tolist(), x)
    (flush,), text = report.flushes, str(report)
    assert [c.split()[0] for c in flush.calls] == ["exp", "add", "sqrt"]
    (launch,) = flush.launches
    assert launch["origins"] == [0, 1, 2]
    assert (launch["read"], launch["written"]) == (4 * N, 4 * N)
    assert launch["operations"] >= 3 * N
    assert f"exp (float32[{N}] %0) -> float32[{N}] %1" in text
    assert "kernel 0: calls [0, 1, 2] (exp, add, sqrt)" in text
    assert "reads 3.9 KiB, writes 3.9 KiB" in text
    assert report.kernels == 1 and "1 flush, 1 launch," in text
    assert report.result == pytest.approx(chain(x).tolist())


def test_the_result_is_the_functions():
    report = torch.explain(chain, torch.zeros(2))
    assert report.result.tolist() == pytest.approx([2 ** 0.5] * 2)


def test_bytes_are_those_of_distinct_elements():
    row, x = at_hand(1, 50), at_hand(40, 50)
    (flush,) = torch.explain(lambda: (x * row).tolist()).flushes
    assert flush.launches[0]["read"] == 4 * (40 * 50 + 50)


def test_what_no_kernel_stores_is_not_written():
    x = at_hand(100, 100)
    (flush,) = torch.explain(lambda: (x.exp() * 2).sum().item()).flushes
    assert sum(launch["written"] for launch in flush.launches) <= 4096 < x.numel() * 4


REASONS = [
    (lambda x: (x.exp().tolist(), (x + 1).tolist()), 0, None),      # two flushes: nothing to be apart from
    (lambda x: ((x + 1).sum(), at_hand(7) * 2), 1, "it shares no data with the launch before"),
    (lambda x: torch.cumsum(x, 0).sum(), 1, "scans and scatters run on their own"),
    (lambda x: torch.searchsorted(x, x + 1) + 1, 1, "a library routine"),
    (lambda x: torch.cumsum(x, 0)[torch.arange(5) * 3], 1, "scans and scatters|at places that depend on data"),
    (lambda x: (lambda y: (y, y[torch.arange(40) * 3 % 7]))(x.exp() * 2), 1, "at places that depend on data"),
]


@pytest.mark.parametrize(("fn", "apart", "reason"), REASONS, ids=[str(r[2]) for r in REASONS])
def test_why_kernels_are_apart(fn, apart, reason):
    report = torch.explain(fn, at_hand(60))
    reasons = [launch["apart"] for f in report.flushes for launch in f.launches if launch["apart"]]
    assert len(reasons) >= apart
    if reason:
        assert any(re.search(reason, r) for r in reasons), reasons
        assert re.search(f"not fused with the one before: .*{reason}", str(report))
    else:
        assert not reasons


def test_loops_that_do_not_match_are_named():
    x, w = at_hand(64, 8), at_hand(8, 3)
    report = torch.explain(lambda: ((x * 2).relu() @ w).sum(0).tolist())
    reasons = [launch["apart"] for f in report.flushes for launch in f.launches if launch["apart"]]
    assert all(re.fullmatch(r"its loops \(.*\) do not match \(.*\)|it needs elements .*|it shares .*", r) for r in reasons), reasons


def test_loop_ir_on_request():
    x = at_hand(N)
    plain, loops = (str(torch.explain(chain, x, ir=ir)) for ir in (None, "loops"))
    assert "exp(" in loops and "for " in loops
    assert "for " not in plain


def test_llvm_ir_on_request():
    text = str(torch.explain(chain, at_hand(N), ir="llvm"))
    assert re.search(r"define .*\(", text) and "fma" in text


def test_another_form_of_ir_is_refused():
    with pytest.raises(ValueError, match="'loops' or 'llvm'"):
        torch.explain(chain, torch.ones(2), ir="ptx")


@native
def test_cache_hits():
    torch.manual_seed(0)
    shape = 3, 5, 7, 2

    def use(n):
        for _ in range(n):
            (at_hand(*shape).exp().tanh().sum(2).cos() + 3.25).tolist()
    first = torch.explain(use, 1)
    again = torch.explain(use, 4)
    assert first.compiled + first.disk_hits > 0
    assert again.compiled == again.disk_hits == 0       # in memory already
    assert "plans: 2 made, 6 found in the cache" in str(again)
    assert "4 times: flush" in str(again)
    assert "machine code: 0 compiled, 0 from the disk cache," in str(again)


def test_parts_of_one_flush_are_all_told():
    table, w = at_hand(4, 3), torch.zeros(3)
    w.tolist()

    def use():
        row = table[torch.tensor([1, 2])]
        w.add_(1)                       # after a call that may fail: a part of its own
        return (row + w).tolist()
    report = torch.explain(use)
    assert len(report.flushes) == 2
    assert re.search(r"call 0 +_index.*kernel 0: calls \[0\] \(_index\).*call 1 +add.*calls \[1(, 2)?\] \(add", str(report), re.DOTALL)
    assert "plans: 2 made, 0 found" in str(report)


def test_a_training_step():
    model, optimizer_of = nn.Linear(3, 1), torch.optim.SGD
    optimizer = optimizer_of(model.parameters(), 0.1)
    x, t = at_hand(8, 3), at_hand(8, 1)

    def step():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), t)
        loss.backward()
        optimizer.step()
        return loss.item()
    step()
    report = torch.explain(step)
    assert "MseLossBackward0" in str(report) and "sgd" in str(report).lower()
    assert report.result == pytest.approx(report.result)


def test_what_a_failed_function_recorded():
    with pytest.raises(IndexError, match="index 9 is out of bounds"):
        torch.explain(lambda: at_hand(3)[torch.tensor([9])].tolist())
    assert chain(torch.zeros(1)).tolist() == pytest.approx([2 ** 0.5])
    assert torch.explain(chain, at_hand(3)).kernels == 1


def test_inside_the_reference_interpreter():
    with renderer(True):
        x = at_hand(N)
        report = torch.explain(lambda: chain(x).tolist())
    assert report.kernels == 1                  # what it would be
    assert "NumPy interpreted the calls one by one" in str(report)
    assert "machine code: none" in str(report)


def test_eager_calls_are_flushes_of_their_own():
    x = at_hand(N)
    with torch.eager():
        report = torch.explain(lambda: chain(x).tolist())
    assert len(report.flushes) == report.kernels == 3


def test_nothing():
    assert "nothing was executed" in str(torch.explain(lambda: None))


@native
def test_products_say_how_they_are_blocked_and_how_fast_they_were():
    a, b = torch.randn(300, 200), torch.randn(200, 400)
    text = str(torch.explain(lambda: torch.relu(a @ b)))
    assert "300 x 400, k 200: packed in blocks of 154 rows by 200 of k" in text
    assert re.search(r"\d+ µs, [\d.]+ GFLOPS, \d+% of the peak of \d+ thread", text)
    twice = str(torch.explain(lambda: [(a @ b).sum().item() for _ in range(2)]))
    assert twice.startswith("2 times: flush") and twice.count("GFLOPS") == 1
    small = torch.randn(3, 200)
    assert "3 x 400, k 200: inner products" in str(torch.explain(lambda: small @ torch.randn(400, 200).t()))
    x, w = torch.randn(2, 16, 20, 20), torch.randn(32, 16, 7, 7)
    assert "the image copied once a unit" in str(torch.explain(lambda: torch.conv2d(x, w)))
    whole = torch.ones(60, 60, dtype=torch.int64)
    assert " GOPS" in str(torch.explain(lambda: whole @ whole))


@native
def test_softmax_computes_each_exp_once_and_leaves_it_in_the_cache():
    x = torch.randn(8, 100)
    text = str(torch.explain(lambda: torch.softmax(x, -1), ir="loops"))
    assert text.count("+= exp") + text.count("sum= exp") == 1 and "p1 <- (p1 / r1)" in text      # the last pass divides what the second one stored
    narrow = str(torch.explain(lambda: torch.softmax(x.bfloat16(), -1), ir="loops"))
    assert "exp" in narrow.rpartition("<-")[2]          # a result that rounds is no place to keep it


def arena(f):
    return re.search(r"arena ([\d.]+ \w+)", str(torch.explain(f)))[1]


@native
def test_scores_are_masked_in_passing_and_kept_once():
    q, k = torch.randn(2, 12, 256, 64).unbind()
    mask = torch.ones(256, 256, dtype=torch.bool).tril()
    masked = arena(lambda: torch.softmax(torch.where(mask, q @ k.mT, float("-inf")), -1))
    assert masked == arena(lambda: torch.softmax(q @ k.mT, -1))
