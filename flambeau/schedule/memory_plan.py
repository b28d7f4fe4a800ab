"""Where temporaries live in the arena: space of dead ones is used again.

Input: for every temporary its size and the launches between which it is alive; output: byte offsets and the arena's size.
"""

from __future__ import annotations

from bisect import insort

ALIGNMENT = 64


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
    placed: list[tuple[int, int, int]] = []             # offset, end, last launch
    offsets: dict[int, int] = {}
    total = 0
    for slot, (nbytes, first, last) in sorted(lifetimes.items(), key=lambda x: (x[1][1], -x[1][0])):
        size = max(ALIGNMENT, (nbytes + ALIGNMENT - 1) & -ALIGNMENT)
        at = 0
        placed = [p for p in placed if p[2] >= first]   # the others are dead from here on
        for low, high, _ in placed:                     # sorted by offset
            if at + size <= low:
                break
            at = max(at, high)
        offsets[slot] = at
        insort(placed, (at, at + size, last))
        total = max(total, at + size)
    return offsets, total
