"""Datasets, samplers, collation and the loader.  Expected orders are PyTorch's for the same seeds."""

import collections
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import flambeau as torch
from flambeau.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    StackDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    get_worker_info,
    random_split,
)

TEN = list(range(10))


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


class Sized(Stream):
    def __len__(self):
        return 3


def batches(loader):
    return [b.tolist() for b in loader]


# ---------------------------------------------------------------- order


def test_shuffle_is_pytorchs():
    torch.manual_seed(0)
    assert batches(DataLoader(TEN, batch_size=4, shuffle=True)) == [[6, 7, 1, 4], [2, 0, 9, 8], [3, 5]]
    assert torch.rand(1).item() == pytest.approx(0.3074, abs=1e-4), "what follows draws PyTorch's numbers too"
    torch.manual_seed(0)
    assert batches(DataLoader(TEN, batch_size=4)) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert torch.rand(1).item() == pytest.approx(0.0885, abs=1e-4), "a pass without shuffling draws a seed as well"


def test_shuffle_with_a_generator():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(5)
    assert batches(DataLoader(TEN, batch_size=4, shuffle=True, generator=generator)) == [[7, 4, 8, 1], [2, 3, 6, 5], [9, 0]]
    assert torch.rand(1).item() == pytest.approx(0.4963, abs=1e-4)
    assert torch.rand(1, generator=generator).item() == pytest.approx(0.6698, abs=1e-4)


def test_each_epoch_has_its_own_order():
    torch.manual_seed(1)
    loader = DataLoader(TEN, batch_size=10, shuffle=True)
    first, second = batches(loader)[0], batches(loader)[0]
    assert first != second and sorted(first) == sorted(second) == TEN


def test_samplers_are_pytorchs():
    torch.manual_seed(0)
    assert list(SubsetRandomSampler(TEN)) == [4, 1, 7, 5, 3, 9, 0, 8, 6, 2]
    assert list(WeightedRandomSampler([0.1, 0.5, 0.4], 5)) == [0, 1, 1, 1, 1]
    drawn = list(RandomSampler(TEN, replacement=True, num_samples=40))
    assert drawn[:10] == [7, 7, 5, 3, 5, 7, 1, 0, 3, 8] and drawn[-8:] == [7, 2, 5, 7, 2, 5, 4, 3, 4][-8:]
    assert list(RandomSampler(TEN, num_samples=14)) == [5, 9, 8, 7, 6, 1, 3, 2, 0, 4, 1, 7, 4, 8]
    assert list(WeightedRandomSampler([0.1, 0.5, 0.4], 2, replacement=False)) == [2, 1]
    assert torch.rand(1).item() == pytest.approx(0.3734, abs=1e-4)


def test_random_split_is_pytorchs():
    torch.manual_seed(0)
    first, second = random_split(TEN, [3, 7])
    assert (first.indices, second.indices) == ([4, 1, 7], [5, 3, 9, 0, 8, 6, 2])
    assert [len(part) for part in random_split(TEN, [0.35, 0.65])] == [4, 6]
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(TEN, [0.999, 0.001])


def test_distributed_sampler():
    assert list(DistributedSampler(TEN, num_replicas=3, rank=1, shuffle=True, seed=3)) == [0, 8, 9, 6]
    assert list(DistributedSampler(TEN, num_replicas=3, rank=2, shuffle=False, drop_last=True)) == [2, 5, 8]


def test_batch_sampler():
    assert list(BatchSampler(SequentialSampler(TEN), 4, True)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert len(BatchSampler(SequentialSampler(TEN), 4, False)) == 3
    assert batches(DataLoader(TEN, batch_sampler=[[1, 2], [5]])) == [[1, 2], [5]]


# ---------------------------------------------------------------- datasets


def test_tensor_dataset_batches_equal_stacked_rows():
    x, y = torch.arange(12.0).reshape(6, 2), torch.arange(6)
    data = TensorDataset(x, y)
    plain = DataLoader(data, batch_size=4, collate_fn=lambda samples: default_collate(samples))
    for fast, slow in zip(DataLoader(data, batch_size=4), plain, strict=True):
        assert type(fast) is type(slow) is list
        for a, b in zip(fast, slow, strict=True):
            assert a.tolist() == b.tolist() and a.dtype == b.dtype
    part = Subset(Subset(data, [5, 3, 1]), [2, 0])
    (batch,) = DataLoader(part, batch_size=4)
    assert batch[1].tolist() == [1, 5]
    batch[0].zero_()
    assert x[5].tolist() == [10.0, 11.0], "a batch is a copy"
    with pytest.raises(AssertionError, match="Size mismatch between tensors"):
        TensorDataset(torch.ones(2), torch.ones(3))


def test_a_dataset_subclass_keeps_its_own_getitem():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return (super().__getitem__(index)[0] * 2,)

    (batch,) = DataLoader(Doubled(torch.arange(3)), batch_size=3)
    assert batch[0].tolist() == [0, 2, 4]


def test_concat_and_stack():
    both = ConcatDataset([TEN, [70, 80]])
    assert len(both) == 12 and both[-1] == 80 and both[10] == 70 and both.cumulative_sizes == [10, 12]
    with pytest.raises(ValueError, match="absolute value of index"):
        both[-13]
    assert (Subset(TEN, [1]) + Subset(TEN, [2]))[1] == 2
    stacked = StackDataset(a=TEN, b=Subset(TEN, list(range(9, -1, -1))))
    assert stacked[2] == {"a": 2, "b": 7}
    (batch,) = DataLoader(stacked, batch_size=10)
    assert batch["b"].tolist() == TEN[::-1]
    assert StackDataset(TEN, TEN)[3] == (3, 3)


def test_streams():
    assert batches(DataLoader(Stream(), batch_size=2)) == [[0, 1], [2, 3], [4]]
    assert batches(DataLoader(Stream(), batch_size=2, drop_last=True)) == [[0, 1], [2, 3]]
    assert list(DataLoader(Stream(), batch_size=None)) == [0, 1, 2, 3, 4]
    assert list(ChainDataset([Stream(), Stream()])) == [0, 1, 2, 3, 4] * 2
    loader = DataLoader(Sized(), batch_size=2)
    assert len(loader) == 2
    loader = DataLoader(Sized(), batch_size=1)
    assert len(loader) == 3
    with pytest.warns(UserWarning, match="was reported to be 3"):
        assert len(list(loader)) == 5
    with pytest.raises(TypeError, match="no len"):
        len(DataLoader(Stream()))


# ---------------------------------------------------------------- collation

Point = collections.namedtuple("Point", "a b")


def test_collate():
    assert default_collate([1, 2]).dtype == torch.int64
    assert default_collate([1.0, 2.0]).dtype == torch.float64
    assert default_collate([True, False]).dtype == torch.bool
    assert default_collate([np.float32(1), np.float32(2)]).dtype == torch.float32
    assert default_collate([np.ones(2), np.zeros(2)]).tolist() == [[1.0, 1.0], [0.0, 0.0]]
    assert default_collate(["a", "b"]) == ["a", "b"]
    pair = default_collate([(1, "x"), (2, "y")])
    assert type(pair) is list and pair[0].tolist() == [1, 2] and list(pair[1]) == ["x", "y"]
    point = default_collate([Point(1, 2), Point(3, 4)])
    assert type(point) is Point and point.b.tolist() == [2, 4]
    assert default_collate([{"k": 1}, {"k": 2}])["k"].tolist() == [1, 2]
    ordered = default_collate([collections.OrderedDict(k=1)])
    assert type(ordered) is collections.OrderedDict
    assert default_collate([[1, [2.0]], [3, [4.0]]])[1][0].tolist() == [2.0, 4.0]
    stacked = default_collate([torch.ones(2, 3), torch.zeros(2, 3)])
    assert stacked.shape == (2, 2, 3)


def test_convert():
    assert default_convert(3) == 3 and default_convert("a") == "a" and default_convert(None) is None
    assert default_convert(np.ones(2)).tolist() == [1.0, 1.0]
    converted = default_convert({"x": (np.zeros(1), 5)})
    assert converted["x"][0].tolist() == [0.0] and converted["x"][1] == 5


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ([torch.ones(3), torch.ones(4)], RuntimeError,
         r"stack expects each tensor to be equal size, but got \[3\] at entry 0 and \[4\] at entry 1[\s\S]*pad[\s\S]*collate_fn"),
        ([[torch.ones(3), 1], [torch.ones(4), 2]], RuntimeError, r"\[3\] at entry 0 and \[4\] at entry 1"),
        ([np.ones(2), np.ones(3)], RuntimeError, "equal size"),
        ([[1, 2], [3]], RuntimeError, r"each element in list of batch should be of equal size[\s\S]*2, 1"),
        ([None], TypeError, "found <class 'NoneType'>"),
        ([np.array("x")], TypeError, "found <U1"),
        ([{"a": 1}, {"b": 1}], KeyError, "a"),
    ],
)  # fmt: skip
def test_what_cannot_be_collated(batch, error, message):
    with pytest.raises(error, match=message):
        default_collate(batch)


# ---------------------------------------------------------------- misuse


class Endless(Dataset):
    def __len__(self):
        return 3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: DataLoader([], batch_size=4, shuffle=True), ValueError, r"num_samples=0[\s\S]*dataset is empty"),
        (lambda: DataLoader(TEN, batch_size=0), ValueError, "positive integer value, but got batch_size=0"),
        (lambda: DataLoader(TEN, sampler=TEN, shuffle=True), ValueError, "mutually exclusive with shuffle"),
        (lambda: DataLoader(TEN, batch_sampler=[[1]], shuffle=True), ValueError, "batch_sampler option is mutually exclusive"),
        (lambda: DataLoader(TEN, batch_size=None, drop_last=True), ValueError, "disables auto-batching"),
        (lambda: DataLoader(TEN, num_workers=-1), ValueError, "num_workers option should be non-negative"),
        (lambda: DataLoader(TEN, persistent_workers=True), ValueError, "needs num_workers > 0"),
        (lambda: DataLoader(Stream(), shuffle=True), ValueError, "unspecified shuffle option"),
        (lambda: setattr(DataLoader(TEN), "batch_size", 3), ValueError, "should not be set after DataLoader is initialized"),
        (lambda: list(DataLoader(Endless())), NotImplementedError, "should implement __getitem__"),
        (lambda: RandomSampler(TEN, replacement=1), TypeError, "replacement should be a boolean"),
        (lambda: RandomSampler(TEN, num_samples=-1), ValueError, "num_samples=-1"),
        (lambda: BatchSampler(TEN, 1, 3), ValueError, "drop_last should be a boolean"),
        (lambda: WeightedRandomSampler([[1, 2]], 1), ValueError, "1d sequence"),
        (lambda: random_split(TEN, [3, 4]), ValueError, r"does not equal the length[\s\S]*add up to 7"),
        (lambda: random_split(TEN, [1.2, -0.2]), ValueError, "Fraction at index 0"),
        (lambda: ConcatDataset([]), AssertionError, "empty iterable"),
        (lambda: ConcatDataset([Stream()]), AssertionError, "does not support IterableDataset"),
        (lambda: StackDataset(TEN, [1]), ValueError, "Size mismatch between datasets"),
        (lambda: DistributedSampler(TEN, 2, 5), ValueError, "Invalid rank 5"),
    ],
)
def test_misuse(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_loader_basics():
    loader = DataLoader(TEN, batch_size=3, drop_last=True)
    assert len(loader) == 3 and batches(loader) == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert isinstance(loader.sampler, SequentialSampler) and isinstance(loader.batch_sampler, BatchSampler)
    assert list(DataLoader(TEN, batch_size=None)) == TEN
    assert get_worker_info() is None
    iterator = iter(loader)
    assert iter(iterator) is iterator and len(iterator) == 3


# ---------------------------------------------------------------- workers


class Squares(Dataset):
    def __init__(self, fail_at=None):
        self.values = torch.arange(10.0)
        self.fail_at = fail_at

    def __len__(self):
        return 10

    def __getitem__(self, index):
        if index == self.fail_at:
            raise ValueError("a bad sample")
        return self.values[index] ** 2, get_worker_info().id


class Shared(IterableDataset):
    def __iter__(self):
        info = get_worker_info()
        return iter(range(info.id, 9, info.num_workers))


class Fatal(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        os._exit(3)


def worker_result(loader):
    return [(x.tolist(), ids.tolist()) for x, ids in loader]


def test_workers_give_batches_in_order():
    got = worker_result(DataLoader(Squares(), batch_size=3, num_workers=2))
    assert got == [([0, 1, 4], [0] * 3), ([9, 16, 25], [1] * 3), ([36, 49, 64], [0] * 3), ([81], [1])]
    torch.manual_seed(0)
    assert batches(DataLoader(TEN, batch_size=4, shuffle=True, num_workers=1)) == [[6, 7, 1, 4], [2, 0, 9, 8], [3, 5]]


def test_workers_share_a_stream():
    assert batches(DataLoader(Shared(), batch_size=2, num_workers=2)) == [[0, 2], [1, 3], [4, 6], [5, 7], [8]]


def test_persistent_workers_start_again():
    loader = DataLoader(Shared(), batch_size=3, num_workers=2, persistent_workers=True)
    assert [batches(loader) for _ in range(2)] == [[[0, 2, 4], [1, 3, 5], [6, 8], [7]]] * 2
    assert next(iter(loader)).tolist() == [0, 2, 4], "a pass that is left early does not disturb the next one"
    assert batches(loader) == [[0, 2, 4], [1, 3, 5], [6, 8], [7]]


def test_errors_of_workers():
    with pytest.raises(ValueError, match=r"Caught ValueError in DataLoader worker process 1[\s\S]*a bad sample"):
        worker_result(DataLoader(Squares(fail_at=4), batch_size=3, num_workers=2))
    with pytest.raises(RuntimeError, match=r"DataLoader worker \(pid\(s\) \d+\) exited unexpectedly[\s\S]*num_workers=0"):
        list(DataLoader(Fatal(), num_workers=1))


def test_a_missing_main_guard_is_explained(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from flambeau.utils.data import DataLoader\n"
        "for batch in DataLoader(list(range(8)), num_workers=1, multiprocessing_context='spawn'): pass\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(torch.__file__).parent.parent)}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 1
    last = done.stderr.rpartition("RuntimeError")[2]
    assert "exited unexpectedly" in last and "__main__" in last and "num_workers=0" in last
