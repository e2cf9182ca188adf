"""Work from file to file: converting checkpoints, and audio ↔ codes on a converted model without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from saywell.audio.decode import decode_file
from saywell.audio.encode import save
from saywell.errors import InvalidRequest, TooLarge
from saywell.files import open_file, replacing
from saywell.graphs.numerics import Codes
from saywell.models.conversion import Progress
from saywell.models.conversion import layers_report as report
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.convert import convert as conversion
from saywell.models.dual_ar.convert.calibrate import TEXTS
from saywell.models.dual_ar.convert.convert import PRECISIONS, SENTENCES
from saywell.models.dual_ar.facts import encoder_files, run_from
from saywell.models.dual_ar.layout import FILES
from saywell.models.dual_ar.onnx.runtime_codec import load_decoder, load_encoder
from saywell.models.verified import check_files
from saywell.runtimes.base import Threading
from saywell.settings import default_data_dir

__all__ = ["PRECISIONS", "PUBLISHED", "SENTENCES", "convert", "decode", "encode", "report", "sources"]
PUBLISHED = tuple(FILES.values())
MAX_SENTENCES = len(TEXTS)
MAX_AUDIO_SECONDS = 180.0
MAX_AUDIO_BYTES = 200 << 20
MAX_CODES_BYTES = 64 << 20
_DECODE_FRAMES = 64
"""Frames of one call to the decoder. Bounds memory; samples do not depend on it."""


def sources(directory: Path) -> list[Path]:
    """The files in a published checkpoint's directory that a conversion depends on."""
    return [directory / name for name in conversion.SOURCES if (directory / name).is_file()]


def convert(
    directory: Path,
    out: Path,
    *,
    progress: Progress,
    precisions: Sequence[str] = PRECISIONS,
    sentences: int = SENTENCES,
) -> Path:
    """See `convert.convert.convert`."""
    return conversion.convert(directory, out, progress=progress, precisions=precisions, sentences=sentences)


def encode(audio: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """An audio file → its codes, int64 [num_codebooks, T], as .npy. Returns the path written.

    Raises UnsupportedMedia, TooLarge, BadCheckpoint, GraphError.
    """
    directory = Path(model)
    codec = CodecConfig.read(directory)
    samples, _ = decode_file(audio, max_seconds=MAX_AUDIO_SECONDS, max_bytes=MAX_AUDIO_BYTES, to_hz=codec.sample_rate)
    check_files(directory, encoder_files(), default_data_dir() / "measured")
    codes = load_encoder(directory, codec, Threading(threads=threads)).encode(samples)
    with replacing(Path(out)) as file:
        np.save(file, codes)
    return Path(out)


def decode(codes: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """Codes from .npy → audio in the format of `out`'s suffix, its level as decoded. Returns the path written.

    Codes are [num_codebooks, T] or, with a token row first, [1 + num_codebooks, T].
    """
    directory = Path(model)
    codec = CodecConfig.read(directory)
    frames = read_codes(Path(codes), codec)
    check_files(directory, run_from(directory, "fp32"), default_data_dir() / "measured")
    decoder = load_decoder(directory, codec, Threading(threads=threads), quantizer="fp32", conv_impl="fp32")
    state = decoder.start()
    parts = [
        decoder.decode(state, frames[:, first : first + _DECODE_FRAMES])
        for first in range(0, frames.shape[1], _DECODE_FRAMES)
    ]
    return save(out, np.concatenate(parts), codec.sample_rate)


def read_codes(path: Path, codec: CodecConfig) -> Codes:
    """Codes of a .npy file without a token row, [num_codebooks, T ≥ 1]. Raises InvalidRequest, TooLarge."""
    if path.stat().st_size > MAX_CODES_BYTES:
        raise TooLarge(f"{path} is over {MAX_CODES_BYTES >> 20} MB", param="codes")
    try:
        open_file(path).close()
        array = open_memmap(path, mode="r")  # mapped: the header cannot allocate memory, and no pickle is read
    except (ValueError, EOFError, OSError) as error:
        raise InvalidRequest(f"{path} is not a .npy file of numbers: {error}", param="codes") from None
    books = codec.num_codebooks
    if array.ndim != 2 or array.shape[0] not in (books, books + 1):
        raise InvalidRequest(f"{path} must hold codes [{books}, T], or [{books + 1}, T] with tokens", param="codes")
    if array.dtype.kind not in "iu" or not array.size:
        raise InvalidRequest(f"{path} must hold integers, and at least one frame", param="codes")
    codes: Codes = array[-books:].astype(np.int64)
    return codes
