"""The switch of autocast, as a context manager and decorator, and what ``torch`` has to ask and set it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import flambeau as fl

from ..core.dtype import dtype as _dtype
from ..ops.casting import CASTING, during, switch

_DEVICES = ("cpu", "cuda")
_TYPES = {"cpu": fl.bfloat16, "cuda": fl.float16}       # what autocast uses when it is not told


def is_autocast_available(device_type: str) -> bool:
    """Whether :class:`autocast` exists for devices of this type."""
    return _device(device_type) in _DEVICES


def _device(device_type: Any) -> str:
    if not isinstance(device_type, str):
        raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`\nautocast: give the type of the device, as in "
                         "autocast('cpu') or autocast(device.type).")
    return device_type.partition(":")[0]


class autocast:
    """Compute products of floats in a narrow type, and losses in float32, within a block or a function.

    Matrix products, linear layers, convolutions and attention round their operands to ``dtype`` and give results of it; losses and a few others whose
    results need the range and precision take 16-bit floats as float32.  Everything else has the types of its operands as ever.  float64 is
    left alone.  Parameters stay float32, and so do their gradients.  Keep ``backward()`` outside of the block.

    Parameters
    ----------
    device_type : str
        "cpu", or "cuda", which is off, with a warning, where there is no such device.
    dtype : torch.dtype, optional
        ``torch.bfloat16`` (default on the CPU) or ``torch.float16``.
    enabled : bool
        False: no casts in the block, also within another one.
    cache_enabled : bool, optional
        Accepted: casts are fused into what reads them, there is nothing to cache.

    Raises
    ------
    RuntimeError
        For a device type that autocast does not know.

    Examples
    --------
    >>> import flambeau as torch
    >>> model, x = torch.nn.Linear(4, 2), torch.ones(3, 4)
    >>> with torch.autocast("cpu"):
    ...     y = model(x)
    >>> y.dtype
    torch.bfloat16
    """

    def __init__(self, device_type: str, dtype: Any = None, enabled: bool = True, cache_enabled: bool | None = None) -> None:
        kind = _device(device_type)
        if kind not in _DEVICES:
            raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'\nautocast: expected one of {', '.join(_DEVICES)}.")
        if dtype is not None and not isinstance(dtype, _dtype):
            raise TypeError(f"autocast: expected dtype to be a torch.dtype, got {type(dtype).__name__}")
        self.device, self.fast_dtype = kind, _TYPES[kind] if dtype is None else dtype
        self._cache_enabled = True if cache_enabled is None else cache_enabled
        if enabled and kind == "cuda" and not fl.cuda.is_available():
            warnings.warn("User provided device_type of 'cuda', but CUDA is not available. Disabling. "
                          "autocast('cpu') computes in bfloat16 on the CPU.", UserWarning, stacklevel=2)
            enabled = False
        elif enabled and self.fast_dtype not in (fl.bfloat16, fl.float16):
            warnings.warn(f"In {kind.upper()} autocast, but the target dtype {self.fast_dtype} is not supported. Disabling autocast. "
                          "Use torch.bfloat16 or torch.float16.", UserWarning, stacklevel=2)
            enabled = False
        self._enabled = enabled
        self._before: list[Any] = []

    def __enter__(self) -> autocast:
        self._before.append((CASTING.narrow, _TYPES[self.device]))
        if self.device == "cpu":
            switch(self.fast_dtype if self._enabled else None)
        _TYPES[self.device] = self.fast_dtype
        return self

    def __exit__(self, *exc: object) -> None:
        narrow, _TYPES[self.device] = self._before.pop()
        if self.device == "cpu":
            switch(narrow)

    def __call__(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self:
                return fn(*args, **kwargs)
        return wrapped


# ------------------------------------------------------------------ custom functions


def custom_fwd(fwd: Any = None, *, device_type: str, cast_inputs: Any = None) -> Any:
    """For ``forward`` of a :class:`torch.autograd.Function`: notes autocast's state for ``backward``, or computes in ``cast_inputs`` without it."""
    _device(device_type)
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def forward(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx._autocast = CASTING.narrow if cast_inputs is None else None
        if cast_inputs is None or CASTING.narrow is None:
            return fwd(ctx, *args, **kwargs)
        from ..ops.casting import cast

        with during(None):
            return fwd(ctx, *[cast(v, cast_inputs) for v in args], **{k: cast(v, cast_inputs) for k, v in kwargs.items()})
    return forward


def custom_bwd(bwd: Any = None, *, device_type: str) -> Any:
    """For ``backward`` of a :class:`torch.autograd.Function` whose ``forward`` has :func:`custom_fwd`: the same state of autocast as there."""
    _device(device_type)
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def backward(ctx: Any, *args: Any) -> Any:
        with during(ctx._autocast):
            return bwd(ctx, *args)
    return backward


# ------------------------------------------------------------------ what ``torch`` has


def is_autocast_enabled(device_type: str = "cuda") -> bool:
    """Whether autocast is on for devices of this type."""
    return _device(device_type) == "cpu" and CASTING.narrow is not None


def is_autocast_cpu_enabled() -> bool:
    """Whether autocast is on for the CPU."""
    return CASTING.narrow is not None


def set_autocast_enabled(device_type: Any, enabled: bool | None = None) -> None:
    """Turn autocast on or off for devices of a type; one argument alone means CUDA."""
    if enabled is not None and _device(device_type) == "cpu":
        switch(_TYPES["cpu"] if enabled else None)


def get_autocast_dtype(device_type: str) -> Any:
    """The type that autocast computes products in on devices of this type."""
    return _TYPES[_device(device_type)]


def set_autocast_dtype(device_type: str, dtype: Any) -> None:
    """Set the type that autocast computes products in on devices of this type."""
    _TYPES[_device(device_type)] = dtype
    if _device(device_type) == "cpu" and CASTING.narrow is not None:
        switch(dtype)


def get_autocast_cpu_dtype() -> Any:
    """The type that autocast computes products in on the CPU."""
    return _TYPES["cpu"]


def get_autocast_gpu_dtype() -> Any:
    """The type that autocast computes products in on CUDA devices."""
    return _TYPES["cuda"]


def is_autocast_cache_enabled() -> bool:
    """Whether casts of parameters are kept: there is no need to, they are fused into what reads them."""
    return True


def set_autocast_cache_enabled(enabled: bool) -> None:
    """Accepted; see :func:`is_autocast_cache_enabled`."""


def clear_autocast_cache() -> None:
    """Accepted; see :func:`is_autocast_cache_enabled`."""
