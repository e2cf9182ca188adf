"""`POST /v1/audio/speech`, compatible with OpenAI's API."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from saywell.errors import SaywellError
from saywell.server.errors import with_api_param_names
from saywell.server.framing import RawFraming, SseFraming
from saywell.server.routes.common import AUDIO, ServiceOf, response_headers
from saywell.server.schemas import SpeechBody
from saywell.server.speech import Asked, stream_speech

router = APIRouter()
SPEECH = frozenset({"/v1/audio/speech"})


@router.post("/v1/audio/speech", response_class=Response, responses=AUDIO)
async def speech(http: HttpRequest, body: SpeechBody, service: ServiceOf) -> Response:
    """Synthesise `input` as a stream. A failure after the first byte breaks the connection."""
    engine = await service.load(body.model, body.timeout)
    wanted = body.request(body.input, service.voice(body.voice_name, engine), engine.spec)
    asked = Asked(engine, wanted, body.keep_s)
    format = body.response_format or "mp3"
    framing = SseFraming() if body.stream_format == "sse" else RawFraming(format)
    headers = response_headers(engine, wanted, body.ignored(engine.spec))
    try:
        return await stream_speech(http, service, asked, format, framing, headers)
    except SaywellError as error:
        raise with_api_param_names(error, text="input", format="response_format", timeout_s="timeout") from error
