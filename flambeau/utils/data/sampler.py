"""Samplers: in which order a loader visits the samples.  They draw PyTorch's own random numbers in PyTorch's order."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import flambeau as torch

T_co = TypeVar("T_co", covariant=True)
_DRAWS = 32      # indices drawn at once with replacement; part of the random stream's order


def draw_seed(generator: torch.Generator | None = None) -> int:
    """A seed for a generator of its own, drawn from ``generator`` or the default one."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def check_num_samples(num_samples: Any, empty: bool = False) -> None:
    """Raise ``ValueError`` unless ``num_samples`` is a positive integer."""
    if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
        advice = "\nThe dataset is empty (length 0). Check its path, file pattern or filter: len(dataset) should be above 0."
        raise ValueError(
            f"num_samples should be a positive integer value, but got num_samples={num_samples}{advice if empty else ''}"
        )


class Sampler(Generic[T_co]):
    """Base class: a subclass defines ``__iter__`` over indices (or lists of them), and ``__len__`` where it is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__} should implement __iter__.")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, ... in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order.

    Parameters
    ----------
    data_source
        The dataset.
    replacement
        Draw each index independently.
    num_samples
        How many to draw; the dataset's length for None.
    generator
        Source of randomness; for None, a fresh one for each pass, seeded from the default one.
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={replacement}")
        check_num_samples(self.num_samples, empty=num_samples is None)

    @property
    def num_samples(self) -> int:
        """How many indices one pass draws; follows the dataset when it was not given."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        generator = self.generator
        if generator is None:
            generator = torch.Generator()
            generator.manual_seed(draw_seed())
        full, rest = divmod(self.num_samples, _DRAWS if self.replacement else n)
        if self.replacement:
            for count in itertools.chain(itertools.repeat(_DRAWS, full), (rest,)):
                yield from torch.randint(n, (count,), dtype=torch.int64, generator=generator).tolist()
        else:
            for _ in range(full):
                yield from torch.randperm(n, generator=generator).tolist()
            yield from torch.randperm(n, generator=generator).tolist()[:rest]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """Given indices in random order."""

    def __init__(self, indices: Sequence[int], generator: torch.Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in torch.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices drawn with given probabilities.

    Parameters
    ----------
    weights
        One for each sample; they need not add up to one.
    num_samples
        How many to draw.
    replacement
        Whether an index may come again.
    generator
        Source of randomness.
    """

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: torch.Generator | None = None
    ) -> None:
        check_num_samples(num_samples)
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        values = torch.as_tensor(weights, dtype=torch.double)
        if values.dim() != 1:
            raise ValueError(f"weights should be a 1d sequence but given weights have shape {tuple(values.shape)}")
        self.weights = values
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from torch.multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of ``batch_size`` indices of another sampler.

    Parameters
    ----------
    sampler
        Any iterable of indices.
    drop_last
        Leave out a last batch that is not full.

    Examples
    --------
    >>> from flambeau.utils.data import BatchSampler
    >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[Any], batch_size: int, drop_last: bool) -> None:
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        full, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return full if self.drop_last or not rest else full + 1
