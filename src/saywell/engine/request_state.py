"""An admitted request: its incoming text, its sequences, and the figures of its summary."""

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
from saywell.text.lexicon import NO_WORDS, Words
from saywell.text.markup import visible
from saywell.text.normalise import speak
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
"""Typical speaking rate, to estimate how much audio a running sequence will still give."""
_MOST_HIDDEN = 20_000
"""Characters of a comment; what is not closed by then is spoken."""
_GOLDEN = 0x9E3779B97F4A7C15
"""The golden ratio in 64 bits: seeds of neighbouring sequences share no pattern."""


class RequestState:
    """Splits the text into sequences, in text order, and tracks when the last of them is done."""

    def __init__(
        self,
        request: Request,
        voice: Voice,
        plan: Plan,
        outlet: Outlet,
        resume: Resume = START,
        *,
        more: bool = False,
        words: Words = NO_WORDS,
    ) -> None:
        """`request` has a seed. `resume`: where to continue. `more`: more text follows by `feed`. `words`: the user's
        own readings, also those of the request.

        May be created in any thread; then used in the engine's thread only.
        """
        self.request = request
        self.voice = voice
        self.voice_state: VoiceState | None = None
        """The voice as prepared by the family."""
        self.outlet = outlet
        self.chars = 0
        """Characters of text received."""
        self._running: dict[Sequence, float] = {}
        """Seconds of audio each running sequence has given."""
        self._plan = plan
        self._words = words
        self._resume = resume
        self._splitter = Splitter(plan.first_chunk_chars, plan.chunk_chars)
        self._raw: list[str] = []
        """The pieces of a raw text, which is not split."""
        self._ended = False
        """The text is complete."""
        self._next: tuple[int, str] | None = None
        """Position and text of the next chunk."""
        self._awaited = ""
        """The sign that ends what is hidden at the end of the last chunk, if anything is."""
        self._hidden = 0
        """Characters of whole chunks hidden so far while it is awaited."""
        self._offset = 0
        """Characters handed out in chunks."""
        self._skip = resume.index
        """Chunks still to be skipped, since they were delivered before `resume`."""
        self._index = resume.index
        self._submitted = time.monotonic()
        self._starved: float | None = None
        """Since when it has been waiting for more text; None while it does not."""
        self._starved_s = 0.0
        """Total of earlier waits for text."""
        self._queued_s: float | None = None
        self._first_audio_s: float | None = None
        self._hears_from: float | None = None
        """The start of playback if it has never paused: of the first audio, plus all pauses so far."""
        self._audio_s = 0.0
        self._frames = 0
        self._finish: FinishReason = "stop"
        self.feed(request.text, last=not more)

    def feed(self, text: str, *, last: bool) -> None:
        """Add text; `last`: the text is complete. `look_ahead` processes it."""
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
            if self._hears_from is not None:  # playback has paused
                self._hears_from += max(0.0, now - self.heard_until)

    def look_ahead(self) -> None:
        """Take the text of the next sequence, if enough has come. Raises what splitting raises."""
        while self._next is None and (found := self._take()) is not None:
            if self._skip:
                self._skip -= 1
            else:
                self._next = found
        if self._next is None and not self._running and not self._ended:
            self._starved = self._starved or time.monotonic()

    def _take(self) -> tuple[int, str] | None:
        """Position and text of the next chunk, without what is hidden (comments of HTML).

        Those without speech (a line of dashes) are skipped.
        """
        if self.request.raw and self._ended and self._raw:
            text = "".join(self._raw)
            self._raw.clear()
            return 0, text
        while (chunk := self._splitter.take()) is not None:
            start = self._offset
            self._offset += len(chunk)
            begin, end = 0, len(chunk)
            if self.request.markup != "plain":
                begin, end, self._awaited = visible(chunk, self._awaited)
                self._hidden = self._hidden + begin if self._awaited and end == begin else 0
                if self._hidden > _MOST_HIDDEN:  # it was never closed
                    begin, end, self._awaited, self._hidden = 0, len(chunk), "", 0
            if speakable(chunk[begin:end]):
                return start + begin, chunk[begin:end]
        return None

    @property
    def starved(self) -> bool:
        """Whether all text so far has been spoken and the text is not complete."""
        return self._starved is not None

    @property
    def idle_s(self) -> float:
        """How long it has been waiting for more text; 0 while it does not."""
        return time.monotonic() - self._starved if self._starved is not None else 0.0

    @property
    def more(self) -> bool:
        """Whether `next_sequence` can return another sequence now."""
        return self._next is not None

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def started(self) -> bool:
        """Whether its first sequence has had a slot."""
        return self._queued_s is not None

    @property
    def done(self) -> bool:
        return self._ended and self._next is None and not self._running

    @property
    def spoken(self) -> bool:
        """Whether any sequence has been started, by this worker or an earlier one."""
        return self._index > 0

    @property
    def wants_slot(self) -> bool:
        """Whether to start another sequence now: text is ready, and the reader keeps up."""
        if self._next is None or (self._running and self._hears_from is None):
            return False  # nothing may slow down the first audio
        return self.outlet.window.wants_more(self._expected_s)

    @property
    def heard_until(self) -> float:
        """When playback of all audio made and being made would end, on the monotonic clock."""
        return (self._hears_from or self._submitted) + self._audio_s + self._expected_s

    @property
    def _expected_s(self) -> float:
        """Seconds of audio the running sequences are still expected to give."""
        return sum(
            max(0.0, len(sequence.text) / _CHARS_PER_S / self.request.speed - produced)
            for sequence, produced in self._running.items()
        )

    def delivered(self, sequence: Sequence) -> int:
        """Samples of a sequence that were delivered before the request was resumed."""
        return self._resume.samples if sequence.index == self._resume.index else 0

    def next_sequence(self, slot: int) -> Sequence:
        """Start the next sequence, in `slot`: normalise its text and split off the text after it."""
        if self._next is None:
            raise IndexError("no sequence left")
        (start, source), self._next = self._next, None
        request = self.request
        language = request.language or self.voice.language
        spoken = None if request.raw else speak(source, language, markup=request.markup, own=self._words)
        sequence = Sequence(
            request=request,
            index=self._index,
            source=source,
            text=spoken.text if spoken else source,
            start=start,
            locate=spoken.spans if spoken else None,
            phones=spoken.phones if spoken else (),
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
        """A sequence has given its last audio."""
        del self._running[sequence]
        self._frames += sequence.frames
        if finish != "stop":
            self._finish = finish

    @property
    def _elapsed_s(self) -> float:
        """Since submission, without waits for text."""
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
    """A seed unrelated to this one, but determined by it."""
    return (seed + steps * _GOLDEN) % 2**63


def seeded(request: Request, spec: ModelSpec) -> Request:
    """The request with a seed: its own, or else a random one for a sampling model and 0 for others."""
    if request.sampling.seed is not None:
        return request
    seed = secrets.randbits(63) if spec.kind == "autoregressive" else 0
    return replace(request, sampling=replace(request.sampling, seed=seed))


@dataclass(slots=True, eq=False)
class SequenceOutput:
    """Turns the frames of one sequence into audio chunks: decoded in batches, checked, stitched."""

    owner: RequestState
    sequence: Sequence
    checks: AudioChecks = field(init=False)
    stitcher: Stitcher | None = field(init=False)
    finish: FinishReason | None = None
    resampled: bool = False
    """The audio of the first attempt was refused; this is the second."""
    sent: bool = False
    """Audio has been sent: the sequence can no longer be resampled."""
    retrying_oom: bool = False
    """The first attempt ran out of memory."""
    job: DecodeJob | None = None
    """Being decoded; the next one follows when its samples are there."""
    _sent: int = 0
    """Samples sent."""
    _skip: int = 0
    """Samples still to be left out, since an earlier attempt has sent them."""
    _sent_frames: int = 0
    _skip_frames: int = 0
    _pending: list[Frame] = field(default_factory=list)
    _batch: int = 0
    """Frames of the next decode batch."""
    _text_sent: bool = False
    _frames: tuple[npt.NDArray[Any], ...] = ()

    def __post_init__(self) -> None:
        sequence = self.sequence
        if not self.retrying_oom:
            self._skip = self._sent = self.owner.delivered(sequence)
            self._text_sent = self._skip > 0
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
        self._batch = self._batch or plan.first_frames

    @property
    def due(self) -> bool:
        """Whether the next decode batch is complete. The size of batches does not change the samples."""
        complete = self.finish is not None or len(self._pending) >= self._batch > 0
        return complete and self.job is None

    def begin_job(self, plan: Plan) -> None:
        frames, self._pending = self._pending, []
        if self.sequence.request.keep_frames:
            kept = tuple(frame.data for frame in frames if frame.data is not None)
            self._frames, self._skip_frames = kept[self._skip_frames :], max(0, self._skip_frames - len(kept))
            self._sent_frames += len(self._frames)
        # Each decode batch is as long as all audio sent so far (so it doubles): playback never underruns at RTF ≤ 1,
        # and sizes stay multiples of the decoder tile.
        self._batch = min(plan.chunk_frames, self.sequence.frames)
        self.job = DecodeJob(self.sequence, frames, last=self.finish is not None)

    def retry(self) -> SequenceOutput:
        """A new attempt from the start that leaves out what was sent: the same frames give the same samples."""
        return SequenceOutput(
            self.owner, self.sequence, resampled=self.resampled, sent=self.sent, retrying_oom=True,
            _text_sent=self._text_sent, _skip=self._sent, _sent=self._sent,
            _skip_frames=self._sent_frames, _sent_frames=self._sent_frames,
        )  # fmt: skip

    def chunk(self, samples: Samples, *, last: bool) -> AudioChunk:
        """Check and stitch the samples of the job, which is over. `last`: the sequence's last. Raises BadAudio."""
        self.job = None
        self.checks.add(samples)
        if last and self.finish == "stop" and not self.sequence.request.raw:
            self.checks.finish()
        if self.stitcher is not None:
            samples = self.stitcher.feed(samples, last)
        samples, self._skip = samples[self._skip :], max(0, self._skip - len(samples))
        self._sent += len(samples)
        self.sent = self.sent or len(samples) > 0
        first = len(samples) > 0 and not self._text_sent  # readers skip chunks without samples
        self._text_sent = self._text_sent or first
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
        """The sequence's words, on the clock of its audio without the leading silence that was cut."""
        dropped = self.stitcher.dropped if self.stitcher is not None else 0
        words = [word.later(-dropped / self.sequence.voice.sample_rate) for word in self.sequence.timestamps]
        if self.sequence.locate is None:
            return tuple(words)
        begin = self.sequence.start
        spans = self.sequence.locate(word.text for word in words)
        return tuple(
            replace(word, start_char=begin + start, end_char=begin + end)
            for word, (start, end) in zip(words, spans, strict=True)
        )
