"""DualAR in the engine: batching, streaming, cloning, caches, guards."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from asking import until
from babble import babble
from benchmarks import random_checkpoint
from conversion import convert_here
from machines import fitted
from plans import TINY_PLAN
from reference import networks
from saywell.engine.engine import Engine
from saywell.engine.launch import decide
from saywell.errors import BadAudio, InvalidRequest, MissingDependency, OutOfMemory, TooLarge, UnknownVoice
from saywell.models.base import find_spec, open_voices
from saywell.models.dual_ar import prompt
from saywell.models.dual_ar.config import Config
from saywell.models.dual_ar.guards import Guard
from saywell.models.dual_ar.model import DualArModel
from saywell.models.dual_ar.onnx import ar_files
from saywell.models.dual_ar.onnx.runtime_codec import CodecEncoder
from saywell.models.dual_ar.sampling import Sampling
from saywell.models.dual_ar.tokenizer import Tokenizer
from saywell.models.loops import LONGEST_PERIOD
from saywell.plan import memory
from saywell.settings import Settings
from saywell.types import Audio, AudioChunk, Frame, Reference, Request, Samples, SamplingParams, Sequence

Start = Callable[..., Engine]
TEXT = "Hello there, how are you today?"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("published")
    random_checkpoint.write(directory, "tiny", 4)
    return directory


@pytest.fixture(scope="module")
def converted(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert_here(published, tmp_path_factory.mktemp("converted") / "tiny", precisions=("fp32", "int8"))


@pytest.fixture
def start(converted: Path, tmp_path: Path) -> Iterator[Start]:
    made: list[Engine] = []

    def _start(**fields: object) -> Engine:
        spec = find_spec(None, converted)
        plan = fitted(replace(TINY_PLAN, data_dir=tmp_path, first_frames=4, chunk_frames=8, **fields), spec)
        plan = replace(plan, kv_length=memory.context(spec, plan.max_frames))
        engine = Engine(spec, plan)
        made.append(engine)
        engine.start()
        return engine

    yield _start
    for engine in made:
        engine.close()


def ask(text: str = TEXT, seed: int = 0, **fields: object) -> Request:
    sampling = SamplingParams(seed=seed, temperature=1.0, top_p=1.0, repetition_penalty=1.2)
    return Request(**{"text": text, "raw": True, "max_frames": 40, "sampling": sampling, **fields})


def frames(chunks: list[AudioChunk]) -> np.ndarray:
    return np.stack([frame for chunk in chunks for frame in chunk.frames], axis=1)


def lively(engine: Engine, count: int) -> list[int]:
    """Seeds whose speech lasts at least 12 frames."""
    lasting = (seed for seed in range(60) if engine.submit(ask(seed=seed)).collect().summary.frames >= 12)
    found = list(itertools.islice(lasting, count))
    assert len(found) == count
    return found


def test_greedy_frames_and_audio_are_those_of_the_reference(published: Path, start: Start) -> None:
    config = Config.read(published)
    tokenizer = Tokenizer.read(published, config)
    model, codec = (networks.published(published / f"{name}.pth") for name in ("model", "codec"))
    greedy, ids = Sampling(temperature=0.0, repetition_penalty=1.0), (tokenizer.semantic_begin_id, tokenizer.im_end_id)
    engine = start(precision="fp32")
    longest = 0
    for text in (TEXT, "One.", "A much longer sentence, to have another prompt.", "Zebra", "Why not?", "Say it again"):
        stream = engine.submit(
            ask(text, sampling=SamplingParams(temperature=0.0, repetition_penalty=1.0, seed=1), keep_frames=True)
        )
        chunks = list(stream)
        columns = prompt.build(tokenizer, config, text)
        wanted = networks.generate(model, config, columns, greedy, 40, begin=ids[0], im_end=ids[1])
        got = frames(chunks)
        np.testing.assert_array_equal(got, wanted)
        longest = max(longest, got.shape[1])
        sound = networks.decode(codec, config.codec, wanted[1:])
        np.testing.assert_allclose(np.concatenate([c.samples for c in chunks]), sound, atol=1e-4)
    assert longest >= 5


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_batched_equals_alone_and_streamed_equals_whole(start: Start, precision: str) -> None:
    engine = start(precision=precision)
    seeds = lively(engine, 8)
    alone = [engine.submit(ask(seed=seed)).collect() for seed in seeds]
    together = [stream.collect() for stream in [engine.submit(ask(seed=seed)) for seed in seeds]]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
    whole = replace(engine.plan, first_frames=64, chunk_frames=64)
    engine.close()
    other_engine = Engine(engine.spec, whole)
    other_engine.start()
    np.testing.assert_array_equal(other_engine.submit(ask(seed=seeds[0])).collect().samples, alone[0].samples)
    other_engine.close()


def test_changing_threads_waits_for_running_requests_and_keeps_the_samples(start: Start) -> None:
    engine = start(precision="int8", max_batch_size=2)
    seeds = lively(engine, 2)
    planned = [engine.submit(ask(seed=seed)).collect().samples for seed in seeds]
    model = engine._resident.model
    step = model.step

    def changing(batch: list[Sequence]) -> list[Frame]:
        engine._loop.adapt(replace(engine.plan, threads=2))
        return step(batch)

    model.step = changing
    streams = [engine.submit(ask(seed=seed)) for seed in seeds]
    for stream, samples in zip(streams, planned, strict=True):
        np.testing.assert_array_equal(stream.collect().samples, samples)
    until(lambda: engine._resident.loaded and engine._resident.model is not model)
    session = engine._resident.model._ar._slow.graph._session
    assert session.get_session_options().intra_op_num_threads == 2
    np.testing.assert_array_equal(engine.submit(ask(seed=seeds[0])).collect().samples, planned[0])


def test_reload_frees_the_old_graphs_first(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start(precision="int8")
    model: DualArModel = engine._resident.model
    parts, seen = [weakref.ref(part) for part in (model._ar._slow.graph, model._ar._fast, model._codec)], []
    del model
    load = engine._resident._load
    monkeypatch.setattr(engine._resident, "_load", lambda plan: (seen.extend(part() for part in parts), load(plan))[1])
    engine.wake(lambda: engine._loop.adapt(replace(engine.plan, threads=2)))
    until(lambda: bool(seen))
    assert seen == [None] * len(parts)
    assert engine.submit(ask()).collect().samples.size


def test_all_caches_are_cleared_and_limited(start: Start) -> None:
    engine = start(precision="fp32")
    model: DualArModel = engine._resident.model

    def say(*seeds: int) -> None:
        for seed in seeds:
            recording = babble(2.0, 22_050, seed)
            reference = Reference(pcm=recording.tobytes(), sample_rate=22_050, transcript="What is said in it.")
            engine.submit(ask(reference=reference)).collect()

    def kept() -> tuple[int, int]:
        return len(model._prefixes._entries), len(model._voices._memory._entries)

    say(1, 2)
    assert kept() == (3, 2), "both references, and the default voice"
    engine.clear_caches()
    assert kept() == (0, 0)
    say(1, 2)
    model.adapt(replace(engine.plan, cache_entries=1))
    assert kept() == (1, 1)
    say(3)
    assert kept() == (1, 1)


def test_reference_changes_the_voice_and_is_encoded_once(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start(precision="fp32")
    recording = babble(2.0, 22_050, 5)
    reference = Reference(pcm=recording.tobytes(), sample_rate=22_050, transcript="What is said in it.")
    encoded: list[Reference] = []
    store = engine._resident.model._voices
    make = store._make
    monkeypatch.setattr(store, "_make", lambda each: (encoded.append(each), make(each))[1])

    def say(**fields: object) -> Audio:
        return engine.submit(ask(**fields)).collect()

    plain, cloned, again = say(), say(reference=reference), say(reference=reference)
    assert not np.array_equal(plain.samples, cloned.samples)
    np.testing.assert_array_equal(cloned.samples, again.samples)
    assert len(encoded) == 1
    other = say(reference=replace(reference, transcript="Something else."))
    assert not np.array_equal(other.samples, cloned.samples)


def test_reference_is_encoded_once_a_request_outside_the_engine_thread(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without caches: no entry in memory, and a file in place of the cache's directory."""
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "cache").write_text("in the way")
    engine, encoded = start(precision="fp32", cache_entries=0), []
    encode = CodecEncoder.encode

    def counted(self: CodecEncoder, audio: Samples) -> Any:
        encoded.append(threading.current_thread())
        return encode(self, audio)

    monkeypatch.setattr(CodecEncoder, "encode", counted)
    recordings = [Reference(pcm=babble(2.0, 22_050, seed).tobytes(), sample_rate=22_050) for seed in range(2)]
    streams = [engine.submit(ask(reference=recording)) for recording in recordings]
    assert all(stream.collect().summary.frames for stream in streams)
    assert len(encoded) == len(recordings)
    assert engine._thread not in encoded


def test_saved_voice_equals_its_reference(start: Start, converted: Path, tmp_path: Path) -> None:
    recording = babble(2.0, 22_050, 5)
    reference = Reference(pcm=recording.tobytes(), sample_rate=22_050, transcript="What is said in it.")
    plan = replace(TINY_PLAN, data_dir=tmp_path)
    store = open_voices(find_spec(None, converted), plan)
    store.save("anna", store.encode(reference))
    engine = start(precision="fp32")
    assert [(voice.id, voice.sample_rate, voice.language) for voice in engine.voices()] == [
        ("default", 44_100, "und"),
        ("anna", 44_100, "und"),
    ]
    saved, cloned = (engine.submit(ask(**fields)).collect() for fields in ({"voice": "ANNA"}, {"reference": reference}))
    np.testing.assert_array_equal(saved.samples, cloned.samples)
    assert len(engine._resident.model._prefixes._entries) == 2, "the default voice, and one prefix for both"
    store.delete("anna")
    with pytest.raises(UnknownVoice):
        engine.submit(ask(voice="anna")).collect()


def test_silent_reference_is_rejected(start: Start) -> None:
    engine = start(precision="fp32")
    silent = Reference(pcm=np.zeros(44_100, np.float32).tobytes(), sample_rate=22_050)
    with pytest.raises(InvalidRequest):
        engine.submit(ask(reference=silent)).collect()
    assert engine.submit(ask()).collect().summary.frames


def test_unsupported_speed_and_voice_are_rejected(start: Start) -> None:
    engine = start(precision="fp32")
    with pytest.raises(InvalidRequest, match="own speed"):
        engine.submit(ask(speed=1.5))
    with pytest.raises(UnknownVoice):
        engine.submit(ask(voice="nobody"))


def test_text_beyond_the_context_is_rejected_and_others_continue(start: Start) -> None:
    engine = start(precision="fp32", max_text_chars=100_000)
    good, long = engine.submit(ask()), engine.submit(ask("word " * 20_000))
    with pytest.raises(InvalidRequest, match="positions"):
        long.collect()
    assert good.collect().summary.frames


def test_prompt_beyond_the_planned_length_is_reported_as_too_large(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, text = find_spec(None, converted), "a " * 130
    plan = replace(
        TINY_PLAN,
        data_dir=tmp_path,
        max_batch_size=1,
        max_parallel_chunks=1,
        first_frames=4,
        kv_length=len(text) // 2 + 24,
    )
    engine = Engine(spec, fitted(plan, spec))
    engine.start()

    def ends() -> set[str]:
        found = set()
        for seed in range(12):
            try:
                found.add(engine.submit(ask(text, seed=seed, max_frames=None)).collect().summary.finish_reason)
            except (BadAudio, TooLarge) as error:
                found.add(error.code)
        return found

    assert ends() == {"stop", "bad_audio"}
    monkeypatch.setattr(memory, "PROMPT_TOKENS", 100)
    monkeypatch.setattr(memory, "PROMPT_SECONDS", 0)
    assert ends() == {"stop", "too_large"}
    engine.close()


def test_guard_detects_loops_and_runaways() -> None:
    rate = 21.5
    draw = np.random.default_rng(0)
    lively = Guard("x" * 500, rate)
    assert all(lively.add(draw.integers(0, 1024, 10)) is None for _ in range(400))
    for period in (1, 7, LONGEST_PERIOD):
        cycle = draw.integers(0, 1024, (period, 10))
        looping = Guard("x" * 500, rate)
        ends = [looping.add(cycle[n % period]) for n in range(200)]
        assert "loop" in ends
        assert ends.index("loop") <= 4 * LONGEST_PERIOD
    runaway = Guard("Hi.", rate)
    ends = [runaway.add(draw.integers(0, 1024, 10)) for _ in range(400)]
    assert ends.index("length") == runaway.limit - 1 < 200


def test_worker_python_may_have_an_older_runtime(converted: Path) -> None:
    here, there = (
        decide(Settings(model_path=converted, precision="int8", worker_python=python))
        for python in (None, Path("/opt/other/bin/python"))
    )
    assert [each.plan.options["kv_cache"] for each in (here, there)] == ["int8", "fp32"]
    kept = [
        memory.kv_bytes(each.spec, memory.variant_of(each.plan, each.spec), each.plan.max_frames)
        for each in (here, there)
    ]
    assert kept[1] == 4 * kept[0]


def test_out_of_memory_in_prefill_leaks_no_row(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start(max_batch_size=2)
    codec = engine._resident.model._codec
    begin, short = codec.start, [True] * 6
    monkeypatch.setattr(codec, "start", lambda: begin() if not short or not short.pop() else raise_(MemoryError()))
    for _ in range(3):
        with pytest.raises(OutOfMemory):
            engine.submit(ask()).collect()
    assert not short
    several = [engine.submit(ask(seed=seed)) for seed in range(2)]
    assert all(stream.collect().duration_s > 0 for stream in several)


def raise_(error: Exception) -> Any:
    raise error


def test_too_old_runtime_is_reported(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ar_files, "version", lambda _: "1.23.2")
    with pytest.raises(MissingDependency, match=r"needs ONNX Runtime 1\.24 or newer and 1\.23\.2 is installed"):
        start()
