"""Loss functions.  Each checks its arguments and warns outside, and is one composite inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .common import at_hand, broadcast_shapes, check_reduction, legacy_reduction, narrow, reduced, shown, warn, wide
from .distance import pairwise_distance


def _reduction(reduction: str, size_average: Any, reduce: Any) -> str:
    if size_average is not None or reduce is not None:
        return legacy_reduction(size_average, reduce)
    return reduction


def _warn_of_broadcast(name: str, input: Any, target: Any) -> None:
    text = (
        f"Using a target size ({target.shape}) that is different to the input size ({input.shape}). This will likely lead to incorrect "
        "results due to "
        "broadcasting. Please ensure they have the same size."
    )
    try:
        both = shown(broadcast_shapes(tuple(input.shape), tuple(target.shape)))
    except RuntimeError:
        pass  # raised by the arithmetic, in its own words
    else:
        ours, theirs = shown(input.shape), shown(target.shape)
        text += f"\n{name}: input {ours} and target {theirs} broadcast to {both}, so every prediction meets every target."
        if input.ndim == target.ndim + 1 and input.shape[-1] == 1:
            text += f" Use pred.squeeze({input.ndim - 1}) or target.unsqueeze({input.ndim - 1})."
        elif target.ndim == input.ndim + 1 and target.shape[-1] == 1:
            text += f" Use target.squeeze({target.ndim - 1}) or pred.unsqueeze({target.ndim - 1})."
    warn(text)


def _weighted(loss: Any, weight: Any, reduction: str) -> Any:
    """``loss`` times ``weight``, reduced; the mean is over the total weight."""
    if weight.shape != loss.shape:
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else reduced(loss, reduction)


# ------------------------------------------------------------------ regression


@composite(node="MseLoss")
def _mse_loss(input: Any, target: Any, reduction: str) -> Any:
    like = input
    d = wide(input) - target
    return narrow(reduced(d * d, reduction), like) if d.dtype is not like.dtype and wide(like) is not like else reduced(d * d, reduction)


def mse_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", weight: Any = None) -> Any:
    """Squared differences.

    Parameters
    ----------
    input, target : Tensor
        The same shape; other shapes are broadcast with a warning.
    reduction : str
        ``mean``, ``sum`` or ``none``.
    weight : Tensor, optional
        Factors of the input's shape; the mean is then over the total weight.
    """
    if size_average is not None or reduce is not None:
        reduction = legacy_reduction(size_average, reduce)
    if input.shape != target.shape:
        _warn_of_broadcast("mse_loss", input, target)
    if weight is not None:
        return _weighted(_mse_loss(input, target, "none"), weight, reduction)
    return _mse_loss(input, target, reduction)


@composite(node="Abs")
def _l1(input: Any, target: Any) -> Any:
    return (input - target).abs()


@composite(node="Mean")
def _l1_mean(input: Any, target: Any) -> Any:
    return (input - target).abs().mean()


@composite(node="Sum")
def _l1_sum(input: Any, target: Any) -> Any:
    return (input - target).abs().sum()


def l1_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", weight: Any = None) -> Any:
    """Absolute differences; arguments as in :func:`mse_loss`."""
    reduction = _reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        _warn_of_broadcast("l1_loss", input, target)
    if weight is not None:
        return _weighted(_l1(input, target), weight, reduction)
    check_reduction(reduction)
    return (_l1_mean if reduction == "mean" else _l1_sum if reduction == "sum" else _l1)(input, target)


@composite(node="SmoothL1Loss")
def _smooth_l1(input: Any, target: Any, reduction: str, beta: float) -> Any:
    d = (input - target).abs()
    return reduced(fl.where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta), reduction)


def smooth_l1_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", beta: float = 1.0) -> Any:
    """Quadratic below ``beta``, linear above, with slope 1; arguments as in :func:`mse_loss`."""
    reduction = _reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        _warn_of_broadcast("smooth_l1_loss", input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    return _smooth_l1(input, target, reduction, beta)


@composite(node="HuberLoss")
def _huber(input: Any, target: Any, reduction: str, delta: float) -> Any:
    d = (input - target).abs()
    return reduced(fl.where(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None) -> Any:
    """Quadratic below ``delta``, linear above, with slope ``delta``; arguments as in :func:`mse_loss`."""
    if input.shape != target.shape:
        _warn_of_broadcast("huber_loss", input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    if weight is not None:
        return _weighted(_huber(input, target, "none", delta), weight, reduction)
    return _huber(input, target, reduction, delta)


# ------------------------------------------------------------------ classification


@composite(node="NllLoss")
def _nll(logp: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    return _nll_body(logp, target, weight, ignore_index, reduction)


@composite(node="NllLoss2D")
def _nll_spatial(logp: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    return _nll_body(logp, target, weight, ignore_index, reduction)


def _nll_body(logp: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    """Negative entries of ``logp`` (N, C, *) at the classes of ``target`` (N, *)."""
    check_reduction(reduction)
    classes = logp.ndim > 1
    x, y = (logp, target.long()) if classes else (logp.unsqueeze(0), target.long().reshape(1))
    kept = y != ignore_index
    index = fl._valid_index(
        fl.where(kept, y, 0),
        x.shape[1],
        "IndexError|Target {index} is out of bounds.\nLabels of {size} classes are 0..{last}. "
        "If labels start at 1 use target - 1; else make the last layer larger.",
    )
    picked = -x.gather(1, index.unsqueeze(1)).squeeze(1)
    if weight is None:
        losses = fl.where(kept, picked, 0.0)
        if reduction == "mean":
            return losses.sum() / kept.sum().to(losses.dtype)
    else:
        w = fl.where(kept, weight.index_select(0, index.reshape(-1)).reshape(index.shape), 0.0)
        losses = fl.where(kept, picked * w, 0.0)
        if reduction == "mean":
            return losses.sum() / w.sum()
    if reduction == "sum":
        return losses.sum()
    return losses if classes else losses.reshape(())


def _check_classes(name: str, input: Any, target: Any, weight: Any) -> None:
    """Refuse class-index targets whose shape or dtype cannot be right."""
    shape, given = list(input.shape), list(target.shape)
    if input.ndim == 0:
        raise ValueError(f"Expected 1 or more dimensions (got {input.ndim})")
    wanted = shape[:1] + shape[2:] if input.ndim > 1 else []
    if input.ndim > 1 and (target.ndim == 0 or shape[0] != given[0]):
        raise ValueError(
            f"Expected input batch_size ({shape[0]}) to match target batch_size ({given[0] if given else 0}).\n{name}: logits {shape} "
            f"hold {shape[0]} "
            f"samples but the target {given} holds {given[0] if given else 1}. A view/reshape with -1 may have changed the batch: use "
            "x.flatten(1) or "
            "x.view(x.size(0), -1)."
        )
    if given != wanted:
        if input.ndim <= 2:
            head = "0D or 1D target tensor expected, multi-target not supported"
        elif len(given) != len(wanted):
            head = f"only batches of spatial targets supported (3D tensors) but got targets of dimension: {target.ndim}"
        else:
            head = f"size mismatch (got input: {shape}, target: {given})"
        text = f"{head}\n{name}: the class-index target for logits {shape} must be {wanted}, got {given}."
        if given == [*wanted, 1] or (len(given) == len(shape) and given[1] == 1):
            text += " Use target.squeeze(1)."
        raise RuntimeError(text)
    if target.dtype is not fl.int64 and target.dtype is not fl.uint8:
        have = str(target.dtype).rpartition(".")[2]
        kinds = {
            "float32": "Float",
            "float64": "Double",
            "int32": "Int",
            "float16": "Half",
            "bfloat16": "BFloat16",
            "bool": "Bool",
            "int16": "Short",
            "int8": "Char",
        }
        raise RuntimeError(
            f"expected target dtype to be Long or Byte, but got {kinds.get(have, have)}\n{name}: a target of shape {given} holds class "
            "indices and must "
            f"be int64, got {have}. Use target.long()." + (" For regression use MSELoss." if target.is_floating_point() else "")
        )
    if weight is not None:
        classes = input.shape[1] if input.ndim > 1 else input.shape[0]
        if weight.shape != (classes,):
            raise RuntimeError(
                f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of shape: {shown(weight.shape)}"
            )


def _check_labels(name: str, input: Any, target: Any, ignore_index: int) -> None:
    """Refuse labels that are known to be out of range; those not computed yet are checked when they are."""
    labels = at_hand(target)
    classes = input.shape[1] if input.ndim > 1 else input.shape[0]
    if not labels or (min(labels) >= 0 and max(labels) < classes):
        return
    for y in labels:
        if not 0 <= y < classes and y != ignore_index:
            raise IndexError(
                f"Target {y} is out of bounds.\n{name}: target holds label {y}, but logits {shown(input.shape)} have {classes} classes, "
                f"labels 0..{classes - 1}. "
                "If labels start at 1 use target - 1; else make the last layer larger."
            )


def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """The negative log probabilities of the target classes.

    Parameters
    ----------
    input : Tensor
        Log probabilities, shape ``(N, C, *)`` or ``(C,)``.
    target : Tensor
        Class numbers, int64, shape ``(N, *)`` or ``()``.
    weight : Tensor, optional
        One factor per class; the mean is over the total weight.
    ignore_index : int
        A label that counts for nothing.
    """
    reduction = _reduction(reduction, size_average, reduce)
    _check_classes("nll_loss", input, target, weight)
    _check_labels("nll_loss", input, target, ignore_index)
    return (_nll if input.ndim <= 2 else _nll_spatial)(input, target, weight, ignore_index, reduction)


@composite(node="NllLoss")
def _cross_entropy(input: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    logp = fl.log_softmax(wide(input), 1 if input.ndim > 1 else 0)
    return narrow(_nll_body(logp, target, weight, ignore_index, reduction), input)


@composite(node="NllLoss2D")
def _cross_entropy_spatial(input: Any, target: Any, weight: Any, ignore_index: int, reduction: str) -> Any:
    return narrow(_nll_body(fl.log_softmax(wide(input), 1), target, weight, ignore_index, reduction), input)


@composite(node="Add")
def _cross_entropy_smoothed(input: Any, target: Any, weight: Any, ignore_index: int, reduction: str, smoothing: float) -> Any:
    dim = 1 if input.ndim > 1 else 0
    logp = fl.log_softmax(wide(input), dim)
    classes = logp.shape[dim]
    nll = _nll_body(logp, target, weight, ignore_index, reduction)
    w = None if weight is None else weight.reshape(-1, *[1] * (max(input.ndim, 2) - 2))
    smooth = -(logp if w is None else logp * w).sum(dim)
    kept = target != ignore_index
    smooth = fl.where(kept, smooth, 0.0)
    if reduction == "mean":
        if weight is None:
            smooth = smooth.sum() / kept.sum().to(smooth.dtype)
        else:
            index = fl.where(kept, target, 0)
            smooth = smooth.sum() / fl.where(kept, weight.index_select(0, index.reshape(-1)).reshape(index.shape), 0.0).sum()
    elif reduction == "sum":
        smooth = smooth.sum()
    return narrow(nll * (1 - smoothing) + smooth * (smoothing / classes), input)


@composite(node="Div")
def _cross_entropy_probabilities(input: Any, target: Any, weight: Any, reduction: str, smoothing: float) -> Any:
    check_reduction(reduction)
    dim = 1 if input.ndim > 1 else 0
    logp = fl.log_softmax(wide(input), dim)
    classes = logp.shape[dim]
    if smoothing > 0:
        target = target * (1 - smoothing) + smoothing / classes
    if weight is not None:
        logp = logp * weight.reshape(-1, *[1] * (max(input.ndim, 2) - 2))
    losses = -(logp * target).sum(dim)
    if reduction == "mean":
        return narrow(losses.sum() / (losses.numel() if input.numel() else 1), input)
    return narrow(losses.sum() if reduction == "sum" else losses, input)


def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """``nll_loss(log_softmax(input))``: the loss of a classifier, from its raw outputs.

    Parameters
    ----------
    input : Tensor
        Logits, shape ``(N, C, *)`` or ``(C,)``.
    target : Tensor
        Class numbers (int64), shape ``(N, *)`` or ``()``; or probabilities of the input's shape.
    weight : Tensor, optional
        One factor per class.
    ignore_index : int
        A label that counts for nothing.
    label_smoothing : float
        The share of the target that is spread over all classes, 0 .. 1.

    Raises
    ------
    ValueError
        If the batches differ.
    RuntimeError
        If the target's shape or dtype cannot be right.
    IndexError
        If a label is not in ``0 .. C-1``.
    """
    if size_average is not None or reduce is not None:
        reduction = legacy_reduction(size_average, reduce)
    node = input.grad_fn
    if node is not None and node.name() == "SoftmaxBackward0":
        warn(
            "CrossEntropyLoss applies log_softmax itself, and its input came from softmax: that is softmax twice and training will be "
            "slow. Pass the raw logits."
        )
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if input.shape == target.shape and input.ndim:
        if not target.is_floating_point():
            name = {"int64": "Long", "int32": "Int", "uint8": "Byte", "bool": "Bool", "int16": "Short", "int8": "Char"}[str(target.dtype).rpartition(".")[2]]
            raise RuntimeError(
                f"Expected floating point type for target with class probabilities, got {name}\ncross_entropy: an "
                f"{str(target.dtype).rpartition('.')[2]} target of the logits' shape {shown(input.shape)} looks one-hot. Pass class "
                "indices, "
                "target.argmax(1), or probabilities, target.float()."
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _cross_entropy_probabilities(input, target, weight, reduction, label_smoothing)
    _check_classes("cross_entropy", input, target, weight)
    _check_labels("cross_entropy", input, target, ignore_index)
    if label_smoothing > 0.0:
        return _cross_entropy_smoothed(input, target, weight, ignore_index, reduction, label_smoothing)
    return (_cross_entropy if input.ndim <= 2 else _cross_entropy_spatial)(input, target, weight, ignore_index, reduction)


def linear_cross_entropy(
    input: Any,
    linear_weight: Any,
    target: Any,
    *,
    linear_bias: Any = None,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Any:
    """:func:`cross_entropy` of a linear layer's outputs.

    Parameters
    ----------
    input : Tensor
        Shape ``(N, in_features)`` or ``(in_features,)``.
    linear_weight : Tensor
        Shape ``(C, in_features)``, or ``(C, *, in_features)`` for targets of shape ``(N, *)``.
    linear_bias : Tensor, optional
        Shape ``(C,)`` or ``(C, *)``.
    """
    from .affine import linear

    inner = linear_weight.shape[:-1]
    if len(inner) > 1 and input.ndim == 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, (N, "
            f"{input.shape[0]}), got unbatched "
            f"input with shape {tuple(input.shape)}"
        )
    logits = linear(input, linear_weight.reshape(-1, linear_weight.shape[-1]), None if linear_bias is None else linear_bias.reshape(-1))
    if len(inner) > 1:
        logits = logits.reshape(*input.shape[:-1], *inner)
    return cross_entropy(logits, target, weight, None, -100 if ignore_index is None else ignore_index, None, reduction, label_smoothing)


@composite(node="BinaryCrossEntropy")
def _bce(input: Any, target: Any, weight: Any, reduction: str, check: bool) -> Any:
    if check:
        input = input._check_unit_interval()
    # the logarithms are limited to -100, as in PyTorch, so that the loss stays finite
    loss = -(target * fl.log(input).clamp(min=-100) + (1 - target) * fl.log1p(-input).clamp(min=-100))
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy(input: Any, target: Any, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """The loss of probabilities ``input`` against targets in 0 .. 1, of the same shape; ``weight`` broadcasts to it."""
    reduction = _reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Using a target size ({target.shape}) that is different to the input size ({input.shape}) is deprecated. Please ensure they "
            "have the same size."
            f"\nbinary_cross_entropy: input is {shown(input.shape)}, target is {shown(target.shape)}. Use squeeze, unsqueeze or view to "
            "make them equal."
        )
    values = at_hand(input)
    if values and not all(0 <= v <= 1 for v in values):
        raise RuntimeError(
            "all elements of input should be between 0 and 1\nbinary_cross_entropy: BCELoss needs probabilities in 0..1, input ranges "
            "from "
            f"{min(values):.6g} to {max(values):.6g} ({min(values)}, {max(values)}). Apply sigmoid first, or better use BCEWithLogitsLoss "
            "on the raw outputs."
        )
    if weight is not None:
        broadcast_shapes(tuple(weight.shape), tuple(target.shape))
    # what a sigmoid or softmax made is in range; other values that are not in memory yet are checked when they are computed
    made_by = input.grad_fn.name() if input.grad_fn is not None else ""
    return _bce(input, target, weight, reduction, values is None and made_by not in ("SigmoidBackward0", "SoftmaxBackward0"))


@composite(node="BinaryCrossEntropyWithLogits")
def _bce_with_logits(input: Any, target: Any, weight: Any, pos_weight: Any, reduction: str) -> Any:
    # log(1 + exp(-x)) without overflow
    softplus = fl.log1p(fl.exp(-input.abs())) - fl.minimum(input, fl.zeros_like(input))
    loss = (1 - target) * input + (softplus if pos_weight is None else ((pos_weight - 1) * target + 1) * softplus)
    return reduced(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Any:
    """:func:`binary_cross_entropy` of ``sigmoid(input)``, computed without overflow; ``pos_weight`` multiplies the positive part."""
    reduction = _reduction(reduction, size_average, reduce)
    if input.shape != target.shape:
        raise ValueError(
            f"Target size ({target.shape}) must be the same as input size ({input.shape})\nbinary_cross_entropy_with_logits: input is "
            f"{shown(input.shape)}, "
            f"target is {shown(target.shape)}. Use squeeze, unsqueeze or view to make them equal."
        )
    return _bce_with_logits(input, target, weight, pos_weight, reduction)


@composite(node="Sub")
def _kl(input: Any, target: Any, log_target: bool) -> Any:
    if log_target:
        return fl.exp(target) * (target - input)
    return fl.xlogy(target, target) - target * input


@composite(node="Mean")
def _kl_mean(input: Any, target: Any, log_target: bool) -> Any:
    return _kl(input, target, log_target).mean()


@composite(node="Sum")
def _kl_sum(input: Any, target: Any, log_target: bool) -> Any:
    return _kl(input, target, log_target).sum()


def kl_div(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean", log_target: bool = False) -> Any:
    """``target * (log(target) - input)``: the divergence of log probabilities ``input`` from ``target``.

    ``reduction="batchmean"`` divides the sum by the batch, which is the mathematical definition.
    """
    if size_average is not None or reduce is not None:
        reduction = legacy_reduction(size_average, reduce)
    elif reduction == "mean":
        warn(
            "reduction: 'mean' divides the total loss by both the batch size and the support size.'batchmean' divides only by the batch "
            "size, and aligns with the KL "
            "div math definition.'mean' will be changed to behave the same as 'batchmean' in the next major release."
        )
    if reduction == "batchmean":
        total = _kl_sum(input, target, log_target)
        return total / input.shape[0] if input.ndim else total
    check_reduction(reduction)
    return (_kl_mean if reduction == "mean" else _kl_sum if reduction == "sum" else _kl)(input, target, log_target)


# ------------------------------------------------------------------ counts and Gaussians


@composite(node="Mean")
def _poisson(input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: str) -> Any:
    loss = fl.exp(input) - target * input if log_input else input - target * fl.log(input + eps)
    if full:
        stirling = target * fl.log(target) - target + fl.log(target * (2 * math.pi)) * 0.5
        loss = loss + fl.where(target <= 1, 0.0, stirling)
    return reduced(loss, reduction)


def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    size_average: Any = None,
    eps: float = 1e-8,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """Negative log likelihood of counts ``target`` under rates ``exp(input)`` (or ``input``); ``full`` adds Stirling's term."""
    reduction = _reduction(reduction, size_average, reduce)
    check_reduction(reduction)
    return _poisson(input, target, log_input, full, eps, reduction)


@composite(node="Mean")
def _gaussian(input: Any, target: Any, var: Any, full: bool, eps: float, reduction: str) -> Any:
    # limiting the variance must not stop its gradient
    var = var + (var.clamp(min=eps) - var).detach()
    d = input - target
    loss = (fl.log(var) + d * d / var) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction)


def gaussian_nll_loss(input: Any, target: Any, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> Any:
    """Negative log likelihood of ``target`` under normal distributions with means ``input`` and variances ``var``.

    Parameters
    ----------
    var : Tensor or float
        The input's shape, or that with a last dimension of 1 or without it; not negative.
    """
    if not isinstance(var, fl.Tensor):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = fl.full((), var, dtype=input.dtype, device=input.device).expand(input.shape)
    elif any(v < 0 for v in at_hand(var) or ()):
        raise ValueError("var has negative entry/entries")
    if var.shape != input.shape:
        if input.shape[:-1] == var.shape:
            var = var.unsqueeze(-1)
        elif not (input.ndim == var.ndim and sum(a != b for a, b in zip(input.shape, var.shape, strict=True)) == 1 and 1 in var.shape):
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    return _gaussian(input, target, var, full, eps, reduction)


# ------------------------------------------------------------------ margins and rankings


@composite(node="Mean")
def _hinge_embedding(input: Any, target: Any, margin: float, reduction: str) -> Any:
    apart = (margin - input).clamp(min=0)
    return reduced(fl.where(target != 1, apart, 0.0) + fl.where(target != -1, input, 0.0), reduction)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """``input`` where ``target`` is 1, ``max(0, margin - input)`` where it is -1."""
    return _hinge_embedding(input, target, margin, _reduction(reduction, size_average, reduce))


@composite(node="Mean")
def _margin_ranking(input1: Any, input2: Any, target: Any, margin: float, reduction: str) -> Any:
    return reduced((-target * (input1 - input2) + margin).clamp(min=0), reduction)


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """``max(0, -target * (input1 - input2) + margin)``: ``target`` 1 says that ``input1`` should be larger, -1 smaller."""
    reduction = _reduction(reduction, size_average, reduce)
    if not input1.ndim == input2.ndim == target.ndim:
        raise RuntimeError(
            f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.shape}, input2: "
            f"{input2.shape}, target: "
            f"{target.shape} "
        )
    return _margin_ranking(input1, input2, target, margin, reduction)


@composite(node="Mean")
def _cosine_embedding(x1: Any, x2: Any, target: Any, margin: float, reduction: str) -> Any:
    dim = target.ndim
    eps = 1e-12
    cos = (x1 * x2).sum(dim) / fl.sqrt(((x1 * x1).sum(dim) + eps) * ((x2 * x2).sum(dim) + eps))
    loss = fl.where(target == 1, 1 - cos, 0.0) + fl.where(target == -1, (cos - margin).clamp(min=0), 0.0)
    return reduced(loss, reduction)


def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0, size_average: Any = None, reduce: Any = None, reduction: str = "mean"
) -> Any:
    """``1 - cos`` where ``target`` is 1, ``max(0, cos - margin)`` where it is -1.

    Parameters
    ----------
    input1, input2 : Tensor
        Shape ``(N, D)``, or ``(D,)``.
    target : Tensor
        1 or -1, shape ``(N,)``, or ``()``.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if target.ndim not in (0, 1):
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if input1.ndim != target.ndim + 1 or input2.ndim != target.ndim + 1:
        kind = "1D target tensor expects 2D" if target.ndim == 1 else "0D target tensor expects 1D"
        raise RuntimeError(f"{kind} input tensors, but found inputs with sizes {shown(input1.shape)} and {shown(input2.shape)}.")
    return _cosine_embedding(input1, input2, target, margin, reduction)


@composite(node="Mean")
def _triplet(near: Any, far: Any, margin: float, reduction: str) -> Any:
    return reduced((near - far + margin).clamp(min=0), reduction)


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)`` with ``p``-norm distances; inputs are ``(N, D)`` or ``(D,)``."""
    reduction = _reduction(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor "
            f"{anchor.ndim}D, positive "
            f"{positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    return triplet_margin_with_distance_loss(
        anchor,
        positive,
        negative,
        distance_function=lambda a, b: pairwise_distance(a, b, p, eps),
        margin=margin,
        swap=swap,
        reduction=reduction,
    )


def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Any:
    """:func:`triplet_margin_loss` with a distance of the caller's."""
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    distance = pairwise_distance if distance_function is None else distance_function
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: anchor "
            f"{anchor.ndim}D, positive "
            f"{positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = fl.minimum(far, distance(positive, negative))
    return _triplet(near, far, margin, reduction)


@composite(node="SoftMarginLoss")
def _soft_margin(input: Any, target: Any, reduction: str) -> Any:
    z = -target * input
    return reduced(fl.log1p(fl.exp(-z.abs())) + fl.maximum(z, fl.zeros_like(z)), reduction)


def soft_margin_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """``log(1 + exp(-target * input))`` for targets of 1 and -1."""
    reduction = _reduction(reduction, size_average, reduce)
    check_reduction(reduction)
    return _soft_margin(input, target, reduction)


@composite(node="MultiMarginLoss")
def _multi_margin(input: Any, target: Any, p: int, margin: float, weight: Any, reduction: str) -> Any:
    x = input if input.ndim == 2 else input.reshape(1, -1)
    y = target.reshape(-1, 1)
    short = (margin - x.gather(1, y) + x).clamp(min=0)
    if p == 2:
        short = short * short
    if weight is not None:
        short = short * weight.index_select(0, y.reshape(-1)).unsqueeze(1)
    others = fl.arange(x.shape[1]) != y
    losses = fl.where(others, short, 0.0).sum(1) / x.shape[1]
    return reduced(losses if target.ndim else losses.reshape(()), reduction)


def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Any:
    """``sum over other classes of max(0, margin - input[target] + input[class]) ** p / C``.

    Parameters
    ----------
    input : Tensor
        Scores, shape ``(N, C)`` or ``(C,)``.
    target : Tensor
        Class numbers, shape ``(N,)`` or ``()``.
    p : int
        1 or 2.
    weight : Tensor, optional
        One factor per class.
    """
    reduction = _reduction(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.ndim != 1:
        raise ValueError("weight must be one-dimensional")
    check_reduction(reduction)
    if input.ndim == 0:
        return multi_margin_loss(input.reshape(1), target.reshape(()), p, margin, weight, reduction=reduction)
    if input.ndim > 2 or (input.numel() == 0 and input.shape[-1] == 0):
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {shown(input.shape)}")
    if (input.ndim == 2 and tuple(target.shape) != (input.shape[0],)) or (input.ndim == 1 and target.numel() != 1):
        raise RuntimeError(f"inconsistent target size, expected {input.shape[0] if input.ndim == 2 else 1} but got {shown(target.shape)}")
    return _multi_margin(input, target, p, margin, weight, reduction)


@composite(node="MultilabelMarginLoss")
def _multilabel_margin(input: Any, target: Any, reduction: str) -> Any:
    x = input.reshape(-1, input.shape[-1])
    y = target.reshape(x.shape)
    n, c = x.shape
    # the labels of a row end at its first -1
    valid = fl.cumsum((y < 0).long(), 1) == 0
    labels = fl.where(valid, y, 0)
    is_target = fl.zeros(n, c, dtype=fl.int64).scatter_add(1, labels, valid.long()) > 0
    short = (1 - x.gather(1, labels).unsqueeze(2) + x.unsqueeze(1)).clamp(min=0)  # (N, label, class)
    counts = valid.unsqueeze(2) & ~is_target.unsqueeze(1)
    losses = fl.where(counts, short, 0.0).sum((1, 2)) / c
    return reduced(losses if input.ndim == 2 else losses.reshape(()), reduction)


def multilabel_margin_loss(input: Any, target: Any, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """``sum of max(0, 1 - (input[label] - input[class])) / C`` over labels and classes that are not labels.

    ``target`` holds class numbers, padded with -1, in the shape of ``input``: ``(N, C)`` or ``(C,)``.
    """
    reduction = _reduction(reduction, size_average, reduce)
    check_reduction(reduction)
    if input.ndim not in (0, 1, 2) or (input.ndim == 2 and input.shape[1] == 0):
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {shown(input.shape)}")
    if input.ndim == 0:
        return multilabel_margin_loss(input.reshape(1), target.reshape(1), reduction=reduction).reshape(())
    if target.shape != input.shape:
        raise RuntimeError(f"inconsistent target size: {shown(target.shape)} for input of size: {shown(input.shape)}")
    return _multilabel_margin(input, target, reduction)


@composite(node="Mean")
def _multilabel_soft_margin(input: Any, target: Any, weight: Any, reduction: str) -> Any:
    softplus = fl.log1p(fl.exp(-input.abs()))
    zero = fl.zeros_like(input)
    loss = -(target * (fl.minimum(input, zero) - softplus) + (1 - target) * (fl.minimum(-input, zero) - softplus))
    if weight is not None:
        loss = loss * weight
    return reduced(loss.sum(-1) / input.shape[-1], reduction)


def multilabel_soft_margin_loss(input: Any, target: Any, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> Any:
    """Binary cross-entropy with logits, averaged over the classes (last dimension) of each sample."""
    return _multilabel_soft_margin(input, target, weight, _reduction(reduction, size_average, reduce))


# ------------------------------------------------------------------ sequences


def ctc_loss(
    log_probs: Any,
    targets: Any,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Any:
    """Connectionist temporal classification (Graves et al., 2006): minus the log probability of all alignments.

    Parameters
    ----------
    log_probs : Tensor
        Log probabilities, shape ``(T, N, C)`` or ``(T, C)``.
    targets : Tensor
        Labels, shape ``(N, S)``, or all joined in one dimension.
    input_lengths, target_lengths : Tensor or sequence of int
        One per sample.
    blank : int
        The class that stands for no label.
    zero_infinity : bool
        Count samples that cannot be aligned as zero.
    """
    check_reduction(reduction)
    if fl.is_autocast_enabled("cpu") and log_probs.dtype.itemsize == 2:
        log_probs = log_probs.float()
    single = log_probs.ndim == 2
    if single:
        log_probs = log_probs.unsqueeze(1)
    steps, batch, classes = log_probs.shape
    inputs = _lengths(input_lengths)
    labels = _lengths(target_lengths)
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    if len(inputs) != batch or len(labels) != batch:
        raise RuntimeError(f"input_lengths and target_lengths must be of size batch_size ({batch}), got {len(inputs)} and {len(labels)}")
    for n in inputs:
        if not 0 <= n <= steps:
            raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {n} (while checking arguments for ctc_loss)")
    longest = max(labels, default=0)
    rows = []
    joined = targets.reshape(-1) if targets.ndim == 1 else None
    start = 0
    for b, n in enumerate(labels):
        row = joined[start : start + n] if joined is not None else targets[b, :n]
        start += n
        rows.append(fl.cat([row.long(), fl.full((longest - n,), blank, dtype=fl.int64)]))
    padded = fl.stack(rows) if rows else fl.zeros(0, 0, dtype=fl.int64)
    # blank, label, blank, label, ..., blank
    extended = fl.full((batch, 2 * longest + 1), blank, dtype=fl.int64)
    if longest:
        extended[:, 1::2] = padded
    minus_infinity = float("-inf")
    emitted = log_probs.gather(2, extended.unsqueeze(0).expand(steps, -1, -1))  # (T, N, 2S+1)
    width = 2 * longest + 1
    place = fl.arange(width)
    skips = fl.zeros(batch, width, dtype=fl.bool)
    if width > 2:
        skips[:, 2:] = (extended[:, 2:] != blank) & (extended[:, 2:] != extended[:, :-2])
    n_labels = fl.tensor(labels, dtype=fl.int64).reshape(-1, 1)
    alpha = fl.where((place < 2) & (place <= 2 * n_labels), emitted[0] if steps else fl.zeros(batch, width, dtype=log_probs.dtype), minus_infinity)
    lengths = fl.tensor(inputs, dtype=fl.int64).reshape(-1, 1)
    pad = fl.full((batch, 2), minus_infinity, dtype=log_probs.dtype)
    for t in range(1, steps):
        shifted = fl.cat([pad, alpha], 1)
        stay, step, skip = alpha, shifted[:, 1 : width + 1], fl.where(skips, shifted[:, :width], minus_infinity)
        alpha = fl.where(t < lengths, _log_add(stay, step, skip) + emitted[t], alpha)
    last = alpha.gather(1, 2 * n_labels)
    before = fl.where(n_labels > 0, alpha.gather(1, (2 * n_labels - 1).clamp(min=0)), minus_infinity)
    losses = -_log_add(last, before).reshape(-1)
    # the gradient is taken through the log_softmax that made log_probs: zero here, whose derivative is the probabilities
    mass = fl.where(fl.arange(steps).reshape(-1, 1, 1) < lengths, fl.exp(log_probs), 0.0).sum((0, 2))
    losses = losses + (mass - mass.detach())
    if zero_infinity:
        losses = fl.where(losses == float("inf"), 0.0, losses)
    if reduction == "mean":
        return (losses / fl.tensor(labels, dtype=losses.dtype).clamp(min=1)).mean()
    if reduction == "sum":
        return losses.sum()
    return losses.reshape(()) if single else losses


def _log_add(*terms: Any) -> Any:
    """``log(sum of exp)`` of a few tensors, with minus infinity as zero and finite gradients."""
    x = fl.stack(terms)
    top = x.amax(0).detach()
    finite = top > float("-inf")
    safe = fl.where(finite, top, 0.0)
    total = fl.exp(x - safe).sum(0)
    return fl.where(finite, fl.log(fl.where(finite, total, 1.0)) + safe, float("-inf"))


def _lengths(values: Any) -> list[int]:
    if isinstance(values, fl.Tensor):
        return [int(v) for v in values.reshape(-1).tolist()]
    return [int(v) for v in values]
