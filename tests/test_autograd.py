"""Gradients, views and in-place writes give what PyTorch gave (``tests/autograd_cases.py`` holds the programs)."""

import json
import math

import autograd_cases
import pytest

import flambeau

ANSWERS = json.loads(autograd_cases.RECORDED.read_text())["answers"]


def assert_same(got, expected, path="answer"):
    if isinstance(expected, float) and isinstance(got, float):
        assert math.isclose(got, expected, rel_tol=1e-9, abs_tol=1e-9) or (got != got and expected != expected), f"{path}: {got!r} instead of {expected!r}"
        return
    assert type(got) is type(expected), f"{path}: {got!r} instead of {expected!r}"
    if isinstance(expected, list):
        assert len(got) == len(expected), f"{path}: {got!r} instead of {expected!r}"
        for i, (g, e) in enumerate(zip(got, expected, strict=True)):
            assert_same(g, e, f"{path}[{i}]")
    else:
        assert got == expected, f"{path}: {got!r} instead of {expected!r}"


@pytest.mark.parametrize("name", autograd_cases.CASES)
def test_as_recorded(name):
    assert_same(autograd_cases.carry_out(autograd_cases.CASES[name], flambeau), ANSWERS[name])


@pytest.mark.parametrize("name", autograd_cases.CASES)
def test_as_recorded_when_executed_call_by_call(name):
    with flambeau.eager():
        assert_same(autograd_cases.carry_out(autograd_cases.CASES[name], flambeau), ANSWERS[name])
