"""`GET /metrics`: Prometheus text; JSON for `Accept: application/json`."""

from __future__ import annotations

from typing import Any

import msgspec
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from saywell.server.describe import current, gpu_util
from saywell.server.routes.common import ERRORS, ServiceOf
from saywell.server.service import Service

router = APIRouter()
SCRAPES = frozenset({"/metrics"})

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}}}
    },
    401: ERRORS[401],
}


@router.get("/metrics", response_class=Response, responses=_RESPONSES)
async def metrics(http: HttpRequest, service: ServiceOf) -> Response:
    if _wants_json(http.headers.get("accept", "")):
        return JSONResponse(_figures(service))
    return Response(service.metrics.render(), headers={"content-type": CONTENT_TYPE_LATEST})


def _wants_json(accept: str) -> bool:
    """Whether `Accept` names JSON; the `*/*` of browsers and scrapers does not count."""
    media_types = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "application/json" in media_types and "text/plain" not in media_types


def _figures(service: Service) -> dict[str, Any]:
    health, now = service.engine.health(), service.resources()
    return {
        "rolling_aggregates": service.metrics.aggregates(),
        "last_synthesis": service.last.json() if service.last is not None else None,
        "current_gpu_util": gpu_util(now) or 0.0,
        "current_resources": current(now),
        "engine": {
            "state": health.state,
            "running": health.running,
            "waiting": health.waiting,
            "steps": health.steps,
            "model_loaded": health.loaded,
            "pressure": msgspec.to_builtins(health.pressure),
        },
    }
