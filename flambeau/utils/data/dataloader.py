"""The loader: indices from a sampler, samples from a dataset, batches from a collate function."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import flambeau as torch

from .collate import default_collate, default_convert
from .dataset import Dataset, IterableDataset, Subset, TensorDataset, _fetch
from .sampler import BatchSampler, RandomSampler, Sampler, SequentialSampler, draw_seed

T_co = TypeVar("T_co", covariant=True)


def get_worker_info() -> None:
    """What a worker process knows about itself: always None, samples are loaded in the program's own process."""
    return


class _InfiniteConstantSampler(Sampler[None]):
    """Drives the stream of an ``IterableDataset``, which has no indices."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """An iterable over batches of a dataset; each ``for`` loop is one epoch.

    Parameters
    ----------
    dataset
        Anything with ``__getitem__`` and ``__len__``, or an ``IterableDataset``.
    batch_size
        Samples per batch; None gives the samples themselves.
    shuffle
        A new random order every epoch, PyTorch's own for the same ``manual_seed``.
    sampler, batch_sampler
        Where the indices, or lists of indices, come from instead.
    num_workers, prefetch_factor, persistent_workers, worker_init_fn, timeout, multiprocessing_context, in_order, pin_memory
        Accepted for compatibility; samples are loaded in this process.
    collate_fn
        From a list of samples to a batch.
    drop_last
        Leave out a last batch that is not full.
    generator
        Source of randomness of the order.

    Raises
    ------
    ValueError
        Options that exclude each other, or an empty dataset with ``shuffle``.

    Examples
    --------
    >>> from flambeau.utils.data import DataLoader
    >>> for batch in DataLoader([1.0, 2.0, 3.0], batch_size=2):
    ...     print(batch.tolist())
    [1.0, 2.0]
    [3.0]
    """

    __initialized = False

    def __init__(
        self,
        dataset: Dataset[T_co],
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: Any = None,
        generator: torch.Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        _check_worker_options(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        self.dataset = dataset
        self.num_workers = num_workers
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory = pin_memory
        self.pin_memory_device = pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.persistent_workers = persistent_workers
        self.in_order = in_order

        self._streaming = isinstance(dataset, IterableDataset)
        if self._streaming:
            for name, value, given in (
                ("shuffle", shuffle, shuffle not in (None, False)),
                ("sampler", sampler, sampler is not None),
                ("batch_sampler", batch_sampler, batch_sampler is not None),
            ):
                if given:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}")
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")

        if sampler is None:
            if self._streaming:
                sampler = _InfiniteConstantSampler()
            elif shuffle:
                sampler = RandomSampler(dataset, generator=generator)  # type: ignore[arg-type]
            else:
                sampler = SequentialSampler(dataset)  # type: ignore[arg-type]
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)

        self.batch_size = batch_size
        self.drop_last = drop_last
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.generator = generator
        self.collate_fn = collate_fn if collate_fn is not None else default_convert if batch_sampler is None else default_collate
        self._reported_length: int | None = None      # of a stream, once len() was asked for
        self.__initialized = True

    def __setattr__(self, name: str, value: Any) -> None:
        if self.__initialized and name in ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"):
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    @property
    def _auto_collation(self) -> bool:
        return self.batch_sampler is not None

    @property
    def _index_sampler(self) -> Any:
        return self.sampler if self.batch_sampler is None else self.batch_sampler

    def __iter__(self) -> Iterator[Any]:
        return _Epoch(self)

    def __len__(self) -> int:
        if not self._streaming:
            return len(self._index_sampler)
        length = self._reported_length = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else math.ceil(length / self.batch_size)


class _Epoch(Iterator[Any]):
    """One pass over a loader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        self._base_seed = draw_seed(loader.generator)      # of workers; drawn in any case, as part of the random stream's order
        self._indices = iter(loader._index_sampler)
        if loader._streaming:
            self._fetch: Callable[[Any], Any] = _Stream(loader)
        elif not loader._auto_collation:
            self._fetch = lambda index: loader.collate_fn(loader.dataset[index])  # type: ignore[arg-type]
        else:
            self._fetch = (loader.collate_fn is default_collate and _rows(loader.dataset)) or (
                lambda indices: loader.collate_fn(_fetch(loader.dataset, indices))
            )

    def __next__(self) -> Any:
        return self._fetch(next(self._indices))

    def __len__(self) -> int:
        return len(self._loader._index_sampler)


class _Stream:
    """Reads the next sample, or batch of samples, of an ``IterableDataset``."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader
        self.samples = iter(loader.dataset)  # type: ignore[call-overload]
        self.count = 0

    def __call__(self, places: list[None] | None) -> Any:
        loader = self.loader
        if places is None:
            result = next(self.samples)
            self._counted(1)
            return loader.collate_fn(result)
        batch = list(itertools.islice(self.samples, len(places)))
        if not batch or (loader.drop_last and len(batch) < len(places)):
            raise StopIteration
        self._counted(len(batch))
        return loader.collate_fn(batch)

    def _counted(self, more: int) -> None:
        self.count += more
        reported = self.loader._reported_length
        if reported is not None and self.count > reported >= self.count - more:      # once, when it is passed
            warnings.warn(
                f"Length of IterableDataset {self.loader.dataset} was reported to be {reported} (when accessing len(dataloader)), but "
                f"{self.count} samples have been fetched. ",
                stacklevel=3,
            )


def _rows(dataset: Any) -> Callable[[list[int]], Any] | None:
    """For a ``TensorDataset``, or subsets of one, a function that gathers a batch from whole tensors.

    It gives what fetching and stacking the rows would, in one operation per tensor.
    """
    maps = []
    while type(dataset) is Subset:
        maps.append(dataset.indices)
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None

    def gather(indices: list[int]) -> list[torch.Tensor]:
        for chosen in maps:
            indices = [chosen[i] for i in indices]
        rows = torch.tensor(indices, dtype=torch.int64)
        return [tensor[rows] for tensor in dataset.tensors]

    return gather


def _check_worker_options(
    num_workers: int, timeout: float, prefetch_factor: int | None, persistent_workers: bool, multiprocessing_context: Any
) -> None:
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    if prefetch_factor is not None and prefetch_factor < 0:
        raise ValueError("prefetch_factor option should be non-negative")
    if num_workers > 0:
        return
    if prefetch_factor is not None:
        raise ValueError(
            "prefetch_factor option could only be specified in multiprocessing."
            "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None."
        )
    if persistent_workers:
        raise ValueError("persistent_workers option needs num_workers > 0")
    if multiprocessing_context is not None:
        raise ValueError(
            "multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
            f"num_workers={num_workers}"
        )
