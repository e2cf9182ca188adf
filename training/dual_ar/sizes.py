"""Sizes of the voice: what its config.json, codec_config.json and tokeniser files will say."""

from __future__ import annotations

from typing import Any

from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.prompt import SPEAKER
from saywell.models.dual_ar.tokenizer import CONTROL, special_names
from training.dual_ar.books import ENTRIES, FILTERS, LATENT, WIDTH

BYTES = 256
SPECIALS = {
    name: BYTES + place for place, name in enumerate((*CONTROL, SPEAKER, *special_names(ENTRIES)[len(CONTROL) :]))
}
"""The text is bytes: each its own token."""
BEGIN = SPECIALS["<|semantic:0|>"]
BOOKS = 2 + FILTERS

CONFIG: dict[str, Any] = {
    "model_type": "dual_ar",
    "vocab_size": BYTES + len(SPECIALS),
    "dim": 192,
    "n_layer": 6,
    "n_head": 4,
    "n_local_heads": 2,
    "head_dim": 48,
    "intermediate_size": 512,
    "rope_base": 10000,
    "norm_eps": 1e-6,
    "max_seq_len": 2048,
    "attention_qk_norm": True,
    "attention_qkv_bias": False,
    "attention_o_bias": False,
    "codebook_size": ENTRIES,
    "num_codebooks": BOOKS,
    "n_fast_layer": 2,
    "fast_dim": 128,
    "fast_n_head": 4,
    "fast_n_local_heads": 2,
    "fast_head_dim": 32,
    "fast_intermediate_size": 256,
    "fast_attention_qk_norm": False,
    "tie_word_embeddings": False,
    "scale_codebook_embeddings": False,
}
CODEC = CodecConfig(
    sample_rate=16000,
    encoder_dim=12,
    encoder_rates=(2, 4, 2, 5),
    latent_dim=LATENT,
    decoder_dim=256,
    decoder_rates=(5, 2, 2, 4),
    dilations=(1, 3),
    downsample=(2, 5),
    semantic_codebook_size=ENTRIES,
    residual_codebook_size=ENTRIES,
    n_residual=BOOKS - 1,
    codebook_dim=WIDTH,
    head_dim=48,
    encoder_layers=2,
    encoder_window=80,
    module_layers=1,
    module_window=8,
)


def config() -> Config:
    return Config.parse(CONFIG, CODEC)
