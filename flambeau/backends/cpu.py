"""The CPU, whose kernels Flambeau generates: which algorithms it may choose."""

from __future__ import annotations

import sys
from types import ModuleType

from ..core import config

winograd: bool
"""Whether convolutions of float32 may run by Winograd's algorithm (``FLAMBEAU_WINOGRAD=0`` starts with no).

It takes 2.25 times fewer multiplications and is as accurate (``docs/architecture.md`` has the bound), but a NaN, an infinity, or the rounding
of a large element spreads to the other results of its tile of 2 x 2.
"""


class _Module(ModuleType):
    @property
    def winograd(self) -> bool:
        return config.winograd

    @winograd.setter
    def winograd(self, value: bool) -> None:
        if bool(value) != config.winograd:
            for prepare in config.BEFORE_CHANGE:
                prepare()
            config.winograd = bool(value)


sys.modules[__name__].__class__ = _Module
