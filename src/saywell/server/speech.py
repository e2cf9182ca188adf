"""One stream on its way to one client: waits for sound, encodes it, and stops the work when nobody listens any more."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio.to_thread
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from saywell.audio.encode import Encoder, encode
from saywell.audio.formats import FORMATS
from saywell.engine import SpeechEngine
from saywell.engine.stream import Stream
from saywell.errors import SaywellError
from saywell.server.errors import BrokenResponse
from saywell.server.framing import Framing
from saywell.server.places import Client, Place
from saywell.server.protocol import HANG_UP
from saywell.server.service import Service
from saywell.types import Request, Samples, Timestamp

_log = logging.getLogger(__name__)
T = TypeVar("T")

_SLICE = 64 << 10
"""Bytes of a complete answer that are sent at once."""
_FAIL_GRACE_S = 5.0
"""Seconds a client gets to fetch what was sent before its stream failed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be spoken, and by whom."""

    engine: SpeechEngine
    request: Request
    keep_s: float | None = None
    """How long the engine's model stays loaded afterwards; None: as it is set."""

    def submit(self, http: HttpRequest, service: Service) -> Stream:
        """Hand it to the engine. Raises what that raises."""
        http.scope["state"]["model"] = self.engine.spec.name
        return service.fleet.submit(self.engine.spec.name, self.request, self.keep_s)


async def stream_speech(
    http: HttpRequest, service: Service, asked: Asked, format: str, framing: Framing, headers: dict[str, str]
) -> Response:
    """Answer as soon as there is sound; what fails before that is raised and becomes a proper status."""
    began, before = time.monotonic(), asked.engine.health().rss_bytes
    place = _enter(http, service)
    try:
        place.stream = asked.submit(http, service)
        talk = EncodedStream(place.stream, format, http.receive)
        try:
            first = await talk.read()
        except BaseException:
            talk.close()
            raise
    except BaseException:
        service.places.leave(place)
        raise
    headers["server-timing"] = f"first-audio;dur={(talk.first_sound - began) * 1000:.2f}"
    return StreamingSpeechResponse(service, asked.engine, place, talk, first, framing, headers, before)


async def whole_speech(
    http: HttpRequest, service: Service, asked: Asked, format: str, headers: dict[str, str]
) -> Response:
    """Answer with a complete file, sizes in its header, once all of it is spoken."""
    before = asked.engine.health().rss_bytes
    place = _enter(http, service)
    try:
        place.stream = stream = asked.submit(http, service)
        watch = _close_when_gone(stream, http.receive)
        try:
            audio = await stream.acollect()
        finally:
            watch.cancel()
            stream.close()
        report = service.spoke(audio.summary, asked.engine, before)
        data = await _off_loop(lambda: encode(audio.samples, audio.sample_rate, format))
    except BaseException:
        service.places.leave(place)
        raise
    headers["x-audio-seconds"] = f"{audio.duration_s:.3f}"
    headers["x-finish-reason"] = audio.summary.finish_reason
    headers["server-timing"] = report.timing()
    return _Whole(service, place, data, audio.duration_s, FORMATS[format].content_type, headers)


def _enter(http: HttpRequest, service: Service) -> Place:
    scope = http.scope
    address = scope["client"][0] if scope.get("client") else ""
    return service.places.enter(Client(scope["state"].get("key"), address), partial(_hang_up, scope))


def _close_when_gone(stream: Stream, receive: Receive) -> asyncio.Task[None]:
    """A task that stops the work the moment the client hangs up, whatever is being waited for. Done: it did."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.close()  # wakes whoever waits for its next chunk

    return asyncio.create_task(watch())


async def _off_loop(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)


class EncodedStream:
    """Reads a Stream as encoded bytes."""

    def __init__(self, stream: Stream, format: str, receive: Receive) -> None:
        self.stream = stream
        self.words: list[Timestamp] = []
        """Timestamps that came with the audio read last and before."""
        self.first_sound = 0.0
        """When the first samples came, on the monotonic clock."""
        self._format = format
        self._inline_s = FORMATS[format].inline_s
        self._encoder: Encoder | None = None
        self.read_s = 0.0
        """Seconds of audio read so far."""
        self._over = False
        self._watch = _close_when_gone(stream, receive)

    @property
    def gone(self) -> bool:
        """Whether the client has hung up."""
        return self._watch.done() and not self._watch.cancelled()

    async def read(self) -> bytes:
        """The next bytes, none at the end. Raises the SaywellError that ended the stream."""
        while not self._over:
            chunk = await anext(self.stream, None)
            if chunk is None:
                self._over = True
                return await _off_loop(self._encoder.finish) if self._encoder else b""
            self.first_sound = self.first_sound or time.monotonic()
            self.read_s += len(chunk.samples) / chunk.sample_rate
            self.words += chunk.timestamps
            if data := await self._encode(chunk.samples, chunk.sample_rate):
                return data
        return b""

    async def _encode(self, samples: Samples, rate: int) -> bytes:
        def work() -> bytes:
            self._encoder = self._encoder or Encoder(self._format, rate)
            return self._encoder.feed(samples)

        return work() if len(samples) / rate <= self._inline_s else await _off_loop(work)

    def close(self) -> None:
        """Stop the work if it is not done. Idempotent."""
        self._watch.cancel()
        self.stream.close()


class StreamingSpeechResponse(Response):
    """A response whose body is being spoken.

    It pulls: while the client does not take bytes nothing is read from the stream, and what makes them pauses.
    """

    def __init__(
        self,
        service: Service,
        engine: SpeechEngine,
        place: Place,
        talk: EncodedStream,
        first: bytes,
        framing: Framing,
        headers: dict[str, str],
        before: int,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.media_type = framing.content_type
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no", **headers})
        self._service = service
        self._engine = engine
        self._place = place
        self._talk = talk
        self._first = first
        self._before = before
        self._framing = framing

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        try:
            await self._speak(send)
        except SaywellError as error:
            await self._fail(error, scope, send)
        finally:
            if self._place.lost:
                scope["state"]["ended"] = 408
            self._talk.close()
            self._service.places.leave(self._place)

    async def _speak(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data, sent_s = self._first, 0.0
        while data:
            if self._talk.words:
                await self._put(send, self._framing.timestamps(self._talk.words))
                self._talk.words.clear()
            await self._put(send, self._framing.data(data), audio_s=self._talk.read_s - sent_s)
            sent_s = self._talk.read_s
            data = await self._talk.read()
        summary = self._talk.stream.summary
        if summary is not None:
            self._service.spoke(summary, self._engine, self._before)
        await self._put(send, self._framing.end(self._talk.stream.request, summary), more=False)

    async def _put(self, send: Send, body: bytes, more: bool = True, *, audio_s: float = 0.0) -> None:
        await self._place.put(send, {"type": "http.response.body", "body": body, "more_body": more}, audio_s)
        # With chunks waiting and a socket that takes them nothing above ever waits: let everybody else have a turn.
        await asyncio.sleep(0)

    async def _fail(self, error: SaywellError, scope: Scope, send: Send) -> None:
        """Tell the client where the framing can; else break the connection, so that it cannot take this for the end."""
        if self._talk.gone or self._place.lost:
            scope["state"]["ended"] = 499
            return
        self._service.broke()
        scope["state"]["ended"] = error.status
        _log.warning("%s: failed while speaking: %s", scope["state"]["request_id"], error.code)
        told = self._framing.failure(error)
        if told:
            await self._put(send, told, more=False)
            return
        # HTTP/1.0 has no chunks: there an orderly end of the connection would be the end of the answer.
        _hang_up(scope, _FAIL_GRACE_S if scope["http_version"] != "1.0" else 0.0)
        raise BrokenResponse from error


class _Whole(Response):
    """A complete answer, sent as it is taken: who reads slowly is seen, and may lose his place."""

    def __init__(
        self, service: Service, place: Place, data: bytes, audio_s: float, kind: str, headers: dict[str, str]
    ) -> None:
        super().__init__(data, media_type=kind, headers=headers)
        self._service, self._place, self._audio_s = service, place, audio_s

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            whole, most = memoryview(self.body), len(self.body)
            for at in range(0, most, _SLICE):
                part = whole[at : at + _SLICE]
                message = {"type": "http.response.body", "body": bytes(part), "more_body": at + _SLICE < most}
                await self._place.put(send, message, self._audio_s * len(part) / most)
        finally:
            if self._place.lost:
                scope["state"]["ended"] = 408
            self._service.places.leave(self._place)


def _hang_up(scope: Scope, grace_s: float) -> None:
    """Close the connection where the server lets us; elsewhere raising BrokenResponse has to do."""
    hang_up = scope.get("extensions", {}).get(HANG_UP)
    if hang_up is not None:
        hang_up(grace_s)
