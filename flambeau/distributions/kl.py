"""Kullback and Leibler's divergence KL(p ‖ q) = E_p[log p - log q], in closed form for the pairs of families that have one.

Between distributions on the line it is the cross entropy -E_p[log q] less the entropy of p; a cross entropy takes a few expectations
under p, which each family gives as far as they are known (``_EXPECTATIONS``).  Where p has values outside the support of q it is infinite.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .derived import Independent, TransformedDistribution
from .discrete import Bernoulli, Binomial, Categorical, Geometric, OneHotCategorical, Poisson
from .distribution import Distribution, ExponentialFamily
from .gaussian import HalfNormal, LowRankMultivariateNormal, MultivariateNormal, Normal, half_log_det, squared_distance
from .line import Cauchy, Gumbel, Laplace, Uniform
from .matrices import Wishart
from .positive import Exponential, Gamma, Pareto
from .shares import Beta, ContinuousBernoulli, Dirichlet
from .utils import HALF_LOG_2PI, euler_constant, event_sum, softplus

_REGISTRY: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}
_found: dict[tuple[type, type], Callable[[Any, Any], Any]] = {}


def register_kl(type_p: Any, type_q: Any) -> Callable[[Any], Any]:
    """Decorator: the function gives KL(p ‖ q) for distributions of these types and of their subclasses.

    Where several fit, the one for the closest types is taken, of ``p`` first.
    """
    for name, kind in (("type_p", type_p), ("type_q", type_q)):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            raise TypeError(f"Expected {name} to be a Distribution subclass but got {kind}")

    def decorator(fn: Any) -> Any:
        _REGISTRY[type_p, type_q] = fn
        _found.clear()
        return fn

    return decorator


def _closest(p: type, q: type) -> Callable[[Any, Any], Any]:
    fitting = [(a, b) for a, b in _REGISTRY if issubclass(p, a) and issubclass(q, b)]
    if not fitting:
        return _none
    by_p = min(fitting, key=lambda pair: (p.__mro__.index(pair[0]), q.__mro__.index(pair[1])))
    by_q = min(fitting, key=lambda pair: (q.__mro__.index(pair[1]), p.__mro__.index(pair[0])))
    if _REGISTRY[by_p] is not _REGISTRY[by_q]:
        warnings.warn(f"Ambiguous kl_divergence({p.__name__}, {q.__name__}). Please register_kl({by_p[0].__name__}, {by_q[1].__name__})",
                      RuntimeWarning, stacklevel=3)
    return _REGISTRY[by_p]


def _none(p: Any, q: Any) -> Any:
    raise _unknown(p, q)


def kl_divergence(p: Any, q: Any) -> Any:
    """KL(p ‖ q), of the shape to which the batch shapes are broadcast.

    Parameters
    ----------
    p, q : Distribution

    Raises
    ------
    NotImplementedError
        If no closed form is registered for their types.

    Examples
    --------
    >>> from flambeau.distributions import Normal, kl_divergence
    >>> kl_divergence(Normal(1.0, 1.0), Normal(0.0, 1.0))
    tensor(0.5000)
    """
    pair = type(p), type(q)
    fn = _found.get(pair)
    if fn is None:
        fn = _found[pair] = _closest(*pair)
    return fn(p, q)


# On the line --------------------------------------------------------------------------------------------------------------------

_Expectation = Callable[..., Any]


def _x_log_x(x: Any) -> Any:
    return fl.xlogy(x, x)


def _uniform_log(low: Any, high: Any) -> Any:
    """The mean logarithm of a number between ``low`` and ``high``."""
    return (_x_log_x(high) - _x_log_x(low)) / (high - low) - 1


# The means under p of log x, log(1 - x) and exp(-s x)
_EXPECTATIONS: dict[str, dict[type, _Expectation]] = {
    "log": {
        Beta: lambda p: p.concentration1.digamma() - (p.concentration1 + p.concentration0).digamma(),
        Exponential: lambda p: -euler_constant - p.rate.log(),
        Gamma: lambda p: p.concentration.digamma() - p.rate.log(),
        Pareto: lambda p: p.scale.log() + 1 / p.alpha,
        Uniform: lambda p: _uniform_log(p.low, p.high),
    },
    "log of the rest": {
        Beta: lambda p: p.concentration0.digamma() - (p.concentration1 + p.concentration0).digamma(),
        Uniform: lambda p: _uniform_log(1 - p.high, 1 - p.low),
    },
    "exponential": {
        Exponential: lambda p, s: p.rate / (p.rate + s),
        Gamma: lambda p, s: (1 + s / p.rate).pow(-p.concentration),
        Gumbel: lambda p, s: (-s * p.loc + (1 + s * p.scale).lgamma()).exp(),
        Normal: lambda p, s: (-s * p.loc + 0.5 * (s * p.scale) ** 2).exp(),
        Uniform: lambda p, s: ((-s * p.low).exp() - (-s * p.high).exp()) / (s * (p.high - p.low)),
    },
}


def _unknown(p: Any, q: Any) -> NotImplementedError:
    return NotImplementedError(f"No KL(p || q) is implemented for p type {type(p).__name__} and q type {type(q).__name__}\n"
                               "kl_divergence: write it with register_kl, or estimate it as (p.log_prob(x) - q.log_prob(x)).mean() with x = p.sample((n,))")


def _expected(what: str, p: Any, q: Any, *more: Any) -> Any:
    for kind, value in _EXPECTATIONS[what].items():
        if isinstance(p, kind):
            return value(p, *more)
    raise _unknown(p, q)


def _distance(p: Any, q: Any) -> Any:
    """E_p |x - loc of q|."""
    if not isinstance(p, (Laplace, Normal)):
        raise _unknown(p, q)
    d = p.loc - q.loc
    if isinstance(p, Laplace):
        return p.scale * (-d.abs() / p.scale).exp() + d.abs()
    z = d / p.scale
    return p.scale * math.sqrt(2 / math.pi) * (-0.5 * z * z).exp() + d * (z / math.sqrt(2)).erf()


def _gumbel_cross(p: Any, q: Any) -> Any:
    s = 1 / q.scale
    return q.scale.log() + (p.mean - q.loc) * s + (q.loc * s).exp() * _expected("exponential", p, q, s)


# -E_p[log q]
_CROSS: dict[type, Callable[[Any, Any], Any]] = {
    Normal: lambda p, q: (p.variance + (p.mean - q.loc) ** 2) / (2 * q.scale**2) + q.scale.log() + HALF_LOG_2PI,
    Laplace: lambda p, q: (2 * q.scale).log() + _distance(p, q) / q.scale,
    Gumbel: _gumbel_cross,
    Uniform: lambda p, q: (q.high - q.low).log(),
    Exponential: lambda p, q: q.rate * p.mean - q.rate.log(),
    Gamma: lambda p, q: (q.concentration.lgamma() - q.concentration * q.rate.log() - (q.concentration - 1) * _expected("log", p, q) + q.rate * p.mean),
    Pareto: lambda p, q: (q.alpha + 1) * _expected("log", p, q) - q.alpha.log() - q.alpha * q.scale.log(),
    Beta: lambda p, q: (q.concentration1.lgamma() + q.concentration0.lgamma() - (q.concentration1 + q.concentration0).lgamma()
                        - (q.concentration1 - 1) * _expected("log", p, q) - (q.concentration0 - 1) * _expected("log of the rest", p, q)),
    ContinuousBernoulli: lambda p, q: -p.mean * q.logits - (-q.probs).log1p() - q._log_norm(),
}


def _ends(d: Any) -> tuple[Any, Any]:
    """Where the support begins and ends."""
    if isinstance(d, Uniform):
        return d.low, d.high
    if isinstance(d, Pareto):
        return d.scale, math.inf
    if isinstance(d, (Beta, ContinuousBernoulli)):
        return 0.0, 1.0
    return (0.0 if isinstance(d, (Exponential, Gamma)) else -math.inf), math.inf


def _on_the_line(p: Any, q: Any) -> Any:
    (low, high), (least, most) = _ends(p), _ends(q)
    below, above = low < least, high > most
    if isinstance(q, Pareto) and isinstance(low, float):
        below = True        # its scale is positive
    if below is True or above is True:
        return p.entropy().new_full(fl.broadcast_shapes(p.batch_shape, q.batch_shape), math.inf)
    for kind, cross in _CROSS.items():
        if isinstance(q, kind):
            divergence = cross(p, q) - p.entropy()
    for outside in (below, above):
        if outside is not False:
            divergence = fl.where(outside, math.inf, divergence)
    return divergence


for _p in _CROSS:
    for _q in _CROSS:
        register_kl(_p, _q)(_on_the_line)


@composite
def _normal(loc: Any, scale: Any, other_loc: Any, other_scale: Any) -> Any:
    ratio, d = (scale / other_scale) ** 2, (loc - other_loc) / other_scale
    return 0.5 * (ratio + d * d - 1 - ratio.log())


@composite
def _gamma(a: Any, r: Any, b: Any, s: Any) -> Any:
    return b * (r / s).log() + b.lgamma() - a.lgamma() + (a - b) * a.digamma() - (r - s) * (a / r)


@composite
def _beta(a: Any, b: Any, c: Any, d: Any) -> Any:
    total, other = a + b, c + d
    return (c.lgamma() + d.lgamma() + total.lgamma() - other.lgamma() - a.lgamma() - b.lgamma()
            + (a - c) * a.digamma() + (b - d) * b.digamma() + (other - total) * total.digamma())


@register_kl(Normal, Normal)
def _(p: Normal, q: Normal) -> Any:
    return _normal(p.loc, p.scale, q.loc, q.scale)


@register_kl(HalfNormal, HalfNormal)
def _(p: HalfNormal, q: HalfNormal) -> Any:
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(Gamma, Gamma)
def _(p: Gamma, q: Gamma) -> Any:
    return _gamma(p.concentration, p.rate, q.concentration, q.rate)


@register_kl(Beta, Beta)
def _(p: Beta, q: Beta) -> Any:
    return _beta(p.concentration1, p.concentration0, q.concentration1, q.concentration0)


@register_kl(Cauchy, Cauchy)
def _(p: Cauchy, q: Cauchy) -> Any:
    return ((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2).log() - (4 * p.scale * q.scale).log()


# Discrete -----------------------------------------------------------------------------------------------------------------------


@composite
def _bernoulli(p: Any, p_logits: Any, q: Any, q_logits: Any) -> Any:
    one = p * (softplus(-q_logits) - softplus(-p_logits))
    zero = (1 - p) * (softplus(q_logits) - softplus(p_logits))
    return (fl.where(p == 0, 0.0, fl.where(q == 0, math.inf, one)) + fl.where(p == 1, 0.0, fl.where(q == 1, math.inf, zero)))


@composite
def _categorical(p: Any, p_logits: Any, q: Any, q_logits: Any) -> Any:
    terms = p * (p_logits - q_logits)
    return fl.where(p == 0, 0.0, fl.where(q == 0, math.inf, terms)).sum(-1)


@register_kl(Bernoulli, Bernoulli)
def _(p: Bernoulli, q: Bernoulli) -> Any:
    return _bernoulli(p.probs, p.logits, q.probs, q.logits)


@register_kl(Categorical, Categorical)
def _(p: Categorical, q: Categorical) -> Any:
    return _categorical(p.probs, p.logits, q.probs, q.logits)


@register_kl(OneHotCategorical, OneHotCategorical)
def _(p: OneHotCategorical, q: OneHotCategorical) -> Any:
    return kl_divergence(p._categorical, q._categorical)


@register_kl(Binomial, Binomial)
def _(p: Binomial, q: Binomial) -> Any:
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    divergence = p.total_count * _bernoulli(p.probs, p.logits, q.probs, q.logits)
    return fl.where(p.total_count > q.total_count, math.inf, divergence)


@register_kl(Geometric, Geometric)
def _(p: Geometric, q: Geometric) -> Any:
    return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@composite
def _poisson(rate: Any, other: Any) -> Any:
    return rate.xlogy(rate / other) - (rate - other)


@register_kl(Poisson, Poisson)
def _(p: Poisson, q: Poisson) -> Any:
    return _poisson(p.rate, q.rate)


@register_kl(Bernoulli, Poisson)
def _(p: Bernoulli, q: Poisson) -> Any:
    return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Poisson, Bernoulli)
@register_kl(Poisson, Binomial)
def _(p: Poisson, q: Any) -> Any:
    return p.rate.new_full(fl.broadcast_shapes(p.batch_shape, q.batch_shape), math.inf)


# Vectors ------------------------------------------------------------------------------------------------------------------------


@composite
def _dirichlet(a: Any, b: Any) -> Any:
    total = a.sum(-1, keepdim=True)
    return (total.lgamma().squeeze(-1) - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1)
            + ((a - b) * (a.digamma() - total.digamma())).sum(-1))


@register_kl(Dirichlet, Dirichlet)
def _(p: Dirichlet, q: Dirichlet) -> Any:
    return _dirichlet(p.concentration, q.concentration)


@register_kl(MultivariateNormal, MultivariateNormal)
@register_kl(MultivariateNormal, LowRankMultivariateNormal)
@register_kl(LowRankMultivariateNormal, MultivariateNormal)
@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _(p: Any, q: Any) -> Any:
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between multivariate normals with different event shapes cannot be computed: {p.event_shape} and {q.event_shape}")
    mine, theirs = p.scale_tril, q.scale_tril
    batch = fl.broadcast_shapes(mine.shape[:-2], theirs.shape[:-2])
    ratio = fl.linalg.solve_triangular(theirs.expand((*batch, *theirs.shape[-2:])), mine.expand((*batch, *mine.shape[-2:])), upper=False)
    spread = (ratio * ratio).sum((-2, -1)) + squared_distance(theirs, q.loc - p.loc)
    return half_log_det(theirs) - half_log_det(mine) + 0.5 * (spread - p.event_shape[0])


@register_kl(Wishart, Wishart)
def _(p: Wishart, q: Wishart) -> Any:
    mine, theirs, n = p.scale_tril, q.scale_tril, p.event_shape[-1]
    batch = fl.broadcast_shapes(mine.shape[:-2], theirs.shape[:-2])
    ratio = fl.linalg.solve_triangular(theirs.expand((*batch, n, n)), mine.expand((*batch, n, n)), upper=False)
    return (q.df * (half_log_det(theirs) - half_log_det(mine)) + 0.5 * p.df * ((ratio * ratio).sum((-2, -1)) - n)
            + q._log_multigamma() - p._log_multigamma() + 0.5 * (p.df - q.df) * p._multidigamma())


# In general ---------------------------------------------------------------------------------------------------------------------


@register_kl(ExponentialFamily, ExponentialFamily)
def _(p: Any, q: Any) -> Any:
    """The Bregman divergence of the log normaliser."""
    if type(p) is not type(q):
        raise NotImplementedError(f"The cross KL-divergence between different exponential families cannot be computed using Bregman divergences: "
                                  f"{type(p).__name__} and {type(q).__name__}")
    with fl.enable_grad():
        mine = [x.detach().requires_grad_() for x in p._natural_params]
        normalizer = p._log_normalizer(*mine)
        gradients = fl.autograd.grad(normalizer.sum(), mine, create_graph=True)
    result = q._log_normalizer(*q._natural_params) - normalizer
    for a, b, g in zip(mine, q._natural_params, gradients):
        result = result - event_sum((b - a) * g, len(q.event_shape))
    return result


@register_kl(Independent, Independent)
def _(p: Independent, q: Independent) -> Any:
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims:
        raise NotImplementedError(f"KL between Independent distributions over {p.reinterpreted_batch_ndims} and {q.reinterpreted_batch_ndims} dimensions")
    return event_sum(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _(p: TransformedDistribution, q: TransformedDistribution) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        raise NotImplementedError("KL between transformed distributions with different transforms or event shapes")
    return kl_divergence(p.base_dist, q.base_dist)


__all__ = ["kl_divergence", "register_kl"]
