"""Datasets: what a loader reads samples from, by index or as a stream."""

from __future__ import annotations

import itertools
import math
import warnings
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import flambeau as torch

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Dataset(Generic[T_co]):
    """Samples by index: a subclass defines ``__getitem__`` and usually ``__len__``.

    ``__getitems__(indices)``, which returns a list of samples, is optional: a loader then fetches a batch in one call.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples as a stream: a subclass defines ``__iter__``."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Sample ``i`` is the tuple of the ``i``-th rows of several tensors.

    Raises
    ------
    AssertionError
        The tensors differ in their first size.

    Examples
    --------
    >>> import flambeau as torch
    >>> from flambeau.utils.data import TensorDataset
    >>> data = TensorDataset(torch.zeros(5, 2), torch.arange(5))
    >>> len(data), data[3][1].item()
    (5, 3)
    """

    def __init__(self, *tensors: torch.Tensor) -> None:
        sizes = [tensor.size(0) for tensor in tensors]
        if any(size != sizes[0] for size in sizes):
            raise AssertionError(
                f"Size mismatch between tensors\nTensorDataset: all tensors need the same first size, got {', '.join(map(str, sizes))}."
            )
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[torch.Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return self.tensors[0].size(0)


class StackDataset(Dataset[Any]):
    """Several datasets of one length side by side: samples are tuples, or dictionaries when given by keyword."""

    datasets: tuple[Any, ...] | dict[str, Any]

    def __init__(self, *args: Dataset[Any], **kwargs: Dataset[Any]) -> None:
        if args and kwargs:
            raise ValueError(
                "Supported either ``tuple``- (via ``args``) or ``dict``- (via ``kwargs``) like input/output, but both types are given."
            )
        if not args and not kwargs:
            raise ValueError("At least one dataset should be passed")
        self.datasets = args or kwargs
        members = self._members()
        self._length = len(members[0])
        if any(len(member) != self._length for member in members):
            raise ValueError(f"Size mismatch between datasets\nStackDataset got lengths {', '.join(str(len(m)) for m in members)}.")

    def _members(self) -> list[Any]:
        return list(self.datasets.values() if isinstance(self.datasets, dict) else self.datasets)

    def _assemble(self, values: Iterable[Any]) -> Any:
        return dict(zip(self.datasets, values)) if isinstance(self.datasets, dict) else tuple(values)

    def __getitem__(self, index: int) -> Any:
        return self._assemble(member[index] for member in self._members())

    def __getitems__(self, indices: list[int]) -> list[Any]:
        columns = []
        for member in self._members():
            columns.append(_fetch(member, indices))
            if len(columns[-1]) != len(indices):
                raise ValueError(f"Nested dataset's output size mismatch. Expected {len(indices)}, got {len(columns[-1])}")
        return [self._assemble(values) for values in zip(*columns)]

    def __len__(self) -> int:
        return self._length


class ConcatDataset(Dataset[T_co]):
    """Datasets one after another.

    Attributes
    ----------
    cumulative_sizes : list of int
        Where each of them ends.
    """

    @staticmethod
    def cumsum(sequence: Sequence[Any]) -> list[int]:
        """Running sum of the lengths."""
        return list(itertools.accumulate(map(len, sequence)))

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets: list[Any] = list(datasets)
        if not self.datasets:
            raise AssertionError("datasets should not be an empty iterable")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise AssertionError("ConcatDataset does not support IterableDataset\nUse ChainDataset for streams.")
        self.cumulative_sizes = self.cumsum(self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        if index < 0:
            if -index > len(self):
                raise ValueError("absolute value of index should not exceed dataset length")
            index += len(self)
        place = bisect_right(self.cumulative_sizes, index)
        return self.datasets[place][index - (self.cumulative_sizes[place - 1] if place else 0)]


class ChainDataset(IterableDataset[Any]):
    """Streams one after another."""

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = datasets

    def __iter__(self) -> Iterator[Any]:
        for dataset in self.datasets:
            self._check(dataset)
            yield from dataset

    def __len__(self) -> int:
        return sum(len(self._check(dataset)) for dataset in self.datasets)

    @staticmethod
    def _check(dataset: Any) -> Any:
        if not isinstance(dataset, IterableDataset):
            raise AssertionError("ChainDataset only supports IterableDataset\nUse ConcatDataset for datasets with an index.")
        return dataset


class Subset(Dataset[T_co]):
    """The samples of a dataset at given indices."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: list[int]) -> list[T_co]:
        return _fetch(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def _fetch(dataset: Any, indices: list[int]) -> list[Any]:
    """The samples at ``indices``, in one call where the dataset offers it."""
    several = getattr(dataset, "__getitems__", None)
    return several(indices) if several is not None else [dataset[i] for i in indices]


def random_split(
    dataset: Dataset[T], lengths: Sequence[int | float], generator: torch.Generator | None = None
) -> list[Subset[T]]:
    """Divide a dataset at random into disjoint parts.

    Parameters
    ----------
    lengths
        Numbers of samples that add up to ``len(dataset)``, or fractions that add up to 1; samples left over by rounding
        the fractions down go to the first parts, one each.
    generator
        Source of randomness, e.g. ``torch.Generator().manual_seed(42)`` for the same split every time.

    Raises
    ------
    ValueError
        The lengths do not add up.
    """
    total = len(dataset)  # type: ignore[arg-type]
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        sizes = []
        for index, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {index} is not between 0 and 1")
            sizes.append(math.floor(total * fraction))
        for extra in range(total - sum(sizes)):
            sizes[extra % len(sizes)] += 1
        for index, size in enumerate(sizes):
            if size == 0:
                warnings.warn(f"Length of split at index {index} is 0. This might result in an empty dataset.", stacklevel=2)
    else:
        sizes = list(lengths)  # type: ignore[arg-type]
    if sum(sizes) != total:
        raise ValueError(
            "Sum of input lengths does not equal the length of the input dataset!\n"
            f"random_split: lengths {list(lengths)} add up to {sum(lengths)}, the dataset has {total} samples. "
            "Fractions must add up to 1."
        )
    order = torch.randperm(total, **({} if generator is None else {"generator": generator})).tolist()
    ends = list(itertools.accumulate(sizes))
    return [Subset(dataset, order[end - size : end]) for size, end in zip(sizes, ends)]
