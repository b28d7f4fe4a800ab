"""``torch.testing``: what is close, and what the message says when it is not."""

import pytest

import flambeau as torch
from flambeau.testing import assert_close, make_tensor

T = torch.tensor


@pytest.mark.parametrize("a, b, options", [
    (T([1.0, 2.0]), T([1.0, 2.00001]), {}),
    (T([1.0]), T([1.1]), {"rtol": 0.2, "atol": 0.0}),
    (T([float("nan")]), T([float("nan")]), {"equal_nan": True}),
    (T([1.0]), T([1.0]).double(), {"check_dtype": False}),
    ([T([1]), {"a": T(2.0)}], [T([1]), {"a": T(2.0)}], {}),
    (1.0, 1.0 + 1e-9, {}),
    (T([float("inf")]), T([float("inf")]), {}),
    (torch.empty(0, 3), torch.empty(0, 3), {}),
])
def test_close(a, b, options):
    assert_close(a, b, **options)


@pytest.mark.parametrize("a, b, message", [
    (T([[1.0, 2.0], [3.0, 4.0]]), T([[1.0, 2.5], [3.0, 5.0]]), r"Mismatched elements: 2 / 4 \(50.0%\)\nGreatest absolute difference: 1.0 at index \(1, 1\)"),
    (T([1, 2]), T([1, 3]), "Tensor-likes are not equal"),
    (1.0, 1.1, "Expected 1.1 but got 1.0"),
    (T([1.0]), T([1.0]).double(), "attribute 'dtype'"),
    (T([1.0]), T([1.0, 2.0]), "attribute 'shape'"),
    ([T([1.0]), T([2.0])], [T([1.0]), T([3.0])], r"occurred for item \[1\]"),
    ({"a": 1.0}, {"b": 1.0}, "Missing keys in the actual mapping: \\['b'\\]"),
    (T([float("nan")]), T([float("nan")]), "not close"),
    ([1.0], [1.0, 2.0], "length of the sequences"),
])
def test_apart(a, b, message):
    with pytest.raises(AssertionError, match=message):
        assert_close(a, b)


def test_messages_and_misuse():
    with pytest.raises(AssertionError, match=r"^mine$"):
        assert_close(T(1.0), T(2.0), msg="mine")
    with pytest.raises(AssertionError, match=r"^seen: Scalars"):
        assert_close(T(1.0), T(2.0), msg=lambda m: "seen: " + m)
    with pytest.raises(ValueError, match="no atol"):
        assert_close(T(1.0), T(2.0), rtol=0.1)
    with pytest.raises(TypeError, match="No comparison pair"):
        assert_close(T(1.0), 1.0)


def test_random_tensors():
    t = make_tensor((20, 30), dtype=torch.float32, low=-1, high=2, noncontiguous=True, requires_grad=True)
    assert t.shape == (20, 30) and not t.is_contiguous() and t.requires_grad and t.min() >= -1 and t.max() <= 2
    assert (make_tensor(1000, dtype=torch.int64, exclude_zero=True) != 0).all()
    assert make_tensor(5, dtype=torch.bool).dtype is torch.bool
