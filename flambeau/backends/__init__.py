"""Switches of PyTorch's back ends, accepted so that scripts which set them run: Flambeau generates its own kernels."""

from . import cudnn, mkl, mkldnn, mps

__all__ = ["cudnn", "mkl", "mkldnn", "mps"]
