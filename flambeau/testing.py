"""Comparing tensors in tests."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import flambeau as fl

__all__ = ["assert_close", "make_tensor"]

_TOLERANCES = {"float16": (1e-3, 1e-5), "bfloat16": (1.6e-2, 1e-5), "float32": (1.3e-6, 1e-5), "float64": (1e-7, 1e-7)}     # relative, absolute


def assert_close(actual: Any, expected: Any, *, allow_subclasses: bool = True, rtol: float | None = None, atol: float | None = None,
                 equal_nan: bool = False, check_device: bool = True, check_dtype: bool = True, check_layout: bool = True, check_stride: bool = False,
                 msg: str | Callable[[str], str] | None = None) -> None:
    """Assert that tensors, numbers, or sequences and mappings of them are alike: ``|actual - expected| <= atol + rtol * |expected|`` everywhere.

    Parameters
    ----------
    rtol, atol : float, optional
        Both or none; by dtype if left out (float32: 1.3e-6 and 1e-5; integers: equal).
    equal_nan : bool
        NaN equals NaN.
    msg : str or function, optional
        In the place of the message, or what makes one of it.

    Raises
    ------
    AssertionError
        When they differ, with how many elements do, the greatest differences and where they are.
    """
    if (rtol is None) != (atol is None):
        raise ValueError(f"Both 'rtol' and 'atol' must be either specified or omitted, but got no {'atol' if atol is None else 'rtol'}.")

    def fail(text: str, where: str) -> None:
        text += f"\n\nThe failure occurred for item {where}" if where else ""
        raise AssertionError(msg(text) if callable(msg) else text if msg is None else msg)

    def compare(a: Any, e: Any, where: str) -> None:
        if isinstance(a, dict) and isinstance(e, dict):
            if a.keys() != e.keys():
                fail(f"The keys of the mappings do not match:\nMissing keys in the actual mapping: {sorted(e.keys() - a.keys())}\n"
                     f"Additional keys in the actual mapping: {sorted(a.keys() - e.keys())}", where)
            for k in e:
                compare(a[k], e[k], f"{where}[{k!r}]")
            return
        if isinstance(a, (list, tuple)) and isinstance(e, (list, tuple)):
            if len(a) != len(e):
                fail(f"The length of the sequences mismatch: {len(a)} != {len(e)}", where)
            for i, (x, y) in enumerate(zip(a, e, strict=True)):
                compare(x, y, f"{where}[{i}]")
            return
        if a is None and e is None:
            return
        scalars = [isinstance(v, numbers.Number) for v in (a, e)]
        if all(scalars):
            a, e = fl.tensor(a, dtype=fl.float64), fl.tensor(e, dtype=fl.float64)
        elif any(scalars) or a is None or e is None:
            raise TypeError(f"No comparison pair was able to handle inputs of type {type(a)} and {type(e)}.")
        a, e = fl.as_tensor(a).detach(), fl.as_tensor(e).detach()
        if a.shape != e.shape:
            fail(f"The values for attribute 'shape' do not match: {a.shape} != {e.shape}.", where)
        if check_dtype and a.dtype is not e.dtype:
            fail(f"The values for attribute 'dtype' do not match: {a.dtype} != {e.dtype}.", where)
        if check_stride and a.stride() != e.stride():
            fail(f"The values for attribute 'stride()' do not match: {a.stride()} != {e.stride()}.", where)
        found = [_TOLERANCES.get(str(x.dtype).partition(".")[2], (0.0, 0.0)) for x in (a, e)]
        r, t = (max(f[0] for f in found), max(f[1] for f in found)) if rtol is None else (rtol, atol)
        wide = fl.promote_types(a.dtype, e.dtype)
        a, e = (x.to(wide if wide.is_floating_point else fl.int64) for x in (a, e))
        alike = fl.isclose(a, e, rtol=r, atol=t, equal_nan=equal_nan)  # type: ignore[arg-type]
        if alike.all().item():
            return
        apart = (a - e).abs()
        relative = apart / e.abs()
        apart, relative = (x.masked_fill(alike, 0) for x in (apart, relative))
        if a.dim() == 0:
            fail(f"Scalars are not close!\n\nExpected {e.item()} but got {a.item()}.\nAbsolute difference: {apart.item()} (up to {t} allowed)\n"
                 f"Relative difference: {relative.item()} (up to {r} allowed)", where)
        count, bad = alike.numel(), int((~alike).sum().item())
        lines = [f"Tensor-likes are not {'equal' if r == t == 0 else 'close'}!\n", f"Mismatched elements: {bad} / {count} ({100 * bad / count:.1f}%)"]
        for name, d, allowed in (("absolute", apart, t), ("relative", relative, r)):
            at = int(d.argmax().item())
            place = tuple(int(i) for i in fl.unravel_index(fl.tensor(at), d.shape)) if d.dim() else ()
            bound = f" (up to {allowed} allowed)" if r or t else ""
            lines.append(f"Greatest {name} difference: {d.reshape(-1)[at].item()}{f' at index {place}' if place else ''}{bound}")
        fail("\n".join(lines), where)

    compare(actual, expected, "")


def make_tensor(*shape: Any, dtype: Any, device: Any = "cpu", low: float | None = None, high: float | None = None, requires_grad: bool = False,
                noncontiguous: bool = False, exclude_zero: bool = False, memory_format: Any = None) -> Any:
    """A tensor of random values between ``low`` (inclusive) and ``high``; by default -9 to 9, for integers up to 10, for unsigned ones from 0."""
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    if dtype is fl.bool:
        t = fl.randint(0, 2, sizes, device=device).to(fl.bool)
    elif dtype.is_floating_point:
        first, last = -9.0 if low is None else low, 9.0 if high is None else high
        t = (fl.rand(sizes, dtype=fl.float64, device=device) * (last - first) + first).to(dtype)
    else:
        first, last = (0 if dtype is fl.uint8 else -9) if low is None else low, 10 if high is None else high
        t = fl.randint(int(first), int(last), sizes, device=device).to(dtype)
    if exclude_zero:
        t = fl.where(t == 0, fl.ones_like(t), t)
    if noncontiguous and t.numel() > 1:
        t = fl.stack([t, t], -1)[..., 0]
    return t.requires_grad_(requires_grad) if requires_grad else t
