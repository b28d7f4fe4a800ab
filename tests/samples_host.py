"""Samples of ``flambeau/ops/host.py``."""

from samples import EVERYTHING, FLOATS, NUMERIC, Entry, T, call

A, D, M = T((3, 4)), T((3, 4), distinct=True), T((2, 3, 4), layout="transposed", distinct=True)
S, Z, E = T((4, 6), layout="strided", distinct=True), T(()), T((0, 3))
BITS = T((3, 4), 0, 1)
LONG = T((5, 300), distinct=True)
ODD = T((7,), special=True)
DIGITS = T((3, 4), 0, 3)


def sorts(**how):
    """Sorted along each dimension, both ways; NaN, 0-d, empty."""
    return Entry([call(D), call(D, 0), call(M, 1, True), call(S, -1, True), call(Z), call(E, 1), call(LONG), call(LONG, descending=True),
                  call(T((3, 1), distinct=True), 0), call(ODD, grad=False), call(ODD, 0, True, grad=False)], FLOATS, refuses=[call(A, 2)], **how)


def level(*shape):
    """A sequence in order (all its elements are 0)."""
    return T(shape, 0, 0)


ENTRIES = {
    "nonzero": Entry([call(A), call(BITS), call(M), call(Z), call(E), call(T((5,)), as_tuple=True), call(Z, as_tuple=True)], EVERYTHING, grad=False, out=False),
    "argwhere": Entry([call(A), call(BITS), call(Z), call(E)], EVERYTHING, grad=False, out=False),
    "nonzero_static": Entry([call(A, size=5), call(A, size=50), call(A, size=50, fill_value=7), call(E, size=2)], EVERYTHING, grad=False,
                            refuses=[call(A, size=-1)]),
    "sort": sorts(out=False),
    "argsort": sorts(grad=False, out=False),
    "msort": Entry([call(D), call(M), call(ODD, grad=False)], FLOATS),
    "topk": Entry([call(D, 2), call(D, 2, 0), call(M, 1, 1, False), call(D, 0), call(Z, 1), call(LONG, 5), call(LONG, 5, largest=False), call(LONG, 299)],
                  FLOATS, out=False, refuses=[call(A, 5), call(A, -1), call(A, 1, 2)]),
    "kthvalue": Entry([call(D, 2), call(D, 1, 0), call(M, 3, 1, True), call(Z, 1), call(LONG, 150), call(ODD, 6, grad=False)], FLOATS, out=False,
                      refuses=[call(A, 0), call(A, 5), call(A, 1, 2)]),
    "unique": Entry(
        [call(A, True, True, True), call(T((12,), 0, 3)), call(M), call(T((6, 2), 0, 1), dim=0), call(T((2, 6), 0, 1), return_inverse=True, dim=1),
         call(T((0,))), call(ODD)], EVERYTHING, grad=False, out=False),
    "unique_consecutive": Entry(
        [call(T((12,), 0, 1), return_inverse=True, return_counts=True), call(BITS, return_inverse=True), call(T((6, 1), 0, 1), dim=0), call(T((0,)))],
        NUMERIC, grad=False, out=False),
    "searchsorted": Entry(
        [call(level(5), A), call(level(5), A, right=True), call(level(3, 5), A, side="right"), call(level(5), 1), call(level(5), T((0,)), out_int32=True),
         call(level(5), T((2,), dtype="int64"))], FLOATS, grad=False, refuses=[call(level(3, 5), T((2, 4))), call(level(5), A, side="up")]),
    "bucketize": Entry([call(A, level(5)), call(A, level(5), right=True), call(2, level(5)), call(Z, level(3), out_int32=True)], FLOATS, grad=False,
                       refuses=[call(A, level(2, 3))]),
    "histogram": Entry([call(T((20,)), 4), call(A, 3, range=(-1.0, 1.0)),
                        call(A, 4, weight=T((3, 4), 0.5, 1), range=(-2.0, 2.0), density=True)], FLOATS, grad=False, out=False,
                       refuses=[call(T((3,), dtype="int64"), 3)]),
    "isin": Entry([call(DIGITS, T((2,), 0, 3)), call(DIGITS, 1), call(T((5,), 0, 3), T((0,))), call(T((6,), 0, 3), T((2, 2), 0, 3), invert=True)],
                  NUMERIC, grad=False),
}
