"""Normalisation over features, groups, batches and channels."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .common import narrow, shown, wide


def _standardise(x: Any, dims: Any, eps: float) -> tuple[Any, Any, Any]:
    """``x`` with mean 0 and variance 1 over ``dims``, and the mean and biased variance."""
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(dims, keepdim=True)
    return centred * fl.rsqrt(variance + eps), mean, variance


@composite(node="NativeLayerNorm")
def _layer_norm(x: Any, shape: tuple[int, ...], weight: Any, bias: Any, eps: float) -> Any:
    if x.numel() == 0:
        return x.clone()
    y, _, _ = _standardise(wide(x), tuple(range(-len(shape), 0)), eps)
    if weight is not None:
        y = y * weight
    if bias is not None:
        y = y + bias
    return narrow(y, x)


def _check_shape(name: str, input: Any, shape: tuple[int, ...], weight: Any, bias: Any) -> None:
    if not shape:
        raise RuntimeError(
            f"Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but got normalized_shape = {shown(shape)}"
        )
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != shape:
            raise RuntimeError(
                f"Expected {what} to be of same shape as normalized_shape, but got {what} of shape {shown(t.shape)} and normalized_shape = {shown(shape)}"
            )
    if tuple(input.shape[-len(shape) :]) != shape:
        stars = ", ".join(["*", *map(str, shape)])
        raise RuntimeError(
            f"Given normalized_shape={shown(shape)}, expected input with shape [{stars}], but got input of "
            f"size{shown(input.shape)}\n{name}: the input "
            f"must end in {shown(shape)}, got {shown(input.shape)}."
        )


def layer_norm(input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Mean 0 and variance 1 over the last dimensions, then ``* weight + bias``.

    Parameters
    ----------
    input : Tensor
        Shape ``(*, *normalized_shape)``.
    normalized_shape : sequence of int
        The dimensions to normalise over.
    weight, bias : Tensor, optional
        Shape ``normalized_shape``.
    eps : float
        Added to the variance.
    """
    shape = tuple(normalized_shape)
    if input.shape[-len(shape) :] != shape or (weight is not None and weight.shape != shape) or (bias is not None and bias.shape != shape) or not shape:
        _check_shape("layer_norm", input, shape, weight, bias)
    return _layer_norm(input, shape, weight, bias, eps)


@composite(node="Mul")
def _rms_norm(x: Any, shape: tuple[int, ...], weight: Any, eps: float) -> Any:
    w = wide(x)
    y = w * fl.rsqrt((w * w).mean(tuple(range(-len(shape), 0)), keepdim=True) + eps)
    return narrow(y if weight is None else y * weight, x)


def rms_norm(input: Any, normalized_shape: Any, weight: Any = None, eps: float | None = None) -> Any:
    """``input`` divided by its root mean square over the last dimensions, then ``* weight``; shapes as in :func:`layer_norm`."""
    shape = tuple(normalized_shape)
    _check_shape("rms_norm", input, shape, weight, None)
    if input.numel() == 0:
        return input.clone()
    return _rms_norm(input, shape, weight, fl.finfo(wide(input).dtype).eps if eps is None else eps)


def _per_channel(t: Any, ndim: int) -> Any:
    """A ``(C,)`` tensor that broadcasts over ``(N, C, *)``."""
    return t.reshape(1, -1, *[1] * (ndim - 2))


@composite(node="NativeGroupNorm")
def _group_norm(x: Any, groups: int, weight: Any, bias: Any, eps: float) -> Any:
    if x.numel() == 0:
        return x.clone()
    y, _, _ = _standardise(wide(x).reshape(x.shape[0], groups, -1), -1, eps)
    y = y.reshape(x.shape)
    if weight is not None:
        y = y * _per_channel(weight, x.ndim)
    if bias is not None:
        y = y + _per_channel(bias, x.ndim)
    return narrow(y, x)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Mean 0 and variance 1 over each sample's groups of channels.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C, *)``.
    num_groups : int
        Divides ``C``.
    weight, bias : Tensor, optional
        Shape ``(C,)``.
    """
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    channels = input.shape[1]
    if num_groups <= 0:
        raise RuntimeError(f"Expected num groups to be greater than 0, got {num_groups}")
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape {shown(input.shape)} and num_groups={num_groups}"
        )
    for what, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != (channels,):
            raise RuntimeError(
                f"Expected {what} to be a vector of size equal to the number of channels in input, but got {what} of shape "
                f"{shown(t.shape)} and input "
                f"of shape {shown(input.shape)}"
            )
    _more_than_one_value((input.shape[0] * channels // num_groups, num_groups, *input.shape[2:]), input, "group_norm")
    return _group_norm(input, num_groups, weight, bias, eps)


@composite(node="NativeBatchNorm")
def _batch_norm_training(x: Any, running_mean: Any, running_var: Any, weight: Any, bias: Any, momentum: Any, eps: float) -> Any:
    dims = (0, *range(2, x.ndim))
    y, mean, variance = _standardise(wide(x), dims, eps)
    n = x.numel() // x.shape[1] if x.shape[1] else 0
    if n and running_mean is not None:
        running_mean.mul_(1 - momentum).add_(narrow(mean.detach().reshape(-1), running_mean) * momentum)
    if n and running_var is not None:
        of_all = n / (n - 1) if n > 1 else float("nan")
        running_var.mul_(1 - momentum).add_(narrow(variance.detach().reshape(-1), running_var) * (momentum * of_all))
    if weight is not None:
        y = y * _per_channel(weight, x.ndim)
    if bias is not None:
        y = y + _per_channel(bias, x.ndim)
    return narrow(y, x)


@composite(node="NativeBatchNorm")
def _batch_norm_inference(x: Any, mean: Any, variance: Any, weight: Any, bias: Any, eps: float) -> Any:
    scale = fl.rsqrt(variance + eps)
    if weight is not None:
        scale = scale * weight
    y = (wide(x) - _per_channel(mean, x.ndim)) * _per_channel(scale, x.ndim)
    if bias is not None:
        y = y + _per_channel(bias, x.ndim)
    return narrow(y, x)


def _more_than_one_value(shape: Any, input: Any, name: str) -> None:
    """Refuse a batch that has a single value per channel: its variance is zero."""
    n = shape[0]
    for s in shape[2:]:
        n *= s
    if n == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {fl.Size(shape)}\n{name}: training needs more than 1 "
            "value per "
            f"channel, got input {shown(input.shape)}. To predict call model.eval(); in training use a larger batch or "
            "DataLoader(drop_last=True)."
        )


def _check_channels(input: Any, **named: Any) -> None:
    for what, t in named.items():
        if t is not None and t.shape[0] != input.shape[1]:
            raise RuntimeError(
                f"{what} should contain {input.shape[1]} elements not {t.shape[0]}\nbatch_norm: input {shown(input.shape)} has "
                f"{input.shape[1]} channels "
                f"in dimension 1, {what} holds {t.shape[0]}: set num_features to {input.shape[1]}."
            )


def batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Mean 0 and variance 1 of each channel over the batch, or by the running statistics.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, C, *)``.
    running_mean, running_var : Tensor or None
        Shape ``(C,)``; in training they are moved towards the batch's statistics, otherwise they are used.
    weight, bias : Tensor, optional
        Shape ``(C,)``.
    momentum : float or Tensor
        The share of the batch in the new running statistics.

    Raises
    ------
    ValueError
        In training, if a channel has one value only.
    """
    if training:
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
        _more_than_one_value(input.shape, input, "batch_norm")
    elif running_mean is None or running_var is None:
        raise RuntimeError("Expected running_mean and running_var to be defined when training=False")
    if input.numel() == 0 and not training:
        return input.clone()
    _check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if training:
        return _batch_norm_training(input, running_mean, running_var, weight, bias, momentum, eps)
    return _batch_norm_inference(input, running_mean, running_var, weight, bias, eps)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Mean 0 and variance 1 of each channel of each sample; arguments as in :func:`batch_norm`."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError("Expected running_mean and running_var to be defined when use_input_stats is false")
        return _batch_norm_inference(input, running_mean, running_var, weight, bias, eps)
    size = 1
    for s in input.shape[2:]:
        size *= s
    if size == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    if running_mean is not None or running_var is not None:
        with fl.no_grad():
            x = wide(input).reshape(input.shape[0], input.shape[1], -1)
            for running, new in ((running_mean, x.mean(-1).mean(0)), (running_var, x.var(-1).mean(0))):
                if running is not None:
                    running.mul_(1 - momentum).add_(narrow(new, running), alpha=momentum)
    return _group_norm(input, input.shape[1], weight, bias, eps)


def local_response_norm(input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Any:
    """``input`` divided by ``(k + alpha * mean of squares of size neighbouring channels) ** beta``; ``input`` is ``(N, C, *)``."""
    if input.ndim < 3:
        raise ValueError(f"Expected 3D or higher dimensionality                          input (got {input.ndim} dimensions)")
    return input if input.numel() == 0 else _local_response_norm(input, size, alpha, beta, k)


@composite(node="Div")
def _local_response_norm(x: Any, size: int, alpha: float, beta: float, k: float) -> Any:
    squares = fl.constant_pad_nd((x * x).transpose(1, -1), (size // 2, (size - 1) // 2)).transpose(1, -1)
    total = squares.narrow(1, 0, x.shape[1])
    for i in range(1, size):
        total = total + squares.narrow(1, i, x.shape[1])
    # integers have an integer mean
    mean = total / size if x.is_floating_point() else total.div(size, rounding_mode="trunc")
    return x / (mean * alpha + k) ** beta


@composite(node="Div")
def _normalize(x: Any, p: float, dim: Any, eps: float) -> Any:
    return x / x.norm(p, dim, keepdim=True).clamp_min(eps).expand_as(x)


def normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """``input`` divided by its ``p``-norm along ``dim``, which is taken to be at least ``eps``."""
    y = _normalize(input, p, dim, eps)
    if out is None:
        return y
    out.resize_(y.shape)
    return out.copy_(y)
