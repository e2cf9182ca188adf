"""Work from file to file: converting checkpoints, and audio ↔ speech tokens on a converted model without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saywell.audio.decode import decode_file
from saywell.audio.encode import save
from saywell.errors import InvalidRequest, TooLarge
from saywell.files import replacing
from saywell.machine import detect
from saywell.models.chatterbox import config as published
from saywell.models.chatterbox.config import RATE, Config
from saywell.models.chatterbox.convert import SIZES, TEXTS, convert
from saywell.models.chatterbox.facts import PRECISIONS, encoder_files
from saywell.models.chatterbox.s3gen import files as s3gen
from saywell.models.chatterbox.s3gen.runtime import Decoder, Windows
from saywell.models.chatterbox.speakers import built_in, decoder_voice
from saywell.models.chatterbox.voice import builtin
from saywell.models.chatterbox.voice.runtime import VoiceEncoder
from saywell.models.conversion import layers_report as report
from saywell.models.verified import check_files
from saywell.runtimes.base import Threading
from saywell.settings import default_data_dir
from saywell.voices.store import LONGEST_S

__all__ = ["PRECISIONS", "PUBLISHED", "SENTENCES", "convert", "decode", "encode", "report", "sources"]
PUBLISHED = tuple(each.t3 for each in published.PUBLISHED)
SENTENCES = MAX_SENTENCES = len(TEXTS)
_MAX_CODES_BYTES = 1 << 20


def sources(directory: Path) -> list[Path]:
    """The files in a published checkpoint's directory that a conversion depends on."""
    found = published.recognise(directory)
    names = (*found.files, *found.optional, builtin.FILE, SIZES)
    return [directory / name for name in names if (directory / name).is_file()]


def encode(audio: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """An audio file → its speech tokens, int64 [T], as .npy: those that the decoder continues from, of 10 s at most.

    Raises UnsupportedMedia, TooLarge, BadCheckpoint, GraphError.
    """
    directory = Path(model)
    samples, rate = decode_file(audio, max_seconds=LONGEST_S)
    check_files(directory, encoder_files(), default_data_dir() / "measured")
    voice = VoiceEncoder(directory, Threading(threads=threads))(samples, rate, Config.read(directory).kind)
    with replacing(Path(out)) as file:
        np.save(file, voice["prompt_tokens"])
    return Path(out)


def decode(codes: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """Speech tokens from .npy, int64 [T] → audio in the checkpoint's own voice, in the format of `out`'s suffix.

    In one window, at the highest precision there is. Raises InvalidRequest, TooLarge, BadCheckpoint, GraphError.
    """
    directory, voice = Path(model), built_in(Path(model))
    if voice is None:
        raise InvalidRequest(f"{directory} has no voice of its own to decode with", param="model")
    tokens = _read_codes(Path(codes))
    there = [each for each in s3gen.PRECISIONS if (directory / s3gen.data_file(each)).is_file()]
    precision = there[0] if there else s3gen.PRECISIONS[0]
    bits = 8 if precision == "fp32" or "exact-int8" in detect().traits else 7
    check_files(directory, s3gen.loaded_files(precision, bits), default_data_dir() / "measured")
    decoder = Decoder(directory, precision, Threading(threads=threads), windows=Windows(sizes=()), activation_bits=bits)
    if tokens.min() < 0 or tokens.max() >= decoder.config.vocab:
        raise InvalidRequest(f"{codes} holds tokens outside 0 … {decoder.config.vocab - 1}", param="codes")
    samples = decoder.decode(decoder.start(decoder_voice(voice), 0), tokens, last=True)
    return save(out, samples, RATE)


def _read_codes(path: Path) -> np.ndarray:
    """Raises InvalidRequest, TooLarge."""
    if path.stat().st_size > _MAX_CODES_BYTES:
        raise TooLarge(f"{path} is over {_MAX_CODES_BYTES >> 20} MB", param="codes")
    try:
        array: np.ndarray = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InvalidRequest(f"{path} is not a .npy file of numbers: {error}", param="codes") from None
    line = array.reshape(-1)  # [T], or [1, T] as `say --codes-out` writes it
    if array.dtype.kind not in "iu" or len(line) != array.shape[-1] or not len(line):
        raise InvalidRequest(f"{path} must hold speech tokens, integers [T], T ≥ 1", param="codes")
    return line.astype(np.int64)
