"""Contractions: sums of products over shared axes.

Everything here ends in one primitive, :func:`matmul`; the other names check their arguments as PyTorch does and arrange their
operands for it.  Products too large for the formula's loops go to a library (``ops/library.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core.dtype import bool_, dtype as DType
from ..core.shape import Meta, Size, broadcast_shapes, count, expand_meta, wrap_dim
from .composite import composite, public
from .definition import OPS, compute, title
from .formula import Sum, out, over
from .library import matmul_by_blas

_C_NAMES = {"float32": "float", "float64": "double", "float16": "c10::Half", "bfloat16": "c10::BFloat16", "int64": "long", "int32": "int",
            "int16": "short", "int8": "signed char", "uint8": "unsigned char", "bool": "bool"}


# ------------------------------------------------------------------ checks


def _c_name(d: DType) -> str:
    """The C++ name of a dtype, as it stands in PyTorch's messages."""
    return _C_NAMES[d.name]


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


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
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {a.ndim}D and {b.ndim}D\n"
                           f"{name}: got shapes {list(a.shape)} and {list(b.shape)}. To scale by a number use *.")
    batched = a.ndim > 2 and b.ndim > 2 or b.ndim > 2
    if a.dtype is not b.dtype:
        detail = f"\n{name}: the operands are {a.dtype.name} and {b.dtype.name}. {_convert(a.dtype, b.dtype)}"
        if a.ndim == b.ndim == 1:
            raise RuntimeError(f"dot : expected both vectors to have same dtype, but found {title(a.dtype)} and {title(b.dtype)}{detail}")
        if b.ndim == 1:
            raise RuntimeError(f"addmv input tensors must have the same dtype, but got {title(b.dtype)}, {title(a.dtype)}, and {title(b.dtype)}{detail}")
        if batched:
            raise RuntimeError(f"expected scalar type {title(a.dtype)} but found {title(b.dtype)}{detail}")
        raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {_c_name(a.dtype)} != {_c_name(b.dtype)}{detail}")
    if a.dtype is bool_:
        kernel = "dot" if a.ndim == b.ndim == 1 else "addmv_impl_cpu" if b.ndim == 1 else "bmm" if batched else "addmm_impl_cpu_"
        raise NotImplementedError(f'"{kernel}" not implemented for \'Bool\'\n{name}: bool tensors have no products; convert them with .float() or .long().')
    inner = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != inner:
        k = a.shape[-1]
        if a.ndim == b.ndim == 1:
            raise _shape_error(f"inconsistent tensor size, expected tensor [{k}] and src [{inner}] to have the same number of elements, but got {k} and {inner} "
                               "elements respectively", name, a.shape, b.shape)
        rows = count(a.shape[:-1])
        if b.ndim == 1:
            raise _shape_error(f"size mismatch, got input ({rows}), mat ({rows}x{k}), vec ({inner})", name, a.shape, b.shape)
        if batched:
            batch = count(broadcast_shapes(a.shape[:-2], b.shape[:-2]))
            raise _shape_error(f"Expected size for first two dimensions of batch2 tensor to be: [{batch}, {k}] but got: [{batch}, {inner}].", name, a.shape, b.shape)
        raise _shape_error(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{k} and {inner}x{b.shape[-1]})", name, a.shape, b.shape)


def _node(a: Meta, b: Meta) -> str:
    """PyTorch's name of the graph node for these operands."""
    if b.ndim == 1:
        return "Dot" if a.ndim == 1 else "Mv" if a.ndim == 2 else "UnsafeView"
    if b.ndim == 2:
        return "Squeeze" if a.ndim == 1 else "Mm" if a.ndim == 2 else "UnsafeView"
    return "UnsafeView"


# ------------------------------------------------------------------ the primitive


def _product(input, other):
    _check_product("matmul", input.meta, other.meta)
    batch = broadcast_shapes(input.shape[:-2], other.shape[:-2])
    n = out(*batch)
    i = out(*input.shape[-2:-1])        # nothing for a vector
    j = out(*other.shape[-1:]) if other.ndim > 1 else ()
    k = over(input.shape[-1])

    def places(shape):
        """The batch indices of one operand: 0 where it is stretched."""
        return [0 if size == 1 else x for size, x in zip(shape[:-2], n[len(n) - len(shape[:-2]):], strict=True)]

    return Sum(input[(*places(input.shape), *i, k)] * other[(*places(other.shape), k, *j)], k)


@compute(node=_node, library=matmul_by_blas)
def matmul(input, other):
    """The matrix product ``(*B, I, K) @ (*B, K, J) -> (*B, I, J)``.

    Batch dimensions are broadcast.  A 1-D first operand is a row, a 1-D second one a column; the dimension added for that is
    removed from the result, so two vectors give their inner product, 0-d.

    Raises
    ------
    RuntimeError
        If the inner sizes or the dtypes differ.
    """
    return _product(input, other)


@matmul.backward
def _(g, input, other, input_meta, other_meta, needs):
    first, second = needs
    if input_meta.ndim == 1 and other_meta.ndim == 1:
        return g * other if first else None, g * input if second else None
    if input_meta.ndim == 1:            # a row: (K) @ (*B, K, J)
        return (matmul(other, g.unsqueeze(-1)).squeeze(-1) if first else None,
                input.unsqueeze(-1) * g.unsqueeze(-2) if second else None)
    if other_meta.ndim == 1:            # a column: (*B, I, K) @ (K)
        rows = input.reshape(-1, input_meta.shape[-1])
        return (g.unsqueeze(-1) * other if first else None,
                matmul(rows.t(), g.reshape(-1)) if second else None)
    if other_meta.ndim == 2:            # one matrix for the whole batch: sum over the batch inside the product
        if not second:
            gradient = None
        elif input_meta.ndim == 2:
            gradient = matmul(input.t(), g)
        else:
            gradient = matmul(input.reshape(-1, input_meta.shape[-1]).t(), g.reshape(-1, g.shape[-1]))
        return matmul(g, other.t()) if first else None, gradient
    return (matmul(g, other.mT) if first else None,
            matmul(input.mT, g) if second else None)


def _named(name: str, node: str, documentation: str, check: Any) -> Any:
    """The product under a name that allows certain shapes only."""

    def formula(input, other):
        check(input.meta, other.meta)
        return _product(input, other)

    formula.__doc__ = documentation
    formula.__name__ = name
    formula.__module__ = __name__
    return formula


@compute(library=matmul_by_blas)
def mm(input, mat2):
    """The product of two matrices, ``(I, K) @ (K, J)``; no broadcasting."""
    if input.ndim != 2:
        raise RuntimeError(f"self must be a matrix\nmm: the first operand is {input.ndim}-D {list(input.shape)}; matmul (a @ b) takes any number of dimensions.")
    if mat2.ndim != 2:
        raise RuntimeError(f"mat2 must be a matrix\nmm: the second operand is {mat2.ndim}-D {list(mat2.shape)}; matmul (a @ b) takes any number of dimensions.")
    return _product(input, mat2)
