"""From kernels to code: LLVM IR text, and mathematical functions as arithmetic."""

from __future__ import annotations

from ..ir.kernel import Kernel
from ..ir.product import Product
from ..ir.stencil import Stencil
from ..ir.winograd import Filter, WeightGradient, Winograd


def render(kernel: Kernel | Product | Stencil | Winograd | Filter | WeightGradient) -> str:
    """The LLVM IR of a kernel of any kind: one function named ``@NAME`` and what it calls."""
    if isinstance(kernel, Product):
        from .product import render_product

        return render_product(kernel)
    if isinstance(kernel, Stencil):
        from .stencil import render_stencil

        return render_stencil(kernel)
    if isinstance(kernel, Winograd | Filter | WeightGradient):
        from .winograd import render_winograd

        return render_winograd(kernel)
    from .llvm import render as render_kernel

    return render_kernel(kernel)
