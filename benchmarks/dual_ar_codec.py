"""The codec alone: seconds of work for a second of audio, whole and in chunks, and the SNR against fp32."""

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
"""`ConvImpl`, executor; see `codec_files`. The quantizer is int8 except with fp32."""
CHUNKS = (16, 4, 1)
FRAMES = 64
"""Frames decoded whole: about 3 s."""
_FEW = 16
"""Frames decoded singly or in fours, because each call costs a tile."""
_FRAMES_FIRST = 4


def variants() -> list[tuple[str, str]]:
    """The variants that this machine can run."""
    return [variant for variant in VARIANTS if _runs(*variant)]


def measure(directory: Path, rates: Rates, wanted: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """Measure these variants, each in a process of its own."""
    codec, rows = CodecConfig.read(directory), []
    exact = alone(exact_samples, directory, rates.threads)
    for conv_impl, executor in wanted:
        row = alone(decoder_row, directory, conv_impl, executor, rates.threads, FRAMES)
        gflop = arithmetic(codec, winograd=conv_impl == "winograd")
        row["ceiling_s"] = round(gflop / rates.gflops[arithmetic_of(conv_impl)], 4)
        row["snr_db"] = snr_db(row.pop("samples"), exact)
        rows.append(row)
    return rows


def decoder_row(directory: Path, conv_impl: Any, executor: Any, threads: int, frames: int) -> dict[str, Any]:
    """Measurements of one variant: seconds of work for a second of audio, decoded whole and in chunks."""
    codec = CodecConfig.read(directory)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    quantizer: Precision = "fp32" if conv_impl == "fp32" else "int8"
    threading = Threading(threads=threads)
    decoder = load_decoder(directory, codec, threading, quantizer=quantizer, conv_impl=conv_impl, executor=executor)
    load_s = time.perf_counter() - start
    codes = _codes(codec, frames)
    samples = decoder.decode(decoder.start(), codes)
    seconds = {"whole": _per_frame(decoder, codes, frames)}
    for chunk in CHUNKS:
        seconds[str(chunk)] = _per_frame(decoder, codes if chunk >= _FEW else codes[:, :_FEW], chunk)
    first = best(lambda: decoder.decode(decoder.start(), codes[:, :_FRAMES_FIRST]))
    return {
        "conv_impl": conv_impl,
        "executor": executor,
        **{name: round(value * codec.frame_rate, 4) for name, value in seconds.items()},
        "first_ms": round(first * 1000, 1),
        "load_s": round(load_s, 2),
        "resident_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
        "state_mb": round(decoder.start().nbytes / 1e6, 1),
        "samples": samples,
    }


def exact_samples(directory: Path, threads: int) -> Samples:
    """Samples decoded in full precision."""
    codec = CodecConfig.read(directory)
    decoder = load_decoder(directory, codec, Threading(threads=threads), quantizer="fp32", conv_impl="fp32")
    return decoder.decode(decoder.start(), _codes(codec, FRAMES))


def snr_db(found: Samples, wanted: Samples) -> float:
    """Signal-to-noise ratio of `found` against `wanted`."""
    error = float(np.square(found - wanted).mean())
    return round(10 * math.log10(float(np.square(wanted).mean()) / max(error, 1e-20)), 1)


def encoder_row(directory: Path, threads: int) -> dict[str, Any]:
    """The encoder on five seconds of noise."""
    codec = CodecConfig.read(directory)
    encoder = load_encoder(directory, codec, Threading(threads=threads))
    audio = np.random.default_rng(0).normal(0, 0.1, 5 * codec.sample_rate).astype(np.float32)
    seconds = best(lambda: encoder.encode(audio), repeats=1)
    return {"s_per_audio_s": round(seconds / 5, 3), "resident_mb": round(psutil.Process().memory_info().rss / 1e6)}


def _runs(conv_impl: str, executor: str) -> bool:
    if executor == "openvino" and not util.find_spec("openvino"):
        return False
    return conv_impl != "bf16" or "fast-bf16" in detect().traits


def _codes(codec: CodecConfig, frames: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(0)
    return np.stack([random.integers(0, codec.book_size(book), frames) for book in range(codec.num_codebooks)])


def _per_frame(decoder: CodecDecoder, codes: npt.NDArray[np.int64], chunk: int) -> float:
    """Seconds a frame in calls of `chunk` frames."""

    def work() -> None:
        state = decoder.start()
        for first in range(0, codes.shape[1], chunk):
            decoder.decode(state, codes[:, first : first + chunk])

    return best(work) / int(codes.shape[1])
