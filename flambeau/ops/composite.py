"""Composites: functions over tensors that are recorded as one call.

The body of a ``@composite`` is run once per signature (metadata of its tensors, who requires a gradient, its other
arguments) with symbolic tensors, on a stream of its own; what it recorded becomes a list of calls, and the gradient of
that list a second one together with the intermediate values it needs.  From then on a use records one call and one graph
node, and the planner splices the lists in before it fuses.  Higher derivatives run the body again with gradients recorded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, TypeAlias

from ..autograd import graph
from ..autograd.graph import MODE, Leaf, Node, Passes
from ..core.device import META
from ..core.dtype import DEPENDENT, compute_dtype, dtype, float64
from ..core.errors import NO_VALUE, TraceError, no_tensor, type_name
from ..core.parameters import NOTHING, parameters_of
from ..core.shape import Meta, meta
from ..ir import expression as ir
from ..ir.expression import Expr
from ..ir.loops import Nest
from ..stream import record as stream
from ..stream.record import CALLS, LIMIT, LOCK, OPERANDS, ORIGINS, SCALARS, STATE, UNUSUAL, Buffer, Signature, append, signature, tick
from . import casting, definition
from .casting import CASTING
from .definition import OPS, Symbol, make_tensor, unpack

Recorded: TypeAlias = "tuple[list[tuple[Signature, tuple[int, ...], tuple[int, ...], int]], dict[int, Meta]]"


class Body:
    """A recorded list of calls over local slots: operands first, then what the calls make."""

    __slots__ = ("calls", "metas", "operands", "results", "scalars")

    def __init__(self, operands: int, calls: list[tuple[Signature, tuple[int, ...], tuple[int, ...], int]], scalars: list[Any], metas: dict[int, Meta],
                 results: list[int]) -> None:
        self.operands, self.calls, self.scalars, self.metas, self.results = operands, calls, scalars, metas, results


class Gradient:
    """The traced gradient as a call: which operands it takes, and where its results go."""

    __slots__ = ("call", "grads", "picks")

    def __init__(self, call: Signature, picks: Sequence[int], grads: Sequence[tuple[str, int, Meta] | None]) -> None:
        self.call = call
        self.picks = tuple(picks)   # places among a node's saved buffers; ~i for the gradient of result i
        self.grads = tuple(grads)   # per operand of the forward call: ("fresh", result number, meta), ("kept", operand number, meta)


class Trace:
    """What one signature of a composite became."""

    __slots__ = (
        "backward", "entry", "flows", "forward", "from_ones", "hidden", "kept", "made", "metas", "more", "name", "others", "out", "outer", "outputs", "owner",
        "pick", "plain", "several", "simple", "structure",
    )

    owner: Composite
    name: str                   # of the graph node
    entry: Entry                # of the graph node
    outer: bool                 # whether an operand is among the results
    simple: bool                # the usual case: one fresh tensor
    several: Any                # the next most usual: a tuple of them; for each its place among the results, its metadata, whether it is differentiable
    plain: bool                 # and there is nothing more to recording it
    out: Any                    # metadata of the first result, and of the others
    others: Sequence[Meta]
    more: bool                  # whether there are others, or the node keeps a result
    forward: Signature
    outputs: list[tuple[str, int, Meta | None, bool]]   # ("fresh", result number, meta, differentiable), ("operand", number, ...)
    flows: list[Meta]           # metadata of the gradients of the differentiable outputs
    structure: Any              # rebuilds tuples and lists around the outputs
    backward: Gradient | None
    from_ones: Gradient | None      # the same where a backward pass starts: the gradient of the only result is 1
    kept: list[tuple[str, int]]     # operands of the backward call: ("operand", i), ("hidden", i), ("gradient", i)
    hidden: tuple[int, ...]         # results of the forward call that the backward one reads
    pick: Callable[[Any], Any]      # them from all
    metas: list[Meta]


_new = object.__new__
_MASKS = {type(None): 0, Node: 1, Leaf: 2, graph.Output: 3}     # where the gradient of an operand goes to


class _Tracer:
    """Marks the stream as being traced."""

    __slots__ = ("name", "symbols")

    def __init__(self, name: str) -> None:
        self.name = name
        self.symbols: dict[int, Buffer] = {}        # by id: what calls may take besides what they make


@contextmanager
def apart(name: str) -> Iterator[None]:
    """An empty stream of its own for what is traced; the pending one is as it was afterwards."""
    with LOCK:
        held = CALLS[:], OPERANDS[:], SCALARS[:], ORIGINS[:], LIMIT[0], STATE.tracing, STATE.bytes
        hooks = definition.SAVED_HOOKS[:]
        for part in (CALLS, OPERANDS, SCALARS, ORIGINS, definition.SAVED_HOOKS):
            part.clear()  # type: ignore[attr-defined]
        LIMIT[0], STATE.tracing, STATE.bytes = 1 << 60, _Tracer(name), 0
        UNUSUAL.add(0)
        try:
            yield
        finally:
            for b in (*STATE.tracing.symbols.values(), *OPERANDS):
                if b.error is None:         # who keeps it beyond the trace is told so when it is used
                    b.error = TraceError(NO_VALUE)
                    stream.watch(b)
            CALLS[:], OPERANDS[:], SCALARS[:], ORIGINS[:] = held[:4]
            definition.SAVED_HOOKS[:] = hooks
            LIMIT[0], STATE.tracing, STATE.bytes = held[4], held[5], held[6]
            if STATE.tracing is None:
                UNUSUAL.discard(0)


def _narrowed(result: Any, wide: dtype, narrow: dtype) -> Any:
    """A result, or those in a tuple or list, converted from ``wide`` to ``narrow``."""
    if isinstance(result, (tuple, list)):
        return type(result)(_narrowed(r, wide, narrow) for r in result)
    return result.to(narrow) if result.dtype is wide else result


class Composite:
    """A composite function and the traces of its signatures."""

    def __init__(self, fn: Callable[..., Any], node: str | Callable[..., str] | None, runtime: Sequence[str], name: str | None, wide: bool) -> None:
        self.fn, self.wide = fn, wide
        self.name = name or fn.__name__
        camel = "".join(p[:1].upper() + p[1:] for p in self.name.split("_"))
        self.node = node or camel
        # A plan on disk knows a body by where it is defined.  A local function shares its name with others, and a user's own may
        # be changed between two runs: plans with these are made anew.
        permanent = fn.__module__.partition(".")[0] == __name__.partition(".")[0] and "<" not in fn.__qualname__
        self.home: tuple[str, str] | None = (fn.__module__, fn.__qualname__) if permanent else None
        parameters = parameters_of(fn)
        self.names = [p.name for p in parameters]
        self.place = {n: i for i, n in enumerate(self.names)}
        self.positional = sum(not p.keyword_only for p in parameters)
        self.defaults = [p.default for p in parameters]
        self.runtime = frozenset(self.place[n] for n in runtime)
        self.cache: dict[Any, Trace] = {}
        self.places: dict[Any, list[int]] = {}              # how many places a call was made at, see ``definition.wandering``
        DEPENDENT.append(self.cache)
        self.short: dict[int, Callable[..., Any]] = {}      # by the number of arguments: what calls like the last ones go through

    # -------------------------------------------------------------- calling

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
        """Argument values in definition order."""
        n = len(args)
        if n > self.positional:
            raise TypeError(f"{self.name}() takes {self.positional} positional arguments but {n} were given")
        values = list(args)
        values.extend(self.defaults[n:])
        for k, v in kwargs.items():
            i = self.place.get(k)
            if i is None:
                raise TypeError(f"{self.name}() got an unexpected keyword argument '{k}'")
            if i < n:
                raise TypeError(f"{self.name}() got multiple values for argument '{k}'")
            values[i] = v
        for i in range(n, len(values)):
            if values[i] is NOTHING:
                raise TypeError(f"{self.name}() missing 1 required positional argument: '{self.names[i]}'")
        return values

    def any(self, args: Sequence[Any]) -> Any:
        """Any call; those like repeated ones go through a short form from then on."""
        values: Sequence[Any] = args if len(args) == len(self.names) else self.bind(args, {})
        if self.runtime:
            return self.general(values)
        kinds = ["t" if v.__class__ in definition._TENSORS else "v" for v in values]
        nodes = [v._node for v, k in zip(values, kinds) if k == "t"]
        grad = any(n is not None for n in nodes) and MODE.grad
        key: list[Any] = []
        for v, k in zip(values, kinds):
            if k == "v":
                key += v.__class__, v
            elif grad:
                key += v._meta, v._node.__class__       # its gradient is wanted, and is a leaf's or not
            else:
                key.append(v._meta)
        fast = tuple(key)
        try:
            trace = self.cache[fast]
        except (KeyError, TypeError):
            if definition.wandering(self.places, fast):
                moved = [definition.fetched(v) for v in values[:len(args)]]
                short = self.short.get(len(args))
                return self.any(moved) if short is None else short(*moved)
            return self.general(values, fast)
        if nodes:
            self.short[len(args)] = straight("".join(kinds[:len(args)]), len(args) < len(kinds))(self, values[len(args):])
        return self.replay(trace, values, [v._buffer for v, k in zip(values, kinds) if k == "t"], nodes, ())

    def general(self, values: Sequence[Any], fast: Any = None) -> Any:
        """Any call: lists of tensors, run-time numbers, a signature not seen yet (then remembered under the key ``fast`` as well)."""
        tensors: list[Any] = []
        key: list[Any] = []
        scalars: list[Any] = []
        for i, v in enumerate(values):
            if isinstance(v, definition.Tensor):
                tensors.append(v)
                key.append(v._meta)
            elif i in self.runtime:
                key.append(float)
                scalars.append(v)
            elif v.__class__ is list or (v.__class__ is tuple and not definition.by_value(v)):
                fast = None
                _flatten(v, key, tensors)
            else:
                key.append(v.__class__)
                key.append(v)
        mask: Any = 0
        if MODE.grad and any(t._node is not None for t in tensors):
            mask = tuple([_MASKS[t._node.__class__] for t in tensors])
        whole = ("general", mask, CASTING.narrow, *key)
        try:
            trace = self.cache.get(whole)
        except TypeError:
            raise TypeError(f"{self.name}(): cannot use an argument of type {_unhashable(values)} here") from None
        if trace is None:
            if any(m.device is META for m in key if m.__class__ is Meta) or not tensors:
                return self.body(values)
            if definition.wandering(self.places, (mask, *key)):
                return self.any([definition.fetched(v) for v in values])
            trace = self.trace(values, tensors, mask, whole)
        if fast is not None:
            self.cache[fast] = trace
        return self.replay(trace, values, [t._buffer for t in tensors], [t._node for t in tensors], scalars)

    def replay(self, trace: Trace, values: Sequence[Any], operands: list[Any], edges: list[Any], scalars: Sequence[Any]) -> Any:
        """Record one call of a traced signature; ``operands`` and ``edges`` are the buffers and nodes of the tensors among ``values``."""
        fresh = append(trace.forward, operands, scalars)
        n: Node | None = None
        if trace.backward is not None:
            saved = operands
            if trace.hidden:
                saved = operands[:]
                for i in trace.hidden:
                    saved.append(fresh[i])
            n = Node()
            if definition.SAVED_HOOKS:
                saved = saved[:]
                _pack(trace, saved)
                n.watched = any(b.__class__ is definition.Packed for b in saved)
            n.entry = trace.entry
            n.edges = tuple(edges)
            n.saved = saved
            n.params = scalars
            n.seq = tick()
        if trace.simple:
            t = _new(definition.Tensor)
            t._meta = trace.forward.out
            t._buffer = fresh[0]
            t._node = n
            t._base = None
            return t
        if trace.several is not None:
            return _several(trace, fresh, n)
        tensors: list[Any] = []
        if trace.outer:
            _flatten(values, [], tensors)
        made: list[Any] = []
        differentiable: list[Any] = []
        for where, i, m, flows in trace.outputs:
            if where == "fresh":
                t = make_tensor(m, fresh[i])  # type: ignore[arg-type]
            elif tensors[i]._meta is m and not flows:
                t = tensors[i]
            else:
                t = make_tensor(m, operands[i])  # type: ignore[arg-type]
                base = tensors[i]
                t._base = base if base._base is None else base._base
            if flows and n is not None:
                differentiable.append(t)
            made.append(t)
        if n is not None:
            if len(differentiable) == 1:
                differentiable[0]._node = n
            else:
                for t, o in zip(differentiable, graph.outputs_of(n, len(differentiable)), strict=True):
                    t._node = o
        return _rebuild(trace.structure, made)

    def prepare(self, lists: Sequence[Sequence[Any]], numbers: Sequence[float], flags: Sequence[Any]) -> Signature | None:
        """The signature of the call ``fn(*lists, *numbers, *flags)``, to be recorded many times without a graph.

        For optimizers: ``lists`` are lists of tensors, ``numbers`` all of the run-time arguments.  None where nothing can be
        recorded (no tensors, or tensors without memory).
        """
        key: list[Any] = []
        tensors: list[Any] = []
        for v in lists:
            _flatten(v, key, tensors)
        if not tensors or any(t._meta.device is META for t in tensors):
            return None
        key += [float] * len(numbers)
        for v in flags:
            key += (v.__class__, v)
        trace = self.cache.get((0, *key)) or self.trace([*lists, *numbers, *flags], tensors, 0, (0, *key))
        return trace.forward

    # -------------------------------------------------------------- tracing

    def called(self, values: Sequence[Any]) -> Any:
        """The function's result; what autocast casts is computed in that type, and casts nothing itself."""
        to = casting.target(self.name)
        with casting.during(CASTING.narrow if to is None else None):
            values = values if to is None else [casting.cast(v, to) for v in values]
            return self.fn(*values[: self.positional], **dict(zip(self.names[self.positional:], values[self.positional:], strict=True)))

    def body(self, values: Sequence[Any]) -> Any:
        """Run the function; a wide one computes 16-bit floats in float32 and rounds its results only."""
        half = None
        if self.wide and casting.target(self.name) is None:
            floats = {v.dtype for v in values if isinstance(v, definition.Tensor) and v.dtype.is_floating_point}
            half = next(iter(floats)) if len(floats) == 1 else None
            if half is not None and compute_dtype(half) is half:
                half = None
        if half is not None:
            values = [v.to(compute_dtype(half)) if isinstance(v, definition.Tensor) and v.dtype is half else v for v in values]
        try:
            result = self.called(values)
        except AttributeError as error:
            raise no_tensor(error, self.name, self.names, values) from None
        return result if half is None else _narrowed(result, compute_dtype(half), half)

    def trace(self, values: Sequence[Any], tensors: list[Any], mask: Any, key: Any) -> Trace:
        """Run the body on symbolic tensors and keep what it recorded."""
        from ..autograd import engine

        with apart(self.name):
            mode = MODE.grad
            try:
                symbolic = [_symbol(t._meta) for t in tensors]
                inputs = list(symbolic)
                MODE.grad = bool(mask) and any(mask)
                for i, t in enumerate(symbolic):
                    if mask and mask[i]:
                        t._node = graph.leaf(t)
                leaves = [t._node for t in symbolic]
                count = len(symbolic)
                numbers = iter(range(len(values)))
                arguments = _substitute(values, iter(inputs), self.runtime, numbers)
                result = self.body(arguments)
                outputs: list[Any] = []
                structure = _outline(result, outputs)
                writes = tuple(i for i, t in enumerate(symbolic) if t._buffer.wrote)
                forward_calls, forward_scalars = CALLS[:], SCALARS[:]
                slots = {b: i for i, b in enumerate(dict.fromkeys([*[t._buffer for t in symbolic], *OPERANDS]))}
                operands = len(OPERANDS)
                flowing = [t for t in outputs if t._node is not None]
                grads: list[Any] = [None] * count
                gradients: list[Any] = []
                if flowing:
                    MODE.grad = False
                    gradients = [_symbol(meta(t._meta.shape, None, 0, t._meta.dtype, t._meta.device)) for t in flowing]
                    captures: dict[Node, list[int]] = {}
                    for i, n in enumerate(leaves):
                        if n is not None:
                            captures.setdefault(n, []).append(i)
                    engine.run(_roots(flowing, gradients), True, False, captures, grads, accumulate=False)
                    for i, g in enumerate(grads):
                        if g is not None and mask[i] == 2 and not (g._meta.contiguous and g._meta.offset == 0):
                            grads[i] = OPS["clone"](g)      # what ``.grad`` wants: the backward pass need not record a copy
                made = len(slots)
                for b in (*[g._buffer for g in gradients], *OPERANDS[operands:]):
                    slots.setdefault(b, len(slots))
                forward = calls_of(forward_calls, [slots[b] for b in OPERANDS[:operands]])
                backward = calls_of(CALLS[len(forward_calls):], [slots[b] for b in OPERANDS[operands:]])
                return self._finish(key, values, symbolic, outputs, structure, writes, forward, backward, forward_scalars, slots, made, flowing, gradients,
                                    grads, leaves)
            finally:
                MODE.grad = mode

    def _finish(self, key: Any, values: Sequence[Any], symbolic: list[Any], outputs: list[Any], structure: Any, writes: tuple[int, ...],
                forward: Recorded, backward: Recorded, forward_scalars: list[Any], slots: dict[Buffer, int], made_before: int, flowing: list[Any],
                gradients: list[Any], grads: list[Any], leaves: list[Any]) -> Trace:
        count = len(symbolic)
        calls, metas = forward
        for i, t in enumerate(symbolic):
            metas[i] = t._meta
        trace = Trace()
        trace.owner, trace.name = self, self.node(*values) if callable(self.node) else self.node
        if "Backward" not in trace.name:
            trace.name += "Backward0"
        trace.structure, trace.metas = structure, [t._meta for t in symbolic]
        flow = {id(t) for t in flowing}
        results: list[int] = []
        trace.outputs = []
        for t in outputs:
            s = slots[t._buffer]
            if s < count:
                trace.outputs.append(("operand", s, t._meta, id(t) in flow))
            else:
                if s not in results:
                    results.append(s)
                trace.outputs.append(("fresh", results.index(s), t._meta, id(t) in flow))
        trace.backward, trace.from_ones, trace.kept, trace.hidden = None, None, [], ()
        if flowing:
            given = {slots[g._buffer]: i for i, g in enumerate(gradients)}
            bcalls, bmetas = backward
            needed: dict[int, int] = {}          # slot of the whole trace -> operand number of the backward body

            def operand(s: int) -> None:
                if s not in needed and (s < made_before or s in given):
                    needed[s] = len(needed)
                    if s in given:
                        trace.kept.append(("gradient", given[s]))
                    elif s < count:
                        trace.kept.append(("operand", s))
                    else:
                        if s not in hidden:
                            hidden.append(s)
                        trace.kept.append(("hidden", hidden.index(s)))

            hidden: list[int] = []
            grad_slots: list[Any] = [None if g is None else slots.get(g._buffer) for g in grads]
            for _, ins, _outs, _ in bcalls:
                for s in ins:
                    operand(s)
            for s in grad_slots:
                if s is not None:
                    operand(s)
            renumber = dict(needed)
            for _, _, outs, _ in bcalls:
                for s in outs:
                    renumber[s] = len(renumber)
            produced: list[int] = []
            where: list[tuple[str, int, Meta] | None] = [None] * count
            for i, (g, s) in enumerate(zip(grads, grad_slots, strict=True)):
                if g is None or leaves[i] is None or s is None:
                    continue
                if s in needed:
                    where[i] = ("kept", needed[s], g._meta)
                else:
                    if s not in produced:
                        produced.append(s)
                    where[i] = ("fresh", produced.index(s), g._meta)
            body_metas = {renumber[s]: m for s, m in bmetas.items() if s in renumber}
            ins_metas: list[Meta] = []
            for s in needed:
                m = gradients[given[s]]._meta if s in given else metas.get(s) or symbolic[s]._meta
                ins_metas.append(m)
                body_metas[renumber[s]] = m
            bcalls = [(sig, tuple(renumber[s] for s in i), tuple(renumber[s] for s in o), f) for sig, i, o, f in bcalls]
            body = Body(len(needed), bcalls, SCALARS[len(forward_scalars):], body_metas, [renumber[s] for s in produced])
            stable = None if self.home is None else ("backward", *self.home, *key)
            call = signature(trace.name, ins_metas, [body_metas[r] for r in body.results], _lower_body, _letters(body), (),
                             any(c[0].checks for c in bcalls), None, body, stable)
            # an output may be needed again: it is one result, not two
            results += [s for s in hidden if s not in results]
            trace.hidden = tuple([results.index(s) for s in hidden])
            picks = [~i if what == "gradient" else i if what == "operand" else count + i for what, i in trace.kept]
            trace.backward = Gradient(call, picks, where)
            if len(gradients) == 1 and gradients[0]._meta.numel == 1 and ~0 in picks:
                trace.from_ones = _from_ones(trace.backward, gradients[0]._meta)
        body = Body(count, calls, forward_scalars, metas, results)
        runtime = "d" * len(self.runtime)
        trace.forward = signature(self.name, trace.metas, [metas[r] for r in results], _lower_body, runtime, writes, any(c[0].checks for c in calls), None,
                                  body, None if self.home is None else ("forward", *self.home, *key))
        trace.flows = [g._meta for g in gradients]
        trace.entry = Entry(self, trace, values)
        # the usual case: one fresh tensor, differentiable if anything is
        trace.outer = any(what != "fresh" for what, *_ in trace.outputs)
        trace.simple = structure is None and trace.outputs[0][0] == "fresh" and trace.outputs[0][3] == (trace.backward is not None) \
            and trace.outputs[0][2] is trace.forward.out
        several = structure is not None and structure[0] is tuple and not any(structure[1]) and all(o[0] == "fresh" for o in trace.outputs)
        trace.several = tuple([(i, m, flows) for _, i, m, flows in trace.outputs]) if several else None
        f = trace.forward
        trace.out, trace.others = f.out, f.outs[1:]
        trace.more = bool(trace.hidden or trace.others)
        one = trace.hidden[0] if len(trace.hidden) == 1 else None
        trace.pick = stream.picker(trace.hidden) if one is None else itemgetter(slice(one, one + 1))
        trace.plain = (trace.simple or (several and f.out is not None)) and not (f.scalars or f.writes or f.large)
        if len(self.cache) > 20_000:
            self.cache.clear()
        self.cache[key] = trace
        casting.depends(self.name, [sig.name for sig, *_ in calls], (self.cache,))
        return trace


def _from_ones(g: Gradient, m: Meta) -> Gradient | None:
    """``g`` with its first call making the gradient of metadata ``m`` that it took as an operand; None where that is also a result."""
    body: Body = g.call.params
    place, last = g.picks.index(~0), body.operands - 1
    if any(w is not None and w[:2] == ("kept", place) for w in g.grads):
        return None

    def moved(i: int) -> int:
        return i if i < place or i > last else last if i == place else i - 1

    OPS["ones_constant"](m)
    fill = CALLS.pop()
    OPERANDS.pop()
    calls = [(fill, (), (last,), 0), *[(sig, tuple(map(moved, ins)), tuple(map(moved, outs)), first) for sig, ins, outs, first in body.calls]]
    inner = Body(last, calls, body.scalars, {moved(i): k for i, k in body.metas.items()}, [moved(r) for r in body.results])
    ins = [k for i, k in enumerate(g.call.ins) if i != place]
    stable = None if g.call.stable is None else ("from ones", *g.call.stable)
    call = signature(g.call.name, ins, g.call.outs, _lower_body, g.call.scalars, (), g.call.checks, None, inner, stable)
    return Gradient(call, [i for i in g.picks if i >= 0], [w and (w[0], moved(w[1]) if w[0] == "kept" else w[1], w[2]) for w in g.grads])


def _letters(body: Body) -> str:
    """Run-time numbers of a backward body: those of the forward arguments it mentions, all of them passed again."""
    return "d" * (1 + max((_highest(s) for s in body.scalars), default=-1))


def _highest(s: Any) -> int:
    return _highest_in(s.expr) if isinstance(s, Symbol) else -1


def _highest_in(e: Any) -> int:
    if not isinstance(e, tuple):
        return -1
    return e[1] if e[0] == "argument" else max(_highest_in(e[1]), _highest_in(e[2]))


def _roots(flowing: list[Any], gradients: list[Any]) -> list[tuple[Node, Any]]:
    return [(t._node, g) for t, g in zip(flowing, gradients, strict=True)]


def _symbol(m: Meta) -> Any:
    """A tensor without a value, for what is traced."""
    return make_tensor(m, symbol())


def symbol() -> Buffer:
    """A buffer that traced calls may take."""
    b = stream.new_buffer()
    STATE.tracing.symbols[id(b)] = b
    return b


def calls_of(signatures: list[Signature], slots: list[int]) -> Recorded:
    """Traced calls: signature, slots of operands and results, first run-time number; and the metadata of what they make."""
    calls = []
    metas: dict[int, Meta] = {}
    scalars = 0
    for sig, ins, outs in stream.taken_apart(signatures, slots):
        calls.append((sig, tuple(ins), tuple(outs), scalars))
        metas.update(zip(outs, sig.outs, strict=True))
        scalars += len(sig.scalars)
    return calls, metas


def _flatten(values: Any, key: list[Any], tensors: list[Any]) -> bool:
    """Put a list of tensors, numbers and lists into a key."""
    key.append(values.__class__)
    key.append(len(values))
    wanted = False
    for v in values:
        if isinstance(v, definition.Tensor):
            tensors.append(v)
            key.append(v._meta)
            wanted |= v._node is not None
        elif v.__class__ is list or v.__class__ is tuple:
            wanted |= _flatten(v, key, tensors)
        else:
            key.append(v.__class__)
            key.append(v)
    return wanted


def _unhashable(values: Sequence[Any]) -> str:
    for v in values:
        try:
            hash(v)
        except TypeError:
            return type_name(v)
    return "list"


def _substitute(values: Sequence[Any], tensors: Any, runtime: frozenset[int], numbers: Any) -> list[Any]:
    """The arguments with symbolic tensors and run-time numbers in their places."""
    out = []
    for i, v in enumerate(values):
        if i in runtime:
            out.append(Symbol(("argument", next(numbers))))
        else:
            out.append(_replace(v, tensors))
    return out


def _replace(v: Any, tensors: Any) -> Any:
    if isinstance(v, definition.Tensor):
        return next(tensors)
    if v.__class__ is list or v.__class__ is tuple:
        return v.__class__([_replace(x, tensors) for x in v])
    return v


def _outline(result: Any, outputs: list[Any]) -> Any:
    """The structure of a result; its tensors are appended to ``outputs``."""
    if isinstance(result, definition.Tensor):
        outputs.append(result)
        return None
    if isinstance(result, (tuple, list)):
        return (result.__class__, [_outline(x, outputs) for x in result])
    return ("constant", result)


def _rebuild(structure: Any, made: list[Any]) -> Any:
    return made[0] if structure is None else _built(structure, iter(made))


def _built(structure: Any, made: Any) -> Any:
    if structure is None:
        return next(made)
    kind, content = structure
    if kind == "constant":
        return content
    items = [_built(x, made) for x in content]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


# ------------------------------------------------------------------ lowering


def _lower_body(sig: Signature, slots: Sequence[int], results: Sequence[int], first_scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    """Splice the calls of a body into the program."""
    body: Body = sig.params
    steps = spliced(body, slots, results, 0, new_slot, origin)
    if body.scalars:
        memo: dict[Expr, Expr] = {}

        def leaf(x: Expr) -> Expr | None:
            return number(body.scalars[x.attr], x.dtype, first_scalar) if x.op == "scalar" else None

        for step in steps:
            if step.__class__ is Nest:
                step.value = ir.rewrite(step.value, leaf, memo)
                if step.finish is not None:
                    step.finish = ir.rewrite(step.finish, leaf, memo)
    return steps


def spliced(body: Body, slots: Sequence[int], results: Sequence[int], first_scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    """The steps of a body's calls, between these slots; their run-time numbers are those from ``first_scalar`` on."""
    where: dict[int, int] = dict(enumerate(slots))
    for local, s in zip(body.results, results, strict=True):
        where[local] = s
    steps: list[Any] = []
    for inner, ins, outs, scalars in body.calls:
        for o in outs:
            if o not in where:
                where[o] = new_slot(body.metas[o])
        steps.extend(inner.lower(inner, [where[i] for i in ins], [where[o] for o in outs], first_scalar + scalars, new_slot, origin))
    return steps


def number(s: Any, d: dtype, first_scalar: int) -> Expr:
    """A number of a body as an expression of ``d``: fixed at plan time, or computed from run-time numbers in float64."""
    if not isinstance(s, Symbol):
        return ir.value(s, d)
    if s.expr[0] == "argument":
        return ir.scalar(first_scalar + s.expr[1], d)
    return _symbol_expr(s.expr, first_scalar).cast(d)


def _symbol_expr(e: Any, first: int) -> Expr:
    if not isinstance(e, tuple):
        return ir.value(e, float64)
    if e[0] == "argument":
        return ir.scalar(first + e[1], float64)
    a = _symbol_expr(e[1], first)
    return ir.unary("sqrt", a) if e[0] == "sqrt" else ir.binary(e[0], a, _symbol_expr(e[2], first))


# ------------------------------------------------------------------ gradient


class Entry:
    """The graph entry of one use: runs the traced gradient, or the body again when the gradient is to be differentiated."""

    __slots__ = ("casting", "composite", "from_ones", "name", "passes", "trace", "values")

    def __init__(self, composite: Composite, trace: Trace, values: Sequence[Any]) -> None:
        self.passes = Passes()
        self.composite, self.trace, self.name = composite, trace, trace.name
        self.casting = CASTING.narrow
        self.from_ones = trace.from_ones is not None        # whether ``run`` knows what ``ONES`` is
        self.values = [_skeleton(v) for v in values]

    def run(self, node: Node, g: Any) -> list[Any]:
        trace = self.trace
        given: Any = ()
        if g is definition.ONES:
            gradient = trace.from_ones
        else:
            gradient = trace.backward
            given = g if g.__class__ is list else [g]
            for i, m in enumerate(trace.flows):
                x = given[i]
                if x is None or x._meta is not m:
                    given[i] = _laid_out(x, m)
            if MODE.grad:
                return self.again(node, given)
        assert gradient is not None
        saved: Any = node.saved
        seq = node.seq
        operands: list[Any] = []
        for i in gradient.picks:
            if i < 0:
                operands.append(given[~i]._buffer)
            else:
                b = saved[i]
                if b.wrote > seq or b.__class__ is definition.Packed:
                    count = len(trace.metas)
                    m = trace.metas[i] if i < count else trace.forward.outs[trace.hidden[i - count]]
                    if b.__class__ is definition.Packed:
                        b = _unpacked(b, m)
                    elif i < count:
                        raise definition.stale_error(node, m)
                    else:                           # a result that was written since: its old value is made again
                        return self.recomputed(node, given or [OPS["ones_constant"](trace.flows[0])])
                operands.append(b)
        sig = gradient.call
        fresh = append(sig, operands, node.params[: len(sig.scalars)] if sig.scalars else ())
        out: list[Any] = []
        for where in gradient.grads:
            if where is None:
                out.append(None)
            else:
                what, i, k = where
                t = _new(definition.Tensor)
                t._meta = k
                t._buffer = fresh[i] if what == "fresh" else operands[i]
                t._node = t._base = None
                out.append(t)
        return out

    def recomputed(self, node: Node, given: list[Any]) -> list[Any]:
        """The gradient from the operands alone."""
        MODE.grad = True
        try:
            return [None if x is None else x.detach() for x in self.again(node, given)]
        finally:
            MODE.grad = False

    def again(self, node: Node, given: list[Any]) -> list[Any]:
        """The gradient as an ordinary recorded computation, for higher derivatives."""
        from ..autograd import engine

        assert node.saved is not None
        inputs = []
        for m, b, e in zip(self.trace.metas, node.saved, node.edges, strict=False):
            x = unpack(node, m, b, e)
            if e is not None:
                x._node = graph.node(_Identity, (e,), ())
            inputs.append(x)
        numbers = iter(node.params)
        it = iter(inputs)
        c = self.composite
        values = [next(numbers) if i in c.runtime else _restore(v, it) for i, v in enumerate(self.values)]
        with casting.during(self.casting):
            result = c.called(values)
        outputs: list[Any] = []
        _outline(result, outputs)
        flowing = [t for t in outputs if t._node is not None]
        wanted = [x for x in inputs if x._node is not None]
        grads = iter(engine.grad(flowing, wanted, given, create_graph=True, allow_unused=True))
        return [next(grads) if x._node is not None else None for x in inputs]


def _laid_out(g: Any, m: Meta) -> Any:
    """A gradient as the traced one was laid out: of ``m``'s dtype, without gaps; zeros where there is none."""
    if g is None:
        return OPS["zeros"](m.shape, dtype=m.dtype, device=m.device)
    k = g._meta
    if k.contiguous and k.offset == 0 and k.dtype is m.dtype:
        return g
    return OPS["clone"](g) if k.dtype is m.dtype else g.to(m.dtype)


def _pack(trace: Trace, saved: list[Any]) -> None:
    """What the traced gradient reads, through the user's saved-tensor hooks."""
    for what, i in trace.kept:
        if what == "operand":
            saved[i] = definition.to_save(saved[i], trace.metas[i])
        elif what == "hidden":
            at = len(trace.metas) + i
            saved[at] = definition.to_save(saved[at], trace.forward.outs[trace.hidden[i]])


def _unpacked(b: Any, m: Meta) -> Buffer:
    """The buffer of an unpacked tensor, laid out as the trace expects."""
    from ..autograd.inplace import in_layout

    x = b.unpack()
    return x._buffer if x._meta is m else in_layout(x.to(m.dtype), m)._buffer  # type: ignore[no-any-return]


class _IdentityEntry:
    name = "AliasBackward0"

    def run(self, node: Node, g: Any) -> list[Any]:
        return [g]


_Identity = _IdentityEntry()
_HOLE: Any = object()


def _skeleton(v: Any) -> Any:
    if isinstance(v, definition.Tensor):
        return _HOLE
    if v.__class__ is list or v.__class__ is tuple:
        return v.__class__([_skeleton(x) for x in v])
    return v


def _restore(v: Any, tensors: Any) -> Any:
    if v is _HOLE:
        return next(tensors)
    if v.__class__ is list or v.__class__ is tuple:
        return v.__class__([_restore(x, tensors) for x in v])
    return v


# ------------------------------------------------------------------ decorators


def composite(fn: Callable[..., Any] | None = None, *, node: str | Callable[..., str] | None = None, runtime: Sequence[str] = (), name: str | None = None,
              register: bool = False, inplace: bool = False, wide: bool = False) -> Any:
    """Record calls of ``fn`` as one instruction; see the module's text.

    Parameters
    ----------
    node : str or function, optional
        PyTorch's name of the graph node without ``Backward0``; default: the function's name in camel case.  PyTorch may take
        several ways: then a function of the arguments.
    runtime : sequence of str
        Arguments that are Python numbers given at run time: not part of the key.
    register : bool
        Also make it ``torch.<name>`` and a method, as ``@public`` does.
    inplace : bool
        Also make the in-place method ``<name>_`` (with ``register``).
    wide : bool
        Intermediate values of 16-bit floats are float32, as in PyTorch's kernels; only the results are rounded.
    """
    if fn is None:
        return lambda f: composite(f, node=node, runtime=runtime, name=name, register=register, inplace=inplace, wide=wide)
    c = Composite(fn, node, runtime, name, wide)

    short = c.short

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if "out" in kwargs:
                out = kwargs.pop("out")
                return definition.store(c.name, call(*args, **kwargs), out, args)
            args = tuple(c.bind(args, kwargs))
        straight = short.get(len(args))
        return c.any(args) if straight is None else straight(*args)

    call.__name__, call.__qualname__, call.__doc__, call.__module__ = fn.__name__, fn.__qualname__, fn.__doc__, fn.__module__
    call.__wrapped__ = fn  # type: ignore[attr-defined]
    call.composite = c  # type: ignore[attr-defined]
    if register:
        public(call, name=c.name, inplace=inplace)
    return call


def _several(trace: Trace, fresh: Sequence[Buffer], n: Node | None) -> tuple[Any, ...]:
    """The tensors of a call that gives a tuple of fresh ones."""
    made = []
    differentiable = []
    for i, m, flows in trace.several:
        t = _new(definition.Tensor)
        t._meta = m
        t._buffer = fresh[i]
        t._node = t._base = None
        made.append(t)
        if flows and n is not None:
            differentiable.append(t)
    if len(differentiable) == 1:
        differentiable[0]._node = n
    elif differentiable:
        for t, o in zip(differentiable, graph.outputs_of(n, len(differentiable)), strict=True):  # type: ignore[arg-type]
            t._node = o
    return tuple(made)


@functools.cache
def straight(kinds: str, more: bool) -> Callable[[Composite, Sequence[Any]], Callable[..., Any]]:
    """How calls of a composite with arguments of these kinds (``t``: a tensor, ``v``: another value; ``more``: and defaults) are made without a loop.

    The loops of :meth:`Composite.any`, :meth:`Composite.replay` and ``append`` over three or four arguments cost more than all they do: here
    they are written out as source text and compiled, once per sequence of kinds.  Whatever is not plain goes the long way.
    """
    x = [f"x{i}" for i in range(len(kinds))]
    tensors = [i for i, k in enumerate(kinds) if k == "t"]
    if not tensors:
        raise ValueError("a composite takes tensors")

    def each(text: str, which: Sequence[int] = tensors) -> str:
        return "".join([text.replace("#", str(i)) for i in which])

    def key(of_tensor: str) -> str:
        return "".join([(of_tensor if k == "t" else "x#.__class__, x#, ").replace("#", str(i)) for i, k in enumerate(kinds)]) + "*end" * more
    source = f"""
def made(c, defaults):
    cache, replay, end = c.cache, c.replay, tuple([w for v in defaults for w in (v.__class__, v)])
    def call({", ".join(x)}):
        try:
            {each("n# = x#._node; b# = x#._buffer; ")}
            if ({each("n# is None and ")}True) or not MODE.grad:
                trace = cache[({key("x#._meta, ")})]
            else:
                trace = cache[({key("x#._meta, n#.__class__, ")})]
        except (KeyError, AttributeError, TypeError):
            return c.any(({", ".join(x)},))
        if UNUSUAL or SAVED_HOOKS or not trace.plain or other_threads():
            return replay(trace, ({", ".join(x)}, *defaults), [{each("b#, ")}], [{each("n#, ")}], ())
        b = Buffer()
        b.ptr = 0
        sig = trace.forward
        if sig.checks:
            ORIGINS.append((len(CALLS), stream.user_frame()))
        CALLS.append(sig)
        fresh = [b]
        hidden = ()
        if trace.more:
            for _ in trace.others:
                h = Buffer()
                h.ptr = 0
                fresh.append(h)
            if trace.hidden:
                hidden = trace.pick(fresh)
            OPERANDS.extend(({each("b#, ")}*fresh))
        else:
            OPERANDS.extend(({each("b#, ")}b))
        n = None
        if trace.backward is not None:
            n = Node()
            n.entry = trace.entry
            n.edges = ({each("n#, ")})
            n.saved = [{each("b#, ")}*hidden] if hidden else [{each("b#, ")}]
            n.params = ()
            n.seq = tick()
        if trace.several is None:
            t = new(Tensor)
            t._meta = trace.out
            t._buffer = b
            t._node = n
            t._base = None
        else:
            t = several(trace, fresh, n)
        if len(OPERANDS) >= LIMIT[0]:
            stream.after_record()
        return t
    return call
"""
    names = {"MODE": MODE, "UNUSUAL": UNUSUAL, "SAVED_HOOKS": definition.SAVED_HOOKS, "other_threads": stream.other_threads, "Buffer": Buffer, "Node": Node,
             "CALLS": CALLS, "OPERANDS": OPERANDS, "LIMIT": LIMIT, "new": _new, "tick": tick, "Tensor": definition.Tensor, "stream": stream,
             "several": _several, "ORIGINS": ORIGINS}
    exec(compile(source, f"<a composite of {kinds}>", "exec"), names)
    stream.package_globals(names)
    return names["made"]  # type: ignore[return-value]


def reader(read: Callable[..., tuple[Callable[..., Any], Sequence[Any]]]) -> Callable[..., Any]:
    """A function of one tensor and plain values, written as one that reads its arguments.

    ``read(input, ...)`` checks them and says what to call, and with which values after ``input``; that is remembered for metadata and values like
    these.  It must not keep ``input``, nor look at its elements.
    """
    known: dict[Any, tuple[Callable[..., Any], Sequence[Any]]] = {}
    DEPENDENT.append(known)

    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            key = input._meta, args, tuple(kwargs.items())
            fn, values = known[key]
        except (KeyError, TypeError, AttributeError):
            fn, values = read(input, *args, **kwargs)
            while hasattr(fn, "read"):
                fn, values = fn.read(input, *values)
            if all(definition.by_value(v) for v in (*args, *kwargs.values())):
                if len(known) > 4096:
                    known.clear()
                known[key] = fn, values
        return fn(input, *values)

    call.__name__, call.__qualname__, call.__doc__, call.__module__ = read.__name__, read.__qualname__, read.__doc__, read.__module__
    call.__wrapped__ = read  # type: ignore[attr-defined]
    call.read = read  # type: ignore[attr-defined]
    return call


def public(fn: Callable[..., Any] | None = None, *, name: str | None = None, method: bool = True, function: bool = True,
           inplace: bool = False) -> Any:
    """Publish a plain function over tensors as ``torch.<name>`` and, when ``method``, as ``Tensor.<name>`` (``inplace``: and ``<name>_``)."""
    if fn is None:
        return lambda f: public(f, name=name, method=method, function=function, inplace=inplace)
    if not hasattr(fn, "composite"):
        fn = casting.casts(name or fn.__name__.rstrip("_"), fn)
    fn.is_method, fn.is_function, fn.is_inplace = method, function, inplace  # type: ignore[attr-defined]
    OPS[name or fn.__name__.rstrip("_")] = fn
    return fn


__all__ = ["Composite", "Leaf", "TraceError", "append", "composite", "public", "reader"]
