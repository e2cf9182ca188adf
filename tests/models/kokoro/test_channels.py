"""The decoder for OpenVINO: each piece against float arithmetic, and by the published weights against the published."""

from __future__ import annotations

import importlib.util as util
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from benchmarks import weights
from benchmarks.hearing import hear
from benchmarks.word_errors import word_error_rate
from saywell.engine import launch
from saywell.models.base import find_spec
from saywell.models.kokoro.rewriting.channels import STYLE, Channels
from saywell.models.kokoro.rewriting.meaning import (
    Convolution,
    Leaf,
    Leaky,
    Meaning,
    Norm,
    Reflected,
    Snake,
    Sum,
    Upsampling,
)
from saywell.models.kokoro.rewriting.reading import declared
from saywell.models.kokoro.rewriting.rows import Writer
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph
from saywell.settings import Settings

needs_openvino = pytest.mark.skipif(util.find_spec("openvino") is None, reason="needs the openvino extra")
RNG = np.random.default_rng(0)
CHANNELS, TIME = 8, 61
X = RNG.normal(size=(CHANNELS, TIME)).astype(np.float32)


def over(meaning: Meaning, *inputs: Meaning) -> Meaning:
    meaning.inputs = list(inputs)
    for each in inputs:
        each.users.append(meaning)
    return meaning


def convolution(kernel: int, dilation: int) -> Convolution:
    weight = RNG.integers(-127, 128, (CHANNELS, CHANNELS, kernel)).astype(np.int8)
    reach = (kernel - 1) * dilation // 2
    scale, bias = np.full(1, 0.01, np.float32), RNG.normal(size=CHANNELS).astype(np.float32)
    return Convolution(weight=weight, scale=scale, bias=bias, dilation=dilation, pads=(reach, reach))


def convolved(x: np.ndarray, conv: Convolution) -> np.ndarray:
    """In float, [channels, time]."""
    padded = np.pad(x, ((0, 0), conv.pads))
    assert conv.bias is not None
    taps = range(conv.weight.shape[2])
    parts = [conv.weight[:, :, k] * conv.scale @ padded[:, k * conv.dilation :][:, : x.shape[1]] for k in taps]
    return np.asarray(sum(parts) + conv.bias[:, None])


def run(top: Meaning, style: np.ndarray, path: Path, runtime: str = "onnx") -> np.ndarray:
    """[channels, time]"""
    out = Writer()
    writer = Channels(out, {"x": CHANNELS})
    y = writer.write(top)
    (leaf,) = writer.leaves.values()
    size = [writer.size] if writer.size else [1]
    inputs = [declared(leaf, TensorProto.FLOAT, [1, CHANNELS, "time"]), declared(STYLE, TensorProto.FLOAT, size)]
    graph = helper.make_graph(out.nodes, "g", inputs, [declared(y, TensorProto.FLOAT, None)], [*out.constants.values()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path / "g.onnx")
    feeds = {leaf: X[None], STYLE: style.astype(np.float32)}
    if runtime == "openvino":
        from saywell.runtimes import openvino

        return np.asarray(openvino.Graph(path / "g.onnx", Threading(), bf16=False).run(feeds)[0][0, :, 0])
    return np.asarray(Graph(path / "g.onnx", Threading()).run(feeds)[0][0, :, 0])


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    """As near as 8 bits are: the error has a thousandth of the power."""
    return float(((found - wanted) ** 2).mean() / wanted.var()) < 1e-3


@pytest.mark.parametrize("runtime", ["onnx", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 3), (7, 3), (11, 5)])
@pytest.mark.parametrize("louder", [1, 1000])
def test_norm_snake_and_convolution(kernel: int, dilation: int, louder: float, runtime: str, tmp_path: Path) -> None:
    """Whatever the gain: the steps follow it."""
    alpha = RNG.uniform(0.5, 2, CHANNELS).astype(np.float32)
    gain, offset = louder * RNG.normal(size=CHANNELS), louder * RNG.normal(size=CHANNELS)
    snake = over(Snake(alpha=alpha), over(Norm(), Leaf(name="x")))
    conv = convolution(kernel, dilation)
    normal = (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)
    x = normal * gain[:, None] + offset[:, None]
    wanted = convolved(x + np.sin(alpha[:, None] * x) ** 2 / alpha[:, None], conv)
    assert near(run(over(conv, snake), np.concatenate([gain, offset]), tmp_path, runtime), wanted)


def test_norm_leaky_convolution_and_a_sum(tmp_path: Path) -> None:
    leaf, conv = Leaf(name="x"), convolution(3, 1)
    leaky = over(Leaky(slope=0.2), over(Norm(), leaf))
    normal = (X - X.mean(1, keepdims=True)) / X.std(1, keepdims=True)
    wanted = X + convolved(np.where(normal < 0, 0.2 * normal, normal), conv)
    style = np.concatenate([np.ones(CHANNELS), np.zeros(CHANNELS)])
    assert near(run(over(Sum(), leaf, over(conv, leaky)), style, tmp_path), wanted)


@pytest.mark.parametrize("reflected", [False, True])
def test_an_upsampling_is_the_transposed_convolution(reflected: bool, tmp_path: Path) -> None:
    stride = 6
    weight = RNG.normal(size=(CHANNELS, CHANNELS, 2 * stride)).astype(np.float32)
    bias = RNG.normal(size=CHANNELS).astype(np.float32)
    up = over(Upsampling(weight=weight, bias=bias, stride=stride, crop=stride // 2), Leaf(name="x"))
    whole = np.zeros((CHANNELS, stride * (TIME + 1)))
    for t in range(TIME):
        whole[:, stride * t : stride * (t + 2)] += np.einsum("i,iok->ok", X[:, t], weight)
    wanted = whole[:, stride // 2 : -(stride // 2)] + bias[:, None]
    if reflected:
        up, wanted = over(Reflected(), up), np.concatenate([wanted[:, 1:2], wanted], axis=1)
    found = run(up, np.zeros(1), tmp_path)
    assert found.shape == wanted.shape
    assert near(found, wanted)


@pytest.mark.weights
@needs_openvino
def test_openvino_speaks_with_the_published_weights_and_is_understood(tmp_path: Path) -> None:
    """By either executor; voices at the same time sound as they do alone."""
    (tmp_path / "kokoro-v1.0.int8.onnx").symlink_to(weights.kokoro())
    (tmp_path / "voices").mkdir()
    with np.load(weights.kokoro_voices()) as packs:
        for name, own in (("jf_alpha", "af_alpha"), ("jm_kumo", "bm_kumo")):
            packs[name].astype("<f4").tofile(tmp_path / "voices" / f"{own}.bin")
    said = "The first sentence is a short one. Then comes another, which says a little more than the first."
    lengths = []
    for executor in find_spec(None, tmp_path).executors:
        settings = Settings(model_path=tmp_path, data_dir=tmp_path / "data", adapt=False, executor=executor, threads=2)
        with launch.open(settings=settings) as tts:
            alone = tts.say(said)
            streams = [tts.stream(said, voice=voice) for voice in ("af_alpha", "bm_kumo", "af_alpha")]
            first, _, second = [np.concatenate([chunk.samples for chunk in stream]) for stream in streams]
        np.testing.assert_array_equal(first, alone.samples)
        np.testing.assert_array_equal(second, alone.samples)
        assert word_error_rate(said, hear(alone.samples, alone.sample_rate)) <= 0.06
        lengths.append(len(first))
    assert abs(lengths[0] - lengths[1]) < 0.1 * lengths[0]
