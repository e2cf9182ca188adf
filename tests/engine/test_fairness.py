"""Which request gets the next slot, on a simulated clock: playing and paused listeners, new requests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import numpy as np
import pytest

from plans import TINY_PLAN
from saywell.engine.request_state import RequestState
from saywell.engine.scheduler import Scheduler
from saywell.engine.stream import Window
from saywell.errors import SaywellError
from saywell.types import AudioChunk, Request, Sequence, Summary, Voice

RATE = 1_000
TICK_S = 0.05
PLAN = replace(
    TINY_PLAN, max_batch_size=8, max_parallel_chunks=2, first_chunk_chars=100, chunk_chars=300, buffer_s=10.0
)
VOICE = Voice(id="v", name="V", language="en", sample_rate=RATE)
SENTENCE = "The road runs along the river for a mile, then it climbs between old walls to the village on the hill. "
CHARS_PER_S = 15.0


@dataclass(eq=False)
class Listener:
    """A listener: receives a request's audio and plays it."""

    pace: float
    """Seconds of audio played per second."""
    window: Window = field(default_factory=lambda: Window(PLAN.buffer_s))
    state: RequestState | None = None
    asked: float = 0.0
    first: float | None = None
    dry_s: float = 0.0
    """Seconds of silence between its first and its last audio."""

    def put(self, chunk: AudioChunk) -> None:
        self.window.put(len(chunk.samples) / RATE)

    def finish(self, summary: Summary) -> None: ...

    def fail(self, error: SaywellError) -> None: ...


class World:
    """A model that makes `speed` seconds of audio per second, shared evenly by the running sequences."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, speed: float, slots: int = 8) -> None:
        self.now = 0.0
        monkeypatch.setattr("saywell.engine.request_state.time", SimpleNamespace(monotonic=lambda: self.now))
        self.scheduler = Scheduler(slots, PLAN.max_parallel_chunks)
        self.listeners: list[Listener] = []
        self._speed = speed
        self._left: dict[Sequence, float] = {}

    def ask(self, chars: int, pace: float = 1.0, **fields: int) -> Listener:
        listener = Listener(pace, asked=self.now)
        request = Request(text=(SENTENCE * 60)[:chars], **fields)  # type: ignore[arg-type]
        listener.state = RequestState(request, VOICE, PLAN, listener)
        listener.state.look_ahead()
        self.listeners.append(listener)
        self.scheduler.add(listener.state)
        return listener

    def run(self, seconds: float, each_tick: Callable[[], None] = lambda: None) -> None:
        until = self.now + seconds
        while self.now < until:
            each_tick()
            self._tick()

    def _tick(self) -> None:
        self.now += TICK_S
        while (state := self.scheduler.next_request()) is not None:
            sequence = self.scheduler.schedule(state)
            self._left[sequence] = max(0.5, len(sequence.text) / CHARS_PER_S)
        batch = self.scheduler.batch()
        for sequence in batch:
            self._make(sequence, self._speed * TICK_S / len(batch))
        for listener in self.listeners:
            self._hear(listener)

    def _make(self, sequence: Sequence, seconds: float) -> None:
        listener = next(each for each in self.listeners if each.state and each.state.request is sequence.request)
        state = listener.state
        assert state is not None
        made = min(seconds, self._left[sequence])
        self._left[sequence] -= made
        final = self._left[sequence] <= 1e-9
        listener.first = listener.first if listener.first is not None else self.now
        samples = np.zeros(round(made * RATE), np.float32)
        state.put(sequence, AudioChunk(request_id="", index=sequence.index, samples=samples, sample_rate=RATE,
                                     final=final))  # fmt: skip
        if final:
            self.scheduler.finish(sequence)
            state.finish_sequence(sequence, "stop")
            if state.done:
                self.scheduler.remove(state)
                listener.state = None

    def _hear(self, listener: Listener) -> None:
        if listener.first is None:
            return
        wants = listener.pace * TICK_S
        if listener.window.unread_s < wants / 2 and listener.state is not None and listener.pace:
            listener.dry_s += TICK_S
        listener.window.read(wants)


def waits(listeners: list[Listener]) -> list[float]:
    return [(each.first if each.first is not None else np.inf) - each.asked for each in listeners]


def test_new_requests_start_at_once_next_to_listeners_at_playback_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty-four long texts use four fifths of the capacity; a short one arrives every two seconds."""
    world, newcomers = World(monkeypatch, speed=30.0), []
    held = [world.ask(4500) for _ in range(24)]
    world.run(10.0)

    def come() -> None:
        if round(world.now / TICK_S) % 40 == 0:
            newcomers.append(world.ask(40))

    world.run(120.0, come)
    assert len(newcomers) >= 60
    assert max(waits(newcomers)) < 1.0
    assert sum(listener.dry_s for listener in held) < 0.01 * 24 * 120.0, "nobody who listens hears the newcomers come"


def test_a_paused_listener_holds_no_slot_and_resumes_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, speed=10.0)
    pausing = [world.ask(4500, pace=0.0) for _ in range(12)]
    world.run(120.0)
    assert world.scheduler.running == 0
    assert all(30.0 <= each.window.unread_s < 30.0 + 2 * 20.0 for each in pausing)
    quick = world.ask(40)
    world.run(0.5)
    assert waits([quick])[0] <= 2 * TICK_S
    for each in pausing[:4]:
        each.pace = 1.0
    world.run(60.0)
    assert all(each.dry_s == 0 for each in pausing[:4])
    assert max(each.window.unread_s for each in pausing[:4]) > 10.0


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 8])
def test_new_requests_go_first_with_any_number_of_slots(monkeypatch: pytest.MonkeyPatch, slots: int) -> None:
    """With readers that take all audio at once, a new request waits for at most one sequence, or for none where a slot
    is kept free."""
    world = World(monkeypatch, speed=2.0, slots=slots)
    for _ in range(12):
        world.ask(4500, pace=1e6)
    world.run(60.0)
    for _ in range(5):
        newcomer = world.ask(40, pace=1e6)
        before = sum(each.first is None for each in world.listeners)
        world.run(25.0 * slots)
        assert waits([newcomer])[0] <= (2 * TICK_S if slots >= 4 and before == 1 else 20.0 / 2.0 * slots + 1.0)
    assert all(each.first is not None for each in world.listeners)


def test_slots_taken_by_degradation_are_lent_to_new_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, speed=2.0)
    for _ in range(12):
        world.ask(4500, pace=1e6)
    world.run(60.0)
    world.scheduler.resize(1, 1)
    world.run(60.0)
    assert world.scheduler.running == 1
    newcomer = world.ask(40)
    world.run(1.0)
    assert waits([newcomer])[0] <= 2 * TICK_S
    assert world.scheduler.running == 2


def test_the_request_whose_audio_runs_out_first_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(monkeypatch, speed=1.0)
    jobs = [world.ask(4500).state, world.ask(4500).state, world.ask(4500, priority=1).state]
    for state, audio_s in zip(jobs, (20.0, 5.0, 25.0), strict=True):
        assert state is not None
        sequence = state.next_sequence(0)
        samples = np.zeros(int(audio_s * RATE), np.float32)
        state.put(sequence, AudioChunk(request_id="", index=0, samples=samples, sample_rate=RATE, final=True))
        state.finish_sequence(sequence, "stop")
    rich, poor, urgent = jobs
    assert world.scheduler.next_request() is urgent
    assert urgent is not None
    world.scheduler.remove(urgent)
    assert world.scheduler.next_request() is poor
    assert rich is not None
    assert rich.wants_slot


def test_a_wait_for_text_pauses_playback(monkeypatch: pytest.MonkeyPatch) -> None:
    world, listener = World(monkeypatch, speed=1.0), Listener(1.0)
    state = RequestState(Request(text=""), VOICE, PLAN, listener, more=True)

    def speak(audio_s: float) -> None:
        state.look_ahead()
        sequence = state.next_sequence(0)
        samples = np.zeros(round(audio_s * RATE), np.float32)
        state.put(sequence, AudioChunk(request_id="", index=0, samples=samples, sample_rate=RATE, final=True))
        state.finish_sequence(sequence, "stop")
        state.look_ahead()

    state.look_ahead()
    world.now = 5.0
    state.feed("Good morning to you all, my friends. And so ", last=False)
    speak(4.0)
    assert (state.starved, state.heard_until) == (True, 9.0)
    world.now = 8.0  # the first sentence is still playing
    state.feed("on. ", last=False)
    assert (state.idle_s, state.heard_until) == (0.0, 9.0)
    state.look_ahead()
    world.now = 20.0  # playback has been paused for eleven seconds
    assert state.idle_s == 12.0
    state.feed("", last=True)
    speak(2.0)
    assert (state.done, state.heard_until) == (True, 22.0)
    assert state.summary().total_s == 0.0
