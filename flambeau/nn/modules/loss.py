"""Loss functions as modules; each calls its function of ``nn.functional``, where the formulas are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flambeau as fl

from .. import functional as F
from .. import init
from ..functional import loss as losses
from ..parameter import Parameter
from .distance import PairwiseDistance
from .module import Module


class _Loss(Module):
    """Keeps ``reduction``: ``mean``, ``sum`` or ``none``; the other two arguments are deprecated."""

    reduction: str

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__()
        if isinstance(size_average, fl.Tensor) or isinstance(reduce, fl.Tensor):
            name = type(self).__name__
            function = _function_name(name)
            raise RuntimeError(
                f"Boolean value of Tensor with more than one value is ambiguous\n{name}(...) builds the loss and got tensors as options. "
                "Use "
                f"nn.{name}()(input, target) or F.{function}(input, target)."
            )
        self.reduction = losses.legacy_reduction(size_average, reduce) if size_average is not None or reduce is not None else reduction


def _function_name(name: str) -> str:
    """``CrossEntropyLoss`` to ``cross_entropy``: the function of a loss module."""
    special = {
        "CrossEntropyLoss": "cross_entropy",
        "NLLLoss": "nll_loss",
        "BCELoss": "binary_cross_entropy",
        "BCEWithLogitsLoss": "binary_cross_entropy_with_logits",
        "KLDivLoss": "kl_div",
        "MSELoss": "mse_loss",
        "L1Loss": "l1_loss",
        "SmoothL1Loss": "smooth_l1_loss",
        "CTCLoss": "ctc_loss",
        "PoissonNLLLoss": "poisson_nll_loss",
        "GaussianNLLLoss": "gaussian_nll_loss",
    }
    if name in special:
        return special[name]
    snake = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
    return snake.replace("multi_label", "multilabel")


class _WeightedLoss(_Loss):
    """Keeps a ``weight`` as a buffer."""

    def __init__(self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)


class L1Loss(_Loss):
    """Absolute differences."""

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.l1_loss(input, target, None, None, self.reduction)


class MSELoss(_Loss):
    """Squared differences.

    Parameters
    ----------
    reduction : str
        ``mean`` over all elements, ``sum``, or ``none``.
    """

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.mse_loss(input, target, None, None, self.reduction)


class SmoothL1Loss(_Loss):
    """Quadratic below ``beta``, linear above."""

    __constants__ = ["reduction"]

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input: Any, target: Any) -> Any:
        return losses.smooth_l1_loss(input, target, None, None, self.reduction, self.beta)


class HuberLoss(_Loss):
    """Quadratic below ``delta``, linear with slope ``delta`` above."""

    __constants__ = ["reduction", "delta"]

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = delta

    def forward(self, input: Any, target: Any) -> Any:
        return losses.huber_loss(input, target, self.reduction, self.delta)


class NLLLoss(_WeightedLoss):
    """The negative log probabilities of the target classes; see :func:`flambeau.nn.functional.nll_loss`."""

    __constants__ = ["ignore_index", "reduction"]

    def __init__(self, weight: Any = None, size_average: Any = None, ignore_index: int = -100, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index

    def forward(self, input: Any, target: Any) -> Any:
        return losses.nll_loss(input, target, self.weight, None, self.ignore_index, None, self.reduction)


class NLLLoss2d(NLLLoss):
    """The older name of :class:`NLLLoss` for images."""


class CrossEntropyLoss(_WeightedLoss):
    """The loss of a classifier, from its raw outputs.

    Parameters
    ----------
    weight : Tensor, optional
        One factor per class, shape ``(C,)``.
    ignore_index : int
        A label that counts for nothing.
    reduction : str
        ``mean`` over samples, ``sum``, or ``none``.
    label_smoothing : float
        The share of the target that is spread over all classes.
    """

    __constants__ = ["ignore_index", "reduction", "label_smoothing"]

    def __init__(
        self,
        weight: Any = None,
        size_average: Any = None,
        ignore_index: int = -100,
        reduce: Any = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(weight, size_average, reduce, reduction)
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing

    def forward(self, input: Any, target: Any) -> Any:
        return losses.cross_entropy(input, target, self.weight, None, self.ignore_index, None, self.reduction, self.label_smoothing)


class LinearCrossEntropyOptions:
    """How PyTorch splits the work of :class:`LinearCrossEntropyLoss`; accepted, and not needed here."""

    def __init__(
        self,
        allow_retain_graph: bool = False,
        batch_chunk_size: int | None = None,
        chunking_method: str | None = "auto",
        acc_policy: str = "auto",
        acc_dtype: Any = None,
    ) -> None:
        self.allow_retain_graph = allow_retain_graph
        self.batch_chunk_size = batch_chunk_size
        self.chunking_method = chunking_method
        self.acc_policy = acc_policy
        self.acc_dtype = acc_dtype


class LinearCrossEntropyLoss(Module):
    """A linear layer and the cross-entropy of its outputs in one module.

    Parameters
    ----------
    in_features, num_classes : int
        The layer's sizes.
    out_features : tuple of int
        Further dimensions of the targets.
    """

    __constants__ = ["num_classes", "out_features", "reduction", "ignore_index", "label_smoothing"]

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        device: Any = None,
        dtype: Any = None,
        reduction: str = "mean",
        weight: Any = None,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        options: LinearCrossEntropyOptions | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.num_classes, self.out_features = in_features, num_classes, tuple(out_features)
        self.reduction, self.ignore_index, self.label_smoothing, self.options = reduction, ignore_index, label_smoothing, options
        self.linear_weight = Parameter(fl.empty((num_classes, *self.out_features, in_features), device=device, dtype=dtype))
        self.linear_bias = Parameter(fl.empty((num_classes, *self.out_features), device=device, dtype=dtype)) if bias else None
        self.register_buffer("weight", weight)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values as a linear layer does."""
        bound = self.in_features**-0.5 if self.in_features else 0.0
        init.uniform_(self.linear_weight, -bound, bound)
        if self.linear_bias is not None:
            init.uniform_(self.linear_bias, -bound, bound)

    def forward(self, input: Any, target: Any) -> Any:
        return F.linear_cross_entropy(
            input,
            self.linear_weight,
            target,
            linear_bias=self.linear_bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            options=self.options,
        )


class BCELoss(_WeightedLoss):
    """The loss of probabilities against targets in 0 .. 1."""

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.binary_cross_entropy(input, target, self.weight, None, None, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:class:`BCELoss` of ``sigmoid(input)``, computed without overflow; ``pos_weight`` multiplies the positive part."""

    def __init__(self, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Any:
        return losses.binary_cross_entropy_with_logits(input, target, self.weight, None, None, self.reduction, self.pos_weight)


class KLDivLoss(_Loss):
    """The divergence of log probabilities from a target distribution; ``reduction="batchmean"`` is the mathematical one."""

    __constants__ = ["reduction"]

    def __init__(self, size_average: Any = None, reduce: Any = None, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Any:
        return losses.kl_div(input, target, None, None, self.reduction, self.log_target)


class PoissonNLLLoss(_Loss):
    """Negative log likelihood of counts."""

    __constants__ = ["log_input", "full", "eps", "reduction"]

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        size_average: Any = None,
        eps: float = 1e-8,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        self.log_input = log_input
        self.full = full
        self.eps = eps

    def forward(self, log_input: Any, target: Any) -> Any:
        return losses.poisson_nll_loss(log_input, target, self.log_input, self.full, None, self.eps, None, self.reduction)


class GaussianNLLLoss(_Loss):
    """Negative log likelihood under normal distributions with given means and variances."""

    __constants__ = ["full", "eps", "reduction"]

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(None, None, reduction)
        self.full = full
        self.eps = eps

    def forward(self, input: Any, target: Any, var: Any) -> Any:
        return losses.gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class HingeEmbeddingLoss(_Loss):
    """``input`` where ``target`` is 1, ``max(0, margin - input)`` where it is -1."""

    __constants__ = ["margin", "reduction"]

    def __init__(self, margin: float = 1.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input: Any, target: Any) -> Any:
        return losses.hinge_embedding_loss(input, target, self.margin, None, None, self.reduction)


class MultiLabelMarginLoss(_Loss):
    """Margins between each label and every class that is not one."""

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.multilabel_margin_loss(input, target, None, None, self.reduction)


class SoftMarginLoss(_Loss):
    """``log(1 + exp(-target * input))``."""

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.soft_margin_loss(input, target, None, None, self.reduction)


class MultiLabelSoftMarginLoss(_WeightedLoss):
    """Binary cross-entropy with logits, averaged over the classes."""

    __constants__ = ["reduction"]

    def forward(self, input: Any, target: Any) -> Any:
        return losses.multilabel_soft_margin_loss(input, target, self.weight, None, None, self.reduction)


class CosineEmbeddingLoss(_Loss):
    """``1 - cos`` of two vectors where ``target`` is 1, ``max(0, cos - margin)`` where it is -1."""

    __constants__ = ["margin", "reduction"]

    def __init__(self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return losses.cosine_embedding_loss(input1, input2, target, self.margin, None, None, self.reduction)


class MarginRankingLoss(_Loss):
    """``max(0, -target * (input1 - input2) + margin)``."""

    __constants__ = ["margin", "reduction"]

    def __init__(self, margin: float = 0.0, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1: Any, input2: Any, target: Any) -> Any:
        return losses.margin_ranking_loss(input1, input2, target, self.margin, None, None, self.reduction)


class MultiMarginLoss(_WeightedLoss):
    """Margins between the target class and the others."""

    __constants__ = ["p", "margin", "reduction"]

    def __init__(self, p: int = 1, margin: float = 1.0, weight: Any = None, size_average: Any = None, reduce: Any = None, reduction: str = "mean") -> None:
        super().__init__(weight, size_average, reduce, reduction)
        if p not in (1, 2):
            raise ValueError("only p == 1 and p == 2 supported")
        if weight is not None and weight.dim() != 1:
            raise ValueError(f"MultiMarginLoss: expected weight to be None or 1D tensor, got {weight.dim()}D instead")
        self.p = p
        self.margin = margin

    def forward(self, input: Any, target: Any) -> Any:
        return losses.multi_margin_loss(input, target, self.p, self.margin, self.weight, None, None, self.reduction)


class TripletMarginLoss(_Loss):
    """``max(0, d(anchor, positive) - d(anchor, negative) + margin)``."""

    __constants__ = ["margin", "p", "eps", "swap", "reduction"]

    def __init__(
        self,
        margin: float = 1.0,
        p: float = 2.0,
        eps: float = 1e-6,
        swap: bool = False,
        size_average: Any = None,
        reduce: Any = None,
        reduction: str = "mean",
    ) -> None:
        super().__init__(size_average, reduce, reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginLoss: expected margin to be greater than 0, got {margin} instead")
        self.margin = margin
        self.p = p
        self.eps = eps
        self.swap = swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return losses.triplet_margin_loss(anchor, positive, negative, self.margin, self.p, self.eps, self.swap, None, None, self.reduction)


class TripletMarginWithDistanceLoss(_Loss):
    """:class:`TripletMarginLoss` with a distance of the caller's."""

    __constants__ = ["margin", "swap", "reduction"]

    def __init__(
        self,
        *,
        distance_function: Callable[[Any, Any], Any] | None = None,
        margin: float = 1.0,
        swap: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__(None, None, reduction)
        if margin <= 0:
            raise ValueError(f"TripletMarginWithDistanceLoss: expected margin to be greater than 0, got {margin} instead")
        self.distance_function = distance_function if distance_function is not None else PairwiseDistance()
        self.margin = margin
        self.swap = swap

    def forward(self, anchor: Any, positive: Any, negative: Any) -> Any:
        return losses.triplet_margin_with_distance_loss(
            anchor,
            positive,
            negative,
            distance_function=self.distance_function,
            margin=self.margin,
            swap=self.swap,
            reduction=self.reduction,
        )


class CTCLoss(_Loss):
    """Connectionist temporal classification; see :func:`flambeau.nn.functional.ctc_loss`."""

    __constants__ = ["blank", "reduction"]

    def __init__(self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False) -> None:
        super().__init__(reduction=reduction)
        self.blank = blank
        self.zero_infinity = zero_infinity

    def forward(self, log_probs: Any, targets: Any, input_lengths: Any, target_lengths: Any) -> Any:
        return losses.ctc_loss(log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity)
