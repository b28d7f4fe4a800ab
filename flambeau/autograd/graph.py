"""Graph nodes and the gradient mode: what recording a differentiable call leaves behind."""

from __future__ import annotations

import weakref
from _thread import _local
from collections.abc import Callable, Sequence
from typing import Any

from ..stream.record import tick

_new = object.__new__


class Mode(_local):
    """Per-thread switches."""

    grad = True
    inference: Any = False      # what marks the buffers made now, in inference mode


MODE = Mode()


class _NodeDefaults:
    __slots__ = ()
    watched: bool = False                   # one of the next three was set, or it keeps tensors that are no plain buffers
    hooks: list[Any] | None = None          # called with (grads of inputs, grads of outputs)
    prehooks: list[Any] | None = None       # called with (grads of outputs,): tensor hooks
    retain: Any = None                      # weak references of tensors that keep their gradient
    anomaly: str | None = None
    metadata_: dict[str, Any] | None = None
    outputs: int = 1                        # how many results the call had
    grads: list[Any] | None = None          # collected gradients of a call with several results
    self_: Any = None
    index: int | None = None                # of an Output


class Node(_NodeDefaults):
    """One differentiable call.

    ``entry`` knows the rule (``entry.name``, ``entry.run(node, g)``); ``edges`` are the nodes of the operands (None where no
    gradient is needed); ``saved`` holds what the rule reads, None once it was freed; ``seq`` is the time it was recorded.
    """

    __slots__ = ("__dict__", "__weakref__", "edges", "entry", "params", "saved", "seq")

    entry: Any
    edges: tuple[Node | None, ...]
    saved: Sequence[Any] | None
    params: Any
    seq: int

    def name(self) -> str:
        """PyTorch's name of the node, for example ``AddmmBackward0``."""
        return self.entry.name  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<{self.name()} object at {hex(id(self))}>"

    @property
    def next_functions(self) -> tuple[tuple[Node | None, int], ...]:
        """The nodes that gradients flow to next, each with the number of the output used."""
        return tuple((source(e), getattr(e, "index", 0)) if e is not None else (None, 0) for e in self.edges)

    @property
    def metadata(self) -> dict[str, Any]:
        """A dictionary for the user's own notes."""
        if self.metadata_ is None:
            self.metadata_ = {}
        return self.metadata_

    def register_hook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn(grad_inputs, grad_outputs)`` after this node; it may return new ``grad_inputs``."""
        if self.hooks is None:
            self.hooks = []
            self.watched = True
        return add_hook(self.hooks, fn)

    def register_prehook(self, fn: Callable[..., Any]) -> Any:
        """Call ``fn(grad_outputs)`` before this node; it may return new ones."""
        return self.register_tensor_hook(lambda g: _first(fn((g,))))

    def register_tensor_hook(self, fn: Callable[[Any], Any]) -> Any:
        """Call ``fn(grad_output)`` before this node; it may return a new one."""
        if self.prehooks is None:
            self.prehooks = []
            self.watched = True
        return add_hook(self.prehooks, fn)

    def keep_grad_of(self, tensors: list[Any]) -> None:
        """Store the gradient on these (weak references of) tensors as well."""
        self.retain = [*(self.retain or ()), *tensors]
        self.watched = True


def _first(r: Any) -> Any:
    return r[0] if isinstance(r, tuple) else r


class RemovableHandle:
    """What registering a hook returns; ``remove()`` takes it out again, and so does leaving its ``with`` block."""

    def __init__(self, hooks: list[Any], item: Any) -> None:
        self.hooks, self.item, self.id = hooks, item, id(item)

    def remove(self) -> None:
        """Take the hook out; harmless when done twice."""
        for i, h in enumerate(self.hooks):
            if h is self.item:
                del self.hooks[i]
                break

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()


def add_hook(hooks: list[Any], fn: Callable[..., Any]) -> RemovableHandle:
    """Append ``fn`` as an entry of its own, so that one function may be registered twice."""
    item = [fn]
    hooks.append(item)
    return RemovableHandle(hooks, item)


MOST = 32       # passes of an entry
CREDIT = 16     # that may be traced without being used again


class Passes(list[Any]):
    """The whole backward passes known to start from a call (see ``passes.py``), the last used one first.

    ``credit``: how many more may be traced.  Repetitions earn it, so that a loss over ever new graphs stops trying.
    """

    __slots__ = ("credit",)

    def __init__(self) -> None:
        self.credit = CREDIT


class Leaf(Node):
    """Where gradients of a leaf tensor accumulate."""

    __slots__ = ("target",)
    target: Any             # weak reference to the tensor

    @property
    def variable(self) -> Any:
        """The tensor whose gradient accumulates here; None once it is gone."""
        return self.target()

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {hex(id(self))}>"


class Output(Node):
    """Result number ``index`` of a call with several: hands its gradient to the call's own node."""

    __slots__ = ("index",)
    index: int


def source(node: Node | None) -> Node | None:
    """The call's node behind an output."""
    return node.edges[0] if isinstance(node, Output) else node


def leaf(tensor: Any) -> Leaf:
    """The accumulation node of ``tensor``."""
    n = _new(Leaf)
    n.entry = n.params = None
    n.edges = ()
    n.saved = ()
    n.seq = 0
    n.target = weakref.ref(tensor)
    return n


def node(entry: Any, edges: tuple[Node | None, ...], saved: Sequence[Any], params: Any = None) -> Node:
    """A node recorded now."""
    n = Node()
    n.entry, n.edges, n.saved, n.params = entry, edges, saved, params
    n.seq = tick()
    return n


def outputs_of(n: Node, count: int) -> list[Output]:
    """One output node per result of the call ``n``."""
    n.outputs = count
    made = []
    for i in range(count):
        o = _new(Output)
        o.entry, o.edges, o.saved, o.params, o.index = n.entry, (n,), (), None, i
        o.seq = tick()
        made.append(o)
    return made


class saved_tensors_hooks:
    """Pass tensors that graph nodes save through ``pack_hook``, and through ``unpack_hook`` when they are used."""

    def __init__(self, pack_hook: Callable[[Any], Any], unpack_hook: Callable[[Any], Any]) -> None:
        self.hooks = (pack_hook, unpack_hook)

    def __enter__(self) -> None:
        from ..ops.definition import SAVED_HOOKS

        SAVED_HOOKS.append(self.hooks)

    def __exit__(self, *exc: object) -> None:
        from ..ops.definition import SAVED_HOOKS

        SAVED_HOOKS.pop()


class save_on_cpu(saved_tensors_hooks):
    """Keep saved tensors on the CPU: where they are."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda") -> None:
        super().__init__(lambda x: x, lambda x: x)
