"""The same attention with the gradients of queries, keys and values."""
import torch
import torch.nn.functional as F
from _timing import measure

torch.manual_seed(0)
q, k, v = (x.view(12, 256, 4, 64).transpose(1, 2).requires_grad_() for x in torch.randn(12, 256, 3 * 256).split(256, 2))
g = torch.randn(12, 4, 256, 64)


def step():
    y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    grads = torch.autograd.grad(y, (q, k, v), g)
    return grads[0][-1, -1, -1, -1].item()


measure(step)
