"""Every operation on its samples: values against the reference renderer and, where it is installed, against PyTorch.

Gradients of first and second order are checked by finite differences, and so are the in-place, ``out=`` and method forms
against the plain call.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import samples

import flambeau as fl

ENTRIES = samples.collect()
PLAIN = sorted((n, d) for n, e in ENTRIES.items() for d in e.dtypes)
TOLERANCE = {"float32": 2e-5, "float64": 1e-9}


def function(library, name, entry):
    """The operation as a function of its arguments."""
    if entry.method:
        return lambda x, *args, **kwargs: getattr(x, name)(*args, **kwargs)
    home, _, short = name.rpartition(".")               # "special.ndtr"
    if home:
        return getattr(getattr(library, home), short)
    return getattr(library, name) if hasattr(library, name) else getattr(library.nn.functional, name)


def run(library, name, call, dtype):
    entry = ENTRIES[name]
    args, kwargs = call.make(library, dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = function(library, name, entry)(*args, **kwargs)
    return result if entry.result is None else entry.result(result)


def arrays(result):
    """The results as NumPy arrays; numbers and truth values as they are."""
    parts = list(result) if isinstance(result, (tuple, list)) else [result]
    return [p.detach().numpy().copy() if hasattr(p, "detach") else p for p in parts]


def assert_same(got, want, scale=1.0):
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        if not isinstance(w, np.ndarray):
            assert g == w
            continue
        assert g.dtype == w.dtype
        assert g.shape == w.shape
        if w.dtype.kind == "f":
            tolerance = TOLERANCE[w.dtype.name] * scale
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance, equal_nan=True)
        else:
            np.testing.assert_array_equal(g, w)


@pytest.fixture
def interpreted(monkeypatch):
    """Runs a function with the reference renderer instead of machine code."""
    from flambeau.stream import cache, flush

    def forget():
        flush.PLANS[0].clear()

    def use(f):
        fl._flush()
        with monkeypatch.context() as m:
            m.setattr(cache, "_reference", True)
            forget()
            try:
                return f()
            finally:
                fl._flush()
                forget()

    return use


def test_every_operation_of_these_files_has_samples():
    from flambeau.ops.definition import OPS

    fl.Tensor                           # noqa: B018  loads the operations
    covered = {"flambeau.ops." + p.stem.removeprefix("samples_") for p in samples.Path(samples.__file__).parent.glob("samples_*.py")}
    public = [n for n, f in OPS.items() if f.__module__ in covered and not n.startswith("_") and not n.endswith("_")]
    missing = sorted(set(public) - set(ENTRIES) - {"unfold_backward"})         # the gradient of unfold, and tested by it
    assert not missing, f"operations without an entry in tests/samples_*.py: {missing}"


def test_every_other_operation_is_named_by_a_test():
    """Constructors, draws, factorizations and recorded views have tests of their own kind; the two left out are the engine's."""
    import re

    from flambeau.ops.definition import OPS

    fl.Tensor                           # noqa: B018  loads the operations
    folder = samples.Path(samples.__file__).parent
    text = "\n".join(p.read_text(encoding="utf-8") for p in [*folder.glob("test_*.py"), folder.parent / "scripts" / "record_torch.py"])
    words = set(re.findall(r"\w+", text))
    public = [n for n in OPS if not n.startswith("_") and not n.endswith("_") and n not in ENTRIES and n not in ("unfold_backward", "ones_constant")]
    missing = sorted(n for n in public if n.removeprefix("linalg_") not in words)
    assert not missing, f"operations that no test names: {missing}"


@pytest.mark.parametrize(("name", "dtype"), PLAIN)
def test_machine_code_equals_reference(name, dtype, interpreted):
    entry = ENTRIES[name]
    got = [arrays(run(fl, name, c, dtype)) for c in entry.calls]
    want = interpreted(lambda: [arrays(run(fl, name, c, dtype)) for c in entry.calls])
    for g, w in zip(got, want, strict=True):
        assert_same(g, w, entry.tolerance)


@pytest.mark.parametrize(("name", "dtype"), PLAIN)
def test_values_equal_pytorch(name, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here; it is in the conformance environment (2026-11)")
    torch.set_num_threads(1)
    entry = ENTRIES[name]
    for c in entry.calls:
        try:
            assert_same(arrays(run(fl, name, c, dtype)), arrays(run(torch, name, c, dtype)), entry.tolerance)
        except AssertionError as error:
            raise AssertionError(f"{name}({c}) of {dtype}: {error}") from None


@pytest.mark.parametrize("name", sorted(n for n, e in ENTRIES.items() if e.refuses))
def test_refused_as_pytorch_does(name):
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here; it is in the conformance environment (2026-11)")
    for c in ENTRIES[name].refuses:
        with pytest.raises(Exception) as theirs:        # whatever PyTorch raises
            run(torch, name, c, "float32")
        with pytest.raises(theirs.type):
            arrays(run(fl, name, c, "float32"))


# ------------------------------------------------------------------ gradients


def leaves(call):
    """The arguments in float64, and those that a gradient is wanted of."""
    args, kwargs = call.make(fl, "float64")
    wanted = []

    def visit(spec, value):
        if isinstance(spec, samples.T) and spec.gradient and value.is_floating_point():
            wanted.append(value.detach().clone().requires_grad_())
            return wanted[-1]
        return value

    args = [visit(s, v) for s, v in zip(call.args, args, strict=True)]
    kwargs = {k: visit(call.kwargs[k], v) for k, v in kwargs.items()}
    return args, kwargs, wanted


def floating(result):
    parts = result if isinstance(result, (tuple, list)) else [result]
    return [p for p in parts if hasattr(p, "is_floating_point") and p.is_floating_point()]


def projected(name, args, kwargs):
    """A number that depends on every element of the results, with fixed weights."""
    total = 0.0
    for p in floating(function(fl, name, ENTRIES[name])(*args, **kwargs)):
        weights = np.cos(np.arange(p.numel(), dtype=np.float64)).reshape(tuple(p.shape)) + 1.5
        total = total + (p * fl.tensor(weights)).sum()
    return total


def slopes(f, x, step=1e-6):
    """The gradient of ``f()`` with respect to ``x``, whose memory is changed under it, by central differences."""
    with fl.no_grad():
        flat = x.detach().reshape(-1)
        result = np.zeros(flat.numel())
        for i in range(flat.numel()):
            old = flat[i].item()
            flat[i] = old + step
            up = f()
            flat[i] = old - step
            result[i] = (up - f()) / (2 * step)
            flat[i] = old
    return result.reshape(tuple(x.shape))


def checkable(wanted, limit):
    """Whether differences are taken: two calls for each element, so of small tensors only."""
    return bool(wanted) and all(0 < x.numel() <= limit for x in wanted)


DIFFERENTIABLE = sorted(n for n, e in ENTRIES.items() if e.grad and set(e.dtypes) & set(samples.FLOATS))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name):
    for c in ENTRIES[name].calls:
        args, kwargs, wanted = leaves(c)
        if not c.grad or not checkable(wanted, 24):
            continue
        got = fl.autograd.grad(projected(name, args, kwargs), wanted)

        def value(args=args, kwargs=kwargs):
            return projected(name, args, kwargs).item()

        for x, g in zip(wanted, got, strict=True):
            np.testing.assert_allclose(g.numpy(), slopes(value, x), rtol=1e-5, atol=1e-6, err_msg=f"{name}({c})")


@pytest.mark.parametrize("name", [n for n in DIFFERENTIABLE if ENTRIES[n].second])
def test_gradient_of_gradient(name):
    for c in ENTRIES[name].calls:
        args, kwargs, wanted = leaves(c)
        if not c.grad or not checkable(wanted, 12):
            continue

        def first(create_graph, args=args, kwargs=kwargs, wanted=wanted):
            grads = fl.autograd.grad(projected(name, args, kwargs), wanted, create_graph=create_graph)
            total = 0.0
            for g in grads:
                total = total + (g * g.detach().numel() ** 0.5).sum() + (g * g).sum()
            return total

        total = first(True)
        if not total.requires_grad:         # linear: nothing more to differentiate
            continue
        got = fl.autograd.grad(total, wanted, allow_unused=True)

        def value(first=first):
            with fl.enable_grad():
                return first(False).item()

        for x, g in zip(wanted, got, strict=True):
            want = slopes(value, x)
            have = np.zeros_like(want) if g is None else g.detach().numpy()
            np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5, err_msg=f"{name}({c})")


# ------------------------------------------------------------------ other forms of a call


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_method_equals_function(name):
    c = ENTRIES[name].calls[0]
    dtype = ENTRIES[name].dtypes[0]
    args, kwargs = c.make(fl, dtype)
    if ENTRIES[name].method or not isinstance(args[0], fl.Tensor) or not hasattr(fl.Tensor, name) or name == "where":
        return
    assert_same(arrays(getattr(args[0], name)(*args[1:], **kwargs)), arrays(function(fl, name, ENTRIES[name])(*args, **kwargs)))


@pytest.mark.parametrize("name", sorted(n for n, e in ENTRIES.items() if e.inplace))
def test_in_place_equals_plain(name):
    tried = 0
    for c in ENTRIES[name].calls:
        args, kwargs = c.make(fl, ENTRIES[name].dtypes[0])
        if not isinstance(args[0], fl.Tensor) or c.args[0].layout == "expanded":
            continue
        want = function(fl, name, ENTRIES[name])(*args, **kwargs)
        if want.shape != args[0].shape or want.dtype not in (args[0].dtype, fl.bool):
            continue
        want = want.numpy().copy()
        x = args[0]
        version = x._version
        assert getattr(x, name + "_")(*args[1:], **kwargs) is x
        assert x._version > version
        np.testing.assert_allclose(x.numpy(), want.astype(x.numpy().dtype), rtol=1e-5, atol=1e-6, err_msg=f"{name}_({c})")
        tried += 1
    assert tried


@pytest.mark.parametrize("name", sorted(n for n, e in ENTRIES.items() if e.out))
def test_out_equals_plain(name):
    for c in ENTRIES[name].calls:
        args, kwargs = c.make(fl, ENTRIES[name].dtypes[0])
        want = function(fl, name, ENTRIES[name])(*args, **kwargs)
        several = isinstance(want, (tuple, list))
        targets = [fl.empty_like(w) for w in (want if several else [want])]
        result = function(fl, name, ENTRIES[name])(*args, **kwargs, out=tuple(targets) if several else targets[0])
        if not several:
            assert result is targets[0]
        assert_same(arrays(targets), arrays(want))


# ------------------------------------------------------------------ what single samples do not show


def test_a_result_that_its_own_gradient_reads_reaches_the_caller():
    x = fl.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]], requires_grad=True)
    for f in (lambda t: t.softmax(1), lambda t: t.std(), lambda t: t.log_softmax(0), lambda t: t.norm()):
        np.testing.assert_array_equal(f(x).detach().numpy(), f(x.detach()).numpy())


def test_an_overwritten_operand_matters_only_to_the_gradient_that_reads_it():
    x, w = fl.tensor([1.0, 2.0]), fl.tensor([3.0, 4.0], requires_grad=True)
    loss = (x * w).sum()
    with fl.no_grad():
        w.mul_(10)                      # only x's gradient would read w, and none is wanted
    loss.backward()
    assert w.grad.tolist() == [1.0, 2.0]
    loss = (x * w).sum()
    x.mul_(10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_composites_of_one_name_do_not_share_plans():
    from flambeau.ops.composite import composite

    def made(factor):
        @composite
        def scaled(input):
            return input * factor
        return scaled

    x = fl.tensor([1.0, 2.0])
    assert made(3.0)(x).tolist() == [3.0, 6.0]
    assert made(5.0)(x).tolist() == [5.0, 10.0]


@pytest.mark.parametrize("limit", [0, 30])
def test_expressions_may_be_forgotten_at_any_time(limit, monkeypatch):
    """After 200,000 nodes the table of expressions is emptied, be it between the scheduler and the renderer of one kernel."""
    from flambeau.ir import expression
    from flambeau.stream import flush

    flush.flush()
    flush.PLANS[0].clear()
    monkeypatch.setattr("flambeau.runtime.images.get", lambda *key: None)
    monkeypatch.setattr(expression, "LIMIT", limit)
    a = np.random.default_rng(0).standard_normal((7, 33))
    x, e = fl.from_numpy(a), np.exp(a)
    np.testing.assert_allclose(x.softmax(1).numpy(), e / e.sum(1, keepdims=True))
    np.testing.assert_allclose(x.var(0).numpy(), a.var(0, ddof=1))
    np.testing.assert_allclose((x * 2).cumsum(1).numpy(), (a * 2).cumsum(1))
    np.testing.assert_allclose(x.float().std(1).numpy(), a.std(1, ddof=1), rtol=1e-5)
    assert fl.cummax(x, 1)[1].tolist() == [[int(np.argmax(r[:j + 1])) for j in range(33)] for r in a]


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_running_totals_accumulate_in_float64(dtype):
    d = getattr(fl, dtype)
    x = fl.from_numpy(np.random.default_rng(0).random(100_000 if dtype == "float32" else 3000).astype("f")).to(d)
    exact = x.double().numpy()
    error = fl.finfo(d).eps
    for got, want in ((x.cumsum(0), exact.cumsum()), ((x.double() * 1e-4 + 1).float().cumprod(0), (exact * 1e-4 + 1).astype("f").astype("d").cumprod())):
        np.testing.assert_allclose(got.double().numpy(), want, rtol=error)
    assert x.cumsum(0).dtype is d


ROUNDED_ONCE = ("softmax", "log_softmax", "logsumexp", "var", "std", "norm",
                "gelu", "silu", "mish", "softplus", "logsigmoid", "hardsigmoid", "hardswish", "elu", "celu")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ROUNDED_ONCE)
def test_16_bit_results_are_rounded_once(name, dtype):
    f = getattr(fl, name, None) or getattr(fl.nn.functional, name)
    dim = {"dim": 1} if name in ROUNDED_ONCE[:6] else {}
    x = fl.from_numpy(np.random.default_rng(0).standard_normal((16, 40)).astype("f")).to(getattr(fl, dtype))
    y = f(x, **dim)
    assert y.dtype is x.dtype
    assert fl.equal(y, f(x.float(), **dim).to(x.dtype))
    w = x.clone().requires_grad_()
    f(w, **dim).float().square().sum().backward()
    assert w.grad.dtype is x.dtype
    assert w.grad.isfinite().all()


def test_whole_numbers_divided_by_zero():
    x = fl.tensor([4, 6])
    for f in (lambda: x // 0, lambda: x % 0, lambda: fl.fmod(x, 0)):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            f()
    bad = x // fl.tensor([2, 0])
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        bad.tolist()
    assert (x + 1).tolist() == [5, 7]   # and the process goes on


@pytest.mark.parametrize(("name", "f"), [
    ("PowBackward0", lambda x: x ** 2), ("PowBackward1", lambda x: x ** x), ("PowBackward2", lambda x: 2 ** x), ("RsubBackward1", lambda x: 1 - x),
    ("SumBackward0", lambda x: x.sum()), ("SumBackward1", lambda x: x.sum(0)), ("MeanBackward1", lambda x: x.mean(0)), ("MaxBackward1", lambda x: x.max()),
    ("MaxBackward0", lambda x: x.max(0)[0]), ("ClampBackward1", lambda x: x.clamp(0, 1)), ("ClampBackward0", lambda x: x.clamp(x, None)),
    ("MulBackward0", lambda x: 2 / x), ("SoftmaxBackward0", lambda x: x.softmax(0)), ("LinalgVectorNormBackward0", lambda x: x.norm()),
    ("MaskedFillBackward0", lambda x: x.masked_fill(x > 0, 1)), ("ToCopyBackward0", lambda x: x.double()), ("StdBackward0", lambda x: x.std()),
])
def test_names_of_graph_nodes(name, f):
    assert f(fl.ones(2, 3, requires_grad=True)).grad_fn.name() == name
