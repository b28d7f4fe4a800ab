"""The base class of every optimizer: parameter groups, per-parameter state, hooks and checkpoints.

Inputs are parameters (leaf tensors) and hyperparameters; the outputs are in-place updates of those
parameters.  ``rule.py`` builds on this class the optimizers whose whole step is one recorded
instruction; a user's own optimizer subclasses ``Optimizer`` directly, as in PyTorch.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Hashable, Iterable
from copy import deepcopy
from typing import Any, TypeAlias

import flambeau as torch

ParamsT: TypeAlias = "Iterable[torch.Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, torch.Tensor]]"

_global_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
_hook_ids = itertools.count()


class _Required:
    """Marks a hyperparameter that every group has to give itself."""

    def __repr__(self) -> str:
        return "<required parameter>"


required = _Required()


class RemovableHandle:
    """Takes a registered hook away again: ``handle.remove()``, or at the end of a ``with`` block."""

    def __init__(self, hooks: OrderedDict[int, Callable[..., Any]]) -> None:
        self.id = next(_hook_ids)
        self._hooks = hooks

    def remove(self) -> None:
        """Remove the hook; a second call does nothing."""
        self._hooks.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def _register(hooks: OrderedDict[int, Callable[..., Any]], hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before every ``step()`` of every optimizer."""
    Optimizer._hooked = True
    return _register(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after every ``step()`` of every optimizer."""
    Optimizer._hooked = True
    return _register(_global_post_hooks, hook)


def with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """A class's ``step``, with the hooks around it and a note for the schedulers that it ran."""

    @functools.wraps(step)
    def hooked(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        self._stepped = True
        if not self._hooked:
            return step(self, *args, **kwargs)
        for hook in (*_global_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        f"{step.__qualname__} must return None or a tuple of (new_args, new_kwargs), but got {changed}.\n"
                        "A step pre-hook may replace the arguments of step(); to leave them as they are, return nothing."
                    )
                args, kwargs = changed
        result = step(self, *args, **kwargs)
        for hook in (*self._optimizer_step_post_hooks.values(), *_global_post_hooks.values()):
            hook(self, args, kwargs)
        return result

    return with_hooks_already(hooked)


def with_hooks_already(step: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a ``step`` that looks after the hooks itself."""
    step.__has_hooks__ = True  # type: ignore[attr-defined]
    return step


class Optimizer:
    """Base class of all optimizers.

    Parameters
    ----------
    params
        Parameters, ``(name, parameter)`` pairs, or dictionaries with a ``"params"`` entry and this
        group's own hyperparameters.
    defaults
        Hyperparameters of groups that do not set their own.

    Attributes
    ----------
    param_groups : list of dict
        Each with ``"params"`` and all hyperparameters; read anew by every ``step()``.
    state : dict
        From a parameter to the dictionary of what the optimizer remembers about it.
    defaults : dict
        As given.

    Raises
    ------
    TypeError
        ``params`` is one tensor, a set, or holds something that is not a tensor.
    ValueError
        ``params`` is empty, holds a tensor that was computed from others, or repeats a parameter.
    """

    _hooked = False     # whether there may be step hooks, of this instance or of all: the common step asks nothing more
    _stepped = False    # whether step() was called since a scheduler last looked

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        step = cls.__dict__.get("step")
        if callable(step) and not hasattr(step, "__has_hooks__"):
            cls.step = with_hooks(step)  # type: ignore[method-assign]

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        self.defaults = defaults
        self._make_hook_tables()
        if isinstance(params, torch.Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got torch."
                f"{'FloatTensor' if params.dtype == torch.float32 else 'Tensor'}\n"
                f"For a single tensor pass a list: {type(self).__name__}([tensor], ...)."
            )
        self.state: defaultdict[torch.Tensor, Any] = defaultdict(dict)
        self.param_groups: list[dict[str, Any]] = []
        groups: list[Any] = list(params)
        if not groups:
            raise ValueError(
                "optimizer got an empty parameter list\n"
                f"{type(self).__name__} was given no parameters: the model registers none. Layers kept in a plain list need "
                "nn.ModuleList (in a dict: nn.ModuleDict), a tensor attribute needs nn.Parameter, and a parameters() iterator "
                "that was used once before is empty."
            )
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hook_tables(self) -> None:
        self._optimizer_step_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._optimizer_step_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._optimizer_state_dict_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._optimizer_state_dict_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()
        self._optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable[..., Any]] = OrderedDict()

    # ---------------------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group: ``{"params": ..., "lr": ..., ...}``; missing hyperparameters come from ``defaults``.

        The usual occasion is fine-tuning, where frozen layers are made trainable later.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, torch.Tensor):
            params = [params]
        elif isinstance(params, (set, frozenset)):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but the ordering of tensors in sets will "
                "change between runs. Please use a list instead."
            )
        group = param_group      # the caller's own dictionary, as in PyTorch: it may change hyperparameters through it
        group["params"], names = self._unpack_names(list(params))
        if names is not None:
            group["param_names"] = names

        for param in group["params"]:
            if not isinstance(param, torch.Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {_type_name(param)}")
            if not param.is_leaf:
                raise ValueError(
                    "can't optimize a non-leaf Tensor\n"
                    f"A parameter of shape {list(param.shape)} was computed from other tensors, so its gradient is not kept. "
                    "Give the optimizer the tensor it was computed from, or x.detach().requires_grad_()."
                )
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)

        identities = {id(p) for p in group["params"]}
        if len(identities) != len(group["params"]):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause an error\n"
                "A parameter that is listed twice is updated twice in each step.",
                stacklevel=3,
            )
        if any(id(p) in identities for other in self.param_groups for p in other["params"]):
            raise ValueError(
                "some parameters appear in more than one parameter group\n"
                "Each parameter belongs to one group. With a group for one layer, leave its parameters out of the other group."
            )
        if self.param_groups and ("param_names" in group) != ("param_names" in self.param_groups[0]):
            raise ValueError(
                "all optimizer param groups should be with/without names. cannot add param group "
                f"{'with' if 'param_names' in group else 'without'} names to the optimizer"
            )
        self.param_groups.append(group)

    @staticmethod
    def _unpack_names(params: list[Any]) -> tuple[list[Any], list[str] | None]:
        named = [isinstance(p, tuple) for p in params]
        if not any(named):
            return params, None
        if not all(named):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        return [p for _, p in params], [name for name, _ in params]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters.

        Parameters
        ----------
        set_to_none
            ``False`` keeps the gradient tensors and fills them with zeros.
        """
        for group in self.param_groups:
            if set_to_none:
                for param in group["params"]:
                    param._grad = None      # what param.grad = None does, once the value was checked
            else:
                for param in group["params"]:
                    if param.grad is not None:
                        param.grad.detach_().zero_()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters once from their gradients.

        Parameters
        ----------
        closure
            Evaluates the model again and returns the loss; most optimizers do not need it.
        """
        raise NotImplementedError(f"{type(self).__name__} does not define step()")

    # ---------------------------------------------------------------- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """The optimizer's state with parameters numbered in the order of the groups.

        Returns
        -------
        dict
            ``{"state": {number: {...}}, "param_groups": [{..., "params": [numbers]}]}``.  The state's tensors
            are the optimizer's own, not copies.
        """
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                numbers.setdefault(id(param), len(numbers))
            groups.append({k: v for k, v in group.items() if k != "params"} | {"params": [numbers[id(p)] for p in group["params"]]})
        state: dict[Any, Any] = {}
        for key, value in self.state.items():
            number: Hashable = numbers[id(key)] if isinstance(key, torch.Tensor) else key
            state[number] = dict(value) if isinstance(value, dict) else value
        result: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, result)
            if changed is not None:
                result = changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a state made by ``state_dict()``.

        Parameters are matched by position.  Floating-point state takes its parameter's dtype and device.

        Raises
        ------
        ValueError
            The number of groups, or of parameters in a group, differs.
        """
        state_dict = dict(state_dict)
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            if changed is not None:
                state_dict = changed

        mine, saved = self.param_groups, deepcopy(state_dict["param_groups"])
        if len(mine) != len(saved):
            raise ValueError(
                "loaded state dict has a different number of parameter groups\n"
                f"The optimizer has {len(mine)}, the state dict {len(saved)}: make the optimizer with the same groups as the saved one."
            )
        for index, (group, other) in enumerate(zip(mine, saved)):
            if len(group["params"]) != len(other["params"]):
                raise ValueError(
                    "loaded state dict contains a parameter group that doesn't match the size of optimizer's group\n"
                    f"Group {index} has {len(group['params'])} parameters, in the state dict {len(other['params'])}: "
                    "is it the same model, and were the same layers given to the optimizer?"
                )
        params = {n: p for group, other in zip(mine, saved) for n, p in zip(other["params"], group["params"])}
        state: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                state[params[key]] = _cast(params[key], value)
            else:
                state[key] = value
        groups = []
        for group, other in zip(mine, saved):
            other["params"] = group["params"]
            if "param_names" in group:
                other["param_names"] = group["param_names"]
            groups.append(other)
        self.__setstate__({"state": state, "param_groups": groups})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)
        if "_optimizer_step_pre_hooks" not in self.__dict__:     # unpickled: hooks are not saved
            self._make_hook_tables()
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)                  # a checkpoint from before an option existed

    # ---------------------------------------------------------------- hooks

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before ``step()``; it may return new ``(args, kwargs)``."""
        self._hooked = True
        return _register(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after ``step()``."""
        self._hooked = True
        return _register(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before ``state_dict()``."""
        return _register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` at the end of ``state_dict()``; it may return another dictionary."""
        return _register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before loading; it may return another dictionary."""
        return _register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after loading."""
        return _register(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    def __repr__(self) -> str:
        lines = [f"{type(self).__name__} ("]
        for index, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {index}")
            lines += [f"    {name}: {group[name]}" for name in sorted(group) if name != "params"]
            lines.append("")
        lines[-1] = ")"
        return "\n".join(lines)


def _type_name(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _cast(param: torch.Tensor, value: Any, name: str | None = None) -> Any:
    """Loaded state on its parameter's device and, for floating-point values, in its dtype; step counts stay as saved."""
    if isinstance(value, torch.Tensor):
        if name == "step":
            return value
        return value.to(dtype=param.dtype, device=param.device) if param.is_floating_point() else value.to(device=param.device)
    if isinstance(value, dict):
        return {k: _cast(param, v, k) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(param, v) for v in value)
    return value
