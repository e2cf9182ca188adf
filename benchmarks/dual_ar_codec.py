"""The codec alone: seconds of work for a second of audio, whole and in chunks, and the distance from fp32."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from benchmarks.ceiling import Rates, arithmetic, arithmetic_of
from saywell.bench.speed import alone, best
from saywell.machine import detect
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.onnx.codec_files import Precision
from saywell.models.dual_ar.onnx.runtime_codec import CodecDecoder, load_decoder, load_encoder
from saywell.runtimes.base import Threading
from saywell.types import Samples

VARIANTS = (
    ("fp32", "onnx"),
    ("fp32", "openvino"),
    ("int8", "onnx"),
    ("winograd", "onnx"),
    ("winograd", "openvino"),
    ("bf16", "openvino"),
)
"""Convolutions, executor; see `codec_files`. Latents are int8 but for fp32."""
CHUNKS = (16, 4, 1)
FRAMES = 64
"""Decoded whole: about 3 s."""
_FEW = 16
"""Frames decoded one by one or in fours: each call costs a tile."""
_FRAMES_FIRST = 4


def variants() -> list[tuple[str, str]]:
    """Those this machine has what it takes for."""
    return [each for each in VARIANTS if _runs(*each)]


def measure(directory: Path, rates: Rates, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """These variants, each in a process of its own."""
    codec, rows = CodecConfig.read(directory), []
    exact = alone(exact_samples, directory, rates.threads)
    for way, executor in wanted:
        row = alone(decoder_row, directory, way, executor, rates.threads, FRAMES)
        row["ceiling_s"] = round(arithmetic(codec, fewer=way == "winograd") / rates.gflops[arithmetic_of(way)], 4)
        row["snr_db"] = snr_db(row.pop("samples"), exact)
        rows.append(row)
    return rows


def decoder_row(directory: Path, way: Any, executor: Any, threads: int, frames: int) -> dict[str, Any]:
    """Measurements of one variant: seconds of work for a second of audio, decoded whole and in chunks."""
    codec = CodecConfig.read(directory)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    latents: Precision = "fp32" if way == "fp32" else "int8"
    threading = Threading(threads=threads)
    decoder = load_decoder(directory, codec, threading, quantizer=latents, conv_impl=way, executor=executor)
    load_s = time.perf_counter() - start
    codes = _codes(codec, frames)
    samples = decoder.decode(decoder.start(), codes)
    seconds = {"whole": _per_frame(decoder, codes, frames)}
    for chunk in CHUNKS:
        seconds[str(chunk)] = _per_frame(decoder, codes if chunk >= _FEW else codes[:, :_FEW], chunk)
    first = best(lambda: decoder.decode(decoder.start(), codes[:, :_FRAMES_FIRST]))
    return {
        "convolutions": way,
        "executor": executor,
        **{name: round(each * codec.frame_rate, 4) for name, each in seconds.items()},
        "first_ms": round(first * 1000, 1),
        "load_s": round(load_s, 2),
        "resident_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
        "state_mb": round(decoder.start().nbytes / 1e6, 1),
        "samples": samples,
    }


def exact_samples(directory: Path, threads: int) -> Samples:
    """What full precision decodes."""
    codec = CodecConfig.read(directory)
    decoder = load_decoder(directory, codec, Threading(threads=threads), quantizer="fp32", conv_impl="fp32")
    return decoder.decode(decoder.start(), _codes(codec, FRAMES))


def snr_db(found: Samples, wanted: Samples) -> float:
    """Of the distance between two decodings."""
    error = float(np.square(found - wanted).mean())
    return round(10 * math.log10(float(np.square(wanted).mean()) / max(error, 1e-20)), 1)


def encoder_row(directory: Path, threads: int) -> dict[str, Any]:
    """The encoder on five seconds of noise."""
    codec = CodecConfig.read(directory)
    encoder = load_encoder(directory, codec, Threading(threads=threads))
    audio = np.random.default_rng(0).normal(0, 0.1, 5 * codec.sample_rate).astype(np.float32)
    seconds = best(lambda: encoder.encode(audio), repeats=1)
    return {"s_per_audio_s": round(seconds / 5, 3), "resident_mb": round(psutil.Process().memory_info().rss / 1e6)}


def _runs(way: str, executor: str) -> bool:
    if executor == "openvino" and not util.find_spec("openvino"):
        return False
    return way != "bf16" or "fast-bf16" in detect().traits


def _codes(codec: CodecConfig, frames: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(0)
    return np.stack([random.integers(0, codec.book_size(book), frames) for book in range(codec.num_codebooks)])


def _per_frame(decoder: CodecDecoder, codes: npt.NDArray[np.int64], chunk: int) -> float:
    """Seconds a frame takes when `chunk` of them are decoded at once."""

    def work() -> None:
        state = decoder.start()
        for at in range(0, codes.shape[1], chunk):
            decoder.decode(state, codes[:, at : at + chunk])

    return best(work) / int(codes.shape[1])
