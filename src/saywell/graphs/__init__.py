"""Writing ONNX graphs from weights, for every family: nodes and files, linear layers in each number format, tensors of
checkpoints, convolutions with fewer products."""
