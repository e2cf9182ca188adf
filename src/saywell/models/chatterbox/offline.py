"""Work from file to file: converting checkpoints, and audio ↔ speech tokens on a converted model without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from saywell.audio.decode import decode as decode_audio
from saywell.audio.encode import save
from saywell.errors import InvalidRequest, TooLarge
from saywell.files import open_file, replacing
from saywell.models.chatterbox import config as published
from saywell.models.chatterbox import convert as conversion
from saywell.models.chatterbox.config import RATE, Config
from saywell.models.chatterbox.facts import PRECISIONS
from saywell.models.chatterbox.s3gen.runtime import Decoder, Windows
from saywell.models.chatterbox.speakers import built_in, decoder_voice
from saywell.models.chatterbox.voice import builtin
from saywell.models.chatterbox.voice.runtime import VoiceEncoder
from saywell.models.conversion import Progress
from saywell.runtimes.base import Threading

__all__ = ["PRECISIONS", "PUBLISHED", "convert", "decode", "encode", "report", "sources"]
PUBLISHED = tuple(each.t3 for each in published.PUBLISHED)
SENTENCES = MAX_SENTENCES = len(conversion.TEXTS)
_MAX_AUDIO_SECONDS, _MAX_AUDIO_BYTES, _MAX_CODES_BYTES = 60.0, 200 << 20, 1 << 20


def sources(directory: Path) -> list[Path]:
    """The files in a published checkpoint's directory that a conversion depends on."""
    found = published.recognise(directory)
    names = (*found.files, *found.optional, builtin.FILE, conversion.SIZES)
    return [directory / name for name in names if (directory / name).is_file()]


def convert(
    directory: Path,
    out: Path,
    *,
    progress: Progress,
    precisions: Sequence[str] = PRECISIONS,
    sentences: int = SENTENCES,
) -> Path:
    """See `convert.convert`."""
    return conversion.convert(directory, out, progress=progress, precisions=precisions, sentences=sentences)


def report(_model: Path, _precision: str) -> list[str]:
    """Nothing: no layer is kept at a higher precision."""
    return []


def encode(audio: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """An audio file → its speech tokens, int64 [T], as .npy: those that the decoder continues from, of 10 s at most."""
    source, directory = Path(audio), Path(model)
    with open_file(source, devices=True) as file:
        data = file.read(_MAX_AUDIO_BYTES + 1)  # bounded, because a device never ends
    if len(data) > _MAX_AUDIO_BYTES:
        raise TooLarge(f"{source} is over {_MAX_AUDIO_BYTES >> 20} MB", param="audio")
    samples, rate = decode_audio(data, max_seconds=_MAX_AUDIO_SECONDS, max_bytes=_MAX_AUDIO_BYTES, to_hz=RATE)
    voice = VoiceEncoder(directory, Threading(threads=threads))(samples, rate, Config.read(directory).kind)
    with replacing(Path(out)) as file:
        np.save(file, voice["prompt_tokens"])
    return Path(out)


def decode(codes: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """Speech tokens from .npy, int64 [T] → audio in the checkpoint's own voice, in the format of `out`'s suffix."""
    directory, voice = Path(model), built_in(Path(model))
    if voice is None:
        raise InvalidRequest(f"{directory} has no voice of its own to decode with", param="model")
    tokens = _read_codes(Path(codes))
    decoder = Decoder(directory, "fp32", Threading(threads=threads), windows=Windows(sizes=()))
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
    if array.dtype.kind not in "iu" or not array.size or min(array.shape) != array.size // max(array.shape):
        raise InvalidRequest(f"{path} must hold speech tokens, integers [T], T ≥ 1", param="codes")
    return array.reshape(-1).astype(np.int64)
