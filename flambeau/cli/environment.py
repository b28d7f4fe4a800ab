"""``python -m flambeau env`` and ``cache``: what this installation is made of and what it keeps on disk.

Reads package metadata without relying on the packages, so that the command works where one of them is broken.
"""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from ..runtime import images
from ..version import __version__


def print_environment() -> None:
    """Print versions, processor, vector width and cache, one per line, ready to paste into a bug report."""
    from ..runtime import cpu

    count, size = _cache_contents()
    rows = {
        "flambeau": f"{__version__}  ({os.path.dirname(os.path.dirname(os.path.abspath(__file__)))})",
        "python": f"{platform.python_version()}  ({sys.executable})",
        "numpy": _installed("numpy"),
        "llvmlite": _installed("llvmlite"),
        "platform": platform.platform(),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "vectors": f"{8 * cpu.vector_bytes()} bits",
        "kernels": _kernels(),
        "cache": f"{images.directory() or 'in memory only'}  ({count} entries, {size / 2**20:.1f} MiB)",
    }
    settings = {name: value for name, value in sorted(os.environ.items()) if name.startswith("FLAMBEAU_") or name == "OMP_NUM_THREADS"}
    width = max(map(len, [*rows, *settings]))
    for name, value in {**rows, **settings}.items():
        print(f"{name:<{width}}  {value}")


def cache(words: list[str]) -> None:
    """``cache`` tells where compiled kernels are kept; ``cache clear`` removes them."""
    count, size = _cache_contents()
    if words == ["clear"]:
        images.clear()
        print(f"removed {count} entries ({size / 2**20:.1f} MiB) from {images.directory()}")
    elif not words:
        print(f"{images.directory()}: {count} entries, {size / 2**20:.1f} MiB")
    else:
        sys.exit(f"python -m flambeau cache: expected nothing or `clear`, got {' '.join(words)!r}")


def _kernels() -> str:
    """What executes kernels; LLVM is loaded to see whether it can be."""
    from ..core import config
    from ..runtime import llvm

    if config.renderer == "reference":
        return "reference (NumPy): FLAMBEAU_RENDERER asks for it"
    try:
        llvm.functions()
    except Exception as error:
        return f"reference (NumPy): llvmlite cannot be loaded ({error})"
    return "machine code (LLVM)"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _cache_contents() -> tuple[int, int]:
    """Number of files in the cache directory and their bytes together."""
    sizes = []
    for folder, _, files in os.walk(images.directory() or os.devnull):
        for file in files:
            try:
                sizes.append(os.path.getsize(os.path.join(folder, file)))
            except OSError:
                pass                        # another process renamed or removed it meanwhile
    return len(sizes), sum(sizes)
