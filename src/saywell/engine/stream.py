"""The audio of one request, from the engine to its reader: text order, bounded buffer, cancellation, deadline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Protocol

import msgspec
import numpy as np

from saywell.errors import Cancelled, DeadlineExceeded, InvalidRequest, SaywellError
from saywell.plan.memory import WINDOWS
from saywell.text.check import IncomingText
from saywell.types import Audio, AudioChunk, Request, Summary


class Window:
    """How far a stream's audio is ahead of its reader: the stream's flow control.

    Running sequences are never paused for a slow reader: each runs to its end and frees its slot. New ones are not
    started beyond a few windows of unread audio, including what the running ones are expected to give.
    """

    def __init__(self, seconds: float) -> None:
        self.begun = False
        """Whether any audio has come."""
        self.unread_s = 0.0
        self.starved = False
        """The audio of all text so far has come, and more text is awaited: no audio is due."""
        self._most_s = WINDOWS * seconds

    def put(self, seconds: float) -> None:
        self.begun = self.begun or seconds > 0
        self.unread_s += seconds

    def read(self, seconds: float) -> None:
        """The reader has taken, or the stream has dropped, this much audio."""
        self.unread_s = max(0.0, self.unread_s - seconds)

    def wants_more(self, expected_s: float = 0.0) -> bool:
        """Whether to start another sequence; the running ones are expected to give `expected_s` more."""
        return not self.starved and self.unread_s + expected_s < self._most_s


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """Where to continue a request whose earlier audio has been delivered."""

    index: int
    """The first sequence that is not complete."""
    samples: int
    """Samples of it that have been delivered."""


START = Resume(index=0, samples=0)

TextSink = Callable[[str, bool], None]
"""Takes the next piece of a request's text, and whether it is the last. Never blocks."""


class Outlet(Protocol):
    """Receives a request's audio. Called from the engine's thread only; never blocks."""

    @property
    def window(self) -> Window: ...

    def put(self, chunk: AudioChunk) -> None: ...

    def starve(self, chars: int) -> None:
        """All audio of the first `chars` characters of the text has been put; the request waits for more text."""
        ...

    def finish(self, summary: Summary) -> None: ...

    def fail(self, error: SaywellError) -> None: ...


@dataclass(slots=True)
class _Patience:
    """How much longer a reader waits for audio."""

    left_s: float | None
    """None: without limit, while no audio is due."""

    def spend(self, began: float) -> None:
        """Subtract a wait that has ended."""
        if self.left_s is not None:
            self.left_s -= time.monotonic() - began


class Stream:
    """An iterator of AudioChunk, for `for` and `async for`, with one reader.

    Ends when all audio has been read (`summary` is then set) or raises the SaywellError that ended the request. If the
    request was submitted with `more`, its text is passed to `feed` and `end_text`, from one thread at a time.
    `close()`, or leaving the context manager, stops the work and frees its slots; it may be called at any time, from
    any thread, repeatedly.
    """

    def __init__(
        self,
        request: Request,
        *,
        window_s: float,
        timeout_s: float,
        on_close: Callable[[], None],
        on_read: Callable[[float], None] | None = None,
        text: IncomingText | None = None,
    ) -> None:
        """`timeout_s`: how long the reader waits for audio, all waits together; the time it takes to read does not
        count. `on_read(seconds)`: called after each chunk read. `text`: checks fed text; None: the text is complete."""
        self.request = request
        self.summary: Summary | None = None
        self.came_s = 0.0
        """Seconds of audio received, read or not."""
        self._timeout_s = timeout_s
        self._patience = _Patience(timeout_s)
        """Of the reader; replaced by a new one whenever audio becomes due or stops being due."""
        self._on_close = on_close
        self._on_read = on_read
        self.on_text: TextSink | None = None
        """Receives fed text; set by the engine."""
        self._text = text
        self._feeding = threading.Lock()
        """Serialises `feed`. Not `_changed`: `on_text` may take a lock under which the engine calls this stream."""
        self._fed = 0
        """Characters fed so far."""
        self.starved_s = 0.0
        """Total of the ended waits for text."""
        self._starved_since: float | None = None
        self.window = Window(window_s)
        self._ready: dict[int, deque[AudioChunk]] = {}
        self._head = 0
        """The sequence being read."""
        self._over: set[int] = set()
        """Complete sequences, from `_head` on."""
        self._came: dict[int, int] = {}
        """Samples received of each sequence from `_head` on."""
        self._changed = threading.Condition()
        self._waker: Callable[[], object] | None = None
        self._finished: Summary | None = None
        self._error: SaywellError | None = None
        self._closed = False
        self._released = False
        """The engine has ended the request, or has been told to."""
        self._read_s = 0.0
        self._collecting = False
        self._collected: list[AudioChunk] = []
        if text is not None:
            with self._changed:
                self._wait_for_text(True)

    # The engine's side

    def put(self, chunk: AudioChunk) -> None:
        with self._changed:
            if self._closed:
                return
            self._ready.setdefault(chunk.index, deque()).append(chunk)
            self._came[chunk.index] = self._came.get(chunk.index, 0) + len(chunk.samples)
            if chunk.final:
                self._over.add(chunk.index)
            seconds = len(chunk.samples) / chunk.sample_rate
            self.came_s += seconds
            self.window.put(seconds)
            if chunk.index == self._head:
                self._wake()

    def resume(self, *, alike: bool) -> Resume | None:
        """Prepare for another worker after the first one died: where to continue. None if that is impossible.

        `alike`: the next worker gives the same samples. If not, the request starts again, unless audio has been read
        other than by `collect`, which returns nothing before the end.
        """
        with self._changed:
            if self._closed:
                return None
            if not alike:
                return START if self._forget_all() else None
            index = self._head
            while index in self._over:
                index += 1
            for later in [number for number in self._ready if number > index]:  # they will be sent again
                seconds = sum(len(chunk.samples) / chunk.sample_rate for chunk in self._ready.pop(later))
                self.came_s -= seconds
                self.window.read(seconds)
            self._came = {number: count for number, count in self._came.items() if number <= index}
            self._over = {number for number in self._over if number < index}
            return Resume(index=index, samples=self._came.get(index, 0))

    def _forget_all(self) -> bool:
        if self._read_s and not self._collecting:
            return False
        self.window.read(self.window.unread_s)
        if self._fed and self.window.starved:
            self._wait_for_text(False)
        for received in (self._ready, self._collected, self._came, self._over):
            received.clear()
        self._head, self._read_s, self.came_s = 0, 0.0, 0.0
        return True

    def starve(self, chars: int) -> None:
        with self._changed:
            if chars == self._fed and self._text is not None:  # otherwise more text is on its way to the engine
                self._wait_for_text(True)

    def finish(self, summary: Summary) -> None:
        with self._changed:
            self._finished = summary
            self._released = True
            self._wake()

    def fail(self, error: SaywellError) -> None:
        with self._changed:
            self._released = True
            if self._error is None and self._finished is None:
                self._error = error
                self._wake()

    @property
    def ended(self) -> bool:
        """Whether no more audio will come. What has come may still be unread."""
        return self._closed or self._finished is not None or self._error is not None

    def _wait_for_text(self, starved: bool) -> None:
        """Start or stop waiting for text. Called under the lock."""
        now = time.monotonic()
        if self._starved_since is not None:
            self.starved_s += now - self._starved_since
        self._starved_since = now if starved else None
        self.window.starved = starved
        self._patience = _Patience(None if starved else self._timeout_s)
        self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._waker is not None:
            waker, self._waker = self._waker, None
            with contextlib.suppress(RuntimeError):  # the reader's event loop has been closed
                waker()

    # Feeding text

    def feed(self, text: str) -> None:
        """Add the next piece of the text, cut anywhere. Never blocks.

        Raises InvalidText or TooLarge for an invalid piece, which also ends the request for its reader, after the audio
        so far; raises the request's own error if it has failed.
        """
        self._give(text, last=False)

    def end_text(self) -> None:
        """Mark the text as complete. Raises InvalidText if there is no speech in it, and what `feed` raises."""
        self._give("", last=True)

    def _give(self, text: str, *, last: bool) -> None:
        with self._feeding:
            if self._error is not None or self._closed:
                raise copy(self._error) if self._error is not None else Cancelled("the stream was closed")
            if self._text is None or self.on_text is None:
                raise InvalidRequest("the text of this request is complete; submit it with more=True", param="text")
            try:
                text = self._text.add(text)
                if last:
                    self._text.finish()
            except SaywellError as error:
                self.reject(error)
                raise
            with self._changed:
                self._fed += len(text)
                self._text = None if last else self._text
                if self.window.starved and (text or last):
                    self._wait_for_text(False)
            if text or last:
                self.on_text(text, last)

    def reject(self, error: SaywellError) -> None:
        """End the request with an error from outside the engine. Audio received so far can still be read."""
        with self._changed:
            if self.ended:
                return
            self._error = error
            self._released = True
            self._wake()
        self._on_close()

    # The reader's side

    def _pop(self) -> AudioChunk | None:
        """The next chunk, or None. Raises StopIteration or an error at the end. Called under the lock."""
        if self._closed:
            raise self._error or Cancelled("the stream was closed")
        while queue := self._ready.get(self._head):
            chunk = queue.popleft()
            self.window.read(len(chunk.samples) / chunk.sample_rate)
            if chunk.final:
                del self._ready[chunk.index], self._came[chunk.index]
                self._over.remove(chunk.index)
                self._head += 1
            if len(chunk.samples):
                chunk = self._with_timestamps(chunk)
                if self._collecting:
                    self._collected.append(chunk)
                return chunk
        if self._error is not None:
            raise self._error
        if self._finished is not None:
            self.summary = self._finished
            raise StopIteration
        if self._patience.left_s is not None and self._patience.left_s <= 0:
            self._error = DeadlineExceeded("the deadline passed before the speech was finished", param="timeout_s")
            raise self._error
        return None

    def _with_timestamps(self, chunk: AudioChunk) -> AudioChunk:
        """The chunk with its timestamps relative to the start of the whole audio."""
        start_s = self._read_s
        self._read_s += len(chunk.samples) / chunk.sample_rate
        if not chunk.timestamps:
            return chunk
        return replace(chunk, timestamps=tuple(word.later(start_s) for word in chunk.timestamps))

    def _took(self, chunk: AudioChunk) -> AudioChunk:
        if self._on_read is not None:
            self._on_read(len(chunk.samples) / chunk.sample_rate)
        return chunk

    def __iter__(self) -> Iterator[AudioChunk]:
        return self

    def __next__(self) -> AudioChunk:
        try:
            with self._changed:
                while (chunk := self._pop()) is None:
                    patience, began = self._patience, time.monotonic()
                    self._changed.wait(patience.left_s)
                    patience.spend(began)
        except SaywellError:
            self.close()
            raise
        return self._took(chunk)

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        return self

    async def __anext__(self) -> AudioChunk:
        loop = asyncio.get_running_loop()
        try:
            while True:
                with self._changed:
                    chunk = self._pop()
                    if chunk is not None:
                        break
                    changed = loop.create_future()
                    self._waker = partial(loop.call_soon_threadsafe, _resolve, changed)
                    patience, began = self._patience, time.monotonic()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed, patience.left_s)
                patience.spend(began)
        except StopIteration:
            raise StopAsyncIteration from None
        except SaywellError:
            self.close()
            raise
        return self._took(chunk)

    def collect(self) -> Audio:
        """All audio, joined. Blocks until the end."""
        self._collecting = True
        for _ in self:
            pass  # `_pop` collects, under the lock
        return self._join(self._collected)

    async def acollect(self) -> Audio:
        """All audio, joined."""
        self._collecting = True
        async for _ in self:
            pass  # `_pop` collects, under the lock
        return self._join(self._collected)

    def _join(self, chunks: list[AudioChunk]) -> Audio:
        if self.summary is None or not chunks:
            raise Cancelled("the stream has already been read; submit the request again")
        samples = np.concatenate([chunk.samples for chunk in chunks])
        words = tuple(word for chunk in chunks for word in chunk.timestamps)
        return Audio(samples=samples, sample_rate=chunks[0].sample_rate, summary=self.summary, timestamps=words)

    def close(self) -> None:
        """Stop the work and free its slots. Unread audio is dropped."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._ready.clear()
            self._wake()
            released, self._released = self._released, True
        if not released:
            self._on_close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
