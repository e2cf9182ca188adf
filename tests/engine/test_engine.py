"""The engine with a tiny autoregressive model: scheduling never changes the audio; nothing leaks."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import psutil
import pytest

from asking import LONG, ask, until
from saywell.engine.admission import Admission
from saywell.engine.engine import Engine
from saywell.engine.stream import Stream, Window
from saywell.errors import (
    BadAudio,
    Cancelled,
    DeadlineExceeded,
    EngineClosed,
    InvalidRequest,
    InvalidText,
    ModelFailure,
    SaywellError,
    TooLarge,
    TooManyRequests,
    UnknownVoice,
)
from saywell.models.base import DecodeJob, SequenceError
from saywell.plan.plan import Plan
from saywell.runtimes.onnx import GraphError
from saywell.text.normalise import Spoken, speak
from saywell.types import Frame, ModelSpec, Request, Samples, SamplingParams, Sequence, Timestamp
from tiny_ar import family as tiny_ar

Start = Callable[..., Engine]


# Sound


def test_streamed_audio_equals_whole_audio_for_any_batch_sizes(tiny_engine: Start) -> None:
    whole = tiny_engine(first_frames=10_000, chunk_frames=10_000).submit(ask(LONG)).collect()
    for first, rest in [(1, 1), (1, 7), (3, 3), (5, 64)]:
        streamed = tiny_engine(first_frames=first, chunk_frames=rest).submit(ask(LONG)).collect()
        np.testing.assert_array_equal(streamed.samples, whole.samples)


def test_decode_batches_double(tiny_engine: Start) -> None:
    engine = tiny_engine(first_frames=2, chunk_frames=16)
    stream = engine.submit(ask(LONG, raw=True, max_frames=50, keep_frames=True))
    assert [len(chunk.frames) for chunk in stream if chunk.frames] == [2, 2, 4, 8, 16, 16, 2]


def test_batched_equals_alone(tiny_engine: Start) -> None:
    texts = [f"This is the text with number {n}, and it is {'very ' * n}long." for n in range(12)]
    engine = tiny_engine()
    voices = itertools.cycle(voice.id for voice in tiny_ar.VOICES)
    requests = [ask(text, seed=n, voice=next(voices)) for n, text in enumerate(texts)]
    alone = [engine.submit(ask(r.text, seed=n, voice=r.voice)).collect() for n, r in enumerate(requests)]
    together = [stream.collect() for stream in [engine.submit(request) for request in requests]]
    assert len({audio.samples.tobytes() for audio in alone}) == len(texts), "the texts must sound different"
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)


def test_parallel_sentences_sound_like_sequential_ones(tiny_engine: Start) -> None:
    one_by_one = tiny_engine(max_batch_size=1, max_parallel_chunks=1).submit(ask(LONG)).collect()
    side_by_side = tiny_engine(max_batch_size=4, max_parallel_chunks=4).submit(ask(LONG)).collect()
    np.testing.assert_array_equal(one_by_one.samples, side_by_side.samples)


def test_the_seed_determines_the_audio(tiny_engine: Start) -> None:
    engine = tiny_engine()
    first, again, other = (engine.submit(ask(seed=seed)).collect().samples for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_drawn_seed_is_reported_and_repeats_the_audio(tiny_engine: Start) -> None:
    engine = tiny_engine()
    drawn = engine.submit(Request(text="Surprise me.")).collect()
    again = engine.submit(ask("Surprise me.", seed=drawn.summary.seed)).collect()
    np.testing.assert_array_equal(drawn.samples, again.samples)


def test_chunks_come_in_text_order_and_carry_the_text(tiny_engine: Start) -> None:
    chunks = list(tiny_engine().submit(ask(LONG)))
    indices = [chunk.index for chunk in chunks]
    assert indices == sorted(indices)
    assert "".join(chunk.text for chunk in chunks) == LONG
    assert sum(chunk.final for chunk in chunks) == max(indices) + 1 > 4


def test_first_audio_comes_early(tiny_engine: Start) -> None:
    stream = tiny_engine(buffer_s=0.2).submit(ask(LONG * 4))
    first = next(stream)
    assert len(first.samples) <= 2 * tiny_ar.SAMPLES
    stream.close()


@pytest.mark.anyio
async def test_async_reading_equals_sync(tiny_engine: Start) -> None:
    engine = tiny_engine()
    sync = engine.submit(ask(LONG)).collect()
    assert np.array_equal((await engine.submit(ask(LONG)).acollect()).samples, sync.samples)


def test_summary_states_what_happened(tiny_engine: Start) -> None:
    audio = tiny_engine().submit(ask(LONG)).collect()
    summary = audio.summary
    assert summary.finish_reason == "stop"
    assert summary.sequences > 4
    assert summary.audio_s == pytest.approx(audio.duration_s)
    assert 0 <= summary.queued_s <= summary.first_audio_s <= summary.total_s
    assert summary.rtf == pytest.approx(summary.total_s / summary.audio_s)


class Timed(tiny_ar.TinyModel):
    """Reports the second half of each sequence as one word."""

    def prefill(self, started: list[Sequence]) -> None:
        super().prefill(started)
        for sequence in started:
            sequence.timestamps = (Timestamp(text=sequence.text, start_s=0.5, end_s=1.0, phones=(("x", 0.5, 0.75),)),)


def test_timestamps_are_relative_to_the_start_of_the_audio(tiny_engine: Start) -> None:
    engine = tiny_engine(Timed)
    engine._admission = Admission(replace(engine.spec, timestamps=True), engine.plan, engine.voices())
    begins, read_s = {}, 0.0
    chunks = list(engine.submit(ask(LONG, timestamps=True)))
    for chunk in chunks:
        begins.setdefault(chunk.index, read_s)
        read_s += len(chunk.samples) / chunk.sample_rate
    words = [(chunk.index, word) for chunk in chunks for word in chunk.timestamps]
    assert [index for index, _ in words] == sorted(begins)
    for index, word in words:
        assert word.end_s - word.start_s == pytest.approx(0.5)
        assert begins[index] <= word.start_s <= begins[index] + 0.5  # minus the leading silence that was cut
        assert word.phones[0][1:] == pytest.approx((word.start_s, word.start_s + 0.25))


def test_timestamps_are_refused_for_a_model_without_them(tiny_engine: Start) -> None:
    with pytest.raises(InvalidRequest, match="use a model that has them"):
        tiny_engine().submit(ask(timestamps=True))


def test_raw_text_is_one_unchanged_sequence(tiny_engine: Start) -> None:
    seen: list[str] = []

    class Listening(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            seen.extend(sequence.text for sequence in started)
            super().prefill(started)

    tiny_engine(Listening).submit(ask("Dr. No owes $5. Really.", raw=True)).collect()
    assert seen[-1:] == ["Dr. No owes $5. Really."]


# Slots, fairness, cancel, deadline


def test_a_short_request_overtakes_a_long_one(tiny_engine: Start) -> None:
    engine = tiny_engine(max_batch_size=2, max_parallel_chunks=2)
    long, short = engine.submit(ask(LONG * 5)), engine.submit(ask("Quick."))
    short.collect()
    assert long.summary is None
    assert engine.health().waiting + engine.health().running > 0
    long.close()


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_first_chunks_of_new_requests_run_before_later_chunks_of_old_ones(tiny_engine: Start, slots: int) -> None:
    """With a long text in every slot and twice as many waiting, the next free slot goes to the new request."""
    order: list[str] = []

    class Listening(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            order.extend(sequence.request.id for sequence in started)
            super().prefill(started)

    engine = tiny_engine(Listening, max_batch_size=slots, max_parallel_chunks=slots)
    long = [engine.submit(ask(LONG * 5, seed=n)) for n in range(3 * slots)]
    for stream in long[:slots]:
        next(stream)
    until(lambda: len(set(order)) > 3 * slots, 20.0)  # every long text has started: none counts as new
    before = len(order)
    short = engine.submit(ask("Quick."))
    short.collect()
    assert order[before:].index(short.request.id) <= slots
    for stream in long:
        stream.close()


def test_streams_far_ahead_of_their_readers_do_not_count_in_admission(tiny_engine: Start) -> None:
    """More streams than places are admitted while none of them is read, since they need no work."""
    engine = tiny_engine(max_batch_size=2, max_queue=2, buffer_s=2.0)
    unread = []
    for n in range(12):
        unread.append(engine.submit(ask(LONG * 3, seed=n)))
        until(lambda: not unread[-1].window.wants_more(), 20.0)
    assert engine.submit(ask("Quick.")).collect().duration_s > 0
    until(lambda: engine.health().running == 0, 20.0)  # none of them holds a slot
    assert unread[0].collect().duration_s > 60
    for stream in unread:
        stream.close()


def test_places_are_reserved_for_requests_without_audio(tiny_engine: Start) -> None:
    engine = tiny_engine(max_batch_size=1, max_queue=1, buffer_s=1_000.0, max_text_chars=20_000)
    long = [engine.submit(ask(LONG * 20, seed=n)) for n in range(2)]
    with pytest.raises(TooManyRequests):  # both places are taken, and the second request has no audio yet
        engine.submit(ask("Quick."))
    for stream in long:
        next(stream)
    assert engine.submit(ask("Quick.")).collect().duration_s > 0
    for stream in long:
        stream.close()


def test_priority_goes_first(tiny_engine: Start) -> None:
    order: list[str] = []

    class Listening(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            order.extend(sequence.request.id for sequence in started)
            super().prefill(started)

    engine = tiny_engine(Listening, max_batch_size=1)
    blocker = engine.submit(ask("One. Two. Three. " * 10))
    next(blocker)
    low = engine.submit(ask("Low.", priority=-1))
    high = engine.submit(ask("High.", priority=5))
    low.collect(), high.collect(), blocker.close()
    assert order.index(high.request.id) < order.index(low.request.id)


def test_close_frees_the_slots_at_once(tiny_engine: Start) -> None:
    engine = tiny_engine()
    streams = [engine.submit(ask(LONG * 5)) for _ in range(4)]
    for stream in streams:
        next(stream)
    closed = time.monotonic()
    for stream in streams:
        stream.close()
    until(lambda: engine.health().running == 0 and engine.health().waiting == 0)
    assert time.monotonic() - closed < 2.0
    with pytest.raises(Cancelled):
        next(streams[0])


def test_hundreds_of_cancelled_streams_leak_nothing(tiny_engine: Start) -> None:
    model: list[tiny_ar.TinyModel] = []

    class Kept(tiny_ar.TinyModel):
        def __init__(self, *args: object) -> None:
            super().__init__(*args)
            model.append(self)

    engine = tiny_engine(Kept, max_queue=100)
    process = psutil.Process()
    golden = engine.submit(ask()).collect().samples
    gc.collect()  # garbage of earlier tests must not be counted
    before = threading.active_count(), process.num_fds(), process.children()
    draw = np.random.default_rng(3)
    for turn in range(300):
        stream = engine.submit(ask(LONG, seed=turn))
        for _ in range(int(draw.integers(0, 3))):
            next(stream)
        stream.close()
    until(lambda: engine.health().running == engine.health().waiting == 0)
    gc.collect()
    assert model[0].open == 0
    assert (threading.active_count(), process.num_fds(), process.children()) == before
    assert not [thing for thing in gc.get_objects() if type(thing) is Stream and not thing._closed]
    np.testing.assert_array_equal(engine.submit(ask()).collect().samples, golden)


def test_deadline_stops_the_work(tiny_engine: Start) -> None:
    engine = tiny_engine(_slow(0.02))
    started = time.monotonic()
    with pytest.raises(DeadlineExceeded):
        engine.submit(ask(LONG, timeout_s=0.2)).collect()
    assert time.monotonic() - started < 2.0
    until(lambda: engine.health().running == 0, 2.0)


def test_deadline_is_kept_while_waiting_for_a_slot(tiny_engine: Start) -> None:
    engine = tiny_engine(_slow(0.01), max_batch_size=1)
    blocker = engine.submit(ask(LONG))
    next(blocker)
    with pytest.raises(DeadlineExceeded):
        engine.submit(ask(LONG, timeout_s=0.1, priority=-5)).collect()
    blocker.close()


def test_a_slow_reader_pauses_only_itself(tiny_engine: Start) -> None:
    engine = tiny_engine(buffer_s=0.5)
    slow = engine.submit(ask(LONG))
    next(slow)
    other = engine.submit(ask("Somebody else."))
    assert other.collect().duration_s > 0.2
    held = sum(len(c.samples) for queue in slow._ready.values() for c in queue) / tiny_ar.RATE
    # Three windows, plus the last sequence started: no sentence here is longer than 8 s.
    assert held <= 3 * 0.5 + 8.0
    assert slow.collect().summary.finish_reason == "stop"


def test_the_deadline_limits_synthesis_and_not_delivery(tiny_engine: Start) -> None:
    engine = tiny_engine(timeout_s=0.4)
    stream = engine.submit(ask(LONG))
    until(
        lambda: engine.health().running == 0 and not engine._loop.in_flight, 5.0
    )  # synthesis takes a fraction of that
    time.sleep(0.5)
    assert stream.collect().summary.finish_reason == "stop"


@pytest.mark.anyio
async def test_waits_add_up_to_the_deadline(tiny_engine: Start) -> None:
    engine = tiny_engine(_slow(0.03), first_frames=1, chunk_frames=1)
    stream, began = engine.submit(ask(LONG, timeout_s=0.5)), time.monotonic()
    for _ in range(3):
        await anext(stream)
    with pytest.raises(DeadlineExceeded):
        await stream.acollect()
    assert 0.5 <= time.monotonic() - began < 2.5


def test_later_sentences_do_not_delay_the_one_being_read(tiny_engine: Start) -> None:
    """Later sentences are complete while the one being read is slow."""

    class Late(tiny_ar.TinyModel):
        goes_on = 0.0

        def step(self, batch: list[Sequence]) -> list[Frame]:
            if not self.goes_on and any(sequence.index > 0 and sequence.frames > 20 for sequence in batch):
                self.goes_on = time.monotonic() + 0.6
            held = self.goes_on > time.monotonic()
            able = [sequence for sequence in batch if sequence.index > 0 or not held]
            if not able:
                time.sleep(0.005)
            return super().step(able)

    engine = tiny_engine(Late, first_frames=1)
    assert engine.submit(ask(LONG)).collect().summary.sequences > 3
    assert engine._resident.model.goes_on


class InParts(tiny_ar.TinyModel):
    """Needs nine calls for each job; `order` has what was called, with the number of sequences."""

    def __init__(self, spec: ModelSpec, plan: Plan) -> None:
        super().__init__(spec, plan)
        self.calls: Counter[int] = Counter()
        self.order: list[tuple[str, int]] = []

    def step(self, batch: list[Sequence]) -> list[Frame]:
        self.order.append(("step", len(batch)))
        return super().step(batch)

    def decode(self, jobs: list[DecodeJob]) -> list[Samples | None]:
        self.order.append(("decode", len(jobs)))
        found: list[Samples | None] = []
        for job in jobs:
            self.calls[id(job)] += 1
            ready = self.calls[id(job)] % 9 == 0
            found += super().decode([job]) if ready else [None]
        return found


@pytest.mark.parametrize("frames", [(1, 7), (2, 16), (10_000, 10_000)])
def test_decoding_in_parts_changes_no_sample_and_lets_others_go_on(tiny_engine: Start, frames: tuple[int, int]) -> None:
    plain = tiny_engine().submit(ask(LONG)).collect()
    engine = tiny_engine(InParts, first_frames=frames[0], chunk_frames=frames[1])
    streams = [engine.submit(ask(LONG)) for _ in range(3)]
    for stream in streams:
        np.testing.assert_array_equal(stream.collect().samples, plain.samples)
    order = engine._resident.model.order
    assert ("decode", 1) in order
    between = [order[n + 1][0] for n, (what, _) in enumerate(order[:-1]) if what == "decode"]
    assert "step" in between
    assert "decode" in between, "the last jobs are finished although nothing is left to step"


def test_a_request_is_cancelled_between_the_parts_of_a_job(tiny_engine: Start) -> None:
    class Endless(InParts):
        def decode(self, jobs: list[DecodeJob]) -> list[Samples | None]:
            if all("Endless" not in job.sequence.text for job in jobs):
                return super().decode(jobs)
            self.order.append(("endless", len(jobs)))
            time.sleep(0.01)
            return [None for _ in jobs]

    engine = tiny_engine(Endless, first_frames=1)
    stream = engine.submit(ask("Endless."))
    until(lambda: ("endless", 1) in engine._resident.model.order)
    began = time.monotonic()
    stream.close()
    until(lambda: engine.health().running == 0)
    assert time.monotonic() - began < 1.0


def _slow(seconds: float) -> type[tiny_ar.TinyModel]:
    class Slow(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            time.sleep(seconds)
            return super().step(batch)

    return Slow


# What goes wrong


def test_invalid_requests_are_refused_before_any_work(tiny_engine: Start) -> None:
    engine = tiny_engine(max_queue=1, max_batch_size=1, max_text_chars=1_000, buffer_s=0.1)
    for request, error in [
        (ask("   "), InvalidText),
        (ask("x" * 1_001), TooLarge),
        (ask(voice="nobody"), UnknownVoice),
        (ask(max_frames=100_000), InvalidRequest),
    ]:
        with pytest.raises(error):
            engine.submit(request)
    held = [engine.submit(ask(LONG[:900])) for _ in range(2)]
    with pytest.raises(TooManyRequests) as refused:
        engine.submit(ask())
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1
    for stream in held:
        stream.close()


@pytest.mark.parametrize(
    ("made", "field", "value"),
    [
        (SamplingParams, "seed", -1), (SamplingParams, "seed", 2**63), (SamplingParams, "seed", 1.5),
        (SamplingParams, "seed", "3"), (SamplingParams, "temperature", float("nan")), (SamplingParams, "top_p", 0.0),
        (SamplingParams, "repetition_penalty", 2.1), (ask, "max_frames", 0), (ask, "max_frames", 7.5),
        (ask, "speed", "fast"), (ask, "timeout_s", 0), (ask, "priority", 11),
    ],
)  # fmt: skip
def test_numbers_are_checked_when_a_request_is_created(made: Callable[..., object], field: str, value: object) -> None:
    with pytest.raises(InvalidRequest, match=field) as caught:
        made(**{field: value})
    assert caught.value.param == field


def test_an_id_in_flight_is_refused(tiny_engine: Start) -> None:
    engine, request = tiny_engine(), ask(LONG)
    first = engine.submit(request)
    with pytest.raises(InvalidRequest, match="not over yet") as caught:
        engine.submit(request)
    assert caught.value.param == "id"
    assert first.collect().samples.size == engine.submit(request).collect().samples.size
    engine.submit(request).close()
    assert engine.submit(request).collect().duration_s > 0


def test_an_id_is_free_as_soon_as_its_request_is_cancelled(tiny_engine: Start) -> None:
    """A request submitted, cancelled and submitted again during one step is not taken for the cancelled one."""
    engine, request, busy = tiny_engine(), ask(LONG), threading.Event()
    engine.wake(lambda: busy.wait(10) and None)
    engine.submit(request).close()
    second = engine.submit(request)
    busy.set()
    assert second.collect().duration_s > 0
    assert not engine._loop.in_flight


def test_one_bad_sequence_fails_its_own_request_only(tiny_engine: Start) -> None:
    engine = tiny_engine()
    golden = engine.submit(ask(LONG)).collect()
    good = engine.submit(ask(LONG))
    bad = engine.submit(ask(f"All is well. {LONG} And a {tiny_ar.UNSPEAKABLE} here."))
    with pytest.raises(InvalidText, match="zyzzyva"):
        bad.collect()
    np.testing.assert_array_equal(good.collect().samples, golden.samples)


@pytest.mark.parametrize("where", ["step", "decode"])
def test_a_sequence_failing_mid_way_does_not_affect_others(tiny_engine: Start, where: str) -> None:
    class Picky(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            self._refuse("step", batch)
            return super().step(batch)

        def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
            self._refuse("decode", [job.sequence for job in jobs])
            return super().decode(jobs)

        def _refuse(self, at: str, sequences: list[Sequence]) -> None:
            for sequence in sequences:
                if at == where and "refused" in sequence.text:
                    raise SequenceError(sequence, ModelFailure("no"))

    engine = tiny_engine(Picky, max_batch_size=6)
    golden = engine.submit(ask(LONG)).collect()
    streams = [engine.submit(ask(text)) for text in (LONG, "This is refused.", "And refused it is.", LONG)]
    for stream in streams[1:3]:
        with pytest.raises(ModelFailure, match="no"):
            stream.collect()
    for stream in (streams[0], streams[3]):
        np.testing.assert_array_equal(stream.collect().samples, golden.samples)


@pytest.mark.parametrize("where", ["prefill", "step", "decode"])
def test_a_failing_step_fails_its_requests_and_the_engine_continues(tiny_engine: Start, where: str) -> None:
    broken = threading.Event()

    def fail(self: tiny_ar.TinyModel, *args: object) -> object:
        if broken.is_set():
            raise RuntimeError("out of cheese")
        return getattr(tiny_ar.TinyModel, where)(self, *args)

    engine = tiny_engine(type("Failing", (tiny_ar.TinyModel,), {where: fail}))
    golden = engine.submit(ask()).collect().samples
    broken.set()
    with pytest.raises(ModelFailure, match="RuntimeError") as caught:
        engine.submit(ask(LONG)).collect()
    assert "cheese" not in caught.value.message
    broken.clear()
    until(lambda: engine.health().running == 0)
    np.testing.assert_array_equal(engine.submit(ask()).collect().samples, golden)


@pytest.mark.parametrize(
    "poison",
    [np.nan, np.inf, -np.inf, 7.0],
)
def test_bad_audio_is_never_sent(tiny_engine: Start, poison: float) -> None:
    spoil = threading.Event()

    class Spoiled(tiny_ar.TinyModel):
        def decode(self, jobs: list[DecodeJob]) -> list[Samples]:
            sounds = super().decode(jobs)
            if spoil.is_set():
                sounds[-1][-300:] = poison
            return sounds

    engine = tiny_engine(Spoiled)
    golden = engine.submit(ask()).collect().samples
    spoil.set()
    stream = engine.submit(ask(LONG))
    heard = []
    with pytest.raises(BadAudio):
        heard.extend(stream)
    assert all(np.isfinite(chunk.samples).all() and abs(chunk.samples).max() <= 1 for chunk in heard)
    spoil.clear()
    np.testing.assert_array_equal(engine.submit(ask()).collect().samples, golden)


@pytest.mark.parametrize(("bad_draws", "good"), [(1, True), (2, False)])
def test_an_empty_sequence_is_resampled_once(tiny_engine: Start, bad_draws: int, good: bool) -> None:
    left: list[int] = []

    class Moody(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            frames = super().step(batch)
            if left and left[0] and batch[0].frames == 0:
                left[0] -= 1
                return [Frame(batch[0], None, finish="empty")]
            return frames

    engine = tiny_engine(Moody)
    plain = engine.submit(ask()).collect()
    left.append(bad_draws)
    if good:
        again = engine.submit(ask()).collect()
        assert again.duration_s == pytest.approx(plain.duration_s, rel=0.2)
        assert not np.array_equal(again.samples, plain.samples)
    else:
        with pytest.raises(BadAudio, match="empty"):
            engine.submit(ask()).collect()
    until(lambda: engine.health().running == 0)


def test_a_greedy_sequence_is_not_resampled(tiny_engine: Start) -> None:
    prefills: list[int] = []

    class Empty(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            prefills.extend(sequence.index for sequence in started)
            super().prefill(started)

        def step(self, batch: list[Sequence]) -> list[Frame]:
            if batch[0].request.text != "Hello.":
                return super().step(batch)
            return [Frame(batch[0], None, finish="empty")]

    engine = tiny_engine(Empty)
    prefills.clear()
    with pytest.raises(BadAudio, match="empty"):
        engine.submit(Request(text="Hello.", sampling=SamplingParams(temperature=0.0))).collect()
    assert prefills == [0]


def test_a_frame_with_an_error_ends_only_its_request(tiny_engine: Start) -> None:
    class Partly(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            return [
                Frame(frame.sequence, None, error=ModelFailure("not finite")) if bad(frame.sequence) else frame
                for frame in super().step(batch)
            ]

    def bad(sequence: Sequence) -> bool:
        return sequence.frames == 3 and "bad" in sequence.text

    engine = tiny_engine(Partly)
    golden = engine.submit(ask(LONG)).collect()
    good, ill = engine.submit(ask(LONG)), engine.submit(ask("This is a bad one."))
    with pytest.raises(ModelFailure, match="not finite"):
        ill.collect()
    np.testing.assert_array_equal(good.collect().samples, golden.samples)


def test_reaching_the_plans_frame_limit_is_an_error(tiny_engine: Start) -> None:
    with pytest.raises(BadAudio, match="length"):
        tiny_engine(max_frames=9).submit(ask()).collect()


def test_reaching_the_models_own_limit_is_an_error(tiny_engine: Start) -> None:
    class Short(tiny_ar.TinyModel):
        def step(self, batch: list[Sequence]) -> list[Frame]:
            return [
                Frame(frame.sequence, frame.data, "length" if frame.sequence.frames == 5 else frame.finish)
                for frame in super().step(batch)
            ]

    with pytest.raises(BadAudio, match="length"):
        tiny_engine(Short).submit(ask(max_frames=20)).collect()


def test_errors_of_a_family_are_logged_and_not_shown(tiny_engine: Start, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(tiny_ar.TinyModel):
        def prefill(self, started: list[Sequence]) -> None:
            if "graph" in started[0].text:
                raise SequenceError(started[0], GraphError("/srv/models/secret/slow.onnx: Non-zero status code"))
            super().prefill(started)

        def step(self, batch: list[Sequence]) -> list[Frame]:
            if "step" in batch[0].text:
                raise GraphError("/srv/models/secret/slow.onnx: Non-zero status code")
            return super().step(batch)

    engine = tiny_engine(Broken)
    for text in ("A graph.", "A step."):
        caplog.clear()
        with pytest.raises(ModelFailure, match="GraphError") as caught:
            engine.submit(ask(text)).collect()
        assert "secret" not in caught.value.message
        assert "secret" in caplog.text


def test_reaching_the_requests_own_limit_is_reported_as_length(tiny_engine: Start) -> None:
    audio = tiny_engine().submit(ask(max_frames=9)).collect()
    assert (audio.summary.finish_reason, audio.summary.frames) == ("length", 9)


def test_a_failed_load_raises_its_reason() -> None:
    spec = tiny_ar.spec("tiny", None)
    from plans import TINY_PLAN

    def load(_: Plan) -> tiny_ar.TinyModel:
        raise SaywellError("the weights are made of cheese")

    engine = Engine(spec, TINY_PLAN, load)
    with pytest.raises(SaywellError, match="cheese"):
        engine.start()
    assert engine.health().state == "failed"
    with pytest.raises(SaywellError, match="cheese"):
        engine.submit(ask())
    engine.close()


def test_close_drains_then_ends(tiny_engine: Start) -> None:
    engine = tiny_engine()
    expected = engine.submit(ask(LONG)).collect().samples
    stream = engine.submit(ask(LONG))
    closing = threading.Thread(target=engine.close, args=(10.0,))
    closing.start()
    np.testing.assert_array_equal(stream.collect().samples, expected)
    closing.join()
    with pytest.raises(EngineClosed):
        engine.submit(ask())


def test_close_without_drain_fails_all_requests(tiny_engine: Start) -> None:
    engine = tiny_engine(_slow(0.02))
    streams = [engine.submit(ask(LONG)) for _ in range(6)]
    engine.close()
    for stream in streams:
        with pytest.raises(EngineClosed):
            list(stream)


def test_the_window_counts_expected_audio() -> None:
    window = Window(1.0)
    assert not window.begun
    assert window.wants_more(2.9)
    window.put(0.2)
    assert window.begun
    assert not window.wants_more(2.9)
    window.read(0.2)
    assert window.wants_more(2.9)
    window.read(5.0)
    assert not window.wants_more(3.0)


# What may go wrong around the model


def test_a_text_that_cannot_be_prepared_ends_its_own_request(
    tiny_engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(text: str, *args: str, **kwargs: str) -> Spoken:
        if "unforeseen" in text:
            raise RecursionError
        return speak(text, *args, **kwargs)

    monkeypatch.setattr("saywell.engine.request_state.speak", failing)
    engine = tiny_engine(max_batch_size=2)
    for _ in range(5):  # more requests than slots
        other = engine.submit(ask(LONG))
        with pytest.raises(ModelFailure, match="RecursionError"):
            engine.submit(ask("Something unforeseen comes here.")).collect()
        assert other.collect().summary.finish_reason == "stop"
    until(lambda: engine.health().running == 0)


def test_a_text_that_cannot_be_split_ends_its_own_request(tiny_engine: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tiny_engine()
    with monkeypatch.context() as patch:
        patch.setattr("saywell.text.split.Splitter.take", lambda _: 1 / 0)
        with pytest.raises(ModelFailure, match="ZeroDivisionError"):
            engine.submit(ask()).collect()
    assert engine.submit(ask()).collect().duration_s > 0.3
    assert engine.health().waiting == 0


def test_a_failing_release_fails_its_request(tiny_engine: Start) -> None:
    class Sticky(tiny_ar.TinyModel):
        def release(self, sequence: Sequence) -> None:
            super().release(sequence)
            if "stick" in sequence.text:
                raise RuntimeError("stuck")

    engine = tiny_engine(Sticky)
    with pytest.raises(ModelFailure, match="RuntimeError"):
        engine.submit(ask("This will stick.", timeout_s=5.0)).collect()
    assert engine.submit(ask()).collect().duration_s > 0.3


def test_health_is_safe_while_requests_come_and_go(tiny_engine: Start) -> None:
    engine = tiny_engine(max_queue=200)
    wrong: list[BaseException] = []
    over = threading.Event()

    def look() -> None:
        try:
            while not over.is_set():
                engine.health()
        except RuntimeError as error:  # dictionary changed size during iteration
            wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(10):
            for stream in [engine.submit(ask()) for _ in range(60)]:
                stream.close()
    finally:
        over.set()
        looking.join()
        sys.setswitchinterval(interval)
    assert wrong == []
