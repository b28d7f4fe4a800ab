"""Samples of ``flambeau/ops/spatial.py``: the same cases in one, two and three dimensions."""

from samples import FLOATS, Entry, T, call

SIZE, KERNEL = (7, 6, 5), (3, 2, 3)


def t(*shape, **how):
    return T(shape, **how)


def distinct(*shape):
    return T(shape, -9, 9, distinct=True)


def convolutions(n):
    size, kernel = SIZE[:n], KERNEL[:n]
    x, w = t(2, 4, *size), t(6, 4, *kernel)
    calls = [
        call(x, w),
        call(x, w, t(6)),
        call(x, w, None, 2, 1),
        call(t(4, *size), w, t(6)),
        call(x, t(6, 2, *kernel), t(6), padding=1, dilation=2, groups=2),
        call(x, t(4, 1, *kernel), groups=4),
        call(x, w, padding="same"),
        call(x, w, padding="valid"),
        call(x, w, None, (2,) * n, (0,) * n, (1,) * n),
        call(t(0, 4, *size), w),
        call(t(4, 8, *(12,) * n), t(8, 8, *kernel), t(8), padding=1, grad=False),
        call(t(4, 8, *(12,) * n), t(8, 4, *kernel), None, 2, 1, groups=2, grad=False),
    ]
    refuses = [
        call(t(2, 3, *size), w),
        call(x, w, groups=4),
        call(x, w, t(5)),
        call(t(2, 4, *(1,) * n), w),
        call(t(2), w),
        call(x, w, padding="same", stride=2),
        call(x, T((6, 4, *kernel), dtype="float64")),
        call(x, w, None, 0),
        call(x, w, padding="some"),
    ]
    return Entry(calls, FLOATS, out=False, refuses=refuses, tolerance=20.0)


def transposed(n):
    size, kernel = SIZE[:n], KERNEL[:n]
    x, w = t(2, 4, *size), t(4, 3, *kernel)
    calls = [
        call(x, w),
        call(x, w, t(3)),
        call(x, w, None, 2, 1),
        call(t(4, *size), w),
        call(x, w, None, 2, 1, 1),
        call(x, t(4, 3, *kernel), t(6), 1, 1, 0, 2, 2),
        call(t(4, 8, *(6,) * n), t(8, 4, *kernel), None, 2, 1, 1, 2, grad=False),
    ]
    return Entry(calls, FLOATS, out=False, refuses=[call(t(2, 3, *size), w), call(x, w, t(5))], tolerance=20.0)


def max_pools(n):
    x = distinct(2, 3, *(9, 8, 5)[:n])
    calls = [
        call(x, 2),
        call(x, 3, 2, 1),
        call(x, 3, 2, 1, 1, True),
        call(x, 2, 3, 1, 1, True),
        call(x, 3, 1, 1, 2),
        call(distinct(3, *(6,) * n), 2),
        call(x, (2,) * n, (1,) * n),
    ]
    return Entry(calls, FLOATS, out=False, refuses=[call(x, 20), call(x, 2, padding=2), call(t(3), 2), call(x, 0)])


def average_pools(n):
    x = t(2, 3, *(9, 8, 5)[:n])
    calls = [
        call(x, 2),
        call(x, 3, 2, 1),
        call(x, 3, 2, 1, True),
        call(x, 3, 2, 1, True, False),
        call(x, 3, 1, 1, False, False),
        call(t(3, *(6,) * n), 2),
    ]
    if n > 1:
        calls.append(call(x, 2, divisor_override=3))
    return Entry(calls, FLOATS, out=False, refuses=[call(x, 20), call(x, 2, padding=2)])


def adaptive(n, make, result=None):
    x = make(2, 3, *(9, 8, 5)[:n])
    calls = [call(x, o) for o in (1, 2, 3, 7, 10)] + [call(make(3, *(6,) * n), 4)]
    if n > 1:
        calls.append(call(x, (2, None, 3)[:n]))
    return Entry(calls, FLOATS, out=False, refuses=[call(t(3), 2)], result=result)


def first(result):
    return result[0] if isinstance(result, tuple) else result


ENTRIES = {
    "convolution": Entry(
        [
            call(t(2, 4, 6, 5), t(6, 4, 3, 2), t(6), (1, 2), (0, 1), (1, 1), False, (0, 0), 1),
            call(t(2, 4, 6, 5), t(4, 3, 3, 2), None, (2, 2), (0, 1), (1, 1), True, (1, 0), 2),
        ],
        FLOATS,
        out=False,
    ),
    "conv_tbc": Entry([call(t(6, 2, 4), t(3, 4, 5), t(5)), call(t(6, 2, 4), t(3, 4, 5), t(5), 1)], FLOATS, out=False, tolerance=5.0),
    "constant_pad_nd": Entry(
        [call(t(2, 3, 4), p, v) for p, v in (((1, 2), 0), ((1, 0, 2, 1), 1.5), ((-1, 2), 2), ((-1, -1, 0, 1, 2, 0), 0), ((0, 0), 3))]
        + [call(t(3, layout="expanded"), (1, 1)), call(t(0, 3), (1, 1, 2, 0), 1.0)],
        (*FLOATS, "int64", "bool"),
        out=False,
        refuses=[call(t(2, 3), (1,)), call(t(2, 3), (-4, 0)), call(t(3), (1, 1, 1, 1))],
    ),
}
for n in (1, 2, 3):
    ENTRIES[f"conv{n}d"] = convolutions(n)
    ENTRIES[f"conv_transpose{n}d"] = transposed(n)
    ENTRIES[f"max_pool{n}d"] = ENTRIES[f"max_pool{n}d_with_indices"] = max_pools(n)
    ENTRIES[f"avg_pool{n}d"] = average_pools(n)
    ENTRIES[f"adaptive_avg_pool{n}d"] = adaptive(n, t)
    ENTRIES[f"adaptive_max_pool{n}d"] = adaptive(n, distinct, None if n == 1 else first)
