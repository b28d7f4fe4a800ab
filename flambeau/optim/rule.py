"""The driver that the elementwise optimizers share: one recorded instruction per step and group.

A subclass gives its arithmetic (``rule``, a ``@composite`` over lists of tensors), the tensors that it
remembers (``_new_state``) and the numbers of a step (``_arguments``, in Python).  This module keeps the
lists and the prepared call from step to step, so that the usual step only fetches the gradients.  Output:
the updates, recorded, and the stream flushed.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import flambeau as torch
from flambeau.ops.composite import append

from .optimizer import Optimizer, ParamsT, with_hooks, with_hooks_already

_gradient_of, _meta_of, _buffer_of = attrgetter("_grad"), attrgetter("_meta"), attrgetter("_buffer")


class ParameterState(dict[str, Any]):
    """What the optimizer keeps for one parameter, as PyTorch shows it.

    While the parameter is part of a batch, its counts (``step``) live in the batch as Python numbers,
    which cost nothing per step.  Any look at the dictionary first dissolves the batch, which writes them
    here as tensors.
    """

    __slots__ = ("batch",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.batch: Batch | None = None

    def __reduce_ex__(self, protocol: Any) -> Any:
        return dict, (dict(self.items()),)


def _settled(method: Callable[..., Any]) -> Callable[..., Any]:
    def look(self: ParameterState, *args: Any, **kwargs: Any) -> Any:
        if self.batch is not None:
            self.batch.dissolve()
        return method(self, *args, **kwargs)

    return look


for _name in (
    "__getitem__", "__setitem__", "__delitem__", "__iter__", "__eq__", "__repr__", "__or__", "__ior__",
    "get", "keys", "values", "items", "copy", "pop", "popitem", "setdefault", "update", "clear",
):  # fmt: skip
    setattr(ParameterState, _name, _settled(getattr(dict, _name)))


class Batch:
    """Parameters of one group that are at the same step: one call of the update covers them.

    Attributes
    ----------
    params
        In the group's order.
    columns
        The state: for each name of ``RuleOptimizer.columns`` one tensor per parameter, or nothing.
    tensors
        Parameters, their gradients, the state: what the rule is given in the current step.
    metas
        Their metadata; a step whose tensors have others makes its batches anew.
    counts
        Numbers that advance with the step and are the same for all (``step``).
    fresh
        Whether this is the first step of these parameters.
    calls
        The signatures of the rule's calls, by its flags.
    """

    __slots__ = ("alive", "calls", "columns", "counts", "fresh", "metas", "params", "state", "states", "tensors")

    def __init__(self, columns: int, counts: dict[str, float], fresh: bool) -> None:
        self.params: list[torch.Tensor] = []
        self.tensors: list[torch.Tensor] = []
        self.metas: list[Any] = []
        self.states: list[ParameterState] = []
        self.columns: list[list[torch.Tensor]] = [[] for _ in range(columns)]
        self.counts = counts
        self.fresh = fresh
        self.alive = True
        self.calls: dict[Any, Any] = {}
        self.state: list[torch.Tensor] = []      # all columns in a row

    def dissolve(self) -> None:
        """Write the counts into the parameters' own dictionaries and stop being used."""
        self.alive = False
        for state in self.states:
            state.batch = None
            for name, value in self.counts.items():
                dict.__setitem__(state, name, torch.tensor(value, dtype=_count_dtype()))


class Plan:
    """The batches of one group, valid while the same parameters have gradients."""

    __slots__ = ("batches", "idle", "length", "source")

    def __init__(self, source: list[torch.Tensor], batches: list[Batch], idle: list[torch.Tensor]) -> None:
        self.source, self.length = source, len(source)
        self.batches = batches
        self.idle = idle         # parameters without a gradient

    def fits(self, params: list[torch.Tensor]) -> bool:
        """Fetch this step's gradients; False when the plan no longer fits."""
        if params is not self.source or len(params) != self.length:
            return False
        for param in self.idle:
            if param._grad is not None:
                return False
        try:
            for batch in self.batches:
                own = batch.params
                tensors = batch.tensors = [*own, *map(_gradient_of, own), *batch.state]
                # metadata are one object or different
                if list(map(_meta_of, tensors)) != batch.metas or not batch.alive:
                    return False
        except AttributeError:      # no gradient
            return False
        return True


class RuleOptimizer(Optimizer):
    """An optimizer that is a rule for one parameter, applied to all of them in one instruction.

    Attributes
    ----------
    rule
        ``rule(params, grads, *columns, *numbers, *flags)``: records one step of all parameters; its numbers are run-time
        arguments.
    columns
        Names of the state tensors, in the order of the rule's arguments; a group may leave some out.
    """

    rule: Any
    columns: tuple[str, ...] = ()
    _warned = False

    def __init__(self, params: ParamsT, defaults: dict[str, Any]) -> None:
        if defaults.get("differentiable"):
            raise NotImplementedError(
                f"{type(self).__name__}: differentiable=True is not available: a step is recorded without a graph. "
                "To differentiate through an update write it with tensor operations."
            )
        if defaults.get("fused") and defaults.get("foreach"):
            raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        super().__init__(params, defaults)

    # The state is settled whenever someone looks at it, and the batches are made again by the next step.

    @property
    def state(self) -> defaultdict[torch.Tensor, Any]:
        if self._plans:
            self._dissolve()
        return self._state

    @state.setter
    def state(self, value: defaultdict[torch.Tensor, Any]) -> None:
        self._plans: dict[int, Plan] = {}
        self._state = value

    def _dissolve(self) -> None:
        for plan in self._plans.values():
            for batch in plan.batches:
                if batch.alive:
                    batch.dissolve()
        self._plans.clear()

    # ---------------------------------------------------------------- what a subclass gives

    def _new_state(self, group: dict[str, Any], param: torch.Tensor) -> dict[str, torch.Tensor]:
        """The state tensors of a parameter before its first step, in PyTorch's order."""
        raise NotImplementedError

    def _new_counts(self, group: dict[str, Any]) -> dict[str, float]:
        """What advances with the step, before the first one."""
        return {"step": 0.0}

    def _arguments(self, group: dict[str, Any], batch: Batch) -> tuple[tuple[float, ...], tuple[Any, ...]]:
        """The rule's numbers and flags for this step, which ``batch.counts["step"]`` already counts."""
        raise NotImplementedError

    # ---------------------------------------------------------------- the step

    @with_hooks_already
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient.

        Parameters
        ----------
        closure
            Evaluates the model again and returns the loss.

        Returns
        -------
        The closure's loss, or None.
        """
        if closure is not None or self._hooked:
            return self._guarded_step(closure)
        self._stepped = True
        self._update()
        return None

    @with_hooks
    def _guarded_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self._update()
        return loss

    def _update(self) -> None:
        plans = self._plans
        for index, group in enumerate(self.param_groups):
            plan = plans.get(index)
            if plan is None or not plan.fits(group["params"]):
                plan = self._make_plan(index, group)
            for batch in plan.batches:
                if batch.counts:
                    batch.counts["step"] += 1.0
                numbers, flags = self._arguments(group, batch)
                call = batch.calls.get(flags)
                tensors = batch.tensors
                if call is None:
                    self._first_call(batch, numbers, flags)
                else:
                    append(call, list(map(_buffer_of, tensors)), numbers)
                batch.fresh = False
                count = len(batch.params)
                grads = tensors[count: 2 * count]
                if torch.Tensor._some_stale:
                    for grad in grads:
                        if grad._stale is not None and grad._stale == grad._version:
                            self._warn_about_zero_grad()
                for grad in grads:
                    grad._spent = grad._buffer.versions
                batch.tensors = []      # the gradients are the user's: memory must not be kept for them here
        torch._flush()

    def _warn_about_zero_grad(self) -> None:
        """A gradient was used by a step, was not cleared, and then backward() added another one to it."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"{type(self).__name__}.step(): backward() is adding to gradients that optimizer.step() has already used. Call "
                "optimizer.zero_grad() before backward().",
                UserWarning,
                stacklevel=4,
            )

    def _first_call(self, batch: Batch, numbers: tuple[float, ...], flags: tuple[Any, ...]) -> None:
        """Record a step whose signature is new, and prepare for more of them."""
        count = len(batch.params)
        lists = [batch.params, batch.tensors[count: 2 * count], *batch.columns]
        with torch.no_grad():
            call = self.rule.composite.prepare(lists, numbers, flags)
            if call is None:
                self.rule(*lists, *numbers, *flags)
                return
        append(call, list(map(_buffer_of, batch.tensors)), numbers)
        batch.calls[flags] = call

    def _make_plan(self, index: int, group: dict[str, Any]) -> Plan:
        old = self._plans.pop(index, None)
        for batch in old.batches if old else ():
            if batch.alive:
                batch.dissolve()
        batches: dict[Any, Batch] = {}
        idle = []
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                idle.append(param)
                continue
            new = self._new_state(group, param)
            start = self._new_counts(group)
            state = self._state.get(param) or {}
            fresh = any(state.get(name) is None for name in new)
            known = {name: value for name, value in state.items() if value is not None}
            if not isinstance(state, ParameterState):
                state = ParameterState()
                if new or start:
                    self._state[param] = state
            state.update({**dict.fromkeys(start), **new, **known})
            counts = {name: float(known.get(name, value)) for name, value in start.items()}
            key = (fresh, tuple(new), tuple(counts.values()))
            if key not in batches:
                batches[key] = Batch(len(self.columns), counts, fresh)
            batch = batches[key]
            batch.params.append(param)
            batch.tensors.append(grad)
            batch.states.append(state)
            for name, column in zip(self.columns, batch.columns):
                if name in new:
                    column.append(dict.__getitem__(state, name))
        for batch in batches.values():
            batch.state = [tensor for column in batch.columns for tensor in column]
            batch.tensors = [*batch.params, *batch.tensors, *batch.state]
            batch.metas = list(map(_meta_of, batch.tensors))
            for state in batch.states:
                state.batch = batch      # from here on only dissolve() writes the counts into the state
        plan = self._plans[index] = Plan(group["params"], list(batches.values()), idle)
        return plan


def check_positive(**values: Any) -> None:
    """Raise ``ValueError`` unless all ``values`` are at least 0."""
    for name, value in values.items():
        _check(value, f"{name} value")


def check_at_least_zero(**values: Any) -> None:
    """As ``check_positive``, in the words of PyTorch's newer optimizers."""
    for name, value in values.items():
        if not value >= 0.0:
            raise ValueError(f"{name} should be >= 0 but is: {value}")


def check_one_element(lr: Any) -> None:
    """Raise ``ValueError`` when a learning rate is a tensor of several elements."""
    if isinstance(lr, torch.Tensor) and lr.numel() != 1:
        raise ValueError(f"Tensor lr must be 1-element\nGot a tensor of shape {list(lr.shape)}; one group has one learning rate.")


def _check(value: Any, name: str) -> None:
    if not value >= 0.0:
        raise ValueError(f"Invalid {name}: {value}")


def check_lr(lr: Any) -> None:
    """A learning rate is a number >= 0, or a tensor that holds one."""
    check_one_element(lr)
    _check(lr, "learning rate")


def check_betas(betas: Any) -> None:
    """Each decay rate of a running mean lies in [0, 1)."""
    for index in (0, 1):
        if not 0.0 <= betas[index] < 1.0:
            raise ValueError(f"Invalid beta parameter at index {index}: {betas[index]}")


def _count_dtype() -> torch.dtype:
    return torch.float64 if torch.get_default_dtype() == torch.float64 else torch.float32
