"""Loss scaling (Micikevicius et al., 2018): gradients that float16 would round to zero are computed of a loss that is many times as large."""

from __future__ import annotations

import warnings
from typing import Any

import flambeau as fl

from ..ops.composite import composite

_READY, _UNSCALED, _STEPPED = range(3)


@composite(runtime=("inverse",))
def _unscale(grads: list[Any], inverse: float) -> Any:
    """Multiply the gradients, in place; the result is whether one of them is infinite or nan."""
    bad = None
    for g in grads:
        g.mul_(inverse)
        found = ~fl.isfinite(g).all()
        bad = found if bad is None else bad | found
    return bad


class GradScaler:
    """Scales losses, takes the scale out of gradients again, and leaves out steps whose gradients are infinite or nan.

    After such a step the scale shrinks; after ``growth_interval`` good ones in a row it grows.

    Parameters
    ----------
    device : str
        "cuda" (default; off, with a warning, where there is no such device) or "cpu".
    init_scale : float
        The first scale.
    growth_factor, backoff_factor : float
        What the scale is multiplied with: above 1, and below 1.
    growth_interval : int
        Good steps in a row before the scale grows.
    enabled : bool
        False: losses are not scaled, and :meth:`step` is the optimizer's.

    Examples
    --------
    >>> import flambeau as torch
    >>> model = torch.nn.Linear(2, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    >>> loss = model(torch.ones(1, 2)).square().mean()
    >>> scaler.scale(loss).backward()
    >>> scaler.step(optimizer)
    >>> scaler.update()
    >>> scaler.get_scale()
    1024.0
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0**16, growth_factor: float = 2.0, backoff_factor: float = 0.5,
                 growth_interval: int = 2000, enabled: bool = True) -> None:
        self._device = str(device).partition(":")[0]
        if enabled and self._device == "cuda" and not fl.cuda.is_available():
            warnings.warn("torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling. GradScaler('cpu') works on the CPU.",
                          UserWarning, stacklevel=2)
            enabled = False
        self._enabled = enabled
        if enabled:
            if growth_factor <= 1.0:
                raise AssertionError(f"The growth factor must be > 1.0, got {growth_factor}.")
            if backoff_factor >= 1.0:
                raise AssertionError(f"The backoff factor must be < 1.0, got {backoff_factor}.")
        self._init_scale = float(init_scale)
        self._scale: float | None = None            # until a loss is scaled
        self._growth_factor, self._backoff_factor, self._growth_interval = growth_factor, backoff_factor, growth_interval
        self._growth_tracker = 0                    # good steps in a row
        self._optimizers: dict[int, list[Any]] = {}     # by id, since the last update: [stage, whether gradients are bad]

    # ------------------------------------------------------------------ an iteration

    def scale(self, outputs: Any) -> Any:
        """A tensor times the scale, or those in a list or tuple."""
        if not self._enabled:
            return outputs
        if self._scale is None:
            self._scale = self._init_scale
        if isinstance(outputs, fl.Tensor):
            return outputs * self._scale
        if isinstance(outputs, (list, tuple)):
            made = [self.scale(x) for x in outputs]
            return type(outputs)(*made) if hasattr(outputs, "_fields") else type(outputs)(made)
        if hasattr(outputs, "__iter__") and not isinstance(outputs, str):
            return map(self.scale, outputs)
        raise ValueError(f"outputs must be a Tensor or an iterable of Tensors, got {type(outputs).__name__}")

    def unscale_(self, optimizer: Any) -> None:
        """Take the scale out of the gradients of the optimizer's parameters, before they are clipped, say.

        Raises
        ------
        RuntimeError
            When it was called before since the last :meth:`update`, or :meth:`step` was.
        ValueError
            For gradients of float16: the scale is for keeping those of float32 parameters apart.
        """
        if not self._enabled:
            return
        self._started("unscale_")
        state = self._of(optimizer)
        if state[0] == _UNSCALED:
            raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if state[0] == _STEPPED:
            raise RuntimeError("unscale_() is being called after step().")
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(g.dtype is fl.float16 for g in grads):
            raise ValueError("Attempting to unscale FP16 gradients.\nGradScaler: keep the parameters float32, without model.half(): "
                             "autocast casts them where they are used.")
        state[1] = self._unscaled(grads) if grads else None
        state[0] = _UNSCALED

    def _unscaled(self, grads: list[Any]) -> Any:
        with fl.no_grad():
            return _unscale(grads, 1.0 / self._scale)  # type: ignore[operator]

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """``optimizer.step(*args, **kwargs)`` with gradients without the scale, unless one is infinite or nan: then nothing, and None."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        if "closure" in kwargs:
            raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._started("step")
        state = self._of(optimizer)
        if state[0] == _STEPPED:
            raise RuntimeError("step() has already been called since the last update().")
        if state[0] == _READY:
            self.unscale_(optimizer)
        if state[1] is None:
            raise AssertionError("No inf checks were recorded for this optimizer.\nGradScaler.step: none of its parameters has a gradient; "
                                 "call scaler.scale(loss).backward() first.")
        state[0], state[1] = _STEPPED, state[1].item()
        return None if state[1] else optimizer.step(*args, **kwargs)

    def update(self, new_scale: Any = None) -> None:
        """Adapt the scale after the steps of an iteration, or set it."""
        if not self._enabled:
            return
        self._started("update")
        if new_scale is not None:
            self._scale = float(new_scale)
        else:
            found = [bool(bad) for _, bad in self._optimizers.values() if bad is not None]
            if not found:
                raise AssertionError("No inf checks were recorded prior to update.\nGradScaler.update: call step() or unscale_() first.")
            if any(found):
                self._scale *= self._backoff_factor  # type: ignore[operator]
                self._growth_tracker = 0
            else:
                self._growth_tracker += 1
                if self._growth_tracker == self._growth_interval:
                    self._scale *= self._growth_factor  # type: ignore[operator]
                    self._growth_tracker = 0
        self._optimizers.clear()

    def _started(self, what: str) -> None:
        if self._scale is None:
            raise AssertionError(f"Attempted {what} but _scale is None.  This may indicate your script did not use scaler.scale(loss or outputs) "
                                 "earlier in the iteration.")

    def _of(self, optimizer: Any) -> list[Any]:
        return self._optimizers.setdefault(id(optimizer), [_READY, None])

    # ------------------------------------------------------------------ its settings

    def is_enabled(self) -> bool:
        """Whether losses are scaled."""
        return self._enabled

    def get_scale(self) -> float:
        """The scale; 1 where losses are not scaled."""
        return (self._init_scale if self._scale is None else self._scale) if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the scale is multiplied with after enough good steps."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied with after enough good steps."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied with after a bad step."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Set what the scale is multiplied with after a bad step."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good steps in a row make the scale grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Set how many good steps in a row make the scale grow."""
        self._growth_interval = new_interval

    def state_dict(self) -> dict[str, Any]:
        """What :meth:`load_state_dict` needs to go on; empty where losses are not scaled."""
        if not self._enabled:
            return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor,
                "growth_interval": self._growth_interval, "_growth_tracker": self._growth_tracker}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the scale of another one."""
        if not self._enabled:
            return
        if not state_dict:
            raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._init_scale = float(state_dict["scale"])
        if self._scale is not None:
            self._scale = self._init_scale
        self._growth_factor, self._backoff_factor = state_dict["growth_factor"], state_dict["backoff_factor"]
        self._growth_interval, self._growth_tracker = state_dict["growth_interval"], state_dict["_growth_tracker"]
