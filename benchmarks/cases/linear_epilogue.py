"""Linear layers and what follows them at once: bias, ReLU, GELU."""
import torch
import torch.nn.functional as F
from _timing import family

SHAPES = [(64, 784, 256), (1024, 1024, 1024), (4096, 256, 1024), (8, 512, 512)]     # rows x inputs x outputs
AFTER = {"": lambda y: y, "ReLU": F.relu, "GELU": F.gelu}
torch.manual_seed(0)


def linear(rows, inputs, outputs, after):
    def make():
        x, weight, bias = torch.randn(rows, inputs), torch.randn(outputs, inputs) / inputs ** 0.5, torch.randn(outputs)

        def step():
            y = after(F.linear(x, weight, bias))
            return y.view(-1)[-1].item()
        return step
    return make


def cases():
    for rows, inputs, outputs in SHAPES:
        name = f"{rows}x{inputs}x{outputs}, bias"
        for what, after in AFTER.items():
            facts = {"plain": name} if what else {}
            yield f"{name}, {what}" if what else name, linear(rows, inputs, outputs, after), {"flops": 2 * rows * inputs * outputs, **facts}


family(cases())
