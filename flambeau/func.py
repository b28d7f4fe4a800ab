"""Functions of functions: gradients, Jacobians, batches, and modules with other parameters, as ``torch.func``.

They are made of the public API and compose with each other: ``vmap(grad(f))``, ``jacrev(jacrev(f))``.  ``vmap`` runs the function on one element after
the other; the loop is recorded like any other, and comes to repeat its plans.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from typing import Any

import flambeau as fl

__all__ = ["functional_call", "grad", "grad_and_value", "hessian", "jacfwd", "jacrev", "jvp", "stack_module_state", "vjp", "vmap"]


# ------------------------------------------------------------------ nested structures

def _leaves(x: Any) -> list[Any]:
    """What is in nested tuples, lists and dictionaries, in order."""
    if isinstance(x, dict):
        return [y for v in x.values() for y in _leaves(v)]
    if isinstance(x, (tuple, list)):
        return [y for v in x for y in _leaves(v)]
    return [x]


def _like(x: Any, leaves: Any) -> Any:
    """The structure ``x`` with other leaves, an iterator."""
    if isinstance(x, dict):
        return type(x)((k, _like(v, leaves)) for k, v in x.items())
    if isinstance(x, (tuple, list)):
        made = [_like(v, leaves) for v in x]
        return type(x)(*made) if hasattr(x, "_fields") else type(x)(made)
    return next(leaves)


def _map(fn: Callable[[Any], Any], x: Any) -> Any:
    return _like(x, iter([fn(v) for v in _leaves(x)]))


def _spread(dims: Any, x: Any, what: str) -> list[Any]:
    """One dimension for each leaf of ``x``: ``dims`` is an int or None for all of it, or a structure like it."""
    if dims is None or isinstance(dims, int):
        return [dims] * len(_leaves(x))
    if isinstance(x, dict) and isinstance(dims, dict) and x.keys() == dims.keys():
        return [d for k, v in x.items() for d in _spread(dims[k], v, what)]
    if isinstance(x, (tuple, list)) and isinstance(dims, (tuple, list)) and len(x) == len(dims):
        return [d for v, k in zip(x, dims, strict=True) for d in _spread(k, v, what)]
    raise ValueError(f"vmap: {what} has a structure that does not fit: got {dims!r} for {type(x).__name__}"
                     f"{f' of {len(x)}' if hasattr(x, '__len__') else ''}. Give an int or None, or one for each.")


# ------------------------------------------------------------------ gradients

_depth = 0          # of transforms that are running: inside of one, results have to be differentiable


@contextmanager
def _inside() -> Any:
    global _depth
    _depth += 1
    try:
        with fl.enable_grad():
            yield
    finally:
        _depth -= 1


def _watched(x: Any) -> Any:
    """The tensors of a structure as variables, connected to what they were made of."""
    def one(t: Any) -> Any:
        if not isinstance(t, fl.Tensor):
            raise ValueError(f"torch.func: expected the differentiated arguments to hold tensors only, got {type(t).__name__}")
        if not t.is_floating_point():
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients\ntorch.func: got {t.dtype}. Convert it with .float().")
        return t.view_as(t) if t.requires_grad else t.detach().requires_grad_()
    return _map(one, x)


def _others(outputs: Iterable[Any], ours: Iterable[Any]) -> bool:
    """Whether outputs depend on variables besides ours."""
    mine = {id(t) for t in ours}
    waiting: list[Any] = [t.grad_fn for t in outputs if isinstance(t, fl.Tensor)]
    seen: set[int] = set()
    while waiting:
        n = waiting.pop()
        if n is None or id(n) in seen:
            continue
        seen.add(id(n))
        v = getattr(n, "variable", None)
        if v is not None and id(v) not in mine:
            return True
        waiting += [m for m, _ in n.next_functions]
    return False


def _differentiable(outputs: Iterable[Any], given: Iterable[Any], ours: Iterable[Any]) -> bool:
    """Whether gradients are to be differentiated again by somebody outside."""
    return _depth > 1 or any(t.requires_grad for t in given) or _others(outputs, ours)


def _pulled(outputs: Sequence[Any], inputs: Sequence[Any], cotangents: Sequence[Any], graph: bool) -> list[Any]:
    """Gradients of all inputs, zeros where nothing depends on one."""
    pairs = [(y, g) for y, g in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not pairs:
        return [fl.zeros_like(x) for x in inputs]
    found = fl.autograd.grad([y for y, _ in pairs], inputs, [g for _, g in pairs], retain_graph=True, create_graph=graph, allow_unused=True)
    return [fl.zeros_like(x) if g is None else g for g, x in zip(found, inputs, strict=True)]


def _chosen(argnums: Any, args: Sequence[Any], name: str) -> tuple[int, ...]:
    numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for n in numbers:
        if not -len(args) <= n < len(args):
            raise RuntimeError(f"Got argnum={n}, but only {len(args)} positional inputs\n{name}: arguments count from 0.")
    return tuple([n % len(args) for n in numbers])


def _called(func: Callable[..., Any], numbers: Sequence[int], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], list[Any], Any]:
    """What was given to differentiate by, the variables that stand for it, and what ``func`` makes of these."""
    given = [args[n] for n in numbers]
    watched = [_watched(x) for x in given]
    values = list(args)
    for n, w in zip(numbers, watched, strict=True):
        values[n] = w
    return given, watched, func(*values, **kwargs)


def grad_and_value(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient and the value of ``func``; see :func:`grad`."""
    @functools.wraps(func)
    def both(*args: Any, **kwargs: Any) -> Any:
        numbers = _chosen(argnums, args, "grad")
        with _inside():
            given, watched, value = _called(func, numbers, args, kwargs)
            aux = None
            if has_aux:
                if not (isinstance(value, tuple) and len(value) == 2):
                    raise RuntimeError("grad_and_value(f)(*args): output of function f should be a tuple: (output, aux) if has_aux is True")
                value, aux = value
            if not isinstance(value, fl.Tensor):
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a Tensor, got {type(value).__name__}")
            if value.dim():
                raise RuntimeError(f"grad_and_value(f)(*args): Expected f(*args) to return a scalar Tensor, got tensor with {value.dim()} dims.\n"
                                   "grad: reduce it, for example with .sum() or .mean(), or use jacrev.")
            inputs = _leaves(watched)
            graph = _differentiable([value], _leaves(given), inputs)
            found = iter(_pulled([value], inputs, [fl.ones_like(value)], graph))
        grads = tuple([_like(x, found) for x in given])
        result = grads[0] if isinstance(argnums, int) else grads
        if not graph:
            value = value.detach()
            aux = _map(lambda t: t.detach() if isinstance(t, fl.Tensor) else t, aux)
        return (result, (value, aux)) if has_aux else (result, value)
    return both


def grad(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that gives the gradient of ``func``, which returns one number, with respect to some arguments.

    Parameters
    ----------
    func : callable
        Takes tensors, or nested tuples, lists and dictionaries of them; returns a tensor without dimensions, or ``(tensor, anything)`` with ``has_aux``.
    argnums : int or tuple of int
        The arguments to differentiate by; for a tuple the result is one.
    has_aux : bool
        The result is ``(gradient, anything)``.

    Raises
    ------
    RuntimeError
        When ``func`` returns anything else, or an argument has no floating point dtype.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.func.grad(lambda x: x ** 3)(torch.tensor(2.0))
    tensor(12.)
    >>> torch.func.grad(torch.func.grad(lambda x: x ** 3))(torch.tensor(2.0))
    tensor(12.)
    """
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def gradient(*args: Any, **kwargs: Any) -> Any:
        result, value = both(*args, **kwargs)
        return (result, value[1]) if has_aux else result
    return gradient


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of ``func``, and the function that multiplies cotangents (one for each output) with its Jacobian from the left."""
    with _inside():
        watched = tuple([_watched(x) for x in primals])
        value = func(*watched)
        aux = None
        if has_aux:
            value, aux = value
        outputs, inputs = _leaves(value), _leaves(watched)
        graph = _differentiable(outputs, _leaves(primals), inputs)

    def pull(*cotangents: Any, **_: Any) -> Any:
        given = _leaves(cotangents)
        if [tuple(g.shape) for g in given] != [tuple(y.shape) for y in outputs]:
            raise RuntimeError(f"Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function: shapes "
                               f"{[list(g.shape) for g in given]} for outputs of {[list(y.shape) for y in outputs]}")
        with fl.enable_grad():
            again = graph or any(g.requires_grad for g in given) or _depth > 0
            found = iter(_pulled(outputs, inputs, given, again))
        return tuple([_like(x, found) for x in primals]) if len(primals) != 1 else _like(primals[0], found)
    shown = value if graph else _map(lambda t: t.detach(), value)
    return (shown, pull, aux) if has_aux else (shown, pull)


def jvp(func: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], *, strict: bool = False, has_aux: bool = False) -> Any:
    """The value of ``func``, and its Jacobian times the tangents: the derivative along a direction."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple) or len(_leaves(primals)) != len(_leaves(tangents)):
        raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to be tuples of the same structure")
    with _inside():
        watched = tuple([_watched(x) for x in primals])
        value = func(*watched)
        aux = None
        if has_aux:
            value, aux = value
        outputs, inputs = _leaves(value), _leaves(watched)
        graph = _differentiable(outputs, [*_leaves(primals), *_leaves(tangents)], inputs)
        # the gradient is linear in the cotangents: its own gradient by them is the product wanted
        weights = [fl.zeros_like(y, requires_grad=True) for y in outputs]
        pulled = _pulled(outputs, inputs, weights, True)
        pushed = _pulled(pulled, weights, _leaves(tangents), graph)
    shown, pushed = (value, pushed) if graph else (_map(lambda t: t.detach(), value), [t.detach() for t in pushed])
    result = _like(value, iter(pushed))
    return (shown, result, aux) if has_aux else (shown, result)


def jacrev(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, *, has_aux: bool = False, chunk_size: int | None = None) -> Callable[..., Any]:
    """A function that gives the Jacobian of ``func``: for outputs of shape ``(*out)`` and arguments of ``(*in)`` tensors of shape ``(*out, *in)``.

    One backward pass for every element of the output.
    """
    @functools.wraps(func)
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        numbers = _chosen(argnums, args, "jacrev")
        with _inside():
            given, watched, value = _called(func, numbers, args, kwargs)
            aux = None
            if has_aux:
                value, aux = value
            outputs, inputs = _leaves(value), _leaves(watched)
            graph = _differentiable(outputs, _leaves(given), inputs)
            made = []
            for y in outputs:
                flat = y.reshape(-1)
                rows = [_pulled([flat[i]], inputs, [fl.ones((), dtype=y.dtype, device=y.device)], graph) for i in range(flat.numel())]
                found = iter([fl.stack(column).reshape(*y.shape, *x.shape) if rows else fl.zeros(*y.shape, *x.shape, dtype=x.dtype)
                              for column, x in zip(zip(*rows, strict=True) if rows else [()] * len(inputs), inputs, strict=True)])
                of_output = tuple([_like(x, found) for x in given])
                made.append(of_output[0] if isinstance(argnums, int) else of_output)
        result = _like(value, iter(made))
        return (result, aux) if has_aux else result
    return jacobian


def jacfwd(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0, has_aux: bool = False, *, randomness: str = "error") -> Callable[..., Any]:
    """The same result as :func:`jacrev`; computed as it is."""
    return jacrev(func, argnums, has_aux=has_aux)


def hessian(func: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that gives the matrix of second derivatives of ``func``."""
    return jacrev(jacrev(func, argnums), argnums)


# ------------------------------------------------------------------ batches

def vmap(func: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0, randomness: str = "error", *, chunk_size: int | None = None) -> Callable[..., Any]:
    """A function that applies ``func`` to every element along a dimension of its arguments, and stacks the results.

    Parameters
    ----------
    in_dims : int, None or nested tuple
        The dimension of each argument; None: the argument is the same for all elements.
    out_dims : int or nested tuple
        Where the new dimension goes in each result.
    randomness, chunk_size
        Accepted; elements are computed one after the other, and draw numbers in that order.

    Raises
    ------
    ValueError
        When sizes differ, or ``in_dims`` does not fit the arguments.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.func.vmap(torch.dot)(torch.eye(3), torch.arange(9.0).reshape(3, 3))
    tensor([0., 4., 8.])
    """
    @functools.wraps(func)
    def batched(*args: Any, **kwargs: Any) -> Any:
        dims = _spread(tuple(in_dims) if isinstance(in_dims, list) else in_dims, args, "in_dims")
        flat, fixed = _leaves(args), _leaves(kwargs)
        dims += [0 if isinstance(x, fl.Tensor) else None for x in fixed]
        flat += fixed
        for x, d in zip(flat, dims, strict=True):
            if d is not None and (not isinstance(x, fl.Tensor) or not -x.dim() <= d < x.dim()):
                what = f"a Tensor of dimensionality {x.dim()}" if isinstance(x, fl.Tensor) else f"of type {type(x).__name__}"
                raise ValueError(f"vmap: Got in_dim={d} for some input, but that input is {what}. Use in_dims=None for what is the same for all.")
        sizes = {x.size(d) for x, d in zip(flat, dims, strict=True) if d is not None}
        if len(sizes) != 1:
            raise ValueError("vmap: at least one input must have a dimension to map over (in_dims is None for all)" if not sizes else
                             f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sorted(sizes)} for the mapped dimension")
        results = []
        for i in range(sizes.pop()):
            leaves = iter([x if d is None else x.select(d, i) for x, d in zip(flat, dims, strict=True)])
            results.append(func(*_like(args, leaves), **_like(kwargs, leaves)))
        if not results:
            raise ValueError("vmap: there is no element to map over: the mapped dimension has size 0")
        outs = _spread(out_dims, results[0], "out_dims")
        columns = zip(*map(_leaves, results), strict=True)
        return _like(results[0], iter([_stacked(c, d) for c, d in zip(columns, outs, strict=True)]))
    return batched


def _stacked(column: Sequence[Any], dim: int | None) -> Any:
    if not all(isinstance(x, fl.Tensor) for x in column):
        raise ValueError(f"vmap: the mapped function must only return Tensors, got type {type(column[0]).__name__}")
    return column[0] if dim is None else fl.stack(column, dim)


# ------------------------------------------------------------------ modules

def functional_call(module: Any, parameter_and_buffer_dicts: Any, args: Any = None, kwargs: dict[str, Any] | None = None, *, tie_weights: bool = True,
                    strict: bool = False) -> Any:
    """``module(*args, **kwargs)`` with other tensors in the places of its parameters and buffers.

    Parameters
    ----------
    parameter_and_buffer_dicts : dict, or sequence of dicts
        By the names of ``named_parameters`` and ``named_buffers``; what is not named stays as it is, unless ``strict``.
    args : tuple, or one argument
    tie_weights : bool
        A tensor that the module has in several places is replaced in all of them.

    Raises
    ------
    RuntimeError
        With ``strict``, for names that are missing or unknown; they are ignored otherwise.
    """
    given: dict[str, Any] = {}
    for d in (parameter_and_buffer_dicts,) if isinstance(parameter_and_buffer_dicts, dict) else parameter_and_buffer_dicts:
        for k in d:
            if k in given:
                raise ValueError(f"{k} appears in multiple dictionaries; behavior of functional call is ambiguous")
        given.update(d)
    places: dict[str, tuple[dict[str, Any], str]] = {}
    for prefix, m in module.named_modules(remove_duplicate=False):
        for store in (m._parameters, m._buffers):
            places.update((f"{prefix}.{k}" if prefix else k, (store, k)) for k, v in store.items() if v is not None)
    unknown, missing = sorted(given.keys() - places.keys()), sorted(places.keys() - given.keys())
    if strict and (unknown or missing):
        raise RuntimeError(f"Error(s) in reparametrizing: Unexpected key(s): {unknown}. Missing key(s): {missing}.")
    given = {k: v for k, v in given.items() if k in places}
    if tie_weights:
        by_tensor = {id(places[k][0][places[k][1]]): v for k, v in given.items()}
        given = {k: by_tensor[id(store[n])] for k, (store, n) in places.items() if id(store[n]) in by_tensor} | given
    before = {k: places[k][0][places[k][1]] for k in given}
    try:
        for k, v in given.items():
            store, n = places[k]
            store[n] = v
        return module(*(args if isinstance(args, tuple) else () if args is None else (args,)), **(kwargs or {}))
    finally:
        for k, v in before.items():
            store, n = places[k]
            store[n] = v


def stack_module_state(models: Sequence[Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The parameters and the buffers of modules alike, each stacked along a new first dimension, for ``vmap`` over :func:`functional_call`."""
    if not models:
        raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if len({type(m) for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    if len({m.training for m in models}) > 1:
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    every = [dict(m.named_parameters()) for m in models]
    parameters = {k: fl.stack([p[k].detach() for p in every]).requires_grad_(every[0][k].requires_grad) for k in every[0]}
    held = [dict(m.named_buffers()) for m in models]
    return parameters, {k: fl.stack([b[k] for b in held]) for k in held[0]}
