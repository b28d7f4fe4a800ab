"""LLVM: texts in, object code out, on as many threads as there are.

The dozen functions of llvmlite's library that this needs are called through ctypes here: llvmlite's own layer takes longer to import than a kernel
takes to compile, and lets in one thread at a time.  Every :class:`Compiler` has a context and a target machine of its own, so that two of them
share nothing.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_void_p
from typing import Any

from . import images

# Results and arguments.  Pointers to what LLVM makes are plain numbers; a text that LLVM gives back is a pointer that is filled in.
FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "GetVersionInfo": (c_uint,),
    "InitializeNativeTarget": (None,),
    "InitializeNativeAsmPrinter": (None,),
    "GetHostCPUName": (None, POINTER(c_void_p)),
    "GetHostCPUFeatures": (c_int, POINTER(c_void_p)),
    "GetProcessTriple": (None, POINTER(c_void_p)),
    "GetTargetFromTriple": (c_void_p, c_char_p, POINTER(c_void_p)),
    # target, triple, processor, features, level, relocations, code model, whether to print, whether for a JIT, ABI
    "CreateTargetMachine": (c_void_p, c_void_p, c_char_p, c_char_p, c_char_p, c_int, c_char_p, c_char_p, c_int, c_int, c_char_p),
    "DisposeTargetMachine": (None, c_void_p),
    "ContextCreate": (c_void_p,),
    "ContextDispose": (None, c_void_p),
    "ParseAssembly": (c_void_p, c_void_p, c_char_p, POINTER(c_void_p)),
    "DisposeModule": (None, c_void_p),
    "TargetMachineEmitToMemory": (c_void_p, c_void_p, c_void_p, c_int, POINTER(c_void_p)),
    "GetBufferStart": (c_void_p, c_void_p),
    "GetBufferSize": (c_size_t, c_void_p),
    "DisposeMemoryBuffer": (None, c_void_p),
    "DisposeString": (None, c_void_p),
    "SetCommandLine": (None, c_char_p, c_char_p),
}
KNOWN = (0, 50)         # the last llvmlite whose functions were compared with these
FILE = {"darwin": "libllvmlite.dylib", "win32": "llvmlite.dll"}.get(sys.platform, "libllvmlite.so")

_library: dict[str, Any] = {}


def functions() -> dict[str, Any]:
    """LLVM's functions by the names in :data:`FUNCTIONS`, ready for this processor.

    Raises
    ------
    ImportError, OSError
        llvmlite is not there, or its library cannot be used.
    """
    if not _library:
        if _later(images.compiler_version() or ""):
            differences = disagreements()
            if differences:
                raise ImportError(f"this version has other functions: {', '.join(differences)}")
        library = ctypes.CDLL(_path())
        found = {}
        for name, (result, *arguments) in FUNCTIONS.items():
            try:
                function = library[f"LLVMPY_{name}"]
            except AttributeError:
                raise OSError(f"its library has no {name}") from None
            function.restype, function.argtypes = result, arguments
            found[name] = function
        found["InitializeNativeTarget"]()
        found["InitializeNativeAsmPrinter"]()
        _library.update(found)
    return _library


def _path() -> str:
    """Where llvmlite keeps its library, without importing llvmlite."""
    from importlib.util import find_spec

    spec = find_spec("llvmlite")
    if spec is None:
        raise ImportError("no module named llvmlite")
    for folder in spec.submodule_search_locations or ():
        path = os.path.join(folder, "binding", FILE)
        if os.path.exists(path):
            return path
    raise ImportError(f"it has no {FILE}")


def _later(version: str) -> bool:
    """Whether a version of llvmlite came out after the last one that is known here."""
    numbers = version.split(".")[:2]
    return all(n.isdigit() for n in numbers) and tuple(map(int, numbers)) > KNOWN


def disagreements() -> list[str]:
    """The functions that llvmlite itself, which is imported for this, calls with other arguments."""
    from llvmlite.binding import ffi

    found = []
    for name, (_, *arguments) in FUNCTIONS.items():
        theirs = getattr(ffi.lib, f"LLVMPY_{name}").argtypes
        if theirs is not None and [ctypes.sizeof(t) for t in theirs] != [ctypes.sizeof(t) for t in arguments]:     # None: not said
            found.append(name)
    return found


def host() -> tuple[str, str, str]:
    """What LLVM calls this processor, its features, and the triple of this process."""
    f = functions()
    return _answer(f["GetHostCPUName"]), ",".join(sorted(_answer(f["GetHostCPUFeatures"]).split(","), key=lambda x: x[1:])), _answer(f["GetProcessTriple"])


def version() -> int:
    """LLVM's major version."""
    return int(functions()["GetVersionInfo"]()) >> 16


def reduce_strength(on: bool) -> None:
    """Let LLVM's loop strength reduction run or not: it takes a third of the time and gains nothing on loops that are written out as ours are.

    It is an option of the whole process, and LLVM exits where it does not know one.
    """
    if 20 <= version() <= 22:
        functions()["SetCommandLine"](b"flambeau", b"-disable-lsr=false" if on else b"-disable-lsr=true")


class Compiler:
    """A target machine; one thread at a time may use it."""

    def __init__(self, triple: str, processor: str, features: str) -> None:
        self.functions = f = functions()
        problem = c_void_p()
        target = f["GetTargetFromTriple"](triple.encode(), byref(problem))
        if not target:
            raise OSError(_taken(problem))
        level = 2
        self.machine = f["CreateTargetMachine"](target, triple.encode(), processor.encode(), features.encode(), level, b"pic", b"small", 0, 0, b"")
        if not self.machine:
            raise OSError("LLVM makes no code for this processor")

    def object_code(self, text: str) -> bytes:
        """The object file of a module."""
        f, problem = self.functions, c_void_p()
        context = f["ContextCreate"]()
        try:
            module = f["ParseAssembly"](context, text.encode(), byref(problem))
            if not module:
                raise ValueError(f"LLVM cannot read this text: {_taken(problem)}")
            try:
                buffer = f["TargetMachineEmitToMemory"](self.machine, module, 1, byref(problem))
            finally:
                f["DisposeModule"](module)
            if not buffer:
                raise RuntimeError(f"LLVM makes no code: {_taken(problem)}")
            try:
                return ctypes.string_at(f["GetBufferStart"](buffer), f["GetBufferSize"](buffer))
            finally:
                f["DisposeMemoryBuffer"](buffer)
        finally:
            f["ContextDispose"](context)


def _answer(function: Any) -> str:
    """What a function tells."""
    text = c_void_p()
    function(byref(text))
    return _taken(text)


def _taken(text: c_void_p) -> str:
    """A text that LLVM gave away."""
    if not text:
        return ""
    try:
        return ctypes.string_at(text.value or 0).decode("utf-8", "replace")
    finally:
        functions()["DisposeString"](text)
