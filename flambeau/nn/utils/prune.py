"""Pruning: parts of a parameter held at zero by a mask that is applied before each call.

A pruned parameter ``name`` becomes ``name_orig`` with the buffer ``name_mask``; ``name`` itself is their product.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import flambeau as fl

from ..modules.module import Module


def _amount(amount: Any, size: int) -> int:
    """How many of ``size`` things ``amount`` (a count or a share) stands for."""
    whole = isinstance(amount, numbers.Integral)
    if not whole and not isinstance(amount, float):
        raise TypeError(f"Invalid type for amount: {amount}. Must be int or float.")
    if amount < 0 or (not whole and amount > 1):
        raise ValueError(f"amount={amount} should either be a float in the range [0.0, 1.0] or a non-negative integer")
    if not whole:
        return round(float(amount) * size)
    if int(amount) > size:
        raise ValueError(f"amount={amount} should be smaller than the number of parameters to prune={size}")
    return int(amount)


class BasePruningMethod(ABC):
    """How a mask is made; an instance is the hook that applies it."""

    _tensor_name: str
    PRUNING_TYPE: str

    def __call__(self, module: Module, inputs: Any) -> None:
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        """The new mask (ones and zeros) for importances ``t``, given the mask so far."""

    def apply_mask(self, module: Module) -> Any:
        """The original times the mask."""
        mask = getattr(module, self._tensor_name + "_mask")
        original = getattr(module, self._tensor_name + "_orig")
        return mask.to(dtype=original.dtype) * original

    @classmethod
    def apply(cls, module: Module, name: str, *args: Any, importance_scores: Any = None, **kwargs: Any) -> BasePruningMethod:
        """Prune ``module.<name>``; on top of earlier pruning, if there is any."""
        old = _hook_of(module, name)
        method: BasePruningMethod = cls(*args, **kwargs)
        method._tensor_name = name
        if old is not None:
            key, earlier = old
            container = PruningContainer()
            container._tensor_name = name
            container.add_pruning_method(earlier)
            container.add_pruning_method(method)
            del module._forward_pre_hooks[key]  # type: ignore[operator]
            hook: BasePruningMethod = container
        else:
            hook = method
        original = getattr(module, name)
        if importance_scores is None:
            importance_scores = original
        elif importance_scores.shape != original.shape:
            raise AssertionError(f"importance_scores should have the same shape as parameter                     {name} of {module}")
        if old is None:
            module.register_parameter(name + "_orig", original)
            del module._parameters[name]
            default = fl.ones_like(original).detach()
        else:
            default = getattr(module, name + "_mask").detach().clone()
        try:
            with fl.no_grad():
                mask = hook.compute_mask(importance_scores, default)
            module.register_buffer(name + "_mask", mask)
            setattr(module, name, hook.apply_mask(module))
            module.register_forward_pre_hook(hook)
        except Exception:
            if old is None:
                restored = getattr(module, name + "_orig")
                del module._parameters[name + "_orig"]
                module.register_parameter(name, restored)
            raise
        return hook

    def prune(self, t: Any, default_mask: Any = None, importance_scores: Any = None) -> Any:
        """``t`` with a new mask applied."""
        scores = t if importance_scores is None else importance_scores
        return t * self.compute_mask(scores, fl.ones_like(t) if default_mask is None else default_mask)

    def remove(self, module: Module) -> None:
        """Make the pruned tensor an ordinary parameter."""
        name = self._tensor_name
        weight = self.apply_mask(module)
        delattr(module, name)
        original: Any = module._parameters[name + "_orig"]
        original.data = weight.data
        del module._parameters[name + "_orig"], module._buffers[name + "_mask"]
        setattr(module, name, original)


class PruningContainer(BasePruningMethod):
    """Several methods one after the other."""

    def __init__(self, *args: Any) -> None:
        self._pruning_methods: tuple[BasePruningMethod, ...] = ()
        if len(args) == 1 and not isinstance(args[0], BasePruningMethod):
            args = tuple(args[0])
        if args:
            self._tensor_name = args[0]._tensor_name
            for method in args:
                self.add_pruning_method(method)

    def add_pruning_method(self, method: Any) -> None:
        """Add a method at the end."""
        if not isinstance(method, BasePruningMethod) and method is not None:
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and self._tensor_name != method._tensor_name:
            raise ValueError(
                f"Can only add pruning methods acting on the parameter named '{self._tensor_name}' to PruningContainer {self}. Found '{method._tensor_name}'"
            )
        parts: Any = method._pruning_methods if isinstance(method, PruningContainer) else (method,)
        self._pruning_methods += tuple(parts)

    def __len__(self) -> int:
        return len(self._pruning_methods)

    def __iter__(self) -> Any:
        return iter(self._pruning_methods)

    def __getitem__(self, i: int) -> BasePruningMethod:
        return self._pruning_methods[i]

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        method = self._pruning_methods[-1]
        mask = default_mask.to(dtype=t.dtype)
        if method.PRUNING_TYPE == "unstructured":
            kept: Any = mask == 1  # what is left of the elements
        elif method.PRUNING_TYPE == "structured":
            dim = method.dim % t.dim()  # type: ignore[attr-defined]
            others = tuple(d for d in range(t.dim()) if d != dim)
            alive = mask.sum(others) != 0  # the channels that are not gone altogether
            kept = [slice(None)] * t.dim()
            kept[dim] = alive
            kept = tuple(kept)
        elif method.PRUNING_TYPE == "global":
            kept = (slice(None),) * t.dim()
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        new = mask.clone()
        new[kept] = method.compute_mask(t[kept], default_mask=mask[kept]).to(dtype=mask.dtype)
        return new


class Identity(BasePruningMethod):
    """Prunes nothing: a mask of ones."""

    PRUNING_TYPE = "unstructured"

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        return default_mask


class RandomUnstructured(BasePruningMethod):
    """Elements chosen at random."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: Any) -> None:
        _amount(amount, 1 << 62)
        self.amount = amount

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        n = _amount(self.amount, t.nelement())
        mask = default_mask.clone()
        if n:
            gone = fl.rand_like(t).view(-1).topk(n).indices
            mask.view(-1)[gone] = 0
        return mask


class L1Unstructured(BasePruningMethod):
    """The elements of smallest absolute value."""

    PRUNING_TYPE = "unstructured"

    def __init__(self, amount: Any) -> None:
        _amount(amount, 1 << 62)
        self.amount = amount

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        n = _amount(self.amount, t.nelement())
        mask = default_mask.clone()
        if n:
            gone = t.abs().view(-1).topk(n, largest=False).indices
            mask.view(-1)[gone] = 0
        return mask


class _Structured(BasePruningMethod):
    PRUNING_TYPE = "structured"

    def __init__(self, amount: Any, dim: int = -1) -> None:
        _amount(amount, 1 << 62)
        self.amount = amount
        self.dim = dim

    def _scores(self, t: Any, dim: int) -> Any:
        raise NotImplementedError

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        if t.dim() <= 1:
            raise ValueError(f"Structured pruning can only be applied to multidimensional tensors. Found tensor of shape {t.shape} with {t.dim()} dims")
        if not -t.dim() <= self.dim < t.dim():
            raise IndexError(f"Invalid index {self.dim} for tensor of size {t.shape}")
        dim = self.dim % t.dim()
        size = t.shape[dim]
        n = _amount(self.amount, size)
        if not n:
            return default_mask
        kept = fl.zeros(size, dtype=t.dtype)
        kept[self._scores(t, dim).topk(size - n).indices] = 1
        return default_mask.to(dtype=t.dtype) * kept.reshape(-1, *[1] * (t.dim() - 1 - dim))


class RandomStructured(_Structured):
    """Channels along ``dim`` chosen at random."""

    def _scores(self, t: Any, dim: int) -> Any:
        return fl.rand(t.shape[dim])


class LnStructured(_Structured):
    """The channels along ``dim`` of smallest ``n``-norm."""

    def __init__(self, amount: Any, n: Any, dim: int = -1) -> None:
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, t: Any, dim: int) -> Any:
        return t.norm(self.n, tuple(d for d in range(t.dim()) if d != dim))


class CustomFromMask(BasePruningMethod):
    """A mask that is given."""

    PRUNING_TYPE = "global"

    def __init__(self, mask: Any) -> None:
        self.mask = mask

    def compute_mask(self, t: Any, default_mask: Any) -> Any:
        if default_mask.shape != self.mask.shape:
            raise AssertionError(f"default_mask shape {default_mask.shape} must match self.mask shape {self.mask.shape}")
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def _hook_of(module: Module, name: str) -> tuple[int, BasePruningMethod] | None:
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return key, hook
    return None


def identity(module: Module, name: str) -> Module:
    """Prepare ``module.<name>`` for pruning with a mask of ones."""
    Identity.apply(module, name)
    return module


def random_unstructured(module: Module, name: str, amount: Any) -> Module:
    """Zero a share (float) or number (int) of elements chosen at random."""
    RandomUnstructured.apply(module, name, amount=amount)
    return module


def l1_unstructured(module: Module, name: str, amount: Any, importance_scores: Any = None) -> Module:
    """Zero the elements of smallest absolute value."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module: Module, name: str, amount: Any, dim: int) -> Module:
    """Zero channels along ``dim`` chosen at random."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module: Module, name: str, amount: Any, n: Any, dim: int, importance_scores: Any = None) -> Module:
    """Zero the channels along ``dim`` of smallest ``n``-norm."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module: Module, name: str, mask: Any) -> Module:
    """Apply a given mask."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters: Iterable[tuple[Module, str]], pruning_method: Any, importance_scores: Any = None, **kwargs: Any) -> None:
    """Prune several tensors as if they were one."""
    pairs = list(parameters)
    scores = importance_scores or {}
    values = [scores.get((m, n), getattr(m, n)) for m, n in pairs]
    t = fl.cat([v.reshape(-1) for v in values])
    masks = [getattr(m, n + "_mask", fl.ones_like(getattr(m, n))) for m, n in pairs]
    default = fl.cat([mask.reshape(-1) for mask in masks])
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    container.add_pruning_method(method)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(f'Only "unstructured" PRUNING_TYPE supported for the `pruning_method`. Found method {pruning_method} of type {method.PRUNING_TYPE}')
    with fl.no_grad():
        final = container.compute_mask(t, default)
    start = 0
    for m, n in pairs:
        p = getattr(m, n)
        custom_from_mask(m, n, mask=final[start : start + p.numel()].view_as(p))
        start += p.numel()


def remove(module: Module, name: str) -> Module:
    """Make the pruning of ``module.<name>`` permanent."""
    found = _hook_of(module, name)
    if found is None:
        raise ValueError(f"Parameter '{name}' of module {module} has to be pruned before pruning can be removed")
    key, hook = found
    hook.remove(module)
    del module._forward_pre_hooks[key]  # type: ignore[operator]
    return module


def is_pruned(module: Module) -> bool:
    """Whether ``module`` or one inside it is pruned."""
    return any(isinstance(h, BasePruningMethod) for m in module.modules() for h in m.__dict__.get("_forward_pre_hooks", {}).values())


__all__ = [
    "BasePruningMethod",
    "CustomFromMask",
    "Identity",
    "L1Unstructured",
    "LnStructured",
    "PruningContainer",
    "RandomStructured",
    "RandomUnstructured",
    "custom_from_mask",
    "global_unstructured",
    "identity",
    "is_pruned",
    "l1_unstructured",
    "ln_structured",
    "random_structured",
    "random_unstructured",
    "remove",
]
