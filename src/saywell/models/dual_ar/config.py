"""Sizes of a DualAR checkpoint: `config.json` of the transformers, `codec_config.json` (optional) of the codec.

No other module knows a size. S2-Pro nests the same sizes in `text_config` and `audio_decoder_config`; both layouts
become one `Config`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from saywell.errors import BadConfig, InvalidRequest
from saywell.files import Damaged, read_plain

DEFAULT = "default"
"""The voice without a reference, which the model chooses."""
CONFIG_FILE = "config.json"
CODEC_CONFIG_FILE = "codec_config.json"
MAX_CONFIG_BYTES = 1 << 20
Count = Annotated[int, Meta(gt=0, lt=1 << 31)]
Counts = Annotated[tuple[Count, ...], Meta(min_length=1)]
Real = Annotated[float, Meta(gt=0, lt=1 << 31)]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecConfig:
    """Sizes of the causal codec. The defaults are those of S1-mini, whose checkpoint has no file for them."""

    sample_rate: Count = 44100
    encoder_dim: Count = 64
    encoder_rates: Counts = (2, 4, 8, 8)
    latent_dim: Count = 1024
    decoder_dim: Count = 1536
    decoder_rates: Counts = (8, 8, 4, 2)
    dilations: Counts = (1, 3, 9)
    downsample: Counts = (2, 2)
    semantic_codebook_size: Count = 4096
    residual_codebook_size: Count = 1024
    n_residual: Count = 9
    codebook_dim: Count = 8
    head_dim: Count = 64
    """Of all codec transformers; they have dim / head_dim heads and no grouped queries."""
    intermediate_factor: Count = 3
    """Width of a transformer's feed-forward layer divided by its dim."""
    rope_base: Real = 10000.0
    norm_eps: Real = 1e-5
    encoder_layers: Count = 4
    encoder_window: Count = 512
    """Positions that a query of the encoder's transformer attends to, its own included."""
    module_layers: Count = 8
    """Of `pre_module` and of `post_module`."""
    module_window: Count = 128

    def __post_init__(self) -> None:
        for name in ("latent_dim", "encoder_out"):
            if getattr(self, name) % self.head_dim:
                raise BadConfig(f"{CODEC_CONFIG_FILE}: head_dim {self.head_dim} does not divide {name}")
        if self.decoder_dim % (1 << len(self.decoder_rates)):
            raise BadConfig(f"{CODEC_CONFIG_FILE}: decoder_dim cannot be halved once for each of decoder_rates")
        if math.prod(self.encoder_rates) != math.prod(self.decoder_rates):
            raise BadConfig(f"{CODEC_CONFIG_FILE}: encoder_rates and decoder_rates must have the same product")

    @property
    def encoder_out(self) -> int:
        """Channels after the last encoder block; each block doubles them."""
        return self.encoder_dim << len(self.encoder_rates)

    @property
    def hop(self) -> int:
        """Samples per step of the convolution stacks."""
        return math.prod(self.decoder_rates)

    @property
    def frame(self) -> int:
        """Samples per frame."""
        return self.hop * math.prod(self.downsample)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.frame

    @property
    def num_codebooks(self) -> int:
        return 1 + self.n_residual

    def book_size(self, book: int) -> int:
        """Entries of codebook `book`; 0 is the semantic one."""
        return self.residual_codebook_size if book else self.semantic_codebook_size

    @classmethod
    def read(cls, directory: Path) -> CodecConfig:
        """From `codec_config.json`; without that file, the sizes of S1-mini. Raises BadConfig."""
        path = directory / CODEC_CONFIG_FILE
        return _convert(_load(path), cls, CODEC_CONFIG_FILE) if path.exists() else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Transformer:
    """Sizes of one transformer as published."""

    dim: Count
    n_head: Count
    n_local_heads: Count | None = None
    head_dim: Count | None = None
    intermediate_size: Count | None = None
    rope_base: Real = 10000.0
    norm_eps: Real = 1e-5
    attention_qk_norm: bool = False
    attention_qkv_bias: bool = False
    attention_o_bias: bool = False

    def complete(self) -> dict[str, Any]:
        """With defaults for the sizes that are left out."""
        defaults = {
            "n_local_heads": self.n_head,
            "head_dim": self.dim // self.n_head,
            "intermediate_size": math.ceil(int(2 * 4 * self.dim / 3) / 256) * 256,
        }
        return {**defaults, **_given(asdict(self))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Sizes of both transformers. `fast_*` are those of the one that runs over the codebooks of a frame."""

    vocab_size: Count
    dim: Count
    n_layer: Count
    n_head: Count
    n_local_heads: Count
    """Key/value heads."""
    head_dim: Count
    intermediate_size: Count
    rope_base: Real
    norm_eps: Real
    max_seq_len: Count = 2048
    attention_qk_norm: bool
    attention_qkv_bias: bool
    attention_o_bias: bool
    tie_word_embeddings: bool = True
    scale_codebook_embeddings: bool = False
    norm_fast_input: bool = False
    """The fast transformer gets the hidden state after the final norm (S2), not before it (S1)."""

    codebook_size: Count
    """Rows of each codebook in `codebook_embeddings`; also the number of semantic tokens."""
    num_codebooks: Count

    n_fast_layer: Count
    fast_dim: Count
    fast_n_head: Count
    fast_n_local_heads: Count
    fast_head_dim: Count
    fast_intermediate_size: Count
    fast_rope_base: Real
    fast_norm_eps: Real
    fast_attention_qk_norm: bool
    fast_attention_qkv_bias: bool
    fast_attention_o_bias: bool

    semantic_begin_id: int | None = None
    """None: as the tokeniser files say; so with the next two."""
    semantic_end_id: int | None = None
    im_end_id: int | None = None
    reference_seconds: Real = 30.0
    """The longest reference the model was trained for. The makers of S1-mini advise 10 to 30 s."""

    codec: CodecConfig = field(default_factory=CodecConfig)

    def __post_init__(self) -> None:
        for prefix in ("", "fast_"):
            heads, kv = getattr(self, f"{prefix}n_head"), getattr(self, f"{prefix}n_local_heads")
            if heads % kv:
                raise BadConfig(f"{CONFIG_FILE}: {prefix}n_local_heads {kv} does not divide {prefix}n_head {heads}")
            if getattr(self, f"{prefix}head_dim") % 2:
                raise BadConfig(f"{CONFIG_FILE}: {prefix}head_dim must be even, because rotary embedding turns pairs")

    @property
    def residual_logits(self) -> int:
        """Leading entries of the fast logits that are sampled from for codebooks after the first."""
        # S1 uses only logits whose code the residual books have; S2 uses all, and the codec clamps.
        entries = self.codec.residual_codebook_size
        return self.codebook_size if self.norm_fast_input else min(self.codebook_size, entries)

    @property
    def projects_fast_input(self) -> bool:
        return self.fast_dim != self.dim

    @classmethod
    def read(cls, directory: Path) -> Config:
        """From the directory of a checkpoint or a converted model. Raises BadConfig naming file and key."""
        return cls.parse(_load(directory / CONFIG_FILE), CodecConfig.read(directory))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], codec: CodecConfig | None = None) -> Config:
        """From the decoded JSON: flat (Fish Speech 1.5, S1) or nested (S2-Pro). Unknown keys are ignored.

        Sizes that are left out, null or -1 get defaults.
        """
        if "text_config" in raw:
            flat, fast = _unnested(raw)
            slow = _convert(flat, _Transformer, CONFIG_FILE).complete()
        else:
            flat = _given(raw)
            slow = _convert(flat, _Transformer, CONFIG_FILE).complete()
            fast = {**slow, **{name: flat[f"fast_{name}"] for name in slow if f"fast_{name}" in flat}}
        both = {**slow, **{f"fast_{name}": value for name, value in fast.items()}}
        return _convert({**flat, **both, "codec": codec or CodecConfig()}, cls, CONFIG_FILE)


_SIZES = frozenset({"dim", "n_head", "n_local_heads", "head_dim", "intermediate_size"})
_S2_IDS = {
    "semantic_start_token_id": "semantic_begin_id",
    "semantic_end_token_id": "semantic_end_id",
    "eos_token_id": "im_end_id",
}


def _given(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Without null and -1, which stand for defaults."""
    return {name: value for name, value in raw.items() if value is not None and value != -1}


def _unnested(raw: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """S2-Pro's nested configuration as a flat one, and the sizes of the fast transformer.

    Sizes left out in `audio_decoder_config` are derived from that object; anything else is as in `text_config`.
    """
    text, audio = (raw.get(key) for key in ("text_config", "audio_decoder_config"))
    if not isinstance(text, dict) or not isinstance(audio, dict):
        raise BadConfig(f"{CONFIG_FILE}: text_config and audio_decoder_config must both be objects")
    text, audio = _given(text), _given(audio)
    shared = {name: value for name, value in text.items() if name not in _SIZES}
    renamed = {"codebook_size": "vocab_size", "num_codebooks": "num_codebooks", "n_fast_layer": "n_layer"}
    flat = {
        "scale_codebook_embeddings": True,
        "norm_fast_input": True,
        **text,
        **{ours: audio[theirs] for ours, theirs in renamed.items() if theirs in audio},
        **{ours: raw[theirs] for theirs, ours in _S2_IDS.items() if isinstance(raw.get(theirs), int)},
    }
    return flat, _convert({**shared, **audio}, _Transformer, f"{CONFIG_FILE}, audio_decoder_config").complete()


def read_bytes(path: Path, limit: int, error: type[InvalidRequest]) -> bytes:
    """A regular file of at most `limit` bytes. Raises `error` naming the file."""
    try:
        return read_plain(path, limit, links=True)
    except FileNotFoundError:
        raise error(f"{path} is missing; a checkpoint directory must hold it") from None
    except Damaged:
        raise error(f"{path} is not a regular file of at most {limit >> 20} MB") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(read_bytes(path, MAX_CONFIG_BYTES, BadConfig), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadConfig(f"{path} is not a JSON object: {error}") from None


def _convert(raw: Mapping[str, Any], cls: type[T], where: str) -> T:
    """Raises BadConfig naming the key."""
    try:
        return msgspec.convert(raw, cls)
    except msgspec.ValidationError as error:
        if missing := re.search(r"required field `(\w+)`", str(error)):
            raise BadConfig(f"{where}: {missing[1]} is missing") from None
        expected, _, path = str(error).partition(" - at `$.")
        name = re.split(r"\W", path)[0]
        raise BadConfig(f"{where}: {name} cannot be {raw[name]!r:.80}: {expected.replace('`', '').lower()}") from None
