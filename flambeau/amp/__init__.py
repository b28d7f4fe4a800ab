"""Automatic mixed precision: :class:`autocast` computes products in 16-bit floats, :class:`GradScaler` keeps small gradients of float16 above zero."""

from .autocast_mode import autocast, custom_bwd, custom_fwd, is_autocast_available
from .grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
