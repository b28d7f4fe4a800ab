"""The tensor: metadata, a buffer, a place in the graph.

Methods come from the operations' definitions (installed by :func:`install`); what stands here is what only a tensor can do:
observation (``item``, ``numpy``, ``bool``), gradients, conversion, copying.
"""

from __future__ import annotations

import ctypes
import struct
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..autograd import engine, graph, inplace, passes  # noqa: F401
from ..autograd.graph import MODE
from ..core import dtype as dtypes
from ..core.arrays import array_over
from ..core.device import CPU, META, device
from ..core.device import device as Device
from ..core.dtype import bfloat16, bool_, dtype, float16, float32, float64, int8, int16, int32, int64, uint8
from ..core.dtype import dtype as DType
from ..core.errors import NO_VALUE, TraceError
from ..core.shape import Meta, Size, as_shape, derived, layout, meta, overlaps_itself, permute_meta, wrap_dim
from ..ops import composite, definition  # noqa: F401
from ..ops import shape as _shape_operations  # noqa: F401
from ..ops.definition import OPS, make_tensor
from ..stream import record
from ..stream.flush import flush
from ..stream.record import CALLS, LOCK, Buffer, failed, new_buffer, pending, unwatch, unwritten, watch
from . import creation
from .indexing import getitem, setitem

_new = object.__new__
_READ = {d: (getattr(ctypes, d.ctype_name or "c_uint16"), d.itemsize) for d in dtypes.DTYPES.values() if d not in (float16, bfloat16)}


class _Exposure:
    """Held by a NumPy array that shares a buffer's memory: while it lives, recorded work on the buffer is executed at once."""

    __slots__ = ("buffer",)

    def __init__(self, buffer: Buffer) -> None:
        self.buffer = buffer
        with LOCK:
            buffer.exposed += 1
            watch(buffer)

    def __del__(self) -> None:
        b = self.buffer
        with LOCK:
            b.exposed -= 1
            if not b.exposed and b.error is None:
                unwatch(b)


class Tensor:
    """A multi-dimensional array of one dtype, with gradients.

    Make one with :func:`flambeau.tensor`, :func:`flambeau.zeros`, :func:`flambeau.from_numpy` and their relatives.
    """

    __slots__ = ("__dict__", "__weakref__", "_base", "_buffer", "_meta", "_node", "_spent")

    _meta: Meta
    _buffer: Buffer
    _node: graph.Node | None
    _base: Tensor | None
    _grad: Tensor | None = None
    _post_hooks: list[Any] | None = None
    _hooks: Any = None
    _retains: bool = False
    _spent: int | None              # of a gradient: its version when an optimizer used it; most tensors have none
    _stale: int | None = None       # ... and when another one was added to it after that
    _some_stale: bool = False       # of the class: whether any tensor has it
    _own_version: list[int] | None = None   # made by ``.data``: writes through it are counted here, not in the buffer
    __array_priority__ = 1000
    __hash__ = object.__hash__
    __module__ = "torch"

    if TYPE_CHECKING:
        # What install() puts on the class, for type checkers: operators, and every operation as a method.

        def _binary(self, other: Any, /) -> Tensor: ...

        __add__ = __radd__ = __iadd__ = __sub__ = __rsub__ = __isub__ = __mul__ = __rmul__ = __imul__ = _binary
        __truediv__ = __rtruediv__ = __itruediv__ = __floordiv__ = __rfloordiv__ = __ifloordiv__ = _binary
        __mod__ = __rmod__ = __imod__ = __pow__ = __rpow__ = __ipow__ = __matmul__ = __rmatmul__ = _binary
        __and__ = __rand__ = __iand__ = __or__ = __ror__ = __ior__ = __xor__ = __rxor__ = __ixor__ = _binary
        __lshift__ = __rlshift__ = __ilshift__ = __rshift__ = __rrshift__ = __irshift__ = _binary
        __lt__ = __le__ = __gt__ = __ge__ = _binary

        def __eq__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]

        def __ne__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]

        def __neg__(self) -> Tensor: ...

        def __pos__(self) -> Tensor: ...

        def __abs__(self) -> Tensor: ...

        def __invert__(self) -> Tensor: ...

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not Tensor and cls.__new__ is Tensor.__new__ and args and isinstance(args[0], Tensor):
            t = _new(cls)
            t._meta, t._buffer, t._node, t._base = args[0]._meta, args[0]._buffer, None, None
            definition._TENSORS.add(cls)
            return t
        dev = kwargs.pop("device", None)
        if args and isinstance(args[0], (int, Size)) or not args:
            t = creation.empty(*(args or (0,)), device=dev)
        elif isinstance(args[0], Tensor):
            t = args[0].detach()
        elif isinstance(args[0], float):
            raise TypeError(f"new(): data must be a sequence (got {type(args[0]).__name__})\nTensor: use torch.tensor({args[0]}) for a number.")
        else:
            t = creation.tensor(args[0], dtype=dtypes.get_default_dtype(), device=dev)
        if cls is not Tensor:
            made = _new(cls)
            made._meta, made._buffer, made._node, made._base = t._meta, t._buffer, None, None
            definition._TENSORS.add(cls)
            return made
        return t

    @staticmethod
    def _make_subclass(cls: Any, data: Tensor, require_grad: bool = False, *args: Any, **kwargs: Any) -> Any:
        """A tensor of class ``cls`` over the memory of ``data``; a leaf."""
        t = _new(cls)
        t._meta, t._buffer, t._node, t._base = data._meta, data._buffer, None, None
        definition._TENSORS.add(cls)
        if require_grad:
            t.requires_grad_(True)
        return t

    # -------------------------------------------------------------- metadata

    @property
    def shape(self) -> Size:
        """The sizes of the dimensions."""
        return self._meta.shape

    @property
    def dtype(self) -> dtype:
        """The element type."""
        return self._meta.dtype

    @property
    def device(self) -> device:
        """Where the memory is."""
        return self._meta.device

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self._meta.ndim

    @property
    def layout(self) -> str:
        """Always strided."""
        from .. import strided

        return strided  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self._meta.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self._meta.nbytes

    @property
    def names(self) -> tuple[None, ...]:
        """Named dimensions are not supported: all None."""
        return (None,) * self._meta.ndim

    is_sparse = False
    is_quantized = False
    is_nested = False
    is_mkldnn = False
    is_sparse_csr = False

    @property
    def is_cuda(self) -> bool:
        """Whether the tensor is on a CUDA device."""
        return self._meta.device.type == "cuda"

    @property
    def is_cpu(self) -> bool:
        """Whether the tensor is on the CPU."""
        return self._meta.device.type == "cpu"

    @property
    def is_meta(self) -> bool:
        """Whether the tensor has metadata only."""
        return self._meta.device.type == "meta"

    def size(self, dim: int | None = None) -> Any:
        """The shape, or one of its sizes."""
        if dim is None:
            return self._meta.shape
        return self._meta.shape[wrap_dim(dim, self._meta.ndim)]

    def dim(self) -> int:
        """The number of dimensions."""
        return self._meta.ndim

    ndimension = dim

    def numel(self) -> int:
        """The number of elements."""
        return self._meta.numel

    nelement = numel

    def stride(self, dim: int | None = None) -> Any:
        """Steps between neighbours along each dimension, in elements."""
        return self._meta.strides if dim is None else self._meta.strides[dim]

    def storage_offset(self) -> int:
        """First element's place in the memory, in elements."""
        return self._meta.offset

    def element_size(self) -> int:
        """Bytes per element."""
        return self._meta.dtype.itemsize

    def is_contiguous(self, memory_format: Any = None) -> bool:
        """Whether the elements lie in row-major order without gaps."""
        if memory_format is not None and str(memory_format) == "torch.channels_last":
            m = self._meta
            if m.ndim != 4:
                return False
            return permute_meta(m, (0, 2, 3, 1)).contiguous
        return self._meta.contiguous

    def is_floating_point(self) -> bool:
        """Whether the dtype is floating point."""
        return self._meta.dtype.is_floating_point

    def is_complex(self) -> bool:
        """Whether the dtype is complex."""
        return False

    def is_signed(self) -> bool:
        """Whether the dtype has a sign."""
        return self._meta.dtype.is_signed

    def conj(self) -> Tensor:
        """The complex conjugate: the tensor itself, as there are no complex types."""
        return self

    resolve_conj = resolve_neg = conj

    def is_conj(self) -> bool:
        """Whether the tensor is a lazily conjugated view: never."""
        return False

    def is_neg(self) -> bool:
        """Whether the tensor is a lazily negated view: never."""
        return False

    def is_inference(self) -> bool:
        """Whether the tensor was made in inference mode (or is a view of such a one)."""
        return bool(self._buffer.inference)

    def is_same_size(self, other: Tensor) -> bool:
        """Whether the shapes are equal."""
        return self._meta.shape == other._meta.shape

    def is_set_to(self, tensor: Tensor) -> bool:
        """Whether both are the same view of the same memory."""
        return self._buffer is tensor._buffer and self._meta is tensor._meta

    def is_nonzero(self) -> bool:
        """Whether the only element is not zero."""
        return bool(self)

    def prelu(self, weight: Tensor) -> Tensor:
        """:func:`flambeau.nn.functional.prelu`."""
        import flambeau

        return flambeau.prelu(self, weight)  # type: ignore[misc,no-any-return]

    def hardshrink(self, lambd: float = 0.5) -> Tensor:
        """:func:`flambeau.nn.functional.hardshrink`."""
        import flambeau

        return flambeau.hardshrink(self, lambd)  # type: ignore[misc,no-any-return]

    def get_device(self) -> int:
        """The CUDA device number, -1 on the CPU."""
        return -1 if self._meta.device.index is None else self._meta.device.index

    def data_ptr(self) -> int:
        """The address of the first element; pending work is executed first."""
        self._ready(True)
        return self._buffer.ptr + self._meta.offset * self._meta.dtype.itemsize

    def untyped_storage(self) -> Any:
        """The memory behind the tensor."""
        from .storage import UntypedStorage

        return UntypedStorage(self._buffer, self)

    storage = untyped_storage

    @property
    def _version(self) -> int:
        b = self._buffer
        if b.inference:
            raise RuntimeError("Inference tensors do not track version counter.")
        own = self._own_version
        if own is None and self._base is not None:
            own = self._base._own_version
        return own[0] if own else b.versions

    # -------------------------------------------------------------- observation

    def _ready(self, shared: bool = False) -> None:
        """Execute what the value depends on; ``shared``: and what reads it, as it may be changed by others."""
        b = self._buffer
        if pending(b) if shared else unwritten(b):
            if self._meta.device is META:
                raise NotImplementedError("Cannot copy out of meta tensor; no data!\n"
                                          "This tensor has only a shape (device='meta'). Create it on the CPU, or use to_empty().")
            if b.error is not None:
                raise failed(b.error)
            flush()
        if b.error is not None:
            raise failed(b.error)
        if not b.ptr and self._meta.numel:
            raise TraceError(NO_VALUE)

    def item(self) -> Any:
        """The value of a tensor with one element as a Python number.

        Raises ``RuntimeError`` when there is not exactly one element.
        """
        m = self._meta
        if m.numel != 1:
            raise RuntimeError(f"a Tensor with {m.numel} elements cannot be converted to Scalar\n"
                               f"item() needs exactly one element, this tensor has shape {list(m.shape)}. "
                               "Reduce it (mean(), sum()), index it, or use tolist().")
        b = self._buffer
        if CALLS or not b.ptr or b.error is not None:
            self._ready()
        read = _READ.get(m.dtype)
        if read is None:
            return self.detach().to(float32).item()
        return read[0].from_address(b.ptr + m.offset * read[1]).value

    def _bytes(self) -> bytes:
        """The elements in row-major order as bytes."""
        m = self._meta
        if not m.contiguous:
            return self.detach().clone()._bytes()
        b, n = self._buffer, m.dtype.itemsize
        if CALLS or not b.ptr or b.error is not None:
            self._ready()
        return ctypes.string_at(b.ptr + m.offset * n, m.numel * n) if m.numel else b""

    def _flat(self) -> list[Any]:
        d = self._meta.dtype
        if d is bfloat16:
            return self.detach().to(float32)._flat()
        return list(struct.unpack(f"={self._meta.numel}{d.code}", self._bytes()))

    def _at_hand(self) -> list[Any] | None:
        """The elements as a flat list when they are in memory already, else None: looking executes nothing."""
        b, m = self._buffer, self._meta
        if b.error is not None or not m.contiguous or unwritten(b):
            return None
        return self._flat()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers (a number for a 0-d tensor)."""
        values: list[Any] = self._flat()
        shape = self._meta.shape
        if len(shape) < 2:
            return values if shape else values[0]
        for n in reversed(shape[1:]):
            values = [values[i:i + n] for i in range(0, len(values), n)] if n else [[] for _ in range(_leading(shape, n))]
        if self._meta.numel == 0:
            return _empty_lists(shape)
        return values

    def _array(self, expose: bool = False) -> Any:
        """A NumPy array over the memory."""
        m = self._meta
        if m.dtype is bfloat16:
            raise TypeError("Got unsupported ScalarType BFloat16\nNumPy has no bfloat16: use x.float().numpy().")
        b = self._buffer
        owner = _Exposure(b) if expose else b       # first, so that what another thread records from now on is executed at once
        self._ready(expose)
        return array_over(b.ptr + m.offset * m.dtype.itemsize, m.shape, None if m.contiguous else m.strides, m.dtype, owner)

    def numpy(self, *, force: bool = False) -> Any:
        """A NumPy array that shares the tensor's memory.

        While the array lives, operations on the tensor are executed at once, so that each side sees the other's writes.
        Raises ``RuntimeError`` for a tensor that requires a gradient (unless ``force``), ``TypeError`` for one on another device.
        """
        if force:
            return self.detach().cpu()._array(True)
        if self._node is not None:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        if self._meta.device.type != "cpu" and self._meta.device is not META:
            raise TypeError(f"can't convert {self._meta.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        return self._array(True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        a = self.numpy()
        return a if dtype is None else a.astype(dtype, copy=False)

    def __array_wrap__(self, array: Any, *args: Any) -> Any:
        return creation.from_numpy(array) if getattr(array, "ndim", 0) else creation.tensor(array)

    def __bool__(self) -> bool:
        m = self._meta
        if m.numel != 1:
            if m.numel == 0:
                raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
            raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous\n"
                               f"bool() of a tensor of shape {list(m.shape)} is ambiguous. Use .any() or .all(); "
                               "to choose per element use torch.where; combine masks with & and |.")
        return bool(self.item())

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def __complex__(self) -> complex:
        return complex(self._scalar("complex"))

    def __index__(self) -> int:
        if self._meta.dtype.category > 1 or self._meta.numel != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self.item())

    def _scalar(self, to: str) -> Any:
        if self._meta.numel != 1:
            raise ValueError("only one element tensors can be converted to Python scalars\n"
                             f"{to}() of a tensor of shape {list(self._meta.shape)}. Reduce it first (.mean(), .sum()) or use .tolist().")
        if self._node is not None and to != "complex":
            warnings.warn("Converting a tensor with requires_grad=True to a scalar may lead to unexpected behavior.\n"
                          "Consider using tensor.detach() first.", UserWarning, stacklevel=3)
        return self.item()

    def __len__(self) -> int:
        if self._meta.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return self._meta.shape[0]  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Tensor]:
        if self._meta.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        return iter(self.unbind(0))

    def __contains__(self, element: Any) -> bool:
        if isinstance(element, (Tensor, int, float, bool)):
            return bool((self == element).any())
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(element)}.")

    def __reversed__(self) -> Tensor:
        return self if self._meta.ndim == 0 else self.flip((0,))

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        from .printing import format_tensor

        return format_tensor(self)

    def __format__(self, spec: str) -> str:
        if self._meta.ndim == 0 and self._meta.device is not META and self.__class__ is Tensor:
            return format(self.item(), spec)
        return object.__format__(self, spec)

    def __dir__(self) -> list[str]:
        return sorted(set(object.__dir__(self)))

    # -------------------------------------------------------------- gradient

    @property
    def requires_grad(self) -> bool:
        """Whether operations on the tensor are recorded for differentiation."""
        return self._node is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set ``requires_grad`` of a leaf; returns the tensor itself."""
        if requires_grad:
            if self._node is None:
                if not self._meta.dtype.is_floating_point:
                    raise RuntimeError("Only Tensors of floating point and complex dtype can require gradients\n"
                                       f"(only Tensors of floating point dtype can require gradients): "
                                       f"this one is {self._meta.dtype.name}. Use x.float() first.")
                if self._buffer.inference and not MODE.inference:
                    raise RuntimeError("Setting requires_grad=True on inference tensor outside InferenceMode is not allowed.\n"
                                       "requires_grad_: use the tensor's clone(), or torch.no_grad() where it was made.")
                self._node = graph.leaf(self)
        elif self._node is not None:
            if not isinstance(self._node, graph.Leaf):
                raise RuntimeError("you can only change requires_grad flags of leaf variables. If you want to use a computed variable in a subgraph "
                                   "that doesn't require differentiation use var_no_grad = var.detach().")
            self._node = None
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether the tensor was made by the user rather than by a recorded operation."""
        return self._node is None or isinstance(self._node, graph.Leaf)

    @property
    def grad_fn(self) -> graph.Node | None:
        """The graph node that made the tensor; None for leaves."""
        n = self._node
        return None if n is None or isinstance(n, graph.Leaf) else graph.source(n)

    @property
    def output_nr(self) -> int:
        """Which result of its node the tensor is."""
        return getattr(self._node, "index", 0)

    @property
    def grad(self) -> Tensor | None:
        """The accumulated gradient."""
        g = self._grad
        if g is None and self._node is not None and not isinstance(self._node, graph.Leaf) and not self._retains:
            warnings.warn("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be populated during "
                          "autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf Tensor, use .retain_grad() on the "
                          "non-leaf Tensor. If you access the non-leaf Tensor by mistake, make sure you access the leaf Tensor instead.",
                          UserWarning, stacklevel=2)
        return g

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(value).__name__}")
            if value is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if value._meta.shape != self._meta.shape:
                raise RuntimeError(f"attempting to assign a gradient of size '{list(value.shape)}' to a tensor of size '{list(self.shape)}'. "
                                   "Please ensure that the gradient and the tensor are the same size")
            if value._meta.dtype is not self._meta.dtype:
                raise RuntimeError(f"attempting to assign a gradient with dtype '{value.dtype.name}' to a tensor with grad_dtype '{self.dtype.name}'. "
                                   f"The gradient must have the tensor's dtype: use value.to({self.dtype}).")
            if value._meta.device is not self._meta.device:
                raise RuntimeError("assigned grad has data located on a different device")
        self._grad = value

    @grad.deleter
    def grad(self) -> None:
        self._grad = None

    def backward(self, gradient: Tensor | None = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None) -> None:
        """Compute gradients of the leaves and add them to their ``grad``; see :func:`flambeau.autograd.backward`."""
        if gradient is not None or create_graph or inputs is not None or not engine.whole(self, bool(retain_graph)):
            engine.propagate(self, gradient, retain_graph, create_graph, inputs)

    def detach(self) -> Tensor:
        """The same memory without history."""
        t = _new(Tensor)
        t._meta, t._buffer, t._node, t._base = self._meta, self._buffer, None, None
        if self._own_version is not None:
            t._own_version = self._own_version
        return t

    def detach_(self) -> Tensor:
        """Cut the tensor from its history."""
        if self._base is not None and self._node is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead. If you are using DistributedDataParallel (DDP) for training, and gradients "
                               "are set as views of buckets, setting gradient_as_bucket_view=True may help.")
        self._node = None
        return self

    @property
    def data(self) -> Tensor:
        """The same memory without history; it has a version of its own, so that writes through it are no changes of the tensor."""
        t = self.detach()
        t._own_version = [0]
        return t

    @data.setter
    def data(self, value: Tensor) -> None:
        if not isinstance(value, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(value).__name__}")
        self._meta, self._buffer, self._base = value._meta, value._buffer, None

    def retain_grad(self) -> None:
        """Keep the gradient of a tensor that is not a leaf in ``grad``."""
        n = self._node
        if n is None:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        if not isinstance(n, graph.Leaf) and not self._retains:
            import weakref

            n.keep_grad_of([weakref.ref(self)])
            self._retains = True

    @property
    def retains_grad(self) -> bool:
        """Whether ``retain_grad`` was called."""
        return self._retains

    def register_hook(self, hook: Any) -> graph.RemovableHandle:
        """Call ``hook(grad)`` when the gradient of this tensor is computed; what it returns replaces it."""
        n = self._node
        if n is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        return n.register_tensor_hook(hook)

    def register_post_accumulate_grad_hook(self, hook: Any) -> graph.RemovableHandle:
        """Call ``hook(tensor)`` after a gradient was added to ``grad``."""
        if self._node is None:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if not isinstance(self._node, graph.Leaf):
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self._post_hooks is None:
            self._post_hooks = []
        return graph.add_hook(self._post_hooks, hook)

    def _is_view(self) -> bool:
        return self._base is not None

    # -------------------------------------------------------------- conversion

    def to(self, *args: Any, **kwargs: Any) -> Tensor:
        """The tensor with another dtype or on another device; itself when nothing changes (unless ``copy=True``)."""
        d, dev, copy = kwargs.pop("dtype", None), kwargs.pop("device", None), kwargs.pop("copy", False)
        kwargs.pop("non_blocking", None)
        kwargs.pop("memory_format", None)
        other = kwargs.pop("other", None)
        if kwargs:
            raise TypeError(f"to() received an invalid combination of arguments: unexpected keyword {next(iter(kwargs))!r}")
        for i, a in enumerate(args):
            if isinstance(a, dtype):
                d = a
            elif isinstance(a, Tensor):
                other = a
            elif isinstance(a, (str, device)) or (isinstance(a, int) and not isinstance(a, bool) and i == 0):
                dev = a
            elif isinstance(a, bool):
                copy = copy or (a and i == len(args) - 1 and i >= 2)
            elif a in (float, int, bool):
                d = creation.check_dtype(a, float32)
            elif a is not None:
                raise TypeError(f"to() received an invalid combination of arguments - got ({type(a).__name__})\nto() takes a dtype, a device or a tensor.")
        if other is not None:
            d, dev = other.dtype, other.device
        m = self._meta
        target = m.device if dev is None else creation.resolve_device(dev)
        if target is not m.device:
            return self._move(target, m.dtype if d is None else d)
        if d is None or d is m.dtype:
            return OPS["clone"](self) if copy else self
        return OPS["_to_copy"](self, d)

    def _move(self, target: Device, d: DType) -> Tensor:
        if target is META:
            return make_tensor(meta(self.shape, None, 0, d, META), new_buffer())
        if self._meta.device is META:
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        raise NotImplementedError(f"to(): cannot copy from {self._meta.device} to {target}")

    def type(self, dtype: Any = None, non_blocking: bool = False) -> Any:
        """The old-style type name, or a conversion to ``dtype``."""
        if dtype is None:
            name = next(n for n, d in creation.LEGACY.items() if d == self._meta.dtype.name)
            return "torch." + name
        if isinstance(dtype, str):
            dtype = dtypes.DTYPES[creation.LEGACY[dtype.rpartition(".")[2]]]
        return self.to(getattr(dtype, "dtype", dtype))

    def type_as(self, other: Tensor) -> Tensor:
        """``self`` with the dtype of ``other``."""
        return self.to(other.dtype)

    def cpu(self, memory_format: Any = None) -> Tensor:
        """The tensor on the CPU."""
        return self.to(CPU)

    def cuda(self, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
        """The tensor on a CUDA device."""
        return self.to("cuda" if device is None else device if not isinstance(device, int) else f"cuda:{device}")

    def contiguous(self, memory_format: Any = None) -> Tensor:
        """The tensor in row-major order: itself, or a copy."""
        return self if self._meta.contiguous else OPS["clone"](self)

    def copy_(self, src: Any, non_blocking: bool = False) -> Tensor:
        """Store ``src`` (broadcast, converted) in this tensor."""
        if not isinstance(src, Tensor):
            if isinstance(src, (int, float, bool)):
                src = creation.scalar_tensor(src, dtype=self.dtype)
            else:
                raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
        return write(self, src)

    def fill_(self, value: Any) -> Tensor:
        """Store one value everywhere."""
        if isinstance(value, Tensor):
            if value.ndim:
                raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions.")
            return write(self, value, fill=True)
        return fill(self, value)

    def zero_(self) -> Tensor:
        """Store 0 everywhere."""
        return fill(self, 0)

    def set_(self, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
        """Become a view of the memory of ``source``."""
        from ..core.shape import span

        if source is None:
            source = creation.empty(0, dtype=self.dtype)
        if not isinstance(source, Tensor):
            source = source._tensor
        m = source._meta
        if size is not None:
            m = meta(tuple(size), tuple(stride) if stride is not None else None, storage_offset, self.dtype, m.device)
            needed = (span(m)[1] + 1) * m.dtype.itemsize if m.numel and m.device is not META else 0
            if needed and needed > (have := source.untyped_storage().nbytes()):
                raise RuntimeError(f"setStorage: sizes {list(m.shape)}, strides {list(m.strides)}, storage offset {m.offset}, and itemsize "
                                   f"{m.dtype.itemsize} requiring a storage size of {needed} are out of bounds for storage of size {have}. "
                                   "Flambeau does not grow memory that tensors share: make a larger tensor and copy.")
        self._meta, self._buffer, self._base = m, source._buffer, None
        return self

    def resize_(self, *sizes: Any, memory_format: Any = None) -> Tensor:
        """Give the tensor another shape, with more memory when it is needed (contents kept in order)."""
        shape = as_shape(sizes, "resize_")
        m = self._meta
        new = meta(shape, None, m.offset, m.dtype, m.device)
        if new is m:
            return self
        if self._node is not None:
            raise RuntimeError("cannot resize variables that require grad")
        if self._buffer.inference:
            definition.check_inference("resize_", self._buffer)
        from ..core.shape import span

        if m.device is META:
            self._meta = new
            return self
        have = max(self._buffer.nbytes if self._buffer.ptr else 0, (span(m)[1] + 1) * m.dtype.itemsize)
        if (span(new)[1] + 1) * m.dtype.itemsize > have:
            if self._buffer.exposed:
                raise RuntimeError("Trying to resize storage that is not resizable")
            grown = creation.allocated(meta(shape, None, 0, m.dtype, m.device))
            if m.numel:
                kept = (span(m)[1] + 1) - m.offset
                flat = make_tensor(meta((kept,), (1,), m.offset, m.dtype, m.device), self._buffer)
                definition.copy_into(make_tensor(meta((kept,), (1,), 0, m.dtype, m.device), grown._buffer), flat)
            self._meta, self._buffer = grown._meta, grown._buffer
        else:
            self._meta = new
        return self

    def resize_as_(self, the_template: Tensor) -> Tensor:
        """``resize_`` to another tensor's shape."""
        return self.resize_(the_template.shape)

    def new_tensor(self, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        """``tensor(data)`` with this tensor's dtype and device."""
        return creation.tensor(data, dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)

    def _new_like(self, make: Any, size: Any, kwargs: dict[str, Any]) -> Tensor:
        kwargs.setdefault("dtype", self.dtype)
        if kwargs["dtype"] is None:
            kwargs["dtype"] = self.dtype
        if kwargs.get("device") is None:
            kwargs["device"] = self.device
        return make(*size, **kwargs)

    def new_zeros(self, *size: Any, **kwargs: Any) -> Tensor:
        """Zeros with this tensor's dtype and device."""
        return self._new_like(creation.zeros, size, kwargs)

    def new_ones(self, *size: Any, **kwargs: Any) -> Tensor:
        """Ones with this tensor's dtype and device."""
        return self._new_like(creation.ones, size, kwargs)

    def new_empty(self, *size: Any, **kwargs: Any) -> Tensor:
        """Arbitrary contents with this tensor's dtype and device."""
        return self._new_like(creation.empty, size, kwargs)

    def new_full(self, size: Any, fill_value: Any, **kwargs: Any) -> Tensor:
        """One value with this tensor's dtype and device."""
        return self._new_like(creation.full, (size, fill_value), kwargs)

    def new_empty_strided(self, size: Any, stride: Any, **kwargs: Any) -> Tensor:
        """Arbitrary contents with given strides."""
        return self._new_like(creation.empty_strided, (size, stride), kwargs)

    def new(self, *args: Any, **kwargs: Any) -> Tensor:
        """The old-style constructor with this tensor's dtype."""
        if args and not isinstance(args[0], (int, Size)):
            return creation.tensor(args[0], dtype=self.dtype)
        return creation.empty(*(args or (0,)), dtype=self.dtype)

    # -------------------------------------------------------------- views with a property's name

    @property
    def T(self) -> Tensor:
        """The dimensions reversed; a view."""
        return OPS["_permute_T"](self)

    @property
    def mT(self) -> Tensor:
        """The last two dimensions exchanged; a view."""
        if self._meta.ndim < 2:
            raise RuntimeError(f"tensor.mT is only supported on matrices or batches of matrices. Got {self._meta.ndim}-D tensor.")
        return self.transpose(-2, -1)

    @property
    def H(self) -> Tensor:
        """The conjugate transpose of a matrix."""
        if self._meta.ndim not in (0, 2):
            raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self._meta.ndim}-D tensor.")
        return self.transpose(0, 1) if self._meta.ndim else self

    @property
    def mH(self) -> Tensor:
        """The conjugate transpose of the last two dimensions."""
        return self.mT

    @property
    def real(self) -> Tensor:
        """The real part: the tensor itself."""
        return self

    @property
    def imag(self) -> Tensor:
        """The imaginary part; only complex tensors have one."""
        raise RuntimeError("imag is not implemented for tensors with non-complex dtypes.")

    # -------------------------------------------------------------- copying and pickling

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) in memo:
            return memo[id(self)]  # type: ignore[no-any-return]
        if not self.is_leaf:
            raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  "
                               "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, see "
                               "https://github.com/pytorch/pytorch/pull/103001")
        import copy

        t = _new(type(self))
        m = self._meta
        source: Any = self.detach()
        if m.device is META:
            source = make_tensor(m, new_buffer())
        else:
            # tensors that share memory share it in the copy as well
            held = memo.get(id(self._buffer))
            if held is None:
                n = max(1, self._span())
                whole = make_tensor(meta((n,), (1,), 0, m.dtype, m.device), self._buffer)
                held = OPS["clone"](whole)._buffer
                memo[id(self._buffer)] = held
            source = make_tensor(m, held)
        t._meta, t._buffer, t._node, t._base = m, source._buffer, None, None
        memo[id(self)] = t
        for k, v in self.__dict__.items():
            if k in ("_post_hooks", "_hooks", "_retains"):
                continue
            t.__dict__[k] = copy.deepcopy(v, memo)
        if self._node is not None:
            t._node = graph.leaf(t)
        return t

    def _span(self) -> int:
        from ..core.shape import span

        return span(self._meta)[1] + 1

    def __reduce_ex__(self, protocol: Any) -> Any:
        if not self.is_leaf:
            self = self.detach()
        # stored row-major in the order of the strides, so that a transposed tensor comes back transposed
        order = sorted(range(self.ndim), key=lambda d: -self._meta.strides[d])
        dense = self.detach().permute(order)
        m = dense._meta
        data = None if m.device is META else OPS["clone"](dense)._bytes()
        extra = {k: v for k, v in self.__dict__.items() if k not in ("_post_hooks", "_hooks", "_retains", "_grad")}
        return (_restore, (None if type(self) is Tensor else type(self), tuple(m.shape), m.dtype, m.device, data, self._node is not None, extra, order))

    def __delitem__(self, index: Any) -> None:
        raise TypeError("Tensor does not support deleting items")

    def share_memory_(self) -> Tensor:
        """Accepted for compatibility."""
        return self

    def is_shared(self) -> bool:
        """Whether the memory is shared between processes: never."""
        return False

    def pin_memory(self, device: Any = None) -> Tensor:
        """Accepted for compatibility."""
        return self

    def is_pinned(self, device: Any = None) -> bool:
        """Whether the memory is page-locked: never."""
        return False

    def record_stream(self, stream: Any) -> None:
        """Accepted for compatibility."""

    def apply_(self, callable: Any) -> Tensor:
        """Replace every element by ``callable(element)``; slow."""
        values = [callable(v) for v in self._flat()]
        return write(self, creation.tensor(values, dtype=self.dtype).reshape(self.shape))

    def map_(self, tensor: Tensor, callable: Any) -> Tensor:
        """Replace every element by ``callable(element, other)``; slow."""
        values = [callable(a, b) for a, b in zip(self._flat(), tensor.expand(self.shape)._flat(), strict=True)]
        return write(self, creation.tensor(values, dtype=self.dtype).reshape(self.shape))

    __getitem__ = getitem
    __setitem__ = setitem

    def __dlpack__(self, *, stream: Any = None, **kwargs: Any) -> Any:
        if self._node is not None:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        return self.numpy().__dlpack__(**kwargs)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def _leading(shape: Any, n: int) -> int:
    return 0


def _empty_lists(shape: Any) -> Any:
    return [_empty_lists(shape[1:]) for _ in range(shape[0])] if len(shape) > 1 else [] if shape[0] == 0 else [[]] * shape[0]


def _restore(cls: type | None, shape: tuple[int, ...], d: dtype, dev: device, data: bytes | None, requires_grad: bool, extra: dict[str, Any],
             order: list[int] | None = None) -> Tensor:
    """Unpickle; ``order``: where the dimensions of the stored tensor belong, None for as they are."""
    from . import api  # noqa: F401  in a process that has used nothing yet, it gives tensors their operators

    m = meta(shape, None, 0, d, dev)
    if data is None:
        t = make_tensor(m, new_buffer())
    else:
        t = creation.allocated(m)
        ctypes.memmove(t._buffer.ptr, data, len(data))
    if order is not None:
        t._meta = permute_meta(t._meta, sorted(range(len(order)), key=order.__getitem__))
    if cls is not None:
        made: Any = _new(cls)
        made._meta, made._buffer, made._node, made._base = t._meta, t._buffer, None, None
        definition._TENSORS.add(cls)
        t = made
    t.__dict__.update(extra)
    if requires_grad:
        t._node = graph.leaf(t)
    return t  # type: ignore[no-any-return]


class _WriteEntry:
    """The gradient of ``copy_``: zero for the overwritten value, everything for the source."""

    name = "CopyBackwards"

    def __init__(self, source: Meta) -> None:
        self.source = source

    def run(self, node: Any, g: Any) -> list[Any]:
        own, other = node.edges
        return [None if own is None else OPS["zeros_like"](g), None if other is None else definition.fit(g, self.source)]


def _plain(t: Tensor) -> bool:
    """Whether writing to ``t`` needs no look at its graph or its version."""
    base = t._base
    return not t._buffer.inference and t._own_version is None and (base is None or base._own_version is None) and (
        not MODE.grad or (t._node is None and (base is None or base._node is None)))


def fill(t: Tensor, value: Any) -> Tensor:
    """``t.fill_(value)`` for a number: recorded, with history."""
    m = t._meta
    if not _plain(t) or m.device is META:
        return write(t, _number(m, value), fill=True)
    form, make, scalars, letters = creation.element(m.dtype, value)
    known = _FILLS.get((m, form))
    if known is None:
        definition.check_inplace("copy_", t, m.shape, m.dtype, idempotent=True)
        if definition.wandering(_fill_places, (m, form)):
            source = _number(m, value)
            record.append(definition.storing(source._meta, m), (source._buffer, t._buffer), (m.offset,))
            return t
        if len(_FILLS) > 20_000:
            _FILLS.clear()
        known = _FILLS[m, form] = creation.fill_into(m, form, make, letters)
    record.append(known, (t._buffer,), scalars)
    return t


def _number(m: Meta, value: Any) -> Tensor:
    return creation.filled(meta((), None, 0, m.dtype, m.device), value)  # type: ignore[no-any-return]


_FILLS: dict[tuple[Meta, Any], record.Signature] = {}
_fill_places: dict[Any, list[int]] = {}     # see ``definition.wandering``


def write(t: Tensor, src: Tensor, fill: bool = False) -> Tensor:
    """``t.copy_(src)``: recorded, with history; ``fill``: ``src`` is one value, which may be stored twice in one place."""
    m, s = t._meta, src._meta
    b = t._buffer
    plain = src._buffer is not b and _plain(t) and (src._node is None or not MODE.grad)
    if plain:
        known = _COPIES.get((m, s))
        if known is not None:
            record.append(known, (src._buffer, b))
            return t
    if MODE.grad or s.shape != m.shape:
        from ..core.shape import broadcast_shapes

        try:
            wide = broadcast_shapes(m.shape, s.shape)
        except RuntimeError:
            wide = None
        if wide is None or tuple(wide) != tuple(m.shape):
            raise RuntimeError(f"The expanded size of the tensor ({m.shape[-1] if m.ndim else 1}) "
                               f"must match the existing size ({s.shape[-1] if s.ndim else 1}) "
                               f"at non-singleton dimension {max(0, m.ndim - 1)}.  Target sizes: {list(m.shape)}.  Tensor sizes: {list(s.shape)}")
        definition.check_inplace("copy_", t, m.shape, m.dtype, idempotent=fill)
    if m.device is META:
        return t
    if s.device is META:
        raise NotImplementedError("Cannot copy out of meta tensor; no data!")
    if src._buffer is t._buffer:
        if s is m and (not MODE.grad or (src._node is None) == (t._node is None) and src._base is t._base):
            return t                # x[i] += y also assigns x[i] to itself
        if definition.partial_overlap(s, m):
            raise definition.overlap_error("copy_")
    sig = definition.copy_into(t, src)
    if plain and MODE.grad and sig.writes and not overlaps_itself(m):      # everything was checked, for either kind of source
        if len(_COPIES) > 20_000:
            _COPIES.clear()
        _COPIES[m, s] = sig
    if MODE.grad and (t._node is not None or (src._node is not None and m.dtype.is_floating_point)):
        n = graph.node(_WriteEntry(s), (t._node, src._node if s.dtype.is_floating_point else None), ())
        inplace.rebase(t, n)
    return t


_COPIES: dict[tuple[Meta, Meta], record.Signature] = {}     # copies between tensors of these metadata

definition.set_tensor_class(Tensor)

_DUNDERS = {
    "__add__": "add", "__sub__": "sub", "__mul__": "mul", "__truediv__": "div", "__floordiv__": "floor_divide", "__mod__": "remainder", "__pow__": "pow",
    "__matmul__": "matmul", "__and__": "bitwise_and", "__or__": "bitwise_or", "__xor__": "bitwise_xor", "__lshift__": "bitwise_left_shift",
    "__rshift__": "bitwise_right_shift", "__lt__": "lt", "__le__": "le", "__gt__": "gt", "__ge__": "ge", "__eq__": "eq", "__ne__": "ne",
}
_REFLECTED = {
    "__rsub__": "rsub", "__rtruediv__": "_rdiv", "__rdiv__": "_rdiv", "__rfloordiv__": "floor_divide",
    "__rmod__": "remainder", "__rpow__": "pow", "__rmatmul__": "matmul",
    "__rlshift__": "bitwise_left_shift", "__rrshift__": "bitwise_right_shift", "__radd__": "add", "__rmul__": "mul", "__rand__": "bitwise_and",
    "__ror__": "bitwise_or", "__rxor__": "bitwise_xor",
}
# f(self, other), not f(other, self)
_AS_GIVEN = {"__radd__", "__rmul__", "__rand__", "__ror__", "__rxor__", "__rsub__", "__rtruediv__", "__rdiv__"}
_CASTS = {"float": float32, "double": float64, "half": float16, "bfloat16": bfloat16, "long": int64, "int": int32, "short": int16, "char": int8,
          "byte": uint8, "bool": bool_}
_OPERANDS = (Tensor, bool, int, float)


def _operator(f: Any, name: str, reverse: bool = False) -> Any:
    if reverse:
        def dunder(self: Tensor, other: Any) -> Any:
            if not isinstance(other, _OPERANDS):
                return NotImplemented
            return f(other, self)
    else:
        def dunder(self: Tensor, other: Any) -> Any:
            try:
                return f(self, other)
            except TypeError:
                if isinstance(other, _OPERANDS):
                    raise
                if hasattr(other, "__array__") and name not in _REFLECTED:
                    return f(self, creation.as_tensor(other))
                if name in ("__eq__", "__ne__") and isinstance(other, (list, tuple)):
                    warnings.warn(f"tensor {'==' if name == '__eq__' else '!='} {type(other).__name__} is always {name == '__ne__'}: a list is not converted. "
                                  "Use x == torch.tensor([...]), or torch.equal for one answer.", UserWarning, stacklevel=2)
                return NotImplemented

    dunder.__name__ = dunder.__qualname__ = name
    return dunder


def _invert(self: Tensor) -> Tensor:
    if self._meta.dtype.is_floating_point:
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return OPS["bitwise_not"](self)  # type: ignore[no-any-return]


_ALIASES: dict[str, tuple[str, ...]] = {}


def install() -> None:
    """Put the operations' methods on the class; called once when all operation modules are loaded."""
    for name, f in list(OPS.items()):
        op = getattr(f, "operation", None)
        if name.startswith("_") or not getattr(f, "is_method", True):
            continue
        first = op.operands[0] if op is not None and op.operands else None
        if op is not None and op.kind != "view" and first not in ("input", "self"):
            continue
        if name not in Tensor.__dict__:
            setattr(Tensor, name, getattr(f, "as_method", f))
        if op is not None and op.kind in ("pointwise", "compute", "host") and op.how.get("inplace", op.kind == "pointwise"):
            _install_inplace(name, op)
        elif getattr(f, "is_inplace", False):
            _install_inplace_of(name, f)
    for name, d in _CASTS.items():
        setattr(Tensor, name, _cast(d, name))
    Tensor._check_unit_interval = OPS["_check_unit_interval"]  # type: ignore[attr-defined]
    for dunder, name in _DUNDERS.items():
        if name in OPS:
            setattr(Tensor, dunder, _operator(OPS[name], dunder))
    for dunder, name in _REFLECTED.items():
        if name in OPS:
            f = OPS[name]
            if dunder in _AS_GIVEN:
                setattr(Tensor, dunder, _operator(f, dunder))
            else:
                setattr(Tensor, dunder, _operator(f, dunder, True))
    for dunder, name in (("__neg__", "neg"), ("__abs__", "abs"), ("__pos__", "positive")):
        if name in OPS:
            setattr(Tensor, dunder, OPS[name])
    Tensor.__invert__ = _invert  # type: ignore[method-assign]
    for dunder, name in (("__iadd__", "add_"), ("__isub__", "sub_"), ("__imul__", "mul_"), ("__itruediv__", "div_"), ("__ifloordiv__", "floor_divide_"),
                         ("__imod__", "remainder_"), ("__ipow__", "pow_"), ("__iand__", "bitwise_and_"), ("__ior__", "bitwise_or_"),
                         ("__ixor__", "bitwise_xor_"), ("__ilshift__", "bitwise_left_shift_"), ("__irshift__", "bitwise_right_shift_")):
        if hasattr(Tensor, name):
            setattr(Tensor, dunder, getattr(Tensor, name))


def _install_inplace(name: str, op: Any) -> None:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return definition.inplace_call(op, (self, *args), kwargs)  # type: ignore[no-any-return]

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"The in-place form of :func:`{name}`."
    if name + "_" not in Tensor.__dict__:
        setattr(Tensor, name + "_", method)


def _install_inplace_of(name: str, f: Any) -> None:
    """The in-place form of a function made of other operations: its result is written to its first operand."""
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        made = f(self, *args, **kwargs)
        definition.check_inplace(name + "_", self, made.shape, made.dtype)
        return write(self, OPS["clone"](made) if made._buffer is self._buffer else made)

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"The in-place form of :func:`{name}`."
    if name + "_" not in Tensor.__dict__:
        setattr(Tensor, name + "_", method)


def _cast(d: dtype, name: str) -> Any:
    def method(self: Tensor, memory_format: Any = None) -> Tensor:
        return self if self._meta.dtype is d else OPS["_to_copy"](self, d)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor converted to {d.name}."
    return method


@definition.view(name="_permute_T", node="Permute")
def _reverse(input: Meta):
    return permute_meta(input, range(input.ndim)[::-1])


@_reverse.backward
def _(g):
    return g.permute(tuple(range(g.ndim))[::-1])


# in-place changes of the metadata alone
def _metadata_inplace(name: str) -> None:
    f = OPS[name]

    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        v = f(self, *args, **kwargs)
        self._meta, self._node = v._meta, v._node if v._node is not None or self._node is None else self._node
        return self

    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"The in-place form of :func:`{name}`."
    setattr(Tensor, name + "_", method)


for _name in ("squeeze", "unsqueeze", "transpose", "t", "swapaxes", "swapdims", "as_strided"):
    _metadata_inplace(_name)

__all__ = ["LOCK", "Tensor", "derived", "install", "layout", "write"]
