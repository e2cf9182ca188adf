"""One request's audio on its way from the engine to one reader: text order, bounded buffer, cancel, deadline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Protocol

import numpy as np

from saywell.errors import Cancelled, DeadlineExceeded, SaywellError
from saywell.types import Audio, AudioChunk, Request, Summary


class Window:
    """How far a stream's audio is ahead of its reader, and what follows from that.

    A slot is never held for a slow reader: sequences that are running run on, up to `_PAUSE` windows of unread audio,
    and further ones are not started beyond `_START` windows, those still running counted by what they are expected to
    give. The sequence being read is judged by its own audio alone, so nothing behind it can block it.
    """

    _START = 3.0
    _PAUSE = 6.0

    def __init__(self, seconds: float) -> None:
        self.head = 0
        self.read_at = time.monotonic()
        self._seconds = seconds
        self._unread: dict[int, float] = {}

    @property
    def unread_s(self) -> float:
        return sum(self._unread.values())

    def begin_again(self) -> None:
        """As at the start: nothing has come, and nothing has been read."""
        self.head, self._unread = 0, {}
        self.read_at = time.monotonic()

    def put(self, index: int, seconds: float) -> None:
        if not seconds:
            return
        if index == self.head and index not in self._unread:
            self.read_at = time.monotonic()  # until now the reader had nothing to read
        self._unread[index] = self._unread.get(index, 0.0) + seconds

    def read(self, index: int, seconds: float) -> None:
        self.read_at = time.monotonic()
        left = self._unread.get(index, 0.0) - seconds
        if left > 1e-9:
            self._unread[index] = left
        else:
            self._unread.pop(index, None)

    def wants(self, index: int) -> bool:
        """Whether running sequence `index` should go on."""
        unread = self._unread.get(index, 0.0) if index <= self.head else self.unread_s
        return unread < self._PAUSE * self._seconds

    def wants_more(self, expected_s: float) -> bool:
        """Whether another sequence should start, while the running ones are expected to give `expected_s` more."""
        return self.unread_s + expected_s < self._START * self._seconds

    def idle_s(self, now: float) -> float:
        """How long there has been something to read and nobody read it. Audio is read in order: the head's counts."""
        return now - self.read_at if self.head in self._unread else 0.0


class Outlet(Protocol):
    """Where the engine puts a request's audio. Called from the engine's thread only; never blocks."""

    @property
    def window(self) -> Window: ...

    def put(self, chunk: AudioChunk) -> None: ...

    def finish(self, summary: Summary) -> None: ...

    def fail(self, error: SaywellError) -> None: ...


class Stream:
    """An iterator of AudioChunk, for `for` and for `async for`, read by one reader.

    Ends when all audio has been read (`summary` is then set) or raises the SaywellError that ended it.
    `close()`, or leaving it as a context manager, stops the work and frees its slots; it may be called at any time,
    from any thread, more than once.
    """

    def __init__(
        self,
        request: Request,
        *,
        window_s: float,
        deadline: float,
        on_close: Callable[[], None],
        on_read: Callable[[int, float, int], None] | None = None,
    ) -> None:
        """`deadline`: on the monotonic clock. `on_read(index, seconds, head)`: called after each chunk read."""
        self.request = request
        self.summary: Summary | None = None
        self._deadline = deadline
        self._on_close = on_close
        self._on_read = on_read
        self.window = Window(window_s)
        self._ready: dict[int, deque[AudioChunk]] = {}
        self._changed = threading.Condition()
        self._waker: Callable[[], object] | None = None
        self._finished: Summary | None = None
        self._error: SaywellError | None = None
        self._closed = False
        self._read_s = 0.0
        self._collecting = False
        self._collected: list[AudioChunk] = []

    # The engine's side

    def put(self, chunk: AudioChunk) -> None:
        with self._changed:
            if self._closed:
                return
            self._ready.setdefault(chunk.index, deque()).append(chunk)
            self.window.put(chunk.index, len(chunk.samples) / chunk.sample_rate)
            if chunk.index == self.window.head:
                self._wake()

    def begin_again(self) -> bool:
        """Forget what has come, since the same will come again from its beginning. False if some of it has been read,
        other than by `collect`, which gives nothing away before the end."""
        with self._changed:
            if self._closed or (self._read_s and not self._collecting):
                return False
            self._ready.clear()
            self._collected.clear()
            self._read_s = 0.0
            self.window.begin_again()
            return True

    def finish(self, summary: Summary) -> None:
        with self._changed:
            self._finished = summary
            self._wake()

    def fail(self, error: SaywellError) -> None:
        with self._changed:
            if self._error is None and self._finished is None:
                self._error = error
                self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._waker is not None:
            waker, self._waker = self._waker, None
            with contextlib.suppress(RuntimeError):  # the reader's event loop has been closed: nobody to wake
                waker()

    # The reader's side

    def _pop(self) -> AudioChunk | None:
        """The next chunk if there is one. Raises at the end. Under the lock."""
        if self._closed:
            raise self._error or Cancelled("the stream was closed")
        while queue := self._ready.get(self.window.head):
            chunk = queue.popleft()
            self.window.read(chunk.index, len(chunk.samples) / chunk.sample_rate)
            if chunk.final:
                del self._ready[chunk.index]
                self.window.head += 1
            if len(chunk.samples):
                placed = self._placed(chunk)
                if self._collecting:
                    self._collected.append(placed)
                return placed
        if self._error is not None:
            raise self._error
        if self._finished is not None:
            self.summary = self._finished
            raise StopIteration
        if time.monotonic() >= self._deadline:
            self._error = DeadlineExceeded("the deadline passed before the speech was finished", param="timeout_s")
            raise self._error
        return None

    def _placed(self, chunk: AudioChunk) -> AudioChunk:
        """The chunk with its timestamps on the answer's clock, which only the order of reading tells."""
        begins = self._read_s
        self._read_s += len(chunk.samples) / chunk.sample_rate
        if not chunk.timestamps:
            return chunk
        return replace(chunk, timestamps=tuple(word.later(begins) for word in chunk.timestamps))

    def _took(self, chunk: AudioChunk) -> AudioChunk:
        if self._on_read is not None:
            self._on_read(chunk.index, len(chunk.samples) / chunk.sample_rate, self.window.head)
        return chunk

    def __iter__(self) -> Iterator[AudioChunk]:
        return self

    def __next__(self) -> AudioChunk:
        try:
            with self._changed:
                while (chunk := self._pop()) is None:
                    self._changed.wait(max(0.0, self._deadline - time.monotonic()))
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
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(changed, max(0.0, self._deadline - time.monotonic()))
        except StopIteration:
            raise StopAsyncIteration from None
        except SaywellError:
            self.close()
            raise
        return self._took(chunk)

    def collect(self) -> Audio:
        """All of it, joined. Blocks until the end."""
        self._collecting = True
        for _ in self:
            """Kept as it is taken, under the lock."""
        return self._join(self._collected)

    async def acollect(self) -> Audio:
        """All of it, joined."""
        self._collecting = True
        async for _ in self:
            """Kept as it is taken, under the lock."""
        return self._join(self._collected)

    def _join(self, chunks: list[AudioChunk]) -> Audio:
        if self.summary is None or not chunks:
            raise Cancelled("the stream was read before by somebody else")
        samples = np.concatenate([chunk.samples for chunk in chunks])
        words = tuple(word for chunk in chunks for word in chunk.timestamps)
        return Audio(samples=samples, sample_rate=chunks[0].sample_rate, summary=self.summary, timestamps=words)

    def close(self) -> None:
        """Stop the work and free its slots. Audio not yet read is dropped."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._ready.clear()
            self._wake()
            over = self._finished is not None
        if not over:
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
