"""Machine code on the CPU: LLVM IR texts in, addresses of kernels out.

A kernel seen before in this process is an entry of a table; seen before on this machine it is an image from the disk cache:
position-independent bytes that are copied into memory and made executable, without LLVM.  Only what is new is compiled,
all of one call together, on the threads there are; LLVM is loaded then and not before.  ``pool`` runs what is loaded here.
"""

from __future__ import annotations

import ctypes
import marshal
import os
import struct
import time
import warnings
from _thread import RLock, allocate_lock, start_new_thread  # threading takes as long to import as a whole warm start
from collections.abc import Sequence
from typing import Any

from . import images

STATS: dict[str, float] = {"compiled": 0, "disk_hits": 0, "compile_seconds": 0.0, "load_seconds": 0.0}

_addresses: dict[bytes, int] = {}       # digest of the text -> address
_keys: dict[str, bytes] = {}            # the digests of the last texts
_lock = RLock()
_keep: list[Any] = []                   # mappings and trackers that own the code
_compilers: _Compilers | None = None
_host: dict[str, Any] | None = None
_missing: str | None = None             # why llvmlite could not be loaded


def _after_fork() -> None:
    global _lock, _compilers
    _lock = RLock()                     # another thread may have held it in the parent,
    _compilers = None                   # in the middle of compiling


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Unavailable(RuntimeError):
    """Kernels cannot be compiled here: llvmlite is missing or broken."""


# ---------------------------------------------------------------- loading

def load(texts: Sequence[str]) -> list[int]:
    """The addresses of the functions that ``texts`` define.

    Parameters
    ----------
    texts : sequence of str
        LLVM IR, one function definition each, not indented, named ``@NAME``, with ``#ATTR`` where its attributes go, followed or preceded
        by the internal functions (``@NAME.word``) and the ``declare`` lines it needs.

    Returns
    -------
    list of int
        In the order of ``texts``.

    Raises
    ------
    Unavailable
        A text is new and llvmlite cannot be loaded.
    """
    keys = [key_of(text) for text in texts]
    with _lock:
        missing = _fetch(keys)
        if missing:
            began = time.perf_counter()
            wanted = set(missing)
            compiled = _compile({key: text for key, text in zip(keys, texts, strict=True) if key in wanted})
            for key, image in compiled.items():
                images.put("k", key, image)
            STATS["compiled"] += len(missing)
            STATS["compile_seconds"] += time.perf_counter() - began
            _addresses.update(_install(compiled))
    return [_addresses[key] for key in keys]


def known(keys: Sequence[bytes]) -> list[int] | None:
    """The addresses of functions by the keys of their texts; None when one of them has to be compiled."""
    with _lock:
        return None if _fetch(keys) else [_addresses[key] for key in keys]


def key_of(text: str) -> bytes:
    """What a function is called by in this process and on the disk."""
    key = _keys.get(text)
    if key is None:
        if len(_keys) >= 1024:
            _keys.clear()
        key = _keys[text] = images.digest(text.encode())
    return key


def _fetch(keys: Sequence[bytes]) -> list[bytes]:
    """Load from the disk what this process does not have yet; returns the keys of what is not there either."""
    new = [key for key in dict.fromkeys(keys) if key not in _addresses]
    if not new:
        return new
    began = time.perf_counter()
    found: dict[bytes, bytes] = {}

    def get(key: bytes) -> bool:
        if key in _addresses or key in found:
            return True
        image = images.get("k", key)
        if image is None or not all(map(get, _shared_keys(image))):
            return False
        found[key] = image
        return True
    missing = [key for key in new if not get(key)]
    STATS["disk_hits"] += len(new) - len(missing)
    _addresses.update(_install(found))
    STATS["load_seconds"] += time.perf_counter() - began
    return missing


def available() -> bool:
    """Whether kernels can be compiled; warns once when they cannot."""
    global _missing
    if _missing is None and images.compiler_version() is None:
        _no_compiler("no module named llvmlite")
    return _missing is None


def vector_bytes() -> int:
    """The width of this processor's vector registers: 64 (AVX-512), 32 (AVX2) or 16."""
    return int(host()["vector_bytes"])


def bfloat16_pairs() -> str:
    """How this processor multiplies bfloat16 fastest: ``"matrix"`` (AMX), ``"words"`` (AVX512_BF16) or, as float32, ``""``.

    Intel's AVX512_BF16 is slower than its products of float32 (measured on Emerald Rapids: 0.6 of them), AMD's twice as fast.
    """
    if has_matrix_unit():
        return "matrix"
    return "words" if has_bfloat16_pairs() and str(host()["cpu"]).startswith("znver") else ""


def has_bfloat16_pairs() -> bool:
    """Whether there is AVX512_BF16, fast or slow."""
    return vector_bytes() == 64 and "+avx512bf16" in str(host()["features"]).split(",")


_matrix_unit: bool | None = None


def has_matrix_unit() -> bool:
    """Whether there is AMX for bfloat16 and the system lets this process use it: its registers are given out on request."""
    global _matrix_unit
    if _matrix_unit is None:
        features = str(host()["features"]).split(",")
        _matrix_unit = vector_bytes() == 64 and {"+amx-bf16", "+amx-tile"} <= set(features) and _request_tiles()
    return _matrix_unit


def _request_tiles() -> bool:
    """Ask Linux for the tile registers of this process; refused, for one, where a thread's signal stack has no room for them."""
    arch_prctl, request, tile_data = 158, 0x1023, 18
    try:
        return ctypes.CDLL(None).syscall(ctypes.c_long(arch_prctl), ctypes.c_long(request), ctypes.c_long(tile_data)) == 0
    except (AttributeError, OSError):
        return False


def host() -> dict[str, Any]:
    """What is known of this processor: ``cpu`` and ``features`` as LLVM names them, ``triple`` and ``vector_bytes``.

    LLVM is asked once; then the answer comes from the disk cache.
    """
    global _host
    if _host is None:
        kept = images.get("h", b"host")
        if kept is not None:
            _host = marshal.loads(kept)
        elif available():
            from . import llvm

            try:
                cpu, features, triple = llvm.host()
            except (ImportError, OSError) as error:
                _no_compiler(str(error))
                return host()
            has = set(features.split(","))
            wide = {"+avx512f", "+avx512bw", "+avx512dq", "+avx512vl"} <= has
            _host = {"cpu": cpu, "features": features, "triple": triple, "vector_bytes": 64 if wide else 32 if {"+avx2", "+fma"} <= has else 16}
            if "+avx512vbmi2" in has:       # from Ice Lake and Zen 4 on: 64-bit quotients are not worth a branch to 32-bit ones
                _host["features"] += ",-idivq-to-divl"
            images.put("h", b"host", marshal.dumps(_host))
        else:
            _host = {"cpu": "", "features": "", "triple": "", "vector_bytes": 16}
    assert _host is not None
    return _host


# ---------------------------------------------------------------- compiling

def _no_compiler(why: str) -> None:
    global _missing
    _missing = why
    warnings.warn(
        f"flambeau runs on its slow reference interpreter: llvmlite cannot be loaded ({why}). `pip install llvmlite` makes it fast.",
        stacklevel=3,
    )


class _Compilers:
    """One for each thread that compiles, and the linker for objects that are no flat image."""

    def __init__(self) -> None:
        known = host()
        self.idle = [self._another()]
        bits = 8 * known["vector_bytes"]
        self.attributes = (
            f'nounwind "frame-pointer"="none" "target-cpu"="{known["cpu"]}" '
            f'"prefer-vector-width"="{bits}" "min-legal-vector-width"="{bits}"'
        )
        self.linker: Any = None

    def _another(self) -> Any:
        from . import llvm

        known = host()
        if _missing is None:
            try:
                return llvm.Compiler(known["triple"], known["cpu"], known["features"])
            except (ImportError, OSError) as error:
                _no_compiler(str(error))
        raise Unavailable(f"llvmlite cannot be loaded: {_missing}")

    def module(self, texts: dict[bytes, str], apart: bool) -> str:
        """The functions of several texts; with a section for each (``apart``) it can be cut out of the common object."""
        declared: dict[str, None] = {}
        bodies = []
        for key, text in texts.items():
            functions, declarations = _taken_apart(text)
            declared.update(dict.fromkeys(declarations))
            body = "".join(functions).replace("@NAME", "@" + _name(key))
            bodies.append(body.replace("#ATTR", f'{self.attributes} section ".text.{_name(key)}"' if apart else self.attributes))
        return "".join([*bodies, *declared])

    def object_codes(self, texts: Sequence[str], threads: int) -> list[bytes]:
        """The object files of modules, made on up to so many threads."""
        from . import llvm

        found = [b""] * len(texts)
        waiting = list(reversed(range(len(texts))))
        problems: list[BaseException] = []

        def work(compiler: Any) -> None:
            try:
                while waiting and not problems:
                    i = waiting.pop()
                    found[i] = compiler.object_code(texts[i])
            except IndexError:          # another thread was faster
                pass
            except BaseException as problem:
                problems.append(problem)
            self.idle.append(compiler)

        def run(compiler: Any, end: Any) -> None:
            work(compiler)
            end.release()

        ends = []
        llvm.reduce_strength(False)
        try:
            compiler = self.idle.pop() if self.idle else self._another()
            for _ in range(min(threads, len(texts)) - 1):
                end = allocate_lock()
                end.acquire()
                try:
                    start_new_thread(run, (self.idle.pop() if self.idle else self._another(), end))
                except RuntimeError:    # the system refuses a thread
                    break
                ends.append(end)
            work(compiler)
        finally:
            for end in ends:
                end.acquire()
            llvm.reduce_strength(True)
        if problems:
            raise problems[0]
        return found

    def link(self, code: bytes, name: str) -> int:
        """The address of ``name`` in an object, linked into this process by LLVM."""
        import llvmlite.binding as binding

        if self.linker is None:
            known = host()
            binding.initialize_native_target()
            binding.initialize_native_asmprinter()
            machine = binding.Target.from_triple(known["triple"]).create_target_machine(
                cpu=known["cpu"], features=known["features"], opt=2, reloc="pic", codemodel="small")
            self.linker = binding.create_lljit_compiler(machine, use_jit_link=False)
        library = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(name)
        tracker = library.link(self.linker, f"library{len(_keep)}")
        _keep.append(tracker)
        return int(tracker[name])


def _start() -> _Compilers:
    global _compilers
    if _compilers is None:
        _compilers = _Compilers()
    return _compilers


def _compile(texts: dict[bytes, str]) -> dict[bytes, bytes]:
    """One image for each text, and for what they share: flat where this format can be laid out, else the object itself."""
    from . import pool

    compilers, threads = _start(), min(pool.threads(), pool.processors())
    if _machine_of(host()["triple"]) is not None:
        everything, shared = _shared(texts)
        missing = set(_fetch(list(shared)))
        everything.update((key, text) for key, text in shared.items() if key in missing)
        parts = _parts(everything)
        modules = []
        for part in parts:
            declarations = [_declaration(_name(key), text) for key, text in shared.items() if key not in part]
            modules.append("\n".join([compilers.module(part, True), *declarations]))
        codes = compilers.object_codes(modules, threads)
        try:
            return {key: b"F" + flatten(code, _name(key)) for part, code in zip(parts, codes, strict=True) for key in part}
        except UnknownRelocation:
            pass
    codes = compilers.object_codes([compilers.module({key: text}, False) for key, text in texts.items()], threads)
    return {key: b"O" + _name(key).encode() + b"\0" + code for key, code in zip(texts, codes, strict=True)}


def _parts(texts: dict[bytes, str]) -> list[dict[bytes, str]]:
    """The texts in groups of about the same length, for as many modules: however many threads there are, so that images are the same."""
    count = max(1, min(MOST_PARTS, len(texts), sum(map(len, texts.values())) // PART))
    parts: list[dict[bytes, str]] = [{} for _ in range(count)]
    lengths = [0] * count
    for key in sorted(texts, key=lambda key: -len(texts[key])):
        i = lengths.index(min(lengths))
        parts[i][key] = texts[key]
        lengths[i] += len(texts[key])
    return parts


PART, MOST_PARTS = 40_000, 16       # characters of a module that can be split: each takes LLVM a millisecond by itself
SHARED = 4096           # characters from which an internal function is compiled once for all kernels that have it


def _name(key: bytes) -> str:
    return f"{_PREFIX}{key.hex()}"


_PREFIX = "kernel_"


def _shared(texts: dict[bytes, str]) -> tuple[dict[bytes, str], dict[bytes, str]]:
    """The texts calling what several of them may have, the micro-kernels of products above all, by names; and these functions by their keys.

    A function that calls another of its text stays.
    """
    import re

    out: dict[bytes, str] = {}
    shared: dict[bytes, str] = {}
    for key, text in texts.items():
        if len(text) < SHARED:
            out[key] = text
            continue
        names: dict[str, str] = {}          # in the text, and elsewhere
        functions, declarations = _taken_apart(text)
        rest = []
        for function in functions:
            name = function[function.index("@"):function.index("(")]
            own = function.replace("define internal", "define dso_local").replace(name, "@NAME")
            if len(own) < SHARED or name == "@NAME" or "@NAME." in own:
                rest.append(function)
                continue
            own += "".join([line for line in declarations if line[line.index("@"):line.index("(") + 1] in own])
            its = key_of(own)
            shared[its] = own
            names[name] = f"@{_name(its)}"
        text = re.sub(r"@NAME\.[\w.]+", lambda found, names=names: names.get(found[0], found[0]), "".join(rest))  # type: ignore[misc]
        out[key] = text + "".join(declarations)
    return out, shared


def _taken_apart(text: str) -> tuple[list[str], list[str]]:
    """The functions of a text, and its ``declare`` lines, which stand between these."""
    functions, declarations = [], []
    for part in f"{text}\n".split("\n}\n"):
        start = part.find("define ")
        declarations += [line + "\n" for line in (part if start < 0 else part[:start]).splitlines() if line.startswith("declare ")]
        if start >= 0:
            functions.append(part[start:] + "\n}\n")
    return functions, declarations


def _declaration(name: str, text: str) -> str:
    """How a function of another module is declared."""
    head = text[text.index("define ") + len("define "):text.index(") #ATTR")]
    result, _, parameters = head.partition(" @NAME(")       # local, so that its address is not looked up in a table
    return f"declare {result} @{name}({', '.join(p.rpartition(' ')[0] for p in parameters.split(', '))})"


# ---------------------------------------------------------------- flat images

class UnknownRelocation(Exception):
    """The object needs something from a linker that :func:`flatten` does not do."""


_X86_64 = 62            # ELF's number of the machine
R_PC32, R_PLT32 = 2, 4
_STUB = b"\xff\x25\0\0\0\0"             # jmp [rip]: through the address that follows


def _machine_of(triple: str) -> int | None:
    arch, _, system = triple.partition("-")
    return _X86_64 if arch == "x86_64" and "linux" in system else None


def flatten(code: bytes, name: str) -> bytes:
    """Function ``name`` of an ELF object as one position-independent image.

    The function's section and the sections it refers to are laid out one after the other and the distances between them
    filled in.  Calls to other libraries and images go through stubs at the end whose addresses are filled in when the image is loaded.

    Returns
    -------
    bytes
        int32: offset of the function, number of stubs, length of their names; then the names, NUL-terminated; then the
        code, which ends with the stubs.

    Raises
    ------
    UnknownRelocation
        The object has a kind of reference that this function does not know.
    """
    unpack = struct.unpack_from
    if unpack("<H", code, 18)[0] != _X86_64:
        raise UnknownRelocation("machine")
    table, = unpack("<Q", code, 40)
    count, = unpack("<H", code, 60)
    # (name, type, flags, address, offset, size, link, info, alignment, entry size)
    sections = [unpack("<IIQQQQIIQQ", code, table + 64 * i) for i in range(count)]
    symbol_table = next(s for s in sections if s[1] == 2)
    strings = sections[symbol_table[6]][4]
    symbols = []
    for i in range(symbol_table[5] // 24):
        label, _, _, section, value, _ = unpack("<IBBHQQ", code, symbol_table[4] + 24 * i)
        symbols.append((code[strings + label : code.index(b"\0", strings + label)].decode(), section, value))
    relocations: dict[int, list[tuple[int, int, int, int]]] = {}
    for s in sections:
        if s[1] == 4:
            for i in range(s[5] // 24):
                at, info, addend = unpack("<QQq", code, s[4] + 24 * i)
                relocations.setdefault(s[7], []).append((at, info >> 32, info & 0xFFFFFFFF, addend))

    _, root, entry = next(s for s in symbols if s[0] == name and s[1])
    others = {section: label for label, section, value in symbols if label.startswith(_PREFIX) and section not in (0, root)}
    image = bytearray()
    place: dict[int, int] = {}
    stubs: dict[str, list[int]] = {}    # callers' positions
    fixes = []
    waiting = [root]
    while waiting:
        number = waiting.pop(0)
        if number in place:
            continue
        section = sections[number]
        if section[1] != 1 or not section[2] & 2 or section[2] & 1:     # must be program bits, loaded, not writable
            raise UnknownRelocation("section")
        image += bytes(-len(image) % max(64, section[8]))
        place[number] = len(image)
        image += code[section[4] : section[4] + section[5]]
        for at, index, kind, addend in relocations.get(number, ()):
            label, target, value = symbols[index]
            at += place[number]
            elsewhere = label if target == 0 else others.get(target)
            if kind in (R_PC32, R_PLT32) and elsewhere and value + addend == -4:
                stubs.setdefault(elsewhere, []).append(at)
            elif kind in (R_PC32, R_PLT32) and 0 < target < 0xFF00:
                fixes.append((at, target, value + addend))
                waiting.append(target)
            else:
                raise UnknownRelocation(f"type {kind}")
    for at, target, value in fixes:
        struct.pack_into("<i", image, at, place[target] + value - at)
    image += bytes(-len(image) % 16)
    for callers in stubs.values():
        for at in callers:
            struct.pack_into("<i", image, at, len(image) - 4 - at)
        image += (_STUB + bytes(8)).ljust(16, b"\xcc")
    labels = b"".join(label.encode() + b"\0" for label in stubs)
    return struct.pack("<iii", place[root] + entry, len(stubs), len(labels)) + labels + bytes(image)


def _install(found: dict[bytes, bytes]) -> dict[bytes, int]:
    """Executable memory holding the images; what every key's function is called at."""
    addresses: dict[bytes, int] = {}
    code = bytearray()
    starts = {}
    calls: list[tuple[int, str]] = []       # where an address goes, and of what
    for key, image in found.items():
        if image[:1] == b"O":
            name, _, obj = image[1:].partition(b"\0")
            addresses[key] = _start().link(obj, name.decode())
            continue
        entry, labels, at = _opened(image)
        code += bytes(-len(code) % 64)
        starts[key] = len(code) + entry
        code += image[at:]
        calls += [(len(code) - 16 * (len(labels) - i) + len(_STUB), label) for i, label in enumerate(labels)]
    if starts:
        import mmap

        mapping = mmap.mmap(-1, len(code), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(mapping))
        addresses.update({key: base + start for key, start in starts.items()})
        for at, label in calls:
            if label.startswith(_PREFIX):
                key = bytes.fromhex(label[len(_PREFIX):])
                address = addresses.get(key) or _addresses[key]
            else:
                address = _symbol(label)
            struct.pack_into("<Q", code, at, address)
        mapping[:] = bytes(code)
        _make_executable(mapping)
    return addresses


def _opened(image: bytes) -> tuple[int, list[str], int]:
    """Of a flat image the offset of its function, what its stubs lead to, and where its code begins."""
    entry, _, length = struct.unpack_from("<iii", image, 1)
    return entry, [label.decode() for label in image[13 : 13 + length].split(b"\0")[:-1]], 13 + length


def _shared_keys(image: bytes) -> list[bytes]:
    """The keys of the images that an image calls."""
    return [] if image[:1] == b"O" else [bytes.fromhex(label[len(_PREFIX):]) for label in _opened(image)[1] if label.startswith(_PREFIX)]


def _make_executable(mapping: Any) -> None:
    """Code that was written is made executable and read-only."""
    import mmap

    window = ctypes.c_char.from_buffer(mapping)
    address = ctypes.addressof(window)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(address, len(mapping), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the system refuses executable memory (mprotect)")
    # for good: a thread that goes on while the interpreter ends may be running it
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(window))


def _symbol(name: str) -> int:
    """The address of a function of the C library or its mathematics."""
    for library in (None, "libm.so.6"):
        try:
            return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value or 0
        except (AttributeError, OSError):
            continue
    raise OSError(f"no function {name} in the C library")
