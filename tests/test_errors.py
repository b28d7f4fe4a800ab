"""Bad input: PyTorch's exception, at the user's line, with a message that names operation, shapes and remedy; then everything goes on."""

import os
import re
import sys
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.stream import flush

F = torch.nn.functional


@pytest.fixture(autouse=True)
def usable_afterwards():
    yield
    x = torch.arange(6.0, requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.tolist() == [0, 2, 4, 6, 8, 10]


def line_of(mark):
    """The number of the line of this file that ends in ``# <mark>``."""
    with open(__file__) as f:
        return next(i for i, text in enumerate(f, 1) if text.rstrip().endswith(f"# {mark}"))


def refusal(kind, fn):
    with pytest.raises(kind) as caught:
        fn()
    return str(caught.value)


# ---------------------------------------------------------------- found in the call

AT_ONCE = [
    (RuntimeError, lambda: torch.ones(2, 3) + torch.ones(2, 4), ["must match", "3", "4"]),
    (RuntimeError, lambda: torch.ones(2, 3) @ torch.ones(2, 3), ["mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"]),
    (RuntimeError, lambda: torch.ones(2, 3) @ torch.ones(3, 3).double(), ["dtype"]),
    (RuntimeError, lambda: torch.ones(6).view(4, 2), ["shape '[4, 2]' is invalid for input of size 6"]),
    (RuntimeError, lambda: torch.ones(2, 3).t().view(6), ["view size is not compatible", "reshape"]),
    (IndexError, lambda: torch.ones(3)[3], ["index 3 is out of bounds for dimension 0 with size 3"]),
    (IndexError, lambda: torch.ones(3)[0, 0], ["too many indices for tensor of dimension 1"]),
    (IndexError, lambda: torch.ones(3).sum(1), ["Dimension out of range (expected to be in range of [-1, 0], but got 1)"]),
    (RuntimeError, lambda: torch.ones(2).item(), ["a Tensor with 2 elements cannot be converted to Scalar", "[2]"]),
    (RuntimeError, lambda: bool(torch.ones(2)), ["Boolean value of Tensor with more than one value is ambiguous", ".any()"]),
    (RuntimeError, lambda: torch.ones(2).backward(), ["does not require grad"]),
    (RuntimeError, lambda: torch.ones(2, requires_grad=True).mul(2).backward(), ["grad can be implicitly created only for scalar outputs", "[2]"]),
    (RuntimeError, lambda: torch.ones(2, requires_grad=True).add_(1), ["a leaf Variable that requires grad", "no_grad"]),
    (RuntimeError, lambda: torch.ones(2, requires_grad=True).numpy(), ["detach().numpy()"]),
    (RuntimeError, lambda: torch.tensor([1, 2], requires_grad=True), ["Only Tensors of floating point"]),
    (RuntimeError, lambda: torch.arange(3).add_(0.5), ["can't be cast to the desired output type Long"]),
    (RuntimeError, lambda: torch.ones(3).add_(torch.ones(2, 3)), ["doesn't match the broadcast shape [2, 3]"]),
    (RuntimeError, lambda: torch.zeros(3).expand(2, 3).add_(1), ["more than one element of the written-to tensor", "clone()"]),
    (TypeError, lambda: torch.ones(2) + "text", ["str"]),
    (TypeError, lambda: torch.exp([1.0]), ["must be Tensor", "list"]),
    (TypeError, lambda: torch.tensor(["a"]), ["str"]),
    (ValueError, lambda: torch.tensor([[1, 2], [3]]), ["expected sequence of length 2 at dim 1 (got 1)"]),
    (TypeError, lambda: torch.from_numpy(np.array([1, "a"], dtype=object)), ["can't convert np.ndarray of type numpy.object_"]),
    (TypeError, lambda: torch.from_numpy([1.0]), ["expected np.ndarray (got list)"]),
    (ValueError, lambda: torch.from_numpy(np.arange(3)[::-1]), ["stride", "copy"]),
    (RuntimeError, lambda: torch.cat([torch.ones(2, 3), torch.ones(2, 4)]), ["Sizes of tensors must match except in dimension 0"]),
    (RuntimeError, lambda: torch.stack([torch.ones(2), torch.ones(3)]), ["stack expects each tensor to be equal size"]),
    (RuntimeError, lambda: torch.zeros(2, 3).copy_(torch.ones(4)), ["must match the existing size"]),
    (RuntimeError, lambda: torch.ones(2, device="meta") + torch.ones(2), ["meta", "cpu"]),
    (TypeError, lambda: torch.ones(2).sum(nonsense=1), ["nonsense"]),
    (RuntimeError, lambda: torch.ones(2).to("cuda"), []),
]


@pytest.mark.parametrize(("kind", "fn", "words"), AT_ONCE, ids=[str(n) for n in range(len(AT_ONCE))])
def test_refused_in_the_call(kind, fn, words):
    if kind is RuntimeError and not words:
        kind = (RuntimeError, AssertionError)
    text = refusal(kind, fn)
    for word in words:
        assert word in text, text


def test_the_traceback_ends_in_the_package_and_starts_at_the_users_line():
    with pytest.raises(RuntimeError) as caught:
        torch.ones(2) + torch.ones(3)  # here it is added
    assert any(entry.lineno + 1 == line_of("here it is added") for entry in caught.traceback)


def test_nothing_is_recorded_by_a_refused_call():
    from flambeau.stream.record import CALLS

    x, y, z = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(2, dtype=torch.int64)
    flush.flush()
    for fn in (lambda: x + y, lambda: x.add_(y), lambda: torch.add(x, x, out=z)):
        refusal(RuntimeError, fn)
        assert not CALLS


def test_backward_a_second_time():
    x = torch.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    assert "retain_graph=True" in refusal(RuntimeError, y.backward)


def test_state_dict_keys():
    model = torch.nn.Linear(2, 3)
    text = refusal(RuntimeError, lambda: model.load_state_dict({"weight": torch.zeros(3, 2), "extra": torch.zeros(1)}))
    assert "Missing key(s) in state_dict" in text and '"bias"' in text and "Unexpected key(s) in state_dict" in text and '"extra"' in text
    text = refusal(RuntimeError, lambda: model.load_state_dict({"weight": torch.zeros(2, 2), "bias": torch.zeros(3)}))
    assert "size mismatch for weight" in text


def test_shapes_inside_a_model_name_the_module():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(5, 2))
    text = refusal(RuntimeError, lambda: model(torch.ones(3, 2, 2)))
    assert "mat1 and mat2 shapes cannot be multiplied (3x4 and 5x2)" in text
    assert "Linear" in text


def test_losses_of_shapes_that_broadcast_warn():
    with pytest.warns(UserWarning, match=r"Using a target size .* that is different to the input size"):
        F.mse_loss(torch.ones(4, 1), torch.ones(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.mse_loss(torch.ones(4, 1), torch.ones(4, 1))


def test_targets_that_are_not_numbers_give_a_loss_that_is_none():
    loss = F.mse_loss(torch.ones(2), torch.tensor([1.0, float("nan")]))
    assert loss.item() != loss.item()


def test_read_only_array():
    a = np.arange(3.0)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        t = torch.from_numpy(a)
    assert (t + 1).tolist() == [1, 2, 3]


# ---------------------------------------------------------------- found while executing

def test_index_out_of_range_names_operation_and_line():
    table = torch.arange(12.0).reshape(4, 3)
    rows = table[torch.tensor([1, 7])]  # the bad index
    after = rows * 2
    text = refusal(IndexError, after.tolist)
    assert text.startswith("index 7 is out of bounds for dimension 0 with size 4")
    where = f"recorded at {__file__}, line {line_of('the bad index')}, in test_index_out_of_range_names_operation_and_line"
    assert where in text


def test_what_depends_on_it_stays_failed_with_the_same_error():
    table = torch.arange(12.0).reshape(4, 3)
    bad = table[torch.tensor([4])]
    sums = bad.sum() + 1
    first = refusal(IndexError, sums.item)
    assert refusal(IndexError, sums.item) == first
    assert refusal(IndexError, bad.tolist) == first
    assert refusal(IndexError, lambda: bad * 2) == first            # recording with it is refused as well
    assert refusal(IndexError, lambda: torch.ones(3) + bad) == first
    assert refusal(IndexError, lambda: torch.ones(1, 3).add_(bad)) == first


def test_nothing_else_is_lost():
    table = torch.arange(12.0).reshape(4, 3)
    counter, log = torch.zeros(3), torch.zeros(5)
    counter.tolist(), log.tolist()
    before = table.exp().sum()
    counter += 1
    bad = table[torch.tensor([0, 9])]
    counter += 10
    after = (table * 2).sum()
    log[1] = after
    counter += bad.sum()
    late = counter + 1
    log[2] = 5.0
    refusal(IndexError, bad.sum().item)
    assert counter.tolist() == [11, 11, 11]
    assert after.item() == 132
    assert log.tolist() == [0, 132, 5, 0, 0]
    assert before.item() == pytest.approx(np.exp(np.arange(12)).sum(), rel=1e-5)
    refusal(IndexError, late.tolist)


def test_fresh_memory_that_depends_on_it_fails_too():
    table, existing = torch.arange(12.0).reshape(4, 3), torch.zeros(3)
    existing.tolist()
    fresh, healed, partly = torch.ones(3) * 2, torch.ones(3) * 3, torch.ones(3) * 4
    bad = table[torch.tensor([7])].sum()
    existing += 1                       # from here on a part of its own
    fresh *= bad
    healed *= bad
    partly *= bad
    healed.fill_(5.0)
    partly[0] = 1.0
    reads_healed, reads_fresh = healed * 2, fresh * 2
    refusal(IndexError, reads_fresh.tolist)
    refusal(IndexError, fresh.tolist)
    refusal(IndexError, partly.tolist)
    assert existing.tolist() == [1, 1, 1]
    assert healed.tolist() == [5, 5, 5]
    assert reads_healed.tolist() == [10, 10, 10]


def test_existing_memory_can_be_overwritten_after_a_failed_write():
    table, w, v = torch.arange(4.0), torch.ones(3), torch.ones(3)
    w.tolist(), v.tolist()
    bad = table[torch.tensor([4])].sum()
    w *= bad
    v *= bad
    w.zero_()
    v[1] = 7.0
    seen = w + 1
    refusal(IndexError, bad.item)
    assert w.tolist() == [0, 0, 0]
    assert v.tolist() == [1, 7, 1]
    assert seen.tolist() == [1, 1, 1]


def test_failures_at_two_places_are_told_apart():
    table = torch.arange(12.0).reshape(4, 3)
    one = table[torch.tensor([8])].sum()  # first of two
    fine = table[torch.tensor([-1])].sum()
    two = table.index_select(1, torch.tensor([0, 5])).sum()  # second of two
    first = refusal(IndexError, fine.item)
    assert fine.item() == 30
    assert f"line {line_of('first of two')}" in first or f"line {line_of('second of two')}" in first
    assert f"line {line_of('first of two')}" in refusal(IndexError, one.item)
    assert f"line {line_of('second of two')}" in refusal(IndexError, two.item)


def test_parameters_are_not_updated_with_garbage():
    table = torch.nn.Embedding(4, 3)
    weights = table.weight.tolist()
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)

    def step(rows):
        optimizer.zero_grad()
        loss = (F.embedding(rows, table.weight) ** 2).sum()
        loss.backward()
        optimizer.step()
        return loss

    index = torch.tensor([1, 3]) * 3                # the values are not at hand
    with pytest.raises(IndexError):
        step(index)
        flush.flush()
    assert table.weight.tolist() == weights
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)
    before = step(torch.tensor([0, 1])).item()
    assert step(torch.tensor([0, 1])).item() < before


def test_a_label_out_of_range():
    logits = torch.randn(3, 4, requires_grad=True)
    text = refusal(IndexError, lambda: F.cross_entropy(logits, torch.tensor([0, 4, 1])).item())
    assert "Target 4 is out of bounds" in text
    labels = torch.tensor([0, 2, 1]) * 2            # not at hand: found while executing
    loss = F.cross_entropy(logits, labels)
    text = refusal(IndexError, loss.item)
    assert text.startswith("Target 4 is out of bounds.") and "cross_entropy recorded at" in text


def test_write_at_an_index_out_of_range_changes_nothing():
    x = torch.arange(4.0)
    x.tolist()
    index = torch.tensor([1, 4])
    with pytest.raises(IndexError):
        x[index] = 9.0
        flush.flush()
    assert x.tolist() == [0, 1, 2, 3]
    y = torch.arange(4.0)
    y.tolist()
    with pytest.raises((IndexError, RuntimeError), match="index_add"):
        y.index_add_(0, torch.tensor([7]), torch.ones(1))
        flush.flush()
    assert y.tolist() == [0, 1, 2, 3]


def test_integer_division_by_zero():
    x = torch.tensor([4, 6])
    text = refusal(RuntimeError, lambda: (x // torch.tensor([2, 0])).tolist())
    assert "ZeroDivisionError" in text
    assert (x // torch.tensor([2, 3])).tolist() == [2, 2]


def test_failed_memory_can_be_given_new_contents():
    table = torch.arange(4.0)
    model = torch.zeros(2, requires_grad=True)
    (table[torch.tensor([5, 1])] * model).sum().backward()
    with pytest.raises(IndexError):
        model.grad.tolist()
    model.grad = None
    (table[torch.tensor([2, 1])] * model).sum().backward()
    assert model.grad.tolist() == [2, 1]


def test_errors_in_eager_mode_come_from_the_call():
    with torch.eager():
        table = torch.arange(4.0)
        with pytest.raises(IndexError, match="index 4 is out of bounds"):
            table[torch.tensor([4])]


def test_error_in_a_thread_belongs_to_that_thread():
    import threading

    found = []

    def work():
        try:
            torch.arange(3.0)[torch.tensor([3])].sum().item()
        except IndexError as error:
            found.append(str(error))

    t = threading.Thread(target=work)
    t.start()
    t.join()
    assert len(found) == 1 and "index 3 is out of bounds" in found[0]


def test_a_failing_read_is_reported_to_the_thread_that_recorded_it():
    import threading

    table, recorded, looked, found, made = torch.arange(3.0), threading.Event(), threading.Event(), [], []
    torch.ones(2).tolist()

    def work():
        made.append(table[torch.tensor([3])] * 2)  # it fails here
        recorded.set()
        looked.wait()
        for look in (lambda: torch.ones(3).tolist(), lambda: made[0].tolist(), lambda: torch.ones(4).tolist()):
            try:
                found.append(look())
            except IndexError as error:
                found.append(str(error))

    t = threading.Thread(target=work)
    t.start()
    recorded.wait()
    assert (torch.ones(2) + 1).tolist() == [2, 2]           # what this thread looks at does not depend on it
    with pytest.raises(IndexError, match="index 3 is out of bounds"):
        (made[0] + 1).tolist()                              # and this does
    looked.set()
    t.join()
    assert "index 3 is out of bounds" in found[0] and f"line {line_of('it fails here')}" in found[0]    # even though nobody looked at that
    assert "index 3 is out of bounds" in found[1] and found[2] == [1, 1, 1, 1]
    assert not flush.ELSEWHERE


def test_errors_of_two_threads_at_once():
    import threading

    table, barrier, found = torch.arange(3.0), threading.Barrier(3), {}

    def work(i):
        x = table[torch.tensor([3 + i])]
        barrier.wait()
        barrier.wait()
        try:
            x.tolist()
        except IndexError as error:
            found[i] = str(error)
        torch.ones(3).tolist()          # it is told once

    torch.ones(2).tolist()
    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    barrier.wait()
    assert torch.ones(2).tolist() == [1, 1]
    barrier.wait()
    for t in threads:
        t.join()
    assert all("out of bounds" in found[i] for i in range(2))
    assert "index 3" in found[0] or "index 4" in found[1]       # of several failures the first is known by its index: of whoever recorded first
    assert not flush.ELSEWHERE


def test_out_of_memory_names_the_size():
    with pytest.raises(RuntimeError, match=r"(?i)memory") as caught:
        (torch.empty(1, 1).expand(1 << 24, 1 << 24) + 1).sum().item()
    assert re.search(r"[0-9.]+ ?[KMGTPE]i?B|bytes", str(caught.value)), str(caught.value)


def test_interrupt_while_executing_leaves_the_stream_usable(monkeypatch):
    from flambeau.stream import cache

    fine = torch.ones(2)
    fine.tolist()
    x = torch.arange(3.0) * 2
    flush.PLANS[0].clear()
    build = cache.build

    def interrupted(*args):
        raise KeyboardInterrupt
    monkeypatch.setattr(cache, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        x.tolist()
    monkeypatch.setattr(cache, "build", build)
    with pytest.raises(KeyboardInterrupt):
        x.tolist()
    assert (fine + 1).tolist() == [2, 2]


def test_the_value_of_a_traced_tensor():
    @torch.composite
    def looks(x):
        return x * 2 if x.sum() > 0 else x

    with pytest.raises(RuntimeError, match="looks"):
        looks(torch.ones(3))
    assert (torch.ones(3) * 2).tolist() == [2, 2, 2]


def test_missing_names_say_so():
    with pytest.raises(AttributeError, match=r"does not have torch\.no_such_thing"):
        _ = torch.no_such_thing
    assert sys.getrefcount(None) and os.getpid()
