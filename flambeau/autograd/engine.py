"""The backward pass: nodes in reverse order of recording, taken from a heap.

A node's time stamp is smaller than its consumers', so popping the largest first visits every node after all that use its
result: no traversal beforehand, no dependency counts.  Gradients are recorded calls like any other.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from sys import getrefcount
from typing import Any

from ..core.shape import meta
from ..ops import definition
from ..ops.casting import CASTING, during
from ..stream.record import HANDED, LOCK, unshared
from . import graph
from .graph import MODE, Leaf, Node, Output

ANOMALY = [False, True]       # enabled, check for nan
whole: Callable[[Any, bool], bool] = lambda t, keep: False      # (scalar, keep) -> was the whole pass recorded as one call? Set by passes.py
_new = object.__new__


def run(roots: Sequence[tuple[Node, Any]], retain_graph: bool, create_graph: bool, captures: dict[Node, list[int]] | None = None,
        results: list[Any] | None = None, accumulate: bool = True) -> None:
    """Propagate from ``roots`` (node, gradient).

    ``captures``: nodes whose gradient is put into ``results`` at the given places; ``accumulate``: leaves get their ``grad``.
    """
    if CASTING.narrow is not None:          # gradients have the types that the forward pass chose
        with during(None):
            return run(roots, retain_graph, create_graph, captures, results, accumulate)
    add = definition.OPS["add"]
    pending: dict[Node, Any] = {}
    heap: list[tuple[int, Node]] = []       # no two nodes were recorded at the same time
    only: Node | None = None                # stands for a heap of one, which is all that a chain of calls needs
    leaves: dict[Node, Any] = {}
    for n, g in roots:
        target = leaves if n.__class__ is Leaf else pending
        if n in target:
            target[n] = add(target[n], g)
        else:
            target[n] = g
            if target is pending:
                heap.append((-n.seq, n))
    if len(heap) == 1:
        only = heap[0][1]
    needed = None if accumulate or captures is None else _reaches(heap, captures)
    if only is None:
        heap.sort()
    else:
        heap.clear()
    before, MODE.grad = MODE.grad, create_graph
    try:
        while heap or only is not None:
            if only is None:
                n = heappop(heap)[1]
            else:
                n, only = only, None
            g = pending.pop(n)
            if needed is not None and n not in needed and n not in captures:  # type: ignore[operator]
                continue
            watched = n.watched
            if watched:
                if n.prehooks is not None and g.__class__ is not list:
                    g = call_hooks(n.prehooks, g)
                if n.retain is not None:
                    keep_grad(n, g)
            if captures is not None and n in captures:
                for i in captures[n]:
                    results[i] = g  # type: ignore[index]
            if n.__class__ is Output:
                main = n.edges[0]
                assert main is not None
                collected = pending.get(main)
                if collected is None:
                    collected = pending[main] = [None] * main.outputs
                    heappush(heap, (-main.seq, main))
                i = n.index  # type: ignore[attr-defined]
                collected[i] = g if collected[i] is None else add(collected[i], g)
                continue
            if needed is not None and n not in needed:
                continue
            if n.saved is None:
                raise RuntimeError(
                    "Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
                    "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True if "
                    "you need to backward through the graph a second time or if you need to access saved tensors after calling backward.\n"
                    f"{n.name()}: its saved values were freed by an earlier backward(). Run the forward pass again before each backward(); "
                    "retain_graph=True only if you need both. If a tensor kept from the previous iteration (an RNN's state, a running loss) still "
                    "holds that graph, cut it: h = h.detach() between steps.")
            grads = n.entry.run(n, g)
            if not retain_graph and n.saved:
                n.saved = None
            if watched and n.hooks is not None:
                grads = node_hooks(n, grads, g)
            if ANOMALY[0]:
                check_anomaly(n, grads)
            for e, ge in zip(n.edges, grads):      # a rule may know fewer operands than there are
                if e is None or ge is None:
                    continue
                if e.__class__ is Leaf:
                    if needed is None or e in captures:  # type: ignore[operator]
                        leaves[e] = add(leaves[e], ge) if e in leaves else ge
                elif e in pending:
                    pending[e] = add(pending[e], ge)
                else:
                    pending[e] = ge
                    if only is None and not heap:
                        only = e
                    else:
                        heappush(heap, (-e.seq, e))
                        if only is not None:
                            heappush(heap, (-only.seq, only))
                            only = None
        grads = ge = None       # so that ``accumulate_grad`` sees who else holds a gradient
        for n in list(leaves):
            g = leaves.pop(n)
            if needed is not None and n not in captures:  # type: ignore[operator]
                continue
            if n.watched and n.prehooks is not None:
                g = call_hooks(n.prehooks, g)
            if captures is not None and n in captures:
                for i in captures[n]:
                    results[i] = g  # type: ignore[index]
                continue
            t = n.target()  # type: ignore[attr-defined]
            if t is not None:
                accumulate_grad(t, g, create_graph)
    finally:
        MODE.grad = before


def _reaches(heap: list[tuple[int, Node]], captures: dict[Node, list[int]]) -> set[Node]:
    """The nodes from which a captured node can be reached."""
    found: set[Node] = set()
    state: dict[Node, bool] = {}
    stack: list[tuple[Node, bool]] = [(n, False) for _, n in heap]
    while stack:
        n, done = stack.pop()
        if done:
            state[n] = any(e is not None and (e in captures or state.get(e, False)) for e in n.edges)
            if state[n]:
                found.add(n)
        elif n not in state:
            state[n] = False
            stack.append((n, True))
            stack.extend((e, False) for e in n.edges if e is not None and e not in state)
    return found


def accumulate_grad(t: Any, g: Any, create_graph: bool) -> None:
    """Add ``g`` to ``t.grad``, which never shares memory with anything that somebody else can reach."""
    m = t._meta
    k = g._meta
    if k is not m and k.shape != m.shape:
        g = g.sum_to_size(m.shape)
        k = g._meta
    old = t._grad
    if old is not None:
        version = old._version
        stale = version == getattr(old, "_spent", None) or version == old._stale     # a later optimizer step looks at this: see RuleOptimizer.step
        new = definition.OPS["add"](old, g)
        if create_graph:
            t._grad = new
        else:
            b = old._buffer
            with LOCK:
                # the tensor object stays; where nobody else sees its memory, the sum takes its place without a copy
                if old._base is None and not b.exposed and old._meta is new._meta and unshared(b):
                    old._buffer = new._buffer
                else:
                    definition.copy_into(old, new)
        t._grad._spent = None
        if stale or t._grad._some_stale:
            t._grad._stale = t._grad._version if stale else None
            definition.Tensor._some_stale = True
    elif k.dtype is not m.dtype:
        t._grad = g.to(m.dtype)
    elif create_graph:
        t._grad = g
    else:
        b = g._buffer
        if not unshared(b) or g._base is not None or not k.contiguous or k.offset or (b.unusual and b.exposed):
            g = definition.OPS["clone"](g)
        if getrefcount(g) > HANDED or g.__class__ is not definition.Tensor or g._node is not None:
            g = definition.make_tensor(g._meta, g._buffer)      # somebody keeps the tensor: ``grad`` is another one
        t._grad = g
    if t._post_hooks is not None:
        for h in list(t._post_hooks):
            h[0](t)


def given(g: Any) -> Any:
    """A gradient that came from the user's code, as a tensor of our own over the same memory: it is theirs as long as they keep it."""
    t = definition.make_tensor(g._meta, g._buffer)
    t._node, t._base = g._node, g._base
    return t


def call_hooks(hooks: list[Any], g: Any) -> Any:
    """Pass ``g`` through hooks; one that returns a tensor replaces it."""
    for h in list(hooks):
        r = h[0](g)
        if r is not None:
            if not isinstance(r, definition.Tensor):
                raise TypeError(f"hook returned {type(r).__name__}: a gradient hook must return a Tensor or None")
            g = r
    return given(g)


def node_hooks(n: Node, grads: Sequence[Any], g: Any) -> Sequence[Any]:
    """The hooks of a node: they see and may replace the gradients of its inputs."""
    outs = tuple(g) if g.__class__ is list else (g,)
    for h in list(n.hooks or ()):
        r = h[0](tuple(grads), outs)
        if r is not None:
            grads = tuple(r) if isinstance(r, (tuple, list)) else (r,)
    return [None if x is None else given(x) for x in grads]


def keep_grad(n: Node, g: Any) -> None:
    """``retain_grad``: store the gradient on the tensors that asked."""
    for w in n.retain:
        t = w()
        if t is not None:
            if not MODE.grad:
                g = definition.OPS["clone"](g)
            t._grad = g if t._grad is None else definition.OPS["add"](t._grad, g)


def check_anomaly(n: Node, grads: Sequence[Any]) -> None:
    """Anomaly mode: stop at the first nan, and show where the forward call was made."""
    if not ANOMALY[1]:
        return
    for i, g in enumerate(grads):
        if g is not None and g._meta.dtype.is_floating_point and bool(g.isnan().any()):
            if n.anomaly:
                warnings.warn(f"Error detected in {n.name()}. Traceback of forward call that caused the error:\n{n.anomaly}", UserWarning, stacklevel=2)
            raise RuntimeError(f"Function '{n.name()}' returned nan values in its {i}th output.")


def root_gradient(t: Any, g: Any) -> Any:
    """The gradient to start from at ``t``: checked, or ones for a scalar."""
    m = t._meta
    if g is None:
        if m.numel != 1:
            raise RuntimeError("grad can be implicitly created only for scalar outputs\n"
                               f"backward() was called on a tensor of shape {list(m.shape)}: reduce it first (loss.mean() or loss.sum()), or pass gradient=.")
        if not m.dtype.is_floating_point:
            raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {m.dtype}")
        return definition.OPS["ones_constant"](m if m.contiguous and m.offset == 0 else meta(m.shape, None, 0, m.dtype, m.device))
    if not isinstance(g, definition.Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(g).__name__}")
    if g._meta.shape != m.shape:
        raise RuntimeError(f"Mismatch in shape: grad_output[0] has a shape of {g.shape} and output[0] has a shape of {t.shape}.")
    return given(g)


def as_tuple(x: Any) -> tuple[Any, ...]:
    """A sequence of tensors from one or several."""
    return (x,) if isinstance(x, definition.Tensor) else tuple(x)


def roots_of(outputs: Any, grads: Any, unseen: bool = False) -> list[tuple[Node, Any]]:
    """The nodes of ``outputs`` and the gradients to start from; ``unseen``: nobody but hooks would see these."""
    if grads is None and isinstance(outputs, definition.Tensor):        # the usual case
        n = outputs._node
        if n is None:
            raise no_grad_error(0)
        if unseen and not n.watched and getattr(n.entry, "from_ones", False):
            return [(n, definition.ONES)]
        return [(n, root_gradient(outputs, None))]
    outputs = as_tuple(outputs)
    roots = []
    for i, (t, g) in enumerate(zip(outputs, (None,) * len(outputs) if grads is None else as_tuple(grads), strict=True)):
        if t._node is None:
            raise no_grad_error(i)
        roots.append((t._node, root_gradient(t, g)))
    return roots


def no_grad_error(i: int) -> RuntimeError:
    """The error for an output that has no graph."""
    return RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn\n"
                        "backward() needs a result computed from tensors with requires_grad=True, outside torch.no_grad(). "
                        "Was it detached, computed under no_grad(), or are all parameters frozen?")


def backward(tensors: Any, grad_tensors: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
             grad_variables: Any = None, inputs: Any = None) -> None:
    """Compute the gradients of ``tensors`` and add them to the ``grad`` of the leaves.

    Parameters
    ----------
    tensors : Tensor or sequence of Tensor
        What to differentiate.
    grad_tensors : Tensor or sequence, optional
        Their gradients (the vector of a vector-Jacobian product); may be left out for scalars.
    retain_graph : bool, optional
        Keep what the graph saved, so that it can be used again; default: ``create_graph``.
    create_graph : bool
        Record the backward pass itself, for higher derivatives.
    inputs : Tensor or sequence, optional
        Accumulate only into these.
    """
    plain = grad_tensors is None and inputs is None and not create_graph and tensors.__class__ is definition.Tensor
    if not plain or not whole(tensors, bool(retain_graph)):
        propagate(tensors, grad_tensors, retain_graph, create_graph, inputs)


def propagate(tensors: Any, grad_tensors: Any, retain_graph: bool | None, create_graph: bool, inputs: Any) -> None:
    """:func:`backward` node by node."""
    keep = create_graph if retain_graph is None else retain_graph
    roots = roots_of(tensors, grad_tensors, inputs is None and not create_graph)
    if inputs is None:
        run(roots, keep, create_graph)
        return
    chosen = as_tuple(inputs)
    if not chosen:
        raise RuntimeError("`inputs` argument to `backward()` cannot be empty.\n"
                           "backward: leave inputs= out to reach every leaf, or name at least one tensor.")
    captures: dict[Node, list[int]] = {}
    for i, t in enumerate(chosen):
        if t._node is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        captures.setdefault(t._node, []).append(i)
    results: list[Any] = [None] * len(chosen)
    run(roots, keep, create_graph, captures, results, accumulate=False)
    for t, g in zip(chosen, results, strict=True):
        if g is not None:
            accumulate_grad(t, g, create_graph)


def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, retain_graph: bool | None = None, create_graph: bool = False,
         only_inputs: bool = True, allow_unused: bool | None = None, is_grads_batched: bool = False, materialize_grads: bool = False) -> tuple[Any, ...]:
    """The gradients of ``outputs`` with respect to ``inputs``, without touching any ``grad``.

    Returns one tensor per input; an input that was not used raises ``RuntimeError`` unless ``allow_unused`` (then None) or
    ``materialize_grads`` (then zeros).
    """
    ins = as_tuple(inputs)
    if grad_outputs is not None and len(as_tuple(grad_outputs)) != len(as_tuple(outputs)):
        raise RuntimeError(f"got {len(as_tuple(outputs))} tensors and {len(as_tuple(grad_outputs))} gradients")
    if is_grads_batched:
        raise NotImplementedError("is_grads_batched=True is not available yet: loop over the gradients")
    if allow_unused is False and materialize_grads:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    roots = roots_of(outputs, grad_outputs)
    captures: dict[Node, list[int]] = {}
    for i, t in enumerate(ins):
        if t._node is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        captures.setdefault(t._node, []).append(i)
    results: list[Any] = [None] * len(ins)
    run(roots, create_graph if retain_graph is None else retain_graph, create_graph, captures, results, accumulate=False)
    for i, g in enumerate(results):
        if g is None:
            if materialize_grads:
                results[i] = definition.OPS["zeros_like"](ins[i])
            elif not allow_unused:
                raise RuntimeError(f"The differentiated Tensor at index {i} appears to not have been used in the graph. "
                                   f"Set allow_unused=True if this is the desired behavior.\ngrad: inputs[{i}] has shape {list(ins[i].shape)}; "
                                   "the outputs do not depend on it.")
    return tuple(results)


__all__ = ["backward", "grad", "graph"]
