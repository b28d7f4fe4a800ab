"""One step of each recurrent layer, as composites, and the loop over time that the layers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite


def _check(x: Any, states: tuple[Any, ...], w_ih: Any, w_hh: Any) -> None:
    """Refuse a step whose sizes do not fit the weights.  Called inside composites: once per signature."""
    if x.shape[1] != w_ih.shape[1]:
        raise RuntimeError(f"input has inconsistent input_size: got {x.shape[1]} expected {w_ih.shape[1]}")
    for i, h in enumerate(states):
        if h.shape[1] != w_hh.shape[1]:
            raise RuntimeError(f"hidden{i} has inconsistent hidden_size: got {h.shape[1]}, expected {w_hh.shape[1]}")
        if h.shape[0] != x.shape[0]:
            raise RuntimeError(f"Input batch size {x.shape[0]} doesn't match hidden{i} batch size {h.shape[0]}")


def _gates(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> tuple[Any, Any]:
    """What the input and what the hidden state contribute to the gates."""
    _check(x, (h,), w_ih, w_hh)
    gx, gh = fl.matmul(x, w_ih.t()), fl.matmul(h, w_hh.t())
    return _plus(gx, b_ih), _plus(gh, b_hh)


def _plus(y: Any, bias: Any) -> Any:
    return y if bias is None else y + bias.to(y.dtype)      # autocast makes products narrow


@composite(node="Tanh")
def rnn_tanh_cell(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """``tanh(W x + U h)``."""
    gx, gh = _gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return fl.tanh(gx + gh)


@composite(node="Relu")
def rnn_relu_cell(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """``relu(W x + U h)``."""
    gx, gh = _gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return fl.relu(gx + gh)


@composite(node="Add")
def gru_cell(x: Any, h: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """A gated recurrent unit (Cho et al., 2014), the reset gate applied after the product."""
    return _gru(*_gates(x, h, w_ih, w_hh, b_ih, b_hh), h)


def _gru(gx: Any, gh: Any, h: Any) -> Any:
    xr, xz, xn = gx.chunk(3, 1)
    hr, hz, hn = gh.chunk(3, 1)
    n = fl.tanh(xn + fl.sigmoid(xr + hr) * hn)
    return (h - n) * fl.sigmoid(xz + hz) + n


@composite(node="Mul")
def lstm_cell(x: Any, h: Any, c: Any, w_ih: Any, w_hh: Any, b_ih: Any, b_hh: Any) -> Any:
    """Long short-term memory (Hochreiter and Schmidhuber, 1997): the new ``h`` and ``c``."""
    _check(x, (h, c), w_ih, w_hh)
    gx, gh = _gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return _lstm(gx + gh, c)


def _lstm(gates: Any, c: Any) -> tuple[Any, Any]:
    i, f, g, o = gates.chunk(4, 1)
    c = fl.sigmoid(f) * c + fl.sigmoid(i) * fl.tanh(g)
    return fl.sigmoid(o) * fl.tanh(c), c


# steps whose input part ``gx`` was computed for all times at once


@composite(node="Tanh")
def _tanh_step(gx: Any, h: Any, w_hh: Any, b_hh: Any) -> Any:
    return (fl.tanh(gx + _hidden(h, w_hh, b_hh)),)


@composite(node="Relu")
def _relu_step(gx: Any, h: Any, w_hh: Any, b_hh: Any) -> Any:
    return (fl.relu(gx + _hidden(h, w_hh, b_hh)),)


@composite(node="Add")
def _gru_step(gx: Any, h: Any, w_hh: Any, b_hh: Any) -> Any:
    return (_gru(gx, _hidden(h, w_hh, b_hh), h),)


@composite(node="Mul")
def _lstm_step(gx: Any, h: Any, c: Any, w_hh: Any, b_hh: Any) -> Any:
    return _lstm(gx + _hidden(h, w_hh, b_hh), c)


@composite(node="Mul")
def _lstm_projected_step(gx: Any, h: Any, c: Any, w_hh: Any, b_hh: Any, w_hr: Any) -> Any:
    h, c = _lstm(gx + _hidden(h, w_hh, b_hh), c)
    return fl.matmul(h, w_hr.t()), c


def _hidden(h: Any, w_hh: Any, b_hh: Any) -> Any:
    return _plus(fl.matmul(h, w_hh.t()), b_hh)


_STEPS: dict[str, Callable[..., Any]] = {"RNN_TANH": _tanh_step, "RNN_RELU": _relu_step, "GRU": _gru_step, "LSTM": _lstm_step}


def run(mode: str, inputs: Sequence[Any], state: tuple[Any, ...], weights: Sequence[Any], reverse: bool) -> tuple[list[Any], tuple[Any, ...]]:
    """One layer in one direction.

    Parameters
    ----------
    mode : str
        ``RNN_TANH``, ``RNN_RELU``, ``GRU`` or ``LSTM``.
    inputs : sequence of Tensor
        The input part of the gates at each time, ``(batch_t, gates)``; the batches may shrink with time.
    state : tuple of Tensor
        ``(h,)`` or ``(h, c)``, ``(batch, hidden)``.
    weights : sequence
        ``w_hh, b_hh`` and, with a projection, ``w_hr``.

    Returns
    -------
    list, tuple
        The outputs at each time, and the last state of every sample.
    """
    step = _STEPS[mode] if len(weights) == 2 else _lstm_projected_step
    first = state
    outputs: list[Any] = []
    ended: list[tuple[Any, ...]] = []  # states of samples that are over, the last sample first
    live = inputs[-1].shape[0] if reverse and inputs else state[0].shape[0]
    if live != state[0].shape[0]:
        state = tuple(s[:live] for s in state)
    for gx in reversed(inputs) if reverse else inputs:
        batch = gx.shape[0]
        if batch < live:
            ended.append(tuple(s[batch:] for s in state))
            state = tuple(s[:batch] for s in state)
        elif batch > live:
            state = tuple(fl.cat([s, s0[live:batch]]) for s, s0 in zip(state, first, strict=True))
        live = batch
        state = step(gx, *state, *weights)
        outputs.append(state[0])
    if reverse:
        outputs.reverse()
    for part in ended[::-1]:
        state = tuple(fl.cat([s, e]) for s, e in zip(state, part, strict=True))
    return outputs, state
