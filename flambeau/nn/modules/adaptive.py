"""Adaptive softmax: a classifier over many classes of very different frequency (Grave et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flambeau as fl

from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module


class _ASMoutput(NamedTuple):
    """The log probabilities of the targets, and the mean loss."""

    output: Any
    loss: Any


class AdaptiveLogSoftmaxWithLoss(Module):
    """Frequent classes in a head, rarer ones in clusters of decreasing width.

    Parameters
    ----------
    in_features, n_classes : int
        Size of the input's last dimension, and number of classes, the most frequent first.
    cutoffs : sequence of int
        Where the clusters begin.
    div_value : float
        By what the width of each cluster is divided.
    head_bias : bool
        Whether the head has a bias.
    """

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        where = {"device": device, "dtype": dtype}
        super().__init__()
        cuts = list(cutoffs)
        if not cuts:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        if cuts != sorted(set(cuts)) or min(cuts) <= 0 or max(cuts) > n_classes - 1 or any(int(c) != c for c in cuts):
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cuts, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, bias=head_bias, **where)
        self.tail = ModuleList()
        for i in range(self.n_clusters):
            width = int(in_features // (div_value ** (i + 1)))
            size = self.cutoffs[i + 1] - self.cutoffs[i]
            self.tail.append(Sequential(Linear(in_features, width, bias=False, **where), Linear(width, size, bias=False, **where)))

    def reset_parameters(self) -> None:
        """Draw initial values."""
        self.head.reset_parameters()
        for pair in self.tail:
            for layer in pair:
                layer.reset_parameters()

    def forward(self, input: Any, target: Any) -> _ASMoutput:
        """``input`` is ``(N, in_features)`` with ``target`` ``(N,)``, or both without ``N``."""
        if target.dim() == 1:
            if input.shape[0] != target.shape[0]:
                raise RuntimeError("Input and target should have the same size in the batch dimension.")
            if input.dim() != 2:
                raise RuntimeError(f"1D target tensor expects 2D input tensors, but found inputs with size {input.size()}")
        elif target.dim() == 0:
            if input.dim() != 1:
                raise RuntimeError(f"0D target tensor expects 1D input tensors, but found inputs with size {input.size()}")
        else:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        single = target.dim() == 0
        x, y = (input.unsqueeze(0), target.unsqueeze(0)) if single else (input, target)
        low, high = (y.min().item(), y.max().item()) if y.numel() else (0, 0)
        if low < 0 or high >= self.n_classes:
            raise RuntimeError(f"Target values should be in [0, {self.n_classes - 1}], but values in range [{low}, {high}] were found. ")
        output = self.log_prob(x).gather(1, y.unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output.squeeze(0) if single else output, loss)

    def _full(self, input: Any, head: Any) -> Any:
        parts = F.log_softmax(head, 1)
        all_parts = [parts[:, : self.shortlist_size]]
        for i, pair in enumerate(self.tail):
            all_parts.append(F.log_softmax(pair(input), 1) + parts[:, self.shortlist_size + i].unsqueeze(1))
        return fl.cat(all_parts, 1)

    def log_prob(self, input: Any) -> Any:
        """The log probabilities of all classes, ``(N, n_classes)``."""
        return self._full(input, self.head(input))

    def predict(self, input: Any) -> Any:
        """The most probable class of each row, ``(N,)``."""
        return self.log_prob(input).argmax(1)
