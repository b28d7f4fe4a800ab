"""Samples of ``flambeau/ops/contraction.py``."""

from samples import FLOATS, INTEGERS, Entry, T, call

NUMERIC = (*FLOATS, *INTEGERS)
SIGNED = (*FLOATS, "int64")


def t(*shape, layout="plain"):
    return T(shape, layout=layout)


PRODUCTS = [  # every combination of numbers of dimensions
    call(t(3), t(3)),
    call(t(2, 3), t(3)),
    call(t(3), t(3, 4)),
    call(t(2, 3), t(3, 4)),
    call(t(5, 2, 3), t(3, 4)),
    call(t(5, 2, 3), t(3)),
    call(t(3), t(5, 3, 4)),
    call(t(5, 2, 3), t(5, 3, 4)),
    call(t(1, 2, 3), t(5, 3, 4)),
    call(t(2, 1, 2, 3), t(5, 3, 4)),
    call(t(2, 3), t(5, 3, 4)),
    call(t(0, 3), t(3, 4)),
    call(t(2, 0), t(0, 3)),
    call(t(5, 0, 3), t(5, 3, 2)),
    call(t(4, 3, layout="transposed"), t(3, 4, layout="strided")),
    call(t(4, 3, layout="expanded"), t(3, 2, layout="transposed")),
]
LARGE = [  # a library's
    call(t(110, 100), t(100, 120), grad=False),
    call(t(8, 60, 50), t(50, 60), grad=False),
    call(t(16, 40, 50), t(16, 50, 60), grad=False),
    call(t(100, 110, layout="transposed"), t(110, 120, layout="strided"), grad=False),
]
MISFITS = [
    call(t(3), t(4)),
    call(t(2, 3), t(4)),
    call(t(3), t(4, 4)),
    call(t(2, 3), t(4, 5)),
    call(t(5, 2, 3), t(4, 4)),
    call(t(5, 2, 3), t(5, 4, 4)),
    call(t(5, 2, 3), t(6, 3, 4)),
    call(t(), t(3)),
    call(t(2, 3), T((3, 4), dtype="float64")),
    call(T((2, 3), dtype="bool"), T((3, 2), dtype="bool")),
]
SQUARE = t(3, 3)

ENTRIES = {
    "matmul": Entry([*PRODUCTS, *LARGE], NUMERIC, refuses=MISFITS, tolerance=20.0),
    "mm": Entry(
        [call(t(2, 3), t(3, 4)), call(t(0, 3), t(3, 4)), call(t(3, 2, layout="transposed"), t(2, 4))],
        NUMERIC,
        refuses=[call(t(2, 3), t(4, 5)), call(t(2, 3), t(3))],
    ),
    "bmm": Entry(
        [call(t(5, 2, 3), t(5, 3, 4)), call(t(0, 2, 3), t(0, 3, 4))],
        NUMERIC,
        refuses=[call(t(2, 3), t(3, 4)), call(t(2, 3, 4), t(3, 4, 5)), call(t(2, 3, 4), t(2, 3, 4))],
    ),
    "mv": Entry(
        [call(t(2, 3), t(3)), call(t(0, 3), t(3)), call(t(40, 60), t(60))], NUMERIC, refuses=[call(t(2, 3), t(4)), call(t(3), t(3))]
    ),
    "dot": Entry([call(t(3), t(3)), call(t(0), t(0))], NUMERIC, refuses=[call(t(3), t(4)), call(t(3, 1), t(3))]),
    "vdot": Entry([call(t(3), t(3))], NUMERIC, refuses=[call(t(3), t(4))]),
    "inner": Entry(
        [call(t(3), t(3)), call(t(2, 3), t(4, 3)), call(t(2, 2, 3), t(3)), call(t(), t(2, 3))], NUMERIC, refuses=[call(t(2, 3), t(4, 4))]
    ),
    "outer": Entry(
        [call(t(3), t(4)), call(t(0), t(4)), call(t(3), T((4,), dtype="int64"))], (*NUMERIC, "bool"), refuses=[call(t(2, 3), t(3))]
    ),
    "ger": Entry([call(t(3), t(4))], NUMERIC, refuses=[call(t(3), t(2, 3))]),
    "addmm": Entry(
        [
            call(t(2, 4), t(2, 3), t(3, 4)),
            call(t(4), t(2, 3), t(3, 4)),
            call(t(), t(2, 3), t(3, 4)),
            call(t(2, 4), t(2, 3), t(3, 4), beta=2, alpha=3),
            call(T((2, 4), special=True), t(2, 3), t(3, 4), beta=0, grad=False),
            call(t(2, 4), t(2, 3), t(3, 4), beta=0),
        ],
        SIGNED,
        inplace=True,
        refuses=[
            call(t(3), t(2, 3), t(3, 4)),
            call(t(4), t(2, 3), t(4, 4)),
            call(t(4), t(2, 3, 1), t(3, 4)),
            call(T((4,), dtype="float64"), t(2, 3), t(3, 4)),
        ],
    ),
    "addmv": Entry(
        [call(t(2), t(2, 3), t(3)), call(t(), t(2, 3), t(3)), call(t(2), t(2, 3), t(3), beta=2, alpha=3)],
        SIGNED,
        inplace=True,
        refuses=[call(t(4), t(2, 3), t(3)), call(t(2), t(2, 3), t(4)), call(t(2), t(3), t(3))],
    ),
    "addr": Entry(
        [call(t(2, 3), t(2), t(3)), call(t(3), t(2), t(3)), call(t(2, 3), t(2), t(3), beta=2, alpha=3)],
        (*SIGNED, "bool"),
        inplace=True,
        refuses=[call(t(2, 4), t(2), t(3)), call(t(2, 3), t(2, 1), t(3))],
    ),
    "addbmm": Entry(
        [call(t(2, 3), t(5, 2, 4), t(5, 4, 3)), call(t(3), t(5, 2, 4), t(5, 4, 3), beta=2, alpha=3)],
        SIGNED,
        inplace=True,
        refuses=[call(t(2, 3), t(5, 2, 4), t(6, 4, 3)), call(t(2, 3), t(5, 2, 4), t(5, 3, 3))],
    ),
    "baddbmm": Entry(
        [call(t(5, 2, 3), t(5, 2, 4), t(5, 4, 3)), call(t(2, 1), t(5, 2, 4), t(5, 4, 3), beta=2, alpha=3)],
        SIGNED,
        inplace=True,
        refuses=[call(t(2, 3), t(5, 2, 4), t(6, 4, 3)), call(t(4, 3), t(5, 2, 4), t(5, 4, 3))],
    ),
    "einsum": Entry(
        [
            call("ij,jk->ik", t(2, 3), t(3, 4)),
            call("i,i", t(3), t(3)),
            call("ii", SQUARE),
            call("ii->i", SQUARE),
            call("bij,bjk->bik", t(5, 2, 3), t(5, 3, 4)),
            call("ij->ji", t(2, 3)),
            call("i,j->ij", t(2), t(3)),
            call("ij,jk,kl->il", t(2, 3), t(3, 4), t(4, 2)),
            call("ij,ij->ij", t(2, 3), t(1, 3)),
            call("ij->", t(2, 3)),
            call("...ij,...jk", t(2, 2, 3), t(3, 2)),
            call("i...j,...k->...ik", t(2, 3, 4, 2), t(4, 3)),
            call("ij,jk->ik", t(2, 1), t(3, 4)),
            call("iij,jk->ik", t(3, 3, 2), t(2, 4)),
            call("iji->j", t(3, 2, 3)),
            call("a,b,c->cab", t(2), t(3), t(4)),
            call("ab,cd->", t(2, 3), t(4, 2)),
            call("aB,Bc", t(2, 3), t(3, 4)),
            call(",i->i", t(), t(3)),
            call("b h q d, b h k d -> b h q k", t(2, 3, 4, 2), t(2, 3, 5, 2)),
            call("i,i,i->", t(3), t(3), t(3)),
            call("...->...", t(2, 3)),
            call("ij,jk", t(0, 3), t(3, 2)),
            call(t(2, 3), [0, 1], t(3, 4), [1, 2], [2, 0]),
            call(t(2, 3), [..., 1], t(3, 4), [1, 2]),
        ],
        NUMERIC,
        out=False,
        refuses=[
            call("ij,jk->iz", t(2, 3), t(3, 4)),
            call("ij,jk->ik", t(2, 3), t(4, 4)),
            call("ij->i", t(2, 3, 4)),
            call("ij,jk->ik", t(2, 3)),
            call("ij->ii", t(2, 3)),
            call("i.j->i", t(2, 3)),
            call("i1->i", t(2, 3)),
            call("ii->i", t(2, 3)),
            call("ij", t(2)),
            call("....", t(2)),
            call("ij"),
            call(t(2, 3), [0, 100]),
        ],
    ),
    "tensordot": Entry(
        [
            call(t(2, 3), t(3, 4), 1),
            call(t(2, 3), t(2, 3)),
            call(t(2, 3), t(4), 0),
            call(t(2, 3, 4), t(4, 2, 5), ([0, -1], [1, 0])),
            call(t(1, 3), t(4, 2), ([0], [1])),
        ],
        NUMERIC,
        refuses=[call(t(2, 3), t(4, 5), 1), call(t(2, 3), t(4, 5), 3), call(t(2, 3), t(3, 2), ([0, 1], [0]))],
    ),
    "kron": Entry([call(t(2, 2), t(3)), call(t(2, 3), t(4, 1)), call(t(), t(3)), call(t(0, 2), t(2, 2))], (*NUMERIC, "bool")),
    "chain_matmul": Entry(
        [call(t(2, 3), t(3, 4), t(4, 5), t(5, 1)), call(t(2, 3))], SIGNED, refuses=[call(t(2, 3), t(4, 4)), call(t(2), t(2, 3))]
    ),
    "matrix_power": Entry(
        [call(SQUARE, 0, grad=False), call(SQUARE, 1), call(SQUARE, 2), call(SQUARE, 5), call(t(2, 3, 3), 3)],
        FLOATS,
        refuses=[call(t(3, 4), 2), call(t(3), 2)],
        tolerance=5.0,
    ),
    "cdist": Entry(
        [call(t(3, 2), t(4, 2)), call(t(2, 3, 2), t(4, 2), 1.0), call(t(3, 2), t(4, 2), float("inf"), grad=False), call(t(3, 2), t(4, 2), 3.0)],
        FLOATS,
        out=False,
        second=False,
        refuses=[call(t(3, 2), t(4, 3)), call(t(3), t(3, 1)), call(t(3, 2), t(4, 2), -1.0)],
    ),
    "trace": Entry([call(t(3, 4)), call(SQUARE), call(t(0, 3))], NUMERIC, out=False, refuses=[call(t(3))]),
    "cross": Entry(
        [call(t(2, 3), t(2, 3), 1), call(t(3, 2), t(3, 2), dim=0), call(t(4, 3), t(1, 3), -1)],
        SIGNED,
        refuses=[call(t(2, 4), t(2, 4)), call(t(2, 3), t(3)), call(t(2, 3), t(2, 3), 0)],
    ),
}
