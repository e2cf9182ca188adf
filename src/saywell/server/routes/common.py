"""Shared by the routes: the service and trust dependencies, documented errors, response headers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from saywell.audio.formats import FORMATS
from saywell.engine import SpeechEngine
from saywell.errors import Forbidden
from saywell.server.service import Service
from saywell.text.normalise import markup_of
from saywell.types import Request


async def _service(http: HttpRequest) -> Service:
    service: Service = http.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]


async def _trusted(http: HttpRequest) -> None:
    if not http.state.trusted:
        message = "on a public address this route requires an API key; start the server with SAYWELL_API_KEYS"
        raise Forbidden(message)


Trusted = Depends(_trusted)
"""Dependency of routes for trusted clients: with an API key or, without configured keys, on loopback."""


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


_ERRORS = {
    400: "Invalid JSON or an invalid value",
    401: "An API key is required",
    403: "On a public address, requires an API key",
    404: "Unknown voice or model",
    408: "The body arrived too slowly",
    413: "Text or body too long",
    415: "The format is not available on this server, or the body is not a form where one is required",
    422: "A field has the wrong type or value, or the text cannot be synthesised",
    429: "The queue is full; see Retry-After",
    500: "The engine failed",
    503: "Loading or shutting down; see Retry-After",
    504: "Deadline exceeded",
    507: "Not enough memory",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in _ERRORS.items()
}
_SOUND = {"schema": {"type": "string", "format": "binary"}}
_CONTENT_TYPES = tuple(format.content_type for format in FORMATS.values())
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The audio", "content": dict.fromkeys((*_CONTENT_TYPES, "text/event-stream"), _SOUND)},
    **ERRORS,
}


def response_headers(engine: SpeechEngine, wanted: Request, ignored: list[str]) -> dict[str, str]:
    """Headers naming model, voice and fields without effect."""
    voices = engine.voices()
    voice = wanted.voice or (voices[0].id if voices else "")
    headers = {"x-saywell-model": engine.spec.name}
    if voice.isascii() and voice.isprintable():
        headers["x-saywell-voice"] = voice
    markup = markup_of(wanted.text, wanted.markup)
    if markup != "plain" or wanted.markup != "auto":
        headers["x-saywell-markup"] = markup
    if ignored:
        headers["x-saywell-ignored"] = ", ".join(ignored)
    return headers
