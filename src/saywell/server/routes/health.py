"""Liveness, readiness and health. None of these routes waits for the engine."""

from __future__ import annotations

import time
from typing import Any

import anyio.to_thread
from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from saywell.engine.pressure_monitor import refusal
from saywell.errors import EngineClosed, SaywellError, Unavailable
from saywell.server import describe
from saywell.server.errors import error_response
from saywell.server.routes.common import ERRORS, ServiceOf
from saywell.server.service import Service

router = APIRouter()
PROBES = frozenset({"/livez", "/readyz", "/health", "/ready", "/ping"})

_STATUS = {
    "ready": "healthy",
    "loading": "loading",
    "draining": "stopping",
    "closed": "stopping",
    "failed": "unhealthy",
}


@router.get("/livez")
async def livez() -> dict[str, str]:
    """200 while the process is running."""
    return {"status": "alive"}


@router.get("/ready", responses={503: ERRORS[503]})
@router.get("/readyz", include_in_schema=False)
@router.get("/ping", include_in_schema=False)
async def ready(service: ServiceOf) -> JSONResponse:
    """200 while the server can synthesise (the first audio passed its checks); 503 otherwise."""
    if service.ready:
        return JSONResponse({"status": "ready"})
    return error_response(_unready(service))


def _unready(service: Service) -> SaywellError:
    health = service.engine.health()
    if service.draining or health.state in ("draining", "closed"):
        return EngineClosed("the server is shutting down", retry_after=5.0)
    if health.state == "failed":
        return Unavailable("the engine has failed; see /health", retry_after=30.0)
    if health.pressure.refusing:
        return refusal(health.pressure)
    return Unavailable("the model is loading; try again in a moment", retry_after=1.0)


@router.get("/health")
async def health(http: HttpRequest, service: ServiceOf) -> dict[str, Any]:
    """Always 200; see `status`. Details only for trusted clients: with an API key or, without keys, on loopback."""
    state = "draining" if service.draining else service.engine.health().state
    status = {"status": _STATUS[state]}
    if not http.state.trusted:
        return status
    models = await anyio.to_thread.run_sync(service.fleet.health)  # in a thread: reads the model directories
    return {**status, **_details(service), "models": describe.models(models)}


def _details(service: Service) -> dict[str, Any]:
    uptime_s = time.monotonic() - service.started
    return describe.health(
        service.engine, service.decision, service.resources(), uptime_s, service.metrics.aggregates()
    )
