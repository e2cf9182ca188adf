"""One admitted request inside the engine: its text on the way in, its sequences, the figures for its summary."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from saywell.audio.checks import AudioChecks
from saywell.audio.stitch import Stitcher
from saywell.engine.stream import START, Outlet, Resume
from saywell.models.base import DecodeJob
from saywell.plan.plan import Plan
from saywell.text.check import speakable
from saywell.text.normalise import normalise
from saywell.text.split import Splitter
from saywell.types import (
    AudioChunk,
    FinishReason,
    Frame,
    ModelSpec,
    Request,
    Samples,
    Sequence,
    Summary,
    Timestamp,
    Voice,
    VoiceState,
)

_CHARS_PER_S = 15.0
"""Typical speaking rate; only to guess how much audio a running sequence will still give."""
_GOLDEN = 0x9E3779B97F4A7C15
"""Odd and far from round: seeds of neighbouring sequences share no pattern."""


class RequestState:
    """Takes its text in, hands out its sequences in text order, and knows when the last of them is done."""

    def __init__(
        self,
        request: Request,
        voice: Voice,
        plan: Plan,
        outlet: Outlet,
        resume: Resume = START,
        *,
        more: bool = False,
    ) -> None:
        """`request` has a seed. `resume`: from where on it is to be spoken. `more`: its text goes on with `feed`.

        Any thread may make it; from then on it is the engine's.
        """
        self.request = request
        self.voice = voice
        self.voice_state: VoiceState | None = None
        """What the family has prepared of the voice."""
        self.outlet = outlet
        self.chars = 0
        """Of text that have come."""
        self._running: dict[Sequence, float] = {}
        self._plan = plan
        self._resume = resume
        self._splitter = Splitter(plan.first_chunk_chars, plan.chunk_chars)
        self._raw: list[str] = []
        """The pieces of a text that is spoken as it is."""
        self._ended = False
        """All of the text has come."""
        self._next: str | None = None
        self._skip = resume.index
        """Chunks still to come that have been spoken before."""
        self._index = resume.index
        self._submitted = time.monotonic()
        self._starved: float | None = None
        """When it began to wait for more text; None while it does not."""
        self._starved_s = 0.0
        """Its earlier waits for text, together."""
        self._queued_s: float | None = None
        self._first_audio_s: float | None = None
        self._hears_from: float | None = None
        """When a listener would have begun who has heard all until now without a pause."""
        self._audio_s = 0.0
        self._frames = 0
        self._finish: FinishReason = "stop"
        self.feed(request.text, last=not more)

    def feed(self, text: str, *, last: bool) -> None:
        """The next piece of the text; `last`: it is complete. Nothing is done with it before `look_ahead`."""
        self.chars += len(text)
        if self.request.raw:
            self._raw.append(text)
        else:
            self._splitter.feed(text)
        if last:
            self._ended = True
            self._splitter.finish()
        if self._starved is not None:
            now = time.monotonic()
            self._starved_s += now - self._starved
            self._starved = None
            if self._hears_from is not None:  # the listener had a pause
                self._hears_from += max(0.0, now - self.heard_until)

    def look_ahead(self) -> None:
        """Make the text of the next sequence, if enough of it has come. Raises what a text nobody foresaw raises."""
        while self._next is None and (text := self._take()) is not None:
            if self._skip:
                self._skip -= 1
            else:
                self._next = text
        if self._next is None and not self._running and not self._ended:
            self._starved = self._starved or time.monotonic()

    def _take(self) -> str | None:
        """The next chunk to be spoken. One with nothing to say (a line of dashes) makes no sequence."""
        if self.request.raw and self._ended and self._raw:
            text = "".join(self._raw)
            self._raw.clear()
            return text
        while (chunk := self._splitter.take()) is not None:
            if speakable(chunk):
                return chunk
        return None

    @property
    def starved(self) -> bool:
        """Whether all that can be said of its text is made, and the text is not complete."""
        return self._starved is not None

    @property
    def idle_s(self) -> float:
        """How long it has been waiting for the next piece of its text."""
        return time.monotonic() - self._starved if self._starved is not None else 0.0

    @property
    def more(self) -> bool:
        """Whether `next_sequence` has another sequence to give now."""
        return self._next is not None

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def started(self) -> bool:
        """Whether its first sequence has been given a slot."""
        return self._queued_s is not None

    @property
    def done(self) -> bool:
        return self._ended and self._next is None and not self._running

    @property
    def spoken(self) -> bool:
        """Whether it has had anything to say, by this worker or an earlier one."""
        return self._index > 0

    @property
    def wants_slot(self) -> bool:
        """Whether another sequence is worth a slot now: there is one, and the reader keeps up."""
        if self._next is None or (self._running and self._hears_from is None):
            return False  # until the first sound is out, nothing may slow it down
        return self.outlet.window.wants_more(self._expected_s)

    @property
    def heard_until(self) -> float:
        """When a listener at the pace of speech has heard all that is made or being made, on the monotonic clock."""
        return (self._hears_from or self._submitted) + self._audio_s + self._expected_s

    @property
    def _expected_s(self) -> float:
        """Seconds of audio the running sequences are expected to give beyond what they have given."""
        return sum(
            max(0.0, len(sequence.text) / _CHARS_PER_S / self.request.speed - produced)
            for sequence, produced in self._running.items()
        )

    def delivered(self, sequence: Sequence) -> int:
        """Samples of a sequence that had been delivered before the request was resumed."""
        return self._resume.samples if sequence.index == self._resume.index else 0

    def next_sequence(self, slot: int) -> Sequence:
        """The next sequence, in `slot`. Its text is normalised, and the one after it split, now and not before."""
        if self._next is None:
            raise IndexError("no sequence left")
        source, self._next = self._next, None
        request = self.request
        sequence = Sequence(
            request=request,
            index=self._index,
            source=source,
            text=source if request.raw else normalise(source, request.language or self.voice.language),
            voice=self.voice,
            voice_state=self.voice_state,
            seed=next_seed(self.request.sampling.seed or 0, self._index),
            max_frames=request.max_frames or self._plan.max_frames,
            slot=slot,
        )
        self._index += 1
        self._running[sequence] = 0.0
        if self._queued_s is None:
            self._queued_s = self._elapsed_s
        self.look_ahead()
        return sequence

    def put(self, sequence: Sequence, chunk: AudioChunk) -> None:
        if len(chunk.samples):
            seconds = len(chunk.samples) / chunk.sample_rate
            if self._first_audio_s is None:
                self._first_audio_s, self._hears_from = self._elapsed_s, time.monotonic()
            self._audio_s += seconds
            self._running[sequence] += seconds
        self.outlet.put(chunk)

    def finish_sequence(self, sequence: Sequence, finish: FinishReason) -> None:
        """A sequence has ended by itself."""
        del self._running[sequence]
        self._frames += sequence.frames
        if finish != "stop":
            self._finish = finish

    @property
    def _elapsed_s(self) -> float:
        """Since it was submitted, without the time that it waited for text."""
        return time.monotonic() - self._submitted - self._starved_s

    def summary(self) -> Summary:
        total_s = self._elapsed_s
        return Summary(
            finish_reason=self._finish,
            sequences=self._index,
            frames=self._frames,
            audio_s=self._audio_s,
            queued_s=total_s if self._queued_s is None else self._queued_s,
            first_audio_s=total_s if self._first_audio_s is None else self._first_audio_s,
            total_s=total_s,
            seed=self.request.sampling.seed or 0,
        )


def next_seed(seed: int, steps: int = 1) -> int:
    """A seed that has nothing to do with this one, always the same."""
    return (seed + steps * _GOLDEN) % 2**63


def seeded(request: Request, spec: ModelSpec) -> Request:
    """The request with a seed: the one asked for; else a new one, for a model whose draws are a matter of luck."""
    if request.sampling.seed is not None:
        return request
    seed = secrets.randbits(63) if spec.kind == "autoregressive" else 0
    return replace(request, sampling=replace(request.sampling, seed=seed))


@dataclass(slots=True, eq=False)
class SequenceOutput:
    """The way of one sequence from frames to chunks: decoded in portions, judged, stitched."""

    owner: RequestState
    sequence: Sequence
    checks: AudioChecks = field(init=False)
    stitcher: Stitcher | None = field(init=False)
    finish: FinishReason | None = None
    redrawn: bool = False
    """The first draw of this sequence was no good; this is the second."""
    heard: bool = False
    """Some of it has left: it can no longer be drawn again."""
    retrying_oom: bool = False
    """It met a lack of memory and is spoken a second time."""
    _sent: int = 0
    """Samples that have left."""
    _skip: int = 0
    """Samples an earlier attempt has sent."""
    _sent_frames: int = 0
    _skip_frames: int = 0
    _pending: list[Frame] = field(default_factory=list)
    _portion: int = 0
    _named: bool = False
    _frames: tuple[npt.NDArray[Any], ...] = ()

    def __post_init__(self) -> None:
        sequence = self.sequence
        if not self.retrying_oom:
            self._skip = self._sent = self.owner.delivered(sequence)
            self._named = self._skip > 0
        rate, request = sequence.voice.sample_rate, sequence.request
        self.checks = AudioChecks(sequence.text, rate, request.speed)
        self.stitcher = None if request.raw else Stitcher(rate, request.speed)

    def add(self, frame: Frame, plan: Plan) -> None:
        if frame.data is not None:
            self.sequence.frames += 1
            self._pending.append(frame)
        self.finish = frame.finish
        if self.finish is None and self.sequence.frames >= self.sequence.max_frames:
            self.finish = "length"
        self._portion = self._portion or plan.first_frames

    @property
    def due(self) -> bool:
        """Whether there is enough to decode. Portions do not change the sound, only when it is heard."""
        return self.finish is not None or len(self._pending) >= self._portion

    def decode_job(self, plan: Plan) -> DecodeJob:
        frames, self._pending = self._pending, []
        if self.sequence.request.keep_frames:
            kept = tuple(frame.data for frame in frames if frame.data is not None)
            self._frames, self._skip_frames = kept[self._skip_frames :], max(0, self._skip_frames - len(kept))
            self._sent_frames += len(self._frames)
        # As many as were heard before: whoever listens at the speed of synthesis hears no gap, and portions that double
        # the whole end where the decoder's tiles end.
        self._portion = min(plan.chunk_frames, self.sequence.frames)
        return DecodeJob(self.sequence, frames, last=self.finish is not None)

    def retry(self) -> SequenceOutput:
        """The same sequence from its start, with what was sent left out: the same frames give the same samples."""
        return SequenceOutput(
            self.owner, self.sequence, redrawn=self.redrawn, heard=self.heard, retrying_oom=True, _named=self._named,
            _skip=self._sent, _sent=self._sent, _skip_frames=self._sent_frames, _sent_frames=self._sent_frames,
        )  # fmt: skip

    def chunk(self, samples: Samples) -> AudioChunk:
        """What may be sent. Raises BadAudio."""
        last = self.finish is not None
        self.checks.add(samples)
        if last and self.finish == "stop" and not self.sequence.request.raw:
            self.checks.finish()
        if self.stitcher is not None:
            samples = self.stitcher.feed(samples, last)
        samples, self._skip = samples[self._skip :], max(0, self._skip - len(samples))
        self._sent += len(samples)
        self.heard = self.heard or len(samples) > 0
        first = len(samples) > 0 and not self._named  # readers skip chunks without samples
        self._named = self._named or first
        return AudioChunk(
            request_id=self.sequence.request.id,
            index=self.sequence.index,
            samples=samples,
            sample_rate=self.sequence.voice.sample_rate,
            final=last,
            text=self.sequence.source if first else "",
            timestamps=self._timestamps() if first else (),
            frames=self._frames,
        )

    def _timestamps(self) -> tuple[Timestamp, ...]:
        """The sequence's words, as they lie once silence before the first sound is gone."""
        dropped = self.stitcher.dropped if self.stitcher is not None else 0
        return tuple(word.later(-dropped / self.sequence.voice.sample_rate) for word in self.sequence.timestamps)
