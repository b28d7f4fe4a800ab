"""Module: the base of every layer and model.

A module registers the parameters, buffers and modules assigned to it.  Each registered value is a plain attribute of the
instance, so that reading ``self.weight`` costs what any attribute does, and also an entry of ``_parameters``, ``_buffers`` or
``_modules``: dictionaries that write through to the attributes.  Calling a module without hooks is calling its ``forward``.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import flambeau as fl

from ..parameter import Buffer, Parameter
from . import diagnosis, hooks
from .hooks import RemovableHandle

T = TypeVar("T", bound="Module")
_missing = object()


class _IncompatibleKeys(NamedTuple):
    """What ``load_state_dict`` found missing in, and unexpected in, the state it was given."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"

    def __str__(self) -> str:
        return repr(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(
            "'_IncompatibleKeys' object is not callable\nThis is the result of load_state_dict (lists of missing and unexpected keys), "
            "not the model. It changes the model in place: write model.load_state_dict(sd), without assigning it."
        )


class _Registry(dict[str, Any]):
    """Registered values by name; writing an entry writes the module's attribute too."""

    __slots__ = ("__weakref__", "owner")

    def __init__(self, module: Module, values: Any = ()) -> None:
        super().__init__(values)
        self.owner = weakref.ref(module)  # weak: modules are freed as soon as they are dropped

    def _attributes(self) -> dict[str, Any]:
        owner = self.owner()
        return {} if owner is None else owner.__dict__

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self._attributes()[name] = value

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self._attributes().pop(name, None)

    def pop(self, name: str, *default: Any) -> Any:
        value = super().pop(name, *default)
        self._attributes().pop(name, None)
        return value

    def popitem(self) -> tuple[str, Any]:
        item = super().popitem()
        self._attributes().pop(item[0], None)
        return item

    def clear(self) -> None:
        for name in list(self):
            del self[name]

    def update(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> _Registry:  # type: ignore[misc,override]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return self.__reduce__()

    def copy(self) -> dict[str, Any]:
        return dict(self)


_REGISTRIES = ("_parameters", "_buffers", "_modules")


def _type_name(x: Any) -> str:
    """The name of ``x``'s type as error messages give it: ``int``, ``torch.FloatTensor``, ``torch.nn.modules.linear.Linear``."""
    if isinstance(x, fl.Tensor):
        return str(x.type())
    c = type(x)
    return c.__name__ if c.__module__ in ("builtins", "__builtin__") else f"{c.__module__}.{c.__qualname__}"


class Module:
    """Base of all neural network modules.

    A subclass calls ``super().__init__()``, assigns parameters, buffers and modules to attributes, and defines ``forward``.
    ``module(x)`` runs ``forward(x)`` with the hooks around it.

    Attributes
    ----------
    training : bool
        True in training mode; see :meth:`train` and :meth:`eval`.
    """

    dump_patches: bool = False
    call_super_init: bool = False
    _version: int = 1
    _hooked: bool = False  # some hook around calls exists, here or for all modules
    _is_full_backward_hook: bool | None = None
    training: bool
    _parameters: dict[str, Parameter | None]
    _buffers: dict[str, Any]
    _modules: dict[str, Module | None]
    _non_persistent_buffers_set: set[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not self.call_super_init:
            if kwargs:
                raise TypeError(f"{type(self).__name__}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
            if args:
                raise TypeError(f"{type(self).__name__}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        own = self.__dict__
        own["training"] = True
        for name in _REGISTRIES:
            own[name] = _Registry(self)
        own["_non_persistent_buffers_set"] = set()
        if self.call_super_init:
            super().__init__(*args, **kwargs)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)

    # ------------------------------------------------------------------ calling

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes; every subclass defines it."""
        raise diagnosis.missing_forward(self)

    def __call__(self, first: Any = _missing, second: Any = _missing, /, *args: Any, **kwargs: Any) -> Any:
        # one or two arguments and no more, the usual call, are handed on as they are: packing them costs more than the call
        try:
            if args or kwargs or self._hooked:
                args = tuple([a for a in (first, second, *args) if a is not _missing])
                return hooks.call_with_hooks(self, args, kwargs) if self._hooked else self.forward(*args, **kwargs)
            if second is not _missing:
                return self.forward(first, second)
            return self.forward(first) if first is not _missing else self.forward()
        except Exception as error:
            diagnosis.locate(error, self)
            raise

    _call_impl = __call__

    # ------------------------------------------------------------------ attributes

    def __setattr__(self, name: str, value: Any) -> None:
        own = self.__dict__
        if isinstance(value, Parameter):
            if "_parameters" not in own:
                raise diagnosis.before_init(self, "parameters", name)
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
            return
        if isinstance(value, Module):
            if "_modules" not in own:
                raise diagnosis.before_init(self, "module", name)
            self._forget(name, "_modules")
            own["_modules"][name] = value
            return
        if "_parameters" in own:
            if name in own["_parameters"]:
                if value is not None:
                    raise TypeError(
                        f"cannot assign '{_type_name(value)}' as parameter '{name}' (torch.nn.Parameter or None expected)\n"
                        f"Wrap it, self.{name} = nn.Parameter(value), or write the values: self.{name}.data.copy_(value)."
                    )
                self.register_parameter(name, None)
                return
            if name in own["_modules"]:
                if value is not None:
                    raise TypeError(f"cannot assign '{_type_name(value)}' as child module '{name}' (torch.nn.Module or None expected)")
                own["_modules"][name] = None
                return
            if isinstance(value, fl.Tensor) or name in own["_buffers"]:
                if isinstance(value, Buffer):
                    self._forget(name, "_buffers")
                    own["_buffers"].pop(name, None)
                    self.register_buffer(name, value, getattr(value, "persistent", True))
                    return
                if name in own["_buffers"]:
                    if value is not None and not isinstance(value, fl.Tensor):
                        raise TypeError(f"cannot assign '{_type_name(value)}' as buffer '{name}' (torch.nn.Buffer, torch.Tensor or None expected)")
                    own["_buffers"][name] = value
                    return
        elif isinstance(value, Buffer):
            raise diagnosis.before_init(self, "buffer", name)
        object.__setattr__(self, name, value)

    def _forget(self, name: str, keep: str) -> None:
        """Take ``name`` out of everything but the registry ``keep``."""
        own = self.__dict__
        for registry in _REGISTRIES:
            if registry != keep and name in own.get(registry, ()):
                del own[registry][name]
        if name not in own.get(keep, ()):
            own.pop(name, None)
        own["_non_persistent_buffers_set"].discard(name)

    def __getattr__(self, name: str) -> Any:
        own = self.__dict__
        if name in hooks.HOOKS:
            # made when first asked for; a dictionary of call hooks takes this module off the fast path
            made: Any = OrderedDict()
            own[name] = made
            if name in hooks.CALL_HOOKS:
                own["_hooked"] = True
            return made
        for registry in _REGISTRIES:
            values = own.get(registry)
            if values is not None and name in values:
                return values[name]
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __delattr__(self, name: str) -> None:
        own = self.__dict__
        for registry in _REGISTRIES:
            if name in own.get(registry, ()):
                del own[registry][name]
                own["_non_persistent_buffers_set"].discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self) -> list[str]:
        names = {*dir(type(self)), *self.__dict__, *self._parameters, *self._buffers, *self._modules}
        return sorted(n for n in names if not n[0].isdigit())

    def __getstate__(self) -> dict[str, Any]:
        # registered values stand in their registries only, as in PyTorch's pickles
        own = self.__dict__
        registered = {n for r in _REGISTRIES for n in own.get(r, ())}
        return {n: dict(v) if n in _REGISTRIES else v for n, v in own.items() if n not in registered and n != "_looked_at"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = self.__dict__
        own.update(state)
        own.setdefault("training", True)
        own.setdefault("_non_persistent_buffers_set", set())
        for name in hooks.HOOKS:
            if name in own and not own[name]:
                del own[name]
        if any(name in own for name in hooks.CALL_HOOKS):
            own["_hooked"] = True
        for name in _REGISTRIES:
            values = dict(own.get(name, ()))
            own[name] = _Registry(self, values)
            own.update(values)

    # ------------------------------------------------------------------ registering

    def _check_name(self, kind: str, name: Any, registry: str) -> None:
        if registry not in self.__dict__:
            raise diagnosis.before_init(self, kind, name)
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_type_name(name)}")
        got = f", got: {name}" if kind == "module" else ""
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain "."{got}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""{got and ""}')
        if hasattr(self, name) and name not in self.__dict__[registry]:
            raise KeyError(f"attribute '{name}' already exists")

    def register_buffer(self, name: str, tensor: Any, persistent: bool = True) -> None:
        """Add a tensor that is moved and saved with the module but not trained.

        Parameters
        ----------
        name : str
            The attribute that will hold it.
        tensor : Tensor or None
            Any shape and dtype; None is skipped by ``state_dict`` and ``to``.
        persistent : bool
            Whether it is part of ``state_dict()``.
        """
        self._check_name("buffer", name, "_buffers")
        if tensor is not None and not isinstance(tensor, fl.Tensor):
            raise TypeError(f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' (torch Tensor or None required)")
        self._buffers[name] = tensor
        if persistent:
            self._non_persistent_buffers_set.discard(name)
        else:
            self._non_persistent_buffers_set.add(name)

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter under ``name``; None reserves the name."""
        self._check_name("parameter", name, "_parameters")
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{_type_name(param)}' object to parameter '{name}' (torch.nn.Parameter or None required)")
            if param.grad_fn is not None:
                raise ValueError(
                    f"Cannot assign non-leaf Tensor to parameter '{name}'. Model parameters must be created explicitly. To express "
                    f"'{name}' as a function of another Tensor, compute the value in the forward() method."
                )
        self._parameters[name] = param

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a child module under ``name``."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_type_name(module)} is not a Module subclass")
        self._check_name("module", name, "_modules")
        self._modules[name] = module

    register_module = add_module

    # ------------------------------------------------------------------ looking up by path

    def get_submodule(self, target: str) -> Module:
        """The module at a dotted path, for example ``"encoder.0.linear"``; ``""`` is the module itself."""
        module: Any = self
        for item in target.split(".") if target else ():
            if not hasattr(module, item):
                raise AttributeError(f"{type(module).__name__} has no attribute `{item}`")
            module = getattr(module, item)
            if not isinstance(module, Module):
                raise AttributeError(f"`{item}` is not an nn.Module")
        return module  # type: ignore[no-any-return]

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put ``module`` at a dotted path; with ``strict`` something must be there already."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        path, _, name = target.rpartition(".")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def _get_value(self, target: str, registry: str, what: str) -> Any:
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        if name not in module.__dict__[registry] and not (what == "an nn.Parameter" and isinstance(getattr(module, name), Parameter)):
            raise AttributeError(f"`{name}` is not {what}")
        return getattr(module, name)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter at a dotted path."""
        return self._get_value(target, "_parameters", "an nn.Parameter")  # type: ignore[no-any-return]

    def get_buffer(self, target: str) -> Any:
        """The buffer at a dotted path."""
        return self._get_value(target, "_buffers", "a buffer")

    # ------------------------------------------------------------------ iterating

    def _named_members(
        self, members: Callable[[Module], Any], prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Any]]:
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in members(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of this module and, with ``recurse``, of all inside it, each once."""
        for _, p in self.named_parameters(recurse=recurse):
            yield p

    def named_parameters(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:
        """Pairs of dotted name and parameter."""
        if recurse and "_looked_at" not in self.__dict__:
            self.__dict__["_looked_at"] = True
            diagnosis.look_for_unregistered(self)
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Any]:
        """The buffers of this module and, with ``recurse``, of all inside it, each once."""
        for _, b in self.named_buffers(recurse=recurse):
            yield b

    def named_buffers(self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True) -> Iterator[tuple[str, Any]]:
        """Pairs of dotted name and buffer."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def children(self) -> Iterator[Module]:
        """The modules directly inside this one, each once."""
        for _, m in self.named_children():
            yield m

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """Pairs of name and module for the modules directly inside this one."""
        seen: set[int] = set()
        for name, m in self._modules.items():
            if m is not None and id(m) not in seen:
                seen.add(id(m))
                yield name, m

    def modules(self) -> Iterator[Module]:
        """This module and all inside it, each once."""
        for _, m in self.named_modules():
            yield m

    def named_modules(self, memo: set[Module] | None = None, prefix: str = "", remove_duplicate: bool = True) -> Iterator[tuple[str, Module]]:
        """Pairs of dotted name and module, this module first with the name ``prefix``."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, m in self._modules.items():
            if m is not None:
                yield from m.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    # ------------------------------------------------------------------ mode, gradients

    def train(self: T, mode: bool = True) -> T:
        """Set training mode (what dropout and batch norm look at) here and in all modules inside."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for m in self.children():
            m.train(mode)
        return self

    def eval(self: T) -> T:
        """``train(False)``."""
        return self.train(False)

    def requires_grad_(self: T, requires_grad: bool = True) -> T:
        """Set ``requires_grad`` of all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of all parameters, or fill them with zeros."""
        for p in self.parameters():
            if p.grad is not None:
                if set_to_none:
                    p.grad = None
                else:
                    p.grad.detach_().zero_()

    def share_memory(self: T) -> T:
        """Move the parameters to shared memory."""
        return self._apply(lambda t: t.share_memory_())

    # ------------------------------------------------------------------ conversion

    def apply(self: T, fn: Callable[[Module], Any]) -> T:
        """Call ``fn`` on every module inside, then on this one."""
        for m in self.children():
            m.apply(fn)
        fn(self)
        return self

    def _apply(self: T, fn: Callable[[Any], Any], recurse: bool = True) -> T:
        """Replace the data of every parameter, gradient and buffer by ``fn`` of it; parameters stay the same objects."""
        if recurse:
            for m in self.children():
                m._apply(fn)
        for p in self._parameters.values():
            if p is None:
                continue
            with fl.no_grad():
                p.data = fn(p.data)
                if p.grad is not None:
                    grad = fn(p.grad.data)
                    p.grad = grad.requires_grad_(p.grad.requires_grad)
        for name, b in self._buffers.items():
            if b is not None:
                self._buffers[name] = fn(b)
        return self

    def to(self: T, *args: Any, **kwargs: Any) -> T:
        """Convert parameters and buffers in place: ``to(device)``, ``to(dtype)``, ``to(device, dtype)``, ``to(other_tensor)``.

        Integer buffers keep their dtype.  Returns the module itself.
        """
        device, dtype, non_blocking, memory_format = _parse_to(*args, **kwargs)
        if dtype is not None and not (dtype.is_floating_point or dtype.is_complex):
            raise TypeError(f"nn.Module.to only accepts floating point or complex dtypes, but got desired dtype={dtype}")

        def convert(t: Any) -> Any:
            kept = dtype if dtype is not None and (t.is_floating_point() or t.is_complex()) else None
            if memory_format is not None and t.dim() in (4, 5):
                return t.to(device, kept, non_blocking, memory_format=memory_format)
            return t.to(device, kept, non_blocking)

        return self._apply(convert)

    def type(self: T, dst_type: Any) -> T:
        """Convert all parameters and buffers to a dtype or tensor type."""
        return self._apply(lambda t: t.type(dst_type))

    def _to_floating(self: T, dtype: Any) -> T:
        return self._apply(lambda t: t.to(dtype) if t.is_floating_point() else t)

    def float(self: T) -> T:
        """Convert floating-point parameters and buffers to float32."""
        return self._to_floating(fl.float32)

    def double(self: T) -> T:
        """Convert floating-point parameters and buffers to float64."""
        return self._to_floating(fl.float64)

    def half(self: T) -> T:
        """Convert floating-point parameters and buffers to float16."""
        return self._to_floating(fl.float16)

    def bfloat16(self: T) -> T:
        """Convert floating-point parameters and buffers to bfloat16."""
        return self._to_floating(fl.bfloat16)

    def cpu(self: T) -> T:
        """Move parameters and buffers to the CPU."""
        return self._apply(lambda t: t.cpu())

    def cuda(self: T, device: Any = None) -> T:
        """Move parameters and buffers to the GPU."""
        return self._apply(lambda t: t.cuda(device))

    def to_empty(self: T, *, device: Any, recurse: bool = True) -> T:
        """Move parameters and buffers to ``device`` without copying their values."""
        return self._apply(lambda t: fl.empty_like(t, device=device), recurse=recurse)

    # ------------------------------------------------------------------ hooks

    def register_forward_pre_hook(self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False) -> RemovableHandle:
        """Call ``hook(module, args)`` before ``forward``; what it returns replaces the arguments.

        With ``with_kwargs`` the hook is called as ``hook(module, args, kwargs)`` and may return a pair.
        """
        marks = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return hooks.register(self._forward_pre_hooks, hook, prepend=prepend, marks=marks)

    def register_forward_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False, always_call: bool = False
    ) -> RemovableHandle:
        """Call ``hook(module, args, output)`` after ``forward``; what it returns replaces the output.

        With ``with_kwargs`` it gets ``kwargs`` before the output; with ``always_call`` it runs even if ``forward`` raised.
        """
        marks = [getattr(self, n) for n, wanted in (("_forward_hooks_with_kwargs", with_kwargs), ("_forward_hooks_always_called", always_call)) if wanted]
        return hooks.register(self._forward_hooks, hook, prepend=prepend, marks=marks)

    def register_full_backward_pre_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_output)`` when the gradients of the outputs are known; it may return new ones."""
        return hooks.register(self._backward_pre_hooks, hook, prepend=prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """Call ``hook(module, grad_input, grad_output)`` when the gradients of the inputs are known; it may return new ``grad_input``."""
        self.__dict__["_is_full_backward_hook"] = True
        return hooks.register(self._backward_hooks, hook, prepend=prepend)

    register_backward_hook = register_full_backward_hook

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` at the end of ``state_dict``."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return hooks.register(self._state_dict_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        return hooks.register(self._state_dict_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, prefix, keep_vars)`` at the start of ``state_dict``."""
        return hooks.register(self._state_dict_pre_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)`` before loading."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook: Callable[..., Any], with_module: bool = False) -> RemovableHandle:
        ref = weakref.ref(self)
        return hooks.register(self._load_state_dict_pre_hooks, (lambda *a: hook(ref(), *a)) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists of keys."""
        return hooks.register(self._load_state_dict_post_hooks, hook)

    # ------------------------------------------------------------------ state

    def get_extra_state(self) -> Any:
        """What ``state_dict`` saves besides tensors; define it together with :meth:`set_extra_state`."""
        raise RuntimeError("Reached a code path in Module.get_extra_state() that should never be called.")

    def set_extra_state(self, state: Any) -> None:
        """Take back what :meth:`get_extra_state` returned."""
        raise RuntimeError("Reached a code path in Module.set_extra_state() that should never be called.")

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        for name, p in self._parameters.items():
            if p is not None:
                destination[prefix + name] = p if keep_vars else p.detach()
        for name, b in self._buffers.items():
            if b is not None and name not in self._non_persistent_buffers_set:
                destination[prefix + name] = b if keep_vars else b.detach()
        if type(self).get_extra_state is not Module.get_extra_state:
            destination[prefix + "_extra_state"] = self.get_extra_state()

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> dict[str, Any]:
        """All parameters and persistent buffers by dotted name.

        The tensors share memory with the module's: copy them (``copy.deepcopy``) to keep a snapshot.
        """
        if args:  # the older positional form
            destination = args[0] if destination is None else destination
            prefix = args[1] if len(args) > 1 and prefix == "" else prefix
            keep_vars = args[2] if len(args) > 2 and keep_vars is False else keep_vars
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        own = self.__dict__
        for hook in own.get("_state_dict_pre_hooks", {}).values():
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, m in self._modules.items():
            if m is not None:
                m.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in own.get("_state_dict_hooks", {}).values():
            result = hook(self, destination, prefix, local_metadata)
            if getattr(hook, "_from_public_api", False):
                if result is not None:
                    raise RuntimeError("state_dict post-hook must return None")
            elif result is not None:
                destination = result
        return destination  # type: ignore[no-any-return]

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Copy this module's own entries out of ``state_dict``; what goes wrong is added to the three lists."""
        for hook in self.__dict__.get("_load_state_dict_pre_hooks", {}).values():
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        local: dict[str, Any] = dict(self._parameters)
        local.update((n, b) for n, b in self._buffers.items() if n not in self._non_persistent_buffers_set)
        for name, value in local.items():
            if value is None:
                continue
            key = prefix + name
            if key not in state_dict:
                if strict:
                    missing_keys.append(key)
                continue
            given = state_dict[key]
            if not isinstance(given, fl.Tensor):
                error_msgs.append(
                    f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object from checkpoint but received {type(given)}'
                )
                continue
            if value.dim() == 0 and given.dim() == 1 and given.shape[0] == 1:
                given = given[0]  # 0-d tensors were once saved as one element
            if given.shape != value.shape:
                error_msgs.append(
                    f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, the shape in current model is {value.shape}."
                )
                continue
            try:
                with fl.no_grad():
                    if assign:
                        if isinstance(value, Parameter) and not isinstance(given, Parameter):
                            given = Parameter(given, requires_grad=value.requires_grad)
                        elif isinstance(value, Parameter):
                            given = given.requires_grad_(value.requires_grad)
                        setattr(self, name, given)
                    else:
                        value.copy_(given)
            except Exception as e:
                error_msgs.append(
                    f'While copying the parameter named "{key}", whose dimensions in the model are {value.size()} and whose dimensions '
                    f"in the checkpoint are {given.size()}, an exception occurred : {e.args}."
                )
        extra = prefix + "_extra_state"
        if type(self).set_extra_state is not Module.set_extra_state:
            if extra in state_dict:
                self.set_extra_state(state_dict[extra])
            elif strict:
                missing_keys.append(extra)
        elif strict and extra in state_dict:
            unexpected_keys.append(extra)
        if strict:
            for key in state_dict:
                if key.startswith(prefix) and key != extra:
                    first, dot, _ = key[len(prefix) :].partition(".")
                    if (first not in self._modules) if dot else (first not in local):
                        unexpected_keys.append(key)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> _IncompatibleKeys:
        """Copy parameters and buffers from ``state_dict`` into this module and those inside it.

        Parameters
        ----------
        state_dict : mapping of str to Tensor
            As made by :meth:`state_dict`.
        strict : bool
            Whether a missing or unexpected key is an error.
        assign : bool
            Take the given tensors themselves in place of copying their values.

        Returns
        -------
        named tuple
            ``missing_keys`` and ``unexpected_keys``.

        Raises
        ------
        RuntimeError
            Naming every key that is missing, unexpected or of another shape.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        if not assign:
            diagnosis.warn_if_own_tensors(self, state_dict)
        metadata = getattr(state_dict, "_metadata", None)
        copied: Any = OrderedDict(state_dict)
        if metadata is not None:
            copied._metadata = metadata

        def load(module: Module, local: Any, prefix: str) -> None:
            about = {} if metadata is None else metadata.get(prefix[:-1], {})
            if assign:
                about["assign_to_params_buffers"] = assign
            module._load_from_state_dict(local, prefix, about, True, missing, unexpected, errors)
            for name, child in module._modules.items():
                if child is not None:
                    inside = f"{prefix}{name}."
                    load(child, {k: v for k, v in local.items() if k.startswith(inside)}, inside)
            keys = _IncompatibleKeys(missing, unexpected)
            for hook in module.__dict__.get("_load_state_dict_post_hooks", {}).values():
                if hook(module, keys) is not None:
                    raise RuntimeError(
                        "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return new values, if "
                        "incompatible_keys need to be modified, it should be done inplace."
                    )

        load(self, copied, "")
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            lines = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{lines}" + diagnosis.prefix_hint(unexpected, missing))
        return _IncompatibleKeys(missing, unexpected)

    # ------------------------------------------------------------------ printing

    def _get_name(self) -> str:
        return type(self).__name__

    def extra_repr(self) -> str:
        """What stands in the parentheses of the module's own line when it is printed."""
        return ""

    def __repr__(self) -> str:
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        children = [f"({name}): {_indent(repr(m))}" for name, m in self._modules.items()]
        if not children and len(lines) == 1:
            return f"{self._get_name()}({lines[0]})"
        if not children and not lines:
            return f"{self._get_name()}()"
        return f"{self._get_name()}(\n  " + "\n  ".join(lines + children) + "\n)"

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Accepted for compatibility: calls are recorded and compiled in any case."""


def _quoted(keys: list[str]) -> str:
    return ", ".join(f'"{k}"' for k in keys)


def _indent(text: str, spaces: int = 2) -> str:
    """``text`` with every line but the first moved right."""
    return text.replace("\n", "\n" + " " * spaces)


def _parse_to(*args: Any, **kwargs: Any) -> tuple[Any, Any, bool, Any]:
    """``(device, dtype, non_blocking, memory_format)`` of the forms that ``to`` accepts."""
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    non_blocking, memory_format = kwargs.pop("non_blocking", False), kwargs.pop("memory_format", None)
    other = kwargs.pop("tensor", kwargs.pop("other", None))
    kwargs.pop("copy", None)
    if kwargs:
        raise TypeError(f"to() got an unexpected keyword argument '{next(iter(kwargs))}'")
    rest = list(args)
    if rest and isinstance(rest[0], fl.Tensor):
        other = rest.pop(0)
    if other is not None:
        device, dtype = other.device, other.dtype
    elif rest and (rest[0] is None or isinstance(rest[0], (str, int, fl.device))):
        device = rest.pop(0)
    if rest and (rest[0] is None or isinstance(rest[0], fl.dtype)):
        dtype = rest.pop(0) or dtype
    if rest:
        non_blocking = rest.pop(0)
    if rest:
        raise TypeError(f"to() received an invalid combination of arguments - got ({', '.join(type(a).__name__ for a in args)})")
    if isinstance(device, (str, int)):
        device = fl.device(device)
    return device, dtype, non_blocking, memory_format


register_module_forward_pre_hook = hooks.register_module_forward_pre_hook
register_module_forward_hook = hooks.register_module_forward_hook
register_module_full_backward_pre_hook = hooks.register_module_full_backward_pre_hook
register_module_full_backward_hook = hooks.register_module_full_backward_hook
