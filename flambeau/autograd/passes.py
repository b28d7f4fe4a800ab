"""Backward passes as one call.

The backward pass of a graph of built-in operations is run once on symbolic tensors, like the body of a composite, and what it
recorded becomes one signature: operands are what the nodes saved, results the gradients of the leaves.  The next graph of the
same structure is recognised by a walk over its nodes, and its whole pass recorded as that one call.  Whatever may see a gradient on its way
(hooks, retained gradients, custom functions, anomaly mode, higher derivatives) is left to :mod:`.engine`, node by node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core import config
from ..core.errors import TraceError
from ..core.shape import Meta, span
from ..ops import composite, definition
from ..ops.composite import Body
from ..stream import record as stream
from ..stream.record import CALLS, LIMIT, OPERANDS, SCALARS, STATE, UNUSUAL, Buffer, Signature, signature
from . import engine, graph
from .graph import CREDIT, MODE, MOST, Leaf, Node, Output, Passes

MOST_NODES = 2000
OFTEN = 100             # uses from which on a pass is written out,
LONG = 400              # if it has no more nodes than these: compiling takes 0.1 ms for each
_new = object.__new__


class Pass:
    """The backward pass of one structure of graph.

    ``edges``: how the nodes after the first are reached: (node, which of its edges).  ``shared``: other edges that lead to node k, or to leaf ~k.
    """

    __slots__ = ("call", "edges", "ends", "facts", "leaves", "meta", "picks", "run", "scalars", "shared", "uses")

    run: Callable[[Node, bool], bool]                       # ``record``, or what was written out for it
    uses: int
    call: Signature
    meta: Meta                                              # of the tensor it starts from
    edges: list[tuple[int, int]]
    facts: list[tuple[Any, Facts | None]]                   # of every node: its entry, and what the entry leaves open
    shared: list[tuple[int, int, int]]
    ends: list[tuple[int, int]]                             # how the leaves are reached
    leaves: list[tuple[int, Any, Any]]                      # number of the gradient among the results (-1: none), its metadata, the leaf's
    picks: list[tuple[int, int]]                            # operands: node, place among what it saved
    scalars: list[Any]                                      # run-time numbers: as they are, or (node, place among its parameters)

    def record(self, root: Node, keep: bool) -> bool:
        """Record the pass from ``root``, whose entry is known to fit; False, and nothing done, where the graph is another one."""
        self.uses += 1
        if self.uses == OFTEN and len(self.facts) <= LONG:
            self.run = written_out(self)
        nodes = [root]
        try:
            for i, k in self.edges:
                nodes.append(nodes[i].edges[k])  # type: ignore[arg-type]
            written = STATE.written
            for n, (entry, facts) in zip(nodes, self.facts):
                if n.entry is not entry or n.saved is None or n.watched or (facts is not None and not facts.hold(n)):
                    return False
                if n.seq < written and overwritten(n):
                    return False
            leaves: list[Any] = [nodes[i].edges[k] for i, k in self.ends]
            for i, k, to in self.shared:
                if nodes[i].edges[k] is not (nodes[to] if to >= 0 else leaves[~to]):
                    return False
            targets = []
            for e in leaves:
                t = e.target()
                if e.watched or t is None or t._post_hooks is not None:
                    return False
                targets.append(t)
            operands = [nodes[i].saved[k] for i, k in self.picks]  # type: ignore[index]
        except (AttributeError, IndexError):        # an edge that leads nowhere, or to a leaf
            return False
        if len(leaves) > 1 and len({*leaves}) < len(leaves):
            return False
        fresh = stream.append(self.call, operands, [nodes[s[0]].params[s[1]] if s.__class__ is tuple else s for s in self.scalars] if self.scalars else ())
        if not keep:
            for n in nodes:
                if n.saved:
                    n.saved = None
        for t, (i, m, own) in zip(targets, self.leaves):
            if i >= 0:
                g = definition.make_tensor(m, fresh[i])
                if t._grad is None and t._meta is own:
                    t._grad = g
                else:
                    fresh[i] = None  # type: ignore[call-overload]
                    engine.accumulate_grad(t, g, False)
        return True


def overwritten(n: Node) -> bool:
    """Whether something that a node saved was written since."""
    return any(isinstance(b, Buffer) and b.wrote > n.seq for b in n.saved or ())


def written_out(p: Pass) -> Callable[[Node, bool], bool]:
    """``p.record`` without its loops, as source text that is compiled; that takes as long as some hundred passes save."""
    names: dict[str, Any] = {"STATE": STATE, "append": stream.append, "overwritten": overwritten, "new": _new, "Tensor": definition.Tensor,
                             "accumulate": engine.accumulate_grad, "call": p.call, "CALLS": CALLS, "OPERANDS": OPERANDS, "SCALARS": SCALARS, "LIMIT": LIMIT,
                             "UNUSUAL": UNUSUAL, "SAVED_HOOKS": definition.SAVED_HOOKS, "other_threads": stream.other_threads, "Buffer": Buffer,
                             "stream": stream, "__name__": __name__}
    count = len(p.leaves)
    checks, shares, ends = [], [], []
    for i, (entry, facts) in enumerate(p.facts):
        if i:
            parent, k = p.edges[i - 1]
            checks.append(f"n{i} = n{parent}.edges[{k}]")
        test = f"n{i}.entry is not E{i} or n{i}.saved is None or n{i}.watched or (n{i}.seq < written and overwritten(n{i}))"
        names[f"E{i}"] = entry
        if facts is not None:
            test += f" or not F{i}(n{i})"
            names[f"F{i}"] = facts.hold
        checks.append(f"if {test}: return False")
    for j, (i, k) in enumerate(p.ends):
        checks += [f"e{j} = n{i}.edges[{k}]; t{j} = e{j}.target()", f"if e{j}.watched or t{j} is None or t{j}._post_hooks is not None: return False"]
    for i, k, to in p.shared:
        shares.append(f"n{i}.edges[{k}] is not {f'n{to}' if to >= 0 else f'e{~to}'}")
    if count > 1:
        shares.append("e0 is e1" if count == 2 else f"len({{{', '.join([f'e{j}' for j in range(count)])}}}) < {count}")
    for j, (i, m, own) in enumerate(p.leaves):
        if i >= 0:
            names[f"M{j}"], names[f"O{j}"] = m, own
            ends += [f"g = new(Tensor); g._meta = M{j}; g._buffer = fresh[{i}]; g._node = g._base = None",
                     f"if t{j}._grad is None and t{j}._meta is O{j}: t{j}._grad = g",
                     f"else: fresh[{i}] = None; accumulate(t{j}, g, False)"]
    scalars = [f"n{s[0]}.params[{s[1]}]" if s.__class__ is tuple else f"S[{i}]" for i, s in enumerate(p.scalars)]
    names["S"] = p.scalars
    frees = [f"    if n{i}.saved: n{i}.saved = None" for i in range(len(p.facts))]
    lines = [
        "written = STATE.written",
        "try:",
        *["    " + line for line in checks],
        *[f"    if {' or '.join(shares)}: return False"] * bool(shares),
        f"    operands = ({', '.join([f'n{i}.saved[{k}]' for i, k in p.picks])}{',' * (len(p.picks) == 1)})",
        "except (AttributeError, IndexError): return False",
        *_append_written_out(p.call, f"({', '.join(scalars)}{',' * bool(scalars)})"),
        "if not keep:",
        *frees,
        *ends,
        "return True",
    ]
    exec(compile("def run(n0, keep):\n" + "".join([f"    {line}\n" for line in lines]), "<a backward pass>", "exec"), names)
    return names["run"]  # type: ignore[no-any-return]


def _append_written_out(call: Signature, scalars: str) -> list[str]:
    """Lines that record the call on ``operands``: what ``append`` does, without its loop and its questions about the signature."""
    careful = f"fresh = append(call, operands, {scalars})"
    if call.checks or call.large:
        return [careful]
    made = [f"b{i}" for i in range(len(call.outs))]
    return [
        "if UNUSUAL or SAVED_HOOKS or other_threads():",
        f"    {careful}",
        "else:",
        *[f"    {b} = Buffer(); {b}.ptr = 0" for b in made],
        "    CALLS.append(call)",
        f"    fresh = [{', '.join(made)}]",
        "    OPERANDS.extend(operands)",
        "    OPERANDS.extend(fresh)",
        *[f"    SCALARS.extend({scalars})"] * (scalars != "()"),
        *[f"    del {', '.join(made)}"] * bool(made),
        "    if len(OPERANDS) >= LIMIT[0]: stream.after_record()",
    ]


class Facts:
    """What has to be compared of a node besides its entry."""

    __slots__ = ("index", "kinds", "params")

    params: Any         # the numbers that the rule is given; None: it asks for none

    def __init__(self, n: Node) -> None:
        self.kinds = [e.__class__ for e in n.edges]
        self.index = n.index
        self.params = n.params if n.__class__ is Node and _numeric(n.entry) else None

    def hold(self, n: Node) -> bool:
        """Whether they are true of ``n``."""
        return [e.__class__ for e in n.edges] == self.kinds and n.index == self.index and (self.params is None or n.params == self.params)


def facts_of(n: Node) -> Facts | None:
    """What the entry does not tell of a node; None where it tells all, as a composite's does."""
    return None if n.entry.__class__ is composite.Entry and n.__class__ is Node else Facts(n)


def _numeric(entry: Any) -> bool:
    """Whether the rule is given numbers that the signature does not fix."""
    return any(what == "number" or (what == "param" and entry.op.params[x] in entry.op.runtime) for what, x in getattr(entry, "steps", ()))


def backward(t: Any, keep: bool) -> bool:
    """The backward pass from the scalar ``t``, all of it as one call; False, and nothing done, where that cannot be."""
    root = t._node
    if root is None or engine.ANOMALY[0] or config.eager:
        return False
    try:
        known: Passes = root.entry.passes
    except AttributeError:
        return False
    m = t._meta
    for p in known:
        if p.meta is m and p.run(root, keep):
            if known.credit < CREDIT:
                known.credit += 1
            if p is not known[0]:
                known.remove(p)
                known.insert(0, p)
            return True
    if not known.credit:
        return False
    known.credit -= 1
    made = _trace(root, m)
    if made is None or not made.record(root, keep):
        return False
    known.insert(0, made)
    del known[MOST:]
    return True


def _trace(root: Node, m: Meta) -> Pass | None:
    """Run the pass on symbolic tensors; None where it has to be done node by node."""
    if m.numel != 1 or not m.dtype.is_floating_point or STATE.tracing is not None:
        return None
    nodes, edges = [root], []
    numbers: dict[Node, int] = {root: 0}                    # nodes from 0 up, leaves from ~0 down
    leaves: list[tuple[int, int]] = []
    shared: list[tuple[int, int, int]] = []
    for i, n in enumerate(nodes):
        # entries with passes are one object for all calls of a signature, and their rules do nothing but record calls
        if getattr(n.entry, "passes", None) is None or n.watched or n.saved is None or _zero_among(n):
            return None
        if overwritten(n):
            return None
        for k, e in enumerate(n.edges):
            if e is None:
                continue
            if e in numbers:
                shared.append((i, k, numbers[e]))
            elif e.__class__ is Leaf:
                numbers[e] = ~len(leaves)
                leaves.append((i, k))
            else:
                numbers[e] = len(nodes)
                nodes.append(e)
                edges.append((i, k))
        if len(nodes) > MOST_NODES:
            return None
    with composite.apart("backward"):
        mode, MODE.grad = MODE.grad, False
        try:
            symbols, grads = _run(nodes, numbers, len(leaves), m)
            places = list(symbols.values())
            index = {b: i for i, b in enumerate(dict.fromkeys([*symbols, *OPERANDS]))}
            calls, metas = composite.calls_of(CALLS, [index[b] for b in OPERANDS])
            scalars = SCALARS[:]
            slots = [None if g is None else index[g._buffer] for g in grads]
            written = any(ins[w] < len(places) for sig, ins, _, _ in calls for w in sig.writes)
            if written or STATE.bytes > config.pending_bytes:
                return None
        except (TraceError, TypeError):         # a rule that looks at values
            return None
        finally:
            MODE.grad = mode
    used = sorted({s for _, ins, _, _ in calls for s in ins if s < len(places)})
    names = {s: i for i, s in enumerate(used)}
    layouts = dict.fromkeys(used)               # of several that an operand is read through the one that reaches furthest
    for sig, ins, outs, _ in calls:
        for s, k in zip(ins, sig.ins, strict=True):
            if s in layouts and (layouts[s] is None or _reach(k) > _reach(layouts[s])):
                layouts[s] = k
        for s in outs:
            names[s] = len(names)
    results = [s for s in slots if s is not None]
    calls = [(sig, tuple([names[s] for s in ins]), tuple([names[s] for s in outs]), first) for sig, ins, outs, first in calls]
    p = Pass()
    p.run, p.uses = p.record, 0
    p.meta, p.edges, p.ends, p.shared, p.scalars, p.leaves = m, edges, leaves, shared, scalars, []
    p.facts = [(n.entry, facts_of(n)) for n in nodes]
    for (i, k), g in zip(leaves, grads, strict=True):
        t = nodes[i].edges[k].target()  # type: ignore[union-attr]
        own = t._meta if g is not None and t is not None and (t._meta.shape, t._meta.dtype) == (g._meta.shape, g._meta.dtype) else None
        p.leaves.append((-1, None, None) if g is None else (results.index(index[g._buffer]), g._meta, own))
    p.picks = [places[s] for s in used]
    body = Body(len(used), calls, scalars, {names[s]: k for s, k in metas.items()}, [names[s] for s in results])
    p.call = _signature(body, [layouts[s] for s in used], [metas[s] for s in results], nodes)
    return p


def _zero_among(n: Node) -> bool:
    """Whether a rule is given the number 0: 0.0 and -0.0 cannot be told apart by comparing them."""
    return n.params is not None and _numeric(n.entry) and any(x.__class__ in (int, float) and x == 0 for x in (*n.params[0], *n.params[1]))


def _run(nodes: Sequence[Node], numbers: dict[Node, int], leaves: int, m: Meta) -> tuple[dict[Buffer, tuple[int, int]], list[Any]]:
    """The pass over a copy of the graph whose saved tensors are symbols; where the symbols come from, and the gradients of the leaves."""
    symbols: dict[Buffer, tuple[int, int]] = {}
    start = definition.make_tensor(m, stream.new_buffer())
    ends = [graph.leaf(start) for _ in range(leaves)]
    copies: list[Any] = [_new(n.__class__) for n in nodes]
    for i, (n, c) in enumerate(zip(nodes, copies, strict=True)):
        c.entry, c.seq = n.entry, n.seq
        c.edges = tuple([None if e is None else copies[numbers[e]] if numbers[e] >= 0 else ends[~numbers[e]] for e in n.edges])
        c.params = [(i, k) for k in range(len(n.params))] if n.entry.__class__ is composite.Entry and n.params else n.params
        if n.__class__ is Output:
            c.index = n.index
        elif n.outputs > 1:
            c.outputs = n.outputs
        c.saved = []
        for k, b in enumerate(n.saved or ()):
            if isinstance(b, Buffer):
                b = composite.symbol()
                symbols[b] = i, k
            else:
                b = None                        # a node, which only a recorded backward pass asks for
            c.saved.append(b)
    root = copies[0]
    grads: list[Any] = [None] * leaves
    ones = definition.ONES if getattr(root.entry, "from_ones", False) else engine.root_gradient(start, None)
    engine.run([(root, ones)], True, False, {e: [i] for i, e in enumerate(ends)}, grads, accumulate=False)
    seen = set(symbols)
    for i, g in enumerate(grads):
        # every leaf gets memory of its own, laid out as ``grad`` is
        if g is not None and (g._buffer in seen or g._base is not None or not g._meta.contiguous or g._meta.offset):
            g = grads[i] = definition.OPS["clone"](g)
        if g is not None:
            seen.add(g._buffer)
    return symbols, grads


def _reach(m: Any) -> int:
    return int((span(m)[1] + 1) * m.dtype.itemsize)


_signatures: dict[Any, Signature] = {}


def _signature(body: Body, ins: Sequence[Any], outs: Sequence[Meta], nodes: Sequence[Node]) -> Signature:
    """The one signature of these calls."""
    key = tuple(body.calls), tuple(body.results)
    found = _signatures.get(key)
    if found is None:
        if len(_signatures) > 1000:
            _signatures.clear()
        stable = tuple([(c[0].stable, *c[1:]) for c in body.calls])
        letters = "".join([c[0].scalars for c in body.calls])
        names = list(dict.fromkeys(n.name() for n in nodes))
        name = f"backward ({', '.join([*names[:6], *(['...'] if len(names) > 6 else [])])})"
        found = _signatures[key] = signature(name, ins, outs, _lower, letters, checks=any(c[0].checks for c in body.calls), params=body,
                                             stable=None if any(s[0] is None for s in stable) else ("backward pass", stable, key[1]))
    return found


def _lower(sig: Signature, slots: Sequence[int], results: Sequence[int], first_scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    return composite.spliced(sig.params, slots, results, first_scalar, new_slot, origin)


engine.whole = backward
