"""Names of the files the codec is run from, and the ways there are to run it."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
Convolutions = Literal["fp32", "winograd", "int8", "bf16"]
"""How the convolution stack is computed. winograd: in fp32 with fewer products, 75 dB or more from plain fp32."""

LATENTS = {"fp32": "codec_latents.fp32.onnx", "int8": "codec_latents.int8.onnx"}
STACK = {
    "fp32": "codec_stack.fp32.onnx",
    "winograd": "codec_stack.winograd.onnx",
    "int8": "codec_stack.int8.onnx",
}
"""Stacks on rows."""
STACK_CHANNELS = "codec_stack.channels.onnx"
WAYS: dict[str, tuple[Convolutions, ...]] = {
    "onnx": ("fp32", "winograd", "int8"),
    "openvino": ("fp32", "winograd", "bf16"),
}
"""What each executor can do."""
ENCODE = "codec_encode.fp32.onnx"
