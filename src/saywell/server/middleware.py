"""ASGI middleware, outermost first: Envelope, HostGuard, KeyGuard, BodyGuard."""

from __future__ import annotations

import asyncio
import hmac
import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from saywell.errors import Cancelled, EngineClosed, SaywellError, Unauthorized
from saywell.server.errors import error_response
from saywell.server.service import Service, is_loopback

_log = logging.getLogger("saywell.access")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})

DRAIN_S, DRAIN_BYTES = 5.0, 64 << 20
"""Time and size limits for draining a rejected body, so that a client still sending can read the response."""
BODY_S = 10.0
"""Seconds allowed for receiving a body, plus the time its received bytes take at BODY_BYTES_PER_S."""
BODY_BYTES_PER_S = 50_000


class Envelope:
    """Assigns the request id, counts and logs requests (never their content), and rejects them during shutdown."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._mark(message, request_id)
            await send(message)

        began = time.monotonic()
        try:
            await self._pass(scope, receive, answer)
        finally:
            self._account(scope, status, time.monotonic() - began)

    def _account(self, scope: Scope, status: int, seconds: float) -> None:
        """`ended` in the state replaces the status of a response that failed after its status was sent."""
        path, state = scope["path"], scope["state"]
        code = state.get("ended") or status or Cancelled.status
        if path not in self._service.probes:
            _log.info("%s %s %s %d %.3f s", state["request_id"], scope["method"], route_of(scope), code, seconds)
        if path in self._service.speech_paths and scope["method"] == "POST":
            model = state.get("model", self._service.engine.spec.name)
            self._service.metrics.answered(path, model, code, seconds)

    def _mark(self, message: Message, request_id: str) -> None:
        headers = MutableHeaders(scope=message)
        headers["x-request-id"] = request_id
        if self._service.draining:
            headers["connection"] = "close"

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in self._service.probes:
            await self._app(scope, receive, send)
            return
        if self._service.draining:
            error = EngineClosed("the server is shutting down; send the request elsewhere", retry_after=5.0)
            await error_response(error)(scope, receive, send)
            return
        counted = scope["path"] not in self._service.scrapes
        self._service.active += counted
        try:
            await self._app(scope, receive, send)
        finally:
            self._service.active -= counted


def route_of(scope: Scope) -> str:
    """The template of the matched route, never the path as sent."""
    return getattr(scope.get("route"), "path", "(none)")


class HostGuard:
    """On a loopback bind, accepts only local host names, and only local or configured web origins.

    Otherwise any page open in a browser could reach 127.0.0.1, directly or by DNS rebinding.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._loopback = service.loopback
        self._origins = service.settings.cors_origins or ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") and self._loopback else None
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "foreign host or origin"})
        else:
            await error_response(refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> SaywellError | None:
        headers = Headers(scope=scope)
        if not _local(f"//{headers.get('host', '')}"):
            return _Misdirected("this server listens on loopback and accepts localhost only", param="Host")
        origin = headers.get("origin")
        foreign = origin is not None and not _local(origin) and origin not in self._origins and "*" not in self._origins
        if foreign and (scope["type"] == "websocket" or scope["method"] in _UNSAFE):
            return _ForeignOrigin(
                "pages of other origins may not use this server; allow one with SAYWELL_CORS_ORIGINS", param="Origin"
            )
        return None


class _Misdirected(SaywellError):
    status, code = 421, "foreign_host"


class _ForeignOrigin(SaywellError):
    status, code = 403, "foreign_origin"


def _local(url: str) -> bool:
    """Whether a URL's host is this machine itself."""
    try:
        return is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        return False


class KeyGuard:
    """If API keys are configured, requires one on every path except probes: `Authorization: Bearer KEY`."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        key = self._key(Headers(scope=scope))
        known = key is not None
        scope.setdefault("state", {})["key"] = key
        # Details of the machine are visible to clients with a key; without configured keys, to local clients.
        scope["state"]["trusted"] = known or (not self._service.keys and self._service.loopback)
        if known or not self._service.keys or scope["path"] in self._service.probes:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": "an API key is required"})
        else:
            message = "send one of this server's API keys: Authorization: Bearer KEY"
            await error_response(Unauthorized(message))(scope, receive, send)

    def _key(self, headers: Headers) -> int | None:
        """Index of the API key the request carries; None: no valid key."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        key = given.strip().encode()
        # Compare with every key, so that timing reveals nothing.
        fits = [hmac.compare_digest(key, known) for known in self._service.keys]
        return fits.index(True) if scheme.lower() == "bearer" and any(fits) else None


class BodyGuard:
    """Rejects a body that is too long, whatever its Content-Length says, or that arrives too slowly."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._limit)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start" and body.unread:
                # The unread rest of the body must not be parsed as the next request.
                MutableHeaders(scope=message)["connection"] = "close"
            if message["type"] == "http.response.body" and body.unread and not message.get("more_body"):
                # Closing now would reset the connection of a client that is still sending.
                await send({**message, "more_body": True})
                await body.drain()
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        if body.announced > self._limit:
            await error_response(_TooLong(self._limit))(scope, receive, answer)
            return
        await self._app(scope, body.receive, answer)


class _TooLong(SaywellError):
    status, code = 413, "too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"the body is longer than {limit} bytes, the limit here; send the text in pieces", param="body"
        )


class _Body:
    """Measures size and duration of one request body while it is received."""

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        self.announced = int(length) if length.isdecimal() else 0
        self.unread = self.announced > 0 or "transfer-encoding" in headers
        self._receive = receive
        self._limit = limit
        self._count = 0
        self._began: float | None = None
        self._over = False
        self._late = False

    async def receive(self) -> Message:
        if self._over:
            return await self._receive()  # only http.disconnect can follow
        message = await self._in_time()
        self._count += len(message.get("body", b""))
        self._over = not message.get("more_body", False)
        if message["type"] == "http.request" and self._over:
            self.unread = False
        if self._count > self._limit:
            # HTTPException, because FastAPI turns any other exception raised while reading a body into a 400.
            raise HTTPException(413, f"the body is longer than {self._limit} bytes, the limit here")
        return message

    async def drain(self) -> None:
        """Receive and discard the rest of the body, within limits; skipped if the body already timed out."""
        left = 0 if self._late else DRAIN_BYTES
        with anyio.move_on_after(DRAIN_S):
            while self.unread and left > 0:
                message = await self._receive()
                left -= len(message.get("body", b""))
                self.unread = bool(message.get("more_body", False))

    async def _in_time(self) -> Message:
        now = time.monotonic()
        self._began = self._began or now
        left = self._began + BODY_S + self._count / BODY_BYTES_PER_S - now
        try:
            return await asyncio.wait_for(self._receive(), max(0.0, left))
        except asyncio.TimeoutError:
            self._late = True
            raise HTTPException(408, "the body of the request arrived too slowly") from None


def body_limit(max_text_chars: int) -> int:
    """Maximum body size in bytes: 12 per character (a JSON surrogate pair, two escapes) plus 64 KiB."""
    return 12 * max_text_chars + (64 << 10)


def install(app: Any, service: Service) -> None:
    """Add the middleware to `app`; the last one added is outermost."""
    app.add_middleware(BodyGuard, limit=body_limit(service.engine.plan.max_text_chars))
    app.add_middleware(KeyGuard, service=service)
    if service.settings.cors_origins:
        from starlette.middleware.cors import CORSMiddleware

        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.settings.cors_origins),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-Id"],
            expose_headers=["X-Request-Id", "X-Saywell-Voice", "X-Saywell-Ignored", "Retry-After"],
        )
    app.add_middleware(HostGuard, service=service)
    app.add_middleware(Envelope, service=service)
