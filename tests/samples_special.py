"""Samples of ``flambeau/ops/special.py``, most of it public as ``torch.special.<name>``."""

from samples import FLOATS, NUMERIC, Entry, T, call, layouts

A = T((3, 4))
N = T((3, 4), 0, 6, dtype="int64")


def special(low, high, dtypes=FLOATS, tails=(), **how):
    """One operand in the middle of the domain, with gradients, and in its tails, without."""
    return Entry([call(t) for t in layouts(low, high)] + [call(T((9,), *t), grad=False) for t in tails], dtypes, tolerance=10, **how)


ENTRIES = {
    "i0": special(-3, 3, NUMERIC, [(20, 60)], inplace=True),
    "mvlgamma": Entry([call(T((3, 4), 1.5, 4), 1), call(T((3, 4), 1.5, 4), 2), call(T((3, 4), 1.5, 4), 3)], FLOATS, inplace=True, tolerance=10),
    "special.i0e": special(0.1, 3, tails=[(20, 60), (-60, -20)]), "special.i1": special(0.1, 3, tails=[(-20, 20)]),
    "special.i1e": special(0.1, 3, tails=[(20, 60), (-60, -20)]),
    "special.ndtr": special(-3, 3, NUMERIC), "special.log_ndtr": special(-3, 3, tails=[(-40, -5)]), "special.ndtri": special(0.1, 0.9, tails=[(1e-6, 1e-3)]),
    "special.erfcx": special(-1, 3, tails=[(5, 50)]), "special.entr": special(0.1, 2, NUMERIC[:2], tails=[(-1, 1)]),
    "special.xlog1py": Entry([call(T((3, 4), 0.5, 2), T((4,), 0.5, 2)), call(2.0, T((3,), 0.5, 2)), call(T((3,), 0.5, 2), 1.5)], FLOATS),
    "special.zeta": Entry([call(T((3, 4), 1.5, 5), T((4,), 0.5, 4)), call(2.0, T((3,), 0.5, 2)), call(T((3,), 2, 4), 1.5)], FLOATS, grad=False, tolerance=10),
    "igamma": Entry([call(T((3, 4), 0.5, 4, gradient=False), T((4,), 0.2, 6))], FLOATS, second=False, tolerance=10),
    "igammac": Entry([call(T((3, 4), 0.5, 4, gradient=False), T((4,), 0.2, 6))], FLOATS, second=False, tolerance=10),
    "special.gammainc": Entry([call(T((3, 4), 0.5, 4, gradient=False), T((4,), 0.2, 6))], FLOATS, second=False, tolerance=10),
    "special.gammaincc": Entry([call(T((3, 4), 0.5, 4, gradient=False), T((4,), 0.2, 6))], FLOATS, second=False, tolerance=10),
    "special.spherical_bessel_j0": special(0.6, 9, grad=False),
    # PyTorch's own float64 values of these are off by up to 4e-7 near 5.5, hence float32 only
    **{f"special.{n}": special(0.3, 9, ("float32",), [(26, 60)], grad=False) for n in ("bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1")},
    **{f"special.{n}": special(0.3, 9, grad=False, tails=[(26, 40)]) for n in (
        "modified_bessel_k0", "modified_bessel_k1", "scaled_modified_bessel_k0", "scaled_modified_bessel_k1")},
    **{f"special.{n}": Entry([call(A, N), call(A, 5), call(0.5, N)], FLOATS, grad=False, tolerance=10) for n in (
        *("chebyshev_polynomial_" + k for k in "tuvw"), *("shifted_chebyshev_polynomial_" + k for k in "tuvw"), "hermite_polynomial_h",
        "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p")},
}
