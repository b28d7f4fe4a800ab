"""Memory for tensors: a caching allocator over anonymous mappings.

Sizes are rounded up to classes; each class has a free list, an ordinary Python list of addresses that callers (plans, the
recorder) may hold, pop from and append to directly.  :func:`grow` makes a new block when the list is empty.  Blocks are
64-byte aligned, large ones are mapped alone, in huge pages, and go back to the system when too much lies unused.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from _thread import RLock  # threading takes as long to import as a whole warm start
from typing import Any

from ..core.dtype import bfloat16, bool_, dtype

LARGE = 1 << 20                     # classes from here on are mapped one block at a time
HUGE = 4 << 20                      # and from here on in huge pages
HUGE_PAGE = 2 << 20


class _Chunk:
    """One mapping, divided into blocks of one class; ``carved`` of them have been handed out at least once."""

    __slots__ = ("carved", "end", "mapping", "next", "start", "window")

    def __init__(self, nbytes: int) -> None:
        aligned = nbytes >= HUGE
        length = nbytes + HUGE_PAGE if aligned else nbytes
        if hasattr(mmap, "MAP_PRIVATE"):    # the default is shared, and a forked child would write into its parent's tensors
            self.mapping = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        else:
            self.mapping = mmap.mmap(-1, length)
        self.window = ctypes.c_char.from_buffer(self.mapping)
        self.start = ctypes.addressof(self.window)
        if aligned:
            if hasattr(mmap, "MADV_HUGEPAGE"):
                try:
                    self.mapping.madvise(mmap.MADV_HUGEPAGE)
                except OSError:
                    pass                    # a kernel without them
            self.start = -(-self.start // HUGE_PAGE) * HUGE_PAGE
        self.next, self.end, self.carved = self.start, self.start + nbytes, 0


_lists: dict[int, list[int]] = {}
_chunks: dict[int, list[_Chunk]] = {}       # by class; blocks are carved from the last one
_lock = RLock()
_reserved = 0
_peak = 0
_limit: int | None = None                   # hard: more is an error
_keep: int | None = None                    # soft: past it, unused blocks are given back first


def size_class(nbytes: int) -> int:
    """``nbytes`` rounded up: to 64 bytes, and past 4 KiB to one of eight steps per doubling."""
    if nbytes <= 4096:
        return (nbytes + 63) & -64 or 64
    step = 1 << ((nbytes - 1).bit_length() - 4)
    return (nbytes + step - 1) & -step


def free_list(nbytes: int) -> tuple[list[int], int]:
    """The free list for blocks of at least ``nbytes`` and its class.

    The list stays the same object for the life of the process.  Take with ``pop()``, or :func:`grow` when it is empty;
    give back with ``append(address)``.
    """
    c = size_class(nbytes)
    found = _lists.get(c)
    if found is None:
        found = _lists.setdefault(c, [])
    return found, c


def allocate(nbytes: int) -> int:
    """The address of a block of at least ``nbytes``; its contents are arbitrary."""
    free, c = free_list(nbytes)
    try:
        return free.pop()
    except IndexError:
        return grow(c)


def release(address: int, nbytes: int) -> None:
    """Give back a block that :func:`allocate` returned for this many bytes."""
    free_list(nbytes)[0].append(address)


def grow(c: int) -> int:
    """The address of a block of class ``c`` that was in use by nobody.

    Raises
    ------
    RuntimeError
        When the system, or the limit of :func:`set_limit`, has no memory for it.
    """
    global _reserved, _peak
    with _lock:
        chunks = _chunks.setdefault(c, [])
        if not chunks or chunks[-1].next == chunks[-1].end:
            # small classes share pages: up to 16 blocks, at least 64 KiB, at a time
            nbytes = c if c >= LARGE else -(-max(65536, min(16 * c, LARGE)) // c) * c
            if _reserved + nbytes > kept():
                _give_back(_reserved + nbytes - kept())
            if _limit is not None and _reserved + nbytes > _limit:
                release_cached()
                if _reserved + nbytes > _limit:
                    raise _exhausted(c, f"the limit set is {_text(_limit)}")
            try:
                chunk = _Chunk(nbytes)
            except (OSError, OverflowError, ValueError):
                release_cached()
                try:
                    chunk = _Chunk(nbytes)
                except (OSError, OverflowError, ValueError) as error:
                    raise _exhausted(c, str(getattr(error, "strerror", "") or error)) from None
            chunks.append(chunk)
            _reserved += nbytes
            _peak = max(_peak, _reserved)
        chunk = chunks[-1]
        address = chunk.next
        chunk.next += c
        chunk.carved += 1
        return address


def release_cached() -> None:
    """Give every chunk back to the system of which no block is in use."""
    with _lock:
        _give_back(None)


def _give_back(wanted: int | None) -> None:
    """Unmap unused chunks, the largest classes first, until ``wanted`` bytes are gone (None: all of them)."""
    global _reserved
    for c in sorted(_chunks, reverse=True):
        free: list[int] = []
        shared = _lists.get(c)
        while shared:               # one by one: finalizers and other threads append and pop meanwhile
            try:
                free.append(shared.pop())
            except IndexError:
                break
        if not free:
            continue
        kept: list[int] = []
        chunks: list[_Chunk] = []
        free.sort()
        at = 0
        for chunk in sorted(_chunks[c], key=lambda chunk: chunk.start):
            first = at
            while at < len(free) and free[at] < chunk.end:
                at += 1
            if at - first == chunk.carved and (wanted is None or wanted > 0):
                size = chunk.end - chunk.start
                _reserved -= size
                wanted = None if wanted is None else wanted - size
            else:
                kept += free[first:at]
                chunks.append(chunk)
        # the chunk that is still being carved stays last
        chunks.sort(key=lambda chunk: chunk.next != chunk.end)
        _chunks[c][:] = chunks
        _lists[c].extend(reversed(kept))
        if wanted is not None and wanted <= 0:
            return


def set_limit(nbytes: int | None) -> None:
    """Refuse to hold more than ``nbytes`` (None: no limit but the system's)."""
    global _limit
    _limit = nbytes


def set_kept(nbytes: int) -> None:
    """Above ``nbytes`` held, unused blocks are given back before new memory is mapped."""
    global _keep
    _keep = nbytes


def kept() -> int:
    """The bytes above which unused blocks are given back: half of the machine's memory unless :func:`set_kept` said otherwise."""
    global _keep
    if _keep is None:
        try:
            _keep = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        except (AttributeError, ValueError, OSError):
            _keep = 4 << 30
    return _keep


def statistics() -> dict[str, int]:
    """Bytes ``allocated`` (in use), ``cached`` (free, held for reuse), ``reserved`` (mapped) and ``peak`` (most ever reserved)."""
    with _lock:
        cached, carved = _cached()
        return {"allocated": carved - cached, "cached": cached, "reserved": _reserved, "peak": _peak}


def reset_peak() -> None:
    """Start measuring ``peak`` anew."""
    global _peak
    _peak = _reserved


def _cached() -> tuple[int, int]:
    cached = sum(c * len(free) for c, free in list(_lists.items()))
    return cached, sum(c * chunk.carved for c, chunks in _chunks.items() for chunk in chunks)


def _exhausted(c: int, why: str) -> RuntimeError:
    use = statistics()
    return RuntimeError(
        f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {c} bytes.\n"
        f"{_text(c)} were asked for; {_text(use['allocated'])} are in use by tensors and {_text(use['cached'])} are cached ({why}). "
        "Use smaller batches, delete tensors that are no longer needed, or run code that needs no gradient under no_grad()."
    )


def _text(nbytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if nbytes < 1024 or unit == "TiB":
            break
        nbytes /= 1024
    return f"{nbytes:.0f} bytes" if unit == "bytes" else f"{nbytes:.1f} {unit}"


def _after_fork() -> None:
    global _lock
    _lock = RLock()       # another thread may have held it in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


# ---------------------------------------------------------------- reading and writing raw memory

def copy(destination: int, source: int, nbytes: int) -> None:
    """Copy ``nbytes``; the ranges may overlap."""
    ctypes.memmove(destination, source, nbytes)


def zero(address: int, nbytes: int) -> None:
    """Set ``nbytes`` to zero."""
    ctypes.memset(address, 0, nbytes)


def view(address: int, nbytes: int) -> memoryview:
    """``nbytes`` at ``address`` as a writable buffer of unsigned bytes; it does not keep the memory alive."""
    return memoryview((ctypes.c_char * nbytes).from_address(address)).cast("B")


def read(address: int, d: dtype) -> Any:
    """The element of type ``d`` at ``address`` as a Python bool, int or float."""
    return decode(ctypes.string_at(address, d.itemsize), d)


def write(address: int, d: dtype, value: float) -> None:
    """Store ``value`` as an element of type ``d`` at ``address``: integers wrap, floats round to nearest."""
    ctypes.memmove(address, encode(value, d), d.itemsize)


def decode(data: bytes, d: dtype) -> Any:
    """The Python number that ``data``, one element of type ``d``, stands for."""
    if d is bfloat16:
        return struct.unpack("<f", b"\0\0" + data)[0]
    return struct.unpack("=" + d.code, data)[0]  # type: ignore[operator]


def encode(value: float, d: dtype) -> bytes:
    """One element of type ``d``, as it lies in memory."""
    if d.category == 2:
        x = float(value)
        try:
            if d is bfloat16:
                if x != x:
                    return b"\xc0\x7f"
                bits, = struct.unpack("<I", struct.pack("<f", x))
                return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)
            return struct.pack("=" + d.code, x)  # type: ignore[operator]
        except OverflowError:       # past the type's range: infinity
            return encode(float("inf") if x > 0 else float("-inf"), d)
    if d is bool_:
        return b"\1" if value else b"\0"
    return (int(value) & ((1 << 8 * d.itemsize) - 1)).to_bytes(d.itemsize, "little")
