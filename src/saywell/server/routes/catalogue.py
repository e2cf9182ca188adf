"""What there is: models and voices, in the shapes different clients look for."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from saywell.errors import Unavailable
from saywell.server.names import OPENAI_MODELS, check_model
from saywell.server.routes.common import ERRORS, ServiceOf
from saywell.server.service import Service

router = APIRouter(responses={status: ERRORS[status] for status in (401, 404, 422, 503)})


def _models(service: Service) -> list[str]:
    return [service.engine.spec.name, *OPENAI_MODELS]


@router.get("/v1/models")
async def models(service: ServiceOf) -> dict[str, Any]:
    """The loaded model first, then the names of OpenAI's that stand for it."""
    return {"object": "list", "data": [_model(name) for name in _models(service)]}


@router.get("/v1/models/{model}")
async def model(model: str, service: ServiceOf) -> dict[str, Any]:
    check_model(model, service.engine.spec)
    return _model(model)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "saywell"}


@router.get("/v1/audio/models")
async def audio_models(service: ServiceOf) -> dict[str, Any]:
    return {"models": [{"id": name} for name in _models(service)]}


@router.get("/v1/audio/voices")
@router.get("/v1/voices", include_in_schema=False)
async def voices(service: ServiceOf, model: str | None = None) -> dict[str, Any]:
    """Every voice, the default first. `model`: the loaded one, or a name that stands for it."""
    check_model(model, service.engine.spec)
    if not service.engine.voices():  # an empty list would be believed
        raise Unavailable("the voices are not known before the model is loaded; try again in a moment", retry_after=1.0)
    return {
        "voices": [
            {"id": voice.id, "name": voice.name, "language": voice.language, "description": voice.description}
            for voice in service.engine.voices()
        ]
    }
