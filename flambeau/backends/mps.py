"""Apple's Metal: not available."""

from __future__ import annotations


def is_available() -> bool:
    """Whether Metal can be used: no."""
    return False


def is_built() -> bool:
    """Whether Metal support was built: no."""
    return False
