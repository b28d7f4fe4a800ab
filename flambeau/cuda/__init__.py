"""The CUDA namespace: without a device it says so plainly."""

from __future__ import annotations

from typing import Any

from ..core.device import device as _device


def is_available() -> bool:
    """Whether a CUDA device can be used: not yet."""
    return False


def device_count() -> int:
    """The number of CUDA devices that can be used."""
    return 0


def is_initialized() -> bool:
    """Whether a CUDA device was used."""
    return False


def require(d: _device) -> None:
    """Raise the error for a CUDA device that is not there."""
    raise AssertionError("Torch not compiled with CUDA enabled\n"
                         f"to('{d}'): this build has no CUDA device. Choose with device = 'cuda' if torch.cuda.is_available() else 'cpu'.")


def init() -> None:
    """Start CUDA."""
    require(_device("cuda"))


def current_device() -> int:
    """The number of the current device."""
    require(_device("cuda"))
    return 0


def get_device_name(device: Any = None) -> str:
    """The name of a device."""
    require(_device("cuda"))
    return ""


def set_device(device: Any) -> None:
    """Choose the current device."""
    require(_device("cuda"))


def manual_seed(seed: int) -> None:
    """Seed the current device's generator: nothing to do without a device."""


def manual_seed_all(seed: int) -> None:
    """Seed every device's generator: nothing to do without a device."""


def synchronize(device: Any = None) -> None:
    """Wait for a device."""
    require(_device("cuda"))


def empty_cache() -> None:
    """Give unused device memory back: nothing to do without a device."""


def memory_allocated(device: Any = None) -> int:
    """Bytes of device memory in use."""
    return 0


def max_memory_allocated(device: Any = None) -> int:
    """The largest number of bytes of device memory in use so far."""
    return 0


def memory_reserved(device: Any = None) -> int:
    """Bytes of device memory held."""
    return 0


def is_bf16_supported() -> bool:
    """Whether the device computes in bfloat16."""
    return False


def max_memory_reserved(device: Any = None) -> int:
    """The largest number of bytes of device memory held so far."""
    return 0


def reset_peak_memory_stats(device: Any = None) -> None:
    """Begin anew to note the largest numbers: nothing to do without a device."""


def ipc_collect() -> None:
    """Give memory back that other processes released: nothing to do without a device."""


def get_device_properties(device: Any = None) -> Any:
    """Name, memory and capability of a device."""
    require(_device("cuda"))


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The major and minor number of a device's capability."""
    require(_device("cuda"))
    return 0, 0


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes of device memory that are free, and of all."""
    require(_device("cuda"))
    return 0, 0


class OutOfMemoryError(RuntimeError):
    """A device has no memory left."""


def __getattr__(name: str) -> Any:
    if name == "amp":
        from importlib import import_module

        return import_module(".amp", __name__)
    raise AttributeError(f"module 'torch.cuda' has no attribute {name!r}: Flambeau does not have torch.cuda.{name} (yet)")
