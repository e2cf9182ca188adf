"""`POST /v1/tts`, `/v1/tts/stream` and the form `POST /tts`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from saywell.errors import SaywellError
from saywell.server.errors import renamed
from saywell.server.framing import Bare
from saywell.server.routes.common import AUDIO, ServiceOf, form_schema, read_form, said
from saywell.server.schemas import TtsBody, TtsForm
from saywell.server.service import Service
from saywell.server.speech import stream_speech, whole_speech

router = APIRouter()


@router.post("/v1/tts", response_class=Response, responses=AUDIO)
async def tts(http: HttpRequest, body: TtsBody, service: ServiceOf) -> Response:
    """Speak `text` and answer with a complete file (WAV unless `format` says otherwise)."""
    return await _whole(http, body, service)


@router.post("/v1/tts/stream", response_class=Response, responses=AUDIO)
async def tts_stream(http: HttpRequest, body: TtsBody, service: ServiceOf) -> Response:
    """Speak `text`; the file (WAV unless `format` says otherwise) arrives while it is spoken."""
    wanted = body.request(body.text, service.voice(body.voice), service.engine.spec)
    format = body.format or "wav"
    headers = said(service, wanted, body.ignored(service.engine.spec))
    try:
        return await stream_speech(http, service, wanted, format, Bare(format), headers)
    except SaywellError as error:
        raise renamed(error, timeout_s="timeout") from error


@router.post("/tts", response_class=Response, responses=AUDIO, openapi_extra=form_schema(TtsForm))
async def tts_form(http: HttpRequest, service: ServiceOf) -> Response:
    """The same as `/v1/tts` from a form, urlencoded or multipart."""
    return await _whole(http, await read_form(http, service, TtsForm), service)


async def _whole(http: HttpRequest, body: TtsBody, service: Service) -> Response:
    wanted = body.request(body.text, service.voice(body.voice), service.engine.spec)
    headers = said(service, wanted, body.ignored(service.engine.spec))
    try:
        return await whole_speech(http, service, wanted, body.format or "wav", headers)
    except SaywellError as error:
        raise renamed(error, timeout_s="timeout") from error
