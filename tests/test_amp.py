"""Autocast: the types that PyTorch 2.13 gives on the CPU, and that nothing found in one mode is used in the other; loss scaling."""

import warnings

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.amp import GradScaler, autocast, custom_bwd, custom_fwd
from flambeau.nn import functional as F

f32, f64, b16, f16 = torch.float32, torch.float64, torch.bfloat16, torch.float16


@pytest.fixture(autouse=True)
def off():
    yield
    assert not torch.is_autocast_enabled("cpu")


def rand(*shape):
    return torch.rand(*shape)


LABELS = torch.tensor([0, 1, 2, 3])
# what PyTorch gives for operands of float32, and of bfloat16
NARROW, SAME, WIDE = (b16, b16), (f32, b16), (f32, f32)
CASES = {
    "matmul": (NARROW, lambda c: torch.matmul(c(rand(4, 4)), c(rand(4, 4)))),
    "operator": (NARROW, lambda c: c(rand(4, 4)) @ c(rand(4, 4))),
    "mm": (NARROW, lambda c: torch.mm(c(rand(4, 4)), c(rand(4, 4)))),
    "bmm": (NARROW, lambda c: torch.bmm(c(rand(2, 3, 4)), c(rand(2, 4, 3)))),
    "addmm": (NARROW, lambda c: torch.addmm(c(rand(4, 4)), c(rand(4, 4)), c(rand(4, 4)))),
    "baddbmm": (NARROW, lambda c: torch.baddbmm(c(rand(2, 4, 4)), c(rand(2, 4, 4)), c(rand(2, 4, 4)))),
    "einsum": (NARROW, lambda c: torch.einsum("ij,jk->ik", c(rand(4, 4)), c(rand(4, 4)))),
    "tensordot": (NARROW, lambda c: torch.tensordot(c(rand(4, 4)), c(rand(4, 4)), 1)),
    "linear": (NARROW, lambda c: F.linear(c(rand(2, 4)), c(rand(3, 4)), c(rand(3)))),
    "linear with a float32 bias": (NARROW, lambda c: F.linear(c(rand(2, 4)), rand(3, 4), rand(3))),
    "conv1d": (NARROW, lambda c: F.conv1d(c(rand(1, 2, 9)), c(rand(3, 2, 3)), c(rand(3)))),
    "conv2d": (NARROW, lambda c: F.conv2d(c(rand(1, 2, 9, 9)), rand(3, 2, 3, 3))),
    "conv_transpose2d": (NARROW, lambda c: F.conv_transpose2d(c(rand(1, 2, 5, 5)), c(rand(2, 3, 3, 3)))),
    "attention": (NARROW, lambda c: F.scaled_dot_product_attention(*[c(rand(1, 2, 4, 8)) for _ in range(3)])),
    "prelu": (NARROW, lambda c: F.prelu(c(rand(4, 4)), c(rand(4)))),
    "mv": (SAME, lambda c: torch.mv(c(rand(4, 4)), c(rand(4)))),
    "dot": (SAME, lambda c: torch.dot(c(rand(4)), c(rand(4)))),
    "add": (SAME, lambda c: c(rand(4)) + c(rand(4))),
    "softmax": (SAME, lambda c: torch.softmax(c(rand(4, 4)), 1)),
    "layer_norm": (SAME, lambda c: F.layer_norm(c(rand(4, 4)), (4,))),
    "gelu": (SAME, lambda c: F.gelu(c(rand(4)))),
    "mean": (SAME, lambda c: c(rand(4)).mean()),
    "max_pool2d": (SAME, lambda c: F.max_pool2d(c(rand(1, 1, 4, 4)), 2)),
    "max_pool3d": (WIDE, lambda c: F.max_pool3d(c(rand(1, 1, 4, 4, 4)), 2)),
    "prod": (WIDE, lambda c: c(rand(4)).prod()),
    "cdist": (WIDE, lambda c: torch.cdist(c(rand(4, 4)), c(rand(4, 4)))),
    "cross_entropy": (WIDE, lambda c: F.cross_entropy(c(rand(4, 4)), LABELS)),
    "nll_loss": (WIDE, lambda c: F.nll_loss(c(rand(4, 4)), LABELS)),
    "mse_loss": (WIDE, lambda c: F.mse_loss(c(rand(4, 4)), c(rand(4, 4)))),
    "mse_loss to float32": (WIDE, lambda c: F.mse_loss(c(rand(4, 4)), rand(4, 4))),
    "binary_cross_entropy": (WIDE, lambda c: F.binary_cross_entropy(c(rand(4, 4)), c(rand(4, 4)))),
    "ctc_loss": (WIDE, lambda c: F.ctc_loss(c(rand(5, 2, 4)).log_softmax(-1), torch.ones(2, 2, dtype=torch.long), (5, 5), (2, 2))),
    "reflect": (WIDE, lambda c: F.pad(c(rand(1, 1, 4, 4)), (1, 1, 1, 1), mode="reflect")),
    "GRUCell": (SAME, lambda c: nn.GRUCell(4, 4)(c(rand(2, 4)), c(rand(2, 4)))),
    "LSTM": (NARROW, lambda c: nn.LSTM(4, 4)(c(rand(2, 4)))[0]),
    "MultiheadAttention": (NARROW, lambda c: nn.MultiheadAttention(4, 2)(*[c(rand(4, 4))] * 3)[0]),
    "TransformerEncoderLayer": (SAME, lambda c: nn.TransformerEncoderLayer(4, 2)(c(rand(4, 4)))),
}


@pytest.mark.parametrize("name", CASES)
def test_types_inside_and_outside(name):
    (of_float, of_half), fn = CASES[name]
    for _ in range(3):                      # what is found in one mode is not used in the other
        assert fn(lambda x: x).dtype is f32
        with autocast("cpu"):
            assert fn(lambda x: x).dtype is of_float
            assert fn(lambda x: x.to(b16)).dtype is of_half
            with autocast("cpu", enabled=False):
                assert fn(lambda x: x).dtype is f32
            assert fn(lambda x: x).dtype is of_float
        if name not in ("linear with a float32 bias", "conv2d", "GRUCell", "LSTM", "MultiheadAttention", "TransformerEncoderLayer", "mse_loss to float32"):
            assert fn(lambda x: x.to(b16)).dtype is b16


def test_float64_is_left_alone_and_float16_can_be_chosen():
    x = torch.rand(4, 4)
    with autocast("cpu"):
        assert (x.double() @ x.double()).dtype is f64
    with autocast("cpu", dtype=f16):
        assert (x @ x).dtype is f16
        with autocast("cpu", dtype=b16):
            assert (x @ x).dtype is b16
        assert (x @ x).dtype is f16
    out = torch.empty(4, 4)
    with autocast("cpu"):
        assert torch.mm(x, x, out=out).dtype is f32


def test_values_are_those_of_casts_by_hand():
    x, w, b = torch.randn(5, 8), torch.randn(6, 8), torch.randn(6)
    with autocast("cpu"):
        y = F.linear(x, w, b)
        loss = F.mse_loss(y, torch.zeros(5, 6))
    by_hand = F.linear(x.to(b16), w.to(b16), b.to(b16))
    assert torch.equal(y, by_hand)
    assert torch.equal(loss, F.mse_loss(by_hand.float(), torch.zeros(5, 6)))


def test_parameters_and_gradients_stay_float32():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    x, y = torch.randn(2, 1, 8, 8), torch.tensor([0, 2])

    def gradients(narrow):
        model.zero_grad()
        with autocast("cpu", enabled=narrow):
            out = model(x)
            loss = F.cross_entropy(out, y)
        assert out.dtype is (b16 if narrow else f32) and loss.dtype is f32
        loss.backward()
        assert all(p.grad.dtype is f32 for p in model.parameters())
        return [p.grad.clone() for p in model.parameters()]
    for _ in range(3):
        for near, exact in zip(gradients(True), gradients(False), strict=True):
            assert (near - exact).norm() < 0.02 * exact.norm()
            assert not torch.equal(near, exact)


def test_backward_inside_the_block_and_twice():
    x = torch.randn(4, 4, requires_grad=True)
    with autocast("cpu"):
        y = (x @ x).float().square().sum()
        g, = torch.autograd.grad(y, x, create_graph=True)
        assert g.dtype is f32
    with autocast("cpu"):
        h, = torch.autograd.grad(g.square().sum(), x)
    assert h.dtype is f32 and h.isfinite().all()
    w = torch.randn(4, 4, requires_grad=True)
    with autocast("cpu"):
        y = F.linear(x, w).float().pow(3).sum()
    g, = torch.autograd.grad(y, w, create_graph=True)
    h, = torch.autograd.grad(g.sum(), w)
    assert g.dtype is h.dtype is f32


def test_a_composite_of_the_user_is_traced_for_both():
    @torch.composite
    def layer(x, w):
        return torch.relu(x @ w) + 1.0
    x, w = torch.randn(3, 4), torch.randn(4, 2)
    for _ in range(3):
        assert layer(x, w).dtype is f32
        with autocast("cpu"):
            assert layer(x, w).dtype is b16


def test_as_a_decorator_and_after_an_error():
    @autocast("cpu")
    def product(x):
        return x @ x
    assert product(torch.rand(3, 3)).dtype is b16
    with pytest.raises(RuntimeError), autocast("cpu"):
        torch.rand(3, 3) @ torch.rand(4, 4)
    assert (torch.rand(3, 3) @ torch.rand(3, 3)).dtype is f32
    torch.set_default_dtype(f64)
    try:
        with autocast("cpu"):
            assert (torch.rand(3, 3) @ torch.rand(3, 3)).dtype is f64
    finally:
        torch.set_default_dtype(f32)


def test_without_cuda_it_is_off_with_a_warning():
    with pytest.warns(UserWarning, match="CUDA is not available"):
        mode = torch.autocast("cuda")
    with mode:
        assert (torch.rand(3, 3) @ torch.rand(3, 3)).dtype is f32
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.autocast("cuda", enabled=False)
        torch.autocast("cuda:0", enabled=False)
    with pytest.warns(UserWarning, match="target dtype"):
        torch.autocast("cpu", dtype=f64)
    with pytest.raises(RuntimeError, match="unsupported autocast device_type 'tpu'"):
        torch.autocast("tpu")
    with pytest.raises(ValueError, match="`device_type` of type `str`"):
        torch.autocast(torch.device("cpu"))
    with pytest.warns(FutureWarning, match="torch.amp.autocast"), torch.cpu.amp.autocast():
        assert torch.is_autocast_enabled("cpu") and torch.is_autocast_cpu_enabled()
        assert torch.get_autocast_dtype("cpu") is b16
    with pytest.warns((FutureWarning, UserWarning)):
        assert not torch.cuda.amp.GradScaler().is_enabled()


def test_custom_functions():
    class Square(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type="cpu")
        def forward(ctx, x):
            ctx.save_for_backward(x)
            assert torch.is_autocast_enabled("cpu")
            return (x @ x).float()

        @staticmethod
        @custom_bwd(device_type="cpu")
        def backward(ctx, g):
            assert torch.is_autocast_enabled("cpu")
            x, = ctx.saved_tensors
            return (g @ x.t() + x.t() @ g).float()

    class Exact(torch.autograd.Function):
        @staticmethod
        @custom_fwd(device_type="cpu", cast_inputs=f32)
        def forward(ctx, x):
            assert not torch.is_autocast_enabled("cpu") and x.dtype is f32
            return x @ x

        @staticmethod
        @custom_bwd(device_type="cpu")
        def backward(ctx, g):
            assert not torch.is_autocast_enabled("cpu")
            return g
    x = torch.randn(3, 3, requires_grad=True)
    with autocast("cpu"):
        y, z = Square.apply(x), Exact.apply(x.to(b16))
    assert z.dtype is f32
    (y.sum() + z.sum()).backward()
    assert x.grad.dtype is f32


# ------------------------------------------------------------------ loss scaling


def trained(scaler, spoil=()):
    torch.manual_seed(0)
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, scales = torch.ones(2, 3), []
    for i in range(6):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        if i in spoil:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return model.weight.detach().clone(), scales


def test_scaling_changes_nothing_but_the_range():
    plain, _ = trained(GradScaler("cpu", enabled=False))
    scaled, scales = trained(GradScaler("cpu", init_scale=4.0, growth_interval=2))
    assert torch.equal(plain, scaled)               # powers of two
    assert scales == [4.0, 8.0, 8.0, 16.0, 16.0, 32.0]


def test_bad_steps_are_left_out():
    weight, scales = trained(GradScaler("cpu", init_scale=4.0, growth_interval=2), spoil=(3,))
    assert scales == [4.0, 8.0, 8.0, 4.0, 4.0, 8.0]     # as PyTorch's
    assert weight.isfinite().all()


def test_unscale_for_clipping_and_its_order():
    model = nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = GradScaler("cpu", init_scale=8.0)
    with pytest.raises(AssertionError, match="_scale is None"):
        scaler.step(optimizer)
    scaler.scale(model(torch.ones(2, 3)).sum()).backward()
    assert model.bias.grad.item() == 16.0
    scaler.unscale_(optimizer)
    assert model.bias.grad.item() == 2.0
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    with pytest.raises(RuntimeError, match="step"):
        scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    with pytest.raises(AssertionError, match="No inf checks"):
        scaler.step(optimizer)
    again = GradScaler("cpu")
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict()
    with pytest.raises(RuntimeError, match="empty"):
        again.load_state_dict({})
    half = nn.Linear(3, 1).to(f16)
    optimizer = torch.optim.SGD(half.parameters(), lr=0.1)
    half.weight.grad = torch.ones_like(half.weight)
    with pytest.raises(ValueError, match="FP16 gradients"):
        scaler.unscale_(optimizer)
    with pytest.raises(AssertionError, match="growth factor"):
        GradScaler("cpu", growth_factor=1.0)


def test_a_mixed_precision_loop_settles():
    from flambeau.stream import cache

    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    optimizer, scaler = torch.optim.Adam(model.parameters()), GradScaler("cpu")
    x, y = torch.randn(16, 8), torch.randint(4, (16,))

    def step():
        optimizer.zero_grad()
        with autocast("cpu"):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        return loss.item()
    losses = [step() for _ in range(4)]
    plans = cache.STATS["plans"]
    losses += [step() for _ in range(20)]
    assert cache.STATS["plans"] == plans
    assert losses[-1] < losses[0]
