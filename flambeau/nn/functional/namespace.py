"""The functions of this package that PyTorch also has as ``torch.<name>``, with the signatures they have there."""

from __future__ import annotations

from typing import Any

from . import activation, affine, loss, masking, normalization
from .activation import celu, celu_, hardshrink, prelu, selu, selu_
from .affine import bilinear
from .distance import cosine_similarity, pairwise_distance, pdist
from .normalization import rms_norm
from .vision import channel_shuffle, native_channel_shuffle, pixel_shuffle, pixel_unshuffle

_REDUCTIONS = ("none", "mean", "sum")


def layer_norm(
    input: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn_enable: bool = True
) -> Any:
    """:func:`flambeau.nn.functional.layer_norm`."""
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, cudnn_enabled: bool = True) -> Any:
    """:func:`flambeau.nn.functional.group_norm`."""
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def batch_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    """:func:`flambeau.nn.functional.batch_norm`, with the parameters first."""
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = True,
) -> Any:
    """:func:`flambeau.nn.functional.instance_norm`, with the parameters first."""
    return normalization.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def dropout(input: Any, p: float, train: bool) -> Any:
    """:func:`flambeau.nn.functional.dropout`."""
    return masking.dropout(input, p, train)


def alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """:func:`flambeau.nn.functional.alpha_dropout`."""
    return masking.alpha_dropout(input, p, train)


def feature_alpha_dropout(input: Any, p: float, train: bool) -> Any:
    """:func:`flambeau.nn.functional.feature_alpha_dropout`."""
    return masking.feature_alpha_dropout(input, p, train)


def rrelu(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Any:
    """:func:`flambeau.nn.functional.rrelu`."""
    return activation.rrelu(input, lower, upper, training)


def rrelu_(input: Any, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Any:
    """:func:`rrelu` in place."""
    return activation.rrelu(input, lower, upper, training, inplace=True)


def embedding_bag(
    weight: Any,
    indices: Any,
    offsets: Any,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """:func:`flambeau.nn.functional.embedding_bag`; ``mode`` is 0 (sum), 1 (mean) or 2 (max)."""
    name = ("sum", "mean", "max")[mode]
    return affine.embedding_bag(
        indices, weight, offsets, None, 2.0, scale_grad_by_freq, name, sparse, per_sample_weights, include_last_offset, padding_idx
    )


def kl_div(input: Any, target: Any, reduction: int = 1, *, log_target: bool = False) -> Any:
    """:func:`flambeau.nn.functional.kl_div`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    if reduction == 1:
        return loss._kl_mean(input, target, log_target)
    return loss.kl_div(input, target, None, None, _REDUCTIONS[reduction], log_target)


def hinge_embedding_loss(input: Any, target: Any, margin: float = 1.0, reduction: int = 1) -> Any:
    """:func:`flambeau.nn.functional.hinge_embedding_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.hinge_embedding_loss(input, target, margin, None, None, _REDUCTIONS[reduction])


def margin_ranking_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    """:func:`flambeau.nn.functional.margin_ranking_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.margin_ranking_loss(input1, input2, target, margin, None, None, _REDUCTIONS[reduction])


def cosine_embedding_loss(input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: int = 1) -> Any:
    """:func:`flambeau.nn.functional.cosine_embedding_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.cosine_embedding_loss(input1, input2, target, margin, None, None, _REDUCTIONS[reduction])


def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: int = 1,
) -> Any:
    """:func:`flambeau.nn.functional.triplet_margin_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, None, None, _REDUCTIONS[reduction])


def poisson_nll_loss(input: Any, target: Any, log_input: bool, full: bool, eps: float, reduction: int) -> Any:
    """:func:`flambeau.nn.functional.poisson_nll_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.poisson_nll_loss(input, target, log_input, full, None, eps, None, _REDUCTIONS[reduction])


def binary_cross_entropy_with_logits(input: Any, target: Any, weight: Any = None, pos_weight: Any = None, reduction: int = 1) -> Any:
    """:func:`flambeau.nn.functional.binary_cross_entropy_with_logits`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.binary_cross_entropy_with_logits(input, target, weight, None, None, _REDUCTIONS[reduction], pos_weight)


def ctc_loss(
    log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any, blank: int = 0, reduction: int = 1, zero_infinity: bool = False
) -> Any:
    """:func:`flambeau.nn.functional.ctc_loss`; ``reduction`` is 0 (none), 1 (mean) or 2 (sum)."""
    return loss.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, _REDUCTIONS[reduction], zero_infinity)


__all__ = [
    "alpha_dropout", "batch_norm", "bilinear", "binary_cross_entropy_with_logits", "celu", "celu_", "channel_shuffle",
    "cosine_embedding_loss", "cosine_similarity", "ctc_loss", "dropout", "embedding_bag", "feature_alpha_dropout", "group_norm",
    "hardshrink", "hinge_embedding_loss", "instance_norm", "kl_div", "layer_norm", "margin_ranking_loss", "native_channel_shuffle",
    "pairwise_distance", "pdist", "pixel_shuffle", "pixel_unshuffle", "poisson_nll_loss", "prelu", "rms_norm", "rrelu", "rrelu_",
    "selu", "selu_", "triplet_margin_loss",
]
