"""The prompt matrix [1 + num_codebooks, T]: token ids in row 0, codes below where a position is audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from saywell.errors import InvalidRequest
from saywell.graphs.numerics import Codes
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.tokenizer import IM_END, Tokenizer

Reference = tuple[str, Codes]
"""Transcript of a reference and its codes, [num_codebooks, T]."""

SPEAKER = "<|speaker:0|>"


def build(tokenizer: Tokenizer, config: Config, text: str, references: Sequence[Reference] = ()) -> Codes:
    """The whole prompt. The voice's part comes first, so that its keys and values can be cached."""
    return np.concatenate([voice_part(tokenizer, config, references), text_part(tokenizer, config, text)], axis=1)


def voice_part(tokenizer: Tokenizer, config: Config, references: Sequence[Reference] = ()) -> Codes:
    """The part before the text, the same for every text of a voice."""
    parts = [_text_columns([tokenizer.control("<|interleave|>")], config)]
    for transcript, codes in references:
        parts.append(text_part(tokenizer, config, transcript))
        parts.append(audio_columns(tokenizer, config, codes))
        parts.append(_text_columns([tokenizer.control(IM_END)], config))
    return np.concatenate(parts, axis=1)


def text_part(tokenizer: Tokenizer, config: Config, text: str) -> Codes:
    """The speaker marker, then text as data."""
    return _text_columns([*tokenizer.as_written(SPEAKER), *tokenizer.encode(text)], config)


def audio_columns(tokenizer: Tokenizer, config: Config, codes: Codes) -> Codes:
    """Codes [num_codebooks, T] below their semantic tokens. Raises InvalidRequest for codes of another model."""
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[0] != config.num_codebooks or codes.dtype.kind not in "iu":
        raise InvalidRequest(f"reference codes must be whole numbers [{config.num_codebooks}, frames]", param="codes")
    if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < config.codebook_size:
        raise InvalidRequest(f"reference codes must lie within 0 to {config.codebook_size - 1}", param="codes")
    codes = codes.astype(np.int64)
    return np.concatenate([codes[:1] + tokenizer.semantic_begin_id, codes])


def _text_columns(ids: Iterable[int], config: Config) -> Codes:
    row = np.fromiter(ids, dtype=np.int64)
    matrix = np.zeros((1 + config.num_codebooks, len(row)), dtype=np.int64)
    matrix[0] = row
    return matrix
