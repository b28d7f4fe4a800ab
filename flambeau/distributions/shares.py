"""Distributions of shares: numbers in [0, 1] and vectors whose sum is 1."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from . import constraints
from .derived import TransformedDistribution
from .discrete import _Binary, _either
from .distribution import EMPTY, ExponentialFamily
from .line import Uniform
from .transforms import AffineTransform, PowerTransform
from .utils import broadcast_all, clamp_probs, euler_constant, lazy_property, logits_to_probs


@composite
def _dirichlet_log_prob(value: Any, concentration: Any) -> Any:
    return (concentration - 1).xlogy(value).sum(-1) + concentration.sum(-1).lgamma() - concentration.lgamma().sum(-1)


@composite
def _dirichlet_entropy(concentration: Any) -> Any:
    k, total = concentration.shape[-1], concentration.sum(-1)
    return (concentration.lgamma().sum(-1) - total.lgamma() - (k - total) * total.digamma() - ((concentration - 1) * concentration.digamma()).sum(-1))


class Dirichlet(ExponentialFamily):
    """The Dirichlet distribution of n shares of one.

    Samples have PyTorch's values; their gradients are those of implicit reparametrisation.

    Parameters
    ----------
    concentration : Tensor
        Shape ``(..., n)``, positive.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Dirichlet(torch.tensor([1.0, 3.0])).mean
    tensor([0.2500, 0.7500])
    """

    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support = constraints.simplex
    has_rsample = True
    _parameters = ("concentration",)
    _param_events = {"concentration": 1}

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        if concentration.ndim < 1:
            raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return fl._sample_dirichlet(self.concentration.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _dirichlet_log_prob(value, self.concentration)

    @property
    def mean(self) -> Any:
        return self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def mode(self) -> Any:
        less = (self.concentration - 1).clamp(min=0)
        mode = less / less.sum(-1, keepdim=True)
        largest = fl.nn.functional.one_hot(self.concentration.argmax(-1), self.concentration.shape[-1]).to(mode.dtype)
        return fl.where((self.concentration < 1).all(-1, keepdim=True), largest, mode)

    @property
    def variance(self) -> Any:
        total = self.concentration.sum(-1, keepdim=True)
        return self.concentration * (total - self.concentration) / (total.pow(2) * (total + 1))

    def entropy(self) -> Any:
        return _dirichlet_entropy(self.concentration)

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.concentration,)

    _mean_carrier_measure = 0

    def _log_normalizer(self, x: Any) -> Any:
        return x.lgamma().sum(-1) - x.sum(-1).lgamma()


@composite
def _beta_log_prob(value: Any, a: Any, b: Any) -> Any:
    return (a - 1).xlogy(value) + (b - 1).xlogy(1 - value) + (a + b).lgamma() - a.lgamma() - b.lgamma()


@composite
def _beta_entropy(a: Any, b: Any) -> Any:
    total = a + b
    return a.lgamma() + b.lgamma() - total.lgamma() - (a - 1) * a.digamma() - (b - 1) * b.digamma() + (total - 2) * total.digamma()


class Beta(ExponentialFamily):
    """The beta distribution: of the first of two Dirichlet shares.

    Parameters
    ----------
    concentration1, concentration0 : Tensor or float
        The weights of ``x`` and of ``1 - x`` (α and β), positive.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Beta(1.0, 3.0).mean
    tensor(0.2500)
    """

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True
    _parameters = ("concentration1", "concentration0")
    _mean_carrier_measure = 0

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Any:
        return Dirichlet(self._both(), validate_args=False).mode[..., 0]

    @property
    def variance(self) -> Any:
        a, b = self.concentration1, self.concentration0
        return a * b / ((a + b).pow(2) * (a + b + 1))

    def _both(self) -> Any:
        return fl.stack([self.concentration1, self.concentration0], -1)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        shape = self._extended_shape(sample_shape)
        return fl._sample_dirichlet(self._both().expand((*shape, 2))).select(-1, 0)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _beta_log_prob(value, self.concentration1, self.concentration0)

    def entropy(self) -> Any:
        return _beta_entropy(self.concentration1, self.concentration0)

    @property
    def _natural_params(self) -> tuple[Any, Any]:
        return self.concentration1, self.concentration0

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return x.lgamma() + y.lgamma() - (x + y).lgamma()


class Kumaraswamy(TransformedDistribution):
    """``(1 - (1 - u)^(1 / concentration0))^(1 / concentration1)``, u uniform: like a beta distribution, with closed forms."""

    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support = constraints.unit_interval
    has_rsample = True
    _parameters = ("concentration1", "concentration0")

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        base = Uniform(fl.full_like(self.concentration0, 0), fl.full_like(self.concentration0, 1), validate_args=validate_args)
        super().__init__(base, self._steps(), validate_args=validate_args)

    def _steps(self) -> list[Any]:
        turned = AffineTransform(1.0, -1.0)
        return [PowerTransform(self.concentration0.reciprocal()), turned, PowerTransform(self.concentration1.reciprocal())]

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.concentration1, new.concentration0 = self.concentration1.expand(batch_shape), self.concentration0.expand(batch_shape)
        new.transforms = new._steps()

    def _moment(self, n: int) -> Any:
        a, b = self.concentration1, self.concentration0
        k = 1 + n / a
        return b * (k.lgamma() + b.lgamma() - (k + b).lgamma()).exp()

    @property
    def mean(self) -> Any:
        return self._moment(1)

    @property
    def mode(self) -> Any:
        a, b = self.concentration1, self.concentration0
        mode = ((a - 1) / (a * b - 1)).pow(a.reciprocal())
        return fl.where((a < 1) | (b < 1), math.nan, mode)

    @property
    def variance(self) -> Any:
        return self._moment(2) - self._moment(1).pow(2)

    def entropy(self) -> Any:
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + euler_constant
        return (1 - b.reciprocal()) + (1 - a.reciprocal()) * harmonic - a.log() - b.log()


class ContinuousBernoulli(_Binary, ExponentialFamily):
    """Numbers in [0, 1] with density ∝ ``probs^x (1 - probs)^(1 - x)`` (Loaiza-Ganem and Cunningham, 2019).

    Parameters
    ----------
    probs, logits : Tensor or float
        One of them: the parameter, or its log odds.
    lims : (float, float)
        Between these values of ``probs``, where the exact formulas lose their digits, a Taylor expansion around 1/2 is used.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.unit_interval
    _mean_carrier_measure = 0
    has_rsample = True
    _parameters = ("probs", "logits")

    def __init__(self, probs: Any = None, logits: Any = None, lims: tuple[float, float] = (0.499, 0.501), validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            probs, = broadcast_all(probs)
            if (__debug__ if validate_args is None else validate_args) and not constraints.unit_interval.check(probs.detach()).all():
                raise ValueError("The parameter probs has invalid values")
            self.probs = clamp_probs(probs)
        else:
            self.logits, = broadcast_all(logits)
        self._lims = lims
        super().__init__(self._param.shape, validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new._lims = self._lims

    @lazy_property
    def probs(self) -> Any:
        """The parameter."""
        return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    def _stable(self) -> tuple[Any, Any]:
        """Where the exact formulas keep their digits, and the parameter, moved there."""
        p = self.probs
        outside = (p <= self._lims[0]) | (p > self._lims[1])
        return outside, fl.where(outside, p, self._lims[0])

    def _log_norm(self) -> Any:
        outside, p = self._stable()
        below, above = p.clamp(max=0.5), p.clamp(min=0.5)
        rounded = ((-p).log1p() - p.log()).abs().log() - fl.where(p <= 0.5, (-2 * below).log1p(), (2 * above - 1).log())
        x = (self.probs - 0.5).pow(2)
        return fl.where(outside, rounded, math.log(2) + (4 / 3 + 104 / 45 * x) * x)

    @property
    def mean(self) -> Any:
        outside, p = self._stable()
        exact = p / (2 * p - 1) + 1 / ((-p).log1p() - p.log())
        x = self.probs - 0.5
        return fl.where(outside, exact, 0.5 + (1 / 3 + 16 / 45 * x.pow(2)) * x)

    @property
    def stddev(self) -> Any:
        return self.variance.sqrt()

    @property
    def variance(self) -> Any:
        outside, p = self._stable()
        exact = p * (p - 1) / (1 - 2 * p).pow(2) + 1 / ((-p).log1p() - p.log()).pow(2)
        x = (self.probs - 0.5).pow(2)
        return fl.where(outside, exact, 1 / 12 - (1 / 15 - 128 / 945 * x) * x)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return self.icdf(fl.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return -fl.nn.functional.binary_cross_entropy_with_logits(*broadcast_all(self.logits, value), reduction="none") + self._log_norm()

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        outside, p = self._stable()
        exact = (p.pow(value) * (1 - p).pow(1 - value) + p - 1) / (2 * p - 1)
        return fl.where(value <= 0, 0.0, fl.where(value >= 1, 1.0, fl.where(outside, exact, value)))

    def icdf(self, value: Any) -> Any:
        outside, p = self._stable()
        exact = ((-p + value * (2 * p - 1)).log1p() - (-p).log1p()) / (p.log() - (-p).log1p())
        return fl.where(outside, exact, value)

    def entropy(self) -> Any:
        return -(self.mean * (self.probs.log() - (-self.probs).log1p()) + self._log_norm() + (-self.probs).log1p())

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:
        outside = (x <= self._lims[0] - 0.5) | (x > self._lims[1] - 0.5)
        cut = fl.where(outside, x, self._lims[0] - 0.5)
        return fl.where(outside, (cut.exp() - 1).abs().log() - cut.abs().log(), 0.5 * x + x.pow(2) / 24 - x.pow(4) / 2880)


__all__ = ["Beta", "ContinuousBernoulli", "Dirichlet", "Kumaraswamy"]
