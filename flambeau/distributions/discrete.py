"""Discrete distributions: Bernoulli, categorical, and counts."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from . import constraints
from .distribution import EMPTY, Distribution, ExponentialFamily, Size
from .positive import Gamma
from .utils import broadcast_all, lazy_property, limits, logits_to_probs, probs_to_logits, softplus


def _either(probs: Any, logits: Any) -> None:
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")


class _Binary:
    """``probs`` and ``logits`` of an event that happens or does not: whichever was not given is computed from the other."""

    @lazy_property
    def logits(self) -> Any:
        """The log odds."""
        return probs_to_logits(self.probs, is_binary=True)

    @lazy_property
    def probs(self) -> Any:
        """The probability."""
        return logits_to_probs(self.logits, is_binary=True)

    @property
    def _param(self) -> Any:
        """The one that was given."""
        mine = self.__dict__
        return mine["probs"] if "probs" in mine else mine["logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameters."""
        return self._param.shape


# Bernoulli ----------------------------------------------------------------------------------------------------------------------


@composite
def _bernoulli_log_prob(value: Any, logits: Any) -> Any:
    return value * logits - softplus(logits)


@composite
def _bernoulli_entropy(logits: Any) -> Any:
    return softplus(logits) - logits * logits.sigmoid()


@composite
def _bernoulli_mode(probs: Any) -> Any:
    mode = (probs >= 0.5).to(probs.dtype)
    return fl.where(probs == 0.5, math.nan, mode)


class Bernoulli(_Binary, ExponentialFamily):
    """1 with probability ``probs``, else 0.

    Parameters
    ----------
    probs, logits : Tensor or float
        One of them: the probability of 1, or its log odds.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Bernoulli(0.25).log_prob(torch.tensor(1.0))
    tensor(-1.3863)
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.boolean
    has_enumerate_support = True
    _mean_carrier_measure = 0
    _parameters = ("probs", "logits")

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            self.probs, = broadcast_all(probs)
        else:
            self.logits, = broadcast_all(logits)
        super().__init__(self._param.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return _bernoulli_mode(self.probs)

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            return fl.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _bernoulli_log_prob(value, self.logits)

    def entropy(self) -> Any:
        return _bernoulli_entropy(self.logits)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = fl.arange(2, dtype=self._param.dtype).view((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.logits,)

    def _log_normalizer(self, x: Any) -> Any:
        return x.exp().log1p()


@composite
def _geometric_log_prob(value: Any, probs: Any) -> Any:
    p = fl.where((probs == 1) & (value == 0), 0.0, probs)
    return value * (-p).log1p() + probs.log()


@composite
def _waiting(u: Any, probs: Any) -> Any:
    return (u.log() / (-probs).log1p()).floor()


class Geometric(_Binary, Distribution):
    """The number of failures before the first success of trials with probability ``probs``: 0, 1, 2, ...

    Parameters
    ----------
    probs, logits : Tensor or float
        One of them: the probability of success, more than 0, or its log odds.
    """

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer
    _parameters = ("probs", "logits")

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            self.probs, = broadcast_all(probs)
        else:
            self.logits, = broadcast_all(logits)
        super().__init__(self._param.shape, validate_args=validate_args)
        if self._validate_args and probs is not None and not (self.probs > 0).all():
            wrong = self.probs[~(self.probs > 0)]
            raise ValueError(f"Expected parameter probs ({type(self.probs).__name__} of shape {tuple(self.probs.shape)}) of distribution {self!r} "
                             f"to be positive but found invalid values:\n{wrong}")

    @property
    def mean(self) -> Any:
        return 1 / self.probs - 1

    @property
    def mode(self) -> Any:
        return fl.zeros_like(self.probs)

    @property
    def variance(self) -> Any:
        return (1 / self.probs - 1) / self.probs

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            u = fl.rand(self._extended_shape(sample_shape), dtype=self.probs.dtype).clamp(min=limits(self.probs).tiny)
            return _waiting(u, self.probs)

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _geometric_log_prob(value, self.probs)

    def entropy(self) -> Any:
        return _bernoulli_entropy(self.logits) / self.probs


# Categorical --------------------------------------------------------------------------------------------------------------------


@composite
def _normalized_probs(probs: Any) -> Any:
    return probs / probs.sum(-1, keepdim=True)


@composite
def _normalized_logits(logits: Any) -> Any:
    return logits - logits.logsumexp(-1, keepdim=True)


@composite
def _categorical_log_prob(value: Any, logits: Any) -> Any:
    shape = fl.broadcast_shapes(value.shape, logits.shape[:-1])
    index = value.long().expand(shape).unsqueeze(-1)
    return logits.expand((*shape, logits.shape[-1])).gather(-1, index).squeeze(-1)


@composite
def _categorical_entropy(logits: Any, probs: Any, least: float) -> Any:
    return -(logits.clamp(min=least) * probs).sum(-1)


class _Weights:
    """``probs`` and ``logits``, both normalised along the last dimension: whichever was not given is computed from the other."""

    @lazy_property
    def logits(self) -> Any:
        """The log probabilities."""
        return probs_to_logits(self.probs)

    @lazy_property
    def probs(self) -> Any:
        """The probabilities."""
        return logits_to_probs(self.logits)

    @property
    def _param(self) -> Any:
        """The one that was given."""
        mine = self.__dict__
        return mine["probs"] if "probs" in mine else mine["logits"]

    @property
    def param_shape(self) -> Any:
        """The shape of the parameters."""
        return self._param.shape


class Categorical(_Weights, Distribution):
    """The numbers 0 .. n-1 with given probabilities.

    Parameters
    ----------
    probs : Tensor
        Shape ``(..., n)``, not negative: they are normalised along the last dimension.
    logits : Tensor
        In their place: log probabilities up to a constant.

    Examples
    --------
    >>> import flambeau as torch
    >>> categorical = torch.distributions.Categorical(torch.tensor([1.0, 3.0]))
    >>> categorical.probs, categorical.log_prob(torch.tensor(1))
    (tensor([0.2500, 0.7500]), tensor(-0.2877))
    """

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    has_enumerate_support = True
    _parameters = ("probs", "logits")
    _param_events = {"probs": 1, "logits": 1}

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            if probs.ndim < 1:
                raise ValueError("`probs` parameter must be at least one-dimensional.")
            self.probs = _normalized_probs(probs)
        else:
            if logits.ndim < 1:
                raise ValueError("`logits` parameter must be at least one-dimensional.")
            self.logits = _normalized_logits(logits)
        shape = self._param.shape
        self._num_events = shape[-1]
        super().__init__(shape[:-1], validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new._num_events = self._num_events

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self) -> Any:
        """NaN: the numbers are names."""
        return fl.full(self._extended_shape(), math.nan, dtype=self._param.dtype)

    @property
    def mode(self) -> Any:
        return self.probs.argmax(-1)

    @property
    def variance(self) -> Any:
        """NaN: the numbers are names."""
        return fl.full(self._extended_shape(), math.nan, dtype=self._param.dtype)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            sample_shape = Size(sample_shape)
            rows = self.probs.reshape((-1, self._num_events))
            drawn = fl.multinomial(rows, sample_shape.numel(), True)
            return drawn.t().reshape(self._extended_shape(sample_shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _categorical_log_prob(value, self.logits)

    def entropy(self) -> Any:
        return _categorical_entropy(self.logits, self.probs, limits(self.logits).min)

    def enumerate_support(self, expand: bool = True) -> Any:
        values = fl.arange(self._num_events).view((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values


class _OfCategorical(Distribution):
    """What has the parameters of a :class:`Categorical`, and is made of one."""

    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _categorical: Categorical

    @property
    def probs(self) -> Any:
        """The probabilities."""
        return self._categorical.probs

    @property
    def logits(self) -> Any:
        """The log probabilities."""
        return self._categorical.logits

    @property
    def param_shape(self) -> Any:
        """The shape of the parameters."""
        return self._categorical.param_shape


class OneHotCategorical(_OfCategorical):
    """Vectors of zeros and a one, at a place that is :class:`Categorical`."""

    support = constraints.one_hot
    has_enumerate_support = True
    _parameters = ()

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new._categorical = self._categorical.expand(batch_shape)

    @property
    def mean(self) -> Any:
        return self.probs

    @property
    def mode(self) -> Any:
        return self._one_hot(self.probs.argmax(-1))

    @property
    def variance(self) -> Any:
        return self.probs * (1 - self.probs)

    def _one_hot(self, index: Any) -> Any:
        return fl.nn.functional.one_hot(index, self._event_shape[0]).to(self._categorical._param.dtype)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            return self._one_hot(self._categorical.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return self._categorical.log_prob(value.argmax(-1))

    def entropy(self) -> Any:
        return self._categorical.entropy()

    def enumerate_support(self, expand: bool = True) -> Any:
        n = self._event_shape[0]
        values = fl.eye(n, dtype=self._categorical._param.dtype).view((n, *[1] * len(self._batch_shape), n))
        return values.expand((n, *self._batch_shape, n)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """The same with samples that have the gradient of the probabilities (Bengio et al., 2013)."""

    has_rsample = True
    _parameters = ()

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        sample = self.sample(sample_shape)
        return sample + (self.probs - self.probs.detach())


# Counts -------------------------------------------------------------------------------------------------------------------------


@composite
def _binomial_log_prob(value: Any, count: Any, logits: Any) -> Any:
    ways = (count + 1).lgamma() - (value + 1).lgamma() - (count - value + 1).lgamma()
    return ways + value * logits - count * softplus(logits)


class Binomial(_Binary, Distribution):
    """The number of successes in ``total_count`` trials.

    Parameters
    ----------
    total_count : int or Tensor
        Not negative.
    probs, logits : Tensor
        One of them: the probability of success, or its log odds.
    """

    arg_constraints = {"total_count": constraints.nonnegative_integer, "probs": constraints.unit_interval, "logits": constraints.real}
    has_enumerate_support = True
    _parameters = ("total_count", "probs", "logits")

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            self.total_count, self.probs = broadcast_all(total_count, probs)
        else:
            self.total_count, self.logits = broadcast_all(total_count, logits)
        self.total_count = self.total_count.to(self._param.dtype)
        super().__init__(self._param.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Any:
        return self.total_count * self.probs

    @property
    def mode(self) -> Any:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        shape = self._extended_shape(sample_shape)
        with fl.no_grad():
            return fl.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _binomial_log_prob(value, self.total_count, self.logits)

    def _one_count(self, what: str) -> int:
        count = int(self.total_count.max())
        if self.total_count.min() != count:
            raise NotImplementedError(f"Inhomogeneous total count not supported by `{what}`.")
        return count

    def entropy(self) -> Any:
        self._one_count("entropy")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(log_prob.exp() * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Any:
        count = self._one_count("enumerate_support")
        values = fl.arange(1 + count, dtype=self._param.dtype).view((-1, *[1] * len(self._batch_shape)))
        return values.expand((-1, *self._batch_shape)) if expand else values


class Multinomial(_OfCategorical):
    """How often each of n outcomes came in ``total_count`` trials.

    Parameters
    ----------
    total_count : int
        The same for the whole batch.
    probs, logits : Tensor
        Shape ``(..., n)``; one of them, as in :class:`Categorical`.
    """

    _parameters = ()

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported\n"
                                      f"Multinomial: total_count is one int for the whole batch, got {type(total_count).__name__}")
        self.total_count = total_count
        self._categorical = Categorical(probs, logits, validate_args=validate_args)
        super().__init__(self._categorical.batch_shape, self._categorical.param_shape[-1:], validate_args=validate_args)

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        new.total_count, new._categorical = self.total_count, self._categorical.expand(batch_shape)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Any:
        return self.probs * self.total_count

    @property
    def variance(self) -> Any:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            drawn = self._categorical.sample((self.total_count, *sample_shape))
            last = drawn.permute((*range(1, drawn.ndim), 0))
            counts = last.new_zeros(self._extended_shape(sample_shape)).scatter_add_(-1, last, fl.ones_like(last))
            return counts.to(self.probs.dtype)

    def entropy(self) -> Any:
        n = self.total_count
        single = Binomial(n, self.probs, validate_args=False)
        values = single.enumerate_support(expand=False)[1:]
        weights = single.log_prob(values).exp()
        return n * self._categorical.entropy() - math.lgamma(n + 1) + (weights * (values + 1).lgamma()).sum((0, -1))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        possible = fl.where((value == 0) & (logits == -math.inf), 0.0, logits)
        return (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1) + (possible * value).sum(-1)


@composite
def _poisson_log_prob(value: Any, rate: Any) -> Any:
    return value.xlogy(rate) - rate - (value + 1).lgamma()


class Poisson(ExponentialFamily):
    """The number of events that come at ``rate``.  Samples have PyTorch's values.

    Examples
    --------
    >>> import flambeau as torch
    >>> torch.distributions.Poisson(2.0).log_prob(torch.tensor(0.0))
    tensor(-2.)
    """

    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer
    _parameters = ("rate",)

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        self.rate, = broadcast_all(rate)
        super().__init__(self.rate.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.rate

    @property
    def mode(self) -> Any:
        return self.rate.floor()

    @property
    def variance(self) -> Any:
        return self.rate

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            return fl.poisson(self.rate.expand(self._extended_shape(sample_shape)))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _poisson_log_prob(value, self.rate)

    @property
    def _natural_params(self) -> tuple[Any]:
        return (self.rate.log(),)

    def _log_normalizer(self, x: Any) -> Any:
        return x.exp()


@composite
def _negative_binomial_log_prob(value: Any, count: Any, logits: Any) -> Any:
    probability = -(count * softplus(logits) + value * softplus(-logits))
    ways = (count + value).lgamma() - (1 + value).lgamma() - count.lgamma()
    return probability + fl.where(count + value == 0, 0.0, ways)


class NegativeBinomial(_Binary, Distribution):
    """The number of successes before ``total_count`` failures.

    Parameters
    ----------
    total_count : Tensor or float
        Not negative, not necessarily whole.
    probs, logits : Tensor
        One of them: the probability of success, less than 1, or its log odds.
    """

    arg_constraints = {"total_count": constraints.greater_than_eq(0), "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real}
    support = constraints.nonnegative_integer
    _parameters = ("total_count", "probs", "logits")

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        _either(probs, logits)
        if probs is not None:
            self.total_count, self.probs = broadcast_all(total_count, probs)
        else:
            self.total_count, self.logits = broadcast_all(total_count, logits)
        self.total_count = self.total_count.to(self._param.dtype)
        super().__init__(self._param.shape, validate_args=validate_args)

    @property
    def mean(self) -> Any:
        return self.total_count * self.logits.exp()

    @property
    def mode(self) -> Any:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0)

    @property
    def variance(self) -> Any:
        return self.mean / (-self.logits).sigmoid()

    @lazy_property
    def _gamma(self) -> Any:
        """Its mixture over rates of Poisson distributions."""
        return Gamma(self.total_count, (-self.logits).exp(), validate_args=False)

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        with fl.no_grad():
            return fl.poisson(self._gamma.sample(sample_shape))

    def log_prob(self, value: Any) -> Any:
        if self._validate_args:
            self._validate_sample(value)
        return _negative_binomial_log_prob(value, self.total_count, self.logits)


__all__ = [
    "Bernoulli", "Binomial", "Categorical", "Geometric", "Multinomial", "NegativeBinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough",
    "Poisson",
]
