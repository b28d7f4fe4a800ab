"""Linear algebra: ``flambeau.linalg`` with PyTorch's names.

Norms, determinants, inverses, solvers and factorisations of matrices and batches of matrices, all differentiable where PyTorch's
are.  The routines are in ``ops/factorization.py``.
"""

from __future__ import annotations

from . import Tensor  # noqa: F401  (loads the operations)
from .core.errors import LinAlgError
from .ops.composite import OPS

_NAMES = (
    "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "householder_product", "inv", "inv_ex", "lstsq", "lu", "lu_factor",
    "lu_factor_ex", "lu_solve", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv", "qr", "slogdet", "solve",
    "solve_ex", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot", "vector_norm",
)
globals().update({name: OPS["linalg_" + name] for name in _NAMES})

__all__ = [*_NAMES, "LinAlgError"]
