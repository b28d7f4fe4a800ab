"""Functions of functions against closed forms and PyTorch's conventions."""

import pytest

import flambeau as torch
from flambeau import nn
from flambeau.func import functional_call, grad, grad_and_value, hessian, jacfwd, jacrev, jvp, stack_module_state, vjp, vmap

X, Y = torch.tensor([0.5, -1.0, 2.0]), torch.tensor([3.0, 1.0, -2.0])


def close(a, b):
    torch.testing.assert_close(a, b)
    return True


def test_gradients_by_arguments_and_structures():
    def f(x, y):
        return (x.sin() * y).sum()
    assert close(grad(f)(X, Y), X.cos() * Y)
    gx, gy = grad(f, argnums=(0, -1))(X, Y)
    assert close(gx, X.cos() * Y) and close(gy, X.sin())
    g, value = grad_and_value(f, argnums=1)(X, Y)
    assert close(g, X.sin()) and close(value, f(X, Y)) and not g.requires_grad and not value.requires_grad
    g = grad(lambda d: (d["a"] * d["b"][0]).sum())({"a": X, "b": [Y]})
    assert close(g["a"], Y) and close(g["b"][0], X)
    g, aux = grad(lambda x: (x.square().sum(), x + 1), has_aux=True)(X)
    assert close(g, 2 * X) and close(aux, X + 1)
    assert close(grad(lambda x, y: y.sum())(X, Y), torch.zeros(3))
    assert X.grad is None and not X.requires_grad


def test_gradients_of_gradients():
    cube = lambda x: x ** 3
    x = torch.tensor(2.0)
    assert [f(x).item() for f in (grad(cube), grad(grad(cube)), grad(grad(grad(cube))))] == [12.0, 12.0, 6.0]
    assert close(hessian(lambda x: (x ** 3).sum())(X), torch.diag(6 * X))
    assert close(jacrev(jacrev(lambda x: (x ** 3).sum()))(X), torch.diag(6 * X))


def test_what_is_outside_stays_connected():
    w = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    g = grad(lambda x: (x * w).square().sum())(X)
    assert close(g.detach(), 2 * X * w.detach().square()) and g.requires_grad
    g.sum().backward()
    assert close(w.grad, 4 * X * w.detach())
    x = X.clone().requires_grad_()
    grad(lambda x: (x ** 3).sum())(x).sum().backward()
    assert close(x.grad, 6 * X)
    with torch.no_grad():
        assert close(grad(lambda x: (x ** 2).sum())(X), 2 * X)


def test_products_with_the_jacobian():
    value, pull = vjp(lambda x, y: x * y, X, Y)
    assert close(value, X * Y)
    a, b = pull(torch.ones(3))
    assert close(a, Y) and close(b, X)
    _, pull = vjp(lambda x: (x * 2, x.square()), X)
    assert close(pull((torch.ones(3), Y)), 2 + 2 * X * Y)
    value, pushed = jvp(lambda x: x.square() * Y, (X,), (torch.tensor([1.0, 0.0, 2.0]),))
    assert close(value, X.square() * Y) and close(pushed, 2 * X * Y * torch.tensor([1.0, 0.0, 2.0]))
    assert not value.requires_grad and not pushed.requires_grad
    assert close(jacrev(lambda x: x.square())(X), torch.diag(2 * X))
    assert close(jacfwd(lambda x: (x * Y).cumsum(0))(X), torch.tril(Y.expand(3, 3)))
    jx, jy = jacrev(lambda x, y: x.outer(y), argnums=(0, 1))(X, Y)
    assert jx.shape == jy.shape == (3, 3, 3)


def test_batches():
    a, b = torch.randn(5, 3), torch.randn(5, 3)
    assert close(vmap(torch.dot)(a, b), (a * b).sum(1))
    assert close(vmap(lambda x, y: x + y, in_dims=(0, None))(a, Y), a + Y)
    assert close(vmap(lambda x: x * 2, in_dims=1, out_dims=1)(a), a * 2)
    assert close(vmap(lambda d: d["x"].sum() + d["y"], in_dims=({"x": 0, "y": None},))({"x": a, "y": 1.0}), a.sum(1) + 1)
    first, second = vmap(lambda x: (x.sum(), x), out_dims=(0, 1))(a)
    assert close(first, a.sum(1)) and close(second, a.t())
    assert close(vmap(vmap(lambda x, y: x * y))(a, b), a * b)
    assert close(vmap(grad(lambda x: x.square().sum()))(a), 2 * a)


def test_gradients_of_each_sample():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    params = {k: v.detach() for k, v in model.named_parameters()}
    x, y = torch.randn(6, 3), torch.randn(6, 1)

    def loss(params, x, y):
        return nn.functional.mse_loss(functional_call(model, params, (x.unsqueeze(0),)), y.unsqueeze(0))
    each = vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)
    nn.functional.mse_loss(model(x), y).backward()
    for k, p in model.named_parameters():
        assert close(each[k].mean(0), p.grad)


def test_other_parameters_for_a_call():
    model = nn.BatchNorm1d(2)
    x = torch.randn(4, 2)
    weight = torch.tensor([2.0, 3.0])
    kept = model.weight
    assert close(functional_call(model, {"weight": weight}, x), model(x) * weight)
    assert model.weight is kept
    with pytest.raises(RuntimeError, match="Unexpected key"):
        functional_call(model, {"weight": weight, "zz": x}, x, strict=True)
    with pytest.raises(ValueError, match="multiple dictionaries"):
        functional_call(model, ({"weight": weight}, {"weight": weight}), x)
    with pytest.raises(ValueError):         # the parameters come back after an error
        functional_call(model, {"weight": weight}, torch.randn(2, 2, 2, 2))
    assert model.weight is kept
    tied = nn.ModuleDict({"a": nn.Linear(2, 2, bias=False), "b": nn.Linear(2, 2, bias=False)})
    tied.b.weight = tied.a.weight
    tied.forward = lambda x: tied.b(tied.a(x))
    assert close(functional_call(tied, {"a.weight": 2 * torch.eye(2)}, x), 4 * x)
    models = [nn.Linear(2, 3) for _ in range(3)]
    params, buffers = stack_module_state(models)
    y = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,)), in_dims=(0, 0, None))(params, buffers, x)
    assert close(y, torch.stack([m(x) for m in models]))


def test_refusals():
    for wrong, error, message in (
        (lambda: grad(lambda x: x)(X), RuntimeError, "scalar Tensor"),
        (lambda: grad(lambda x: 1.0)(X), RuntimeError, "return a Tensor"),
        (lambda: grad(torch.sum, argnums=5)(X), RuntimeError, "Got argnum=5"),
        (lambda: grad(torch.sum)(torch.arange(3)), RuntimeError, "floating point"),
        (lambda: vmap(torch.add)(torch.ones(3), torch.ones(4)), ValueError, "same size"),
        (lambda: vmap(torch.sum, in_dims=5)(X), ValueError, "in_dim=5"),
        (lambda: vmap(torch.add, in_dims=(None, None))(X, Y), ValueError, "at least one input"),
        (lambda: vmap(lambda x: 1.0)(X), ValueError, "only return Tensors"),
        (lambda: vmap(torch.add, in_dims=(0,))(X, Y), ValueError, "structure"),
        (lambda: vjp(torch.exp, X)[1](torch.ones(2)), RuntimeError, "cotangents"),
    ):
        with pytest.raises(error, match=message):
            wrong()
