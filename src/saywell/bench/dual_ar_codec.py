"""The DualAR codec on this CPU: seconds of work per second of audio, against what the arithmetic alone would take.

The ceiling comes first: the processor's measured rate on one large matrix product, in the precision of each variant,
over the arithmetic of the decoder. Then whole-utterance decoding, decoding in chunks of 64, 16, 4 and 1 frames, the
time to a first chunk, resident memory and the distance from fp32. Each variant runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
from rich.console import Console
from rich.table import Table

from saywell.executors.base import Threading
from saywell.executors.onnx import Graph
from saywell.hardware import detect
from saywell.models.dual_ar.codec_files import Precision
from saywell.models.dual_ar.config import CodecConfig
from saywell.models.dual_ar.layout import codec_tensors
from saywell.models.dual_ar.runtime_codec import CodecDecoder, LoadedGraph, load_decoder, load_encoder
from saywell.rules import BF16

VARIANTS = (
    ("fp32", "onnx"),
    ("fp32", "openvino"),
    ("int8", "onnx"),
    ("winograd", "onnx"),
    ("winograd", "openvino"),
    ("bf16", "openvino"),
)
"""Convolutions, executor; see `codec_files`. Latents are int8 but for fp32."""
CHUNKS = (64, 16, 4, 1)
GOALS = {"s_per_audio_s": 0.4, "chunk16_over_whole": 1.1}
_PRODUCT, _PRODUCTS = 1024, 8
"""Rows and columns of each matrix, and how many follow one another, so that what goes in and out does not count."""
_REPEATS = 2
_FEW = 16
"""Frames decoded one by one or in fours: each call costs a tile."""
_FRAMES_FIRST = 4


def main(args: list[str]) -> int:
    """Run it. 1 if the best variant misses a goal."""
    parser = argparse.ArgumentParser(prog="saywell bench dual_ar_codec", description=__doc__)
    parser.add_argument("model", nargs="?", type=Path, help="a converted model (default: random weights, full size)")
    parser.add_argument("--frames", type=int, default=64, help="decoded whole (default 64, about 3 s)")
    parser.add_argument("--threads", type=int, default=0, help="default: every core this process may use")
    parser.add_argument("--encoder", action="store_true", help="measure the encoder too (needs about 1 GB)")
    options = parser.parse_args(args)
    threads = options.threads or detect().usable_cores
    with graphs(options.model, options.encoder) as directory:
        codec = CodecConfig.read(directory)
        result = measure(directory, codec, threads, options.frames, options.encoder)
    print(json.dumps(result))  # noqa: T201 - the machine-readable last line
    return 0 if met(result) else 1


def measure(directory: Path, codec: CodecConfig, threads: int, frames: int, encoder: bool) -> dict[str, Any]:
    """Everything, printed as it comes."""
    console, gflop = Console(width=120), arithmetic(codec)
    variants = [each for each in VARIANTS if _runs(*each)]
    rates = {name: _alone(product_rate, name, threads) for name in {_arithmetic_of(each[0]) for each in variants}}
    console.print(f"Arithmetic: {gflop:.0f} GFLOP per second of audio. Ceiling with {threads} threads:")
    for name, rate in sorted(rates.items()):
        console.print(f"  {name:5} {rate:6.0f} GFLOP/s → {gflop / rate:.3f} s per second of audio")
    console.print(f"  winograd: {arithmetic(codec, fewer=True):.0f} GFLOP in fp32")
    rows = []
    for way, executor in variants:
        row = _alone(decoder_row, directory, way, executor, threads, frames)
        row["ceiling_s"] = arithmetic(codec, fewer=way == "winograd") / rates[_arithmetic_of(way)]
        rows.append(row)
    _compare(rows)
    _show(console, rows)
    result: dict[str, Any] = {"bench": "dual_ar_codec", "threads": threads, "gflop_per_audio_s": round(gflop, 1)}
    result.update(gflops={name: round(rate) for name, rate in rates.items()}, decoder=rows)
    if encoder:
        result["encoder"] = _alone(encoder_row, directory, threads)
        console.print(f"Encoder: {result['encoder']['s_per_audio_s']:.2f} s per second of audio, fp32")
    return result


def met(result: dict[str, Any]) -> bool:
    """Whether the best variant reaches the goals."""
    best = min(result["decoder"], key=lambda row: float(row["s_per_audio_s"]["whole"]))
    whole, chunked = (best["s_per_audio_s"][each] for each in ("whole", "16"))
    return bool(whole <= GOALS["s_per_audio_s"] and chunked <= GOALS["chunk16_over_whole"] * whole)


def arithmetic(codec: CodecConfig, *, fewer: bool = False) -> float:
    """GFLOP to decode one second: every weight, twice, at the rate of the layer it is in; `fewer`: by `winograd`."""
    total, steps = 0.0, codec.sample_rate / codec.hop
    for name, shape in codec_tensors(codec).items():
        rate = _rate(codec, name, steps)
        if len(shape) > 1:
            total += 2 * math.prod(shape) * rate * (_share(codec, name, shape, rate) if fewer else 1)
    return total / 1e9


def _share(codec: CodecConfig, name: str, shape: tuple[int, ...], rate: float) -> float:
    """Of a convolution's products that are left where several outputs are computed together."""
    from saywell.models.dual_ar import winograd  # building needs it, running does not
    from saywell.models.dual_ar.graph_layers import FEWEST_ROWS, OUTPUTS

    rows, taps = round(rate / codec.frame_rate), shape[-1]
    if ".block.1.conv." in name and name.count(".block.") == 1:
        taps = 2  # a transposed convolution: two inputs' taps reach each output
    if not name.startswith("decoder.model.") or taps not in OUTPUTS or rows < FEWEST_ROWS or shape[0] == 1:
        return 1.0
    unit = int(name.split(".")[4]) - 2 if taps == 7 and ".block." in name else 0
    dilation = codec.dilations[unit] if taps == 7 else 1
    return winograd.cheapest(1, rows, taps, dilation, OUTPUTS[taps]).taken.size / (rows * taps)


def _rate(codec: CodecConfig, name: str, steps: float) -> float:
    """Times a second a weight is used in decoding; 0 if it is not."""
    if name.startswith("quantizer.post_module."):
        return codec.frame_rate
    if name.startswith("quantizer.upsample."):
        stage, part = name.split(".")[2:4]
        return codec.frame_rate * math.prod(codec.downsample[::-1][: int(stage) + (part == "1")])
    if not name.startswith("decoder.model."):
        return 0.0
    level = min(int(name.split(".")[2]), len(codec.decoder_rates))
    done = math.prod(codec.decoder_rates[:level])
    transposed = ".block.1.conv." in name and name.count(".block.") == 1
    return steps * (done // codec.decoder_rates[level - 1] if transposed else done)


def decoder_row(directory: Path, way: Any, executor: Any, threads: int, frames: int) -> dict[str, Any]:
    """Measurements of one variant."""
    codec = CodecConfig.read(directory)
    before, start = psutil.Process().memory_info().rss, time.perf_counter()
    latents: Precision = "fp32" if way == "fp32" else "int8"
    threading = Threading(threads=threads)
    decoder = load_decoder(directory, codec, threading, latents=latents, convolutions=way, executor=executor)
    load_s = time.perf_counter() - start
    codes = _codes(codec, frames)
    samples = decoder.decode(decoder.start(), codes)
    seconds = {"whole": _per_frame(decoder, codes, frames)}
    for chunk in CHUNKS:
        seconds[str(chunk)] = _per_frame(decoder, codes if chunk >= _FEW else codes[:, :_FEW], chunk)
    first = _best(lambda: decoder.decode(decoder.start(), codes[:, :_FRAMES_FIRST]))
    return {
        "convolutions": way,
        "executor": executor,
        "s_per_audio_s": {name: round(each * codec.frame_rate, 4) for name, each in seconds.items()},
        "first_ms": round(first * 1000, 1),
        "load_s": round(load_s, 2),
        "resident_mb": round((psutil.Process().memory_info().rss - before) / 1e6),
        "state_mb": round(decoder.start().nbytes / 1e6, 1),
        "samples": samples,
    }


def encoder_row(directory: Path, threads: int) -> dict[str, Any]:
    """The encoder on five seconds of noise."""
    codec = CodecConfig.read(directory)
    encoder = load_encoder(directory, codec, Threading(threads=threads))
    audio = np.random.default_rng(0).normal(0, 0.1, 5 * codec.sample_rate).astype(np.float32)
    seconds = _best(lambda: encoder.encode(audio), repeats=1)
    peak = psutil.Process().memory_info().rss
    return {"s_per_audio_s": round(seconds / 5, 3), "resident_mb": round(peak / 1e6)}


def product_rate(kind: str, threads: int) -> float:
    """GFLOP/s of large matrix products in fp32, int8 (ONNX Runtime) or bf16 (OpenVINO)."""
    from saywell.models.dual_ar.graph_layers import Layers  # needs onnx, which running a model does not
    from saywell.models.dual_ar.graph_writer import GraphWriter

    random, size = np.random.default_rng(0), (_PRODUCT, _PRODUCT)
    g = GraphWriter("products")
    layers = Layers(g, {}, CodecConfig(), "tile8" if kind == "int8" else "fp32")
    y = g.input("x", size)
    for _ in range(_PRODUCTS):
        y = layers.product(y, random.standard_normal(size, dtype=np.float32) / np.float32(math.sqrt(_PRODUCT)))
    g.output("y", g.op("ReduceMean", y, keepdims=1), (1, 1))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "products.onnx"
        g.save(path)
        graph = _load(path, kind, threads)
        feeds = {"x": random.standard_normal(size, dtype=np.float32)}
        return 2e-9 * _PRODUCT**3 * _PRODUCTS / _best(lambda: graph.run(feeds), repeats=5)


def _load(path: Path, kind: str, threads: int) -> LoadedGraph:
    if kind != "bf16":
        return Graph(path, Threading(threads=threads))
    from saywell.executors.openvino import Graph as OpenVinoGraph  # an optional extra

    return OpenVinoGraph(path, Threading(threads=threads), bf16=True)


def _runs(way: str, executor: str) -> bool:
    """Whether this machine has what a variant needs."""
    if executor == "openvino" and not util.find_spec("openvino"):
        return False
    return way != "bf16" or bool(BF16 & set(detect().cpu.features))


def _arithmetic_of(way: str) -> str:
    return "fp32" if way == "winograd" else way


def _codes(codec: CodecConfig, frames: int) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(0)
    return np.stack([random.integers(0, codec.book_size(book), frames) for book in range(codec.num_codebooks)])


def _per_frame(decoder: CodecDecoder, codes: npt.NDArray[np.int64], chunk: int) -> float:
    """Seconds a frame takes when `chunk` of them are decoded at once."""

    def work() -> None:
        state = decoder.start()
        for at in range(0, codes.shape[1], chunk):
            decoder.decode(state, codes[:, at : at + chunk])

    return _best(work) / int(codes.shape[1])


def _best(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a process of its own, so that memory and threads are its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _compare(rows: list[dict[str, Any]]) -> None:
    """Replace the samples of each row by their distance from the first row's, dB."""
    wanted = rows[0].pop("samples")
    for row in rows[1:]:
        error = float(np.square(row.pop("samples") - wanted).mean())
        row["snr_db"] = round(10 * math.log10(float(np.square(wanted).mean()) / error), 1)


def _show(console: Console, rows: list[dict[str, Any]]) -> None:
    table = Table(title="Decoder, seconds of work per second of audio", title_justify="left", box=None, pad_edge=False)
    for name in ("variant", "ceiling", "whole", *map(str, CHUNKS), "16/whole", "first 4", "MB", "load", "SNR"):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for row in rows:
        took = row["s_per_audio_s"]
        table.add_row(
            f"{row['convolutions']} {row['executor']}",
            f"{row['ceiling_s']:.3f}",
            *(f"{each:.3f}" for each in took.values()),
            f"{took['16'] / took['whole']:.2f}",
            f"{row['first_ms']:.0f} ms",
            str(row["resident_mb"]),
            f"{row['load_s']:.1f} s",
            f"{row['snr_db']} dB" if "snr_db" in row else "",
        )
    console.print(table)


@contextmanager
def graphs(model: Path | None, encoder: bool) -> Iterator[Path]:
    """A converted model's directory: the given one, or a temporary one of random weights."""
    if model is not None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="saywell-codec-") as folder:
        _alone(_write_random, Path(folder), encoder)
        yield Path(folder)


def _write_random(directory: Path, encoder: bool) -> None:
    """Graphs of the full size; activations stay near unit size."""
    from saywell.models.dual_ar.graphs_codec import write_decoder, write_encoder  # needs onnx

    codec, random = CodecConfig(), np.random.default_rng(0)
    skipped = () if encoder else ("encoder.", "quantizer.pre_module.", "quantizer.downsample.")
    wanted = {name: shape for name, shape in codec_tensors(codec).items() if not name.startswith(skipped)}
    weights = {name: _random(name, shape, random) for name, shape in wanted.items()}
    write_decoder(weights, codec, directory)
    if encoder:
        write_encoder(weights, codec, directory)


def _random(name: str, shape: tuple[int, ...], random: np.random.Generator) -> npt.NDArray[np.float32]:
    noise = random.standard_normal(shape, dtype=np.float32)
    if name.endswith(("alpha", "norm.weight")):
        return np.asarray(np.exp(0.3 * noise), np.float32)
    if len(shape) == 1 or name.endswith("gamma"):
        return np.float32(0.1) * noise
    fan = math.prod(shape[1:])
    if name.startswith("decoder.") and shape[-1] % 2 == 0:
        fan = shape[0] * 2  # transposed: two taps of every input reach a sample
    noise *= np.float32((0.4 if ".block.3.conv" in name else 1.0) / math.sqrt(fan))
    return noise
