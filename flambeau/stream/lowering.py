"""Calls as loop nests for the scheduler.

A composite of many operations that is met again, an optimizer's step above all, is put into a short form once: values that only its
own nests read have become parts of these.  From then on a use is this form over other slots.  (The reference interpreter takes calls as
they are.)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import BufferInfo, Nest
from ..ops.composite import Body
from ..schedule import shortened
from .record import Signature

LONG = 8            # calls of a body that is worth it
KEPT = 4096         # signatures that are remembered

STATS = {"short": 0}

_forms: dict[Signature, Any] = {}       # short forms, with the temporaries; None: seen once
_products: dict[Signature, bool] = {}


def lowered(sig: Signature, ins: Sequence[int], outs: Sequence[int], first_scalar: int, new_slot: Callable[[Any], int], origin: Any) -> list[Any]:
    """The nests and library routines of a call between these slots; ``new_slot`` makes one for what has so many ``nbytes``."""
    form = None
    if sig.params.__class__ is Body and len(sig.params.calls) >= LONG and not sig.checks and all(ins.count(ins[w]) == 1 for w in sig.writes):
        if len(_forms) >= KEPT:
            _forms.clear()
        form = _forms[sig] = _short_form(sig) if sig in _forms else None
    if not form:
        return sig.lower(sig, ins, outs, first_scalar, new_slot, origin)
    STATS["short"] += 1
    nests, temporaries = form
    slots = [*ins, *outs, *map(new_slot, temporaries)]
    return rebound(nests, lambda x: x._replace(slot=slots[x.slot]), lambda e: ir.scalar(e.attr + first_scalar, e.dtype), origin)


def _short_form(sig: Signature) -> tuple[list[Nest], list[BufferInfo]] | tuple[()]:
    """The short form of a call, over its operands, results and temporaries; nothing where there is none."""
    if _forms[sig] is not None:
        return _forms[sig]  # type: ignore[no-any-return]
    buffers = [BufferInfo(m.nbytes if i in sig.writes and not m.offset else -1, True, True) for i, m in enumerate(sig.ins)]
    buffers += [BufferInfo(m.nbytes, False, True) for m in sig.outs]
    count = len(buffers)

    def new_slot(m: Any) -> int:
        buffers.append(BufferInfo(m.nbytes, False, False))
        return len(buffers) - 1
    steps = sig.lower(sig, range(len(sig.ins)), range(len(sig.ins), count), 0, new_slot, None)
    if has_product(sig) or any(x.__class__ is not Nest for x in steps):
        return ()       # products have forms of their own to be found first
    nests = shortened(steps, buffers)
    return nests, buffers[count:]


def rebound(nests: Sequence[Nest], place: Callable[[Access], Access], scalar: Callable[[Expr], Expr | None], origin: Any) -> list[Nest]:
    """Nests with other accesses and other run-time numbers."""
    memo: dict[Expr, Expr] = {}

    def leaf(e: Expr) -> Expr | None:
        if e.op == "load":
            return ir.make("load", e.dtype, tuple([ir.rewrite(a, leaf, memo) for a in e.args]), place(e.attr))
        return scalar(e) if e.op == "scalar" else None

    def go(e: Expr | None) -> Any:
        return None if e is None else ir.rewrite(e, leaf, memo)
    return [Nest(x.kind, x.sizes, x.kept, go(x.value), place(x.store), x.combine, go(x.finish), go(x.target), go(x.guard), origin) for x in nests]


def has_product(sig: Signature) -> bool:
    """Whether a call sums products of what it reads."""
    known = _products.get(sig)
    if known is None:
        if len(_products) >= KEPT:
            _products.clear()
        if sig.params.__class__ is Body:
            known = any(has_product(inner) for inner, *_ in sig.params.calls)
        else:
            slots = itertools.count(len(sig.ins) + len(sig.outs))
            nests = sig.lower(sig, range(len(sig.ins)), range(len(sig.ins), len(sig.ins) + len(sig.outs)), 0, lambda m: next(slots), None)
            known = any(x.__class__ is Nest and x.kind == "reduce" and x.combine == "sum" and x.value.op in ("mul", "where") for x in nests)
        _products[sig] = known
    return known
