"""Calls like earlier ones take short ways: these must mean what the first call meant, and notice where one is not like the others."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import flambeau as torch
from flambeau.stream.cache import STATS

TIMES = 4       # the first is checked, the second remembered, the third written out, the fourth goes that way


def line_of(mark: str) -> int:
    """The line of this file that ends in a comment."""
    lines = inspect.getsource(inspect.getmodule(line_of)).splitlines()  # type: ignore[arg-type]
    return next(i for i, line in enumerate(lines, 1) if line.endswith("# " + mark))


# ---------------------------------------------------------------- reads and writes at tensors

INDICES = [
    lambda i, j: i, lambda i, j: (i,), lambda i, j: (i, j), lambda i, j: (slice(None), j), lambda i, j: (1, j), lambda i, j: (i, None, slice(1, 3)),
    lambda i, j: (Ellipsis, j), lambda i, j: (slice(1, 4), j[:, None]), lambda i, j: (i[:, None], j),
]


@pytest.mark.parametrize("form", INDICES)
def test_an_index_with_tensors(form):
    a = np.arange(20.0).reshape(5, 4)
    x = torch.tensor(a)
    for k in range(TIMES):
        i, j = np.array([k, 4 - k]), np.array([k, 0])
        here = form(torch.tensor(i), torch.tensor(j))
        assert x[here].numpy().tolist() == a[form(i, j)].tolist()
        y, b = x.clone(), a.copy()
        y[here] = k + 0.5
        b[form(i, j)] = k + 0.5
        assert y.tolist() == b.tolist() and y._version == 1
        y[here] = x[here] * 2
        b[form(i, j)] = a[form(i, j)] * 2
        assert y.tolist() == b.tolist() and y._version == 2


def test_indices_of_other_shapes_and_types_after_one_that_was_remembered():
    x = torch.arange(12).reshape(4, 3)
    for i in (torch.tensor([1, 2]), torch.tensor([[0], [3]]), torch.tensor([-1], dtype=torch.int32), torch.tensor([], dtype=torch.int64)):
        for _ in range(TIMES):
            assert x[i].tolist() == x.numpy()[i.numpy()].tolist()
        assert x[i].tolist() == x[i,].tolist()
    assert x[torch.tensor(2)].tolist() == [6, 7, 8]
    assert x[torch.tensor([True, False, False, True])].tolist() == [[0, 1, 2], [9, 10, 11]]
    with pytest.raises(IndexError, match="must be long, int, byte or bool"):
        x[torch.tensor([1.0])]
    with pytest.raises(IndexError, match="too many indices"):
        x[torch.tensor([1]), torch.tensor([1]), torch.tensor([1])]
    for _ in range(TIMES):
        with pytest.raises(IndexError, match="shape mismatch"):
            x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]
        with pytest.raises(IndexError, match="shape mismatch"):
            x[torch.tensor([0, 1]), torch.tensor([0, 1, 2])] = 1
        x[torch.tensor([0, 1]), torch.tensor([0, 1])] = 1


def test_an_index_out_of_range_is_reported_at_the_line_of_the_repeated_call():
    x = torch.arange(6.0)
    for k in (0, 1, 2, 3, 9):
        read = x[torch.tensor([k])]  # read
    with pytest.raises(IndexError, match=f"index 9 is out of bounds.*\n.*{__file__.rpartition('/')[2]}, line {line_of('read')}, in test_an_index"):
        read.tolist()
    for k in (0, 1, 2, 3, 9):
        before = x.tolist()
        x[torch.tensor([k])] = 7.0  # written
    with pytest.raises(IndexError, match=f"index 9 is out of bounds.*\n.*, line {line_of('written')}, in test_an_index"):
        torch.ones(1).tolist()
    assert x.tolist() == before
    for k in (0, 1, 2, 3, 9):
        taken = x.gather(0, torch.tensor([k]))  # gathered
    with pytest.raises(RuntimeError, match=f"index 9 is out of bounds.*\n.*, line {line_of('gathered')}, in test_an_index"):
        taken.tolist()


def test_a_failure_within_a_repeated_composite_is_reported_at_the_users_line():
    logits = torch.zeros(2, 3)
    for k in (0, 1, 2, 0, 3):
        loss = torch.nn.functional.nll_loss(logits, torch.tensor([0, k]) * 1)  # loss
    with pytest.raises(IndexError, match=f"Target 3 is out of bounds.*(\n.*)*, line {line_of('loss')}, in test_a_failure"):
        loss.item()


def test_a_number_is_checked_in_every_write():
    x = torch.zeros(3, dtype=torch.uint8)
    i = torch.tensor([1])
    for _ in range(TIMES):
        x[i] = 200
        x.scatter_(0, i, 3)
    assert x.tolist() == [0, 3, 0]
    for write in (lambda: x.__setitem__(i, 300), lambda: x.scatter_(0, i, 300)):
        with pytest.raises(RuntimeError, match="value cannot be converted to type uint8_t without overflow"):
            write()
    y = torch.zeros(3, dtype=torch.int64)
    for value in ((1 << 62) + 1, -((1 << 62) + 1), True, 3):
        y[i] = value
        assert y.tolist() == [0, value, 0]
    z = torch.zeros(3, dtype=torch.bool)
    for value in (2.5, 0, True):
        z[i] = value
        assert z.tolist() == [False, bool(value), False]
    h = torch.zeros(3, dtype=torch.bfloat16)
    for value in (1.00390625, 3, np.float64(0.1)):
        h[i] = value
        assert h.tolist() == [0, torch.tensor(value, dtype=torch.bfloat16).item(), 0]


@pytest.mark.parametrize("write", [
    lambda x, i, v: x.__setitem__(i, 2.0), lambda x, i, v: x.__setitem__(i, v), lambda x, i, v: x.scatter_(0, i, 2.0), lambda x, i, v: x.scatter_(0, i, v),
    lambda x, i, v: x.index_put_((i,), v), lambda x, i, v: x.index_add_(0, i, v), lambda x, i, v: x.index_copy_(0, i, v),
    lambda x, i, v: x.index_fill_(0, i, 2.0), lambda x, i, v: x.scatter_add_(0, i, v), lambda x, i, v: x.mul_(2.0), lambda x, i, v: x[1:].add_(1),
    lambda x, i, v: x.copy_(x.flip((0,))), lambda x, i, v: x.put_(i, v),
])
def test_writes_that_were_remembered_still_look_at_the_graph(write):
    i, v = torch.tensor([2, 0]), torch.tensor([5.0, 6.0])
    for _ in range(TIMES):
        plain = torch.arange(4.0)
        write(plain, i, v)
        assert plain._version == 1
    leaf = torch.arange(4.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        write(leaf, i, v)
    with torch.no_grad():
        write(leaf, i, v)
    assert leaf.tolist() == plain.tolist()
    leaf = torch.arange(4.0, requires_grad=True)
    inner = leaf * 1.0
    square = inner * inner
    write(inner, i, v)
    assert inner.grad_fn is not None and inner.tolist() == plain.tolist()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        square.sum().backward()
    inner = leaf * 1.0
    write(inner, i, v)
    inner.sum().backward()
    eps = torch.tensor([0.0, 0.25, 0.0, 0.0])       # finite differences along one element; all writes are linear in it
    moved = torch.arange(4.0) + eps
    write(moved, i, v)
    assert leaf.grad[1].item() == pytest.approx((moved.sum() - plain.sum()).item() / 0.25)
    with torch.inference_mode():
        made = torch.arange(4.0)
        write(made, i, v)
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
        write(made, i, v)
    assert made.tolist() == plain.tolist()


def test_numbers_of_remembered_calls():
    x = torch.arange(3)
    for k in (1, 2, -(1 << 62), True, 5):
        before = x.tolist()
        x.add_(k)
        assert x.tolist() == [v + k for v in before]
    for _ in range(TIMES):
        with pytest.raises(RuntimeError, match="can't be cast"):
            x.add_(0.5)
        with pytest.raises(RuntimeError, match="without overflow"):
            x.add_(1 << 70)
        y = torch.zeros(2, dtype=torch.bfloat16)
        y.add_(1).mul_(3).sub_(0.5)
        assert y.tolist() == [2.5, 2.5]
    for _ in range(TIMES):
        for value in (0.0, 1.5, 0, 2):
            padded = torch.nn.functional.pad(torch.ones(1), (1, 0), value=value)
            assert str(padded[0].item()) == str(float(value))


def test_a_remembered_write_whose_operand_shares_memory():
    for _ in range(TIMES):
        x, y = torch.arange(4.0), torch.arange(4.0, 8.0)
        x[torch.tensor([3, 2, 1, 0])] = y
        assert x.tolist() == [7, 6, 5, 4]
        x.copy_(y.flip((0,)))
    x[torch.tensor([3, 2, 1, 0])] = x
    assert x.tolist() == [4, 5, 6, 7]
    for _ in range(TIMES):
        torch.zeros(3).add_(torch.ones(4)[1:])
    with pytest.raises(RuntimeError, match="single memory location"):
        x[:3].add_(x[1:])


def test_the_gradient_of_a_number_that_is_scattered():
    x = torch.arange(3.0, requires_grad=True)
    for _ in range(TIMES):
        y = x * 2
        y[torch.tensor([1])] = 5
        z = y.scatter(0, torch.tensor([0]), 7.0)
        assert z.tolist() == [7, 5, 4] and z.grad_fn.name() == "ScatterBackward1" and y.grad_fn.name() == "IndexPutBackward0"
        g, = torch.autograd.grad(z.sum(), x)
        assert g.tolist() == [0, 0, 2]


def test_another_default_dtype():
    i = torch.tensor([1, 0])
    try:
        for d in (torch.float32, torch.float64, torch.float32):
            torch.set_default_dtype(d)
            for _ in range(TIMES):
                x = torch.zeros(2)
                x[i] = 0.1
                assert x.dtype is d and x[i].dtype is d and (i / 2).gather(0, i).dtype is d and x.tolist() == torch.full((2,), 0.1).tolist()
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_loop_over_places_makes_few_plans():
    x = torch.arange(400.0).reshape(100, 4)
    order = torch.arange(99, -1, -1)
    for step in range(0, 60, 2):
        x[order[step:step + 2]].sum().item()
    plans = STATS["plans"]
    for step in range(60, 100, 2):
        assert x[order[step:step + 2]].sum().item() == sum(range(4 * (98 - step), 4 * (100 - step)))
    assert STATS["plans"] <= plans + 1


# ---------------------------------------------------------------- views that follow from metadata

VIEWS = [
    lambda x: x.reshape(6, 4), lambda x: x.reshape(-1), lambda x: x.reshape([4, -1]), lambda x: x.view(6, -1), lambda x: x.view(torch.int32),
    lambda x: x.flatten(1), lambda x: x.flatten(start_dim=0, end_dim=1), lambda x: x.unflatten(0, (1, 2)), lambda x: x[:1].squeeze(0),
    lambda x: x.squeeze((0,)), lambda x: x.movedim(0, -1), lambda x: x.narrow(1, 1, 2), lambda x: x.narrow(dim=1, start=-2, length=1),
    lambda x: x.chunk(2, dim=2)[1], lambda x: x.chunk(3, -1)[0], lambda x: x.split(2, 1)[1], lambda x: x.split([1, 2], 1)[1], lambda x: x.unbind(1)[2],
    lambda x: x.expand(3, 2, 3, 4)[0], lambda x: x.permute(2, 0, 1), lambda x: x.permute(dims=(2, 0, 1)),
]


@pytest.mark.parametrize("view", VIEWS)
def test_a_repeated_view_is_the_first_one(view):
    values = torch.arange(24.0).reshape(2, 3, 4)
    want = view(values.clone())
    for _ in range(TIMES):
        x = values.clone()
        y = view(x)
        assert y._meta is want._meta and y._buffer is x._buffer and y._base is x
        assert y.tolist() == want.tolist()
        y.zero_()
        assert view(x).eq(0).all() and x._version == y._version == 1
    if want.dtype.is_floating_point:
        with torch.no_grad():
            assert view(torch.ones(2, 3, 4, requires_grad=True)).grad_fn is None
        leaf = torch.ones(2, 3, 4, requires_grad=True)
        y = view(leaf)
        assert y.grad_fn is not None and y.requires_grad
        with pytest.raises(RuntimeError, match="leaf Variable"):
            y.zero_()
        y.sum().backward()
        assert leaf.grad.sum().item() == y.numel()


def test_what_is_no_view_is_not_remembered_as_one():
    x = torch.arange(6.0).reshape(2, 3)
    for _ in range(TIMES):
        y = x.t().reshape(-1)
        assert y._buffer is not x._buffer and y.tolist() == [0, 3, 1, 4, 2, 5]
        assert x.flatten(0, 0) is x
        assert torch.zeros(()).flatten().shape == (1,)
        assert [p.shape[0] for p in torch.zeros(0, 3).chunk(2)] == [0, 0]
        assert x.view(3, 2).shape == x.reshape(3, 2).shape == (3, 2) and x.flatten(0).shape == (6,) and len(x.chunk(2)) == 2
        for wrong in (lambda: x.view(6 / 2, 2), lambda: x.reshape(3.0, 2), lambda: x.flatten(0.0), lambda: x.narrow(0.0, 0, 1)):
            with pytest.raises(TypeError):
                wrong()
        for bad in (lambda: x.reshape(4), lambda: x.view(-1, -1), lambda: x.flatten(1, 0), lambda: x.split(-1), lambda: x.chunk(0)):
            with pytest.raises(RuntimeError):
                bad()


def test_parts_may_not_be_changed_in_place_and_are_seen_by_writes():
    for _ in range(TIMES):
        leaf = torch.arange(6.0, requires_grad=True)
        x = leaf * 1
        first, second = x.chunk(2)
        with pytest.raises(RuntimeError, match="view is the output of a function that returns multiple views"):
            first.mul_(2)
        x.mul_(2)
        assert second.tolist() == [6, 8, 10]
        (first.sum() + second.sum() * 3).backward()
        assert leaf.grad.tolist() == [2, 2, 2, 6, 6, 6]


def test_parts_have_one_gradient_however_they_are_written():
    x = torch.arange(6.0, requires_grad=True)
    forms = [lambda: x.split(3), lambda: x.split([3, 3]), lambda: x.split((3, 3)), lambda: x.split([np.int64(3), 3]), lambda: x.chunk(2),
             lambda: x.chunk(2, dim=0)]
    assert len({id(f()[0].grad_fn.entry) for f in forms for _ in range(TIMES)}) == 2      # as PyTorch names two, Split and SplitWithSizes


@pytest.mark.parametrize("join", [torch.stack, torch.cat])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_joining(join, dim):
    for k in range(TIMES):
        a = torch.arange(6.0).reshape(2, 3).add(k).requires_grad_()
        b = (torch.arange(6) - k).reshape(2, 3)
        y = join([a, b, a], dim=dim)
        arrays = [x.detach().numpy() for x in (a, b, a)]
        assert y.tolist() == (np.stack if join is torch.stack else np.concatenate)(arrays, dim).tolist()
        assert y.grad_fn.name() == join.__name__.capitalize() + "Backward0" and y.dtype is torch.float32
        (y * torch.arange(18.0).reshape(y.shape)).sum().backward()
        weights = np.split(np.arange(18.0).reshape(y.shape), 3, dim)
        assert a.grad.tolist() == (weights[0] + weights[2]).reshape(2, 3).tolist()
        assert join([b, b], dim).grad_fn is None
        with pytest.raises(RuntimeError):
            join([a, b[:, :2], b.reshape(3, 2)], dim)


# ---------------------------------------------------------------- values that are read at once

@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
@pytest.mark.parametrize("layout", [lambda x: x, lambda x: x.transpose(0, 2), lambda x: x[:, 1:, ::2], lambda x: x.expand(2, *x.shape)[1]])
def test_reading_under_a_mask(dtype, layout):
    x = layout((torch.arange(24).reshape(4, 3, 2) % 5).to(dtype))
    some = x.long() > 1
    for mask in (some, x.long()[..., 0] > 1, x.long()[:, 0, 0] > 2, x.long() > 9, x.long() < 9, some.transpose(0, -1).contiguous().transpose(0, -1)):
        want = x.double().numpy()[mask.numpy()]
        for got in (x[mask], x[mask, ...], (x.float() + 0).to(dtype)[mask]):
            assert got.dtype is dtype and got.shape == want.shape and got.is_contiguous() and got.tolist() == want.tolist()
        assert not x.is_floating_point() or x.detach().float().requires_grad_()[mask].tolist() == want.tolist()
        got.zero_()
        assert x.double().numpy()[mask.numpy()].tolist() == want.tolist()       # a copy
    inner = x.long()[0] > 1
    assert x[:, inner].tolist() == x.double().numpy()[:, inner.numpy()].tolist()
    assert x.masked_select(x.long() > 1).tolist() == x.double().numpy()[x.long().numpy() > 1].tolist()
    with pytest.raises(IndexError, match="does not match the shape of the indexed tensor"):
        x[torch.ones(5, dtype=torch.bool)]


@pytest.mark.parametrize("n", [10, 100_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool])
def test_many_elements_under_a_mask(n, dtype):
    x = (torch.arange(n) % 7).to(dtype)
    got = x[x.bool()]
    assert got.dtype is dtype and got.tolist() == [v if dtype is not torch.bool else True for v in (i % 7 for i in range(n)) if v]
    assert x.nonzero().tolist() == [[i] for i in range(n) if i % 7]
    got += got
    assert x.sum().item() == x.double().sum().item() or dtype is torch.bfloat16


def test_a_mask_of_a_tensor_with_a_gradient():
    for _ in range(TIMES):
        x = torch.arange(4.0, requires_grad=True)
        y = x[x > 1]
        assert y.grad_fn.name() == "IndexBackward0"
        (y * y).sum().backward()
        assert x.grad.tolist() == [0, 0, 4, 6]
        with torch.no_grad():
            assert x[x > 1].grad_fn is None


@pytest.mark.parametrize("array", [np.array(5), np.array(0), np.array([0, 3, 0, 1]), np.arange(24).reshape(2, 3, 4) % 3, np.zeros((3, 0)), np.zeros((2, 2))])
def test_positions_that_are_not_zero(array):
    x = torch.tensor(array)
    want = np.argwhere(array) if array.ndim else np.empty((int(array != 0), 0))
    for t in (x, x.bool(), x.bfloat16()):
        got = t.nonzero()
        assert got.dtype is torch.int64 and got.shape == want.shape and got.tolist() == want.tolist() and got.is_contiguous()
        assert [p.tolist() for p in t.nonzero(as_tuple=True)] == [p.tolist() for p in np.nonzero(np.atleast_1d(array))]
    if array.ndim > 1:
        assert x.transpose(0, 1).nonzero().tolist() == np.argwhere(array.swapaxes(0, 1)).tolist()


def test_distinct_elements():
    for values in ([], [3.0], [2.0, 1.0, 2.0, float("inf"), 1.0], [float("nan"), 1.0, float("nan")]):
        x = torch.tensor(values)
        got = x.unique()
        assert got.numpy().tobytes() == np.unique(x.numpy(), equal_nan=False).tobytes() and got.dtype is torch.float32
    assert torch.tensor([[True, False], [True, True]]).unique().tolist() == [False, True]
    assert torch.tensor([2, 1, 2]).bfloat16().unique().dtype is torch.bfloat16


def test_an_array_over_a_tensor_keeps_its_memory_and_shares_it():
    arrays = []
    for layout in (lambda x: x, lambda x: x.t(), lambda x: x[1:, ::2], lambda x: x[2], lambda x: x[0, 1], lambda x: x[:0]):
        x = torch.arange(12.0).reshape(3, 4).clone()
        a = layout(x).numpy()
        want = layout(torch.arange(12.0).reshape(3, 4)).tolist()
        assert a.tolist() == want and a.flags.writeable
        x.add_(1)
        assert a.tolist() == layout(x).tolist() and a.dtype == np.float32
        a[...] = 7
        assert all(v == 7 for v in layout(x).flatten())
        arrays.append((a[...], a.shape))
        del x, a
    junk = [torch.ones(3, 4).mul_(3) for _ in range(20)]
    assert all((a == 7).all() and a.shape == shape for a, shape in arrays) and len(junk) == 20


def test_what_is_pending_is_seen_and_sees_nothing_later():
    for _ in range(TIMES):
        x = torch.arange(4.0)
        x.tolist()
        read = x * 2
        assert x.tolist() == [0, 1, 2, 3] and x[x > 1].tolist() == [2, 3]       # needs nothing that is pending
        x.add_(1)
        assert x.tolist() == [1, 2, 3, 4] and read.tolist() == [0, 2, 4, 6]
        read = x * 2
        x.data.mul_(3)
        assert x[x > 3].tolist() == [6, 9, 12] and x.nonzero().numel() == 4
        x[torch.tensor([0])] = 0
        assert x.nonzero().tolist() == [[1], [2], [3]] and x[0].item() == 0 and read.tolist() == [2, 4, 6, 8]
        read = x * 2
        x.numpy()[:] = 5        # what reads the memory comes first
        assert read.tolist() == [0, 12, 18, 24]


@pytest.mark.parametrize("fill", [0, 1, -0.0, 2.5, float("nan"), -3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.bfloat16, torch.bool])
def test_filling(fill, dtype):
    if dtype is torch.int32 and fill not in (0, 1, -3):
        return
    for k in range(TIMES):
        x = torch.ones(4, 3).to(dtype)
        x[k % 4] = fill
        x[:, 1].fill_(fill)
        x.t()[2, k % 3:].fill_(fill)
        want = np.ones((4, 3))
        number = torch.tensor(fill).to(dtype).double().item()
        want[k % 4] = want[:, 1] = want[k % 3:, 2] = number
        assert x.double().numpy().tobytes() == want.tobytes() and x._version == 3
    y = torch.zeros(100, 3)
    plans = None
    for i in range(100):
        y[i] = 2.0
        y.sum().item()
        plans = STATS["plans"] if i == 40 else plans
    assert STATS["plans"] == plans and y.sum() == 600
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
        torch.zeros(3).expand(2, 3)[0:2] = 1
    x = torch.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf Variable"):
        x.fill_(1)
    inner = x * 2
    inner[1] = 5
    inner[0:1].zero_()
    inner.sum().backward()
    assert x.grad.tolist() == [0, 0, 2]
    if dtype is torch.int32:
        with pytest.raises(RuntimeError, match="without overflow"):
            torch.zeros(3, dtype=dtype).fill_(1 << 40)


def test_repeated_equations_and_classes():
    for k in range(TIMES):
        a, b = torch.arange(6.0).reshape(2, 3) + k, torch.arange(12.0).reshape(3, 4)
        assert torch.einsum("ij,jk->ik", a, b).tolist() == (a.numpy() @ b.numpy()).tolist()
        assert torch.einsum("ij,jk", [a, b]).tolist() == (a.numpy() @ b.numpy()).tolist()
        assert torch.einsum(a, [0, 1], b, [1, 2], [2]).tolist() == (a.numpy() @ b.numpy()).sum(0).tolist()
        with pytest.raises(RuntimeError, match="does not broadcast"):
            torch.einsum("ij,jk->ik", b, a)
        with pytest.raises(RuntimeError, match="expected scalar type"):
            torch.einsum("ij,jk->ik", a, b.double())
        labels = torch.tensor([0, 2, k])
        many = torch.arange(2000) % (k + 2)
        for t in (labels, labels + 0, many):
            assert torch.nn.functional.one_hot(t).tolist() == np.eye(int(t.max()) + 1, dtype=int)[t.numpy()].tolist()
            assert torch.nn.functional.one_hot(t, 7).dtype is torch.int64
        for bad, error in ((labels - 1, "non-negative"), (many - 1, "non-negative"), (many + 6, "smaller than num_classes")):
            with pytest.raises(RuntimeError, match=error):
                torch.nn.functional.one_hot(bad, 7)
        assert torch.allclose(a, a) and not torch.allclose(a, a + 1) and torch.equal(a, a)


# ---------------------------------------------------------------- sorting few elements

@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(5,), (3, 7), (2, 16, 3), (1,), (4, 1), (2, 257), (2, 1030)])
def test_few_elements_are_sorted_like_many(dtype, shape, monkeypatch):
    from flambeau.ops import host

    torch.manual_seed(1)
    x = torch.randint(0, 6, shape).to(dtype)
    if dtype.is_floating_point:
        for number, special in ((1, float("-inf")), (2, -0.0), (3, float("nan")), (4, float("inf"))):
            x = torch.where(x == number, torch.tensor(special, dtype=dtype), x)
    for dim in range(len(shape)):
        k = (shape[dim] + 1) // 2
        for flag in (False, True):
            def ask(dim=dim, flag=flag, k=k):
                return [*x.sort(dim, descending=flag), x.argsort(dim, flag), *x.topk(k, dim, largest=flag)]

            few = ask()
            with monkeypatch.context() as patch:
                patch.setattr(host, "RANKED", (0, 0))
                many = ask()
            assert all(a.double().numpy().tobytes() == b.double().numpy().tobytes() and a.dtype is b.dtype and a.shape == b.shape
                       for a, b in zip(few, many, strict=True))


def test_a_run_time_number_given_by_name_is_read_anew_by_every_call_in_place():
    x, y, n = torch.ones(3), torch.arange(3.0), torch.arange(3)
    want = [1.0, 1.0, 1.0]
    for alpha in (0.5, 2, -1.5, 0.0, 3.0):
        for _ in range(3):
            x.add_(y, alpha=alpha)
            want = [w + alpha * v for w, v in zip(want, [0, 1, 2])]
        x.sub_(y, alpha=alpha)
        want = [w - alpha * v for w, v in zip(want, [0, 1, 2])]
        assert x.tolist() == want
    for _ in range(3):
        n.add_(n.clone(), alpha=2)
    assert n.tolist() == [0, 27, 54]
    for refused in (2.0, True):
        with pytest.raises(RuntimeError, match="alpha"):
            n.add_(n.clone(), alpha=refused)
