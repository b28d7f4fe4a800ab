"""cuDNN's switches: accepted, without effect while there is no CUDA device."""

from __future__ import annotations

enabled = False
benchmark = False
deterministic = True
allow_tf32 = False


def is_available() -> bool:
    """Whether cuDNN can be used: no."""
    return False


def version() -> int | None:
    """cuDNN's version: there is none."""
    return None
