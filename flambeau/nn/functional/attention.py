"""Attention."""

from __future__ import annotations

import math
from typing import Any

import flambeau as fl
from flambeau.ops.composite import composite

from .affine import linear
from .masking import dropout


@composite(node="Softmax")
def _attention_weights(query: Any, key: Any, mask: Any, scale: float) -> Any:
    if mask is None or mask.dtype is not fl.bool:
        scores = fl.matmul(query, key.mT) * scale
        return fl.softmax(scores if mask is None else scores + mask, -1)
    sees = mask.any(-1, keepdim=True)
    weights = fl.softmax(fl.where(mask, fl.matmul(query, key.mT) * scale, float("-inf")), -1)
    return fl.where(sees, weights, 0.0)             # a query that may look at nothing gets zeros


@composite(node="Softmax")
def _causal_weights(query: Any, key: Any, scale: float) -> Any:
    before = fl.ones(query.shape[-2], key.shape[-2], dtype=fl.bool, device=query.device).tril()
    return fl.softmax(fl.where(before, fl.matmul(query, key.mT) * scale, float("-inf")), -1)


@composite(node="UnsafeView")
def _apply_weights(weights: Any, value: Any) -> Any:
    return fl.matmul(weights, value)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(query @ key.T * scale + mask) @ value``.

    Parameters
    ----------
    query : Tensor
        Shape ``(*, L, E)``.
    key, value : Tensor
        Shapes ``(*, S, E)`` and ``(*, S, Ev)``.
    attn_mask : Tensor, optional
        Broadcasts to ``(*, L, S)``: False hides a place, or numbers that are added to the scores.
    dropout_p : float
        Dropout of the attention weights.
    is_causal : bool
        Hide the places after the query's own.
    scale : float, optional
        ``1 / sqrt(E)`` if left out.
    enable_gqa : bool
        Let several heads of the query share one head of key and value.
    """
    if is_causal:
        if attn_mask is not None:
            raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    weights = _causal_weights(query, key, scale) if is_causal else _attention_weights(query, key, attn_mask, scale)
    return _apply_weights(dropout(weights, dropout_p) if dropout_p > 0 else weights, value)


def _canonical_mask(mask: Any, name: str, dtype: Any, other: Any = None) -> Any:
    """A mask as numbers to add: minus infinity where a bool mask is True."""
    if mask is None:
        return None
    if mask.dtype is not fl.bool and not mask.is_floating_point():
        raise AssertionError(f"only bool and floating types of {name} are supported")
    return fl.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, float("-inf")) if mask.dtype is fl.bool else mask


def multi_head_attention_forward(
    query: Any,
    key: Any,
    value: Any,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Any,
    in_proj_bias: Any,
    bias_k: Any,
    bias_v: Any,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Any,
    out_proj_bias: Any,
    training: bool = True,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Any = None,
    k_proj_weight: Any = None,
    v_proj_weight: Any = None,
    static_k: Any = None,
    static_v: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Multi-head attention with its projections (Vaswani et al., 2017); the work of :class:`flambeau.nn.MultiheadAttention`.

    Parameters
    ----------
    query : Tensor
        Shape ``(L, N, E)`` or ``(L, E)``.
    key, value : Tensor
        Shapes ``(S, N, Ek)`` and ``(S, N, Ev)``, or without ``N``.
    key_padding_mask : Tensor, optional
        ``(N, S)``: True hides a key.
    attn_mask : Tensor, optional
        ``(L, S)`` or ``(N * heads, L, S)``: True hides, numbers are added.

    Returns
    -------
    tuple
        The output, ``(L, N, E)``, and the attention weights, ``(N, L, S)``, or None.
    """
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    batched = query.ndim == 3
    if query.ndim not in (2, 3):
        raise AssertionError(f"query should be unbatched 2D or batched 3D tensor but received {query.ndim}-D query tensor")
    if key.ndim != query.ndim or value.ndim != query.ndim:
        raise AssertionError(
            f"For {'batched (3-D)' if batched else 'unbatched (2-D)'} `query`, expected `key` and `value` to be {query.ndim}-D but found "
            f"{key.ndim}-D and "
            f"{value.ndim}-D tensors respectively"
        )
    if not batched:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, width = query.shape
    sources = key.shape[0]
    if width != embed_dim_to_check:
        raise AssertionError(f"was expecting embedding dimension of {embed_dim_to_check}, but got {width}")
    head = width // num_heads
    if head * num_heads != width:
        raise AssertionError(f"embed_dim {width} not divisible by num_heads {num_heads}")
    if key.shape[:2] != value.shape[:2]:
        raise AssertionError(f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")

    if use_separate_proj_weight:
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
    else:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True))

    mask = _canonical_mask(attn_mask, "attn_mask", q.dtype)
    padding = _canonical_mask(key_padding_mask, "key_padding_mask", q.dtype)
    if mask is not None:
        if mask.ndim == 2:
            if tuple(mask.shape) != (length, sources):
                raise RuntimeError(f"The shape of the 2D attn_mask is {mask.shape}, but should be {(length, sources)}.")
            mask = mask.unsqueeze(0)
        elif mask.ndim == 3:
            if tuple(mask.shape) != (batch * num_heads, length, sources):
                raise RuntimeError(f"The shape of the 3D attn_mask is {mask.shape}, but should be {(batch * num_heads, length, sources)}.")
        else:
            raise RuntimeError(f"attn_mask's dimension {mask.ndim} is not supported")
    if bias_k is not None and bias_v is not None:
        k, v = fl.cat([k, bias_k.repeat(1, batch, 1)]), fl.cat([v, bias_v.repeat(1, batch, 1)])
        mask, padding = _one_more(mask), _one_more(padding)

    q = q.reshape(length, batch * num_heads, head).transpose(0, 1)
    k = k.reshape(k.shape[0], batch * num_heads, head).transpose(0, 1) if static_k is None else static_k
    v = v.reshape(v.shape[0], batch * num_heads, head).transpose(0, 1) if static_v is None else static_v
    if add_zero_attn:
        zero = fl.zeros(batch * num_heads, 1, head, dtype=k.dtype, device=k.device)
        k, v = fl.cat([k, zero], 1), fl.cat([v, zero], 1)
        mask, padding = _one_more(mask), _one_more(padding)
    sources = k.shape[1]
    if padding is not None:
        if tuple(padding.shape) != (batch, sources):
            raise AssertionError(f"key_padding_mask.shape[1] should equal the source length: expected {(batch, sources)} but got {tuple(padding.shape)}")
        padding = padding.reshape(batch, 1, 1, sources).expand(-1, num_heads, -1, -1).reshape(batch * num_heads, 1, sources)
        mask = padding if mask is None else mask + padding

    attention = _attention_weights(q, k, mask, 1 / math.sqrt(head))
    if training and dropout_p > 0:
        attention = dropout(attention, dropout_p)
    out = _apply_weights(attention, v).transpose(0, 1).reshape(length * batch, width)
    out = linear(out, out_proj_weight, out_proj_bias).reshape(length, batch, -1)
    if not batched:
        out = out.squeeze(1)
    if not need_weights:
        return out, None
    attention = attention.reshape(batch, num_heads, length, sources)
    if average_attn_weights:
        attention = attention.mean(1)
    return out, attention if batched else attention.squeeze(0)


def _one_more(mask: Any) -> Any:
    """A mask with one more source that is not hidden."""
    return None if mask is None else fl.constant_pad_nd(mask, (0, 1))
