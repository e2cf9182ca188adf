"""Speech as the other engines' routes are asked for it: a text, and a whole file for an answer."""

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
    voice: Name | None = Field(None, description="Left out: the default voice.")
    format: FormatName | None = Field(None, description="wav unless named.")


class TtsForm(TtsBody):
    """`POST /tts`: the same as form fields, which are all text."""

    model_config = ConfigDict(strict=False, extra="allow", allow_inf_nan=False)

    def request(self, text: str, voice: str | None, spec: ModelSpec) -> Request:
        wanted = super().request(text, voice, spec)
        options = {name: _number(value, spec.options[name]) for name, value in wanted.options.items()}
        return replace(wanted, options=options)


def _number(text: Any, option: Option) -> Any:
    """What a text says where a number is wanted; one that is none stays as it is, to be refused by name."""
    try:
        return text if option.choices else float(text)
    except ValueError:
        return text


async def whole(http: HttpRequest, body: TtsBody, service: Service) -> Response:
    """Speak the body's text and answer with a complete file."""
    engine = await service.load(None)
    wanted = body.request(body.text, service.voice(body.voice, engine), engine.spec)
    headers = response_headers(engine, wanted, body.ignored(engine.spec))
    try:
        return await whole_speech(http, service, Asked(engine, wanted), body.format or USUAL_FORMAT, headers)
    except SaywellError as error:
        raise with_api_param_names(error, timeout_s="timeout") from error
