"""Samples of ``flambeau/ops/host.py``."""

from samples import EVERYTHING, FLOATS, NUMERIC, Entry, T, call

A, D, M = T((3, 4)), T((3, 4), distinct=True), T((2, 3, 4), layout="transposed", distinct=True)
S, W, Z, E = T((4, 6), layout="strided", distinct=True), T((3, 4), layout="expanded"), T(()), T((0, 3))
LONG = T((5, 300), distinct=True)
INT = T((6,), 0, 3, dtype="int64")


def sorts(**how):
    """Sorted along each dimension, both ways; ties, NaN, 0-d, empty."""
    return Entry([call(D), call(D, 0), call(M, 1, True), call(S, -1, True), call(Z), call(E, 1), call(LONG), call(LONG, descending=True),
                  call(T((3, 1), distinct=True), 0), call(T((7,), special=True), grad=False), call(T((7,), special=True), 0, True, grad=False)],
                 FLOATS, refuses=[call(A, 2)], **how)


def rising(*shape):
    """Values in order along the last dimension."""
    return T(shape, 0, 0)


ENTRIES = {
    "nonzero": Entry([call(A), call(T((3, 4), 0, 1)), call(M), call(Z), call(E), call(T((5,)), as_tuple=True), call(Z, as_tuple=True)], EVERYTHING, grad=False,
                     out=False),
    "argwhere": Entry([call(A), call(T((3, 4), 0, 1)), call(Z), call(E)], EVERYTHING, grad=False, out=False),
    "nonzero_static": Entry([call(A, size=5), call(A, size=50), call(A, size=50, fill_value=7), call(E, size=2)], EVERYTHING, grad=False,
                            refuses=[call(A, size=-1)]),
    "sort": sorts(out=False), "argsort": sorts(grad=False, out=False),
    "msort": Entry([call(D), call(M), call(T((7,), special=True), grad=False)], FLOATS),
    "topk": Entry([call(D, 2), call(D, 2, 0), call(M, 1, 1, False), call(D, 0), call(Z, 1), call(LONG, 5), call(LONG, 5, largest=False), call(LONG, 299)], FLOATS,
                  out=False, refuses=[call(A, 5), call(A, -1), call(A, 1, 2)]),
    "kthvalue": Entry([call(D, 2), call(D, 1, 0), call(M, 3, 1, True), call(Z, 1), call(LONG, 150), call(T((7,), special=True), 6, grad=False)], FLOATS, out=False,
                      refuses=[call(A, 0), call(A, 5), call(A, 1, 2)]),
    "unique": Entry([call(A, True, True, True), call(T((12,), 0, 3)), call(M), call(T((6, 2), 0, 1), dim=0), call(T((2, 6), 0, 1), return_inverse=True, dim=1),
                     call(T((0,))), call(T((5,), special=True))], EVERYTHING, grad=False, out=False),
    "unique_consecutive": Entry([call(T((12,), 0, 1), True, True), call(T((3, 4), 0, 1), True), call(T((6, 1), 0, 1), dim=0), call(T((0,)))], NUMERIC, grad=False,
                                out=False),
    "searchsorted": Entry([call(rising(5), A), call(rising(5), A, right=True), call(rising(3, 5), A, side="right"), call(rising(5), 1),
                           call(rising(5), T((0,)), out_int32=True)], FLOATS, grad=False,
                          refuses=[call(rising(3, 5), T((2, 4))), call(rising(5), T((2,), dtype="int64")), call(rising(5), A, side="up")]),
    "bucketize": Entry([call(A, rising(5)), call(A, rising(5), right=True), call(2, rising(5)), call(Z, rising(3), out_int32=True)], FLOATS, grad=False,
                       refuses=[call(A, rising(2, 3))]),
    "isin": Entry([call(T((3, 4), 0, 3), T((2,), 0, 3)), call(T((3, 4), 0, 3), 1), call(T((5,), 0, 3), T((0,))), call(T((6,), 0, 3), T((2, 2), 0, 3), invert=True)],
                  NUMERIC, grad=False),
}
