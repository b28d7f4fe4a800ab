"""What nn says in its own words, and what it promises beyond PyTorch.  These tests need no PyTorch."""

from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from typing import Any

import pytest

import flambeau as fl

nn = fl.nn
F = fl.nn.functional


# ------------------------------------------------------------------ our own words


def message(build: Any) -> str:
    with pytest.raises(Exception) as caught:
        build()
    return "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])


def test_errors_name_the_module_path() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(5, 1)))
    text = message(lambda: net(fl.ones(2, 4)))
    assert text.split("\n")[0] == "mat1 and mat2 shapes cannot be multiplied (2x4 and 5x1)"
    assert text.split("\n")[1].startswith("1.1 (Linear): input [2, 4] has 4 features")

    class Broken(nn.Module):
        def forward(self, x: Any) -> Any:
            raise KeyError("lost")

    assert "raised in 0.0 (Broken)" in message(lambda: nn.Sequential(nn.Sequential(Broken()))(1))
    # a module on its own adds nothing
    assert message(lambda: Broken()(1)) == "'lost'"


def test_before_init() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            self.fc = nn.Linear(2, 1)

    text = message(Net)
    assert text.startswith("cannot assign module before Module.__init__() call")
    assert "super().__init__()" in text and "Net" in text and "fc" in text


def test_misspelt_forward() -> None:
    class Net(nn.Module):
        def foward(self, x: Any) -> Any:
            return x

    assert "Did you mean forward where it says foward" in message(lambda: Net()(1))


def test_result_of_load_state_dict_is_no_model() -> None:
    net = nn.Linear(2, 1)
    result = net.load_state_dict({k: v.clone() for k, v in net.state_dict().items()})
    text = message(lambda: result(1))
    assert text.startswith("'_IncompatibleKeys' object is not callable") and "in place" in text


def test_prefix_of_a_wrapper() -> None:
    net = nn.Sequential(nn.Linear(2, 1))
    text = message(lambda: net.load_state_dict({"module." + k: v for k, v in net.state_dict().items()}))
    assert "DataParallel" in text and "removeprefix" in text


def warned(run: Any) -> list[str]:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run()
    assert all(w.filename == __file__ for w in seen), "warnings point to the user's line"
    return [str(w.message) for w in seen]


def test_modules_in_a_plain_list() -> None:
    class Net(nn.Module):
        def __init__(self, hidden: Any) -> None:
            super().__init__()
            self.hidden = hidden
            self.head = nn.Linear(4, 1)

    (text,) = warned(lambda: list(Net([nn.Linear(4, 4), nn.Linear(4, 4)]).parameters()))
    assert "Net.hidden is a plain list of modules" in text and "ModuleList" in text
    assert not warned(lambda: list(Net([nn.Linear(4, 4)]).parameters()))
    a = nn.Linear(1, 1)
    assert not warned(lambda: list(Net(nn.ModuleList([a, a])).parameters()))


def test_tensor_that_is_no_parameter() -> None:
    class Net(nn.Module):
        def __init__(self, w: Any) -> None:
            super().__init__()
            self.w = w

    (text,) = warned(lambda: list(Net(fl.ones(3, requires_grad=True)).parameters()))
    assert "Net.w" in text and "nn.Parameter" in text
    assert not warned(lambda: list(Net(fl.ones(3)).parameters()))
    assert not warned(lambda: list(Net(nn.Parameter(fl.ones(3))).parameters()))


def test_loading_a_models_own_tensors() -> None:
    net = nn.Linear(2, 1)
    (text,) = warned(lambda: net.load_state_dict(net.state_dict()))
    assert "deepcopy" in text and "own" in text
    other = nn.Linear(2, 1)
    assert not warned(lambda: other.load_state_dict(net.state_dict()))


def test_softmax_before_cross_entropy() -> None:
    x = fl.ones(2, 3, requires_grad=True)
    y = fl.tensor([0, 1])
    (text,) = warned(lambda: nn.CrossEntropyLoss()(fl.nn.functional.softmax(x, dim=1), y))
    assert "softmax twice" in text
    assert not warned(lambda: nn.CrossEntropyLoss()(x * fl.nn.functional.softmax(x, dim=1), y))


def test_broadcast_in_a_loss() -> None:
    (text,) = warned(lambda: nn.MSELoss()(fl.ones(8, 1), fl.ones(8)))
    assert text.startswith("Using a target size (torch.Size([8]))") and "broadcast to [8, 8]" in text and "squeeze(1)" in text
    assert not warned(lambda: nn.MSELoss()(fl.ones(8, 1), fl.ones(8, 1)))


CROSS_ENTROPY = [
    ((8, 3), [0, 1, 2, 0], ValueError, "Expected input batch_size (8) to match target batch_size (4).", ["[8, 3]", "x.flatten(1)"]),
    ((4, 3), [[0], [1], [2], [1]], RuntimeError, "0D or 1D target tensor expected, multi-target not supported", ["[4, 1]", "squeeze(1)", "[4]"]),
    ((4, 3), [1, 2, 3, 1], IndexError, "Target 3 is out of bounds.", ["0..2", "target - 1"]),
    ((2, 3), [[0, 1, 0], [1, 0, 0]], RuntimeError, "Expected floating point type for target with class probabilities, got Long", ["one-hot", "argmax"]),
    ((4, 3), [0.0, 1.0, 2.0, 1.0], RuntimeError, "expected target dtype to be Long or Byte, but got Float", ["target.long()", "float32"]),
]


@pytest.mark.parametrize(("shape", "target", "kind", "head", "words"), CROSS_ENTROPY, ids=[c[3] for c in CROSS_ENTROPY])
def test_cross_entropy_mistakes(shape: tuple[int, ...], target: Any, kind: type[Exception], head: str, words: list[str]) -> None:
    with pytest.raises(kind) as caught:
        nn.CrossEntropyLoss()(fl.zeros(shape), fl.tensor(target))
    first, second = str(caught.value).split("\n")
    assert first == head
    assert second.startswith("CrossEntropyLoss: ")
    assert all(w in second for w in words)


def test_shape_words_of_layers() -> None:
    conv = nn.Sequential()
    conv.add_module("conv", nn.Conv2d(3, 8, 3))
    text = message(lambda: conv(fl.zeros(4, 32, 32, 3)))
    assert text.startswith(
        "Given groups=1, weight of size [8, 3, 3, 3], expected input[4, 32, 32, 3] to have 3 channels, but got 32 channels instead\nconv (Conv2d): "
    )
    assert "permute(0, 3, 1, 2)" in text
    assert "unsqueeze(1)" in message(lambda: nn.Conv2d(1, 8, 3)(fl.zeros(64, 28, 28)))
    assert "nn.Flatten()" in message(lambda: nn.Linear(32, 10)(fl.zeros(2, 8, 2, 2)))
    assert "drop_last" in message(lambda: nn.BatchNorm1d(8)(fl.zeros(1, 8)))
    assert "num_embeddings=10" in message(lambda: nn.Embedding(10, 4)(fl.tensor([[1, 5, 10]])))
    assert "BCEWithLogitsLoss" in message(lambda: nn.BCELoss()(fl.tensor([2.5, -1.0]), fl.tensor([1.0, 0.0])))
    assert "x.float()" in message(lambda: nn.Linear(3, 2)(fl.zeros(4, 3, dtype=fl.float64)))
    assert "255" in message(lambda: nn.Conv2d(3, 4, 3)(fl.zeros(1, 3, 8, 8, dtype=fl.uint8)))
    assert "batch_first changes input and output only" in message(lambda: nn.LSTM(2, 4, batch_first=True)(fl.zeros(8, 5, 2), (fl.zeros(8, 1, 4),) * 2))
    assert "nn.CrossEntropyLoss()(" in message(lambda: nn.CrossEntropyLoss(fl.zeros(4, 3), fl.tensor([0, 1, 2, 0])))


# ------------------------------------------------------------------ our own promises


def test_registered_values_are_plain_attributes() -> None:
    m = nn.BatchNorm1d(3)
    for name in ("weight", "running_mean"):
        assert name in m.__dict__
    m._parameters["weight"] = None
    assert m.weight is None
    m._parameters.update(weight=nn.Parameter(fl.zeros(3)))
    assert m.__dict__["weight"] is m._parameters["weight"]
    m._buffers.pop("running_mean")
    assert not hasattr(m, "running_mean")
    m.inner = nn.ReLU()
    assert m._modules["inner"] is m.__dict__["inner"]
    m._modules.clear()
    assert not hasattr(m, "inner")


def test_modules_are_freed_without_the_collector() -> None:
    gc.disable()
    try:
        m = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        seen = weakref.ref(m)
        del m
        assert seen() is None
    finally:
        gc.enable()


def test_a_module_without_hooks_stays_on_the_fast_path() -> None:
    m = nn.Linear(2, 2)
    assert not m._hooked
    m.register_state_dict_pre_hook(lambda *a: None)
    assert not m._hooked
    m.register_forward_hook(lambda *a: None)
    assert m._hooked


# ------------------------------------------------------------------ every layer runs, trains and copies

LAYERS = [
    ("nn.Linear(3, 4)", (5, 3)),
    ("nn.Bilinear(3, 3, 2)", (5, 3)),
    ("nn.Sequential(nn.Linear(3, 4), nn.Tanh())", (5, 3)),
    ("nn.LayerNorm(3)", (5, 3)),
    ("nn.BatchNorm1d(3)", (5, 3)),
    ("nn.Conv2d(3, 4, 3)", (2, 3, 5, 5)),
    ("nn.ConvTranspose2d(3, 2, 3)", (2, 3, 5, 5)),
    ("nn.RNN(3, 4)", (5, 2, 3)),
    ("nn.LSTM(3, 4, 2, bidirectional=True)", (5, 2, 3)),
    ("nn.GRU(3, 4)", (5, 2, 3)),
    ("nn.PReLU()", (5, 3)),
    ("nn.GroupNorm(1, 3)", (5, 3)),
    ("nn.TransformerEncoderLayer(4, 2, 8, 0.0)", (5, 2, 4)),
]


def run(module: Any, x: Any) -> Any:
    out = module(x, x) if isinstance(module, nn.Bilinear) else module(x)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize(("expression", "shape"), LAYERS, ids=[e for e, _ in LAYERS])
def test_gradient_against_differences(expression: str, shape: tuple[int, ...]) -> None:
    fl.manual_seed(0)
    module = eval(expression).double()
    x = fl.randn(shape, dtype=fl.float64, requires_grad=True)
    weights = fl.randn(run(module, x).shape, dtype=fl.float64)
    (run(module, x) * weights).sum().backward()
    step = 1e-5
    for t in [x, *module.parameters()]:
        flat = t.data.view(-1)
        for i in {0, flat.numel() // 2, flat.numel() - 1}:
            values = []
            for sign in (1, -1):
                old = flat[i].item()
                flat[i] = old + sign * step
                values.append((run(module, x) * weights).sum().item())
                flat[i] = old
            assert (values[0] - values[1]) / (2 * step) == pytest.approx(t.grad.view(-1)[i].item(), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("expression", "shape"), LAYERS, ids=[e for e, _ in LAYERS])
def test_copies(expression: str, shape: tuple[int, ...]) -> None:
    module = eval(expression).eval()
    x = fl.randn(shape)
    expected = run(module, x).tolist()
    for made in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert run(made, x).tolist() == expected
        assert repr(made) == repr(module)
    other = eval(expression).eval()
    other.load_state_dict(module.state_dict())
    assert run(other, x).tolist() == expected


def test_known_values() -> None:
    x = fl.tensor([[1.0, 2.0, 3.0]])
    assert F.softmax(x, 1).tolist()[0] == pytest.approx([0.09003057, 0.24472848, 0.66524094])
    assert F.cross_entropy(x, fl.tensor([2])).item() == pytest.approx(0.40760595)
    assert F.mse_loss(x, fl.zeros(1, 3)).item() == pytest.approx(14 / 3)
    assert F.layer_norm(x, (3,)).tolist()[0] == pytest.approx([-1.2247356, 0.0, 1.2247356], abs=1e-6)
    assert F.gelu(fl.tensor([1.0])).item() == pytest.approx(0.8413447)
    assert F.max_pool2d(fl.arange(16.0).reshape(1, 1, 4, 4), 2).tolist() == [[[[5.0, 7.0], [13.0, 15.0]]]]
