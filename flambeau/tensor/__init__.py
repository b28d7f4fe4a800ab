"""The tensor class, how tensors are made, indexed and printed."""
