"""Activation checkpointing: the intermediate results of a function are computed again in the backward pass, not kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flambeau as torch


class _Recompute(torch.autograd.Function):
    """Runs a function without a graph, and with one when its gradient is wanted."""

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Any], random_state: Any, *args: Any) -> Any:
        ctx.run, ctx.random_state = run, random_state
        ctx.where = [i for i, a in enumerate(args) if isinstance(a, torch.Tensor)]
        ctx.others = [None if isinstance(a, torch.Tensor) else a for a in args]
        ctx.save_for_backward(*(args[i] for i in ctx.where))
        with torch.no_grad():
            return run(*args)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        args = list(ctx.others)
        for i, saved in zip(ctx.where, ctx.saved_tensors):
            args[i] = saved.detach().requires_grad_(saved.requires_grad)
        now = torch.get_rng_state() if ctx.random_state is not None else None
        if ctx.random_state is not None:
            torch.set_rng_state(ctx.random_state)
        try:
            with torch.enable_grad():
                results = ctx.run(*args)
        finally:
            if now is not None:
                torch.set_rng_state(now)
        results = results if isinstance(results, tuple) else (results,)
        wanted = [(r, g) for r, g in zip(results, grads) if isinstance(r, torch.Tensor) and r.requires_grad and g is not None]
        if not wanted:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        torch.autograd.backward([r for r, _ in wanted], [g for _, g in wanted])
        return (None, None, *(a.grad if isinstance(a, torch.Tensor) else None for a in args))


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """Call ``function(*args)`` and keep only its arguments for the backward pass, which calls it again.

    Saves the memory of the intermediate results for the price of a second forward pass.

    Parameters
    ----------
    function
        Must give the same results again for the same arguments.
    use_reentrant
        Accepted for compatibility; there is one way here.
    preserve_rng_state
        Draw the same random numbers (dropout) in the second call.

    Returns
    -------
    What ``function`` returns: a tensor, or a tuple of them.
    """
    kwargs.pop("context_fn", None), kwargs.pop("determinism_check", None), kwargs.pop("debug", None), kwargs.pop("early_stop", None)
    state = torch.get_rng_state() if preserve_rng_state else None
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    # Parameters of the function are not among its arguments: the anchor makes the result part of the graph for their sake.
    anchor = torch.empty(0, requires_grad=True)
    return _Recompute.apply(lambda _, *inner: function(*inner, **kwargs), state, anchor, *args)


def checkpoint_sequential(functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any) -> Any:
    """Run a sequence of modules in ``segments`` parts, each but the last one checkpointed."""
    layers: Sequence[Any] = list(functions.children()) if isinstance(functions, torch.nn.Sequential) else list(functions)
    size = len(layers) // segments

    def part(start: int, end: int) -> Callable[[Any], Any]:
        def run(value: Any) -> Any:
            for layer in layers[start:end]:
                value = layer(value)
            return value

        return run

    for index in range(segments - 1):
        input = checkpoint(part(index * size, (index + 1) * size), input, **kwargs)
    return part(size * (segments - 1), len(layers))(input)
