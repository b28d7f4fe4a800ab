"""Text of a tensor: what ``repr`` and ``print`` show, character for character as PyTorch writes it.

:func:`format_tensor` takes anything with the small reading interface of a tensor and returns the text.  It comes at the
end of the journey: reading elements here is an observation, so only the elements that will be shown are read, and a
summary of a huge tensor costs no more than that of a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from ..core.dtype import bool_, get_default_dtype, int64

PROFILES: dict[str, dict[str, Any]] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}


class _Options:
    """How tensors are printed; one instance serves the process."""

    __slots__ = ("edgeitems", "linewidth", "precision", "sci_mode", "threshold")

    precision: int              # digits after the point
    threshold: float            # tensors with more elements than this are summarised
    edgeitems: int              # entries shown at each end of a summarised dimension
    linewidth: int              # characters to a line
    sci_mode: bool | None       # scientific notation: always, never, or as the values need


_options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Choose how tensors are printed.

    Parameters
    ----------
    precision : int, optional
        Digits after the decimal point (4 at first).
    threshold : int or inf, optional
        A tensor with more elements is summarised (1000 at first).
    edgeitems : int, optional
        How many entries a summary shows at each end of a dimension (3 at first).
    linewidth : int, optional
        Characters to a line before a row is broken (80 at first).
    profile : {"default", "short", "full"}, optional
        Set all of the above at once; the other arguments then refine it.
    sci_mode : bool, optional
        Scientific notation always (True), never (False), or as the values need (None).  Unlike the others, leaving it
        out resets it.

    Raises
    ------
    ValueError
        For an unknown profile, or a precision that is no non-negative integer.
    """
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile must be one of {', '.join(map(repr, PROFILES))}, got {profile!r}")
        for name, value in PROFILES[profile].items():
            setattr(_options, name, value)
    if precision is not None:
        if not isinstance(precision, int) or precision < 0:
            raise ValueError(f"set_printoptions: precision must be an integer that is not negative, got {precision!r}")
        _options.precision = precision
    if threshold is not None:
        _options.threshold = threshold
    if edgeitems is not None:
        _options.edgeitems = edgeitems
    if linewidth is not None:
        _options.linewidth = linewidth
    _options.sci_mode = sci_mode


def get_printoptions() -> dict[str, Any]:
    """The current options by name; ``set_printoptions(**get_printoptions())`` changes nothing."""
    return {name: getattr(_options, name) for name in ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")}


class printoptions:
    """Context manager: the arguments of :func:`set_printoptions`, for the length of a ``with`` block."""

    def __init__(self, **options: Any) -> None:
        self._wanted = options

    def __enter__(self) -> None:
        self._before = get_printoptions()
        set_printoptions(**self._wanted)

    def __exit__(self, *exc: object) -> None:
        set_printoptions(**self._before)


set_printoptions(profile="default")


def format_tensor(t: Any, prefix: str = "tensor(") -> str:
    """The text of ``t``.

    Parameters
    ----------
    t : tensor-like
        Read through ``shape``, ``dtype``, ``device``, ``requires_grad``, ``grad_fn``, ``detach()``, indexing with slices
        and ``tolist()``.  At most ``threshold`` elements are read, or the corners of the tensor when it has more.
    prefix : str
        What the text opens with; continuation lines are indented by its length.

    Returns
    -------
    str
    """
    shape = tuple(t.shape)
    d = t.dtype
    count = math.prod(shape)
    summarised = count > _options.threshold

    suffixes: list[str] = []
    size = f"size={shape}"
    usual_type = d is get_default_dtype()
    if t.device.type == "meta":
        body = "..."
        suffixes += ["device='meta'", size]
    else:
        if t.device.type != "cpu":
            suffixes.append(f"device='{t.device}'")
        if count == 0:
            body = "[]"
            if len(shape) != 1:
                suffixes.append(size)
        else:
            # a list of Python ints or bools shows these two types by itself
            usual_type = usual_type or d is int64 or d is bool_
            if _options.edgeitems == 0:
                suffixes.append(size)
            body = "[...]" if summarised and _options.edgeitems == 0 else _body(t.detach(), shape, summarised, len(prefix))
    if not usual_type:
        suffixes.append(f"dtype={d}")
    if t.grad_fn is not None:
        suffixes.append(f"grad_fn=<{t.grad_fn.name().rsplit('::', 1)[-1]}>")
    elif t.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, len(prefix))


def _with_suffixes(text: str, suffixes: list[str], indent: int) -> str:
    """``text`` followed by the suffixes, each on a new line where it would pass the line width."""
    # the character after the last newline counts twice, as in PyTorch
    used = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if used + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            used = indent + len(suffix)
        else:
            text += ", " + suffix
            used += len(suffix) + 2
    return text + ")"


def _body(t: Any, shape: tuple[int, ...], summarised: bool, indent: int) -> str:
    """The nested brackets with the numbers in them; ``t`` has at least one element."""
    edge = _options.edgeitems
    cut = [summarised and n > 2 * edge for n in shape]
    values = _read(t, cut, edge)
    flat: Iterable[Any] = [values] if not shape else values
    for _ in shape[1:]:
        flat = [x for row in flat for x in row]
    width, write = _number_format(list(flat), t.dtype.is_floating_point)
    rank = len(shape)

    def block(values: Any, depth: int, indent: int) -> str:
        """Text of the sub-tensor ``values`` that is ``depth`` dimensions down; its bracket stands in column ``indent``."""
        if depth == rank:
            return write(values)
        innermost = depth == rank - 1
        entries = [block(v, depth + 1, indent + 1) for v in values]
        if cut[depth]:
            entries.insert(edge, " ..." if innermost else "...")
        margin = "\n" * (rank - 1 - depth) + " " * (indent + 1)
        if not innermost:
            return "[" + ("," + margin).join(entries) + "]"
        per_line = max(1, (_options.linewidth - indent) // (width + 2))
        lines = [", ".join(entries[i:i + per_line]) for i in range(0, len(entries), per_line)]
        return "[" + (",\n" + margin).join(lines) + "]"

    return block(values, 0, indent)


def _read(t: Any, cut: list[bool], edge: int) -> Any:
    """Nested lists of the elements to show: of a dimension that is cut only the first and last ``edge`` entries."""
    for dim in range(len(cut)):
        if cut[dim]:
            whole = (slice(None),) * dim
            rest = cut.copy()
            rest[dim] = False
            return _join(_read(t[(*whole, slice(edge))], rest, edge), _read(t[(*whole, slice(-edge, None))], rest, edge), dim)
    return t.tolist()


def _join(a: list[Any], b: list[Any], depth: int) -> list[Any]:
    """Concatenate nested lists along dimension ``depth``."""
    if depth == 0:
        return a + b
    return [_join(x, y, depth - 1) for x, y in zip(a, b, strict=True)]


def _number_format(values: list[Any], floating: bool) -> tuple[int, Callable[[Any], str]]:
    """Column width and writer for numbers that are printed together.

    Integers and bools are as wide as the widest.  Floats share one notation, chosen by the finite values that are not zero:
    whole numbers as ``3.``, scientific when they are large, small, or span more than three decades, else fixed point.
    """
    if not floating:
        width = max(len(str(v)) for v in values)
        return width, lambda v: str(v).rjust(width)

    shown = [v for v in values if v and math.isfinite(v)]
    precision = _options.precision
    fixed, scientific = f".{precision}f", f".{precision}e"
    whole = all(v.is_integer() for v in shown)
    exponent = False
    if shown:
        magnitudes = [abs(v) for v in shown]
        largest, smallest = max(magnitudes), min(magnitudes)
        exponent = largest / smallest > 1000 or largest > 1e8 or (not whole and smallest < 1e-4)
        if _options.sci_mode is not None:
            exponent = _options.sci_mode

    def notation(v: float) -> str:
        if exponent:
            return format(v, scientific)
        if not whole:
            return format(v, fixed)
        return format(v, ".0f") + ("." if math.isfinite(v) else "")

    # infinities and NaN do not widen a column: such columns are ragged in PyTorch too
    width = max((len(notation(v)) for v in shown), default=1)
    return width, lambda v: notation(v).rjust(width)


__all__ = ["format_tensor", "get_printoptions", "printoptions", "set_printoptions"]
