"""L-BFGS (Nocedal 1980; Liu and Nocedal 1989), with a line search for the strong Wolfe conditions.

The search is the bracketing and zooming of Nocedal and Wright (*Numerical Optimization*, algorithms 3.5 and 3.6) with cubic
interpolation.  Every decision needs the loss, so this optimizer evaluates the closure several times in one ``step()``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flambeau as torch

from .optimizer import Optimizer, ParamsT
from .rule import check_lr


class _Point(NamedTuple):
    """The function along the search direction at step ``t``."""

    t: float
    loss: float
    grad: torch.Tensor
    slope: float        # derivative along the direction


def _number(loss: Any) -> float:
    return float(loss.item() if isinstance(loss, torch.Tensor) else loss)


class LBFGS(Optimizer):
    """A quasi-Newton method for full batches; one group of parameters, and ``step()`` needs a closure.

    Parameters
    ----------
    params
        Parameters.
    lr
        Step size (the first trial step of the line search).
    max_iter
        Iterations per ``step()``.
    max_eval
        Evaluations of the closure per ``step()``; ``max_iter * 5 // 4`` for None.
    tolerance_grad
        Stop when no element of the gradient is larger.
    tolerance_change
        Stop when the loss or the parameters change less.
    history_size
        Pairs of step and gradient change that are kept.
    line_search_fn
        ``"strong_wolfe"`` or None.

    Examples
    --------
    >>> import flambeau as torch
    >>> x = torch.tensor([3.0], requires_grad=True)
    >>> opt = torch.optim.LBFGS([x], line_search_fn="strong_wolfe")
    >>> def closure():
    ...     opt.zero_grad()
    ...     loss = ((x - 1) ** 2).sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = opt.step(closure)
    >>> round(x.item(), 4)
    1.0
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | torch.Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        check_lr(lr)
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        })  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params: list[torch.Tensor] = self.param_groups[0]["params"]

    def _gather_grad(self) -> torch.Tensor:
        flat = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in self._params]
        return torch.cat(flat, 0)

    def _move(self, step: float, direction: torch.Tensor) -> None:
        """Add ``step * direction`` to the parameters."""
        offset = 0
        for param in self._params:
            count = param.numel()
            param.add_(direction[offset : offset + count].view_as(param) * step)
            offset += count

    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Run up to ``max_iter`` iterations.

        Parameters
        ----------
        closure
            Clears the gradients, evaluates the model, calls ``backward()`` and returns the loss.

        Returns
        -------
        The loss before the first iteration.
        """
        with torch.no_grad():
            first = self._iterate(closure)
        torch._flush()
        return first

    def _iterate(self, closure: Callable[[], Any]) -> Any:
        group = self.param_groups[0]
        lr, tolerance_grad, tolerance_change = float(group["lr"]), group["tolerance_grad"], group["tolerance_change"]
        search = group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate() -> tuple[Any, torch.Tensor]:
            with torch.enable_grad():
                loss = closure()
            return loss, self._gather_grad()

        first, grad = evaluate()
        loss = _number(first)
        evaluations = 1
        state["func_evals"] += 1
        if float(grad.abs().max()) <= tolerance_grad:
            return first

        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, grad, group["history_size"])
            state["d"], state["prev_flat_grad"], state["prev_loss"] = direction, grad.clone(), loss
            t = min(1.0, 1.0 / float(grad.abs().sum())) * lr if state["n_iter"] == 1 else lr
            slope = float(grad.dot(direction))
            if slope > -tolerance_change:
                state["t"] = t
                break

            before, tried = loss, 0
            if search is not None:
                along = self._along(direction, evaluate)
                found, tried = strong_wolfe(along, _Point(0.0, loss, grad, slope), t, float(direction.abs().max()))
                t, loss, grad = found.t, found.loss, found.grad
                self._move(t, direction)
            else:
                self._move(t, direction)
                if iteration != group["max_iter"]:
                    value, grad = evaluate()
                    loss, tried = _number(value), 1
            state["t"] = t
            evaluations += tried
            state["func_evals"] += tried
            if (
                evaluations >= group["max_eval"]
                or float(grad.abs().max()) <= tolerance_grad
                or float((direction * t).abs().max()) <= tolerance_change
                or abs(loss - before) < tolerance_change
            ):
                break
        return first

    def _along(self, direction: torch.Tensor, evaluate: Callable[[], tuple[Any, torch.Tensor]]) -> Callable[[float], _Point]:
        """The function along ``direction`` from where the parameters are now; they are put back after each evaluation."""
        origin = [param.clone() for param in self._params]

        def along(t: float) -> _Point:
            self._move(t, direction)
            loss, grad = evaluate()
            for param, value in zip(self._params, origin):
                param.copy_(value)
            return _Point(t, _number(loss), grad, float(grad.dot(direction)))

        return along

    @staticmethod
    def _direction(state: dict[str, Any], grad: torch.Tensor, history_size: int) -> torch.Tensor:
        """The quasi-Newton direction, by the two-loop recursion over the kept pairs."""
        if state["n_iter"] == 1:
            state["old_dirs"], state["old_stps"], state["ro"], state["H_diag"] = [], [], [], 1
            return grad.neg()
        changes, steps, inverses = state["old_dirs"], state["old_stps"], state["ro"]
        change = grad - state["prev_flat_grad"]
        step = state["d"] * state["t"]
        curvature = change.dot(step).item()
        if curvature > 1e-10:
            if len(changes) == history_size:
                for history in (changes, steps, inverses):
                    history.pop(0)
            changes.append(change)
            steps.append(step)
            inverses.append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change).item()
        state.setdefault("al", [None] * history_size)
        weights = state["al"]
        # Each product is fetched as a number: every turn then is the same short program, whatever the length of the history.
        direction = grad.neg()
        for i in reversed(range(len(changes))):
            weights[i] = steps[i].dot(direction).item() * float(inverses[i])
            direction = direction - changes[i] * weights[i]
        direction = direction * float(state["H_diag"])
        for i in range(len(changes)):
            direction = direction + steps[i] * (weights[i] - changes[i].dot(direction).item() * float(inverses[i]))
        return direction


def _cubic_minimum(a: _Point, b: _Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two values and slopes is smallest, within ``bounds`` (the points themselves by default)."""
    low, high = bounds if bounds is not None else (min(a.t, b.t), max(a.t, b.t))
    if a.t > b.t:
        a, b = b, a
    if a.t == b.t:
        return (low + high) / 2.0
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = square**0.5
    t = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(t, low), high)


def strong_wolfe(
    along: Callable[[float], _Point],
    start: _Point,
    t: float,
    direction_size: float,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance_change: float = 1e-9,
    max_iterations: int = 25,
) -> tuple[_Point, int]:
    """Find a step with sufficient decrease (``c1``) and a flat enough slope (``c2``).

    Parameters
    ----------
    along
        Evaluates the function at a step.
    start
        The point at step 0.
    t
        First trial.
    direction_size
        Largest element of the direction: a bracket narrower than ``tolerance_change`` in the parameters ends the search.

    Returns
    -------
    The point found and the number of evaluations.
    """

    def too_high(point: _Point) -> bool:
        return point.loss > start.loss + c1 * point.t * start.slope

    def flat(point: _Point) -> bool:
        return abs(point.slope) <= -c2 * start.slope

    previous, point = start, along(t)
    evaluations, iteration = 1, 0
    bracket: list[_Point] = []
    while iteration < max_iterations:
        if not too_high(point) and flat(point) and not (iteration > 1 and point.loss >= previous.loss):
            return point, evaluations
        if too_high(point) or (iteration > 1 and point.loss >= previous.loss) or point.slope >= 0:
            bracket = [previous, point]
            break
        bounds = (point.t + 0.01 * (point.t - previous.t), point.t * 10)
        previous, point = point, along(_cubic_minimum(previous, point, bounds))
        evaluations += 1
        iteration += 1
    else:
        bracket = [start, point]

    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    stalled = False
    while iteration < max_iterations:
        left, right = min(p.t for p in bracket), max(p.t for p in bracket)
        if (right - left) * direction_size < tolerance_change:
            break
        t = _cubic_minimum(bracket[0], bracket[1])
        # a trial close to an end twice in a row is moved inside
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:
            if stalled or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stalled = False
            else:
                stalled = True
        else:
            stalled = False
        point = along(t)
        evaluations += 1
        iteration += 1
        if too_high(point) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        if flat(point):
            return point, evaluations
        if point.slope * (bracket[high].t - bracket[low].t) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
    return bracket[low], evaluations
