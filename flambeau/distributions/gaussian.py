"""Normal distributions: on the line, and what its values become by ``exp``, ``abs`` and stick breaking; of vectors."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from . import constraints
from .derived import TransformedDistribution
from .distribution import EMPTY, Distribution, ExponentialFamily, Size
from .transforms import AbsTransform, ExpTransform, StickBreakingTransform
from .utils import HALF_LOG_2PI, broadcast_all, lazy_property

_REAL_AND_POSITIVE = {"loc": constraints.real, "scale": constraints.positive}


@composite
def _log_prob(value: Any, loc: Any, scale: Any) -> Any:
    d = value - loc
    return -(d * d) / (2 * (scale * scale)) - scale.log() - HALF_LOG_2PI


@composite
def _moved(eps: Any, loc: Any, scale: Any) -> Any:
    return loc + eps * scale


@composite
def _cdf(value: Any, loc: Any, scale: Any) -> Any:
    return 0.5 * (1 + ((value - loc) / (scale * math.sqrt(2))).erf())


@composite
def _icdf(value: Any, loc: Any, scale: Any) -> Any:
    return loc + scale * (2 * value - 1).erfinv() * math.sqrt(2)


@composite
def _entropy(scale: Any) -> Any:
    return 0.5 + HALF_LOG_2PI + scale.log()


def standard_normal(shape: Any, like: Any) -> Any:
    """Standard normals of a shape, of the dtype of ``like``."""
    return fl.randn(shape, dtype=like.dtype)


class Normal(ExponentialFamily):
    """The normal distribution with mean ``loc`` and standard deviation ``scale``.

    Parameters
    ----------
    loc : Tensor or float
    scale : Tensor or float
        Positive; both are broadcast together.

    Examples
    --------
    >>> import flambeau as torch
    >>> normal = torch.distributions.Normal(0.0, 2.0)
    >>> normal.log_prob(torch.tensor([0.0, 2.0]))
    tensor([-1.6121, -2.1121])
    """

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.real
    has_rsample = True
    _mean_carrier_measure = 0
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def stddev(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        return self.scale * self.scale

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            return _moved(standard_normal(self._extended_shape(sample_shape), self.loc), self.loc, self.scale)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return _moved(standard_normal(self._extended_shape(sample_shape), self.loc), self.loc, self.scale)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _log_prob(value, self.loc, self.scale)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _cdf(value, self.loc, self.scale)

    def icdf(self, value: Any) -> Any:
        return _icdf(value, self.loc, self.scale)

    def entropy(self) -> Any:
        return _entropy(self.scale)

    @property
    def _natural_params(self) -> tuple[Any, Any]:
        return self.loc / self.scale**2, -0.5 / self.scale**2

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return -0.25 * x**2 / y + 0.5 * (-math.pi / y).log()


class LogNormal(TransformedDistribution):
    """The distribution of ``exp(x)``, x normal with mean ``loc`` and standard deviation ``scale``."""

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.positive
    has_rsample = True
    _parameters = ()

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(loc, scale, validate_args=validate_args), ExpTransform(), validate_args=validate_args)

    @property
    def loc(self) -> Any:
        """The mean of the logarithm."""
        return self.base_dist.loc

    @property
    def scale(self) -> Any:
        """The standard deviation of the logarithm."""
        return self.base_dist.scale

    @property
    def mean(self) -> Any:
        return (self.loc + self.scale**2 / 2).exp()

    @property
    def mode(self) -> Any:
        return (self.loc - self.scale**2).exp()

    @property
    def variance(self) -> Any:
        square = self.scale**2
        return square.expm1() * (2 * self.loc + square).exp()

    def entropy(self) -> Any:
        return self.base_dist.entropy() + self.loc


class HalfNormal(TransformedDistribution):
    """The distribution of ``|x|``, x normal with mean 0 and standard deviation ``scale``."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _parameters = ()

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Normal(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)

    @property
    def scale(self) -> Any:
        """The standard deviation of the whole normal distribution."""
        return self.base_dist.scale

    @property
    def mean(self) -> Any:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def mode(self) -> Any:
        return fl.zeros_like(self.scale)

    @property
    def variance(self) -> Any:
        return self.scale**2 * (1 - 2 / math.pi)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return fl.where(value >= 0, self.base_dist.log_prob(value) + math.log(2), -math.inf)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, prob: Any) -> Any:
        return self.base_dist.icdf((prob + 1) / 2)

    def entropy(self) -> Any:
        return self.base_dist.entropy() - math.log(2)


class LogisticNormal(TransformedDistribution):
    """Shares of one whose inverse stick breaking is normal: of one element more than ``loc`` and ``scale`` have."""

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.simplex
    has_rsample = True
    _parameters = ()

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape:
            base = base.expand([1])
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)

    @property
    def loc(self) -> Any:
        """The means before stick breaking."""
        return self.base_dist.base_dist.loc

    @property
    def scale(self) -> Any:
        """The standard deviations before stick breaking."""
        return self.base_dist.base_dist.scale


# Vectors ------------------------------------------------------------------------------------------------------------------------


def inverse_factor(matrix: Any) -> Any:
    """The lower triangular factor of the inverse of a positive definite matrix."""
    flipped = fl.linalg.cholesky(matrix.flip((-2, -1)))
    upper = flipped.flip((-2, -1)).mT
    return fl.linalg.solve_triangular(upper, fl.eye(matrix.shape[-1], dtype=matrix.dtype), upper=False)


def squared_distance(tril: Any, d: Any) -> Any:
    """``d · (tril tril.T)⁻¹ d`` over the last dimension of ``d``, which has the batch dimensions of ``tril`` last (or 1 in their place)."""
    n = d.shape[-1]
    if tril.ndim == 2:
        solved = fl.linalg.solve_triangular(tril, d.reshape((-1, n)).t(), upper=False)
        return (solved * solved).sum(0).reshape(d.shape[:-1])
    solved = fl.linalg.solve_triangular(tril, d.unsqueeze(-1), upper=False)
    return (solved * solved).sum((-2, -1))


def half_log_det(tril: Any) -> Any:
    """Half the logarithm of the determinant of ``tril tril.T``."""
    return tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def one_matrix(family: str, **given: Any) -> tuple[str, Any]:
    """The one of three descriptions of a covariance that was given: its name and the matrix."""
    named = [(name, matrix) for name, matrix in given.items() if matrix is not None]
    if len(named) != 1:
        raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.\n"
                         f"{family}: got {' and '.join(name for name, _ in named) or 'none of them'}")
    name, matrix = named[0]
    if matrix.ndim < 2:
        raise ValueError(f"{name} must be at least two-dimensional, with optional leading batch dimensions\n{family}: got shape {tuple(matrix.shape)}")
    return name, matrix


class MultivariateNormal(Distribution):
    """Vectors with mean ``loc`` and a covariance that is given in one of three ways.

    Parameters
    ----------
    loc : Tensor
        Shape ``(..., n)``.
    covariance_matrix, precision_matrix, scale_tril : Tensor
        One of them, of shape ``(..., n, n)``: the covariance, its inverse or its lower triangular factor, which is the fastest.

    Raises
    ------
    ValueError
        If not exactly one is given, a dimension is lacking, or it is not positive definite.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(torch.zeros(2))
    tensor(-1.8379)
    """

    arg_constraints = {"loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
                       "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky}
    support = constraints.real_vector
    has_rsample = True
    _param_events = {"loc": 1, "scale_tril": 2, "covariance_matrix": 2, "precision_matrix": 2}

    def __init__(self, loc: Any, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None,
                 validate_args: bool | None = None) -> None:
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        name, matrix = one_matrix("MultivariateNormal", covariance_matrix=covariance_matrix, precision_matrix=precision_matrix, scale_tril=scale_tril)
        batch = fl.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        self.__dict__[name] = matrix.expand((*batch, *matrix.shape[-2:]))
        self.loc = loc.expand((*batch, loc.shape[-1]))
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        self._unbroadcasted_scale_tril = (matrix if name == "scale_tril" else fl.linalg.cholesky(matrix) if name == "covariance_matrix"
                                          else inverse_factor(matrix))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        kept = self._unbroadcasted_scale_tril
        new = self._get_checked_instance(MultivariateNormal, _instance)
        for name, events in self._param_events.items():
            if name in self.__dict__:
                value = self.__dict__[name]
                new.__dict__[name] = value.expand((*batch_shape, *value.shape[value.ndim - events:]))
        new._unbroadcasted_scale_tril = kept
        new._batch_shape, new._event_shape, new._validate_args = Size(batch_shape), self._event_shape, self._validate_args
        return new

    def _whole(self, matrix: Any) -> Any:
        return matrix.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        return self._whole(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self._whole(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance."""
        return self._whole(fl.cholesky_inverse(self._unbroadcasted_scale_tril))

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return self._unbroadcasted_scale_tril.pow(2).sum(-1).expand((*self._batch_shape, *self._event_shape))

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        eps = standard_normal(self._extended_shape(sample_shape), self.loc)
        return self.loc + (self._unbroadcasted_scale_tril @ eps.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        tril = self._unbroadcasted_scale_tril
        distance = squared_distance(tril, value - self.loc)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - half_log_det(tril)

    def entropy(self) -> Any:
        h = 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + half_log_det(self._unbroadcasted_scale_tril)
        return h.expand(self._batch_shape) if self._batch_shape else h


class LowRankMultivariateNormal(Distribution):
    """Vectors with mean ``loc`` and covariance ``cov_factor @ cov_factor.T + diag(cov_diag)``.

    Parameters
    ----------
    loc : Tensor
        Shape ``(..., n)``.
    cov_factor : Tensor
        Shape ``(..., n, r)``: all work is with matrices of r by r.
    cov_diag : Tensor
        Shape ``(..., n)``, positive.
    """

    arg_constraints = {"loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        if loc.ndim < 1:
            raise ValueError("loc must be at least one-dimensional.")
        event = loc.shape[-1:]
        if cov_factor.ndim < 2:
            raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2:-1] != event:
            raise ValueError(f"cov_factor must be a batch of matrices with shape {event[0]} x m\ngot shape {tuple(cov_factor.shape)}")
        if cov_diag.shape[-1:] != event:
            raise ValueError(f"cov_diag must be a batch of vectors with shape {event}\ngot shape {tuple(cov_diag.shape)}")
        batch = fl.broadcast_shapes(loc.shape[:-1], cov_factor.shape[:-2], cov_diag.shape[:-1])
        self.loc, self.cov_diag = loc.expand((*batch, *event)), cov_diag.expand((*batch, *event))
        self.cov_factor = cov_factor.expand((*batch, *cov_factor.shape[-2:]))
        super().__init__(batch, event, validate_args=validate_args)
        self._factor, self._diagonal = cov_factor, cov_diag
        scaled = cov_factor.mT / cov_diag.unsqueeze(-2)                                         # Wᵀ D⁻¹
        self._scaled = scaled
        self._capacitance = fl.linalg.cholesky(scaled @ cov_factor + fl.eye(cov_factor.shape[-1], dtype=loc.dtype))     # of I + Wᵀ D⁻¹ W

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = self._get_checked_instance(LowRankMultivariateNormal, _instance)
        new.__dict__.update(self.__dict__)
        for name in ("covariance_matrix", "scale_tril", "precision_matrix"):
            new.__dict__.pop(name, None)
        new.loc, new.cov_diag = (x.expand((*batch_shape, *self._event_shape)) for x in (self.loc, self.cov_diag))
        new.cov_factor = self.cov_factor.expand((*batch_shape, *self.cov_factor.shape[-2:]))
        new._batch_shape = Size(batch_shape)
        return new

    def _whole(self, matrix: Any) -> Any:
        return matrix.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @property
    def mean(self) -> Any:
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @lazy_property
    def variance(self) -> Any:
        """The diagonal of the covariance."""
        return (self._factor.pow(2).sum(-1) + self._diagonal).expand((*self._batch_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Any:
        """The covariance."""
        return self._whole(self._factor @ self._factor.mT + fl.diag_embed(self._diagonal))

    @lazy_property
    def scale_tril(self) -> Any:
        """The lower triangular factor of the covariance."""
        return fl.linalg.cholesky(self.covariance_matrix)

    @lazy_property
    def precision_matrix(self) -> Any:
        """The inverse of the covariance, by Woodbury's identity."""
        a = fl.linalg.solve_triangular(self._capacitance, self._scaled, upper=False)
        return self._whole(fl.diag_embed(1 / self._diagonal) - a.mT @ a)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        shape = self._extended_shape(sample_shape)
        eps_factor = standard_normal((*shape[:-1], self.cov_factor.shape[-1]), self.loc)
        eps_diagonal = standard_normal(shape, self.loc)
        return self.loc + (self._factor @ eps_factor.unsqueeze(-1)).squeeze(-1) + self._diagonal.sqrt() * eps_diagonal

    def _half_log_det(self) -> Any:
        return half_log_det(self._capacitance) + 0.5 * self._diagonal.log().sum(-1)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        d = value - self.loc
        projected = (self._scaled @ d.unsqueeze(-1)).squeeze(-1)
        distance = (d * d / self._diagonal).sum(-1) - squared_distance(self._capacitance, projected)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + distance) - self._half_log_det()

    def entropy(self) -> Any:
        h = 0.5 * self._event_shape[0] * (1 + math.log(2 * math.pi)) + self._half_log_det()
        return h.expand(self._batch_shape) if self._batch_shape else h


__all__ = ["HalfNormal", "LogNormal", "LogisticNormal", "LowRankMultivariateNormal", "MultivariateNormal", "Normal"]
