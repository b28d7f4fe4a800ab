"""Exceptions of Flambeau's own, and small helpers that word messages.

Errors that PyTorch also raises keep PyTorch's type; these classes exist for what PyTorch has no name for.
"""

from __future__ import annotations


class TraceError(RuntimeError):
    """The body of a composite looked at values, which do not exist while it is traced."""


class LinAlgError(RuntimeError):
    """A matrix does not admit the computation: it is singular, not positive-definite, or an iteration did not converge."""


class MissingName(AttributeError):
    """A name of PyTorch's that Flambeau does not have."""


def type_name(x: object) -> str:
    """The name of ``x``'s class as users know it."""
    return "Tensor" if hasattr(x, "_meta") else type(x).__name__
