"""What this machine allows the DualAR family: memory read and products done a second, measured now, over what it asks.

A step of the transformers reads every weight of the slow one once and those of the fast one once for each residual
codebook. The codec's convolutions read little and multiply much. Transformers and codec both want all cores, so their
times add up.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saywell.bench.alone import alone
from saywell.models.dual_ar.config import CodecConfig, Config
from saywell.models.dual_ar.layout import codec_tensors, model_tensors
from saywell.models.dual_ar.onnx.ar_files import fast_file, slow_file
from saywell.models.dual_ar.onnx.runtime_codec import LoadedGraph
from saywell.plan.plan import Plan
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

STREAMS = 8
_READ = 1 << 30
_PRODUCT, _PRODUCTS = 1024, 8
"""Rows and columns of each matrix, and how many follow one another, so that what goes in and out does not count."""
_MATRICES = ("MatMul", "MatMulNBits", "MatMulIntegerToFloat")


@dataclass(frozen=True, slots=True)
class Rates:
    """Of all threads together."""

    threads: int
    gb_per_s: float
    gflops: Mapping[str, float]
    """Of large products in "fp32", "int8" and, where the processor has it, "bf16"."""


def rates(threads: int, kinds: set[str]) -> Rates:
    """Measured now, each in a process of its own."""
    flops = {kind: float(alone(product_rate, kind, threads)) for kind in sorted(kinds | {"fp32", "int8"})}
    return Rates(threads, float(alone(read_rate, threads)), flops)


def arithmetic_of(convolutions: str) -> str:
    """The kind of product a way to convolve is made of."""
    return "fp32" if convolutions == "winograd" else convolutions


def ceiling(model: Path, precision: str, plan: Plan, found: Rates) -> dict[str, Any]:
    """Seconds of work for a second of audio at the least: one stream, and `STREAMS` of them together."""
    config = Config.read(model)
    slow, fast = (alone(weight_bytes, model / name) for name in (slow_file(precision, "fp32"), fast_file(precision)))
    turns, rate = config.num_codebooks - 1, config.codec.frame_rate
    slow_s, fast_s = (size / found.gb_per_s / 1e9 for size in (slow, fast * turns))
    frame_s = slow_s + fast_s
    multiplied_s = 2e-9 * multiplications(config) / found.gflops["fp32" if precision == "fp32" else "int8"]
    kind = arithmetic_of(plan.options["convolutions"])
    gflop = arithmetic(config.codec, fewer=plan.options["convolutions"] == "winograd")
    codec = gflop / found.gflops[kind]
    many = max(frame_s / STREAMS, multiplied_s) * rate + codec
    first_s = (1 + plan.first_frames) * frame_s + plan.first_frames / rate * codec
    parts = {"slow_ms": slow_s * 1e3, "fast_ms": fast_s * 1e3, "ar": frame_s * rate, "codec": codec}
    sums = {"one": frame_s * rate + codec, "streams": many, "first_s": first_s}
    return {
        "weights_mb": round((slow + fast) / 1e6),
        "convolutions": plan.options["convolutions"],
        "executor": plan.executor,
        "gflop_per_audio_s": round(gflop, 2),
        **{name: round(value, 4) for name, value in (parts | sums).items()},
    }


def read_rate(threads: int) -> float:
    """GB/s at which memory far larger than any cache is read."""
    parts = np.array_split(np.ones(_READ // 4, np.float32), threads)
    with ThreadPoolExecutor(threads) as pool:
        return _READ / 1e9 / best(lambda: list(pool.map(np.sum, parts)), repeats=5)


def product_rate(kind: str, threads: int) -> float:
    """GFLOP/s of large matrix products in fp32, int8 (ONNX Runtime) or bf16 (OpenVINO)."""
    from saywell.models.dual_ar.graphs.layers import Layers  # needs onnx, which running a model does not
    from saywell.models.dual_ar.graphs.writer import GraphWriter

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
        return 2e-9 * _PRODUCT**3 * _PRODUCTS / best(lambda: graph.run(feeds), repeats=5)


def _load(path: Path, kind: str, threads: int) -> LoadedGraph:
    if kind != "bf16":
        return Graph(path, Threading(threads=threads))
    from saywell.runtimes.openvino import Graph as OpenVinoGraph  # an optional extra

    return OpenVinoGraph(path, Threading(threads=threads), bf16=True)


def best(work: Callable[[], object], repeats: int = 2) -> float:
    """Seconds of the fastest of `repeats` runs after a first one."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def weight_bytes(graph: Path) -> int:
    """Bytes of the matrices and their scales in a graph, the bodies of its loops included."""
    import onnx  # building needs it, running does not

    model = onnx.load(graph, load_external_data=False)
    kept = {each.name: _length(each) for each in model.graph.initializer if each.external_data}
    todo: list[Any] = [model.graph]
    used: set[str] = set()
    while todo:
        for node in todo.pop().node:
            used.update(node.input if node.op_type in _MATRICES else ())
            todo.extend(each.g for each in node.attribute if each.HasField("g"))
    return sum(size for name, size in kept.items() if name in used)


def _length(tensor: Any) -> int:
    return next(int(each.value) for each in tensor.external_data if each.key == "length")


def multiplications(config: Config) -> int:
    """Of both transformers' matrices in a frame of one sequence."""
    each = {name: math.prod(shape) for name, shape in model_tensors(config).items() if len(shape) == 2}
    turns = config.num_codebooks - 1
    slow = sum(size for name, size in each.items() if name.startswith("layers."))
    fast = sum(size for name, size in each.items() if name.startswith("fast_layers."))
    heads = (config.codebook_size + 1) * config.dim + turns * config.residual_logits * config.fast_dim
    # The first turn reads two positions: the hidden state and the semantic code.
    return slow + fast * (turns + 1) + heads


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
    from saywell.models.dual_ar.graphs import winograd  # building needs it, running does not
    from saywell.models.dual_ar.graphs.layers import FEWEST_ROWS, OUTPUTS

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
