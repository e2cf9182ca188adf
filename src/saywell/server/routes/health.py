"""Whether the server lives and can speak, and what it knows about its machine. None of this waits for the engine."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse

from saywell import __version__
from saywell.errors import EngineClosed, SaywellError, Unavailable
from saywell.hardware import GIB, Hardware
from saywell.monitor import Resources
from saywell.server.errors import error_response
from saywell.server.routes.common import ERRORS, ServiceOf
from saywell.server.service import Service

router = APIRouter()

_STATUS = {
    "ready": "healthy",
    "loading": "loading",
    "draining": "stopping",
    "closed": "stopping",
    "failed": "unhealthy",
}


@router.get("/livez")
async def livez() -> dict[str, str]:
    """200 while this process answers at all."""
    return {"status": "alive"}


@router.get("/ready", responses={503: ERRORS[503]})
@router.get("/readyz", include_in_schema=False)
@router.get("/ping", include_in_schema=False)
async def ready(service: ServiceOf) -> JSONResponse:
    """200 once the engine has produced checked audio, and until the server stops; 503 otherwise."""
    if service.ready:
        return JSONResponse({"status": "ready"})
    return error_response(_why_not(service))


def _why_not(service: Service) -> SaywellError:
    health = service.engine.health()
    if service.draining or health.state in ("draining", "closed"):
        return EngineClosed("the server is shutting down", retry_after=5.0)
    if health.state == "failed":
        return Unavailable("the engine is out of order; see /health", retry_after=30.0)
    return Unavailable("the model is loading; try again in a moment", retry_after=1.0)


@router.get("/health")
async def health(http: HttpRequest, service: ServiceOf) -> dict[str, Any]:
    """200 whatever the engine is doing; `status` tells. Details only for who has a key, or is on this machine."""
    state = "draining" if service.draining else service.engine.health().state
    found: dict[str, Any] = {"status": _STATUS[state]}
    return {**found, **_details(service)} if http.state.trusted else found


def _details(service: Service) -> dict[str, Any]:
    plan, hardware, now = service.engine.plan, service.decision.hardware, service.resources()
    engine = service.engine.health()
    return {
        "device": plan.device,
        "system_info": _system(service),
        "smart_insights": insights(service, now),
        "current_resources": current(now),
        "hardware_profile": {
            "tier": hardware.cpu_tier,
            "device": plan.device,
            "thermal_monitoring": bool(now.temperatures),
        },
        "engine": {
            "state": engine.state,
            "error": engine.error,
            "slots": engine.slots,
            "running": engine.running,
            "waiting": engine.waiting,
            "worker_restarts": engine.restarts,
            "memory_mb": engine.rss_bytes >> 20,
        },
    }


def _system(service: Service) -> dict[str, Any]:
    plan, hardware = service.engine.plan, service.decision.hardware
    return {
        "version": __version__,
        "model": service.engine.spec.name,
        "executor": plan.executor,
        "precision": plan.precision,
        "threads": plan.threads,
        "uptime_s": round(time.monotonic() - service.started, 1),
        "os": hardware.os,
        "arch": hardware.arch,
        "python": hardware.python,
        "cpu": hardware.cpu.model,
        "cpus": hardware.usable_cpus,
        "memory_gb": round(hardware.usable_memory / GIB, 1),
        "gpus": [gpu.name for gpu in hardware.gpus],
    }


def current(now: Resources) -> dict[str, float]:
    """Percent and GiB; the container's where it has limits."""
    return {
        "cpu_percent": now.cpu_percent,
        "memory_percent": now.memory_percent,
        "memory_available_gb": round(now.memory_available / GIB, 2),
    }


def insights(service: Service, now: Resources) -> list[str]:
    """Plain sentences, each true of this machine at this moment; often none."""
    hardware, plan = service.decision.hardware, service.engine.plan
    found = [*_limits(hardware)]
    if now.memory_percent > 85:
        found.append(f"{now.memory_percent:.0f} % of the memory is in use; above that, requests may be refused.")
    if hardware.gpus and plan.device == "cpu":
        why = next((reason.why for reason in plan.reasons if reason.field == "device"), "the plan chose the CPU")
        found.append(f"{hardware.gpus[0].name} is not used: {why}.")
    return found


def _limits(hardware: Hardware) -> list[str]:
    found = []
    if hardware.usable_cpus < hardware.cpu.logical:
        found.append(f"{hardware.usable_cpus} of {hardware.cpu.logical} CPUs may be used here; more would help.")
    if hardware.usable_memory < hardware.memory:
        share = f"{hardware.usable_memory / GIB:.1f} of {hardware.memory / GIB:.1f} GiB"
        found.append(f"{share} of memory may be used here.")
    return found
