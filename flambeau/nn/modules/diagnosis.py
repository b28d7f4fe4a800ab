"""Diagnosis: the words that say where in a model something went wrong, and the mistakes that PyTorch is silent about.

Called only when an exception flies through a module, or once per model from ``parameters()``; nothing here is on the good path.
"""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

import flambeau as fl

# an operation's own explanation: the second line of its message, "linear: input [2, 3] has ..."
_SUBJECT = re.compile(r"\A([^\n]*\n)\w+: ")


def locate(error: Exception, module: Any) -> None:
    """Name the module in ``error``: called by every module that it passes on its way out, the innermost first.

    An explanation in the message's second line gets the module's path for its subject (``fc1 (Linear): ...``); any other
    exception gets a note.
    """
    # an exception may refuse attributes or have unusual arguments: then it flies on as it is
    known = getattr(error, "_flambeau_modules", None)
    if known is None:
        text = error.args[0] if len(error.args) == 1 and isinstance(error.args[0], str) else ""
        known = {"path": "", "class": type(module).__name__, "text": text, "note": False}
        try:
            error._flambeau_modules = known  # type: ignore[attr-defined]
        except AttributeError:
            return
    else:
        inner = known["module"]
        name = next((n for n, m in module.named_modules() if m is inner), "")
        known["path"] = ".".join(p for p in (name, known["path"]) if p)
    known["module"] = module
    where = f"{known['path']} ({known['class']})" if known["path"] else known["class"]
    if _SUBJECT.match(known["text"]):
        error.args = (_SUBJECT.sub(lambda m: f"{m[1]}{where}: ", known["text"], count=1),)
    elif known["path"]:
        if known["note"]:
            error.__notes__.pop()
        error.add_note(f"raised in {where}")
        known["note"] = True


def missing_forward(module: Any) -> NotImplementedError:
    """The error of a module without ``forward``, with the method that was probably meant."""
    import difflib

    name = type(module).__name__
    text = f'Module [{name}] is missing the required "forward" function'
    own = [n for c in type(module).__mro__ if c.__module__ != __package__ + ".module" for n, v in vars(c).items() if callable(v)]
    near = difflib.get_close_matches("forward", [n for n in own if not n.startswith("__")], 1, 0.6)
    if near:
        text += f"\n{name} has no forward method. Did you mean forward where it says {near[0]}?"
    return NotImplementedError(text)


def before_init(module: Any, what: str, name: str) -> AttributeError:
    """The error of an assignment before ``super().__init__()``."""
    c = type(module).__name__
    return AttributeError(
        f"cannot assign {what} before Module.__init__() call\n{c}.__init__ set the {what.rstrip('s')} {name} before Module's own "
        f"__init__ ran. Make super().__init__() the first line of {c}.__init__."
    )


def look_for_unregistered(root: Any) -> None:
    """Warn of modules in plain lists and of tensors that require a gradient without being parameters."""
    from .module import Module

    modules = list(root.modules())
    registered = {id(m) for m in modules}
    for m in modules:
        own = m.__dict__
        for name, value in own.items():
            kind = value.__class__
            if kind is list or kind is tuple:
                # a list of one is a known way to hide a module on purpose; a list of registered ones is an order
                if len(value) > 1 and all(isinstance(v, Module) and id(v) not in registered for v in value):
                    _warn(
                        f"{type(m).__name__}.{name} is a plain {kind.__name__} of modules: their parameters are not registered "
                        "(not trained, moved or saved). Use nn.ModuleList([...])."
                    )
            elif kind is fl.Tensor and value.requires_grad and value.is_leaf and name not in own["_buffers"]:
                _warn(
                    f"{type(m).__name__}.{name} is a plain tensor that requires grad: parameters(), to() and state_dict() will not see it. "
                    "Use nn.Parameter(...), or register_buffer if it is not trained."
                )


def warn_if_own_tensors(module: Any, state: Any) -> None:
    """Warn when the state to be loaded is the module's own, so that loading it changes nothing."""
    own = [(n, t) for n, t in module.state_dict().items() if isinstance(t, fl.Tensor)]
    if own and all(isinstance(state.get(n), fl.Tensor) and t.is_set_to(state[n]) for n, t in own):
        _warn(
            "load_state_dict: these tensors are the model's own (the dict from state_dict() shares memory), so nothing changed. Keep a "
            "copy: "
            "copy.deepcopy(model.state_dict())."
        )


def prefix_hint(unexpected: list[str], missing: list[str]) -> str:
    """Better words for a checkpoint saved from a wrapper."""
    if unexpected and missing and all(k.startswith("module.") for k in unexpected):
        return (
            "\nload_state_dict: every key starts with 'module.', as saved from DataParallel. Remove the prefix: "
            "{k.removeprefix('module.'): v for k, v in sd.items()}."
        )
    return ""


_PACKAGE = __name__.partition(".")[0]


def user_level() -> int:
    """The ``stacklevel`` that makes a warning point to the nearest line outside the package, for the caller of this function."""
    level, frame = 1, sys._getframe(1)
    while frame is not None and (frame.f_globals.get("__name__", "") + ".").startswith(_PACKAGE + "."):
        level, frame = level + 1, frame.f_back  # type: ignore[assignment]
    return level


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=user_level())
