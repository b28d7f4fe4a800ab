"""Softmax over rows: reads and writes the matrix once."""
import torch
from _rows import forward

forward(lambda x: torch.softmax(x, 1), moved=2)
