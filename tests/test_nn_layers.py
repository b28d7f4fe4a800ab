"""Every layer against PyTorch: printed form, initial values for a seed, outputs, gradients, buffers, names of graph nodes."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import numpy as np
import pytest

import flambeau as fl
from flambeau.stream.cache import STATS

torch = pytest.importorskip("torch")

torch.set_num_threads(1)

R = np.random.RandomState


def f(*shape: int, seed: int = 0, low: float | None = None) -> np.ndarray[Any, Any]:
    """Normal values, or uniform ones from ``low`` to 1."""
    r = R(seed + len(shape))
    return (r.randn(*shape) if low is None else r.uniform(low, 1, shape)).astype(np.float32)


def i(high: int, *shape: int, low: int = 0) -> np.ndarray[Any, Any]:
    return R(5).randint(low, high, shape).astype(np.int64)


SIGN = np.where(R(1).rand(4) > 0.5, 1.0, -1.0).astype(np.float32)

# constructor, inputs; the constructor is evaluated with ``nn`` and ``torch`` of either library
LAYERS: list[tuple[str, tuple[Any, ...]]] = [
    ("nn.Identity()", (f(2, 3),)),
    ("nn.Linear(3, 4)", (f(5, 3),)),
    ("nn.Linear(3, 4, bias=False)", (f(5, 3),)),
    ("nn.Linear(3, 4)", (f(3),)),
    ("nn.Linear(3, 4)", (f(2, 5, 3),)),
    ("nn.Linear(3, 4, bias=False)", (f(2, 5, 3),)),
    ("nn.Bilinear(3, 2, 4)", (f(5, 3), f(5, 2))),
    ("nn.Embedding(7, 3)", (i(7, 2, 4),)),
    ("nn.Embedding(7, 3, padding_idx=-2)", (i(7, 5),)),
    ("nn.EmbeddingBag(7, 3)", (i(7, 2, 4),)),
    ("nn.EmbeddingBag(7, 3, mode='sum')", (i(7, 6), np.array([0, 2, 5]))),
    ("nn.EmbeddingBag(7, 3, mode='max')", (i(7, 2, 4),)),
    ("nn.Flatten()", (f(2, 3, 4),)),
    ("nn.Flatten(0, 1)", (f(2, 3, 4),)),
    ("nn.Unflatten(1, (2, 3))", (f(2, 6),)),
    *(
        (e, (f(4, 6),))
        for e in (
            "nn.ReLU()",
            "nn.ReLU(True)",
            "nn.ReLU6()",
            "nn.LeakyReLU()",
            "nn.LeakyReLU(0.2, True)",
            "nn.ELU()",
            "nn.ELU(0.7, True)",
            "nn.CELU(1.3)",
            "nn.SELU()",
            "nn.SELU(True)",
            "nn.GELU()",
            "nn.GELU('tanh')",
            "nn.SiLU()",
            "nn.SiLU(True)",
            "nn.Mish()",
            "nn.Softplus()",
            "nn.Softplus(2., 1.)",
            "nn.Softsign()",
            "nn.Tanhshrink()",
            "nn.Softshrink()",
            "nn.Hardshrink(0.3)",
            "nn.Hardtanh()",
            "nn.Hardtanh(-0.2, 0.3, True)",
            "nn.Hardsigmoid()",
            "nn.Hardswish()",
            "nn.LogSigmoid()",
            "nn.Sigmoid()",
            "nn.Tanh()",
            "nn.GLU()",
            "nn.GLU(0)",
            "nn.RReLU().eval()",
            "nn.Threshold(0.1, 20)",
            "nn.PReLU()",
            "nn.PReLU(6)",
            "nn.Softmax(1)",
            "nn.Softmax(0)",
            "nn.Softmin(1)",
            "nn.LogSoftmax(-1)",
            "nn.LayerNorm(6)",
            "nn.LayerNorm((4, 6), elementwise_affine=False)",
            "nn.LayerNorm(6, bias=False)",
            "nn.RMSNorm(6)",
            "nn.BatchNorm1d(6)",
            "nn.BatchNorm1d(6).eval()",
            "nn.BatchNorm1d(6, affine=False, momentum=None)",
            "nn.BatchNorm1d(6, track_running_stats=False)",
            "nn.Dropout(0.5).eval()",
        )
    ),
    ("nn.Softmax2d()", (f(2, 3, 4, 4),)),
    ("nn.GroupNorm(2, 4)", (f(3, 4, 5),)),
    ("nn.GroupNorm(2, 4, affine=False)", (f(3, 4),)),
    ("nn.BatchNorm1d(4)", (f(3, 4, 5),)),
    ("nn.BatchNorm2d(4)", (f(3, 4, 5, 2),)),
    ("nn.BatchNorm3d(4)", (f(3, 4, 2, 2, 2),)),
    ("nn.InstanceNorm1d(4)", (f(3, 4, 5),)),
    ("nn.InstanceNorm2d(4, affine=True, track_running_stats=True)", (f(3, 4, 5, 2),)),
    ("nn.InstanceNorm3d(4, track_running_stats=True).eval()", (f(3, 4, 2, 2, 2),)),
    ("nn.InstanceNorm2d(4)", (f(4, 5, 2),)),
    ("nn.LocalResponseNorm(3)", (f(2, 5, 4),)),
    ("nn.Conv1d(4, 6, 3)", (f(2, 4, 8),)),
    ("nn.Conv1d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)", (f(2, 4, 8),)),
    ("nn.Conv2d(3, 4, 3)", (f(2, 3, 6, 7),)),
    ("nn.Conv2d(3, 4, (3, 2), padding='same', dilation=(1, 2))", (f(2, 3, 6, 7),)),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='circular')", (f(2, 3, 6, 7),)),
    ("nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect')", (f(3, 6, 7),)),
    ("nn.Conv3d(2, 3, 2)", (f(1, 2, 4, 4, 4),)),
    ("nn.ConvTranspose1d(3, 4, 3, stride=2)", (f(2, 3, 5),)),
    ("nn.ConvTranspose2d(4, 4, 3, 2, 1, 1, groups=2)", (f(2, 4, 5, 5),)),
    ("nn.ConvTranspose3d(2, 3, 2)", (f(1, 2, 3, 3, 3),)),
    ("nn.MaxPool1d(2)", (f(2, 3, 7),)),
    ("nn.MaxPool2d(3, stride=2, padding=1)", (f(2, 3, 7, 8),)),
    ("nn.MaxPool2d(2, ceil_mode=True, return_indices=True)", (f(3, 7, 8),)),
    ("nn.MaxPool3d(2)", (f(1, 2, 4, 4, 4),)),
    ("nn.AvgPool1d(2, padding=1)", (f(2, 3, 7),)),
    ("nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False)", (f(2, 3, 7, 8),)),
    ("nn.AvgPool2d(2, divisor_override=3)", (f(3, 6, 6),)),
    ("nn.AvgPool3d(2)", (f(1, 2, 4, 4, 4),)),
    ("nn.AdaptiveAvgPool1d(3)", (f(2, 3, 7),)),
    ("nn.AdaptiveAvgPool2d((3, None))", (f(2, 3, 7, 8),)),
    ("nn.AdaptiveAvgPool2d(1)", (f(2, 3, 7, 8),)),
    ("nn.AdaptiveAvgPool3d(2)", (f(1, 2, 4, 5, 4),)),
    ("nn.AdaptiveMaxPool1d(3)", (f(2, 3, 7),)),
    ("nn.AdaptiveMaxPool2d((3, 2), return_indices=True)", (f(2, 3, 7, 8),)),
    ("nn.AdaptiveMaxPool3d(2)", (f(1, 2, 4, 5, 4),)),
    ("nn.LPPool1d(2, 3)", (f(2, 3, 9),)),
    ("nn.LPPool2d(2, 3)", (f(2, 3, 9, 9),)),
    ("nn.FractionalMaxPool2d(2, output_size=3, _random_samples=torch.tensor([[[0.3, 0.6], [0.1, 0.9]]]))", (f(1, 2, 7, 7),)),
    ("nn.MaxUnpool2d(2)", (f(1, 1, 2, 2), np.array([[[[0, 2], [9, 15]]]]))),
    ("nn.Fold((4, 5), 2)", (f(2, 8, 12),)),
    ("nn.Unfold(2, padding=1, stride=2)", (f(2, 3, 5, 6),)),
    ("nn.PixelShuffle(2)", (f(1, 8, 2, 3),)),
    ("nn.PixelUnshuffle(2)", (f(1, 2, 4, 6),)),
    ("nn.ChannelShuffle(2)", (f(1, 4, 2, 3),)),
    ("nn.Upsample(scale_factor=2)", (f(1, 2, 3),)),
    ("nn.Upsample(size=(5, 4), mode='bilinear')", (f(1, 2, 3, 3),)),
    ("nn.Upsample(scale_factor=1.5, mode='bicubic', align_corners=True)", (f(1, 2, 4, 4),)),
    ("nn.Upsample(scale_factor=2, mode='trilinear')", (f(1, 2, 3, 3, 2),)),
    ("nn.UpsamplingBilinear2d(size=5)", (f(1, 2, 3, 3),)),
    ("nn.ZeroPad2d((1, 0, 2, 1))", (f(1, 2, 3, 3),)),
    ("nn.ConstantPad1d(1, 2.)", (f(2, 3, 3),)),
    ("nn.ReflectionPad2d((1, 2, 0, 1))", (f(1, 2, 3, 4),)),
    ("nn.ReplicationPad3d(1)", (f(1, 2, 3, 3, 2),)),
    ("nn.CircularPad1d((2, 1))", (f(2, 3, 3),)),
    ("nn.CosineSimilarity()", (f(4, 3), f(4, 3, seed=3))),
    ("nn.PairwiseDistance(keepdim=True)", (f(4, 3), f(4, 3, seed=3))),
    ("nn.RNN(3, 4)", (f(5, 2, 3),)),
    ("nn.RNN(3, 4, 2, nonlinearity='relu', batch_first=True, bidirectional=True)", (f(2, 5, 3),)),
    ("nn.LSTM(3, 4)", (f(5, 2, 3),)),
    ("nn.LSTM(3, 4, 2, bias=False, bidirectional=True)", (f(5, 2, 3),)),
    ("nn.LSTM(3, 4, proj_size=2)", (f(5, 2, 3),)),
    ("nn.GRU(3, 4, num_layers=2)", (f(5, 3),)),
    ("nn.RNNCell(3, 4)", (f(5, 3),)),
    ("nn.RNNCell(3, 4, nonlinearity='relu')", (f(5, 3), f(5, 4))),
    ("nn.LSTMCell(3, 4)", (f(5, 3),)),
    ("nn.GRUCell(3, 4)", (f(5, 3), f(5, 4))),
    ("nn.MultiheadAttention(4, 2)", (f(5, 2, 4), f(3, 2, 4), f(3, 2, 4, seed=2))),
    (
        "nn.MultiheadAttention(4, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True, kdim=3, vdim=5)",
        (f(2, 5, 4), f(2, 3, 3), f(2, 3, 5)),
    ),
    ("nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0)", (f(5, 2, 4),)),
    ("nn.TransformerDecoderLayer(4, 2, 8, dropout=0.0, activation='gelu', norm_first=True)", (f(5, 2, 4), f(3, 2, 4))),
    ("nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, 0.0, batch_first=True), 2)", (f(2, 5, 4),)),
    ("nn.Transformer(4, 2, 1, 1, 8, 0.0)", (f(5, 2, 4), f(3, 2, 4))),
    ("nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))", (f(5, 3),)),
]

LOSSES: list[tuple[str, tuple[Any, ...]]] = [
    ("nn.MSELoss()", (f(4, 3), f(4, 3, seed=3))),
    ("nn.MSELoss(reduction='sum')", (f(4, 3), f(4, 3, seed=3))),
    ("nn.MSELoss(reduction='none')", (f(4, 3), f(4, 3, seed=3))),
    ("nn.L1Loss()", (f(4, 3), f(4, 3, seed=3))),
    ("nn.L1Loss(reduction='sum')", (f(4, 3), f(4, 3, seed=3))),
    ("nn.SmoothL1Loss(beta=0.5)", (f(4, 3), f(4, 3, seed=3))),
    ("nn.HuberLoss(delta=0.5)", (f(4, 3), f(4, 3, seed=3))),
    ("nn.CrossEntropyLoss()", (f(4, 3), i(3, 4))),
    ("nn.CrossEntropyLoss(ignore_index=1, reduction='none')", (f(4, 3), i(3, 4))),
    ("nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.5, 0.7]))", (f(4, 3), i(3, 4))),
    ("nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.5, 0.7]), label_smoothing=0.2)", (f(4, 3), i(3, 4))),
    ("nn.CrossEntropyLoss(label_smoothing=0.1)", (f(4, 3, 2), i(3, 4, 2))),
    ("nn.CrossEntropyLoss()", (f(4, 3, 2, 2), i(3, 4, 2, 2))),
    ("nn.CrossEntropyLoss()", (f(3), np.array(2))),
    ("nn.CrossEntropyLoss()", (f(4, 3), f(4, 3, low=0))),
    ("nn.CrossEntropyLoss(reduction='sum', label_smoothing=0.1)", (f(4, 3, 2), f(4, 3, 2, low=0))),
    ("nn.NLLLoss()", (f(4, 3), i(3, 4))),
    ("nn.NLLLoss(weight=torch.tensor([0.2, 1.5, 0.7]), ignore_index=0, reduction='sum')", (f(4, 3, 2), i(3, 4, 2))),
    ("nn.BCELoss()", (f(4, 3, low=0.01) * 0.98, f(4, 3, low=0))),
    ("nn.BCELoss(weight=torch.tensor([0.2, 1.5, 0.7]), reduction='sum')", (f(4, 3, low=0.01) * 0.98, f(4, 3, low=0))),
    ("nn.BCEWithLogitsLoss()", (f(4, 3), f(4, 3, low=0))),
    ("nn.BCEWithLogitsLoss(pos_weight=torch.tensor([0.2, 1.5, 0.7]))", (f(4, 3), f(4, 3, low=0))),
    ("nn.KLDivLoss(reduction='batchmean')", (f(4, 3), f(4, 3, low=0))),
    ("nn.KLDivLoss(reduction='sum', log_target=True)", (f(4, 3), f(4, 3, seed=3))),
    ("nn.PoissonNLLLoss(full=True)", (f(4, 3), f(4, 3, low=0.1) * 4)),
    ("nn.GaussianNLLLoss(full=True)", (f(4, 3), f(4, 3, seed=3), f(4, 3, low=0.1))),
    ("nn.HingeEmbeddingLoss()", (f(4), SIGN)),
    ("nn.MarginRankingLoss(margin=0.3)", (f(4), f(4, seed=3), SIGN)),
    ("nn.CosineEmbeddingLoss(margin=0.1)", (f(4, 3), f(4, 3, seed=3), SIGN)),
    ("nn.TripletMarginLoss(swap=True)", (f(4, 3), f(4, 3, seed=3), f(4, 3, seed=4))),
    ("nn.TripletMarginWithDistanceLoss()", (f(4, 3), f(4, 3, seed=3), f(4, 3, seed=4))),
    ("nn.SoftMarginLoss()", (f(4), SIGN)),
    ("nn.MultiMarginLoss(p=2, weight=torch.tensor([0.2, 1.5, 0.7]))", (f(4, 3), i(3, 4))),
    ("nn.MultiMarginLoss()", (f(3), np.array(1))),
    ("nn.MultiLabelMarginLoss()", (f(2, 4), np.array([[3, 0, -1, 1], [1, -1, 2, 3]]))),
    ("nn.MultiLabelSoftMarginLoss(weight=torch.tensor([0.2, 1.5, 0.7]))", (f(4, 3), (f(4, 3) > 0).astype(np.float32))),
    ("nn.CTCLoss()", (f(6, 2, 4), i(4, 2, 3, low=1), np.array([6, 5]), np.array([3, 2]))),
    ("nn.CTCLoss(reduction='sum', zero_infinity=True)", (f(3, 2, 4), i(4, 2, 3, low=1), np.array([3, 2]), np.array([3, 1]))),
]


def build(expression: str, library: Any) -> Any:
    """The module, made after seeding."""
    library.manual_seed(3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return eval(expression, {"nn": library.nn, "torch": library})


def tensors(values: tuple[Any, ...], library: Any) -> list[Any]:
    return [library.from_numpy(v.copy()) if v.ndim else library.tensor(v.item()) for v in values]


def close(ours: Any, theirs: Any, what: str, tolerance: float = 2e-5) -> None:
    a, b = ours.detach().numpy(), theirs.detach().numpy()
    assert a.shape == b.shape, what
    assert a.dtype == b.dtype, what
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=what)


def flat(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in flat(v)]
    return [] if value is None else [value]


def check(expression: str, values: tuple[Any, ...], all_gradients: bool) -> None:
    ours, theirs = build(expression, fl), build(expression, torch)
    assert repr(ours) == repr(theirs)
    state, expected = ours.state_dict(), theirs.state_dict()
    assert list(state) == list(expected)
    for name in state:
        np.testing.assert_array_equal(state[name].numpy(), expected[name].numpy(), err_msg=f"initial {name}")
    mine, yours = tensors(values, fl), tensors(values, torch)
    places = [k for k, t in enumerate(yours) if t.is_floating_point()][: None if all_gradients else 1]
    for k in places:
        mine[k].requires_grad_(True)
        yours[k].requires_grad_(True)
    inplace = getattr(theirs, "inplace", False)
    out = flat(ours(*[t.clone() if inplace else t for t in mine]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own remarks on its implementation
        want = flat(theirs(*[t.clone() if inplace else t for t in yours]))
    assert len(out) == len(want)
    for k, (a, b) in enumerate(zip(out, want, strict=True)):
        close(a, b, f"output {k}")
        assert a.requires_grad == b.requires_grad
    roots = [(a, b) for a, b in zip(out, want, strict=True) if b.requires_grad]
    if roots:
        factors = [np.asarray(R(9).randn(*b.shape), dtype=np.float32) for _, b in roots]
        sum((a * fl.from_numpy(c)).sum() for (a, _), c in zip(roots, factors, strict=True)).backward()
        sum((b * torch.from_numpy(c)).sum() for (_, b), c in zip(roots, factors, strict=True)).backward()
    for k in places:
        if yours[k].grad is not None:
            close(mine[k].grad, yours[k].grad, f"gradient of input {k}", 1e-4)
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if q.grad is not None:
            close(p.grad, q.grad, f"gradient of {name}", 1e-4)
    for (name, b), c in zip(ours.named_buffers(), theirs.buffers(), strict=True):
        close(b, c, f"buffer {name}")


@pytest.mark.parametrize(("expression", "values"), LAYERS, ids=[f"{k}-{e[0]}" for k, e in enumerate(LAYERS)])
def test_layer(expression: str, values: tuple[Any, ...]) -> None:
    check(expression, values, all_gradients=True)


@pytest.mark.parametrize(("expression", "values"), LOSSES, ids=[f"{k}-{e[0]}" for k, e in enumerate(LOSSES)])
def test_loss(expression: str, values: tuple[Any, ...]) -> None:
    check(expression, values, all_gradients=False)


@pytest.mark.parametrize("expression", ["nn.LSTM(3, 4, 2)", "nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))", "nn.ModuleDict({'a': nn.Linear(1, 2)})"])
def test_copies_are_independent(expression: str) -> None:
    module = build(expression, fl)
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(made) == repr(module)
        for (name, p), q in zip(made.named_parameters(), module.parameters(), strict=True):
            np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy(), err_msg=name)
            with fl.no_grad():
                p.fill_(7)
            assert not (q.detach().numpy() == 7).all()


NODES = [
    ("linear", "F.linear(x, w, b)"),
    ("linear without bias", "F.linear(x, w)"),
    ("relu", "F.relu(x)"),
    ("gelu", "F.gelu(x)"),
    ("silu", "F.silu(x)"),
    ("leaky_relu", "F.leaky_relu(x)"),
    ("elu", "F.elu(x)"),
    ("selu", "F.selu(x)"),
    ("celu", "F.celu(x)"),
    ("softplus", "F.softplus(x)"),
    ("hardtanh", "F.hardtanh(x)"),
    ("logsigmoid", "F.logsigmoid(x)"),
    ("softmax", "F.softmax(x, 1)"),
    ("log_softmax", "F.log_softmax(x, 1)"),
    ("mse", "F.mse_loss(x, x.detach() + 1)"),
    ("l1", "F.l1_loss(x, x.detach() + 1)"),
    ("l1 sum", "F.l1_loss(x, x.detach() + 1, reduction='sum')"),
    ("cross_entropy", "F.cross_entropy(x, y)"),
    ("nll", "F.nll_loss(x, y)"),
    ("bce", "F.binary_cross_entropy(x.sigmoid(), x.detach().sigmoid())"),
    ("bce logits", "F.binary_cross_entropy_with_logits(x, x.detach().sigmoid())"),
    ("layer_norm", "F.layer_norm(x, (6,))"),
    ("batch_norm", "F.batch_norm(x, None, None, training=True)"),
    ("dropout", "F.dropout(x)"),
    ("huber", "F.huber_loss(x, x.detach() + 1)"),
    ("smooth_l1", "F.smooth_l1_loss(x, x.detach() + 1)"),
    ("glu", "F.glu(x)"),
]


@pytest.mark.parametrize(("name", "call"), NODES, ids=[n for n, _ in NODES])
def test_node_names(name: str, call: str) -> None:
    found = []
    for library in (fl, torch):
        x, w, b = (library.from_numpy(v).requires_grad_() for v in (f(4, 6), f(3, 6), f(3)))
        y = library.tensor([0, 5, 2, 1])
        found.append(eval(call, {"F": library.nn.functional, "x": x, "w": w, "b": b, "y": y}).grad_fn.name())
    assert found[0] == found[1]


def test_the_mean_over_all_batches_is_one_program():
    ours, theirs = fl.nn.BatchNorm1d(3, momentum=None), torch.nn.BatchNorm1d(3, momentum=None)
    plans = []
    for k in range(1, 9):
        x = f(5, 3, seed=k) * k
        ours(fl.tensor(x)), theirs(torch.tensor(x))
        for name in ("running_mean", "running_var"):
            np.testing.assert_allclose(getattr(ours, name).numpy(), getattr(theirs, name).numpy(), rtol=1e-5, atol=1e-6)
        plans.append(STATS["plans"])
    assert plans[-1] == plans[2]        # no more after the first batches
