"""Kokoro's published graph, rewritten so that ONNX Runtime runs it faster on a CPU; needs the package onnx."""
