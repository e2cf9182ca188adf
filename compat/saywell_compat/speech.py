"""Speech requests of the other engines' routes: a text in, a complete file out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pydantic import ConfigDict, Field
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from saywell.errors import SaywellError
from saywell.server.errors import with_api_param_names
from saywell.server.routes.common import response_headers
from saywell.server.schemas import FormatName, Name, SpeechFields, Text
from saywell.server.service import Service
from saywell.server.speech import Asked, whole_speech
from saywell.types import ModelSpec, Option, Request

USUAL_FORMAT = "wav"


class TtsBody(SpeechFields):
    """`POST /v1/tts` and `/v1/tts/stream`."""

    text: Text
    voice: Name | None = Field(None, description="Default: the server's default voice.")
    format: FormatName | None = Field(None, description="Default: wav.")


class TtsForm(TtsBody):
    """`POST /tts`: the same as form fields, all of which are strings."""

    model_config = ConfigDict(strict=False, extra="allow", allow_inf_nan=False)

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        wanted = super().request(text, voice, spec)
        options = {name: _number(value, spec.options[name]) for name, value in wanted.options.items()}
        return replace(wanted, options=options)


def _number(text: Any, option: Option) -> Any:
    """The number in a form field; any other text is returned unchanged, so that validation rejects it by name."""
    try:
        return text if option.choices else float(text)
    except ValueError:
        return text


async def whole(http: HttpRequest, body: TtsBody, service: Service) -> Response:
    """Synthesise the body's text and respond with a complete file."""
    engine = await service.load(None)
    wanted = body.request(body.text, service.voice(body.voice, engine), engine.spec)
    headers = response_headers(engine, wanted, body.ignored(engine.spec))
    try:
        return await whole_speech(http, service, Asked(engine, wanted), body.format or USUAL_FORMAT, headers)
    except SaywellError as error:
        raise with_api_param_names(error, timeout_s="timeout") from error
