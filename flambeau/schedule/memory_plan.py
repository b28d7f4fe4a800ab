"""Where temporaries live in the arena: space of dead ones is used again.

Input: for every temporary its size and the launches between which it is alive; output: byte offsets and the arena's size.
"""

from __future__ import annotations

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
    placed: list[tuple[int, int, int, int]] = []        # offset, end, first, last
    offsets: dict[int, int] = {}
    total = 0
    for slot, (nbytes, first, last) in sorted(lifetimes.items(), key=lambda x: (x[1][1], -x[1][0])):
        size = max(ALIGNMENT, (nbytes + ALIGNMENT - 1) & -ALIGNMENT)
        at = 0
        for low, high, f, t in placed:                  # sorted by offset
            if t < first or f > last:
                continue
            if at + size <= low:
                break
            at = max(at, high)
        offsets[slot] = at
        placed.append((at, at + size, first, last))
        placed.sort()
        total = max(total, at + size)
    return offsets, total
