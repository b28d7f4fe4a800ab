"""Distributions of positive numbers: exponential, gamma and its relatives, and those with heavy tails."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from . import constraints
from .derived import TransformedDistribution
from .distribution import EMPTY, Distribution, ExponentialFamily
from .transforms import AffineTransform, ExpTransform, PowerTransform
from .utils import broadcast_all, euler_constant, limits

# Exponential --------------------------------------------------------------------------------------------------------------------


@composite
def _exponential_log_prob(value: Any, rate: Any) -> Any:
    return rate.log() - rate * value


class Exponential(ExponentialFamily):
    """The exponential distribution: waiting times of events that come at ``rate``.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Exponential(2.0).mean
    tensor(0.5000)
    """

    arg_constraints = {"rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0
    _parameters = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.rate.reciprocal()

    @property
    def mode(self) -> Any:
        return fl.zeros_like(self.rate)

    @property
    def stddev(self) -> Any:
        return self.rate.reciprocal()

    @property
    def variance(self) -> Any:
        return self.rate.pow(-2)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return fl.empty(self._extended_shape(sample_shape), dtype=self.rate.dtype).exponential_() / self.rate

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _exponential_log_prob(value, self.rate)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return 1 - (-self.rate * value).exp()

    def icdf(self, value: Any) -> Any:
        return -(-value).log1p() / self.rate

    def entropy(self) -> Any:
        return 1 - self.rate.log()

    @property
    def _natural_params(self) -> tuple[Any]:
        return (-self.rate,)

    def _log_normalizer(self, x: Any) -> Any:
        return -(-x).log()


# Gamma --------------------------------------------------------------------------------------------------------------------------


@composite
def _gamma_log_prob(value: Any, concentration: Any, rate: Any) -> Any:
    return concentration.xlogy(rate) + (concentration - 1).xlogy(value) - rate * value - concentration.lgamma()


@composite
def _gamma_entropy(concentration: Any, rate: Any) -> Any:
    return concentration - rate.log() + concentration.lgamma() + (1 - concentration) * concentration.digamma()


class Gamma(ExponentialFamily):
    """The gamma distribution with shape ``concentration`` and ``rate`` (the inverse of the scale).

    Samples have PyTorch's values; their gradients are those of implicit reparametrisation.

    Examples
    --------
    >>> import flambeau as torch
    >>> gamma = torch.distributions.Gamma(3.0, 2.0)
    >>> gamma.mean, gamma.variance
    (tensor(1.5000), tensor(0.7500))
    """

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _mean_carrier_measure = 0
    _parameters = ("concentration", "rate")

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast_all(concentration, rate)
        super().__init__(self.concentration.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.concentration / self.rate

    @property
    def mode(self) -> Any:
        return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.concentration / self.rate.pow(2)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        shape = self._extended_shape(sample_shape)
        return (fl._standard_gamma(self.concentration.expand(shape)) / self.rate).clamp(min=limits(self.rate).tiny)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _gamma_log_prob(fl.as_tensor(value, dtype=self.rate.dtype), self.concentration, self.rate)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return fl.special.gammainc(self.concentration, self.rate * value)

    def entropy(self) -> Any:
        return _gamma_entropy(self.concentration, self.rate)

    @property
    def _natural_params(self) -> tuple[Any, Any]:
        return self.concentration - 1, -self.rate

    def _log_normalizer(self, x: Any, y: Any) -> Any:
        return (x + 1).lgamma() + (x + 1) * (-y.reciprocal()).log()


class Chi2(Gamma):
    """The distribution of the sum of ``df`` squares of standard normals."""

    arg_constraints = {"df": constraints.positive}
    _parameters = ("concentration", "rate")

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    @property
    def df(self) -> Any:
        """The degrees of freedom."""
        return self.concentration * 2


class InverseGamma(TransformedDistribution):
    """The distribution of ``1 / x``, x gamma."""

    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support = constraints.positive
    has_rsample = True
    _parameters = ()

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        base = Gamma(concentration, rate, validate_args=validate_args)
        super().__init__(base, PowerTransform(-fl.ones((), dtype=base.rate.dtype)), validate_args=validate_args)

    @property
    def concentration(self) -> Any:
        """The shape of the gamma distribution."""
        return self.base_dist.concentration

    @property
    def rate(self) -> Any:
        """The rate of the gamma distribution."""
        return self.base_dist.rate

    @property
    def mean(self) -> Any:
        above = self.concentration > 1
        return fl.where(above, self.rate / (fl.where(above, self.concentration, 2.0) - 1), math.inf)

    @property
    def mode(self) -> Any:
        return self.rate / (self.concentration + 1)

    @property
    def variance(self) -> Any:
        above = self.concentration > 2
        a = fl.where(above, self.concentration, 3.0)
        return fl.where(above, self.rate.square() / ((a - 1).square() * (a - 2)), math.inf)

    def entropy(self) -> Any:
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


@composite
def _fisher_log_prob(value: Any, df1: Any, df2: Any) -> Any:
    half1, half2 = df1 * 0.5, df2 * 0.5
    ratio = df1 / df2
    return ((half1 + half2).lgamma() - half1.lgamma() - half2.lgamma() + half1 * ratio.log() + (half1 - 1) * value.log()
            - (half1 + half2) * (ratio * value).log1p())


class FisherSnedecor(Distribution):
    """Fisher's F distribution: of the quotient of two means of squares, of ``df1`` and ``df2`` standard normals."""

    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support = constraints.positive
    has_rsample = True
    _parameters = ("df1", "df2")

    def __init__(self, df1: Any, df2: Any, validate_args: bool | None = None) -> None:
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1, self._gamma2 = (Gamma(0.5 * df, df, validate_args=False) for df in (self.df1, self.df2))
        super().__init__(self.df1.shape, validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new._gamma1, new._gamma2 = self._gamma1.expand(batch_shape), self._gamma2.expand(batch_shape)

    @property
    def mean(self) -> Any:
        df2 = fl.where(self.df2 > 2, self.df2, math.nan)
        return df2 / (df2 - 2)

    @property
    def mode(self) -> Any:
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return fl.where(self.df1 > 2, mode, math.nan)

    @property
    def variance(self) -> Any:
        df1, df2 = self.df1, fl.where(self.df2 > 4, self.df2, math.nan)
        return 2 * df2**2 * (df1 + df2 - 2) / (df1 * (df2 - 2) ** 2 * (df2 - 4))

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        x1, x2 = self._gamma1.rsample(sample_shape), self._gamma2.rsample(sample_shape)
        tiny = limits(x2).tiny
        return (x1 / x2.clamp(min=tiny)).clamp(min=tiny)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _fisher_log_prob(value, self.df1, self.df2)


# Heavy tails --------------------------------------------------------------------------------------------------------------------


class Pareto(TransformedDistribution):
    """The Pareto distribution: ``scale · exp(x)``, x exponential with rate ``alpha``."""

    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}
    _parameters = ("scale", "alpha")

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(Exponential(self.alpha, validate_args=validate_args), self._steps(), validate_args=validate_args)

    def _steps(self) -> list[Any]:
        return [ExpTransform(), AffineTransform(0, self.scale)]

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.scale, new.alpha = self.scale.expand(batch_shape), self.alpha.expand(batch_shape)
        new.transforms = new._steps()

    @property
    def mean(self) -> Any:
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self) -> Any:
        return self.scale

    @property
    def variance(self) -> Any:
        a = self.alpha.clamp(min=2)
        return self.scale.pow(2) * a / ((a - 1).pow(2) * (a - 2))

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.greater_than_eq(self.scale)

    def entropy(self) -> Any:
        return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class GeneralizedPareto(Distribution):
    """What exceeds a high threshold ``loc``; ``concentration`` ξ: tails like a power (ξ > 0), exponential (0), or an end at ``loc - scale / ξ`` (ξ < 0)."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive, "concentration": constraints.real}
    has_rsample = True
    _parameters = ("loc", "scale", "concentration")

    def __init__(self, loc: Any, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale, self.concentration = broadcast_all(loc, scale, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _straight(self) -> tuple[Any, Any]:
        """Where ξ is 0 but for rounding, and ξ with 1 in its place."""
        zero = self.concentration.abs() <= limits(self.loc).eps
        return zero, fl.where(zero, 1.0, self.concentration)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return self.icdf(fl.rand(self._extended_shape(sample_shape), dtype=self.loc.dtype))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        z, (zero, k) = (value - self.loc) / self.scale, self._straight()
        return fl.where(zero, -z, -(1 + 1 / k) * (k * z).log1p()) - self.scale.log()

    def log_survival_function(self, value: Any) -> Any:
        """The logarithm of the probability of what is greater than ``value``."""
        if self._validate_args:
            self._validate_sample(value)
        z, (zero, k) = (value - self.loc) / self.scale, self._straight()
        return fl.where(zero, -z, -(k * z).log1p() / k)

    def log_cdf(self, value: Any) -> Any:
        """The logarithm of :meth:`cdf`."""
        return (-self.log_survival_function(value).exp()).log1p()

    def cdf(self, value: Any) -> Any:
        return self.log_cdf(value).exp()

    def icdf(self, value: Any) -> Any:
        zero, k = self._straight()
        log_left = (-value).log1p()
        return self.loc + self.scale * fl.where(zero, -log_left, (-k * log_left).expm1() / k)

    @property
    def mean(self) -> Any:
        k = self.concentration
        mean = self.loc + self.scale / (1 - fl.where(k < 1, k, 0.5))
        return fl.where(k < 1, mean, math.inf)

    @property
    def variance(self) -> Any:
        k = fl.where(self.concentration < 0.5, self.concentration, 0.25)
        return fl.where(self.concentration < 0.5, self.scale**2 / ((1 - k) ** 2 * (1 - 2 * k)), math.inf)

    def entropy(self) -> Any:
        return (self.scale.log() + self.concentration + 1).expand(self._batch_shape)

    @property
    def mode(self) -> Any:
        return self.loc

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        k = self.concentration
        end = fl.where(k < 0, self.loc - self.scale / fl.where(k < 0, k, -1.0), math.inf)
        return constraints.interval(self.loc, end)


class Weibull(TransformedDistribution):
    """The Weibull distribution: ``scale · x^(1 / concentration)``, x exponential with rate 1."""

    arg_constraints = {"scale": constraints.positive, "concentration": constraints.positive}
    support = constraints.positive
    _parameters = ("scale", "concentration")

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast_all(scale, concentration)
        base = Exponential(fl.ones_like(self.scale), validate_args=validate_args)
        super().__init__(base, self._steps(), validate_args=validate_args)

    def _steps(self) -> list[Any]:
        return [PowerTransform(self.concentration.reciprocal()), AffineTransform(0, self.scale)]

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.scale, new.concentration = self.scale.expand(batch_shape), self.concentration.expand(batch_shape)
        new.transforms = new._steps()

    @property
    def concentration_reciprocal(self) -> Any:
        """1 / concentration."""
        return self.concentration.reciprocal()

    @property
    def mean(self) -> Any:
        return self.scale * (1 + self.concentration.reciprocal()).lgamma().exp()

    @property
    def mode(self) -> Any:
        k = self.concentration
        return self.scale * ((k - 1) / k).pow(k.reciprocal())

    @property
    def variance(self) -> Any:
        k = self.concentration.reciprocal()
        return self.scale.pow(2) * ((1 + 2 * k).lgamma().exp() - (2 * (1 + k).lgamma()).exp())

    def entropy(self) -> Any:
        k = self.concentration.reciprocal()
        return euler_constant * (1 - k) + (self.scale * k).log() + 1


__all__ = ["Chi2", "Exponential", "FisherSnedecor", "Gamma", "GeneralizedPareto", "InverseGamma", "Pareto", "Weibull"]
