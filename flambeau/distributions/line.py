"""Distributions on the line, an interval or a circle: uniform, Laplace, Cauchy, Gumbel, Student and von Mises."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from . import constraints
from .derived import TransformedDistribution
from .distribution import EMPTY, Distribution
from .positive import Chi2
from .transforms import AbsTransform, AffineTransform, ExpTransform
from .utils import broadcast_all, euler_constant, limits

_REAL_AND_POSITIVE = {"loc": constraints.real, "scale": constraints.positive}


class _Checked(Distribution):
    """Values are checked before what is evaluated at them."""

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self._log_prob(value)

    def _log_prob(self, value: Any) -> Any:
        raise self._lacks("log_prob")


# Uniform ------------------------------------------------------------------------------------------------------------------------


@composite
def _uniform_log_prob(value: Any, low: Any, high: Any) -> Any:
    inside = (low <= value) & (high > value)
    return inside.to(low.dtype).log() - (high - low).log()


@composite
def _between(unit: Any, low: Any, high: Any) -> Any:
    return low + unit * (high - low)


@composite
def _uniform_cdf(value: Any, low: Any, high: Any) -> Any:
    return ((value - low) / (high - low)).clamp(0, 1)


@composite
def _log_width(low: Any, high: Any) -> Any:
    return (high - low).log()


class Uniform(_Checked):
    """The uniform distribution on ``[low, high)``.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Uniform(0.0, 4.0).mean
    tensor(2.)
    """

    has_rsample = True
    _parameters = ("low", "high")

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast_all(low, high)
        super().__init__(self.low.shape, validate_args=validate_args)

    @property
    def arg_constraints(self) -> Any:  # type: ignore[override]
        return {"low": constraints.less_than(self.high), "high": constraints.greater_than(self.low)}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self) -> Any:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Any:
        return (self.high + self.low) / 2

    @property
    def mode(self) -> Any:
        return fl.full_like(self.high, math.nan)

    @property
    def stddev(self) -> Any:
        return (self.high - self.low) / math.sqrt(12)

    @property
    def variance(self) -> Any:
        return (self.high - self.low) ** 2 / 12

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        return _between(fl.rand(self._extended_shape(sample_shape), dtype=self.low.dtype), self.low, self.high)

    def _log_prob(self, value: Any) -> Any:
        return _uniform_log_prob(value, self.low, self.high)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _uniform_cdf(value, self.low, self.high)

    def icdf(self, value: Any) -> Any:
        return _between(value, self.low, self.high)

    def entropy(self) -> Any:
        return _log_width(self.low, self.high)


# Laplace, Cauchy ----------------------------------------------------------------------------------------------------------------


@composite
def _laplace_log_prob(value: Any, loc: Any, scale: Any) -> Any:
    return -(2 * scale).log() - (value - loc).abs() / scale


@composite
def _laplace_of(u: Any, loc: Any, scale: Any) -> Any:
    return loc - scale * u.sign() * (-u.abs()).log1p()


class Laplace(_Checked):
    """The Laplace distribution: ``exp(-|x - loc| / scale) / (2 scale)``."""

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.real
    has_rsample = True
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
    def variance(self) -> Any:
        return 2 * self.scale**2

    @property
    def stddev(self) -> Any:
        return math.sqrt(2) * self.scale

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        u = fl.empty(self._extended_shape(sample_shape), dtype=self.loc.dtype).uniform_(limits(self.loc).eps - 1, 1)
        return _laplace_of(u, self.loc, self.scale)

    def _log_prob(self, value: Any) -> Any:
        return _laplace_log_prob(value, self.loc, self.scale)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        d = value - self.loc
        return 0.5 - 0.5 * d.sign() * (-d.abs() / self.scale).expm1()

    def icdf(self, value: Any) -> Any:
        term = value - 0.5
        return self.loc - self.scale * term.sign() * (-2 * term.abs()).log1p()

    def entropy(self) -> Any:
        return 1 + (2 * self.scale).log()


@composite
def _cauchy_log_prob(value: Any, loc: Any, scale: Any) -> Any:
    return -math.log(math.pi) - scale.log() - (((value - loc) / scale) ** 2).log1p()


class Cauchy(_Checked):
    """The Cauchy (Lorentz) distribution: of the quotient of two normal values with mean 0.  It has no mean and no variance (NaN, infinity)."""

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.real
    has_rsample = True
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return fl.full(self._batch_shape, math.nan, dtype=self.loc.dtype)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        return fl.full(self._batch_shape, math.inf, dtype=self.loc.dtype)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        eps = fl.empty(self._extended_shape(sample_shape), dtype=self.loc.dtype).cauchy_()
        return self.loc + eps * self.scale

    def _log_prob(self, value: Any) -> Any:
        return _cauchy_log_prob(value, self.loc, self.scale)

    def cdf(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value: Any) -> Any:
        return (math.pi * (value - 0.5)).tan() * self.scale + self.loc

    def entropy(self) -> Any:
        return math.log(4 * math.pi) + self.scale.log()


class HalfCauchy(TransformedDistribution):
    """The distribution of ``|x|``, x Cauchy around 0 with this scale."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.nonnegative
    has_rsample = True
    _parameters = ()

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        super().__init__(Cauchy(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)

    @property
    def scale(self) -> Any:
        """The scale of the whole Cauchy distribution."""
        return self.base_dist.scale

    @property
    def mean(self) -> Any:
        return fl.full(self._extended_shape(), math.inf, dtype=self.scale.dtype)

    @property
    def mode(self) -> Any:
        return fl.zeros_like(self.scale)

    @property
    def variance(self) -> Any:
        return self.base_dist.variance

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


# Gumbel, Student ----------------------------------------------------------------------------------------------------------------


@composite
def _gumbel_log_prob(value: Any, loc: Any, scale: Any) -> Any:
    y = (loc - value) / scale
    return (y - y.exp()) - scale.log()


class Gumbel(TransformedDistribution):
    """The Gumbel distribution of maxima: ``loc - scale · log(-log u)``, u uniform."""

    arg_constraints = _REAL_AND_POSITIVE
    support = constraints.real
    _parameters = ("loc", "scale")

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast_all(loc, scale)
        f = limits(self.loc)
        base = Uniform(fl.full_like(self.loc, f.tiny), fl.full_like(self.loc, 1 - f.eps), validate_args=False)
        super().__init__(base, self._steps(), validate_args=validate_args)

    def _steps(self) -> list[Any]:
        turned = AffineTransform(0, -fl.ones_like(self.scale))
        return [ExpTransform().inv, turned, ExpTransform().inv, AffineTransform(self.loc, -self.scale)]

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        new.transforms = new._steps()

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _gumbel_log_prob(value, self.loc, self.scale)

    @property
    def mean(self) -> Any:
        return self.loc + self.scale * euler_constant

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def stddev(self) -> Any:
        return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self) -> Any:
        return self.stddev**2

    def entropy(self) -> Any:
        return self.scale.log() + (1 + euler_constant)


@composite
def _student_log_prob(value: Any, df: Any, loc: Any, scale: Any) -> Any:
    y = (value - loc) / scale
    z = scale.log() + 0.5 * df.log() + 0.5 * math.log(math.pi) + (0.5 * df).lgamma() - (0.5 * (df + 1)).lgamma()
    return -0.5 * (df + 1) * (y * y / df).log1p() - z


class StudentT(_Checked):
    """Student's t distribution with ``df`` degrees of freedom, moved to ``loc`` and scaled by ``scale``."""

    arg_constraints = {"df": constraints.positive, **_REAL_AND_POSITIVE}
    support = constraints.real
    has_rsample = True
    _parameters = ("df", "loc", "scale")

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df, validate_args=False)
        super().__init__(self.df.shape, validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new._chi2 = self._chi2.expand(batch_shape)

    @property
    def mean(self) -> Any:
        return fl.where(self.df <= 1, math.nan, self.loc)

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        above = self.df > 2
        df = fl.where(above, self.df, 3.0)
        return fl.where(self.df <= 1, math.nan, fl.where(above, self.scale**2 * df / (df - 2), math.inf))

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        x = fl.randn(self._extended_shape(sample_shape), dtype=self.df.dtype)
        z = self._chi2.rsample(sample_shape)
        return self.loc + self.scale * (x * (z / self.df).rsqrt())

    def _log_prob(self, value: Any) -> Any:
        return _student_log_prob(value, self.df, self.loc, self.scale)

    def entropy(self) -> Any:
        half, more = 0.5 * self.df, 0.5 * (self.df + 1)
        log_beta = half.lgamma() + math.lgamma(0.5) - more.lgamma()
        return self.scale.log() + more * (more.digamma() - half.digamma()) + 0.5 * self.df.log() + log_beta


# Von Mises ----------------------------------------------------------------------------------------------------------------------


@composite
def _log_bessel(order: int, x: Any) -> Any:
    """log of the modified Bessel function of the first kind."""
    scaled = fl.special.i0e(x) if order == 0 else fl.special.i1e(x)
    return x + scaled.log()


class VonMises(_Checked):
    """The von Mises distribution of angles in [-π, π): normal, on a circle.

    Samples are drawn by rejection (Best and Fisher, "Efficient simulation of the von Mises distribution", 1979), in float64.
    """

    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real
    _parameters = ("loc", "concentration")

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast_all(loc, concentration)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def _log_prob(self, value: Any) -> Any:
        return self.concentration * (value - self.loc).cos() - math.log(2 * math.pi) - _log_bessel(0, self.concentration)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            shape = self._extended_shape(sample_shape)
            kappa = self.concentration.double()
            tau = 1 + (1 + 4 * kappa**2).sqrt()
            rho = (tau - (2 * tau).sqrt()) / (2 * kappa)
            r = fl.where(kappa < 1e-5, 1 / kappa + kappa, (1 + rho**2) / (2 * rho)).expand(shape)
            kappa, angle, done = kappa.expand(shape), fl.zeros(shape, dtype=fl.float64), fl.zeros(shape, dtype=fl.bool)
            while not done.all():
                u1, u2, u3 = fl.rand((3, *shape), dtype=fl.float64).unbind()
                z = (math.pi * u1).cos()
                f = (1 + r * z) / (r + z)
                c = kappa * (r - f)
                accepted = ((c * (2 - c) - u2) > 0) | ((c / u2).log() + 1 - c >= 0)
                angle = fl.where(accepted, (u3 - 0.5).sign() * f.clamp(-1, 1).acos(), angle)
                done = done | accepted
            return ((angle + math.pi + self.loc.double()) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    @property
    def mean(self) -> Any:
        """The circular mean."""
        return self.loc

    @property
    def mode(self) -> Any:
        return self.loc

    @property
    def variance(self) -> Any:
        """The circular variance."""
        return 1 - (_log_bessel(1, self.concentration) - _log_bessel(0, self.concentration)).exp()


__all__ = ["Cauchy", "Gumbel", "HalfCauchy", "Laplace", "StudentT", "Uniform", "VonMises"]
