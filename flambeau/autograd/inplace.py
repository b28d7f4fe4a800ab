"""In-place writes in the graph: the written tensor, its base and the other views of the buffer get new nodes.

Writing through a view changes the base: its new node lets the gradient of the written region go through the operation
and the rest pass (``CopySlices``).  Views taken earlier read the base's new history through ``AsStridedBackward0``.
"""

from __future__ import annotations

from typing import Any

from ..core.shape import Meta, layout, overlaps_itself, span
from ..ops import definition
from . import graph
from .graph import Node


class _CopySlices:
    """Backward of a write into a region ``region`` of a tensor with layout ``base``."""

    name = "CopySlices"

    def __init__(self, base: Meta, region: Meta, inner: Node) -> None:
        self.base, self.region, self.inner = base, region, inner

    def run(self, node: Node, g: Any) -> list[Any]:
        whole = in_layout(g, self.base)
        part = strided(whole, self.region)
        self.inner.saved = node.saved
        grads = self.inner.entry.run(self.inner, definition.OPS["clone"](part))
        own = grads[0] if self.inner.edges and self.inner.edges[0] is not None else None
        if own is None:
            part.zero_()
        else:
            part.copy_(own)
        return [strided(whole, self.base), *grads[1:]]


class _AsStrided:
    """Backward of a view that is known only by its layout: scatter the gradient into the base's.

    Elements of the view that are one in memory add up; elements of the base that are one share what it gets, so that it is
    whole again where their own gradients are added.
    """

    name = "AsStridedBackward0"

    def __init__(self, base: Meta, view: Meta) -> None:
        self.base, self.view = base, view

    def run(self, node: Node, g: Any) -> list[Any]:
        whole = definition.OPS["zeros"](max(span(self.base)[1], span(self.view)[1]) + 1, dtype=g.dtype)
        stretched = tuple(i for i, (s, t) in enumerate(zip(self.view.shape, self.view.strides, strict=True)) if t == 0 and s > 1)
        view = self.view
        if stretched:
            g = g.sum(stretched, keepdim=True)
            view = layout(view, g.shape, view.strides)
        numbers = definition.OPS["arange"](whole.numel())
        if overlaps_itself(view):
            whole = whole.index_add(0, strided(numbers, view).reshape(-1), g.reshape(-1))
        else:
            strided(whole, view).copy_(g)
        if overlaps_itself(self.base):
            places = strided(numbers, self.base).reshape(-1)
            whole = whole / definition.OPS["zeros_like"](whole).index_add(0, places, definition.OPS["ones"](places.shape, dtype=g.dtype)).clamp(min=1)
        return [strided(whole, self.base)]


def in_layout(g: Any, base: Meta) -> Any:
    """A copy of ``g`` laid out as ``base`` lies in its buffer (from element 0)."""
    whole = definition.OPS["zeros"](span(base)[1] + 1, dtype=g.dtype)
    strided(whole, base).copy_(g)
    return whole


def strided(whole: Any, m: Meta) -> Any:
    """The part of ``whole`` that the layout ``m`` covers."""
    return definition.OPS["as_strided"](whole, tuple(m.shape), m.strides, m.offset)


def rebase(t: Any, n: Node) -> None:
    """Make ``n``, the node of a write into ``t``, part of the history of everything that shares its buffer."""
    base = t._base
    if base is None:
        _renew(t, n)
        refresh_views(t, t)
        return
    outer = graph.node(_CopySlices(base._meta, t._meta, n), (base._node, *n.edges[1:]), n.saved or (), n.params)
    _renew(base, outer)
    refresh_views(base, None)


def _renew(t: Any, n: Node) -> None:
    """Give ``t`` its new node; a gradient that is to be kept is the new value's."""
    if t._retains and t._node is not None:
        mine = [w for w in t._node.retain if w() is t]
        t._node.retain = [w for w in t._node.retain if w() is not t]
        n.keep_grad_of(mine)
    t._node = n


def refresh_views(base: Any, skip: Any) -> None:
    """New nodes for the live differentiable views of ``base``."""
    views = base._buffer.views
    if not views:
        return
    live = []
    for w in views:
        v = w()
        if v is None:
            continue
        live.append(w)
        if v is not skip and v._base is base and v._meta.dtype.is_floating_point:
            _renew(v, graph.node(_AsStrided(base._meta, v._meta), (base._node,), ()))
    views[:] = live


definition.rebase = rebase
