"""Constructors, factorizations and views that no sample and no other test names: each against what it is defined by."""

import numpy as np
import pytest

import flambeau as torch
from flambeau.nn.functional.recurrent import lstm_cell

A = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])


def matrix():
    return torch.from_numpy(A.copy())


def close(got, want, tolerance=1e-10):
    np.testing.assert_allclose(got.numpy() if hasattr(got, "numpy") else got, want.numpy() if hasattr(want, "numpy") else want, rtol=tolerance, atol=tolerance)


def test_constructors():
    x = torch.arange(6, dtype=torch.int32).reshape(2, 3)
    assert torch.ones_like(x).tolist() == [[1] * 3] * 2 and torch.ones_like(x).dtype is torch.int32
    assert torch.ones_like(x, dtype=torch.float64).dtype is torch.float64
    e = torch.empty_strided((2, 3), (1, 2))
    assert e.shape == (2, 3) and e.stride() == (1, 2)
    assert e.copy_(x).tolist() == x.tolist()
    assert torch.logspace(0, 3, 4).tolist() == pytest.approx([1, 10, 100, 1000])
    assert torch.logspace(0, 4, 3, base=2.0).tolist() == pytest.approx([1, 4, 16])
    assert torch.scalar_tensor(2.5).item() == 2.5 and torch.scalar_tensor(2.5).shape == ()
    assert torch.as_tensor(x) is x
    assert torch.as_tensor([1.0, 2.0], dtype=torch.float64).dtype is torch.float64
    shared = np.zeros(3)
    torch.as_tensor(shared).add_(1)
    assert shared.tolist() == [1, 1, 1]


def test_draws_of_a_tensors_shape():
    torch.manual_seed(3)
    want = torch.randint(5, (3, 2)).tolist()
    torch.manual_seed(3)
    got = torch.randint_like(torch.zeros(3, 2), 5)
    assert got.tolist() == want and got.dtype is torch.float32


def test_alias_and_views_as_another_type():
    x = torch.arange(4.0, requires_grad=True)
    y = x.detach()                          # detach_alias
    y[0] = 7
    assert x.tolist() == [7, 1, 2, 3] and not y.requires_grad
    assert x.detach().view(torch.int32).view(torch.float32).tolist() == [7, 1, 2, 3]        # view_as_dtype
    assert x.detach().view(torch.uint8).shape == (16,)


def test_triangular_factors():
    a = matrix()
    lower, info = torch.linalg.cholesky_ex(a)
    close(lower @ lower.mT, A)
    assert info.item() == 0 and torch.linalg.cholesky_ex(-a).info.item() == 1
    lu, pivots, failed = torch.linalg.lu_factor_ex(a)
    p, l, u = torch.lu_unpack(lu, pivots)
    close(p @ l @ u, A)
    assert failed.item() == 0
    x, failed = torch.linalg.solve_ex(a, torch.ones(3, 1, dtype=torch.float64))
    close(a @ x, np.ones((3, 1)))
    assert failed.item() == 0
    solution, triangle = torch.triangular_solve(torch.ones(3, 1, dtype=torch.float64), a)
    close(torch.triu(triangle) @ solution, np.ones((3, 1)))


def test_quantities_of_a_matrix():
    a = matrix()
    close(torch.logdet(a), np.log(np.linalg.det(A)))
    close(torch.linalg.eigvalsh(a), np.linalg.eigvalsh(A))
    close(torch.pinverse(a[:, :2]), np.linalg.pinv(A[:, :2]))


def test_reflections():
    a = matrix()
    reflectors, factors = torch.geqrf(a)
    q = torch.orgqr(reflectors, factors)
    close(q @ torch.triu(reflectors), A)
    close(torch.ormqr(reflectors, factors, a), q @ a)
    close(torch.ormqr(reflectors, factors, a, transpose=True), q.mT @ a)


def test_products_of_vectors():
    a, b = matrix(), matrix().flip(0)
    close(torch.linalg.vecdot(a, b), (A * A[::-1]).sum(-1))
    close(torch.linalg.cross(a, b), np.cross(A, A[::-1]))
    close(torch.linalg.vander(torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)), np.vander([1.0, 2.0, 3.0], increasing=True))


def test_views_stay_within_the_memory():
    x = torch.arange(12.0).reshape(3, 4)
    assert x.as_strided((2, 2), (4, 1), 5).tolist() == [[5, 6], [9, 10]]
    assert x[1:].as_strided((3, 4), (4, 1), 0).tolist() == x.tolist()          # more than the view has, all that the memory has
    for refused in (lambda: x.as_strided((5, 5), (4, 1)), lambda: x[1:].as_strided((3, 4), (4, 1)), lambda: torch.empty(0).as_strided((1,), (1,)),
                    lambda: (x * 2).as_strided((13,), (1,)), lambda: torch.as_strided(x, (2,), (1,), 11)):
        with pytest.raises(RuntimeError, match="out of bounds for storage of size"):
            refused()
    y = torch.zeros(0)
    with pytest.raises(RuntimeError, match="out of bounds for storage of size 48"):
        y.set_(x.untyped_storage(), 0, (13,), (1,))
    assert y.set_(x.untyped_storage(), 4, (2, 2), (4, 1)).tolist() == [[4, 5], [8, 9]]
    with pytest.raises(RuntimeError, match="Negative strides"):
        x.as_strided((2,), (-1,))
    g = torch.arange(4.0, requires_grad=True)
    y = g.as_strided((2, 2), (1, 1))
    assert y.grad_fn.name() == "AsStridedBackward0"
    y.sum().backward()
    assert g.grad.tolist() == [1, 2, 1, 0]


def test_grids_of_coordinates():
    x, y = torch.meshgrid(torch.arange(3), torch.arange(2), indexing="xy")
    assert x.tolist() == [[0, 1, 2], [0, 1, 2]] and y.tolist() == [[0, 0, 0], [1, 1, 1]]


CONSTRUCTORS = {
    "zeros": lambda **k: torch.zeros(2, 3, **k),
    "ones": lambda **k: torch.ones((2, 3), **k),
    "eye": lambda **k: torch.eye(3, **k),
    "linspace": lambda **k: torch.linspace(0.5, 2, 4, **k),
    "arange": lambda **k: torch.arange(0.5, 3, **k),
    "rand": lambda **k: torch.rand(2, 3, **k),
    "randn": lambda **k: torch.randn(2, 3, **k),
    "zeros_like": lambda **k: torch.zeros_like(torch.ones(2, 3), **k),
}


@pytest.mark.parametrize("name", CONSTRUCTORS)
def test_a_constructor_called_again_reads_its_arguments_again(name):
    """What it remembers depends on all that its arguments and the defaults say."""
    make = CONSTRUCTORS[name]
    for _ in range(2):
        first = make()
        assert first.dtype is torch.float32 and not first.requires_grad
        assert make(dtype=torch.float64).dtype is torch.float64
        assert make(requires_grad=True).requires_grad
        assert make(device="meta").device.type == "meta"
        assert make() is not first
        torch.set_default_dtype(torch.float64)
        try:
            assert make().dtype is torch.float64
        finally:
            torch.set_default_dtype(torch.float32)
        if not name.endswith("_like"):
            torch.set_default_device("meta")
            try:
                assert make().device.type == "meta"
            finally:
                torch.set_default_device(None)
            out = torch.empty(0)
            assert make(out=out) is out and out.shape == make().shape
        with pytest.raises(TypeError):
            make(dtype="float32")


def test_constructors_tell_equal_numbers_apart():
    for _ in range(2):
        assert torch.arange(3).dtype is torch.int64
        assert torch.arange(3.0).dtype is torch.float32
        assert torch.arange(torch.tensor(2)).tolist() == [0, 1]
        assert torch.arange(torch.tensor(3)).tolist() == [0, 1, 2]
        assert torch.zeros(2).shape == (2,)
        with pytest.raises(TypeError):
            torch.zeros(2.0)
        assert str(torch.linspace(1, 0.0, 3)[-1].item()) == "0.0"
        assert torch.zeros([2, 1]).shape == torch.zeros(2, 1).shape == (2, 1)
        x = torch.zeros(2, requires_grad=True)
        x.sum().backward()
        assert torch.zeros(2, requires_grad=True).grad is None


def test_numbers_of_an_earlier_call_are_told_apart():
    """A call found again by its arguments has the type and the sign that its own numbers say."""
    i, x = torch.tensor([-3, 0, 3]), torch.tensor([-3.0, float("nan"), 3.0])
    for _ in range(3):
        assert i.clamp(-1, 1).dtype is torch.int64
        assert i.clamp(-1.0, 1.0).dtype is torch.float32
        assert x.clamp(-1, 2).tolist()[::2] == [-1, 2]
        assert x.clamp(max=1).tolist()[::2] == [-3, 1]
        assert x.clamp(min=1).tolist()[::2] == [1, 3]
        assert str(torch.nan_to_num(x, nan=0.0)[1].item()) == "0.0"
        assert str(torch.nan_to_num(x, nan=-0.0)[1].item()) == "-0.0"
        assert torch.add(i, i, alpha=2).tolist() == [-9, 0, 9]
        with pytest.raises(RuntimeError, match="alpha"):
            torch.add(i, i, alpha=0.5)
        assert torch.lerp(x, x + 1, 0.5)[0].item() == -2.5
        assert torch.lerp(x, x + 1, 1).tolist()[::2] == [-2, 4]
    w = torch.tensor([1.0, 2.0], requires_grad=True)
    for slope in (0.5, 0.25, 0.5):
        w.grad = None
        torch.nn.functional.leaky_relu(-w, slope).sum().backward()
        assert w.grad.tolist() == [-slope] * 2


def test_several_results_of_one_call():
    """Each has the gradient that is its own, whichever are used; without gradients there is no graph."""
    h = torch.full((2, 3), 0.5, requires_grad=True)
    x, c, w, v = torch.ones(2, 4), torch.zeros(2, 3), torch.full((12, 4), 0.1), torch.full((12, 3), 0.2)

    def step():
        return lstm_cell(x, h, c, w, v, None, None)

    def gradients(use):
        for _ in range(3):
            h.grad = None
            use(*step()).sum().backward()
        return h.grad.clone()

    first, second, both = gradients(lambda a, b: a), gradients(lambda a, b: b), gradients(lambda a, b: a + b)
    close(both, first + second, 1e-6)
    assert not torch.equal(first, second)
    with torch.no_grad():
        assert all(t.grad_fn is None for t in step())
    assert [t.grad_fn.name() for t in step()] == ["MulBackward0"] * 2
    rnn, y = torch.nn.RNN(3, 4), []      # a call with a tuple of one, which its gradient reads
    for _ in range(3):
        rnn.zero_grad()
        rnn(torch.ones(2, 1, 3))[0].sum().backward()
        y.append(rnn.weight_hh_l0.grad.clone())
    assert torch.equal(y[0], y[1]) and torch.equal(y[0], y[2])
    seen = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: seen.append(t) or t, lambda t: t):
        a, _ = step()
    a.sum().backward()
    assert seen


def test_a_label_out_of_range_names_its_line():
    logits = torch.randn(4, 3)
    for _ in range(3):
        labels = torch.tensor([0, 1, 2, 7])
        with pytest.raises(IndexError, match="Target 7 is out of bounds"):
            torch.nn.functional.nll_loss(logits, labels)
        with pytest.raises(IndexError, match=r"Target 7 is out of bounds(.|\n)*test_other_operations.py"):
            torch.nn.functional.nll_loss(logits, labels + 0).item()
        assert torch.nn.functional.nll_loss(logits, labels.clamp(max=2)).shape == ()


def test_pooling_remembers_what_was_asked_for():
    """The same images with other windows, batched or not, resampled, and with mistakes that stay mistakes."""
    from flambeau.nn import functional as F

    x = torch.arange(2 * 3 * 6 * 6.0).reshape(2, 3, 6, 6)
    halves = x.reshape(2, 3, 3, 2, 3, 2)
    for _ in range(2):
        close(F.avg_pool2d(x, 2), halves.mean((3, 5)))
        close(F.max_pool2d(x, 2), halves.amax((3, 5)))
        close(F.lp_pool2d(x, 2.0, 2), halves.pow(2).sum((3, 5)).sqrt(), 1e-6)
        close(F.avg_pool2d(x[0], 3, 3), F.avg_pool2d(x, (3, 3))[0])
        close(F.avg_pool2d(x, 2, divisor_override=1), halves.sum((3, 5)))
        out = torch.empty(0)
        assert F.avg_pool2d(x, 2, out=out) is out and out.shape == (2, 3, 3, 3)
        y, i = F.max_pool2d(x, 2, return_indices=True)
        assert torch.equal(x.flatten(2).gather(2, i.flatten(2)), y.flatten(2))
        close(F.adaptive_avg_pool2d(x, (None, 1)), x.mean(3, keepdim=True))
        close(F.interpolate(x, scale_factor=2)[:, :, ::2, 1::2], x)
        assert F.interpolate(x, size=(3, 4), mode="bilinear").shape == (2, 3, 3, 4)
        close(F.interpolate(x, size=3, mode="area"), halves.mean((3, 5)))
        with torch.inference_mode():
            F.interpolate(x, scale_factor=3)
        w = x.clone().requires_grad_()
        F.interpolate(w, scale_factor=3).sum().backward()       # with tables that were made in inference mode
        assert w.grad.eq(9).all()
        for wrong in (lambda: F.max_pool2d(x, 2, padding=2), lambda: F.avg_pool2d(x, 0), lambda: F.avg_pool2d(x, 7), lambda: F.avg_pool2d(x, 2, (1, 1, 1))):
            with pytest.raises(RuntimeError):
                wrong()
        with pytest.raises(ValueError):
            F.interpolate(x, size=(3, 4), scale_factor=2)


@pytest.mark.parametrize(("call", "weights"), [
    ("hann_window(5)", [0.0, 0.3454915, 0.9045085, 0.9045085, 0.3454915]), ("hann_window(5, False)", [0.0, 0.5, 1.0, 0.5, 0.0]),
    ("hamming_window(5)", [0.08, 0.3978522, 0.9121478, 0.9121478, 0.3978522]),
    ("hamming_window(5, True, 0.5, 0.4)", [0.1, 0.3763932, 0.8236068, 0.8236068, 0.3763932]),
    ("blackman_window(6)", [0.0, 0.13, 0.63, 1.0, 0.63, 0.13]), ("bartlett_window(6)", [0.0, 1 / 3, 2 / 3, 1.0, 2 / 3, 1 / 3]),
    ("kaiser_window(5)", [5.2773e-05, 0.1017197, 0.7929394, 0.7929394, 0.1017197]), ("kaiser_window(1)", [1.0]), ("hann_window(0)", []),
])
def test_windows(call, weights):
    close(eval("torch." + call), np.array(weights, np.float32), 1e-6)
    assert eval("torch." + call).dtype == torch.float32


def test_windows_of_no_length_or_whole_numbers_are_refused():
    with pytest.raises(RuntimeError, match="hann_window requires non-negative window_length, got window_length=-1"):
        torch.hann_window(-1)
    with pytest.raises(RuntimeError, match="bartlett_window expects floating point dtypes"):
        torch.bartlett_window(5, dtype=torch.int64)


def test_derivatives_by_differences():
    f = torch.tensor([1.0, 2.0, 4.0, 8.0])
    x = torch.tensor([0.0, 1.0, 3.0, 4.0])
    assert torch.gradient(f)[0].tolist() == [1.0, 1.5, 3.0, 4.0]
    assert torch.gradient(f, spacing=2.0, edge_order=2)[0].tolist() == [0.25, 0.75, 1.5, 2.5]
    assert torch.gradient(f, spacing=(x,))[0].tolist() == [1.0, 1.0, 3.0, 4.0]
    assert torch.gradient(f, spacing=(x,), edge_order=2)[0].tolist() == [1.0, 1.0, 3.0, 5.0]
    grid = torch.arange(12.0).view(3, 4) ** 2
    rows, columns = torch.gradient(grid, spacing=[2.0, 3.0])
    close(rows[:, 0], np.array([8.0, 16.0, 24.0]))
    close(columns[0], np.array([1, 2, 4, 5], np.float32) / 3, 1e-6)
    for bad in (lambda: torch.gradient(torch.ones(2), edge_order=2), lambda: torch.gradient(f, edge_order=3), lambda: torch.gradient(grid, dim=(0, 0)),
                lambda: torch.gradient(grid, spacing=[1.0])):
        with pytest.raises(RuntimeError):
            bad()


def test_older_names():
    with pytest.warns(UserWarning, match="torch.range is deprecated"):
        assert torch.range(1, 2.5, 0.5).tolist() == [1.0, 1.5, 2.0, 2.5]
    ones = torch.ones(2, 3, 4)
    close(torch.norm_except_dim(ones)[:, 0, 0], np.full(2, 12**0.5, np.float32), 1e-6)
    close(torch.norm_except_dim(ones, 1, -1), np.float32(24))
    close(torch.frobenius_norm(ones, dim=(0, 1)), np.full(4, 6**0.5, np.float32), 1e-6)
    close(torch.nuclear_norm(torch.ones(2, 2)), np.float32(2), 1e-6)
    assert torch.typename(ones) == "torch.FloatTensor" and torch.typename(3) == "int" and torch.get_device(ones) == -1
    assert torch.ones(1).is_nonzero() and torch.tensor([0.3, 1.0]).hardshrink(0.4).tolist() == [0.0, 1.0]
    assert torch.tensor([-2.0]).prelu(torch.tensor(0.5)).item() == -1
    points = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 0.0], [2.0, 2.0]])
    made = torch.histogramdd(points, bins=[3, 3], weight=torch.tensor([1.0, 2.0, 4.0, 8.0]))
    assert made.hist.tolist() == [[0, 1, 0], [2, 0, 0], [4, 0, 8]]
    close(made.bin_edges[0], np.array([0, 2 / 3, 4 / 3, 2], np.float32), 1e-6)
