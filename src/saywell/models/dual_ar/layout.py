"""Names and shapes of every tensor of a converted model (weight norm folded, no tables), derived from the sizes."""

from __future__ import annotations

from collections.abc import Iterator

from saywell.graphs.numerics import Shape, Shapes
from saywell.models.dual_ar.config import CodecConfig, Config

FILES = {"model": "model.pth", "codec": "codec.pth"}
"""The published files."""


def model_tensors(config: Config) -> Shapes:
    """Both transformers, by their published names without prefixes."""
    c = config
    shapes: Shapes = {
        "embeddings.weight": (c.vocab_size, c.dim),
        "codebook_embeddings.weight": (c.codebook_size * c.num_codebooks, c.dim),
        "norm.weight": (c.dim,),
        "fast_embeddings.weight": (c.codebook_size, c.fast_dim),
        "fast_norm.weight": (c.fast_dim,),
        "fast_output.weight": (c.codebook_size, c.fast_dim),
    }
    if not c.tie_word_embeddings:
        shapes["output.weight"] = (c.vocab_size, c.dim)
    if c.projects_fast_input:
        shapes.update({"fast_project_in.weight": (c.fast_dim, c.dim), "fast_project_in.bias": (c.fast_dim,)})
    shapes.update(_blocks(config, "", c.n_layer))
    shapes.update(_blocks(config, "fast_", c.n_fast_layer))
    return shapes


def _blocks(config: Config, prefix: str, layers: int) -> Iterator[tuple[str, Shape]]:
    def size(name: str) -> int:
        return int(getattr(config, prefix + name))

    dim, head, wide = size("dim"), size("head_dim"), size("intermediate_size")
    q, packed = size("n_head") * head, (size("n_head") + 2 * size("n_local_heads")) * head
    for layer in range(layers):
        at = f"{prefix}layers.{layer}."
        yield at + "attention.wqkv.weight", (packed, dim)
        yield at + "attention.wo.weight", (dim, q)
        if size("attention_qkv_bias"):
            yield at + "attention.wqkv.bias", (packed,)
        if size("attention_o_bias"):
            yield at + "attention.wo.bias", (dim,)
        if size("attention_qk_norm"):
            yield at + "attention.q_norm.weight", (head,)
            yield at + "attention.k_norm.weight", (head,)
        yield at + "feed_forward.w1.weight", (wide, dim)
        yield at + "feed_forward.w3.weight", (wide, dim)
        yield at + "feed_forward.w2.weight", (dim, wide)
        yield at + "ffn_norm.weight", (dim,)
        yield at + "attention_norm.weight", (dim,)


def codec_tensors(codec: CodecConfig) -> Shapes:
    """Encoder, quantiser and decoder, weight norm folded."""
    return dict([*_encoder(codec), *_quantizer(codec), *_decoder(codec)])


def transformer_tensors(codec: CodecConfig, at: str, dim: int, layers: int) -> Iterator[tuple[str, Shape]]:
    """A codec transformer with dim / head_dim heads."""
    wide = dim * codec.intermediate_factor
    for layer in range(layers):
        here = f"{at}layers.{layer}."
        yield here + "attention.wqkv.weight", (3 * dim, dim)
        yield here + "attention.wo.weight", (dim, dim)
        yield here + "feed_forward.w1.weight", (wide, dim)
        yield here + "feed_forward.w3.weight", (wide, dim)
        yield here + "feed_forward.w2.weight", (dim, wide)
        for name in ("ffn_norm.weight", "attention_norm.weight"):
            yield here + name, (dim,)
        for name in ("attention_layer_scale.gamma", "ffn_layer_scale.gamma"):
            yield here + name, (dim,)
    yield f"{at}norm.weight", (dim,)


def _conv(at: str, outputs: int, inputs: int, kernel: int) -> Iterator[tuple[str, Shape]]:
    yield f"{at}bias", (outputs,)
    yield f"{at}weight", (outputs, inputs, kernel)


def _snake(at: str, channels: int) -> tuple[str, Shape]:
    return f"{at}alpha", (1, channels, 1)


def _residual_unit(at: str, channels: int) -> Iterator[tuple[str, Shape]]:
    yield _snake(f"{at}block.0.", channels)
    yield from _conv(f"{at}block.1.conv.", channels, channels, 7)
    yield _snake(f"{at}block.2.", channels)
    yield from _conv(f"{at}block.3.conv.", channels, channels, 1)


def _encoder(codec: CodecConfig) -> Iterator[tuple[str, Shape]]:
    yield from _conv("encoder.block.0.conv.", codec.encoder_dim, 1, 7)
    units, last = len(codec.dilations), len(codec.encoder_rates)
    for number, rate in enumerate(codec.encoder_rates, start=1):
        at, channels = f"encoder.block.{number}.block.", codec.encoder_dim << (number - 1)
        for unit in range(units):
            yield from _residual_unit(f"{at}{unit}.", channels)
        yield _snake(f"{at}{units}.", channels)
        yield from _conv(f"{at}{units + 1}.conv.", channels * 2, channels, 2 * rate)
        if number == last:
            yield from transformer_tensors(codec, f"{at}{units + 2}.", channels * 2, codec.encoder_layers)
    yield _snake(f"encoder.block.{last + 1}.", codec.encoder_out)
    yield from _conv(f"encoder.block.{last + 2}.conv.", codec.latent_dim, codec.encoder_out, 3)


def _quantizer(codec: CodecConfig) -> Iterator[tuple[str, Shape]]:
    yield from _book("quantizer.semantic_quantizer.quantizers.0.", codec, codec.semantic_codebook_size)
    for book in range(codec.n_residual):
        yield from _book(f"quantizer.quantizer.quantizers.{book}.", codec, codec.residual_codebook_size)
    for way in ("downsample", "upsample"):
        for stage, rate in enumerate(codec.downsample if way == "downsample" else codec.downsample[::-1]):
            yield from _conv(f"quantizer.{way}.{stage}.0.conv.", codec.latent_dim, codec.latent_dim, rate)
            yield from _convnext(f"quantizer.{way}.{stage}.1.", codec.latent_dim)
    for module in ("pre_module", "post_module"):
        yield from transformer_tensors(codec, f"quantizer.{module}.", codec.latent_dim, codec.module_layers)


def _book(at: str, codec: CodecConfig, entries: int) -> Iterator[tuple[str, Shape]]:
    yield from _conv(f"{at}in_proj.", codec.codebook_dim, codec.latent_dim, 1)
    yield from _conv(f"{at}out_proj.", codec.latent_dim, codec.codebook_dim, 1)
    yield f"{at}codebook.weight", (entries, codec.codebook_dim)


def _convnext(at: str, dim: int) -> Iterator[tuple[str, Shape]]:
    yield f"{at}gamma", (dim,)
    yield from _conv(f"{at}dwconv.conv.", dim, 1, 7)
    yield f"{at}norm.weight", (dim,)
    yield f"{at}norm.bias", (dim,)
    yield f"{at}pwconv1.weight", (4 * dim, dim)
    yield f"{at}pwconv1.bias", (4 * dim,)
    yield f"{at}pwconv2.weight", (dim, 4 * dim)
    yield f"{at}pwconv2.bias", (dim,)


def _decoder(codec: CodecConfig) -> Iterator[tuple[str, Shape]]:
    yield from _conv("decoder.model.0.conv.", codec.decoder_dim, codec.latent_dim, 7)
    last = len(codec.decoder_rates)
    for number, rate in enumerate(codec.decoder_rates, start=1):
        at, channels = f"decoder.model.{number}.block.", codec.decoder_dim >> number
        yield _snake(f"{at}0.", channels * 2)
        yield f"{at}1.conv.bias", (channels,)
        yield f"{at}1.conv.weight", (channels * 2, channels, 2 * rate)  # transposed: inputs first
        for unit in range(len(codec.dilations)):
            yield from _residual_unit(f"{at}{unit + 2}.", channels)
    channels = codec.decoder_dim >> last
    yield _snake(f"decoder.model.{last + 1}.", channels)
    yield from _conv(f"decoder.model.{last + 2}.conv.", 1, channels, 7)
