"""Running kernels: the native loop that walks a plan's list of launches.

A kernel is ``void(ptr table, ptr args, i64 begin, i64 end, ptr scratch)``: it runs the units begin..end of its work.  ``scratch``
is a block of :data:`SCRATCH` bytes, 64-byte aligned, with arbitrary contents, that no other thread uses during the call.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Sequence
from typing import Any

from . import cpu

SCRATCH = 4 << 20

_walker: tuple[Callable[..., None], Callable[..., None]] | None = None
_scratch: Any = None

WALK = """
define void @NAME(ptr %list, i64 %n, ptr %table) #ATTR {
entry:
  %scratch = load ptr, ptr %list, align 8
  %records = getelementptr i64, ptr %list, i64 1
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %next, label %done
next:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %record = getelementptr [4 x i64], ptr %records, i64 %i
  %second = getelementptr i64, ptr %record, i64 1
  %third = getelementptr i64, ptr %record, i64 2
  %kernel = load ptr, ptr %record, align 8
  %args = load ptr, ptr %second, align 8
  %units = load i64, ptr %third, align 8
  call void %kernel(ptr %table, ptr %args, i64 0, i64 %units, ptr %scratch)
  %i1 = add nuw i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %next, label %done
done:
  ret void
}
"""


def walker() -> tuple[Callable[..., None], Callable[..., None]]:
    """``walk(list_address, n, table)`` twice: releasing Python's lock while it runs, and holding it (for plans of microseconds).

    ``list_address`` points at what :func:`launch_list` made.  Each is called as ``kernel(table, args, 0, units, scratch)``, in
    order.  ``table`` is bytes (or an address).
    """
    global _walker
    if _walker is None:
        address, = cpu.load([WALK])
        signature = (None, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_char_p)
        _walker = ctypes.CFUNCTYPE(*signature)(address), ctypes.PYFUNCTYPE(*signature)(address)
    return _walker


def launch_list(records: Sequence[tuple[int, int, int, int]]) -> Any:
    """Launches as the walker reads them: (kernel's address, address of its argument words, units, chunks worth sharing) each."""
    global _scratch
    if _scratch is None:
        _scratch = mmap.mmap(-1, SCRATCH)
    words = [ctypes.addressof(ctypes.c_char.from_buffer(_scratch)), *(word for record in records for word in record)]
    return (ctypes.c_int64 * len(words))(*words)
