"""From kernels to code: LLVM IR text, and mathematical functions as arithmetic."""
