"""``flambeau.nn.functional``: layers, activations and losses as functions.

Each function is a readable composition of tensor operations that is recorded as one call.  The families are modules of their
own, loaded when one of their functions is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_FAMILIES = {
    "activation": """
        celu celu_ elu elu_ gelu glu gumbel_softmax hardshrink hardsigmoid hardswish hardtanh hardtanh_ leaky_relu leaky_relu_
        log_softmax logsigmoid mish prelu relu relu6 relu_ rrelu rrelu_ selu selu_ sigmoid silu softmax softmin softplus softshrink
        softsign tanh tanhshrink threshold threshold_
    """,
    "attention": "multi_head_attention_forward scaled_dot_product_attention",
    "convolution": "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d fold unfold",
    "distance": "cosine_similarity pairwise_distance pdist",
    "masking": "alpha_dropout dropout dropout1d dropout2d dropout3d feature_alpha_dropout",
    "affine": "bilinear embedding embedding_bag linear one_hot",
    "loss": """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss gaussian_nll_loss
        hinge_embedding_loss huber_loss kl_div l1_loss linear_cross_entropy margin_ranking_loss mse_loss multi_margin_loss
        multilabel_margin_loss multilabel_soft_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss
        triplet_margin_loss triplet_margin_with_distance_loss
    """,
    "normalization": "batch_norm group_norm instance_norm layer_norm local_response_norm normalize rms_norm",
    "pooling": """
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool1d_with_indices
        adaptive_max_pool2d adaptive_max_pool2d_with_indices adaptive_max_pool3d adaptive_max_pool3d_with_indices avg_pool1d
        avg_pool2d avg_pool3d fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
        fractional_max_pool3d_with_indices lp_pool1d lp_pool2d lp_pool3d max_pool1d max_pool1d_with_indices max_pool2d
        max_pool2d_with_indices max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d
    """,
    "vision": """
        affine_grid channel_shuffle grid_sample interpolate native_channel_shuffle pad pixel_shuffle pixel_unshuffle upsample
        upsample_bilinear upsample_nearest
    """,
}
_WHERE = {name: family for family, names in _FAMILIES.items() for name in names.split()}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    family = _WHERE.get(name)
    if family is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{family}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return __all__
