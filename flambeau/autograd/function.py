"""Custom differentiable functions: subclass :class:`Function`, write ``forward`` and ``backward``."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from ..core.shape import meta
from ..ops import definition
from ..ops.definition import OPS
from . import graph
from .engine import given as given_by_user
from .graph import MODE, Node
from .modes import no_grad


class FunctionCtx:
    """What ``forward`` leaves for ``backward``."""

    needs_input_grad: tuple[bool, ...] = ()
    materialize_grads = True

    def __init__(self) -> None:
        self._saved: tuple[Any, ...] = ()
        self._node: Node | None = None
        self._dirty: set[int] = set()
        self._fixed: set[int] = set()

    def save_for_backward(self, *tensors: Any) -> None:
        """Keep tensors (inputs, outputs or intermediates; None allowed)."""
        for t in tensors:
            if t is not None and not isinstance(t, definition.Tensor):
                raise TypeError(f"save_for_backward can only save variables, but argument is of type {type(t).__name__}")
        self._to_save = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Keep tensors for forward-mode differentiation: accepted, not used."""

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """What ``save_for_backward`` kept; refuses when one was changed in place since, or was freed."""
        n = self._node
        if n is not None and n.saved is None:
            raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
                               "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True "
                               "if you need to backward through the graph a second time or if you need to access saved tensors after calling backward.")
        out: list[Any] = []
        for kept in self._saved:
            if kept is None:
                out.append(None)
                continue
            m, b, source, own, original = kept
            if b.__class__ is definition.Packed:
                x = b.unpack()
                m, b, original = x._meta, x._buffer, None
            elif n is not None and b.wrote > n.seq:
                raise definition.stale_error(n, m)
            if original is not None:
                out.append(original)
                continue
            t = definition.make_tensor(m, b)
            t._node = n if own else source
            out.append(t)
        return tuple(out)

    saved_variables = saved_tensors

    def mark_dirty(self, *args: Any) -> None:
        """Say which inputs ``forward`` changed in place."""
        self._dirty = {id(a) for a in args}

    def mark_non_differentiable(self, *args: Any) -> None:
        """Say which outputs have no gradient."""
        self._fixed = {id(a) for a in args}

    def set_materialize_grads(self, value: bool) -> None:
        """Whether ``backward`` gets zeros (default) or None for outputs without a gradient."""
        self.materialize_grads = value


class _Entry:
    """The graph entry of one use."""

    def __init__(self, function: Any, ctx: FunctionCtx, outputs: list[Any], inputs: int, places: list[int], metas: list[Any]) -> None:
        self.function, self.ctx, self.outputs, self.inputs, self.places, self.metas = function, ctx, outputs, inputs, places, metas
        self.name = function.__name__ + "Backward"

    def run(self, node: Node, g: Any) -> list[Any]:
        given = list(g) if g.__class__ is list else [g]
        if self.ctx.materialize_grads:
            for i, m in enumerate(self.outputs):
                if given[i] is None and m is not None:
                    given[i] = OPS["zeros"](m.shape, dtype=m.dtype, device=m.device)
        fn = self.function.backward if self.function.backward is not Function.backward else self.function.vjp
        grads = fn(self.ctx, *given)
        if not isinstance(grads, (tuple, list)):
            grads = (grads,)
        if len(grads) > self.inputs and all(x is None for x in grads[self.inputs:]):
            grads = grads[: self.inputs]
        if len(grads) != self.inputs:
            raise RuntimeError(f"function {self.name} returned an incorrect number of gradients (expected {self.inputs}, got {len(grads)})")
        out: list[Any] = []
        for place, m, e in zip(self.places, self.metas, node.edges, strict=True):
            x = grads[place]
            if e is None or x is None:
                out.append(None)
                continue
            if not isinstance(x, definition.Tensor):
                raise TypeError(f"{self.name}: expected a Tensor or None as gradient {place}, got {type(x).__name__}")
            if x.shape != m.shape:
                try:
                    x = definition.fit(x, m)
                except RuntimeError:
                    raise RuntimeError(f"Function {self.name} returned an invalid gradient at index {place} - got {list(x.shape)} but expected shape "
                                       f"compatible with {list(m.shape)}") from None
            out.append(given_by_user(definition.fit(x, m)))
        return out


class Function:
    """Base of custom differentiable functions; use as ``MyFunction.apply(x)``."""

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        warnings.warn(f"{type(self).__name__} should not be instantiated. Methods on autograd functions are all static, so you should invoke them on the class "
                      "itself. Instantiating an autograd function will raise an error in a future version of PyTorch.", DeprecationWarning, stacklevel=2)

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Compute the result: ``forward(ctx, *args)``, or ``forward(*args)`` with a ``setup_context``."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep what ``backward`` needs; then ``forward`` takes no ``ctx``."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gradients of the inputs, one per argument of ``forward``."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD.")

    @staticmethod
    def vjp(ctx: Any, *grad_outputs: Any) -> Any:
        """Another name of ``backward``."""
        raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD.")

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Call the function and record it."""
        ctx = FunctionCtx()
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, definition.Tensor)]
        ctx.needs_input_grad = tuple(isinstance(a, definition.Tensor) and a._node is not None for a in args)
        with no_grad():
            if cls.setup_context is Function.setup_context:
                result = cls.forward(ctx, *args, **kwargs)
            else:
                result = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, result)
        many = isinstance(result, (tuple, list))
        outputs = list(result) if many else [result]
        saved = getattr(ctx, "_to_save", ())
        record = MODE.grad and any(ctx.needs_input_grad)
        own = {id(o) for o in outputs}
        given = {id(a): a for _, a in tensors}
        node: Node | None = None
        made = outputs
        if record:
            metas = [None if not isinstance(o, definition.Tensor) else meta(o.shape, None, 0, o.dtype, o.device) for o in outputs]
            flows = [isinstance(o, definition.Tensor) and id(o) not in ctx._fixed and o.dtype.is_floating_point for o in outputs]
            node = graph.node(_Entry(cls, ctx, metas, len(args), [i for i, _ in tensors], [a._meta for _, a in tensors]),
                              tuple([a._node if a.dtype.is_floating_point else None for _, a in tensors]), (None,))
            nodes = graph.outputs_of(node, len(outputs)) if many else [node]
            made = []
            for o, n, f in zip(outputs, nodes, flows, strict=True):
                if not isinstance(o, definition.Tensor):
                    made.append(o)
                    continue
                if id(o) in given and id(o) not in ctx._dirty:
                    o = definition.make_tensor(o._meta, o._buffer)      # an input returned as it is: a new view of it
                elif o._node is not None and id(o) not in ctx._dirty:
                    o = o.detach()
                if f:
                    if id(o) in ctx._dirty and o._base is not None:
                        definition.rebase(o, n)
                    else:
                        o._node = n
                made.append(o)
        ctx._node = node
        hooked = node is not None and definition.SAVED_HOOKS
        ctx._saved = tuple([
            None if t is None else (
                t._meta, definition.to_save(t._buffer, t._meta) if hooked else t._buffer, t._node,
                id(t) in own and id(t) not in given, t if id(t) in given else None,
            )
            for t in saved
        ])
        return (type(result)(made) if type(result) in (tuple, list) else tuple(made)) if many else made[0]


class NestedIOFunction(Function):
    """Present for compatibility."""


def once_differentiable(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a ``backward`` that cannot itself be differentiated."""

    @functools.wraps(fn)
    def wrapped(ctx: Any, *args: Any) -> Any:
        with no_grad():
            out = fn(ctx, *args)
        if not MODE.grad or not any(isinstance(a, definition.Tensor) and a._node is not None for a in args):
            return out
        outs = out if isinstance(out, tuple) else (out,)
        refused = []
        for o in outs:
            if isinstance(o, definition.Tensor):
                o = o.detach()
                o._node = graph.node(_Refuse(), (None,), (None,))
            refused.append(o)
        return tuple(refused)

    return wrapped


class _Refuse:
    name = "DelayedError"

    def run(self, node: Node, g: Any) -> list[Any]:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


InplaceFunction = Function
