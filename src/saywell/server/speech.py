"""Speech responses: submit a request, encode its audio, and cancel the synthesis when the client disconnects."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from functools import partial

from anyio.to_thread import run_sync
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

_SLICE = 64 << 10
"""Bytes of a complete response sent at once."""
_FAIL_GRACE_S = 5.0
"""Seconds a client gets to read what was sent before its stream failed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request and the engine it is for."""

    engine: SpeechEngine
    request: Request
    keep_s: float | None = None
    """Seconds the model stays loaded afterwards; None: as configured."""

    def submit(self, http: HttpRequest, service: Service) -> Stream:
        """Submit the request. Raises the errors of `Fleet.submit`."""
        http.scope["state"]["model"] = self.engine.spec.name
        return service.fleet.submit(self.engine.spec.name, self.request, self.keep_s)


async def stream_speech(
    http: HttpRequest, service: Service, asked: Asked, format: str, framing: Framing, headers: dict[str, str]
) -> Response:
    """Respond as soon as there is audio. Errors before that are raised, so that they get a status of their own."""
    began, before = time.monotonic(), asked.engine.health().rss_bytes
    place = _enter(http, service)
    try:
        place.stream = asked.submit(http, service)
        encoded = EncodedStream(place.stream, format, http.receive)
        try:
            first = await encoded.read()
        except BaseException:
            encoded.close()
            raise
    except BaseException:
        service.places.leave(place)
        raise
    headers["server-timing"] = f"first-audio;dur={(encoded.first_sound - began) * 1000:.2f}"
    return StreamingSpeechResponse(service, asked.engine, place, encoded, first, framing, headers, before)


async def whole_speech(
    http: HttpRequest, service: Service, asked: Asked, format: str, headers: dict[str, str]
) -> Response:
    """Respond with a complete file, sizes in its header, after the synthesis."""
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
        data = await run_sync(encode, audio.samples, audio.sample_rate, format)
    except BaseException:
        service.places.leave(place)
        raise
    headers["x-audio-seconds"] = f"{audio.duration_s:.3f}"
    headers["x-finish-reason"] = audio.summary.finish_reason
    headers["server-timing"] = report.timing()
    return _WholeResponse(service, place, data, audio.duration_s, FORMATS[format].content_type, headers)


def _enter(http: HttpRequest, service: Service) -> Place:
    scope = http.scope
    address = scope["client"][0] if scope.get("client") else ""
    return service.places.enter(Client(scope["state"].get("key"), address), partial(_hang_up, scope))


def _close_when_gone(stream: Stream, receive: Receive) -> asyncio.Task[None]:
    """A task that closes the stream when the client disconnects; done means it has."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        stream.close()  # also wakes a reader that waits for the next chunk

    return asyncio.create_task(watch())


class EncodedStream:
    """Reads a Stream as encoded bytes."""

    def __init__(self, stream: Stream, format: str, receive: Receive) -> None:
        self.stream = stream
        self.words: list[Timestamp] = []
        """Timestamps of the audio read so far; cleared by the reader."""
        self.first_sound = 0.0
        """Arrival of the first samples, on the monotonic clock."""
        self._format = format
        self._inline_s = FORMATS[format].inline_s
        self._encoder: Encoder | None = None
        self.read_s = 0.0
        """Seconds of audio read so far."""
        self._over = False
        self._watch = _close_when_gone(stream, receive)

    @property
    def gone(self) -> bool:
        """Whether the client has disconnected."""
        return self._watch.done() and not self._watch.cancelled()

    async def read(self) -> bytes:
        """The next bytes; empty at the end. Raises the SaywellError that ended the stream."""
        while not self._over:
            chunk = await anext(self.stream, None)
            if chunk is None:
                self._over = True
                return await run_sync(self._encoder.finish) if self._encoder else b""
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

        return work() if len(samples) / rate <= self._inline_s else await run_sync(work)

    def close(self) -> None:
        """Cancel the synthesis if it is still running. Idempotent."""
        self._watch.cancel()
        self.stream.close()


class StreamingSpeechResponse(Response):
    """A response whose body is sent while it is synthesised.

    Pull-based: while the client does not read, nothing is read from the stream, and the synthesis pauses.
    """

    def __init__(
        self,
        service: Service,
        engine: SpeechEngine,
        place: Place,
        encoded: EncodedStream,
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
        self._encoded = encoded
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
            self._encoded.close()
            self._service.places.leave(self._place)

    async def _speak(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        data, sent_s = self._first, 0.0
        while data:
            if self._encoded.words:
                await self._put(send, self._framing.timestamps(self._encoded.words))
                self._encoded.words.clear()
            await self._put(send, self._framing.data(data), audio_s=self._encoded.read_s - sent_s)
            sent_s = self._encoded.read_s
            data = await self._encoded.read()
        summary = self._encoded.stream.summary
        if summary is not None:
            self._service.spoke(summary, self._engine, self._before)
        await self._put(send, self._framing.end(self._encoded.stream.request, summary), more=False)

    async def _put(self, send: Send, body: bytes, more: bool = True, *, audio_s: float = 0.0) -> None:
        await self._place.put(send, {"type": "http.response.body", "body": body, "more_body": more}, audio_s)
        # If chunks are ready and the socket accepts them, nothing above yields to the event loop: yield here.
        await asyncio.sleep(0)

    async def _fail(self, error: SaywellError, scope: Scope, send: Send) -> None:
        """Send the error if the framing can; else break the connection, so that the client sees no regular end."""
        if self._encoded.gone or self._place.lost:
            scope["state"]["ended"] = 499
            return
        self._service.broke()
        scope["state"]["ended"] = error.status
        _log.warning("%s: failed while speaking: %s", scope["state"]["request_id"], error.code)
        failure = self._framing.failure(error)
        if failure:
            await self._put(send, failure, more=False)
            return
        # HTTP/1.0 has no chunked encoding: closing normally would mark the end of the response, so reset.
        _hang_up(scope, _FAIL_GRACE_S if scope["http_version"] != "1.0" else 0.0)
        raise BrokenResponse from error


class _WholeResponse(Response):
    """A complete file, sent in slices, so that a slow reader is noticed and may lose its place."""

    def __init__(
        self, service: Service, place: Place, data: bytes, audio_s: float, content_type: str, headers: dict[str, str]
    ) -> None:
        super().__init__(data, media_type=content_type, headers=headers)
        self._service, self._place, self._audio_s = service, place, audio_s

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            body, size = memoryview(self.body), len(self.body)
            for start in range(0, size, _SLICE):
                part = body[start : start + _SLICE]
                message = {"type": "http.response.body", "body": bytes(part), "more_body": start + _SLICE < size}
                await self._place.put(send, message, self._audio_s * len(part) / size)
        finally:
            if self._place.lost:
                scope["state"]["ended"] = 408
            self._service.places.leave(self._place)


def _hang_up(scope: Scope, grace_s: float) -> None:
    """Close the connection if the server supports it; other servers close it because of BrokenResponse."""
    hang_up = scope.get("extensions", {}).get(HANG_UP)
    if hang_up is not None:
        hang_up(grace_s)
