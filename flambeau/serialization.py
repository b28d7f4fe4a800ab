"""``torch.serialization``: saving and loading, and what a file may name."""

from __future__ import annotations

from .io.checkpoint import add_safe_globals, clear_safe_globals, get_safe_globals, load, safe_globals, save

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]
