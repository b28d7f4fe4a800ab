"""Indexing, gathering, sorting: values against NumPy, gradients against sums over the same positions, errors in PyTorch's words."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import flambeau as torch
from flambeau.autograd import gradcheck, gradgradcheck

MASK = np.array([[True, False, True, False], [False, False, False, True], [True, True, False, False]])
INDICES = [
    0, -1, (0, 1), slice(1, None), slice(None), ..., (), None, (slice(None), 0), (0, slice(1, None)), (slice(1, None), None), (..., 0),
    (1, None, 1), (slice(None, None, 2), slice(1, None, 2)), slice(5, None), slice(2, 1), slice(-2, None), (None, slice(0, 2), None, -1),
    True, False, (None, True), (True, 0), [0, 1], [2, -1, 0], ([0, 1], [1, 2]), ([[0], [2]], [1, 3]), (slice(None), [0, 1]), (None, [0, 1]),
    ([0, 1], None, 1), (1, [0, 1]), [], range(2), [True, False, True], np.array([0, 2]), np.int64(1), MASK, MASK[:, 0],
    (slice(None), MASK[0]),
    (MASK[:, 1], 0), np.zeros((2, 0), np.int64), (slice(1, None), [[0, 1], [2, 3]]), ([0, 2], slice(1, 3)), np.zeros((3, 4), bool),
]
DEEP = [
    (slice(None), [0, 1], slice(None), [1, 2]), ([0, 1], slice(None), [1, 2]), (1, slice(None), [0, 2]), (slice(None), 1, [0, 2]),
    (None, [0, 1], ..., [1]),
    (slice(None), np.array([True, False, True])), np.array([[True, False, True], [False, True, False]]), (..., [0, 1], slice(None)),
    (0, slice(None, None, 2), None, 1, slice(-2, None)), ([[0, 1]], slice(None), [[1], [2]]), (..., 0), (..., None, slice(1, 2)),
]


def is_position(part):
    """A part of an index that reads at computed places."""
    return isinstance(part, (list, range, np.ndarray))


def expected(array, index):
    """PyTorch's rule by NumPy: integers, slices and None first, then the arrays together."""
    parts = index if isinstance(index, tuple) else (index,)
    if not any(map(is_position, parts)):
        return array[index]
    wide = [[slice(None)] * (p.ndim if isinstance(p, np.ndarray) and p.dtype == bool else 1) if is_position(p) else [p] for p in parts]
    rest = array.ndim - sum(1 for group in wide for p in group if p is not None and p is not ... and p is not True and p is not False)
    later = []
    for part in parts:
        if is_position(part):
            later.append(np.asarray(part, dtype=np.int64) if len(part) == 0 else np.asarray(part))
        elif part is ...:
            later.extend([slice(None)] * rest)
        elif part is None or isinstance(part, slice):
            later.append(slice(None))
    return array[tuple(p for group in wide for p in group)][tuple(later)]


def as_ours(index):
    """The same index with tensors in place of arrays."""
    if isinstance(index, tuple):
        return tuple(map(as_ours, index))
    return torch.from_numpy(index) if isinstance(index, np.ndarray) else index


def same(ours, array):
    assert tuple(ours.shape) == array.shape
    assert np.array_equal(ours.detach().numpy(), array, equal_nan=array.dtype.kind == "f")


CASES = [((3, 4), i) for i in INDICES] + [((2, 3, 4, 5), i) for i in DEEP]


def case_name(value):
    return "x".join(map(str, value)) if isinstance(value, tuple) and value and all(isinstance(v, int) for v in value) else None


@pytest.mark.parametrize(("shape", "index"), CASES, ids=case_name)
def test_read_and_its_gradient(shape, index):
    array = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    x = torch.from_numpy(array.copy()).requires_grad_()
    y = x[as_ours(index)]
    right = expected(array, index)
    same(y, right)
    weights = torch.arange(y.numel(), dtype=torch.float64).reshape(y.shape) + 1
    (y * weights).sum().backward()
    numbers = expected(np.arange(array.size).reshape(shape), index)
    gradient = np.zeros(array.size)
    np.add.at(gradient, numbers.reshape(-1), weights.numpy().reshape(-1))
    same(x.grad, gradient.reshape(shape))


@pytest.mark.parametrize(("shape", "index"), CASES, ids=case_name)
def test_write(shape, index):
    array = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    numbers = expected(np.arange(array.size).reshape(shape), index)
    for value in (-1, -2.5, torch.tensor(-3.0), -torch.arange(1.0, numbers.size + 1).reshape(numbers.shape)):
        x = torch.from_numpy(array.copy())
        x[as_ours(index)] = value
        right = array.copy().reshape(-1)
        right[numbers.reshape(-1)] = np.broadcast_to(value.numpy() if isinstance(value, torch.Tensor) else value, numbers.shape).reshape(-1)
        same(x, right.reshape(shape))


@pytest.mark.parametrize(("index", "distinct"), [
    ((slice(1, None), 2), True), ((None, slice(None), slice(0, 4, 3)), True), (([0, 2], [1, 1]), True), (MASK, True),
    ((slice(None), [0, 0, 3]), False),
    ((1, slice(1, 3)), True)], ids=case_name)
def test_second_order(index, distinct):
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda t: t[as_ours(index)] ** 3, (x,))
    assert gradgradcheck(lambda t: t[as_ours(index)] ** 3, (x,))
    values = torch.randn(*x.detach()[as_ours(index)].shape, dtype=torch.float64, requires_grad=True)

    def store(t, v):
        y = t * 1.0
        y[as_ours(index)] = v * v
        return y * y

    if distinct:        # of two values for one place only one counts
        assert gradcheck(store, (x, values))
        assert gradgradcheck(store, (x, values))


def parts_of_an_index(n):
    number = st.integers(-n, n - 1)
    cut = st.builds(slice, st.none() | st.integers(-n - 1, n + 1), st.none() | st.integers(-n - 1, n + 1), st.none() | st.integers(1, 3))
    return number | cut | st.lists(number, min_size=2, max_size=2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_mixture(data):
    shape = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    parts = [data.draw(parts_of_an_index(n)) for n in shape[:data.draw(st.integers(1, len(shape)))]]
    if data.draw(st.booleans()):
        parts.insert(data.draw(st.integers(0, len(parts))), None)
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(parts)))
        ends = [data.draw(parts_of_an_index(n)) for n in shape[len([p for p in parts if p is not None]):]]
        parts = [*parts[:at], *parts[at:], ..., *ends]
    index = tuple(parts)
    array = np.arange(math.prod(shape)).reshape(shape)
    same(torch.from_numpy(array.copy())[as_ours(index)], expected(array, index))
    x = torch.from_numpy(array.copy())
    x[as_ours(index)] = -7
    right = array.copy().reshape(-1)
    right[expected(np.arange(array.size).reshape(shape), index).reshape(-1)] = -7
    same(x, right.reshape(shape))


def test_a_view_shares_memory_and_a_copy_does_not():
    x = torch.zeros(3, 4)
    x[1:, 0][0] = 5
    assert x[1, 0].item() == 5
    y = x[[1]]
    y[0, 0] = 7
    assert x[1, 0].item() == 5


def test_names_in_the_graph():
    x = torch.zeros(3, 4, requires_grad=True)
    names = {"Select": x[0], "Slice": x[1:], "Alias": x[...], "Unsqueeze": x[1:, None], "Index": x[[0, 1]]}
    assert {k: v.grad_fn.name() for k, v in names.items()} == {k: k + "Backward0" for k in names}
    y = x * 1
    y[[0, 1]] = 0
    assert y.grad_fn.name() == "IndexPutBackward0"


REFUSED = [
    (lambda x: x[::-1], ValueError, "step must be greater than zero"),
    (lambda x: x[::0], ValueError, "slice step cannot be zero"),
    (lambda x: x[5], IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
    (lambda x: x[0, -5], IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    (lambda x: x[0, 0, 0], IndexError, "too many indices for tensor of dimension 2"),
    (lambda x: x[1.5], IndexError, "only integers, slices"),
    (lambda x: x["a"], TypeError, "invalid data type 'str'"),
    (lambda x: x[0.0:1], TypeError, "slice indices must be integers"),
    (lambda x: x[torch.tensor([1.5])], IndexError, "tensors used as indices must be long, int, byte or bool tensors"),
    (lambda x: x[[0, 1], [0, 1, 2]], IndexError, r"could not be broadcast together with shapes \[2\], \[3\]"),
    (lambda x: x[torch.tensor([True, False])], IndexError, "The shape of the mask"),
    (lambda x: x[0, 0][0], IndexError, "invalid index of a 0-dim tensor"),
    (lambda x: x[0, 0][:], IndexError, r"slice\(\) cannot be applied to a 0-dim tensor"),
    (lambda x: x[[5]].sum().item(), IndexError, "index 5 is out of bounds for dimension 0 with size 3"),
    (lambda x: x[:, [-7]].sum().item(), IndexError, "index -7 is out of bounds for dimension 1 with size 4"),
    (lambda x: x.__setitem__(0, [1, 2, 3, 4]), TypeError, "can't assign a list"),
    (lambda x: x.__setitem__([0, 1], torch.ones(3)), RuntimeError, r"shape mismatch: value tensor of shape \[3\]"),
    (lambda x: x.__setitem__([0, 1], torch.arange(4)), RuntimeError, "Index put requires the source and destination dtypes match"),
    (lambda x: x.__setitem__(0, torch.ones(2, 4)), RuntimeError, "the number of sizes provided"),
    (lambda x: x.gather(0, torch.tensor([0])), RuntimeError, "Index tensor must have the same number of dimensions as input tensor"),
    (lambda x: x.gather(0, torch.zeros(1, 9, dtype=torch.int64)), RuntimeError, "Size does not match at dimension 1"),
    (lambda x: x.gather(0, torch.tensor([[7]])).item(), RuntimeError, "index 7 is out of bounds for dimension 0 with size 3"),
    (lambda x: x.scatter(0, torch.tensor([[0.0]]), 1.0), RuntimeError, "Expected dtype int32/int64 for index"),
    (lambda x: x.scatter_add(0, torch.tensor([[0]]), x.double()), RuntimeError, "Expected self.dtype to be equal to src.dtype"),
    (lambda x: x.index_select(0, torch.tensor([9])).tolist(), IndexError, "index out of range in self"),
    (lambda x: x.index_add(0, torch.tensor([0, 2]), x), RuntimeError, "Number of indices"),
    (lambda x: x.take(torch.tensor([20])).item(), IndexError, "tried to access index 20 on a tensor of 12 elements"),
    (lambda x: x.masked_scatter(x > 5, torch.ones(1)).sum().item(), RuntimeError, "Number of elements of source < number of ones in mask"),
    (lambda x: torch.embedding(x, torch.tensor([3])).tolist(), IndexError, r"range in self\nembedding: index 3 is outside 0..2"),
    (lambda x: x.topk(5), RuntimeError, "selected index k out of range"),
    (lambda x: x.kthvalue(9), RuntimeError, "selected number k out of range"),
    (lambda x: torch.searchsorted(x, x[0]), RuntimeError, r"first N-1 dimensions of boundaries tensor"),
]


@pytest.mark.parametrize(("call", "kind", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_refused(call, kind, words):
    x = torch.arange(12.0).reshape(3, 4)
    with pytest.raises(kind, match=words):
        call(x)
    same(x, np.arange(12, dtype=np.float32).reshape(3, 4))


def test_a_failed_write_leaves_the_tensor_as_it_was():
    writes = [
        lambda x: x.__setitem__([0, 9], 1.0), lambda x: x.scatter_(0, torch.tensor([[9]]), 1.0),
        lambda x: x.index_add_(0, torch.tensor([9]), torch.ones(1, 4)),
        lambda x: x.index_copy_(0, torch.tensor([9]), torch.ones(1, 4)), lambda x: x.index_fill_(0, torch.tensor([9]), 1.0),
        lambda x: x.put_(torch.tensor([99]), torch.ones(1)), lambda x: x.masked_scatter_(x > 5, torch.ones(1)),
    ]
    for write in writes:
        x = torch.from_numpy(np.arange(12, dtype=np.float32)).reshape(3, 4)
        with pytest.raises((IndexError, RuntimeError)):
            write(x)
            x.sum().item()
        same(x, np.arange(12, dtype=np.float32).reshape(3, 4))


def test_gather_and_scatter():
    rng = np.random.default_rng(0)
    for dim in (0, 1, 2):
        a, index = rng.normal(size=(3, 4, 5)), rng.integers(0, 3, size=(3, 4, 5))
        x, i = torch.from_numpy(a.copy()), torch.from_numpy(index)
        same(x.gather(dim, i), np.take_along_axis(a, index, dim))
        place = list(np.indices(index.shape))
        place[dim] = index
        source = rng.normal(size=index.shape)
        added, stored = a.copy(), a.copy()
        np.add.at(added, tuple(place), source)
        stored[tuple(place)] = source
        assert np.allclose(x.scatter_add(dim, i, torch.from_numpy(source)).numpy(), added)
        same(x.scatter(dim, i, torch.from_numpy(source)), stored)
        assert np.allclose(x.clone().scatter_add_(dim, i, torch.from_numpy(source)).numpy(), added)
        stored[tuple(place)] = 2.5
        same(x.clone().scatter_(dim, i, 2.5), stored)


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize(("reduce", "combine", "start"), [
    ("sum", np.add, 0), ("prod", np.multiply, 1), ("amax", np.maximum, -np.inf), ("amin", np.minimum, np.inf)])
def test_scatter_reduce(reduce, combine, start, include_self):
    a, source, index = np.arange(1.0, 7), np.array([3.0, -2, 5, 0.5]), np.array([0, 2, 0, 5])
    right = a.copy()
    if not include_self:
        right[np.unique(index)] = start
    combine.at(right, index, source)
    x, s = torch.from_numpy(a.copy()).requires_grad_(), torch.from_numpy(source).requires_grad_()
    made = x.scatter_reduce(0, torch.from_numpy(index), s, reduce, include_self=include_self)
    same(made, right)
    assert gradcheck(lambda p, q: p.scatter_reduce(0, torch.from_numpy(index), q, reduce, include_self=include_self), (x, s))


def test_scatter_mean():
    x, index, source = torch.tensor([1.0, 2, 3]), torch.tensor([0, 0, 2]), torch.tensor([4.0, 7, 5])
    assert x.scatter_reduce(0, index, source, "mean").tolist() == [4, 2, 4]
    assert x.scatter_reduce(0, index, source, "mean", include_self=False).tolist() == [5.5, 2, 5]


def test_rows_by_number():
    x, index = torch.arange(12.0).reshape(4, 3), torch.tensor([2, 0])
    rows = torch.tensor([[1.0, 1, 1], [2, 2, 2]])
    assert x.index_select(0, index).tolist() == [[6, 7, 8], [0, 1, 2]]
    assert x.index_select(1, index).shape == (4, 2)
    assert x.index_add(0, index, rows, alpha=10).tolist() == [[20, 21, 22], [3, 4, 5], [16, 17, 18], [9, 10, 11]]
    assert x.index_copy(0, index, rows).tolist() == [[2, 2, 2], [3, 4, 5], [1, 1, 1], [9, 10, 11]]
    assert x.index_fill(0, torch.tensor([-1]), 0).tolist()[3] == [0, 0, 0]
    assert x.index_reduce(0, index, rows, "amax").tolist()[0] == [2, 2, 2]
    assert x.take(torch.tensor([[0, -1]])).tolist() == [[0, 11]]
    assert x.put(torch.tensor([0, 0]), torch.tensor([5.0, 6]), accumulate=True)[0, 0].item() == 11


def test_masks():
    x = torch.arange(6.0).reshape(2, 3)
    mask = x > 2
    assert torch.masked_select(x, mask).tolist() == [3, 4, 5]
    assert torch.masked_select(x, torch.tensor([True, False, True])).tolist() == [0, 2, 3, 5]
    assert x.masked_scatter(mask, torch.tensor([7.0, 8, 9, 10])).tolist() == [[0, 1, 2], [7, 8, 9]]
    assert [w.tolist() for w in torch.where(mask)] == [[1, 1, 1], [0, 1, 2]]
    assert torch.nonzero(mask).tolist() == [[1, 0], [1, 1], [1, 2]]
    assert torch.nonzero(torch.tensor(3.0)).shape == (1, 0)
    values = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    source = torch.randn(5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda v, s: v.masked_scatter(mask, s) ** 2, (values, source))
    assert gradgradcheck(lambda v, s: v.masked_scatter(mask, s) ** 2, (values, source))


def test_embedding():
    table = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    rows = torch.tensor([[1, 4], [1, 0]])
    same(torch.embedding(table, rows), table.detach().numpy()[rows.numpy()])
    torch.embedding(table, rows, 4).sum().backward()
    assert table.grad.tolist() == [[1] * 3, [2] * 3, [0] * 3, [0] * 3, [0] * 3]
    table.grad = None
    torch.embedding(table, rows, -1, True).sum().backward()
    assert table.grad.tolist() == [[1] * 3, [1] * 3, [0] * 3, [0] * 3, [1] * 3]
    assert gradgradcheck(lambda w: torch.embedding(w, rows) ** 3, (table,))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8, np.uint8])
def test_sort(dtype):
    rng = np.random.default_rng(1)
    a = rng.integers(0, 100, size=(4, 300)).astype(dtype)
    x = torch.from_numpy(a)
    for dim in (0, 1):
        values, indices = x.sort(dim)
        same(indices, np.argsort(a, dim, kind="stable"))
        same(values, np.sort(a, dim))
        values, indices = x.sort(dim, descending=True)
        same(values, np.flip(np.sort(a, dim), dim))
        same(torch.gather(x, dim, indices), values.numpy())
    for k in (0, 3, 200):
        values, indices = x.topk(k)
        same(values, np.flip(np.sort(a, 1), 1)[:, :k])
        same(x.gather(1, indices), values.numpy())
        same(x.topk(k, largest=False).values, np.sort(a, 1)[:, :k])
    same(x.kthvalue(7).values, np.sort(a, 1)[:, 6])
    same(x.msort(), np.sort(a, 0))


def test_equal_elements_keep_their_order_and_nan_is_the_largest():
    x = torch.tensor([2.0, 1.0, math.nan, 2.0, 1.0])
    assert x.argsort().tolist() == [1, 4, 0, 3, 2]
    assert x.argsort(descending=True).tolist() == [2, 0, 3, 1, 4]
    assert x.topk(2).indices.tolist()[0] == 2
    assert torch.tensor(3.0).sort() == (3.0, 0)


def test_gradients_of_sorting():
    x = torch.tensor([[3.0, 1.0, 2.0], [0.5, 4.0, -1.0]], dtype=torch.float64, requires_grad=True)
    for f in (lambda t: t.sort(1)[0], lambda t: t.topk(2)[0], lambda t: t.kthvalue(2)[0], lambda t: torch.masked_select(t, x > 1)):
        assert gradcheck(f, (x,))
        assert gradgradcheck(lambda t, f=f: f(t) ** 2, (x,))
    assert x.sort()[0].grad_fn.name() == "SortBackward0"
    assert x.topk(1).values.grad_fn.name() == "TopkBackward0"
    (x.sort(1)[0] * torch.arange(3)).sum().backward()
    assert x.grad.tolist() == [[2, 0, 1], [1, 2, 0]]


def test_named_results():
    x = torch.tensor([2, 1])
    assert repr(x.sort()) == "torch.return_types.sort(\nvalues=tensor([1, 2]),\nindices=tensor([1, 0]))"
    assert type(x.sort()) is torch.return_types.sort
    values, indices = torch.sort(x)
    given = torch.sort(x, out=(torch.empty(2, dtype=torch.int64), torch.empty(2, dtype=torch.int64)))
    assert given.values.tolist() == values.tolist() and given.indices.tolist() == indices.tolist()


def test_distinct():
    x = torch.tensor([[3, 1], [3, 2], [3, 1]])
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True)
    assert (values.tolist(), inverse.tolist(), counts.tolist()) == ([1, 2, 3], [[2, 0], [2, 1], [2, 0]], [2, 1, 3])
    rows, where = torch.unique(x, dim=0, return_inverse=True)
    assert (rows.tolist(), where.tolist()) == ([[3, 1], [3, 2]], [0, 1, 0])
    runs, lengths = torch.unique_consecutive(torch.tensor([1, 1, 2, 2, 2, 1]), return_counts=True)
    assert (runs.tolist(), lengths.tolist()) == ([1, 2, 1], [2, 3, 1])
    assert torch.unique(torch.tensor([math.nan, math.nan])).shape == (2,)


def test_search():
    edges = torch.tensor([1.0, 3, 5])
    assert torch.searchsorted(edges, torch.tensor([0.0, 3, 9])).tolist() == [0, 1, 3]
    assert torch.searchsorted(edges, torch.tensor([0.0, 3, 9]), side="right").tolist() == [0, 2, 3]
    assert torch.bucketize(3.0, edges, right=True).item() == 2
    rows = torch.tensor([[1, 3, 5], [2, 4, 6]])
    assert torch.searchsorted(rows, torch.tensor([[3, 6], [3, 6]]), out_int32=True).tolist() == [[1, 3], [1, 2]]
    assert torch.isin(torch.tensor([[1, 2], [3, 4]]), torch.tensor([2, 3])).tolist() == [[False, True], [True, False]]


def test_repeats():
    x = torch.tensor([[1.0, 2], [3, 4]])
    assert x.repeat_interleave(2).tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert x.repeat_interleave(2, dim=1).tolist() == [[1, 1, 2, 2], [3, 3, 4, 4]]
    assert x.repeat_interleave(torch.tensor([0, 2]), dim=0).tolist() == [[3, 4], [3, 4]]
    assert torch.repeat_interleave(torch.tensor([1, 0, 2])).tolist() == [0, 2, 2]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.bool, torch.uint8, torch.int32])
def test_dtypes(dtype):
    x = torch.tensor([[1, 0, 1], [0, 1, 1]]).to(dtype)
    index = torch.tensor([1, 1])
    assert x[index].dtype is dtype and x[index].long().tolist() == [[0, 1, 1], [0, 1, 1]]
    assert x.sort(1)[0].dtype is dtype and x.sort(1)[0].long().tolist() == [[0, 1, 1], [0, 1, 1]]
    assert x.unique().dtype is dtype and x.unique().long().tolist() == [0, 1]
    assert x.nonzero().shape == (4, 2)
    y = x.clone()
    y[index] = x[:1]
    assert y.long().tolist() == [[1, 0, 1], [1, 0, 1]]
    y.index_add_(0, torch.tensor([0, 0]), x)
    assert y.bool().tolist() == [[True, True, True], [True, False, True]]
