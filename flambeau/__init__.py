"""Flambeau: PyTorch's API and semantics, with kernels generated at run time.

``import flambeau as torch`` and write PyTorch.  Names are loaded when they are first used, so that importing the package
costs little; ``docs/architecture.md`` walks through how a call becomes machine code.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import tensor as _tensor_package  # noqa: F401
from .core.device import device
from .core.dtype import (
    bfloat16,
    can_cast,
    dtype,
    float16,
    float32,
    float64,
    get_default_dtype,
    int8,
    int16,
    int32,
    int64,
    promote_types,
    set_default_dtype,
    uint8,
)
from .core.dtype import bool_ as bool
from .core.shape import Size
from .version import __version__

del tensor  # type: ignore[name-defined]  # noqa: F821  torch.tensor is a function; the package of that name stays importable

half, float, double = float16, float32, float64
short, int, long = int16, int32, int64

_SUBMODULES = frozenset({
    "autograd", "backends", "cpu", "cuda", "distributions", "fft", "func", "io", "jit", "linalg", "nn", "optim", "overrides", "random", "special", "testing",
    "types", "utils", "visual", "amp", "multiprocessing", "return_types", "serialization", "storage", "hub", "signal", "sparse", "masked", "nested",
    "distributed", "profiler", "library", "futures", "mps", "compiler", "version", "debug", "functional",
})
# the stages of the journey: modules, reached by importing them
_STAGES = frozenset({"core", "ir", "ops", "render", "runtime", "schedule", "stream", "cli"})
# names that live in a module of their own choosing
_HOMES = {
    "Tensor": "tensor.api", "no_grad": "autograd.modes", "enable_grad": "autograd.modes", "inference_mode": "autograd.modes",
    "set_grad_enabled": "autograd.modes", "is_grad_enabled": "autograd.modes", "is_inference_mode_enabled": "autograd.modes",
    "Generator": "random", "manual_seed": "random", "seed": "random", "initial_seed": "random", "get_rng_state": "random", "set_rng_state": "random",
    "is_anomaly_enabled": "autograd.anomaly", "set_anomaly_enabled": "autograd.anomaly",
    "autocast": "amp", "GradScaler": "amp", "OutOfMemoryError": "cuda",
    "default_generator": "random", "set_printoptions": "tensor.printing", "save": "io", "load": "io",
    "composite": "ops.composite", "explain": "visual.explain", "eager": "stream.eager", "config": "core.config",
    "finfo": "core.limits", "iinfo": "core.limits", "result_type": "tensor.api", "is_tensor": "tensor.api", "is_floating_point": "tensor.api",
    "vmap": "func", "set_default_device": "tensor.creation", "get_default_device": "tensor.creation", "is_storage": "tensor.api", "is_complex": "tensor.api",
    "set_num_threads": "runtime.threads", "get_num_threads": "runtime.threads", "set_num_interop_threads": "runtime.threads",
    "get_num_interop_threads": "runtime.threads", "_standard_gamma": "tensor.sampling", "_sample_dirichlet": "tensor.sampling",
    "_standard_gamma_grad": "ops.pathwise", "_dirichlet_grad": "ops.pathwise", "gradient": "ops.differences", "histogramdd": "ops.host",
}
_HOMES.update(dict.fromkeys("""
    alpha_dropout batch_norm bilinear binary_cross_entropy_with_logits celu celu_ channel_shuffle cosine_embedding_loss cosine_similarity ctc_loss dropout
    embedding_bag feature_alpha_dropout group_norm hardshrink hinge_embedding_loss instance_norm kl_div layer_norm margin_ranking_loss
    native_channel_shuffle pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu rms_norm rrelu rrelu_ selu selu_
    triplet_margin_loss
""".split(), "nn.functional.namespace"))
_HOMES.update(dict.fromkeys("""
    clear_autocast_cache get_autocast_cpu_dtype get_autocast_dtype get_autocast_gpu_dtype is_autocast_cache_enabled is_autocast_cpu_enabled
    is_autocast_enabled set_autocast_cache_enabled set_autocast_dtype set_autocast_enabled
""".split(), "amp.autocast_mode"))
_HOMES.update(dict.fromkeys("hann_window hamming_window blackman_window bartlett_window kaiser_window".split(), "tensor.windows"))
_VALUES = ("inf", "nan", "pi", "e")


def __getattr__(name: str) -> Any:
    value = _find(name)
    globals()[name] = value
    return value


def _find(name: str) -> Any:
    if name in _SUBMODULES:
        try:
            return importlib.import_module("." + name, __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise _missing(name) from None
    if name in _STAGES or name.startswith("__"):
        raise AttributeError(name)
    if name in _VALUES:
        import math

        return getattr(math, name)
    if name == "newaxis":
        return None
    api = importlib.import_module(".tensor.api", __name__)
    home = _HOMES.get(name)
    if home is not None:
        return getattr(importlib.import_module("." + home, __name__), name)
    found = api.lookup(name)
    if found is not None:
        return found
    raise _missing(name)


def _missing(name: str) -> AttributeError:
    return AttributeError(f"module 'torch' has no attribute {name!r}: Flambeau does not have torch.{name} (yet)")


def __dir__() -> list[str]:
    from .tensor import api

    return sorted({*globals(), *_SUBMODULES, *_HOMES, *_VALUES, *api.names()})


def _flush() -> None:
    """Execute what is pending; optimizers call it at the end of a step."""
    from .stream.flush import flush

    globals()["_flush"] = flush      # the next call goes there at once
    flush()


def _valid_index(index: Any, size: Any, message: str) -> Any:
    """``index`` checked to be in ``0 .. size-1`` when it is executed; ``message``: exception class, ``|``, text."""
    from .ops.indexing import valid

    return valid(index, size, message)


def _stack_copies(tensors: Any) -> Any:
    """The tensors stacked by plain copies, or None where that needs an operation; what a loader makes its batches with."""
    from .tensor.storage import stack_copies

    return stack_copies(tensors)


def _from_bytes(data: Any, shape: Any, dtype: Any) -> Any:
    """A tensor that holds a copy of ``data``; what files and loaders make their tensors of."""
    from .tensor.storage import from_bytes

    return from_bytes(data, shape, dtype)


if TYPE_CHECKING:
    from .core.limits import finfo, iinfo  # noqa: F401
    from .tensor.creation import tensor  # noqa: F401
    from .tensor.tensor import Tensor  # noqa: F401

__all__ = ["Size", "__version__", "bfloat16", "bool", "can_cast", "device", "dtype", "get_default_dtype", "promote_types", "set_default_dtype", "uint8", "int8"]
