"""DualAR in PyTorch."""
