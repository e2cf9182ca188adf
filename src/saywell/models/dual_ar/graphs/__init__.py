"""The ONNX graphs of DualAR, written node by node."""
