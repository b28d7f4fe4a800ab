"""Checkpoints and safetensors: what is written is read, and files do nothing but hold data.

``data/checkpoint*.pt`` were written by PyTorch (``python tests/test_io.py --record``), so that its format is tested without it.
"""

import collections
import importlib
import io
import os
import pickle
import pickletools
import struct
import sys
import zipfile
from pathlib import Path

import pytest

RECORDED = Path(__file__).parent / "recorded"


def sample(torch):
    """An object with every kind of content that a checkpoint may have."""
    x = torch.arange(6.0).reshape(2, 3)
    state = collections.OrderedDict(w=torch.ones(2) * 0.5, b=torch.tensor([True, False]))
    state._metadata = collections.OrderedDict([("", {"version": 1})])
    return {
        "x": x, "row": x[1], "corner": x[1:, 1:], "turned": x.t(), "parameter": torch.nn.Parameter(torch.ones(2)),
        "bfloat16": torch.ones(2, dtype=torch.bfloat16) * 1.5, "half": torch.ones(3).half(), "empty": torch.empty(0),
        "number": torch.tensor(3), "bytes": torch.tensor([1, 255], dtype=torch.uint8),
        "grad": torch.ones(2, requires_grad=True), "dtype": torch.float32,
        "device": torch.device("cpu"), "size": x.shape, "plain": [1, 2.5, "a", None, True, (1,), {1, 2}, 2**70, 1 + 2j], "state": state,
        "bytearray": bytearray(b"ab"), "count": collections.Counter("aab"),
    }  # fmt: skip


if __name__ == "__main__" and sys.argv[1:] == ["--record"]:
    pytorch = importlib.import_module("torch")
    pytorch.save(sample(pytorch), RECORDED / "checkpoint.pt")
    pytorch.save(sample(pytorch), RECORDED / "checkpoint_before_1_6.pt", _use_new_zipfile_serialization=False)
    raise SystemExit


import flambeau as torch  # noqa: E402
from flambeau.io import safetensors  # noqa: E402


def check(loaded):
    expected = sample(torch)
    assert list(loaded) == list(expected)
    for name, value in expected.items():
        got = loaded[name]
        if isinstance(value, torch.Tensor):
            assert type(got) is type(value), name
            assert (got.dtype, got.shape) == (value.dtype, value.shape), name
            assert (got.stride(), got.storage_offset()) == (value.stride(), value.storage_offset()), name
            assert got.requires_grad == value.requires_grad and got.is_leaf
            assert got.tolist() == value.tolist(), name
        elif name == "state":
            assert got._metadata == value._metadata and [v.tolist() for v in got.values()] == [v.tolist() for v in value.values()]
        else:
            assert got == value and type(got) is type(value), name
    loaded["x"][1, 2] = 50.0
    assert loaded["row"].tolist() == [3.0, 4.0, 50.0] and loaded["corner"].tolist() == [[4.0, 50.0]], "tensors that shared memory still do"
    assert loaded["turned"].tolist()[2] == [2.0, 50.0]


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("file", ["checkpoint.pt", "checkpoint_before_1_6.pt"])
def test_reads_what_pytorch_wrote(file, weights_only):
    check(torch.load(RECORDED / file, weights_only=weights_only))


@pytest.mark.parametrize("weights_only", [True, False])
def test_round_trip(tmp_path, weights_only):
    torch.save(sample(torch), tmp_path / "a.pt")
    check(torch.load(tmp_path / "a.pt", weights_only=weights_only))


def test_the_file_is_as_pytorch_writes_it(tmp_path):
    torch.save(sample(torch), tmp_path / "a.pt")
    mine, theirs = zipfile.ZipFile(tmp_path / "a.pt"), zipfile.ZipFile(RECORDED / "checkpoint.pt")
    assert {n for n in mine.namelist() if "/data/" in n} == {n.replace("checkpoint/", "a/") for n in theirs.namelist() if "/data/" in n}
    assert mine.read("a/version") == theirs.read("checkpoint/version") and mine.read("a/byteorder") == theirs.read("checkpoint/byteorder")
    def instructions(archive, name):      # but for what is remembered for a second use
        operations = ((op.name, arg) for op, arg, _ in pickletools.genops(archive.read(name)))
        return [(name, arg) for name, arg in operations if name in ("GLOBAL", "REDUCE", "BINPERSID", "BUILD", "PROTO", "BINFLOAT")]

    assert instructions(mine, "a/data.pkl") == instructions(theirs, "checkpoint/data.pkl")


def test_files_in_memory():
    buffer = io.BytesIO()
    torch.save([torch.ones(2)], buffer)
    buffer.seek(0)
    assert torch.load(buffer)[0].tolist() == [1.0, 1.0]


def test_a_tensor_that_is_part_of_a_larger_one():
    whole = torch.arange(100.0)
    buffer = io.BytesIO()
    torch.save(whole[10:12], buffer)
    buffer.seek(0)
    loaded = torch.load(buffer)
    assert loaded.tolist() == [10.0, 11.0] and loaded.untyped_storage().nbytes() == 400


class Thing:
    def __init__(self):
        self.value = torch.ones(2)


def test_own_classes_need_permission(tmp_path):
    torch.save(Thing(), tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"Weights only load failed[\s\S]*Thing[\s\S]*weights_only=False"):
        torch.load(tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=False).value.tolist() == [1.0, 1.0]
    with torch.serialization.safe_globals([Thing]):
        assert torch.load(tmp_path / "a.pt").value.tolist() == [1.0, 1.0]
    assert torch.serialization.get_safe_globals() == []


def test_a_whole_model_is_explained(tmp_path):
    torch.save(torch.nn.Linear(2, 1), tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError, match=r"Weights only load failed[\s\S]*class Linear[\s\S]*trust[\s\S]*state_dict"):
        torch.load(tmp_path / "a.pt")
    assert torch.load(tmp_path / "a.pt", weights_only=False)(torch.ones(1, 2)).shape == (1, 1)


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def archive_of(data):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    buffer.seek(0)
    return buffer


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00trueR.",              # a call
        b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001R.",
        b"\x80\x02(X\x04\x00\x00\x00trueios\nsystem\n.",              # the instruction that looks up and calls in one
        b"\x80\x02ctorch\nfloat32\nN}X\x08\x00\x00\x00itemsizeK\x63s\x86b.",       # changing an attribute of a dtype
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x08\x00\x00\x00functionK\x00sb.",
        b"\x80\x02ctorch\nSize\n)\x81}X\x01\x00\x00\x00aK\x00sb.",
        b"\x80\x02ccollections\nOrderedDict\n)RX\x01\x00\x00\x00ab.",
        b"\x80\x02K\x01K\x02R.",
    ],
)  # fmt: skip
def test_files_cannot_do_anything(data):
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        torch.load(archive_of(data))
    assert torch.float32.itemsize == 4


def test_a_call_in_a_file_is_not_made(tmp_path):
    target = tmp_path / "made"
    torch.save({"a": Evil(str(target))}, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt")
    assert not target.exists()


def rewritten(source, change):
    result = io.BytesIO()
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(result, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    result.seek(0)
    return result


def test_locations(tmp_path):
    torch.save(torch.ones(2), tmp_path / "a.pt")
    on_cuda = rewritten(tmp_path / "a.pt", lambda _, data: data.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match=r"Attempting to deserialize object on a CUDA device[\s\S]*cuda:0[\s\S]*map_location='cpu'"):
            torch.load(on_cuda)
    for where in ("cpu", torch.device("cpu"), {"cuda:0": "cpu"}, lambda storage, location: storage):
        on_cuda.seek(0)
        assert torch.load(on_cuda, map_location=where).tolist() == [1.0, 1.0]
    meta = torch.load(tmp_path / "a.pt", map_location="meta")
    assert meta.device.type == "meta" and meta.shape == (2,)
    with pytest.raises(RuntimeError, match="don't know how to restore data location"):
        torch.load(tmp_path / "a.pt", map_location="nowhere")


@pytest.mark.parametrize(
    ("contents", "error", "message"),
    [
        (b"", EOFError, "empty"),
        (b"hello world, this is no checkpoint", pickle.UnpicklingError, "not a checkpoint"),
        (pickle.dumps({"a": 1}), pickle.UnpicklingError, "not a checkpoint"),
        (b"PK\x03\x04 and then nothing", RuntimeError, "failed finding central directory"),
    ],
)
def test_damaged_files(tmp_path, contents, error, message):
    (tmp_path / "a.pt").write_bytes(contents)
    with pytest.raises(error, match=message):
        torch.load(tmp_path / "a.pt")


def test_cut_off_and_changed_files(tmp_path):
    torch.save({"x": torch.ones(1000)}, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(RuntimeError, match="cut off"):
        torch.load(io.BytesIO(data[: len(data) // 2]))
    middle = bytearray(data)
    middle[data.index(struct.pack("<f", 1.0) * 100) + 40] ^= 1
    with pytest.raises(RuntimeError, match="damaged"):
        torch.load(io.BytesIO(bytes(middle)))
    short = rewritten(tmp_path / "a.pt", lambda name, data: data[:-4] if name.endswith("data/0") else data)
    with pytest.raises(RuntimeError, match="damaged"):
        torch.load(short)


def test_misuse(tmp_path):
    with pytest.raises(FileNotFoundError):
        torch.load(tmp_path / "missing.pt")
    with pytest.raises(RuntimeError, match=r"Parent directory .* does not exist"):
        torch.save(1, tmp_path / "missing" / "a.pt")
    with pytest.raises(AttributeError, match="file-like object with a 'write' attribute"):
        torch.save(1, 5)
    with pytest.raises(AttributeError, match="seekable"):
        torch.load(5)
    with pytest.raises((AttributeError, pickle.PicklingError), match="pickle"):
        torch.save(lambda: 1, tmp_path / "a.pt")


# ---------------------------------------------------------------- safetensors

KNOWN = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'


def test_safetensors_reads_a_known_file():
    data = struct.pack("<Q", len(KNOWN)) + KNOWN + struct.pack("<2f", 1.5, -2.0)
    assert safetensors.load(data)["a"].tolist() == [1.5, -2.0]


def test_safetensors_round_trip(tmp_path):
    tensors = {
        "turned": torch.arange(6.0).reshape(2, 3).t(), "bfloat16": torch.ones(2, dtype=torch.bfloat16) * 1.5, "number": torch.tensor(3),
        "empty": torch.empty(0, 2), "bool": torch.tensor([True]), "é": torch.ones(1),
    }  # fmt: skip
    safetensors.save_file(tensors, tmp_path / "a.safetensors", {"key": "value"})
    loaded = safetensors.load_file(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape, loaded[name].tolist()) == (tensor.dtype, tensor.shape, tensor.tolist())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"junk", b"junkjunkjunkjunk", struct.pack("<Q", len(KNOWN)) + KNOWN + b"1234",
        struct.pack("<Q", 4) + b"[1] ", struct.pack("<Q", 8) + b'{"a":5} ', struct.pack("<Q", 1 << 62) + KNOWN,
    ],
)  # fmt: skip
def test_damaged_safetensors(data):
    with pytest.raises(ValueError, match="safetensors"):
        safetensors.load(data)


def test_safetensors_refuses_what_it_cannot_hold():
    with pytest.raises(ValueError, match="'a' is a int"):
        safetensors.save({"a": 1})
