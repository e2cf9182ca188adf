"""Sizes of a DualAR checkpoint: `config.json` of the transformers, `codec_config.json` (optional) of the codec.

Nothing about a size is known anywhere else. S2-Pro nests the same facts in `text_config` and `audio_decoder_config`;
both spellings become one `Config`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from saywell.files import Damaged, read_plain
from saywell.models.dual_ar.errors import BadConfig

DEFAULT = "default"
"""The voice without a reference: the model's own choice."""
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
    """Of all codec transformers; they have dim / head_dim heads, all of them with their own keys and values."""
    intermediate_factor: Count = 3
    """Width of a transformer's feed-forward layer over its dim."""
    rope_base: Real = 10000.0
    norm_eps: Real = 1e-5
    encoder_layers: Count = 4
    encoder_window: Count = 512
    """Positions a query of the encoder's transformer sees, itself included."""
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
        """From `codec_config.json`, or S1-mini's sizes where there is none. Raises BadConfig."""
        path = directory / CODEC_CONFIG_FILE
        return _made(cls, _load(path), path.name) if path.exists() else cls()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Sizes of both transformers. `fast_*` are those of the one that runs over the codebooks of a frame."""

    model_type: str = "dual_ar"
    vocab_size: Count
    dim: Count
    n_layer: Count
    n_head: Count
    n_local_heads: Count
    """Key/value heads."""
    head_dim: Count
    intermediate_size: Count
    rope_base: Real = 10000.0
    norm_eps: Real = 1e-5
    max_seq_len: Count = 2048
    attention_qk_norm: bool = False
    attention_qkv_bias: bool = False
    attention_o_bias: bool = False
    tie_word_embeddings: bool = True
    scale_codebook_embeddings: bool = False
    norm_fast_input: bool = False
    """The fast transformer gets the hidden state after the final norm (S2), not before it (S1)."""

    codebook_size: Count
    """Rows of each codebook in `codebook_embeddings`; also the number of semantic tokens."""
    num_codebooks: Count
    residual_logits: Count
    """Leading entries of the fast logits that count for codebooks after the first."""

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
    """As the file says; None: the tokeniser knows."""
    semantic_end_id: int | None = None
    im_end_id: int | None = None
    reference_seconds: Real = 30.0
    """The longest recording it was made to speak like. S1-mini's makers advise 10 to 30 s."""

    codec: CodecConfig = field(default_factory=CodecConfig)

    def __post_init__(self) -> None:
        for prefix in ("", "fast_"):
            heads, kv = getattr(self, f"{prefix}n_head"), getattr(self, f"{prefix}n_local_heads")
            if heads % kv:
                raise BadConfig(f"{CONFIG_FILE}: {prefix}n_local_heads {kv} does not divide {prefix}n_head {heads}")
            if getattr(self, f"{prefix}head_dim") % 2:
                raise BadConfig(f"{CONFIG_FILE}: {prefix}head_dim must be even, rotary works on pairs")
        if self.residual_logits > self.codebook_size:
            raise BadConfig(f"{CONFIG_FILE}: codebook_size {self.codebook_size} is below the residual codebooks' size")

    @property
    def projects_fast_input(self) -> bool:
        return self.fast_dim != self.dim

    @classmethod
    def read(cls, directory: Path) -> Config:
        """From a checkpoint's or a converted model's directory. Raises BadConfig naming file and key."""
        path = directory / CONFIG_FILE
        return cls.parse(_load(path), CodecConfig.read(directory))

    @classmethod
    def parse(cls, raw: Mapping[str, Any], codec: CodecConfig | None = None) -> Config:
        """From the decoded JSON: flat (Fish Speech 1.5, S1) or nested (S2-Pro). Unknown keys are ignored."""
        codec = codec or CodecConfig()
        flat = _flatten(raw) if "text_config" in raw else dict(raw)
        values = {**flat, **_derived(flat)}
        # S1 looks only at logits that exist in the residual books; S2 at all of them, the codec clamps.
        size = _number(flat, "codebook_size")
        counted = size if flat.get("norm_fast_input") else min(size, codec.residual_codebook_size)
        return _made(cls, {"residual_logits": counted, **values, "codec": codec}, CONFIG_FILE)

    def to_json(self) -> dict[str, Any]:
        """Flat, complete: `parse` gives the same Config back (with the same codec sizes)."""
        return {name: value for name, value in asdict(self).items() if name != "codec" and value is not None}


_S2_TOP = {
    "semantic_start_token_id": "semantic_begin_id",
    "semantic_end_token_id": "semantic_end_id",
    "eos_token_id": "im_end_id",
}
_SHARED = (
    "dim",
    "n_head",
    "n_local_heads",
    "head_dim",
    "intermediate_size",
    "rope_base",
    "norm_eps",
    "attention_qk_norm",
    "attention_qkv_bias",
    "attention_o_bias",
)


def _flatten(raw: Mapping[str, Any]) -> dict[str, Any]:
    """S2-Pro's nested spelling as the flat one."""
    text, audio = (raw.get(key) for key in ("text_config", "audio_decoder_config"))
    if not isinstance(text, dict) or not isinstance(audio, dict):
        raise BadConfig(f"{CONFIG_FILE}: text_config and audio_decoder_config must both be objects")
    top = {ours: raw[theirs] for theirs, ours in _S2_TOP.items() if isinstance(raw.get(theirs), int)}
    return {
        "model_type": raw.get("model_type", "dual_ar"),
        "scale_codebook_embeddings": True,
        "norm_fast_input": True,
        **text,
        **_nested_fast(audio),
        "codebook_size": audio.get("vocab_size"),
        "num_codebooks": audio.get("num_codebooks"),
        "n_fast_layer": audio.get("n_layer"),
        **top,
    }


def _nested_fast(audio: Mapping[str, Any]) -> dict[str, Any]:
    """Nested sizes default within their own object, not to those of the text model."""
    given = {name: audio[name] for name in _SHARED if name in audio}
    return {f"fast_{name}": value for name, value in {**given, **_sizes(audio, "audio_decoder_config.")}.items()}


def _sizes(raw: Mapping[str, Any], label: str = "") -> dict[str, Any]:
    """n_local_heads, head_dim and intermediate_size of one transformer, given or derived."""
    dim, heads = _number(raw, "dim", label), _number(raw, "n_head", label)
    wide = math.ceil(int(2 * 4 * dim / 3) / 256) * 256
    given = {"n_local_heads": heads, "head_dim": dim // heads, "intermediate_size": wide}
    # -1 stands for "derive it" in older files.
    return {name: raw[name] if raw.get(name) not in (None, -1) else value for name, value in given.items()}


def _derived(flat: Mapping[str, Any]) -> dict[str, Any]:
    slow = {"rope_base": 10000.0, "norm_eps": 1e-5}
    slow.update({f"attention_{name}": False for name in ("qk_norm", "qkv_bias", "o_bias")})
    full = {**slow, **flat, **_sizes(flat)}
    derived = {name: full[name] for name in _SHARED}
    for name in _SHARED:
        value = flat.get(f"fast_{name}")
        derived[f"fast_{name}"] = full[name] if value in (None, -1) else value
    return derived


def _number(raw: Mapping[str, Any], key: str, label: str = "") -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise BadConfig(f"{CONFIG_FILE}: {label}{key} must be a whole number above 0, not {value!r}")
    return value


def _load(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(read_plain(path, MAX_CONFIG_BYTES, links=True).decode())
    except FileNotFoundError:
        raise BadConfig(f"{path} is missing; a checkpoint directory must hold it") from None
    except Damaged:
        raise BadConfig(f"{path}: no regular file, or larger than any configuration is") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BadConfig(f"{path} is not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise BadConfig(f"{path} must hold an object")
    return raw


def _made(cls: type[T], raw: Mapping[str, Any], file: str) -> T:
    """A config of what its dataclass knows of `raw`. Raises BadConfig naming the key."""
    try:
        return msgspec.convert(raw, cls)
    except msgspec.ValidationError as error:
        found = re.search(r"required field `(\w+)`|at `\$\.(\w+)", str(error))
        missing, name = found.groups() if found else (None, "it")
        if missing:
            raise BadConfig(f"{file}: {missing} is missing") from None
        expected = str(error).partition(" - at")[0].replace("`", "").lower()
        raise BadConfig(f"{file}: {name} cannot be {raw.get(name)!r:.80}: {expected}") from None
