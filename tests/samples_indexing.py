"""Samples of ``flambeau/ops/indexing.py``."""

from samples import EVERYTHING, FLOATS, NUMERIC, Entry, T, call

A, M, W, E = T((3, 4)), T((2, 3, 4), layout="transposed"), T((3, 4), layout="expanded"), T((0, 3))
ROWS = T((2, 4))
MASK = T((3, 4), dtype="bool")
FEW = T((3,), 0, 2, dtype="int64")
NARROW = T((2,), 0, 2, dtype="int32")


def places(*shape, below=3, layout="plain"):
    """An index tensor."""
    return T(shape, 0, below - 1, dtype="int64", layout=layout)


def gathers():
    return [call(A, 0, places(2, 4)), call(A, 1, places(3, 7, below=4)), call(M, -1, places(2, 3, 2, below=4)), call(T((4, 6), layout="strided"), 0, places(3, 6)),
            call(W, 0, places(2, 2)), call(T(()), 0, places(0)), call(E, 1, places(0, 2)),
            call(A, 0, T((2, 4), 0, 2, dtype="int32"))]


def scatters(**kwargs):
    return [call(A, 0, places(2, 4), T((2, 4)), **kwargs), call(A, 1, places(3, 3, below=4), T((3, 4)), **kwargs),
            call(M, 1, places(2, 3, 4), T((2, 3, 4), layout="strided"), **kwargs), call(E, 0, places(0, 2), T((0, 2)), **kwargs)]


ONE_ROW, ONE = places(1, 4), places(1)        # stored at different places, where the result does not depend on an order


def reductions(*names):
    return [call(T((3, 4), 0.5, 2, distinct=True), 0, places(2, 4), T((2, 4), 0.6, 2.1, distinct=True), r, include_self=keep)
            for r in names for keep in (True, False)]


def views(*calls, **how):
    """The copy of a view, with an ``out=`` form where there is one result."""
    return Entry(calls, EVERYTHING, **how)


ENTRIES = {
    "gather": Entry(gathers(), EVERYTHING, refuses=[call(A, 0, FEW), call(A, 0, places(2, 9)), call(A, 0, T((3, 4))), call(A, 0, places(2, 4, below=50)),
                                                   call(A, 2, places(2, 4))]),
    "scatter": Entry([call(A, 0, ONE_ROW, T((1, 4))), call(T((5,)), 0, ONE, T((1,))), call(A, 0, places(2, 4), 1.5), call(E, 0, places(0, 2), T((0, 2))), call(A, 0, places(1, 4), 2, reduce="add", grad=False),
                      call(A, 0, places(2, 4), 2, reduce="multiply", grad=False)], NUMERIC, inplace=True,
                     refuses=[call(A, 0, places(2, 4), T((1, 4))), call(A, 0, T((2, 4)), 1.0), call(A, 0, places(2, 4), A, reduce="mean"),
                              call(A, 0, places(2, 4, below=60), 1.0)]),
    "scatter_add": Entry(scatters(), EVERYTHING, inplace=True, refuses=[call(A, 0, places(2, 4), T((2, 4), dtype="float64"))]),
    "scatter_reduce": Entry([*reductions("sum", "prod", "mean", "amax", "amin"), *scatters(reduce="sum")], FLOATS, inplace=True,
                            refuses=[call(A, 0, places(2, 4), T((2, 4)), "median")]),
    "index_select": Entry([call(A, 0, FEW), call(A, 1, NARROW), call(M, 2, places(5, below=4)), call(T((4, 6), layout="strided"), 0, places(2)), call(W, 1, FEW),
                           call(A, -1, places(0))],
                          EVERYTHING, refuses=[call(A, 0, places(2, 2)), call(A, 0, T((2,))), call(A, 0, places(4, below=40)), call(A, 3, FEW)]),
    "index_add": Entry([call(A, 0, NARROW, ROWS), call(A, 0, places(2), ROWS, alpha=-2), call(M, 1, FEW, T((2, 3, 4))), call(A, 1, places(0), T((3, 0)))],
                       NUMERIC, inplace=True, refuses=[call(A, 0, FEW, ROWS), call(A, 0, T((2,)), ROWS), call(A, 0, places(2, below=80), ROWS)]),
    "index_copy": Entry([call(A, 0, ONE, T((1, 4))), call(M, 1, ONE, T((2, 1, 4))), call(A, 1, places(0), T((3, 0)))], EVERYTHING, inplace=True,
                        refuses=[call(A, 0, FEW, ROWS), call(A, 0, places(2, below=80), ROWS)]),
    "index_fill": Entry([call(A, 0, FEW, 2), call(A, 1, NARROW, T(())), call(M, 2, places(0), 1)], EVERYTHING, inplace=True, out=False,
                        refuses=[call(A, 0, places(2, 2), 1.0), call(A, 0, FEW, T((2,)))]),
    "index_reduce": Entry([call(T((3, 4), 0.5, 2, distinct=True), 0, places(2), T((2, 4), 0.6, 2.1, distinct=True), r, include_self=keep)
                           for r in ("prod", "mean", "amax", "amin") for keep in (True, False)], FLOATS, inplace=True,
                          refuses=[call(A, 0, NARROW, ROWS, "sum")]),
    "index_put": Entry([call(A, (FEW,), T(())), call(A, (places(2, 1), places(3)), T(()), True),
                        call(A, (places(5),), T((5, 4)), True), call(A, (MASK,), T(())), call(A, (ONE,), T((1, 4)))], NUMERIC, inplace=True, out=False,
                       refuses=[call(A, (FEW,), T((2, 4))), call(A, (FEW,), T((), dtype="int64")), call(A, (places(2, below=70),), T(()))]),
    "take": Entry([call(A, places(2, 3, below=12)), call(M, places(5, below=24)), call(A, T((3,), -12, -1, dtype="int64")), call(A, places(0))], EVERYTHING,
                  refuses=[call(A, T((2,))), call(A, places(3, below=90))]),
    "put": Entry([call(A, places(5, below=12), T((5,)), True), call(M, places(1, below=24), T((1,))), call(A, places(0), T((0,)))], NUMERIC, inplace=True, out=False,
                 refuses=[call(A, FEW, T((2,))), call(A, places(2, below=90), T((2,)))]),
    "take_along_dim": Entry([call(A, places(1, 4), 0), call(A, places(3, 2, below=4), 1), call(T((3, 1)), places(3, 4), 0), call(A, places(5, below=12))],
                            EVERYTHING, refuses=[call(A, FEW, 0), call(A, T((3, 4)), 0)]),
    "masked_select": Entry([call(A, MASK), call(M, T((3, 1), dtype="bool")), call(T((4,)), MASK), call(E, T((3,), dtype="bool"))], EVERYTHING,
                           refuses=[call(A, A), call(A, T((5,), dtype="bool"))]),
    "masked_scatter": Entry([call(A, MASK, T((12,))), call(A, T((4,), dtype="bool"), T((5, 4)))], EVERYTHING, inplace=True, out=False,
                            refuses=[call(A, A, A), call(A, T((3, 4), 1, 2, dtype="bool"), T((2,))), call(A, MASK, T((12,), dtype="float64"))]),
    "embedding": Entry([call(A, places(2, 5)), call(A, T((), 0, 2, dtype="int64")), call(T((3, 4), layout="transposed"), NARROW), call(A, places(4), 1),
                        call(A, places(6), -1, True), call(A, places(0, 2))], FLOATS, out=False,
                       refuses=[call(A, T((2,))), call(T((3,)), FEW), call(A, places(3, below=50))]),
    "repeat_interleave": Entry([call(A, 2), call(A, 3, 1), call(M, T((3,), 0, 3, dtype="int64"), 1), call(A, T((1,), 2, 2, dtype="int64"), 0), call(A, 0, 0),
                                call(T((4,), 0, 3, dtype="int64"), grad=False)], EVERYTHING, out=False, refuses=[call(A, -1), call(A, NARROW, 0)]),
    # the copies of views
    "alias_copy": views(call(A), call(M)), "as_strided_copy": views(call(A, (2, 2), (1, 2)), call(A, (2, 2), (1, 2), 3)), "detach_copy": views(call(A), grad=False),
    "diagonal_copy": views(call(A), call(M, 1, 0, 2)), "expand_copy": views(call(T((3, 1)), (2, 3, 4))), "narrow_copy": views(call(A, 1, 1, 2), call(M, 0, 0, 1)),
    "permute_copy": views(call(M, (2, 0, 1))), "select_copy": views(call(A, 0, 1), call(M, -1, -2)), "slice_copy": views(call(A, 1, 0, 4, 2), call(A, 0, 1)),
    "split_copy": views(call(A, 2, 1), out=False), "split_with_sizes_copy": views(call(A, (1, 3), 1), out=False), "squeeze_copy": views(call(T((3, 1, 2))), call(T((1, 3)), 0)),
    "t_copy": views(call(A)), "transpose_copy": views(call(M, 0, 2)), "unbind_copy": views(call(A), call(M, 1), out=False), "unfold_copy": views(call(A, 1, 2, 1)),
    "unsqueeze_copy": views(call(A, 1)), "view_copy": views(call(A, (2, 6))),
}
