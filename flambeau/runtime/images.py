"""The disk cache: machine-code images and plans that survive the process.

An entry is found by its kind and a digest of its key, the processor and the versions of what produced it, so nothing stale
is ever found.  The directory belongs to the user alone; entries appear whole or not at all, are checked by digest when read,
and the ones longest unused are removed when there are too many.  Nothing here imports llvmlite or NumPy.
"""

from __future__ import annotations

import os
import sys
import time
import warnings

from ..version import __version__

try:
    from _blake2 import blake2b  # hashlib takes 4 ms to load OpenSSL's digests as well
except ImportError:
    from hashlib import blake2b

FORMAT = b"flambeau image 1"         # opens every entry; changed whenever the meaning of entries changes
CHECK_EVERY = 16 << 20              # bytes written between two looks at the directory's size
HOUR, DAY = 3600.0, 86400.0
BLOCK = 4096                        # what an entry takes of the disk is a multiple of this

_directory: str | None = None
_state = "unopened"                 # then "open" or "closed"
_salt: bytes | None = None
_compiler: tuple[str | None] | None = None      # once it was looked for
_written = 0                        # bytes since this process looked at the directory's size
_looked = False                     # whether it knows that somebody looked lately


def digest(data: bytes, salt: bytes = b"") -> bytes:
    """16 bytes that identify ``data``."""
    return blake2b(data, digest_size=16, key=salt).digest()


def get(kind: str, key: bytes) -> bytes | None:
    """The data kept under ``kind`` and ``key``, or None when there is none that is intact.

    Parameters
    ----------
    kind : str
        One letter for the sort of entry: "k" kernels, "p" plans, "h" what is known of the host.
    key : bytes
        Everything the data depends on besides the processor and the versions.
    """
    if directory() is None:
        return None
    path = _path(kind, key)
    try:
        with open(path, "rb", 0) as file:
            entry = file.read()
            age = time.time() - os.fstat(file.fileno()).st_mtime
    except OSError:
        return None
    head = len(FORMAT) + 16
    if entry[: len(FORMAT)] != FORMAT or entry[len(FORMAT) : head] != digest(entry[head:]):
        return None                 # damaged: the next put replaces it
    if age > DAY:                   # modification time means last use, to the day
        try:
            os.utime(path)
        except OSError:
            pass
    return entry[head:]


def put(kind: str, key: bytes, data: bytes) -> None:
    """Keep ``data`` under ``kind`` and ``key``; without a usable directory, do nothing."""
    global _written, _looked
    folder = directory()
    if folder is None:
        return
    path = _path(kind, key)
    # written under a name of its own, then renamed: other processes see all of it or nothing, whenever this one is killed
    temporary = f"{path}.{os.getpid()}-{time.monotonic_ns()}.tmp"
    try:
        with open(temporary, "xb", 0) as file:
            file.write(FORMAT + digest(data) + data)
        os.replace(temporary, path)
    except OSError as error:
        _close(f"cannot write to {folder}: {error.strerror or error}")
        try:
            os.unlink(temporary)
        except OSError:
            pass
        return
    _written += len(data)
    if _written > CHECK_EVERY or (not _looked and _unwatched(folder)):
        _written = 0
        evict(limit())
        try:
            with open(os.path.join(folder, "looked"), "wb"):
                pass                # its age tells other processes
        except OSError:
            pass
    _looked = True


def _unwatched(folder: str) -> bool:
    """Whether no process has looked at the directory's size for an hour: that takes 0.1 s when it is full."""
    try:
        return time.time() - os.stat(os.path.join(folder, "looked")).st_mtime > HOUR
    except OSError:
        return True


def limit() -> int:
    """Bytes the directory may hold: ``FLAMBEAU_CACHE_LIMIT`` in MiB, 256 unless set."""
    try:
        return int(os.environ.get("FLAMBEAU_CACHE_LIMIT", "256")) << 20
    except ValueError:
        return 256 << 20


def evict(keep: int) -> None:
    """Remove the entries longest unused until at most ``keep`` bytes of the disk are used, and what killed processes left behind."""
    folder = directory()
    if folder is None:
        return
    entries = []
    now = time.time()
    with os.scandir(folder) as listing:
        for item in listing:
            try:
                info = item.stat()
            except OSError:
                continue
            if item.name.endswith(".tmp"):
                if now - info.st_mtime > HOUR:
                    _remove(item.path)
            elif item.name.endswith(".image"):
                entries.append((info.st_mtime, (info.st_size + BLOCK - 1) & -BLOCK, item.path))
    total = sum(size for _, size, _ in entries)
    if total <= keep:
        return
    entries.sort()
    for _, size, path in entries:
        _remove(path)
        total -= size
        if total <= keep * 3 // 4:  # room, so that the next write does not start over
            break


def clear() -> None:
    """Remove every entry."""
    evict(-1)
    if _directory is not None:
        _remove(os.path.join(_directory, "looked"))


def directory() -> str | None:
    """The cache directory, made on first use; None when there is none that is safe to use."""
    global _directory, _state
    if _state == "unopened":
        _state = "open"
        _directory = _location()
        problem = _prepare(_directory)
        if problem:
            _close(problem)
    return _directory


def reopen() -> None:
    """Look at the environment again (it was changed, or a test wants another directory)."""
    global _state, _directory, _written, _looked, _salt, _compiler
    _state, _directory, _written, _looked, _salt, _compiler = "unopened", None, 0, False, None, None


def compiler_version() -> str | None:
    """Which llvmlite would be imported, found without importing it; None when there is none."""
    global _compiler
    if _compiler is None:
        _compiler = (_find_compiler(),)
    return _compiler[0]


def _find_compiler() -> str | None:
    module = sys.modules.get("llvmlite")
    if module is not None:
        return str(module.__version__)
    for folder in sys.path:
        try:
            with open(os.path.join(folder, "llvmlite", "_version.py"), encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue
        return text.partition("version_version = '")[2].partition("'")[0] or text
    return None


def processor() -> str:
    """Enough of the processor's description to tell two apart whose machine code may differ."""
    machine = f"{sys.platform} {getattr(os, 'uname', lambda: ' ' * 5)()[4]} {os.environ.get('PROCESSOR_IDENTIFIER', '')}"
    try:
        with open("/proc/cpuinfo", "rb", 0) as file:    # the first processor only: the file is long on large machines
            first = file.read(8192).partition(b"\n\n")[0].decode("ascii", "replace")
    except OSError:
        return machine
    telling = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU implementer", "CPU part", "isa")
    return "\n".join([machine, *(line for line in first.splitlines() if line.partition(":")[0].strip() in telling)])


def _location() -> str:
    chosen = os.environ.get("FLAMBEAU_CACHE")
    if chosen:
        return os.path.abspath(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(base, "flambeau")


def _prepare(folder: str) -> str | None:
    """Make ``folder`` or check that nobody else can plant code in it; what is wrong, if anything."""
    try:
        os.makedirs(os.path.dirname(folder), exist_ok=True)
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        info = os.stat(folder)
    except OSError as error:
        return f"cannot make {folder}: {error.strerror or error}"
    if hasattr(os, "geteuid"):
        if info.st_uid != os.geteuid():
            return f"{folder} belongs to another user"
        if info.st_mode & 0o022:
            return f"{folder} can be written by other users (chmod 700 would make it usable)"
    return None if os.path.isdir(folder) else f"{folder} is not a directory"


def _close(problem: str) -> None:
    global _state, _directory
    if _state != "closed":
        _state, _directory = "closed", None
        warnings.warn(
            f"flambeau keeps compiled kernels in memory only: {problem}. Set FLAMBEAU_CACHE to a directory of your own.", stacklevel=3
        )


def _path(kind: str, key: bytes) -> str:
    global _salt
    if _salt is None:
        _salt = digest("\n".join([FORMAT.decode(), __version__, str(compiler_version()), processor()]).encode())
    return f"{_directory}{os.sep}{kind}{digest(key, _salt).hex()}.image"


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass                        # another process was faster
