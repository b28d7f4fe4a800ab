"""Misuse inside models and of files: the layer's path, both shapes, the remedy and the user's line are named, and training goes on."""

import errno
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

import flambeau as torch
from flambeau.core import config
from flambeau.runtime import images

nn, F = torch.nn, torch.nn.functional


@pytest.fixture(autouse=True)
def a_model_still_trains_afterwards():
    yield
    torch.manual_seed(0)
    model, x, t = nn.Linear(3, 1), torch.rand(16, 3), torch.rand(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    losses = []
    for _ in range(5):
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), t)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)


def refusal(kind, fn):
    """The text of the error, which has to come through the line of this file that made the call."""
    with pytest.raises(kind) as caught:
        fn()
    assert any(entry.path.name == "test_misuse.py" and entry.name == fn.__name__ for entry in caught.traceback)
    return str(caught.value)


# ---------------------------------------------------------------- modules are named by their path

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.fc1 = nn.Linear(5, 2)

    def forward(self, x):
        return self.fc1(self.encoder(x))


def test_a_layer_in_a_model():
    model = nn.Sequential(nn.Conv2d(1, 8, 5), nn.Flatten())
    model.add_module("fc1", nn.Linear(4000, 10))
    text = refusal(RuntimeError, lambda: model(torch.randn(2, 1, 28, 28)))
    assert text.startswith("mat1 and mat2 shapes cannot be multiplied (2x4608 and 4000x10)")
    assert "fc1 (Linear): input [2, 4608]" in text and "Linear(4608, 10)" in text


def test_a_layer_of_a_layer():
    text = refusal(RuntimeError, lambda: Network()(torch.ones(2, 3)))
    assert "fc1 (Linear): input [2, 4]" in text
    text = refusal(RuntimeError, lambda: Network()(torch.ones(2, 7)))
    assert "encoder.0 (Linear): input [2, 7]" in text
    text = refusal(RuntimeError, lambda: nn.Sequential(Network(), Network())(torch.ones(2, 3)))
    assert "0.fc1 (Linear)" in text


def test_paths_are_those_of_the_model_that_was_called():
    model = Network()
    assert "fc1 (Linear)" in refusal(RuntimeError, lambda: model(torch.ones(2, 3)))
    text = refusal(RuntimeError, lambda: model.encoder(torch.ones(2, 7)))      # not of the call that failed before
    assert "0 (Linear): input [2, 7]" in text and "encoder" not in text and "fc1" not in text


@pytest.mark.parametrize(("layer", "shape", "words"), [
    (lambda: nn.Conv2d(3, 8, 3), (1, 1, 8, 8), ["expected input[1, 1, 8, 8] to have 3 channels, but got 1 channels"]),
    (lambda: nn.BatchNorm1d(3), (2, 4), ["running_mean should contain 4 elements not 3"]),
    (lambda: nn.LayerNorm(3), (2, 4), ["normalized_shape", "[2, 4]"]),
    (lambda: nn.LSTM(3, 4), (2, 2, 5), ["5", "3"]),
], ids=["conv", "batch norm", "layer norm", "lstm"])
def test_shapes_that_layers_refuse(layer, shape, words):
    layer = layer()
    text = refusal(RuntimeError, lambda: layer(torch.ones(*shape)))
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_dtypes_that_a_layer_refuses(dtype):
    layer = nn.Linear(2, 2)
    assert "mat1 and mat2 must have the same dtype" in refusal(RuntimeError, lambda: layer(torch.ones(2, 2, dtype=dtype)))


def test_devices_that_a_layer_refuses():
    layer = nn.Linear(2, 2)
    text = refusal(RuntimeError, lambda: layer(torch.ones(2, 2, device="meta")))
    assert "meta" in text and "cpu" in text


# ---------------------------------------------------------------- keys of a state

def test_a_missing_and_an_unexpected_key_each_alone():
    layer, weight = nn.Linear(2, 2), torch.ones(2, 2)
    text = refusal(RuntimeError, lambda: layer.load_state_dict({"weight": weight}))
    assert 'Missing key(s) in state_dict: "bias"' in text and "Unexpected" not in text
    text = refusal(RuntimeError, lambda: layer.load_state_dict({"weight": weight, "bias": torch.ones(2), "scale": torch.ones(1)}))
    assert 'Unexpected key(s) in state_dict: "scale"' in text and "Missing" not in text
    assert layer.load_state_dict({"weight": weight}, strict=False).missing_keys == ["bias"]
    assert layer.weight.tolist() == [[1, 1], [1, 1]]


# ---------------------------------------------------------------- losses

@pytest.mark.parametrize("loss", ["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"])
def test_a_column_against_a_row_warns_at_the_users_line(loss):
    f = getattr(F, loss)
    with pytest.warns(UserWarning, match=r"Using a target size \(torch.Size\(\[4\]\)\) that is different to the input size \(torch.Size\(\[4, 1\]\)\)") as seen:
        value = f(torch.ones(4, 1), torch.zeros(4))
    assert value.shape == () and seen[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        f(torch.ones(4), torch.zeros(4))


def test_a_column_against_a_row_that_must_not_broadcast():
    text = refusal(ValueError, lambda: F.binary_cross_entropy(torch.rand(3, 1), torch.rand(3)))
    assert "torch.Size([3])" in text and "torch.Size([3, 1])" in text


@pytest.mark.parametrize("loss", [F.mse_loss, F.l1_loss, F.cross_entropy, F.binary_cross_entropy_with_logits])
def test_targets_that_are_not_numbers(loss):
    x = torch.ones(2, 3, requires_grad=True)
    t = torch.tensor([[1.0, float("nan"), 0.0], [0.0, 1.0, 0.0]])
    value = loss(x, t)
    value.backward()
    assert value.isnan().item() and (x.grad.isnan().any().item() or loss is F.l1_loss)       # silently, as in PyTorch


@pytest.mark.parametrize("label", [4, -1, 1 << 40])
def test_a_label_out_of_range_at_hand_or_not(label):
    logits = torch.randn(3, 4, requires_grad=True)
    for labels in (torch.tensor([0, label, 1]), torch.tensor([0, label // 2 if label > 0 else label, 1]) * (2 if label > 0 else 1)):
        text = refusal(IndexError, lambda labels=labels: F.cross_entropy(logits, labels).item())
        assert f"Target {label} is out of bounds." in text
    assert F.cross_entropy(logits, torch.tensor([0, -100, 1])).item() > 0        # ignore_index


@pytest.mark.parametrize("labels", [torch.tensor([1.0, 2.0, 0.0]), torch.tensor([0, 1]), torch.tensor([[0, 1, 2, 3]] * 3)], ids=["floats", "few", "matrix"])
def test_labels_of_another_kind(labels):
    logits = torch.randn(3, 4)
    refusal((RuntimeError, ValueError), lambda: F.cross_entropy(logits, labels).item())


# ---------------------------------------------------------------- backward

def test_backward_of_what_is_no_number():
    x = torch.ones(2, 3, requires_grad=True)
    assert "grad can be implicitly created only for scalar outputs" in refusal(RuntimeError, lambda: (x * 2).backward())
    (x * 2).backward(torch.ones(2, 3))
    assert x.grad.tolist() == [[2] * 3] * 2
    assert "[2, 3]" in refusal(RuntimeError, lambda: (x * 2).backward(torch.ones(3)))


def test_a_second_backward_leaves_the_gradient_of_the_first():
    x = torch.ones(2, requires_grad=True)
    y = (x * x).sum()
    y.backward()
    refusal(RuntimeError, lambda: y.backward())
    assert x.grad.tolist() == [2, 2]


def test_a_leaf_changed_in_place_keeps_its_value():
    w = torch.ones(2, requires_grad=True)

    def update():
        nonlocal w
        w -= 0.1
    assert "no_grad" in refusal(RuntimeError, update)
    assert w.tolist() == [1, 1] and w.is_leaf


def test_a_value_that_backward_needs_overwritten():
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    y.add_(1)
    text = refusal(RuntimeError, lambda: y.sum().backward())
    assert "modified by an inplace operation" in text and "ExpBackward0" in text


# ---------------------------------------------------------------- arrays

def test_a_read_only_array_can_be_read_and_copied():
    a = np.frombuffer(b"\0" * 12, np.float32)
    with pytest.warns(UserWarning, match="not writable"):
        t = torch.from_numpy(a)
    assert (t + 1).tolist() == [1, 1, 1] and torch.tensor(a).add_(1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("array", [np.array([object()]), np.array(["a"]), np.array([(1, 2)], dtype="i4,f4"), np.array(["2020-01-01"], "datetime64[D]")],
                         ids=["object", "text", "record", "date"])
def test_arrays_of_what_is_no_number(array):
    assert "can't convert np.ndarray of type numpy." in refusal(TypeError, lambda: torch.from_numpy(array))
    refusal(TypeError, lambda: torch.tensor(array))


# ---------------------------------------------------------------- the kernel cache

def test_a_cache_that_becomes_full_is_given_up_with_one_warning(tmp_path, monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    images.reopen()
    try:
        images.put("k", b"before", b"data")
        assert images.get("k", b"before") == b"data"

        def full(*names):
            raise OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(images.os, "replace", full)
        with pytest.warns(UserWarning, match="in memory only: cannot write to .*No space left") as seen:
            images.put("k", b"after", b"data")
            images.put("k", b"again", b"data")
            x = torch.rand(3, 5, 2)
            assert ((x * 1.5).cos().tanh() - 0.375).sum().isfinite().item()
        assert len(seen) == 1
        assert not [f for f in (tmp_path / "cache").iterdir() if f.name.endswith(".tmp")]
    finally:
        monkeypatch.undo()
        images.reopen()


@pytest.mark.skipif(config.renderer == "reference", reason="nothing is compiled here")
def test_memory_only_is_as_good(tmp_path):
    (tmp_path / "file").write_text("in the way")
    code = "import flambeau as torch\nfor i in range(3): print((torch.arange(4.0).exp() + i).sum().item())"
    environment = {**images.os.environ, "FLAMBEAU_CACHE": str(tmp_path / "file" / "x")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and len(done.stdout.split()) == 3
    assert len(re.findall("UserWarning: flambeau keeps compiled kernels in memory only", done.stderr)) == 1
