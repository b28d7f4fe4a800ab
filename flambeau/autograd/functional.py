"""Jacobians, Hessians and their products with vectors, as functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..ops import definition
from ..ops.definition import OPS
from . import engine
from .modes import enable_grad


def _as_tuple(x: Any) -> tuple[tuple[Any, ...], bool]:
    return ((x,), False) if isinstance(x, definition.Tensor) else (tuple(x), True)


def _leaves(inputs: tuple[Any, ...], create_graph: bool) -> tuple[Any, ...]:
    return tuple((x.view_as(x) if create_graph and x.requires_grad else x.detach().requires_grad_()) for x in inputs)


def _maybe(x: tuple[Any, ...], many: bool) -> Any:
    return x if many else x[0]


def _settle(x: Any, create_graph: bool) -> Any:
    return x if create_graph else x.detach()


def vjp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(inputs), vᵀJ)``."""
    xs, many = _as_tuple(inputs)
    with enable_grad():
        xs = _leaves(xs, create_graph)
        y = func(*xs)
        ys, several = _as_tuple(y)
        seeds = None if v is None else _as_tuple(v)[0]
        grads = engine.grad(ys, xs, seeds, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return _maybe(tuple(_settle(t, create_graph) for t in ys), several), _maybe(tuple(_settle(g, create_graph) for g in grads), many)


def jvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(inputs), Jv)``, by differentiating the vector-Jacobian product."""
    xs, _ = _as_tuple(inputs)
    vs = tuple(OPS["ones_like"](x) for x in xs) if v is None else _as_tuple(v)[0]
    with enable_grad():
        xs = _leaves(xs, create_graph)
        ys, several = _as_tuple(func(*xs))
        dummies = tuple(OPS["zeros_like"](y).requires_grad_() for y in ys)
        grads = engine.grad(ys, xs, dummies, create_graph=True, allow_unused=True, materialize_grads=True)
        out = engine.grad(grads, dummies, vs, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return _maybe(tuple(_settle(y, create_graph) for y in ys), several), _maybe(tuple(_settle(o, create_graph) for o in out), several)


def jacobian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
             strategy: str = "reverse-mode") -> Any:
    """The Jacobian: for every output and input a tensor of shape ``output.shape + input.shape``."""
    given, many = _as_tuple(inputs)
    with enable_grad():
        xs = _leaves(given, create_graph)
        ys, several = _as_tuple(func(*xs))
        result = []
        for y in ys:
            rows: list[list[Any]] = [[] for _ in xs]
            for k in range(y.numel()):
                grads = engine.grad(y.reshape(-1)[k], xs, retain_graph=True, create_graph=create_graph, allow_unused=True, materialize_grads=True)
                for r, g in zip(rows, grads, strict=True):
                    r.append(_settle(g, create_graph))
            blocks = tuple(
                OPS["stack"](r).reshape((*y.shape, *x.shape)) if r else OPS["zeros"]((*y.shape, *x.shape), dtype=x.dtype)
                for r, x in zip(rows, xs, strict=True)
            )
            result.append(_maybe(blocks, many))
    return _maybe(tuple(result), several)


def hessian(func: Callable[..., Any], inputs: Any, create_graph: bool = False, strict: bool = False, vectorize: bool = False,
            outer_jacobian_strategy: str = "reverse-mode") -> Any:
    """The Hessian of a scalar function."""
    def gradient(*xs: Any) -> Any:
        y = func(*xs)
        if y.numel() != 1:
            raise RuntimeError(f"The function given to hessian should return a single element Tensor, got shape {list(y.shape)}")
        grads = engine.grad(y, xs, create_graph=True, allow_unused=True, materialize_grads=True)
        return _maybe(grads, isinstance(inputs, (tuple, list)))

    def leaves(*xs: Any) -> Any:
        return gradient(*[x if x.requires_grad else x.requires_grad_() for x in xs])

    return jacobian(leaves, inputs, create_graph=create_graph)


def vhp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(inputs), vᵀH)``."""
    xs, many = _as_tuple(inputs)
    vs = None if v is None else _as_tuple(v)[0]
    with enable_grad():
        xs = _leaves(xs, create_graph)
        y = func(*xs)
        grads = engine.grad(y, xs, create_graph=True, allow_unused=True, materialize_grads=True)
        out = engine.grad(grads, xs, vs, create_graph=create_graph, allow_unused=True, materialize_grads=True)
    return _settle(y, create_graph), _maybe(tuple(_settle(o, create_graph) for o in out), many)


def hvp(func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False) -> tuple[Any, Any]:
    """``(func(inputs), Hv)``; the Hessian is symmetric, so this is :func:`vhp`."""
    return vhp(func, inputs, v, create_graph, strict)
