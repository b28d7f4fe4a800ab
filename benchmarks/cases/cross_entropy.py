"""Cross-entropy of rows of logits against class numbers: reads the matrix once."""
import torch
import torch.nn.functional as F
from _rows import COLUMNS, ROWS, forward

labels = torch.randint(0, COLUMNS, (ROWS,))
forward(lambda x: F.cross_entropy(x, labels), moved=1)
