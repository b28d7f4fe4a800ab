"""Questions about ``torch.distributions``: every family, divergence, transform and constraint, and what is refused.

``record_torch.py`` asks PyTorch; ``tests/test_distributions.py`` asks Flambeau.  An answer is a dictionary of what was asked to a shape, a type and
values, or to the name of the exception.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FAMILIES = {
    "Normal": "D.Normal(T([0.0, 1.0, -2.0]), T([1.0, 2.0, 0.5]))",
    "Normal of numbers": "D.Normal(0.5, T(2.0))",
    "LogNormal": "D.LogNormal(T([0.0, 1.0]), T([1.0, 0.3]))",
    "HalfNormal": "D.HalfNormal(T([1.0, 0.3]))",
    "LogisticNormal": "D.LogisticNormal(T([0.0, 1.0]), T([1.0, 0.3]))",
    "MultivariateNormal": "D.MultivariateNormal(T([0.0, 1.0]), covariance_matrix=T([[2.0, 0.5], [0.5, 1.0]]))",
    "MultivariateNormal precision": "D.MultivariateNormal(T([[0.0, 1.0], [1.0, 1.0]]), precision_matrix=T([[2.0, 0.5], [0.5, 1.0]]))",
    "MultivariateNormal factor": "D.MultivariateNormal(T([0.0, 1.0]), scale_tril=T([[[2.0, 0.0], [0.5, 1.0]], [[1.0, 0.0], [0.5, 1.0]]]))",
    "LowRankMultivariateNormal": "D.LowRankMultivariateNormal(T([0.0, 1.0, 2.0]), T([[1.0], [0.5], [-0.3]]), T([1.0, 0.4, 0.6]))",
    "Uniform": "D.Uniform(T([0.0, 1.0]), T([1.0, 3.0]))",
    "Laplace": "D.Laplace(T([0.0, 1.0]), T([1.0, 3.0]))",
    "Cauchy": "D.Cauchy(T([0.0, 1.0]), T([1.0, 3.0]))",
    "HalfCauchy": "D.HalfCauchy(T([1.0, 3.0]))",
    "Gumbel": "D.Gumbel(T([0.0, 1.0]), T([1.0, 3.0]))",
    "StudentT": "D.StudentT(T([3.0, 5.0, 1.5]), T([0.0, 1.0, 2.0]), T([1.0, 2.0, 3.0]))",
    "VonMises": "D.VonMises(T([0.0, 1.0, 3.0]), T([1.0, 4.0, 0.1]))",
    "Exponential": "D.Exponential(T([1.0, 3.0]))",
    "Gamma": "D.Gamma(T([1.0, 3.0, 0.2]), T([2.0, 1.0, 1.0]))",
    "Chi2": "D.Chi2(T([1.0, 3.0]))",
    "InverseGamma": "D.InverseGamma(T([1.5, 3.0]), T([2.0, 1.0]))",
    "FisherSnedecor": "D.FisherSnedecor(T([1.0, 3.0, 6.0]), T([2.5, 5.0, 1.0]))",
    "Pareto": "D.Pareto(T([1.0, 3.0]), T([2.0, 0.5]))",
    "Weibull": "D.Weibull(T([1.0, 3.0]), T([2.0, 0.5]))",
    "GeneralizedPareto": "D.GeneralizedPareto(T([0.0, 1.0, 0.0]), T([1.0, 2.0, 1.0]), T([0.3, -0.4, 0.0]))",
    "Dirichlet": "D.Dirichlet(T([[1.0, 3.0, 0.5], [2.0, 2.0, 2.0]]))",
    "Beta": "D.Beta(T([1.0, 3.0, 0.5]), T([2.0, 0.4, 1.0]))",
    "Kumaraswamy": "D.Kumaraswamy(T([1.0, 3.0]), T([2.0, 0.4]))",
    "ContinuousBernoulli": "D.ContinuousBernoulli(T([0.3, 0.5, 0.9]))",
    "ContinuousBernoulli logits": "D.ContinuousBernoulli(logits=T([0.3, -0.5, 0.9]))",
    "Bernoulli": "D.Bernoulli(T([0.3, 0.5, 0.9]))",
    "Bernoulli logits": "D.Bernoulli(logits=T([0.3, 0.5, -0.9]))",
    "Geometric": "D.Geometric(T([0.3, 0.5, 0.9]))",
    "Geometric logits": "D.Geometric(logits=T([0.3, 0.5, -0.9]))",
    "Categorical": "D.Categorical(T([[0.3, 0.5, 0.9], [1.0, 2.0, 3.0]]))",
    "Categorical logits": "D.Categorical(logits=T([0.3, 0.5, -0.9]))",
    "OneHotCategorical": "D.OneHotCategorical(T([[0.3, 0.5, 0.9], [1.0, 2.0, 3.0]]))",
    "OneHotCategoricalStraightThrough": "D.OneHotCategoricalStraightThrough(T([0.3, 0.5, 0.9]))",
    "Binomial": "D.Binomial(5, T([0.3, 0.5, 0.9]))",
    "Binomial logits": "D.Binomial(5, logits=T([0.3, 0.5, -0.9]))",
    "Multinomial": "D.Multinomial(5, T([[0.3, 0.5, 0.9], [1.0, 2.0, 4.0]]))",
    "Poisson": "D.Poisson(T([0.3, 5.0, 90.0]))",
    "NegativeBinomial": "D.NegativeBinomial(T([3.0, 5.0, 1.0]), T([0.3, 0.5, 0.9]))",
    "NegativeBinomial logits": "D.NegativeBinomial(T([3.0, 5.0, 1.0]), logits=T([0.3, 0.5, -0.9]))",
    "RelaxedBernoulli": "D.RelaxedBernoulli(T(0.7), T([0.3, 0.5, 0.9]))",
    "RelaxedOneHotCategorical": "D.RelaxedOneHotCategorical(T(0.7), T([0.3, 0.5, 0.9]))",
    "LKJCholesky": "D.LKJCholesky(3, T([1.0, 2.0]))",
    "Wishart": "D.Wishart(T([4.0, 5.0]), T([[2.0, 0.5], [0.5, 1.0]]))",
    "Independent": "D.Independent(D.Normal(T([[0.0, 1.0], [2.0, 3.0]]), T(1.0)), 1)",
    "MixtureSameFamily": "D.MixtureSameFamily(D.Categorical(T([0.3, 0.7])), D.Normal(T([0.0, 3.0]), T([1.0, 2.0])))",
    "MixtureSameFamily of vectors":
        "D.MixtureSameFamily(D.Categorical(T([0.3, 0.7])), D.Independent(D.Normal(T([[0.0, 3.0], [1.0, 1.0]]), T([1.0, 2.0])), 1))",
    "TransformedDistribution": "D.TransformedDistribution(D.Normal(T([0.0, 1.0]), T([1.0, 2.0])), [D.SigmoidTransform(), D.AffineTransform(1.0, -2.0)])",
    "TransformedDistribution of vectors":
        "D.TransformedDistribution(D.Normal(T([0.0, 1.0]), T([1.0, 2.0])), [D.TanhTransform(), D.AffineTransform(T([1.0, 2.0]), T([3.0, 1.0]), event_dim=1)])",
}

LINE = (
    "D.Beta(T([1.5, 2.0]), T([2.0, 0.7]))", "D.ContinuousBernoulli(T([0.3, 0.8]))", "D.Exponential(T([1.0, 2.0]))", "D.Gamma(T([1.5, 2.0]), T([2.0, 0.7]))",
    "D.Gumbel(T([0.5, 3.0]), T([1.0, 0.7]))", "D.Laplace(T([0.5, 3.0]), T([1.0, 0.7]))", "D.Normal(T([0.5, 3.0]), T([1.0, 0.7]))",
    "D.Pareto(T([1.0, 2.0]), T([2.5, 3.0]))", "D.Uniform(T([-0.5, 0.2]), T([1.0, 0.8]))",
)
PAIRS = (
    ("D.Bernoulli(T([0.3, 0.0, 1.0, 0.5]))", "D.Bernoulli(T([0.6, 0.2, 1.0, 0.0]))"),
    ("D.Bernoulli(T([0.3, 0.5]))", "D.Poisson(T([1.0, 2.0]))"), ("D.Poisson(T([1.0, 2.0]))", "D.Bernoulli(T([0.3, 0.5]))"),
    ("D.Beta(T([1.5, 2.0]), T([2.0, 0.7]))", "D.Beta(T([0.5, 3.0]), T([1.0, 1.7]))"),
    ("D.Binomial(5, T([0.3, 0.5]))", "D.Binomial(T([5.0, 4.0]), T([0.4, 0.7]))"), ("D.Binomial(4, T([0.3]))", "D.Binomial(T([5.0]), T([0.4]))"),
    ("D.Categorical(T([[0.3, 0.5, 0.0], [1.0, 1.0, 2.0]]))", "D.Categorical(T([[0.3, 0.0, 0.0], [1.0, 3.0, 2.0]]))"),
    ("D.Cauchy(T([0.5, 3.0]), T([1.0, 0.7]))", "D.Cauchy(T([1.5, 2.0]), T([1.0, 1.7]))"),
    ("D.ContinuousBernoulli(T([0.3, 0.8]))", "D.ContinuousBernoulli(T([0.4, 0.5]))"),
    ("D.Dirichlet(T([1.0, 2.0, 3.0]))", "D.Dirichlet(T([2.0, 0.5, 3.0]))"),
    ("D.Exponential(T([1.0, 2.0]))", "D.Exponential(T([0.5, 3.0]))"),
    ("D.Gamma(T([1.5, 2.0]), T([2.0, 0.7]))", "D.Gamma(T([0.5, 3.0]), T([1.0, 0.7]))"),
    ("D.Gumbel(T([0.5, 3.0]), T([1.0, 0.7]))", "D.Gumbel(T([-0.5, 2.0]), T([1.5, 0.7]))"),
    ("D.Geometric(T([0.3, 0.6]))", "D.Geometric(T([0.5, 0.9]))"), ("D.HalfNormal(T([1.0, 2.0]))", "D.HalfNormal(T([2.0, 0.5]))"),
    ("D.Independent(D.Normal(T([0.0, 1.0]), T([1.0, 2.0])), 1)", "D.Independent(D.Normal(T([1.0, 1.0]), T([3.0, 2.0])), 1)"),
    ("D.Laplace(T([0.5, 3.0]), T([1.0, 0.7]))", "D.Laplace(T([-0.5, 2.0]), T([1.5, 0.7]))"),
    ("D.LogNormal(T([0.5, 3.0]), T([1.0, 0.7]))", "D.LogNormal(T([1.5, 2.0]), T([1.0, 1.7]))"),
    ("D.LowRankMultivariateNormal(T([0.0, 1.0]), T([[1.0], [0.5]]), T([1.0, 0.4]))", "D.MultivariateNormal(T([1.0, 1.0]), T([[3.0, 0.5], [0.5, 2.0]]))"),
    ("D.MultivariateNormal(T([[1.0, 1.0], [0.0, 1.0]]), T([[3.0, 0.5], [0.5, 2.0]]))",
     "D.LowRankMultivariateNormal(T([0.0, 1.0]), T([[1.0], [0.5]]), T([1.0, 0.4]))"),
    ("D.OneHotCategorical(T([0.3, 0.5, 0.2]))", "D.OneHotCategorical(T([0.1, 0.5, 0.4]))"),
    ("D.Pareto(T([1.0, 2.0]), T([2.5, 3.0]))", "D.Pareto(T([0.5, 3.0]), T([1.5, 3.0]))"), ("D.Poisson(T([0.5, 3.0]))", "D.Poisson(T([1.0, 2.0]))"),
    ("D.Uniform(T([0.0, 0.2]), T([1.0, 0.8]))", "D.Uniform(T([-1.0, 0.3]), T([2.0, 3.0]))"), ("D.StudentT(T([3.0]))", "D.StudentT(T([3.0]))"),
)

VECTORS = "T([[0.3, 0.7], [0.9, 0.2], [0.5, 0.1]])"
MATRICES = "T([[[0.3, 0.7], [0.9, 0.2]], [[1.0, 0.5], [0.5, 2.0]]])"
TRANSFORMS = {
    **dict.fromkeys((
        "D.AbsTransform()", "D.AffineTransform(1.0, 2.0)", "D.AffineTransform(T([1.0, 2.0]), T([-2.0, 0.5]))",
        "D.AffineTransform(T([1.0, 2.0]), T([-2.0, 0.5]), event_dim=1)",
        "D.CatTransform([D.ExpTransform(), D.AffineTransform(1.0, 2.0)], dim=-1, lengths=[1, 1])",
        "D.CatTransform([D.ExpTransform(), D.AffineTransform(1.0, 2.0)], dim=0, lengths=[1, 2])",
        "D.ComposeTransform([D.ExpTransform(), D.AffineTransform(1.0, 2.0, event_dim=1)])", "D.CumulativeDistributionTransform(D.Normal(T(0.0), T(1.0)))",
        "D.ExpTransform()", "D.IndependentTransform(D.ExpTransform(), 1)", "D.PowerTransform(T(2.0))", "D.ReshapeTransform((2,), (2, 1))",
        "D.SigmoidTransform()", "D.SoftplusTransform()", "D.TanhTransform()", "D.SoftmaxTransform()",
        "D.StackTransform([D.ExpTransform(), D.TanhTransform()], dim=-1)", "D.StickBreakingTransform()", "D.identity_transform", "D.ExpTransform().inv",
        "D.transform_to(C.simplex)", "D.biject_to(C.interval(T(1.0), T(3.0)))", "D.transform_to(C.less_than(3.0))",
        "D.ComposeTransform([D.StickBreakingTransform(), D.ExpTransform()])"), VECTORS),
    **dict.fromkeys(("D.LowerCholeskyTransform()", "D.PositiveDefiniteTransform()"), MATRICES),
    "D.CorrCholeskyTransform()": "T([[0.3, -0.7, 0.9], [0.1, 0.2, 0.5]])",
}

CONSTRAINTS = (
    "boolean", "one_hot", "nonnegative_integer", "positive_integer", "real", "real_vector", "positive", "nonnegative", "unit_interval", "simplex",
    "lower_triangular", "lower_cholesky", "corr_cholesky", "square", "symmetric", "positive_semidefinite", "positive_definite", "interval(0.0, 1.0)",
    "half_open_interval(0.0, 1.0)", "integer_interval(0, 2)", "less_than(1.0)", "multinomial(3)", "greater_than(0.5)", "independent(C.positive, 2)",
    "cat([C.real, C.positive], 0, [1, 1])", "stack([C.positive, C.real], -1)",
)

REFUSED = (
    "D.Normal(0.0, -1.0)", "D.Normal(T([0.0, 1.0]), T([1.0, float('nan')]))", "D.Normal(torch.zeros(2), torch.ones(3))", "D.Normal('a', 1)",
    "D.Normal([0.0], 1.0)",
    "D.Normal(0.0, 1.0).log_prob(torch.tensor(float('nan')))", "D.Normal(0.0, 1.0).log_prob(1.0)", "D.Normal(torch.zeros(2), 1.0).log_prob(torch.zeros(3))",
    "D.Categorical(torch.ones(3)).log_prob(torch.tensor(3))", "D.Categorical()", "D.Categorical(torch.ones(3), logits=torch.ones(3))",
    "D.Categorical(torch.tensor(1.0))", "D.Categorical(torch.tensor([-1.0, 2.0]))", "D.Bernoulli(1.5)", "D.Bernoulli(0.5).log_prob(torch.tensor(0.3))",
    "D.Uniform(1.0, 0.0)", "D.Uniform(0.0, 1.0).log_prob(torch.tensor(2.0))", "D.MultivariateNormal(torch.zeros(2))",
    "D.MultivariateNormal(torch.zeros(2), torch.ones(2, 2))", "D.MultivariateNormal(torch.zeros(()), torch.ones(2, 2))",
    "D.MultivariateNormal(torch.zeros(2), torch.ones(2))", "D.MultivariateNormal(torch.zeros(2), torch.eye(2)).log_prob(torch.zeros(3))",
    "D.Independent(D.Normal(0.0, 1.0), 1)", "D.Poisson(-1.0)", "D.Categorical(torch.ones(3)).rsample()", "D.Categorical(torch.ones(3)).cdf(torch.tensor(1))",
    "D.Normal(0.0, 1.0).enumerate_support()", "D.Binomial(T([2.0, 3.0]), T([0.5, 0.5])).enumerate_support()", "D.StudentT(3.0).cdf(torch.tensor(1.0))",
    "D.Multinomial(torch.tensor([2, 3]), torch.ones(3))", "D.Dirichlet(torch.tensor(1.0))", "D.Normal(0.0, 1.0).sample(2)",
    "D.OneHotCategorical(torch.ones(3)).log_prob(torch.tensor([1.0, 1.0, 0.0]))", "D.Normal(torch.zeros(2), 1.0).expand([3])", "D.VonMises(0.0, 1.0).rsample()",
    "D.Geometric(0.0)", "D.LKJCholesky(1)", "D.LKJCholesky(2).log_prob(torch.ones(2, 2))", "D.Poisson(1.0).log_prob(torch.tensor(1.5))",
    "D.Binomial(3, torch.tensor(0.5)).log_prob(torch.tensor(4.0))", "D.Wishart(torch.tensor(1.0), torch.eye(3))", "D.MixtureSameFamily(1, 2)",
    "D.MixtureSameFamily(D.Categorical(torch.ones(3)), D.Normal(torch.zeros(2), 1.0))", "D.TransformedDistribution(D.Normal(0.0, 1.0), [1])",
    "D.Normal(torch.tensor(0), torch.tensor(1)).sample()", "C.dependent.check(torch.tensor(1.0))", "D.biject_to(C.dependent)", "D.biject_to(C.boolean)",
    "D.kl_divergence(D.Cauchy(0.0, 1.0), D.Gamma(1.0, 1.0))", "torch.poisson(torch.tensor([-1.0]))", "torch.poisson(torch.tensor([1]))",
    "torch.binomial(torch.tensor([1]), torch.tensor([0.5]))", "D.ReshapeTransform((2,), (3,))", "D.ExpTransform(cache_size=2)",
)


def cases() -> Iterator[tuple[str, str]]:
    """Names and questions."""
    for name, source in FAMILIES.items():
        for kind in ("float32", "float64"):
            yield f"{name} {kind}", f"family({source!r}, torch.{kind})"
    for p in LINE:
        for q in LINE:
            if p != q:
                yield f"{p.partition('(')[0]} {q.partition('(')[0]}", f"divergence({p!r}, {q!r})"
    for p, q in PAIRS:
        yield f"{p} {q}", f"divergence({p!r}, {q!r})"
    for source, x in TRANSFORMS.items():
        yield source, f"transform({source!r}, {x!r})"
    for source in CONSTRAINTS:
        yield source, f"constraint({source!r})"
    for source in REFUSED:
        yield source, f"refusal({source!r})"


class Asking:
    """The questions, of one package."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        self.names = {"torch": torch, "D": torch.distributions, "C": torch.distributions.constraints}

    def answer(self, question: str) -> Any:
        """What the package says to a question of :func:`cases`."""
        return eval(question, {"torch": self.torch, **{name: getattr(self, name) for name in ("family", "divergence", "transform", "constraint", "refusal")}})

    def make(self, source: str, dtype: Any = None, leaves: list[Any] | None = None) -> Any:
        """What ``source`` makes, its tensors of ``dtype``; where ``leaves`` are wanted, with gradients."""
        def tensor(value: Any) -> Any:
            made = self.torch.tensor(value, dtype=dtype or self.torch.float64)
            if leaves is not None:
                leaves.append(made.requires_grad_())
            return made

        return eval(source, {**self.names, "T": tensor})

    def seen(self, look: Any) -> Any:
        """Shape, type and values of a tensor, anything else as text; or the name of an exception."""
        try:
            value = look()
        except (NotImplementedError, RuntimeError, ValueError) as error:
            return type(error).__name__
        if not isinstance(value, self.torch.Tensor):
            return str(value)
        return [list(value.shape), str(value.dtype).split(".")[-1], [float(v) for v in value.detach().flatten().tolist()]]

    def family(self, source: str, dtype: Any) -> dict[str, Any]:
        torch, seen, d, answers = self.torch, self.seen, self.make(source, dtype), {}
        answers["shapes"] = [list(d.batch_shape), list(d.event_shape)]
        for name in ("mean", "mode", "variance", "stddev", "has_rsample", "has_enumerate_support"):
            answers[name] = seen(lambda: getattr(d, name))  # noqa: B023
        for name in ("entropy", "perplexity", "enumerate_support"):
            answers[name] = seen(getattr(d, name))
        more = (2, *d.batch_shape)
        for name, draw in {"sample": lambda: d.sample(), "samples": lambda: d.sample((4, 5)), "rsample": lambda: d.rsample((3,)),
                           "expanded": lambda: d.expand(more).sample((2,))}.items():
            torch.manual_seed(7)
            answers[name] = seen(draw)
        torch.manual_seed(1)
        value = d.mean if "Wishart" in source else d.sample()
        answers["value"] = seen(lambda: value)
        answers["log_prob"], answers["cdf"] = seen(lambda: d.log_prob(value)), seen(lambda: d.cdf(value))
        answers["log_prob expanded"] = seen(lambda: d.expand(more).log_prob(value.unsqueeze(0)))
        answers["icdf"] = seen(lambda: d.icdf(torch.tensor(0.3, dtype=dtype)))
        answers["support"] = seen(lambda: d.support.check(value))
        if dtype is torch.float64:
            leaves: list[Any] = []
            d = self.make(source, dtype, leaves)

            def gradient(of: Any) -> Any:
                weights = torch.arange(1, of.numel() + 1, dtype=dtype).view(of.shape).sin()
                made = torch.autograd.grad((of * weights).sum(), leaves, allow_unused=True, retain_graph=True)
                return torch.cat([torch.zeros(1, dtype=dtype) if g is None else g.flatten() for g in made])

            torch.manual_seed(4)
            answers["gradient of rsample"] = seen(lambda: gradient(d.rsample((3,))))
            for name in ("mean", "variance"):
                answers["gradient of " + name] = seen(lambda: gradient(getattr(d, name)))  # noqa: B023
            answers["gradient of entropy"] = seen(lambda: gradient(d.entropy()))
            answers["gradient of log_prob"] = seen(lambda: gradient(d.log_prob(value)))
        return answers

    def divergence(self, p: str, q: str) -> dict[str, Any]:
        return {"kl": self.seen(lambda: self.torch.distributions.kl_divergence(self.make(p), self.make(q)))}

    def transform(self, source: str, x: str) -> dict[str, Any]:
        torch, seen = self.torch, self.seen
        t, value = self.make(source), self.make(x).requires_grad_()
        y = t(value)

        def gradient() -> Any:
            weights = torch.arange(1, y.numel() + 1, dtype=y.dtype).view(y.shape)
            return torch.autograd.grad((y * weights).sum(), value)[0]

        return {
            "call": seen(lambda: y), "inverse": seen(lambda: t.inv(y)), "jacobian": seen(lambda: t.log_abs_det_jacobian(value, y)),
            "inverse jacobian": seen(lambda: t.inv.log_abs_det_jacobian(y, value)), "forward shape": seen(lambda: tuple(t.forward_shape(tuple(value.shape)))),
            "inverse shape": seen(lambda: tuple(t.inverse_shape(tuple(y.shape)))), "bijective": t.bijective, "sign": seen(lambda: t.sign),
            "domain": seen(lambda: t.domain), "codomain": seen(lambda: t.codomain), "dims": [t.domain.event_dim, t.codomain.event_dim],
            "inside": seen(lambda: t.codomain.check(y)), "gradient": seen(gradient), "repr": repr(t),
        }

    def constraint(self, source: str) -> dict[str, Any]:
        c = self.make("C." + source)
        values = ([[1.0, 0.0], [0.5, 0.5]], [[2.0, 0.5], [0.5, 2.0]], [[1.0, 0.0], [0.0, 1.0]], [[-1.0, 3.0], [0.2, 0.8]])
        return {"repr": repr(c) if "[" not in source else "", "dims": [c.event_dim, c.is_discrete],
                **{str(v): self.seen(lambda: c.check(self.torch.tensor(v))) for v in values}}  # noqa: B023

    def refusal(self, source: str) -> dict[str, Any]:
        try:
            self.make(source)
        except Exception as error:
            return {"type": type(error).__name__, "message": str(error)}
        return {"type": "", "message": ""}
