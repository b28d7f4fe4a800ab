"""The MKL and oneDNN libraries: not used."""

from __future__ import annotations


def is_available() -> bool:
    """Whether the library can be used: no."""
    return False


def is_built() -> bool:
    """Whether the library support was built: no."""
    return False
