"""Samples of ``flambeau/ops/reduction.py``."""

from samples import EVERYTHING, FLOATS, INTEGERS, NUMERIC, Entry, T, call

INF = float("inf")
A, M, Z = T((3, 4)), T((2, 3, 4), layout="transposed"), T(())
D = T((3, 4), distinct=True)
D3 = T((2, 3, 4), layout="transposed", distinct=True)
E0 = T((0, 3))
X = T((3, 4), 0.5, 2.0)


def over_dims(a=A, m=M, several=True, whole=True, empty=True, ties=True, **kwargs):
    """All of it, one dimension, several, kept, 0-d, empty."""
    calls = [call(a, 0, **kwargs), call(a, -1, True, **kwargs), call(m, 1, **kwargs), call(Z, 0, **kwargs)]
    if whole:
        calls += [call(a, **kwargs), call(Z, **kwargs), call(T((4, 6), layout="strided"), **kwargs), call(T((3, 4), layout="expanded"), grad=ties, **kwargs)]
    if several:
        calls += [call(m, (0, 2), **kwargs), call(m, (0, -1), True, **kwargs)]
    if empty:
        calls.append(call(E0, 0, **kwargs))
    return calls


def spread(**kwargs):
    """Statistics: more than one element in every group, so that no warning is given."""
    return [call(A, 0, **kwargs), call(A, -1, keepdim=True, **kwargs), call(M, (0, 2), **kwargs), call(A, **kwargs), call(T((4, 6), layout="strided"), 1, **kwargs)]


ENTRIES = {
    "sum": Entry([*over_dims(), call(A, dtype="torch.float64"), call(T((700, 3)), 0)], EVERYTHING, refuses=[call(A, 2), call(A, (0, 0))]),
    "mean": Entry([*over_dims(), call(A, 0, dtype="torch.float64")], FLOATS, refuses=[call(T((3,), dtype="int64"))]),
    "nansum": Entry([*over_dims(), call(T((7,), special=True), grad=False)], FLOATS), "nanmean": Entry(over_dims(empty=False), FLOATS),
    "prod": Entry([*over_dims(several=False), call(T((4,), -1, 1, dtype=None), 0), call(T((3, 4), layout="expanded"), 1)], EVERYTHING),
    "count_nonzero": Entry([call(A), call(A, 0), call(M, (0, 2))], EVERYTHING, grad=False, out=False),
    "all": Entry([*over_dims()], EVERYTHING, grad=False), "any": Entry([*over_dims()], EVERYTHING, grad=False),
    "amax": Entry([*over_dims(D, D3, empty=False, ties=False), call(T((3, 4), layout="expanded"), 0, grad=False)], EVERYTHING, second=False, refuses=[call(E0, 0), call(E0)]),
    "amin": Entry([*over_dims(D, D3, empty=False, ties=False)], EVERYTHING, second=False, refuses=[call(E0, 0)]),
    "max": Entry([*over_dims(D, D3, several=False, empty=False, ties=False), call(D, T((3, 4), 2.5, 3)), call(T((7,), special=True), grad=False)], EVERYTHING,
                 refuses=[call(E0, 0), call(E0)], out=False),
    "min": Entry([*over_dims(D, D3, several=False, empty=False, ties=False), call(D, T((3, 4), 2.5, 3)), call(T((7,), special=True), grad=False)], EVERYTHING,
                 refuses=[call(E0, 0), call(E0)], out=False),
    "argmax": Entry([*over_dims(several=False, empty=False), call(T((7,), special=True)), call(T((6,), 0, 1), 0)], NUMERIC, grad=False,
                    refuses=[call(E0, 0), call(T((3,), dtype="bool"))]),
    "argmin": Entry([*over_dims(several=False, empty=False), call(T((7,), special=True)), call(T((6,), 0, 1), 0)], NUMERIC, grad=False, refuses=[call(E0, 0)]),
    "aminmax": Entry([call(D), call(D, dim=0), call(D, dim=1, keepdim=True)], EVERYTHING, second=False, out=False),
    # statistics
    "var": Entry([*spread(), *spread(correction=0), call(A, 0, False), call(A, False)], FLOATS, refuses=[call(T((3,), dtype="int64"))]),
    "std": Entry([*spread(), *spread(correction=0), call(A, 0, False), call(T((3, 4), layout="expanded"), 0, grad=False)], FLOATS),
    "var_mean": Entry([*spread(), *spread(correction=0)], FLOATS, out=False), "std_mean": Entry(spread(), FLOATS, out=False),
    "softmax": Entry([call(A, 0), call(A, -1), call(M, 1), call(Z, 0), call(E0, 1), call(T((3, 700)), 1), call(A, 1, dtype="torch.float64")], FLOATS,
                     refuses=[call(T((3,), dtype="int64"), 0), call(A, 2)]),
    "log_softmax": Entry([call(A, 0), call(A, -1), call(M, 1), call(Z, 0), call(E0, 1), call(T((3, 700)), 1), call(A, 1, dtype="torch.float64")], FLOATS),
    "logsumexp": Entry([call(A, 0), call(M, (0, 2)), call(A, 1, True), call(Z, 0), call(T((7,), 90, 100), 0)], FLOATS),
    # running
    "cumsum": Entry([call(A, 0), call(A, -1), call(M, 1), call(Z, 0), call(E0, 0), call(A, 1, dtype="torch.float64")], EVERYTHING),
    "cumprod": Entry([call(A, 0), call(A, -1), call(M, 1), call(Z, 0), call(T((5,), -1, 1), 0)], EVERYTHING),
    "cummax": Entry([call(D, 0), call(D, -1), call(D3, 1), call(T((7,), special=True), 0, grad=False)], EVERYTHING),
    "cummin": Entry([call(D, 0), call(D, -1), call(D3, 1), call(T((7,), special=True), 0, grad=False)], EVERYTHING),
    "logcumsumexp": Entry([call(A, 0), call(A, -1), call(M, 1), call(T((5,), -100, 100), 0, grad=False)], FLOATS, second=False),
    # order
    "median": Entry([call(D), call(D, 0), call(D3, 1, True), call(T((7,), special=True), 0, grad=False)], NUMERIC, second=False, out=False),
    "nanmedian": Entry([call(D), call(D, 0), call(D3, 1, True), call(T((7,), special=True), 0, grad=False)], NUMERIC, second=False, out=False),
    "mode": Entry([call(T((3, 6), 0, 3), 0), call(T((3, 6), 0, 3)), call(T((3, 6), 0, 3), 1, True)], NUMERIC, second=False, out=False, result=lambda r: r[0]),
    "quantile": Entry([call(D, 0.3), call(D, 0.5, 0), call(D, T((3,), 0, 1, gradient=False), 1), call(D, 0.7, 1, True)]
                      + [call(D, 0.4, 0, interpolation=i) for i in ("lower", "higher", "midpoint", "nearest")] + [call(T((7,), special=True), 0.5, grad=False)],
                      FLOATS, second=False),
    "nanquantile": Entry([call(D, 0.3), call(D, 0.5, 0), call(T((9,), special=True), 0.5, grad=False)], FLOATS, second=False),
    # norms
    "norm": Entry([call(A), call(A, 2, 0), call(A, 1, 1), call(A, 3, (0, 1)), call(A, INF, 0), call(A, -INF, 1), call(A, 0, 0), call(A, 0.5, 1, True),
                   call(M, "fro"), call(T((3,), 0, 0), 2)], FLOATS, second=False, refuses=[call(T((3,), dtype="int64"))]),
    "dist": Entry([call(A, T((3, 4), 3, 4)), call(A, T((4,), 3, 4), 1), call(A, T((3, 4), 3, 4), INF)], FLOATS, second=False),
    "renorm": Entry([call(A, 2, 0, 1.0), call(A, 1, 1, 0.5)], FLOATS, inplace=True, second=False),
    # sums of a shape, differences, integrals
    "sum_to_size": Entry([call(A, (1, 4)), call(M, (3, 1)), call(M, 4), call(A, (3, 4)), call(A, ())], NUMERIC, method=True, out=False,
                         refuses=[call(A, (2, 4))]),
    "diff": Entry([call(A), call(A, 2, 0), call(A, 1, 1, T((3, 1)), T((3, 2))), call(A, 0)], EVERYTHING, out=False),
    "trapezoid": Entry([call(A), call(A, dx=0.5), call(A, T((4,))), call(A, T((3, 4)), dim=0)], FLOATS, out=False),
    "trapz": Entry([call(A)], FLOATS, out=False), "cumulative_trapezoid": Entry([call(A), call(A, T((4,))), call(A, dx=2.0, dim=0)], FLOATS, out=False),
    "cov": Entry([call(A), call(T((5,))), call(A, correction=0), call(A, fweights=T((4,), 1, 4, dtype="int64")), call(A, aweights=T((4,), 0.5, 1, gradient=False))],
                 FLOATS, out=False),
    "corrcoef": Entry([call(T((3, 5)))], FLOATS, out=False, tolerance=10),
    "bincount": Entry([call(T((9,), 0, 5)), call(T((9,), 0, 5), T((9,), dtype="float64")), call(T((4,), 0, 2), None, 6)], INTEGERS, grad=False, out=False),
    "histc": Entry([call(T((50,)), 5), call(T((50,)), 4, -1, 1)], FLOATS, grad=False),
}
