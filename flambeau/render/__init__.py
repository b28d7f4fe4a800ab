"""From kernels to code: LLVM IR text, and mathematical functions as arithmetic."""

from __future__ import annotations

from ..ir.kernel import Kernel
from ..ir.product import Product


def render(kernel: Kernel | Product) -> str:
    """The LLVM IR of a kernel or product: one function named ``@NAME`` and what it calls."""
    if isinstance(kernel, Product):
        from .product import render_product

        return render_product(kernel)
    from .llvm import render as render_kernel

    return render_kernel(kernel)
