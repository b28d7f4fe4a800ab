"""Derivatives of gamma, beta and Dirichlet samples with respect to their parameters: implicit reparametrisation.

A sample x of a distribution F(x; a) that moves with ``a`` so that F stays as it is has the derivative -(∂F/∂a) / f.  The numerator
is the integral of a density times the derivative of its logarithm, over the side of x where there is less of it.  In the logarithm of
the variable (of the odds, for beta) its integrand falls off from x on, faster than exponentially or so; it is integrated up to where it is 2⁻⁵⁸ of
what it was, by the tanh-sinh rule (Takahasi and Mori, 1974), in float64.  Figurnov, Mohamed and Mnih, "Implicit
reparameterization gradients", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..core.dtype import float64
from .composite import composite
from .definition import pointwise
from .elementwise import where

DECAY = 40.0        # as a power of e


def _rule() -> list[tuple[float, float]]:
    """Nodes in (0, 1) and their weights."""
    step, nodes = 0.1, []
    for k in range(-31, 32):
        t = k * step
        u = math.exp(math.pi * math.sinh(t))
        nodes.append((u / (1 + u), step * math.pi * math.cosh(t) * u / (1 + u) ** 2))
    return nodes


RULE = _rule()


def _integral(exponent: Callable[[Any], Any], slope: Callable[[Any], Any], factor: Callable[[Any], Any], start: Any, end: Any) -> Any:
    """∫ exp(-exponent(w)) factor(w) dw from 0 on; ``exponent`` is convex and starts at 0, ``slope`` its derivative.

    It has decayed before ``end`` and near ``start``, from which Newton's method goes on.
    """
    width = start.minimum(end)
    for _ in range(2):
        width = (width - (exponent(width) - DECAY) / slope(width)).minimum(end)
    width, total = width.abs(), 0.0
    for node, weight in RULE:
        w = width * node
        total = total + (-exponent(w)).exp() * factor(w) * weight
    return total * width


def _quadratic(slope: Any, curvature: Any) -> Any:
    """Where ``slope · w + curvature · w² / 2`` reaches the decay."""
    return 2 * DECAY / (slope + (slope * slope + 2 * DECAY * curvature).sqrt())


@composite
def _gamma_slope(concentration: Any, sample: Any) -> Any:
    a, x = concentration.to(float64), sample.to(float64)
    above = x >= a
    sign = where(above, 1.0, -1.0).to(float64)
    near = _quadratic((x - a).abs(), where(above, x, x * (2 / 3)))
    end = where(above, where(x < 20, (2 * DECAY / x).log1p(), near), where(near < 1, near, (DECAY + x) / a))
    integral = _integral(lambda w: x * (sign * w).expm1() - a * sign * w, lambda w: sign * (x * (sign * w).exp() - a),
                         lambda w: (x.log() - a.digamma()) + sign * w, near, end)
    return (sign * x * integral).to(sample.dtype)


@composite
def _beta_slope(sample: Any, concentration: Any, total: Any) -> Any:
    """The derivative of a beta sample with respect to its first parameter, over (1 - sample)."""
    x, a, both = sample.to(float64), concentration.to(float64), total.to(float64)
    above = x * both >= a
    p, q = where(above, both - a, a), where(above, 1 - x, x).clamp(1e-300, 1 - 2.0**-53)
    slope = (p - both * q).abs()

    def logarithm(w: Any) -> Any:
        return (q * (-w).expm1()).log1p()

    end = (DECAY - both * (-q).log1p()) / p
    centre = x.log() - (a.digamma() - both.digamma())
    integral = _integral(lambda w: p * w + both * logarithm(w), lambda w: p - both * q * (-w).exp() / (1 + q * (-w).expm1()),
                         lambda w: centre - logarithm(w) - where(above, 0.0, 1.0) * w, _quadratic(slope, both * q * (1 - q)), end)
    return (where(above, 1.0, -1.0) * x * integral).to(sample.dtype)


def _standard_gamma_grad(self: Any, output: Any) -> Any:
    """The derivative of gamma samples ``output`` with respect to their concentrations ``self``."""
    return _gamma_slope(self, output)


def _dirichlet_grad(x: Any, alpha: Any, total: Any) -> Any:
    """The derivative of each share ``x`` of a Dirichlet sample with respect to its own concentration ``alpha``, over ``1 - x``."""
    return _beta_slope(x, alpha, total)


@pointwise(name="_attached_gamma", dtype="float", node="StandardGamma", inplace=False)
def attached_gamma(sample, concentration):
    """``sample``, with the gradient of a gamma sample of this concentration."""
    return sample


@attached_gamma.backward
def _(g, y, concentration):
    return None, g * _gamma_slope(concentration, y)


@pointwise(name="_attached_dirichlet", dtype="float", node="Dirichlet", inplace=False)
def attached_dirichlet(sample, concentration):
    """``sample``, with the gradient of a Dirichlet sample of these concentrations (along the last dimension)."""
    return sample


@attached_dirichlet.backward
def _(g, y, concentration):
    total = concentration.sum(-1, keepdim=True).expand(concentration.shape)
    return None, _beta_slope(y, concentration, total) * (g - (y * g).sum(-1, keepdim=True))


__all__: list[str] = []
