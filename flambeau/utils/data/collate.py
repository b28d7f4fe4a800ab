"""Turning a list of samples into a batch: tensors are stacked, containers are walked through."""

from __future__ import annotations

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import flambeau as torch

_UNKNOWN = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"
_TEXT_KINDS = "SUO"      # NumPy's kinds of bytes, text and objects


def _is_numpy(value: Any) -> bool:
    """Whether ``value`` is an array or a scalar of NumPy, without importing it."""
    return any(kind.__module__ == "numpy" and kind.__name__ in ("ndarray", "generic") for kind in type(value).__mro__)


def default_collate(batch: Any) -> Any:
    """Combine samples of one structure into one batch.

    Tensors and arrays are stacked along a new first dimension, numbers become a tensor, text stays a list; dictionaries,
    named tuples and sequences are combined entry by entry (a tuple becomes a list).

    Parameters
    ----------
    batch
        List of samples.

    Raises
    ------
    RuntimeError
        Tensors or sequences in the same place differ in size.
    TypeError
        A sample is of another type.

    Examples
    --------
    >>> from flambeau.utils.data import default_collate
    >>> default_collate([{"x": 1}, {"x": 2}])
    {'x': tensor([1, 2])}
    """
    first = batch[0]
    kind = type(first)
    if isinstance(first, torch.Tensor):
        _check_sizes([tuple(sample.shape) for sample in batch])
        stacked = torch._stack_copies(batch)
        return torch.stack(batch, 0) if stacked is None else stacked
    if _is_numpy(first):
        return _collate_numpy(batch)
    if isinstance(first, float):
        return torch.tensor(batch, dtype=torch.float64)
    if isinstance(first, int):
        return torch.tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _rebuild_mapping(first, {key: default_collate([sample[key] for sample in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return kind(*(default_collate(column) for column in zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError(
                "each element in list of batch should be of equal size\n"
                f"DataLoader: the samples are lists of lengths {_sizes([len(sample) for sample in batch])}. Pad them in the dataset, or "
                "pass collate_fn= to keep them apart (collate_fn=list) or to pad them."
            )
        columns = [default_collate(column) for column in zip(*batch)]
        return columns if isinstance(first, tuple) else _rebuild_sequence(first, columns)
    raise TypeError(
        _UNKNOWN.format(kind) + "\nReturn tensors, numbers, text or containers of these from the dataset, or pass collate_fn= to the "
        "DataLoader."
    )


def default_convert(data: Any) -> Any:
    """Turn the NumPy arrays in a sample into tensors; everything else stays as it is.

    This is what a loader without batching (``batch_size=None``) does to each sample.
    """
    kind = type(data)
    if isinstance(data, torch.Tensor):
        return data
    if _is_numpy(data):
        return data if data.dtype.kind in _TEXT_KINDS else torch.as_tensor(data)
    if isinstance(data, Mapping):
        return _rebuild_mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return kind(*(default_convert(value) for value in data))
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _rebuild_sequence(data, [default_convert(value) for value in data])
    return data


def _collate_numpy(batch: Sequence[Any]) -> torch.Tensor:
    import numpy as np

    first = batch[0]
    if first.dtype.kind in _TEXT_KINDS:
        raise TypeError(_UNKNOWN.format(first.dtype))
    _check_sizes([sample.shape for sample in batch])
    return torch.from_numpy(np.stack(batch))


def _check_sizes(shapes: Sequence[tuple[int, ...]]) -> None:
    for index, shape in enumerate(shapes):
        if shape != shapes[0]:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shapes[0])} at entry 0 and {list(shape)} at entry {index}\n"
                f"DataLoader cannot stack the batch: sample 0 is {list(shapes[0])}, sample {index} is {list(shape)}. Resize or pad in the "
                "dataset, or pass collate_fn= (e.g. with nn.utils.rnn.pad_sequence)."
            )


def _sizes(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes[:8])) + (", ..." if len(sizes) > 8 else "")


def _rebuild_mapping(like: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """A mapping of the type of ``like``; a plain dictionary where that type cannot be made from one."""
    if type(like) is dict:
        return values
    try:
        if isinstance(like, MutableMapping):      # keeps what a subclass has besides its items
            result = copy.copy(like)
            result.update(values)
            return result
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _rebuild_sequence(like: Sequence[Any], values: list[Any]) -> Any:
    if type(like) is list:
        return values
    try:
        if isinstance(like, MutableSequence):
            result = copy.copy(like)
            for index, value in enumerate(values):
                result[index] = value
            return result
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
