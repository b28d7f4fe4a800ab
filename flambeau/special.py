"""``torch.special``: special functions by their mathematical names.

Everything here is defined in ``ops``; this module only gives the names.
"""

from __future__ import annotations

import flambeau as _torch

from .ops.composite import OPS as _OPS

_loaded = _torch.Tensor     # asking for it loads the operations

# torch.special.<name> is torch.<name of the common operation>
_SAME = {
    "digamma": "digamma", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "exp2": "exp2", "expit": "sigmoid", "expm1": "expm1", "gammaln": "lgamma",
    "i0": "i0", "log1p": "log1p", "log_softmax": "log_softmax", "logit": "logit", "logsumexp": "logsumexp", "modified_bessel_i0": "i0",
    "multigammaln": "mvlgamma", "polygamma": "polygamma", "psi": "digamma", "round": "round", "sinc": "sinc", "softmax": "softmax", "xlogy": "xlogy",
    "modified_bessel_i1": "_special_i1",
}
_PREFIX = "_special_"


def _publish() -> list[str]:
    names = dict(_SAME)
    for key in _OPS:
        if key.startswith(_PREFIX):
            names.setdefault(key.removeprefix(_PREFIX), key)
    for name, key in names.items():
        globals()[name] = _OPS[key]
    return sorted(names)


__all__ = _publish()
