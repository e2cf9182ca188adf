"""Names and shapes of the published tensors (s3gen.safetensors, s3gen_meanflow.safetensors), derived from the sizes.

The files also hold the speech tokenizer (`tokenizer.`) and the speaker encoder (`speaker_encoder.`).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from saywell.errors import BadCheckpoint
from saywell.graphs.numerics import Floats, Shape, Shapes, Weights
from saywell.models.chatterbox.s3gen.config import MEANFLOW, STANDARD, S3GenConfig, VocoderConfig

ESTIMATOR = "flow.decoder.estimator."
ENCODER = "flow.encoder."
VOCODER = "mel2wav."
MIXER = f"{ESTIMATOR}time_embed_mixer.weight"
_NORM = ".parametrizations.weight.original"
Named = Iterator[tuple[str, Shape]]


def tensors(config: S3GenConfig) -> Shapes:
    """Everything that decoding reads, as published."""
    return dict([*_flow(config), *_encoder(config), *_estimator(config), *_vocoder(config)])


def recognised(shapes: Shapes, choices: tuple[S3GenConfig, ...] = (STANDARD, MEANFLOW)) -> S3GenConfig:
    """The configuration of a published file, by the shapes of its tensors. Raises BadCheckpoint naming what differs."""
    meanflow = MIXER in shapes
    for config in choices:
        if config.meanflow == meanflow:
            break
    else:
        raise BadCheckpoint("this S3Gen has a time mixer where none is expected, or lacks it")
    expected = tensors(config)
    found = {name: shape for name, shape in shapes.items() if name.startswith(("flow.", VOCODER))}
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    if wrong:
        raise BadCheckpoint(f"this is no S3Gen of a known size: {', '.join(wrong[:8])}")
    return config


class Folded(dict[str, Floats]):
    """The tensors of a file under their names without weight norm: each weight is folded when it is asked for."""

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        self._weights = weights

    def __missing__(self, name: str) -> Floats:
        at = name.removesuffix(".weight")
        if at == name or f"{at}{_NORM}0" not in self._weights:
            return self._weights[name]
        return folded(self._weights[f"{at}{_NORM}0"], self._weights[f"{at}{_NORM}1"])


def folded(length: Floats, direction: Floats) -> Floats:
    """Weight norm over all axes but the first: length · direction / |direction|."""
    norm = np.sqrt(np.square(direction.astype(np.float64)).sum(axis=tuple(range(1, direction.ndim)), keepdims=True))
    return np.asarray(direction * (length / norm), np.float32)


def _layer(at: str, *shape: int) -> Named:
    """Weight and bias. A norm has one size."""
    yield f"{at}.weight", shape
    yield f"{at}.bias", shape[:1]


def _normed(at: str, *shape: int, transposed: bool = False) -> Named:
    """A convolution with weight norm."""
    yield f"{at}.bias", (shape[1] if transposed else shape[0],)
    yield f"{at}{_NORM}0", (shape[0], *(1 for _ in shape[1:]))
    yield f"{at}{_NORM}1", shape


def _flow(c: S3GenConfig) -> Named:
    yield "flow.input_embedding.weight", (c.vocab, c.width)
    yield from _layer("flow.spk_embed_affine_layer", c.mel, c.speaker)
    yield from _layer("flow.encoder_proj", c.mel, c.width)


def _encoder(c: S3GenConfig) -> Named:
    for name in ("embed", "up_embed"):
        yield from _layer(f"{ENCODER}{name}.out.0", c.width, c.width)
        yield from _layer(f"{ENCODER}{name}.out.1", c.width)
    yield from _layer(f"{ENCODER}after_norm", c.width)
    yield from _layer(f"{ENCODER}pre_lookahead_layer.conv1", c.width, c.width, c.look_ahead + 1)
    yield from _layer(f"{ENCODER}pre_lookahead_layer.conv2", c.width, c.width, 3)
    yield from _layer(f"{ENCODER}up_layer.conv", c.width, c.width, 2 * c.frames + 1)
    for name, count in (("encoders", c.blocks), ("up_encoders", c.up_blocks)):
        for block in range(count):
            yield from _conformer(f"{ENCODER}{name}.{block}.", c)


def _conformer(at: str, c: S3GenConfig) -> Named:
    for name in ("linear_q", "linear_k", "linear_v", "linear_out"):
        yield from _layer(f"{at}self_attn.{name}", c.width, c.width)
    yield f"{at}self_attn.linear_pos.weight", (c.width, c.width)
    for name in ("pos_bias_u", "pos_bias_v"):
        yield f"{at}self_attn.{name}", (c.heads, c.width // c.heads)
    yield from _layer(f"{at}feed_forward.w_1", c.ffn, c.width)
    yield from _layer(f"{at}feed_forward.w_2", c.width, c.ffn)
    yield from _layer(f"{at}norm_ff", c.width)
    yield from _layer(f"{at}norm_mha", c.width)


def _estimator(c: S3GenConfig) -> Named:
    at, wide = ESTIMATOR, c.time_width
    yield from _layer(f"{at}time_mlp.linear_1", wide, c.estimator_inputs)
    yield from _layer(f"{at}time_mlp.linear_2", wide, wide)
    if c.meanflow:
        yield MIXER, (wide, 2 * wide)
    for stage, inputs in stages(c):
        yield from _resnet(f"{at}{stage}.0.", c, inputs)
        for block in range(c.flow_blocks):
            yield from _transformer(f"{at}{stage}.1.{block}.", c)
        if not stage.startswith("mid"):
            yield from _layer(f"{at}{stage}.2", c.channels, c.channels, 3)
    yield from _layer(f"{at}final_block.block.0", c.channels, c.channels, 3)
    yield from _layer(f"{at}final_block.block.2", c.channels)
    yield from _layer(f"{at}final_proj", c.mel, c.channels, 1)


def stages(c: S3GenConfig) -> list[tuple[str, int]]:
    """Stages of the estimator in order: name and input channels."""
    mid = [(f"mid_blocks.{index}", c.channels) for index in range(c.mid_stages)]
    return [("down_blocks.0", c.estimator_inputs), *mid, ("up_blocks.0", 2 * c.channels)]


def _resnet(at: str, c: S3GenConfig, inputs: int) -> Named:
    yield from _layer(f"{at}mlp.1", c.channels, c.time_width)
    for name, width in (("block1", inputs), ("block2", c.channels)):
        yield from _layer(f"{at}{name}.block.0", c.channels, width, 3)
        yield from _layer(f"{at}{name}.block.2", c.channels)
    yield from _layer(f"{at}res_conv", c.channels, inputs, 1)


def _transformer(at: str, c: S3GenConfig) -> Named:
    inner, wide = c.flow_heads * c.head_dim, c.expansion * c.channels
    yield from _layer(f"{at}norm1", c.channels)
    for name in ("to_q", "to_k", "to_v"):
        yield f"{at}attn1.{name}.weight", (inner, c.channels)
    yield from _layer(f"{at}attn1.to_out.0", c.channels, inner)
    yield from _layer(f"{at}norm3", c.channels)
    yield from _layer(f"{at}ff.net.0.proj", wide, c.channels)
    yield from _layer(f"{at}ff.net.2", c.channels, wide)


def _vocoder(config: S3GenConfig) -> Named:
    c, at = config.vocoder, VOCODER
    yield from _layer(f"{at}m_source.l_linear", 1, c.harmonics + 1)
    yield from _normed(f"{at}conv_pre", c.base, config.mel, c.edge)
    for level, kernel in enumerate(c.kernels):
        yield from _normed(f"{at}ups.{level}", c.base >> level, c.channels(level), kernel, transposed=True)
        stride = c.source_stride(level)
        taps = 1 if stride == 1 else 2 * stride
        yield from _layer(f"{at}source_downs.{level}", c.channels(level), 2 * c.bins, taps)
        yield from _block(f"{at}source_resblocks.{level}.", c, c.channels(level), c.source_kernels[level])
        for index, size in enumerate(c.block_kernels):
            yield from _block(f"{at}resblocks.{level * len(c.block_kernels) + index}.", c, c.channels(level), size)
    yield from _normed(f"{at}conv_post", 2 * c.bins, c.channels(len(c.rates) - 1), c.edge)
    for layer in range(c.f0_layers):
        inputs = c.f0_channels if layer else config.mel
        yield from _normed(f"{at}f0_predictor.condnet.{2 * layer}", c.f0_channels, inputs, 3)
    yield from _layer(f"{at}f0_predictor.classifier", 1, c.f0_channels)


def _block(at: str, c: VocoderConfig, channels: int, kernel: int) -> Named:
    for index in range(len(c.dilations)):
        for name in ("1", "2"):
            yield from _normed(f"{at}convs{name}.{index}", channels, channels, kernel)
            yield f"{at}activations{name}.{index}.alpha", (channels,)
