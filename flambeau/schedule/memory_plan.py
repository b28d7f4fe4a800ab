"""Where temporaries live in the arena: space of dead ones is used again.

Input: for every temporary its size and the launches between which it is alive; output: byte offsets and the arena's size.
"""

from __future__ import annotations

from bisect import insort
from heapq import heappop, heappush

ALIGNMENT = 64
_END = 1 << 62


def layout(lifetimes: dict[int, tuple[int, int, int]]) -> tuple[dict[int, int], int]:
    """Offsets by first fit.

    Parameters
    ----------
    lifetimes
        slot -> (bytes, first launch, last launch).

    Returns
    -------
    dict, int
        slot -> byte offset (64-byte aligned), and the bytes of the arena.
    """
    gaps = [(0, _END)]                              # by offset
    alive: list[tuple[int, int, int]] = []          # last launch, offset, end: a heap
    offsets: dict[int, int] = {}
    total = 0
    for slot, (nbytes, first, last) in sorted(lifetimes.items(), key=lambda x: (x[1][1], -x[1][0])):
        while alive and alive[0][0] < first:        # dead from here on
            _, low, high = heappop(alive)
            insort(gaps, (low, high))
        size = max(ALIGNMENT, (nbytes + ALIGNMENT - 1) & -ALIGNMENT)
        merged = [gaps[0]]
        for low, high in gaps[1:]:
            if merged[-1][1] == low:
                merged[-1] = merged[-1][0], high
            else:
                merged.append((low, high))
        gaps = merged
        i = next(i for i, (low, high) in enumerate(gaps) if high - low >= size)
        at, end = gaps[i]
        gaps[i:i + 1] = [(at + size, end)] if at + size < end else []
        offsets[slot] = at
        heappush(alive, (last, at, at + size))
        total = max(total, at + size)
    return offsets, total
