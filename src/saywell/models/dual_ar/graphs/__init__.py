"""Writes the ONNX graphs of DualAR, node by node. Build time only."""
