"""How many threads NumPy's matrix products may use: one.

NumPy brings an OpenBLAS whose idle threads spin for some 30 ms after a product, beside the workers of ``runtime.pool``: a product
of 512x512 on two such threads took 26 ms instead of 2, and the kernels after it up to half more.  ``OPENBLAS_NUM_THREADS``
asks for another number all the same.  The library is looked for when NumPy is first used for a product.
"""

from __future__ import annotations

import os
from typing import Any

threads = int(os.environ["OPENBLAS_NUM_THREADS"]) if os.environ.get("OPENBLAS_NUM_THREADS", "").isdigit() else 1
_setter: Any = None  # the library's function, once found


def prepare() -> None:
    """Find the library and set its threads; called before a product."""
    global _setter
    if _setter is None:
        _setter = _find()
        _setter(threads)


def _find() -> Any:
    import ctypes
    import glob

    import numpy

    root = os.path.dirname(numpy.__file__)
    for path in sorted(glob.glob(os.path.join(root + ".libs", "*openblas*")) + glob.glob(os.path.join(root, ".dylibs", "*openblas*"))):
        library = ctypes.CDLL(path)
        for name in (
            "scipy_openblas_set_num_threads64_",
            "scipy_openblas_set_num_threads",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ):
            found = getattr(library, name, None)
            if found is not None:
                found.restype, found.argtypes = None, [ctypes.c_int]
                return found
    return lambda n: None  # another BLAS, which looks at the environment itself
