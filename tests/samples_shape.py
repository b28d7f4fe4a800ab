"""Samples of ``flambeau/ops/shape.py``, and of the views that ``flambeau/ops/definition.py`` records itself."""

from samples import EVERYTHING, FLOATS, Entry, T, call

A, M, S, W, E, Z, V = (T((3, 4)), T((2, 3, 4), layout="transposed"), T((4, 6), layout="strided"), T((3, 4), layout="expanded"), T((0, 3)), T(()), T((5,)))
Q3, LIKE = T((2, 3, 3)), T((2, 6), gradient=False)      # only the shape of the latter is looked at


def shapes(*calls, **how):
    """An operation that moves elements and computes nothing."""
    return Entry(calls, EVERYTHING, out=how.pop("out", False), **how)


def own(*calls, **how):
    """The same, as a method only."""
    return shapes(*calls, method=True, **how)


def every(*args, **kwargs):
    """The same arguments in every layout of two or more axes."""
    return [call(x, *args, **kwargs) for x in (A, M, S, W, E)]


LISTS = [call([A, T((2, 4), layout="strided")]), call([A, W]), call([E, T((2, 3))]), call([M, T((1, 3, 4))]), call([A])]
ALIKE = [call([A, W]), call([M, T((2, 3, 4))]), call([E, E]), call([Z, Z])]
ROWS = [call([A, T((3, 2), layout="strided")]), call([V, T((2,))])]
SQUARES = [call(x, *d) for x in (A, M, Q3, E) for d in ((), (1,), (-2,))]

ENTRIES = {
    # views
    "transpose": shapes(*every(0, 1), call(M, -1, 0), call(Z, 0, -1), refuses=[call(A, 0, 2)]),
    "swapaxes": shapes(*every(0, -1), refuses=[call(A, 0, 2)]),
    "swapdims": shapes(*every(0, -1)),
    "t": shapes(call(A), call(W), call(E), call(V), call(Z), refuses=[call(M)]),
    "adjoint": shapes(*every(), grad=True),
    "permute": shapes(call(M, (2, 0, 1)), call(A, (-1, 0)), call(Z, ()), call(E, (1, 0)), refuses=[call(A, (0, 0)), call(A, (0,)), call(A, (0, 2))]),
    "movedim": shapes(call(M, 0, 2), call(M, (0, 1), (2, 0)), call(E, 0, 1), refuses=[call(M, (0, 1), (0,)), call(M, 0, 3)]),
    "moveaxis": shapes(call(M, 0, 2), call(M, (0, 1), (2, 0))),
    "select": shapes(*every(1, 2), call(A, 0, -1), refuses=[call(A, 0, 3), call(A, 2, 0), call(Z, 0, 0)]),
    "narrow": shapes(*every(1, 1, 2), call(A, 0, -2, 2), call(A, 0, 1, 0), refuses=[call(A, 0, 2, 2), call(A, 0, 0, -1), call(A, 5, 0, 1)]),
    "unsqueeze": shapes(*every(1), call(Z, 0), call(A, -1), refuses=[call(A, 3), call(A, -4)]),
    "squeeze": shapes(call(T((1, 3, 1))), call(T((1, 3, 1)), 0), call(T((1, 3, 1)), (0, 2)), call(A, 0), call(Z), call(E), refuses=[call(A, 2)]),
    "diagonal": shapes(*every(), call(A, 1), call(M, -1, 0, 2), call(A, 9), refuses=[call(A, 0, 0, 0), call(V)]),
    "unfold": own(call(V, 0, 2, 1), call(A, 1, 3, 1), call(S, 0, 2, 3), call(M, -1, 4, 2), refuses=[call(V, 0, 6, 1), call(V, 0, 2, 0), call(V, 1, 1, 1)]),
    "as_strided": shapes(call(A, (2, 3), (4, 1)), call(A, (2, 2), (1, 4), 3), call(V, (), (), 2), call(E, (0, 2), (1, 1)), refuses=[call(A, (5, 5), (4, 1))]),
    "view": own(call(A, 2, 6), call(A, -1), call(A, (4, 3)), call(E, 3, 0), call(Z, 1, 1), call(S, 2, 2, 6),
                refuses=[call(A, 5), call(A, -1, -1), call(W, 12), call(M, 24)]),
    "view_as": own(call(A, LIKE), refuses=[call(A, V)]),
    "reshape": shapes(*every((-1,))[:4], call(A, (2, 6)), call(E, (3, 0)), call(Z, (1, 1)), refuses=[call(A, (5,)), call(A, (-1, -1)), call(E, (-1, 0))]),
    "reshape_as": own(call(A, LIKE), call(W, LIKE), refuses=[call(A, V)]),
    "expand": own(call(T((3, 1)), 3, 4), call(V, 2, -1), call(Z, 2, 2), call(T((1, 0)), 3, 0), refuses=[call(A, 3, 5), call(A, 4), call(V, -1, 5)]),
    "expand_as": own(call(T((3, 1)), T((3, 4), gradient=False)), refuses=[call(A, V)]),
    "broadcast_to": shapes(call(T((3, 1)), (3, 4)), call(Z, (2, 2)), refuses=[call(A, (3, 5))]),
    "flatten": shapes(*every(), call(M, 1), call(M, 0, 1), call(Z), refuses=[call(M, 2, 1), call(A, 3)]),
    "unflatten": shapes(call(A, 1, (2, 2)), call(A, 1, (2, -1)), call(E, 1, (3, 1)), refuses=[call(A, 1, (3, 2)), call(A, 2, (1, 1))]),
    "ravel": shapes(*every(), call(Z)),
    "chunk": shapes(*every(2, 1), call(V, 3), call(V, 9), refuses=[call(V, 0), call(Z, 1)]),
    "unsafe_chunk": shapes(call(V, 3)),
    "split": shapes(*every(2, 1), call(V, [1, 4]), call(V, 9), refuses=[call(V, [2, 2]), call(V, -1), call(Z, 1)]),
    "split_with_sizes": shapes(call(V, [1, 4]), call(A, [1, 0, 3], 1), refuses=[call(V, [2, 2])]),
    "unsafe_split": shapes(call(V, 2)),
    "tensor_split": shapes(*every(2, 1), call(V, (1, 3)), call(V, (3, 1)), refuses=[call(V, 0), call(Z, 1)]),
    "hsplit": shapes(call(A, 2), call(V, 5), call(M, (1,)), refuses=[call(A, 3), call(Z, 1)]),
    "vsplit": shapes(call(A, 3), call(S, (1, 2)), refuses=[call(A, 2), call(V, 1)]),
    "dsplit": shapes(call(M, 2), call(M, (1, 3)), refuses=[call(A, 1)]),
    "unbind": shapes(*every()[:4], call(M, -1), call(E), refuses=[call(Z)]),
    "atleast_1d": shapes(call(Z), call(V), call(A)),
    "atleast_2d": shapes(call(Z), call(V), call(A)),
    "atleast_3d": shapes(call(Z), call(V), call(A), call(M)),
    "broadcast_tensors": shapes(call(T((3, 1)), T((4,))), call(Z, A), refuses=[call(A, V)]),
    # copies
    "diag": shapes(call(V), call(V, 1), call(A), call(A, -1), call(S, 2), refuses=[call(M), call(Z)]),
    "diag_embed": shapes(call(V), call(A, 1), call(A, -1, 0, 2), call(E), refuses=[call(A, 0, 1, 1)]),
    "diagflat": shapes(call(V), call(A, 1), call(Z, -1)),
    "select_scatter": shapes(call(A, T((4,)), 0, 1), call(M, T((2, 4)), 1, -1), refuses=[call(A, V, 0, 1), call(A, T((4,)), 0, 3)]),
    "slice_scatter": shapes(call(A, T((1, 4)), 0, 1, 2), call(S, T((4, 3)), 1, 0, 6, 2), refuses=[call(A, T((2, 4)), 0, 0, 1)]),
    "diagonal_scatter": shapes(call(A, T((3,))), call(M, T((2, 3)), 1, 1, 2), refuses=[call(A, V)]),
    "as_strided_scatter": shapes(call(A, T((2, 2)), (2, 2), (4, 1)), call(A, T((2, 2)), (2, 2), (1, 4), 2)),
    "flip": shapes(*every((0,)), call(M, (0, 2)), call(Z, ()), refuses=[call(A, (2,)), call(A, (0, 0))]),
    "fliplr": shapes(call(A), call(S), refuses=[call(V)]),
    "flipud": shapes(call(A), call(V), refuses=[call(Z)]),
    "roll": shapes(*every(2), call(A, (1, -1), (0, 1)), call(M, 5, 1), refuses=[call(A, (1, 2), (0,)), call(A, 1, 2)]),
    "rot90": shapes(call(A), call(A, 2), call(M, -1, (1, 2)), call(S, 3, (1, 0)), refuses=[call(V), call(A, 1, (0, 0))]),
    "repeat": own(call(A, 2, 1), call(V, 2, 3), call(Z, 3), call(W, 1, 2), call(A, 0, 1), refuses=[call(A, 2), call(A, -1, 1)]),
    "tile": shapes(call(A, (2,)), call(V, (2, 3)), call(Z, (3,)), call(M, (1, 2, 1))),
    "cat": shapes(*LISTS, call([A, T((3, 2))], 1), call([A, T((3, 2))], dim=-1), refuses=[call([A, V]), call([A, T((3, 2))]), call([]), call([Z])], out=True),
    "concat": shapes(*LISTS, out=True),
    "concatenate": shapes(*LISTS, out=True),
    "stack": shapes(*ALIKE, call([A, W], 1), call([A, W], -1), refuses=[call([A, V]), call([]), call([A], 4)], out=True),
    "hstack": shapes(*ROWS, call([Z, Z]), refuses=[call([A, T((2, 4))])], out=True),
    "vstack": shapes(*LISTS[:2], call([V, V]), call([Z, Z]), refuses=[call([A, V])], out=True),
    "row_stack": shapes(*LISTS[:2], out=True),
    "dstack": shapes(*ALIKE, call([V, V]), refuses=[call([A, V])], out=True),
    "column_stack": shapes(*ALIKE[:1], call([V, V]), call([Z, Z]), refuses=[call([A, V])], out=True),
    "block_diag": shapes(call(A, T((1, 2))), call(V, Z), call(E), refuses=[call(M)]),
    "meshgrid": shapes(call(V, T((3,)), indexing="ij"), call(V, Z, indexing="xy"), call(V, T((3,)), T((2,)), indexing="xy"), call(V), refuses=[call(A, indexing="ij"), call(V, V, indexing="no")]),
    "cartesian_prod": shapes(call(V, T((3,))), call(V), refuses=[call(A)]),
    "combinations": shapes(call(V), call(V, 3), call(V, 2, True), refuses=[call(A)]),
    "tril": shapes(*SQUARES, refuses=[call(V)], out=True, inplace=True),
    "triu": shapes(*SQUARES, refuses=[call(V)], out=True, inplace=True),
    "tril_indices": Entry([call(3, 4), call(4, 3, 1), call(3, 3, -1), call(0, 2)], ("int64",), grad=False, out=False, refuses=[call(-1, 2)]),
    "triu_indices": Entry([call(3, 4), call(4, 3, 1), call(3, 3, -1), call(0, 2)], ("int64",), grad=False, out=False, refuses=[call(-1, 2)]),
    "vander": Entry([call(V), call(V, 3), call(V, 3, True), call(V, 0)], FLOATS, out=False, refuses=[call(A)]),
}
