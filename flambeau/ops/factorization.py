"""Linear algebra by library routines: factorisations, solvers, and what is made of them.

A routine executes what is pending, runs NumPy on the matrices and checks its result, so that an error stands at the user's own
line.  Its gradient is written in tensor operations (products and the routines themselves) and can be differentiated again.
``flambeau.linalg`` publishes the functions whose names start with ``linalg_`` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ..autograd import graph
from ..autograd.graph import MODE, Node
from ..core.errors import LinAlgError, takes_tensors
from ..core.limits import finfo
from ..core.shape import Meta, broadcast_shapes, wrap_dim
from . import definition
from .composite import public
from .definition import OPS, title, unpack
from .host import from_host, host_array
from .indexing import _given
from .results import named


class _Routine:
    """The graph entry of a routine: ``rule(gradients, inputs, outputs, needs)`` gives the gradients of the inputs."""

    def __init__(self, name: str, rule: Callable[..., Any], metas: Sequence[Meta], inputs: int) -> None:
        self.name, self.rule, self.metas, self.inputs = name, rule, metas, inputs

    def run(self, node: Node, g: Any) -> list[Any]:
        assert node.saved is not None
        count = len(self.metas) - self.inputs
        made: Sequence[Any] = [node] if count == 1 else graph.outputs_of(node, count) if MODE.grad else [None] * count
        tensors = [unpack(node, m, b, source) for m, b, source in zip(self.metas, node.saved, [*node.edges, *made], strict=True)]
        needs = [e is not None for e in node.edges]
        grads = self.rule(g if g.__class__ is list else [g], tensors[:self.inputs], tensors[self.inputs:], needs)
        return [definition.fit(x, m) if n and x is not None else None for x, m, n in zip(grads, self.metas, needs, strict=False)]


def differentiable(name: str, rule: Callable[..., Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Give ``outputs``, computed from ``inputs``, their place in the graph; returns the only one, or all."""
    if MODE.grad and any(x._node is not None for x in inputs):
        everything = [*inputs, *outputs]
        entry = _Routine(name + "Backward0", rule, [x._meta for x in everything], len(inputs))
        n = graph.node(entry, tuple(x._node for x in inputs), tuple(x._buffer for x in everything))
        if len(outputs) == 1:
            outputs[0]._node = n
        else:
            for x, o in zip(outputs, graph.outputs_of(n, len(outputs)), strict=True):
                x._node = o
    return outputs[0] if len(outputs) == 1 else outputs


# ------------------------------------------------------------------ checks


def _matrix(name: str, A: Any, what: str = "A") -> None:
    if A.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {what} must have at least 2 dimensions.\nIt has shape {list(A.shape)}.")
    if not A.dtype.is_floating_point:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {title(A.dtype)}\nConvert it with .double() "
                           "or .float().")
    if A.dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {title(A.dtype)}\nConvert it with .float().")


def _square(name: str, A: Any) -> None:
    _matrix(name, A)
    if A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"{name}: A must be batches of square matrices, but they are {A.shape[-2]} by {A.shape[-1]} matrices")


def _batch(info: Any, text: str) -> str:
    """Which matrix of a batch failed."""
    import numpy as np

    where = np.flatnonzero(np.asarray(info))
    return (f"(Batch element {where[0]}): " if np.ndim(info) else "") + text


def _first_bad(info: Any) -> int:
    import numpy as np

    flat = np.asarray(info).reshape(-1)
    return int(flat[np.flatnonzero(flat)[0]])


def _same(name: str, A: Any, B: Any) -> None:
    if A.dtype is not B.dtype:
        raise RuntimeError(f"{name}: Expected A and B to have the same dtype, but found A of type {title(A.dtype)} and B of type "
                           f"{title(B.dtype)} instead")


def _eye(like: Any, n: int | None = None) -> Any:
    return OPS["eye"](like.shape[-1] if n is None else n, dtype=like.dtype, device=like.device)


# ------------------------------------------------------------------ LU and its uses


def _lu(a: Any, pivot: bool = True) -> tuple[Any, Any, Any]:
    """Packed LU factors, pivots (from 1) and, per matrix, the number of the first zero on U's diagonal (0: none), for a batch."""
    import numpy as np

    lu = np.array(a)
    m, n = lu.shape[-2:]
    k = min(m, n)
    batch = lu.shape[:-2]
    lu = lu.reshape(math.prod(batch), m, n)
    rows = np.arange(len(lu))
    pivots = np.tile(np.arange(1, k + 1, dtype=np.int32), (len(lu), 1))
    info = np.zeros(len(lu), np.int32)
    for j in range(k):
        if pivot:
            best = np.abs(lu[:, j:, j]).argmax(1) + j
            pivots[:, j] = best + 1
            lu[rows, j], lu[rows, best] = lu[rows, best].copy(), lu[rows, j].copy()
        d = lu[:, j, j]
        info = np.where((info == 0) & (d == 0), j + 1, info)
        with np.errstate(all="ignore"):
            lu[:, j + 1:, j] = np.where(d[:, None] != 0, lu[:, j + 1:, j] / np.where(d == 0, 1, d)[:, None], lu[:, j + 1:, j])
        lu[:, j + 1:, j + 1:] -= lu[:, j + 1:, j, None] * lu[:, j, None, j + 1:]
    return lu.reshape(*batch, m, n), pivots.reshape(*batch, k), info.reshape(batch).astype(np.int32)


def _permutation(pivots: Any, m: int) -> Any:
    """Row orders (old row of each new row) that a batch of pivots stands for."""
    import numpy as np

    flat = pivots.reshape(math.prod(pivots.shape[:-1]), pivots.shape[-1]) - 1
    order = np.tile(np.arange(m), (len(flat), 1))
    rows = np.arange(len(flat))
    for j in range(flat.shape[1]):
        p = flat[:, j]
        order[rows, j], order[rows, p] = order[rows, p].copy(), order[rows, j].copy()
    return order.reshape(*pivots.shape[:-1], m)


def _permuting(order: Any, dtype: Any) -> Any:
    """The matrix P with ``A = P L U``."""
    import numpy as np

    return np.swapaxes(np.eye(order.shape[-1], dtype=dtype)[order], -1, -2)


def _lu_gradient(L: Any, U: Any, gL: Any, gU: Any) -> Any:
    """The gradient of the matrix with its rows already exchanged, from those of its factors."""
    k = min(L.shape[-2], U.shape[-1])
    L1, U1 = L[..., :k, :], U[..., :, :k]
    rest = None
    if U.shape[-1] > k:          # columns beyond the square part: U2 = L^-1 A2
        rest = linalg_solve_triangular(L.mT, gU[..., k:], upper=True, unitriangular=True)
        gL = gL - rest @ U[..., k:].mT
    elif L.shape[-2] > k:        # rows beyond it: L2 = A2 U^-1
        rest = linalg_solve_triangular(U.mT, gL[..., k:, :], upper=False, left=False)
        gU = gU - L[..., k:, :].mT @ rest
    inner = OPS["tril"](L1.mT @ gL[..., :k, :], -1) + OPS["triu"](gU[..., :, :k] @ U1.mT)
    left = linalg_solve_triangular(L1.mT, inner, upper=True, unitriangular=True)
    square = linalg_solve_triangular(U1.mT, left, upper=False, left=False)
    return square if rest is None else OPS["cat"]([square, rest], -1 if U.shape[-1] > k else -2)


def _unpacked(LU: Any, m: int, n: int) -> tuple[Any, Any]:
    k = min(m, n)
    L = OPS["tril"](LU[..., :, :k], -1)
    L = L + OPS["eye"](m, k, dtype=LU.dtype, device=LU.device)
    return L, OPS["triu"](LU[..., :k, :])


@public(function=False, method=False)
def linalg_lu_factor_ex(A: Any, *, pivot: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """``(LU, pivots, info)``: both factors in one matrix, the row exchanges, and per matrix the first zero on the diagonal of U (0: none)."""
    _matrix("torch.lu_factor_ex", A)
    lu, pivots, info = _lu(host_array(A), pivot)
    if check_errors and info.any():
        raise LinAlgError("torch.linalg.lu_factor_ex: " + _batch(info, f"U[{_first_bad(info)},{_first_bad(info)}] is zero and using it on "
                                                                       "lu_solve would "
                          "result in a division by zero. If you still want to perform the factorization, consider calling "
                          "linalg.lu(A, pivot) or "
                          "linalg.lu_factor_ex(A, pivot)"))
    inverse = from_host(_permuting(_permutation(pivots, A.shape[-2]), lu.dtype))

    m, n = A.shape[-2:]

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        k = min(m, n)
        return (inverse @ _lu_gradient(*_unpacked(y[0], m, n), OPS["tril"](g[0], -1)[..., :k], OPS["triu"](g[0])[..., :k, :]),)

    LU = differentiable("LinalgLuFactorEx", rule, [A], [from_host(lu)])
    return _give_all(out, named("linalg_lu_factor_ex", "LU", "pivots", "info"), (LU, from_host(pivots), from_host(info)))


def _give_all(out: Any, made: Any, parts: Sequence[Any]) -> Any:
    if out is None:
        return made(*parts)
    return made(*[_given(t, x) for t, x in zip(out, parts, strict=True)])


@public(function=False, method=False)
def linalg_lu_factor(A: Any, *, pivot: bool = True, out: Any = None) -> Any:
    """``(LU, pivots)``: both factors in one matrix, and the row exchanges counted from 1."""
    LU, pivots, info = linalg_lu_factor_ex(A, pivot=pivot)
    if host_array(info).any():
        bad = _first_bad(host_array(info))
        raise RuntimeError("torch.linalg.lu_factor: " + _batch(host_array(info), f"U[{bad},{bad}] is zero and using it on lu_solve would "
                                                                                 "result in a division "
                           "by zero. If you still want to perform the factorization, consider calling linalg.lu(A, pivot) or "
                           "linalg.lu_factor_ex(A, pivot)"))
    return _give_all(out, named("linalg_lu_factor", "LU", "pivots"), (LU, pivots))


@public(function=False, method=False)
def linalg_lu(A: Any, *, pivot: bool = True, out: Any = None) -> Any:
    """``(P, L, U)`` with ``A = P @ L @ U``."""
    LU, pivots, _ = linalg_lu_factor_ex(A, pivot=pivot)
    P, L, U = lu_unpack(LU, pivots)
    return _give_all(out, named("linalg_lu", "P", "L", "U"), (P if pivot else OPS["empty"](0, dtype=A.dtype), L, U))


@public(method=False)
def lu_unpack(LU_data: Any, LU_pivots: Any, unpack_data: bool = True, unpack_pivots: bool = True, *, out: Any = None) -> Any:
    """``(P, L, U)`` from packed factors and pivots."""
    m, n = LU_data.shape[-2:]
    nothing = OPS["empty"](0, dtype=LU_data.dtype)
    P, L, U = nothing, nothing, nothing
    if unpack_pivots:
        P = from_host(_permuting(_permutation(host_array(LU_pivots), m), host_array(LU_data).dtype))
    if unpack_data:
        L, U = _unpacked(LU_data, m, n)
    return _give_all(out, named("lu_unpack", "P", "L", "U"), (P, L, U))


@public(name="lu")
def lu(input: Any, pivot: bool = True, get_infos: bool = False) -> Any:
    """``(LU, pivots)`` or, with ``get_infos``, ``(LU, pivots, info)``; see ``linalg.lu_factor``."""
    LU, pivots, info = linalg_lu_factor_ex(input, pivot=pivot, check_errors=not get_infos)
    return (LU, pivots, info) if get_infos else (LU, pivots)


@public(function=False, method=False)
def linalg_lu_solve(LU: Any, pivots: Any, B: Any, *, left: bool = True, adjoint: bool = False, out: Any = None) -> Any:
    """The solution of ``A X = B`` (or ``X A = B``, or with ``A.mH``) from the factors of A."""
    P, L, U = lu_unpack(LU, pivots)
    if not left:
        return _given(out, linalg_lu_solve(LU, pivots, B.mT, adjoint=not adjoint).mT)
    if adjoint:
        y = linalg_solve_triangular(U.mT, B, upper=False)
        return _given(out, P @ linalg_solve_triangular(L.mT, y, upper=True, unitriangular=True))
    y = linalg_solve_triangular(L, P.mT @ B, upper=False, unitriangular=True)
    return _given(out, linalg_solve_triangular(U, y, upper=True))


@public
def lu_solve(b: Any, LU_data: Any, LU_pivots: Any, *, out: Any = None) -> Any:
    """The solution of ``A X = b`` from packed factors of A."""
    return linalg_lu_solve(LU_data, LU_pivots, b, out=out)


# ------------------------------------------------------------------ determinants, inverses, solutions


@public(function=False, method=False)
def linalg_det(A: Any, *, out: Any = None) -> Any:
    """The determinants of square matrices."""
    import numpy as np

    _square("linalg.det", A)
    made = from_host(np.asarray(np.linalg.det(host_array(A))))
    return _given(out, differentiable("LinalgDet", _det_gradient, [A], [made]))


def _det_gradient(g: Any, x: Any, y: Any, needs: Any) -> Any:
    A, = x
    if A.shape[-1] == 0:
        return (OPS["zeros_like"](A),)
    # cofactors through the singular values: right for singular matrices too
    U, S, Vh = linalg_svd(A.detach() if not MODE.grad else A, full_matrices=False)
    n = A.shape[-1]
    if bool((S[..., -1] > S[..., 0] * n * finfo(A.dtype).eps).all()):
        return ((g[0] * y[0])[..., None, None] * linalg_inv(A).mT,)
    others = OPS["stack"]([OPS["cat"]([S[..., :i], S[..., i + 1:]], -1).prod(-1) for i in range(n)], -1)
    sign = linalg_det(U.detach()) * linalg_det(Vh.detach())
    return ((g[0] * sign)[..., None, None] * ((U * others.unsqueeze(-2)) @ Vh),)


def _slogdet(name: str, result: str, A: Any, out: Any) -> Any:
    import numpy as np

    _square(name, A)
    sign, value = np.linalg.slogdet(host_array(A))
    parts = differentiable("LinalgSlogdet", lambda g, x, y, needs: (None if g[1] is None else g[1][..., None, None] * linalg_inv(x[0]).mT,), [A],
                           [from_host(np.asarray(sign)), from_host(np.asarray(value))])
    return _give_all(out, named(result, "sign", "logabsdet"), parts)


@public(function=False, method=False)
def linalg_slogdet(A: Any, *, out: Any = None) -> Any:
    """``(sign, logabsdet)`` of square matrices."""
    return _slogdet("linalg.slogdet", "linalg_slogdet", A, out)


@public
def slogdet(input: Any, *, out: Any = None) -> Any:
    """``(sign, logabsdet)`` of square matrices."""
    return _slogdet("linalg.slogdet", "slogdet", input, out)


@public
def det(input: Any) -> Any:
    """The determinants of square matrices."""
    return linalg_det(input)


@public
def logdet(input: Any) -> Any:
    """The logarithms of determinants; NaN where a determinant is negative."""
    sign, value = linalg_slogdet(input)
    return OPS["where"](sign == -1.0, math.nan, value)


@public(function=False, method=False)
def linalg_inv_ex(A: Any, *, check_errors: bool = False, out: Any = None) -> Any:
    """``(inverse, info)``: ``info`` is 0 for the matrices that could be inverted."""
    import numpy as np

    _square("linalg.inv", A)
    a = host_array(A)
    try:
        y = np.linalg.inv(a)
        info = np.zeros(a.shape[:-2], np.int32)
    except np.linalg.LinAlgError:
        _, _, info = _lu(a)
        y = np.full(a.shape, np.inf, a.dtype)
        good = info == 0
        y[good] = np.linalg.inv(a[good])
        if check_errors:
            raise LinAlgError("linalg.inv: " + _batch(info, f"The diagonal element {_first_bad(info)} is zero, the inversion could not be "
                                                            "completed because "
                              "the input matrix is singular.")) from None
    made = differentiable("LinalgInvEx", lambda g, x, y, needs: (-(y[0].mT @ g[0] @ y[0].mT),), [A], [from_host(y)])
    return _give_all(out, named("linalg_inv_ex", "inverse", "info"), (made, from_host(info)))


@public(function=False, method=False)
def linalg_inv(A: Any, *, out: Any = None) -> Any:
    """The inverses of square matrices; raises ``LinAlgError`` for a singular one."""
    return _given(out, linalg_inv_ex(A, check_errors=True)[0])


@public
def inverse(input: Any, *, out: Any = None) -> Any:
    """The inverses of square matrices; raises ``LinAlgError`` for a singular one."""
    return linalg_inv(input, out=out)


def _is_vector(A: Any, B: Any) -> bool:
    return bool(B.ndim == 1 or (A.ndim - 1 == B.ndim and B.shape == A.shape[:-1]))


@public(function=False, method=False)
def linalg_solve_ex(A: Any, B: Any, *, left: bool = True, check_errors: bool = False, out: Any = None) -> Any:
    """``(result, info)``: the solution of ``A X = B`` (``X A = B`` with ``left=False``), and 0 where A could be used."""
    import numpy as np

    _square("linalg.solve", A)
    _same("linalg.solve", A, B)
    vector = _is_vector(A, B)
    if vector and not left:
        raise RuntimeError("linalg.solve: Vector broadcasting of the left hand side is not supported for left=False. In this case "
                           "linalg.solve is equivalent "
                           "to B / A.squeeze(-1)")
    b = B.unsqueeze(-1) if vector else B
    if b.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(f"linalg.solve: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({A.shape[-2]}x{A.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})")
    broadcast_shapes(A.shape[:-2], b.shape[:-2])
    a, r = host_array(A), host_array(b)
    if not left:
        a, r = np.swapaxes(a, -1, -2), np.swapaxes(r, -1, -2)
    info = np.zeros(a.shape[:-2], np.int32)
    try:
        y = np.linalg.solve(a, r)
    except np.linalg.LinAlgError:
        _, _, info = _lu(a)
        if check_errors:
            raise LinAlgError("torch.linalg.solve: " + _batch(info, "The solver failed because the input matrix is singular.")) from None
        y = np.full((*broadcast_shapes(a.shape[:-2], r.shape[:-2]), *r.shape[-2:]), np.nan, a.dtype)
    y = np.swapaxes(y, -1, -2) if not left else y

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        gb = linalg_solve_ex(x[0].mT, g[0], left=left)[0]
        return (-(gb @ y[0].mT) if left else -(y[0].mT @ gb)) if needs[0] else None, gb

    made = differentiable("LinalgSolveEx", rule, [A, b], [from_host(y)])
    made = made.squeeze(-1) if vector else made
    return _give_all(out, named("linalg_solve_ex", "result", "info"), (made, from_host(info)))


@public(function=False, method=False)
def linalg_solve(A: Any, B: Any, *, left: bool = True, out: Any = None) -> Any:
    """The solution of ``A X = B`` (``X A = B`` with ``left=False``); raises ``LinAlgError`` when A is singular."""
    return _given(out, linalg_solve_ex(A, B, left=left, check_errors=True)[0])


@public(function=False, method=False)
def linalg_solve_triangular(A: Any, B: Any, *, upper: bool, left: bool = True, unitriangular: bool = False, out: Any = None) -> Any:
    """The solution of ``A X = B`` (``X A = B`` with ``left=False``) for triangular A, of which only that triangle is read."""
    import numpy as np

    _square("linalg.solve_triangular", A)
    _same("linalg.solve_triangular", A, B)
    if B.ndim < 2 or B.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(f"linalg.solve_triangular: Incompatible shapes of A and B for the equation {'AX = B' if left else 'XA = B'} "
                           f"({A.shape[-2]}x{A.shape[-1]} and {B.shape[-2] if B.ndim > 1 else 1}x{B.shape[-1]})")
    a, b = host_array(A), host_array(B)
    if not left:
        a, b = np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
    y = _substitute(a, b, upper == left, unitriangular)
    y = y if left else np.swapaxes(y, -1, -2)

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        gb = linalg_solve_triangular(x[0].mT, g[0], upper=not upper, left=left, unitriangular=unitriangular)
        ga = None
        if needs[0]:
            ga = -(gb @ y[0].mT) if left else -(y[0].mT @ gb)
            ga = OPS["triu"](ga, int(unitriangular)) if upper else OPS["tril"](ga, -int(unitriangular))
        return ga, gb

    return _given(out, differentiable("LinalgSolveTriangular", rule, [A, B], [from_host(y)]))


def _substitute(a: Any, b: Any, upper: bool, unit: bool) -> Any:
    """Back or forward substitution, one row of the whole batch at a time."""
    import numpy as np

    n = a.shape[-1]
    x = np.array(np.broadcast_to(b, (*broadcast_shapes(a.shape[:-2], b.shape[:-2]), *b.shape[-2:])))
    with np.errstate(all="ignore"):
        for i in range(n - 1, -1, -1) if upper else range(n):
            known = slice(i + 1, n) if upper else slice(0, i)
            x[..., i, :] -= (a[..., i, None, known] @ x[..., known, :])[..., 0, :]
            if not unit:
                x[..., i, :] /= a[..., i, i, None]
    return x


@public
def triangular_solve(b: Any, A: Any, upper: bool = True, transpose: bool = False, unitriangular: bool = False, *, out: Any = None) -> Any:
    """``(solution, cloned_coefficient)`` of ``A X = b`` for triangular A."""
    a = A.mT if transpose else A
    made = linalg_solve_triangular(a, b, upper=upper != transpose, unitriangular=unitriangular)
    return _give_all(out, named("triangular_solve", "solution", "cloned_coefficient"), (made, A.clone()))


# ------------------------------------------------------------------ Cholesky


@public(function=False, method=False)
def linalg_cholesky_ex(A: Any, *, upper: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """``(L, info)``: the lower (upper) Cholesky factor, and per matrix the order of the first minor that is not positive (0: none)."""
    import numpy as np

    _square("linalg.cholesky", A)
    a = host_array(A)
    a = np.swapaxes(a, -1, -2) if upper else a
    info = np.zeros(a.shape[:-2], np.int32)
    try:
        y = np.linalg.cholesky(a)
    except np.linalg.LinAlgError:
        y = np.zeros(a.shape, a.dtype)
        for i in np.ndindex(*a.shape[:-2]):
            y[i], info[i] = _cholesky(a[i])
        if check_errors:
            raise LinAlgError("linalg.cholesky: " + _batch(info, "The factorization could not be completed because the input is not "
                                                                 "positive-definite "
                              f"(the leading minor of order {_first_bad(info)} is not positive-definite).")) from None

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        L, gL = (y[0].mT, g[0].mT) if upper else (y[0], g[0])
        inner = OPS["tril"](L.mT @ gL)
        inner = inner - 0.5 * OPS["diag_embed"](inner.diagonal(0, -2, -1))
        inner = linalg_solve_triangular(L.mT, inner, upper=True)
        inner = linalg_solve_triangular(L, inner, upper=False, left=False)
        return (0.5 * (inner + inner.mT),)

    made = differentiable("LinalgCholeskyEx", rule, [A], [from_host(np.swapaxes(y, -1, -2) if upper else y)])
    return _give_all(out, named("linalg_cholesky_ex", "L", "info"), (made, from_host(info)))


def _cholesky(a: Any) -> tuple[Any, int]:
    """The factor as far as it exists, and the order of the minor where it ends."""
    import numpy as np

    for k in range(1, len(a) + 1):
        try:
            np.linalg.cholesky(a[:k, :k])
        except np.linalg.LinAlgError:
            return np.tril(a), k
    return np.linalg.cholesky(a), 0


@public(function=False, method=False)
def linalg_cholesky(A: Any, *, upper: bool = False, out: Any = None) -> Any:
    """The Cholesky factor of symmetric positive-definite matrices; raises ``LinAlgError`` for others."""
    return _given(out, linalg_cholesky_ex(A, upper=upper, check_errors=True)[0])


@public
def cholesky(input: Any, upper: bool = False, *, out: Any = None) -> Any:
    """``linalg.cholesky`` under its old name."""
    return linalg_cholesky(input, upper=upper, out=out)


@public
def cholesky_solve(input: Any, L: Any, upper: bool = False, *, out: Any = None) -> Any:
    """The solution of ``A X = input`` from the Cholesky factor of A."""
    if upper:
        made = linalg_solve_triangular(L, linalg_solve_triangular(L.mT, input, upper=False), upper=True)
    else:
        made = linalg_solve_triangular(L.mT, linalg_solve_triangular(L, input, upper=False), upper=True)
    return _given(out, made)


@public
def cholesky_inverse(L: Any, upper: bool = False, *, out: Any = None) -> Any:
    """The inverse of A from its Cholesky factor."""
    _square("cholesky_inverse", L)
    made = cholesky_solve(_eye(L).expand(L.shape), L.detach(), upper)

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        inner = y[0] @ (g[0] + g[0].mT) @ y[0]
        return (-(x[0] @ inner) if upper else -(inner @ x[0]),)

    return _given(out, differentiable("CholeskyInverse", rule, [L], [made]))


# ------------------------------------------------------------------ QR, SVD, eigenvalues


@public(function=False, method=False)
def linalg_qr(A: Any, mode: str = "reduced", *, out: Any = None) -> Any:
    """``(Q, R)`` with ``A = Q @ R``; ``mode``: "reduced", "complete", or "r" (no Q)."""
    return _qr("linalg_qr", A, mode, out)


def _qr(result: str, A: Any, mode: str, out: Any) -> Any:
    import numpy as np

    _matrix("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'")
    a = host_array(A)
    m, n = a.shape[-2:]
    made = named(result, "Q", "R")
    if mode == "r":
        if MODE.grad and A._node is not None:
            raise RuntimeError("The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use linalg.qr(A, "
                               "mode='reduced') "
                               "if you are going to differentiate through linalg.qr.")
        return _give_all(out, made, (OPS["empty"](0, dtype=A.dtype), from_host(np.linalg.qr(a, "r"))))
    q, r = np.linalg.qr(a, mode)  # type: ignore[call-overload]  # one of the known modes

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        if mode == "complete" and m > n:
            raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
        return (_qr_gradient(x[0], y[0], y[1], g[0], g[1]),)

    return _give_all(out, made, differentiable("LinalgQr", rule, [A], [from_host(q), from_host(r)]))


def _qr_gradient(A: Any, Q: Any, R: Any, gQ: Any, gR: Any) -> Any:
    m, n = A.shape[-2:]
    gQ = OPS["zeros_like"](Q) if gQ is None else gQ
    gR = OPS["zeros_like"](R) if gR is None else gR
    if m < n:
        # the columns beyond the square part are Q times those of R
        rest = gR[..., m:]
        return OPS["cat"]([_qr_gradient(A[..., :m], Q, R[..., :m], gQ + A[..., m:] @ rest.mT, gR[..., :m]), Q @ rest], -1)
    inner = R @ gR.mT - gQ.mT @ Q
    inner = OPS["tril"](inner) + OPS["tril"](inner, -1).mT
    return linalg_solve_triangular(R.mT, gQ + Q @ inner, upper=False, left=False)


@public
def qr(input: Any, some: bool = True, *, out: Any = None) -> Any:
    """``linalg.qr`` under its old name."""
    return _qr("qr", input, "reduced" if some else "complete", out)


@public(function=False, method=False)
def linalg_svd(A: Any, full_matrices: bool = True, *, driver: str | None = None, out: Any = None) -> Any:
    """``(U, S, Vh)`` with ``A = U @ diag(S) @ Vh`` and S falling."""
    import numpy as np

    _matrix("linalg.svd", A)
    u, s, vh = np.linalg.svd(host_array(A), full_matrices=full_matrices)
    k = s.shape[-1]

    def rule(g: Any, x: Any, y: Any, needs: Any) -> Any:
        gU = None if g[0] is None else g[0][..., :, :k]
        gVh = None if g[2] is None else g[2][..., :k, :]
        return (_svd_gradient(y[0][..., :, :k], y[1], y[2][..., :k, :], gU, g[1], gVh),)

    return _give_all(out, named("linalg_svd", "U", "S", "Vh"), differentiable("LinalgSvd", rule, [A], [from_host(u), from_host(s), from_host(vh)]))


def _svd_gradient(U: Any, S: Any, Vh: Any, gU: Any, gS: Any, gVh: Any) -> Any:
    inner = None if gS is None else OPS["diag_embed"](gS)
    if gU is None and gVh is None:
        return None if inner is None else (U * gS.unsqueeze(-2)) @ Vh
    gaps = S.unsqueeze(-2) ** 2 - S.unsqueeze(-1) ** 2 + _eye(S)        # 1 on the diagonal, where the numerator is 0
    both = 0
    extra = 0
    if gU is not None:
        t = U.mT @ gU
        both = both + (t - t.mT) / gaps * S.unsqueeze(-2)
        if U.shape[-2] > U.shape[-1]:
            extra = extra + ((gU - U @ t) / S.unsqueeze(-2)) @ Vh
    if gVh is not None:
        t = Vh @ gVh.mT
        both = both + S.unsqueeze(-1) * ((t - t.mT) / gaps)
        if Vh.shape[-1] > Vh.shape[-2]:
            extra = extra + (U / S.unsqueeze(-2)) @ (gVh - t.mT @ Vh)
    return U @ (both if inner is None else both + inner) @ Vh + extra


@public
def svd(input: Any, some: bool = True, compute_uv: bool = True, *, out: Any = None) -> Any:
    """``(U, S, V)`` with ``input = U @ diag(S) @ V.mT``."""
    if not compute_uv:
        m, n = input.shape[-2:]
        zeros = [OPS["zeros"]((*input.shape[:-2], k, k), dtype=input.dtype) for k in (m, n)]
        return _give_all(out, named("svd", "U", "S", "V"), (zeros[0], linalg_svdvals(input), zeros[1]))
    U, S, Vh = linalg_svd(input, not some)
    return _give_all(out, named("svd", "U", "S", "V"), (U, S, Vh.mT))


@public(function=False, method=False)
def linalg_svdvals(A: Any, *, driver: str | None = None, out: Any = None) -> Any:
    """The singular values, falling."""
    _matrix("linalg.svdvals", A)
    if MODE.grad and A._node is not None:
        return linalg_svd(A, False)[1]
    import numpy as np

    return _given(out, from_host(np.linalg.svd(host_array(A), compute_uv=False)))


@public(function=False, method=False)
def linalg_eigh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """``(eigenvalues, eigenvectors)`` of symmetric matrices, rising; only one triangle (``UPLO``) is read."""
    import numpy as np

    _square("linalg.eigh", A)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    w, v = np.linalg.eigh(host_array(A), UPLO.upper())  # type: ignore[call-overload]  # L or U
    parts = differentiable("LinalgEigh", lambda g, x, y, needs: (_eigh_gradient(y[0], y[1], g[0], g[1]),), [A], [from_host(w), from_host(v)])
    return _give_all(out, named("linalg_eigh", "eigenvalues", "eigenvectors"), parts)


def _eigh_gradient(L: Any, V: Any, gL: Any, gV: Any) -> Any:
    if gV is None:
        return None if gL is None else (V * gL.unsqueeze(-2)) @ V.mT
    inner = V.mT @ gV
    inner = 0.5 * (inner - inner.mT) / (L.unsqueeze(-2) - L.unsqueeze(-1) + _eye(L))        # 1 on the diagonal, where the numerator is 0
    return V @ (inner if gL is None else inner + OPS["diag_embed"](gL)) @ V.mT


@public(function=False, method=False)
def linalg_eigvalsh(A: Any, UPLO: str = "L", *, out: Any = None) -> Any:
    """The eigenvalues of symmetric matrices, rising."""
    return _given(out, linalg_eigh(A, UPLO)[0])


# ------------------------------------------------------------------ pseudo-inverses and least squares


@public(function=False, method=False)
def linalg_pinv(A: Any, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None, out: Any = None) -> Any:
    """The Moore-Penrose inverse; singular values up to ``max(atol, rtol * largest)`` count as zero."""
    import numpy as np

    _matrix("linalg.pinv", A)
    a = host_array(A)
    rtol = rcond if rtol is None else rtol
    if hermitian:
        a = np.tril(a) + np.swapaxes(np.tril(a, -1), -1, -2)
    if a.size == 0:
        y = np.zeros((*a.shape[:-2], a.shape[-1], a.shape[-2]), a.dtype)
    else:
        u, s, vh = np.linalg.svd(a, full_matrices=False)
        limit = _threshold(s, atol, rtol, max(a.shape[-2:]), A.dtype)
        inverse_s = np.where(s > limit, 1 / np.where(s == 0, 1, s), 0)
        y = np.swapaxes(vh, -1, -2) @ (inverse_s[..., None] * np.swapaxes(u, -1, -2))
    return _given(out, differentiable("LinalgPinv", _pinv_gradient, [A], [from_host(y.astype(a.dtype))]))


def _threshold(s: Any, atol: Any, rtol: Any, n: int, d: Any) -> Any:
    """The limit under which singular values count as zero."""
    import numpy as np

    atol = 0.0 if atol is None else host_array(atol)[..., None] if isinstance(atol, definition.Tensor) else atol
    if rtol is None:
        rtol = n * finfo(d).eps if np.all(np.asarray(atol) == 0) else 0.0
    elif isinstance(rtol, definition.Tensor):
        rtol = host_array(rtol)[..., None]
    return np.maximum(atol, rtol * (s.max(-1, keepdims=True) if s.shape[-1] else 0))


def _pinv_gradient(g: Any, x: Any, y: Any, needs: Any) -> Any:
    (A,), (Y,), (g,) = x, y, g
    rows, columns = A.shape[-2:]
    gt = g.mT
    made = -(Y.mT @ g @ Y.mT)
    made = made + (_eye(A, rows) - A @ Y) @ gt @ Y @ Y.mT
    return (made + Y.mT @ Y @ gt @ (_eye(A, columns) - Y @ A),)


@public
def pinverse(input: Any, rcond: float = 1e-15) -> Any:
    """``linalg.pinv`` under its old name."""
    return linalg_pinv(input, rcond)


@public(function=False, method=False)
def linalg_matrix_rank(A: Any, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None, out: Any = None) -> Any:
    """The number of singular values above ``max(atol, rtol * largest)``."""
    import numpy as np

    _matrix("linalg.matrix_rank", A)
    a = host_array(A)
    s = np.abs(np.linalg.eigvalsh(a)) if hermitian else np.linalg.svd(a, compute_uv=False)
    if tol is not None:
        atol, rtol = tol, 0.0
    limit = _threshold(s, atol, rtol, max(a.shape[-2:], default=0), A.dtype)
    return _given(out, from_host(np.asarray((s > limit).sum(-1), np.int64)))


@public(function=False, method=False)
def linalg_lstsq(A: Any, B: Any, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """``(solution, residuals, rank, singular_values)`` of least ``|A X - B|``."""
    import numpy as np

    _matrix("torch.linalg.lstsq", A, "input")
    if driver not in (None, "gels", "gelsy", "gelsd", "gelss"):
        raise RuntimeError(f"torch.linalg.lstsq: parameter `driver` should be one of (gels, gelsy, gelsd, gelss), but got {driver}")
    if A.dtype is not B.dtype:
        raise RuntimeError(f"torch.linalg.lstsq: input and other must have the same dtype, but got {A.dtype} and {B.dtype}")
    vector = _is_vector(A, B) and B.ndim < A.ndim
    b = B.unsqueeze(-1) if vector else B
    if A.shape[-2] != b.shape[-2]:
        raise RuntimeError(f"torch.linalg.lstsq: input.size(-2) should match other.size({-1 if vector else -2})")
    solution = linalg_pinv(A, rcond) @ b
    m, n = A.shape[-2:]
    none = OPS["empty"](0, dtype=A.dtype)
    residuals = none
    rank = from_host(np.empty(0, np.int64))
    values = none
    if driver != "gels":
        rank = linalg_matrix_rank(A, rtol=rcond)
    if m > n and (driver == "gels" or bool((rank == n).all())):
        residuals = ((A @ solution - b) ** 2).sum(-2)
    if driver in ("gelsd", "gelss"):
        values = linalg_svdvals(A.detach())
    solution = solution.squeeze(-1) if vector else solution
    return named("linalg_lstsq", "solution", "residuals", "rank", "singular_values")(solution, residuals, rank, values)


# ------------------------------------------------------------------ powers, products, functions of matrices


@public(function=False, method=False)
def linalg_matrix_power(A: Any, n: int, *, out: Any = None) -> Any:
    """``A`` multiplied ``n`` times; a negative ``n`` uses the inverse."""
    if A.ndim < 2:
        raise RuntimeError("linalg.matrix_power: The input tensor A must have at least 2 dimensions.")
    if A.shape[-1] != A.shape[-2]:
        raise RuntimeError(f"linalg.matrix_power: A must be batches of square matrices, but they are {A.shape[-2]} by "
                           f"{A.shape[-1]} matrices")
    if n < 0:
        A, n = linalg_inv(A), -n
    if n == 0:
        return _given(out, _eye(A).expand(A.shape).clone())
    made = None
    while n:
        if n & 1:
            made = A if made is None else made @ A
        n >>= 1
        A = A @ A if n else A
    assert made is not None
    return _given(out, made.clone() if out is None and made is A else made)


@public(function=False, method=False)
def linalg_matrix_exp(A: Any) -> Any:
    """The exponential of square matrices, by scaling, a Taylor sum and squaring."""
    _square("linalg.matrix_exp", A)
    return differentiable("LinalgMatrixExp", _exp_gradient, [A], [from_host(_matrix_exp(host_array(A)))])


def _matrix_exp(a: Any) -> Any:
    import numpy as np

    x = a.astype(np.float64)
    norm = np.abs(x).sum(-2).max(-1, initial=0) if x.size else np.zeros(x.shape[:-2])
    with np.errstate(divide="ignore"):
        squarings = np.where(norm > 0.5, np.ceil(np.log2(np.maximum(norm, 1e-300) / 0.5)), 0).astype(int)
    x = x / (2.0 ** squarings)[..., None, None]
    eye = np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    term, y = eye, eye
    for k in range(1, 19):       # |x| <= 1/2: the next term is below 2^-53
        term = term @ x / k
        y = y + term
    for k in range(int(squarings.max(initial=0))):
        y = np.where((k < squarings)[..., None, None], y @ y, y)
    return y.astype(a.dtype)


def _exp_gradient(g: Any, x: Any, y: Any, needs: Any) -> Any:
    # the derivative stands in the upper right block of the exponential of a matrix of blocks
    A, n = x[0].mT, x[0].shape[-1]
    top = OPS["cat"]([A, g[0]], -1)
    bottom = OPS["cat"]([OPS["zeros_like"](A), A], -1)
    return (linalg_matrix_exp(OPS["cat"]([top, bottom], -2))[..., :n, n:],)


@public
def matrix_exp(input: Any) -> Any:
    """The exponential of square matrices."""
    return linalg_matrix_exp(input)


@public(function=False, method=False)
@takes_tensors
def linalg_multi_dot(tensors: Any, *, out: Any = None) -> Any:
    """The product of two or more matrices in the cheapest order; the first and the last may be vectors."""
    parts = list(tensors)
    if len(parts) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(parts)}")
    first, last = parts[0].ndim == 1, parts[-1].ndim == 1
    parts[0] = parts[0].unsqueeze(0) if first else parts[0]
    parts[-1] = parts[-1].unsqueeze(1) if last else parts[-1]
    for i, x in enumerate(parts):
        if x.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {x.ndim}D")
    for i in range(len(parts) - 1):
        if parts[i].shape[1] != parts[i + 1].shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(parts[i].shape)} and {list(parts[i + 1].shape)} "
                               "cannot be multiplied")
    sizes = [parts[0].shape[0], *(x.shape[1] for x in parts)]
    split = _cheapest(sizes)

    def product(i: int, j: int) -> Any:
        return parts[i] if i == j else product(i, split[i, j]) @ product(split[i, j] + 1, j)

    made = product(0, len(parts) - 1)
    if first:
        made = made.squeeze(0)
    if last:
        made = made.squeeze(-1)
    return _given(out, made)


def _cheapest(sizes: Sequence[int]) -> dict[tuple[int, int], int]:
    """Where to split each chain of products so that the multiplications are fewest."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    split: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            ways = [cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)]
            best = min(range(len(ways)), key=ways.__getitem__)
            cost[i, j], split[i, j] = ways[best], i + best
    return split


@public(function=False, method=False)
def linalg_householder_product(input: Any, tau: Any, *, out: Any = None) -> Any:
    """The first columns of a product of Householder reflections given by their vectors and factors."""
    m, n = input.shape[-2:]
    Q = OPS["eye"](m, dtype=input.dtype, device=input.device).expand(*input.shape[:-2], m, m)
    lower = OPS["tril"](input, -1) + OPS["eye"](m, n, dtype=input.dtype, device=input.device)
    for k in range(tau.shape[-1]):
        v = lower[..., :, k:k + 1]
        Q = Q - tau[..., k, None, None] * (Q @ v) @ v.mT
    return _given(out, Q[..., :, :n])


@public
def orgqr(input: Any, input2: Any, *, out: Any = None) -> Any:
    """``linalg.householder_product`` under its old name."""
    return linalg_householder_product(input, input2, out=out)


@public
def ormqr(input: Any, tau: Any, other: Any, left: bool = True, transpose: bool = False, *, out: Any = None) -> Any:
    """``Q @ other`` (``other @ Q`` with ``left=False``, ``Q.mT`` with ``transpose``) for the square Q of Householder reflections."""
    if input.ndim < 2:
        raise RuntimeError("torch.ormqr: input must have at least 2 dimensions.")
    if tau.shape[-1] > input.shape[-1]:
        raise RuntimeError("torch.ormqr: tau.shape[-1] must be less than or equal to input.shape[-1]")
    m = other.shape[-2 if left else -1]
    if input.shape[-2] != m:
        raise RuntimeError(f"torch.ormqr: other.shape[{-2 if left else -1}] must be equal to input.shape[-2]")
    k = tau.shape[-1]
    wide = OPS["cat"]([input[..., :k], OPS["zeros"]((*input.shape[:-1], m - k), dtype=input.dtype, device=input.device)], -1)
    Q = linalg_householder_product(wide, tau)
    Q = Q.mT if transpose else Q
    return _given(out, Q @ other if left else other @ Q)


@public
def geqrf(input: Any, *, out: Any = None) -> Any:
    """``(a, tau)``: the Householder vectors below the diagonal, R on and above it, and the factors of the reflections."""
    import numpy as np

    _matrix("torch.geqrf", input)
    h, tau = np.linalg.qr(host_array(input), "raw")
    return _give_all(out, named("geqrf", "a", "tau"), (from_host(np.swapaxes(h, -1, -2)), from_host(tau)))


@public(method=False)
def svd_lowrank(A: Any, q: int | None = 6, niter: int | None = 2, M: Any = None) -> Any:
    """An approximate ``(U, S, V)`` of rank ``q``: the SVD within the range of A, found by powers of A on random vectors.

    N. Halko, P. G. Martinsson, J. A. Tropp, "Finding structure with randomness", SIAM Review 53 (2011), algorithms 4.4 and 5.1.
    """
    A = A if M is None else A - M
    tall = A.shape[-2] >= A.shape[-1]
    x = A if tall else A.mT
    Q = linalg_qr(x @ OPS["randn"](x.shape[-1], 6 if q is None else q, dtype=A.dtype))[0]
    for _ in range(2 if niter is None else niter):
        Q = linalg_qr(x @ linalg_qr(x.mT @ Q)[0])[0]
    U, S, Vh = linalg_svd(Q.mT @ x, False)
    U, V = Q @ U, Vh.mT
    return (U, S, V) if tall else (V, S, U)


@public(function=False, method=False)
def linalg_tensorinv(A: Any, ind: int = 2, *, out: Any = None) -> Any:
    """The inverse of ``tensordot`` with ``A`` over ``ind`` dimensions."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    rows, columns = math.prod(A.shape[:ind]), math.prod(A.shape[ind:])
    if rows != columns:
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
                           f"{columns} != {rows}")
    return _given(out, linalg_inv(A.reshape(rows, columns)).reshape((*A.shape[ind:], *A.shape[:ind])))


@public(function=False, method=False)
def linalg_tensorsolve(A: Any, B: Any, dims: Any = None, *, out: Any = None) -> Any:
    """``X`` with ``tensordot(A, X, X.ndim) == B``."""
    if dims is not None:
        moved = [wrap_dim(d, A.ndim) for d in dims]
        A = A.movedim(moved, list(range(A.ndim - len(moved), A.ndim)))
    shape = A.shape[B.ndim:]
    n = math.prod(shape)
    if n != B.numel():
        raise RuntimeError("Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), but "
                           f"got {n} != {B.numel()}")
    return _given(out, linalg_solve(A.reshape(B.numel(), n), B.reshape(-1)).reshape(shape))


# ------------------------------------------------------------------ norms


@public(function=False, method=False)
def linalg_vector_norm(x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None) -> Any:
    """``sum(|x| ** ord) ** (1 / ord)`` over ``dim`` (all when None); the limits for ±inf, the number of non-zeros for 0."""
    if not x.dtype.is_floating_point:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {title(x.dtype)}\nConvert it "
                           "with .float().")
    x = x if dtype is None else x.to(dtype)
    if dim is None:
        dims = tuple(range(x.ndim))
    else:
        dims = tuple(wrap_dim(d, x.ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))) or tuple(range(x.ndim))
    if x.ndim == 0:
        dims = ()
    if any(x.shape[d] == 0 for d in dims) and (ord == math.inf or ord < 0):
        raise RuntimeError(f"linalg.vector_norm cannot compute the {ord} norm on an empty tensor because the operation does not have "
                           "an identity")
    return _given(out, OPS["norm"](x, ord, dims if x.ndim else None, keepdim))


def _two(dim: Any, ndim: int, name: str) -> tuple[int, int]:
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {dim}")
    a, b = (wrap_dim(d, ndim) for d in dim)
    if a == b:
        raise RuntimeError(f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    return a, b


@public(function=False, method=False)
def linalg_matrix_norm(A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None, out: Any = None) -> Any:
    """The Frobenius ("fro"), nuclear ("nuc"), spectral (2, -2), column (1, -1) or row (±inf) norm of matrices."""
    if A.ndim < 2:
        raise RuntimeError("linalg.matrix_norm: The input tensor A must have at least 2 dimensions.")
    if not A.dtype.is_floating_point:
        raise RuntimeError(f"linalg.matrix_norm: Expected a floating point or complex tensor as input. Got {title(A.dtype)}\nConvert it "
                           "with .float().")
    a, b = _two(dim, A.ndim, "linalg.matrix_norm")
    A = A if dtype is None else A.to(dtype)
    if ord == "fro":
        return _given(out, linalg_vector_norm(A, 2, (a, b), keepdim))
    if ord in ("nuc", 2, -2):
        s = linalg_svdvals(A.movedim((a, b), (-2, -1)))
        made = s.sum(-1) if ord == "nuc" or (ord == 2 and s.shape[-1] == 0) else s.amax(-1) if ord == 2 else s.amin(-1)
        if keepdim:
            for d in sorted((a, b)):
                made = made.unsqueeze(d)
        return _given(out, made)
    if ord not in (1, -1, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    inner, outer = (b, a) if abs(ord) == math.inf else (a, b)
    sums = A.abs().sum(inner, keepdim=True)
    if ord > 0:
        made = sums.amax(outer, keepdim=True) if sums.shape[outer] else sums.sum(outer, keepdim=True)
    else:
        made = sums.amin(outer, keepdim=True)
    return _given(out, made if keepdim else made.squeeze((a, b)))


@public(function=False, method=False)
def linalg_norm(A: Any, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None, out: Any = None) -> Any:
    """A vector norm over one dimension (or of everything), a matrix norm over two."""
    several = isinstance(dim, (tuple, list))
    if ord is None:
        if not A.dtype.is_floating_point and dtype is None:
            raise RuntimeError("linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
                               f"{title(A.dtype)}\nConvert it "
                               "with .float().")
        return linalg_vector_norm(A, 2, dim, keepdim, dtype=dtype, out=out)
    if dim is None:
        if A.ndim not in (1, 2):
            raise RuntimeError(f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {A.ndim}D.")
        dim = (0,) if A.ndim == 1 else (0, 1)
        several = True
    if several and len(dim) == 2:
        return linalg_matrix_norm(A, ord, dim, keepdim, dtype=dtype, out=out)
    if isinstance(ord, str):
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {dim}\nord='{ord}' is a norm of matrices.")
    return linalg_vector_norm(A, ord, dim, keepdim, dtype=dtype, out=out)


@public(function=False, method=False)
def linalg_cond(A: Any, p: Any = None, *, out: Any = None) -> Any:
    """The condition number: by singular values for ``p`` None, 2 or -2, else ``norm(A) * norm(inv(A))``."""
    if A.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor A must have at least 2 dimensions.")
    if p in (None, 2, -2):
        s = linalg_svdvals(A)
        return _given(out, s[..., 0] / s[..., -1] if p != -2 else s[..., -1] / s[..., 0])
    _square("linalg.cond", A)
    inverse_, info = linalg_inv_ex(A)
    bad = host_array(info) != 0
    made = linalg_matrix_norm(A, p) * linalg_matrix_norm(inverse_, p)
    return _given(out, OPS["where"](from_host(bad), math.inf, made) if bad.any() else made)


# ------------------------------------------------------------------ other names


@public(function=False, method=False)
def linalg_vecdot(x: Any, y: Any, *, dim: int = -1, out: Any = None) -> Any:
    """``(x * y).sum(dim)``."""
    return _given(out, (x * y).sum(dim))


@public(function=False, method=False)
def linalg_diagonal(A: Any, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The diagonals of matrices; a view."""
    return A.diagonal(offset, dim1, dim2)


@public(function=False, method=False)
def linalg_vander(x: Any, N: int | None = None) -> Any:
    """Rows of powers ``x ** 0 .. x ** (N - 1)``."""
    n = x.shape[-1] if N is None else N
    if n < 1 and N is not None:
        raise RuntimeError("N must be greater than 1.")
    powers = OPS["arange"](n, device=x.device)
    return x.unsqueeze(-1) ** powers


@public(function=False, method=False)
def linalg_cross(input: Any, other: Any, *, dim: int = -1, out: Any = None) -> Any:
    """The cross product along a dimension of size 3."""
    return OPS["cross"](input, other, dim=dim, out=out) if out is not None else OPS["cross"](input, other, dim=dim)


@public(function=False, method=False)
def linalg_matmul(input: Any, other: Any, *, out: Any = None) -> Any:
    """``torch.matmul``."""
    return _given(out, OPS["matmul"](input, other))


__all__ = ["differentiable"]
