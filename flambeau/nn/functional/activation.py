"""Activation functions, softmax and its relatives."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .common import in_place, into, warn

SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946


def relu(input: Any, inplace: bool = False) -> Any:
    """``max(input, 0)`` per element."""
    return fl.relu_(input) if inplace else fl.relu(input)


def sigmoid(input: Any) -> Any:
    """``1 / (1 + exp(-input))`` per element."""
    return fl.sigmoid(input)


def tanh(input: Any) -> Any:
    """Hyperbolic tangent per element."""
    return fl.tanh(input)


@composite(node="LeakyRelu")
def _leaky_relu(x: Any, negative_slope: Any) -> Any:
    return fl.where(x > 0, x, x * negative_slope)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Any:
    """``input`` where positive, else ``negative_slope * input``."""
    if inplace:
        return in_place(input, lambda x: _leaky_relu(x, negative_slope))
    return _leaky_relu(input, negative_slope)


@composite(node="Elu", wide=True)
def _elu(x: Any, alpha: Any, scale: Any) -> Any:
    # clamped, so that the unused branch neither overflows nor has a gradient
    negative = fl.expm1(x.clamp(max=0)) * (alpha * scale)
    return fl.where(x > 0, x * scale if scale != 1.0 else x, negative)


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """``input`` where positive, else ``alpha * (exp(input) - 1)``."""
    if inplace:
        return in_place(input, lambda x: _elu(x, alpha, 1.0))
    return _elu(input, alpha, 1.0)


def selu(input: Any, inplace: bool = False) -> Any:
    """Scaled ELU with the constants of self-normalising networks (Klambauer et al., 2017)."""
    if inplace:
        return in_place(input, lambda x: _elu(x, SELU_ALPHA, SELU_SCALE))
    return _elu(input, SELU_ALPHA, SELU_SCALE)


@composite(node="Celu", wide=True)
def _celu(x: Any, alpha: Any) -> Any:
    return fl.where(x > 0, x, fl.expm1(x.clamp(max=0) / alpha) * alpha)


def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Any:
    """``input`` where positive, else ``alpha * (exp(input / alpha) - 1)``."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    if inplace:
        return in_place(input, lambda x: _celu(x, alpha))
    return _celu(input, alpha)


@composite(node="Gelu", wide=True)
def _gelu(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return x * 0.5 * (1 + fl.tanh((x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)))
    return x * 0.5 * (1 + fl.erf(x * math.sqrt(0.5)))


def gelu(input: Any, approximate: str = "none", *, out: Any = None) -> Any:
    """``input`` times the normal distribution function of ``input``, exactly or by PyTorch's ``tanh`` formula."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return into(out, _gelu(input, approximate))


@composite(node="Silu", wide=True)
def _silu(x: Any) -> Any:
    return x * fl.sigmoid(x)


def silu(input: Any, inplace: bool = False) -> Any:
    """``input * sigmoid(input)``."""
    return in_place(input, _silu) if inplace else _silu(input)


@composite(node="Softplus", wide=True)
def _softplus(x: Any, beta: Any, threshold: Any) -> Any:
    z = x * beta
    return fl.where(z > threshold, x, fl.log1p(fl.exp(z.clamp(max=threshold))) / beta)


def softplus(input: Any, beta: float = 1, threshold: float = 20, *, out: Any = None) -> Any:
    """``log(1 + exp(beta * input)) / beta``; ``input`` itself where ``beta * input`` is above ``threshold``."""
    return into(out, _softplus(input, beta, threshold))


@composite(node="Mish", wide=True)
def _mish(x: Any) -> Any:
    return x * fl.tanh(_softplus(x, 1.0, 20.0))


def mish(input: Any, inplace: bool = False) -> Any:
    """``input * tanh(softplus(input))``."""
    return in_place(input, _mish) if inplace else _mish(input)


@composite(node="Hardtanh")
def _hardtanh(x: Any, min_val: Any, max_val: Any) -> Any:
    return fl.where(x <= min_val, min_val, fl.where(x >= max_val, max_val, x))


def hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Any:
    """``input`` limited to ``min_val .. max_val``."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    if not input.is_floating_point():
        min_val, max_val = int(min_val), int(max_val)
    if inplace:
        return in_place(input, lambda x: _hardtanh(x, min_val, max_val))
    return _hardtanh(input, min_val, max_val)


def relu6(input: Any, inplace: bool = False) -> Any:
    """``input`` limited to 0 .. 6."""
    return hardtanh(input, 0.0, 6.0, inplace)


@composite(node="Hardsigmoid", wide=True)
def _hardsigmoid(x: Any) -> Any:
    return _hardtanh(x + 3, 0.0, 6.0) / 6


def hardsigmoid(input: Any, inplace: bool = False) -> Any:
    """A piecewise linear sigmoid: ``(input + 3) / 6`` limited to 0 .. 1."""
    return in_place(input, _hardsigmoid) if inplace else _hardsigmoid(input)


@composite(node="Hardswish", wide=True)
def _hardswish(x: Any) -> Any:
    return x * _hardtanh(x + 3, 0.0, 6.0) / 6


def hardswish(input: Any, inplace: bool = False) -> Any:
    """``input * hardsigmoid(input)``."""
    return in_place(input, _hardswish) if inplace else _hardswish(input)


@composite(node="LogSigmoid", wide=True)
def _logsigmoid(input: Any) -> Any:
    return fl.minimum(input, fl.zeros_like(input)) - fl.log1p(fl.exp(-input.abs()))


def logsigmoid(input: Any, *, out: Any = None) -> Any:
    """``log(sigmoid(input))`` without overflow."""
    return into(out, _logsigmoid(input))


@composite(node="Softshrink")
def _softshrink(x: Any, lambd: Any) -> Any:
    return fl.where(x > lambd, x - lambd, fl.where(x < -lambd, x + lambd, x * 0))


def softshrink(input: Any, lambd: float = 0.5, *, out: Any = None) -> Any:
    """``input`` moved towards zero by ``lambd``, zero within ``-lambd .. lambd``."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd:g}.")
    return into(out, _softshrink(input, lambd))


@composite(node="Hardshrink")
def _hardshrink(input: Any, lambd: Any) -> Any:
    return fl.where((input >= -lambd) & (input <= lambd), 0.0, input)


def hardshrink(input: Any, lambd: float = 0.5, *, out: Any = None) -> Any:
    """``input`` with zero for what lies within ``-lambd .. lambd``."""
    return into(out, _hardshrink(input, lambd))


@composite(node="Sub")
def tanhshrink(input: Any) -> Any:
    """``input - tanh(input)``."""
    return input - fl.tanh(input)


@composite(node="Div")
def softsign(input: Any) -> Any:
    """``input / (1 + |input|)``."""
    return input / (input.abs() + 1)


@composite(node="Threshold")
def _threshold(x: Any, threshold: Any, value: Any) -> Any:
    return fl.where(x <= threshold, value, x)


def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Any:
    """``input`` where above ``threshold``, else ``value``."""
    if inplace:
        return in_place(input, lambda x: _threshold(x, threshold, value))
    return _threshold(input, threshold, value)


@composite(node="PreluKernel")
def _prelu(x: Any, weight: Any) -> Any:
    return fl.where(x > 0, x, weight * x)


def prelu(input: Any, weight: Any) -> Any:
    """``input`` where positive, else ``weight * input``.

    Parameters
    ----------
    input : Tensor
        Any shape; channels are dimension 1.
    weight : Tensor
        One value, or one per channel, shape ``(C,)``.
    """
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        if channels != weight.numel():
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.numel()} and channel size = {channels}."
            )
    if weight.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if input.ndim > 1:
        weight = weight.reshape(-1, *[1] * (input.ndim - 2))
    elif weight.ndim and input.ndim == 0:
        weight = weight.reshape(())
    return _prelu(input, weight)


@composite(node="RreluWithNoise")
def _rrelu(x: Any, slope: Any) -> Any:
    return fl.where(x > 0, x, x * slope)


def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False, inplace: bool = False) -> Any:
    """Leaky ReLU whose slope is drawn from ``lower .. upper`` for each element in training, and the middle of it otherwise."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    slope = fl.empty_like(input).uniform_(lower, upper) if training else (lower + upper) / 2
    if training:
        return in_place(input, lambda x: _rrelu(x, slope)) if inplace else _rrelu(input, slope)
    return leaky_relu(input, slope, inplace)


@composite(node="Glu")
def _glu(x: Any, dim: int) -> Any:
    a, b = x.chunk(2, dim)
    return a * fl.sigmoid(b)


def glu(input: Any, dim: int = -1) -> Any:
    """The first half along ``dim`` times the sigmoid of the second."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    if input.shape[dim] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim % input.ndim} is size {input.shape[dim]}")
    return _glu(input, dim)


# ------------------------------------------------------------------ softmax


def _implicit_dim(name: str, input: Any, dim: int | None) -> int:
    if dim is None:
        warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.")
        dim = 0 if input.ndim in (0, 1, 3) else 1
    return dim


def softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """``exp(input)`` scaled to sum to one along ``dim``.

    Parameters
    ----------
    input : Tensor
        Floating point, any shape.
    dim : int
        The dimension that sums to one.
    dtype : dtype, optional
        Convert to this type first.
    """
    return fl.softmax(input, _implicit_dim("softmax", input, dim), dtype)


def log_softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """``log(softmax(input, dim))``, computed without losing small values."""
    return fl.log_softmax(input, _implicit_dim("log_softmax", input, dim), dtype)


def softmin(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Any:
    """``softmax(-input, dim)``."""
    return fl.softmax(-input, _implicit_dim("softmin", input, dim), dtype)


def gumbel_softmax(logits: Any, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Any:
    """A differentiable sample from a categorical distribution (Jang et al., 2017).

    Parameters
    ----------
    logits : Tensor
        Unnormalised log probabilities, shape ``(..., classes)`` for ``dim=-1``.
    tau : float
        Temperature.
    hard : bool
        Return one-hot samples whose gradient is that of the soft ones.
    dim : int
        The dimension of the classes.
    """
    gumbels = -fl.empty_like(logits).exponential_().log()
    soft = softmax((logits + gumbels) / tau, dim)
    if not hard:
        return soft
    one_hot = fl.zeros_like(logits).scatter_(dim, soft.argmax(dim, keepdim=True), 1.0)
    return one_hot - soft.detach() + soft


# ------------------------------------------------------------------ in place


def relu_(input: Any) -> Any:
    """:func:`relu` in place."""
    return fl.relu_(input)


def elu_(input: Any, alpha: float = 1.0) -> Any:
    """:func:`elu` in place."""
    return elu(input, alpha, inplace=True)


def selu_(input: Any) -> Any:
    """:func:`selu` in place."""
    return selu(input, inplace=True)


def celu_(input: Any, alpha: float = 1.0) -> Any:
    """:func:`celu` in place."""
    return celu(input, alpha, inplace=True)


def leaky_relu_(input: Any, negative_slope: float = 0.01) -> Any:
    """:func:`leaky_relu` in place."""
    return leaky_relu(input, negative_slope, inplace=True)


def hardtanh_(input: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """:func:`hardtanh` in place."""
    return hardtanh(input, min_val, max_val, inplace=True)


def threshold_(input: Any, threshold: float, value: float) -> Any:
    """:func:`threshold` in place."""
    return in_place(input, lambda x: _threshold(x, threshold, value))


def rrelu_(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Any:
    """:func:`rrelu` in place."""
    return rrelu(input, lower, upper, training, inplace=True)
