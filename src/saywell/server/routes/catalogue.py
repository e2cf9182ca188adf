"""Lists of models and voices, in the forms that different clients expect."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
from fastapi import APIRouter

from saywell.errors import Unavailable
from saywell.server.names import OPENAI_MODELS
from saywell.server.routes.common import ERRORS, ServiceOf

router = APIRouter(responses={status: ERRORS[status] for status in (401, 404, 422, 503)})


@router.get("/v1/models")
async def models(service: ServiceOf) -> dict[str, Any]:
    """The server's own model, then its OpenAI aliases, then the other installed models."""
    health = await anyio.to_thread.run_sync(service.fleet.health)
    own, *others = health
    loaded = {name: state is not None and state.loaded for name, state in health.items()}
    names = {own: loaded[own], **dict.fromkeys(OPENAI_MODELS, loaded[own]), **{name: loaded[name] for name in others}}
    return {"object": "list", "data": [_model(name, now) for name, now in names.items()]}


@router.get("/v1/models/{model}")
async def model(model: str, service: ServiceOf) -> dict[str, Any]:
    engine = service.fleet.engine(await anyio.to_thread.run_sync(service.model, model))
    return _model(model, engine is not None and engine.health().loaded)


def _model(name: str, loaded: bool) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "saywell", "loaded": loaded}


@router.get("/v1/audio/models")
async def audio_models(service: ServiceOf) -> dict[str, Any]:
    own, *others = await anyio.to_thread.run_sync(service.fleet.names)
    return {"models": [{"id": name} for name in (own, *OPENAI_MODELS, *others)]}


@router.get("/v1/audio/voices")
@router.get("/v1/voices", include_in_schema=False)
async def voices(service: ServiceOf, model: str | None = None) -> dict[str, Any]:
    """All voices of a model, the default first. Loads the model if needed. `model` defaults to the server's own."""
    known = (await service.load(model)).voices()
    if not known:  # an empty list would look like a final answer
        raise Unavailable("the voices are not known before the model is loaded; try again in a moment", retry_after=1.0)
    return {
        "voices": [
            {"id": voice.id, "name": voice.name, "language": voice.language, "description": voice.description}
            for voice in known
        ]
    }
