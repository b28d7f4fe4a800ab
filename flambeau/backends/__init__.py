"""Switches of PyTorch's back ends, accepted so that scripts which set them run: Flambeau generates its own kernels; and ``cpu``'s, for these."""

from . import cpu, cudnn, mkl, mkldnn, mps

__all__ = ["cpu", "cudnn", "mkl", "mkldnn", "mps"]
