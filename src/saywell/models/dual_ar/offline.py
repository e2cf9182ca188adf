"""Work from file to file: converting checkpoints, and audio ↔ codes on a converted model without torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.format import open_memmap

from saywell.audio.decode import decode as decode_audio
from saywell.audio.encode import save
from saywell.errors import InvalidRequest, MissingDependency, TooLarge
from saywell.files import open_file, replacing
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.convert import convert as conversion
from saywell.models.dual_ar.convert.calibrate import TEXTS
from saywell.models.dual_ar.convert.child import FILES
from saywell.models.dual_ar.convert.convert import PRECISIONS, SENTENCES, Progress
from saywell.models.dual_ar.convert.verified import check_files, encoder_files, run_from
from saywell.models.dual_ar.onnx.ar_files import layers_file
from saywell.models.dual_ar.onnx.runtime_codec import load_decoder, load_encoder
from saywell.runtimes.base import Threading
from saywell.settings import default_data_dir

PUBLISHED = tuple(FILES.values())
MAX_SENTENCES = len(TEXTS)
MAX_AUDIO_SECONDS = 180.0
MAX_AUDIO_BYTES = 200 << 20
MAX_CODES_BYTES = 64 << 20
_DECODED_AT_ONCE = 64
"""Frames; bounds memory, changes no sample."""


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


def report(model: Path, precision: str) -> list[str]:
    """Which layers of a precision were kept above it, and the largest error of the others."""
    file = model / layers_file(precision)
    if not file.is_file():  # fp32 has none
        return []
    found = json.loads(file.read_bytes())
    errors, kept = found["errors"], found["kept"]
    below = max((name for name in errors if name not in kept), key=errors.__getitem__, default=None)
    worst = f"; largest error of the others: {errors[below]:.3f} ({below})" if below else ""
    head = f"{precision}: {len(kept)} of {len(errors)} layers stay above it, for an error over {found['bound']}{worst}"
    return [head, *(f"  {name}: {errors[name]:.3f}, kept as {fmt}" for name, fmt in kept.items())]


def fixture(directory: Path, size: str, seed: int) -> None:
    """A random checkpoint in the published layout. Raises MissingDependency without torch."""
    try:
        made: Any = import_module("saywell.models.dual_ar.convert.fixture")  # by name: needs torch
    except ModuleNotFoundError as error:
        raise MissingDependency(f"a fixture needs {error.name}: pip install 'saywell[torch]'") from error
    made.write(directory, size, seed)


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
