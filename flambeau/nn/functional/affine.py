"""Affine maps: linear, bilinear, and the look-up tables of embeddings."""

from __future__ import annotations

from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .common import at_hand, shown


def _way(input: Any, weight: Any, bias: Any) -> str:
    """How PyTorch computes it, by which it names the graph node."""
    if bias is None:
        return "Mm" if input.ndim == 2 else "UnsafeView"
    return "Addmm" if input.ndim == 2 else "View"


@composite(node=_way, name="linear")
def _linear(input: Any, weight: Any, bias: Any = None) -> Any:
    check_linear(input, weight, bias)
    if bias is not None and input.dtype.itemsize == 2 and input.dtype.is_floating_point and weight.ndim == 2:
        rows = fl.addmm(bias, input.reshape(-1, input.shape[-1]), weight.t())      # rounded once
        return rows.reshape(*input.shape[:-1], weight.shape[0])
    product = fl.matmul(input, weight.t())
    return product if bias is None else product + bias


def linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """``input @ weight.T + bias``.

    Parameters
    ----------
    input : Tensor
        Shape ``(*, in_features)``.
    weight : Tensor
        Shape ``(out_features, in_features)``, or ``(in_features,)`` for a single output.
    bias : Tensor, optional
        Shape ``(out_features,)``.

    Returns
    -------
    Tensor
        Shape ``(*, out_features)``.
    """
    try:
        return _linear(input, weight) if bias is None else _linear(input, weight, bias)
    except (AttributeError, TypeError):
        for i, (what, x) in enumerate((("input", input), ("weight", weight), ("bias", bias)), 1):
            if not isinstance(x, fl.Tensor) and not (what == "bias" and x is None):
                raise TypeError(f"linear(): argument '{what}' (position {i}) must be Tensor, not {type(x).__name__}\n"
                                "linear: convert first, for example with torch.as_tensor(data, dtype=torch.float32).") from None
        raise


def check_linear(input: Any, weight: Any, bias: Any) -> None:
    """Raise what is wrong with the operands of :func:`linear`, if anything is."""
    shape = list(input.shape)
    if input.device != weight.device:
        raise RuntimeError(
            f"Tensor on device {weight.device} is not on the expected device {input.device}!\nlinear: input is on {input.device} but "
            "weight "
            f"is on {weight.device}. Move both to one device: model.to(device) and x = x.to(device) (to() on a tensor returns a new one)."
        )
    check_dtypes("linear", input, weight, f"mat1 and mat2 must have the same dtype, but got {_kind(input)} and {_kind(weight)}")
    if bias is not None and bias.dtype is not weight.dtype:
        check_dtypes("linear", bias, weight, f"mat1 and mat2 must have the same dtype, but got {_kind(input)} and {_kind(bias)}", "bias")
    if len(weight.shape) not in (1, 2):
        raise RuntimeError(
            f"t() expects a tensor with <= 2 dimensions, but self is {weight.ndim}D\nlinear: weight must be (out_features, in_features), "
            "got "
            f"{shown(weight.shape)}."
        )
    features = weight.shape[-1]
    if bias is not None and (len(bias.shape) > min(len(shape), 2) or (len(weight.shape) == 1 and len(shape) == 2)):
        raise RuntimeError(
            f"expand: a bias of size {shown(bias.shape)} does not fit\nlinear: bias must be (out_features,), weight (out_features, in_features); "
            f"got {shown(bias.shape)} and {shown(weight.shape)} for the input {shape}."
        )
    if not shape:
        raise RuntimeError(
            "both arguments to linear need to be at least 1D, but they are 0D and 2D\nlinear: the input is a single number; it needs a "
            "last "
            f"dimension of {features} features."
        )
    if shape[-1] != features:
        out = f"{weight.shape[0]}" if weight.ndim == 2 else "1"
        rows = 1
        for s in shape[:-1]:
            rows *= s
        head = f"mat1 and mat2 shapes cannot be multiplied ({rows}x{shape[-1]} and {features}x{out})"
        flat = 1
        for s in shape[1:]:
            flat *= s
        if len(shape) > 2 and flat == features:
            product = "*".join(map(str, shape[1:]))
            raise RuntimeError(
                f"{head}\nlinear: input {shape} ends in {shape[-1]} but in_features is {features}. {product} = {features}, so the input "
                "was "
                "not flattened: put nn.Flatten() before it or call x.flatten(1)."
            )
        raise RuntimeError(
            f"{head}\nlinear: input {shape} has {shape[-1]} features in its last dimension but in_features is {features}. Use "
            f"Linear({shape[-1]}, {out}), or check the layers before it."
        )


_KINDS = {
    "float32": "Float",
    "float64": "Double",
    "float16": "Half",
    "bfloat16": "BFloat16",
    "int64": "Long",
    "int32": "Int",
    "int16": "Short",
    "int8": "Char",
    "uint8": "Byte",
    "bool": "Bool",
}


def _kind(t: Any) -> str:
    """PyTorch's older name of a tensor's dtype."""
    name = str(t.dtype).rpartition(".")[2]
    return _KINDS.get(name, name)


def check_dtypes(what: str, input: Any, weight: Any, phrase: str, role: str = "input") -> None:
    """Refuse an input whose dtype is not the weight's, saying how to convert it."""
    if input.dtype is weight.dtype:
        return
    have, want = (str(t.dtype).rpartition(".")[2] for t in (input, weight))
    advice = f"Use x.{want.removesuffix('32').replace('float64', 'double').replace('float16', 'half')}()"
    if have == "float64":
        advice = (
            f"NumPy arrays are float64 by default: use x.to({weight.dtype})"
            if want != "float32"
            else "NumPy arrays are float64 by default: use x.float(), or array.astype(np.float32)"
        )
    elif have == "uint8":
        advice = "Use x.float() / 255 (image bytes) or a ToTensor-like transform"
    raise RuntimeError(f"{phrase}\n{what}: {role} is {have} but weight is {want}. {advice}.")


@composite(node="View", wide=True)
def _bilinear(x1: Any, x2: Any, weight: Any, bias: Any) -> Any:
    # (*, i), (o, i, j), (*, j) -> (*, o)
    shape = x1.shape[:-1]
    a, b = x1.reshape(-1, x1.shape[-1]), x2.reshape(-1, x2.shape[-1])
    out, i, j = weight.shape
    y = fl.matmul(a, weight.permute(1, 0, 2).reshape(i, out * j)).reshape(a.shape[0], out, j)
    y = (y * b.unsqueeze(1)).sum(-1, dtype=y.dtype)
    if bias is not None:
        y = y + bias
    return y.reshape(*shape, out)


def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Any:
    """``input1 @ weight[o] @ input2 + bias[o]`` for every output ``o``.

    Parameters
    ----------
    input1, input2 : Tensor
        Shapes ``(*, in1_features)`` and ``(*, in2_features)``.
    weight : Tensor
        Shape ``(out_features, in1_features, in2_features)``.
    bias : Tensor, optional
        Shape ``(out_features,)``.
    """
    if not input1.dtype is input2.dtype is weight.dtype:
        raise RuntimeError(f"All tensors must have the same dtype, got input1: {input1.dtype}, input2: {input2.dtype}, weight: {weight.dtype}\n"
                           f"bilinear: convert them, for example with x.to({weight.dtype}).")
    wrong = ""
    if weight.ndim != 3:
        raise IndexError(f"Dimension out of range\nbilinear: weight must be (out_features, in1_features, in2_features), got {shown(weight.shape)}.")
    if input1.ndim != input2.ndim:
        wrong = f"input dimensions do not match: got {input1.ndim} and {input2.ndim}"
    for d in range(0 if wrong else input1.ndim - 1):
        if input1.shape[d] != input2.shape[d]:
            wrong = wrong or f"input batch dimensions do not match at dim {d}: got {input1.shape[d]} and {input2.shape[d]}"
    for n, x in ((1, input1), (2, input2)):
        if x.shape[-1] != weight.shape[n]:
            wrong = wrong or f"input{n} size does not match weight size: got {x.shape[-1]} but expected {weight.shape[n]}"
    if bias is not None and bias.shape[0] != weight.shape[0]:
        wrong = wrong or f"bias size does not match weight size: got {bias.shape[0]} but expected {weight.shape[0]}"
    if wrong:
        raise RuntimeError(f"bilinear(): {wrong}\nbilinear: got inputs {shown(input1.shape)} and {shown(input2.shape)}, weight {shown(weight.shape)}"
                           f"{'' if bias is None else f', bias {shown(bias.shape)}'}; expected (*, in1), (*, in2), (out, in1, in2) and (out).")
    return _bilinear(input1, input2, weight, bias)


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Any:
    """Rows of ``weight`` chosen by ``input``.

    Parameters
    ----------
    input : Tensor
        Row numbers, int64 or int32, any shape.
    weight : Tensor
        Shape ``(num_embeddings, embedding_dim)``.
    padding_idx : int, optional
        A row that gets no gradient.
    max_norm : float, optional
        Rows that are used are first scaled down, in place, to this norm.

    Returns
    -------
    Tensor
        Shape ``(*input.shape, embedding_dim)``.
    """
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    else:
        padding_idx = -1
    if input.dtype is not fl.int64 and input.dtype is not fl.int32:
        raise RuntimeError(
            f"Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got {input.type()} "
            "instead "
            "(while checking arguments for embedding)\nembedding: the input holds row numbers and must be int64, got "
            f"{str(input.dtype).rpartition('.')[2]}. Use x.long()."
        )
    if max_norm is not None:
        _renormalise(weight, input, max_norm, norm_type)
    return fl.embedding(weight, input, padding_idx, scale_grad_by_freq, sparse)


def _renormalise(weight: Any, input: Any, max_norm: float, norm_type: float) -> None:
    """Scale the rows that ``input`` names down to ``max_norm``, in place."""
    with fl.no_grad():
        rows = input.reshape(-1).unique()
        chosen = weight[rows]
        norms = chosen.norm(norm_type, 1, keepdim=True)
        weight[rows] = fl.where(norms > max_norm, chosen * (max_norm / (norms + 1e-7)), chosen)


def embedding_bag(
    input: Any,
    weight: Any,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Any:
    """Sums, means or maxima of groups of rows of ``weight``.

    Parameters
    ----------
    input : Tensor
        Row numbers: ``(B, N)`` for bags of one size, or ``(N,)`` with ``offsets`` giving where each bag starts.
    weight : Tensor
        Shape ``(num_embeddings, embedding_dim)``.
    per_sample_weights : Tensor, optional
        Factors of the shape of ``input``, for ``mode="sum"``.

    Returns
    -------
    Tensor
        Shape ``(B, embedding_dim)``.
    """
    if weight.dtype is fl.int64 and input.is_floating_point():
        raise ValueError("Argument order of nn.functional.embedding_bag was changed: the input comes first, then the weight.")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if per_sample_weights is not None:
        if per_sample_weights.shape != input.shape:
            raise ValueError(
                f"embedding_bag: If per_sample_weights ({tuple(per_sample_weights.shape)}) is not None, then it must have the same shape "
                "as the "
                f"input ({tuple(input.shape)})"
            )
        if mode != "sum":
            raise NotImplementedError(
                "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' (got "
                f"mode='{mode}'). Please open a feature request on GitHub."
            )
    if input.ndim == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. However, "
                "found "
                f"offsets of type {type(offsets)}"
            )
        bags, length = input.shape
        bag_of = fl.arange(bags).repeat_interleave(length)
        flat, factors = input.reshape(-1), None if per_sample_weights is None else per_sample_weights.reshape(-1)
    elif input.ndim == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.ndim != 1:
            raise ValueError("offsets has to be a 1D Tensor")
        starts = offsets.long()
        if include_last_offset:
            starts = starts[:-1]
        bags, flat, factors = starts.shape[0], input, per_sample_weights
        bag_of = fl.searchsorted(starts, fl.arange(input.shape[0]), right=True) - 1
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}")
    if max_norm is not None:
        _renormalise(weight, flat, max_norm, norm_type)
    if padding_idx is not None:
        kept = (flat != padding_idx % weight.shape[0]).nonzero().reshape(-1)
        flat, bag_of = flat[kept], bag_of[kept]
        factors = None if factors is None else factors[kept]
    rows = embedding(flat, weight, None, None, 2.0, scale_grad_by_freq, sparse)
    if factors is not None:
        rows = rows * factors.unsqueeze(1)
    sums = fl.zeros(bags, weight.shape[1], dtype=weight.dtype, device=weight.device)
    places = bag_of.unsqueeze(1).expand(-1, weight.shape[1])
    if mode == "max":
        return sums.scatter_reduce(0, places, rows, "amax", include_self=False)
    sums = sums.scatter_add(0, places, rows)
    if mode == "sum":
        return sums
    counts = fl.zeros(bags, dtype=weight.dtype, device=weight.device).index_add(0, bag_of, fl.ones(bag_of.shape[0], dtype=weight.dtype, device=weight.device))
    return sums / counts.clamp(min=1).unsqueeze(1)


def one_hot(tensor: Any, num_classes: int = -1) -> Any:
    """Class numbers (int64, any shape) as rows of zeros with a one: shape ``(*, num_classes)``, int64."""
    if tensor.dtype is not fl.int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return fl.zeros(*tensor.shape, num_classes, dtype=fl.int64)
    labels = at_hand(tensor)
    if labels is None:
        least, most = tensor.aminmax()
        labels = [least.item(), most.item()]
    low, high = min(labels), max(labels)
    if low < 0:
        raise RuntimeError("Class values must be non-negative.")
    if num_classes == -1:
        num_classes = high + 1
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif num_classes <= high:
        raise RuntimeError("Class values must be smaller than num_classes.")
    return _one_hot(tensor, num_classes)


@composite
def _one_hot(tensor: Any, num_classes: int) -> Any:
    return (tensor.unsqueeze(-1) == fl.arange(num_classes, device=tensor.device)).long()
