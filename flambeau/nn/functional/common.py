"""What the families of functions share: reductions, deprecated arguments, the width that sums are computed in, warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import flambeau as fl

from ...core.shape import broadcast_shapes  # noqa: F401
from ..modules.diagnosis import user_level


def reduced(loss: Any, reduction: str) -> Any:
    """``loss`` averaged, summed or as it is."""
    if reduction == "mean":
        return loss.mean()
    if reduction == "sum":
        return loss.sum()
    check_reduction(reduction)
    return loss


def check_reduction(reduction: str) -> None:
    """Refuse anything but ``none``, ``mean`` and ``sum``."""
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")


def legacy_reduction(size_average: Any, reduce: Any, quiet: bool = False) -> str:
    """The ``reduction`` that the deprecated arguments stand for."""
    average, reduces = size_average is not False, reduce is not False
    name = ("mean" if average else "sum") if reduces else "none"
    if not quiet:
        warn(f"size_average and reduce args will be deprecated, please use reduction='{name}' instead.")
    return name


def warn(text: str) -> None:
    """A warning that points to the user's line."""
    warnings.warn(text, stacklevel=user_level())


def wide(x: Any) -> Any:
    """``x``, in float32 if it is a 16-bit float: what sums and exponentials of it are computed in."""
    return x.float() if x.dtype is fl.float16 or x.dtype is fl.bfloat16 else x


def narrow(y: Any, like: Any) -> Any:
    """``y`` rounded to the dtype of ``like``."""
    return y if y.dtype is like.dtype else y.to(like.dtype)


def sizes(value: Any, n: int, name: str = "", what: str = "") -> tuple[int, ...]:
    """``n`` ints from one int or a sequence of them."""
    if isinstance(value, Sequence):
        if len(value) == 1:
            return tuple(value) * n
        if len(value) != n:
            raise RuntimeError(f"{name}: {what} must either be a single int, or a tuple of {n} ints, got {tuple(value)}")
        return tuple(value)
    return (value,) * n


def in_place(x: Any, compute: Callable[[Any], Any]) -> Any:
    """Write ``compute(x)`` over ``x``."""
    # the gradient of ``compute`` may need its input, which is about to be overwritten
    source = x.clone() if x.requires_grad and fl.is_grad_enabled() else x
    return x.copy_(compute(source))


def into(out: Any, value: Any) -> Any:
    """``value``, written to ``out`` if that is given; ``out`` takes the shape of ``value``."""
    if out is None:
        return value
    if out.shape != value.shape:
        if out.numel():
            warn(
                f"An output with one or more elements was resized since it had shape {shown(out.shape)}, which does not match the "
                f"required output shape {shown(value.shape)}."
            )
        out.resize_(value.shape)
    return out.copy_(value)


def shown(shape: Any) -> str:
    """A shape as messages print it: ``[2, 3]``."""
    return str(list(shape))


_FEW = 1024  # elements that a call may look at


def at_hand(x: Any) -> list[Any] | None:
    """The values of ``x`` when they are few and already in memory, so that a mistake in them can be raised by the call itself."""
    if x.numel() > _FEW:
        return None
    return x._at_hand()  # type: ignore[no-any-return]
