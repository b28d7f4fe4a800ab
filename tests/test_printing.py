"""The text of tensors, against PyTorch's recorded text and by counting what is read; no tensor class is needed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from flambeau.core import dtype as types
from flambeau.core.device import device
from flambeau.tensor import printing

CASES = json.loads((Path(__file__).parent / "recorded" / "printed.json").read_text())


class Node:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


class Stub:
    """The reading interface of a tensor over a function from indices to values; counts the elements it hands out."""

    def __init__(self, shape: list[int], value: Any, dtype: str = "float32", where: str = "cpu", read: list[int] | None = None) -> None:
        self.ranges = [range(n) for n in shape]
        self.value, self.dtype, self.device = value, types.DTYPES[dtype], device(where)
        self.requires_grad, self.grad_fn = False, None
        self.read = [0] if read is None else read

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(map(len, self.ranges))

    def detach(self) -> Stub:
        return self

    def __getitem__(self, index: Any) -> Stub:
        view = Stub([], self.value, self.dtype.name, read=self.read)
        index = index if isinstance(index, tuple) else (index,)
        view.ranges = [r[i] for r, i in zip(self.ranges, index)] + self.ranges[len(index):]
        return view

    def tolist(self) -> Any:
        def build(prefix: tuple[int, ...]) -> Any:
            if len(prefix) == len(self.ranges):
                self.read[0] += 1
                return self.value(*prefix)
            return [build((*prefix, i)) for i in self.ranges[len(prefix)]]

        return build(())


def flat(shape: list[int], values: list[Any]) -> Any:
    """Function from indices to the values of a contiguous tensor."""

    def value(*index: int) -> Any:
        offset = 0
        for i, n in zip(index, shape):
            offset = offset * n + i
        return values[offset]

    return value


@pytest.fixture(autouse=True)
def usual_options() -> Any:
    yield
    printing.set_printoptions(profile="default")
    types.set_default_dtype(types.float32)


@pytest.mark.parametrize("number", range(len(CASES)))
def test_text_is_pytorch(number: int) -> None:
    case = CASES[number]
    t = Stub(case["shape"], flat(case["shape"], case["values"]), case["dtype"])
    t.requires_grad = case["requires_grad"]
    t.grad_fn = case["grad_fn"] and Node(case["grad_fn"])
    printing.set_printoptions(**case["options"])
    types.set_default_dtype(types.DTYPES[case["default"]])
    assert printing.format_tensor(t) == case["text"]


def test_summary_reads_only_its_corners() -> None:
    t = Stub([10_000, 10_000, 7], lambda i, j, k: float(i + j + k))
    text = printing.format_tensor(t)
    assert t.read[0] == 6 * 6 * 6      # 7 entries are more than twice 3, so that the last dimension is cut as well
    assert text.startswith("tensor([[[0.0000e+00, 1.0000e+00, 2.0000e+00,  ..., 4.0000e+00,\n          5.0000e+00, 6.0000e+00],\n")


def test_nothing_is_read_where_no_number_is_shown() -> None:
    printing.set_printoptions(edgeitems=0)
    t = Stub([100, 100], lambda i, j: 0.0)
    assert printing.format_tensor(t) == "tensor([...], size=(100, 100))"
    assert t.read[0] == 0


def test_other_devices() -> None:
    assert printing.format_tensor(Stub([3, 4], None, where="meta")) == "tensor(..., device='meta', size=(3, 4))"
    assert printing.format_tensor(Stub([3], None, "int64", "meta")) == "tensor(..., device='meta', size=(3,), dtype=torch.int64)"
    assert printing.format_tensor(Stub([1], lambda i: 1.5, where="cuda:0")) == "tensor([1.5000], device='cuda:0')"


def test_options_for_a_block() -> None:
    t = Stub([], lambda: 0.123456)
    with printing.printoptions(precision=2, sci_mode=True):
        assert printing.format_tensor(t) == "tensor(1.23e-01)"
        assert printing.get_printoptions()["sci_mode"] is True
    assert printing.format_tensor(t) == "tensor(0.1235)"
    before = printing.get_printoptions()
    printing.set_printoptions(**before)
    assert printing.get_printoptions() == before


def test_sci_mode_is_reset_when_left_out() -> None:
    printing.set_printoptions(sci_mode=True)
    printing.set_printoptions(precision=3)
    assert printing.format_tensor(Stub([], lambda: 0.5)) == "tensor(0.500)"


def test_full_profile_never_summarises() -> None:
    printing.set_printoptions(profile="full")
    assert printing.get_printoptions()["threshold"] == math.inf
    assert "..." not in printing.format_tensor(Stub([2000], lambda i: i, "int64"))


@pytest.mark.parametrize("wrong", [{"profile": "wide"}, {"precision": -1}, {"precision": 2.5}])
def test_wrong_options(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="set_printoptions"):
        printing.set_printoptions(**wrong)
