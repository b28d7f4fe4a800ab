"""Distributions of matrices: factors of correlations, and covariances."""

from __future__ import annotations

import math
import warnings
from typing import Any

import flambeau as fl

from . import constraints
from .distribution import EMPTY, Distribution, Size
from .gaussian import half_log_det, inverse_factor, one_matrix
from .positive import Chi2
from .shares import Beta
from .utils import broadcast_all, lazy_property, limits


class LKJCholesky(Distribution):
    """Lower triangular factors of random correlation matrices C, whose density is ∝ det(C)^(concentration - 1).

    Samples are made by the onion method (Lewandowski, Kurowicka and Joe, 2009).

    Parameters
    ----------
    dim : int
        At least 2.
    concentration : Tensor or float
        1: all correlation matrices alike; more: nearer to the identity.
    """

    arg_constraints = {"concentration": constraints.positive}
    support = constraints.corr_cholesky
    _parameters = ("concentration",)

    def __init__(self, dim: int, concentration: Any = 1.0, validate_args: bool | None = None) -> None:
        if dim < 2:
            raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        super().__init__(self.concentration.shape, Size((dim, dim)), validate_args=validate_args)
        self._beta = self._radii()

    def _radii(self) -> Any:
        """The distribution of the squared length of each row left of the diagonal; the first row has none, and a place of its own."""
        offset = fl.arange(self.dim - 1, dtype=self.concentration.dtype)
        offset = fl.cat([offset.new_zeros((1,)), offset])
        beta = offset + 0.5
        alpha = (self.concentration + 0.5 * (self.dim - 2)).unsqueeze(-1) - 0.5 * offset
        return Beta(beta, alpha, validate_args=False)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.dim, new._beta = self.dim, self._beta.expand((*batch_shape, self.dim))

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            y = self._beta.sample(sample_shape).unsqueeze(-1)
            directions = fl.randn(self._extended_shape(sample_shape), dtype=y.dtype).tril(-1)
            directions = directions / directions.norm(dim=-1, keepdim=True)
            directions[..., 0, :] = 0
            w = y.sqrt() * directions
            left = (1 - (w * w).sum(-1)).clamp(min=limits(w).tiny).sqrt()
            return w + fl.diag_embed(left)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        n = self.dim
        diagonal = value.diagonal(dim1=-1, dim2=-2)[..., 1:]
        order = fl.arange(2, n + 1, dtype=self.concentration.dtype)
        order = 2 * (self.concentration - 1).unsqueeze(-1) + n - order
        unnormalized = (order * diagonal.log()).sum(-1)
        alpha = self.concentration + 0.5 * (n - 1)
        normalizer = 0.5 * (n - 1) * math.log(math.pi) + fl.mvlgamma(alpha - 0.5, n - 1) - alpha.lgamma() * (n - 1)
        return unnormalized - normalizer


class Wishart(Distribution):
    """Sums of outer products of ``df`` normal vectors with mean 0: positive definite matrices of n by n.

    Samples are made by Bartlett's decomposition.  PyTorch draws again where it takes one for singular; here the first is returned.

    Parameters
    ----------
    df : Tensor or float
        More than ``n - 1``.
    covariance_matrix, precision_matrix, scale_tril : Tensor
        One of them, of shape ``(..., n, n)``: of the vectors.
    """

    support = constraints.positive_definite
    has_rsample = True

    def __init__(self, df: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None, validate_args: bool | None = None) -> None:
        name, matrix = one_matrix("Wishart", covariance_matrix=covariance_matrix, precision_matrix=precision_matrix, scale_tril=scale_tril)
        n = matrix.shape[-1]
        df = fl.as_tensor(df, dtype=matrix.dtype)
        batch = fl.broadcast_shapes(matrix.shape[:-2], df.shape)
        if (df <= n - 1).any():
            raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {n - 1}.")
        self.df = df.expand(batch)
        self.__dict__[name] = matrix.expand((*batch, n, n))
        super().__init__(batch, Size((n, n)), validate_args=validate_args)
        if (self.df < n).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.", stacklevel=2)
        self._unbroadcasted_scale_tril = (matrix if name == "scale_tril" else fl.linalg.cholesky(matrix) if name == "covariance_matrix"
                                          else inverse_factor(matrix))
        self._chi2 = self._diagonal()

    def _diagonal(self) -> Any:
        n = self._event_shape[-1]
        return Chi2(self.df.unsqueeze(-1) - fl.arange(n, dtype=self.df.dtype).expand((*self._batch_shape, n)), validate_args=False)

    @property
    def arg_constraints(self) -> Any:  # type: ignore[override]
        return {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
                "scale_tril": constraints.lower_cholesky, "df": constraints.greater_than(self._event_shape[-1] - 1)}

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(Wishart, _instance)
        n = self._event_shape[-1]
        for name in ("covariance_matrix", "precision_matrix", "scale_tril"):
            if name in self.__dict__:
                new.__dict__[name] = self.__dict__[name].expand((*batch_shape, n, n))
        new.df, new._unbroadcasted_scale_tril = self.df.expand(batch_shape), self._unbroadcasted_scale_tril
        new._batch_shape, new._event_shape, new._validate_args = Size(batch_shape), self._event_shape, self._validate_args
        new._chi2 = new._diagonal()
        return new

    def _whole(self, matrix: Any) -> Any:
        return matrix.expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        return self._whole(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance of the vectors."""
        return self._whole(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self) -> Any:
        """Its inverse."""
        return self._whole(fl.cholesky_inverse(self._unbroadcasted_scale_tril))

    @property
    def mean(self) -> Any:
        return self.df.unsqueeze(-1).unsqueeze(-1) * self.covariance_matrix

    @property
    def mode(self) -> Any:
        factor = self.df - self._event_shape[-1] - 1
        return fl.where(factor <= 0, math.nan, factor).unsqueeze(-1).unsqueeze(-1) * self.covariance_matrix

    @property
    def variance(self) -> Any:
        v = self.covariance_matrix
        diagonal = v.diagonal(dim1=-2, dim2=-1)
        return self.df.unsqueeze(-1).unsqueeze(-1) * (v.pow(2) + diagonal.unsqueeze(-1) * diagonal.unsqueeze(-2))

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        n = self._event_shape[-1]
        noise = fl.diag_embed(self._chi2.rsample(sample_shape).clamp(min=limits(self.df).tiny).sqrt())
        rows, columns = fl.tril_indices(n, n, -1)
        below = fl.zeros(self._extended_shape(sample_shape), dtype=self.df.dtype)
        below[..., rows, columns] = fl.randn((*self._extended_shape(sample_shape)[:-2], n * (n - 1) // 2), dtype=self.df.dtype)
        chol = self._unbroadcasted_scale_tril @ (noise + below)
        return chol @ chol.mT

    def _log_multigamma(self) -> Any:
        return fl.mvlgamma(0.5 * self.df, self._event_shape[-1])

    def _multidigamma(self) -> Any:
        total = (self.df / 2).digamma()
        for i in range(1, self._event_shape[-1]):
            total = total + ((self.df - i) / 2).digamma()
        return total

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        nu, n, tril = self.df, self._event_shape[-1], self._unbroadcasted_scale_tril
        solved = fl.cholesky_solve(value, tril.expand((*value.shape[:-2], *tril.shape[-2:])) if value.ndim > tril.ndim else tril)
        trace = solved.diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-nu * (n * math.log(2) / 2 + half_log_det(tril)) - self._log_multigamma()
                + (nu - n - 1) / 2 * fl.linalg.slogdet(value).logabsdet - trace / 2)

    def entropy(self) -> Any:
        nu, n = self.df, self._event_shape[-1]
        return ((n + 1) * (n * math.log(2) / 2 + half_log_det(self._unbroadcasted_scale_tril)) + self._log_multigamma()
                - (nu - n - 1) / 2 * self._multidigamma() + nu * n / 2)


__all__ = ["LKJCholesky", "Wishart"]
