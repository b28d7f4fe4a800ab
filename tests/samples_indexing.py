"""Samples of ``flambeau/ops/indexing.py``."""

from samples import EVERYTHING, FLOATS, NUMERIC, Entry, T, call

A, M, W, E = T((3, 4)), T((2, 3, 4), layout="transposed"), T((3, 4), layout="expanded"), T((0, 3))
ROWS, ROW = T((2, 4)), T((1, 4))
MASK = T((3, 4), dtype="bool")
APART = T((3, 4), 0.5, 2, distinct=True)
OTHERS = T((2, 4), 0.6, 2.1, distinct=True)


def places(*shape, below=3, dtype="int64"):
    """An index tensor."""
    return T(shape, 0, below - 1, dtype=dtype)


FEW, NARROW = places(3), places(2, dtype="int32")
ONE, ONE_ROW = places(1), places(1, 4)      # nothing is stored twice, so that the result does not depend on an order
OUTSIDE = T((2,), 50, 90, dtype="int64")
WIDE = T((2, 4), 50, 90, dtype="int64")


def arrivals(**kwargs):
    """Scattered along every axis, into other layouts, from a larger source, from nothing."""
    return [
        call(A, 0, places(2, 4), ROWS, **kwargs), call(A, 1, places(3, 3, below=4), A, **kwargs),
        call(M, 1, places(2, 3, 4), T((2, 3, 4), layout="strided"), **kwargs), call(E, 0, places(0, 2), T((0, 2)), **kwargs),
    ]


def reductions(call_one, *names):
    """Every way to combine, with and without what was there."""
    return [call_one(r, keep) for r in names for keep in (True, False)]


def copies(*calls, **how):
    """The copy of a view."""
    return Entry(calls, EVERYTHING, **how)


ENTRIES = {
    "gather": Entry(
        [call(A, 0, places(2, 4)), call(A, 1, places(3, 7, below=4)), call(M, -1, places(2, 3, 2, below=4)), call(W, 0, places(2, 2)),
         call(T((4, 6), layout="strided"), 0, places(3, 6)), call(T(()), 0, places(0)), call(E, 1, places(0, 2)), call(A, 0, places(2, 4, dtype="int32"))],
        EVERYTHING, refuses=[call(A, 0, FEW), call(A, 0, places(2, 9)), call(A, 0, A), call(A, 0, WIDE), call(A, 2, places(2, 4))]),
    "scatter": Entry(
        [call(A, 0, ONE_ROW, ROW), call(T((5,)), 0, ONE, T((1,))), call(A, 0, places(2, 4), 1.5), call(E, 0, places(0, 2), T((0, 2))),
         call(A, 0, ONE_ROW, 2, reduce="add", grad=False), call(A, 0, places(2, 4), 2, reduce="multiply", grad=False)],
        NUMERIC, inplace=True, refuses=[call(A, 0, places(2, 4), ROW), call(A, 0, ROWS, 1.0), call(A, 0, places(2, 4), A, reduce="mean"),
                                        call(A, 0, WIDE, 1.0)]),
    "scatter_add": Entry(arrivals(), EVERYTHING, inplace=True, refuses=[call(A, 0, places(2, 4), T((2, 4), dtype="float64"))]),
    "scatter_reduce": Entry(
        [*reductions(lambda r, keep: call(APART, 0, places(2, 4), OTHERS, r, include_self=keep), "sum", "prod", "mean", "amax", "amin"),
         *arrivals(reduce="sum")], FLOATS, inplace=True, refuses=[call(A, 0, places(2, 4), ROWS, "median")]),
    "index_select": Entry(
        [call(A, 0, FEW), call(A, 1, NARROW), call(M, 2, places(5, below=4)), call(T((4, 6), layout="strided"), 0, places(2)), call(W, 1, FEW),
         call(A, -1, places(0))], EVERYTHING, refuses=[call(A, 0, places(2, 2)), call(A, 0, T((2,))), call(A, 0, OUTSIDE), call(A, 3, FEW)]),
    "index_add": Entry(
        [call(A, 0, NARROW, ROWS), call(A, 0, places(2), ROWS, alpha=-2), call(M, 1, FEW, T((2, 3, 4))), call(A, 1, places(0), T((3, 0)))],
        NUMERIC, inplace=True, refuses=[call(A, 0, FEW, ROWS), call(A, 0, T((2,)), ROWS), call(A, 0, OUTSIDE, ROWS)]),
    "index_copy": Entry([call(A, 0, ONE, ROW), call(M, 1, ONE, T((2, 1, 4))), call(A, 1, places(0), T((3, 0)))], EVERYTHING, inplace=True,
                        refuses=[call(A, 0, FEW, ROWS), call(A, 0, OUTSIDE, ROWS)]),
    "index_fill": Entry([call(A, 0, FEW, 2), call(A, 1, ONE, T(())), call(A, 1, FEW, T(()), grad=False), call(M, 2, places(0), 1)], EVERYTHING, inplace=True,
                        out=False, refuses=[call(A, 0, places(2, 2), 1.0), call(A, 0, FEW, T((2,))), call(A, 0, NARROW, 1.0)]),
    "index_reduce": Entry(
        reductions(lambda r, keep: call(APART, 0, places(2), OTHERS, r, include_self=keep), "prod", "mean", "amax", "amin"), FLOATS, inplace=True,
        refuses=[call(A, 0, NARROW, ROWS, "sum")]),
    "index_put": Entry(
        [call(A, (ONE,), T(())), call(A, (FEW,), T(()), grad=False), call(A, (places(2, 1), places(3)), T(()), True), call(A, (ONE,), ROW),
         call(A, (places(5),), T((5, 4)), True), call(A, (MASK,), T(()))],
        NUMERIC, inplace=True, out=False, refuses=[call(A, (FEW,), ROWS), call(A, (FEW,), T((), dtype="int64")), call(A, (OUTSIDE,), T(()))]),
    "take": Entry([call(A, places(2, 3, below=12)), call(M, places(5, below=24)), call(A, T((3,), -12, -1, dtype="int64")), call(A, places(0))],
                  EVERYTHING, refuses=[call(A, T((2,))), call(A, OUTSIDE)]),
    "put": Entry([call(A, places(5, below=12), T((5,)), True), call(M, places(1, below=24), T((1,))), call(A, places(0), T((0,)))], NUMERIC, inplace=True,
                 out=False, refuses=[call(A, FEW, T((2,))), call(A, OUTSIDE, T((2,)))]),
    "take_along_dim": Entry([call(A, ONE_ROW, 0), call(A, places(3, 2, below=4), 1), call(T((3, 1)), places(3, 4), 0), call(A, places(5, below=12))],
                            EVERYTHING, refuses=[call(A, FEW, 0), call(A, A, 0)]),
    "masked_select": Entry([call(A, MASK), call(M, T((3, 1), dtype="bool")), call(T((4,)), MASK), call(E, T((3,), dtype="bool"))], EVERYTHING,
                           refuses=[call(A, A), call(A, T((5,), dtype="bool"))]),
    "masked_scatter": Entry([call(A, MASK, T((12,))), call(A, T((4,), dtype="bool"), T((5, 4)))], EVERYTHING, inplace=True, out=False,
                            refuses=[call(A, A, A), call(A, MASK, T((1,))), call(A, MASK, T((12,), dtype="float64"))]),
    "embedding": Entry(
        [call(A, places(2, 5)), call(A, places()), call(T((3, 4), layout="transposed"), NARROW), call(A, places(4), 1, grad=False),
         call(A, places(6), -1, True, grad=False), call(A, places(0, 2))], FLOATS, out=False, refuses=[call(A, T((2,))), call(T((3,)), FEW), call(A, OUTSIDE)]),
    "repeat_interleave": Entry(
        [call(A, 2), call(A, 3, 1), call(M, places(3, below=4), 1), call(A, T((1,), 2, 2, dtype="int64"), 0), call(A, 0, 0), call(places(4, below=4), grad=False)],
        EVERYTHING, out=False, refuses=[call(A, -1), call(A, NARROW, 0)]),
    "fill": Entry([call(A, 2), call(M, T(())), call(E, 1)], EVERYTHING, inplace=True, out=False),
    "unravel_index": Entry([call(places(2, 5, below=12), (3, 4)), call(places(below=6), 7)], ("int64",), grad=False, out=False, refuses=[call(T((2,)), (3, 4))]),
    "segment_reduce": Entry(
        [call(T((6, 2), 0.5, 2, distinct=True), r, lengths=T((3,), 2, 2, dtype="int64")) for r in ("sum", "mean", "max", "min", "prod")]
        + [call(T((2, 4), 0.5, 2, distinct=True), "max", lengths=T((2, 2), 2, 2, dtype="int64"), axis=1, initial=1.0)], FLOATS, out=False,
        refuses=[call(A, "median", lengths=FEW)]),
    # the copies of views
    "alias_copy": copies(call(A), call(M)),
    "as_strided_copy": copies(call(A, (2, 2), (1, 2)), call(A, (2, 2), (1, 2), 3)),
    "detach_copy": copies(call(A), grad=False),
    "diagonal_copy": copies(call(A), call(M, 1, 0, 2)),
    "expand_copy": copies(call(T((3, 1)), (2, 3, 4))),
    "narrow_copy": copies(call(A, 1, 1, 2), call(M, 0, 0, 1)),
    "permute_copy": copies(call(M, (2, 0, 1))),
    "select_copy": copies(call(A, 0, 1), call(M, -1, -2)),
    "slice_copy": copies(call(A, 1, 0, 4, 2), call(A, 0, 1)),
    "split_copy": copies(call(A, 2, 1), out=False),
    "split_with_sizes_copy": copies(call(A, (1, 3), 1), out=False),
    "squeeze_copy": copies(call(T((3, 1, 2))), call(T((1, 3)), 0)),
    "t_copy": copies(call(A)),
    "transpose_copy": copies(call(M, 0, 2)),
    "unbind_copy": copies(call(A), call(M, 1), out=False),
    "unfold_copy": copies(call(A, 1, 2, 1)),
    "unsqueeze_copy": copies(call(A, 1)),
    "view_copy": copies(call(A, (2, 6))),
}
