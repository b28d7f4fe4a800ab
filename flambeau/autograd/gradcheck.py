"""Gradients compared to finite differences: ``gradcheck`` and ``gradgradcheck``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from ..ops import definition
from ..ops.definition import OPS
from . import engine
from .modes import enable_grad, no_grad


class GradcheckError(RuntimeError):
    """A gradient does not agree with finite differences."""


def _tensors(x: Any) -> tuple[Any, ...]:
    return (x,) if isinstance(x, definition.Tensor) else tuple(x)


def _outputs(y: Any) -> list[Any]:
    return [t for t in _tensors(y) if isinstance(t, definition.Tensor) and t.dtype.is_floating_point]


def _flat(t: Any) -> list[float]:
    return [float(v) for v in t.detach().reshape(-1).tolist()]


def numerical_jacobian(fn: Callable[..., Any], inputs: Sequence[Any], which: int, eps: float) -> list[list[list[float]]]:
    """``[output][input element][output element]`` by central differences in input number ``which``."""
    x = inputs[which]
    values = x.detach().reshape(-1).tolist()
    columns: list[list[list[float]]] = []
    for k in range(len(values)):
        sides = []
        for sign in (1, -1):
            moved = list(values)
            moved[k] += sign * eps
            y = OPS["tensor"](moved, dtype=x.dtype).reshape(x.shape)
            with no_grad():
                sides.append([_flat(o) for o in _outputs(fn(*[y if i == which else v for i, v in enumerate(inputs)]))])
        for o, (a, b) in enumerate(zip(*sides, strict=True)):
            if o == len(columns):
                columns.append([])
            columns[o].append([(p - q) / (2 * eps) for p, q in zip(a, b, strict=True)])
    return columns


def gradcheck(func: Callable[..., Any], inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3, raise_exception: bool = True,
              nondet_tol: float = 0.0, check_undefined_grad: bool = True, check_grad_dtypes: bool = False, check_batched_grad: bool = False,
              check_batched_forward_grad: bool = False, check_forward_ad: bool = False, check_backward_ad: bool = True, fast_mode: bool = False,
              masked: bool | None = None) -> bool:
    """Compare the gradients of ``func`` at ``inputs`` to central differences.

    Inputs should be float64.  Returns True, or raises :class:`GradcheckError` (``raise_exception=False``: returns False).
    ``fast_mode`` compares one number for each output and input, ``vᵀ J u`` with random unit vectors of positive elements, instead
    of the whole Jacobian ``J``: two calls of ``func`` an input and one backward pass an output.  Where they differ, the
    Jacobians are compared element by element to say where.
    """
    inputs = _tensors(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, definition.Tensor) and x.requires_grad]
    try:
        if not wanted:
            raise ValueError("gradcheck expects at least one input tensor to require gradient, but none of the them have requires_grad=True.")
        for i in wanted:
            if inputs[i].dtype.name != "float64":
                warnings.warn(f"Input #{i} requires gradient and is not a double precision floating point or complex. This check will likely fail if all the "
                              "inputs are not of double precision floating point or complex. ", UserWarning, stacklevel=2)
        with enable_grad():
            outputs = _outputs(func(*inputs))
        if fast_mode:
            wanted = _projections_differ(func, inputs, wanted, outputs, eps, atol, rtol)
        for i in wanted:
            numeric = numerical_jacobian(func, inputs, i, eps)
            for o, y in enumerate(outputs):
                if y._node is None:
                    analytic = [[0.0] * y.numel() for _ in range(inputs[i].numel())]
                else:
                    analytic = _analytic(y, inputs[i])
                _compare(analytic, numeric[o] if o < len(numeric) else [], o, i, atol, rtol)
        if fast_mode and wanted:
            raise GradcheckError(f"Fast gradcheck failed but element-wise differences are small: the projected gradients of input {wanted[0]} differ. "
                                 "The check would pass with fast_mode=False; allow for more with atol=, rtol=.")
    except (GradcheckError, ValueError) as error:
        if raise_exception or isinstance(error, ValueError):
            raise
        return False
    return True


def _projections_differ(func: Callable[..., Any], inputs: Sequence[Any], wanted: Sequence[int], outputs: Sequence[Any], eps: float, atol: float,
                        rtol: float) -> list[int]:
    """The inputs for which ``vᵀ J u`` by a backward pass is not that by a central difference."""
    from random import Random

    draw = Random(0).random     # the user's stream of random numbers stays where it is

    def unit(x: Any) -> Any:
        u = OPS["tensor"]([draw() for _ in range(x.numel())], dtype=x.dtype).reshape(x.shape)
        return u / u.norm() if x.numel() else u

    with no_grad():
        us, vs = {i: unit(inputs[i]) for i in wanted}, [unit(y) for y in outputs]
    back = [engine.grad(y, [inputs[i] for i in wanted], v, retain_graph=True, allow_unused=True) if y._node is not None else [None] * len(wanted)
            for y, v in zip(outputs, vs, strict=True)]
    wrong = []
    with no_grad():
        for k, i in enumerate(wanted):
            u = us[i]
            sides = [_outputs(func(*[x.detach() + sign * eps * u if j == i else x for j, x in enumerate(inputs)])) for sign in (1, -1)]
            for v, grads, above, below in zip(vs, back, *sides, strict=False):
                a = 0.0 if grads[k] is None else (grads[k] * u).sum().item()
                b = (v * ((above - below) / (2 * eps))).sum().item()
                # an error of atol in every element of J
                if not abs(a - b) <= atol * (u.sum() * v.sum()).item() + rtol * abs(b) and not (a != a and b != b):
                    wrong.append(i)
                    break
    return wrong


def _analytic(y: Any, x: Any) -> list[list[float]]:
    """``[input element][output element]`` by one backward pass per output element."""
    n = y.numel()
    rows = []
    for k in range(n):
        seed = OPS["tensor"]([1.0 if j == k else 0.0 for j in range(n)], dtype=y.dtype).reshape(y.shape)
        g, = engine.grad(y, x, seed, retain_graph=True, allow_unused=True)
        rows.append([0.0] * x.numel() if g is None else _flat(g))
    return [[rows[k][j] for k in range(n)] for j in range(x.numel())]


def _compare(analytic: list[list[float]], numeric: list[list[float]], output: int, which: int, atol: float, rtol: float) -> None:
    for j, (a_row, n_row) in enumerate(zip(analytic, numeric, strict=False)):
        for k, (a, b) in enumerate(zip(a_row, n_row, strict=True)):
            if not abs(a - b) <= atol + rtol * abs(b) and not (a != a and b != b):
                raise GradcheckError(f"Jacobian mismatch for output {output} with respect to input {which},\nnumerical:{b}\nanalytical:{a}\n"
                                     f"at element {j} of the input and element {k} of the output")


def gradgradcheck(func: Callable[..., Any], inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
                  gen_non_contig_grad_outputs: bool = False, raise_exception: bool = True, nondet_tol: float = 0.0, check_undefined_grad: bool = True,
                  check_grad_dtypes: bool = False, check_batched_grad: bool = False, check_fwd_over_rev: bool = False, check_rev_over_rev: bool = True,
                  fast_mode: bool = False, masked: bool = False) -> bool:
    """Compare second derivatives of ``func`` to finite differences of the first."""
    inputs = _tensors(inputs)
    with enable_grad():
        outputs = _outputs(func(*inputs))
    if grad_outputs is None:
        grads = tuple(OPS["randn"](y.shape, dtype=y.dtype).requires_grad_() for y in outputs)
    else:
        grads = _tensors(grad_outputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, definition.Tensor) and x.requires_grad]

    def first(*args: Any) -> tuple[Any, ...]:
        given, seeds = args[: len(inputs)], args[len(inputs):]
        with enable_grad():
            fresh = tuple(x.detach().requires_grad_() if i in wanted and x._node is None else x for i, x in enumerate(given))
            ys = _outputs(func(*fresh))
            pairs = [(y, s) for y, s in zip(ys, seeds, strict=True) if y._node is not None]
            got = engine.grad([y for y, _ in pairs], [fresh[i] for i in wanted], [s for _, s in pairs], create_graph=True, allow_unused=True)
        return tuple(g if g is not None else OPS["zeros_like"](fresh[i]) for g, i in zip(got, wanted, strict=True))

    return gradcheck(first, (*inputs, *grads), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception, fast_mode=fast_mode)
