"""Flambeau against what PyTorch printed, drew, initialised, learned, ordered and refused when ``scripts/record_torch.py`` asked it.

The files in ``tests/recorded`` hold the source of every case beside PyTorch's answer; each runs here with ``torch`` meaning
Flambeau, so that these tests need no PyTorch.
"""

import importlib.util
import json
import math
import warnings
from pathlib import Path

import pytest

import flambeau

ROOT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("record_torch", ROOT / "scripts" / "record_torch.py")
recorder = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(recorder)

# Exactly PyTorch's: what is a draw, an order or a text.  Elsewhere a float may differ by rounding in the last places.
CLOSE = {"random": 1e-6, "weights": 1e-6, "training": 2e-6, "data": 0.0}

NOT_YET: dict[str, str] = {}


def cases(kind):
    recorded = json.loads((recorder.RECORDED / f"{kind}.json").read_text())["cases"]
    return [pytest.param(case["source"], case["expected"], id=case["name"],
                         marks=[pytest.mark.xfail(reason=NOT_YET[case["name"]])] if case["name"] in NOT_YET else ()) for case in recorded]


def answer(kind, source):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return recorder.carry_out(kind, source, flambeau)


def assert_close(got, expected, tolerance, path="result"):
    assert type(got) is type(expected), f"{path}: {got!r} instead of {expected!r}"
    if isinstance(expected, list):
        assert len(got) == len(expected), f"{path}: {len(got)} values instead of {len(expected)}"
        for i, pair in enumerate(zip(got, expected)):
            assert_close(*pair, tolerance, f"{path}[{i}]")
    elif isinstance(expected, float):
        assert math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance), f"{path}: {got!r} instead of {expected!r}"
    else:
        assert got == expected, f"{path}: {got!r} instead of {expected!r}"


@pytest.mark.parametrize(("source", "expected"), cases("printing"))
def test_printing(source, expected):
    assert answer("printing", source) == expected


@pytest.mark.parametrize(("source", "expected"), cases("tensors"))
def test_tensors(source, expected):
    assert answer("tensors", source) == expected


@pytest.mark.parametrize(("source", "expected"), cases("random"))
def test_random_stream(source, expected):
    assert_close(answer("random", source), expected, CLOSE["random"])


@pytest.mark.parametrize(("source", "expected"), cases("weights"))
def test_initial_weights(source, expected):
    assert_close(answer("weights", source), expected, CLOSE["weights"])


@pytest.mark.parametrize(("source", "expected"), cases("training"))
def test_training(source, expected):
    assert_close(answer("training", source), expected, CLOSE["training"])


@pytest.mark.parametrize(("source", "expected"), cases("data"))
def test_data_order(source, expected):
    assert_close(answer("data", source), expected, CLOSE["data"])


@pytest.mark.parametrize(("source", "expected"), cases("errors"))
def test_error(source, expected):
    got = answer("errors", source)
    assert got is not None, "nothing was raised"
    assert got["type"] == expected["type"], f"{got} instead of {expected}"
    assert expected["phrase"] in got["first"], f"{got['first']!r} instead of {expected['first']!r}"
    flambeau.ones(2).sum().item()       # the process is usable afterwards


def test_every_case_is_recorded():
    """A case added to the recorder without asking PyTorch again is noticed here."""
    for kind, generate in recorder.FILES.items():
        recorded = json.loads((recorder.RECORDED / f"{kind}.json").read_text())["cases"]
        assert [(case["name"], case["source"]) for case in recorded] == list(generate()), f"run `make record`: {kind}.json is out of date"


# ---------------------------------------------------------------- misuse by rule

STRICTER = "a tensor without memory beside one with memory: PyTorch goes on and gives what has no contents"
DIFFERENT = [       # (a part of the call, PyTorch's exception, ours, why)
    ("meta", "", "RuntimeError", STRICTER),
    ("torch.tensordot(x, ", "AttributeError", "TypeError", "the argument is named"),
    ("torch.mv(torch.tensor(1.0), x)", "IndexError", "RuntimeError", "the same error as for any other number of dimensions"),
    (".addbmm_(", "", "RuntimeError", "PyTorch changes the shape of the tensor that is written"),
    (".expand(", "", "RuntimeError", "PyTorch writes elements that share memory over each other"),
    ("addbmm(a[None], a[None], b[None], out=c[1:4])", "RuntimeError", "", "done as if the result were made apart"),
    ("torch.addmm(a, a, b, out=", "RuntimeError", "", "the same"),
    ("v(a", "IndexError", "", "a result that replaces the matrix is made apart"),
    ("torch.outer(a[0], b[0], out=", "RuntimeError", "", "out= that has to be resized shares no memory afterwards"),
    ("torch.addr(a, a[0], b[0], out=", "RuntimeError", "", "the same"),
]


@pytest.mark.parametrize("group", ["creation", "view", "layer", "sum", "convolution", "product", "einsum", "out"])
def test_misuse(group):
    recorded = json.loads((recorder.RECORDED / "misuse.json").read_text())
    assert recorded["cases"] == recorder.digest(), "run `make record`: misuse.json is out of date"
    calls = [source for g, source in recorder.misuse.cases() if g == group]
    wrong = []
    for source, expected in zip(calls, recorded[group], strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = recorder.exception_of(source, flambeau)
        call = source.split("\n", 2)[-1]
        if got != expected and not any(part in call and (expected, got) == (theirs, ours) for part, theirs, ours, _ in DIFFERENT):
            wrong.append(f"{call}\n    {got or 'nothing'} instead of {expected or 'nothing'}")
    assert not wrong, "\n".join(wrong)
    assert flambeau.ones(2).sum().item() == 2       # the process is usable afterwards
