"""Products and convolutions: names of graph nodes, sentences of errors, and the two ways that a product is computed.

Values, gradients, dtypes and layouts are tried through ``samples_contraction.py`` and ``samples_spatial.py`` by ``test_ops.py``.
"""

import numpy as np
import pytest

import flambeau as torch
from flambeau.schedule import contract


def random(*shape, seed=0, dtype=None):
    values = torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).clone()
    return values.to(dtype or torch.float32)


NODES = [
    ((3,), (3,), "DotBackward0"),
    ((2, 3), (3,), "MvBackward0"),
    ((3,), (3, 4), "SqueezeBackward4"),
    ((2, 3), (3, 4), "MmBackward0"),
    ((5, 2, 3), (3, 4), "UnsafeViewBackward0"),
    ((5, 2, 3), (5, 3, 4), "UnsafeViewBackward0"),
]


@pytest.mark.parametrize(("a", "b", "name"), NODES)
def test_graph_nodes_of_matmul(a, b, name):
    assert (random(*a).requires_grad_() @ random(*b)).grad_fn.name() == name


def test_graph_nodes_of_other_products():
    x, y = random(2, 3).requires_grad_(), random(3, 4)
    batch = random(5, 2, 3).requires_grad_()
    assert torch.addmm(random(4), x, y).grad_fn.name() == "AddmmBackward0"
    assert torch.bmm(batch, random(5, 3, 2)).grad_fn.name() == "BmmBackward0"
    assert torch.baddbmm(random(2, 2), batch, random(5, 3, 2)).grad_fn.name() == "BaddbmmBackward0"
    assert torch.trace(x).grad_fn.name() == "TraceBackward0"
    image = random(1, 2, 6, 6).requires_grad_()
    assert torch.conv2d(image, random(3, 2, 3, 3), random(3)).grad_fn.name() == "ConvolutionBackward0"
    assert torch.max_pool2d(image, 2).grad_fn.name() == "MaxPool2DWithIndicesBackward0"
    assert torch.constant_pad_nd(image, (1, 1)).grad_fn.name() == "ConstantPadNdBackward0"


# PyTorch 2.13's own first lines
MISTAKES = [
    (lambda: random(2, 3) @ random(4, 5), "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"),
    (lambda: random(5, 2, 3) @ random(4, 4), "mat1 and mat2 shapes cannot be multiplied (10x3 and 4x4)"),
    (lambda: random(2, 4) @ random(3), "size mismatch, got input (2), mat (2x4), vec (3)"),
    (
        lambda: torch.dot(random(3), random(4)),
        "inconsistent tensor size, expected tensor [3] and src [4] to have the same number of elements, but got 3 and 4 elements respectively",
    ),
    (
        lambda: random(5, 2, 3) @ random(5, 4, 4),
        "Expected size for first two dimensions of batch2 tensor to be: [5, 3] but got: [5, 4].",
    ),
    (
        lambda: random(2, 3) @ random(3, 5, dtype=torch.float64),
        "expected m1 and m2 to have the same dtype, but got: float != double",
    ),
    (
        lambda: torch.addmm(random(5), random(2, 3), random(3, 5, dtype=torch.float64)),
        "self and mat2 must have the same dtype, but got Float and Double",
    ),
    (
        lambda: torch.einsum("ij,jk->ik", random(2, 3), random(4, 4)),
        "einsum(): subscript j has size 4 for operand 1 which does not broadcast with previously seen size 3",
    ),
    (
        lambda: torch.conv2d(random(4, 32, 32, 3), random(8, 3, 3, 3)),
        "Given groups=1, weight of size [8, 3, 3, 3], expected input[4, 32, 32, 3] to have 3 channels, but got 32 channels instead",
    ),
    (
        lambda: torch.conv2d(random(1, 1, 2, 2), random(8, 1, 3, 3)),
        "Calculated padded input size per channel: (2 x 2). Kernel size: (3 x 3). Kernel size can't be greater than actual input size",
    ),
    (
        lambda: torch.max_pool2d(random(2, 3, 9, 8), 20),
        "Given input size: (3x9x8). Calculated output size: (3x0x0). Output size is too small",
    ),
]


@pytest.mark.parametrize(("mistake", "first_line"), MISTAKES, ids=[m[1][:40] for m in MISTAKES])
def test_errors_begin_as_pytorch_s(mistake, first_line):
    with pytest.raises(RuntimeError) as error:
        mistake()
    assert str(error.value).splitlines()[0] == first_line


def test_error_of_a_product_shows_both_shapes_and_the_remedy():
    with pytest.raises(RuntimeError, match=r"cannot multiply \[2, 3\] by \[4, 3\].*Transpose the second: b.mT"):
        random(2, 3) @ random(4, 3)


# ------------------------------------------------------------------ loops or the product engine

PRODUCTS = [((20, 30), (30, 40)), ((6, 20, 30), (30, 40)), ((6, 20, 30), (6, 30, 40)), ((2, 1, 20, 30), (3, 30, 40)), ((50, 60), (60,))]


@pytest.fixture
def worth(monkeypatch):
    """Sets from how many multiply-adds on the product engine is used; plans made before are forgotten."""
    from flambeau.stream import flush

    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)

    def use(limit):
        flush.flush()
        monkeypatch.setattr(contract, "WORTH", limit)
        flush.PLANS[0].clear()

    yield use
    use(contract.WORTH)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("shapes", PRODUCTS)
def test_loops_and_engine_agree(shapes, dtype, worth):
    a, b = (random(*s, seed=i, dtype=getattr(torch, dtype)) for i, s in enumerate(shapes))
    tolerance = {"float32": 1e-5, "float64": 1e-12, "bfloat16": 2e-2, "float16": 3e-3}[dtype]
    results = []
    for limit in (1 << 60, 0):
        worth(limit)
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        z = x @ y
        (z * z).sum().backward()
        results.append([t.detach().double().numpy() for t in (z, x.grad, y.grad)])
    for loops, product in zip(*results, strict=True):
        np.testing.assert_allclose(loops, product, rtol=tolerance, atol=tolerance * np.abs(product).max())


CONVOLUTIONS = [
    ((2, 4, 9), (6, 4, 3), {"stride": 2, "padding": 1}),
    ((2, 4, 9, 8), (6, 4, 3, 2), {"padding": 1, "dilation": 2}),
    ((2, 4, 9, 8), (4, 2, 3, 3), {"groups": 2, "stride": (2, 1)}),
    ((2, 4, 5, 6, 4), (2, 4, 3, 2, 1), {"padding": (1, 0, 1)}),
]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("x", "w", "how"), CONVOLUTIONS)
def test_convolution_by_loops_and_by_the_engine_agree(x, w, how, transposed, worth):
    n = len(x) - 2
    f = getattr(torch, f"conv_transpose{n}d" if transposed else f"conv{n}d")
    if transposed:
        w = (x[1], *w[1:])
    a, b = random(*x, dtype=torch.float64), random(*w, seed=1, dtype=torch.float64)
    results = []
    for limit in (1 << 60, 0):
        worth(limit)
        p, q = a.clone().requires_grad_(), b.clone().requires_grad_()
        y = f(p, q, **how)
        (y * y).sum().backward()
        results.append([t.detach().numpy() for t in (y, p.grad, q.grad)])
    for loops, products in zip(*results, strict=True):
        np.testing.assert_allclose(loops, products, rtol=1e-10, atol=1e-10)


def test_large_products_are_the_engine_s_and_small_ones_are_loops():
    def engine(a, b):
        return "product of" in str(torch.explain(lambda: a @ b, ir="loops"))
    assert engine(random(128, 128), random(128, 128))
    assert not engine(random(8, 8), random(8, 8))
    whole = torch.ones(128, 128, dtype=torch.int64)
    assert engine(whole, whole)


# ------------------------------------------------------------------ what samples cannot say


def test_integers_wrap_around():
    a = torch.tensor([[100, 100]], dtype=torch.int8)
    assert (a @ a.t()).tolist() == [[20000 % 256 - 256 if 20000 % 256 > 127 else 20000 % 256]]


def test_half_precision_sums_in_float32():
    a = torch.full((1, 4096), 0.25, dtype=torch.float16)
    b = torch.ones(4096, 1, dtype=torch.float16)
    assert (a @ b).item() == 1024.0  # a float16 accumulator would stop at 512
    assert (a.to(torch.bfloat16) @ b.to(torch.bfloat16)).item() == 1024.0


def test_in_place_and_out_forms():
    a, b, c = random(2, 3), random(3, 4, seed=1), random(2, 4, seed=2)
    expected = torch.addmm(c, a, b, beta=0.5)
    assert torch.equal(c.clone().addmm_(a, b, beta=0.5), expected)
    transposed = torch.empty(4, 2).t()
    assert torch.addmm(c, a, b, beta=0.5, out=transposed) is transposed
    assert torch.equal(transposed, expected)
    empty = torch.empty(0)
    assert torch.mm(a, b, out=empty).shape == (2, 4)
    with pytest.raises(RuntimeError, match="don't support automatic differentiation"):
        torch.mm(a.requires_grad_(), b, out=empty)


def test_max_pool_gives_ties_to_the_first_element():
    x = torch.zeros(1, 1, 4, 4, requires_grad=True)
    y, index = torch.max_pool2d_with_indices(x, 2)
    y.sum().backward()
    assert index.tolist() == [[[[0, 2], [8, 10]]]]
    assert x.grad.tolist() == [[[[1.0, 0.0, 1.0, 0.0], [0.0] * 4, [1.0, 0.0, 1.0, 0.0], [0.0] * 4]]]


def test_max_pool_lets_nan_through():
    x = torch.tensor([[[1.0, float("nan"), 3.0, 2.0]]])
    y = torch.max_pool1d(x, 2)
    assert np.isnan(y[0, 0, 0].item()) and y[0, 0, 1].item() == 3.0


def test_chain_is_multiplied_in_the_cheapest_order():
    """A tall, thin chain: from the left it would build a 300 x 300 matrix."""
    a, b, c = random(300, 2, dtype=torch.float64), random(2, 300, seed=1, dtype=torch.float64), random(300, 2, seed=2, dtype=torch.float64)
    np.testing.assert_allclose(torch.chain_matmul(a, b, c).numpy(), a.numpy() @ (b.numpy() @ c.numpy()), rtol=1e-10)


@pytest.mark.parametrize("how", ["words", "matrix"])
@pytest.mark.parametrize("shape", [(40, 64, 70), (100, 90, 70), (257, 1100, 129), (8, 512, 300), (50, 71, 60), (3, 40, 50, 60)], ids=str)
def test_pairs_of_bfloat16(shape, how, worth, monkeypatch):
    """The instructions for two of k at a time, also where a processor's is too slow to be chosen; an odd k goes the usual way."""
    from flambeau.runtime import cpu

    if not (cpu.has_matrix_unit() if how == "matrix" else cpu.has_bfloat16_pairs()):
        pytest.skip("this processor has no such instruction (2026-11)")
    monkeypatch.setattr(cpu, "bfloat16_pairs", lambda: how)
    worth(1 << 15)
    *batch, m, k, n = shape
    a, b = random(*batch, m, k, dtype=torch.bfloat16), random(*batch, k, n, seed=1, dtype=torch.bfloat16)
    wide = random(*batch, k, n + 4, seed=2, dtype=torch.bfloat16)
    nothing = torch.full((64, 1024), float("nan"), dtype=torch.bfloat16)
    assert (nothing @ nothing.mT).isnan().all().item()         # scratch memory is not empty
    for x, y in ((a, b), (a, b.mT.contiguous().mT), (a.mT.contiguous().mT, b), (a, wide[..., 1:n + 1]), (a, wide[..., :n:2])):
        assert ("pairs of bfloat16" in str(torch.explain(lambda x=x, y=y: x @ y))) == (k % 2 == 0)
        exact = x.double() @ y.double()
        bound = (x.double().abs() @ y.double().abs()) * k * 2.0**-23 + exact.abs() * 2.0**-8
        assert ((x @ y).double() - exact).abs().le(bound).all().item()


def test_a_strided_vector_is_copied_for_inner_products():
    matrix, vector = random(300, 400), random(400, 3, seed=1)[:, 1]
    assert "inner products" in str(torch.explain(lambda: matrix @ vector))
    np.testing.assert_allclose((matrix @ vector).numpy(), matrix.numpy() @ vector.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [3, 8, 9, 13, 24, 31])
def test_inner_products_of_more_rows_than_a_tile(rows, dtype):
    """Tiles share columns; k decides up to how many rows there may be."""
    a, w, bias = random(rows, 333, dtype=dtype), random(101, 333, seed=1, dtype=dtype), random(101, seed=2, dtype=dtype)
    assert "inner products" in str(torch.explain(lambda: a @ w.t()))
    want = np.maximum(a.numpy() @ w.numpy().T + bias.numpy(), 0)
    np.testing.assert_allclose(torch.relu(torch.nn.functional.linear(a, w, bias)).numpy(), want, rtol=1e-4 if dtype is torch.float32 else 1e-11, atol=1e-4)
    assert "inner products" not in str(torch.explain(lambda: random(34, 333) @ random(101, 333).t()))


# ---------------------------------------------------------------- 16-bit floats are rounded once, as PyTorch does

ADDED = {
    "linear": lambda c, a, b: torch.nn.functional.linear(a, b.mT, c[0]),
    "linear of a batch": lambda c, a, b: torch.nn.functional.linear(a.expand(2, *a.shape), b.mT, c[0])[1],
    "addmm": lambda c, a, b: torch.addmm(c, a, b), "addmm by numbers": lambda c, a, b: torch.addmm(c, a, b, beta=2, alpha=0.5),
    "baddbmm": lambda c, a, b: torch.baddbmm(c[None], a[None], b[None])[0], "addmv": lambda c, a, b: torch.addmv(c[:, 0], a, b[:, 0]),
}


@pytest.mark.parametrize("d", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ADDED)
def test_one_rounding(name, d):
    torch.manual_seed(0)
    for rows, inner, columns in ((3, 5, 4), (17, 64, 33), (1, 40, 8)):
        # so few bits that sums are exact in float32
        a, b = (torch.randint(-15, 16, shape).to(d) / 8 for shape in ((rows, inner), (inner, columns)))
        c = torch.randn(rows, columns).to(d)
        made = ADDED[name](c, a, b)
        assert made.dtype is d
        assert torch.equal(made, ADDED[name](c.float(), a.float(), b.float()).to(d))


@pytest.mark.parametrize("d", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ADDED)
def test_gradients_of_one_rounding(name, d):
    torch.manual_seed(1)
    operands = [torch.randint(-8, 9, shape).to(d) / 8 for shape in ((6, 5), (6, 8), (8, 5))]
    once, twice = [], []
    for kind in (d, torch.float32):
        x = [o.to(kind).requires_grad_() for o in operands]
        y = ADDED[name](*x)
        g = torch.autograd.grad((y * y).sum(), x, create_graph=True)
        once.append([t.float() for t in g])
        twice.append([t.float() for t in torch.autograd.grad(sum((t * t).sum() for t in g), x)])
        assert all(t.dtype is kind for t in g)
    for kinds in (once, twice):
        for half, single in zip(*kinds):
            assert (half - single).abs().max() <= 0.03 * single.abs().max()


@pytest.mark.parametrize(("batch", "inner", "columns"), [(1, 4, 386), (1, 1, 400), (4, 4, 400), (2, 4, 388)])
@pytest.mark.parametrize("kept", ["new", "transposed"])
def test_batches_that_lie_between_one_another(batch, inner, columns, kept):
    # one operand for the whole batch and another that is shifted a little from entry to entry: what a window over an image looks like
    random = np.random.default_rng(0)
    a = torch.tensor(random.integers(-5, 6, (64, 96))).float()
    b = torch.tensor(random.integers(-5, 6, 2 * batch + 95 * inner + 105 * columns + 1)).float().as_strided((3, 96, 106), (batch, inner, columns))
    want = a.numpy() @ b.numpy()
    if kept == "new":
        got = a @ b
    else:
        got = torch.zeros(64, 3, 106).transpose(0, 1)
        torch.matmul(a, b, out=got)
    np.testing.assert_array_equal(got.numpy(), want)
