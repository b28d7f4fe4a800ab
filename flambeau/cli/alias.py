"""Makes the name ``torch`` mean Flambeau in this process.

``install()`` puts a finder in front of Python's own, so that ``torch.a.b`` is the module ``flambeau.a.b``: the same object, not a
copy, for every submodule that exists.  Used by ``python -m flambeau run``; works whether or not PyTorch is installed.  Processes that
the script starts through ``multiprocessing``, by whatever method, import it the same way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

OURS, THEIRS = "flambeau", "torch"
STARTS_PROCESSES = "multiprocessing.spawn"      # the module that tells a new process what to import


class AliasFinder:
    """A finder and loader in one: finds ``torch`` and everything below it, loads it by importing Flambeau's module."""

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The import system's question: who can load ``name``?"""
        if name == STARTS_PROCESSES:
            return _announcing_the_alias(PathFinder.find_spec(name, path))       # type: ignore[arg-type]
        root, _, rest = name.partition(".")
        if root != THEIRS or (rest and not _exists(f"{OURS}.{rest}")):
            return None
        # Not declared a package even where it is one: the import system would write `__path__` into modules that have none.
        return ModuleSpec(name, self)       # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Flambeau's own module; the import system will have written ``spec`` into it by the time ``exec_module`` is called."""
        module = import_module(OURS + spec.name[len(THEIRS):])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Give the module back its own specification: it has run already, under its own name."""
        alias = module.__spec__
        assert alias is not None
        module.__spec__ = alias.loader_state


def _exists(name: str) -> bool:
    """Whether Flambeau has a module ``name``, without importing more than its parents."""
    if name in sys.modules:
        return True
    parent, _, _ = name.rpartition(".")
    if not _exists(parent):
        return False
    path = getattr(import_module(parent), "__path__", None)
    return name in sys.modules or (path is not None and PathFinder.find_spec(name, path) is not None)


def install() -> None:
    """Let ``import torch`` give Flambeau from now on.

    Raises
    ------
    ImportError
        If PyTorch itself was imported before.
    """
    loaded = sys.modules.get(THEIRS)
    if loaded is not None and loaded is not sys.modules.get(OURS):
        raise ImportError("PyTorch itself was imported in this process already: `torch` cannot become Flambeau")
    if not any(isinstance(finder, AliasFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, AliasFinder())       # type: ignore[arg-type]
        if STARTS_PROCESSES in sys.modules:
            _announce_the_alias(sys.modules[STARTS_PROCESSES])


# ---------------------------------------------------------------------------------------------------- processes that a script starts

class _Installed:
    """Unpickled in a new process before the script is imported there: becomes a call of ``install``."""

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return install, ()


def _announce_the_alias(spawn: Any) -> None:
    """Let ``multiprocessing.spawn`` send an ``_Installed`` along with what it tells a new process."""
    original = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data: dict[str, Any] = original(name)
        if name == "ignore":        # the fork server asks what to import ahead of time: it unpickles nothing, so not the script
            data.pop("init_main_from_path", None)
            data.pop("init_main_from_name", None)
        return {OURS: _Installed(), **data}

    spawn.get_preparation_data = get_preparation_data


def _announcing_the_alias(spec: ModuleSpec | None) -> ModuleSpec | None:
    """``spec`` with a loader that calls ``_announce_the_alias`` once the module has run."""
    loader: Any = spec and spec.loader
    if loader is not None:
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            _announce_the_alias(module)

        loader.exec_module = exec_module
    return spec
