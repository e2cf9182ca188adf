"""The graphs of both transformers against the reference, and their runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks import random_checkpoint
from dual_ar_rig import RELATIVE, logits_of, speak
from reference import networks
from reference.sampling import Sampler
from saywell.errors import TooLarge, Unavailable
from saywell.graphs.linears import (
    STEPS,
    Format,
    Judge,
    Linears,
    middle,
    quantize_blocks,
    quantize_rows,
    step,
)
from saywell.graphs.writer import TRANSFORMER, External, GraphWriter
from saywell.machine import detect
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.convert import calibrate
from saywell.models.dual_ar.convert.checkpoint import read_model
from saywell.models.dual_ar.graphs import ar, draw
from saywell.models.dual_ar.onnx.ar_files import CODES_FILE
from saywell.models.dual_ar.onnx.runtime_ar import BROKEN, ArRuntime, Running, _Buffers
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.runtimes.base import Threading
from saywell.runtimes.onnx import Graph

PRECISIONS = ("fp32", "int8", "int4")
VARIANTS = [("fp32", "fp32"), ("int8", "fp32"), ("int8", "int8"), ("int4", "int8")]
DRAWS = [
    Sampling(temperature=0, repetition_penalty=1.0),
    Sampling(temperature=0, repetition_penalty=1.3),
    Sampling(temperature=0.8, top_p=0.8, repetition_penalty=1.1, seed=1),
    Sampling(temperature=1.3, top_p=1.0, repetition_penalty=1.0, seed=2),
    Sampling(temperature=0.7, top_p=0.5, repetition_penalty=1.5, seed=3, repetition_aware=True),
    Sampling(temperature=1e-6, top_p=1e-6, seed=4),
]


class Model:
    """A checkpoint as reference and as graphs."""

    def __init__(self, published: Path, out: Path) -> None:
        self.path = out
        self.config = Config.read(published)
        tokenizer = Tokenizer.read(published, self.config)
        state = read_model(published / random_checkpoint.MODEL_FILE, self.config)
        self.state = networks.doubles(state)
        weights = {name: tensor.float().numpy() for name, tensor in state.items()}
        self.begin = tokenizer.semantic_begin_id
        ids = {"semantic_begin_id": self.begin, "im_end_id": tokenizer.im_end_id}
        (out / "config.json").write_text(json.dumps(asdict(self.config)), encoding="utf-8")
        ar.build_tables(weights, out, **ids)
        for precision in PRECISIONS:
            ar.build(self.config, weights, out, precision, judge=Judge({}), **ids)
            if precision != "fp32":
                calibrate.write_scales(out, out, precision, [self.prompt(20, 7), self.prompt(9, 8)], threads=1)

    def prompt(self, length: int, seed: int) -> np.ndarray:
        """Half audio, half text."""
        c, random = self.config, np.random.default_rng(seed)
        prompt = np.zeros((1 + c.num_codebooks, length), np.int64)
        prompt[0] = random.integers(0, self.begin, length)
        audio = length // 2
        prompt[1, :audio] = random.integers(0, c.codebook_size, audio)
        prompt[2:, :audio] = random.integers(0, c.residual_logits, (c.num_codebooks - 1, audio))
        prompt[0, :audio] = prompt[1, :audio] + self.begin
        return prompt

    def runtime(self, precision: str, cache: str, slots: int = 4, max_len: int = 128, bits: int = 7) -> ArRuntime:
        threading = Threading(threads=2)
        return ArRuntime(
            self.path, precision, threading, slots=slots, max_len=max_len, cache=cache, activation_bits=bits
        )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model(random_checkpoint.write(tmp_path_factory.mktemp("published")), tmp_path_factory.mktemp("graphs"))


@pytest.fixture(scope="module")
def relative(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Another member of the family, with all flags different."""
    differs = {**RELATIVE, "scale_codebook_embeddings": True}
    published = random_checkpoint.write(tmp_path_factory.mktemp("relative"), config=differs)
    return Model(published, tmp_path_factory.mktemp("graphs"))


@pytest.mark.parametrize("sampling", DRAWS)
@pytest.mark.parametrize("which", ["model", "relative"])
def test_tokens_equal_the_reference(which: str, sampling: Sampling, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(which)
    runtime = model.runtime("fp32", "fp32")
    for seed, length in enumerate((1, 5, 33)):
        prompt = model.prompt(length, seed)
        ids = {"begin": runtime.begin, "im_end": runtime.im_end}
        wanted = networks.generate(model.state, model.config, prompt, sampling, 24, **ids)
        np.testing.assert_array_equal(speak(runtime, prompt, sampling, 24), wanted)


@pytest.mark.parametrize("fmt", ["w8a8", "w8", "w4"])
def test_products_do_not_overflow_on_this_processor(fmt: Format, tmp_path: Path) -> None:
    """The largest weights times the largest activations, with the bits that the plan chooses for this processor."""
    columns, rows = 1024, 64
    bits = 8 if "exact-int8" in detect().traits else 7
    signs = np.random.default_rng(0).choice(np.array([-1.0, 1.0], np.float32), (rows, 1))
    codes = np.repeat(signs, columns, axis=1)  # one sign in each row, so that nothing cancels
    external = External(tmp_path / "weights.data")
    g = GraphWriter("product", TRANSFORMER, external)
    x = g.input("x", ["M", columns])
    g.output("y", Linears(g, fmt, x, Judge({}))(x, "w", codes), ["M", rows])
    external.close()
    graph = ar.with_activation_bits(g.model(), bits)
    (tmp_path / "product.onnx").write_bytes(graph.SerializeToString())
    product = Graph(tmp_path / "product.onnx", Threading(threads=1))
    for count in (1, 2, 7, 8):
        ones = np.ones((count, columns), np.float32)
        (found,) = product.run({"x": ones})
        np.testing.assert_allclose(found, ones @ codes.T, rtol=1e-5)


def test_pairs_of_seven_bit_products_fit_sixteen_bits() -> None:
    largest = {bits: int(middle(bits)) + STEPS[bits] for bits in STEPS}
    assert 2 * 127 * largest[7] < 2**15 <= 2 * 127 * largest[8]
    for bits, steps in STEPS.items():
        assert step(bits) == np.float32(1 / steps)


# Relative error of the logits (RMS) against fp32; tiny matrices have few terms to average the rounding over.
@pytest.mark.parametrize(
    ("precision", "cache", "limit"), [("int8", "fp32", 0.045), ("int8", "int8", 0.05), ("int4", "int8", 0.35)]
)
def test_quantised_logits_are_close(model: Model, precision: str, cache: str, limit: float) -> None:
    exact, rough = model.runtime("fp32", "fp32"), model.runtime(precision, cache)
    wanted = np.stack([logits_of(exact, model.prompt(30, seed)) for seed in range(4)])
    found = np.stack([logits_of(rough, model.prompt(30, seed)) for seed in range(4)])
    assert np.sqrt(np.square(found - wanted).mean() / wanted.var()) < limit


@pytest.mark.parametrize(("precision", "cache"), VARIANTS)
def test_batched_sequences_are_bit_identical_to_single_ones(model: Model, precision: str, cache: str) -> None:
    """Sequences join and leave at random."""
    runtime = model.runtime(precision, cache, slots=5)
    plans = [(model.prompt(3 + 5 * seed, seed), Sampling(temperature=1.0, top_p=0.95, seed=seed)) for seed in range(8)]
    alone = [list(trace(runtime, *plan, 20 - index)) for index, plan in enumerate(plans)]
    random, waiting = np.random.default_rng(0), list(range(len(plans)))
    running: dict[int, object] = {}
    got: dict[int, list[bytes]] = {index: [] for index in waiting}
    while waiting or running:
        if waiting and runtime.free and random.random() < 0.5:
            index = waiting.pop(0)
            running[index] = runtime.prefill(*plans[index])
        asked = [index for index in running if random.random() < 0.8]
        for index, frame in zip(asked, runtime.step([running[index] for index in asked]), strict=True):
            got[index].append(frame.tobytes())
            if len(got[index]) == len(alone[index]):
                runtime.release(running.pop(index))
    assert [got[index] for index in range(len(plans))] == alone


def trace(runtime: ArRuntime, prompt: np.ndarray, sampling: Sampling, frames: int) -> Iterator[bytes]:
    running = runtime.prefill(prompt, sampling)
    for _ in range(frames):
        frame = runtime.step([running])[0]
        yield frame.tobytes()
        if frame[0] == runtime.im_end:
            break
    runtime.release(running)


def first_frame(runtime: ArRuntime, prompt: np.ndarray, sampling: Sampling) -> bytes:
    (frame,) = trace(runtime, prompt, sampling, 1)
    return frame


@pytest.mark.parametrize(("precision", "cache"), VARIANTS)
def test_cached_prefix_equals_reading_the_prompt(model: Model, precision: str, cache: str) -> None:
    runtime = model.runtime(precision, cache)
    whole = model.prompt(40, 3)
    prefix = runtime.prefix(whole[:, :25])
    assert prefix.length == 25
    running = runtime.prefill(whole[:, 25:], Sampling(), prefix)
    assert running.ready is not None
    found, wanted = running.ready[0], logits_of(runtime, whole)
    loss = np.sqrt(np.square(found - wanted).mean() / wanted.var())
    assert loss < (1e-5 if precision == "fp32" else 0.03)
    again = runtime.prefill(whole[:, 25:], Sampling(), prefix)
    np.testing.assert_array_equal(again.ready[0], found)


def test_long_prompt_is_read_in_chunks(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime, prompt = model.runtime("fp32", "fp32"), model.prompt(50, 1)
    wanted = logits_of(runtime, prompt)
    monkeypatch.setattr("saywell.runtimes.decoder.CHUNK", 16)
    np.testing.assert_allclose(logits_of(runtime, prompt), wanted, atol=1e-4)


def test_full_slots_and_positions_are_reported(model: Model) -> None:
    runtime = model.runtime("int8", "int8", slots=2, max_len=32)
    with pytest.raises(TooLarge, match="32 positions"):
        runtime.prefill(model.prompt(32, 0), Sampling())
    first = runtime.prefill(model.prompt(30, 0), Sampling(temperature=1, top_p=1))
    second = runtime.prefill(model.prompt(5, 1), Sampling())
    with pytest.raises(Unavailable, match="2 slots"):
        runtime.prefill(model.prompt(5, 2), Sampling())
    assert runtime.room(first) == 2
    runtime.step([first, second])
    assert runtime.room(first) == 1
    runtime.step([first])
    runtime.step([first])
    assert runtime.room(first) == 0 or first.frame == 3
    runtime.release(first)
    assert runtime.free == 1
    runtime.step([second])
    assert second.row == 0  # the last row moved into the gap


def test_non_finite_logits_break_only_their_row(model: Model) -> None:
    runtime = model.runtime("int8", "fp32")
    plans = [(model.prompt(9, seed), Sampling(seed=seed)) for seed in range(3)]
    alone = [first_frame(runtime, *plan) for plan in plans]
    batch = [runtime.prefill(*plan) for plan in plans]
    assert batch[1].ready is not None
    batch[1].ready[0][3] = np.nan
    frames = runtime.step(batch)
    assert frames[1, 0] == BROKEN
    assert [frames[0].tobytes(), frames[2].tobytes()] == [alone[0], alone[2]]


def test_an_empty_batch(model: Model) -> None:
    assert model.runtime("int8", "int8").step([]).shape == (0, 1 + model.config.num_codebooks)


def test_memory_of_a_released_row_is_returned(model: Model) -> None:
    runtime = model.runtime("int8", "int8")
    running = runtime.prefill(model.prompt(20, 0), Sampling())
    assert runtime.cache.data[:, running.row].any()
    runtime.release(running)
    if sys.platform == "linux":
        assert not runtime.cache.data[:, running.row].any()


def test_runtime_needs_neither_onnx_nor_torch(model: Model) -> None:
    program = f"""
import sys
sys.modules.update(onnx=None, torch=None)
import numpy as np
from pathlib import Path
from saywell.runtimes.base import Threading
from saywell.models.dual_ar.onnx.runtime_ar import ArRuntime
from saywell.models.dual_ar.sampling import Sampling
runtime = ArRuntime(Path({str(model.path)!r}), "int4", Threading(), slots=1, max_len=64)
running = runtime.prefill(np.zeros((1 + runtime.config.num_codebooks, 3), np.int64), Sampling())
print(runtime.step([running]).shape)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"(1, {1 + model.config.num_codebooks})"


def test_embeddings_are_read_from_mapped_files(model: Model) -> None:
    runtime = model.runtime("int8", "int8")
    prompt = model.prompt(12, 5)
    wanted = networks.embed(model.state, model.config, prompt, model.begin)
    np.testing.assert_allclose(runtime.tables.embed(prompt), wanted, atol=1e-5)
    assert isinstance(np.load(model.path / CODES_FILE, mmap_mode="r"), np.memmap)


# Sampling ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[40, 700])
def drawer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Graph, int]:
    """A graph of both draws over `size` ids, below and above `draw.FIRST_LOOK`."""
    size, out = request.param, tmp_path_factory.mktemp("draw")
    external = External(out / "draw.data")
    g = GraphWriter("draw", TRANSFORMER, external)
    given = draw.inputs(g, 2)
    logits, turn = g.input("logits", ["B", size]), g.const(0, np.int64)
    g.output("semantic", draw.semantic(g, logits, size, given), ["B"], 7)
    g.output("residual", draw.residual(g, logits, size, turn, given), ["B"], 7)
    external.close()
    (out / "draw.onnx").write_bytes(g.model().SerializeToString())
    return Graph(out / "draw.onnx", Threading()), size


@pytest.mark.parametrize("spread", [0.0, 0.1, 3.0, 30.0])
def test_sampled_codes_equal_the_reference(drawer: tuple[Graph, int], spread: float, model: Model) -> None:
    graph, size = drawer
    random = np.random.default_rng(int(spread * 10))
    rows = 24
    buffers = _Buffers(model.config, rows)
    buffers.recent, buffers.uniforms = np.zeros((rows, 2, 16), np.int64), np.zeros((rows, 3))
    logits = (random.standard_normal((rows, size)) * spread).astype(np.float32)
    wanted = []
    for row in range(rows):
        sampling = Sampling(
            temperature=random.choice([0, 0.5, 1.0, 1.9]),
            top_p=random.choice([1e-6, 0.3, 0.8, 0.99, 1.0]),
            repetition_penalty=random.choice([0.8, 1.0, 1.4]),
            seed=row,
            repetition_aware=bool(row % 2),
        )
        behind = [random.integers(0, min(size, 4), 2) for _ in range(random.choice([0, 1, 9, 16]))]
        sampler = Sampler(sampling, 2, [codes.tolist() for codes in behind])
        running = Running(row=row, sampling=sampling, frame=len(behind), recent=behind)
        buffers.set_sampling(running, 2)
        wanted.append([sampler.semantic(logits[row]), sampler.residual(logits[row])])
    found = graph.run({"logits": logits, **buffers.sampling()})
    np.testing.assert_array_equal(np.stack(found, axis=1), wanted)


# Quantisation --------------------------------------------------------------------------------------------------------


def test_int8_rows_have_half_a_step_of_error() -> None:
    weight = np.random.default_rng(0).standard_normal((7, 40)).astype(np.float32)
    weight[3] = 0
    codes, scales = quantize_rows(weight)
    assert codes.dtype == np.int8
    assert (np.abs(codes[[0, 1, 2, 4, 5, 6]]).max(axis=1) == 127).all()
    assert (np.abs(codes * scales[:, None] - weight) <= scales[:, None] * 0.5001).all()


@pytest.mark.parametrize(("bits", "block"), [(8, 64), (4, 32), (4, 128)])
def test_blocks_are_packed_with_small_errors(bits: int, block: int) -> None:
    weight = np.random.default_rng(0).standard_normal((5, 256)).astype(np.float32)
    weight[2, :block] = 0
    packed, scales = quantize_blocks(weight, bits, block)
    assert packed.shape == (5, 256 // block, block * bits // 8)
    assert scales.shape == (5, 256 // block)
    codes = packed if bits == 8 else np.stack([packed & 15, packed >> 4], axis=-1).reshape(5, -1, block)
    back = (codes.astype(np.float32) - (1 << (bits - 1))) * scales[..., None]
    error = np.sqrt(np.square(back.reshape(5, 256) - weight).mean())
    assert error < (0.01 if bits == 8 else 0.12)
    assert not back[2, 0].any()


def test_width_must_be_whole_blocks() -> None:
    with pytest.raises(ValueError, match="whole blocks of 32"):
        quantize_blocks(np.ones((2, 40), np.float32), 4, 32)
