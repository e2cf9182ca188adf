"""Names and shapes of the published tensors of the networks that listen to a reference clip."""

from __future__ import annotations

from collections.abc import Iterator

from saywell.graphs.numerics import Shape, Shapes
from saywell.models.chatterbox.voice.config import SpeakerConfig, TokenizerConfig, VoiceConfig, XVectorConfig
from saywell.models.chatterbox.voice.features import FFT

TOKENIZER, XVECTOR = "tokenizer.", "speaker_encoder."
"""Prefixes in the file of S3Gen."""
STAGES = ("layer1", "layer2")
"""The residual stages of CAM++: two blocks each, the first of which halves the bins."""
COUNTER = "num_batches_tracked"
"""An int64 scalar of each batch norm, without effect."""


def s3gen_tensors(config: VoiceConfig) -> Shapes:
    """Of `s3gen.safetensors`, `s3gen_meanflow.safetensors` and `s3gen.pt`: the tokeniser and CAM++."""
    shapes = {f"{TOKENIZER}{name}": shape for name, shape in _tokenizer(config.tokenizer)}
    return shapes | {f"{XVECTOR}{name}": shape for name, shape in _xvector(config.xvector)}


def tables(config: VoiceConfig) -> Shapes:
    """Constants in the same files, which `features` computes."""
    return {f"{TOKENIZER}_mel_filters": (config.tokenizer.bins, FFT // 2 + 1), f"{TOKENIZER}window": (FFT,)}


def ve_tensors(config: VoiceConfig) -> Shapes:
    """Of `ve.safetensors` and `ve.pt`: the speaker encoder."""
    return dict(_speaker(config.speaker))


def _tokenizer(c: TokenizerConfig) -> Iterator[tuple[str, Shape]]:
    yield "encoder.conv1.weight", (c.dim, c.bins, 3)
    yield "encoder.conv1.bias", (c.dim,)
    yield "encoder.conv2.weight", (c.dim, c.dim, 3)
    yield "encoder.conv2.bias", (c.dim,)
    for layer in range(c.layers):
        at = f"encoder.blocks.{layer}."
        for name in ("query", "key", "value", "out"):
            yield f"{at}attn.{name}.weight", (c.dim, c.dim)
            if name != "key":
                yield f"{at}attn.{name}.bias", (c.dim,)
        yield f"{at}attn.fsmn_block.weight", (c.dim, 1, c.memory)
        yield f"{at}mlp.0.weight", (c.mlp * c.dim, c.dim)
        yield f"{at}mlp.0.bias", (c.mlp * c.dim,)
        yield f"{at}mlp.2.weight", (c.dim, c.mlp * c.dim)
        yield f"{at}mlp.2.bias", (c.dim,)
        for name in ("attn_ln", "mlp_ln"):
            yield f"{at}{name}.weight", (c.dim,)
            yield f"{at}{name}.bias", (c.dim,)
    yield "quantizer._codebook.project_down.weight", (c.digits, c.dim)
    yield "quantizer._codebook.project_down.bias", (c.digits,)


def _norm(at: str, channels: int, affine: bool = True) -> Iterator[tuple[str, Shape]]:
    for name in ("weight", "bias") if affine else ():
        yield f"{at}.{name}", (channels,)
    yield f"{at}.running_mean", (channels,)
    yield f"{at}.running_var", (channels,)
    yield f"{at}.{COUNTER}", ()


def _xvector(c: XVectorConfig) -> Iterator[tuple[str, Shape]]:
    yield from _head(c)
    yield "xvector.tdnn.linear.weight", (c.channels, c.planes * (c.bins // 8), 5)
    yield from _norm("xvector.tdnn.nonlinear.batchnorm", c.channels)
    for number, (before, after) in enumerate(c.widths(), start=1):
        for layer in range(c.layers[number - 1]):
            yield from _dense(c, f"xvector.block{number}.tdnnd{layer + 1}.", before + layer * c.growth)
        yield from _norm(f"xvector.transit{number}.nonlinear.batchnorm", after)
        yield f"xvector.transit{number}.linear.weight", (after // 2, after, 1)
    last = c.widths()[-1][1] // 2
    yield from _norm("xvector.out_nonlinear.batchnorm", last)
    yield "xvector.dense.linear.weight", (c.size, 2 * last, 1)
    yield from _norm("xvector.dense.nonlinear.batchnorm", c.size, affine=False)


def _head(c: XVectorConfig) -> Iterator[tuple[str, Shape]]:
    yield "head.conv1.weight", (c.planes, 1, 3, 3)
    yield from _norm("head.bn1", c.planes)
    for stage in STAGES:
        for block in range(2):
            at = f"head.{stage}.{block}."
            for number in (1, 2):
                yield f"{at}conv{number}.weight", (c.planes, c.planes, 3, 3)
                yield from _norm(f"{at}bn{number}", c.planes)
            if not block:
                yield f"{at}shortcut.0.weight", (c.planes, c.planes, 1, 1)
                yield from _norm(f"{at}shortcut.1", c.planes)
    yield "head.conv2.weight", (c.planes, c.planes, 3, 3)
    yield from _norm("head.bn2", c.planes)


def _dense(c: XVectorConfig, at: str, channels: int) -> Iterator[tuple[str, Shape]]:
    yield from _norm(f"{at}nonlinear1.batchnorm", channels)
    yield f"{at}linear1.weight", (c.inner, channels, 1)
    yield from _norm(f"{at}nonlinear2.batchnorm", c.inner)
    yield f"{at}cam_layer.linear_local.weight", (c.growth, c.inner, 3)
    yield f"{at}cam_layer.linear1.weight", (c.inner // 2, c.inner, 1)
    yield f"{at}cam_layer.linear1.bias", (c.inner // 2,)
    yield f"{at}cam_layer.linear2.weight", (c.growth, c.inner // 2, 1)
    yield f"{at}cam_layer.linear2.bias", (c.growth,)


def _speaker(c: SpeakerConfig) -> Iterator[tuple[str, Shape]]:
    yield "similarity_weight", (1,)
    yield "similarity_bias", (1,)
    for layer in range(c.layers):
        for way, inputs in (("ih", c.hidden if layer else c.bins), ("hh", c.hidden)):
            yield f"lstm.weight_{way}_l{layer}", (4 * c.hidden, inputs)
            yield f"lstm.bias_{way}_l{layer}", (4 * c.hidden,)
    yield "proj.weight", (c.size, c.hidden)
    yield "proj.bias", (c.size,)
