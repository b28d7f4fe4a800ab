"""Linear algebra: values against NumPy, gradients of both orders, errors."""

import math

import numpy as np
import pytest

import flambeau as torch
from flambeau import linalg
from flambeau.autograd import gradcheck, gradgradcheck

RNG = np.random.default_rng(0)
SQUARE = [(3, 3), (2, 3, 3), (1, 1), (0, 0), (2, 0, 0)]
ANY = [(4, 3), (3, 4), (2, 4, 3), (3, 3)]


def matrices(shape, dtype=np.float64):
    """Well away from singular ones."""
    a = RNG.normal(size=shape)
    if shape[-1] == shape[-2]:
        a = a + 3 * np.eye(shape[-1])
    return a.astype(dtype)


def tensor(a, grad=False):
    return torch.from_numpy(np.array(a)).requires_grad_(grad)


def close(ours, right, tolerance=1e-10):
    assert tuple(ours.shape) == np.shape(right)
    np.testing.assert_allclose(ours.detach().numpy(), right, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SQUARE)
def test_square(shape):
    a = matrices(shape)
    x = tensor(a)
    close(linalg.det(x), np.linalg.det(a))
    close(linalg.inv(x), np.linalg.inv(a))
    sign, value = torch.slogdet(x)
    close(sign * value.exp(), np.linalg.det(a))
    b = RNG.normal(size=(*shape[:-1], 2))
    close(linalg.solve(x, tensor(b)), np.linalg.solve(a, b))
    close(linalg.solve(x, tensor(np.swapaxes(b, -1, -2)), left=False) @ x, np.swapaxes(b, -1, -2))
    close(linalg.solve_triangular(x, tensor(b), upper=True), np.linalg.solve(np.triu(a), b))
    close(linalg.solve_triangular(x, tensor(b), upper=False), np.linalg.solve(np.tril(a), b))
    P, L, U = linalg.lu(x)
    close(P @ L @ U, a)
    close(linalg.lu_solve(*linalg.lu_factor(x), tensor(b)), np.linalg.solve(a, b))
    definite = a @ np.swapaxes(a, -1, -2)
    close(linalg.cholesky(tensor(definite)), np.linalg.cholesky(definite))
    close(torch.cholesky_inverse(linalg.cholesky(tensor(definite))), np.linalg.inv(definite), 1e-8)
    close(torch.cholesky_solve(tensor(b), linalg.cholesky(tensor(definite))), np.linalg.solve(definite, b), 1e-8)
    w, v = linalg.eigh(tensor(definite))
    close(v @ torch.diag_embed(w) @ v.mT, definite, 1e-8)
    close(linalg.matrix_power(x, 3), np.linalg.matrix_power(a, 3))
    close(linalg.matrix_power(x, -2), np.linalg.matrix_power(a, -2))


@pytest.mark.parametrize("shape", ANY)
def test_any_shape(shape):
    a = matrices(shape)
    x = tensor(a)
    Q, R = linalg.qr(x)
    close(Q @ R, a)
    close(Q.mT @ Q, np.broadcast_to(np.eye(Q.shape[-1]), (*shape[:-2], Q.shape[-1], Q.shape[-1])))
    assert linalg.qr(x, "complete").Q.shape[-1] == shape[-2]
    U, S, Vh = linalg.svd(x, full_matrices=False)
    close(U @ torch.diag_embed(S) @ Vh, a)
    close(linalg.svdvals(x), np.linalg.svd(a, compute_uv=False))
    close(linalg.pinv(x), np.linalg.pinv(a))
    close(linalg.matrix_rank(x), np.linalg.matrix_rank(a))
    P, L, U = linalg.lu(x)
    close(P @ L @ U, a)
    for order in ("fro", "nuc", 1, -1, 2, -2, math.inf, -math.inf):
        close(linalg.matrix_norm(x, order), np.linalg.norm(a, order, axis=(-2, -1)))
        assert linalg.matrix_norm(x, order, keepdim=True).shape == (*shape[:-2], 1, 1)
    close(linalg.cond(x), np.linalg.cond(a))
    h, tau = torch.geqrf(x)
    close(linalg.householder_product(h[..., :, :tau.shape[-1]], tau).abs(), Q.abs().numpy())


def test_vector_norms():
    a = RNG.normal(size=(3, 4))
    x = tensor(a)
    for order in (0, 1, 2, 3.5, math.inf, -math.inf, -1):
        close(linalg.vector_norm(x, order), np.linalg.norm(a.reshape(-1), order))
        close(linalg.norm(x, order, 1), np.linalg.norm(a, order, axis=1))
    close(linalg.norm(x), np.linalg.norm(a))


def test_exponential():
    a = np.array([[0.0, -2.0], [2.0, 0.0]])
    close(linalg.matrix_exp(tensor(a)), [[math.cos(2), -math.sin(2)], [math.sin(2), math.cos(2)]])
    close(torch.matrix_exp(tensor(np.diag([1.0, -3.0, 20.0]))), np.diag(np.exp([1.0, -3.0, 20.0])), 1e-12)


def test_least_squares():
    a, b = RNG.normal(size=(5, 2)), RNG.normal(size=(5, 3))
    made = linalg.lstsq(tensor(a), tensor(b))
    solution, residuals, rank, _ = np.linalg.lstsq(a, b, rcond=None)
    close(made.solution, solution)
    close(made.residuals, residuals)
    assert made.rank.item() == rank


def test_products():
    a, b, c = (RNG.normal(size=s) for s in ((2, 10), (10, 3), (3, 7)))
    close(linalg.multi_dot([tensor(a), tensor(b), tensor(c)]), a @ b @ c)
    close(linalg.multi_dot([tensor(a[0]), tensor(b), tensor(c[:, 0])]), a[0] @ b @ c[:, 0])
    t = RNG.normal(size=(2, 3, 6))
    close(linalg.tensorinv(tensor(t)), np.linalg.tensorinv(t))
    close(linalg.tensorsolve(tensor(t), tensor(t[..., 0])), np.linalg.tensorsolve(t, t[..., 0]))
    U, S, V = torch.svd_lowrank(tensor(a @ b), 2)
    close(U @ torch.diag(S) @ V.mT, a @ b)


def positive(x):
    """A symmetric positive-definite matrix."""
    return x @ x.mT


DIFFERENTIABLE = {
    "det": (linalg.det, (2, 3, 3)), "slogdet": (lambda x: linalg.slogdet(x)[1], (3, 3)), "inv": (linalg.inv, (2, 3, 3)),
    "cholesky": (lambda x: linalg.cholesky(positive(x)), (3, 3)), "cholesky upper": (lambda x: linalg.cholesky(positive(x), upper=True), (2, 3, 3)),
    "qr": (lambda x: linalg.qr(x), (4, 3)), "qr wide": (lambda x: linalg.qr(x), (3, 4)), "svd": (lambda x: linalg.svd(x, False)[1], (4, 3)),
    "singular vectors": (lambda x: [t.abs() for t in linalg.svd(x, False)], (4, 3)),
    "singular vectors wide": (lambda x: [t.abs() for t in linalg.svd(x, False)], (3, 4)), "eigh": (lambda x: linalg.eigh(positive(x))[0], (3, 3)),
    "eigenvectors": (lambda x: linalg.eigh(positive(x))[1].abs(), (3, 3)), "pinv": (linalg.pinv, (4, 3)), "matrix_exp": (linalg.matrix_exp, (3, 3)),
    "lu": (lambda x: linalg.lu(x)[1:], (3, 3)), "lu wide": (lambda x: linalg.lu(x)[1:], (3, 4)), "lu tall": (lambda x: linalg.lu(x)[1:], (4, 3)),
    "matrix_power": (lambda x: linalg.matrix_power(x, 3), (3, 3)), "nuclear norm": (lambda x: linalg.matrix_norm(x, "nuc"), (3, 4)),
    "lstsq": (lambda x: linalg.lstsq(x, torch.ones(4, 2, dtype=torch.float64)).solution, (4, 3)),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradient(name):
    f, shape = DIFFERENTIABLE[name]
    x = tensor(np.random.default_rng(3).normal(size=shape) + 2 * np.eye(*shape[-2:]), True)
    assert gradcheck(f, (x,))
    assert gradgradcheck(f, (x,))


@pytest.mark.parametrize("left", [True, False])
def test_gradients_of_solutions(left):
    a, b = tensor(matrices((3, 3)), True), tensor(RNG.normal(size=(3, 2) if left else (2, 3)), True)
    for f in (lambda p, q: linalg.solve(p, q, left=left), lambda p, q: linalg.solve_triangular(p, q, upper=True, left=left),
              lambda p, q: linalg.solve_triangular(p, q, upper=False, left=left, unitriangular=True)):
        assert gradcheck(f, (a, b))
        assert gradgradcheck(f, (a, b))


def test_the_gradient_of_a_singular_determinant():
    x = torch.tensor([[1.0, 2], [2, 4]], dtype=torch.float64, requires_grad=True)
    linalg.det(x).backward()
    close(x.grad, [[4, -2], [-2, 1]])


def test_errors():
    singular = torch.zeros(3, 3)
    with pytest.raises(linalg.LinAlgError, match="The diagonal element 1 is zero"):
        linalg.inv(singular)
    with pytest.raises(linalg.LinAlgError, match="the input matrix is singular"):
        linalg.solve(singular, torch.ones(3, 1))
    with pytest.raises(linalg.LinAlgError, match=r"\(Batch element 1\): .* order 1 is not positive-definite"):
        linalg.cholesky(torch.stack([torch.eye(3), -torch.eye(3)]))
    with pytest.raises(RuntimeError, match="A must be batches of square matrices, but they are 3 by 2"):
        linalg.inv(torch.ones(3, 2))
    with pytest.raises(RuntimeError, match="Expected a floating point or complex tensor as input"):
        torch.det(torch.ones(3, 3, dtype=torch.int64))
    with pytest.raises(RuntimeError, match="Incompatible shapes of A and B for the equation AX = B"):
        linalg.solve(torch.eye(3), torch.ones(2, 1))
    inverse, info = linalg.inv_ex(singular)
    assert info.item() == 1 and inverse.shape == (3, 3)


def test_names():
    x = tensor(matrices((3, 3)), True)
    assert type(linalg.qr(x)).__name__ == "linalg_qr" and linalg.qr(x).Q.grad_fn.name() == "LinalgQrBackward0"
    assert torch.inverse(x).grad_fn.name() == "LinalgInvExBackward0"
    assert x.det().grad_fn.name() == "LinalgDetBackward0"
