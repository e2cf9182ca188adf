"""The routes of the smart backend's server: `POST /tts`, hardware and plan under its names, and its advice."""

from __future__ import annotations

from typing import Any

import anyio.to_thread
import msgspec
from fastapi import APIRouter, FastAPI
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from saywell.machine import Hardware
from saywell.machine.monitor import Resources
from saywell.machine.tier import fanless
from saywell.plan import memory
from saywell.plan.degradation import LIMITS, classify, in_force, relieved
from saywell.plan.memory import MIB, Estimate
from saywell.plan.plan import changed
from saywell.server.describe import current
from saywell.server.routes.common import AUDIO, ERRORS, ServiceOf, Trusted
from saywell.server.service import Service
from saywell_compat.configuration import configuration
from saywell_compat.forms import form_schema, read_form
from saywell_compat.speech import TtsForm, whole
from smart_backend.schemas import EstimateAnswer, HardwareAnswer, OptimisedAnswer, StatusAnswer, TextForm

router = APIRouter()
SPEECH = "/tts"

FANLESS_CPU = 70.0
"""CPU load in percent above which a fanless machine eventually throttles."""
CHARS_PER_TOKEN = 10 / 3
"""Approximate value for English text and common tokenizers."""
ADVICE = {
    "memory_critical": "Reduce text length or clear cache",
    "thermal_likely": "Wait for system to cool",
    "cpu_maxed": "Reduce CPU load",
}
"""Advice for each risk, most severe first."""


def install(app: FastAPI, service: Service) -> None:
    """Add the routes."""
    app.include_router(router)
    service.speech_paths.add(SPEECH)


@router.post(SPEECH, response_class=Response, responses=AUDIO, openapi_extra=form_schema(TtsForm))
async def tts(http: HttpRequest, service: ServiceOf) -> Response:
    """Synthesise the form field `text` (urlencoded or multipart) and respond with a complete file."""
    return await whole(http, await read_form(http, service, TtsForm), service)


@router.get("/hardware", response_model=HardwareAnswer, responses={403: ERRORS[403]}, dependencies=[Trusted])
async def hardware(service: ServiceOf) -> dict[str, Any]:
    """Hardware, the plan with reasons (`plan`), and the configuration now in force (`selected_configuration`)."""
    facts, engine = service.decision.hardware, service.engine
    now = in_force(engine.plan, engine.health().pressure)
    return {
        "hardware": msgspec.to_builtins(facts),
        "tier": facts.cpu_tier,
        "fingerprint": facts.fingerprint(),
        "selected_configuration": configuration(service.decision, now),
        "plan": {reason.field: msgspec.to_builtins(reason) for reason in engine.plan.reasons},
    }


@router.get("/system-status", response_model=StatusAnswer, response_model_exclude_unset=True)
async def system_status(service: ServiceOf) -> dict[str, Any]:
    """Current load of the machine, risks of throttling, and advice."""
    now = service.resources()
    risk = {
        "memory_critical": now.memory_percent > LIMITS.memory,
        "cpu_maxed": now.cpu_percent > LIMITS.cpu,
        "thermal_likely": _hot(service.decision.hardware, now),
    }
    longest = _estimate(service, service.engine.plan.max_text_chars)
    return {
        "resources": current(now),
        "throttling_risk": risk,
        "memory_budget_safe": longest.total <= _room(service, longest),
        "recommended_action": next((advice for name, advice in ADVICE.items() if risk[name]), "OK"),
    }


@router.post("/estimate-memory", response_model=EstimateAnswer, openapi_extra=form_schema(TextForm),
             responses={status: ERRORS[status] for status in (413, 415, 422)})  # fmt: skip
async def estimate_memory(http: HttpRequest, service: ServiceOf) -> dict[str, Any]:
    """Memory that synthesis of the form field `text` would need, and whether it fits. Nothing is synthesised."""
    form = await read_form(http, service, TextForm)
    length, limit = len(form.text), service.engine.plan.max_text_chars
    needed = _estimate(service, length)
    room = _room(service, needed)
    fits = needed.total <= room
    return {
        "status": "ok" if fits and length <= limit else "warning",
        "estimate": {
            "estimated_mb": -(-needed.total // MIB),
            "busy_mb": -(-(memory.busy(service.engine.plan, service.engine.spec) + memory.SERVER) // MIB),
            "available_mb": room // MIB,
            "safe": fits,
            "text_tokens": round(length / CHARS_PER_TOKEN),
            "text_length": length,
        },
        "recommendation": _recommendation(length, limit, fits),
    }


@router.post("/optimize-for-hardware", response_model=OptimisedAnswer, response_model_exclude_unset=True,
             dependencies=[Trusted], responses={status: ERRORS[status] for status in (401, 403, 503)})  # fmt: skip
async def optimise(service: ServiceOf) -> dict[str, Any]:
    """Clear the caches, sample the machine, and degrade the plan at once as the engine would under pressure.

    `optimal`: the plan is in force undegraded. `exhausted`: memory pressure, and the plan cannot degrade further.
    """
    engine = service.engine
    done = await anyio.to_thread.run_sync(lambda: engine.clear_caches(adapt=True))
    if not done.after.steps:
        if why := classify(service.resources(), engine.plan).push.get("memory"):
            advice = ADVICE["memory_critical"]
            return {"status": "exhausted", "message": f"{why}, and the plan cannot degrade further. {advice}"}
        return {"status": "optimal", "message": "No adjustments needed"}
    # Steps that the engine took before this request count as changes as well.
    before = done.before.steps if done.before.steps != done.after.steps else ()
    then, now = (relieved(engine.plan, steps) for steps in (before, done.after.steps))
    return {
        "status": "adjusted",
        "message": done.after.reason,
        "changes": changed(then, now),
        "previous_config": configuration(service.decision, then),
        "new_config": configuration(service.decision, now),
    }


def _hot(hardware: Hardware, now: Resources) -> bool:
    """Throttled, close to a sensor's limit, or busy without a fan."""
    close = now.heat_margin is not None and now.heat_margin < LIMITS.heat_margin
    return bool(now.throttled) or close or (fanless(hardware) and now.cpu_percent > FANLESS_CPU)


def _estimate(service: Service, chars: int) -> Estimate:
    return memory.estimate(service.engine.plan, service.engine.spec, chars, server=memory.SERVER)


def _room(service: Service, needed: Estimate) -> int:
    """Bytes available to the whole service: free plus already held, at most the planned budget."""
    health = service.engine.health()
    held = needed.resident if health.state == "ready" and health.loaded else needed.server
    return min(service.engine.plan.memory_budget + needed.server, service.resources().memory_available + held)


def _recommendation(length: int, limit: int, fits: bool) -> str:
    if length > limit:
        return f"Text may be too long: the limit is {limit} characters; send it in parts"
    return "OK" if fits else "Text may be too long for the free memory; send it in parts or clear the cache"
