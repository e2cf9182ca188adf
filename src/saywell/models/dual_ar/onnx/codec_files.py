"""Names of the codec's graph files, and the implementations of its convolutions."""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "int8"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
ConvImpl = Literal["fp32", "winograd", "int8", "bf16"]
"""Arithmetic of the decoder's convolutions. winograd: fp32 with fewer products, 75 dB or more from plain fp32."""

# "latents" and "stack" in file names: models on disk have them.
QUANTIZER = {"fp32": "codec_latents.fp32.onnx", "int8": "codec_latents.int8.onnx"}
"""Codes → latents: codebooks, transformer, upsampling. By precision."""
DECODER = {
    "fp32": "codec_stack.fp32.onnx",
    "winograd": "codec_stack.winograd.onnx",
    "int8": "codec_stack.int8.onnx",
}
"""Latents → samples, on rows [time, channel]. By implementation."""
DECODER_CHANNELS = "codec_stack.channels.onnx"
"""The decoder as plain convolutions on [channel, time], for OpenVINO."""
ENCODER = "codec_encode.fp32.onnx"
CONV_IMPLS: dict[str, tuple[ConvImpl, ...]] = {
    "onnx": ("fp32", "winograd", "int8"),
    "openvino": ("fp32", "winograd", "bf16"),
}
"""What each executor supports."""
