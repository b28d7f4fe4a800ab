"""What the row-wise cases share: a 3000×4001 matrix, and a step without or with gradients."""
import torch
from _timing import measure

ROWS, COLUMNS = 3000, 4001
torch.manual_seed(0)


def forward(function, *, moved):
    """Time ``function(x)``; ``moved`` counts the bytes in units of the matrix."""
    x = torch.randn(ROWS, COLUMNS)

    def step():
        y = function(x)
        return y.reshape(-1)[-1].item()         # y is alive here: all of it has to be written

    measure(step, moved=moved * 4 * x.numel())


def with_gradient(function, *, moved):
    """Time ``function(x)`` and its backward pass; a result that is no scalar gets a gradient of its own shape."""
    x = torch.randn(ROWS, COLUMNS, requires_grad=True)
    g = torch.randn(ROWS, COLUMNS)

    def step():
        x.grad = None
        y = function(x)
        if y.dim():
            y.backward(g)
        else:
            y.backward()
        return x.grad[-1, -1].item()

    measure(step, moved=moved * 4 * x.numel())
