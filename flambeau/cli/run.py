"""Runs an unmodified PyTorch script or module on Flambeau, as if Python had been started on it directly.

Input: the words after ``run`` on the command line.  Sets up ``sys.argv``, ``sys.path`` and ``__main__``, makes ``torch`` mean
Flambeau, executes the code, and prints an uncaught exception without any frame of this file.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec, SourceFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import NoReturn

from . import alias


def run(words: list[str]) -> None:
    """Run ``SCRIPT [ARGUMENTS]`` or ``-m MODULE [ARGUMENTS]``.

    Raises
    ------
    SystemExit
        Status 2 when there is nothing to run or the file cannot be opened, 1 when the script ended with an exception, or
        whatever the script itself asked for.
    """
    if words[:1] == ["-m"]:
        if len(words) < 2:
            sys.exit("python -m flambeau run: -m needs the name of a module")
        prepare: Callable[[str], tuple[CodeType, ModuleType]] = _prepare_module
        words = words[1:]
    elif words:
        prepare = _prepare_script
    else:
        sys.exit("python -m flambeau run: which script?  (python -m flambeau run script.py [arguments])")
    alias.install()
    sys.argv[:] = words
    try:
        code, main = prepare(words[0])
        sys.modules["__main__"] = main
        exec(code, main.__dict__)
    except SystemExit:
        raise
    except BaseException as error:
        _report(error)


def explain(words: list[str]) -> None:
    """Run a script as ``run`` does, then print what was recorded, fused and launched.

    ``--loops`` or ``--llvm`` before the script adds the code of every kernel.

    Raises
    ------
    SystemExit
        As ``run`` does; the account is printed before.
    """
    from ..visual.explain import session

    ir = words[0][2:] if words[:1] in (["--loops"], ["--llvm"]) else None
    words = words[1:] if ir else words
    if not words or (words[0].startswith("-") and words[0] != "-m"):
        sys.exit("python -m flambeau explain: which script?  (python -m flambeau explain [--loops | --llvm] script.py [arguments])")
    report = None
    try:
        with session(ir) as report:
            run(words)
    except Exception as error:      # of what the script recorded and never looked at
        _report(error)
    finally:
        print(f"{'-' * 100}\n{report}")


# ---------------------------------------------------------------------------------------------------- what to execute

def _main_module(file: str, spec: ModuleSpec | None, loader: object, package: str | None) -> ModuleType:
    """A fresh ``__main__`` with the attributes that Python gives it."""
    main = ModuleType("__main__")
    main.__dict__.update(__file__=file, __spec__=spec, __loader__=loader, __package__=package, __builtins__=__builtins__, __cached__=None)
    return main


def _search_from(folder: str) -> None:
    """Let imports look in ``folder`` first, in the place where Python put the current folder for ``-m``."""
    if not sys.flags.safe_path:
        sys.path[0] = folder


def _prepare_script(script: str) -> tuple[CodeType, ModuleType]:
    path = os.path.join(os.getcwd(), script)        # not normalised: Python shows the path as it was typed
    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):      # a folder or archive with a __main__.py
        _search_from(path)
        code, main = _prepare_module("__main__")
        sys.argv[0] = script
        return code, main
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        sys.exit(2)
    _search_from(os.path.dirname(os.path.realpath(path)))
    return compile(source, path, "exec", dont_inherit=True), _main_module(path, None, SourceFileLoader("__main__", path), None)


def _prepare_module(name: str) -> tuple[CodeType, ModuleType]:
    from importlib.util import find_spec

    if name == "__main__":
        del sys.modules["__main__"]         # it is this program: look for the other one
    spec = find_spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = find_spec(f"{name}.__main__")
    get_code = getattr(spec and spec.loader, "get_code", None)
    code = get_code(spec.name) if spec and get_code else None
    if spec is None or code is None:
        print(f"{sys.executable}: No module named {name}", file=sys.stderr)
        sys.exit(1)
    sys.argv[0] = spec.origin or name
    return code, _main_module(sys.argv[0], spec, spec.loader, spec.parent)


# ---------------------------------------------------------------------------------------------------- an uncaught exception

def _report(error: BaseException) -> NoReturn:
    """Print ``error`` as the interpreter would have, through the script's own ``sys.excepthook`` if it set one, and leave."""
    traceback: TracebackType | None = error.__traceback__
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    note = _what_is_missing(error)
    if note is not None:
        error.add_note(note)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback      # what debuggers look at
    sys.excepthook(type(error), error, traceback)
    if isinstance(error, KeyboardInterrupt):
        sys.excepthook = lambda *_: None        # printed already; the interpreter still ends as after Ctrl-C
        raise error
    sys.exit(1)


def _is_ours(traceback: TracebackType) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file in (__file__, alias.__file__) or file.startswith("<frozen importlib")


def _what_is_missing(error: BaseException) -> str | None:
    """One sentence if ``error`` is a name that PyTorch may have and Flambeau lacks, else None."""
    if isinstance(error, ModuleNotFoundError):
        full = error.name or ""
    elif isinstance(error, ImportError):
        words = str(error).split("'")       # cannot import name 'x' from 'y' (file)
        full = f"{error.name}.{words[1]}" if words[0] == "cannot import name " else ""
    elif isinstance(error, AttributeError):
        owner = error.obj if isinstance(error.obj, (type, ModuleType)) else type(error.obj)
        path = owner.__name__ if isinstance(owner, ModuleType) else f"{owner.__module__.partition('.')[0]}.{owner.__name__}"
        full = f"{path}.{error.name}"
    else:
        return None
    root, _, rest = full.partition(".")
    private = rest.rpartition(".")[2].startswith("_")
    if root not in (alias.OURS, alias.THEIRS) or not rest or private or "Flambeau" in str(error):
        return None
    return f"Flambeau has no {alias.THEIRS}.{rest} yet (`import torch` is Flambeau here)."
