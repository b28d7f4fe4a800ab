"""Contractions: sums of products over shared axes.

Everything here ends in one primitive, :func:`matmul`; the other names check their arguments as PyTorch does and arrange their
operands for it.  The scheduler gives large ones to the product engine (``schedule/contract.py``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..core.dtype import bool_, compute_dtype, promote_types
from ..core.dtype import dtype as DType
from ..core.errors import no_tensor, takes_tensors
from ..core.shape import Meta, broadcast_shapes, count, wrap_dim
from .composite import composite, public
from .definition import OPS, compute, store, title
from .formula import Operand, Reduced, Sum, out, over

Tensor = Any

_C_NAMES = {
    "float32": "float",
    "float64": "double",
    "float16": "c10::Half",
    "bfloat16": "c10::BFloat16",
    "int64": "long int",
    "int32": "int",
    "int16": "short",
    "int8": "signed char",
    "uint8": "unsigned char",
    "bool": "bool",
}


# ------------------------------------------------------------------ checks


def _c_name(d: DType) -> str:
    """The C++ name of a dtype, as it stands in PyTorch's messages."""
    return _C_NAMES[d.name]


def _convert(a: DType, b: DType) -> str:
    """What to do about two dtypes that should be one."""
    narrow = a if a.itemsize < b.itemsize or (a.is_floating_point and not b.is_floating_point) else b
    hint = " (NumPy arrays are float64 by default)" if "float64" in (a.name, b.name) and {a.category, b.category} == {2} else ""
    return f"Convert one of them, for example x.to(torch.{narrow.name}){hint}."


def _shape_error(head: str, name: str, a: Sequence[int], b: Sequence[int], more: str = "") -> RuntimeError:
    return RuntimeError(f"{head}\n{name}: cannot multiply {list(a)} by {list(b)}: {more or _advice(a, b)}")


def _advice(a: Sequence[int], b: Sequence[int]) -> str:
    """Why two shapes do not fit, and what would."""
    inner = b[-2] if len(b) > 1 else b[0]
    text = f"the last size of the first ({a[-1]}) must equal the {'second to last' if len(b) > 1 else 'only'} size of the second ({inner})."
    if len(b) > 1 and b[-1] == a[-1]:
        text += " Transpose the second: b.mT."
    elif len(a) > 1 and a[-2] == inner:
        text += " Transpose the first: a.mT."
    return text


def _check_product(name: str, a: Meta, b: Meta) -> None:
    """Refuse operands of :func:`matmul` that do not go together, each combination of dimensions in PyTorch's words."""
    if a.ndim == 0 or b.ndim == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D\n"
            f"{name}: got shapes {list(a.shape)} and {list(b.shape)}. To scale by a number use *."
        )
    batched = b.ndim > 2
    if a.dtype is not b.dtype:
        detail = f"\n{name}: the operands are {a.dtype.name} and {b.dtype.name}. {_convert(a.dtype, b.dtype)}"
        if a.ndim == b.ndim == 1:
            raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {title(a.dtype)} and {title(b.dtype)}{detail}")
        if b.ndim == 1:
            raise RuntimeError(
                f"addmv input tensors must have the same dtype, but got {title(b.dtype)}, {title(a.dtype)}, and {title(b.dtype)}{detail}"
            )
        if batched:
            raise RuntimeError(f"expected scalar type {title(a.dtype)} but found {title(b.dtype)}{detail}")
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {_c_name(a.dtype)} != {_c_name(b.dtype)}{detail}")
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        k = a.shape[-1]
        if a.ndim == b.ndim == 1:
            raise _shape_error(
                f"inconsistent tensor size, expected tensor [{k}] and src [{inner}] to have the same number of elements, but got "
                f"{k} and {inner} "
                "elements respectively",
                name,
                a.shape,
                b.shape,
            )
        rows = count(a.shape[:-1])
        if b.ndim == 1:
            raise _shape_error(f"size mismatch, got input ({rows}), mat ({rows}x{k}), vec ({inner})", name, a.shape, b.shape)
        if batched:
            batch = count(broadcast_shapes(a.shape[:-2], b.shape[:-2]))
            raise _shape_error(
                f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {k}] but got: [{batch}, {inner}].",
                name,
                a.shape,
                b.shape,
            )
        raise _shape_error(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{k} and {inner}x{b.shape[-1]})", name, a.shape, b.shape)
    if a.dtype is bool_:
        kernel = "dot" if a.ndim == b.ndim == 1 else "addmv_impl_cpu" if b.ndim == 1 else "bmm" if batched else "addmm_impl_cpu_"
        raise NotImplementedError(
            f"\"{kernel}\" not implemented for 'Bool'\n{name}: bool tensors have no products; convert them with .float() or .long()."
        )


def _node(a: Meta, b: Meta) -> str:
    """PyTorch's name of the graph node for these operands."""
    if b.ndim == 1:
        return "Dot" if a.ndim == 1 else "Mv" if a.ndim == 2 else "UnsafeView"
    if b.ndim == 2 and a.ndim < 3:
        return "SqueezeBackward4" if a.ndim == 1 else "Mm"
    return "UnsafeView"


# ------------------------------------------------------------------ the primitive


def _product(a: Operand, b: Operand) -> Reduced:
    """The formula of every product of matrices."""
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    n = out(*batch)
    i = out(*a.shape[-2:-1])  # nothing for a vector
    j = out(b.shape[-1]) if b.ndim > 1 else ()
    k = over(a.shape[-1])

    def places(shape: Sequence[int]) -> list[Any]:
        """The batch indices of one operand: 0 where it is stretched."""
        sizes = shape[:-2]
        return [0 if size == 1 else x for size, x in zip(sizes, n[len(n) - len(sizes) :], strict=True)]

    return Sum(a[(*places(a.shape), *i, k)] * b[(*places(b.shape), k, *j)], k)


@compute(node=_node)
def matmul(input, other):
    """The matrix product ``(*B, I, K) @ (*B, K, J) -> (*B, I, J)``.

    Batch dimensions are broadcast.  A 1-D first operand is a row, a 1-D second one a column; the dimension added for that is
    removed from the result, so two vectors give their inner product, 0-d.

    Raises
    ------
    RuntimeError
        If the inner sizes, the batch sizes or the dtypes do not go together.
    """
    _check_product("matmul", input.meta, other.meta)
    return _product(input, other)


@matmul.backward
def _(g, input, other, needs):
    return _gradients(g, input, other, needs)


def _gradients(g: Any, a: Any, b: Any, needs: tuple[bool, ...]) -> tuple[Any, Any]:
    """The gradients of ``a @ b``; what was broadcast is folded back by the caller."""
    first, second = needs
    if a.ndim == 1 and b.ndim == 1:
        return g * b if first else None, g * a if second else None
    if a.ndim == 1:  # a row: (K) @ (*B, K, J)
        return matmul(b, g.unsqueeze(-1)).squeeze(-1) if first else None, a.unsqueeze(-1) * g.unsqueeze(-2) if second else None
    if b.ndim == 1:  # a column: (*B, I, K) @ (K)
        return g.unsqueeze(-1) * b if first else None, matmul(_rows(a).t(), g.reshape(-1)) if second else None
    if b.ndim == 2:  # one matrix for the whole batch: its gradient sums over the batch inside the product
        return matmul(g, b.t()) if first else None, matmul(_rows(a).t(), _rows(g)) if second else None
    return matmul(g, b.mT) if first else None, matmul(a.mT, g) if second else None


def _rows(x: Any) -> Any:
    """A batch of matrices as one tall matrix."""
    return x if x.ndim == 2 else x.reshape(count(x.shape[:-1]), x.shape[-1])


# ------------------------------------------------------------------ products of certain shapes


@public
def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two matrices, ``(I, K) @ (K, J)``; no broadcasting."""
    try:
        fits = (input.ndim, mat2.ndim) == (2, 2)
    except AttributeError as error:
        raise no_tensor(error, "mm", ("input", "mat2"), (input, mat2)) from None
    if not fits:
        which = "self" if input.ndim != 2 else "mat2"
        raise RuntimeError(
            f"{which} must be a matrix\nmm: got {list(input.shape)} and {list(mat2.shape)}; matmul (a @ b) takes any number of dimensions."
        )
    return matmul(input, mat2) if out is None else matmul(input, mat2, out=out)


@compute
def bmm(input, mat2):
    """A batch of matrix products, ``(B, I, K) @ (B, K, J)``; no broadcasting."""
    _check_batches("bmm", input.meta, mat2.meta)
    _check_product("bmm", input.meta, mat2.meta)
    return _product(input, mat2)


@bmm.backward
def _(g, input, mat2, needs):
    return _gradients(g, input, mat2, needs)


def _check_batches(name: str, a: Meta, b: Meta) -> None:
    """Refuse operands that are not batches of matrices which can be multiplied."""
    for i, m in ((1, a), (2, b)):
        if m.ndim != 3:
            raise RuntimeError(
                f"batch{i} must be a 3D tensor\n{name}: got {list(a.shape)} and {list(b.shape)}, expected (B, I, K) and (B, K, J)."
            )
    if a.shape[0] != b.shape[0] or a.shape[2] != b.shape[1]:
        raise _shape_error(
            f"Expected size for first two dimensions of batch2 tensor to be: [{a.shape[0]}, {a.shape[2]}] but got: [{b.shape[0]}, "
            f"{b.shape[1]}].",
            name,
            a.shape,
            b.shape,
        )


@public
def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of a matrix and a vector, ``(I, K) @ (K)``."""
    try:
        fits = (input.ndim, vec.ndim) == (2, 1)
    except AttributeError as error:
        raise no_tensor(error, "mv", ("input", "vec"), (input, vec)) from None
    if not fits:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}\nmv: expected (I, K) and (K), got "
            f"{list(input.shape)} and {list(vec.shape)}."
        )
    return matmul(input, vec) if out is None else matmul(input, vec, out=out)


@public
def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inner product of two vectors of one size, 0-d."""
    try:
        fits = (input.ndim, tensor.ndim) == (1, 1)
    except AttributeError as error:
        raise no_tensor(error, "dot", ("input", "tensor"), (input, tensor)) from None
    if not fits:
        raise RuntimeError(
            f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors\ndot: got {list(input.shape)} and "
            f"{list(tensor.shape)}; "
            "for matrices use matmul (a @ b), for all elements (a * b).sum()."
        )
    return matmul(input, tensor) if out is None else matmul(input, tensor, out=out)


@public
@takes_tensors
def vdot(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """:func:`dot` with the first vector conjugated: the same for real numbers."""
    return dot(input, other, out=out)


@public
@takes_tensors
def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """All products of two vectors' elements, ``(I), (J) -> (I, J)``."""
    for which, x in (("self", input), ("vec2", vec2)):
        if x.ndim != 1:
            raise RuntimeError(
                f"outer: Expected 1-D argument {which}, but got {x.ndim}-D\nouter: got {list(input.shape)} and {list(vec2.shape)}; "
                "use flatten() first."
            )
    return store("outer", input.unsqueeze(1) * vec2, out, (input, vec2))


@public
def ger(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """:func:`outer` under its older name."""
    return outer(input, vec2, out=out)


# ------------------------------------------------------------------ products added to something


@compute(node=_node, dtype=lambda summed, kinds, params: summed)
def _unrounded(input, other):
    """:func:`matmul` of 16-bit floats in the type that it is summed in: the caller rounds."""
    _check_product("matmul", input.meta, other.meta)
    return _product(input, other)


@_unrounded.backward
def _(g, input, other, needs):
    return _gradients(g.to(input.dtype), input, other, needs)


def _multiplied(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b`` where something will be added: 16-bit floats are rounded once, after that."""
    return matmul(a, b) if compute_dtype(a.dtype) is a.dtype else OPS["_unrounded"](a, b)


def _scaled_sum(name: str, input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    """``beta * input + alpha * product`` in the shape of ``product`` and the type of ``input``; ``beta=0`` ignores ``input``, NaN included."""
    dtype = input.dtype
    if not product.is_floating_point():
        beta, alpha = int(beta), int(alpha)
    try:
        input = input.expand(product.shape)
    except RuntimeError as error:
        raise RuntimeError(
            f"{error}\n{name}: input {list(input.shape)} is added to a product of shape {list(product.shape)}; it must have that shape, or one that is "
            "broadcast to it."
        ) from None
    if alpha != 1:
        product = product * alpha
    if beta == 0:  # a NaN of ``input`` must not come through, but its gradient is 0 and not absent
        return OPS["where"](OPS["ones"]((), dtype=bool_, device=input.device), product, input).to(dtype)
    return (product + (input if beta == 1 else input.to(product.dtype) * beta)).to(dtype)


def _check_same_dtype(name: str, input: Tensor, a: Tensor, b: Tensor, phrase: str) -> None:
    if not input.dtype is a.dtype is b.dtype:
        other = a if input.dtype is b.dtype else b
        raise RuntimeError(
            f"{phrase.format(title(input.dtype), title(a.dtype), title(b.dtype))}\n{name}: the operands are {input.dtype.name}, "
            f"{a.dtype.name} and "
            f"{b.dtype.name}. {_convert(input.dtype, other.dtype)}"
        )


@composite(register=True, inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat1 @ mat2)`` for matrices ``(I, K)`` and ``(K, J)``; ``input`` is broadcast to ``(I, J)``."""
    for which, x in (("mat1", mat1), ("mat2", mat2)):
        if x.ndim != 2:
            raise RuntimeError(f"{which} must be a matrix, got {x.ndim}-D tensor\naddmm: got {list(mat1.shape)} and {list(mat2.shape)}.")
    _check_same_dtype("addmm", input, mat1, mat2, "self and mat2 must have the same dtype, but got {0} and {2}")
    return _scaled_sum("addmm", input, _multiplied(mat1, mat2), beta, alpha)


@composite(register=True, inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (mat @ vec)`` for ``(I, K)`` and ``(K)``; ``input`` is broadcast to ``(I)``."""
    if mat.ndim != 2 or vec.ndim != 1 or input.ndim > 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {input.ndim}, {mat.ndim}, {vec.ndim}\naddmv: got {list(input.shape)}, "
            f"{list(mat.shape)} and "
            f"{list(vec.shape)}."
        )
    rows, columns = mat.shape
    if columns != vec.shape[0] or (input.numel() != 1 and input.shape[0] != rows):
        raise RuntimeError(
            f"size mismatch, got input ({input.shape[0] if input.ndim else 1}), mat ({rows}x{columns}), vec ({vec.shape[0]})\n"
            f"addmv: input needs {rows} elements and vec {columns}."
        )
    _check_same_dtype("addmv", input, mat, vec, "addmv input tensors must have the same dtype, but got {0}, {1}, and {2}")
    return _scaled_sum("addmv", input, _multiplied(mat, vec), beta, alpha)


@composite(register=True, inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * outer(vec1, vec2)``; ``input`` is broadcast to ``(I, J)``, dtypes are promoted."""
    for which, x in (("vec1", vec1), ("vec2", vec2)):
        if x.ndim != 1:
            raise RuntimeError(
                f"addr: Expected 1-D argument {which}, but got {x.ndim}-D\naddr: got {list(vec1.shape)} and {list(vec2.shape)}."
            )
    product = outer(vec1, vec2)
    dtype = promote_types(product.dtype, input.dtype)
    for what, number in (("beta", beta), ("alpha", alpha)):
        if isinstance(number, float) and not dtype.is_floating_point:
            raise RuntimeError(
                f"For {'boolean' if dtype is bool_ else 'integral'} input tensors, argument {what} must not be a floating point number.\n"
                f"addr: got {what}={number}."
            )
    product, input = product.to(dtype), input.expand(product.shape).to(dtype)
    if dtype is bool_:
        return (product & bool(alpha)) | (input & bool(beta))
    return _scaled_sum("addr", input, product, beta, alpha)


@composite(register=True, inplace=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * sum over b of (batch1[b] @ batch2[b])``; ``input`` is broadcast to ``(I, J)``."""
    a, b = batch1.shape, batch2.shape
    for i, s in ((1, a), (2, b)):
        if len(s) != 3:
            raise RuntimeError(f"batch{i} must be a 3D tensor\naddbmm: got {list(a)} and {list(b)}.")
    if a[0] != b[0]:
        raise RuntimeError(
            f"batch1 and batch2 must have same number of batches, got {a[0]} and {b[0]}\naddbmm: got {list(a)} and {list(b)}."
        )
    if a[2] != b[1]:
        raise _shape_error(f"Incompatible matrix sizes for bmm ({a[1]}x{a[2]} and {b[1]}x{b[2]})", "addbmm", a, b)
    _check_same_dtype("addbmm", input, batch1, batch2, "Input dtypes must be the same, got: input {0}, batch1: {1}, batch2: {2}")
    # the sum over the batch is a longer inner dimension
    product = _multiplied(batch1.transpose(0, 1).reshape(a[1], a[0] * a[2]), batch2.reshape(a[0] * a[2], b[2]))
    return _scaled_sum("addbmm", input, product, beta, alpha)


@composite(register=True, inplace=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """``beta * input + alpha * (batch1 @ batch2)`` for ``(B, I, K)`` and ``(B, K, J)``; ``input`` is broadcast to ``(B, I, J)``."""
    _check_batches("baddbmm", batch1._meta, batch2._meta)
    _check_same_dtype("baddbmm", input, batch1, batch2, "Input dtypes must be the same, got: input {0}, batch1: {1}, batch2: {2}")
    if not batch1.dtype.is_floating_point:
        return _scaled_sum("baddbmm", input, bmm(batch1, batch2), beta, alpha)
    return _scaled_sum("baddbmm", input, _multiplied(batch1, batch2), beta, alpha)


# ------------------------------------------------------------------ any axes: operands with labelled dimensions


def _contract(a: Tensor, x: Sequence[int], b: Tensor, y: Sequence[int], kept: Any) -> tuple[Tensor, list[int]]:
    """Multiply ``a`` and ``b`` whose dimensions are labelled ``x`` and ``y``; shared labels that are not in ``kept`` are summed over.

    Equal labels have equal sizes; a label of one operand alone stays.  Returns the result and its labels.
    """
    batch = [v for v in x if v in y and v in kept]
    summed = [v for v in x if v in y and v not in kept]
    left, right = [v for v in x if v not in y], [v for v in y if v not in x]
    size = dict(zip(x, a.shape, strict=True)) | dict(zip(y, b.shape, strict=True))
    a = a.permute([x.index(v) for v in (*batch, *left, *summed)])
    b = b.permute([y.index(v) for v in (*batch, *summed, *right)])
    labels = [*batch, *left, *right]
    shapes = [[size[v] for v in group] for group in (batch, left, right)]
    if not summed:
        return a.reshape(*shapes[0], *shapes[1], *(1,) * len(right)) * b.reshape(*shapes[0], *(1,) * len(left), *shapes[2]), labels
    n, i, j, k = (math.prod(size[v] for v in group) for group in (batch, left, right, summed))
    product = matmul(a.reshape(n, i, k), b.reshape(n, k, j)) if batch else matmul(a.reshape(i, k), b.reshape(k, j))
    return product.reshape([s for group in shapes for s in group]), labels


@composite(node="View")
def _sum_of_products(operands: list[Tensor], labels: tuple[tuple[int, ...], ...], result: tuple[int, ...]) -> Tensor:
    """The sum over all labels that are not in ``result`` of the product of ``operands``, whose dimensions carry ``labels``.

    A dimension of size 1 is stretched to its label's size; a label that an operand has twice means its diagonal.
    """
    size: dict[int, int] = {}
    for x, names in zip(operands, labels, strict=True):
        for v, s in zip(names, x.shape, strict=True):
            size[v] = s if size.get(v, 1) == 1 else size[v]
    terms: list[tuple[Tensor, list[int]]] = []
    for x, own in zip(operands, labels, strict=True):
        current = list(own)
        for v in dict.fromkeys(own):
            while current.count(v) > 1:
                first = current.index(v)
                second = current.index(v, first + 1)
                x = x.diagonal(0, first, second)
                del current[second], current[first]
                current.append(v)
        for v in [v for v in current if x.shape[current.index(v)] == 1 != size[v]]:
            x = x.select(current.index(v), 0)
            current.remove(v)
        terms.append((x, current))
    for n, (x, current) in list(enumerate(terms)):
        # what only this operand has need not be multiplied
        alone = [v for v in current if v not in result and not any(v in other for m, (_, other) in enumerate(terms) if m != n)]
        if alone:
            terms[n] = x.sum([current.index(v) for v in alone]), [v for v in current if v not in alone]
    x, current = terms[0]
    for n, (y, others) in enumerate(terms[1:], 1):
        kept = {*result, *(v for _, later in terms[n + 1 :] for v in later)}
        x, current = _contract(x, current, y, others, kept)
    return x.permute([current.index(v) for v in result])


@public
@takes_tensors
def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Inner products along the last dimensions: ``(*A, K), (*B, K) -> (*A, *B)``; a 0-d operand scales the other."""
    if input.ndim == 0 or other.ndim == 0:
        return store("inner", input * other, out)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            f"inner() the last dimension must match on both input tensors but got shapes {list(input.shape)} and {list(other.shape)}"
        )
    return tensordot(input, other, ([-1], [-1]), out=out)


@public(method=False)
@takes_tensors
def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """Sum the products of ``a`` and ``b`` over pairs of dimensions.

    Parameters
    ----------
    dims : int or (list of int, list of int)
        A number pairs the last dimensions of ``a`` with the first ones of ``b``; two lists name the pairs.

    Returns
    -------
    Tensor
        The remaining dimensions of ``a``, then those of ``b``.
    """
    if isinstance(dims, float):
        raise RuntimeError(f"tensordot expects dims to be int or tuple[list[int], list[int]] or list[list[int]] containing two lists, but got dims={dims}")
    if not isinstance(dims, (tuple, list, int)):
        dims = dims.tolist()
    if isinstance(dims, (tuple, list)):
        first, second = (list(d) if isinstance(d, (tuple, list)) else [d] for d in dims)
    else:
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(
                f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}\ntensordot: got {list(a.shape)} and {list(b.shape)}."
            )
        first, second = list(range(-dims, 0)), list(range(dims))
    if len(first) != len(second):
        raise RuntimeError(
            "both dimension lists should have same length\n"
            f"tensordot: the lists pair dimensions of a with dimensions of b, got {len(first)} and {len(second)} of them."
        )
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"both inputs should have same dtype\ntensordot: got {a.dtype.name} and {b.dtype.name}. {_convert(a.dtype, b.dtype)}"
        )
    x, y = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    paired: tuple[list[int], list[int]] = ([], [])
    for i, j in zip(first, second, strict=True):
        p, q = wrap_dim(i, a.ndim), wrap_dim(j, b.ndim)
        if a.shape[p] != b.shape[q] and a.shape[p] != 1 and b.shape[q] != 1:
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {a.shape[p]} in dim {i} and second has size {b.shape[q]} "
                f"in dim {j}\n"
                f"tensordot: got shapes {list(a.shape)} and {list(b.shape)}."
            )
        paired[0].append(p)
        paired[1].append(q)
        y[q] = x[p]
    for group in paired:
        if len(set(group)) != len(group):
            raise RuntimeError(f"dim {next(d for d in group if group.count(d) > 1)} appears multiple times in the list of dims")
    result = tuple(v for v in (*x, *y) if not (v in x and v in y))
    return store("tensordot", _sum_of_products([a, b], (tuple(x), tuple(y)), result).to(a.dtype), out)


_LETTERS = {c: i for i, c in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")}
_NAMES = {i: c for c, i in _LETTERS.items()}
_DOTS = -1  # stands for an ellipsis while an equation is read
_FIRST_UNNAMED = 52  # labels of the dimensions that an ellipsis stands for


def _subscripts(text: str, start: int, where: str) -> list[int]:
    """The labels of one operand (or of the output) of an equation; ``...`` is ``_DOTS``."""
    labels: list[int] = []
    i = 0
    while i < len(text):
        c = text[i]
        if c == ".":
            if text[i : i + 3] != "..." or _DOTS in labels:
                kind = "for which an ellipsis was already found" if _DOTS in labels else "that is not part of any ellipsis"
                raise RuntimeError(f"einsum(): found '.' for {where} {kind}")
            labels.append(_DOTS)
            i += 3
            continue
        if c != " ":
            if c not in _LETTERS:
                raise RuntimeError(
                    f"einsum(): invalid subscript given at index {start + i} in the equation string, subscripts must be in [a-zA-Z]"
                )
            labels.append(_LETTERS[c])
        i += 1
    return labels


def _name(label: int) -> str:
    return _NAMES.get(label, "...")


def _read_equation(equation: str) -> tuple[list[list[int]], list[int] | None]:
    """The labels of the operands, and of the output when an arrow names it."""
    left, arrow, right = equation.partition("->")
    inputs = []
    start = 0
    for n, part in enumerate(left.split(",")):
        inputs.append(_subscripts(part, start, f"operand {n}"))
        start += len(part) + 1
    return inputs, _subscripts(right, len(left) + 2, "the output") if arrow else None


def _read_sublists(args: Sequence[Any]) -> tuple[list[Any], list[list[int]], list[int] | None]:
    """Operands and labels from ``operand, [labels], operand, [labels], ..., [output labels]``."""

    def labels(given: Any) -> list[int]:
        made = []
        for v in given:
            if v is not Ellipsis and not 0 <= v < _FIRST_UNNAMED:
                raise ValueError(f"einsum(): subscript in subscript list is not within the valid range [0, 52)\neinsum: got {v}.")
            made.append(_DOTS if v is Ellipsis else v)
        return made

    operands = list(args[0 : len(args) - len(args) % 2 : 2])
    return operands, [labels(s) for s in args[1::2]], labels(args[-1]) if len(args) % 2 else None


@public(method=False)
@takes_tensors
def einsum(*args: Any) -> Tensor:
    """Sum of products by Einstein's convention: ``einsum("bij,bjk->bik", x, y)``.

    Parameters
    ----------
    equation : str
        One letter for each dimension of each operand, the operands separated by commas; ``...`` stands for any further
        dimensions, which are broadcast.  After ``->`` stand the dimensions of the result; without an arrow these are those of
        the ellipsis, then the letters that occur once, in alphabetical order.  Letters not in the result are summed over, and
        a letter that one operand has twice means its diagonal.
    *operands : Tensor
        Instead of an equation, the labels (numbers, or ``...``) of each operand may follow it as a list, the result's at the end.

    Raises
    ------
    RuntimeError
        If the equation cannot be read or does not fit the operands.
    """
    try:
        key = (args[0], *[x._meta for x in args[1:]])
        form = _equations.get(key)
    except (AttributeError, TypeError):         # operands in a list, labels in lists, or what is no operand
        key, form = None, None
    if form is not None:
        return _sum_of_products(list(args[1:]), *form)
    if len(args) < 2:
        raise ValueError(
            "einsum(): must specify the equation string and at least one operand, or at least one operand and its subscripts list"
        )
    if isinstance(args[0], str):
        inputs, output = _read_equation(args[0])
        operands = list(args[1]) if len(args) == 2 and isinstance(args[1], (tuple, list)) else list(args[1:])
        if len(operands) != len(inputs):
            raise RuntimeError(
                f"einsum(): {'fewer' if len(operands) < len(inputs) else 'more'} operands were provided than specified in the equation\n"
                f"einsum: {args[0]!r} names {len(inputs)}, got {len(operands)}."
            )
    else:
        operands, inputs, output = _read_sublists(args)
    for n, (x, labels) in enumerate(zip(operands, inputs, strict=True)):
        named = len(labels) - (_DOTS in labels)
        if named > x.ndim or (named < x.ndim and _DOTS not in labels):
            detail = (
                ("is more than the number of dimensions" if named > x.ndim else "does not match the number of dimensions")
                if _DOTS in labels
                else "does not match the number of dimensions"
            )
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({named}) {detail} ({x.ndim}) for operand {n}"
                f"{'' if _DOTS in labels else ' and no ellipsis was given'}\neinsum: operand {n} has shape {list(x.shape)}."
            )
    hidden = max((x.ndim - len(labels) + 1 for x, labels in zip(operands, inputs, strict=True) if _DOTS in labels), default=0)
    unnamed = range(_FIRST_UNNAMED, _FIRST_UNNAMED + hidden)
    full: list[tuple[int, ...]] = []
    sizes: dict[int, int] = {}
    for n, (x, labels) in enumerate(zip(operands, inputs, strict=True)):
        if _DOTS in labels:
            at = labels.index(_DOTS)
            labels = [*labels[:at], *unnamed[hidden - (x.ndim - len(labels) + 1) :], *labels[at + 1 :]]
        full.append(tuple(labels))
        own: dict[int, int] = {}
        for v, s in zip(labels, x.shape, strict=True):
            if own.setdefault(v, s) != s:
                raise RuntimeError(f"einsum(): subscript {_name(v)} is repeated for operand {n} but the sizes don't match, {s} != {own[v]}")
        for v, s in own.items():
            if sizes.get(v, 1) == 1:
                sizes[v] = s
            elif s not in (1, sizes[v]):
                raise RuntimeError(
                    f"einsum(): subscript {_name(v)} has size {s} for operand {n} which does not broadcast with previously seen "
                    f"size {sizes[v]}\n"
                    f"einsum: the operands have shapes {', '.join(str(list(o.shape)) for o in operands)}."
                )
    if output is None:
        everything = [v for labels in full for v in labels]
        result = (*unnamed, *sorted(v for v in set(everything) if everything.count(v) == 1 and v < _FIRST_UNNAMED))
    else:
        for v in output:
            if output.count(v) > 1:
                raise RuntimeError(f"einsum(): output subscript {_name(v)} appears more than once in the output")
            if v != _DOTS and v not in sizes:
                raise RuntimeError(f"einsum(): output subscript {_name(v)} does not appear in the equation for any input operand")
        result = tuple(w for v in output for w in (unnamed if v == _DOTS else (v,)))
    for x in operands[1:]:
        if x.dtype is not operands[0].dtype:
            raise RuntimeError(
                f"expected scalar type {title(operands[0].dtype)} but found {title(x.dtype)}\neinsum: the operands must have one dtype. "
                f"{_convert(operands[0].dtype, x.dtype)}"
            )
    if key is not None and isinstance(args[0], str):
        if len(_equations) > 20_000:
            _equations.clear()
        _equations[key] = tuple(full), result
    return _sum_of_products(operands, tuple(full), result)


_equations: dict[Any, Any] = {}     # labels of operands and result, by equation and metadata


# ------------------------------------------------------------------ chains, powers and small products


@composite(register=True, node="UnsafeView")
def kron(input: Tensor, other: Tensor) -> Tensor:
    """The Kronecker product: every element of ``input`` times the whole of ``other``, as blocks."""
    n = max(input.ndim, other.ndim)
    a = (*(1,) * (n - input.ndim), *input.shape)
    b = (*(1,) * (n - other.ndim), *other.shape)
    product = input.reshape([s for x in a for s in (x, 1)]) * other.reshape([s for x in b for s in (1, x)])
    return product.reshape([x * y for x, y in zip(a, b, strict=True)])


@public(method=False)
@takes_tensors
def chain_matmul(*matrices: Tensor, out: Tensor | None = None) -> Tensor:
    """The product of several matrices, multiplied in the cheapest order (dynamic programming over the sizes; Cormen et al., 15.2)."""
    for x in matrices:
        if x.ndim != 2:
            raise RuntimeError(
                f"Tensor dimension is {x.ndim}, expected 2 instead.\nchain_matmul: got shapes "
                f"{', '.join(str(list(m.shape)) for m in matrices)}."
            )
    if not matrices:
        raise RuntimeError("chain_matmul(): Expected one or more matrices")
    for i, (a, b) in enumerate(pairwise(matrices)):
        if a.shape[1] != b.shape[0]:
            raise RuntimeError(f"multi_dot(): tensors {i} and {i + 1} with shapes {list(a.shape)} and {list(b.shape)} cannot be multiplied")
    n = len(matrices)
    sizes = [matrices[0].shape[0], *(m.shape[1] for m in matrices)]
    cost = [[0] * n for _ in range(n)]
    split = [[0] * n for _ in range(n)]
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i][j], split[i][j] = min((cost[i][k] + cost[k + 1][j] + sizes[i] * sizes[k + 1] * sizes[j + 1], k) for k in range(i, j))

    def multiply(i: int, j: int) -> Tensor:
        return matrices[i] if i == j else mm(multiply(i, split[i][j]), multiply(split[i][j] + 1, j))

    return store("chain_matmul", multiply(0, n - 1) if n > 1 else matrices[0].clone(), out)


@public
@takes_tensors
def matrix_power(input: Tensor, n: int, *, out: Tensor | None = None) -> Tensor:
    """A square matrix (or a batch of them) to an integer power by repeated squaring; a negative power inverts first."""
    if input.ndim < 2:
        raise RuntimeError(
            f"linalg.matrix_power: The input tensor A must have at least 2 dimensions.\nmatrix_power: got {list(input.shape)}."
        )
    rows, columns = input.shape[-2:]
    if rows != columns:
        raise RuntimeError(f"linalg.matrix_power: A must be batches of square matrices, but they are {rows} by {columns} matrices")
    if n == 0:
        identity = OPS["eye"](rows, dtype=input.dtype, device=input.device)
        return store("matrix_power", identity.expand(input.shape).clone(), out)
    square = input if n > 0 else OPS["inverse"](input)
    n = abs(n)
    power: Tensor = None
    while True:
        if n & 1:
            power = square if power is None else matmul(power, square)
        n >>= 1
        if not n:
            break
        square = matmul(square, square)
    return store("matrix_power", input.clone() if power is input else power, out)


@composite(node="CdistBackward0")
def _distances(x1: Tensor, x2: Tensor, p: float) -> Tensor:
    return (x1.unsqueeze(-2) - x2.unsqueeze(-3)).norm(p, -1)


@public(method=False)
@takes_tensors
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = "use_mm_for_euclid_dist_if_necessary") -> Tensor:
    """The distances, by the ``p``-norm, between all pairs of rows: ``(*B, P, M), (*B, R, M) -> (*B, P, R)``.

    ``compute_mode`` is accepted for compatibility: distances are always computed from differences, which is the exact way.
    """
    if compute_mode not in (
        None,
        "use_mm_for_euclid_dist_if_necessary",
        "use_mm_for_euclid_dist",
        "donot_use_mm_for_euclid_dist",
    ):
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    for which, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(
                f"cdist only supports at least 2D tensors, {which} got: {x.ndim}D\ncdist: one point is a row: use x.unsqueeze(0)."
            )
        if not x.is_floating_point():
            raise RuntimeError(f"cdist only supports floating-point dtypes, {which} got: {title(x.dtype)}")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if x1.dtype is not x2.dtype:
        raise RuntimeError(
            f"expected scalar type {title(x1.dtype)} but found {title(x2.dtype)}\ncdist: the points must have one dtype. {_convert(x1.dtype, x2.dtype)}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    return _distances(x1, x2, float(p))


@composite(register=True)
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal, 0-d; integers give int64."""
    if input.ndim != 2:
        raise RuntimeError(
            f"trace: expected a matrix, but got tensor with dim {input.ndim}\ntrace: got shape {list(input.shape)}; for a batch use "
            "x.diagonal(dim1=-2, dim2=-1).sum(-1)."
        )
    return input.diagonal().sum()


@compute(node="LinalgCross")
def _cross(input, other, dim: int):
    shape = broadcast_shapes(input.shape, other.shape)
    i = out(*shape)
    d = i[dim]

    def element(x: Operand, step: int) -> Any:
        places = [0 if s == 1 else v for s, v in zip(x.shape, i, strict=True)]
        places[dim] = (d + step) % 3
        return x[tuple(places)]

    return element(input, 1) * element(other, 2) - element(input, 2) * element(other, 1)


@_cross.backward
def _(g, input, other, dim):
    return OPS["_cross"](other, g, dim), OPS["_cross"](g, input, dim)


@public
@takes_tensors
def cross(input: Tensor, other: Tensor, dim: int | None = None, *, out: Tensor | None = None) -> Tensor:
    """The cross product of vectors of 3 elements along ``dim`` (default: the first dimension of size 3)."""
    if input.ndim != other.ndim:
        raise RuntimeError(
            f"linalg.cross: inputs must have the same number of dimensions.\ncross: got {list(input.shape)} and {list(other.shape)}."
        )
    if dim is None:
        dim = next((i for i, s in enumerate(input.shape) if s == 3), None)
        if dim is None:
            raise RuntimeError(f"no dimension of size 3 in input\ncross: got shape {list(input.shape)}.")
        warnings.warn(
            "Using torch.cross without specifying the dim arg is deprecated.\nPlease either pass the dim explicitly or simply use "
            "torch.linalg.cross.\n"
            "The default value of dim will change to agree with that of linalg.cross in a future release.",
            UserWarning,
            stacklevel=2,
        )
    dim = wrap_dim(dim, input.ndim)
    if input.shape[dim] != 3 or other.shape[dim] != 3:
        raise RuntimeError(f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[dim]} and {other.shape[dim]}")
    if input.dtype is not other.dtype:
        raise RuntimeError(
            f"expected scalar type {title(input.dtype)} but found {title(other.dtype)}\ncross: {_convert(input.dtype, other.dtype)}"
        )
    if input.dtype is bool_:
        raise NotImplementedError("\"cross\" not implemented for 'Bool'")
    return store("cross", OPS["_cross"](input, other, dim), out)
