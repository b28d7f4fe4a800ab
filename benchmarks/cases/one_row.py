"""Inference of one row by the tutorial's two-layer network, without gradients."""
import torch
import torch.nn as nn
from _timing import measure


class SimpleNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(20, 10)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(10, 1)

    def forward(self, x):
        return self.fc2(self.relu(self.fc1(x)))


torch.manual_seed(0)
model = SimpleNet().eval()
x = torch.randn(1, 20)


def step():
    with torch.no_grad():
        return model(x).item()


measure(step)
