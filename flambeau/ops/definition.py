"""The forms of an operation: ``@pointwise``, ``@compute``, ``@host`` and ``@view``, and their gradients.

A decorated function defines the operation once.  Bare parameters are tensors (or Python numbers), annotated ones are static, and
those annotated ``float`` (or ``float | None``) are run-time numbers.  What the decorator returns is the function users call; methods, in-place and
``out=`` forms come from the same definition.  ``@op.backward`` registers the gradient: a function of tensors whose parameters
say by name what it needs: ``g`` (gradient of the result), ``y`` (the result), operands, ``<operand>_meta`` (only its metadata),
``needs`` (which operands want a gradient) and any static parameter.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, NamedTuple, TypeAlias

from ..autograd import graph
from ..autograd.graph import MODE, Node, Passes
from ..core.device import META, device
from ..core.dtype import DEPENDENT, bool_, can_cast, compute_dtype, dtype, float_of, int64, result_dtype, scalar_dtype
from ..core.errors import type_name
from ..core.parameters import NOTHING, parameters_of
from ..core.shape import Meta, Size, broadcast_shapes, contiguous_strides, meta, overlaps_itself
from ..ir import expression as ir
from ..ir.expression import Access, Expr
from ..ir.loops import Host, Nest
from ..stream import record as stream
from ..stream.record import (
    CALLS,
    LIMIT,
    OPERANDS,
    ORIGINS,
    SCALARS,
    STATE,
    UNUSUAL,
    Buffer,
    Signature,
    acquire,
    look,
    new_buffer,
    other_threads,
    release,
    signature,
    tick,
    user_frame,
)
from . import casting
from .formula import RESULT, Number, Operand, Template, build, instantiate

OPS: dict[str, Any] = {}            # name -> the function users call
_new = object.__new__
Tensor: Any = None                  # the tensor class, bound by the tensor package
_TENSORS: set[Any] = set()
NUMBERS = (bool, int, float)


def set_tensor_class(cls: type) -> None:
    """Say which class results have; called once by the tensor package."""
    global Tensor
    Tensor = cls
    _TENSORS.add(cls)


# what a call was bound to: signature, parameters, order of its tensors, numbers among its operands, run-time numbers
_Again: TypeAlias = "tuple[Signature, tuple[Any, ...], list[int] | None, tuple[Any, ...], tuple[Any, ...]]"


class Operation:
    """A definition: formula, parameters, gradient, and the signatures seen so far."""

    def __init__(self, fn: Callable[..., Any], kind: str, **how: Any) -> None:
        self.fn, self.kind, self.how = fn, kind, how
        self.name: str = how.get("name") or fn.__name__.rstrip("_")
        camel = "".join(p[:1].upper() + p[1:] for p in self.name.split("_"))
        self.node: Any = how.get("node") or camel
        self.cache: dict[Any, Signature] = {}
        self.fast: dict[Any, Signature] = {}                                    # by kinds: calls with default parameters
        self.known: dict[Any, tuple[Signature, tuple[Any, ...]]] = {}           # by metadata and the other arguments, as written
        self.again: dict[Any, _Again] = {}                                      # the same for any operands and numbers
        self.into: dict[Any, tuple[Signature, tuple[Any, ...]]] = {}            # by the arguments: in-place calls
        self.places: dict[Any, list[int]] = {}                                      # how many places a call was made at, see ``wandering``
        self.short: dict[int, Callable[..., Any]] = {}      # by the number of arguments: what calls like the first ones go through
        self.short_into: dict[Any, Callable[..., bool]] = {}        # the same for in-place calls, by the classes of the arguments
        DEPENDENT.extend((self.cache, self.fast, self.known, self.again, self.into, self.places))
        casting.depends(self.name, (), (self.fast, self.known, self.again))
        self.rule: Callable[..., Any] | None = None
        self.rule_args: list[tuple[str, Any]] = []
        parameters = parameters_of(fn)
        if kind == "view":
            parameters[0] = parameters[0]._replace(annotation=NOTHING)
        self.order = [p.name for p in parameters]
        self.positional = [p.name for p in parameters if not p.keyword_only]
        self.operands = [p.name for p in parameters if p.annotation is NOTHING]
        self.params = [p.name for p in parameters if p.annotation is not NOTHING]
        self.runtime = {p.name for p in parameters if p.annotation in ("float", "float | None")}
        self.defaults = {p.name: p.default for p in parameters if p.default is not NOTHING}
        self.default_params = tuple(self.defaults.get(p) for p in self.params)
        self.index = {n: i for i, n in enumerate(self.operands)}
        self.takes = [n in self.index for n in self.positional]                 # whether an argument is an operand
        numbers = how.get("numbers", self.operands[1:] if kind == "pointwise" else ())
        self.numbers = frozenset(self.operands if numbers is True else numbers)
        self.raw = set(how.get("raw", ()))
        self.public: Any = None

    def __repr__(self) -> str:
        return f"<operation {self.name}>"

    def node_name(self, kinds: tuple[Any, ...], params: tuple[Any, ...]) -> str:
        """PyTorch's name of the graph node of a call: it numbers the overloads of some operations."""
        name: str = self.node(*kinds, **dict(zip(self.params, params, strict=True))) if callable(self.node) else self.node
        return name if "Backward" in name else name + "Backward0"

    # -------------------------------------------------------------- arguments

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], tuple[Any, ...]]:
        """Operand values and static parameters of a call, in definition order."""
        if len(args) > len(self.positional):
            raise TypeError(f"{self.name}() takes {len(self.positional)} positional arguments but {len(args)} were given")
        values = dict(zip(self.positional, args, strict=False))
        for k, v in kwargs.items():
            if k not in self.order:
                k = _RENAMED.get(k, k)
                if k not in self.order:
                    raise TypeError(f"{self.name}() got an unexpected keyword argument '{k}'")
            if k in values:
                raise TypeError(f"{self.name}() got multiple values for argument '{k}'")
            values[k] = v
        for n in self.order:
            if n not in values:
                if n not in self.defaults:
                    raise TypeError(f"{self.name}() missing 1 required positional argument: '{n}'")
                values[n] = self.defaults[n]
        return [values[n] for n in self.operands], tuple([_static(values[n]) for n in self.params])

    def classify(self, values: list[Any]) -> tuple[tuple[Any, ...], list[Any], list[Any]]:
        """(kind of each operand, the tensors, the Python numbers)."""
        kinds: list[Any] = []
        tensors: list[Any] = []
        numbers: list[Any] = []
        for i, v in enumerate(values):
            if v.__class__ in _TENSORS or isinstance(v, Tensor):
                kinds.append(v._meta)
                tensors.append(v)
                continue
            if v is None and self.defaults.get(self.operands[i], 0) is None:
                kinds.append(None)
                continue
            if self.operands[i] in self.numbers:
                if v.__class__ not in NUMBERS and hasattr(v, "item") and getattr(v, "ndim", 1) == 0:
                    v = values[i] = v.item()       # a NumPy scalar
                if v.__class__ in NUMBERS:
                    kinds.append(v.__class__)
                    numbers.append(v)
                    continue
                if isinstance(v, float):           # a symbolic number of a composite, or a subclass
                    kinds.append(float)
                    numbers.append(v)
                    continue
                if isinstance(v, int):             # an enum, say
                    kinds.append(int)
                    numbers.append(int(v))
                    continue
            raise TypeError(f"{self.name}(): argument '{self.operands[i]}' (position {i + 1}) must be Tensor, not {type_name(v)}")
        if not tensors:
            raise TypeError(f"{self.name}(): argument '{self.operands[0]}' (position 1) must be Tensor, not {type_name(values[0])}")
        return tuple(kinds), tensors, numbers

    def key(self, kinds: tuple[Any, ...], params: tuple[Any, ...], into: Meta | None) -> Any:
        """What tells signatures apart."""
        return (kinds, tuple([_number_class(v) if n in self.runtime and isinstance(v, NUMBERS) else (v, v.__class__) if v.__class__ in NUMBERS else v
                              for n, v in zip(self.params, params, strict=True)]), into)

    def signature(self, kinds: tuple[Any, ...], params: tuple[Any, ...], into: Meta | None = None) -> Signature:
        """The signature of these metadata and parameters; ``into``: the result is stored through this layout of an operand."""
        key = self.key(kinds, params, into)
        sig = self.cache.get(key)
        if sig is None:
            if len(self.cache) > 20_000:
                self.cache.clear()
                self.fast.clear()
                self.known.clear()
                self.again.clear()
                self.into.clear()
            sig = self.cache[key] = self.make(kinds, params, into, key)
        return sig

    def make(self, kinds: tuple[Any, ...], params: tuple[Any, ...], into: Meta | None, key: Any) -> Signature:
        """Build the formula for these metadata (this is where shapes and dtypes are checked)."""
        metas = [k for k in kinds if k.__class__ is Meta]
        device = common_device(self.name, metas)
        letters: list[str] = []

        def runtime(d: dtype) -> Expr:
            letters.append("d" if d.is_floating_point else "q")
            return ir.scalar(len(letters) - 1, d)

        if self.kind == "pointwise":
            template = self._pointwise(kinds, params, runtime)
        elif self.kind == "compute":
            template = self._compute(kinds, params, runtime)
        else:
            return self._host(kinds, metas, params, into, key)
        result = meta(template.shape, None, 0, template.dtype, device)
        ins: list[Any] = list(metas)
        writes: tuple[int, ...] = ()
        outs: tuple[Meta, ...] = (result,)
        if into is not None:
            writes, outs = (len(ins),), ()
            ins.append(into)
        sig = signature(self.name, ins, outs, _lower_nests, "".join(letters), writes, template.checks,
                        self.grad_entry(kinds, params, result if into is None else into), (template, result, self.kind == "pointwise"))
        sig.kinds = kinds
        sig.stable = (self.name, *key)
        return sig

    def _pointwise(self, kinds: tuple[Any, ...], params: tuple[Any, ...], runtime: Callable[[dtype], Expr]) -> Template:
        rule = self.how.get("dtype", "promote")
        shape = broadcast_shapes(*[k.shape for k in kinds if k.__class__ is Meta])
        promoted = promote_kinds([k for n, k in zip(self.operands, kinds, strict=True) if n not in self.raw])
        if callable(rule):
            operand, result = rule(promoted, kinds, dict(zip(self.params, params, strict=True)))
        elif rule == "float":
            operand = result = float_of(promoted)
        elif rule == "bool":
            operand, result = promoted, bool_
        else:
            operand = result = promoted
        compute = compute_dtype(operand)
        exprs: list[Any] = []
        number = 0
        for n, k in zip(self.operands, kinds, strict=True):
            if k.__class__ is Meta:
                load = ir.make("load", k.dtype, (), Access(number, k.offset, broadcast_strides(k, shape), k.dtype))
                number += 1
                if n in self.raw:
                    exprs.append(load)
                else:
                    # a 16-bit operand is rounded to 16 bits only where it comes from a wider type
                    exprs.append((load.cast(operand) if compute is not operand and k.dtype is not operand else load).cast(compute))
            elif k is None:
                exprs.append(None)
            else:
                exprs.append(runtime(compute))
        extra = {}
        for n, v in zip(self.params, params, strict=True):
            extra[n] = runtime(compute) if n in self.runtime and isinstance(v, NUMBERS) else v
        value = self.fn(**dict(zip(self.operands, exprs, strict=True)), **extra)
        d = result if value.dtype is compute else (result if rule == "bool" or callable(rule) else value.dtype)
        store = Access(RESULT, 0, contiguous_strides(shape), d)
        checks = any(e.op == "checked" for e in ir.walk(value))
        return Template([Nest("map", tuple(shape), len(shape), value.cast(d), store)], tuple(shape), d, checks)

    def _compute(self, kinds: tuple[Any, ...], params: tuple[Any, ...], runtime: Callable[[dtype], Expr]) -> Template:
        handles: dict[str, Any] = {}
        number = 0
        first: Meta | None = None
        for n, k in zip(self.operands, kinds, strict=True):
            if k.__class__ is Meta:
                handles[n] = Operand(number, k)
                number += 1
                first = first or k
            elif k is None:
                handles[n] = None
            else:
                assert first is not None
                handles[n] = Number(runtime(compute_dtype(first.dtype)), first.dtype)
        assert first is not None
        for n, v in zip(self.params, params, strict=True):
            handles[n] = runtime(compute_dtype(float_of(first.dtype))) if n in self.runtime and isinstance(v, NUMBERS) else v
        halves = {k.dtype for k in kinds if k.__class__ is Meta and k.dtype.is_floating_point}
        half = next(iter(halves)) if len(halves) == 1 else None
        rule = self.how.get("dtype")

        def result(d: dtype) -> dtype:
            if rule is not None:
                return rule(d, kinds, dict(zip(self.params, params, strict=True)))  # type: ignore[no-any-return]
            return half if half is not None and d is compute_dtype(half) else d

        return build(lambda: self.fn(**handles), result)

    def _host(self, kinds: tuple[Any, ...], metas: list[Meta], params: tuple[Any, ...], into: Meta | None, key: Any) -> Signature:
        shapes = self.how["outs"](*kinds, **dict(zip(self.params, params, strict=True)))
        outs = tuple(shapes) if isinstance(shapes, (tuple, list)) else (shapes,)
        sig = signature(self.name, metas, outs, _lower_host, "", (), False, self.grad_entry(kinds, params, outs[0]),
                        (self, dict(zip(self.params, params, strict=True))))
        sig.kinds = kinds
        sig.stable = (self.name, *key)
        return sig

    # -------------------------------------------------------------- gradient

    def backward(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Register the gradient rule; see the module's text for what it may ask for."""
        self.rule = rule
        self.rule_args = []
        for n in (p.name for p in parameters_of(rule)):
            if n in ("g", "y", "needs"):
                self.rule_args.append((n, None))
            elif n in self.index:
                self.rule_args.append(("operand", self.index[n]))
            elif n.endswith("_meta") and n[:-5] in self.index:
                self.rule_args.append(("meta", self.index[n[:-5]]))
            elif n in self.params:
                self.rule_args.append(("param", self.params.index(n)))
            else:
                raise TypeError(f"gradient of {self.name}: unknown parameter {n!r}")
        return rule

    def grad_entry(self, kinds: tuple[Any, ...], params: tuple[Any, ...], result: Meta) -> GradEntry | None:
        """How to differentiate a call with these metadata; None when there is nothing to differentiate."""
        if self.rule is None or not result.dtype.is_floating_point:
            return None
        return GradEntry(self, kinds, params, result)


class Symbol(float):
    """A run-time number while a composite is traced: arithmetic on it is recorded and done by the kernel, in float64.

    ``expr`` is ``("argument", i)``, a Python number, or ``(operation, left, right)``.
    """

    __slots__ = ("expr",)
    expr: Any

    def __new__(cls, expr: Any) -> Symbol:
        s = float.__new__(cls, float("nan"))
        s.expr = expr
        return s

    def _with(self, op: str, a: Any, b: Any) -> Symbol:
        return Symbol((op, getattr(a, "expr", a), getattr(b, "expr", b)))

    def __add__(self, o: Any) -> Any:
        return self._with("add", self, o) if isinstance(o, NUMBERS) else NotImplemented

    def __radd__(self, o: Any) -> Any:
        return self._with("add", o, self) if isinstance(o, NUMBERS) else NotImplemented

    def __sub__(self, o: Any) -> Any:
        return self._with("sub", self, o) if isinstance(o, NUMBERS) else NotImplemented

    def __rsub__(self, o: Any) -> Any:
        return self._with("sub", o, self) if isinstance(o, NUMBERS) else NotImplemented

    def __mul__(self, o: Any) -> Any:
        return self._with("mul", self, o) if isinstance(o, NUMBERS) else NotImplemented

    def __rmul__(self, o: Any) -> Any:
        return self._with("mul", o, self) if isinstance(o, NUMBERS) else NotImplemented

    def __truediv__(self, o: Any) -> Any:
        return self._with("div", self, o) if isinstance(o, NUMBERS) else NotImplemented

    def __rtruediv__(self, o: Any) -> Any:
        return self._with("div", o, self) if isinstance(o, NUMBERS) else NotImplemented

    def __pow__(self, o: Any) -> Any:  # type: ignore[override]
        if o == 0.5:
            return self._with("sqrt", self, None)
        return self._with("pow", self, o) if isinstance(o, NUMBERS) else NotImplemented

    def __neg__(self) -> Any:
        return self._with("sub", 0.0, self)

    def __bool__(self) -> bool:
        raise TypeError("the value of a run-time number is not known while a composite is traced")

    __lt__ = __le__ = __gt__ = __ge__ = lambda self, o: self.__bool__()  # type: ignore[assignment]

    def __eq__(self, o: object) -> bool:
        return self is o

    __hash__ = object.__hash__


def _number_class(v: Any) -> type:
    return float if isinstance(v, float) else v.__class__


_RENAMED = {"axis": "dim", "keepdims": "keepdim", "x": "input", "a": "input", "x1": "input", "x2": "other", "self": "input"}
_HASHABLE = frozenset({bool, int, float, str, type(None), tuple, Size, dtype, device})


def _static(v: Any) -> Any:
    """A static parameter in a hashable form."""
    c = v.__class__
    if c is list or c is tuple or c is Size:
        return tuple([_static(x) for x in v])
    if c in _HASHABLE:
        return v
    if isinstance(v, Tensor) and v._meta.numel == 1:
        return v.item()
    if hasattr(v, "__index__") and not isinstance(v, bool):
        return v.__index__()
    return v


def promote_kinds(kinds: Sequence[Any]) -> dtype:
    """The common dtype of operands given as metadata or as classes of Python numbers."""
    dims: list[dtype] = []
    zero: list[dtype] = []
    numbers: list[dtype] = []
    for k in kinds:
        if k is None:
            continue
        if k.__class__ is Meta:
            (dims if k.ndim else zero).append(k.dtype)
        else:
            numbers.append(scalar_dtype(k(0)))
    return result_dtype(dims, zero, numbers)


def broadcast_strides(m: Meta, shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of ``m`` over the axes of ``shape``: 0 where it is stretched."""
    pad = len(shape) - m.ndim
    return (0,) * pad + tuple([0 if s == 1 else t for s, t in zip(m.shape, m.strides, strict=True)])


def common_device(name: str, metas: Sequence[Meta]) -> Any:
    """The device all operands share; 0-d tensors of the CPU go with any."""
    device = metas[0].device
    for m in metas[1:]:
        if m.device is not device:
            if m.ndim == 0 and m.device.type == "cpu":
                continue
            if device.type == "cpu" and metas[0].ndim == 0:
                device = m.device
                continue
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but found at least two devices, {device} and {m.device}!\n"
                f"{name}: operands are on {device} and {m.device}. Move both to one device: x = x.to(device) (to() returns a new tensor)."
            )
    return device


# ------------------------------------------------------------------ gradients of recorded calls


class GradEntry:
    """The gradient of one signature: which operands to keep, and how to call the rule."""

    __slots__ = ("keep_y", "kinds", "name", "op", "passes", "positions", "result", "save", "steps", "tensors")

    def __init__(self, op: Operation, kinds: tuple[Any, ...], params: tuple[Any, ...], result: Meta) -> None:
        self.op, self.kinds, self.result = op, kinds, result
        self.passes = Passes()
        self.name = op.node_name(kinds, params)
        # operand index -> number among the tensor operands
        self.positions: dict[int, int] = {}
        for i, k in enumerate(kinds):
            if k.__class__ is Meta:
                self.positions[i] = len(self.positions)
        self.tensors = tuple((i, kinds[i]) for i in self.positions)
        wanted = [i for what, i in op.rule_args if what == "operand"]
        self.save = tuple(self.positions[i] for i in wanted if i in self.positions)     # tensor operands to keep
        self.keep_y = any(what == "y" for what, _ in op.rule_args)
        self.steps = tuple(self._step(what, i) for what, i in op.rule_args)

    def _step(self, what: str, i: Any) -> tuple[str, Any]:
        """Where an argument of the rule comes from."""
        if what == "operand":
            k = self.kinds[i]
            if k.__class__ is Meta:
                return "saved", k
            return ("fixed", None) if k is None else ("number", _number_index(self.kinds, i))
        return ("fixed", self.kinds[i]) if what == "meta" else (what, i)

    def run(self, node: Node, g: Any) -> list[Any]:
        """The gradients of the tensor operands (None where there is none)."""
        saved = node.saved
        assert saved is not None
        at = 0
        args: list[Any] = []
        for what, x in self.steps:
            if what == "g":
                args.append(g)
            elif what == "saved":
                buffer = saved[at]
                # an operand that only another operand's gradient reads may have been overwritten
                args.append(_Overwritten(node, x) if buffer.wrote > node.seq else unpack(node, x, buffer, saved[at + 1]))
                at += 2
            elif what == "y":
                args.append(unpack(node, self.result, saved[-1], node))
            elif what == "fixed":
                args.append(x)
            elif what == "needs":
                args.append(self.needs(node))
            else:
                params, numbers = node.params
                args.append(params[x] if what == "param" else numbers[x])
        grads = self.op.rule(*args)  # type: ignore[misc]
        if grads.__class__ is not tuple:
            grads = (grads,)
        out = []
        for e, (i, k) in zip(node.edges, self.tensors):
            if i >= len(grads):
                break
            x = grads[i] if e is not None else None
            out.append(x if x is None or x._meta is k else fit(x, k))
        return out

    def needs(self, node: Node) -> tuple[bool, ...]:
        """Per operand of the definition: is its gradient wanted?"""
        return tuple(i in self.positions and node.edges[self.positions[i]] is not None for i in range(len(self.kinds)))


def _number_index(kinds: Sequence[Any], i: int) -> int:
    return sum(1 for k in kinds[:i] if k is not None and k.__class__ is not Meta)


def fit(g: Any, m: Meta) -> Any:
    """``g`` folded back to the shape and dtype of an operand that was broadcast or promoted."""
    if g._meta.shape != m.shape:
        g = g.sum_to_size(m.shape)
    if g._meta.dtype is not m.dtype:
        g = g.to(m.dtype)
    return g


def unpack(node: Node, m: Meta, buffer: Buffer, source: Any) -> Any:
    """A saved tensor again; refuses when it was overwritten since."""
    t = _new(Tensor)
    if buffer.__class__ is Packed:
        x = buffer.unpack()     # type: ignore[attr-defined]
        m, buffer = x._meta, x._buffer
    elif buffer.wrote > node.seq:
        raise stale_error(node, m)
    t._meta, t._buffer, t._base = m, buffer, None
    t._node = source if source is not None and MODE.grad else None
    return t


class _Overwritten:
    """Stands for a saved operand that was overwritten: an error when the gradient rule uses it."""

    __slots__ = ("_error",)

    def __init__(self, node: Node, m: Meta) -> None:
        self._error = stale_error(node, m)

    def __getattr__(self, name: str) -> Any:
        raise self._error


class Packed:
    """A saved tensor that is kept by other means than its buffer: it went through the user's hooks, or is a copy."""

    __slots__ = ("packed", "unpack_hook", "wrote")

    packed: Any
    unpack_hook: Any

    def __init__(self, x: Any, hooks: tuple[Any, Any] | None) -> None:
        self.packed, self.unpack_hook = (x, None) if hooks is None else (hooks[0](x), hooks[1])
        self.wrote = 0

    def unpack(self) -> Any:
        """The tensor again."""
        if self.unpack_hook is None:
            return self.packed
        x = self.unpack_hook(self.packed)
        if not isinstance(x, Tensor):
            raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got result of type {type_name(x)}")
        return x


def stale_error(node: Node, m: Meta) -> RuntimeError:
    """The error for a saved tensor that an in-place operation changed."""
    from ..core.shape import _type_name

    return RuntimeError(
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[torch.{_type_name(m)} {list(m.shape)}], needed by {node.name()}, was written after it was saved. "
        "Hint: use an out-of-place operation (x = x + 1 for x += 1), or clone() the tensor before changing it; "
        "torch.autograd.set_detect_anomaly(True) shows the forward call."
    )


ONES: Any = object()        # stands for the gradient that a backward pass starts from, where nobody but a composite's gradient sees it
MARK = {"inference": True}      # held by every buffer that was made in inference mode, and by whoever is in it
# torch.autograd.graph.saved_tensors_hooks; before them a None while there may be tensors that were made in inference mode
SAVED_HOOKS: list[tuple[Any, Any] | None] = []


def attach(t: Any, entry: GradEntry, tensors: Sequence[Any], edges: tuple[Any, ...], params: tuple[Any, ...], numbers: Sequence[Any]) -> Node:
    """A graph node for a call of ``tensors`` that was just recorded and made ``t``; ``edges``: their nodes (tensors of integers have none)."""
    saved: list[Any] = []
    for i in entry.save:
        saved.append(tensors[i]._buffer)
        saved.append(edges[i])
    if entry.keep_y:
        saved.append(t._buffer)
    n = Node()
    if SAVED_HOOKS:
        _pack(entry, saved, tensors, t)
        n.watched = any(b.__class__ is Packed for b in saved)
    n.entry = entry
    n.edges = edges
    n.saved = saved
    n.params = params, numbers
    n.seq = tick()
    return n


def _pack(entry: GradEntry, saved: list[Any], tensors: Sequence[Any], y: Any) -> None:
    for k, i in enumerate(entry.save):
        saved[2 * k] = to_save(saved[2 * k], tensors[i]._meta)
    if entry.keep_y:
        saved[-1] = to_save(saved[-1], y._meta)


def to_save(buffer: Any, m: Meta) -> Any:
    """What a node keeps of a tensor where ``SAVED_HOOKS`` is not empty."""
    if buffer.__class__ is Packed:
        return buffer
    if buffer.inference:
        raise RuntimeError("Inference tensors cannot be saved for backward. Please do not use Tensors created in inference mode in computation tracked by "
                           "autograd. To work around this, you can make a clone to get a normal tensor and use it in autograd, or use `torch.no_grad()` "
                           f"instead of `torch.inference_mode()`.\nIt is the tensor of shape {list(m.shape)} and type {m.dtype}.")
    hooks = SAVED_HOOKS[-1] if SAVED_HOOKS else None
    if hooks is not None:
        return Packed(make_tensor(m, buffer), hooks)
    stop_looking()
    return buffer


def stop_looking() -> None:
    """Once no tensor made in inference mode is left, saved tensors need not be looked at any more."""
    if _marks() == _NO_MARKS and None in SAVED_HOOKS:
        SAVED_HOOKS.remove(None)


def _marks() -> int:
    return sys.getrefcount(MARK)


_NO_MARKS = _marks()    # what this module itself holds


# ------------------------------------------------------------------ lowering


def _lower_nests(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    template, result, elementwise = sig.params
    if not sig.writes:
        return instantiate(template.nests, slots, (results[0], None), scalar, origin)
    into = sig.ins[-1]
    destination = slots[-1]
    clash = any(s == destination and m is not into for s, m in zip(slots[:-1], sig.ins, strict=False))
    if elementwise and not clash and into.shape == result.shape:
        return instantiate(template.nests, slots, (destination, into), scalar, origin)
    if not clash and into.contiguous and _scatters_into(template, sig.ins, slots):
        update, = instantiate(template.nests[1:], slots, (destination, None), scalar, origin)
        update.store = update.store._replace(offset=update.store.offset + into.offset)
        return [update]
    temporary = new_slot(result)
    steps: list[Any] = list(instantiate(template.nests, slots, (temporary, None), scalar, origin))
    load = ir.make("load", result.dtype, (), Access(temporary, 0, broadcast_strides(result, into.shape), result.dtype))
    steps.append(Nest("map", tuple(into.shape), into.ndim, load.cast(into.dtype), Access(destination, into.offset, into.strides, into.dtype), origin=origin))
    return steps


def _scatters_into(template: Template, ins: Sequence[Any], slots: Sequence[int]) -> bool:
    """Whether the result is the destination with elements scattered into it: then only those are stored."""
    if len(template.nests) != 2 or template.nests[1].kind != "scatter":
        return False
    base = template.nests[0].value
    if base.op != "load" or base.args:
        return False
    k = base.attr.slot
    return ins[k] is ins[-1] and slots[k] == slots[-1] and list(slots).count(slots[-1]) == 2


def _lower_host(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    op, params = sig.params
    ins = tuple((Access(s, m.offset, m.strides, m.dtype), tuple(m.shape)) for s, m in zip(slots, sig.ins, strict=True))
    outs = tuple((Access(s, m.offset, m.strides, m.dtype), tuple(m.shape)) for s, m in zip(results, sig.outs, strict=True))
    return [Host(op.fn if not op.how.get("run") else op.how["run"], ins, outs, (), op.name, params, origin)]


# ------------------------------------------------------------------ views at ever new places

# Metadata tell where in its buffer a view begins, so a loop over x[i] or x[i:i+n] would make a signature and a plan for every step.
# After some places an operation gets the view's elements as a tensor of their own: a call that is given the place as a run-time number reads them,
# one like it stores results, and the loop repeats itself.

PLACES = 6              # in as many streams,
MANY_PLACES = 64        # or in all: a loop of a few steps within a program is a program of its own
_reads: dict[Meta, Signature] = {}
_stores: dict[tuple[Meta, Meta], Signature] = {}


def wandering(places: dict[Any, list[int]], key: Sequence[Any]) -> bool:
    """Whether a call that is not known was made at many places already; ``key``: its metadata and other arguments."""
    if STATE.tracing is not None or not any(k.__class__ is Meta and k.offset for k in key):
        return False
    kinds = tuple([origin_of(k) if k.__class__ is Meta else k.__class__ if k.__class__ in NUMBERS else k for k in key])
    if len(places) > 20_000:
        places.clear()
    try:
        seen = places.get(kinds)
    except TypeError:           # an argument that cannot be part of a key
        return False
    if seen is None:
        seen = places[kinds] = [0, 0, -1]
    seen[0] += 1
    if seen[2] != STATE.flushes:
        seen[1:] = seen[1] + 1, STATE.flushes
    return (seen[1] > PLACES or seen[0] > MANY_PLACES) and all(k.__class__ is not Meta or k.device is not META for k in kinds)


def origin_of(m: Meta) -> Meta:
    """The same layout at the beginning of a buffer."""
    if not m.offset:
        return m
    o: Meta | None = m.views.get("origin")
    if o is None:
        o = m.views["origin"] = meta(m.shape, m.strides, 0, m.dtype, m.device)
    return o


def fetched(t: Any) -> Any:
    """A tensor that does not begin where its buffer does as one that does, with the same history; so in a list, and anything else as it is."""
    if t.__class__ is list or t.__class__ is tuple:
        return t.__class__([fetched(x) for x in t])
    if not isinstance(t, Tensor) or not t._meta.offset:
        return t
    m = t._meta
    origin = origin_of(m)
    sig = _reads.get(origin)
    if sig is None:
        if len(_reads) > 20_000:
            _reads.clear()
        result = meta(m.shape, None, 0, m.dtype, m.device)
        sig = _reads[origin] = signature("_read", (origin,), (result,), _lower_read, "q", stable=("_read", origin), anywhere=(0,))
    made = make_tensor(sig.out, stream.append(sig, (t._buffer,), (m.offset,))[0])
    made._node = t._node
    return made


def _lower_read(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    m, result = sig.ins[0], sig.out
    value = ir.make("load", m.dtype, (ir.scalar(scalar, int64),), Access(slots[0], 0, m.strides, m.dtype))
    return [Nest("map", tuple(m.shape), m.ndim, value, Access(results[0], 0, result.strides, m.dtype), origin=origin)]


def storing(source: Meta, into: Meta) -> Signature:
    """Stores a tensor through the layout ``into``, at a place that is given as a run-time number."""
    m = origin_of(into)
    sig = _stores.get((source, m))
    if sig is None:
        if len(_stores) > 20_000:
            _stores.clear()
        sig = _stores[source, m] = signature("_store", (source, m), (), _lower_store, "q", (1,), stable=("_store", source, m), anywhere=(1,))
        sig.kinds = (source,)       # as with other stores, the destination is not an operand
    return sig


def _lower_store(sig: Signature, slots: Sequence[int], results: Sequence[int], scalar: int, new_slot: Callable[[Meta], int], origin: Any) -> list[Any]:
    source, m = sig.ins
    value = ir.make("load", source.dtype, (), Access(slots[0], source.offset, broadcast_strides(source, m.shape), source.dtype)).cast(m.dtype)
    return [Nest("scatter", tuple(m.shape), m.ndim, value, Access(slots[1], 0, m.strides, m.dtype), target=ir.scalar(scalar, int64), origin=origin)]


# ------------------------------------------------------------------ calls


def make_tensor(m: Meta, b: Buffer) -> Any:
    """A tensor over a buffer."""
    t = _new(Tensor)
    t._meta, t._buffer, t._node, t._base = m, b, None, None
    return t


def general(op: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Any call: bind, check, record; one like an earlier one is found again by its arguments."""
    key: list[Any] = []
    given: list[Any] = []
    for v in args:
        c = v.__class__
        if c in _TENSORS:
            key.append(v._meta)
            given.append(v)
        else:
            key += c, v if c is not float or v else str(v)      # 0.0 and -0.0 are one in a dictionary
    for k, v in kwargs.items():
        key.append(k)
        c = v.__class__
        if c in _TENSORS:
            key.append(v._meta)
            given.append(v)
        else:
            key += c, v if c is not float or v else str(v)
    written = tuple(key)
    try:
        sig, params, order, numbers, scalars = op.again[written]
    except (KeyError, TypeError):
        if "out" not in kwargs and wandering(op.places, key):
            return op.public(*[fetched(v) for v in args], **{k: fetched(v) for k, v in kwargs.items()})
        return _first(op, args, kwargs, written, given)
    if not kwargs and len(args) not in op.short:
        op.short[len(args)] = straight("".join(["t" if v.__class__ in _TENSORS else "f" if v.__class__ is float else "v" for v in args]))(op)
    return _recorded(sig, given if order is None else [given[i] for i in order], params, numbers, scalars)


def _first(op: Operation, args: Sequence[Any], kwargs: dict[str, Any], written: tuple[Any, ...], given: list[Any]) -> Any:
    """A call that is bound and checked; ``written`` is its key, ``given`` are its tensors in the order they were written."""
    out = kwargs.pop("out", None) if kwargs else None
    to = casting.target(op.name)
    if to is not None and out is None:
        made = {id(v): casting.cast(v, to) for v in given}
        if any(made[id(v)] is not v for v in given):
            return op.public(*[made.get(id(v), v) for v in args], **{k: made.get(id(v), v) for k, v in kwargs.items()})
    values, params = op.bind(args, kwargs)
    kinds, tensors, numbers = op.classify(values)
    if out is not None:
        return record_out(op, kinds, params, tensors, numbers, out)
    sig = op.signature(kinds, params)
    if op.kind != "host" and params == op.default_params and sig.outs[0].device is not META and not sig.checks:
        checked = op.how.get("nonzero") and sig.scalars == "q"      # a number that scalars_of() has to look at every time
        if not checked and not any(n in op.runtime and isinstance(v, NUMBERS) for n, v in zip(op.params, params, strict=True)):
            op.fast[kinds if len(kinds) > 1 else kinds[0]] = sig
    scalars = scalars_of(op, sig, params, numbers)
    if all(by_value(v) for v in (*args, *kwargs.values()) if v.__class__ not in _TENSORS):
        order = None
        if len(given) != len(tensors) or not all(map(is_, given, tensors)):
            order = [next((i for i, g in enumerate(given) if g is t), -1) for t in tensors]
        if order is None or (len(set(order)) == len(given) == len(tensors) and -1 not in order):
            if len(op.again) > 20_000:
                op.again.clear()
            op.again[written] = sig, params, order, tuple(numbers), tuple(scalars)
    return _recorded(sig, tensors, params, numbers, scalars)


def _recorded(sig: Signature, tensors: Sequence[Any], params: tuple[Any, ...], numbers: Sequence[Any], scalars: Sequence[Any]) -> Any:
    """Record a call with fresh results, with its graph node."""
    result = record_fresh(sig, tensors, scalars)
    if sig.grad is not None:
        for x in tensors:
            if x._node is not None:
                if MODE.grad and x._meta.dtype.is_floating_point:
                    first = result[0] if result.__class__ is list else result
                    first._node = attach(first, sig.grad, tensors, tuple([v._node for v in tensors]), params, tuple(numbers))
                break
    return tuple(result) if result.__class__ is list else result


def scalars_of(op: Operation, sig: Signature, params: tuple[Any, ...], numbers: list[Any]) -> list[Any]:
    """The run-time numbers of a call as their letters want them: operands first, then parameters."""
    if op.kind == "host":
        return []
    if len(numbers) == len(sig.scalars) and "q" not in sig.scalars:
        return [v if v.__class__ is Symbol else float(v) for v in numbers]
    scalars = numbers + [v for n, v in zip(op.params, params, strict=True) if n in op.runtime and isinstance(v, NUMBERS)]
    if op.how.get("nonzero") and sig.scalars == "q" and sig.kinds[0].__class__ is Meta and scalars[0] == 0:
        raise RuntimeError(f"ZeroDivisionError\n{op.name}: an integer tensor was divided by the number 0; divide floats, or by something else.")
    out = []
    for letter, v in zip(sig.scalars, scalars, strict=True):
        if letter == "q":
            if v.__class__ is float:
                if v != int(v) and not op.how.get("truncate"):
                    raise RuntimeError(f"For integral input tensors, argument alpha must not be a floating point number. ({op.name}: got {v})")
                v = int(v)
            if not -(1 << 63) <= v < 1 << 63:
                if 0 <= v < 1 << 64:
                    v -= 1 << 64
                else:
                    raise RuntimeError(f"value cannot be converted to type int64_t without overflow\n{op.name}: {v} does not fit into 64 bits.")
        else:
            if v.__class__ is not float:
                v = v if isinstance(v, Symbol) else float(v)
        out.append(v)
    return out


def record_fresh(sig: Signature, tensors: Sequence[Any], scalars: Sequence[Any]) -> Any:
    """Record a call with fresh results: a tensor, or a list of them when there are several."""
    if len(sig.outs) == 1:
        return make_tensor(sig.out, new_buffer() if sig.out.device is META else stream.append(sig, [t._buffer for t in tensors], scalars)[0])
    if sig.outs[0].device is META:
        return [make_tensor(m, new_buffer()) for m in sig.outs]
    buffers = stream.append(sig, [t._buffer for t in tensors], scalars)
    return [make_tensor(m, b) for m, b in zip(sig.outs, buffers, strict=True)]


def record_into(op: Operation, kinds: tuple[Any, ...], params: tuple[Any, ...], tensors: Sequence[Any], numbers: list[Any], into: Any) -> Signature:
    """Record a call whose result is stored through the layout of ``into``."""
    b = into._buffer
    if b.inference:
        check_inference(op.name, b)
    if into._meta.offset and op.key(kinds, params, into._meta) not in op.cache and wandering(op.places, (*kinds, params, into._meta)):
        # the same call with a result of its own, which is then stored
        tensors = [fetched(t) for t in tensors]
        moved = iter([t._meta for t in tensors])
        sig = op.signature(tuple([next(moved) if k.__class__ is Meta else k for k in kinds]), params)
        made = tensors[0] if op.name == "_copy" else record_fresh(sig, tensors, scalars_of(op, sig, params, numbers))
        store, operands, scalars = storing(made._meta, into._meta), [made._buffer, b], [into._meta.offset]
    else:
        sig = store = op.signature(kinds, params, into._meta)
        operands, scalars = [*[t._buffer for t in tensors], b], None
    if into._meta.device is META:
        return sig
    version = b.wrote, b.versions
    stream.append(store, operands, scalars_of(op, sig, params, numbers) if scalars is None else scalars)
    own = into._own_version
    if own is None and into._base is not None:
        own = into._base._own_version
    if own is not None:
        b.wrote, b.versions = version
        own[0] += 1
    return sig


def check_inference(name: str, b: Buffer) -> None:
    """Refuse to change outside inference mode what was made in it."""
    if not MODE.inference:
        raise RuntimeError("Inplace update to inference tensor outside InferenceMode is not allowed. You can make a clone to get a normal tensor before "
                           f"doing inplace update.\n{name.strip('_')}: the tensor was made inside torch.inference_mode(); use its clone(), or no_grad() there.")


def record_out(op: Operation, kinds: tuple[Any, ...], params: tuple[Any, ...], tensors: Sequence[Any], numbers: list[Any], out: Any) -> Any:
    """The ``out=`` form: checked and recorded as a store into ``out``."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{op.name}(): argument 'out' must be Tensor, not {type_name(out)}")
    if MODE.grad and any(t._node is not None for t in tensors):
        raise out_needs_gradient(op.name)
    if op.name in _TYPED_BY_OUT and params[op.params.index("dtype")] is None:
        params = tuple([out._meta.dtype if n == "dtype" else v for n, v in zip(op.params, params, strict=True)])
    result = op.signature(kinds, params)
    prepare_out(op.name, out, result.outs[0], tensors, op.kind == "pointwise")
    if op.kind == "host" or result.checks:
        copy_into(out, record_fresh(result, tensors, scalars_of(op, result, params, numbers)))
        return out
    record_into(op, kinds, params, tensors, numbers, out)
    return out


def store(name: str, made: Any, out: Any, operands: Sequence[Any] = ()) -> Any:
    """``made`` (of ``operands``) itself, or ``out`` holding it: the ``out=`` form of a function made of other operations."""
    if out is None:
        return made
    if made._node is not None:
        raise out_needs_gradient(name)
    prepare_out(name, out, made._meta, operands)
    copy_into(out, made)
    return out


# What PyTorch asks of ``out=``: the result's very dtype, no memory shared with an operand, or none but all of an operand's own.
_EXACT = frozenset({"matmul", "mm", "bmm", "mv", "dot", "addmm", "addmv", "baddbmm", "tensordot", "gather", "index_select", "where"})
_APART = frozenset({"gather", "index_select", "kron", "cat", "stack"})
_IN_PLACE = frozenset({"cumsum", "cumprod", "outer", "addr"})
_TYPED_BY_OUT = frozenset({"sum", "nansum", "prod", "cumsum", "cumprod"})


def out_needs_gradient(name: str) -> RuntimeError:
    """The error of an ``out=`` form while gradients are recorded."""
    return RuntimeError(f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the arguments requires grad.\n"
                        f"{name}: assign the result instead of passing out=, or call it inside torch.no_grad().")


def prepare_out(name: str, out: Any, result: Meta, operands: Sequence[Any] = (), in_place: bool = False) -> None:
    """Check an ``out=`` tensor for a result of ``operands`` and give it the result's shape; ``in_place``: it may be one of them."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type_name(out)}")
    if MODE.grad and out._node is not None:
        raise out_needs_gradient(name)
    m = out._meta
    if m.device is not result.device:
        raise RuntimeError(f"Attempting to copy from device {result.device} to device {m.device}, but cross-device copies are not allowed!\n"
                           f"{name}: the result is on {result.device}, out= on {m.device}.")
    fits = m.shape == result.shape      # an out= that is resized gets memory that nobody shares
    apart = name in _APART
    if (fits or in_place or name == "index_select") and overlaps_itself(m):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
                           f"Please clone() the tensor before performing the operation.\n{name}: out= was made by expand(); use its clone().")
    if apart or in_place or (fits and name in _IN_PLACE):
        for x in operands:
            if isinstance(x, Tensor) and x._buffer is out._buffer and (apart or partial_overlap(x._meta, m)):
                raise overlap_error(name)
    if name in _EXACT and m.dtype is not result.dtype:
        raise RuntimeError(f"Expected out tensor to have dtype {result.dtype.name}, but got {m.dtype.name} instead\n"
                           f"{name}: make out= with dtype=torch.{result.dtype.name}, or convert the result.")
    if not can_cast(result.dtype, m.dtype):
        refusal = TypeError if name == "cat" else RuntimeError
        raise refusal(f"result type {title(result.dtype)} can't be cast to the desired output type {title(m.dtype)}\n"
                           f"{name}: the result is {result.dtype.name}, but out= is {m.dtype.name}.")
    if m.shape != result.shape:
        if m.numel:
            warnings.warn(
                f"An output with one or more elements was resized since it had shape {list(m.shape)}, which does not match the required "
                f"output shape {list(result.shape)}. This behavior is deprecated, and in a future PyTorch release outputs will not be resized "
                "unless they have zero elements. You can explicitly reuse an out tensor t by resizing it, inplace, to zero elements with t.resize_(0).",
                UserWarning, stacklevel=5)
        out.resize_(result.shape)


def title(d: dtype) -> str:
    """PyTorch's C++ name of a dtype, as it stands in its messages."""
    return {"float32": "Float", "float64": "Double", "float16": "Half", "bfloat16": "BFloat16", "int64": "Long", "int32": "Int", "int16": "Short",
            "int8": "Char", "uint8": "Byte", "bool": "Bool"}[d.name]


def copy_into(dst: Any, src: Any) -> Signature:
    """Record ``dst[...] = src`` (broadcast, cast); no gradient."""
    op = OPS["_copy"].operation
    return record_into(op, (src._meta,), (), (src,), [], dst)


def check_inplace(op_name: str, t: Any, result_shape: Sequence[int], result: dtype, idempotent: bool = False) -> None:
    """The rules for writing into ``t``; ``idempotent``: storing an element twice does no harm."""
    m = t._meta
    if MODE.grad and t._node is not None:
        if isinstance(t._node, graph.Leaf):
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.\n"
                               f"{op_name}: a tensor created with requires_grad=True cannot be changed in place while gradients are recorded. "
                               "Use with torch.no_grad(): for updates, or an out-of-place operation (w = w - lr * w.grad).")
    if MODE.grad and t._base is not None and t._base._node is not None:
        if isinstance(t._base._node, graph.Leaf):
            raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place operation.\n"
                               f"{op_name}: use with torch.no_grad():, or clone() the tensor first.")
        if t._node is None and m.dtype.is_floating_point:
            raise RuntimeError("A view was created in no_grad mode and is being modified inplace with grad mode enabled. "
                               "Given that this use case is ambiguous and error-prone, it is forbidden.\n"
                               f"{op_name}: take the view and write to it both inside torch.no_grad(), or both outside.")
        if isinstance(t._node, graph.Output) and t._node.entry.__class__ is PartsEntry:
            raise RuntimeError(f"Output {t._node.index} of {t._node.entry.name.removesuffix('Backward0')} is a view and is being modified inplace. "
                               "This view is the output of a function that returns multiple views. "
                               "Such functions do not allow the output views to be modified inplace. "
                               f"You should replace the inplace operation by an out-of-place one.\n{op_name}: or take the part with narrow() or x[i] instead.")
    if m.shape != result_shape:
        raise RuntimeError(f"output with shape {list(m.shape)} doesn't match the broadcast shape {list(result_shape)}\n"
                           f"{op_name}: an in-place result must have the tensor's own shape {list(m.shape)}. Use the out-of-place form.")
    if not can_cast(result, m.dtype):
        raise RuntimeError(
            f"result type {title(result)} can't be cast to the desired output type {title(m.dtype)}\n"
            f"In-place {op_name} gives {result.name} values that cannot be stored in an {m.dtype.name} tensor. "
            f"Use the out-of-place form (x = x / 2), an integer one (x //= 2), or x.{'float' if result.name == 'float32' else 'to(...)'}() first.")
    if not idempotent and not m.contiguous and overlaps_itself(m):
        raise RuntimeError("unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
                           f"Please clone() the tensor before performing the operation.\n"
                           f"{op_name}: the tensor was made by expand(); its elements share memory.")


def inplace_call(op: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The in-place form: the first operand receives the result."""
    straight = None if kwargs else op.short_into.get(tuple(map(type, args)))
    if (straight is not None and straight(*args)) or _written_again(op, args, kwargs):
        return args[0]
    values, params = op.bind(args, kwargs)
    kinds, tensors, numbers = op.classify(values)
    t = values[0]
    result = op.signature(kinds, params)
    check_inplace(op.name + "_", t, result.outs[0].shape, result.outs[0].dtype)
    written = result
    differentiable = MODE.grad and result.grad is not None and any(x._node is not None for x in tensors)
    before = tensors
    if differentiable and 0 in result.grad.save:  # type: ignore[union-attr]
        # the gradient reads the value that is overwritten now
        before = [_Original(x) if x._buffer is t._buffer and x._meta is t._meta else x for x in tensors]
    if op.kind == "host" or result.checks:
        # what may fail is computed apart, so that a failure leaves the tensor as it was
        copy_into(t, record_fresh(result, tensors, scalars_of(op, result, params, numbers)))
    else:
        for x in tensors[1:]:
            if x._buffer is t._buffer and x._meta is not t._meta and partial_overlap(x._meta, t._meta):
                raise overlap_error(op.name + "_")
        stored = record_into(op, kinds, params, tensors, numbers, t)
        if stored.writes:               # not at a place that was given as a number
            written = stored
            key, _, _, settings, _ = _written_form(op, args, kwargs)
            # a number that is given at run time is not in the key, so it has to be found without binding the arguments
            if t._meta.device is not META and all(p == d for n, p, d in zip(op.params, params, op.default_params) if n in op.runtime and n not in settings):
                if key[0] is t._meta and all(k.__class__ is Meta or k.__class__ is type or by_value(k) for k in key):
                    op.into[tuple(key)] = written, params
    if differentiable:
        entry = written.grad if written is not result else op.grad_entry(kinds, params, t._meta)
        assert entry is not None
        n = attach(t, entry, before, tuple([x._node for x in before]), params, tuple(numbers))
        if before is not tensors:
            n.watched = True
        rebase(t, n)
    return t


def _written_form(op: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], list[Buffer], list[Any], dict[str, Any], bool]:
    """What tells an in-place call from others, the buffers and numbers of its operands, the run-time numbers among its other arguments, and whether
    no graph or version of its own has a part in it."""
    grad = MODE.grad
    plain = True
    key: list[Any] = []
    buffers: list[Buffer] = []
    numbers: list[Any] = []
    settings: dict[str, Any] = {}
    for v, operand in zip(args, op.takes):
        c = v.__class__
        if c in _TENSORS:
            if (grad and v._node is not None) or v._own_version is not None:
                plain = False
            key.append(v._meta)
            buffers.append(v._buffer)
        elif operand and c in NUMBERS:
            key.append(c)
            numbers.append(v)
        else:
            key += c, v
    for k, v in kwargs.items():
        if k in op.runtime and v.__class__ in NUMBERS:
            key += k, v.__class__
            settings[k] = v
        else:
            key += k, v.__class__, v
    return key, buffers, numbers, settings, plain


def _written_again(op: Operation, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Record an in-place call of plain tensors and numbers like one that was checked before; False where it is none."""
    key, buffers, numbers, settings, plain = _written_form(op, args, kwargs)
    if not plain:
        return False
    try:
        sig, params = op.into[tuple(key)]
    except (KeyError, TypeError):
        return False
    base, b = args[0]._base, buffers[0]
    if b.inference or (base is not None and (base._own_version is not None or (MODE.grad and base._node is not None))) or any(x is b for x in buffers[1:]):
        return False
    classes = tuple(map(type, args))
    if not kwargs and classes not in op.short_into:
        op.short_into[classes] = straight_into("".join(
            ["t" if v.__class__ in _TENSORS else "n" if operand and v.__class__ in NUMBERS else "v" for v, operand in zip(args, op.takes)]))(op)
    if settings:
        params = tuple([settings.get(n, p) for n, p in zip(op.params, params)])
    buffers.append(b)
    stream.append(sig, buffers, scalars_of(op, sig, params, numbers) if sig.scalars else ())
    return True


class _Original:
    """What a tensor held before its own in-place call: an operand to save."""

    __slots__ = ("_buffer", "_meta", "_node")

    def __init__(self, t: Any) -> None:
        self._meta, self._node = t._meta, t._node
        self._buffer = Packed(OPS["clone"](t.detach()), None)


def overlap_error(name: str) -> RuntimeError:
    """The error for an operand that shares some, not all, of its elements with the tensor that is written."""
    return RuntimeError("unsupported operation: some elements of the input tensor and the written-to tensor refer to a single memory location. "
                        f"Please clone() the tensor before performing the operation.\n{name}: use the operand's clone().")


def partial_overlap(a: Meta, b: Meta) -> bool:
    """Whether two layouts of one buffer surely or possibly share elements without being the same."""
    from ..core.shape import span

    if a is b or (a.shape == b.shape and a.strides == b.strides and a.offset == b.offset and a.dtype is b.dtype):
        return False
    (l0, h0), (l1, h1) = span(a), span(b)
    if h0 < l1 or h1 < l0:
        return False
    # two strided combs with one common step that never meet, such as x[::2] and x[1::2] or two columns
    steps = {t for m in (a, b) for s, t in zip(m.shape, m.strides, strict=True) if s > 1}
    if not steps:
        return a.offset == b.offset
    from math import gcd

    g = 0
    for t in steps:
        g = gcd(g, t)
    if (a.offset - b.offset) % g:
        return False
    row = max(steps)
    if all(_width(m, row) <= row for m in (a, b)) and _columns_apart(a, b, row):
        return False
    return True


def _width(m: Meta, row: int) -> int:
    return 1 + sum((s - 1) * t for s, t in zip(m.shape, m.strides, strict=True) if t < row)


def _columns_apart(a: Meta, b: Meta, row: int) -> bool:
    ca, cb = a.offset % row, b.offset % row
    return ca + _width(a, row) <= cb or cb + _width(b, row) <= ca


rebase: Callable[[Any, Node], None] = lambda t, n: None     # set by autograd.inplace


def _unary_call(op: Operation) -> Callable[..., Any]:
    fast, known = op.fast, op.known
    runtime = bool(op.runtime)

    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            if runtime:
                return general(op, (input, *args), kwargs)
            try:
                sig, params = known[input._meta, args, tuple(kwargs.items())]
            except (KeyError, AttributeError, TypeError):
                return _remember(op, input, args, kwargs)
        else:
            try:
                sig = fast[input._meta]
            except (KeyError, AttributeError):
                return general(op, (input,), {})
            params = op.default_params
        shared = other_threads()
        if shared:
            acquire()
        try:
            b = input._buffer
            if UNUSUAL:
                look((b,))
            c = Buffer()
            c.ptr = 0
            CALLS.append(sig)
            OPERANDS.extend((b, c))
            t = _new(Tensor)
            t._meta = sig.out
            t._buffer = c
            t._node = t._base = None
            if sig.large:
                count_bytes(sig.large)
            if len(OPERANDS) >= LIMIT[0]:
                stream.after_record()
        finally:
            if shared:
                release()
        n = input._node
        if n is not None and sig.grad is not None and MODE.grad:
            t._node = attach(t, sig.grad, (input,), (n,), params, ())
        return t

    return call


def _remember(op: Operation, input: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A call with static parameters that was not seen before: made, and found at once the next time."""
    plain = "out" not in kwargs and all(by_value(v) for v in (*args, *kwargs.values()))
    key = (getattr(input, "_meta", None), args, tuple(kwargs.items()))
    result = general(op, (input, *args), kwargs)
    if plain:
        values, params = op.bind((input, *args), dict(key[2]))
        sig = op.signature(op.classify(values)[0], params)
        if sig.outs[0].device is not META and not sig.checks and not sig.scalars:
            op.known[key] = sig, params
    return result


def by_value(v: Any) -> bool:
    """Whether an argument may be part of a key that is kept: it is immutable and holds on to no tensor."""
    return all(by_value(x) for x in v) if isinstance(v, tuple) else v.__class__ in _HASHABLE


def _operands_call(op: Operation) -> Callable[..., Any]:
    fast, count = op.fast, len(op.operands)

    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            return general(op, args, kwargs)
        kinds: list[Any] = []
        tensors: list[Any] = []
        buffers: list[Any] = []
        numbers: list[Any] = []
        wanted = False
        for v in args:
            c = v.__class__
            if c in _TENSORS:
                kinds.append(v._meta)
                tensors.append(v)
                buffers.append(v._buffer)
                if v._node is not None and v._meta.dtype.is_floating_point:
                    wanted = True
            elif c in NUMBERS:
                kinds.append(c)
                numbers.append(v)
            elif v is None:
                kinds.append(None)
            else:
                return general(op, args, kwargs)
        if len(kinds) < count:
            kinds += [None] * (count - len(kinds))      # operands left out, which the table knows only where that is allowed
        sig = fast.get(tuple(kinds))
        if sig is None:
            return general(op, args, kwargs)
        params = op.default_params
        t = _new(Tensor)
        t._meta = sig.out
        t._buffer, = stream.append(sig, buffers, scalars_of(op, sig, params, numbers) if numbers else ())
        t._base = None
        if wanted and sig.grad is not None and MODE.grad:
            t._node = attach(t, sig.grad, tensors, tuple([v._node for v in tensors]), params, tuple(numbers))
        else:
            t._node = None
        return t

    return call


def _binary_call(op: Operation) -> Callable[..., Any]:
    fast, short = op.fast, op.short

    def call(input: Any, other: Any = _MISSING, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs:
            straight = None if kwargs else short.get(2 + len(args))
            if straight is not None:
                return straight(input, other, *args)
            return general(op, (input, *args) if other is _MISSING else (input, other, *args), kwargs)
        m = other.__class__
        number = m is float or m is int
        try:
            if not number:
                m = other._meta
            sig = fast[input._meta, m]
        except (KeyError, AttributeError):
            return general(op, (input,) if other is _MISSING else (input, other), {})
        shared = other_threads()
        if shared:
            acquire()
        try:
            c = Buffer()
            c.ptr = 0
            if number:
                if sig.scalars == "q" and not -0x8000000000000000 <= other <= 0x7FFFFFFFFFFFFFFF:
                    return general(op, (input, other), {})
                operands: tuple[Buffer, ...] = (input._buffer, c)
                if UNUSUAL:
                    look(operands[:1])
                SCALARS.append(other)
            else:
                operands = input._buffer, other._buffer, c
                if UNUSUAL:
                    look(operands[:2])
            CALLS.append(sig)
            OPERANDS.extend(operands)
            t = _new(Tensor)
            t._meta = sig.out
            t._buffer = c
            t._node = t._base = None
            if sig.large:
                count_bytes(sig.large)
            if len(OPERANDS) >= LIMIT[0]:
                stream.after_record()
        finally:
            if shared:
                release()
        n = input._node
        if number:
            if n is not None and sig.grad is not None and MODE.grad:
                t._node = attach(t, sig.grad, (input,), (n,), op.default_params, (other,))
        else:
            k = other._node
            if (n is not None or k is not None) and sig.grad is not None and MODE.grad:
                t._node = attach(t, sig.grad, (input, other), (n, k), op.default_params, ())
        return t

    return call


def _any_call(op: Operation) -> Callable[..., Any]:
    short = op.short

    def call(*args: Any, **kwargs: Any) -> Any:
        straight = None if kwargs else short.get(len(args))
        return general(op, args, kwargs) if straight is None else straight(*args)

    return call


@functools.cache
def straight(kinds: str) -> Callable[[Operation], Callable[..., Any]]:
    """How calls with arguments of these kinds (``t``: a tensor, ``f``: a float, ``v``: another value) are made without a loop.

    That of :func:`general` over the arguments costs more than all the rest: here everything is written out as source text and compiled, once
    per sequence of kinds.  Whatever is not plain goes the long way.
    """
    x, key, each = _written_out(kinds)
    return _compiled(f"""
def made(op):
    known = op.again
    def call({x}):
        try:
            sig, params, order, numbers, scalars = known[({key})]
            {each("n# = x#._node; b# = x#._buffer; ")}
        except (KeyError, AttributeError, TypeError):
            return general(op, ({x},), {{}})
        if order is not None or sig.out.device is META or len(sig.outs) > 1 or other_threads():
            return general(op, ({x},), {{}})
        if UNUSUAL:
            look(({each("b#, ")}))
        b = stream.Buffer()         # inference mode has one of its own
        b.ptr = 0
        if sig.checks:
            ORIGINS.append((len(CALLS), user_frame()))
        CALLS.append(sig)
        OPERANDS.extend(({each("b#, ")}b))
        if scalars:
            SCALARS.extend(scalars)
        t = new(Tensor)
        t._meta = sig.out
        t._buffer = b
        t._node = t._base = None
        if sig.large:
            count_bytes(sig.large)
        if len(OPERANDS) >= LIMIT[0]:
            stream.after_record()
        if ({each("n# is not None or ")}False) and sig.grad is not None and MODE.grad:
            for x, n in ({each("(x#, n#), ")}):
                if n is not None:
                    if x._meta.dtype.is_floating_point:
                        t._node = attach(t, sig.grad, ({each("x#, ")}), ({each("n#, ")}), params, numbers)
                    break
        return t
    return call
""", f"an operation on {kinds}")


@functools.cache
def straight_into(kinds: str) -> Callable[[Operation], Callable[..., bool]]:
    """The same for in-place calls (``n``: a number that is an operand); False where :func:`inplace_call` has to look at one."""
    x, key, each = _written_out(kinds)
    numbers = "".join([f"x{i}, " for i, k in enumerate(kinds) if k == "n"])
    return _compiled(f"""
def made(op):
    known = op.into
    def call({x}):
        try:
            sig, params = known[({key})]
            {each("b# = x#._buffer; ")}
            if MODE.grad and ({each("x#._node is not None or ")}False) {each("or x#._own_version is not None ")}:
                return False
        except (KeyError, AttributeError, TypeError):
            return False
        base = x0._base
        if base is not None and (base._own_version is not None or (MODE.grad and base._node is not None)):
            return False
        if b0.inference or {each("b# is b0 or ").replace("b0 is b0 or ", "")} other_threads():
            return False
        if UNUSUAL:
            look(({each("b#, ")}))
        scalars = ({numbers}) if sig.scalars == "{"d" * kinds.count("n")}" else scalars_of(op, sig, params, [{numbers}])
        CALLS.append(sig)
        OPERANDS.extend(({each("b#, ")}b0))
        if scalars:
            SCALARS.extend(scalars)
        b0.wrote = STATE.written = tick()
        b0.versions += 1
        if len(OPERANDS) >= LIMIT[0]:
            stream.after_record()
        return True
    return call
""", f"an operation on {kinds} in place")


def _written_out(kinds: str) -> tuple[str, str, Callable[[str], str]]:
    """For source text: the arguments, their key, and a function that repeats a text for the numbers of the tensors."""
    def each(text: str) -> str:
        return "".join([text.replace("#", str(i)) for i, k in enumerate(kinds) if k == "t"])

    forms = {"t": "x#._meta, ", "n": "x#.__class__, ", "f": "x#.__class__, x# or str(x#), ", "v": "x#.__class__, x#, "}
    return ", ".join([f"x{i}" for i in range(len(kinds))]), "".join([forms[k].replace("#", str(i)) for i, k in enumerate(kinds)]), each


def _compiled(source: str, title: str) -> Any:
    names = {"MODE": MODE, "UNUSUAL": UNUSUAL, "META": META, "STATE": STATE, "CALLS": CALLS, "OPERANDS": OPERANDS, "SCALARS": SCALARS, "ORIGINS": ORIGINS,
             "LIMIT": LIMIT, "Tensor": Tensor, "new": _new, "tick": tick, "stream": stream, "look": look, "other_threads": other_threads,
             "user_frame": user_frame, "count_bytes": count_bytes, "attach": attach, "general": general,
             "scalars_of": scalars_of}
    exec(compile(source, f"<{title}>", "exec"), names)
    stream.package_globals(names)
    return names["made"]


_MISSING: Any = object()


def count_bytes(n: int) -> None:
    """Count large pending results; past the limit the stream flushes after this call."""
    from ..core import config

    STATE.bytes += n
    if STATE.bytes > config.pending_bytes:
        LIMIT[0] = 0


def _publish(op: Operation) -> Callable[..., Any]:
    """The function users call, registered under the operation's name."""
    if op.kind in ("pointwise", "compute") and len(op.operands) == 1 and len(op.defaults) == len(op.params):
        call = _unary_call(op)
    elif op.kind in ("pointwise", "compute") and len(op.operands) == 2 and op.positional[:2] == op.operands:
        call = _binary_call(op)
    elif op.kind in ("pointwise", "compute") and op.positional == op.operands:
        call = _operands_call(op)
    else:
        call = _any_call(op)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = op.fn.__doc__
    call.__module__ = op.fn.__module__
    call.operation = op  # type: ignore[attr-defined]
    call.backward = op.backward  # type: ignore[attr-defined]
    op.public = call
    OPS[op.name] = call
    return call


def pointwise(fn: Callable[..., Any] | None = None, **how: Any) -> Any:
    """Define an elementwise operation: ``fn`` takes and returns scalar expressions.

    ``dtype``: "promote" (default), "float" (integers become the default type), "bool" (comparisons), or a function
    ``(promoted, kinds, params) -> (operand dtype, result dtype)``.  ``raw``: operands that take no part in promotion.
    ``numbers``: operands that may be Python numbers (default: all but the first; True: all).  ``node``: PyTorch's name of the graph node without ``Backward0``.
    """
    return _publish(Operation(fn, "pointwise", **how)) if fn is not None else lambda f: _publish(Operation(f, "pointwise", **how))


def compute(fn: Callable[..., Any] | None = None, **how: Any) -> Any:
    """Define an operation by a formula over index variables (see ``ops/formula.py``)."""
    return _publish(Operation(fn, "compute", **how)) if fn is not None else lambda f: _publish(Operation(f, "compute", **how))


def host(outs: Callable[..., Any], **how: Any) -> Any:
    """Define an operation by a library routine ``fn(arrays in, arrays out, scalars, **params)``.

    ``outs(kinds..., **params)`` gives the metadata of the results.  ``like``: a function with the public signature.
    """
    def wrap(fn: Callable[..., Any]) -> Any:
        like = how.pop("like", None)
        op = Operation(like or fn, "host", outs=outs, run=fn, **how)
        return _publish(op)
    return wrap


# ------------------------------------------------------------------ views


def view(fn: Callable[..., Any] | None = None, **how: Any) -> Any:
    """Define a view: ``fn(meta, ...)`` gives the metadata of the result, which shares the operand's buffer."""
    return _publish_view(Operation(fn, "view", **how)) if fn is not None else lambda f: _publish_view(Operation(f, "view", **how))


class ViewEntry(GradEntry):
    """The gradient of a view."""

    __slots__ = ()


def _publish_view(op: Operation) -> Callable[..., Any]:
    fn = op.fn
    operand = op.operands[0]

    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs:
            if operand in kwargs:
                raise TypeError(f"{op.name}() got multiple values for argument '{operand}'")
            values, params = op.bind((input, *args), kwargs)
            args = params
        try:
            m = input._meta
            known = m.views.get((op, args))
        except (AttributeError, TypeError):
            known = None
            if not isinstance(input, Tensor):
                raise TypeError(f"{op.name}(): argument 'input' (position 1) must be Tensor, not {type_name(input)}") from None
            args = tuple(_static(a) for a in args)
            m = input._meta
            known = m.views.get((op, args))
        if known is None:
            _, params = op.bind((input, *args), {})
            made = fn(m, *params)
            entry = op.grad_entry((m,), params, made)
            known = made, entry, (params, ())
            remember(m.views, (op, args), known)
        return alias(input, *known)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = fn.__doc__
    call.operation = op  # type: ignore[attr-defined]
    call.backward = op.backward  # type: ignore[attr-defined]
    op.public = call
    OPS[op.name] = call
    return call


def remember(views: dict[Any, Any], key: Any, known: Any) -> None:
    """Keep what is known of a view with the metadata of its operand; of ever new ones not all."""
    if len(views) > 20_000:
        views.clear()
    views[key] = known


def alias(input: Any, m: Meta, entry: Any, params: Any) -> Any:
    """A view of ``input`` with metadata ``m``."""
    t = _new(Tensor)
    b = input._buffer
    base = input._base
    t._meta, t._buffer, t._base = m, b, input if base is None else base
    if MODE.grad:
        n = input._node
        t._node = graph.node(entry, (n,), (), params) if n is not None and entry is not None else None
        views = b.views
        if views is None:
            b.views = [_weak(t)]
        else:
            if len(views) > 64 and len(views) & (len(views) - 1) == 0:
                views[:] = [w for w in views if w() is not None]
            views.append(_weak(t))
    else:
        t._node = None
    return t


def _note_views(b: Buffer, made: Sequence[Any]) -> None:
    """Let writes to the buffer find these views of it."""
    views = b.views
    if views is None:
        b.views = views = []
    before = len(views)
    views.extend(map(_weak, made))
    if len(views) > 64 and before.bit_length() != len(views).bit_length():      # as many as before have come
        views[:] = [w for w in views if w() is not None]


class PartsEntry:
    """A call that gives several views: their metadata, and its gradient: one node for all of them.

    ``join`` makes the operand's gradient of those of the parts.
    """

    __slots__ = ("join", "metas", "name", "passes")

    def __init__(self, name: str, metas: Sequence[Meta], join: Callable[[list[Any]], Any]) -> None:
        self.passes = Passes()
        self.name, self.metas, self.join = name + "Backward0", tuple(metas), join

    def run(self, node: Node, g: Any) -> list[Any]:
        """The gradient of the operand; parts that were not used count as zeros."""
        grads = list(g) if g.__class__ is list else [g]
        for i, m in enumerate(self.metas):
            if grads[i] is None:
                grads[i] = OPS["zeros"](m.shape, dtype=m.dtype, device=m.device)
        return [self.join(grads)]


def parts(input: Any, entry: PartsEntry) -> tuple[Any, ...]:
    """The views of ``input`` that are the results of such a call."""
    b, base, n = input._buffer, input._base, input._node
    if base is None:
        base = input
    made = []
    for m in entry.metas:
        t = _new(Tensor)
        t._meta, t._buffer, t._base, t._node = m, b, base, None
        made.append(t)
    if MODE.grad:
        _note_views(b, made)
        if n is not None and made:
            for t, o in zip(made, graph.outputs_of(graph.node(entry, (n,), ()), len(made)), strict=True):
                t._node = o
    return tuple(made)


class ViewOf(NamedTuple):
    """A view as the operation that makes it, and its arguments."""

    view: Any
    arguments: tuple[Any, ...]


def by_metadata(fn: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose result is a view that follows from the metadata of its first argument, and the other arguments: worked out once.

    ``fn`` gives a :class:`ViewOf` or a :class:`PartsEntry`; anything else is the result itself.
    """
    @functools.wraps(fn)
    def call(input: Any, *args: Any, **kwargs: Any) -> Any:
        key = (call, args, *kwargs.items()) if kwargs else (call, args)
        try:
            known = input._meta.views[key]
            if float in map(type, args):        # equals an int, and is none
                raise KeyError
        except (KeyError, AttributeError, TypeError) as error:
            if error.__class__ is TypeError and list in map(type, args):
                return call(input, *[tuple(a) if a.__class__ is list else a for a in args], **kwargs)
            known = fn(input, *args, **kwargs)
            if known.__class__ is ViewOf:
                view, how = known
                view(input, *how)
                known = input._meta.views[view.operation, how]
            elif known.__class__ is PartsEntry:
                known = input._meta.views.setdefault((known.name, known.metas), known)     # one for all ways to write it
            else:
                return known
            if all(by_value(v) for v in (*args, *kwargs.values())):
                remember(input._meta.views, key, known)
        return alias(input, *known) if known.__class__ is tuple else parts(input, known)

    return call


from weakref import ref as _weak  # noqa: E402

__all__ = ["OPS", "Operation", "compute", "host", "pointwise", "view"]
