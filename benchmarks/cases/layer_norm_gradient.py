"""Layer norm and its gradients, those of weight and bias among them."""
import torch
import torch.nn.functional as F
from _rows import COLUMNS, with_gradient

weight, bias = torch.rand(COLUMNS, requires_grad=True), torch.rand(COLUMNS, requires_grad=True)
with_gradient(lambda x: F.layer_norm(x, (COLUMNS,), weight, bias), moved=4)
