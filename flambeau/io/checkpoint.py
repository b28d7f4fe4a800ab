"""``torch.save`` and ``torch.load``: PyTorch's files, which either library writes and reads.

A file is a zip archive: ``data.pkl`` holds the object with its tensors as references, ``data/0``, ``data/1``, ... the
memory behind them.  Tensors that share memory share a record.  By default only tensors and plain containers are read:
a pickle can run any code, so nothing else in it is even looked up.
"""

from __future__ import annotations

import codecs
import io
import os
import pickle
import secrets
import sys
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from typing import IO, Any, TypeAlias

import flambeau as torch

from . import memory

FileLike: TypeAlias = "str | os.PathLike[str] | IO[bytes]"
MapLocation: TypeAlias = "str | torch.device | dict[str, str] | Callable[[Any, str], Any] | None"

PROTOCOL = 2
_LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."      # how files of PyTorch before 1.6 begin

# The standard library's classes written in Python, whose instructions can be replaced one by one.
_PythonPickler: Any = pickle._Pickler
_PythonUnpickler: Any = pickle._Unpickler

_STORAGES = {
    "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool",
}  # fmt: skip
_STORAGE_OF = {name: storage for storage, name in _STORAGES.items()}
_DTYPES = frozenset(_STORAGE_OF)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).rpartition(".")[2]


# ---------------------------------------------------------------- saving


class _Global:
    """Something that the file names as PyTorch names it."""

    __slots__ = ("module", "name")

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def __call__(self) -> None:
        raise TypeError("only a name in a file")


_REBUILD_TENSOR = _Global("torch._utils", "_rebuild_tensor_v2")
_REBUILD_PARAMETER = _Global("torch._utils", "_rebuild_parameter")
_SIZE = _Global("torch", "Size")
_DEVICE = _Global("torch", "device")


class _Storage:
    """The memory of one or more tensors, referred to by its record's name."""

    __slots__ = ("dtype", "key", "numel")

    def __init__(self, dtype: str, key: str, numel: int) -> None:
        self.dtype, self.key, self.numel = dtype, key, numel


class _Pickler(_PythonPickler):
    """Writes tensors as references to ``records`` and this package's own types under PyTorch's names."""

    def __init__(self, file: IO[bytes], protocol: int) -> None:
        super().__init__(file, protocol=protocol)
        self.records: dict[Any, torch.Tensor] = {}
        self.keys: dict[Any, str] = {}
        self.names = {kind: _Global("torch", kind) for kind in _STORAGES}

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, _Storage):
            return ("storage", self.names[_STORAGE_OF[obj.dtype]], obj.key, "cpu", obj.numel)
        return None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if isinstance(obj, torch.Tensor):
            if isinstance(obj, torch.nn.Parameter):
                return _REBUILD_PARAMETER, (obj.data, obj.requires_grad, OrderedDict())
            return _REBUILD_TENSOR, (*self._layout(obj), obj.requires_grad, OrderedDict())
        if kind is torch.Size:
            return _SIZE, ((*obj,),)
        if isinstance(obj, torch.device):
            return _DEVICE, ((obj.type,) if obj.index is None else (obj.type, obj.index))
        if isinstance(obj, (torch.dtype, _Global)):
            return "global"      # goes to save_global below
        return NotImplemented

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if isinstance(obj, torch.dtype):
            obj = self.names.setdefault(str(obj), _Global("torch", _dtype_name(obj)))
        if not isinstance(obj, _Global):
            super().save_global(obj, name)
            return
        known = self.memo.get(id(obj))
        if known is not None:
            self.write(self.get(known[0]))
            return
        self.write(pickle.GLOBAL + f"{obj.module}\n{obj.name}\n".encode())
        self.memoize(obj)

    def _layout(self, tensor: torch.Tensor) -> tuple[Any, ...]:
        dtype = _dtype_name(tensor.dtype)
        if dtype not in _DTYPES:
            raise NotImplementedError(f"save: a tensor of {tensor.dtype} cannot be written in PyTorch's format")
        if tensor.device.type != "cpu":
            raise NotImplementedError(f"save: a tensor on {tensor.device} has no data to write")
        flat = memory.flat_storage(tensor)
        place = (flat.data_ptr() or id(flat), dtype)
        key = self.keys.get(place)
        if key is None:
            key = self.keys[place] = str(len(self.keys))
            self.records[key] = flat
        return _Storage(dtype, key, flat.numel()), tensor.storage_offset(), (*tensor.shape,), (*tensor.stride(),)


def save(
    obj: object,
    f: FileLike,
    pickle_module: Any = None,
    pickle_protocol: int = PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
) -> None:
    """Write an object with its tensors to a file that PyTorch can read.

    For a model save ``model.state_dict()``: it can be loaded without running code from the file.

    Parameters
    ----------
    obj
        Tensors in any nesting of containers, or anything that can be pickled.
    f
        A path, or a file opened for writing bytes.

    Raises
    ------
    RuntimeError
        The folder does not exist.
    AttributeError, pickle.PicklingError
        Something in ``obj`` cannot be pickled (a lambda, for instance).
    """
    if not _use_new_zipfile_serialization:
        raise NotImplementedError("save: only the zip format is written (files of PyTorch before 1.6 can be read)")
    path = os.fspath(f) if isinstance(f, (str, os.PathLike)) else None
    if path is None and not hasattr(f, "write"):
        raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute")
    if path is not None:
        folder = os.path.dirname(path)
        if folder and not os.path.isdir(folder):
            raise RuntimeError(
                f"Parent directory {folder} does not exist.\nsave: create it first, e.g. os.makedirs({folder!r}, exist_ok=True)."
            )
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, pickle_protocol)
    pickler.dump(obj)
    name = "archive" if path is None else os.path.splitext(os.path.basename(path))[0] or "archive"
    with zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{name}/data.pkl", buffer.getvalue())
        archive.writestr(f"{name}/byteorder", "little")
        for key, flat in pickler.records.items():
            archive.writestr(f"{name}/data/{key}", memory.to_bytes(flat))
        archive.writestr(f"{name}/version", "3\n")
        archive.writestr(f"{name}/.data/serialization_id", f"{secrets.randbelow(10**40):040d}")


# ---------------------------------------------------------------- what a file may name

_safe: list[Any] = []


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Allow classes or functions (or ``(object, "name in the file")`` pairs) in files read with ``weights_only=True``."""
    _safe.extend(safe_globals)


def get_safe_globals() -> list[Any]:
    """What ``add_safe_globals`` has allowed."""
    return list(_safe)


def clear_safe_globals() -> None:
    """Allow nothing beyond tensors and plain containers any more."""
    _safe.clear()


class safe_globals:
    """``with safe_globals([...]):`` allows classes or functions for the block."""

    def __init__(self, safe_globals: list[Any]) -> None:
        self._added = safe_globals

    def __enter__(self) -> None:
        self._before = get_safe_globals()
        add_safe_globals(self._added)

    def __exit__(self, *exception: object) -> None:
        _safe[:] = self._before


def _allowed_by_user() -> dict[str, Any]:
    named = (entry if isinstance(entry, tuple) else (entry, f"{entry.__module__}.{entry.__qualname__}") for entry in _safe)
    return {name: value for value, name in named}


class _Loader:
    """Resolves what a file refers to: storages, and PyTorch's functions that make tensors of them."""

    def __init__(self, read: Callable[[str], Any] | None, map_location: MapLocation) -> None:
        self.read = read
        self.map_location = map_location
        self.storages: dict[str, _Loaded] = {}

    def persistent_load(self, reference: Any) -> _Loaded:
        if not (isinstance(reference, tuple) and len(reference) >= 5 and reference[0] == "storage"):
            raise pickle.UnpicklingError(f"load: the file refers to something unknown: {str(reference)[:80]}")
        _, kind, key, location, numel = reference[:5]
        name = kind.dtype if isinstance(kind, _StorageKind) else "uint8"
        known = self.storages.get(key)
        if known is None:
            known = self.storages[key] = _Loaded(name, int(numel), location)
            if self.read is not None:
                self.fill(known, self.read(key))
        return known

    def fill(self, storage: _Loaded, data: Any) -> None:
        """Give a storage its contents, on the device where it belongs."""
        dtype = getattr(torch, storage.dtype)
        if len(data) < storage.numel * dtype.itemsize:
            raise RuntimeError(
                f"load: a record holds {len(data)} bytes where {storage.numel} elements of {dtype} need {storage.numel * dtype.itemsize}: "
                "the file is damaged."
            )
        flat = memory.from_bytes(data, dtype, storage.numel)
        storage.flat, storage.device = self.place(flat, storage.location)

    def place(self, flat: torch.Tensor, location: str) -> tuple[torch.Tensor, str]:
        mapped = self.map_location
        if isinstance(mapped, dict):
            location = str(mapped.get(location, location))
        elif isinstance(mapped, (str, torch.device)):
            location = str(mapped)
        elif mapped is not None:
            result = mapped(flat, location)
            if result is not None:
                return result, "cpu"
        kind = location.partition(":")[0]
        if kind in ("cpu", "meta"):
            return flat, kind
        if kind == "cuda":
            if not torch.cuda.is_available():
                raise RuntimeError(
                    "Attempting to deserialize object on a CUDA device but torch.cuda.is_available() is False. If you are running on a "
                    "CPU-only machine, please use torch.load with map_location=torch.device('cpu') to map your storages to the CPU.\n"
                    f"load: the file's tensors were saved on {location}, and no CUDA device is here. Use torch.load(path, "
                    "map_location='cpu')."
                )
            return flat.to(location), location
        raise RuntimeError(
            f"don't know how to restore data location of torch.storage.UntypedStorage (tagged with {location})\n"
            "load: choose a device that is here with map_location=, e.g. map_location='cpu'."
        )

    def known(self, module: str, name: str) -> Any:
        """What stands for one of PyTorch's names, or None."""
        if module == "torch._utils" and name in _REBUILD:
            return _Call(_REBUILD[name])
        if module == "torch":
            if name in _STORAGES:
                return _StorageKind(_STORAGES[name])
            if name in _DTYPES:
                return getattr(torch, name)
            if name == "Size":
                return _Call(torch.Size)
            if name == "device":
                return _Call(torch.device)
            if name == "Tensor":
                return _Call(torch.Tensor)
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return _StorageKind("uint8")
        if (module, name) == ("torch.nn.parameter", "Parameter"):
            return _Call(torch.nn.Parameter)
        if module == "torch.serialization" and name == "_get_layout":
            return _Call(lambda layout: layout)
        return None


class _Loaded:
    """A storage of the file: its elements, once they are read."""

    __slots__ = ("device", "dtype", "flat", "location", "numel")

    flat: torch.Tensor
    device: str

    def __init__(self, dtype: str, numel: int, location: str) -> None:
        self.dtype, self.numel, self.location = dtype, numel, location


class _StorageKind:
    """A storage class of PyTorch, which here only says a dtype."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype


class _Call:
    """A function that a file may call, without attributes that the file could change."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _rebuild_tensor(storage: _Loaded, offset: int, size: Any, stride: Any, requires_grad: bool = False, *rest: Any) -> torch.Tensor:
    dtype = getattr(torch, storage.dtype)
    if storage.device == "meta":
        tensor = torch.empty_strided(tuple(size), tuple(stride), dtype=dtype, device="meta")
    else:
        tensor = memory.strided(storage.flat, size, stride, offset)
    return tensor.requires_grad_() if requires_grad else tensor


def _rebuild_tensor_v3(
    storage: _Loaded, offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, dtype: torch.dtype, *rest: Any
) -> torch.Tensor:
    typed = _Loaded(_dtype_name(dtype), storage.numel // dtype.itemsize, storage.location)
    typed.flat, typed.device = storage.flat.view(dtype), storage.device
    return _rebuild_tensor(typed, offset, size, stride, requires_grad)


def _rebuild_parameter(data: torch.Tensor, requires_grad: bool, *rest: Any) -> torch.Tensor:
    return torch.nn.Parameter(data, requires_grad=requires_grad)


_REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": _rebuild_tensor,
    "_rebuild_tensor_v2": _rebuild_tensor,
    "_rebuild_tensor_v3": _rebuild_tensor_v3,
    "_rebuild_parameter": _rebuild_parameter,
}

_CONTAINERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "Counter"): Counter,
    ("collections", "defaultdict"): defaultdict,
    ("_codecs", "encode"): codecs.encode,      # bytes, in the old pickle protocol
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("builtins", "bytearray"): bytearray,
    ("builtins", "complex"): complex,
}


class _FullUnpickler(pickle.Unpickler):
    """Loads anything, as ``weights_only=False`` asks; PyTorch's own classes become this package's."""

    def __init__(self, file: IO[bytes], loader: _Loader) -> None:
        super().__init__(file, encoding="utf-8")
        self.loader = loader

    def persistent_load(self, reference: Any) -> Any:
        return self.loader.persistent_load(reference)

    def find_class(self, module: str, name: str) -> Any:
        found = self.loader.known(module, name)
        if found is not None:
            return found
        if module == "torch" or module.startswith("torch."):
            try:
                return super().find_class(torch.__name__ + module[len("torch") :], name)
            except (ImportError, AttributeError):
                pass
        return super().find_class(module, name)


class _WeightsUnpickler(_PythonUnpickler):
    """Loads tensors and plain containers and nothing else.

    The interpreter written in Python is used because its instructions can be restricted one by one: only allowed objects
    are looked up, called or given attributes.
    """

    def __init__(self, file: IO[bytes], loader: _Loader) -> None:
        super().__init__(file, encoding="utf-8")
        self.loader = loader
        self.user = _allowed_by_user()

    def persistent_load(self, reference: Any) -> Any:
        return self.loader.persistent_load(reference)

    def find_class(self, module: str, name: str) -> Any:
        module = "builtins" if module == "__builtin__" else module
        found = self.loader.known(module, name)
        if found is None:
            found = _CONTAINERS.get((module, name))
        if found is None:
            found = self.user.get(f"{module}.{name}")
        if found is None:
            raise _Refused(module, name)
        return found

    def _check_callable(self, function: Any) -> None:
        if not (isinstance(function, _Call) or function in _CONTAINERS.values() or function in self.user.values()):
            raise pickle.UnpicklingError(f"load: the file calls {str(function)[:80]}, which weights_only=True does not allow")

    def load_reduce(self) -> None:
        self._check_callable(self.stack[-2])
        super().load_reduce()

    def load_newobj(self) -> None:
        kind = self.stack[-2]
        self._check_callable(kind if isinstance(kind, type) else None)
        super().load_newobj()

    def load_build(self) -> None:
        target = self.stack[-2]
        if type(target) is OrderedDict:
            state = self.stack.pop()
            if not isinstance(state, dict):
                raise pickle.UnpicklingError("load: the file sets the attributes of a dictionary to something strange")
            target.__dict__.update(state)      # _metadata of a state_dict
        elif type(target) in self.user.values():
            super().load_build()
        else:
            raise pickle.UnpicklingError(f"load: the file changes a {type(target).__name__}, which weights_only=True does not allow")

    def _forbidden(self) -> None:
        raise pickle.UnpicklingError("load: the file uses a pickle instruction that weights_only=True does not allow")

    dispatch: dict[int, Any] = dict(_PythonUnpickler.dispatch)
    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build
    for _code in (pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID):
        dispatch[_code[0]] = _forbidden


class _Refused(pickle.UnpicklingError):
    """The file names something that is not allowed."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(module, name)
        self.module, self.name = module, name


# ---------------------------------------------------------------- loading


def load(
    f: FileLike,
    map_location: MapLocation = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """Read what ``save`` wrote, here or in PyTorch.

    Parameters
    ----------
    f
        A path, or a file that can be read and searched.
    map_location
        Where the tensors go: a device, a dictionary from saved to wanted devices, or a function.
    weights_only
        True (the default) reads tensors and plain containers only.  False reads anything, and runs code that is in the
        file: only for files that you trust.
    mmap
        Accepted for compatibility; the file is read.

    Raises
    ------
    pickle.UnpicklingError
        The file holds something else and ``weights_only`` is true, or it is no checkpoint.
    RuntimeError
        The file is damaged, or its tensors belong on a device that is not here.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, map_location, weights_only is not False)
    if not hasattr(f, "read") or not hasattr(f, "seek"):
        raise AttributeError(
            f"'{type(f).__name__}' object has no attribute 'seek'. You can only torch.load from a file that is seekable. Please pre-load "
            "the data into a buffer like io.BytesIO and try to load from it instead."
        )
    return _load(f, map_location, weights_only is not False)


def _load(file: IO[bytes], map_location: MapLocation, weights_only: bool) -> Any:
    head = file.read(4)
    file.seek(-len(head), os.SEEK_CUR)
    if not head:
        raise EOFError("Ran out of input\nload: the file is empty.")
    if head != b"PK\x03\x04":
        return _load_legacy(file, map_location, weights_only)
    try:
        archive = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise RuntimeError(
            "PytorchStreamReader failed reading zip archive: failed finding central directory.\n"
            "load: the file is cut off or damaged: was it saved and copied completely?"
        ) from None
    with archive:
        names = archive.namelist()
        main = next((name for name in names if name.endswith("/data.pkl")), None)
        if main is None:
            raise RuntimeError(
                "PytorchStreamReader failed locating file data.pkl: file not found\nload: this zip file is not a checkpoint."
            )
        root = main[: -len("data.pkl")]
        if root + "constants.pkl" in names:
            raise RuntimeError("load: the file holds a TorchScript program, which only PyTorch can run; save its state_dict() there.")
        if root + "byteorder" in names and archive.read(root + "byteorder") != b"little":
            raise RuntimeError("load: the file was written on a big-endian machine, which is not supported.")
        loader = _Loader(lambda key: _record(archive, f"{root}data/{key}"), map_location)
        return _unpickle(io.BytesIO(_record(archive, main)), loader, weights_only)


def _record(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, KeyError, EOFError) as error:
        raise RuntimeError(f"PytorchStreamReader failed reading file {name}\nload: the file is damaged ({error}).") from None


def _unpickle(file: IO[bytes], loader: _Loader, weights_only: bool) -> Any:
    if not weights_only:
        return _FullUnpickler(file, loader).load()
    try:
        return _WeightsUnpickler(file, loader).load()
    except _Refused as refused:
        full = f"{refused.module}.{refused.name}"
        what = f"a whole pickled model (class {refused.name})" if _looks_like_module(refused) else f"an object of class {full}"
        raise pickle.UnpicklingError(
            "Weights only load failed. This file can still be loaded, to do so you have two options, do those steps only if you trust the "
            f"source of the checkpoint.\nload: the file holds {what}, and weights_only=True reads tensors and plain containers only. If "
            "you trust the file use torch.load(..., weights_only=False), which runs code from it, or allow the class with "
            f"torch.serialization.add_safe_globals([{full}]). Better save model.state_dict() and load that."
        ) from None
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"Weights only load failed. {error}") from None


def _looks_like_module(refused: _Refused) -> bool:
    """Whether the name is that of a neural network module, judged without importing anything."""
    found = getattr(sys.modules.get(refused.module), refused.name, None)
    return ".nn." in refused.module or (isinstance(found, type) and issubclass(found, torch.nn.Module))


def _load_legacy(file: IO[bytes], map_location: MapLocation, weights_only: bool) -> Any:
    """Read a file of PyTorch before 1.6: pickles one after another, then the memory of the storages."""
    if file.read(len(_LEGACY_MAGIC)) != _LEGACY_MAGIC:
        raise pickle.UnpicklingError(
            "Invalid magic number; corrupt file?\nload: this is not a checkpoint written by torch.save. Was it downloaded completely, or "
            "is it of another format (safetensors: flambeau.io.safetensors.load_file; a plain pickle: pickle.load)?"
        )
    # The objects come before the memory that they refer to: they are read once to learn of the storages, then in earnest.
    seen = _Loader(None, map_location)
    for _ in range(2):      # protocol version, and facts about the machine
        _WeightsUnpickler(file, seen).load()
    objects = file.tell()
    _StorageScan(file, seen).load()
    contents: dict[str, bytes] = {}
    for key in _WeightsUnpickler(file, seen).load():
        count = int.from_bytes(file.read(8), "little")
        contents[key] = file.read(count * getattr(torch, seen.storages[key].dtype).itemsize)
    file.seek(objects)
    return _unpickle(file, _Loader(contents.__getitem__, map_location), weights_only)


class _Anything:
    """Stands for every object of a file of which only the storages are wanted."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Anything:
        return object.__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> _Anything:
        return self

    append = extend = __setitem__ = __setstate__ = __call__


class _StorageScan(_WeightsUnpickler):
    """Meets the storages of a file and makes nothing else of it."""

    def find_class(self, module: str, name: str) -> Any:
        known = self.loader.known(module, name)
        return known if isinstance(known, _StorageKind) else _CONTAINERS.get((module, name), _Anything)

    def _check_callable(self, function: Any) -> None:
        if function is not _Anything and function not in _CONTAINERS.values():
            raise pickle.UnpicklingError("load: the file calls something that is no function")

    def load_build(self) -> None:
        self.stack.pop()

    dispatch: dict[int, Any] = dict(_WeightsUnpickler.dispatch)
    dispatch[pickle.BUILD[0]] = load_build
