"""Data types and PyTorch's promotion rules.

A ``dtype`` is one of a fixed set of objects, so identity is equality.  Everything that depends on a
type (its width, its name in LLVM, its ``struct`` code, which type a mixed operation yields) is here.
"""

from __future__ import annotations

from typing import Any


class dtype:
    """The element type of a tensor, for example ``flambeau.float32``."""

    __slots__ = ("category", "code", "ctype_name", "is_complex", "is_floating_point", "is_signed", "itemsize", "llvm", "name", "order")

    name: str
    itemsize: int          # bytes
    category: int          # 0 bool, 1 integer, 2 floating point, 3 complex
    is_floating_point: bool
    is_complex: bool
    is_signed: bool
    llvm: str              # the type of a value in registers
    code: str | None       # ``struct`` code of one element in memory; None for bfloat16
    ctype_name: str | None
    order: int             # place in the table of types

    def __repr__(self) -> str:
        return "torch." + self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return (_by_name, (self.name,))

    def __copy__(self) -> dtype:
        return self

    def __deepcopy__(self, memo: object) -> dtype:
        return self

    def to_complex(self) -> dtype:
        """The complex type of this width (there is none yet)."""
        raise NotImplementedError("complex types are not available yet")

    def to_real(self) -> dtype:
        """The real type of this width: the type itself."""
        return self


def _make(order: int, name: str, itemsize: int, category: int, signed: bool, llvm: str, code: str | None, ctype: str | None) -> dtype:
    d = dtype()
    d.order, d.name, d.itemsize, d.category, d.is_signed = order, name, itemsize, category, signed
    d.is_floating_point, d.is_complex = category == 2, category == 3
    d.llvm, d.code, d.ctype_name = llvm, code, ctype
    DTYPES[name] = d
    return d


DTYPES: dict[str, dtype] = {}

bool_ = _make(0, "bool", 1, 0, False, "i1", "?", "c_bool")
uint8 = _make(1, "uint8", 1, 1, False, "i8", "B", "c_uint8")
int8 = _make(2, "int8", 1, 1, True, "i8", "b", "c_int8")
int16 = _make(3, "int16", 2, 1, True, "i16", "h", "c_int16")
int32 = _make(4, "int32", 4, 1, True, "i32", "i", "c_int32")
int64 = _make(5, "int64", 8, 1, True, "i64", "q", "c_int64")
float16 = _make(6, "float16", 2, 2, True, "half", "e", "c_uint16")
bfloat16 = _make(7, "bfloat16", 2, 2, True, "bfloat", None, "c_uint16")
float32 = _make(8, "float32", 4, 2, True, "float", "f", "c_float")
float64 = _make(9, "float64", 8, 2, True, "double", "d", "c_double")

ALIASES = {
    "half": float16, "float": float32, "double": float64, "long": int64, "int": int32, "short": int16, "bool": bool_,
}


def _by_name(name: str) -> dtype:
    return DTYPES[name]


_default = float32


def get_default_dtype() -> dtype:
    """The floating-point type given to Python floats and to constructors such as ``zeros``."""
    return _default


DEPENDENT: list[Any] = []       # caches of what depends on the default type


def set_default_dtype(d: dtype) -> None:
    """Set the type that :func:`get_default_dtype` returns; must be floating point."""
    global _default
    if not isinstance(d, dtype):
        raise TypeError(f"set_default_dtype(): argument 'd' must be torch.dtype, not {type(d).__name__}")
    if not d.is_floating_point:
        raise TypeError(f"only floating-point types are supported as the default type, got {d}")
    if d is not _default:
        _default = d
        for cache in DEPENDENT:
            cache.clear()


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest type that both ``a`` and ``b`` convert to, by PyTorch's table."""
    if a is b:
        return a
    if a.category != b.category:
        return a if a.category > b.category else b
    if a.category == 2:
        # float16 and bfloat16 have no common half-width type
        return float32 if {a, b} == {float16, bfloat16} else (a if a.order > b.order else b)
    if uint8 in (a, b):
        other = b if a is uint8 else a
        return int16 if other is int8 else other
    return a if a.order > b.order else b


def scalar_dtype(value: object) -> dtype:
    """The type that a Python number stands for on its own."""
    if isinstance(value, bool):
        return bool_
    if isinstance(value, int):
        return int64
    if isinstance(value, float):
        return _default
    raise TypeError(f"expected a Python number, got {type(value).__name__}")


def can_cast(from_: dtype, to: dtype) -> bool:
    """Whether an in-place operation may store a ``from_`` result in a ``to`` tensor."""
    return from_.category <= to.category


def result_dtype(dimensioned: list[dtype], zero_dim: list[dtype], scalars: list[dtype]) -> dtype:
    """PyTorch's rule: tensors with dimensions decide, 0-d tensors and Python numbers only raise the category."""
    result: dtype | None = None
    for group in (dimensioned, zero_dim, scalars):
        if not group:
            continue
        g = group[0]
        for d in group[1:]:
            g = promote_types(g, d)
        if result is None or g.category > result.category:
            # a Python float meeting integers becomes the default type, whatever width it was written in
            if result is not None and group is scalars and g.category == 2:
                g = _default
            result = g
    assert result is not None
    return result


def float_of(d: dtype) -> dtype:
    """``d`` if it is floating point, else the default type: what ``exp`` of a tensor of ``d`` yields."""
    return d if d.category >= 2 else _default


def compute_dtype(d: dtype) -> dtype:
    """The type arithmetic on ``d`` is carried out in: float32 for the 16-bit floats."""
    return float32 if d is bfloat16 or d is float16 else d
