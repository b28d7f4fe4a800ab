"""One training step of the tutorial's linear regression: forward, loss, zero_grad, backward, step."""
import torch
import torch.nn as nn
from _timing import measure

torch.manual_seed(0)
x = torch.rand(100, 1)
y = 2 * x + 3 + 0.5 * torch.randn(100, 1)
model = nn.Linear(1, 1)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def step():
    loss = criterion(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


measure(step)
