"""The loader: indices from a sampler, samples from a dataset, batches from a collate function."""

from __future__ import annotations

import functools
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
    num_workers
        Processes that load batches ahead; 0 loads in this process.
    collate_fn
        From a list of samples to a batch.
    drop_last
        Leave out a last batch that is not full.
    timeout
        Seconds to wait for a batch from the workers; 0 waits for ever.
    worker_init_fn
        Called with its number in each worker.
    multiprocessing_context
        ``"fork"``, ``"spawn"``, ``"forkserver"`` or a context of ``multiprocessing``.
    generator
        Source of randomness of the order.
    prefetch_factor
        Batches that each worker is ahead (2).
    persistent_workers
        Keep the workers from epoch to epoch.
    pin_memory, pin_memory_device, in_order
        Accepted for compatibility.

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
        self._pool: Any = None                        # of persistent workers
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
        base_seed = draw_seed(self.generator)      # of workers; drawn in any case, as part of the random stream's order
        indices = iter(self._index_sampler)
        make_fetch = functools.partial(_make_fetch, self._streaming, self._auto_collation, self.collate_fn, self.drop_last)
        if self.num_workers == 0:
            return _Epoch(self, indices, make_fetch(self.dataset))
        from .workers import WorkerEpoch, WorkerPool

        pool = self._pool
        if pool is None:
            pool = WorkerPool(self, base_seed, make_fetch)
            if self.persistent_workers:
                self._pool = pool
        prefetch = 2 if self.prefetch_factor is None else self.prefetch_factor
        return WorkerEpoch(self, pool, indices, prefetch, self.persistent_workers)

    def __del__(self) -> None:
        pool = self.__dict__.get("_pool")
        if pool is not None:
            pool.close()

    def __len__(self) -> int:
        if not self._streaming:
            return len(self._index_sampler)
        length = self._reported_length = len(self.dataset)  # type: ignore[arg-type]
        if self.batch_size is None:
            return length
        return length // self.batch_size if self.drop_last else math.ceil(length / self.batch_size)


class _Epoch(Iterator[Any]):
    """One pass over a loader, in this process."""

    def __init__(self, loader: DataLoader[Any], indices: Iterator[Any], fetch: Callable[[Any], Any]) -> None:
        self._loader = loader
        self._indices = indices
        self._fetch = fetch
        self._count = 0

    def __next__(self) -> Any:
        result = self._fetch(next(self._indices))
        reported = self._loader._reported_length
        if reported is not None:
            self._count += 1
            if self._count == reported + 1:
                warnings.warn(
                    f"Length of IterableDataset {self._loader.dataset} was reported to be {reported} (when accessing len(dataloader)), "
                    f"but {self._count} samples have been fetched. ",
                    stacklevel=2,
                )
        return result

    def __len__(self) -> int:
        return len(self._loader._index_sampler)


def _make_fetch(
    streaming: bool, batched: bool, collate: Callable[[Any], Any], drop_last: bool, dataset: Any
) -> Callable[[Any], Any]:
    """The function from what the index sampler gives to a batch; it raises ``StopIteration`` at the end of a stream."""
    if streaming:
        samples = iter(dataset)

        def read(places: list[None]) -> Any:
            batch = list(itertools.islice(samples, len(places)))
            if not batch or (drop_last and len(batch) < len(places)):
                raise StopIteration
            return collate(batch)

        return read if batched else lambda _: collate(next(samples))
    if not batched:
        return lambda index: collate(dataset[index])
    rows = _rows(dataset) if collate is default_collate else None
    return rows or (lambda indices: collate(_fetch(dataset, indices)))


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
