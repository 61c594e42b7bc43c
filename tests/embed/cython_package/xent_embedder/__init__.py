"""xent's kernels inside somebody else's Cython code."""
