"""Running out of memory during a request: free memory, retry once, and deliver complete, identical audio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from asking import LONG, ask, until
from plans import TINY_PLAN, with_levels
from saywell.engine import loop as loop_module
from saywell.engine.engine import Engine
from saywell.errors import ModelFailure, OutOfMemory
from saywell.machine.monitor import Resources
from saywell.models.base import DecodeJob, SequenceError
from saywell.plan.degradation import Timing
from saywell.plan.plan import Plan
from saywell.runtimes.onnx import GraphError
from saywell.runtimes.out_of_memory import ran_out
from saywell.types import Frame, ModelSpec, Reference, Request, Samples, Sequence
from tiny_ar import family as tiny_ar

NEVER = Timing(confirm=1e9, down=1e9, up=1e9)
SPEC = replace(tiny_ar.spec("tiny", None), clones=True)
WHERE = ("prefill", "step", "decode")


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def calm() -> Resources:
    return Resources(cpu_percent=1.0, memory_limit=1 << 33, memory_available=1 << 32, memory_percent=50.0)


class Short(tiny_ar.TinyModel):
    """Runs out of memory in the n-th call of a kind."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.fail: dict[str, list[Exception | None]] = {name: [] for name in (*WHERE, "prepare")}
        self.sizes: list[int] = []
        self.failed_at: int | None = None

    def _may(self, name: str) -> None:
        if self.fail[name] and (error := self.fail[name].pop(0)) is not None:
            self.failed_at = len(self.sizes)
            raise error

    def prepare(self, request: Request) -> None:
        self._may("prepare")

    def prefill(self, started: list[Sequence]) -> None:
        for sequence in started:  # one by one, so that part of a batch has been prefilled when memory runs out
            self._may("prefill")
            super().prefill([sequence])

    def step(self, batch: list[Sequence]) -> list[Frame]:
        self._may("step")
        self.sizes.append(len(batch))
        return super().step(batch)

    def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
        self._may("decode")
        return super().decode(jobs)


@pytest.fixture
def start() -> Iterator[Callable[..., Engine]]:
    made: list[Engine] = []

    def go(kind: type[Short] = Short, **fields: object) -> Engine:
        plan = with_levels(replace(TINY_PLAN, **fields), replace(SPEC, slot_bytes=64 << 20))
        engine = Engine(SPEC, plan, lambda now: kind(SPEC, now), look=calm, timing=NEVER)
        made.append(engine)
        engine.start()
        return engine

    yield go
    for engine in made:
        engine.close()


def model(engine: Engine) -> Short:
    found = engine._resident.model
    assert isinstance(found, Short)
    return found


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("later", [0, 1, 7])
@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("std::bad_alloc"), OutOfMemoryError("CUDA out of memory. Tried …")], ids=str
)
def test_after_oom_the_audio_is_complete_and_the_same(start, where: str, later: int, error: Exception) -> None:
    engine = start()
    planned = engine.submit(ask(LONG)).collect()
    model(engine).fail[where] = [None] * later + [error]
    heard = engine.submit(ask(LONG)).collect()
    assert model(engine).failed_at is not None
    assert np.array_equal(heard.samples, planned.samples)
    assert (heard.summary.finish_reason, heard.summary.frames) == ("stop", planned.summary.frames)
    assert model(engine).open == 0


@pytest.mark.parametrize("where", WHERE)
def test_oom_in_one_sequence_is_retried(start, where: str) -> None:
    """How families report a graph that could not allocate: a SequenceError."""

    class Graphs(Short):
        short = False

        def prefill(self, started: list[Sequence]) -> None:
            self._run_out("prefill", started)
            super().prefill(started)

        def step(self, batch: list[Sequence]) -> list[Frame]:
            self._run_out("step", batch)
            return super().step(batch)

        def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
            self._run_out("decode", [job.sequence for job in jobs])
            return super().decode(jobs)

        def _run_out(self, at: str, sequences: list[Sequence]) -> None:
            if at != where or not self.short:
                return
            self.short = False
            try:
                raise RuntimeError("Failed to allocate memory for requested buffer of size 1048576")
            except RuntimeError as error:
                graph = GraphError(f"slow.onnx: {error}")
                graph.__cause__ = error
                raise SequenceError(sequences[-1], graph) from graph

    engine = start(Graphs)
    planned = engine.submit(ask(LONG)).collect()
    model(engine).short = True
    heard = engine.submit(ask(LONG)).collect()
    assert not model(engine).short
    assert np.array_equal(heard.samples, planned.samples)
    assert model(engine).open == 0


def test_oom_after_the_last_audio_ends_the_request(start) -> None:
    class Sticky(Short):
        short = False

        def release(self, sequence: Sequence) -> None:
            super().release(sequence)
            if self.short:
                self.short = False
                raise MemoryError

    engine = start(Sticky)
    model(engine).short = True
    with pytest.raises(OutOfMemory):
        engine.submit(ask(timeout_s=5.0)).collect()
    assert engine.submit(ask()).collect().duration_s > 0


@pytest.mark.parametrize("where", WHERE)
def test_audio_already_sent_is_not_sent_again(start, where: str) -> None:
    engine = start(first_frames=1, chunk_frames=2, buffer_s=0.2)
    planned = engine.submit(ask(LONG)).collect().samples
    stream = engine.submit(ask(LONG))
    pieces = [next(stream).samples for _ in range(3)]
    model(engine).fail[where] = [MemoryError()]
    pieces += [chunk.samples for chunk in stream]
    assert model(engine).failed_at is not None
    assert np.array_equal(np.concatenate(pieces), planned)


def test_frames_and_timestamps_are_sent_once(start) -> None:
    engine = start(first_frames=1, chunk_frames=2)

    def chunks() -> list:
        return list(engine.submit(ask(LONG, keep_frames=True)))

    planned = chunks()
    model(engine).fail["step"] = [None] * 20 + [MemoryError()]
    again = chunks()
    assert model(engine).failed_at is not None
    for found in (planned, again):
        assert "".join(chunk.text for chunk in found).split() == LONG.split()

    def codes(found: list) -> list:
        return [frame.tolist() for chunk in found for frame in chunk.frames]

    assert codes(again) == codes(planned)


def test_running_sequences_are_retried_one_at_a_time(start) -> None:
    engine = start()
    texts = [f"Number {n}. {LONG}" for n in range(6)]
    planned = [engine.submit(ask(text)).collect().samples for text in texts]
    model(engine).fail["step"] = [None] * 30 + [MemoryError()]
    model(engine).sizes.clear()
    streams = [engine.submit(ask(text)) for text in texts]
    for stream, samples in zip(streams, planned, strict=True):
        assert np.array_equal(stream.collect().samples, samples)
    sizes, failed_at = model(engine).sizes, model(engine).failed_at
    assert failed_at is not None
    assert max(sizes[:failed_at]) == 4
    assert set(sizes[failed_at : failed_at + 50]) == {1}, "alone while it is spoken again"
    assert sizes[-1] <= 4
    assert max(sizes[failed_at + 50 :]) > 2, "side by side again afterwards"


def test_a_second_oom_is_reported(start) -> None:
    engine = start()
    model(engine).fail["step"] = [MemoryError(), MemoryError()]
    with pytest.raises(OutOfMemory, match="memory ran out, also when retried alone; send a shorter text"):
        engine.submit(ask(LONG)).collect()
    assert engine.submit(ask()).collect().duration_s > 0
    assert (engine.health().running, model(engine).open) == (0, 0)


def test_a_second_oom_ends_only_the_request_being_retried(start) -> None:
    engine = start()
    texts = [f"Number {n}. {LONG}" for n in range(4)]
    planned = [engine.submit(ask(text)).collect().samples for text in texts]
    model(engine).fail["step"] = [None] * 30 + [MemoryError()] + [None] * 10 + [MemoryError()]
    streams, ended = [engine.submit(ask(text)) for text in texts], 0
    for stream, samples in zip(streams, planned, strict=True):
        try:
            assert np.array_equal(stream.collect().samples, samples)
        except OutOfMemory:
            ended += 1
    assert ended == 1
    assert (engine.health().running, model(engine).open) == (0, 0)


def test_other_failures_are_not_retried(start) -> None:
    engine = start()
    model(engine).fail["step"] = [RuntimeError("a wire has come loose")]
    with pytest.raises(ModelFailure):
        engine.submit(ask(LONG)).collect()


def test_oom_degrades_the_engine(start, caplog: pytest.LogCaptureFixture) -> None:
    engine = start(adapt=True)
    model(engine).fail["step"] = [MemoryError()]
    engine.submit(ask(LONG)).collect()
    pressure = engine.health().pressure
    assert pressure.steps == ("slots",), "the caches are too small to matter"
    assert "degradation levels: slots (memory ran out in the middle of a step)" in caplog.text


def test_oom_while_encoding_a_reference_is_retried(start) -> None:
    engine = start()
    reference = Reference(pcm=np.zeros(16_000, np.float32).tobytes(), sample_rate=16_000)
    model(engine).fail["prepare"] = [MemoryError()]
    assert engine.submit(ask(reference=reference)).collect().duration_s > 0
    model(engine).fail["prepare"] = [MemoryError(), MemoryError()]
    with pytest.raises(OutOfMemory):
        engine.submit(ask(reference=reference)).collect()


def test_repeated_oom_leaks_nothing(start) -> None:
    engine = start()
    planned = engine.submit(ask()).collect().samples
    for _ in range(15):
        model(engine).fail["step"] = [None, MemoryError()]
        assert np.array_equal(engine.submit(ask()).collect().samples, planned)
    assert (engine.health().running, engine.health().waiting, model(engine).open) == (0, 0, 0)


# How it is recognised


def test_an_oversized_array_is_recognised() -> None:
    with pytest.raises(MemoryError) as found:
        np.empty(1 << 60, np.uint8)
    assert ran_out(found.value)


def test_an_oversized_graph_is_recognised(tmp_path: Path) -> None:
    shape = helper.make_tensor_value_info("shape", TensorProto.INT64, [1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    node = helper.make_node("ConstantOfShape", ["shape"], ["y"])
    graph = helper.make_graph([node], "huge", [shape], [y])
    path = tmp_path / "huge.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as found:
        session.run(None, {"shape": np.array([1 << 58])})
    assert ran_out(found.value), str(found.value)
    wrapped = ModelFailure("a graph did not run")
    wrapped.__cause__ = found.value
    assert ran_out(wrapped)


def test_an_oversized_tensor_is_recognised() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 58)
    assert ran_out(found.value), str(found.value)


def test_other_errors_are_not_taken_for_oom() -> None:
    assert not ran_out(RuntimeError("shape mismatch"))
    assert not ran_out(ValueError("out of memory lane"))
    loop = RuntimeError("a")
    loop.__cause__ = loop
    assert not ran_out(loop)


# Unloaded when idle, loaded on demand


def test_an_idle_model_is_unloaded_and_loaded_by_the_next_request(start) -> None:
    engine = start(idle_unload_s=0.05)
    first = model(engine)
    planned = engine.submit(ask()).collect().samples
    voices = engine.voices()
    until(lambda: not engine.health().loaded)
    assert first.closed
    health = engine.health()
    assert (health.state, engine.voices()) == ("ready", voices)
    heard = engine.submit(ask()).collect()
    assert np.array_equal(heard.samples, planned)
    until(lambda: not engine.health().loaded)
    reference = Reference(pcm=np.zeros(16_000, np.float32).tobytes(), sample_rate=16_000)
    assert engine.submit(ask(reference=reference)).collect().duration_s > 0


def test_idle_unload_is_off_by_default(start) -> None:
    engine = start()
    assert engine.plan.idle_unload_s == 0
    engine._loop._idle_since -= 1e6
    assert engine.submit(ask()).collect().duration_s > 0
    engine._loop._idle_since -= 1e6
    engine._loop.maintain_model()
    assert engine.health().loaded


def test_a_paused_reader_keeps_the_model_loaded(start) -> None:
    engine = start(idle_unload_s=0.05, buffer_s=0.1)
    stream = engine.submit(ask(LONG))
    next(stream)
    until(lambda: not engine._loop.has_work)
    engine._loop._idle_since -= 1e6
    done = []
    engine.wake(lambda: done.append(engine.health().loaded))
    until(lambda: bool(done))
    assert engine.health().loaded
    assert stream.collect().duration_s > 0


def test_a_failed_load_fails_only_the_waiting_requests(start, monkeypatch) -> None:
    monkeypatch.setattr(loop_module, "_LOAD_RETRY_S", 0.1)
    engine = start(idle_unload_s=0.05)
    load, broken = engine._resident._load, [ModelFailure("the disk is away")]
    engine._resident._load = lambda plan: (_ for _ in ()).throw(broken.pop()) if broken else load(plan)
    until(lambda: not engine.health().loaded)
    with pytest.raises(ModelFailure, match="the disk is away"):
        engine.submit(ask()).collect()
    assert engine.health().state == "ready"
    assert engine.submit(ask()).collect().duration_s > 0
