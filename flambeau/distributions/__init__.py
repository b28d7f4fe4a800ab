"""``torch.distributions``: probability distributions to sample from and to differentiate.

Families of distributions, each with ``sample``, ``log_prob``, moments and, where samples can be differentiated, ``rsample``; constraints on
parameters and values; transforms between them; divergences.  Names are loaded when they are first used, family by family.

>>> from flambeau.distributions import Categorical, Normal, kl_divergence
>>> Normal(0.0, 1.0).entropy()
tensor(1.4189)
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_MODULES = {
    "distribution": "Distribution ExponentialFamily",
    "gaussian": "HalfNormal LogNormal LogisticNormal LowRankMultivariateNormal MultivariateNormal Normal",
    "line": "Cauchy Gumbel HalfCauchy Laplace StudentT Uniform VonMises",
    "positive": "Chi2 Exponential FisherSnedecor Gamma GeneralizedPareto InverseGamma Pareto Weibull",
    "shares": "Beta ContinuousBernoulli Dirichlet Kumaraswamy",
    "discrete": "Bernoulli Binomial Categorical Geometric Multinomial NegativeBinomial OneHotCategorical OneHotCategoricalStraightThrough Poisson",
    "relaxed": "ExpRelaxedCategorical LogitRelaxedBernoulli RelaxedBernoulli RelaxedOneHotCategorical",
    "matrices": "LKJCholesky Wishart",
    "derived": "Independent MixtureSameFamily TransformedDistribution",
    "kl": "kl_divergence register_kl",
    "registry": "ConstraintRegistry biject_to transform_to",
    "transforms": """AbsTransform AffineTransform CatTransform ComposeTransform CorrCholeskyTransform CumulativeDistributionTransform ExpTransform
        IndependentTransform LowerCholeskyTransform PositiveDefiniteTransform PowerTransform ReshapeTransform SigmoidTransform SoftplusTransform
        TanhTransform SoftmaxTransform StackTransform StickBreakingTransform Transform identity_transform""",
    "constraints": "",
    "utils": "",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}
# PyTorch has a module for each family: ``from torch.distributions.normal import Normal``
_THEIRS = """bernoulli beta binomial categorical cauchy chi2 constraint_registry continuous_bernoulli dirichlet exp_family exponential fishersnedecor gamma
    generalized_pareto geometric gumbel half_cauchy half_normal independent inverse_gamma kumaraswamy laplace lkj_cholesky log_normal logistic_normal
    lowrank_multivariate_normal mixture_same_family multinomial multivariate_normal negative_binomial normal one_hot_categorical pareto poisson
    relaxed_bernoulli relaxed_categorical studentT transformed_distribution uniform von_mises weibull wishart""".split()


class _TheirModule(ModuleType):
    """A module of PyTorch's by its name; it finds here what is asked of it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return __getattr__(name)


for _name in _THEIRS:
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _TheirModule(f"{__name__}.{_name}")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'torch.distributions' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES, *_MODULES})


__all__ = sorted(set(_HOMES) - {"ConstraintRegistry", "ExpRelaxedCategorical", "LogitRelaxedBernoulli"})
