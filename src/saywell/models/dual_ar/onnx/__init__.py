"""DualAR on ONNX Runtime."""
