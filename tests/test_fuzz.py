"""Random programs with views, in-place writes, aliasing, shared memory and dropped names give the same values every way they can be run.

Lazy and fused, one call at a time, by the reference interpreter, and by NumPy: all must agree; the last is the oracle.  A second
test differentiates random programs and compares the ways with each other (and with PyTorch where it is installed).
``FLAMBEAU_FUZZ=5000`` runs that many programs.
"""

import contextlib
import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import flambeau
from flambeau.stream import cache, flush

EXAMPLES = int(os.environ.get("FLAMBEAU_FUZZ", "60"))
LIMIT = 50.0                    # values stay below, so that tolerances mean something
SHAPES = [(), (1,), (5,), (2, 3), (3, 1), (4, 4), (2, 3, 4), (1, 3, 2), (17,), (3, 40), (0, 3)]
DTYPES = ["float64", "float64", "float64", "float32", "int64", "bool"]


@contextlib.contextmanager
def renderer(reference):
    """Plans are made for the reference interpreter inside the block."""
    with contextlib.suppress(IndexError):
        flush.flush()
    kept, before = flush.exchange(flush.Plans()), cache._reference
    cache._reference = reference or before
    try:
        yield
        with contextlib.suppress(IndexError):       # of a read that nobody looked at
            flush.flush()
    finally:
        flush.exchange(kept)
        cache._reference = before


@contextlib.contextmanager
def lazy():
    yield


@contextlib.contextmanager
def eager():
    with contextlib.suppress(IndexError):
        flush.flush()
    with flambeau.eager():
        yield


WAYS = {"lazy": lazy, "eager": eager, "reference": lambda: renderer(True)}


class Skip(Exception):
    """The instruction does not fit the operands: nothing happens, in any library."""


def need(condition):
    if not condition:
        raise Skip


class Value:
    """A tensor, and the array that NumPy computed for the same name."""

    def __init__(self, t, a, shared=None):
        self.t, self.a, self.shared = t, a, shared


def floating(v):
    return v.a.dtype.kind == "f"


def bounded(a):
    need(a.dtype.kind != "f" or a.size == 0 or (np.isfinite(a).all() and np.abs(a).max() < LIMIT))
    need(a.dtype.kind != "i" or a.size == 0 or np.abs(a).max() < 10_000)
    return a


def axis(v, k):
    need(v.a.ndim)
    return k % v.a.ndim


class Machine:
    """Runs a program with a library (Flambeau or PyTorch) and NumPy side by side."""

    def __init__(self, lib, differentiate=False):
        self.lib, self.values, self.differentiate, self.leaves, self.log = lib, [], differentiate, [], []
        self.rough = False              # something was rounded to float32

    def pick(self, k, kinds="fib"):
        fits = [v for v in self.values if v.a.dtype.kind in kinds]
        need(fits)
        return fits[k % len(fits)]

    def dtype(self, a):
        return getattr(self.lib, {"float64": "float64", "float32": "float32", "int64": "int64", "bool": "bool"}[a.dtype.name])

    def add(self, t, a):
        a = bounded(np.asarray(a))
        self.rough |= a.dtype == np.float32
        assert tuple(t.shape) == a.shape, (t.shape, a.shape)
        assert str(t.dtype).rpartition(".")[2] == a.dtype.name, (t.dtype, a.dtype)
        self.values.append(Value(t, a))
        del self.values[:-14]

    def need_smooth(self, distances):
        """Gradients that jump where two values meet are compared only where rounding cannot decide."""
        need(not self.differentiate or distances is None or not distances.size or np.abs(distances).min() > 1e-4)

    # ---- instructions: (self, i, j, k) with arbitrary numbers

    def new(self, i, j, k):
        shape, name = SHAPES[i % len(SHAPES)], DTYPES[j % len(DTYPES)]
        n = int(np.prod(shape))
        a = ((np.arange(n) * 37 + k * 11) % 23 - 11).reshape(shape)
        a = (a > 0) if name == "bool" else a.astype(name) if name == "int64" else (a * 0.17 + 0.03).astype(name)
        t = self.lib.tensor(a.tolist(), dtype=self.dtype(a)).reshape(shape)
        if self.differentiate and name.startswith("float") and k % 2:
            t.requires_grad_()
            self.leaves.append(t)
            t = t * 1
        self.add(t, a)

    def share(self, i, j, k):
        need(not self.differentiate)
        a = (np.arange(12, dtype=np.float64) * 0.25 - k % 5).reshape(3, 4)
        mine = a.copy()
        self.values.append(Value(self.lib.from_numpy(mine), a, mine))

    def write_shared(self, i, j, k):
        fits = [v for v in self.values if v.shared is not None]
        need(fits)
        v = fits[i % len(fits)]
        need(v.a.ndim and v.a.shape[0] and self.unique(v.a))
        v.shared[j % v.a.shape[0]] = k % 7
        v.a[j % v.a.shape[0]] = k % 7

    def expose(self, i, j, k):
        need(not self.differentiate)
        v = self.pick(i)
        need(v.a.size and v.a.flags.writeable)
        v.shared = v.t.numpy()
        assert_equal(v.shared, v.a, self.rough)
        if v.a.ndim and v.a.dtype.kind != "b" and self.unique(v.a):
            v.shared[0] = k % 5
            v.a[0] = k % 5
        if k % 3:
            v.shared = None

    def unary(self, i, j, k):
        v = self.pick(i, "f")
        table = [("tanh", np.tanh), ("exp", np.exp), ("sin", np.sin), ("neg", np.negative), ("abs", np.abs),
                 ("sigmoid", lambda a: (1 / (1 + np.exp(-a))).astype(a.dtype)),
                 ("relu", lambda a: np.maximum(a, 0).astype(a.dtype)), ("square", np.square)]
        name, f = table[j % len(table)]
        self.need_smooth(v.a if name in ("abs", "relu") else None)
        a = bounded(f(v.a))
        self.add(getattr(self.lib, name)(v.t), a)

    def binary(self, i, j, k):
        v, w = self.pick(i, "f"), self.pick(j, "f")
        table = [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("maximum", np.maximum), ("minimum", np.minimum)]
        name, f = table[k % len(table)]
        try:
            a = f(v.a, w.a)
        except ValueError:
            raise Skip from None
        need(v.a.ndim or not w.a.ndim or v.a.dtype == w.a.dtype)        # 0-d operands promote differently
        need(w.a.ndim or not v.a.ndim or v.a.dtype == w.a.dtype)
        self.need_smooth(v.a - w.a if name in ("maximum", "minimum") and v is not w else None)
        self.add(getattr(self.lib, name)(v.t, w.t), bounded(a))

    def integers(self, i, j, k):
        v, w = self.pick(i, "i"), self.pick(j, "i")
        try:
            a = [np.add, np.multiply, np.subtract, np.bitwise_xor][k % 4](v.a, w.a)
        except ValueError:
            raise Skip from None
        self.add([self.lib.add, self.lib.mul, self.lib.sub, self.lib.bitwise_xor][k % 4](v.t, w.t), bounded(a))

    def number(self, i, j, k):
        v = self.pick(i, "f")
        c = (j % 9) * 0.5 - 1.75
        self.need_smooth(np.abs(v.a) - abs(c) if k % 4 == 3 else None)
        a, t = [(v.a + c, lambda: v.t + c), (v.a * c, lambda: v.t * c), (c - v.a, lambda: c - v.t),
                (np.clip(v.a, -abs(c), abs(c)), lambda: v.t.clamp(-abs(c), abs(c)))][k % 4]
        self.add(t() if (bounded(a) is a) else None, a.astype(v.a.dtype))

    def compare(self, i, j, k):
        v = self.pick(i, "f")
        c = j % 5 - 2 + 0.1234567
        self.add(v.t > c if k % 2 else v.t < c, v.a > c if k % 2 else v.a < c)

    def cast(self, i, j, k):
        v = self.pick(i)
        to = ["float64", "float32", "int64"][j % 3]
        need(to != v.a.dtype.name and (to != "int64" or v.a.dtype.kind in "ib"))
        a = v.a.astype(to)
        self.add(v.t.to(self.dtype(a)), a)

    def where(self, i, j, k):
        c, v, w = self.pick(i, "b"), self.pick(j, "f"), self.pick(k, "f")
        need(v.a.dtype == w.a.dtype)
        try:
            a = np.where(c.a, v.a, w.a)
        except ValueError:
            raise Skip from None
        self.add(self.lib.where(c.t, v.t, w.t), a)

    def reduce(self, i, j, k):
        v = self.pick(i, "f")
        need(v.a.size)
        dims = None if k % 3 == 0 else axis(v, k)
        keep = bool(j & 1) and dims is not None
        table = [("sum", np.sum, {}), ("mean", np.mean, {}), ("amax", np.max, {}), ("amin", np.min, {}), ("var", np.var, {"ddof": 0}), ("logsumexp", None, {})]
        name, f, more = table[j % len(table)]
        if name in ("amax", "amin"):
            self.need_smooth(np.diff(np.sort(v.a, None)))
        if name == "logsumexp":
            need(dims is not None)
            top = v.a.max(dims, keepdims=True)
            a = np.log(np.exp(v.a - top).sum(dims, keepdims=True)) + top
            a = a if keep else a.squeeze(dims)
        else:
            a = f(v.a, axis=dims, keepdims=keep, **more)
        a = np.asarray(a).astype(v.a.dtype)
        options = {"correction": 0} if name == "var" else {}
        if dims is None:
            t = getattr(v.t, name)(**options) if name in ("sum", "mean", "var") else getattr(v.t, name)(tuple(range(v.a.ndim)))
        else:
            t = getattr(v.t, name)(dims, keepdim=keep, **options)
        self.add(t, a)

    def integer_reduce(self, i, j, k):
        v = self.pick(i, "ib")
        need(v.a.ndim and v.a.size)
        d = axis(v, k)
        if j % 3 == 0:
            self.add(v.t.sum(d), v.a.sum(d))
        elif j % 3 == 1:
            self.add(v.t.any(d), v.a.any(d))
        else:
            need(v.a.dtype.kind == "i")
            self.add(v.t.argmax(d), v.a.argmax(d))

    def scan(self, i, j, k):
        v = self.pick(i, "fi")
        d = axis(v, k)
        self.add(v.t.cumsum(d), bounded(np.cumsum(v.a, d, dtype=v.a.dtype)))

    def composite(self, i, j, k):
        v = self.pick(i, "f")
        d = axis(v, -1)
        need(v.a.size)
        e = np.exp(v.a - v.a.max(d, keepdims=True))
        soft = e / e.sum(d, keepdims=True)
        if j % 3 == 0:
            self.add(self.lib.softmax(v.t, d), soft)
        elif j % 3 == 1:
            self.add(self.lib.log_softmax(v.t, d), np.log(soft))
        else:
            n = v.a.shape[-1]
            a = (v.a - v.a.mean(-1, keepdims=True)) / np.sqrt(v.a.var(-1, keepdims=True) + 0.125)
            self.add(self.lib.nn.functional.layer_norm(v.t, (n,), eps=0.125), a.astype(v.a.dtype))

    def matmul(self, i, j, k):
        v, w = self.pick(i, "f"), self.pick(j, "f")
        need(v.a.dtype == w.a.dtype and v.a.ndim and w.a.ndim)
        b, c = (w.t.T, w.a.T) if k % 2 and w.a.ndim == 2 else (w.t, w.a)
        try:
            a = np.matmul(v.a, c)
        except ValueError:
            raise Skip from None
        self.add(self.lib.matmul(v.t, b), bounded(np.asarray(a)))

    def gather(self, i, j, k):
        v = self.pick(i, "fi")
        d = axis(v, k)
        need(v.a.shape[d])
        index = (np.arange(j % 4 + 1) * 3 + k) % v.a.shape[d]
        self.add(self.lib.index_select(v.t, d, self.lib.tensor(index.tolist())), np.take(v.a, index, d))

    def join(self, i, j, k):
        v, w = self.pick(i, "f"), self.pick(j, "f")
        need(v.a.dtype == w.a.dtype and v.a.shape == w.a.shape)
        if k % 2 or not v.a.ndim:
            self.add(self.lib.stack([v.t, w.t]), np.stack([v.a, w.a]))
        else:
            self.add(self.lib.cat([v.t, w.t, v.t], axis(v, k)), np.concatenate([v.a, w.a, v.a], axis(v, k)))

    # ---- views

    def view(self, i, j, k):
        v = self.pick(i)
        a = v.a
        kind = j % 8
        if kind == 0:
            self.view_of(v, v.t.permute(*range(a.ndim)[::-1]) if a.ndim else v.t.view(()), a.T)
        elif kind == 1:
            d = axis(v, k)
            need(a.shape[d] > 1)
            index = (slice(None),) * d + (slice(k % 2, None, 1 + k % 3),)
            self.view_of(v, v.t[index], a[index])
        elif kind == 2:
            d = axis(v, k)
            need(a.shape[d])
            index = (*(slice(None),) * d, k % a.shape[d], ...)        # with an ellipsis NumPy gives a view, not a number
            self.view_of(v, v.t[index], a[index])
        elif kind == 3:
            need(a.flags.c_contiguous and a.size)
            self.view_of(v, v.t.view(-1), a.reshape(-1))
        elif kind == 4:
            d = k % (a.ndim + 1)
            self.view_of(v, v.t.unsqueeze(d), np.expand_dims(a, d))
        elif kind == 5:
            need(a.ndim >= 2)
            self.view_of(v, v.t.diagonal(), np.diagonal(a), a)
        elif kind == 6:
            need(a.size and a.size <= 24)
            self.view_of(v, v.t.expand(2, *a.shape), np.broadcast_to(a, (2, *a.shape)))
        else:
            self.values.append(Value(v.t, a, v.shared))             # another name

    def view_of(self, v, t, a, base=None):
        if base is not None and base.flags.writeable:
            a.flags.writeable = True
        assert tuple(t.shape) == a.shape
        self.values.append(Value(t, a))
        del self.values[:-14]

    def copy(self, i, j, k):
        v = self.pick(i)
        a = v.a.copy()
        self.add(v.t.clone() if k % 2 else v.t.contiguous().clone(), a)

    # ---- writes

    @staticmethod
    def unique(a):
        """No two elements in one place."""
        return a.flags.writeable and all(s != 0 or n < 2 for s, n in zip(a.strides, a.shape, strict=True))

    def target(self, i, kinds="f"):
        v = self.pick(i, kinds)
        need(self.unique(v.a))
        return v

    def write_number(self, i, j, k):
        v = self.target(i)
        c = (j % 7) * 0.5 - 1.25
        new = [v.a + c, v.a * c, np.full_like(v.a, c), np.zeros_like(v.a)][k % 4]
        bounded(new)
        [lambda: v.t.add_(c), lambda: v.t.mul_(c), lambda: v.t.fill_(c), lambda: v.t.zero_()][k % 4]()
        v.a[...] = new

    def write_function(self, i, j, k):
        v = self.target(i)
        name, f = [("tanh_", np.tanh), ("neg_", np.negative), ("exp_", np.exp), ("sigmoid_", lambda a: 1 / (1 + np.exp(-a)))][j % 4]
        new = bounded(f(v.a).astype(v.a.dtype))
        getattr(v.t, name)()
        v.a[...] = new

    def write_tensor(self, i, j, k):
        v, w = self.target(i), self.pick(j, "f")
        need(v.a.dtype == w.a.dtype)
        need(not np.may_share_memory(v.a, w.a) or v.a is w.a)
        try:
            need(np.broadcast_shapes(v.a.shape, w.a.shape) == v.a.shape)
        except ValueError:
            raise Skip from None
        name, f = [("add_", np.add), ("mul_", np.multiply), ("sub_", np.subtract), ("copy_", lambda a, b: np.broadcast_to(b, a.shape).copy())][k % 4]
        new = bounded(f(v.a, w.a))
        getattr(v.t, name)(w.t)
        v.a[...] = new

    def write_part(self, i, j, k):
        v = self.target(i)
        d = axis(v, k)
        need(v.a.shape[d])
        index = (slice(None),) * d + ((k % v.a.shape[d]) if j % 2 else slice(0, v.a.shape[d] // 2 + 1),)
        c = j % 5 - 1.5
        if k % 3 == 0:
            v.t[index] = c
            v.a[index] = c
        else:
            bounded(v.a[index] + c)
            v.t[index] += c
            v.a[index] += c

    def write_masked(self, i, j, k):
        v, m = self.target(i), self.pick(j, "b")
        need(v.a.shape == m.a.shape)
        v.t[m.t] = k % 3 - 1.0
        v.a[m.a] = k % 3 - 1.0

    def write_indexed(self, i, j, k):
        v = self.target(i)
        need(v.a.ndim and v.a.shape[0])
        index = np.unique((np.arange(j % 3 + 1) * 2 + k) % v.a.shape[0])
        v.t[self.lib.tensor(index.tolist())] = k % 4 - 2.0
        v.a[index] = k % 4 - 2.0

    def write_into(self, i, j, k):
        need(not self.differentiate)
        v, w = self.target(i), self.pick(j, "f")
        need(v.a.shape == w.a.shape and v.a.dtype == w.a.dtype and not np.may_share_memory(v.a, w.a))
        new = bounded(w.a * 0.5 + 1)
        self.lib.add(w.t * 0.5, 1, out=v.t)
        v.a[...] = new

    # ---- names and observation

    def drop(self, i, j, k):
        need(len(self.values) > 2)
        del self.values[i % len(self.values)]

    def observe(self, i, j, k):
        v = self.pick(i)
        if not self.differentiate:
            assert_equal(np.array(v.t.tolist()).reshape(v.a.shape), v.a, self.rough)
        else:
            v.t.detach().tolist()


INSTRUCTIONS = ["new", "new", "unary", "unary", "binary", "binary", "binary", "number", "compare", "cast", "where", "reduce", "reduce", "integer_reduce",
                "integers", "scan", "composite", "matmul", "gather", "join", "view", "view", "view", "view", "copy", "write_number", "write_number",
                "write_function", "write_tensor", "write_tensor", "write_part", "write_part", "write_masked", "write_indexed", "write_into", "drop", "drop",
                "observe", "share", "write_shared", "expose"]


def assert_equal(got, expected, rough):
    assert got.shape == expected.shape
    if expected.dtype.kind == "f":
        tolerance = 3e-4 if rough else 1e-9
        np.testing.assert_allclose(np.asarray(got, expected.dtype), expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(got, expected)


def carry_out(program, lib, differentiate=False):
    """Run a program; returns the machine."""
    machine = Machine(lib, differentiate)
    for seed in range(3):
        machine.new(seed + 3, 0, seed * 2 + 1)
    for number, i, j, k in program:
        try:
            getattr(machine, INSTRUCTIONS[number])(i, j, k)
        except Skip:
            continue
    return machine


class Failing(Machine):
    """Some calls read out of range.  What depends on them is marked; all the rest must be as if they had not been made."""

    def __init__(self, lib):
        super().__init__(lib)
        self.operands = []      # of the instruction
        self.bad = {}           # arrays whose contents need not exist, by identity
        self.lost = set()       # those among them that surely do not

    @staticmethod
    def memory(a):
        while isinstance(a.base, np.ndarray):
            a = a.base
        return a

    def is_bad(self, v):
        return id(self.memory(v.a)) in self.bad

    def mark(self, v):
        a = self.memory(v.a)
        self.bad[id(a)] = a

    def pick(self, k, kinds="fib"):
        v = super().pick(k, kinds)
        self.operands.append(v)
        return v

    def bad_read(self, i, j, k):
        v = self.pick(i, "f")
        d = axis(v, k)
        need(v.a.shape[d])
        index = self.lib.tensor([0, v.a.shape[d] + j % 5])
        t = self.lib.index_select(v.t, d, index) if k % 2 else v.t[(slice(None),) * d + (index,)]
        self.values.append(Value(t, np.zeros(tuple(t.shape), v.a.dtype)))
        self.mark(self.values[-1])
        self.lost.add(id(self.values[-1].a))

    def carry_out(self, name, i, j, k):
        self.operands = []
        before = list(self.values)
        memories = {id(self.memory(v.a)) for v in before}
        try:
            getattr(self, name)(i, j, k)
        except Skip:
            return
        except (IndexError, AssertionError):
            # found now, or found before and refused now; a comparison with contents that do not exist means nothing
            if name in ("observe", "expose") and not self.is_bad(self.operands[0]):
                getattr(self, name)(i, j, k)        # the error was another one's, and is over
            elif name.startswith("write") and self.operands:
                self.mark(self.operands[0])         # with shared memory the error of an earlier call comes after the write
            return
        if name.startswith("write") and self.operands:
            self.lost.discard(id(self.memory(self.operands[0].a)))
        elif any(id(self.memory(v.a)) in self.lost for v in self.operands):
            self.lost.update(id(self.memory(v.a)) for v in self.values if id(self.memory(v.a)) not in memories)
        if any(self.is_bad(v) for v in self.operands):
            made = [v for v in self.values if not any(v is b for b in before)]
            for v in made or (self.operands[:1] if name.startswith("write") else []):
                self.mark(v)


def check_failures(program):
    for way in ("lazy", "eager", "reference"):
        with WAYS[way]():
            machine = Failing(flambeau)
            for seed in range(3):
                machine.new(seed + 3, 0, seed * 2 + 1)
            for number, i, j, k in program:
                machine.carry_out("bad_read" if number == 0 else INSTRUCTIONS[number], i, j, k)
            for v in machine.values:
                try:
                    v.t.tolist()
                    read = True
                except IndexError:
                    read = False
                assert not (read and id(machine.memory(v.a)) in machine.lost)
                if not machine.is_bad(v):
                    assert_equal(np.array(v.t.tolist()).reshape(v.a.shape), v.a, machine.rough)


numbers = st.integers(0, 1000)
programs = st.lists(st.tuples(st.integers(0, len(INSTRUCTIONS) - 1), numbers, numbers, numbers), min_size=1, max_size=40)
thorough = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize="FLAMBEAU_FUZZ" not in os.environ, database=None)


def check_values(program):
    for way in WAYS.values():
        with way():
            machine = carry_out(program, flambeau)
            for v in machine.values:
                if v.shared is not None:
                    assert_equal(v.shared, v.a, machine.rough)
                assert_equal(np.array(v.t.tolist()).reshape(v.a.shape), v.a, machine.rough)


def gradients(program, lib):
    """The gradients of the sum of all values with respect to all leaves, or the refusal on the way."""
    try:
        machine = carry_out(program, lib, True)
        total = None
        for n, v in enumerate(machine.values):
            if v.t.requires_grad and v.a.size:
                part = (v.t.to(lib.float64) * (n + 1)).mean()
                total = part if total is None else total + part
        if total is None:
            return []
        total.backward()
        return [None if t.grad is None else np.array(t.grad.tolist()).reshape(tuple(t.shape)) for t in machine.leaves]
    except RuntimeError as error:
        return str(error).split("\n")[0][:40]


def same_gradients(got, expected):
    assert isinstance(got, str) == isinstance(expected, str), (got, expected)
    if isinstance(got, str):
        return
    assert len(got) == len(expected)
    for g, e in zip(got, expected, strict=True):
        assert (g is None) == (e is None)
        if g is not None:
            np.testing.assert_allclose(g, e, rtol=2e-3, atol=2e-3)


def check_gradients(program):
    answers = []
    for way in WAYS.values():
        with way():
            answers.append(gradients(program, flambeau))
    for other in answers[1:]:
        same_gradients(other, answers[0])
    return answers[0]


@thorough
@given(programs)
def test_values(program):
    check_values(program)


@thorough
@given(programs)
def test_gradients(program):
    check_gradients(program)


@thorough
@given(programs)
def test_failures(program):
    check_failures(program)
