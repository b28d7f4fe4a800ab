"""Convolutions of a batch of 32: forward, and forward with both gradients; PyTorch also with its channels last in memory."""
import torch
import torch.nn.functional as F
from _timing import LIBRARY, family

BATCH = 32
SHAPES = [      # name, input without the batch, weight, keywords
    ("3x3, 64 channels, 56x56", (64, 56, 56), (64, 64, 3, 3), {"padding": 1}),
    ("3x3, 128 channels, 28x28", (128, 28, 28), (128, 128, 3, 3), {"padding": 1}),
    ("3x3, 256 channels, 14x14", (256, 14, 14), (256, 256, 3, 3), {"padding": 1}),
    ("3x3, 512 channels, 7x7", (512, 7, 7), (512, 512, 3, 3), {"padding": 1}),
    ("7x7 stride 2, 3 to 64 channels, 224x224", (3, 224, 224), (64, 3, 7, 7), {"padding": 3, "stride": 2}),
    ("5x5, 64 channels, 28x28", (64, 28, 28), (64, 64, 5, 5), {"padding": 2}),
    ("1x1, 256 to 64 channels, 56x56", (256, 56, 56), (64, 256, 1, 1), {}),
    ("3x3 stride 2, 128 channels, 56x56", (128, 56, 56), (128, 128, 3, 3), {"padding": 1, "stride": 2}),
    ("3x3 depthwise, 128 channels, 56x56", (128, 56, 56), (128, 1, 3, 3), {"padding": 1, "groups": 128}),
    ("3x3, 32 groups, 256 channels, 28x28", (256, 28, 28), (256, 8, 3, 3), {"padding": 1, "groups": 32}),
    ("3x3 dilated 2, 128 channels, 28x28", (128, 28, 28), (128, 128, 3, 3), {"padding": 2, "dilation": 2}),
    ("1-D, 9 wide, 64 channels, 16384", (64, 16384), (64, 64, 9), {"padding": 4}),
    ("3-D, 3x3x3, 32 channels, 16x16x16", (32, 16, 16, 16), (32, 32, 3, 3, 3), {"padding": 1}),
    ("4x4 transposed, stride 2, 64 channels, 28x28", (64, 28, 28), (64, 64, 4, 4), {"padding": 1, "stride": 2, "transposed": True}),
]
HALVES = {name for name, *_ in SHAPES[:5]} | {"1x1, 256 to 64 channels, 56x56", "3x3 stride 2, 128 channels, 56x56"}      # also in bfloat16
torch.manual_seed(0)


def function(weight, transposed):
    return getattr(F, f"conv_transpose{len(weight) - 2}d" if transposed else f"conv{len(weight) - 2}d")


def output_size(shape, weight, stride=1, padding=0, dilation=1, transposed=False, groups=1):
    if transposed:
        return [(n - 1) * stride - 2 * padding + dilation * (k - 1) + 1 for n, k in zip(shape[1:], weight[2:])]
    return [(n + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for n, k in zip(shape[1:], weight[2:])]


def operations(shape, weight, how):
    """Of the forward pass: every weight meets every place of the output (of the input, if transposed)."""
    count = 2 * BATCH
    for n in (*weight, *(shape[1:] if how.get("transposed") else output_size(shape, weight, **how))):
        count *= n
    return count


def convolution(shape, weight, transposed=False, gradients=False, layout=None, dtype=torch.float32, **how):
    def make():
        f = function(weight, transposed)
        x, w = torch.randn(BATCH, *shape).to(dtype), torch.randn(*weight).to(dtype)
        if layout:
            form = torch.channels_last if len(shape) == 3 else torch.channels_last_3d
            x, w = x.to(memory_format=form), w.to(memory_format=form)
        if not gradients:
            def step():
                y = f(x, w, **how)
                return y[-1, -1, -1].reshape(-1)[-1].item()
            return step
        x.requires_grad_()
        w.requires_grad_()
        g = torch.randn(f(x, w, **how).shape).to(dtype)
        if layout:
            g = g.to(memory_format=form)

        def both():
            x.grad = w.grad = None
            f(x, w, **how).backward(g)
            return x.grad[-1, -1, -1].reshape(-1)[-1].item(), w.grad[-1, -1, -1].reshape(-1)[-1].item()
        return both
    return make


def cases():
    layouts = (None, "channels last") if LIBRARY == "torch" else (None,)
    for name, shape, weight, how in SHAPES:
        flops = operations(shape, weight, how)
        for gradients in (False, True):
            for layout in layouts if len(shape) > 2 else (None,):
                facts = {"flops": (3 if gradients else 1) * flops, "layout": layout}
                title = f"{name}, gradients" if gradients else name
                yield title, convolution(shape, weight, gradients=gradients, layout=layout, **how), facts
                if name in HALVES:          # float16 takes PyTorch minutes
                    made = convolution(shape, weight, gradients=gradients, layout=layout, dtype=torch.bfloat16, **how)
                    yield f"{title}, bfloat16", made, {**facts, "dtype": "bfloat16", "plain": title}


family(cases())
