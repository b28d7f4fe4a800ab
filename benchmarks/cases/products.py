"""Matrix products: square ones, thin ones, batches; plain, transposed and strided operands, float64 and bfloat16."""
import torch
from _timing import family

SHAPES = [                                  # M x K x N
    (1024, 1024, 1024), (512, 512, 512), (256, 256, 256), (128, 128, 128), (2048, 2048, 2048), (1000, 999, 1001),
    (64, 784, 256), (64, 256, 128), (16, 16, 16), (4096, 64, 4096), (1, 4096, 4096), (4096, 4096, 1),
]
LONG = [                                    # few rows and columns, a long k
    (16, 100000, 16), (64, 65536, 64), (8, 1000000, 8), (128, 16384, 128), (32, 8192, 32), (1, 100000, 32), (8, 1000000, 1),
]
VARIANTS = ("", "A transposed", "B transposed", "A strided", "B strided", "float64")
BATCH, OF = 96, (128, 64, 128)
torch.manual_seed(0)


def operand(rows, columns, how, dtype, batch=()):
    if how == "transposed":
        return torch.randn(*batch, columns, rows).to(dtype).transpose(-1, -2)
    if how == "strided":                    # every other element of each row
        return torch.randn(*batch, rows, 2 * columns).to(dtype)[..., ::2]
    return torch.randn(*batch, rows, columns).to(dtype)


def operands(m, k, n, variant, batch=()):
    dtype = getattr(torch, variant, torch.float32) if variant else torch.float32
    which, _, how = variant.partition(" ")
    return (operand(m, k, how if which == "A" else "", dtype, batch),
            operand(k, n, how if which == "B" else "", dtype, batch))


def product(m, k, n, variant, batch=()):
    def make():
        a, b = operands(m, k, n, variant, batch)

        def step():
            c = a @ b
            return c.view(-1)[-1].item()    # c is alive here: all of it has to be written
        return step
    return make


def chain(n, variant, length):
    """Products one after the other, looked at once."""
    def make():
        a, b = operands(n, n, n, variant)
        b.mul_(n ** -0.5)                   # so that results neither vanish nor overflow

        def step():
            c = a
            for _ in range(length):
                c = c @ b
            return c.view(-1)[-1].item()
        return step
    return make


def cases():
    def one(name, make, flops, variant, **facts):
        wide = variant in ("float64", "bfloat16")
        more = {"dtype": variant} if wide else {}
        if variant:
            more["plain"] = name
        return (f"{name}, {variant}" if variant else name), make, {"flops": flops, **more, **facts}

    for shape in SHAPES:
        m, k, n = shape
        square = shape in ((512, 512, 512), (1024, 1024, 1024))
        for variant in (*VARIANTS, *(("bfloat16",) if square else ())):
            yield one(f"{m}x{k}x{n}", product(m, k, n, variant), 2 * m * k * n, variant)
        if m == 16:
            for variant in VARIANTS:
                yield one("16x16x16, chain of 100", chain(16, variant, 100), 2 * 16**3, variant, repeat=100)
    for m, k, n in LONG:
        for variant in ("", "A transposed", "B transposed"):
            yield one(f"{m}x{k}x{n}", product(m, k, n, variant), 2 * m * k * n, variant)
    m, k, n = OF
    for variant in VARIANTS:
        yield one(f"{BATCH} of {m}x{k}x{n}", product(m, k, n, variant, (BATCH,)), 2 * BATCH * m * k * n, variant)


family(cases())
