"""Lower bounds for DualAR on this machine, from its measured memory bandwidth and arithmetic throughput.

A step of the transformers reads every weight of the slow one once and of the fast one once for each residual codebook;
the codec's convolutions are bound by arithmetic. Both use all cores, so their times add up.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saywell.bench.speed import alone, best, read_rate
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.cost import BYTES, bytes_read, multiplications, weights_read
from saywell.models.dual_ar.layout import codec_tensors
from saywell.models.dual_ar.onnx.runtime_codec import LoadedGraph
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

STREAMS = 8
_PRODUCT, _PRODUCTS = 1024, 8
"""Size of the matrices, and number of products in a row, so that the cost of input and output is negligible."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Of all threads together."""

    threads: int
    gb_per_s: float
    gflops: Mapping[str, float]
    """Of large products, by kind: "fp32", "int8" and, if the processor supports it, "bf16"."""


def rates(threads: int, kinds: set[str]) -> Rates:
    """Measure the rates, each in a process of its own."""
    flops = {kind: float(alone(product_rate, kind, threads)) for kind in sorted(kinds | {"fp32", "int8"})}
    return Rates(threads, float(alone(read_rate, threads)), flops)


def arithmetic_of(conv_impl: str) -> str:
    """The kind of product that a `ConvImpl` uses."""
    return "fp32" if conv_impl == "winograd" else conv_impl


def ceiling(model: Path, precision: str, plan: Plan, rates: Rates) -> dict[str, Any]:
    """Least seconds of work for a second of audio: of one stream, and of `STREAMS` concurrent ones."""
    config = Config.read(model)
    rate = config.codec.frame_rate
    slow_s, fast_s = (count * BYTES[precision] / rates.gb_per_s / 1e9 for count in weights_read(config))
    frame_s = slow_s + fast_s
    multiplied_s = 2e-9 * multiplications(config) / rates.gflops["fp32" if precision == "fp32" else "int8"]
    conv_impl = plan.options["convolutions"]
    gflop = arithmetic(config.codec, winograd=conv_impl == "winograd")
    codec = gflop / rates.gflops[arithmetic_of(conv_impl)]
    bounds = {
        "slow_ms": slow_s * 1e3,
        "fast_ms": fast_s * 1e3,
        "ar": frame_s * rate,
        "codec": codec,
        "one": frame_s * rate + codec,
        "streams": max(frame_s / STREAMS, multiplied_s) * rate + codec,
        "first_s": (1 + plan.first_frames) * frame_s + plan.first_frames / rate * codec,
    }
    facts = {"precision": precision, "read_mb": round(bytes_read(config, precision) / 1e6),
             "codec_gflop": round(gflop, 1)}  # fmt: skip
    return {**facts, **{name: round(value, 4) for name, value in bounds.items()}}


def product_rate(kind: str, threads: int) -> float:
    """GFLOP/s of large matrix products in fp32, int8 (ONNX Runtime) or bf16 (OpenVINO)."""
    from saywell.graphs.writer import CODEC, GraphWriter
    from saywell.models.dual_ar.graphs.layers import Layers  # needs onnx, which running a model does not

    random, size = np.random.default_rng(0), (_PRODUCT, _PRODUCT)
    g = GraphWriter("products", CODEC)
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
        return 2e-9 * _PRODUCT**3 * _PRODUCTS / best(lambda: graph.run(feeds), repeats=5)


def _load(path: Path, kind: str, threads: int) -> LoadedGraph:
    if kind != "bf16":
        return Graph(path, Threading(threads=threads))
    from saywell.runtimes.openvino import Graph as OpenVinoGraph  # an optional extra

    return OpenVinoGraph(path, Threading(threads=threads), bf16=True)


def arithmetic(codec: CodecConfig, *, winograd: bool = False) -> float:
    """GFLOP to decode one second: twice the weights of each layer, times the layer's rate."""
    total, steps = 0.0, codec.sample_rate / codec.hop
    for name, shape in codec_tensors(codec).items():
        rate = _rate(codec, name, steps)
        if len(shape) > 1:
            total += 2 * math.prod(shape) * rate * (_winograd_share(codec, name, shape, rate) if winograd else 1)
    return total / 1e9


def _winograd_share(codec: CodecConfig, name: str, shape: tuple[int, ...], rate: float) -> float:
    """Share of a convolution's multiplications that `winograd` needs."""
    from saywell.graphs import winograd  # building needs it, running does not
    from saywell.models.dual_ar.graphs.layers import FEWEST_ROWS, OUTPUTS

    rows, taps = round(rate / codec.frame_rate), shape[-1]
    if ".block.1.conv." in name and name.count(".block.") == 1:
        taps = 2  # a transposed convolution: two inputs contribute to each output
    if not name.startswith("decoder.model.") or taps not in OUTPUTS or rows < FEWEST_ROWS or shape[0] == 1:
        return 1.0
    unit = int(name.split(".")[4]) - 2 if taps == 7 and ".block." in name else 0
    dilation = codec.dilations[unit] if taps == 7 else 1
    return winograd.cheapest(1, rows, taps, dilation, OUTPUTS[taps]).taken.size / (rows * taps)


def _rate(codec: CodecConfig, name: str, steps: float) -> float:
    """Uses of a weight in decoding, per second of audio."""
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
