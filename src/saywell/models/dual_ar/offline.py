"""Audio ↔ codes from file to file, on a converted model, without torch: `saywell encode` and `saywell decode`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from saywell.audio.decode import decode as decode_audio
from saywell.audio.encode import save
from saywell.errors import InvalidRequest, TooLarge
from saywell.files import open_file, replacing
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.convert.verified import check_files, encoder_files, run_from
from saywell.models.dual_ar.onnx.runtime_codec import load_decoder, load_encoder
from saywell.runtimes.base import Threading
from saywell.settings import default_data_dir

MAX_AUDIO_SECONDS = 180.0
MAX_AUDIO_BYTES = 200 << 20
MAX_CODES_BYTES = 64 << 20
_DECODED_AT_ONCE = 64
"""Frames; bounds memory, changes no sample."""


def encode(audio: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """An audio file in any known format → its codes, int64 [num_codebooks, T], as .npy; the path written.

    Raises UnsupportedMedia and TooLarge from the sandbox that opens the file.
    """
    source, directory = Path(audio), Path(model)
    with open_file(source, devices=True) as file:
        data = file.read(MAX_AUDIO_BYTES + 1)  # not to the end: a device has none
    if len(data) > MAX_AUDIO_BYTES:
        raise TooLarge(f"{source} is over {MAX_AUDIO_BYTES >> 20} MB", param="audio")
    codec = CodecConfig.read(directory)
    samples, _ = decode_audio(data, max_seconds=MAX_AUDIO_SECONDS, max_bytes=MAX_AUDIO_BYTES, to_hz=codec.sample_rate)
    check_files(directory, encoder_files(), default_data_dir() / "measured")
    codes = load_encoder(directory, codec, Threading(threads=threads)).encode(samples)
    return _save_codes(Path(out), codes)


def decode(codes: str | Path, model: str | Path, out: str | Path, *, threads: int = 1) -> Path:
    """Codes from .npy → audio at the codec's own level, in the format the name `out` ends in; the path written.

    Takes [num_codebooks, T] and, with the token row first, [1 + num_codebooks, T].
    """
    directory = Path(model)
    codec = CodecConfig.read(directory)
    frames = read_codes(Path(codes), codec)
    check_files(directory, run_from(directory, "fp32"), default_data_dir() / "measured")
    decoder = load_decoder(directory, codec, Threading(threads=threads), latents="fp32", convolutions="fp32")
    state = decoder.start()
    parts = [
        decoder.decode(state, frames[:, at : at + _DECODED_AT_ONCE])
        for at in range(0, frames.shape[1], _DECODED_AT_ONCE)
    ]
    return save(out, np.concatenate(parts), codec.sample_rate)


def read_codes(path: Path, codec: CodecConfig) -> npt.NDArray[np.int64]:
    """Codes of a .npy file without their token row, [num_codebooks, T ≥ 1]. Raises InvalidRequest, TooLarge."""
    if path.stat().st_size > MAX_CODES_BYTES:
        raise TooLarge(f"{path} is over {MAX_CODES_BYTES >> 20} MB", param="codes")
    try:
        open_file(path).close()
        found = open_memmap(path, mode="r")  # mapped: its header cannot ask for memory, and no pickle is read
    except (ValueError, EOFError, OSError) as error:
        raise InvalidRequest(f"{path} is not a .npy file of numbers: {error}", param="codes") from None
    books = codec.num_codebooks
    if found.ndim != 2 or found.shape[0] not in (books, books + 1):
        raise InvalidRequest(f"{path} must hold codes [{books}, T], or [{books + 1}, T] with tokens", param="codes")
    if found.dtype.kind not in "iu" or not found.size:
        raise InvalidRequest(f"{path} must hold whole numbers, at least one frame of them", param="codes")
    codes: npt.NDArray[np.int64] = found[-books:].astype(np.int64)
    return codes


def _save_codes(path: Path, codes: npt.NDArray[np.int64]) -> Path:
    with replacing(path) as file:
        np.save(file, codes)
    return path
