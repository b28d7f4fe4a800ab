"""The base of all distributions: shapes, validation, and what follows from what a family defines.

A family gives ``arg_constraints``, ``support``, ``rsample`` or ``sample``, ``log_prob`` and its moments.  What is evaluated often is
a composite over the parameters, so that a call records one instruction.  Values are checked with a single look at all parameters together,
as looking executes what is pending; ``validate_args=False`` does without.
"""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import flambeau as fl

from . import constraints
from .utils import lazy_property

Size = fl.Size
EMPTY = Size(())


class Distribution:
    """A probability distribution, or a batch of them.

    Parameters
    ----------
    batch_shape : Size
        The shape of the batch: of parameters of distributions over numbers.
    event_shape : Size
        The shape of one sample.
    validate_args : bool, optional
        Whether to check parameters and values; by default as :meth:`set_default_validate_args` says, which starts as ``__debug__``.

    Raises
    ------
    ValueError
        If a parameter violates its constraint; the message names both.
    """

    has_rsample: Any = False
    has_enumerate_support: Any = False
    arg_constraints: Any = None
    support: Any = None
    _validate_args: Any = __debug__
    _parameters: ClassVar[tuple[str, ...]] = ()     # what ``expand`` expands; each over its own event dimensions
    _param_events: ClassVar[dict[str, int]] = {}    # how many, where it is not 0

    @staticmethod
    def set_default_validate_args(value: bool) -> None:
        """Whether distributions check their arguments unless they are told."""
        if value not in (True, False):
            raise ValueError(f"set_default_validate_args: expected True or False, got {value!r}")
        Distribution._validate_args = value

    def __init__(self, batch_shape: Any = EMPTY, event_shape: Any = EMPTY, validate_args: bool | None = None) -> None:
        self._batch_shape, self._event_shape = batch_shape, event_shape
        if validate_args is not None:
            self._validate_args = validate_args
        if self._validate_args:
            self._validate_parameters()

    def _validate_parameters(self) -> None:
        checks = self.arg_constraints
        if checks is None:
            warnings.warn(f"{type(self)} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize the distribution "
                          "with `validate_args=False` to turn off validation.", stacklevel=3)
            return
        valid: Any = None
        for name, constraint in checks.items():
            if constraints.is_dependent(constraint) or (name not in self.__dict__ and isinstance(getattr(type(self), name, None), lazy_property)):
                continue
            inside = constraint.check(getattr(self, name).detach()).all()
            valid = inside if valid is None else valid & inside
        if valid is None or valid:
            return
        for name, constraint in checks.items():
            if name in self.__dict__ or not isinstance(getattr(type(self), name, None), lazy_property):
                value = getattr(self, name)
                if not constraints.is_dependent(constraint) and not constraint.check(value.detach()).all():
                    raise ValueError(
                        f"Expected parameter {name} ({type(value).__name__} of shape {tuple(value.shape)}) of distribution {self!r} to satisfy the "
                        f"constraint {constraint!r}, but found invalid values:\n{value}")

    # ------------------------------------------------------------------ shapes

    @property
    def batch_shape(self) -> Any:
        """The shape over which parameters are batched."""
        return self._batch_shape

    @property
    def event_shape(self) -> Any:
        """The shape of one sample, without batches."""
        return self._event_shape

    def _extended_shape(self, sample_shape: Any = EMPTY) -> Any:
        if sample_shape.__class__ is not Size:
            sample_shape = Size(sample_shape)
        return Size((*sample_shape, *self._batch_shape, *self._event_shape))

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        """The same distribution with its parameters expanded to ``batch_shape``, without copies of them."""
        new = self._like(_instance)
        batch_shape = Size(batch_shape)
        for name in self._parameters:
            if name in self.__dict__:
                value = self.__dict__[name]
                events = self._param_events.get(name, 0)
                new.__dict__[name] = value.expand((*batch_shape, *value.shape[value.ndim - events:]))
        self._expanded(new, batch_shape)
        new._batch_shape, new._event_shape, new._validate_args = batch_shape, self._event_shape, self._validate_args
        return new

    def _expanded(self, new: Any, batch_shape: Any) -> None:
        """Give ``new`` what is not among ``_parameters``."""

    def _like(self, _instance: Any) -> Any:
        """An empty instance to fill: ``expand`` knows what a constructor sets where its class says so with ``_parameters``."""
        cls = next(c for c in type(self).__mro__ if "__init__" in c.__dict__)
        if "_parameters" not in cls.__dict__ and _instance is None:
            base = next(c for c in cls.__mro__ if "_parameters" in c.__dict__)
            return self._get_checked_instance(base)
        return type(self).__new__(type(self)) if _instance is None else _instance

    def _get_checked_instance(self, cls: Any, _instance: Any = None) -> Any:
        if _instance is None and type(self).__init__ is not cls.__init__:
            raise NotImplementedError(f"Subclass {type(self).__name__} of {cls.__name__} that defines a custom __init__ method must also define a "
                                      "custom .expand() method.")
        return type(self).__new__(type(self)) if _instance is None else _instance

    # ------------------------------------------------------------------ what families define

    @property
    def mean(self) -> Any:
        """The expected value."""
        raise self._lacks("mean")

    @property
    def mode(self) -> Any:
        """The most probable value."""
        raise self._lacks("mode")

    @property
    def variance(self) -> Any:
        """The expected square of the distance from the mean."""
        raise self._lacks("variance")

    @property
    def stddev(self) -> Any:
        """The square root of the variance."""
        return self.variance.sqrt()

    def sample(self, sample_shape: Any = EMPTY) -> Any:
        """A sample, or samples of shape ``sample_shape + batch_shape + event_shape``, without gradients."""
        with fl.no_grad():
            return self.rsample(sample_shape)

    def rsample(self, sample_shape: Any = EMPTY) -> Any:
        """The same as a differentiable function of the parameters; where ``has_rsample``."""
        raise self._lacks("rsample", "Use sample() and log_prob() (the score function), or a relaxed distribution.")

    def sample_n(self, n: int) -> Any:
        """``sample((n,))``."""
        warnings.warn("sample_n(n) will be deprecated. Use .sample((n,)) instead.", UserWarning, stacklevel=2)
        return self.sample((n,))

    def log_prob(self, value: Any) -> Any:
        """The logarithm of the probability (density) at ``value``, of shape ``(sample_shape) + batch_shape``."""
        raise self._lacks("log_prob")

    def cdf(self, value: Any) -> Any:
        """The probability of what is at most ``value``."""
        raise self._lacks("cdf")

    def icdf(self, value: Any) -> Any:
        """The inverse of :meth:`cdf`."""
        raise self._lacks("icdf")

    def enumerate_support(self, expand: bool = True) -> Any:
        """All values of a discrete distribution, along a new first dimension; ``expand=False`` leaves batch dimensions at 1."""
        raise self._lacks("enumerate_support")

    def entropy(self) -> Any:
        """The entropy in nats, of shape ``batch_shape``."""
        raise self._lacks("entropy")

    def perplexity(self) -> Any:
        """``exp(entropy)``."""
        return self.entropy().exp()

    def _lacks(self, what: str, instead: str = "") -> NotImplementedError:
        return NotImplementedError(f"{type(self).__name__} has no {what}. {instead}".rstrip())

    # ------------------------------------------------------------------ checks

    def _validate_sample(self, value: Any) -> None:
        """Raise an error where ``value`` cannot be a value of this distribution."""
        if not isinstance(value, fl.Tensor):
            raise ValueError(f"The value argument to log_prob must be a Tensor\n{type(self).__name__}: got {type(value).__name__}; use torch.tensor(...)")
        event, whole = self._event_shape, (*self._batch_shape, *self._event_shape)
        if event and tuple(value.shape[value.ndim - len(event):]) != tuple(event):
            raise ValueError(f"The right-most size of value must match event_shape: {value.shape} vs {event}.")
        for mine, theirs in zip(reversed(whole), reversed(value.shape)):
            if mine != 1 and theirs != 1 and mine != theirs:
                raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {value.shape} vs {Size(whole)}.")
        try:
            support = self.support
        except NotImplementedError:
            support = None
        if support is None:
            warnings.warn(f"{type(self)} does not define `support` to enable sample validation. Please initialize the distribution with "
                          "`validate_args=False` to turn off validation.", stacklevel=3)
            return
        if not support.check(value.detach()).all():
            raise ValueError(f"Expected value argument ({type(value).__name__} of shape {tuple(value.shape)}) to be within the support ({support!r}) of "
                             f"the distribution {self!r}, but found invalid values:\n{value}")

    def __repr__(self) -> str:
        names = [name for name in (self.arg_constraints or {}) if name in self.__dict__]
        return f"{type(self).__name__}({', '.join(f'{name}: {_brief(self.__dict__[name])}' for name in names)})"


class ExponentialFamily(Distribution):
    """Distributions with density ``exp(t(x) · θ - F(θ) + k(x))``.

    A family that gives its natural parameters θ, the log normaliser F and the mean of k has its entropy by differentiating F.
    """

    @property
    def _natural_params(self) -> tuple[Any, ...]:
        raise self._lacks("natural parameters")

    def _log_normalizer(self, *natural_params: Any) -> Any:
        raise self._lacks("log normaliser")

    @property
    def _mean_carrier_measure(self) -> Any:
        raise self._lacks("mean carrier measure")

    def entropy(self) -> Any:
        """F(θ) - θ · ∇F(θ), less the mean of the carrier measure."""
        with fl.enable_grad():
            parameters = [p.detach().requires_grad_() for p in self._natural_params]
            normalizer = self._log_normalizer(*parameters)
            gradients = fl.autograd.grad(normalizer.sum(), parameters, create_graph=True)
        result = normalizer - self._mean_carrier_measure
        for p, g in zip(parameters, gradients):
            result = result - (p * g).reshape((*self._batch_shape, -1)).sum(-1)
        return result


def _brief(value: Any) -> Any:
    return value if value.numel() == 1 else value.shape


__all__ = ["Distribution", "ExponentialFamily"]
