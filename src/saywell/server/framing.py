"""How audio bytes are framed in a response body: raw, or as OpenAI's server-sent events."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from typing import Any, Protocol

from saywell.audio.formats import FORMATS
from saywell.errors import SaywellError
from saywell.server.errors import body_of
from saywell.types import Request, Summary, Timestamp


class Framing(Protocol):
    content_type: str

    def data(self, data: bytes, /) -> bytes: ...

    def timestamps(self, words: Iterable[Timestamp], /) -> bytes:
        """Word timings of the audio that follows; empty if the framing cannot carry them."""
        ...

    def end(self, request: Request, summary: Summary | None, /) -> bytes: ...

    def failure(self, error: SaywellError, /) -> bytes:
        """The error as part of the body; empty if the framing cannot carry it."""
        ...


class RawFraming:
    """The file itself, in chunks."""

    def __init__(self, format: str) -> None:
        self.content_type = FORMATS[format].content_type

    def data(self, data: bytes) -> bytes:
        return data

    def timestamps(self, _words: Iterable[Timestamp]) -> bytes:
        return b""

    def end(self, _request: Request, _summary: Summary | None) -> bytes:
        return b""

    def failure(self, _error: SaywellError) -> bytes:
        return b""


class SseFraming:
    """`speech.audio.delta` events, then `speech.audio.done` or `error`; `speech.timestamps` in between on request."""

    content_type = "text/event-stream"

    def data(self, data: bytes) -> bytes:
        return _event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})

    def timestamps(self, words: Iterable[Timestamp]) -> bytes:
        return _event({"type": "speech.timestamps", "words": [word.json() for word in words]})

    def end(self, request: Request, summary: Summary | None) -> bytes:
        """`usage` counts input characters and output frames; `timing` is measured by the engine."""
        done: dict[str, Any] = {"type": "speech.audio.done", "usage": _usage(request, summary)}
        if summary is not None:
            done["timing"] = {
                "first_audio_s": round(summary.first_audio_s, 6),
                "total_s": round(summary.total_s, 6),
                "audio_s": round(summary.audio_s, 6),
            }
        return _event(done)

    def failure(self, error: SaywellError) -> bytes:
        return _event({"type": "error", **body_of(error)})


def _usage(request: Request, summary: Summary | None) -> dict[str, int]:
    frames = summary.frames if summary else 0
    return {"input_tokens": len(request.text), "output_tokens": frames, "total_tokens": len(request.text) + frames}


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"
