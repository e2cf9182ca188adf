"""Second implementations of DualAR that tests hold the graphs against: in PyTorch, and in float64 NumPy (`naive`)."""
