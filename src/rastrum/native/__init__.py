"""Everything that is compiled, by numba: loops over vectors, layers that torch has no single pass for, and the kernels of step programs."""
