"""A GRU cell applied 20 times, then backward through all of it."""
import torch
import torch.nn as nn
from _timing import measure

torch.manual_seed(0)
cell = nn.GRUCell(16, 32)
x = torch.randn(20, 8, 16)
start = torch.zeros(8, 32)


def step():
    h = start
    for t in range(20):
        h = cell(x[t], h)
    loss = h.square().mean()
    cell.zero_grad()
    loss.backward()
    return loss.item()


measure(step)
