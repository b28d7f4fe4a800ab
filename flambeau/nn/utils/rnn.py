"""Sequences of several lengths: padded, and packed so that no step is spent on padding."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import flambeau as fl


class _Packed(NamedTuple):
    data: Any
    batch_sizes: Any
    sorted_indices: Any
    unsorted_indices: Any


class PackedSequence(_Packed):
    """Sequences sorted by length, their elements in order of time.

    Attributes
    ----------
    data : Tensor
        ``(total length, *)``: all first elements, all second elements, ...
    batch_sizes : Tensor
        int64, how many sequences are that long.
    sorted_indices, unsorted_indices : Tensor or None
        From the original order to the sorted one, and back.
    """

    def __new__(cls, data: Any, batch_sizes: Any = None, sorted_indices: Any = None, unsorted_indices: Any = None) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            data, batch_sizes = data
        elif batch_sizes.device.type != "cpu":
            raise ValueError(f"batch_sizes should always be on CPU. Instances of PackedSequence should never be created manually. Got {batch_sizes.device}")
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Convert or move ``data`` (and move the indices)."""
        data = self.data.to(*args, **kwargs)
        if data is self.data:
            return self
        move = {"device": data.device}
        return type(self)(data, self.batch_sizes, *(None if i is None else i.to(**move) for i in (self.sorted_indices, self.unsorted_indices)))

    def cpu(self) -> PackedSequence:
        """Move to the CPU."""
        return self.to(device="cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """Move to the GPU."""
        return self.to(device=args[0] if args else "cuda", **kwargs)

    def double(self) -> PackedSequence:
        """Convert to float64."""
        return self.to(dtype=fl.float64)

    def float(self) -> PackedSequence:
        """Convert to float32."""
        return self.to(dtype=fl.float32)

    def half(self) -> PackedSequence:
        """Convert to float16."""
        return self.to(dtype=fl.float16)

    def long(self) -> PackedSequence:
        """Convert to int64."""
        return self.to(dtype=fl.int64)

    @property
    def is_cuda(self) -> bool:
        """Whether the data is on a GPU."""
        return bool(self.data.is_cuda)

    def is_pinned(self) -> bool:
        """Whether the data is in pinned memory."""
        return bool(self.data.is_pinned())


def invert_permutation(permutation: Any) -> Any:
    """The permutation that undoes this one; None stays None."""
    if permutation is None:
        return None
    return fl.empty_like(permutation).scatter_(0, permutation, fl.arange(0, permutation.numel(), device=permutation.device))


def pack_padded_sequence(input: Any, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences that were padded to one length.

    Parameters
    ----------
    input : Tensor
        ``(T, N, *)``, or ``(N, T, *)`` with ``batch_first``.
    lengths : Tensor or sequence of int
        The ``N`` lengths, at least 1.
    enforce_sorted : bool
        Require the lengths to fall; otherwise they are sorted here.
    """
    given = [int(n) for n in (lengths.tolist() if isinstance(lengths, fl.Tensor) else lengths)]
    batch = input.shape[0 if batch_first else 1]
    if len(given) != batch:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {len(given)} (batch_size={batch})")
    if any(n <= 0 for n in given):
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0")
    indices = None
    if enforce_sorted:
        if any(a < b for a, b in itertools.pairwise(given)):
            raise RuntimeError(
                "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass `enforce_sorted=False` "
                "to pack_padded_sequence "
                "and/or pack_sequence to sidestep this requirement if you do not need ONNX exportability."
            )
    else:
        order = sorted(range(batch), key=lambda i: -given[i])
        indices = fl.tensor(order, dtype=fl.int64, device=input.device)
        given = [given[i] for i in order]
        input = input.index_select(0 if batch_first else 1, indices)
    if batch_first:
        input = input.transpose(0, 1)
    if given[0] > input.shape[0]:
        raise RuntimeError(f"Expected `len(lengths)` to be at most the padded length {input.shape[0]}, but got {given[0]}")
    sizes = [sum(n > t for n in given) for t in range(given[0])]
    data = fl.cat([input[t, :b] for t, b in enumerate(sizes)])
    return PackedSequence(data, fl.tensor(sizes, dtype=fl.int64), indices, None)


def pad_packed_sequence(sequence: PackedSequence, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None) -> tuple[Any, Any]:
    """Undo :func:`pack_padded_sequence`: the padded sequences and their lengths (int64)."""
    sizes = sequence.batch_sizes.tolist()
    longest = len(sizes)
    if total_length is not None:
        if total_length < longest:
            raise ValueError(
                f"Expected total_length to be at least the length of the longest sequence in input, but got total_length={total_length} "
                "and max sequence length "
                f"being {longest}"
            )
        longest = total_length
    batch = sizes[0]
    rest = sequence.data.shape[1:]
    rows = []
    for part, b in zip(sequence.data.split(sizes), sizes, strict=True):
        rows.append(part if b == batch else fl.cat([part, part.new_full((batch - b, *rest), padding_value)]))
    rows += [sequence.data.new_full((batch, *rest), padding_value)] * (longest - len(sizes))
    padded = fl.stack(rows)
    lengths = fl.tensor([sum(b > i for b in sizes) for i in range(batch)], dtype=fl.int64)
    if sequence.unsorted_indices is not None:
        padded = padded.index_select(1, sequence.unsorted_indices)
        lengths = lengths[sequence.unsorted_indices]
    return padded.transpose(0, 1) if batch_first else padded, lengths


def pad_sequence(sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right") -> Any:
    """Stack tensors ``(L_i, *)`` into ``(T, N, *)`` or ``(N, T, *)``, padded to the longest."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}")
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"pad_sequence: padding_side should be either 'left' or 'right', but got {padding_side}")
    items = list(sequences.unbind(0) if isinstance(sequences, fl.Tensor) else sequences)
    if not items:
        raise RuntimeError("received an empty list of sequences")
    longest = max(s.shape[0] for s in items)
    rows = []
    for s in items:
        extra = longest - s.shape[0]
        if extra:
            fill = s.new_full((extra, *s.shape[1:]), padding_value)
            s = fl.cat([s, fill] if padding_side == "right" else [fill, s])
        rows.append(s)
    return fl.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Any, lengths: Any, batch_first: bool = False) -> list[Any]:
    """Undo :func:`pad_sequence`: the list of tensors."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [seq[: int(n)] for seq, n in zip(padded_sequences.unbind(0), lengths, strict=True)]


def pack_sequence(sequences: Any, enforce_sorted: bool = True) -> PackedSequence:
    """Pack a list of tensors ``(L_i, *)``."""
    return pack_padded_sequence(pad_sequence(sequences), [s.shape[0] for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Any]:
    """Undo :func:`pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths.tolist(), batch_first=True)
