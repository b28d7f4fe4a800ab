"""Recurrent layers and cells."""

from __future__ import annotations

import math
import numbers
from typing import Any

import flambeau as fl

from .. import functional as F
from .. import init
from ..functional import recurrent
from ..functional.affine import linear
from ..functional.common import shown, warn
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

_GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


class RNNBase(Module):
    """Weights, checks and the loops over layers, directions and times of RNN, LSTM and GRU.

    Parameters
    ----------
    mode : str
        ``RNN_TANH``, ``RNN_RELU``, ``LSTM`` or ``GRU``.
    input_size, hidden_size : int
        Sizes of the input and of the state at each time.
    num_layers : int
        Layers, each fed with the outputs of the one below.
    bias : bool
        Whether there are biases.
    batch_first : bool
        Input and output are ``(N, T, *)`` and not ``(T, N, *)``; states are not changed by it.
    dropout : float
        Dropout between layers, in training.
    bidirectional : bool
        A second set of weights runs backwards in time; the outputs are joined.
    proj_size : int
        LSTM: the size of the outputs, if they are projected.
    """

    __constants__ = ["mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size"]

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.mode = mode
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        if not isinstance(dropout, numbers.Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
            raise ValueError("dropout should be a number in range [0, 1] representing the probability of an element being zeroed")
        if dropout > 0 and num_layers == 1:
            warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects num_layers greater than 1, "
                "but got "
                f"dropout={dropout} and num_layers={num_layers}"
            )
        for name, value, kind in (
            ("bias", bias, bool),
            ("batch_first", batch_first, bool),
            ("input_size", input_size, int),
            ("hidden_size", hidden_size, int),
        ):
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
        for name, size in (("input_size", input_size), ("hidden_size", hidden_size)):
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if proj_size >= hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        gates = _GATES[mode] * hidden_size
        out = proj_size or hidden_size
        self._flat_weights_names: list[str] = []
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                below = input_size if layer == 0 else out * (2 if bidirectional else 1)
                shapes: dict[str, Any] = {"weight_ih": (gates, below), "weight_hh": (gates, out)}
                if bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                names = [f"{name}_{suffix}" for name in shapes]
                for name, shape in zip(names, shapes.values(), strict=True):
                    setattr(self, name, Parameter(fl.empty(shape, device=device, dtype=dtype)))
                self._flat_weights_names += names
                self._all_weights.append(names)
        self.reset_parameters()

    def _suffixes(self, layer: int) -> list[str]:
        return [f"l{layer}", f"l{layer}_reverse"] if self.bidirectional else [f"l{layer}"]

    @property
    def _flat_weights(self) -> list[Any]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[list[Any]]:
        """The weights, a list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def flatten_parameters(self) -> None:
        """Accepted for compatibility: the weights need no particular place in memory."""

    def reset_parameters(self) -> None:
        """Draw initial values."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    # ------------------------------------------------------------------ checks

    def check_input(self, input: Any, batch_sizes: Any) -> None:
        """Refuse an input of the wrong rank, size or dtype."""
        name = type(self).__name__
        weight = self.weight_ih_l0
        if input.dtype is not weight.dtype and not fl.is_autocast_enabled("cpu"):
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: input.to({weight.dtype}), "
                "or convert model: "
                f"model.to({input.dtype})"
            )
        dims = 2 if batch_sizes is not None else 3
        if input.dim() != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.dim()}")
        if input.size(-1) != self.input_size:
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}\n{name.lower()}: input "
                f"{shown(input.shape)} has "
                f"{input.size(-1)} features in its last dimension but input_size is {self.input_size}."
            )

    def get_expected_hidden_size(self, input: Any, batch_sizes: Any) -> tuple[int, int, int]:
        """The shape of ``h_0``."""
        batch = int(batch_sizes[0]) if batch_sizes is not None else input.size(0 if self.batch_first else 1)
        return self.num_layers * (2 if self.bidirectional else 1), batch, self.proj_size or self.hidden_size

    def check_hidden_size(self, hx: Any, expected_hidden_size: tuple[int, ...], msg: str = "Expected hidden size {}, got {}") -> None:
        """Refuse a state of another shape."""
        if tuple(hx.shape) != tuple(expected_hidden_size):
            which = "c_0" if "[1]" in msg else "h_0"
            raise RuntimeError(
                msg.format(tuple(expected_hidden_size), list(hx.shape))
                + f"\n{type(self).__name__.lower()}: {which} must be [num_layers*num_directions, batch, "
                f"hidden] = {list(expected_hidden_size)}, got {shown(hx.shape)}. batch_first changes input and output only, not the states."
            )

    def check_forward_args(self, input: Any, hidden: tuple[Any, ...], batch_sizes: Any) -> None:
        """Refuse inputs or states that do not fit."""
        self.check_input(input, batch_sizes)
        expected = self.get_expected_hidden_size(input, batch_sizes)
        if len(hidden) == 1:
            self.check_hidden_size(hidden[0], expected)
        else:
            self.check_hidden_size(hidden[0], expected, "Expected hidden[0] size {}, got {}")
            self.check_hidden_size(hidden[1], (*expected[:2], self.hidden_size), "Expected hidden[1] size {}, got {}")

    def _check(self, input: Any, state: tuple[Any, ...] | None, batch_sizes: Any) -> None:
        if state is None:
            self.check_input(input, batch_sizes)
        else:
            self.check_forward_args(input, state, batch_sizes)

    # ------------------------------------------------------------------ running

    def _layers(self, x: Any, counts: list[int], state: tuple[Any, ...] | None) -> tuple[list[Any], tuple[Any, ...]]:
        """The outputs of the last layer at each time, and the final states ``(layers * directions, N, H)``.

        ``x``: the inputs of all times, ``(sum of counts, features)``; ``counts``: the batch at each time; ``state``: None for zeros.
        """
        finals: list[tuple[Any, ...]] = []
        directions = 2 if self.bidirectional else 1
        many = self.num_layers * directions
        if self.mode != "GRU" and fl.is_autocast_enabled("cpu"):        # the state is as narrow as the products
            narrow = fl.get_autocast_dtype("cpu")
            x = x.to(narrow)
            state = None if state is None else tuple([s.to(narrow) for s in state])
        starts = [self._zeros(max(counts), x)] * many if state is None else [tuple([s[i] for s in state]) for i in range(many)]
        times: list[Any] = []
        for layer in range(self.num_layers):
            outputs = []
            if layer:
                x = fl.cat(times)
                if self.dropout and self.training:
                    x = F.dropout(x, self.dropout, True)
            for d in range(directions):
                names = self._all_weights[layer * directions + d]
                w = {n.rpartition("_l")[0]: getattr(self, n) for n in names}
                gx = linear(x, w["weight_ih"], w.get("bias_ih")).split(counts)
                weights = [w["weight_hh"], w.get("bias_hh"), *([w["weight_hr"]] if self.proj_size else [])]
                ys, final = recurrent.run(self.mode, gx, starts[layer * directions + d], weights, reverse=d == 1)
                outputs.append(ys)
                finals.append(final)
            times = outputs[0] if directions == 1 else [fl.cat(pair, 1) for pair in zip(*outputs, strict=True)]
        return times, tuple(fl.stack(parts) for parts in zip(*finals, strict=True))

    def _zeros(self, batch: int, like: Any) -> tuple[Any, ...]:
        """The state that every layer and direction starts from unless another is given."""
        sizes = [self.proj_size or self.hidden_size, self.hidden_size][: 2 if self.mode == "LSTM" else 1]
        return tuple([fl.zeros(batch, s, dtype=like.dtype, device=like.device) for s in sizes])

    def forward(self, input: Any, hx: Any = None) -> Any:
        """Run over a sequence ``(T, N, *)``, ``(T, *)`` or a ``PackedSequence``; return the outputs and the final state."""
        lstm = self.mode == "LSTM"
        if isinstance(input, PackedSequence):
            data, batch_sizes, sorted_indices, unsorted_indices = input
            counts = batch_sizes.tolist()
            state = self._given(hx)
            if state is not None and sorted_indices is not None:
                state = tuple(s.index_select(1, sorted_indices) for s in state)
            self._check(data, state, batch_sizes)
            times, final = self._layers(data, counts, state)
            if unsorted_indices is not None:
                final = tuple(s.index_select(1, unsorted_indices) for s in final)
            return PackedSequence(fl.cat(times), batch_sizes, sorted_indices, unsorted_indices), final if lstm else final[0]

        if input.dim() not in (2, 3):
            raise ValueError(f"{type(self).__name__}: Expected input to be 2D or 3D, got {input.dim()}D instead")
        single = input.dim() == 2
        given = self._given(hx)
        if given is not None and any(s.dim() != (2 if single else 3) for s in given):
            what = "unbatched 2-D" if single else "batched 3-D"
            want = 2 if single else 3
            if lstm:
                got = ", ".join(f"{s.dim()}-D" for s in given)
                raise RuntimeError(f"For {what} input, hx and cx should also be {want}-D but got ({got}) tensors")
            raise RuntimeError(f"For {what} input, hx should also be {want}-D but got {given[0].dim()}-D tensor")
        x = input
        if single:
            x = input.unsqueeze(0 if self.batch_first else 1)
            given = None if given is None else tuple(s.unsqueeze(1) for s in given)
        self._check(x, given, None)
        along = 1 if self.batch_first else 0
        steps, batch = x.size(along), x.size(1 - along)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        flat = (x.transpose(0, 1) if self.batch_first else x).reshape(steps * batch, self.input_size)
        times, final = self._layers(flat, [batch] * steps, given)
        output = fl.stack(times, along)
        if single:
            output = output.squeeze(0 if self.batch_first else 1)
            final = tuple(s.squeeze(1) for s in final)
        return output, final if lstm else final[0]

    def _given(self, hx: Any) -> tuple[Any, ...] | None:
        return None if hx is None else tuple(hx) if self.mode == "LSTM" else (hx,)

    def extra_repr(self) -> str:
        s = f"{self.input_size}, {self.hidden_size}"
        if self.proj_size != 0:
            s += f", proj_size={self.proj_size}"
        if self.num_layers != 1:
            s += f", num_layers={self.num_layers}"
        if self.bias is not True:
            s += f", bias={self.bias}"
        if self.batch_first is not False:
            s += f", batch_first={self.batch_first}"
        if self.dropout != 0:
            s += f", dropout={self.dropout}"
        if self.bidirectional is not False:
            s += f", bidirectional={self.bidirectional}"
        return s


class RNN(RNNBase):
    """``h = tanh(W x + U h)`` over time (or ``relu``); arguments as for :class:`RNNBase`.

    Examples
    --------
    >>> import flambeau as torch
    >>> output, h = torch.nn.RNN(3, 4)(torch.ones(5, 1, 3))
    >>> output.shape, h.shape
    (torch.Size([5, 1, 4]), torch.Size([1, 1, 4]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__("RNN_" + nonlinearity.upper(), input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997); the state is ``(h, c)``; arguments as for :class:`RNNBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype)


class GRU(RNNBase):
    """Gated recurrent units (Cho et al., 2014); arguments as for :class:`RNNBase`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype)


class RNNCellBase(Module):
    """Weights and arguments of a single step."""

    __constants__ = ["input_size", "hidden_size", "bias"]

    def __init__(self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.bias = bias
        for name, shape in (
            ("weight_ih", (num_chunks * hidden_size, input_size)),
            ("weight_hh", (num_chunks * hidden_size, hidden_size)),
            ("bias_ih", (num_chunks * hidden_size,)),
            ("bias_hh", (num_chunks * hidden_size,)),
        ):
            wanted = bias or name.startswith("weight")
            self.register_parameter(name, Parameter(fl.empty(shape, device=device, dtype=dtype)) if wanted else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw initial values."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for p in self.parameters():
            init.uniform_(p, -bound, bound)

    def _step(self, step: Any, input: Any, given: tuple[Any, ...] | None, parts: int) -> Any:
        """``step`` on ``(N, *)`` input and states, whatever they come as; the sizes are checked by the step."""
        single = input.ndim == 1
        if input.ndim not in (1, 2):
            raise ValueError(f"{type(self).__name__}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        x = input.unsqueeze(0) if single else input
        if given is None:
            states = (fl.zeros(x.shape[0], self.hidden_size, dtype=input.dtype, device=input.device),) * parts
        else:
            for i, h in enumerate(given):
                if h.ndim not in (1, 2):
                    which = f"hx[{i}]" if parts == 2 else "hidden"
                    raise ValueError(f"{type(self).__name__}: Expected {which} to be 1D or 2D, got {h.ndim}D instead")
            states = tuple(h if h.ndim == 2 else h.unsqueeze(0) for h in given)
        made = step(x, *states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        if not single:
            return made
        return tuple(h.squeeze(0) for h in made) if parts == 2 else made.squeeze(0)

    def extra_repr(self) -> str:
        s = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            s += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            s += f", nonlinearity={self.nonlinearity}"
        return s


class RNNCell(RNNCellBase):
    """One step of :class:`RNN`: input ``(N, input_size)``, state ``(N, hidden_size)``, both also without ``N``."""

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Any = None) -> Any:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        step = recurrent.rnn_tanh_cell if self.nonlinearity == "tanh" else recurrent.rnn_relu_cell
        return self._step(step, input, None if hx is None else (hx,), 1)


class LSTMCell(RNNCellBase):
    """One step of :class:`LSTM`; the state is ``(h, c)``, and so is the result."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        return self._step(recurrent.lstm_cell, input, hx, 2)  # type: ignore[no-any-return]


class GRUCell(RNNCellBase):
    """One step of :class:`GRU`; arguments as for :class:`RNNCell`."""

    def __init__(self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Any, hx: Any = None) -> Any:
        return self._step(recurrent.gru_cell, input, None if hx is None else (hx,), 1)
