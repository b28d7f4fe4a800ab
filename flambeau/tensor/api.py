"""The public functions of the package: loads every operation and knows their names."""

from __future__ import annotations

import importlib
from typing import Any

from ..core import dtype as dtypes
from ..core.shape import Size
from ..core.shape import broadcast_shapes as common_shape
from ..ops import composite, definition  # noqa: F401
from ..ops.definition import OPS
from . import creation, sampling
from .tensor import Tensor, install

_MODULES = ("elementwise", "reduction", "special", "shape", "indexing", "contraction", "spatial", "host", "factorization")
for _m in _MODULES:
    importlib.import_module("..ops." + _m, __package__)
install()

_legacy: dict[str, Any] = {}


class _Format:
    """A memory format or layout constant."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return "torch." + self.name


CONSTANTS = {n: _Format(n) for n in ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format", "strided", "sparse_coo", "sparse_csr")}


def is_tensor(obj: Any) -> bool:
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def is_storage(obj: Any) -> bool:
    """Whether ``obj`` is a storage."""
    return type(obj).__name__ in ("UntypedStorage", "TypedStorage")


def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is floating point."""
    return input.is_floating_point()


def is_complex(input: Tensor) -> bool:
    """Whether the dtype is complex."""
    return input.is_complex()


def result_type(tensor1: Any, tensor2: Any) -> dtypes.dtype:
    """The dtype that an operation on both would have."""
    kinds = [x._meta if isinstance(x, Tensor) else type(x) for x in (tensor1, tensor2)]
    return definition.promote_kinds(kinds)


def broadcast_shapes(*shapes: Any) -> Size:
    """The shape that tensors of these shapes broadcast to."""
    given = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    if any(min(s, default=0) < 0 for s in given):
        raise ValueError(f"Attempting to broadcast a dimension with negative length!\nbroadcast_shapes: got {', '.join(map(str, given))}.")
    return Size(common_shape(*given))


def real(input: Tensor) -> Tensor:
    """The real part: the tensor itself, as there are no complex types."""
    return input


def imag(input: Tensor) -> Tensor:
    """The imaginary part; only complex tensors have one."""
    return input.imag


def is_nonzero(input: Tensor) -> bool:
    """Whether the only element is not zero."""
    return bool(input)


def typename(obj: Any) -> str:
    """What an object is: a tensor's type (``torch.FloatTensor``), else the name of its class with the module."""
    if isinstance(obj, Tensor):
        return obj.type()  # type: ignore[no-any-return]
    cls = obj if hasattr(obj, "__qualname__") else type(obj)
    return cls.__qualname__ if cls.__module__ in ("builtins", "", None) else f"{cls.__module__}.{cls.__qualname__}"


def get_device(input: Tensor) -> int:
    """The number of the GPU that holds the tensor: -1 on the CPU."""
    return input.get_device()  # type: ignore[no-any-return]


def frobenius_norm(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over dimensions; ``linalg.vector_norm`` is to be preferred."""
    return OPS["linalg_vector_norm"](input, 2, dim, keepdim)  # type: ignore[no-any-return]


def nuclear_norm(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The sum of a matrix's singular values; ``linalg.matrix_norm`` is to be preferred."""
    if isinstance(dim, bool):
        dim, keepdim = None, dim
    return OPS["linalg_matrix_norm"](input, "nuc", (-2, -1) if dim is None else dim, keepdim)  # type: ignore[no-any-return]


def norm_except_dim(v: Tensor, pow: int = 2, dim: int = 0) -> Tensor:
    """The norm over all dimensions but one, which keep a size of 1; ``dim=-1``: over all."""
    if dim == -1:
        return OPS["linalg_vector_norm"](v, pow)  # type: ignore[no-any-return]
    rest = [i for i in range(v.ndim) if i != dim]
    return OPS["linalg_vector_norm"](v, pow, rest, True) if rest else v.abs()  # type: ignore[no-any-return]


def compile(model: Any = None, **options: Any) -> Any:
    """Accepted for compatibility: Flambeau fuses and compiles what a program does anyway.  Returns ``model`` as it is."""
    return (lambda f: f) if model is None else model


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Accepted for compatibility: every kernel is deterministic."""


def are_deterministic_algorithms_enabled() -> bool:
    """Whether results are the same run after run: always."""
    return True


def set_float32_matmul_precision(precision: str) -> None:
    """Accepted for compatibility: float32 products are computed in float32."""
    if precision not in ("highest", "high", "medium"):
        raise RuntimeError(f"Invalid float32 matmul precision: {precision}. Use 'highest', 'high' or 'medium'.")


def get_float32_matmul_precision() -> str:
    """How float32 products are computed: ``highest``."""
    return "highest"


def set_flush_denormal(mode: bool) -> bool:
    """Subnormal numbers are always kept: returns False when asked to flush them."""
    return not mode


_METHODS = ("numel", "detach", "is_conj", "is_inference", "is_signed", "is_same_size", "detach_", "is_neg", "conj", "resolve_conj", "resolve_neg")


def lookup(name: str) -> Any:
    """The public object of this name, or None."""
    f = OPS.get(name)
    if f is not None and not name.startswith("_") and getattr(f, "is_function", True):
        return f
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name in creation.LEGACY:
        made = _legacy.get(name)
        if made is None:
            made = _legacy[name] = creation.legacy_class(dtypes.DTYPES[creation.LEGACY[name]], name)
        return made
    if name in dtypes.DTYPES:
        return dtypes.DTYPES[name]
    # the in-place functions that PyTorch also has at the top level: torch.relu_(x)
    if name.endswith("_") and not name.startswith("_") and hasattr(Tensor, name):
        return getattr(Tensor, name)
    if name in _METHODS:
        return getattr(Tensor, name)
    here = globals().get(name)
    if callable(here) and getattr(here, "__module__", "") == __name__:
        return here
    return getattr(sampling, name, None) if name in sampling.PUBLIC else None


def names() -> list[str]:
    """Every public function's name."""
    return [n for n, f in OPS.items() if not n.startswith("_") and getattr(f, "is_function", True)] + list(CONSTANTS) + list(creation.LEGACY) + list(_METHODS)
