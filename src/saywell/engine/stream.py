"""One request's audio on its way from the engine to one reader: text order, bounded buffer, cancel, deadline."""

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
    """How far a stream's audio is ahead of its reader, and what follows from that.

    Sequences that run are never stopped for a slow reader: each comes to its end and gives its slot back. Further ones
    are not begun beyond a few windows of unread audio, those running counted by what they are expected to give.
    """

    def __init__(self, seconds: float) -> None:
        self.begun = False
        """Whether any sound has come."""
        self.unread_s = 0.0
        self.starved = False
        """All that its text gives so far has come, and more text is waited for: no sound is due."""
        self._most_s = WINDOWS * seconds

    def put(self, seconds: float) -> None:
        self.begun = self.begun or seconds > 0
        self.unread_s += seconds

    def read(self, seconds: float) -> None:
        """Taken by the reader, or dropped."""
        self.unread_s = max(0.0, self.unread_s - seconds)

    def wants_more(self, expected_s: float = 0.0) -> bool:
        """Whether another sequence should begin, while the running ones are expected to give `expected_s` more."""
        return not self.starved and self.unread_s + expected_s < self._most_s


class Resume(msgspec.Struct, frozen=True, kw_only=True):
    """From where on a request is to be spoken, since what comes before has been delivered."""

    index: int
    """Of the first sequence that has not come to its end."""
    samples: int
    """Of that sequence that have come."""


START = Resume(index=0, samples=0)

TextSink = Callable[[str, bool], None]
"""Takes the next piece of a request's text, and whether it is the last. Never waits."""


class Outlet(Protocol):
    """Where the engine puts a request's audio. Called from the engine's thread only; never blocks."""

    @property
    def window(self) -> Window: ...

    def put(self, chunk: AudioChunk) -> None: ...

    def starve(self, chars: int) -> None:
        """All that the first `chars` characters of the text give has been put, and more text is waited for."""
        ...

    def finish(self, summary: Summary) -> None: ...

    def fail(self, error: SaywellError) -> None: ...


@dataclass(slots=True)
class _Patience:
    """How long a reader waits for sound."""

    left_s: float | None
    """None: while none is due, as long as it takes."""

    def spend(self, began: float) -> None:
        """A wait is over."""
        if self.left_s is not None:
            self.left_s -= time.monotonic() - began


class Stream:
    """An iterator of AudioChunk, for `for` and for `async for`, read by one reader.

    Ends when all audio has been read (`summary` is then set) or raises the SaywellError that ended it. If its request
    was submitted with `more`, somebody, in any one thread, gives it the text by `feed` and `end_text`.
    `close()`, or leaving it as a context manager, stops the work and frees its slots; it may be called at any time,
    from any thread, more than once.
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
        """`timeout_s`: how long the reader waits for sound, all its waits together; what it takes to be read does not
        count. `on_read(seconds)`: called after each chunk read. `text`: checks what is fed; None: nothing can be."""
        self.request = request
        self.summary: Summary | None = None
        self.came_s = 0.0
        """Seconds of audio that have come, read or not."""
        self._timeout_s = timeout_s
        self._patience = _Patience(timeout_s)
        """Of the reader; another one, which wakes him, when text has run out or come."""
        self._on_close = on_close
        self._on_read = on_read
        self.on_text: TextSink | None = None
        """Where fed text goes, where it can be."""
        self._text = text
        self._feeding = threading.Lock()
        """Not the other one: whoever takes the text may hold a lock that is held where this stream is spoken to."""
        self._fed = 0
        """Characters."""
        self.starved_s = 0.0
        """Seconds spent waiting for text, all such waits that are over."""
        self._starved_since: float | None = None
        self.window = Window(window_s)
        self._ready: dict[int, deque[AudioChunk]] = {}
        self._head = 0
        """The sequence being read."""
        self._over: set[int] = set()
        """Sequences from `_head` on that have come to their end."""
        self._came: dict[int, int] = {}
        """Samples that have come of each of the others."""
        self._changed = threading.Condition()
        self._waker: Callable[[], object] | None = None
        self._finished: Summary | None = None
        self._error: SaywellError | None = None
        self._closed = False
        self._released = False
        """The engine knows that this is over."""
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
        """Whoever made this is gone: from where on the next one is to speak. None if nobody can go on.

        `alike`: the next one gives the same samples. If not, all begins again, unless some of it has been read, other
        than by `collect`, which gives nothing away before the end.
        """
        with self._changed:
            if self._closed:
                return None
            if not alike:
                return START if self._forget_all() else None
            index = self._head
            while index in self._over:
                index += 1
            for later in [each for each in self._ready if each > index]:  # they will come again
                seconds = sum(len(chunk.samples) / chunk.sample_rate for chunk in self._ready.pop(later))
                self.came_s -= seconds
                self.window.read(seconds)
            self._came = {each: count for each, count in self._came.items() if each <= index}
            self._over = {each for each in self._over if each < index}
            return Resume(index=index, samples=self._came.get(index, 0))

    def _forget_all(self) -> bool:
        if self._read_s and not self._collecting:
            return False
        self.window.read(self.window.unread_s)
        if self._fed and self.window.starved:
            self._wait_for_text(False)
        for each in (self._ready, self._collected, self._came, self._over):
            each.clear()
        self._head, self._read_s, self.came_s = 0, 0.0, 0.0
        return True

    def starve(self, chars: int) -> None:
        with self._changed:
            if chars == self._fed and self._text is not None:  # or more is on its way to the engine
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
        """Whether nothing more will come, read or not."""
        return self._closed or self._finished is not None or self._error is not None

    def _wait_for_text(self, starved: bool) -> None:
        """Whether sound is due is another now. Under the lock."""
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
            with contextlib.suppress(RuntimeError):  # the reader's event loop has been closed: nobody to wake
                waker()

    # The side of who gives the text

    def feed(self, text: str) -> None:
        """The next piece of the text, cut anywhere. Never waits.

        Raises InvalidText or TooLarge for a piece that cannot be spoken, which ends the request for its reader, too,
        after what has been spoken; and what has ended it, if it is over.
        """
        self._give(text, last=False)

    def end_text(self) -> None:
        """The text is complete. Raises InvalidText if there was nothing to speak in it, and as `feed`."""
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
        """End the request with this error, from outside the engine. What has come can still be read."""
        with self._changed:
            if self.ended:
                return
            self._error = error
            self._released = True
            self._wake()
        self._on_close()

    # The reader's side

    def _pop(self) -> AudioChunk | None:
        """The next chunk if there is one. Raises at the end. Under the lock."""
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
                placed = self._placed(chunk)
                if self._collecting:
                    self._collected.append(placed)
                return placed
        if self._error is not None:
            raise self._error
        if self._finished is not None:
            self.summary = self._finished
            raise StopIteration
        if self._patience.left_s is not None and self._patience.left_s <= 0:
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
