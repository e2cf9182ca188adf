"""What the routes share: the service they speak to, and what every answer says about itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import BaseModel
from starlette.requests import Request as HttpRequest

from saywell.audio.formats import FORMATS
from saywell.engine import SpeechEngine
from saywell.errors import Forbidden
from saywell.server.service import Service
from saywell.text.markup import detect
from saywell.types import Request


async def _service(http: HttpRequest) -> Service:
    service: Service = http.app.state.service
    return service


ServiceOf = Annotated[Service, Depends(_service)]


async def _trusted(http: HttpRequest) -> None:
    if not http.state.trusted:
        message = "only who has a key may ask this of a server on a public address; start it with SAYWELL_API_KEYS"
        raise Forbidden(message)


Trusted = Depends(_trusted)
"""Dependency of routes for the owner: a key if there are any, else a loopback bind."""


class ErrorDetail(BaseModel):
    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    error: ErrorDetail


_REFUSALS = {
    400: "Not valid JSON, or a value that does not fit",
    401: "An API key is needed",
    403: "Only for who has a key, on a public address",
    404: "No such voice or model",
    408: "The body arrived too slowly",
    413: "Text or body too long",
    415: "This format is not installed here, or the body is no form where one is needed",
    422: "A field has the wrong type or value, or the text cannot be spoken",
    429: "The queue is full; see Retry-After",
    500: "The engine failed",
    503: "Loading or shutting down; see Retry-After",
    504: "The deadline passed",
    507: "Would not fit into memory",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody, "description": text} for status, text in _REFUSALS.items()
}
_SOUND = {"schema": {"type": "string", "format": "binary"}}
_CONTENT_TYPES = tuple(format.content_type for format in FORMATS.values())
AUDIO: dict[int | str, dict[str, Any]] = {
    200: {"description": "The audio", "content": dict.fromkeys((*_CONTENT_TYPES, "text/event-stream"), _SOUND)},
    **ERRORS,
}


def response_headers(engine: SpeechEngine, wanted: Request, ignored: list[str]) -> dict[str, str]:
    """Headers that name who speaks, and the fields that have no effect."""
    voices = engine.voices()
    voice = wanted.voice or (voices[0].id if voices else "")
    headers = {"x-saywell-model": engine.spec.name}
    if voice.isascii() and voice.isprintable():
        headers["x-saywell-voice"] = voice
    if wanted.markup != "auto" or (used := detect(wanted.text)) != "plain":
        headers["x-saywell-markup"] = wanted.markup if wanted.markup != "auto" else used
    if ignored:
        headers["x-saywell-ignored"] = ", ".join(ignored)
    return headers
