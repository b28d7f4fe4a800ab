"""``torch.distributions`` against what PyTorch answered, and by itself: moments, gradients by finite differences, copies, use in training.

The questions are in ``scripts/families.py``.  With the same seed samples have PyTorch's values.
"""

import copy
import doctest
import importlib
import json
import math
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from test_recorded import recorder

import flambeau as torch
from flambeau.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    Independent,
    MultivariateNormal,
    Normal,
    StudentT,
    TransformedDistribution,
    constraints,
    kl_divergence,
    register_kl,
    transforms,
)

ROOT = Path(__file__).resolve().parent.parent
CASES = json.loads((recorder.RECORDED / "distributions.json").read_text())["cases"]

# Where Flambeau does not do as PyTorch does: part of the case's name, the answer, and why
DIFFERENT = [
    ("Wishart", "sample", "PyTorch draws again where it takes a sample for singular"),
    ("Wishart", "samples", "the same"),
    ("Wishart", "rsample", "the same"),
    ("Wishart", "expanded", "the same"),
    ("Wishart", "gradient of rsample", "the same"),
    ("VonMises", "variance", "PyTorch's Bessel functions have 8 digits"),
    ("VonMises", "stddev", "the same"),
    ("VonMises", "log_prob", "the same"),
    ("VonMises", "log_prob expanded", "the same"),
    ("VonMises", "gradient of", "the same"),
    ("Kumaraswamy", "mode", "PyTorch takes the logarithm of a negative number"),
    ("Multinomial", "entropy", "PyTorch computes a part in float32"),
    ("Multinomial", "perplexity", "the same"),
    ("GeneralizedPareto float64", "", "PyTorch refuses float64"),
    ("StudentT", "gradient of variance", "PyTorch's is NaN where the variance is infinite"),
    ("InverseGamma", "gradient of", "the same"),
]
LOOSE = {"gradient of rsample": 3e-4}      # PyTorch approximates the derivatives of gamma and beta samples


def same(got, expected, tolerance):
    if isinstance(got, list) and isinstance(expected, list):
        return len(got) == len(expected) and all(same(g, e, tolerance) for g, e in zip(got, expected))
    if isinstance(got, float) and isinstance(expected, float):
        return got == expected or (math.isnan(got) and math.isnan(expected)) or abs(got - expected) <= tolerance * (1 + abs(expected))
    return got == expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_as_pytorch(case):
    got, expected = recorder.carry_out("distributions", case["source"], torch), case["expected"]
    assert got.keys() == expected.keys()
    if case["source"].startswith("refusal"):
        assert got["type"] == expected["type"]
        assert got["message"].startswith(expected["message"].splitlines()[0] if expected["message"] else "")
        return
    tolerance = 3e-5 if "float32" in case["name"] else 1e-9
    wrong = {name: (got[name], answer) for name, answer in expected.items()
             if not same(got[name], answer, LOOSE.get(name, tolerance))
             and not any(part in case["name"] and name.startswith(what) for part, what, _ in DIFFERENT)}
    assert not wrong, "\n".join(f"{name}: {ours} instead of {theirs}" for name, (ours, theirs) in wrong.items())


def test_every_case_is_recorded():
    assert [(case["name"], case["source"]) for case in CASES] == list(recorder.FILES["distributions"]()), "run `make record`: distributions.json is out of date"


# ---------------------------------------------------------------- by itself


@pytest.mark.parametrize("family", [
    Normal(torch.tensor([0.0, 3.0]), torch.tensor([1.0, 0.5])), Gamma(torch.tensor([0.5, 4.0]), torch.tensor([1.0, 2.0])),
    Beta(torch.tensor([0.7, 3.0]), torch.tensor([1.0, 2.0])), Dirichlet(torch.tensor([0.5, 2.0, 3.0])), StudentT(torch.tensor(8.0)),
    torch.distributions.Poisson(torch.tensor([0.5, 4.0, 30.0])), torch.distributions.Binomial(20, torch.tensor([0.1, 0.6, 0.9])),
    torch.distributions.NegativeBinomial(3.0, torch.tensor(0.4)), torch.distributions.VonMises(torch.tensor(0.5), torch.tensor(200.0)),
    torch.distributions.Laplace(1.0, 2.0), torch.distributions.Gumbel(1.0, 2.0), torch.distributions.Weibull(1.0, 2.0),
    torch.distributions.Kumaraswamy(2.0, 3.0), torch.distributions.ContinuousBernoulli(torch.tensor([0.2, 0.5])), torch.distributions.Geometric(0.3),
    torch.distributions.Multinomial(6, torch.tensor([0.2, 0.3, 0.5])), torch.distributions.LowRankMultivariateNormal(
        torch.tensor([0.0, 1.0]), torch.tensor([[1.0], [2.0]]), torch.tensor([0.5, 1.0])),
    torch.distributions.Wishart(torch.tensor(5.0), torch.tensor([[2.0, 0.5], [0.5, 1.0]])),
], ids=lambda d: type(d).__name__)
def test_moments_of_samples(family):
    torch.manual_seed(0)
    x = family.sample((4000,))
    error = family.stddev / 4000**0.5
    assert ((x.mean(0) - family.mean).abs() < 5 * error).all()
    if not isinstance(family, torch.distributions.VonMises):        # its variance is that of the circle
        assert ((x.var(0) / family.variance - 1).abs() < 0.25).all()


@pytest.mark.parametrize("make", [
    lambda a: Gamma(a, 1.0), lambda a: Beta(a, 2.0), lambda a: Beta(2.0, a), lambda a: StudentT(a), lambda a: torch.distributions.FisherSnedecor(a, 7.0),
    lambda a: torch.distributions.InverseGamma(a, 2.0), lambda a: Dirichlet(torch.stack([a, 2 * a, a * a])),
], ids=["gamma", "beta 1", "beta 0", "student", "fisher", "inverse gamma", "dirichlet"])
def test_pathwise_gradients_estimate_the_derivative_of_means(make):
    """d/da E[f(x)] by samples that move with the parameter, and by the score function: two estimates of one number."""
    torch.manual_seed(0)
    a = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)
    d = make(a)
    again = make(a)     # graphs are freed
    f = lambda x: x.sqrt().mean() if d.support is not constraints.real else (x.abs() + 1).log().mean()
    x = d.rsample((20000,))
    pathwise = torch.autograd.grad(f(x), a)[0]
    g = (x.detach().abs() + 1).log() if d.support is constraints.real else x.detach().sqrt()
    g = g.mean(-1) if d.event_shape else g
    score = torch.autograd.grad(((g - g.mean()) * again.log_prob(x.detach())).mean(), a)[0]
    assert abs(pathwise - score) < 0.02


def test_derivative_of_the_distribution_function():
    """What a pathwise derivative is by definition: -(∂F/∂a) / f, by central differences of F."""
    for a, x in ((0.1, 0.01), (0.5, 0.3), (1.0, 2.0), (3.0, 1.0), (3.0, 9.0), (50.0, 45.0), (400.0, 450.0)):
        F = lambda a: torch.special.gammainc(torch.tensor(a, dtype=torch.float64), torch.tensor(x, dtype=torch.float64)).item()  # noqa: B023
        h = 1e-4 * a
        density = math.exp((a - 1) * math.log(x) - x - math.lgamma(a))
        expected = -(F(a + h) - F(a - h)) / (2 * h) / density
        got = torch._standard_gamma_grad(torch.tensor(a, dtype=torch.float64), torch.tensor(x, dtype=torch.float64)).item()
        assert math.isclose(got, expected, rel_tol=1e-5)
    x, a, b = 0.3, 1.0, 2.0         # F = 1 - (1 - x)^b and x^a are the beta distributions with a 1
    one = torch.tensor(1.0, dtype=torch.float64)
    got = torch._dirichlet_grad(one * x, one * b, one * (b + a)).item() * (1 - x)
    assert math.isclose(got, -math.log(x) * x / b, rel_tol=1e-9)


@pytest.mark.parametrize("make", [
    lambda p: Normal(p[0], p[1].exp()), lambda p: Gamma(p[0].exp(), p[1].exp()), lambda p: Beta(p[0].exp(), p[1].exp()), lambda p: StudentT(p[0].exp(), p[1]),
    lambda p: Categorical(logits=p), lambda p: Bernoulli(logits=p), lambda p: torch.distributions.Laplace(p[0], p[1].exp()),
], ids=["normal", "gamma", "beta", "student", "categorical", "bernoulli", "laplace"])
def test_gradcheck_of_log_prob_and_entropy(make):
    p = torch.tensor([0.3, -0.4], dtype=torch.float64, requires_grad=True)
    torch.manual_seed(3)
    value = make(p).sample().detach()
    assert torch.autograd.gradcheck(lambda p: make(p).log_prob(value), p)
    assert torch.autograd.gradcheck(lambda p: make(p).entropy(), p)
    other = make(p.detach() + 0.2)
    if not isinstance(other, StudentT):
        assert torch.autograd.gradcheck(lambda p: kl_divergence(make(p), other), p)


def test_densities_sum_to_one():
    grid = torch.linspace(-40, 40, 80001, dtype=torch.float64)
    for d in (Normal(1.0, 2.0), StudentT(5.0), torch.distributions.Gumbel(0.0, 1.5), torch.distributions.Laplace(0.0, 1.0)):
        assert abs(torch.trapezoid(d.log_prob(grid).exp(), grid) - 1) < 1e-3
    inside = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)
    for d in (Beta(2.0, 3.0), torch.distributions.Kumaraswamy(2.0, 3.0), torch.distributions.ContinuousBernoulli(torch.tensor(0.3)),
              torch.distributions.RelaxedBernoulli(torch.tensor(2.0), torch.tensor(0.4))):
        assert abs(d.log_prob(inside).exp().mean() - 1) < 1e-2
    for d in (Bernoulli(0.3), torch.distributions.Binomial(7, torch.tensor(0.3)), Categorical(torch.tensor([1.0, 2.0]))):
        assert abs(d.log_prob(d.enumerate_support()).exp().sum() - 1) < 1e-5


@pytest.mark.parametrize("d", [
    Normal(0.0, 1.0), Categorical(logits=torch.zeros(3)), MultivariateNormal(torch.zeros(2), torch.eye(2)), Independent(Normal(torch.zeros(2), 1.0), 1),
    torch.distributions.LogNormal(0.0, 1.0), torch.distributions.Gumbel(0.0, 1.0),
    TransformedDistribution(Normal(0.0, 1.0), [transforms.TanhTransform(cache_size=1)]),
], ids=lambda d: type(d).__name__)
def test_pickle_and_deepcopy(d):
    d.mean if not isinstance(d, TransformedDistribution) else d.sample()        # what is computed on demand comes along
    for other in (pickle.loads(pickle.dumps(d)), copy.deepcopy(d)):
        assert type(other) is type(d) and other.batch_shape == d.batch_shape and other.event_shape == d.event_shape
        torch.manual_seed(1)
        x = d.sample((3,))
        torch.manual_seed(1)
        assert torch.equal(other.sample((3,)), x)
        if not isinstance(d, TransformedDistribution):
            assert torch.equal(other.log_prob(x), d.log_prob(x))


def test_own_families():
    class Triangle(Distribution):
        arg_constraints = {"width": constraints.positive}
        support = constraints.real

        def __init__(self, width, validate_args=None):
            self.width = width
            super().__init__(width.shape, validate_args=validate_args)

        def log_prob(self, value):
            self._validate_sample(value)
            return ((1 - value.abs() / self.width) / self.width).log()

    class Ours(Normal):
        def __init__(self, loc):
            super().__init__(loc, 1.0)

    with pytest.raises(ValueError, match="parameter width"):
        Triangle(torch.tensor([-1.0]))
    assert torch.equal(Triangle(torch.tensor([2.0])).log_prob(torch.tensor([0.0])), torch.tensor([0.5]).log())
    with pytest.raises(NotImplementedError, match="Triangle has no rsample"):
        Triangle(torch.tensor([2.0])).sample()
    with pytest.raises(NotImplementedError, match=r"must also define a custom \.expand"):
        Ours(torch.zeros(2)).expand((3, 2))
    assert kl_divergence(Ours(torch.ones(1)), Normal(0.0, 1.0)).item() == 0.5       # by way of its base class

    @register_kl(Triangle, Triangle)
    def _(p, q):
        return p.width - q.width

    assert kl_divergence(Triangle(torch.tensor(3.0)), Triangle(torch.tensor(1.0))).item() == 2


def test_divergence_of_wishart_distributions():
    """Against a mean over samples; PyTorch's formula is another one, which does not agree with its own samples."""
    eye = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
    p, q = torch.distributions.Wishart(torch.tensor(5.0), 2 * eye), torch.distributions.Wishart(torch.tensor(4.0), eye)
    torch.manual_seed(0)
    x = p.sample((4000,))
    assert abs(kl_divergence(p, q) - (p.log_prob(x) - q.log_prob(x)).mean()) < 0.1
    assert kl_divergence(p, p).abs() < 1e-5


def test_validation_can_be_turned_off():
    Normal(0.0, -1.0, validate_args=False)
    try:
        Distribution.set_default_validate_args(False)
        Normal(0.0, -1.0)
    finally:
        Distribution.set_default_validate_args(True)
    with pytest.raises(ValueError, match="parameter scale"):
        Normal(0.0, -1.0)


def test_cached_transforms_give_back_what_they_were_given():
    d = TransformedDistribution(Normal(torch.zeros(3), 20.0), [transforms.TanhTransform(cache_size=1)])
    torch.manual_seed(0)
    x = d.rsample()
    assert d.log_prob(x).isfinite().all()           # atanh(1) would be infinite
    t = transforms.ExpTransform(cache_size=1)
    x = torch.randn(3)
    assert t.inv(t(x)) is x and t.inv.inv is t


def test_scripts_find_the_modules_they_know():
    program = """
import sys
import flambeau as torch
assert not [m for m in sys.modules if m.startswith("flambeau.distributions")]
torch.distributions.Normal
assert "flambeau.distributions.kl" not in sys.modules
from flambeau.distributions.multivariate_normal import MultivariateNormal
from flambeau.distributions.kl import kl_divergence
from flambeau.distributions import constraints, transform_to
import flambeau.distributions.constraints
assert torch.distributions.normal.Normal is torch.distributions.Normal
assert set(torch.distributions.__all__) <= set(dir(torch.distributions))
for name in torch.distributions.__all__: getattr(torch.distributions, name)
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


def test_draws_leave_the_generator_where_the_last_one_was_taken():
    for draw in (lambda: torch.poisson(torch.full((7,), 3.0)), lambda: torch._standard_gamma(torch.full((5,), 0.3)),
                 lambda: torch.binomial(torch.full((5,), 50.0), torch.full((5,), 0.5))):
        torch.manual_seed(5)
        first = [draw(), draw(), torch.rand(2)]
        g = torch.Generator().manual_seed(5)
        torch.manual_seed(5)
        again = [draw(), draw(), torch.rand(2)]
        assert all(torch.equal(a, b) for a, b in zip(first, again))
        assert not torch.equal(first[0], first[1])
        torch.poisson(torch.ones(3), generator=g)
        assert torch.rand(1, generator=g).item() != torch.rand(1, generator=torch.Generator().manual_seed(5)).item()


@pytest.mark.parametrize("module", sorted((ROOT / "flambeau" / "distributions").glob("*.py")), ids=lambda path: path.stem)
def test_examples_of_the_documentation(module):
    name = "flambeau.distributions" + ("" if module.stem == "__init__" else "." + module.stem)
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_draws_with_extreme_parameters():
    inf, nan = math.inf, math.nan
    assert torch.poisson(torch.tensor([0.0, inf, 1e-30])).tolist() == [0, inf, 0]
    assert torch.binomial(torch.tensor([0.0, 5.0, 5.0, inf, 5.0, 1.0]), torch.tensor([0.5, 0.0, 1.0, 0.5, nan, 1e-30])).tolist() == [0, 0, 5, inf, 0, 0]
    assert (torch._standard_gamma(torch.tensor([0.0, -1.0, nan, 1e-30])) == 2.0**-126).all()
    assert abs(torch._standard_gamma(torch.tensor(1e20, dtype=torch.float64)) / 1e20 - 1) < 1e-8
    assert torch.poisson(torch.zeros(0, 3)).shape == (0, 3) and torch._sample_dirichlet(torch.ones(2, 0)).shape == (2, 0)
    assert torch.poisson(torch.ones(2, device="meta")).device.type == "meta"
    large = torch.poisson(torch.full((2000,), 1e12, dtype=torch.float64))
    assert abs(large.mean() - 1e12) < 1e5 and abs(large.std() / 1e6 - 1) < 0.1


# ---------------------------------------------------------------- in use


def test_variational_autoencoder():
    torch.manual_seed(0)
    encoder, decoder = torch.nn.Linear(6, 4), torch.nn.Linear(2, 6)
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.05)
    x = (torch.rand(32, 1) > 0.5).float().expand(32, 6).contiguous()
    losses = []
    for _ in range(60):
        loc, log_scale = encoder(x).chunk(2, -1)
        posterior = Normal(loc, log_scale.exp())
        reconstruction = Independent(Bernoulli(logits=decoder(posterior.rsample())), 1)
        loss = (kl_divergence(posterior, Normal(torch.zeros_like(loc), torch.ones_like(loc))).sum(-1) - reconstruction.log_prob(x)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_reinforce():
    torch.manual_seed(0)
    policy = torch.nn.Linear(3, 3)
    optimizer = torch.optim.Adam(policy.parameters(), lr=0.1)
    states = torch.eye(3)
    for _ in range(80):
        d = Categorical(logits=policy(states.repeat(16, 1)))
        action = d.sample()
        reward = (action == torch.arange(3).repeat(16)).float()
        loss = -(d.log_prob(action) * (reward - reward.mean())).mean() - 0.001 * d.entropy().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert Categorical(logits=policy(states)).mode.tolist() == [0, 1, 2]


def test_actor_critic():
    torch.manual_seed(1)
    actor, critic = torch.nn.Linear(1, 2), torch.nn.Linear(1, 1)
    optimizer = torch.optim.Adam([*actor.parameters(), *critic.parameters()], lr=0.05)
    for _ in range(150):
        state = torch.rand(64, 1)
        loc, log_scale = actor(state).chunk(2, -1)
        squashed = TransformedDistribution(Normal(loc, log_scale.clamp(-3, 1).exp()), [transforms.TanhTransform(cache_size=1)])
        action = squashed.sample()
        reward = -((action - 0.5 * state) ** 2)
        value = critic(state)
        loss = (-squashed.log_prob(action) * (reward - value).detach() + (reward - value) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    state = torch.linspace(0, 1, 5).unsqueeze(-1)
    assert ((actor(state)[:, :1].tanh() - 0.5 * state).abs() < 0.25).all()
