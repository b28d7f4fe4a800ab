"""Machine code as a builtin function of Python: a call through ctypes takes ten times as long as one of these.

Input: the address of a native function that takes one pointer; output: a callable that takes ``bytes`` and calls it with the address
of their contents, holding Python's lock.  Elsewhere than in CPython it is ctypes' callable.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import Any

from . import cpu

# ``self`` holds, as the contents of bytes: the function, Py_IncRef and None
CALL = f"""
define ptr @NAME(ptr %self, ptr %argument) #ATTR {{
  %words = getelementptr i8, ptr %self, i64 {bytes.__basicsize__ - 1}
  %function = load ptr, ptr %words, align 1
  %second = getelementptr i8, ptr %words, i64 8
  %keep = load ptr, ptr %second, align 1
  %third = getelementptr i8, ptr %words, i64 16
  %none = load ptr, ptr %third, align 1
  %contents = getelementptr i8, ptr %argument, i64 {bytes.__basicsize__ - 1}
  call void %function(ptr %contents)
  call void %keep(ptr %none)
  ret ptr %none
}}
"""

_TAKES_ONE_ARGUMENT = 8         # METH_O


class _Definition(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = (("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("text", ctypes.c_char_p))


_kept: list[Any] = []       # what the functions made here point to


def function(address: int) -> Callable[[bytes], None]:
    """The native ``void(ptr)`` at this address as a function of ``bytes``."""
    if sys.implementation.name != "cpython":
        return ctypes.PYFUNCTYPE(None, ctypes.c_char_p)(address)
    entry, = cpu.load([CALL])
    keep = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value
    words = b"".join([x.to_bytes(8, sys.byteorder) for x in (address, keep or 0, id(None))])
    definition = _Definition(b"walk", entry, _TAKES_ONE_ARGUMENT, None)
    _kept.append(definition)
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    return make(ctypes.addressof(definition), words, None)  # type: ignore[no-any-return]
